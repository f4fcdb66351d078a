//! Traces, metrics, logs and the audit log by OpenTelemetry's protocol: protobuf over HTTP (OTLP 1.x).
//!
//! Requests never wait for it. What is to be sent is put into bounded outboxes, and when one is full what comes is dropped
//! and counted. A thread of its own empties them; a batch that the collector does not take now is held until it does, and
//! one that it will never take is dropped and counted. Only the audit log is waited for, by its own writer
//! ([`AuditStream`]).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use url::Url;
use zeroize::Zeroizing;

use crate::secret::hex;
use crate::secret::random_bytes;

mod audit;
mod client;
mod encode;
mod exporter;
mod logs;
mod outbox;
mod standing;
mod tally;

pub use self::audit::AuditStream;
pub use self::exporter::Exporter;
pub(super) use self::logs::Records;
pub(super) use self::outbox::Outbox;
pub use self::outbox::Outboxes;
pub use self::tally::Signal;
pub use self::tally::Tally;

/// Headers for the collector, as pairs of names and values. The values are secrets.
pub type Headers = Vec<(String, Zeroizing<String>)>;
/// Reads what a file holds at present; `None`: it cannot be used now.
pub type Reread<T> = Arc<dyn Fn() -> Option<T> + Send + Sync>;

/// Where telemetry goes, and which.
#[derive(Clone)]
pub struct Options {
    /// The collector: `/v1/traces` and so on are below it. `https`, or `http` on this machine.
    pub endpoint: Url,
    /// What is sent along, read anew for each request.
    pub headers: Option<Reread<Headers>>,
    /// The certificate authorities that are trusted, in PEM, read anew for each request; `None`: the machine's.
    pub authorities: Option<Reread<Zeroizing<String>>>,
    /// Whether requests are traced.
    pub traces: bool,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Whether the service's log is sent.
    pub logs: bool,
    /// How often metrics are sent.
    pub interval: Duration,
    /// Of how many requests one is traced; at least 1.
    pub sample_one_in: u32,
    /// Who sends it all.
    pub service: Service,
}

/// Without what the readers read.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("endpoint", &self.endpoint.as_str()).finish_non_exhaustive()
    }
}

/// Who sends telemetry: the resource that every message names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    name: String,
    /// Distinguishes replicas and runs.
    instance: String,
}

impl Service {
    /// This run of the service, under a name from the settings.
    pub fn new(name: String) -> Self {
        Self { name, instance: hex(&random_bytes::<16>().unwrap_or_default()) }
    }
}
