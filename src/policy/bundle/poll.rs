//! The bundles of all registries: the shell that asks for them, keeps copies in the store, and hands over what came.
//!
//! It decides nothing about pace ([`Schedule`]) or about what is accepted ([`accept`](super::accept)). It keeps three
//! promises:
//!
//! * One poll at a time for a registry, each in a task of its own, and what takes long on a thread for it: a server that is
//!   slow, or a bundle that is bad, holds no other registry up.
//! * No lock is held while anything is awaited.
//! * Nothing is fetched but from where the operator says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::task::spawn_blocking;
use tracing::error;
use tracing::info;
use tracing::warn;

use super::Bundle;
use super::BundleFault;
use super::Failing;
use super::Lapse;
use super::Last;
use super::Schedule;
use super::Signed;
use super::Source;
use super::signature_url;
use crate::identity::fetch::Answer;
use crate::identity::fetch::Fetch;
use crate::identity::fetch::FetchError;
use crate::identity::fetch::Limits;
use crate::policy::Policy;
use crate::secret;
use crate::secret::hex;
use crate::secret::sha256;
use crate::state::CopyKind;
use crate::state::MAX_COPY_AGE;
use crate::state::SealedCopy;
use crate::state::State;
use crate::state::StoreError;
use crate::time::Clock;
use crate::time::Timestamp;

/// Most polls that one tick begins: a thousand registries at start are asked over a minute, not at once.
const BEGUN_AT_ONCE: usize = 16;
/// Time for a bundle, and more for each megabyte that it may have.
const PATIENCE: Duration = Duration::from_secs(10);
const PER_MEGABYTE: Duration = Duration::from_secs(1);
/// What is read of a signature: 64 bytes, or enough of what is none to say so.
const SIGNATURE: Limits = Limits { body: 1024, time: PATIENCE };
/// Longest wait for the store: it is of use only if it is faster than the registry.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

/// Puts a registry's bundle from there in force, if it may come after the last one. Blocks.
pub type Accept =
    Box<dyn Fn(&str, &Source, &Signed<'_>, Option<Last>) -> Result<Arc<Bundle>, BundleFault> + Send + Sync>;
/// Called after each poll with the registry's name and what came of it: counts it.
pub type Report = Box<dyn Fn(&str, &Result<Brought, PollError>) + Send + Sync>;

/// What a poll brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// Another bundle, which is in force.
    New {
        /// Its serial.
        serial: i64,
    },
    /// The bundle that is in force.
    Same,
}

/// Why a poll brought no bundle. For operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PollError {
    /// It could not be had.
    #[error("the bundle was not fetched: {0}")]
    Fetch(FetchError),
    /// Its signature could not be had.
    #[error("the bundle's signature was not fetched: {0}")]
    Signature(FetchError),
    /// It is refused.
    #[error("{0}")]
    Refused(#[from] BundleFault),
    /// Reading it ended abnormally.
    #[error("reading the bundle failed")]
    Died,
}

impl PollError {
    /// A stable name, as a metric's label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Fetch(_) => "not-fetched",
            Self::Signature(_) => "signature-not-fetched",
            Self::Refused(fault) => fault.code(),
            Self::Died => "internal",
        }
    }
}

/// What operators see of one registry's bundle.
#[derive(Debug, Clone)]
pub struct Health {
    /// The registry.
    pub registry: String,
    /// When it will be asked next.
    pub next: Option<Timestamp>,
    /// Since when, and how often, polls have failed.
    pub failing: Option<Failing>,
    /// Why the latest poll failed, unless it succeeded.
    pub last_error: Option<PollError>,
}

/// The bundles of all registries that serve one.
#[derive(Debug)]
pub struct Bundles {
    shared: Arc<Shared>,
    lines: Mutex<BTreeMap<String, Arc<Line>>>,
}

struct Shared {
    fetch: Arc<dyn Fetch>,
    state: Arc<State>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    accept: Accept,
    report: Report,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("fetch", &self.fetch).field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// One registry's bundle as it is asked for.
#[derive(Debug)]
struct Line {
    registry: String,
    source: Arc<Source>,
    schedule: Mutex<Schedule>,
    known: Mutex<Known>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    /// What the next bundle must come after.
    last: Option<Last>,
    /// The entity tag of the bundle that was last in force.
    etag: Option<String>,
    error: Option<PollError>,
    /// Whether it was said that the bundle has expired.
    expired: bool,
}

impl Bundles {
    /// No registries yet. Copies are kept in `state`; polls run on `runtime`, which should outlive every caller's.
    pub fn new(
        fetch: Arc<dyn Fetch>,
        state: Arc<State>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        accept: Accept,
        report: Report,
    ) -> Self {
        let shared = Arc::new(Shared { fetch, state, clock, runtime, accept, report });
        Self { shared, lines: Mutex::default() }
    }

