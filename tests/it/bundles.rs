//! A registry's own rules, at the front door: how they come, and what they may say. They are confined to the registry, and a
//! bad bundle takes no more than itself out of service.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::support::Service;
use crate::support::bundles::BUNDLE;
use crate::support::bundles::Bench;
use crate::support::bundles::GADGETS;
use crate::support::bundles::HOUR;
use crate::support::bundles::MINUTE;
use crate::support::bundles::Servers;
use crate::support::bundles::TOOLS_BUNDLE;
use crate::support::bundles::Text;
use crate::support::bundles::directory;
use crate::support::bundles::directory_text;
use crate::support::bundles::usual;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::policy;
use crate::support::service::policy_of;

#[actix_web::test]
async fn a_registrys_own_rules_are_fetched_and_used() {
    let bench = Bench::start().await;
    assert_eq!(bench.exchange().await, "bundle-missing", "not yet");
    let directory = bench.service.app.policy().revision().to_owned();
    bench.serve(&Text::new(&bench.service, 7)).await;
    assert_eq!(bench.refusal(), "");
    assert_eq!(bench.exchange().await, "upload:gadgets");
    let event = bench.service.last_event();
    assert_eq!(event["rules"], json!(["acme-pypi/gadgets"]));
    assert_ne!(event["policy_revision"], json!(directory), "another policy has another name");
    let metrics = bench.service.app.metrics().render().unwrap();
    for line in [
        "trustmint_bundle_serial{registry=\"acme-pypi\"} 7",
        "trustmint_bundle_refreshes_total{registry=\"acme-pypi\",result=\"new\"} 1",
        "trustmint_bundle_refreshes_total{registry=\"tools\",result=\"not-fetched\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let line = format!("trustmint_policy_info{{revision=\"{directory}\"}} 1");
    assert!(metrics.contains(&line), "a registry that changes its rules makes no replica differ: {metrics}");
    // A bundle without the rule withdraws it.
    bench.serve(&Text { rules: "  {}".into(), ..Text::new(&bench.service, 8) }).await;
    assert_eq!(bench.exchange().await, "no-matching-rule");
}

#[actix_web::test]
async fn what_has_not_changed_is_asked_for_by_its_entity_tag() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let since = bench.service.app.policy();
    bench.servers.asked();
    bench.poll().await;
    let asked = bench.servers.asked();
    let known = asked.iter().find(|(url, _)| url == BUNDLE).and_then(|(_, etag)| etag.clone());
    assert!(known.is_some(), "{asked:?}");
    assert!(Arc::ptr_eq(&since, &bench.service.app.policy()), "nothing new came into force");
    assert!(bench.service.app.metrics().render().unwrap().contains("acme-pypi\",result=\"same\"} 1"));
}

#[actix_web::test]
async fn operators_see_each_registrys_bundle_beside_the_policy_and_its_warnings() {
    let (files, servers) = (TempDir::new().unwrap(), Arc::new(Servers::default()));
    let fetch = Arc::clone(&servers);
    let write = |base: &str, issuer: &str| {
        let text = directory_text(base, issuer, &usual(), "  {}")
            .replace("provider: gitlab", "provider: gitlab, max_lifetime: 5h");
        std::fs::write(files.path().join("policy.yaml"), text).unwrap();
        files.path().to_owned()
    };
    let bench = Bench { service: Service::watching_with(write, fetch).await, servers };
    let operations = Operations::of(Arc::clone(&bench.service.app));
    let seen = async || {
        let request = operations.client.get(format!("{}/policy", operations.base)).bearer_auth(KEY);
        Answer::of(request.send().await.unwrap()).await.body
    };
    let before = seen().await;
    assert_eq!(before["warnings"]["count"], 1, "{before:#}");
    let warning = &before["warnings"]["listed"][0];
    assert_eq!(
        (&warning["code"], &warning["key"], &warning["line"]),
        (&json!("L038"), &json!("issuers.gitlab.max_lifetime"), &json!(3))
    );
    let counted = || bench.service.app.metrics().render().unwrap();
    assert!(counted().lines().any(|line| line == "trustmint_policy_warnings{code=\"L038\"} 1"), "{}", counted());

    bench.serve(&Text::new(&bench.service, 7)).await;
    let after = seen().await;
    let (own, tools) = (&after["bundles"][0], &after["bundles"][1]);
    let not_after = bench.service.app.policy().bundle("acme-pypi").unwrap().not_after().to_string();
    assert_eq!(
        (&own["registry"], &own["serial"], &own["rules"]),
        (&json!("acme-pypi"), &json!(7), &json!(1)),
        "{after:#}"
    );
    assert_eq!((&own["not_after"], &own["failures"], &own["last_error"]), (&json!(not_after), &json!(0), &Value::Null));
    assert_eq!((&tools["registry"], &tools["serial"], &tools["failures"]), (&json!("tools"), &Value::Null, &json!(1)));
    assert_eq!(tools["last_error"]["code"], "not-fetched");
    // What decides is the directory with the bundles; what the directory alone is stays visible.
    assert_eq!(after["revision"], bench.service.app.policy().revision());
    assert_eq!(after["directory_revision"], before["revision"]);
    assert_ne!(after["revision"], before["revision"]);
    assert_eq!(after["rules"], 1);

    bench.service.app.activate(directory(&bench.service.base, bench.service.provider.issuer(), &usual(), "  {}"));
    assert!(!counted().contains("trustmint_policy_warnings{"), "{}", counted());
}

#[actix_web::test]
async fn a_notice_brings_the_next_poll_forward() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    bench.servers.publish(BUNDLE, Text { rules: "  {}".into(), ..Text::new(&bench.service, 2) }.write());
    bench.poll_now().await;
    assert_eq!(bench.serial(), Some(1), "it is not due");
    for (key, status) in [("somebody's key", 401), (API_KEY, 202)] {
        assert_eq!(bench.notify(key).await.status, status, "{key}");
    }
    while bench.serial() == Some(1) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.serial(), Some(2));
    let answer = bench.notify(API_KEY).await;
    assert_eq!(answer.body["poll_at"], json!(bench.service.app.now().to_string()));
    // More of them than are allowed are put off, not obeyed.
    for _ in 0..5 {
        bench.notify(API_KEY).await;
    }
    let later = bench.notify(API_KEY).await;
    assert_ne!(later.body["poll_at"], answer.body["poll_at"]);
    assert_eq!(later.status, 202);
}

