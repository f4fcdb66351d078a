//! Failures on the wire: the only file that names a status code for one.
//!
//! Every client reads another member of an error body, and some crash when theirs is missing, so all endpoints answer
//! with one superset: `message`, `errors[]`, `error`, `body.message` for the clients; `code`, `class`, `request_id` and
//! `explanation` for people and programs. On OAuth endpoints `error` is the RFC's code; on PyPI's the body is also an
//! RFC 9457 problem document, which PEP 807 demands. A refusal never carries anything internal, upstream or secret.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::code::Class;
use crate::code::Code;
use crate::escape::escape;
use crate::exchange::Failure;
use crate::http::endpoint::codes;
use crate::http::endpoint::shape::Member;
use crate::http::endpoint::shape::Shape;
use crate::http::rate;
use crate::policy::scope::ScopeError;
use crate::state::rates::Standing;

/// The page that documents every code.
const DOCUMENTATION: &str = "docs/errors.md";
/// The headers in which a proxy finds the code, and what happened.
const PROXY_CODE: &str = "x-trustmint-code";
const PROXY_DETAIL: &str = "x-trustmint-detail";
/// Longest detail in a header.
const MAX_LINE: usize = 400;

/// How an endpoint's clients expect failures to be spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spelling {
    /// This service's own endpoints.
    Native,
    /// OAuth endpoints: RFC 6749 section 5.2, RFC 8693 section 2.2.2.
    OAuth,
    /// PyPI's endpoints: PEP 807 and what PyPI does today.
    Pypi,
    /// crates.io's endpoint, which refuses with 400 whatever the reason.
    CratesIo,
    /// RubyGems' endpoint: 400 too, since its action shows a text of its own for 404 instead of the answer's.
    RubyGems,
    /// npm's endpoint: the ID token is in `Authorization`, so RFC 6750 section 3.1 says what is wrong with it.
    Npm,
    /// NuGet's endpoint, where the ID token is in `Authorization` too, and 401 says that it does not do, whatever the
    /// reason.
    NuGet,
    /// A registry's proxy, which reads a status and headers: no body.
    Proxy,
}

impl Spelling {
    /// Every spelling.
    pub const ALL: [Self; 8] =
        [Self::Native, Self::OAuth, Self::Pypi, Self::CratesIo, Self::RubyGems, Self::Npm, Self::NuGet, Self::Proxy];

    /// What the description of the API calls its bodies; `None` where there are none.
    pub const fn schema_name(self) -> Option<&'static str> {
        match self {
            Self::Native | Self::CratesIo | Self::RubyGems | Self::Npm | Self::NuGet => Some("Error"),
            Self::OAuth => Some("OAuthError"),
            Self::Pypi => Some("ProblemDetails"),
            Self::Proxy => None,
        }
    }

    /// The media type of its bodies; `None` where there are none.
    pub const fn media_type(self) -> Option<&'static str> {
        match self {
            Self::Native | Self::OAuth | Self::CratesIo | Self::RubyGems | Self::Npm | Self::NuGet => {
                Some("application/json")
            }
            Self::Pypi => Some("application/problem+json"),
            Self::Proxy => None,
        }
    }
}

/// The body. Its members are in the order that people want to read them: uv shows the whole body as it came.
#[derive(Serialize)]
struct Superset<'a> {
    message: &'a str,
    code: Code,
    class: &'a str,
    mend: &'a str,
    documentation: String,
    request_id: &'a str,
    errors: [Entry<'a>; 1],
    body: Nested<'a>,
    #[serde(flatten)]
    own: Own<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a Value>,
}

#[derive(Serialize)]
struct Entry<'a> {
    code: Code,
    description: &'a str,
    detail: &'a str,
}

#[derive(Serialize)]
struct Nested<'a> {
    message: &'a str,
}

