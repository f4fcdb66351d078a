//! The file of one registry's secrets, for whoever verifies its tokens offline on the command line.

use std::path::Path;

use super::secret_file;
use super::secret_file::Defect;
use crate::macaroon::RegistrySecrets;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;
use crate::policy::yaml::shown;

/// Largest file; one of 64 keys has 10 KiB.
const MAX_BYTES: u64 = 64 * 1024;

/// Reads what `keys export` wrote. A file that others can read is refused: whoever has read it can make tokens.
pub fn read_registry_secrets(path: &Path) -> Result<RegistrySecrets, Faults> {
    let mut faults = Faults::new();
    let read = secret_file::read(path, MAX_BYTES).and_then(|(text, _)| {
        RegistrySecrets::parse(&text).map_err(|error| {
            Defect::new(
                format!("is not a registry's secrets: {error}"),
                "trustmint keys export --registry ID --out FILE",
            )
        })
    });
    let place = Place::whole(shown(&path.display().to_string()).into());
    let secrets = read.map_err(|defect| defect.report(place, "", &mut faults)).ok();
    faults.into_result(secrets)
}
