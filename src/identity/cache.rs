//! The keys of one issuer as they age: a pure state machine, without clock, network or task.
//!
//! It decides when a key may be used, when the issuer must be asked again and when it must not. The shell that owns
//! the fetches ([`crate::identity::keys`]) reports what came of them. One request's path through it:
//!
//! ```text
//!              key held ───────────────────────────────► Found
//!  lookup ──┤  no such key, a recent answer said so ──► Unknown
//!           │  no such key, or no set that lives ─────► Refresh | Wait ─► (fetched | failed) ─► lookup
//!              …and the allowance is spent ────────────► Unavailable
//! ```
//!
//! A set is *fresh* for as long as its issuer says, between [`MIN_FRESH`] and [`MAX_FRESH`]; *stale*, and still used,
//! while the issuer cannot be reached; *dead* after [`MAX_STALE`]. The cache is *cooling* while its allowance is spent.
//!
//! Replicas share what they fetched ([`KeyCache::adopt`]), so one that starts while an issuer is down has its keys.
//!
//! INVARIANT: a fetch that a token causes costs one unit of the allowance whether it succeeds or not, so strangers
//! cause at most [`BURST`] fetches at once and one per [`REFILL`] after that, whatever they send. Scheduled fetches
//! ([`KeyCache::due`]) have their own pace, so an attacker who spends the allowance delays none of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::jwks::Find;
use crate::identity::jwks::Key;
use crate::identity::jwks::KeySet;
use crate::time::Allowance;
use crate::time::Timestamp;
use crate::time::spread;

/// Shortest time between two scheduled refreshes, whatever `Cache-Control` says (`no-store`, `max-age=0`, nothing).
pub const MIN_FRESH: Duration = Duration::from_secs(5 * 60);
/// Longest: a key that an issuer withdraws is gone here within this time, even if it said `max-age=31536000`.
pub const MAX_FRESH: Duration = Duration::from_secs(60 * 60);
/// How long the last good set is used while the issuer cannot be reached or publishes nothing usable.
pub const MAX_STALE: Duration = Duration::from_secs(24 * 60 * 60);
/// Fetches that tokens may cause at once. SECURITY: more than one, so that a stranger's invented `kid` cannot use up
/// the only refresh just before a real rotation.
pub const BURST: u32 = 2;
/// How long the allowance takes to grow by one fetch.
pub const REFILL: Duration = Duration::from_secs(15);
/// How long a `kid` that the issuer has just been found not to have causes no further fetch. Short: the name may be
/// a guess at the next real one.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
/// Most such names kept; the oldest makes room. With names of at most 256 bytes, 16 KiB an issuer.
const UNKNOWN_KEPT: usize = 64;
/// First pause between two scheduled attempts while the issuer fails; it doubles up to [`MIN_FRESH`].
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// A refresh that has not been reported after this time is lost (its task died) and no longer blocks the next. Longer
/// than a discovery and a key fetch may take together.
const LOST_AFTER: Duration = Duration::from_secs(10);

/// The keys of one issuer. Starts empty.
#[derive(Debug)]
pub struct KeyCache {
    held: Option<Held>,
    failing: Option<Failing>,
    /// When the refresh under way began.
    running: Option<Timestamp>,
    allowance: Allowance,
    unknown: UnknownKids,
}

/// The last good set.
#[derive(Debug)]
struct Held {
    keys: KeySet,
    /// When its fetch began: what the set says is at least as new as this.
    began: Timestamp,
    /// Whether this replica fetched it. Another's clock is not ours, so a set of its making never says that a key does
    /// not exist.
    own: bool,
    refresh_at: Timestamp,
    fresh_until: Timestamp,
}

/// Failures since the last success.
#[derive(Debug)]
struct Failing {
    since: Timestamp,
    times: u32,
    /// When the latest failed attempt began.
    began: Timestamp,
    retry_at: Timestamp,
}

/// What a token's `kid` meets.
#[derive(Debug)]
pub enum Lookup {
    /// The key: use it.
    Found(Arc<Key>),
    /// The caller must begin a refresh, which is recorded as under way, and wait for it.
    Refresh,
    /// A refresh is under way: wait for it, then look again.
    Wait,
    /// The issuer has no such key, by an answer that is recent enough.
    Unknown,
    /// It cannot be known at present.
    Unavailable(Unavailable),
}

/// Why a key cannot be had at present, and when to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unavailable {
    /// The refresh that the token waited for failed.
    Failed(Duration),
    /// No refresh is allowed yet: too many were caused lately.
    Cooling(Duration),
}

/// How old the held set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// No set was ever fetched.
    Empty,
    /// Within the time its issuer allows.
    Fresh,
    /// Past it: the issuer cannot be reached, or publishes nothing usable. Still used.
    Stale,
    /// Too old to use.
    Dead,
}

