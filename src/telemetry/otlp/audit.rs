//! The audit log's lines on their way to the collector. Its writer waits here, on its own thread.

use std::fmt;
use std::io;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use super::Options;
use super::Service;
use super::Signal;
use super::Tally;
use super::client::Answer;
use super::client::Client;
use super::encode;
use super::logs::this_thread_sends;
use super::standing::Standing;
use crate::escape::escape;
use crate::time::Clock;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(4);
/// The longest pause: exchanges wait for a collector that is back, and so does the end of the service.
const PAUSE: Duration = Duration::from_secs(2);

/// Takes whole lines, as many as it is given, and has them at the collector when it says so.
///
/// What the collector does not take now would block ([`io::ErrorKind::WouldBlock`]): the same lines are to be offered again,
/// however long it takes. What it will never take is another error. If it took the lines and then said that some are not
/// kept, the next [`Write::flush`] fails.
pub struct AuditStream {
    client: Client,
    service: Service,
    clock: Arc<dyn Clock>,
    tally: Arc<Tally>,
    standing: Standing,
    /// Whether the lines that were taken last are not all kept.
    lossy: bool,
}

impl fmt::Debug for AuditStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditStream").finish_non_exhaustive()
    }
}

impl AuditStream {
    /// Opens no connection yet.
    pub fn new(options: Options, clock: Arc<dyn Clock>, tally: Arc<Tally>) -> io::Result<Self> {
        let service = options.service.clone();
        let client = Client::new(options)?;
        Ok(Self { client, service, clock, tally, standing: Standing::impatient(PAUSE), lossy: false })
    }

    fn send(&mut self, lines: &[u8]) -> io::Result<()> {
        let message = encode::audit(&self.service, lines, self.clock.now());
        let answer = self.client.post(Signal::Audit, message, PATIENCE);
        let (ended, after) = answer.outcome();
        self.tally.ended(Signal::Audit, ended);
        let news = self.standing.note(ended, after);
        match answer {
            Answer::Taken { rejected } => {
                if news {
                    tracing::info!("the collector takes audit events again");
                }
                if rejected > 0 {
                    self.lossy = true;
                    tracing::error!(rejected, "the collector does not keep all audit events that it took");
                }
                Ok(())
            }
            Answer::Later { why, .. } => {
                if news {
                    let why = escape(&why);
                    tracing::error!(
                        "the collector takes no audit events; they wait, and exchanges once many do: {why}"
                    );
                }
                Err(io::ErrorKind::WouldBlock.into())
            }
            Answer::Refused { why } => {
                if news {
                    tracing::error!("the collector refuses audit events, and they are lost: {}", escape(&why));
                }
                Err(io::Error::other("refused"))
            }
        }
    }
}

impl Write for AuditStream {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.standing.is_paused() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        this_thread_sends();
        // The end that a torn line lacks is nothing to a collector.
        if lines.iter().any(|byte| *byte != b'\n') {
            self.send(lines)?;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.lossy) { Err(io::Error::other("not all was kept")) } else { Ok(()) }
    }
}
