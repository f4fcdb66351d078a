//! A rule under an assumption: what it is if every condition that reads a claim which is not recorded holds, and if none
//! does.
//!
//! Conditions of a branch are a conjunction, so between these two lies everything that the claims could have made of
//! the rule. Operators such as `not` and `absent` are inside a condition and change nothing about that.

use crate::identity::provider::Provider;
use crate::policy::condition::Condition;
use crate::policy::condition::Test;
use crate::policy::diff::record::Record;
use crate::policy::rule::Branch;
use crate::policy::rule::Rule;
use crate::policy::text::Text;

/// The name of a claim that no token has.
const NOBODYS: &str = "";

/// The rule, each of its conditions that the record cannot judge taken as given or as failed.
pub(super) fn assume<'a>(rule: &Rule<'a>, provider: &'static Provider, record: &Record<'_>, holds: bool) -> Rule<'a> {
    let mut assumed = rule.clone();
    for branch in &mut assumed.branches {
        for condition in &mut branch.conditions {
            if record.unknown(condition).next().is_some() {
                *condition = constant(holds);
            }
        }
        for (bit, implied) in provider.implied.iter().enumerate() {
            if branch.implied >> bit & 1 == 1 && record.unknown_implied(implied).next().is_some() {
                branch.implied &= !(1 << bit);
                branch.conditions.push(constant(holds));
            }
        }
    }
    assumed
}

/// The claims that the rule reads, its preset's conditions included, and that the record does not know.
pub(super) fn unknown_claims(rule: &Rule<'_>, provider: &'static Provider, record: &Record<'_>) -> Vec<String> {
    let of_branch = |branch: &Branch<'_>| {
        let stated = branch.conditions.iter().flat_map(|condition| record.unknown(condition)).map(str::to_owned);
        let implied = branch.implied(provider).flat_map(|implied| record.unknown_implied(implied)).map(str::to_owned);
        stated.chain(implied).collect::<Vec<_>>()
    };
    let placeholders = rule.templates().flat_map(|template| template.placeholders());
    let placeholders = placeholders.filter(|name| is_opaque(rule, name, record)).map(str::to_owned);
    rule.branches.iter().flat_map(of_branch).chain(placeholders).collect()
}

/// Whether the rule makes a name or version of something that is not recorded, so that nobody can say what it grants.
pub(super) fn grants_unknown(rule: &Rule<'_>, record: &Record<'_>) -> bool {
    rule.templates().flat_map(|template| template.placeholders()).any(|name| is_opaque(rule, name, record))
}

/// Whether what a placeholder stands for is not recorded: a group of a regular expression over a claim that is not, or
/// such a claim itself.
fn is_opaque(rule: &Rule<'_>, name: &str, record: &Record<'_>) -> bool {
    let captures = |condition: &&Condition<'_>| match condition.test() {
        Test::Regex(regexp) => regexp.groups().any(|group| group == name),
        Test::Is(_)
        | Test::In(_)
        | Test::Glob(_)
        | Test::Contains(_)
        | Test::Exactly(_)
        | Test::Present
        | Test::Absent
        | Test::SameAs(_)
        | Test::Not(_) => false,
    };
    rule.branches.iter().any(|branch| match branch.conditions.iter().find(captures) {
        Some(condition) => !record.knows(condition.claim()),
        None => !record.knows(name),
    })
}

fn constant(holds: bool) -> Condition<'static> {
    let test = if holds { Test::Absent } else { Test::Present };
    Condition { claim: Text::from(NOBODYS), test, folded: false, pin: false }
}
