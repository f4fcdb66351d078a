//! `GET /openapi.json` and `GET /openapi.html`: the description of the public endpoints, for programs and for people.
//!
//! Both are other views of [`ENDPOINTS`](crate::http::ENDPOINTS), made once. They list every endpoint that this service
//! has; a host whose registry does not speak a dialect answers 404 at that dialect's. Nothing in them depends on who asks,
//! but the URL of the host, which is the policy's.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::http::header::EntityTag;
use actix_web::http::header::Header as _;
use actix_web::http::header::IfNoneMatch;
use actix_web::web;

use crate::http::Public;
use crate::http::arrival;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Base;
use crate::http::endpoint::Content;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Parameter;
use crate::http::endpoint::Place;
use crate::http::endpoint::Verb;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::tenant;
use crate::secret::hex;
use crate::secret::sha256;

pub mod document;
pub mod page;

const HTML: &str = "text/html; charset=utf-8";
/// They change with the service's version only; who kept one asks again with its tag.
const CACHED: &str = "public, max-age=300";

/// The document.
pub static DOCUMENT: Endpoint = described(
    "/openapi.json",
    &[reading(
        "getOpenapi",
        "This description, for programs",
        "OpenAPI 3.1.",
        &[Answer { headers: TAG, ..Answer::json(StatusCode::OK, "The document.", Shape::AnyObject, "{}") }, UNCHANGED],
        || web::route().to(document),
    )],
);

/// The page.
pub static PAGE: Endpoint = described(
    "/openapi.html",
    &[reading(
        "getOpenapiPage",
        "This description, for people",
        "One page, without scripts, and nothing in it is loaded from elsewhere.",
        &[
            Answer {
                status: StatusCode::OK,
                about: "The page.",
                content: Some(Content { media: "text/html", shape: Shape::AnyText, example: "\"<!DOCTYPE html>…\"" }),
                headers: TAG,
            },
            UNCHANGED,
        ],
        || web::route().to(page),
    )],
);

const TAG: &[(&str, &str)] = &[("ETag", "Which one it is.")];

const UNCHANGED: Answer = Answer {
    headers: TAG,
    ..Answer::empty(StatusCode::NOT_MODIFIED, "It is one of those that `If-None-Match` names.")
};

const fn described(path: &'static str, operations: &'static [Operation]) -> Endpoint {
    Endpoint { path, base: Base::Host, spelling: Spelling::Native, operations }
}

const fn reading(
    id: &'static str,
    summary: &'static str,
    about: &'static str,
    answers: &'static [Answer],
    route: fn() -> actix_web::Route,
) -> Operation {
    const PARAMETERS: &[Parameter] = &[Parameter {
        name: "If-None-Match",
        place: Place::Header,
        required: false,
        shape: Shape::AnyText,
        about: "The `ETag` of an earlier answer.",
    }];
    Operation {
        access: Access::Anyone,
        method: Verb::Get,
        id,
        summary,
        about,
        parameters: PARAMETERS,
        body: None,
        answers,
        failures: &[],
        route,
    }
}

/// The document, with the host's URL among its `servers`.
pub async fn document(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    let answer = origin(&request, &public).map(|origin| {
        let tag = tag(&[document::digest(), &sha256(origin.as_bytes())].concat());
        if holds(&request, &tag) { unchanged(tag) } else { whole(tag, "application/json").body(document::of(&origin)) }
    });
    arrival::rendered(answer, Spelling::Native, &request)
}

/// The page.
pub async fn page(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    let answer = origin(&request, &public).map(|_| {
        let page = page::get();
        let tag = tag(&page.digest);
        let mut response = if holds(&request, &tag) { return unchanged(tag) } else { whole(tag, HTML) };
        response.insert_header((header::CONTENT_SECURITY_POLICY, page.security_policy.as_str()));
        response.insert_header((header::REFERRER_POLICY, "no-referrer"));
        response.body(page.html.as_str())
    });
    arrival::rendered(answer, Spelling::Native, &request)
}

/// The host's URL. An unknown host has none: 421, as everywhere.
fn origin(request: &HttpRequest, public: &Public) -> Result<String, Refusal> {
    let policy = public.app.policy();
    tenant::origin(request, public, &tenant::on_host(request, public, &policy)?)
}

fn tag(digest: &[u8]) -> EntityTag {
    let mut text = hex(&sha256(digest));
    text.truncate(32);
    EntityTag::new_strong(text)
}

/// Whether the client has it already (RFC 9110 section 13.1.2).
fn holds(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

fn whole(tag: EntityTag, media_type: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CONTENT_TYPE, media_type));
    response.insert_header((header::CACHE_CONTROL, CACHED)).insert_header(header::ETag(tag));
    response
}

fn unchanged(tag: EntityTag) -> HttpResponse {
    let mut response = HttpResponse::NotModified();
    response.insert_header((header::CACHE_CONTROL, CACHED)).insert_header(header::ETag(tag)).finish()
}
