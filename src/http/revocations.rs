//! `/v1/revocations`: what a registry that verifies offline must refuse, and what it revokes of its own tokens.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use serde_json::Value;
use serde_json::json;

use crate::app::Own;
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
use crate::http::feed;
use crate::http::verify::MAX_TEXT;
use crate::http::verify::text;
use crate::json::Json;
use crate::json::Object;
use crate::macaroon::LEEWAY;
use crate::macaroon::TokenId;
use crate::state::revocations::Revocation;
use crate::time::Timestamp;

/// The registry's revocations: its list of them, and its own.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/revocations",
    base: Base::Host,
    spelling: Spelling::Native,
    operations: &[
        Operation {
            access: Access::Registry,
            method: Verb::Get,
            id: "listRevocations",
            summary: "What a registry that verifies offline must refuse",
            about: "The registry's revocations, oldest first. Ask every few seconds; when there has been no answer for 30 s, \
                    refuse uploads. An entry may be forgotten after its `until`.",
            parameters: &[feed::SINCE],
            body: None,
            answers: &[Answer::json(
                StatusCode::OK,
                "A part of the list.",
                Shape::Object(&[
                    Member::must(
                        "revocations",
                        Shape::List(&Shape::Either(&[Shape::Object(TOKEN_ENTRY), Shape::Object(RULE_ENTRY)])),
                        "The revocations, oldest first.",
                    ),
                    feed::NEXT,
                    feed::MORE,
                ]),
                r#"{"revocations": [{"token_id": "019ac0de-0000-7000-8000-000000000000", "until": "2026-11-26T15:01:00Z"}], "next": "1795736400123-0", "more": false}"#,
            )],
            failures: &[codes::STORE],
            route: || web::route().to(list),
        },
        Operation {
            access: Access::RegistryAlways,
            method: Verb::Post,
            id: "revokeOwnTokens",
            summary: "Revoke tokens of one's own registry",
            about: "Either one token with every copy of it, by `token_id`, or what a `rule` had a part in granting, up to \
                    `issued_before`, which is now if it is not given. It holds here at once and on other replicas within \
                    a second. A registry may write 5,000 an hour.",
            parameters: &[],
            body: Some(Body {
                media: &[body::JSON],
                shape: Shape::Either(&[Shape::Object(BY_TOKEN), Shape::Object(BY_RULE)]),
                example: r#"{"rule": "widgets-release", "issued_before": "2026-11-26T14:00:00Z"}"#,
            }),
            answers: &[Answer::json(
                StatusCode::OK,
                "It is revoked, or too old to be used anyway.",
                Shape::Object(&[
                    Member::must("revoked", Shape::Flag, "False if such tokens have ended already."),
                    Member::must("until", Shape::Format("date-time"), "Until when they could have been used."),
                ]),
                r#"{"revoked": true, "until": "2026-11-26T15:00:00Z"}"#,
            )],
            failures: &[codes::REVOKING],
            route: || web::route().to(revoke),
        },
    ],
};

/// A UUID of version 7, in lower case.
const TOKEN_ID_PATTERN: &str = "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$";
const TOKEN_ID: Member =
    Member::must("token_id", Shape::Pattern(TOKEN_ID_PATTERN), "The id that an answer of verify names.");
const RULE: Member = Member::must("rule", Shape::Text(MAX_TEXT), "A rule's name, as in a token's provenance.");
const ISSUED_BEFORE: Member = Member::may("issued_before", Shape::Format("date-time"), "A moment that is not to come.");
/// Every member of the body.
const MEMBERS: &[Member] = &[TOKEN_ID, RULE, ISSUED_BEFORE];
const BY_TOKEN: &[Member] = &[TOKEN_ID];
const BY_RULE: &[Member] = &[RULE, ISSUED_BEFORE];

const UNTIL: Member = Member::must("until", Shape::Format("date-time"), "When it may be forgotten.");
const TOKEN_ENTRY: &[Member] = &[Member::must("token_id", Shape::AnyText, "The token that is revoked."), UNTIL];
const RULE_ENTRY: &[Member] = &[
    Member::must("rule", Shape::AnyText, "Tokens with this rule in their provenance are revoked …"),
    Member::must("issued_before", Shape::Format("date-time"), "… that were issued before this moment."),
    UNTIL,
];

/// `GET /v1/revocations?since=`: the registry's revocations, oldest first.
pub async fn list(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::of_registry(request, payload, public, listed).await
}

/// `POST /v1/revocations {token_id | rule, issued_before}`: revokes tokens of the registry that asks.
pub async fn revoke(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::of_registry_always(request, payload, public, revoked).await
}

async fn listed(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = calling_registry(arrival.request, &arrival.policy)?;
    let since = feed::since(arrival.request)?;
    let page = arrival.public.app.state().revocations().of_registry(&registry.key_id, since.as_ref()).await?;
    let entries = page.revocations.iter().map(|(_, revocation)| entry(revocation)).collect();
    Ok(feed::part("revocations", entries, page.next, page.more))
}

fn entry(revocation: &Revocation) -> Value {
    match revocation {
        Revocation::Token { id, until } => json!({"token_id": id, "until": until.to_string()}),
        Revocation::Rule { rule, issued_before, until } => {
            // With milliseconds, as ids of tokens: a copy of the list must draw the line where this service does.
            let issued_before = issued_before.with_millis().to_string();
            json!({"rule": rule, "issued_before": issued_before, "until": until.to_string()})
        }
    }
}

async fn revoked(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = calling_registry(arrival.request, &arrival.policy)?;
    let body = body::json_object(&arrival.body)?;
    let own = own(&body, arrival.now)?;
    let until = arrival.public.app.revoke_own(registry, &own, &arrival.caller, arrival.now).await?;
    let answer = json!({"revoked": until > arrival.now, "until": until.to_string()});
    Ok(HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(answer))
}

fn own(body: &Object, now: Timestamp) -> Result<Own, Refusal> {
    let bad = |detail: &str| Refusal::new(Code::BadRequest, detail);
    body::only(body, MEMBERS)?;
    // SECURITY: a moment that a program failed to compute must not come to mean "all that there is".
    if let Some((name, _)) = body.iter().find(|(_, value)| **value == Json::Null) {
        return Err(Refusal::new(Code::BadRequest, format!("`{name}` is null: leave it out")));
    }
    match (text(body, "token_id")?, text(body, "rule")?, text(body, "issued_before")?) {
        (Some(id), None, None) => {
            let id =
                TokenId::parse(id).ok_or_else(|| bad("`token_id` must be the id that an answer of verify names"))?;
            // SECURITY: its revocation would be kept until such a token has ended.
            if id.issued_at() > now.plus(LEEWAY) {
                return Err(bad("`token_id` is of a moment that is still to come"));
            }
            Ok(Own::Token(id))
        }
        (None, Some(rule), before) => {
            // All that there is, this very millisecond's included.
            let Some(before) = before else {
                return Ok(Own::Rule { rule: rule.to_owned(), issued_before: now.plus(Duration::from_millis(1)) });
            };
            let before = Timestamp::parse_rfc3339(before);
            let issued_before =
                before.ok_or_else(|| bad("`issued_before` must be a time like 2026-11-26T14:00:00Z"))?;
            if issued_before > now {
                return Err(bad("`issued_before` is still to come: what is revoked is what was issued"));
            }
            Ok(Own::Rule { rule: rule.to_owned(), issued_before })
        }
        _ => Err(bad("say either `token_id`, or `rule` with or without `issued_before`")),
    }
}