/// What a spelling adds.
#[derive(Serialize)]
#[serde(untagged)]
enum Own<'a> {
    Native { error: &'a str },
    OAuth { error: &'a str, error_description: &'a str },
    Pypi { error: &'a str, r#type: &'a str, title: &'a str, status: u16, detail: &'a str },
}

/// The members of [`Superset`], as the description of the API shows them.
const MEMBERS: &[Member] = &[
    Member::must("message", Shape::AnyText, "The cause, then the mend, in one sentence for people."),
    Member::must("code", Shape::AnyText, "The stable code."),
    Member::must("class", Shape::Words(&["request", "refused", "unavailable", "fault"]), "Who must act."),
    Member::must("mend", Shape::AnyText, "What to do."),
    Member::must("documentation", Shape::AnyText, "Where the code is documented."),
    Member::must("request_id", Shape::AnyText, "This request."),
    Member::must("errors", Shape::List(&Shape::AnyObject), "The same once more, where some package clients look."),
    Member::must("body", Shape::AnyObject, "The same once more, where others do."),
    Member::may("explanation", Shape::AnyObject, "Of a refusal by the rules: what they want and what the token has."),
];

/// The members of [`Own`].
const fn own_members(spelling: Spelling) -> &'static [Member] {
    match spelling {
        Spelling::Native
        | Spelling::CratesIo
        | Spelling::RubyGems
        | Spelling::Npm
        | Spelling::NuGet
        | Spelling::Proxy => NATIVE_MEMBERS,
        Spelling::OAuth => OAUTH_MEMBERS,
        Spelling::Pypi => PYPI_MEMBERS,
    }
}

const NATIVE_MEMBERS: &[Member] = &[Member::must("error", Shape::AnyText, "The message once more.")];
const OAUTH_MEMBERS: &[Member] = &[
    Member::must("error", Shape::Words(&OAUTH_ERRORS), "The RFCs' code."),
    Member::must("error_description", Shape::AnyText, "The message once more."),
];
const PYPI_MEMBERS: &[Member] = &[
    Member::must("error", Shape::AnyText, "The message once more."),
    Member::must("type", Shape::AnyText, "RFC 9457's: `about:blank`."),
    Member::must("title", Shape::AnyText, "RFC 9457's."),
    Member::must("status", Shape::Count, "The response's status."),
    Member::must("detail", Shape::AnyText, "The message once more."),
];

/// The JSON Schema of the bodies in that spelling.
pub fn body_schema(spelling: Spelling) -> Value {
    json!({"allOf": [Shape::Open(MEMBERS).schema(), Shape::Open(own_members(spelling)).schema()]})
}

/// A failure on its way out.
#[derive(Debug)]
pub struct Refusal {
    code: Code,
    detail: String,
    explanation: Option<Value>,
    policy: Option<Value>,
    retry_after: Option<Duration>,
    standing: Option<Box<Standing>>,
}

