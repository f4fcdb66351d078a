//! Why an exchange failed: every cause of every step, in one enum, with its row of the failure table.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::code::Code;
use crate::escape::escape;
use crate::identity::keys::KeyError;
use crate::identity::token::TokenError;
use crate::macaroon::PrepareError;
use crate::policy::bundle::Lapse;
use crate::policy::explain::Explanation;
use crate::state::MOST_OF_ONE_TOKEN;
use crate::state::PastUse;
use crate::state::StoreError;
use crate::state::rates::Standing;

/// Why no upload token was issued. A refusal by the rules carries its explanation; everything else its cause.
#[derive(Debug)]
pub enum Failure {
    /// No configured identity provider has the token's `iss`.
    UnknownIssuer {
        /// What the token says, unproven.
        issuer: String,
        /// The configured issuer that it most resembles.
        nearest: Option<String>,
    },
    /// The identity provider is switched off.
    IssuerDisabled,
    /// The registry is switched off.
    RegistryDisabled,
    /// The request names no package, or several, where each exchange is for one.
    OnePackage,
    /// The token itself is at fault.
    Token(TokenError),
    /// The key that would prove it cannot be had.
    Key(KeyError),
    /// The token is good and the rules say no.
    Denied(Box<Explanation>),
    /// The operator's rules say no, and those that the registry serves itself are not known.
    RulesUnknown(Lapse),
    /// The operators have stopped what the grant comes from.
    Stopped,
    /// No upload token can be made of the grant.
    Prepare(PrepareError),
    /// The token was exchanged before; when, if that can be told.
    Replayed(Option<PastUse>),
    /// It has a use for each package, and was presented as often as it may be.
    Spent,
    /// The store's memory begins after the token was issued.
    StateLost {
        /// Until every token that may have been forgotten has expired.
        retry_after: Duration,
    },
    /// The registry has used up its allowance of upload tokens.
    RateLimited(Standing),
    /// The audit log has no place for the record of an upload token.
    AuditUnavailable,
    /// The store failed.
    Store(StoreError),
    /// The step after the decision ended abnormally.
    Internal,
}

/// Longest echo of an unproven `iss`.
const MAX_ECHO: usize = 200;

/// What a stranger wrote, shortened and without characters that deceive a reader.
pub(super) fn echo(text: &str) -> String {
    let short: String = text.chars().take(MAX_ECHO).collect();
    escape(&short).into_owned()
}

impl Failure {
    /// Its row of the failure table.
    pub fn code(&self) -> Code {
        match self {
            Self::UnknownIssuer { .. } => Code::UnknownIssuer,
            Self::IssuerDisabled => Code::IssuerDisabled,
            Self::RegistryDisabled => Code::RegistryDisabled,
            Self::OnePackage => Code::InvalidScope,
            Self::Token(error) => error.code(),
            Self::Key(error) => error.code(),
            Self::Denied(explanation) => explanation.public().code(),
            Self::RulesUnknown(lapse) => lapse.code(),
            Self::Stopped => Code::Stopped,
            Self::Prepare(error) => error.code(),
            Self::Replayed(_) | Self::Spent => Code::TokenReplayed,
            Self::StateLost { .. } => Code::StateLost,
            Self::RateLimited(_) => Code::RateLimited,
            Self::AuditUnavailable => Code::AuditUnavailable,
            Self::Store(_) => Code::StoreUnavailable,
            Self::Internal => Code::Internal,
        }
    }

    /// What the caller may see of the decision, as JSON.
    pub fn explanation(&self) -> Option<Value> {
        let Self::Denied(explanation) = self else { return None };
        serde_json::to_value(explanation.public()).ok()
    }

    /// When to try again, if waiting helps.
    pub const fn retry_after(&self) -> Option<Duration> {
        if let Self::Key(KeyError::Unavailable { retry_after, .. })
        | Self::StateLost { retry_after }
        | Self::RateLimited(Standing { next_in: retry_after, .. }) = self
        {
            Some(*retry_after)
        } else {
            None
        }
    }

    /// How the registry's allowance stands, where that is why.
    pub const fn standing(&self) -> Option<Standing> {
        if let Self::RateLimited(standing) = self { Some(*standing) } else { None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownIssuer { issuer, nearest } => {
                write!(f, "no identity provider is configured with the issuer `{issuer}`")?;
                match nearest {
                    Some(nearest) => write!(f, "; the nearest one is `{nearest}`"),
                    None => Ok(()),
                }
            }
            Self::IssuerDisabled => f.write_str("this identity provider is switched off"),
            Self::RegistryDisabled => f.write_str("trusted publishing is switched off for this registry"),
            Self::OnePackage => f.write_str(
                "an ID token is good for one exchange per package here, so `scope` must name exactly one package",
            ),
            Self::Token(error) => write!(f, "{error}"),
            Self::Key(error) => write!(f, "{error}"),
            Self::Denied(explanation) => f.write_str(&explanation.public().sentence()),
            Self::RulesUnknown(lapse) => write!(f, "{lapse}"),
            Self::Stopped => f.write_str("the operators have stopped what this job would publish by"),
            Self::Prepare(error) => write!(f, "{error}"),
            Self::Replayed(Some(past)) => write!(f, "this ID token was already exchanged, at {}", past.record().at),
            Self::Replayed(None) => f.write_str("this ID token was already exchanged"),
            Self::Spent => write!(f, "this ID token was already exchanged for {MOST_OF_ONE_TOKEN} packages"),
            Self::StateLost { .. } => {
                f.write_str("this ID token was issued before the service's memory of used tokens begins")
            }
            Self::RateLimited(standing) => {
                write!(f, "this registry has had the {} upload tokens that it may have a minute", standing.quota)
            }
            Self::AuditUnavailable => f.write_str("what is granted cannot be recorded at the moment"),
            Self::Store(_) => f.write_str("the store of used tokens does not answer"),
            Self::Internal => f.write_str("the service failed"),
        }
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        Self::Token(error)
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::Key(error)
    }
}

impl From<PrepareError> for Failure {
    fn from(error: PrepareError) -> Self {
        Self::Prepare(error)
    }
}
