//! The keys of all issuers: the shell that drives one [`KeyCache`] for each and owns their fetches.
//!
//! It decides nothing about age or pace; that is the cache's part. It keeps three promises:
//!
//! * One fetch at a time for an issuer, however many tokens wait for it, in a task of its own: it goes on when those
//!   who waited have given up, so the next token finds its result.
//! * No lock is held while anything is awaited.
//! * Nothing is fetched but for a configured issuer: the caller has found it by exact comparison before it comes here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tracing::info;
use tracing::warn;
use url::Url;

use crate::code::Code;
use crate::identity::cache::Change;
use crate::identity::cache::KeyCache;
use crate::identity::cache::Lookup;
use crate::identity::cache::MAX_FRESH;
use crate::identity::cache::Status;
use crate::identity::cache::Unavailable;
use crate::identity::discovery;
use crate::identity::discovery::DiscoveryError;
use crate::identity::fetch::Fetch;
use crate::identity::fetch::FetchError;
use crate::identity::fetch::Reach;
use crate::identity::issuer::Issuer;
use crate::identity::issuer::IssuerUrl;
use crate::identity::issuer::KeySource;
use crate::identity::jwks::Find;
use crate::identity::jwks::JwksError;
use crate::identity::jwks::Key;
use crate::identity::jwks::KeySet;
use crate::identity::jwks::SkippedKey;
use crate::secret;
use crate::time::Clock;
use crate::time::Timestamp;

/// How often [`Keys::run`] looks for refreshes that are due.
const TICK: Duration = Duration::from_secs(1);
/// Most refreshes that one tick begins: a thousand issuers at start are asked over half a minute, not at once.
const BEGUN_AT_ONCE: usize = 32;
/// Most tokens that wait for one issuer's keys at once. SECURITY: while an issuer is slow, strangers' tokens with
/// invented key ids must not hold every place that other issuers' jobs need.
const MAX_WAITING: usize = 256;
/// Advice to a token whose patience ended while a fetch was under way: by then it has ended.
const SOON: Duration = Duration::from_secs(2);

/// Why there is no key for a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The issuer publishes no usable key of this name.
    #[error("the issuer has no key `{kid}`")]
    UnknownKey {
        /// The token's `kid`.
        kid: String,
    },
    /// The token has no `kid`, and the issuer has several keys.
    #[error("the token names no key (`kid`), and its issuer has not exactly one")]
    KidRequired,
    /// It cannot be known at present: try again.
    #[error("{reason}")]
    Unavailable {
        /// What is the matter, without anything that the issuer said.
        reason: &'static str,
        /// When trying again is worth it.
        retry_after: Duration,
    },
}

impl KeyError {
    /// Its row of the failure table.
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownKey { .. } | Self::KidRequired => Code::UnknownKey,
            Self::Unavailable { .. } => Code::IssuerUnavailable,
        }
    }

    fn missing(kid: Option<&str>) -> Self {
        kid.map_or(Self::KidRequired, |kid| Self::UnknownKey { kid: kid.to_owned() })
    }
}

/// Why a refresh failed. For operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The discovery document could not be had.
    #[error("discovery document: {0}")]
    DiscoveryFetch(FetchError),
    /// The discovery document is not believed.
    #[error("{0}")]
    Discovery(DiscoveryError),
    /// The key set could not be had.
    #[error("key set: {0}")]
    KeysFetch(FetchError),
    /// The key set cannot be read.
    #[error("{0}")]
    Keys(JwksError),
    /// The key set can be read, and none of its keys can be used.
    #[error("the key set holds no usable key")]
    NoUsableKey,
}

impl RefreshError {
    /// A stable name, as a metric's label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DiscoveryFetch(_) => "discovery-not-fetched",
            Self::Discovery(_) => "discovery-refused",
            Self::KeysFetch(_) => "keys-not-fetched",
            Self::Keys(_) => "keys-unreadable",
            Self::NoUsableKey => "no-usable-key",
        }
    }
}

