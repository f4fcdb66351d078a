//! What of the log is sent.

use super::*;

use std::thread;

use tracing_subscriber::layer::SubscriberExt as _;

use crate::telemetry::otlp::Outboxes;
use crate::time::SystemClock;

fn logged(log: impl FnOnce(&Outboxes)) -> Vec<Record> {
    let outboxes = Outboxes::new();
    let subscriber = tracing_subscriber::registry().with(outboxes.log(Arc::new(SystemClock)));
    tracing::subscriber::with_default(subscriber, || log(&outboxes));
    outboxes.logs.take()
}

#[test]
fn a_line_is_sent_with_its_fields_escaped_and_bounded() {
    let records = logged(|_| {
        tracing::warn!(target: "trustmint::app", code = "internal", error = ?"a\u{202e}b", "it\nfailed");
        tracing::info!(long = "é".repeat(5000), after = "x", "message");
    });
    let [first, second] = <[Record; 2]>::try_from(records).unwrap();
    assert_eq!((first.level, first.message.as_str()), (Level::WARN, "it\\nfailed"));
    assert_eq!(first.fields[..2], [("target", "trustmint::app".to_owned()), ("code", "internal".to_owned())]);
    assert!(!first.fields[2].1.contains(crate::escape::is_deceptive), "{:?}", first.fields);
    let all: usize = second.message.len() + second.fields[1..].iter().map(|(_, text)| text.len()).sum::<usize>();
    assert!((MOST_TEXT - 2..=MOST_TEXT).contains(&all), "{all}");
    assert_eq!(second.of, None);
}

#[test]
fn what_the_thread_that_sends_says_is_not_sent() {
    let records = logged(|_| {
        let current = tracing::dispatcher::get_default(Clone::clone);
        let sends = move || {
            this_thread_sends();
            tracing::dispatcher::with_default(&current, || tracing::error!("the collector is gone"));
        };
        thread::spawn(sends).join().unwrap();
        tracing::info!("another");
    });
    let messages: Vec<&str> = records.iter().map(|record| record.message.as_str()).collect();
    assert_eq!(messages, ["another"]);
}

#[test]
fn a_line_about_a_request_that_is_traced_has_its_ids() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let records = logged(|outboxes| {
        let traced = outboxes.tracer(1, Arc::new(SystemClock)).request(7, Timestamp::from_unix_seconds(0), || None);
        runtime.block_on(traced.around(async { tracing::info!("inside") }));
        tracing::info!("outside");
        drop(traced);
        let span = &outboxes.traces.take()[0][0];
        tracing::info!(target: "expected", "{}", span.id);
    });
    let (trace, span) = records[0].of.unwrap();
    assert_eq!((trace, span.to_string()), (7, records[2].message.clone()));
    assert_eq!(records[1].of, None);
}
