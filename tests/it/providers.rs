//! The providers' presets at the front door: each one's real issuer URL and realistic tokens, signed with keys of ours.

use serde_json::Value;
use serde_json::json;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::provider;

use crate::support::Presets;
use crate::support::presets::PRESETS;
use crate::support::presets::Preset;
use crate::support::presets::preset;
use crate::support::service::Answer;

impl Presets {
    pub(crate) async fn mint(&self, token: &str) -> Answer {
        self.service.mint(&json!({"token": token})).await
    }

    pub(crate) async fn exchange(&self, example: &str, overrides: &Value) -> Answer {
        let overrides = if example.starts_with("generic/") { with_team(overrides) } else { overrides.clone() };
        self.mint(&self.token(example, &overrides)).await
    }
}

/// The claims that the rule of the one-tenant issuer reads.
fn with_team(overrides: &Value) -> Value {
    let mut claims = json!({"team": "release", "build": 7});
    claims.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
    claims
}

/// The conditions that failed of the nearest rule, by the latest audit event.
pub(crate) fn failed(event: &Value) -> Vec<&str> {
    let conditions = event["explanation"]["rules"][0]["conditions"].as_array().unwrap();
    conditions.iter().filter(|c| c["holds"] == false).map(|c| c["claim"].as_str().unwrap()).collect()
}

/// A claim by its name, or by a JSON pointer.
pub(crate) fn value<'a>(claims: &'a Value, name: &str) -> &'a Value {
    if name.starts_with('/') { claims.pointer(name).unwrap() } else { &claims[name] }
}

fn with_last_character_changed(text: &str) -> String {
    let last = if text.ends_with('1') { "2" } else { "1" };
    format!("{}{last}", &text[..text.len() - 1])
}

#[actix_web::test]
async fn a_realistic_token_of_each_provider_is_accepted() {
    let presets = Presets::start().await;
    for Preset { name: preset, url: issuer, example, .. } in PRESETS {
        let answer = presets.exchange(&format!("{preset}/{example}"), &json!({})).await;
        assert_eq!(answer.status, 200, "{preset}: {}", answer.text);
        // What it carries of the job leaves room for longer names.
        let bytes = answer.body["token"].as_str().unwrap().len();
        assert!(bytes <= 2048, "{preset}: {bytes}");
        let question = json!({"token": answer.body["token"], "package": "widgets", "exists": true});
        let verified = presets.service.verify(&question).await;
        assert_eq!(verified.body["allowed"], true, "{preset}: {}", verified.text);
        let publisher = &verified.body["publisher"];
        assert_eq!(
            (publisher["issuer"].as_str(), &publisher["rules"][0]),
            (Some(issuer), &json!(format!("{preset}-rule")))
        );
    }
}

#[actix_web::test]
async fn each_mandatory_pin_changed_by_one_character_is_refused_with_the_condition_named() {
    let presets = Presets::start().await;
    let mut tried = 0;
    for Preset { name: preset, example, .. } in PRESETS {
        let example = format!("{preset}/{example}");
        let provider = provider::by_name(preset).unwrap();
        for pin in provider.pins {
            let claims = presets.claims(&example, &json!({}));
            let good = value(&claims, pin).as_str().unwrap();
            // The others stay as they are, where they would follow it.
            let mut overrides = json!({});
            for other in provider.pins {
                overrides[provider.shown(other)] = value(&claims, other).clone();
            }
            overrides[provider.shown(pin)] = json!(with_last_character_changed(good));
            let answer = presets.exchange(&example, &overrides).await;
            // Who is not named by the pins learns nothing: not which rule is near, not even that there is one.
            assert_eq!((answer.status, answer.code()), (422, "no-matching-rule"), "{preset} {pin}: {}", answer.text);
            let quoted = [format!("\"{good}\""), format!("`{good}`"), format!(": {good}`"), format!("{preset}-rule")];
            assert!(quoted.iter().all(|text| !answer.text.contains(text)), "{pin}: {}", answer.text);
            assert_eq!(answer.body["explanation"]["rules"], json!([]));
            // The registry's side learns which condition it was, and why.
            let event = presets.service.last_event();
            assert_eq!(event["code"], "no-matching-rule");
            assert_eq!(failed(&event), [*pin], "{preset}");
            let sentence = event["explanation"]["sentence"].as_str().unwrap();
            assert!(
                sentence.contains(&format!("`{preset}-rule`")) && sentence.contains(&format!("`{pin}: {good}`")),
                "{sentence}"
            );
            tried += 1;
        }
    }
    assert_eq!(tried, provider::ALL.iter().map(|provider| provider.pins.len()).sum::<usize>());
}

