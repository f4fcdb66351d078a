//! What came of sending, by signal.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Spans, by the request.
    Traces,
    /// What `/metrics` shows.
    Metrics,
    /// Lines of the service's log.
    Logs,
    /// Audit events.
    Audit,
}

impl Signal {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Traces, Self::Metrics, Self::Logs, Self::Audit];

    /// Its name in labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Audit => "audit",
        }
    }

    /// Where it goes below the endpoint.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Traces => "v1/traces",
            Self::Metrics => "v1/metrics",
            Self::Logs | Self::Audit => "v1/logs",
        }
    }
}

/// How a request to the collector ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was taken.
    Taken,
    /// It was not, and is to be tried again.
    Later,
    /// It was not, and never will be.
    Refused,
}

impl Ended {
    const ALL: [Self; 3] = [Self::Taken, Self::Later, Self::Refused];

    const fn name(self) -> &'static str {
        match self {
            Self::Taken => "ok",
            Self::Later => "unavailable",
            Self::Refused => "refused",
        }
    }
}

/// Counts, for metrics.
#[derive(Debug, Default)]
pub struct Tally {
    traces: Counts,
    metrics: Counts,
    logs: Counts,
    audit: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    later: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    /// Every signal with every way that a request can end, and how many did.
    pub fn exports(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        Signal::ALL.into_iter().flat_map(move |signal| {
            let count =
                move |ended| (signal.name(), Ended::name(ended), self.of(signal).at(ended).load(Ordering::Relaxed));
            Ended::ALL.into_iter().map(count)
        })
    }

    /// How many requests' traces, readings of the metrics and lines of the log were lost, by signal. Of the audit log its own
    /// metric tells.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let own = Signal::ALL.into_iter().filter(|signal| *signal != Signal::Audit);
        own.map(|signal| (signal.name(), self.of(signal).dropped.load(Ordering::Relaxed)))
    }

    pub(super) fn ended(&self, signal: Signal, ended: Ended) {
        self.of(signal).at(ended).fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn lose(&self, signal: Signal, items: u64) {
        self.of(signal).dropped.fetch_add(items, Ordering::Relaxed);
    }

    const fn of(&self, signal: Signal) -> &Counts {
        match signal {
            Signal::Traces => &self.traces,
            Signal::Metrics => &self.metrics,
            Signal::Logs => &self.logs,
            Signal::Audit => &self.audit,
        }
    }
}

impl Counts {
    const fn at(&self, ended: Ended) -> &AtomicU64 {
        match ended {
            Ended::Taken => &self.taken,
            Ended::Later => &self.later,
            Ended::Refused => &self.refused,
        }
    }
}
