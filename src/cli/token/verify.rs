//! `trustmint token verify`: the answer that a registry gets offline, with what such an answer leaves out.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::ArgGroup;
use clap::Args;
use clap::ValueEnum;
use serde_json::json;

use super::Lines;
use super::artifact::Artifact;
use super::read_token;
use super::value;
use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::say_json;
use crate::codec::Codec;
use crate::config::registry_secrets::read_registry_secrets;
use crate::macaroon::Authentic;
use crate::macaroon::Facts;
use crate::macaroon::NOT_KNOWN;
use crate::macaroon::OfflineRefused;
use crate::package::Action;
use crate::package::PackageName;
use crate::time::Clock as _;
use crate::time::SystemClock;

#[derive(Debug, Args)]
#[command(disable_version_flag = true)]
#[command(group = ArgGroup::new("done").required(true).args(["exists", "action"]))]
pub(crate) struct Verify {
    /// The file with the token [default: standard input]
    #[arg(value_name = "FILE")]
    token: Option<PathBuf>,
    /// The file with the registry's secrets, made by `trustmint keys export`
    #[arg(long, value_name = "FILE")]
    secrets: PathBuf,
    /// The registry that asks [default: the one that the secrets are of]
    #[arg(long, value_name = "ID")]
    registry: Option<String>,
    /// The package that would change
    #[arg(long, value_name = "NAME")]
    package: String,
    /// For an upload: whether the registry has that package already
    #[arg(long)]
    exists: Option<Exists>,
    /// For anything but an upload: `read`, `yank`, `delete`, `tag`, …
    #[arg(long, value_name = "NAME")]
    action: Option<String>,
    /// The version, as the registry spells it
    #[arg(long, value_name = "VERSION", value_parser = value::version)]
    version: Option<String>,
    /// The file that would be stored: its SHA-256 and size are computed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["sha256", "size"])]
    file: Option<PathBuf>,
    /// The SHA-256 of that file
    #[arg(long, value_name = "HEX", value_parser = value::sha256)]
    sha256: Option<[u8; 32]>,
    /// The size of that file in bytes
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// The uploading client's address
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Exists {
    Yes,
    No,
}

impl Verify {
    pub(super) fn run(self) -> Ended {
        let secrets = read_registry_secrets(&self.secrets).map_err(|faults| Failed::new(faults.to_string()))?;
        let action = self.action()?;
        let package = PackageName::parse(secrets.ecosystem, &self.package)
            .map_err(|error| Failed::new(format!("--package {error}")))?;
        let file = self.file.as_ref().map(|path| Artifact::read(path)).transpose()?;
        let token = read_token(self.token.as_ref())?;
        // Only caveats of the codec `text` say for which registries a token is.
        if secrets.codec != Codec::Text && self.registry.as_ref().is_some_and(|asked| *asked != secrets.registry) {
            let message = format!("--registry: these secrets are for tokens of `{}` alone", secrets.registry);
            return Err(Failed::new(message));
        }
        let facts = Facts {
            registry: self.registry.as_ref().unwrap_or(&secrets.registry),
            now: SystemClock.now(),
            action: &action,
            package: &package,
            version: self.version.as_deref(),
            sha256: file.as_ref().map(|file| file.sha256).or(self.sha256),
            size: file.as_ref().map(|file| file.size).or(self.size),
            client_ip: self.client_ip,
        };
        let decided = secrets.decide(token.expose(), &facts);
        let allowed = decided.is_ok();
        match (&decided, self.json) {
            (Ok(authentic), true) => say_json(&allowed_json(authentic))?,
            (Ok(authentic), false) => say(allowed_lines(authentic)?.text()),
            (Err(refused), true) => say_json(&refused_json(refused))?,
            (Err(refused), false) => say(refused_lines(refused).text()),
        }
        Ok(allowed)
    }

    /// As the service derives it, so that `create` is never mistaken for `upload`.
    fn action(&self) -> Result<Action, Failed> {
        match (&self.action, self.exists) {
            (Some(name), _) if matches!(name.as_str(), Action::UPLOAD | Action::CREATE) => {
                Err(Failed::new(format!("give --exists yes or --exists no instead of --action {name}")))
            }
            (Some(name), _) => Action::parse(name)
                .ok_or_else(|| Failed::new("--action takes a word of lower-case letters, such as `yank`")),
            (None, Some(Exists::No)) => Ok(Action::create()),
            // One of both options is required.
            (None, Some(Exists::Yes) | None) => Ok(Action::upload()),
        }
    }
}

fn allowed_json(authentic: &Authentic) -> serde_json::Value {
    let identifier = authentic.identifier();
    json!({
        "allowed": true,
        "offline": true,
        "not_known": NOT_KNOWN,
        "token": {
            "id": identifier.id.to_string(),
            "issued_at": identifier.id.issued_at().to_string(),
            "expires_at": authentic.expires_at().to_string(),
        },
        "publisher": identifier.provenance,
    })
}

fn refused_json(refused: &OfflineRefused) -> serde_json::Value {
    json!({"allowed": false, "offline": true, "code": refused.code(), "reasons": refused.reasons()})
}

fn allowed_lines(authentic: &Authentic) -> Result<Lines, Failed> {
    let mut lines = Lines::default();
    lines.add("allowed", "yes, as far as can be said offline");
    lines.add("expires at", &authentic.expires_at().to_string());
    lines.add_identifier(authentic.identifier())?;
    for fact in NOT_KNOWN {
        lines.add("not known", fact);
    }
    Ok(lines)
}

fn refused_lines(refused: &OfflineRefused) -> Lines {
    let mut lines = Lines::default();
    lines.add("allowed", "no");
    lines.add("code", refused.code().as_str());
    for reason in refused.reasons() {
        lines.add("reason", &reason);
    }
    lines
}
