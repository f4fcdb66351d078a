//! The audit log's promises.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::sink::Look;
use super::sink::Sink;
use super::*;
use crate::json::Json;
use crate::time::Timestamp;

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
/// or how it fails. When the script is over it takes everything.
struct Scripted {
    gate: Receiver<()>,
    script: Vec<Result<usize, io::ErrorKind>>,
    taken: Shared,
}

impl Write for Scripted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _open = self.gate.recv();
        let step = if self.script.is_empty() { Ok(usize::MAX) } else { self.script.remove(0) };
        self.taken.write(&bytes[..bytes.len().min(step?)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log whose writer is stuck with one event, so that the queue is empty and stays as it is filled.
fn stuck(capacity: usize) -> (AuditLog, mpsc::Sender<()>, Shared) {
    struct Entered(mpsc::Sender<()>, Scripted);
    impl Write for Entered {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _nobody_waits = self.0.send(());
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (open, gate) = mpsc::channel();
    let (enter, entered) = mpsc::channel();
    let taken = Shared::default();
    let sink = Entered(enter, Scripted { gate, script: vec![], taken: taken.clone() });
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink)), capacity).unwrap();
    log.record(event("first"));
    entered.recv_timeout(SOON).unwrap();
    (log, open, taken)
}

fn event(request_id: &str) -> AuditEvent<'_> {
    let time = Timestamp::from_unix_millis(1_763_856_900_042);
    AuditEvent::new(time, request_id, AuditKind::Exchange, AuditDecision::Allow, "ok")
}

static CLAIMS: LazyLock<[(&str, Json); 2]> = LazyLock::new(|| {
    [
        ("repository", Json::String("acme/widgets".into())),
        ("/nested/list", Json::Array(vec![Json::String("a".into()), Json::Int(1)])),
    ]
});

static TEXTS: LazyLock<[String; 4]> =
    LazyLock::new(|| ["upload:gadgets", "widgets-release", "widgets-create", "next"].map(str::to_owned));

/// Every member.
fn full_event() -> AuditEvent<'static> {
    AuditEvent {
        class: Some("refused"),
        registry: Some("acme-pypi"),
        issuer: Some("github"),
        subject: Some(AuditSubject { iss: "https://ci.example", aud: "acme", lifetime: 300 }),
        package: Some("widgets"),
        requested: &TEXTS[..1],
        single_use: true,
        granted: vec!["upload:widgets".to_owned(), "create:widgets".to_owned()],
        rules: &TEXTS[1..3],
        shadow: &TEXTS[3..],
        policy_revision: Some("9f86d081884c"),
        token_id: Some("0198".to_owned()),
        replay: Some("off"),
        client: Some("192.0.2.7".parse().unwrap()),
        claims: CLAIMS.iter().map(|(name, value)| (*name, value)).collect(),
        absent: vec!["environment", "ref"],
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
    let expected = r#"{"schema":1,"time":"2025-11-23T00:15:00.042Z","request_id":"r-1","event":"verify","decision":"deny","code":"ref-mismatch","class":"refused","registry":"acme-pypi","issuer":"github","subject":{"iss":"https://ci.example","aud":"acme","lifetime":300},"package":"widgets","requested":["upload:gadgets"],"single_use":true,"granted":["upload:widgets","create:widgets"],"rules":["widgets-release","widgets-create"],"shadow":["next"],"policy_revision":"9f86d081884c","token_id":"0198","replay":"off","client":"192.0.2.7","claims":{"repository":"acme/widgets","/nested/list":["a",1]},"absent":["environment","ref"],"explanation":{"code":"ref-mismatch"}}"#;
    assert_eq!(written(vec![full_event()]), [expected]);
    let short = r#"{"schema":1,"time":"2025-11-23T00:15:00.042Z","request_id":"r-2","event":"exchange","decision":"allow","code":"ok"}"#;
    assert_eq!(written(vec![event("r-2")]), [short]);
}

