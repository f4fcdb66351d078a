//! `trustmint policy diff`: what another policy would change.

use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;

use clap::Args;

use crate::audit::LineRead;
use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::audit::source;
use crate::cli::say;
use crate::cli::say_json;
use crate::cli::tell_progress;
use crate::policy::Policy;
use crate::policy::diff::Diff;
use crate::policy::watch;

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
            let _to_the_end = source::read(path, |_, line| {
                match line {
                    LineRead::Whole(line) => diff.line(line),
                    LineRead::TooLong => diff.no_event(),
                }
                ControlFlow::Continue(())
            })?;
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
