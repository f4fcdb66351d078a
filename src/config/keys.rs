//! The directory of master keys: one file a key, named as the key.
//!
//! SECURITY: whoever can read one of these files can mint for every registry, and whoever can add one can too. So a
//! file that others could read or change is refused, and so is one that belongs to somebody else than the directory.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use super::secret_file;
use super::secret_file::Defect;
use crate::macaroon::Keyring;
use crate::macaroon::MasterKey;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;
use crate::policy::yaml::shown;

/// Largest key file; ours have 90 bytes.
const MAX_BYTES: u64 = 1024;

/// Most keys: a rotation needs two.
const MAX_KEYS: usize = 64;

/// Reads every key of a directory, reporting all faults.
///
/// Names that begin with `.` are skipped and links are followed inside the directory, so that a mounted Kubernetes
/// secret (`k1 -> ..data/k1`, `..data -> ..2026_11_23`) is read as it is meant; a link to elsewhere is refused.
pub fn read_keyring(directory: &Path) -> Result<Keyring, Faults> {
    let mut faults = Faults::new();
    let (root, names) = match open(directory, &mut faults).and_then(|root| Ok((root, names(directory)?))) {
        Ok(found) => found,
        Err(error) => {
            faults.push(place(directory), String::new(), format!("cannot be read: {error}"), make_one(directory));
            return faults.into_result(None);
        }
    };
    if names.len() > MAX_KEYS {
        faults.push(
            place(directory),
            String::new(),
            format!("holds over {MAX_KEYS} files"),
            "keep only the key files in it",
        );
        return faults.into_result(None);
    }
    let mut keys = Vec::new();
    for name in names {
        let path = directory.join(&name);
        match read_key(&root, &path, &name) {
            Ok(key) => keys.push(key),
            Err(defect) => defect.report(place(&path), "", &mut faults),
        }
    }
    if !faults.is_empty() {
        return faults.into_result(None);
    }
    let ring = Keyring::new(keys)
        .map_err(|error| faults.push(place(directory), String::new(), error.to_string(), make_one(directory)));
    faults.into_result(ring.ok())
}

/// Writes a key's file, for its owner alone, into a directory that is made if it is missing; never over another file.
pub fn write_key(directory: &Path, key: &MasterKey) -> io::Result<PathBuf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(key.kid());
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    file.write_all(key.to_file().expose().as_bytes())?;
    file.sync_all()?;
    Ok(path)
}

/// The directory itself, with every link followed.
struct Root {
    path: PathBuf,
    owner: u32,
}

fn open(directory: &Path, faults: &mut Faults) -> io::Result<Root> {
    let path = directory.canonicalize()?;
    let found = fs::metadata(&path)?;
    // SECURITY: who can write here can add a key. A sticky directory (`1777`, as Kubernetes mounts secrets) protects
    // the files that are there; those that others add are caught by their owner.
    if found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0 {
        let message = format!("others can add keys to it: its mode is {:o}", found.mode() & 0o7777);
        faults.push(place(directory), String::new(), message, format!("chmod go-w {}", directory.display()));
    }
    Ok(Root { path, owner: found.uid() })
}

/// The names of the key files, in order.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Reads one key, or says what is wrong with its file.
fn read_key(root: &Root, path: &Path, kid: &str) -> Result<MasterKey, Defect> {
    let file = path.canonicalize().map_err(Defect::unreadable)?;
    if !file.starts_with(&root.path) {
        return Err(Defect::new("is a link out of the directory", "put the key file itself here"));
    }
    let (text, owner) = secret_file::read(&file, MAX_BYTES)?;
    if owner != 0 && owner != root.owner {
        let message = format!("belongs to user {owner}, who is neither root nor the directory's owner");
        return Err(Defect::new(message, "remove it, unless you know where it came from"));
    }
    MasterKey::parse(kid, &text).map_err(|error| Defect::new(error.to_string(), "restore the file, or remove it"))
}

/// The line to run.
fn make_one(directory: &Path) -> String {
    format!("make a key: trustmint keys new --directory {}", shown(&directory.display().to_string()))
}

fn place(path: &Path) -> Place {
    Place::whole(shown(&path.display().to_string()).into())
}

#[cfg(test)]
mod tests;
