//! Key sets: every key is public, asymmetric and strong, known by one name, and no bytes that nobody signed are its
//! signature.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trustmint::identity::jwks::Find;
use trustmint::identity::jwks::JwksError;
use trustmint::identity::jwks::Key;
use trustmint::identity::jwks::KeyKind;
use trustmint::identity::jwks::KeySet;
use trustmint::identity::jwks::MAX_DOCUMENT;
use trustmint::identity::jwks::MAX_KEYS;
use trustmint::identity::jwks::SigningInput;
use trustmint::identity::jwks::SkipReason;
use trustmint::identity::token::Algorithm;

use super::raw::Parts;
use super::raw::Raw;

/// Bytes allocated for each byte of a document: the shortest members take two, and a message says why each is no key.
const EACH: u64 = 128;

/// The input is a document.
pub fn jwks(data: &[u8]) {
    let (set, skipped) = match super::bounded(data.len(), EACH, || KeySet::parse(data)) {
        Ok(parsed) => parsed,
        Err(error) => {
            super::short(&error.to_string());
            assert_eq!(error == JwksError::TooLarge, data.len() > MAX_DOCUMENT);
            return;
        }
    };
    assert!(data.len() <= MAX_DOCUMENT && set.len() + skipped.len() <= MAX_KEYS);
    for skipped in &skipped {
        super::short(&skipped.to_string());
    }
    find(&set);
    for key in set.keys().iter().take(2) {
        verify_garbage(key, data);
    }
    let Some(raw) = Raw::read(data) else { return };
    let Parts::Members(_) = &raw.parts else { panic!("a key set is no object") };
    let Parts::List(members) = &raw.member("keys").expect("a key set has `keys`").parts else {
        panic!("`keys` is no array")
    };
    assert_eq!(members.len(), set.len() + skipped.len(), "members got lost");
    compose(members, &set);
}

/// A name finds its one key, another name none, and no name the only key.
fn find(set: &KeySet) {
    let mut names = HashMap::new();
    for key in set.keys() {
        if let Some(kid) = key.kid() {
            assert!((1..=256).contains(&kid.len()) && kid.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
            assert!(names.insert(kid, key).is_none(), "two keys are named {kid}");
        }
    }
    for (kid, key) in names {
        assert!(matches!(set.find(Some(kid)), Find::Key(found) if Arc::ptr_eq(&found, key)));
        assert!(!matches!(set.find(Some(&format!("{kid}\u{e9}"))), Find::Key(_)));
    }
    assert!(!matches!(set.find(Some("")), Find::Key(_)), "a key without a name has a name");
    match set.find(None) {
        Find::Key(key) => assert!(set.len() == 1 && Arc::ptr_eq(&key, &set.keys()[0])),
        Find::UnknownKid | Find::KidRequired => assert_ne!(set.len(), 1),
    }
}

fn verify_garbage(key: &Key, data: &[u8]) {
    let tail = &data[data.len().saturating_sub(96)..];
    let one = |length: usize| (1..=length).map(|at| u8::from(at == length)).collect::<Vec<u8>>();
    let mut signatures = vec![
        Vec::new(),
        tail.to_vec(),
        // What solves the equations of weak verifiers: zeros, ones.
        vec![0; 64],
        vec![0; 96],
        [one(32), one(32)].concat(),
        [one(48), one(48)].concat(),
        // The identity point's signature of everything.
        [vec![1], vec![0; 63]].concat(),
    ];
    if key.kind() == KeyKind::Rsa {
        signatures.push(vec![0; 256]);
        signatures.push(one(256));
    }
    let input = SigningInput::new(b"header.payload");
    for algorithm in Algorithm::ALL {
        assert!(!key.accepts(algorithm) || key.kind().verifies(algorithm));
        for signature in &signatures {
            assert!(!key.verifies(algorithm, &input, signature), "{signature:?} is no signature by {key:?}");
        }
    }
}

/// The set has the keys that its members are one by one, but for those that share a name: an odd member breaks none.
fn compose(members: &[Raw<'_>], set: &KeySet) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    let mut single = Vec::new();
    for member in members {
        let alone = format!(r#"{{"keys":[{}]}}"#, member.text);
        // With the brackets around it, it may be too long.
        let Ok((alone, skipped)) = KeySet::parse(alone.as_bytes()) else { return };
        let kid = member.member("kid").and_then(Raw::string);
        if !skipped.iter().any(|skipped| skipped.reason == SkipReason::Unreadable)
            && let Some(kid) = &kid
        {
            *uses.entry(kid.clone()).or_default() += 1;
        }
        single.extend(alone.keys().first().map(|key| (kid, Arc::clone(key), member)));
    }
    single.retain(|(kid, ..)| kid.as_ref().is_none_or(|kid| uses[kid] == 1));
    assert_eq!(single.len(), set.len(), "a member decides over another");
    for ((kid, alone, member), key) in single.iter().zip(set.keys()) {
        assert_eq!((kid.as_deref(), alone.kind()), (key.kid(), key.kind()));
        assert!(Algorithm::ALL.into_iter().all(|algorithm| alone.accepts(algorithm) == key.accepts(algorithm)));
        judge(member, key);
    }
}

/// Whether the member may be a key at all, from its own text.
fn judge(member: &Raw<'_>, key: &Key) {
    let there = |name: &str| member.member(name).filter(|value| value.text != "null");
    let string = |name: &str| there(name).map(|value| value.string().expect("it is a string"));
    let number = |name: &str| {
        let text = string(name).expect("a number is there");
        let bytes = URL_SAFE_NO_PAD.decode(&text).expect("a number is base64url");
        assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), text);
        bytes
    };
    assert!(["d", "p", "q", "dp", "dq", "qi"].into_iter().all(|part| there(part).is_none()), "a private key");
    assert!(string("use").is_none_or(|purpose| purpose == "sig"));
    assert!(
        there("key_ops").is_none_or(|operations| operations.text.contains("verify") || operations.text.contains('\\'))
    );
    if let Some(algorithm) = string("alg") {
        for other in Algorithm::ALL {
            assert_eq!(key.accepts(other), other.name() == algorithm, "a key for {algorithm}");
        }
    }
    let kind = match (string("kty").as_deref(), string("crv").as_deref()) {
        (Some("RSA"), _) => {
            let (modulus, exponent) = (number("n"), number("e"));
            let bits = bits(&modulus);
            assert!((2048..=8192).contains(&bits), "{bits} bits");
            let e = exponent.iter().fold(0_u128, |value, byte| (value << 8 | u128::from(*byte)).min(1 << 64));
            assert!((65_537..1 << 32).contains(&e), "the exponent {e}");
            assert!(modulus.last().unwrap() % 2 == 1 && e % 2 == 1);
            KeyKind::Rsa
        }
        (Some("EC"), Some("P-256")) => {
            assert_eq!((number("x").len(), number("y").len()), (32, 32));
            KeyKind::P256
        }
        (Some("EC"), Some("P-384")) => {
            assert_eq!((number("x").len(), number("y").len()), (48, 48));
            KeyKind::P384
        }
        (Some("OKP"), Some("Ed25519")) => {
            assert_eq!(number("x").len(), 32);
            KeyKind::Ed25519
        }
        other => panic!("a key of the type {other:?}"),
    };
    assert_eq!(key.kind(), kind);
}

/// The length of a number, counted bit by bit.
fn bits(number: &[u8]) -> usize {
    let bits = number.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    bits.skip_while(|bit| *bit == 0).count()
}
