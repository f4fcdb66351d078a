//! What `/metrics` says.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use std::sync::Arc;
use std::time::Duration;

use super::instrument::LONGEST_LABEL;
use super::*;
use crate::code::Code;

const TOOK: Duration = Duration::from_millis(3);

/// Reads the text format strictly: the type of each family, and each series with its value.
fn read(text: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
    let mut types = BTreeMap::new();
    let mut series = BTreeMap::new();
    let is_name = |name: &str| {
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
            && !name.starts_with(|c: char| c.is_ascii_digit())
    };
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && ["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "two families: {line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(is_name(rest.split_once(' ').unwrap().0), "{line}");
        } else {
            let (id, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = id.split_once('{').unwrap_or((id, "}"));
            assert!(is_name(name), "{line}");
            let mut rest = labels.strip_suffix('}').unwrap();
            while !rest.is_empty() {
                let (label, quoted) = rest.split_once("=\"").unwrap();
                assert!(is_name(label), "{line}");
                let mut escaped = false;
                let end = quoted
                    .char_indices()
                    .find(|(_, c)| {
                        assert!(!escaped || ['\\', '"', 'n'].contains(c), "{line}");
                        let closing = *c == '"' && !escaped;
                        escaped = *c == '\\' && !escaped;
                        closing
                    })
                    .unwrap()
                    .0;
                rest = quoted.split_at(end + 1).1.trim_start_matches(',');
            }
            let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(types.contains_key(name) || types.contains_key(family.unwrap()), "{line}");
            assert!(series.insert(id.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
        }
    }
    (types, series)
}

/// Metrics of a service to which everything has happened.
fn exercised() -> Metrics {
    let metrics = Metrics::new().unwrap();
    metrics.exchange("ok", "acme-pypi", "github", TOOK);
    metrics.exchange("ok", "acme-pypi", "github", TOOK);
    metrics.exchange("unknown-issuer", NONE, NONE, TOOK);
    metrics.verification("ok", "acme-pypi", TOOK);
    metrics.verification_by_old_lists("acme-pypi");
    metrics.revocation("ok");
    metrics.response("/v1/token", 200);
    metrics.rate_limited("exchanges", "acme-pypi");
    metrics.client_limited();
    metrics.overloaded("exchanges");
    metrics.jwks_refresh("github", "ok");
    metrics.issuer_clock_ahead("github", Duration::ZERO);
    metrics.issuer_clock_ahead("github", Duration::from_secs(7));
    metrics.observe_issuers(|| {
        let down = IssuerReading { issuer: "gitlab".to_owned(), keys_at: None, stale: true };
        vec![IssuerReading { issuer: "github".to_owned(), keys_at: Some(1_800_000_000), stale: false }, down]
    });
    metrics.keyring_reload(false);
    metrics.keys_in_force(vec![KeyReading { kid: "k1".to_owned(), activate_at: 1_790_000_000 }]);
    metrics.certificate_in_force(1_810_000_000);
    metrics.certificate_reload(true);
    metrics.settings_reload(true);
    metrics.observe_store_epoch(|| Some(1_795_000_000));
    metrics.bundle_refresh("acme-pypi", "new");
    metrics.bundles_in_force(vec![BundleReading { registry: "acme-pypi".to_owned(), serial: 7, not_after: 8 }]);
    metrics.rules_in_force(rules(&["widgets", "gadgets"]));
    metrics.rule_matched("acme-pypi", "widgets");
    metrics.rule_matched("acme-pypi", "acme-pypi/one-of-its-own");
    metrics.shadow_disagreement("widgets-next");
    metrics.store_call("set-once", None, TOOK);
    metrics.store_call("set-once", Some("timeout"), TOOK);
    metrics.policy_reload("activated");
    metrics.policy_activated("9f86d081");
    metrics.policy_warned([("L015", 3), ("L017", 1)].into_iter());
    metrics.observe_audit_dropped(|| [("allow", 7), ("deny", 8), ("fault", 0)]);
    metrics.observe_audit_suppressed(|| 9);
    metrics.observe_audit_astray(|| 2);
    metrics.observe_audit_queue(|| (3, 4096));
    metrics.observe_exports(Arc::default());
    metrics
}

fn rules(names: &[&str]) -> impl Iterator<Item = (String, String)> {
    names.iter().map(|name| ("acme-pypi".to_owned(), (*name).to_owned()))
}

/// The labels of a series, but `le`.
fn labels(id: &str) -> BTreeSet<&str> {
    let (_, labels) = id.split_once('{').unwrap_or((id, ""));
    labels.split(',').filter_map(|label| Some(label.split_once('=')?.0)).filter(|label| *label != "le").collect()
}

#[test]
fn what_is_described_is_what_is_rendered() {
    let metrics = exercised();
    let (types, series) = read(&metrics.render().unwrap());
    let described: BTreeMap<_, _> =
        metrics.described().iter().map(|metric| (metric.name.clone(), metric.kind.as_str().to_owned())).collect();
    assert_eq!(described, types);
    assert_eq!(described.len(), metrics.described().len(), "a name is described twice");
    for metric in metrics.described() {
        let ends: &[&str] = if metric.kind == Kind::Histogram { &["_bucket", "_sum", "_count"] } else { &[""] };
        let names: BTreeSet<String> = ends.iter().map(|end| format!("{}{end}", metric.name)).collect();
        let of = |id: &&String| names.contains(id.split('{').next().unwrap());
        let found: BTreeSet<BTreeSet<&str>> = series.keys().filter(of).map(|id| labels(id)).collect();
        assert_eq!(found, BTreeSet::from([metric.labels.iter().copied().collect()]), "{}", metric.name);
        assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.help);
    }
}

#[test]
fn every_series_has_its_value() {
    let (_, series) = read(&exercised().render().unwrap());
    for (id, value) in [
        (r#"trustmint_exchanges_total{code="ok",registry="acme-pypi"}"#, 2.0),
        (r#"trustmint_exchanges_total{code="unknown-issuer",registry="none"}"#, 1.0),
        (r#"trustmint_issuer_exchanges_total{code="ok",issuer="github"}"#, 2.0),
        (r#"trustmint_issuer_exchanges_total{code="unknown-issuer",issuer="none"}"#, 1.0),
        (r#"trustmint_exchange_duration_seconds_count{registry="acme-pypi"}"#, 2.0),
        (r#"trustmint_exchange_duration_seconds_bucket{registry="acme-pypi",le="0.0025"}"#, 0.0),
        (r#"trustmint_exchange_duration_seconds_bucket{registry="acme-pypi",le="0.005"}"#, 2.0),
        (r#"trustmint_verifications_total{code="ok",registry="acme-pypi"}"#, 1.0),
        (r#"trustmint_revocations_total{code="ok"}"#, 1.0),
        (r#"trustmint_jwks_refreshes_total{issuer="github",result="ok"}"#, 1.0),
        (r#"trustmint_store_duration_seconds_count{operation="set-once"}"#, 2.0),
        (r#"trustmint_store_errors_total{operation="set-once",reason="timeout"}"#, 1.0),
        (r#"trustmint_policy_reloads_total{outcome="activated"}"#, 1.0),
        (r#"trustmint_policy_info{revision="9f86d081"}"#, 1.0),
        ("trustmint_policy_refused", 0.0),
        (r#"trustmint_policy_warnings{code="L015"}"#, 3.0),
        (r#"trustmint_audit_dropped_total{decision="allow"}"#, 7.0),
        (r#"trustmint_audit_dropped_total{decision="deny"}"#, 8.0),
        ("trustmint_audit_suppressed_total", 9.0),
        ("trustmint_audit_file_astray_total", 2.0),
        ("trustmint_audit_queue_depth", 3.0),
        ("trustmint_audit_queue_capacity", 4096.0),
        (r#"trustmint_otlp_exports_total{outcome="ok",signal="audit"}"#, 0.0),
        (r#"trustmint_otlp_dropped_total{signal="traces"}"#, 0.0),
        (r#"trustmint_overloaded_total{limit="exchanges"}"#, 1.0),
        (r#"trustmint_issuer_clock_ahead_seconds_bucket{issuer="github",le="0"}"#, 1.0),
        (r#"trustmint_issuer_clock_ahead_seconds_bucket{issuer="github",le="5"}"#, 1.0),
        (r#"trustmint_issuer_clock_ahead_seconds_bucket{issuer="github",le="10"}"#, 2.0),
        (r#"trustmint_issuer_keys_timestamp_seconds{issuer="github"}"#, 1_800_000_000.0),
        (r#"trustmint_issuer_keys_stale{issuer="github"}"#, 0.0),
        (r#"trustmint_issuer_keys_stale{issuer="gitlab"}"#, 1.0),
        (r#"trustmint_master_key_activation_timestamp_seconds{kid="k1"}"#, 1_790_000_000.0),
        ("trustmint_certificate_expiry_timestamp_seconds", 1_810_000_000.0),
        ("trustmint_certificate_refused", 1.0),
        ("trustmint_settings_refused", 1.0),
        (r#"trustmint_settings_reloads_total{outcome="refused"}"#, 1.0),
        ("trustmint_store_epoch_timestamp_seconds", 1_795_000_000.0),
        ("trustmint_metrics_overflowed", 0.0),
        (r#"trustmint_rule_matches_total{registry="acme-pypi",rule="widgets"}"#, 1.0),
        (r#"trustmint_rule_matches_total{registry="acme-pypi",rule="gadgets"}"#, 0.0),
        (r#"trustmint_rule_matches_total{registry="acme-pypi",rule="*"}"#, 1.0),
    ] {
        assert_eq!(series.get(id), Some(&value), "{id} in {series:#?}");
    }
    assert!(!series.contains_key(r#"trustmint_issuer_keys_timestamp_seconds{issuer="gitlab"}"#));
    let seconds: BTreeSet<&str> = series.keys().filter_map(|id| id.split_once("le=\"")).map(|(_, le)| le).collect();
    assert!(seconds.contains("0.0005\"}") && seconds.contains("5\"}"), "{seconds:?}");
}

#[test]
fn before_the_first_request_the_text_is_valid() {
    let (types, _) = read(&Metrics::new().unwrap().render().unwrap());
    assert!(types.contains_key("trustmint_build_info"));
}

#[test]
fn a_new_policy_replaces_the_old_ones_series() {
    let metrics = exercised();
    metrics.policy_activated("2c26b46b");
    metrics.policy_warned([("L017", 2)].into_iter());
    let (_, series) = read(&metrics.render().unwrap());
    let revisions: Vec<&str> =
        series.keys().filter(|id| id.starts_with("trustmint_policy_info")).map(String::as_str).collect();
    assert_eq!(revisions, [r#"trustmint_policy_info{revision="2c26b46b"}"#]);
    let warnings: Vec<(&str, f64)> = series
        .iter()
        .filter(|(id, _)| id.starts_with("trustmint_policy_warnings"))
        .map(|(id, value)| (id.as_str(), *value))
        .collect();
    assert_eq!(warnings, [(r#"trustmint_policy_warnings{code="L017"}"#, 2.0)]);
}

#[test]
fn a_refused_policy_shows_until_it_is_mended() {
    let metrics = exercised();
    for refused in [true, false] {
        metrics.policy_refused(refused);
        let line = format!("trustmint_policy_refused {}", u8::from(refused));
        assert!(metrics.render().unwrap().lines().any(|shown| shown == line), "{line}");
    }
}

/// The series of matches: by rule, how many.
fn matches(metrics: &Metrics) -> BTreeMap<String, f64> {
    let (_, series) = read(&metrics.render().unwrap());
    let of = |id: &str| {
        Some(id.strip_prefix("trustmint_rule_matches_total{")?.split("rule=").nth(1)?.replace(['"', '}'], ""))
    };
    series.iter().filter_map(|(id, count)| Some((of(id)?, *count))).collect()
}

fn counted(expected: &[(&str, f64)]) -> BTreeMap<String, f64> {
    expected.iter().map(|(rule, count)| ((*rule).to_owned(), *count)).collect()
}

#[test]
fn a_rule_that_never_matched_shows_and_one_that_is_gone_does_not() {
    let metrics = exercised();
    assert_eq!(matches(&metrics), counted(&[("widgets", 1.0), ("gadgets", 0.0), ("*", 1.0)]));
    metrics.rules_in_force(rules(&["widgets", "new"]));
    metrics.rule_matched("acme-pypi", "widgets");
    // Of a request that began under the policy before.
    metrics.rule_matched("acme-pypi", "gadgets");
    assert_eq!(matches(&metrics), counted(&[("widgets", 2.0), ("new", 0.0), ("*", 2.0)]));
    metrics.rules_in_force([("other".to_owned(), "widgets".to_owned())].into_iter());
    assert_eq!(matches(&metrics), counted(&[("widgets", 0.0), ("*", 2.0)]), "another rule of that name");
}

#[test]
fn more_rules_than_may_be_named_are_counted_by_registry() {
    let metrics = Metrics::new().unwrap();
    let many = |count: usize| (0..count).map(|number| ("acme-pypi".to_owned(), format!("r{number}")));
    metrics.rules_in_force(many(MOST_NAMED_RULES));
    metrics.rule_matched("acme-pypi", "r7");
    let named = matches(&metrics);
    assert_eq!((named.len(), named.get("r7")), (MOST_NAMED_RULES, Some(&1.0)));
    metrics.rules_in_force(many(MOST_NAMED_RULES + 1));
    metrics.rule_matched("acme-pypi", "r7");
    assert_eq!(matches(&metrics), counted(&[("*", 1.0)]));
}

#[test]
fn label_values_are_escaped_and_bounded() {
    let metrics = Metrics::new().unwrap();
    metrics.exchange("ok", "a\"b\\c", "github", TOOK);
    for number in 0..100 {
        metrics.exchange("ok", &format!("line\nfeed {number}"), "github", TOOK);
        metrics.exchange("ok", &format!("{}{number}", "x".repeat(LONGEST_LABEL)), "github", TOOK);
    }
    let (_, series) = read(&metrics.render().unwrap());
    let count =
        |registry: &str| series.get(&format!(r#"trustmint_exchanges_total{{code="ok",registry="{registry}"}}"#));
    assert_eq!(count(r#"a\"b\\c"#), Some(&1.0));
    assert_eq!(count("invalid"), Some(&200.0));
}

#[test]
fn even_unbounded_labels_make_a_bounded_number_of_series() {
    let metrics = Metrics::new().unwrap();
    for number in 0..5_000 {
        metrics.verification("ok", &number.to_string(), TOOK);
    }
    let (_, series) = read(&metrics.render().unwrap());
    let counted = series.iter().filter(|(id, _)| id.starts_with("trustmint_verifications_total"));
    let (count, sum) = counted.fold((0, 0.0), |(count, sum), (_, value)| (count + 1, sum + value));
    assert!(count <= 2_001, "{count}");
    assert!((sum - 5_000.0_f64).abs() < 0.5, "{sum}");
}

#[test]
fn strangers_cannot_use_up_the_series_of_exchanges() {
    let metrics = Metrics::new().unwrap();
    let codes: Vec<&'static str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    // Every code, at each of many registries in the name of each of many issuers: a hundred times what a counter by
    // all three could hold.
    let (registries, issuers) = (60, 60);
    for (number, code) in (0..registries * issuers).flat_map(|number| codes.iter().map(move |code| (number, *code))) {
        metrics.exchange(code, &format!("r{}", number % registries), &format!("i{}", number / registries), TOOK);
    }
    metrics.exchange("ok", "one-more", "another", TOOK);
    let (_, series) = read(&metrics.render().unwrap());
    for id in [
        r#"trustmint_exchanges_total{code="ok",registry="one-more"}"#,
        r#"trustmint_issuer_exchanges_total{code="ok",issuer="another"}"#,
    ] {
        assert_eq!(series.get(id), Some(&1.0), "{id}");
    }
    let every = f64::from(issuers);
    for code in codes {
        let id = format!(r#"trustmint_exchanges_total{{code="{code}",registry="r59"}}"#);
        assert_eq!(series.get(&id), Some(&every), "{id}");
    }
    assert_eq!(series.get("trustmint_metrics_overflowed"), Some(&0.0));
}

#[test]
fn a_metric_beyond_its_limit_shows_at_once() {
    let metrics = Metrics::new().unwrap();
    let overflowed = || read(&metrics.render().unwrap()).1.get("trustmint_metrics_overflowed").copied();
    for number in 0..1_900 {
        metrics.verification("ok", &number.to_string(), TOOK);
    }
    assert_eq!(overflowed(), Some(0.0));
    for number in 0..3_000 {
        metrics.verification("ok", &number.to_string(), TOOK);
    }
    // The counter and the histogram of their times.
    assert_eq!((overflowed(), overflowed()), (Some(2.0), Some(2.0)));
    for number in 0..20_000 {
        metrics.exchange("ok", &number.to_string(), "github", TOOK);
    }
    assert_eq!(overflowed(), Some(4.0));
}

#[test]
fn two_sets_of_metrics_do_not_meet() {
    let (_, other) = (exercised(), Metrics::new().unwrap());
    assert!(!other.render().unwrap().contains("trustmint_exchanges_total"));
}
