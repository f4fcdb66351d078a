use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn only_a_pipelines_subject_is_a_pipelines() {
    for (sub, expected) in [
        (json!("p://acme/widgets/release"), Some("pipeline")),
        (json!("sc://acme/widgets/connection"), Some("service-connection")),
        (json!("P://acme/widgets/release"), None),
        (json!(" p://acme/widgets/release"), None),
        (json!("sc:p://acme"), None),
        (json!("acme"), None),
        (json!(null), None),
    ] {
        check("tag", json!({"sub": sub}), &[("subject_kind", expected)]);
    }
}

#[test]
fn what_a_run_is_for_is_read_from_the_full_ref() {
    for (git_ref, kind, tag) in [
        (json!("refs/heads/main"), Some("branch"), None),
        (json!("refs/heads/refs/tags/v1"), Some("branch"), None),
        (json!("refs/tags/v1"), Some("tag"), Some("v1")),
        (json!("refs/pull/9/merge"), Some("pull-request"), None),
        (json!("refs/tags/"), None, None),
        (json!("refs/merge/9"), None, None),
        (json!("main"), None, None),
        (json!(9), None, None),
        (json!(null), None, None),
    ] {
        check("tag", json!({"rpo_ref": git_ref}), &[("ref_type", kind), ("tag", tag)]);
    }
    check("branch", json!({"tag": "v2"}), &[("rpo_ref", Some("refs/tags/v2")), ("ref_type", Some("tag"))]);
}
