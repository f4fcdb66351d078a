//! The policy for operators: what decides, where it is from, and another reading of its directory.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use serde::Serialize;

use super::Operators;
use super::answer;
use crate::app::Outcome;
use crate::app::Serving;
use crate::app::Status;
use crate::app::Trigger;
use crate::code::Code;
use crate::http::context;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::policy::yaml::Fault;

/// `GET /policy`: the policy in force, and what came of the latest reading.
pub async fn policy(request: HttpRequest, operators: web::Data<Operators>) -> HttpResponse {
    let answer = operators.caller(&request).and_then(|_| {
        let status = operators.app.reloads().ok_or_else(fixed)?.status();
        Ok(answer(HttpResponse::Ok(), &State::from(&*status)))
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
    let caller = operators.caller(request)?.to_owned();
    let reloads = operators.app.reloads().ok_or_else(fixed)?;
    tracing::info!(caller, "an operator asks for a reload of the policy");
    let client = request.peer_addr().map(|address| address.ip());
    let status = reloads.reload(Trigger::Operator { caller, request_id: id.to_owned(), client }).await;
    let state = State::from(&*status);
    match status.last.outcome {
        Outcome::Activated | Outcome::Unchanged => {
            Ok(answer(HttpResponse::Ok(), &Reloaded { changed: status.last.outcome == Outcome::Activated, state }))
        }
        Outcome::Refused | Outcome::Unsettled => {
            let detail = format!("the policy is refused and {} stays in force", state.revision);
            let policy = serde_json::to_value(&state).unwrap_or_default();
            Err(Refusal::new(Code::PolicyRefused, detail).with_policy(policy))
        }
    }
}

fn fixed() -> Refusal {
    Refusal::new(Code::NotFound, "this service's policy is not from a directory")
}

/// What operators see of the policy.
#[derive(Serialize)]
struct State<'a> {
    revision: &'a str,
    active_since: String,
    /// Where it is from.
    serving: &'a str,
    /// Whether what the directory holds is refused, so that something older decides.
    last_good: bool,
    sources: &'a [String],
    issuers: usize,
    registries: usize,
    rules: usize,
    last_reload: Reload<'a>,
}

/// The same after a reload.
#[derive(Serialize)]
struct Reloaded<'a> {
    changed: bool,
    #[serde(flatten)]
    state: State<'a>,
}

#[derive(Serialize)]
struct Reload<'a> {
    at: String,
    outcome: &'a str,
    faults: Vec<Wrong<'a>>,
    /// How many more there are than are listed.
    more_faults: usize,
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

impl<'a> From<&'a Status> for State<'a> {
    fn from(status: &'a Status) -> Self {
        let Status { policy, since, sources, serving, last } = status;
        let faults: Vec<_> = last.faults.iter().map(Wrong::from).collect();
        Self {
            revision: policy.revision(),
            active_since: since.to_string(),
            serving: serving.as_str(),
            last_good: *serving != Serving::Directory,
            sources,
            issuers: policy.issuers().len(),
            registries: policy.registries().len(),
            rules: policy.rule_count(),
            last_reload: Reload {
                at: last.at.to_string(),
                outcome: last.outcome.as_str(),
                more_faults: last.faults.len() - faults.len(),
                faults,
            },
        }
    }
}

impl<'a> From<&'a Fault> for Wrong<'a> {
    fn from(fault: &'a Fault) -> Self {
        let Fault { place, key_path, message, remedy, lint, .. } = fault;
        let code = lint.map(|lint| lint.code);
        Self { file: &place.file, line: place.line, column: place.column, key: key_path, code, message, remedy }
    }
}
