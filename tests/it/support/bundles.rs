//! Registries that serve their own rules: their servers, what they serve, and a service that asks them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::Notify;
use trustmint::identity::fetch::Answer as Fetched;
use trustmint::identity::fetch::Fetch;
use trustmint::identity::fetch::FetchError;
use trustmint::identity::fetch::Fetched as Document;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::identity::fetch::Limits;
use trustmint::identity::issuer::Reach;
use trustmint::policy::Policy;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::time::Timestamp;
use url::Url;

use super::Service;
use super::service::API_KEY;
use super::service::Answer;
use super::service::policy;
use super::service::policy_of;
use super::tenants::TOOLS_KEY;

pub const BUNDLE: &str = "https://pypi.acme.example/trust/bundle.yaml";
pub const TOOLS_BUNDLE: &str = "https://tools.acme.example/bundle.yaml";
pub const HOUR: Duration = Duration::from_secs(3600);
pub const MINUTE: Duration = Duration::from_secs(60);
/// A rule of the registry's own, for the job of [`Service::id_token`].
pub const GADGETS: &str = r#"
  gadgets:
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567"}
    allow: {upload: [gadgets]}
"#;

/// The registries' servers. What is not theirs is fetched for real: the identity provider is on loopback.
#[derive(Debug, Default)]
pub struct Servers {
    documents: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What was asked for, and which entity tag was known.
    asked: Mutex<Vec<(String, Option<String>)>>,
    /// The next answer is on its way until this is notified.
    slow: Mutex<Option<Arc<Notify>>>,
    outside: HttpsFetch,
}

impl Servers {
    pub fn publish(&self, url: &str, bytes: impl Into<Vec<u8>>) {
        self.documents.lock().unwrap().insert(url.to_owned(), bytes.into());
    }

    pub fn goes_down(&self) {
        self.documents.lock().unwrap().clear();
    }

    pub fn goes_down_but(&self, url: &str) {
        self.documents.lock().unwrap().retain(|known, _| known == url);
    }

