//! `POST /v1/explain`: a registry asks what an exchange would come to, and why. A dry run: nothing is minted or claimed.
//!
//! The API key names the registry, and the answer is about that one alone. It is the whole explanation, so it is for
//! the registry's people and not to be shown to a job.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web;

use crate::code::Code;
use crate::explain;
use crate::explain::NoIssuer;
use crate::explain::Question;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body;
use crate::http::body::printable;
use crate::http::error::Refusal;
use crate::http::verify::calling_registry;
use crate::json::Json;
use crate::json::Object;
use crate::package::PackageName;
use crate::policy::Policy;
use crate::policy::evaluate::Requested;
use crate::policy::scope;

const MEMBERS: [&str; 5] = ["token", "claims", "issuer", "package", "scope"];

/// Answers the registry's question.
pub async fn explain(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    let known = |request: &HttpRequest, policy: &Policy| calling_registry(request, policy).map(|_| ());
    arrival::of_registry(request, payload, public, known, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let Arrival { request, public, policy, now, .. } = arrival;
    let registry = calling_registry(request, policy)?;
    let body = body::json_object(&arrival.body)?;
    if let Some((unknown, _)) = body.iter().find(|(name, _)| !MEMBERS.contains(name)) {
        let known = MEMBERS.join(", ");
        return Err(bad(format!("`{}` is not a member of the question; known are {known}", printable(unknown))));
    }
    let package = text(&body, "package")?.map(|name| {
        let refuse = |error| bad(format!("`package`: `{}` {error}", printable(name)));
        PackageName::parse(registry.ecosystem(), name).map_err(refuse)
    });
    let narrow = text(&body, "scope")?.map(|pairs| scope::parse(registry.ecosystem(), pairs));
    let requested = Requested { package: package.transpose()?, narrow: narrow.transpose()? };
    let question = Question { policy, registry, requested: &requested };
    let issuer = text(&body, "issuer")?;
    let answer = match (text(&body, "token")?, claims(&body)?) {
        (Some(token), None) if issuer.is_none() => explain::token(question, public.app.keys(), token, *now).await,
        (Some(_), None) => return Err(bad("`issuer` goes with `claims`: a token names its issuer itself".to_owned())),
        (None, Some(claims)) => match explain::issuer_of(policy, issuer, claims) {
            Ok(issuer) => explain::claims(question, issuer, claims.clone(), *now),
            Err(NoIssuer::Unknown(issuer)) => explain::unknown(question, &issuer, *now),
            Err(error) => return Err(bad(error.to_string())),
        },
        (Some(_), Some(_)) | (None, None) => return Err(bad("send one of `token` and `claims`".to_owned())),
    };
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(answer))
}

fn text<'a>(body: &'a Object, name: &str) -> Result<Option<&'a str>, Refusal> {
    match body.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(bad(format!("`{name}` must be a string; it is {}", other.type_name()))),
    }
}

fn claims(body: &Object) -> Result<Option<&Object>, Refusal> {
    match body.get("claims") {
        None | Some(Json::Null) => Ok(None),
        Some(Json::Object(claims)) => Ok(Some(claims)),
        Some(other) => Err(bad(format!("`claims` must be an object; it is {}", other.type_name()))),
    }
}

fn bad(detail: String) -> Refusal {
    Refusal::new(Code::BadRequest, detail)
}
