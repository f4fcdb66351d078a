//! Canonical names.

use std::fmt;

use super::Ecosystem;

/// Longest package name accepted, in bytes: npm's limit. Some ecosystems have a lower one.
pub const MAX_NAME: usize = 214;

/// Why a text is not a package name or pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than the ecosystem's names, this many bytes.
    #[error("is longer than {0} characters")]
    TooLong(usize),
    /// A character that no name of this ecosystem has.
    #[error("has a character that package names of this registry cannot have")]
    Character,
    /// The right characters, and not as names of the ecosystem have them: how they do.
    #[error("{0}")]
    Shape(&'static str),
    /// A `*` that is not the last character, or not after a separator.
    #[error("may have one `*`, as its last character, after a separator (`-`, `_`, `.` or `/`)")]
    Star,
    /// Put together from claims, and not spelled as its package is.
    #[error("is not the canonical name of its package in lower case")]
    Spelling,
}

/// The canonical name of a package: the only spelling by which this service knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(pub(super) String);

impl PackageName {
    /// Reads a name as a person or a client spells it and makes it canonical for its ecosystem.
    pub fn parse(ecosystem: Ecosystem, text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > ecosystem.longest() {
            return Err(NameError::TooLong(ecosystem.longest()));
        }
        ecosystem.check(text)?;
        Ok(Self(ecosystem.canonical(text)))
    }

    /// Reads a name that a rule put together from a job's claims, such as `acme-{repository_name}`.
    ///
    /// Only a text that is canonical once it is in lower case is a name here.
    ///
    /// SECURITY: whoever may create repositories chooses what stands in the claim. Where several spellings are one
    /// package, the job of a new repository `acme.core` would publish the package of `acme-core`. Texts that pass and
    /// differ in more than case are different packages; and where case tells packages apart, a repository that is
    /// renamed in case alone gets no second one.
    pub fn parse_interpolated(ecosystem: Ecosystem, text: &str) -> Result<Self, NameError> {
        let name = Self::parse(ecosystem, text)?;
        if name.0 == text.to_ascii_lowercase() { Ok(name) } else { Err(NameError::Spelling) }
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
