//! Fetching the documents of issuers: the one place that sends requests.
//!
//! [`Fetch`] is a seam at bytes, so that discovery, parsing and ageing of keys stay on our side of it, under test.
//! [`HttpsFetch`] decides where a request may go and how much of an answer is read:
//!
//! * `https` only; `http` for this machine itself, and then nowhere else.
//! * Addresses beyond the public Internet only if the operator allowed their network for that issuer. The address that
//!   is checked is the address that is connected to: the check sits between the name's look-up and the connection, so
//!   a name cannot resolve to one address for the check and to another for the request.
//! * No redirects, cookies, credentials, decompression. One answer of status 200, within the caller's [`Limits`] of bytes
//!   and of time from first to last; or 304, if the document is known by its entity tag (RFC 9110 section 13.1.2).
//! * A proxy only where the operator names one for that issuer, never one from the environment. It connects in our
//!   place, so the operator who names it answers for where it may go; `https` stays end to end.
//! * Certificates are checked against the system's authorities, or, for an issuer with its own bundle, against that
//!   alone: a public authority cannot vouch for a private issuer. The system's are read from the files and directories
//!   that OpenSSL would use (`SSL_CERT_FILE` and `SSL_CERT_DIR` override them); a container without any, such as an
//!   empty base image, can only use issuers with a bundle of their own.
//!
//! The content type is not looked at: Kubernetes and object stores have their own ideas of it.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Certificate;
use reqwest::Client;
use reqwest::Proxy;
use reqwest::Response;
use reqwest::StatusCode;
use reqwest::dns::Addrs;
use reqwest::dns::Name;
use reqwest::dns::Resolve;
use reqwest::dns::Resolving;
use reqwest::header::AGE;
use reqwest::header::CACHE_CONTROL;
use reqwest::header::CONTENT_ENCODING;
use reqwest::header::ETAG;
use reqwest::header::HeaderMap;
use reqwest::header::IF_NONE_MATCH;
use reqwest::redirect::Policy;
use url::Host;
use url::Url;

use crate::identity::issuer::Reach;
use crate::telemetry::trace::Tracer;

mod address;

/// Most bytes read of an issuer's document: the largest public key set takes 5 KiB.
pub const MAX_BODY: usize = 100 * 1024;
/// Time for the whole of a request for one: look-up, connection, handshake and body.
pub const TIMEOUT: Duration = Duration::from_secs(2);
/// The header of W3C Trace Context.
const TRACEPARENT: &str = "traceparent";
/// Longest entity tag kept.
const MAX_ETAG: usize = 256;
/// Most clients kept, one for each distinct [`Reach`].
const MAX_CLIENTS: usize = 64;

/// How much of an answer is read, and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of the body.
    pub body: usize,
    /// Time for the whole of the request.
    pub time: Duration,
}

impl Limits {
    /// Those of an issuer's documents, for which somebody may be waiting.
    pub const ISSUER: Self = Self { body: MAX_BODY, time: TIMEOUT };
}

/// Where documents come from: those of issuers, and registries' bundles of rules. Scripted in tests.
#[async_trait]
pub trait Fetch: Send + Sync + fmt::Debug {
    /// The document at `url`, within the limits and those of this module. `known` is the entity tag of the document that
    /// the caller has already: only with one may the answer be [`Answer::NotModified`].
    async fn get(&self, url: &Url, reach: &Reach, known: Option<&str>, limits: Limits) -> Result<Answer, FetchError>;
}

/// What a server answers with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The document.
    Document(Fetched),
    /// The document that the caller knows is still the present one.
    NotModified {
        /// How much longer it is fresh.
        max_age: Option<Duration>,
    },
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Its bytes, unread.
    pub bytes: Vec<u8>,
    /// How much longer it is fresh, by its `Cache-Control` and `Age` (RFC 9111 sections 4.2 and 5.2.2).
    pub max_age: Option<Duration>,
    /// Its entity tag (`ETag`), as it is to be sent back.
    pub etag: Option<String>,
}

/// Why a document could not be had. For operators: callers of the service learn only that keys are unavailable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// Neither `https` nor `http`, or with a user name.
    #[error("only plain https URLs are fetched")]
    Url,
    /// Every address of the host is outside the public Internet and the `allow_networks` of what is fetched.
    #[error("`{host}` resolves to {address}, which is not public and not in `allow_networks`")]
    Forbidden {
        /// The host.
        host: String,
        /// One of its addresses.
        address: IpAddr,
    },
    /// The host has no address.
    #[error("`{0}` has no address")]
    NoAddress(String),
    /// The issuer's certificate bundle, or the system's, cannot be used.
    #[error("the certificate authorities cannot be used: {0}")]
    Authorities(String),
    /// No connection, or one whose certificate is not trusted.
    #[error("no connection: {0}")]
    Connect(String),
    /// Not done within this time.
    #[error("no complete answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// Another status than 200. Redirects are not followed.
    #[error("the answer's status is {0}, not 200")]
    Status(u16),
    /// The body is compressed, though that was not asked for.
    #[error("the answer has a content encoding")]
    Encoded,
    /// The body has more than so many bytes.
    #[error("the answer is larger than {} KiB", .0 / 1024)]
    TooLarge(usize),
    /// The connection broke off.
    #[error("the answer broke off: {0}")]
    Broken(String),
}

