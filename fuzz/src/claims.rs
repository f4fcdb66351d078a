//! Claims: strict JSON, look-ups by name and pointer, the derived claims of every preset, and the checks of a token
//! whose signature is good.

use std::sync::Arc;
use std::sync::LazyLock;

use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use trustmint::identity::claims::Claims;
use trustmint::identity::issuer::Issuer;
use trustmint::identity::jwks::Key;
use trustmint::identity::jwks::KeySet;
use trustmint::identity::provider;
use trustmint::identity::provider::Kind;
use trustmint::identity::provider::Provider;
use trustmint::identity::token::UnverifiedToken;
use trustmint::identity::verify::verify;
use trustmint::json::Json;
use trustmint::json::MAX_DEPTH;
use trustmint::json::MAX_NODES;
use trustmint::json::Object;

use super::raw::Raw;

const LEEWAY: i64 = 30;

/// The key that signs whatever payload the fuzzer thinks of. No service trusts it.
static SIGNER: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());
static KEY: LazyLock<Arc<Key>> = LazyLock::new(|| {
    let x = URL_SAFE_NO_PAD.encode(SIGNER.public_key());
    let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
    Arc::clone(&KeySet::parse(set.as_bytes()).unwrap().0.keys()[0])
});

/// The input is a claim's name, a line feed, and a token's payload.
pub fn claims(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (name, document) = end.map_or((&b""[..], data), |end| (&data[..end], &data[end + 1..]));
    let Some(json) = parse(document) else { return };
    let value: Value = serde_json::from_slice(document).unwrap();
    assert!(agrees(&json, &value), "the document was read as another: {json:?}");
    let written = serde_json::to_vec(&json).unwrap();
    let again = Json::parse(&written).expect("what was read is written as JSON");
    assert!(near(&json, &again), "what was written is read as another document: {json:?}");

    let Json::Object(object) = json else { return };
    if let Ok(name) = str::from_utf8(name) {
        look_up(name, &object, &value);
    }
    for preset in provider::ALL {
        derive(preset, &object);
    }
    prove(object);
}

/// Reads a document, and says whether our reader was right to accept or refuse it.
fn parse(document: &[u8]) -> Option<Json> {
    let parsed = super::bounded(document.len(), 64, || Json::parse(document));
    let raw = Raw::read(document);
    let Some(raw) = raw else {
        let fault = parsed.expect_err("serde_json refuses it").to_string();
        assert!(fault.len() <= 160 && fault.is_ascii(), "the message quotes the document: {fault}");
        return None;
    };
    let shape = raw.shape();
    // The end of an array counts as an element.
    let is_small = shape.depth <= MAX_DEPTH && shape.nodes + shape.lists <= MAX_NODES;
    assert_eq!(parsed.is_ok(), is_small && !shape.repeated, "{:?}", parsed.err());
    parsed.ok()
}

/// Whether both say the same. `Value` keeps one of repeated members, so a lost one shows in the numbers.
fn agrees(json: &Json, value: &Value) -> bool {
    match (json, value) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(ours), Value::Bool(theirs)) => ours == theirs,
        (Json::Int(ours), Value::Number(theirs)) => theirs.as_i64() == Some(*ours),
        (Json::Float(ours), Value::Number(theirs)) => theirs.as_i64().is_none() && theirs.as_f64() == Some(*ours),
        (Json::String(ours), Value::String(theirs)) => ours == theirs,
        (Json::Array(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| agrees(ours, theirs))
        }
        (Json::Object(ours), Value::Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(name, ours)| theirs.get(name).is_some_and(|theirs| agrees(ours, theirs)))
        }
        _ => false,
    }
}

/// Whether two documents are equal, but for the last bit of a fraction.
fn near(a: &Json, b: &Json) -> bool {
    match (a, b) {
        (Json::Float(a), Json::Float(b)) => (a - b).abs() <= a.abs() * 1e-15,
        (Json::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| near(a, b)),
        (Json::Object(a), Json::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|((m, a), (n, b))| m == n && near(a, b))
        }
        (a, b) => a == b,
    }
}

fn look_up(name: &str, object: &Object, value: &Value) {
    let claims = Claims::new(object.clone(), Vec::new());
    let found = claims.get(name);
    let expected = if name.starts_with('/') { value.pointer(name) } else { value.get(name) };
    match (found, expected) {
        (None, None | Some(Value::Null)) => {}
        (Some(found), Some(expected)) if *found != Json::Null && agrees(found, expected) => {}
        _ => panic!("`{name}` found {found:?} where it should find {expected:?}"),
    }
    assert_eq!(claims.string(name), expected.and_then(Value::as_str));
}

fn derive(preset: &Provider, object: &Object) {
    let derived = preset.derive(object);
    assert_eq!(derived, preset.derive(object), "derived claims are functions of the token");
    let claims = Claims::new(object.clone(), derived.clone());
    for (declared, (name, value)) in preset.derived.iter().zip(&derived) {
        // SECURITY: a raw member of a derived claim's name is never seen.
        assert_eq!(claims.get(name), value.as_ref().filter(|value| **value != Json::Null), "{name} is not its own");
        if let Some(value) = value {
            assert!(fits(declared.claim.kind, value), "{name} is {value:?}");
        }
        // What is not declared as its source has no influence.
        let roots =
            declared.from.iter().map(|from| from.strip_prefix('/').and_then(|f| f.split('/').next()).unwrap_or(from));
        let source = roots.filter_map(|root| Some((root, object.get(root)?)));
        let source = source.fold(Object::default(), |source, (name, value)| source.with(name, value.clone()));
        assert_eq!((declared.derive)(&source), *value, "{name} depends on more than it declares");
    }
    for name in preset.claims.iter().map(|claim| claim.name).chain(preset.public.iter().copied()) {
        claims.get(preset.resolve(name));
    }
    match preset.name {
        "github" => derive_github(&claims),
        "gitlab" => derive_gitlab(&claims),
        _ => {}
    }
}

