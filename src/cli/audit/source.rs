//! The lines of an audit log, from a file or from standard input.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::path::Path;

use crate::audit::LineRead;
use crate::audit::Lines;
use crate::cli::Failed;

/// After how many lines progress is told.
const PROGRESS: u64 = 100_000;
/// How a file that gzip wrote begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Hands over each line of a log with its number, until the end or as long as somebody wants more; `-` is standard input.
pub(crate) fn read(
    path: &Path,
    each: impl FnMut(u64, LineRead<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Failed> {
    if path.as_os_str() == "-" {
        return lines(io::stdin().lock(), path, each);
    }
    let file = File::open(path).map_err(|error| Failed::file(path, &error))?;
    lines(BufReader::new(file), path, each)
}

fn lines(
    mut log: impl BufRead,
    path: &Path,
    mut each: impl FnMut(u64, LineRead<'_>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Failed> {
    let failed = |error: io::Error| Failed::file(path, &error);
    if log.fill_buf().map_err(failed)?.starts_with(&GZIP) {
        let name = path.display();
        return Err(Failed::new(format!(
            "`{name}` is compressed: pass its text on, as `gzip -dc {name} | trustmint … -`"
        )));
    }
    let shows = io::stderr().is_terminal() && !io::stdout().is_terminal();
    let mut lines = Lines::new(log);
    while let Some((number, line)) = lines.next_line().map_err(failed)? {
        if each(number, line).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if shows && number.is_multiple_of(PROGRESS) {
            let _closed = writeln!(io::stderr(), "{number} lines");
        }
    }
    Ok(ControlFlow::Continue(()))
}
