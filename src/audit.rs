//! The audit log: one event for each outcome, a JSON object a line, version 1.
//!
//! Recording never waits: an event goes, as its line, through a bounded queue to a thread of its own, which writes.
//! When the queue is full, or the sink fails, events are lost and counted ([`AuditLog::dropped`]). What would mint an upload
//! token has a [`Place`] in the queue first, and there is none while the sink fails: so a token is without its record only
//! if the sink, or the process, ends between the two. This module decides how an event is spelled, kept and read again;
//! what goes into one is the use-cases' choice, and never a token, key or secret.

pub mod destination;
mod event;
mod lines;
mod log;
mod record;
mod sink;
mod writer;

pub use self::event::AuditDecision;
pub use self::event::AuditEvent;
pub use self::event::AuditKind;
pub use self::event::AuditSubject;
pub use self::lines::LineRead;
pub use self::lines::Lines;
pub use self::log::AuditLog;
pub use self::log::Place;
pub use self::record::Line;
pub use self::record::Record;
pub use self::record::Subject;
pub use self::sink::AuditSink;
pub use self::writer::NoThread;

#[cfg(test)]
mod tests;
