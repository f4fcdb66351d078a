//! The decision: what this job may do to this registry's packages.
//!
//! Total and pure: every input has an answer, and the answer is no unless a rule says yes. It proves nothing about the
//! claims it is given: callers pass those of a verified token, or bare ones for a dry run that mints nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::identity::claims::Claims;
use crate::identity::issuer::Issuer;
use crate::package::Action;
use crate::package::PackageName;
use crate::package::Pattern;
use crate::package::Permission;
use crate::package::Permissions;
use crate::policy::Policy;
use crate::policy::bundle::Lapse;
use crate::policy::explain::Cause;
use crate::policy::explain::Explanation;
use crate::policy::explain::Scene;
use crate::policy::pair::Template;
use crate::policy::pair::is_version;
use crate::policy::registry::Registry;
use crate::policy::rule::Branch;
use crate::policy::rule::Mode;
use crate::policy::rule::Rule;
use crate::time::Timestamp;

/// Most rules that a refusal looks at for the nearest one when no pinned rule was found.
pub(super) const NEAR: usize = 100;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The issuer of the claims.
    pub issuer: &'a Issuer,
    /// What they say.
    pub claims: &'a Claims,
}

/// What is asked for; by default everything that the rules grant.
#[derive(Debug, Clone, Default)]
pub struct Requested {
    /// The one package that the client names, if its dialect names one: the grant reaches no other.
    pub package: Option<PackageName>,
    /// The only pairs that the grant may have; each of them must be granted.
    pub narrow: Option<Permissions>,
}

/// What the rules say to one job.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The answer.
    pub decision: Decision,
    /// The names of the rules in shadow mode that would have granted something which the decision does not.
    pub shadow: Vec<String>,
}

/// The answer.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The job gets this.
    Allow(Grant),
    /// The job gets nothing, for these reasons.
    Deny(Box<Explanation>),
}

/// What a job may do. Only [`evaluate`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    rules: Vec<String>,
    permissions: Permissions,
    versions: Option<Vec<String>>,
    ttl: Duration,
    uses: Option<u32>,
    max_size: Option<u64>,
}

impl Grant {
    /// The names of the rules that contribute to it, in the order of the policy.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// The pairs; never empty.
    pub const fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// The only versions that may be uploaded, sorted and never empty; `None` for all.
    pub fn versions(&self) -> Option<&[String]> {
        self.versions.as_deref()
    }

    /// How long the token lives: the shortest that a contributing rule says.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// How often the token works, if not without limit.
    pub const fn uses(&self) -> Option<u32> {
        self.uses
    }

    /// The largest file that the token may upload, in bytes: the smallest that a contributing rule says.
    pub const fn max_size(&self) -> Option<u64> {
        self.max_size
    }
}

/// Decides. Deny by default; several matching rules give the union of their pairs.
pub fn evaluate(policy: &Policy, registry: &Registry, subject: &Subject<'_>, requested: &Requested) -> Evaluation {
    evaluate_with(policy, registry, subject, requested, Asked { whose: Whose::All, mode: &|rule| rule.mode })
}

/// Decides at a moment, when a registry's own rules may not be known: then the operator's directory alone can allow, and
/// what it does not allow is not refused but unknown.
pub fn evaluate_at(
    policy: &Policy,
    registry: &Registry,
    subject: &Subject<'_>,
    requested: &Requested,
    now: Timestamp,
) -> Result<Evaluation, Lapse> {
    // Rules that cannot be about the issuer need not be known.
    let own = registry.bundle.as_ref().filter(|own| own.issuers.contains(&subject.issuer.id));
    let Some(lapse) = own.and_then(|_| policy.lapse(registry, now)) else {
        return Ok(evaluate(policy, registry, subject, requested));
    };
    let asked = Asked { whose: Whose::Directory, mode: &|rule| rule.mode };
    let evaluation = evaluate_with(policy, registry, subject, requested, asked);
    match &evaluation.decision {
        Decision::Allow(_) => Ok(evaluation),
        // What is switched off is so whatever any rule says.
        Decision::Deny(explanation)
            if matches!(explanation.cause(), Cause::RegistryDisabled | Cause::IssuerDisabled) =>
        {
            Ok(evaluation)
        }
        // SECURITY: not a refusal, which a registry's or a job's owner would try to mend.
        Decision::Deny(_) => Err(lapse),
    }
}

