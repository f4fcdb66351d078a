//! Every instrument and every label of `/metrics`, by topic. [`Metrics::described`] lists them.
//!
//! INVARIANT: a label's value is a code, or an id from the configuration, never a text from a token: whoever sends
//! requests cannot add a time series.

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::Instrument;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::metrics::Stream;
use prometheus::Registry;
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

mod exports;
mod instrument;
mod issuers;
mod keys;
mod overflow;
mod policy;
mod requests;
mod rules;
mod stores;

use self::exports::Exports;
pub use self::instrument::Described;
pub use self::instrument::Kind;
use self::instrument::Maker;
use self::instrument::NAMESPACE;
pub use self::issuers::IssuerReading;
use self::issuers::Issuers;
pub use self::keys::KeyReading;
use self::keys::Keys;
use self::overflow::Overflow;
pub use self::policy::BundleReading;
use self::policy::Policies;
use self::requests::Requests;
pub use self::rules::MOST_NAMED_RULES;
use self::rules::Rules;
pub use self::rules::UNNAMED;
use self::stores::Stores;

/// What a label says when no registry or issuer is known yet.
pub const NONE: &str = "none";
/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The instruments.
#[derive(Debug)]
pub struct Metrics {
    requests: Requests,
    rules: Rules,
    policy: Policies,
    issuers: Issuers,
    keys: Keys,
    stores: Stores,
    exports: Exports,
    overflow: Overflow,
    described: Vec<Described>,
    registry: Registry,
    // Keeps the instruments' readings alive.
    _provider: SdkMeterProvider,
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
            .with_namespace(NAMESPACE)
            .without_target_info()
            .scope_info_enabled(false)
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let limited = |instrument: &Instrument| {
            Stream::builder().with_cardinality_limit(requests::most_series(instrument.name())?).build().ok()
        };
        let provider = SdkMeterProvider::builder().with_reader(exporter).with_view(limited).build();
        let mut make = Maker::new(provider.meter(NAMESPACE));
        make.gauge("build_info", ["version"], "The running version.", || vec![([env!("CARGO_PKG_VERSION").into()], 1)]);
        Ok(Self {
            requests: Requests::new(&mut make),
            rules: Rules::new(&mut make),
            policy: Policies::new(&mut make),
            issuers: Issuers::new(&mut make),
            keys: Keys::new(&mut make),
            stores: Stores::new(&mut make),
            exports: Exports::new(&mut make),
            overflow: Overflow::new(&mut make),
            described: make.finish(),
            registry,
            _provider: provider,
        })
    }

    /// Everything that [`Metrics::render`] can show.
    pub fn described(&self) -> &[Described] {
        &self.described
    }

    /// What it all is at the moment, to be told in another form than [`Metrics::render`]'s.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        let families = self.registry.gather();
        if self.overflow.is_news(&families) { self.registry.gather() } else { families }
    }

    /// The text that `/metrics` answers with, of type [`CONTENT_TYPE`].
    pub fn render(&self) -> Result<String, MetricsError> {
        TextEncoder::new().encode_to_string(&self.gather()).map_err(|error| MetricsError(error.to_string()))
    }
}

#[cfg(test)]
mod tests;
