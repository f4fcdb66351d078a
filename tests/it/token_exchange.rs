//! `POST /v1/token`: OAuth 2.0 token exchange (RFC 8693).

use std::fmt::Write as _;

use serde_json::Value;
use serde_json::json;

use crate::support::Service;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::tenants;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const FORM: &str = "application/x-www-form-urlencoded";

/// A complete request, with other parameters put over it; `null` removes one.
fn request(token: &str, overrides: &Value) -> Value {
    let mut request = json!({"grant_type": GRANT, "subject_token": token, "subject_token_type": ID_TOKEN});
    let members = request.as_object_mut().unwrap();
    members.extend(overrides.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    request
}

fn form(request: &Value) -> String {
    let mut form = String::new();
    for (name, value) in request.as_object().unwrap() {
        let value: String = url::form_urlencoded::byte_serialize(value.as_str().unwrap().as_bytes()).collect();
        write!(form, "{name}={value}&").unwrap();
    }
    form.trim_end_matches('&').to_owned()
}

async fn exchange(service: &Service, overrides: &Value) -> Answer {
    service.post("/v1/token", FORM, form(&request(&service.id_token(&json!({})), overrides))).await
}

#[track_caller]
fn refused(answer: &Answer, status: u16, error: &str, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.text);
    assert_eq!(answer.body["error"], error, "{}", answer.text);
    // RFC 6749 section 5.2, and the members that package clients read.
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.len() > 20, "{message}");
    assert_eq!(answer.body["error_description"], message);
    assert_eq!(answer.body["errors"], json!([{"code": code, "description": message, "detail": message}]));
    assert_eq!(answer.body["body"]["message"], message);
    assert_eq!(answer.headers["content-type"], "application/json");
    hygienic(answer);
}

#[track_caller]
fn hygienic(answer: &Answer) {
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["x-request-id"].len(), 36);
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")));
}

#[actix_web::test]
async fn a_form_and_json_get_the_same() {
    let service = Service::start().await;
    let by_form = exchange(&service, &json!({})).await;
    let by_json = service.post_json("/v1/token", &request(&service.id_token(&json!({})), &json!({}))).await;
    for answer in [by_form, by_json] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        hygienic(&answer);
        let body = answer.body.as_object().unwrap();
        let mut names: Vec<_> = body.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["access_token", "expires_in", "issued_token_type", "scope", "token_type"]);
        assert_eq!((&body["issued_token_type"], &body["token_type"]), (&json!(ACCESS_TOKEN), &json!("Bearer")));
        assert_eq!((&body["expires_in"], &body["scope"]), (&json!(900), &json!("create:widgets-* upload:widgets")));
        let question = json!({"token": body["access_token"], "package": "widgets", "exists": true});
        assert_eq!(service.verify(&question).await.body["allowed"], true);
    }
}

#[actix_web::test]
async fn each_parameter_has_its_rule() {
    let service = Service::start().await;
    let cases = [
        (json!({"grant_type": null}), "invalid_request", "bad-request"),
        (json!({"grant_type": ""}), "invalid_request", "bad-request"),
        (json!({"grant_type": "client_credentials"}), "unsupported_grant_type", "unsupported-grant-type"),
        (json!({"subject_token": null}), "invalid_request", "token-missing"),
        (json!({"subject_token": ""}), "invalid_request", "token-missing"),
        (json!({"subject_token": "eyJ"}), "invalid_request", "token-malformed"),
        (json!({"subject_token_type": null}), "invalid_request", "bad-request"),
        (json!({"subject_token_type": ACCESS_TOKEN}), "invalid_request", "bad-request"),
        (json!({"requested_token_type": JWT}), "invalid_request", "bad-request"),
        (json!({"actor_token": "a", "actor_token_type": JWT}), "invalid_request", "bad-request"),
        (json!({"actor_token": "a"}), "invalid_request", "bad-request"),
        (json!({"actor_token_type": JWT}), "invalid_request", "bad-request"),
        (json!({"audience": "other"}), "invalid_target", "invalid-target"),
        (json!({"resource": "https://other.example/legacy/"}), "invalid_target", "invalid-target"),
        (json!({"resource": "legacy"}), "invalid_target", "invalid-target"),
        (json!({"scope": " "}), "invalid_scope", "invalid-scope"),
        (json!({"scope": "widgets"}), "invalid_scope", "invalid-scope"),
        (json!({"scope": "upload:"}), "invalid_scope", "invalid-scope"),
        (json!({"scope": "Upload:widgets"}), "invalid_scope", "invalid-scope"),
        (json!({"scope": "upload:widgets\tupload:gadgets"}), "invalid_scope", "invalid-scope"),
        (json!({"scope": "upload:widgets ".repeat(65)}), "invalid_scope", "invalid-scope"),
    ];
    let token = service.id_token(&json!({}));
    for (overrides, error, code) in cases {
        let request = request(&token, &overrides);
        refused(&service.post("/v1/token", FORM, form(&request)).await, 400, error, code);
        refused(&service.post_json("/v1/token", &request).await, 400, error, code);
    }
    let accepted = json!({
        "subject_token_type": JWT, "requested_token_type": ACCESS_TOKEN, "audience": "acme",
        "resource": format!("{}/legacy/", service.base), "actor_token": "", "scope": "", "unknown": "ignored",
    });
    let answer = service.post("/v1/token", FORM, form(&request(&token, &accepted))).await;
    assert_eq!(answer.status, 200, "no refusal above has spent the token: {}", answer.text);
}

