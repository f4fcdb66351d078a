//! What may be done to which packages: actions, (action, pattern) pairs and sets of them.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::Ecosystem;
use super::PackageName;
use super::Pattern;

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
        f.write_str(self.action.as_str())?;
        f.write_str(":")?;
        fmt::Display::fmt(&self.pattern, f)
    }
}

/// A set of permissions in canonical order; the empty set allows nothing. A copy is cheap: a token's goes from its grant to
/// its caveat, to its answer and to its record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permissions(Arc<BTreeSet<Permission>>);

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
        Arc::make_mut(&mut self.0).extend(other.0.iter().cloned());
    }
}

impl FromIterator<Permission> for Permissions {
    fn from_iter<I: IntoIterator<Item = Permission>>(pairs: I) -> Self {
        Self(Arc::new(pairs.into_iter().collect()))
    }
}

/// `upload:widgets,upload:widgets-*`: comma-separated, in canonical order.
impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, pair) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(pair, f)?;
        }
        Ok(())
    }
}
