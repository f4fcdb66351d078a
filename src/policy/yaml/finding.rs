//! What a fault says, how bad it is, and the entry of a catalogue under which people can read more.

use std::fmt;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The whole load is refused.
    Error,
    /// It is loaded, and somebody should look at it.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One kind of finding, as a catalogue describes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Lint {
    /// The code that people look up: `L001`.
    pub code: &'static str,
    /// What happens to it.
    pub ruling: Ruling,
    /// What is found, in a few words.
    pub title: &'static str,
    /// Why it is dangerous: what goes wrong, and for whom.
    pub why: &'static str,
    /// How to mend it; where nothing is ever found, why not.
    pub mend: &'static str,
}

/// What happens to one kind of finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It refuses the load.
    Refused,
    /// It is a warning.
    Warned,
    /// It refuses the load in its worse form, and is a warning in the other.
    RefusedOrWarned,
    /// Nothing that loads can have it.
    Impossible,
    /// Nothing here can see it.
    Unseen,
}

impl Ruling {
    /// How tables name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "error",
            Self::Warned => "warning",
            Self::RefusedOrWarned => "error or warning",
            Self::Impossible => "impossible",
            Self::Unseen => "not looked for",
        }
    }

    /// Whether people can have it, so that there is a way to mend it.
    pub const fn has_mend(self) -> bool {
        !matches!(self, Self::Impossible | Self::Unseen)
    }

    /// Whether some of its findings are warnings, so that a waiver can have a meaning.
    pub const fn warns(self) -> bool {
        matches!(self, Self::Warned | Self::RefusedOrWarned)
    }
}

/// What is wrong, with the kind of finding that it is, if it is one of a catalogue.
#[derive(Debug)]
pub struct Message {
    pub(super) lint: Option<&'static Lint>,
    pub(super) text: String,
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self { lint: None, text }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl<T: Into<String>> From<(&'static Lint, T)> for Message {
    fn from((lint, text): (&'static Lint, T)) -> Self {
        Self { lint: Some(lint), text: text.into() }
    }
}
