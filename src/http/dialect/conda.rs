//! conda's trusted publishing as prefix.dev has it: what rattler calls, and with it pixi and rattler-build.
//!
//! rattler drops the path and asks the root of the host, which has one such registry. It takes the whole body of the answer
//! for the token, shows nothing of a refusal, and asks again up to four times on 429 and 5xx.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web;

use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body;
use crate::http::dialect;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Base;
use crate::http::endpoint::Body;
use crate::http::endpoint::Content;
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

/// The exchange.
pub static MINT: Endpoint = Endpoint {
    path: "/api/oidc/mint_token",
    base: Base::Host,
    spelling: Spelling::Native,
    operations: &[Operation {
        access: Access::Job,
        method: Verb::Post,
        id: "mintCondaToken",
        summary: "Exchange an ID token as rattler does",
        about: "At the root of the host, whatever the path of the registry's URL is. The content type is not looked at. The \
                token is for everything that the rules grant.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Open(&[Member::must("token", Shape::Text(MAX_TOKEN), "The job's ID token.")]),
            example: r#"{"token": "eyJhbGciOiJSUzI1NiIs…"}"#,
        }),
        answers: &[Answer {
            status: StatusCode::OK,
            about: "The upload token and nothing else, not even the end of a line.",
            content: Some(Content { media: TEXT, shape: Shape::Text(MAX_UPLOAD_TOKEN), example: r#""conda-AgEM…""# }),
            headers: &[],
        }],
        failures: &[codes::DIALECT, codes::SUBJECT_TOKEN, codes::DECISION, codes::LATER],
        route: || web::route().to(mint),
    }],
};

const TEXT: &str = "text/plain";

/// `POST /api/oidc/mint_token {"token": "<ID token>"}`: the exchange.
pub async fn mint(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::Native, request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = tenant::of_dialect(arrival.request, arrival.public, &arrival.policy, Dialect::Conda)?;
    let body = body::json_object(&arrival.body)?;
    let issued = dialect::exchanged(arrival, registry, dialect::token(&body, "token")?, None).await?;
    let text = issued.minted().token.expose().clone();
    Ok(dialect::answer(HttpResponse::Ok().content_type(TEXT).body(text), &issued))
}
