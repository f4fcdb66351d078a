//! What one rule wants and what the token has.

use serde::Serialize;

use super::Scene;
use super::cause::Topic;
use super::cause::topic;
use crate::identity::family;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::json::Json;
use crate::policy::condition::Condition;
use crate::policy::condition::Literal;
use crate::policy::condition::Test;
use crate::policy::evaluate::no_name;
use crate::policy::rule::Branch;
use crate::policy::rule::Mode;
use crate::policy::rule::Rule;
use crate::policy::rule::implied_holds;
use crate::policy::yaml::shown;

/// What stands in place of a claim for a package's name or version that was put together from claims.
pub(super) const NAME: &str = "(name)";

/// One rule, condition by condition.
#[derive(Debug, Clone, Serialize)]
pub struct RuleReport {
    /// The rule's name.
    pub rule: String,
    /// What it does at present.
    #[serde(serialize_with = "mode_name")]
    pub mode: Mode,
    /// Whether the caller may see it: it has immutable pins, and all of them match.
    pub disclosed: bool,
    /// What it grants, as it is written: `upload:widgets,upload:acme-{component}`.
    pub grants: String,
    /// Which block of its `any_of` came nearest, from 1, if it has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<usize>,
    /// The conditions of its nearest branch, those of the preset last.
    pub conditions: Vec<ConditionReport>,
}

/// One condition and what came of it.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one row of a table")]
pub struct ConditionReport {
    /// The claim.
    pub claim: String,
    /// What the rule wants: `release`, `one of push, release`, `like v*`, `present`.
    pub wants: String,
    /// What the token has; nothing if it lacks the claim.
    pub has: Option<String>,
    /// Whether the condition holds.
    pub holds: bool,
    /// Whether the preset added it.
    pub preset: bool,
    /// What else explains a failure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(skip)]
    pub(super) pin: bool,
    #[serde(skip)]
    pub(super) derived: bool,
    #[serde(skip)]
    pub(super) public: bool,
}

/// How far a rule's nearest branch is from matching: not disclosed, pins that fail, conditions that fail, a name that
/// is none. Smaller is nearer.
pub(super) fn misses(rule: &Rule<'_>, scene: &Scene<'_>) -> Misses {
    rule.branches().iter().map(|branch| misses_of(rule, branch, scene)).min().unwrap_or((true, 0, 0, false))
}

pub(super) type Misses = (bool, usize, usize, bool);

fn misses_of(rule: &Rule<'_>, branch: &Branch<'_>, scene: &Scene<'_>) -> Misses {
    let failed = |condition: &&Condition<'_>| !condition.holds(scene.claims);
    let pins = branch.conditions().iter().filter(|condition| condition.is_pin());
    let pins_failed = pins.clone().filter(failed).count();
    let stated = branch.conditions().iter().filter(failed).count();
    let implied = branch.implied(scene.provider).filter(|implied| !implied_holds(implied, scene.claims)).count();
    let failed = stated + implied;
    (pins.count() == 0 || pins_failed > 0, pins_failed, failed, failed == 0 && no_name(rule, branch, scene).is_some())
}

