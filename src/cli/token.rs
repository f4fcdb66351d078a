//! `trustmint token inspect`: what an upload token says, believed by nobody.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde_json::json;

use crate::cli::Ended;
use crate::cli::read_input;
use crate::cli::say;
use crate::cli::say_json;
use crate::escape::escape;
use crate::macaroon::Unverified;

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Show what an upload token says. Nothing is verified: anyone can write one that reads like this
    Inspect(Inspect),
}

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The file with the token [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

impl Token {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::Inspect(inspect) => inspect.run(),
        }
    }
}

impl Inspect {
    fn run(self) -> Ended {
        let text = read_input(self.file.as_ref())?;
        let token = Unverified::parse(text.trim())?;
        let identifier = token.identifier()?;
        let caveats: Vec<String> =
            token.caveats().map(|caveat| escape(&String::from_utf8_lossy(caveat)).into_owned()).collect();
        let provenance = &identifier.provenance;
        if self.json {
            say_json(&json!({
                "verified": false,
                "location": token.location(),
                "kid": identifier.kid,
                "epoch": identifier.epoch,
                "id": identifier.id.to_string(),
                "issued_at": identifier.id.issued_at().to_string(),
                "provenance": provenance,
                "caveats": caveats,
            }))?;
            return Ok(true);
        }
        let mut out = String::new();
        let mut line = |name: &str, value: &str| {
            let _infallible = writeln!(out, "{name:<12} {}", escape(value));
        };
        line("verified", "no: only the service and its registry can tell whether this is genuine");
        line("location", token.location());
        line("id", &identifier.id.to_string());
        line("issued at", &identifier.id.issued_at().to_string());
        line("key", &format!("{} (epoch {})", identifier.kid, identifier.epoch));
        line("issuer", &provenance.issuer);
        line("rules", &provenance.rules.join(", "));
        line("policy", &provenance.policy_revision);
        for (name, value) in &provenance.claims {
            line("claim", &format!("{name} = {}", serde_json::to_string(value)?));
        }
        for caveat in &caveats {
            line("caveat", caveat);
        }
        say(out.trim_end());
        Ok(true)
    }
}
