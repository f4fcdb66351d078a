//! The causes that users of trusted publishing meet, each through the front door: a stable code of its own, and a
//! sentence that says what is wanted, what was sent, and the mend.
//!
//! They are numbered as in a list of what users of PyPI have met. Four of it cannot be met here. 16 and 17 are about
//! pending publishers, and 22 is a limit on registering publishers: nobody registers any, since rules are the operator's or
//! a registry's own, and one that grants `create` covers a package that does not exist yet. 18 is an upload whose file
//! names another package than its token does: the registry asks about the file's name, and the answer is that of 19.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::code::Code;
use trustmint::demo::provider::Answer as Told;
use trustmint::demo::provider::Endpoint;

use crate::store_contract::faulty;
use crate::store_contract::faulty::Fault;
use crate::support::Presets;
use crate::support::Service;
use crate::support::presets::RULES;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

/// A refusal as it must be: status, code, and the telling words of the sentence in their order.
struct Refused<'a>(u16, &'static str, &'a [&'a str]);

impl Refused<'_> {
    #[track_caller]
    fn check(&self, cause: &str, answer: &Answer) {
        let Self(status, code, words) = self;
        assert_eq!((answer.status, answer.code()), (*status, *code), "{cause}: {}", answer.text);
        let message = answer.body["message"].as_str().unwrap();
        telling(cause, message, words);
        // What each client shows is the same sentence.
        assert_eq!(
            answer.body["errors"],
            json!([{"code": code, "description": message, "detail": message}]),
            "{cause}"
        );
        assert_eq!((&answer.body["detail"], &answer.body["body"]["message"]), (&json!(message), &json!(message)));
        documented(cause, answer);
    }
}

/// That the words stand in the sentence, in this order.
#[track_caller]
fn telling(cause: &str, sentence: &str, words: &[&str]) {
    let mut rest = sentence;
    for word in words {
        let Some((_, after)) = rest.split_once(word) else {
            panic!("{cause}: no `{word}` (in its place) in: {sentence}")
        };
        rest = after;
    }
}

/// That the answer leads to its code's row of the documentation.
#[track_caller]
fn documented(cause: &str, answer: &Answer) {
    let code = answer.code();
    assert!(Code::ALL.iter().any(|known| known.as_str() == code), "{cause}: {code}");
    let link = answer.body["documentation"].as_str().unwrap();
    assert!(link.ends_with(&format!("docs/errors.md#{code}")), "{cause}: {link}");
    assert_eq!(answer.headers["cache-control"], "no-store", "{cause}");
    assert_eq!(answer.headers["x-request-id"], answer.body["request_id"].as_str().unwrap(), "{cause}");
}

async fn mint(service: &Service, token: &str) -> Answer {
    service.mint(&json!({"token": token})).await
}

#[actix_web::test]
async fn c01_the_operator_switched_trusted_publishing_off() {
    let service = Service::start().await;
    let off = |from: &str, to: &str| {
        let text = policy_text(&service.base, service.provider.issuer(), WIDGETS);
        assert!(text.contains(from));
        service.app.activate(policy(&text.replace(from, to)));
    };
    off("dialect: pypi", "enabled: false\n    dialect: pypi");
    // gh-action-pypi-publish reads 403 here as "switched off", and anything else as a fault.
    let words = &["trusted publishing is switched off for this registry", "ask the registry's operator"];
    Refused(403, "registry-disabled", words).check("1 audience", &service.get("/_/oidc/audience").await);
    let token = service.id_token(&json!({}));
    Refused(403, "registry-disabled", words).check("1 mint", &mint(&service, &token).await);
    off("{provider: github,", "{provider: github, enabled: false,");
    let words = &["this identity provider is switched off", "ask the registry's operator"];
    Refused(422, "issuer-disabled", words).check("1 provider", &mint(&service, &token).await);
    off("    issuer: github\n", "    issuer: github\n    enabled: false\n");
    let words = &["the rule `widgets-release`", "switched off", "ask the registry's operator"];
    Refused(422, "rule-disabled", words).check("1 rule", &mint(&service, &token).await);
    service.activate(WIDGETS);
    assert_eq!(mint(&service, &token).await.status, 200, "none of this spent the token");
}

