//! A policy's own tests, as operators run them and as every load does.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use trustmint::policy::rule_test;
use trustmint::policy::rule_test::Verdict;
use trustmint::policy::watch;

use crate::support::said;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The shipped policy, with one text of it changed everywhere.
fn shipped(from: &str, to: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let mut changed = false;
    for entry in fs::read_dir(repository("config/policy")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        changed |= text.contains(from);
        fs::write(directory.path().join(path.file_name().unwrap()), text.replace(from, to)).unwrap();
    }
    assert!(changed, "{from}");
    directory
}

/// What `trustmint policy test` says: (exit code, standard output, standard error).
fn policy_test(directory: &Path, more: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
    command.env_clear().args(["policy", "test", "--policy"]).arg(directory).args(more);
    let output = said::run(&mut command).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The shipped policies: the one to start from, and the worked examples.
fn policies() -> Vec<PathBuf> {
    let folders = fs::read_dir(repository("examples/policies")).unwrap().map(|entry| entry.unwrap().path());
    let mut policies: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
    policies.push(repository("config/policy"));
    assert!(policies.len() >= 7, "{policies:?}");
    policies
}

#[test]
fn each_shipped_policy_passes_its_tests_and_tests_each_of_its_rules() {
    for directory in policies() {
        let policy = watch::load(&directory).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(policy.warnings().is_empty(), "{}: {:?}", directory.display(), policy.warnings());
        let outcomes = rule_test::run(&policy);
        assert!(outcomes.iter().all(|outcome| matches!(outcome.verdict, Verdict::Passed)), "{}", directory.display());
        assert_eq!(rule_test::untested(&policy, &outcomes), [""; 0], "{}", directory.display());
        // Who is let in is half of it.
        let texts = fs::read_dir(&directory).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
        assert!(texts.collect::<String>().contains("{deny: "), "{}", directory.display());
    }
}

#[test]
fn each_shipped_policy_names_the_schema_for_editors() {
    for directory in policies() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            let first = text.lines().next().unwrap();
            let schema =
                first.strip_prefix("# yaml-language-server: $schema=").unwrap_or_else(|| panic!("{}", path.display()));
            let schema = fs::canonicalize(directory.join(schema)).unwrap();
            assert_eq!(schema, fs::canonicalize(repository("config/policy.schema.json")).unwrap());
        }
    }
}

#[test]
fn the_command_line_says_what_passed_and_what_no_test_covers() {
    let (code, output, _) = policy_test(&repository("config/policy"), &[]);
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("ok    a tag on the release workflow may upload widgets\n"), "{output}");
    assert!(output.ends_with("\ntests: 10 passed, 0 failed\n"), "{output}");

    let directory = shipped("nightly-data", "data-of-the-night");
    let (_, output, _) = policy_test(directory.path(), &[]);
    assert!(!output.contains("note:"), "{output}");
    let tests = fs::read_to_string(directory.path().join("tests.yaml")).unwrap();
    let fewer: String = tests.split_inclusive('\n').filter(|line| !line.contains("the releaser may")).collect();
    let fewer = fewer.split("  - name: an account created again").next().unwrap();
    fs::write(directory.path().join("tests.yaml"), fewer).unwrap();
    let (code, output, _) = policy_test(directory.path(), &[]);
    assert_eq!(code, 0);
    assert!(output.contains("note: no test covers `data-of-the-night`\n"), "{output}");
}

#[test]
fn a_failure_shows_the_expectation_the_answer_and_each_condition() {
    let directory = shipped("workflow_file: release.yml", "workflow_file: publish.yml");
    let (code, output, _) = policy_test(directory.path(), &[]);
    assert_eq!(code, 1);
    let place = format!("({}/tests.yaml:6:5)", directory.path().display());
    let failure = format!(
        "\
FAIL  a tag on the release workflow may upload widgets  {place}
      expected: allow by the rule `widgets-release`
      got:      deny workflow-mismatch: the rule `widgets-release` wants `workflow_file: publish.yml`, and the token has \
`workflow_file: release.yml` — upload from the workflow that the rule names, or put this one into the rule

      rule widgets-release  grants upload:widgets,upload:widgets-*
            claim                      the rule wants                           the token has
        ok  repository_owner_id        9123456                                  9123456
        ok  repository_id              701234567                                701234567
        ok  repository                 acme/widgets                             acme/widgets
        NO  workflow_file              publish.yml                              release.yml
"
    );
    assert!(output.starts_with(&failure), "{output}");
    assert!(output.contains("\ntests: "), "{output}");

    let (code, output, _) = policy_test(directory.path(), &["--json"]);
    assert_eq!(code, 1);
    let json: Value = serde_json::from_str(&output).unwrap();
    let first = &json["tests"][0];
    assert_eq!(first["name"], "a tag on the release workflow may upload widgets");
    assert_eq!((&first["result"], &first["rule"]), (&json!("failed"), &json!("widgets-release")));
    assert_eq!(first["explanation"]["code"], "workflow-mismatch");
    assert_eq!(json["passed"].as_u64().unwrap() + json["failed"].as_u64().unwrap(), 10);
}

#[test]
fn only_the_tests_that_are_asked_for_are_run() {
    let directory = shipped("workflow_file: release.yml", "workflow_file: publish.yml");
    let (code, output, _) = policy_test(directory.path(), &["--filter", "merge request"]);
    assert_eq!((code, output.as_str()), (0, "ok    a merge request may not\ntests: 1 passed, 0 failed\n"));
    let (code, output, _) = policy_test(directory.path(), &["--filter", "widgets-release"]);
    assert_eq!(code, 1);
    assert!(output.contains("FAIL") && !output.contains("gadgets\n"), "{output}");
    let (code, _, error) = policy_test(directory.path(), &["--filter", "no such test"]);
    assert_eq!((code, error.as_str()), (1, "error: no test has `no such test` in its name\n"));
}

#[test]
fn a_policy_whose_tests_fail_is_not_loaded_and_each_failure_has_its_place() {
    let directory = shipped("workflow_file: release.yml", "workflow_file: publish.yml");
    let faults = watch::load(directory.path()).unwrap_err().to_string();
    assert!(
        faults.starts_with(&format!(
            "{}/tests.yaml:6:5: tests[0]: the test `a tag on the release workflow may upload widgets` fails: it expects \
             allow by the rule `widgets-release`, and the answer is deny workflow-mismatch: ",
            directory.path().display()
        )),
        "{faults}"
    );
    // What is wrong with the rules themselves comes first: tests of a policy that means nothing mean nothing.
    let directory = shipped("workflow_file: release.yml", "workflow_flie: publish.yml");
    let (code, output, error) = policy_test(directory.path(), &[]);
    assert_eq!((code, output.as_str()), (1, ""));
    assert!(error.contains("did you mean `workflow_file`?") && !error.contains("fails:"), "{error}");
}
