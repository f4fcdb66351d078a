//! A service under attack, beside a server that nobody must ask.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use trustmint::demo::provider::Endpoint;

use super::Service;
use super::said;
use super::service::Answer;

/// A server on loopback that answers everybody with an empty key set and remembers who came.
pub struct Canary {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Canary {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let mut head = vec![0; 4096];
                let read = socket.read(&mut head).unwrap_or_default();
                // A connection counts, whatever is said on it.
                seen.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
                let body = r#"{"keys":[]}"#;
                let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                drop(socket.write_all(format!("{head}{body}").as_bytes()));
            }
        });
        Self { address, heads }
    }

    /// A URL of it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Its host and port.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The heads of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

/// A service that has its issuer's keys, and a canary.
pub struct Hostile {
    pub service: Service,
    pub canary: Canary,
}

impl Hostile {
    pub async fn start() -> Self {
        let hostile = Self { service: Service::start().await, canary: Canary::start() };
        hostile.unharmed().await;
        hostile
    }

    /// How many requests the issuer has had.
    pub fn fetches(&self) -> usize {
        self.service.provider.requests(Endpoint::Discovery) + self.service.provider.requests(Endpoint::Jwks)
    }

    /// A truly signed token with members of its header replaced, added or (by `null`) removed.
    pub fn with_header(&self, header: &Value) -> String {
        self.service.provider.mint_with(header, &self.service.claims(&json!({})))
    }

    /// A truly signed token with claims replaced, added or (by `null` in `without`) taken away.
    pub fn with_claims(&self, overrides: &Value, without: &[&str]) -> String {
        let mut claims = self.service.claims(&json!({}));
        let members = claims.as_object_mut().unwrap();
        members.extend(overrides.as_object().unwrap().clone());
        members.retain(|name, _| !without.contains(&name.as_str()));
        self.service.provider.mint(&claims)
    }

    /// A truly signed token of exactly these bytes.
    pub fn sealed(&self, header: impl AsRef<[u8]>, payload: impl AsRef<[u8]>) -> String {
        self.service.provider.keys()[0].seal("RS256", header.as_ref(), payload.as_ref())
    }

    /// The honest header and payload as texts, to be bent.
    pub fn texts(&self) -> (String, String) {
        let header = json!({"alg": "RS256", "typ": "JWT", "kid": self.service.provider.keys()[0].kid()});
        (header.to_string(), self.service.claims(&json!({})).to_string())
    }

    /// Presents a token that must be refused with this code, and must not make the service ask anyone.
    #[track_caller]
    pub fn refuses(&self, token: impl Into<String>, code: &'static str) -> impl Future<Output = Answer> {
        let (token, caller): (String, _) = (token.into(), std::panic::Location::caller());
        said::tokens_in(&token);
        async move {
            let before = self.fetches();
            let answer = self.service.mint(&json!({ "token": token })).await;
            let shown: String = token.chars().take(200).collect();
            assert_eq!(answer.code(), code, "{caller}: {shown}: {}", answer.text);
            assert!((400..500).contains(&answer.status), "{caller}: {}", answer.status);
            assert!(answer.body.get("token").is_none(), "{caller}: {}", answer.text);
            assert_eq!(self.fetches(), before, "{caller}: the issuer was asked");
            answer
        }
    }

    /// A genuine job gets its token, and nobody was asked who should not be.
    pub async fn unharmed(&self) {
        let answer = self.service.mint(&json!({"token": self.service.id_token(&json!({}))})).await;
        assert_eq!(answer.status, 200, "a genuine job: {}", answer.text);
        assert_eq!(self.canary.requests(), Vec::<String>::new());
    }
}

pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub fn from_base64url(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}
