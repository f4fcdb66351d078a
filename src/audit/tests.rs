//! The audit log's promises.

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::Receiver;

use super::*;
use crate::json::Json;

const SOON: Duration = Duration::from_secs(10);

/// A sink that can be read while the log runs.
#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that takes nothing until it is told to, and then follows a script: how many bytes of each write it takes,
/// `None` for a failure. When the script is over it takes everything.
struct Scripted {
    gate: Receiver<()>,
    script: Vec<Option<usize>>,
    taken: Shared,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.recv();
        let step = if self.script.is_empty() { Some(usize::MAX) } else { self.script.remove(0) };
        match step {
            Some(most) => self.taken.write(&bytes[..bytes.len().min(most)]),
            None => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn event(request_id: &str) -> AuditEvent {
    let time = Timestamp::from_unix_millis(1_763_856_900_042);
    AuditEvent::new(time, request_id.to_owned(), AuditKind::Exchange, AuditDecision::Allow, "ok")
}

fn full_event() -> AuditEvent {
    AuditEvent {
        class: Some("refused"),
        registry: Some("acme-pypi".to_owned()),
        issuer: Some("github".to_owned()),
        requested: vec!["upload:gadgets".to_owned()],
        granted: vec!["upload:widgets".to_owned()],
        rules: vec!["widgets-release".to_owned()],
        policy_revision: Some("9f86d081884c".to_owned()),
        token_id: Some("0198".to_owned()),
        client: Some("192.0.2.7".parse().unwrap()),
        claims: vec![
            ("repository".into(), Json::String("acme/widgets".into())),
            ("/nested/list".into(), Json::Array(vec![Json::String("a".into()), Json::Int(1)])),
        ],
        explanation: Some(serde_json::json!({"code": "ref-mismatch"})),
        decision: AuditDecision::Deny,
        code: "ref-mismatch",
        event: AuditKind::Verify,
        ..event("r-1")
    }
}

fn written(events: Vec<AuditEvent>) -> Vec<String> {
    let sink = Shared::default();
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink.clone())), 64).unwrap();
    for event in events {
        log.record(event);
    }
    assert!(log.flush(SOON));
    assert_eq!(log.dropped(), 0);
    sink.lines()
}

#[test]
fn version_1_is_spelled_like_this() {
    let expected = r#"{"schema":1,"time":"2025-11-23T00:15:00.042Z","request_id":"r-1","event":"verify","decision":"deny","code":"ref-mismatch","class":"refused","registry":"acme-pypi","issuer":"github","requested":["upload:gadgets"],"granted":["upload:widgets"],"rules":["widgets-release"],"policy_revision":"9f86d081884c","token_id":"0198","client":"192.0.2.7","claims":{"repository":"acme/widgets","/nested/list":["a",1]},"explanation":{"code":"ref-mismatch"}}"#;
    assert_eq!(written(vec![full_event()]), [expected]);
    let short = r#"{"schema":1,"time":"2025-11-23T00:15:00.042Z","request_id":"r-2","event":"exchange","decision":"allow","code":"ok"}"#;
    assert_eq!(written(vec![event("r-2")]), [short]);
}

#[test]
fn hostile_text_cannot_leave_its_line_or_disguise_it() {
    let hostile = "x\n{\"schema\":1}\r\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}\u{feff}\"\\";
    let mut event = full_event();
    event.request_id = hostile.to_owned();
    event.claims = vec![(hostile.to_owned().into(), Json::String(hostile.into()))];
    event.explanation = Some(serde_json::json!({ hostile: [hostile] }));
    let lines = written(vec![event.clone(), event]);
    assert_eq!(lines.len(), 2);
    for line in lines {
        assert!(!line.contains(crate::escape::is_deceptive), "{line:?}");
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["request_id"], hostile);
        assert_eq!(value["claims"][hostile], hostile);
        assert_eq!(value["explanation"][hostile][0], hostile);
    }
}

