//! The command with its store in Redis: what it does when that is down, wrong, or back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::telemetry::Stopwatch;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;
use trustmint::time::Timestamp;

use crate::serve::Home;
use crate::serve::Served;
use crate::support::redis::PATIENCE;
use crate::support::redis::Server;
use crate::support::redis::free_port;
use crate::support::service::AUDIENCE;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::example;
use crate::support::service::policy_text;

const ISSUER: &str = "https://ci.acme.example";

/// A home whose store is in Redis at that port, with these further settings of it.
pub fn home(port: u16, more: &str) -> Home {
    let home = Home::with_key();
    settings(&home, port, more);
    home
}

fn settings(home: &Home, port: u16, more: &str) {
    home.write(
        "trustmint.yaml",
        &format!(
            "listen: {{address: \"127.0.0.1:0\"}}\noperations: {{address: \"127.0.0.1:0\"}}\nstate:\n  store: redis\n  \
             redis:\n    url: redis://127.0.0.1:{port}\n    timeout: 200ms\n{more}"
        ),
    );
}

fn password(home: &Home, text: &str) {
    home.write("redis.password", text);
    fs::set_permissions(home.path().join("redis.password"), fs::Permissions::from_mode(0o600)).unwrap();
}

/// A provider whose keys are a file of the home's policy.
pub fn provider(home: &Home) -> LoopbackProvider {
    let provider = LoopbackProvider::start(Arc::new(SystemClock)).unwrap();
    home.write("policy/jwks.json", &provider.jwks().to_string());
    let policy = policy_text("https://pypi.acme.example", ISSUER, WIDGETS);
    home.write("policy/acme.yaml", &policy.replace(ISSUER, &format!("{ISSUER}\", jwks_file: \"jwks.json")));
    provider
}

fn id_token(provider: &LoopbackProvider) -> String {
    // A server that has just started refuses what was issued before it; times in tokens are whole seconds.
    id_token_at(provider, SystemClock.now().plus(Duration::from_secs(1)))
}

