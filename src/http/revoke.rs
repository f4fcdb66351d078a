//! `POST /v1/revoke`: token revocation (RFC 7009) by whoever holds the token.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;

use crate::code::Code;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
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
use crate::http::tenant;

/// RFC 7009's endpoint.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/revoke",
    base: Base::Host,
    spelling: Spelling::OAuth,
    operations: &[Operation {
        access: Access::Holder,
        method: Verb::Post,
        id: "revokeToken",
        summary: "Revoke an upload token that one holds",
        about: "Token revocation (RFC 7009). Possession suffices; a narrowed copy revokes its original and every other copy. \
                It holds here at once and on other replicas within a second.",
        parameters: &[],
        body: Some(Body { media: &[body::FORM], shape: Shape::Open(MEMBERS), example: r#"{"token": "pypi-AgEM…"}"# }),
        answers: &[Answer::empty(
            StatusCode::OK,
            "The token is good for nothing; also if it never was, or is somebody else's.",
        )],
        failures: &[codes::REVOKING],
        route: || web::route().to(revoke),
    }],
};

const MEMBERS: &[Member] = &[
    Member::must("token", Shape::SomeText, "The upload token."),
    Member::may("token_type_hint", Shape::AnyText, "RFC 7009's hint, which is not needed."),
];

/// Revokes the token of the form; 200 also when there was nothing to revoke.
pub async fn revoke(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::OAuth, request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registries = tenant::on_host(arrival.request, arrival.public, &arrival.policy)?;
    if body::media_type(arrival.request) != body::FORM {
        return Err(Refusal::new(Code::UnsupportedMediaType, format!("the body must be `{}`", body::FORM)));
    }
    let form = body::form(&arrival.body)?;
    let token = form.iter().find(|(name, value)| name == "token" && !value.is_empty()).map(|(_, value)| value);
    let token = token.ok_or_else(|| Refusal::new(Code::BadRequest, "the form has no `token`"))?;
    arrival.public.app.revoke(&registries, token, &arrival.caller, arrival.now).await?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).finish())
}
