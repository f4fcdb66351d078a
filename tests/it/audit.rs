//! The audit log through the front door: every event is as its documents say, and none is lost that matters.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::PipeReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use trustmint::audit::AuditSink;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::store_contract::faulty;
use crate::store_contract::faulty::Fault;
use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy_text;

mod schema;

use self::schema::Schema;

const FORM: &str = "application/x-www-form-urlencoded";
/// No wait in these tests is meant to be longer than a moment.
const SOON: Duration = Duration::from_secs(30);

/// Beside [`WIDGETS`]: a rule of two blocks, one in shadow mode, and those of a registry of npm's and of one that demands no
/// first use.
const RULES: &str = r#"
  gadgets-nightly:
    registry: acme-pypi
    issuer: github
    when:
      repository_owner_id: "9123456"
      repository_id: "701234567"
      any_of:
        - {environment: nightly}
        - {environment: weekly}
    allow: {upload: [gadgets]}
  extras-release:
    registry: acme-pypi
    issuer: github
    mode: shadow
    when: {repository_owner_id: "9123456", repository_id: "701234567"}
    allow: {upload: [extras]}
  npm-release:
    registry: npm
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567"}
    allow: {upload: [widgets]}
  tools-release:
    registry: tools
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567"}
    allow: {upload: [widgets]}
"#;

fn policy(base: &str, issuer: &str) -> String {
    let registries = format!(
        "registries:\n  npm: {{dialect: npm, urls: [\"{base}/npm/\"]}}\n  tools: {{dialect: generic, urls: \
         [\"{base}/tools/\"], audiences: [tools-aud], replay: off}}\n"
    );
    let rules = format!("{WIDGETS}{}", RULES.trim_start_matches('\n'));
    policy_text(base, issuer, &rules).replacen("registries:\n", &registries, 1)
}

/// Makes a service record an event of every kind, with every member that such events have.
async fn every_event() -> Vec<Value> {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("policy.yaml");
    let service = Service::watching(|base, issuer| {
        fs::write(&file, policy(base, issuer)).unwrap();
        directory.path().to_owned()
    })
    .await;
    let operations = Operations::of(Arc::clone(&service.app));
    let ok = |answer: &Answer| assert!((200..300).contains(&answer.status), "{}", answer.text);

    let token = service.upload_token().await;
    let single = json!({"token": service.id_token(&json!({})), "features": ["single-use-token"]});
    ok(&service.mint(&single).await);
    for members in [json!({"audience": "acme", "scope": "upload:widgets"}), json!({"audience": "tools-aud"})] {
        let mut request = json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": service.id_token(&json!({"aud": members["audience"]})),
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        });
        request.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        ok(&service.post_json("/v1/token", &request).await);
    }
    let npm = service.client.post(format!("{}/npm/-/npm/v1/oidc/token/exchange/package/widgets", service.base));
    let npm = npm.bearer_auth(service.id_token(&json!({"aud": "npm:127.0.0.1"})));
    ok(&Answer::of(npm.send().await.unwrap()).await);
    let branch = service.id_token(&json!({"environment": "staging", "ref": "refs/heads/main", "ref_type": "branch"}));
    let refused = service.mint(&json!({"token": branch})).await;
    assert_eq!(refused.status, 422, "{}", refused.text);

    for (package, allowed) in [("widgets", true), ("gadgets", false)] {
        let answer = service.verify(&json!({"token": token, "package": package, "exists": true})).await;
        assert_eq!(answer.body["allowed"], allowed, "{}", answer.text);
    }
    let asked = service.client.post(format!("{}/v1/introspect", service.base)).bearer_auth(API_KEY);
    let asked = asked.header("content-type", FORM).body(format!("token={token}"));
    assert_eq!(Answer::of(asked.send().await.unwrap()).await.body["active"], true);
    ok(&service.post("/v1/revoke", FORM, format!("token={token}")).await);
    let own = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
    let own = own.body(json!({"rule": "widgets-release"}).to_string());
    ok(&Answer::of(own.send().await.unwrap()).await);

    let good = fs::read_to_string(&file).unwrap();
    for (text, status) in [(format!("{good}# changed\n"), 200), ("rules: [".to_owned(), 422)] {
        fs::write(&file, text).unwrap();
        let reload = operations.client.post(format!("{}/policy/reload", operations.base)).bearer_auth(KEY);
        assert_eq!(reload.send().await.unwrap().status(), status);
    }
    let stop = json!({
        "issuer": "github", "registry": "npm", "rule": "npm-release", "repository_id": "701234567",
        "reason": "INC-7", "until": service.app.now().plus(Duration::from_secs(3600)).to_string(),
    });
    let stopped = operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY);
    let stopped = Answer::of(stopped.body(stop.to_string()).send().await.unwrap()).await;
    ok(&stopped);
    let id = stopped.body["id"].as_str().unwrap();
    let lift = operations.client.delete(format!("{}/stops/{id}", operations.base)).bearer_auth(KEY);
    ok(&Answer::of(lift.send().await.unwrap()).await);
    let mut events = service.audit();
    events.extend(unanswered().await);
    events
}

