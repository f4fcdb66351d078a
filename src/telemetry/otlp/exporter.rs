//! The thread that empties the outboxes.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Options;
use super::Outboxes;
use super::Signal;
use super::client::Answer;
use super::client::Client;
use super::encode;
use super::logs::this_thread_sends;
use super::standing::Standing;
use crate::escape::escape;
use crate::telemetry::Metrics;
use crate::telemetry::Stopwatch;
use crate::time::Clock;
use crate::time::Timestamp;

/// How long traces and log lines gather.
const GATHER: Duration = Duration::from_secs(1);
/// Most messages of one signal in a row: under a steady load something always waits, and the others have their turn.
const A_TURN: usize = 4;
/// How long an answer may take, and how long at the end of the service.
const PATIENCE: Duration = Duration::from_secs(10);
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Sends what is put into the outboxes, and the metrics, until it is closed.
#[derive(Debug)]
pub struct Exporter {
    outboxes: Outboxes,
}

impl Exporter {
    /// Starts the thread.
    pub fn start(
        options: Options,
        outboxes: Outboxes,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let shared = outboxes.clone();
        let client = Client::new(options.clone())?;
        let began = clock.now();
        let sender = Sender { client, options, outboxes: shared, metrics, clock, began };
        thread::Builder::new().name("otlp".to_owned()).spawn(|| sender.run())?;
        Ok(Self { outboxes })
    }

    /// Sends what waits, and waits for that no longer than `within`; whether it is done. What comes later is not sent.
    pub fn close(&self, within: Duration) -> bool {
        self.outboxes.bell.close(within)
    }
}

/// A message, and how many items it has.
struct Message {
    bytes: Vec<u8>,
    items: u64,
}

/// What is sent of one signal, one message after another. A collector may take one signal and not another.
struct Lane {
    signal: Signal,
    /// What was not taken and is tried again.
    held: Option<Message>,
    standing: Standing,
}

struct Sender {
    client: Client,
    options: Options,
    outboxes: Outboxes,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    began: Timestamp,
}

impl Sender {
    fn run(mut self) {
        this_thread_sends();
        let [mut traces, mut logs, mut metrics] = [Signal::Traces, Signal::Logs, Signal::Metrics].map(Lane::new);
        let mut read: Option<Stopwatch> = None;
        loop {
            let closing = self.outboxes.bell.wait(GATHER);
            let patience = if closing { LAST_PATIENCE } else { PATIENCE };
            if closing {
                for lane in [&mut traces, &mut logs, &mut metrics] {
                    lane.standing.resume();
                }
            }
            let most = if closing { usize::MAX } else { A_TURN };
            self.empty(&mut traces, patience, most, Self::traces);
            self.empty(&mut logs, patience, most, Self::logs);
            let due = read.is_none_or(|read| read.elapsed() >= self.options.interval);
            if self.options.metrics && (due || closing) {
                read = Some(Stopwatch::start());
                self.send_metrics(&mut metrics, patience);
            }
            if closing {
                self.outboxes.bell.closed();
                return;
            }
        }
    }

    /// Sends what waits, for as long as the collector takes it, and no more than `most` messages.
    fn empty(&mut self, lane: &mut Lane, patience: Duration, most: usize, next: fn(&Self) -> Message) {
        for _ in 0..most {
            if lane.standing.is_paused() {
                return;
            }
            let message = lane.held.take().unwrap_or_else(|| next(self));
            if message.items == 0 {
                return;
            }
            lane.held = self.send(lane, message, patience);
        }
    }

    fn traces(&self) -> Message {
        let traces = self.outboxes.traces.take();
        Message::of(traces.len(), encode::traces(&self.options.service, traces))
    }

    fn logs(&self) -> Message {
        let records = self.outboxes.logs.take();
        Message::of(records.len(), encode::logs(&self.options.service, records))
    }

    /// What is not taken now is not sent later: the next reading has it all.
    fn send_metrics(&mut self, lane: &mut Lane, patience: Duration) {
        let not_taken = if lane.standing.is_paused() {
            true
        } else {
            let families = self.metrics.gather();
            let bytes = encode::metrics(&self.options.service, &families, self.began, self.clock.now());
            self.send(lane, Message::of(1, bytes), patience).is_some()
        };
        if not_taken {
            self.outboxes.tally.lose(Signal::Metrics, 1);
        }
    }

    /// Sends a message; what is to be tried again is given back.
    fn send(&mut self, lane: &mut Lane, message: Message, patience: Duration) -> Option<Message> {
        let tally = &self.outboxes.tally;
        let answer = self.client.post(lane.signal, message.bytes.clone(), patience);
        let (ended, after) = answer.outcome();
        tally.ended(lane.signal, ended);
        let (news, signal) = (lane.standing.note(ended, after), lane.signal.name());
        match answer {
            Answer::Taken { rejected } => {
                // The collector counts spans and series, we count requests and readings.
                tally.lose(lane.signal, rejected.min(message.items));
                if news {
                    tracing::info!(signal, "the collector takes telemetry again");
                }
                None
            }
            Answer::Later { why, .. } => {
                if news {
                    let why = escape(&why);
                    tracing::warn!(signal, "the collector takes no telemetry, which is dropped once much waits: {why}");
                }
                Some(message)
            }
            Answer::Refused { why } => {
                tally.lose(lane.signal, message.items);
                if news {
                    tracing::warn!(signal, "the collector refuses telemetry, and it is dropped: {}", escape(&why));
                }
                None
            }
        }
    }
}

impl Lane {
    fn new(signal: Signal) -> Self {
        Self { signal, held: None, standing: Standing::default() }
    }
}

impl Message {
    fn of(items: usize, bytes: Vec<u8>) -> Self {
        Self { bytes, items: u64::try_from(items).unwrap_or(u64::MAX) }
    }
}
