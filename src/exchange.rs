//! Token exchange (RFC 8693): a CI job's ID token in, a scoped upload token out.
//!
//! The steps are those of the protocol and the types carry their order: what a step returns can be had in no other
//! way. Nothing in a token causes network traffic before its issuer is known; a denied job can retry with the same
//! token, because its first use is claimed only when everything that can fail has succeeded, and the audit log has a place
//! for the record.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::audit::AuditLog;
use crate::audit::Place;
use crate::identity::issuer::Issuer;
use crate::identity::keys::Keys;
use crate::identity::replay::Replay;
use crate::identity::token::UnverifiedToken;
use crate::identity::verify::LEEWAY;
use crate::identity::verify::VerifiedToken;
use crate::identity::verify::verify;
use crate::macaroon::ClaimsRef;
use crate::macaroon::Keyring;
use crate::macaroon::PrepareRequest;
use crate::macaroon::Prepared;
use crate::macaroon::ProvenanceRef;
use crate::macaroon::RegistryKeyId;
use crate::macaroon::TokenId;
use crate::package::PackageName;
use crate::package::Pattern;
use crate::package::Permissions;
use crate::policy::Policy;
use crate::policy::evaluate::Decision;
use crate::policy::evaluate::Evaluation;
use crate::policy::evaluate::Grant;
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::Subject;
use crate::policy::evaluate::evaluate_at;
use crate::policy::registry::Registry;
use crate::secret::Presented;
use crate::secret::sha256;
use crate::state::FirstUseClaim;
use crate::state::FirstUseError;
use crate::state::FirstUseRecord;
use crate::state::PastUse;
use crate::state::RETENTION_MARGIN;
use crate::state::Repetition;
use crate::state::State;
use crate::state::StoreError;
use crate::state::rates::Allowance;
use crate::state::rates::Standing;
use crate::state::revocations::Issued;
use crate::telemetry::trace;
use crate::time::Timestamp;
use crate::yielding::Yielding;

pub use error::Failure;
pub use issued::IssuedToken;
use issued::Leave;
pub use issued::Unrecorded;
use issued::issue;

mod error;
mod issued;
mod stopped;

/// Longest wait for an identity provider's key. With the store's share an exchange answers within 4 s, whatever they
/// do: twine gives up after 5. The fetch itself goes on, so a retry finds the key.
pub const KEY_WAIT: Duration = Duration::from_millis(2500);

/// Longest wait for the store. The claim itself goes on; with [`KEY_WAIT`] it stays under 4 s.
pub const STORE_WAIT: Duration = Duration::from_secs(1);

/// How much longer than its expiry the first use of a token is remembered.
///
/// SECURITY: with less than [`LEEWAY`] a token could be exchanged again in the seconds between the record's end and
/// the last moment at which the token still verifies; the margin covers clocks that differ.
pub const FIRST_USE_RETENTION: Duration = LEEWAY.saturating_add(RETENTION_MARGIN);

/// What a client asks for, bounded and typed before anything in it is believed.
#[derive(Debug)]
pub struct Request<'a> {
    /// The registry that the request names.
    pub registry: &'a Registry,
    /// The CI job's ID token.
    pub subject_token: Presented<'a>,
    /// The package that the dialect names, and the pairs to which `scope` narrows the grant.
    pub requested: Requested,
    /// Whether the upload token shall be good for one upload only.
    pub single_use: bool,
    /// What it gives back if it has to wait for its issuer's keys.
    pub yielding: Yielding<'a>,
}

/// The parts of the service that an exchange uses.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The rules, in one revision throughout.
    pub policy: &'a Policy,
    /// The identity providers' keys.
    pub keys: &'a Keys,
    /// Our own keys.
    pub keyring: &'a Keyring,
    /// First uses.
    pub state: &'a Arc<State>,
    /// Where what is minted is recorded.
    pub audit: &'a AuditLog,
}

/// What an exchange came to, with what is proven about the caller: enough for one audit event.
#[derive(Debug)]
pub struct Outcome {
    /// The token, which is to be recorded, or why there is none.
    pub result: Result<Unrecorded, Failure>,
    /// The configured issuer, once the token named one.
    pub issuer: Option<String>,
    /// What is known of the job once the signature was proven.
    pub proven: Option<Proven>,
}

