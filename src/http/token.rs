//! `POST /v1/token`: OAuth 2.0 token exchange (RFC 8693), as a form or as JSON with the same names.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web;
use serde_json::json;

use crate::code::Code;
use crate::exchange;
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
use crate::http::rate;
use crate::http::tenant;
use crate::identity::token::MAX_TOKEN;
use crate::json::Json;
use crate::macaroon::MAX_TEXT as MAX_UPLOAD_TOKEN;
use crate::policy::Policy;
use crate::policy::evaluate::Requested;
use crate::policy::registry::Registry;
use crate::policy::scope;
use crate::secret::Presented;
use crate::yielding::Yielding;

const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// CI systems' tokens are labelled one or the other.
const SUBJECT_TOKEN_TYPES: [&str; 2] =
    ["urn:ietf:params:oauth:token-type:id_token", "urn:ietf:params:oauth:token-type:jwt"];

/// The exchange of RFC 8693.
pub static ENDPOINT: Endpoint = Endpoint {
    path: "/v1/token",
    base: Base::Host,
    spelling: Spelling::OAuth,
    operations: &[Operation {
        access: Access::Job,
        method: Verb::Post,
        id: "exchangeToken",
        summary: "Exchange an ID token for an upload token",
        about: "OAuth 2.0 token exchange (RFC 8693), as a form or as JSON with the same names. `audience` and `resource` \
                name the registry where a host has several, and must agree; unknown parameters are ignored (RFC 6749 \
                section 3.2). An ID token is good for one exchange, or for one a package, as the registry's policy says; one \
                that was refused may be sent again.",
        parameters: &[],
        body: Some(Body { media: &[body::FORM, body::JSON], shape: Shape::Open(PARAMETERS), example: EXAMPLE }),
        answers: &[Answer::json(
            StatusCode::OK,
            "The upload token (RFC 8693 section 2.2.1).",
            Shape::Object(ISSUED),
            r#"{"access_token": "tm-AgEM…", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 900, "scope": "upload:widgets"}"#,
        )],
        failures: &[
            &[Code::InvalidTarget, Code::InvalidScope, Code::UnsupportedGrantType],
            codes::SUBJECT_TOKEN,
            codes::DECISION,
            codes::LATER,
        ],
        route: || web::route().to(exchange),
    }],
};

const PARAMETERS: &[Member] = &[
    Member::must("grant_type", Shape::Words(&[TOKEN_EXCHANGE]), "What is asked for: an exchange."),
    Member::must("subject_token", Shape::Text(MAX_TOKEN), "The job's ID token, as the CI system issued it."),
    Member::must("subject_token_type", Shape::Words(&SUBJECT_TOKEN_TYPES), "Both mean the same here."),
    Member::may("requested_token_type", Shape::Words(&[ACCESS_TOKEN]), "The only kind that there is."),
    Member::may("audience", Shape::AnyText, "One of the registry's audiences."),
    Member::may("resource", Shape::AnyText, "One of the registry's upload URLs."),
    Member::may(
        "scope",
        Shape::AnyText,
        "Pairs like `upload:widgets`, separated by spaces, to which the upload token shall be limited; without it, it \
         is for all that the rules grant.",
    ),
];

const ISSUED: &[Member] = &[
    Member::must("access_token", Shape::Text(MAX_UPLOAD_TOKEN), "The upload token: plain ASCII, fit for a header."),
    Member::must("issued_token_type", Shape::Words(&[ACCESS_TOKEN]), "What that is."),
    Member::must("token_type", Shape::Words(&["Bearer"]), "How it is presented."),
    Member::must("expires_in", Shape::Count, "For how many seconds it is good."),
    Member::must("scope", Shape::AnyText, "What it is good for: `action:package` pairs, separated by spaces."),
];

const EXAMPLE: &str = r#"{"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": "eyJhbGciOiJSUzI1NiIs…", "subject_token_type": "urn:ietf:params:oauth:token-type:id_token", "scope": "upload:widgets"}"#;

/// The parameters of RFC 8693 section 2.1 that this service reads; unknown ones are ignored (RFC 6749 section 3.2).
#[derive(Default)]
struct Parameters {
    grant_type: Option<String>,
    subject_token: Option<String>,
    subject_token_type: Option<String>,
    requested_token_type: Option<String>,
    audience: Option<String>,
    resource: Option<String>,
    scope: Option<String>,
    actor_token: Option<String>,
    actor_token_type: Option<String>,
}

/// Exchanges an ID token for an upload token.
pub async fn exchange(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::OAuth, request, payload, public, answer).await
}

