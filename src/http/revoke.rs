//! `POST /v1/revoke`: token revocation (RFC 7009) by whoever holds the token.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web;

use crate::code::Code;
use crate::http::Public;
use crate::http::body;
use crate::http::context::Context;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::tenant;

/// Revokes the token of the form; 200 also when there was nothing to revoke.
pub async fn revoke(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    let context = Context::of(&request, &public);
    match answer(&request, payload, &public, &context).await {
        Ok(response) => response,
        Err(refusal) => refusal.respond(Spelling::OAuth, &context.caller.request_id),
    }
}

async fn answer(
    request: &HttpRequest,
    payload: web::Payload,
    public: &Public,
    context: &Context,
) -> Result<HttpResponse, Refusal> {
    let bytes = body::read(request, payload).await?;
    let _permit = public.admit_exchange()?;
    let (policy, now) = public.decide_by();
    let registries = tenant::on_host(request, public, &policy)?;
    if body::media_type(request) != body::FORM {
        return Err(Refusal::new(Code::UnsupportedMediaType, format!("the body must be `{}`", body::FORM)));
    }
    let form = body::form(&bytes)?;
    let token = form.iter().find(|(name, value)| name == "token" && !value.is_empty()).map(|(_, value)| value);
    let token = token.ok_or_else(|| Refusal::new(Code::BadRequest, "the form has no `token`"))?;
    public.app.revoke(&registries, token, &context.caller, now).await?;
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).finish())
}
