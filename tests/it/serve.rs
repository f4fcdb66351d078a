//! What `trustmint serve` demands before it serves anything.

use std::fs;
use std::process::Command;

/// What `serve` says, and fails with, of a directory with this policy and no keys.
fn refusal(issuer_url: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let policy = format!(
        "issuers:\n  ci: {{provider: github, url: '{issuer_url}'}}\nregistries:\n  acme:\n    dialect: pypi\n    \
         urls: ['https://pypi.acme.example/legacy/']\n    audiences: [acme]\n"
    );
    fs::create_dir(directory.path().join("policy")).unwrap();
    fs::write(directory.path().join("policy/policy.yaml"), policy).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_trustmint")).arg("serve").current_dir(&directory).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn without_keys_it_ends_with_the_command_that_makes_one() {
    assert_eq!(
        refusal("https://ci.acme.example"),
        "error: keys: cannot be read: No such file or directory (os error 2) — make a key: trustmint keys new \
         --directory keys\n"
    );
}

#[test]
fn an_identity_provider_over_http_is_refused_even_on_loopback() {
    let said = refusal("http://127.0.0.1:8888");
    assert!(
        said.starts_with(
            "error: policy: issuers.ci.url: `http://127.0.0.1:8888` must start with https:// — serve it with TLS; "
        ),
        "{said}"
    );
}
