//! An identity provider on loopback: discovery, keys and ID tokens as a CI system serves them, and every way in which
//! a real one misbehaves.
//!
//! It speaks like GitHub's: a discovery document without an `authorization_endpoint`, and a token endpoint that a job
//! asks with its request token. Minting adds nothing to a token that its caller did not ask for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::web::{self, Bytes, Data, Query};
use actix_web::{HttpRequest, HttpResponse};
use arc_swap::ArcSwap;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::secret;
use crate::time::{Clock, Timestamp};

use super::Serving;
use super::signing::{KeyKind, SigningKey};

/// How long its tokens live, and how far `nbf` lies back: GitHub's figures.
const LIFETIME: Duration = Duration::from_secs(300);

/// What the provider serves, and may be told to serve otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/.well-known/openid-configuration`
    Discovery,
    /// `/jwks`
    Jwks,
    /// `/token?api-version=2.0&audience=…`
    Token,
}

/// How an endpoint answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// As a provider should.
    Honest,
    /// Not until it is told to answer otherwise; requests that already wait then get that answer.
    Held,
    /// With a body that never ends.
    Endless,
    /// With exactly this.
    Fixed {
        /// The status code.
        status: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The body's bytes.
        body: Vec<u8>,
    },
}

impl Answer {
    /// A JSON document of the caller's making, served with 200.
    pub fn json(document: &Value) -> Self {
        Self::body("application/json", document.to_string())
    }

    /// Any bytes, served with 200.
    pub fn body(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![(header::CONTENT_TYPE.to_string(), content_type.to_owned())];
        Self::Fixed { status: 200, headers, body: body.into() }
    }

    /// A status without a body.
    pub const fn status(status: u16) -> Self {
        Self::Fixed { status, headers: Vec::new(), body: Vec::new() }
    }

    /// A redirect (302) to another place.
    pub fn redirect(location: &str) -> Self {
        let headers = vec![(header::LOCATION.to_string(), location.to_owned())];
        Self::Fixed { status: 302, headers, body: Vec::new() }
    }
}

/// A running identity provider. It stops when dropped.
#[derive(Debug)]
pub struct LoopbackProvider {
    site: Arc<Site>,
    /// Held for its drop, which closes the port.
    _serving: Serving,
}

