//! Verification: may this upload token do this? What a registry asks once for every upload.
//!
//! Authenticity first, then revocation, then every caveat against the facts that the registry states, and last, when
//! nothing else can refuse, one use of a limited token is spent. All failing caveats are reported, not the first alone.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::code::Code;
use crate::macaroon::Authentic;
use crate::macaroon::Facts;
use crate::macaroon::Failed;
use crate::macaroon::Identifier;
use crate::macaroon::Keyring;
use crate::macaroon::MAX_AGE;
use crate::macaroon::RegistryKeyId;
use crate::macaroon::VerifyError;
use crate::package::Action;
use crate::package::PackageName;
use crate::policy::Policy;
use crate::policy::bundle::Lapse;
use crate::policy::registry::Registry;
use crate::policy::registry::WhenStoreDown;
use crate::secret::Presented;
use crate::secret::sha256;
use crate::state::RESTRICTIONS_MAX_AGE;
use crate::state::RETENTION_MARGIN;
use crate::state::Spent;
use crate::state::State;
use crate::state::StoreError;
use crate::state::revocations::Issued;
use crate::state::stops::Origin;
use crate::state::token_name;
use crate::time::Timestamp;
use crate::yielding::Yielding;

mod introspect;

pub use self::introspect::Active;
pub use self::introspect::Inactive;
pub use self::introspect::introspect;

/// Most uses on their way to the store at once. A store that answers within a millisecond has a handful.
///
/// SECURITY: they hold no place among the requests that work, so while the store is silent this alone bounds them.
pub const MOST_SPENDING: usize = 512;

/// What the registry asks about one upload, bounded and typed.
#[derive(Debug)]
pub struct Question<'a> {
    /// The upload token.
    pub token: Presented<'a>,
    /// What is to be done.
    pub action: Action,
    /// To which package.
    pub package: PackageName,
    /// Which version, if the registry says.
    pub version: Option<&'a str>,
    /// The SHA-256 of the file, if the registry says.
    pub sha256: Option<[u8; 32]>,
    /// The size of the file in bytes, if the registry says.
    pub size: Option<u64>,
    /// The uploading client's address, if the registry says.
    pub client_ip: Option<IpAddr>,
    /// The registry's identifier of the upload on which a use shall be spent.
    pub consume: Option<&'a str>,
    /// What it gives back if it has to wait for the store.
    pub yielding: Yielding<'a>,
}

/// The parts of the service that a verification uses.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The rules, in one revision throughout.
    pub policy: &'a Policy,
    /// When they came into force here.
    pub in_force_since: Timestamp,
    /// Our own keys.
    pub keyring: &'a Keyring,
    /// Revocations and uses.
    pub state: &'a State,
    /// Places for uses on their way to the store.
    pub spending: &'a Semaphore,
}

/// Why a token may not do it, or why that cannot be said now.
#[derive(Debug)]
pub enum Refused {
    /// The registry is switched off.
    RegistryDisabled,
    /// The identity provider that the token's job came from is switched off.
    IssuerDisabled,
    /// The token is not an authentic one of this registry.
    Token(VerifyError),
    /// The token has been revoked, itself or with a rule that granted it.
    Revoked,
    /// The operators have stopped what the token comes from.
    Stopped,
    /// No rule that granted the token grants this any more.
    RuleWithdrawn,
    /// Whether a rule that granted the token still does cannot be said: it is one of those that the registry serves
    /// itself, and they are not known.
    RulesUnknown(Lapse),
    /// Caveats that do not hold: at least one.
    Caveats(Vec<Failed>),
    /// The token is limited in uses and the registry named no upload to spend one on.
    ConsumeRequired,
    /// The upload was verified before, with other facts.
    ConsumeConflict,
    /// Every use is spent.
    UsesSpent(u32),
    /// The list of what is revoked or stopped is too old to be believed.
    RestrictionsStale,
    /// The token is older than the memory of what was revoked, or of its uses.
    StateLost {
        /// How long until it is over anyway.
        retry_after: Duration,
    },
    /// The store failed.
    Store(StoreError),
    /// As many uses as may be are on their way to the store.
    Overloaded,
}