/// What came of one refresh.
#[derive(Debug)]
pub struct Refresh<'a> {
    /// Whose keys.
    pub issuer: &'a Issuer,
    /// What changed and which members of the set are not used, or why nothing was learnt.
    pub outcome: &'a Result<(Change, Vec<SkippedKey>), RefreshError>,
}

impl Refresh<'_> {
    /// `ok` or the error's stable name: a metric's label.
    pub fn code(&self) -> &'static str {
        self.outcome.as_ref().map_or_else(RefreshError::code, |_| "ok")
    }
}

/// Called after each refresh: counts it.
pub type Report = Box<dyn Fn(&Refresh<'_>) + Send + Sync>;

/// The keys of all configured issuers.
#[derive(Debug)]
pub struct Keys {
    shared: Arc<Shared>,
    lines: ArcSwap<HashMap<IssuerUrl, Line>>,
}

struct Shared {
    fetch: Arc<dyn Fetch>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    report: Report,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("fetch", &self.fetch).field("clock", &self.clock).finish_non_exhaustive()
    }
}

/// One issuer and where its keys come from.
#[derive(Debug, Clone)]
struct Line {
    issuer: Arc<Issuer>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// A set from the policy directory.
    Static(Arc<KeySet>),
    /// A set that is fetched.
    Remote(Arc<Remote>),
}

#[derive(Debug)]
struct Remote {
    reach: Reach,
    cache: Mutex<KeyCache>,
    /// Where discovery said that the keys are, and until when that is believed.
    located: Mutex<Option<(Url, Timestamp)>>,
    /// Changes whenever a refresh has ended, well or badly.
    ended: watch::Sender<()>,
    /// Places for tokens that wait for that.
    waiting: Semaphore,
}

impl Keys {
    /// No issuers yet. Fetches run on `runtime`, which should outlive every caller's (a worker of the HTTP server may
    /// end before those who wait on other workers do).
    pub fn new(fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>, runtime: Handle, report: Report) -> Self {
        let shared = Arc::new(Shared { fetch, clock, runtime, report });
        Self { shared, lines: ArcSwap::default() }
    }

