//! Whether a bundle comes into force: whole, or not at all.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::BundleFault;
use super::MAX_VALIDITY;
use super::Signed;
use super::Source;
use super::document::Document;
use super::document::KEYS;
use crate::policy::Policy;
use crate::policy::parse;
use crate::policy::parse::Scope;
use crate::policy::parse::World;
use crate::policy::parse::rule_test;
use crate::policy::set::RuleSet;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::time::Timestamp;

/// How much further ahead a bundle's end may be: what its server's clock and ours may differ by.
const LEEWAY: Duration = Duration::from_secs(60);

/// Most rules that its tests may look at together: some seconds' work, and enough for a test of each of a million rules.
const MAX_LOOKS: usize = 4 << 20;

/// A registry's own rules, read for the issuers and registries of one directory. Only [`accept`] and [`reread`] make one.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The directory's entries that its rules refer to by their positions.
    pub(in crate::policy) world: Arc<World>,
    /// The position of its registry.
    pub(in crate::policy) registry: u32,
    pub(in crate::policy) rules: Arc<RuleSet>,
    serial: i64,
    not_after: Timestamp,
    digest: [u8; 32],
}

/// Which bundle was last in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Its serial.
    pub serial: i64,
    /// The SHA-256 of its bytes.
    pub digest: [u8; 32],
}

impl Bundle {
    /// Which one it is, in the registry's own counting.
    pub const fn serial(&self) -> i64 {
        self.serial
    }

    /// The moment from which on its rules are not known to be the registry's any more.
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The SHA-256 of its bytes.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// How many rules it has.
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// What the next bundle must come after.
    pub const fn last(&self) -> Last {
        Last { serial: self.serial, digest: self.digest }
    }
}

/// Reads the bundle of a registry of this policy, for it to come into force at `now` after the one that was `last`.
///
/// SECURITY: nothing in it reaches beyond the registry. Its rules are for that registry alone, whose audiences their
/// tokens must have; they may name the issuers and packages that the operator's [`Source`] lets them; and they are held
/// to lint and to their own tests as those of the directory are.
pub fn accept(
    policy: &Policy,
    registry: &str,
    signed: &Signed<'_>,
    last: Option<Last>,
    now: Timestamp,
) -> Result<Bundle, BundleFault> {
    let name = name(registry);
    let document = document(policy, registry, &name, signed)?;
    if let Some(last) = last {
        let is_new = document.serial > last.serial;
        // A server that answers with the same bytes again says nothing new.
        let is_same = document.serial == last.serial && *signed.digest() == last.digest;
        // SECURITY: whoever can answer for the server, or restore it from a backup, must not bring back a rule that was
        // withdrawn.
        if !is_new && !is_same {
            return Err(BundleFault::Serial { serial: document.serial, last: last.serial });
        }
    }
    if document.not_after <= now {
        return Err(BundleFault::Expired(document.not_after));
    }
    if document.not_after > now.plus(MAX_VALIDITY + LEEWAY) {
        return Err(BundleFault::TooLong(document.not_after));
    }
    read(policy, registry, document, signed)
}

/// Reads a bundle that is in force once more, for another directory: its rules refer to what that has. Whether it is
/// still good in time is for each request to see.
pub fn reread(policy: &Policy, registry: &str, signed: &Signed<'_>) -> Result<Bundle, BundleFault> {
    read(policy, registry, document(policy, registry, &name(registry), signed)?, signed)
}

/// What messages call a registry's bundle.
fn name(registry: &str) -> String {
    format!("bundle of {registry}")
}

fn document<'t>(
    policy: &Policy,
    registry: &str,
    name: &'t str,
    signed: &Signed<'t>,
) -> Result<Document<'t>, BundleFault> {
    let source = source(policy, registry)?;
    if signed.bytes().len() > source.max_bytes {
        return Err(BundleFault::TooLarge { bytes: signed.bytes().len(), most: source.max_bytes });
    }
    let document = Document::read(name, signed.bytes()).map_err(BundleFault::Unreadable)?;
    // SECURITY: a bundle says whose it is under its signature, so that one key may sign for several registries.
    if document.registry == registry { Ok(document) } else { Err(BundleFault::OtherRegistry(document.registry)) }
}

fn source<'p>(policy: &'p Policy, registry: &str) -> Result<&'p Source, BundleFault> {
    let entry = policy.registries().by_id(registry);
    entry.and_then(|entry| entry.bundle.as_deref()).ok_or(BundleFault::NotConfigured)
}

fn read(
    policy: &Policy,
    registry: &str,
    mut document: Document<'_>,
    signed: &Signed<'_>,
) -> Result<Bundle, BundleFault> {
    let source = source(policy, registry)?;
    let number = policy.registries().position(registry).ok_or(BundleFault::NotConfigured)?;
    let scope = Scope { registry, issuers: &source.issuers, packages: source.packages.as_deref() };
    let mut faults = Faults::new();
    let sections = document.rules.take().into_iter().collect();
    let rules = parse::rules(sections, &policy.world, Some(&scope), &mut HashMap::new(), &|_| (), &mut faults);
    let root = Field::root(&document.root);
    let fields = root.fields(KEYS, &mut Faults::new());
    let tests = fields.as_ref().and_then(|fields| fields.get("tests"));
    let tests = rule_test::tests(tests.as_slice(), &policy.world, &rules, Some(&scope), &mut faults);
    let (serial, not_after, digest) = (document.serial, document.not_after, *signed.digest());
    faults.into_result(Some(())).map_err(BundleFault::Rules)?;
    let bundle = Bundle { world: Arc::clone(&policy.world), registry: number, rules, serial, not_after, digest };
    let bundle = Arc::new(bundle);
    let alone = policy.with_bundles([Arc::clone(&bundle)]);
    crate::policy::rule_test::demand_within(&alone, &tests, MAX_LOOKS).map_err(BundleFault::Rules)?;
    drop(alone);
    Ok(Arc::unwrap_or_clone(bundle))
}

#[cfg(test)]
mod tests;
