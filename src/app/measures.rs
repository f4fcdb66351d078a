//! What operators can measure: what an exchange counts for, and what is read of the running service at each rendering.

use std::sync::Arc;
use std::time::Duration;

use crate::exchange::Failure;
use crate::exchange::Outcome;
use crate::identity::cache::Age;
use crate::identity::keys::Health;
use crate::macaroon::Keyring;
use crate::macaroon::MasterKey;
use crate::policy::Policy;
use crate::policy::registry::Registry;
use crate::policy::rule::Mode;
use crate::policy::rule::Rule;
use crate::state::State;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::IssuerReading;
use crate::telemetry::metrics::KeyReading;
use crate::telemetry::metrics::NONE;
use crate::time::Timestamp;

use super::App;
use super::code_label;
use super::in_force::InForce;

/// Lets the metrics ask for what changes by itself. They hold nothing alive: who is asked holds them.
pub(super) fn observe(metrics: &Metrics, in_force: &Arc<InForce>, state: &Arc<State>) {
    let in_force = Arc::downgrade(in_force);
    metrics.observe_issuers(move || {
        let health = in_force.upgrade().map(|in_force| in_force.keys().health()).unwrap_or_default();
        health.iter().filter_map(reading).collect()
    });
    let state = Arc::downgrade(state);
    metrics.observe_store_epoch(move || state.upgrade()?.remembers_since().map(Timestamp::unix_seconds));
}

/// The keys of an issuer; `None` where nothing is fetched.
fn reading(health: &Health) -> Option<IssuerReading> {
    let status = health.status.as_ref().filter(|_| health.issuer.enabled)?;
    Some(IssuerReading {
        issuer: health.issuer.id.clone(),
        keys_at: status.fetched_at.map(Timestamp::unix_seconds),
        stale: status.age != Age::Fresh,
    })
}

/// Says which master keys are known from now on.
pub(super) fn keyring(ring: &Keyring, metrics: &Metrics) {
    let reading =
        |key: &MasterKey| KeyReading { kid: key.kid().to_owned(), activate_at: key.activate_at().unix_seconds() };
    metrics.keys_in_force(ring.iter().map(reading).collect());
}

/// Says which rules of a directory may grant from now on.
pub(super) fn rules(directory: &Policy, metrics: &Metrics) {
    let named = |rule: Rule<'_>| Some((directory.registry_of(&rule)?.id.clone(), rule.id().to_owned()));
    let granting = directory.rules().filter(|rule| rule.mode() == Mode::Enforce);
    metrics.rules_in_force(granting.filter_map(named));
}

impl App {
    /// Counts an exchange that was decided at `now`.
    pub(super) fn count_exchange(&self, registry: &Registry, outcome: &Outcome, took: Duration, now: Timestamp) {
        let failure = outcome.result.as_ref().err();
        let issuer = outcome.issuer.as_deref().unwrap_or(NONE);
        self.metrics.exchange(code_label(failure.map(Failure::code)), &registry.id, issuer, took);
        self.count_limited(registry, failure.and_then(Failure::standing));
        if let Some(ahead) = outcome.ahead(now) {
            self.metrics.issuer_clock_ahead(issuer, ahead);
        }
        let Some(proven) = &outcome.proven else { return };
        for rule in &proven.rules {
            self.metrics.rule_matched(&registry.id, rule);
        }
        for rule in &proven.shadow {
            // A registry that serves its own rules chooses their names, which must not become series without end.
            self.metrics.shadow_disagreement(rule.split_once('/').map_or(rule.as_str(), |(registry, _)| registry));
        }
    }
}
