//! What rules do: which of them grant, and which would have.
//!
//! A rule that grants nothing for months is dead, and shows only if it has a series before its first match. So each rule of
//! the directory has one from the start, up to [`MOST_NAMED_RULES`] of them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::mem;

use super::Metrics;
use super::instrument::Count;
use super::instrument::Maker;
use super::instrument::Readings;
use super::instrument::Told;
use super::instrument::configured;

/// Most rules of the directory that are counted by name. Where there are more none is: half of them would tell nothing of
/// the other half.
pub const MOST_NAMED_RULES: usize = 1000;
/// What stands for all rules of a registry that are not counted by name. No rule is called that.
pub const UNNAMED: &str = "*";

#[derive(Debug)]
pub(super) struct Rules {
    matches: Told<Matches>,
    shadow_disagreements: Count<1>,
}

#[derive(Debug, Default)]
struct Matches {
    /// By rule: its registry, and how often it matched.
    named: HashMap<String, (String, u64)>,
    /// By registry.
    unnamed: BTreeMap<String, u64>,
}

impl Rules {
    pub(super) fn new(make: &mut Maker) -> Self {
        let matches: Told<Matches> = Told::default();
        let shown = matches.clone();
        make.total(
            "rule_matches",
            ["registry", "rule"],
            "Exchanges to which a rule granted something, whether or not an upload token came of it.",
            move || shown.with(|matches| matches.readings()),
        );
        Self {
            matches,
            shadow_disagreements: make.counter(
                "shadow_disagreements",
                ["rule"],
                "Exchanges to which a rule in shadow mode would have granted something that was not granted.",
            ),
        }
    }
}

impl Matches {
    fn readings(&self) -> Readings<2, u64> {
        let named = self.named.iter().map(|(rule, (registry, count))| (registry, rule.as_str(), *count));
        let unnamed = self.unnamed.iter().map(|(registry, count)| (registry, UNNAMED, *count));
        let series = named.chain(unnamed);
        series.map(|(registry, rule, count)| ([configured(registry), configured(rule)], count)).collect()
    }
}

impl Metrics {
    /// Says which rules of the directory may grant from now on: the registry and the name of each. Those that were there
    /// before keep their counts.
    pub fn rules_in_force(&self, rules: impl Iterator<Item = (String, String)>) {
        let rules: Vec<_> = rules.take(MOST_NAMED_RULES + 1).collect();
        let rules = if rules.len() > MOST_NAMED_RULES { Vec::new() } else { rules };
        self.rules.matches.with(|matches| {
            let mut before = mem::take(&mut matches.named);
            let kept = |(registry, rule): (String, String)| {
                let count = before.remove(&rule).filter(|(of, _)| *of == registry).map_or(0, |(_, count)| count);
                (rule, (registry, count))
            };
            matches.named = rules.into_iter().map(kept).collect();
        });
    }

    /// Counts a match of a rule of this registry.
    pub fn rule_matched(&self, registry: &str, rule: &str) {
        self.rules.matches.with(|matches| match matches.named.get_mut(rule) {
            Some((_, count)) => *count += 1,
            None => *matches.unnamed.entry(registry.to_owned()).or_default() += 1,
        });
    }

    /// Counts an exchange to which this rule, in shadow mode, would have granted something that was not granted.
    pub fn shadow_disagreement(&self, rule: &str) {
        self.rules.shadow_disagreements.one([configured(rule)]);
    }
}
