use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn short_names_reach_into_the_object_whose_name_is_a_url() {
    let expected = [("sub", Some("arn:aws:iam::999999999999:role/widgets-release")), (ACCOUNT, Some("999999999999"))];
    check("role", json!({"aws_account": "999999999999"}), &expected);
    check("role", json!({"org_id": null}), &[(ORG_ID, None), (REGION, Some("eu-west-1")), (LAMBDA, None)]);
    let lambda = "arn:aws:lambda:eu-west-1:012345678901:function:publish";
    check("role", json!({"lambda_source_function_arn": lambda}), &[(LAMBDA, Some(lambda))]);
}
