use super::*;

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::identity::jwks::MAX_KEYS;
use crate::identity::provider::FixedAudience;
use crate::identity::provider::HostName;
use crate::identity::provider::generic;
use crate::identity::provider::github;
use crate::identity::provider::google;
use crate::identity::testing::base64url;
use crate::identity::testing::p256_jwk;
use crate::identity::testing::rsa_jwk;

const URL: &str = "https://ci.example";

fn answered(document: &Value) -> Answered {
    let bytes = document.to_string().into_bytes();
    Answered { bytes, max_age: Some(Duration::from_secs(900)), etag: Some("\"1\"".into()), took: Duration::ZERO }
}

fn with(mut object: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            object[name] = value.clone();
        }
    }
    object
}

/// A document about which there is nothing to say.
fn document() -> Value {
    json!({
        "issuer": URL,
        "jwks_uri": "https://ci.example/keys",
        "authorization_endpoint": "https://ci.example/login",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        "claims_supported": ["iss", "sub", "jti"],
    })
}

fn rsa() -> Value {
    with(rsa_jwk(), &json!({"alg": "RS256"}))
}

fn p256() -> Value {
    with(p256_jwk(), &json!({"alg": "ES256"}))
}

fn keys(keys: &[Value]) -> Value {
    json!({"keys": keys})
}

/// `severity code` of each finding, in order.
fn told(findings: &Findings) -> Vec<String> {
    findings.list.iter().map(|finding| format!("{} {}", finding.severity.as_str(), finding.code)).collect()
}

fn examine_at(url: &str, provider: &'static Provider, document: &Value, keys: &Value) -> Findings {
    let (document, keys) = (answered(document), answered(keys));
    examine(&IssuerUrl::parse(url).unwrap(), provider, Ok(&document), Some(Ok(&keys)))
}

fn of_document(changes: &Value) -> Findings {
    examine_at(URL, &generic::PROVIDER, &with(document(), changes), &keys(&[rsa(), p256()]))
}

fn of_keys(set: &[Value]) -> Findings {
    examine_at(URL, &generic::PROVIDER, &document(), &keys(set))
}

#[test]
fn there_is_nothing_to_say_about_a_provider_by_the_book() {
    let findings = of_document(&json!({}));
    assert_eq!(findings.list, []);
    assert!(findings.is_accepted());
    let lines: Vec<_> =
        findings.keys.iter().map(|key| (key.kid.as_deref(), key.kind.as_str(), key.alg.as_deref(), key.used)).collect();
    assert_eq!(lines, [(Some("rsa"), "RSA 2048", Some("RS256"), true), (Some("p256"), "P-256", Some("ES256"), true)]);
}

#[test]
fn each_deviation_of_the_document_is_told() {
    for (changes, expected) in [
        (json!({"issuer": "https://ci.example/a/"}), "refused issuer-mismatch"),
        (json!({"issuer": null}), "refused member-missing"),
        (json!({"jwks_uri": null}), "refused member-missing"),
        (json!({"issuer": [URL]}), "refused member-type"),
        (json!({"jwks_uri": 7}), "refused member-type"),
        (json!({"jwks_uri": "http://ci.example/keys"}), "refused jwks-uri"),
        (json!({"jwks_uri": "/keys"}), "refused jwks-uri"),
        (json!({"jwks_uri": "https://keys.example/keys"}), "refused jwks-uri-host"),
        (json!({"id_token_signing_alg_values_supported": ["HS256", "none"]}), "refused algorithms-unusable"),
        (json!({"id_token_signing_alg_values_supported": []}), "refused algorithms-unusable"),
        (json!({"id_token_signing_alg_values_supported": null}), "odd algorithms-missing"),
        (json!({"id_token_signing_alg_values_supported": "RS256"}), "odd member-type"),
        (json!({"id_token_signing_alg_values_supported": ["RS256", 7]}), "odd member-type"),
        (json!({"id_token_signing_alg_values_supported": ["RS256", "HS256"]}), "note algorithms-not-verified"),
        (json!({"id_token_signing_alg_values_supported": ["ES256"]}), "note rs256-missing"),
        (json!({"response_types_supported": null}), "odd response-types-missing"),
        (json!({"subject_types_supported": null}), "odd subject-types-missing"),
        (json!({"subject_types_supported": {}}), "odd member-type"),
        (json!({"authorization_endpoint": null}), "note authorization-endpoint-missing"),
        (json!({"claims_supported": null}), "note claims-missing"),
        (json!({"claims_supported": ["sub"]}), "note no-jti"),
    ] {
        // Whatever else is wrong with it: the rules of `generic` pin `sub`.
        let findings = of_document(&changes);
        assert_eq!(told(&findings), [expected], "{changes}");
        assert_eq!(findings.is_accepted(), !expected.starts_with("refused"), "{changes}");
        assert!(findings.list[0].severity == Severity::Note || !findings.list[0].remedy.is_empty(), "{changes}");
    }
}

