use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn the_workflow_is_a_file_of_the_providers_own_folder() {
    for (workflow, file, repository, git_ref) in [
        (
            "acme/w/.forgejo/workflows/release.yml@refs/tags/v1",
            Some("release.yml"),
            Some("acme/w"),
            Some("refs/tags/v1"),
        ),
        ("acme/w/.forgejo/workflows/x@y.yml@refs/heads/a@b", Some("x@y.yml"), Some("acme/w"), Some("refs/heads/a@b")),
        // A branch that is named like a file, and one like a tag.
        (
            "acme/w/.forgejo/workflows/x.yml@refs/heads/z/.forgejo/workflows/release.yml@refs/tags/v1",
            Some("x.yml"),
            Some("acme/w"),
            Some("refs/heads/z/.forgejo/workflows/release.yml@refs/tags/v1"),
        ),
        ("acme/w/.gitea/workflows/release.yml@refs/tags/v1", None, None, None),
        ("acme/w/release.yml@refs/tags/v1", None, None, None),
        ("acme/w/.forgejo/workflows/deep/release.yml@refs/tags/v1", None, None, None),
        ("w/.forgejo/workflows/release.yml@refs/tags/v1", None, None, None),
        ("", None, None, None),
    ] {
        let expected = [("workflow_file", file), ("workflow_repository", repository), ("workflow_git_ref", git_ref)];
        check("tag-push", json!({"workflow_ref": workflow}), &expected);
    }
    let expected = [("workflow_file", None), ("workflow_repository", None), ("workflow_git_ref", None)];
    check("tag-push", json!({"workflow_ref": null}), &expected);
}

#[test]
fn a_tag_is_what_both_claims_call_one() {
    check("tag-push", json!({}), &[("tag", Some("v1.4.0")), ("repository_name", Some("widgets"))]);
    check("tag-push", json!({"ref_type": "branch"}), &[("tag", None)]);
    check("tag-push", json!({"ref": "refs/heads/v1.4.0", "ref_type": "tag"}), &[("tag", None)]);
    check("tag-push", json!({"repository": "widgets"}), &[("repository_name", None)]);
}

#[test]
fn dependent_claims_follow() {
    let expected = [
        ("ref", Some("refs/tags/v2")),
        ("ref_type", Some("tag")),
        ("repository_owner", Some("umbrella")),
        ("workflow_ref", Some("umbrella/w/.forgejo/workflows/ship.yml@refs/tags/v2")),
        ("workflow_file", Some("ship.yml")),
    ];
    check("branch-push", json!({"repository": "umbrella/w", "tag": "v2", "workflow_file": "ship.yml"}), &expected);
}