#[test]
fn hostile_text_cannot_leave_its_line_or_disguise_it() {
    let hostile = "x\n{\"schema\":1}\r\u{1b}[2J\u{7f}\u{9b}\u{202e}\u{2066}\u{2028}\u{feff}\"\\";
    let mut event = full_event();
    event.request_id = hostile;
    let claim = Json::String(hostile.into());
    event.claims = vec![(hostile, &claim)];
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
    // Half of the first line, then the connection breaks; it is broken for the line feed too; then there is another.
    let broken = Err(io::ErrorKind::ConnectionReset);
    let sink = Scripted { gate, script: vec![Ok(40), broken, broken], taken: taken.clone() };
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
    let sink = Scripted { gate, script: vec![Ok(1), Ok(7), Ok(30)], taken: taken.clone() };
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
    let progress = log.progress();
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
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains("r-1") && text.contains("r-2"));
    let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "{mode:o}");
    assert_eq!(mode & 0o600, 0o600, "{mode:o}");
}

#[test]
fn a_file_that_cannot_be_opened_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing").join("audit.jsonl");
    assert!(AuditLog::start(AuditSink::File(missing), 64).is_err());
}

#[test]
fn a_sink_without_room_holds_events_until_there_is_some_and_none_is_lost() {
    let (open, gate) = mpsc::channel();
    let taken = Shared::default();
    // Half a line, then nothing for a while: the rest of it comes when there is room.
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::WouldBlock].map(Err);
    let script = [&[Ok(40)][..], &full, &full].concat();
    let log =
        AuditLog::start(AuditSink::Writer(Box::new(Scripted { gate, script, taken: taken.clone() })), 10).unwrap();
    drop(open);
    for number in 0..3 {
        log.record(event(&format!("r-{number}")));
    }
    assert!(log.flush(SOON));
    assert_eq!(log.dropped(), 0);
    let lines = taken.lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{lines:?}");
}

#[test]
fn a_place_is_given_back_when_dropped_and_spent_by_recording() {
    let (log, open, taken) = stuck(16);
    let queue = log.queue_reading();
    let waiting = || queue().0;
    assert_eq!(queue().1, 16);
    let mut places: Vec<Place> = std::iter::from_fn(|| log.reserve()).collect();
    assert_eq!(places.len(), 14, "an eighth is for what no place is asked for");
    assert_eq!(waiting(), 14);
    drop(places.pop());
    assert!(log.reserve().is_some(), "that one was given back at once, and so is this");
    for (number, place) in places.drain(..).enumerate() {
        place.record(event(&format!("minted-{number}")));
    }
    assert_eq!(waiting(), 13);
    log.record(event("verified-1"));
    log.record(event("verified-2"));
    assert_eq!(log.dropped(), 0, "what has a place finds room, and so do the last two");
    drop(open);
    assert!(log.flush(SOON));
    assert_eq!(taken.lines().len(), 16);
    assert_eq!(waiting(), 0);
}

#[test]
fn refusals_take_no_place_that_is_kept_and_what_is_minted_leaves_room_for_the_rest() {
    let (log, open, taken) = stuck(64);
    for decision in [AuditDecision::Deny, AuditDecision::Fault] {
        for _ in 0..100 {
            log.record(AuditEvent { decision, ..event("refused") });
        }
    }
    assert_eq!(log.dropped(), 200 - 48);
    let places: Vec<Place> = std::iter::from_fn(|| log.reserve()).collect();
    assert_eq!(places.len(), 8, "from three quarters to seven eighths");
    for place in places {
        place.record(event("minted"));
    }
    for kind in [AuditKind::Verify, AuditKind::Introspect].into_iter().cycle().take(5) {
        log.record(AuditEvent { event: kind, ..event("asked") });
    }
    assert_eq!(log.dropped(), 200 - 48 + 5, "what is asked often takes no place of what is minted");
    for kind in [AuditKind::Revoke, AuditKind::Reload, AuditKind::Stop, AuditKind::Lift, AuditKind::Stop] {
        log.record(AuditEvent { event: kind, ..event("ordered") });
    }
    assert_eq!(log.dropped(), 200 - 48 + 5, "an eighth is for what ends tokens and for operators");
    // What may have been stopped or lifted as well; what holders may have revoked is not the operators'.
    for kind in [AuditKind::Stop, AuditKind::Lift, AuditKind::Revoke] {
        log.record(AuditEvent { decision: AuditDecision::Fault, event: kind, ..event("ordered") });
    }
    assert_eq!(log.dropped_reading()(), [("allow", 5), ("deny", 100 - 48), ("fault", 101)]);
    drop(open);
    assert!(log.flush(SOON));
    let count = |text: &str| taken.lines().iter().filter(|line| line.contains(text)).count();
    assert_eq!(["refused", "minted", "asked", "ordered"].map(count), [48, 8, 0, 7]);
    assert!(log.reserve().is_some());
}

