//! ID tokens before they are believed: the compact form taken apart, strictly, and every way in which it can fail.
//!
//! Decides whether a text is a signed token at all (RFC 7515 section 7.1, RFC 7519) and reads its `iss`, `kid` and
//! `alg`, which choose the key to try. Nothing it says is proven: only [`verify`](crate::identity::verify) makes a
//! token believable.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::identity::jwks::is_key_id;
use crate::json::Json;
use crate::json::Object;

mod error;

pub use error::TokenError;

/// Longest token read, in bytes; real ID tokens take 1 to 3 KiB.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A signature algorithm that this service verifies (RFC 7518 section 3.1, RFC 8037).
///
/// SECURITY: closed and asymmetric. `none` and HMAC do not exist here, so no header can ask for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The algorithm of that registered name, compared byte by byte.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Rs256 => Self::RS256,
            Algorithm::Rs384 => Self::RS384,
            Algorithm::Rs512 => Self::RS512,
            Algorithm::Ps256 => Self::PS256,
            Algorithm::Ps384 => Self::PS384,
            Algorithm::Ps512 => Self::PS512,
            Algorithm::Es256 => Self::ES256,
            Algorithm::Es384 => Self::ES384,
            Algorithm::EdDsa => Self::EdDSA,
        }
    }
}

/// A well-formed token that nobody has vouched for.
pub struct UnverifiedToken {
    text: String,
    algorithm: Algorithm,
    kid: Option<String>,
    issuer: String,
    claims: Object,
}

impl UnverifiedToken {
    /// Takes a token in compact form apart. It touches no key and no network, and costs the same whatever the token
    /// names.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError::TooLarge { bytes: text.len() });
        }
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        // SECURITY: dots are counted before anything is split or allocated: a body of dots costs one pass.
        let parts = 1 + text.bytes().filter(|byte| *byte == b'.').count();
        let mut segments = text.splitn(3, '.');
        let (3, Some(header), Some(payload), Some(signature)) =
            (parts, segments.next(), segments.next(), segments.next())
        else {
            return Err(TokenError::NotThreeParts { parts, wrapped: is_wrapped(text) });
        };
        let header = object("header", &decode("header", header)?)?;
        let algorithm = read_header(&header)?;
        let kid = header.get("kid").map(read_kid).transpose()?;
        let claims = object("payload", &decode("payload", payload)?)?;
        let issuer = string(&claims, "iss")?.ok_or(TokenError::MissingClaim { claim: "iss" })?.to_owned();
        if decode("signature", signature)?.is_empty() {
            return Err(TokenError::Unsigned);
        }
        Ok(Self { text: text.to_owned(), algorithm, kid, issuer, claims })
    }

    /// What it gives as its issuer: good for looking up a configured issuer by exact comparison, and nothing else.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Which key it says it was signed with.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Which algorithm it says it was signed with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it says of itself, unproven: for messages about a token that was refused.
    pub const fn unproven_claims(&self) -> &Object {
        &self.claims
    }

    /// The bytes that are signed (`header.payload`) and the signature in base64url.
    pub(super) fn signed_parts(&self) -> (&str, &str) {
        self.text.rsplit_once('.').unwrap_or_default()
    }

    pub(super) fn into_claims(self) -> Object {
        self.claims
    }
}

/// SECURITY: the token is a credential until it has been used; it is never printed.
impl fmt::Debug for UnverifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnverifiedToken").field("issuer", &self.issuer).field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// The string member of that name, if there is one; another type, `null` included, is an error.
pub(super) fn string<'a>(object: &'a Object, claim: &'static str) -> Result<Option<&'a str>, TokenError> {
    match object.get(claim) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(TokenError::WrongType { claim, expected: "a string", found: other.type_name() }),
    }
}

/// Quotes, `Bearer ` and white space around a token are what people paste; the message names it.
fn is_wrapped(text: &str) -> bool {
    text.starts_with(['"', '\'', '{', ' ', '\n']) || text.ends_with(['"', '\'', '}', ' ', '\n']) || text.contains(' ')
}

/// SECURITY: canonical base64url without padding only (RFC 7515 section 2). A second spelling of the same bytes would
/// be a second token to whoever compares texts.
fn decode(part: &'static str, text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::NotBase64Url { part, wrapped: is_wrapped(text) })
}

fn object(part: &'static str, bytes: &[u8]) -> Result<Object, TokenError> {
    match Json::parse(bytes) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(other) => Err(TokenError::NotAnObject { part, found: other.type_name() }),
        Err(fault) => Err(TokenError::NotJson { part, fault }),
    }
}

/// SECURITY: an allow-list. Keys inside the token (`jwk`, `jku`, `x5u`, `x5c`) would let the sender choose what
/// verifies it, `crit` and `b64` change what is signed, `zip`, `enc` and `cty` announce another kind of object, and a
/// `typ` other than `JWT` is a token made for another purpose by the same key.
fn read_header(header: &Object) -> Result<Algorithm, TokenError> {
    const ALLOWED: [&str; 5] = ["alg", "kid", "typ", "x5t", "x5t#S256"];
    if let Some((name, _)) = header.iter().find(|(name, _)| !ALLOWED.contains(name)) {
        return Err(TokenError::HeaderNotAllowed { name: excerpt(name) });
    }
    match header.get("typ") {
        None => {}
        Some(Json::String(typ)) if typ.eq_ignore_ascii_case("JWT") => {}
        Some(Json::String(typ)) => return Err(TokenError::TypeNotAllowed { typ: excerpt(typ) }),
        Some(other) => return Err(wrong_header("typ", other)),
    }
    match header.get("alg") {
        None => Err(TokenError::NoAlgorithm),
        Some(Json::String(name)) => {
            Algorithm::parse(name).ok_or_else(|| TokenError::AlgorithmNotAllowed { name: excerpt(name) })
        }
        Some(other) => Err(wrong_header("alg", other)),
    }
}

/// SECURITY: a `kid` is an opaque name to compare; it is never a path, a URL, a query or a metric label.
fn read_kid(value: &Json) -> Result<String, TokenError> {
    match value {
        Json::String(kid) if is_key_id(kid) => Ok(kid.clone()),
        Json::String(_) => Err(TokenError::KeyIdNotAllowed),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::Array(_) | Json::Object(_) => {
            Err(wrong_header("kid", value))
        }
    }
}

fn wrong_header(claim: &'static str, found: &Json) -> TokenError {
    TokenError::WrongType { claim, expected: "a string", found: found.type_name() }
}

/// What a message may quote of a stranger's text: its first 200 characters.
pub(super) fn excerpt(text: &str) -> String {
    const MAX: usize = 200;
    let mut quoted: String = text.chars().take(MAX).collect();
    if text.chars().nth(MAX).is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests;
