//! Rules that meet in one job and cannot be merged, because their tokens would differ in what no token can say twice.
//!
//! Only rules that limit their tokens (`single_use`, `versions`) can be part of such a pair, and few do; so those are
//! looked up by their pins, and a million others cost one look each, or nothing if there is none.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::hash::RandomState;

use super::catalogue;
use crate::policy::condition::Condition;
use crate::policy::pair::Packages;
use crate::policy::pair::Pair;
use crate::policy::rule::Branch;
use crate::policy::rule::Mode;
use crate::policy::rule::Rule;
use crate::policy::set::RuleSet;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Key;
use crate::policy::yaml::Path;
use crate::policy::yaml::Spot;

/// Most limited rules with the same pins that another is compared with.
const MOST_ALIKE: usize = 16;

/// Warns about pairs of enforced rules of which neither would grant: the job is refused unless it narrows what it asks
/// for. `limited` are the positions of the rules for which [`is_limited`] holds; `place` says where a rule's key stands.
pub(in crate::policy) fn meeting<'t>(
    set: &RuleSet,
    limited: &[u32],
    place: impl Fn(&str) -> Option<Spot<'t>>,
    faults: &mut Faults,
) {
    if limited.is_empty() {
        return;
    }
    let hasher = RandomState::new();
    let mut by_pins: HashMap<u64, Vec<u32>> = HashMap::new();
    for (rule, number) in limited.iter().filter_map(|number| Some((set.get(*number)?, *number))) {
        for branch in rule.branches() {
            let alike = by_pins.entry(pins(&hasher, &rule, branch)).or_default();
            if alike.len() < MOST_ALIKE && alike.last() != Some(&number) {
                alike.push(number);
            }
        }
    }
    for (rule, number) in set.iter().zip(0..).filter(|(rule, _)| rule.mode() == Mode::Enforce) {
        let alike = rule.branches().iter().filter_map(|branch| by_pins.get(&pins(&hasher, &rule, branch))).flatten();
        // Of two limited rules the later one tells.
        let earlier = |other: &u32| *other != number && (!is_limited(&rule) || *other < number);
        let other = alike.copied().filter(earlier).filter_map(|other| set.get(other)).find(|other| meet(&rule, other));
        let name = |rule: &Rule<'_>| rule.id().rsplit('/').next().unwrap_or_default().to_owned();
        if let Some(other) = other
            && let Some(spot) = place(&name(&rule))
        {
            let message = format!(
                "a job can meet this rule and `{}`, whose tokens are limited otherwise: it would be refused",
                name(&other)
            );
            let remedy =
                "add a condition by which they exclude each other, or give both the same `single_use` and `versions`";
            let (section, key) = (Key { text: "rules".into(), at: spot }, Key { text: name(&rule).into(), at: spot });
            let section = Path::below(&Path::ROOT, &section);
            faults.warn(spot, Path::below(&section, &key).to_string(), (&catalogue::L041, message), remedy);
        }
    }
}

/// Whether a rule grants tokens that are limited in a way that cannot be merged with another.
pub(in crate::policy) fn is_limited(rule: &Rule<'_>) -> bool {
    rule.mode() == Mode::Enforce && (rule.single_use() || !rule.versions().is_empty())
}

/// A digest of what a branch pins, by which branches that can hold for one job are found.
fn pins(hasher: &RandomState, rule: &Rule<'_>, branch: &Branch<'_>) -> u64 {
    let mut pins: Vec<String> = branch
        .conditions()
        .iter()
        .filter(|condition| condition.is_pin())
        .map(|condition| format!("{} {}", condition.claim(), condition.test()))
        .collect();
    pins.sort_unstable();
    hasher.hash_one((rule.registry, rule.issuer, pins))
}

/// Whether some job could meet both, be granted one pair by both, and not get it.
fn meet(one: &Rule<'_>, other: &Rule<'_>) -> bool {
    let alike = one.single_use() == other.single_use() && one.versions() == other.versions();
    let together = |one: &Branch<'_>| other.branches().iter().any(|other| compatible(one, other));
    !alike
        && one.branches().iter().any(together)
        && one.pairs().iter().any(|one| other.pairs().iter().any(|other| overlap(one, other)))
}

/// Whether no claim is fixed by the two to different literals.
fn compatible(one: &Branch<'_>, other: &Branch<'_>) -> bool {
    let excludes = |a: &Condition<'_>, b: &Condition<'_>| {
        let fixed = a.claim() == b.claim() && !a.literals().is_empty() && !b.literals().is_empty();
        fixed && !a.literals().iter().any(|literal| b.literals().contains(literal))
    };
    !one.conditions().iter().any(|a| other.conditions().iter().any(|b| excludes(a, b)))
}

/// Whether two pairs can be one. What a template makes is taken to be anything that begins as it does.
fn overlap(one: &Pair<'_>, other: &Pair<'_>) -> bool {
    let reach = |pair: &Pair<'_>| match pair.packages() {
        Packages::Pattern(text) => match text.strip_suffix('*') {
            Some(prefix) => (prefix.to_owned(), true),
            None => (text.to_string(), false),
        },
        Packages::Template(template) => {
            (template.as_str().split('{').next().unwrap_or_default().to_ascii_lowercase(), true)
        }
    };
    let ((a, a_open), (b, b_open)) = (reach(one), reach(other));
    one.action() == other.action()
        && match (a_open, b_open) {
            (false, false) => a == b,
            (true, false) => b.starts_with(&a),
            (false, true) => a.starts_with(&b),
            (true, true) => a.starts_with(&b) || b.starts_with(&a),
        }
}
