//! Whether events can be appended at a path. What opens the file there asks first, and so does who only wants to know: nothing is
//! made or changed by asking. Both are told the same, but for a file that has to be made: whether it may be only making it says,
//! and who does not is told what is likely.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;

/// How many symbolic links the system follows at most.
const MOST_LINKS: usize = 40;

/// What asks the system for a file without a name, which is gone when it is closed (`O_TMPFILE`, `O_DIRECTORY`). Each processor has
/// numbers of its own; elsewhere nothing is asked.
const NAMELESS: Option<i32> = if !cfg!(target_os = "linux") {
    None
} else if cfg!(target_arch = "x86_64") {
    Some(0o20_000_000 | 0o200_000)
} else if cfg!(target_arch = "aarch64") {
    Some(0o20_000_000 | 0o40_000)
} else {
    None
};

/// Why events cannot be appended at a path.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// What is there keeps no lines.
    #[error("it is {0}")]
    Kind(&'static str),
    /// It would be made in a folder that is not there.
    #[error("there is no folder {}", .0.display())]
    NoFolder(PathBuf),
    /// The system refuses to make a file without a name in its folder, and most likely one with a name.
    #[error("a file cannot be made in its folder: {0}")]
    Unmade(io::Error),
    /// The system refuses it.
    #[error(transparent)]
    Refused(io::Error),
}

impl Unfit {
    /// What to do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Kind(_) => "name a file, or a pipe",
            Self::NoFolder(_) => "make the folder, in which the service's user may make files",
            Self::Unmade(_) => {
                "let the service's user make files in the folder; `serve` starts all the same where a security profile forbids \
                 files without a name (O_TMPFILE) alone"
            }
            Self::Refused(_) => "let the service's user append to the file, and make files in its folder",
        }
    }
}

impl From<io::Error> for Unfit {
    /// One that was made of an `Unfit` is that again: what has come to be at the path since it was judged is told as what it is.
    fn from(error: io::Error) -> Self {
        error.downcast().unwrap_or_else(Self::Refused)
    }
}

impl From<Unfit> for io::Error {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Refused(error) => error,
            Unfit::Kind(_) | Unfit::NoFolder(_) | Unfit::Unmade(_) => Self::other(unfit),
        }
    }
}

/// What is at a path that events can be appended at, as far as can be seen without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A file.
    File,
    /// A pipe with a name.
    Pipe,
    /// Something else that takes bytes: a terminal, `/dev/null`.
    Device,
    /// Nothing, and a folder to make it in.
    Nothing,
}

/// What is at the path.
pub(super) fn find(path: &Path) -> Result<Found, Unfit> {
    let found = match fs::metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return nothing(path),
        Err(error) => return Err(error.into()),
    };
    if found.is_file() {
        Ok(Found::File)
    } else if found.is_fifo() {
        Ok(Found::Pipe)
    } else if found.is_char_device() {
        Ok(Found::Device)
    } else if found.is_dir() {
        Err(Unfit::Kind("a folder"))
    } else if found.is_socket() {
        Err(Unfit::Kind("a socket"))
    } else {
        // A disk would be overwritten from its beginning.
        Err(Unfit::Kind("a disk, or something else that keeps no lines"))
    }
}

fn nothing(path: &Path) -> Result<Found, Unfit> {
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(Unfit::Kind("the name of a folder"));
    }
    let folder = folder_of(path);
    match fs::metadata(&folder) {
        Ok(_) => Ok(Found::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Unfit::NoFolder(folder)),
        Err(error) => Err(error.into()),
    }
}

/// Whether events can be appended at the path, for who does not open it.
pub fn judge(path: &Path) -> Result<(), Unfit> {
    judge_before_opening(path)?;
    match find(path)? {
        Found::Nothing => match make_nameless(&folder_of(path)) {
            Err(error) if !is_unknown(&error) => Err(Unfit::Unmade(error)),
            Ok(_) | Err(_) => Ok(()),
        },
        Found::File | Found::Pipe | Found::Device => Ok(()),
    }
}

/// The same for who opens it then, and learns by that whether a file may be made: only what is sure.
///
/// A pipe or a device is not opened: whoever is at its other end would notice.
pub fn judge_before_opening(path: &Path) -> Result<(), Unfit> {
    match find(path)? {
        Found::File => drop(OpenOptions::new().append(true).open(path)?),
        Found::Nothing | Found::Pipe | Found::Device => {}
    }
    Ok(())
}