#[test]
fn what_is_no_document_is_refused_and_nothing_else_is_said() {
    for bytes in [
        "".as_bytes(),
        b"<html>",
        b"[]",
        b"null",
        br#"{"issuer":"https://evil.example","issuer":"https://ci.example","jwks_uri":"https://ci.example/k"}"#,
        br#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/k"} x"#,
    ] {
        let document = Answered { bytes: bytes.to_vec(), ..answered(&Value::Null) };
        let findings = examine(&IssuerUrl::parse(URL).unwrap(), &generic::PROVIDER, Ok(&document), None);
        assert_eq!(told(&findings), ["refused discovery-unreadable"], "{}", String::from_utf8_lossy(bytes));
        assert!(!findings.is_accepted());
    }
    let twice = br#"{"issuer":"a","issuer":"b"}"#.to_vec();
    let document = Answered { bytes: twice, ..answered(&Value::Null) };
    let findings = examine(&IssuerUrl::parse(URL).unwrap(), &generic::PROVIDER, Ok(&document), None);
    assert!(findings.list[0].sentence.contains("repeated member"), "{}", findings.list[0].sentence);
}

#[test]
fn a_name_that_differs_is_told_with_how_and_what_to_do() {
    for (url, name, how, remedy) in [
        ("https://ci.example/a", "https://ci.example/a/", "slash at the end", "configure that"),
        ("https://ci.example/a/", "https://ci.example/a", "slash at the end", "configure that"),
        ("https://ci.example/a", "https://ci.example/A", "capitals", "configure that"),
        ("https://ci.example", "https://other.example", "other.example", "configure that"),
        ("https://ci.example", "http://ci.example", "http://ci.example", "must start with https://"),
        ("https://ci.example", "https://ci.example:443", "ci.example:443", "under another name"),
    ] {
        let changed = with(document(), &json!({"issuer": name, "jwks_uri": "https://ci.example/k"}));
        let findings = examine_at(url, &generic::PROVIDER, &changed, &keys(&[rsa(), p256()]));
        let finding = &findings.list[0];
        assert_eq!(finding.code, "issuer-mismatch");
        assert!(finding.sentence.contains(how), "{}", finding.sentence);
        assert!(finding.sentence.contains(&format!("`{url}`")), "{}", finding.sentence);
        assert!(finding.remedy.contains(remedy), "{}", finding.remedy);
    }
    // Both faults at once are both told.
    let both = of_document(&json!({"issuer": "https://ci.example/a", "jwks_uri": "https://evil.example/k"}));
    assert_eq!(told(&both), ["refused issuer-mismatch", "refused jwks-uri-host"]);
}

#[test]
fn each_oddity_of_a_key_is_told() {
    let padded = {
        let n = rsa()["n"].as_str().unwrap().to_owned();
        let n = URL_SAFE_NO_PAD.decode(n).unwrap();
        base64url([&[0][..], &n].concat())
    };
    let short = base64url([&[0x80][..], &[0xff; 127]].concat());
    for (key, expected, used) in [
        (with(rsa(), &json!({"n": padded})), "odd modulus-padded", true),
        (with(rsa(), &json!({"n": short})), "odd key-not-used", false),
        (with(rsa(), &json!({"e": "Aw"})), "odd key-not-used", false),
        (with(rsa(), &json!({"d": "AQAB"})), "odd key-not-used", false),
        (with(rsa(), &json!({"kid": "p256"})), "odd key-not-used", false),
        (with(rsa(), &json!({"kid": 7})), "odd key-not-used", false),
        (with(rsa(), &json!({"alg": "HS256"})), "odd key-not-used", false),
        (json!({"kty": "oct", "kid": "secret", "k": "AQAB"}), "odd key-not-used", false),
        (json!({"kty": "EC", "kid": "k1", "crv": "secp256k1", "x": "AQAB", "y": "AQAB"}), "odd key-not-used", false),
        (json!("rsa"), "odd key-not-used", false),
        (with(rsa(), &json!({"use": "enc"})), "note key-not-used", false),
        (with(rsa(), &json!({"kid": null})), "odd kid-missing", true),
        (with(rsa(), &json!({"alg": null})), "note alg-missing", true),
        (with(rsa(), &json!({"use": null})), "note use-missing", true),
    ] {
        // Two good ones beside it, so that nothing is to be said of the set.
        let third = with(p256(), &json!({"kid": "third"}));
        let findings = of_keys(&[key.clone(), p256(), third]);
        // The namesake goes with it, and leaves one.
        let expected = if key["kid"] == "p256" { vec![expected, expected, "note single-key"] } else { vec![expected] };
        assert_eq!(told(&findings), expected, "{key}");
        assert_eq!(findings.keys[0].used, used, "{key}");
        assert!(findings.is_accepted(), "{key}");
        assert_eq!(findings.keys.len(), 3);
    }
    let weak = of_keys(&[with(rsa(), &json!({"kid": "weak", "n": short})), p256(), rsa()]);
    assert!(weak.list[0].sentence.contains("it is RSA 1024"), "{}", weak.list[0].sentence);
    let private = of_keys(&[with(rsa(), &json!({"kid": "leaked", "d": "AQAB"})), p256(), rsa()]);
    assert!(private.list[0].sentence.contains("`leaked`"), "{}", private.list[0].sentence);
    assert!(private.list[0].remedy.contains("at once"), "{}", private.list[0].remedy);
}

