//! Traces: what a request was busy with, and for how long.
//!
//! A request that is sampled has one span, and below it one for each step that is marked with [`step`] or [`during`]. They
//! are handed over together, when the last that works for the request is done: a step that runs to its end although the
//! client has gone is in it. A request's trace has the request's id as its own, so who knows the one knows the other.
//!
//! INVARIANT: names and values are words of this program, or from the configuration; nothing of a token, a path or a
//! header. Of a caller's trace context only the two ids are taken, and only for a link: whose trace goes on, and whether
//! anything is sampled, is decided here.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use std::time::Duration;

use crate::secret::random_bytes;
use crate::telemetry::Stopwatch;
use crate::telemetry::otlp::Outbox;
use crate::time::Clock;
use crate::time::Timestamp;

/// Most steps of one request that are kept: an exchange has less than ten.
const MOST_STEPS: usize = 64;
/// What of a trace's id decides whether it is sampled: the last 7 bytes, which W3C Trace Context level 2 calls random.
const RANDOM: u128 = (1 << 56) - 1;

tokio::task_local! {
    /// What the running task works for.
    static CURRENT: Option<Arc<Work>>;
}

/// Whose spans are recorded, and where they go.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Recording>>);

struct Recording {
    one_in: u32,
    clock: Arc<dyn Clock>,
    outbox: Outbox<Vec<Span>>,
}

impl fmt::Debug for Recording {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recording").field("one_in", &self.one_in).finish_non_exhaustive()
    }
}

/// A span as it is handed over.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub(super) trace: u128,
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) kind: SpanKind,
    pub(super) name: String,
    /// When it began.
    pub(super) began: Timestamp,
    /// How much later than that it really began, and how long it took.
    pub(super) after: Duration,
    pub(super) took: Duration,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) link: Option<Link>,
    pub(super) failed: bool,
}

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpanKind {
    /// A request that was answered.
    Server,
    /// A step of it.
    Step,
    /// A request that was made.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
}

/// Another trace that a request says it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub(super) trace: u128,
    pub(super) span: u64,
}

impl Link {
    /// Reads a `traceparent` header of version 00 (W3C Trace Context section 3.2.2); what is not one is none.
    pub fn parse(header: &str) -> Option<Self> {
        let rest = header.strip_prefix("00-")?;
        let (trace, rest) = rest.split_once('-')?;
        let (span, flags) = rest.split_once('-')?;
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(trace, 32) || !is_hex(span, 16) || !is_hex(flags, 2) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?;
        Some(Self { trace, span })
    }
}

/// What a request came to, in the words of the route table and the failure table.
#[derive(Debug, Clone, Copy)]
pub struct Answered {
    /// The method, if it is one that is known.
    pub method: Option<&'static str>,
    /// The path as the route table spells it, if it is one.
    pub route: Option<&'static str>,
    /// The answer's status.
    pub status: u16,
    /// The failure's code, if it failed.
    pub code: Option<&'static str>,
}

/// A request that is being traced, shared by all that work for it.
#[derive(Debug)]
struct Work {
    recording: Arc<Recording>,
    trace: u128,
    /// The request's own span; those of its steps count on from it.
    root: u64,
    began: Timestamp,
    clock: Stopwatch,
    link: Option<Link>,
    steps: Mutex<Vec<Step>>,
    answered: OnceLock<(Answered, Duration)>,
}

#[derive(Debug)]
struct Step {
    name: &'static str,
    after: Duration,
    took: Duration,
}

/// A request that may be traced.
#[derive(Debug, Clone, Default)]
pub struct Traced(Option<Arc<Work>>);

impl Tracer {
    /// Records one request in `one_in` (at least 1), and hands it to the outbox.
    pub(super) fn new(one_in: u32, clock: Arc<dyn Clock>, outbox: Outbox<Vec<Span>>) -> Self {
        Self(Some(Arc::new(Recording { one_in: one_in.max(1), clock, outbox })))
    }

    /// Begins the trace of a request with this id, of a `UUIDv7`'s form, if it is among those that are sampled. `link` is asked
    /// only then.
    pub fn request(&self, id: u128, began: Timestamp, link: impl FnOnce() -> Option<Link>) -> Traced {
        let recording = self.0.as_ref().filter(|recording| recording.samples(id));
        Traced(recording.and_then(|recording| {
            Some(Arc::new(Work {
                recording: Arc::clone(recording),
                trace: id,
                root: span_id()?,
                began,
                clock: Stopwatch::start(),
                link: link(),
                steps: Mutex::default(),
                answered: OnceLock::new(),
            }))
        }))
    }

    /// Begins a request of our own, in a trace of its own: what is fetched is shared by all who wait for it.
    pub fn outbound(&self) -> Outbound {
        Outbound(self.0.as_ref().and_then(|recording| {
            let trace = random_bytes::<16>().map(u128::from_be_bytes).filter(|id| *id != 0)?;
            let (span, began) = (span_id()?, recording.clock.now());
            Some(Sent { recording: Arc::clone(recording), trace, span, began, clock: Stopwatch::start() })
        }))
    }
}

impl Recording {
    fn samples(&self, trace: u128) -> bool {
        // Whether it is among the first of `one_in` equal parts.
        (trace & RANDOM).saturating_mul(u128::from(self.one_in)) <= RANDOM
    }
}

/// A new span's id, with room to count on from it.
fn span_id() -> Option<u64> {
    random_bytes::<8>().map(|bytes| u64::from_be_bytes(bytes) | 1 << 8)
}

