//! Verifying: first whether a token is ours, then whether its caveats let a request through.

use std::time::Duration;

use crate::code::Code;
use crate::codec::Codec;
use crate::macaroon::caveat::Caveat;
use crate::macaroon::clear::Facts;
use crate::macaroon::clear::Failed;
use crate::macaroon::format::FormatError;
use crate::macaroon::format::Macaroon;
use crate::macaroon::identifier::Identifier;
use crate::macaroon::identifier::IdentifierError;
use crate::macaroon::identifier::Parts;
use crate::macaroon::key::Keyring;
use crate::macaroon::key::RegistryKeyId;
use crate::macaroon::key::registry_secret;
use crate::package::Ecosystem;
use crate::time::Timestamp;

/// Oldest token accepted, by the moment in its id and whatever its caveats say: a fault in minting cannot make a token
/// that lives on, and what is remembered about a token need not be remembered for longer.
pub const MAX_AGE: Duration = Duration::from_secs(3600);

/// How far in the future a token's moment of issue may lie: the clocks of two replicas differ.
pub const LEEWAY: Duration = Duration::from_secs(60);

/// Why a token is not accepted as this service's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The text does not start with the registry's prefix.
    #[error("the token does not start with this registry's prefix")]
    Prefix,
    /// Not a macaroon as this service writes them.
    #[error("{0}")]
    Format(FormatError),
    /// Not signed by this service for this registry: unknown key, other registry, other epoch, forged or altered. One
    /// answer for all, so that it tells a forger nothing.
    #[error("the token was not issued for this registry, or was altered")]
    NotAuthentic,
    /// Its moment of issue is more than [`LEEWAY`] ahead.
    #[error("the token was issued at {issued_at}, which is in the future")]
    FromFuture {
        /// By its id.
        issued_at: Timestamp,
    },
    /// Its moment of issue is [`MAX_AGE`] ago, or longer.
    #[error("the token was issued at {issued_at}, over an hour ago")]
    TooOld {
        /// By its id.
        issued_at: Timestamp,
    },
}

impl VerifyError {
    /// Its row of the failure table.
    pub const fn code(&self) -> Code {
        match self {
            Self::Prefix | Self::Format(_) => Code::UploadTokenMalformed,
            Self::NotAuthentic | Self::FromFuture { .. } => Code::UploadTokenUnknown,
            Self::TooOld { .. } => Code::UploadTokenExpired,
        }
    }
}

/// A token that this service issued for this registry, or a narrowed copy of one. What it allows is not looked at yet.
#[derive(Debug)]
pub struct Authentic {
    codec: Codec,
    identifier: Identifier,
    caveats: Vec<Vec<u8>>,
    expires_at: Timestamp,
}

/// The proof that every caveat of an authentic token is met by the facts of one request.
#[derive(Debug)]
pub struct Cleared {
    uses: Option<u32>,
    expires_at: Timestamp,
}

/// Whether a token is this service's, for the registry that asks.
///
/// The order is fixed: size, format, key, signature, and only then anything that the token says about itself.
pub fn verify(
    text: &str,
    prefix: &str,
    keyring: &Keyring,
    key: RegistryKeyId<'_>,
    now: Timestamp,
) -> Result<Authentic, VerifyError> {
    verify_with(text, prefix, key, now, |kid, token| {
        keyring.get(kid).is_some_and(|master| token.is_signed_with(registry_secret(master, key).expose()))
    })
}

/// The same for whoever knows of a name of a key and a token whether that key signed it for this registry.
pub(super) fn verify_with(
    text: &str,
    prefix: &str,
    key: RegistryKeyId<'_>,
    now: Timestamp,
    signed: impl FnOnce(&str, &Macaroon) -> bool,
) -> Result<Authentic, VerifyError> {
    let encoded = text.strip_prefix(prefix).ok_or(VerifyError::Prefix)?;
    let macaroon = Macaroon::decode_text(encoded).map_err(VerifyError::Format)?;
    let parts = Parts::split(macaroon.identifier()).ok_or(VerifyError::NotAuthentic)?;
    // SECURITY: the signature before all else: until here the bytes are a stranger's, and everything below reads them.
    if !signed(parts.kid, &macaroon) || parts.epoch != key.epoch {
        return Err(VerifyError::NotAuthentic);
    }
    // A registry that verifies offline has its own secret and can sign anything with it, so this may still fail.
    let identifier = parts.identifier().ok_or(VerifyError::NotAuthentic)?;
    let issued_at = identifier.id.issued_at();
    if issued_at > now.plus(LEEWAY) {
        return Err(VerifyError::FromFuture { issued_at });
    }
    if now.since(issued_at) >= MAX_AGE {
        return Err(VerifyError::TooOld { issued_at });
    }
    let caveats = macaroon.into_caveats();
    let ends = caveats.iter().filter_map(|bytes| Caveat::end(key.codec, bytes));
    let expires_at = ends.fold(retired_at(&identifier), Timestamp::min);
    Ok(Authentic { codec: key.codec, identifier, caveats, expires_at })
}

