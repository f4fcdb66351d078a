//! Lint: what is well-formed and still dangerous. Its codes are those of the catalogue that operators look up.
//!
//! Every finding here refuses the policy. A rule that a stranger can meet is a supply-chain attack waiting for one.

use std::fmt::Write as _;

use crate::identity::family;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::identity::provider::Span;
use crate::policy::condition::Condition;
use crate::policy::condition::Literal;
use crate::policy::condition::Test;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Message;
use crate::policy::yaml::Place;
use crate::policy::yaml::Value;
use crate::policy::yaml::shown;

pub mod catalogue;

mod grants;
mod issuers;
mod meeting;
mod patterns;
mod refs;
mod registries;
mod values;
mod waivers;

pub(super) use grants::rule;
pub(super) use issuers::fixed_audience;
pub(super) use issuers::fixed_audiences_of_bundles;
pub(super) use issuers::issuer;
pub(super) use issuers::issuers;
pub(super) use meeting::is_limited;
pub(super) use meeting::meeting;
pub(super) use registries::audience;
pub(super) use registries::computed_audience;
pub(super) use registries::registries;
pub(super) use waivers::Waiving;
pub(super) use waivers::unused as unused_waivers;
pub(super) use waivers::waivers;

/// Claims whose text begins with the owner.
const OWNER_FIRST: &[&str] = &[
    "repository",
    "repository_owner",
    "workflow_repository",
    "workflow_ref",
    "job_workflow_repository",
    "job_workflow_ref",
    "project_path",
    "namespace_path",
];
/// Events whose runs have the trust of the repository while people outside it choose what happens.
const OUTSIDE_EVENTS: &[&str] = &[
    "pull_request_target",
    "workflow_run",
    "issue_comment",
    "issues",
    "discussion",
    "discussion_comment",
    "pull_request_review",
    "pull_request_review_comment",
    "fork",
    "watch",
];
/// Claims that fix where a reusable workflow comes from.
const CALLEES: &[&str] = &["job_workflow_repository", "job_workflow_ref", "job_workflow_sha"];

/// The claims that rules must fix: the preset's, or the whole `sub` where nothing else is known.
pub(super) fn pins(provider: &Provider) -> &'static [&'static str] {
    if provider.pins.is_empty() { &["sub"] } else { provider.pins }
}

/// What an issuer demands of its rules.
#[derive(Debug, Clone, Copy)]
pub(super) struct Duties {
    /// The preset whose claims they read and whose pins they owe.
    pub(super) provider: &'static Provider,
    /// Whether the issuer is declared to have one tenant, so that they owe no pins.
    pub(super) single_tenant: bool,
    /// The claim that tells the members of a family apart, if the issuer is one.
    pub(super) segment: Option<&'static str>,
    /// What the rule says that it spans, if that is more than one project.
    pub(super) span: Option<&'static Span>,
}

impl Duties {
    /// The claims that rules must fix, each by literals.
    pub(super) fn pins(self) -> Vec<&'static str> {
        let freed = self.span.map_or(&[][..], |span| span.frees);
        let owed = pins(self.provider).iter().filter(|pin| !freed.contains(pin));
        owed.copied().chain(self.segment).collect()
    }
}

