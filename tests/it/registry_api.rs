//! What a registry asks and says beside `/v1/verify`: its revocations, its refusals, introspection.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::app::Caller;
use trustmint::app::Own;
use trustmint::macaroon::TokenId;
use trustmint::state::revocations::Revoker;

use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::tenants::TOOLS_KEY;
use crate::support::tenants::narrowed;
use crate::support::tenants::tenants;

const FORM: &str = "application/x-www-form-urlencoded";

async fn get(service: &Service, key: &str, path: &str) -> Answer {
    Answer::of(service.client.get(format!("{}{path}", service.base)).bearer_auth(key).send().await.unwrap()).await
}

async fn revoke(service: &Service, key: &str, body: &Value) -> Answer {
    let request = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(key);
    Answer::of(request.body(body.to_string()).send().await.unwrap()).await
}

async fn introspect(service: &Service, key: &str, token: &str) -> Answer {
    let request = service.client.post(format!("{}/v1/introspect", service.base)).bearer_auth(key);
    Answer::of(request.header("content-type", FORM).body(format!("token={token}")).send().await.unwrap()).await
}

/// What `/v1/verify` says of an upload of `widgets`: `allowed`, or the code.
async fn verdict(service: &Service, token: &str) -> String {
    let answer = service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await;
    if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
}