/// What operators see of one issuer's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// How old the set is.
    pub age: Age,
    /// As of when the set was the issuer's.
    pub fetched_at: Option<Timestamp>,
    /// When the next scheduled fetch falls due.
    pub refresh_at: Option<Timestamp>,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// Whether tokens can cause no refresh at the moment.
    pub cooling: bool,
    /// How many keys are held.
    pub keys: usize,
}

/// What a successful refresh changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Change {
    /// Key ids that are new.
    pub added: Vec<String>,
    /// Key ids that the issuer no longer publishes: their tokens are refused from now on.
    pub withdrawn: Vec<String>,
}

impl Default for KeyCache {
    fn default() -> Self {
        let allowance = Allowance::new(REFILL, BURST);
        Self { held: None, failing: None, running: None, allowance, unknown: UnknownKids::default() }
    }
}

impl KeyCache {
    /// What a token meets that names `kid`, arrived at `asked` and looks at `now`.
    ///
    /// A refresh that began at or after `asked` is final for the token: it does not cause a second. One that began
    /// before may have been answered before a rotation, so the token may still cause its own.
    pub fn lookup(&mut self, kid: Option<&str>, asked: Timestamp, now: Timestamp) -> Lookup {
        if let Some(held) = self.held.as_ref().filter(|held| held.age(now) != Age::Dead) {
            match held.keys.find(kid) {
                Find::Key(key) => return Lookup::Found(key),
                // Another fetch would not say which key a token without `kid` means.
                Find::KidRequired => return Lookup::Unknown,
                Find::UnknownKid => {}
            }
            let kid = kid.unwrap_or_default();
            if held.own && is_final(held.began, asked, now) {
                self.unknown.remember(kid, now);
                return Lookup::Unknown;
            }
            if self.unknown.knows(kid, now) {
                return Lookup::Unknown;
            }
        }
        if self.is_running(now) {
            return Lookup::Wait;
        }
        if self.failing.as_ref().is_some_and(|failing| is_final(failing.began, asked, now)) {
            return Lookup::Unavailable(Unavailable::Failed(self.allowance.next(now)));
        }
        if !self.allowance.spend(now) {
            return Lookup::Unavailable(Unavailable::Cooling(self.allowance.next(now)));
        }
        self.running = Some(now);
        Lookup::Refresh
    }

    /// Whether a scheduled refresh is due; if so it is recorded as under way and the caller must begin it. A new cache
    /// is due at once, a fresh one ahead of its expiry, a failing one after a pause that grows.
    pub fn due(&mut self, now: Timestamp) -> bool {
        // A clock that was set back must not postpone the refresh.
        let due = self.schedule().is_none_or(|(began, at)| at <= now || began > now);
        due && self.begin(now)
    }

    /// Records a refresh that an operator demands, unless one is under way. The caller must begin it.
    pub fn begin(&mut self, now: Timestamp) -> bool {
        let idle = !self.is_running(now);
        if idle {
            self.running = Some(now);
        }
        idle
    }

    /// The refresh under way brought this set. It replaces the held one whole: keys that are not in it are withdrawn.
    /// `max_age` is what the issuer's `Cache-Control` said, `jitter` any number, best a random one.
    ///
    /// `None` when the set holds no usable key. That counts as a failure: an issuer that publishes an empty set by
    /// mistake does not stop every release, while one that means it is believed after [`MAX_STALE`].
    pub fn fetched(&mut self, keys: KeySet, max_age: Option<Duration>, now: Timestamp, jitter: u16) -> Option<Change> {
        if keys.is_empty() {
            self.failed(now, jitter);
            return None;
        }
        let began = self.running.take().unwrap_or(now);
        let fresh = max_age.unwrap_or(MIN_FRESH).clamp(MIN_FRESH, MAX_FRESH);
        let change = Change::between(self.held.as_ref().map(|held| &held.keys), &keys);
        // Between three quarters and nine tenths of the way, so that replicas and issuers do not fetch in step.
        let refresh_at = began.plus(fresh * 3 / 4).plus(spread(fresh * 3 / 20, jitter));
        self.held = Some(Held { keys, began, own: true, refresh_at, fresh_until: began.plus(fresh) });
        self.failing = None;
        Some(change)
    }

    /// The refresh under way found that the held set is still the issuer's (HTTP's 304). `false` if none is held, which
    /// counts as a failure: there was nothing to confirm.
    pub fn confirmed(&mut self, max_age: Option<Duration>, now: Timestamp, jitter: u16) -> bool {
        let Some(held) = self.held.take() else {
            self.failed(now, jitter);
            return false;
        };
        self.fetched(held.keys, max_age, now, jitter).is_some()
    }

