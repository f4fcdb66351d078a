//! First use: an ID token is good for one exchange, whoever asks, however often, and whatever fails on the way.

use std::sync::Arc;
use std::time::Duration;

use actix_web::App;
use actix_web::dev::Service as _;
use actix_web::test;
use actix_web::web;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::demo::provider::Answer as Told;
use trustmint::demo::provider::Endpoint;
use trustmint::exchange::KEY_WAIT;
use trustmint::exchange::STORE_WAIT;
use trustmint::http;
use trustmint::http::Public;
use trustmint::identity::cache::REFILL;
use trustmint::identity::verify::LEEWAY;
use trustmint::telemetry::Stopwatch;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::store_contract::faulty;
use crate::store_contract::faulty::Fault;
use crate::support::Presets;
use crate::support::Service;
use crate::support::redis::PATIENCE;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;

fn allowed(events: &[Value]) -> usize {
    events.iter().filter(|event| event["decision"] == "allow").count()
}

#[actix_web::test]
async fn a_token_is_exchanged_once() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    let first = service.mint(&json!({"token": token})).await;
    assert_eq!(first.status, 200, "{}", first.text);
    for path in ["/_/oidc/mint-token", "/_/oidc/github/mint-token"] {
        let again = service.post_json(path, &json!({"token": token})).await;
        assert_eq!((again.status, again.code()), (422, "token-replayed"), "{}", again.text);
        assert!(again.body.get("token").is_none());
    }
    let again = service.exchange(&token, &json!({})).await;
    assert_eq!((again.status, again.code()), (400, "token-replayed"), "at another endpoint too: {}", again.text);
    // The refusals are recorded, the first token goes on working.
    let events = service.audit();
    assert_eq!((allowed(&events), events.len()), (1, 4));
    assert!(events.iter().skip(1).all(|event| event["code"] == "token-replayed" && event.get("token_id").is_none()));
    let question = json!({"token": first.body["token"], "package": "widgets", "exists": true});
    assert_eq!(service.verify(&question).await.body["allowed"], true);
}

#[actix_web::test]
async fn of_fifty_concurrent_posts_exactly_one_succeeds() {
    let service = Service::start().await;
    // The provider's keys are there: not as many may wait for them.
    service.upload_token().await;
    let token = service.id_token(&json!({}));
    let (url, body) = (format!("{}/_/oidc/mint-token", service.base), json!({"token": token}).to_string());
    let mut posts = JoinSet::new();
    for _ in 0..50 {
        let request = service.client.post(&url).body(body.clone());
        posts.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    let mut answers = posts.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers[0], 200);
    assert!(answers[1..].iter().all(|status| *status == 422), "{answers:?}");
    assert_eq!(allowed(&service.audit()), 2, "with the one before");
}

#[actix_web::test]
async fn a_denied_job_retries_with_the_same_token_once_the_rule_is_mended() {
    let service = Service::with_rules(&WIDGETS.replace("environment: release", "environment: production")).await;
    let body = json!({"token": service.id_token(&json!({}))});
    for _ in 0..3 {
        assert_eq!(service.mint(&body).await.code(), "environment-mismatch");
    }
    service.activate(WIDGETS);
    assert_eq!(service.mint(&body).await.status, 200);
    assert_eq!(service.mint(&body).await.code(), "token-replayed");
}

#[actix_web::test]
async fn a_token_from_before_the_stores_memory_is_not_exchanged() {
    let service = Service::start().await;
    let now = service.clock_seconds();
    let old = json!({"token": service.id_token(&json!({"iat": now - 1, "exp": now + 299}))});
    let answer = service.mint(&old).await;
    assert_eq!((answer.status, answer.code()), (503, "state-lost"), "{}", answer.text);
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        message.contains("issued before the service's memory") && message.contains("request a fresh ID token"),
        "{message}"
    );
    // Until it has expired, leeway included.
    let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert_eq!(wait, 299 + LEEWAY.as_secs());
    service.pass(Duration::from_secs(298)).await;
    assert_eq!(service.mint(&old).await.code(), "state-lost");
    service.pass(Duration::from_secs(wait - 298)).await;
    assert_eq!(service.mint(&old).await.code(), "token-expired");
    assert_eq!(service.mint(&json!({"token": service.id_token(&json!({}))})).await.status, 200);
}

