//! What exchanges and verifications come to: counted once, and recorded once, even if they are dropped on the way.
//!
//! A thread of the HTTP server that ends drops what it does, at a moment that nobody chooses, and so does a panic. Before the store
//! is asked nothing has happened then. After it an ID token, or a use of an upload token, may be used up.

use std::thread;

use crate::audit::AuditKind;
use crate::audit::AuditSubject;
use crate::code::Code;
use crate::exchange;
use crate::exchange::Failure;
use crate::exchange::IssuedToken;
use crate::package::Permissions;
use crate::policy::Policy;
use crate::policy::registry::Registry;
use crate::telemetry::Stopwatch;
use crate::time::Timestamp;
use crate::verify;

use super::App;
use super::Caller;
use super::PolicyInForce;
use super::code_label;
use super::event;

/// The code of what is dropped before its end.
pub(super) fn cut_off() -> Code {
    // What is dropped by a panic did not wait for the store.
    if thread::panicking() { Code::Internal } else { Code::StoreUnavailable }
}

/// What a client asked for, as the audit log spells it; nothing when it asked for whatever its rules grant.
pub(super) struct Asked {
    package: Option<String>,
    pairs: Vec<String>,
    single_use: bool,
}

impl Asked {
    pub(super) fn of(request: &exchange::Request<'_>) -> Self {
        let requested = &request.requested;
        Self {
            package: requested.package.as_ref().map(ToString::to_string),
            pairs: requested.narrow.iter().flat_map(Permissions::iter).map(ToString::to_string).collect(),
            single_use: request.single_use,
        }
    }
}

/// An exchange until it is recorded.
pub(super) struct Exchange<'a> {
    pub(super) app: &'a App,
    pub(super) policy: &'a Policy,
    pub(super) registry: &'a Registry,
    pub(super) asked: Asked,
    pub(super) caller: &'a Caller,
    pub(super) now: Timestamp,
    pub(super) stopwatch: Stopwatch,
    /// None once it is recorded.
    pub(super) outcome: Option<exchange::Outcome>,
}

impl Exchange<'_> {
    /// Records it.
    pub(super) fn ended(mut self) -> Result<IssuedToken, Failure> {
        self.record()
    }

    fn record(&mut self) -> Result<IssuedToken, Failure> {
        let Some(outcome) = self.outcome.take() else { return Err(Failure::Internal) };
        let Self { app, policy, registry, asked, caller, now, stopwatch, .. } = self;
        app.count_exchange(registry, &outcome, stopwatch.elapsed(), *now);
        let result = outcome.result;
        let code = result.as_ref().err().map(Failure::code);
        // What is not proven is counted, not recorded: a stranger must not be able to fill the audit log.
        let Some(proven) = outcome.proven else { return Err(result.err().unwrap_or(Failure::Internal)) };
        let mut event = event(AuditKind::Exchange, code, caller, *now);
        event.registry = Some(&registry.id);
        event.issuer = outcome.issuer.as_deref();
        let (token, issuer) = (&proven.token, proven.token.issuer());
        event.subject = Some(AuditSubject {
            iss: issuer.url().as_str(),
            aud: token.audience(),
            lifetime: token.expires_at().since(token.issued_at()).as_secs(),
        });
        event.package = asked.package.as_deref();
        event.requested = &asked.pairs;
        event.single_use = asked.single_use;
        event.rules = &proven.rules;
        event.shadow = &proven.shadow;
        event.policy_revision = Some(policy.revision());
        let public = issuer.provider().public;
        event.claims = Vec::with_capacity(public.len());
        event.absent = Vec::with_capacity(public.len());
        for name in public.iter().copied() {
            match token.claims().get(name) {
                Some(value) => event.claims.push((name, value)),
                None => event.absent.push(name),
            }
        }
        match result {
            Ok(minted) => {
                event.granted = minted.granted();
                event.token_id = proven.token_id.map(|id| id.to_string());
                event.replay = minted.replay();
                Ok(minted.recorded(event))
            }
            Err(failure) => {
                if let Failure::Denied(explanation) = &failure {
                    event.explanation = serde_json::to_value(explanation.for_audit()).ok();
                }
                // The claim may have gone through all the same, and then a repetition yields this token.
                let may_be_claimed = if let Failure::Store(error) = &failure {
                    !error.changed_nothing()
                } else {
                    matches!(failure, Failure::Internal)
                };
                event.token_id = proven.token_id.filter(|_| may_be_claimed).map(|id| id.to_string());
                app.keep_refusal(registry, &failure, &event);
                // Requests do not end in the order in which they came, and time must not run back.
                app.audit.record_refusal(event, app.now());
                Err(failure)
            }
        }
    }
}

