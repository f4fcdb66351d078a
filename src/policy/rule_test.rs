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
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::Subject;
use crate::policy::evaluate::evaluate;
use crate::policy::explain::Cause;
use crate::policy::explain::Explanation;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;
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
    /// The job gets exactly these pairs.
    Exactly(Permissions),
    /// The job gets nothing, for this cause, the whole one and not what a stranger is told.
    Deny(Code),
}

/// What came of one test.
#[derive(Debug, Clone)]
pub struct Outcome<'p> {
    /// The test.
    pub test: &'p RuleTest,
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
    /// What the test is about is switched off, and nothing else is in its way.
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
    /// Why the nearest rule, or the one that the test names, gives nothing.
    pub explanation: Option<Box<Explanation>>,
    /// What is odd about the test's claims.
    pub notes: Vec<String>,
}

/// Runs every test of a policy, in the order of the files. Total: a test that cannot be run has failed to load.
pub fn run(policy: &Policy) -> Vec<Outcome<'_>> {
    policy.tests.iter().filter_map(|test| outcome(policy, test)).collect()
}

/// The rules that no test is about and no test's job was granted anything by, in the order of the policy.
pub fn untested<'p>(policy: &'p Policy, outcomes: &[Outcome<'p>]) -> Vec<&'p str> {
    let named = outcomes.iter().filter_map(|outcome| outcome.test.rule());
    let granting = outcomes.iter().flat_map(|outcome| &outcome.granted_by).map(String::as_str);
    let tested: BTreeSet<&str> = named.chain(granting).collect();
    policy.rules().iter().map(Rule::id).filter(|id| !tested.contains(id)).collect()
}

/// Refuses a policy whose tests fail.
pub(super) fn demand(policy: &Policy) -> Result<(), Faults> {
    let mut faults = Faults::new();
    for Outcome { test, verdict, .. } in run(policy) {
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

fn outcome<'p>(policy: &'p Policy, test: &'p RuleTest) -> Option<Outcome<'p>> {
    let registry = policy.registries().nth(test.registry)?;
    let Some(issuer) = policy.issuers().of_entry(test.issuer, test.segment.as_deref()) else {
        // A member that no rule pins is an unknown issuer.
        let explanation = Explanation::without_rules(Cause::NoMatchingRule);
        return Some(judged(test, Decision::Deny(Box::new(explanation)), None));
    };
    let claims = token(test, registry, issuer);
    let subject = Subject { issuer, claims: &claims };
    let decision = decide(policy, registry, &subject, &test.request);
    let named = test.rule().and_then(|rule| policy.rule_by_id(rule));
    Some(judged(test, decision, named.filter(|rule| !rule.enabled()).map(|_| Cause::RuleDisabled)))
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
fn decide(policy: &Policy, registry: &Registry, subject: &Subject<'_>, request: &[(Action, PackageName)]) -> Decision {
    let pair = |(action, package): &(Action, PackageName)| Permission {
        action: action.clone(),
        pattern: Pattern::Literal(package.clone()),
    };
    let narrow: Permissions = request.iter().map(pair).collect();
    let requested = Requested { package: None, narrow: Some(narrow).filter(|narrow| !narrow.is_empty()) };
    let decision = evaluate(policy, registry, subject, &requested);
    let Decision::Deny(explanation) = &decision else { return decision };
    if explanation.cause() != Cause::ScopeNotGranted {
        return decision;
    }
    // Of a package that no rule reaches at all the cause is the package, not the action.
    let alone = |(_, package): &(Action, PackageName)| {
        let requested = Requested { package: Some(package.clone()), narrow: None };
        evaluate(policy, registry, subject, &requested)
    };
    let unreached = |decision: &Decision| match decision {
        Decision::Deny(explanation) => explanation.cause() == Cause::PackageNotGranted,
        Decision::Allow(_) => false,
    };
    request.iter().map(alone).find(unreached).unwrap_or(decision)
}

fn judged<'p>(test: &'p RuleTest, decision: Decision, switched_off: Option<Cause>) -> Outcome<'p> {
    let holds = match (&test.expect, &decision) {
        (Expect::Deny(code), Decision::Deny(explanation)) => explanation.code() == *code,
        (Expect::Allow, Decision::Allow(grant)) => test.rule.as_ref().is_none_or(|rule| grant.rules().contains(rule)),
        (Expect::Exactly(pairs), Decision::Allow(grant)) => {
            grant.permissions() == pairs && test.rule.as_ref().is_none_or(|rule| grant.rules().contains(rule))
        }
        (Expect::Allow | Expect::Exactly(_), Decision::Deny(_)) | (Expect::Deny(_), Decision::Allow(_)) => false,
    };
    let off = match &decision {
        Decision::Deny(explanation) => Some(explanation.cause()).filter(|cause| is_switch(*cause)),
        Decision::Allow(_) => None,
    };
    let verdict = if holds {
        Verdict::Passed
    } else if off.or(switched_off).is_some() {
        // SECURITY: whoever switches a rule off in an emergency must not have the policy refused by the rule's tests.
        Verdict::Skipped
    } else {
        Verdict::Failed(Box::new(failure(test, &decision)))
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

fn failure(test: &RuleTest, decision: &Decision) -> Failure {
    let by = test.rule.as_ref().map_or(String::new(), |rule| format!(" by the rule `{rule}`"));
    let expected = match &test.expect {
        Expect::Allow => format!("allow{by}"),
        Expect::Exactly(pairs) => format!("allow {pairs}{by}"),
        Expect::Deny(code) => format!("deny {code}"),
    };
    let (got, explanation) = match decision {
        Decision::Allow(grant) => {
            (format!("allow {} by the rules {}", grant.permissions(), grant.rules().join(", ")), None)
        }
        Decision::Deny(explanation) => {
            (format!("deny {}: {}", explanation.code(), explanation.sentence()), Some(explanation.clone()))
        }
    };
    Failure { expected, got, explanation, notes: test.notes.clone() }
}

#[cfg(test)]
mod tests;
