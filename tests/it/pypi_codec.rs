//! A registry with `codec: pypi`, through the front door: what its jobs get, what its endpoints say of it, and what
//! pypitoken says with the registry's own secret.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::macaroon::Unverified;

use crate::serve::Home;
use crate::support::Service;
use crate::support::python;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::narrowed;

const FORM: &str = "application/x-www-form-urlencoded";
/// What such a registry's rules can grant.
const RULES: &str = r#"
  widgets-release:
    registry: acme-pypi
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567", repository: acme/widgets, environment: release}
    allow: {upload: [widgets, "acme-{repository_name}"]}
"#;

/// The policy of the tests' registry with that codec.
fn text(base: &str, issuer: &str) -> String {
    policy_text(base, issuer, RULES).replace("dialect: pypi", "dialect: pypi\n    codec: pypi")
}

async fn start() -> Service {
    Service::with_policy(|base, issuer| policy(&text(base, issuer))).await
}

fn caveats(token: &str) -> Vec<String> {
    let token = Unverified::parse(token).unwrap();
    token.caveats().map(|caveat| str::from_utf8(caveat).unwrap().to_owned()).collect()
}

async fn verify(service: &Service, token: &str, package: &str, more: Value) -> Answer {
    let mut question = json!({"token": token, "package": package});
    question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service.verify(&question).await
}

/// `allowed`, or the code.
async fn verdict(service: &Service, token: &str, package: &str) -> String {
    let answer = verify(service, token, package, json!({"exists": true})).await;
    if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
}

async fn introspect(service: &Service, token: &str) -> Value {
    let request = service.client.post(format!("{}/v1/introspect", service.base)).bearer_auth(API_KEY);
    Answer::of(request.header("content-type", FORM).body(format!("token={token}")).send().await.unwrap()).await.body
}

#[actix_web::test]
async fn a_jobs_token_says_what_pypis_say_and_is_verified() {
    let service = start().await;
    let now = service.clock_seconds();
    let token = service.upload_token().await;
    let projects = "[1,[\"acme-widgets\",\"widgets\"]]";
    assert_eq!(caveats(&token), [format!("[0,{},{}]", now + 900, now - 60), projects.to_owned()]);
    let answer = verify(&service, &token, "Acme_Widgets", json!({"exists": true, "version": "1.0", "size": 7})).await;
    assert_eq!(answer.body["allowed"], true, "{}", answer.text);
    assert_eq!(answer.body["publisher"]["rules"], json!(["widgets-release"]));
    assert_eq!(answer.body["publisher"]["claims"]["repository"], "acme/widgets");
    for (package, question, code) in [
        ("gadgets", json!({"exists": true}), "package-not-covered"),
        // PyPI's caveats have no actions, and PyPI's tokens make no projects.
        ("widgets", json!({"exists": false}), "action-not-covered"),
        ("widgets", json!({"action": "delete"}), "action-not-covered"),
    ] {
        let answer = verify(&service, &token, package, question).await;
        assert_eq!((answer.status, answer.code()), (200, code), "{}", answer.text);
    }
    assert_eq!(verify(&service, &token, "widgets", json!({"action": "read"})).await.body["allowed"], true);
    service.pass(Duration::from_secs(899)).await;
    assert_eq!(verdict(&service, &token, "widgets").await, "allowed");
    service.pass(Duration::from_secs(1)).await;
    assert_eq!(verdict(&service, &token, "widgets").await, "upload-token-expired");
}

