//! The composition root: one concrete value that holds the service's parts and runs its use-cases.
//!
//! It reads the clock once per request for what is decided, takes one policy revision for the whole of it, and makes one
//! audit event and one count per outcome. Built the same way by `serve`, by the demonstration and by the tests.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::audit::AuditDecision;
use crate::audit::AuditEvent;
use crate::audit::AuditKind;
use crate::audit::AuditLog;
use crate::code::Class;
use crate::code::Code;
use crate::config::Tls;
use crate::config::tls::Certificate;
use crate::exchange;
use crate::exchange::Failure;
use crate::exchange::IssuedToken;
use crate::identity::fetch::Fetch;
use crate::identity::keys::Keys;
use crate::identity::keys::Refresh;
use crate::macaroon::Keyring;
use crate::macaroon::MasterKey;
use crate::macaroon::TokenId;
use crate::macaroon::seal_secret;
use crate::policy::Policy;
use crate::policy::bundle::poll::Brought;
use crate::policy::bundle::poll::Bundles;
use crate::policy::bundle::poll::PollError;
use crate::policy::registry::Registry;
use crate::secret::random_name;
use crate::state::SealKey;
use crate::state::SealKeys;
use crate::state::State;
use crate::state::Store;
use crate::telemetry::Metrics;
use crate::telemetry::Stopwatch;
use crate::telemetry::trace::Tracer;
use crate::time::Clock;
use crate::time::Timestamp;
use crate::verify;

mod allowances;
mod attending;
mod certificate_reloads;
mod composition;
mod handlers;
mod in_force;
mod introspection;
mod key_reloads;
mod measures;
mod outcomes;
mod refusals;
mod reloads;
mod restrictions;
mod settings_reloads;
mod settling;
mod warnings;

pub use self::certificate_reloads::CertificateReloads;
pub use self::handlers::AtWork;
pub use self::handlers::Closed;
pub use self::handlers::Unattended;
use self::in_force::InForce;
pub use self::in_force::PolicyInForce;
pub use self::key_reloads::KeyReloads;
use self::outcomes::Asked;
use self::outcomes::Exchange;
use self::outcomes::Verification;
pub use self::reloads::Begun;
pub use self::reloads::Last;
pub use self::reloads::Outcome;
pub use self::reloads::Reloads;
pub use self::reloads::Serving;
pub use self::reloads::Status;
pub use self::reloads::Trigger;
pub use self::reloads::begin;
pub use self::restrictions::Own;
pub use self::settings_reloads::SettingsReloads;

/// What the service is made of.
#[derive(Debug)]
pub struct Parts {
    /// The rules to begin with.
    pub policy: Policy,
    /// Our own keys.
    pub keyring: Keyring,
    /// How documents of identity providers are fetched.
    pub fetch: Arc<dyn Fetch>,
    /// What replicas share.
    pub store: Arc<dyn Store>,
    /// Where outcomes are recorded.
    pub audit: AuditLog,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where fetches run; it outlives the HTTP server's workers.
    pub runtime: Handle,
}

/// The running service.
#[derive(Debug)]
pub struct App {
    in_force: Arc<InForce>,
    bundles: Bundles,
    /// None where the policy is a value that nobody changes but by [`App::activate`].
    reloads: Option<Arc<Reloads>>,
    keyring: Arc<ArcSwap<Keyring>>,
    /// None where the keys are a value that nobody changes.
    key_reloads: Option<Arc<KeyReloads>>,
    /// None where the listener speaks no TLS.
    certificate_reloads: Option<Arc<CertificateReloads>>,
    /// None where the settings are values that nobody changes.
    settings_reloads: Option<Arc<SettingsReloads>>,
    state: Arc<State>,
    audit: Arc<AuditLog>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    /// Places for refusals on their way to the store.
    refusals: Arc<Semaphore>,
    /// Places for uses on their way there.
    spending: Semaphore,
    draining: AtomicBool,
    unattended: Unattended,
    working: AtWork,
}

/// Whether a replica shall be sent requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It shall.
    Ready,
    /// It could mint nothing.
    NoMintingKey,
    /// It is about to end.
    Draining,
}

/// Who asks, as far as that matters for the record.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The request's id, drawn by this service.
    pub request_id: String,
    /// The client's address.
    pub client: Option<IpAddr>,
}

