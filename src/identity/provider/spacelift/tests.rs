use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn dependent_claims_follow() {
    for (example, rest) in [
        ("tracked-run", "run_type:TRACKED:scope:write"),
        ("proposed-run", "run_type:PROPOSED:scope:read"),
        ("task", "run_type:TASK:scope:write"),
    ] {
        let sub = format!("space:root:stack:mine:{rest}");
        check(example, json!({"spaceId": "root", "callerId": "mine"}), &[("sub", Some(&sub))]);
    }
}
