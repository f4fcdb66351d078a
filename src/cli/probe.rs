//! `trustmint probe`: asks a running service what jobs ask it, and what attackers do.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use actix_web::rt::System;
use clap::Args;
use reqwest::Client;
use reqwest::RequestBuilder;
use reqwest::header::CONTENT_TYPE;
use reqwest::header::HOST;
use reqwest::redirect;
use serde::Serialize;
use serde_json::Value;
use tokio::net::lookup_host;
use url::Host;
use url::Url;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::read_input;
use crate::cli::say;
use crate::cli::say_json;
use crate::cli::tell_progress;
use crate::code::Code;
use crate::escape::escape;
use crate::policy::registry::Registry;
use crate::policy::watch;

/// How long the service has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A name that is reserved for being nobody's (RFC 2606, section 2).
const NOBODY: &str = "nobody.invalid";

/// Header, claims and signature of an ID token by `https://nobody.invalid`: whole in form, and good for nothing.
const FORGED: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InByb2JlIiwidHlwIjoiSldUIn0\
    .eyJpc3MiOiJodHRwczovL25vYm9keS5pbnZhbGlkIiwic3ViIjoicHJvYmUiLCJhdWQiOiJwcm9iZSIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjoxNzAwMDAwNjAwLCJqdGkiOiJwcm9iZSJ9\
    .AAAA";

/// What a forged token is told: nobody issues it, or nobody is served at this registry.
const REFUSALS: [Code; 3] = [Code::UnknownIssuer, Code::RegistryDisabled, Code::Stopped];

#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The public listener, as `https://trustmint.acme.svc`
    #[arg(long, value_name = "URL")]
    url: Url,
    /// The policy directory: each of its registries is probed
    #[arg(long, value_name = "DIR", default_value = "policy")]
    policy: PathBuf,
    /// PEM file of the certificate authorities that are trusted, besides the machine's
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Exchange the ID token in this file too (`-`: standard input), and revoke what comes of it
    #[arg(long, value_name = "FILE", requires = "registry")]
    token_file: Option<PathBuf>,
    /// The registry at which it is exchanged
    #[arg(long, value_name = "ID", requires = "token_file")]
    registry: Option<String>,
    /// Print the outcomes as JSON
    #[arg(long)]
    json: bool,
}

/// One question and what came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    registry: String,
    question: &'static str,
    /// `None`: as it must be.
    fault: Option<String>,
}

impl Probe {
    pub(crate) fn run(self) -> Ended {
        let policy = watch::read(&self.policy, tell_progress).map_err(|faults| Failed::new(faults.to_string()))?;
        let registries = policy.registries();
        if let Some(id) = self.registry.as_ref().filter(|id| registries.iter().all(|registry| registry.id != **id)) {
            return Err(Failed::new(format!("the policy has no registry `{}`", escape(id))));
        }
        let id_token = self.token_file.as_ref().map(|path| read_input(Some(path))).transpose()?;
        let id_token = id_token.map(|text| Zeroizing::new(text.trim().to_owned()));
        let outcomes = System::new().block_on(async {
            let mut outcomes = Vec::new();
            for registry in registries.iter() {
                // One token is good for one exchange, at the first of the URLs.
                let mut exchanged = id_token.as_ref().filter(|_| self.registry.as_ref() == Some(&registry.id));
                for url in &registry.urls {
                    self.probe(registry, url, exchanged.take().map(|token| token.as_str()), &mut outcomes).await?;
                }
            }
            Ok::<_, Failed>(outcomes)
        })?;
        let sound = outcomes.iter().all(|outcome| outcome.fault.is_none());
        if self.json {
            say_json(&outcomes)?;
            return Ok(sound);
        }
        for Outcome { registry, question, fault } in &outcomes {
            match fault {
                None => say(&format!("ok    {registry}: {question}")),
                Some(fault) => say(&format!("FAIL  {registry}: {question}: {}", escape(fault))),
            }
        }
        Ok(sound)
    }

    /// Asks everything at one of a registry's URLs.
    async fn probe(
        &self,
        registry: &Registry,
        url: &Url,
        id_token: Option<&str>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), Failed> {
        let at = At { base: &self.url, client: self.client(url).await?, host: authority(url), registry: url };
        let mut tell = |question, fault| outcomes.push(Outcome { registry: registry.id.clone(), question, fault });
        tell("a client finds where tokens are exchanged", at.finds_the_endpoint().await.err());
        tell("a forged ID token is refused", at.refuses_a_forgery().await.err());
        tell("a host that is no registry's is refused", at.refuses_a_stranger().await.err());
        if let Some(id_token) = id_token {
            tell("a job's ID token is exchanged, and the upload token revoked", at.exchanges(id_token).await.err());
        }
        Ok(())
    }

