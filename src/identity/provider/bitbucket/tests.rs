use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn the_subject_is_made_of_the_ids() {
    let (repository, step) = ("{c7d8e9f0-1a2b-4c3d-8e4f-5a6b7c8d9e0f}", "{e4f5a6b7-c8d9-4e0f-a1b2-c3d4e5f6a7b8}");
    let deployed = format!("{repository}:{{b1a2c3d4-e5f6-4708-91a2-b3c4d5e6f708}}:{step}");
    check("deployment", json!({}), &[("sub", Some(&deployed)), ("branchName", Some("main"))]);
    let plain = format!("{repository}:{step}");
    check("deployment", json!({"deploymentEnvironmentUuid": null}), &[("sub", Some(&plain))]);
    check("tag-deployment", json!({}), &[("branchName", None)]);
}
