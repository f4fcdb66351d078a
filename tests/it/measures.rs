//! What `/metrics` says of a running service: its rules, its issuers' keys and clocks, its own keys, its store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use serde_json::json;
use trustmint::demo::provider::Answer as Reply;
use trustmint::demo::provider::Endpoint;
use trustmint::http::Public;

use crate::support::Service;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_of;

const SECOND: Duration = Duration::from_secs(1);

/// The series of a metric, by their labels.
fn series(service: &Service, name: &str) -> BTreeMap<String, f64> {
    let text = service.app.metrics().render().unwrap();
    let of = |line: &str| {
        let (id, value) = line.rsplit_once(' ')?;
        let labels = id.strip_prefix("trustmint_")?.strip_prefix(name)?;
        Some((labels.trim_matches(['{', '}']).to_owned(), value.parse().unwrap()))
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(of).filter(|(labels, _)| labels.is_empty() || labels.contains('=')).collect()
}

fn expect(service: &Service, name: &str, expected: &[(&str, f64)]) {
    let expected = expected.iter().map(|(labels, value)| ((*labels).to_owned(), *value)).collect();
    assert_eq!(series(service, name), expected, "{name}");
}

fn seconds(number: i64) -> f64 {
    f64::from(i32::try_from(number).unwrap())
}

#[actix_web::test]
async fn a_rule_that_has_never_granted_shows_and_one_that_is_off_does_not() {
    let other = WIDGETS.replace("widgets", "gadgets").replace("701234567", "701234568");
    let off = WIDGETS.replace("widgets-release:", "widgets-old:\n    mode: off");
    let service = Service::with_rules(&format!("{WIDGETS}{other}{off}")).await;
    let name = |rule: &str| format!("registry=\"acme-pypi\",rule=\"{rule}\"");
    let (widgets, gadgets) = (name("widgets-release"), name("gadgets-release"));
    expect(&service, "rule_matches_total", &[(&widgets, 0.0), (&gadgets, 0.0)]);
    service.upload_token().await;
    let refused = service.mint(&json!({"token": service.id_token(&json!({"environment": "x"}))})).await;
    assert_eq!(refused.code(), "environment-mismatch");
    expect(&service, "rule_matches_total", &[(&widgets, 1.0), (&gadgets, 0.0)]);
    service.activate(WIDGETS);
    service.upload_token().await;
    expect(&service, "rule_matches_total", &[(&widgets, 2.0)]);
}

#[actix_web::test]
async fn a_clock_that_is_ahead_shows_once_its_signature_is_proven() {
    let service = Service::start().await;
    // A store that has just begun knows nothing of older tokens.
    service.pass(120 * SECOND).await;
    let now = service.clock_seconds();
    let counted = |le: &str| {
        let label = format!("issuer=\"github\",le=\"{le}\"");
        series(&service, "issuer_clock_ahead_seconds_bucket").get(&label).copied()
    };
    let ahead = |by: i64| json!({"token": service.id_token(&json!({"iat": now + by, "nbf": now, "exp": now + 600}))});
    // What a stranger writes is no clock.
    let mut forged = service.id_token(&json!({"iat": now + 20}));
    forged.truncate(forged.len() - 8);
    assert_eq!(service.mint(&json!({"token": format!("{forged}AAAAAAAA")})).await.code(), "bad-signature");
    assert_eq!(service.mint(&json!({"token": service.id_token(&json!({"aud": "x"}))})).await.code(), "wrong-audience");
    assert_eq!(counted("+Inf"), None);
    assert_eq!(service.mint(&ahead(-60)).await.status, 200);
    assert_eq!((counted("0"), counted("+Inf")), (Some(1.0), Some(1.0)));
    assert_eq!(service.mint(&ahead(20)).await.status, 200);
    assert_eq!((counted("0"), counted("10"), counted("30")), (Some(1.0), Some(1.0), Some(2.0)));
    assert_eq!(service.mint(&ahead(50)).await.code(), "token-not-yet-valid");
    let late = service.id_token(&json!({"nbf": now + 300, "exp": now + 600}));
    assert_eq!(service.mint(&json!({"token": late})).await.code(), "token-not-yet-valid");
    assert_eq!((counted("30"), counted("60"), counted("600")), (Some(2.0), Some(3.0), Some(4.0)));
}

#[actix_web::test]
async fn the_keys_of_each_issuer_have_an_age() {
    let service = Service::with_policy(|base, issuer| {
        let issuers = format!(
            "  github: {{provider: github, url: \"{issuer}\"}}\n  \
             gone: {{provider: gitlab, url: \"https://gitlab.acme.example\", enabled: false}}"
        );
        policy(&policy_of(base, &issuers, WIDGETS))
    })
    .await;
    // One that is switched off is not asked for its keys.
    expect(&service, "issuer_keys_stale", &[("issuer=\"github\"", 1.0)]);
    expect(&service, "issuer_keys_timestamp_seconds", &[]);
    service.upload_token().await;
    let fetched = seconds(service.clock_seconds());
    expect(&service, "issuer_keys_stale", &[("issuer=\"github\"", 0.0)]);
    expect(&service, "issuer_keys_timestamp_seconds", &[("issuer=\"github\"", fetched)]);
    service.provider.answer(Endpoint::Discovery, Reply::status(500));
    service.pass(3601 * SECOND).await;
    expect(&service, "issuer_keys_stale", &[("issuer=\"github\"", 1.0)]);
    expect(&service, "issuer_keys_timestamp_seconds", &[("issuer=\"github\"", fetched)]);
}

#[actix_web::test]
async fn what_is_refused_at_a_limit_is_counted() {
    let service = Service::start().await;
    let public = web::Data::new(Public::new(Arc::clone(&service.app), Vec::new()));
    expect(&service, "overloaded_total", &[]);
    let (mut exchanges, mut calls) = (Vec::new(), Vec::new());
    while let Ok(place) = public.admit_exchange().await {
        exchanges.push(place);
    }
    expect(&service, "overloaded_total", &[("limit=\"exchanges\"", 1.0)]);
    while let Ok(place) = public.admit_registry_call().await {
        calls.push(place);
    }
    assert!(public.admit_registry_call().await.is_err());
    expect(&service, "overloaded_total", &[("limit=\"exchanges\"", 1.0), ("limit=\"registry-calls\"", 2.0)]);
}

#[actix_web::test]
async fn the_store_and_the_master_key_say_since_when_they_are() {
    let service = Service::start().await;
    let began = seconds(service.clock_seconds());
    service.pass(60 * SECOND).await;
    expect(&service, "store_epoch_timestamp_seconds", &[("", began)]);
    expect(&service, "master_key_activation_timestamp_seconds", &[("kid=\"k1\"", began)]);
}
