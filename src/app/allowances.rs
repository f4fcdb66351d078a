//! How much a registry may have a minute.

use crate::policy::registry::Registry;
use crate::state::rates::Allowance;
use crate::state::rates::Standing;
use crate::time::Timestamp;

use super::App;

impl App {
    /// Counts a call of the registry's own; the error says how its allowance stands, which is used up.
    pub fn count_call(&self, registry: &Registry, now: Timestamp) -> Result<Standing, Standing> {
        let counted = self.state.rates().take(&registry.id, Allowance::Calls, registry.limits.calls, now);
        self.count_limited(registry, counted.as_ref().err().copied());
        counted
    }

    pub(super) fn count_limited(&self, registry: &Registry, used_up: Option<Standing>) {
        if let Some(standing) = used_up {
            self.metrics.rate_limited(standing.allowance.as_str(), &registry.id);
        }
    }
}
