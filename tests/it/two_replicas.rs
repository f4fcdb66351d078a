//! Two replicas and one Redis, at the front door: what one has done the other knows.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::policy::Policy;
use trustmint::state::Store;
use trustmint::telemetry::Stopwatch;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::support::Service;
use crate::support::redis;
use crate::support::redis::PATIENCE;
use crate::support::redis::Server;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::narrowed;
use crate::support::tenants::tenants_with;
use crate::verify::presented_at_once;

const PREFIX: &str = "trustmint:";
/// Replicas look twice a second, and know all of each other within one; the rest is for a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

struct Fleet {
    server: Server,
    one: Service,
    two: Service,
}

impl Fleet {
    async fn start() -> Self {
        Self::with(|base, issuer| policy(&policy_text(base, issuer, WIDGETS))).await
    }

    /// Beside `acme-pypi` there are registries whose jobs have one token for many packages.
    async fn with_workspaces() -> Self {
        Self::with(|base, issuer| tenants_with(base, issuer, ", replay: once-per-package")).await
    }

    async fn with(rules: impl Fn(&str, &str) -> Policy + Copy) -> Self {
        let server = Server::start(&[]);
        server.age(PREFIX);
        let store = || -> Arc<dyn Store> { Arc::new(redis::store(&server.url(), PREFIX)) };
        let one = Service::with_store(rules, |_| store()).await;
        let two = one.replica(rules, store(), Arc::new(HttpsFetch::new())).await;
        Self { server, one, two }
    }

    /// Both replicas do what they do beside requests, as `serve` has them do.
    fn attended(self) -> Self {
        for service in [&self.one, &self.two] {
            let app = Arc::clone(&service.app);
            actix_web::rt::spawn(async move { app.attend().await });
        }
        self
    }
}

async fn verdict(service: &Service, token: &str) -> String {
    let answer = service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await;
    if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
}

