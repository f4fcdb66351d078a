//! Past decisions under two policies: which of them would change, rule by rule.
//!
//! The decisions come from the audit log, line by line, and memory is bounded by the policies, not by the file. A
//! decision that needed a claim which the log does not hold is unknown, and never guessed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use serde::Serialize;

use crate::audit::Line;
use crate::code::Code;
use crate::policy::Policy;
use crate::policy::diff::past::Past;
use crate::policy::diff::replay::Denial;
use crate::policy::diff::replay::OwnRules;
use crate::policy::diff::replay::Replayed;
use crate::policy::diff::replay::Verdict;
use crate::policy::diff::replay::replay;
use crate::policy::diff::replay::same;
use crate::policy::evaluate::Grant;
use crate::policy::rule::Mode;

mod assume;
mod past;
mod record;
mod replay;
mod rules;
mod table;

pub use rules::RuleChange;
pub use rules::RulesDiff;

/// Most groups of alike changes that are told apart; the rest is counted together.
const MAX_GROUPS: usize = 1000;
/// The events that are replayed.
const EXCHANGE: &str = "exchange";

/// A comparison under way.
#[derive(Debug)]
pub struct Diff<'p> {
    old: &'p Policy,
    new: &'p Policy,
    counts: Counts,
    changes: BTreeMap<ChangeKey, Seen>,
    unknown: BTreeMap<UnknownKey, Seen>,
    shadow: BTreeMap<String, ShadowCount>,
    /// The rules of the new policy that matched, and whether that is sure.
    matched: BTreeMap<String, bool>,
}

/// How many lines there were, of what.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Exchanges that were replayed.
    pub exchanges: u64,
    /// Of these, those that the new policy decides like the old one.
    pub unchanged: u64,
    /// Those that it decides otherwise.
    pub changed: u64,
    /// Those of which the log does not hold enough to tell.
    pub unknown: u64,
    /// Exchanges that both refuse, for different reasons.
    pub refused_otherwise: u64,
    /// Exchanges that the old policy decides otherwise than was decided then: the log is another policy's.
    pub unlike_the_record: u64,
    /// Events that are no exchanges.
    pub other_events: u64,
    /// Events without what they should have, or what replaying them takes: written by an earlier version.
    pub incomplete: u64,
    /// Events of a version that is not known.
    pub other_schemas: u64,
    /// Lines that are no events.
    pub not_events: u64,
    /// Changes and unknown decisions beyond those that are told apart.
    pub further: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