impl RuleReport {
    pub(super) fn new(rule: &Rule<'_>, scene: &Scene<'_>) -> Self {
        let ranked = rule.branches().iter().map(|branch| (misses_of(rule, branch, scene), branch)).enumerate();
        let nearest = ranked.min_by_key(|(number, (misses, _))| (*misses, *number));
        let mut grants: Vec<String> = rule.pairs().iter().map(ToString::to_string).collect();
        grants.sort_unstable();
        let mut report = Self {
            rule: rule.id().to_owned(),
            mode: rule.mode(),
            disclosed: false,
            grants: grants.join(","),
            block: None,
            conditions: Vec::new(),
        };
        let Some((number, (misses, branch))) = nearest else { return report };
        let stated = branch.conditions().iter().map(|condition| ConditionReport::stated(condition, scene));
        let implied = branch.implied(scene.provider).map(|implied| ConditionReport::implied(implied, scene));
        report.disclosed = !misses.0;
        report.block = (rule.branches().len() > 1).then_some(number + 1);
        report.conditions = stated.chain(implied).collect();
        if misses.3
            && let Some(made) = no_name(rule, branch, scene)
        {
            report.conditions.push(ConditionReport::name(rule, branch, &made, scene));
        }
        report
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn mode_name<S: serde::Serializer>(mode: &Mode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(mode.name())
}

impl ConditionReport {
    fn stated(condition: &Condition<'_>, scene: &Scene<'_>) -> Self {
        let mut report = Self::about(condition.claim(), scene);
        report.wants = shown(&wanted(condition.test(), scene));
        report.holds = condition.holds(scene.claims);
        report.pin = condition.is_pin();
        if !report.holds {
            report.note = note(condition, scene);
        }
        report
    }

    /// The names and versions that the job's claims make, of which one is none.
    fn name(rule: &Rule<'_>, branch: &Branch<'_>, made: &str, scene: &Scene<'_>) -> Self {
        let templates = rule.templates().map(|template| format!("`{template}`")).collect::<Vec<_>>().join(", ");
        let read = branch.conditions().iter().flat_map(Condition::claims);
        Self {
            claim: NAME.to_owned(),
            wants: format!("a name in its canonical spelling from {}", shown(&templates)),
            has: Some(shown(made)).filter(|made| !made.is_empty()),
            holds: false,
            preset: false,
            note: String::new(),
            pin: false,
            derived: false,
            public: read.into_iter().all(|claim| is_public(scene.provider, claim)),
        }
    }

    fn implied(implied: &Implied, scene: &Scene<'_>) -> Self {
        let mut report = Self::about(implied.claim, scene);
        report.wants = match implied.test {
            ImpliedTest::In(texts) => format!("one of {}", texts.join(", ")),
            ImpliedTest::NotIn(texts) => format!("none of {}", texts.join(", ")),
            ImpliedTest::IsTrue => "true".to_owned(),
            ImpliedTest::IsFalse => "false".to_owned(),
            ImpliedTest::Absent => "absent".to_owned(),
            ImpliedTest::AbsentOrIs("") => "absent or empty".to_owned(),
            ImpliedTest::AbsentOrIs(text) => format!("absent, or {text}"),
            ImpliedTest::SameAs(other) => same_as(other, scene),
            ImpliedTest::AbsentOrSameAs(other) => format!("absent, or {}", same_as(other, scene)),
        };
        report.holds = implied_holds(implied, scene.claims);
        report.preset = true;
        if !report.holds && topic(implied.claim) == Topic::ReusableWorkflow {
            report.note = reusable(scene);
        } else if !report.holds && implied.claim == "job_project_id" {
            "the job runs the code of another project, such as a fork".clone_into(&mut report.note);
        }
        report
    }

    fn about(claim: &str, scene: &Scene<'_>) -> Self {
        Self {
            claim: shown(claim),
            wants: String::new(),
            has: scene.claims.get(claim).map(text_of),
            holds: false,
            preset: false,
            note: String::new(),
            pin: false,
            derived: scene.provider.derived.iter().any(|derived| derived.claim.name == claim),
            public: is_public(scene.provider, claim),
        }
    }
}

/// Whether a claim may be shown outside: the preset calls it public, or everything that it is derived from.
fn is_public(provider: &Provider, claim: &str) -> bool {
    let named = |name: &str| provider.public.contains(&name);
    let derived = provider.derived.iter().find(|derived| derived.claim.name == claim);
    // The segment of a family's member stands in `iss`.
    let segment = provider.families.iter().any(|template| family::claim(template) == Some(claim));
    named(claim) || segment || derived.is_some_and(|derived| derived.from.iter().all(|from| named(from)))
}

/// What a test wants, with the value of the claim that it compares with.
fn wanted(test: &Test<'_>, scene: &Scene<'_>) -> String {
    match test {
        Test::SameAs(other) if is_public(scene.provider, other) => same_as(other, scene),
        Test::SameAs(_)
        | Test::Is(_)
        | Test::In(_)
        | Test::Glob(_)
        | Test::Regex(_)
        | Test::Contains(_)
        | Test::Exactly(_)
        | Test::Present
        | Test::Absent
        | Test::Not(_) => test.to_string(),
    }
}

fn same_as(other: &str, scene: &Scene<'_>) -> String {
    match scene.claims.get(other) {
        Some(value) => format!("the same as {other}, {}", text_of(value)),
        None => format!("the same as {other}, which is missing"),
    }
}

/// What explains a failure beside the two values.
fn note(condition: &Condition<'_>, scene: &Scene<'_>) -> String {
    let have = scene.claims.get(condition.claim());
    let differs_in_case = |literal: &Literal<'_>| match (literal, have.and_then(Json::as_str)) {
        (Literal::Text(want), Some(have)) => want.eq_ignore_ascii_case(have),
        (Literal::Text(_) | Literal::Int(_) | Literal::Bool(_), _) => false,
    };
    if condition.literals().iter().any(differs_in_case) {
        return "they differ in upper and lower case only".to_owned();
    }
    if matches!(condition.test(), Test::Absent) || have.is_some() {
        return String::new();
    }
    match scene.claims.string("ref").filter(|_| topic(condition.claim()) == Topic::Ref) {
        Some(git_ref) if is_public(scene.provider, "ref") => format!("the run is for {}", shown(git_ref)),
        Some(_) | None => String::new(),
    }
}

/// Which reusable workflow the job runs in.
fn reusable(scene: &Scene<'_>) -> String {
    let part = |claim| scene.claims.string(claim).filter(|_| is_public(scene.provider, claim)).map(shown);
    match (part("job_workflow_file"), part("job_workflow_repository")) {
        (Some(file), Some(repository)) => {
            format!("to allow it, add `job_workflow_repository: {repository}` and `job_workflow_file: {file}`")
        }
        (Some(_) | None, _) => String::new(),
    }
}

/// A claim's value as people read it.
pub(super) fn text_of(value: &Json) -> String {
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Int(number) => number.to_string(),
        Json::Float(number) => number.to_string(),
        Json::String(text) if text.is_empty() => "\"\"".to_owned(),
        Json::String(text) => shown(text),
        Json::Array(items) => shown(&format!("[{}]", items.iter().map(text_of).collect::<Vec<_>>().join(", "))),
        Json::Object(_) => "an object".to_owned(),
    }
}