/// Decides as if this rule were in force: for trying it before it is.
pub fn evaluate_enforcing(
    policy: &Policy,
    registry: &Registry,
    subject: &Subject<'_>,
    requested: &Requested,
    id: &str,
) -> Evaluation {
    let mode = |rule: &Rule<'_>| if rule.id() == id { Mode::Enforce } else { rule.mode };
    evaluate_with(policy, registry, subject, requested, Asked { whose: Whose::All, mode: &mode })
}

/// Which rules are asked, and in which mode each counts.
#[derive(Clone, Copy)]
struct Asked<'a> {
    whose: Whose,
    mode: &'a dyn Fn(&Rule<'_>) -> Mode,
}

#[derive(Clone, Copy)]
enum Whose {
    Directory,
    All,
}

fn evaluate_with(
    policy: &Policy,
    registry: &Registry,
    subject: &Subject<'_>,
    requested: &Requested,
    Asked { whose, mode }: Asked<'_>,
) -> Evaluation {
    let refuse = |cause| Evaluation {
        decision: Decision::Deny(Box::new(Explanation::without_rules(cause))),
        shadow: Vec::new(),
    };
    let url = subject.issuer.url().as_str();
    let (registry_number, issuer_number) = (policy.registries.position(&registry.id), policy.issuers.position(url));
    let (Some(registry_number), Some(issuer_number)) = (registry_number, issuer_number) else {
        return refuse(Cause::NoMatchingRule);
    };
    // The policy's own entries decide, should the caller's be of another revision.
    let (Some(registry), Some(issuer)) = (policy.registries.nth(registry_number), policy.issuers.by_url(url)) else {
        return refuse(Cause::NoMatchingRule);
    };
    let scene =
        Scene { provider: issuer.provider(), claims: subject.claims, requested, ecosystem: registry.ecosystem() };
    if !registry.enabled {
        return refuse(Cause::RegistryDisabled);
    }
    if !issuer.enabled {
        return refuse(Cause::IssuerDisabled);
    }
    let most = match whose {
        Whose::Directory => 1,
        Whose::All => usize::MAX,
    };
    let sets = || policy.sets_of(registry_number).take(most);
    let candidates: Vec<Rule<'_>> =
        sets().flat_map(|set| set.candidates(registry_number, issuer_number, subject.claims)).collect();
    let near = || sets().flat_map(|set| set.first(registry_number, issuer_number, NEAR)).take(NEAR).collect();
    decide(registry, &scene, &candidates, near, mode)
}

/// Decides among these rules, which are all those of the registry and the issuer that could match. `near` gives some
/// more that a refusal may name.
pub(super) fn decide<'r>(
    registry: &Registry,
    scene: &Scene<'_>,
    candidates: &[Rule<'r>],
    near: impl FnOnce() -> Vec<Rule<'r>>,
    mode: &dyn Fn(&Rule<'_>) -> Mode,
) -> Evaluation {
    let in_mode = |wanted| candidates.iter().filter(move |rule| mode(rule) == wanted);
    let matching: Vec<Match<'_>> = in_mode(Mode::Enforce).flat_map(|rule| matches(rule, scene)).collect();
    let decision = if matching.is_empty() {
        let near = near();
        Decision::Deny(Box::new(Explanation::of_mismatch(scene, candidates.iter().chain(&near))))
    } else {
        grant(registry, &matching, scene)
    };
    let shadow = in_mode(Mode::Shadow).filter(|rule| matches(rule, scene).any(|found| adds(&found, &decision, scene)));
    let shadow = shadow.map(|rule| rule.id().to_owned()).collect();
    Evaluation { decision, shadow }
}

/// A way into a rule that this job has, and what it gives.
#[derive(Debug)]
struct Match<'r> {
    rule: &'r Rule<'r>,
    permissions: Vec<Permission>,
    /// Sorted and distinct; none for all.
    versions: Vec<String>,
}

/// The ways into a rule that a job has. One whose names the job's claims do not make legal is none.
fn matches<'r>(rule: &'r Rule<'r>, scene: &Scene<'_>) -> impl Iterator<Item = Match<'r>> {
    let holding = rule.branches.iter().filter(|branch| branch.holds(scene.provider, scene.claims));
    holding.filter_map(|branch| given(rule, branch, scene).ok())
}

/// What a job's claims make of a name or version of a branch, if that is none.
pub(super) fn no_name(rule: &Rule<'_>, branch: &Branch<'_>, scene: &Scene<'_>) -> Option<String> {
    given(rule, branch, scene).err()
}

