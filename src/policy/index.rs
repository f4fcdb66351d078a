//! The index: which rules a token could match, at a cost that does not grow with the number of rules.
//!
//! It narrows and never decides: each rule that it returns is still evaluated in full, so a collision of hashes costs
//! time and grants nothing. Each branch of a rule is filed under its rarest exact condition, a pin if it has one, so
//! every rule that matches is found, and every one whose pins all match.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hash::BuildHasherDefault;
use std::hash::Hasher;

use crate::identity::claims::Claims;
use crate::identity::provider::Case;
use crate::policy::condition::Condition;
use crate::policy::condition::Scalar;
use crate::policy::rule::Branch;
use crate::policy::rule::Rule;

/// Rules by registry, issuer and rarest exact condition.
#[derive(Debug, Default)]
pub(super) struct Index {
    // Keyed by the process: a policy's author cannot pile rules onto one hash.
    hasher: RandomState,
    groups: HashMap<(u32, u32), Group>,
    /// Hashes of registry, issuer, claim and literal, sorted; and the rule that is filed under each.
    keys: Box<[u64]>,
    filed: Box<[u32]>,
}

/// The rules of one registry for one issuer.
#[derive(Debug, Default)]
struct Group {
    /// The claims that its rules are filed under.
    claims: Vec<Box<str>>,
    /// Rules with a branch that has no exact condition.
    unfiled: Vec<u32>,
    /// All of them, in the order of the files.
    rules: Vec<u32>,
}

/// An index in the making.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    hasher: RandomState,
    groups: HashMap<(u32, u32), Group>,
    /// For each branch, the keys of each condition that it could be filed under, the claim as its number in the group.
    offers: Vec<Offer>,
    /// How many branches have a key.
    frequency: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
}

/// The hasher of keys that are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let word = |bytes: &[u8]| bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        self.0 = bytes.chunks(8).map(word).fold(self.0, |hash, word| hash ^ word);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A condition that a branch could be filed under.
#[derive(Debug)]
struct Offer {
    rule: u32,
    branch: u16,
    claim: u16,
    key: u64,
}

impl IndexBuilder {
    /// Takes a rule in.
    pub(super) fn add(&mut self, rule: &Rule<'_>, number: u32) {
        let group = self.groups.entry((rule.registry, rule.issuer)).or_default();
        group.rules.push(number);
        for (branch, n) in rule.branches.iter().zip(0..) {
            let mut any = false;
            for condition in choices(branch) {
                any = true;
                let claim = group.claims.iter().position(|claim| **claim == *condition.claim);
                let claim = claim.unwrap_or_else(|| {
                    group.claims.push(Box::from(&*condition.claim));
                    group.claims.len() - 1
                });
                let claim = u16::try_from(claim).unwrap_or(u16::MAX);
                for literal in condition.literals() {
                    let key = key(&self.hasher, rule.registry, rule.issuer, &condition.claim, literal.scalar());
                    *self.frequency.entry(key).or_default() += 1;
                    self.offers.push(Offer { rule: number, branch: n, claim, key });
                }
            }
            if !any && group.unfiled.last() != Some(&number) {
                group.unfiled.push(number);
            }
        }
    }

    /// Files every branch under the condition that the fewest others share.
    pub(super) fn finish(self) -> Index {
        let weight = |offers: &[Offer]| -> u64 {
            offers.iter().map(|offer| u64::from(self.frequency.get(&offer.key).copied().unwrap_or(0))).sum()
        };
        let mut filed: Vec<(u64, u32)> = Vec::new();
        for of_branch in self.offers.chunk_by(|a, b| (a.rule, a.branch) == (b.rule, b.branch)) {
            let conditions = of_branch.chunk_by(|a, b| a.claim == b.claim);
            // Of equally rare ones the last: presets and people name the owner first, then the project.
            let chosen = conditions.rev().min_by_key(|offers| weight(offers)).unwrap_or_default();
            filed.extend(chosen.iter().map(|offer| (offer.key, offer.rule)));
        }
        filed.sort_unstable();
        filed.dedup();
        let mut groups = self.groups;
        for group in groups.values_mut() {
            group.rules.shrink_to_fit();
        }
        Index {
            hasher: self.hasher,
            groups,
            keys: filed.iter().map(|(key, _)| *key).collect(),
            filed: filed.iter().map(|(_, rule)| *rule).collect(),
        }
    }
}

impl Index {
    /// The rules that could match: each with a branch whose filed condition holds, and each that is filed under none.
    pub(super) fn candidates(&self, registry: u32, issuer: u32, claims: &Claims) -> Vec<u32> {
        let Some(group) = self.groups.get(&(registry, issuer)) else { return Vec::new() };
        let mut found = group.unfiled.clone();
        for claim in &group.claims {
            let Some(value) = claims.get(claim).and_then(Scalar::of) else { continue };
            let key = key(&self.hasher, registry, issuer, claim, value);
            let start = self.keys.partition_point(|filed| *filed < key);
            let same = self.keys.iter().zip(&self.filed).skip(start).take_while(|(filed, _)| **filed == key);
            found.extend(same.map(|(_, rule)| *rule));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The claims that the rules of one registry for one issuer are filed under.
    pub(super) fn claims(&self, registry: u32, issuer: u32) -> impl Iterator<Item = &str> {
        self.groups.get(&(registry, issuer)).into_iter().flat_map(|group| group.claims.iter().map(AsRef::as_ref))
    }

    /// The first rules of one registry for one issuer.
    pub(super) fn first(&self, registry: u32, issuer: u32, limit: usize) -> impl Iterator<Item = u32> {
        let group = self.groups.get(&(registry, issuer));
        group.into_iter().flat_map(move |group| group.rules.iter().copied().take(limit))
    }

    /// How many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let groups = self.groups.values().map(|group| 4 * (group.unfiled.len() + group.rules.len()));
        12 * self.keys.len() + groups.sum::<usize>()
    }
}

/// The conditions that a branch can be filed under: its pins, or without any its other exact conditions.
fn choices<'r, 'a>(branch: &'r Branch<'a>) -> impl Iterator<Item = &'r Condition<'a>> {
    let exact = |condition: &&Condition<'a>| condition.case() == Case::Exact && !condition.literals().is_empty();
    let pinned = branch.conditions.iter().filter(exact).any(|condition| condition.pin);
    branch.conditions.iter().filter(exact).filter(move |condition| condition.pin || !pinned)
}

fn key(hasher: &RandomState, registry: u32, issuer: u32, claim: &str, value: Scalar<'_>) -> u64 {
    hasher.hash_one((registry, issuer, claim, value))
}
