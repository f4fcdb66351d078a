//! Settings from files and the environment: how layers lie over each other, and what every broken one is told.
//!
//! `tests/data/settings/broken` holds one case a file: `NAME.yaml`, the variables of `NAME.env` if there are any, and
//! `NAME.expected` with exactly the faults to be reported, one a line.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use trustmint::config::AuditTarget;
use trustmint::config::DEFAULTS;
use trustmint::config::Settings;
use trustmint::policy::yaml::Faults;
use trustmint::secret::hex;
use trustmint::state::Topology;
use trustmint::telemetry::logs::LogFormat;

const BROKEN: &str = "tests/data/settings/broken";

#[test]
fn every_broken_settings_file_is_told_each_fault_with_place_and_remedy() {
    let mut cases: Vec<PathBuf> = fs::read_dir(BROKEN).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    cases.sort();
    assert!(cases.len() >= 69, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let environment = fs::read_to_string(case.with_extension("env")).unwrap_or_default();
        let environment = environment.lines().map(|line| line.split_once('=').unwrap());
        let told = match Settings::load(std::slice::from_ref(&case), pairs(environment)) {
            Ok(_) => "no fault\n".to_owned(),
            Err(faults) => format!("{faults}\n").replace(&format!("{BROKEN}/"), ""),
        };
        let expected = fs::read_to_string(case.with_extension("expected")).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{}\n expected:\n{expected} told:\n{told}", case.display()));
        }
        // Each line names a place, and a way out.
        for line in told.lines() {
            assert!(line.contains(" — ") || line.contains("must be "), "{}: no remedy: {line}", case.display());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> impl Iterator<Item = (String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Settings from the texts of files, in order, and variables.
fn load(files: &[&str], environment: &[(&str, &str)]) -> Result<Settings, Faults> {
    let folder = tempfile::tempdir().unwrap();
    let write = |(index, text): (usize, &&str)| {
        let path = folder.path().join(format!("{index}.yaml"));
        fs::write(&path, text).unwrap();
        path
    };
    let files: Vec<PathBuf> = files.iter().enumerate().map(write).collect();
    Settings::load(&files, pairs(environment.iter().copied()))
}

#[test]
fn the_defaults_are_safe_and_complete() {
    let settings = load(&[], &[]).unwrap();
    assert!(settings.listen.address.ip().is_loopback());
    assert!(settings.operations.address.ip().is_loopback());
    assert_eq!(settings.listen.tls, None);
    assert_eq!(settings.listen.trusted_proxies, []);
    assert_eq!(settings.policy.directory, Path::new("policy"));
    assert_eq!(settings.policy.poll, Duration::from_secs(5));
    assert_eq!(settings.keys.directory, Path::new("keys"));
    assert_eq!(settings.state.redis, None);
    assert_eq!(settings.state.capacity, 256 << 20);
    assert_eq!(settings.audit.target, AuditTarget::Stdout);
    assert_eq!((settings.telemetry.log, settings.telemetry.level.as_str()), (LogFormat::Text, "info"));
    assert_eq!(settings.limits.workers, None);
    assert_eq!(settings.limits.read_timeout, Duration::from_secs(5));
    assert_eq!(settings.limits.refusals_per_client, Some(600));
}

#[test]
fn the_shipped_file_sets_every_key_to_its_default() {
    // The file is the defaults, so reading it as a file changes only where its directories start.
    let shipped = Settings::load(&["config/trustmint.yaml".into()], pairs([])).unwrap();
    let keys =
        |yaml: &str| -> Vec<String> { yaml.lines().map(|line| line.split(": ").next().unwrap().to_owned()).collect() };
    assert_eq!(keys(shipped.to_yaml_redacted()), keys(load(&[], &[]).unwrap().to_yaml_redacted()));
    assert!(!shipped.to_yaml_redacted().contains("# default"));
    assert_eq!(shipped.policy.directory, Path::new("config/policy"));
    // Each key has a line of its own in it, with its name and a value.
    for line in shipped.to_yaml_redacted().lines() {
        let key = line.split(':').next().unwrap();
        assert!(DEFAULTS.lines().any(|line| line.starts_with(&format!("{key}:"))), "{key}");
    }
}

#[test]
fn later_layers_win_key_by_key() {
    let settings = load(
        &[
            "listen: {address: 127.0.0.1:1001}\ntelemetry: {log: json, level: debug}\n",
            "listen: {trusted_proxies: [10.0.0.0/8, 127.0.0.1]}\ntelemetry: {level: error}\n",
        ],
        &[
            ("TRUSTMINT_LISTEN__ADDRESS", "0.0.0.0:1003"),
            ("TRUSTMINT_LIMITS__WORKERS", "3"),
            ("TRUSTMINT_LIMITS__SHUTDOWN_TIMEOUT", "2m"),
            ("TRUSTMINT_LISTEN__TLS__CERTIFICATE_FILE", ""),
        ],
    )
    .unwrap();
    assert_eq!(settings.listen.address.to_string(), "0.0.0.0:1003");
    let proxies: Vec<String> = settings.listen.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "127.0.0.1/32"]);
    assert_eq!((settings.telemetry.log, settings.telemetry.level.as_str()), (LogFormat::Json, "error"));
    assert_eq!(settings.limits.workers, Some(3));
    assert_eq!(settings.limits.shutdown_timeout, Duration::from_secs(120));
    assert_eq!(settings.listen.tls, None);
}

#[test]
fn a_list_is_replaced_and_null_unsets() {
    let settings = load(
        &[
            "listen: {trusted_proxies: [10.0.0.0/8]}\naudit: {sink: file, file: /a.jsonl}\n",
            "listen: {trusted_proxies: []}\naudit: {sink: stdout, file: null}\n",
        ],
        &[],
    )
    .unwrap();
    assert_eq!(settings.listen.trusted_proxies, []);
    assert_eq!(settings.audit.target, AuditTarget::Stdout);
}

#[test]
fn a_relative_path_starts_at_the_folder_of_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trustmint.yaml");
    fs::write(&file, "policy: {directory: p}\nkeys: {directory: /etc/k}\naudit: {sink: file, file: a.jsonl}\n")
        .unwrap();
    let settings = Settings::load(&[file], pairs([("TRUSTMINT_AUDIT__FILE", "b.jsonl")])).unwrap();
    assert_eq!(settings.policy.directory, folder.path().join("p"));
    assert_eq!(settings.keys.directory, Path::new("/etc/k"));
    assert_eq!(settings.audit.target, AuditTarget::File("b.jsonl".into()));
}