async fn answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let Arrival { request, public, policy, now, .. } = arrival;
    let parameters = match body::media_type(request).as_str() {
        body::FORM => from_form(&arrival.body)?,
        body::JSON => from_json(&arrival.body)?,
        _ => {
            let detail = "the body must be `application/x-www-form-urlencoded` or `application/json`";
            return Err(Refusal::new(Code::UnsupportedMediaType, detail));
        }
    };
    check_types(&parameters)?;
    let registry = target(request, public, policy, &parameters)?;
    let narrow = parameters.scope.as_deref().map(|scope| scope::parse(registry.ecosystem(), scope)).transpose()?;
    let place = &arrival.place;
    let give_back = || place.give_back();
    let asked = exchange::Request {
        registry,
        subject_token: Presented::new(parameters.subject_token.as_deref().unwrap_or_default()),
        requested: Requested { package: None, narrow },
        single_use: false,
        yielding: Yielding::new(&give_back),
    };
    let issued = public.app.exchange(policy, asked, &arrival.caller, *now).await?;
    let minted = issued.minted();
    let scope: Vec<String> = minted.permissions.iter().map(ToString::to_string).collect();
    let mut response = HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({
        "access_token": minted.token.expose(),
        "issued_token_type": ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": minted.expires_at.since(*now).as_secs(),
        "scope": scope.join(" "),
    }));
    rate::tell(response.headers_mut(), issued.standing());
    Ok(response)
}

fn from_form(bytes: &[u8]) -> Result<Parameters, Refusal> {
    let mut parameters = Parameters::default();
    for (name, value) in body::form(bytes)? {
        // RFC 6749 section 3.2: a parameter without a value is as if it were omitted.
        if let Some(slot) = parameters.slot(&name).filter(|_| !value.is_empty()) {
            *slot = Some(value);
        }
    }
    Ok(parameters)
}

fn from_json(bytes: &[u8]) -> Result<Parameters, Refusal> {
    let mut parameters = Parameters::default();
    for (name, value) in body::json_object(bytes)?.iter() {
        let Some(slot) = parameters.slot(name) else { continue };
        if *value == Json::Null {
            continue;
        }
        let text = value.as_str().ok_or_else(|| {
            Refusal::new(Code::BadRequest, format!("`{name}` must be a string; it is {}", value.type_name()))
        })?;
        *slot = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
    Ok(parameters)
}

impl Parameters {
    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "grant_type" => &mut self.grant_type,
            "subject_token" => &mut self.subject_token,
            "subject_token_type" => &mut self.subject_token_type,
            "requested_token_type" => &mut self.requested_token_type,
            "audience" => &mut self.audience,
            "resource" => &mut self.resource,
            "scope" => &mut self.scope,
            "actor_token" => &mut self.actor_token,
            "actor_token_type" => &mut self.actor_token_type,
            _ => return None,
        })
    }
}

fn check_types(parameters: &Parameters) -> Result<(), Refusal> {
    let refuse = |code, detail: String| Err(Refusal::new(code, detail));
    match parameters.grant_type.as_deref() {
        Some(TOKEN_EXCHANGE) => {}
        Some(_) => return refuse(Code::UnsupportedGrantType, format!("`grant_type` must be `{TOKEN_EXCHANGE}`")),
        None => return refuse(Code::BadRequest, format!("`grant_type` is missing; it must be `{TOKEN_EXCHANGE}`")),
    }
    if parameters.subject_token.is_none() {
        return refuse(Code::TokenMissing, "`subject_token` is missing or empty".to_owned());
    }
    match parameters.subject_token_type.as_deref() {
        Some(kind) if SUBJECT_TOKEN_TYPES.contains(&kind) => {}
        Some(_) | None => {
            let detail = format!("`subject_token_type` must be `{}`", SUBJECT_TOKEN_TYPES.join("` or `"));
            return refuse(Code::BadRequest, detail);
        }
    }
    if parameters.requested_token_type.as_deref().is_some_and(|kind| kind != ACCESS_TOKEN) {
        return refuse(Code::BadRequest, format!("`requested_token_type` may only be `{ACCESS_TOKEN}`"));
    }
    if parameters.actor_token.is_some() || parameters.actor_token_type.is_some() {
        return refuse(Code::BadRequest, "`actor_token` is not supported: the job acts for itself".to_owned());
    }
    Ok(())
}

/// The registry that the request names by its host and, where it says more, by `audience` and `resource`: they must
/// agree.
fn target<'p>(
    request: &HttpRequest,
    public: &Public,
    policy: &'p Policy,
    parameters: &Parameters,
) -> Result<&'p Registry, Refusal> {
    let mut named = tenant::on_host(request, public, policy)?;
    if let Some(audience) = &parameters.audience {
        named.retain(|registry| registry.audiences.iter().any(|own| own == audience));
    }
    if let Some(resource) = &parameters.resource {
        let target = policy.registries().by_url(resource).map(|registry| registry.id.as_str());
        named.retain(|registry| Some(registry.id.as_str()) == target);
    }
    match named.as_slice() {
        [registry] => Ok(registry),
        [] => Err(Refusal::new(Code::InvalidTarget, "no registry of this host has that `audience` or `resource`")),
        [..] => {
            let detail =
                "several registries share this host and fit the request: `audience` or `resource` must say which";
            Err(Refusal::new(Code::InvalidTarget, detail))
        }
    }
}
