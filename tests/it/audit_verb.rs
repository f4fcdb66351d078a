//! `trustmint audit`: events of a log, one by one or counted.

use std::fs;
use std::process::Output;

use serde_json::Value;
use serde_json::json;

use crate::serve::Home;

fn event(overrides: &Value) -> String {
    let mut event = json!({
        "schema": 1, "time": "2026-11-26T12:00:00.000Z", "request_id": "r0", "event": "exchange", "decision": "allow",
        "code": "ok", "registry": "acme", "issuer": "github", "rules": ["widgets-release"],
        "granted": ["upload:widgets", "create:widgets-*"], "token_id": "t0",
    });
    event.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
    format!("{event}\n")
}

/// Two files, the older one rotated: a grant and a refusal, then a verification, an operator's stop and a fault.
fn home() -> Home {
    let home = Home::with_key();
    let refused = json!({
        "time": "2026-11-26T12:30:00.000Z", "request_id": "r1", "decision": "deny", "code": "environment-mismatch",
        "class": "refused", "rules": [], "granted": [], "token_id": null, "package": "gadgets",
        "explanation": {"code": "environment-mismatch", "sentence": "the rule wants `release`"},
    });
    home.write("audit.jsonl.1", &(event(&json!({})) + &event(&refused)));
    let verified = json!({
        "time": "2026-11-26T13:00:00.000Z", "request_id": "r2", "event": "verify", "granted": [],
        "requested": ["upload:widgets"],
    });
    let stopped = json!({
        "time": "2026-11-26T14:00:00.000Z", "request_id": "r3", "event": "stop", "issuer": null, "rules": [], "granted": [],
        "token_id": null, "explanation": {"reason": "INC-7"},
    });
    let failed = json!({
        "time": "2026-11-26T14:00:00.001Z", "request_id": "r4", "registry": "other", "decision": "fault",
        "code": "store-unavailable", "rules": ["tools-release"], "granted": [], "token_id": null,
    });
    home.write("audit.jsonl", &(event(&verified) + &event(&stopped) + &event(&failed)));
    home
}

const BOTH: [&str; 3] = ["audit", "audit.jsonl.1", "audit.jsonl"];