impl App {
    /// Wires the parts together and prepares the caches of every configured issuer.
    pub fn build(parts: Parts) -> Self {
        let counted = Arc::clone(&parts.metrics);
        let report = Box::new(move |refresh: &Refresh<'_>| counted.jwks_refresh(&refresh.issuer.id, refresh.code()));
        let state = Arc::new(State::new(parts.store, seal_keys(&parts.keyring)));
        let runtime = parts.runtime.clone();
        let fetch = Arc::clone(&parts.fetch);
        let keys = Keys::new(fetch, Arc::clone(&state), Arc::clone(&parts.clock), parts.runtime, report);
        let in_force = InForce::new(parts.policy, keys, Arc::clone(&parts.metrics), Arc::clone(&parts.clock));
        let in_force = Arc::new(in_force);
        measures::observe(&parts.metrics, &in_force, &state);
        measures::keyring(&parts.keyring, &parts.metrics);
        let (accepting, counted) = (Arc::clone(&in_force), Arc::clone(&parts.metrics));
        let bundles = Bundles::new(
            parts.fetch,
            Arc::clone(&state),
            Arc::clone(&parts.clock),
            runtime.clone(),
            Box::new(move |registry, source, signed, last| accepting.accept(registry, source, signed, last)),
            Box::new(move |registry, outcome| counted.bundle_refresh(registry, poll_label(outcome))),
        );
        Self {
            in_force,
            bundles,
            reloads: None,
            keyring: Arc::new(ArcSwap::from_pointee(parts.keyring)),
            key_reloads: None,
            certificate_reloads: None,
            settings_reloads: None,
            state,
            audit: Arc::new(parts.audit),
            metrics: parts.metrics,
            tracer: Tracer::default(),
            clock: parts.clock,
            runtime,
            refusals: refusals::places(),
            spending: Semaphore::new(verify::MOST_SPENDING),
            draining: AtomicBool::new(false),
            unattended: Unattended::default(),
            working: AtWork::default(),
        }
    }

    /// Reloads the policy whenever the directory that it is from changes, which is looked at every so often.
    #[must_use]
    pub fn watching(mut self, begun: Begun, every: Duration) -> Self {
        let parts = reloads::Parts {
            in_force: Arc::clone(&self.in_force),
            state: Arc::clone(&self.state),
            audit: Arc::clone(&self.audit),
            metrics: Arc::clone(&self.metrics),
            clock: Arc::clone(&self.clock),
            runtime: self.runtime.clone(),
        };
        self.reloads = Some(Arc::new(Reloads::new(parts, begun, every)));
        self
    }

    /// Reads the keys again whenever the directory that they are from changes, which is looked at every so often.
    #[must_use]
    pub fn watching_keys(mut self, directory: PathBuf, every: Duration) -> Self {
        let (ring, state, metrics) = (Arc::clone(&self.keyring), Arc::clone(&self.state), Arc::clone(&self.metrics));
        let reloads = KeyReloads::new((directory, every), ring, state, metrics, Arc::clone(&self.clock));
        self.key_reloads = Some(Arc::new(reloads));
        self
    }

    /// Reads the listener's certificate again whenever its files change, which are looked at every so often.
    #[must_use]
    pub fn watching_certificate(mut self, files: Tls, every: Duration, current: Arc<ArcSwap<Certificate>>) -> Self {
        let reloads = CertificateReloads::new((files, every), current, Arc::clone(&self.metrics));
        self.certificate_reloads = Some(Arc::new(reloads));
        self
    }

    /// Traces requests.
    #[must_use]
    pub fn tracing(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// Whose requests are traced.
    pub const fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// How the listener's certificate is read again, where it is.
    pub const fn certificate_reloads(&self) -> Option<&Arc<CertificateReloads>> {
        self.certificate_reloads.as_ref()
    }

    /// How the keys are read again, where they are.
    pub const fn key_reloads(&self) -> Option<&Arc<KeyReloads>> {
        self.key_reloads.as_ref()
    }

    /// The rules in force. Take them once per request: one revision decides it throughout.
    pub fn policy(&self) -> Arc<PolicyInForce> {
        self.in_force.policy()
    }

    /// Puts other rules in force, for requests that begin from now on. Where a directory is watched, it is what the
    /// next reload replaces.
    pub fn activate(&self, policy: Policy) {
        self.in_force.activate(Arc::new(policy));
    }

    /// The rules that registries serve themselves.
    pub const fn bundles(&self) -> &Bundles {
        &self.bundles
    }

    /// Begins the polls for bundles that are due; they go on also if nobody waits for their ends.
    pub fn poll_bundles(&self) -> Vec<JoinHandle<()>> {
        self.bundles.poll_due(&self.policy())
    }

    /// How the policy is reloaded, where it is.
    pub const fn reloads(&self) -> Option<&Arc<Reloads>> {
        self.reloads.as_ref()
    }

    /// The present moment; read once per request.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The shared state.
    pub fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// The identity providers' keys.
    pub fn keys(&self) -> &Keys {
        self.in_force.keys()
    }

    /// Whether requests shall be sent here. Deliberately not whether an identity provider answers.
    pub fn readiness(&self) -> Readiness {
        if self.is_draining() {
            Readiness::Draining
        } else if self.keyring.load().minting_key(self.now()).is_none() {
            Readiness::NoMintingKey
        } else {
            Readiness::Ready
        }
    }

    /// From now on requests shall go elsewhere; those that come are served.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether this replica is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The handlers whose clients have gone.
    pub const fn unattended(&self) -> &Unattended {
        &self.unattended
    }

    /// All handlers at work that may use, revoke, stop or lift anything.
    pub const fn working(&self) -> &AtWork {
        &self.working
    }

    /// Exchanges a subject token and records the outcome.
    pub async fn exchange(
        &self,
        policy: &Policy,
        request: exchange::Request<'_>,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<IssuedToken, Failure> {
        let registry = request.registry;
        let Some(entropy) = random_name() else { return Err(Failure::Internal) };
        let keyring = self.keyring.load_full();
        let (state, audit) = (&self.state, &*self.audit);
        let parts = exchange::Parts { policy, keys: self.keys(), keyring: &keyring, state, audit };
        let asked = Asked::of(&request);
        let (id, stopwatch) = (TokenId::new(now, entropy), Stopwatch::start());
        let mut exchange = Exchange { app: self, policy, registry, asked, caller, now, stopwatch, outcome: None };
        let outcome = exchange.outcome.insert(exchange::Outcome::unfinished());
        exchange::exchange(parts, request, id, now, outcome).await;
        exchange.ended()
    }

    /// Answers a registry's question about one upload and records the answer.
    pub async fn verify(
        &self,
        policy: &PolicyInForce,
        registry: &Registry,
        question: &verify::Question<'_>,
        caller: &Caller,
        now: Timestamp,
    ) -> verify::Outcome {
        let keyring = self.keyring.load_full();
        let parts = self.verifying(policy, &keyring);
        let stopwatch = Stopwatch::start();
        let outcome = verify::Outcome::unfinished();
        let app = self;
        let mut verification = Verification { app, policy, registry, question, caller, now, stopwatch, outcome };
        verify::verify(parts, registry, question, now, &mut verification.outcome).await;
        verification.ended()
    }

    fn verifying<'a>(&'a self, policy: &'a PolicyInForce, keyring: &'a Keyring) -> verify::Parts<'a> {
        let (state, spending) = (&self.state, &self.spending);
        verify::Parts { policy, in_force_since: policy.since(), keyring, state, spending }
    }

