//! `trustmint issuer probe`, as an operator runs it: the real binary against providers on loopback, honest and hostile.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::demo::provider::Answer;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::issuer::KeySource;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::support::said;

/// A provider with https and a private authority, as in a company's network.
struct Bench {
    provider: LoopbackProvider,
    folder: TempDir,
}

/// What the command said.
struct Said {
    code: i32,
    out: String,
    errors: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.errors))
    }

    /// `severity code` of each finding.
    fn findings(&self) -> Vec<String> {
        let told = self.json();
        let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
        let findings = told["findings"].as_array().unwrap();
        findings.iter().map(|it| format!("{} {}", text(it, "severity"), text(it, "code"))).collect()
    }
}

fn keys() -> Vec<Arc<SigningKey>> {
    [KeyKind::P256, KeyKind::Ed25519].map(|kind| Arc::new(SigningKey::generate(kind).unwrap())).to_vec()
}

fn run(arguments: &[&str]) -> Said {
    let output = said::run(Command::new(env!("CARGO_BIN_EXE_trustmint")).env_clear().args(arguments)).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), errors: text(output.stderr) }
}

impl Bench {
    fn start() -> Self {
        let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("acme-ca.pem"), certificate.authority_pem()).unwrap();
        let tls = certificate.server_config().unwrap();
        Self { provider: LoopbackProvider::start_https(Arc::new(SystemClock), keys(), tls).unwrap(), folder }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("acme-ca.pem")
    }

    /// Probes the provider's own URL, reached as it must be.
    fn probe(&self, more: &[&str]) -> Said {
        self.probe_at(self.provider.issuer(), more)
    }

    fn probe_at(&self, url: &str, more: &[&str]) -> Said {
        let ca = self.ca();
        let reach = ["--ca-file", ca.to_str().unwrap(), "--allow-network", "127.0.0.0/8"];
        run(&[&["issuer", "probe", url][..], &reach, more].concat())
    }
}

#[test]
fn a_good_provider_ends_in_an_entry_that_the_policy_accepts() {
    let bench = Bench::start();
    for more in [&["--allow-network", "10.20.0.0/16"][..], &["--provider", "gitlab"]] {
        let said = bench.probe(&[&["--json"], more].concat());
        assert_eq!(said.code, 0, "{}{}", said.out, said.errors);
        let told = said.json();
        assert_eq!(told["accepted"], true);
        let entry = told["entry"].as_str().unwrap().to_owned();
        let registry = "registries:\n  r: {dialect: generic, urls: [\"https://r.example/\"], audiences: [acme]}\n";
        let sources = [("issuers.yaml", entry.as_str()), ("registries.yaml", registry)]
            .map(|(name, text)| Source { name: name.into(), text: text.into() });
        let authority = fs::read(bench.ca()).unwrap();
        let file = |_: &str, name: &str| (name == "acme-ca.pem").then(|| authority.clone());
        let policy = Policy::load(&sources, &file).unwrap_or_else(|faults| panic!("{faults}\n{entry}"));
        let issuer = policy.issuers().by_url(bench.provider.issuer()).unwrap();
        assert_eq!(issuer.provider().name, told["provider"].as_str().unwrap());
        let KeySource::Remote { reach, .. } = &issuer.keys else { panic!("{entry}") };
        assert_eq!(reach.ca_pem.as_ref(), Some(&authority));
        assert_eq!(reach.allow_networks.len(), if more[0] == "--provider" { 1 } else { 2 });
    }
    // A provider's whole answer was fetched once a probe, and nothing else.
    assert_eq!((bench.provider.requests(Endpoint::Discovery), bench.provider.requests(Endpoint::Jwks)), (2, 2));
}

#[test]
fn the_report_can_be_read_by_people_and_by_programs() {
    let bench = Bench::start();
    let said = bench.probe(&["--json"]);
    assert_eq!(said.findings(), ["note authorization-endpoint-missing", "note etag-missing"]);
    let told = said.json();
    let kids: Vec<String> = bench.provider.keys().iter().map(|key| key.kid().to_owned()).collect();
    assert_eq!(told["keys"][0], json!({"kid": kids[0], "kind": "P-256", "alg": "ES256", "used": true}));
    assert_eq!(told["key_set"]["max_age"], 3600);
    assert_eq!(told["key_set"]["url"], format!("{}/jwks", bench.provider.issuer()));

    let said = bench.probe(&[]);
    assert_eq!(said.code, 0);
    for part in [
        format!("{}\n  preset     generic, since no preset owns the host\n", bench.provider.issuer()),
        format!("  key        {}", kids[1]),
        "  Ed25519  EdDSA   used\n".into(),
        "\nnote     the key set has no `ETag`".into(),
        "(etag-missing)\n".into(),
        "The service accepts this provider.".into(),
        format!("\n    url: \"{}\"\n    ca_file: \"acme-ca.pem\"", bench.provider.issuer()),
    ] {
        assert!(said.out.contains(&part), "`{part}` is not in:\n{}", said.out);
    }
}

