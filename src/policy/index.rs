//! The index: which rules a token could match, at a cost that does not grow with the number of rules.
//!
//! It narrows and never decides: each rule that it returns is still evaluated in full, so a collision of hashes costs
//! time and grants nothing. A pinned rule is filed under its rarest pin, so every rule whose pins all match is found.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use crate::identity::claims::Claims;
use crate::identity::provider::Case;
use crate::policy::rule::Condition;
use crate::policy::rule::Rule;
use crate::policy::rule::Scalar;

/// Rules by registry, issuer and rarest exact pin.
#[derive(Debug, Default)]
pub(super) struct Index {
    // Keyed by the process: a policy's author cannot pile rules onto one hash.
    hasher: RandomState,
    groups: HashMap<(u32, u32), Group>,
    /// (hash of registry, issuer, claim and literal; rule), sorted.
    filed: Vec<(u64, u32)>,
}

/// The rules of one registry for one issuer.
#[derive(Debug, Default)]
struct Group {
    /// The claims that its rules are filed under.
    claims: Vec<Arc<str>>,
    /// Rules without an exact condition.
    unfiled: Vec<u32>,
    /// All of them, in the order of the policy.
    rules: Vec<u32>,
}

impl Index {
    /// Files every rule.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        let mut frequency: HashMap<u64, u32> = HashMap::new();
        for rule in rules {
            for key in rule.conditions.iter().flat_map(|condition| index.keys(rule, condition)) {
                *frequency.entry(key).or_default() += 1;
            }
        }
        for (rule, number) in rules.iter().zip(0..) {
            let weight = |condition: &&Condition| -> u64 {
                index.keys(rule, condition).map(|key| u64::from(frequency.get(&key).copied().unwrap_or(0))).sum()
            };
            let exact = || rule.conditions.iter().filter(|c| c.case == Case::Exact && !c.literals().is_empty());
            // Of equally rare ones the last: presets and people name the owner first, then the project.
            let pin = exact().filter(|condition| condition.pin).rev().min_by_key(weight);
            let chosen = pin.or_else(|| exact().rev().min_by_key(weight));
            let keys: Vec<u64> = chosen.into_iter().flat_map(|condition| index.keys(rule, condition)).collect();
            let group = index.groups.entry((rule.registry, rule.issuer)).or_default();
            group.rules.push(number);
            match chosen {
                Some(condition) if !group.claims.contains(&condition.claim) => {
                    group.claims.push(Arc::clone(&condition.claim));
                }
                Some(_) => {}
                None => group.unfiled.push(number),
            }
            index.filed.extend(keys.into_iter().map(|key| (key, number)));
        }
        index.filed.sort_unstable();
        index.filed.dedup();
        index.filed.shrink_to_fit();
        index
    }

    /// The rules that could match: each whose filed condition holds, and each that is filed under none.
    pub(super) fn candidates(&self, registry: u32, issuer: u32, claims: &Claims) -> Vec<u32> {
        let Some(group) = self.groups.get(&(registry, issuer)) else { return Vec::new() };
        let mut found = group.unfiled.clone();
        for claim in &group.claims {
            let Some(value) = claims.get(claim).and_then(Scalar::of) else { continue };
            let key = self.key(registry, issuer, claim, value);
            let start = self.filed.partition_point(|(filed, _)| *filed < key);
            let same = self.filed.iter().skip(start).take_while(|(filed, _)| *filed == key);
            found.extend(same.map(|(_, rule)| *rule));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The first rules of one registry for one issuer.
    pub(super) fn first(&self, registry: u32, issuer: u32, limit: usize) -> impl Iterator<Item = u32> {
        let group = self.groups.get(&(registry, issuer));
        group.into_iter().flat_map(move |group| group.rules.iter().copied().take(limit))
    }

    fn keys(&self, rule: &Rule, condition: &Condition) -> impl Iterator<Item = u64> {
        let key = |literal| self.key(rule.registry, rule.issuer, &condition.claim, literal);
        condition.literals().iter().map(move |literal| key(literal.scalar()))
    }

    fn key(&self, registry: u32, issuer: u32, claim: &str, value: Scalar<'_>) -> u64 {
        self.hasher.hash_one((registry, issuer, claim, value))
    }
}