/// What is recorded of revocations, a stop and a lift to which the store gives no answer.
async fn unanswered() -> Vec<Value> {
    let (service, store) = faulty::service().await;
    let operations = Operations::of(Arc::clone(&service.app));
    let token = service.upload_token().await;
    let until = service.app.now().plus(Duration::from_secs(3600)).to_string();
    let stop = json!({"rule": "another", "reason": "INC-8", "until": until}).to_string();
    let stop = || operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY).body(stop.clone());
    let stopped = Answer::of(stop().send().await.unwrap()).await;
    let id = stopped.body["id"].as_str().unwrap();
    let lift = operations.client.delete(format!("{}/stops/{id}", operations.base)).bearer_auth(KEY);
    let own = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
    let own = own.body(json!({"rule": "widgets-release"}).to_string());
    store.fail(Some(Fault::Refused));
    let mut answers = vec![service.post("/v1/revoke", FORM, format!("token={token}")).await];
    for request in [own, stop(), lift] {
        answers.push(Answer::of(request.send().await.unwrap()).await);
    }
    for answer in answers {
        assert_eq!((answer.status, answer.code()), (503, "store-unavailable"), "{}", answer.text);
    }
    let events = service.audit().into_iter().filter(|event| event["decision"] == "fault");
    events.collect()
}

#[actix_web::test]
async fn the_schema_describes_every_member_of_every_event_and_none_that_does_not_occur() {
    let schema = Schema::read();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in every_event().await {
        schema.judge(&event).unwrap_or_else(|wrong| panic!("{wrong}\nin {event}"));
        let mut paths = Vec::new();
        schema::paths(&event, "", &mut paths);
        // The names of claims are the provider's.
        paths.retain(|path| !path.starts_with("claims."));
        seen.entry(event["event"].as_str().unwrap().to_owned()).or_default().extend(paths);
    }
    let kinds = schema.kinds().into_iter();
    let described: BTreeMap<String, BTreeSet<String>> =
        kinds.map(|(kind, schema_of)| (kind.to_owned(), schema.members(schema_of).into_keys().collect())).collect();
    assert_eq!(seen, described);
}

#[actix_web::test]
async fn the_schema_refuses_what_is_not_described() {
    let schema = Schema::read();
    let events = every_event().await;
    let event = |kind: &str, decision: &str| {
        let found = events.iter().find(|event| event["event"] == kind && event["decision"] == decision);
        found.unwrap_or_else(|| panic!("{kind} {decision}")).clone()
    };
    let refused = |mut event: Value, pointer: &str, value: Value| {
        let (at, name) = pointer.rsplit_once('/').unwrap();
        let members = event.pointer_mut(at).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name).unwrap()
        } else {
            members.insert(name.to_owned(), value).unwrap_or_default()
        };
        schema.judge(&event).expect_err(pointer);
    };
    for (kind, decision) in [
        ("exchange", "allow"),
        ("exchange", "deny"),
        ("verify", "allow"),
        ("introspect", "allow"),
        ("revoke", "allow"),
        ("reload", "deny"),
        ("stop", "allow"),
        ("lift", "allow"),
        ("revoke", "fault"),
        ("stop", "fault"),
        ("lift", "fault"),
    ] {
        refused(event(kind, decision), "/unknown", json!("x"));
        for name in ["/schema", "/time", "/request_id", "/event", "/decision", "/code"] {
            refused(event(kind, decision), name, Value::Null);
            refused(event(kind, decision), name, json!(["x"]));
        }
    }
    let denied = event("exchange", "deny");
    for (pointer, value) in [
        ("/schema", json!(2)),
        ("/event", json!("other")),
        ("/decision", json!("perhaps")),
        ("/time", json!("2026-11-26T14:00:00Z")),
        ("/registry", Value::Null),
        ("/rules", json!([])),
        ("/shadow", json!([1])),
        ("/single_use", json!(false)),
        ("/class", json!("other")),
        ("/subject/jti", json!("x")),
        ("/subject/lifetime", json!(-1)),
        ("/explanation/unknown", json!(1)),
        ("/explanation/sentence", Value::Null),
        ("/explanation/rules/0/unknown", json!(1)),
        ("/explanation/rules/0/mode", json!("on")),
        ("/explanation/rules/0/conditions/0/unknown", json!(1)),
        ("/explanation/rules/0/conditions/0/has", json!(1)),
    ] {
        refused(denied.clone(), pointer, value);
    }
    refused(event("stop", "allow"), "/explanation/scope/other", json!("x"));
    refused(event("introspect", "allow"), "/decision", json!("deny"));
}

