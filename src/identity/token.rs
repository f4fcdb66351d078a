//! ID tokens before they are believed: the compact form taken apart, strictly, and every way in which it can fail.
//!
//! Decides whether a text is a signed token at all (RFC 7519) and reads its `iss`, `kid` and `alg`, which choose the key
//! to try. Nothing it says is proven: only [`verify`](crate::identity::verify) makes a
//! token believable.

use std::fmt;

use crate::json::Json;
use crate::json::Object;

pub mod spiffe;

mod error;
mod jws;
mod members;

pub use error::TokenError;
pub use jws::Jws;
pub use jws::MAX_TOKEN;
pub use members::MAX_STRING;
pub(super) use members::string;

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
    signing_input: String,
    signature: Vec<u8>,
    algorithm: Algorithm,
    kid: Option<String>,
    issuer: String,
    claims: Object,
}

impl UnverifiedToken {
    /// Takes a token in compact form apart. It touches no key and no network, and costs the same whatever the token
    /// names.
    ///
    /// A JWT-SVID needs no `iss`: its issuer is the trust domain of its `sub` (SPIFFE JWT-SVID section 3.1). It may be of
    /// the type `JOSE`, which no other token may, and not signed with `EdDSA` (sections 2.1 and 2.3).
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let jws = Jws::parse(text)?;
        let claims = members::claims(jws.payload())?;
        let (issuer, is_svid) = if let Some(issuer) = string(&claims, "iss")? {
            (issuer, false)
        } else {
            let workload = claims.get("sub").and_then(Json::as_str);
            (workload.and_then(spiffe::trust_domain_of).ok_or(TokenError::MissingClaim { claim: "iss" })?, true)
        };
        if is_svid && jws.algorithm() == Algorithm::EdDsa {
            return Err(TokenError::AlgorithmNotAllowed { name: Algorithm::EdDsa.name().to_owned() });
        }
        if let Some(typ) = jws.only_for_svids().filter(|_| !is_svid) {
            return Err(TokenError::TypeNotAllowed { typ: typ.to_owned() });
        }
        let (algorithm, kid, issuer) = (jws.algorithm(), jws.kid().map(str::to_owned), issuer.to_owned());
        let (signing_input, signature) = jws.into_signed_parts();
        Ok(Self { signing_input: signing_input.to_owned(), signature, algorithm, kid, issuer, claims })
    }

    /// What it gives as its issuer (a JWT-SVID its trust domain, as `spiffe://domain`): good for looking up a configured
    /// issuer by exact comparison, and nothing else.
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

    /// The text that is signed (`header.payload`), and the signature.
    pub(super) fn signed_parts(&self) -> (&str, &[u8]) {
        (&self.signing_input, &self.signature)
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
