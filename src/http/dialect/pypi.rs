//! PyPI's trusted publishing: PEP 807 discovery and the paths that uv, twine, pdm and maturin call today.
//!
//! Clients drop the upload URL's path and ask the root of its host, so the host alone names the registry. They send
//! any content type, or none.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::http::header::ContentType;
use actix_web::web;
use serde_json::json;

use crate::code::Code;
use crate::codec::Codec;
use crate::exchange;
use crate::http::Public;
use crate::http::arrival;
use crate::http::arrival::Arrival;
use crate::http::body;
use crate::http::body::printable;
use crate::http::dialect;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Base;
use crate::http::endpoint::Body;
use crate::http::endpoint::Content;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Parameter;
use crate::http::endpoint::Place;
use crate::http::endpoint::Verb;
use crate::http::endpoint::codes;
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::tenant;
use crate::identity::token::MAX_TOKEN;
use crate::json::Json;
use crate::json::Object;
use crate::macaroon::MAX_TEXT as MAX_UPLOAD_TOKEN;
use crate::macaroon::Minted;
use crate::policy::dialect::Dialect;
use crate::policy::evaluate::Requested;
use crate::policy::registry::Registry;
use crate::secret::Presented;
use crate::yielding::Yielding;

const MEDIA_TYPE: &str = "application/vnd.pypi.pytp.v1+json";
const SINGLE_USE: &str = "single-use-token";
const MULTI_USE: &str = "multi-use-token";

/// PEP 807's discovery.
pub static DISCOVERY: Endpoint = Endpoint {
    path: "/.well-known/pytp",
    base: Base::Host,
    spelling: Spelling::Pypi,
    operations: &[Operation {
        access: Access::Anyone,
        method: Verb::Get,
        id: "discoverPypi",
        summary: "Where an index does trusted publishing (PEP 807)",
        about: "Of the registry with dialect `pypi` at this host, for one of its upload URLs.",
        parameters: &[
            Parameter {
                name: "discover",
                place: Place::Query,
                required: true,
                shape: Shape::AnyText,
                about: "The path of the upload URL, such as `/legacy/`.",
            },
            Parameter {
                name: "Accept",
                place: Place::Header,
                required: false,
                shape: Shape::Words(&[MEDIA_TYPE]),
                about: "This media type, a range that holds it, or nothing.",
            },
        ],
        body: None,
        answers: &[Answer {
            status: StatusCode::OK,
            about: "The endpoints, on this very host, and the features.",
            content: Some(Content {
                media: MEDIA_TYPE,
                shape: Shape::Object(&[
                    Member::must("audience-endpoint", Shape::Format("uri"), "Where to ask for the audience."),
                    Member::must("token-mint-endpoint", Shape::Format("uri"), "Where to exchange the ID token."),
                    Member::must("features", Shape::List(&Shape::AnyText), "What can be asked for."),
                    Member::must("default-features", Shape::List(&Shape::AnyText), "What there is without asking."),
                ]),
                example: r#"{"audience-endpoint": "https://pypi.acme.example/_/oidc/audience", "token-mint-endpoint": "https://pypi.acme.example/_/oidc/mint-token", "features": ["single-use-token", "multi-use-token"], "default-features": ["multi-use-token"]}"#,
            }),
            headers: &[],
        }],
        failures: &[codes::DIALECT, &[Code::NotAcceptable]],
        route: || web::route().to(discover),
    }],
};

/// PyPI's audience.
pub static AUDIENCE: Endpoint = Endpoint {
    path: "/_/oidc/audience",
    base: Base::Host,
    spelling: Spelling::Pypi,
    operations: &[Operation {
        access: Access::Anyone,
        method: Verb::Get,
        id: "getPypiAudience",
        summary: "For which audience a job requests its ID token",
        about: "Of the registry with dialect `pypi` at this host.",
        parameters: &[],
        body: None,
        answers: &[Answer::json(
            StatusCode::OK,
            "The audience.",
            Shape::Object(&[Member::must("audience", Shape::AnyText, "The `aud` that the ID token shall have.")]),
            r#"{"audience": "acme"}"#,
        )],
        failures: &[codes::DIALECT, &[Code::RegistryDisabled]],
        route: || web::route().to(audience),
    }],
};

/// PyPI's exchange, where uv, twine, pdm and maturin look for it.
pub static MINT: Endpoint = minting("/_/oidc/mint-token", &[mint_operation("mintPypiToken")]);

/// The same, where older clients look for it.
pub static GITHUB_MINT: Endpoint = minting("/_/oidc/github/mint-token", &[mint_operation("mintPypiTokenGithub")]);

const fn minting(path: &'static str, operations: &'static [Operation]) -> Endpoint {
    Endpoint { path, base: Base::Host, spelling: Spelling::Pypi, operations }
}