/// A proven token, and which rules granted.
#[derive(Debug)]
pub struct Proven {
    /// The job's token.
    pub token: VerifiedToken,
    /// The granting rules; empty when there was no grant.
    pub rules: Vec<String>,
    /// The rules in shadow mode that would have granted something that the decision does not.
    pub shadow: Vec<String>,
    /// The upload token's id, once one was prepared: nothing but the claim is left to wait for.
    pub token_id: Option<TokenId>,
}

impl Outcome {
    /// That of an exchange that has only begun: what one comes to that is dropped while it waits.
    pub const fn unfinished() -> Self {
        let reason = "the service ended before the store answered";
        Self { result: Err(Failure::Store(StoreError::Unavailable { reason })), issuer: None, proven: None }
    }

    /// Whether the store was, or may have been, asked for the first use of the ID token.
    pub fn may_have_claimed(&self) -> bool {
        self.proven.as_ref().is_some_and(|proven| proven.token_id.is_some())
    }

    /// How far in the future of `now`, at which it was decided, the token's own time lies; `None` if its signature was not
    /// proven.
    pub fn ahead(&self, now: Timestamp) -> Option<Duration> {
        match (&self.proven, &self.result) {
            (Some(proven), _) => Some(proven.token.issued_at().since(now)),
            (None, Err(Failure::Token(error))) => error.ahead(),
            (None, _) => None,
        }
    }
}

/// Exchanges a subject token for an upload token. `id` is the identity of the token that may be minted.
///
/// What becomes known is in `outcome` at once, so whoever drops this before its end knows how far it came.
pub async fn exchange(parts: Parts<'_>, request: Request<'_>, id: TokenId, now: Timestamp, outcome: &mut Outcome) {
    let Outcome { result, issuer, proven } = outcome;
    *result = steps(parts, request, id, now, issuer, proven).await;
}

async fn steps(
    parts: Parts<'_>,
    request: Request<'_>,
    id: TokenId,
    now: Timestamp,
    named: &mut Option<String>,
    proven: &mut Option<Proven>,
) -> Result<Unrecorded, Failure> {
    let registry = request.registry;
    if !registry.enabled {
        return Err(Failure::RegistryDisabled);
    }

    let unverified = trace::step("parse", || UnverifiedToken::parse(request.subject_token.expose()))?;
    let issuer = known_issuer(parts.policy, registry, &unverified, now)?;
    *named = Some(issuer.id.clone());
    let replay = registry.replay_of(&issuer);
    let package = one_package(replay, &request.requested)?;

    let key = trace::during("key", parts.keys.key(&issuer, unverified.kid(), now, KEY_WAIT, request.yielding)).await?;
    let token = trace::step("signature", || verify(unverified, &key, &issuer, &registry.audiences, now))?;
    let known = proven.insert(Proven { token, rules: Vec::new(), shadow: Vec::new(), token_id: None });
    let token = &known.token;

    let decided = trace::step("evaluate", || decide(parts.policy, &request, token, now));
    let Evaluation { decision, shadow } = decided?;
    known.shadow = shadow;
    let grant = match decision {
        Decision::Allow(grant) => grant,
        Decision::Deny(explanation) => return Err(Failure::Denied(explanation)),
    };
    known.rules = grant.rules().to_vec();
    stopped::refuse_stopped(parts.state, registry, token, &grant, now).await?;

    let location = registry.location();
    let wanted = |id| wanted(parts.policy, &request, &location, token, &grant, id);
    let prepared = trace::step("prepare", || crate::macaroon::prepare(parts.keyring, wanted(id)))?;
    known.token_id = Some(id);

    // SECURITY: only now. A stranger's tokens, proven ones too, take nothing from what the registry's jobs may have; nor
    // does one that was used before.
    let counted = parts.state.rates().take(&registry.id, Allowance::Exchanges, registry.limits.exchanges, now);
    let counted = counted.map_err(Failure::RateLimited)?;
    let minting = async {
        // SECURITY: before the claim. What could not be recorded is not minted, and the job's token stays good.
        let place = || parts.audit.reserve().ok_or(Failure::AuditUnavailable);
        let reserved = place()?;
        if let Some(not_demanded) = replay.off() {
            return Ok(trace::step("mint", || issue(prepared, Leave::NotDemanded(not_demanded), counted, reserved)));
        }
        let claim = first_use_claim(token, &prepared, package, now);
        let first = first_use_and_issue(parts.state, claim, prepared, counted, reserved, now).await;
        let (Err(Failure::Replayed(Some(past))), Some(window)) = (&first, registry.retry_window) else { return first };
        match repeat(parts, registry, past, token, wanted, window, now) {
            Some((again, repetition)) => {
                let reserved = place()?;
                Ok(trace::step("mint", || issue(again, Leave::Repeated(repetition), counted, reserved)))
            }
            None => first,
        }
    };
    let given = minting.await.inspect_err(|_| parts.state.rates().give_back(&registry.id, counted))?;
    known.token_id = Some(given.minted().id);
    Ok(given)
}

