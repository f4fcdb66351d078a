//! Attacks on the audience, on single use and on the exchange itself (C01 to C09, C12, C13, C15), at the front door.
//! The histories of single use are in `replay.rs`, what the endpoint reads in `token_exchange.rs`.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use trustmint::identity::verify::LEEWAY;

use crate::store_contract::faulty;
use crate::store_contract::faulty::Fault;
use crate::support::Hostile;
use crate::support::Presets;
use crate::support::Service;
use crate::support::service::AUDIENCE;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;

const MINT: &str = "/_/oidc/mint-token";

async fn present(service: &Service, token: &str) -> Answer {
    service.mint(&json!({ "token": token })).await
}

/// C01.
#[actix_web::test]
async fn a_token_for_another_service_is_refused_by_this_one() {
    let hostile = Hostile::start().await;
    for aud in ["pypi", "testpypi", "acme-staging", "https://github.com/acme", "api://AzureADTokenExchange", "sigstore"]
    {
        let answer = hostile.refuses(hostile.with_claims(&json!({"aud": aud}), &[]), "wrong-audience").await;
        assert!(answer.body["message"].as_str().unwrap().contains(&format!("`{aud}`")), "{}", answer.text);
    }
    hostile.unharmed().await;
}

/// C02.
#[actix_web::test]
async fn a_token_for_several_services_is_refused_though_ours_is_among_them() {
    let hostile = Hostile::start().await;
    for aud in [
        json!([AUDIENCE, "them"]),
        json!(["them", AUDIENCE]),
        json!([AUDIENCE, AUDIENCE]),
        json!([AUDIENCE, null]),
        json!([]),
    ] {
        hostile.refuses(hostile.with_claims(&json!({"aud": aud}), &[]), "audience-list").await;
    }
    let one = hostile.with_claims(&json!({"aud": [AUDIENCE]}), &[]);
    assert_eq!(present(&hostile.service, &one).await.status, 200);
    hostile.unharmed().await;
}

/// C03.
#[actix_web::test]
async fn an_audience_that_resembles_ours_is_another() {
    let hostile = Hostile::start().await;
    for aud in [
        "ACME",
        "Acme",
        "acm",
        "acmee",
        "acme2",
        "xacme",
        "acme/",
        "acme ",
        " acme",
        "acme\n",
        "https://acme",
        "\u{430}cme",
        "acm\u{435}",
        "acme\u{200b}",
        "acme,pypi",
        "*",
        "",
    ] {
        hostile.refuses(hostile.with_claims(&json!({"aud": aud}), &[]), "wrong-audience").await;
        hostile.refuses(hostile.with_claims(&json!({"aud": [aud]}), &[]), "wrong-audience").await;
    }
    hostile.unharmed().await;
}

/// C04.
#[actix_web::test]
async fn of_two_that_present_a_token_at_once_one_gets_an_upload_token() {
    let service = Service::start().await;
    for round in 0..10 {
        let body = json!({"token": service.id_token(&json!({}))}).to_string();
        let mut posts = JoinSet::new();
        for _ in 0..2 {
            let request = service.client.post(format!("{}{MINT}", service.base)).body(body.clone());
            posts.spawn(async move { request.send().await.unwrap().status().as_u16() });
        }
        let mut statuses = posts.join_all().await;
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 422], "round {round}");
    }
}

/// C05.
#[actix_web::test]
async fn a_used_token_is_remembered_through_the_leeway_after_its_expiry() {
    let service = Service::start().await;
    let token = service.id_token(&json!({"exp": service.clock_seconds() + 60}));
    assert_eq!(present(&service, &token).await.status, 200);
    service.pass(Duration::from_secs(60)).await;
    for _ in 0..LEEWAY.as_secs() {
        assert_eq!(present(&service, &token).await.code(), "token-replayed");
        service.pass(Duration::from_secs(1)).await;
    }
    assert_eq!(present(&service, &token).await.code(), "token-expired");
}

/// C06.
#[actix_web::test]
async fn nobody_uses_a_token_up_but_the_job_that_gets_something_for_it() {
    let service = Service::with_rules(&WIDGETS.replace("environment: release", "environment: production")).await;
    let token = service.id_token(&json!({}));
    assert_eq!(present(&service, &token).await.code(), "environment-mismatch", "a refusal by the rules spends nothing");
    // Nor does a stranger who knows its `jti` and cannot sign.
    let (signing_input, _) = token.rsplit_once('.').unwrap();
    let (_, signature) =
        service.id_token(&json!({})).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(present(&service, &format!("{signing_input}.{signature}")).await.code(), "bad-signature");
    service.activate(WIDGETS);
    assert_eq!(present(&service, &token).await.status, 200);
    assert_eq!(present(&service, &token).await.code(), "token-replayed");
}

/// C07.
#[actix_web::test]
async fn an_issuer_cannot_use_up_the_ids_of_anothers_tokens() {
    let presets = Presets::start().await;
    let jti = json!({"jti": "8f0e2c1a-0001"});
    for example in ["generic/job", "github/release", "gitlab/tag-push"] {
        let mut overrides = jti.clone();
        if example == "generic/job" {
            overrides.as_object_mut().unwrap().extend([("team".into(), json!("release")), ("build".into(), json!(7))]);
        }
        assert_eq!(present(&presets.service, &presets.token(example, &overrides)).await.status, 200, "{example}");
        assert_eq!(present(&presets.service, &presets.token(example, &overrides)).await.code(), "token-replayed");
    }
}