#[actix_web::test]
async fn json_members_are_strings_and_unknown_ones_are_ignored() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    for value in [json!(["acme"]), json!(1), json!({})] {
        let answer = service.post_json("/v1/token", &request(&token, &json!({"audience": value}))).await;
        refused(&answer, 400, "invalid_request", "bad-request");
        assert!(answer.body["message"].as_str().unwrap().contains("`audience` must be a string"), "{}", answer.text);
    }
    let mut body = request(&token, &json!({"extension": {"of": ["some", "kind"]}}));
    body["scope"] = Value::Null;
    let answer = service.post_json("/v1/token", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[actix_web::test]
async fn what_occurs_twice_is_refused() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    let request = request(&token, &json!({"audience": "acme"}));
    for again in ["audience=acme", "%61udience=acme", "subject_token=eyJ", "unknown=1&unknown=2"] {
        let answer = service.post("/v1/token", FORM, format!("{}&{again}", form(&request))).await;
        refused(&answer, 400, "invalid_request", "bad-request");
        assert!(answer.body["message"].as_str().unwrap().contains("occurs twice"), "{}", answer.text);
    }
    let text = request.to_string();
    for again in [r#","audience":"acme"}"#, r#","\u0061udience":"acme"}"#] {
        let answer = service.post("/v1/token", "application/json", text.replacen('}', again, 1)).await;
        refused(&answer, 400, "invalid_request", "bad-request");
    }
}

#[actix_web::test]
async fn bodies_that_are_not_the_endpoints_are_refused() {
    let service = Service::start().await;
    let body = form(&request(&service.id_token(&json!({})), &json!({})));
    for media in ["text/plain", "multipart/form-data; boundary=x", "application/jwt", "application/jsonp"] {
        refused(
            &service.post("/v1/token", media, body.clone()).await,
            415,
            "invalid_request",
            "unsupported-media-type",
        );
    }
    for encoding in ["gzip", "identity", "br, gzip"] {
        let sent = service.client.post(format!("{}/v1/token", service.base)).header("content-type", FORM);
        let answer = Answer::of(sent.header("content-encoding", encoding).body(body.clone()).send().await.unwrap());
        refused(&answer.await, 415, "invalid_request", "unsupported-media-type");
    }
    for json in ["", "[]", "{", "null", "{}{}", "\u{feff}{}"] {
        let answer = service.post("/v1/token", "application/json", json).await;
        refused(&answer, 400, "invalid_request", "bad-request");
    }
    let large = format!("{body}&padding={}", "x".repeat(32 * 1024));
    refused(&service.post("/v1/token", FORM, large).await, 413, "invalid_request", "too-large");
    let long_token = request(&format!("eyJ{}", "x".repeat(17 * 1024)), &json!({}));
    refused(&service.post("/v1/token", FORM, form(&long_token)).await, 413, "invalid_request", "too-large");
    let charset = service.post("/v1/token", &format!("{FORM}; charset=utf-8"), body).await;
    assert_eq!(charset.status, 200, "{}", charset.text);
}