async fn id_of(service: &Service, token: &str) -> String {
    let answer = service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await;
    answer.body["token"]["id"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn a_registry_revokes_one_of_its_tokens_by_id_and_finds_it_in_its_list() {
    let service = Service::with_policy(tenants).await;
    let (token, other) = (service.upload_token().await, service.upload_token().await);
    let empty = get(&service, API_KEY, "/v1/revocations").await;
    assert_eq!((empty.status, &empty.body), (200, &json!({"revocations": [], "next": null, "more": false})));
    let id = id_of(&service, &token).await;

    // Under the other registry's key the same id is another token.
    assert_eq!(revoke(&service, TOOLS_KEY, &json!({"token_id": id})).await.status, 200);
    assert_eq!(verdict(&service, &token).await, "allowed");
    let revoked = revoke(&service, API_KEY, &json!({"token_id": id})).await;
    assert_eq!((revoked.status, &revoked.body["revoked"]), (200, &json!(true)), "{}", revoked.text);
    assert_eq!(verdict(&service, &token).await, "upload-token-revoked");
    assert_eq!(verdict(&service, &narrowed(&token, "version 1")).await, "upload-token-revoked");
    assert_eq!(verdict(&service, &other).await, "allowed");
    let event = service.audit().into_iter().rev().find(|event| event["event"] == "revoke").unwrap();
    assert_eq!((&event["registry"], &event["token_id"]), (&json!("acme-pypi"), &json!(id)));

    let listed = get(&service, API_KEY, "/v1/revocations").await;
    let entries = listed.body["revocations"].as_array().unwrap();
    assert_eq!(entries.len(), 1, "its own alone: {}", listed.text);
    assert_eq!(entries[0]["token_id"], id);
    // From there on, only what is new.
    let next = listed.body["next"].as_str().unwrap();
    let rest = get(&service, API_KEY, &format!("/v1/revocations?since={next}")).await;
    assert_eq!(rest.body, json!({"revocations": [], "next": next, "more": false}));
    let form = format!("token={other}");
    assert_eq!(service.post("/v1/revoke", FORM, form).await.status, 200);
    let rest = get(&service, API_KEY, &format!("/v1/revocations?since={next}")).await;
    assert_eq!(rest.body["revocations"].as_array().unwrap().len(), 1, "what holders revoke is there: {}", rest.text);
}

#[actix_web::test]
async fn a_registry_revokes_what_a_rule_has_granted_so_far() {
    let service = Service::start().await;
    let old = service.upload_token().await;
    service.pass(Duration::from_secs(10)).await;
    let cut = service.app.now();
    let young = service.upload_token().await;
    let body = json!({"rule": "widgets-release", "issued_before": cut.to_string()});
    assert_eq!(revoke(&service, API_KEY, &body).await.status, 200);
    assert_eq!(
        (verdict(&service, &old).await, verdict(&service, &young).await),
        ("upload-token-revoked".to_owned(), "allowed".to_owned())
    );
    assert_eq!(revoke(&service, API_KEY, &json!({"rule": "another"})).await.status, 200);
    assert_eq!(verdict(&service, &young).await, "allowed");
    assert_eq!(revoke(&service, API_KEY, &json!({"rule": "widgets-release"})).await.status, 200);
    assert_eq!(verdict(&service, &young).await, "upload-token-revoked", "without a moment: all so far");
    service.pass(Duration::from_secs(1)).await;
    assert_eq!(verdict(&service, &service.upload_token().await).await, "allowed", "and none that come after");
    let listed = get(&service, API_KEY, "/v1/revocations").await;
    let rules: Vec<_> = listed.body["revocations"].as_array().unwrap().iter().map(|entry| &entry["rule"]).collect();
    assert_eq!(rules, ["widgets-release", "another", "widgets-release"]);
}

/// A name of a token that nobody has.
fn token_id(service: &Service, number: u64) -> TokenId {
    let mut entropy = [0; 10];
    entropy[2..].copy_from_slice(&number.to_be_bytes());
    TokenId::new(service.app.now(), entropy)
}

/// Until the hour is over, by the service's clock.
fn rest_of_the_hour(service: &Service) -> String {
    (3600 - service.app.now().unix_seconds().rem_euclid(3600)).to_string()
}

#[actix_web::test]
async fn a_registry_that_has_revoked_its_share_is_told_that_nothing_was_revoked_and_takes_none_of_anothers() {
    let service = Service::with_policy(tenants).await;
    let (token, known) = (service.upload_token().await, service.upload_token().await);
    let caller = Caller { request_id: "test".to_owned(), client: None };
    let policy = service.app.policy();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    assert_eq!(revoke(&service, API_KEY, &json!({"token_id": id_of(&service, &known).await})).await.status, 200);
    for number in 1..5000 {
        let own = Own::Token(token_id(&service, number));
        service.app.revoke_own(registry, &own, &caller, service.app.now()).await.unwrap();
    }
    let id = id_of(&service, &token).await;
    for body in [json!({"token_id": id}), json!({"rule": "widgets-release"})] {
        let answer = revoke(&service, API_KEY, &body).await;
        assert_eq!((answer.status, answer.code()), (503, "revocations-exhausted"), "{}", answer.text);
        assert_eq!(answer.headers["retry-after"].to_str().unwrap(), rest_of_the_hour(&service));
        assert!(answer.body["message"].as_str().unwrap().contains("nothing was revoked"), "{}", answer.text);
        assert!(answer.body["revoked"].is_null());
    }
    assert_eq!(verdict(&service, &token).await, "allowed", "as it was told");
    // What is revoked stays so, and saying it again takes nothing.
    for number in [1, 4999] {
        let again = revoke(&service, API_KEY, &json!({"token_id": token_id(&service, number).to_string()})).await;
        assert_eq!((again.status, &again.body["revoked"]), (200, &json!(true)), "{}", again.text);
    }
    // Another registry has its own share, and so have those who hold tokens of this one.
    assert_eq!(revoke(&service, TOOLS_KEY, &json!({"token_id": id})).await.status, 200);
    assert_eq!(service.post("/v1/revoke", FORM, format!("token={token}")).await.status, 200);
    assert_eq!(verdict(&service, &token).await, "upload-token-revoked");
    let fresh = service.upload_token().await;
    service.pass(Duration::from_secs(rest_of_the_hour(&service).parse().unwrap())).await;
    let fresh = if verdict(&service, &fresh).await == "allowed" { fresh } else { service.upload_token().await };
    assert_eq!(revoke(&service, API_KEY, &json!({"token_id": id_of(&service, &fresh).await})).await.status, 200);
    assert_eq!(verdict(&service, &fresh).await, "upload-token-revoked");
}

#[actix_web::test]
async fn holders_who_revoke_without_end_take_nothing_from_registries_or_from_others_holders() {
    let service = Service::with_policy(tenants).await;
    let (token, now) = (service.upload_token().await, service.app.now());
    let until = now.plus(Duration::from_secs(3660));
    for number in 0..20_000 {
        let id = token_id(&service, number);
        service.app.state().revoke_token("acme-pypi", &id, until, (Revoker::Holders, now)).await.unwrap();
    }
    for answer in [
        service.post("/v1/revoke", FORM, format!("token={token}")).await,
        service.post_json("/_/oidc/burn-token", &json!({"token": token})).await,
    ] {
        assert_eq!((answer.status, answer.code()), (503, "revocations-exhausted"), "{}", answer.text);
        assert_eq!(answer.headers["retry-after"].to_str().unwrap(), rest_of_the_hour(&service));
    }
    assert_eq!(service.post("/v1/revoke", FORM, "token=garbage".to_owned()).await.status, 200);
    let form = format!("token={}", service.upload_token_for("files-aud").await);
    assert_eq!(service.post("/v1/revoke", FORM, form).await.status, 200);
    assert_eq!(revoke(&service, API_KEY, &json!({"token_id": id_of(&service, &token).await})).await.status, 200);
    assert_eq!(verdict(&service, &token).await, "upload-token-revoked");
}

#[actix_web::test]
async fn revocations_and_lists_are_read_strictly() {
    let service = Service::start().await;
    let future = "0f000000-0000-7000-8000-000000000000";
    for (body, words) in [
        (json!({}), "either `token_id`"),
        (json!({"token_id": "x"}), "`token_id`"),
        (json!({"token_id": future}), "still to come"),
        (json!({"token_id": future, "rule": "a"}), "either `token_id`"),
        (json!({"token_id": future, "issued_before": "2026-11-26T14:00:00Z"}), "either `token_id`"),
        (json!({"issued_before": "2026-11-26T14:00:00Z"}), "either `token_id`"),
        (json!({"rule": ""}), "`rule`"),
        (json!({"rule": "a", "issued_before": null}), "`issued_before` is null"),
        (json!({"rule": "r".repeat(257)}), "`rule`"),
        (json!({"rule": "a", "issued_before": "yesterday"}), "a time like"),
        (json!({"rule": "a", "issued_before": "2126-11-26T14:00:00Z"}), "still to come"),
        (json!({"rule": "a", "registry": "b"}), "`registry` is not a member"),
    ] {
        let answer = revoke(&service, API_KEY, &body).await;
        assert_eq!((answer.status, answer.code()), (400, "bad-request"), "{body}: {}", answer.text);
        assert!(answer.body["message"].as_str().unwrap().contains(words), "{words}: {}", answer.text);
    }
    // What is over anyway is no error and nothing to keep.
    let past = "01000000-0000-7000-8000-000000000000";
    let answer = revoke(&service, API_KEY, &json!({"token_id": past})).await;
    assert_eq!((answer.status, &answer.body["revoked"]), (200, &json!(false)), "{}", answer.text);
    assert_eq!(get(&service, API_KEY, "/v1/revocations").await.body["next"], Value::Null);
    for path in ["/v1/revocations", "/v1/refusals"] {
        for query in ["since=", "since=x", "since=1", "after=1-0", "since=1-0&since=2-0"] {
            let answer = get(&service, API_KEY, &format!("{path}?{query}")).await;
            assert_eq!((answer.status, answer.code()), (400, "bad-request"), "{query}");
        }
        assert_eq!(get(&service, "another key", path).await.code(), "bad-api-key");
        assert_eq!(service.get(path).await.status, 401);
    }
    assert_eq!(service.post_json("/v1/revocations", &json!({"rule": "a"})).await.status, 401);
    assert_eq!(service.post("/v1/introspect", FORM, "token=x").await.status, 401);
}

#[actix_web::test]
async fn a_registry_learns_whom_it_refused_and_why() {
    let service = Service::with_policy(tenants).await;
    let token = service.id_token(&json!({"environment": "staging"}));
    let refused = service.mint(&json!({"token": token})).await;
    assert_ne!(refused.status, 200);
    // A stranger's forgery is nobody's business.
    let forged = format!("{}AAAA", &token[..token.len() - 4]);
    assert_eq!(service.mint(&json!({"token": forged})).await.code(), "bad-signature");
    assert_eq!(service.mint(&json!({"token": service.id_token(&json!({}))})).await.status, 200);

    let list = async |key: &str| get(&service, key, "/v1/refusals").await;
    // It is on its way when the job has its answer.
    let mut listed = list(API_KEY).await;
    for _ in 0..1000 {
        if listed.body["next"] != Value::Null {
            break;
        }
        tokio::task::yield_now().await;
        listed = list(API_KEY).await;
    }
    let refusals = listed.body["refusals"].as_array().unwrap();
    assert_eq!(refusals.len(), 1, "{}", listed.text);
    assert_eq!(
        (&refusals[0]["code"], &refusals[0]["request_id"]),
        (&refused.body["code"], &refused.body["request_id"])
    );
    assert_eq!(refusals[0]["claims"]["environment"], "staging");
    let explanation = refusals[0]["explanation"].to_string();
    assert!(explanation.contains("widgets-release"), "the nearest rule: {explanation}");
    assert!(!listed.text.contains(&token), "no token");
    assert!(list(TOOLS_KEY).await.body["refusals"].as_array().unwrap().is_empty(), "to its own registry alone");
    let next = listed.body["next"].as_str().unwrap();
    let rest = get(&service, API_KEY, &format!("/v1/refusals?since={next}")).await;
    assert_eq!(rest.body, json!({"refusals": [], "next": next, "more": false}));
}

#[actix_web::test]
async fn a_store_that_is_down_changes_no_refusal() {
    let mut kept = None;
    let service = Service::with_store(tenants, |inner| {
        let store = std::sync::Arc::new(FaultyStore::new(inner));
        kept = Some(std::sync::Arc::clone(&store));
        store
    })
    .await;
    let store = kept.unwrap();
    // Its keys are had before.
    service.upload_token().await;
    for fault in [Fault::Refused, Fault::Full, Fault::Silent] {
        store.fail(Some(fault));
        for _ in 0..40 {
            let refused = service.mint(&json!({"token": service.id_token(&json!({"environment": "staging"}))})).await;
            assert_eq!(refused.code(), "environment-mismatch", "{fault:?}: {}", refused.text);
        }
    }
}

#[actix_web::test]
async fn introspection_calls_active_only_what_scope_and_exp_describe_whole() {
    let service = Service::with_policy(tenants).await;
    let token = service.upload_token().await;
    let now = service.app.now();
    let answer = introspect(&service, API_KEY, &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let expected = json!({
        "active": true, "scope": "create:widgets-* upload:widgets", "exp": now.unix_seconds() + 900,
        "iat": now.unix_seconds(), "jti": id_of(&service, &token).await, "aud": "acme-pypi",
        "iss": service.provider.issuer(), "token_type": "Bearer",
    });
    assert_eq!(answer.body, expected);

    let soon = now.plus(Duration::from_secs(60));
    let shorter = introspect(&service, API_KEY, &narrowed(&token, &format!("time-before {soon}"))).await;
    assert_eq!(shorter.body["exp"], soon.unix_seconds(), "a nearer end can be said");

    let inactive = json!({"active": false});
    let digest = "0".repeat(64);
    for caveat in [
        "version 1.0",
        &format!("sha256 {digest}"),
        "max-size 10",
        "uses 1",
        "ip 192.0.2.0/24",
        "registry other",
        "allow upload:widgets",
        "allow upload:gadgets",
        "unheard-of 1",
        "nonsense",
        &format!("time-before {now}"),
    ] {
        assert_eq!(introspect(&service, API_KEY, &narrowed(&token, caveat)).await.body, inactive, "{caveat}");
    }
    for token in ["garbage", "pypi-AgE", &service.id_token(&json!({}))] {
        assert_eq!(introspect(&service, API_KEY, token).await.body, inactive);
    }
    assert_eq!(introspect(&service, TOOLS_KEY, &token).await.body, inactive, "another's token");
    revoke(&service, API_KEY, &json!({"token_id": id_of(&service, &token).await})).await;
    assert_eq!(introspect(&service, API_KEY, &token).await.body, inactive, "revoked");
    let late = service.upload_token().await;
    service.pass(Duration::from_secs(900)).await;
    assert_eq!(introspect(&service, API_KEY, &late).await.body, inactive, "expired");
}

#[actix_web::test]
async fn introspection_follows_the_rules_and_fails_closed() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    service.pass(Duration::from_secs(1)).await;
    service.activate(&WIDGETS.replace("upload: [widgets]", "upload: [widgets, other]"));
    // Whether a pattern is still granted whole cannot be asked.
    assert_eq!(introspect(&service, API_KEY, &token).await.body, json!({"active": false}));
    let fresh = service.upload_token().await;
    assert_eq!(introspect(&service, API_KEY, &fresh).await.body["active"], true);
    service.clock.pass(Duration::from_secs(31));
    let answer = introspect(&service, API_KEY, &fresh).await;
    assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
    for (media, body, status) in
        [("application/json", "{}", 415), (FORM, "", 400), (FORM, "token=", 400), (FORM, "token=a&token=b", 400)]
    {
        let request = service.client.post(format!("{}/v1/introspect", service.base)).bearer_auth(API_KEY);
        let answer = Answer::of(request.header("content-type", media).body(body).send().await.unwrap()).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}
