//! A registry's own rules, at the front door: they are fetched and used, confined to the registry, and neither a bad
//! bundle nor a server that is gone takes more than itself out of service.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
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

use crate::operations::KEY;
use crate::operations::Operations;
use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::policy;
use crate::support::service::policy_of;
use crate::support::tenants::TOOLS_KEY;

pub const BUNDLE: &str = "https://pypi.acme.example/trust/bundle.yaml";
const TOOLS_BUNDLE: &str = "https://tools.acme.example/bundle.yaml";
const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
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

    fn goes_down_but(&self, url: &str) {
        self.documents.lock().unwrap().retain(|known, _| known == url);
    }

    fn asked(&self) -> Vec<(String, Option<String>)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
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
struct Text {
    registry: &'static str,
    serial: i64,
    not_after: Timestamp,
    rules: String,
    more: &'static str,
}

impl Text {
    fn new(service: &Service, serial: i64) -> Self {
        let not_after = service.app.now().plus(12 * HOUR);
        Self { registry: "acme-pypi", serial, not_after, rules: GADGETS.to_owned(), more: "" }
    }

    fn write(&self) -> String {
        let Self { registry, serial, not_after, rules, more } = self;
        format!("registry: {registry}\nserial: {serial}\nnot_after: {not_after}\nrules:\n{rules}\n{more}\n")
    }
}

/// A service whose registries `acme-pypi` and `tools` serve bundles; the directory has these rules.
struct Bench {
    service: Service,
    servers: Arc<Servers>,
}

pub fn directory(base: &str, issuer: &str, bundle: &str, rules: &str) -> Policy {
    policy(&directory_text(base, issuer, bundle, rules))
}

