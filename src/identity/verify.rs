//! Verification: an unverified token, its issuer's key and the time become a [`VerifiedToken`], or one cause.
//!
//! Decides, in this order: signature, `iss`, `aud`, `exp`, `nbf`, `iat`, lifetime, `jti`, and that the claims of a CI
//! job are there. Everything but the signature is read by this code, since JWT libraries accept an `iss` or `aud` of
//! the wrong type and read the machine's own clock. It does not decide what the job may do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::claims::Claims;
use crate::identity::issuer::Issuer;
use crate::identity::jwks::Key;
use crate::identity::jwks::SigningInput;
use crate::identity::provider::Kind;
use crate::identity::provider::Provider;
use crate::identity::token::TokenError;
use crate::identity::token::UnverifiedToken;
use crate::identity::token::excerpt;
use crate::identity::token::string;
use crate::json::Json;
use crate::json::Object;
use crate::time::Timestamp;

/// How far the clocks of an issuer and this service may differ.
///
/// SECURITY: whoever remembers that a token was used must remember it until `exp` + `LEEWAY` and reads this constant;
/// forgetting at `exp` lets the token be used again in its last seconds.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Longest `jti`, in bytes.
pub const MAX_JTI: usize = 256;

/// Latest moment that a `NumericDate` may name, in seconds: beyond the year 36,000, below any overflow.
const MAX_TIME: i64 = 1 << 40;

/// A token that its issuer signed, for this audience, valid now. Only [`verify`] makes one.
pub struct VerifiedToken {
    issuer: Arc<Issuer>,
    claims: Claims,
    audience: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    jti: Option<String>,
    signing_input_digest: [u8; 32],
}

/// Decides whether the token is the issuer's own, for one of the audiences (or for the one that all tokens of the issuer
/// have), now.
pub fn verify(
    token: UnverifiedToken,
    key: &Key,
    issuer: &Arc<Issuer>,
    audiences: &[String],
    now: Timestamp,
) -> Result<VerifiedToken, TokenError> {
    // SECURITY: first of all. Nothing below may be reached, or answered, for a token that the issuer did not sign.
    let (signing_input, signature) = token.signed_parts();
    if !key.accepts(token.algorithm()) {
        return Err(TokenError::AlgorithmMismatch { algorithm: token.algorithm(), key: key.kind() });
    }
    let signing_input = SigningInput::new(signing_input.as_bytes());
    if !key.verifies(token.algorithm(), &signing_input, signature) {
        return Err(TokenError::BadSignature);
    }
    // SECURITY: not of the whole token: an ECDSA signature can be changed into another valid one, and a replayed token
    // would look new.
    let signing_input_digest = signing_input.sha256();

    // SECURITY: tenants of one provider often share keys, so the key does not prove the issuer: its URL is compared
    // again, byte by byte, now that the token's word is proven.
    if token.issuer() != issuer.url().as_str() {
        let (expected, got) = (issuer.url().to_string(), excerpt(token.issuer()));
        return Err(TokenError::IssuerMismatch { expected, got });
    }
    let Read { claims, audience, issued_at, expires_at, jti } = read(token.into_claims(), issuer, audiences, now)?;
    let issuer = Arc::clone(issuer);
    Ok(VerifiedToken { issuer, claims, audience, issued_at, expires_at, jti, signing_input_digest })
}

/// What [`verify`] would find wrong with a token of this issuer beside its signature. For dry runs: it proves nothing.
pub fn check(claims: &Object, issuer: &Issuer, audiences: &[String], now: Timestamp) -> Result<(), TokenError> {
    read(claims.clone(), issuer, audiences, now).map(|_| ())
}

/// The same of the audience alone, for claims of which no token was made.
pub fn check_audience(claims: &Object, issuer: &Issuer, audiences: &[String]) -> Result<(), TokenError> {
    audience(claims, &issuer.audiences(audiences)).map(|_| ())
}

/// A token's claims, read and found fit.
struct Read {
    claims: Claims,
    audience: String,
    issued_at: Timestamp,
    expires_at: Timestamp,
    jti: Option<String>,
}

fn read(claims: Object, issuer: &Issuer, audiences: &[String], now: Timestamp) -> Result<Read, TokenError> {
    let audience = audience(&claims, &issuer.audiences(audiences))?;
    let (issued_at, expires_at) = times(&claims, issuer.max_lifetime, now)?;
    let jti = jti(&claims)?;
    string(&claims, "sub")?;
    let derived = issuer.derive(&claims);
    let claims = Claims::new(claims, derived);
    require(&claims, issuer.provider())?;
    Ok(Read { claims, audience, issued_at, expires_at, jti })
}

