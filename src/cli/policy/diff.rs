//! `trustmint policy diff`: what another policy would change.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::IsTerminal as _;
use std::io::Read as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::say_json;
use crate::cli::tell_progress;
use crate::policy::Policy;
use crate::policy::diff::Diff;
use crate::policy::watch;

/// Longest line that is read; an event is a few kilobytes.
const MAX_LINE: u64 = 1024 * 1024;
/// After how many lines progress is told.
const PROGRESS: u64 = 100_000;

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The audit log whose exchanges are decided anew; `-` is standard input
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
    /// The directory of the policy as it is
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The directory of the policy as it would be
    #[arg(value_name = "NEW")]
    new: PathBuf,
}

impl Compare {
    pub(super) fn run(self) -> Ended {
        let (old, new) = (load(&self.old)?, load(&self.new)?);
        let mut diff = Diff::new(&old, &new);
        if let Some(path) = &self.audit {
            if path.as_os_str() == "-" {
                replay(io::stdin().lock(), &mut diff)?;
            } else {
                let file = File::open(path).map_err(|error| Failed::file(path, &error))?;
                replay(BufReader::new(file), &mut diff).map_err(|error| Failed::file(path, &error))?;
            }
        }
        let report = diff.finish(self.audit.is_some());
        if self.json {
            say_json(&report)?;
        } else {
            say(&report.to_table());
        }
        if report.is_void() {
            let message = "the log has no exchange that can be decided anew, so nothing was compared: name a file of audit \
                           events with the exchanges that shall be";
            return Err(Failed::new(message));
        }
        Ok(!report.changes())
    }
}

fn load(directory: &Path) -> Result<Policy, Failed> {
    watch::read(directory, tell_progress).and_then(Policy::tested).map_err(|faults| Failed::new(faults.to_string()))
}

/// Replays a log line by line. A line that is too long to be an event is read past, and counted as none.
fn replay(mut log: impl BufRead, diff: &mut Diff<'_>) -> io::Result<()> {
    let shows = io::stderr().is_terminal();
    let (mut line, mut lines) = (Vec::new(), 0_u64);
    loop {
        line.clear();
        if log.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if line.last() != Some(&b'\n') && u64::try_from(line.len()).is_ok_and(|length| length >= MAX_LINE) {
            log.skip_until(b'\n')?;
            line.clear();
        }
        diff.line(&line);
        lines += 1;
        if shows && lines.is_multiple_of(PROGRESS) {
            let _closed = writeln!(io::stderr(), "{lines} lines");
        }
    }
    Ok(())
}
