//! Two policies side by side: which rules were added, removed and changed, line by line.

use serde::Serialize;

use crate::policy::Policy;
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
    let registry = policy.registries.nth(rule.registry).map_or("", |registry| registry.id.as_str());
    let issuer = usize::try_from(rule.issuer).ok().and_then(|number| policy.issuers.ids().nth(number)).unwrap_or("");
    let provider = policy.issuers.by_id(issuer).map(|issuer| issuer.provider());
    let plain = |text: String| (text.clone(), text);
    let mut lines = vec![
        plain(format!("registry: {registry}")),
        plain(format!("issuer: {issuer}")),
        plain(format!("mode: {}", rule.mode().name())),
    ];
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
    lines.extend(rule.ttl().map(|ttl| plain(format!("ttl: {} s", ttl.as_secs()))));
    lines.extend(rule.max_size().map(|size| plain(format!("max_size: {size}"))));
    lines.extend(rule.single_use().then(|| plain("single_use: true".to_owned())));
    lines
}

/// The lines of one that the other has not.
fn without(these: &[Line], others: &[Line]) -> Vec<String> {
    let missing = |(_, exact): &&Line| others.iter().all(|(_, other)| other != exact);
    these.iter().filter(missing).map(|(text, _)| text.clone()).collect()
}