#[test]
fn the_page_has_a_row_for_every_member_and_an_example_of_every_event() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md")).unwrap();
    let schema = Schema::read();
    let kinds = schema.kinds();
    let mut rows: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for (kind, schema_of) in &kinds {
        for (path, says) in schema.members(schema_of) {
            rows.entry((path, says)).or_default().push(kind);
        }
    }
    let expected = rows.into_iter().map(|((path, says), of)| {
        let of = if of.len() == kinds.len() { "every event".to_owned() } else { of.join(", ") };
        format!("| `{path}` | {of} | {says} |")
    });
    let written: BTreeSet<String> = page.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    let expected: BTreeSet<String> = expected.collect();
    let missing: Vec<&String> = expected.difference(&written).collect();
    assert!(missing.is_empty(), "docs/audit.md lacks these rows:\n{missing:#?}");
    let unknown: Vec<&String> = written.difference(&expected).collect();
    assert!(unknown.is_empty(), "docs/audit.md has these rows, which the schema does not:\n{unknown:#?}");

    let mut examples = BTreeSet::new();
    for line in page.lines().filter(|line| line.starts_with("{\"schema\"")) {
        let event: Value = serde_json::from_str(line).unwrap();
        schema.judge(&event).unwrap_or_else(|wrong| panic!("{wrong}\nin {line}"));
        examples.insert(event["event"].as_str().unwrap().to_owned());
    }
    let described: BTreeSet<String> = kinds.into_keys().map(str::to_owned).collect();
    assert_eq!(examples, described);
}

/// A service whose log is a pipe that nobody reads.
async fn unread() -> (Service, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Service::recording(AuditSink::Writer(Box::new(writer)), 64).await, reader)
}

/// Lets jobs be refused until there is no room for their events.
async fn fill(service: &Service) {
    let mut jobs = 0;
    while dropped(service) == 0 {
        refuse(service).await;
        jobs += 1;
        assert!(jobs < 10_000, "the log is never full");
    }
}

async fn refuse(service: &Service) {
    let answer = service.mint(&json!({"token": service.id_token(&json!({"environment": "staging"}))})).await;
    assert_eq!((answer.status, answer.code()), (422, "environment-mismatch"), "{}", answer.text);
}

fn dropped(service: &Service) -> u64 {
    let text = service.app.metrics().render().unwrap();
    let lost = text.lines().filter(|line| line.starts_with("trustmint_audit_dropped_total{decision="));
    lost.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// The lines of a pipe as they come.
fn read(pipe: PipeReader) -> mpsc::Receiver<Value> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let event = serde_json::from_str(&line.unwrap()).unwrap();
            if sender.send(event).is_err() {
                break;
            }
        }
    });
    lines
}

