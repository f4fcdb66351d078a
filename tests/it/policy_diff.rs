//! `trustmint policy diff`: past exchanges, as a running service recorded them, under another policy.

use std::fs;
use std::process::Command;
use std::process::Output;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::support::Service;
use crate::support::said;
use crate::support::service::WIDGETS;
use crate::support::service::policy_text;

/// A folder with the policies OLD and NEW, and the audit log of three exchanges under OLD: two granted, one refused.
struct Home {
    service: Service,
    folder: TempDir,
}

impl Home {
    async fn new() -> Self {
        let service = Service::start().await;
        for claims in [json!({}), json!({}), json!({"environment": "staging"})] {
            service.mint(&json!({"token": service.id_token(&claims)})).await;
        }
        service.upload_token().await;
        let home = Self { service, folder: TempDir::new().unwrap() };
        home.policy("old", WIDGETS);
        let lines: Vec<String> = home.service.audit().iter().map(Value::to_string).collect();
        home.log(&(lines.join("\n") + "\n"));
        home
    }

    fn policy(&self, name: &str, rules: &str) {
        let directory = self.folder.path().join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("p.yaml"), policy_text(&self.service.base, self.service.provider.issuer(), rules))
            .unwrap();
    }

    fn log(&self, text: &str) {
        fs::write(self.folder.path().join("events.jsonl"), text).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
        command.args(["policy", "diff"]).args(arguments).current_dir(self.folder.path()).env_clear();
        said::run(&mut command).unwrap()
    }

    /// The facts about a comparison with these rules, and the exit code.
    fn facts(&self, rules: &str) -> (Value, Option<i32>) {
        self.policy("new", rules);
        let output = self.run(&["--audit", "events.jsonl", "old", "new", "--json"]);
        let facts = serde_json::from_slice(&output.stdout);
        (facts.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr))), output.status.code())
    }
}

#[actix_web::test]
async fn what_the_service_recorded_is_enough_to_decide_it_anew() {
    let home = Home::new().await;
    let (facts, code) = home.facts(WIDGETS);
    assert_eq!(code, Some(0), "{facts:#}");
    let counts = &facts["past"]["counts"];
    let got = ["exchanges", "unchanged", "changed", "unknown", "unlike_the_record", "incomplete", "not_events"];
    assert_eq!(got.map(|name| counts[name].as_u64().unwrap()), [4, 4, 0, 0, 0, 0, 0], "{counts}");
    assert_eq!(facts["past"]["never_matched"], json!([]));

    let (facts, code) = home.facts(&WIDGETS.replace("environment: release", "environment: staging"));
    assert_eq!(code, Some(1), "{facts:#}");
    let changes = facts["past"]["changes"].as_array().unwrap();
    assert_eq!((&changes[0]["change"], &changes[0]["count"]), (&json!("newly-denied"), &json!(3)));
    assert_eq!(
        (&changes[0]["code"], &changes[0]["nearest"]),
        (&json!("environment-mismatch"), &json!("widgets-release"))
    );
    assert_eq!((&changes[1]["change"], &changes[1]["count"]), (&json!("newly-allowed"), &json!(1)));
    let table = home.run(&["--audit", "events.jsonl", "old", "new"]);
    let table = String::from_utf8(table.stdout).unwrap();
    for line in [
        "rules: 0 added, 0 removed, 1 changed",
        "      - when environment: release",
        "4 exchanges: 0 unchanged, 4 changed, 0 unknown",
        "newly denied, at acme-pypi from http",
        "environment-mismatch, nearest rule widgets-release: the rule `widgets-release` wants `environment: staging`",
    ] {
        assert!(table.contains(line), "{line}:\n{table}");
    }
}

#[actix_web::test]
async fn a_claim_that_is_not_public_makes_the_decision_unknown() {
    let home = Home::new().await;
    let (facts, code) =
        home.facts(&WIDGETS.replace("environment: release", "environment: release\n      check_run_id: \"7\""));
    assert_eq!(code, Some(0), "nothing is known to change: {facts:#}");
    let counts = &facts["past"]["counts"];
    assert_eq!((&counts["unknown"], &counts["unchanged"]), (&json!(3), &json!(1)), "{counts}");
    assert_eq!(facts["past"]["unknown"][0]["claims"], json!(["check_run_id"]));
}

#[actix_web::test]
async fn without_a_log_the_rules_are_compared_and_a_line_too_long_is_no_event() {
    let home = Home::new().await;
    home.policy("new", WIDGETS);
    assert_eq!(home.run(&["old", "new"]).status.code(), Some(0));
    home.policy("new", &WIDGETS.replace("upload: [widgets]", "upload: [gadgets]"));
    let output = home.run(&["old", "new"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("+ allow upload:gadgets"));
    home.log(&format!("{}\n{{}}\nlast", "x".repeat(3 * 1024 * 1024)));
    let (facts, _) = home.facts(WIDGETS);
    assert_eq!(facts["past"]["counts"]["not_events"], 3, "{facts:#}");
    for log in ["", "{}\n", "{\"schema\": 1, \"event\": \"verify\"}\n"] {
        home.log(log);
        let output = home.run(&["--audit", "events.jsonl", "new", "new"]);
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("nothing was compared"), "{log}");
    }
    assert_eq!(home.run(&["--audit", "none.jsonl", "old", "new"]).status.code(), Some(1));
    assert_eq!(home.run(&["old"]).status.code(), Some(2));
}