/// Whether the conditions of one branch of a rule are safe: those of its `when`, with those of a block of its `any_of`.
/// Claims whose conditions have been `reported` as faulty are not judged.
pub(super) fn conditions(
    when: &Field<'_>,
    block: Option<&Field<'_>>,
    duties: Duties,
    conditions: &[Condition<'_>],
    reported: &[&str],
    faults: &mut Faults,
) {
    let provider = duties.provider;
    if conditions.is_empty() && reported.is_empty() {
        if matches!(when.node.value, Value::Map(_)) {
            let message = (&catalogue::L002, "has no condition, so every job of the issuer would pass");
            when.fault(faults, message, "add conditions on claims");
        }
        return;
    }
    if !duties.single_tenant {
        all_pinned(block.unwrap_or(when), duties, conditions, reported, faults);
    }
    let entries = when.entries(faults).into_iter().flatten();
    let entries: Vec<Field<'_>> =
        entries.chain(block.and_then(|block| block.entries(faults)).into_iter().flatten()).collect();
    let names = |entry: &&Field<'_>, claim: &str| provider.resolve(entry.name()) == claim;
    let place = |claim: &str| entries.iter().find(|entry| names(entry, claim)).unwrap_or(when);
    for (condition, n) in conditions.iter().zip(0..) {
        // They come in the order of the entries, most of which make one.
        let usual = entries.get(n).filter(|entry| names(entry, &condition.claim));
        let entry = usual.unwrap_or_else(|| place(&condition.claim));
        check_pin(entry, condition, duties.segment, faults);
        patterns::check(entry, provider, condition, faults);
        values::check(entry, provider, condition, faults);
        check_event(entry, condition, faults);
    }
    for implied in provider.implied.iter().filter(|implied| !concerns(implied, reported)) {
        check_replaced(implied, conditions, &place, block.unwrap_or(when), faults);
    }
}

/// SECURITY: names can be freed and registered by someone else; numbers and UUIDs cannot. A rule that leaves one open
/// lets strangers in, so each is fixed by literals and nothing else counts.
fn all_pinned(when: &Field<'_>, duties: Duties, conditions: &[Condition<'_>], reported: &[&str], faults: &mut Faults) {
    let provider = duties.provider;
    for pin in duties.pins().into_iter().filter(|pin| !reported.contains(pin)) {
        let name = provider.shown(pin);
        if conditions.iter().any(|condition| &*condition.claim == pin && condition.pin) {
            continue;
        }
        let named = conditions.iter().any(|condition| &*condition.claim == pin);
        let how = if named { "is not fixed by literals" } else { "is not pinned" };
        let reason = if provider.pins.is_empty() {
            "anyone with a job on this issuer could publish"
        } else {
            "whoever takes over the name, or any other job of the provider, could publish"
        };
        let mut remedy = format!("add `{name}: \"…\"` with its literal value, or `{{in: [\"…\"]}}`");
        if provider.pins.is_empty() {
            remedy.push_str("; if everyone on the issuer is trusted alike, declare `tenancy: single` there");
        } else if !provider.hint.is_empty() {
            let _infallible = write!(remedy, "; tokens may lack it: {}", provider.hint);
        }
        when.fault_at_key(faults, (&catalogue::L001, format!("`{name}` {how}: {reason}")), remedy);
    }
}

/// Whether one of the claims has to do with an implied condition.
fn concerns(implied: &Implied, claims: &[&str]) -> bool {
    let prefix = |claim: &&str| implied.unless_prefix.is_some_and(|prefix| claim.starts_with(prefix));
    claims.iter().any(|claim| *claim == implied.claim || prefix(claim))
}

/// Identifiers are short printable ASCII; anything else is a slip, and never matches or matches a look-alike.
fn check_pin(entry: &Field<'_>, condition: &Condition<'_>, segment: Option<&str>, faults: &mut Faults) {
    let is_segment = segment == Some(&*condition.claim);
    for literal in condition.literals().iter().filter(|_| condition.pin) {
        if let Literal::Text(text) = literal
            && (text.is_empty()
                || !text.bytes().all(|b| b.is_ascii_graphic())
                || (is_segment && !family::is_segment(text)))
        {
            let message = (&catalogue::L046, format!("`{}` is not an identifier", shown(text)));
            entry.fault(faults, message, format!("write the literal value of `{}`", shown(&condition.claim)));
        }
    }
}

fn check_event(entry: &Field<'_>, condition: &Condition<'_>, faults: &mut Faults) {
    for literal in condition.literals().iter().filter(|_| &*condition.claim == "event_name") {
        if let Literal::Text(text) = literal
            && OUTSIDE_EVENTS.contains(&&**text)
        {
            let message =
                (&catalogue::L013, format!("runs started by `{text}` can execute code from outside the repository"));
            entry.fault(faults, message, "remove it, and publish from push, release or workflow_dispatch");
        }
    }
}

