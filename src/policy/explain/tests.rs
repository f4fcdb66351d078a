use crate::identity::claims::Claims;
use crate::identity::issuer::Issuer;
use crate::identity::provider;
use crate::identity::provider::Provider;
use crate::json::Json;
use crate::json::Object;
use crate::policy::Policy;
use crate::policy::Source;
use crate::policy::evaluate::Decision;
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::Subject;
use crate::policy::evaluate::evaluate;
use crate::policy::explain::Explanation;

const POLICY: &str = r#"
issuers:
  github: {provider: github}
  gitlab: {provider: gitlab}
  google: {provider: google}
  activestate: {provider: activestate}
  jenkins: {provider: generic, url: "https://jenkins.acme.example"}
  single: {provider: generic, url: "https://single.acme.example", tenancy: single}
registries:
  acme: {dialect: pypi, urls: ["https://pypi.acme.example/legacy/"], audiences: [acme]}
rules:
  github-rule:
    registry: acme
    issuer: github
    when:
      repository_owner_id: "9123456"
      repository_id: "701234567"
      repository: octo-org/widgets
      workflow_file: release.yml
      environment: release
      tag: {glob: "v*"}
      runner_environment: github-hosted
    allow: {upload: [widgets]}
  gitlab-rule:
    registry: acme
    issuer: gitlab
    when: {namespace_id: "7211", project_id: "53804090", project_path: acme/tools/widgets, ci_config_file: .gitlab-ci.yml}
    allow: {upload: [widgets]}
  google-rule:
    registry: acme
    issuer: google
    when: {sub: "104029292853099978293", email: releaser@acme-prod.iam.gserviceaccount.com, azp: "104029292853099978293"}
    allow: {upload: [widgets]}
  activestate-rule:
    registry: acme
    issuer: activestate
    when:
      organization_id: 0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11
      project_id: 7b2c4d5e-1f60-4a8b-8c9d-2e3f4a5b6c7d
      actor_id: c1d2e3f4-0516-4728-93a4-b5c6d7e8f901
      builder: pypi-publisher
    allow: {upload: [widgets]}
  jenkins-rule:
    registry: acme
    issuer: jenkins
    when: {sub: "https://jenkins.acme.example/job/widgets/job/release/", build: {present: true}}
    allow: {upload: [widgets]}
  single-rule:
    registry: acme
    issuer: single
    when: {team: release}
    allow: {upload: [widgets]}
"#;

fn policy(text: &str) -> Policy {
    let source = Source { name: "p.yaml".to_owned(), text: text.to_owned() };
    Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
}

fn object(text: &str) -> Object {
    Json::parse(text.as_bytes()).unwrap().as_object().unwrap().clone()
}

fn decide(policy: &Policy, issuer: &Issuer, raw: Object) -> Decision {
    let claims = Claims::new(raw.clone(), issuer.provider().derive(&raw));
    let subject = Subject { issuer, claims: &claims };
    evaluate(policy, policy.registries().by_id("acme").unwrap(), &subject, &Requested::default()).decision
}

#[track_caller]
fn refused(example: &str, overrides: &str) -> Explanation {
    refused_by(POLICY, example, overrides)
}

fn refused_without_rules(example: &str, overrides: &str) -> Explanation {
    let text = POLICY.split("rules:").next().unwrap();
    refused_by(&format!("{text}rules: {{}}\n"), example, overrides)
}

