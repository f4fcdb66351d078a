//! Settings: how one instance is run. Listeners, directories, limits; read at start, and once more for who may operate it.
//!
//! Built-in defaults (`config/trustmint.yaml` itself), then files, then the environment, laid over each other by the
//! `config` crate. That crate coerces (`1.9` becomes 2, `5` becomes "5") and stops at the first fault, so each layer is
//! checked first, strictly, against one schema: unknown keys, wrong types and impossible values are all reported at
//! once, with file, line, key and remedy, also where a later layer hides them.
//!
//! What may be published is not decided here, and nothing here is a secret: keys and certificates are files, whose
//! readers are [`keys`] and [`tls`], and of operators' API keys only digests are written.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use config::Config;
use ipnet::IpNet;
use serde::Deserialize;

use crate::config::layer::Layer;
use crate::config::merged::Merged;
use crate::config::otlp::Otlp;
use crate::config::redis::Redis;
use crate::policy::caller::Caller;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;
use crate::telemetry::logs::LogFormat;

mod audit;
mod environment;
pub mod keys;
mod layer;
mod merged;
pub mod otlp;
pub mod redis;
pub mod registry_secrets;
mod schema;
mod secret_file;
pub mod tls;
mod watched;

/// The defaults, and the documentation of every key.
pub const DEFAULTS: &str = include_str!("../config/trustmint.yaml");

/// How one instance is run. Of what is read again while it runs only [`Operations::callers`] counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The public listener.
    pub listen: Listen,
    /// The operators' listener.
    pub operations: Operations,
    /// Where the policy is.
    pub policy: PolicyFiles,
    /// Where the master keys are.
    pub keys: KeyFiles,
    /// The store.
    pub state: State,
    /// The audit log.
    pub audit: Audit,
    /// Logs.
    pub telemetry: Telemetry,
    /// Bounds on what clients can occupy.
    pub limits: Limits,
    /// What [`Settings::to_yaml_redacted`] says.
    resolved: String,
    /// What [`Settings::to_json`] says.
    facts: serde_json::Value,
}

/// The public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// The certificate, if it speaks https.
    pub tls: Option<Tls>,
    /// Networks whose forwarded headers are believed. Never a whole address family.
    pub trusted_proxies: Vec<IpNet>,
}

/// The files of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM: the chain, leaf first.
    pub certificate_file: PathBuf,
    /// PEM: the private key.
    pub key_file: PathBuf,
}

/// The operators' listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operations {
    /// Where it listens; never the public listener's address.
    pub address: SocketAddr,
    /// Who may use its protected endpoints; with none, nobody.
    pub callers: Vec<Caller>,
}

/// Where the policy is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFiles {
    /// The directory of its YAML files.
    pub directory: PathBuf,
    /// How often that is looked at.
    #[serde(deserialize_with = "merged::seconds")]
    pub poll: Duration,
}

/// Where the master keys are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFiles {
    /// The directory of the key files.
    pub directory: PathBuf,
    /// How often that is looked at.
    #[serde(deserialize_with = "merged::seconds")]
    pub poll: Duration,
}

/// The store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The store in Redis; `None`: in this process alone.
    pub redis: Option<Redis>,
    /// Most bytes that the memory store holds.
    pub capacity: usize,
}

/// The audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Where events are written.
    pub target: AuditTarget,
    /// Events that may wait to be written.
    pub capacity: usize,
}

/// Where audit events are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTarget {
    /// Standard output.
    Stdout,
    /// The end of a file.
    File(PathBuf),
    /// The collector of [`Telemetry::otlp`], which is then there.
    Otlp,
}

/// Logs, and what is sent to a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Telemetry {
    /// How a log line is spelled.
    pub log: LogFormat,
    /// The least severe level that is written, or a list such as `info,trustmint=debug`: sound for `telemetry::logs`.
    pub level: String,
    /// The collector, if there is one.
    pub otlp: Option<Otlp>,
}

