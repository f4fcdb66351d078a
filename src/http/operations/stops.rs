//! Stops for operators: what is switched off in an emergency, on all replicas within a second.

use std::sync::Arc;
use std::time::Duration;

use actix_web::Error;
use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use serde::Serialize;
use serde_json::json;

use super::Operators;
use super::answer;
use crate::app::App;
use crate::app::Caller;
use crate::code::Code;
use crate::http::body;
use crate::http::body::printable;
use crate::http::context;
use crate::http::context::Working;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::verify::required;
use crate::http::verify::text;
use crate::json::Object;
use crate::policy::Policy;
use crate::state::Cursor;
use crate::state::StoreError;
use crate::state::stops::LONGEST_STOP;
use crate::state::stops::Scope;
use crate::state::stops::Stop;
use crate::time::Timestamp;

const MEMBERS: [&str; 6] = ["issuer", "registry", "rule", "repository_id", "reason", "until"];

/// What operators see of a stop.
#[derive(Serialize)]
struct Entry<'a> {
    id: String,
    #[serde(flatten)]
    scope: &'a Scope,
    reason: &'a str,
    by: &'a str,
    at: String,
    until: String,
}

impl<'a> Entry<'a> {
    fn new(name: Cursor, stop: &'a Stop) -> Self {
        let Stop { scope, reason, by, at, until } = stop;
        Self { id: name.to_string(), scope, reason, by, at: at.to_string(), until: until.to_string() }
    }
}

/// `GET /stops`: the stops that last, as this replica knows them, and when it last learnt of others'.
pub async fn list(request: HttpRequest, operators: web::Data<Operators>) -> HttpResponse {
    let listed = operators.caller(&request).map(|_| {
        let (state, now) = (operators.app.state(), operators.app.now());
        let stops = state.stops(now);
        let entries: Vec<_> = stops.iter().map(|(name, stop)| Entry::new(*name, stop)).collect();
        let synced_at = state.stops_synced_at().map(|moment| moment.to_string());
        answer(HttpResponse::Ok(), &json!({"stops": entries, "synced_at": synced_at}))
    });
    operators.respond(listed)
}

/// `POST /stops {issuer | registry | rule | repository_id, reason, until}`: stops whatever fits all that it names.
pub async fn stop(
    request: HttpRequest,
    payload: web::Payload,
    operators: web::Data<Operators>,
) -> Result<HttpResponse, Error> {
    let id = context::draw_id(operators.app.now());
    let app = Arc::clone(&operators.app);
    to_its_end(&app, &id.clone(), async move { stopped(&request, payload, &operators, &id).await }).await
}

/// `DELETE /stops/{id}`: ends a stop before its time.
pub async fn lift(
    request: HttpRequest,
    name: web::Path<String>,
    operators: web::Data<Operators>,
) -> Result<HttpResponse, Error> {
    let id = context::draw_id(operators.app.now());
    let app = Arc::clone(&operators.app);
    to_its_end(&app, &id.clone(), async move { lifted(&request, &name, &operators, &id).await }).await
}

/// What is stopped or lifted is recorded, and answered, also when whoever asked for it has gone.
async fn to_its_end(
    app: &Arc<App>,
    id: &str,
    answer: impl Future<Output = Result<HttpResponse, Refusal>> + 'static,
) -> Result<HttpResponse, Error> {
    let answer = match Working::begin(app) {
        Ok(working) => working.to_its_end(async { Ok(answer.await) }, Spelling::Native, id).await?,
        Err(refusal) => Err(refusal),
    };
    Ok(answer.unwrap_or_else(|refusal| refusal.respond(Spelling::Native, id)))
}

async fn stopped(
    request: &HttpRequest,
    payload: web::Payload,
    operators: &Operators,
    id: &str,
) -> Result<HttpResponse, Refusal> {
    let by = operators.caller(request)?;
    let body = body::json_object(&body::read(request, payload).await?)?;
    let now = operators.app.now();
    let stop = read(&body, by, now)?;
    exists(&stop.scope, &operators.app.policy())?;
    let name = operators.app.stop(&stop, &caller(request, id)).await.map_err(|error| failed(error, "stop"))?;
    tracing::warn!(caller = stop.by, stop = %name, "an operator has stopped something");
    Ok(answer(HttpResponse::Created(), &Entry::new(name, &stop)))
}

