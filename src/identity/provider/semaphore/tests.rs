use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn the_branch_of_a_pull_request_is_the_one_it_is_for() {
    let expected = [
        ("branch", Some("main")),
        ("pr_branch", Some("fix")),
        ("pr", Some("7")),
        ("ref", Some("refs/pull/7/merge")),
        ("ref_type", Some("pull-request")),
    ];
    check("pull-request", json!({}), &expected);
    check("branch-push", json!({}), &[("branch", Some("main")), ("pr", Some("")), ("ref_type", Some("branch"))]);
    check("debug", json!({}), &[("job_type", Some("debug_job"))]);
}

#[test]
fn dependent_claims_follow() {
    let sub = "org:umbrella:project:936a5312-a3b8-4921-8b3f-2cec8baac574:repo:widgets:ref_type:tag:ref:refs/tags/v2";
    let expected = [
        ("ref", Some("refs/tags/v2")),
        ("repo_slug", Some("umbrella/widgets")),
        ("sub", Some(sub)),
        ("tag", Some("v2")),
    ];
    check("branch-push", json!({"org": "umbrella", "tag": "v2"}), &expected);
    check("tag-push", json!({"ref": "refs/tags/v3"}), &[("tag", Some("v3"))]);
}
