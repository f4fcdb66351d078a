//! What a refusal tells to whom: a table over the signature (proven or not), the rule's immutable pins (matched or not)
//! and the claim that differs (public or not). What may not be disclosed is looked for in the whole answer.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;

use crate::support::Service;
use crate::support::service::Answer;

/// The rule: its pins, a condition on a public claim and one on a claim that GitHub's preset does not call public.
const RULES: &str = r#"
  rule-name:
    registry: acme-pypi
    issuer: github
    when:
      repository_owner_id: "11110001"
      repository_id: "11110002"
      environment: rule-environment
      environment_node_id: rule-node
    allow: {upload: [rule-package]}
"#;

/// Everything that an answer could disclose: of the rule, and of the job.
const RULE: [&str; 6] = ["rule-name", "11110001", "11110002", "rule-environment", "rule-node", "rule-package"];
const JOB: [&str; 4] = ["22220001", "22220002", "job-environment", "job-node"];

/// Which of the rule's pins the job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pins {
    All,
    Owner,
    Project,
    None,
}

/// Which of the other conditions differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Differs {
    Public,
    Hidden,
    Both,
}

fn job(pins: Pins, differs: Differs) -> Value {
    let pick = |same: bool, rule: &str, job: &str| if same { rule.to_owned() } else { job.to_owned() };
    json!({
        "repository_owner_id": pick(matches!(pins, Pins::All | Pins::Owner), "11110001", "22220001"),
        "repository_id": pick(matches!(pins, Pins::All | Pins::Project), "11110002", "22220002"),
        "environment": pick(differs == Differs::Hidden, "rule-environment", "job-environment"),
        "environment_node_id": pick(differs == Differs::Public, "rule-node", "job-node"),
    })
}

/// Those of the texts that stand anywhere in the answer, headers included.
fn found<'t>(answer: &Answer, texts: &[&'t str]) -> BTreeSet<&'t str> {
    let headers: String = answer.headers.values().map(|value| value.to_str().unwrap_or_default()).collect();
    texts.iter().copied().filter(|text| answer.text.contains(text) || headers.contains(text)).collect()
}

/// The answers of both endpoints that mint.
async fn refused(service: &Service, token: &str) -> [Answer; 2] {
    [service.mint(&json!({"token": token})).await, service.exchange(token, &json!({})).await]
}

const ALL_PINS: [Pins; 4] = [Pins::All, Pins::Owner, Pins::Project, Pins::None];
const ALL_DIFFERS: [Differs; 3] = [Differs::Public, Differs::Hidden, Differs::Both];

#[actix_web::test]
async fn a_proven_job_is_told_what_differs_in_the_rule_of_its_own_project_and_nothing_of_others() {
    let service = Service::with_rules(RULES).await;
    for pins in ALL_PINS {
        for differs in ALL_DIFFERS {
            let job = job(pins, differs);
            let own: Vec<&str> = job.as_object().unwrap().values().map(|value| value.as_str().unwrap()).collect();
            for answer in refused(&service, &service.id_token(&job)).await {
                let row = format!("{pins:?} {differs:?}: {}", answer.text);
                assert_ne!(answer.status, 200, "{row}");
                let disclosed = found(&answer, &[&RULE[..], &JOB[..]].concat());
                // What the job said itself, in public claims, is no disclosure.
                let own: BTreeSet<&str> = own.iter().copied().filter(|text| !text.ends_with("-node")).collect();
                let expected: BTreeSet<&str> = match pins {
                    Pins::All => own.iter().copied().chain(["rule-name", "rule-environment", "rule-package"]).collect(),
                    Pins::Owner | Pins::Project | Pins::None => own,
                };
                assert_eq!(disclosed, expected, "{row}");
                let code = match (pins, differs) {
                    (Pins::All, Differs::Public | Differs::Both) => "environment-mismatch",
                    (Pins::All, Differs::Hidden) => "condition-failed",
                    (Pins::Owner | Pins::Project | Pins::None, _) => "no-matching-rule",
                };
                assert_eq!(answer.code(), code, "{row}");
                let rules = answer.body["explanation"]["rules"].as_array().unwrap();
                assert_eq!(rules.len(), usize::from(pins == Pins::All), "{row}");
            }
        }
    }
    // The audit log is the operator's: the rule is in it, a claim that is not public is not.
    let log = serde_json::to_string(&service.audit()).unwrap();
    assert!(log.contains("rule-node") && log.contains("job-environment") && !log.contains("job-node"), "{log}");
}

