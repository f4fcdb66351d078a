//! What is read again while the command runs: at a hangup, and every so often.

use std::fs;
use std::io::BufRead as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::support::said;
use crate::support::said::SecretKind;
use crate::support::send;

use super::Home;
use super::Served;
use super::line_with;
use super::succeeded;

#[actix_web::test]
async fn at_a_hangup_and_otherwise_every_poll_it_reads_its_operators_again() {
    let home = Home::with_key();
    let [first, second] = ["the-first-operators-key", "the-second-operators-key"];
    let operator = |name: &str, key: &str| format!("{name}: {{key_sha256: \"{}\"}}", hex(&sha256(key.as_bytes())));
    let [oncall, other] = [operator("oncall", first), operator("other", second)];
    for key in [first, second] {
        said::secret(SecretKind::ApiKey, key);
    }
    let write = |callers: &str, more: &str| {
        let address = "address: \"127.0.0.1:0\"";
        let text = format!("listen: {{{address}}}\noperations: {{{address}, callers: {{{callers}}}}}\n{more}");
        // Whole, since it is also polled.
        home.write("new.yaml", &text);
        fs::rename(home.path().join("new.yaml"), home.path().join("trustmint.yaml")).unwrap();
    };
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (poll, hangs_up) in [("1h", true), ("1s", false)] {
        let poll = format!("keys: {{poll: {poll}}}\n");
        write(&oncall, &poll);
        let mut served = home.serve();
        let process = served.child.id();
        let changed = || {
            if hangs_up {
                send("-HUP", process);
            }
        };
        let base = served.operations.clone();
        let asked = async || {
            let ask = async |key: &str| {
                client.get(format!("{base}/stops")).bearer_auth(key).send().await.unwrap().status().as_u16()
            };
            (ask(first).await, ask(second).await)
        };
        assert_eq!(asked().await, (200, 401));
        write(&format!("{oncall}, {other}"), &poll);
        changed();
        let line = line_with(&mut served.log, "the operators were read again");
        assert!(line.contains("operators=\"oncall, other\""), "{line}");
        assert_eq!(asked().await, (200, 200));

        // A fault anywhere keeps those that were read before.
        write(&other, &format!("{poll}limits: {{workers: none}}\n"));
        changed();
        let line = line_with(&mut served.log, "settings");
        assert!(line.contains("the changed settings are refused, and the operators read before go on"), "{line}");
        assert!(line.contains("trustmint.yaml:4:19: limits.workers"), "{line}");
        assert_eq!(asked().await, (200, 200));

        // What else has changed takes a restart, and the operators do not wait for it.
        write(&other, &format!("{poll}limits: {{workers: 2}}\n"));
        changed();
        line_with(&mut served.log, "the operators were read again");
        line_with(&mut served.log, "settings have changed that are read at start only: restart the service");
        assert_eq!(asked().await, (401, 200));
        served.terminate();
        assert_eq!(served.ended().await.0, Some(0));
    }
}

