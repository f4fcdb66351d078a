//! The audit log: one event for each outcome, a JSON object a line, version 1.
//!
//! Recording never waits: an event goes through a bounded queue to a thread of its own, which serialises and writes.
//! When the queue is full, or the sink fails, events are lost and counted ([`AuditLog::dropped`]); a part of the queue
//! is for events of what was allowed. This module decides how an event is spelled and kept; what goes into one is the
//! use-cases' choice, and never a token, key or secret.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::Serializer;
use serde_json::Value;

use crate::escape::EscapedJson;
use crate::json::Json;
use crate::time::Timestamp;

/// A queue that holds a burst of a tenth of a second at the service's peak.
pub const DEFAULT_CAPACITY: usize = 4096;

/// The version of the event's members and their meaning. A new member keeps the version; a changed meaning raises it.
const SCHEMA: u8 = 1;
/// How much is written at a time.
const BATCH: usize = 64 * 1024;
/// How long the writer lets events gather once the queue is empty: under load, nobody pays for waking it.
const LINGER: Duration = Duration::from_millis(5);
/// How long the writer waits before it tries a sink again that cannot take more now.
const RETRY: Duration = Duration::from_millis(5);

/// One outcome. Members that do not apply are left out of the line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditEvent {
    schema: u8,
    /// When the request was decided; RFC 3339, UTC, with milliseconds.
    #[serde(serialize_with = "moment")]
    pub time: Timestamp,
    /// The request that led to it, the same id as in the response.
    pub request_id: String,
    /// What was asked for.
    pub event: AuditKind,
    /// How it ended.
    pub decision: AuditDecision,
    /// The outcome's stable code, the same as in the response and the metric label.
    pub code: &'static str,
    /// Who must act on it: `request`, `refused`, `unavailable` or `fault`; none for what was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// The registry's id in the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The issuer's id in the policy: a configured one, never a token's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the ID token says of itself, once its signature was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<AuditSubject>,
    /// The one package that the exchange's dialect names, if it names one: the grant reaches no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// What was asked, as `action:package`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<String>,
    /// Whether the client asked for a token that is good for one upload.
    #[serde(skip_serializing_if = "is_false")]
    pub single_use: bool,
    /// What was granted, as `action:pattern`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
    /// The rules that granted it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The rules in shadow mode that would have granted something that was not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<String>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_revision: Option<String>,
    /// The upload token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// What an exchange was if it was no first use of its ID token: `repeated`, the same upload token sent once more, or
    /// `off`, where the policy demands no first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<&'static str>,
    /// The client's address, behind trusted proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The job's public claims that the policy reads; names are distinct.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "members")]
    pub claims: Vec<(Cow<'static, str>, Json)>,
    /// Those of the public claims that the ID token does not have. A claim in neither list is not known to this record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<&'static str>,
    /// Why, in full: the explanation of a denial, the cause of a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Value>,
}

/// The standard claims of an ID token that decide beside a job's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditSubject {
    /// Its issuer's URL: of a family the member's.
    pub iss: String,
    /// Its audience.
    pub aud: String,
    /// `exp − iat`, in seconds.
    pub lifetime: u64,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// A CI token for an upload token.
    Exchange,
    /// Whether an upload token allows something.
    Verify,
    /// What an upload token is good for.
    Introspect,
    /// The end of an upload token, or of a rule's.
    Revoke,
    /// Another policy, in place of the one in force.
    Reload,
    /// A stop by the operators.
    Stop,
    /// The end of a stop before its time.
    Lift,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditDecision {
    /// As asked.
    Allow,
    /// Refused: the service worked, the answer is no.
    Deny,
    /// Not decided: the service, or something it needs, failed.
    Fault,
}

impl AuditEvent {
    /// An event with the members that every event has.
    pub const fn new(
        time: Timestamp,
        request_id: String,
        event: AuditKind,
        decision: AuditDecision,
        code: &'static str,
    ) -> Self {
        Self {
            schema: SCHEMA,
            time,
            request_id,
            event,
            decision,
            code,
            class: None,
            registry: None,
            issuer: None,
            subject: None,
            package: None,
            requested: Vec::new(),
            single_use: false,
            granted: Vec::new(),
            rules: Vec::new(),
            shadow: Vec::new(),
            policy_revision: None,
            token_id: None,
            replay: None,
            client: None,
            claims: Vec::new(),
            absent: Vec::new(),
            explanation: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn moment<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    let seconds = time.to_string();
    let millis = time.unix_millis().rem_euclid(1000);
    serializer.collect_str(&format_args!("{}.{millis:03}Z", seconds.strip_suffix('Z').unwrap_or(&seconds)))
}

fn members<S: Serializer>(claims: &[(Cow<'static, str>, Json)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(claims.iter().map(|(name, value)| (name, value)))
}

/// Where events are written.
pub enum AuditSink {
    /// Standard output.
    Stdout,
    /// The end of a file, which is made, readable by its owner and group alone, if it is not there.
    File(PathBuf),
    /// Anything else that takes bytes.
    Writer(Box<dyn Write + Send>),
}

impl fmt::Debug for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("Stdout"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Writer(_) => f.write_str("Writer"),
        }
    }
}

/// The running log. Dropping it lets the writer finish what was recorded; [`AuditLog::flush`] waits for that.
#[derive(Debug)]
pub struct AuditLog {
    queue: mpsc::SyncSender<Box<AuditEvent>>,
    capacity: usize,
    recorded: AtomicU64,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    dropped: AtomicU64,
    /// How many events are in the queue, or about to be.
    waiting: AtomicUsize,
    /// How many recorded events were written, or lost by the sink.
    settled: Mutex<u64>,
    changed: Condvar,
}

impl AuditLog {
    /// Opens the sink and starts the writer; at most `capacity` events wait for it.
    pub fn start(sink: AuditSink, capacity: usize) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match sink {
            AuditSink::Stdout => Box::new(io::stdout()),
            AuditSink::File(path) => Box::new(open(&path)?),
            AuditSink::Writer(writer) => writer,
        };
        let (queue, events) = mpsc::sync_channel(capacity);
        let progress = Arc::new(Progress::default());
        let writer = Writer { sink, events, progress: Arc::clone(&progress), batch: Vec::new(), torn: false };
        thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run())?;
        Ok(Self { queue, capacity, recorded: AtomicU64::new(0), progress })
    }

