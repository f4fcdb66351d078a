//! crates.io's trusted publishing: what its action for GitHub calls before cargo runs, and afterwards, to revoke.
//!
//! Clients keep the path of the registry's URL. Cargo itself knows nothing of it: it sends the token as any other.

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
use crate::http::body;
use crate::http::credential;
use crate::http::dialect;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Base;
use crate::http::endpoint::Body;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Verb;
use crate::http::endpoint::codes;
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::tenant;
use crate::identity::token::MAX_TOKEN;
use crate::macaroon::MAX_TEXT as MAX_UPLOAD_TOKEN;
use crate::policy::dialect::Dialect;

const PATH: &str = "/api/v1/trusted_publishing/tokens";

/// The exchange and the revocation.
pub static TOKENS: Endpoint = Endpoint {
    path: PATH,
    base: Base::Registry,
    spelling: Spelling::CratesIo,
    operations: &[
        exchanging(Verb::Post, "exchangeCratesIoToken"),
        // As the first releases of the action did.
        exchanging(Verb::Put, "exchangeCratesIoTokenAsBefore"),
        Operation {
            access: Access::HolderHeader,
            method: Verb::Delete,
            id: "revokeCratesIoToken",
            summary: "Revoke an upload token as crates.io's action does",
            about: "At the path of the registry's URL, followed by this one. As `/v1/revoke`. The action fails the job unless \
                    this succeeds, so it does for a token that has expired as well.",
            parameters: &[],
            body: None,
            answers: &[Answer::empty(StatusCode::NO_CONTENT, "The token is good for nothing; also if it never was.")],
            failures: &[codes::DIALECT, codes::REVOKING, &[Code::UploadTokenMissing]],
            route: || web::route().to(revoke),
        },
    ],
};

const fn exchanging(method: Verb, id: &'static str) -> Operation {
    Operation {
        access: Access::Job,
        method,
        id,
        summary: "Exchange an ID token as crates.io's action does",
        about: "At the path of the registry's URL, followed by this one. The content type is not looked at. The token is for \
                everything that the rules grant.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Open(MEMBERS),
            example: r#"{"jwt": "eyJhbGciOiJSUzI1NiIs…"}"#,
        }),
        answers: ISSUED,
        failures: &[codes::DIALECT, codes::SUBJECT_TOKEN, codes::DECISION, codes::LATER],
        route: || web::route().to(exchange),
    }
}

const MEMBERS: &[Member] = &[Member::must("jwt", Shape::Text(MAX_TOKEN), "The job's ID token.")];

const ISSUED: &[Answer] = &[Answer::json(
    StatusCode::OK,
    "The upload token.",
    Shape::Object(&[Member::must(
        "token",
        Shape::Text(MAX_UPLOAD_TOKEN),
        "The upload token, for `CARGO_REGISTRY_TOKEN`.",
    )]),
    r#"{"token": "cargo-AgEM…"}"#,
)];

/// `POST /api/v1/trusted_publishing/tokens {"jwt": "<ID token>"}`: the exchange.
pub async fn exchange(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::CratesIo, request, payload, public, exchange_answer).await
}

async fn exchange_answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = tenant::at_url(arrival.request, arrival.public, &arrival.policy, Dialect::CratesIo, PATH)?;
    let body = body::json_object(&arrival.body)?;
    let issued = dialect::exchanged(arrival, registry, dialect::token(&body, "jwt")?, None).await?;
    let body = json!({ "token": issued.minted().token.expose() });
    Ok(dialect::answer(HttpResponse::Ok().json(body), &issued))
}

/// `DELETE /api/v1/trusted_publishing/tokens`: 204 whether or not there was anything to revoke.
pub async fn revoke(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::CratesIo, request, payload, public, revoke_answer).await
}

async fn revoke_answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let missing =
        || Refusal::new(Code::UploadTokenMissing, "the request must have one `Authorization`, with an upload token");
    let token = credential::bearer_or_bare(arrival.request).ok_or_else(missing)?;
    let registry = tenant::at_url(arrival.request, arrival.public, &arrival.policy, Dialect::CratesIo, PATH)?;
    arrival.public.app.revoke(&[registry], token, &arrival.caller, arrival.now).await?;
    Ok(HttpResponse::NoContent().insert_header((header::CACHE_CONTROL, "no-store")).finish())
}
