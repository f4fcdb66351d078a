//! `trustmint token inspect`: what an upload token says, believed by nobody.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Lines;
use super::read_token;
use crate::cli::Ended;
use crate::cli::say;
use crate::cli::say_json;
use crate::escape::escape;
use crate::macaroon::Unverified;

#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The file with the token [default: standard input]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) fn run(self) -> Ended {
        let text = read_token(self.file.as_ref())?;
        let token = Unverified::parse(text.expose())?;
        let identifier = token.identifier()?;
        let caveats: Vec<String> =
            token.caveats().map(|caveat| escape(&String::from_utf8_lossy(caveat)).into_owned()).collect();
        if self.json {
            say_json(&json!({
                "verified": false,
                "location": token.location(),
                "kid": identifier.kid,
                "epoch": identifier.epoch,
                "id": identifier.id.to_string(),
                "issued_at": identifier.id.issued_at().to_string(),
                "provenance": identifier.provenance,
                "caveats": caveats,
            }))?;
            return Ok(true);
        }
        let mut lines = Lines::default();
        lines.add("verified", "no: only the service and its registry can tell whether this is genuine");
        lines.add("location", token.location());
        lines.add_identifier(&identifier)?;
        for caveat in &caveats {
            lines.add("caveat", caveat);
        }
        say(lines.text());
        Ok(true)
    }
}