#[actix_web::test]
async fn a_first_use_is_remembered_for_as_long_as_the_token_verifies() {
    let service = Service::start().await;
    let body = json!({"token": service.id_token(&json!({}))});
    assert_eq!(service.mint(&body).await.status, 200);
    // To the last second in which the token would still be believed.
    service.pass(Duration::from_secs(299)).await;
    assert_eq!(service.mint(&body).await.code(), "token-replayed");
    service.pass(LEEWAY).await;
    assert_eq!(service.mint(&body).await.code(), "token-replayed", "at exp + 29 s");
    service.pass(Duration::from_secs(1)).await;
    assert_eq!(service.mint(&body).await.code(), "token-expired", "at exp + 30 s");
    // And a token that is exchanged for the first time in its last second is not forgotten in that second.
    let last = json!({"token": service.id_token(&json!({}))});
    service.pass(Duration::from_secs(329)).await;
    assert_eq!(service.mint(&last).await.status, 200);
    assert_eq!(service.mint(&last).await.code(), "token-replayed");
}

#[actix_web::test]
async fn a_token_without_an_id_is_known_by_what_was_signed() {
    let presets = Presets::start().await;
    let claims = presets.claims("google/service-account", &json!({}));
    assert!(claims.get("jti").is_none());
    let exchange = async |token: &str| presets.service.mint(&json!({"token": token})).await;
    let token = presets.token("google/service-account", &json!({}));
    assert_eq!(exchange(&token).await.status, 200);
    assert_eq!(exchange(&token).await.code(), "token-replayed");
    // Another token of the same account in another second is another token; the same second cannot be told apart.
    presets.service.pass(Duration::from_secs(1)).await;
    let next = presets.token("google/service-account", &json!({}));
    assert_eq!(exchange(&next).await.status, 200);
    // An empty id is none, and not one id that all tokens share.
    for environment in ["release", "Release"] {
        let job = json!({"jti": "", "environment": environment});
        assert_eq!(exchange(&presets.token("github/release", &job)).await.status, 200, "{environment}");
    }
}

#[actix_web::test]
async fn another_signature_over_the_same_claims_is_the_same_token() {
    let service = Service::start().await;
    let key = service.provider.key("ES256").unwrap();
    for (jti, name) in [(json!("7f1c"), "by its id"), (Value::Null, "by what was signed")] {
        let claims = service.claims(&json!({"jti": jti}));
        let mut claims = claims.as_object().unwrap().clone();
        claims.retain(|_, value| !value.is_null());
        // ECDSA signs with fresh randomness: two different tokens.
        let (one, two) = (key.token(&Value::Null, &claims), key.token(&Value::Null, &claims));
        assert_ne!(one, two);
        assert_eq!(service.mint(&json!({"token": one})).await.status, 200, "{name}");
        assert_eq!(service.mint(&json!({"token": two})).await.code(), "token-replayed", "{name}");
    }
}

#[actix_web::test]
async fn a_store_that_fails_before_the_claim_spends_nothing_and_one_that_fails_after_it_mints_nothing() {
    let (service, store) = faulty::service().await;
    let body = json!({"token": service.id_token(&json!({}))});
    for fault in [Fault::Refused, Fault::Full] {
        store.fail(Some(fault));
        let answer = service.mint(&body).await;
        assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{fault:?}: {}", answer.text);
        assert!(answer.headers.contains_key("retry-after"));
    }
    store.fail(Some(Fault::AnswerLost));
    assert_eq!(service.mint(&body).await.code(), "store-unavailable");
    let event = service.last_event();
    assert_eq!(event["decision"], "fault");
    assert!(event["token_id"].is_string(), "a repetition could yield this token: {event}");
    store.fail(None);
    // Whether the lost answer was a yes nobody knows, so the token counts as used: never two tokens for one.
    assert_eq!(service.mint(&body).await.code(), "token-replayed");
    assert_eq!(allowed(&service.audit()), 0);
}

#[actix_web::test]
async fn a_store_with_a_defect_ends_one_exchange_which_is_recorded() {
    let (service, store) = faulty::service().await;
    service.upload_token().await;
    store.fail(Some(Fault::Panics));
    let answer = service.mint(&json!({"token": service.id_token(&json!({}))})).await;
    assert_eq!((answer.status, answer.code()), (500, "internal"), "{}", answer.text);
    let event = service.last_event();
    assert_eq!((&event["decision"], &event["code"]), (&json!("fault"), &json!("internal")));
    assert!(event["token_id"].is_string(), "the claim may have gone through: {event}");
    store.fail(None);
    service.upload_token().await;
}

