//! What a CI job, a publishing client and a registry send, over the network like theirs.

use std::io;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::RequestBuilder;
use serde_json::Value;

use crate::package::PackageName;

use super::registry::sha256;
use super::wheel::Wheel;

const TIMEOUT: Duration = Duration::from_secs(10);
/// Marks the parts of an upload; no wheel of ours has it.
const BOUNDARY: &str = "trustmint-demo-b5f1d7";

/// A client that trusts one authority only, and asks no proxy.
#[derive(Debug, Clone)]
pub struct Client(reqwest::Client);

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body as JSON; `null` if it is none.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

impl Client {
    /// A client that trusts this authority, given as PEM.
    pub fn trusting(authority: &str) -> io::Result<Self> {
        let authority = reqwest::Certificate::from_pem(authority.as_bytes()).map_err(io::Error::other)?;
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().timeout(TIMEOUT);
        client.build().map(Self).map_err(io::Error::other)
    }

    /// The client inside, for a part that sends requests of its own.
    pub fn inner(&self) -> reqwest::Client {
        self.0.clone()
    }

    /// `GET`, with a bearer token if there is one.
    pub async fn get(&self, url: &str, bearer: Option<&str>) -> io::Result<Answer> {
        let request = self.0.get(url);
        send(match bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// `POST` of JSON, with a bearer token if there is one.
    pub async fn post(&self, url: &str, bearer: Option<&str>, body: &Value) -> io::Result<Answer> {
        let request = self.0.post(url).header("content-type", "application/json").body(body.to_string());
        send(match bearer {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
        .await
    }

    /// An upload as clients of Python's index send it: the wheel in a form, the token as the password of `__token__`.
    pub async fn upload(
        &self,
        url: &str,
        token: &str,
        package: &PackageName,
        version: &str,
        wheel: &Wheel,
    ) -> io::Result<Answer> {
        let digest = sha256(&wheel.bytes);
        let fields =
            [(":action", "file_upload"), ("name", package.as_str()), ("version", version), ("sha256_digest", &digest)];
        let mut body = Vec::new();
        for (name, value) in fields {
            let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
            body.extend_from_slice(head.as_bytes());
            body.extend_from_slice(value.as_bytes());
            body.extend_from_slice(b"\r\n");
        }
        let disposition = format!("form-data; name=\"content\"; filename=\"{}\"", wheel.file_name);
        body.extend_from_slice(format!("--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n").as_bytes());
        body.extend_from_slice(&wheel.bytes);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        let request = self
            .0
            .post(url)
            .header("authorization", format!("Basic {}", STANDARD.encode(format!("__token__:{token}"))))
            .header("content-type", format!("multipart/form-data; boundary={BOUNDARY}"))
            .body(body);
        send(request).await
    }
}

async fn send(request: RequestBuilder) -> io::Result<Answer> {
    let response = request.send().await.map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let bytes = response.bytes().await.map_err(io::Error::other)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_default(), text })
}

impl Answer {
    /// Status and failure code, as in `422 token-replayed`; the status alone where there is no code.
    pub fn outcome(&self) -> String {
        match self.body.get("code").and_then(Value::as_str) {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }

    /// A member that is a string; empty if there is none.
    pub fn member(&self, name: &str) -> &str {
        self.body.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}
