//! Small files that hold a secret.

use std::fs::File;
use std::io;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

/// What is wrong with a file, and how to mend it.
#[derive(Debug)]
pub(super) struct Defect {
    message: String,
    remedy: String,
}

impl Defect {
    pub(super) fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn unreadable(error: io::Error) -> Self {
        Self::new(format!("cannot be read: {error}"), "let the service's user read it")
    }

    pub(super) fn report(self, place: Place, key_path: &str, faults: &mut Faults) {
        faults.push(place, key_path.to_owned(), self.message, self.remedy);
    }
}

/// Reads a file of secret text, and its owner's number.
///
/// SECURITY: a file that everybody on the machine can read, or that a group can change, is refused, not warned about:
/// the secret has to be taken as known. The mode is that of the very file whose bytes are read.
pub(super) fn read(path: &Path, max_bytes: u64) -> Result<(Zeroizing<String>, u32), Defect> {
    // Opening a pipe would wait for its writer.
    if !path.metadata().map_err(Defect::unreadable)?.is_file() {
        return Err(Defect::new("is not a file", "keep only files here"));
    }
    let file = File::open(path).map_err(Defect::unreadable)?;
    let found = file.metadata().map_err(Defect::unreadable)?;
    let mode = found.mode() & 0o7777;
    if mode & 0o027 != 0 {
        let message = format!("others can read or change it: its mode is {mode:o}");
        return Err(Defect::new(
            message,
            "make a new one, and keep it at mode 600, 400 or 440 (Kubernetes: defaultMode)",
        ));
    }
    if found.len() > max_bytes {
        return Err(Defect::new(format!("is larger than {max_bytes} bytes"), "put the right file here"));
    }
    // Sized once, so that no copy is left behind unwiped as it grows.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(max_bytes).unwrap_or(0)));
    file.take(max_bytes).read_to_string(&mut text).map_err(Defect::unreadable)?;
    Ok((text, found.uid()))
}