#[test]
fn a_file_of_comments_and_variables_of_others_set_nothing() {
    let others = [
        ("TRUSTMINT_SERVICE_HOST", "10.0.0.1"),
        ("TRUSTMINT_PORT", "tcp://10.0.0.1:80"),
        ("TRUSTMINT_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("trustmint_listen__address", "x"),
        ("LISTEN__ADDRESS", "x"),
    ];
    assert_eq!(load(&["# nothing\n", ""], &others).unwrap(), load(&[], &[]).unwrap());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("binary.yaml");
    fs::write(&binary, b"listen: \xff\xfe").unwrap();
    let large = folder.path().join("large.yaml");
    fs::write(&large, "#".repeat(70_000)).unwrap();
    let files = [folder.path().join("missing.yaml"), folder.path().to_owned(), binary, large];
    let faults = Settings::load(&files, pairs([])).unwrap_err().to_string();
    let faults = faults.replace(&folder.path().display().to_string(), "folder");
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        [
            "folder: cannot be read: Is a directory (os error 21) — name a file that the service's user can read",
            "folder/binary.yaml: cannot be read: stream did not contain valid UTF-8 — save it as UTF-8 text",
            "folder/large.yaml: is larger than 65536 bytes — split it into several files",
            "folder/missing.yaml: cannot be read: No such file or directory (os error 2) — name a file that the service's user can read",
        ]
    );
}

#[test]
fn the_resolved_settings_say_where_each_value_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mine.yaml");
    fs::write(&file, "telemetry:\n  log: json\n").unwrap();
    let settings = Settings::load(&[file], pairs([("TRUSTMINT_LIMITS__WORKERS", "2")])).unwrap();
    let yaml = settings.to_yaml_redacted().replace(&folder.path().display().to_string(), "folder");
    assert!(yaml.contains("\n  log: json  # folder/mine.yaml:2:8\n"), "{yaml}");
    assert!(yaml.contains("\n  workers: 2  # environment variable TRUSTMINT_LIMITS__WORKERS\n"), "{yaml}");
    assert!(yaml.contains("\n  address: \"127.0.0.1:8080\"  # default\n"), "{yaml}");
    assert!(yaml.contains("\n  read_timeout: 5s  # default\n"), "{yaml}");
    // It is settings again, with the same meaning.
    let again = load(&[settings.to_yaml_redacted()], &[]).unwrap();
    assert_eq!((again.telemetry, again.limits, again.listen), (settings.telemetry, settings.limits, settings.listen));
}