    pub fn asked(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    /// Holds the next answer until what this gives is notified.
    pub fn holds_next(&self) -> Arc<Notify> {
        let held = Arc::new(Notify::new());
        *self.slow.lock().unwrap() = Some(Arc::clone(&held));
        held
    }

    /// Waits until somebody waits for the answer that is held.
    pub async fn are_waited_for(&self) {
        while self.slow.lock().unwrap().is_some() {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Fetch for Servers {
    async fn get(&self, url: &Url, reach: &Reach, known: Option<&str>, limits: Limits) -> Result<Fetched, FetchError> {
        if url.host_str() == Some("127.0.0.1") {
            return self.outside.get(url, reach, known, limits).await;
        }
        self.asked.lock().unwrap().push((url.to_string(), known.map(str::to_owned)));
        let found = self.documents.lock().unwrap().get(url.as_str()).cloned();
        let bytes = found.ok_or(FetchError::Connect("refused".into()))?;
        let slow = self.slow.lock().unwrap().take();
        if let Some(slow) = slow {
            slow.notified().await;
        }
        if bytes.len() > limits.body {
            return Err(FetchError::TooLarge(limits.body));
        }
        let etag = format!("\"{}\"", hex(&sha256(&bytes)));
        if known == Some(&etag) {
            return Ok(Fetched::NotModified { max_age: None });
        }
        Ok(Fetched::Document(Document { bytes, max_age: None, etag: Some(etag) }))
    }
}

/// A bundle with other lines in the places of its own.
pub struct Text {
    pub registry: &'static str,
    pub serial: i64,
    pub not_after: Timestamp,
    pub rules: String,
    pub more: &'static str,
}

impl Text {
    pub fn new(service: &Service, serial: i64) -> Self {
        let not_after = service.app.now().plus(12 * HOUR);
        Self { registry: "acme-pypi", serial, not_after, rules: GADGETS.to_owned(), more: "" }
    }

    pub fn write(&self) -> String {
        let Self { registry, serial, not_after, rules, more } = self;
        format!("registry: {registry}\nserial: {serial}\nnot_after: {not_after}\nrules:\n{rules}\n{more}\n")
    }
}

/// A service whose registries `acme-pypi` and `tools` serve bundles; the directory has these rules.
pub struct Bench {
    pub service: Service,
    pub servers: Arc<Servers>,
}

pub fn directory(base: &str, issuer: &str, bundle: &str, rules: &str) -> Policy {
    policy(&directory_text(base, issuer, bundle, rules))
}

pub fn directory_text(base: &str, issuer: &str, bundle: &str, rules: &str) -> String {
    let text = policy_of(
        base,
        &format!("  github: {{provider: github, url: \"{issuer}\"}}\n  gitlab: {{provider: gitlab}}"),
        rules,
    );
    let digest = hex(&sha256(TOOLS_KEY.as_bytes()));
    let mut registries = String::from("registries:\n");
    writeln!(
        registries,
        "  tools: {{dialect: generic, urls: [\"{base}/tools/\"], audiences: [tools-aud], callers: {{front: {{key_sha256: \
         \"{digest}\"}}}}, bundle: {{url: \"{TOOLS_BUNDLE}\", issuers: [github]}}}}"
    )
    .unwrap();
    let text = text.replacen("registries:\n", &registries, 1);
    text.replacen("    audiences: [acme]\n", &format!("    audiences: [acme]\n    bundle: {bundle}\n"), 1)
}

pub fn usual() -> String {
    format!("{{url: \"{BUNDLE}\", issuers: [github], packages: [gadgets, \"acme-*\"], max_bytes: 64KiB}}")
}

impl Bench {
    pub async fn start() -> Self {
        Self::with(&usual()).await
    }

    pub async fn with(bundle: &str) -> Self {
        let servers = Arc::new(Servers::default());
        let fetch = Arc::clone(&servers);
        let service = Service::with_parts(|base, issuer| directory(base, issuer, bundle, "  {}"), |store| store, fetch);
        Self { service: service.await, servers }
    }

    /// Publishes a bundle of `acme-pypi`, and polls.
    pub async fn serve(&self, text: &Text) {
        self.servers.publish(BUNDLE, text.write());
        self.poll().await;
    }

    /// Passes the time until every registry is asked again, and waits for the answers.
    pub async fn poll(&self) {
        self.service.clock.pass(MINUTE);
        self.poll_now().await;
    }

    pub async fn poll_now(&self) {
        for poll in self.service.app.poll_bundles() {
            poll.await.unwrap();
        }
        self.service.app.sync().await.unwrap();
    }

    /// What the job gets from `acme-pypi`: what the upload token is good for, or the failure's code.
    pub async fn exchange(&self) -> String {
        outcome(&self.service.mint(&json!({"token": self.service.id_token(&json!({}))})).await, &self.service)
    }

    pub async fn exchange_at_tools(&self) -> String {
        let mut claims = self.service.claims(&json!({}));
        claims["aud"] = json!("tools-aud");
        let token = self.service.provider.mint(&claims);
        outcome(&self.service.exchange(&token, &json!({"audience": "tools-aud"})).await, &self.service)
    }

    /// What the dry run of the exchange says.
    pub async fn explained(&self) -> String {
        let url = format!("{}/v1/explain", self.service.base);
        let question = json!({"claims": self.service.claims(&json!({}))});
        let answer = Answer::of(
            self.service.client.post(url).bearer_auth(API_KEY).body(question.to_string()).send().await.unwrap(),
        )
        .await;
        answer.body["code"].as_str().unwrap().to_owned()
    }

    pub async fn notify(&self, key: &str) -> Answer {
        let url = format!("{}/v1/policy/notify", self.service.base);
        Answer::of(self.service.client.post(url).bearer_auth(key).send().await.unwrap()).await
    }

    /// Why the latest poll of `acme-pypi` failed.
    pub fn refusal(&self) -> String {
        let health = self.service.app.bundles().health();
        let health = health.into_iter().find(|health| health.registry == "acme-pypi").unwrap();
        health.last_error.map_or_else(String::new, |error| format!("{}: {error}", error.code()))
    }

    pub fn serial(&self) -> Option<i64> {
        self.service.app.policy().bundle("acme-pypi").map(|bundle| bundle.serial())
    }

    /// A bundle that is refused for this reason, while the one before it stays in force.
    pub async fn refuses(&self, bytes: impl Into<Vec<u8>>, code: &str, words: &str) {
        let before = self.serial();
        self.servers.publish(BUNDLE, bytes);
        // After several failures the next attempt is minutes away.
        self.service.clock.pass(5 * MINUTE);
        self.poll_now().await;
        let refusal = self.refusal();
        assert!(refusal.starts_with(&format!("{code}: ")) && refusal.contains(words), "{code} {words}: {refusal}");
        assert_eq!(self.serial(), before, "{code}");
    }
}

fn outcome(answer: &Answer, service: &Service) -> String {
    if answer.status == 200 {
        return service.last_event()["granted"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    }
    assert_eq!(answer.status == 503, answer.code().starts_with("bundle-"), "{}", answer.text);
    assert_eq!(answer.headers.contains_key("retry-after"), answer.status == 503, "{}", answer.text);
    answer.code().to_owned()
}
