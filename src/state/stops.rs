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
const REPOSITORY_CLAIMS: [&str; 7] = [
    "repository_id",
    "project_id",
    "repositoryUuid",
    "pipeline_id",
    "prj_id",
    "terraform_workspace_id",
    "oidc.circleci.com/project-id",
];

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
    /// By name. SECURITY: all that came under a name, since one that is planted must not take another's place.
    stops: BTreeMap<Cursor, Vec<Stop>>,
    /// Lifts as they came; which of them are believed is asked when the keys are at hand.
    lifts: BTreeMap<Cursor, Vec<Vec<u8>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Stored {
    Stop {
        /// Its name, if that is not its place in the list: it was written back after a loss.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        scope: Scope,
        reason: String,
        by: String,
        at_ms: i64,
        until_ms: i64,
    },
    Lift {
        stop: String,
        seal: Vec<u8>,
    },
}

impl Stored {
    fn stop(name: Option<Cursor>, stop: &Stop) -> Self {
        let Stop { scope, reason, by, at, until } = stop.clone();
        let name = name.map(|name| name.to_string());
        Self::Stop { name, scope, reason, by, at_ms: at.unix_millis(), until_ms: until.unix_millis() }
    }

    fn written(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|_| NO_TEXT)
    }
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
        Self(Followed::new(store, LIST, BOUNDS))
    }
}

impl State {
    /// Stops what the scope covers: here when this returns, on other replicas at their next [`State::sync`]. The answer
    /// names the stop.
    pub async fn stop(&self, stop: &Stop) -> Result<Cursor, StoreError> {
        self.stops.0.append(&Stored::stop(None, stop).written()?).await
    }

    /// Ends a stop before its time: here when this returns, on other replicas at their next [`State::sync`]. The answer
    /// is the stop; `None` if there is none of that name that still lasts.
    pub async fn lift(&self, name: Cursor, now: Timestamp) -> Result<Option<Stop>, StoreError> {
        let Some(stop) = self.stop_named(name, now) else { return Ok(None) };
        self.stops.0.append(&self.sealed_lift(name, now)?.written()?).await?;
        Ok(Some(stop))
    }

    /// The stop of that name, if it lasts, as far as is known since [`State::stops_synced_at`].
    pub fn stop_named(&self, name: Cursor, now: Timestamp) -> Option<Stop> {
        self.stops(now).into_iter().find_map(|(at, stop)| (at == name).then_some(stop))
    }

    /// The stops that last, as far as is known since [`State::stops_synced_at`], oldest first.
    pub fn stops(&self, now: Timestamp) -> Vec<(Cursor, Stop)> {
        let known = self.stops.0.read();
        let lasting = known.learnt.each().filter(|(name, stop)| self.lasts(&known.learnt, *name, stop, now));
        lasting.map(|(name, stop)| (name, stop.clone())).collect()
    }

    /// Whether there is no stop at all: what spares a request the question.
    pub fn stops_nothing(&self) -> bool {
        self.stops.0.read().learnt.stops.is_empty()
    }

    /// Whether something from there is stopped, as far as is known since [`State::stops_synced_at`].
    pub fn is_stopped(&self, origin: &Origin<'_>, now: Timestamp) -> bool {
        let known = self.stops.0.read();
        let mut stops = known.learnt.each();
        stops.any(|(name, stop)| stop.scope.covers(origin) && self.lasts(&known.learnt, name, stop, now))
    }

    /// When the list of stops was last known to be complete; `None` before the first [`State::sync_stops`].
    pub fn stops_synced_at(&self) -> Option<Timestamp> {
        self.stops.0.synced_at()
    }

    /// Learns what was stopped or lifted elsewhere.
    pub async fn sync_stops(&self, now: Timestamp) -> Result<(), StoreError> {
        self.stops.0.sync(now).await
    }

    /// Learns what was revoked, stopped or lifted elsewhere; then writes what the store lacks of it. Both lists are known
    /// as well as they can be also when that fails.
    pub async fn sync(&self, now: Timestamp) -> Result<(), StoreError> {
        let (revocations, stops) = (self.revocations.sync(now).await, self.sync_stops(now).await);
        revocations.and(stops)?;
        let (revocations, stops) = (self.revocations.mend(now).await, self.mend_stops(now).await);
        revocations.and(stops)
    }