    /// Begins the polls that are due by this policy, for whoever likes to wait for their ends. To be called every second or
    /// so.
    pub fn poll_due(&self, policy: &Policy) -> Vec<JoinHandle<()>> {
        let now = self.shared.clock.now();
        let mut lines = self.lines_of(policy);
        for line in &lines {
            line.alert(policy, now);
        }
        // Those that wait longest first: where more are due than one tick begins, each has its turn.
        lines.sort_by_cached_key(|line| line.schedule().next());
        let due = lines.into_iter().filter(|line| line.schedule().due(now)).take(BEGUN_AT_ONCE);
        let begin = |line: Arc<Line>| {
            let present = policy.bundle(&line.registry).map(|bundle| bundle.last());
            let shared = Arc::clone(&self.shared);
            self.shared.runtime.spawn(async move { shared.poll(&line, present).await })
        };
        due.map(begin).collect()
    }

    /// A registry says that it has another bundle: the next poll comes forward, as far as its allowance permits. When it
    /// will be; `None` if the registry serves no bundle.
    pub fn notice(&self, policy: &Policy, registry: &str) -> Option<Timestamp> {
        let line = self.lines_of(policy).into_iter().find(|line| line.registry == registry)?;
        let at = line.schedule().notice(self.shared.clock.now());
        drop(self.poll_due(policy));
        Some(at)
    }

    /// What operators see, by registry.
    pub fn health(&self) -> Vec<Health> {
        let health = |line: &Arc<Line>| {
            let schedule = line.schedule();
            let (next, failing) = (schedule.next(), schedule.failing());
            Health { registry: line.registry.clone(), next, failing, last_error: line.known().error.clone() }
        };
        locked(&self.lines).values().map(health).collect()
    }

    /// The registries of this policy that serve bundles. One whose bundle is looked for in the same place and the same way
    /// as before goes on where it was; any other begins anew.
    fn lines_of(&self, policy: &Policy) -> Vec<Arc<Line>> {
        let mut lines = locked(&self.lines);
        let before = std::mem::take(&mut *lines);
        for registry in policy.registries().iter().filter(|registry| registry.enabled) {
            let Some(source) = &registry.bundle else { continue };
            let line = match before.get(&registry.id) {
                Some(line) if line.source == *source => Arc::clone(line),
                Some(line) if line.source.is_same_place(source) => {
                    Arc::new(Line::new(&registry.id, source, line.known().clone()))
                }
                Some(_) | None => Arc::new(Line::new(&registry.id, source, Known::default())),
            };
            lines.insert(registry.id.clone(), line);
        }
        lines.values().map(Arc::clone).collect()
    }
}

impl Line {
    fn new(registry: &str, source: &Arc<Source>, known: Known) -> Self {
        Self {
            registry: registry.to_owned(),
            source: Arc::clone(source),
            schedule: Mutex::new(Schedule::new(source.poll)),
            known: Mutex::new(known),
        }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        locked(&self.schedule)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        locked(&self.known)
    }

    fn remember(&self, last: Last, etag: Option<String>) {
        let mut known = self.known();
        (known.last, known.etag) = (Some(last), etag);
    }

    /// What is in force was there before, whether this line has seen it or not: it may be younger than the registry.
    fn recall(&self, present: Last) {
        if self.known().last.is_none_or(|last| last.serial < present.serial) {
            self.remember(present, None);
        }
    }

    /// Says once that the registry's own rules are no longer good.
    fn alert(&self, policy: &Policy, now: Timestamp) {
        let Some(registry) = policy.registries().by_id(&self.registry) else { return };
        let expired = match policy.lapse(registry, now) {
            Some(Lapse::Expired(since)) => Some(since),
            Some(Lapse::Missing) | None => None,
        };
        let said = std::mem::replace(&mut self.known().expired, expired.is_some());
        if let Some(since) = expired.filter(|_| !said) {
            error!(registry = self.registry, not_after = %since, "the registry's bundle has expired: its own rules grant nothing");
        }
    }

