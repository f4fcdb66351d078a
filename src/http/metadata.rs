//! `GET /.well-known/oauth-authorization-server`: authorization server metadata (RFC 8414).

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use serde_json::json;

use crate::code::Code;
use crate::http::Public;
use crate::http::arrival;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::tenant;
use crate::policy::registry::Registry;

/// Where RFC 8414 puts the document.
pub const PATH: &str = "/.well-known/oauth-authorization-server";

/// Says where the host's registries exchange and revoke tokens, and for which audiences.
pub async fn metadata(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    let policy = public.app.policy();
    let registries = tenant::on_host(&request, &public, &policy);
    let answer = registries.and_then(|registries| document(&request, &public, &registries));
    arrival::rendered(answer, Spelling::OAuth, &request)
}

fn document(request: &HttpRequest, public: &Public, registries: &[&Registry]) -> Result<HttpResponse, Refusal> {
    // The origin comes from the policy's URLs, not from the request: a proxy may speak http to us.
    let unserved = || Refusal::new(Code::UnknownHost, "no registry is served here");
    let first = registries.first().ok_or_else(unserved)?;
    let url = tenant::urls(request, public, first)?.into_iter().next().ok_or_else(unserved)?;
    let origin = url.origin().ascii_serialization();
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
