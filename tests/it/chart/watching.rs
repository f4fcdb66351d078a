//! Alerts and dashboard: each asks for series that the binary exports, by labels and codes that exist.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use serde_json::Value;
use trustmint::code::Code;
use trustmint::telemetry::Metrics;
use trustmint::telemetry::metrics::Kind;

use super::all;
use super::helms;
use super::list;
use super::named;
use super::objects;
use super::of_kind;
use super::read;
use super::run;
use super::template_as;
use super::text;
use super::tool;

/// Labels that Prometheus adds.
const OF_PROMETHEUS: [&str; 4] = ["job", "namespace", "instance", "le"];

/// Every series that the binary can export, with its labels.
fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let metrics = Metrics::new().unwrap();
    let mut series = BTreeMap::from([("up".to_owned(), BTreeSet::new())]);
    for metric in metrics.described() {
        let ends: &[&str] = if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        let labels: BTreeSet<String> = metric.labels.iter().map(|label| (*label).to_owned()).collect();
        series.extend(ends.iter().map(|end| (format!("{}{end}", metric.name), labels.clone())));
    }
    series
}

/// The selectors of an expression: a series with its matchers.
fn selectors(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(open) = rest.find('{') {
        let before = &rest[..open];
        let start = before.rfind(|c| !is_name(c)).map_or(0, |at| at + 1);
        let mut matchers = Vec::new();
        rest = &rest[open + 1..];
        while !rest.starts_with('}') {
            let (label, quoted) = rest.split_once('"').unwrap();
            let (value, after) = quoted.split_once('"').unwrap();
            let label = label.trim_start_matches([',', ' ']).trim_end_matches(['=', '~', '!']);
            matchers.push((label.to_owned(), value.to_owned()));
            rest = after;
        }
        found.push((before[start..].to_owned(), matchers));
    }
    found
}

/// The labels by which an expression adds up.
fn grouped(expression: &str) -> Vec<String> {
    let by = expression.split("by (").skip(1).map(|after| after.split(')').next().unwrap());
    by.flat_map(|labels| labels.split(',').map(|label| label.trim().to_owned())).collect()
}

/// What an expression asks for that does not exist.
fn faults(expression: &str) -> Vec<String> {
    let exported = exported();
    let mut faults = Vec::new();
    let found = selectors(expression);
    let named = expression.matches("trustmint_").count() + expression.matches("up{").count();
    if named != found.len() || named == 0 {
        faults.push(format!("a series without a selector would be that of every release: {expression}"));
    }
    let mut labels: BTreeSet<String> = OF_PROMETHEUS.map(str::to_owned).into();
    for (name, matchers) in found {
        let Some(known) = exported.get(&name) else {
            faults.push(format!("there is no series {name}"));
            continue;
        };
        labels.extend(known.iter().cloned());
        for (label, value) in matchers {
            if !known.contains(&label) && !OF_PROMETHEUS.contains(&label.as_str()) {
                faults.push(format!("{name} has no label {label}"));
            }
            let is_code = |value: &str| value == "ok" || Code::ALL.iter().any(|code| code.as_str() == value);
            if label == "code" && name != "trustmint_policy_warnings" {
                faults.extend(
                    value.split('|').filter(|code| !is_code(code)).map(|code| format!("there is no code {code}")),
                );
            }
        }
    }
    faults.extend(
        grouped(expression)
            .into_iter()
            .filter(|by| !labels.contains(by))
            .map(|by| format!("nothing has a label {by}: {expression}")),
    );
    faults
}

fn rules(objects: &[Value]) -> &[Value] {
    list(&of_kind(objects, "PrometheusRule")[0]["spec"]["groups"][0]["rules"])
}

