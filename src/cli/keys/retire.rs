//! `trustmint keys retire`: takes a key's file away, when no token needs it any more.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::say_json;
use crate::config::keys::read_keyring;
use crate::time::Clock;
use crate::time::SystemClock;

/// By how much later than a key's time a replica may go over to it: its clock, its poll of the directory, and the minutes
/// that Kubernetes takes to bring a Secret to a pod.
const SPREAD: Duration = Duration::from_secs(5 * 60);

#[derive(Debug, Args)]
pub(crate) struct Retire {
    /// The keys directory
    #[arg(long, value_name = "DIR", default_value = "keys")]
    directory: PathBuf,
    /// The key's id
    #[arg(long)]
    kid: String,
    /// Whoever has the key can forge: take it away at once, and with it every token that it has minted
    #[arg(long)]
    emergency: bool,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

impl Retire {
    pub(super) fn run(self) -> Ended {
        let now = SystemClock.now();
        let ring = read_keyring(&self.directory).map_err(|faults| Failed::new(faults.to_string()))?;
        let kid = &self.kid;
        if ring.get(kid).is_none() {
            let known: Vec<&str> = ring.iter().map(crate::macaroon::MasterKey::kid).collect();
            return Err(Failed::new(format!("there is no key `{kid}`; there are {}", known.join(", "))));
        }
        let others_mint = ring.iter().any(|key| key.kid() != kid && key.activate_at() <= now);
        // SECURITY: without another key the service would keep the last good ring, this key among it.
        if !others_mint {
            let remedy =
                "make one first: `trustmint keys new`; in an emergency with another --kid and no --activate-at";
            return Err(Failed::new(format!("no other key mints yet, so `{kid}` would go on; {remedy}")));
        }
        let free = ring.last_token_expires(kid, SPREAD, now);
        match free {
            Some(free) if free <= now => {}
            Some(_) | None if self.emergency => {}
            Some(free) => {
                return Err(Failed::new(format!(
                    "tokens that `{kid}` has minted may live until {free}; retire it then, or now with --emergency"
                )));
            }
            None => {
                return Err(Failed::new(format!(
                    "`{kid}` mints; make another key, let it take over, and retire this one an hour later"
                )));
            }
        }
        let file = self.directory.join(kid);
        fs::remove_file(&file).map_err(|error| Failed::file(&file, &error))?;
        if self.json {
            say_json(&json!({"kid": kid, "emergency": self.emergency, "at": now.to_string()}))?;
        } else {
            say(&format!("retired `{kid}`; each replica goes without it from its next reading of the directory on"));
        }
        Ok(true)
    }
}
