//! The files of a policy directory: which they are, and how they are read.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use super::Seen;
use crate::policy::revision::RevisionDigest;

/// Most policy files of a directory.
const MAX_SOURCES: usize = 10_000;
/// Largest directory: a million rules and as much again.
const MAX_BYTES: u64 = 1 << 30;
/// Largest file that an issuer refers to. Sets of keys and of certificate authorities are smaller.
const MAX_BESIDE: u64 = 1 << 20;
/// How much is read at a time by who keeps nothing of it.
const CHUNK: usize = 64 * 1024;

/// A file that a policy file refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name of the policy file.
    pub source: String,
    /// The reference as it is written there.
    pub name: String,
}

impl Reference {
    /// How the file is named in the revision.
    pub(super) fn label(&self) -> String {
        format!("{}:{}", self.source, self.name)
    }
}

/// One look at the directory, for which nothing is kept in memory: the revision that the policy files would have
/// together with the files that they referred to when they were last parsed.
pub(super) fn look(directory: &Path, references: &[Reference]) -> Seen {
    digest(directory, references).map_or_else(|error| Seen::Unreadable(error.to_string()), Seen::Files)
}

fn digest(directory: &Path, references: &[Reference]) -> io::Result<String> {
    let mut digest = RevisionDigest::new();
    let mut left = MAX_BYTES;
    for name in names(directory)? {
        let path = directory.join(name);
        let mut add = |path: &Path| {
            let (file, length) = open(directory, path, left)?;
            left = left.saturating_sub(length);
            digest.file(&path.display().to_string(), length);
            stream(file, length, &mut digest)
        };
        add(&path).map_err(|error| named(&path, &error))?;
    }
    for reference in references {
        match beside(directory, reference) {
            Some(bytes) => digest.whole(&reference.label(), &bytes),
            None => digest.missing(&reference.label()),
        }
    }
    Ok(digest.revision())
}

fn stream(file: File, length: u64, digest: &mut RevisionDigest) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut seen = 0;
    let mut file = file.take(length.saturating_add(1));
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        digest.bytes(buffer.get(..read).unwrap_or_default());
        seen += u64::try_from(read).unwrap_or(u64::MAX);
    }
    if seen == length { Ok(()) } else { Err(io::Error::other("it changed while it was read")) }
}

/// The policy files: the name that people know each by, and its bytes.
pub(super) fn sources(directory: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut left = MAX_BYTES;
    let mut read = |name: String| {
        let path = directory.join(name);
        let bytes = whole(directory, &path, left).map_err(|error| named(&path, &error))?;
        left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok((path.display().to_string(), bytes))
    };
    names(directory)?.into_iter().map(&mut read).collect()
}

/// The bytes of a file that a policy file of this directory refers to.
pub(super) fn beside(directory: &Path, reference: &Reference) -> Option<Vec<u8>> {
    let path = Path::new(&reference.source).parent()?.join(&reference.name);
    whole(directory, &path, MAX_BESIDE).ok()
}

/// The names of the policy files, sorted.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name().into_string().map_err(|_| io::Error::other("a file name is not UTF-8"))?;
        let yaml = Path::new(&name).extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !name.starts_with('.') {
            names.push(name);
        }
    }
    if names.len() > MAX_SOURCES {
        return Err(io::Error::other(format!("it has more than {MAX_SOURCES} policy files")));
    }
    names.sort();
    Ok(names)
}

fn whole(directory: &Path, path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, length) = open(directory, path, most)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()) == Ok(length) {
        Ok(bytes)
    } else {
        Err(io::Error::other("it changed while it was read"))
    }
}

/// The file, if it is inside the directory, and its length, if that is no more than `most`.
fn open(directory: &Path, path: &Path, most: u64) -> io::Result<(File, u64)> {
    let real = inside(&fs::canonicalize(directory)?, path)?;
    // A pipe would be waited for without end.
    if !fs::metadata(&real)?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let file = File::open(&real)?;
    let length = file.metadata()?.len();
    if length > most {
        return Err(io::Error::other(format!("it is larger than the {most} bytes that are left for it")));
    }
    Ok((file, length))
}

/// The real path of a file, if it is inside the directory.
///
/// SECURITY: a link in a mounted policy must not show another file of the machine to whoever writes rules.
fn inside(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let real = fs::canonicalize(path)?;
    if real.starts_with(root) {
        Ok(real)
    } else {
        Err(io::Error::other("it is a link to outside the policy directory"))
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