impl LoopbackProvider {
    /// Starts on a free port of 127.0.0.1 with one key of each kind; tokens are signed with RSA unless the caller
    /// takes another [`key`](Self::key). The clock dates the tokens of the token endpoint only.
    pub fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let kinds = [KeyKind::Rsa2048, KeyKind::P256, KeyKind::P384, KeyKind::Ed25519];
        Self::start_with(clock, kinds.into_iter().map(generate).collect::<io::Result<_>>()?)
    }

    /// Starts with these keys, which may be another provider's; tokens are signed with the first. Making an RSA key
    /// is most of the time that [`start`](Self::start) takes.
    pub fn start_with(clock: Arc<dyn Clock>, keys: Vec<Arc<SigningKey>>) -> io::Result<Self> {
        Self::serve(clock, keys, None)
    }

    /// Starts with https, which is the only way that `serve` will talk to it.
    pub fn start_https(clock: Arc<dyn Clock>, keys: Vec<Arc<SigningKey>>, tls: ServerConfig) -> io::Result<Self> {
        Self::serve(clock, keys, Some(tls))
    }

    fn serve(clock: Arc<dyn Clock>, keys: Vec<Arc<SigningKey>>, tls: Option<ServerConfig>) -> io::Result<Self> {
        let no_randomness = || io::Error::other("the system has no randomness");
        let listener = super::bind()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let site = Arc::new(Site {
            issuer: format!("{scheme}://{}", listener.local_addr()?),
            clock,
            keys: ArcSwap::from_pointee(keys),
            cache_control: ArcSwap::from_pointee(String::from("max-age=3600")),
            job: ArcSwap::from_pointee(json!({})),
            request_token: Uuid::from_u128(u128::from_ne_bytes(secret::random_bytes().ok_or_else(no_randomness)?)),
            token_ids: u64::from_ne_bytes(secret::random_bytes().ok_or_else(no_randomness)?),
            minted: AtomicU64::new(0),
            discovery: Gate::default(),
            jwks: Gate::default(),
            token: Gate::default(),
        });
        let data = Data::from(Arc::clone(&site));
        let serving = Serving::start(listener, tls, move |routes| {
            routes
                .app_data(data.clone())
                .route("/.well-known/openid-configuration", web::get().to(discovery))
                .route("/jwks", web::get().to(jwks))
                .route("/token", web::get().to(token));
        })?;
        Ok(Self { site, _serving: serving })
    }

    /// Its `iss`: `http://127.0.0.1:port` (or `https`), without a slash at the end.
    pub fn issuer(&self) -> &str {
        &self.site.issuer
    }

    /// What a job finds in `ACTIONS_ID_TOKEN_REQUEST_URL`.
    pub fn token_request_url(&self) -> String {
        format!("{}/token?api-version=2.0", self.site.issuer)
    }

    /// What a job finds in `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    pub fn token_request_token(&self) -> String {
        self.site.request_token.to_string()
    }

    /// Sets the claims of the job that asks the token endpoint; `iss`, `aud`, `jti` and times are added there.
    pub fn run_job(&self, claims: &impl Serialize) {
        self.site.job.store(Arc::new(to_value(claims)));
    }

    /// The job's claims with `iss`, `aud`, `iat`, `nbf`, `exp` and a fresh `jti` for a token issued now, where the
    /// job does not already have them.
    pub fn claims(&self, job: &impl Serialize, audience: &str, now: Timestamp) -> Value {
        self.site.claims(job, audience, now)
    }

    /// An ID token with exactly these claims, signed with the current key.
    pub fn mint(&self, claims: &impl Serialize) -> String {
        self.mint_with(&Value::Null, claims)
    }

    /// The same with members of the header replaced, added or (by `null`) removed: see [`SigningKey::token`].
    pub fn mint_with(&self, header: &Value, claims: &impl Serialize) -> String {
        self.site.mint(header, claims)
    }

    /// The published keys; tokens are signed with the first.
    pub fn keys(&self) -> Arc<Vec<Arc<SigningKey>>> {
        self.site.keys.load_full()
    }

    /// The published key that signs with an algorithm by default (`RS256`, `ES256`, `ES384`, `EdDSA`).
    pub fn key(&self, algorithm: &str) -> Option<Arc<SigningKey>> {
        self.keys().iter().find(|key| key.algorithm() == algorithm).map(Arc::clone)
    }

    /// Publishes these keys instead, and signs with the first.
    pub fn publish(&self, keys: Vec<Arc<SigningKey>>) {
        self.site.keys.store(Arc::new(keys));
    }

    /// Signs with a new RSA key from now on; the old keys stay published.
    pub fn rotate(&self) -> io::Result<()> {
        let mut keys = vec![generate(KeyKind::Rsa2048)?];
        keys.extend(self.keys().iter().map(Arc::clone));
        self.publish(keys);
        Ok(())
    }

    /// Stops publishing every key but the one that signs.
    pub fn withdraw_old_keys(&self) {
        self.publish(self.keys().iter().take(1).map(Arc::clone).collect());
    }

    /// Sets the `Cache-Control` of discovery and keys; empty sends none.
    pub fn set_cache_control(&self, value: &str) {
        self.site.cache_control.store(Arc::new(value.to_owned()));
    }

    /// The honest discovery document, to be bent by a test.
    pub fn discovery(&self) -> Value {
        self.site.discovery()
    }

    /// The honest key set, to be bent by a test.
    pub fn jwks(&self) -> Value {
        self.site.jwks()
    }

    /// Makes an endpoint answer like this from now on.
    pub fn answer(&self, endpoint: Endpoint, answer: Answer) {
        self.site.gate(endpoint).answer.send_replace(answer);
    }

    /// How many requests an endpoint has had, those that it holds included.
    pub fn requests(&self, endpoint: Endpoint) -> usize {
        *self.site.gate(endpoint).requests.borrow()
    }

    /// Waits until an endpoint has had that many requests.
    pub async fn requested(&self, endpoint: Endpoint, times: usize) {
        // The sender lives in `self`, so waiting cannot fail.
        drop(self.site.gate(endpoint).requests.subscribe().wait_for(|requests| *requests >= times).await);
    }
}

fn generate(kind: KeyKind) -> io::Result<Arc<SigningKey>> {
    SigningKey::generate(kind).map(Arc::new).map_err(|_| io::Error::other("a signing key could not be made"))
}

fn to_value(claims: &impl Serialize) -> Value {
    serde_json::to_value(claims).unwrap_or_default()
}

#[derive(Debug)]
struct Site {
    issuer: String,
    clock: Arc<dyn Clock>,
    keys: ArcSwap<Vec<Arc<SigningKey>>>,
    cache_control: ArcSwap<String>,
    job: ArcSwap<Value>,
    request_token: Uuid,
    /// Unpredictable half of every `jti`.
    token_ids: u64,
    /// Distinct half of every `jti`.
    minted: AtomicU64,
    discovery: Gate,
    jwks: Gate,
    token: Gate,
}

