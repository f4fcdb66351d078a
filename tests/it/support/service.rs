//! One running service.

use std::io;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use actix_web::web;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use trustmint::app;
use trustmint::app::App;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::http;
use trustmint::http::Public;
use trustmint::identity::fetch::Fetch;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::identity::provider;
use trustmint::json::Json;
use trustmint::json::Object;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::watch::Directory;
use trustmint::secret::hex;
use trustmint::secret::random_bytes;
use trustmint::secret::sha256;
use trustmint::state::MemoryStore;
use trustmint::state::Store;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock;
use trustmint::time::SystemClock;
use trustmint::time::Timestamp;

use super::SetClock;
use super::described::assert_described;
use super::said;
use super::said::Channel;
use super::said::LastMetrics;
use super::said::Record;
use super::said::SecretKind;

/// The API key of the registry `acme-pypi`.
pub const API_KEY: &str = "a-test-key-with-256-bits-would-be-longer";
/// The audience of the registry `acme-pypi`.
pub const AUDIENCE: &str = "acme";

/// One registry, `acme-pypi`, at `/legacy/` of this host; one issuer, `github`, on loopback; and the rules given.
pub struct Service {
    pub app: Arc<App>,
    pub clock: Arc<SetClock>,
    pub provider: Arc<LoopbackProvider>,
    pub client: reqwest::Client,
    pub base: String,
    pub authority_pem: String,
    audit: Lines,
    /// What its policy calls its address; a replica listens elsewhere.
    public: String,
    /// The bytes of its one master key, and since when that mints.
    master: ([u8; 32], Timestamp),
    _metrics: LastMetrics,
    _serving: Serving,
}

/// A rule for `acme/widgets` that grants `widgets` and new names below `widgets-`.
pub const WIDGETS: &str = r#"
  widgets-release:
    registry: acme-pypi
    issuer: github
    when:
      repository_owner_id: "9123456"
      repository_id: "701234567"
      repository: acme/widgets
      workflow_file: release.yml
      environment: release
      tag: {glob: "v*"}
    allow:
      upload: [widgets]
      create: ["widgets-*"]
"#;

/// How often a directory is looked at.
pub const POLL: Duration = Duration::from_secs(5);

/// Where a policy is from.
enum Origin {
    Value(Box<Policy>),
    Directory(PathBuf),
}

/// What replicas of a service have in common.
struct World {
    clock: Arc<SetClock>,
    provider: Arc<LoopbackProvider>,
    public: Option<String>,
    master: ([u8; 32], Timestamp),
    /// Where its events go, and how many wait for it; else to where the test reads them.
    audit: Option<(AuditSink, usize)>,
}

impl World {
    fn begin() -> Self {
        // Whole seconds, as times in tokens are: a token issued now is not older than the store.
        let now = Timestamp::from_unix_seconds(SystemClock.now().unix_seconds());
        let clock = Arc::new(SetClock::starting_at(now));
        let provider = Arc::new(LoopbackProvider::start(clock.clone()).unwrap());
        Self { clock, provider, public: None, master: (random_bytes().unwrap(), now), audit: None }
    }
}

impl Service {
    /// A service with the rule [`WIDGETS`].
    pub async fn start() -> Self {
        Self::with_rules(WIDGETS).await
    }

    /// A service with these rules.
    pub async fn with_rules(rules: &str) -> Self {
        Self::with_policy(|base, issuer| policy(&policy_text(base, issuer, rules))).await
    }

    /// A service with the policy that is made of its own address and its loopback provider's issuer.
    pub async fn with_policy(policy: impl FnOnce(&str, &str) -> Policy) -> Self {
        Self::with_store(policy, |store| store).await
    }

    /// The same, with its store behind another.
    pub async fn with_store(
        policy: impl FnOnce(&str, &str) -> Policy,
        behind: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        Self::with_parts(policy, behind, Arc::new(HttpsFetch::new())).await
    }

    /// The same, with what it fetches coming from elsewhere.
    pub async fn with_parts(
        policy: impl FnOnce(&str, &str) -> Policy,
        behind: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
        fetch: Arc<dyn Fetch>,
    ) -> Self {
        Self::assembled(|base, issuer| Origin::Value(Box::new(policy(base, issuer))), behind, fetch).await
    }

    /// A service whose policy is the directory that is made of its own address and its loopback provider's issuer.
    pub async fn watching(directory: impl FnOnce(&str, &str) -> PathBuf) -> Self {
        Self::watching_with(directory, Arc::new(HttpsFetch::new())).await
    }

    /// The same, with what it fetches coming from elsewhere.
    pub async fn watching_with(directory: impl FnOnce(&str, &str) -> PathBuf, fetch: Arc<dyn Fetch>) -> Self {
        let origin = |base: &str, issuer: &str| Origin::Directory(directory(base, issuer));
        Self::assembled(origin, |store| store, fetch).await
    }

    /// The same, with that store.
    pub async fn watching_on(directory: impl FnOnce(&str, &str) -> PathBuf, store: Arc<dyn Store>) -> Self {
        let origin = |base: &str, issuer: &str| Origin::Directory(directory(base, issuer));
        Self::assembled(origin, |_| store, Arc::new(HttpsFetch::new())).await
    }