impl Traced {
    /// The future as part of this request: what it marks as steps belongs to it.
    pub fn around<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.0.clone(), future)
    }

    /// Says what the request came to, and that it was answered now.
    pub fn answered(&self, answered: Answered) {
        if let Some(work) = &self.0 {
            let _first = work.answered.set((answered, work.clock.elapsed()));
        }
    }
}

/// The trace and the span that the running task works for, for its lines in the log.
pub(super) fn current() -> Option<(u128, u64)> {
    CURRENT.try_with(|current| current.as_ref().map(|work| (work.trace, work.root))).ok().flatten()
}

/// A step of the running task's request.
pub fn step<T>(name: &'static str, run: impl FnOnce() -> T) -> T {
    let Some(work) = of_this_task() else { return run() };
    let after = work.clock.elapsed();
    let result = run();
    work.note(name, after);
    result
}

/// A step that waits.
pub async fn during<F: Future>(name: &'static str, future: F) -> F::Output {
    let Some(work) = of_this_task() else { return future.await };
    let after = work.clock.elapsed();
    let result = future.await;
    work.note(name, after);
    result
}

/// The future for a task of its own, still as part of the running task's request.
pub fn carried<F: Future>(future: F) -> impl Future<Output = F::Output> + use<F> {
    CURRENT.scope(of_this_task(), future)
}

fn of_this_task() -> Option<Arc<Work>> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

impl Work {
    fn note(&self, name: &'static str, after: Duration) {
        let took = self.clock.elapsed().saturating_sub(after);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.len() < MOST_STEPS {
            steps.push(Step { name, after, took });
        }
    }
}

/// The last that worked for the request is done.
impl Drop for Work {
    fn drop(&mut self) {
        let steps = std::mem::take(self.steps.get_mut().unwrap_or_else(PoisonError::into_inner));
        let mut spans = Vec::with_capacity(steps.len().saturating_add(1));
        let (answered, took) =
            self.answered.take().map_or_else(|| (None, self.clock.elapsed()), |(it, took)| (Some(it), took));
        spans.push(Span {
            trace: self.trace,
            id: self.root,
            parent: None,
            kind: SpanKind::Server,
            name: name(answered),
            began: self.began,
            after: Duration::ZERO,
            took,
            attributes: attributes(answered),
            link: self.link,
            failed: answered.is_none_or(|answered| answered.status >= 500),
        });
        let mut id = self.root;
        for step in steps {
            id = id.wrapping_add(1);
            spans.push(Span {
                trace: self.trace,
                id,
                parent: Some(self.root),
                kind: SpanKind::Step,
                name: step.name.to_owned(),
                began: self.began,
                after: step.after,
                took: step.took,
                attributes: Vec::new(),
                link: None,
                failed: false,
            });
        }
        self.recording.outbox.put(spans);
    }
}

/// As OpenTelemetry's conventions for HTTP name a server's span: the method and the route.
fn name(answered: Option<Answered>) -> String {
    let method = answered.and_then(|answered| answered.method).unwrap_or("HTTP");
    match answered.and_then(|answered| answered.route) {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

fn attributes(answered: Option<Answered>) -> Vec<(&'static str, Value)> {
    // The client went away first, and took its answer's status with it.
    let Some(Answered { method, route, status, code }) = answered else { return Vec::new() };
    let text = |text: &str| Value::Text(text.to_owned());
    let mut attributes = vec![("http.request.method", text(method.unwrap_or("_OTHER")))];
    attributes.extend(route.map(|route| ("http.route", text(route))));
    attributes.push(("http.response.status_code", Value::Number(status.into())));
    if let Some(code) = code {
        attributes.push(("trustmint.code", text(code)));
        if status >= 500 {
            attributes.push(("error.type", text(code)));
        }
    }
    attributes
}

/// A request of our own that may be traced.
#[derive(Debug)]
pub struct Outbound(Option<Sent>);

#[derive(Debug)]
struct Sent {
    recording: Arc<Recording>,
    trace: u128,
    span: u64,
    began: Timestamp,
    clock: Stopwatch,
}

impl Outbound {
    /// The `traceparent` header to send with it, where traces are on.
    pub fn traceparent(&self) -> Option<String> {
        self.0.as_ref().map(|sent| {
            let sampled = u8::from(sent.recording.samples(sent.trace));
            let mut header = String::with_capacity(55);
            let _infallible = write!(header, "00-{:032x}-{:016x}-{sampled:02x}", sent.trace, sent.span);
            header
        })
    }

    /// It has ended: at this host of the configuration, with this status if there was an answer.
    pub fn ended(self, host: &str, status: Option<u16>, failed: bool) {
        let Some(sent) = self.0.filter(|sent| sent.recording.samples(sent.trace)) else { return };
        let mut attributes = vec![
            ("http.request.method", Value::Text("GET".to_owned())),
            ("server.address", Value::Text(host.to_owned())),
        ];
        attributes.extend(status.map(|status| ("http.response.status_code", Value::Number(status.into()))));
        let span = Span {
            trace: sent.trace,
            id: sent.span,
            parent: None,
            kind: SpanKind::Client,
            name: "GET".to_owned(),
            began: sent.began,
            after: Duration::ZERO,
            took: sent.clock.elapsed(),
            attributes,
            link: None,
            failed,
        };
        sent.recording.outbox.put(vec![span]);
    }
}

#[cfg(test)]
mod tests;
