//! Where events go. A file is followed: when its path has come to name another, or none, that one is written from then on.
//! One that was cut short is as another.

use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::Metadata;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use super::destination;
use super::destination::Found;
use super::destination::Unfit;

/// Where events are written.
pub enum AuditSink {
    /// Standard output.
    Stdout,
    /// The end of a file, which is made, readable by its owner and group alone, if it is not there. It may be renamed or
    /// removed, or emptied, at any time.
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
    /// How long a file is at least, unless somebody cuts it short; a pipe or a device has no length.
    length: Option<u64>,
    /// Whether its last line has no end.
    torn: bool,
}

/// What came of looking where the path leads.
pub(super) enum Look {
    /// To the file that is held.
    Same,
    /// To another, which is held now; or to the same one, in which there is less than was written.
    Another,
    /// To another that cannot be opened, which was not so at the last look: the file that was held goes on being written.
    Astray(Unfit),
}

impl Sink {
    pub(super) fn open(sink: AuditSink) -> io::Result<Self> {
        Ok(match sink {
            // Not by way of its buffer, which says that it took what it may fail to write later.
            AuditSink::Stdout => Self::Stream(Box::new(File::from(io::stdout().as_fd().try_clone_to_owned()?))),
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
            Self::File(followed) => followed.held.write(bytes),
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
        if named.is_ok_and(|named| self.held.is(&named)) {
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
    fn open(path: &Path) -> Result<Self, Unfit> {
        // A pipe that nobody reads yet would hold up whoever opens it only to write.
        let pipe = destination::find(path)? == Found::Pipe;
        let file = OpenOptions::new().read(pipe).append(true).create(true).mode(0o640).open(path)?;
        let metadata = file.metadata()?;
        let length = metadata.is_file().then_some(metadata.len());
        let torn = length.is_some_and(|length| length > 0 && !ends_a_line(path, length));
        Ok(Self { file, identity: (metadata.dev(), metadata.ino()), length, torn })
    }

    /// Whether that is this file with all that was written.
    fn is(&self, named: &Metadata) -> bool {
        (named.dev(), named.ino()) == self.identity && self.length.is_none_or(|length| named.len() >= length)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        let more = u64::try_from(count).unwrap_or(u64::MAX);
        self.length = self.length.map(|length| length.saturating_add(more));
        Ok(count)
    }
}

/// Whether the last byte of a file ends a line, as far as it can be read: a process that was killed leaves half a line.
fn ends_a_line(path: &Path, length: u64) -> bool {
    let mut last = [0];
    let read = File::open(path).and_then(|file| file.read_exact_at(&mut last, length.saturating_sub(1)));
    read.is_err() || last == *b"\n"
}