    /// A service with the rule [`WIDGETS`] whose audit events go elsewhere, of which so many wait at most.
    pub async fn recording(sink: AuditSink, capacity: usize) -> Self {
        let origin = |base: &str, issuer: &str| Origin::Value(Box::new(policy(&policy_text(base, issuer, WIDGETS))));
        let world = World { audit: Some((sink, capacity)), ..World::begin() };
        Self::in_world(world, origin, |store| store, Arc::new(HttpsFetch::new())).await
    }

    async fn assembled(
        origin: impl FnOnce(&str, &str) -> Origin,
        behind: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
        fetch: Arc<dyn Fetch>,
    ) -> Self {
        Self::in_world(World::begin(), origin, behind, fetch).await
    }

    /// Another replica with that policy: the same public address, keys, provider and time, and its own store. Its
    /// client names the public address and reaches the replica.
    pub async fn replica(
        &self,
        policy: impl FnOnce(&str, &str) -> Policy,
        store: Arc<dyn Store>,
        fetch: Arc<dyn Fetch>,
    ) -> Self {
        let world = World {
            clock: self.clock.clone(),
            provider: self.provider.clone(),
            public: Some(self.public.clone()),
            master: self.master,
            audit: None,
        };
        let origin = |base: &str, issuer: &str| Origin::Value(Box::new(policy(base, issuer)));
        Self::in_world(world, origin, |_| store, fetch).await
    }

    async fn in_world(
        world: World,
        origin: impl FnOnce(&str, &str) -> Origin,
        behind: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
        fetch: Arc<dyn Fetch>,
    ) -> Self {
        let World { clock, provider, public, master, audit: elsewhere } = world;
        said::log();
        said::secret_bytes(SecretKind::MasterKey, &master.0);
        said::secret(SecretKind::ApiKey, API_KEY);
        let now = clock.now();
        let listener = bind().unwrap();
        let base = format!("https://{}", listener.local_addr().unwrap());
        let public = public.unwrap_or_else(|| base.clone());
        let keyring = keyring(master);
        let store = behind(Arc::new(MemoryStore::new(clock.clone(), 1 << 24)));
        let (policy, begun) = match origin(&public, provider.issuer()) {
            Origin::Value(policy) => (*policy, None),
            Origin::Directory(path) => {
                let directory = Directory::new(path).with_http();
                let begun = app::begin(directory.clone(), directory.read(), &store, &keyring, now).await;
                begun.map_or_else(|faults| panic!("{faults}"), |(policy, begun)| (policy, Some(begun)))
            }
        };
        let audit = Lines { lines: Arc::default(), record: Record::of(Channel::Audit) };
        let (sink, capacity) = elsewhere.unwrap_or_else(|| (AuditSink::Writer(Box::new(audit.clone())), 1024));
        let log = AuditLog::start(sink, capacity).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        metrics.observe_audit_dropped(log.dropped_reading());
        metrics.observe_audit_suppressed(log.suppressed_reading());
        let app = App::build(Parts {
            policy,
            keyring,
            fetch,
            store,
            audit: log,
            metrics,
            clock: clock.clone(),
            runtime: Handle::current(),
        });
        let app = match begun {
            Some(begun) => app.watching(begun, POLL),
            None => app,
        };
        let app = Arc::new(app);
        app.sync().await.unwrap();
        let certificate = LoopbackCertificate::generate(now).unwrap();
        let routes = http::public_routes(web::Data::new(Public::new(Arc::clone(&app), Vec::new())));
        let serving = Serving::start(listener, Some(certificate.server_config().unwrap()), routes).unwrap();
        let authority_pem = certificate.authority_pem().to_owned();
        let authority = reqwest::Certificate::from_pem(authority_pem.as_bytes()).unwrap();
        // A connection that was idle while the test held its thread may be closed as it is used again.
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy();
        let mut client = client.pool_max_idle_per_host(0);
        if public != base {
            let host = public.trim_start_matches("https://").parse().unwrap();
            client = client.default_headers([(reqwest::header::HOST, host)].into_iter().collect());
        }
        let client = client.build().unwrap();
        let metrics = LastMetrics(Arc::clone(&app));
        Self {
            app,
            clock,
            provider,
            client,
            base,
            authority_pem,
            audit,
            public,
            master,
            _metrics: metrics,
            _serving: serving,
        }
    }

    /// Its keys.
    pub fn keyring(&self) -> Keyring {
        keyring(self.master)
    }

    /// Puts other rules in force.
    pub fn activate(&self, rules: &str) {
        self.app.activate(policy(&policy_text(&self.base, self.provider.issuer(), rules)));
    }

    /// Passes time, as the service's background task would see it.
    pub async fn pass(&self, time: Duration) {
        self.clock.pass(time);
        self.app.sync().await.unwrap();
    }

    /// The present moment in seconds, as tokens name it.
    pub fn clock_seconds(&self) -> i64 {
        self.app.now().unix_seconds()
    }

    /// The latest audit event.
    pub fn last_event(&self) -> Value {
        self.audit().pop().expect("an event was recorded")
    }