/// In mode `once-per-package`, the package whose first use is claimed: the request must name it and no other.
///
/// SECURITY: with several, or a pattern, one ID token would yield more than one upload token for a package. And the
/// grant holds only what is named, so that the token for one package publishes no other.
fn one_package(replay: Replay, requested: &Requested) -> Result<Option<&PackageName>, Failure> {
    if replay != Replay::OncePerPackage {
        return Ok(None);
    }
    let narrow = requested.narrow.iter().flat_map(Permissions::iter).map(|pair| match &pair.pattern {
        Pattern::Literal(name) => Some(name),
        Pattern::Prefix(_) => None,
    });
    let mut named = requested.package.iter().map(Some).chain(narrow);
    let package = named.next().flatten().ok_or(Failure::OnePackage)?;
    if named.all(|other| other == Some(package)) { Ok(Some(package)) } else { Err(Failure::OnePackage) }
}

/// Step 1: the issuer, byte for byte, before anything costs a network request.
fn known_issuer(
    policy: &Policy,
    registry: &Registry,
    token: &UnverifiedToken,
    now: Timestamp,
) -> Result<Arc<Issuer>, Failure> {
    let Some(issuer) = policy.issuers().by_url(token.issuer()) else {
        if let Some(lapse) = policy.may_be_bundled(registry, token.issuer(), now) {
            return Err(Failure::RulesUnknown(lapse));
        }
        let nearest = nearly(policy, token.issuer()).map(|issuer| issuer.url().to_string());
        return Err(Failure::UnknownIssuer { issuer: error::echo(token.issuer()), nearest });
    };
    if issuer.enabled { Ok(Arc::clone(issuer)) } else { Err(Failure::IssuerDisabled) }
}

/// The configured issuer that differs from this text by case or a final slash only. Whoever wrote the text knows the
/// URL already; any other resemblance would tell strangers which providers are configured.
fn nearly<'p>(policy: &'p Policy, iss: &str) -> Option<&'p Arc<Issuer>> {
    let fold = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
    policy.issuers().nearest(iss).filter(|issuer| fold(issuer.url().as_str()) == fold(iss))
}

/// Step 3: what the rules say.
fn decide(
    policy: &Policy,
    request: &Request<'_>,
    token: &VerifiedToken,
    now: Timestamp,
) -> Result<Evaluation, Failure> {
    let subject = Subject { issuer: token.issuer(), claims: token.claims() };
    evaluate_at(policy, request.registry, &subject, &request.requested, now).map_err(Failure::RulesUnknown)
}

/// What the upload token shall say, under this name: what preparing it takes.
fn wanted<'a>(
    policy: &'a Policy,
    request: &Request<'a>,
    location: &'a str,
    token: &'a VerifiedToken,
    grant: &'a Grant,
    id: TokenId,
) -> PrepareRequest<'a> {
    let registry = request.registry;
    let uses = if request.single_use { Some(1) } else { grant.uses() };
    let provenance = ProvenanceRef {
        rules: grant.rules(),
        policy_revision: policy.revision(),
        issuer: token.issuer().url().as_str(),
        claims: chosen_claims(token, token.issuer().provider().provenance),
    };
    PrepareRequest {
        registry: &registry.id,
        key: RegistryKeyId { key_id: &registry.key_id, codec: registry.codec, epoch: registry.epoch },
        location,
        prefix: &registry.token.prefix,
        permissions: grant.permissions(),
        ttl: grant.ttl(),
        versions: grant.versions(),
        uses,
        max_size: grant.max_size(),
        provenance,
        id,
    }
}