#[actix_web::test]
async fn c02_the_index_has_no_trusted_publishing_at_this_path_or_host() {
    let service = Service::start().await;
    for path in ["/legacy/_/oidc/audience", "/simple/_/oidc/mint-token"] {
        let words = &["there is no endpoint at", path, "at the root of the host", "`/_/oidc/", "check the URL"];
        let answer =
            if path.ends_with("audience") { service.get(path).await } else { service.post(path, "", "").await };
        assert_eq!((answer.status, answer.code()), (404, "not-found"), "{}", answer.text);
        telling("2 prefix", answer.body["message"].as_str().unwrap(), words);
        documented("2 prefix", &answer);
    }
    let answer = service.get("/.well-known/pytp?discover=%2Fother%2F").await;
    Refused(404, "not-found", &["no upload URL of this host has the path `/other/`", "check the URL"])
        .check("2 discovery", &answer);
    let elsewhere =
        service.client.get(format!("{}/_/oidc/audience", service.base)).header("host", "pypi.elsewhere.example");
    let answer = Answer::of(elsewhere.send().await.unwrap()).await;
    let words = &["no registry is served at `pypi.elsewhere.example`", "`urls`"];
    Refused(421, "unknown-host", words).check("2 host", &answer);
    let text = policy_text(&service.base, service.provider.issuer(), WIDGETS);
    let text = text.replace("dialect: pypi", "dialect: generic").replace("/legacy/", "/files/");
    service.app.activate(policy(&text));
    let words = &["no registry of this host speaks this protocol", "check the URL"];
    Refused(404, "not-found", words).check("2 dialect", &service.get("/_/oidc/audience").await);
}

#[actix_web::test]
async fn c03_the_body_is_not_a_token_in_json() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    let post = async |body: &str| {
        service.post("/_/oidc/mint-token", "application/x-www-form-urlencoded", body.to_owned()).await
    };
    let quoted = json!({"token": format!("\"{token}\"")}).to_string();
    let broken = json!({"token": format!("{token}\n")}).to_string();
    let bearer = json!({"token": format!("Bearer {token}")}).to_string();
    for (cause, body, refused) in [
        ("3 empty body", "", Refused(422, "bad-request", &["the body is not", "JSON", "`{\"token\": \"…\"}`"])),
        ("3 form", "token=abc", Refused(422, "bad-request", &["the body is not", "JSON", "`{\"token\": \"…\"}`"])),
        (
            "3 list",
            "[1]",
            Refused(422, "bad-request", &["must be a JSON object; it is an array", "`{\"token\": \"…\"}`"]),
        ),
        ("3 number", r#"{"token":7}"#, Refused(422, "bad-request", &["`token` must be a string; it is an integer"])),
        (
            "3 no member",
            r#"{"jwt":"x"}"#,
            Refused(422, "token-missing", &["the body has no `token`", "id-token: write`"]),
        ),
        (
            "3 unset variable",
            r#"{"token":""}"#,
            Refused(422, "token-missing", &["`token` is empty", "id-token: write`"]),
        ),
        (
            "3 variable not expanded",
            r#"{"token":"$PYPI_ID_TOKEN"}"#,
            Refused(422, "token-malformed", &["1 part", "a signed token has 3", "without quotes or line breaks"]),
        ),
        ("3 quoted", &quoted, Refused(422, "token-malformed", &["header is not base64url", "without quotes"])),
        ("3 line break", &broken, Refused(422, "token-malformed", &["signature is not base64url", "white space"])),
        ("3 scheme", &bearer, Refused(422, "token-malformed", &["header is not base64url", "`Bearer`"])),
    ] {
        refused.check(cause, &post(body).await);
    }
    assert_eq!(post(&json!({"token": token}).to_string()).await.status, 200, "the content type is nobody's business");
}

#[actix_web::test]
async fn c04_the_issuer_is_not_configured() {
    let service = Service::start().await;
    let issuer = service.provider.issuer().to_owned();
    let exchange = async |iss: &str| mint(&service, &service.id_token(&json!({"iss": iss}))).await;
    let own = "https://gitlab.acme.example";
    let words = &[
        "no identity provider",
        "the issuer `https://gitlab.acme.example`",
        "configure this issuer, letter for letter",
    ];
    Refused(422, "unknown-issuer", words).check("4 self-managed", &exchange(own).await);
    let slash = format!("{issuer}/");
    let answer = exchange(&slash).await;
    Refused(422, "unknown-issuer", &["the nearest one is"]).check("4 slash", &answer);
    telling("4 slash", answer.body["message"].as_str().unwrap(), &[&slash, &issuer]);
}