    /// An ID token of a job that the rule [`WIDGETS`] is about, with other claims put over it; `null` removes one.
    pub fn id_token(&self, overrides: &Value) -> String {
        let token = self.provider.mint(&self.claims(overrides));
        said::tokens_in(&token);
        token
    }

    /// The claims of such a job, complete.
    pub fn claims(&self, overrides: &Value) -> Value {
        let job = json!({
            "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
            "environment": "release",
        });
        let mut job = job.as_object().unwrap().clone();
        job.extend(overrides.as_object().unwrap().clone());
        self.provider.claims(&example("github", "tag-push", &Value::Object(job)), AUDIENCE, self.clock.now())
    }

    /// `POST /_/oidc/mint-token`.
    pub async fn mint(&self, body: &Value) -> Answer {
        self.post_json("/_/oidc/mint-token", body).await
    }

    /// `POST /v1/token` (RFC 8693), with these parameters besides; `null` is none.
    pub async fn exchange(&self, subject_token: &str, more: &Value) -> Answer {
        let mut request = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": subject_token,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        });
        let more = more.as_object().unwrap().clone().into_iter().filter(|(_, value)| !value.is_null());
        request.as_object_mut().unwrap().extend(more);
        self.post_json("/v1/token", &request).await
    }

    /// An upload token for that audience, by [`exchange`](Self::exchange), which must succeed.
    pub async fn upload_token_for(&self, audience: &str) -> String {
        let answer = self.exchange(&self.id_token(&json!({"aud": audience})), &json!({"audience": audience})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    /// Mints an upload token, which must succeed.
    pub async fn upload_token(&self) -> String {
        let answer = self.mint(&json!({"token": self.id_token(&json!({}))})).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body["token"].as_str().unwrap().to_owned()
    }

    /// `POST /v1/verify` as the registry `acme-pypi`.
    pub async fn verify(&self, question: &Value) -> Answer {
        said::tokens_in(&question.to_string());
        let request = self.client.post(format!("{}/v1/verify", self.base)).bearer_auth(API_KEY);
        Answer::of(request.body(question.to_string()).send().await.unwrap()).await
    }

    /// Posts JSON.
    pub async fn post_json(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        said::tokens_in(&body);
        self.post(path, "application/json", body).await
    }

    /// Posts a body.
    pub async fn post(&self, path: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.client.post(format!("{}{path}", self.base)).header("content-type", content_type);
        Answer::of(request.body(body).send().await.unwrap()).await
    }

    /// Gets a path.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }

    /// The audit events so far.
    pub fn audit(&self) -> Vec<Value> {
        self.app.flush(Duration::from_secs(5));
        let text = String::from_utf8(self.audit.lines.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A response, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let path = response.url().path().to_owned();
        let text = response.text().await.unwrap();
        said::answered(status, &headers, &text);
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Self { status, headers, body, text };
        let code = answer.headers.get("x-trustmint-code").and_then(|code| code.to_str().ok());
        // The public side's have one, and neither operators' nor other programs' have.
        if answer.headers.contains_key("x-request-id") {
            assert_described(&path, status, code.or(answer.body["code"].as_str()));
        }
        answer
    }

    /// The failure's code.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// The claims of a preset's example, with others put over them.
pub fn example(preset: &str, name: &str, overrides: &Value) -> Value {
    let example = provider::by_name(preset).unwrap().example(name).unwrap();
    let claims = (example.claims)(&object(overrides));
    serde_json::to_value(Json::Object(claims)).unwrap()
}

/// The policy file of the tests' registry and issuer, with these rules.
pub fn policy_text(base: &str, issuer: &str, rules: &str) -> String {
    policy_of(base, &format!("  github: {{provider: github, url: \"{issuer}\"}}"), rules)
}

/// The same with these issuers.
pub fn policy_of(base: &str, issuers: &str, rules: &str) -> String {
    let digest = hex(&sha256(API_KEY.as_bytes()));
    format!(
        "issuers:\n{issuers}\nregistries:\n  acme-pypi:\n    dialect: pypi\n    urls: [\"{base}/legacy/\"]\n    audiences: [{AUDIENCE}]\n    callers: {{upload-frontend: {{key_sha256: \
         \"{digest}\"}}}}\nrules:\n{}\n",
        rules.trim_start_matches('\n')
    )
}

/// The policy of that text.
pub fn policy(text: &str) -> Policy {
    let source = Source { name: "policy.yaml".into(), text: text.into() };
    Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
}

fn keyring((bytes, since): ([u8; 32], Timestamp)) -> Keyring {
    Keyring::new(vec![MasterKey::generate("k1", bytes, since).unwrap()]).unwrap()
}

/// A claim set as the service's own type.
pub fn object(value: &Value) -> Object {
    Json::parse(value.to_string().as_bytes()).unwrap().as_object().unwrap().clone()
}

/// What was written to the audit log.
#[derive(Clone)]
struct Lines {
    lines: Arc<Mutex<Vec<u8>>>,
    record: Record,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lines.lock().unwrap().extend_from_slice(bytes);
        self.record.keep(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
