//! `GET /v1/refusals`: whom the registry's rules have refused lately, and why. Many clients hide the answer that says so.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use serde_json::Value;

use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::error::Refusal;
use crate::http::feed;
use crate::http::verify::calling_registry;
use crate::policy::Policy;

/// The registry's refusals of jobs whose ID token was proven, oldest first, each with its whole explanation.
pub async fn refusals(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    let known = |request: &HttpRequest, policy: &Policy| calling_registry(request, policy).map(|_| ());
    arrival::of_registry(request, payload, public, known, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = calling_registry(arrival.request, &arrival.policy)?;
    let since = feed::since(arrival.request)?;
    let page = arrival.public.app.state().refusals(&registry.key_id, since.as_ref(), arrival.now).await?;
    // An entry that is no JSON was not written by this service; nothing is decided by it.
    let entries = page.entries.iter().filter_map(|(_, entry)| serde_json::from_slice::<Value>(entry).ok());
    Ok(feed::part("refusals", entries.collect(), page.next, page.more))
}
