//! The bounded queue between requests and the thread that writes, and who may have how much of it.

use std::io;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use super::event::AuditDecision;
use super::event::AuditEvent;
use super::event::AuditKind;
use super::event::Spelled;
use super::sink::AuditSink;
use super::sink::Sink;
use super::writer;
use crate::time::Allowance;
use crate::time::Timestamp;

/// How long until one more refused exchange is recorded, when as many as may be were. At some kilobytes each these are a
/// few gigabytes a day.
const REFUSAL_EVERY: Duration = Duration::from_millis(100);
/// The same for those that may have used their ID token up, which takes a grant and a store that gives no answer.
const LOST_EVERY: Duration = Duration::from_millis(10);
/// How many of either are recorded however fast they come.
const REFUSALS_AT_ONCE: u32 = 2000;

/// The running log. Dropping it lets the writer finish what was recorded; [`AuditLog::flush`] waits for that.
///
/// SECURITY: the queue has lanes, so that when the sink is slow the last room is for what matters most.
///
/// | who | leaves free |
/// |---|---|
/// | what was refused or failed; verifications and introspections that were allowed | a quarter of the queue |
/// | exchanges that are about to mint ([`AuditLog::reserve`]) | an eighth |
/// | what was allowed besides: revocations, stops, lifts, reloads; stops and lifts that may be in force | nothing |
///
/// Anyone with a job at a shared provider can be refused as often as they like, and must not be able to push the record of
/// a publication out of the log, nor to keep others from publishing. So they may not fill the disk either: of refused
/// exchanges only so many are recorded ([`AuditLog::record_refusal`]).
#[derive(Debug)]
pub struct AuditLog {
    queue: Arc<Queue>,
    refusals: Mutex<Allowance>,
    /// That of exchanges which may have used their ID token up.
    lost: Mutex<Allowance>,
}

/// A place in the log, kept for the record of an upload token. It is spent by recording and given back when dropped.
#[derive(Debug)]
#[must_use = "a place that is dropped is given back"]
pub struct Place {
    queue: Arc<Queue>,
    spent: bool,
}

#[derive(Debug)]
struct Queue {
    events: mpsc::SyncSender<Spelled>,
    capacity: usize,
    recorded: AtomicU64,
    progress: Arc<Progress>,
}

/// How many events were lost, by the decision that they record.
#[derive(Debug, Default)]
struct Dropped {
    allow: AtomicU64,
    deny: AtomicU64,
    fault: AtomicU64,
}

impl Dropped {
    const fn of(&self, decision: AuditDecision) -> &AtomicU64 {
        match decision {
            AuditDecision::Allow => &self.allow,
            AuditDecision::Deny => &self.deny,
            AuditDecision::Fault => &self.fault,
        }
    }
}

/// What the log and its writer tell each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    dropped: Dropped,
    /// How many refusals were one too many to be recorded.
    suppressed: AtomicU64,
    /// How many places of the queue are taken: by events, or for some that are about to come.
    waiting: AtomicUsize,
    /// How often the sink's file could not be opened anew.
    pub(super) lost_files: AtomicU64,
    /// Whether something of what was written last was lost by the sink.
    pub(super) failing: AtomicBool,
    /// Whether nobody writes any more.
    ended: AtomicBool,
    /// How many recorded events were written, or lost by the sink.
    pub(super) settled: Mutex<u64>,
    pub(super) changed: Condvar,
}

impl Progress {
    /// One event was taken out of the queue. To be said after it was: whoever finds a place free finds room as well.
    pub(super) fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// An event that records this decision was lost.
    pub(super) fn lose(&self, decision: AuditDecision) {
        self.dropped.of(decision).fetch_add(1, Ordering::Relaxed);
    }

    fn dropped(&self) -> [(AuditDecision, u64); 3] {
        AuditDecision::ALL.map(|decision| (decision, self.dropped.of(decision).load(Ordering::Relaxed)))
    }

    /// So many more events were written or lost.
    pub(super) fn settle(&self, events: u64) {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        *settled = settled.saturating_add(events);
        drop(settled);
        self.changed.notify_all();
    }

    /// Nobody writes any more.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }
}

impl AuditLog {
    /// Opens the sink and starts the writer; at most `capacity` events wait for it.
    pub fn start(sink: AuditSink, capacity: usize) -> io::Result<Self> {
        let sink = Sink::open(sink)?;
        let (events, waiting) = mpsc::sync_channel(capacity);
        let progress = Arc::new(Progress::default());
        writer::start(sink, waiting, Arc::clone(&progress))?;
        let queue = Arc::new(Queue { events, capacity, recorded: AtomicU64::new(0), progress });
        let allowance = |every| Mutex::new(Allowance::new(every, REFUSALS_AT_ONCE));
        Ok(Self { queue, refusals: allowance(REFUSAL_EVERY), lost: allowance(LOST_EVERY) })
    }

    /// Keeps a place for the record of an upload token that is about to be minted; `None` while there is none to be had, or
    /// the sink loses what it is given. Never waits.
    ///
    /// SECURITY: the next event that the sink takes ends that: those of the exchanges that are refused meanwhile are
    /// recorded, so there is one.
    pub fn reserve(&self) -> Option<Place> {
        let queue = &self.queue;
        let free = !queue.progress.failing.load(Ordering::Acquire) && queue.enter(queue.capacity / 8);
        free.then(|| Place { queue: Arc::clone(queue), spent: false })
    }

