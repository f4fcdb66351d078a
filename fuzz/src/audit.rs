//! Audit logs: whatever the bytes are, every line is counted once as what it is, and an event is read as it is written.

use std::sync::LazyLock;

use serde_json::Value;
use trustmint::audit::Line;
use trustmint::audit::LineRead;
use trustmint::audit::Lines;
use trustmint::audit::Record;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::diff::Diff;
use trustmint::time::Timestamp;

/// Most bytes that reading one byte of a line may allocate: a map for `{"":0}` has room for eleven members.
const EACH: u64 = 256;

/// What past exchanges are decided by anew.
const POLICY: &str = "issuers:
  github: {provider: github}
registries:
  acme: {dialect: pypi, urls: ['https://pypi.acme.example/legacy/'], audiences: [acme]}
  tools:
    dialect: generic
    urls: ['https://tools.acme.example/']
    audiences: [tools]
    bundle: {url: 'https://tools.acme.example/bundle', issuers: [github], packages: ['acme-*']}
rules:
  widgets-release:
    registry: acme
    issuer: github
    when: {repository_owner_id: '9123456', repository_id: '701234567', environment: release}
    allow: {upload: [widgets], create: ['widgets-*']}
  named-release:
    registry: acme
    issuer: github
    mode: shadow
    when: {repository_owner_id: '9123456', repository_id: '701234567', check_run_id: {regex: '(?<x>.*)'}}
    allow: {upload: ['acme-{x}']}
";

static DECIDED_BY: LazyLock<Policy> = LazyLock::new(|| {
    let source = Source { name: "policy.yaml".to_owned(), text: POLICY.to_owned() };
    Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
});

/// The input is a log.
pub fn audit(data: &[u8]) {
    let mut lines = Lines::new(data);
    let mut naive = data.split(|byte| *byte == b'\n');
    let mut diff = Diff::new(&DECIDED_BY, &DECIDED_BY);
    let mut last = 0;
    while let Some((number, line)) = lines.next_line().expect("a slice can be read") {
        assert_eq!(number, last + 1);
        last = number;
        let LineRead::Whole(line) = line else { panic!("a line of less than a mebibyte is too long") };
        assert_eq!(Some(line), naive.next());
        judge(line);
        diff.line(line);
    }
    assert!(naive.all(<[u8]>::is_empty), "a line was not read");

    let report = diff.finish(true);
    assert!(!report.changes() && !report.to_table().is_empty());
    let counts = serde_json::to_value(&report).unwrap()["past"]["counts"].clone();
    let kinds = ["exchanges", "other_events", "incomplete", "other_schemas", "not_events"];
    assert_eq!(kinds.map(|kind| counts[kind].as_u64().unwrap()).iter().sum::<u64>(), last, "{counts}");
    assert_eq!(counts["changed"], 0, "a policy decides as itself");
}

/// Holds what was read of a line against the line.
fn judge(line: &[u8]) {
    let value: Option<Value> = serde_json::from_slice(line).ok();
    let member = |name: &str| value.as_ref().and_then(|value| value.get(name));
    let schema = member("schema").and_then(Value::as_u64);
    match super::bounded(line.len(), EACH, || Line::parse(line)) {
        Line::Event(record) => {
            assert_eq!(schema, Some(1));
            same(&record, value.as_ref().unwrap());
        }
        Line::Faulty => assert!(schema == Some(1) && member("event").is_some()),
        Line::OtherSchema => assert!(schema.is_some_and(|schema| schema != 1)),
        Line::NotAnEvent => assert!(schema.is_none() || schema == Some(1) && member("event").is_none()),
    }
}

fn same(record: &Record, line: &Value) {
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let texts = |name: &str| -> Vec<&str> {
        line.get(name).and_then(Value::as_array).into_iter().flatten().map(|text| text.as_str().unwrap()).collect()
    };
    for (name, read) in [
        ("time", &record.time),
        ("request_id", &record.request_id),
        ("event", &record.event),
        ("decision", &record.decision),
        ("code", &record.code),
    ] {
        assert_eq!(text(name), Some(read.as_str()), "{name}");
    }
    for (name, read) in [
        ("registry", &record.registry),
        ("issuer", &record.issuer),
        ("package", &record.package),
        ("token_id", &record.token_id),
    ] {
        assert_eq!(text(name), read.as_deref(), "{name}");
    }
    for (name, read) in [
        ("requested", &record.requested),
        ("granted", &record.granted),
        ("rules", &record.rules),
        ("absent", &record.absent),
    ] {
        assert_eq!(texts(name), *read, "{name}");
    }
    if let Some(at) = record.at() {
        assert_eq!(at.with_millis().to_string(), record.time);
        let seconds = format!("{}Z", record.time.rsplit_once('.').unwrap().0);
        assert_eq!(Timestamp::parse_rfc3339(&seconds).unwrap().unix_seconds(), at.unix_seconds());
    }
    assert!(record.package.as_ref().is_none_or(|package| record.is_about(package)));
}
