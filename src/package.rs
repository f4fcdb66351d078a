//! Names of packages and what may be done to them: canonical names, patterns, and sets of (action, pattern) pairs.
//!
//! A [`PackageName`] is canonical by construction, so two spellings of one package can never be two packages. A
//! [`Pattern`] is a literal or a literal prefix that ends in a separator, so a grant for `acme-*` can never reach
//! `acmeevil`. This module does not know who may do what: that is policy.

use std::collections::BTreeSet;
use std::fmt;

/// Longest package name accepted, in bytes; npm's limit, the largest of the ecosystems, is 214.
pub const MAX_NAME: usize = 214;

/// A family of registries that agree on how package names are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ecosystem {
    /// Python: names are canonical as in PEP 503 (lower case, runs of `-`, `_`, `.` are one `-`).
    Pypi,
    /// Any other store: names are compared as they are written.
    Generic,
}

/// Why a text is not a package name or pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than [`MAX_NAME`] bytes.
    #[error("is longer than 214 characters")]
    TooLong,
    /// A character that no name of this ecosystem has.
    #[error("has a character that package names of this registry cannot have")]
    Character,
    /// Starts or ends with a separator.
    #[error("must start and end with a letter or a digit")]
    Edge,
    /// Put together from claims, and not in its canonical spelling.
    #[error("is another spelling of its canonical form")]
    Spelling,
    /// A `*` that is not the last character, or not after a separator.
    #[error("may have one `*`, as its last character, after a separator (`-`, `_`, `.` or `/`)")]
    Star,
}

/// The canonical name of a package: the only spelling by which this service knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageName(String);

impl PackageName {
    /// Reads a name as a person or a client spells it and makes it canonical for its ecosystem.
    pub fn parse(ecosystem: Ecosystem, text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong);
        }
        match ecosystem {
            Ecosystem::Pypi => {
                let ok = |c: char| c.is_ascii_alphanumeric() || is_pypi_separator(c);
                if !text.chars().all(ok) {
                    return Err(NameError::Character);
                }
                check_edges(text)?;
                Ok(Self(pep503(text)))
            }
            Ecosystem::Generic => {
                let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@' | '+' | '~');
                if !text.chars().all(ok) || text.contains("//") || text.split('/').any(|s| s == "." || s == "..") {
                    return Err(NameError::Character);
                }
                check_edges(text.strip_prefix('@').unwrap_or(text))?;
                Ok(Self(text.to_owned()))
            }
        }
    }

    /// Reads a name that was put together from a job's claims: one whose canonical form is its lower-case form.
    ///
    /// SECURITY: canonical names are fewer than spellings. If `a.b` and `a-b` could both be read here, two repositories
    /// of those names would meet in one package.
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

fn is_pypi_separator(c: char) -> bool {
    matches!(c, '-' | '_' | '.')
}

fn check_edges(text: &str) -> Result<(), NameError> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if edge(text.chars().next()) && edge(text.chars().last()) { Ok(()) } else { Err(NameError::Edge) }
}

/// PEP 503: lower case, and every run of `-`, `_`, `.` is one `-`.
fn pep503(text: &str) -> String {
    let mut canonical = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_pypi_separator(c) {
            canonical.push(c.to_ascii_lowercase());
        } else if !canonical.ends_with('-') {
            canonical.push('-');
        }
    }
    canonical
}

/// Which packages a grant reaches: one name, or every longer name that starts with a prefix ending in a separator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// Exactly this package.
    Literal(PackageName),
    /// Every package whose canonical name is longer than this prefix and starts with it.
    Prefix(String),
}

impl Pattern {
    /// Reads `widgets` or `widgets-*`; the prefix is made canonical like a name.
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
        // nothing that is not a canonical name.
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
}

impl Pattern {
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
            Self::Literal(name) => write!(f, "{name}"),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// What is done to a package: `upload`, `create` (the name does not exist yet), `read`, `yank`, `delete`, `tag`, ….
/// A lower-case word with hyphens, at most 32 characters; registries may define their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Action(String);

impl Action {
    /// A new file or version of a package that exists.
    pub const UPLOAD: &'static str = "upload";
    /// The first upload to a name that does not exist yet.
    pub const CREATE: &'static str = "create";
    /// Reading; every token may read the packages that it names.
    pub const READ: &'static str = "read";