    /// Hands the event over, or counts it as dropped. Never waits.
    pub fn record(&self, event: AuditEvent) {
        let queue = &self.queue;
        let kept = match (event.decision, event.event) {
            // Of operators alone.
            (AuditDecision::Fault, AuditKind::Stop | AuditKind::Lift) => 0,
            (AuditDecision::Deny | AuditDecision::Fault, _)
            | (AuditDecision::Allow, AuditKind::Verify | AuditKind::Introspect) => queue.capacity / 4,
            (AuditDecision::Allow, _) => 0,
        };
        if queue.enter(kept) {
            queue.send(&event);
        } else {
            queue.progress.lose(event.decision);
        }
    }

    /// Records an exchange that was refused or failed, or a holder's revocation that the store did not answer, if not too many
    /// were before `now`: at most 2,000 at once and ten a second; and of the exchanges that name an upload token, since they may have
    /// used their ID token up, as many besides and a hundred a second. The rest is counted ([`AuditLog::suppressed_reading`]). Never
    /// waits.
    ///
    /// SECURITY: one proven ID token, or upload token, can be sent again and again while it lasts, and each time yields an event.
    /// Whoever has no grant takes no room from an exchange that may have used its ID token up: without a record nobody could tell
    /// that from a theft.
    pub fn record_refusal(&self, event: AuditEvent, now: Timestamp) {
        let may_be_used = event.event == AuditKind::Exchange && event.token_id.is_some();
        let allowance = if may_be_used { &self.lost } else { &self.refusals };
        if allowance.lock().unwrap_or_else(PoisonError::into_inner).spend(now) {
            self.record(event);
        } else {
            self.queue.progress.suppressed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were lost.
    pub fn dropped(&self) -> u64 {
        self.queue.progress.dropped().iter().map(|(_, lost)| lost).sum()
    }

    /// A reading of how many events were lost, by the decision that they record, for metrics, which may outlive the log.
    pub fn dropped_reading(&self) -> impl Fn() -> [(&'static str, u64); 3] + Send + Sync + 'static {
        let progress = Arc::clone(&self.queue.progress);
        move || progress.dropped().map(|(decision, lost)| (decision.as_str(), lost))
    }

    /// A reading of how many refusals were not recorded, since too many came, for metrics, which may outlive the log.
    pub fn suppressed_reading(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let progress = Arc::clone(&self.queue.progress);
        move || progress.suppressed.load(Ordering::Relaxed)
    }

    /// A reading of how many places are taken, and how many there are, for metrics, which may outlive the log.
    pub fn queue_reading(&self) -> impl Fn() -> (usize, usize) + Send + Sync + 'static {
        let (progress, capacity) = (Arc::clone(&self.queue.progress), self.queue.capacity);
        move || (progress.waiting.load(Ordering::Relaxed), capacity)
    }

    /// A reading of how often the sink's file was renamed or removed and could not be opened anew, for metrics.
    pub fn lost_files_reading(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let progress = Arc::clone(&self.queue.progress);
        move || progress.lost_files.load(Ordering::Relaxed)
    }

    /// Waits until all that was recorded before is written or lost, but no longer than `within`; whether it is. For
    /// shutdown, not for the path of a request.
    pub fn flush(&self, within: Duration) -> bool {
        let Queue { recorded, progress, .. } = &*self.queue;
        let recorded = recorded.load(Ordering::Relaxed);
        let settled = progress.settled.lock().unwrap_or_else(PoisonError::into_inner);
        progress
            .changed
            .wait_timeout_while(settled, within, |settled| *settled < recorded)
            .is_ok_and(|(settled, _)| *settled >= recorded)
    }

    #[cfg(test)]
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.queue.progress)
    }
}

impl Queue {
    /// Takes a place, if more than `kept` are free and somebody writes.
    fn enter(&self, kept: usize) -> bool {
        // One step: who asks in vain takes nothing meanwhile from who does not.
        let taken = |waiting: usize| (waiting.saturating_add(kept) < self.capacity).then(|| waiting.saturating_add(1));
        !self.progress.ended.load(Ordering::Acquire)
            && self.progress.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, taken).is_ok()
    }

    fn leave(&self) {
        self.progress.waiting.fetch_sub(1, Ordering::AcqRel);
    }

    /// Hands over the event of somebody who has a place, for which there is always room.
    ///
    /// It is spelled here and not by the writer: what is allocated on one thread and freed on another costs the first its
    /// allocator's quick way, and an event is dozens of texts.
    fn send(&self, event: &AuditEvent) {
        let decision = event.decision;
        if event.spell().is_some_and(|spelled| self.events.try_send(spelled).is_ok()) {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        } else {
            self.leave();
            self.progress.lose(decision);
        }
    }
}

impl Place {
    /// Hands the event over.
    pub fn record(mut self, event: AuditEvent) {
        self.spent = true;
        self.queue.send(&event);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.spent {
            self.queue.leave();
        }
    }
}
