//! What waits to be sent: bounded, and put there without waiting.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::logs::Record;
use super::logs::Records;
use super::tally::Signal;
use super::tally::Tally;
use crate::telemetry::trace::Span;
use crate::telemetry::trace::Tracer;
use crate::time::Clock;

/// Most requests' traces that wait, and most lines of the log: about 4 MiB each at the worst.
const MOST: usize = 2048;
/// With how many the exporter is woken before its time.
const MANY: usize = 512;

/// Where traces and log lines are put, before it is known where they go.
#[derive(Debug, Clone)]
pub struct Outboxes {
    pub(in crate::telemetry) traces: Outbox<Vec<Span>>,
    pub(in crate::telemetry) logs: Outbox<Record>,
    pub(super) tally: Arc<Tally>,
    pub(super) bell: Arc<Bell>,
}

impl Default for Outboxes {
    fn default() -> Self {
        Self::new()
    }
}

impl Outboxes {
    /// Empty ones.
    pub fn new() -> Self {
        let (tally, bell) = (Arc::new(Tally::default()), Arc::new(Bell::default()));
        Self {
            traces: Outbox::new(Signal::Traces, &tally, &bell),
            logs: Outbox::new(Signal::Logs, &tally, &bell),
            tally,
            bell,
        }
    }

    /// Traces one request in `one_in` into here.
    pub fn tracer(&self, one_in: u32, clock: Arc<dyn Clock>) -> Tracer {
        Tracer::new(one_in, clock, self.traces.clone())
    }

    /// What takes the service's log into here.
    pub fn log(&self, clock: Arc<dyn Clock>) -> Records {
        Records::new(clock, self.logs.clone())
    }

    /// What came of sending, for metrics.
    pub const fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
}

/// What waits, of one kind.
pub(in crate::telemetry) struct Outbox<T>(Arc<Inner<T>>);

struct Inner<T> {
    items: Mutex<VecDeque<T>>,
    signal: Signal,
    tally: Arc<Tally>,
    bell: Arc<Bell>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("signal", &self.0.signal).finish_non_exhaustive()
    }
}

impl<T> Outbox<T> {
    fn new(signal: Signal, tally: &Arc<Tally>, bell: &Arc<Bell>) -> Self {
        let (tally, bell) = (Arc::clone(tally), Arc::clone(bell));
        Self(Arc::new(Inner { items: Mutex::default(), signal, tally, bell }))
    }

    /// Takes it, or drops and counts it.
    pub(in crate::telemetry) fn put(&self, item: T) {
        let waiting = {
            let mut items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
            if items.len() < MOST {
                items.push_back(item);
                items.len()
            } else {
                drop(items);
                self.0.tally.lose(self.0.signal, 1);
                return;
            }
        };
        if waiting == MANY {
            self.0.bell.ring();
        }
    }

    /// The oldest, at most a batch of them.
    pub(in crate::telemetry) fn take(&self) -> Vec<T> {
        let mut items = self.0.items.lock().unwrap_or_else(PoisonError::into_inner);
        let count = items.len().min(MANY);
        items.drain(..count).collect()
    }
}

/// Wakes the exporter.
#[derive(Debug, Default)]
pub(super) struct Bell {
    state: Mutex<Rung>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Rung {
    due: bool,
    /// Whether the service ends, and whether the last was sent.
    closing: bool,
    closed: bool,
}

impl Bell {
    fn ring(&self) {
        self.change(|state| state.due = true);
    }

    /// Waits until it is rung, but no longer than `within`; whether the service ends.
    pub(super) fn wait(&self, within: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, within, |state| !state.due && !state.closing);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.due = false;
        state.closing
    }

    /// Has the last be sent, and waits for that no longer than `within`; whether it was.
    pub(super) fn close(&self, within: Duration) -> bool {
        self.change(|state| state.closing = true);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, within, |state| !state.closed);
        waited.is_ok_and(|(state, _)| state.closed)
    }

    /// The last was sent.
    pub(super) fn closed(&self) {
        self.change(|state| state.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut Rung)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}
