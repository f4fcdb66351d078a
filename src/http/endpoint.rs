//! What a public endpoint is: where it is, who calls it, what it reads and every answer that it gives.
//!
//! One record an endpoint, beside its handler. The public listener's routes are made of these records and of nothing
//! else, so an endpoint that nobody has described is not there; `http::openapi` shows the same records to readers. What
//! can fail is said in codes, and their statuses and media types come from `http::error`, which makes the responses too.

use actix_web::HttpRequest;
use actix_web::Resource;
use actix_web::Route;
use actix_web::guard;
use actix_web::http::Method;
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::http::header::HeaderValue;
use actix_web::web;

use crate::code::Code;
use crate::http::body;
use crate::http::context;
use crate::http::error::Refusal;
use crate::http::error::Spelling;

pub mod codes;
pub mod shape;

use self::shape::Shape;

/// One path of the public listener.
#[derive(Debug)]
pub struct Endpoint {
    /// The path as the router spells it: a tail is `{name:.*}`.
    pub path: &'static str,
    /// What the path is below.
    pub base: Base,
    /// How its clients read failures.
    pub spelling: Spelling,
    /// What can be asked there: at most one operation a method.
    pub operations: &'static [Operation],
}

/// What an endpoint's path is below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The root of the host.
    Host,
    /// Whatever path the request has before it, none included. SECURITY: the router matches a path that is half decoded, so
    /// it says no more than that the handler is to look; that compares the raw path with the registry's URL.
    Registry,
}

/// Who calls an endpoint, and the credential by which it knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever likes to know: no credential.
    Anyone,
    /// A CI job: the ID token in the body is the credential.
    Job,
    /// A CI job: the ID token in `Authorization` is the credential.
    JobHeader,
    /// Whoever holds an upload token: the token in the body is the credential.
    Holder,
    /// Whoever holds an upload token: the token in `Authorization` is the credential.
    HolderHeader,
    /// A registry, by its API key.
    Registry,
    /// A registry, by its API key, as often as it needs to.
    RegistryAlways,
    /// A registry's proxy, by its API key, about the client whose upload token it passes on.
    Proxy,
}

/// What can be asked at a path by one method.
#[derive(Debug)]
pub struct Operation {
    /// Who asks, and what proves that.
    pub access: Access,
    /// By which method.
    pub method: Verb,
    /// Its name in generated clients; of [`Verb::Any`] the first part of it.
    pub id: &'static str,
    /// In one line.
    pub summary: &'static str,
    /// What it does and what to know about it. Text in backticks is code.
    pub about: &'static str,
    /// What is read besides the body and the credential.
    pub parameters: &'static [Parameter],
    /// What is read of the body.
    pub body: Option<Body>,
    /// Every answer that is no failure, by status.
    pub answers: &'static [Answer],
    /// What can fail, besides what can fail for each caller of that kind ([`Access::failures`]).
    pub failures: &'static [&'static [Code]],
    /// The handler.
    pub route: fn() -> Route,
}

/// By which method an operation is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET, and HEAD, which asks for the same without the body.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// Whatever the method is: it is another request's.
    Any,
}

/// A parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// Where it is.
    pub place: Place,
    /// Whether a request without it fails.
    pub required: bool,
    /// What its value may be.
    pub shape: Shape,
    /// What it says.
    pub about: &'static str,
}

/// Where a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the query.
    Query,
    /// In a header.
    Header,
    /// The rest of the path.
    Path,
}

/// A body that is read.
#[derive(Debug)]
pub struct Body {
    /// As which media types: the same members in each.
    pub media: &'static [&'static str],
    /// Its members.
    pub shape: Shape,
    /// One that is read, as JSON.
    pub example: &'static str,
}

/// An answer that is no failure.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What it means.
    pub about: &'static str,
    /// Its body, if it has one.
    pub content: Option<Content>,
    /// Headers that it has besides those of every answer, each with what it says.
    pub headers: &'static [(&'static str, &'static str)],
}

/// The body of an answer.
#[derive(Debug)]
pub struct Content {
    /// Its media type.
    pub media: &'static str,
    /// What it is.
    pub shape: Shape,
    /// One such body, as JSON.
    pub example: &'static str,
}

impl Answer {
    /// One with a body of JSON.
    pub const fn json(status: StatusCode, about: &'static str, shape: Shape, example: &'static str) -> Self {
        Self { status, about, content: Some(Content { media: body::JSON, shape, example }), headers: &[] }
    }

    /// One without a body.
    pub const fn empty(status: StatusCode, about: &'static str) -> Self {
        Self { status, about, content: None, headers: &[] }
    }
}

impl Endpoint {
    /// The path as documents spell it.
    pub fn shown_path(&self) -> String {
        self.path.replace(":.*}", "}")
    }

    /// The methods that it knows, as `Allow` lists them; `None` if it takes every one.
    pub fn methods(&self) -> Option<String> {
        let names: Vec<&str> = self.operations.iter().flat_map(|operation| operation.method.names()).copied().collect();
        let any = self.operations.iter().any(|operation| operation.method == Verb::Any);
        (!any).then(|| names.join(", "))
    }

