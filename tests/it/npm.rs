//! npm's dialect: one exchange a package, at the root of the host and at the path of the registry.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::support::Service;
use crate::support::codecs::host;
use crate::support::codecs::refused;
use crate::support::codecs::speaking;
use crate::support::codecs::text;
use crate::support::codecs::verdict;
use crate::support::service::Answer;
use crate::support::service::policy;
use crate::support::wire;

const PATH: &str = "/-/npm/v1/oidc/token/exchange/package/";
const PACKAGES: &str = "widgets, \"@acme/*\"";

async fn npm() -> Service {
    speaking("npm", "/npm/", PACKAGES, &[]).await
}

/// An ID token whose audience npm has computed.
fn job(service: &Service) -> String {
    service.id_token(&json!({"aud": "npm:127.0.0.1"}))
}

/// What npm sends: a raw path, `Authorization`, no body.
async fn exchange(service: &Service, path: &str, token: &str) -> Answer {
    wire::post(service, path, &[format!("Authorization: Bearer {token}")], "").await
}

#[actix_web::test]
async fn a_package_is_exchanged_for_in_every_spelling_at_both_paths() {
    let service = npm().await;
    for base in ["", "/npm"] {
        for (raw, package) in [
            ("widgets", "widgets"),
            ("@acme%2ftools", "@acme/tools"),
            ("@acme%2Ftools", "@acme/tools"),
            ("%40acme%2ftools", "@acme/tools"),
            ("%40acme%2Ftools", "@acme/tools"),
            ("@acme/tools", "@acme/tools"),
            ("%40acme/tools", "@acme/tools"),
        ] {
            let answer = exchange(&service, &format!("{base}{PATH}{raw}"), &job(&service)).await;
            assert_eq!(answer.status, 201, "{base} {raw}: {}", answer.text);
            let token = &answer.body["token"];
            assert!(token.as_str().unwrap().starts_with("npm-"));
            let other = if package == "widgets" { "@acme/tools" } else { "widgets" };
            assert_eq!(verdict(&service, token, package).await, "allowed", "{raw}");
            assert_eq!(verdict(&service, token, other).await, "package-not-covered", "{raw}");
            assert_eq!(verdict(&service, token, "@acme/other").await, "package-not-covered", "{raw}");
        }
    }
}

#[actix_web::test]
async fn the_answer_is_npms_own() {
    let service = npm().await;
    let sent = service.client.post(format!("{}{PATH}widgets", service.base)).bearer_auth(job(&service));
    let answer = Answer::of(sent.send().await.unwrap()).await;
    let now = service.app.now();
    let token = answer.body["token"].clone();
    let expected = json!({
        "token_type": "oidc", "token": token, "created": now.to_string(),
        "expires": now.plus(Duration::from_secs(900)).to_string(),
    });
    assert_eq!((answer.status, &answer.body), (201, &expected));
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(answer.headers["cache-control"], "no-store");
    service.pass(Duration::from_secs(901)).await;
    assert_eq!(verdict(&service, &token, "widgets").await, "upload-token-expired");
    let events = service.audit();
    assert_eq!(events.iter().find(|event| event["event"] == "exchange").unwrap()["package"], "widgets");
}

#[actix_web::test]
async fn one_id_token_publishes_each_package_of_a_workspace_once() {
    let service = npm().await;
    let token = job(&service);
    for name in ["widgets", "@acme%2fa", "@acme%2fb"] {
        assert_eq!(exchange(&service, &format!("{PATH}{name}"), &token).await.status, 201, "{name}");
    }
    for path in ["widgets", "@acme%2fa", "%40acme%2Fa", "@acme/b"].map(|name| format!("/npm{PATH}{name}")) {
        refused(&exchange(&service, &path, &token).await, 401, "token-replayed");
    }
    let again = exchange(&service, &format!("{PATH}@acme%2fc"), &token).await;
    assert_eq!(again.status, 201, "what was refused has spent nothing: {}", again.text);
}

#[actix_web::test]
async fn elsewhere_an_exchange_must_name_one_package_too() {
    let service = npm().await;
    let token = job(&service);
    let native = async |scope: Option<&str>| service.exchange(&token, &json!({"scope": scope})).await;
    for scope in [None, Some("upload:widgets upload:@acme/a"), Some("upload:@acme/*")] {
        assert_eq!(native(scope).await.code(), "invalid-scope", "{scope:?}");
    }
    assert_eq!(native(Some("upload:widgets")).await.status, 200);
    assert_eq!(native(Some("upload:widgets")).await.code(), "token-replayed");
    refused(&exchange(&service, &format!("{PATH}widgets"), &token).await, 401, "token-replayed");
    assert_eq!(exchange(&service, &format!("{PATH}@acme%2fa"), &token).await.status, 201);
    assert_eq!(native(Some("upload:@acme/a")).await.code(), "token-replayed");
}