#[test]
fn operators_are_known_by_digests_of_which_only_the_beginning_is_shown() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let text = format!("operations: {{callers: {{oncall: {{key_sha256: \"{digest}\"}}}}}}\n");
    let settings = load(&[&text], &[]).unwrap();
    let [oncall] = settings.operations.callers.as_slice() else { panic!("{:?}", settings.operations) };
    assert_eq!((oncall.name.as_str(), hex(&oncall.key_sha256).as_str()), ("oncall", digest));
    let (yaml, json) = (settings.to_yaml_redacted(), settings.to_json().to_string());
    assert!(yaml.contains("\n  callers: {oncall: {key_sha256: \"ba7816bf…\"}}  # "), "{yaml}");
    assert!(yaml.contains("0.yaml:1:23"), "{yaml}");
    assert!(json.contains("\"ba7816bf…\""), "{json}");
    assert!(!yaml.contains(&digest[..9]) && !json.contains(&digest[..9]));
    assert_eq!(load(&[], &[]).unwrap().operations.callers, []);
}

#[test]
fn a_later_layer_names_all_operators() {
    let digit = |digit: &str| digit.repeat(64);
    let first = format!("operations: {{callers: {{a: {{key_sha256: \"{}\"}}}}}}\n", digit("a"));
    let names = |environment: &str| -> Vec<String> {
        let settings = load(&[&first], &[("TRUSTMINT_OPERATIONS__CALLERS", environment)]).unwrap();
        settings.operations.callers.iter().map(|caller| caller.name.clone()).collect()
    };
    assert_eq!(names(&format!("{{b.c: {{key_sha256: \"{}\"}}}}", digit("b"))), ["b.c"]);
    assert!(names("{}").is_empty(), "whoever is no longer named may no longer ask");
}

#[test]
fn the_store_in_redis_is_one_server_or_sentinels_or_a_cluster() {
    let redis = |text: &str| {
        let settings = load(&[&format!("state:\n  store: redis\n  redis: {text}\n")], &[]).unwrap();
        // What is shown is settings again, with the same meaning.
        let again = load(&[settings.to_yaml_redacted()], &[]).unwrap();
        assert_eq!(again.state, settings.state);
        settings.state.redis.unwrap()
    };
    let one = redis("{url: \"redis://127.0.0.1:6379\"}");
    assert_eq!((&one.topology, one.endpoints.len()), (&Topology::Single, 1));
    assert_eq!((one.prefix.as_str(), one.timeout), ("trustmint:", Duration::from_millis(500)));
    assert_eq!((one.username, one.password_file, one.ca_file, one.wait_for_replicas), (None, None, None, 0));
    let sentinels =
        redis("{sentinel: {name: main, urls: [\"rediss://a:26379\", \"rediss://b:26379\"]}, timeout: 150ms}");
    assert_eq!((sentinels.topology, sentinels.endpoints.len()), (Topology::Sentinel("main".to_owned()), 2));
    assert_eq!(sentinels.timeout, Duration::from_millis(150));
    let cluster = redis("{cluster: [\"valkeys://a:7000\"], username: t, password_file: /p, wait_for_replicas: 1}");
    assert_eq!((cluster.topology, cluster.wait_for_replicas), (Topology::Cluster, 1));
    assert_eq!(cluster.password_file, Some("/p".into()));
}

#[test]
fn one_file_may_serve_both_stores_if_it_says_nothing_of_the_other() {
    let file = "state: {store: memory, redis: {url: null, cluster: [], prefix: \"trustmint:\"}}\n";
    assert_eq!(load(&[file], &[]).unwrap().state.redis, None);
    let variables =
        [("TRUSTMINT_STATE__STORE", "redis"), ("TRUSTMINT_STATE__REDIS__URL", "rediss://redis.acme.example")];
    let redis = load(&[file], &variables).unwrap().state.redis.unwrap();
    assert!(redis.endpoints[0].tls());
}

#[test]
fn the_page_about_redis_has_every_key_of_it_and_settings_that_load() {
    let page = fs::read_to_string("docs/redis.md").unwrap();
    let example = page.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let redis = load(&[example], &[]).unwrap().state.redis.unwrap();
    assert!(redis.endpoints[0].tls() && redis.ca_file.is_some() && redis.password_file.is_some());
    let (_, keys) = DEFAULTS.split_once("\n  redis:\n").unwrap();
    let keys = keys.lines().take_while(|line| line.starts_with("    ")).filter_map(|line| line.trim().split_once(':'));
    let keys: Vec<&str> = keys.map(|(key, _)| key).filter(|key| !key.starts_with('#')).collect();
    assert!(keys.len() >= 11, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("`{key}`")), "docs/redis.md does not name `{key}`");
    }
}
