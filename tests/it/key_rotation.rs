//! The keys of an identity provider change, disappear and cannot be had, as a job at the front door meets it.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use trustmint::demo::provider::Answer as Told;
use trustmint::demo::provider::Endpoint;
use trustmint::identity::cache::MAX_FRESH;
use trustmint::identity::cache::REFILL;

use crate::support::Service;
use crate::support::service::Answer;

async fn exchange(service: &Service, token: &str) -> Answer {
    service.mint(&json!({"token": token})).await
}

fn fetches(service: &Service) -> usize {
    service.provider.requests(Endpoint::Jwks)
}

#[actix_web::test]
async fn keys_are_fetched_once_and_serve_every_token() {
    let service = Service::start().await;
    assert_eq!(fetches(&service), 0, "nothing is fetched before a token asks");
    for _ in 0..5 {
        assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    }
    assert_eq!((fetches(&service), service.provider.requests(Endpoint::Discovery)), (1, 1));
}

#[actix_web::test]
async fn a_rotation_is_seen_within_the_exchange_that_meets_it() {
    let service = Service::start().await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    let old = service.id_token(&json!({}));
    service.pass(Duration::from_secs(1)).await;
    service.provider.rotate().unwrap();
    let answer = exchange(&service, &service.id_token(&json!({}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(fetches(&service), 2);
    assert_eq!(exchange(&service, &old).await.status, 200, "the old key is published still");
    assert_eq!(fetches(&service), 2);
}

#[actix_web::test]
async fn a_withdrawn_key_is_refused_after_the_next_refresh() {
    let service = Service::start().await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    let stolen = service.id_token(&json!({}));
    service.provider.rotate().unwrap();
    service.provider.withdraw_old_keys();
    service.pass(Duration::from_secs(1)).await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    let answer = exchange(&service, &stolen).await;
    assert_eq!((answer.status, answer.code()), (422, "unknown-key"), "{}", answer.text);
    // Nor does it come back while nobody asks for the new one: a scheduled refresh drops it.
    let stolen = service.id_token(&json!({"exp": service.clock_seconds() + 600}));
    service.provider.rotate().unwrap();
    service.provider.withdraw_old_keys();
    service.pass(MAX_FRESH).await;
    let before = fetches(&service);
    service.app.keys().refresh_due();
    service.provider.requested(Endpoint::Jwks, before + 1).await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    assert_ne!(exchange(&service, &stolen).await.status, 200);
}

#[actix_web::test]
async fn while_the_provider_is_down_the_answer_is_to_come_back_and_nothing_is_spent() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    for (endpoint, told) in [
        (Endpoint::Discovery, Told::status(500)),
        (Endpoint::Jwks, Told::status(503)),
        (Endpoint::Jwks, Told::body("text/html", "<h1>maintenance</h1>")),
        (Endpoint::Jwks, Told::json(&json!({"keys": []}))),
        (Endpoint::Discovery, Told::redirect("http://127.0.0.1:1/")),
    ] {
        service.provider.answer(endpoint, told.clone());
        let answer = exchange(&service, &token).await;
        assert_eq!((answer.status, answer.code()), (503, "issuer-unavailable"), "{told:?}: {}", answer.text);
        let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=REFILL.as_secs()).contains(&wait), "{wait}");
        assert!(!answer.text.contains("maintenance") && !answer.text.contains("127.0.0.1:1/"), "{}", answer.text);
        service.provider.answer(endpoint, Told::Honest);
        service.pass(REFILL).await;
    }
    let answer = exchange(&service, &token).await;
    assert_eq!(answer.status, 200, "the same ID token works afterwards: {}", answer.text);
}

#[actix_web::test]
async fn keys_that_are_held_serve_on_while_the_provider_is_down() {
    let service = Service::start().await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    service.provider.answer(Endpoint::Jwks, Told::status(500));
    service.pass(Duration::from_secs(23 * 3600)).await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200, "for a day");
    service.pass(Duration::from_secs(3600)).await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.code(), "issuer-unavailable", "and no longer");
}

