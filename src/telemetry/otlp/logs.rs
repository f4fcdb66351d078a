//! The service's log as records, beside its lines on standard error.

use std::cell::Cell;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use tracing::Event;
use tracing::Level;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::Outbox;
use crate::escape::escape;
use crate::telemetry::trace;
use crate::time::Clock;
use crate::time::Timestamp;

/// Most bytes of a line that are kept, all its texts together.
const MOST_TEXT: usize = 2048;

thread_local! {
    /// Whether this thread sends telemetry: its own lines are not sent, or they would never end.
    static SENDS: Cell<bool> = const { Cell::new(false) };
}

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::telemetry) struct Record {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) fields: Vec<(&'static str, String)>,
    /// The trace and the span of the request that it is about.
    pub(super) of: Option<(u128, u64)>,
}

/// Takes the log's lines into an outbox.
pub struct Records {
    clock: Arc<dyn Clock>,
    outbox: Outbox<Record>,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(clock: Arc<dyn Clock>, outbox: Outbox<Record>) -> Self {
        Self { clock, outbox }
    }
}

/// From now on, what this thread logs is not sent.
pub(super) fn this_thread_sends() {
    SENDS.set(true);
}

impl<S: Subscriber> Layer<S> for Records {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if SENDS.get() {
            return;
        }
        let metadata = event.metadata();
        let mut texts =
            Texts { room: MOST_TEXT, message: String::new(), fields: vec![("target", metadata.target().to_owned())] };
        event.record(&mut texts);
        self.outbox.put(Record {
            at: self.clock.now(),
            level: *metadata.level(),
            message: texts.message,
            fields: texts.fields,
            of: trace::current(),
        });
    }
}

struct Texts {
    room: usize,
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Texts {
    /// SECURITY: escaped as lines are, since other programs show it.
    fn take(&mut self, name: &'static str, text: &str) {
        let mut text = escape(text).into_owned();
        let end = (0..=text.len().min(self.room)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        self.room = self.room.saturating_sub(text.len());
        if name == "message" {
            self.message = text;
        } else {
            self.fields.push((name, text));
        }
    }
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        let _infallible = write!(text, "{value:?}");
        self.take(field.name(), &text);
    }
}

#[cfg(test)]
mod tests;
