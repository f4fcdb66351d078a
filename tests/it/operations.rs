//! The operations listener: health and metrics for everybody who reaches it, the identity providers' keys for operators.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use arc_swap::ArcSwap;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;
use trustmint::app::App;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::config::Sources;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::demo::provider::Answer as Reply;
use trustmint::demo::provider::Endpoint;
use trustmint::http;
use trustmint::http::operations::Operators;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::caller::Caller;
use trustmint::secret::hex;
use trustmint::secret::random_bytes;
use trustmint::secret::sha256;
use trustmint::state::MemoryStore;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock as _;
use trustmint::time::Timestamp;

use crate::support::Service;
use crate::support::SetClock;
use crate::support::said;
use crate::support::said::Channel;
use crate::support::said::Record;
use crate::support::said::SecretKind;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_of;
use crate::support::service::policy_text;

pub struct Operations {
    pub base: String,
    pub client: reqwest::Client,
    _serving: Serving,
}

/// The API key of the operator `oncall`.
pub const KEY: &str = "an-operators-key";

impl Operations {
    /// With the operator `oncall`.
    pub fn of(app: Arc<App>) -> Self {
        let oncall = Caller { name: "oncall".into(), key_sha256: sha256(KEY.as_bytes()) };
        Self::with(Operators::new(app, vec![oncall]))
    }

    fn with(operators: Operators) -> Self {
        said::secret(SecretKind::ApiKey, KEY);
        let listener = bind().unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let routes = http::operations_routes(web::Data::new(operators));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, client, _serving: Serving::start(listener, None, routes).unwrap() }
    }

    async fn issuers(&self) -> Answer {
        Answer::of(self.client.get(format!("{}/issuers", self.base)).bearer_auth(KEY).send().await.unwrap()).await
    }

    async fn refresh(&self, id: &str) -> Answer {
        let url = format!("{}/issuers/{id}/refresh", self.base);
        Answer::of(self.client.post(url).bearer_auth(KEY).send().await.unwrap()).await
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }
}

#[actix_web::test]
async fn a_provider_that_is_down_from_the_start_holds_nothing_up_and_needs_no_restart() {
    let service = Service::start().await;
    let operations = Operations::of(Arc::clone(&service.app));
    service.provider.answer(Endpoint::Discovery, Reply::status(500));
    // What is fetched ahead of the first token fails.
    service.app.keys().refresh_due();
    service.provider.requested(Endpoint::Discovery, 1).await;
    let ready = operations.get("/readyz").await;
    assert_eq!((ready.status, ready.text.as_str()), (200, "ready\n"));
    let token = json!({"token": service.id_token(&json!({}))});
    let refused = service.mint(&token).await;
    assert_eq!((refused.status, refused.code()), (503, "issuer-unavailable"), "{}", refused.text);
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=15).contains(&wait), "{wait}");
    let sentence = refused.body["message"].as_str().unwrap();
    assert!(sentence.contains("the issuer's keys could not be fetched"), "{sentence}");
    let down = operations.issuers().await;
    assert_eq!(down.body[0]["last_error"]["code"], "discovery-not-fetched", "{}", down.text);
    service.provider.answer(Endpoint::Discovery, Reply::Honest);
    service.clock.pass(Duration::from_secs(1));
    let answer = service.mint(&token).await;
    assert_eq!(answer.status, 200, "the very next exchange, with the same token: {}", answer.text);
    assert_eq!(operations.issuers().await.body[0]["last_error"], Value::Null);
}

/// A service that nobody can publish by, with a key that mints from a minute on.
fn built(clock: &Arc<SetClock>) -> App {
    let in_a_minute = clock.now().plus(Duration::from_secs(60));
    let key = MasterKey::generate("k1", random_bytes().unwrap(), in_a_minute).unwrap();
    App::build(Parts {
        policy: policy(&policy_text("https://pypi.acme.example", "http://127.0.0.1:1", WIDGETS)),
        keyring: Keyring::new(vec![key]).unwrap(),
        fetch: Arc::new(HttpsFetch::new()),
        store: Arc::new(MemoryStore::new(clock.clone(), 1 << 20)),
        audit: AuditLog::start(AuditSink::Writer(Box::new(Record::of(Channel::Audit))), 16).unwrap(),
        metrics: Arc::new(Metrics::new().unwrap()),
        clock: clock.clone(),
        runtime: Handle::current(),
    })
}

