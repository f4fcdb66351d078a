//! What a registry asks of one of its tokens where it speaks RFC 7662.

use crate::audit::AuditKind;
use crate::policy::registry::Registry;
use crate::telemetry::Stopwatch;
use crate::time::Timestamp;
use crate::verify;
use crate::verify::Active;
use crate::verify::Inactive;

use super::App;
use super::Caller;
use super::PolicyInForce;
use super::code_label;
use super::event;

impl App {
    /// Answers a registry's question about one of its tokens (RFC 7662) and records the answer.
    pub fn introspect(
        &self,
        policy: &PolicyInForce,
        registry: &Registry,
        token: &str,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Active, Inactive> {
        let keyring = self.keyring.load_full();
        let parts = self.verifying(policy, &keyring);
        let stopwatch = Stopwatch::start();
        let answer = verify::introspect(parts, registry, token, now);
        let code = answer.as_ref().err().map(Inactive::code);
        self.metrics.verification(code_label(code), &registry.id, stopwatch.elapsed());
        self.count_old_lists(code, registry, now);
        if let Ok(active) = &answer {
            let mut event = event(AuditKind::Introspect, None, caller, now);
            event.registry = Some(&registry.id);
            event.issuer = policy.issuers().by_url(&active.issuer).map(|issuer| issuer.id.as_str());
            event.rules = &active.rules;
            event.policy_revision = Some(policy.revision());
            event.token_id = Some(active.id.to_string());
            self.audit.record(event);
        }
        answer
    }
}