fn fits(kind: Kind, value: &Json) -> bool {
    match kind {
        Kind::String => matches!(value, Json::String(_)),
        Kind::Integer => matches!(value, Json::Int(_)),
        Kind::Bool => matches!(value, Json::Bool(_)),
        Kind::List => matches!(value, Json::Array(_)),
        Kind::Any => true,
    }
}

/// Taking apart loses nothing: the parts make the whole again.
fn derive_github(claims: &Claims) {
    let get = |name: &str| claims.string(name);
    for prefix in ["", "job_"] {
        let part = |name: &str| get(&format!("{prefix}workflow_{name}"));
        match (part("repository"), part("file"), part("git_ref")) {
            (None, None, None) => {}
            (Some(repository), Some(file), Some(git_ref)) => {
                let whole = format!("{repository}/.github/workflows/{file}@{git_ref}");
                assert_eq!(part("ref"), Some(whole.as_str()));
                assert!(!file.is_empty() && !file.contains('/'), "{file} is no file of the folder");
                assert_eq!(repository.split('/').filter(|part| !part.is_empty()).count(), 2, "{repository}");
                let is_commit = matches!(git_ref.len(), 40 | 64) && git_ref.bytes().all(|b| b.is_ascii_hexdigit());
                assert!(is_commit || git_ref.len() > 5 && git_ref.starts_with("refs/"), "{git_ref}");
            }
            parts => panic!("only some parts: {parts:?}"),
        }
    }
    if let Some(name) = get("repository_name") {
        let (owner, rest) = get("repository").unwrap().split_once('/').unwrap();
        assert!(!owner.is_empty() && !name.is_empty() && !name.contains('/') && rest == name);
    }
    if let Some(tag) = get("tag") {
        assert_eq!(get("ref"), Some(format!("refs/tags/{tag}").as_str()));
        assert_eq!((get("ref_type"), tag.is_empty()), (Some("tag"), false));
    }
}

fn derive_gitlab(claims: &Claims) {
    let get = |name: &str| claims.string(name);
    if let Some(name) = get("project_name") {
        assert!(!name.is_empty() && !name.contains('/'));
        assert!(get("project_path").unwrap().ends_with(&format!("/{name}")));
    }
    if let Some(tag) = get("tag") {
        assert_eq!((get("ref"), get("ref_type"), tag.is_empty()), (Some(tag), Some("tag"), false));
        assert!(get("ref_path").is_none_or(|path| path == format!("refs/tags/{tag}")));
    }
    if let Some(file) = get("ci_config_file") {
        let own = format!("/{}//{file}@{}", get("project_path").unwrap(), get("ref_path").unwrap());
        let host = get("ci_config_ref_uri").unwrap().strip_suffix(&own).expect("the parts make the whole");
        assert!(!host.contains('/') && !file.is_empty());
    }
}

/// Signs the payload as the issuer that it names, or as one of no preset, and has it verified.
fn prove(object: Object) {
    let named = |issuer: &&Arc<Issuer>| object.get("iss").and_then(Json::as_str) == Some(issuer.url().as_str());
    let issuer =
        super::ISSUERS.iter().find(named).or_else(|| super::ISSUERS.iter().find(|issuer| issuer.id == "generic"));
    let issuer = issuer.unwrap();
    let payload = object.with("iss", Json::String(issuer.url().to_string()));
    let payload = serde_json::to_value(Json::Object(payload)).unwrap();
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let input = format!("{}.{}", encode(br#"{"alg":"EdDSA"}"#), encode(payload.to_string().as_bytes()));
    let text = format!("{input}.{}", encode(SIGNER.sign(input.as_bytes()).as_ref()));
    let Ok(token) = UnverifiedToken::parse(&text) else { return };

    let verified = match verify(token, &KEY, issuer, &super::audiences(), super::now()) {
        Ok(verified) => verified,
        Err(error) => return super::short(&error.to_string()),
    };
    assert_eq!(verified.issuer().url().as_str(), issuer.url().as_str());
    let list = payload["aud"].as_array();
    assert!(list.is_none_or(|list| list.len() == 1), "several audiences");
    let audience = list.map_or(&payload["aud"], |list| &list[0]).as_str();
    assert_eq!(audience, Some(verified.audience()));
    assert!(super::audiences().iter().any(|accepted| accepted == verified.audience()));
    let time = |name: &str| payload[name].as_i64();
    let (issued_at, expires_at) = (time("iat").unwrap(), time("exp").unwrap());
    assert!(payload.get("nbf").is_none_or(|nbf| nbf.as_i64().is_some_and(|nbf| nbf <= super::NOW + LEEWAY)));
    assert!((0..=super::NOW + LEEWAY).contains(&issued_at) && expires_at > super::NOW - LEEWAY);
    let lifetime = u64::try_from(expires_at - issued_at).unwrap();
    assert!(lifetime > 0 && lifetime <= issuer.max_lifetime.as_secs());
    assert_eq!(payload["jti"].as_str().filter(|jti| !jti.is_empty()), verified.jti());
    assert!(verified.jti().is_none_or(|jti| jti.len() <= 256));
    assert!(payload.get("sub").is_none_or(Value::is_string));
    for name in issuer.provider().required {
        let value = verified.claims().raw().get(name).expect("a job's claim is there");
        let kind = issuer.provider().claim(name).map_or(Kind::Any, |claim| claim.kind);
        assert!(*value != Json::Null && fits(kind, value), "{name} is {value:?}");
    }
}