/// A rule that names the claim of an implied condition replaces it, and must not be laxer without saying so.
fn check_replaced<'a>(
    implied: &Implied,
    conditions: &[Condition<'_>],
    place: &impl Fn(&str) -> &'a Field<'a>,
    when: &Field<'_>,
    faults: &mut Faults,
) {
    if let Some(prefix) = implied.unless_prefix
        && conditions.iter().any(|condition| condition.claim.starts_with(prefix))
    {
        // SECURITY: without the callee's repository, any reusable workflow with a file of that name would do.
        let fixed = |c: &Condition<'_>| CALLEES.contains(&&*c.claim) && !c.literals().is_empty();
        if !conditions.iter().any(|condition| fixed(condition) || repeats(implied, condition)) {
            let remedy = "add `job_workflow_repository: OWNER/REPOSITORY`";
            when.fault_at_key(
                faults,
                (&catalogue::L031, "the reusable workflow's repository is not fixed by a literal"),
                remedy,
            );
        }
        return;
    }
    let mut named = conditions.iter().filter(|condition| &*condition.claim == implied.claim).peekable();
    if named.peek().is_none() || named.any(|condition| is_no_laxer(implied, condition)) {
        return;
    }
    let claim = implied.claim;
    let entry = place(claim);
    match implied.test {
        ImpliedTest::IsTrue => {
            entry.fault(
                faults,
                (&catalogue::L022, format!("`{claim}` must be true")),
                "remove the line: the preset demands it",
            );
        }
        ImpliedTest::IsFalse => {
            entry.fault(
                faults,
                (&catalogue::L021, format!("`{claim}` must be false")),
                "remove the line: the preset demands it",
            );
        }
        ImpliedTest::In(_)
        | ImpliedTest::NotIn(_)
        | ImpliedTest::Absent
        | ImpliedTest::AbsentOrIs(_)
        | ImpliedTest::SameAs(_)
        | ImpliedTest::AbsentOrSameAs(_) => {
            let remedy = "list the allowed values, or remove the line: the preset has safe ones";
            entry.fault(
                faults,
                (&catalogue::L013, format!("`{claim}` replaces a condition of the preset and is open")),
                remedy,
            );
        }
    }
}

/// Whether a rule's own condition says what the preset says: the one claim equals the other.
fn repeats(implied: &Implied, condition: &Condition<'_>) -> bool {
    let (ImpliedTest::SameAs(other) | ImpliedTest::AbsentOrSameAs(other)) = implied.test else { return false };
    *condition.claim == *implied.claim && matches!(&condition.test, Test::SameAs(claim) if **claim == *other)
}

/// Whether a rule's own condition is as closed as what it replaces: literals, none of them what the preset refuses by
/// name, and no other truth for a boolean.
fn is_no_laxer(implied: &Implied, condition: &Condition<'_>) -> bool {
    let literals = condition.literals();
    if repeats(implied, condition) {
        return true;
    }
    match implied.test {
        ImpliedTest::IsTrue => !literals.is_empty() && literals.iter().all(|literal| *literal == Literal::Bool(true)),
        ImpliedTest::IsFalse => !literals.is_empty() && literals.iter().all(|literal| *literal == Literal::Bool(false)),
        ImpliedTest::In(_) | ImpliedTest::SameAs(_) => !literals.is_empty(),
        // SECURITY: what the preset refuses by name, or by being there at all, is code from outside: a literal that says
        // so opens the rule as wide as a pattern does.
        ImpliedTest::NotIn(texts) => !literals.is_empty() && condition.texts().all(|text| !texts.contains(&text)),
        ImpliedTest::Absent => matches!(condition.test, Test::Absent),
        ImpliedTest::AbsentOrIs(only) => {
            let as_the_preset = !literals.is_empty() && condition.texts().all(|text| text == only);
            as_the_preset || matches!(condition.test, Test::Absent)
        }
        ImpliedTest::AbsentOrSameAs(_) => !literals.is_empty() || matches!(condition.test, Test::Absent),
    }
}

/// Reports a fault of a named entry of some section.
fn report(sections: &[Field<'_>], id: &str, message: impl Into<Message>, remedy: &str, faults: &mut Faults) {
    let mut silent = Faults::new();
    let found = sections.iter().find_map(|section| section.entries(&mut silent)?.find(|entry| entry.name() == id));
    match found {
        Some(entry) => entry.fault_at_key(faults, message, remedy),
        None => faults.push(Place::whole("policy".into()), id.to_owned(), message, remedy),
    }
}
