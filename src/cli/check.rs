//! `trustmint check`: settings, policy and keys as `serve` would read them, and the store and the audit log's file as it would find
//! them.

use clap::Args;
use serde_json::json;

use crate::cli::Ended;
use crate::cli::say;
use crate::cli::say_json;
use crate::cli::serve::Loaded;
use crate::cli::serve::Sources;
use crate::cli::serve::told;
use crate::cli::tell_progress;
use crate::config::Audit;
use crate::macaroon::MasterKey;
use crate::state::RedisFault;
use crate::state::RedisOptions;
use crate::state::RedisStore;
use crate::time::Clock;
use crate::time::SystemClock;

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    sources: Sources,
    /// Print the facts as JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(crate) fn run(self) -> Ended {
        let loaded = Loaded::read(self.sources.settings()?, tell_progress, Audit::check)?;
        let policy = loaded.policy()?;
        let now = SystemClock.now();
        let redis = loaded.redis.clone().map(look_at);
        let minting = loaded.keyring.minting_key(now).map(MasterKey::kid);
        if self.json {
            say_json(&json!({
                "settings": loaded.settings.to_json(),
                "policy": {
                    "revision": policy.revision(),
                    "issuers": policy.issuers().ids().collect::<Vec<_>>(),
                    "registries": policy.registries().iter().map(|registry| &registry.id).collect::<Vec<_>>(),
                    "rules": policy.rule_count(),
                    "warnings": policy.warnings().len(),
                },
                "keys": {
                    "known": loaded.keyring.iter().map(MasterKey::kid).collect::<Vec<_>>(),
                    "minting": minting,
                },
                "store": {
                    "kind": redis.as_ref().map_or("memory", |_| "redis"),
                    "error": redis.and_then(|fault| fault.map(told)),
                },
            }))?;
        } else {
            say(loaded.settings.to_yaml_redacted().trim_end());
            say("");
            say(&format!(
                "policy {}: issuers {}, registries {}, rules {}",
                policy.revision(),
                policy.issuers().len(),
                policy.registries().len(),
                policy.rule_count()
            ));
            if !policy.warnings().is_empty() {
                say(&format!("policy warnings: {}; `trustmint policy lint` shows them", policy.warnings().len()));
            }
            match minting {
                Some(kid) => say(&format!("keys: `{kid}` mints")),
                None => say("keys: none mints yet; exchanges will fail until one activates"),
            }
            match redis {
                None => say("store: memory"),
                Some(None) => say("store: Redis answers"),
                Some(Some(fault)) => say(&format!("store: {}", told(fault))),
            }
        }
        Ok(minting.is_some() && redis.flatten().is_none())
    }
}

/// What is wrong with the store in Redis, if anything is.
fn look_at(options: RedisOptions) -> Option<RedisFault> {
    let check = async { RedisStore::new(options).check().await.err() };
    actix_web::rt::System::new().block_on(check)
}