fn directory_text(base: &str, issuer: &str, bundle: &str, rules: &str) -> String {
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
    async fn start() -> Self {
        Self::with(&usual()).await
    }

    async fn with(bundle: &str) -> Self {
        let servers = Arc::new(Servers::default());
        let fetch = Arc::clone(&servers);
        let service = Service::with_parts(|base, issuer| directory(base, issuer, bundle, "  {}"), |store| store, fetch);
        Self { service: service.await, servers }
    }

    /// Publishes a bundle of `acme-pypi`, and polls.
    async fn serve(&self, text: &Text) {
        self.servers.publish(BUNDLE, text.write());
        self.poll().await;
    }

    /// Passes the time until every registry is asked again, and waits for the answers.
    async fn poll(&self) {
        self.service.clock.pass(MINUTE);
        self.poll_now().await;
    }

    async fn poll_now(&self) {
        for poll in self.service.app.poll_bundles() {
            poll.await.unwrap();
        }
        self.service.app.sync().await.unwrap();
    }

    /// What the job gets from `acme-pypi`: what the upload token is good for, or the failure's code.
    async fn exchange(&self) -> String {
        outcome(&self.service.mint(&json!({"token": self.service.id_token(&json!({}))})).await, &self.service)
    }

    async fn exchange_at_tools(&self) -> String {
        let mut claims = self.service.claims(&json!({}));
        claims["aud"] = json!("tools-aud");
        let token = self.service.provider.mint(&claims);
        outcome(&self.service.exchange(&token, &json!({"audience": "tools-aud"})).await, &self.service)
    }

    /// What the dry run of the exchange says.
    async fn explained(&self) -> String {
        let url = format!("{}/v1/explain", self.service.base);
        let question = json!({"claims": self.service.claims(&json!({}))});
        let answer = Answer::of(
            self.service.client.post(url).bearer_auth(API_KEY).body(question.to_string()).send().await.unwrap(),
        )
        .await;
        answer.body["code"].as_str().unwrap().to_owned()
    }

    async fn notify(&self, key: &str) -> Answer {
        let url = format!("{}/v1/policy/notify", self.service.base);
        Answer::of(self.service.client.post(url).bearer_auth(key).send().await.unwrap()).await
    }

    /// Why the latest poll of `acme-pypi` failed.
    fn refusal(&self) -> String {
        let health = self.service.app.bundles().health();
        let health = health.into_iter().find(|health| health.registry == "acme-pypi").unwrap();
        health.last_error.map_or_else(String::new, |error| format!("{}: {error}", error.code()))
    }

    fn serial(&self) -> Option<i64> {
        self.service.app.policy().bundle("acme-pypi").map(|bundle| bundle.serial())
    }

    /// A bundle that is refused for this reason, while the one before it stays in force.
    async fn refuses(&self, bytes: impl Into<Vec<u8>>, code: &str, words: &str) {
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

#[actix_web::test]
async fn a_registrys_own_rules_are_fetched_and_used() {
    let bench = Bench::start().await;
    assert_eq!(bench.exchange().await, "bundle-missing", "not yet");
    let directory = bench.service.app.policy().revision().to_owned();
    bench.serve(&Text::new(&bench.service, 7)).await;
    assert_eq!(bench.refusal(), "");
    assert_eq!(bench.exchange().await, "upload:gadgets");
    let event = bench.service.last_event();
    assert_eq!(event["rules"], json!(["acme-pypi/gadgets"]));
    assert_ne!(event["policy_revision"], json!(directory), "another policy has another name");
    let metrics = bench.service.app.metrics().render().unwrap();
    for line in [
        "trustmint_bundle_serial{registry=\"acme-pypi\"} 7",
        "trustmint_bundle_refreshes_total{registry=\"acme-pypi\",result=\"new\"} 1",
        "trustmint_bundle_refreshes_total{registry=\"tools\",result=\"not-fetched\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    // A bundle without the rule withdraws it.
    bench.serve(&Text { rules: "  {}".into(), ..Text::new(&bench.service, 8) }).await;
    assert_eq!(bench.exchange().await, "no-matching-rule");
}

#[actix_web::test]
async fn what_has_not_changed_is_asked_for_by_its_entity_tag() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let since = bench.service.app.policy();
    bench.servers.asked();
    bench.poll().await;
    let asked = bench.servers.asked();
    let known = asked.iter().find(|(url, _)| url == BUNDLE).and_then(|(_, etag)| etag.clone());
    assert!(known.is_some(), "{asked:?}");
    assert!(Arc::ptr_eq(&since, &bench.service.app.policy()), "nothing new came into force");
    assert!(bench.service.app.metrics().render().unwrap().contains("acme-pypi\",result=\"same\"} 1"));
}

#[actix_web::test]
async fn operators_see_each_registrys_bundle_beside_the_policy_and_its_warnings() {
    let (files, servers) = (TempDir::new().unwrap(), Arc::new(Servers::default()));
    let fetch = Arc::clone(&servers);
    let write = |base: &str, issuer: &str| {
        let text = directory_text(base, issuer, &usual(), "  {}")
            .replace("provider: gitlab", "provider: gitlab, max_lifetime: 5h");
        std::fs::write(files.path().join("policy.yaml"), text).unwrap();
        files.path().to_owned()
    };
    let bench = Bench { service: Service::watching_with(write, fetch).await, servers };
    let operations = Operations::of(Arc::clone(&bench.service.app));
    let seen = async || {
        let request = operations.client.get(format!("{}/policy", operations.base)).bearer_auth(KEY);
        Answer::of(request.send().await.unwrap()).await.body
    };
    let before = seen().await;
    assert_eq!(before["warnings"]["count"], 1, "{before:#}");
    let warning = &before["warnings"]["listed"][0];
    assert_eq!(
        (&warning["code"], &warning["key"], &warning["line"]),
        (&json!("L038"), &json!("issuers.gitlab.max_lifetime"), &json!(3))
    );
    let counted = || bench.service.app.metrics().render().unwrap();
    assert!(counted().lines().any(|line| line == "trustmint_policy_warnings{code=\"L038\"} 1"), "{}", counted());

    bench.serve(&Text::new(&bench.service, 7)).await;
    let after = seen().await;
    let (own, tools) = (&after["bundles"][0], &after["bundles"][1]);
    let not_after = bench.service.app.policy().bundle("acme-pypi").unwrap().not_after().to_string();
    assert_eq!(
        (&own["registry"], &own["serial"], &own["rules"]),
        (&json!("acme-pypi"), &json!(7), &json!(1)),
        "{after:#}"
    );
    assert_eq!((&own["not_after"], &own["failures"], &own["last_error"]), (&json!(not_after), &json!(0), &Value::Null));
    assert_eq!((&tools["registry"], &tools["serial"], &tools["failures"]), (&json!("tools"), &Value::Null, &json!(1)));
    assert_eq!(tools["last_error"]["code"], "not-fetched");
    // What decides is the directory with the bundles; what the directory alone is stays visible.
    assert_eq!(after["revision"], bench.service.app.policy().revision());
    assert_eq!(after["directory_revision"], before["revision"]);
    assert_ne!(after["revision"], before["revision"]);
    assert_eq!(after["rules"], 1);

    bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), &usual(), "  {}"));
    assert!(!counted().contains("trustmint_policy_warnings{"), "{}", counted());
}