#[track_caller]
fn refused_by(policy_text: &str, example: &str, overrides: &str) -> Explanation {
    let policy = policy(policy_text);
    let (preset, name) = example.split_once('/').unwrap();
    let (issuer, preset) = if preset == "single" { ("single", "generic") } else { (preset, preset) };
    let issuer = policy.issuers().by_id(if issuer == "generic" { "jenkins" } else { issuer }).unwrap();
    let preset: &Provider = provider::by_name(preset).unwrap();
    let claims = (preset.example(name).unwrap().claims)(&object(overrides));
    match decide(&policy, issuer, claims) {
        Decision::Deny(explanation) => *explanation,
        Decision::Allow(grant) => panic!("{grant:?}"),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_cause_that_users_meet_is_named_with_both_sides_and_the_mend() {
    let release = r#""environment":"release""#;
    for (example, overrides, code, sentence) in [
        (
            "github/tag-push",
            "{}",
            "environment-mismatch",
            "the rule `github-rule` wants `environment: release`, and the token has no `environment` — name the \
             environment on the job that uploads (those of other jobs do not count), or change the rule",
        ),
        (
            "github/release",
            r#"{"environment":"staging"}"#,
            "environment-mismatch",
            "the rule `github-rule` wants `environment: release`, and the token has `environment: staging` — name the \
             environment on the job that uploads (those of other jobs do not count), or change the rule",
        ),
        (
            "github/release",
            r#"{"repository":"octo-org/gizmos"}"#,
            "repository-renamed",
            "the rule `github-rule` wants `repository: octo-org/widgets`, and the token has `repository: \
             octo-org/gizmos` — the ids match, so the project was renamed or transferred: put its present name into \
             the rule",
        ),
        (
            "github/reusable-workflow",
            r#"{"environment":"release"}"#,
            "reusable-workflow",
            "the rule `github-rule` wants `job_workflow_ref: the same as workflow_ref, \
             octo-org/widgets/.github/workflows/release.yml@refs/tags/v1.4.0` (preset), and the token has \
             `job_workflow_ref: octo-org/release-workflows/.github/workflows/publish.yml@refs/heads/main` (to allow \
             it, add `job_workflow_repository: octo-org/release-workflows` and `job_workflow_file: publish.yml`) — the \
             job runs in a reusable workflow: name it in the rule, or upload from the workflow that was started",
        ),
        (
            "github/release",
            r#"{"workflow_file":"Release.yml"}"#,
            "workflow-mismatch",
            "the rule `github-rule` wants `workflow_file: release.yml`, and the token has `workflow_file: Release.yml` \
             (they differ in upper and lower case only) — upload from the workflow that the rule names, or put this \
             one into the rule",
        ),
        (
            "gitlab/tag-push",
            r#"{"ci_config_ref_uri":"gitlab.com/acme/tools/widgets//ci/release.yml@refs/tags/v1.4.0"}"#,
            "workflow-mismatch",
            "the rule `gitlab-rule` wants `ci_config_file: .gitlab-ci.yml`, and the token has `ci_config_file: \
             ci/release.yml` — the token tells the pipeline's top-level file only: name that one in the rule, not an \
             included one",
        ),
        (
            "github/pull-request-target",
            r#"{"environment":"release","ref":"refs/tags/v1"}"#,
            "event-not-allowed",
            "the rule `github-rule` wants `event_name: one of push, release, workflow_dispatch` (preset), and the token \
             has `event_name: pull_request_target` — start the run by an allowed event: others, such as \
             those of pull and merge requests, can run code from outside",
        ),
        (
            "gitlab/merge-request",
            "{}",
            "event-not-allowed",
            "the rule `gitlab-rule` wants `pipeline_source: none of merge_request_event, external_pull_request_event` \
             (preset), and the token has `pipeline_source: merge_request_event`; `ref_protected` does not match either — \
             start the run by an allowed event: others, such as those of pull and merge requests, can run code from outside",
        ),
        (
            "github/release",
            r#"{"ref":"refs/heads/main"}"#,
            "ref-mismatch",
            "the rule `github-rule` wants `tag: like v*`, and the token has no `tag` (the run is for refs/heads/main) — \
             start the run for a branch or tag that the rule names, or change the rule",
        ),
        (
            "github/release",
            r#"{"ref":"refs/tags/1.4.0"}"#,
            "ref-mismatch",
            "the rule `github-rule` wants `tag: like v*`, and the token has `tag: 1.4.0` — start the run for a branch \
             or tag that the rule names, or change the rule",
        ),
        (
            "github/release",
            r#"{"runner_environment":null}"#,
            "missing-claim",
            "the rule `github-rule` wants `runner_environment: github-hosted`, and the token has no \
             `runner_environment` — the provider left the claim out: request the token in its full format, or update \
             the runner or the provider",
        ),
        (
            "google/service-account",
            r#"{"email_verified":null}"#,
            "missing-claim",
            "the rule `google-rule` wants `email_verified: true` (preset), and the token has no `email_verified` — the \
             provider left the claim out: request the token in its full format, or update the runner or the provider",
        ),
        (
            "github/release",
            r#"{"runner_environment":"self-hosted"}"#,
            "condition-failed",
            "the rule `github-rule` wants `runner_environment: github-hosted`, and the token has `runner_environment: \
             self-hosted` — change the job or the rule",
        ),
    ] {
        let explanation = refused(example, overrides);
        let sentence = sentence.replace("  ", " ");
        assert_eq!(
            (explanation.code().as_str(), explanation.sentence()),
            (code, sentence.clone()),
            "{example} {overrides}"
        );
        let public = explanation.public();
        assert_eq!((public.code().as_str(), public.sentence()), (code, sentence), "{example} {overrides}");
    }
    assert!(matches!(
        decide(
            &policy(POLICY),
            policy(POLICY).issuers().by_id("github").unwrap(),
            (provider::github::PROVIDER.example("release").unwrap().claims)(&object(&format!("{{{release}}}")))
        ),
        Decision::Allow(_)
    ));
}

#[test]
fn who_is_not_named_by_a_rules_pins_learns_nothing_of_it() {
    for (example, overrides, code, sentence) in [
        (
            "github/release",
            r#"{"repository_owner_id":"666"}"#,
            "owner-mismatch",
            "the rule `github-rule` wants `repository_owner_id: 9123456`, and the token has `repository_owner_id: 666` \
             — the project has another owner now, or the account was created again: change the rule only if its owner \
             confirms it",
        ),
        (
            "gitlab/tag-push",
            r#"{"namespace_id":"666"}"#,
            "owner-mismatch",
            "the rule `gitlab-rule` wants `namespace_id: 7211`, and the token has `namespace_id: 666` — the project has \
             another owner now, or the account was created again: change the rule only if its owner confirms it",
        ),
        (
            "github/release",
            r#"{"repository_id":"666"}"#,
            "repository-recreated",
            "the rule `github-rule` wants `repository_id: 701234567`, and the token has `repository_id: 666` — the name \
             is the same and the id is not: the project was deleted and created again, perhaps by someone else; change \
             the rule only if its owner confirms it",
        ),
        (
            "github/release",
            r#"{"repository_id":"666","repository_owner_id":"667","repository":"evil/x"}"#,
            "no-matching-rule",
            "no rule matches this job; the nearest, `github-rule`, wants `repository_owner_id: 9123456`, and the token \
             has `repository_owner_id: 667`; `repository_id`, `repository` do not match either",
        ),
        (
            "google/service-account",
            r#"{"sub":"666"}"#,
            "no-matching-rule",
            "no rule matches this job; the nearest, `google-rule`, wants `sub: 104029292853099978293`, and the token \
             has `sub: 666`; `azp` does not match either",
        ),
        (
            "generic/job",
            r#"{"sub":"other"}"#,
            "no-matching-rule",
            "no rule matches this job; the nearest, `jenkins-rule`, wants `sub: \
             https://jenkins.acme.example/job/widgets/job/release/`, and the token has `sub: other`; `build` does not \
             match either",
        ),
        // No pin at all: an empty set of pins discloses nothing.
        (
            "single/job",
            r#"{"team":"dev"}"#,
            "no-matching-rule",
            "no rule matches this job; the nearest, `single-rule`, wants `team: release`, and the token has `team: dev`",
        ),
    ] {
        let explanation = refused(example, overrides);
        assert_eq!(
            (explanation.code().as_str(), explanation.sentence().as_str()),
            (code, sentence),
            "{example} {overrides}"
        );
        let public = explanation.public();
        assert_eq!(public.code().as_str(), "no-matching-rule");
        assert!(public.rules().is_empty() && public.further() == 0);
        // The same as where no rule exists at all.
        let none = refused_without_rules(example, overrides).public();
        assert_eq!(serde_json::to_string(&public).unwrap(), serde_json::to_string(&none).unwrap());
    }
}

#[test]
fn each_pin_of_each_preset_changed_by_one_character_is_refused_with_the_condition_named() {
    for (example, pins) in [
        ("github/release", &["repository_owner_id", "repository_id"][..]),
        ("gitlab/tag-push", &["namespace_id", "project_id"][..]),
        ("google/service-account", &["sub", "email"][..]),
        ("activestate/build", &["organization_id", "project_id", "actor_id", "builder"][..]),
    ] {
        let (preset, name) = example.split_once('/').unwrap();
        let provider = provider::by_name(preset).unwrap();
        assert_eq!(provider.pins, pins, "every mandatory pin is tried");
        let policy = policy(POLICY);
        let issuer = policy.issuers().by_id(preset).unwrap();
        let claims = (provider.example(name).unwrap().claims)(&Object::default());
        assert!(matches!(decide(&policy, issuer, claims.clone()), Decision::Allow(_)), "{example}");
        for pin in pins {
            let good = claims.get(pin).unwrap().as_str().unwrap();
            let flip = |text: &str| {
                text.chars()
                    .rev()
                    .enumerate()
                    .map(|(i, c)| if i == 0 { if c == '1' { '2' } else { '1' } } else { c })
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .collect::<String>()
            };
            for bad in [flip(good), format!("{good}0"), format!(" {good}"), good.to_uppercase() + "X", String::new()] {
                let changed = claims.clone().with(pin, Json::String(bad.clone()));
                let Decision::Deny(explanation) = decide(&policy, issuer, changed) else { panic!("{pin} {bad}") };
                let failed: Vec<&str> =
                    explanation.rules()[0].conditions.iter().filter(|c| !c.holds).map(|c| c.claim.as_str()).collect();
                // GitLab's `job_project_id` no longer equals a changed `project_id`.
                assert_eq!(
                    failed.iter().filter(|claim| **claim != "job_project_id").collect::<Vec<_>>(),
                    [pin],
                    "{bad}"
                );
                assert_eq!(explanation.public().code().as_str(), "no-matching-rule");
            }
        }
    }
}

#[test]
fn a_stranger_is_told_which_ids_a_rule_for_the_job_would_need() {
    let told = |example: &str, overrides: &str| refused(example, overrides).public().sentence();
    assert_eq!(
        told("github/release", r#"{"repository_owner_id":"66"}"#),
        "no rule of this registry matches this job, which has `repository_owner_id: 66`, `repository_id: 701234567` — \
         compare these and the issuer with the rule's, or ask the registry's operator"
    );
    // Nobody's e-mail address is told, not even to its owner.
    assert_eq!(
        told("google/service-account", r#"{"sub":"66"}"#),
        "no rule of this registry matches this job, which has `sub: 66` — compare these and the issuer with the rule's, \
         or ask the registry's operator"
    );
    assert_eq!(
        told("single/job", r#"{"sub":null}"#),
        "no rule of this registry matches this job — compare the rule's issuer and ids with the job's, or ask the \
         registry's operator"
    );
    let claims = serde_json::to_value(refused("google/service-account", r#"{"sub":"66"}"#).public()).unwrap();
    assert_eq!(claims["claims"], serde_json::json!({"sub": "66", "azp": "66", "email_verified": "true"}));
}

#[test]
fn claims_that_are_not_public_are_withheld() {
    let explanation = refused("google/service-account", r#"{"azp":"666"}"#);
    assert_eq!(explanation.code().as_str(), "condition-failed");
    let email = |explanation: &Explanation| {
        let report = explanation.rules()[0].conditions.iter().find(|c| c.claim == "email").unwrap().clone();
        (report.wants, report.has.unwrap())
    };
    let address = "releaser@acme-prod.iam.gserviceaccount.com".to_owned();
    assert_eq!(email(&explanation), (address.clone(), address.clone()));
    assert_eq!(email(&explanation.for_audit()), (address.clone(), "(not shown)".to_owned()));
    assert_eq!(email(&explanation.public()), ("(not shown)".to_owned(), "(not shown)".to_owned()));
    assert!(!serde_json::to_string(&explanation.public()).unwrap().contains(&address));
    assert!(!explanation.public().to_table().contains(&address));
}

#[test]
fn a_refusal_is_a_table_for_people_and_an_object_for_programs() {
    let explanation = refused("github/branch-push", r#"{"environment":"release"}"#);
    assert_eq!(
        explanation.to_table(),
        "ref-mismatch: the rule `github-rule` wants `tag: like v*`, and the token has no `tag` (the run is for \
refs/heads/main) — start the run for a branch or tag that the rule names, or change the rule

rule github-rule  grants upload:widgets
      claim                      the rule wants                           the token has
  ok  repository_owner_id        9123456                                  9123456
  ok  repository_id              701234567                                701234567
  ok  repository                 octo-org/widgets                         octo-org/widgets
  ok  workflow_file              release.yml                              release.yml
  ok  environment                release                                  release
  NO  tag                        like v*                                  -  (the run is for refs/heads/main)
  ok  runner_environment         github-hosted                            github-hosted
  ok  event_name (preset)        one of push, release, workflow_dispatch  push
  ok  job_workflow_ref (preset)  the same as workflow_ref, octo-org/widgets/.github/workflows/release.yml@refs/heads/main  octo-org/widgets/.github/workflows/release.yml@refs/heads/main
"
    );
    let json: serde_json::Value = serde_json::to_value(&explanation).unwrap();
    assert_eq!(json["code"], "ref-mismatch");
    assert_eq!(json["rules"][0]["rule"], "github-rule");
    assert_eq!(json["rules"][0]["disclosed"], true);
    assert_eq!(
        json["rules"][0]["conditions"][5],
        serde_json::json!({"claim": "tag", "wants": "like v*", "has": null, "holds": false, "preset": false,
            "note": "the run is for refs/heads/main"})
    );
}

#[test]
fn a_strangers_text_cannot_forge_what_a_message_says() {
    let explanation = refused("github/release", "{\"environment\":\"x\\n\\u202eok\\u001b[2J\"}");
    assert!(explanation.sentence().contains("`environment: x\\n\\u{202e}ok\\u{1b}[2J`"), "{}", explanation.sentence());
}

#[test]
fn the_nearest_rules_come_first_and_their_number_is_bounded() {
    use std::fmt::Write as _;
    let mut text = POLICY.to_owned();
    for n in 0..40 {
        write!(
            text,
            "  near-{n}:\n    registry: acme\n    issuer: github\n    when: {{repository_owner_id: \"9123456\", repository_id: \"1{n}\"}}\n    allow: {{upload: [w]}}\n"
        )
        .unwrap();
    }
    let policy = policy(&text);
    let issuer = policy.issuers().by_id("github").unwrap();
    let claims = (provider::github::PROVIDER.example("tag-push").unwrap().claims)(&Object::default());
    let Decision::Deny(explanation) = decide(&policy, issuer, claims) else { panic!() };
    assert_eq!(
        explanation.rules().iter().map(|r| r.rule.as_str()).collect::<Vec<_>>(),
        ["github-rule", "near-0", "near-1", "near-10", "near-11"]
    );
    assert_eq!(explanation.further(), 36);
    let public = explanation.public();
    assert_eq!(public.rules().len(), 1);
    assert_eq!(public.further(), 0);
}

#[test]
fn codes_are_distinct() {
    let mut codes = super::Cause::ALL.map(|cause| cause.code().as_str()).to_vec();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), super::Cause::ALL.len());
}
