//! Open VSX's trusted publishing: what ovsx calls before it publishes, once for each extension.
//!
//! ovsx keeps the path of the registry's URL, and asks again on 502, 503 and 504.

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
use crate::http::body::printable;
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
use crate::json::Object;
use crate::macaroon::MAX_TEXT as MAX_UPLOAD_TOKEN;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::policy::dialect::Dialect;

const PATH: &str = "/api/-/trusted-publishing/token";

/// The exchange.
pub static EXCHANGE: Endpoint = Endpoint {
    path: PATH,
    base: Base::Registry,
    spelling: Spelling::Native,
    operations: &[Operation {
        access: Access::Job,
        method: Verb::Post,
        id: "exchangeOpenVsxToken",
        summary: "Exchange an ID token for one extension, as ovsx does",
        about: "At the path of the registry's URL, followed by this one. The content type is not looked at. The token is for \
                what the rules grant of this extension. An ID token is good for one exchange an extension, unless the \
                registry's policy says otherwise.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Open(&[
                Member::must("namespace", Shape::SomeText, "The extension's namespace."),
                Member::must("extension", Shape::SomeText, "Its name in there."),
                Member::must("token", Shape::Text(MAX_TOKEN), "The job's ID token."),
            ]),
            example: r#"{"namespace": "acme", "extension": "tools", "token": "eyJhbGciOiJSUzI1NiIs…"}"#,
        }),
        answers: &[Answer::json(
            StatusCode::CREATED,
            "The upload token.",
            Shape::Object(&[
                Member::must("value", Shape::Text(MAX_UPLOAD_TOKEN), "The upload token."),
                Member::must("expiresTimestamp", Shape::Format("date-time"), "Until when it is good."),
            ]),
            r#"{"value": "vsx-AgEM…", "expiresTimestamp": "2026-11-27T00:15:00Z"}"#,
        )],
        failures: &[codes::DIALECT, codes::SUBJECT_TOKEN, codes::DECISION, codes::LATER],
        route: || web::route().to(exchange),
    }],
};

/// `POST /api/-/trusted-publishing/token {"namespace": "…", "extension": "…", "token": "<ID token>"}`: the exchange.
pub async fn exchange(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::Native, request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = tenant::at_url(arrival.request, arrival.public, &arrival.policy, Dialect::OpenVsx, PATH)?;
    let body = body::json_object(&arrival.body)?;
    let (token, package) = (dialect::token(&body, "token")?, package(&body)?);
    let issued = dialect::exchanged(arrival, registry, token, Some(package)).await?;
    let minted = issued.minted();
    let body = json!({
        "value": minted.token.expose(),
        "expiresTimestamp": minted.expires_at.to_string(),
    });
    Ok(dialect::answer(HttpResponse::Created().json(body), &issued))
}

/// The extension that a body names.
///
/// SECURITY: a name has one dot, so neither part can have one and be read as a part of the other.
fn package(body: &Object) -> Result<PackageName, Refusal> {
    let name = format!("{}.{}", dialect::text(body, "namespace")?, dialect::text(body, "extension")?);
    PackageName::parse(Ecosystem::OpenVsx, &name)
        .map_err(|error| Refusal::new(Code::BadRequest, format!("the extension `{}` {error}", printable(&name))))
}
