use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn a_build_of_a_tag_has_no_branch_though_it_names_one() {
    for (overrides, tag, branch) in [
        (json!({}), Some("v1.4.0"), None),
        (json!({"build_tag": null, "build_branch": "v1.4.0"}), None, Some("v1.4.0")),
        (json!({"build_tag": "", "build_branch": "main"}), None, Some("main")),
        (json!({"build_tag": 7, "build_branch": "main"}), None, None),
        (json!({"build_tag": null, "build_branch": ""}), None, None),
        (json!({"build_tag": null, "build_branch": null}), None, None),
    ] {
        check("tag-push", overrides, &[("tag", tag), ("branch", branch)]);
    }
    check("branch-push", json!({}), &[("tag", None), ("branch", Some("main"))]);
}

#[test]
fn dependent_claims_follow() {
    let commit = "commit:9f3182061f1e2cca4702c368cbc039b7dc9d4485:step:publish";
    let tagged = format!("organization:umbrella:pipeline:widgets-release:ref:refs/tags/v2:{commit}");
    let overrides = json!({"organization_slug": "umbrella", "tag": "v2"});
    check("tag-push", overrides, &[("sub", Some(&tagged)), ("build_branch", Some("v2"))]);
    let branch = format!("organization:acme:pipeline:widgets-release:ref:refs/heads/dev:{commit}");
    check("branch-push", json!({"branch": "dev"}), &[("sub", Some(&branch)), ("build_branch", Some("dev"))]);
}