#[test]
fn recording_never_waits_and_drops_are_counted() {
    let (open, gate) = mpsc::channel();
    let taken = Shared::default();
    let sink = Scripted { gate, script: vec![], taken: taken.clone() };
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink)), 10).unwrap();
    // The sink is stuck: at most one batch is on its way and ten events wait, however many come.
    for number in 0..10_000 {
        log.record(event(&format!("r-{number}")));
    }
    assert!(log.dropped() > 0);
    assert!(!log.flush(Duration::from_millis(20)), "nothing is written yet");
    drop(open);
    assert!(log.flush(SOON));
    assert_eq!(taken.lines().len() as u64 + log.dropped(), 10_000);
    // Afterwards it goes on.
    log.record(event("later"));
    assert!(log.flush(SOON));
    assert!(taken.lines().last().unwrap().contains("later"));
}

#[test]
fn refusals_cannot_push_out_the_record_of_what_was_allowed() {
    let (open, gate) = mpsc::channel();
    let taken = Shared::default();
    let sink = Scripted { gate, script: vec![], taken: taken.clone() };
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink)), 8).unwrap();
    for number in 0..1_000 {
        log.record(AuditEvent { decision: AuditDecision::Deny, ..event(&format!("refused-{number}")) });
    }
    log.record(event("allowed-1"));
    log.record(event("allowed-2"));
    drop(open);
    assert!(log.flush(SOON));
    assert_eq!(taken.lines().iter().filter(|line| line.contains("allowed-")).count(), 2);
}

#[test]
fn what_the_sink_refuses_is_lost_counted_and_leaves_whole_lines() {
    let (open, gate) = mpsc::channel();
    let taken = Shared::default();
    // Half of the first line, then the disk is full; it is full for the line feed too; then there is room again.
    let sink = Scripted { gate, script: vec![Some(40), None, None], taken: taken.clone() };
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink)), 10).unwrap();
    drop(open);
    for (number, dropped) in [(1, 1), (2, 2), (3, 2)] {
        log.record(event(&format!("r-{number}")));
        assert!(log.flush(SOON));
        assert_eq!(log.dropped(), dropped, "after event {number}");
    }
    let lines = taken.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0].len(), 40);
    assert!(lines[1].contains("r-3") && serde_json::from_str::<Value>(&lines[1]).is_ok());
}

#[test]
fn short_writes_are_continued() {
    let (open, gate) = mpsc::channel();
    let taken = Shared::default();
    let sink = Scripted { gate, script: vec![Some(1), Some(7), Some(30)], taken: taken.clone() };
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink)), 10).unwrap();
    drop(open);
    log.record(event("r-1"));
    assert!(log.flush(SOON));
    assert_eq!(log.dropped(), 0);
    assert!(serde_json::from_str::<Value>(&taken.lines()[0]).is_ok());
}

#[test]
fn what_was_recorded_is_written_after_the_log_is_dropped() {
    let sink = Shared::default();
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink.clone())), 64).unwrap();
    let progress = Arc::clone(&log.progress);
    log.record(event("r-1"));
    drop(log);
    let settled = progress.settled.lock().unwrap();
    let (settled, _) = progress.changed.wait_timeout_while(settled, SOON, |settled| *settled < 1).unwrap();
    assert_eq!(*settled, 1);
    assert_eq!(sink.lines().len(), 1);
}

#[test]
fn a_file_is_appended_to_and_private_to_its_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    for request_id in ["r-1", "r-2"] {
        let log = AuditLog::start(AuditSink::File(path.clone()), 64).unwrap();
        log.record(event(request_id));
        assert!(log.flush(SOON));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("r-1") && text.contains("r-2"));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
    assert_eq!(mode & 0o600, 0o600, "{mode:o}");
}

#[test]
fn a_file_that_cannot_be_opened_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing").join("audit.jsonl");
    assert!(AuditLog::start(AuditSink::File(missing), 64).is_err());
}