#[actix_web::test]
async fn an_issuer_of_one_tenant_needs_no_pins_and_coerces_nothing() {
    let presets = Presets::start().await;
    for (overrides, claim) in [
        (json!({"team": "dev"}), "team"),
        (json!({"team": ["release"]}), "team"),
        (json!({"team": "Release"}), "team"),
        (json!({"team": null}), "team"),
        (json!({"build": "7"}), "build"),
        (json!({"build": 7.0}), "build"),
        (json!({"build": true}), "build"),
    ] {
        let answer = presets.exchange("generic/job", &overrides).await;
        assert_eq!((answer.status, answer.code()), (422, "no-matching-rule"), "{overrides}: {}", answer.text);
        assert_eq!(failed(&presets.service.last_event()), [claim], "{overrides}");
    }
}

#[actix_web::test]
async fn a_claim_of_the_wrong_json_type_is_never_read_as_another() {
    let presets = Presets::start().await;
    for (example, overrides, claim, words) in [
        ("github/release", json!({"repository_id": 701_234_567}), "repository_id", "is an integer, not a string"),
        (
            "github/release",
            json!({"repository_owner_id": ["9123456"]}),
            "repository_owner_id",
            "is an array, not a string",
        ),
        ("github/release", json!({"event_name": true}), "event_name", "is a boolean, not a string"),
        ("gitlab/tag-push", json!({"project_id": 53_804_090}), "project_id", "is an integer, not a string"),
        ("gitlab/tag-push", json!({"namespace_id": {"id": "7211"}}), "namespace_id", "is an object, not a string"),
        ("google/service-account", json!({"email_verified": "true"}), "email_verified", "is a string, not a boolean"),
        ("google/service-account", json!({"sub": 104}), "sub", "is an integer, not a string"),
        ("activestate/build", json!({"actor_id": 1}), "actor_id", "is an integer, not a string"),
        ("github/release", json!({"jti": 7}), "jti", "is an integer, not a string"),
        ("github/release", json!({"exp": "1787000300"}), "exp", "is a string, not an integer"),
        ("github/release", json!({"iat": 1.5}), "iat", "not an integer"),
        ("github/release", json!({"aud": {"acme": true}}), "aud", "is an object"),
    ] {
        let answer = presets.exchange(example, &overrides).await;
        assert_eq!((answer.status, answer.code()), (422, "claim-type"), "{overrides}: {}", answer.text);
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(&format!("`{claim}` ")) && message.contains(words), "{overrides}: {message}");
    }
    // A claim that only a rule reads is an ordinary mismatch.
    let answer = presets.exchange("github/release", &json!({"environment": ["release"]})).await;
    assert_eq!(answer.code(), "environment-mismatch", "{}", answer.text);
    let answer = presets.exchange("gitlab/tag-push", &json!({"ref_protected": true})).await;
    assert_eq!(answer.code(), "ref-mismatch", "{}", answer.text);
}

#[actix_web::test]
async fn a_token_that_claims_another_issuer_than_its_keys_is_refused() {
    let presets = Presets::start().await;
    let github = preset("github").url;
    // GitLab signs a token that says it is GitHub's, under its own key's name and under GitHub's.
    let claims = presets.claims("github/release", &json!({}));
    assert_eq!(claims["iss"], github);
    let own = presets.key("gitlab").token(&Value::Null, &claims);
    assert_eq!(presets.mint(&own).await.code(), "unknown-key");
    let borrowed = json!({"kid": presets.key("github").kid()});
    let disguised = presets.key("gitlab").token(&borrowed, &claims);
    assert_eq!(presets.mint(&disguised).await.code(), "bad-signature");
    // Another spelling of the issuer is another issuer.
    for (iss, named) in [
        (format!("{github}/"), true),
        (github.replace("https", "HTTPS"), true),
        (github.replace("https://token", "https://Token"), true),
        (github.replace("https", "http"), false),
        (format!("{github}/acme"), false),
        (format!("https://evil.example/?{github}"), false),
        ("accounts.google.com".to_owned(), false),
    ] {
        let answer = presets.exchange("github/release", &json!({"iss": iss})).await;
        assert_eq!((answer.status, answer.code()), (422, "unknown-issuer"), "{iss}: {}", answer.text);
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(&iss), "{message}");
        assert_eq!(message.contains(&format!("`{github}`")), named, "{message}");
    }
    // None of these is worth an audit event: nothing in them is proven.
    assert_eq!(presets.service.audit(), Vec::<Value>::new());
}

#[actix_web::test]
async fn two_issuers_may_publish_keys_of_the_same_name() {
    let key = || SigningKey::generate(KeyKind::P256).unwrap();
    let keys = PRESETS.map(|preset| (preset.name, key().with_kid("1")));
    let presets = Presets::with_keys(keys).await;
    for example in ["github/release", "gitlab/tag-push"] {
        assert_eq!(presets.exchange(example, &json!({})).await.status, 200, "{example}");
    }
    let forged = presets.key("gitlab").token(&Value::Null, &presets.claims("github/release", &json!({})));
    assert_eq!(presets.mint(&forged).await.code(), "bad-signature");
}

