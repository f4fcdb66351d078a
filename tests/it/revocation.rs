//! `POST /v1/revoke`: token revocation (RFC 7009), and what it costs.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
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