#[actix_web::test]
async fn c05_which_of_the_standard_checks_failed() {
    let service = Service::start().await;
    let now = service.clock_seconds();
    for (cause, claims, refused) in [
        (
            "5 expired",
            json!({"iat": now - 543, "exp": now - 243}),
            Refused(
                422,
                "token-expired",
                &["the token expired at ", "4 min 3 s ago", "request a fresh ID token right before the upload"],
            ),
        ),
        (
            "5 not yet valid",
            json!({"nbf": now + 120}),
            Refused(422, "token-not-yet-valid", &["not valid before", "2 min 0 s from now", "check the clocks"]),
        ),
        (
            "5 issued in the future",
            json!({"iat": now + 120, "exp": now + 420}),
            Refused(422, "token-not-yet-valid", &["issued at", "2 min 0 s in the future", "check the clocks"]),
        ),
        (
            "5 audience",
            json!({"aud": "testpypi"}),
            Refused(
                422,
                "wrong-audience",
                &[
                    "audience `testpypi`",
                    "this registry's is `acme`",
                    "request the ID token for this registry's audience",
                ],
            ),
        ),
        (
            "5 audience list",
            json!({"aud": ["acme", "pypi"]}),
            Refused(
                422,
                "audience-list",
                &["names 2 audiences", "must name one", "request an ID token for one audience only"],
            ),
        ),
        (
            "5 lifetime",
            json!({"exp": now + 7200}),
            Refused(422, "lifetime-too-long", &["valid for 2 h 0 min", "15 min 0 s", "`max_lifetime`"]),
        ),
    ] {
        refused.check(cause, &mint(&service, &service.id_token(&claims)).await);
    }
    let claims = service.claims(&json!({}));
    for (alg, name) in [("none", "`none`"), ("HS256", "`HS256`")] {
        let token = service.provider.mint_with(&json!({"alg": alg}), &claims);
        let words = &["the token's algorithm", name, "is not accepted", "a public-key algorithm"];
        Refused(422, "algorithm-not-allowed", words).check("5 algorithm", &mint(&service, &token).await);
    }
    let token = service.provider.mint_with(&json!({"kid": "2019-04"}), &claims);
    let words = &["the issuer has no key `2019-04`", "request a fresh ID token"];
    Refused(422, "unknown-key", words).check("5 key", &mint(&service, &token).await);
    let token = service.provider.mint(&claims);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let token = format!("{signed}.{other}{}", &signature[1..]);
    let words = &["the token's signature is not its issuer's", "send the ID token unchanged"];
    Refused(422, "bad-signature", words).check("5 signature", &mint(&service, &token).await);
}

#[actix_web::test]
async fn c06_nothing_matched_and_the_nearest_rule_is_told_field_by_field() {
    let service = Service::start().await;
    // Their own project: every difference is shown.
    let job = json!({"workflow_file": "ci.yml", "environment": "staging", "ref": "refs/heads/main"});
    let answer = mint(&service, &service.id_token(&job)).await;
    let words = &[
        "the rule `widgets-release` wants `workflow_file: release.yml`",
        "the token has `workflow_file: ci.yml`",
        "`environment`, `tag` do not match either",
        "upload from the workflow that the rule names",
    ];
    Refused(422, "workflow-mismatch", words).check("6 disclosed", &answer);
    let conditions = answer.body["explanation"]["rules"][0]["conditions"].as_array().unwrap();
    let row = |claim: &str| conditions.iter().find(|row| row["claim"] == claim).unwrap();
    assert_eq!((&row("environment")["wants"], &row("environment")["has"]), (&json!("release"), &json!("staging")));
    assert_eq!((&row("tag")["wants"], &row("tag")["has"]), (&json!("like v*"), &Value::Null));
    assert_eq!((&row("repository")["holds"], &row("workflow_file")["holds"]), (&json!(true), &json!(false)));
    // Somebody else's: one answer, the same as where there is no rule at all.
    let stranger = json!({"repository_owner_id": "66", "repository_id": "67", "repository": "mallory/x"});
    let words = &[
        "no rule of this registry matches this job",
        "`repository_owner_id: 66`",
        "`repository_id: 67`",
        "ask the registry's operator",
    ];
    let near = mint(&service, &service.id_token(&stranger)).await;
    Refused(422, "no-matching-rule", words).check("6 hidden", &near);
    let event = service.last_event();
    assert_eq!(event["explanation"]["rules"][0]["rule"], "widgets-release");
    let sentence = event["explanation"]["sentence"].as_str().unwrap();
    telling(
        "6 audit",
        sentence,
        &["no rule matches this job", "`repository_owner_id: 9123456`", "`repository_owner_id: 66`"],
    );
    service.activate(&WIDGETS.replace("9123456", "1").replace("701234567", "2").replace("acme/widgets", "x/y"));
    let far = mint(&service, &service.id_token(&stranger)).await;
    assert_eq!((&far.body["message"], &far.body["explanation"]), (&near.body["message"], &near.body["explanation"]));
}

