//! The operations listener: health and metrics.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use serde_json::json;
use tokio::runtime::Handle;
use trustmint::app::App;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::http;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::secret::random_bytes;
use trustmint::state::MemoryStore;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock as _;
use trustmint::time::Timestamp;

use crate::support::Service;
use crate::support::SetClock;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

struct Operations {
    base: String,
    client: reqwest::Client,
    _serving: Serving,
}

impl Operations {
    fn of(app: Arc<App>) -> Self {
        let listener = bind().unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let app = web::Data::from(app);
        let routes = move |config: &mut web::ServiceConfig| {
            config.app_data(app.clone()).configure(http::operations_routes);
        };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { base, client, _serving: Serving::start(listener, None, routes).unwrap() }
    }

    async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.base)).send().await.unwrap()).await
    }
}

#[actix_web::test]
async fn it_is_ready_once_a_key_may_mint_whatever_the_providers_do() {
    let now = Timestamp::from_unix_seconds(1_795_392_000);
    let clock = Arc::new(SetClock::starting_at(now));
    let key = MasterKey::generate("k1", random_bytes().unwrap(), now.plus(Duration::from_secs(60))).unwrap();
    let app = App::build(Parts {
        policy: policy(&policy_text("https://pypi.acme.example", "http://127.0.0.1:1", WIDGETS)),
        keyring: Keyring::new(vec![key]).unwrap(),
        fetch: Arc::new(HttpsFetch::new()),
        store: Arc::new(MemoryStore::new(clock.clone(), 1 << 20)),
        audit: AuditLog::start(AuditSink::Writer(Box::new(std::io::sink())), 16).unwrap(),
        metrics: Arc::new(Metrics::new().unwrap()),
        clock: clock.clone(),
        runtime: Handle::current(),
    });
    let operations = Operations::of(Arc::new(app));
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
    for path in ["/", "/policy", "/v1/token", "/v1/verify", "/_/oidc/audience"] {
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
        "trustmint_exchanges_total{code=\"ok\",issuer=\"github\",registry=\"acme-pypi\"} 1",
        "trustmint_exchanges_total{code=\"unknown-issuer\",issuer=\"none\",registry=\"acme-pypi\"} 1",
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