fn run(home: &Home, arguments: &[&str]) -> Output {
    home.run(&[&BOTH[..], arguments].concat(), "")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn events_are_found_by_what_they_are_about() {
    let home = home();
    for (arguments, expected) in [
        (&[][..], &["r0", "r1", "r2", "r3", "r4"][..]),
        (&["--registry", "acme"], &["r0", "r1", "r2", "r3"]),
        (&["--registry", "acme", "--registry", "other"], &["r0", "r1", "r2", "r3", "r4"]),
        (&["--issuer", "github"], &["r0", "r1", "r2", "r4"]),
        (&["--event", "stop"], &["r3"]),
        (&["--event", "introspect"], &[]),
        (&["--decision", "deny", "--decision", "fault"], &["r1", "r4"]),
        (&["--code", "ok", "--event", "exchange"], &["r0"]),
        (&["--rule", "widgets-release"], &["r0", "r2"]),
        (&["--package", "widgets"], &["r0", "r2"]),
        (&["--package", "widgets-core"], &["r0"]),
        (&["--package", "gadgets"], &["r1"]),
        (&["--token-id", "t0"], &["r0", "r2"]),
        (&["--request-id", "r3"], &["r3"]),
        (&["--since", "2026-11-26T14:00:00Z"], &["r3", "r4"]),
        (&["--since", "2026-11-26T14:00:00.001Z"], &["r4"]),
        (&["--until", "2026-11-26T12:30:00Z"], &["r0"]),
        (&["--since", "2026-11-26", "--until", "2026-11-27"], &["r0", "r1", "r2", "r3", "r4"]),
        (&["--since", "2026-11-27"], &[]),
    ] {
        let output = run(&home, &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", err(&output));
        let found: Vec<Value> = out(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(found.iter().map(|event| event["request_id"].as_str().unwrap()).collect::<Vec<_>>(), expected);
        assert_eq!(err(&output).contains("none of 5 lines"), expected.is_empty(), "{arguments:?}: {}", err(&output));
    }
    let written = fs::read_to_string(home.path().join("audit.jsonl")).unwrap();
    assert_eq!(
        out(&home.run(&["audit", "--json"], &written)),
        written,
        "what is written is passed on, from standard input"
    );
}

#[test]
fn people_get_a_line_for_each_event_and_the_reason_below_it() {
    let text = out(&run(&home(), &["--registry", "acme"]));
    for expected in [
        "2026-11-26T12:00:00.000Z  exchange    allow  ok  registry=acme  issuer=github  rules=widgets-release  \
         granted=upload:widgets,create:widgets-*  token=t0  request=r0\n",
        "deny   environment-mismatch  registry=acme  issuer=github  package=gadgets  request=r1\n    the rule wants `release`\n",
        "stop        allow  ok  registry=acme  request=r3\n    INC-7\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn a_summary_counts_each_kind_and_says_from_when_to_when() {
    let home = home();
    let facts: Value = serde_json::from_str(&out(&run(&home, &["--summary", "--json"]))).unwrap();
    assert_eq!(
        facts,
        json!({
            "events": 5, "first": "2026-11-26T12:00:00.000Z", "last": "2026-11-26T14:00:00.001Z", "lines": 5,
            "by": {
                "event": {"exchange": 3, "verify": 1, "stop": 1}, "decision": {"allow": 3, "deny": 1, "fault": 1},
                "code": {"ok": 3, "environment-mismatch": 1, "store-unavailable": 1}, "registry": {"acme": 4, "other": 1},
                "issuer": {"github": 4}, "rule": {"widgets-release": 2, "tools-release": 1},
            },
            "further": {"event": 0, "decision": 0, "code": 0, "registry": 0, "issuer": 0, "rule": 0},
            "unreadable": {"count": 0, "first": []},
        })
    );
    let text = out(&run(&home, &["--summary", "--event", "exchange"]));
    assert!(
        text.starts_with("3 events from 2026-11-26T12:00:00.000Z to 2026-11-26T14:00:00.001Z\n\nby event\n"),
        "{text}"
    );
    assert!(text.contains("by rule\n         1  tools-release\n         1  widgets-release\n"), "{text}");
    assert!(out(&run(&home, &["--summary", "--code", "none"])).starts_with("0 events\n"));
}

#[test]
fn a_line_that_cannot_be_read_is_told_with_its_number_and_the_others_are_read() {
    let home = home();
    let lines = [
        event(&json!({"request_id": "before"})),
        "not json\n".to_owned(),
        event(&json!({"schema": 2})),
        event(&json!({"rules": "not a list"})),
        event(&json!({"time": "yesterday"})),
        format!("{}\n", "x".repeat(3 * 1024 * 1024)),
        event(&json!({"request_id": "after"})),
    ];
    home.write("broken.jsonl", &lines.concat());
    let output = home.run(&["audit", "broken.jsonl", "--json"], "");
    assert_eq!(output.status.code(), Some(1));
    let text = out(&output);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.contains("before") && text.contains("after"));
    for (number, why) in [
        (2, "is no event"),
        (3, "is an event of a version that is not known here"),
        (4, "is an event that lacks what every event has"),
        (5, "has no time that can be read"),
        (6, "is too long to be an event"),
    ] {
        let told = format!("note: broken.jsonl: line {number} {why}\n");
        assert!(err(&output).contains(&told), "{told}\n{}", err(&output));
    }
    assert!(err(&output).contains("5 of 7 lines could not be read"), "{}", err(&output));
    let facts: Value =
        serde_json::from_str(&out(&home.run(&["audit", "broken.jsonl", "--summary", "--json"], ""))).unwrap();
    assert_eq!((&facts["events"], &facts["unreadable"]["count"]), (&json!(2), &json!(5)));
    assert_eq!(facts["unreadable"]["first"][0], json!({"file": "broken.jsonl", "line": 2, "why": "is no event"}));

    home.write("many.jsonl", &"{}\n".repeat(1000));
    let output = home.run(&["audit", "many.jsonl"], "");
    assert_eq!(err(&output).lines().count(), 22, "no more than twenty are told one by one: {}", err(&output));
}

#[test]
fn what_a_log_says_cannot_disguise_a_terminals_line() {
    let home = home();
    let hostile = "x\u{1b}[2J\u{202e}\nevil";
    let line = event(&json!({
        "request_id": hostile, "code": hostile, "registry": hostile, "rules": [hostile], "token_id": hostile,
        "package": hostile, "explanation": {"sentence": hostile},
    }));
    // As somebody else's tool may have written it.
    home.write("hostile.jsonl", &line.replace("\\u001b", "\u{7f}"));
    for arguments in [&[][..], &["--json"], &["--summary"], &["--summary", "--json"]] {
        let output = home.run(&[&["audit", "hostile.jsonl"], arguments].concat(), "");
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let text = out(&output);
        let deceptive = |c: char| c != '\n' && trustmint::escape::is_deceptive(c);
        assert!(!text.contains(deceptive) && !text.lines().any(|line| line.starts_with("evil")), "{text:?}");
    }
}

#[test]
fn a_wrong_call_is_told_from_a_file_that_cannot_be_read() {
    let home = home();
    for arguments in [
        &["--event", "other"][..],
        &["--decision", "no"],
        &["--since", "yesterday"],
        &["--until", "2026-11-26 12:00"],
        &["--unknown"],
    ] {
        assert_eq!(run(&home, arguments).status.code(), Some(2), "{arguments:?}");
    }
    let help = out(&home.run(&["audit", "--help"], ""));
    assert!(help.contains("Usage: trustmint audit") && help.contains("Which events:"), "{help}");
    let output = home.run(&["audit", "missing.jsonl"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("`missing.jsonl`: "), "{}", err(&output));
    fs::write(home.path().join("audit.jsonl.2.gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    let output = home.run(&["audit", "audit.jsonl.2.gz"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("gzip -dc audit.jsonl.2.gz"), "{}", err(&output));
    for kind in ["exchange", "verify", "introspect", "revoke", "reload", "stop", "lift"] {
        assert_eq!(run(&home, &["--event", kind]).status.code(), Some(0), "{kind}");
    }
}