/// One rule for two projects, as blocks of their own and as one list; and the words of the second.
const TWO_PROJECTS: [&str; 2] = [
    r#"
  rule-name:
    registry: acme-pypi
    issuer: github
    when:
      environment: rule-environment
      any_of:
        - {repository_owner_id: "11110001", repository_id: "11110002", workflow_file: release.yml}
        - {repository_owner_id: "33330001", repository_id: "33330002", workflow_file: other-file.yml}
    allow: {upload: [rule-package]}
"#,
    r#"
  rule-name:
    registry: acme-pypi
    issuer: github
    when:
      environment: rule-environment
      repository_owner_id: {in: ["11110001", "33330001"]}
      repository_id: {in: ["11110002", "33330002"]}
    allow: {upload: [rule-package]}
"#,
];
const SECOND: [&str; 3] = ["33330001", "33330002", "other-file.yml"];

#[actix_web::test]
async fn a_project_of_a_rule_for_several_is_told_of_the_others_what_stands_in_one_condition_with_it() {
    for (rules, of_the_second) in [(TWO_PROJECTS[0], &[][..]), (TWO_PROJECTS[1], &["33330001", "33330002"])] {
        let service = Service::with_rules(rules).await;
        for (owner, project, is_ours) in
            [("11110001", "11110002", true), ("11110001", "44440002", false), ("22220001", "22220002", false)]
        {
            let job = json!({"repository_owner_id": owner, "repository_id": project, "environment": "job-environment"});
            for answer in refused(&service, &service.id_token(&job)).await {
                let row = format!("{owner} {project}: {}", answer.text);
                assert_eq!(answer.code(), if is_ours { "environment-mismatch" } else { "no-matching-rule" }, "{row}");
                let expected = if is_ours { of_the_second } else { &[] };
                assert_eq!(found(&answer, &SECOND), expected.iter().copied().collect(), "{row}");
                assert_eq!(
                    found(&answer, &["rule-name", "rule-environment"]).len(),
                    if is_ours { 2 } else { 0 },
                    "{row}"
                );
            }
        }
    }
}

#[actix_web::test]
async fn of_a_rule_that_matches_its_grant_is_disclosed_and_no_hidden_claim() {
    let service = Service::with_rules(RULES).await;
    let mut job = job(Pins::All, Differs::Hidden);
    job["environment_node_id"] = json!("rule-node");
    let answer = service.exchange(&service.id_token(&job), &json!({"scope": "upload:another"})).await;
    assert_eq!(answer.code(), "scope-not-granted", "{}", answer.text);
    let disclosed = found(&answer, &RULE);
    assert_eq!(disclosed, RULE.into_iter().filter(|text| *text != "rule-node").collect(), "{}", answer.text);
}

#[actix_web::test]
async fn without_a_proven_signature_neither_rule_nor_claims_are_told_whatever_the_token_says() {
    let service = Service::with_rules(RULES).await;
    let published = service.provider.keys();
    let forger = SigningKey::generate(KeyKind::P256).unwrap().with_kid(published[1].kid());
    let stranger = SigningKey::generate(KeyKind::P256).unwrap();
    let mut codes = BTreeSet::new();
    for pins in ALL_PINS {
        for differs in ALL_DIFFERS {
            let claims = service.claims(&job(pins, differs));
            let good = service.provider.mint(&claims);
            let (unsigned, _) = good.rsplit_once('.').unwrap();
            for token in [
                forger.token(&Value::Null, &claims),
                stranger.token(&Value::Null, &claims),
                format!("{unsigned}."),
                format!("{unsigned}.AAAA"),
                service.provider.mint(&service.claims(&json!({"iss": "https://evil.example"}))),
            ] {
                for answer in refused(&service, &token).await {
                    let disclosed = found(&answer, &[&RULE[..], &JOB[..]].concat());
                    assert_eq!(disclosed, BTreeSet::new(), "{pins:?} {differs:?}: {}", answer.text);
                    assert_eq!(answer.body["explanation"], Value::Null, "{}", answer.text);
                    codes.insert(answer.code().to_owned());
                }
            }
        }
    }
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    assert_eq!(codes, ["bad-signature", "unknown-issuer", "unknown-key"]);
    assert!(service.audit().is_empty(), "{:?}", service.audit());
}

#[actix_web::test]
async fn a_token_that_is_proven_and_not_good_is_told_its_own_fault_and_no_rule() {
    let service = Service::with_rules(RULES).await;
    let now = service.clock_seconds();
    for pins in ALL_PINS {
        for fault in [
            json!({"aud": "another"}),
            json!({"exp": now - 600, "iat": now - 900}),
            json!({"exp": now + 90_000}),
            json!({"event_name": null}),
        ] {
            let mut claims = job(pins, Differs::Both);
            claims.as_object_mut().unwrap().extend(fault.as_object().unwrap().clone());
            for answer in refused(&service, &service.id_token(&claims)).await {
                assert_ne!(answer.status, 200, "{}", answer.text);
                let disclosed = found(&answer, &[&RULE[..], &JOB[..]].concat());
                assert_eq!(disclosed, BTreeSet::new(), "{pins:?} {fault}: {}", answer.text);
            }
        }
    }
}
