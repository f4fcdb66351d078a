//! What is traced, and how it is told.

use super::*;

use crate::telemetry::otlp::Outboxes;
use crate::time::SystemClock;

fn tracing(one_in: u32) -> (Tracer, Outboxes) {
    let outboxes = Outboxes::new();
    (outboxes.tracer(one_in, Arc::new(SystemClock)), outboxes)
}

const BEGAN: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
const ANSWERED: Answered = Answered { method: Some("POST"), route: Some("/v1/token"), status: 200, code: None };

#[tokio::test]
async fn a_request_is_handed_over_when_the_last_that_works_for_it_is_done() {
    let (tracer, outboxes) = tracing(1);
    let request = tracer.request(7, BEGAN, || None);
    let (go, told) = tokio::sync::oneshot::channel::<()>();
    let mut late = None;
    let started = &mut late;
    request
        .around(async move {
            step("parse", || ());
            during("key", async {}).await;
            *started = Some(tokio::spawn(carried(async move {
                told.await.unwrap();
                step("claim", || ());
            })));
        })
        .await;
    request.answered(ANSWERED);
    drop(request);
    assert!(outboxes.traces.take().is_empty(), "somebody still works for it");
    go.send(()).unwrap();
    late.unwrap().await.unwrap();
    let spans = outboxes.traces.take().remove(0);
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /v1/token", "parse", "key", "claim"]);
    let root = &spans[0];
    assert_eq!((root.trace, root.parent, root.kind, root.began), (7, None, SpanKind::Server, BEGAN));
    assert!(spans[1..].iter().all(|span| span.parent == Some(root.id) && span.trace == 7 && span.id != root.id));
}

#[tokio::test]
async fn outside_of_a_request_and_of_one_that_is_not_sampled_steps_only_run() {
    assert_eq!(step("parse", || 1), 1);
    assert_eq!(during("key", async { 2 }).await, 2);
    assert_eq!(carried(async { 3 }).await, 3);
    assert_eq!(Tracer::default().request(7, BEGAN, || panic!("nobody asks")).around(async { 4 }).await, 4);
    assert_eq!(Tracer::default().outbound().traceparent(), None);
}

#[test]
fn one_request_in_so_many_is_sampled() {
    let (tracer, outboxes) = tracing(4);
    for number in 0..1024_u128 {
        // Evenly spread over what is random in an id; what is not decides nothing.
        let id = (number * ((RANDOM + 1) / 1024)) | (number << 80);
        tracer.request(id, BEGAN, || None).answered(ANSWERED);
    }
    assert_eq!(outboxes.traces.take().len(), 256);
}

#[test]
fn a_request_without_an_answer_and_one_that_failed_show_as_failed() {
    let (tracer, outboxes) = tracing(1);
    drop(tracer.request(1, BEGAN, || None));
    let unknown = Answered { method: None, route: None, status: 503, code: Some("store-unavailable") };
    tracer.request(2, BEGAN, || None).answered(unknown);
    let [gone, failed] = <[Vec<Span>; 2]>::try_from(outboxes.traces.take()).unwrap();
    assert_eq!((gone[0].name.as_str(), gone[0].failed, gone[0].attributes.len()), ("HTTP", true, 0));
    assert_eq!((failed[0].name.as_str(), failed[0].failed), ("HTTP", true));
    let text = |text: &str| Value::Text(text.to_owned());
    let expected = [
        ("http.request.method", text("_OTHER")),
        ("http.response.status_code", Value::Number(503)),
        ("trustmint.code", text("store-unavailable")),
        ("error.type", text("store-unavailable")),
    ];
    assert_eq!(failed[0].attributes, expected);
}

#[test]
fn a_trace_context_is_read_to_the_letter() {
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let link = Link { trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, span: 0xb7ad_6b71_6920_3331 };
    assert_eq!(Link::parse(good), Some(link));
    for bad in [
        "",
        "00",
        "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ] {
        assert_eq!(Link::parse(bad), None, "{bad}");
    }
}

#[test]
fn what_is_sent_out_is_a_trace_of_its_own() {
    let (tracer, outboxes) = tracing(1);
    let (one, other) = (tracer.outbound(), tracer.outbound());
    let header = one.traceparent().unwrap();
    let link = Link::parse(&header).unwrap();
    assert!(header.ends_with("-01") && other.traceparent().unwrap() != header);
    one.ended("ci.example", Some(304), false);
    let span = outboxes.traces.take().remove(0).remove(0);
    assert_eq!((span.trace, span.id, span.kind, span.failed), (link.trace, link.span, SpanKind::Client, false));
    assert!(span.attributes.contains(&("server.address", Value::Text("ci.example".to_owned()))));
    // What is not sampled says so, and is not recorded.
    let (rarely, outboxes) = tracing(u32::MAX);
    let unsampled = rarely.outbound();
    assert!(unsampled.traceparent().unwrap().ends_with("-00"));
    unsampled.ended("ci.example", None, true);
    assert!(outboxes.traces.take().is_empty());
}

#[test]
fn what_waits_is_bounded_and_what_is_more_is_counted() {
    let (tracer, outboxes) = tracing(1);
    for id in 0..5000 {
        tracer.request(id, BEGAN, || None).answered(ANSWERED);
    }
    let dropped: Vec<_> = outboxes.tally().dropped().collect();
    assert_eq!(dropped, [("traces", 5000 - 2048), ("metrics", 0), ("logs", 0)]);
}
