//! What the policy in force is made of.

use std::sync::Arc;

use crate::policy::Policy;

/// The parts, each judged by itself; cheap to copy. It is changed and composed under the lock of
/// [`Reloads`](super::Reloads) only, so of two changes that come together neither is lost.
#[derive(Debug, Clone)]
pub(super) struct Composition {
    /// The policy of the directory: issuers, registries and their rules.
    pub(super) directory: Arc<Policy>,
}

impl Composition {
    /// The one policy of all parts: the only place where they come together. Today the directory is the only part.
    pub(super) fn compose(&self) -> Arc<Policy> {
        Arc::clone(&self.directory)
    }
}