#[actix_web::test]
async fn operators_are_those_of_the_settings_once_two_looks_have_found_the_same() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("trustmint.yaml");
    let operator = |name: &str, key: &str| format!("{name}: {{key_sha256: \"{}\"}}", hex(&sha256(key.as_bytes())));
    let (oncall, other) = (operator("oncall", KEY), operator("other", "another-operators-key"));
    said::secret(SecretKind::ApiKey, "another-operators-key");
    let write = |callers: &str, more: &str| {
        fs::write(&file, format!("{more}operations: {{callers: {{{callers}}}}}\n")).unwrap();
    };
    write(&oncall, "");
    // A variable counts as it did at the start, and more than a file.
    let variables = [("TRUSTMINT_LIMITS__WORKERS".to_owned(), "3".to_owned())];
    let sources = Sources::new(vec![file.clone()], variables.into_iter());
    let started = sources.load().unwrap();
    let operators = Arc::new(ArcSwap::from_pointee(started.operations.callers.clone()));
    let clock = Arc::new(SetClock::starting_at(Timestamp::from_unix_seconds(1_795_392_000)));
    let hour = Duration::from_secs(3600);
    let app = Arc::new(built(&clock).watching_settings(sources, started, hour, Arc::clone(&operators)));
    let reloads = app.settings_reloads().unwrap();
    let operations = Operations::with(Operators::following(Arc::clone(&app), operators));
    let asked = async || {
        let ask = async |key: &str| {
            let request = operations.client.get(format!("{}/stops", operations.base)).bearer_auth(key);
            request.send().await.unwrap().status().as_u16()
        };
        (ask(KEY).await, ask("another-operators-key").await)
    };
    let counted = |metric: &str| {
        let text = app.metrics().render().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("trustmint_settings_{metric} ")));
        line.map(str::to_owned)
    };
    let activated = || counted("reloads_total{outcome=\"activated\"}");
    assert_eq!((asked().await, counted("refused").as_deref()), ((200, 401), Some("0")));

    write(&format!("{oncall}, {other}"), "");
    reloads.poll().await;
    assert_eq!(asked().await, (200, 401), "seen once it may be half of something");
    reloads.poll().await;
    assert_eq!((asked().await, activated().as_deref()), ((200, 200), Some("1")));

    // Faulty anywhere, it changes nothing, and is told once.
    for faulty in ["limits: {workers: none}\n", "audit: {sink: file}\n", "listen: [\n"] {
        write(&other, faulty);
        for _ in 0..3 {
            reloads.poll().await;
        }
        assert_eq!((asked().await, counted("refused").as_deref()), ((200, 200), Some("1")), "{faulty}");
    }
    assert_eq!(counted("reloads_total{outcome=\"refused\"}").as_deref(), Some("3"));
    fs::remove_file(&file).unwrap();
    reloads.reload().await;
    assert_eq!((asked().await, counted("refused").as_deref()), ((200, 200), Some("1")), "nor does one that is gone");

    write(&other, "");
    reloads.reload().await;
    assert_eq!((asked().await, counted("refused").as_deref()), ((401, 200), Some("0")));
    // What is written otherwise and says the same is nothing new.
    let before = activated();
    write(&other, "# a comment\nlimits: {workers: 2}\n");
    reloads.reload().await;
    assert_eq!((asked().await, activated()), ((401, 200), before));
    write("", "");
    reloads.reload().await;
    assert_eq!(asked().await, (403, 403), "with none, nobody");
}

#[actix_web::test]
async fn it_is_ready_once_a_key_may_mint_whatever_the_providers_do() {
    let now = Timestamp::from_unix_seconds(1_795_392_000);
    let clock = Arc::new(SetClock::starting_at(now));
    let operations = Operations::of(Arc::new(built(&clock)));
    assert_eq!(operations.get("/livez").await.status, 200);
    let unready = operations.get("/readyz").await;
    assert_eq!(unready.status, 503);
    assert!(unready.text.contains("no key of the ring may mint now"), "{}", unready.text);
    clock.pass(Duration::from_secs(60));
    assert!(clock.now() > now);
    let ready = operations.get("/readyz").await;
    assert_eq!((ready.status, ready.text.as_str()), (200, "ready\n"));
    let head = operations.client.head(format!("{}/readyz", operations.base)).send().await.unwrap();
    assert_eq!(head.status(), 200);
    for path in ["/", "/policy/none", "/v1/token", "/v1/verify", "/_/oidc/audience"] {
        assert_eq!(operations.get(path).await.status, 404, "{path}");
    }
}

