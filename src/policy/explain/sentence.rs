//! The cause of a refusal in one sentence: what the rule wants, what the token has, and the mend.

use super::Cause;
use super::ConditionReport;
use super::Explanation;
use super::RuleReport;
use super::report::NAME;
use crate::policy::rule::Mode;

/// Most failed conditions that one sentence names beside the first.
const MAX_OTHERS: usize = 3;

pub(super) fn of(explanation: &Explanation) -> String {
    let nearest = explanation.rules.first();
    let name = nearest.map_or("", |report| report.rule.as_str());
    match (explanation.cause, nearest) {
        (Cause::RegistryDisabled, _) => "this registry is switched off for trusted publishing".to_owned(),
        (Cause::IssuerDisabled, _) => "this identity provider is switched off for trusted publishing".to_owned(),
        (Cause::RuleDisabled, Some(RuleReport { mode: Mode::Shadow, .. })) => {
            format!("the rule `{name}` matches this job and only watches, in shadow mode — ask the registry's operator")
        }
        (Cause::RuleDisabled, _) => {
            format!("the rule `{name}` matches this job and is switched off — ask the registry's operator")
        }
        (Cause::NameNotValid, Some(report)) => name_not_valid(report),
        (Cause::PackageNotGranted | Cause::ScopeNotGranted, _) => not_granted(explanation),
        (Cause::AmbiguousGrant, _) => {
            let rules = joined(explanation.rules.iter().map(|report| report.rule.as_str()));
            format!(
                "the rules {rules} match this job and differ in `single_use` or `versions` — narrow the request to one of them"
            )
        }
        (Cause::NoMatchingRule, Some(report)) => {
            format!("no rule matches this job; the nearest, `{name}`, {}", difference(explanation.cause, report))
        }
        (Cause::NoMatchingRule, None) => nothing_matches(explanation),
        (
            Cause::OwnerMismatch
            | Cause::RepositoryRecreated
            | Cause::RepositoryRenamed
            | Cause::EnvironmentMismatch
            | Cause::ReusableWorkflow
            | Cause::WorkflowMismatch
            | Cause::EventNotAllowed
            | Cause::RefMismatch
            | Cause::MissingClaim
            | Cause::ConditionFailed,
            Some(report),
        ) => {
            let mend = mend(explanation.cause, report);
            format!("the rule `{name}` {} — {mend}", difference(explanation.cause, report))
        }
        (
            Cause::OwnerMismatch
            | Cause::RepositoryRecreated
            | Cause::RepositoryRenamed
            | Cause::EnvironmentMismatch
            | Cause::ReusableWorkflow
            | Cause::WorkflowMismatch
            | Cause::EventNotAllowed
            | Cause::RefMismatch
            | Cause::MissingClaim
            | Cause::ConditionFailed
            | Cause::NameNotValid,
            None,
        ) => "a condition does not hold".to_owned(),
    }
}

/// Every condition holds, and yet there is nothing to publish to.
fn name_not_valid(report: &RuleReport) -> String {
    let row = report.conditions.iter().find(|condition| condition.claim == NAME);
    let made = row.and_then(|row| row.has.as_deref()).map_or("nothing".to_owned(), |made| format!("`{made}`"));
    let wants = row.map_or("", |row| row.wants.as_str());
    format!(
        "the rule `{}` matches this job, wants {wants}, and the job's claims make {made} — use a name that the registry \
         spells the same way, in lower case or not",
        report.rule
    )
}

/// The answer to strangers: it has the job's own identifiers, since those are what a rule needs.
fn nothing_matches(explanation: &Explanation) -> String {
    let ids: Vec<String> = explanation.job.ids().collect();
    let (job, mend) = if ids.is_empty() {
        (String::new(), "compare the rule's issuer and ids with the job's, or ask the registry's operator")
    } else {
        let ids = joined(ids.iter().map(String::as_str));
        (format!(", which has {ids}"), "compare these and the issuer with the rule's, or ask the registry's operator")
    };
    format!("no rule of this registry matches this job{job} — {mend}")
}

