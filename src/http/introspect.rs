//! `POST /v1/introspect`: token introspection (RFC 7662), for registries whose framework speaks it.
//!
//! SECURITY: a reader of the answer knows `scope` and `exp` and nothing else, so a token is `active` only if these two
//! say everything that restricts it. One narrowed to a version, a file, a size, an address, a number of uses or another
//! registry is `active: false` here; `/v1/verify` is asked about it.

use std::collections::BTreeSet;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use serde_json::json;

use crate::code::Class;
use crate::code::Code;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::arrival::calling_registry;
use crate::http::body;
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
use crate::verify::Inactive;

/// RFC 7662's endpoint.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/introspect",
    base: Base::Host,
    spelling: Spelling::Native,
    operations: &[Operation {
        access: Access::Registry,
        method: Verb::Post,
        id: "introspectToken",
        summary: "Whether an upload token is active",
        about: "Token introspection (RFC 7662), for frameworks that speak it. A token is `active` only if `scope` and `exp` \
                say all that restricts it; any other is for `/v1/verify`, which is better wherever the registry can ask it.",
        parameters: &[],
        body: Some(Body { media: &[body::FORM], shape: Shape::Open(MEMBERS), example: r#"{"token": "pypi-AgEM…"}"# }),
        answers: &[Answer::json(
            StatusCode::OK,
            "What the token is good for, or that it is not active.",
            Shape::Either(&[Shape::Object(ACTIVE), Shape::Object(INACTIVE)]),
            r#"{"active": true, "scope": "upload:widgets", "exp": 1795737300, "iat": 1795736400, "jti": "019ac0de-0000-7000-8000-000000000000", "aud": "acme-pypi", "iss": "https://token.actions.githubusercontent.com", "token_type": "Bearer"}"#,
        )],
        failures: &[codes::UNSAID],
        route: || web::route().to(introspect),
    }],
};

const MEMBERS: &[Member] = &[
    Member::must("token", Shape::SomeText, "The token as the client presented it."),
    Member::may("token_type_hint", Shape::AnyText, "RFC 7662's hint, which is not needed."),
];

const ACTIVE: &[Member] = &[
    Member::must("active", Shape::Always(true), "It is good."),
    Member::must("scope", Shape::AnyText, "For these `action:package` pairs, separated by spaces."),
    Member::must("exp", Shape::Count, "Until when, in seconds of Unix time."),
    Member::must("iat", Shape::Count, "Since when."),
    Member::must("jti", Shape::Format("uuid"), "Its id."),
    Member::must("aud", Shape::AnyText, "The registry that it is for, as the policy names it."),
    Member::must("iss", Shape::AnyText, "The issuer of the job that it was minted for."),
    Member::must("token_type", Shape::Words(&["Bearer"]), "How it is presented."),
];

const INACTIVE: &[Member] = &[Member::must("active", Shape::Always(false), "It is not, and nothing more is said.")];

/// Says whether a token of the registry that asks is active, and what it is for.
pub async fn introspect(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::of_registry(request, payload, public, answer).await
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
        Err(Inactive::Refused(refused)) if matches!(refused.code().class(), Class::Unavailable | Class::Fault) => {
            return Err(Refusal::from(&refused));
        }
        // RFC 7662 section 2.2: nothing more is said of an inactive token.
        Err(Inactive::Refused(_) | Inactive::NotExpressible) => json!({"active": false}),
    };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body))
}
