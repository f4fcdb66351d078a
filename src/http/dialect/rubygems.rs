//! RubyGems' trusted publishing: what its action for GitHub calls before `gem push`.
//!
//! Clients keep the path of the gem server's URL.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web;
use serde_json::json;

use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body;
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
use crate::package::Action;
use crate::package::Permissions;
use crate::policy::dialect::Dialect;

const PATH: &str = "/api/v1/oidc/trusted_publisher/exchange_token";

/// The exchange.
pub static EXCHANGE: Endpoint = Endpoint {
    path: PATH,
    base: Base::Registry,
    spelling: Spelling::RubyGems,
    operations: &[Operation {
        access: Access::Job,
        method: Verb::Post,
        id: "exchangeRubyGemsToken",
        summary: "Exchange an ID token as RubyGems' action does",
        about: "At the path of the registry's URL, followed by this one. The content type is not looked at. The token is for \
                everything that the rules grant.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Open(&[Member::must("jwt", Shape::Text(MAX_TOKEN), "The job's ID token.")]),
            example: r#"{"jwt": "eyJhbGciOiJSUzI1NiIs…"}"#,
        }),
        answers: &[Answer::json(
            StatusCode::CREATED,
            "The upload token.",
            Shape::Object(&[
                Member::must(
                    "rubygems_api_key",
                    Shape::Text(MAX_UPLOAD_TOKEN),
                    "The upload token, for `GEM_HOST_API_KEY`.",
                ),
                Member::must("name", Shape::SomeText, "The token's id."),
                Member::must(
                    "scopes",
                    Shape::List(&Shape::Words(&[PUSH, YANK])),
                    "What it is good for, as RubyGems has it.",
                ),
                Member::must("expires_at", Shape::Format("date-time"), "Until when it is good."),
            ]),
            r#"{"rubygems_api_key": "gem-AgEM…", "name": "01926e4b-7a3c-7c51-9a20-3b6f2d1c8e55", "scopes": ["push_rubygem"], "expires_at": "2026-11-27T00:15:00+00:00"}"#,
        )],
        failures: &[codes::DIALECT, codes::SUBJECT_TOKEN, codes::DECISION, codes::LATER],
        route: || web::route().to(exchange),
    }],
};

const PUSH: &str = "push_rubygem";
const YANK: &str = "yank_rubygem";

/// `POST /api/v1/oidc/trusted_publisher/exchange_token {"jwt": "<ID token>"}`: the exchange.
pub async fn exchange(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::RubyGems, request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = tenant::at_url(arrival.request, arrival.public, &arrival.policy, Dialect::RubyGems, PATH)?;
    let body = body::json_object(&arrival.body)?;
    let issued = dialect::exchanged(arrival, registry, dialect::token(&body, "jwt")?, None).await?;
    let minted = issued.minted();
    // The action reads no `gem` that is null, and no moment without an offset.
    let body = json!({
        "rubygems_api_key": minted.token.expose(),
        "name": minted.id.to_string(),
        "scopes": scopes(&minted.permissions),
        "expires_at": minted.expires_at.to_string().replace('Z', "+00:00"),
    });
    Ok(dialect::answer(HttpResponse::Created().json(body), &issued))
}

/// What a token is good for, in the words that RubyGems has for it.
fn scopes(permissions: &Permissions) -> Vec<&'static str> {
    let any = |known: &[&str]| permissions.iter().any(|pair| known.contains(&pair.action.as_str()));
    let scopes = [(PUSH, any(&[Action::UPLOAD, Action::CREATE])), (YANK, any(&["yank"]))];
    scopes.into_iter().filter(|(_, has)| *has).map(|(scope, _)| scope).collect()
}
