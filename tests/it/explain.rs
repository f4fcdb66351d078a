//! `POST /v1/explain`: a registry asks what an exchange would come to, and gets the whole reason.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use trustmint::demo::provider::Answer as Told;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::policy::rule_test;
use trustmint::policy::rule_test::Verdict;

use crate::support::Service;
use crate::support::codecs;
use crate::support::said;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::example;
use crate::support::service::policy;
use crate::support::service::policy_of;
use crate::support::tenants::TOOLS_KEY;
use crate::support::tenants::tenants;

async fn explain_as(service: &Service, key: &str, question: &Value) -> Answer {
    let request = service.client.post(format!("{}/v1/explain", service.base)).bearer_auth(key);
    Answer::of(request.body(question.to_string()).send().await.unwrap()).await
}

async fn explain(service: &Service, question: &Value) -> Answer {
    explain_as(service, API_KEY, question).await
}

/// The answer to a good question: decision, code, and whether the token is good.
#[track_caller]
fn told<'a>(answer: &'a Answer, decision: &str, code: &str, valid: &Value) -> &'a Value {
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        (&answer.body["decision"], answer.code(), &answer.body["token"]["valid"]),
        (&json!(decision), code, valid),
        "{}",
        answer.text
    );
    assert!(answer.body["sentence"].as_str().is_some_and(|sentence| sentence.len() > 10), "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    &answer.body
}

#[track_caller]
fn wrong(answer: &Answer, status: u16, code: &str, words: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.text);
    assert!(answer.body["message"].as_str().unwrap().contains(words), "{words}: {}", answer.text);
    assert_eq!(answer.body["decision"], Value::Null);
}

