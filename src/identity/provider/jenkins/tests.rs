use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::tests;

#[track_caller]
fn check(example: &str, overrides: Value, expected: &[(&str, Option<&str>)]) {
    tests::check(&PROVIDER, example, &overrides, expected);
}

#[test]
fn a_pull_requests_job_is_beside_the_branches_jobs() {
    check("job", json!({}), &[("sub", Some("https://jenkins.acme.example/job/widgets/job/release/"))]);
    check("pull-request", json!({}), &[("sub", Some("https://jenkins.acme.example/job/widgets/job/PR-12/"))]);
}
