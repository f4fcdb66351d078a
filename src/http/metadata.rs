//! `GET /.well-known/oauth-authorization-server`: authorization server metadata (RFC 8414).

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::web;
use serde_json::json;

use crate::http::Public;
use crate::http::arrival;
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
use crate::http::tenant;
use crate::policy::registry::Registry;

/// RFC 8414's document.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/.well-known/oauth-authorization-server",
    base: Base::Host,
    spelling: Spelling::OAuth,
    operations: &[Operation {
        access: Access::Anyone,
        method: Verb::Get,
        id: "getMetadata",
        summary: "Where tokens are exchanged and revoked",
        about: "Authorization server metadata (RFC 8414), of the host that the request names.",
        parameters: &[],
        body: None,
        answers: &[Answer::json(
            StatusCode::OK,
            "The document.",
            Shape::Open(MEMBERS),
            r#"{"issuer": "https://pypi.acme.example", "token_endpoint": "https://pypi.acme.example/v1/token", "revocation_endpoint": "https://pypi.acme.example/v1/revoke", "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"], "token_endpoint_auth_methods_supported": ["none"], "revocation_endpoint_auth_methods_supported": ["none"], "response_types_supported": [], "trustmint_audiences": ["acme"]}"#,
        )],
        failures: &[],
        route: || web::route().to(metadata),
    }],
};

const MEMBERS: &[Member] = &[
    Member::must("issuer", Shape::Format("uri"), "The host's own URL."),
    Member::must("token_endpoint", Shape::Format("uri"), "Where ID tokens are exchanged."),
    Member::must("revocation_endpoint", Shape::Format("uri"), "Where upload tokens are revoked."),
    Member::must("grant_types_supported", Shape::List(&Shape::AnyText), "Token exchange."),
    Member::must("token_endpoint_auth_methods_supported", Shape::List(&Shape::AnyText), "None: the ID token is it."),
    Member::must("revocation_endpoint_auth_methods_supported", Shape::List(&Shape::AnyText), "None: possession is it."),
    Member::must("response_types_supported", Shape::List(&Shape::AnyText), "None: nobody is sent to a browser."),
    Member::must(
        "trustmint_audiences",
        Shape::List(&Shape::AnyText),
        "For which audiences a job may ask its ID token.",
    ),
];

/// Says where the host's registries exchange and revoke tokens, and for which audiences.
pub async fn metadata(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    let policy = public.app.policy();
    let registries = tenant::on_host(&request, &public, &policy);
    let answer = registries.and_then(|registries| document(&request, &public, &registries));
    arrival::rendered(answer, Spelling::OAuth, &request)
}

fn document(request: &HttpRequest, public: &Public, registries: &[&Registry]) -> Result<HttpResponse, Refusal> {
    let origin = tenant::origin(request, public, registries)?;
    let audiences: Vec<&String> = registries.iter().flat_map(|registry| &registry.audiences).collect();
    Ok(HttpResponse::Ok().json(json!({
        "issuer": origin,
        "token_endpoint": format!("{origin}/v1/token"),
        "revocation_endpoint": format!("{origin}/v1/revoke"),
        "grant_types_supported": ["urn:ietf:params:oauth:grant-type:token-exchange"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "response_types_supported": [],
        "trustmint_audiences": audiences,
    })))
}