/// Waits for a verdict, for as long as replicas may take to learn of each other.
async fn soon(service: &Service, token: &str, expected: &str) {
    let started = Stopwatch::start();
    loop {
        let found = verdict(service, token).await;
        if found == expected {
            return;
        }
        assert!(started.elapsed() < SOON, "{expected} was expected, and it is still {found}");
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_web::test]
async fn an_id_token_used_at_one_is_refused_at_the_other() {
    let fleet = Fleet::start().await;
    for (first, second) in [(&fleet.one, &fleet.two), (&fleet.two, &fleet.one)] {
        let token = json!({"token": first.id_token(&json!({}))});
        assert_eq!(first.mint(&token).await.status, 200);
        for replica in [second, first] {
            let again = replica.mint(&token).await;
            assert_eq!((again.status, again.code()), (422, "token-replayed"), "{}", again.text);
        }
    }
}

#[actix_web::test]
async fn of_many_concurrent_exchanges_at_both_one_gets_an_upload_token() {
    let fleet = Fleet::start().await;
    for _ in 0..5 {
        let token = json!({"token": fleet.one.id_token(&json!({}))});
        let mut posts = JoinSet::new();
        for service in [&fleet.one, &fleet.two].into_iter().cycle().take(20) {
            let request = service.client.post(format!("{}/_/oidc/mint-token", service.base)).body(token.to_string());
            posts.spawn(async move { request.send().await.unwrap().status().as_u16() });
        }
        let mut statuses = posts.join_all().await;
        statuses.sort_unstable();
        assert_eq!((statuses[0], &statuses[1..]), (200, &[422; 19][..]));
    }
}

#[actix_web::test]
async fn an_upload_token_of_one_is_good_at_the_other_until_it_is_revoked_at_either() {
    let fleet = Fleet::start().await.attended();
    for (first, second) in [(&fleet.one, &fleet.two), (&fleet.two, &fleet.one)] {
        let (token, bystander) = (first.upload_token().await, first.upload_token().await);
        assert_eq!(verdict(second, &token).await, "allowed");
        let form = "application/x-www-form-urlencoded";
        assert_eq!(first.post("/v1/revoke", form, format!("token={token}")).await.status, 200);
        assert_eq!(verdict(first, &token).await, "upload-token-revoked", "at once where it was revoked");
        soon(second, &token, "upload-token-revoked").await;
        assert_eq!(verdict(second, &narrowed(&token, "version 1.0")).await, "upload-token-revoked");
        assert_eq!(verdict(second, &bystander).await, "allowed");
    }
}

#[actix_web::test]
async fn what_a_registry_revokes_at_one_is_refused_at_the_other() {
    let fleet = Fleet::start().await.attended();
    let token = fleet.two.upload_token().await;
    fleet.one.clock.pass(Duration::from_secs(1));
    let body = json!({"rule": "widgets-release", "issued_before": fleet.one.app.now().to_string()});
    let request = fleet.one.client.post(format!("{}/v1/revocations", fleet.one.base)).bearer_auth(API_KEY);
    let revoked = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
    assert!(revoked.status < 300, "{}", revoked.text);
    soon(&fleet.two, &token, "upload-token-revoked").await;
}

#[actix_web::test]
async fn a_stop_at_one_stops_at_the_other_and_so_does_lifting_it() {
    let fleet = Fleet::start().await.attended();
    let (here, there) = (Operations::of(Arc::clone(&fleet.one.app)), Operations::of(Arc::clone(&fleet.two.app)));
    let token = fleet.two.upload_token().await;
    let until = fleet.one.app.now().plus(Duration::from_secs(3600)).to_string();
    let body = json!({"rule": "widgets-release", "reason": "stolen", "until": until});
    let request = here.client.post(format!("{}/stops", here.base)).bearer_auth(KEY);
    let stopped = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
    assert_eq!(stopped.status, 201, "{}", stopped.text);
    soon(&fleet.two, &token, "stopped").await;
    let id_token = json!({"token": fleet.two.id_token(&json!({}))});
    assert_eq!(fleet.two.mint(&id_token).await.code(), "stopped");
    let id = stopped.body["id"].as_str().unwrap();
    let lift = there.client.delete(format!("{}/stops/{id}", there.base)).bearer_auth(KEY);
    assert_eq!(lift.send().await.unwrap().status(), 200, "at the other replica");
    soon(&fleet.one, &token, "allowed").await;
    assert_eq!(fleet.two.mint(&id_token).await.status, 200, "the job's token was not used up");
}

#[actix_web::test]
async fn a_single_use_spent_at_one_is_spent_at_the_other() {
    let fleet = Fleet::start().await;
    let body = json!({"token": fleet.one.id_token(&json!({})), "features": ["single-use-token"]});
    let token = fleet.one.mint(&body).await.body["token"].as_str().unwrap().to_owned();
    let ask = async |service: &Service, upload: &str, version: &str| {
        let question =
            json!({"token": token, "package": "widgets", "exists": true, "version": version, "consume": upload});
        service.verify(&question).await
    };
    let allowed = |answer: &Answer| assert_eq!(answer.body["allowed"], true, "{}", answer.text);
    allowed(&ask(&fleet.one, "upload-1", "1.0").await);
    allowed(&ask(&fleet.two, "upload-1", "1.0").await);
    assert_eq!(ask(&fleet.two, "upload-1", "2.0").await.code(), "consume-conflict");
    assert_eq!(ask(&fleet.two, "upload-2", "1.0").await.code(), "uses-spent");
}

#[actix_web::test]
async fn of_a_thousand_presentations_at_both_at_one_moment_one_gets_the_use() {
    let fleet = Fleet::start().await;
    let body = json!({"token": fleet.one.id_token(&json!({})), "features": ["single-use-token"]});
    let token = fleet.one.mint(&body).await.body["token"].as_str().unwrap().to_owned();
    assert_eq!(presented_at_once(&[&fleet.one, &fleet.two], &token, 1000).await, 1);
}

/// How often each command ran since the statistics were reset, those inside of scripts included.
fn commands(server: &Server) -> Vec<(String, u64)> {
    let statistics = server.cli(&["INFO", "commandstats"]);
    let mut commands: Vec<(String, u64)> = statistics
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        })
        .filter(|(name, _)| name != "config|resetstat")
        .collect();
    commands.sort();
    commands
}

#[actix_web::test]
async fn an_exchange_is_one_round_trip_to_redis() {
    let fleet = Fleet::start().await;
    // The first connects, and teaches the server the script.
    fleet.one.upload_token().await;
    fleet.server.cli(&["CONFIG", "RESETSTAT"]);
    fleet.one.upload_token().await;
    // One command from outside. The others ran inside of it: both looks at the mark, the claim, and what names the server.
    let inside = [("get", 2), ("info", 2), ("set", 1), ("time", 1)];
    let expected = [("evalsha", 1)].into_iter().chain(inside).map(|(name, calls)| (name.to_owned(), calls));
    assert_eq!(commands(&fleet.server), expected.collect::<Vec<_>>());
}

