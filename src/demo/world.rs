//! The demonstration's world, wired: the service as `serve` builds it, and around it the parts that play the others.
//!
//! Service and registry answer at one https address, as a reverse proxy would arrange it, and talk to each other, to
//! the identity provider and to clients over the network only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::app::{App, Parts};
use crate::audit::{AuditLog, AuditSink};
use crate::http;
use crate::identity::fetch::HttpsFetch;
use crate::identity::provider;
use crate::json::{Json, Object};
use crate::macaroon::{Keyring, MasterKey};
use crate::package::{Ecosystem, PackageName};
use crate::policy::Policy;
use crate::secret::{Secret, random_bytes};
use crate::state::MemoryStore;
use crate::telemetry::Metrics;
use crate::time::{Clock, Timestamp};

use super::Serving;
use super::certificate::LoopbackCertificate;
use super::client::{Answer, Client};
use super::directory::Directory;
use super::provider::LoopbackProvider;
use super::registry::{LoopbackRegistry, Verifier, sha256};
use super::wheel::Wheel;

/// The rules to begin with: also what the narrative shows.
pub const RULES: &str = include_str!("world/rules.yaml");
/// The audience of the registry.
pub const AUDIENCE: &str = "acme";

/// The file of rules in the policy directory.
const RULES_FILE: &str = "policy/rules.yaml";
const STORE_CAPACITY: usize = 1 << 24;
const AUDIT_CAPACITY: usize = 1024;
/// How long the last audit events may take.
const AUDIT_WAIT: Duration = Duration::from_secs(5);

/// Everything that runs. It ends, and its files are removed, when this is dropped.
#[derive(Debug)]
pub struct World {
    /// First, so that it stops first.
    _serving: Serving,
    app: Arc<App>,
    provider: LoopbackProvider,
    registry: Arc<LoopbackRegistry>,
    client: Client,
    base: String,
    api_key: Secret<String>,
    clock: Arc<dyn Clock>,
    /// Since when the store remembers.
    started: Timestamp,
    directory: Directory,
}

impl Drop for World {
    /// The audit log looks whether its file is still there, and makes it anew: it is to be idle when the directory goes.
    fn drop(&mut self) {
        self.app.flush(AUDIT_WAIT);
    }
}

impl World {
    /// Starts everything on free ports of 127.0.0.1. To be called on a runtime that goes on running: keys are fetched
    /// on it.
    pub async fn start(clock: Arc<dyn Clock>) -> io::Result<Self> {
        let started = clock.now();
        let store = MemoryStore::new(Arc::clone(&clock), STORE_CAPACITY);
        let directory = Directory::create()?;
        let provider = LoopbackProvider::start(Arc::clone(&clock))?;
        let listener = super::bind()?;
        let base = format!("https://{}", listener.local_addr()?);
        let certificate = LoopbackCertificate::generate(started).map_err(io::Error::other)?;
        let client = Client::trusting(certificate.authority_pem())?;
        let api_key = Secret::new(URL_SAFE_NO_PAD.encode(random::<32>()?));

        directory.write("ca.pem", certificate.authority_pem())?;
        directory.write("policy/registry.yaml", registry_policy(&base, provider.issuer(), &api_key))?;
        directory.write(RULES_FILE, RULES)?;
        let audit = AuditLog::start(AuditSink::File(directory.join("audit.jsonl")), AUDIT_CAPACITY)?;
        let key = MasterKey::generate("demo", random()?, started).map_err(io::Error::other)?;
        let app = Arc::new(App::build(Parts {
            policy: load(&directory)?,
            keyring: Keyring::new(vec![key]).map_err(io::Error::other)?,
            fetch: Arc::new(HttpsFetch::new()),
            store: Arc::new(store),
            audit,
            metrics: Arc::new(Metrics::new().map_err(io::Error::other)?),
            clock: Arc::clone(&clock),
            runtime: Handle::current(),
        }));
        app.sync().await.map_err(io::Error::other)?;
        let attended = Arc::clone(&app);
        drop(actix_web::rt::spawn(async move { attended.attend().await }));

        let endpoint = format!("{base}/v1/verify").parse().map_err(io::Error::other)?;
        let registry = LoopbackRegistry::new(Verifier {
            endpoint,
            key: Secret::new(api_key.expose().clone()),
            client: client.inner(),
        });
        let tls = certificate.server_config().map_err(io::Error::other)?;
        let exchange = http::public_routes(web::Data::new(http::Public::new(Arc::clone(&app), Vec::new())));
        let uploads = Arc::clone(&registry);
        let serving = Serving::start(listener, Some(tls), move |routes| {
            uploads.routes(routes);
            exchange(routes);
        })?;
        Ok(Self { _serving: serving, app, provider, registry, client, base, api_key, clock, started, directory })
    }

