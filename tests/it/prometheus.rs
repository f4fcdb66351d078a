//! A real Prometheus reads `/metrics`, evaluates the alerts, and answers every panel of the dashboard.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web;
use serde_json::Value;
use tempfile::TempDir;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::telemetry::Metrics;
use trustmint::telemetry::metrics::BundleReading;
use trustmint::telemetry::metrics::CONTENT_TYPE;
use trustmint::telemetry::metrics::IssuerReading;
use trustmint::telemetry::metrics::KeyReading;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;
use url::form_urlencoded;

/// How long Prometheus may take to start, to read twice and to evaluate.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);

/// A replica to which everything happens between any two readings.
fn eventful() -> Metrics {
    let metrics = Metrics::new().unwrap();
    let now = SystemClock.now().unix_seconds();
    metrics.observe_issuers(move || vec![IssuerReading { issuer: "github".into(), keys_at: Some(now), stale: false }]);
    metrics.keys_in_force(vec![KeyReading { kid: "k1".into(), activate_at: now }]);
    metrics.certificate_in_force(now - 1);
    metrics.bundles_in_force(vec![BundleReading { registry: "acme".into(), serial: 1, not_after: now + 86_400 }]);
    metrics.rules_in_force(["used", "dead"].into_iter().map(|rule| ("acme".to_owned(), rule.to_owned())));
    metrics.policy_activated("9f86d081");
    metrics.policy_warned([("L015", 3)].into_iter());
    metrics.observe_store_epoch(move || Some(now));
    let lost = AtomicU64::new(0);
    metrics.observe_audit_dropped(move || {
        let lost = lost.fetch_add(1, Ordering::Relaxed);
        ["allow", "deny", "fault"].map(|decision| (decision, lost))
    });
    metrics.observe_audit_suppressed(|| 5);
    metrics.observe_audit_queue(|| (3, 4096));
    metrics.observe_audit_astray(|| 1);
    metrics.observe_exports(Arc::default());
    metrics
}

fn happens(metrics: &Metrics) {
    let took = Duration::from_millis(3);
    for code in ["ok", "no-matching-rule"] {
        metrics.exchange(code, "acme", "github", took);
        metrics.verification(code, "acme", took);
        metrics.revocation(code);
    }
    metrics.verification_by_old_lists("acme");
    metrics.response("/v1/token", 200);
    metrics.rate_limited("calls", "acme");
    metrics.client_limited();
    metrics.overloaded("exchanges");
    metrics.rule_matched("acme", "used");
    metrics.shadow_disagreement("next");
    for result in ["ok", "keys-not-fetched"] {
        metrics.jwks_refresh("github", result);
    }
    metrics.issuer_clock_ahead("github", Duration::ZERO);
    metrics.store_call("set-once", None, took);
    metrics.store_call("set-once", Some("timeout"), took);
    metrics.policy_reload("activated");
    metrics.keyring_reload(false);
    metrics.settings_reload(false);
    for result in ["new", "not-fetched"] {
        metrics.bundle_refresh("acme", result);
    }
}

/// A Prometheus that reads one replica every second, and another service: itself.
struct Prometheus {
    process: Child,
    client: reqwest::Client,
    base: String,
    _data: TempDir,
    _replica: Serving,
}

impl Prometheus {
    #[expect(clippy::disallowed_methods, reason = "the test command names the tools that it has installed")]
    fn start() -> Self {
        let prometheus = std::env::var_os("TRUSTMINT_TEST_PROMETHEUS")
            .expect("TRUSTMINT_TEST_PROMETHEUS is not set: run the tests with `tests/run`, which installs the tools");
        let metrics = Arc::new(eventful());
        let listener = bind().unwrap();
        let replica = listener.local_addr().unwrap();
        let routes = move |config: &mut web::ServiceConfig| {
            let metrics = Arc::clone(&metrics);
            let read = move || {
                happens(&metrics);
                let text = metrics.render().unwrap();
                async { HttpResponse::Ok().content_type(CONTENT_TYPE).body(text) }
            };
            config.route("/metrics", web::get().to(read));
        };
        let serving = Serving::start(listener, None, routes).unwrap();
        let data = TempDir::new().unwrap();
        let alerts = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/trustmint/files/alerts.yaml");
        let config = data.path().join("prometheus.yml");
        let address = bind().unwrap().local_addr().unwrap();
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n  \
             - {{job_name: trustmint, static_configs: [{{targets: ['{replica}']}}]}}\n  \
             - {{job_name: prometheus, static_configs: [{{targets: ['{address}']}}]}}\n",
            alerts.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(prometheus);
        command.arg(format!("--config.file={}", config.display())).arg(format!("--web.listen-address={address}"));
        command.arg(format!("--storage.tsdb.path={}", data.path().join("data").display()));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, client, base: format!("http://{address}"), _data: data, _replica: serving }
    }

    /// What an endpoint answers, if it does.
    async fn data(&self, path: &str, query: &str) -> Option<Value> {
        let body: String = form_urlencoded::Serializer::new(String::new()).append_pair("query", query).finish();
        let address = format!("{}/api/v1/{path}?{body}", self.base);
        let text = self.client.get(address).send().await.ok()?.text().await.ok()?;
        let answer: Value = serde_json::from_str(&text).ok()?;
        assert_ne!(answer["errorType"], "bad_data", "{query}: {text}");
        answer.get("data").cloned()
    }

    async fn has(&self, query: &str) -> bool {
        self.data("query", query).await.is_some_and(|data| !data["result"].as_array().unwrap().is_empty())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Every question of the dashboard, with its panel, as Grafana asks it where nobody has chosen a job: of all.
fn questions() -> Vec<(String, String)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/trustmint/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let mut questions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "10s").replace("$__range", "10s");
            let query = query.replace("$job", ".*").replace("$namespace", ".*");
            questions.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    questions
}

#[actix_web::test]
async fn every_panel_shows_something_and_every_alert_is_evaluated() {
    let prometheus = Prometheus::start();
    let mut open = questions();
    assert!(open.len() > 40, "{}", open.len());
    let shown = tokio::time::timeout(PATIENCE, async {
        while let Some((_, query)) = open.last() {
            if prometheus.has(query).await {
                open.pop();
            } else {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    assert!(shown.await.is_ok(), "no data: {:?}", open.last());
    let read = "count(up == 1) == 2";
    let both = tokio::time::timeout(PATIENCE, async {
        while !prometheus.has(read).await {
            tokio::time::sleep(PAUSE).await;
        }
    });
    assert!(both.await.is_ok(), "the other service is not read");
    let (_, replicas) = questions().into_iter().find(|(panel, _)| panel == "Replicas").unwrap();
    let counted = prometheus.data("query", &replicas).await.unwrap();
    assert_eq!(counted["result"][0]["value"][1], "1", "{replicas}: {counted}");
    let firing = |alert: &str| format!("ALERTS{{alertstate=\"firing\",alertname=\"{alert}\"}}");
    let fired = tokio::time::timeout(PATIENCE, async {
        for alert in ["TrustmintCertificateExpired", "TrustmintAuditDropped"] {
            while !prometheus.has(&firing(alert)).await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    });
    assert!(fired.await.is_ok(), "an alert does not fire");
    let rules = prometheus.data("rules", "").await.unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules: Vec<Value> = groups.flat_map(|group| group["rules"].as_array().unwrap().clone()).collect();
    assert!(rules.len() >= 30, "{}", rules.len());
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    assert!(!prometheus.has(&firing("TrustmintDown")).await);
}
