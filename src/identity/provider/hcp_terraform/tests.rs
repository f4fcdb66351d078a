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
    let full = "organization:acme:project:Default Project:workspace:mine";
    let sub = format!("{full}:run_phase:plan");
    let expected = [("sub", Some(sub.as_str())), ("terraform_full_workspace", Some(full))];
    check("speculative-plan", json!({"terraform_workspace_name": "mine"}), &expected);
}
