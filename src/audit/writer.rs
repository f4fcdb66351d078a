//! The thread that takes events from the queue and writes them, in batches of whole lines.

use std::io;
use std::io::Write;
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::event::AuditDecision;
use super::event::Spelled;
use super::log::Progress;
use super::sink::Look;
use super::sink::Sink;

/// How much is written at a time.
const BATCH: usize = 64 * 1024;
/// How long the writer lets events gather once the queue is empty: under load, nobody pays for waking it.
const LINGER: Duration = Duration::from_millis(5);
/// How long the writer waits before it tries a sink again that cannot take more now.
const RETRY: Duration = Duration::from_millis(5);

/// There is no thread to be had for the log, whatever its sink is.
#[derive(Debug, thiserror::Error)]
#[error("the thread that writes the audit log cannot be started: {0}")]
pub struct NoThread(io::Error);

impl NoThread {
    /// What to do about it.
    pub const REMEDY: &str =
        "let the service have more threads (`ulimit -u`, the container's limit of processes), or more memory";
}

impl From<NoThread> for io::Error {
    fn from(error: NoThread) -> Self {
        Self::other(error)
    }
}

/// Starts the thread; it ends when nobody can record any more and all is written.
pub(super) fn start(sink: Sink, events: mpsc::Receiver<Spelled>, progress: Arc<Progress>) -> Result<(), NoThread> {
    let torn = sink.is_torn();
    // The writer is made by its thread. One that is dropped waits until nobody can hand anything over, which is never where no
    // thread can be had: who starts the log could.
    let run = move || {
        let (batch, lines) = (Vec::new(), Vec::new());
        Writer { sink, events, progress, batch, lines, taken: 0, torn, full: false }.run();
    };
    thread::Builder::new().name("audit".to_owned()).spawn(run).map_err(NoThread)?;
    Ok(())
}

struct Writer {
    sink: Sink,
    events: mpsc::Receiver<Spelled>,
    progress: Arc<Progress>,
    batch: Vec<u8>,
    /// What each line of the batch records.
    lines: Vec<AuditDecision>,
    /// How many events were taken for the batch.
    taken: u64,
    /// Whether the sink took part of a line and then failed.
    torn: bool,
    /// Whether the sink had no room when it was last asked.
    full: bool,
}

impl Drop for Writer {
    /// Only a defect of the sink ends the writer before the log. What it was given then, and what those who have a place
    /// still hand over, is lost and counted.
    fn drop(&mut self) {
        self.progress.end();
        for decision in self.lines.drain(..) {
            self.progress.lose(decision);
        }
        self.progress.settle(mem::take(&mut self.taken));
        for event in &self.events {
            self.progress.taken();
            self.progress.lose(event.decision);
            self.progress.settle(1);
        }
    }
}

impl Writer {
    fn run(mut self) {
        while let Ok(first) = self.events.recv() {
            self.append(&first);
            let drained = loop {
                if self.batch.len() >= BATCH {
                    break false;
                }
                match self.events.try_recv() {
                    Ok(event) => self.append(&event),
                    Err(_) => break true,
                }
            };
            self.write();
            self.progress.settle(mem::take(&mut self.taken));
            if drained {
                thread::sleep(LINGER);
            }
        }
    }

    fn append(&mut self, event: &Spelled) {
        self.progress.taken();
        self.taken = self.taken.saturating_add(1);
        self.batch.extend_from_slice(&event.line);
        self.lines.push(event.decision);
    }

    /// Writes the batch. While the sink has no room it is held, so that the queue fills and exchanges wait: what was
    /// minted must not be forgotten because somebody has filled a disk. What the sink refuses for another reason is lost,
    /// and counted; then exchanges wait until it has taken a batch whole.
    fn write(&mut self) {
        self.follow();
        let mut written = 0;
        let mut fault = None;
        while let Some(rest) = self.batch.get(written..).filter(|rest| !rest.is_empty()) {
            // After half a line, the next one starts on a line of its own.
            let bytes = if self.torn { b"\n" } else { rest };
            match self.sink.write(bytes) {
                Ok(0) => {
                    fault = Some(io::ErrorKind::WriteZero.into());
                    break;
                }
                Ok(_) if self.torn => self.torn = false,
                Ok(count) => written = written.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_for_now(error.kind()) => {
                    self.tell_full(&error);
                    thread::sleep(RETRY);
                    // Whoever makes room may do it by taking the file or what is in it away: the line begins anew.
                    if self.follow() {
                        written = start_of_line(&self.batch, written);
                    }
                }
                Err(error) => {
                    fault = Some(error);
                    break;
                }
            }
        }
        let flushed = self.sink.flush();
        self.full = false;
        let kept = if flushed.is_err() {
            0
        } else if written == self.batch.len() {
            // All, as nearly always: there is no need to count.
            self.lines.len()
        } else {
            let kept = self.batch.get(..written).unwrap_or_default();
            kept.split(|byte| *byte == b'\n').count().saturating_sub(1)
        };
        for decision in self.lines.drain(..).skip(kept) {
            self.progress.lose(decision);
        }
        self.torn |= start_of_line(&self.batch, written) < written;
        self.tell_failing(fault.or(flushed.err()));
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

    fn tell_failing(&self, fault: Option<io::Error>) {
        let before = self.progress.failing.swap(fault.is_some(), Ordering::AcqRel);
        match fault {
            Some(error) if !before => {
                tracing::error!(%error, "the audit log cannot be written; events are lost, and exchanges wait until it can");
            }
            None if before => tracing::info!("the audit log can be written again"),
            _ => {}
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