fn first_use_claim(
    token: &VerifiedToken,
    prepared: &Prepared,
    package: Option<&PackageName>,
    now: Timestamp,
) -> FirstUseClaim {
    let iss = token.issuer().url().as_str();
    let key = |package| crate::state::first_use_key(iss, token.jti(), token.signing_input_digest(), package);
    let one_of = package.map(|_| key(None));
    let key = key(package.map(PackageName::as_str));
    let record = FirstUseRecord {
        token_id: prepared.id().to_string(),
        at: now,
        digest: digest(token, prepared),
        kid: prepared.kid().to_owned(),
    };
    let until = token.expires_at().plus(FIRST_USE_RETENTION);
    FirstUseClaim { key, one_of, record, issued_at: token.issued_at(), until }
}

/// Steps 5 and 6 run to their end even if the client has gone: a first use without its token would lock a job out.
async fn first_use_and_issue(
    state: &Arc<State>,
    claim: FirstUseClaim,
    prepared: Prepared,
    counted: Standing,
    place: Place,
    now: Timestamp,
) -> Result<Unrecorded, Failure> {
    let state = Arc::clone(state);
    let mut steps = Box::pin(trace::carried(async move {
        let retry_after = claim.until.minus(RETENTION_MARGIN).since(now);
        match trace::during("claim", state.first_use(claim)).await {
            Ok(first_use) => Ok(trace::step("mint", || issue(prepared, Leave::First(first_use), counted, place))),
            Err(FirstUseError::Replayed(past)) => Err(Failure::Replayed(Some(past))),
            Err(FirstUseError::Taken) => Err(Failure::Replayed(None)),
            Err(FirstUseError::Spent) => Err(Failure::Spent),
            Err(FirstUseError::Forgotten { .. }) => Err(Failure::StateLost { retry_after }),
            Err(FirstUseError::Store(error)) => Err(Failure::Store(error)),
        }
    }));
    // A store in memory answers at once. A panic is told like one in the task below.
    let at_once = poll_fn(|context| Poll::Ready(catch_unwind(AssertUnwindSafe(|| steps.as_mut().poll(context))))).await;
    match at_once {
        Ok(Poll::Ready(ended)) => return ended,
        Ok(Poll::Pending) => {}
        Err(_) => return Err(Failure::Internal),
    }
    match tokio::time::timeout(STORE_WAIT, tokio::spawn(steps)).await {
        Ok(ended) => ended.unwrap_or(Err(Failure::Internal)),
        Err(_) => Err(Failure::Store(StoreError::Unavailable { reason: "the store did not answer in time" })),
    }
}

/// Everything that shapes an upload token, and the very ID token that it is for: the claims, the grant, the policy's
/// revision, the registry with its key and the master key are all part of what is fingerprinted.
fn digest(token: &VerifiedToken, prepared: &Prepared) -> [u8; 32] {
    sha256([prepared.fingerprint(), *token.signing_input_digest()].as_flattened())
}

/// The upload token of an earlier exchange once more, bit for bit, for a client whose answer was lost: made again from
/// its name and its key, since it is kept nowhere. `None` if anything about it would differ, or it was revoked.
fn repeat<'a>(
    parts: Parts<'_>,
    registry: &Registry,
    past: &PastUse,
    token: &VerifiedToken,
    wanted: impl Fn(TokenId) -> PrepareRequest<'a>,
    window: Duration,
    now: Timestamp,
) -> Option<(Prepared, Repetition)> {
    let id = TokenId::parse(&past.record().token_id)?;
    let master = parts.keyring.get(&past.record().kid)?;
    let wanted = wanted(id);
    let rules = wanted.provenance.rules;
    let prepared = crate::macaroon::prepare_under(master, wanted).ok()?;
    let repetition = past.repeated(&digest(token, &prepared), window, now)?;
    let (key_id, token_id, issued_at) = (registry.key_id.as_str(), id.to_string(), id.issued_at());
    let revoked = parts.state.revocations().cover(Issued { key_id, token_id: &token_id, rules, issued_at });
    (!revoked).then_some((prepared, repetition))
}

fn chosen_claims<'a>(token: &'a VerifiedToken, names: &[&'static str]) -> ClaimsRef<'a> {
    let claims = token.claims();
    names.iter().filter_map(|name| Some((*name, claims.get(name)?))).collect()
}
