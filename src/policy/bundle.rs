//! Bundles: the rules that a registry serves itself, beside those of the operator's directory.
//!
//! ```text
//!  bytes ─► signed (size, signature) ─► document (YAML, head) ─► accept (name, serial, time, rules, confinement, tests) ─► Bundle
//! ```
//!
//! The operator decides by a [`Source`] what such rules may be about at most: the registry itself, some issuers, some
//! packages. A bundle is accepted whole or not at all, and what is refused changes nothing: the last good one serves on
//! until its own `not_after`, after which the registry's rules are not known and it is answered *unavailable*.
//!
//! All of this is a function of values; only [`poll`] asks servers and the store.

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::code::Code;
use crate::identity::issuer::Reach;
use crate::package::Pattern;
use crate::time::Timestamp;

pub mod poll;

mod accept;
mod document;
mod fault;
mod schedule;
mod signed;
#[cfg(test)]
mod testing;

pub use accept::Bundle;
pub use accept::Last;
pub use accept::accept;
pub use accept::reread;
pub use fault::BundleFault;
pub use schedule::Failing;
pub use schedule::Schedule;
pub use signed::PublicKey;
pub use signed::Signed;
pub use signed::signature_url;

/// How long a bundle may be good for, from the moment at which it is read: a registry that loses its server cannot keep
/// withdrawn rules in force for longer.
pub const MAX_VALIDITY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a registry is asked unless the policy says otherwise.
pub const USUAL_POLL: Duration = Duration::from_secs(60);
/// Most bytes of a bundle unless the policy says otherwise: some twenty thousand rules.
pub const USUAL_BYTES: usize = 8 << 20;

/// Where a registry's bundle is, and what its rules may be about at most.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The document; `https`, without query or fragment.
    pub url: Url,
    /// How it is reached.
    pub reach: Reach,
    /// The names of the issuers that its rules may name; at least one.
    pub issuers: Vec<String>,
    /// What every package that its rules grant must be within; `None` for any package of the registry.
    pub packages: Option<Vec<Pattern>>,
    /// How often it is asked for, at least.
    pub poll: Duration,
    /// Most bytes of it.
    pub max_bytes: usize,
    /// Whose signature it must have, if any.
    pub public_key: Option<PublicKey>,
}

impl Source {
    /// Whether a bundle from here is one from there: it is looked for at the same place, in the same way, and believed
    /// for the same reason.
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.url, &self.reach, &self.public_key) == (&other.url, &other.reach, &other.public_key)
    }
}

/// Why the rules that a registry serves are not known. What they would have granted is then not refused, but cannot be
/// said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// None of its bundles was ever read, or none that the present directory lets it have.
    Missing,
    /// The last one was good until then.
    Expired(Timestamp),
}

impl Lapse {
    /// Its row of the failure table.
    pub const fn code(self) -> Code {
        match self {
            Self::Missing => Code::BundleMissing,
            Self::Expired(_) => Code::BundleExpired,
        }
    }
}

impl fmt::Display for Lapse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the registry's own rules could not be had yet"),
            Self::Expired(since) => write!(f, "the registry vouched for its own rules until {since}, and not since"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("url", &self.url.as_str())
            .field("issuers", &self.issuers)
            .finish_non_exhaustive()
    }
}
