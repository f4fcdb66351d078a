//! What ends tokens before their time: a holder revokes one, a registry its own, an operator stops what they come from.

use serde_json::json;

use crate::audit::AuditKind;
use crate::code::Code;
use crate::macaroon::MAX_AGE;
use crate::macaroon::TokenId;
use crate::policy::registry::Registry;
use crate::revoke;
use crate::state::Cursor;
use crate::state::RETENTION_MARGIN;
use crate::state::StoreError;
use crate::state::revocations::RevokeError;
use crate::state::revocations::Revoker;
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

impl App {
    /// Revokes a token of one of the registries, if it is one, and records that.
    ///
    /// SECURITY: only what changed something is recorded, here and below. Whoever holds a token may revoke it as often as
    /// they like, and must not be able to fill the audit log with it.
    pub async fn revoke(
        &self,
        registries: &[&Registry],
        token: &str,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<(), RevokeError> {
        let keyring = self.keyring.load_full();
        let revoked = revoke::revoke(&keyring, &self.state, registries, token, now).await;
        self.count_revocation(revoked.as_ref().err());
        if let Some((id, registry)) = revoked? {
            let mut event = event(AuditKind::Revoke, None, caller, now);
            event.registry = Some(registry);
            event.token_id = Some(id.to_string());
            self.audit.record(event);
        }
        Ok(())
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
        if !revoked? {
            return Ok(until);
        }
        let mut event = event(AuditKind::Revoke, None, caller, now);
        event.registry = Some(registry.id.clone());
        match own {
            Own::Token(id) => event.token_id = Some(id.to_string()),
            Own::Rule { rule, issued_before } => {
                event.rules = vec![rule.clone()];
                event.explanation = Some(json!({"issued_before": issued_before.with_millis().to_string()}));
            }
        }
        self.audit.record(event);
        Ok(until)
    }

    /// Stops what the stop says, and records that. The answer names it.
    pub async fn stop(&self, stop: &Stop, caller: &Caller) -> Result<Cursor, StoreError> {
        let name = self.state.stop(stop).await?;
        self.record_stop(AuditKind::Stop, name, stop, &stop.by, caller, stop.at);
        Ok(name)
    }

    /// Ends a stop before its time, and records that; `None` if there is none of that name that still lasts.
    pub async fn lift(
        &self,
        name: Cursor,
        by: &str,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Option<Stop>, StoreError> {
        let lifted = self.state.lift(name, now).await?;
        if let Some(stop) = &lifted {
            self.record_stop(AuditKind::Lift, name, stop, by, caller, now);
        }
        Ok(lifted)
    }

    fn record_stop(&self, kind: AuditKind, name: Cursor, stop: &Stop, by: &str, caller: &Caller, now: Timestamp) {
        let mut event = event(kind, None, caller, now);
        event.registry.clone_from(&stop.scope.registry);
        event.explanation = Some(json!({
            "caller": by,
            "stop": name.to_string(),
            "scope": stop.scope,
            "reason": stop.reason,
            "until": stop.until.to_string(),
        }));
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
