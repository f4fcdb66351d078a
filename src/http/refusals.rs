//! `GET /v1/refusals`: whom the registry's rules have refused lately, and why. Many clients hide the answer that says so.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web;
use serde_json::Value;

use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::arrival::calling_registry;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Base;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Verb;
use crate::http::endpoint::codes;
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::feed;

/// The endpoint.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/refusals",
    base: Base::Host,
    spelling: Spelling::Native,
    operations: &[Operation {
        access: Access::Registry,
        method: Verb::Get,
        id: "listRefusals",
        summary: "Which jobs the rules refused lately, and why",
        about: "Refused exchanges of the last day, the latest thousand, oldest first, whose ID token was proven: half of the \
                clients hide the answer that says why. A window for people, which may have gaps; the audit log has more.",
        parameters: &[feed::SINCE],
        body: None,
        answers: &[Answer::json(
            StatusCode::OK,
            "A part of the list.",
            Shape::Object(&[
                Member::must("refusals", Shape::List(&Shape::Open(REFUSAL)), "The refusals, oldest first."),
                feed::NEXT,
                feed::MORE,
            ]),
            r#"{"refusals": [{"time": "2026-11-26T14:00:00Z", "request_id": "019ac0de-0000-7000-8000-000000000000", "code": "environment-mismatch", "message": "the rule `widgets-release` wants `environment: release`, and the token has `environment: staging`", "claims": {"repository": "acme/widgets"}, "explanation": {}}], "next": "1795736400123-0", "more": false}"#,
        )],
        failures: &[codes::STORE],
        route: || web::route().to(refusals),
    }],
};

const REFUSAL: &[Member] = &[
    Member::must("time", Shape::Format("date-time"), "When."),
    Member::must("request_id", Shape::AnyText, "The id in the job's answer."),
    Member::must("code", Shape::AnyText, "The code in it."),
    Member::must("message", Shape::AnyText, "What the job was told."),
    Member::may("claims", Shape::AnyObject, "The job's public claims."),
    Member::may("explanation", Shape::OrNull(&Shape::AnyObject), "Rule by rule what was wanted, nearest first."),
];

/// The registry's refusals of jobs whose ID token was proven, oldest first, each with its whole explanation.
pub async fn refusals(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::of_registry(request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = calling_registry(arrival.request, &arrival.policy)?;
    let since = feed::since(arrival.request)?;
    let page = arrival.public.app.state().refusals(&registry.key_id, since.as_ref(), arrival.now).await?;
    // An entry that is no JSON was not written by this service; nothing is decided by it.
    let entries = page.entries.iter().filter_map(|(_, entry)| serde_json::from_slice::<Value>(entry).ok());
    Ok(feed::part("refusals", entries.collect(), page.next, page.more))
}