fn not_granted(explanation: &Explanation) -> String {
    let asked = joined(explanation.asked.iter().map(String::as_str));
    let grants = explanation.rules.iter().map(|report| format!("`{}` grants {}", report.rule, report.grants));
    let grants = grants.collect::<Vec<_>>().join(", ");
    let asked =
        if asked.is_empty() { "an empty scope was asked for".to_owned() } else { format!("{asked} is not granted") };
    format!("{asked}: the rule {grants} — ask for one of these, or add the package to the rule's `allow`")
}

/// What the rule wants and the token has, for the condition that names the cause; the others by name.
fn difference(cause: Cause, report: &RuleReport) -> String {
    let mut failed: Vec<&ConditionReport> = report.conditions.iter().filter(|condition| !condition.holds).collect();
    failed.sort_by_key(|condition| !names(cause, condition));
    let Some((first, others)) = failed.split_first() else { return "matches".to_owned() };
    let has = match &first.has {
        Some(has) => format!("`{}: {has}`", first.claim),
        None => format!("no `{}`", first.claim),
    };
    let preset = if first.preset { " (preset)" } else { "" };
    let note = if first.note.is_empty() { String::new() } else { format!(" ({})", first.note) };
    let text = format!("wants `{}: {}`{preset}, and the token has {has}{note}", first.claim, first.wants);
    if others.is_empty() {
        return text;
    }
    let more = others.len().saturating_sub(MAX_OTHERS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let claims = joined(others.iter().take(MAX_OTHERS).map(|condition| condition.claim.as_str()));
    let verb = if others.len() == 1 { "does" } else { "do" };
    format!("{text}; {claims}{more} {verb} not match either")
}

/// Whether a failed condition is the one that the cause is about.
fn names(cause: Cause, condition: &ConditionReport) -> bool {
    match cause {
        Cause::OwnerMismatch | Cause::RepositoryRecreated | Cause::NoMatchingRule => condition.pin,
        Cause::RepositoryRenamed
        | Cause::EnvironmentMismatch
        | Cause::ReusableWorkflow
        | Cause::WorkflowMismatch
        | Cause::EventNotAllowed
        | Cause::RefMismatch
        | Cause::MissingClaim
        | Cause::ConditionFailed
        | Cause::NameNotValid => Cause::of_condition(condition) == cause,
        Cause::RegistryDisabled
        | Cause::IssuerDisabled
        | Cause::RuleDisabled
        | Cause::PackageNotGranted
        | Cause::ScopeNotGranted
        | Cause::AmbiguousGrant => true,
    }
}

fn mend(cause: Cause, report: &RuleReport) -> &'static str {
    match cause {
        Cause::OwnerMismatch => {
            "the project has another owner now, or the account was created again: change the rule only if its owner \
             confirms it"
        }
        Cause::RepositoryRecreated => {
            "the name is the same and the id is not: the project was deleted and created again, perhaps by someone \
             else; change the rule only if its owner confirms it"
        }
        Cause::RepositoryRenamed => {
            "the ids match, so the project was renamed or transferred: put its present name into the rule"
        }
        Cause::EnvironmentMismatch => {
            "name the environment on the job that uploads (those of other jobs do not count), or change the rule"
        }
        Cause::ReusableWorkflow => {
            "the job runs in a reusable workflow: name it in the rule, or upload from the workflow that was started"
        }
        Cause::WorkflowMismatch if report.conditions.iter().any(|c| !c.holds && c.claim.starts_with("ci_config")) => {
            "the token tells the pipeline's top-level file only: name that one in the rule, not an included one"
        }
        Cause::WorkflowMismatch => "upload from the workflow that the rule names, or put this one into the rule",
        Cause::EventNotAllowed => {
            "start the run by an allowed event: others, such as those of pull and merge requests, can run code from outside"
        }
        Cause::RefMismatch => "start the run for a branch or tag that the rule names, or change the rule",
        Cause::MissingClaim => {
            "the provider left the claim out: request the token in its full format, or update the runner or the provider"
        }
        Cause::RegistryDisabled
        | Cause::IssuerDisabled
        | Cause::RuleDisabled
        | Cause::NoMatchingRule
        | Cause::ConditionFailed
        | Cause::NameNotValid
        | Cause::PackageNotGranted
        | Cause::ScopeNotGranted
        | Cause::AmbiguousGrant => "change the job or the rule",
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