#[actix_web::test]
async fn settings_that_came_through_a_pipe_are_read_once() {
    let home = Home::with_key();
    let pipe = home.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let text = format!(
        "listen: {{address: \"127.0.0.1:0\"}}\noperations: {{address: \"127.0.0.1:0\", callers: {{oncall: {{key_sha256: \
         \"{}\"}}}}}}\n",
        hex(&sha256(b"an-operators-key"))
    );
    let writing = thread::spawn(move || fs::write(pipe, text).unwrap());
    let mut served = home.serve_by("pipe", "1s");
    writing.join().unwrap();
    for hangs_up in [false, true] {
        if hangs_up {
            send("-HUP", served.child.id());
        }
        let line = line_with(&mut served.log, "the settings cannot be read again, since pipe is not a file");
        assert!(line.contains("name files by --config"), "{line}");
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.get(format!("{}/stops", served.operations)).bearer_auth("an-operators-key");
    assert_eq!(request.send().await.unwrap().status(), 200);
    // The rest of what a hangup asks for is done.
    home.write("policy/acme.yaml", &home.read("policy/acme.yaml").replace("widgets-release", "another-name"));
    send("-HUP", served.child.id());
    line_with(&mut served.log, "another policy is in force");
}

#[actix_web::test]
async fn of_settings_that_are_files_or_variables_nothing_is_said() {
    let home = Home::with_key();
    let mut served = home.serve();
    send("-HUP", served.child.id());
    home.write("policy/acme.yaml", &home.read("policy/acme.yaml").replace("widgets-release", "another-name"));
    send("-HUP", served.child.id());
    let mut seen = String::new();
    while !seen.contains("another policy is in force") {
        assert_ne!(served.log.read_line(&mut seen).unwrap(), 0, "{seen}");
    }
    assert!(!seen.contains("cannot be read again"), "{seen}");
}

#[actix_web::test]
async fn at_a_hangup_it_reads_its_policy_again() {
    let home = Home::with_key();
    let policy = fs::read_to_string(home.path().join("policy/acme.yaml")).unwrap();
    home.write(
        "trustmint.yaml",
        "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\npolicy: {poll: 1h}\n",
    );
    let mut served = home.serve();
    home.write("policy/acme.yaml", &policy.replace("widgets-release", "another-name"));
    send("-HUP", served.child.id());
    let line = line_with(&mut served.log, "another policy is in force");
    assert!(line.contains("by=\"signal\"") && line.contains("rules=1"), "{line}");

    // Over http nobody is believed, at a reload as at the start.
    home.write("policy/acme.yaml", &policy.replace("https://ci.acme.example", "http://127.0.0.1:8888"));
    send("-HUP", served.child.id());
    line_with(&mut served.log, "the changed policy is refused");
    let line = line_with(&mut served.log, "issuers.github.url");
    assert!(line.contains("`http://127.0.0.1:8888` must start with https://"), "{line}");
    home.write("policy/acme.yaml", "rules: [");
    send("-HUP", served.child.id());
    line_with(&mut served.log, "policy/acme.yaml:1");
    home.write("policy/acme.yaml", &policy);
    send("-HUP", served.child.id());
    line_with(&mut served.log, "another policy is in force");
    served.terminate();
    let (code, audit) = served.ended().await;
    let events: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let decisions: Vec<_> = events.iter().map(|event| (&event["event"], &event["decision"])).collect();
    let reload = json!("reload");
    let (allow, deny) = (json!("allow"), json!("deny"));
    assert_eq!(decisions, [(&reload, &allow), (&reload, &deny), (&reload, &deny), (&reload, &allow)]);
    assert_eq!(code, Some(0));
}

#[actix_web::test]
async fn at_a_hangup_it_reads_its_keys_again_and_otherwise_every_poll() {
    for (poll, hangup) in [("1h", true), ("1s", false)] {
        let home = Home::with_key();
        let settings = "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\n";
        home.write("trustmint.yaml", &format!("{settings}keys: {{poll: {poll}}}\n"));
        let mut served = home.serve();
        let told = |served: &Served| {
            if hangup {
                send("-HUP", served.child.id());
            }
        };
        succeeded(&home.run(&["keys", "new", "--kid", "k2"], ""));
        told(&served);
        line_with(&mut served.log, "the keys were read again");
        home.write("keys/k3.key", "no key\n");
        told(&served);
        line_with(&mut served.log, "the keys directory is refused");
    }
}

#[actix_web::test]
async fn a_renewed_certificate_is_presented_to_whoever_connects_from_then_on() {
    let home = Home::with_key();
    let now = SystemClock.now();
    let old = LoopbackCertificate::generate(now).unwrap();
    let new = LoopbackCertificate::generate(now.minus(Duration::from_secs(86_400))).unwrap();
    let write = |certificate: &LoopbackCertificate| {
        home.write("certificate.pem", certificate.certificate_pem());
        let key = home.path().join("certificate.key");
        let _new_each_time = fs::remove_file(&key);
        certificate.write_key(&key).unwrap();
    };
    write(&old);
    home.write(
        "trustmint.yaml",
        "listen:\n  address: 127.0.0.1:0\n  tls: {certificate_file: certificate.pem, key_file: certificate.key}\n\
         operations: {address: \"127.0.0.1:0\"}\nkeys: {poll: 1h}\nlimits: {workers: 1}\n",
    );
    let mut served = home.serve();
    let greeted = async |certificate: &LoopbackCertificate| {
        let authority = reqwest::Certificate::from_pem(certificate.authority_pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
        client.get(format!("{}/openapi.json", served.public)).send().await.is_ok()
    };
    assert_eq!((greeted(&old).await, greeted(&new).await), (true, false));

    // The one file without the other: the pair in force goes on.
    home.write("certificate.pem", new.certificate_pem());
    send("-HUP", served.child.id());
    let line = line_with(&mut served.log, "the listener's certificate is refused");
    assert!(
        line.contains("certificate.pem: listen.tls.certificate_file: does not fit `listen.tls.key_file`"),
        "{line}"
    );
    assert!(greeted(&old).await);
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    let metric = async |name: &str| {
        let metrics = plain.get(format!("{}/metrics", served.operations)).send().await.unwrap().text().await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("trustmint_certificate_{name} ")));
        line.map(|value| value.parse::<i64>().unwrap())
    };
    let week = 7 * 86_400;
    assert_eq!(metric("refused").await, Some(1));
    assert_eq!(metric("expiry_timestamp_seconds").await, Some(now.unix_seconds() + week));

    write(&new);
    send("-HUP", served.child.id());
    line_with(&mut served.log, "the listener's certificate was read again");
    assert_eq!((greeted(&old).await, greeted(&new).await), (false, true));
    assert_eq!(metric("refused").await, Some(0));
    assert_eq!(metric("expiry_timestamp_seconds").await, Some(now.unix_seconds() - 86_400 + week));
    served.terminate();
    assert_eq!(served.ended().await.0, Some(0));
}

#[actix_web::test]
async fn a_changed_policy_is_in_force_by_itself() {
    let home = Home::with_key();
    home.write(
        "trustmint.yaml",
        "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\npolicy: {poll: 1s}\n",
    );
    let mut served = home.serve();
    let policy = fs::read_to_string(home.path().join("policy/acme.yaml")).unwrap();
    home.write("policy/acme.yaml", &policy.replace("widgets-release", "another-name"));
    let line = line_with(&mut served.log, "another policy is in force");
    assert!(line.contains("by=\"poll\""), "{line}");
}