#[test]
fn who_asks_for_room_in_vain_takes_none_meanwhile_from_who_may_have_it() {
    let (log, _open, _taken) = stuck(8);
    let refuse = || log.record(AuditEvent { decision: AuditDecision::Deny, ..event("refused") });
    for _ in 0..100 {
        refuse();
    }
    let done = AtomicBool::new(false);
    let without = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    refuse();
                }
            });
        }
        let mut without = 0;
        while log.dropped() < 500_000 {
            without += usize::from(log.reserve().is_none());
        }
        done.store(true, Ordering::Relaxed);
        without
    });
    assert_eq!(without, 0);
}

#[test]
fn of_refused_exchanges_a_burst_is_recorded_and_then_ten_a_second() {
    let (log, _open, _taken) = stuck(4096);
    let start = event("").time;
    let refuse = |times: u32, seconds: u64| {
        let now = start.plus(Duration::from_secs(seconds));
        let (waiting, suppressed) = (log.queue_reading()().0, log.suppressed_reading()());
        for _ in 0..times {
            log.record_refusal(AuditEvent { decision: AuditDecision::Deny, ..event("refused") }, now);
        }
        (log.queue_reading()().0 - waiting, log.suppressed_reading()() - suppressed)
    };
    assert_eq!(refuse(2500, 0), (2000, 500));
    assert_eq!(refuse(30, 1), (10, 20));
    assert_eq!(refuse(30, 3), (20, 10));
    assert_eq!(log.dropped(), 0, "it is counted apart");
    log.record(event("verified"));
    assert!(log.reserve().is_some(), "and concerns nothing else");
}

#[test]
fn an_exchange_that_may_have_used_its_id_token_up_is_recorded_whoever_was_refused_before() {
    let (log, _open, _taken) = stuck(8192);
    let now = event("").time;
    let refused = || AuditEvent { decision: AuditDecision::Deny, ..event("refused") };
    for _ in 0..3000 {
        log.record_refusal(refused(), now);
    }
    let (waiting, suppressed) = (log.queue_reading()().0, log.suppressed_reading()());
    for _ in 0..2500 {
        let may_be_used = AuditEvent { token_id: Some("an upload token's".to_owned()), ..event("failed") };
        log.record_refusal(AuditEvent { decision: AuditDecision::Fault, ..may_be_used }, now);
    }
    assert_eq!((log.queue_reading()().0 - waiting, log.suppressed_reading()() - suppressed), (2000, 500));
    // A holder's revocation that the store did not answer takes no grant.
    let revocation = AuditEvent { event: AuditKind::Revoke, token_id: Some("a token's".to_owned()), ..refused() };
    log.record_refusal(revocation, now);
    assert_eq!(log.suppressed_reading()() - suppressed, 501);
}

