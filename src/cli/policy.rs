//! `trustmint policy`: rules, as their operators try them. A verb a file.

use clap::Subcommand;

use crate::cli::Ended;

mod explain;
mod lint;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show what the rules say to a job with these claims, condition by condition. Nothing is verified or minted
    Explain(explain::Explain),
    /// Say everything that is wrong or dangerous in a policy, why, and how to mend it
    Lint(lint::Lint),
}

impl Policy {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Explain(explain) => explain.run(),
            Self::Lint(lint) => lint.run(),
        }
    }
}
