//! The rim: HTTP in, HTTP out. The whole route table is here.
//!
//! Handlers parse and bound what arrives, call one use-case, and render what comes back; they decide nothing. The
//! public listener serves clients and registries, the operations listener probes, scrapers and operators.

use std::io;
use std::net::TcpListener;
use std::num::NonZero;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_web::App as Actix;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::Route;
use actix_web::dev::Server;
use actix_web::guard;
use actix_web::middleware::from_fn;
use actix_web::web;
use actix_web::web::ServiceConfig;
use ipnet::IpNet;

use crate::app::App;
use crate::app::PolicyInForce;
use crate::code::Code;
use crate::http::admission::Connections;
use crate::http::admission::Limit;
use crate::http::admission::Place;
use crate::http::clients::Clients;
use crate::http::endpoint::Base;
use crate::http::endpoint::Endpoint;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::operations::Operators;
use crate::state::StoreError;
use crate::state::revocations::RevokeError;
use crate::time::Timestamp;

pub mod admission;
pub mod arrival;
pub mod authorize;
pub mod body;
pub mod clients;
pub mod context;
pub mod credential;
pub mod dialect;
pub mod endpoint;
pub mod error;
pub mod explain;
pub mod feed;
pub mod introspect;
pub mod metadata;
pub mod notify;
pub mod openapi;
pub mod operations;
pub mod origin;
pub mod rate;
pub mod refusals;
pub mod revocations;
pub mod revoke;
pub mod tenant;
pub mod token;
pub mod verify;

/// Most anonymous calls at once on one replica, those that wait for an identity provider aside. At a millisecond each, most of
/// it the way to the store, that is more than its cores can do.
const MAX_EXCHANGES: usize = 192;
/// Most registries' calls at once on one replica, uses on their way to the store aside.
const MAX_REGISTRY_CALLS: usize = 128;
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long an open connection of a scraper may delay the end of the process.
pub(crate) const OPERATIONS_SHUTDOWN: Duration = Duration::from_secs(1);

/// How the public listener treats connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Threads that serve requests; one per core when not given.
    pub workers: Option<usize>,
    /// Most open connections of all threads together.
    pub connections: usize,
    /// From the first byte of a request to the end of its headers.
    pub read_timeout: Duration,
    /// How long running requests may go on after the signal to stop.
    pub shutdown_timeout: Duration,
}

/// What the public listener's handlers share.
#[derive(Debug)]
pub struct Public {
    /// The service.
    pub app: Arc<App>,
    /// Peers whose forwarded headers count.
    pub trusted_proxies: Vec<IpNet>,
    exchanges: Limit,
    registry_calls: Limit,
    clients: Option<Arc<Clients>>,
}

/// A request that was admitted, with the moment and the rules by which it is decided.
///
/// SECURITY: they come with the place, so they are read when it is there. What ended while one was waited for would
/// else still be granted.
#[derive(Debug)]
pub struct Admitted<'a> {
    /// Its place among those that work at once.
    pub place: Place<'a>,
    /// The moment at which it is decided.
    pub now: Timestamp,
    /// The rules, in one revision throughout.
    pub policy: Arc<PolicyInForce>,
}

impl Public {
    /// Anonymous exchanges and registries' calls have limits of their own, so that a flood of one cannot starve the
    /// other.
    pub fn new(app: Arc<App>, trusted_proxies: Vec<IpNet>) -> Self {
        Self {
            app,
            trusted_proxies,
            exchanges: Limit::new("exchanges", MAX_EXCHANGES),
            registry_calls: Limit::new("registry-calls", MAX_REGISTRY_CALLS),
            clients: None,
        }
    }

    /// A client may be refused so many times a minute before its anonymous calls are refused unseen; `None`: always.
    #[must_use]
    pub fn refusing(mut self, quota: Option<u32>) -> Self {
        self.clients = quota.map(|quota| Arc::new(Clients::new(quota)));
        self
    }

    /// Admits an anonymous call while it runs, or refuses it.
    ///
    /// SECURITY: to be asked when the body is there. Strangers who send theirs byte by byte would else hold every place;
    /// like this they hold connections, which have a limit of their own.
    pub async fn admit_exchange(&self) -> Result<Admitted<'_>, Refusal> {
        Ok(self.admitted(self.exchanges.admit(self.app.metrics()).await?))
    }

    /// Admits a registry's call while it runs, or refuses it.
    pub async fn admit_registry_call(&self) -> Result<Admitted<'_>, Refusal> {
        Ok(self.admitted(self.registry_calls.admit(self.app.metrics()).await?))
    }

    fn admitted<'a>(&self, place: Place<'a>) -> Admitted<'a> {
        // In this order: what rules on their way out grant counts as granted before those that come.
        let now = self.app.now();
        Admitted { place, now, policy: self.app.policy() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let detail = match error {
            StoreError::Unavailable { .. } | StoreError::NotAsked { .. } => "the store does not answer",
            StoreError::Full => "the store is full",
        };
        Self::new(Code::StoreUnavailable, detail)
    }
}

