//! What is sent to a collector by OTLP, and what was not.

use std::sync::Arc;

use super::Metrics;
use super::instrument::Asked;
use super::instrument::Maker;
use crate::telemetry::otlp::Tally;

#[derive(Debug)]
pub(super) struct Exports {
    tally: Asked<Option<Arc<Tally>>>,
}

impl Exports {
    pub(super) fn new(make: &mut Maker) -> Self {
        let tally: Asked<Option<Arc<Tally>>> = Asked::default();
        let shown = tally.clone();
        make.total(
            "otlp_exports",
            ["signal", "outcome"],
            "Messages sent to the collector, by signal and outcome.",
            move || {
                let counted = shown.read();
                let series = |(signal, outcome, count): (&'static str, &'static str, u64)| {
                    ([signal.into(), outcome.into()], count)
                };
                counted.iter().flat_map(|tally| tally.exports()).map(series).collect()
            },
        );
        let shown = tally.clone();
        make.total(
            "otlp_dropped",
            ["signal"],
            "Traces of requests, readings of metrics and log lines that did not get to the collector.",
            move || {
                let counted = shown.read();
                let series = |(signal, count): (&'static str, u64)| ([signal.into()], count);
                counted.iter().flat_map(|tally| tally.dropped()).map(series).collect()
            },
        );
        Self { tally }
    }
}

impl Metrics {
    /// Takes from there, at each rendering, what came of sending.
    pub fn observe_exports(&self, tally: Arc<Tally>) {
        self.exports.tally.of(move || Some(Arc::clone(&tally)));
    }
}