/// Fetches over HTTPS.
pub struct HttpsFetch {
    lookup: Lookup,
    tracer: Tracer,
    clients: Mutex<HashMap<(Reach, Scope), Client>>,
}

/// How names are looked up: the system's resolver, but for tests.
type Lookup = fn(&str) -> std::io::Result<Vec<IpAddr>>;

/// Which addresses a scheme may go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    /// `https`: public addresses and those that the issuer's configuration allows.
    Outside,
    /// `http`: this machine only, since nothing protects the answer on its way.
    Loopback,
}

impl Scope {
    fn of(url: &Url) -> Option<Self> {
        match url.scheme() {
            "https" => Some(Self::Outside),
            "http" => Some(Self::Loopback),
            _ => None,
        }
    }

    fn permits(self, address: IpAddr, reach: &Reach) -> bool {
        match self {
            Self::Outside => address::is_permitted(address, &reach.allow_networks),
            Self::Loopback => address.is_loopback(),
        }
    }
}

impl Default for HttpsFetch {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HttpsFetch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpsFetch").finish_non_exhaustive()
    }
}

impl HttpsFetch {
    /// Opens nothing and reads nothing yet.
    pub fn new() -> Self {
        Self { lookup: system_lookup, tracer: Tracer::default(), clients: Mutex::default() }
    }

    /// Traces what is fetched, and tells the servers so: ids that were drawn for it, and nothing else.
    #[must_use]
    pub fn tracing(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    /// The client for a reach, built when first needed and off the runtime: it reads the system's authorities. They are
    /// not read again, so a change of theirs takes a restart; a change of an issuer's own bundle is another reach.
    async fn client(&self, reach: &Reach, scope: Scope) -> Result<Client, FetchError> {
        let key = (reach.clone(), scope);
        if let Some(client) = self.clients.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(client.clone());
        }
        let gate = Gate { reach: reach.clone(), scope, lookup: self.lookup };
        let built = tokio::task::spawn_blocking(move || build(gate)).await;
        let client = built.map_err(|error| FetchError::Authorities(error.to_string()))??;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    async fn get_unlimited(
        &self,
        url: &Url,
        reach: &Reach,
        known: Option<&str>,
        most: usize,
        scope: Scope,
        traceparent: Option<String>,
    ) -> Result<Answer, FetchError> {
        let client = self.client(reach, scope).await?;
        let mut request = client.get(url.clone());
        if let Some(traceparent) = traceparent {
            request = request.header(TRACEPARENT, traceparent);
        }
        if let Some(etag) = known {
            request = request.header(IF_NONE_MATCH, etag);
        }
        let mut response = request.send().await.map_err(|error| FetchError::from(&error))?;
        let max_age = max_age(response.headers());
        // Unasked for, it would confirm nothing.
        if response.status() == StatusCode::NOT_MODIFIED && known.is_some() {
            return Ok(Answer::NotModified { max_age });
        }
        // SECURITY: a redirect could lead anywhere; a 206 or 203 is not the issuer's whole own word.
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        if response.headers().contains_key(CONTENT_ENCODING) {
            return Err(FetchError::Encoded);
        }
        let etag = etag(response.headers());
        let bytes = read(&mut response, most).await?;
        Ok(Answer::Document(Fetched { bytes, max_age, etag }))
    }
}

#[async_trait]
impl Fetch for HttpsFetch {
    async fn get(&self, url: &Url, reach: &Reach, known: Option<&str>, limits: Limits) -> Result<Answer, FetchError> {
        let scope = Scope::of(url).ok_or(FetchError::Url)?;
        // SECURITY: the client would send these to the server as an `Authorization` header.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FetchError::Url);
        }
        // The connector takes an address in the URL as it is, without asking the resolver: it is checked here.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return Err(FetchError::Url),
        };
        if let Some(address) = literal.filter(|address| !scope.permits(*address, reach)) {
            return Err(FetchError::Forbidden { host: url.host_str().unwrap_or_default().to_owned(), address });
        }
        let traced = self.tracer.outbound();
        let answer = self.get_unlimited(url, reach, known, limits.body, scope, traced.traceparent());
        let answer = tokio::time::timeout(limits.time, answer).await.unwrap_or(Err(FetchError::TimedOut(limits.time)));
        traced.ended(url.host_str().unwrap_or_default(), status(&answer), answer.is_err());
        answer
    }
}