    /// Another replica fetched this set then. It is taken over if it is newer than the held one and lives, and is as old
    /// as it is: it neither ends the refresh under way nor counts as a success.
    pub fn adopt(&mut self, keys: KeySet, fetched_at: Timestamp, now: Timestamp) -> Option<Change> {
        // Its clock may be a little ahead of ours.
        let began = fetched_at.min(now);
        let newer = self.held.as_ref().is_none_or(|held| held.began < began);
        if keys.is_empty() || !newer || now.since(began) >= MAX_STALE {
            return None;
        }
        let change = Change::between(self.held.as_ref().map(|held| &held.keys), &keys);
        let refresh_at = began.plus(MIN_FRESH * 3 / 4);
        self.held = Some(Held { keys, began, own: false, refresh_at, fresh_until: began.plus(MIN_FRESH) });
        Some(change)
    }

    /// The refresh under way failed. The held set stays as it is.
    ///
    /// SECURITY: one that began ahead of the schedule leaves the schedule as it is. Else strangers, whose tokens name a
    /// member of a family that cannot be discovered, would put off the attempts that ask the other members, until the
    /// keys are dead.
    pub fn failed(&mut self, now: Timestamp, jitter: u16) {
        let began = self.running.take().unwrap_or(now);
        // No pause is that long: it was set before the clock was set back.
        let is_ahead = |retry_at: Timestamp| retry_at > began && retry_at.since(began) <= MIN_FRESH;
        if let Some(failing) = self.failing.as_mut().filter(|failing| is_ahead(failing.retry_at)) {
            failing.began = began;
            return;
        }
        let (since, before) = self.failing.as_ref().map_or((now, 0), |failing| (failing.since, failing.times));
        let pause = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(before)).min(MIN_FRESH);
        let retry_at = now.plus(pause * 4 / 5).plus(spread(pause / 5, jitter));
        self.failing = Some(Failing { since, times: before.saturating_add(1), began, retry_at });
    }

    /// What operators see.
    pub fn status(&self, now: Timestamp) -> Status {
        Status {
            age: self.held.as_ref().map_or(Age::Empty, |held| held.age(now)),
            fetched_at: self.held.as_ref().map(|held| held.began),
            refresh_at: self.schedule().map(|(_, at)| at),
            failing_since: self.failing.as_ref().map(|failing| failing.since),
            cooling: self.allowance.is_spent(now),
            keys: self.held.as_ref().map_or(0, |held| held.keys.len()),
        }
    }

    /// The names of the keys that are held.
    pub fn kids(&self) -> Vec<String> {
        self.held.as_ref().map_or_else(Vec::new, |held| held.keys.kids())
    }

    /// When the latest refresh began, and when the next falls due.
    fn schedule(&self) -> Option<(Timestamp, Timestamp)> {
        let retry = self.failing.as_ref().map(|failing| (failing.began, failing.retry_at));
        retry.or_else(|| self.held.as_ref().map(|held| (held.began, held.refresh_at)))
    }

    /// Whether a refresh is under way.
    pub fn is_running(&self, now: Timestamp) -> bool {
        self.running.is_some_and(|began| began <= now && now.since(began) < LOST_AFTER)
    }
}

/// Whether a refresh that began then answers a token that came at `asked`. One from the future, by a clock that was
/// set back since, answers nothing.
fn is_final(began: Timestamp, asked: Timestamp, now: Timestamp) -> bool {
    (asked..=now).contains(&began)
}

impl Held {
    fn age(&self, now: Timestamp) -> Age {
        if now < self.fresh_until {
            Age::Fresh
        } else if now.since(self.began) < MAX_STALE {
            Age::Stale
        } else {
            Age::Dead
        }
    }
}

impl Change {
    fn between(before: Option<&KeySet>, after: &KeySet) -> Self {
        let before = before.map_or(Vec::new(), KeySet::kids);
        let after = after.kids();
        let missing_from = |there: &[String], here: &[String]| -> Vec<String> {
            here.iter().filter(|kid| !there.contains(kid)).cloned().collect()
        };
        Self { added: missing_from(&before, &after), withdrawn: missing_from(&after, &before) }
    }
}

/// Key ids that the issuer was lately found not to have, oldest first. It can only spare a fetch: a set that has the
/// key is looked at before.
#[derive(Debug, Default)]
struct UnknownKids(VecDeque<(String, Timestamp)>);

impl UnknownKids {
    fn knows(&self, kid: &str, now: Timestamp) -> bool {
        self.0.iter().any(|(k, since)| k == kid && *since <= now && now.since(*since) < UNKNOWN_FOR)
    }

    fn remember(&mut self, kid: &str, now: Timestamp) {
        if self.knows(kid, now) {
            return;
        }
        self.0.retain(|(k, _)| k != kid);
        if self.0.len() >= UNKNOWN_KEPT {
            self.0.pop_front();
        }
        self.0.push_back((kid.to_owned(), now));
    }
}

#[cfg(test)]
mod tests;
