//! Clients that are refused too often: what they ask without a key is refused before it is looked at.
//!
//! Whose refusals count, and which, is said by the endpoint's own record ([`Counted`]), so no endpoint can forget it. A
//! client is known by its address alone, and many can have one: what succeeds never counts, nor does what this service
//! could not do.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::dev::ServiceRequest;

use crate::app::App;
use crate::code::Class;
use crate::code::Code;
use crate::http::Public;
use crate::http::admission;
use crate::http::clients::buckets::Buckets;
use crate::http::endpoint::Counted;
use crate::http::endpoint::Endpoint;
use crate::http::error::Refusal;
use crate::http::origin;
use crate::time::Timestamp;

pub mod buckets;

/// The log says whose calls are refused so often at most, in seconds.
const TOLD_EVERY: i64 = 60;

/// The clients of this replica.
#[derive(Debug)]
pub struct Clients {
    buckets: Buckets,
    /// When the log said last that one is held up, in seconds of Unix time.
    told_at: AtomicI64,
}

impl Clients {
    /// Each may be refused so many times a minute.
    pub fn new(quota: u32) -> Self {
        Self { buckets: Buckets::new(quota), told_at: AtomicI64::new(i64::MIN) }
    }

    /// Whether it is time that the log names one.
    fn tells(&self, now: Timestamp) -> bool {
        let (now, before) = (now.unix_seconds(), self.told_at.load(Ordering::Relaxed));
        let due = now < before || now.saturating_sub(before) >= TOLD_EVERY;
        due && self.told_at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A request whose refusal counts for its client.
#[derive(Clone)]
pub struct Accountable {
    app: Arc<App>,
    clients: Arc<Clients>,
    client: IpAddr,
    counted: Counted,
    /// When the client may ask again, if it may not now.
    held_up: Option<Duration>,
}

impl fmt::Debug for Accountable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app: _, clients: _, client, counted, held_up } = self;
        let mut shown = f.debug_struct("Accountable");
        shown.field("client", client).field("counted", counted).field("held_up", held_up).finish_non_exhaustive()
    }
}

impl Accountable {
    /// The request, if refusals of it count and it is known who sent it.
    pub fn of(request: &ServiceRequest, public: &Public, endpoint: Option<&Endpoint>, now: Timestamp) -> Option<Self> {
        let clients = Arc::clone(public.clients.as_ref()?);
        let operation = endpoint?.operations.iter().find(|operation| operation.is_asked_by(request.method()))?;
        let counted = operation.access.counted();
        if counted == Counted::Nothing {
            return None;
        }
        let client = origin::accountable(request.request(), &public.trusted_proxies)?;
        let held_up = clients.buckets.admit(client, now).err();
        Some(Self { app: Arc::clone(&public.app), clients, client, counted, held_up })
    }

    /// Refuses what is not to be looked at. It is held back, as whatever is refused for its number.
    pub async fn before(&self) -> Result<(), Refusal> {
        match (self.counted, self.held_up) {
            (Counted::Everything, Some(wait)) => Err(self.refuse(wait).await),
            (Counted::Everything | Counted::Keys | Counted::Nothing, _) => Ok(()),
        }
    }

    /// Counts how it was answered, at the moment of the answer.
    ///
    /// SECURITY: to be called by the task that outlives the connection, or clients that leave would be refused for nothing.
    pub fn answered(&self, code: Option<Code>) {
        if code.is_some_and(|code| self.counts(code)) {
            self.clients.buckets.refused(self.client, self.app.now());
        }
    }

    /// The refusal of a key that is not known, by a client that was refused too often: whoever has a known one is not held
    /// up, so that is only known when the key is.
    pub async fn after(&self, code: Option<Code>) -> Result<(), Refusal> {
        match (self.counted, self.held_up, code) {
            (Counted::Keys, Some(wait), Some(code)) if self.counts(code) => {
                Err(self.refuse(wait).await.hint("and the API key of this one is not known"))
            }
            (Counted::Keys | Counted::Everything | Counted::Nothing, _, _) => Ok(()),
        }
    }

    fn counts(&self, code: Code) -> bool {
        match self.counted {
            Counted::Nothing => false,
            Counted::Keys => code == Code::BadApiKey,
            Counted::Everything => matches!(code.class(), Class::Request | Class::Refused),
        }
    }

    async fn refuse(&self, wait: Duration) -> Refusal {
        self.app.metrics().client_limited();
        let quota = self.clients.buckets.quota();
        if self.clients.tells(self.app.now()) {
            let client = self.client;
            tracing::warn!(%client, "more than {quota} calls of a client were refused in a minute; more are refused unseen");
        }
        admission::hold_back().await;
        let detail = format!("more than {quota} calls from this address were refused within a minute");
        Refusal::new(Code::TooManyRefusals, detail).after(wait)
    }
}