    /// Makes these the issuers, at start and whenever a policy becomes active. An issuer whose preset and way of being
    /// reached are as before keeps the keys that are held for it; any other starts anew.
    ///
    /// SECURITY: keys that were fetched under other certificate authorities or networks prove nothing under the new.
    pub fn install<'a>(&self, issuers: impl IntoIterator<Item = &'a Arc<Issuer>>) {
        let before = self.lines.load();
        let lines = issuers.into_iter().map(|issuer| {
            let source = match &issuer.keys {
                KeySource::Static(document) => Source::Static(Arc::new(static_set(issuer, document))),
                KeySource::Discovery { ca_pem, allow_networks } => {
                    let reach = Reach { ca_pem: ca_pem.clone(), allow_networks: allow_networks.clone() };
                    let kept = before.get(issuer.url()).and_then(|line| line.remote_for(issuer, &reach));
                    Source::Remote(kept.unwrap_or_else(|| Arc::new(Remote::new(reach))))
                }
            };
            (issuer.url().clone(), Line { issuer: Arc::clone(issuer), source })
        });
        self.lines.store(Arc::new(lines.collect()));
    }

    /// The key that may verify a token of `issuer` that names `kid` and arrived at `now`. Waits at most `patience` for
    /// a fetch, which goes on after that.
    pub async fn key(
        &self,
        issuer: &Issuer,
        kid: Option<&str>,
        now: Timestamp,
        patience: Duration,
    ) -> Result<Arc<Key>, KeyError> {
        let line = self.lines.load().get(issuer.url()).cloned();
        match line {
            // A request that began under an earlier policy.
            None => Err(KeyError::Unavailable { reason: "the issuer is no longer configured", retry_after: SOON }),
            Some(Line { source: Source::Static(set), .. }) => match set.find(kid) {
                Find::Key(key) => Ok(key),
                Find::UnknownKid | Find::KidRequired => Err(KeyError::missing(kid)),
            },
            Some(Line { source: Source::Remote(remote), issuer }) => {
                let found = self.shared.find(&issuer, &remote, kid, now);
                tokio::time::timeout(patience, found).await.unwrap_or(Err(KeyError::Unavailable {
                    reason: "the issuer's keys did not arrive in time",
                    retry_after: SOON,
                }))
            }
        }
    }

    /// Looks every second for refreshes that are due, for as long as it is polled.
    pub async fn run(&self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.refresh_due();
        }
    }

    /// Begins the refreshes that are due, of enabled issuers, and does not wait for them.
    pub fn refresh_due(&self) {
        let now = self.shared.clock.now();
        let lines = self.lines.load();
        let enabled = lines.values().filter(|line| line.issuer.enabled);
        let due =
            enabled.filter_map(|line| Some((&line.issuer, line.remote().filter(|remote| remote.cache().due(now))?)));
        for (issuer, remote) in due.take(BEGUN_AT_ONCE) {
            self.shared.start(issuer, remote);
        }
    }

    /// Begins a refresh of this issuer at once, as an operator demands, and does not wait for it. `false` when it is
    /// not configured or nothing is fetched for it.
    pub fn refresh(&self, issuer: &IssuerUrl) -> bool {
        let lines = self.lines.load();
        let Some((line, remote)) = lines.get(issuer).and_then(|line| Some((line, line.remote()?))) else {
            return false;
        };
        if remote.cache().begin(self.shared.clock.now()) {
            self.shared.start(&line.issuer, remote);
        }
        true
    }

    /// What operators see of each issuer: by id; `None` for one with static keys.
    pub fn status(&self) -> Vec<(Arc<Issuer>, Option<Status>)> {
        let now = self.shared.clock.now();
        let lines = self.lines.load();
        let status = |line: &Line| (Arc::clone(&line.issuer), line.remote().map(|remote| remote.cache().status(now)));
        let mut all: Vec<_> = lines.values().map(status).collect();
        all.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        all
    }
}

/// The policy's lint has read the document before; what it let pass without a usable key accepts no token.
fn static_set(issuer: &Issuer, document: &[u8]) -> KeySet {
    let set = KeySet::parse(document).map(|(set, _)| set).unwrap_or_default();
    if set.is_empty() {
        warn!(issuer = %issuer.id, "the issuer's key file holds no usable key");
    }
    set
}

impl Line {
    const fn remote(&self) -> Option<&Arc<Remote>> {
        match &self.source {
            Source::Static(_) => None,
            Source::Remote(remote) => Some(remote),
        }
    }

    fn remote_for(&self, issuer: &Issuer, reach: &Reach) -> Option<Arc<Remote>> {
        let same_preset = self.issuer.provider().name == issuer.provider().name;
        self.remote().filter(|remote| same_preset && remote.reach == *reach).cloned()
    }
}

impl Shared {
    async fn find(
        self: &Arc<Self>,
        issuer: &Arc<Issuer>,
        remote: &Arc<Remote>,
        kid: Option<&str>,
        asked: Timestamp,
    ) -> Result<Arc<Key>, KeyError> {
        // Before the first look, so that a refresh which ends right after it is noticed.
        let mut ended = remote.ended.subscribe();
        let mut place = None;
        loop {
            let lookup = remote.cache().lookup(kid, asked, self.clock.now());
            match lookup {
                Lookup::Found(key) => return Ok(key),
                Lookup::Refresh => self.start(issuer, remote),
                Lookup::Wait => {}
                Lookup::Unknown => return Err(KeyError::missing(kid)),
                Lookup::Unavailable(Unavailable::Failed(retry_after)) => {
                    let reason = "the issuer's keys could not be fetched";
                    return Err(KeyError::Unavailable { reason, retry_after });
                }
                Lookup::Unavailable(Unavailable::Cooling(retry_after)) => {
                    let reason = "the issuer's keys were fetched too often lately to be fetched again for this token";
                    return Err(KeyError::Unavailable { reason, retry_after });
                }
            }
            if place.is_none() {
                let reason = "too many tokens are waiting for the issuer's keys";
                let full = |_| KeyError::Unavailable { reason, retry_after: SOON };
                place = Some(remote.waiting.try_acquire().map_err(full)?);
            }
            // INVARIANT: `remote` holds the sender, so this is never an error that would make the loop spin.
            let _ = ended.changed().await;
        }
    }