/// The folder that a file would be made in: a symbolic link that leads nowhere is made to lead somewhere.
fn folder_of(path: &Path) -> PathBuf {
    let mut at = path.to_owned();
    for _ in 0..MOST_LINKS {
        let Ok(target) = fs::read_link(&at) else { break };
        at = parent(&at).join(target);
    }
    parent(&at).to_owned()
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file without a name. The system allows it to whom it allows to make one with a name, also where permissions are
/// more than a mode (access lists, a mount that is read-only), and nobody ever sees it. A security profile that names the files
/// that may be made does not allow it.
fn make_nameless(folder: &Path) -> io::Result<File> {
    let flags = NAMELESS.ok_or(io::ErrorKind::Unsupported)?;
    OpenOptions::new().write(true).custom_flags(flags).open(folder)
}

/// Whether the error says no more than that such files are not known here; permissions are looked at before that.
fn is_unknown(error: &io::Error) -> bool {
    use io::ErrorKind::InvalidInput;
    use io::ErrorKind::IsADirectory;
    use io::ErrorKind::Unsupported;
    matches!(error.kind(), Unsupported | IsADirectory | InvalidInput)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;
    use crate::audit::AuditSink;
    use crate::audit::sink::Sink;

    /// What is said of the path, which opening it says as well.
    fn said(path: &Path) -> Result<(), String> {
        let judged = judge(path).map_err(|unfit| unfit.to_string());
        let opened = Sink::open(AuditSink::File(path.to_owned())).map(drop).map_err(|error| error.to_string());
        assert_eq!(judged, opened, "{}", path.display());
        judged
    }

    #[test]
    fn what_is_judged_is_what_opening_says() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("there"), "{}\n").unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("made", at("link")).unwrap();
        symlink("missing/made", at("astray")).unwrap();
        symlink("round", at("round")).unwrap();
        for name in ["there", "new", "pipe", "link"] {
            assert_eq!(said(&at(name)), Ok(()), "{name}");
        }
        assert_eq!(said(Path::new("/dev/null")), Ok(()));
        assert!(at("made").exists(), "a link is followed");
        let no_folder = format!("there is no folder {}", at("missing").display());
        for (name, words) in [
            (".", "it is a folder"),
            ("socket", "it is a socket"),
            ("another/", "it is the name of a folder"),
            ("missing/audit.jsonl", no_folder.as_str()),
            ("astray", no_folder.as_str()),
            ("there/audit.jsonl", "Not a directory"),
            ("round", "symbolic links"),
        ] {
            let said = said(&at(name)).unwrap_err();
            assert!(said.contains(words), "{name}: {said}");
        }
    }

    #[test]
    fn nothing_is_made_or_changed_by_judging() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        let facts = |path: &Path| {
            let found = fs::metadata(path).unwrap();
            (found.ino(), found.len(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec())
        };
        let before = facts(folder.path());
        judge(&file).unwrap();
        assert_eq!(facts(folder.path()), before);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&file, "{}\n").unwrap();
        let before = facts(&file);
        judge(&file).unwrap();
        assert_eq!(facts(&file), before);
    }

    #[test]
    fn what_the_system_forbids_is_told_and_what_it_does_not_know_is_not() {
        // `EACCES`, `EROFS`, `ENOSPC` and `EPERM`; then `EOPNOTSUPP`, `EISDIR` and `EINVAL`, of kernels and file systems that have
        // no nameless files.
        for forbidden in [13, 30, 28, 1] {
            assert!(!is_unknown(&io::Error::from_raw_os_error(forbidden)), "{forbidden}");
        }
        for unknown in [95, 21, 22] {
            assert!(is_unknown(&io::Error::from_raw_os_error(unknown)), "{unknown}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("audit.jsonl");
        fs::write(&file, "").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o400)).unwrap();
        let closed = folder.path().join("closed");
        fs::create_dir(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
        // To root no mode forbids anything.
        let forbids = fs::metadata("/proc/self").unwrap().uid() != 0;
        assert_eq!(said(&file).is_err(), forbids);
        let new = closed.join("audit.jsonl");
        assert_eq!(matches!(judge(&new), Err(Unfit::Unmade(_))), forbids);
        assert!(judge_before_opening(&new).is_ok(), "making it says so");
        assert_eq!(Sink::open(AuditSink::File(new)).is_err(), forbids);
    }
}
