//! The policy in force and what goes with it: since when it is, and the keys of its issuers.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use arc_swap::ArcSwap;

use crate::app::composition::Composition;
use crate::app::measures;
use crate::app::warnings;
use crate::identity::keys::Keys;
use crate::policy::Policy;
use crate::policy::bundle;
use crate::policy::bundle::Bundle;
use crate::policy::bundle::BundleFault;
use crate::policy::bundle::Last;
use crate::policy::bundle::Signed;
use crate::telemetry::Metrics;
use crate::time::Clock;
use crate::time::Timestamp;

/// Most policies that are kept for requests which still use them. Requests last seconds, so one that comes out of use
/// only after so many others was held by something that hangs, and is let go.
const MAX_RETIRED: usize = 16;

/// A policy that is, or was, in force, and since when: one value, so that nothing is judged by the one policy and the
/// other's moment.
#[derive(Debug)]
pub struct PolicyInForce {
    policy: Arc<Policy>,
    since: Timestamp,
}

impl PolicyInForce {
    /// Since when it is in force here.
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// The policy, to be held for longer.
    pub(super) const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
}

impl Deref for PolicyInForce {
    type Target = Policy;

    fn deref(&self) -> &Policy {
        &self.policy
    }
}

/// The policy in force. Requests take it once, without a lock; whoever puts another in its place waits for others who
/// do.
#[derive(Debug)]
pub(super) struct InForce {
    policy: ArcSwap<PolicyInForce>,
    /// What it is made of. Changed under this lock and put in force before it is let go, so of two changes that come
    /// together neither is lost.
    composition: Mutex<Composition>,
    keys: Keys,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    /// Policies that are no longer in force and may still be in use. To free a million rules takes long, and the last
    /// who uses a policy frees it: this one, so that no request does.
    retired: Mutex<Vec<Arc<PolicyInForce>>>,
}

impl InForce {
    /// Puts the first policy in force, that of a directory.
    pub(super) fn new(policy: Policy, keys: Keys, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        let directory = Arc::new(policy);
        let policy = ArcSwap::from_pointee(PolicyInForce { policy: Arc::clone(&directory), since: clock.now() });
        let composition = Mutex::new(Composition::new(directory));
        let in_force = Self { policy, composition, keys, metrics, clock, retired: Mutex::default() };
        let policy = in_force.policy();
        in_force.keys.install(policy.issuers().iter());
        in_force.metrics.policy_activated(policy.directory_revision());
        warnings::announce(&policy, &in_force.metrics);
        measures::rules(&policy, &in_force.metrics);
        in_force
    }

    /// The policy.
    pub(super) fn policy(&self) -> Arc<PolicyInForce> {
        self.policy.load_full()
    }

    /// The keys of its issuers.
    pub(super) const fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Puts the policy of another directory in force, with the bundles that are, for requests that begin from now on.
    /// Takes as long as the issuers' key files and the bundles take to be read, so it is not called where requests are
    /// served.
    pub(super) fn activate(&self, directory: Arc<Policy>) {
        warnings::announce(&directory, &self.metrics);
        measures::rules(&directory, &self.metrics);
        let mut composition = locked(&self.composition);
        composition.replace_directory(directory);
        self.put(&composition);
    }

    /// Puts a registry's bundle in force beside the rest, if it is good for the directory that is. Takes long for a large
    /// one, and others go on meanwhile.
    pub(super) fn accept(
        &self,
        registry: &str,
        source: &bundle::Source,
        signed: &Signed<'_>,
        last: Option<Last>,
    ) -> Result<Arc<Bundle>, BundleFault> {
        loop {
            let (directory, present) = {
                let composition = locked(&self.composition);
                (composition.directory(), composition.last(registry))
            };
            // SECURITY: what was asked for under an earlier policy may come from where this one does not look.
            let here = directory.registries().by_id(registry).and_then(|entry| entry.bundle.as_deref());
            if !here.is_some_and(|here| here.is_same_place(source)) {
                return Err(BundleFault::NotConfigured);
            }
            // SECURITY: nothing comes after the bundle in force but what is newer, whatever whoever asks remembers: a
            // registry that was switched off meanwhile is asked anew, and of two polls that overlap the slower comes last.
            let last = last.into_iter().chain(present).max_by_key(|last| last.serial);
            let bundle = Arc::new(bundle::accept(&directory, registry, signed, last, self.clock.now())?);
            let mut composition = locked(&self.composition);
            if composition.add(&directory, present, registry, source, Arc::clone(&bundle), signed.bytes()) {
                self.put(&composition);
                return Ok(bundle);
            }
            // The directory, or the bundle in force, has changed meanwhile: once more, for the new one.
        }
    }

    fn put(&self, composition: &Composition) {
        let policy = composition.compose();
        let mut retired = locked(&self.retired);
        // The keys first: a request under the new policy then never meets an issuer without keys, nor keys that were
        // fetched in the old policy's way. One under the old policy may find its issuer gone: so it is.
        self.keys.install(policy.issuers().iter());
        self.metrics.policy_activated(policy.directory_revision());
        self.metrics.bundles_in_force(composition.readings());
        let in_force = || Arc::new(PolicyInForce { policy: Arc::clone(&policy), since: self.clock.now() });
        retired.push(self.policy.swap(in_force()));
        // SECURITY: its moment is told once more. Whoever took the rules on their way out did so by now, so what they grant
        // counts as granted before it, and is judged by these.
        self.policy.store(in_force());
        let_go(&mut retired);
    }

    /// Frees what is no longer used. Takes long for a large policy, as [`InForce::activate`] does.
    pub(super) fn let_go(&self) {
        let_go(&mut locked(&self.retired));
    }
}

fn let_go(retired: &mut Vec<Arc<PolicyInForce>>) {
    // Nobody can get hold of a retired policy any more, so a count of one stays one.
    retired.retain(|policy| Arc::strong_count(policy) > 1);
    let surplus = retired.len().saturating_sub(MAX_RETIRED);
    retired.drain(..surplus);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