    /// A client that reaches the registry's name at the service's address, so that certificate and name are those of the
    /// registry.
    async fn client(&self, registry: &Url) -> Result<Client, Failed> {
        // SECURITY: what is sent goes to the address given and nowhere else: no proxy, no redirect.
        let mut client = Client::builder().no_proxy().redirect(redirect::Policy::none()).timeout(PATIENCE);
        if let (Some(Host::Domain(name)), Some(port)) = (registry.host(), self.url.port_or_known_default()) {
            let service = self.url.host_str().unwrap_or_default();
            let found = lookup_host((service.trim_matches(['[', ']']), port)).await;
            let found = found.map_err(|error| Failed::new(format!("--url: `{}`: {error}", escape(service))))?;
            client = client.resolve_to_addrs(name, &found.collect::<Vec<SocketAddr>>());
        }
        if let Some(path) = &self.ca_file {
            let pem = fs::read(path).map_err(|error| Failed::file(path, &error))?;
            for authority in reqwest::Certificate::from_pem_bundle(&pem)? {
                client = client.add_root_certificate(authority);
            }
        }
        Ok(client.build()?)
    }
}

/// One of a registry's URLs, at the service.
struct At<'a> {
    base: &'a Url,
    client: Client,
    /// What clients send as `Host`.
    host: String,
    registry: &'a Url,
}

impl At<'_> {
    async fn finds_the_endpoint(&self) -> Result<(), String> {
        let request = self.client.get(self.url("/.well-known/oauth-authorization-server")?);
        let (status, answer) = answered(request.header(HOST, &self.host)).await?;
        let expected = format!("{}/v1/token", self.registry.origin().ascii_serialization());
        match answer.get("token_endpoint").and_then(Value::as_str) {
            Some(found) if status == 200 && found == expected => Ok(()),
            Some(found) if status == 200 => Err(format!("it says {found} and not {expected}")),
            _ => Err(refusal(status, &answer)),
        }
    }

    async fn refuses_a_forgery(&self) -> Result<(), String> {
        let (status, answer) = self.exchange(FORGED).await?;
        let code = answer.get("code").and_then(Value::as_str);
        if (400..500).contains(&status) && REFUSALS.iter().any(|known| Some(known.as_str()) == code) {
            return Ok(());
        }
        Err(refusal(status, &answer))
    }

    async fn refuses_a_stranger(&self) -> Result<(), String> {
        let request = self.client.get(self.url("/.well-known/oauth-authorization-server")?);
        let (status, answer) = answered(request.header(HOST, NOBODY)).await?;
        if status == 421 { Ok(()) } else { Err(refusal(status, &answer)) }
    }

    async fn exchanges(&self, id_token: &str) -> Result<(), String> {
        let (status, answer) = self.exchange(id_token).await?;
        let Some(token) = answer.get("access_token").and_then(Value::as_str).filter(|_| status == 200) else {
            return Err(refusal(status, &answer));
        };
        let (status, answer) = self.post("/v1/revoke", &[("token", token)]).await?;
        if (200..300).contains(&status) { Ok(()) } else { Err(format!("revoking: {}", refusal(status, &answer))) }
    }

    async fn exchange(&self, id_token: &str) -> Result<(u16, Value), String> {
        let form = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
            ("resource", self.registry.as_str()),
            ("subject_token", id_token),
        ];
        self.post("/v1/token", &form).await
    }

    async fn post(&self, path: &str, form: &[(&str, &str)]) -> Result<(u16, Value), String> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.client.post(self.url(path)?).header(HOST, &self.host);
        answered(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)).await
    }

    /// The service's scheme and port, the registry's name.
    fn url(&self, path: &str) -> Result<Url, String> {
        let mut url = self.base.join(path).map_err(|error| error.to_string())?;
        if let Some(Host::Domain(name)) = self.registry.host() {
            url.set_host(Some(name)).map_err(|error| error.to_string())?;
        }
        Ok(url)
    }
}

async fn answered(request: RequestBuilder) -> Result<(u16, Value), String> {
    // The URL names the registry, whose address is another's: what is told is why, not where.
    let response = request.send().await.map_err(|error| chain(&error.without_url()))?;
    let status = response.status().as_u16();
    let body = response.bytes().await.map_err(|error| chain(&error.without_url()))?;
    Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What came instead. SECURITY: code and message only, since an answer may hold a token.
fn refusal(status: u16, answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    match (text("code"), text("message")) {
        (Some(code), Some(message)) => format!("the answer is {status}, `{code}`: {message}"),
        _ => format!("the answer is {status}"),
    }
}

/// `host` or `host:port`, as clients send it.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