#[actix_web::test]
async fn the_same_ids_and_the_same_jti_of_another_issuer_are_another_job() {
    let presets = Presets::start().await;
    // Jenkins asserts GitHub's claims: no rule of that issuer is about them.
    let github = presets.claims("github/release", &json!({"iss": preset("generic").url}));
    let answer = presets.mint(&presets.key("generic").token(&Value::Null, &github)).await;
    assert_eq!(answer.code(), "no-matching-rule", "{}", answer.text);
    // A token id is its issuer's own.
    for example in ["github/release", "gitlab/tag-push", "activestate/build"] {
        assert_eq!(presets.exchange(example, &json!({"jti": "235b3a54"})).await.status, 200, "{example}");
    }
    assert_eq!(presets.exchange("github/release", &json!({"jti": "235b3a54"})).await.code(), "token-replayed");
}

#[actix_web::test]
async fn a_forks_merge_request_at_gitlab_is_refused() {
    let presets = Presets::start().await;
    // Since 18.2.2 `project_*` are the fork's; an attacker who controls them still cannot name the parent's ids, and
    // where both are given they differ.
    let fork = json!({"job_project_id": "99", "job_project_path": "mallory/widgets"});
    let answer = presets.exchange("gitlab/tag-push", &fork).await;
    assert_eq!(answer.status, 422);
    assert!(answer.body["message"].as_str().unwrap().contains("`job_project_id: 99`"), "{}", answer.text);
    assert_eq!(failed(&presets.service.last_event()), ["job_project_id"]);
    // Before 18.2.2 a fork's branch bore the parent's name and path: the event and the protection tell.
    let older = json!({"job_project_id": null, "job_project_path": null});
    let answer = presets.exchange("gitlab/merge-request", &older).await;
    assert_eq!(answer.code(), "event-not-allowed", "{}", answer.text);
    assert_eq!(failed(&presets.service.last_event()), ["pipeline_source", "pipeline_source", "ref_protected"]);
    // Where the claim does not exist, the rest decides.
    assert_eq!(presets.exchange("gitlab/tag-push", &older).await.status, 200);
}

#[actix_web::test]
async fn events_that_run_code_from_outside_are_refused_at_github() {
    let presets = Presets::start().await;
    for event in ["pull_request_target", "workflow_run", "issue_comment", "pull_request", "schedule", ""] {
        let answer = presets.exchange("github/release", &json!({"event_name": event})).await;
        assert_eq!((answer.status, answer.code()), (422, "event-not-allowed"), "{event}: {}", answer.text);
        assert_eq!(failed(&presets.service.last_event()), ["event_name"], "{event}");
    }
}

#[actix_web::test]
async fn an_address_that_google_has_not_verified_is_refused_without_showing_it() {
    let presets = Presets::start().await;
    let answer = presets.exchange("google/service-account", &json!({"email_verified": false})).await;
    assert_eq!(answer.status, 422);
    let message = answer.body["message"].as_str().unwrap();
    assert!(message.contains("`email_verified: true`") && message.contains("`email_verified: false`"), "{message}");
    let event = presets.service.last_event();
    assert_eq!(failed(&event), ["email_verified"]);
    assert!(!answer.text.contains("releaser@"), "{}", answer.text);
    assert!(!event["claims"].to_string().contains("releaser@"), "{event}");
}

#[actix_web::test]
async fn a_token_that_is_not_a_jobs_is_refused_even_under_the_right_key() {
    let presets = Presets::start().await;
    for (example, claim) in [
        // A runner's internal token.
        ("github/release", "job_workflow_ref"),
        // A user's login.
        ("gitlab/tag-push", "pipeline_id"),
        // A token in the short format.
        ("google/service-account", "email"),
        ("activestate/build", "builder"),
        ("circleci/tag-push", "oidc.circleci.com/pipeline-definition-id"),
        // A job that has not asked for the ids.
        ("buildkite/tag-push", "organization_id"),
        ("buildkite/tag-push", "pipeline_id"),
        ("bitbucket/deployment", "repositoryUuid"),
        // A service connection's token.
        ("azure-devops/tag", "def_id"),
        ("codefresh/push", "pipeline_id"),
        // An organisation that filters its claims.
        ("semaphore/branch-push", "job_type"),
        ("semaphore/branch-push", "ref_type"),
        ("jenkins/job", "sub"),
        ("hcp-terraform/apply", "terraform_workspace_id"),
        ("spacelift/tracked-run", "scope"),
        // An older instance.
        ("forgejo/tag-push", "repository_id"),
        ("depot/tag-push", "org_id"),
        ("spiffe/workload", "sub"),
    ] {
        let answer = presets.exchange(example, &json!({claim: null})).await;
        assert_eq!((answer.status, answer.code()), (422, "missing-claim"), "{example}: {}", answer.text);
        let provider = provider::by_name(example.split('/').next().unwrap()).unwrap();
        let message = answer.body["message"].as_str().unwrap();
        assert!(message.contains(&format!("`{}`", provider.shown(claim))), "{message}");
        assert!(message.contains(provider.hint), "{message}");
    }
}
