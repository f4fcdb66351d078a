//! Where events go. A file is followed: when its path has come to name another, or none, that one is written from then on.

use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Where events are written.
pub enum AuditSink {
    /// Standard output.
    Stdout,
    /// The end of a file, which is made, readable by its owner and group alone, if it is not there. It may be renamed or
    /// removed at any time.
    File(PathBuf),
    /// Anything else that takes bytes: it is offered whole lines, many at a time, or the rest after a part that it took.
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("Stdout"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Writer(_) => f.write_str("Writer"),
        }
    }
}

/// A sink that is open.
pub(super) enum Sink {
    Stream(Box<dyn Write + Send>),
    File(Followed),
}

/// A file that is held, and the path by which it was opened.
pub(super) struct Followed {
    path: PathBuf,
    held: Held,
    /// Whether the path names another file that cannot be opened.
    astray: bool,
}

struct Held {
    file: File,
    /// Device and inode: what makes it the same file under any name.
    identity: (u64, u64),
    /// Whether its last line has no end.
    torn: bool,
}

/// What came of looking where the path leads.
pub(super) enum Look {
    /// To the file that is held.
    Same,
    /// To another, which is held now.
    Another,
    /// To another that cannot be opened, which was not so at the last look: the file that was held goes on being written.
    Astray(io::Error),
}

impl Sink {
    pub(super) fn open(sink: AuditSink) -> io::Result<Self> {
        Ok(match sink {
            AuditSink::Stdout => Self::Stream(Box::new(io::stdout())),
            AuditSink::Writer(writer) => Self::Stream(writer),
            AuditSink::File(path) => {
                let held = Held::open(&path)?;
                Self::File(Followed { path, held, astray: false })
            }
        })
    }

    /// Whether the next write would go on with a line that somebody else left without its end.
    pub(super) const fn is_torn(&self) -> bool {
        match self {
            Self::Stream(_) => false,
            Self::File(followed) => followed.held.torn,
        }
    }

    /// Follows a file that was renamed or removed.
    pub(super) fn follow(&mut self) -> Look {
        match self {
            Self::Stream(_) => Look::Same,
            Self::File(followed) => followed.follow(),
        }
    }

    /// The path of a file.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Stream(_) => None,
            Self::File(followed) => Some(&followed.path),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(writer) => writer.write(bytes),
            Self::File(followed) => followed.held.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(writer) => writer.flush(),
            Self::File(followed) => followed.held.file.flush(),
        }
    }
}

impl Followed {
    fn follow(&mut self) -> Look {
        let named = fs::metadata(&self.path);
        if named.is_ok_and(|named| (named.dev(), named.ino()) == self.held.identity) {
            self.astray = false;
            return Look::Same;
        }
        match Held::open(&self.path) {
            Ok(held) => {
                self.held = held;
                self.astray = false;
                Look::Another
            }
            Err(_) if self.astray => Look::Same,
            Err(error) => {
                self.astray = true;
                Look::Astray(error)
            }
        }
    }
}

impl Held {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let metadata = file.metadata()?;
        let torn = metadata.is_file() && metadata.len() > 0 && !ends_a_line(path, metadata.len());
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), torn })
    }
}

/// Whether the last byte of a file ends a line, as far as it can be read: a process that was killed leaves half a line.
fn ends_a_line(path: &Path, length: u64) -> bool {
    let mut last = [0];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, length.saturating_sub(1)));
    read.is_err() || last == *b"\n"
}