#[derive(Debug)]
struct Gate {
    answer: watch::Sender<Answer>,
    requests: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { answer: watch::Sender::new(Answer::Honest), requests: watch::Sender::new(0) }
    }
}

impl Gate {
    /// Counts a request, waits while the endpoint is held, and answers it, honestly if nothing else is ordered.
    async fn answer(&self, honest: impl FnOnce() -> HttpResponse) -> HttpResponse {
        self.requests.send_modify(|requests| *requests += 1);
        let mut orders = self.answer.subscribe();
        let answer = match orders.wait_for(|answer| !matches!(answer, Answer::Held)).await {
            Ok(answer) => answer.clone(),
            Err(_) => Answer::status(503),
        };
        match answer {
            Answer::Honest | Answer::Held => honest(),
            Answer::Endless => HttpResponse::Ok().content_type("application/json").body(Endless),
            Answer::Fixed { status, headers, body } => {
                let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or_default());
                for header in headers {
                    response.append_header(header);
                }
                response.body(body)
            }
        }
    }
}

impl Site {
    const fn gate(&self, endpoint: Endpoint) -> &Gate {
        match endpoint {
            Endpoint::Discovery => &self.discovery,
            Endpoint::Jwks => &self.jwks,
            Endpoint::Token => &self.token,
        }
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/jwks", self.issuer),
            "subject_types_supported": ["public", "pairwise"],
            "response_types_supported": ["id_token"],
            "claims_supported": ["sub", "aud", "exp", "iat", "iss", "jti", "nbf"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256", "ES384", "EdDSA"],
            "scopes_supported": ["openid"],
        })
    }

    fn jwks(&self) -> Value {
        json!({"keys": self.keys.load().iter().map(|key| key.jwk()).collect::<Vec<_>>()})
    }

    fn claims(&self, job: &impl Serialize, audience: &str, now: Timestamp) -> Value {
        let mut claims = to_value(job);
        let jti = Uuid::from_u64_pair(self.token_ids, self.minted.fetch_add(1, Ordering::Relaxed));
        let added = [
            ("iss", json!(self.issuer)),
            ("aud", json!(audience)),
            ("iat", json!(now.unix_seconds())),
            ("nbf", json!(now.minus(LIFETIME).unix_seconds())),
            ("exp", json!(now.plus(LIFETIME).unix_seconds())),
            ("jti", json!(jti.to_string())),
        ];
        if let Some(members) = claims.as_object_mut() {
            for (name, value) in added {
                members.entry(name).or_insert(value);
            }
        }
        claims
    }

    fn mint(&self, header: &Value, claims: &impl Serialize) -> String {
        // Without a published key there is nothing to sign with, and the token is empty: nobody accepts it.
        self.keys.load().first().map(|key| key.token(header, claims)).unwrap_or_default()
    }

    fn document(&self, document: &Value) -> HttpResponse {
        let mut response = HttpResponse::Ok();
        let cache_control = self.cache_control.load();
        if !cache_control.is_empty() {
            response.append_header((header::CACHE_CONTROL, cache_control.as_str()));
        }
        response.json(document)
    }
}

async fn discovery(site: Data<Site>) -> HttpResponse {
    site.discovery.answer(|| site.document(&site.discovery())).await
}

async fn jwks(site: Data<Site>) -> HttpResponse {
    site.jwks.answer(|| site.document(&site.jwks())).await
}

#[derive(Debug, Deserialize)]
struct TokenRequest {
    audience: String,
}

async fn token(site: Data<Site>, request: HttpRequest, query: Option<Query<TokenRequest>>) -> HttpResponse {
    site.token
        .answer(|| {
            let credentials = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
            // The scheme's case is the client's choice (RFC 9110 section 11.1): clients send `bearer` and `Bearer`.
            let bearer = credentials.and_then(|text| text.split_once(' '));
            let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token);
            if bearer != Some(site.request_token.to_string().as_str()) {
                return HttpResponse::Unauthorized().json(json!({"message": "the request token is not this job's"}));
            }
            let Some(Query(TokenRequest { audience })) = query else {
                return HttpResponse::BadRequest().json(json!({"message": "the query needs one `audience`"}));
            };
            let claims = site.claims(site.job.load().as_ref(), &audience, site.clock.now());
            HttpResponse::Ok().json(json!({"count": 1, "value": site.mint(&Value::Null, &claims)}))
        })
        .await
}

/// A body of spaces without end, which is JSON until it is too much.
struct Endless;

impl MessageBody for Endless {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, io::Error>>> {
        Poll::Ready(Some(Ok(Bytes::from_static(&[b' '; 1024]))))
    }
}