#[actix_web::test]
async fn c07_to_c12_what_differs_at_github_is_named() {
    let service = Service::start().await;
    for (cause, job, refused) in [
        (
            "7 no environment",
            json!({"environment": null}),
            Refused(
                422,
                "environment-mismatch",
                &[
                    "wants `environment: release`",
                    "the token has no `environment`",
                    "on the job that uploads",
                    "other jobs do not count",
                ],
            ),
        ),
        (
            "7 another environment",
            json!({"environment": "staging"}),
            Refused(
                422,
                "environment-mismatch",
                &["wants `environment: release`", "the token has `environment: staging`", "on the job that uploads"],
            ),
        ),
        (
            "8 renamed",
            json!({"repository": "acme/gizmos"}),
            Refused(
                422,
                "repository-renamed",
                &[
                    "wants `repository: acme/widgets`",
                    "the token has `repository: acme/gizmos`",
                    "the ids match",
                    "renamed or transferred",
                    "put its present name into the rule",
                ],
            ),
        ),
        (
            "8 case of a file",
            json!({"workflow_file": "Release.yml"}),
            Refused(
                422,
                "workflow-mismatch",
                &[
                    "wants `workflow_file: release.yml`",
                    "has `workflow_file: Release.yml`",
                    "upper and lower case only",
                ],
            ),
        ),
        (
            "10 reusable workflow",
            json!({"job_workflow_ref": "octo-org/ship/.github/workflows/publish.yml@refs/heads/main"}),
            Refused(
                422,
                "reusable-workflow",
                &[
                    "wants `job_workflow_ref: the same as workflow_ref, acme/widgets/.github/workflows/release.yml@refs/tags/v1.4.0` (preset)",
                    "has `job_workflow_ref: octo-org/ship/.github/workflows/publish.yml@refs/heads/main`",
                    "add `job_workflow_repository: octo-org/ship` and `job_workflow_file: publish.yml`",
                    "reusable workflow",
                ],
            ),
        ),
        (
            "12 pull_request_target",
            json!({"event_name": "pull_request_target"}),
            Refused(
                422,
                "event-not-allowed",
                &[
                    "wants `event_name: one of push, release, workflow_dispatch` (preset)",
                    "has `event_name: pull_request_target`",
                    "can run code from outside",
                ],
            ),
        ),
        (
            "6 branch instead of a tag",
            json!({"ref": "refs/heads/main"}),
            Refused(
                422,
                "ref-mismatch",
                &[
                    "wants `tag: like v*`",
                    "has no `tag` (the run is for refs/heads/main)",
                    "start the run for a branch or tag that the rule names",
                ],
            ),
        ),
    ] {
        refused.check(cause, &mint(&service, &service.id_token(&job)).await);
    }
    // 8: GitHub ignores the case of owners and repositories, and so do rules.
    let shouted = mint(&service, &service.id_token(&json!({"repository": "Acme/Widgets"}))).await;
    assert_eq!(shouted.status, 200, "{}", shouted.text);
}