#[actix_web::test]
async fn a_notice_brings_the_next_poll_forward() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    bench.servers.publish(BUNDLE, Text { rules: "  {}".into(), ..Text::new(&bench.service, 2) }.write());
    bench.poll_now().await;
    assert_eq!(bench.serial(), Some(1), "it is not due");
    for (key, status) in [("somebody's key", 401), (API_KEY, 202)] {
        assert_eq!(bench.notify(key).await.status, status, "{key}");
    }
    while bench.serial() == Some(1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.serial(), Some(2));
    let answer = bench.notify(API_KEY).await;
    assert_eq!(answer.body["poll_at"], json!(bench.service.app.now().to_string()));
    // More of them than are allowed are put off, not obeyed.
    for _ in 0..5 {
        bench.notify(API_KEY).await;
    }
    let later = bench.notify(API_KEY).await;
    assert_ne!(later.body["poll_at"], answer.body["poll_at"]);
    assert_eq!(later.status, 202);
}

#[actix_web::test]
async fn an_older_bundle_and_another_one_of_the_same_serial_are_refused() {
    let bench = Bench::start().await;
    let first = Text::new(&bench.service, 5);
    bench.serve(&first).await;
    let words = "one with the serial 5 was in force";
    for serial in [0, 4, 5] {
        let text = Text { rules: "  {}".into(), ..Text::new(&bench.service, serial) };
        bench.refuses(text.write(), "old-serial", words).await;
    }
    assert_eq!(bench.exchange().await, "upload:gadgets");
    // The very same bytes are no other bundle.
    bench.serve(&first).await;
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!(bench.refusal(), "");
}

#[actix_web::test]
async fn what_reaches_beyond_the_registry_is_refused() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let good = || Text::new(&bench.service, 2);
    let rules = |from: &str, to: &str| Text { rules: GADGETS.replace(from, to), ..good() }.write();
    for (bytes, code, words) in [
        (Text { registry: "tools", ..good() }.write(), "other-registry", "the registry `tools`"),
        (rules("issuer: github", "issuer: gitlab"), "rules-refused", "not one that bundles of `acme-pypi` may name"),
        (
            rules("issuer: github", "issuer: github\n    registry: tools"),
            "rules-refused",
            "for the registry that serves it",
        ),
        (rules("[gadgets]", "[widgets]"), "rules-refused", "beyond what"),
        (rules("[gadgets]", "[\"gadgets-*\"]"), "rules-refused", "beyond what"),
        (rules("[gadgets]", "[\"{repository_name}\"]"), "rules-refused", ""),
        (rules("repository_id: \"701234567\"", "environment: release"), "rules-refused", "L001"),
        (Text { more: "waivers: []", ..good() }.write(), "unreadable", "unknown key `waivers`"),
        (Text { more: "issuers: {}", ..good() }.write(), "unreadable", "unknown key `issuers`"),
        (Text { more: "registries: {}", ..good() }.write(), "unreadable", "unknown key `registries`"),
        ("registry: [".to_owned(), "unreadable", "is not YAML"),
        (Text { not_after: bench.service.app.now(), ..good() }.write(), "expired", "was good until"),
        (Text { not_after: bench.service.app.now().plus(48 * HOUR), ..good() }.write(), "valid-too-long", "24 h"),
        (format!("{}#{}", good().write(), "x".repeat(64 << 10)), "not-fetched", "larger than 64 KiB"),
    ] {
        bench.refuses(bytes, code, words).await;
    }
    assert_eq!(bench.exchange().await, "upload:gadgets", "the last good one serves on");
    // Each of these is refused for what was changed: as it is, it is accepted.
    bench.servers.publish(BUNDLE, good().write());
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(2)));
}

#[actix_web::test]
async fn a_bundle_whose_own_tests_fail_is_refused() {
    let bench = Bench::start().await;
    let test = |expect: &str| -> &'static str {
        let job = "{repository_owner_id: \"9123456\", repository_id: \"701234567\"}";
        let text = format!(
            "tests:\n  - {{name: a tag, rule: gadgets, token: github/tag-push, claims: {job}, request: {{upload: gadgets}}, expect: {expect}}}"
        );
        Box::leak(text.into_boxed_str())
    };
    bench.serve(&Text { more: test("allow"), ..Text::new(&bench.service, 1) }).await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(1)));
    let failing = Text { more: test("{deny: ref-mismatch}"), ..Text::new(&bench.service, 2) };
    bench.refuses(failing.write(), "rules-refused", "the test `a tag` fails").await;
}

