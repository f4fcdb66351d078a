//! The outer form of a token: a JSON Web Signature, compact (RFC 7515 section 7.1), strict.
//!
//! Decides whether a text is one at all, which algorithm and key it names, and which bytes are signed. What the payload
//! means is not its part.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::identity::jwks::Key;
use crate::identity::jwks::SigningInput;
use crate::identity::jwks::is_key_id;
use crate::identity::token::Algorithm;
use crate::identity::token::TokenError;
use crate::identity::token::excerpt;
use crate::identity::token::members::object;
use crate::json::Json;
use crate::json::Object;

/// Longest token read, in bytes; real ID tokens take 1 to 3 KiB.
pub const MAX_TOKEN: usize = 16 * 1024;

/// A well-formed signature that nobody has checked, over a payload that nobody has read.
pub struct Jws<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    /// Its `typ` when that is `JOSE`.
    jose: Option<String>,
    payload: Vec<u8>,
    signing_input: &'a str,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Takes a compact form apart.
    pub fn parse(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > MAX_TOKEN {
            return Err(TokenError::TooLarge { bytes: text.len() });
        }
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        // SECURITY: nothing is decoded or allocated before it has three parts: a body of dots costs one pass.
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            let parts = 1 + text.bytes().filter(|byte| *byte == b'.').count();
            return Err(TokenError::NotThreeParts { parts, wrapped: is_wrapped(text) });
        };
        let signing_input = text.get(..header.len() + 1 + payload.len()).unwrap_or_default();
        let header = object("header", &decode("header", header)?)?;
        let jose = read_typ(&header)?;
        let algorithm = read_algorithm(&header)?;
        let kid = header.get("kid").map(read_kid).transpose()?;
        let payload = decode("payload", payload)?;
        let signature = decode("signature", signature)?;
        if signature.is_empty() {
            return Err(TokenError::Unsigned);
        }
        Ok(Self { algorithm, kid, jose, payload, signing_input, signature })
    }

    /// Which algorithm it says it was signed with.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Which key it says it was signed with.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What is signed, decoded.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether this key made the signature.
    pub fn is_signed_by(&self, key: &Key) -> bool {
        key.verifies(self.algorithm, &SigningInput::new(self.signing_input.as_bytes()), &self.signature)
    }

    /// What is signed (`header.payload`, as it was sent), and the signature.
    pub(super) fn into_signed_parts(self) -> (&'a str, Vec<u8>) {
        (self.signing_input, self.signature)
    }

    /// Its `typ`, shortened, if that is one which JWT-SVIDs alone may have.
    pub(super) fn only_for_svids(&self) -> Option<&str> {
        self.jose.as_deref()
    }
}

/// SECURITY: the token is a credential until it has been used; it is never printed.
impl fmt::Debug for Jws<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jws").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
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

/// The `typ` if it is `JOSE`; nothing for an ID token's.
///
/// SECURITY: an allow-list. Keys inside the token (`jwk`, `jku`, `x5u`, `x5c`) would let the sender choose what
/// verifies it, `crit` and `b64` change what is signed, `zip`, `enc` and `cty` announce another kind of object, and any
/// other `typ` is a token made for another purpose by the same key.
fn read_typ(header: &Object) -> Result<Option<String>, TokenError> {
    const ALLOWED: [&str; 5] = ["alg", "kid", "typ", "x5t", "x5t#S256"];
    if let Some((name, _)) = header.iter().find(|(name, _)| !ALLOWED.contains(name)) {
        return Err(TokenError::HeaderNotAllowed { name: excerpt(name) });
    }
    match header.get("typ") {
        None => Ok(None),
        Some(Json::String(typ)) if typ.eq_ignore_ascii_case("JWT") => Ok(None),
        Some(Json::String(typ)) if typ.eq_ignore_ascii_case("JOSE") => Ok(Some(typ.clone())),
        Some(Json::String(typ)) => Err(TokenError::TypeNotAllowed { typ: excerpt(typ) }),
        Some(other) => Err(wrong_header("typ", other)),
    }
}

fn read_algorithm(header: &Object) -> Result<Algorithm, TokenError> {
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