/// C08.
#[actix_web::test]
async fn while_the_store_is_out_nothing_is_minted() {
    let (service, store) = faulty::service().await;
    let token = service.id_token(&json!({}));
    for fault in [Fault::Refused, Fault::Full, Fault::Silent] {
        store.fail(Some(fault));
        let answer = present(&service, &token).await;
        assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{fault:?}: {}", answer.text);
        assert!(answer.body.get("token").is_none(), "{}", answer.text);
    }
    store.fail(None);
    assert_eq!(present(&service, &token).await.status, 200);
}

/// C09.
#[actix_web::test]
async fn a_token_id_that_is_absent_empty_long_or_odd_opens_no_second_exchange() {
    let hostile = Hostile::start().await;
    for (number, jti) in [json!(""), json!("j".repeat(256)), json!("a b\tc"), json!("ключ"), json!("%00"), Value::Null]
        .into_iter()
        .enumerate()
    {
        let without: &[&str] = if jti.is_null() { &["jti"] } else { &[] };
        let token = hostile.with_claims(&json!({"jti": jti, "run_id": number.to_string()}), without);
        assert_eq!(present(&hostile.service, &token).await.status, 200, "{jti}");
        hostile.refuses(token, "token-replayed").await;
    }
    for jti in [json!("j".repeat(257)), json!(7), json!(null), json!(["a"]), json!({"a": 1}), json!(true)] {
        hostile.refuses(hostile.with_claims(&json!({"jti": jti}), &[]), "claim-type").await;
    }
    hostile.refuses(hostile.with_claims(&json!({"jti": "a\0b"}), &[]), "token-malformed").await;
    hostile.unharmed().await;
}

/// C12.
#[actix_web::test]
async fn a_browser_is_told_nothing_that_lets_another_site_read_the_answer() {
    let service = Service::start().await;
    for path in [MINT, "/v1/token", "/v1/revoke", "/v1/verify", "/_/oidc/audience"] {
        let url = format!("{}{path}", service.base);
        let preflight = service.client.request("OPTIONS".parse().unwrap(), &url);
        let preflight = preflight
            .header("origin", "https://evil.example")
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type");
        let answer = Answer::of(preflight.send().await.unwrap()).await;
        assert_eq!((answer.status, answer.code()), (405, "method-not-allowed"), "{path}: {}", answer.text);
        let post = service.client.post(&url).header("origin", "https://evil.example").body("{}");
        for answer in [answer, Answer::of(post.send().await.unwrap()).await] {
            for header in ["access-control-allow-origin", "access-control-allow-credentials", "set-cookie"] {
                assert!(!answer.headers.contains_key(header), "{path}: {header}");
            }
        }
    }
}

/// C13.
#[actix_web::test]
async fn an_answer_does_not_tell_which_rules_and_packages_exist() {
    let hostile = Hostile::start().await;
    let said = |answer: &Answer| answer.text.replace(answer.headers["x-request-id"].to_str().unwrap(), "");
    // A proven token of somebody else's project: as if there were no rules at all.
    let stranger = json!({"repository_id": "1", "repository_owner_id": "2", "repository": "mallory/x", "jti": "7f1c"});
    let token = hostile.service.id_token(&stranger);
    let about_others = hostile.refuses(token.clone(), "no-matching-rule").await;
    let other = WIDGETS.replace("701234567", "99").replace("9123456", "98").replace("widgets", "gadgets");
    hostile.service.activate(&other);
    assert_eq!(said(&hostile.refuses(token, "no-matching-rule").await), said(&about_others));
    for secret in ["widgets", "gadgets", "701234567", "9123456"] {
        assert!(!about_others.text.contains(secret), "{secret}: {}", about_others.text);
    }
}

/// C15.
#[actix_web::test]
async fn a_token_is_read_from_the_body_only_and_an_answer_with_one_is_not_stored() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    for path in [MINT, "/v1/token"] {
        let answer = service.get(&format!("{path}?token={token}&subject_token={token}")).await;
        assert_eq!((answer.status, answer.code()), (405, "method-not-allowed"), "{}", answer.text);
        assert!(!answer.text.contains(&token), "{}", answer.text);
    }
    let answer = service.post(&format!("{MINT}?token={token}"), "application/json", "{}").await;
    assert_eq!((answer.status, answer.code()), (422, "token-missing"), "{}", answer.text);
    let bearer = service.client.post(format!("{}{MINT}", service.base)).bearer_auth(&token).body("{}");
    assert_eq!(Answer::of(bearer.send().await.unwrap()).await.code(), "token-missing");
    let audit = Value::Array(service.audit()).to_string();
    let tail = &token[token.len() - 40..];
    assert!(!audit.contains(tail) && !service.app.metrics().render().unwrap().contains(tail));
    let answer = present(&service, &token).await;
    assert_eq!(answer.status, 200, "it was not used: {}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
}