#[actix_web::test]
async fn a_signature_is_demanded_where_the_policy_names_a_key() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = STANDARD.encode(pair.public_key().as_ref());
    let bench = Bench::with(&format!("{{url: \"{BUNDLE}\", issuers: [github], public_key: \"{key}\"}}")).await;
    let text = Text::new(&bench.service, 1).write();
    let signature_url = format!("{BUNDLE}.sig");
    bench.servers.publish(&signature_url, pair.sign(text.as_bytes()).as_ref());
    bench.servers.publish(BUNDLE, text.clone());
    bench.poll().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(1)));
    let next = Text::new(&bench.service, 2).write();
    bench.refuses(next.clone(), "wrong-signature", "not that of `public_key`").await;
    bench.servers.publish(&signature_url, "not 64 bytes");
    bench.refuses(next.clone(), "unsigned", "an Ed25519 signature has 64").await;
    bench.servers.goes_down();
    bench.refuses(next.clone(), "signature-not-fetched", "refused").await;
    bench.servers.publish(&signature_url, pair.sign(next.as_bytes()).as_ref());
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(2)));
}

#[actix_web::test]
async fn when_the_server_is_gone_the_last_good_bundle_serves_until_its_own_end() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    bench.servers.goes_down();
    bench.poll().await;
    assert!(bench.refusal().starts_with("not-fetched: "), "{}", bench.refusal());
    assert_eq!(bench.exchange().await, "upload:gadgets");
    bench.service.pass(11 * HOUR + 57 * MINUTE).await;
    assert_eq!(bench.exchange().await, "upload:gadgets", "a minute before its end");
    bench.service.pass(2 * MINUTE).await;
    assert_eq!(bench.exchange().await, "bundle-expired");
    assert_eq!(bench.explained().await, "bundle-expired", "a dry run says what an exchange says");
    // A server that says that nothing has changed does not lengthen it.
    bench.servers.publish(BUNDLE, Text { not_after: bench.service.app.now(), ..Text::new(&bench.service, 1) }.write());
    bench.poll().await;
    assert_eq!(bench.exchange().await, "bundle-expired");
    bench.service.clock.pass(5 * MINUTE);
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 2).write());
    bench.poll_now().await;
    assert_eq!(bench.exchange().await, "upload:gadgets");
}

#[actix_web::test]
async fn an_unchanged_answer_after_its_end_leaves_a_bundle_expired() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    bench.service.pass(13 * HOUR).await;
    bench.servers.asked();
    bench.poll_now().await;
    assert!(bench.servers.asked().iter().any(|(url, etag)| url == BUNDLE && etag.is_some()));
    assert_eq!(bench.refusal(), "");
    assert_eq!(bench.exchange().await, "bundle-expired");
}

#[actix_web::test]
async fn the_directorys_rules_go_on_while_a_bundle_is_missing_or_expired() {
    let servers = Arc::new(Servers::default());
    let rules = crate::support::service::WIDGETS;
    let start = |base: &str, issuer: &str| directory(base, issuer, &usual(), rules);
    let service = Service::with_parts(start, |store| store, servers.clone()).await;
    let bench = Bench { service, servers };
    assert_eq!(bench.exchange().await, "create:widgets-*upload:widgets");
    bench.serve(&Text::new(&bench.service, 1)).await;
    assert_eq!(bench.exchange().await, "create:widgets-*upload:gadgetsupload:widgets", "they add up");
    bench.service.pass(13 * HOUR).await;
    assert_eq!(bench.exchange().await, "create:widgets-*upload:widgets");
    let other = bench.service.id_token(&json!({"repository_id": "1"}));
    assert_eq!(bench.service.mint(&json!({"token": other})).await.code(), "bundle-expired");
}

#[actix_web::test]
async fn a_bad_bundle_does_not_hold_another_registry_up() {
    let bench = Bench::start().await;
    let tools = Text { registry: "tools", ..Text::new(&bench.service, 1) };
    bench.servers.publish(TOOLS_BUNDLE, tools.write());
    bench
        .serve(&Text { rules: GADGETS.replace("issuer: github", "issuer: nobody"), ..Text::new(&bench.service, 1) })
        .await;
    assert!(bench.refusal().starts_with("rules-refused: "), "{}", bench.refusal());
    assert_eq!(bench.exchange().await, "bundle-missing");
    assert_eq!(bench.exchange_at_tools().await, "upload:gadgets");
    // A rule of one registry is none of another's, though both have a rule of that name.
    bench.service.clock.pass(5 * MINUTE);
    bench.servers.publish(BUNDLE, Text { rules: "  {}".into(), ..Text::new(&bench.service, 1) }.write());
    bench.poll_now().await;
    assert_eq!(bench.exchange().await, "no-matching-rule");
    assert_eq!(bench.exchange_at_tools().await, "upload:gadgets");
}

