//! A real OpenTelemetry Collector reads what the service sends.

use std::fs;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use super::Running;
use super::World;
use super::until;
use crate::support::front::Process;
use crate::support::front::free_address;
use crate::support::front::tool;

const CONFIG: &str = "
receivers: {otlp: {protocols: {http: {endpoint: 'ADDRESS'}}}}
exporters: {file: {path: 'FILE', flush_interval: 100ms}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
    metrics: {receivers: [otlp], exporters: [file]}
    logs: {receivers: [otlp], exporters: [file]}
";

#[actix_web::test]
async fn a_real_collector_takes_every_signal() {
    let world = World::new();
    let address = free_address();
    let file = world.home.path().join("received.jsonl");
    let config = CONFIG.replace("ADDRESS", &address.to_string()).replace("FILE", &file.display().to_string());
    world.write("collector.yaml", &config);
    let mut command = Command::new(tool("TRUSTMINT_TEST_COLLECTOR"));
    command.arg(format!("--config={}", world.home.path().join("collector.yaml").display()));
    let (_collector, _) =
        Process::start(&mut command, |child| Box::new(child.stderr.take().unwrap()), "Everything is ready");

    let telemetry = format!("{{otlp: {{endpoint: \"http://{address}\", interval: 1s}}}}");
    let service = Running::start(&world, &telemetry, "{sink: otlp}");
    let minted = service.mint(&world.id_token(&json!({})), None).await;
    assert_eq!(minted.0, 200, "{}", minted.1);
    for signal in ["traces", "metrics", "logs", "audit"] {
        service.counts("trustmint_otlp_exports_total", &[&format!("signal=\"{signal}\""), "outcome=\"ok\""], 1).await;
    }
    assert_eq!(service.metric("trustmint_otlp_dropped_total", &[]).await, 0);
    service.stop().await;

    let read = || -> Vec<Value> {
        let text = fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let all = |path: [&str; 3]| -> Vec<Value> {
        let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        let resources: Vec<Value> = read().iter().flat_map(|message| list(message, path[0])).collect();
        resources
            .iter()
            .flat_map(|it| list(it, path[1]))
            .collect::<Vec<_>>()
            .iter()
            .flat_map(|it| list(it, path[2]))
            .collect()
    };
    let spans = || all(["resourceSpans", "scopeSpans", "spans"]);
    let records = || all(["resourceLogs", "scopeLogs", "logRecords"]);
    let metrics = || all(["resourceMetrics", "scopeMetrics", "metrics"]);
    until("all is written", || spans().len() >= 8 && records().len() >= 2 && !metrics().is_empty()).await;
    let trace = minted.2.replace('-', "");
    let names: Vec<Value> =
        spans().iter().filter(|span| span["traceId"] == json!(trace)).map(|span| span["name"].clone()).collect();
    let expected = ["POST /_/oidc/mint-token", "parse", "key", "signature", "evaluate", "prepare", "claim", "mint"];
    assert_eq!(names, expected);
    let event = records().into_iter().find(|record| record["eventName"] == "trustmint.audit").unwrap();
    let event: Value = serde_json::from_str(event["body"]["stringValue"].as_str().unwrap()).unwrap();
    assert_eq!((&event["request_id"], &event["decision"]), (&json!(minted.2), &json!("allow")));
    assert!(records().iter().any(|record| record["body"]["stringValue"].as_str().unwrap().contains("stopping")));
    let counted = metrics().into_iter().rfind(|metric| metric["name"] == "trustmint_exchanges_total").unwrap();
    assert_eq!(counted["sum"]["dataPoints"][0]["asDouble"].as_f64(), Some(1.0), "{counted}");
    assert_eq!((&counted["sum"]["isMonotonic"], &counted["sum"]["aggregationTemporality"]), (&json!(true), &json!(2)));
}
