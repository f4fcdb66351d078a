//! What `/metrics` says.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::*;

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

fn exercised() -> Metrics {
    let metrics = Metrics::new().unwrap();
    metrics.exchange("ok", "acme-pypi", "github", TOOK);
    metrics.exchange("ok", "acme-pypi", "github", TOOK);
    metrics.exchange("unknown-issuer", NONE, NONE, TOOK);
    metrics.verification("ok", "acme-pypi", TOOK);
    metrics.revocation("ok");
    metrics.jwks_refresh("github", "ok");
    metrics.response("/v1/token", 200);
    metrics.store_call("set-once", None, TOOK);
    metrics.store_call("set-once", Some("timeout"), TOOK);
    metrics.policy_reload("activated");
    metrics.policy_activated("9f86d081");
    metrics.policy_warned([("L015", 3), ("L017", 1)].into_iter());
    metrics.observe_audit_dropped(|| 7);
    metrics
}

#[test]
fn every_family_has_its_name_type_and_labels() {
    let (types, series) = read(&exercised().render().unwrap());
    let expected = [
        ("trustmint_audit_dropped_total", "counter"),
        ("trustmint_build_info", "gauge"),
        ("trustmint_exchange_duration_seconds", "histogram"),
        ("trustmint_exchanges_total", "counter"),
        ("trustmint_http_responses_total", "counter"),
        ("trustmint_jwks_refreshes_total", "counter"),
        ("trustmint_keyring_refused", "gauge"),
        ("trustmint_policy_info", "gauge"),
        ("trustmint_policy_refused", "gauge"),
        ("trustmint_policy_reloads_total", "counter"),
        ("trustmint_policy_warnings", "gauge"),
        ("trustmint_revocations_total", "counter"),
        ("trustmint_store_duration_seconds", "histogram"),
        ("trustmint_store_errors_total", "counter"),
        ("trustmint_verification_duration_seconds", "histogram"),
        ("trustmint_verifications_total", "counter"),
    ];
    let found: Vec<(&str, &str)> = types.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    assert_eq!(found, expected);
    for (id, value) in [
        (r#"trustmint_exchanges_total{code="ok",issuer="github",registry="acme-pypi"}"#, 2.0),
        (r#"trustmint_exchanges_total{code="unknown-issuer",issuer="none",registry="none"}"#, 1.0),
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
        ("trustmint_audit_dropped_total", 7.0),
    ] {
        assert_eq!(series.get(id), Some(&value), "{id} in {series:#?}");
    }
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

#[test]
fn label_values_are_escaped_and_bounded() {
    let metrics = Metrics::new().unwrap();
    metrics.exchange("ok", "a\"b\\c", "github", TOOK);
    for number in 0..100 {
        metrics.exchange("ok", &format!("line\nfeed {number}"), "github", TOOK);
        metrics.exchange("ok", &format!("{}{number}", "x".repeat(LONGEST_LABEL)), "github", TOOK);
    }
    let (_, series) = read(&metrics.render().unwrap());
    let count = |registry: &str| {
        series.get(&format!(r#"trustmint_exchanges_total{{code="ok",issuer="github",registry="{registry}"}}"#))
    };
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
fn two_sets_of_metrics_do_not_meet() {
    let (_, other) = (exercised(), Metrics::new().unwrap());
    assert!(!other.render().unwrap().contains("trustmint_exchanges_total"));
}