async fn lifted(request: &HttpRequest, name: &str, operators: &Operators, id: &str) -> Result<HttpResponse, Refusal> {
    let by = operators.caller(request)?;
    let unknown = || Refusal::new(Code::NoSuchStop, "there is no stop of that name that still lasts");
    let name: Cursor = name.parse().map_err(|_| unknown())?;
    let lifted = operators.app.lift(name, &by, &caller(request, id), operators.app.now()).await;
    let stop = lifted.map_err(|error| failed(error, "lift"))?.ok_or_else(unknown)?;
    tracing::warn!(caller = by, stop = %name, "an operator has lifted a stop");
    Ok(answer(HttpResponse::Ok(), &Entry::new(name, &stop)))
}

/// What is asked for again after it was carried out does no harm, but an operator has to know that it may be in force; and what
/// to do in the emergency if it surely is not.
fn failed(error: StoreError, what: &str) -> Refusal {
    let hint = match error {
        StoreError::Unavailable { .. } => {
            format!("the {what} may hold all the same: GET /stops says so once the store answers")
        }
        StoreError::NotAsked { .. } => format!("it was not asked, so the {what} does not hold"),
        StoreError::Full => {
            format!("the {what} does not hold: the store, or its list of stops, has no room; switch off in the policy")
        }
    };
    Refusal::from(error).hint(&hint)
}

fn read(body: &Object, by: String, now: Timestamp) -> Result<Stop, Refusal> {
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    if let Some((unknown, _)) = body.iter().find(|(name, _)| !MEMBERS.contains(name)) {
        return Err(bad(format!("`{}` is not a member; known are {}", printable(unknown), MEMBERS.join(", "))));
    }
    let member = |name: &str| Ok::<_, Refusal>(text(body, name)?.map(str::to_owned));
    let scope = Scope {
        issuer: member("issuer")?,
        registry: member("registry")?,
        rule: member("rule")?,
        repository_id: member("repository_id")?,
    };
    if scope.is_empty() {
        return Err(
            bad("say what to stop: `issuer`, `registry`, `rule`, `repository_id`, or what fits several".into()),
        );
    }
    let reason = text(body, "reason")?.ok_or_else(|| bad("`reason` is missing".to_owned()))?.to_owned();
    let until = Timestamp::parse_rfc3339(required(body, "until")?);
    let until = until.ok_or_else(|| bad("`until` must be a time like 2026-11-26T14:00:00Z".to_owned()))?;
    let within = now.plus(LONGEST_STOP);
    if until <= now || until > within.plus(Duration::from_secs(1)) {
        return Err(bad(format!(
            "`until` must be after now and at most a day away, {within}: then the policy says it"
        )));
    }
    Ok(Stop { scope, reason, by, at: now, until: until.min(within) })
}

/// A stop for a name that is misspelt would stop nothing and reassure. Rules and projects may be gone from the policy
/// while their tokens live, so they are taken as they are.
fn exists(scope: &Scope, policy: &Policy) -> Result<(), Refusal> {
    let issuer = |issuer: &String| policy.issuers().by_id(issuer).is_some() || issuer.starts_with("https://");
    if !scope.issuer.as_ref().is_none_or(issuer) {
        let detail = "the policy has no issuer of this id; one that it no longer has is named by its URL";
        return Err(Refusal::new(Code::NoSuchIssuer, detail));
    }
    if scope.registry.as_ref().is_some_and(|registry| policy.registries().by_id(registry).is_none()) {
        return Err(Refusal::new(Code::BadRequest, "the policy has no registry of this id"));
    }
    Ok(())
}

fn caller(request: &HttpRequest, id: &str) -> Caller {
    Caller { request_id: id.to_owned(), client: request.peer_addr().map(|address| address.ip()) }
}
