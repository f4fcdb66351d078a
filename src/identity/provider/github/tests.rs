use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::claims::Claims;

fn object(value: &Value) -> Object {
    Json::parse(value.to_string().as_bytes()).unwrap().as_object().unwrap().clone()
}

fn claims(name: &str, overrides: &Value) -> Claims {
    let raw = (PROVIDER.example(name).unwrap().claims)(&object(overrides));
    let derived = PROVIDER.derive(&raw);
    Claims::new(raw, derived)
}

#[track_caller]
fn parts(text: &str, expected: Option<(&str, &str, &str)>) {
    let found = workflow_ref(text, FOLDER).map(|parts| (parts.repository, parts.file, parts.git_ref));
    assert_eq!(found, expected, "{text}");
}

#[test]
fn a_workflow_reference_is_taken_apart() {
    const SHA: &str = "8c1356fc7b2f4f9d1d6b4a4c5a0e1f2d3c4b5a69";
    for (file, git_ref) in [
        ("release.yml", "refs/tags/v1.4.0"),
        ("release.yml", "refs/heads/main"),
        ("release.yaml", "refs/pull/7/merge"),
        ("release.yml", "refs/heads/feature/x"),
        ("release.yml", SHA),
        ("a b.yml", "refs/heads/main"),
        // D09: `@` in the file, in the branch, in both, and branches that look like files.
        ("nested@evil.yml", "refs/heads/main"),
        ("nested@evil.yml", SHA),
        ("x@refs", "refs/heads/main"),
        ("release.yml", "refs/heads/x@y.yml"),
        ("release.yml", "refs/heads/x@refs/heads/y"),
        ("evil.yml", "refs/heads/a/.github/workflows/release.yml@refs/heads/main"),
        ("evil.yml", "refs/tags/v1@release.yml"),
        ("a@8c1356fc7b2f4f9d1d6b4a4c5a0e1f2d3c4b5a69", "refs/heads/main"),
    ] {
        for repository in ["octo-org/widgets", "octo-org/.github", "o/r"] {
            let text = format!("{repository}/.github/workflows/{file}@{git_ref}");
            parts(&text, Some((repository, file, git_ref)));
        }
    }
    for text in [
        "",
        "release.yml",
        "octo-org/widgets/.github/workflows/release.yml",
        "octo-org/widgets/.github/workflows/release.yml@",
        "octo-org/widgets/.github/workflows/release.yml@main",
        "octo-org/widgets/.github/workflows/release.yml@refs/",
        "octo-org/widgets/.github/workflows/@refs/heads/main",
        "octo-org/widgets/.github/workflows/sub/release.yml@refs/heads/main",
        "octo-org/widgets/.github/workflows/release.yml@8c1356f",
        "octo-org/.github/workflows/release.yml@refs/heads/main",
        "octo-org/widgets/extra/.github/workflows/release.yml@refs/heads/main",
        "/widgets/.github/workflows/release.yml@refs/heads/main",
        "octo-org//.github/workflows/release.yml@refs/heads/main",
        "octo-org/widgets/.depot/workflows/release.yml@refs/heads/main",
        "octo-org/widgets/dynamic/dependabot/updates@refs/heads/main",
        "octo-org/widgets/.github/workflows/release\n.yml@refs/heads/main",
    ] {
        parts(text, None);
    }
}

/// Everything but `sub`, as text.
fn without_sub(claims: &Claims) -> Vec<String> {
    let raw = claims.raw().iter().filter(|(name, _)| *name != "sub").map(|(name, value)| format!("{name}={value:?}"));
    raw.chain(claims.derived().map(|(name, value)| format!("{name}={value:?}"))).collect()
}

#[test]
fn every_shape_of_sub_gives_the_same_claims() {
    // D03, D11: by name, by name and identifier, and as an administrator's template likes.
    let legacy = claims("release", &json!({}));
    assert_eq!(legacy.string("sub"), Some("repo:octo-org/widgets:environment:release"));
    for sub in [
        "repo:octo-org@9123456/widgets@701234567:environment:release",
        "repository_owner:octo-org",
        "job_workflow_ref:octo-org/widgets/.github/workflows/release.yml@refs/tags/v1.4.0",
        "",
    ] {
        let other = claims("release", &json!({"sub": sub}));
        assert_eq!(other.string("sub"), Some(sub));
        assert_eq!(without_sub(&other), without_sub(&legacy));
    }
}

#[test]
fn claims_are_derived() {
    let claims = claims("tag-push", &json!({}));
    for (name, expected) in [
        ("workflow_file", "release.yml"),
        ("workflow_repository", "octo-org/widgets"),
        ("workflow_git_ref", "refs/tags/v1.4.0"),
        ("job_workflow_file", "release.yml"),
        ("job_workflow_repository", "octo-org/widgets"),
        ("job_workflow_git_ref", "refs/tags/v1.4.0"),
        ("repository_name", "widgets"),
        ("tag", "v1.4.0"),
    ] {
        assert_eq!(claims.string(name), Some(expected), "{name}");
    }
    assert_eq!(claims.derived().count(), PROVIDER.derived.len());
}

