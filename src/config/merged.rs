//! The merged layers: each value is sound by itself, and what depends on another is decided here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::Value;
use ipnet::IpNet;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;

use super::layer;
use super::otlp::MergedOtlp;
use super::redis::MergedRedis;
use super::schema;
use crate::config::Audit;
use crate::config::AuditTarget;
use crate::config::KeyFiles;
use crate::config::Limits;
use crate::config::Listen;
use crate::config::Operations;
use crate::config::PolicyFiles;
use crate::config::Settings;
use crate::config::State;
use crate::config::Telemetry;
use crate::config::Tls;
use crate::policy::caller;
use crate::policy::caller::Caller;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;
use crate::telemetry::logs::LogFormat;

/// What the `config` crate yields: some sections are still in pieces.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Merged {
    listen: MergedListen,
    operations: MergedOperations,
    policy: PolicyFiles,
    keys: KeyFiles,
    state: MergedState,
    audit: MergedAudit,
    telemetry: MergedTelemetry,
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedTelemetry {
    #[serde(deserialize_with = "log_format")]
    log: LogFormat,
    level: String,
    otlp: MergedOtlp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedListen {
    address: SocketAddr,
    tls: MergedTls,
    #[serde(deserialize_with = "networks")]
    trusted_proxies: Vec<IpNet>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedTls {
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedOperations {
    address: SocketAddr,
    callers: Vec<MergedCaller>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedCaller {
    name: String,
    #[serde(deserialize_with = "digest")]
    key_sha256: [u8; 32],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedState {
    store: MergedStore,
    capacity: usize,
    redis: MergedRedis,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum MergedStore {
    Memory,
    Redis,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedAudit {
    sink: MergedSink,
    file: Option<PathBuf>,
    capacity: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum MergedSink {
    Stdout,
    File,
    Otlp,
}

impl Merged {
    /// Joins what belongs together; what does not fit is reported at the origin of the value to be changed.
    pub(super) fn settle(self, resolved: &Value, defaults: &Value, faults: &mut Faults) -> Settings {
        let written = |path: &str| layer::find(resolved, path).is_some_and(|value| value.origin().is_some());
        let changed = |path: &str| {
            let kind = |of| layer::find(of, path).map(|value| &value.kind);
            written(path) && kind(resolved) != kind(defaults)
        };
        let mut fault = |path: &str, message: &str, remedy: &str| {
            let origin = layer::find(resolved, path).map_or("default", layer::origin);
            faults.push(Place::whole(origin.into()), path.to_owned(), message, remedy);
        };
        let Self { listen, operations, policy, keys, state, audit, telemetry, limits } = self;

        let MergedTls { certificate_file, key_file } = listen.tls;
        // SECURITY: both kinds of token are credentials, and whoever reads one off the wire can publish.
        let exposed = !listen.address.ip().to_canonical().is_loopback();
        if exposed && certificate_file.is_none() && key_file.is_none() && listen.trusted_proxies.is_empty() {
            let message = "other machines reach it, and tokens would cross the network unencrypted";
            let remedy = "set `listen.tls`, or name the proxy that speaks https for it in `listen.trusted_proxies`";
            fault("listen.address", message, remedy);
        }
        let tls = match (certificate_file, key_file) {
            (Some(certificate_file), Some(key_file)) => Some(Tls { certificate_file, key_file }),
            (None, None) => None,
            (Some(_), None) => {
                fault("listen.tls.certificate_file", "has no key", "set `listen.tls.key_file` too");
                None
            }
            (None, Some(_)) => {
                fault("listen.tls.key_file", "has no certificate", "set `listen.tls.certificate_file` too");
                None
            }
        };
        if collide(listen.address, operations.address) {
            // Told where somebody wrote it.
            let path = if written("operations.address") { "operations.address" } else { "listen.address" };
            let message = format!("`{}` and `{}` are one listener", listen.address, operations.address);
            fault(path, &message, "give each its own port: the operators' side must never be public");
        }
        let redis = match state.store {
            MergedStore::Redis => {
                if changed("state.capacity") {
                    let remedy = "remove it: Redis' own `maxmemory` says how much it holds";
                    fault("state.capacity", "is not used: the store is redis", remedy);
                }
                state.redis.settle(&mut fault)
            }
            MergedStore::Memory => {
                for path in schema::paths_in("state.redis").iter().filter(|path| changed(path)) {
                    fault(path, "is not used: the store is memory", "set `state.store: redis`, or remove this");
                }
                None
            }
        };
        let target = match (audit.sink, audit.file) {
            (MergedSink::Stdout, None) => AuditTarget::Stdout,
            (MergedSink::Otlp, None) => AuditTarget::Otlp,
            (MergedSink::File, Some(file)) => AuditTarget::File(file),
            (MergedSink::File, None) => {
                fault("audit.sink", "names no file", "set `audit.file` too");
                AuditTarget::Stdout
            }
            (sink @ (MergedSink::Stdout | MergedSink::Otlp), Some(_)) => {
                let named = if matches!(sink, MergedSink::Otlp) { "otlp" } else { "stdout" };
                let message = format!("is not used: the sink is {named}");
                fault("audit.file", &message, "set `audit.sink: file`, or remove this");
                AuditTarget::Stdout
            }
        };
        let MergedTelemetry { log, level, otlp } = telemetry;
        let otlp = otlp.settle(target == AuditTarget::Otlp, &changed, &mut fault);
        let telemetry = Telemetry { log, level, otlp };

        let listen = Listen { address: listen.address, tls, trusted_proxies: listen.trusted_proxies };
        let callers = operations.callers.into_iter();
        let callers = callers.map(|caller| Caller { name: caller.name, key_sha256: caller.key_sha256 }).collect();
        let operations = Operations { address: operations.address, callers };
        let state = State { redis, capacity: state.capacity };
        let audit = Audit { target, capacity: audit.capacity };
        let resolved = layer::redacted(resolved.clone());
        let facts = resolved.clone().try_deserialize().unwrap_or_default();
        let resolved = layer::to_yaml(&resolved);
        Settings { listen, operations, policy, keys, state, audit, telemetry, limits, resolved, facts }
    }
}

/// Whether two listeners would take the same port of the same address. Port 0 takes a free one.
fn collide(left: SocketAddr, right: SocketAddr) -> bool {
    let overlap = left.ip() == right.ip() || left.ip().is_unspecified() || right.ip().is_unspecified();
    left.port() == right.port() && left.port() != 0 && overlap
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 32], D::Error> {
    caller::digest_of(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("no SHA-256"))
}

/// A length of time in whole seconds.
pub(super) fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

/// The spelling of log lines, by name.
fn log_format<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LogFormat, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(D::Error::custom(format!("unknown log format `{other}`"))),
    }
}
