//! The thread that takes events from the queue and writes them, in batches of whole lines.

use std::io;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::event::AuditEvent;
use super::log::Progress;
use super::sink::Look;
use super::sink::Sink;
use crate::escape::EscapedJson;

/// How much is written at a time.
const BATCH: usize = 64 * 1024;
/// How long the writer lets events gather once the queue is empty: under load, nobody pays for waking it.
const LINGER: Duration = Duration::from_millis(5);
/// How long the writer waits before it tries a sink again that cannot take more now.
const RETRY: Duration = Duration::from_millis(5);

/// Starts the thread; it ends when nobody can record any more and all is written.
pub(super) fn start(sink: Sink, events: mpsc::Receiver<Box<AuditEvent>>, progress: Arc<Progress>) -> io::Result<()> {
    let torn = sink.is_torn();
    let writer = Writer { sink, events, progress, batch: Vec::new(), torn, full: false };
    thread::Builder::new().name("audit".to_owned()).spawn(|| writer.run())?;
    Ok(())
}

struct Writer {
    sink: Sink,
    events: mpsc::Receiver<Box<AuditEvent>>,
    progress: Arc<Progress>,
    batch: Vec<u8>,
    /// Whether the sink took part of a line and then failed.
    torn: bool,
    /// Whether the sink had no room when it was last asked.
    full: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.progress.end();
    }
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
            self.progress.settle(taken);
            if drained {
                thread::sleep(LINGER);
            }
        }
    }

    fn append(&mut self, event: &AuditEvent) {
        self.progress.taken();
        let start = self.batch.len();
        let mut serializer = serde_json::Serializer::with_formatter(&mut self.batch, EscapedJson);
        if event.serialize(&mut serializer).is_ok() {
            self.batch.push(b'\n');
        } else {
            self.batch.truncate(start);
            self.progress.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes the batch. While the sink has no room it is held, so that the queue fills and exchanges wait: what was
    /// minted must not be forgotten because somebody has filled a disk. What the sink refuses for another reason is lost,
    /// and counted.
    fn write(&mut self) {
        self.follow();
        let mut written = 0;
        while let Some(rest) = self.batch.get(written..).filter(|rest| !rest.is_empty()) {
            // After half a line, the next one starts on a line of its own.
            let bytes = if self.torn { b"\n" } else { rest };
            match self.sink.write(bytes) {
                Ok(0) => break,
                Ok(_) if self.torn => self.torn = false,
                Ok(count) => written = written.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_for_now(error.kind()) => {
                    self.tell_full(&error);
                    thread::sleep(RETRY);
                    // Whoever makes room may do it by taking the file away: the line begins anew in the next one.
                    if self.follow() {
                        written = start_of_line(&self.batch, written);
                    }
                }
                Err(_) => break,
            }
        }
        let flushed = self.sink.flush().is_ok();
        self.full = false;
        let lost = if flushed { self.batch.get(written..).unwrap_or_default() } else { self.batch.as_slice() };
        let lines = lost.split(|byte| *byte == b'\n').count().saturating_sub(1);
        self.progress.dropped.fetch_add(u64::try_from(lines).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.torn |= start_of_line(&self.batch, written) < written;
        self.batch.clear();
        self.batch.shrink_to(BATCH.saturating_mul(2));
    }

    /// Whether the sink's file is another one than before.
    fn follow(&mut self) -> bool {
        match self.sink.follow() {
            Look::Same => false,
            Look::Another => {
                self.torn = self.sink.is_torn();
                true
            }
            Look::Astray(error) => {
                self.progress.lost_files.fetch_add(1, Ordering::Relaxed);
                let path = self.sink.path().map(|path| path.display().to_string()).unwrap_or_default();
                tracing::error!(
                    path,
                    %error,
                    "the audit log's file was renamed or removed and cannot be opened anew; events go on into the one that \
                     was held"
                );
                false
            }
        }
    }

    fn tell_full(&mut self, error: &io::Error) {
        if !self.full && error.kind() != io::ErrorKind::WouldBlock {
            self.full = true;
            tracing::error!(%error, "there is no room for the audit log; events wait, and exchanges once many do");
        }
    }
}

/// Whether a sink that says so may take the rest later.
fn is_for_now(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::WouldBlock | io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Where the line begins that `written` bytes of the batch end in: `written` itself if it ends with a whole one.
fn start_of_line(batch: &[u8], written: usize) -> usize {
    let before = batch.get(..written).unwrap_or_default();
    before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1))
}