impl Refusal {
    /// A refusal in words of its own.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), explanation: None, policy: None, retry_after: None, standing: None }
    }

    /// Adds to its words what an endpoint knows better than whoever refused.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        self.detail = format!("{}; {hint}", self.detail);
        self
    }

    /// Says when to come back, instead of soon.
    #[must_use]
    pub const fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds what operators see of the policy.
    #[must_use]
    pub fn with_policy(mut self, policy: Value) -> Self {
        self.policy = Some(policy);
        self
    }

    /// The row of the failure table.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What happened, in words, without the mend.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Renders the response in the spelling that the endpoint's clients read. The code is among its extensions too.
    pub fn respond(&self, spelling: Spelling, request_id: &str) -> HttpResponse {
        if self.code.class() == Class::Fault {
            // The caller is told to report the request's id: here is what it leads to.
            tracing::error!(code = self.code.as_str(), request_id, "{}", self.detail);
        }
        let status = status_of(self.code, spelling);
        let message = self.message();
        let own = match spelling {
            Spelling::Native
            | Spelling::CratesIo
            | Spelling::RubyGems
            | Spelling::Npm
            | Spelling::NuGet
            | Spelling::Proxy => Own::Native { error: &message },
            Spelling::OAuth => Own::OAuth { error: oauth_error(self.code), error_description: &message },
            Spelling::Pypi => Own::Pypi {
                error: &message,
                r#type: "about:blank",
                title: "Token request failed",
                status: status.as_u16(),
                detail: &message,
            },
        };
        let body = Superset {
            message: &message,
            code: self.code,
            class: self.code.class().as_str(),
            mend: self.code.mend(),
            documentation: format!("{DOCUMENTATION}#{}", self.code),
            request_id,
            errors: [Entry { code: self.code, description: &message, detail: &message }],
            body: Nested { message: &message },
            own,
            explanation: self.explanation.as_ref(),
            policy: self.policy.as_ref(),
        };
        let mut response = HttpResponse::build(status);
        response.insert_header((header::CACHE_CONTROL, "no-store"));
        if let Some(wait) = self.wait() {
            // Rounded up: a caller who comes back early is refused again.
            let seconds = wait.as_millis().div_ceil(1000).max(1);
            response.insert_header((header::RETRY_AFTER, seconds.to_string()));
        }
        if let Some(challenge) = challenge(status, spelling) {
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        let mut response = if let Some(media_type) = spelling.media_type() {
            response.insert_header((header::CONTENT_TYPE, media_type));
            response.body(serde_json::to_string(&body).unwrap_or_default())
        } else {
            response.insert_header((PROXY_CODE, self.code.as_str())).insert_header((PROXY_DETAIL, self.line()));
            response.finish()
        };
        if let Some(standing) = &self.standing {
            rate::tell(response.headers_mut(), standing);
        }
        response.extensions_mut().insert(self.code);
        response
    }

    /// What happened, as one line that a header can carry.
    fn line(&self) -> String {
        let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        self.detail.chars().take(MAX_LINE).map(plain).collect()
    }

    /// The sentence that people read: the cause, then the mend.
    fn message(&self) -> String {
        // The sentence of an explanation names its own mend, which knows the rule.
        // What strangers wrote may be quoted in a detail; it must not be able to disguise a terminal's line.
        let detail = escape(&self.detail);
        if self.explanation.is_some() { detail.into_owned() } else { format!("{detail} — {}", self.code.mend()) }
    }

    fn wait(&self) -> Option<Duration> {
        if is_retried(self.code) { Some(self.retry_after.unwrap_or(Duration::from_secs(2))) } else { self.retry_after }
    }
}

/// Whether every answer with that code says when to try again.
pub const fn is_retried(code: Code) -> bool {
    matches!(code.class(), Class::Unavailable)
}

