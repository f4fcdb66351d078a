//! Sets of rules, packed: one array of bytes for all of them.
//!
//! A million rules are a few large blocks of memory, so they take little of it, and a policy that is replaced is given
//! back at once. A rule is unpacked when it is looked at, which borrows its text; one that cannot be unpacked does not
//! exist, and grants nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::identity::claims::Claims;
use crate::policy::condition::Condition;
use crate::policy::index::Index;
use crate::policy::index::IndexBuilder;
use crate::policy::regexp::Regexps;
use crate::policy::rule::Rule;

/// Rules that were read together, with their index. Never changes.
#[derive(Debug, Default)]
pub struct RuleSet {
    bytes: Box<[u8]>,
    /// Where each rule begins.
    starts: Box<[u32]>,
    /// Positions of the rules in the order of their names.
    by_name: Box<[u32]>,
    index: Index,
    regexps: Regexps,
    /// The literals by which rules pin the segment of a family: (the issuer's position, segment), sorted and distinct.
    segments: Box<[(u32, Box<str>)]>,
}

impl RuleSet {
    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// How many bytes it takes, the compiled patterns aside.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + 4 * (self.starts.len() + self.by_name.len()) + self.index.bytes()
    }

    /// The rule at a position, in the order of the files.
    pub fn get(&self, number: u32) -> Option<Rule<'_>> {
        let mut rule: Rule<'_> = postcard::from_bytes(self.packed(number)?).ok()?;
        rule.resolve(&self.regexps)?;
        Some(rule)
    }

    /// The rules, in the order of the files.
    pub fn iter(&self) -> impl Iterator<Item = Rule<'_>> {
        (0..count(&self.starts)).filter_map(|number| self.get(number))
    }

    /// The rule of that name.
    pub fn by_id(&self, id: &str) -> Option<Rule<'_>> {
        let found = self.by_name.binary_search_by(|number| self.id(*number).unwrap_or("").cmp(id));
        self.get(*self.by_name.get(found.ok()?)?)
    }

    /// The rules of a registry for an issuer that could match these claims, in the order of the files.
    pub(super) fn candidates(&self, registry: u32, issuer: u32, claims: &Claims) -> impl Iterator<Item = Rule<'_>> {
        self.index.candidates(registry, issuer, claims).into_iter().filter_map(|number| self.get(number))
    }

    /// How many those are.
    pub(super) fn candidate_count(&self, registry: u32, issuer: u32, claims: &Claims) -> usize {
        self.index.candidates(registry, issuer, claims).len()
    }

    /// The claims that decide which rules of a registry for an issuer are candidates.
    pub(super) fn filed_under(&self, registry: u32, issuer: u32) -> impl Iterator<Item = &str> {
        self.index.claims(registry, issuer)
    }

    /// The first rules of a registry for an issuer.
    pub(super) fn first(&self, registry: u32, issuer: u32, limit: usize) -> impl Iterator<Item = Rule<'_>> {
        self.index.first(registry, issuer, limit).filter_map(|number| self.get(number))
    }

    /// The literals by which rules pin the segment of a family.
    pub(super) fn segments(&self) -> impl Iterator<Item = (u32, &str)> {
        self.segments.iter().map(|(issuer, segment)| (*issuer, &**segment))
    }

    fn id(&self, number: u32) -> Option<&str> {
        postcard::take_from_bytes(self.packed(number)?).ok().map(|(id, _)| id)
    }

    fn packed(&self, number: u32) -> Option<&[u8]> {
        let start = usize::try_from(*self.starts.get(usize::try_from(number).ok()?)?).ok()?;
        self.bytes.get(start..)
    }
}

/// A set in the making.
#[derive(Debug, Default)]
pub(super) struct RuleSetBuilder {
    bytes: Vec<u8>,
    starts: Vec<u32>,
    pub(super) regexps: Regexps,
    index: IndexBuilder,
    segments: BTreeSet<(u32, Box<str>)>,
}

impl RuleSetBuilder {
    /// Adds a rule; `segment` is the claim that tells the members of its issuer's family apart. `None` if the set is
    /// full: four gigabytes, ten million rules or more.
    pub(super) fn push(&mut self, rule: &Rule<'_>, segment: Option<&str>) -> Option<()> {
        let start = u32::try_from(self.bytes.len()).ok()?;
        self.bytes = postcard::to_extend(rule, std::mem::take(&mut self.bytes)).ok()?;
        let number = count(&self.starts);
        self.starts.push(start);
        self.index.add(rule, number);
        if let Some(segment) = segment {
            let conditions = rule.branches.iter().flat_map(|branch| &branch.conditions);
            let literals = conditions.filter(|condition| *condition.claim == *segment);
            self.segments.extend(literals.flat_map(Condition::texts).map(|text| (rule.issuer, Box::from(text))));
        }
        Some(())
    }

    /// The position of the rule that was added last.
    pub(super) fn last(&self) -> u32 {
        count(&self.starts).saturating_sub(1)
    }

    /// The set.
    pub(super) fn finish(self) -> Arc<RuleSet> {
        let mut set = RuleSet {
            bytes: self.bytes.into_boxed_slice(),
            starts: self.starts.into_boxed_slice(),
            by_name: Box::default(),
            index: self.index.finish(),
            regexps: self.regexps,
            segments: self.segments.into_iter().collect(),
        };
        let mut by_name: Vec<(&str, u32)> =
            (0..count(&set.starts)).map(|number| (set.id(number).unwrap_or(""), number)).collect();
        by_name.sort_unstable();
        set.by_name = by_name.into_iter().map(|(_, number)| number).collect();
        Arc::new(set)
    }
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
