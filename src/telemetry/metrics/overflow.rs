//! Whether all that happens still has its own series: what is beyond a metric's limit is counted in one.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;

use super::instrument::Maker;
use super::instrument::plain;

/// The label of the one series that has everything beyond the limit, as the exporter spells it.
const BEYOND: &str = "otel_metric_overflow";

#[derive(Debug)]
pub(super) struct Overflow {
    metrics: Arc<AtomicI64>,
}

impl Overflow {
    pub(super) fn new(make: &mut Maker) -> Self {
        let metrics = Arc::new(AtomicI64::new(0));
        let shown = Arc::clone(&metrics);
        make.gauge(
            "metrics_overflowed",
            [],
            "How many metrics have more series than they may, so that what is new is counted in one.",
            move || plain(Some(shown.load(Ordering::Relaxed))),
        );
        Self { metrics }
    }

    /// Looks through what was gathered: whether the gauge in it says something else, and from now on says this.
    pub(super) fn is_news(&self, families: &[MetricFamily]) -> bool {
        let count = families.iter().filter(|family| overflowed(family)).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.swap(count, Ordering::Relaxed) != count
    }
}

fn overflowed(family: &MetricFamily) -> bool {
    family.get_metric().iter().any(|series| series.get_label().iter().any(|label| label.name() == BEYOND))
}