    /// Its route. Other methods are refused in its spelling, with the methods that it knows (RFC 9110 section 15.5.6).
    pub fn resource(&'static self) -> Resource {
        let mut resource = match self.base {
            Base::Host => web::resource(self.path),
            Base::Registry => web::resource([self.path.to_owned(), format!("/{{base:.*}}{}", self.path)]),
        };
        for operation in self.operations {
            let route = (operation.route)();
            resource = resource.route(match operation.method {
                Verb::Get => route.guard(guard::Any(guard::Get()).or(guard::Head())),
                Verb::Post => route.guard(guard::Post()),
                Verb::Put => route.guard(guard::Put()),
                Verb::Delete => route.guard(guard::Delete()),
                Verb::Any => route,
            });
        }
        let refuse = move |request: HttpRequest| async move {
            let methods = self.methods().unwrap_or_default();
            let refusal = Refusal::new(Code::MethodNotAllowed, format!("the endpoint knows {methods} only"));
            let mut response = refusal.respond(self.spelling, &context::id_of(&request));
            if let Ok(methods) = HeaderValue::from_str(&methods) {
                response.headers_mut().insert(header::ALLOW, methods);
            }
            response
        };
        resource.default_service(web::to(refuse))
    }
}

impl Operation {
    /// Whether it is asked for by that method.
    pub fn is_asked_by(&self, method: &Method) -> bool {
        self.method == Verb::Any || self.method.names().contains(&method.as_str())
    }

    /// Every code that it can fail with, each once.
    pub fn codes(&self) -> Vec<Code> {
        let mut codes: Vec<Code> = Vec::new();
        for code in self.access.failures().iter().chain(self.failures).flat_map(|group| *group) {
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        codes
    }
}

/// Which refusals are counted for the client that they were given to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// None: what is asked costs little.
    Nothing,
    /// Those of an API key that is not known; whoever has one is never held up.
    Keys,
    /// All that are for what was sent, and then nothing more of that client is looked at.
    Everything,
}

impl Access {
    /// Which of its refusals count for the client. Behind a proxy's key stand the clients of its registry, and behind a
    /// registry's whoever uploads there: what they send is refused in their name.
    pub const fn counted(self) -> Counted {
        match self {
            Self::Anyone => Counted::Nothing,
            Self::Job | Self::JobHeader | Self::Holder | Self::HolderHeader => Counted::Everything,
            Self::Registry | Self::RegistryAlways | Self::Proxy => Counted::Keys,
        }
    }

    /// Every kind of caller, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Job,
        Self::JobHeader,
        Self::Holder,
        Self::HolderHeader,
        Self::Registry,
        Self::RegistryAlways,
        Self::Proxy,
        Self::Anyone,
    ];

    /// Who that is, as a heading.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Anyone => "Anyone",
            Self::Job => "CI jobs",
            Self::JobHeader => "CI jobs, with a header",
            Self::Holder => "Holders of upload tokens",
            Self::HolderHeader => "Holders of upload tokens, with a header",
            Self::Registry => "Registries",
            Self::RegistryAlways => "Registries, uncounted",
            Self::Proxy => "Registries' proxies",
        }
    }

    /// What they present.
    pub const fn credential(self) -> &'static str {
        match self {
            Self::Anyone => "No credential. The host that the request names says which registry is meant.",
            Self::Job => {
                "The ID token in the body is the credential, and the host that the request names says which registry is \
                 meant: no other authentication."
            }
            Self::JobHeader => {
                "The ID token is the credential, as `Authorization: Bearer`, once; the host that the request names says \
                 which registry is meant."
            }
            Self::HolderHeader => {
                "The upload token is the credential, as `Authorization: Bearer` or as the whole of that header, once; the \
                 host that the request names says which registry is meant."
            }
            Self::Holder => {
                "The upload token in the body is the credential, and the host that the request names says which registry \
                 is meant: no other authentication."
            }
            Self::Registry => {
                "`Authorization: Bearer` with one of the registry's API keys, which also says which registry asks: it can \
                 ask about its own tokens alone."
            }
            Self::RegistryAlways => {
                "`Authorization: Bearer` with one of the registry's API keys, as above. No allowance is in the way: the call \
                 counts against none."
            }
            Self::Proxy => {
                "`X-Trustmint-Key` with one of the registry's API keys; `Authorization` is the client's, with its upload \
                 token as `Bearer` or as the password of `Basic`."
            }
        }
    }

    /// Whether its answers are counted against a registry's allowance, and say how that stands.
    pub const fn is_counted(self) -> bool {
        match self {
            Self::Job | Self::JobHeader | Self::Registry | Self::Proxy => true,
            Self::Anyone | Self::Holder | Self::HolderHeader | Self::RegistryAlways => false,
        }
    }

    /// What can fail for every caller of that kind, whatever is asked.
    pub const fn failures(self) -> &'static [&'static [Code]] {
        match self {
            Self::Anyone => &[codes::ANY, codes::HOST],
            Self::Job | Self::JobHeader | Self::Holder | Self::HolderHeader => {
                &[codes::ANY, codes::CLIENT, codes::HOST, codes::BODY]
            }
            Self::Registry => &[codes::ANY, codes::CLIENT, codes::KEY, codes::RATE, codes::BODY],
            Self::RegistryAlways => &[codes::ANY, codes::CLIENT, codes::KEY, codes::BODY],
            Self::Proxy => &[codes::ANY, codes::CLIENT, codes::KEY, codes::RATE],
        }
    }
}

impl Verb {
    /// The methods, of which OpenAPI knows these.
    pub const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Get => &["GET", "HEAD"],
            Self::Post => &["POST"],
            Self::Put => &["PUT"],
            Self::Delete => &["DELETE"],
            Self::Any => &["GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"],
        }
    }
}