    /// The name under which replicas share the registry's bundle.
    ///
    /// SECURITY: with the way to it in it. What came from elsewhere, or was believed by another key, before a change of the
    /// policy, is another owner's.
    fn owner(&self) -> String {
        let reach = &self.source.reach;
        let networks = reach.allow_networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let parts = [
            self.source.url.as_str().as_bytes(),
            self.source.public_key.as_ref().map_or(&[], |key| key.0.as_slice()),
            reach.proxy.as_ref().map_or(&[], |url| url.as_str().as_bytes()),
            networks.as_bytes(),
            reach.ca_pem.as_deref().unwrap_or_default(),
        ];
        // The digest of each, so that no two ways are one text.
        let digests = parts.map(sha256).concat();
        format!("{}:{}", self.registry, hex(&sha256(&digests)))
    }
}

/// A poll under way, which has failed if nobody says how it ended.
struct Asking<'a> {
    line: &'a Line,
    clock: &'a dyn Clock,
    outcome: Option<Result<Brought, PollError>>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        // Jitter only spreads load, so a machine that has no randomness to give goes on without.
        let jitter = secret::random_bytes().map_or(0, u16::from_be_bytes);
        let outcome = self.outcome.take().unwrap_or(Err(PollError::Died));
        self.line.known().error = outcome.as_ref().err().cloned();
        match outcome {
            Ok(_) => self.line.schedule().succeeded(self.clock.now(), jitter),
            Err(_) => self.line.schedule().failed(self.clock.now(), jitter),
        }
    }
}

impl Shared {
    /// `present` is the registry's bundle in force.
    async fn poll(self: &Arc<Self>, line: &Arc<Line>, present: Option<Last>) {
        let mut asking = Asking { line, clock: &*self.clock, outcome: None };
        let adopted = match present {
            Some(present) => {
                line.recall(present);
                Some(present.digest)
            }
            // After a start, or where another directory had no place for it: the copy serves until the server has
            // answered.
            None => self.adopt(line, false).await,
        };
        let outcome = self.ask(line, adopted).await;
        if outcome.is_err() && present.is_some() {
            self.adopt(line, true).await;
        }
        log(&line.registry, &outcome);
        (self.report)(&line.registry, &outcome);
        asking.outcome = Some(outcome);
    }

    async fn ask(self: &Arc<Self>, line: &Arc<Line>, present: Option<[u8; 32]>) -> Result<Brought, PollError> {
        let known = line.known().clone();
        let holds = |digest: &[u8; 32]| present.as_ref() == Some(digest);
        let etag = known.etag.filter(|_| known.last.is_some_and(|last| holds(&last.digest)));
        let source = &line.source;
        let megabytes = u32::try_from(source.max_bytes >> 20).unwrap_or(u32::MAX);
        let limits = Limits { body: source.max_bytes, time: PATIENCE + PER_MEGABYTE * megabytes };
        let answer = self.fetch.get(&source.url, &source.reach, etag.as_deref(), limits).await;
        let document = match answer.map_err(PollError::Fetch)? {
            Answer::NotModified { .. } => return Ok(Brought::Same),
            Answer::Document(document) => document,
        };
        let signature = match source.public_key {
            None => None,
            Some(_) => Some(self.signature(source).await?),
        };
        let (shared, own) = (Arc::clone(self), Arc::clone(line));
        let (bytes, etag) = (document.bytes, document.etag);
        let proven = spawn_blocking(move || {
            let signed = Signed::fetched(&own.source, &bytes, signature.as_deref())?;
            Ok::<_, BundleFault>((*signed.digest(), bytes))
        });
        let (digest, bytes) = proven.await.map_err(|_| PollError::Died)??;
        if holds(&digest) {
            line.known().etag = etag;
            return Ok(Brought::Same);
        }
        // SECURITY: what another replica has accepted counts as seen. A server could else show an older bundle to each
        // replica that has not seen the newer one, whose copy it would then replace.
        let adopted = self.adopt(line, true).await;
        let last = line.known().last;
        if let Some(last) = last.filter(|_| adopted == Some(digest)) {
            line.remember(last, etag);
            return Ok(Brought::New { serial: last.serial });
        }
        let own = Arc::clone(line);
        let accepted = spawn_blocking(move || {
            let bundle = (shared.accept)(&own.registry, &own.source, &Signed::known(&bytes), last)?;
            Ok::<_, BundleFault>((shared.seal(&own, &bundle, &bytes), bundle))
        });
        let (copy, bundle) = accepted.await.map_err(|_| PollError::Died)??;
        line.remember(bundle.last(), etag);
        self.share(line, copy).await;
        Ok(Brought::New { serial: bundle.serial() })
    }

