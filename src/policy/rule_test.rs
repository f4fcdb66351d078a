//! Rule tests: what the rules must say to made-up jobs, written beside them.
//!
//! A test is one evaluation of the whole policy, the same as an exchange's, with the claims of a preset's example in
//! place of a token. Every load runs all of them: a policy that does not do what its own tests say is not activated.

use std::collections::BTreeSet;

use crate::code::Code;
use crate::identity::claims::Claims;
use crate::identity::issuer::Issuer;
use crate::json::Json;
use crate::json::Object;
use crate::package::Action;
use crate::package::PackageName;
use crate::package::Pattern;
use crate::package::Permission;
use crate::package::Permissions;
use crate::policy::Policy;
use crate::policy::evaluate::Decision;
use crate::policy::evaluate::Grant;
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::Subject;
use crate::policy::evaluate::evaluate;
use crate::policy::evaluate::evaluate_enforcing;
use crate::policy::explain::Cause;
use crate::policy::explain::Explanation;
use crate::policy::explain::RuleReport;
use crate::policy::explain::Scene;
use crate::policy::registry::Registry;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Place;

/// One test of the policy's section `tests`.
#[derive(Debug, Clone)]
pub struct RuleTest {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) key_path: String,
    /// The rule that it is about, by name.
    pub(super) rule: Option<String>,
    /// The registry's and the issuer's positions in their policy.
    pub(super) registry: u32,
    pub(super) issuer: u32,
    /// Which member of a family the token is of.
    pub(super) segment: Option<String>,
    /// What the token says.
    pub(super) claims: Object,
    /// What is asked for; empty for whatever the rules grant.
    pub(super) request: Vec<(Action, PackageName)>,
    pub(super) expect: Expect,
    /// What is odd about the claims, should the test fail.
    pub(super) notes: Vec<String>,
}

impl RuleTest {
    /// What it shows, in its author's words.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it stands.
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The rule that it is about, if it names one.
    pub fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }
}

/// What must come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expect {
    /// The job gets what it asks for.
    Allow,
    /// The job gets exactly these pairs and, if the test names some, these versions.
    Exactly { pairs: Permissions, versions: Option<BTreeSet<String>> },
    /// The job gets nothing, for this cause: the whole one, not what a stranger is told, and that of the rule if the test
    /// names one.
    Deny(Code),
}

/// What came of one test.
#[derive(Debug, Clone)]
pub struct Outcome<'t> {
    /// The test.
    pub test: &'t RuleTest,
    /// Whether the rules do what it says.
    pub verdict: Verdict,
    /// The rules that granted something.
    pub granted_by: Vec<String>,
}

/// Whether the rules do what a test says.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// They do.
    Passed,
    /// They refuse because something is switched off.
    Skipped,
    /// They do not.
    Failed(Box<Failure>),
}

/// How a test failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What the test expects: `allow`, `deny ref-mismatch`.
    pub expected: String,
    /// What happened, in the same form, with the reason.
    pub got: String,
    /// Why the answer was no, if it was.
    pub explanation: Option<Box<Explanation>>,
    /// The conditions of the rule that the test names; else of the nearest one, or of one that granted.
    pub rule: Option<RuleReport>,
    /// What is odd about the test's claims.
    pub notes: Vec<String>,
}

/// Runs every test of a policy's directory, in the order of the files.
pub fn run(policy: &Policy) -> Vec<Outcome<'_>> {
    run_these(policy, policy.tests())
}

/// Runs tests that were read for this policy's issuers and registries: those of a bundle, whose rules it has. Total: a
/// test that cannot be run has failed to load.
pub fn run_these<'t>(policy: &Policy, tests: &'t [RuleTest]) -> Vec<Outcome<'t>> {
    tests.iter().filter_map(|test| outcome(policy, test)).collect()
}