#[actix_web::test]
async fn scope_narrows_to_names() {
    let service = Service::start().await;
    let scoped = async |scope: &str| exchange(&service, &json!({"scope": scope})).await;
    for (scope, granted) in [
        ("upload:widgets", "upload:widgets"),
        ("upload:Widgets  upload:widgets", "upload:widgets"),
        ("create:widgets-extra upload:widgets", "create:widgets-extra upload:widgets"),
        ("read:widgets", "read:widgets"),
    ] {
        let answer = scoped(scope).await;
        assert_eq!((answer.status, &answer.body["scope"]), (200, &json!(granted)), "{}", answer.text);
    }
    for scope in ["upload:gadgets", "upload:widgets upload:gadgets", "upload:widgets-extra", "delete:widgets"] {
        let answer = scoped(scope).await;
        refused(&answer, 400, "invalid_scope", "scope-not-granted");
        let named = scope.split(' ').next_back().unwrap();
        assert!(answer.body["message"].as_str().unwrap().contains(named), "{}", answer.text);
    }
    let pattern = scoped("create:widgets-*").await;
    refused(&pattern, 400, "invalid_scope", "invalid-scope");
    assert!(pattern.body["message"].as_str().unwrap().contains("is a pattern"), "{}", pattern.text);

    let narrow = scoped("create:widgets-extra").await.body["access_token"].clone();
    let may = async |package: &str, exists: bool| {
        let question = json!({"token": narrow, "package": package, "exists": exists});
        service.verify(&question).await.body["allowed"] == true
    };
    assert!(may("widgets-extra", false).await);
    assert!(!may("widgets", true).await);
    assert!(!may("widgets-other", false).await);
}

#[actix_web::test]
async fn on_a_shared_host_audience_or_resource_names_the_registry() {
    let service = Service::with_policy(tenants).await;
    let sent = async |aud: &str, overrides: &Value| {
        let token = service.id_token(&json!({"aud": aud}));
        service.post("/v1/token", FORM, form(&request(&token, overrides))).await
    };
    let tools = format!("{}/tools/", service.base);
    let files = format!("{}/files/", service.base);

    let answer = sent("tools-aud", &json!({})).await;
    refused(&answer, 400, "invalid_target", "invalid-target");
    assert!(answer.body["message"].as_str().unwrap().contains("`audience` or `resource`"), "{}", answer.text);
    for target in [
        json!({"audience": "tools-aud"}),
        json!({"audience": "both-aud-1"}),
        json!({"resource": tools}),
        json!({"audience": "tools-aud", "resource": tools}),
    ] {
        let answer = sent("tools-aud", &target).await;
        assert_eq!(answer.status, 200, "{target}: {}", answer.text);
        assert_eq!(answer.body["scope"], "upload:widgets upload:widgets/* yank:widgets");
        assert!(answer.body["access_token"].as_str().unwrap().starts_with("tm-"));
    }
    for target in [
        json!({"audience": "tools-aud", "resource": files}),
        json!({"audience": "files-aud", "resource": tools}),
        json!({"resource": format!("{}/", service.base)}),
        json!({"resource": format!("{tools}#fragment")}),
        json!({"resource": "https://elsewhere.example/tools/"}),
    ] {
        refused(&sent("tools-aud", &target).await, 400, "invalid_target", "invalid-target");
    }
    // The audience inside the ID token is another matter: it must be the chosen registry's.
    refused(&sent("tools-aud", &json!({"audience": "files-aud"})).await, 400, "invalid_request", "wrong-audience");
}

#[actix_web::test]
async fn the_host_must_be_a_registrys() {
    let service = Service::start().await;
    let body = form(&request(&service.id_token(&json!({})), &json!({})));
    let to = async |hosts: &[&str], path: &str| {
        let mut sent = service.client.post(format!("{}{path}", service.base)).header("content-type", FORM);
        for host in hosts {
            sent = sent.header("host", *host);
        }
        Answer::of(sent.body(body.clone()).send().await.unwrap()).await
    };
    let own = service.base.strip_prefix("https://").unwrap();
    let name = own.split(':').next().unwrap();
    for host in ["pypi.acme.example", name, "127.0.0.1:1", &format!("{own}."), "localhost"] {
        let answer = to(&[host], "/v1/token").await;
        assert!([421, 400].contains(&answer.status), "{host}: {}", answer.text);
        hygienic(&answer);
    }
    refused(&to(&["pypi.acme.example"], "/v1/token").await, 421, "invalid_request", "unknown-host");
    refused(&to(&["pypi.acme.example"], "/v1/revoke").await, 421, "invalid_request", "unknown-host");
    for twice in [[own, own], [own, "pypi.acme.example"], ["pypi.acme.example", own]] {
        // Such a request is cut off at its head: what the client's end still sends is answered by a reset, which may
        // overtake the answer.
        let mut sent = service.client.get(format!("{}/.well-known/oauth-authorization-server", service.base));
        for host in twice {
            sent = sent.header("host", host);
        }
        if let Ok(answer) = sent.send().await {
            assert_eq!(answer.status(), 400);
        }
    }
    // Nobody vouches for this client, so it cannot name a host by a header that proxies use.
    let mut forwarded = service.client.post(format!("{}/v1/token", service.base)).header("content-type", FORM);
    forwarded = forwarded.header("host", "pypi.acme.example").header("x-forwarded-host", own);
    assert_eq!(forwarded.body(body.clone()).send().await.unwrap().status(), 421);
    assert_eq!(to(&[own], "/v1/token").await.status, 200);
}

