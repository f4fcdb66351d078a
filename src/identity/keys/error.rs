//! Why a token has no key, and what came of a refresh.

use std::time::Duration;

use crate::code::Code;
use crate::identity::cache::Change;
use crate::identity::discovery::DiscoveryError;
use crate::identity::fetch::FetchError;
use crate::identity::issuer::Issuer;
use crate::identity::jwks::JwksError;
use crate::identity::jwks::SkippedKey;

/// Why there is no key for a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The issuer publishes no usable key of this name.
    #[error("the issuer has no key `{kid}`")]
    UnknownKey {
        /// The token's `kid`.
        kid: String,
    },
    /// The token has no `kid`, and the issuer has several keys.
    #[error("the token names no key (`kid`), and its issuer has not exactly one")]
    KidRequired,
    /// It cannot be known at present: try again.
    #[error("{reason}")]
    Unavailable {
        /// What is the matter, without anything that the issuer said.
        reason: &'static str,
        /// When trying again is worth it.
        retry_after: Duration,
    },
}

impl KeyError {
    /// Its row of the failure table.
    pub const fn code(&self) -> Code {
        match self {
            Self::UnknownKey { .. } | Self::KidRequired => Code::UnknownKey,
            Self::Unavailable { .. } => Code::IssuerUnavailable,
        }
    }

    pub(super) fn missing(kid: Option<&str>) -> Self {
        kid.map_or(Self::KidRequired, |kid| Self::UnknownKey { kid: kid.to_owned() })
    }
}

/// Why a refresh failed. For operators.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefreshError {
    /// The discovery document could not be had.
    #[error("discovery document: {0}")]
    DiscoveryFetch(FetchError),
    /// The discovery document is not believed.
    #[error("{0}")]
    Discovery(DiscoveryError),
    /// The key set could not be had.
    #[error("key set: {0}")]
    KeysFetch(FetchError),
    /// The key set cannot be read.
    #[error("{0}")]
    Keys(JwksError),
    /// The key set can be read, and none of its keys can be used.
    #[error("the key set holds no usable key")]
    NoUsableKey,
}

impl RefreshError {
    /// A stable name, as a metric's label.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::DiscoveryFetch(_) => "discovery-not-fetched",
            Self::Discovery(_) => "discovery-refused",
            Self::KeysFetch(_) => "keys-not-fetched",
            Self::Keys(_) => "keys-unreadable",
            Self::NoUsableKey => "no-usable-key",
        }
    }
}

/// What came of one refresh.
#[derive(Debug)]
pub struct Refresh<'a> {
    /// Whose keys.
    pub issuer: &'a Issuer,
    /// What changed and which members of the set are not used, or why nothing was learnt.
    pub outcome: &'a Result<(Change, Vec<SkippedKey>), RefreshError>,
}

impl Refresh<'_> {
    /// `ok` or the error's stable name: a metric's label.
    pub fn code(&self) -> &'static str {
        self.outcome.as_ref().map_or_else(RefreshError::code, |_| "ok")
    }
}
