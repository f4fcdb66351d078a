//! The name of exactly the bytes that a policy was read from.

use aws_lc_rs::digest::Context;
use aws_lc_rs::digest::SHA256;

use crate::secret::hex;

/// Hexadecimal digits of a revision's name.
const DIGITS: usize = 16;

/// SHA-256 over the names and bytes of files, each with its length before it, so that no two sets of files read alike.
#[derive(Clone)]
pub(crate) struct RevisionDigest(Context);

impl RevisionDigest {
    /// Over no file yet.
    pub(crate) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Begins a file, whose bytes are `length` in number and follow in [`RevisionDigest::bytes`].
    pub(crate) fn file(&mut self, name: &str, length: u64) {
        self.0.update(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.0.update(name.as_bytes());
        self.0.update(&length.to_be_bytes());
    }

    /// Bytes of the file that was begun.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// A file that is named and is not there: no file has this length.
    pub(crate) fn missing(&mut self, name: &str) {
        self.file(name, u64::MAX);
    }

    /// A whole file.
    pub(crate) fn whole(&mut self, name: &str, bytes: &[u8]) {
        self.file(name, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.bytes(bytes);
    }

    /// The name of what was read.
    pub(crate) fn revision(self) -> String {
        let mut name = hex(self.0.finish().as_ref());
        name.truncate(DIGITS);
        name
    }
}

/// The revision of these files, by name, in that order.
pub(super) fn revision<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut digest = RevisionDigest::new();
    for (name, bytes) in files {
        digest.whole(name, bytes);
    }
    digest.revision()
}
