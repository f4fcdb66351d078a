//! Reloading: the policy directory becomes the policy in force, again and again.
//!
//! ```text
//!  every few seconds ─► look ─► at rest? ─┐
//!  SIGHUP, POST /policy/reload ───────────┴► read ─► judge ─┬─► compose ─► in force ─► a copy into the store
//!                                                           └─► refused: what is in force stays so
//! ```
//!
//! One reload at a time, whoever asks: everything that changes the policy goes through one lock, which is held while
//! files are read and never by a request. Reading and judging take seconds for a million rules, and freeing them takes
//! long too, so both happen on threads for what blocks.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use crate::app::in_force::InForce;
use crate::audit::AuditLog;
use crate::policy::Policy;
use crate::policy::watch::Directory;
use crate::policy::watch::Loaded;
use crate::policy::watch::MAX_DOCUMENT;
use crate::policy::watch::Next;
use crate::policy::watch::Reading;
use crate::policy::watch::Reference;
use crate::policy::watch::Seen;
use crate::policy::watch::Stability;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;
use crate::state::CopyKind;
use crate::state::MAX_COPY_AGE;
use crate::state::State;
use crate::telemetry::Metrics;
use crate::time::Clock;
use crate::time::Timestamp;

mod begin;
mod record;
mod status;

pub use self::begin::Begun;
pub use self::begin::begin;
pub use self::record::Trigger;
pub use self::status::Last;
pub use self::status::Outcome;
pub use self::status::Serving;
pub use self::status::Status;

/// Whose the store's copy is: there is one directory.
const OWNER: &str = "directory";
/// How often the store's copy is renewed: many times before it is too old to be believed.
const RENEW_EVERY: Duration = Duration::from_secs(60 * 60);
/// How long after a failure to keep the copy that is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Longest wait for the store: a reload is in force before it, and the next one waits behind it.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
/// How often a directory that changes while it is read is read again for somebody who waits for it.
const READINGS: usize = 5;

/// The policy directory, and all that makes its policy the one in force.
#[derive(Debug)]
pub struct Reloads {
    directory: Directory,
    every: Duration,
    parts: Parts,
    held: Mutex<Held>,
    status: ArcSwap<Status>,
}

/// Parts of the service that a reload reaches.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) in_force: Arc<InForce>,
    pub(super) state: Arc<State>,
    pub(super) audit: Arc<AuditLog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: Handle,
}

/// What one reload leaves to the next.
#[derive(Debug)]
struct Held {
    /// The policy of the directory alone.
    directory: Arc<Policy>,
    stability: Stability,
    references: Vec<Reference>,
    /// The directory's files that are in force, for the store. In memory, since the directory may hold something else
    /// by the time that the copy is due again.
    document: Option<Arc<[u8]>>,
    keep_at: Timestamp,
}

/// What a reading brought, when its policy has been put in force if that is to be.
struct Brought {
    references: Vec<Reference>,
    /// `None` if the directory was not at rest.
    judged: Option<(Seen, Result<Good, Faults>)>,
}

struct Good {
    directory: Arc<Policy>,
    changed: bool,
    sources: Vec<String>,
    document: Option<Vec<u8>>,
}

impl Reloads {
    /// Watches what was begun with, and is in force.
    pub(super) fn new(parts: Parts, begun: Begun, every: Duration) -> Self {
        let Begun { directory, seen, references, sources, document, serving, faults } = begun;
        let (policy, now) = (parts.in_force.policy(), parts.clock.now());
        // A tick may come a little early; two in one interval are not two looks.
        let mut stability = Stability::new(every / 2);
        stability.judged(seen);
        let outcome = if faults.is_empty() { Outcome::Activated } else { Outcome::Refused };
        let last = Last { at: now, outcome, faults: Arc::new(faults) };
        let status = Status { policy: Arc::clone(&policy), sources, serving, last };
        parts.metrics.policy_refused(serving != Serving::Directory);
        record::begun(&status);
        let document = document.map(Arc::from);
        let held =
            Mutex::new(Held { directory: Arc::clone(policy.policy()), stability, references, document, keep_at: now });
        Self { directory, every, parts, held, status: ArcSwap::from_pointee(status) }
    }

