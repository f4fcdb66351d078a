//! What every handler knows of its request before it reads it: the request's id and the client.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use actix_web::Error;
use actix_web::HttpMessage;
use actix_web::HttpRequest;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceRequest;
use actix_web::dev::ServiceResponse;
use actix_web::error::InternalError;
use actix_web::http::ConnectionType;
use actix_web::http::Method;
use actix_web::http::header::HeaderName;
use actix_web::http::header::HeaderValue;
use actix_web::http::header::X_CONTENT_TYPE_OPTIONS;
use actix_web::middleware::Next;
use actix_web::rt;
use actix_web::web;

use crate::app::App;
use crate::app::Caller;
use crate::code::Code;
use crate::http::ENDPOINTS;
use crate::http::Public;
use crate::http::admission::Connection;
use crate::http::clients::Accountable;
use crate::http::endpoint::Endpoint;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::origin;
use crate::macaroon::TokenId;
use crate::secret::random_name;
use crate::telemetry::metrics::NONE;
use crate::telemetry::trace::Answered;
use crate::telemetry::trace::Link;
use crate::telemetry::trace::Traced;
use crate::time::Timestamp;

/// Most bytes of the request's target and of header names and values together.
const MAX_HEADERS: usize = 16 * 1024;

/// The header by which a caller says which trace its request belongs to (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// The id under which the middleware filed the request.
#[derive(Debug, Clone)]
struct RequestId(String);

/// Who sent the request, for the record.
pub fn caller_of(request: &HttpRequest, public: &Public) -> Caller {
    Caller { request_id: id_of(request), client: origin::client(request, &public.trusted_proxies) }
}

/// The request's id.
pub fn id_of(request: &HttpRequest) -> String {
    request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.0.clone())
}

/// A new id: of our own drawing, since a caller's could collide or forge log lines.
pub fn draw_id(now: Timestamp) -> String {
    draw(now).to_string()
}

fn draw(now: Timestamp) -> TokenId {
    TokenId::new(now, random_name().unwrap_or_default())
}

/// Gives every request an id and perhaps a trace, refuses oversized headers, and keeps browsers from guessing content types.
pub async fn middleware<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<actix_web::body::EitherBody<B>>, Error> {
    let Some(public) = request.app_data::<web::Data<Public>>().cloned() else {
        let refusal = Refusal::new(Code::Internal, "the routes have no service");
        return Err(InternalError::from_response("no service", refusal.respond(Spelling::Native, "")).into());
    };
    let now = public.app.now();
    let drawn = draw(now);
    let traced = public.app.tracer().request(drawn.as_u128(), now, || link(&request));
    let method = known(request.method());
    let id = drawn.to_string();
    request.extensions_mut().insert(RequestId(id.clone()));

    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let endpoint = endpoint_of(&request);
    let spelling = endpoint.map_or(Spelling::Native, |endpoint| endpoint.spelling);
    let head = if target + headers > MAX_HEADERS {
        Err(Refusal::new(Code::HeadersTooLarge, "headers and request line are larger than 16 KiB"))
    } else {
        Ok(())
    };
    let asked = Accountable::of(&request, &public, endpoint, now);
    let admitted = match &asked {
        Some(asked) => asked.before().await.and(head),
        None => head,
    };
    let mut response = match admitted.and_then(|()| Working::begin(&public.app)) {
        Ok(working) => {
            let counting = asked.clone();
            let handled = async move {
                let response = next.call(request).await?;
                if let Some(counting) = counting {
                    counting.answered(code_of(&response));
                }
                Ok(response)
            };
            working.to_its_end(traced.around(handled), spelling, &id).await?.map_into_left_body()
        }
        Err(refusal) => {
            if let Some(asked) = &asked {
                asked.answered(Some(refusal.code()));
            }
            request.into_response(refusal.respond(spelling, &id)).map_into_right_body()
        }
    };
    if let Some(asked) = &asked
        && let Err(refusal) = asked.after(code_of(&response)).await
    {
        response = response.into_response(refusal.respond(spelling, &id)).map_into_right_body();
    }
    tell(&traced, method, endpoint, &response);
    // What no use-case sees (unknown hosts and paths, bodies that cannot be read, overload) is counted here.
    public.app.metrics().response(endpoint.map_or(NONE, |endpoint| endpoint.path), response.status().as_u16());
    let kept = response.request().conn_data::<Connection>().is_none_or(Connection::is_kept);
    // Whoever comes again to a replica that ends shall find another, and no connection that is closed as it is used.
    if !kept || public.app.is_draining() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    Ok(response)
}

