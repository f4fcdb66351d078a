//! `POST /v1/verify`: a registry asks whether an upload token may do something.
//!
//! The API key names the registry, so a registry can only ask about its own tokens. A refusal is an answer, 200 with
//! `allowed: false`; other statuses say that the question was wrong or that there is no answer now, and a registry
//! treats everything but `allowed: true` as a refusal.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use serde::Serialize;
use serde_json::json;

use crate::app::Caller;
use crate::code::Class;
use crate::code::Code;
use crate::http::Public;
use crate::http::admission::hold_back;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::arrival::calling_registry;
use crate::http::body;
use crate::http::body::printable;
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
use crate::json::Json;
use crate::json::Object;
use crate::macaroon::Authentic;
use crate::macaroon::Provenance;
use crate::macaroon::TokenId;
use crate::package::Action;
use crate::package::PackageName;
use crate::secret::Presented;
use crate::secret::sha256_of_hex;
use crate::verify::Question;
use crate::verify::Refused;
use crate::yielding::Yielding;

/// Longest version, upload identifier or action accepted.
pub const MAX_TEXT: usize = 256;

/// The endpoint.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/verify",
    base: Base::Host,
    spelling: Spelling::Native,
    operations: &[Operation {
        access: Access::Registry,
        method: Verb::Post,
        id: "verifyToken",
        summary: "Whether an upload token may do this",
        about: "To be asked before every change, with the name under which the registry stores, and with all that it knows: a \
                token may be limited by any of it. A refusal is an answer, 200 with `allowed: false`; whatever is not \
                `allowed: true` is a refusal. For an upload leave `action` out and say `exists`: the service tells `create` \
                from `upload` by itself. `consume` spends one use of a token that is limited in uses, once for each \
                (token, `consume`); a repeat with equal facts gets the first answer.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Either(&[Shape::Object(UPLOAD), Shape::Object(OTHER)]),
            example: r#"{"token": "pypi-AgEM…", "package": "widgets", "exists": true, "version": "1.4.0", "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08", "size": 48213, "client_ip": "203.0.113.7", "consume": "5c1e…"}"#,
        }),
        answers: &[Answer::json(
            StatusCode::OK,
            "Yes or no.",
            Shape::Either(&[Shape::Object(ALLOWED), Shape::Object(REFUSED)]),
            r#"{"allowed": true, "token": {"id": "019ac0de-0000-7000-8000-000000000000", "issued_at": "2026-11-26T14:00:00Z", "expires_at": "2026-11-26T14:15:00Z"}, "publisher": {"issuer": "https://token.actions.githubusercontent.com", "rules": ["widgets-release"], "policy_revision": "sha256:…", "claims": {"repository": "acme/widgets"}}}"#,
        )],
        failures: &[codes::UNSAID],
        route: || web::route().to(verify),
    }],
};

const TOKEN: Member = Member::must("token", Shape::AnyText, "The token as the client presented it.");
const PACKAGE: Member = Member::must("package", Shape::AnyText, "The package that will change.");
const EXISTS: Member = Member::must("exists", Shape::Flag, "Whether the registry has that package already.");
const ACTION: Member = Member::must(
    "action",
    Shape::Pattern("^(?!(upload|create)$)[a-z]([a-z-]{0,30}[a-z])?$"),
    "What is done, unless it is an upload: `read`, `yank`, `delete`, `tag`, `deprecate`, …",
);
const VERSION: Member = Member::may("version", Shape::OrNull(&Shape::Text(MAX_TEXT)), "The version that will change.");
const SHA256: Member =
    Member::may("sha256", Shape::OrNull(&Shape::Pattern("^[0-9a-f]{64}$")), "Of the file that will be stored.");
const SIZE: Member = Member::may("size", Shape::OrNull(&Shape::Count), "Of that file, in bytes.");
const CLIENT_IP: Member =
    Member::may("client_ip", Shape::OrNull(&Shape::Formats(&["ipv4", "ipv6"])), "The uploading client's address.");
const CONSUME: Member =
    Member::may("consume", Shape::OrNull(&Shape::Text(MAX_TEXT)), "The registry's id of this one change.");
/// Every member of the question.
const MEMBERS: &[Member] = &[TOKEN, PACKAGE, EXISTS, VERSION, SHA256, SIZE, CLIENT_IP, ACTION, CONSUME];
/// Of an upload.
const UPLOAD: &[Member] = &[
    TOKEN,
    PACKAGE,
    EXISTS,
    Member::may("action", Shape::Null, "Not for an upload."),
    VERSION,
    SHA256,
    SIZE,
    CLIENT_IP,
    CONSUME,
];
/// Of another action.
const OTHER: &[Member] = &[
    TOKEN,
    PACKAGE,
    ACTION,
    Member::may("exists", Shape::Flag, "Not needed."),
    VERSION,
    SHA256,
    SIZE,
    CLIENT_IP,
    CONSUME,
];

const ALLOWED: &[Member] = &[
    Member::must("allowed", Shape::Always(true), "Yes."),
    Member::must(
        "token",
        Shape::Object(&[
            Member::must("id", Shape::Format("uuid"), "Its id."),
            Member::must("issued_at", Shape::Format("date-time"), "Since when it is good."),
            Member::must("expires_at", Shape::Format("date-time"), "Until when."),
        ]),
        "The token.",
    ),
    Member::must(
        "publisher",
        Shape::Object(&[
            Member::must("issuer", Shape::AnyText, "The issuer of the job's ID token."),
            Member::must("rules", Shape::List(&Shape::AnyText), "The rules that granted."),
            Member::must("policy_revision", Shape::AnyText, "The policy by which they did."),
            Member::must("claims", Shape::AnyObject, "The job's public claims."),
        ]),
        "Where the upload comes from: to be kept with the file.",
    ),
];

