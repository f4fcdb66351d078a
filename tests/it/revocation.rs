//! `POST /v1/revoke`: token revocation (RFC 7009), and what it costs.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::json;
use trustmint::app::Caller;
use trustmint::app::Own;
use trustmint::state::Cursor;
use trustmint::state::ListBounds;
use trustmint::state::Reserved;
use trustmint::state::SetOnce;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::time::Timestamp;

use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::tenants::narrowed;
use crate::support::tenants::tenants;

const FORM: &str = "application/x-www-form-urlencoded";

/// Counts what is written.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Store>,
    writes: Arc<AtomicUsize>,
}

#[async_trait]
impl Store for Counting {
    async fn set_once(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<SetOnce, StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.set_once(key, value, until).await
    }

    async fn reserve(
        &self,
        key: &[u8],
        member: &[u8],
        value: &[u8],
        limit: u32,
        until: Timestamp,
    ) -> Result<Reserved, StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.reserve(key, member, value, limit, until).await
    }

    async fn put(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.put(key, value, until).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.inner.get(key).await
    }

    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.add(key, amount, until).await
    }

    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.inner.append(list, entry, bounds).await
    }

    async fn since(
        &self,
        list: &str,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError> {
        self.inner.since(list, cursor, limit).await
    }

    async fn remembers_since(&self) -> Result<Timestamp, StoreError> {
        self.inner.remembers_since().await
    }
}

async fn counted() -> (Service, Arc<AtomicUsize>) {
    let writes = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&writes);
    let service = Service::with_store(tenants, |inner| Arc::new(Counting { inner, writes: count })).await;
    (service, writes)
}

async fn faulty() -> (Service, Arc<FaultyStore>) {
    let mut kept = None;
    let service = Service::with_store(tenants, |inner| {
        let store = Arc::new(FaultyStore::new(inner));
        kept = Some(Arc::clone(&store));
        store
    })
    .await;
    (service, kept.unwrap())
}

async fn revoke(service: &Service, token: &str) -> Answer {
    service.post("/v1/revoke", FORM, format!("token={token}&token_type_hint=access_token")).await
}

async fn verify(service: &Service, token: &str) -> Answer {
    service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await
}

#[actix_web::test]
async fn a_revoked_token_is_refused_at_once() {
    let (service, writes) = counted().await;
    let token = service.upload_token().await;
    let other = service.upload_token().await;
    assert_eq!(verify(&service, &token).await.body["allowed"], true);
    let before = writes.load(Ordering::SeqCst);
    for _ in 0..3 {
        let answer = revoke(&service, &token).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""));
        assert_eq!(answer.headers["cache-control"], "no-store");
        let answer = verify(&service, &token).await;
        assert_eq!((answer.status, answer.code()), (200, "upload-token-revoked"), "{}", answer.text);
    }
    assert_eq!(
        writes.load(Ordering::SeqCst) - before,
        2,
        "once for the list and its share; revoking again writes nothing"
    );
    assert_eq!(verify(&service, &other).await.body["allowed"], true, "only the one");
}

#[actix_web::test]
async fn a_narrowed_copy_revokes_its_original() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let copy = narrowed(&token, "version 1.0");
    assert_eq!(revoke(&service, &copy).await.status, 200);
    for token in [token.clone(), copy, narrowed(&token, "max-size 10")] {
        assert_eq!(verify(&service, &token).await.code(), "upload-token-revoked");
    }
}

#[actix_web::test]
async fn revoking_a_copy_that_ends_soon_ends_the_original_for_good() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let soon = format!("time-before {}", service.app.now().plus(Duration::from_secs(1)));
    assert_eq!(revoke(&service, &narrowed(&token, &soon)).await.status, 200);
    for _ in 0..14 {
        service.pass(Duration::from_secs(60)).await;
        assert_eq!(verify(&service, &token).await.code(), "upload-token-revoked");
    }
}