/// The code that a response says.
fn code_of<B>(response: &ServiceResponse<B>) -> Option<Code> {
    response.response().extensions().get::<Code>().copied()
}

/// The trace that the request says it belongs to. It is not gone on with: a stranger would choose ids, and what is sampled.
fn link(request: &ServiceRequest) -> Option<Link> {
    let mut headers = request.headers().get_all(TRACEPARENT);
    let header = headers.next()?.to_str().ok()?;
    if headers.next().is_some() { None } else { Link::parse(header) }
}

/// A method, if it is one that everybody knows.
fn known(method: &Method) -> Option<&'static str> {
    let known = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH];
    let names = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"];
    known.iter().zip(names).find_map(|(one, name)| (one == method).then_some(name))
}

/// Ends the request's trace.
fn tell<B>(
    traced: &Traced,
    method: Option<&'static str>,
    endpoint: Option<&'static Endpoint>,
    response: &ServiceResponse<B>,
) {
    let code = code_of(response).map(Code::as_str);
    traced.answered(Answered {
        method,
        route: endpoint.map(|endpoint| endpoint.path),
        status: response.status().as_u16(),
        code,
    });
}

/// The endpoint that the request's path is.
fn endpoint_of(request: &ServiceRequest) -> Option<&'static Endpoint> {
    let pattern = request.match_pattern()?;
    ENDPOINTS.iter().copied().find(|endpoint| endpoint.path == pattern)
}

/// What a handler and whoever waits for it know of each other. Both are of one thread.
#[derive(Debug)]
struct Attention {
    app: Arc<App>,
    standing: Cell<Standing>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Attended,
    Left,
    Ended,
}

/// The client waits, until this is dropped.
struct Waiting(Rc<Attention>);

/// A handler works, until this is dropped.
#[derive(Debug)]
pub struct Working(Rc<Attention>);

impl Working {
    /// Begins, unless the process is so near its end that it would not wait for one more. SECURITY: no handler that may use,
    /// revoke, stop or lift anything runs without this, or that would miss in the audit log.
    pub fn begin(app: &Arc<App>) -> Result<Self, Refusal> {
        if !app.working().begin() {
            return Err(Refusal::new(Code::Overloaded, "this replica is about to end, and takes nothing any more"));
        }
        Ok(Self(Rc::new(Attention { app: Arc::clone(app), standing: Cell::new(Standing::Attended) })))
    }

    /// Runs the handler to its end even if its client has gone: a token that it has used, and a stop that it has made, must
    /// reach the audit log. A panic ends this request alone.
    ///
    /// A thread of the server that ends drops it all the same: what may have been used, revoked, stopped or lifted then is
    /// recorded by `App`.
    pub async fn to_its_end<T: 'static>(
        self,
        handler: impl Future<Output = Result<T, Error>> + 'static,
        spelling: Spelling,
        request_id: &str,
    ) -> Result<T, Error> {
        let _waiting = Waiting(Rc::clone(&self.0));
        let handler = async move {
            let _working = self;
            handler.await
        };
        rt::spawn(handler).await.unwrap_or_else(|cause| {
            let refusal = Refusal::new(Code::Internal, "the service failed");
            Err(InternalError::from_response(cause, refusal.respond(spelling, request_id)).into())
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.standing.get() == Standing::Attended {
            self.0.standing.set(Standing::Left);
            self.0.app.unattended().left();
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.0.standing.replace(Standing::Ended) == Standing::Left {
            self.0.app.unattended().ended();
        }
        self.0.app.working().ended();
    }
}
