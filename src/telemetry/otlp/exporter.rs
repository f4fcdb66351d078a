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
use super::tally::Ended;
use crate::escape::escape;
use crate::telemetry::Metrics;
use crate::telemetry::Stopwatch;
use crate::time::Clock;
use crate::time::Timestamp;

/// How long traces and log lines gather.
const GATHER: Duration = Duration::from_secs(1);
/// How long an answer may take, and how long at the end of the service.
const PATIENCE: Duration = Duration::from_secs(10);
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

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
        let sender = Sender {
            client,
            options,
            outboxes: shared,
            metrics,
            clock,
            began,
            held: [None, None],
            pause: None,
            failures: Pause::default(),
        };
        thread::Builder::new().name("otlp".to_owned()).spawn(|| sender.run())?;
        Ok(Self { outboxes })
    }

    /// Sends what waits, and waits for that no longer than `within`; whether it is done. What comes later is not sent.
    pub fn close(&self, within: Duration) -> bool {
        self.outboxes.bell.close(within)
    }
}

/// A message that the collector did not take yet, and how many items it has.
struct Held {
    signal: Signal,
    message: Vec<u8>,
    items: u64,
}

struct Sender {
    client: Client,
    options: Options,
    outboxes: Outboxes,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    began: Timestamp,
    /// Of traces and of the log, what is tried again.
    held: [Option<Held>; 2],
    /// Since when, and for how long, nothing is sent.
    pause: Option<(Stopwatch, Duration)>,
    failures: Pause,
}

impl Sender {
    fn run(mut self) {
        this_thread_sends();
        let mut read: Option<Stopwatch> = None;
        loop {
            let closing = self.outboxes.bell.wait(GATHER);
            if closing {
                self.pause = None;
            }
            let patience = if closing { LAST_PATIENCE } else { PATIENCE };
            self.empty(0, patience);
            self.empty(1, patience);
            let due = read.is_none_or(|read| read.elapsed() >= self.options.interval);
            if self.options.metrics && (due || closing) {
                read = Some(Stopwatch::start());
                self.send_metrics(patience);
            }
            if closing {
                self.outboxes.bell.closed();
                return;
            }
        }
    }

    /// Sends what waits of traces (0) or of the log (1), for as long as the collector takes it.
    fn empty(&mut self, lane: usize, patience: Duration) {
        while !self.is_paused() {
            let held = self.held.get_mut(lane).and_then(Option::take);
            let Some(next) = held.or_else(|| self.next(lane)) else { return };
            if let Some(again) = self.send(next, patience)
                && let Some(place) = self.held.get_mut(lane)
            {
                *place = Some(again);
            }
        }
    }

    fn next(&self, lane: usize) -> Option<Held> {
        let service = &self.options.service;
        let (signal, items, message) = if lane == 0 {
            let traces = self.outboxes.traces.take();
            (Signal::Traces, traces.len(), encode::traces(service, traces))
        } else {
            let records = self.outboxes.logs.take();
            (Signal::Logs, records.len(), encode::logs(service, records))
        };
        (items > 0).then(|| Held { signal, message, items: u64::try_from(items).unwrap_or(u64::MAX) })
    }

    /// What is not taken now is not sent later: the next reading has it all.
    fn send_metrics(&mut self, patience: Duration) {
        let tally = Arc::clone(&self.outboxes.tally);
        if self.is_paused() {
            tally.lose(Signal::Metrics, 1);
            return;
        }
        let families = self.metrics.gather();
        let message = encode::metrics(&self.options.service, &families, self.began, self.clock.now());
        if self.send(Held { signal: Signal::Metrics, message, items: 1 }, patience).is_some() {
            tally.lose(Signal::Metrics, 1);
        }
    }

    /// Sends a message; what is to be tried again is given back.
    fn send(&mut self, held: Held, patience: Duration) -> Option<Held> {
        let tally = Arc::clone(&self.outboxes.tally);
        match self.client.post(held.signal, held.message.clone(), patience) {
            Answer::Taken { rejected } => {
                tally.ended(held.signal, Ended::Taken);
                // The collector counts spans, we count requests.
                tally.lose(held.signal, rejected.min(held.items));
                if self.failures.end() {
                    tracing::info!("the collector takes telemetry again");
                }
                None
            }
            Answer::Later { after, why } => {
                tally.ended(held.signal, Ended::Later);
                if self.failures.is_over() {
                    tracing::warn!(
                        "the collector takes no telemetry, which is dropped once much waits: {}",
                        escape(&why)
                    );
                }
                self.pause = Some((Stopwatch::start(), self.failures.next(after)));
                Some(held)
            }
            Answer::Refused { why } => {
                tally.ended(held.signal, Ended::Refused);
                tally.lose(held.signal, held.items);
                let signal = held.signal.name();
                tracing::warn!(signal, "the collector refuses telemetry, and it is dropped: {}", escape(&why));
                None
            }
        }
    }

    fn is_paused(&self) -> bool {
        self.pause.as_ref().is_some_and(|(since, pause)| since.elapsed() < *pause)
    }
}

/// How long it is waited after the next of several failures.
#[derive(Debug, Default)]
pub(super) struct Pause {
    last: Duration,
}

impl Pause {
    /// Whether there was no failure since the last success.
    pub(super) const fn is_over(&self) -> bool {
        self.last.is_zero()
    }

    /// After one more: as long as the collector says, else twice as long as before.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let longer = self.last.saturating_mul(2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.last = longer;
        asked.map_or(longer, |asked| asked.max(FIRST_PAUSE))
    }

    /// After a success; whether there was a failure before it.
    pub(super) const fn end(&mut self) -> bool {
        let failed = !self.last.is_zero();
        self.last = Duration::ZERO;
        failed
    }
}