/// The rules that no test is about and no test's job was granted anything by, in the order of the policy.
pub fn untested(policy: &Policy, outcomes: &[Outcome<'_>]) -> Vec<String> {
    let named = outcomes.iter().filter_map(|outcome| outcome.test.rule());
    let granting = outcomes.iter().flat_map(|outcome| &outcome.granted_by).map(String::as_str);
    let tested: BTreeSet<&str> = named.chain(granting).collect();
    policy.rules().map(|rule| rule.id().to_owned()).filter(|id| !tested.contains(id.as_str())).collect()
}

/// The same of a bundle's, if they look at no more than so many rules: each test looks at all that are for its project.
///
/// SECURITY: whoever changes the operator's directory waits for them.
pub(super) fn demand_within(policy: &Policy, tests: &[RuleTest], most: usize) -> Result<(), Faults> {
    let mut looks = 0_usize;
    for test in tests {
        looks = looks.saturating_add(1).saturating_add(rules_for(policy, test));
        if looks > most {
            let mut faults = Faults::new();
            let message = format!("the tests up to this one look at more than {most} rules");
            let remedy = "write fewer tests, or fewer rules for one project";
            faults.push(test.place.clone(), test.key_path.clone(), message, remedy);
            return Err(faults);
        }
    }
    demand(policy, tests)
}

/// How many rules could match a test's job.
fn rules_for(policy: &Policy, test: &RuleTest) -> usize {
    let issuer = policy.issuers().of_entry(test.issuer, test.segment.as_deref());
    let Some((registry, issuer)) = policy.registries().nth(test.registry).zip(issuer) else { return 0 };
    let claims = token(test, registry, issuer);
    policy.sets_of(test.registry).map(|set| set.candidate_count(test.registry, test.issuer, &claims)).sum()
}

/// Refuses a policy of which one of these tests fails.
pub(super) fn demand(policy: &Policy, tests: &[RuleTest]) -> Result<(), Faults> {
    let mut faults = Faults::new();
    for Outcome { test, verdict, .. } in run_these(policy, tests) {
        let Verdict::Failed(failure) = verdict else { continue };
        let message = format!(
            "the test `{}` fails: it expects {}, and the answer is {}",
            test.name, failure.expected, failure.got
        );
        let remedy = "mend the rule or the test; `trustmint policy test` shows each condition";
        faults.push(test.place.clone(), test.key_path.clone(), message, remedy);
    }
    faults.into_result(Some(()))
}

fn outcome<'t>(policy: &Policy, test: &'t RuleTest) -> Option<Outcome<'t>> {
    let registry = policy.registries().nth(test.registry)?;
    let Some(issuer) = policy.issuers().of_entry(test.issuer, test.segment.as_deref()) else {
        // A member that no rule pins is an unknown issuer.
        let explanation = Explanation::without_rules(Cause::NoMatchingRule);
        return Some(judged(test, Decision::Deny(Box::new(explanation)), None));
    };
    let claims = token(test, registry, issuer);
    let subject = Subject { issuer, claims: &claims };
    // A rule is tested before it is in force: in shadow mode, or switched off.
    let ask = |requested: &Requested| match test.rule() {
        Some(rule) => evaluate_enforcing(policy, registry, &subject, requested, rule).decision,
        None => evaluate(policy, registry, &subject, requested).decision,
    };
    let (provider, ecosystem) = (issuer.provider(), registry.ecosystem());
    let scene = Scene { provider, claims: &claims, requested: &Requested::default(), ecosystem };
    let report = |id: &str| {
        let rule = policy.rule_by_id(id)?;
        Some(Explanation::of_mismatch(&scene, std::iter::once(&rule)))
    };
    let own = test.rule().and_then(report);
    let decision = blamed(own.as_ref(), decide(&ask, &test.request));
    let shown = match &decision {
        Decision::Deny(explanation) => explanation.rules().first().cloned(),
        Decision::Allow(grant) => {
            let about = own.or_else(|| report(grant.rules().first()?));
            about.and_then(|explanation| explanation.rules().first().cloned())
        }
    };
    Some(judged(test, decision, shown))
}

/// The answer, for the reasons of the rule that the test is about: which of several rules came nearest to a job that none
/// lets in depends on all of them, and a test must not fail because a rule was added beside its own.
fn blamed(own: Option<&Explanation>, decision: Decision) -> Decision {
    let fails = |own: &&Explanation| !own.rules().iter().flat_map(|rule| &rule.conditions).all(|c| c.holds);
    match (own.filter(fails), &decision) {
        // Of the switches only those above all rules count: the rule is tested as if it were in force itself, and that
        // another one is off is no reason for it.
        (Some(own), Decision::Deny(whole))
            if !matches!(whole.cause(), Cause::RegistryDisabled | Cause::IssuerDisabled) =>
        {
            Decision::Deny(Box::new(own.clone()))
        }
        (Some(_) | None, Decision::Deny(_) | Decision::Allow(_)) => decision,
    }
}

/// What the token of the test says: the example's claims, and what every token for this registry has.
fn token(test: &RuleTest, registry: &Registry, issuer: &Issuer) -> Claims {
    let usual = [("iss", issuer.url().as_str()), ("aud", registry.audience())];
    let missing = usual.into_iter().filter(|(name, _)| test.claims.get(name).is_none());
    let add = |claims: Object, (name, text): (&str, &str)| claims.with(name, Json::String(text.to_owned()));
    let raw = missing.fold(test.claims.clone(), add);
    let derived = issuer.derive(&raw);
    Claims::new(raw, derived)
}