    /// Gives a store that has lost its memory back the stops and lifts that are held here, and seals lifts anew as soon as
    /// another key seals, so that they hold when the one that sealed them is taken away.
    ///
    /// SECURITY: of the keys that are known now. A key that is removed before another has sealed takes its lifts with it:
    /// whoever stole it could have made them.
    async fn mend_stops(&self, now: Timestamp) -> Result<(), StoreError> {
        self.stops.0.mend(now, |held, image| self.lacking(held, image, now)).await
    }

    fn lacking(&self, held: &Stopped, image: Option<&Stopped>, now: Timestamp) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut lacking = Vec::new();
        let keys = self.seal_keys.load();
        for (name, stop) in held.each().filter(|(_, stop)| now < stop.until) {
            let seals = self.seals(held, name, now);
            let there = image.is_none_or(|image| image.stops.get(&name).is_some_and(|there| there.contains(stop)));
            let lift_there = image.is_none_or(|image| !self.seals(image, name, now).is_empty());
            match seals.first() {
                None if !there => lacking.push(Stored::stop(Some(name), stop)),
                // A stop that is nowhere any more needs no lift.
                Some(seal) if there && !lift_there => {
                    lacking.push(Stored::Lift { stop: name.to_string(), seal: (*seal).clone() });
                }
                Some(_) if there && !seals.iter().any(|seal| keys.is_latest(seal, now)) => {
                    lacking.push(self.sealed_lift(name, now)?);
                }
                None | Some(_) => {}
            }
        }
        lacking.iter().map(Stored::written).collect()
    }

    fn sealed_lift(&self, name: Cursor, now: Timestamp) -> Result<Stored, StoreError> {
        let unsealed = StoreError::Unavailable { reason: "a lift cannot be sealed" };
        let seal = self.seal_keys.load().seal(LIFT, &name.to_string(), now, "", b"").ok_or(unsealed)?;
        Ok(Stored::Lift { stop: name.to_string(), seal })
    }

    fn lasts(&self, learnt: &Stopped, name: Cursor, stop: &Stop, now: Timestamp) -> bool {
        now < stop.until && self.seals(learnt, name, now).is_empty()
    }

    /// The seals that lift a stop: those that are believed.
    fn seals<'l>(&self, learnt: &'l Stopped, name: Cursor, now: Timestamp) -> Vec<&'l Vec<u8>> {
        let Some(seals) = learnt.lifts.get(&name) else { return Vec::new() };
        let (keys, owner) = (self.seal_keys.load(), name.to_string());
        seals.iter().filter(|seal| keys.open(LIFT, &owner, seal, now).is_some()).collect()
    }
}

impl Stopped {
    fn each(&self) -> impl Iterator<Item = (Cursor, &Stop)> {
        self.stops.iter().flat_map(|(name, stops)| stops.iter().map(|stop| (*name, stop)))
    }
}

impl Learnt for Stopped {
    fn learn(&mut self, at: Cursor, entry: &[u8]) -> Result<(), StoreError> {
        let unreadable = StoreError::Unavailable { reason: "a stored stop is unreadable" };
        match serde_json::from_slice(entry).map_err(|_| unreadable)? {
            Stored::Stop { name, scope, reason, by, at_ms, until_ms } => {
                let (since, until) = (Timestamp::from_unix_millis(at_ms), Timestamp::from_unix_millis(until_ms));
                let name = name.map_or(Ok(at), |name| name.parse()).map_err(|_| unreadable)?;
                let (named, stop) = (self.stops.entry(name).or_default(), Stop { scope, reason, by, at: since, until });
                if !named.contains(&stop) {
                    named.push(stop);
                }
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
        self.stops.retain(|_, stops| {
            stops.retain(|stop| stop.until > now);
            !stops.is_empty()
        });
        let stops = &self.stops;
        self.lifts.retain(|name, _| stops.contains_key(name));
    }
}
