//! pymacaroons, the library that registries in Python would verify with: it accepts what this service mints, narrows it
//! into something that this service accepts, and mints what this service accepts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::json::Json;
use trustmint::macaroon::Authentic;
use trustmint::macaroon::Codec;
use trustmint::macaroon::Facts;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::Macaroon;
use trustmint::macaroon::MasterKey;
use trustmint::macaroon::PrepareRequest;
use trustmint::macaroon::Provenance;
use trustmint::macaroon::RegistryKeyId;
use trustmint::macaroon::TokenId;
use trustmint::macaroon::prepare;
use trustmint::macaroon::registry_secret;
use trustmint::macaroon::verify;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::package::Permission;
use trustmint::time::Timestamp;

use crate::support::python;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_392_000);
const KEY: RegistryKeyId<'_> = RegistryKeyId { key_id: "python", codec: Codec::Text, epoch: 1 };
const PREFIX: &str = "tm_";

fn ask(request: &Value) -> Value {
    python::ask("pymacaroons_interop.py", request)
}

fn keyring() -> Keyring {
    let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap());
    Keyring::new(vec![MasterKey::generate("m1", bytes, NOW).unwrap()]).unwrap()
}

fn secret_hex() -> String {
    let keyring = keyring();
    let secret = registry_secret(keyring.get("m1").unwrap(), KEY);
    secret
        .expose()
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|n| char::from_digit(n.into(), 16).unwrap())
        .collect()
}

fn minted() -> String {
    let permissions = ["upload:widgets", "upload:widgets-*"];
    let permissions = permissions.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect();
    let claims = BTreeMap::from([("repository".to_owned(), Json::String("acme/widgets\u{20ac}".to_owned()))]);
    let provenance = Provenance {
        rules: vec!["widgets-release".to_owned()],
        policy_revision: "5f1d2a".to_owned(),
        issuer: "https://token.actions.githubusercontent.com".to_owned(),
        claims,
    };
    let request = PrepareRequest {
        registry: "python",
        key: KEY,
        location: "registry.example",
        prefix: PREFIX,
        permissions: &permissions,
        ttl: Duration::from_secs(900),
        versions: Some(&["1.0,\u{e9}".to_owned(), "1.0".to_owned()]),
        uses: Some(1),
        max_size: Some(1000),
        provenance: provenance.borrowed(),
        id: TokenId::new(NOW, [7; 10]),
    };
    prepare(&keyring(), request).unwrap().mint().token.expose().clone()
}

fn bare(token: &str) -> &str {
    token.strip_prefix(PREFIX).unwrap()
}

fn caveats(token: &str) -> Vec<String> {
    let token = Macaroon::decode_text(bare(token)).unwrap();
    token.caveats().map(|caveat| str::from_utf8(caveat).unwrap().to_owned()).collect()
}

fn authentic(bare: &str) -> Authentic {
    verify(&format!("{PREFIX}{bare}"), PREFIX, &keyring(), KEY, NOW).unwrap()
}

/// The codes for which an upload of `widgets` 1.0 is refused.
fn refusals(token: &Authentic, sha256: Option<[u8; 32]>) -> Vec<&'static str> {
    let package = PackageName::parse(Ecosystem::Pypi, "widgets").unwrap();
    let facts = Facts {
        registry: "python",
        now: NOW,
        action: &Action::upload(),
        package: &package,
        version: Some("1.0"),
        sha256,
        size: Some(1000),
        client_ip: None,
    };
    let cleared = token.clear(&facts, Ecosystem::Pypi);
    cleared.map_or_else(|failed| failed.iter().map(|failed| failed.code().as_str()).collect(), |_| vec![])
}