/// The answer to a job that asks for exactly these pairs; without any, for whatever the rules grant.
fn decide(ask: &dyn Fn(&Requested) -> Decision, request: &[(Action, PackageName)]) -> Decision {
    let pair = |(action, package): &(Action, PackageName)| Permission {
        action: action.clone(),
        pattern: Pattern::Literal(package.clone()),
    };
    let narrow: Permissions = request.iter().map(pair).collect();
    let decision = ask(&Requested { package: None, narrow: Some(narrow).filter(|narrow| !narrow.is_empty()) });
    let cause = |decision: &Decision| match decision {
        Decision::Deny(explanation) => Some(explanation.cause()),
        Decision::Allow(_) => None,
    };
    if cause(&decision) != Some(Cause::ScopeNotGranted) {
        return decision;
    }
    // Of a package that no rule reaches at all the cause is the package, not the action.
    let alone = |(_, package): &(Action, PackageName)| ask(&Requested { package: Some(package.clone()), narrow: None });
    request.iter().map(alone).find(|decision| cause(decision) == Some(Cause::PackageNotGranted)).unwrap_or(decision)
}

fn judged(test: &RuleTest, decision: Decision, rule: Option<RuleReport>) -> Outcome<'_> {
    let named = |grant: &Grant| test.rule.as_ref().is_none_or(|rule| grant.rules().contains(rule));
    let holds = match (&test.expect, &decision) {
        (Expect::Deny(code), Decision::Deny(explanation)) => explanation.code() == *code,
        (Expect::Allow, Decision::Allow(grant)) => named(grant),
        (Expect::Exactly { pairs, versions }, Decision::Allow(grant)) => {
            let have = || grant.versions().into_iter().flatten().cloned().collect::<BTreeSet<_>>();
            named(grant) && grant.permissions() == pairs && versions.as_ref().is_none_or(|want| *want == have())
        }
        (Expect::Allow | Expect::Exactly { .. }, Decision::Deny(_)) | (Expect::Deny(_), Decision::Allow(_)) => false,
    };
    let off = match &decision {
        Decision::Deny(explanation) => is_switch(explanation.cause()),
        Decision::Allow(_) => false,
    };
    let verdict = if holds {
        Verdict::Passed
    } else if off {
        // SECURITY: whoever switches something off in an emergency must not have the policy refused by its tests.
        Verdict::Skipped
    } else {
        Verdict::Failed(Box::new(failure(test, &decision, rule)))
    };
    let granted_by = match decision {
        Decision::Allow(grant) => grant.rules().to_vec(),
        Decision::Deny(_) => Vec::new(),
    };
    Outcome { test, verdict, granted_by }
}

/// Whether a refusal says no more than that somebody switched something off.
const fn is_switch(cause: Cause) -> bool {
    matches!(cause, Cause::RegistryDisabled | Cause::IssuerDisabled | Cause::RuleDisabled)
}

fn failure(test: &RuleTest, decision: &Decision, rule: Option<RuleReport>) -> Failure {
    let by = test.rule.as_ref().map_or(String::new(), |rule| format!(" by the rule `{rule}`"));
    let expected = match &test.expect {
        Expect::Allow => format!("allow{by}"),
        Expect::Exactly { pairs, versions } => {
            let versions = versions.as_ref().map(|versions| versions.iter().map(String::as_str));
            format!("allow {pairs}{}{by}", of_versions(versions))
        }
        Expect::Deny(code) => format!("deny {code}"),
    };
    let (got, explanation) = match decision {
        Decision::Allow(grant) => {
            let versions = of_versions(grant.versions().map(|versions| versions.iter().map(String::as_str)));
            let rules = grant.rules().iter().map(|rule| format!("`{rule}`")).collect::<Vec<_>>().join(", ");
            let word = if grant.rules().len() == 1 { "rule" } else { "rules" };
            (format!("allow {}{versions} by the {word} {rules}", grant.permissions()), None)
        }
        Decision::Deny(explanation) => {
            (format!("deny {}: {}", explanation.code(), explanation.sentence()), Some(explanation.clone()))
        }
    };
    Failure { expected, got, explanation, rule, notes: test.notes.clone() }
}

fn of_versions<'v>(versions: Option<impl Iterator<Item = &'v str>>) -> String {
    versions.map_or_else(String::new, |versions| format!(" in version {}", versions.collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests;