/// The status by which an endpoint of that spelling says that code.
pub fn status_of(code: Code, spelling: Spelling) -> StatusCode {
    if matches!(spelling, Spelling::Proxy) {
        // Proxies know 401 and 403; everything else is an error to them, which lets nothing through either.
        return match (code, code.class()) {
            (Code::UploadTokenMissing, _) => StatusCode::UNAUTHORIZED,
            (_, Class::Request | Class::Refused) => StatusCode::FORBIDDEN,
            (_, Class::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
            (_, Class::Fault) => StatusCode::INTERNAL_SERVER_ERROR,
        };
    }
    match (code, code.class()) {
        (Code::NotFound, _) if matches!(spelling, Spelling::RubyGems) => StatusCode::BAD_REQUEST,
        (Code::NotFound | Code::NoSuchIssuer | Code::NoSuchStop, _) => StatusCode::NOT_FOUND,
        (Code::StaticKeys, _) => StatusCode::CONFLICT,
        (Code::PolicyRefused, _) => StatusCode::UNPROCESSABLE_ENTITY,
        (Code::MethodNotAllowed, _) => StatusCode::METHOD_NOT_ALLOWED,
        (Code::UnknownHost, _) => StatusCode::MISDIRECTED_REQUEST,
        (Code::NotAcceptable, _) => StatusCode::NOT_ACCEPTABLE,
        (Code::TooLarge, _) => StatusCode::PAYLOAD_TOO_LARGE,
        (Code::HeadersTooLarge, _) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        (Code::UnsupportedMediaType, _) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        (Code::TooSlow, _) => StatusCode::REQUEST_TIMEOUT,
        (Code::BadApiKey | Code::UploadTokenMissing, _) => StatusCode::UNAUTHORIZED,
        (Code::RateLimited | Code::TooManyRefusals, _) => StatusCode::TOO_MANY_REQUESTS,
        (_, Class::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Class::Fault) => StatusCode::INTERNAL_SERVER_ERROR,
        (_, Class::Request | Class::Refused) => match (spelling, code.class()) {
            // By this status PyPI's clients know that trusted publishing is switched off.
            (Spelling::Pypi, _) if matches!(code, Code::RegistryDisabled) => StatusCode::FORBIDDEN,
            (Spelling::Pypi, _) => StatusCode::UNPROCESSABLE_ENTITY,
            (Spelling::OAuth | Spelling::CratesIo | Spelling::RubyGems, _) => StatusCode::BAD_REQUEST,
            (Spelling::NuGet, Class::Refused) => StatusCode::UNAUTHORIZED,
            (Spelling::Npm | Spelling::NuGet, _) if codes::SUBJECT_TOKEN.contains(&code) => StatusCode::UNAUTHORIZED,
            (_, Class::Refused) => StatusCode::FORBIDDEN,
            (_, _) => StatusCode::BAD_REQUEST,
        },
    }
}

/// What a 401 asks for (RFC 9110 section 11.6.1).
fn challenge(status: StatusCode, spelling: Spelling) -> Option<&'static str> {
    if status != StatusCode::UNAUTHORIZED {
        return None;
    }
    // To a proxy's client, who has a token; the proxy's own key is another header.
    Some(if spelling == Spelling::Proxy { "Basic realm=\"trustmint\"" } else { "Bearer realm=\"trustmint\"" })
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.code(),
            detail: failure.to_string(),
            explanation: failure.explanation(),
            policy: None,
            retry_after: failure.retry_after(),
            standing: failure.standing().map(Box::new),
        }
    }
}

impl From<Standing> for Refusal {
    /// The registry has used up an allowance.
    fn from(used_up: Standing) -> Self {
        let (what, quota) = (used_up.allowance.as_str(), used_up.quota);
        let detail = format!("this registry has had the {quota} {what} that it may have a minute");
        let retry_after = Some(used_up.next_in);
        Self { retry_after, standing: Some(Box::new(used_up)), ..Self::new(Code::RateLimited, detail) }
    }
}

impl From<ScopeError> for Refusal {
    fn from(error: ScopeError) -> Self {
        Self::new(Code::InvalidScope, error.to_string())
    }
}

/// What [`oauth_error`] can say.
const OAUTH_ERRORS: [&str; 6] = [
    "invalid_request",
    "invalid_target",
    "invalid_scope",
    "unsupported_grant_type",
    "temporarily_unavailable",
    "server_error",
];

/// The `error` member of OAuth endpoints. RFC 8693 section 2.2.2: an invalid or unacceptable subject token is
/// `invalid_request`; only the target, the scope and the grant type have names of their own. RFC 6749 section 5.2: a
/// scope that exceeds what can be granted is `invalid_scope` too.
const fn oauth_error(code: Code) -> &'static str {
    match (code, code.class()) {
        (Code::InvalidTarget, _) => "invalid_target",
        (Code::InvalidScope | Code::ScopeNotGranted, _) => "invalid_scope",
        (Code::UnsupportedGrantType, _) => "unsupported_grant_type",
        (_, Class::Unavailable) => "temporarily_unavailable",
        (_, Class::Fault) => "server_error",
        (_, Class::Request | Class::Refused) => "invalid_request",
    }
}