#[actix_web::test]
async fn what_is_no_live_token_of_this_host_writes_nothing() {
    let (service, writes) = counted().await;
    let expired = service.upload_token().await;
    let live = service.upload_token().await;
    let past = narrowed(&live, &format!("time-before {}", service.app.now()));
    service.pass(Duration::from_secs(3700)).await;
    let fresh = service.upload_token().await;
    let (head, tail) = fresh.split_at(fresh.len() - 4);
    let forged = format!("{head}{}", tail.chars().rev().collect::<String>());
    let id_token = service.id_token(&json!({}));
    let long = "x".repeat(20_000);
    let foreign = {
        let other = Service::start().await;
        other.upload_token().await
    };
    let before = writes.load(Ordering::SeqCst);
    for token in ["garbage", "pypi-", "pypi-AgE", "%00", &expired, &past, &forged, &id_token, &long, &foreign] {
        let answer = revoke(&service, token).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{token}");
    }
    assert_eq!(writes.load(Ordering::SeqCst), before);
    assert_eq!(verify(&service, &fresh).await.body["allowed"], true);
    assert!(service.audit().iter().all(|event| event["event"] != "revoke"), "nothing was revoked, nothing is recorded");
}

#[actix_web::test]
async fn the_form_is_read_as_the_rfc_says() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    for (media, body, status, code) in [
        (FORM, String::new(), 400, "bad-request"),
        (FORM, "token=".to_owned(), 400, "bad-request"),
        (FORM, "token_type_hint=access_token".to_owned(), 400, "bad-request"),
        (FORM, format!("token={token}&token={token}"), 400, "bad-request"),
        (FORM, format!("token={token}&%74oken=x"), 400, "bad-request"),
        (FORM, format!("token={}", "x".repeat(33 * 1024)), 413, "too-large"),
        ("application/json", json!({"token": token}).to_string(), 415, "unsupported-media-type"),
        ("text/plain", format!("token={token}"), 415, "unsupported-media-type"),
    ] {
        let answer = service.post("/v1/revoke", media, body).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.text);
        assert_eq!(answer.body["error"], "invalid_request");
    }
    assert_eq!(verify(&service, &token).await.body["allowed"], true);
    let hinted = format!("token_type_hint=unheard-of&unknown=1&token={token}");
    assert_eq!(service.post("/v1/revoke", &format!("{FORM};charset=UTF-8"), hinted).await.status, 200);
    assert_eq!(verify(&service, &token).await.code(), "upload-token-revoked");
}

#[actix_web::test]
async fn a_token_of_any_registry_of_the_host_can_be_revoked() {
    let service = Service::with_policy(tenants).await;
    assert_eq!(revoke(&service, &service.upload_token_for("files-aud").await).await.status, 200);
    let event = service.last_event();
    assert_eq!((&event["event"], &event["registry"]), (&json!("revoke"), &json!("files")));
}

#[actix_web::test]
async fn a_store_that_fails_is_no_success() {
    let (service, store) = faulty().await;
    let token = service.upload_token().await;
    for fault in [Fault::Refused, Fault::Full] {
        store.fail(Some(fault));
        let body = json!({"token": token});
        for answer in [revoke(&service, &token).await, service.post_json("/_/oidc/burn-token", &body).await] {
            assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
            assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0);
        }
        // Without anything to write there is nothing to fail.
        assert_eq!(revoke(&service, "garbage").await.status, 200);
    }
    store.fail(None);
    assert_eq!(verify(&service, &token).await.body["allowed"], true);
    assert_eq!(revoke(&service, &token).await.status, 200);
    assert_eq!(verify(&service, &token).await.code(), "upload-token-revoked");
}

/// The records of revocations: how each ended, and what it was about.
fn recorded(service: &Service) -> Vec<(Value, Value, Value)> {
    let events = service.audit().into_iter().filter(|event| event["event"] == "revoke");
    let about = |event: &Value| if event["token_id"].is_null() { &event["rules"] } else { &event["token_id"] }.clone();
    events.map(|event| (event["decision"].clone(), event["code"].clone(), about(&event))).collect()
}

