//! PyPI's dialect: PEP 807, and the paths that uv, twine, pdm and maturin call today.

use serde_json::Value;
use serde_json::json;

use crate::support::Service;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::tenants;

const MEDIA_TYPE: &str = "application/vnd.pypi.pytp.v1+json";

async fn discover(service: &Service, query: &str, accept: Option<&str>) -> Answer {
    let mut sent = service.client.get(format!("{}/.well-known/pytp{query}", service.base));
    if let Some(accept) = accept {
        sent = sent.header("accept", accept);
    }
    Answer::of(sent.send().await.unwrap()).await
}

/// RFC 9457, which PEP 807 demands, and the members that clients read today.
#[track_caller]
fn problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let message = &answer.body["message"];
    assert_eq!((&answer.body["status"], &answer.body["detail"]), (&json!(status), message));
    assert!(answer.body["type"].is_string() && answer.body["title"].is_string());
    assert_eq!(answer.body["errors"][0]["code"], code);
    assert_eq!(&answer.body["errors"][0]["description"], message);
}

#[actix_web::test]
async fn discovery_leads_to_endpoints_on_the_same_host() {
    let service = Service::start().await;
    for accept in [None, Some(MEDIA_TYPE), Some("*/*"), Some("application/*;q=0.5"), Some("text/html, */*")] {
        let answer = discover(&service, "?discover=%2Flegacy%2F", accept).await;
        assert_eq!(answer.status, 200, "{accept:?}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], MEDIA_TYPE);
        let base = &service.base;
        let expected = json!({
            "audience-endpoint": format!("{base}/_/oidc/audience"),
            "token-mint-endpoint": format!("{base}/_/oidc/mint-token"),
            "features": ["single-use-token", "multi-use-token"],
            "default-features": ["multi-use-token"],
        });
        assert_eq!(answer.body, expected);
    }
    assert_eq!(discover(&service, "?discover=/legacy/", None).await.status, 200, "the slashes may stand as they are");
}

#[actix_web::test]
async fn discovery_of_anything_else_is_a_problem() {
    let service = Service::start().await;
    for path in ["%2F", "%2Flegacy", "%2Flegacy%2F%2F", "%252Flegacy%252F", "%2FLEGACY%2F", "", "%2Flegacy%2F%00"] {
        problem(&discover(&service, &format!("?discover={path}"), None).await, 404, "not-found");
    }
    problem(&discover(&service, "", None).await, 422, "bad-request");
    problem(&discover(&service, "?discover=%2Flegacy%2F&discover=%2F", None).await, 422, "bad-request");
    problem(&discover(&service, "?discover=%ff", None).await, 422, "bad-request");
    for accept in ["application/json", "text/html", "application/vnd.pypi.pytp.v2+json", ""] {
        problem(&discover(&service, "?discover=%2Flegacy%2F", Some(accept)).await, 406, "not-acceptable");
    }
}

#[actix_web::test]
async fn discovery_never_leads_to_another_host() {
    let service = Service::with_policy(|base, issuer| {
        let text = policy_text(base, issuer, WIDGETS);
        policy(&text.replace("urls: [", "urls: [\"https://pypi.acme.example/simple/\", "))
    })
    .await;
    assert_eq!(discover(&service, "?discover=%2Flegacy%2F", None).await.status, 200);
    problem(&discover(&service, "?discover=%2Fsimple%2F", None).await, 404, "not-found");
}

#[actix_web::test]
async fn the_audience_is_the_registrys_first() {
    let service = Service::start().await;
    let answer = service.get("/_/oidc/audience").await;
    assert_eq!((answer.status, &answer.body), (200, &json!({"audience": "acme"})));
    let text = policy_text(&service.base, service.provider.issuer(), WIDGETS);
    service.app.activate(policy(&text.replace("dialect: pypi", "dialect: pypi\n    enabled: false")));
    // By 403 clients know that trusted publishing is switched off.
    problem(&service.get("/_/oidc/audience").await, 403, "registry-disabled");
    problem(&service.mint(&json!({"token": service.id_token(&json!({}))})).await, 403, "registry-disabled");
}

#[actix_web::test]
async fn a_host_without_such_a_registry_does_not_speak_the_protocol() {
    let service = Service::with_policy(|base, issuer| {
        policy(&policy_text(base, issuer, WIDGETS).replace("dialect: pypi", "dialect: generic"))
    })
    .await;
    problem(&service.get("/_/oidc/audience").await, 404, "not-found");
    problem(&service.mint(&json!({"token": "x"})).await, 404, "not-found");
    let foreign = service.client.get(format!("{}/_/oidc/audience", service.base)).header("host", "pypi.acme.example");
    problem(&Answer::of(foreign.send().await.unwrap()).await, 421, "unknown-host");
}

#[actix_web::test]
async fn minting_works_on_both_paths_whatever_the_content_type() {
    let service = Service::start().await;
    for path in ["/_/oidc/mint-token", "/_/oidc/github/mint-token"] {
        for content_type in ["application/json", "application/x-www-form-urlencoded", "text/plain"] {
            let body = json!({"token": service.id_token(&json!({})), "extra": [1]});
            let answer = service.post(path, content_type, body.to_string()).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            assert_eq!(answer.headers["cache-control"], "no-store");
            assert_eq!(answer.body["success"], true);
            assert_eq!(answer.body["expires"], service.clock_seconds() + 900);
            assert!(answer.body["token"].as_str().unwrap().starts_with("pypi-"));
        }
    }
    let untyped = service.client.post(format!("{}/_/oidc/mint-token", service.base));
    let body = json!({"token": service.id_token(&json!({}))});
    assert_eq!(untyped.body(body.to_string()).send().await.unwrap().status(), 200);
}

#[actix_web::test]
async fn features_make_a_token_single_or_multi_use() {
    let service = Service::start().await;
    let minted = async |features: Value| {
        service.mint(&json!({"token": service.id_token(&json!({})), "features": features})).await
    };
    let twice = async |token: &Value| {
        let mut answers = Vec::new();
        for upload in ["u1", "u2"] {
            let question = json!({"token": token, "package": "widgets", "exists": true, "consume": upload});
            answers.push(service.verify(&question).await.body["allowed"] == true);
        }
        answers
    };
    for features in [json!(null), json!([]), json!(["multi-use-token"])] {
        let answer = minted(features).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(twice(&answer.body["token"]).await, [true, true]);
    }
    for features in [json!(["single-use-token"]), json!(["single-use-token", "single-use-token"])] {
        let single = minted(features).await;
        assert_eq!(single.status, 200, "{}", single.text);
        assert_eq!(twice(&single.body["token"]).await, [true, false]);
    }
    for features in [
        json!(["write-only-token"]),
        json!(["single-use-token", "multi-use-token"]),
        json!(["single-use-token", 1]),
        json!("single-use-token"),
        json!({"single-use-token": true}),
    ] {
        problem(&minted(features).await, 422, "bad-request");
    }
    let unknown = minted(json!(["write-only-token"])).await;
    assert!(unknown.body["message"].as_str().unwrap().contains("write-only-token"), "{}", unknown.text);
}

#[actix_web::test]
async fn refusals_are_problems_with_the_members_that_clients_read() {
    let service = Service::start().await;
    for (body, code) in [
        ("", "bad-request"),
        ("[]", "bad-request"),
        (r#"{"token":1}"#, "bad-request"),
        (r#"{"token":null}"#, "bad-request"),
        (r#"{"token":"a","token":"b"}"#, "bad-request"),
        ("{}", "token-missing"),
        (r#"{"token":""}"#, "token-missing"),
        (r#"{"token":"a.b.c"}"#, "token-malformed"),
    ] {
        problem(&service.post("/_/oidc/mint-token", "application/json", body).await, 422, code);
    }
    let refused = service.mint(&json!({"token": service.id_token(&json!({"environment": "x"}))})).await;
    problem(&refused, 422, "environment-mismatch");
    let large = json!({"token": "x".repeat(33 * 1024)});
    problem(&service.mint(&large).await, 413, "too-large");
    for (method, path, allow) in [
        ("GET", "/_/oidc/mint-token", "POST"),
        ("POST", "/_/oidc/audience", "GET, HEAD"),
        ("DELETE", "/_/oidc/burn-token", "POST"),
        ("POST", "/.well-known/pytp", "GET, HEAD"),
    ] {
        let sent = service.client.request(method.parse().unwrap(), format!("{}{path}", service.base));
        let answer = Answer::of(sent.send().await.unwrap()).await;
        problem(&answer, 405, "method-not-allowed");
        assert_eq!(answer.headers["allow"], allow);
    }
}

#[actix_web::test]
async fn burning_says_202_to_any_token_and_means_it_for_a_real_one() {
    let service = Service::with_policy(tenants).await;
    let token = service.upload_token().await;
    let question = json!({"token": token, "package": "widgets", "exists": true});
    for (content_type, token) in
        [("application/json", ""), ("text/plain", "pypi-garbage"), ("", "é"), ("application/json", "tm-AgEA")]
    {
        let answer = service.post("/_/oidc/burn-token", content_type, json!({"token": token}).to_string()).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    assert_eq!(service.verify(&question).await.body["allowed"], true);
    for _ in 0..2 {
        let answer = service.post("/_/oidc/burn-token", "text/plain", json!({"token": token}).to_string()).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    assert_eq!(service.verify(&question).await.code(), "upload-token-revoked");
    for body in ["", "{}", r#"{"token":1}"#, "token=x"] {
        assert_eq!(service.post("/_/oidc/burn-token", "application/json", body).await.status, 422, "{body}");
    }
}
