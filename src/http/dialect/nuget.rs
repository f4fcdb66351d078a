//! NuGet's trusted publishing: what its action for GitHub calls before `dotnet nuget push`.
//!
//! The action is told the URL of the endpoint, and takes no status but 200 for an answer.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
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
use crate::macaroon::MAX_TEXT as MAX_UPLOAD_TOKEN;
use crate::policy::dialect::Dialect;

const PATH: &str = "/api/v2/token";

/// The exchange.
pub static EXCHANGE: Endpoint = Endpoint {
    path: PATH,
    base: Base::Registry,
    spelling: Spelling::NuGet,
    operations: &[Operation {
        access: Access::JobHeader,
        method: Verb::Post,
        id: "exchangeNuGetToken",
        summary: "Exchange an ID token as NuGet's action does",
        about: "At the path of the registry's URL, followed by this one. The token is for everything that the rules grant.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Open(&[
                Member::must(
                    "username",
                    Shape::SomeText,
                    "Who set up the publishing. It decides nothing: the ID token does.",
                ),
                Member::must("tokenType", Shape::Words(&[API_KEY]), "The only kind that there is."),
            ]),
            example: r#"{"username": "acme", "tokenType": "ApiKey"}"#,
        }),
        answers: &[Answer::json(
            StatusCode::OK,
            "The upload token.",
            Shape::Object(&[
                Member::must("tokenType", Shape::Words(&[API_KEY]), "What it is."),
                Member::must("expires", Shape::Format("date-time"), "Until when it is good."),
                Member::must("apiKey", Shape::Text(MAX_UPLOAD_TOKEN), "The upload token, sent as `X-NuGet-ApiKey`."),
            ]),
            r#"{"tokenType": "ApiKey", "expires": "2026-11-27T00:15:00Z", "apiKey": "nuget-AgEM…"}"#,
        )],
        failures: &[codes::DIALECT, codes::SUBJECT_TOKEN, codes::DECISION, codes::LATER],
        route: || web::route().to(exchange),
    }],
};

const API_KEY: &str = "ApiKey";

/// `POST /api/v2/token {"username": "…", "tokenType": "ApiKey"}`, with the ID token as `Bearer`.
pub async fn exchange(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::NuGet, request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let missing = "the request must have one `Authorization` header, with the ID token as `Bearer`";
    let token = credential::bearer(arrival.request).ok_or_else(|| Refusal::new(Code::TokenMissing, missing))?;
    let registry = tenant::at_url(arrival.request, arrival.public, &arrival.policy, Dialect::NuGet, PATH)?;
    if body::media_type(arrival.request) != body::JSON {
        return Err(Refusal::new(Code::UnsupportedMediaType, format!("the body must be `{}`", body::JSON)));
    }
    let body = body::json_object(&arrival.body)?;
    if dialect::text(&body, "username")?.is_empty() {
        return Err(Refusal::new(Code::BadRequest, "the body has no `username`"));
    }
    if dialect::text(&body, "tokenType")? != API_KEY {
        return Err(Refusal::new(Code::BadRequest, format!("`tokenType` must be `{API_KEY}`")));
    }
    let issued = dialect::exchanged(arrival, registry, token, None).await?;
    let minted = issued.minted();
    let body = json!({
        "tokenType": API_KEY,
        "expires": minted.expires_at.to_string(),
        "apiKey": minted.token.expose(),
    });
    Ok(dialect::answer(HttpResponse::Ok().json(body), &issued))
}
