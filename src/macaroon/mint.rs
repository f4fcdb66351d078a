//! Minting in two steps: [`prepare`] does everything that can fail, [`Prepared::mint`] cannot. Between them the caller
//! claims the first use of the subject token, so a refusal never burns one and a burnt one always yields a token.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::code::Code;
use crate::codec::Codec;
use crate::json::Json;
use crate::macaroon::caveat::Caveat;
use crate::macaroon::caveat::MAX_ARGUMENTS;
use crate::macaroon::format;
use crate::macaroon::format::Body;
use crate::macaroon::format::FormatError;
use crate::macaroon::identifier;
use crate::macaroon::identifier::Identifier;
use crate::macaroon::identifier::ProvenanceRef;
use crate::macaroon::identifier::TokenId;
use crate::macaroon::key::Keyring;
use crate::macaroon::key::MasterKey;
use crate::macaroon::key::RegistryKeyId;
use crate::macaroon::key::registry_secret;
use crate::macaroon::verify::LEEWAY;
use crate::macaroon::verify::MAX_AGE;
use crate::package::Permissions;
use crate::secret::HmacSha256;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Longest token minted, in characters with its prefix: it travels in headers, where 4 KiB is a usual limit and HTTP's
/// Basic scheme adds a third.
pub const MAX_TEXT: usize = 3072;
/// Longest prefix of a token's text.
const MAX_PREFIX: usize = 32;

/// How long an identifier usually is at most, in bytes.
const USUAL_IDENTIFIER: usize = 1024;

/// What a token shall say. The moment of issue is the id's.
#[derive(Debug, Clone)]
pub struct PrepareRequest<'a> {
    /// The registry's id, for the caveat `registry`.
    pub registry: &'a str,
    /// Which key signs.
    pub key: RegistryKeyId<'a>,
    /// The registry's public host. Not covered by the signature; a hint for people and secret scanners.
    pub location: &'a str,
    /// What the token's text starts with: at most 32 letters, digits, `_` and `-`.
    pub prefix: &'a str,
    /// What the token allows; not empty.
    pub permissions: &'a Permissions,
    /// How long it lives: at least a second, at most [`MAX_AGE`]. Its end is rounded down to a whole second.
    pub ttl: Duration,
    /// The versions that it is for; `None` for all.
    pub versions: Option<&'a [String]>,
    /// How often it works; `None` for no limit.
    pub uses: Option<u32>,
    /// The largest file that it is for, in bytes; `None` for no limit.
    pub max_size: Option<u64>,
    /// Where it comes from.
    pub provenance: ProvenanceRef<'a>,
    /// Its name.
    pub id: TokenId,
}

/// Why no token can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// No key of the ring has activated.
    #[error("no master key is active yet")]
    NoActiveKey,
    /// The token would be longer than clients can send, or a caveat longer than verifiers read.
    #[error("the grant does not fit into a token of {MAX_TEXT} characters; ask for less with `scope`")]
    TooLarge,
    /// Something that the registry's codec has no word for.
    #[error(
        "this registry's tokens can say `upload` of packages by their names and nothing else, and the grant says more"
    )]
    NotExpressible,
    /// No permission, no version or no use: a token that nothing accepts.
    #[error("the grant allows nothing")]
    NothingGranted,
    /// A lifetime under a second or over [`MAX_AGE`].
    #[error("a token lives for at least 1 second and at most 1 hour")]
    Lifetime,
    /// A prefix that cannot stand in a header, or is too long.
    #[error("a token's prefix has at most 32 letters, digits, `_` and `-`")]
    Prefix,
    /// No registry or no location.
    #[error("a token names its registry and its location")]
    Registry,
    /// Claims so deeply nested that no verifier would read them.
    #[error("the job's claims are nested too deeply for a token")]
    Provenance,
}

impl PrepareError {
    /// Its row of the failure table. Lint and evaluation see to those that are defects here.
    pub const fn code(&self) -> Code {
        match self {
            Self::NoActiveKey => Code::NoMintingKey,
            Self::TooLarge => Code::GrantTooLarge,
            Self::NotExpressible => Code::GrantNotExpressible,
            Self::Provenance => Code::ClaimType,
            Self::NothingGranted | Self::Lifetime | Self::Prefix | Self::Registry => Code::Internal,
        }
    }
}

/// A token that needs only signing.
#[derive(Debug)]
pub struct Prepared {
    secret: Secret<[u8; 32]>,
    body: Body,
    prefix: String,
    kid: String,
    id: TokenId,
    expires_at: Timestamp,
    permissions: Permissions,
}

/// A token as its bearer gets it, with what is told beside it.
#[derive(Debug)]
pub struct Minted {
    /// The token's text: printable ASCII that may stand in a header.
    pub token: Secret<String>,
    /// Its name.
    pub id: TokenId,
    /// The moment from which it is refused.
    pub expires_at: Timestamp,
    /// What it allows.
    pub permissions: Permissions,
}

/// Does everything about minting that can fail. The key is the one that mints at the id's moment.
pub fn prepare(keyring: &Keyring, request: PrepareRequest<'_>) -> Result<Prepared, PrepareError> {
    let master = keyring.minting_key(request.id.issued_at()).ok_or(PrepareError::NoActiveKey)?;
    prepare_under(master, request)
}