#[actix_web::test]
async fn the_host_may_be_spelled_in_any_case() {
    let service = Service::with_policy(|base, issuer| {
        let named = base.replace("127.0.0.1", "pypi.acme.example");
        policy(&policy_text(&named, issuer, WIDGETS))
    })
    .await;
    let port = service.base.rsplit(':').next().unwrap();
    let sent = service.client.get(format!("{}/_/oidc/audience", service.base));
    let answer = sent.header("host", format!("pypi.ACME.example:{port}")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[actix_web::test]
async fn other_paths_and_methods_are_refused_as_json() {
    let service = Service::start().await;
    for path in ["/", "/v1", "/v1/token/", "/v1//token", "/v2/token", "/.well-known/", "/livez", "/metrics", "/..%2f"] {
        let answer = service.get(path).await;
        assert_eq!((answer.status, answer.code()), (404, "not-found"), "{path}: {}", answer.text);
        hygienic(&answer);
    }
    for (method, path, allow) in [
        ("GET", "/v1/token", "POST"),
        ("PUT", "/v1/token", "POST"),
        ("OPTIONS", "/v1/token", "POST"),
        ("DELETE", "/v1/revoke", "POST"),
        ("GET", "/v1/verify", "POST"),
        ("POST", "/.well-known/oauth-authorization-server", "GET, HEAD"),
    ] {
        let sent = service.client.request(method.parse().unwrap(), format!("{}{path}", service.base));
        let answer = Answer::of(sent.header("origin", "https://evil.example").send().await.unwrap()).await;
        assert_eq!((answer.status, answer.code()), (405, "method-not-allowed"), "{method} {path}: {}", answer.text);
        assert_eq!(answer.headers["allow"], allow, "{method} {path}");
        hygienic(&answer);
    }
}

#[actix_web::test]
async fn metadata_says_where_to_exchange_and_revoke() {
    let service = Service::with_policy(tenants).await;
    let answer = service.get("/.well-known/oauth-authorization-server").await;
    assert_eq!(answer.status, 200);
    let base = &service.base;
    assert_eq!(
        answer.body,
        json!({
            "issuer": base,
            "token_endpoint": format!("{base}/v1/token"),
            "revocation_endpoint": format!("{base}/v1/revoke"),
            "grant_types_supported": [GRANT],
            "token_endpoint_auth_methods_supported": ["none"],
            "revocation_endpoint_auth_methods_supported": ["none"],
            "response_types_supported": [],
            "trustmint_audiences": ["tools-aud", "both-aud-1", "files-aud", "acme"],
        })
    );
    let head = service.client.head(format!("{base}/.well-known/oauth-authorization-server")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    let unknown = service.client.get(format!("{base}/.well-known/oauth-authorization-server"));
    assert_eq!(unknown.header("host", "pypi.acme.example").send().await.unwrap().status(), 421);
}

#[actix_web::test]
async fn a_refusal_by_the_rules_explains_itself_and_can_be_retried() {
    let service = Service::start().await;
    let token = service.id_token(&json!({"environment": "staging"}));
    let request = form(&request(&token, &json!({})));
    let answer = service.post("/v1/token", FORM, request.clone()).await;
    refused(&answer, 400, "invalid_request", "environment-mismatch");
    assert_eq!(answer.body["class"], "refused");
    assert_eq!(answer.body["explanation"]["rules"][0]["rule"], "widgets-release");
    assert_eq!(answer.body["request_id"], answer.headers["x-request-id"].to_str().unwrap());
    service.activate(&WIDGETS.replace("environment: release", "environment: staging"));
    let answer = service.post("/v1/token", FORM, request.clone()).await;
    assert_eq!(answer.status, 200, "a mended rule lets the same token in: {}", answer.text);
    refused(&service.post("/v1/token", FORM, request).await, 400, "invalid_request", "token-replayed");
}
