//! What the service writes to: the store that replicas share, and the audit log.

use std::time::Duration;

use super::Metrics;
use super::instrument::Asked;
use super::instrument::Count;
use super::instrument::Maker;
use super::instrument::Seconds;
use super::instrument::plain;
use super::requests::BUCKETS;

#[derive(Debug)]
pub(super) struct Stores {
    errors: Count<2>,
    duration: Seconds<1>,
    epoch: Asked<Option<i64>>,
    audit_dropped: Asked<Vec<(&'static str, u64)>>,
    audit_suppressed: Asked<Option<u64>>,
    audit_astray: Asked<Option<u64>>,
    /// How many events wait, and how many may.
    audit_queue: Asked<Option<(usize, usize)>>,
}

impl Stores {
    pub(super) fn new(make: &mut Maker) -> Self {
        let epoch: Asked<Option<i64>> = Asked::default();
        let shown = epoch.clone();
        make.gauge(
            "store_epoch_timestamp_seconds",
            [],
            "The moment, in Unix time, since when the store has forgotten nothing, as this replica knows it.",
            move || plain(shown.read()),
        );
        let audit_dropped: Asked<Vec<(&'static str, u64)>> = Asked::default();
        let shown = audit_dropped.clone();
        make.total("audit_dropped", ["decision"], "Audit events that were lost, by the decision in them.", move || {
            shown.read().into_iter().map(|(decision, lost)| ([decision.into()], lost)).collect()
        });
        let audit_suppressed: Asked<Option<u64>> = Asked::default();
        let shown = audit_suppressed.clone();
        make.total(
            "audit_suppressed",
            [],
            "Refused exchanges, and revocations by holders without an answer of the store, that were not recorded, since too many came.",
            move || plain(shown.read()),
        );
        let audit_astray: Asked<Option<u64>> = Asked::default();
        let shown = audit_astray.clone();
        make.total(
            "audit_file_astray",
            [],
            "Times that the audit log's file was renamed or removed and could not be opened anew.",
            move || plain(shown.read()),
        );
        let audit_queue: Asked<Option<(usize, usize)>> = Asked::default();
        let mut queue = |name, help, part: fn((usize, usize)) -> usize| {
            let shown = audit_queue.clone();
            let number = move |it| i64::try_from(part(it)).unwrap_or(i64::MAX);
            make.gauge(name, [], help, move || plain(shown.read().map(number)));
        };
        queue("audit_queue_depth", "Audit events that wait to be written.", |(depth, _)| depth);
        queue(
            "audit_queue_capacity",
            "How many audit events may wait; exchanges are refused before that.",
            |(_, most)| most,
        );
        Self {
            errors: make.counter(
                "store_errors",
                ["operation", "reason"],
                "Calls of the shared store that failed, by operation and reason.",
            ),
            duration: make.seconds(
                "store_duration",
                ["operation"],
                &BUCKETS,
                "How long a call of the shared store took.",
            ),
            epoch,
            audit_dropped,
            audit_suppressed,
            audit_astray,
            audit_queue,
        }
    }
}

impl Metrics {
    /// Counts a call of the shared store: what was asked, and why it failed if it did.
    pub fn store_call(&self, operation: &'static str, error: Option<&'static str>, took: Duration) {
        self.stores.duration.record([operation.into()], took);
        if let Some(reason) = error {
            self.stores.errors.one([operation.into(), reason.into()]);
        }
    }

    /// Takes from there, at each rendering, since when the store has forgotten nothing, in seconds of Unix time; `None`
    /// while that is not known.
    pub fn observe_store_epoch(&self, epoch: impl Fn() -> Option<i64> + Send + Sync + 'static) {
        self.stores.epoch.of(epoch);
    }

    /// Takes the number of lost audit events from there, at each rendering, by the decision in them.
    pub fn observe_audit_dropped(&self, dropped: impl Fn() -> [(&'static str, u64); 3] + Send + Sync + 'static) {
        self.stores.audit_dropped.of(move || dropped().to_vec());
    }

    /// Takes from there, at each rendering, how many refused exchanges were not recorded since too many came.
    pub fn observe_audit_suppressed(&self, suppressed: impl Fn() -> u64 + Send + Sync + 'static) {
        self.stores.audit_suppressed.of(move || Some(suppressed()));
    }

    /// Takes from there, at each rendering, how often the audit log's file could not be opened anew.
    pub fn observe_audit_astray(&self, astray: impl Fn() -> u64 + Send + Sync + 'static) {
        self.stores.audit_astray.of(move || Some(astray()));
    }

    /// Takes from there, at each rendering, how many audit events wait, and how many may.
    pub fn observe_audit_queue(&self, queue: impl Fn() -> (usize, usize) + Send + Sync + 'static) {
        self.stores.audit_queue.of(move || Some(queue()));
    }
}