#[actix_web::test]
async fn the_registrys_policy_may_say_once_or_as_often_as_one_likes() {
    for (replay, expected) in [("once", [201, 401]), ("off", [201, 201])] {
        let service = speaking("npm", "/", PACKAGES, &[&format!("replay: {replay}")]).await;
        let token = job(&service);
        for (name, status) in ["widgets", "@acme%2fa"].into_iter().zip(expected) {
            assert_eq!(exchange(&service, &format!("{PATH}{name}"), &token).await.status, status, "{replay} {name}");
        }
    }
}

#[actix_web::test]
async fn the_audience_is_one_that_npm_pnpm_or_yarn_computes_or_the_policys() {
    let service = speaking("npm", "/npm/", PACKAGES, &["audiences: [acme-npm]"]).await;
    let (name, with_port) = ("npm:127.0.0.1", format!("npm:{}", host(&service)));
    for audience in [name, &with_port, "acme-npm"] {
        let token = service.id_token(&json!({"aud": audience}));
        assert_eq!(exchange(&service, &format!("{PATH}widgets"), &token).await.status, 201, "{audience}");
    }
    for audience in
        ["acme", "127.0.0.1", "npm:", "npm:localhost", "NPM:127.0.0.1", "npm:127.0.0.1:1", "npm:127.0.0.1/npm/"]
    {
        let token = service.id_token(&json!({"aud": audience}));
        let answer = exchange(&service, &format!("{PATH}widgets"), &token).await;
        refused(&answer, 401, "wrong-audience");
        let message = answer.body["message"].as_str().unwrap();
        assert!([name, &with_port, "acme-npm"].iter().all(|own| message.contains(&format!("`{own}`"))), "{message}");
    }
    let metadata = service.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(metadata.body["trustmint_audiences"], json!(["acme-npm", name, with_port]));
}

#[actix_web::test]
async fn what_the_rules_refuse_is_said_where_npm_and_pnpm_look() {
    let service = npm().await;
    let token = service.id_token(&json!({"aud": "npm:127.0.0.1", "environment": "staging"}));
    let answer = exchange(&service, &format!("{PATH}widgets"), &token).await;
    refused(&answer, 403, "environment-mismatch");
    assert!(answer.body["message"].as_str().unwrap().contains("wants `environment: release`"));
    let token = job(&service);
    for name in ["gadgets", "@acme-evil%2fa", "@evil%2fwidgets", "acme"] {
        refused(&exchange(&service, &format!("{PATH}{name}"), &token).await, 403, "package-not-granted");
    }
    assert_eq!(exchange(&service, &format!("{PATH}widgets"), &token).await.status, 201);
}

#[actix_web::test]
async fn the_id_token_is_in_one_header_and_nothing_in_the_body() {
    let service = npm().await;
    let path = format!("{PATH}widgets");
    let token = job(&service);
    let good = format!("Authorization: Bearer {token}");
    for head in [
        vec![],
        vec!["Authorization:".to_owned()],
        vec!["Authorization: Bearer".to_owned()],
        vec![format!("Authorization: Basic {token}")],
        vec![format!("Authorization: {token}")],
        vec![format!("X-Authorization: Bearer {token}")],
        vec![good.clone(), good.clone()],
        vec![good.clone(), "Authorization: Bearer x".to_owned()],
        vec!["Authorization: Basic eA==".to_owned(), good.clone()],
    ] {
        refused(&wire::post(&service, &path, &head, "").await, 401, "token-missing");
    }
    refused(
        &wire::post(&service, &path, &["Authorization: Bearer a.b.c, x".to_owned()], "").await,
        401,
        "token-malformed",
    );
    let plain = service.client.post(format!("{}{path}", service.base)).send().await.unwrap();
    assert_eq!(plain.headers()["www-authenticate"], "Bearer realm=\"trustmint\"");
    for body in ["x", "null", "[]", "{\"a\":1}", &format!("{{\"token\":\"{token}\"}}")] {
        refused(&wire::post(&service, &path, std::slice::from_ref(&good), body).await, 400, "bad-request");
    }
    let gzip = wire::post(&service, &path, &[good.clone(), "Content-Encoding: gzip".to_owned()], "").await;
    refused(&gzip, 415, "unsupported-media-type");
    assert_eq!(wire::post(&service, &path, std::slice::from_ref(&good), " {}\r\n").await.status, 201);
    for method in ["GET", "PUT", "DELETE", "PATCH"] {
        let sent = service.client.request(method.parse().unwrap(), format!("{}{path}", service.base));
        let answer = Answer::of(sent.send().await.unwrap()).await;
        refused(&answer, 405, "method-not-allowed");
        assert_eq!(answer.headers["allow"], "POST");
    }
}

