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
use crate::package::Permissions;
use crate::policy::rule::Condition;
use crate::policy::rule::Literal;
use crate::policy::rule::Rule;
use crate::policy::rule::Test;
use crate::policy::rule::implied_holds;
use crate::policy::yaml::shown;

/// One rule, condition by condition.
#[derive(Debug, Clone, Serialize)]
pub struct RuleReport {
    /// The rule's name.
    pub rule: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Whether the caller may see it: it has immutable pins, and all of them match.
    pub disclosed: bool,
    /// What it grants: `upload:widgets,upload:widgets-*`.
    pub grants: String,
    /// Its conditions, those of the preset last.
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

/// How far a rule is from matching: not disclosed, pins that fail, conditions that fail. Smaller is nearer.
pub(super) fn misses(rule: &Rule, scene: &Scene<'_>) -> (bool, usize, usize) {
    let failed = |condition: &&Condition| !condition.holds(scene.claims);
    let pins = rule.conditions.iter().filter(|condition| condition.pin);
    let pins_failed = pins.clone().filter(failed).count();
    let stated = rule.conditions.iter().filter(failed).count();
    let implied = rule.implied(scene.provider).filter(|implied| !implied_holds(implied, scene.claims)).count();
    (pins.count() == 0 || pins_failed > 0, pins_failed, stated + implied)
}

impl RuleReport {
    pub(super) fn new(rule: &Rule, scene: &Scene<'_>) -> Self {
        let stated = rule.conditions.iter().map(|condition| ConditionReport::stated(condition, scene));
        let implied = rule.implied(scene.provider).map(|implied| ConditionReport::implied(implied, scene));
        Self {
            rule: rule.id.to_string(),
            enabled: rule.enabled,
            disclosed: !misses(rule, scene).0,
            grants: rule.permissions.iter().cloned().collect::<Permissions>().to_string(),
            conditions: stated.chain(implied).collect(),
        }
    }
}

impl ConditionReport {
    fn stated(condition: &Condition, scene: &Scene<'_>) -> Self {
        let mut report = Self::about(&condition.claim, scene);
        report.wants = shown(&condition.test.to_string());
        report.holds = condition.holds(scene.claims);
        report.pin = condition.pin;
        if !report.holds {
            report.note = note(condition, scene);
        }
        report
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

fn same_as(other: &str, scene: &Scene<'_>) -> String {
    match scene.claims.get(other) {
        Some(value) => format!("the same as {other}, {}", text_of(value)),
        None => format!("the same as {other}, which is missing"),
    }
}

/// What explains a failure beside the two values.
fn note(condition: &Condition, scene: &Scene<'_>) -> String {
    let have = scene.claims.get(&condition.claim);
    let differs_in_case = |literal: &Literal| match (literal, have.and_then(Json::as_str)) {
        (Literal::Text(want), Some(have)) => want.eq_ignore_ascii_case(have),
        (Literal::Text(_) | Literal::Int(_) | Literal::Bool(_), _) => false,
    };
    if condition.literals().iter().any(differs_in_case) {
        return "they differ in upper and lower case only".to_owned();
    }
    if matches!(condition.test, Test::Absent) || have.is_some() {
        return String::new();
    }
    match scene.claims.string("ref").filter(|_| topic(&condition.claim) == Topic::Ref) {
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
