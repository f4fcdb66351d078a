//! `trustmint policy`: rules, as their operators try them. A verb a file.

use clap::Subcommand;

use crate::cli::Ended;

mod diff;
mod explain;
mod lint;
mod schema;
mod test;

#[derive(Debug, Subcommand)]
pub(crate) enum Policy {
    /// Show what another policy changes: its rules, and with an audit log which past decisions. Exits with 1 if something does
    Diff(diff::Compare),
    /// Show what the rules say to a job with these claims, condition by condition. Nothing is verified or minted
    Explain(explain::Explain),
    /// Say everything that is wrong or dangerous in a policy, why, and how to mend it
    Lint(lint::Lint),
    /// Print the JSON Schema of policy files, for editors
    Schema,
    /// Run the policy's tests: what its rules say to made-up jobs
    Test(test::Test),
}

impl Policy {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Diff(diff) => diff.run(),
            Self::Explain(explain) => explain.run(),
            Self::Lint(lint) => lint.run(),
            Self::Schema => schema::run(),
            Self::Test(test) => test.run(),
        }
    }
}