    /// Begins the refresh that the cache has recorded as under way.
    fn start(self: &Arc<Self>, issuer: &Arc<Issuer>, remote: &Arc<Remote>) {
        let (shared, issuer, remote) = (Arc::clone(self), Arc::clone(issuer), Arc::clone(remote));
        self.runtime.spawn(async move { shared.refresh(&issuer, &remote).await });
    }

    async fn refresh(&self, issuer: &Issuer, remote: &Remote) {
        let fetched = remote.fetch(&*self.fetch, issuer, self.clock.now()).await;
        let now = self.clock.now();
        // Jitter only spreads load, so a machine that has no randomness to give goes on without.
        let jitter = secret::random_bytes().map_or(0, u16::from_be_bytes);
        let outcome = match fetched {
            Ok((set, skipped, max_age)) => {
                let change = remote.cache().fetched(set, max_age, now, jitter);
                change.map(|change| (change, skipped)).ok_or(RefreshError::NoUsableKey)
            }
            Err(error) => {
                remote.cache().failed(now, jitter);
                Err(error)
            }
        };
        remote.ended.send_replace(());
        log(issuer, &outcome);
        (self.report)(&Refresh { issuer, outcome: &outcome });
    }
}

fn log(issuer: &Issuer, outcome: &Result<(Change, Vec<SkippedKey>), RefreshError>) {
    match outcome {
        Ok((change, skipped)) => {
            if *change != Change::default() {
                info!(issuer = %issuer.id, added = ?change.added, withdrawn = ?change.withdrawn, "the issuer's keys changed");
                for key in skipped {
                    info!(issuer = %issuer.id, "a published key is not used: {key}");
                }
            }
        }
        Err(error) => warn!(issuer = %issuer.id, code = error.code(), "the issuer's keys were not refreshed: {error}"),
    }
}

impl Remote {
    fn new(reach: Reach) -> Self {
        let (ended, _) = watch::channel(());
        let waiting = Semaphore::new(MAX_WAITING);
        Self { reach, cache: Mutex::default(), located: Mutex::default(), ended, waiting }
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches the set: one request while discovery's answer is believed, else two.
    async fn fetch(
        &self,
        fetch: &dyn Fetch,
        issuer: &Issuer,
        now: Timestamp,
    ) -> Result<(KeySet, Vec<SkippedKey>, Option<Duration>), RefreshError> {
        // Taken out, and put back only by success: after a failure discovery is asked again, as the keys may have moved.
        let located = self.located().take();
        let (url, until) = match located.filter(|(_, until)| now < *until && until.since(now) <= MAX_FRESH) {
            Some(located) => located,
            None => (self.discover(fetch, issuer).await?, now.plus(MAX_FRESH)),
        };
        let document = fetch.get(&url, &self.reach).await.map_err(RefreshError::KeysFetch)?;
        let (set, skipped) = KeySet::parse(&document.bytes).map_err(RefreshError::Keys)?;
        if !set.is_empty() {
            *self.located() = Some((url, until));
        }
        Ok((set, skipped, document.max_age))
    }

    async fn discover(&self, fetch: &dyn Fetch, issuer: &Issuer) -> Result<Url, RefreshError> {
        let url = discovery::document_url(issuer.url()).ok_or(RefreshError::DiscoveryFetch(FetchError::Url))?;
        let document = fetch.get(&url, &self.reach).await.map_err(RefreshError::DiscoveryFetch)?;
        discovery::jwks_uri(&document.bytes, issuer.url(), issuer.provider()).map_err(RefreshError::Discovery)
    }

    fn located(&self) -> MutexGuard<'_, Option<(Url, Timestamp)>> {
        self.located.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
