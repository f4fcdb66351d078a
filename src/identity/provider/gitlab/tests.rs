use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::claims::Claims;

fn claims(name: &str, overrides: &Value) -> Claims {
    let overrides = Json::parse(overrides.to_string().as_bytes()).unwrap();
    let raw = (PROVIDER.example(name).unwrap().claims)(overrides.as_object().unwrap());
    let derived = PROVIDER.derive(&raw);
    Claims::new(raw, derived)
}

#[track_caller]
fn derived(name: &str, overrides: Value, expected: Option<&str>) {
    assert_eq!(claims("tag-push", &overrides).string(name), expected, "{overrides}");
}

#[test]
fn the_project_is_the_last_segment_of_nested_groups() {
    derived("project_name", json!({}), Some("widgets"));
    derived("project_name", json!({"project_path": "acme/widgets"}), Some("widgets"));
    for path in [json!("widgets"), json!("/widgets"), json!("acme/"), json!(7), json!(null)] {
        derived("project_name", json!({"project_path": path}), None);
    }
}

#[test]
fn a_tag_is_what_every_claim_calls_one() {
    derived("tag", json!({}), Some("v1.4.0"));
    derived("tag", json!({"tag": "core/v2"}), Some("core/v2"));
    // Older instances have no `ref_path`.
    derived("tag", json!({"ref_path": null}), Some("v1.4.0"));
    derived("tag", json!({"ref_type": "branch"}), None);
    derived("tag", json!({"ref_path": "refs/heads/v1.4.0"}), None);
    derived("tag", json!({"ref_path": 7}), None);
    derived("tag", json!({"ref": ""}), None);
    derived("tag", json!({"ref_type": null}), None);
    derived("tag", json!({"ref_type": ["tag"]}), None);
}

#[test]
fn the_configuration_file_is_the_projects_own() {
    derived("ci_config_file", json!({}), Some(".gitlab-ci.yml"));
    for (uri, path, expected) in [
        ("gitlab.com/acme/tools/widgets//ci/release.yml@refs/tags/v1.4.0", "refs/tags/v1.4.0", Some("ci/release.yml")),
        ("gitlab.com/acme/tools/widgets//a@b.yml@refs/heads/x@y.yml", "refs/heads/x@y.yml", Some("a@b.yml")),
        // A branch named like a file and a ref does not choose what is read as the file.
        (
            "gitlab.com/acme/tools/widgets//evil.yml@refs/heads/a//.gitlab-ci.yml@refs/heads/main",
            "refs/heads/a//.gitlab-ci.yml@refs/heads/main",
            Some("evil.yml"),
        ),
        ("gitlab.com/acme/tools/widgets//.gitlab-ci.yml@refs/heads/main", "refs/tags/v1.4.0", None),
        ("gitlab.com/acme/templates//.gitlab-ci.yml@refs/tags/v1.4.0", "refs/tags/v1.4.0", None),
        ("gitlab.com/evil/acme/tools/widgets//.gitlab-ci.yml@refs/tags/v1.4.0", "refs/tags/v1.4.0", None),
        ("gitlab.com/acme/tools/widgets//@refs/tags/v1.4.0", "refs/tags/v1.4.0", None),
        ("gitlab.com/acme/tools/widgets/.gitlab-ci.yml@refs/tags/v1.4.0", "refs/tags/v1.4.0", None),
        ("", "", None),
    ] {
        derived("ci_config_file", json!({"ci_config_ref_uri": uri, "ref_path": path}), expected);
    }
    derived("ci_config_file", json!({"ci_config_ref_uri": null}), None);
    derived("ci_config_file", json!({"ref_path": null}), None);
}

#[test]
fn dependent_claims_follow_the_overridden_ones() {
    let overridden = claims("branch-push", &json!({"project_path": "acme/gadgets", "project_id": "7", "tag": "v2"}));
    for (name, expected) in [
        ("namespace_path", "acme"),
        ("job_project_id", "7"),
        ("job_project_path", "acme/gadgets"),
        ("ref", "v2"),
        ("ref_type", "tag"),
        ("ref_path", "refs/tags/v2"),
        ("sub", "project_path:acme/gadgets:ref_type:tag:ref:v2"),
        ("ci_config_ref_uri", "gitlab.com/acme/gadgets//.gitlab-ci.yml@refs/tags/v2"),
        ("tag", "v2"),
    ] {
        assert_eq!(overridden.string(name), Some(expected), "{name}");
    }
    assert_eq!(claims("branch-push", &json!({})).string("tag"), None);
    let merge_request = claims("merge-request", &json!({}));
    assert_eq!(merge_request.string("pipeline_source"), Some("merge_request_event"));
    assert_eq!(merge_request.string("ref_protected"), Some("false"));
}
