//! A past exchange under a policy: what would be decided, as far as the record can tell.

use std::collections::BTreeSet;

use crate::code::Code;
use crate::package::PackageName;
use crate::package::Permission;
use crate::package::Permissions;
use crate::policy::Policy;
use crate::policy::bundle;
use crate::policy::diff::assume::assume;
use crate::policy::diff::assume::grants_unknown;
use crate::policy::diff::assume::unknown_claims;
use crate::policy::diff::past::Past;
use crate::policy::diff::record::Record;
use crate::policy::evaluate::Decision;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::Grant;
use crate::policy::evaluate::NEAR;
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::decide;
use crate::policy::explain::Scene;
use crate::policy::registry::Registry;
use crate::policy::rule::Mode;
use crate::policy::rule::Rule;

/// What stands for a bundle's rules among the claims that the log does not hold.
const BUNDLE: &str = "the rules of the registry's bundle";

/// What is known of the rules that registries serve themselves: no policy's directory has them, and no log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnRules {
    /// They have no part in this exchange, under either policy.
    NoPart,
    /// They may have, and are the same under both.
    Alike,
    /// They may have, and need not be the same.
    Perhaps,
}

impl OwnRules {
    /// What they are to an exchange under these two policies.
    pub(super) fn of(past: &Past, old: &Policy, new: &Policy) -> Self {
        let (old, new) = (served(old, past), served(new, past));
        // How often it is asked for is nothing to its rules.
        let same = match (old, new) {
            (Some(old), Some(new)) => *old == bundle::Source { poll: old.poll, ..new.clone() },
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        match same {
            true if past.without_bundle || old.is_none() => Self::NoPart,
            true => Self::Alike,
            false => Self::Perhaps,
        }
    }
}

/// Where the registry of an exchange serves rules of its own, if those may name the job's issuer.
fn served<'p>(policy: &'p Policy, past: &Past) -> Option<&'p bundle::Source> {
    let own = policy.registries.by_id(&past.registry)?.bundle.as_deref()?;
    let issuer = policy.issuers.by_url(&past.iss);
    let named = issuer.is_some_and(|issuer| own.issuers.contains(&issuer.id));
    (named || policy.is_member_for(own, &past.iss)).then_some(own)
}

/// What a policy says to a past exchange.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) verdict: Verdict,
    /// The content of each rule in force that matches or may match, and of the registry's part in a grant: two policies
    /// that agree in this decide alike, whatever the record does not say.
    pub(super) reach: Vec<String>,
    /// The rules that match, and whether that is sure.
    pub(super) matched: Vec<(String, bool)>,
    /// The rules in shadow mode that would have granted something that was not granted, and whether that is sure.
    pub(super) shadow: Vec<(String, bool)>,
}

/// The decision.
#[derive(Debug)]
pub(super) enum Verdict {
    Allow(Grant),
    Deny(Denial),
    /// It depends on these claims, which are not recorded.
    Unknown(BTreeSet<String>),
}

/// Why not.
#[derive(Debug)]
pub(super) struct Denial {
    pub(super) code: Code,
    /// The nearest rule.
    pub(super) rule: Option<String>,
    pub(super) sentence: String,
}

/// Decides a past exchange anew.
pub(super) fn replay(policy: &Policy, past: &Past, own: OwnRules) -> Replayed {
    let bundled = own != OwnRules::NoPart && served(policy, past).is_some();
    let Some(registry) = policy.registries.by_id(&past.registry) else {
        return Replayed::refused(Code::InvalidTarget, format!("the policy has no registry `{}`", past.registry));
    };
    let Some(issuer) = policy.issuers.by_url(&past.iss) else {
        if bundled && registry.enabled {
            return Replayed::unknown(BTreeSet::from([BUNDLE.to_owned()]));
        }
        return Replayed::refused(Code::UnknownIssuer, format!("the policy has no issuer `{}`", past.iss));
    };
    if !registry.enabled {
        return Replayed::refused(Code::RegistryDisabled, "the registry is switched off".to_owned());
    }
    if !issuer.enabled {
        return Replayed::refused(Code::IssuerDisabled, format!("the issuer `{}` is switched off", issuer.id));
    }
    if !issuer.audiences(&registry.audiences).contains(&past.aud) {
        let detail = format!("`{}` is none of the audiences of `{}`", past.aud, registry.id);
        return Replayed::refused(Code::WrongAudience, detail);
    }
    if past.lifetime > issuer.max_lifetime.as_secs() {
        let detail = format!("tokens of `{}` may not be valid for {} s", issuer.id, past.lifetime);
        return Replayed::refused(Code::LifetimeTooLong, detail);
    }
    let Some(requested) = requested(registry, past) else {
        let detail = format!("what was asked for has no legal name at `{}`", registry.id);
        return Replayed::refused(Code::InvalidScope, detail);
    };
    let numbers = policy.registries.position(&registry.id).zip(policy.issuers.position(&past.iss));
    let Some((registry_number, issuer_number)) = numbers else {
        return Replayed::refused(Code::NoMatchingRule, "no rule matches".to_owned());
    };

    let (provider, record) = (issuer.provider(), Record::new(past, issuer));
    let scene = Scene { provider, claims: &record.claims, requested: &requested, ecosystem: registry.ecosystem() };
    let rules = candidates(policy, registry_number, issuer_number, &record);
    let assumed = |holds| rules.iter().map(|rule| assume(rule, provider, &record, holds)).collect::<Vec<_>>();
    let (granted, failed) = (assumed(true), assumed(false));
    let holds = |rule: &Rule<'_>| rule.branches().iter().any(|branch| branch.holds(provider, &record.claims));
    let near = || {
        let first = policy.sets().flat_map(|set| set.first(registry_number, issuer_number, NEAR)).take(NEAR);
        first.map(|rule| assume(&rule, provider, &record, true)).collect()
    };
    let mode = |rule: &Rule<'_>| rule.mode();
    let most = decide(registry, &scene, &granted, near, &mode);
    let silent = rules.iter().any(|rule| !unknown_claims(rule, provider, &record).is_empty());
    let least = if silent { decide(registry, &scene, &failed, near, &mode) } else { most.clone() };

    let mut replayed = Replayed::unknown(BTreeSet::new());
    let (mut unknown, mut opaque) = (BTreeSet::new(), bundled);
    unknown.extend(bundled.then(|| BUNDLE.to_owned()));
    let reached = rules.iter().zip(granted.iter().zip(&failed)).filter(|(_, (held, _))| holds(held));
    for (rule, (_, lost)) in reached {
        let sure = holds(lost);
        replayed.matched.push((rule.id().to_owned(), sure));
        let nameless = grants_unknown(rule, &record);
        match rule.mode() {
            Mode::Enforce => {
                opaque |= nameless;
                if nameless || !sure {
                    unknown.extend(unknown_claims(rule, provider, &record));
                }
                replayed.reach.push(content(rule));
            }
            Mode::Shadow if nameless => replayed.shadow.push((rule.id().to_owned(), false)),
            Mode::Shadow | Mode::Off => {}
        }
    }
    // What a rule says depends on these too: which conditions the preset adds, what is a name, and how long a token lives.
    replayed.reach.push(format!("{} {} {:?}", provider.name, registry.ecosystem().name(), registry.token.ttl));
    replayed.reach.sort_unstable();
    let sure = |rule: &String| least.shadow.contains(rule) && unknown.is_empty();
    replayed.shadow.extend(most.shadow.iter().map(|rule| (rule.clone(), sure(rule))));
    let others = least.shadow.iter().filter(|rule| !most.shadow.contains(*rule));
    replayed.shadow.extend(others.map(|rule| (rule.clone(), false)));
    replayed.verdict = verdict(most, least, unknown, opaque);
    replayed
}

