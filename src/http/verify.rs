//! `POST /v1/verify`: a registry asks whether an upload token may do something.
//!
//! The API key names the registry, so a registry can only ask about its own tokens. A refusal is an answer, 200 with
//! `allowed: false`; other statuses say that the question was wrong or that there is no answer now, and a registry
//! treats everything but `allowed: true` as a refusal.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web;
use serde_json::json;

use crate::app::Caller;
use crate::code::Class;
use crate::code::Code;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body;
use crate::http::body::printable;
use crate::http::error::Refusal;
use crate::json::Json;
use crate::json::Object;
use crate::macaroon::Authentic;
use crate::package::Action;
use crate::package::PackageName;
use crate::policy::Policy;
use crate::policy::registry::Registry;
use crate::verify::Question;
use crate::verify::Refused;

const MEMBERS: [&str; 9] =
    ["token", "package", "exists", "version", "sha256", "size", "client_ip", "action", "consume"];
/// Longest version, upload identifier or action accepted.
const MAX_TEXT: usize = 256;

/// Answers the registry's question.
pub async fn verify(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    let known = |request: &HttpRequest, policy: &Policy| calling_registry(request, policy).map(|_| ());
    arrival::of_registry(request, payload, public, known, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let Arrival { request, public, policy, now, .. } = arrival;
    let registry = calling_registry(request, policy)?;
    let body = body::json_object(&arrival.body)?;
    if let Some((unknown, _)) = body.iter().find(|(name, _)| !MEMBERS.contains(name)) {
        let detail =
            format!("`{}` is not a member of the question; known are {}", printable(unknown), MEMBERS.join(", "));
        return Err(Refusal::new(Code::BadRequest, detail));
    }
    let name = required(&body, "package")?;
    let Ok(package) = PackageName::parse(registry.ecosystem(), name) else {
        let reason = format!("`{}` is no package name of this registry", printable(name));
        return Ok(refused(Code::PackageNotCovered, &[reason], &arrival.caller));
    };
    let question = Question {
        token: required(&body, "token")?,
        action: action(&body)?,
        package,
        version: text(&body, "version")?,
        sha256: text(&body, "sha256")?.map(digest).transpose()?,
        size: size(&body)?,
        client_ip: text(&body, "client_ip")?.map(address).transpose()?,
        consume: text(&body, "consume")?,
    };
    let outcome = public.app.verify(policy, registry, &question, &arrival.caller, *now).await;
    match (outcome.result, outcome.authentic) {
        (Ok(()), Some(authentic)) => Ok(allowed(&authentic)),
        (Ok(()), None) => Err(Refusal::new(Code::Internal, "the token was not identified")),
        (Err(refusal), _) => match refusal.code().class() {
            Class::Unavailable | Class::Fault => Err(unavailable(&refusal)),
            Class::Request | Class::Refused => Ok(refused(refusal.code(), &refusal.reasons(), &arrival.caller)),
        },
    }
}

/// The registry whose API key the caller presents. SECURITY: only digests are kept, and they are compared in constant
/// time.
pub fn calling_registry<'p>(request: &HttpRequest, policy: &'p Policy) -> Result<&'p Registry, Refusal> {
    let digest = arrival::key_digest(request)?;
    policy
        .registries()
        .by_caller(&digest)
        .map(|(registry, _)| registry.as_ref())
        .ok_or_else(|| Refusal::new(Code::BadApiKey, "the API key is not known"))
}

fn allowed(authentic: &Authentic) -> HttpResponse {
    let identifier = authentic.identifier();
    let provenance = &identifier.provenance;
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({
        "allowed": true,
        "token": {
            "id": identifier.id.to_string(),
            "issued_at": identifier.id.issued_at().to_string(),
            "expires_at": authentic.expires_at().to_string(),
        },
        "publisher": {
            "issuer": provenance.issuer,
            "rules": provenance.rules,
            "policy_revision": provenance.policy_revision,
            "claims": provenance.claims,
        },
    }))
}

fn refused(code: Code, reasons: &[String], caller: &Caller) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({
        "allowed": false,
        "code": code,
        "reasons": reasons,
        "mend": code.mend(),
        "request_id": caller.request_id,
    }))
}

fn unavailable(refused: &Refused) -> Refusal {
    let refusal = Refusal::new(refused.code(), refused.reasons().join("; "));
    match refused.retry_after() {
        Some(wait) => refusal.after(wait),
        None => refusal,
    }
}

/// From `exists` the service derives `create` or `upload` itself, so that a plug-in cannot mistake one for the other;
/// every other action is asked for by name.
fn action(body: &Object) -> Result<Action, Refusal> {
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    if let Some(name) = text(body, "action")? {
        if matches!(name, Action::UPLOAD | Action::CREATE) {
            return Err(bad(format!("leave `action` out and say `exists`: the service tells `{name}` by itself")));
        }
        return Action::parse(name).ok_or_else(|| bad(format!("`{}` is not an action", printable(name))));
    }
    match body.get("exists") {
        Some(Json::Bool(true)) => Ok(Action::upload()),
        Some(Json::Bool(false)) => Ok(Action::create()),
        Some(other) => Err(bad(format!("`exists` must be true or false; it is {}", other.type_name()))),
        None => Err(bad("`exists` is missing: does the registry have the package already?".to_owned())),
    }
}

/// A member that must be there.
pub fn required<'a>(body: &'a Object, name: &str) -> Result<&'a str, Refusal> {
    match body.get(name) {
        Some(Json::String(text)) => Ok(text),
        Some(other) => {
            Err(Refusal::new(Code::BadRequest, format!("`{name}` must be a string; it is {}", other.type_name())))
        }
        None => Err(Refusal::new(Code::BadRequest, format!("`{name}` is missing"))),
    }
}

/// A member that may be left out; its text is bounded.
pub fn text<'a>(body: &'a Object, name: &str) -> Result<Option<&'a str>, Refusal> {
    match body.get(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) if text.len() <= MAX_TEXT && !text.is_empty() => Ok(Some(text)),
        Some(_) => {
            let detail = format!("`{name}` must be a string of 1 to {MAX_TEXT} bytes");
            Err(Refusal::new(Code::BadRequest, detail))
        }
    }
}

fn size(body: &Object) -> Result<Option<u64>, Refusal> {
    match body.get("size") {
        None | Some(Json::Null) => Ok(None),
        Some(value) => value
            .as_int()
            .and_then(|size| u64::try_from(size).ok())
            .map(Some)
            .ok_or_else(|| Refusal::new(Code::BadRequest, "`size` must be a number of bytes")),
    }
}

fn digest(text: &str) -> Result<[u8; 32], Refusal> {
    let bad = || Refusal::new(Code::BadRequest, "`sha256` must be 64 hexadecimal digits in lower case");
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(bad());
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| bad())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
    }
    Ok(bytes)
}

fn address(text: &str) -> Result<IpAddr, Refusal> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| Refusal::new(Code::BadRequest, "`client_ip` must be an IP address"))
}