    /// Waits until an ID token can be dated after the store's memory begins: tokens are dated in whole seconds, and
    /// the service takes none whose first use the store may have forgotten.
    pub async fn settled(&self) {
        let settles = Timestamp::from_unix_seconds(self.started.unix_seconds().saturating_add(1));
        loop {
            let wait = settles.since(self.clock.now());
            if wait.is_zero() {
                return;
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// The service.
    pub const fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The identity provider.
    pub const fn provider(&self) -> &LoopbackProvider {
        &self.provider
    }

    /// The registry.
    pub const fn registry(&self) -> &Arc<LoopbackRegistry> {
        &self.registry
    }

    /// A client that trusts the service's certificate.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// The directory of this run.
    pub const fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Where service and registry answer, without a path.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Where a path of theirs is.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The registry's API key.
    pub const fn api_key(&self) -> &Secret<String> {
        &self.api_key
    }

    /// Puts these rules into the policy directory, reads it as `serve` does, and puts them in force.
    pub fn reload(&self, rules: &str) -> io::Result<()> {
        self.directory.write(RULES_FILE, rules)?;
        self.app.activate(load(&self.directory)?);
        Ok(())
    }

    /// Sets the job that asks the identity provider for ID tokens: the run of a workflow file for a tag.
    pub fn run_job(&self, workflow_file: &str, tag: &str) {
        let overrides = [
            ("repository_owner_id", "9123456"),
            ("repository_id", "701234567"),
            ("repository", "acme/widgets"),
            ("environment", "release"),
            ("workflow_file", workflow_file),
            ("tag", tag),
        ];
        let overrides = overrides
            .into_iter()
            .fold(Object::default(), |all, (name, value)| all.with(name, Json::String(value.to_owned())));
        let example = provider::by_name("github").and_then(|github| github.example("tag-push"));
        self.provider.run_job(&example.map(|example| Json::Object((example.claims)(&overrides))));
    }

    /// Asks the identity provider for an ID token, as a job does.
    pub async fn id_token(&self) -> io::Result<Answer> {
        let url = format!("{}&audience={AUDIENCE}", self.provider.token_request_url());
        self.client.get(&url, Some(&self.provider.token_request_token())).await
    }

    /// Exchanges an ID token at the registry's host, as a publishing client does.
    pub async fn mint(&self, id_token: &str) -> io::Result<Answer> {
        self.client.post(&self.url("/_/oidc/mint-token"), None, &json!({ "token": id_token })).await
    }
}

/// A wheel of the package that the rules are about, and its facts as a registry tells them.
pub fn widgets(version: &str) -> io::Result<(PackageName, Wheel, Value)> {
    let package = PackageName::parse(Ecosystem::Pypi, "widgets").map_err(io::Error::other)?;
    let wheel = Wheel::new(&package, version);
    let facts = json!({
        "package": package.as_str(), "exists": false, "version": version, "sha256": sha256(&wheel.bytes),
        "size": wheel.bytes.len(),
    });
    Ok((package, wheel, facts))
}

fn load(directory: &Directory) -> io::Result<Policy> {
    crate::policy::watch::load(&directory.join("policy")).map_err(io::Error::other)
}

fn registry_policy(base: &str, issuer: &str, api_key: &Secret<String>) -> String {
    let digest = sha256(api_key.expose().as_bytes());
    format!(
        "issuers:\n  github: {{provider: github, url: \"{issuer}\"}}\n\nregistries:\n  acme-pypi:\n    dialect: pypi\n    \
         urls: [\"{base}/legacy/\"]\n    audiences: [{AUDIENCE}]\n    token: {{prefix: pypi-, ttl: 15m}}\n    \
         callers: {{upload-frontend: {{key_sha256: \"{digest}\"}}}}\n"
    )
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    random_bytes().ok_or_else(|| io::Error::other("the system has no randomness"))
}