/// Bounds on what clients can occupy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Threads that serve requests; `None`: one per core.
    pub workers: Option<usize>,
    /// Most open connections of the public listener.
    pub connections: usize,
    /// How many calls of one client may be refused a minute before more are refused unseen; `None`: any number.
    pub refusals_per_client: Option<u32>,
    /// From the first byte of a request to the end of its headers.
    #[serde(deserialize_with = "merged::seconds")]
    pub read_timeout: Duration,
    /// How long the service goes on as before after SIGTERM, but for `/readyz`.
    #[serde(deserialize_with = "merged::seconds")]
    pub drain: Duration,
    /// How long running requests may go on after that.
    #[serde(deserialize_with = "merged::seconds")]
    pub shutdown_timeout: Duration,
}

/// Where settings are from.
#[derive(Clone, PartialEq, Eq)]
pub struct Sources {
    files: Vec<PathBuf>,
    /// Those variables that can be settings, as they were at the start.
    environment: Vec<(String, String)>,
}

/// Without the variables, which have digests of API keys.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { files, environment: _ } = self;
        f.debug_struct("Sources").field("files", files).finish_non_exhaustive()
    }
}

impl Sources {
    /// Files, of which later ones win over earlier ones, and an environment, which wins over all.
    pub fn new(files: Vec<PathBuf>, environment: impl Iterator<Item = (String, String)>) -> Self {
        Self { files, environment: environment.filter(|(name, _)| name.starts_with(environment::PREFIX)).collect() }
    }

    /// Reads the settings, as [`Settings::load`].
    pub fn load(&self) -> Result<Settings, Faults> {
        Settings::load(&self.files, self.environment.iter().cloned())
    }

    /// Whether they can be read again, and may then say something else.
    pub fn can_be_read_again(&self) -> bool {
        !self.files.is_empty() && self.gone().next().is_none()
    }

    /// Those that are no files, of which nothing is left once they were read: pipes, say.
    pub fn gone(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().filter(|file| !file.is_file()).map(PathBuf::as_path)
    }
}

impl Settings {
    /// Reads the settings: defaults, then `files` in order, then those variables of `environment` that are settings.
    /// Every fault of every layer is reported, and with any fault there are no settings; how values fit together is
    /// judged once each is sound.
    pub fn load(files: &[PathBuf], environment: impl Iterator<Item = (String, String)>) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let defaults = Layer::of_defaults(DEFAULTS, &mut faults);
        let files: Vec<Layer> = files.iter().filter_map(|file| Layer::of_file(file, &mut faults)).collect();
        let environment = environment::layer(environment, &mut faults);
        if !faults.is_empty() {
            return faults.into_result(None);
        }

        let unchanged = defaults.clone().unwrap_or_default().into_value();
        let mut layers = Config::builder();
        for layer in defaults.into_iter().chain(files).chain([environment]) {
            layers = layers.add_source(layer);
        }
        let settings = layers.build().and_then(|merged| {
            let resolved = merged.cache.clone();
            let sections: Merged = merged.try_deserialize()?;
            Ok(Some(sections.settle(&resolved, &unchanged, &mut faults)))
        });
        let settings = settings.unwrap_or_else(|error| {
            // The schema let pass what the types refuse: a defect of this program, told rather than hidden.
            faults.push(Place::whole("settings".into()), String::new(), error.to_string(), "report this as a defect");
            None
        });
        faults.into_result(settings)
    }

    /// Whether these are the same values, wherever they are written.
    pub fn is_same(&self, other: &Self) -> bool {
        self.operations.callers == other.operations.callers && self.starts_as(other)
    }

    /// Whether all values that are read at start only are the same.
    pub fn starts_as(&self, other: &Self) -> bool {
        let Self { listen, operations, policy, keys, state, audit, telemetry, limits, resolved: _, facts: _ } = self;
        let Operations { address, callers: _ } = operations;
        (listen, address, policy, keys) == (&other.listen, &other.operations.address, &other.policy, &other.keys)
            && (state, audit, telemetry, limits) == (&other.state, &other.audit, &other.telemetry, &other.limits)
    }

    /// The resolved settings, as loaded, as YAML: each value with where it came from. Files are named, never shown; of
    /// an API key's digest the beginning is.
    pub fn to_yaml_redacted(&self) -> &str {
        &self.resolved
    }

    /// The resolved settings for programs: lengths of time in seconds, sizes in bytes.
    pub const fn to_json(&self) -> &serde_json::Value {
        &self.facts
    }
}
