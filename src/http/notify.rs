//! `POST /v1/policy/notify`: a registry says that it serves another bundle of its own rules.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use serde_json::json;

use crate::code::Code;
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
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;

/// The endpoint.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/policy/notify",
    base: Base::Host,
    spelling: Spelling::Native,
    operations: &[Operation {
        access: Access::Registry,
        method: Verb::Post,
        id: "notifyPolicy",
        summary: "Say that the registry serves another bundle of rules",
        about: "Brings the next poll of the registry's own rules forward. Nothing in the body is read.",
        parameters: &[],
        body: None,
        answers: &[Answer::json(
            StatusCode::ACCEPTED,
            "When they will be asked for.",
            Shape::Object(&[Member::must("poll_at", Shape::Format("date-time"), "That moment.")]),
            r#"{"poll_at": "2026-11-26T14:00:05Z"}"#,
        )],
        failures: &[&[Code::NotFound]],
        route: || web::route().to(notify),
    }],
};

/// Brings the next poll forward: 202, with when it will be. Nothing in the body is read.
pub async fn notify(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::of_registry(request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = calling_registry(arrival.request, &arrival.policy)?;
    let none = || Refusal::new(Code::NotFound, "the policy says nowhere that this registry serves rules of its own");
    let at = arrival.public.app.bundles().notice(&arrival.policy, &registry.id).ok_or_else(none)?;
    let answer = json!({"poll_at": at.to_string()});
    Ok(HttpResponse::Accepted().insert_header((header::CACHE_CONTROL, "no-store")).json(answer))
}