#[actix_web::test]
async fn another_directory_keeps_a_bundle_that_it_still_allows() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let activate = |bundle: &str, rules: &str| {
        bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), bundle, rules));
    };
    activate(&usual(), crate::support::service::WIDGETS);
    assert_eq!(bench.exchange().await, "create:widgets-*upload:gadgetsupload:widgets");
    activate(&usual().replace("[gadgets, \"acme-*\"]", "[\"acme-*\"]"), "  {}");
    assert_eq!(bench.exchange().await, "bundle-missing", "it grants what it may not any more");
    activate(&usual(), "  {}");
    assert_eq!(bench.exchange().await, "bundle-missing");
    bench.poll().await;
    assert_eq!(bench.exchange().await, "upload:gadgets", "the same bundle is read anew");
    activate(&usual().replace("trust/bundle.yaml", "elsewhere.yaml"), "  {}");
    assert_eq!(bench.exchange().await, "bundle-missing", "what came from there is not believed here");
}

#[actix_web::test]
async fn tokens_of_a_registrys_own_rules_are_withdrawn_with_them_and_unavailable_where_they_are_not_known() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let token = bench.service.upload_token().await;
    let question = json!({"token": token, "package": "gadgets", "exists": true});
    assert_eq!(bench.service.verify(&question).await.body["allowed"], true);
    bench.service.pass(MINUTE).await;
    let activate = |bundle: &str| {
        bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), bundle, "  {}"));
    };
    activate(&usual().replace("[gadgets, \"acme-*\"]", "[\"acme-*\"]"));
    let answer = bench.service.verify(&question).await;
    assert_eq!((answer.status, answer.code()), (503, "bundle-missing"), "{}", answer.text);
    bench.serve(&Text { rules: "  {}".into(), ..Text::new(&bench.service, 2) }).await;
    let answer = bench.service.verify(&question).await;
    assert_eq!((answer.status, answer.code()), (200, "rule-withdrawn"), "{}", answer.text);
}

#[actix_web::test]
async fn a_registry_that_was_switched_off_and_on_again_goes_back_behind_nothing() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 7)).await;
    let activate = |bundle: &str| {
        bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), bundle, "  {}"));
    };
    activate(&format!("{}\n    enabled: false", usual()));
    bench.poll().await;
    activate(&usual());
    let older = Text { rules: "  {}".into(), ..Text::new(&bench.service, 6) };
    bench.refuses(older.write(), "old-serial", "one with the serial 7 was in force").await;
    assert_eq!(bench.exchange().await, "upload:gadgets");
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 8).write());
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(8)));
    // And what is in force is asked for by its entity tag, once that was seen again.
    activate(&format!("{}\n    enabled: false", usual()));
    bench.poll().await;
    activate(&usual());
    bench.servers.asked();
    for known in [false, true] {
        bench.poll().await;
        let asked = bench.servers.asked().into_iter().find(|(url, _)| url == BUNDLE).unwrap();
        assert_eq!(asked.1.is_some(), known);
    }
}

#[actix_web::test]
async fn of_two_polls_that_overlap_the_slower_brings_nothing_older_into_force() {
    let (servers, down) = (Arc::new(Servers::default()), Mutex::new(None));
    let fetch = Arc::clone(&servers);
    let behind = |store| {
        let store = Arc::new(FaultyStore::new(store));
        *down.lock().unwrap() = Some(Arc::clone(&store));
        store as Arc<dyn trustmint::state::Store>
    };
    let start = |base: &str, issuer: &str| directory(base, issuer, &usual(), "  {}");
    let bench = Bench { service: Service::with_parts(start, behind, fetch).await, servers };
    bench.serve(&Text::new(&bench.service, 7)).await;
    // The store, which would tell what else was accepted, does not answer.
    down.lock().unwrap().as_ref().unwrap().fail(Some(Fault::Refused));
    let (app, slow) = (&bench.service.app, Arc::new(Notify::new()));
    bench.servers.publish(BUNDLE, Text { rules: "  {}".into(), ..Text::new(&bench.service, 8) }.write());
    bench.service.clock.pass(MINUTE);
    *bench.servers.slow.lock().unwrap() = Some(Arc::clone(&slow));
    bench.servers.goes_down_but(BUNDLE);
    let first = app.poll_bundles();
    while bench.servers.slow.lock().unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 9).write());
    let oftener = usual().replace("max_bytes", "poll: 10s, max_bytes");
    app.activate(directory(&bench.service.base, bench.service.provider.issuer(), &oftener, "  {}"));
    for poll in app.poll_bundles() {
        poll.await.unwrap();
    }
    assert_eq!(bench.serial(), Some(9));
    slow.notify_one();
    for poll in first {
        poll.await.unwrap();
    }
    assert_eq!(bench.serial(), Some(9));
}

