//! What a registry may have a minute: its jobs' upload tokens, and its own calls.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::policy::Policy;

use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::TOOLS_KEY;
use crate::support::tenants::tenants_with;

/// A service whose one registry has these limits.
async fn limited(limits: &str) -> Service {
    Service::with_policy(|base, issuer| limited_policy(base, issuer, limits)).await
}

fn limited_policy(base: &str, issuer: &str, limits: &str) -> Policy {
    let text = policy_text(base, issuer, WIDGETS);
    policy(&text.replacen("    audiences:", &format!("    limits: {limits}\n    audiences:"), 1))
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

async fn mint(service: &Service, token: &str) -> Answer {
    service.mint(&json!({"token": token})).await
}

fn fresh(service: &Service) -> String {
    service.id_token(&json!({}))
}

async fn ask(service: &Service, key: &str, path: &str) -> Answer {
    Answer::of(service.client.get(format!("{}{path}", service.base)).bearer_auth(key).send().await.unwrap()).await
}

#[actix_web::test]
async fn a_registrys_jobs_get_as_many_upload_tokens_as_it_may_have_and_more_as_time_passes() {
    let service = limited("{exchanges_per_minute: 3}").await;
    for (left, full_in) in [(2, 20), (1, 40), (0, 60)] {
        let answer = mint(&service, &fresh(&service)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(header(&answer, "ratelimit-policy"), Some("\"exchanges\";q=3;w=60"));
        assert_eq!(header(&answer, "ratelimit"), Some(format!("\"exchanges\";r={left};t={full_in}").as_str()));
    }
    let waiting = fresh(&service);
    for answer in [mint(&service, &waiting).await, mint(&service, &waiting).await] {
        assert_eq!((answer.status, answer.code()), (429, "rate-limited"), "{}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(header(&answer, "retry-after"), Some("20"));
        assert_eq!(header(&answer, "ratelimit-policy"), Some("\"exchanges\";q=3;w=60"));
        assert_eq!(header(&answer, "ratelimit"), Some("\"exchanges\";r=0;t=60"));
    }
    let form = format!(
        "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token_type=urn:ietf:params:oauth:token-type:jwt&\
         subject_token={waiting}"
    );
    let oauth = service.post("/v1/token", "application/x-www-form-urlencoded", form).await;
    assert_eq!((oauth.status, &oauth.body["error"]), (429, &json!("temporarily_unavailable")), "{}", oauth.text);
    let text = service.app.metrics().render().unwrap();
    let counted = "trustmint_rate_limited_total{allowance=\"exchanges\",registry=\"acme-pypi\"} 3";
    assert!(text.contains(counted), "{text}");

    // The refused ID token was not used up: the job sends it again when it is told to.
    service.clock.pass(Duration::from_secs(20));
    assert_eq!(mint(&service, &waiting).await.status, 200);
    assert_eq!(mint(&service, &fresh(&service)).await.status, 429);
    service.clock.pass(Duration::from_secs(600));
    let rush: Vec<u16> = {
        let mut statuses = Vec::new();
        for _ in 0..5 {
            statuses.push(mint(&service, &fresh(&service)).await.status);
        }
        statuses
    };
    assert_eq!(rush, [200, 200, 200, 429, 429], "an allowance is no more than a minute's, however long nobody asked");
}

#[actix_web::test]
async fn strangers_and_failures_take_nothing_from_a_registrys_jobs() {
    let service = limited("{exchanges_per_minute: 2}").await;
    let used = fresh(&service);
    assert_eq!(mint(&service, &used).await.status, 200);
    let stranger = json!({"repository_id": "1", "repository_owner_id": "2", "repository": "mallory/widgets"});
    for _ in 0..5 {
        for token in [
            // Not proven; proven and a stranger's; proven and this project's, but not what its rule wants; used before.
            "e30.e30.e30".to_owned(),
            format!("{}x", fresh(&service)),
            service.id_token(&stranger),
            service.id_token(&json!({"environment": "staging"})),
            used.clone(),
        ] {
            let answer = mint(&service, &token).await;
            assert_eq!(answer.status, 422, "{}", answer.text);
            assert_eq!(header(&answer, "ratelimit"), None, "strangers are not told how busy a registry is");
        }
        // Nor does who has no key take from what the registry may ask.
        assert_eq!(ask(&service, "guessed", "/v1/refusals").await.status, 401);
    }
    let last = mint(&service, &fresh(&service)).await;
    assert_eq!((last.status, header(&last, "ratelimit")), (200, Some("\"exchanges\";r=0;t=60")), "{}", last.text);
    let calls = ask(&service, API_KEY, "/v1/refusals").await;
    assert_eq!(header(&calls, "ratelimit"), Some("\"calls\";r=119999;t=1"));
}

#[actix_web::test]
async fn a_registrys_own_calls_have_an_allowance_whichever_they_are() {
    let service = limited("{calls_per_minute: 4}").await;
    let token = service.upload_token().await;
    let question = json!({"token": token, "package": "widgets", "exists": true});
    let first = service.verify(&question).await;
    assert_eq!((first.status, &first.body["allowed"]), (200, &json!(true)));
    assert_eq!(header(&first, "ratelimit"), Some("\"calls\";r=3;t=15"));
    assert_eq!(header(&ask(&service, API_KEY, "/v1/revocations").await, "ratelimit"), Some("\"calls\";r=2;t=30"));
    // One that is refused counts as well, and says how it stands.
    let refused = service.verify(&json!({})).await;
    assert_eq!((refused.status, header(&refused, "ratelimit")), (400, Some("\"calls\";r=1;t=45")));
    let of_proxy = service.client.get(format!("{}/v1/authorize", service.base)).header("x-trustmint-key", API_KEY);
    let of_proxy = Answer::of(of_proxy.send().await.unwrap()).await;
    assert_eq!((of_proxy.status, header(&of_proxy, "ratelimit")), (403, Some("\"calls\";r=0;t=60")));

    let over = service.verify(&question).await;
    assert_eq!((over.status, over.code(), header(&over, "retry-after")), (429, "rate-limited", Some("15")));
    assert_eq!(header(&over, "ratelimit"), Some("\"calls\";r=0;t=60"));
    let of_proxy = service.client.get(format!("{}/v1/authorize", service.base)).header("x-trustmint-key", API_KEY);
    let of_proxy = Answer::of(of_proxy.send().await.unwrap()).await;
    // A proxy lets nothing through at this status.
    assert_eq!((of_proxy.status, header(&of_proxy, "x-trustmint-code")), (503, Some("rate-limited")));
    assert_eq!(header(&of_proxy, "retry-after"), Some("15"));
    // Nor can whoever caused all that keep it from revoking.
    let id = first.body["token"]["id"].as_str().unwrap();
    for _ in 0..5 {
        let revoking = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
        let revoked = Answer::of(revoking.body(json!({"token_id": id}).to_string()).send().await.unwrap()).await;
        assert_eq!((revoked.status, header(&revoked, "ratelimit")), (200, None), "{}", revoked.text);
    }
    // Its jobs are not held up by it.
    assert!(!service.upload_token().await.is_empty());

    service.clock.pass(Duration::from_secs(15));
    assert_eq!(
        (service.verify(&question).await.code(), service.verify(&question).await.status),
        ("upload-token-revoked", 429)
    );
}

#[actix_web::test]
async fn one_registrys_allowance_is_no_others() {
    let members = ", limits: {exchanges_per_minute: 1, calls_per_minute: 1}";
    let service = Service::with_policy(|base, issuer| tenants_with(base, issuer, members)).await;
    let exchange = async |audience: &str| {
        let token = service.id_token(&json!({"aud": audience}));
        service.exchange(&token, &json!({"audience": audience})).await.status
    };
    assert_eq!((exchange("tools-aud").await, exchange("tools-aud").await), (200, 429));
    assert_eq!((exchange("files-aud").await, exchange("acme").await, exchange("acme").await), (200, 200, 200));
    let statuses = async |key: &str| {
        (ask(&service, key, "/v1/revocations").await.status, ask(&service, key, "/v1/revocations").await.status)
    };
    assert_eq!(statuses(TOOLS_KEY).await, (200, 429));
    assert_eq!(statuses(API_KEY).await, (200, 200));
}

#[actix_web::test]
async fn without_a_limit_in_the_policy_a_rush_of_releases_passes() {
    let service = Service::start().await;
    let answer = mint(&service, &fresh(&service)).await;
    assert_eq!(header(&answer, "ratelimit-policy"), Some("\"exchanges\";q=6000;w=60"));
    for _ in 0..100 {
        assert_eq!(mint(&service, &fresh(&service)).await.status, 200);
    }
}

#[actix_web::test]
async fn a_limit_that_a_reload_changes_holds_from_then_on() {
    let service = limited("{exchanges_per_minute: 1}").await;
    assert_eq!(mint(&service, &fresh(&service)).await.status, 200);
    assert_eq!(mint(&service, &fresh(&service)).await.status, 429);
    service.app.activate(limited_policy(&service.base, service.provider.issuer(), "{exchanges_per_minute: 60}"));
    service.clock.pass(Duration::from_secs(1));
    let answer = mint(&service, &fresh(&service)).await;
    assert_eq!((answer.status, header(&answer, "ratelimit-policy")), (200, Some("\"exchanges\";q=60;w=60")));
}

#[actix_web::test]
async fn what_fails_for_want_of_the_store_is_given_back() {
    let mut faulty = None;
    let service = Service::with_store(
        |base, issuer| limited_policy(base, issuer, "{exchanges_per_minute: 1}"),
        |inner| {
            let store = Arc::new(FaultyStore::new(inner));
            faulty = Some(Arc::clone(&store));
            store
        },
    )
    .await;
    let faulty = faulty.unwrap();
    faulty.fail(Some(Fault::Refused));
    let token = fresh(&service);
    for _ in 0..3 {
        assert_eq!(mint(&service, &token).await.code(), "store-unavailable");
    }
    faulty.fail(None);
    assert_eq!(mint(&service, &fresh(&service)).await.status, 200);
    let events: Vec<Value> = service.audit();
    assert!(events.iter().all(|event| event["code"] != "rate-limited"), "{events:?}");
}