#[actix_web::test]
async fn an_exchange_for_one_package_of_many_is_one_round_trip_too() {
    let fleet = Fleet::with_workspaces().await;
    let token = fleet.one.id_token(&json!({"aud": "tools-aud"}));
    let publish = async |package: &str| {
        let ask = json!({"audience": "tools-aud", "scope": format!("upload:{package}")});
        let answer = fleet.one.exchange(&token, &ask).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    publish("widgets/core").await;
    fleet.server.cli(&["CONFIG", "RESETSTAT"]);
    publish("widgets/cli").await;
    let asked: Vec<(String, u64)> =
        commands(&fleet.server).into_iter().filter(|(name, _)| name.starts_with("eval")).collect();
    assert_eq!(asked, [("evalsha".to_owned(), 1)]);
}

#[actix_web::test]
async fn a_refusal_at_one_is_listed_at_the_other() {
    let fleet = Fleet::start().await;
    let listed = async |service: &Service| {
        let request = service.client.get(format!("{}/v1/refusals", service.base)).bearer_auth(API_KEY);
        Answer::of(request.send().await.unwrap()).await.body["refusals"].as_array().unwrap().clone()
    };
    assert_eq!(listed(&fleet.two).await, Vec::<Value>::new());
    let refused = fleet.one.mint(&json!({"token": fleet.one.id_token(&json!({"environment": "staging"}))})).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    is_kept(&fleet, "l:refusals:").await;
    let there = listed(&fleet.two).await;
    assert_eq!(there.len(), 1, "{there:?}");
    assert_eq!(there[0]["code"], "environment-mismatch");
    assert_eq!(listed(&fleet.one).await, there);
}

/// Waits for a key that is written beside an answer, by the thread of this test.
async fn is_kept(fleet: &Fleet, part: &str) {
    let started = Stopwatch::start();
    while fleet.server.keys(part).is_empty() {
        assert!(started.elapsed() < PATIENCE, "in vain: {part}");
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The keys that the page lists, and when each ends.
fn documented() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/redis.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| `trustmint:"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0].trim_matches('`').to_owned(), cells[3].to_owned())
    })
    .collect()
}

#[actix_web::test]
async fn what_redis_holds_is_documented_ends_and_names_no_token() {
    let fleet = Fleet::with_workspaces().await;
    let id_token = fleet.one.id_token(&json!({}));
    let answer = fleet.one.mint(&json!({"token": id_token, "features": ["single-use-token"]})).await;
    let token = answer.body["token"].as_str().unwrap().to_owned();
    let question = json!({"token": token, "package": "widgets", "exists": true, "consume": "upload-1"});
    assert_eq!(fleet.two.verify(&question).await.body["allowed"], Value::Bool(true));
    let form = "application/x-www-form-urlencoded";
    assert_eq!(fleet.two.post("/v1/revoke", form, format!("token={token}")).await.status, 200);
    let workspace = fleet.two.id_token(&json!({"aud": "tools-aud"}));
    let one_of_many =
        fleet.two.exchange(&workspace, &json!({"audience": "tools-aud", "scope": "upload:widgets"})).await;
    assert_eq!(one_of_many.status, 200, "{}", one_of_many.text);
    let operations = Operations::of(Arc::clone(&fleet.one.app));
    let until = fleet.one.app.now().plus(Duration::from_secs(3600)).to_string();
    let stop = json!({"rule": "another", "reason": "stolen", "until": until}).to_string();
    let stopped = operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY).body(stop).send().await;
    assert_eq!(stopped.unwrap().status(), 201);
    for job in [json!({"environment": "staging"}), json!({"repository_owner_id": "1"})] {
        assert_eq!(fleet.one.mint(&json!({"token": fleet.one.id_token(&job)})).await.status, 422);
    }
    for kept in ["l:refusals:", "k:refusals-of-strangers:", "k:copy:"] {
        is_kept(&fleet, kept).await;
    }
    let mut held = String::new();
    let keys = fleet.server.cli(&["KEYS", "*"]);
    let documented = documented();
    let mut met = BTreeSet::new();
    for key in keys.lines() {
        let (pattern, ends) = documented
            .iter()
            .find(|(pattern, _)| pattern.strip_suffix('…').map_or(key == *pattern, |start| key.starts_with(start)))
            .unwrap_or_else(|| panic!("{key} is not in docs/redis.md"));
        let left: i64 = fleet.server.cli(&["PTTL", key]).trim_end().parse().unwrap();
        assert_eq!(left > 0, ends != "never", "{key}: {left} ms left");
        met.insert(pattern.clone());
        for command in [&["GET", key][..], &["HGETALL", key], &["XRANGE", key, "-", "+"]] {
            held.push_str(&fleet.server.cli(command));
        }
    }
    // Whose turn it is to write back needs a loss.
    let other = "trustmint:{0}:k:turn:…".to_owned();
    assert_eq!(met.into_iter().chain([other]).collect::<BTreeSet<_>>(), documented.into_keys().collect());
    assert!(held.len() > 200, "{held}");
    let secrets = [id_token.rsplit('.').next().unwrap(), &token[token.len() - 40..], &token[..60]];
    for secret in secrets {
        assert!(!held.contains(secret) && !keys.contains(secret));
    }
}
