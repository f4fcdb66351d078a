//! `/v1/authorize`: forward-auth. A proxy asks, before it lets a request through, whether the token in it may do that.
//!
//! SECURITY: what the request is comes from the headers of the one proxy that the policy names, each exactly once, and
//! is read by `policy::route`, which refuses whatever is not plain. The proxy does not see the file, so a token that is
//! limited to a file, a size, an address or a number of uses is refused: those are for `/v1/verify`.

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::http::header::HeaderName;
use actix_web::web;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::code::Class;
use crate::code::Code;
use crate::http::Public;
use crate::http::context;
use crate::http::error::Refusal;
use crate::package::PackageName;
use crate::policy::Policy;
use crate::policy::registry::Registry;
use crate::policy::route::Asked;
use crate::policy::route::Routes;
use crate::secret::sha256;
use crate::verify::Question;

/// The endpoint, and what stands before the path of a call of Envoy's.
pub const PATH: &str = "/v1/authorize";
/// The header with the proxy's API key: `Authorization` is its client's.
const KEY: HeaderName = HeaderName::from_static("x-trustmint-key");
const CODE: &str = "x-trustmint-code";
const DETAIL: &str = "x-trustmint-detail";
/// Headers by which some servers do something else than the request line says.
const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];
/// Longest detail in a header.
const MAX_DETAIL: usize = 400;

/// 200 if the token may do what the request would; 401 without a token; 403 if not; 503 if that cannot be said now.
/// Proxies take everything but the first three for an error and let nothing through.
pub async fn authorize(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    match authorized(&request, &public).await {
        Ok(response) => response,
        Err(refusal) => refused(&refusal),
    }
}

async fn authorized(request: &HttpRequest, public: &Public) -> Result<HttpResponse, Refusal> {
    let (policy, now) = (public.app.policy(), public.app.now());
    let registry = asking_registry(request, &policy)?;
    let _place = public.admit_registry_call()?;
    let none = || Refusal::new(Code::RouteNotAllowed, "the policy has no `routes` for this registry");
    let asked = asked(request, registry.routes.as_deref().ok_or_else(none)?)?;
    let token = token(request)?;
    let package = PackageName::parse(registry.ecosystem(), &asked.package);
    let package =
        package.map_err(|_| Refusal::new(Code::PackageNotCovered, "the path has no package name of this registry"))?;
    let question = Question {
        token: &token,
        action: asked.action,
        package,
        version: asked.version.as_deref(),
        sha256: None,
        size: None,
        client_ip: None,
        consume: None,
    };
    let caller = context::caller_of(request, public);
    let outcome = public.app.verify(&policy, registry, &question, &caller, now).await;
    outcome.result.map_err(|refused| Refusal::new(refused.code(), refused.reasons().join("; ")))?;
    let mut response = HttpResponse::Ok();
    if let Some(authentic) = outcome.authentic {
        response.insert_header(("x-trustmint-token-id", authentic.identifier().id.to_string()));
    }
    Ok(response.insert_header((header::CACHE_CONTROL, "no-store")).finish())
}

fn asking_registry<'p>(request: &HttpRequest, policy: &'p Policy) -> Result<&'p Registry, Refusal> {
    let unknown = || Refusal::new(Code::BadApiKey, "the proxy's `X-Trustmint-Key` is missing or not known");
    let key = one(request, &KEY).ok_or_else(unknown)?;
    let registry = policy.registries().by_caller(&sha256(key.as_bytes()));
    registry.map(|(registry, _)| registry.as_ref()).ok_or_else(unknown)
}

/// What the proxy's request would do.
fn asked(request: &HttpRequest, routes: &Routes) -> Result<Asked, Refusal> {
    let refused = |detail: String| Refusal::new(Code::RouteNotAllowed, detail);
    if let Some(name) = OVERRIDES.iter().find(|name| request.headers().contains_key(**name)) {
        return Err(refused(format!("the server behind could take `{name}` for what is asked")));
    }
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let (method, target) = match routes.proxy.headers() {
        Some((method, path)) => {
            // Nothing but the endpoint itself: a path behind it is of another proxy than the policy names.
            let named = |name: &'static str| {
                let value = one(request, &HeaderName::from_static(name));
                value.ok_or_else(|| refused(format!("the proxy must send `{name}` exactly once")))
            };
            if target != PATH {
                return Err(refused(format!("`{PATH}` is asked without anything behind it")));
            }
            (named(method)?, named(path)?)
        }
        None => (request.method().as_str(), target.strip_prefix(PATH).unwrap_or_default()),
    };
    routes.resolve(method, target).map_err(|error| refused(error.to_string()))
}

/// The client's token: as `Bearer`, or as the password of `Basic` with any user.
fn token(request: &HttpRequest) -> Result<String, Refusal> {
    let missing = || Refusal::new(Code::UploadTokenMissing, "the request has no upload token in `Authorization`");
    let (scheme, credentials) =
        one(request, &header::AUTHORIZATION).and_then(|it| it.split_once(' ')).ok_or_else(missing)?;
    let credentials = credentials.trim();
    if scheme.eq_ignore_ascii_case("bearer") && !credentials.is_empty() {
        return Ok(credentials.to_owned());
    }
    let basic = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(credentials).ok()).flatten();
    let pair = basic.and_then(|bytes| String::from_utf8(bytes).ok());
    let password = pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, password)| password.to_owned());
    password.filter(|password| !password.is_empty()).ok_or_else(missing)
}

/// The value of a header that occurs once, as text.
fn one<'r>(request: &'r HttpRequest, name: &HeaderName) -> Option<&'r str> {
    let mut values = request.headers().get_all(name);
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn refused(refusal: &Refusal) -> HttpResponse {
    let status = match (refusal.code(), refusal.code().class()) {
        (Code::UploadTokenMissing, _) => StatusCode::UNAUTHORIZED,
        (_, Class::Request | Class::Refused) => StatusCode::FORBIDDEN,
        (_, Class::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Class::Fault) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    let detail: String = refusal.detail().chars().take(MAX_DETAIL).map(plain).collect();
    let mut response = HttpResponse::build(status);
    response.insert_header((header::CACHE_CONTROL, "no-store"));
    response.insert_header((CODE, refusal.code().as_str())).insert_header((DETAIL, detail));
    match status {
        StatusCode::UNAUTHORIZED => {
            response.insert_header((header::WWW_AUTHENTICATE, "Basic realm=\"trustmint\""));
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            response.insert_header((header::RETRY_AFTER, "2"));
        }
        _ => {}
    }
    response.finish()
}
