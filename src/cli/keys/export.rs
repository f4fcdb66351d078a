//! `trustmint keys export`: the secrets of one registry, for it to verify its tokens by itself.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use clap::Args;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::tell_progress;
use crate::config::keys::read_keyring;
use crate::macaroon::RegistryKeyId;
use crate::macaroon::RegistrySecrets;
use crate::policy::watch;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The keys directory
    #[arg(long, value_name = "DIR", default_value = "keys")]
    directory: PathBuf,
    /// The policy directory, which says the registry's `key_id` and `epoch`
    #[arg(long, value_name = "DIR", default_value = "policy")]
    policy: PathBuf,
    /// The registry whose tokens the secrets verify
    #[arg(long, value_name = "ID")]
    registry: String,
    /// The file to write, for its owner alone; it must not exist. Whoever reads it can make that registry's tokens
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Export {
    pub(super) fn run(self) -> Ended {
        let ring = read_keyring(&self.directory).map_err(|faults| Failed::new(faults.to_string()))?;
        let policy = watch::read(&self.policy, tell_progress).map_err(|faults| Failed::new(faults.to_string()))?;
        let Some(registry) = policy.registries().by_id(&self.registry) else {
            let ids: Vec<&str> = policy.registries().iter().map(|registry| registry.id.as_str()).collect();
            return Err(Failed::new(format!("--registry must be one of {}", ids.join(", "))));
        };
        let key = RegistryKeyId { key_id: &registry.key_id, codec: registry.codec, epoch: registry.epoch };
        let secrets = RegistrySecrets::derive(
            &ring,
            key,
            &registry.id,
            &registry.location(),
            &registry.token.prefix,
            registry.ecosystem(),
        );
        let text = secrets.to_file()?;
        // SECURITY: never on a terminal or into a pipe, where it would stay in somebody's log.
        let opened = File::options().write(true).create_new(true).mode(0o600).open(&self.out);
        let written =
            opened.and_then(|mut file| file.write_all(text.expose().as_bytes()).and_then(|()| file.sync_all()));
        written.map_err(|error| Failed::file(&self.out, &error))?;
        say(&format!(
            "wrote the secrets of `{}` under {} to {}; give them to that registry alone, and again after each `keys new`",
            registry.id,
            secrets.kids().collect::<Vec<_>>().join(", "),
            self.out.display()
        ));
        Ok(true)
    }
}
