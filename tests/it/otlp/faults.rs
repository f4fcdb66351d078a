//! A collector that is not there, hangs, refuses or talks nonsense: no request notices, and what is lost is counted.

use std::collections::BTreeSet;

use serde_json::json;

use super::Mood;
use super::Receiver;
use super::Running;
use super::World;
use super::until;
use crate::support::front::free_address;

fn sending_to(endpoint: &str) -> String {
    format!("{{otlp: {{endpoint: \"{endpoint}\", interval: 1s}}}}")
}

#[actix_web::test]
async fn whatever_the_collector_does_exchanges_go_on_and_its_failures_are_counted() {
    for (mood, outcome) in [
        (Mood::Status(503, Some(1)), "unavailable"),
        (Mood::Status(429, None), "unavailable"),
        (Mood::Status(401, None), "unavailable"),
        (Mood::Status(400, None), "refused"),
        (Mood::Status(500, None), "refused"),
        (Mood::Status(307, None), "refused"),
        (Mood::Garbage, "refused"),
        (Mood::Huge, "refused"),
    ] {
        let receiver = Receiver::start();
        receiver.set(mood);
        let world = World::new();
        let service = Running::start(&world, &sending_to(&receiver.endpoint()), "{sink: stdout}");
        assert_eq!(service.mint(&world.id_token(&json!({})), None).await.0, 200, "{mood:?}");
        service.counts("trustmint_otlp_exports_total", &[&format!("outcome=\"{outcome}\"")], 1).await;
        service.counts("trustmint_otlp_dropped_total", &["signal=\"metrics\""], 1).await;
        assert_eq!(service.mint(&world.id_token(&json!({})), None).await.0, 200, "{mood:?}");
        // It is mended, and what could wait arrives.
        receiver.set(Mood::Take);
        let held = outcome == "unavailable";
        let first =
            |receiver: &Receiver| receiver.spans().iter().filter(|span| span.name == "POST /_/oidc/mint-token").count();
        until(&format!("{mood:?}"), || {
            first(&receiver) >= if held { 2 } else { 0 } && receiver.requests().iter().any(|it| it.taken)
        })
        .await;
        service.stop().await;
        if held {
            assert_eq!(first(&receiver), 2, "{mood:?}: once");
        }
    }
}

#[actix_web::test]
async fn while_the_collector_hangs_requests_are_answered_and_the_service_can_end() {
    let receiver = Receiver::start();
    receiver.set(Mood::Hang);
    let world = World::new();
    let service = Running::start(&world, &sending_to(&receiver.endpoint()), "{sink: stdout}");
    until("it asks", || !receiver.requests().is_empty()).await;
    // The one thread that sends waits for an answer that does not come, and all these do not.
    for _ in 0..50 {
        assert_eq!(service.mint(&world.id_token(&json!({})), None).await.0, 200);
    }
    assert!(receiver.requests().iter().all(|request| !request.taken));
    // It ends without having been heard; `stop` waits no longer than a while.
    let (log, out) = service.stop().await;
    assert!(log.contains("the last telemetry could not be sent in time"), "{log}");
    assert_eq!(out.lines().count(), 50);
    receiver.set(Mood::Take);
}

#[actix_web::test]
async fn without_a_collector_what_waits_is_bounded_and_the_rest_is_dropped_and_counted() {
    let world = World::new();
    let service = Running::start(&world, &sending_to(&format!("http://{}", free_address())), "{sink: stdout}");
    let flood = async |requests: usize| {
        for _ in 0..requests {
            assert_eq!(service.get("/nothing-here").await, 404);
        }
    };
    flood(4000).await;
    service.counts("trustmint_otlp_dropped_total", &["signal=\"traces\""], 1).await;
    let dropped = async || service.metric("trustmint_otlp_dropped_total", &["signal=\"traces\""]).await;
    let before = dropped().await;
    flood(1000).await;
    assert_eq!(dropped().await, before + 1000, "what waits has not grown");
    assert_eq!(service.mint(&world.id_token(&json!({})), None).await.0, 200);
    let (log, _) = service.stop().await;
    // It says so once for each signal, not once a try.
    assert_eq!(log.matches("the collector takes no telemetry").count(), 3, "{log}");
}

#[actix_web::test]
async fn a_collector_that_says_when_is_not_asked_before() {
    let receiver = Receiver::start();
    receiver.set(Mood::Status(503, Some(3600)));
    let world = World::new();
    let service = Running::start(&world, &sending_to(&receiver.endpoint()), "{sink: stdout}");
    until("it asks", || !receiver.requests().is_empty()).await;
    // Readings of metrics that fall into the pause are dropped.
    service.counts("trustmint_otlp_dropped_total", &["signal=\"metrics\""], 2).await;
    let paths: BTreeSet<String> = receiver.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(receiver.requests().len(), paths.len(), "each signal once: {paths:?}");
    // But at the end it is tried once more.
    receiver.set(Mood::Take);
    service.stop().await;
    assert!(receiver.requests().len() > 1);
}

#[actix_web::test]
async fn a_signal_that_is_not_taken_does_not_hold_up_the_others() {
    let receiver = Receiver::start();
    receiver.set(Mood::NotThis("/v1/traces"));
    let world = World::new();
    let service = Running::start(&world, &sending_to(&receiver.endpoint()), "{sink: stdout}");
    assert_eq!(service.mint(&world.id_token(&json!({})), None).await.0, 200);
    service.counts("trustmint_otlp_exports_total", &["signal=\"traces\"", "outcome=\"unavailable\""], 2).await;
    service.counts("trustmint_otlp_exports_total", &["signal=\"metrics\"", "outcome=\"ok\""], 2).await;
    assert_eq!(service.metric("trustmint_otlp_dropped_total", &[]).await, 0);
    receiver.set(Mood::Take);
    until("the trace arrives", || !receiver.spans().is_empty()).await;
    let (log, _) = service.stop().await;
    assert_eq!(log.matches("the collector takes").count(), 2, "{log}");
}
