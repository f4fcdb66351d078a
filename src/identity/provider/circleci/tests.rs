use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn a_tag_is_a_full_ref_below_tags() {
    for (git_ref, expected) in [
        (json!("refs/tags/v1.4.0"), Some("v1.4.0")),
        (json!("refs/tags/core/v2"), Some("core/v2")),
        (json!("refs/heads/v1.4.0"), None),
        (json!("refs/heads/refs/tags/v1.4.0"), None),
        (json!("v1.4.0"), None),
        (json!("refs/tags/"), None),
        (json!(["refs/tags/v1.4.0"]), None),
        (json!(null), None),
    ] {
        check("tag-push", json!({VCS_REF: git_ref}), &[("tag", expected)]);
    }
}

#[test]
fn the_repository_is_the_last_part_of_its_origin() {
    for (origin, expected) in [
        (json!("github.com/acme/widgets"), Some("widgets")),
        (json!("gitlab.com/acme/tools/widgets"), Some("widgets")),
        (json!("widgets"), None),
        (json!("github.com/acme/"), None),
        (json!(null), None),
    ] {
        check("tag-push", json!({VCS_ORIGIN: origin}), &[("repository_name", expected)]);
    }
}

#[test]
fn dependent_claims_follow_and_a_job_without_a_repository_has_the_shorter_subject() {
    let subject = "org/mine/project/yours/user/5e6f7a8b-9c0d-4e1f-a2b3-c4d5e6f7a8b9";
    let long = format!("{subject}/vcs-origin/github.com/acme/widgets/vcs-ref/refs/tags/v1.4.0");
    check("tag-push", json!({"org_id": "mine", PROJECT_ID: "yours"}), &[("sub", Some(&long))]);
    let webhook = json!({"org_id": "mine", "project_id": "yours", "vcs_ref": null, "vcs_origin": null});
    check("tag-push", webhook, &[("sub", Some(subject)), (VCS_REF, None), (VCS_ORIGIN, None), ("tag", None)]);
}

#[test]
fn the_examples_that_are_refused_say_why() {
    let claims = tests::claims(&PROVIDER, "ssh-rerun", &json!({}));
    assert_eq!(claims.get(SSH_RERUN), Some(&Json::Bool(true)));
    check("fork-pull-request", json!({}), &[(VCS_ORIGIN, Some("github.com/mallory/widgets"))]);
    check("fork-pull-request", json!({"vcs_origin": "x/y/z"}), &[(VCS_ORIGIN, Some("x/y/z"))]);
    let named: Vec<_> = PROVIDER.aliases.iter().map(|(alias, _)| *alias).collect();
    assert_eq!(named, SHORT_NAMES);
}
