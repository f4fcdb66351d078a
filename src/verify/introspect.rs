//! Introspection (RFC 7662): what a token is good for, said by `scope` and `exp` alone.

use std::collections::BTreeSet;

use crate::code::Code;
use crate::macaroon::Authentic;
use crate::macaroon::Caveat;
use crate::macaroon::TokenId;
use crate::macaroon::VerifyError;
use crate::package::Pattern;
use crate::package::Permissions;
use crate::policy::registry::Registry;
use crate::time::Timestamp;

use super::Parts;
use super::Refused;
use super::authentic;
use super::may_have_changed;
use super::standing;

/// A token that `scope` and `exp` describe whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Active {
    /// Its name.
    pub id: TokenId,
    /// The URL of the identity provider that vouched for the job.
    pub issuer: String,
    /// The rules that granted it.
    pub rules: Vec<String>,
    /// What it allows.
    pub permissions: Permissions,
    /// The moment from which it is refused.
    pub expires_at: Timestamp,
}

/// Why a token is not said to be active.
#[derive(Debug)]
pub enum Inactive {
    /// It would be refused whatever was asked, or that cannot be said now.
    Refused(Refused),
    /// It is narrowed by more than two members can say, or lacks what every token has.
    NotExpressible,
}

impl Inactive {
    /// Its row of the failure table.
    pub fn code(&self) -> Code {
        match self {
            Self::Refused(refused) => refused.code(),
            Self::NotExpressible => Code::CaveatNotUnderstood,
        }
    }

    /// One sentence for each reason, for people.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Refused(refused) => refused.reasons(),
            Self::NotExpressible => vec!["`scope` and `exp` do not say all that restricts the token".to_owned()],
        }
    }
}

/// Answers whether a token of the registry is active.
pub fn introspect(parts: Parts<'_>, registry: &Registry, token: &str, now: Timestamp) -> Result<Active, Inactive> {
    let authentic = authentic(parts, registry, token, now).map_err(refused)?;
    standing(parts, registry, &authentic, now).map_err(Inactive::Refused)?;
    let permissions = expressed(&authentic, registry, now).ok_or(Inactive::NotExpressible)?;
    let expires_at = authentic.expires_at();
    let id = authentic.identifier();
    if expires_at <= now {
        return Err(refused(VerifyError::TooOld { issued_at: id.id.issued_at() }));
    }
    // SECURITY: of rules that have changed meanwhile, every pair must still be granted. For a pattern that cannot be
    // asked.
    let granted = &id.provenance;
    let still = |pattern: &Pattern, action| match pattern {
        Pattern::Literal(package) => {
            parts.policy.still_grants(&granted.rules, registry, &granted.issuer, action, package)
        }
        Pattern::Prefix(_) => false,
    };
    if may_have_changed(parts, id) && !permissions.iter().all(|pair| still(&pair.pattern, &pair.action)) {
        return Err(Inactive::NotExpressible);
    }
    let (issuer, rules) = (granted.issuer.clone(), granted.rules.clone());
    Ok(Active { id: id.id, issuer, rules, permissions, expires_at })
}

const fn refused(error: VerifyError) -> Inactive {
    Inactive::Refused(Refused::Token(error))
}

/// The pairs of a token that has the caveats of every token, `allow` once, and no others.
///
/// SECURITY: a `match` without a rest, so that a new caveat does not compile until it is decided here.
fn expressed(authentic: &Authentic, registry: &Registry, now: Timestamp) -> Option<Permissions> {
    let (mut permissions, mut seen) = (None, BTreeSet::new());
    for caveat in authentic.caveats(registry.ecosystem()) {
        let caveat = caveat.ok()?;
        seen.insert(caveat.name());
        match caveat {
            Caveat::Registry(wants) if wants.contains(&registry.id) => {}
            Caveat::TimeBefore(_) => {}
            Caveat::TimeBetween { from, .. } if from <= now => {}
            Caveat::Allow(pairs) if permissions.is_none() => permissions = Some(pairs),
            Caveat::Registry(_)
            | Caveat::TimeBetween { .. }
            | Caveat::Allow(_)
            | Caveat::Version(_)
            | Caveat::Sha256(_)
            | Caveat::MaxSize(_)
            | Caveat::Uses(_)
            | Caveat::Ip(_) => return None,
        }
    }
    permissions.filter(|_| authentic.mandatory().iter().all(|(name, _)| seen.contains(name)))
}
