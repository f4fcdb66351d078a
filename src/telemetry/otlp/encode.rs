//! The protocol's messages, made of what there is to tell. Functions of values.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::logs::v1::ScopeLogs;
use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1 as model;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as spans;
use opentelemetry_proto::tonic::trace::v1::span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prometheus::proto::Metric;
use prometheus::proto::MetricFamily;
use prometheus::proto::MetricType;
use prost::Message as _;
use serde_json::Value as Json;

use super::Service;
use super::logs::Record;
use crate::telemetry::trace::Span;
use crate::telemetry::trace::SpanKind;
use crate::telemetry::trace::Value;
use crate::time::Timestamp;

/// Which names of attributes are meant.
const SCHEMA: &str = "https://opentelemetry.io/schemas/1.30.0";
/// What the whole of our telemetry is instrumented by.
const SCOPE: &str = "trustmint";
/// The name of the event that an audit event is.
const AUDIT: &str = "trustmint.audit";
/// The members of an audit event that stand beside it too, to be searched by.
const SEARCHED: [&str; 5] = ["event", "decision", "code", "registry", "issuer"];

/// A message with these requests' spans.
pub(super) fn traces(service: &Service, requests: Vec<Vec<Span>>) -> Vec<u8> {
    let spans = requests.into_iter().flatten().map(span_of).collect();
    let scope_spans = vec![spans::ScopeSpans { scope: Some(scope()), spans, schema_url: SCHEMA.to_owned() }];
    let resource_spans =
        vec![spans::ResourceSpans { resource: Some(resource(service)), scope_spans, schema_url: SCHEMA.to_owned() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn span_of(span: Span) -> spans::Span {
    let start = nanos(span.began).saturating_add(u64::try_from(span.after.as_nanos()).unwrap_or(u64::MAX));
    let kind = match span.kind {
        SpanKind::Server => span::SpanKind::Server,
        SpanKind::Step => span::SpanKind::Internal,
        SpanKind::Client => span::SpanKind::Client,
    };
    let link = |link: crate::telemetry::trace::Link| span::Link {
        trace_id: link.trace.to_be_bytes().to_vec(),
        span_id: link.span.to_be_bytes().to_vec(),
        ..span::Link::default()
    };
    spans::Span {
        trace_id: span.trace.to_be_bytes().to_vec(),
        span_id: span.id.to_be_bytes().to_vec(),
        parent_span_id: span.parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        // Sampled.
        flags: 1,
        name: span.name,
        kind: kind.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(u64::try_from(span.took.as_nanos()).unwrap_or(u64::MAX)),
        attributes: span.attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
        links: span.link.map(link).into_iter().collect(),
        status: span.failed.then(|| spans::Status { message: String::new(), code: StatusCode::Error.into() }),
        ..spans::Span::default()
    }
}

/// A message with these lines of the service's log.
pub(super) fn logs(service: &Service, records: Vec<Record>) -> Vec<u8> {
    log_records(service, records.into_iter().map(log_record).collect())
}

fn log_record(record: Record) -> LogRecord {
    let (trace, span) = record.of.unzip();
    LogRecord {
        time_unix_nano: nanos(record.at),
        observed_time_unix_nano: nanos(record.at),
        severity_number: severity(record.level).into(),
        severity_text: record.level.as_str().to_owned(),
        body: Some(text(record.message)),
        attributes: record.fields.into_iter().map(|(name, value)| attribute(name, Value::Text(value))).collect(),
        trace_id: trace.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        span_id: span.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        ..LogRecord::default()
    }
}

fn severity(level: tracing::Level) -> SeverityNumber {
    match level {
        tracing::Level::TRACE => SeverityNumber::Trace,
        tracing::Level::DEBUG => SeverityNumber::Debug,
        tracing::Level::INFO => SeverityNumber::Info,
        tracing::Level::WARN => SeverityNumber::Warn,
        tracing::Level::ERROR => SeverityNumber::Error,
    }
}

/// A message with these lines of the audit log, each whole as the body of a record; `now` is when they are sent.
pub(super) fn audit(service: &Service, lines: &[u8], now: Timestamp) -> Vec<u8> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    log_records(service, lines.map(|line| audit_record(line, now)).collect())
}

fn audit_record(line: &[u8], now: Timestamp) -> LogRecord {
    let event: Json = serde_json::from_slice(line).unwrap_or_default();
    let member = |name: &str| event.get(name).and_then(Json::as_str);
    let at = member("time").and_then(Timestamp::parse_with_millis).unwrap_or(now);
    let severity = match member("decision") {
        Some("allow") => SeverityNumber::Info,
        Some("deny") => SeverityNumber::Warn,
        Some(_) | None => SeverityNumber::Error,
    };
    let searched = |name: &&str| Some(attribute(format!("{AUDIT}.{name}"), Value::Text(member(name)?.to_owned())));
    LogRecord {
        time_unix_nano: nanos(at),
        observed_time_unix_nano: nanos(now),
        severity_number: severity.into(),
        body: Some(text(String::from_utf8_lossy(line).into_owned())),
        attributes: SEARCHED.iter().filter_map(searched).collect(),
        event_name: AUDIT.to_owned(),
        ..LogRecord::default()
    }
}

fn log_records(service: &Service, log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, schema_url: SCHEMA.to_owned() }];
    let resource_logs =
        vec![ResourceLogs { resource: Some(resource(service)), scope_logs, schema_url: SCHEMA.to_owned() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// A message with what `/metrics` shows, under the same names: counted since `since`, read at `now`.
pub(super) fn metrics(service: &Service, families: &[MetricFamily], since: Timestamp, now: Timestamp) -> Vec<u8> {
    let metrics = families.iter().filter_map(|family| metric(family, since, now)).collect();
    let scope_metrics = vec![model::ScopeMetrics { scope: Some(scope()), metrics, schema_url: SCHEMA.to_owned() }];
    let resource_metrics = vec![model::ResourceMetrics {
        resource: Some(resource(service)),
        scope_metrics,
        schema_url: SCHEMA.to_owned(),
    }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn metric(family: &MetricFamily, since: Timestamp, now: Timestamp) -> Option<model::Metric> {
    let series = family.get_metric().iter();
    let number = |metric: &Metric, value: f64| model::NumberDataPoint {
        attributes: labels(metric),
        start_time_unix_nano: nanos(since),
        time_unix_nano: nanos(now),
        value: Some(number_data_point::Value::AsDouble(value)),
        ..model::NumberDataPoint::default()
    };
    let cumulative = AggregationTemporality::Cumulative.into();
    let data = match family.get_field_type() {
        MetricType::COUNTER => Data::Sum(model::Sum {
            data_points: series.map(|metric| number(metric, metric.get_counter().get_value())).collect(),
            aggregation_temporality: cumulative,
            is_monotonic: true,
        }),
        MetricType::GAUGE => Data::Gauge(model::Gauge {
            data_points: series.map(|metric| number(metric, metric.get_gauge().get_value())).collect(),
        }),
        MetricType::HISTOGRAM => Data::Histogram(model::Histogram {
            data_points: series.map(|metric| histogram(metric, since, now)).collect(),
            aggregation_temporality: cumulative,
        }),
        MetricType::SUMMARY | MetricType::UNTYPED => return None,
    };
    let unit = if family.name().ends_with("_seconds") { "s" } else { "" };
    Some(model::Metric {
        name: family.name().to_owned(),
        description: family.help().to_owned(),
        unit: unit.to_owned(),
        metadata: Vec::new(),
        data: Some(data),
    })
}

/// Prometheus counts up to each bound; this protocol between two, and above the last.
fn histogram(metric: &Metric, since: Timestamp, now: Timestamp) -> model::HistogramDataPoint {
    let histogram = metric.get_histogram();
    let finite = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite());
    let mut below = 0;
    let mut bucket_counts = Vec::new();
    let mut explicit_bounds = Vec::new();
    for bucket in finite {
        bucket_counts.push(bucket.cumulative_count().saturating_sub(below));
        explicit_bounds.push(bucket.upper_bound());
        below = bucket.cumulative_count();
    }
    bucket_counts.push(histogram.get_sample_count().saturating_sub(below));
    model::HistogramDataPoint {
        attributes: labels(metric),
        start_time_unix_nano: nanos(since),
        time_unix_nano: nanos(now),
        count: histogram.get_sample_count(),
        sum: Some(histogram.get_sample_sum()),
        bucket_counts,
        explicit_bounds,
        ..model::HistogramDataPoint::default()
    }
}

fn labels(metric: &Metric) -> Vec<KeyValue> {
    metric.get_label().iter().map(|label| attribute(label.name(), Value::Text(label.value().to_owned()))).collect()
}

fn resource(service: &Service) -> Resource {
    let of = |name: &str, value: &str| attribute(name, Value::Text(value.to_owned()));
    Resource {
        attributes: vec![
            of("service.name", &service.name),
            of("service.version", env!("CARGO_PKG_VERSION")),
            of("service.instance.id", &service.instance),
        ],
        ..Resource::default()
    }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn attribute(name: impl Into<String>, value: Value) -> KeyValue {
    let value = match value {
        Value::Text(value) => text(value),
        Value::Number(number) => AnyValue { value: Some(any_value::Value::IntValue(number)) },
    };
    KeyValue { key: name.into(), value: Some(value), ..KeyValue::default() }
}

const fn text(value: String) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(value)) }
}

fn nanos(at: Timestamp) -> u64 {
    u64::try_from(at.unix_millis()).unwrap_or(0).saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests;
