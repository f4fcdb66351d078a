//! The keys of all issuers: the shell that drives one [`KeyCache`](crate::identity::cache::KeyCache) for each and owns
//! their fetches.
//!
//! It decides nothing about age or pace; that is the cache's part. It keeps three promises:
//!
//! * One fetch at a time for an issuer, however many tokens wait for it, in a task of its own: it goes on when those
//!   who waited have given up, so the next token finds its result.
//! * No lock is held while anything is awaited.
//! * Nothing is fetched but for a configured issuer: the caller has found it by exact comparison before it comes here.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tracing::info;
use tracing::warn;
use url::Url;

use crate::identity::cache::Age;
use crate::identity::cache::Change;
use crate::identity::cache::Lookup;
use crate::identity::cache::Status;
use crate::identity::cache::Unavailable;
use crate::identity::fetch::Fetch;
use crate::identity::issuer::Issuer;
use crate::identity::issuer::IssuerUrl;
use crate::identity::issuer::KeySource;
use crate::identity::issuer::Reach;
use crate::identity::jwks::Find;
use crate::identity::jwks::Key;
use crate::identity::jwks::KeySet;
use crate::identity::jwks::SkippedKey;
use crate::secret;
use crate::state::CopyKind;
use crate::state::MAX_COPY_AGE;
use crate::state::State;
use crate::time::Clock;
use crate::time::Timestamp;
use crate::yielding::Yielding;

mod error;
mod remote;

pub use error::KeyError;
pub use error::Refresh;
pub use error::RefreshError;
use remote::Brought;
pub use remote::LastError;
use remote::Remote;

/// How often [`Keys::run`] looks for refreshes that are due.
const TICK: Duration = Duration::from_secs(1);
/// Most refreshes that one tick begins: a thousand issuers at start are asked over half a minute, not at once.
const BEGUN_AT_ONCE: usize = 32;
/// Longest wait for the store's copy of a key set: it is of use only if it is faster than the issuer.
const STORE_PATIENCE: Duration = Duration::from_millis(500);
/// Advice to a token whose patience ended while a fetch was under way: by then it has ended.
const SOON: Duration = Duration::from_secs(2);