#[actix_web::test]
async fn metrics_are_prometheus_text_whose_labels_no_caller_chooses() {
    let service = Service::start().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let strange = "strange-value-of-a-caller";
    let scrape = async || {
        let answer = operations.get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
        answer.text
    };
    let provoke = async |strange: &str| {
        let token = service.upload_token().await;
        service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await;
        service.verify(&json!({"token": strange, "package": strange, "action": "read"})).await;
        service.post_json("/_/oidc/burn-token", &json!({"token": strange})).await;
        service.get(&format!("/{strange}")).await;
        service.get(&format!("/.well-known/pytp?discover={strange}")).await;
        for claims in
            [json!({"iss": format!("https://{strange}")}), json!({"aud": strange}), json!({"repository": strange})]
        {
            service.mint(&json!({"token": service.id_token(&claims)})).await;
        }
        let sent =
            service.client.request(strange.to_ascii_uppercase().parse().unwrap(), format!("{}/v1/token", service.base));
        sent.header("host", format!("{strange}.example")).header("user-agent", strange).send().await.unwrap();
        let foreign = service.client.get(format!("{}/_/oidc/audience", service.base));
        foreign.header("host", format!("{strange}.example")).send().await.unwrap();
    };
    provoke(strange).await;
    let text = scrape().await;
    assert!(!text.contains(strange) && !text.contains(&strange.to_ascii_uppercase()), "{text}");
    for line in [
        "trustmint_exchanges_total{code=\"ok\",registry=\"acme-pypi\"} 1",
        "trustmint_exchanges_total{code=\"unknown-issuer\",registry=\"acme-pypi\"} 1",
        "trustmint_issuer_exchanges_total{code=\"ok\",issuer=\"github\"} 1",
        "trustmint_issuer_exchanges_total{code=\"unknown-issuer\",issuer=\"none\"} 1",
        "trustmint_metrics_overflowed 0",
        "trustmint_verifications_total{code=\"ok\",registry=\"acme-pypi\"} 1",
        "trustmint_http_responses_total{endpoint=\"none\",status=\"404\"} 1",
        "trustmint_http_responses_total{endpoint=\"/_/oidc/audience\",status=\"421\"} 1",
        "trustmint_http_responses_total{endpoint=\"/v1/token\",status=\"405\"} 1",
    ] {
        assert!(text.lines().any(|have| have == line), "{line}\n{text}");
    }
    let series = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
    };
    for number in 0..5 {
        provoke(&format!("another-{number}")).await;
    }
    assert_eq!(series(&scrape().await), series(&text), "no request adds a series of its own");
}

/// A service with a fetched issuer, a fetched one that is off, and one whose keys are a file.
async fn service_with_three_issuers() -> Service {
    let kept = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "from-a-file", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]});
    Service::with_policy(|base, issuer| {
        let issuers = format!(
            "  github: {{provider: github, url: \"{issuer}\"}}\n  off: {{provider: generic, url: \"https://off.example\", enabled: false}}\n  kept: {{provider: generic, url: \"https://kept.example\", jwks_file: keys.json}}"
        );
        let source = Source { name: "policy.yaml".into(), text: policy_of(base, &issuers, WIDGETS) };
        Policy::load(&[source], &|_, name| (name == "keys.json").then(|| kept.to_string().into_bytes())).unwrap()
    })
    .await
}

#[actix_web::test]
async fn without_an_operator_in_the_settings_the_keys_are_nobodys_business() {
    let service = Service::start().await;
    let operations = Operations::with(Operators::new(Arc::clone(&service.app), Vec::new()));
    for answer in [operations.issuers().await, operations.refresh("github").await, operations.get("/issuers").await] {
        assert_eq!((answer.status, answer.code()), (403, "operations-closed"), "{}", answer.text);
        assert!(answer.text.contains("`operations.callers`"), "{}", answer.text);
    }
    assert_eq!(service.provider.requests(Endpoint::Discovery), 0);
    assert_eq!(operations.get("/readyz").await.status, 200);
    assert_eq!(operations.get("/metrics").await.status, 200);
}