/// The decision, if what is not recorded makes no difference to it.
///
/// With more matching rules a decision only goes from a refusal by way of ever larger grants to an ambiguous one, and
/// never back. So if it is the same with the most and with the least of them, it is the same with all between.
fn verdict(most: Evaluation, least: Evaluation, unknown: BTreeSet<String>, opaque: bool) -> Verdict {
    let ambiguous = |denial: &Denial| denial.code == Code::AmbiguousGrant;
    match (Verdict::of(most.decision), Verdict::of(least.decision)) {
        (most, _) if unknown.is_empty() => most,
        (Verdict::Deny(most), Verdict::Deny(least)) if !opaque && ambiguous(&most) == ambiguous(&least) => {
            Verdict::Deny(most)
        }
        (Verdict::Allow(most), Verdict::Allow(least)) if !opaque && same(&most, &least) => Verdict::Allow(least),
        _ => Verdict::Unknown(unknown),
    }
}

/// Whether two grants let a job do the same, whichever rules they come from.
pub(super) fn same(a: &Grant, b: &Grant) -> bool {
    let limits = |grant: &Grant| (grant.ttl(), grant.uses(), grant.max_size());
    a.permissions() == b.permissions() && a.versions() == b.versions() && limits(a) == limits(b)
}

/// The rules that could match. Those that are filed under a claim that is not recorded are all looked at.
fn candidates<'p>(policy: &'p Policy, registry: u32, issuer: u32, record: &Record<'_>) -> Vec<Rule<'p>> {
    let mut found = Vec::new();
    for set in policy.sets() {
        if set.filed_under(registry, issuer).all(|claim| record.knows(claim)) {
            found.extend(set.candidates(registry, issuer, &record.claims));
        } else {
            found.extend(set.first(registry, issuer, usize::MAX));
        }
    }
    found
}

/// Everything of a rule that a decision depends on, but for its name.
fn content(rule: &Rule<'_>) -> String {
    let parts = (&rule.branches, &rule.pairs, &rule.versions, rule.ttl, rule.max_size, rule.single_use);
    serde_json::to_string(&parts).unwrap_or_default()
}

fn requested(registry: &Registry, past: &Past) -> Option<Requested> {
    let ecosystem = registry.ecosystem();
    let package = past.package.as_deref().map(|name| PackageName::parse(ecosystem, name).ok());
    let package = match package {
        Some(package) => Some(package?),
        None => None,
    };
    let pairs = past.requested.iter().map(|pair| Permission::parse(ecosystem, pair));
    let pairs = pairs.collect::<Option<Permissions>>()?;
    Some(Requested { package, narrow: Some(pairs).filter(|pairs| !pairs.is_empty()) })
}

impl Replayed {
    const fn new(verdict: Verdict) -> Self {
        Self { verdict, reach: Vec::new(), matched: Vec::new(), shadow: Vec::new() }
    }

    fn refused(code: Code, sentence: String) -> Self {
        Self::new(Verdict::Deny(Denial { code, rule: None, sentence }))
    }

    const fn unknown(claims: BTreeSet<String>) -> Self {
        Self::new(Verdict::Unknown(claims))
    }
}

impl Verdict {
    fn of(decision: Decision) -> Self {
        match decision {
            Decision::Allow(grant) => Self::Allow(grant),
            Decision::Deny(explanation) => Self::Deny(Denial {
                code: explanation.code(),
                rule: explanation.rules().first().map(|report| report.rule.clone()),
                sentence: explanation.sentence(),
            }),
        }
    }
}