#[actix_web::test]
async fn no_other_path_names_a_package() {
    let service = npm().await;
    let token = job(&service);
    for raw in [
        "",
        "/",
        "@acme%252ftools",
        "%2540acme%2ftools",
        "@acme%2f%2e%2e",
        "@acme%2f..",
        "@acme/../widgets",
        "x/../widgets",
        "./widgets",
        "widgets/",
        "widgets/.",
        "/widgets",
        "%2fwidgets",
        "widgets%2f..%2fgadgets",
        "@acme%2ftools/x",
        "@acme%2ftools%2fx",
        "@acme%2f",
        "acme%2ftools",
        "%77idgets",
        "widgets%00",
        "widgets%0d%0aX:%20y",
        "widgets;a=b",
        "Widgets",
        "@acme%2fTools",
        "%C0%AE%C0%AE",
        "widgets%ff",
    ] {
        for base in ["", "/npm"] {
            refused(&exchange(&service, &format!("{base}{PATH}{raw}"), &token).await, 400, "bad-request");
        }
    }
    let elsewhere = [
        "//-/npm/v1/oidc/token/exchange/package/widgets",
        "/npm//-/npm/v1/oidc/token/exchange/package/widgets",
        "/NPM/-/npm/v1/oidc/token/exchange/package/widgets",
        "/npm/x/-/npm/v1/oidc/token/exchange/package/widgets",
        "/other/-/npm/v1/oidc/token/exchange/package/widgets",
        "/npm/../-/npm/v1/oidc/token/exchange/package/widgets",
        "/np%6d/-/npm/v1/oidc/token/exchange/package/widgets",
        "/npm%2f-/npm/v1/oidc/token/exchange/package/widgets",
        "/%2d/npm/v1/oidc/token/exchange/package/widgets",
        "/-/npm/v1/oidc/token/%65xchange/package/widgets",
        "/-/npm/v1/oidc/token/exchange/package",
        "/-/npm/v1/oidc/token/exchange/package%2fwidgets",
        "/-/npm/v1/oidc/token/exchange/packages/widgets",
        "/-/NPM/v1/oidc/token/exchange/package/widgets",
    ];
    for path in elsewhere {
        let answer = exchange(&service, path, &token).await;
        assert_eq!((answer.status, answer.code()), (404, "not-found"), "{path}: {}", answer.text);
    }
    // A query names nothing, and the token was not spent by any of them.
    assert_eq!(exchange(&service, &format!("{PATH}widgets?package=gadgets"), &token).await.status, 201);
}

/// Two registries at hosts of their own: this one's, and `other.example`.
async fn two_hosts() -> Service {
    Service::with_policy(|base, issuer| {
        let other = "registries:\n  other-npm: {dialect: npm, urls: [\"https://other.example/npm/\"]}\n";
        let text = text(base, issuer, "npm", "/npm/", PACKAGES, &[]).replacen("registries:\n", other, 1);
        policy(&format!(
            "{text}  other-release: {{registry: other-npm, issuer: github, when: {{repository_owner_id: \"9123456\", \
             repository_id: \"701234567\"}}, allow: {{upload: [widgets]}}}}\n"
        ))
    })
    .await
}

#[actix_web::test]
async fn the_host_says_which_registry_and_the_audience_must_be_its_own() {
    let service = two_hosts().await;
    let at = async |host: &str, token: &str| {
        let head = [format!("Host: {host}"), format!("Authorization: Bearer {token}")];
        wire::post(&service, &format!("/npm{PATH}widgets"), &head, "").await
    };
    let own = host(&service).to_owned();
    let other = service.id_token(&json!({"aud": "npm:other.example"}));
    refused(&at("stranger.example", &other).await, 421, "unknown-host");
    refused(&at("other.example:8443", &other).await, 421, "unknown-host");
    refused(&at("other.example", &job(&service)).await, 401, "wrong-audience");
    refused(&at(&own, &other).await, 401, "wrong-audience");
    let answer = at("other.example", &other).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(verdict(&service, &answer.body["token"], "widgets").await, "upload-token-unknown");
    let forwarded = ["X-Forwarded-Host: other.example".to_owned(), format!("Authorization: Bearer {}", job(&service))];
    let answer = wire::post(&service, &format!("{PATH}widgets"), &forwarded, "").await;
    assert_eq!(verdict(&service, &answer.body["token"], "widgets").await, "allowed", "a stranger's header is not read");
}

#[actix_web::test]
async fn a_host_without_such_a_registry_does_not_speak_the_protocol() {
    let service = Service::start().await;
    for base in ["", "/legacy"] {
        refused(&exchange(&service, &format!("{base}{PATH}widgets"), "a.b.c").await, 404, "not-found");
    }
}

#[actix_web::test]
async fn a_registry_that_is_off_or_a_store_that_is_full_is_said_as_such() {
    let service = npm().await;
    let text = text(&service.base, service.provider.issuer(), "npm", "/npm/", PACKAGES, &["enabled: false"]);
    service.app.activate(policy(&text));
    refused(&exchange(&service, &format!("{PATH}widgets"), &job(&service)).await, 403, "registry-disabled");
    let limited = text.replace("enabled: false", "limits: {exchanges_per_minute: 1}");
    service.app.activate(policy(&limited));
    let sent = async |name: &str| {
        let sent = service.client.post(format!("{}{PATH}{name}", service.base)).bearer_auth(job(&service));
        Answer::of(sent.send().await.unwrap()).await
    };
    assert_eq!(sent("widgets").await.status, 201);
    let answer = sent("widgets").await;
    refused(&answer, 429, "rate-limited");
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    let none: Option<&Value> = answer.body.get("token");
    assert_eq!(none, None);
}
