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

use crate::code::Code;
use crate::http::Admitted;
use crate::http::Public;
use crate::http::arrival::rendered;
use crate::http::context;
use crate::http::endpoint::Access;
use crate::http::endpoint::Answer;
use crate::http::endpoint::Base;
use crate::http::endpoint::Endpoint;
use crate::http::endpoint::Operation;
use crate::http::endpoint::Parameter;
use crate::http::endpoint::Place;
use crate::http::endpoint::Verb;
use crate::http::endpoint::codes;
use crate::http::endpoint::shape::Shape;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::rate;
use crate::package::PackageName;
use crate::policy::Policy;
use crate::policy::registry::Registry;
use crate::policy::route::Asked;
use crate::policy::route::Routes;
use crate::secret::Presented;
use crate::secret::sha256;
use crate::verify::Question;
use crate::yielding::Yielding;

/// The endpoint, and what stands before the path of a call of Envoy's.
pub const PATH: &str = "/v1/authorize";
/// The header with the proxy's API key: `Authorization` is its client's.
const KEY: HeaderName = HeaderName::from_static("x-trustmint-key");
/// Headers by which some servers do something else than the request line says.
const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];

/// What nginx and Traefik ask.
pub static ENDPOINT: Endpoint =
    Endpoint { path: PATH, base: Base::Host, spelling: Spelling::Proxy, operations: &[asking("authorize", &HEADERS)] };

/// What Envoy asks: its client's method and path.
pub static WITH_PATH: Endpoint = Endpoint {
    path: "/v1/authorize/{path:.*}",
    base: Base::Host,
    spelling: Spelling::Proxy,
    operations: &[asking("authorizePath", &[TAIL])],
};

const fn asking(id: &'static str, parameters: &'static [Parameter]) -> Operation {
    Operation {
        access: Access::Proxy,
        method: Verb::Any,
        id,
        summary: "Whether a request may be let through",
        about: "Forward-auth for nginx (`auth_request`), Traefik (`forwardAuth`) and Envoy (`ext_authz`), in front of \
                registries whose paths name the package. The registry's `routes` list what may pass and say which proxy \
                asks: nginx and Traefik name their client's request in headers, each exactly once; Envoy asks with its \
                client's own method, and with the path behind this one's. Only what one route lists and is spelled plainly \
                passes. Answers have no body; what is neither 200, 401 nor 403 says that it cannot be told now.",
        parameters,
        body: None,
        answers: &[Answer {
            status: StatusCode::OK,
            about: "Let it through.",
            content: None,
            headers: &[("X-Trustmint-Token-Id", "The token's id.")],
        }],
        failures: &[&[Code::RouteNotAllowed, Code::UploadTokenMissing], codes::UPLOAD_TOKEN, codes::UNSAID],
        route: || web::route().to(authorize),
    }
}

const HEADERS: [Parameter; 4] = [
    header_of("X-Original-Method", "nginx: the method of its client's request."),
    header_of("X-Original-URI", "nginx: the path of its client's request, as it came."),
    header_of("X-Forwarded-Method", "Traefik: the method of its client's request."),
    header_of("X-Forwarded-Uri", "Traefik: the path of its client's request, as it came."),
];

const fn header_of(name: &'static str, about: &'static str) -> Parameter {
    Parameter { name, place: Place::Header, required: false, shape: Shape::AnyText, about }
}

const TAIL: Parameter = Parameter {
    name: "path",
    place: Place::Path,
    required: true,
    shape: Shape::AnyText,
    about: "The path of Envoy's client, its slashes as they are.",
};

/// 200 if the token may do what the request would; 401 without a token; 403 if not; 503 if that cannot be said now.
/// Proxies take everything but the first three for an error and let nothing through.
pub async fn authorize(request: HttpRequest, public: web::Data<Public>) -> HttpResponse {
    rendered(authorized(&request, &public).await, Spelling::Proxy, &request)
}

async fn authorized(request: &HttpRequest, public: &Public) -> Result<HttpResponse, Refusal> {
    let (policy, now) = (public.app.policy(), public.app.now());
    let registry = asking_registry(request, &policy)?;
    let standing = public.app.count_call(registry, now)?;
    let mut response = rendered(let_through(request, public).await, Spelling::Proxy, request);
    rate::tell(response.headers_mut(), &standing);
    Ok(response)
}

async fn let_through(request: &HttpRequest, public: &Public) -> Result<HttpResponse, Refusal> {
    let Admitted { place: _place, now, policy } = public.admit_registry_call().await?;
    let registry = asking_registry(request, &policy)?;
    let none = || Refusal::new(Code::RouteNotAllowed, "the policy has no `routes` for this registry");
    let asked = asked(request, registry.routes.as_deref().ok_or_else(none)?)?;
    let token = token(request)?;
    let package = PackageName::parse(registry.ecosystem(), &asked.package);
    let package =
        package.map_err(|_| Refusal::new(Code::PackageNotCovered, "the path has no package name of this registry"))?;
    let question = Question {
        token: Presented::new(&token),
        action: asked.action,
        package,
        version: asked.version.as_deref(),
        sha256: None,
        size: None,
        client_ip: None,
        consume: None,
        yielding: Yielding::NOTHING,
    };
    let caller = context::caller_of(request, public);
    let outcome = public.app.verify(&policy, registry, &question, &caller, now).await;
    outcome.result.map_err(|refused| Refusal::from(&refused))?;
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
