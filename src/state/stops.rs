//! Stops: what the operators have switched off in an emergency, on every replica: a shared list that each replica
//! follows. A stop ends by itself, or is lifted.
//!
//! SECURITY: a stop restricts, so it is believed as it stands in the store: whoever can write there can deny service,
//! as they can by stopping the store. What lifts one widens, so it is believed only with a seal of this service. Whoever
//! can delete a stop there is too late on every replica that has learnt it; one that starts afterwards has the list
//! as it finds it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::json::Json;
use crate::time::Timestamp;

use super::Cursor;
use super::ListBounds;
use super::RETENTION_MARGIN;
use super::State;
use super::Store;
use super::StoreError;
use super::WhenFull;
use super::followed::Followed;
use super::followed::Learnt;
use super::sealed::MAX_COPY_AGE;

const LIST: &str = "stops";
/// The kind of a lift's seal.
const LIFT: &str = "lift";
/// The longest time that a stop lasts: by then the policy says it. No longer than a seal is believed, so that a lift
/// holds for as long as what it lifts.
pub const LONGEST_STOP: Duration = MAX_COPY_AGE;
const BOUNDS: ListBounds =
    ListBounds { keep: LONGEST_STOP.saturating_add(RETENTION_MARGIN), cap: 10_000, when_full: WhenFull::Refuse };
const NO_TEXT: StoreError = StoreError::Unavailable { reason: "a stop has no text" };
/// The claims by which providers say, for good, which repository or project a job is of.
const REPOSITORY_CLAIMS: [&str; 6] =
    ["repository_id", "project_id", "repositoryUuid", "pipeline_id", "prj_id", "oidc.circleci.com/project-id"];

/// What is stopped: whatever all of the members that are there fit. At least one is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// An identity provider, by its id in the policy or its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// A registry, by its id in the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// A rule, by its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A repository or project, by the id that its provider gave it for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<String>,
}

/// Where an upload token comes from, or would.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The issuer's id, if the policy still has it.
    pub issuer_id: Option<&'a str>,
    /// Its URL.
    pub issuer: &'a str,
    /// The registry's id.
    pub registry: &'a str,
    /// The rules that grant.
    pub rules: &'a [String],
    /// The job's claims.
    pub claims: &'a BTreeMap<String, Json>,
}

/// One stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// What is stopped.
    pub scope: Scope,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who stopped it.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
    /// Until when, at most [`LONGEST_STOP`] later.
    pub until: Timestamp,
}

/// The stops that have not ended.
#[derive(Debug)]
pub struct Stops(Followed<Stopped>);

#[derive(Debug, Default)]
struct Stopped {
    stops: BTreeMap<Cursor, Stop>,
    /// Lifts as they came; which of them are believed is asked when the keys are at hand.
    lifts: BTreeMap<Cursor, Vec<Vec<u8>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Stored {
    Stop { scope: Scope, reason: String, by: String, at_ms: i64, until_ms: i64 },
    Lift { stop: String, seal: Vec<u8> },
}

impl Scope {
    /// Whether it names anything at all.
    pub const fn is_empty(&self) -> bool {
        self.issuer.is_none() && self.registry.is_none() && self.rule.is_none() && self.repository_id.is_none()
    }

    /// Whether what comes from there is stopped.
    pub fn covers(&self, origin: &Origin<'_>) -> bool {
        let fits = |member: &Option<String>, fits: &dyn Fn(&str) -> bool| member.as_deref().is_none_or(fits);
        !self.is_empty()
            && fits(&self.issuer, &|issuer| origin.issuer_id == Some(issuer) || origin.issuer == issuer)
            && fits(&self.registry, &|registry| origin.registry == registry)
            && fits(&self.rule, &|rule| origin.rules.iter().any(|granting| granting == rule))
            && fits(&self.repository_id, &|id| {
                REPOSITORY_CLAIMS.iter().filter_map(|name| origin.claims.get(*name)).any(|claim| {
                    claim.as_str() == Some(id) || claim.as_int().is_some_and(|number| number.to_string() == id)
                })
            })
    }
}

impl Stops {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(Followed::new(store, LIST, BOUNDS, Stopped::default()))
    }
}