#[actix_web::test]
async fn what_its_tokens_cannot_say_is_refused_and_spends_nothing() {
    let service = start().await;
    let discovery = service.get("/.well-known/pytp?discover=%2Flegacy%2F").await;
    assert_eq!(discovery.body["features"], json!(["multi-use-token"]));
    assert_eq!(discovery.body["default-features"], json!(["multi-use-token"]));
    let id_token = service.id_token(&json!({}));
    let single = service.mint(&json!({"token": id_token, "features": ["single-use-token"]})).await;
    assert_eq!((single.status, single.code()), (422, "bad-request"), "{}", single.text);
    assert!(single.body["message"].as_str().unwrap().contains("`single-use-token` is none of this index"));
    for scope in ["read:widgets", "upload:widgets read:widgets"] {
        let refused = service.exchange(&id_token, &json!({"scope": scope})).await;
        assert_eq!((refused.status, refused.code()), (400, "grant-not-expressible"), "{}", refused.text);
    }
    let refused = service.exchange(&id_token, &json!({"scope": "create:widgets"})).await;
    assert_eq!(refused.code(), "scope-not-granted", "{}", refused.text);
    let answer = service.exchange(&id_token, &json!({"scope": "upload:widgets"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["scope"], "upload:widgets");
    assert_eq!(caveats(answer.body["access_token"].as_str().unwrap())[1], "[1,[\"widgets\"]]");
    let again = service.mint(&json!({"token": id_token, "features": ["multi-use-token"]})).await;
    assert_eq!(again.code(), "token-replayed", "{}", again.text);
    let fresh = json!({"token": service.id_token(&json!({})), "features": ["multi-use-token"]});
    assert_eq!(service.mint(&fresh).await.status, 200);
}

#[actix_web::test]
async fn a_narrowed_token_is_good_for_what_all_of_its_caveats_allow() {
    let service = start().await;
    let now = service.clock_seconds();
    let token = service.upload_token().await;
    for (caveat, expected) in [
        (format!("[0, {}, {}]", now + 60, now), "allowed"),
        (format!("[0, {}, {}]", now + 86_400, 0), "allowed"),
        ("[1, [\"gadgets\", \"widgets\"]]".to_owned(), "allowed"),
        ("[1, [\"acme-widgets\"]]".to_owned(), "package-not-covered"),
        (format!("[0, {}, {}]", now + 60, now + 1), "upload-token-not-yet-valid"),
        (format!("[0, {now}, {}]", now - 60), "upload-token-expired"),
        (format!("[0,{}.0,{now}]", now + 60), "caveat-not-understood"),
        ("[1,[\"widgets\"],null]".to_owned(), "caveat-not-understood"),
        ("[4,\"00000000-0000-0000-0000-000000000000\",null]".to_owned(), "caveat-not-understood"),
        ("allow upload:widgets".to_owned(), "caveat-not-understood"),
        ("time-before 2999-01-01T00:00:00Z".to_owned(), "caveat-not-understood"),
        ("version 1.0".to_owned(), "caveat-not-understood"),
    ] {
        assert_eq!(verdict(&service, &narrowed(&token, &caveat), "widgets").await, expected, "{caveat}");
    }
    let soon = narrowed(&token, &format!("[0, {}, {}]", now + 60, now));
    let answer = verify(&service, &soon, "widgets", json!({"exists": true})).await;
    let issued = verify(&service, &token, "widgets", json!({"exists": true})).await;
    assert_eq!(answer.body["token"]["id"], issued.body["token"]["id"]);
    assert_ne!(answer.body["token"]["expires_at"], issued.body["token"]["expires_at"]);
}

#[actix_web::test]
async fn introspection_calls_active_only_what_scope_and_exp_describe_whole() {
    let service = start().await;
    let now = service.clock_seconds();
    let token = service.upload_token().await;
    let body = introspect(&service, &token).await;
    assert_eq!((&body["active"], &body["exp"]), (&json!(true), &json!(now + 900)));
    assert_eq!(body["scope"], "upload:acme-widgets upload:widgets");
    let soon = introspect(&service, &narrowed(&token, &format!("[0,{},{}]", now + 60, now - 5))).await;
    assert_eq!((&soon["active"], &soon["exp"]), (&json!(true), &json!(now + 60)));
    for caveat in [
        format!("[0,{},{}]", now + 60, now + 1),
        format!("[0,{now},0]"),
        "[1,[\"widgets\"]]".to_owned(),
        "[2,[]]".to_owned(),
        "registry acme-pypi".to_owned(),
    ] {
        assert_eq!(introspect(&service, &narrowed(&token, &caveat)).await, json!({"active": false}), "{caveat}");
    }
}

#[actix_web::test]
async fn a_narrowed_copy_revokes_its_original_on_both_paths() {
    let service = start().await;
    let now = service.clock_seconds();
    for path in ["/v1/revoke", "/_/oidc/burn-token"] {
        let (token, other) = (service.upload_token().await, service.upload_token().await);
        let copy = narrowed(&token, &format!("[0,{},{now}]", now + 1));
        let answer = match path {
            "/v1/revoke" => service.post(path, FORM, format!("token={copy}")).await,
            _ => service.post_json(path, &json!({ "token": copy })).await,
        };
        assert!([200, 202].contains(&answer.status), "{}", answer.text);
        assert_eq!(verdict(&service, &token, "widgets").await, "upload-token-revoked", "{path}");
        assert_eq!(introspect(&service, &token).await, json!({"active": false}));
        assert_eq!(verdict(&service, &other, "widgets").await, "allowed");
    }
}

/// SECURITY: the codec is part of the key, so bytes of one are never read as the other's.
#[actix_web::test]
async fn who_changes_the_codec_ends_every_token_of_the_registry() {
    let service = start().await;
    let arrays = service.upload_token().await;
    let pypi = text(&service.base, service.provider.issuer());
    service.app.activate(policy(&pypi.replace("codec: pypi", "codec: text")));
    let words = service.upload_token().await;
    assert!(caveats(&words).iter().any(|caveat| caveat.starts_with("allow upload:")));
    assert_eq!(verdict(&service, &words, "widgets").await, "allowed");
    assert_eq!(verdict(&service, &arrays, "widgets").await, "upload-token-unknown");
    service.app.activate(policy(&pypi));
    assert_eq!(verdict(&service, &words, "widgets").await, "upload-token-unknown");
    assert_eq!(verdict(&service, &arrays, "widgets").await, "allowed");
    // Revoking the other codec's says what it says of a stranger's, and revokes nothing.
    assert_eq!(service.post("/v1/revoke", FORM, format!("token={words}")).await.status, 200);
    service.app.activate(policy(&pypi.replace("codec: pypi", "codec: text")));
    assert_eq!(verdict(&service, &words, "widgets").await, "allowed");
}

#[actix_web::test]
async fn a_rule_that_is_withdrawn_takes_its_tokens_with_it() {
    let service = start().await;
    let token = service.upload_token().await;
    service.pass(Duration::from_secs(1)).await;
    let fewer = text(&service.base, service.provider.issuer()).replace("[widgets, ", "[");
    service.app.activate(policy(&fewer));
    assert_eq!(verdict(&service, &token, "widgets").await, "rule-withdrawn");
    assert_eq!(verdict(&service, &token, "acme-widgets").await, "allowed");
}

/// A registry of Python packages whose paths name them, behind a proxy.
#[actix_web::test]
async fn a_proxy_lets_through_what_the_caveats_allow() {
    let routes =
        "routes: {proxy: nginx, allow: [{method: PUT, path: \"/files/{package}/{version}/{*}\", action: upload}]}";
    let generic =
        format!("dialect: generic\n    ecosystem: pypi\n    codec: pypi\n    token: {{prefix: pypi-}}\n    {routes}");
    let service = Service::with_policy(|base, issuer| {
        policy(&policy_text(base, issuer, RULES).replace("dialect: pypi", &generic))
    })
    .await;
    let now = service.clock_seconds();
    let answer = service.exchange(&service.id_token(&json!({})), &json!({"scope": "upload:widgets"})).await;
    let token = answer.body["access_token"].as_str().unwrap().to_owned();
    let put = async |token: &str, package: &str| {
        let request = service.client.get(format!("{}/v1/authorize", service.base)).bearer_auth(token);
        let request = request.header("x-trustmint-key", API_KEY).header("x-original-method", "PUT");
        let request = request.header("x-original-uri", format!("/files/{package}/1.0/w.whl"));
        let answer = Answer::of(request.send().await.unwrap()).await;
        let code = answer.headers.get("x-trustmint-code").map_or("", |code| code.to_str().unwrap()).to_owned();
        (answer.status, code)
    };
    let refused = |code: &str| (403, code.to_owned());
    assert_eq!(put(&token, "widgets").await, (200, String::new()));
    assert_eq!(put(&token, "gadgets").await, refused("package-not-covered"));
    let early = narrowed(&token, &format!("[0,{},{}]", now + 60, now + 1));
    assert_eq!(put(&early, "widgets").await, refused("upload-token-not-yet-valid"));
    assert_eq!(put(&narrowed(&token, "version 1.0"), "widgets").await, refused("caveat-not-understood"));
}

/// The example of the page for registries, as it stands there.
fn page() -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugging-in.md")).unwrap();
    let (_, example) = page.split_once("```python\n").unwrap();
    example.split_once("```").unwrap().0.to_owned()
}

#[actix_web::test]
async fn pypitoken_verifies_offline_with_the_exported_secret() {
    let service = start().await;
    let now = service.clock_seconds();
    let token = service.upload_token().await;

    let home = Home::with_key();
    fs::remove_file(home.path().join("keys/k1")).unwrap();
    for key in service.keyring().iter() {
        let mut private = fs::OpenOptions::new();
        let file = private.write(true).create_new(true).mode(0o600).open(home.path().join("keys").join(key.kid()));
        std::io::Write::write_all(&mut file.unwrap(), key.to_file().expose().as_bytes()).unwrap();
    }
    let exported = |codec: &str, out: &str| -> Value {
        let policy = text(&service.base, "https://ci.acme.example").replace("codec: pypi", codec);
        home.write("policy/acme.yaml", &policy);
        let done = home.run(&["keys", "export", "--registry", "acme-pypi", "--out", out], "");
        assert!(done.status.success(), "{done:?}");
        serde_json::from_str(&home.read(out)).unwrap()
    };
    let (own, other) = (exported("codec: pypi", "own.json"), exported("codec: text", "other.json"));
    assert_eq!((&own["codec"], &other["codec"]), (&json!("pypi"), &json!("text")));
    assert_ne!(own["keys"][0]["secret"], other["keys"][0]["secret"]);

    let until = now + 60;
    let by = json!([{"project_names": ["widgets", "gadgets"]}, {"not_before": now, "not_after": until}]);
    let narrowed = python::ask("pypitoken_interop.py", &json!({"restrict": [{"token": token, "by": by}]}));
    let narrow = narrowed["restrict"][0].as_str().unwrap();
    let cases = [
        (&*token, "widgets", now, "allowed"),
        (&*token, "acme-widgets", now, "allowed"),
        (&*token, "gadgets", now, "package-not-covered"),
        (narrow, "widgets", now, "allowed"),
        (narrow, "acme-widgets", now, "package-not-covered"),
        (narrow, "gadgets", now, "package-not-covered"),
        (narrow, "widgets", until, "upload-token-expired"),
        (&*token, "widgets", now + 899, "allowed"),
        (&*token, "widgets", now + 900, "upload-token-expired"),
    ];
    let mut asked: Vec<Value> = cases
        .iter()
        .map(|(text, project, at, _)| json!({"text": text, "project": project, "exported": own, "now": at}))
        .collect();
    asked.push(json!({"text": token, "project": "widgets", "exported": other, "now": now}));
    let answer = python::ask("pypitoken_interop.py", &json!({"page": page(), "verify": asked}));
    let answers = answer["verify"].as_array().unwrap();
    for ((text, project, at, expected), theirs) in cases.into_iter().zip(answers) {
        service.pass(Duration::from_secs((at - service.clock_seconds()).cast_unsigned())).await;
        assert_eq!(verdict(&service, text, project).await, expected, "{project} {at}");
        assert_eq!(theirs["allowed"] == true, expected == "allowed", "{project} {at}: {theirs}");
    }
    let said = &answers[0]["said"];
    assert_eq!((&said["rules"], &said["claims"]["repository"]), (&json!(["widgets-release"]), &json!("acme/widgets")));
    let stranger = answers.last().unwrap();
    assert_eq!(stranger["allowed"], false, "{stranger}");

    let shown = home.run(&["token", "inspect"], &token);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("caveat       [1,[\"acme-widgets\",\"widgets\"]]"), "{shown}");
}
