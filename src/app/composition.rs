//! What the policy in force is made of: the operator's directory, and the bundles that registries serve.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::Policy;
use crate::policy::bundle;
use crate::policy::bundle::Bundle;
use crate::policy::bundle::Last;
use crate::policy::bundle::Signed;
use crate::policy::bundle::Source;
use crate::telemetry::metrics::BundleReading;

/// The parts, each judged by itself.
#[derive(Debug)]
pub(super) struct Composition {
    /// Issuers, registries and their rules.
    directory: Arc<Policy>,
    /// By registry.
    bundles: BTreeMap<String, Held>,
}

/// A bundle in force.
#[derive(Debug)]
struct Held {
    bundle: Arc<Bundle>,
    /// Where it is from.
    source: Source,
    /// What it was read from: its rules refer to entries of the directory, so another directory needs them read again.
    bytes: Arc<[u8]>,
}

impl Composition {
    /// A directory without bundles.
    pub(super) const fn new(directory: Arc<Policy>) -> Self {
        Self { directory, bundles: BTreeMap::new() }
    }

    /// The policy of the directory alone.
    pub(super) fn directory(&self) -> Arc<Policy> {
        Arc::clone(&self.directory)
    }

    /// Which bundle of a registry is in force.
    pub(super) fn last(&self, registry: &str) -> Option<Last> {
        self.bundles.get(registry).map(|held| held.bundle.last())
    }

    /// Puts another directory in the place of this one, and reads the bundles anew for it. One that may not be there any
    /// more (its registry is gone, is looked for elsewhere, or may name fewer issuers) is left out: what it decided
    /// is unavailable until there is another.
    pub(super) fn replace_directory(&mut self, directory: Arc<Policy>) {
        let bundles = std::mem::take(&mut self.bundles);
        for (registry, held) in bundles {
            let entry = directory.registries().by_id(&registry).and_then(|entry| entry.bundle.as_deref());
            if !entry.is_some_and(|entry| entry.is_same_place(&held.source)) {
                continue;
            }
            match bundle::reread(&directory, &registry, &Signed::known(&held.bytes)) {
                Ok(bundle) => {
                    self.bundles.insert(registry, Held { bundle: Arc::new(bundle), ..held });
                }
                Err(fault) => {
                    tracing::error!(registry, "the registry's bundle is refused under the new policy: {fault}");
                }
            }
        }
        self.directory = directory;
    }

    /// Puts a bundle that was read for this directory in the place of its registry's last one. `false` if either is
    /// another by now.
    pub(super) fn add(
        &mut self,
        directory: &Arc<Policy>,
        last: Option<Last>,
        registry: &str,
        source: &Source,
        bundle: Arc<Bundle>,
        bytes: &[u8],
    ) -> bool {
        let same = Arc::ptr_eq(&self.directory, directory) && self.last(registry) == last;
        if same {
            let held = Held { bundle, source: source.clone(), bytes: Arc::from(bytes) };
            self.bundles.insert(registry.to_owned(), held);
        }
        same
    }

    /// The one policy of all parts: the only place where they come together.
    pub(super) fn compose(&self) -> Arc<Policy> {
        if self.bundles.is_empty() {
            return Arc::clone(&self.directory);
        }
        Arc::new(self.directory.with_bundles(self.bundles.values().map(|held| Arc::clone(&held.bundle))))
    }

    /// The bundles, for metrics.
    pub(super) fn readings(&self) -> Vec<BundleReading> {
        let reading = |(registry, held): (&String, &Held)| BundleReading {
            registry: registry.clone(),
            serial: held.bundle.serial(),
            not_after: held.bundle.not_after().unix_seconds(),
        };
        self.bundles.iter().map(reading).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::policy;
    use crate::time::Timestamp;

    const DIRECTORY: &str = "
issuers: {github: {provider: github}}
registries:
  acme: {dialect: generic, urls: ['https://acme.example'], audiences: [acme], bundle: {url: 'https://acme.example/b', issuers: [github]}}
";

    fn directory() -> Arc<Policy> {
        let source = policy::Source { name: "p.yaml".to_owned(), text: DIRECTORY.to_owned() };
        Arc::new(Policy::load(&[source], &|_, _| None).unwrap())
    }

    #[test]
    fn a_bundle_that_was_judged_beside_another_directory_or_another_bundle_is_not_added() {
        let (directory, other) = (directory(), directory());
        let source = directory.registries().by_id("acme").unwrap().bundle.as_deref().unwrap().clone();
        let bundle = |serial: i64| {
            let text = format!("registry: acme\nserial: {serial}\nnot_after: 2027-01-15T09:00:00Z\nrules: {{}}\n");
            let now = Timestamp::from_unix_seconds(1_800_000_000);
            Arc::new(bundle::accept(&directory, "acme", &Signed::known(text.as_bytes()), None, now).unwrap())
        };
        let mut composition = Composition::new(Arc::clone(&directory));
        let mut add = |directory: &Arc<Policy>, last: Option<Last>, serial: i64| {
            let added = composition.add(directory, last, "acme", &source, bundle(serial), b"");
            (added, composition.last("acme").map(|last| last.serial))
        };
        assert_eq!(add(&other, None, 1), (false, None));
        assert_eq!(add(&directory, Some(bundle(1).last()), 2), (false, None));
        assert_eq!(add(&directory, None, 2), (true, Some(2)));
        assert_eq!(add(&directory, None, 1), (false, Some(2)));
        assert_eq!(add(&directory, Some(bundle(1).last()), 3), (false, Some(2)));
        assert_eq!(add(&directory, Some(bundle(2).last()), 3), (true, Some(3)));
    }
}