/// SECURITY: one audience, compared byte by byte. With a second one in the token, the service that it names could
/// present the token here.
fn audience(claims: &Object, accepted: &[String]) -> Result<String, TokenError> {
    let wrong = |found: &Json| TokenError::WrongType {
        claim: "aud",
        expected: "a string or a list of one string",
        found: found.type_name(),
    };
    let got = match claims.get("aud") {
        None => return Err(TokenError::MissingClaim { claim: "aud" }),
        Some(Json::String(audience)) => audience,
        Some(Json::Array(list)) => match list.as_slice() {
            [Json::String(audience)] => audience,
            [other] => return Err(wrong(other)),
            several => return Err(TokenError::AudienceList { count: several.len() }),
        },
        Some(other) => return Err(wrong(other)),
    };
    if accepted.contains(got) {
        Ok(got.clone())
    } else {
        Err(TokenError::WrongAudience { expected: accepted.to_vec(), got: excerpt(got) })
    }
}

fn times(claims: &Object, limit: Duration, now: Timestamp) -> Result<(Timestamp, Timestamp), TokenError> {
    let expires_at = time(claims, "exp")?.ok_or(TokenError::MissingClaim { claim: "exp" })?;
    let not_before = time(claims, "nbf")?;
    // SECURITY: required, since the lifetime is bounded from it; `nbf` will not do, GitHub sets it minutes into the
    // past.
    let issued_at = time(claims, "iat")?.ok_or(TokenError::MissingClaim { claim: "iat" })?;
    // RFC 7519 section 4.1.4: not on or after `exp`.
    if now >= expires_at.plus(LEEWAY) {
        return Err(TokenError::Expired { expired_at: expires_at, now });
    }
    if let Some(not_before) = not_before
        && not_before > now.plus(LEEWAY)
    {
        return Err(TokenError::NotYetValid { not_before, now });
    }
    if issued_at > now.plus(LEEWAY) {
        return Err(TokenError::IssuedInFuture { issued_at, now });
    }
    if expires_at <= issued_at {
        return Err(TokenError::ExpiresBeforeIssued { issued_at, expires_at });
    }
    // SECURITY: a token that lives for hours is a password for hours; and how long its use must be remembered follows.
    let lifetime = expires_at.since(issued_at);
    if lifetime > limit {
        return Err(TokenError::LifetimeTooLong { lifetime, limit });
    }
    Ok((issued_at, expires_at))
}

/// SECURITY: integers only. Fractions, strings and huge numbers are read differently by different parsers.
fn time(claims: &Object, claim: &'static str) -> Result<Option<Timestamp>, TokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Json::Int(seconds)) if (0..=MAX_TIME).contains(seconds) => {
            Ok(Some(Timestamp::from_unix_seconds(*seconds)))
        }
        Some(Json::Int(_)) => Err(TokenError::TimeOutOfRange { claim }),
        Some(other) => Err(TokenError::WrongType { claim, expected: "an integer", found: other.type_name() }),
    }
}

/// An empty `jti` names no token, so it counts as absent: first use then goes by the digest.
fn jti(claims: &Object) -> Result<Option<String>, TokenError> {
    match string(claims, "jti")?.filter(|jti| !jti.is_empty()) {
        Some(jti) if jti.len() > MAX_JTI => Err(TokenError::IdTooLong),
        jti => Ok(jti.map(str::to_owned)),
    }
}

/// SECURITY: the key that signs CI tokens signs others too (runner-internal tokens, user logins). The claims of a job
/// tell them apart.
fn require(claims: &Claims, provider: &'static Provider) -> Result<(), TokenError> {
    for name in provider.required.iter().copied() {
        let value = claims.get(name);
        let (claim, hint) = (provider.shown(name), provider.hint);
        let value = value.ok_or(TokenError::NotOfAJob { claim, hint })?;
        let (fits, expected) = match provider.claim(name).map(|claim| claim.kind) {
            Some(Kind::String) => (matches!(value, Json::String(_)), "a string"),
            Some(Kind::Integer) => (matches!(value, Json::Int(_)), "an integer"),
            Some(Kind::Bool) => (matches!(value, Json::Bool(_)), "a boolean"),
            Some(Kind::List) => (matches!(value, Json::Array(_)), "an array"),
            Some(Kind::Any) | None => (true, ""),
        };
        if !fits {
            return Err(TokenError::WrongType { claim, expected, found: value.type_name() });
        }
    }
    Ok(())
}

impl VerifiedToken {
    /// The issuer that signed it.
    pub const fn issuer(&self) -> &Arc<Issuer> {
        &self.issuer
    }

    /// What it says, with the preset's derived claims.
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The audience that it was made for, one of those accepted.
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Its `iat`.
    pub const fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Its `exp`, without [`LEEWAY`].
    pub const fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Its `jti`, unless it has none: then [`Self::signing_input_digest`] names it.
    pub fn jti(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    /// SHA-256 of what was signed: the same for every token with this header and payload.
    pub const fn signing_input_digest(&self) -> &[u8; 32] {
        &self.signing_input_digest
    }
}

/// Claims are not printed: some are personal.
impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedToken")
            .field("issuer", &self.issuer.id)
            .field("audience", &self.audience)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
