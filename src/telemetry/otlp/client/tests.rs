//! What the answers of a collector mean.

use super::*;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

#[test]
fn only_what_the_protocol_says_is_tried_again_and_who_is_not_let_in() {
    let headers = HeaderMap::new();
    for status in 300..600 {
        let again = |signal| matches!(Answer::of_failure(signal, status, &headers), Answer::Later { after: None, .. });
        let passes = [401, 403, 429, 502, 503, 504].contains(&status);
        assert_eq!(again(Signal::Traces), passes, "{status}");
        assert_eq!(again(Signal::Audit), passes || [404, 408].contains(&status) || status >= 500, "{status}");
    }
}

#[test]
fn a_collector_may_say_how_long_to_wait_up_to_a_minute() {
    for (said, expected) in
        [("7", Some(7)), (" 7", Some(7)), ("86400", Some(60)), ("-1", None), ("soon", None), ("", None)]
    {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(said).unwrap())]);
        let Answer::Later { after, .. } = Answer::of_failure(Signal::Logs, 503, &headers) else { panic!("{said}") };
        assert_eq!(after, expected.map(Duration::from_secs), "{said}");
    }
}

#[test]
fn an_answer_says_how_much_is_not_kept() {
    let partly = |rejected| {
        let partial_success = Some(ExportLogsPartialSuccess { rejected_log_records: rejected, ..Default::default() });
        Answer::of_success(&ExportLogsServiceResponse { partial_success }.encode_to_vec())
    };
    assert_eq!(Answer::of_success(b""), Answer::Taken { rejected: 0 });
    assert_eq!(partly(3), Answer::Taken { rejected: 3 });
    assert_eq!(partly(-1), Answer::Taken { rejected: 0 });
    for garbage in [&b"<html>sign in</html>"[..], b"{}", b"\xff\xff\xff"] {
        assert!(matches!(Answer::of_success(garbage), Answer::Refused { .. }), "{garbage:?}");
    }
}
