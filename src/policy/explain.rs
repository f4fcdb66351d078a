//! Why a job gets nothing: the nearest rules, condition by condition, and the real cause in words.
//!
//! The whole explanation is for the registry's side: audit, the command line, dry runs. The caller sees
//! [`Explanation::public`], which shows a rule only to a job whose immutable identifiers that rule names. This module
//! decides nothing about permissions.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::code::Code;
use crate::identity::claims::Claims;
use crate::identity::provider::Provider;
use crate::package::Ecosystem;
use crate::policy::Policy;
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::Subject;
use crate::policy::lint;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;

mod cause;
mod report;
mod sentence;
mod table;

pub use cause::Cause;
pub use report::ConditionReport;
pub use report::RuleReport;

/// Most rules that one explanation reports.
const MAX_RULES: usize = 5;
/// What stands in place of a value that is not shown.
const WITHHELD: &str = "(not shown)";

/// Everything that an explanation is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) provider: &'static Provider,
    pub(super) claims: &'a Claims,
    pub(super) requested: &'a Requested,
    pub(super) ecosystem: Ecosystem,
}

/// Why the answer is no. Serialises as an object with `code`, `sentence`, `rules`, `further` and the job's `claims`.
#[derive(Debug, Clone)]
pub struct Explanation {
    cause: Cause,
    job: Job,
    /// What was asked for and is not granted, as text.
    asked: Vec<String>,
    rules: Vec<RuleReport>,
    further: usize,
}

/// What the preset lets be said of the job, as people read it.
#[derive(Debug, Clone)]
struct Job {
    claims: Vec<(&'static str, String)>,
    /// Those of the names that identify the project.
    pins: &'static [&'static str],
}

impl Job {
    const fn unknown() -> Self {
        Self { claims: Vec::new(), pins: &[] }
    }

    fn new(scene: &Scene<'_>) -> Self {
        let known = scene.provider.public.iter().copied();
        let claims = known.filter_map(|name| Some((name, report::text_of(scene.claims.get(name)?)))).collect();
        Self { claims, pins: lint::pins(scene.provider) }
    }

    /// `repository_owner_id: 9123456` and the like: what the rule for this job would have to pin.
    fn ids(&self) -> impl Iterator<Item = String> {
        let id = |pin: &&str| self.claims.iter().find(|(name, _)| name == pin);
        self.pins.iter().filter_map(id).map(|(name, value)| format!("{name}: {value}"))
    }
}

impl Explanation {
    /// A refusal that no rule has part in.
    pub(super) const fn without_rules(cause: Cause) -> Self {
        Self { cause, job: Job::unknown(), asked: Vec::new(), rules: Vec::new(), further: 0 }
    }