#[actix_web::test]
async fn what_reaches_beyond_the_registry_is_refused() {
    let bench = Bench::start().await;
    bench.serve(&Text::new(&bench.service, 1)).await;
    let good = || Text::new(&bench.service, 2);
    let rules = |from: &str, to: &str| Text { rules: GADGETS.replace(from, to), ..good() }.write();
    for (bytes, code, words) in [
        (Text { registry: "tools", ..good() }.write(), "other-registry", "the registry `tools`"),
        (rules("issuer: github", "issuer: gitlab"), "rules-refused", "not one that bundles of `acme-pypi` may name"),
        (
            rules("issuer: github", "issuer: github\n    registry: tools"),
            "rules-refused",
            "for the registry that serves it",
        ),
        (rules("[gadgets]", "[widgets]"), "rules-refused", "beyond what"),
        (rules("[gadgets]", "[\"gadgets-*\"]"), "rules-refused", "beyond what"),
        (rules("[gadgets]", "[\"{repository_name}\"]"), "rules-refused", ""),
        (rules("repository_id: \"701234567\"", "environment: release"), "rules-refused", "L001"),
        (Text { more: "waivers: []", ..good() }.write(), "unreadable", "unknown key `waivers`"),
        (Text { more: "issuers: {}", ..good() }.write(), "unreadable", "unknown key `issuers`"),
        (Text { more: "registries: {}", ..good() }.write(), "unreadable", "unknown key `registries`"),
        ("registry: [".to_owned(), "unreadable", "is not YAML"),
        (Text { not_after: bench.service.app.now(), ..good() }.write(), "expired", "was good until"),
        (Text { not_after: bench.service.app.now().plus(48 * HOUR), ..good() }.write(), "valid-too-long", "24 h"),
        (format!("{}#{}", good().write(), "x".repeat(64 << 10)), "not-fetched", "larger than 64 KiB"),
    ] {
        bench.refuses(bytes, code, words).await;
    }
    assert_eq!(bench.exchange().await, "upload:gadgets", "the last good one serves on");
    // Each of these is refused for what was changed: as it is, it is accepted.
    bench.servers.publish(BUNDLE, good().write());
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(2)));
}