#[test]
fn while_a_sink_loses_what_it_is_given_there_is_no_place_and_one_event_that_it_takes_ends_that() {
    let (open, gate) = mpsc::channel();
    let taken = Shared::default();
    let broken = Err(io::ErrorKind::ReadOnlyFilesystem);
    let sink = Scripted { gate, script: vec![broken, broken], taken: taken.clone() };
    let log = AuditLog::start(AuditSink::Writer(Box::new(sink)), 64).unwrap();
    drop(open);
    let refused = || AuditEvent { decision: AuditDecision::Fault, ..event("refused") };
    log.reserve().unwrap().record(event("minted-1"));
    assert!(log.flush(SOON));
    assert!(log.reserve().is_none());
    log.record(refused());
    assert!(log.flush(SOON));
    assert!(log.reserve().is_none());
    assert_eq!(log.dropped_reading()(), [("allow", 1), ("deny", 0), ("fault", 1)]);
    log.record(refused());
    assert!(log.flush(SOON));
    log.reserve().unwrap().record(event("minted-2"));
    assert!(log.flush(SOON));
    assert_eq!((log.dropped(), taken.lines().len()), (2, 2));
}

#[test]
fn what_a_sink_cannot_flush_is_lost_as_well() {
    struct Unflushed;
    impl Write for Unflushed {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let log = AuditLog::start(AuditSink::Writer(Box::new(Unflushed)), 64).unwrap();
    log.record(event("r-1"));
    assert!(log.flush(SOON));
    assert_eq!(log.dropped(), 1);
    assert!(log.reserve().is_none());
}

#[test]
fn the_smallest_log_has_a_place() {
    for capacity in 1..8 {
        assert!(stuck(capacity).0.reserve().is_some(), "{capacity}");
    }
}

#[test]
fn nobody_gets_a_place_when_nobody_writes() {
    struct Panics;
    impl Write for Panics {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("a defect of a sink");
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let log = AuditLog::start(AuditSink::Writer(Box::new(Panics)), 16).unwrap();
    let place = log.reserve().unwrap();
    log.record(event("r-1"));
    assert!(log.flush(SOON));
    assert_eq!(log.dropped(), 1, "what the writer had is lost with it");
    assert!(log.reserve().is_none());
    place.record(event("r-2"));
    assert!(log.flush(SOON));
    assert_eq!(log.dropped(), 2, "and what has a place");
    log.record(event("r-3"));
    assert_eq!(log.dropped(), 3);
}

/// The request ids of every whole line in a folder's files, each with how often it was read.
fn recorded(folder: &Path) -> BTreeMap<String, usize> {
    let mut recorded = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            *recorded.entry(event["request_id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    recorded
}

#[test]
fn a_file_that_is_renamed_again_and_again_loses_no_event_and_has_none_twice() {
    const EVENTS: usize = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = AuditLog::start(AuditSink::File(path.clone()), EVENTS * 2).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let rotation = {
        let (path, done) = (path.clone(), Arc::clone(&done));
        thread::spawn(move || {
            let mut rotations = 0_usize;
            while !done.load(Ordering::Relaxed) {
                // What logrotate does, as often as there is something to rename.
                rotations += usize::from(fs::rename(&path, path.with_extension(rotations.to_string())).is_ok());
                thread::yield_now();
            }
            rotations
        })
    };
    for number in 0..EVENTS {
        log.record(event(&format!("r-{number}")));
        if number % 500 == 0 {
            assert!(log.flush(SOON));
        }
    }
    assert!(log.flush(SOON));
    done.store(true, Ordering::Relaxed);
    let rotations = rotation.join().unwrap();
    assert!(rotations >= 10, "only {rotations} rotations");
    assert_eq!((log.dropped(), log.lost_files_reading()()), (0, 0));
    let recorded = recorded(directory.path());
    assert_eq!(recorded.len(), EVENTS);
    assert!(recorded.values().all(|times| *times == 1));
}

#[test]
fn a_file_that_is_removed_emptied_or_replaced_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let log = AuditLog::start(AuditSink::File(path.clone()), 64).unwrap();
    let write = |request_id: &str| {
        log.record(event(request_id));
        assert!(log.flush(SOON));
        fs::read_to_string(&path).unwrap()
    };
    write("r-1");
    fs::remove_file(&path).unwrap();
    let text = write("r-2");
    assert!(text.contains("r-2") && !text.contains("r-1"));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0, "as private as the first");
    // As logrotate's `copytruncate` does it.
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    let text = write("r-3");
    assert!(text.starts_with("{\"schema\":1") && text.contains("r-3"), "{text:?}");
    // And its `create`.
    fs::rename(&path, directory.path().join("audit.jsonl.1")).unwrap();
    fs::write(&path, "").unwrap();
    assert!(write("r-4").contains("r-4"));
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_file_that_cannot_be_opened_anew_is_said_once_and_the_one_that_was_held_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (folder, away) = (directory.path().join("log"), directory.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let log = AuditLog::start(AuditSink::File(folder.join("audit.jsonl")), 64).unwrap();
    let lost = log.lost_files_reading();
    let write = |request_id: &str| {
        log.record(event(request_id));
        assert!(log.flush(SOON));
    };
    write("r-1");
    fs::rename(&folder, &away).unwrap();
    for request_id in ["r-2", "r-3", "r-4"] {
        write(request_id);
        assert_eq!(lost(), 1);
    }
    assert_eq!(recorded(&away).len(), 4);
    fs::create_dir(&folder).unwrap();
    write("r-5");
    assert_eq!(recorded(&folder).into_keys().collect::<Vec<_>>(), ["r-5"]);
    fs::remove_dir_all(&folder).unwrap();
    write("r-6");
    assert_eq!((lost(), log.dropped()), (2, 0), "another time is said again");
}

#[test]
fn a_file_that_is_cut_short_is_begun_anew_also_in_the_middle_of_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    let mut sink = Sink::open(AuditSink::File(path.clone())).unwrap();
    let cut = |length| fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
    sink.write_all(b"{\"half").unwrap();
    assert!(matches!(sink.follow(), Look::Same));
    cut(0);
    assert!(matches!(sink.follow(), Look::Another));
    assert!(!sink.is_torn());
    sink.write_all(b"{}\n").unwrap();
    assert!(matches!(sink.follow(), Look::Same));
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    cut(1);
    assert!(matches!(sink.follow(), Look::Another));
    assert!(sink.is_torn(), "half a line is left");
}

#[test]
fn a_pipe_that_nobody_reads_yet_does_not_hold_up_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let log = AuditLog::start(AuditSink::File(path.clone()), 64).unwrap();
    for request_id in ["r-1", "r-2"] {
        log.record(event(request_id));
        assert!(log.flush(SOON));
    }
    let mut lines = BufReader::new(fs::File::open(&path).unwrap()).lines();
    for request_id in ["r-1", "r-2"] {
        assert!(lines.next().unwrap().unwrap().contains(request_id));
    }
    assert_eq!((log.dropped(), log.lost_files_reading()()), (0, 0));
}

#[test]
fn half_a_line_that_a_killed_process_left_does_not_swallow_the_next_event() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.jsonl");
    for (before, lines) in [("", 1), ("{\"schema\":1,\"ti", 2), ("{}\n", 2)] {
        fs::write(&path, before).unwrap();
        let log = AuditLog::start(AuditSink::File(path.clone()), 64).unwrap();
        log.record(event("r-1"));
        assert!(log.flush(SOON));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), lines, "{text:?}");
        assert!(matches!(Line::parse(text.lines().last().unwrap().as_bytes()), Line::Event(_)), "{text:?}");
    }
}

#[test]
fn a_recorded_event_is_read_again() {
    let Line::Event(record) = Line::parse(written(vec![full_event()])[0].as_bytes()) else { panic!() };
    assert_eq!(record.at(), Some(full_event().time));
    assert_eq!(
        (record.event.as_str(), record.decision.as_str(), record.code.as_str()),
        ("verify", "deny", "ref-mismatch")
    );
    assert_eq!((record.requested.as_slice(), record.rules.as_slice()), (full_event().requested, full_event().rules));
    assert_eq!((record.registry.as_deref(), record.token_id), (full_event().registry, full_event().token_id));
    assert_eq!(Some(record.explanation), full_event().explanation);
}
