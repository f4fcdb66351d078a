//! `trustmint policy lint`, as operators and programs run it: what it finds, in both forms, and its exit codes.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use trustmint::policy::lint::catalogue;
use trustmint::policy::yaml::Lint;

use crate::support::said;

/// A warning on line 2, the like of it waived on line 3; no error.
const POLICY: &str = r#"issuers:
  github: {provider: github, max_lifetime: 2h}
  gitlab: {provider: gitlab, max_lifetime: 6h, waive: {L038: "the nightly build takes five hours"}}
registries:
  acme: {dialect: pypi, urls: ["https://pypi.acme.example/legacy/"], audiences: [acme]}
rules:
  widgets:
    registry: acme
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567", environment: release}
    allow: {upload: [widgets]}
"#;

/// A directory with this policy, `policy/acme.yaml`.
fn home(policy: &str) -> TempDir {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("policy")).unwrap();
    fs::write(home.path().join("policy/acme.yaml"), policy).unwrap();
    home
}

fn lint(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
    said::run(command.args(["policy", "lint"]).args(arguments).current_dir(directory).env_clear()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn facts(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn catalogued(code: &str) -> &'static Lint {
    catalogue::by_code(code).unwrap()
}

/// What programs are told of the one warning of [`POLICY`].
fn warning() -> Value {
    json!({
        "severity": "warning", "code": "L038", "file": "policy/acme.yaml", "line": 2, "column": 44,
        "key": "issuers.github.max_lifetime",
        "message": "ID tokens may live longer than the 15 minutes of `github`",
        "why": catalogued("L038").why, "mend": "lower it, or say in `waive` why jobs need it",
    })
}

#[test]
fn programs_are_told_each_finding_with_its_place_and_each_waiver_with_its_reason() {
    let waiver = json!({
        "code": "L038", "file": "policy/acme.yaml", "line": 3, "key": "issuers.gitlab",
        "reason": "the nightly build takes five hours", "used": 1,
    });
    let warned = lint(home(POLICY).path(), &["--json"]);
    assert_eq!(
        (code(&warned), facts(&warned)),
        (0, json!({"errors": 0, "warnings": 1, "waived": 1, "findings": [warning()], "waivers": [waiver]}))
    );

    let refused = lint(home(&POLICY.replace("repository_id: \"701234567\", ", "")).path(), &["--json"]);
    let error = json!({
        "severity": "error", "code": "L001", "file": "policy/acme.yaml", "line": 10, "column": 5,
        "key": "rules.widgets.when",
        "message": "`repository_id` is not pinned: whoever takes over the name, or any other job of the provider, could publish",
        "why": catalogued("L001").why,
        "mend": "add `repository_id: \"…\"` with its literal value, or `{in: [\"…\"]}`",
    });
    assert_eq!(
        (code(&refused), facts(&refused)),
        (1, json!({"errors": 1, "warnings": 1, "waived": 1, "findings": [warning(), error], "waivers": [waiver]}))
    );

    // What is wrong in another way than the catalogue's has no code.
    let misspelt = lint(home(&POLICY.replace("allow:", "alow:")).path(), &["--json"]);
    let findings = facts(&misspelt)["findings"].as_array().unwrap().clone();
    let unknown = findings.iter().find(|finding| finding["key"] == "rules.widgets.alow").unwrap();
    assert_eq!((code(&misspelt), &unknown["code"], &unknown["why"]), (1, &Value::Null, &Value::Null));
    assert_eq!((&unknown["line"], &unknown["severity"]), (&json!(11), &json!("error")));
}

#[test]
fn people_are_told_the_same_and_a_sum() {
    let output = lint(home(&POLICY.replace("repository_id: \"701234567\", ", "")).path(), &[]);
    let text = out(&output);
    assert_eq!(code(&output), 1, "{text}");
    assert!(text.starts_with("policy/acme.yaml\n  2:44 warning L038 issuers.github.max_lifetime\n"), "{text}");
    assert!(text.contains("\n  10:5 error L001 rules.widgets.when\n    `repository_id` is not pinned"), "{text}");
    assert!(text.contains(&format!("\n    why:  {}\n    mend: add `repository_id", catalogued("L001").why)), "{text}");
    assert!(text.ends_with("\n1 error, 1 warning, 1 waived\n"), "{text}");
}

#[test]
fn warnings_fail_where_they_are_denied_and_waived_ones_never() {
    for (policy, usual, denied) in [
        (POLICY.to_owned(), 0, 1),
        (POLICY.replace(", max_lifetime: 2h", ""), 0, 0),
        (POLICY.replace("repository_id: \"701234567\", ", ""), 1, 1),
    ] {
        let home = home(&policy);
        assert_eq!(code(&lint(home.path(), &[])), usual, "{policy}");
        for arguments in [&["--deny-warnings"][..], &["--deny-warnings", "--json"]] {
            assert_eq!(code(&lint(home.path(), arguments)), denied, "{policy}");
        }
    }
}

#[test]
fn each_entry_of_the_catalogue_is_printed_as_it_is() {
    let anywhere = TempDir::new().unwrap();
    for entry in catalogue::ALL.iter().step_by(10).copied().chain([catalogued("L013"), catalogued("L042")]) {
        // In either case, and there need be no policy.
        let asked = entry.code.to_ascii_lowercase();
        let output = lint(anywhere.path(), &["--explain", &asked, "--json"]);
        let ruling = entry.ruling.as_str();
        assert_eq!(
            (code(&output), facts(&output)),
            (
                0,
                json!({"code": entry.code, "ruling": ruling, "title": entry.title, "why": entry.why, "mend": entry.mend})
            )
        );
        let output = lint(anywhere.path(), &["--explain", entry.code]);
        let mend = if entry.ruling.has_mend() { "mend:" } else { "here:" };
        let text =
            format!("{} ({ruling}): {}\n\n  why:  {}\n  {mend} {}\n", entry.code, entry.title, entry.why, entry.mend);
        assert_eq!((code(&output), out(&output)), (0, text.as_str()));
    }
    for unknown in ["L999", "L0013", "", "013"] {
        let output = lint(anywhere.path(), &["--explain", unknown]);
        assert_eq!((code(&output), out(&output)), (1, ""), "{unknown}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.starts_with("error: there is no such code"), "{said}");
    }
    for other in [&["--policy", "policy"][..], &["--deny-warnings"]] {
        assert_eq!(code(&lint(anywhere.path(), &[&["--explain", "L013"], other].concat())), 2, "{other:?}");
    }
}

#[test]
fn the_command_finds_nothing_in_what_is_shipped() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = fs::read_dir(repository.join("examples/policies")).unwrap().map(|entry| entry.unwrap().path());
    let shipped: Vec<PathBuf> =
        examples.filter(|path| path.is_dir()).chain([repository.join("config/policy")]).collect();
    assert!(shipped.len() >= 7, "{shipped:?}");
    for directory in shipped {
        let output = lint(repository, &["--deny-warnings", "--policy", directory.to_str().unwrap()]);
        assert_eq!(code(&output), 0, "{}: {}", directory.display(), out(&output));
        assert!(out(&output).starts_with("0 errors, 0 warnings"), "{}: {}", directory.display(), out(&output));
    }
}