#[actix_web::test]
async fn a_revocation_whose_answer_was_lost_is_recorded_as_one_that_may_hold() {
    let (service, store) = faulty().await;
    let held = service.upload_token().await;
    let held_id = service.last_event()["token_id"].clone();
    let own = service.upload_token().await;
    let own_id = service.last_event()["token_id"].clone();
    let owned = async |body: Value| {
        let request = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
        Answer::of(request.body(body.to_string()).send().await.unwrap()).await
    };
    let rule = json!({"rule": "another-rule"});
    store.fail(Some(Fault::EntryLost));
    let answers = [revoke(&service, &held).await, owned(json!({"token_id": own_id})).await, owned(rule.clone()).await];
    for answer in answers {
        assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
        assert!(answer.text.contains("the revocation may hold all the same"), "{}", answer.text);
    }
    let lost = |about: Value| (json!("fault"), json!("store-unavailable"), about);
    let expected = [lost(held_id.clone()), lost(own_id.clone()), lost(json!(["another-rule"]))];
    assert_eq!(recorded(&service), expected);
    for event in service.audit().iter().filter(|event| event["event"] == "revoke") {
        assert_eq!((&event["class"], &event["registry"]), (&json!("unavailable"), &json!("acme-pypi")));
    }

    // They hold, as the list says, and nobody else is recorded for it.
    store.fail(None);
    service.app.sync().await.unwrap();
    for token in [&held, &own] {
        assert_eq!(verify(&service, token).await.code(), "upload-token-revoked");
        assert_eq!(revoke(&service, token).await.status, 200);
    }
    assert_eq!(recorded(&service), expected);
}

#[actix_web::test]
async fn a_revocation_that_surely_does_not_hold_is_told_so_and_not_recorded() {
    let (service, store) = faulty().await;
    let token = service.upload_token().await;
    let owned = async |body: Value| {
        let request = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
        Answer::of(request.body(body.to_string()).send().await.unwrap()).await
    };
    for (fault, words) in [(Fault::Full, "has no room"), (Fault::NotAsked, "does not answer")] {
        store.fail(Some(fault));
        for answer in [revoke(&service, &token).await, owned(json!({"rule": "widgets-release"})).await] {
            assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
            assert!(answer.text.contains("nothing was revoked") && answer.text.contains(words), "{}", answer.text);
        }
        assert_eq!(recorded(&service), [], "{fault:?}");
        store.fail(None);
        service.app.sync().await.unwrap();
        assert_eq!(verify(&service, &token).await.body["allowed"], true, "{fault:?}");
    }
}

