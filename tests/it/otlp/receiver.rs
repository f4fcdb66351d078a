//! A collector: it keeps all that it is sent, and answers as it is told.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::HttpResponse;
use actix_web::web;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use super::Labels;

use crate::support::said::Channel;

use crate::support::said::Record;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As the protocol says: taken.
    Take,
    /// With this status, and after how many seconds to try again.
    Status(u16, Option<u64>),
    /// Not before the mood changes.
    Hang,
    /// With a page that is none of this protocol.
    Garbage,
    /// With an answer without end.
    Huge,
    /// Taken, but for one record.
    Partly,
    /// Taken, but for what is sent to this path: that is to be tried again.
    NotThis(&'static str),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub authorization: String,
    pub tenant: String,
    pub body: Vec<u8>,
    /// Whether it was answered as taken.
    pub taken: bool,
}

pub struct Receiver {
    base: String,
    state: Arc<State>,
    _serving: Serving,
}

struct State {
    mood: Mutex<Mood>,
    requests: Mutex<Vec<Request>>,
    record: Record,
}

impl Receiver {
    pub fn start() -> Self {
        Self::serving(None, "http")
    }

    /// One that speaks TLS, and the authority to trust.
    pub fn over_tls() -> (Self, String) {
        let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
        let authority = certificate.authority_pem().to_owned();
        (Self::serving(Some(certificate.server_config().unwrap()), "https"), authority)
    }

    fn serving(tls: Option<rustls::ServerConfig>, scheme: &str) -> Self {
        let state = Arc::new(State {
            mood: Mutex::new(Mood::Take),
            requests: Mutex::default(),
            record: Record::of(Channel::Otlp),
        });
        let listener = bind().unwrap();
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let kept = Arc::clone(&state);
        let routes = move |config: &mut web::ServiceConfig| {
            let kept = web::Data::new(Arc::clone(&kept));
            config.app_data(kept).app_data(web::PayloadConfig::new(16 << 20)).default_service(web::post().to(receive));
        };
        let serving = Serving::start(listener, tls, routes).unwrap();
        Self { base, state, _serving: serving }
    }

    pub fn endpoint(&self) -> String {
        self.base.clone()
    }

    pub fn set(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    pub fn sent_with(&self, authorization: &str) -> bool {
        self.requests().iter().any(|request| request.authorization == authorization)
    }

    /// The bodies that it took, of these paths.
    fn taken(&self, path: &str) -> Vec<Vec<u8>> {
        let requests = self.requests().into_iter();
        requests.filter(|request| request.taken && request.path == path).map(|request| request.body).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let messages = self.taken("/v1/traces");
        let messages = messages.iter().map(|body| ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
        let scopes = messages.flat_map(|message| message.resource_spans).flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The records of events with this name.
    pub fn records(&self, event: &str) -> Vec<LogRecord> {
        let messages = self.taken("/v1/logs");
        let messages = messages.iter().map(|body| ExportLogsServiceRequest::decode(body.as_slice()).unwrap());
        let scopes = messages.flat_map(|message| message.resource_logs).flat_map(|resource| resource.scope_logs);
        scopes.flat_map(|scope| scope.log_records).filter(|record| record.event_name == event).collect()
    }

    /// The last reading of the metrics: by name, the labels and the value of each series; of histograms the count.
    pub fn last_metrics(&self) -> BTreeMap<String, Vec<(Labels, f64)>> {
        let body = self.taken("/v1/metrics").pop().expect("metrics were sent");
        let message = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
        let scopes = message.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let number = |value: Option<number_data_point::Value>| match value {
            Some(number_data_point::Value::AsDouble(value)) => value,
            other => panic!("{other:?}"),
        };
        let series = |data: Data| -> Vec<(Labels, f64)> {
            match data {
                Data::Gauge(gauge) => gauge
                    .data_points
                    .into_iter()
                    .map(|point| (labels(&point.attributes), number(point.value)))
                    .collect(),
                Data::Sum(sum) => {
                    sum.data_points.into_iter().map(|point| (labels(&point.attributes), number(point.value))).collect()
                }
                Data::Histogram(histogram) => {
                    let points = histogram.data_points.into_iter();
                    #[expect(clippy::cast_precision_loss, reason = "tests count little")]
                    points.map(|point| (labels(&point.attributes), point.count as f64)).collect()
                }
                Data::ExponentialHistogram(_) | Data::Summary(_) => panic!("there is none"),
            }
        };
        scopes.flat_map(|scope| scope.metrics).map(|metric| (metric.name, series(metric.data.unwrap()))).collect()
    }

    /// As what the senders show.
    pub fn services(&self) -> BTreeSet<String> {
        let name = |resource: Option<Resource>| attribute(&resource.unwrap().attributes, "service.name").unwrap();
        let mut names = BTreeSet::new();
        for body in self.taken("/v1/traces") {
            let message = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            names.extend(message.resource_spans.into_iter().map(|spans| name(spans.resource)));
        }
        for body in self.taken("/v1/logs") {
            let message = ExportLogsServiceRequest::decode(body.as_slice()).unwrap();
            names.extend(message.resource_logs.into_iter().map(|logs| name(logs.resource)));
        }
        for body in self.taken("/v1/metrics") {
            let message = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
            names.extend(message.resource_metrics.into_iter().map(|metrics| name(metrics.resource)));
        }
        names
    }
}

/// A log record's text.
pub fn body(record: &LogRecord) -> String {
    shown(record.body.as_ref())
}

/// An attribute as text.
pub fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    attributes.iter().find(|attribute| attribute.key == key).map(|attribute| shown(attribute.value.as_ref()))
}

fn labels(attributes: &[KeyValue]) -> Labels {
    attributes.iter().map(|attribute| (attribute.key.clone(), shown(attribute.value.as_ref()))).collect()
}

fn shown(value: Option<&AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn receive(request: HttpRequest, body: web::Bytes, state: web::Data<Arc<State>>) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mood = match *state.mood.lock().unwrap() {
        Mood::NotThis(path) if path == request.path() => Mood::Status(503, Some(1)),
        Mood::NotThis(_) => Mood::Take,
        mood @ (Mood::Take | Mood::Status(..) | Mood::Hang | Mood::Garbage | Mood::Huge | Mood::Partly) => mood,
    };
    assert_eq!(header("content-type"), "application/x-protobuf");
    state.record.keep(&body);
    state.requests.lock().unwrap().push(Request {
        path: request.path().to_owned(),
        authorization: header("authorization"),
        tenant: header("x-tenant"),
        body: body.to_vec(),
        taken: matches!(mood, Mood::Take | Mood::Partly),
    });
    let mut protobuf = HttpResponse::Ok();
    protobuf.content_type("application/x-protobuf");
    match mood {
        Mood::Take | Mood::NotThis(_) => protobuf.finish(),
        Mood::Status(status, after) => {
            let mut response = HttpResponse::build(status.try_into().unwrap());
            if let Some(after) = after {
                response.insert_header(("retry-after", after.to_string()));
            }
            response.body("not now")
        }
        Mood::Hang => {
            while *state.mood.lock().unwrap() == Mood::Hang {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            HttpResponse::ServiceUnavailable().finish()
        }
        Mood::Garbage => HttpResponse::Ok().content_type("text/html").body("<html>sign in first</html>"),
        Mood::Huge => protobuf.body(vec![0x0a; 32 << 20]),
        Mood::Partly => {
            let part = ExportLogsPartialSuccess { rejected_log_records: 1, error_message: "one too many".to_owned() };
            protobuf.body(ExportLogsServiceResponse { partial_success: Some(part) }.encode_to_vec())
        }
    }
}
