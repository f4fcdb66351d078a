//! Every way in which a token is not believed, one variant a cause, with the facts that its sentence needs.
//!
//! SECURITY: until the signature is proven a message quotes only what the caller sent in the header, `iss`, `aud` and
//! the times, shortened; it never quotes the token.

use std::time::Duration;

use crate::code::Code;
use crate::identity::jwks::KeyKind;
use crate::identity::token::Algorithm;
use crate::identity::token::MAX_STRING;
use crate::identity::token::MAX_TOKEN;
use crate::json::JsonError;
use crate::time::Timestamp;

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing there: often an unset environment variable.
    #[error("the token is empty")]
    Empty,
    /// Over the size limit.
    #[error("the token has {bytes} bytes, at most {MAX_TOKEN} are accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not the compact form of a signed token: five parts are an encrypted one, none is something else.
    #[error("the token has {parts} part{} where a signed token has 3{}", if *parts == 1 { "" } else { "s" }, hint(*wrapped))]
    NotThreeParts {
        /// How many parts the dots make.
        parts: usize,
        /// Whether quotes or white space surround it.
        wrapped: bool,
    },
    /// A part is not canonical base64url without padding.
    #[error("the token's {part} is not base64url without padding{}", hint(*wrapped))]
    NotBase64Url {
        /// Which part.
        part: &'static str,
        /// Whether quotes or white space surround it.
        wrapped: bool,
    },
    /// A part is not strict JSON.
    #[error("the token's {part} is not valid JSON: {fault}")]
    NotJson {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        fault: JsonError,
    },
    /// A part is JSON but no object.
    #[error("the token's {part} is {found}, not an object")]
    NotAnObject {
        /// Which part.
        part: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// Two members of a part have the same name but for the case of its letters.
    #[error(
        "the token's {part} has two members whose names differ only in case: readers disagree on which of them counts"
    )]
    NamesDifferInCase {
        /// Which part.
        part: &'static str,
    },
    /// A claim's name or string is too long or has control characters other than tabs and line breaks.
    #[error("a claim of the token has a text of more than {MAX_STRING} bytes or with a control character")]
    NotPlainText,
    /// A header parameter outside the allow-list.
    #[error("the token's header has `{name}`, which is not accepted")]
    HeaderNotAllowed {
        /// Its name, shortened.
        name: String,
    },
    /// A token made for another purpose.
    #[error("the token's type is `{typ}`, only ID tokens (`JWT`) are accepted")]
    TypeNotAllowed {
        /// Its `typ`, shortened.
        typ: String,
    },
    /// No `alg`.
    #[error("the token's header names no algorithm")]
    NoAlgorithm,
    /// `none`, HMAC and all that is unknown.
    #[error("the token's algorithm `{name}` is not accepted")]
    AlgorithmNotAllowed {
        /// Its `alg`, shortened.
        name: String,
    },
    /// `kid` is not 1 to 256 printable ASCII characters.
    #[error("the token's `kid` is not 1 to 256 printable ASCII characters")]
    KeyIdNotAllowed,
    /// The signature is empty.
    #[error("the token is not signed")]
    Unsigned,
    /// The issuer's key is not made for the token's algorithm.
    #[error("the token's algorithm is {}, which its issuer's {key} key of that name does not verify", algorithm.name())]
    AlgorithmMismatch {
        /// What the token claims.
        algorithm: Algorithm,
        /// What the key is.
        key: KeyKind,
    },
    /// The signature is not the key's.
    #[error("the token's signature is not its issuer's")]
    BadSignature,
    /// `iss` is not the issuer whose key verified it.
    #[error("the token's issuer is `{got}`, its key belongs to `{expected}`")]
    IssuerMismatch {
        /// The issuer of the key.
        expected: String,
        /// The token's `iss`, shortened.
        got: String,
    },
    /// `aud` is another service.
    #[error("the token was made for the audience `{got}`, this registry's is {}", alternatives(expected))]
    WrongAudience {
        /// What is accepted.
        expected: Vec<String>,
        /// The token's `aud`, shortened.
        got: String,
    },
    /// `aud` names no or several services.
    #[error(
        "the token names {count} audiences, it must name one: a token for several services can be replayed by each"
    )]
    AudienceList {
        /// How many it names.
        count: usize,
    },
    /// A claim that every ID token must have is missing.
    #[error("the token has no claim `{claim}`, which every token of a CI job has")]
    MissingClaim {
        /// Its name.
        claim: &'static str,
    },
    /// A claim that this issuer's tokens for CI jobs have is missing: another kind of token, or one that lacks what the
    /// job must ask for.
    #[error("the token has no claim `{claim}`, which every token of a CI job has{}", advice(hint))]
    NotOfAJob {
        /// Its name.
        claim: &'static str,
        /// How a job gets it; may be empty.
        hint: &'static str,
    },
    /// A claim or header parameter of the wrong JSON type.
    #[error("the token's `{claim}` is {found}, not {expected}")]
    WrongType {
        /// Its name.
        claim: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A time outside 0 to 2^40 seconds.
    #[error("the token's `{claim}` is out of range: it must be in seconds since 1970")]
    TimeOutOfRange {
        /// Its name.
        claim: &'static str,
    },
    /// `exp` has passed.
    #[error("the token expired at {expired_at}, {} ago", ago(*now, *expired_at))]
    Expired {
        /// Its `exp`.
        expired_at: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// `nbf` has not come.
    #[error("the token is not valid before {not_before}, {} from now: a clock is wrong", ago(*not_before, *now))]
    NotYetValid {
        /// Its `nbf`.
        not_before: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// `iat` has not come.
    #[error("the token was issued at {issued_at}, {} in the future: a clock is wrong", ago(*issued_at, *now))]
    IssuedInFuture {
        /// Its `iat`.
        issued_at: Timestamp,
        /// The present.
        now: Timestamp,
    },
    /// `exp` is not after `iat`.
    #[error("the token expires at {expires_at}, not after it was issued ({issued_at})")]
    ExpiresBeforeIssued {
        /// Its `iat`.
        issued_at: Timestamp,
        /// Its `exp`.
        expires_at: Timestamp,
    },
    /// `exp − iat` is longer than the issuer's limit.
    #[error("the token is valid for {}, at most {} are accepted from this issuer", span(*lifetime), span(*limit))]
    LifetimeTooLong {
        /// Its `exp − iat`.
        lifetime: Duration,
        /// The limit.
        limit: Duration,
    },
    /// `jti` is longer than 256 bytes.
    #[error("the token's `jti` is longer than 256 bytes")]
    IdTooLong,
}

impl TokenError {
    /// Its row of the failure table.
    pub const fn code(&self) -> Code {
        match self {
            Self::Empty => Code::TokenMissing,
            Self::NotThreeParts { .. }
            | Self::NotBase64Url { .. }
            | Self::NotJson { .. }
            | Self::NotAnObject { .. }
            | Self::NamesDifferInCase { .. }
            | Self::NotPlainText => Code::TokenMalformed,
            Self::WrongType { .. }
            | Self::TimeOutOfRange { .. }
            | Self::ExpiresBeforeIssued { .. }
            | Self::IdTooLong => Code::ClaimType,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::HeaderNotAllowed { .. } | Self::TypeNotAllowed { .. } | Self::KeyIdNotAllowed => {
                Code::HeaderNotAllowed
            }
            Self::NoAlgorithm | Self::AlgorithmNotAllowed { .. } | Self::AlgorithmMismatch { .. } => {
                Code::AlgorithmNotAllowed
            }
            Self::Unsigned | Self::BadSignature => Code::BadSignature,
            Self::IssuerMismatch { .. } => Code::IssuerMismatch,
            Self::WrongAudience { .. } => Code::WrongAudience,
            Self::AudienceList { .. } => Code::AudienceList,
            Self::MissingClaim { .. } | Self::NotOfAJob { .. } => Code::MissingClaim,
            Self::Expired { .. } => Code::TokenExpired,
            Self::NotYetValid { .. } | Self::IssuedInFuture { .. } => Code::TokenNotYetValid,
            Self::LifetimeTooLong { .. } => Code::LifetimeTooLong,
        }
    }

    /// How far in the future a proven token's own time lies, where that is what is wrong.
    pub fn ahead(&self) -> Option<Duration> {
        if let Self::NotYetValid { not_before: begins, now } | Self::IssuedInFuture { issued_at: begins, now } = self {
            Some(begins.since(*now))
        } else {
            None
        }
    }
}

const fn hint(wrapped: bool) -> &'static str {
    if wrapped { ": send the bare token, without quotes, white space or `Bearer`" } else { "" }
}

fn advice(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(": {hint}") }
}

fn alternatives(audiences: &[String]) -> String {
    audiences.iter().map(|audience| format!("`{audience}`")).collect::<Vec<_>>().join(" or ")
}

fn ago(later: Timestamp, earlier: Timestamp) -> String {
    span(later.since(earlier))
}

/// A duration as people say it: `4 min 3 s`.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}
