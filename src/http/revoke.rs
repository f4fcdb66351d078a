//! `POST /v1/revoke`: token revocation (RFC 7009) by whoever holds the token.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web;

use crate::code::Code;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::tenant;

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