#[test]
fn a_tag_is_a_ref_that_both_claims_call_one() {
    for (git_ref, ref_type, expected) in [
        (json!("refs/tags/v1"), json!("tag"), Some("v1")),
        (json!("refs/tags/core/v1"), json!("tag"), Some("core/v1")),
        (json!("refs/tags/v1"), json!("branch"), None),
        (json!("refs/heads/v1"), json!("tag"), None),
        (json!("refs/heads/refs/tags/v1"), json!("branch"), None),
        (json!("refs/heads/tags/v1"), json!("branch"), None),
        (json!("refs/tags/"), json!("tag"), None),
        (json!("v1"), json!("tag"), None),
        (json!(""), json!("tag"), None),
        (json!("refs/tags/v1"), Value::Null, None),
        (Value::Null, json!("tag"), None),
        (json!(1), json!("tag"), None),
        (json!("refs/tags/v1"), json!(["tag"]), None),
    ] {
        let claims = claims("tag-push", &json!({"ref": git_ref, "ref_type": ref_type}));
        assert_eq!(claims.string("tag"), expected, "{git_ref} {ref_type}");
    }
}

#[test]
fn a_claim_of_the_wrong_type_derives_nothing() {
    for value in [json!(null), json!(7), json!([]), json!({}), json!(true), json!("nonsense")] {
        let overrides = json!({"workflow_ref": value, "job_workflow_ref": value, "repository": value, "ref": value});
        assert_eq!(claims("tag-push", &overrides).derived().count(), 0, "{value}");
    }
}

#[test]
fn dependent_claims_follow_the_overridden_ones() {
    let overridden = claims(
        "tag-push",
        &json!({"repository": "acme/gadgets", "environment": "prod:eu", "tag": "v2", "workflow_file": "publish.yml"}),
    );
    for (name, expected) in [
        ("repository_owner", "acme"),
        ("ref", "refs/tags/v2"),
        ("ref_type", "tag"),
        ("workflow_ref", "acme/gadgets/.github/workflows/publish.yml@refs/tags/v2"),
        ("job_workflow_ref", "acme/gadgets/.github/workflows/publish.yml@refs/tags/v2"),
        ("sub", "repo:acme/gadgets:environment:prod%3Aeu"),
        ("tag", "v2"),
        ("workflow_file", "publish.yml"),
    ] {
        assert_eq!(overridden.string(name), Some(expected), "{name}");
    }
    // What only steers is no claim of the token.
    assert_eq!((overridden.raw().get("tag"), overridden.raw().get("workflow_file")), (None, None));
    let branch = claims("tag-push", &json!({"ref": "refs/heads/main"}));
    assert_eq!(branch.string("ref_type"), Some("branch"));
    assert_eq!(branch.string("sub"), Some("repo:octo-org/widgets:ref:refs/heads/main"));
    assert_eq!(branch.string("tag"), None);
    let own = claims("tag-push", &json!({"workflow_ref": "x", "sub": "y", "repo_property_team": "core"}));
    assert_eq!((own.string("workflow_ref"), own.string("sub")), (Some("x"), Some("y")));
    assert_eq!(own.string("repo_property_team"), Some("core"));
    assert_eq!(
        claims("release", &json!({"environment": null})).string("sub"),
        Some("repo:octo-org/widgets:ref:refs/tags/v1.4.0")
    );
}

#[test]
fn the_examples_differ_in_what_their_names_say() {
    for (name, event, git_ref) in [
        ("tag-push", "push", "refs/tags/v1.4.0"),
        ("branch-push", "push", "refs/heads/main"),
        ("release", "release", "refs/tags/v1.4.0"),
        ("manual-run", "workflow_dispatch", "refs/heads/main"),
        ("pull-request", "pull_request", "refs/pull/7/merge"),
        ("pull-request-target", "pull_request_target", "refs/heads/main"),
    ] {
        let claims = claims(name, &json!({}));
        assert_eq!((claims.string("event_name"), claims.string("ref")), (Some(event), Some(git_ref)), "{name}");
        assert_eq!(claims.string("job_workflow_ref"), claims.string("workflow_ref"), "{name}");
    }
    assert_eq!(claims("pull-request", &json!({})).string("sub"), Some("repo:octo-org/widgets:pull_request"));
    let reusable = claims("reusable-workflow", &json!({}));
    assert_eq!(reusable.string("workflow_repository"), Some("octo-org/widgets"));
    assert_eq!(reusable.string("job_workflow_repository"), Some("octo-org/release-workflows"));
    assert_eq!(reusable.string("job_workflow_file"), Some("publish.yml"));
}

proptest! {
    #[test]
    fn any_text_is_taken_apart_without_panicking(text in "\\PC{0,80}") {
        let _ = workflow_ref(&text, FOLDER);
    }

    #[test]
    fn what_is_read_is_what_was_written(
        owner in "[A-Za-z0-9-]{1,6}", name in "[A-Za-z0-9._-]{1,6}", file in "[A-Za-z0-9@._ -]{1,12}", end in "[A-Za-z0-9@./-]{1,20}",
    ) {
        let (repository, git_ref) = (format!("{owner}/{name}"), format!("refs/{end}"));
        let text = format!("{repository}/.github/workflows/{file}@{git_ref}");
        let parts = workflow_ref(&text, FOLDER).map(|parts| (parts.repository, parts.file, parts.git_ref));
        prop_assert_eq!(parts, Some((&*repository, &*file, &*git_ref)));
    }
}