/// A token of a job that may publish, issued at that time.
pub fn id_token_at(provider: &LoopbackProvider, issued: Timestamp) -> String {
    let job = json!({"repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "release"});
    let mut claims = provider.claims(&example("github", "tag-push", &job), AUDIENCE, issued);
    claims["iss"] = json!(ISSUER);
    provider.mint(&claims)
}

async fn mint(served: &Served, token: &str) -> Answer {
    mint_at(&client(), &served.public, token).await.unwrap()
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Presents a token to a service that may be gone.
pub async fn mint_at(client: &reqwest::Client, address: &str, token: &str) -> Option<Answer> {
    let request = client.post(format!("{address}/_/oidc/mint-token")).header("host", "pypi.acme.example");
    Some(Answer::of(request.body(json!({"token": token}).to_string()).send().await.ok()?).await)
}

async fn operations(served: &Served, path: &str) -> Answer {
    Answer::of(client().get(format!("{}{path}", served.operations)).send().await.unwrap()).await
}

#[actix_web::test]
async fn it_starts_without_redis_says_503_and_needs_no_restart_when_redis_is_there() {
    let port = free_port();
    let home = home(port, "");
    let provider = provider(&home);
    let served = home.serve();
    let token = id_token(&provider);
    let asked = Stopwatch::start();
    let refused = mint(&served, &token).await;
    assert_eq!((refused.status, refused.code()), (503, "store-unavailable"), "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));
    // Clients give up after 5 s.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    let ready = operations(&served, "/readyz").await;
    assert_eq!((ready.status, ready.text.as_str()), (200, "ready\n"), "every replica would be out of service at once");
    let metrics = operations(&served, "/metrics").await.text;
    assert!(metrics.contains("trustmint_store_errors_total{operation=\"epoch\",reason=\"unreachable\"}"), "{metrics}");

    let mut server = Server::start_at(port, &[]);
    served_within(&served, &provider).await;
    let metrics = operations(&served, "/metrics").await.text;
    assert!(metrics.contains("trustmint_store_duration_seconds_count{operation=\"set-once\"}"), "{metrics}");

    // The same after an outage, and after one that lost everything.
    server.stop();
    let refused = mint(&served, &id_token(&provider)).await;
    assert_eq!((refused.status, refused.code()), (503, "store-unavailable"), "{}", refused.text);
    server.start_again();
    served_within(&served, &provider).await;
}

/// Redis is there: fresh tokens are served soon.
async fn served_within(served: &Served, provider: &LoopbackProvider) {
    let started = Stopwatch::start();
    loop {
        let answer = mint(served, &id_token(provider)).await;
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(started.elapsed() < PATIENCE, "{}", answer.text);
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `serve` and `check` say, which must be the same, and keep no service running.
fn refused(home: &Home, words: &[&str]) {
    let output = home.run(&["check", "--config", "trustmint.yaml"], "");
    let checked = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{checked}");
    // After the question that ends by itself, the one that would not if the service started.
    let output = home.run(&["serve", "--config", "trustmint.yaml"], "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for word in words {
        assert!(error.contains(word), "{word}: {error}");
        assert!(checked.contains(word), "{word}: {checked}");
    }
    assert!(!error.contains("hunter2") && !checked.contains("hunter2"));
}

#[test]
fn a_redis_that_evicts_is_a_start_error_with_its_remedy() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    refused(
        &home(server.port, ""),
        &["state.redis: ", "maxmemory-policy is not noeviction", "set `maxmemory-policy noeviction`"],
    );
}

#[test]
fn a_wrong_password_is_a_start_error_that_does_not_show_it() {
    let server = Server::start(&["--requirepass", "swordfish"]);
    let home = home(server.port, "    password_file: redis.password\n");
    password(&home, "hunter2\n");
    refused(&home, &["state.redis: Redis refused the user or password", "`state.redis.password_file`"]);
    settings(&home, server.port, "");
    refused(&home, &["state.redis: Redis refused the user or password"]);
}

#[test]
fn an_audit_log_that_most_likely_cannot_be_made_is_told_with_the_stores_fault_and_not_made() {
    let server = Server::start(&["--requirepass", "swordfish"]);
    let home = home(server.port, "audit: {sink: file, file: audit.jsonl}\n");
    let output = home.run_confined("nameless-files", "serve");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    for word in
        ["state.redis: Redis refused the user or password", "audit.file: cannot be opened: a file cannot be made"]
    {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert!(!home.path().join("audit.jsonl").exists());
}

#[test]
fn a_password_file_that_others_can_read_is_a_start_error() {
    let server = Server::start(&["--requirepass", "hunter2"]);
    let home = home(server.port, "    password_file: redis.password\n");
    password(&home, "hunter2\n");
    fs::set_permissions(home.path().join("redis.password"), fs::Permissions::from_mode(0o644)).unwrap();
    refused(&home, &["redis.password: state.redis.password_file: others can read or change it: its mode is 644"]);
}

#[test]
fn a_user_that_lacks_a_permission_is_a_start_error() {
    let server = Server::start(&[]);
    let home = home(server.port, "    username: trustmint\n    password_file: redis.password\n");
    password(&home, "hunter2\n");
    let user = ["ACL", "SETUSER", "trustmint", "on", ">hunter2", "~trustmint:*", "+@all"];
    assert_eq!(server.cli(&user), "OK\n");
    assert_eq!(home.run(&["check", "--config", "trustmint.yaml"], "").status.code(), Some(0));
    for lacking in ["-xadd", "-hset", "-pexpireat", "-time", "-set", "-info", "-eval", "resetkeys"] {
        assert_eq!(server.cli(&[&user[..], &[lacking]].concat()), "OK\n");
        refused(&home, &["state.redis: the Redis user lacks a permission", "docs/redis.md"]);
    }
}

#[test]
fn check_says_how_the_store_is() {
    let server = Server::start(&[]);
    let home = home(server.port, "");
    let check = |arguments: &[&str]| {
        let output = home.run(&[&["check", "--config", "trustmint.yaml"], arguments].concat(), "");
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = check(&[]);
    assert!(code == Some(0) && said.ends_with("store: Redis answers\n"), "{said}");
    let facts: Value = serde_json::from_str(&check(&["--json"]).1).unwrap();
    assert_eq!(facts["store"], json!({"kind": "redis", "error": null}));
    drop(server);
    let (code, said) = check(&[]);
    assert!(code == Some(1) && said.contains("store: state.redis: Redis cannot be reached — check"), "{said}");
    let facts: Value = serde_json::from_str(&check(&["--json"]).1).unwrap();
    assert!(facts["store"]["error"].as_str().unwrap().contains("cannot be reached"), "{facts}");
}
