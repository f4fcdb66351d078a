//! Telemetry by OTLP, as a collector gets it from the real binary, and what the service does when there is none, or a bad one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::secret::hex;

mod audit;
mod collector;
mod faults;
mod receiver;
mod service;

use self::receiver::Mood;
use self::receiver::Receiver;
use self::service::Running;
use self::service::World;
use self::service::found;
use crate::support::said;
use crate::support::said::SecretKind;
use crate::support::service::API_KEY;

/// What may take no longer than a moment ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is waited before it is looked again.
const PAUSE: Duration = Duration::from_millis(20);

/// The value of the header that is sent along.
const CREDENTIAL: &str = "Bearer a-collectors-secret-7d1f";
/// What a caller says about its own trace.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const NOTHING: [&str; 0] = [];
/// What is asked for below, of which the last is no endpoint.
const ROUTES: [&str; 7] = [
    "POST /_/oidc/mint-token",
    "POST /v1/explain",
    "POST /v1/introspect",
    "POST /v1/revoke",
    "POST /v1/token",
    "POST /v1/verify",
    "GET",
];

/// Waits until it is so.
async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !so() {
            tokio::time::sleep(PAUSE).await;
        }
    });
    assert!(waited.await.is_ok(), "{what}: it never is");
}

fn headers_file(world: &World) {
    said::secret(SecretKind::ApiKey, &CREDENTIAL["Bearer ".len()..]);
    world.secret("headers", &format!("authorization: {CREDENTIAL}\nx-tenant: acme\n"));
}

const EVERYTHING: &str = "{endpoint: ENDPOINT, headers_file: headers, interval: 1s}";