#[actix_web::test]
async fn c09_the_owner_is_another_and_only_the_owners_side_is_told() {
    let service = Service::start().await;
    for (cause, job, code, words) in [
        (
            "9 owner",
            json!({"repository_owner_id": "66"}),
            "owner-mismatch",
            [
                "wants `repository_owner_id: 9123456`",
                "has `repository_owner_id: 66`",
                "another owner now, or the account was created again",
            ],
        ),
        (
            "9 project",
            json!({"repository_id": "67"}),
            "repository-recreated",
            [
                "wants `repository_id: 701234567`",
                "has `repository_id: 67`",
                "the project was deleted and created again",
            ],
        ),
    ] {
        let answer = mint(&service, &service.id_token(&job)).await;
        Refused(422, "no-matching-rule", &["no rule of this registry matches this job"]).check(cause, &answer);
        assert!(!answer.text.contains("9123456") || cause != "9 owner", "{}", answer.text);
        assert!(!answer.text.contains("widgets-release"), "{}", answer.text);
        let event = service.last_event();
        assert_eq!((&event["code"], &event["decision"]), (&json!("no-matching-rule"), &json!("deny")));
        assert_eq!(event["explanation"]["code"], code, "the audit log has the true cause");
        telling(cause, event["explanation"]["sentence"].as_str().unwrap(), &words);
        telling(
            cause,
            event["explanation"]["sentence"].as_str().unwrap(),
            &["change the rule only if its owner confirms it"],
        );
    }
}

#[actix_web::test]
async fn c11_an_included_file_was_named_instead_of_the_pipelines_own() {
    let presets = Presets::start().await;
    presets.activate(&RULES.replace("ci_config_file: .gitlab-ci.yml", "ci_config_file: ci/publish.yml"));
    let answer = mint(&presets.service, &presets.token("gitlab/tag-push", &json!({}))).await;
    let words = &[
        "the rule `gitlab-rule` wants `ci_config_file: ci/publish.yml`",
        "the token has `ci_config_file: .gitlab-ci.yml`",
        "the pipeline's top-level file only",
        "not an included one",
    ];
    Refused(422, "workflow-mismatch", words).check("11", &answer);
}

#[actix_web::test]
async fn c13_three_shapes_of_githubs_sub_lead_to_one_decision() {
    let service = Service::start().await;
    let shapes = [
        "repo:acme/widgets:environment:release",
        "repo:acme@9123456/widgets@701234567:environment:release",
        "repository_owner:acme:job_workflow_ref:acme/widgets/.github/workflows/release.yml@refs/tags/v1.4.0",
    ];
    let mut refusals = Vec::new();
    for sub in shapes {
        let allowed = mint(&service, &service.id_token(&json!({"sub": sub}))).await;
        assert_eq!(allowed.status, 200, "{sub}: {}", allowed.text);
        let event = service.last_event();
        assert_eq!((&event["rules"], &event["claims"]["sub"]), (&json!(["widgets-release"]), &json!(sub)));
        let refused = mint(&service, &service.id_token(&json!({"sub": sub, "environment": "staging"}))).await;
        refusals.push((refused.status, refused.body["message"].clone(), refused.body["explanation"]["rules"].clone()));
    }
    refusals.dedup();
    assert_eq!(refusals.len(), 1, "{refusals:?}");
    assert_eq!(refusals[0].0, 422);
}

#[actix_web::test]
async fn c14_a_claim_is_missing() {
    let presets = Presets::start().await;
    let exchange = async |example: &str, claim: &str| {
        let token = presets.token(example, &json!({claim: null}));
        mint(&presets.service, &token).await
    };
    let words = &["no claim `job_workflow_ref`", "update the CI system or its runner"];
    Refused(422, "missing-claim", words).check("14 runner", &exchange("github/release", "job_workflow_ref").await);
    let words = &["no claim `email`", "`format=full`"];
    Refused(422, "missing-claim", words).check("14 format", &exchange("google/service-account", "email").await);
    presets.activate(&RULES.replace(
        "      environment: release\n",
        "      environment: release\n      runner_environment: github-hosted\n",
    ));
    let words =
        &["wants `runner_environment: github-hosted`", "the token has no `runner_environment`", "update the runner"];
    Refused(422, "missing-claim", words).check("14 rule", &exchange("github/release", "runner_environment").await);
}

#[actix_web::test]
async fn c15_the_token_was_used_before() {
    let service = Service::start().await;
    let token = service.id_token(&json!({}));
    let used = service.app.now().to_string();
    assert_eq!(mint(&service, &token).await.status, 200);
    service.pass(Duration::from_secs(60)).await;
    let answer = mint(&service, &token).await;
    let words = &["this ID token was already exchanged", "request a fresh ID token: each is good for one exchange"];
    Refused(422, "token-replayed", words).check("15", &answer);
    telling("15", answer.body["message"].as_str().unwrap(), &["exchanged, at", &used]);
}