#[test]
fn it_goes_nowhere_that_the_service_would_not_go() {
    let bench = Bench::start();
    let url = bench.provider.issuer();
    let ca = bench.ca();
    let cause = |arguments: &[&str]| {
        let said = run(&[&["issuer", "probe", url, "--json"], arguments].concat());
        assert_eq!((said.code, said.findings()), (1, vec!["refused unreachable".to_owned()]), "{}", said.out);
        assert_eq!(said.json()["entry"], Value::Null);
        said.json()["findings"][0].to_string()
    };
    let forbidden = cause(&["--ca-file", ca.to_str().unwrap()]);
    assert!(
        forbidden.contains("127.0.0.1, which is not public") && forbidden.contains("--allow-network"),
        "{forbidden}"
    );
    let other = LoopbackCertificate::generate(SystemClock.now()).unwrap();
    let other_ca = bench.folder.path().join("other.pem");
    fs::write(&other_ca, other.authority_pem()).unwrap();
    let untrusted = cause(&["--allow-network", "127.0.0.1", "--ca-file", other_ca.to_str().unwrap()]);
    assert!(untrusted.contains("no connection") && untrusted.contains("--ca-file"), "{untrusted}");
    assert_eq!(bench.provider.requests(Endpoint::Discovery), 0);

    // A key set on another host is named and not asked for.
    let elsewhere = url.replace("127.0.0.1", "localhost");
    let mut document = bench.provider.discovery();
    document["jwks_uri"] = json!(format!("{elsewhere}/jwks"));
    bench.provider.answer(Endpoint::Discovery, Answer::json(&document));
    let said = bench.probe(&["--json"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.findings(), ["refused jwks-uri-host", "note authorization-endpoint-missing"]);
    assert_eq!(said.json()["key_set"], Value::Null);
    assert_eq!(bench.provider.requests(Endpoint::Jwks), 0);
}

#[test]
fn a_hostile_answer_is_told_by_its_cause() {
    let bench = Bench::start();
    let url = bench.provider.issuer().to_owned();
    let mut other = bench.provider.discovery();
    other["issuer"] = json!(format!("{url}/"));
    let hostile = "https://x.example/\u{1b}[2J\u{202e}";
    let mut deceptive = bench.provider.discovery();
    deceptive["issuer"] = json!(hostile);
    for (endpoint, answer, part) in [
        (Endpoint::Discovery, Answer::status(404), "(unreachable)"),
        (Endpoint::Discovery, Answer::redirect("https://evil.example/"), "redirects are not followed"),
        (Endpoint::Discovery, Answer::Endless, "larger than 100 KiB"),
        (Endpoint::Discovery, Answer::body("text/html", "<p>down</p>"), "(discovery-unreadable)"),
        (Endpoint::Discovery, Answer::json(&other), "they differ in the slash at the end"),
        (Endpoint::Discovery, Answer::json(&deceptive), "(issuer-mismatch)"),
        (Endpoint::Jwks, Answer::status(500), "key set: the answer's status is 500"),
        (Endpoint::Jwks, Answer::body("application/json", "{}"), "(key-set-unreadable)"),
        (Endpoint::Jwks, Answer::json(&json!({"keys": []})), "(no-usable-key)"),
    ] {
        bench.provider.answer(endpoint, answer);
        let said = bench.probe(&[]);
        assert_eq!(said.code, 1, "{}{}", said.out, said.errors);
        assert!(said.out.contains(part), "`{part}` is not in:\n{}", said.out);
        assert!(said.out.contains("\nrefused  "), "{}", said.out);
        assert!(!said.out.contains("\nissuers:"), "nothing to paste:\n{}", said.out);
        assert!(!said.out.contains(['\u{1b}', '\u{202e}']), "{}", said.out.escape_debug());
        bench.provider.answer(endpoint, Answer::Honest);
    }
    assert_eq!(bench.probe(&[]).code, 0);
}

#[test]
fn http_is_looked_at_on_loopback_and_accepted_nowhere() {
    let provider = LoopbackProvider::start_with(Arc::new(SystemClock), keys()).unwrap();
    let said = run(&["issuer", "probe", provider.issuer(), "--json"]);
    assert_eq!(said.code, 1);
    assert_eq!(said.findings(), ["refused http", "note authorization-endpoint-missing", "note etag-missing"]);
    assert_eq!(said.json()["keys"].as_array().unwrap().len(), 2);
    for url in ["http://ci.example", "https://ci.example/?a=b", "https://CI.example", "ci.example", ""] {
        let said = run(&["issuer", "probe", url, "--json"]);
        assert_eq!((said.code, said.findings()), (1, vec!["refused issuer-url".to_owned()]), "{url}");
    }
}

#[test]
fn a_preset_is_given_or_follows_from_the_host() {
    let bench = Bench::start();
    let told = |more: &[&str]| bench.probe(&[&["--json"], more].concat()).json()["provider"].clone();
    assert_eq!(told(&[]), "generic");
    assert_eq!(told(&["--provider", "github"]), "github");
    // Pins that the document does not promise are named.
    let said = bench.probe(&["--provider", "github"]);
    assert!(said.out.contains("`repository_id`") && said.out.contains("(pins-not-listed)"), "{}", said.out);
}

#[test]
fn wrong_usage_is_told_apart_from_a_refusal() {
    let missing = "missing.pem";
    for (arguments, code, part) in [
        (&["issuer", "probe"][..], 2, "<URL>"),
        (&["issuer", "probe", "https://ci.example", "--provider", "gitlub"], 2, "gitlab"),
        (&["issuer", "probe", "https://ci.example", "--allow-network", "ten"], 2, "10.20.0.0/16"),
        (&["issuer", "probe", "https://ci.example", "--allow-network", "10.20.0.7/16"], 2, "write 10.20.0.0/16"),
        (&["issuer", "probe", "https://ci.example", "--proxy", "http://me:secret@p.example"], 2, "without a user name"),
        (&["issuer", "probe", "https://ci.example", "--ca-file", missing], 1, "missing.pem"),
    ] {
        let said = run(arguments);
        assert_eq!(said.code, code, "{arguments:?}: {}", said.errors);
        assert!(said.errors.contains(part), "{arguments:?}: {}", said.errors);
        assert_eq!(said.out, "");
    }
}