    /// A refusal because no rule matched; the nearest of these rules are reported.
    pub(super) fn of_mismatch<'r>(scene: &Scene<'_>, rules: impl Iterator<Item = &'r Rule<'r>>) -> Self {
        let mut ranked: Vec<_> = rules.map(|rule| (report::misses(rule, scene), rule)).collect();
        ranked.sort_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.id().cmp(y.id())));
        ranked.dedup_by(|(_, x), (_, y)| x.id() == y.id());
        let reports: Vec<_> = ranked.iter().take(MAX_RULES).map(|(_, rule)| RuleReport::new(rule, scene)).collect();
        let cause = reports.first().map_or(Cause::NoMatchingRule, Cause::of);
        let further = ranked.len() - reports.len();
        Self { cause, job: Job::new(scene), asked: Vec::new(), further, rules: reports }
    }

    /// A refusal because the rules that match do not give what was asked for.
    pub(super) fn of_request<'r>(
        scene: &Scene<'_>,
        cause: Cause,
        matching: impl Iterator<Item = &'r Rule<'r>>,
        asked: Vec<String>,
    ) -> Self {
        let mut matching: Vec<_> = matching.collect();
        matching.dedup_by_key(|rule| rule.id());
        let rules: Vec<_> = matching.iter().take(MAX_RULES).map(|rule| RuleReport::new(rule, scene)).collect();
        Self { cause, job: Job::new(scene), asked, further: matching.len() - rules.len(), rules }
    }

    /// The cause.
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// The cause's row of the failure table.
    pub const fn code(&self) -> Code {
        self.cause.code()
    }

    /// The cause in words: what the rule wants, what the token has, and the mend.
    pub fn sentence(&self) -> String {
        sentence::of(self)
    }

    /// The nearest rules, the nearest first.
    pub fn rules(&self) -> &[RuleReport] {
        &self.rules
    }

    /// How many more rules were looked at.
    pub const fn further(&self) -> usize {
        self.further
    }

    /// What the caller may see.
    ///
    /// SECURITY: a rule is shown only to a job whose token has every one of the rule's immutable pins, of which there
    /// is at least one: it is that job's own project. To anyone else the answer is the same whether no rule or many
    /// exist, so it cannot be used to learn who publishes what: it tells the job's own claims and nothing else. Claims
    /// that the preset does not call public (e-mail addresses) are not shown at all. Of a rule for several projects each
    /// is shown the block of `any_of` that is its own, not those of the others; but a condition is shown whole, so who is
    /// in one list `{in: […]}` with others sees their identifiers.
    #[must_use]
    pub fn public(&self) -> Self {
        let disclosed = |report: &&RuleReport| report.disclosed;
        let mut rules: Vec<RuleReport> = self.rules.iter().filter(disclosed).cloned().collect();
        for condition in rules.iter_mut().flat_map(|report| &mut report.conditions).filter(|c| !c.public) {
            WITHHELD.clone_into(&mut condition.wants);
            condition.has = condition.has.take().map(|_| WITHHELD.to_owned());
            condition.note.clear();
        }
        match self.cause {
            Cause::RegistryDisabled | Cause::IssuerDisabled => Self::without_rules(self.cause),
            Cause::RuleDisabled
            | Cause::NoMatchingRule
            | Cause::OwnerMismatch
            | Cause::RepositoryRecreated
            | Cause::RepositoryRenamed
            | Cause::EnvironmentMismatch
            | Cause::ReusableWorkflow
            | Cause::WorkflowMismatch
            | Cause::EventNotAllowed
            | Cause::RefMismatch
            | Cause::MissingClaim
            | Cause::ConditionFailed
            | Cause::NameNotValid
            | Cause::PackageNotGranted
            | Cause::ScopeNotGranted
            | Cause::AmbiguousGrant => {
                if rules.is_empty() {
                    Self { job: self.job.clone(), ..Self::without_rules(Cause::NoMatchingRule) }
                } else {
                    Self { cause: self.cause, job: self.job.clone(), asked: self.asked.clone(), rules, further: 0 }
                }
            }
        }
    }

    /// What may stand in the audit log, whose event has the job's claims itself: everything but the values of claims
    /// that the preset does not call public.
    #[must_use]
    pub fn for_audit(&self) -> Self {
        let mut audit = Self { job: Job::unknown(), ..self.clone() };
        for condition in audit.rules.iter_mut().flat_map(|report| &mut report.conditions).filter(|c| !c.public) {
            condition.has = condition.has.take().map(|_| WITHHELD.to_owned());
            condition.note.clear();
        }
        audit
    }

    /// The explanation as a table for a terminal, the sentence first.
    pub fn to_table(&self) -> String {
        table::of(self)
    }
}

/// These rules, by name, condition by condition: those that granted, and those in shadow mode that would have.
pub fn reports(
    policy: &Policy,
    registry: &Registry,
    subject: &Subject<'_>,
    requested: &Requested,
    rules: &[String],
) -> Vec<RuleReport> {
    let (provider, ecosystem) = (subject.issuer.provider(), registry.ecosystem());
    let scene = Scene { provider, claims: subject.claims, requested, ecosystem };
    rules.iter().filter_map(|id| policy.rule_by_id(id)).map(|rule| RuleReport::new(&rule, &scene)).collect()
}

/// The rules' conditions as a table for a terminal, each rule after an empty line.
pub fn to_table(rules: &[RuleReport]) -> String {
    table::of_rules(rules)
}

impl Serialize for Explanation {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shape<'a> {
            code: Code,
            sentence: String,
            rules: &'a [RuleReport],
            further: usize,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            claims: BTreeMap<&'a str, &'a str>,
        }
        let claims = self.job.claims.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (rules, further) = (self.rules.as_slice(), self.further);
        Shape { code: self.code(), sentence: self.sentence(), rules, further, claims }.serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