const REFUSED: &[Member] = &[
    Member::must("allowed", Shape::Always(false), "No."),
    Member::must("code", Shape::Codes(&[codes::UPLOAD_TOKEN]), "Why."),
    Member::must("reasons", Shape::List(&Shape::AnyText), "Each reason in words, for the person whose job failed."),
    Member::must("mend", Shape::AnyText, "What to do about it."),
    Member::must("request_id", Shape::AnyText, "This request."),
];

/// Answers the registry's question.
pub async fn verify(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::of_registry(request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let Arrival { request, public, policy, now, .. } = arrival;
    let registry = calling_registry(request, policy)?;
    let body = body::json_object(&arrival.body)?;
    body::only(&body, MEMBERS)?;
    let (token, name) = (Presented::new(required(&body, "token")?), required(&body, "package")?);
    let action = action(&body)?;
    let (version, consume) = (text(&body, "version")?, text(&body, "consume")?);
    let sha256 = text(&body, "sha256")?.map(digest).transpose()?;
    let size = size(&body)?;
    let client_ip = text(&body, "client_ip")?.map(address).transpose()?;
    let Ok(package) = PackageName::parse(registry.ecosystem(), name) else {
        let reason = format!("`{}` is no package name of this registry", printable(name));
        return Ok(refused(Code::PackageNotCovered, &[reason], &arrival.caller));
    };
    let place = &arrival.place;
    let give_back = || place.give_back();
    let yielding = Yielding::new(&give_back);
    let question = Question { token, action, package, version, sha256, size, client_ip, consume, yielding };
    let outcome = public.app.verify(policy, registry, &question, &arrival.caller, *now).await;
    match (outcome.result, outcome.authentic) {
        (Ok(()), Some(authentic)) => Ok(allowed(&authentic)),
        (Ok(()), None) => Err(Refusal::new(Code::Internal, "the token was not identified")),
        (Err(refusal @ Refused::Overloaded), _) => {
            place.give_back();
            hold_back().await;
            Err(Refusal::from(&refusal))
        }
        (Err(refusal), _) => match refusal.code().class() {
            Class::Unavailable | Class::Fault => Err(Refusal::from(&refusal)),
            Class::Request | Class::Refused => Ok(refused(refusal.code(), &refusal.reasons(), &arrival.caller)),
        },
    }
}

fn allowed(authentic: &Authentic) -> HttpResponse {
    let identifier = authentic.identifier();
    let token = About {
        id: identifier.id,
        issued_at: identifier.id.issued_at().to_string(),
        expires_at: authentic.expires_at().to_string(),
    };
    let body = Verdict { allowed: true, token, publisher: &identifier.provenance };
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(body)
}

/// [`ALLOWED`], written without a copy of the provenance.
#[derive(Serialize)]
struct Verdict<'a> {
    allowed: bool,
    token: About,
    publisher: &'a Provenance,
}

#[derive(Serialize)]
struct About {
    id: TokenId,
    issued_at: String,
    expires_at: String,
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

impl From<&Refused> for Refusal {
    fn from(refused: &Refused) -> Self {
        let refusal = Self::new(refused.code(), refused.reasons().join("; "));
        match refused.retry_after() {
            Some(wait) => refusal.after(wait),
            None => refusal,
        }
    }
}

/// From `exists` the service derives `create` or `upload` itself, so that a plug-in cannot mistake one for the other;
/// every other action is asked for by name.
fn action(body: &Object) -> Result<Action, Refusal> {
    let bad = |detail: String| Refusal::new(Code::BadRequest, detail);
    let exists = match body.get("exists") {
        Some(Json::Bool(exists)) => Some(*exists),
        Some(other) => return Err(bad(format!("`exists` must be true or false; it is {}", other.type_name()))),
        None => None,
    };
    if let Some(name) = text(body, "action")? {
        if matches!(name, Action::UPLOAD | Action::CREATE) {
            return Err(bad(format!("leave `action` out and say `exists`: the service tells `{name}` by itself")));
        }
        return Action::parse(name).ok_or_else(|| bad(format!("`{}` is not an action", printable(name))));
    }
    match exists {
        Some(true) => Ok(Action::upload()),
        Some(false) => Ok(Action::create()),
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
    let size = match body.get("size") {
        None | Some(Json::Null) => return Ok(None),
        // JSON has one kind of number, and some libraries write 1711.0.
        Some(Json::Float(size)) if size.fract() == 0.0 => format!("{size:.0}").parse().ok(),
        Some(value) => value.as_int().and_then(|size| u64::try_from(size).ok()),
    };
    let size = size.filter(|size| *size <= i64::MAX.cast_unsigned());
    size.map(Some).ok_or_else(|| Refusal::new(Code::BadRequest, "`size` must be a number of bytes"))
}

fn digest(text: &str) -> Result<[u8; 32], Refusal> {
    let bad = || Refusal::new(Code::BadRequest, "`sha256` must be 64 hexadecimal digits in lower case");
    sha256_of_hex(text).ok_or_else(bad)
}

fn address(text: &str) -> Result<IpAddr, Refusal> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| Refusal::new(Code::BadRequest, "`client_ip` must be an IP address"))
}