#[test]
fn every_alert_asks_for_series_that_exist() {
    let objects = objects("redis", &["--set", "prometheusRule.enabled=true"]);
    let rules = rules(&objects);
    assert!(rules.len() >= 30, "{}", rules.len());
    let mut names = BTreeSet::new();
    for rule in rules {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "twice: {name}");
        assert_eq!(faults(rule["expr"].as_str().unwrap()), Vec::<String>::new(), "{name}");
        assert!(["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()), "{name}");
        let summary = rule["annotations"]["summary"].as_str().unwrap();
        let expression = rule["expr"].as_str().unwrap();
        for label in summary.split("$labels.").skip(1).map(|after| after.split([' ', '}']).next().unwrap()) {
            let kept = grouped(expression).iter().any(|by| by == label)
                || (label == "instance" && expression.starts_with("up{"));
            assert!(kept, "{name}: {label} is not kept");
        }
        assert_eq!(rule["annotations"]["runbook_url"], Value::Null, "{name}: nobody has said where the runbooks are");
        for (series, matchers) in selectors(expression) {
            let of_release =
                [("job".to_owned(), "trial-trustmint".to_owned()), ("namespace".to_owned(), "acme".to_owned())];
            assert_eq!(matchers[..2], of_release, "{name}: {series} is that of every release");
        }
    }
}

#[test]
fn an_expression_that_asks_for_what_is_not_there_is_seen() {
    for (wrong, words) in [
        ("trustmint_exchange_total{job=\"a\"} > 0", "no series"),
        ("sum(trustmint_exchanges_total{rule=\"a\"})", "no label rule"),
        ("sum by (rule) (trustmint_exchanges_total{job=\"a\"})", "nothing has a label rule"),
        ("trustmint_exchanges_total{code=~\"ok|stat-lost\"}", "no code stat-lost"),
        ("trustmint_exchanges_total > 0", "without a selector"),
        ("up{job=\"a\"} + trustmint_policy_refused", "without a selector"),
    ] {
        let found = faults(wrong);
        assert!(found.iter().any(|fault| fault.contains(words)), "{wrong}: {found:?}");
    }
}

#[test]
fn values_choose_alerts_their_labels_and_their_runbooks() {
    let (_, watched) = all().iter().find(|(set, _)| set == "watched").unwrap();
    let rules = rules(watched);
    let has = |name: &str| rules.iter().any(|rule| rule["alert"] == name);
    assert!(has("TrustmintAbsent") && !has("TrustmintRateLimited") && has("AcmeQuiet"));
    for rule in rules.iter().filter(|rule| rule["alert"] != "AcmeQuiet") {
        assert_eq!(rule["labels"]["team"], "packages");
        let runbook = rule["alert"].as_str().unwrap().to_lowercase();
        assert_eq!(
            rule["annotations"]["runbook_url"],
            format!("https://wiki.acme.example/trustmint#{runbook}"),
            "{runbook}"
        );
    }
    let (_, other) = all().iter().find(|(set, _)| set == "pod-monitor").unwrap();
    for rule in super::watching::rules(other) {
        assert!(rule["expr"].as_str().unwrap().contains("{job=\"acme/trustmint\""), "{rule}");
        assert!(!rule["expr"].as_str().unwrap().contains("job=\"trustmint\""), "{rule}");
    }
}

#[test]
fn alerts_of_two_releases_are_two() {
    let [helm, _] = helms();
    let labels = |release: &str, namespace: &str| {
        let more = ["--namespace", namespace, "--set", "prometheusRule.enabled=true"];
        let objects = read(&text(template_as(release, &helm, "redis", &more)), &[]);
        let alerts = rules(&objects).iter().map(|rule| format!("{} {}", rule["alert"], rule["labels"]));
        alerts.collect::<BTreeSet<String>>()
    };
    let (here, there, beside) = (labels("trial", "acme"), labels("trial", "staging"), labels("second", "acme"));
    assert!(here.is_disjoint(&there) && here.is_disjoint(&beside), "Alertmanager would take one for the other");
    assert_eq!(here, labels("trial", "acme"));
    // What somebody sets wins.
    let own = objects("redis", &["--set", "prometheusRule.enabled=true,prometheusRule.alertLabels.namespace=other"]);
    assert!(rules(&own).iter().all(|rule| rule["labels"]["namespace"] == "other"));
}

#[test]
fn the_prober_is_watched_where_there_is_one() {
    let of = |more: &str| {
        let objects = objects("redis", &["--set", more]);
        rules(&objects).iter().find(|rule| rule["alert"] == "TrustmintProberFailing").cloned()
    };
    assert!(of("prometheusRule.enabled=true").is_none());
    let rule = of("prometheusRule.enabled=true,prober.enabled=true").unwrap();
    let expression = rule["expr"].as_str().unwrap();
    let selector = "{cronjob=\"trial-trustmint-prober\",namespace=\"acme\"}";
    assert_eq!(expression.matches(selector).count(), expression.matches('{').count(), "{expression}");
}

#[test]
fn every_panel_of_the_dashboard_asks_for_series_that_exist_and_every_series_has_a_panel() {
    let (_, watched) = all().iter().find(|(set, _)| set == "watched").unwrap();
    let dashboard = named(watched, "ConfigMap", "-dashboard");
    assert_eq!(dashboard["metadata"]["labels"]["grafana_dashboard"], "1");
    let text = dashboard["data"]["trial-trustmint.json"].as_str().unwrap();
    let dashboard: Value = serde_json::from_str(text).unwrap();
    let panels: Vec<&Value> = list(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 20);
    for panel in &panels {
        for target in list(&panel["targets"]) {
            assert_eq!(faults(target["expr"].as_str().unwrap()), Vec::<String>::new(), "{}", panel["title"]);
        }
    }
    let ids: BTreeSet<u64> = list(&dashboard["panels"]).iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), list(&dashboard["panels"]).len());
    for series in exported().keys() {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| series.strip_suffix(end)).unwrap_or(series);
        assert!(text.contains(family), "no panel shows {family}");
    }
}

