//! Every instrument and every label of `/metrics`, in one struct.
//!
//! INVARIANT: a label's value is a code, or an id from the configuration, never a text from a token: whoever sends
//! requests cannot add a time series.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Counter;
use opentelemetry::metrics::Histogram;
use opentelemetry::metrics::Meter;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::Registry;
use prometheus::TextEncoder;

use crate::escape::is_deceptive;

/// What a label says when no registry or issuer is known yet.
pub const NONE: &str = "none";
/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Upper bounds in seconds: from half a millisecond, a tenth of what a cached exchange may take, to the four seconds
/// after which clients give up.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// The longest label; ids in the configuration are shorter.
const LONGEST_LABEL: usize = 128;

/// The instruments.
#[derive(Debug)]
pub struct Metrics {
    exchanges: Counter<u64>,
    exchange_duration: Histogram<f64>,
    verifications: Counter<u64>,
    verification_duration: Histogram<f64>,
    verifications_by_old_lists: Counter<u64>,
    revocations: Counter<u64>,
    jwks_refreshes: Counter<u64>,
    responses: Counter<u64>,
    store_errors: Counter<u64>,
    store_duration: Histogram<f64>,
    rate_limited: Counter<u64>,
    policy_reloads: Counter<u64>,
    shadow_disagreements: Counter<u64>,
    keyring_reloads: Counter<u64>,
    keyring_refused: Arc<AtomicBool>,
    certificate: Arc<CertificateReading>,
    policy_refused: Arc<AtomicBool>,
    policy_revision: Arc<Mutex<Option<String>>>,
    bundle_refreshes: Counter<u64>,
    bundles: Arc<Mutex<Vec<BundleReading>>>,
    policy_warnings: Arc<Mutex<Vec<(&'static str, u64)>>>,
    meter: Meter,
    registry: Registry,
    // Keeps the instruments' readings alive.
    _provider: SdkMeterProvider,
}

/// A registry's bundle in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleReading {
    /// The registry.
    pub registry: String,
    /// Which one it is.
    pub serial: i64,
    /// Until when it is good, in seconds of Unix time.
    pub not_after: i64,
}

/// The listener's certificate.
#[derive(Debug, Default)]
struct CertificateReading {
    /// In seconds of Unix time; 0 where there is none.
    not_after: AtomicI64,
    refused: AtomicBool,
}

