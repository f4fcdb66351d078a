//! A request that has arrived whole: its body, who sent it, and the rules and the moment by which it is decided.
//!
//! SECURITY: rules and clock are read, and one of the limited places is taken, only when the body is there. A body sent
//! slowly can then neither outlive a rule or a token nor keep others out.

use std::fmt;
use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use actix_web::web::Bytes;

use crate::app::Caller;
use crate::app::PolicyInForce;
use crate::code::Code;
use crate::http::Admitted;
use crate::http::Public;
use crate::http::admission::Place;
use crate::http::body;
use crate::http::context::caller_of;
use crate::http::context::id_of;
use crate::http::credential;
use crate::http::error::Refusal;
use crate::http::error::Spelling;
use crate::http::rate;
use crate::policy::Policy;
use crate::policy::registry::Registry;
use crate::secret::sha256;
use crate::time::Timestamp;

/// A request that has arrived whole and was admitted; its place is free again when this is dropped, or it gives it back.
pub struct Arrival<'a> {
    /// Its head.
    pub request: &'a HttpRequest,
    /// The service.
    pub public: &'a Public,
    /// Its body.
    pub body: Bytes,
    /// The rules, in one revision throughout.
    pub policy: Arc<PolicyInForce>,
    /// The moment at which it is decided.
    pub now: Timestamp,
    /// Who sent it, for the record.
    pub caller: Caller,
    /// Its place among those that work at once.
    pub place: Place<'a>,
}

/// Without the body and the head, which have tokens.
impl fmt::Debug for Arrival<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { request: _, public: _, body, policy, now, caller, place: _ } = self;
        let mut shown = f.debug_struct("Arrival");
        let shown = shown.field("bytes", &body.len()).field("policy", &policy.revision());
        shown.field("now", now).field("caller", caller).finish_non_exhaustive()
    }
}

/// Answers an anonymous call, or refuses it in the endpoint's spelling.
pub async fn anonymous(
    spelling: Spelling,
    request: HttpRequest,
    payload: web::Payload,
    public: web::Data<Public>,
    answer: impl AsyncFnOnce(&Arrival<'_>) -> Result<HttpResponse, Refusal>,
) -> HttpResponse {
    let answered = async {
        let body = body::read(&request, payload).await?;
        let admitted = public.admit_exchange().await?;
        answer(&Arrival::new(&request, &public, body, admitted)).await
    };
    rendered(answered.await, spelling, &request)
}

/// Answers a registry's call, or refuses it. Who asks is checked, and counted, before the question is read: strangers
/// cost no more than a head.
pub async fn of_registry(
    request: HttpRequest,
    payload: web::Payload,
    public: web::Data<Public>,
    answer: impl AsyncFnOnce(&Arrival<'_>) -> Result<HttpResponse, Refusal>,
) -> HttpResponse {
    let counted = calling_registry(&request, &public.app.policy())
        .and_then(|registry| Ok(public.app.count_call(registry, public.app.now())?));
    let standing = match counted {
        Ok(standing) => standing,
        Err(refusal) => return refusal.respond(Spelling::Native, &id_of(&request)),
    };
    let mut response = known(&request, payload, &public, answer).await;
    rate::tell(response.headers_mut(), &standing);
    response
}

/// Answers a registry's call that no allowance may be in the way of, or refuses it.
///
/// SECURITY: what a registry's proxy asks in its name is counted, and strangers cause it. They must not be able to keep
/// the registry from revoking a token, which the share of its revocations bounds.
pub async fn of_registry_always(
    request: HttpRequest,
    payload: web::Payload,
    public: web::Data<Public>,
    answer: impl AsyncFnOnce(&Arrival<'_>) -> Result<HttpResponse, Refusal>,
) -> HttpResponse {
    if let Err(refusal) = calling_registry(&request, &public.app.policy()) {
        return refusal.respond(Spelling::Native, &id_of(&request));
    }
    known(&request, payload, &public, answer).await
}

async fn known(
    request: &HttpRequest,
    payload: web::Payload,
    public: &Public,
    answer: impl AsyncFnOnce(&Arrival<'_>) -> Result<HttpResponse, Refusal>,
) -> HttpResponse {
    let answered = async {
        let body = body::read(request, payload).await?;
        let admitted = public.admit_registry_call().await?;
        answer(&Arrival::new(request, public, body, admitted)).await
    };
    rendered(answered.await, Spelling::Native, request)
}

/// The registry whose API key the caller presents. SECURITY: only digests are kept, and they are compared in constant
/// time.
pub fn calling_registry<'p>(request: &HttpRequest, policy: &'p Policy) -> Result<&'p Registry, Refusal> {
    let digest = key_digest(request)?;
    policy
        .registries()
        .by_caller(&digest)
        .map(|(registry, _)| registry.as_ref())
        .ok_or_else(|| Refusal::new(Code::BadApiKey, "the API key is not known"))
}

/// The digest of the API key that a request presents (RFC 6750 section 2.1). SECURITY: only digests are kept, so only
/// they are compared.
pub fn key_digest(request: &HttpRequest) -> Result<[u8; 32], Refusal> {
    let key = credential::bearer(request);
    let key = key.ok_or_else(|| Refusal::new(Code::BadApiKey, "the request has no API key"))?;
    Ok(sha256(key.as_bytes()))
}

/// The response, or the refusal in the endpoint's spelling.
pub fn rendered(answer: Result<HttpResponse, Refusal>, spelling: Spelling, request: &HttpRequest) -> HttpResponse {
    answer.unwrap_or_else(|refusal| refusal.respond(spelling, &id_of(request)))
}

impl<'a> Arrival<'a> {
    fn new(request: &'a HttpRequest, public: &'a Public, body: Bytes, admitted: Admitted<'a>) -> Self {
        let Admitted { place, now, policy } = admitted;
        Self { request, public, body, policy, now, caller: caller_of(request, public), place }
    }
}