#[actix_web::test]
async fn an_operator_presents_a_key_and_a_registry_is_none() {
    let service = Service::start().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let right = format!("Bearer {KEY}");
    let registrys = format!("Bearer {}", crate::support::service::API_KEY);
    for (authorization, status) in [
        (None, 401),
        (Some(""), 401),
        (Some(KEY), 401),
        (Some("Bearer"), 401),
        (Some("Bearer an-operators-ke"), 401),
        (Some("Basic b25jYWxsOmFuLW9wZXJhdG9ycy1rZXk="), 401),
        (Some(registrys.as_str()), 401),
        (Some(right.as_str()), 200),
    ] {
        for (request, status) in [
            (operations.client.get(format!("{}/issuers", operations.base)), status),
            (
                operations.client.post(format!("{}/issuers/none/refresh", operations.base)),
                if status == 200 { 404 } else { 401 },
            ),
        ] {
            let request = authorization.iter().fold(request, |request, text| request.header("authorization", *text));
            let answer = Answer::of(request.send().await.unwrap()).await;
            assert_eq!(answer.status, status, "{authorization:?}: {}", answer.text);
            if status == 401 {
                assert_eq!(answer.code(), "bad-api-key");
                assert!(answer.headers.contains_key("www-authenticate"));
                assert!(answer.body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{}", answer.text);
            }
        }
    }
}

#[actix_web::test]
async fn an_operator_sees_every_issuer_and_how_its_keys_are() {
    let service = service_with_three_issuers().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let answer = operations.issuers().await;
    assert_eq!((answer.status, &answer.headers["cache-control"]), (200, &"no-store".parse().unwrap()));
    let unknown = json!({
        "id": "github", "url": service.provider.issuer(), "provider": "github", "enabled": true, "source": "discovery",
        "keys": 0, "kids": [], "age": "empty", "fetched_at": null, "refresh_at": null, "failing_since": null,
        "cooling": false, "last_error": null,
    });
    let kept = json!({
        "id": "kept", "url": "https://kept.example", "provider": "generic", "enabled": true, "source": "static",
        "keys": 1, "kids": ["from-a-file"], "age": null, "fetched_at": null, "refresh_at": null,
        "failing_since": null, "cooling": null, "last_error": null,
    });
    let listed = answer.body.as_array().unwrap();
    assert_eq!((&listed[0], &listed[1]), (&unknown, &kept));
    assert_eq!((listed.len(), &listed[2]["id"], &listed[2]["enabled"]), (3, &json!("off"), &json!(false)));

    service.upload_token().await;
    let fetched = operations.issuers().await.body[0].clone();
    let now = service.app.now().to_string();
    let kids: Vec<Value> = service.provider.keys().iter().map(|key| json!(key.kid())).collect();
    assert_eq!((&fetched["age"], &fetched["keys"], &fetched["kids"]), (&json!("fresh"), &json!(4), &json!(kids)));
    assert_eq!(fetched["fetched_at"], json!(now));
    assert!(fetched["refresh_at"].as_str().unwrap() > now.as_str());
}

#[actix_web::test]
async fn an_operator_refreshes_an_issuers_keys_at_once() {
    let service = service_with_three_issuers().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let first = operations.refresh("github").await;
    assert_eq!((first.status, &first.body["age"], &first.body["keys"]), (200, &json!("fresh"), &json!(4)));
    // However fresh they are.
    service.provider.rotate().unwrap();
    let second = operations.refresh("github").await;
    assert_eq!((second.status, &second.body["keys"]), (200, &json!(5)), "{}", second.text);

    service.provider.answer(Endpoint::Jwks, Reply::status(500));
    service.clock.pass(Duration::from_secs(1));
    let now = service.app.now().to_string();
    let failed = operations.refresh("github").await;
    assert_eq!((failed.status, &failed.body["age"], &failed.body["keys"]), (200, &json!("fresh"), &json!(5)));
    assert_eq!(failed.body["failing_since"], json!(now));
    let error = &failed.body["last_error"];
    assert_eq!((&error["code"], &error["at"]), (&json!("keys-not-fetched"), &json!(now)));
    assert!(error["message"].as_str().unwrap().contains("500"), "{error}");
    assert_eq!(operations.issuers().await.body[0], failed.body);

    service.provider.answer(Endpoint::Jwks, Reply::Honest);
    assert_eq!(operations.refresh("github").await.body["failing_since"], Value::Null);
}

#[actix_web::test]
async fn a_refresh_that_takes_longer_than_an_operator_waits_goes_on() {
    let service = Service::start().await;
    let oncall = Caller { name: "oncall".into(), key_sha256: sha256(KEY.as_bytes()) };
    let operators = Operators::new(Arc::clone(&service.app), vec![oncall]);
    let operations = Operations::with(operators.with_patience(Duration::ZERO));
    service.provider.answer(Endpoint::Discovery, Reply::Held);
    let answer = operations.refresh("github").await;
    assert_eq!((answer.status, &answer.body["age"]), (202, &json!("empty")), "{}", answer.text);
    service.provider.requested(Endpoint::Discovery, 1).await;
    // A second demand joins the first.
    assert_eq!(operations.refresh("github").await.status, 202);
    service.provider.answer(Endpoint::Discovery, Reply::Honest);
    service.upload_token().await;
    assert_eq!(operations.issuers().await.body[0]["age"], "fresh");
    assert_eq!(service.provider.requests(Endpoint::Discovery), 1);
}

#[actix_web::test]
async fn what_cannot_be_refreshed_is_told_apart() {
    let service = service_with_three_issuers().await;
    let operations = Operations::of(Arc::clone(&service.app));
    for (id, status, code) in [
        ("kept", 409, "static-keys"),
        ("none", 404, "no-such-issuer"),
        ("GITHUB", 404, "no-such-issuer"),
        ("github%00", 404, "no-such-issuer"),
    ] {
        let answer = operations.refresh(id).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{id}: {}", answer.text);
    }
    let url = format!("{}/issuers/github/refresh", operations.base);
    let got = operations.client.get(url).bearer_auth(KEY).send().await.unwrap();
    assert_eq!(got.status(), 405, "a refresh is no matter of looking");
    assert_eq!(service.provider.requests(Endpoint::Discovery), 0);
}
