//! `POST /v1/explain`: a registry asks what an exchange would come to, and why. A dry run: nothing is minted or claimed.
//!
//! The API key names the registry, and the answer is about that one alone. It is the whole explanation, so it is for
//! the registry's people and not to be shown to a job.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;

use crate::code::Code;
use crate::explain;
use crate::explain::NoIssuer;
use crate::explain::Question;
use crate::http::Public;
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
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::json::Json;
use crate::json::Object;
use crate::package::PackageName;
use crate::policy::evaluate::Requested;
use crate::policy::scope;
use crate::yielding::Yielding;

/// The endpoint.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/explain",
    base: Base::Host,
    spelling: Spelling::Native,
    operations: &[Operation {
        access: Access::Registry,
        method: Verb::Post,
        id: "explainExchange",
        summary: "What an exchange would come to, and why",
        about: "A dry run: nothing is minted and nothing is claimed. Send one of `token` and `claims`; the rules are asked \
                whatever is wrong with the token. The answer is whole, so it is for the registry's people and not for a job.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Either(&[Shape::Object(OF_TOKEN), Shape::Object(OF_CLAIMS)]),
            example: r#"{"issuer": "github", "claims": {"repository": "acme/widgets", "repository_id": "701234567", "repository_owner_id": "9123456"}, "package": "widgets"}"#,
        }),
        answers: &[Answer::json(
            StatusCode::OK,
            "The decision and every reason for it.",
            Shape::Open(ANSWER),
            r#"{"decision": "deny", "code": "environment-mismatch", "sentence": "the rule `widgets-release` wants `environment: release`, and the token has `environment: staging`", "rules": [], "policy_revision": "sha256:…"}"#,
        )],
        failures: &[&[Code::InvalidScope]],
        route: || web::route().to(explain),
    }],
};

const TOKEN: Member = Member::must("token", Shape::AnyText, "An ID token, also one that has expired.");
const CLAIMS: Member = Member::must("claims", Shape::AnyObject, "The claims of a job, without a token.");
const ISSUER: Member =
    Member::may("issuer", Shape::OrNull(&Shape::AnyText), "The issuer's name in the policy, if they have no `iss`.");
const PACKAGE: Member = Member::may("package", Shape::OrNull(&Shape::AnyText), "The package that would be asked for.");
const SCOPE: Member =
    Member::may("scope", Shape::OrNull(&Shape::AnyText), "The pairs that would be asked for, as at `/v1/token`.");
const MEMBERS: &[Member] = &[TOKEN, CLAIMS, ISSUER, PACKAGE, SCOPE];

const fn none(name: &'static str) -> Member {
    Member::may(name, Shape::Null, "Not with the other.")
}
const OF_TOKEN: &[Member] = &[TOKEN, none("claims"), none("issuer"), PACKAGE, SCOPE];
const OF_CLAIMS: &[Member] = &[none("token"), CLAIMS, ISSUER, PACKAGE, SCOPE];

const ANSWER: &[Member] = &[
    Member::must("decision", Shape::Words(&["allow", "deny"]), "What the rules decide."),
    Member::must("code", Shape::AnyText, "`ok`, or the code that a job would get."),
    Member::must("sentence", Shape::AnyText, "The same in words."),
    Member::may("rules", Shape::List(&Shape::AnyObject), "Rules, nearest first, condition by condition."),
    Member::may("grant", Shape::AnyObject, "What the job would get."),
    Member::may("shadow", Shape::List(&Shape::AnyObject), "Rules in shadow mode that would grant more."),
    Member::may("token", Shape::AnyObject, "What verification says of the token."),
    Member::must("policy_revision", Shape::AnyText, "The policy that decided."),
];

/// Answers the registry's question.
pub async fn explain(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::of_registry(request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let Arrival { request, public, policy, now, .. } = arrival;
    let registry = calling_registry(request, policy)?;
    let body = body::json_object(&arrival.body)?;
    body::only(&body, MEMBERS)?;
    let package = text(&body, "package")?.map(|name| {
        let refuse = |error| bad(format!("`package`: `{}` {error}", printable(name)));
        PackageName::parse(registry.ecosystem(), name).map_err(refuse)
    });
    let narrow = text(&body, "scope")?.map(|pairs| scope::parse(registry.ecosystem(), pairs));
    let requested = Requested { package: package.transpose()?, narrow: narrow.transpose()? };
    let question = Question { policy, registry, requested: &requested };
    let issuer = text(&body, "issuer")?;
    let answer = match (text(&body, "token")?, claims(&body)?) {
        (Some(token), None) if issuer.is_none() => {
            let place = &arrival.place;
            let give_back = || place.give_back();
            explain::token(question, public.app.keys(), Yielding::new(&give_back), token, *now).await
        }
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
