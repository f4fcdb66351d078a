//! What strangers and insiders try against the path from ID token to upload token, and what must not come of it.

use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use trustmint::demo::{Serving, bind};
use trustmint::http;
use trustmint::http::Public;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::state::MemoryStore;

use crate::support::Service;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

async fn may_upload(service: &Service, token: &str) -> (bool, String) {
    let question = json!({"token": token, "package": "widgets", "exists": true, "version": "1.4.0"});
    let answer = service.verify(&question).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    (answer.body["allowed"] == Value::Bool(true), answer.code().to_owned())
}

#[actix_web::test]
async fn a_rule_takes_its_live_tokens_with_it() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    service.clock.pass(Duration::from_secs(1));
    let others = WIDGETS.replace("upload: [widgets]", "upload: [gadgets]");
    for (rules, lives) in [
        (WIDGETS.replace("environment: release", "environment: production"), true),
        (format!("{WIDGETS}    enabled: false\n"), false),
        (WIDGETS.to_owned(), true),
        (others, false),
        (WIDGETS.replace("widgets-release:", "another-name:"), false),
    ] {
        service.activate(&rules);
        let expected = if lives { (true, String::new()) } else { (false, "rule-withdrawn".to_owned()) };
        assert_eq!(may_upload(&service, &token).await, expected, "{rules}");
    }
}

#[actix_web::test]
async fn a_token_of_newer_rules_than_this_replicas_is_believed() {
    let service = Service::start().await;
    let newer = |base: &str, issuer: &str| policy(&policy_text(base, issuer, &format!("{WIDGETS}    ttl: 20m\n")));
    let store = Arc::new(MemoryStore::new(service.clock.clone(), 1 << 20));
    service.activate(&WIDGETS.replace("widgets-release:", "another-name:"));
    service.clock.pass(Duration::from_millis(1));
    let other = service.replica(newer, store, Arc::new(HttpsFetch::new())).await;
    service.clock.pass(Duration::from_secs(1));
    let token = other.upload_token().await;
    assert_eq!(may_upload(&service, &token).await, (true, String::new()));
}

#[actix_web::test]
async fn a_token_of_the_millisecond_in_which_its_rule_goes_goes_with_it() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    service.activate(&WIDGETS.replace("widgets-release:", "another-name:"));
    assert_eq!(may_upload(&service, &token).await, (false, "rule-withdrawn".to_owned()));
}

#[actix_web::test]
async fn slow_bodies_do_not_keep_others_out() {
    const ALL_PLACES: usize = 1024;
    let service = Service::start().await;
    let listener = bind().unwrap();
    let public = web::Data::new(Public::new(service.app.clone(), Vec::new()));
    let serving = Serving::start(listener, None, http::public_routes(public)).unwrap();
    let host = service.base.strip_prefix("https://").unwrap();
    let head =
        |length: usize| format!("POST /_/oidc/mint-token HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n");
    let mut strangers = Vec::new();
    for _ in 0..ALL_PLACES {
        let mut stranger = TcpStream::connect(serving.address()).await.unwrap();
        stranger.write_all(format!("{}Expect: 100-continue\r\n\r\n", head(9)).as_bytes()).await.unwrap();
        // The server asks for the body, so the handler waits for it.
        assert_eq!(stranger.read_u8().await.unwrap(), b'H');
        strangers.push(stranger);
    }
    let body = json!({"token": service.id_token(&json!({}))}).to_string();
    let mut job = TcpStream::connect(serving.address()).await.unwrap();
    job.write_all(format!("{}Connection: close\r\n\r\n{body}", head(body.len())).as_bytes()).await.unwrap();
    let mut answer = String::new();
    job.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