    async fn signature(&self, source: &Source) -> Result<Vec<u8>, PollError> {
        let answer = self.fetch.get(&signature_url(&source.url), &source.reach, None, SIGNATURE).await;
        match answer {
            Ok(Answer::Document(document)) => Ok(document.bytes),
            // Nothing was known that could be confirmed.
            Ok(Answer::NotModified { .. }) => Err(PollError::Signature(FetchError::Status(304))),
            Err(FetchError::Status(404 | 410)) => Err(PollError::Refused(BundleFault::Unsigned)),
            Err(error) => Err(PollError::Signature(error)),
        }
    }

    /// Puts the store's copy in force, if it is newer than what was; unless `newer` is demanded also the very one that
    /// was. Its digest. A store that is down is as if it had none.
    async fn adopt(self: &Arc<Self>, line: &Arc<Line>, newer: bool) -> Option<[u8; 32]> {
        let owner = line.owner();
        let held = self.state.held_copy(CopyKind::Bundle, &owner);
        let held = tokio::time::timeout(STORE_PATIENCE, held).await.ok()?.ok()??;
        let (shared, now) = (Arc::clone(self), self.clock.now());
        let copy =
            spawn_blocking(move || shared.state.open_copy(CopyKind::Bundle, &owner, &held, now)).await.ok()??;
        let before = line.known().last;
        let serial: i64 = copy.revision.parse().ok()?;
        let again = |before: Last| !newer && serial == before.serial && sha256(&copy.body) == before.digest;
        if before.is_some_and(|before| serial <= before.serial && !again(before)) {
            return None;
        }
        let (shared, own) = (Arc::clone(self), Arc::clone(line));
        let accepted = spawn_blocking(move || {
            // Sealed by a replica that has found it to be the registry's.
            let signed = Signed::known(&copy.body);
            let last = Last { serial, digest: *signed.digest() };
            ((shared.accept)(&own.registry, &own.source, &signed, before), last)
        });
        let (accepted, last) = accepted.await.ok()?;
        // SECURITY: also of one that is not good any more, so that no older one follows it.
        line.remember(last, None);
        match accepted {
            Ok(bundle) => {
                info!(registry = line.registry, serial, not_after = %bundle.not_after(), "the store's copy of the registry's bundle is used");
                Some(last.digest)
            }
            Err(fault) => {
                info!(
                    registry = line.registry,
                    serial, "the store's copy of the registry's bundle is not used: {fault}"
                );
                None
            }
        }
    }

    /// Lets other replicas have the bundle, and this one after a restart.
    ///
    /// INVARIANT: no bundle that came before it is good for longer than the copy is kept, so that a restart forgets no
    /// serial that matters.
    async fn share(&self, line: &Line, copy: Result<SealedCopy, StoreError>) {
        let until = self.clock.now().plus(MAX_COPY_AGE);
        let put = async { self.state.keep_copy(&copy?, until).await };
        if !matches!(tokio::time::timeout(STORE_PATIENCE, put).await, Ok(Ok(()))) {
            warn!(registry = line.registry, "the store keeps no copy of the registry's bundle");
        }
    }

    /// The copy of a bundle, for [`Shared::share`]. Takes long for a large one.
    fn seal(&self, line: &Line, bundle: &Bundle, bytes: &[u8]) -> Result<SealedCopy, StoreError> {
        let serial = bundle.serial().to_string();
        self.state.seal_copy(CopyKind::Bundle, &line.owner(), self.clock.now(), &serial, bytes)
    }
}

fn log(registry: &str, outcome: &Result<Brought, PollError>) {
    match outcome {
        Ok(Brought::New { serial }) => info!(registry, serial, "the registry's bundle is in force"),
        Ok(Brought::Same) => {}
        Err(error) => warn!(registry, code = error.code(), "the registry's bundle was not renewed: {error}"),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