#[test]
fn a_set_is_judged_as_a_whole() {
    assert_eq!(told(&of_keys(&[rsa()])), ["note single-key"]);
    assert_eq!(told(&of_keys(&[with(rsa(), &json!({"kid": null}))])), ["odd kid-missing", "note single-key"]);
    for (set, expected) in [
        (json!({"keys": []}), vec!["refused no-usable-key"]),
        (json!({"keys": [{"kty": "oct", "k": "AQAB"}]}), vec!["refused no-usable-key", "odd key-not-used"]),
        (json!({"keys": {}}), vec!["refused key-set-unreadable"]),
        (json!([]), vec!["refused key-set-unreadable"]),
        (json!({"keys": vec![rsa(); MAX_KEYS + 1]}), vec!["refused key-set-unreadable"]),
    ] {
        let findings = examine_at(URL, &generic::PROVIDER, &document(), &set);
        assert_eq!(told(&findings), expected);
        assert!(!findings.is_accepted());
    }
}

#[test]
fn how_an_answer_came_is_told() {
    let good = answered(&keys(&[rsa(), p256()]));
    let mut bytes = good.bytes.clone();
    bytes.resize(MAX_BODY * 4 / 5, b' ');
    let aged = |seconds| Some(Duration::from_secs(seconds));
    for (came, expected) in [
        (Answered { max_age: None, ..good.clone() }, vec!["note cache-control-missing"]),
        (Answered { max_age: aged(299), ..good.clone() }, vec!["note cache-short"]),
        (Answered { max_age: aged(300), ..good.clone() }, vec![]),
        (Answered { max_age: aged(3600), ..good.clone() }, vec![]),
        (Answered { max_age: aged(3601), ..good.clone() }, vec!["note cache-long"]),
        (Answered { etag: None, ..good.clone() }, vec!["note etag-missing"]),
        (Answered { took: Duration::from_millis(1499), ..good.clone() }, vec![]),
        (Answered { took: Duration::from_millis(1500), ..good.clone() }, vec!["odd slow"]),
        (Answered { bytes, ..good.clone() }, vec!["odd large"]),
    ] {
        let document = answered(&document());
        let findings = examine(&IssuerUrl::parse(URL).unwrap(), &generic::PROVIDER, Ok(&document), Some(Ok(&came)));
        assert_eq!(told(&findings), expected);
        assert!(findings.is_accepted());
    }
}

#[test]
fn what_cannot_be_fetched_is_told_with_its_cause() {
    let issuer = IssuerUrl::parse(URL).unwrap();
    let address = IpAddr::from([10, 0, 0, 7]);
    for (error, part) in [
        (FetchError::Forbidden { host: "ci.example".into(), address }, "--allow-network"),
        (FetchError::NoAddress("ci.example".into()), "spelling"),
        (FetchError::Authorities("none".into()), "--ca-file"),
        (FetchError::Connect("invalid peer certificate: UnknownIssuer".into()), "--ca-file"),
        (FetchError::TimedOut(TIMEOUT), "firewall"),
        (FetchError::Status(302), "redirects are not followed"),
        (FetchError::Status(401), "without credentials"),
        (FetchError::Status(404), "`iss`"),
        (FetchError::Status(503), "try again"),
        (FetchError::Encoded, "compress"),
        (FetchError::TooLarge(MAX_BODY), "shorter"),
        (FetchError::Broken("reset".into()), "try again"),
        (FetchError::Url, "https"),
    ] {
        let findings = examine(&issuer, &generic::PROVIDER, Err(&error), None);
        assert_eq!(told(&findings), ["refused unreachable"]);
        assert!(findings.list[0].sentence.contains(&error.to_string()), "{}", findings.list[0].sentence);
        assert!(findings.list[0].remedy.contains(part), "{error}: {}", findings.list[0].remedy);
        let document = answered(&document());
        let findings = examine(&issuer, &generic::PROVIDER, Ok(&document), Some(Err(&error)));
        assert_eq!(told(&findings), ["refused unreachable"]);
        assert!(!findings.is_accepted());
    }
}

