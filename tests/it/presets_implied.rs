//! The conditions that presets add: for each the job that it is there to refuse, at the front door.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::json;
use trustmint::identity::provider;

use crate::providers::failed;
use crate::support::Presets;
use crate::support::presets::RULES;

/// An example that must be refused, what is put over it so that nothing but the preset's conditions refuses it, the
/// code, and the claims whose conditions fail.
fn refused() -> Vec<(&'static str, Value, &'static str, &'static [&'static str])> {
    let tag = json!({"ref": "refs/tags/v1.4.0"});
    let none = json!({});
    vec![
        // The commands are typed by whoever ran the job again.
        ("circleci/ssh-rerun", none.clone(), "event-not-allowed", &["oidc.circleci.com/ssh-rerun"]),
        // Started by hand, or through the API, with a commit and variables of one's own.
        ("buildkite/manual-run", json!({"tag": "v1.4.0"}), "event-not-allowed", &["build_source"]),
        ("buildkite/tag-push", json!({"build_source": "api"}), "event-not-allowed", &["build_source"]),
        ("buildkite/tag-push", json!({"build_source": "schedule"}), "event-not-allowed", &["build_source"]),
        // The file that a pull request changed.
        ("azure-devops/pull-request", none.clone(), "ref-mismatch", &["tag", "ref_type"]),
        // A service connection's token that had the pipeline's claims too.
        ("azure-devops/tag", json!({"sub": "sc://acme/widgets/release"}), "event-not-allowed", &["subject_kind"]),
        (
            "codefresh/pull-request",
            json!({"scm_ref": "main"}),
            "event-not-allowed",
            &["scm_pull_request_target_branch"],
        ),
        // Its `branch` is main, as the rule wants: the branch that it asks to be pulled into.
        ("semaphore/pull-request", none.clone(), "event-not-allowed", &["ref_type", "pr"]),
        ("semaphore/branch-push", json!({"pr": "7"}), "event-not-allowed", &["pr"]),
        ("semaphore/debug", none.clone(), "event-not-allowed", &["job_type"]),
        ("semaphore/branch-push", json!({"job_type": "project_debug_job"}), "event-not-allowed", &["job_type"]),
        (
            "hcp-terraform/speculative-plan",
            json!({"sub": "organization:acme:project:Default Project:workspace:widgets-release:run_phase:apply"}),
            "event-not-allowed",
            &["terraform_run_phase"],
        ),
        // Whatever started the pipeline that started this one, and code of a third party that a rule must name first.
        ("gitlab/tag-push", json!({"pipeline_source": "parent_pipeline"}), "event-not-allowed", &["pipeline_source"]),
        ("gitlab/tag-push", json!({"pipeline_source": "external"}), "event-not-allowed", &["pipeline_source"]),
        ("spacelift/proposed-run", none.clone(), "event-not-allowed", &["runType", "scope"]),
        ("spacelift/task", none.clone(), "event-not-allowed", &["runType"]),
        ("spacelift/tracked-run", json!({"callerType": "module"}), "event-not-allowed", &["callerType"]),
        ("spacelift/tracked-run", json!({"scope": "read"}), "event-not-allowed", &["scope"]),
        ("forgejo/pull-request-target", tag.clone(), "event-not-allowed", &["event_name"]),
        ("forgejo/pull-request", tag.clone(), "event-not-allowed", &["event_name"]),
        ("forgejo/tag-push", json!({"event_name": "workflow_run"}), "event-not-allowed", &["event_name"]),
        ("depot/pull-request", tag, "event-not-allowed", &["event_name"]),
        ("depot/tag-push", json!({"event_name": "issue_comment"}), "event-not-allowed", &["event_name"]),
    ]
}

/// Those whose jobs older tests refuse one by one.
const ELSEWHERE: [&str; 3] = ["github", "gitlab", "google"];

#[actix_web::test]
async fn the_job_that_a_condition_is_there_for_is_refused_and_told_why() {
    let presets = Presets::start().await;
    for (example, overrides, code, claims) in refused() {
        let answer = presets.exchange(example, &overrides).await;
        assert_eq!((answer.status, answer.code()), (422, code), "{example} {overrides}: {}", answer.text);
        let event = presets.service.last_event();
        assert_eq!(failed(&event), claims, "{example} {overrides}");
        let rules = event["explanation"]["rules"][0]["conditions"].as_array().unwrap().clone();
        assert!(rules.iter().any(|c| c["preset"] == true && c["holds"] == false), "{example}: {rules:?}");
    }
}

#[test]
fn every_condition_that_a_preset_adds_has_a_job_that_it_refuses() {
    let tried: BTreeSet<(&str, &str)> = refused()
        .into_iter()
        .flat_map(|(example, _, _, claims)| {
            claims.iter().map(move |claim| (example.split('/').next().unwrap(), *claim))
        })
        .collect();
    for provider in provider::ALL.iter().filter(|provider| !ELSEWHERE.contains(&provider.name)) {
        for implied in provider.implied {
            assert!(tried.contains(&(provider.name, implied.claim)), "{}: {}", provider.name, implied.claim);
        }
    }
}

#[actix_web::test]
async fn a_rule_may_not_open_what_its_preset_closes() {
    let presets = Presets::start().await;
    for (from, to, words) in [
        ("      tag: {glob: \"v*\"}\n    allow: {upload: [widgets]}\n  buildkite-rule", "ssh_rerun: true", "L021"),
        ("      branch: main", "ref_type: {present: true}", "L013"),
        ("      branch: main", "pr: {present: true}", "L013"),
        ("      branch: main", "job_type: {glob: \"*_job\"}", "L013"),
        ("      scm_ref: main", "scm_pull_request_target_branch: {present: true}", "L013"),
        // By literals as little as by patterns.
        ("      scm_ref: main", "scm_pull_request_target_branch: main", "L013"),
        ("      branch: main", "pr: {in: [\"\", \"7\"]}", "L013"),
        ("      ci_config_file: .gitlab-ci.yml", "pipeline_source: {in: [push, merge_request_event]}", "L013"),
    ] {
        let (first, rest) =
            from.split_once('\n').map_or((from, String::new()), |(first, rest)| (first, format!("\n{rest}")));
        let rules = RULES.replacen(from, &format!("{first}\n      {to}{rest}"), 1);
        assert_ne!(rules, RULES, "{to}");
        let faults = presets.faults(&rules);
        let errors: Vec<&str> = faults.lines().filter(|line| !line.contains(": warning: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(words), "{to}: {faults}");
    }
}
