//! `trustmint policy explain --token`: a job's own ID token, good or not, is taken apart and the rules are asked; nothing
//! is verified, and its bytes are not printed.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::support::said;
use crate::support::service::AUDIENCE;
use crate::support::service::WIDGETS;
use crate::support::service::example;
use crate::support::service::policy_text;

const ISSUER: &str = "https://ci.acme.example";

/// A folder with the policy of the tests' rule.
fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("policy")).unwrap();
    let text = policy_text("https://pypi.acme.example", ISSUER, WIDGETS);
    fs::write(home.path().join("policy/policy.yaml"), text).unwrap();
    home
}

/// The job's token with these claims put over its own, signed by nobody whom the policy knows.
fn token(overrides: &Value) -> String {
    let job = json!({"repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "release"});
    let mut claims = example("github", "tag-push", &job);
    let now = SystemClock.now();
    let members = claims.as_object_mut().unwrap();
    for (name, value) in [
        ("iss", json!(ISSUER)),
        ("aud", json!(AUDIENCE)),
        ("iat", json!(now.unix_seconds())),
        ("exp", json!(now.plus(Duration::from_secs(300)).unix_seconds())),
    ] {
        members.insert(name.to_owned(), value);
    }
    members.extend(overrides.as_object().unwrap().clone());
    let token = SigningKey::generate(KeyKind::P256).unwrap().token(&Value::Null, &claims);
    said::tokens_in(&token);
    token
}

fn explain(home: &TempDir, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
    command.args(["policy", "explain"]).args(arguments).current_dir(home.path()).env_clear();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input may have ended already.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    said::printed(&command, &output);
    output
}

#[test]
fn a_token_is_judged_and_the_rules_are_asked_whatever_is_wrong_with_it() {
    let home = home();
    let ago = |seconds| SystemClock.now().minus(Duration::from_secs(seconds)).unix_seconds();
    for (overrides, decision, code, valid, fault, exit) in [
        (json!({}), "allow", "ok", json!(null), json!(null), 0),
        (json!({"iat": ago(900), "exp": ago(600)}), "allow", "ok", json!(false), json!("token-expired"), 1),
        (json!({"aud": "testpypi"}), "allow", "ok", json!(false), json!("wrong-audience"), 1),
        (json!({"environment": "staging"}), "deny", "environment-mismatch", json!(null), json!(null), 1),
        (json!({"iss": "https://evil.example"}), "deny", "unknown-issuer", json!(false), json!("unknown-issuer"), 1),
    ] {
        let token = token(&overrides);
        // As an editor leaves it.
        fs::write(home.path().join("token.txt"), format!("{token}\n")).unwrap();
        for (path, input) in [("token.txt", ""), ("-", token.as_str())] {
            let output = explain(&home, &["--json", "--token", path], input);
            assert_eq!(output.status.code(), Some(exit), "{overrides} {path}: {output:?}");
            let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!((&facts["decision"], &facts["code"]), (&json!(decision), &json!(code)), "{overrides} {path}");
            let verdict = &facts["token"];
            assert_eq!((&verdict["valid"], &verdict["code"]), (&valid, &fault), "{overrides} {path}: {verdict}");
            let table = explain(&home, &["--token", path], input);
            assert_eq!(table.status.code(), Some(exit));
            let table = String::from_utf8(table.stdout).unwrap();
            assert!(table.starts_with(&format!("token: {}", fault.as_str().unwrap_or("nothing is wrong with it"))));
            assert!(decision == "deny" || table.contains("\nallowed: the rule `widgets-release` grants"), "{table}");
            let (_, signature) = token.rsplit_once('.').unwrap();
            assert!(!table.contains(signature) && !facts.to_string().contains(signature));
        }
    }
}

#[test]
fn what_is_no_token_is_told_so_and_no_rule_is_asked() {
    let home = home();
    for (garbage, code) in [("garbage", "token-malformed"), ("a.b.c", "token-malformed"), ("", "token-missing")] {
        let output = explain(&home, &["--json", "--token", "-"], garbage);
        let facts: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{garbage}");
        assert_eq!((&facts["decision"], &facts["code"]), (&json!("deny"), &json!(code)), "{facts}");
        assert_eq!((&facts["token"]["code"], &facts["token"]["valid"]), (&json!(code), &json!(false)));
        assert_eq!((&facts["rules"], &facts["grant"]), (&Value::Null, &Value::Null));
    }
}

#[test]
fn a_token_names_its_issuer_itself_and_comes_from_one_file() {
    let home = home();
    fs::write(home.path().join("token.txt"), token(&json!({}))).unwrap();
    for (arguments, code) in [
        (&["--token", "token.txt", "--issuer", "github"][..], 2),
        (&["--token", "token.txt", "--claims", "token.txt"], 2),
        (&[], 2),
        (&["--token", "nowhere.txt"], 1),
        (&["--token", "token.txt"], 0),
    ] {
        let output = explain(&home, arguments, "");
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert_eq!(output.stdout.is_empty(), code != 0, "{arguments:?}: {output:?}");
    }
    let output = explain(&home, &["--token", "nowhere.txt"], "");
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("error: `nowhere.txt`: "), "{output:?}");
}