#[actix_web::test]
async fn c19_the_upload_token_is_for_other_packages() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    for (cause, package, exists, code, words) in [
        (
            "19 package",
            "gadgets",
            true,
            "package-not-covered",
            &["the token is for `widgets`, `widgets-*`", "`gadgets` was uploaded"][..],
        ),
        (
            "19 first upload",
            "widgets",
            false,
            "action-not-covered",
            &["allows `upload` on `widgets`", "`create` was asked for"][..],
        ),
    ] {
        let answer = service.verify(&json!({"token": token, "package": package, "exists": exists})).await;
        assert_eq!(
            (answer.status, &answer.body["allowed"], answer.code()),
            (200, &json!(false), code),
            "{}",
            answer.text
        );
        telling(cause, answer.body["reasons"][0].as_str().unwrap(), words);
        assert!(answer.body["mend"].as_str().unwrap().contains("mint a token"), "{}", answer.text);
        let event = service.last_event();
        assert_eq!(
            (&event["event"], &event["code"], &event["rules"]),
            (&json!("verify"), &json!(code), &json!(["widgets-release"]))
        );
    }
}

#[actix_web::test]
async fn c20_the_upload_token_expired_during_a_long_upload() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    for (minutes, seconds, words) in [(15, 0, "0 s ago"), (3, 4, "3 min 4 s ago"), (60, 0, "over an hour ago")] {
        service.pass(Duration::from_secs(minutes * 60 + seconds)).await;
        let answer = service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await;
        assert_eq!((answer.status, answer.code()), (200, "upload-token-expired"), "{}", answer.text);
        telling("20", answer.body["reasons"][0].as_str().unwrap(), &[words]);
        assert_eq!(answer.body["mend"], "mint a fresh token right before the upload");
    }
}

#[actix_web::test]
async fn c21_what_went_wrong_before_the_request_is_documented_and_linked() {
    let service = Service::start().await;
    // Whoever has no token sends none, or an empty one: the answer says what the job lacks.
    let answer = service.mint(&json!({"token": ""})).await;
    let words = &["`ACME_ID_TOKEN`", "id-token: write`", "forks", "`id_tokens:`"];
    Refused(422, "token-missing", words).check("21", &answer);
}

#[actix_web::test]
async fn c23_trouble_elsewhere_is_retryable_and_says_when() {
    let (service, store) = faulty::service().await;
    let token = service.id_token(&json!({}));
    let retryable = |answer: &Answer| {
        let seconds: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
        assert_eq!(answer.body["class"], "unavailable");
    };

    service.provider.answer(Endpoint::Discovery, Told::status(500));
    let answer = mint(&service, &token).await;
    let words =
        &["the issuer's keys could not be fetched", "retry with the same token; the identity provider does not answer"];
    Refused(503, "issuer-unavailable", words).check("23 provider", &answer);
    retryable(&answer);

    service.provider.answer(Endpoint::Discovery, Told::Honest);
    service.pass(Duration::from_secs(15)).await;
    store.fail(Some(Fault::Refused));
    let answer = mint(&service, &token).await;
    Refused(503, "store-unavailable", &["the store of used tokens does not answer", "retry with the same token"])
        .check("23 store", &answer);
    retryable(&answer);

    store.fail(None);
    assert_eq!(mint(&service, &token).await.status, 200, "the same token works once the trouble is over");
}

#[actix_web::test]
async fn the_causes_have_codes_of_their_own_on_oauth_endpoints_too() {
    let service = Service::start().await;
    let token = service.id_token(&json!({"environment": "staging"}));
    let oauth = service.exchange(&token, &json!({})).await;
    let pypi = mint(&service, &token).await;
    assert_eq!(
        (oauth.status, oauth.code(), &oauth.body["error"]),
        (400, "environment-mismatch", &json!("invalid_request"))
    );
    assert_eq!(oauth.body["error_description"], pypi.body["message"]);
    // And a registry that lost its key is told so.
    let request = service.client.post(format!("{}/v1/verify", service.base)).bearer_auth(format!("{API_KEY}x"));
    let answer = Answer::of(request.body("{}").send().await.unwrap()).await;
    assert_eq!((answer.status, answer.code()), (401, "bad-api-key"), "{}", answer.text);
}