#[test]
fn both_monitors_read_the_operations_port_under_one_name() {
    for (set, kind, endpoints) in
        [("watched", "ServiceMonitor", "endpoints"), ("pod-monitor", "PodMonitor", "podMetricsEndpoints")]
    {
        let (_, objects) = all().iter().find(|(name, _)| name == set).unwrap();
        let monitor = of_kind(objects, kind)[0];
        let endpoint = &monitor["spec"][endpoints][0];
        assert_eq!((&endpoint["port"], &endpoint["path"]), (&"operations".into(), &"/metrics".into()), "{set}");
        assert_eq!(endpoint["relabelings"][0]["replacement"], "trial-trustmint", "{set}");
    }
    let (_, objects) = all().iter().find(|(name, _)| name == "watched").unwrap();
    let wanted = of_kind(objects, "ServiceMonitor")[0]["spec"]["selector"]["matchLabels"].as_object().unwrap();
    let service = named(objects, "Service", "-operations");
    assert!(wanted.iter().all(|(name, value)| service["metadata"]["labels"][name] == *value));
    let public = named(objects, "Service", "trial-trustmint");
    assert!(!wanted.iter().all(|(name, value)| public["metadata"]["labels"][name] == *value));
}

#[test]
fn objects_of_the_prometheus_operator_are_made_by_themselves_where_the_cluster_knows_them() {
    let nearby = "networkPolicy.operationsFrom[0].podSelector.matchLabels.app=prometheus";
    let auto = ["--set", "serviceMonitor.enabled=auto,prometheusRule.enabled=auto", "--set", nearby];
    let count = |more: &[&str]| {
        let objects = objects("redis", &[&auto, more].concat());
        ["ServiceMonitor", "PrometheusRule"].map(|kind| of_kind(&objects, kind).len())
    };
    assert_eq!(count(&[]), [0, 0]);
    let known = "monitoring.coreos.com/v1/ServiceMonitor";
    assert_eq!(count(&["--api-versions", known]), [1, 0]);
    assert_eq!(count(&["--api-versions", known, "--api-versions", "monitoring.coreos.com/v1/PrometheusRule"]), [1, 1]);
}

#[test]
fn the_alerts_are_a_file_of_prometheus_own_form() {
    let alerts = fs::read_to_string("charts/trustmint/files/alerts.yaml").unwrap();
    let selectors = alerts.matches("{job=\"trustmint\"").count();
    assert_eq!(
        selectors,
        alerts.matches("trustmint_").count() + alerts.matches("up{").count(),
        "each asks for the job"
    );
}

#[test]
fn each_alert_fires_when_it_is_provoked_and_no_other_does() {
    let promtool = tool("TRUSTMINT_TEST_PROMTOOL");
    let tests = "tests/chart/alerts.test.yaml";
    text(run(Command::new(&promtool).args(["check", "rules", "charts/trustmint/files/alerts.yaml"])));
    let output = run(Command::new(&promtool).args(["test", "rules", tests]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (alerts, tests) =
        (fs::read_to_string("charts/trustmint/files/alerts.yaml").unwrap(), fs::read_to_string(tests).unwrap());
    for alert in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "nothing provokes {alert}");
    }
}