impl Refused {
    /// Its row of the failure table; of several failing caveats the first one's.
    pub fn code(&self) -> Code {
        match self {
            Self::RegistryDisabled => Code::RegistryDisabled,
            Self::IssuerDisabled => Code::IssuerDisabled,
            Self::Token(error) => error.code(),
            Self::Revoked => Code::UploadTokenRevoked,
            Self::Stopped => Code::Stopped,
            Self::RuleWithdrawn => Code::RuleWithdrawn,
            Self::RulesUnknown(lapse) => lapse.code(),
            Self::Caveats(failed) => failed.first().map_or(Code::Internal, Failed::code),
            Self::ConsumeRequired => Code::ConsumeRequired,
            Self::ConsumeConflict => Code::ConsumeConflict,
            Self::UsesSpent(_) => Code::UsesSpent,
            Self::StateLost { .. } => Code::StateLost,
            Self::RestrictionsStale | Self::Store(_) => Code::StoreUnavailable,
            Self::Overloaded => Code::Overloaded,
        }
    }

    /// One sentence for each reason, for people.
    pub fn reasons(&self) -> Vec<String> {
        let sentence = match self {
            Self::Caveats(failed) => return failed.iter().map(ToString::to_string).collect(),
            Self::RegistryDisabled => "trusted publishing is switched off for this registry".to_owned(),
            Self::IssuerDisabled => "the identity provider that this token came from is switched off".to_owned(),
            Self::Token(error) => error.to_string(),
            Self::Revoked => "the upload token has been revoked".to_owned(),
            Self::Stopped => "the operators have stopped what the upload token comes from".to_owned(),
            Self::RulesUnknown(lapse) => lapse.to_string(),
            Self::RuleWithdrawn => "no rule that granted the upload token grants this any more".to_owned(),
            Self::ConsumeRequired => "the upload token is limited in uses and `consume` names no upload".to_owned(),
            Self::ConsumeConflict => "this upload was verified before, with other facts".to_owned(),
            Self::UsesSpent(1) => "the upload token was good for one upload, and that one is done".to_owned(),
            Self::UsesSpent(uses) => format!("the upload token was good for {uses} uploads, and they are done"),
            Self::RestrictionsStale => "the list of revoked tokens is not up to date".to_owned(),
            Self::StateLost { .. } => {
                "the upload token was issued before the service's memory begins, and may have been revoked or used"
                    .to_owned()
            }
            Self::Store(StoreError::Full) => "the store is full".to_owned(),
            Self::Store(_) => "the store does not answer".to_owned(),
            Self::Overloaded => "too many uploads are waiting for the store".to_owned(),
        };
        vec![sentence]
    }

    /// How long to wait before asking again, where that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        if let Self::StateLost { retry_after } = self { Some(*retry_after) } else { None }
    }
}

/// The answer, with the token as far as it is authentic: enough for one audit event.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the token may do it.
    pub result: Result<(), Refused>,
    /// The token, once it was proven to be ours.
    pub authentic: Option<Authentic>,
}

impl Outcome {
    /// That of a verification that has only begun: what one comes to that is dropped while it waits.
    pub const fn unfinished() -> Self {
        let reason = "the service ended before the store answered";
        Self { result: Err(Refused::Store(StoreError::Unavailable { reason })), authentic: None }
    }
}

/// Answers whether the token may do this at the registry that asks.
///
/// What becomes known is in `outcome` at once, so whoever drops this before its end knows how far it came.
pub async fn verify(
    parts: Parts<'_>,
    registry: &Registry,
    question: &Question<'_>,
    now: Timestamp,
    outcome: &mut Outcome,
) {
    outcome.result = match authentic(parts, registry, question.token.expose(), now) {
        Ok(authentic) => judge(parts, registry, outcome.authentic.insert(authentic), question, now).await,
        Err(error) => Err(Refused::Token(error)),
    };
}

fn authentic(parts: Parts<'_>, registry: &Registry, token: &str, now: Timestamp) -> Result<Authentic, VerifyError> {
    let key = RegistryKeyId { key_id: &registry.key_id, codec: registry.codec, epoch: registry.epoch };
    crate::macaroon::verify(token, &registry.token.prefix, parts.keyring, key, now)
}