#[test]
fn a_preset_that_does_not_fit_is_refused() {
    let at = |url: &str, provider: &'static Provider, document: &Value| {
        told(&examine_at(url, provider, document, &keys(&[rsa(), p256()])))
    };
    let github = with(
        document(),
        &json!({
            "issuer": "https://token.actions.githubusercontent.com",
            "jwks_uri": "https://token.actions.githubusercontent.com/.well-known/jwks",
            "claims_supported": ["jti", "repository_id", "repository_owner_id"],
        }),
    );
    let own = "https://token.actions.githubusercontent.com";
    assert_eq!(at(own, &github::PROVIDER, &github), [""; 0]);
    assert_eq!(at(own, &generic::PROVIDER, &github)[0], "refused preset");
    assert_eq!(at(own, &google::PROVIDER, &github)[0], "refused preset");
    let claims = json!({"claims_supported": ["jti", "repository_id"]});
    assert_eq!(at(own, &github::PROVIDER, &with(github, &claims)), ["note pins-not-listed"]);
    // Google's keys are on another host, which its preset knows.
    let google = with(
        document(),
        &json!({
            "issuer": "https://accounts.google.com", "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
            "claims_supported": ["sub", "email"],
        }),
    );
    assert_eq!(at("https://accounts.google.com", &google::PROVIDER, &google), ["note no-jti"]);
    // http is for the demonstration.
    let http = with(document(), &json!({"issuer": "http://127.0.0.1:9", "jwks_uri": "http://127.0.0.1:9/k"}));
    assert_eq!(at("http://127.0.0.1:9", &generic::PROVIDER, &http), ["refused http"]);
}

#[test]
fn what_the_preset_knows_of_such_an_issuer_is_told() {
    let local_hosts = &[HostName::Below("svc")];
    let fixed_audience = Some(FixedAudience::IssuerHost);
    let preset: &Provider = Box::leak(Box::new(Provider { fixed_audience, local_hosts, ..generic::PROVIDER }));
    let local = json!({"issuer": "https://a.svc", "jwks_uri": "https://a.svc/k"});
    let set = keys(&[rsa(), p256()]);
    let findings = examine_at("https://a.svc", preset, &with(document(), &local), &set);
    assert_eq!(told(&findings), ["refused local-host", "note fixed-audience"]);
    assert!(findings.list[1].sentence.contains("`a.svc`"), "{}", findings.list[1].sentence);
    let findings = examine_at(URL, preset, &document(), &set);
    assert_eq!(told(&findings), ["note fixed-audience"]);
    assert!(findings.is_accepted());
    let accepted = "accept_fixed_audience: true";
    let entry_of = |preset| entry(&IssuerUrl::parse(URL).unwrap(), preset, Reached::default());
    assert!(entry_of(preset).contains(accepted) && !entry_of(&generic::PROVIDER).contains(accepted));
}

#[test]
fn a_text_that_is_no_issuer_is_told_why() {
    let error = IssuerUrl::parse("http://ci.example").unwrap_err();
    let finding = Finding::not_an_issuer("http://ci.example", error);
    assert_eq!((finding.severity, finding.code), (Severity::Refused, "issuer-url"));
    assert!(finding.sentence.contains("must start with https://"), "{}", finding.sentence);
}

#[test]
fn an_entry_is_named_after_the_issuer() {
    for (url, provider, id) in [
        ("https://token.actions.githubusercontent.com", &github::PROVIDER, "github"),
        (
            "https://token.actions.githubusercontent.com/acme",
            &github::PROVIDER,
            "token.actions.githubusercontent.com-acme",
        ),
        ("https://CI.example".to_lowercase().as_str(), &generic::PROVIDER, "ci.example"),
        ("https://ci.example:8443/org/A_7/", &generic::PROVIDER, "ci.example-a-7"),
        ("http://[::1]:8080", &generic::PROVIDER, "1-"),
    ] {
        let entry = entry(&IssuerUrl::parse(url).unwrap(), provider, Reached::default());
        assert_eq!(entry.lines().nth(1), Some(format!("  {id}:").as_str()), "{entry}");
    }
    for (path, name) in
        [("/etc/acme/ca-1.pem", "ca-1.pem"), ("a/.hidden", "ca.pem"), ("a/x\"y", "ca.pem"), ("..", "ca.pem")]
    {
        let entry = entry(
            &IssuerUrl::parse(URL).unwrap(),
            &generic::PROVIDER,
            Reached { ca_file: Some(path.as_ref()), ..Reached::default() },
        );
        assert!(entry.contains(&format!("ca_file: \"{name}\"")), "{entry}");
    }
}
