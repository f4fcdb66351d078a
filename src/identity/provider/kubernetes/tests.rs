use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn short_names_reach_into_the_one_object() {
    let expected = [
        ("sub", Some("system:serviceaccount:ci:publisher")),
        (NAMESPACE, Some("ci")),
        (ACCOUNT_NAME, Some("publisher")),
        (POD_UID, Some("mine")),
    ];
    check("pod", json!({"namespace": "ci", "pod_uid": "mine"}), &expected);
    check("pod", json!({"serviceaccount_uid": null}), &[(ACCOUNT_UID, None), (ACCOUNT_NAME, Some("publisher"))]);
}
