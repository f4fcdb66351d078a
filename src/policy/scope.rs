//! The literal pairs to which a request narrows its grant: `upload:widgets create:gadgets` (`scope`, RFC 8693 section
//! 2.1).

use crate::escape::escape;
use crate::package::Ecosystem;
use crate::package::Pattern;
use crate::package::Permission;
use crate::package::Permissions;

/// Most pairs that one request names.
pub const MAX_PAIRS: usize = 64;
/// Longest echo of a pair that is none.
const MAX_ECHO: usize = 64;

/// Why a text narrows to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// No pair, or too many.
    #[error("`scope` must name 1 to {MAX_PAIRS} pairs")]
    Count,
    /// A pattern: narrowing is to names.
    #[error("`{0}` is a pattern: `scope` narrows to names")]
    Pattern(String),
    /// Not a pair.
    #[error("`{0}` is not `action:package`")]
    NotAPair(String),
}

/// Reads the pairs, separated by spaces. A pair without a package, or with a pattern, is refused.
pub fn parse(ecosystem: Ecosystem, scope: &str) -> Result<Permissions, ScopeError> {
    let pairs: Vec<&str> = scope.split(' ').filter(|pair| !pair.is_empty()).collect();
    if pairs.is_empty() || pairs.len() > MAX_PAIRS {
        return Err(ScopeError::Count);
    }
    let echo = |text: &str| escape(&text.chars().take(MAX_ECHO).collect::<String>()).into_owned();
    let parse = |text: &&str| match Permission::parse(ecosystem, text) {
        Some(Permission { pattern: Pattern::Prefix(_), .. }) => Err(ScopeError::Pattern(echo(text))),
        Some(pair) => Ok(pair),
        None => Err(ScopeError::NotAPair(echo(text))),
    };
    pairs.iter().map(parse).collect()
}