#[actix_web::test]
async fn where_more_registries_are_due_than_are_asked_at_once_each_has_its_turn() {
    let servers = Arc::new(Servers::default());
    let fetch = Arc::clone(&servers);
    let start = |base: &str, issuer: &str| {
        let text = policy_of(base, &format!("  github: {{provider: github, url: \"{issuer}\"}}"), "  {}");
        let mut registries = String::from("registries:\n");
        for number in 0..40 {
            writeln!(
                registries,
                "  r{number:02}: {{dialect: generic, urls: [\"{base}/r{number:02}/\"], audiences: [r{number:02}], bundle: {{url: \
                 \"https://r{number:02}.example/b\", issuers: [github], poll: 10s}}}}"
            )
            .unwrap();
        }
        policy(&text.replacen("registries:\n", &registries, 1))
    };
    let bench = Bench { service: Service::with_parts(start, |store| store, fetch).await, servers };
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..3 {
        bench.poll_now().await;
        asked.extend(bench.servers.asked().into_iter().map(|(url, _)| url));
        // By then those of the turn before are due again.
        bench.service.clock.pass(Duration::from_secs(10));
    }
    assert_eq!(asked.len(), 40, "{asked:?}");
}

#[actix_web::test]
async fn what_was_on_its_way_from_where_the_policy_no_longer_looks_is_not_believed() {
    let bench = Bench::start().await;
    let slow = Arc::new(Notify::new());
    bench.servers.publish(BUNDLE, Text::new(&bench.service, 1).write());
    *bench.servers.slow.lock().unwrap() = Some(Arc::clone(&slow));
    let polls = bench.service.app.poll_bundles();
    while bench.servers.slow.lock().unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    let elsewhere = usual().replace("trust/bundle.yaml", "elsewhere.yaml");
    bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), &elsewhere, "  {}"));
    slow.notify_one();
    for poll in polls {
        poll.await.unwrap();
    }
    assert_eq!(bench.serial(), None);
    assert_eq!(bench.exchange().await, "bundle-missing");
}

/// Two replicas, one after the other, over one store.
mod copies {
    use super::*;

    use trustmint::app::App;
    use trustmint::app::Parts;
    use trustmint::audit::AuditLog;
    use trustmint::audit::AuditSink;
    use trustmint::macaroon::Keyring;
    use trustmint::macaroon::MasterKey;
    use trustmint::policy::bundle::Lapse;
    use trustmint::state::CopyKind;
    use trustmint::state::MemoryStore;
    use trustmint::telemetry::Metrics;

    use crate::support::SetClock;

    struct Fleet {
        clock: Arc<SetClock>,
        store: Arc<MemoryStore>,
        servers: Arc<Servers>,
    }

