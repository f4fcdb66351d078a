//! `trustmint demo`: a whole exchange on this machine, narrated.

use clap::Args;

use crate::cli::Ended;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Stop after the last step instead of staying up; fail if a step came out differently than it should
    #[arg(long)]
    once: bool,
    /// Print each step as a line of JSON
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(crate) fn run(self) -> Ended {
        let _ = (self.once, self.json);
        Ok(false)
    }
}