#[actix_web::test]
async fn while_nobody_reads_the_log_exchanges_wait_and_their_id_tokens_stay_good() {
    let (service, pipe) = unread().await;
    fill(&service).await;
    let job = async || {
        let token = json!({"token": service.id_token(&json!({}))});
        (service.mint(&token).await, token)
    };
    // What is reserved is for them, and then there is no more.
    let mut minted = Vec::new();
    let (refused, waiting) = loop {
        let (answer, token) = job().await;
        if answer.status != 200 {
            break (answer, token);
        }
        minted.push(answer);
        assert!(minted.len() <= 8, "an eighth of the log is for exchanges alone");
    };
    assert!(!minted.is_empty(), "refusals have taken what is reserved");
    for answer in [refused, service.mint(&waiting).await] {
        assert_eq!((answer.status, answer.code()), (503, "audit-unavailable"), "{}", answer.text);
        let wait: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=10).contains(&wait), "{wait}");
        assert_eq!(answer.body["class"], "unavailable");
    }
    // Jobs that the rules refuse are told so, and only counted.
    let before = dropped(&service);
    refuse(&service).await;
    assert_eq!(dropped(&service), before + 1);

    let lines = read(pipe);
    let mut tries = 0;
    let accepted = loop {
        let answer = service.mint(&waiting).await;
        if answer.status == 200 {
            break answer;
        }
        assert_eq!(answer.code(), "audit-unavailable", "{}", answer.text);
        tries += 1;
        assert!(tries < 10_000, "the log is read and exchanges go on waiting");
    };
    minted.push(accepted);
    assert_eq!(service.mint(&waiting).await.code(), "token-replayed", "it was good for one");
    let (last, _) = job().await;
    let last_id = last.headers["x-request-id"].to_str().unwrap().to_owned();
    minted.push(last);

    let mut recorded = BTreeMap::new();
    loop {
        let event = lines.recv_timeout(SOON).expect("the last event comes");
        let id = event["request_id"].as_str().unwrap().to_owned();
        let is_last = id == last_id;
        assert!(recorded.insert(id, event).is_none(), "an event came twice");
        if is_last {
            break;
        }
    }
    // Every upload token has its record, and every record of one its upload token.
    let allowed = recorded.iter().filter(|(_, event)| event["event"] == "exchange" && event["decision"] == "allow");
    let allowed: BTreeSet<&str> = allowed.map(|(id, _)| id.as_str()).collect();
    let minted: BTreeSet<&str> = minted.iter().map(|answer| answer.headers["x-request-id"].to_str().unwrap()).collect();
    assert_eq!(allowed, minted);
}

#[actix_web::test]
async fn what_registries_and_operators_do_is_never_held_up_by_the_log() {
    let (service, pipe) = unread().await;
    let tokens = [service.upload_token().await, service.upload_token().await];
    fill(&service).await;
    while service.mint(&json!({"token": service.id_token(&json!({}))})).await.status == 200 {}
    let operations = Operations::of(Arc::clone(&service.app));
    let question = |token: &String| json!({"token": token, "package": "widgets", "exists": true});
    let before = dropped(&service);
    // Far more than the log has room for.
    for number in 0..20 {
        assert_eq!(service.verify(&question(&tokens[0])).await.body["allowed"], true, "{number}");
    }
    assert_eq!(dropped(&service), before + 20, "exchanges have room where these have none");
    assert_eq!(service.post("/v1/revoke", FORM, format!("token={}", tokens[0])).await.status, 200);
    assert_eq!(service.verify(&question(&tokens[0])).await.code(), "upload-token-revoked");
    let until = service.app.now().plus(Duration::from_secs(60)).to_string();
    let stop = json!({"rule": "widgets-release", "reason": "r", "until": until}).to_string();
    let stop = operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY).body(stop);
    assert_eq!(stop.send().await.unwrap().status(), 201);
    assert_eq!(service.verify(&question(&tokens[1])).await.code(), "stopped");
    // What ended tokens has the last room, so its records come once somebody reads.
    let lines = read(pipe);
    let mut awaited = BTreeSet::from(["revoke", "stop"]);
    while !awaited.is_empty() {
        let event = lines.recv_timeout(SOON).unwrap_or_else(|_| panic!("no record of {awaited:?}"));
        awaited.remove(event["event"].as_str().unwrap());
    }
}

#[actix_web::test]
async fn a_token_that_is_revoked_again_and_again_is_recorded_as_revoked_once() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let token_id = service.last_event()["token_id"].clone();
    for _ in 0..3 {
        assert_eq!(service.post("/v1/revoke", FORM, format!("token={token}")).await.status, 200);
        let own = service.client.post(format!("{}/v1/revocations", service.base)).bearer_auth(API_KEY);
        let own = Answer::of(own.body(json!({"token_id": token_id}).to_string()).send().await.unwrap()).await;
        assert!((200..300).contains(&own.status), "{}", own.text);
    }
    let events = service.audit();
    let revoked: Vec<&Value> = events.iter().filter(|event| event["event"] == "revoke").collect();
    assert_eq!(revoked.len(), 1, "{revoked:?}");
    assert_eq!(revoked[0]["token_id"], token_id);
}