    impl Fleet {
        fn new() -> Self {
            let clock = Arc::new(SetClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)));
            let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 24));
            Self { clock, store, servers: Arc::default() }
        }

        /// A replica with this master key.
        fn replica(&self, master: u8, bundle: &str) -> App {
            let now = Timestamp::from_unix_seconds(1_800_000_000);
            let key = MasterKey::generate("k1", std::array::from_fn(|n| master ^ u8::try_from(n).unwrap()), now);
            App::build(Parts {
                policy: directory("https://pypi.acme.example", "https://ci.acme.example", bundle, "  {}"),
                keyring: Keyring::new(vec![key.unwrap()]).unwrap(),
                fetch: self.servers.clone(),
                store: self.store.clone(),
                audit: AuditLog::start(AuditSink::Writer(Box::new(std::io::sink())), 16).unwrap(),
                metrics: Arc::new(Metrics::new().unwrap()),
                clock: self.clock.clone(),
                runtime: tokio::runtime::Handle::current(),
            })
        }

        fn publish(&self, app: &App, serial: i64) {
            let text = format!(
                "registry: acme-pypi\nserial: {serial}\nnot_after: {}\nrules:{GADGETS}",
                app.now().plus(12 * HOUR)
            );
            self.servers.publish(BUNDLE, text);
        }
    }

    async fn poll(app: &App) {
        for poll in app.poll_bundles() {
            poll.await.unwrap();
        }
    }

    fn serial(app: &App) -> Option<i64> {
        app.policy().bundle("acme-pypi").map(|bundle| bundle.serial())
    }

    #[actix_web::test]
    async fn a_replica_that_starts_while_the_server_is_down_has_the_stores_copy() {
        let fleet = Fleet::new();
        let first = fleet.replica(1, &usual());
        fleet.publish(&first, 7);
        poll(&first).await;
        assert_eq!(serial(&first), Some(7));
        fleet.servers.goes_down();
        let second = fleet.replica(1, &usual());
        assert_eq!(serial(&second), None);
        poll(&second).await;
        assert_eq!(serial(&second), Some(7));
        // And it remembers what it must not go back behind.
        fleet.publish(&second, 6);
        fleet.clock.pass(MINUTE);
        poll(&second).await;
        assert_eq!(serial(&second), Some(7));
    }

    #[actix_web::test]
    async fn one_that_another_directory_had_no_place_for_is_had_again_while_the_server_is_down() {
        let fleet = Fleet::new();
        let app = fleet.replica(1, &usual());
        let activate = |bundle: &str| {
            app.activate(directory("https://pypi.acme.example", "https://ci.acme.example", bundle, "  {}"));
        };
        fleet.publish(&app, 7);
        poll(&app).await;
        fleet.servers.goes_down();
        let narrow = usual().replace("[gadgets, \"acme-*\"]", "[\"acme-*\"]");
        activate(&narrow);
        fleet.clock.pass(MINUTE);
        poll(&app).await;
        assert_eq!(serial(&app), None, "it grants what it may not any more");
        activate(&usual());
        fleet.clock.pass(MINUTE);
        poll(&app).await;
        assert_eq!(serial(&app), Some(7));
        // Nothing older follows it all the same.
        fleet.publish(&app, 6);
        fleet.clock.pass(MINUTE);
        poll(&app).await;
        assert_eq!(serial(&app), Some(7));
    }

    #[actix_web::test]
    async fn a_copy_that_has_expired_serves_nobody_and_is_still_remembered() {
        let fleet = Fleet::new();
        let first = fleet.replica(1, &usual());
        fleet.publish(&first, 7);
        poll(&first).await;
        fleet.clock.pass(13 * HOUR);
        let second = fleet.replica(1, &usual());
        fleet.publish(&second, 6);
        poll(&second).await;
        assert_eq!(serial(&second), None, "6 came before 7");
        let policy = second.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        assert_eq!(policy.lapse(registry, second.now()), Some(Lapse::Missing));
        fleet.publish(&second, 8);
        fleet.clock.pass(MINUTE);
        poll(&second).await;
        assert_eq!(serial(&second), Some(8));
    }

    #[actix_web::test]
    async fn what_another_wrote_into_the_store_or_for_another_place_is_not_believed() {
        let fleet = Fleet::new();
        let first = fleet.replica(1, &usual());
        fleet.publish(&first, 7);
        poll(&first).await;
        fleet.servers.goes_down();
        let elsewhere = usual().replace("trust/bundle.yaml", "elsewhere.yaml");
        for (app, why) in
            [(fleet.replica(2, &usual()), "another master key"), (fleet.replica(1, &elsewhere), "another URL")]
        {
            poll(&app).await;
            assert_eq!(serial(&app), None, "{why}");
        }
        // A planted copy that is sealed for another owner is none for this one.
        let planted = fleet.replica(1, &elsewhere);
        let body = b"registry: acme-pypi\nserial: 99\nnot_after: 2027-01-15T12:00:00Z\nrules: {}\n";
        let until = planted.now().plus(HOUR);
        planted.state().put_copy(CopyKind::Bundle, "acme-pypi", planted.now(), "99", body, until).await.unwrap();
        poll(&planted).await;
        assert_eq!(serial(&planted), None);
        // Untouched, and from the same place, it is believed.
        let third = fleet.replica(1, &usual());
        poll(&third).await;
        assert_eq!(serial(&third), Some(7));
    }

    #[actix_web::test]
    async fn a_replica_accepts_nothing_older_than_what_another_has_accepted() {
        let fleet = Fleet::new();
        let (first, second) = (fleet.replica(1, &usual()), fleet.replica(1, &usual()));
        for (app, shown, expected) in [
            (&first, 7, 7),
            (&second, 7, 7),
            (&first, 9, 9),
            // To the second an older one is shown, which would be new to it.
            (&second, 8, 9),
            (&second, 10, 10),
            (&first, 10, 10),
        ] {
            fleet.publish(app, shown);
            fleet.clock.pass(MINUTE);
            poll(app).await;
            assert_eq!(serial(app), Some(expected), "{shown}");
        }
        // So the store's copy never goes back.
        fleet.servers.goes_down();
        let third = fleet.replica(1, &usual());
        poll(&third).await;
        assert_eq!(serial(&third), Some(10));
    }

    #[actix_web::test]
    async fn a_replica_whose_poll_fails_takes_what_another_has_fetched_since() {
        let fleet = Fleet::new();
        let (first, second) = (fleet.replica(1, &usual()), fleet.replica(1, &usual()));
        fleet.publish(&first, 7);
        poll(&first).await;
        poll(&second).await;
        fleet.clock.pass(MINUTE);
        fleet.publish(&first, 8);
        poll(&first).await;
        fleet.servers.goes_down();
        poll(&second).await;
        assert_eq!(serial(&second), Some(8));
    }
}

