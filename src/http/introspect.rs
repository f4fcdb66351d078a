//! `POST /v1/introspect`: token introspection (RFC 7662), for registries whose framework speaks it.
//!
//! SECURITY: a reader of the answer knows `scope` and `exp` and nothing else, so a token is `active` only if these two
//! say everything that restricts it. One narrowed to a version, a file, a size, an address, a number of uses or another
//! registry is `active: false` here; `/v1/verify` is asked about it.

use std::collections::BTreeSet;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web;
use serde_json::json;

use crate::code::Class;
use crate::code::Code;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body;
use crate::http::error::Refusal;
use crate::http::verify::calling_registry;
use crate::policy::Policy;

/// Says whether a token of the registry that asks is active, and what it is for.
pub async fn introspect(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    let known = |request: &HttpRequest, policy: &Policy| calling_registry(request, policy).map(|_| ());
    arrival::of_registry(request, payload, public, known, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = calling_registry(arrival.request, &arrival.policy)?;
    if body::media_type(arrival.request) != body::FORM {
        return Err(Refusal::new(Code::UnsupportedMediaType, format!("the body must be `{}`", body::FORM)));
    }
    let form = body::form(&arrival.body)?;
    let token = form.iter().find(|(name, value)| name == "token" && !value.is_empty()).map(|(_, value)| value);
    let token = token.ok_or_else(|| Refusal::new(Code::BadRequest, "the form has no `token`"))?;
    let known = arrival.public.app.introspect(&arrival.policy, registry, token, &arrival.caller, arrival.now);
    let body = match known {
        Ok(active) => {
            let pairs: BTreeSet<String> = active.permissions.iter().map(ToString::to_string).collect();
            json!({
                "active": true,
                "scope": pairs.into_iter().collect::<Vec<_>>().join(" "),
                "exp": active.expires_at.unix_seconds(),
                "iat": active.id.issued_at().unix_seconds(),
                "jti": active.id.to_string(),
                "aud": registry.id,
                "iss": active.issuer,
                "token_type": "Bearer",
            })
        }
        // RFC 7662 section 2.2: nothing more is said of an inactive token.
        Err(refused) => match refused.code().class() {
            Class::Unavailable | Class::Fault => {
                return Err(Refusal::new(refused.code(), refused.reasons().join("; ")));
            }
            Class::Request | Class::Refused => json!({"active": false}),
        },
    };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body))
}