#[actix_web::test]
async fn a_revocation_that_is_cut_off_while_it_waits_for_the_store_is_recorded_once() {
    let (service, store) = faulty().await;
    let token = service.upload_token().await;
    let token_id = service.last_event()["token_id"].clone();
    let policy = service.app.policy();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let registries = [&**registry];
    let caller = Caller { request_id: "019ac0de-0000-7000-8000-000000000000".to_owned(), client: None };
    let now = service.app.now();
    let own = Own::Rule { rule: "another-rule".to_owned(), issued_before: now };
    store.fail(Some(Fault::Held));
    {
        // What a thread of the server does that ends.
        let mut held = pin!(service.app.revoke(&registries, &token, &caller, now));
        let mut owned = pin!(service.app.revoke_own(registry, &own, &caller, now));
        poll_fn(|context| {
            assert!(held.as_mut().poll(context).is_pending() && owned.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        assert_eq!(recorded(&service), [], "they may still be answered");
    }
    let cut_off = |about: Value| (json!("fault"), json!("store-unavailable"), about);
    let mut expected = vec![cut_off(json!(["another-rule"])), cut_off(token_id.clone())];
    assert_eq!(recorded(&service), expected);
    let counted = service.app.metrics().render().unwrap();
    assert!(counted.contains("trustmint_revocations_total{code=\"store-unavailable\"} 2"), "{counted}");

    store.fail(Some(Fault::Panics));
    assert_eq!(revoke(&service, &token).await.code(), "internal");
    expected.push((json!("fault"), json!("internal"), token_id.clone()));
    assert_eq!(recorded(&service), expected, "a defect may have revoked it");
    store.fail(None);
    assert_eq!(revoke(&service, &token).await.status, 200);
    expected.push((json!("allow"), json!("ok"), token_id));
    assert_eq!(recorded(&service), expected);
    drop(service.app.revoke(&registries, &token, &caller, now));
    assert_eq!(recorded(&service), expected, "what has not begun has changed nothing");
}

#[actix_web::test]
async fn while_the_store_is_down_holders_cannot_fill_the_audit_log_and_strangers_write_nothing_into_it() {
    let (service, store) = faulty().await;
    let old = service.upload_token().await;
    service.pass(Duration::from_secs(3700)).await;
    let token = service.upload_token().await;
    let token_id = service.last_event()["token_id"].clone();
    let (head, tail) = token.split_at(token.len() - 4);
    let forged = format!("{head}{}", tail.chars().rev().collect::<String>());
    store.fail(Some(Fault::Refused));
    for token in ["garbage", &forged, &old] {
        assert_eq!(revoke(&service, token).await.status, 200);
    }
    assert_eq!(recorded(&service), []);

    let policy = service.app.policy();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let caller = Caller { request_id: "019ac0de-0000-7000-8000-000000000000".to_owned(), client: None };
    for _ in 0..2050 {
        let now = service.app.now();
        assert!(service.app.revoke(&[registry], &token, &caller, now).await.is_err());
    }
    let metrics = service.app.metrics().render().unwrap();
    let suppressed = metrics.lines().find_map(|line| line.strip_prefix("trustmint_audit_suppressed_total "));
    assert_eq!(suppressed, Some("50"), "beyond the pace they are counted only");
    // Of the registry itself each is recorded.
    let before = recorded(&service).len();
    let request = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
    let own = Answer::of(request.body(json!({"token_id": token_id}).to_string()).send().await.unwrap()).await;
    assert_eq!(own.status, 503, "{}", own.text);
    assert_eq!(recorded(&service).len(), before + 1);
}

#[actix_web::test]
async fn a_revocation_beyond_the_share_changes_nothing_and_is_not_recorded() {
    let (service, store) = faulty().await;
    let token = service.upload_token().await;
    let key_id = service.app.policy().registries().by_id("acme-pypi").unwrap().key_id.clone();
    let hour = service.clock_seconds().div_euclid(3600);
    let used = format!("revocations-by:holders:{key_id}:{hour}");
    store.add(used.as_bytes(), 20_000, service.app.now().plus(Duration::from_secs(3600))).await.unwrap();
    let refused = revoke(&service, &token).await;
    assert_eq!(refused.code(), "revocations-exhausted", "{}", refused.text);
    assert_eq!(recorded(&service), []);
}

#[actix_web::test]
async fn an_old_list_of_revocations_answers_503_until_it_is_fresh_again() {
    let (service, store) = faulty().await;
    let token = service.upload_token().await;
    store.fail(Some(Fault::Refused));
    service.clock.pass(Duration::from_secs(30));
    assert!(service.app.sync().await.is_err());
    assert_eq!(verify(&service, &token).await.body["allowed"], true, "30 s old is young enough");
    service.clock.pass(Duration::from_secs(1));
    let answer = verify(&service, &token).await;
    assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
    assert!(answer.headers.contains_key("retry-after"));
    assert!(answer.body["allowed"].is_null());
    store.fail(None);
    service.app.sync().await.unwrap();
    assert_eq!(verify(&service, &token).await.body["allowed"], true);
}
