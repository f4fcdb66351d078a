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
use crate::policy::explain::Cause;
use crate::policy::explain::Explanation;
use crate::policy::explain::Scene;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;

/// Most rules that a refusal looks at for the nearest one when no pinned rule was found.
const NEAR: usize = 100;

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
pub fn evaluate(policy: &Policy, registry: &Registry, subject: &Subject<'_>, requested: &Requested) -> Decision {
    let refuse = |cause| Decision::Deny(Box::new(Explanation::without_rules(cause)));
    let registry_number = policy.registries.position(&registry.id);
    let issuer_number = policy.issuers.position(subject.issuer.url().as_str());
    let (Some(registry_number), Some(issuer_number)) = (registry_number, issuer_number) else {
        return refuse(Cause::NoMatchingRule);
    };
    // The policy's own entries decide, should the caller's be of another revision.
    let url = subject.issuer.url().as_str();
    let (Some(registry), Some(issuer)) = (policy.registries.nth(registry_number), policy.issuers.by_url(url)) else {
        return refuse(Cause::NoMatchingRule);
    };
    let scene = Scene { provider: issuer.provider(), claims: subject.claims, requested };
    if !registry.enabled {
        return refuse(Cause::RegistryDisabled);
    }
    if !issuer.enabled {
        return refuse(Cause::IssuerDisabled);
    }
    let candidates = policy.index.candidates(registry_number, issuer_number, subject.claims);
    let candidates: Vec<&Rule> = candidates.into_iter().filter_map(|number| policy.rule(number)).collect();
    let matches = |rule: &&Rule| rule.enabled && rule.matches(scene.provider, subject.claims);
    let matching: Vec<&Rule> = candidates.iter().copied().filter(matches).collect();
    if !matching.is_empty() {
        return grant(registry, &matching, &scene);
    }
    let near = policy.index.first(registry_number, issuer_number, NEAR).filter_map(|number| policy.rule(number));
    Decision::Deny(Box::new(Explanation::of_mismatch(&scene, candidates.into_iter().chain(near))))
}

/// What the matching rules give together, cut to what was asked for.
fn grant(registry: &Registry, matching: &[&Rule], scene: &Scene<'_>) -> Decision {
    let deny = |cause, asked| Decision::Deny(Box::new(Explanation::of_request(scene, cause, matching, asked)));
    let mut pairs: BTreeSet<Permission> = BTreeSet::new();
    let mut contributing: Vec<&Rule> = Vec::new();
    for rule in matching {
        let before = contributing.len();
        for pair in contribution(rule, scene.requested) {
            if contributing.len() == before {
                contributing.push(rule);
            }
            pairs.insert(pair);
        }
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
    // SECURITY: merged with a rule for many uses, a single-use grant would be good for many.
    let single_use = contributing.iter().filter(|rule| rule.single_use).count();
    if single_use != 0 && single_use != contributing.len() {
        return deny(Cause::AmbiguousGrant, contributing.iter().map(|rule| rule.id.to_string()).collect());
    }
    Decision::Allow(Grant {
        rules: contributing.iter().map(|rule| rule.id.to_string()).collect(),
        permissions: pairs.into_iter().collect(),
        ttl: contributing.iter().filter_map(|rule| rule.ttl.or(Some(registry.token.ttl))).min().unwrap_or_default(),
        uses: (single_use != 0).then_some(1),
        max_size: contributing.iter().filter_map(|rule| rule.max_size).min(),
    })
}

/// The pairs of a rule that answer the request.
fn contribution(rule: &Rule, requested: &Requested) -> Vec<Permission> {
    let only = |pattern: &Pattern| match (&requested.package, pattern) {
        (None, _) => true,
        (Some(package), Pattern::Literal(name)) => name == package,
        (Some(_), Pattern::Prefix(_)) => false,
    };
    match (&requested.narrow, &requested.package) {
        (Some(narrow), _) => {
            let covered = |asked: &&Permission| rule.permissions.iter().any(|granted| covers(granted, asked));
            narrow.iter().filter(covered).filter(|asked| only(&asked.pattern)).cloned().collect()
        }
        (None, Some(package)) => {
            let literal = Pattern::Literal(package.clone());
            let reached = rule.permissions.iter().filter(|granted| granted.pattern.matches(package));
            reached.map(|granted| Permission { action: granted.action.clone(), pattern: literal.clone() }).collect()
        }
        (None, None) => rule.permissions.to_vec(),
    }
}

/// Whether a granted pair includes everything of an asked one. Every pair also lets its packages be read.
fn covers(granted: &Permission, asked: &Permission) -> bool {
    let pattern = match (&granted.pattern, &asked.pattern) {
        (pattern, Pattern::Literal(name)) => pattern.matches(name),
        (Pattern::Literal(_), Pattern::Prefix(_)) => false,
        (Pattern::Prefix(wide), Pattern::Prefix(narrow)) => narrow.starts_with(wide.as_str()),
    };
    pattern && (granted.action == asked.action || asked.action.as_str() == Action::READ)
}

#[cfg(test)]
mod tests;
