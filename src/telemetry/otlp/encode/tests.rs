//! What the messages hold.

use super::*;

use std::time::Duration;

use crate::telemetry::Metrics;

const AT: Timestamp = Timestamp::from_unix_millis(1_800_000_000_042);

fn service() -> Service {
    Service::new("acme-trustmint".to_owned())
}

#[test]
fn metrics_are_those_of_the_text_format_by_name_labels_and_number() {
    let metrics = Metrics::new().unwrap();
    for took in [1, 3, 700, 9_000] {
        metrics.exchange("ok", "acme-pypi", "github", Duration::from_millis(took));
    }
    let message = super::metrics(&service(), &metrics.gather(), AT, AT.plus(Duration::from_secs(1)));
    let message = ExportMetricsServiceRequest::decode(message.as_slice()).unwrap();
    let told = &message.resource_metrics[0].scope_metrics[0].metrics;
    let text = metrics.render().unwrap();
    let families: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(told.iter().map(|metric| metric.name.as_str()).collect::<Vec<_>>(), families);
    let of = |name: &str| told.iter().find(|metric| metric.name == name).unwrap();
    let Some(Data::Sum(sum)) = &of("trustmint_exchanges_total").data else { panic!("no sum") };
    assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "cumulative");
    let point = &sum.data_points[0];
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(4.0)));
    assert_eq!(point.attributes.iter().map(|label| label.key.as_str()).collect::<Vec<_>>(), ["code", "registry"]);
    assert_eq!(point.start_time_unix_nano, 1_800_000_000_042_000_000);
    let Some(Data::Histogram(histogram)) = &of("trustmint_exchange_duration_seconds").data else {
        panic!("no histogram")
    };
    let point = &histogram.data_points[0];
    assert_eq!((point.count, point.bucket_counts.len(), point.explicit_bounds.len()), (4, 14, 13));
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 4);
    // Above 5 s, and up to 1 s.
    assert_eq!((point.bucket_counts[13], point.bucket_counts[10]), (1, 1));
    assert_eq!(of("trustmint_exchange_duration_seconds").unit, "s");
}

#[test]
fn an_audit_event_is_the_whole_line_and_what_it_is_searched_by() {
    let line = r#"{"schema":1,"time":"2026-11-26T14:00:00.042Z","request_id":"r","event":"exchange","decision":"deny","code":"no-matching-rule","registry":"acme"}"#;
    let message = audit(&service(), format!("{line}\n{line}\n").as_bytes(), AT);
    let message = ExportLogsServiceRequest::decode(message.as_slice()).unwrap();
    let records = &message.resource_logs[0].scope_logs[0].log_records;
    assert_eq!(records.len(), 2);
    let record = &records[0];
    assert_eq!(record.body, Some(text(line.to_owned())));
    assert_eq!((record.event_name.as_str(), record.severity_number), ("trustmint.audit", 13));
    assert_eq!(record.time_unix_nano, 1_795_701_600_042_000_000);
    let keys: Vec<&str> = record.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    let expected = ["event", "decision", "code", "registry"].map(|name| format!("trustmint.audit.{name}"));
    assert_eq!(keys, expected);
    // What is no event goes too.
    let message = audit(&service(), b"not json\n", AT);
    let message = ExportLogsServiceRequest::decode(message.as_slice()).unwrap();
    assert_eq!(message.resource_logs[0].scope_logs[0].log_records[0].body, Some(text("not json".to_owned())));
}