#[actix_web::test]
async fn a_store_that_never_answers_is_not_waited_for_beyond_the_clients_patience() {
    let (service, store) = faulty::service().await;
    let body = json!({"token": service.id_token(&json!({}))});
    store.fail(Some(Fault::Silent));
    // twine gives up after 5 s.
    let answer = tokio::time::timeout(Duration::from_secs(4), service.mint(&body)).await.expect("an answer in time");
    assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
}

#[actix_web::test]
async fn neither_a_dead_provider_nor_a_silent_store_nor_both_keep_a_client_waiting() {
    // twine gives up after 5 s; one exchange may meet both waits.
    let patience = Duration::from_secs(4);
    assert!(KEY_WAIT + STORE_WAIT < patience);
    let (service, store) = faulty::service().await;
    let body = json!({"token": service.id_token(&json!({}))});
    // Nothing is cached; provider and store take what they are sent and say nothing.
    service.provider.answer(Endpoint::Discovery, Told::Held);
    store.fail(Some(Fault::Silent));
    for code in ["issuer-unavailable", "store-unavailable"] {
        let answer = tokio::time::timeout(patience, service.mint(&body)).await.expect("an answer in time");
        assert_eq!((answer.status, answer.code()), (503, code), "{}", answer.text);
        let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{code}: {wait}");
        service.provider.answer(Endpoint::Discovery, Told::Honest);
        service.clock.pass(REFILL);
    }
    store.fail(None);
    let answer = service.mint(&body).await;
    assert_eq!(answer.status, 200, "nothing was spent: {}", answer.text);
}

#[actix_web::test]
async fn a_client_that_leaves_during_the_claim_does_not_leave_it_half_done() {
    let (service, store) = faulty::service().await;
    let body = json!({"token": service.id_token(&json!({}))});
    store.fail(Some(Fault::Held));
    let (client, url, text) = (service.client.clone(), format!("{}/_/oidc/mint-token", service.base), body.to_string());
    let leaving = actix_web::rt::spawn(async move { client.post(url).body(text).send().await.is_ok() });
    store.held(1).await;
    leaving.abort();
    assert!(leaving.await.is_err(), "the client is gone");
    store.fail(None);
    store.released(1).await;
    exchanged_once(&service, &body).await;
}

#[actix_web::test]
async fn a_handler_that_is_dropped_during_the_claim_is_carried_to_its_end_all_the_same() {
    let (service, store) = faulty::service().await;
    let body = json!({"token": service.id_token(&json!({}))});
    let public = web::Data::new(Public::new(Arc::clone(&service.app), Vec::new()));
    let server = test::init_service(App::new().configure(http::public_routes(public))).await;
    let host = service.base.trim_start_matches("https://").to_owned();
    let request = test::TestRequest::post().uri("/_/oidc/mint-token").insert_header(("host", host));
    store.fail(Some(Fault::Held));
    {
        // What the server does when a connection is reset.
        let mut call = std::pin::pin!(server.call(request.set_payload(body.to_string()).to_request()));
        tokio::select! {
            _ = &mut call => panic!("the store holds the claim"),
            () = store.held(1) => {}
        }
    }
    // Until then the process does not end, but for the time that a claim may take.
    assert!(!service.app.unattended().all_ended(Duration::ZERO).await);
    store.fail(None);
    assert!(service.app.unattended().all_ended(PATIENCE).await);
    store.released(1).await;
    exchanged_once(&service, &body).await;
}

