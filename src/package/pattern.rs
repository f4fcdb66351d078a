//! Patterns: one name, or all longer names behind a prefix.

use std::fmt;

use super::Ecosystem;
use super::NameError;
use super::PackageName;

/// Which packages a grant reaches: one name, or every longer name that starts with a prefix ending in a separator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// Exactly this package.
    Literal(PackageName),
    /// Every package whose canonical name is longer than this prefix and starts with it.
    Prefix(String),
}

impl Pattern {
    /// Reads `widgets`, `widgets-*` or `@acme/*`; the prefix is made canonical like a name.
    pub fn parse(ecosystem: Ecosystem, text: &str) -> Result<Self, NameError> {
        let Some(prefix) = text.strip_suffix('*') else {
            if text.contains('*') {
                return Err(NameError::Star);
            }
            return PackageName::parse(ecosystem, text).map(Self::Literal);
        };
        if prefix.contains('*') || !prefix.ends_with(['-', '_', '.', '/']) {
            return Err(NameError::Star);
        }
        // INVARIANT: a prefix is the canonical form of some name minus that name's last character, so it can match
        // nothing that is not a canonical name. A digit stands for the rest of the name: every ecosystem has it at every
        // place, and none folds it into what comes before.
        let mut name = PackageName::parse(ecosystem, &format!("{prefix}0"))?.0;
        name.pop();
        Ok(Self::Prefix(name))
    }

    /// Whether the pattern reaches the package.
    pub fn matches(&self, name: &PackageName) -> bool {
        match self {
            Self::Literal(literal) => literal == name,
            Self::Prefix(prefix) => name.0.len() > prefix.len() && name.0.starts_with(prefix.as_str()),
        }
    }

    /// Whether it reaches everything that another pattern reaches.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (pattern, Self::Literal(name)) => pattern.matches(name),
            (Self::Literal(_), Self::Prefix(_)) => false,
            (Self::Prefix(wide), Self::Prefix(narrow)) => narrow.starts_with(wide.as_str()),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(name) => f.write_str(name.as_str()),
            Self::Prefix(prefix) => {
                f.write_str(prefix)?;
                f.write_str("*")
            }
        }
    }
}