    /// Hands the event over, or counts it as dropped. Never waits.
    ///
    /// SECURITY: a quarter of the queue is kept for what was allowed. Anyone with a job at a shared provider can be
    /// refused as often as they like, and must not be able to push the record of a publication out of the log.
    pub fn record(&self, event: AuditEvent) {
        let reserved = if event.decision == AuditDecision::Allow { 0 } else { self.capacity / 4 };
        let waiting = self.progress.waiting.fetch_add(1, Ordering::Relaxed);
        if waiting.saturating_add(reserved) < self.capacity && self.queue.try_send(Box::new(event)).is_ok() {
            self.recorded.fetch_add(1, Ordering::Relaxed);
        } else {
            self.progress.waiting.fetch_sub(1, Ordering::Relaxed);
            self.progress.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were lost.
    pub fn dropped(&self) -> u64 {
        self.progress.dropped.load(Ordering::Relaxed)
    }

    /// A reading of [`AuditLog::dropped`] for metrics, which may outlive the log.
    pub fn dropped_reading(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let progress = Arc::clone(&self.progress);
        move || progress.dropped.load(Ordering::Relaxed)
    }

    /// A reading of how many events wait, and how many may, for metrics, which may outlive the log.
    pub fn queue_reading(&self) -> impl Fn() -> (usize, usize) + Send + Sync + 'static {
        let (progress, capacity) = (Arc::clone(&self.progress), self.capacity);
        move || (progress.waiting.load(Ordering::Relaxed), capacity)
    }

    /// Waits until all that was recorded before is written or lost, but no longer than `within`; whether it is. For
    /// shutdown, not for the path of a request.
    pub fn flush(&self, within: Duration) -> bool {
        let recorded = self.recorded.load(Ordering::Relaxed);
        let settled = self.progress.settled.lock().unwrap_or_else(PoisonError::into_inner);
        self.progress
            .changed
            .wait_timeout_while(settled, within, |settled| *settled < recorded)
            .is_ok_and(|(settled, _)| *settled >= recorded)
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// The thread that writes.
struct Writer {
    sink: Box<dyn Write + Send>,
    events: mpsc::Receiver<Box<AuditEvent>>,
    progress: Arc<Progress>,
    batch: Vec<u8>,
    /// Whether the sink took part of a line and then failed.
    torn: bool,
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.events.recv() {
            let mut taken = 1;
            self.append(&first);
            let drained = loop {
                if self.batch.len() >= BATCH {
                    break false;
                }
                match self.events.try_recv() {
                    Ok(event) => self.append(&event),
                    Err(_) => break true,
                }
                taken += 1;
            };
            self.write();
            let mut settled = self.progress.settled.lock().unwrap_or_else(PoisonError::into_inner);
            *settled = settled.saturating_add(taken);
            drop(settled);
            self.progress.changed.notify_all();
            if drained {
                thread::sleep(LINGER);
            }
        }
    }

    fn append(&mut self, event: &AuditEvent) {
        self.progress.waiting.fetch_sub(1, Ordering::Relaxed);
        let start = self.batch.len();
        let mut serializer = serde_json::Serializer::with_formatter(&mut self.batch, EscapedJson);
        if event.serialize(&mut serializer).is_ok() {
            self.batch.push(b'\n');
        } else {
            self.batch.truncate(start);
            self.progress.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes the batch. What the sink does not take is lost, and counted: holding it would grow without end.
    fn write(&mut self) {
        let mut rest = self.batch.as_slice();
        while !rest.is_empty() {
            // After half a line, the next one starts on a line of its own.
            let bytes = if self.torn { b"\n" } else { rest };
            match self.sink.write(bytes) {
                Ok(0) => break,
                Ok(_) if self.torn => self.torn = false,
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => break,
            }
        }
        let flushed = self.sink.flush().is_ok();
        let lost = if flushed { rest } else { self.batch.as_slice() };
        let lines = lost.split(|byte| *byte == b'\n').count().saturating_sub(1);
        self.progress.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
        let written = self.batch.len().saturating_sub(rest.len());
        self.torn |= written > 0 && self.batch.get(written.saturating_sub(1)) != Some(&b'\n');
        self.batch.clear();
        self.batch.shrink_to(BATCH.saturating_mul(2));
    }
}

#[cfg(test)]
mod tests;
