//! Two policies side by side: which rules were added, removed and changed, line by line.

use serde::Serialize;

use crate::policy::Policy;
use crate::policy::issuers::Entry;
use crate::policy::rule::Rule;

/// How the rules of two policies differ.
#[derive(Debug, Default, Serialize)]
pub struct RulesDiff {
    /// Rules that only the new one has.
    pub added: Vec<String>,
    /// Rules that only the old one has.
    pub removed: Vec<String>,
    /// Rules of one name that say something else.
    pub changed: Vec<RuleChange>,
}

/// What became of one rule.
#[derive(Debug, Serialize)]
pub struct RuleChange {
    /// Its name.
    pub rule: String,
    /// What it no longer says.
    pub removed: Vec<String>,
    /// What it says now.
    pub added: Vec<String>,
}

impl RulesDiff {
    /// Compares the rules by name.
    pub fn new(old: &Policy, new: &Policy) -> Self {
        let mut diff = Self::default();
        for rule in new.rules() {
            let now = lines(new, &rule);
            match old.rule_by_id(rule.id()) {
                None => diff.added.push(rule.id().to_owned()),
                Some(before) => {
                    let before = lines(old, &before);
                    let (removed, added) = (without(&before, &now), without(&now, &before));
                    if !removed.is_empty() || !added.is_empty() {
                        diff.changed.push(RuleChange { rule: rule.id().to_owned(), removed, added });
                    }
                }
            }
        }
        let removed = old.rules().filter(|rule| new.rule_by_id(rule.id()).is_none());
        diff.removed = removed.map(|rule| rule.id().to_owned()).collect();
        diff
    }

    /// Whether the rules are the same.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

/// What a rule says, a line for each thing: as people read it, and exactly. `"1"` and `1` read alike and are not the same.
type Line = (String, String);

fn lines(policy: &Policy, rule: &Rule<'_>) -> Vec<Line> {
    let (registry, issuer) = (policy.registries.nth(rule.registry), policy.world.issuer(rule.issuer));
    let provider = issuer.map(Entry::provider);
    let plain = |text: String| (text.clone(), text);
    let mut lines = vec![
        plain(format!("registry: {}", registry.map_or("", |registry| &registry.id))),
        plain(format!("issuer: {}", issuer.map_or("", Entry::id))),
        plain(format!("mode: {}", rule.mode().name())),
    ];
    // A rule of the same words says something else to other jobs, under other names, or for longer.
    if let Some(issuer) = issuer {
        let common = issuer.common();
        lines.push(plain(format!("issuer's URL: {}, provider: {}", common.url(), common.provider().name)));
        lines.extend((!common.enabled).then(|| plain("the issuer is switched off".to_owned())));
    }
    if let Some(registry) = registry {
        lines.push(plain(format!("registry's audiences: {}", registry.audiences.join(", "))));
        lines.push(plain(format!("registry's package names: {}", registry.ecosystem().name())));
        lines.extend((!registry.enabled).then(|| plain("the registry is switched off".to_owned())));
    }
    let several = rule.branches().len() > 1;
    for (branch, number) in rule.branches().iter().zip(1..) {
        let block = if several { format!(" (block {number})") } else { String::new() };
        lines.extend(branch.conditions().iter().map(|condition| {
            let text = format!("when{block} {}: {}", condition.claim(), condition.test());
            (text, format!("{number} {}", serde_json::to_string(condition).unwrap_or_default()))
        }));
        let implied = provider.into_iter().flat_map(|provider| branch.implied(provider));
        lines.extend(implied.map(|implied| plain(format!("when{block} {} as the preset says", implied.claim))));
    }
    lines.extend(rule.pairs().iter().map(|pair| plain(format!("allow {pair}"))));
    lines.extend(rule.versions().iter().map(|version| plain(format!("version {version}"))));
    let ttl = rule.ttl().or_else(|| registry.map(|registry| registry.token.ttl));
    lines.extend(ttl.map(|ttl| plain(format!("ttl: {} s", ttl.as_secs()))));
    lines.extend(rule.max_size().map(|size| plain(format!("max_size: {size}"))));
    lines.extend(rule.single_use().then(|| plain("single_use: true".to_owned())));
    lines
}

/// The lines of one that the other has not.
fn without(these: &[Line], others: &[Line]) -> Vec<String> {
    let missing = |(_, exact): &&Line| others.iter().all(|(_, other)| other != exact);
    these.iter().filter(missing).map(|(text, _)| text.clone()).collect()
}
