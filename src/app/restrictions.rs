//! What ends tokens before their time: a holder revokes one, a registry its own, an operator stops what they come from.
//!
//! What changed something is recorded, and so is what may have: where the store gave no answer, the write may have been carried out
//! or may never have reached it, and whoever looks for the reason of a refusal must find who asked for it. What surely changed
//! nothing, since the store was full or could not be reached, is told and not recorded. What is dropped while it waits for the store,
//! by a thread of the server that ends or by a panic, may have changed something.

use std::slice;

use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::audit::AuditKind;
use crate::code::Code;
use crate::macaroon::MAX_AGE;
use crate::macaroon::TokenId;
use crate::policy::registry::Registry;
use crate::revoke;
use crate::revoke::Revocable;
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
use super::outcomes::cut_off;

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

/// What an attempt to restrict something is about.
enum About<'a> {
    /// A token that its holder revokes.
    Held { registry: &'a str, id: TokenId },
    /// What its registry revokes.
    Own { registry: &'a str, own: &'a Own },
    /// A stop; it has no name before the store gives it one.
    Stop { name: Option<Cursor>, stop: &'a Stop, by: &'a str },
    /// The end of one.
    Lift { name: Cursor, stop: &'a Stop, by: &'a str },
}

/// What the record of a stop or lift says besides.
#[derive(Serialize)]
struct Why<'a> {
    caller: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop: Option<String>,
    scope: &'a Scope,
    reason: &'a str,
    until: String,
}

/// An attempt until it is recorded.
struct Attempt<'a> {
    app: &'a App,
    about: About<'a>,
    caller: &'a Caller,
    now: Timestamp,
    has_ended: bool,
}

impl<'a> Attempt<'a> {
    const fn new(app: &'a App, about: About<'a>, caller: &'a Caller, now: Timestamp) -> Self {
        Self { app, about, caller, now, has_ended: false }
    }

    /// Counts and records it, if it changed something or may have.
    fn ended(mut self, changed: Result<bool, RevokeError>) {
        self.has_ended = true;
        let code = changed.err().map(|error| code_of(&error));
        self.count(code);
        match changed {
            Ok(true) => self.record(None),
            Err(RevokeError::Store(error)) if !error.changed_nothing() => self.record(code),
            Ok(false) | Err(RevokeError::Store(_) | RevokeError::ShareUsed { .. }) => {}
        }
    }

    fn count(&self, code: Option<Code>) {
        match self.about {
            About::Held { .. } | About::Own { .. } => self.app.metrics.revocation(code_label(code)),
            About::Stop { .. } | About::Lift { .. } => {}
        }
    }

    fn record(&self, code: Option<Code>) {
        let kind = match self.about {
            About::Held { .. } | About::Own { .. } => AuditKind::Revoke,
            About::Stop { .. } => AuditKind::Stop,
            About::Lift { .. } => AuditKind::Lift,
        };
        let mut event = event(kind, code, self.caller, self.now);
        match self.about {
            About::Held { registry, id } => {
                event.registry = Some(registry);
                event.token_id = Some(id.to_string());
                if code.is_some() {
                    // Requests do not end in the order in which they came, and the time of a pace must not run back.
                    return self.app.audit.record_refusal(event, self.app.now());
                }
            }
            About::Own { registry, own } => {
                event.registry = Some(registry);
                match own {
                    Own::Token(id) => event.token_id = Some(id.to_string()),
                    Own::Rule { rule, issued_before } => {
                        event.rules = slice::from_ref(rule);
                        event.explanation = Some(json!({"issued_before": issued_before.with_millis().to_string()}));
                    }
                }
            }
            About::Stop { name, stop, by } => {
                event.registry = stop.scope.registry.as_deref();
                event.explanation = why(name, stop, by);
            }
            About::Lift { name, stop, by } => {
                event.registry = stop.scope.registry.as_deref();
                event.explanation = why(Some(name), stop, by);
            }
        }
        self.app.audit.record(event);
    }
}

/// SECURITY: what may be revoked, stopped or lifted has its record, or nobody could tell who asked for it.
impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.has_ended {
            let code = Some(cut_off());
            self.count(code);
            self.record(code);
        }
    }
}

fn why(name: Option<Cursor>, stop: &Stop, by: &str) -> Option<Value> {
    let Stop { scope, reason, until, .. } = stop;
    let stop = name.map(|name| name.to_string());
    serde_json::to_value(Why { caller: by, stop, scope, reason, until: until.to_string() }).ok()
}

const fn code_of(error: &RevokeError) -> Code {
    match error {
        RevokeError::ShareUsed { .. } => Code::RevocationsExhausted,
        RevokeError::Store(_) => Code::StoreUnavailable,
    }
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
        let Some(Revocable { registry, id, until }) = revoke::revocable(&keyring, registries, token, now) else {
            self.metrics.revocation(code_label(None));
            return Ok(());
        };
        let attempt = Attempt::new(self, About::Held { registry: &registry.id, id }, caller, now);
        let revoked = self.state.revoke_token(&registry.key_id, &id, until, (Revoker::Holders, now)).await;
        attempt.ended(revoked);
        revoked.map(|_| ())
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
        let attempt = Attempt::new(self, About::Own { registry: &registry.id, own }, caller, now);
        let revoked = match own {
            Own::Token(id) => {
                let until = until.plus(RETENTION_MARGIN);
                self.state.revoke_token(key_id, id, until, (Revoker::Registry, now)).await
            }
            Own::Rule { rule, issued_before } => self.state.revoke_rule(key_id, rule, *issued_before, now).await,
        };
        attempt.ended(revoked);
        revoked.map(|_| until)
    }

    /// Stops what the stop says, and records that. The answer names it.
    pub async fn stop(&self, stop: &Stop, caller: &Caller) -> Result<Cursor, StoreError> {
        let about = |name| About::Stop { name, stop, by: &stop.by };
        let mut attempt = Attempt::new(self, about(None), caller, stop.at);
        let stopped = self.state.stop(stop).await;
        attempt.about = about(stopped.ok());
        attempt.ended(stopped.map(|_| true).map_err(RevokeError::Store));
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
        let attempt = Attempt::new(self, About::Lift { name, stop: &stop, by }, caller, now);
        let lifted = self.state.lift(name, now).await;
        // Nothing has changed if somebody else was faster.
        attempt.ended(lifted.as_ref().map(Option::is_some).map_err(|error| RevokeError::Store(*error)));
        lifted
    }
}