/// The instruments could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the metrics could not be set up: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// Instruments that have counted nothing; each call makes its own.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .with_namespace("trustmint")
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter("trustmint");

        let counter = |name: &'static str, help: &'static str| meter.u64_counter(name).with_description(help).build();
        let duration = |name: &'static str, help: &'static str| {
            let histogram = meter.f64_histogram(name).with_description(help).with_unit("s");
            histogram.with_boundaries(BUCKETS.to_vec()).build()
        };
        let policy_revision = Arc::new(Mutex::new(None::<String>));
        let revision = Arc::clone(&policy_revision);
        let _observed = meter
            .u64_observable_gauge("policy_info")
            .with_description("The policy that decides, by its revision.")
            .with_callback(move |observer| {
                if let Some(revision) = revision.lock().unwrap_or_else(PoisonError::into_inner).as_deref() {
                    observer.observe(1, &[label("revision", revision)]);
                }
            })
            .build();
        let policy_refused = Arc::new(AtomicBool::new(false));
        let refused = Arc::clone(&policy_refused);
        let _observed = meter
            .u64_observable_gauge("policy_refused")
            .with_description("1 while what the policy directory holds is refused, and an earlier policy decides.")
            .with_callback(move |observer| observer.observe(u64::from(refused.load(Ordering::Relaxed)), &[]))
            .build();
        let keyring_refused = Arc::new(AtomicBool::new(false));
        let refused = Arc::clone(&keyring_refused);
        let _observed = meter
            .u64_observable_gauge("keyring_refused")
            .with_description("1 while what the keys directory holds is refused, and the keys read before it are used.")
            .with_callback(move |observer| observer.observe(u64::from(refused.load(Ordering::Relaxed)), &[]))
            .build();
        let certificate = Arc::new(CertificateReading::default());
        observe_certificate(&meter, &certificate);
        let bundles = Arc::new(Mutex::new(Vec::new()));
        observe_bundles(&meter, "bundle_serial", "The serial of the registry's bundle in force.", &bundles, |it| {
            it.serial
        });
        let expiry = "The moment, in Unix time, from which on the registry's own rules grant nothing.";
        observe_bundles(&meter, "bundle_expiry_timestamp_seconds", expiry, &bundles, |it| it.not_after);
        let policy_warnings = Arc::new(Mutex::new(Vec::new()));
        let warnings = Arc::clone(&policy_warnings);
        let _observed = meter
            .u64_observable_gauge("policy_warnings")
            .with_description("Lint warnings of the policy that decides, by code.")
            .with_callback(move |observer| {
                for (code, count) in warnings.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    observer.observe(*count, &[KeyValue::new("code", *code)]);
                }
            })
            .build();
        let _observed = meter
            .u64_observable_gauge("build_info")
            .with_description("The running version.")
            .with_callback(|observer| observer.observe(1, &[KeyValue::new("version", env!("CARGO_PKG_VERSION"))]))
            .build();

        Ok(Self {
            exchanges: counter("exchanges", "Token exchanges, by outcome."),
            exchange_duration: duration("exchange_duration", "How long a token exchange took."),
            verifications: counter("verifications", "Verifications of upload tokens, by outcome."),
            verification_duration: duration("verification_duration", "How long a verification took."),
            verifications_by_old_lists: counter(
                "verifications_by_old_lists",
                "Verifications that allowed something although the lists of what is revoked and stopped were old.",
            ),
            revocations: counter("revocations", "Revocations of upload tokens, by outcome."),
            jwks_refreshes: counter("jwks_refreshes", "Fetches of an issuer's keys, by result."),
            responses: counter("http_responses", "Responses of the public side, by endpoint and status."),
            store_errors: counter("store_errors", "Calls of the shared store that failed, by operation and reason."),
            store_duration: duration("store_duration", "How long a call of the shared store took."),
            rate_limited: counter("rate_limited", "Requests refused because a registry had used up an allowance."),
            policy_reloads: counter("policy_reloads", "Readings of the policy directory, by outcome."),
            policy_refused,
            keyring_reloads: counter(
                "keyring_reloads",
                "Readings of the keys directory that found something new, by outcome.",
            ),
            keyring_refused,
            certificate,
            shadow_disagreements: counter(
                "shadow_disagreements",
                "Exchanges to which a rule in shadow mode would have granted something that was not granted.",
            ),
            policy_revision,
            bundle_refreshes: counter("bundle_refreshes", "Polls for a registry's bundle, by result."),
            bundles,
            policy_warnings,
            meter,
            registry,
            _provider: provider,
        })
    }

    /// Counts an exchange: its code, the ids of its registry and issuer ([`NONE`] when unknown), how long it took.
    pub fn exchange(&self, code: &'static str, registry: &str, issuer: &str, took: Duration) {
        let labels = [KeyValue::new("code", code), label("registry", registry), label("issuer", issuer)];
        self.exchanges.add(1, &labels);
        let [_, registry, _] = labels;
        self.exchange_duration.record(took.as_secs_f64(), &[registry]);
    }

    /// Counts a verification.
    pub fn verification(&self, code: &'static str, registry: &str, took: Duration) {
        let labels = [KeyValue::new("code", code), label("registry", registry)];
        self.verifications.add(1, &labels);
        let [_, registry] = labels;
        self.verification_duration.record(took.as_secs_f64(), &[registry]);
    }

    /// Counts a verification that allowed something by lists that were old, as its registry's policy has it.
    pub fn verification_by_old_lists(&self, registry: &str) {
        self.verifications_by_old_lists.add(1, &[label("registry", registry)]);
    }

    /// Counts a revocation.
    pub fn revocation(&self, code: &'static str) {
        self.revocations.add(1, &[KeyValue::new("code", code)]);
    }

    /// Counts a response: of an endpoint as the route table spells it ([`NONE`] for a path that is none), its status.
    pub fn response(&self, endpoint: &str, status: u16) {
        self.responses.add(1, &[label("endpoint", endpoint), KeyValue::new("status", i64::from(status))]);
    }

    /// Counts a request that was refused because a registry had used up an allowance.
    pub fn rate_limited(&self, allowance: &'static str, registry: &str) {
        self.rate_limited.add(1, &[KeyValue::new("allowance", allowance), label("registry", registry)]);
    }

    /// Counts a fetch of an issuer's keys; `result` is `ok` or a reason.
    pub fn jwks_refresh(&self, issuer: &str, result: &'static str) {
        self.jwks_refreshes.add(1, &[label("issuer", issuer), KeyValue::new("result", result)]);
    }

    /// Counts a call of the shared store: what was asked, and why it failed if it did.
    pub fn store_call(&self, operation: &'static str, error: Option<&'static str>, took: Duration) {
        let operation = KeyValue::new("operation", operation);
        self.store_duration.record(took.as_secs_f64(), std::slice::from_ref(&operation));
        if let Some(reason) = error {
            self.store_errors.add(1, &[operation, KeyValue::new("reason", reason)]);
        }
    }

    /// Counts a reading of the policy directory that has changed, or that somebody asked for, by what came of it.
    pub fn policy_reload(&self, outcome: &'static str) {
        self.policy_reloads.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    /// Says whether what the policy directory holds is refused, so that an earlier policy goes on deciding.
    pub fn policy_refused(&self, refused: bool) {
        self.policy_refused.store(refused, Ordering::Relaxed);
    }

    /// Counts a reading of the keys directory that found something new, and says whether that is refused, so that the keys
    /// read before it go on.
    pub fn keyring_reload(&self, refused: bool) {
        let outcome = if refused { "refused" } else { "activated" };
        self.keyring_reloads.add(1, &[KeyValue::new("outcome", outcome)]);
        self.keyring_refused.store(refused, Ordering::Relaxed);
    }

    /// Says until when the listener's certificate is good, in seconds of Unix time.
    pub fn certificate_in_force(&self, not_after: i64) {
        self.certificate.not_after.store(not_after, Ordering::Relaxed);
    }

    /// Says whether what the listener's files hold is refused, so that the certificate read before goes on.
    pub fn certificate_reload(&self, refused: bool) {
        self.certificate.refused.store(refused, Ordering::Relaxed);
    }

    /// Counts an exchange to which this rule, in shadow mode, would have granted something that was not granted.
    pub fn shadow_disagreement(&self, rule: &str) {
        self.shadow_disagreements.add(1, &[label("rule", rule)]);
    }

    /// Counts a poll for a registry's bundle; `result` is `new`, `same` or a reason.
    pub fn bundle_refresh(&self, registry: &str, result: &'static str) {
        self.bundle_refreshes.add(1, &[label("registry", registry), KeyValue::new("result", result)]);
    }

    /// Says which bundles are in force from now on.
    pub fn bundles_in_force(&self, bundles: Vec<BundleReading>) {
        *self.bundles.lock().unwrap_or_else(PoisonError::into_inner) = bundles;
    }

    /// Says which policy decides from now on.
    pub fn policy_activated(&self, revision: &str) {
        *self.policy_revision.lock().unwrap_or_else(PoisonError::into_inner) = Some(revision.to_owned());
    }

    /// Says how many lint warnings of each code that policy has.
    pub fn policy_warned(&self, counts: impl Iterator<Item = (&'static str, u64)>) {
        *self.policy_warnings.lock().unwrap_or_else(PoisonError::into_inner) = counts.collect();
    }

    /// Takes the number of lost audit events from there, at each rendering.
    pub fn observe_audit_dropped(&self, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
        let _observed = self
            .meter
            .u64_observable_counter("audit_dropped")
            .with_description("Audit events that were lost.")
            .with_callback(move |observer| observer.observe(dropped(), &[]))
            .build();
    }

    /// The text that `/metrics` answers with, of type [`CONTENT_TYPE`].
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.registry.gather()).map_err(|error| MetricsError(error.to_string()))
    }
}