fn build(gate: Gate) -> Result<Client, FetchError> {
    let unusable = |error: reqwest::Error| FetchError::Authorities(innermost(&error));
    let builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .retry(reqwest::retry::never())
        .https_only(gate.scope == Scope::Outside)
        .user_agent(concat!("trustmint/", env!("CARGO_PKG_VERSION")))
        // Discovery and key set share a connection; none is kept for the next refresh, when the name may have moved.
        .pool_idle_timeout(TIMEOUT)
        .pool_max_idle_per_host(1);
    let builder = match (&gate.reach.ca_pem, gate.scope) {
        (Some(pem), Scope::Outside) => {
            let authorities = Certificate::from_pem_bundle(pem).map_err(unusable)?;
            if authorities.is_empty() {
                return Err(FetchError::Authorities("the bundle holds no certificate".to_owned()));
            }
            builder.tls_certs_only(authorities)
        }
        (None, Scope::Outside) => builder,
        // Nothing to check: a machine without authorities can still run the demonstration.
        (_, Scope::Loopback) => builder.tls_certs_only([]),
    };
    let builder = match (&gate.reach.proxy, gate.scope) {
        (Some(proxy), Scope::Outside) => builder.proxy(Proxy::all(proxy.clone()).map_err(unusable)?),
        // What is on this machine is not asked for through another.
        (Some(_), Scope::Loopback) | (None, _) => builder,
    };
    builder.dns_resolver(gate).build().map_err(unusable)
}

/// The status of the answer, if there was one.
const fn status(answer: &Result<Answer, FetchError>) -> Option<u16> {
    match answer {
        Ok(Answer::Document(_)) => Some(StatusCode::OK.as_u16()),
        Ok(Answer::NotModified { .. }) => Some(StatusCode::NOT_MODIFIED.as_u16()),
        Err(FetchError::Status(status)) => Some(*status),
        Err(_) => None,
    }
}

/// Reads the body and stops at the limit, whatever `Content-Length` promised.
async fn read(response: &mut Response, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::Broken(innermost(&error)))? {
        if bytes.len() + chunk.len() > most {
            return Err(FetchError::TooLarge(most));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// `max-age` less `Age`; zero for `no-store` and `no-cache`; `None` when nothing legible is said.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let directives: Vec<String> = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase())
        .collect();
    if directives.iter().any(|directive| matches!(directive.as_str(), "no-store" | "no-cache")) {
        return Some(Duration::ZERO);
    }
    let seconds = |text: &str| text.trim_matches('"').parse::<u64>().ok().map(Duration::from_secs);
    let lifetime = directives.iter().find_map(|directive| seconds(directive.strip_prefix("max-age=")?))?;
    let age = headers.get(AGE).and_then(|value| seconds(value.to_str().ok()?)).unwrap_or_default();
    Some(lifetime.saturating_sub(age))
}

/// The entity tag, if it is one that can be sent back.
fn etag(headers: &HeaderMap) -> Option<String> {
    let etag = headers.get(ETAG)?.to_str().ok()?;
    (etag.len() <= MAX_ETAG).then(|| etag.to_owned())
}

/// Between a name's look-up and the connection: only permitted addresses pass.
struct Gate {
    reach: Reach,
    scope: Scope,
    lookup: Lookup,
}

impl Resolve for Gate {
    fn resolve(&self, name: Name) -> Resolving {
        let (host, lookup, scope, reach) = (name.as_str().to_owned(), self.lookup, self.scope, self.reach.clone());
        // Through a proxy the client looks up the proxy alone: it hands the issuer's name on.
        let is_proxy = reach.proxy.as_ref().is_some_and(|proxy| proxy.host_str() == Some(&host));
        Box::pin(async move {
            let (host, found) = tokio::task::spawn_blocking(move || {
                let found = lookup(&host);
                (host, found)
            })
            .await?;
            Ok(screen(&host, found.unwrap_or_default(), |address| is_proxy || scope.permits(address, &reach))?)
        })
    }
}

/// The permitted ones of a host's addresses, ready to connect to (port 0 stands for the URL's).
fn screen(host: &str, found: Vec<IpAddr>, permits: impl Fn(IpAddr) -> bool) -> Result<Addrs, FetchError> {
    let first = found.first().copied().ok_or_else(|| FetchError::NoAddress(host.to_owned()))?;
    let permitted: Vec<SocketAddr> =
        found.into_iter().filter(|address| permits(*address)).map(|address| SocketAddr::new(address, 0)).collect();
    if permitted.is_empty() {
        return Err(FetchError::Forbidden { host: host.to_owned(), address: first });
    }
    Ok(Box::new(permitted.into_iter()))
}

fn system_lookup(host: &str) -> std::io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

impl From<&reqwest::Error> for FetchError {
    fn from(error: &reqwest::Error) -> Self {
        let ours = causes(error).find_map(|cause| cause.downcast_ref::<Self>());
        match ours {
            Some(ours) => ours.clone(),
            None if error.is_connect() => Self::Connect(innermost(error)),
            None => Self::Broken(innermost(error)),
        }
    }
}

/// The last cause's own words; those around it repeat the URL.
fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

#[cfg(test)]
mod tests;