const MINT_BODY: &[Member] = &[
    Member::must("token", Shape::Text(MAX_TOKEN), "The job's ID token."),
    Member::may(
        "features",
        Shape::OrNull(&Shape::List(&Shape::Words(&[SINGLE_USE, MULTI_USE]))),
        "What the upload token shall be (PEP 807): one of those that discovery lists.",
    ),
];

const MINTED: &[Answer] = &[Answer::json(
    StatusCode::OK,
    "The upload token.",
    Shape::Object(&[
        Member::must("success", Shape::Always(true), "What clients look at."),
        Member::must("token", Shape::Text(MAX_UPLOAD_TOKEN), "The upload token, for `__token__`."),
        Member::must("expires", Shape::Count, "Until when it is good, in seconds of Unix time."),
    ]),
    r#"{"success": true, "token": "pypi-AgEM…", "expires": 1795737300}"#,
)];

const fn mint_operation(id: &'static str) -> Operation {
    Operation {
        access: Access::Job,
        method: Verb::Post,
        id,
        summary: "Exchange an ID token as PyPI's clients do",
        about: "At the root of the host, whatever the path of the upload URL is: clients drop it. The content type is not \
                looked at. The token is for everything that the rules grant.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Open(MINT_BODY),
            example: r#"{"token": "eyJhbGciOiJSUzI1NiIs…"}"#,
        }),
        answers: MINTED,
        failures: &[codes::DIALECT, codes::SUBJECT_TOKEN, codes::DECISION, codes::LATER],
        route: || web::route().to(mint),
    }
}

/// PyPI's revocation, which uv calls when it has ended.
pub static BURN: Endpoint = Endpoint {
    path: "/_/oidc/burn-token",
    base: Base::Host,
    spelling: Spelling::Pypi,
    operations: &[Operation {
        access: Access::Holder,
        method: Verb::Post,
        id: "burnPypiToken",
        summary: "Revoke an upload token as PyPI's clients do",
        about: "As `/v1/revoke`. The content type is not looked at.",
        parameters: &[],
        body: Some(Body {
            media: &[body::JSON],
            shape: Shape::Open(&[Member::must("token", Shape::AnyText, "The upload token.")]),
            example: r#"{"token": "pypi-AgEM…"}"#,
        }),
        answers: &[Answer::json(
            StatusCode::ACCEPTED,
            "The token is good for nothing; also if it never was.",
            Shape::Object(&[]),
            "{}",
        )],
        failures: &[codes::DIALECT, codes::REVOKING, &[Code::TokenMissing]],
        route: || web::route().to(burn),
    }],
};

/// `GET /.well-known/pytp?discover=<path of the upload URL>`: where this index does trusted publishing.
pub async fn discover(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    let answer = || -> Result<HttpResponse, Refusal> {
        accepts(&request)?;
        let policy = public.app.policy();
        let registry = tenant::of_dialect(&request, &public, &policy, Dialect::Pypi)?;
        let path = discovered_path(request.query_string())?;
        // On this host alone: clients refuse an answer that leads to another one.
        let urls = tenant::urls(&request, &public, registry)?;
        let url = urls.into_iter().find(|url| url.path() == path).ok_or_else(|| {
            Refusal::new(Code::NotFound, format!("no upload URL of this host has the path `{}`", printable(&path)))
        })?;
        let origin = url.origin().ascii_serialization();
        let features = features(registry.codec);
        Ok(HttpResponse::Ok().content_type(MEDIA_TYPE).json(json!({
            "audience-endpoint": format!("{origin}/_/oidc/audience"),
            "token-mint-endpoint": format!("{origin}/_/oidc/mint-token"),
            "features": features,
            "default-features": [MULTI_USE],
        })))
    };
    arrival::rendered(answer(), Spelling::Pypi, &request)
}

/// `GET /_/oidc/audience`: for which audience a job shall request its ID token.
pub async fn audience(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    let answer = || -> Result<HttpResponse, Refusal> {
        let policy = public.app.policy();
        let registry = tenant::of_dialect(&request, &public, &policy, Dialect::Pypi)?;
        let disabled = || Refusal::new(Code::RegistryDisabled, "trusted publishing is switched off for this registry");
        let audience = registry.audiences.first().filter(|_| registry.enabled).ok_or_else(disabled)?;
        Ok(HttpResponse::Ok().json(json!({ "audience": audience })))
    };
    arrival::rendered(answer(), Spelling::Pypi, &request)
}

/// `POST /_/oidc/mint-token {"token": "<ID token>", "features": […]}`: the exchange.
pub async fn mint(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::Pypi, request, payload, public, mint_answer).await
}