    /// What is in force and what came of the latest reading.
    pub fn status(&self) -> Arc<Status> {
        let status = self.status.load_full();
        let policy = self.parts.in_force.policy();
        if Arc::ptr_eq(&status.policy, &policy) {
            return status;
        }
        // A bundle came into force since. What is kept here must not keep the policy before it in memory.
        let status = Arc::new(Status { policy, ..Status::clone(&status) });
        self.status.store(Arc::clone(&status));
        status
    }

    /// Polls the directory for as long as it is polled itself.
    pub(super) async fn run(self: &Arc<Self>) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.poll().await;
        }
    }

    /// Looks at the directory, and reads it if it has changed and come to rest. Keeps the store's copy young.
    pub async fn poll(self: &Arc<Self>) {
        let mut held = self.held.lock().await;
        drop(self.status());
        let seen = self.look(&held).await;
        if held.stability.observe(&seen, self.parts.clock.now()) == Next::Judge {
            self.judge(&mut held, seen, &Trigger::Poll).await;
        }
        self.keep(&mut held).await;
    }

    /// Reads the directory now, and answers with what came of it. It runs to its end also if nobody waits for it.
    ///
    /// Who asks says that the files are whole: it is read twice in a row, not twice over two polls.
    pub async fn reload(self: &Arc<Self>, trigger: Trigger) -> Arc<Status> {
        let reloads = Arc::clone(self);
        let reload = self.parts.runtime.spawn(async move {
            let mut held = reloads.held.lock().await;
            let seen = reloads.look(&held).await;
            if held.stability.is_judged(&seen) {
                reloads.again();
            } else {
                reloads.judge(&mut held, seen, &trigger).await;
                reloads.keep(&mut held).await;
            }
            reloads.status()
        });
        reload.await.unwrap_or_else(|_| self.status())
    }

    async fn look(self: &Arc<Self>, held: &Held) -> Seen {
        let (reloads, references) = (Arc::clone(self), held.references.clone());
        let look = tokio::task::spawn_blocking(move || {
            reloads.parts.in_force.let_go();
            reloads.directory.look(&references)
        });
        look.await.unwrap_or_else(|_| Seen::Unreadable("looking at it failed".to_owned()))
    }

    /// What was judged before is there still: the answer is the one that it got.
    fn again(&self) {
        let mut status = Status::clone(&self.status.load());
        status.last.at = self.parts.clock.now();
        if status.last.faults.is_empty() {
            status.last.outcome = Outcome::Unchanged;
        }
        self.parts.metrics.policy_reload(status.last.outcome.as_str());
        self.status.store(Arc::new(status));
    }

    /// Reads and judges; for a poll exactly what it has `seen`.
    async fn judge(self: &Arc<Self>, held: &mut Held, seen: Seen, trigger: &Trigger) {
        let (reloads, directory) = (Arc::clone(self), Arc::clone(&held.directory));
        let expected = Some(seen.clone()).filter(|_| *trigger == Trigger::Poll);
        let brought = tokio::task::spawn_blocking(move || reloads.bring(directory, expected.as_ref())).await;
        let brought = brought.unwrap_or_else(|_| {
            // A defect must not be met again every few seconds.
            let faults = self.fault("reading the policy failed", "report this as a defect");
            Brought { references: held.references.clone(), judged: Some((seen, Err(faults))) }
        });
        held.references = brought.references;
        let before = self.status();
        let judged = match brought.judged {
            Some((seen, judged)) => {
                held.stability.judged(seen);
                judged
            }
            // The polls go on; somebody who waits is told.
            None if matches!(trigger, Trigger::Poll) => return,
            None => {
                let remedy = "write a file beside it and rename it into its place, then reload again";
                let faults = Arc::new(self.fault("the policy changes while it is read", remedy));
                let last = Last { at: self.parts.clock.now(), outcome: Outcome::Unsettled, faults };
                return self.conclude(Status { last, ..Status::clone(&before) }, trigger);
            }
        };
        let at = self.parts.clock.now();
        let status = match judged {
            Ok(good) => {
                let outcome = if good.changed { Outcome::Activated } else { Outcome::Unchanged };
                held.directory = good.directory;
                held.document = good.document.map(Arc::from);
                held.keep_at = at;
                if held.document.is_none() {
                    tracing::warn!(limit = MAX_DOCUMENT, "the policy is too large for the store to keep a copy of it");
                }
                let last = Last { at, outcome, faults: Arc::default() };
                let policy = self.parts.in_force.policy();
                Status { policy, sources: good.sources, serving: Serving::Directory, last }
            }
            Err(faults) => {
                let serving = if before.serving == Serving::Copy { Serving::Copy } else { Serving::LastGood };
                let last = Last { at, outcome: Outcome::Refused, faults: Arc::new(faults) };
                Status { serving, last, ..Status::clone(&before) }
            }
        };
        self.conclude(status, trigger);
    }

    /// Reads the directory at rest, and puts what it holds in force if that is good and new. Blocks.
    fn bring(&self, mut directory: Arc<Policy>, expected: Option<&Seen>) -> Brought {
        let (reading, at_rest) = match expected {
            Some(seen) => {
                let reading = self.directory.read();
                let at_rest = reading.seen == *seen;
                (reading, at_rest)
            }
            None => self.read_at_rest(),
        };
        let Reading { seen, references, judged } = reading;
        let judged = at_rest.then(|| {
            judged.map(|Loaded { policy, sources, document }| {
                let changed = policy.revision() != directory.revision();
                if changed {
                    directory = Arc::new(policy);
                    self.parts.in_force.activate(Arc::clone(&directory));
                }
                Good { directory, changed, sources, document }
            })
        });
        Brought { references, judged: judged.map(|judged| (seen, judged)) }
    }

    fn read_at_rest(&self) -> (Reading, bool) {
        let read = || {
            let reading = self.directory.read();
            let at_rest = self.directory.look(&reading.references) == reading.seen;
            (reading, at_rest)
        };
        let mut last = read();
        for _ in 1..READINGS {
            if last.1 {
                break;
            }
            last = read();
        }
        last
    }

    fn conclude(&self, status: Status, trigger: &Trigger) {
        self.parts.metrics.policy_reload(status.last.outcome.as_str());
        self.parts.metrics.policy_refused(status.serving != Serving::Directory);
        record::concluded(&status, trigger, &self.parts.audit);
        self.status.store(Arc::new(status));
    }

    /// Lets other replicas have the files that are in force, and this one after a restart.
    async fn keep(&self, held: &mut Held) {
        let now = self.parts.clock.now();
        let Some(document) = held.document.as_ref().filter(|_| held.keep_at <= now) else { return };
        let (revision, until) = (held.directory.revision(), now.plus(MAX_COPY_AGE));
        let put = self.parts.state.put_copy(CopyKind::Policy, OWNER, now, revision, document, until);
        let kept = tokio::time::timeout(STORE_PATIENCE, put).await;
        held.keep_at = now.plus(if matches!(kept, Ok(Ok(()))) { RENEW_EVERY } else { RETRY_AFTER });
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the store keeps no copy of the policy"),
            Err(_) => tracing::warn!("the store did not keep a copy of the policy in time"),
        }
    }

    fn fault(&self, message: &str, remedy: &str) -> Faults {
        let mut faults = Faults::new();
        let place = Place::whole(Arc::from(self.directory.path().display().to_string()));
        faults.push(place, String::new(), message, remedy);
        faults
    }
}
