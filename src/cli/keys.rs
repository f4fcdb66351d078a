//! `trustmint keys new|list|export|retire`: the service's own keys, one file each in the keys directory.

use std::path::PathBuf;

use clap::Args;
use clap::Subcommand;
use serde_json::json;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::say_json;
use crate::config::keys::read_keyring;
use crate::config::keys::write_key;
use crate::macaroon::MasterKey;
use crate::secret::random_bytes;
use crate::time::Clock;
use crate::time::SystemClock;
use crate::time::Timestamp;

mod export;
mod retire;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Create a key: it verifies as soon as it is read, and mints from its activation on
    New(New),
    /// List the keys, without their secrets
    List(List),
    /// Write the secrets of one registry to a file, for it to verify its tokens by itself
    Export(export::Export),
    /// Take a key away, when no token needs it any more or its bytes are known to somebody else
    Retire(retire::Retire),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// The keys directory
    #[arg(long, value_name = "DIR", default_value = "keys")]
    directory: PathBuf,
    /// The key's id: lower-case letters, digits and hyphens [default: `k` and today's date]
    #[arg(long)]
    kid: Option<String>,
    /// When it begins to mint, as `2026-11-23T00:15:00Z`; give all replicas time to read it [default: now]
    #[arg(long, value_name = "MOMENT")]
    activate_at: Option<String>,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The keys directory
    #[arg(long, value_name = "DIR", default_value = "keys")]
    directory: PathBuf,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

impl Keys {
    pub(crate) fn run(self) -> Ended {
        match self {
            Self::New(new) => new.run(),
            Self::List(list) => list.run(),
            Self::Export(export) => export.run(),
            Self::Retire(retire) => retire.run(),
        }
    }
}

impl New {
    fn run(self) -> Ended {
        let now = SystemClock.now();
        let activate_at = match &self.activate_at {
            None => now,
            Some(text) => Timestamp::parse_rfc3339(text)
                .ok_or_else(|| Failed::new(format!("`{text}` is not a moment like `{now}`")))?,
        };
        let today: String = now.to_string().chars().take(10).filter(char::is_ascii_digit).collect();
        let kid = self.kid.unwrap_or_else(|| format!("k{today}"));
        let entropy = random_bytes().ok_or_else(|| Failed::new("the system has no randomness to give"))?;
        let key = MasterKey::generate(&kid, entropy, activate_at)?;
        let path =
            write_key(&self.directory, &key).map_err(|error| Failed::file(&self.directory.join(&kid), &error))?;
        if self.json {
            say_json(&json!({"kid": kid, "activate_at": activate_at.to_string(), "file": path}))?;
        } else {
            say(&format!("created the key `{kid}` in {}; it mints from {activate_at} on", path.display()));
        }
        Ok(true)
    }
}

impl List {
    fn run(self) -> Ended {
        let keyring = read_keyring(&self.directory).map_err(|faults| Failed::new(faults.to_string()))?;
        let now = SystemClock.now();
        let minting = keyring.minting_key(now).map(MasterKey::kid);
        let state = |key: &MasterKey| {
            if Some(key.kid()) == minting {
                "mints"
            } else if key.activate_at() > now {
                "verifies; mints later"
            } else {
                "verifies"
            }
        };
        if self.json {
            let keys: Vec<_> = keyring
                .iter()
                .map(|key| json!({"kid": key.kid(), "activate_at": key.activate_at().to_string(), "state": state(key)}))
                .collect();
            say_json(&keys)?;
        } else {
            for key in keyring.iter() {
                say(&format!("{:<32}  {}  {}", key.kid(), key.activate_at(), state(key)));
            }
        }
        Ok(minting.is_some())
    }
}