async fn mint_answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = tenant::of_dialect(arrival.request, arrival.public, &arrival.policy, Dialect::Pypi)?;
    let body = body::json_object(&arrival.body).map_err(|refusal| refusal.hint("send `{\"token\": \"…\"}`"))?;
    let subject_token = dialect::token(&body, "token").map_err(|refusal| {
        if refusal.code() == Code::TokenMissing { refusal.hint(&variable(registry)) } else { refusal }
    })?;
    let place = &arrival.place;
    let give_back = || place.give_back();
    let asked = exchange::Request {
        registry,
        subject_token: Presented::new(subject_token),
        requested: Requested::default(),
        single_use: wants_single_use(&body, features(registry.codec))?,
        yielding: Yielding::new(&give_back),
    };
    let issued = arrival.public.app.exchange(&arrival.policy, asked, &arrival.caller, arrival.now).await?;
    Ok(dialect::answer(HttpResponse::Ok().content_type(ContentType::json()).body(minted(issued.minted())), &issued))
}

/// [`MINTED`]. Written at once, with no copy of the token besides: on the way of every exchange, and to look at each character
/// for what JSON escapes takes 12,000 instructions, though a token has only letters, digits, `_` and `-`.
fn minted(minted: &Minted) -> String {
    let (token, expires) = (minted.token.expose(), minted.expires_at.unix_seconds().to_string());
    [r#"{"success":true,"token":""#, token, r#"","expires":"#, &expires, "}"].concat()
}

/// `POST /_/oidc/burn-token {"token": "<upload token>"}`: 202 whether or not there was anything to revoke.
pub async fn burn(request: HttpRequest, payload: web::Payload, public: web::Data<Public>) -> HttpResponse {
    arrival::anonymous(Spelling::Pypi, request, payload, public, burn_answer).await
}

async fn burn_answer(arrival: &Arrival<'_>) -> Result<HttpResponse, Refusal> {
    let registry = tenant::of_dialect(arrival.request, arrival.public, &arrival.policy, Dialect::Pypi)?;
    let body = body::json_object(&arrival.body)?;
    // An empty token is one more that is not there to be revoked.
    let token = body.get("token").and_then(Json::as_str).map_or_else(|| dialect::token(&body, "token"), Ok)?;
    arrival.public.app.revoke(&[registry], token, &arrival.caller, arrival.now).await?;
    Ok(HttpResponse::Accepted().insert_header((header::CACHE_CONTROL, "no-store")).json(json!({})))
}

/// PEP 807: a missing `Accept` means this media type; any other is 406.
fn accepts(request: &HttpRequest) -> Result<(), Refusal> {
    let fits = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", MEDIA_TYPE].iter().any(|fitting| range.eq_ignore_ascii_case(fitting))
    };
    let mut accepted = request.headers().get_all(header::ACCEPT).map(|value| value.to_str().unwrap_or_default());
    if !request.headers().contains_key(header::ACCEPT) || accepted.any(|ranges| ranges.split(',').any(fits)) {
        return Ok(());
    }
    Err(Refusal::new(Code::NotAcceptable, "the `Accept` header names no format of this endpoint"))
}

/// The path that the query asks about, decoded once: as the policy's URLs have it, their own escapes in place.
fn discovered_path(query: &str) -> Result<String, Refusal> {
    let path = body::form(query.as_bytes())?.into_iter().find(|(name, _)| name == "discover").map(|(_, value)| value);
    path.ok_or_else(|| Refusal::new(Code::BadRequest, "`discover` is missing: it is the path of the upload URL"))
}

/// Where clients look for a GitLab job's token: it must be declared under this very name.
fn variable(registry: &Registry) -> String {
    let shout = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let audience = registry.audiences.first().map(String::as_str).unwrap_or_default();
    let name: String = audience.chars().map(shout).collect();
    format!("in GitLab CI, clients read it from the variable `{name}_ID_TOKEN`")
}

/// PEP 807: what an upload token can be asked to be. `PyPI`'s caveats have no word for a number of uses.
const fn features(codec: Codec) -> &'static [&'static str] {
    match codec {
        Codec::Text => &[SINGLE_USE, MULTI_USE],
        Codec::Pypi => &[MULTI_USE],
    }
}

/// PEP 807: which of the features the token shall have. Any other is refused: it may be a restriction.
fn wants_single_use(body: &Object, known: &[&str]) -> Result<bool, Refusal> {
    let mut single = false;
    let mut multi = false;
    let features = match body.get("features") {
        None | Some(Json::Null) => return Ok(false),
        Some(Json::Array(features)) => features,
        Some(other) => {
            let detail = format!("`features` must be a list; it is {}", other.type_name());
            return Err(Refusal::new(Code::BadRequest, detail));
        }
    };
    for feature in features {
        match feature.as_str() {
            Some(SINGLE_USE) if known.contains(&SINGLE_USE) => single = true,
            Some(MULTI_USE) => multi = true,
            other => {
                let name = printable(other.unwrap_or("?"));
                let detail = format!("the feature `{name}` is none of this index; it has `{}`", known.join("`, `"));
                return Err(Refusal::new(Code::BadRequest, detail));
            }
        }
    }
    if single && multi {
        return Err(Refusal::new(Code::BadRequest, "a token is either single-use or multi-use"));
    }
    Ok(single)
}