#[actix_web::test]
async fn a_bundle_whose_own_tests_fail_is_refused() {
    let bench = Bench::start().await;
    let test = |expect: &str| -> &'static str {
        let job = "{repository_owner_id: \"9123456\", repository_id: \"701234567\"}";
        let text = format!(
            "tests:\n  - {{name: a tag, rule: gadgets, token: github/tag-push, claims: {job}, request: {{upload: gadgets}}, expect: {expect}}}"
        );
        Box::leak(text.into_boxed_str())
    };
    bench.serve(&Text { more: test("allow"), ..Text::new(&bench.service, 1) }).await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(1)));
    let failing = Text { more: test("{deny: ref-mismatch}"), ..Text::new(&bench.service, 2) };
    bench.refuses(failing.write(), "rules-refused", "the test `a tag` fails").await;
}

#[actix_web::test]
async fn a_signature_is_demanded_where_the_policy_names_a_key() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let key = STANDARD.encode(pair.public_key().as_ref());
    let bench = Bench::with(&format!("{{url: \"{BUNDLE}\", issuers: [github], public_key: \"{key}\"}}")).await;
    let text = Text::new(&bench.service, 1).write();
    let signature_url = format!("{BUNDLE}.sig");
    bench.servers.publish(&signature_url, pair.sign(text.as_bytes()).as_ref());
    bench.servers.publish(BUNDLE, text.clone());
    bench.poll().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(1)));
    let next = Text::new(&bench.service, 2).write();
    bench.refuses(next.clone(), "wrong-signature", "not that of `public_key`").await;
    bench.servers.publish(&signature_url, "not 64 bytes");
    bench.refuses(next.clone(), "unsigned", "an Ed25519 signature has 64").await;
    bench.servers.goes_down();
    bench.refuses(next.clone(), "signature-not-fetched", "refused").await;
    bench.servers.publish(&signature_url, pair.sign(next.as_bytes()).as_ref());
    bench.service.clock.pass(5 * MINUTE);
    bench.poll_now().await;
    assert_eq!((bench.refusal().as_str(), bench.serial()), ("", Some(2)));
}

#[actix_web::test]
async fn a_bad_bundle_does_not_hold_another_registry_up() {
    let bench = Bench::start().await;
    let tools = Text { registry: "tools", ..Text::new(&bench.service, 1) };
    bench.servers.publish(TOOLS_BUNDLE, tools.write());
    bench
        .serve(&Text { rules: GADGETS.replace("issuer: github", "issuer: nobody"), ..Text::new(&bench.service, 1) })
        .await;
    assert!(bench.refusal().starts_with("rules-refused: "), "{}", bench.refusal());
    assert_eq!(bench.exchange().await, "bundle-missing");
    assert_eq!(bench.exchange_at_tools().await, "upload:gadgets");
    // A rule of one registry is none of another's, though both have a rule of that name.
    bench.service.clock.pass(5 * MINUTE);
    bench.servers.publish(BUNDLE, Text { rules: "  {}".into(), ..Text::new(&bench.service, 1) }.write());
    bench.poll_now().await;
    assert_eq!(bench.exchange().await, "no-matching-rule");
    assert_eq!(bench.exchange_at_tools().await, "upload:gadgets");
}