/// The claims of a job that the rule of the tests is about, as its token has them.
fn claims(service: &Service, overrides: &Value) -> Value {
    let mut job = json!({"repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "release"});
    job.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
    let mut claims = json!({"iss": service.provider.issuer()});
    claims.as_object_mut().unwrap().extend(example("github", "tag-push", &job).as_object().unwrap().clone());
    claims.as_object_mut().unwrap().retain(|name, _| overrides.get(name).is_none_or(|value| !value.is_null()));
    claims
}

#[actix_web::test]
async fn a_good_token_is_told_its_grant_condition_by_condition_and_is_not_spent() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    for _ in 0..2 {
        let answer = explain(&service, &json!({"token": token})).await;
        let body = told(&answer, "allow", "ok", &json!(true));
        assert_eq!(
            body["grant"],
            json!({"permissions": ["create:widgets-*", "upload:widgets"], "ttl": 900, "uses": null, "max_size": null, "versions": null,
                "rules": ["widgets-release"]})
        );
        assert_eq!(body["sentence"], "the rule `widgets-release` grants create:widgets-*,upload:widgets");
        assert_eq!(body["policy_revision"], service.app.policy().revision());
        assert!(!answer.text.contains(&token) && !answer.text.contains("pypi-Ag"), "{}", answer.text);
    }
    assert!(service.audit().is_empty(), "{:?}", service.audit());
    assert_eq!(service.mint(&json!({"token": token})).await.status, 200, "the token was not claimed");
}

#[actix_web::test]
async fn whatever_is_wrong_with_a_token_the_rules_are_asked_about_its_claims() {
    let service = Service::start().await;
    let stranger = SigningKey::generate(KeyKind::P256).unwrap().with_kid(service.provider.keys()[1].kid());
    let forged = stranger.token(&Value::Null, &service.claims(&json!({})));
    let now = service.clock_seconds();
    for (token, code, words) in [
        (service.id_token(&json!({"exp": now - 600, "iat": now - 900})), "token-expired", "expired at"),
        (service.id_token(&json!({"aud": "pypi"})), "wrong-audience", "`pypi`, this registry's is `acme`"),
        (service.id_token(&json!({"aud": ["acme", "pypi"]})), "audience-list", "2 audiences"),
        (service.id_token(&json!({"exp": now + 40_000})), "lifetime-too-long", "at most"),
        (forged, "bad-signature", "not its issuer's"),
    ] {
        let answer = explain(&service, &json!({"token": token})).await;
        let body = told(&answer, "allow", "ok", &json!(false));
        assert_eq!(body["token"]["code"], code, "{}", answer.text);
        assert!(body["token"]["detail"].as_str().unwrap().contains(words), "{}", answer.text);
        assert_eq!(body["grant"]["rules"], json!(["widgets-release"]));
    }
    let expired = json!({"exp": now - 600, "iat": now - 900, "environment": "staging"});
    let answer = explain(&service, &json!({"token": service.id_token(&expired)})).await;
    let body = told(&answer, "deny", "environment-mismatch", &json!(false));
    assert_eq!(body["token"]["code"], "token-expired");
    assert_eq!(body["rules"][0]["rule"], "widgets-release");
}

#[actix_web::test]
async fn without_an_issuer_there_is_nothing_to_ask_the_rules() {
    let service = Service::start().await;
    let slash = format!("{}/", service.provider.issuer());
    for (token, code, words) in [
        (
            service.id_token(&json!({"iss": slash})),
            "unknown-issuer",
            format!("the nearest one is `{}`", service.provider.issuer()),
        ),
        (
            service.id_token(&json!({"iss": "https://evil.example"})),
            "unknown-issuer",
            "`https://evil.example`".to_owned(),
        ),
        ("garbage".to_owned(), "token-malformed", "1 part".to_owned()),
        (String::new(), "token-missing", "empty".to_owned()),
    ] {
        let answer = explain(&service, &json!({"token": token})).await;
        let body = told(&answer, "deny", code, &json!(false));
        assert_eq!(body["token"]["code"], code);
        assert!(body["sentence"].as_str().unwrap().contains(&words), "{words}: {}", answer.text);
        assert_eq!((&body["rules"], &body["grant"]), (&Value::Null, &Value::Null));
    }
    let answer = explain(&service, &json!({"claims": claims(&service, &json!({"iss": "https://evil.example"}))})).await;
    let body = told(&answer, "deny", "unknown-issuer", &json!(false));
    assert_eq!(body["rules"], Value::Null);
}

#[actix_web::test]
async fn bare_claims_need_no_token_and_their_audience_is_looked_at() {
    let service = Service::start().await;
    let good = claims(&service, &json!({}));
    let answer = explain(&service, &json!({"claims": good})).await;
    told(&answer, "allow", "ok", &Value::Null);
    assert_eq!(answer.body["token"], Value::Null);
    let mut unnamed = good.clone();
    unnamed.as_object_mut().unwrap().remove("iss");
    told(&explain(&service, &json!({"claims": unnamed, "issuer": "github"})).await, "allow", "ok", &Value::Null);
    told(&explain(&service, &json!({"claims": good, "issuer": "github"})).await, "allow", "ok", &Value::Null);

    let answer = explain(&service, &json!({"claims": claims(&service, &json!({"aud": "testpypi"}))})).await;
    let body = told(&answer, "allow", "ok", &json!(false));
    assert_eq!(body["token"]["code"], "wrong-audience");
    assert_eq!(body["token"]["detail"], "the token was made for the audience `testpypi`, this registry's is `acme`");
    let answer = explain(&service, &json!({"claims": claims(&service, &json!({"environment": null}))})).await;
    told(&answer, "deny", "environment-mismatch", &Value::Null);
}

#[actix_web::test]
async fn the_request_is_narrowed_as_an_exchange_is() {
    let service = Service::start().await;
    let claims = claims(&service, &json!({}));
    for (narrow, decision, code) in [
        (json!({"package": "widgets"}), "allow", "ok"),
        (json!({"package": "Widgets"}), "allow", "ok"),
        (json!({"package": "gadgets"}), "deny", "package-not-granted"),
        (json!({"scope": "upload:widgets"}), "allow", "ok"),
        (json!({"scope": "create:widgets-x upload:widgets"}), "allow", "ok"),
        (json!({"scope": "upload:widgets upload:gadgets"}), "deny", "scope-not-granted"),
    ] {
        let mut question = json!({"claims": claims});
        question.as_object_mut().unwrap().extend(narrow.as_object().unwrap().clone());
        told(&explain(&service, &question).await, decision, code, &Value::Null);
    }
    for (scope, words) in [
        ("", "1 to 64 pairs"),
        ("upload", "not `action:package`"),
        ("upload:widgets-*", "is a pattern"),
        ("upload:a\u{202e}b", "`upload:a\\u{202e}b` is not"),
    ] {
        wrong(&explain(&service, &json!({"claims": claims, "scope": scope})).await, 400, "invalid-scope", words);
    }
    wrong(&explain(&service, &json!({"claims": claims, "package": "a b"})).await, 400, "bad-request", "`package`");
}

#[actix_web::test]
async fn a_question_that_says_too_little_or_too_much_is_refused() {
    let service = Service::start().await;
    let (token, claims) = (service.id_token(&json!({})), claims(&service, &json!({})));
    let mut unnamed = claims.clone();
    unnamed.as_object_mut().unwrap().remove("iss");
    for (question, words) in [
        (json!({}), "one of `token` and `claims`"),
        (json!({"token": token, "claims": claims}), "one of `token` and `claims`"),
        (json!({"token": token, "issuer": "github"}), "`issuer` goes with `claims`"),
        (json!({"token": 7}), "`token` must be a string; it is an integer"),
        (json!({"claims": "x"}), "`claims` must be an object; it is a string"),
        (json!({"claims": claims, "audience": "acme"}), "`audience` is not a member"),
        (json!({"claims": unnamed}), "the claims have no `iss`"),
        (json!({"claims": unnamed, "issuer": "gitlab"}), "the policy has no issuer `gitlab`"),
        (
            json!({"claims": self::claims(&service, &json!({"iss": "https://x.example"})), "issuer": "github"}),
            "leave one of them out",
        ),
        (json!([]), "must be a JSON object"),
    ] {
        wrong(&explain(&service, &question).await, 400, "bad-request", words);
    }
    let twice = service.client.post(format!("{}/v1/explain", service.base)).bearer_auth(API_KEY);
    let twice = twice.body(format!(r#"{{"token":"a","token":"{token}"}}"#)).send().await.unwrap();
    wrong(&Answer::of(twice).await, 400, "bad-request", "repeated member");
}

#[actix_web::test]
async fn a_family_of_issuers_needs_the_members_url() {
    let rules = r#"
  acme:
    registry: acme-pypi
    issuer: enterprises
    when: {enterprise_slug: acme, repository_owner_id: "9123456", repository_id: "701234567"}
    allow: {upload: [widgets]}
"#;
    let host = "https://token.actions.githubusercontent.com";
    let family = format!("  enterprises: {{provider: github, url: \"{host}/{{enterprise_slug}}\"}}");
    let service = Service::with_policy(|base, _| policy(&policy_of(base, &family, rules))).await;
    let ask = async |overrides: &Value| {
        explain(&service, &json!({"claims": claims(&service, overrides), "issuer": "enterprises"})).await
    };
    wrong(&ask(&json!({"iss": null})).await, 400, "bad-request", "is a family of issuers: put `iss` into the claims");
    told(&ask(&json!({"iss": format!("{host}/acme")})).await, "allow", "ok", &Value::Null);
    wrong(&ask(&json!({"iss": format!("{host}/globex")})).await, 400, "bad-request", "leave one of them out");
}

#[actix_web::test]
async fn only_a_registry_may_ask_and_only_about_itself() {
    let service = Service::with_policy(tenants).await;
    let question = json!({"claims": claims(&service, &json!({}))});
    wrong(&explain_as(&service, "a-stranger", &question).await, 401, "bad-api-key", "not known");
    let without = service.client.post(format!("{}/v1/explain", service.base)).body(question.to_string());
    wrong(&Answer::of(without.send().await.unwrap()).await, 401, "bad-api-key", "no API key");
    let rules = |answer: &Answer| answer.body["grant"]["rules"].clone();
    assert_eq!(rules(&explain(&service, &question).await), json!(["widgets-release"]));
    assert_eq!(rules(&explain_as(&service, TOOLS_KEY, &question).await), json!(["tools-release"]));
    let stranger = json!({"claims": claims(&service, &json!({"repository_id": "666"}))});
    let answer = explain_as(&service, TOOLS_KEY, &stranger).await;
    assert!(!answer.text.contains("widgets-release") && !answer.text.contains("files-release"), "{}", answer.text);
}

#[actix_web::test]
async fn the_explanation_is_whole_where_a_job_is_told_nothing() {
    let service = Service::start().await;
    let token = service.id_token(&json!({"repository_id": "666", "repository_owner_id": "667"}));
    assert_eq!(service.mint(&json!({"token": token})).await.code(), "no-matching-rule");
    let answer = explain(&service, &json!({"token": token})).await;
    let body = told(&answer, "deny", "repository-recreated", &json!(true));
    assert_eq!((&body["rules"][0]["rule"], &body["rules"][0]["disclosed"]), (&json!("widgets-release"), &json!(false)));
    let condition = body["rules"][0]["conditions"].as_array().unwrap().iter().find(|c| c["claim"] == "repository_id");
    assert_eq!((&condition.unwrap()["wants"], &condition.unwrap()["has"]), (&json!("701234567"), &json!("666")));
}

#[actix_web::test]
async fn keys_that_cannot_be_had_leave_the_token_unjudged() {
    let service = Service::start().await;
    service.provider.answer(Endpoint::Jwks, Told::status(500));
    let answer = explain(&service, &json!({"token": service.id_token(&json!({}))})).await;
    let body = told(&answer, "allow", "ok", &Value::Null);
    assert_eq!(body["token"]["code"], "issuer-unavailable");
}

#[actix_web::test]
async fn explanations_fetch_keys_from_the_same_allowance_as_exchanges() {
    let service = Service::start().await;
    service.upload_token().await;
    let before = service.provider.requests(Endpoint::Jwks);
    for n in 0..40 {
        let token = service.provider.mint_with(&json!({"kid": format!("unknown-{n}")}), &service.claims(&json!({})));
        let answer = explain(&service, &json!({"token": token})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        service.clock.pass(Duration::from_millis(10));
    }
    let fetched = service.provider.requests(Endpoint::Jwks) - before;
    assert!((1..=4).contains(&fetched), "{fetched} fetches");
}

#[actix_web::test]
async fn rules_that_are_switched_off_are_named() {
    let service =
        Service::with_rules(&WIDGETS.replace("    issuer: github\n", "    issuer: github\n    enabled: false\n")).await;
    let answer = explain(&service, &json!({"claims": claims(&service, &json!({}))})).await;
    told(&answer, "deny", "rule-disabled", &Value::Null);
}

#[actix_web::test]
async fn rules_in_shadow_mode_are_shown_recorded_and_counted_and_grant_nothing() {
    let shadow = WIDGETS.replace("widgets-release:", "widgets-next:").replace("upload: [widgets]", "upload: [gadgets]");
    let shadow = shadow.replace("    issuer: github\n", "    issuer: github\n    mode: shadow\n");
    let agreeing = WIDGETS.replace("widgets-release:", "widgets-same:");
    let agreeing = agreeing.replace("    issuer: github\n", "    issuer: github\n    mode: shadow\n");
    let service = Service::with_rules(&format!("{WIDGETS}{shadow}{agreeing}")).await;
    let answer = explain(&service, &json!({"claims": claims(&service, &json!({}))})).await;
    let body = told(&answer, "allow", "ok", &Value::Null);
    assert_eq!(body["grant"]["rules"], json!(["widgets-release"]));
    let rule = &body["rules"][0];
    assert_eq!((&rule["rule"], &rule["mode"]), (&json!("widgets-release"), &json!("enforce")));
    let holds = rule["conditions"].as_array().unwrap().iter().map(|condition| &condition["holds"]);
    assert_eq!(holds.collect::<Vec<_>>(), [true; 8], "six of the rule and two of the preset");
    assert_eq!(body["shadow"].as_array().unwrap().len(), 1, "{}", answer.text);
    assert_eq!((&body["shadow"][0]["rule"], &body["shadow"][0]["mode"]), (&json!("widgets-next"), &json!("shadow")));

    service.upload_token().await;
    assert_eq!(service.last_event()["shadow"], json!(["widgets-next"]));
    let metrics = service.app.metrics().render().unwrap();
    assert!(metrics.contains("trustmint_shadow_disagreements_total{rule=\"widgets-next\"} 1"), "{metrics}");
    assert!(!metrics.contains("widgets-same"));

    service.activate(&shadow);
    let answer = explain(&service, &json!({"claims": claims(&service, &json!({}))})).await;
    told(&answer, "deny", "rule-disabled", &Value::Null);
    assert_eq!(service.mint(&json!({"token": service.id_token(&json!({}))})).await.code(), "rule-disabled");
    assert_eq!(
        (&service.last_event()["shadow"], &service.last_event()["decision"]),
        (&json!(["widgets-next"]), &json!("deny"))
    );
}

/// The code that `trustmint policy explain` gives a job that wants this package from the one registry of the directory.
fn printed(directory: &Path, claims: &Value, package: &str) -> Value {
    fs::write(directory.join("claims.json"), claims.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
    command.args(["policy", "explain", "--json", "--claims", "claims.json", "--package", package]);
    let output = said::run(command.current_dir(directory).env_clear()).unwrap();
    let facts: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    facts["code"].clone()
}

#[actix_web::test]
async fn one_job_is_answered_alike_wherever_it_is_asked_about() {
    // At npm's the exchange itself is for one package.
    let service = codecs::speaking("npm", "/npm/", "widgets", &[]).await;
    let enforced = codecs::text(&service.base, service.provider.issuer(), "npm", "/npm/", "widgets", &[]);
    let shadow = enforced.replace("    issuer: github\n", "    issuer: github\n    mode: shadow\n");
    assert_ne!(shadow, enforced);
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("policy")).unwrap();
    for (text, overrides, package, code) in [
        (&enforced, json!({}), "widgets", "ok"),
        (&enforced, json!({"environment": "staging"}), "widgets", "environment-mismatch"),
        // A stranger who has the name; the job itself is told less.
        (&enforced, json!({"repository_id": "666", "repository_owner_id": "667"}), "widgets", "repository-recreated"),
        (&enforced, json!({}), "gadgets", "package-not-granted"),
        (&shadow, json!({}), "widgets", "rule-disabled"),
    ] {
        service.app.activate(policy(text));
        fs::write(home.path().join("policy/policy.yaml"), text).unwrap();
        let mut job = overrides.clone();
        job["aud"] = json!("npm:127.0.0.1");
        let claims = service.claims(&job);

        let url = format!("{}/-/npm/v1/oidc/token/exchange/package/{package}", service.base);
        let exchange = service.client.post(url).bearer_auth(service.id_token(&job));
        let answer = Answer::of(exchange.send().await.unwrap()).await;
        assert_eq!(answer.status == 201, code == "ok", "{code}: {}", answer.text);
        let event = service.last_event();
        let audited = if code == "ok" { &event["code"] } else { &event["explanation"]["code"] };
        let explained = explain(&service, &json!({"claims": claims, "package": package})).await;
        let printed = printed(home.path(), &claims, package);
        let expected = json!(code);
        assert_eq!([audited, &explained.body["code"], &printed], [&expected; 3], "{event}\n{}", explained.text);

        let mut claims = json!({"repository_owner_id": "9123456", "repository_id": "701234567",
            "repository": "acme/widgets", "environment": "release"});
        claims.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
        let expect = if code == "ok" { json!("allow") } else { json!({"deny": code}) };
        let test = json!({"name": "it", "registry": "acme-pypi", "issuer": "github", "token": "github/tag-push",
            "claims": claims, "request": {"upload": package}, "expect": expect});
        let tested = policy(&format!("{text}tests:\n  - {test}\n"));
        let verdict = &rule_test::run(&tested)[0].verdict;
        assert!(matches!(verdict, Verdict::Passed), "{code}: {verdict:?}");
    }
}