async fn judge(
    parts: Parts<'_>,
    registry: &Registry,
    authentic: &Authentic,
    question: &Question<'_>,
    now: Timestamp,
) -> Result<(), Refused> {
    standing(parts, registry, authentic, now)?;
    let id = authentic.identifier();
    let facts = Facts {
        registry: &registry.id,
        now,
        action: &question.action,
        package: &question.package,
        version: question.version,
        sha256: question.sha256,
        size: question.size,
        client_ip: question.client_ip,
    };
    let cleared = authentic.clear(&facts, registry.ecosystem()).map_err(Refused::Caveats)?;
    if is_withdrawn(parts, registry, id, question) {
        return Err(withdrawn(parts.policy, registry, id, now));
    }
    match cleared.uses() {
        None => Ok(()),
        // Reading spends nothing, so it may go on after the last upload.
        Some(_) if question.action.as_str() == Action::READ => Ok(()),
        Some(uses) => spend(parts, registry, authentic, question, uses, now).await,
    }
}

/// Whether an authentic token stands at all, whatever is asked: nothing that it comes from is switched off, and neither
/// is it revoked.
fn standing(parts: Parts<'_>, registry: &Registry, authentic: &Authentic, now: Timestamp) -> Result<(), Refused> {
    if !registry.enabled {
        return Err(Refused::RegistryDisabled);
    }
    let id = authentic.identifier();
    let issuer = parts.policy.issuers().by_url(&id.provenance.issuer);
    if issuer.is_some_and(|issuer| !issuer.enabled) {
        return Err(Refused::IssuerDisabled);
    }
    if !may_be_believed(parts.state.restrictions_synced_at(), registry.verify_when_store_down, now) {
        return Err(Refused::RestrictionsStale);
    }
    // SECURITY: whoever has learnt of everything that was revoked since before the token was issued may go by that. A
    // replica that started after the store lost its memory has not, and nor has one whose store began with it. What has
    // expired is told so by its caveats.
    let complete_since = parts.state.revocations().complete_since();
    if now < authentic.expires_at() && complete_since.is_none_or(|since| id.id.issued_at() < since) {
        return Err(state_lost(authentic, now));
    }
    let token = Issued {
        key_id: &registry.key_id,
        token_id: &id.id.to_string(),
        rules: &id.provenance.rules,
        issued_at: id.id.issued_at(),
    };
    if parts.state.revocations().cover(token) {
        return Err(Refused::Revoked);
    }
    let origin = Origin {
        issuer_id: issuer.map(|issuer| issuer.id.as_str()),
        issuer: &id.provenance.issuer,
        registry: &registry.id,
        rules: &id.provenance.rules,
        claims: &id.provenance.claims,
    };
    if parts.state.is_stopped(&origin, now) { Err(Refused::Stopped) } else { Ok(()) }
}

fn state_lost(authentic: &Authentic, now: Timestamp) -> Refused {
    Refused::StateLost { retry_after: authentic.expires_at().since(now) }
}

/// Whether other rules than those that granted the token came into force here when it was issued or later. Earlier ones
/// are not asked: another replica may have minted it by newer ones than these.
///
/// SECURITY: the same millisecond counts as later, or what is minted in the one in which a rule goes would outlive it.
fn may_have_changed(parts: Parts<'_>, id: &Identifier) -> bool {
    id.provenance.policy_revision != parts.policy.revision() && id.id.issued_at() <= parts.in_force_since
}

/// SECURITY: a rule that is removed, switched off or cut down takes its live tokens with it.
fn is_withdrawn(parts: Parts<'_>, registry: &Registry, id: &Identifier, question: &Question<'_>) -> bool {
    let granted = &id.provenance;
    may_have_changed(parts, id)
        && !parts.policy.still_grants(&granted.rules, registry, &granted.issuer, &question.action, &question.package)
}

/// What to say of a token whose rules are not there. Those that a registry serves itself may only not have been had yet:
/// a replica that has just started asks for them.
fn withdrawn(policy: &Policy, registry: &Registry, id: &Identifier, now: Timestamp) -> Refused {
    let own = |rule: &String| rule.strip_prefix(registry.id.as_str()).is_some_and(|rest| rest.starts_with('/'));
    let lapse = policy.lapse(registry, now).filter(|_| id.provenance.rules.iter().any(own));
    lapse.map_or(Refused::RuleWithdrawn, Refused::RulesUnknown)
}

