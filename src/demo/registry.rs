//! A package registry on loopback that speaks the upload protocol of Python's index and asks trustmint before it stores
//! anything.
//!
//! It decides nothing about tokens. Its duty, and the pattern for any registry, is that the facts it asks about are
//! those of the file as it will be stored: package and version from the file's name, digest and size from its bytes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::{self, Bytes, Data, PayloadConfig, ServiceConfig};
use actix_web::{HttpMessage, HttpRequest, HttpResponse, ResponseError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use url::Url;

use crate::package::{Ecosystem, PackageName};
use crate::secret::{self, Secret};

use super::multipart::Form;

/// Largest upload.
pub const MAX_UPLOAD: usize = 10 * 1024 * 1024;

/// How the registry reaches trustmint.
#[derive(Debug)]
pub struct Verifier {
    /// `…/v1/verify`
    pub endpoint: Url,
    /// The registry's API key.
    pub key: Secret<String>,
    /// Trusts what the endpoint's certificate needs, and gives up in time.
    pub client: reqwest::Client,
}

/// A file that was accepted.
#[derive(Debug, Clone)]
pub struct StoredFile {
    /// The package that it belongs to.
    pub package: PackageName,
    /// Its version, as in its name.
    pub version: String,
    /// The SHA-256 of its bytes in hexadecimal.
    pub sha256: String,
    /// Its bytes.
    pub bytes: Bytes,
    /// Where it came from, as trustmint proved: the issuer, the rules that allowed it and the job's public claims.
    pub publisher: Value,
}

/// A registry that keeps its files in memory.
#[derive(Debug)]
pub struct LoopbackRegistry {
    verifier: Verifier,
    /// By file name. Locked from question to storage, so that what trustmint was told still holds when it is acted on.
    files: Mutex<BTreeMap<String, StoredFile>>,
}

/// Why an upload was not stored.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("uploads need the user `__token__` with an upload token as the password")]
    NoToken,
    #[error("the body is not a form as clients of PyPI send it")]
    NotAForm,
    #[error("the one `:action` of this registry is `file_upload`")]
    Action,
    #[error("the form needs exactly one `{0}`")]
    Field(&'static str),
    #[error("`{0}` is not the file name of a wheel")]
    NotAWheel(String),
    #[error("the form says {field} `{form}`, but the file's is `{file}`")]
    Differs { field: &'static str, form: String, file: String },
    #[error("`{0}` exists already")]
    Exists(String),
    #[error("{0}")]
    NotAllowed(String),
    #[error("uploads cannot be verified now, try again later")]
    Unavailable,
}

impl ResponseError for Refusal {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::NotAForm | Self::Action | Self::Field(_) | Self::NotAWheel(_) | Self::Differs { .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::Exists(_) => StatusCode::CONFLICT,
            Self::NotAllowed(_) => StatusCode::FORBIDDEN,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// What trustmint answers to the question whether a token allows an upload.
#[derive(Debug, Deserialize)]
struct Verdict {
    allowed: bool,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    publisher: Value,
}

impl Verifier {
    /// Asks; whatever is not a clear yes is a refusal.
    async fn ask(&self, question: &Value) -> Result<Value, Refusal> {
        let request = self
            .client
            .post(self.endpoint.clone())
            .bearer_auth(self.key.expose())
            .header("content-type", "application/json")
            .body(question.to_string());
        let response = request.send().await.and_then(reqwest::Response::error_for_status);
        let answer = async { response?.bytes().await }.await.map_err(|_| Refusal::Unavailable)?;
        let verdict: Verdict = serde_json::from_slice(&answer).map_err(|_| Refusal::Unavailable)?;
        if verdict.allowed { Ok(verdict.publisher) } else { Err(Refusal::NotAllowed(verdict.reasons.join("; "))) }
    }
}

impl LoopbackRegistry {
    /// An empty registry.
    pub fn new(verifier: Verifier) -> Arc<Self> {
        Arc::new(Self { verifier, files: Mutex::default() })
    }

    /// Adds its one route, `POST /legacy/`, to a server: its own, or the one that also answers the exchange on the
    /// registry's host, as a reverse proxy would arrange it.
    pub fn routes(self: &Arc<Self>, routes: &mut ServiceConfig) {
        let upload = web::resource("/legacy/").app_data(PayloadConfig::new(MAX_UPLOAD)).route(web::post().to(upload));
        routes.app_data(Data::from(Arc::clone(self))).service(upload);
    }

    /// The files it has, by name.
    pub async fn files(&self) -> BTreeMap<String, StoredFile> {
        self.files.lock().await.clone()
    }

    /// Stores the file of an upload if trustmint allows it.
    async fn store(&self, token: &str, form: &Form<'_>, client: Option<IpAddr>) -> Result<(), Refusal> {
        let content = form.field("content").ok_or(Refusal::Field("content"))?;
        let file_name = content.file_name.ok_or(Refusal::Field("content"))?;
        let (package, version) = wheel_name(file_name).ok_or_else(|| Refusal::NotAWheel(file_name.to_owned()))?;
        let sha256 = sha256(content.content);
        if form.text(":action") != Some("file_upload") {
            return Err(Refusal::Action);
        }
        // SECURITY: a form that says one package and carries another is refused, not resolved: whoever reads it next
        // may believe the other half.
        let canonical = |name: &str| PackageName::parse(Ecosystem::Pypi, name).ok();
        agree("name", form, package.as_str(), |name| canonical(name).as_ref() == Some(&package))?;
        agree("version", form, version, |form| form == version)?;
        agree("sha256_digest", form, &sha256, |form| form == sha256)?;

        let mut files = self.files.lock().await;
        if files.contains_key(file_name) {
            return Err(Refusal::Exists(file_name.to_owned()));
        }
        let publisher = self
            .verifier
            .ask(&json!({
                "token": token,
                "package": package.as_str(),
                "exists": files.values().any(|file| file.package == package),
                "version": version,
                "sha256": sha256,
                "size": content.content.len(),
                "client_ip": client,
                "consume": sha256,
            }))
            .await?;
        let bytes = Bytes::copy_from_slice(content.content);
        let file = StoredFile { package, version: version.to_owned(), sha256, bytes, publisher };
        files.insert(file_name.to_owned(), file);
        Ok(())
    }
}

async fn upload(registry: Data<LoopbackRegistry>, request: HttpRequest, body: Bytes) -> Result<HttpResponse, Refusal> {
    let token = token(&request).ok_or(Refusal::NoToken)?;
    let media_type = request.mime_type().ok().flatten().ok_or(Refusal::NotAForm)?;
    let boundary = media_type.get_param("boundary").filter(|_| media_type.essence_str() == "multipart/form-data");
    let form = boundary.and_then(|boundary| Form::parse(boundary.as_str(), &body)).ok_or(Refusal::NotAForm)?;
    registry.store(token.expose(), &form, request.peer_addr().map(|address| address.ip())).await?;
    Ok(HttpResponse::Ok().finish())
}

/// The password of the user `__token__` (RFC 7617).
fn token(request: &HttpRequest) -> Option<Secret<String>> {
    let (scheme, credentials) = request.headers().get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let credentials = STANDARD.decode(credentials).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let password = String::from_utf8(credentials).ok()?.strip_prefix("__token__:")?.to_owned();
    Some(Secret::new(password))
}

/// Refuses a form whose field does not say what the file says.
fn agree(field: &'static str, form: &Form<'_>, file: &str, same: impl Fn(&str) -> bool) -> Result<(), Refusal> {
    let form = form.text(field).ok_or(Refusal::Field(field))?;
    let differs = || Refusal::Differs { field, form: form.to_owned(), file: file.to_owned() };
    if same(form) { Ok(()) } else { Err(differs()) }
}

/// The SHA-256 in lower-case hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    secret::hex(&secret::sha256(bytes))
}

/// Package and version of a wheel's file name, `name-version(-build)?-python-abi-platform.whl` (PEP 427).
fn wheel_name(file_name: &str) -> Option<(PackageName, &str)> {
    let parts: Vec<&str> = file_name.strip_suffix(".whl")?.split('-').collect();
    // SECURITY: one spelling per file: no path, no escape, no empty part.
    let legal = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "._+!".contains(c));
    match parts.as_slice() {
        [name, version, _, _, _] | [name, version, _, _, _, _] if parts.iter().all(legal) => {
            Some((PackageName::parse(Ecosystem::Pypi, name).ok()?, version))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wheel_is_named_by_its_file() {
        let named = |file: &str| wheel_name(file).map(|(package, version)| format!("{package} {version}"));
        assert_eq!(named("Acme_Widgets-1.0.0-py3-none-any.whl").as_deref(), Some("acme-widgets 1.0.0"));
        assert_eq!(named("widgets-1!2.0+x-1-py2.py3-none-any.whl").as_deref(), Some("widgets 1!2.0+x"));
        for file in [
            "widgets-1.0.0.tar.gz",
            "widgets-1.0.0.whl",
            "widgets-1.0.0-py3-none-any.zip",
            "widgets-1.0.0-1-2-py3-none-any.whl",
            "-1.0.0-py3-none-any.whl",
            "widgets--py3-none-any.whl",
            "../widgets-1.0.0-py3-none-any.whl",
            "a/widgets-1.0.0-py3-none-any.whl",
            "widgets-1.0.0-py3-none-any\n.whl",
            "_widgets-1.0.0-py3-none-any.whl",
            "",
        ] {
            assert_eq!(named(file), None, "{file:?}");
        }
    }
}