/// Nothing is said where the listener speaks no TLS.
fn observe_certificate(meter: &Meter, certificate: &Arc<CertificateReading>) {
    let observe = |name: &'static str, help: &'static str, reading: fn(&CertificateReading) -> i64| {
        let certificate = Arc::clone(certificate);
        let _observed = meter
            .i64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| {
                if certificate.not_after.load(Ordering::Relaxed) != 0 {
                    observer.observe(reading(&certificate), &[]);
                }
            })
            .build();
    };
    let help = "The moment, in Unix time, from which on clients refuse the listener's certificate.";
    observe("certificate_expiry_timestamp_seconds", help, |it| it.not_after.load(Ordering::Relaxed));
    let help = "1 while what the listener's files hold is refused, and the certificate read before goes on.";
    observe("certificate_refused", help, |it| i64::from(it.refused.load(Ordering::Relaxed)));
}

fn observe_bundles(
    meter: &Meter,
    name: &'static str,
    help: &'static str,
    bundles: &Arc<Mutex<Vec<BundleReading>>>,
    reading: fn(&BundleReading) -> i64,
) {
    let bundles = Arc::clone(bundles);
    let _observed = meter
        .i64_observable_gauge(name)
        .with_description(help)
        .with_callback(move |observer| {
            for bundle in bundles.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                observer.observe(reading(bundle), &[label("registry", &bundle.registry)]);
            }
        })
        .build();
}

/// SECURITY: a value that no configuration has shows as one constant, so that a caller's mistake costs one series and
/// not one a request. (Quotes and backslashes are escaped by the encoder.)
fn label(name: &'static str, value: &str) -> KeyValue {
    if value.len() <= LONGEST_LABEL && !value.contains(is_deceptive) {
        KeyValue::new(name, value.to_owned())
    } else {
        KeyValue::new(name, "invalid")
    }
}

#[cfg(test)]
mod tests;
