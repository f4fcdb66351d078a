//! Narrowing: what the holder of a token can do to it, without a key and without asking anybody.

use std::fmt;

use crate::macaroon::caveat::Caveat;
use crate::macaroon::caveat::CaveatError;
use crate::macaroon::format::FormatError;
use crate::macaroon::format::Macaroon;
use crate::macaroon::identifier::Identifier;
use crate::macaroon::mint::MAX_TEXT;
use crate::macaroon::mint::is_prefix;
use crate::macaroon::verify::Unverified;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::package::Permission;
use crate::package::Permissions;
use crate::secret::Secret;

/// A token in its holder's hands: its text can be had again, with or without further restrictions.
///
/// INVARIANT: it begins as somebody's token and only ever gains caveats, all of which must hold. Nothing here removes or
/// replaces one, and without the registry's secret nothing could: so no text that comes out allows more than the one
/// that went in. Whether that one is genuine is not known here.
pub struct Held {
    prefix: String,
    macaroon: Macaroon,
}

/// A caveat that verifiers read back as it was meant, so that adding it does what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction(String);

/// Why a token cannot be narrowed so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarrowError {
    /// Not a macaroon as this service writes them.
    #[error("{0}")]
    Format(FormatError),
    /// Something that is no prefix stands before it, such as `Bearer `.
    #[error("there is something before the token; give the token alone, as it was minted")]
    Prefix,
    /// Another service's, or one with PyPI's caveats.
    #[error("the token is not one of trustmint with caveats of the codec `text`, the only ones that are narrowed here")]
    NotOurs,
    /// Its own `allow` is spelled for another ecosystem, or by nobody.
    #[error("what the token allows cannot be read: {0}; is --ecosystem the registry's?")]
    Allow(CaveatError),
    /// A restriction that no verifier would read.
    #[error("no verifier would read the caveat `{name}`: it takes between 1 and 64 values, spelled as they should be")]
    Restriction {
        /// The caveat's name.
        name: &'static str,
    },
    /// The text would be longer than clients can send.
    #[error("the narrowed token would have {0} characters, and clients can send {MAX_TEXT}; narrow it by less")]
    TooLong(usize),
}

impl Restriction {
    /// A caveat, if verifiers read it back. The ecosystem is the registry's.
    pub fn new(ecosystem: Ecosystem, caveat: &Caveat) -> Result<Self, NarrowError> {
        let text = caveat.to_string();
        match Caveat::parse(ecosystem, text.as_bytes()) {
            Ok(read) if read == *caveat => Ok(Self(text)),
            Ok(_) | Err(_) => Err(NarrowError::Restriction { name: caveat.name() }),
        }
    }
}

impl Held {
    /// Reads a token with its prefix, whatever the prefix is.
    pub fn parse(text: &str) -> Result<Self, NarrowError> {
        let (prefix, macaroon) = Unverified::split(text).map_err(NarrowError::Format)?;
        if !is_prefix(prefix) {
            return Err(NarrowError::Prefix);
        }
        Identifier::parse(macaroon.identifier()).map_err(|_| NarrowError::NotOurs)?;
        // A caveat in another codec than the token's would make it worthless without a word.
        if !macaroon.caveats().any(is_allow) {
            return Err(NarrowError::NotOurs);
        }
        Ok(Self { prefix: prefix.to_owned(), macaroon })
    }

    /// The token with one restriction more. Errors when a bound of the format is exceeded.
    pub fn narrow(&self, restriction: &Restriction) -> Result<Self, NarrowError> {
        let macaroon = self.macaroon.attenuate(restriction.0.as_bytes()).map_err(NarrowError::Format)?;
        Ok(Self { prefix: self.prefix.clone(), macaroon })
    }

    /// The text to present. Errors when it is longer than a minted token may be, since it travels in the same headers.
    pub fn to_text(&self) -> Result<Secret<String>, NarrowError> {
        let text = self.macaroon.encode_text(&self.prefix);
        let length = text.expose().len();
        if length > MAX_TEXT { Err(NarrowError::TooLong(length)) } else { Ok(text) }
    }

    /// What the text begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What the token says that it allows on one package: the pairs to which it would be narrowed.
    pub fn allowed_on(&self, ecosystem: Ecosystem, package: &PackageName) -> Result<Permissions, NarrowError> {
        let allows = self.allows(ecosystem)?;
        let actions = allows.iter().flat_map(Permissions::iter).map(|pair| &pair.action);
        let everywhere = |action: &&Action| allows.iter().all(|pairs| pairs.allow(action, package));
        Ok(actions.filter(everywhere).filter_map(|action| literal(ecosystem, action, package)).collect())
    }

    /// Whether the token says that it allows all that a pair allows.
    pub fn allows_all_of(&self, ecosystem: Ecosystem, wanted: &Permission) -> Result<bool, NarrowError> {
        let covers = |pair: &Permission| {
            let action = pair.action == wanted.action || wanted.action.as_str() == Action::READ;
            action && pair.pattern.covers(&wanted.pattern)
        };
        Ok(self.allows(ecosystem)?.iter().all(|pairs| pairs.iter().any(covers)))
    }

    /// Every `allow` of the token, of which all must hold; at least one.
    pub fn allows(&self, ecosystem: Ecosystem) -> Result<Vec<Permissions>, NarrowError> {
        let caveats = self.macaroon.caveats().filter(|caveat| is_allow(caveat));
        let read = |caveat: &[u8]| match Caveat::parse(ecosystem, caveat) {
            Ok(Caveat::Allow(permissions)) => Ok(permissions),
            Ok(_) => Err(NarrowError::NotOurs),
            Err(error) => Err(NarrowError::Allow(error)),
        };
        caveats.map(read).collect()
    }
}

/// The text is the bearer's power.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.macaroon).finish()
    }
}

fn is_allow(caveat: &[u8]) -> bool {
    caveat.starts_with(b"allow ")
}

fn literal(ecosystem: Ecosystem, action: &Action, package: &PackageName) -> Option<Permission> {
    Permission::parse(ecosystem, &format!("{action}:{package}"))
}

#[cfg(test)]
mod tests;
