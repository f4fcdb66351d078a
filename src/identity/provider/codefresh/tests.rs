use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn the_repository_is_the_last_part_of_its_url() {
    for (url, expected) in [
        (json!("https://github.com/acme/widgets"), Some("widgets")),
        (json!("https://github.com/acme/widgets.git"), Some("widgets")),
        (json!("https://github.com/acme/"), None),
        (json!("widgets"), None),
        (json!(null), None),
    ] {
        check("push", json!({"scm_repo_url": url}), &[("repository_name", expected)]);
    }
}

#[test]
fn the_subject_has_a_shape_for_each_trigger() {
    let start = "account:628a80b693a15c0f9c13ab75:pipeline:mine";
    let code = "scm_repo_url:https://github.com/acme/widgets:scm_user_name:sam:scm_ref";
    for (example, sub) in [
        ("push", format!("{start}:{code}:main")),
        ("manual-run", format!("{start}:initiator:sam:{code}:main")),
        ("pull-request", format!("{start}:{code}:fix:scm_pull_request_target_branch:main")),
    ] {
        check(example, json!({"pipeline_id": "mine"}), &[("sub", Some(&sub))]);
    }
}
