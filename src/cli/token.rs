//! `trustmint token inspect|verify|attenuate`: what an upload token says, whether it is genuine, and a narrower one.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::read_input;
use crate::escape::escape;
use crate::macaroon::Identifier;
use crate::secret::Secret;

mod artifact;
mod attenuate;
mod inspect;
mod value;
mod verify;

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Show what an upload token says. Nothing is verified: anyone can write one that reads like this
    Inspect(inspect::Inspect),
    /// Say offline, with a registry's exported secrets, whether an upload token allows something
    ///
    /// The answer is the one of a registry that verifies offline. It does not know whether the token was revoked or stopped,
    /// nor whether its rules still hold; a token that is limited in uses is refused, since nobody can count offline.
    /// `POST /v1/verify` knows all of it. Exit code: 0 yes, 1 no.
    Verify(verify::Verify),
    /// Print a copy of an upload token that allows less: one package, version or file, or for a shorter time
    ///
    /// The copy alone is printed, so that it can be piped. It works for what the token allows AND all that the options
    /// restrict it to: none can add anything. An option that is repeated lists alternatives. The token itself goes on as it
    /// was. Nobody is asked, and no key is needed; so nothing is verified, which only the service and its registry
    /// can do: the copy of a forged token is as worthless as the token.
    Attenuate(attenuate::Attenuate),
}

impl Token {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Inspect(inspect) => inspect.run(),
            Self::Verify(verify) => verify.run(),
            Self::Attenuate(attenuate) => attenuate.run(),
        }
    }
}

/// Reads a token from a file, or from standard input when the path is `-` or missing.
fn read_token(path: Option<&PathBuf>) -> Result<Secret<String>, Failed> {
    let text = Secret::new(read_input(path)?);
    Ok(Secret::new(text.expose().trim().to_owned()))
}

/// Lines of a name and a value each. No value disguises a terminal's line.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let _infallible = writeln!(self.0, "{name:<12} {}", escape(value));
    }

    /// What a token's identifier says of it and of where it comes from.
    fn add_identifier(&mut self, identifier: &Identifier) -> Result<(), Failed> {
        let provenance = &identifier.provenance;
        self.add("id", &identifier.id.to_string());
        self.add("issued at", &identifier.id.issued_at().to_string());
        self.add("key", &format!("{} (epoch {})", identifier.kid, identifier.epoch));
        self.add("issuer", &provenance.issuer);
        self.add("rules", &provenance.rules.join(", "));
        self.add("policy", &provenance.policy_revision);
        for (name, value) in &provenance.claims {
            self.add("claim", &format!("{name} = {}", serde_json::to_string(value)?));
        }
        Ok(())
    }

    fn text(&self) -> &str {
        self.0.trim_end()
    }
}