#[actix_web::test]
async fn a_thread_of_the_server_that_ends_during_the_claim_leaves_the_record_of_it() {
    let (service, store) = faulty::service().await;
    service.upload_token().await;
    let events = service.audit().len();
    let public = web::Data::new(Public::new(Arc::clone(&service.app), Vec::new()));
    let server = Serving::start(bind().unwrap(), None, http::public_routes(public)).unwrap();
    let (url, host) = (format!("http://{}/_/oidc/mint-token", server.address()), service.base.clone());
    let body = json!({"token": service.id_token(&json!({})), "features": ["single-use-token"]}).to_string();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).header("host", host.trim_start_matches("https://")).body(body);
    store.fail(Some(Fault::Held));
    let leaving = actix_web::rt::spawn(async move { request.send().await.is_ok() });
    store.held(1).await;
    leaving.abort();
    assert!(leaving.await.is_err(), "the client is gone");
    assert_eq!(service.audit().len(), events, "it may still be answered");
    web::block(move || drop(server)).await.unwrap();

    let started = Stopwatch::start();
    while service.audit().len() == events {
        assert!(started.elapsed() < PATIENCE, "the claim is not recorded");
        actix_web::rt::time::sleep(Duration::from_millis(10)).await;
    }
    let event = service.last_event();
    assert_eq!([&event["event"], &event["decision"], &event["code"]], ["exchange", "fault", "store-unavailable"]);
    assert_eq!([&event["registry"], &event["issuer"]], ["acme-pypi", "github"]);
    assert_eq!((&event["rules"], &event["single_use"]), (&json!(["widgets-release"]), &json!(true)));
    assert!(event["token_id"].is_string(), "a repetition may yield it: {event}");
    assert!(event["claims"]["repository"].is_string(), "{event}");
}

#[actix_web::test]
async fn an_exchange_that_is_dropped_before_its_claim_is_not_recorded() {
    let service = Service::start().await;
    let events = service.audit().len();
    service.provider.answer(Endpoint::Discovery, Told::Held);
    let public = web::Data::new(Public::new(Arc::clone(&service.app), Vec::new()));
    let server = Serving::start(bind().unwrap(), None, http::public_routes(public)).unwrap();
    let (url, host) = (format!("http://{}/_/oidc/mint-token", server.address()), service.base.clone());
    let body = json!({"token": service.id_token(&json!({}))}).to_string();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).header("host", host.trim_start_matches("https://")).body(body);
    let cut_off = actix_web::rt::spawn(async move { request.send().await.is_ok() });
    // Longer than it takes to begin, and shorter than it is waited for keys.
    actix_web::rt::time::sleep(Duration::from_millis(300)).await;
    web::block(move || drop(server)).await.unwrap();
    assert!(!cut_off.await.unwrap());
    service.provider.answer(Endpoint::Discovery, Told::Honest);
    assert!(service.app.unattended().all_ended(PATIENCE).await);
    assert_eq!(service.audit().len(), events, "nothing was used");
}

#[actix_web::test]
async fn nothing_is_waited_for_at_the_end_that_was_answered_or_broke() {
    let (service, store) = faulty::service().await;
    let ended = async || service.app.unattended().all_ended(Duration::ZERO).await;
    for fault in [None, Some(Fault::Refused), Some(Fault::Panics)] {
        store.fail(fault);
        service.mint(&json!({"token": service.id_token(&json!({}))})).await;
        assert!(ended().await, "{fault:?}");
    }
}

#[actix_web::test]
async fn who_comes_after_the_last_look_for_handlers_is_sent_away_before_anything_is_used() {
    let (service, store) = faulty::service().await;
    service.upload_token().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let events = service.audit().len();
    let body = json!({"token": service.id_token(&json!({}))});
    assert!(service.app.working().close(Duration::ZERO).await.all_ended());
    // Whatever asks the store panics.
    store.fail(Some(Fault::Panics));
    let until = service.app.now().plus(Duration::from_secs(60)).to_string();
    let stop = json!({"rule": "another", "reason": "INC-9", "until": until}).to_string();
    let stop = operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY).body(stop);
    let answers = [
        service.mint(&body).await,
        service.exchange(body["token"].as_str().unwrap(), &json!({})).await,
        service.verify(&json!({"token": "t", "package": "widgets", "exists": true})).await,
        service.get("/_/oidc/audience").await,
        Answer::of(stop.send().await.unwrap()).await,
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.code()), (503, "overloaded"), "{}", answer.text);
        assert!(answer.text.contains("this replica is about to end"), "{}", answer.text);
        assert!(answer.headers.contains_key("retry-after"), "another replica may be there at once");
    }
    assert_eq!(service.audit().len(), events, "nothing is recorded, so nothing was used");
}

/// The token is used, and the audit log has the one exchange that used it.
async fn exchanged_once(service: &Service, body: &Value) {
    let again = service.mint(body).await;
    assert_eq!((again.status, again.code()), (422, "token-replayed"), "{}", again.text);
    let events = service.audit();
    assert_eq!(allowed(&events), 1, "{events:?}");
    let used = events.iter().find(|event| event["decision"] == "allow").unwrap();
    assert!(used["token_id"].is_string(), "{used}");
}