/// SECURITY: an ID token that is used up has its record, or nobody could tell a lost exchange from a stolen token.
impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        let Some(outcome) = self.outcome.as_mut().filter(|outcome| outcome.may_have_claimed()) else { return };
        if cut_off() == Code::Internal {
            outcome.result = Err(Failure::Internal);
        }
        drop(self.record());
    }
}

/// A verification until it is recorded.
pub(super) struct Verification<'a> {
    pub(super) app: &'a App,
    pub(super) policy: &'a PolicyInForce,
    pub(super) registry: &'a Registry,
    pub(super) question: &'a verify::Question<'a>,
    pub(super) caller: &'a Caller,
    pub(super) now: Timestamp,
    pub(super) stopwatch: Stopwatch,
    /// Unfinished again once it is recorded.
    pub(super) outcome: verify::Outcome,
}

impl Verification<'_> {
    /// Records it.
    pub(super) fn ended(mut self) -> verify::Outcome {
        let code = self.outcome.result.as_ref().err().map(verify::Refused::code);
        self.record(code)
    }

    fn record(&mut self, code: Option<Code>) -> verify::Outcome {
        let outcome = std::mem::replace(&mut self.outcome, verify::Outcome::unfinished());
        let Self { app, policy, registry, question, caller, now, stopwatch, .. } = self;
        app.metrics.verification(code_label(code), &registry.id, stopwatch.elapsed());
        app.count_old_lists(code, registry, *now);
        if code == Some(Code::Overloaded) {
            app.metrics.overloaded("uses");
        }
        if let Some(authentic) = &outcome.authentic {
            let identifier = authentic.identifier();
            let requested = [[question.action.as_str(), question.package.as_str()].join(":")];
            let mut event = event(AuditKind::Verify, code, caller, *now);
            event.registry = Some(&registry.id);
            event.issuer = policy.issuers().by_url(&identifier.provenance.issuer).map(|issuer| issuer.id.as_str());
            event.rules = &identifier.provenance.rules;
            event.policy_revision = Some(policy.revision());
            let claims = identifier.provenance.claims.iter();
            event.claims = claims.map(|(name, value)| (name.as_str(), value)).collect();
            event.token_id = Some(identifier.id.to_string());
            event.requested = &requested;
            app.audit.record(event);
        }
        outcome
    }
}

/// The store is the one thing that a verification waits for: one that is dropped may have spent a use.
impl Drop for Verification<'_> {
    fn drop(&mut self) {
        if self.outcome.authentic.is_some() {
            drop(self.record(Some(cut_off())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::panic::AssertUnwindSafe;
    use std::panic::catch_unwind;

    use super::*;

    struct Guard<'a>(&'a Cell<Option<Code>>);

    impl Drop for Guard<'_> {
        fn drop(&mut self) {
            self.0.set(Some(cut_off()));
        }
    }

    #[test]
    fn what_a_panic_drops_is_a_defect_and_what_a_thread_drops_waited_for_the_store() {
        let code = Cell::new(None);
        drop(Guard(&code));
        assert_eq!(code.get(), Some(Code::StoreUnavailable));
        let broken = catch_unwind(AssertUnwindSafe(|| {
            let _guard = Guard(&code);
            panic!("a defect");
        }));
        assert_eq!((broken.is_err(), code.get()), (true, Some(Code::Internal)));
    }
}
