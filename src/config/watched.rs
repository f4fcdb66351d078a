//! Files that are read again while the service runs.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::secret_file::Defect;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

/// Reads the file for its faults, and gives what reads it again; that is `None` while it cannot be used.
pub(super) fn watched<T: 'static>(
    path: Option<&Path>,
    key: &str,
    read: fn(&Path) -> Result<T, Defect>,
    faults: &mut Faults,
) -> Option<Arc<dyn Fn() -> Option<T> + Send + Sync>> {
    let path = path?.to_owned();
    if let Err(defect) = read(&path) {
        defect.report(Place::whole(path.display().to_string().into()), key, faults);
    }
    Some(Arc::new(move || read(&path).ok()))
}

/// Certificate authorities, in PEM.
pub(super) fn authorities(path: &Path) -> Result<Zeroizing<String>, Defect> {
    let text = fs::read_to_string(path).map_err(Defect::unreadable)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(Zeroizing::new(text)),
        Ok(_) | Err(_) => Err(Defect::new("holds no PEM certificate", "name a PEM file of certificate authorities")),
    }
}