/// Every endpoint of the public listener, in the order of its documentation.
pub static ENDPOINTS: &[&Endpoint] = &[
    &token::ENDPOINT,
    &metadata::ENDPOINT,
    &dialect::pypi::DISCOVERY,
    &dialect::pypi::AUDIENCE,
    &dialect::pypi::MINT,
    &dialect::pypi::GITHUB_MINT,
    &dialect::pypi::BURN,
    &dialect::crates_io::TOKENS,
    &dialect::npm::EXCHANGE,
    &dialect::rubygems::EXCHANGE,
    &dialect::nuget::EXCHANGE,
    &dialect::conda::MINT,
    &dialect::open_vsx::EXCHANGE,
    &revoke::ENDPOINT,
    &verify::ENDPOINT,
    &introspect::ENDPOINT,
    &explain::ENDPOINT,
    &revocations::ENDPOINT,
    &refusals::ENDPOINT,
    &notify::ENDPOINT,
    &authorize::ENDPOINT,
    &authorize::WITH_PATH,
    &openapi::DOCUMENT,
    &openapi::PAGE,
];

impl From<RevokeError> for Refusal {
    fn from(error: RevokeError) -> Self {
        match error {
            RevokeError::ShareUsed { retry_after } => {
                let detail = "nothing was revoked: as many tokens of this registry as may be were revoked in this hour";
                Self::new(Code::RevocationsExhausted, detail).after(retry_after)
            }
            RevokeError::Store(error) => Self::from(error).hint(match error {
                StoreError::Unavailable { .. } => "the revocation may hold all the same: to repeat it does no harm",
                StoreError::NotAsked { .. } => "nothing was revoked",
                StoreError::Full => {
                    "nothing was revoked: the store, or its list of revocations, has no room until some end"
                }
            }),
        }
    }
}

/// The public listener: its routes behind the middleware that every request passes.
pub fn public_routes(public: web::Data<Public>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    move |config| {
        let routes = web::scope("").wrap(from_fn(context::middleware)).default_service(web::to(not_found));
        // What any path can be in front of comes last: it hides nothing that is at the root of the host.
        let of = |base: Base| ENDPOINTS.iter().filter(move |endpoint| endpoint.base == base);
        let routes = of(Base::Host)
            .chain(of(Base::Registry))
            .fold(routes, |routes, endpoint| routes.service(endpoint.resource()));
        config.app_data(public.clone()).service(routes);
    }
}

/// `GET`, and `HEAD` which asks for the same without the body.
fn get() -> Route {
    web::route().guard(guard::Any(guard::Get()).or(guard::Head()))
}

/// The operations listener: its routes.
pub fn operations_routes(operators: web::Data<Operators>) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    move |config| {
        config
            .app_data(operators.clone())
            .service(web::resource("/livez").route(get().to(operations::livez)))
            .service(web::resource("/readyz").route(get().to(operations::readyz)))
            .service(web::resource("/metrics").route(get().to(operations::metrics)))
            .service(web::resource("/policy").route(get().to(operations::policy::policy)))
            .service(web::resource("/policy/reload").route(web::post().to(operations::policy::reload)))
            .service(web::resource("/issuers").route(get().to(operations::issuers)))
            .service(web::resource("/issuers/{id}/refresh").route(web::post().to(operations::refresh)))
            .service(
                web::resource("/stops")
                    .route(get().to(operations::stops::list))
                    .route(web::post().to(operations::stops::stop)),
            )
            .service(web::resource("/stops/{id}").route(web::delete().to(operations::stops::lift)));
    }
}

/// Serves the public routes on the listener, with TLS when a configuration is given. Must be called on an actix
/// runtime.
pub fn serve_public(
    public: web::Data<Public>,
    listener: TcpListener,
    tls: Option<rustls::ServerConfig>,
    limits: Limits,
) -> io::Result<Server> {
    let routes = public_routes(public);
    let connections = Arc::new(Connections::new(limits.connections));
    let factory = move || Actix::new().configure(routes.clone());
    let server = HttpServer::new(factory)
        .on_connect(move |_, connection| {
            connection.insert(connections.open());
        })
        .client_request_timeout(limits.read_timeout)
        .shutdown_timeout(limits.shutdown_timeout.as_secs())
        .keep_alive(KEEP_ALIVE)
        .disable_signals();
    let workers = limits.workers.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
    let connections = limits.connections.div_ceil(workers.max(1)).max(1);
    let server = server.workers(workers).max_connections(connections);
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

/// Serves the operators' routes on the listener.
pub fn serve_operations(operators: web::Data<Operators>, listener: TcpListener) -> io::Result<Server> {
    let routes = operations_routes(operators);
    let factory = move || Actix::new().configure(routes.clone());
    let server = HttpServer::new(factory).workers(1).shutdown_timeout(OPERATIONS_SHUTDOWN.as_secs()).disable_signals();
    Ok(server.listen(listener)?.run())
}

async fn not_found(request: HttpRequest) -> HttpResponse {
    let path = request.path();
    let mut detail = format!("there is no endpoint at `{}`", body::printable(path));
    // Whoever writes a client tries the upload URL's own path first.
    let at_root = ENDPOINTS.iter().filter(|endpoint| endpoint.base == Base::Host);
    if let Some(endpoint) = at_root.map(|endpoint| endpoint.path).find(|endpoint| path.ends_with(endpoint)) {
        detail = format!("{detail}; that one is at the root of the host: `{endpoint}`");
    }
    Refusal::new(Code::NotFound, detail).respond(Spelling::Native, &context::id_of(&request))
}
