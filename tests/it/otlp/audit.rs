//! The audit log at a collector: nothing is minted without its record, nothing is recorded twice, and what is lost is counted.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;

use super::Mood;
use super::PAUSE;
use super::Receiver;
use super::Running;
use super::World;
use super::receiver::body;
use super::until;

/// How many events may wait.
const CAPACITY: usize = 2048;

fn start(receiver: &Receiver, world: &World) -> Running {
    let telemetry = format!("{{otlp: {{endpoint: \"{}\", signals: []}}}}", receiver.endpoint());
    Running::start(world, &telemetry, &format!("{{sink: otlp, capacity: {CAPACITY}}}"))
}

fn recorded(receiver: &Receiver) -> Vec<String> {
    let id = |text: String| serde_json::from_str::<Value>(&text).unwrap()["request_id"].as_str().unwrap().to_owned();
    receiver.records("trustmint.audit").iter().map(|record| id(body(record))).collect()
}

#[actix_web::test]
async fn while_the_collector_is_down_exchanges_wait_and_their_id_tokens_stay_good() {
    for mood in [Mood::Status(503, Some(1)), Mood::Status(401, None)] {
        let receiver = Receiver::start();
        receiver.set(mood);
        let world = World::new();
        let service = start(&receiver, &world);
        let mut minted = BTreeSet::new();
        let waiting = loop {
            let token = world.id_token(&json!({}));
            let answer = service.mint(&token, None).await;
            if answer.0 != 200 {
                assert_eq!((answer.0, &answer.1["code"]), (503, &json!("audit-unavailable")), "{}", answer.1);
                break token;
            }
            assert!(minted.insert(answer.2));
            // What is in the queue, and a batch that the writer has taken out of it.
            assert!(minted.len() <= 2 * CAPACITY, "it is never full");
        };
        assert!(minted.len() >= CAPACITY / 2, "{}", minted.len());
        // The record of that refusal, and of nothing else.
        assert_eq!(service.metric("trustmint_audit_dropped_total", &[]).await, 1);
        receiver.set(Mood::Take);
        service.counts("trustmint_otlp_exports_total", &["signal=\"audit\"", "outcome=\"ok\""], 1).await;
        until("they arrive", || recorded(&receiver).len() >= minted.len()).await;
        let answer = service.mint(&waiting, None).await;
        assert_eq!(answer.0, 200, "the token is good still: {}", answer.1);
        minted.insert(answer.2);
        service.stop().await;
        let recorded = recorded(&receiver);
        assert_eq!(recorded.len(), minted.len(), "each once");
        assert_eq!(recorded.into_iter().collect::<BTreeSet<_>>(), minted);
    }
}

#[actix_web::test]
async fn what_the_collector_will_never_take_is_lost_and_counted_and_nothing_is_minted_until_it_takes_something() {
    for mood in [Mood::Status(400, None), Mood::Status(413, None), Mood::Garbage, Mood::Huge, Mood::Partly] {
        let receiver = Receiver::start();
        receiver.set(mood);
        let world = World::new();
        let service = start(&receiver, &world);
        assert_eq!(service.mint(&world.id_token(&json!({})), None).await.0, 200, "{mood:?}");
        service.counts("trustmint_audit_dropped_total", &[], 1).await;
        assert_eq!(service.metric("trustmint_audit_queue_depth", &[]).await, 0, "{mood:?}: nothing is held");
        receiver.set(Mood::Take);
        // Until it has taken something nothing is minted: the record of a refusal tries it.
        let token = world.id_token(&json!({}));
        let refused = service.mint(&token, None).await;
        assert_eq!((refused.0, &refused.1["code"]), (503, &json!("audit-unavailable")), "{mood:?}");
        until("that arrives", || recorded(&receiver).contains(&refused.2)).await;
        // The receiver has it a moment before the service knows that.
        let mut good = service.mint(&token, None).await;
        for _ in 0..1000 {
            if good.0 == 200 {
                break;
            }
            assert_eq!((good.0, &good.1["code"]), (503, &json!("audit-unavailable")), "{mood:?}");
            tokio::time::sleep(PAUSE).await;
            good = service.mint(&token, None).await;
        }
        assert_eq!(good.0, 200, "{mood:?}");
        until("the next arrives", || recorded(&receiver).contains(&good.2)).await;
        assert_eq!(service.metric("trustmint_audit_dropped_total", &[]).await, 1, "{mood:?}");
        service.stop().await;
    }
}

#[actix_web::test]
async fn events_that_wait_when_the_service_ends_are_sent_first() {
    let receiver = Receiver::start();
    let world = World::new();
    let service = start(&receiver, &world);
    let mut minted = BTreeSet::new();
    for _ in 0..10 {
        let answer = service.mint(&world.id_token(&json!({})), None).await;
        assert_eq!(answer.0, 200);
        minted.insert(answer.2);
    }
    service.stop().await;
    assert_eq!(recorded(&receiver).into_iter().collect::<BTreeSet<_>>(), minted);
}
