//! Faults: what is wrong, where, and how to mend it; all of a load at once.

use std::fmt;

use super::Lint;
use super::Message;
use super::Place;
use super::Severity;
use super::Waiver;
use super::Warnings;

/// Most faults that one load keeps; the rest are counted.
const MAX_FAULTS: usize = 500;
/// Most characters of a user's text that a message repeats.
const MAX_SHOWN: usize = 120;

/// One thing that is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of finding it is, if a catalogue has it.
    pub lint: Option<&'static Lint>,
    /// Where it stands.
    pub place: Place,
    /// The keys that lead there, with dots: `rules.widgets.when.repository_id`; empty for the file as a whole.
    pub key_path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty when the message says so already.
    pub remedy: String,
}

/// `rules.yaml:12:7: rules.widgets.when.repository_id: must be text — quote it: "701234567"`; with `warning: ` behind
/// the place if it is one, and `L001: ` before the message if it has a code.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.key_path.is_empty() {
            write!(f, "{}: ", self.key_path)?;
        }
        if let Some(lint) = self.lint {
            write!(f, "{}: ", lint.code)?;
        }
        f.write_str(&self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " — {}", self.remedy) }
    }
}

/// Every fault of a load, in the order of the files: errors, any of which refuses it, and warnings beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    errors: Vec<Fault>,
    more: usize,
    warnings: Warnings,
}

impl Faults {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an error.
    pub fn push(
        &mut self,
        place: impl Into<Place>,
        key_path: String,
        message: impl Into<Message>,
        remedy: impl Into<String>,
    ) {
        let (place, Message { lint, text }) = (place.into(), message.into());
        self.add(Fault { severity: Severity::Error, lint, place, key_path, message: text, remedy: remedy.into() });
    }

    /// Adds an error.
    pub fn add(&mut self, fault: Fault) {
        if self.errors.len() < MAX_FAULTS {
            self.errors.push(fault);
        } else {
            self.more += 1;
        }
    }

    /// Adds a warning, unless it has been waived.
    pub fn warn(
        &mut self,
        place: impl Into<Place>,
        key_path: String,
        (lint, message): (&'static Lint, impl Into<String>),
        remedy: impl Into<String>,
    ) {
        let (place, message, remedy) = (place.into(), message.into(), remedy.into());
        let severity = Severity::Warning;
        self.warnings.add(lint, Fault { severity, lint: Some(lint), place, key_path, message, remedy });
    }

    /// From now on, warnings that the waiver is for are counted by it and nowhere else.
    pub fn waive(&mut self, waiver: Waiver) {
        self.warnings.waive(waiver);
    }

    /// Whether there is no error.
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// How many errors there are.
    pub fn len(&self) -> usize {
        self.errors.len() + self.more
    }

    /// The errors that were kept, in the order of the files after [`Faults::into_result`].
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        self.errors.iter()
    }

    /// The warnings beside them, in the order of the files after [`Faults::into_result`].
    pub const fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// The value and the warnings if there is no error, else everything, in the order of the files.
    pub fn into_result_with_warnings<T>(mut self, value: Option<T>) -> Result<(T, Warnings), Self> {
        self.warnings.sort();
        match value {
            Some(value) if self.errors.is_empty() => Ok((value, self.warnings)),
            Some(_) | None => {
                self.errors.sort_by(|a, b| a.place.cmp(&b.place));
                // What a rule opens, its preset may close by two conditions, and what is wrong with common conditions is
                // found in each branch: one fault.
                let mut kept: Vec<Fault> = Vec::with_capacity(self.errors.len());
                for fault in self.errors.drain(..) {
                    let near = kept.iter().rev().take_while(|other| other.place == fault.place);
                    if !near.into_iter().any(|other| *other == fault) {
                        kept.push(fault);
                    }
                }
                self.errors = kept;
                Err(self)
            }
        }
    }

    /// The value if there is no error, else everything, in the order of the files.
    pub fn into_result<T>(self, value: Option<T>) -> Result<T, Self> {
        self.into_result_with_warnings(value).map(|(value, _)| value)
    }
}

/// One fault a line: errors and warnings together, in the order of the files.
impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut faults: Vec<&Fault> = self.errors.iter().chain(self.warnings.iter()).collect();
        if !self.warnings.is_empty() {
            faults.sort_by(|a, b| a.place.cmp(&b.place));
        }
        for (i, fault) in faults.iter().enumerate() {
            write!(f, "{}{fault}", if i == 0 { "" } else { "\n" })?;
        }
        if self.more > 0 { write!(f, "\nand {} more", self.more) } else { Ok(()) }
    }
}

impl std::error::Error for Faults {}

/// A stranger's or a user's text, fit for one line of a terminal, a log or an error: control and bidirectional
/// characters are escaped, and what is long is cut.
///
/// SECURITY: a right-to-left override in a rule or a claim would let a message show something else than it says.
pub fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(MAX_SHOWN));
    for (count, c) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            out.push('…');
            break;
        }
        if is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character changes how text looks without being seen: controls, bidirectional marks, zero-width characters.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

/// The candidate that was probably meant: at most two slips away, and fewer than half of its letters.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = |candidate: &'a str| {
        let slips = distance(word, candidate);
        (slips <= 2 && slips * 2 < candidate.chars().count().max(1)).then_some((slips, candidate))
    };
    candidates.into_iter().filter_map(near).min_by_key(|(slips, _)| *slips).map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours between two words, ignoring case and taking `-` for
/// `_`.
fn distance(left: &str, right: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        text.chars().map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
    };
    let (left, right) = (fold(left), fold(right));
    if left.len().abs_diff(right.len()) > 2 {
        return usize::MAX / 4;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (i, &a) in left.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, &b) in right.iter().enumerate() {
            let at = |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 4);
            let mut best = (at(&row, j) + usize::from(a != b)).min(at(&row, j + 1) + 1).min(at(&next, j) + 1);
            let swapped = j.checked_sub(1).is_some_and(|k| right.get(k) == Some(&a)) && previous == Some(b);
            if swapped {
                best = best.min(at(&before, j - 1) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        previous = Some(a);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_a_guess_is_not_made() {
        let keys = ["repository", "repository_id", "environment", "tag"];
        for (word, meant) in [
            ("repositry", Some("repository")),
            ("repository-id", Some("repository_id")),
            ("enviroment", Some("environment")),
            ("Environment", Some("environment")),
            ("environmnet", Some("environment")),
            ("tga", Some("tag")),
            ("sub", None),
            ("", None),
            ("branch", None),
        ] {
            assert_eq!(nearest(word, keys), meant, "{word}");
        }
    }

    #[test]
    fn invisible_characters_are_escaped_and_long_text_is_cut() {
        assert_eq!(shown("a\u{202e}b\n\u{1b}[0m"), "a\\u{202e}b\\n\\u{1b}[0m");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), MAX_SHOWN + 1);
        assert_eq!(shown("é"), "é");
    }

    #[test]
    fn faults_come_in_the_order_of_the_file_and_are_bounded() {
        let place = |line| Place { file: "f".into(), line, column: 1 };
        let mut faults = Faults::new();
        faults.push(place(2), "b".into(), "is wrong", "");
        faults.push(place(1), String::new(), "is odd", "mend it");
        assert_eq!(
            faults.clone().into_result(Some(())).unwrap_err().to_string(),
            "f:1:1: is odd — mend it\nf:2:1: b: is wrong"
        );
        for line in 0..600 {
            faults.push(place(line), String::new(), "x", "");
        }
        assert!(faults.to_string().ends_with("and 102 more"));
        assert!(Faults::new().into_result(Some(())).is_ok());
    }
}