#[actix_web::test]
async fn where_more_registries_are_due_than_are_asked_at_once_each_has_its_turn() {
    let servers = Arc::new(Servers::default());
    let fetch = Arc::clone(&servers);
    let start = |base: &str, issuer: &str| {
        let text = policy_of(base, &format!("  github: {{provider: github, url: \"{issuer}\"}}"), "  {}");
        let mut registries = String::from("registries:\n");
        for number in 0..40 {
            writeln!(
                registries,
                "  r{number:02}: {{dialect: generic, urls: [\"{base}/r{number:02}/\"], audiences: [r{number:02}], bundle: {{url: \
                 \"https://r{number:02}.example/b\", issuers: [github], poll: 10s}}}}"
            )
            .unwrap();
        }
        policy(&text.replacen("registries:\n", &registries, 1))
    };
    let bench = Bench { service: Service::with_parts(start, |store| store, fetch).await, servers };
    let mut asked = std::collections::BTreeSet::new();
    for _ in 0..3 {
        bench.poll_now().await;
        asked.extend(bench.servers.asked().into_iter().map(|(url, _)| url));
        // By then those of the turn before are due again.
        bench.service.clock.pass(Duration::from_secs(10));
    }
    assert_eq!(asked.len(), 40, "{asked:?}");
}

/// The server of the examples, over HTTPS, as its reader runs it.
mod example {
    use super::*;

    use std::fs;
    use std::io::BufRead as _;
    use std::io::BufReader;
    use std::process::Child;
    use std::process::Command;
    use std::process::Stdio;

    use trustmint::demo::certificate::LoopbackCertificate;
    use trustmint::identity::fetch::HttpsFetch;
    use trustmint::policy::Policy;
    use trustmint::policy::Source;
    use trustmint::time::Clock as _;
    use trustmint::time::SystemClock;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[actix_web::test]
    async fn the_example_servers_bundle_is_fetched_over_https_and_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
        fs::write(path("certificate.pem"), certificate.certificate_pem()).unwrap();
        certificate.write_key(&path("key.pem")).unwrap();
        let rules = format!("rules:{GADGETS}");
        fs::write(path("rules.yaml"), &rules).unwrap();
        let openssl = |arguments: &[&str]| {
            let made = Command::new("openssl").args(arguments).current_dir(directory.path()).output().unwrap();
            assert!(made.status.success(), "{made:?}");
            made.stdout
        };
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", "sign.pem"]);
        let public = openssl(&["pkey", "-in", "sign.pem", "-pubout", "-outform", "DER"]);
        let public = STANDARD.encode(&public[public.len() - 32..]);

        let mut server = Command::new("python3");
        server.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/bundle-server/serve.py"));
        server.args(["--registry", "acme-pypi", "--rules", "rules.yaml", "--certificate", "certificate.pem", "--key"]);
        server.args(["key.pem", "--sign", "sign.pem", "--listen", "127.0.0.1:0"]).current_dir(directory.path());
        let mut server = Running(server.stdout(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines().map(Result::unwrap);
        let url = lines.find_map(|line| line.strip_prefix("serving ").map(str::to_owned)).unwrap();

        let bundle = format!(
            "{{url: \"{url}\", issuers: [github], public_key: \"{public}\", ca_file: ca.pem, allow_networks: [127.0.0.0/8], poll: 10s}}"
        );
        let ca = certificate.authority_pem().as_bytes().to_vec();
        let start = |base: &str, issuer: &str| {
            let text = policy_of(base, &format!("  github: {{provider: github, url: \"{issuer}\"}}"), "  {}");
            let text =
                text.replacen("    audiences: [acme]\n", &format!("    audiences: [acme]\n    bundle: {bundle}\n"), 1);
            let source = Source { name: "policy.yaml".into(), text };
            Policy::load(&[source], &|_, name| (name == "ca.pem").then(|| ca.clone()))
                .unwrap_or_else(|faults| panic!("{faults}"))
        };
        let service = Service::with_parts(start, |store| store, Arc::new(HttpsFetch::new())).await;
        let bench = Bench { service, servers: Arc::default() };
        bench.poll_now().await;
        assert_eq!(bench.refusal(), "");
        assert_eq!(bench.exchange().await, "upload:gadgets");
        // Nothing has changed; then the rules do.
        bench.poll().await;
        assert!(bench.service.app.metrics().render().unwrap().contains("acme-pypi\",result=\"same\"} 1"));
        fs::write(path("new.yaml"), rules.replace("[gadgets]", "[sprockets]")).unwrap();
        fs::rename(path("new.yaml"), path("rules.yaml")).unwrap();
        bench.poll().await;
        assert_eq!(bench.refusal(), "");
        assert_eq!(bench.exchange().await, "upload:sprockets");
    }
}