/// Whether the lists of what is revoked and stopped, last complete then, still decide.
///
/// SECURITY: where the registry prefers answers to certainty, for as long as a list can say anything of a token that
/// lives. One that was never complete says nothing, and no more does one that is older than every such token.
fn may_be_believed(synced_at: Option<Timestamp>, when_down: WhenStoreDown, now: Timestamp) -> bool {
    let longest = match when_down {
        WhenStoreDown::Refuse => RESTRICTIONS_MAX_AGE,
        WhenStoreDown::Accept => MAX_AGE,
    };
    // A moment that is still to come was told by a clock that ran ahead and was set back: nobody knows how old they are.
    let to_come = |synced_at: Timestamp| synced_at.since(now) > RESTRICTIONS_MAX_AGE;
    synced_at.is_some_and(|synced_at| now.since(synced_at) <= longest && !to_come(synced_at))
}

/// Whether the lists of what is revoked and stopped are older than verification goes by unless a registry says so.
pub fn are_lists_old(state: &State, now: Timestamp) -> bool {
    !may_be_believed(state.restrictions_synced_at(), WhenStoreDown::Refuse, now)
}

/// Spends one use, once for each (token, upload): a repeat with equal facts gets the first answer, so that a registry
/// may retry after a lost one.
async fn spend(
    parts: Parts<'_>,
    registry: &Registry,
    authentic: &Authentic,
    question: &Question<'_>,
    uses: u32,
    now: Timestamp,
) -> Result<(), Refused> {
    let upload = question.consume.ok_or(Refused::ConsumeRequired)?;
    // Before anything is asked: whoever is refused here has spent nothing.
    let _spending = parts.spending.try_acquire().map_err(|_| Refused::Overloaded)?;
    let facts = format!(
        "{}\n{}\n{:?}\n{:?}\n{:?}",
        question.action, question.package, question.version, question.sha256, question.size
    );
    let digest = sha256(facts.as_bytes());
    let id = authentic.identifier().id;
    // SECURITY: remembered for as long as any copy may live. A holder can narrow the expiry of a copy; a record that
    // ended with the copy's would give the original its uses back.
    let until = authentic.retired_at().plus(RETENTION_MARGIN);
    let name = token_name(&registry.key_id, &id);
    let mut spending = pin!(parts.state.spend((&name, id.issued_at()), upload, digest, uses, until, now));
    let mut yielding = Some(question.yielding);
    let spent = poll_fn(|context| {
        let polled = spending.as_mut().poll(context);
        // A store in memory answers at once.
        if polled.is_pending()
            && let Some(yielding) = yielding.take()
        {
            yielding.give_back();
        }
        polled
    });
    match spent.await.map_err(Refused::Store)? {
        Spent::Fresh | Spent::Repeated => Ok(()),
        Spent::Conflict => Err(Refused::ConsumeConflict),
        Spent::Exhausted => Err(Refused::UsesSpent(uses)),
        Spent::Forgotten => Err(state_lost(authentic, now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_lists_decide_for_as_long_as_they_say_anything_of_a_live_token() {
        let now = Timestamp::from_unix_seconds(1_800_000_000);
        for (age, refuse, accept) in [
            (0, true, true),
            (30_000, true, true),
            (30_001, false, true),
            (3_600_000, false, true),
            (3_600_001, false, false),
        ] {
            let synced_at = Some(now.minus(Duration::from_millis(age)));
            let believed = WhenStoreDown::ALL.map(|choice| may_be_believed(synced_at, choice, now));
            assert_eq!(believed, [refuse, accept], "{age} ms");
        }
        for (ahead, expected) in [(30_000, true), (30_001, false), (3_600_000, false)] {
            let synced_at = Some(now.plus(Duration::from_millis(ahead)));
            let believed = WhenStoreDown::ALL.map(|choice| may_be_believed(synced_at, choice, now));
            assert_eq!(believed, [expected, expected], "{ahead} ms ahead");
        }
        assert_eq!(WhenStoreDown::ALL.map(|choice| may_be_believed(None, choice, now)), [false, false]);
    }
}