#[test]
fn pymacaroons_verifies_what_is_minted() {
    let token = minted();
    let (secret, caveats) = (secret_hex(), caveats(&token));
    let case =
        |secret: &str, caveats: &[String]| json!({"token": bare(&token), "secret_hex": secret, "caveats": caveats});
    let answer = ask(&json!({"verify": [
        case(&secret, &caveats),
        case(&secret, &caveats[1..]),
        case(&secret.replace('0', "1"), &caveats),
    ]}));
    let [right, unmet, wrong_key] = answer["verify"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!(right["verified"], true, "{right}");
    assert_eq!(right["location"], "registry.example");
    assert_eq!(right["caveats"], json!(caveats));
    assert_eq!(right["identifier"], authentic(bare(&token)).identifier().to_string());
    assert_eq!(right["again"], bare(&token), "written back byte for byte");
    assert_eq!(unmet["verified"], false);
    assert_eq!(wrong_key["verified"], false);
}

#[test]
fn what_pymacaroons_narrows_is_accepted_and_narrower() {
    let token = minted();
    let digest = format!("sha256 {}", "ab".repeat(32));
    let narrow = |caveats: &[&str]| json!({"token": bare(&token), "caveats": caveats});
    let answer = ask(&json!({"narrow": [
        narrow(&[]),
        narrow(&["version 1.0", &digest]),
        narrow(&["allow upload:gadgets", "x-vendor 1"]),
    ]}));
    let narrowed: Vec<_> =
        answer["narrow"].as_array().unwrap().iter().map(|t| authentic(t.as_str().unwrap())).collect();
    assert_eq!(answer["narrow"][0], bare(&token));
    assert_eq!(refusals(&narrowed[0], None), [""; 0]);
    assert_eq!(refusals(&narrowed[1], Some([0xab; 32])), [""; 0]);
    assert_eq!(refusals(&narrowed[1], Some([0xac; 32])), ["digest-not-covered"]);
    assert_eq!(refusals(&narrowed[1], None), ["fact-not-stated"]);
    assert_eq!(refusals(&narrowed[2], None), ["package-not-covered", "caveat-not-understood"]);
}

#[test]
fn what_pymacaroons_mints_is_accepted() {
    let token = minted();
    let (secret, caveats, identifier) =
        (secret_hex(), caveats(&token), authentic(bare(&token)).identifier().to_string());
    let mint = |secret: &str, caveats: &[String]| json!({"secret_hex": secret, "location": "registry.example", "identifier": identifier, "caveats": caveats});
    let answer = ask(&json!({"mint": [
        mint(&secret, &caveats),
        mint(&secret, &[]),
        mint(&secret.replace('0', "1"), &caveats),
    ]}));
    let [same, none, forged] = answer["mint"].as_array().unwrap().as_slice() else { panic!() };
    assert_eq!(same, bare(&token), "byte for byte what this service mints");
    assert_eq!(refusals(&authentic(same.as_str().unwrap()), None), [""; 0]);
    assert_eq!(refusals(&authentic(none.as_str().unwrap()), None), ["caveat-not-understood"; 3]);
    let forged = format!("{PREFIX}{}", forged.as_str().unwrap());
    assert_eq!(verify(&forged, PREFIX, &keyring(), KEY, NOW).unwrap_err().code().as_str(), "upload-token-unknown");
}

/// Why docs/offline.md wants a check that accepts anything: what a check of pymacaroons refuses is left out of the signature.
#[test]
fn pymacaroons_by_itself_says_yes_to_a_caveat_that_was_put_in_and_this_service_does_not() {
    let token = minted();
    let honest = caveats(&token);
    let mut forged: Vec<&[u8]> = honest.iter().map(String::as_bytes).collect();
    forged.insert(1, b"source_repo = evil/evil");
    let identifier = authentic(bare(&token)).identifier().to_string();
    let forged = Macaroon::create(b"any", "registry.example", identifier.as_bytes(), &forged).unwrap();
    let mut bytes = forged.encode().expose().clone();
    let tail = bytes.len() - 32;
    bytes[tail..].copy_from_slice(Macaroon::decode_text(bare(&token)).unwrap().signature().expose());
    let forged = Macaroon::decode(&bytes).unwrap().encode_text("").expose().clone();
    let answer = ask(&json!({"verify": [{"token": forged, "secret_hex": secret_hex(), "caveats": honest}]}));
    assert_eq!(answer["verify"][0]["verified"], true, "{answer}");
    assert!(answer["verify"][0]["caveats"].as_array().unwrap().contains(&json!("source_repo = evil/evil")));
    let refused = verify(&format!("{PREFIX}{forged}"), PREFIX, &keyring(), KEY, NOW).unwrap_err();
    assert_eq!(refused.code().as_str(), "upload-token-unknown");
}