#[actix_web::test]
async fn traces_metrics_logs_and_audit_events_arrive_and_no_secret_does() {
    let receiver = Receiver::start();
    let world = World::new();
    headers_file(&world);
    // Whatever any library says of its own accord is searched, too.
    let telemetry =
        format!("{{log: json, level: trace, otlp: {EVERYTHING}}}").replace("ENDPOINT", &receiver.endpoint());
    let service = Running::start(&world, &telemetry, "{sink: otlp}");
    let id_token = world.id_token(&json!({}));
    let minted = service.mint(&id_token, Some(PARENT)).await;
    assert_eq!(minted.0, 200, "{}", minted.1);
    let upload_token = minted.1["token"].as_str().unwrap().to_owned();
    let refused_token = world.id_token(&json!({"environment": "staging"}));
    let refused = service.mint(&refused_token, None).await;
    assert_eq!(refused.1["code"], "environment-mismatch", "{}", refused.1);
    let forged = format!("{}AAAA", &id_token[..id_token.len() - 4]);
    assert_eq!(service.mint(&forged, None).await.1["code"], "bad-signature");
    let question = json!({"token": upload_token, "package": "widgets", "exists": true});
    assert_eq!(service.post("/v1/verify", &question.to_string(), None).await.1["allowed"], true);
    for (path, body) in [
        ("/v1/explain", json!({"token": refused_token})),
        (
            "/v1/token",
            json!({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": id_token, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"}),
        ),
        // A token in the place of another parameter, and a body that is none.
        ("/v1/verify", json!({"token": "x", "package": upload_token, "exists": true})),
        ("/_/oidc/mint-token", json!([id_token])),
    ] {
        service.post(path, &body.to_string(), None).await;
    }
    assert_eq!(service.form("/v1/introspect", &format!("token={upload_token}")).await, 200);
    let revoked = service.form("/v1/revoke", &format!("token={upload_token}")).await;
    assert_eq!(revoked, 200);
    // Tokens where they do not belong.
    assert_eq!(service.get(&format!("/legacy/{upload_token}/private-path?token={id_token}")).await, 404);
    assert_eq!(service.metric("trustmint_otlp_dropped_total", &[]).await, 0);
    let (log, out) = service.stop().await;
    assert_eq!(out, "", "the audit log went elsewhere");

    // Traces: one for each request, with the request's id.
    let spans = receiver.spans();
    let roots: Vec<_> = spans.iter().filter(|span| span.kind == 2).collect();
    assert_eq!(roots.len(), 11);
    let id = |answer: &(u16, Value, String)| answer.2.replace('-', "");
    let root = |answer: &(u16, Value, String)| {
        *roots.iter().find(|span| hex(&span.trace_id) == id(answer)).expect("the request's id is the trace's")
    };
    assert_eq!(root(&minted).name, "POST /_/oidc/mint-token");
    let steps = |answer: &(u16, Value, String)| -> Vec<String> {
        let of = spans.iter().filter(|span| hex(&span.trace_id) == id(answer) && span.kind == 1);
        let of: Vec<_> = of.collect();
        assert!(of.iter().all(|span| span.parent_span_id == root(answer).span_id));
        let (start, end) = (root(answer).start_time_unix_nano, root(answer).end_time_unix_nano);
        assert!(of.iter().all(|span| start <= span.start_time_unix_nano && span.end_time_unix_nano <= end));
        of.iter().map(|span| span.name.clone()).collect()
    };
    assert_eq!(steps(&minted), ["parse", "key", "signature", "evaluate", "prepare", "claim", "mint"]);
    assert_eq!(steps(&refused), ["parse", "key", "signature", "evaluate"]);
    assert_eq!(receiver::attribute(&root(&refused).attributes, "trustmint.code").unwrap(), "environment-mismatch");
    assert_eq!(receiver::attribute(&root(&refused).attributes, "http.response.status_code").unwrap(), "422");
    // The caller's trace is linked, and not gone on with.
    let linked: Vec<_> = roots.iter().flat_map(|span| span.links.iter()).collect();
    assert_eq!(linked.len(), 1);
    assert_eq!(
        (hex(&linked[0].trace_id).as_str(), hex(&linked[0].span_id).as_str()),
        (&PARENT[3..35], &PARENT[36..52])
    );
    assert_eq!(root(&minted).links.len(), 1);
    assert!(roots.iter().all(|span| span.parent_span_id.is_empty() && hex(&span.trace_id) != PARENT[3..35]));
    // What no endpoint is has no route.
    let names: BTreeSet<&str> = roots.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(ROUTES));

    // Metrics, with the numbers and the labels of `/metrics`.
    let metrics = receiver.last_metrics();
    let exchanges = &metrics["trustmint_exchanges_total"];
    let counted = |code: &str| exchanges.iter().find(|(labels, _)| labels["code"] == code).map(|(_, value)| *value);
    assert_eq!(
        (counted("ok"), counted("environment-mismatch"), counted("bad-signature")),
        (Some(1.0), Some(1.0), Some(1.0))
    );
    let described = trustmint::telemetry::Metrics::new().unwrap();
    let described: BTreeSet<String> = described.described().iter().map(|metric| metric.name.clone()).collect();
    assert!(metrics.keys().all(|name| described.contains(name)), "{:?}", metrics.keys());

    // The service's log.
    let logged = receiver.records("");
    assert!(logged.iter().any(|record| receiver::body(record).contains("stopping")), "{}", logged.len());
    assert!(logged.iter().all(|record| record.event_name.is_empty()));

    // The audit log: each event whole, once.
    let events: Vec<Value> = receiver
        .records("trustmint.audit")
        .iter()
        .map(|record| serde_json::from_str(&receiver::body(record)).unwrap())
        .collect();
    let kinds: Vec<_> =
        events.iter().map(|event| (event["event"].as_str().unwrap(), event["code"].as_str().unwrap())).collect();
    let expected = [
        ("exchange", "ok"),
        ("exchange", "environment-mismatch"),
        ("verify", "ok"),
        ("exchange", "token-replayed"),
        ("introspect", "ok"),
        ("revoke", "ok"),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(events[0]["request_id"], minted.2);

    // Every request had the headers, and nothing else that is secret is anywhere.
    assert!(receiver.requests().iter().all(|request| request.authorization == CREDENTIAL && request.tenant == "acme"));
    let secrets =
        world.secrets([&id_token, &refused_token, &forged, &upload_token], [API_KEY, CREDENTIAL, &CREDENTIAL[7..]]);
    for (number, request) in receiver.requests().iter().enumerate() {
        assert_eq!(found(&secrets, &request.body), NOTHING, "request {number} to {}", request.path);
        assert_eq!(found(&[b"private-path".to_vec()], &request.body), NOTHING, "{}", request.path);
    }
    assert_eq!(found(&secrets, log.as_bytes()), NOTHING, "the log");
    let services: BTreeSet<String> = receiver.services();
    assert_eq!(services.into_iter().collect::<Vec<_>>(), ["trustmint"]);
}

#[actix_web::test]
async fn the_search_for_secrets_finds_them() {
    let world = World::new();
    let token = world.id_token(&json!({}));
    let secrets = world.secrets([&token], [API_KEY]);
    let payload = token.split('.').nth(2).unwrap().to_owned();
    for planted in [token.clone(), payload, API_KEY.to_owned(), world.master_key()] {
        let hay = format!("some words {planted} and more");
        assert_ne!(found(&secrets, hay.as_bytes()), NOTHING, "{planted}");
    }
}