/// What a branch that holds gives this job; `Err` with what its claims make of a name or version that is none.
fn given<'r>(rule: &'r Rule<'r>, branch: &Branch<'_>, scene: &Scene<'_>) -> Result<Match<'r>, String> {
    let value = |name: &str| branch.value(scene.claims, name);
    let pairs = rule.pairs.iter().map(|pair| pair.permission(scene.ecosystem, value));
    let permissions = pairs.collect::<Result<_, _>>()?;
    let version = |template: &Template<'_>| {
        let version = template.fill(value).unwrap_or_default();
        if is_version(&version) { Ok(version) } else { Err(version) }
    };
    let versions: BTreeSet<String> = rule.versions.iter().map(version).collect::<Result<_, _>>()?;
    Ok(Match { rule, permissions, versions: versions.into_iter().collect() })
}

/// What the matching rules give together, cut to what was asked for.
fn grant(registry: &Registry, matching: &[Match<'_>], scene: &Scene<'_>) -> Decision {
    let rules = || matching.iter().map(|found| found.rule);
    let deny = |cause, asked| Decision::Deny(Box::new(Explanation::of_request(scene, cause, rules(), asked)));
    let mut pairs: BTreeSet<Permission> = BTreeSet::new();
    let mut contributing: Vec<&Match<'_>> = Vec::new();
    for found in matching {
        let contribution = contribution(&found.permissions, scene.requested);
        if !contribution.is_empty() {
            contributing.push(found);
        }
        pairs.extend(contribution);
    }
    if let Some(narrow) = &scene.requested.narrow {
        let missing: Vec<String> =
            narrow.iter().filter(|pair| !pairs.contains(*pair)).map(ToString::to_string).collect();
        if !missing.is_empty() || narrow.is_empty() {
            return deny(Cause::ScopeNotGranted, missing);
        }
    }
    if pairs.is_empty() {
        let asked = scene.requested.package.iter().map(ToString::to_string).collect();
        return deny(Cause::PackageNotGranted, asked);
    }
    let mut names: Vec<String> = contributing.iter().map(|found| found.rule.id().to_owned()).collect();
    names.dedup();
    // SECURITY: merged with a rule for many uses, a single-use grant would be good for many; merged with a rule for
    // another version, each would be good for the other's.
    let limits = |found: &Match<'_>| (found.rule.single_use, found.versions.clone());
    let mut distinct: Vec<_> = contributing.iter().map(|found| limits(found)).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let [(single_use, versions)] = distinct.as_slice() else { return deny(Cause::AmbiguousGrant, names) };
    let ttls = contributing.iter().map(|found| found.rule.ttl.unwrap_or(registry.token.ttl));
    Decision::Allow(Grant {
        permissions: pairs.into_iter().collect(),
        versions: Some(versions.clone()).filter(|versions| !versions.is_empty()),
        ttl: ttls.min().unwrap_or_default(),
        uses: single_use.then_some(1),
        max_size: contributing.iter().filter_map(|found| found.rule.max_size).min(),
        rules: names,
    })
}

/// Whether a match of a rule in shadow mode has something of what was asked for that the decision does not give.
fn adds(found: &Match<'_>, decision: &Decision, scene: &Scene<'_>) -> bool {
    let given = |pair: &Permission| match decision {
        Decision::Allow(grant) => grant.permissions.iter().any(|granted| covers(granted, pair)),
        Decision::Deny(_) => false,
    };
    contribution(&found.permissions, scene.requested).iter().any(|pair| !given(pair))
}

/// The pairs that answer the request.
fn contribution(granted: &[Permission], requested: &Requested) -> Vec<Permission> {
    let only = |pattern: &Pattern| match (&requested.package, pattern) {
        (None, _) => true,
        (Some(package), Pattern::Literal(name)) => name == package,
        (Some(_), Pattern::Prefix(_)) => false,
    };
    match (&requested.narrow, &requested.package) {
        (Some(narrow), _) => {
            let covered = |asked: &&Permission| granted.iter().any(|granted| covers(granted, asked));
            narrow.iter().filter(covered).filter(|asked| only(&asked.pattern)).cloned().collect()
        }
        (None, Some(package)) => {
            let literal = Pattern::Literal(package.clone());
            let reached = granted.iter().filter(|granted| granted.pattern.matches(package));
            reached.map(|granted| Permission { action: granted.action.clone(), pattern: literal.clone() }).collect()
        }
        (None, None) => granted.to_vec(),
    }
}

/// Whether a granted pair includes everything of an asked one. Every pair also lets its packages be read.
fn covers(granted: &Permission, asked: &Permission) -> bool {
    let same = granted.action == asked.action || asked.action.as_str() == Action::READ;
    same && granted.pattern.covers(&asked.pattern)
}

#[cfg(test)]
mod tests;