impl Authentic {
    /// What the service stated about the token when it issued it.
    pub const fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// Whether the facts of a request meet every caveat, and if not, all the reasons, in the order of the caveats.
    pub fn clear(&self, facts: &Facts<'_>, ecosystem: Ecosystem) -> Result<Cleared, Vec<Failed>> {
        let (mut uses, mut failed) = (None::<u32>, Vec::new());
        let mut missing = self.mandatory().to_vec();
        for caveat in self.caveats(ecosystem) {
            match caveat {
                Err(reason) => failed.push(reason),
                Ok(caveat) => {
                    missing.retain(|(name, _)| *name != caveat.name());
                    if let Caveat::Uses(limit) = caveat {
                        uses = Some(uses.map_or(limit, |least| least.min(limit)));
                    }
                    failed.extend(caveat.check(facts).err());
                }
            }
        }
        failed.extend(missing.into_iter().map(|(_, shown)| Failed::Missing(shown)));
        // SECURITY: the facts have a `now` of their own, and the caller may have kept the token since it was verified.
        failed.extend(Caveat::TimeBefore(self.retired_at()).check(facts).err());
        if failed.is_empty() { Ok(Cleared { uses, expires_at: self.expires_at() }) } else { Err(failed) }
    }

    /// The caveats, each read or with the reason that it cannot be.
    pub fn caveats(&self, ecosystem: Ecosystem) -> impl Iterator<Item = Result<Caveat, Failed>> {
        self.caveats.iter().map(move |bytes| Caveat::read(self.codec, ecosystem, bytes).map_err(Failed::Unreadable))
    }

    /// The caveats without which it is not valid, each by [`Caveat::name`] and as people see it.
    pub const fn mandatory(&self) -> &'static [(&'static str, &'static str)] {
        Caveat::mandatory(self.codec)
    }

    /// The moment from which this copy of the token is refused: the earliest that one of its caveats says, at most
    /// [`Authentic::retired_at`].
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The moment from which every copy of the token is refused, whatever its caveats say.
    ///
    /// SECURITY: revocations and spent uses are kept until then. Until [`Authentic::expires_at`] would not do: a thief
    /// could revoke a copy narrowed to one second, and the token would outlive its revocation.
    pub fn retired_at(&self) -> Timestamp {
        retired_at(&self.identifier)
    }
}

fn retired_at(identifier: &Identifier) -> Timestamp {
    identifier.id.issued_at().plus(MAX_AGE)
}

impl Cleared {
    /// How often the token may be used, by its strictest `uses` caveat: the caller counts. `None` for no limit.
    pub const fn uses(&self) -> Option<u32> {
        self.uses
    }

    /// The moment from which this copy of the token is refused.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// A token as it reads, believed by nobody: for people who look into one.
#[derive(Debug, Clone)]
pub struct Unverified(Macaroon);

impl Unverified {
    /// Longest prefix that is looked past.
    const MAX_PREFIX: usize = 64;
    /// How every token starts after its prefix: version 2. The next character depends on the location's length.
    const START: &'static str = "Ag";

    /// Reads a token with or without its prefix, whatever the prefix is.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        Self::split(text).map(|(_, macaroon)| Self(macaroon))
    }

    /// A token's prefix, whatever it is, and what follows it.
    pub(super) fn split(text: &str) -> Result<(&str, Macaroon), FormatError> {
        let mut starts = text.match_indices(Self::START).map(|(at, _)| at).take_while(|at| *at <= Self::MAX_PREFIX);
        let found = starts.find_map(|at| {
            let (prefix, rest) = text.split_at_checked(at)?;
            Some((prefix, Macaroon::decode_text(rest).ok()?))
        });
        found.map_or_else(|| Ok(("", Macaroon::decode_text(text)?)), Ok)
    }

    /// Where the token says it is for.
    pub fn location(&self) -> &str {
        self.0.location()
    }

    /// What it says about itself, if it has the form of this service's tokens.
    pub fn identifier(&self) -> Result<Identifier, IdentifierError> {
        Identifier::parse(self.0.identifier())
    }

    /// Its caveats, as they are.
    pub fn caveats(&self) -> impl Iterator<Item = &[u8]> {
        self.0.caveats()
    }
}

#[cfg(test)]
mod tests;
