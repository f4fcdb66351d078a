//! Warnings: what loads and somebody should look at; and waivers, by which people say why a warning is acceptable.

use std::collections::BTreeMap;

use super::Fault;
use super::Lint;
use super::Place;

/// Most warnings that one load keeps; the rest are counted.
const MAX_KEPT: usize = 500;

/// The warnings of a load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warnings {
    kept: Vec<Fault>,
    counts: BTreeMap<&'static str, u64>,
    /// By the key path that they are for.
    waivers: BTreeMap<String, Vec<Waiver>>,
}

/// Somebody's word that one kind of warning is acceptable for an entry and what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// Where it stands.
    pub place: Place,
    /// The keys that lead to the entry: `rules.widgets`.
    pub key_path: String,
    /// The kind of warning.
    pub lint: &'static Lint,
    /// Why it is acceptable.
    pub reason: String,
    /// How many warnings it has taken away.
    pub used: u64,
}

impl Warnings {
    /// Those that were kept, in the order of the files once the load has ended.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.kept.iter()
    }

    /// How many there are, kept or not; none of them waived.
    pub fn len(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many there are of each code; codes without a warning are left out.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(code, count)| (*code, *count))
    }

    /// How many have been waived.
    pub fn waived(&self) -> u64 {
        self.waivers().map(|waiver| waiver.used).sum()
    }

    /// The waivers, in the order of their key paths.
    pub fn waivers(&self) -> impl Iterator<Item = &Waiver> {
        self.waivers.values().flatten()
    }

    pub(super) fn add(&mut self, lint: &'static Lint, fault: Fault) {
        if self.is_waived(lint, &fault.key_path) {
            return;
        }
        // What is found in a rule's common conditions is found in each of its branches.
        if self.kept.iter().rev().take_while(|other| other.place.line >= fault.place.line).any(|other| *other == fault)
        {
            return;
        }
        *self.counts.entry(lint.code).or_default() += 1;
        if self.kept.len() < MAX_KEPT {
            self.kept.push(fault);
        }
    }

    pub(super) fn waive(&mut self, waiver: Waiver) {
        self.waivers.entry(waiver.key_path.clone()).or_default().push(waiver);
    }

    /// Whether a waiver for this place, or for what it is part of, takes the warning away.
    fn is_waived(&mut self, lint: &'static Lint, key_path: &str) -> bool {
        if self.waivers.is_empty() {
            return false;
        }
        let ends = key_path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(at, _)| at);
        for end in ends.chain([key_path.len()]) {
            let (whole, _) = key_path.split_at(end);
            let mut waivers = self.waivers.get_mut(whole).into_iter().flatten();
            if let Some(waiver) = waivers.find(|waiver| waiver.lint == lint) {
                waiver.used += 1;
                return true;
            }
        }
        false
    }

    /// Brings them into the order of the files.
    pub(super) fn sort(&mut self) {
        self.kept.sort_by(|a, b| a.place.cmp(&b.place));
    }
}