    /// Reads an action's name.
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_lowercase() || c == '-';
        let fits = (1..=32).contains(&text.len()) && text.chars().all(legal);
        (fits && !text.starts_with('-') && !text.ends_with('-')).then(|| Self(text.to_owned()))
    }

    /// The action `upload`.
    pub fn upload() -> Self {
        Self(Self::UPLOAD.to_owned())
    }

    /// The action `create`.
    pub fn create() -> Self {
        Self(Self::CREATE.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that is allowed: an action on the packages of a pattern. Written `upload:widgets-*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Permission {
    /// What may be done.
    pub action: Action,
    /// To which packages.
    pub pattern: Pattern,
}

impl Permission {
    /// Reads `action:pattern`, split at the first colon.
    pub fn parse(ecosystem: Ecosystem, text: &str) -> Option<Self> {
        let (action, pattern) = text.split_once(':')?;
        Some(Self { action: Action::parse(action)?, pattern: Pattern::parse(ecosystem, pattern).ok()? })
    }

    /// Whether it allows the action on the package. Every pair also lets its packages be read.
    pub fn allows(&self, action: &Action, name: &PackageName) -> bool {
        (self.action == *action || action.as_str() == Action::READ) && self.pattern.matches(name)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.action, self.pattern)
    }
}

/// A set of permissions in canonical order; the empty set allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions(BTreeSet<Permission>);

impl Permissions {
    /// Whether some pair of the set allows the action on the package.
    pub fn allow(&self, action: &Action, name: &PackageName) -> bool {
        self.0.iter().any(|pair| pair.allows(action, name))
    }

    /// The pairs in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = &Permission> {
        self.0.iter()
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds the pairs of another set.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// `upload:widgets,upload:widgets-*`: comma-separated, in canonical order.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pair) in self.0.iter().enumerate() {
            write!(f, "{}{pair}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PackageName {
        PackageName::parse(Ecosystem::Pypi, text).unwrap()
    }

    fn pattern(text: &str) -> Result<Pattern, NameError> {
        Pattern::parse(Ecosystem::Pypi, text)
    }

    #[test]
    fn spellings_of_one_package_are_one_name() {
        for spelling in ["acme-widgets", "Acme_Widgets", "ACME.widgets", "acme-_.widgets"] {
            assert_eq!(name(spelling).as_str(), "acme-widgets", "{spelling}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "a".repeat(MAX_NAME + 1);
        for text in ["", "-a", "a-", "a b", "a,b", "a:b", "a/b", "a*", "é", "\u{212a}", "a\n", long.as_str()] {
            assert!(PackageName::parse(Ecosystem::Pypi, text).is_err(), "{text:?}");
        }
        for text in ["a//b", "../a", "a/../b", "/a", "a/", "a,b", "a:b", "a b", "@", "a%2fb"] {
            assert!(PackageName::parse(Ecosystem::Generic, text).is_err(), "{text:?}");
        }
        assert!(PackageName::parse(Ecosystem::Generic, "@acme/widgets").is_ok());
    }

    #[test]
    fn a_prefix_stops_at_its_separator() {
        let acme = pattern("Acme_*").unwrap();
        assert_eq!(acme.to_string(), "acme-*");
        assert!(acme.matches(&name("acme-core")));
        assert!(acme.matches(&name("acme.core")));
        assert!(!acme.matches(&name("acme")));
        assert!(!acme.matches(&name("acmeevil")));
        for text in ["*", "acme*", "a*b", "acme-**", "-*", "a-*-b"] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_set_allows_what_a_pair_allows_and_reading_it() {
        let set: Permissions =
            ["upload:widgets", "create:acme-*"].iter().filter_map(|t| Permission::parse(Ecosystem::Pypi, t)).collect();
        let may = |action: &str, package: &str| set.allow(&Action::parse(action).unwrap(), &name(package));
        assert!(may("upload", "widgets"));
        assert!(!may("create", "widgets"));
        assert!(!may("upload", "acme-x"));
        assert!(may("create", "acme-x"));
        assert!(may("read", "widgets"));
        assert!(!may("read", "gadgets"));
        assert_eq!(set.to_string(), "create:acme-*,upload:widgets");
        assert!(!Permissions::default().allow(&Action::upload(), &name("widgets")));
    }
}