#[actix_web::test]
async fn only_the_signals_that_are_named_are_sent() {
    for (signals, expected) in [("[traces]", "/v1/traces"), ("[metrics]", "/v1/metrics"), ("[logs]", "/v1/logs")] {
        let receiver = Receiver::start();
        let world = World::new();
        let telemetry = format!(
            "{{otlp: {{endpoint: \"{}\", signals: {signals}, interval: 1s, service_name: acme}}}}",
            receiver.endpoint()
        );
        let service = Running::start(&world, &telemetry, "{sink: stdout}");
        assert_eq!(service.mint(&world.id_token(&json!({})), None).await.0, 200);
        let (_, out) = service.stop().await;
        assert_eq!(out.lines().count(), 1, "the audit log stays where it was");
        let paths: BTreeSet<String> = receiver.requests().into_iter().map(|request| request.path).collect();
        assert_eq!(paths.into_iter().collect::<Vec<_>>(), [expected]);
        assert_eq!(receiver.services().into_iter().collect::<Vec<_>>(), ["acme"]);
    }
}

#[actix_web::test]
async fn of_many_requests_a_part_is_traced() {
    let receiver = Receiver::start();
    let world = World::new();
    let telemetry = format!("{{otlp: {{endpoint: \"{}\", signals: [traces], sample_one_in: 4}}}}", receiver.endpoint());
    let service = Running::start(&world, &telemetry, "{sink: stdout}");
    for _ in 0..400 {
        assert_eq!(service.get("/nothing-here").await, 404);
    }
    service.stop().await;
    // 100 are to be expected: six standard deviations to either side are one case in a billion.
    let traced = receiver.spans().len();
    assert!((48..=152).contains(&traced), "{traced}");
}

#[actix_web::test]
async fn a_changed_file_of_headers_is_used_at_once_and_a_bad_one_is_not() {
    let receiver = Receiver::start();
    let world = World::new();
    headers_file(&world);
    let telemetry = format!("{{otlp: {EVERYTHING}}}").replace("ENDPOINT", &receiver.endpoint());
    let service = Running::start(&world, &telemetry, "{sink: stdout}");
    until("the first", || receiver.sent_with(CREDENTIAL)).await;
    world.secret("headers", "no header at all\n");
    let before = receiver.requests().len();
    until("the last good one goes on", || receiver.requests().len() > before + 1).await;
    assert!(receiver.requests().iter().all(|request| request.authorization == CREDENTIAL));
    world.secret("headers", "authorization: Bearer renewed\n");
    until("the new one", || receiver.sent_with("Bearer renewed")).await;
    service.stop().await;
}

#[actix_web::test]
async fn a_collector_over_tls_is_trusted_by_the_file_of_authorities_which_is_read_again() {
    let world = World::new();
    let (receiver, authority) = Receiver::over_tls();
    let (_, another) = Receiver::over_tls();
    world.write("ca.pem", &another);
    let telemetry = format!("{{otlp: {{endpoint: \"{}\", ca_file: ca.pem, interval: 1s}}}}", receiver.endpoint());
    let service = Running::start(&world, &telemetry, "{sink: stdout}");
    service.counts("trustmint_otlp_exports_total", &["outcome=\"unavailable\""], 1).await;
    assert!(receiver.requests().is_empty());
    world.write("ca.pem", &authority);
    until("it is trusted", || !receiver.requests().is_empty()).await;
    service.stop().await;
}

#[test]
fn check_names_the_files_and_shows_nothing_of_them() {
    let world = World::new();
    headers_file(&world);
    let telemetry = format!("{{otlp: {EVERYTHING}}}").replace("ENDPOINT", "https://otel.acme.example:4318");
    world.settings(&telemetry, "{sink: otlp}");
    for arguments in [&["check", "--config", "trustmint.yaml"][..], &["check", "--json", "--config", "trustmint.yaml"]]
    {
        let output = world.home.run(arguments, "");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("otel.acme.example") && text.contains("headers"), "{text}");
        assert!(!text.contains(&CREDENTIAL[7..]), "{text}");
    }
    fs::set_permissions(world.home.path().join("headers"), fs::Permissions::from_mode(0o644)).unwrap();
    let output = world.home.run(&["check", "--config", "trustmint.yaml"], "");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("telemetry.otlp.headers_file: others can read or change it"), "{told}");
    fs::remove_file(world.home.path().join("headers")).unwrap();
    let output = world.home.run(&["serve", "--config", "trustmint.yaml"], "");
    assert!(String::from_utf8(output.stderr).unwrap().contains("telemetry.otlp.headers_file: cannot be read"));
}

type Labels = BTreeMap<String, String>;