#[actix_web::test]
async fn a_provider_that_stalls_is_not_waited_for_beyond_the_clients_patience() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    service.provider.answer(Endpoint::Jwks, Told::Held);
    // twine gives up after 5 s.
    let patience = Duration::from_secs(4);
    let answer = tokio::time::timeout(patience, exchange(&service, &token)).await.expect("an answer in time");
    assert_eq!((answer.status, answer.code()), (503, "issuer-unavailable"), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
    service.provider.answer(Endpoint::Jwks, Told::Honest);
    service.pass(REFILL).await;
    assert_eq!(exchange(&service, &token).await.status, 200);
}

#[actix_web::test]
async fn many_tokens_that_wait_for_keys_share_one_fetch() {
    let service = Service::start().await;
    service.provider.answer(Endpoint::Jwks, Told::Held);
    let mut posts = JoinSet::new();
    for _ in 0..100 {
        let body = json!({"token": service.id_token(&json!({}))}).to_string();
        let request = service.client.post(format!("{}/_/oidc/mint-token", service.base)).body(body);
        posts.spawn(async move { request.send().await.unwrap().status().as_u16() });
    }
    service.provider.requested(Endpoint::Jwks, 1).await;
    service.provider.answer(Endpoint::Jwks, Told::Honest);
    assert_eq!(posts.join_all().await, vec![200; 100]);
    assert_eq!(fetches(&service), 1);
}

#[actix_web::test]
async fn a_hundred_tokens_that_wait_for_a_slow_provider_keep_no_job_out() {
    let service = Service::start().await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    service.pass(REFILL).await;
    service.provider.answer(Endpoint::Jwks, Told::Held);
    let before = service.provider.requests(Endpoint::Jwks);
    let mut strangers = JoinSet::new();
    for number in 0..100 {
        let token =
            service.provider.mint_with(&json!({"kid": format!("invented-{number}")}), &service.claims(&json!({})));
        let request = service.client.post(format!("{}/_/oidc/mint-token", service.base));
        let request = request.body(json!({"token": token}).to_string());
        strangers.spawn(async move { Answer::of(request.send().await.unwrap()).await.code().to_owned() });
    }
    service.provider.requested(Endpoint::Jwks, before + 1).await;
    while !strangers.is_empty() {
        let answer = exchange(&service, &service.id_token(&json!({}))).await;
        assert_eq!(answer.status, 200, "its key is there: {}", answer.text);
        if let Some(code) = strangers.try_join_next() {
            assert_eq!(code.unwrap(), "issuer-unavailable", "it waited for the provider, and held no place meanwhile");
        }
    }
}

#[actix_web::test]
async fn a_bad_signature_under_a_known_key_fetches_nothing() {
    let service = Service::start().await;
    assert_eq!(exchange(&service, &service.id_token(&json!({}))).await.status, 200);
    let impostor = service.provider.key("ES256").unwrap();
    let kid = json!({"kid": service.provider.key("RS256").unwrap().kid()});
    for _ in 0..10 {
        service.pass(Duration::from_secs(60)).await;
        let token = impostor.token(&kid, &service.claims(&json!({})));
        assert_eq!(exchange(&service, &token).await.code(), "algorithm-not-allowed");
        let token = service.id_token(&json!({}));
        let (signed, _) = token.rsplit_once('.').unwrap();
        let (_, other) = good_signature(&service);
        assert_eq!(exchange(&service, &format!("{signed}.{other}")).await.code(), "bad-signature");
    }
    assert_eq!(fetches(&service), 1);
}

fn good_signature(service: &Service) -> (Value, String) {
    let claims = service.claims(&json!({}));
    let token = service.provider.mint(&claims);
    (claims, token.rsplit_once('.').unwrap().1.to_owned())
}
