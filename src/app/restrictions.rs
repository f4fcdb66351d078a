//! What ends tokens before their time: a holder revokes one, a registry its own, an operator stops what they come from.
//!
//! What changed something is recorded, and so is what may have: where the store gave no answer, the write may have been carried out
//! or may never have reached it, and whoever looks for the reason of a refusal must find who asked for it. What surely changed
//! nothing, since the store was full or could not be reached, is told and not recorded.

use serde::Serialize;
use serde_json::json;

use crate::audit::AuditEvent;
use crate::audit::AuditKind;
use crate::code::Code;
use crate::macaroon::MAX_AGE;
use crate::macaroon::TokenId;
use crate::policy::registry::Registry;
use crate::revoke;
use crate::revoke::Outcome;
use crate::state::Cursor;
use crate::state::RETENTION_MARGIN;
use crate::state::StoreError;
use crate::state::revocations::RevokeError;
use crate::state::revocations::Revoker;
use crate::state::stops::Scope;
use crate::state::stops::Stop;
use crate::time::Timestamp;

use super::App;
use super::Caller;
use super::code_label;
use super::event;

/// What a registry revokes of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// One token and all its copies.
    Token(TokenId),
    /// What a rule had a part in granting, issued before a moment that is not in the future.
    Rule {
        /// The rule.
        rule: String,
        /// The moment.
        issued_before: Timestamp,
    },
}

/// What is recorded of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Recorded {
    /// It changed something.
    Changed,
    /// It may have.
    Unanswered,
}

impl Recorded {
    /// `None` of what surely changed nothing.
    const fn of(changed: &Result<bool, RevokeError>) -> Option<Self> {
        match changed {
            Ok(true) => Some(Self::Changed),
            Err(RevokeError::Store(error)) if !error.changed_nothing() => Some(Self::Unanswered),
            Ok(false) | Err(RevokeError::ShareUsed { .. } | RevokeError::Store(_)) => None,
        }
    }

    const fn code(self) -> Option<Code> {
        match self {
            Self::Changed => None,
            Self::Unanswered => Some(Code::StoreUnavailable),
        }
    }
}

/// What the record of a stop or lift says besides.
#[derive(Serialize)]
struct Why<'a> {
    caller: &'a str,
    /// The stop's name, which the store gives it.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    scope: &'a Scope,
    reason: &'a str,
    until: String,
}

impl App {
    /// Revokes a token of one of the registries, if it is one, and records that.
    ///
    /// SECURITY: what changed nothing is not recorded, here and below. Whoever holds a token may revoke it as often as
    /// they like, and must not be able to fill the audit log with it. While the store gives no answer, each of their attempts
    /// may have changed something, and no allowance counts what is not the client's fault; so these are recorded at the pace
    /// of refused exchanges. Of what is no authentic, live token nothing is recorded. Registries and operators are known by
    /// their API keys: of theirs everything is.
    pub async fn revoke(
        &self,
        registries: &[&Registry],
        token: &str,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(), RevokeError> {
        let keyring = self.keyring.load_full();
        let Outcome { authentic, changed } = revoke::revoke(&keyring, &self.state, registries, token, now).await;
        self.count_revocation(changed.as_ref().err());
        if let (Some((id, registry)), Some(recorded)) = (authentic, Recorded::of(&changed)) {
            // Requests do not end in the order in which they came, and the time of a pace must not run back.
            let at = self.now();
            let mut event = event(AuditKind::Revoke, recorded.code(), caller, now);
            event.registry = Some(registry);
            event.token_id = Some(id.to_string());
            match recorded {
                Recorded::Changed => self.audit.record(event),
                Recorded::Unanswered => self.audit.record_refusal(event, at),
            }
        }
        changed.map(|_| ())
    }

    /// Revokes what a registry names of its own tokens, and records that. The answer is from when on no token that it is
    /// about is accepted anyway; where that is past, nothing is written.
    pub async fn revoke_own(
        &self,
        registry: &Registry,
        own: &Own,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Timestamp, RevokeError> {
        let until = match own {
            Own::Token(id) => id.issued_at(),
            Own::Rule { issued_before, .. } => *issued_before,
        };
        let until = until.plus(MAX_AGE);
        if until <= now {
            return Ok(until);
        }
        let key_id = registry.key_id.as_str();
        let revoked = match own {
            Own::Token(id) => {
                let until = until.plus(RETENTION_MARGIN);
                self.state.revoke_token(key_id, id, until, (Revoker::Registry, now)).await
            }
            Own::Rule { rule, issued_before } => self.state.revoke_rule(key_id, rule, *issued_before, now).await,
        };
        self.count_revocation(revoked.as_ref().err());
        if let Some(recorded) = Recorded::of(&revoked) {
            let mut event = event(AuditKind::Revoke, recorded.code(), caller, now);
            event.registry = Some(registry.id.clone());
            match own {
                Own::Token(id) => event.token_id = Some(id.to_string()),
                Own::Rule { rule, issued_before } => {
                    event.rules = vec![rule.clone()];
                    event.explanation = Some(json!({"issued_before": issued_before.with_millis().to_string()}));
                }
            }
            self.audit.record(event);
        }
        revoked.map(|_| until)
    }

    /// Stops what the stop says, and records that. The answer names it.
    pub async fn stop(&self, stop: &Stop, caller: &Caller) -> Result<Cursor, StoreError> {
        let stopped = self.state.stop(stop).await;
        if let Some(recorded) = Recorded::of(&stopped.map(|_| true).map_err(RevokeError::Store)) {
            let event = event(AuditKind::Stop, recorded.code(), caller, stop.at);
            self.record_stop(event, stopped.as_ref().ok(), stop, &stop.by);
        }
        stopped
    }

    /// Ends a stop before its time, and records that; `None` if there is none of that name that still lasts.
    pub async fn lift(
        &self,
        name: Cursor,
        by: &str,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Option<Stop>, StoreError> {
        let Some(stop) = self.state.stop_named(name, now) else { return Ok(None) };
        let lifted = self.state.lift(name, now).await;
        // Nothing, if somebody else was faster.
        let changed = lifted.as_ref().map(Option::is_some).map_err(|error| RevokeError::Store(*error));
        if let Some(recorded) = Recorded::of(&changed) {
            self.record_stop(event(AuditKind::Lift, recorded.code(), caller, now), Some(&name), &stop, by);
        }
        lifted
    }

    fn record_stop(&self, mut event: AuditEvent, name: Option<&Cursor>, stop: &Stop, by: &str) {
        let Stop { scope, reason, until, .. } = stop;
        event.registry.clone_from(&scope.registry);
        let why = Why { caller: by, stop: name.map(Cursor::to_string), scope, reason, until: until.to_string() };
        event.explanation = serde_json::to_value(why).ok();
        self.audit.record(event);
    }

    fn count_revocation(&self, error: Option<&RevokeError>) {
        let code = error.map(|error| match error {
            RevokeError::ShareUsed { .. } => Code::RevocationsExhausted,
            RevokeError::Store(_) => Code::StoreUnavailable,
        });
        self.metrics.revocation(code_label(code));
    }
}
