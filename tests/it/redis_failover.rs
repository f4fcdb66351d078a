//! Redis fails over, hangs, or loses its replica, under a service that is asked all the while.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::json;
use trustmint::state::RedisOptions;
use trustmint::state::Store as _;
use trustmint::telemetry::Stopwatch;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::support::Service;
use crate::support::redis;
use crate::support::redis::PATIENCE;
use crate::support::redis::Server;
use crate::support::redis::Watched;
use crate::support::redis::eventually;
use crate::support::send;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

/// What an exchange takes at most, whatever the store does: clients give up after 5 s.
const LONGEST: Duration = Duration::from_secs(4);

async fn service(options: RedisOptions) -> Service {
    let rules = |base: &str, issuer: &str| policy(&policy_text(base, issuer, WIDGETS));
    Service::with_store(rules, |_| Arc::new(redis::with(options))).await
}

/// Sets the service's clock, which stands still, to the time that Redis has.
fn catch_up(service: &Service) {
    service.clock.pass(SystemClock.now().since(service.clock.now()));
}

async fn mint(service: &Service, token: &str) -> Answer {
    service.mint(&json!({"token": token})).await
}

/// What is said of a token once the store has answered, which on a machine that is busy it does not always in time.
async fn answered(service: &Service, token: &str) -> Answer {
    let started = Stopwatch::start();
    loop {
        let answer = mint(service, token).await;
        if answer.code() != "store-unavailable" {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{}", answer.text);
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fresh tokens are served again, soon. The token that was is the answer.
async fn serves_again(service: &Service) -> String {
    let started = Stopwatch::start();
    loop {
        catch_up(service);
        // A fresh one each time: one whose answer came too late is used up.
        let token = service.id_token(&json!({"iat": service.clock_seconds() + 1}));
        let answer = mint(service, &token).await;
        if answer.status == 200 {
            return token;
        }
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert!(started.elapsed() < PATIENCE, "{}", answer.text);
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_web::test]
async fn what_a_failover_lost_is_not_accepted_again() {
    let mut watched = Watched::patient(3000);
    watched.primary.age("t:");
    let service = service(RedisOptions { timeout: Duration::from_secs(1), ..watched.options("t:") }).await;
    let (kept, lost) = (service.id_token(&json!({})), service.id_token(&json!({})));
    assert_eq!(mint(&service, &kept).await.status, 200);
    eventually("the replica has the first", || watched.replica.cli(&["KEYS", "t:*first-use*"]).lines().count() == 1);
    // The replica is cut off, and may not come back: what is written from now on is lost with the primary.
    watched.primary.ok(&["ACL", "SETUSER", "default", "-psync", "-sync"]);
    watched.primary.cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    assert_eq!(mint(&service, &lost).await.status, 200);
    assert_eq!(watched.primary.cli(&["KEYS", "t:*first-use*"]).lines().count(), 2);
    assert_eq!(watched.replica.cli(&["KEYS", "t:*first-use*"]).lines().count(), 1);
    watched.primary.stop();
    eventually("the Sentinel fails over", || watched.master() == watched.replica.port);

    // Until the service has found the new primary the store is down; then it has lost its memory. Never is it a yes.
    for token in [&lost, &kept] {
        let answer = answered(&service, token).await;
        assert_eq!((answer.status, answer.code()), (503, "state-lost"), "{}", answer.text);
        assert!(answer.headers.contains_key("retry-after"));
    }
    serves_again(&service).await;
    assert_eq!(answered(&service, &lost).await.code(), "state-lost", "for as long as it is valid");
}

#[actix_web::test]
async fn with_replicas_awaited_a_primary_that_has_lost_its_replica_accepts_nothing() {
    let watched = Watched::patient(600_000);
    watched.primary.age("t:");
    let options = watched.options("t:");
    let service = service(RedisOptions { wait_for_replicas: 1, timeout: Duration::from_secs(1), ..options }).await;
    serves_again(&service).await;
    watched.primary.ok(&["ACL", "SETUSER", "default", "-psync", "-sync"]);
    watched.primary.cli(&["CLIENT", "KILL", "TYPE", "replica"]);
    let refused = mint(&service, &service.id_token(&json!({}))).await;
    assert_eq!((refused.status, refused.code()), (503, "store-unavailable"), "{}", refused.text);
    // Not SYNC too: a replica whose PSYNC was refused falls back on it, and one that came by it confirms nothing.
    watched.primary.ok(&["ACL", "SETUSER", "default", "+psync"]);
    eventually("the replica is back", || watched.primary.info("connected_slaves") == "1");
    serves_again(&service).await;
}

#[actix_web::test]
async fn a_redis_that_takes_no_writes_is_read_from_and_not_met_by_a_connection_for_every_call() {
    let server = Server::start(&[]);
    server.age("t:");
    let service = service(redis::options(&server.url(), "t:")).await;
    service.upload_token().await;
    server.ok(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let connections = || server.info("total_connections_received").parse::<u32>().unwrap();
    let before = connections();
    let (token, started) = (service.id_token(&json!({})), Stopwatch::start());
    for _ in 0..200 {
        let refused = mint(&service, &token).await;
        assert_eq!((refused.status, refused.code()), (503, "store-unavailable"), "{}", refused.text);
        service.app.sync().await.unwrap();
    }
    let (made, took) = (connections() - before, started.elapsed());
    // One at once and one for each 400 ms, and that of whoever counts.
    assert!(u128::from(made) <= 3 + took.as_millis() / 400, "{made} connections in {took:?}");
    server.ok(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    serves_again(&service).await;
}

#[actix_web::test]
async fn a_primary_without_the_replicas_that_are_awaited_may_have_been_replaced_and_is_looked_for_anew() {
    let server = Server::start(&[]);
    server.age("t:");
    let options = redis::options(&server.url(), "t:");
    let options = RedisOptions { wait_for_replicas: 1, timeout: Duration::from_millis(900), ..options };
    let service = service(options).await;
    service.app.sync().await.unwrap();
    let connections = || server.info("total_connections_received").parse::<u32>().unwrap();
    let (before, mut asked, started) = (connections(), 0, Stopwatch::start());
    // Whoever counts makes a connection each time.
    while connections() - before == asked + 1 {
        asked += 1;
        let refused = mint(&service, &service.id_token(&json!({}))).await;
        assert_eq!((refused.status, refused.code()), (503, "store-unavailable"), "{}", refused.text);
        assert!(started.elapsed() < PATIENCE, "{asked}");
    }
}

#[actix_web::test]
async fn a_connection_that_broke_is_made_anew_although_nobody_asks() {
    let mut server = Server::start(&[]);
    let store = redis::store(&server.url(), "t:");
    assert_eq!(store.get(b"k").await.unwrap(), None);
    server.stop();
    server.start_again();
    let started = Stopwatch::start();
    while server.cli(&["CLIENT", "LIST"]).lines().all(|line| line.contains("cmd=client")) {
        assert!(started.elapsed() < PATIENCE, "nobody looks after it");
        actix_web::rt::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get(b"k").await.unwrap(), None, "the first call after it");
}

#[actix_web::test]
async fn an_answer_that_came_while_the_thread_stood_still_is_taken() {
    let server = Server::start(&[]);
    let options = RedisOptions { timeout: Duration::from_millis(200), ..redis::options(&server.url(), "t:") };
    let store = redis::with(options);
    assert_eq!(store.get(b"k").await.unwrap(), None);
    let standstill = async { thread::sleep(Duration::from_millis(300)) };
    let (got, ()) = tokio::join!(store.get(b"k"), standstill);
    assert_eq!(got.unwrap(), None);
}

#[actix_web::test]
async fn a_redis_that_hangs_is_503_in_time_and_is_used_again_when_it_goes_on() {
    let server = Server::start(&[]);
    server.age("t:");
    let options = RedisOptions { timeout: Duration::from_millis(900), ..redis::options(&server.url(), "t:") };
    let service = service(options).await;
    serves_again(&service).await;
    let process = server.process();
    send("-STOP", process);
    for _ in 0..3 {
        let asked = Stopwatch::start();
        let refused = mint(&service, &service.id_token(&json!({}))).await;
        assert_eq!((refused.status, refused.code()), (503, "store-unavailable"), "{}", refused.text);
        assert!(asked.elapsed() < LONGEST, "{:?}", asked.elapsed());
    }
    send("-CONT", process);
    // Nothing was lost: what is served has its one use.
    let token = serves_again(&service).await;
    assert_eq!(answered(&service, &token).await.code(), "token-replayed");
}
