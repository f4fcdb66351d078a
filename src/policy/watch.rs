//! The rim of the policy: its directory on disk.
//!
//! Reads exactly the files that a person sees in it: `*.yaml` and `*.yml`, in the order of their names, without those
//! that begin with `.` (Kubernetes keeps the copies of a mounted `ConfigMap` there), and follows links only inside it.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::policy::Policy;
use crate::policy::Source;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

/// Reads, checks and tests the policy of a directory. A directory or file that cannot be read is a fault like any other.
pub fn load(directory: &Path) -> Result<Policy, Faults> {
    with(directory, Policy::load)
}

/// The same without running the policy's tests.
pub fn read(directory: &Path) -> Result<Policy, Faults> {
    with(directory, Policy::read)
}

type ReadFile<'a> = &'a dyn Fn(&str, &str) -> Option<Vec<u8>>;

fn with(
    directory: &Path,
    load: impl FnOnce(&[Source], ReadFile<'_>) -> Result<Policy, Faults>,
) -> Result<Policy, Faults> {
    match read_directory(directory) {
        Ok(sources) => load(&sources, &|source, name| read_beside(directory, source, name)),
        Err(error) => {
            let mut faults = Faults::new();
            let place = Place::whole(Arc::from(directory.display().to_string()));
            let remedy = "name a directory of YAML files that this process may read";
            faults.push(place, String::new(), format!("the policy cannot be read: {error}"), remedy);
            Err(faults)
        }
    }
}

/// The policy files of a directory, each named by the directory's name and its own.
pub fn read_directory(directory: &Path) -> io::Result<Vec<Source>> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().into_string().map_err(|_| io::Error::other("a file name is not UTF-8"))?;
        let yaml = Path::new(&name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    let root = fs::canonicalize(directory)?;
    let read = |name: String| {
        let path = directory.join(&name);
        let text = fs::read_to_string(inside(&root, &path)?)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Source { name: path.display().to_string(), text })
    };
    names.into_iter().map(read).collect()
}

/// The bytes of a file that the policy file `source` of this directory refers to.
fn read_beside(directory: &Path, source: &str, name: &str) -> Option<Vec<u8>> {
    let root = fs::canonicalize(directory).ok()?;
    let path = Path::new(source).parent()?.join(name);
    fs::read(inside(&root, &path).ok()?).ok()
}

/// The real path of a file, if it is inside the directory.
///
/// SECURITY: a link in a mounted policy must not show another file of the machine to whoever writes rules.
fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = fs::canonicalize(path)?;
    if real.starts_with(root) {
        Ok(real)
    } else {
        Err(io::Error::other(format!("{} is a link to outside the policy directory", path.display())))
    }
}