/// The same under a key that is named, though a newer one mints: for a token that is made once more.
pub fn prepare_under(master: &MasterKey, request: PrepareRequest<'_>) -> Result<Prepared, PrepareError> {
    let PrepareRequest { registry, key, location, prefix, permissions, provenance, id, .. } = request;
    let issued_at = id.issued_at();
    if registry.is_empty() || location.is_empty() {
        return Err(PrepareError::Registry);
    }
    if !is_prefix(prefix) {
        return Err(PrepareError::Prefix);
    }
    if request.ttl < Duration::from_secs(1) || request.ttl > MAX_AGE {
        return Err(PrepareError::Lifetime);
    }
    let expires_at = Timestamp::from_unix_seconds(issued_at.plus(request.ttl).unix_seconds());
    let versions = request.versions.map(|versions| versions.iter().cloned().collect::<BTreeSet<_>>());
    // SECURITY: an empty list must not turn into a missing caveat, which would allow everything.
    let no_version = versions.as_ref().is_some_and(|versions| versions.is_empty() || versions.contains(""));
    if permissions.is_empty() || no_version || request.uses == Some(0) {
        return Err(PrepareError::NothingGranted);
    }
    if permissions.len().max(versions.as_ref().map_or(0, BTreeSet::len)) > MAX_ARGUMENTS {
        return Err(PrepareError::TooLarge);
    }
    let lifetime = match key.codec {
        Codec::Text => vec![Caveat::Registry(BTreeSet::from([registry.to_owned()])), Caveat::TimeBefore(expires_at)],
        Codec::Pypi => vec![Caveat::TimeBetween { from: not_before(issued_at), before: expires_at }],
    };
    let on_request =
        [versions.map(Caveat::Version), request.max_size.map(Caveat::MaxSize), request.uses.map(Caveat::Uses)];
    let caveats =
        lifetime.into_iter().chain([Caveat::Allow(permissions.clone())]).chain(on_request.into_iter().flatten());
    let written = caveats.map(|caveat| caveat.write(key.codec).map(String::into_bytes));
    let caveats = written.collect::<Option<_>>().ok_or(PrepareError::NotExpressible)?;
    let is_nested = |value: &Json| matches!(value, Json::Array(_) | Json::Object(_));
    let nested = provenance.claims.iter().any(|(_, value)| is_nested(value));
    let mut text = String::with_capacity(USUAL_IDENTIFIER);
    identifier::write(&mut text, master.kid(), key.epoch, id, &provenance).map_err(|_| PrepareError::TooLarge)?;
    // A token that only its maker can read would spend the subject token and then be refused. Texts and numbers are read as
    // they were written; what is nested may be nested too deeply.
    if nested {
        Identifier::parse(text.as_bytes()).map_err(|_| PrepareError::Provenance)?;
    }
    let body = Body::new(location.to_owned(), text.into_bytes(), caveats).map_err(too_large)?;
    if prefix.len() + format::text_length(body.encoded_length()) > MAX_TEXT {
        return Err(PrepareError::TooLarge);
    }
    let secret = registry_secret(master, key);
    Ok(Prepared {
        secret,
        body,
        prefix: prefix.to_owned(),
        kid: master.kid().to_owned(),
        id,
        expires_at,
        permissions: permissions.clone(),
    })
}

/// The first moment at which a token is good, in whole seconds. There is none before it is issued, so this restricts
/// nothing: it is earlier by what clocks differ, so that a verifier whose clock is behind takes a token that is new.
fn not_before(issued_at: Timestamp) -> Timestamp {
    Timestamp::from_unix_seconds(issued_at.minus(LEEWAY).unix_seconds())
}

/// Whether a text may stand before a token: it is short, and legal in a header.
pub(super) fn is_prefix(text: &str) -> bool {
    text.len() <= MAX_PREFIX && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-')
}

/// Nothing above is empty and there are at most six caveats, so only sizes are left to be wrong.
fn too_large(_: FormatError) -> PrepareError {
    PrepareError::TooLarge
}

impl Prepared {
    /// Signs.
    pub fn mint(self) -> Minted {
        let Self { secret, body, prefix, id, expires_at, permissions, .. } = self;
        let token = body.sign(secret.expose()).encode_text(&prefix);
        Minted { token, id, expires_at, permissions }
    }

    /// The token's name.
    pub const fn id(&self) -> TokenId {
        self.id
    }

    /// Equal for two tokens exactly if, signed, they are the same bytes. Says nothing about the signature.
    ///
    /// HMAC-SHA256 under the registry's secret of the token's text before it is signed. SECURITY: the secret is no key
    /// of the token's own chain, but the message of its first step, so this is no link of it.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut mac = HmacSha256::new(self.secret.expose());
        for field in [b"trustmint/v1/fingerprint", self.prefix.as_bytes()].into_iter().chain(self.body.fields()) {
            mac.update(&u64::try_from(field.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(field);
        }
        mac.finish()
    }

    /// The master key that signs.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The moment from which the token is refused.
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

#[cfg(test)]
mod tests;
