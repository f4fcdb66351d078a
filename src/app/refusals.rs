//! Refusals on their way to the registry that they are about.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::audit::AuditEvent;
use crate::code::Class;
use crate::code::Code;
use crate::exchange::Failure;
use crate::policy::registry::Registry;

use super::App;

/// Most refusals on their way at once.
const PLACES: usize = 32;
/// The largest that is kept whole. SECURITY: a store holds a thousand for each registry, and who is refused chooses
/// their claims.
const LARGEST: usize = 16 * 1024;

/// Places for refusals on their way.
pub(super) fn places() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(PLACES))
}

impl App {
    /// Keeps a refusal of a proven job for its registry. Never waits and never fails: when the store is slow or down,
    /// the refusal is in the audit log alone.
    pub(super) fn keep_refusal(&self, registry: &Registry, failure: &Failure, event: &AuditEvent) {
        if !matches!(failure.code().class(), Class::Request | Class::Refused) {
            return;
        }
        let (Some(refusal), Ok(place)) = (written(failure, event), Arc::clone(&self.refusals).try_acquire_owned())
        else {
            return;
        };
        let (state, key_id) = (Arc::clone(&self.state), registry.key_id.clone());
        let (strangers, at) = (failure.code() == Code::NoMatchingRule, event.time);
        drop(self.runtime.spawn(async move {
            let _place = place;
            let kept = if strangers {
                state.keep_strangers_refusal(&key_id, &refusal, at).await
            } else {
                state.keep_refusal(&key_id, &refusal).await
            };
            if let Err(error) = kept {
                tracing::debug!(%error, "a refusal could not be kept for its registry");
            }
        }));
    }
}

fn written(failure: &Failure, event: &AuditEvent) -> Option<Vec<u8>> {
    let mut refusal = json!({
        "time": event.time.to_string(),
        "request_id": event.request_id,
        "code": event.code,
        "message": failure.to_string(),
        "issuer": event.issuer,
        "subject": event.subject,
        "package": event.package,
        "requested": event.requested,
        "rules": event.rules,
        "policy_revision": event.policy_revision,
        "claims": event.claims.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
        "explanation": event.explanation,
    });
    let fits = |refusal: &Value| serde_json::to_vec(refusal).ok().filter(|text| text.len() <= LARGEST);
    fits(&refusal).or_else(|| {
        // Which request it was is in the audit log, with all of this.
        let members = refusal.as_object_mut()?;
        members.retain(|name, _| matches!(name.as_str(), "time" | "request_id" | "code" | "message"));
        fits(&refusal)
    })
}
