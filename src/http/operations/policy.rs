//! The policy for operators: what decides, where it is from, and another reading of its directory.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use super::Operators;
use super::answer;
use crate::app::App;
use crate::app::Outcome;
use crate::app::Serving;
use crate::app::Status;
use crate::app::Trigger;
use crate::code::Code;
use crate::escape::escape;
use crate::http::context;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::policy::Policy;
use crate::policy::bundle::poll::Health;
use crate::policy::yaml::Fault;

/// `GET /policy`: the policy in force, and what came of the latest reading.
pub async fn policy(request: HttpRequest, operators: web::Data<Operators>) -> HttpResponse {
    let answer = operators.caller(&request).and_then(|_| {
        let status = operators.app.reloads().ok_or_else(fixed)?.status();
        Ok(answer(HttpResponse::Ok(), &state(&operators.app, &status)))
    });
    operators.respond(answer)
}

/// `POST /policy/reload`: reads the policy directory now. 422 with every fault if what it holds is refused: then the
/// policy in force stays so.
pub async fn reload(request: HttpRequest, operators: web::Data<Operators>) -> HttpResponse {
    let id = context::draw_id(operators.app.now());
    let answer = reloaded(&request, &operators, &id).await;
    answer.unwrap_or_else(|refusal| refusal.respond(Spelling::Native, &id))
}

async fn reloaded(request: &HttpRequest, operators: &Operators, id: &str) -> Result<HttpResponse, Refusal> {
    let caller = operators.caller(request)?;
    let reloads = operators.app.reloads().ok_or_else(fixed)?;
    tracing::info!(caller, "an operator asks for a reload of the policy");
    let client = request.peer_addr().map(|address| address.ip());
    let status = reloads.reload(Trigger::Operator { caller, request_id: id.to_owned(), client }).await;
    let state = state(&operators.app, &status);
    match status.last.outcome {
        Outcome::Activated | Outcome::Unchanged => {
            let changed = status.last.outcome == Outcome::Activated;
            Ok(answer(HttpResponse::Ok(), &Reloaded { changed, state: &state }))
        }
        Outcome::Refused | Outcome::Unsettled => {
            let detail = format!("the policy is refused and {} stays in force", operators.app.policy().revision());
            Err(Refusal::new(Code::PolicyRefused, detail).with_policy(state))
        }
    }
}

fn fixed() -> Refusal {
    Refusal::new(Code::NotFound, "this service's policy is not from a directory")
}

/// What operators see of the policy: what decides, its warnings, the registries' own rules, and the latest reading.
fn state(app: &App, status: &Status) -> Value {
    let policy = app.policy();
    let Status { sources, serving, last, .. } = status;
    json!({
        "revision": policy.revision(),
        "directory_revision": policy.directory_revision(),
        "active_since": policy.since().to_string(),
        "serving": serving.as_str(),
        // What the directory holds is refused, so that something older decides.
        "last_good": *serving != Serving::Directory,
        "sources": sources,
        "issuers": policy.issuers().len(),
        "registries": policy.registries().len(),
        "rules": policy.rule_count(),
        "warnings": {
            "count": policy.warnings().len(),
            "waived": policy.warnings().waived(),
            "listed": policy.warnings().iter().map(Wrong::from).collect::<Vec<_>>(),
        },
        "bundles": app.bundles().health().iter().map(|health| bundle(&policy, health)).collect::<Vec<_>>(),
        "last_reload": {
            "at": last.at.to_string(),
            "outcome": last.outcome.as_str(),
            "faults": last.faults.iter().map(Wrong::from).collect::<Vec<_>>(),
            "more_faults": last.faults.len() - last.faults.iter().count(),
        },
    })
}

/// What operators see of the rules that a registry serves itself.
fn bundle(policy: &Policy, health: &Health) -> Value {
    let Health { registry, next, failing, last_error } = health;
    let held = policy.bundle(registry);
    json!({
        "registry": registry,
        "serial": held.map(|bundle| bundle.serial()),
        "rules": held.map(|bundle| bundle.rule_count()),
        "not_after": held.map(|bundle| bundle.not_after().to_string()),
        "next_poll": next.map(|next| next.to_string()),
        "failing_since": failing.map(|failing| failing.since.to_string()),
        "failures": failing.map_or(0, |failing| failing.times),
        "last_error": last_error.as_ref().map(|error| json!({"code": error.code(), "message": escape(&error.to_string())})),
    })
}

/// The same after a reload.
#[derive(Serialize)]
struct Reloaded<'a> {
    changed: bool,
    #[serde(flatten)]
    state: &'a Value,
}

/// One fault. Texts of the policy in it are escaped already.
#[derive(Serialize)]
struct Wrong<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    key: &'a str,
    /// The lint code, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    message: &'a str,
    remedy: &'a str,
}

impl<'a> From<&'a Fault> for Wrong<'a> {
    fn from(fault: &'a Fault) -> Self {
        let Fault { place, key_path, message, remedy, lint, .. } = fault;
        let code = lint.map(|lint| lint.code);
        Self { file: &place.file, line: place.line, column: place.column, key: key_path, code, message, remedy }
    }
}