enum Change {
    /// Refused by the old policy, and granted by the new one.
    NewlyAllowed { rules: Vec<String>, permissions: Vec<String> },
    /// Granted by the old policy, and refused by the new one: the cause, and the nearest rule.
    NewlyDenied {
        rules: Vec<String>,
        code: Code,
        #[serde(skip_serializing_if = "Option::is_none")]
        nearest: Option<String>,
    },
    /// Granted by both, and not the same.
    GrantChanged {
        old_rules: Vec<String>,
        new_rules: Vec<String>,
        added: Vec<String>,
        removed: Vec<String>,
        limits: Vec<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct ChangeKey {
    registry: String,
    issuer: String,
    #[serde(flatten)]
    change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct UnknownKey {
    registry: String,
    issuer: String,
    /// The claims that it would take.
    claims: Vec<String>,
    /// The rules, of either policy, that may have matched.
    rules: Vec<String>,
}

/// How often something was seen, and one example.
#[derive(Debug, Clone, Serialize)]
struct Seen {
    count: u64,
    first: String,
    last: String,
    /// The request of the first.
    request_id: String,
    /// What the new policy says to the first.
    #[serde(skip_serializing_if = "String::is_empty")]
    sentence: String,
}

#[derive(Debug, Default, Clone, Copy, Serialize)]
struct ShadowCount {
    disagreed: u64,
    unknown: u64,
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Report {
    rules: RulesDiff,
    #[serde(skip_serializing_if = "Option::is_none")]
    past: Option<PastReport>,
}

#[derive(Debug, Serialize)]
struct PastReport {
    counts: Counts,
    changes: Vec<Group<ChangeKey>>,
    unknown: Vec<Group<UnknownKey>>,
    shadow: Vec<ShadowGroup>,
    /// Rules of the new policy, not switched off, that no exchange matched.
    never_matched: Vec<String>,
    /// Those of which it is not known whether one did.
    perhaps_matched: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Group<K> {
    #[serde(flatten)]
    what: K,
    #[serde(flatten)]
    seen: Seen,
}

#[derive(Debug, Serialize)]
struct ShadowGroup {
    rule: String,
    #[serde(flatten)]
    count: ShadowCount,
}

impl<'p> Diff<'p> {
    /// Compares these, with no decision replayed yet.
    pub const fn new(old: &'p Policy, new: &'p Policy) -> Self {
        Self {
            old,
            new,
            counts: Counts {
                exchanges: 0,
                unchanged: 0,
                changed: 0,
                unknown: 0,
                refused_otherwise: 0,
                unlike_the_record: 0,
                other_events: 0,
                incomplete: 0,
                other_schemas: 0,
                not_events: 0,
                further: 0,
            },
            changes: BTreeMap::new(),
            unknown: BTreeMap::new(),
            shadow: BTreeMap::new(),
            matched: BTreeMap::new(),
        }
    }

    /// Replays one line of the audit log.
    pub fn line(&mut self, line: &[u8]) {
        match Line::parse(line) {
            Line::Event(record) if record.event != EXCHANGE => self.counts.other_events += 1,
            Line::Event(record) => match Past::of(*record) {
                Some(past) => self.exchange(&past),
                None => self.counts.incomplete += 1,
            },
            Line::Faulty => self.counts.incomplete += 1,
            Line::OtherSchema => self.counts.other_schemas += 1,
            Line::NotAnEvent => self.no_event(),
        }
    }

    /// Counts a line that cannot be an event.
    pub const fn no_event(&mut self) {
        self.counts.not_events += 1;
    }

    /// What came out. Without a log only the rules themselves are compared.
    pub fn finish(self, with_log: bool) -> Report {
        let rules = RulesDiff::new(self.old, self.new);
        let past = with_log.then(|| self.past());
        Report { rules, past }
    }

    fn exchange(&mut self, past: &Past) {
        let own = OwnRules::of(past, self.old, self.new);
        let (old, new) = (replay(self.old, past, own), replay(self.new, past, own));
        self.counts.exchanges += 1;
        let granted = match old.verdict {
            Verdict::Allow(_) => Some(true),
            Verdict::Deny(_) => Some(false),
            Verdict::Unknown(_) => None,
        };
        self.counts.unlike_the_record += u64::from(granted.is_some_and(|granted| granted != past.granted));
        for (rule, sure) in &new.matched {
            *self.matched.entry(rule.clone()).or_default() |= sure;
        }
        for (rule, sure) in &new.shadow {
            let count = self.shadow.entry(rule.clone()).or_default();
            if *sure { count.disagreed += 1 } else { count.unknown += 1 }
        }
        self.compare(past, own, old, new);
    }

    fn compare(&mut self, past: &Past, own: OwnRules, old: Replayed, new: Replayed) {
        let alike = old.reach == new.reach && own != OwnRules::Perhaps;
        let rules: Vec<String> = old.matched.into_iter().chain(new.matched).map(|(rule, _)| rule).collect();
        let (change, sentence) = match (old.verdict, new.verdict) {
            (Verdict::Unknown(_), Verdict::Unknown(_)) if alike => return self.counts.unchanged += 1,
            (Verdict::Unknown(claims), Verdict::Unknown(more)) => {
                return self.unknown(past, claims.into_iter().chain(more).collect(), rules);
            }
            (Verdict::Unknown(claims), Verdict::Allow(_) | Verdict::Deny(_))
            | (Verdict::Allow(_) | Verdict::Deny(_), Verdict::Unknown(claims)) => {
                return self.unknown(past, claims, rules);
            }
            (Verdict::Deny(old), Verdict::Deny(new)) => {
                self.counts.refused_otherwise += u64::from(old.code != new.code);
                return self.counts.unchanged += 1;
            }
            (Verdict::Deny(_), Verdict::Allow(grant)) => {
                let permissions = pairs(&grant, None);
                (Change::NewlyAllowed { rules: grant.rules().to_vec(), permissions }, String::new())
            }
            (Verdict::Allow(grant), Verdict::Deny(Denial { code, rule, sentence })) => {
                (Change::NewlyDenied { rules: grant.rules().to_vec(), code, nearest: rule }, sentence)
            }
            (Verdict::Allow(old), Verdict::Allow(new)) if same(&old, &new) => return self.counts.unchanged += 1,
            (Verdict::Allow(old), Verdict::Allow(new)) => {
                let limits = limits(&old, &new, past.single_use);
                let (added, removed) = (pairs(&new, Some(&old)), pairs(&old, Some(&new)));
                if limits.is_empty() && added.is_empty() && removed.is_empty() {
                    return self.counts.unchanged += 1;
                }
                let (old_rules, new_rules) = (old.rules().to_vec(), new.rules().to_vec());
                (Change::GrantChanged { old_rules, new_rules, added, removed, limits }, String::new())
            }
        };
        self.counts.changed += 1;
        let key = ChangeKey { registry: past.registry.clone(), issuer: past.iss.clone(), change };
        self.counts.further += see(&mut self.changes, key, past, sentence);
    }

    fn unknown(&mut self, past: &Past, claims: BTreeSet<String>, mut rules: Vec<String>) {
        rules.sort_unstable();
        rules.dedup();
        self.counts.unknown += 1;
        let claims = claims.into_iter().collect();
        let key = UnknownKey { registry: past.registry.clone(), issuer: past.iss.clone(), claims, rules };
        self.counts.further += see(&mut self.unknown, key, past, String::new());
    }

    fn past(self) -> PastReport {
        let active = self.new.rules().filter(|rule| rule.mode() != Mode::Off).map(|rule| rule.id().to_owned());
        let (mut never_matched, mut perhaps_matched) = (Vec::new(), Vec::new());
        for rule in active {
            match self.matched.get(&rule) {
                Some(true) => {}
                Some(false) => perhaps_matched.push(rule),
                None => never_matched.push(rule),
            }
        }
        PastReport {
            counts: self.counts,
            changes: groups(self.changes),
            unknown: groups(self.unknown),
            shadow: self.shadow.into_iter().map(|(rule, count)| ShadowGroup { rule, count }).collect(),
            never_matched,
            perhaps_matched,
        }
    }
}

/// Adds to a group; 1 if there are too many groups for another one.
fn see<K: Ord>(groups: &mut BTreeMap<K, Seen>, key: K, past: &Past, sentence: String) -> u64 {
    let time = || past.time.clone();
    if let Some(seen) = groups.get_mut(&key) {
        seen.count += 1;
        seen.last = time();
        return 0;
    }
    if groups.len() >= MAX_GROUPS {
        return 1;
    }
    let request_id = past.request_id.clone();
    groups.insert(key, Seen { count: 1, first: time(), last: time(), request_id, sentence });
    0
}

/// The most frequent first.
fn groups<K: Ord>(groups: BTreeMap<K, Seen>) -> Vec<Group<K>> {
    let mut groups: Vec<_> = groups.into_iter().map(|(what, seen)| Group { what, seen }).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.seen.count));
    groups
}

/// The pairs of a grant that another has not.
fn pairs(grant: &Grant, without: Option<&Grant>) -> Vec<String> {
    let has = |pair| without.is_some_and(|other| other.permissions().iter().any(|own| own == pair));
    grant.permissions().iter().filter(|pair| !has(*pair)).map(ToString::to_string).collect()
}

/// What else differs: `ttl: 900 → 600`.
fn limits(old: &Grant, new: &Grant, single_use: bool) -> Vec<String> {
    let mut limits = Vec::new();
    let mut compare = |name: &str, old: String, new: String| {
        if old != new {
            limits.push(format!("{name}: {old} → {new}"));
        }
    };
    let number = |number: Option<u64>| number.map_or_else(|| "unlimited".to_owned(), |number| number.to_string());
    compare("ttl", old.ttl().as_secs().to_string(), new.ttl().as_secs().to_string());
    // A client that asked for one upload gets one whatever the rule says.
    if !single_use {
        compare("uses", number(old.uses().map(u64::from)), number(new.uses().map(u64::from)));
    }
    compare("max_size", number(old.max_size()), number(new.max_size()));
    let versions = |grant: &Grant| grant.versions().map_or_else(|| "all".to_owned(), |versions| versions.join(" "));
    compare("versions", versions(old), versions(new));
    limits
}

impl Report {
    /// Whether something changes: a past decision, or without a log a rule.
    pub fn changes(&self) -> bool {
        self.past.as_ref().map_or(!self.rules.is_empty(), |past| past.counts.changed > 0)
    }

    /// Whether there was a log, and no exchange in it: that nothing changes is then no finding.
    pub fn is_void(&self) -> bool {
        self.past.as_ref().is_some_and(|past| past.counts.exchanges == 0)
    }

    /// The report for a terminal.
    pub fn to_table(&self) -> String {
        table::of(self)
    }
}

#[cfg(test)]
mod tests;