/// Called after each refresh: counts it.
pub type Report = Box<dyn Fn(&Refresh<'_>) + Send + Sync>;

/// The keys of all configured issuers.
#[derive(Debug)]
pub struct Keys {
    shared: Arc<Shared>,
    lines: ArcSwap<Lines>,
}

struct Shared {
    fetch: Arc<dyn Fetch>,
    state: Arc<State>,
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
    /// A set that is fetched; the members of a family have one together.
    Remote(Arc<Remote>),
}

/// The configured issuers, and how their keys are got.
#[derive(Debug, Default)]
struct Lines {
    by_url: HashMap<IssuerUrl, Line>,
    /// Each set that is fetched, with the issuers that it is for: one, or the members of a family.
    remotes: Vec<(Arc<Remote>, Vec<Arc<Issuer>>)>,
}

/// What operators see of one entry of the policy's issuers.
#[derive(Debug, Clone)]
pub struct Health {
    /// The issuer; of a family its first member.
    pub issuer: Arc<Issuer>,
    /// The age of its keys; `None` for keys from a file.
    pub status: Option<Status>,
    /// The names of the keys that are held.
    pub kids: Vec<String>,
    /// Why the latest refresh failed, unless it succeeded.
    pub last_error: Option<LastError>,
}

impl Keys {
    /// No issuers yet. Copies of what is fetched are kept in `state`. Fetches run on `runtime`, which should outlive every caller's (a worker of the HTTP server may
    /// end before those who wait on other workers do).
    pub fn new(
        fetch: Arc<dyn Fetch>,
        state: Arc<State>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        report: Report,
    ) -> Self {
        let shared = Arc::new(Shared { fetch, state, clock, runtime, report });
        Self { shared, lines: ArcSwap::default() }
    }

    /// Makes these the issuers, at start and whenever a policy becomes active. An issuer whose preset and way of being
    /// reached are as before keeps the keys that are held for it; any other starts anew.
    ///
    /// SECURITY: keys that were fetched under other certificate authorities or networks prove nothing under the new.
    pub fn install<'a>(&self, issuers: impl IntoIterator<Item = &'a Arc<Issuer>>) {
        let before = self.lines.load();
        let mut lines = Lines::default();
        let mut shared: HashMap<String, usize> = HashMap::new();
        for issuer in issuers {
            let source = match &issuer.keys {
                KeySource::Static(document) => Source::Static(Arc::new(static_set(issuer, document))),
                KeySource::Remote { reach, jwks_uri } => {
                    let place = *shared.entry(issuer.keys_name().to_owned()).or_insert_with(|| {
                        let kept = before.kept(issuer, reach, jwks_uri.as_ref());
                        let remote = kept.unwrap_or_else(|| Arc::new(Remote::new(issuer, reach, jwks_uri.as_ref())));
                        lines.remotes.push((remote, Vec::new()));
                        lines.remotes.len() - 1
                    });
                    let Some((remote, members)) = lines.remotes.get_mut(place) else { continue };
                    members.push(Arc::clone(issuer));
                    Source::Remote(Arc::clone(remote))
                }
            };
            lines.by_url.insert(issuer.url().clone(), Line { issuer: Arc::clone(issuer), source });
        }
        self.lines.store(Arc::new(lines));
    }

    /// The key that may verify a token of `issuer` that names `kid` and arrived at `now`. Waits at most `patience` for
    /// a fetch, which goes on after that.
    pub async fn key(
        &self,
        issuer: &Issuer,
        kid: Option<&str>,
        now: Timestamp,
        patience: Duration,
        yielding: Yielding<'_>,
    ) -> Result<Arc<Key>, KeyError> {
        let line = self.lines.load().by_url.get(issuer.url()).cloned();
        match line {
            // A request that began under an earlier policy.
            None => Err(KeyError::Unavailable { reason: "the issuer is no longer configured", retry_after: SOON }),
            Some(Line { source: Source::Static(set), .. }) => match set.find(kid) {
                Find::Key(key) => Ok(key),
                Find::UnknownKid | Find::KidRequired => Err(KeyError::missing(kid)),
            },
            Some(Line { source: Source::Remote(remote), issuer }) => {
                let found = self.shared.find(&issuer, &remote, kid, now, yielding);
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
        let enabled = lines.remotes.iter().filter_map(|(remote, members)| {
            let member = members.get(remote.turn() % members.len().max(1))?;
            Some((remote, member)).filter(|_| member.enabled)
        });
        for (remote, issuer) in enabled.filter(|(remote, _)| remote.cache().due(now)).take(BEGUN_AT_ONCE) {
            self.shared.start(issuer, remote);
        }
    }

    /// Begins a refresh of this issuer's keys at once, as an operator demands, or joins the one that is under way, and
    /// waits for its end for as long as `patience`: whether it came. `None` when the issuer is not configured or
    /// nothing is fetched for it.
    pub async fn refresh_now(&self, issuer: &IssuerUrl, patience: Duration) -> Option<bool> {
        let (issuer, remote) = {
            let lines = self.lines.load();
            let line = lines.by_url.get(issuer)?;
            (Arc::clone(&line.issuer), Arc::clone(line.remote()?))
        };
        let mut ended = remote.ended.subscribe();
        if remote.cache().begin(self.shared.clock.now()) {
            self.shared.start(&issuer, &remote);
        }
        // Another replica's copy that is taken over is heard of here too, and is not the end.
        let ending = async {
            while remote.cache().is_running(self.shared.clock.now()) {
                let _ = ended.changed().await;
            }
        };
        Some(tokio::time::timeout(patience, ending).await.is_ok())
    }

    /// What operators see of each entry of the policy's issuers: by id.
    pub fn health(&self) -> Vec<Health> {
        let now = self.shared.clock.now();
        let lines = self.lines.load();
        let fetched = lines.remotes.iter().filter_map(|(remote, members)| {
            let cache = remote.cache();
            let (status, kids) = (Some(cache.status(now)), cache.kids());
            Some(Health { issuer: Arc::clone(members.first()?), status, kids, last_error: remote.last_error() })
        });
        let from_files = lines.by_url.values().filter_map(|line| match &line.source {
            Source::Remote(_) => None,
            Source::Static(set) => {
                Some(Health { issuer: Arc::clone(&line.issuer), status: None, kids: set.kids(), last_error: None })
            }
        });
        let mut all: Vec<_> = fetched.chain(from_files).collect();
        all.sort_by(|a, b| a.issuer.id.cmp(&b.issuer.id));
        all.dedup_by(|a, b| a.issuer.id == b.issuer.id);
        all
    }
}

/// The policy's lint has read the document before; what it let pass without a usable key accepts no token.
fn static_set(issuer: &Issuer, document: &[u8]) -> KeySet {
    let bundle = issuer.url().is_trust_domain();
    let parsed = if bundle { KeySet::parse_bundle(document) } else { KeySet::parse(document) };
    let set = parsed.map(|(set, _)| set).unwrap_or_default();
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
}

impl Lines {
    /// The keys that were held for this issuer, or for its family, if it is the same and reached in the same way.
    fn kept(&self, issuer: &Issuer, reach: &Reach, jwks_uri: Option<&Url>) -> Option<Arc<Remote>> {
        let same = |member: &Arc<Issuer>| {
            member.keys_name() == issuer.keys_name() && member.provider().name == issuer.provider().name
        };
        let mut remotes = self.remotes.iter();
        let found = remotes.find(|(remote, members)| remote.is_reached_by(reach, jwks_uri) && members.iter().any(same));
        found.map(|(remote, _)| Arc::clone(remote))
    }
}

impl Shared {
    async fn find(
        self: &Arc<Self>,
        issuer: &Arc<Issuer>,
        remote: &Arc<Remote>,
        kid: Option<&str>,
        asked: Timestamp,
        yielding: Yielding<'_>,
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
                yielding.give_back();
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
        let began = self.clock.now();
        let fetching = remote.fetch(&*self.fetch, issuer, began);
        let has_keys = matches!(remote.cache().status(began).age, Age::Fresh | Age::Stale);
        let fetched = if has_keys {
            fetching.await
        } else {
            // What another replica has fetched serves those who wait, while we fetch for ourselves.
            let mut fetching = pin!(fetching);
            tokio::select! {
                fetched = &mut fetching => fetched,
                () = self.adopt(issuer, remote) => fetching.await,
            }
        };
        let now = self.clock.now();
        // Jitter only spreads load, so a machine that has no randomness to give goes on without.
        let jitter = secret::random_bytes().map_or(0, u16::from_be_bytes);
        let mut shared = None;
        let outcome = match fetched {
            Ok(Brought::Set { set, skipped, max_age, document }) => {
                shared = Some(document).filter(|_| !set.is_empty());
                let change = remote.cache().fetched(set, max_age, now, jitter);
                change.map(|change| (change, skipped)).ok_or(RefreshError::NoUsableKey)
            }
            Ok(Brought::Same(max_age)) => {
                let held = remote.cache().confirmed(max_age, now, jitter);
                if held { Ok((Change::default(), Vec::new())) } else { Err(RefreshError::NoUsableKey) }
            }
            Err(error) => {
                remote.cache().failed(now, jitter);
                Err(error)
            }
        };
        if outcome.is_err() {
            self.adopt(issuer, remote).await;
        }
        remote.note(outcome.as_ref().err(), now);
        remote.ended.send_replace(());
        log(issuer, &outcome);
        (self.report)(&Refresh { issuer, outcome: &outcome });
        if let Some(document) = shared {
            self.share(remote, began, &document).await;
        }
    }

    /// Takes over the keys that another replica has fetched, if they are newer than ours. A store that is down, or slow,
    /// is as if it had none.
    async fn adopt(&self, issuer: &Issuer, remote: &Remote) {
        let copy = self.state.copy(CopyKind::Jwks, remote.owner(), self.clock.now());
        let Ok(Ok(Some(copy))) = tokio::time::timeout(STORE_PATIENCE, copy).await else { return };
        let Ok((set, _)) = KeySet::parse(&copy.body) else { return };
        let change = remote.cache().adopt(set, copy.at, self.clock.now());
        if let Some(change) = change {
            let (added, withdrawn) = (&change.added, &change.withdrawn);
            info!(issuer = %issuer.id, fetched_at = %copy.at, ?added, ?withdrawn, "another replica's copy of the issuer's keys is used");
            remote.ended.send_replace(());
        }
    }

    /// Lets other replicas have the keys, and this one after a restart.
    async fn share(&self, remote: &Remote, began: Timestamp, document: &[u8]) {
        let until = began.plus(MAX_COPY_AGE);
        let put = self.state.put_copy(CopyKind::Jwks, remote.owner(), began, "", document, until);
        // Exchanges say loudly enough that the store is down.
        let _kept = tokio::time::timeout(STORE_PATIENCE, put).await;
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

#[cfg(test)]
mod tests;
