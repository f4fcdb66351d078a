//! Whether the operators have stopped what a grant comes from.

use std::time::Duration;

use crate::identity::verify::VerifiedToken;
use crate::policy::evaluate::Grant;
use crate::policy::registry::Registry;
use crate::state::RESTRICTIONS_MAX_AGE;
use crate::state::State;
use crate::state::StoreError;
use crate::state::stops::Origin;
use crate::time::Timestamp;

use super::Failure;
use super::chosen_claims;

/// Longest wait for the list of stops, which is there unless the store has been failing.
const STOPS_WAIT: Duration = Duration::from_millis(300);

/// Refuses what is stopped.
///
/// SECURITY: fails closed. A list that has grown old may lack the stop that matters, so it is asked for again, and
/// without an answer there is no exchange.
pub(super) async fn refuse_stopped(
    state: &State,
    registry: &Registry,
    token: &VerifiedToken,
    grant: &Grant,
    now: Timestamp,
) -> Result<(), Failure> {
    // Neither old nor, after a clock was set back, still to come.
    let age = |synced_at: Timestamp| now.since(synced_at).max(synced_at.since(now));
    let fresh = state.stops_synced_at().is_some_and(|synced_at| age(synced_at) <= RESTRICTIONS_MAX_AGE);
    if !fresh {
        let late = StoreError::Unavailable { reason: "the list of stops did not come in time" };
        tokio::time::timeout(STOPS_WAIT, state.sync_stops(now)).await.unwrap_or(Err(late)).map_err(Failure::Store)?;
    }
    if state.stops_nothing() {
        return Ok(());
    }
    let claims = chosen_claims(token, token.issuer().provider().provenance);
    let claims = claims.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let origin = Origin {
        issuer_id: Some(&token.issuer().id),
        issuer: token.issuer().url().as_str(),
        registry: &registry.id,
        rules: grant.rules(),
        claims: &claims,
    };
    if state.is_stopped(&origin, now) { Err(Failure::Stopped) } else { Ok(()) }
}