    /// Counts what was allowed although the lists of what is revoked and stopped were old.
    fn count_old_lists(&self, code: Option<Code>, registry: &Registry, now: Timestamp) {
        if code.is_none() && verify::are_lists_old(&self.state, now) {
            self.metrics.verification_by_old_lists(&registry.id);
        }
    }

    /// Waits until what was recorded before is written or lost, but no longer than `within`; whether it is.
    pub fn flush(&self, within: Duration) -> bool {
        self.audit.flush(within)
    }

    /// Writes out what is still queued, and says what was lost; for the end of the process, when no handler begins any more.
    pub fn close(&self, handlers: Closed, within: Duration) {
        if !handlers.all_ended() {
            tracing::warn!("requests were not let go of in time: the audit log may lack what was cut off");
        }
        if !self.flush(within) {
            tracing::warn!("the last audit events could not be written in time");
        }
        let lost = self.audit.dropped();
        if lost > 0 {
            tracing::warn!(lost, "audit events were lost since the start");
        }
    }
}

/// The keys by which this service knows what it wrote into the store.
fn seal_keys(keyring: &Keyring) -> SealKeys {
    let key = |master: &MasterKey| SealKey::new(master.kid().to_owned(), master.activate_at(), seal_secret(master));
    SealKeys::new(keyring.iter().map(key).collect())
}

fn poll_label(outcome: &Result<Brought, PollError>) -> &'static str {
    match outcome {
        Ok(Brought::New { .. }) => "new",
        Ok(Brought::Same) => "same",
        Err(error) => error.code(),
    }
}

fn code_label(code: Option<Code>) -> &'static str {
    code.map_or("ok", Code::as_str)
}

fn event(kind: AuditKind, code: Option<Code>, caller: &Caller, now: Timestamp) -> AuditEvent<'_> {
    let class = code.map(Code::class);
    let decision = match class {
        None => AuditDecision::Allow,
        Some(Class::Request | Class::Refused) => AuditDecision::Deny,
        Some(Class::Unavailable | Class::Fault) => AuditDecision::Fault,
    };
    let mut event = AuditEvent::new(now, &caller.request_id, kind, decision, code_label(code));
    event.class = class.map(Class::as_str);
    event.client = caller.client;
    event
}
