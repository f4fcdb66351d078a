//! What operators hear of a policy that loads and has warnings.

use crate::policy::Policy;
use crate::telemetry::Metrics;

/// Logs each warning of a policy that comes into force, once, and counts them by code.
pub(super) fn announce(policy: &Policy, metrics: &Metrics) {
    let warnings = policy.warnings();
    metrics.policy_warned(warnings.counts());
    let mut logged = 0;
    for warning in warnings.iter() {
        logged += 1;
        let code = warning.lint.map(|lint| lint.code);
        tracing::warn!(policy.revision = policy.revision(), code, "{warning}");
    }
    if logged < warnings.len() {
        tracing::warn!(policy.revision = policy.revision(), "and {} more warnings", warnings.len() - logged);
    }
}
