//! The operations listener, on a port of its own that is never public: health and metrics for programs; for operators,
//! who present an API key, the policy and the identity providers' keys.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::HttpResponseBuilder;
use actix_web::http::header;
use actix_web::web;
use arc_swap::ArcSwap;
use serde::Serialize;

use crate::app::App;
use crate::app::Readiness;
use crate::code::Code;
use crate::escape::escape;
use crate::http::arrival;
use crate::http::context;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::identity::cache::Age;
use crate::identity::cache::Status;
use crate::identity::issuer::KeySource;
use crate::identity::keys::Health;
use crate::identity::keys::LastError;
use crate::policy::caller;
use crate::policy::caller::Caller;
use crate::telemetry::metrics::CONTENT_TYPE;
use crate::time::Timestamp;

pub mod policy;
pub mod stops;

/// How long an operator waits for a refresh unless told otherwise; it goes on after that: discovery and key set may take 2 s each.
const PATIENCE: Duration = Duration::from_millis(2500);

/// What the handlers share.
#[derive(Debug)]
pub struct Operators {
    app: Arc<App>,
    callers: Arc<ArcSwap<Vec<Caller>>>,
    patience: Duration,
}

impl Operators {
    /// Only these callers may use the protected endpoints; with none, nobody.
    pub fn new(app: Arc<App>, callers: Vec<Caller>) -> Self {
        Self::following(app, Arc::new(ArcSwap::from_pointee(callers)))
    }

    /// The same, with those that are there when a request comes.
    pub const fn following(app: Arc<App>, callers: Arc<ArcSwap<Vec<Caller>>>) -> Self {
        Self { app, callers, patience: PATIENCE }
    }

    /// How long an operator waits for a refresh.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// The name of the operator whose API key the request presents.
    fn caller(&self, request: &HttpRequest) -> Result<String, Refusal> {
        let callers = self.callers.load();
        if callers.is_empty() {
            return Err(Refusal::new(Code::OperationsClosed, "nobody is configured who may use this endpoint"));
        }
        let digest = arrival::key_digest(request)?;
        let caller = caller::find(&callers, &digest);
        caller
            .map(|caller| caller.name.clone())
            .ok_or_else(|| Refusal::new(Code::BadApiKey, "the API key is not known"))
    }

    fn respond(&self, answer: Result<HttpResponse, Refusal>) -> HttpResponse {
        answer.unwrap_or_else(|refusal| refusal.respond(Spelling::Native, &context::draw_id(self.app.now())))
    }
}

/// `GET /livez`: the process answers.
pub async fn livez() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body("ok\n")
}

/// `GET /readyz`: requests can be served. Ready does not depend on any one identity provider: one that is down must
/// not take the others' releases with it.
pub async fn readyz(operators: web::Data<Operators>) -> HttpResponse {
    let (mut response, reason) = match operators.app.readiness() {
        Readiness::Ready => (HttpResponse::Ok(), "ready\n"),
        Readiness::NoMintingKey => {
            let reason = "not ready: no key of the ring may mint now; see `trustmint keys list`\n";
            (HttpResponse::ServiceUnavailable(), reason)
        }
        Readiness::Draining => (HttpResponse::ServiceUnavailable(), "not ready: about to end\n"),
    };
    response.content_type("text/plain; charset=utf-8").body(reason)
}

/// `GET /metrics`: what is counted, in Prometheus' text format.
pub async fn metrics(operators: web::Data<Operators>) -> HttpResponse {
    match operators.app.metrics().render() {
        Ok(text) => HttpResponse::Ok().content_type(CONTENT_TYPE).body(text),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}

/// `GET /issuers`: every configured identity provider and how its keys are, by id.
pub async fn issuers(request: HttpRequest, operators: web::Data<Operators>) -> HttpResponse {
    let answer = operators.caller(&request).map(|_| {
        let health = operators.app.keys().health();
        answer(HttpResponse::Ok(), &health.iter().map(State::from).collect::<Vec<_>>())
    });
    operators.respond(answer)
}

/// `POST /issuers/{id}/refresh`: fetches one identity provider's keys now, and answers with how they are after that;
/// 202 when the refresh has not ended yet.
pub async fn refresh(request: HttpRequest, id: web::Path<String>, operators: web::Data<Operators>) -> HttpResponse {
    let answer = refreshed(&request, &id, &operators).await;
    operators.respond(answer)
}

async fn refreshed(request: &HttpRequest, id: &str, operators: &Operators) -> Result<HttpResponse, Refusal> {
    let caller = operators.caller(request)?;
    let keys = operators.app.keys();
    let named = || keys.health().into_iter().find(|health| health.issuer.id == id);
    let unknown = || Refusal::new(Code::NoSuchIssuer, "the policy has no issuer of this id");
    let issuer = named().ok_or_else(unknown)?.issuer;
    tracing::info!(issuer = %issuer.id, caller, "an operator asks for a refresh of the issuer's keys");
    let Some(ended) = keys.refresh_now(issuer.url(), operators.patience).await else {
        return Err(Refusal::new(Code::StaticKeys, "the issuer's keys are a file, and nothing is fetched for it"));
    };
    let health = named().ok_or_else(unknown)?;
    let response = if ended { HttpResponse::Ok() } else { HttpResponse::Accepted() };
    Ok(answer(response, &State::from(&health)))
}

fn answer(mut response: HttpResponseBuilder, body: &impl Serialize) -> HttpResponse {
    response.insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

/// What operators see of one issuer, or of one family under its template. Members that do not apply are `null`.
#[derive(Serialize)]
struct State<'a> {
    id: &'a str,
    url: &'a str,
    provider: &'a str,
    enabled: bool,
    source: &'a str,
    keys: usize,
    kids: &'a [String],
    age: Option<&'a str>,
    fetched_at: Option<String>,
    refresh_at: Option<String>,
    failing_since: Option<String>,
    cooling: Option<bool>,
    last_error: Option<ErrorState<'a>>,
}

#[derive(Serialize)]
struct ErrorState<'a> {
    at: String,
    code: &'a str,
    message: Cow<'a, str>,
}

impl<'a> From<&'a Health> for State<'a> {
    fn from(health: &'a Health) -> Self {
        let Health { issuer, status, kids, last_error } = health;
        let status = status.as_ref();
        let time = |of: fn(&Status) -> Option<Timestamp>| status.and_then(of).map(|moment| moment.to_string());
        Self {
            id: &issuer.id,
            url: issuer.keys_name(),
            provider: issuer.provider().name,
            enabled: issuer.enabled,
            source: match issuer.keys {
                KeySource::Remote { jwks_uri: None, .. } => "discovery",
                KeySource::Remote { jwks_uri: Some(_), .. } => "jwks_uri",
                KeySource::Static(_) => "static",
            },
            keys: status.map_or(kids.len(), |status| status.keys),
            kids,
            age: status.map(|status| age(status.age)),
            fetched_at: time(|status| status.fetched_at),
            refresh_at: time(|status| status.refresh_at),
            failing_since: time(|status| status.failing_since),
            cooling: status.map(|status| status.cooling),
            last_error: last_error.as_ref().map(ErrorState::from),
        }
    }
}

impl<'a> From<&'a LastError> for ErrorState<'a> {
    fn from(error: &'a LastError) -> Self {
        // The message may quote what the provider sent.
        Self { at: error.at.to_string(), code: error.code, message: escape(&error.message) }
    }
}

const fn age(age: Age) -> &'static str {
    match age {
        Age::Empty => "empty",
        Age::Fresh => "fresh",
        Age::Stale => "stale",
        Age::Dead => "dead",
    }
}
