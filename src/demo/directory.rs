//! A directory for one run, which nobody else can read and which is gone afterwards.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::secret::{hex, random_bytes};

/// A fresh directory below the system's own for temporary files. Dropping it removes it with all that it holds.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes it.
    ///
    /// SECURITY: its name cannot be guessed and making it fails if it exists, so nobody can have put a directory or a
    /// link in its place; only its owner can list it.
    pub fn create() -> io::Result<Self> {
        let entropy: [u8; 6] = random_bytes().ok_or_else(|| io::Error::other("the system has no randomness"))?;
        let path = std::env::temp_dir().join(format!("trustmint-demo-{}", hex(&entropy)));
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, for its owner alone, and the folder that it is in.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> io::Result<PathBuf> {
        let path = self.join(name);
        if let Some(folder) = path.parent() {
            DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        }
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(content.as_ref())?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the system's directory.
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_its_owners_alone_and_is_removed_with_its_files() {
        let directory = Directory::create().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let file = directory.write("folder/file", "text").unwrap();
        assert_eq!((mode(directory.path()), mode(file.parent().unwrap()), mode(&file)), (0o700, 0o700, 0o600));
        directory.write("folder/file", "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        let path = directory.path().to_owned();
        drop(directory);
        assert!(!path.exists());
    }
}