impl State {
    /// Stops what the scope covers: here when this returns, on other replicas at their next [`State::sync`]. The answer
    /// names the stop.
    pub async fn stop(&self, stop: &Stop) -> Result<Cursor, StoreError> {
        let Stop { scope, reason, by, at, until } = stop.clone();
        let stored = Stored::Stop { scope, reason, by, at_ms: at.unix_millis(), until_ms: until.unix_millis() };
        self.stops.0.append(&serde_json::to_vec(&stored).map_err(|_| NO_TEXT)?).await
    }

    /// Ends a stop before its time: here when this returns, on other replicas at their next [`State::sync`]. The answer
    /// is the stop; `None` if there is none of that name that still lasts.
    pub async fn lift(&self, name: Cursor, now: Timestamp) -> Result<Option<Stop>, StoreError> {
        let Some((_, stop)) = self.stops(now).into_iter().find(|(at, _)| *at == name) else { return Ok(None) };
        let unsealed = StoreError::Unavailable { reason: "a lift cannot be sealed" };
        let seal = self.seal_keys.load().seal(LIFT, &name.to_string(), now, "", b"").ok_or(unsealed)?;
        let stored = Stored::Lift { stop: name.to_string(), seal };
        self.stops.0.append(&serde_json::to_vec(&stored).map_err(|_| NO_TEXT)?).await?;
        Ok(Some(stop))
    }

    /// The stops that last, as far as is known since [`State::stops_synced_at`], oldest first.
    pub fn stops(&self, now: Timestamp) -> Vec<(Cursor, Stop)> {
        let known = self.stops.0.read();
        let lasting = known.learnt.stops.iter().filter(|(name, stop)| self.lasts(&known.learnt, **name, stop, now));
        lasting.map(|(name, stop)| (*name, stop.clone())).collect()
    }

    /// Whether there is no stop at all: what spares a request the question.
    pub fn stops_nothing(&self) -> bool {
        self.stops.0.read().learnt.stops.is_empty()
    }

    /// Whether something from there is stopped, as far as is known since [`State::stops_synced_at`].
    pub fn is_stopped(&self, origin: &Origin<'_>, now: Timestamp) -> bool {
        let known = self.stops.0.read();
        let mut stops = known.learnt.stops.iter();
        stops.any(|(name, stop)| stop.scope.covers(origin) && self.lasts(&known.learnt, *name, stop, now))
    }

    /// When the list of stops was last known to be complete; `None` before the first [`State::sync_stops`].
    pub fn stops_synced_at(&self) -> Option<Timestamp> {
        self.stops.0.synced_at()
    }

    /// Learns what was stopped or lifted elsewhere.
    pub async fn sync_stops(&self, now: Timestamp) -> Result<(), StoreError> {
        self.stops.0.sync(now).await
    }

    /// Learns what was revoked, stopped or lifted elsewhere.
    pub async fn sync(&self, now: Timestamp) -> Result<(), StoreError> {
        let (revocations, stops) = (self.revocations.sync(now).await, self.sync_stops(now).await);
        revocations.and(stops)
    }

    fn lasts(&self, learnt: &Stopped, name: Cursor, stop: &Stop, now: Timestamp) -> bool {
        let sealed = |seal: &Vec<u8>| self.seal_keys.load().open(LIFT, &name.to_string(), seal, now).is_some();
        now < stop.until && !learnt.lifts.get(&name).is_some_and(|seals| seals.iter().any(sealed))
    }
}

impl Learnt for Stopped {
    fn learn(&mut self, at: Cursor, entry: &[u8]) -> Result<(), StoreError> {
        let unreadable = StoreError::Unavailable { reason: "a stored stop is unreadable" };
        match serde_json::from_slice(entry).map_err(|_| unreadable)? {
            Stored::Stop { scope, reason, by, at_ms, until_ms } => {
                let (since, until) = (Timestamp::from_unix_millis(at_ms), Timestamp::from_unix_millis(until_ms));
                self.stops.insert(at, Stop { scope, reason, by, at: since, until });
            }
            Stored::Lift { stop, seal } => {
                let seals = self.lifts.entry(stop.parse().map_err(|_| unreadable)?).or_default();
                if !seals.contains(&seal) {
                    seals.push(seal);
                }
            }
        }
        Ok(())
    }

    fn sweep(&mut self, now: Timestamp) {
        self.stops.retain(|_, stop| stop.until > now);
        let stops = &self.stops;
        self.lifts.retain(|name, _| stops.contains_key(name));
    }
}