/// The server of the examples, over HTTPS, as its reader runs it.
mod example {
    use super::*;

    use std::fs;
    use std::io::BufRead as _;
    use std::io::BufReader;
    use std::process::Child;
    use std::process::Command;
    use std::process::Stdio;

    use trustmint::demo::certificate::LoopbackCertificate;
    use trustmint::policy::Source;
    use trustmint::time::Clock as _;
    use trustmint::time::SystemClock;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[actix_web::test]
    async fn the_example_servers_bundle_is_fetched_over_https_and_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
        fs::write(path("certificate.pem"), certificate.certificate_pem()).unwrap();
        certificate.write_key(&path("key.pem")).unwrap();
        let rules = format!("rules:{GADGETS}");
        fs::write(path("rules.yaml"), &rules).unwrap();
        let openssl = |arguments: &[&str]| {
            let made = Command::new("openssl").args(arguments).current_dir(directory.path()).output().unwrap();
            assert!(made.status.success(), "{made:?}");
            made.stdout
        };
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", "sign.pem"]);
        let public = openssl(&["pkey", "-in", "sign.pem", "-pubout", "-outform", "DER"]);
        let public = STANDARD.encode(&public[public.len() - 32..]);

        let mut server = Command::new("python3");
        server.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bundle-server/serve.py"));
        server.args(["--registry", "acme-pypi", "--rules", "rules.yaml", "--certificate", "certificate.pem", "--key"]);
        server.args(["key.pem", "--sign", "sign.pem", "--listen", "127.0.0.1:0"]).current_dir(directory.path());
        let mut server = Running(server.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let url = lines.find_map(|line| line.strip_prefix("serving ").map(str::to_owned)).unwrap();

        let bundle = format!(
            "{{url: \"{url}\", issuers: [github], public_key: \"{public}\", ca_file: ca.pem, allow_networks: [127.0.0.0/8], poll: 10s}}"
        );
        let ca = certificate.authority_pem().as_bytes().to_vec();
        let start = |base: &str, issuer: &str| {
            let text = policy_of(base, &format!("  github: {{provider: github, url: \"{issuer}\"}}"), "  {}");
            let text =
                text.replacen("    audiences: [acme]\n", &format!("    audiences: [acme]\n    bundle: {bundle}\n"), 1);
            let source = Source { name: "policy.yaml".into(), text };
            Policy::load(&[source], &|_, name| (name == "ca.pem").then(|| ca.clone()))
                .unwrap_or_else(|faults| panic!("{faults}"))
        };
        let service = Service::with_parts(start, |store| store, Arc::new(HttpsFetch::new())).await;
        let bench = Bench { service, servers: Arc::default() };
        bench.poll_now().await;
        assert_eq!(bench.refusal(), "");
        assert_eq!(bench.exchange().await, "upload:gadgets");
        // Nothing has changed; then the rules do.
        bench.poll().await;
        assert!(bench.service.app.metrics().render().unwrap().contains("acme-pypi\",result=\"same\"} 1"));
        fs::write(path("new.yaml"), rules.replace("[gadgets]", "[sprockets]")).unwrap();
        fs::rename(path("new.yaml"), path("rules.yaml")).unwrap();
        bench.poll().await;
        assert_eq!(bench.refusal(), "");
        assert_eq!(bench.exchange().await, "upload:sprockets");
    }
}
