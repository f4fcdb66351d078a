//! The store is down: what `verify_when_store_down` changes for a registry, and what it does not.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::registry::WhenStoreDown;

use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

const FORM: &str = "application/x-www-form-urlencoded";
const STALE: Duration = Duration::from_secs(31);

/// A service whose registry has this choice, and its store.
async fn service(choice: &str) -> (Service, Arc<FaultyStore>) {
    let mut kept = None;
    let service = Service::with_store(
        |base, issuer| policy(&policy_text(base, issuer, WIDGETS).replace("dialect: pypi", &chosen(choice))),
        |inner| {
            let store = Arc::new(FaultyStore::new(inner));
            kept = Some(Arc::clone(&store));
            store
        },
    )
    .await;
    (service, kept.unwrap())
}

fn chosen(choice: &str) -> String {
    format!("dialect: pypi\n    verify_when_store_down: {choice}")
}

async fn verify(service: &Service, token: &str, consume: Option<&str>) -> Answer {
    let mut question = json!({"token": token, "package": "widgets", "exists": true});
    if let Some(upload) = consume {
        question["consume"] = json!(upload);
    }
    service.verify(&question).await
}

fn counted(service: &Service) -> Option<String> {
    let text = service.app.metrics().render().unwrap();
    let line = text.lines().find(|line| line.starts_with("trustmint_verifications_by_old_lists_total{"));
    line.map(ToOwned::to_owned)
}

#[actix_web::test]
async fn a_registry_may_choose_to_go_on_by_what_was_known() {
    let (service, store) = service("accept").await;
    let (token, revoked) = (service.upload_token().await, service.upload_token().await);
    let body = json!({"token": service.id_token(&json!({})), "features": ["single-use-token"]});
    let single = service.mint(&body).await.body["token"].as_str().unwrap().to_owned();
    assert_eq!(service.post("/v1/revoke", FORM, format!("token={revoked}")).await.status, 200);
    assert_eq!(verify(&service, &token, None).await.body["allowed"], true);
    assert_eq!(counted(&service), None, "nothing is old yet");

    store.fail(Some(Fault::Refused));
    service.clock.pass(STALE);
    assert!(service.app.sync().await.is_err());
    assert_eq!(verify(&service, &token, None).await.body["allowed"], true);
    let request = service.client.post(format!("{}/v1/introspect", service.base)).bearer_auth(API_KEY);
    let request = request.header("content-type", FORM).body(format!("token={token}"));
    let introspected = Answer::of(request.send().await.unwrap()).await;
    assert_eq!((introspected.status, &introspected.body["active"]), (200, &json!(true)), "{}", introspected.text);
    assert_eq!(
        counted(&service).as_deref(),
        Some("trustmint_verifications_by_old_lists_total{registry=\"acme-pypi\"} 2")
    );
    // What was known stays known, and nothing else is loosened.
    assert_eq!(verify(&service, &revoked, None).await.code(), "upload-token-revoked");
    let spent = verify(&service, &single, Some("u")).await;
    assert_eq!((spent.status, spent.code()), (503, "store-unavailable"), "{}", spent.text);
    let minted = service.mint(&json!({"token": service.id_token(&json!({}))})).await;
    assert_eq!((minted.status, minted.code()), (503, "store-unavailable"), "{}", minted.text);
    let revocation = service.post("/v1/revoke", FORM, format!("token={token}")).await;
    assert_eq!((revocation.status, revocation.code()), (503, "store-unavailable"), "{}", revocation.text);
    let cut = verify(&service, &format!("{token}x"), None).await;
    assert_eq!(cut.body["allowed"], false, "{}", cut.text);
    assert_eq!(
        counted(&service).as_deref(),
        Some("trustmint_verifications_by_old_lists_total{registry=\"acme-pypi\"} 2")
    );

    store.fail(None);
    service.app.sync().await.unwrap();
    assert_eq!(verify(&service, &single, Some("u")).await.body["allowed"], true);
}

#[actix_web::test]
async fn a_registry_that_does_not_choose_so_is_refused_an_answer() {
    for choice in ["refuse", "accept"] {
        let (service, _store) = service(choice).await;
        let token = service.upload_token().await;
        if choice == "accept" {
            // As the policy has it now, not as it was when the token was issued.
            let text = policy_text(&service.base, service.provider.issuer(), WIDGETS);
            service.app.activate(policy(&text));
        }
        service.clock.pass(STALE);
        let answer = verify(&service, &token, None).await;
        assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
        assert_eq!(counted(&service), None);
    }
}

#[test]
fn the_choice_is_read_strictly_and_is_to_refuse_by_default() {
    let text = policy_text("https://a.example", "http://127.0.0.1:1", WIDGETS);
    let load = |text: &str| {
        let source = Source { name: "policy.yaml".into(), text: text.into() };
        let chosen = |policy: Policy| policy.registries().by_id("acme-pypi").unwrap().verify_when_store_down;
        Policy::load(&[source], &|_, _| None).map(chosen).map_err(|faults| faults.to_string())
    };
    assert_eq!(load(&text), Ok(WhenStoreDown::Refuse));
    for (choice, expected) in [("refuse", WhenStoreDown::Refuse), ("accept", WhenStoreDown::Accept)] {
        assert_eq!(load(&text.replace("dialect: pypi", &chosen(choice))), Ok(expected));
    }
    for choice in ["true", "Accept", "", "allow"] {
        let faults = load(&text.replace("dialect: pypi", &chosen(choice))).unwrap_err();
        assert!(faults.contains("verify_when_store_down"), "{faults}");
    }
}
