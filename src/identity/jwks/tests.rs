use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::testing::base64url;
use crate::identity::testing::ed25519_jwk;
use crate::identity::testing::jwk_for;
use crate::identity::testing::p256_jwk;
use crate::identity::testing::p384_jwk;
use crate::identity::testing::rsa_jwk;
use crate::identity::testing::set;
use crate::identity::testing::signature;
use crate::identity::testing::with;

fn parse(members: &[Value]) -> (KeySet, Vec<SkippedKey>) {
    KeySet::parse(json!({ "keys": members }).to_string().as_bytes()).unwrap()
}

/// The reason for which the one member is skipped, beside a good key that stays usable.
#[track_caller]
fn reason(member: Value) -> SkipReason {
    let (keys, skipped) = parse(&[member, with(ed25519_jwk(), "kid", json!("good"))]);
    assert!(matches!(keys.find(Some("good")), Find::Key(_)), "one odd key broke the set");
    assert_eq!((keys.len(), skipped.len()), (1, 1));
    skipped[0].reason
}

fn without(mut jwk: Value, name: &str) -> Value {
    jwk.as_object_mut().unwrap().remove(name);
    jwk
}

#[test]
fn each_kind_of_key_verifies_its_algorithms_and_no_other() {
    let keys = set(&[rsa_jwk(), p256_jwk(), p384_jwk(), ed25519_jwk()]);
    for algorithm in Algorithm::ALL {
        let signature = signature(algorithm, b"message");
        let kid = jwk_for(algorithm)["kid"].as_str().unwrap().to_owned();
        for key in keys.keys() {
            for claimed in Algorithm::ALL {
                let expected = key.kid() == Some(&kid) && claimed == algorithm;
                let verified = key.verifies(claimed, &SigningInput::new(b"message"), &signature);
                assert_eq!(verified, expected, "{algorithm:?} as {claimed:?} under {:?}", key.kid());
            }
            assert!(!key.verifies(algorithm, &SigningInput::new(b"another message"), &signature));
        }
    }
}

#[test]
fn what_is_signed_is_not_printed() {
    assert_eq!(format!("{:?}", SigningInput::new(b"header.payload")), "SigningInput { bytes: 14, .. }");
}

#[test]
fn a_kind_of_key_is_bound_to_its_algorithms() {
    use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    for (kind, expected) in [
        (KeyKind::Rsa, vec![Rs256, Rs384, Rs512, Ps256, Ps384, Ps512]),
        (KeyKind::P256, vec![Es256]),
        (KeyKind::P384, vec![Es384]),
        (KeyKind::Ed25519, vec![EdDsa]),
    ] {
        let verified: Vec<_> = Algorithm::ALL.into_iter().filter(|algorithm| kind.verifies(*algorithm)).collect();
        assert_eq!(verified, expected, "{kind}");
    }
}

#[test]
fn a_key_that_declares_its_algorithm_verifies_only_that() {
    let keys = set(&[with(rsa_jwk(), "alg", json!("RS512"))]);
    let Find::Key(key) = keys.find(Some("rsa")) else { panic!("not found") };
    for algorithm in Algorithm::ALL {
        assert_eq!(key.accepts(algorithm), algorithm == Algorithm::Rs512, "{algorithm:?}");
    }
    let signature = signature(Algorithm::Rs256, b"message");
    assert!(!key.verifies(Algorithm::Rs256, &SigningInput::new(b"message"), &signature));
}

#[test]
fn unusable_members_are_skipped_with_their_reason() {
    let rsa_of = |bits: usize| {
        let mut modulus = vec![0xff; bits / 8];
        modulus[0] >>= (8 - bits % 8) % 8;
        with(rsa_jwk(), "n", json!(base64url(modulus)))
    };
    let exponent = |bytes: &[u8]| with(rsa_jwk(), "e", json!(base64url(bytes)));
    let even = URL_SAFE_NO_PAD.decode(rsa_jwk()["n"].as_str().unwrap()).map(|mut n| {
        *n.last_mut().unwrap() &= 0xfe;
        base64url(n)
    });
    let (p256, ed) = (p256_jwk, ed25519_jwk);
    for (member, expected) in [
        (json!("text"), SkipReason::Unreadable),
        (json!(null), SkipReason::Unreadable),
        (json!([]), SkipReason::Unreadable),
        (json!({}), SkipReason::Unreadable),
        (with(rsa_jwk(), "kid", json!(7)), SkipReason::Unreadable),
        (with(rsa_jwk(), "n", json!(7)), SkipReason::Unreadable),
        (with(rsa_jwk(), "kid", json!("")), SkipReason::KeyId),
        (with(rsa_jwk(), "kid", json!("a\u{0}b")), SkipReason::KeyId),
        (with(rsa_jwk(), "kid", json!("é")), SkipReason::KeyId),
        (with(rsa_jwk(), "kid", json!("k".repeat(257))), SkipReason::KeyId),
        (json!({"kty": "oct", "kid": "hmac", "k": "c2VjcmV0", "alg": "HS256"}), SkipReason::KeyType),
        (json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-44", "pub": "AA"}), SkipReason::KeyType),
        (with(p256(), "crv", json!("secp256k1")), SkipReason::Curve),
        (with(p256(), "crv", json!("P-521")), SkipReason::Curve),
        (without(p256(), "crv"), SkipReason::Curve),
        (with(ed(), "crv", json!("Ed448")), SkipReason::Curve),
        (with(ed(), "crv", json!("X25519")), SkipReason::Curve),
        (with(rsa_jwk(), "use", json!("enc")), SkipReason::Use),
        (with(rsa_jwk(), "use", json!("x509-svid")), SkipReason::Use),
        (with(rsa_jwk(), "key_ops", json!(["encrypt"])), SkipReason::Use),
        (with(rsa_jwk(), "alg", json!("HS256")), SkipReason::Algorithm),
        (with(rsa_jwk(), "alg", json!("ES256")), SkipReason::Algorithm),
        (with(rsa_jwk(), "alg", json!("RSA-OAEP-256")), SkipReason::Algorithm),
        (with(p256(), "alg", json!("ES384")), SkipReason::Algorithm),
        (with(rsa_jwk(), "d", json!("AQAB")), SkipReason::Private),
        (with(ed(), "d", json!("AA")), SkipReason::Private),
        (without(rsa_jwk(), "n"), SkipReason::Encoding),
        (without(rsa_jwk(), "e"), SkipReason::Encoding),
        (without(p256(), "y"), SkipReason::Encoding),
        (with(rsa_jwk(), "e", json!("AQAB=")), SkipReason::Encoding),
        (with(rsa_jwk(), "e", json!("AQ+/")), SkipReason::Encoding),
        (with(p256(), "x", json!(base64url([1; 31]))), SkipReason::Encoding),
        (rsa_of(512), SkipReason::Modulus),
        (rsa_of(1024), SkipReason::Modulus),
        (rsa_of(2040), SkipReason::Modulus),
        (rsa_of(8200), SkipReason::Modulus),
        (rsa_of(16_384), SkipReason::Modulus),
        (with(rsa_jwk(), "n", json!(base64url([0; 256]))), SkipReason::Modulus),
        (with(rsa_jwk(), "n", json!("")), SkipReason::Modulus),
        (with(rsa_jwk(), "n", json!(even.unwrap())), SkipReason::Modulus),
        (exponent(&[1]), SkipReason::Exponent),
        (exponent(&[3]), SkipReason::Exponent),
        (exponent(&[0, 0, 0, 0, 17]), SkipReason::Exponent),
        (exponent(&[1, 0, 0]), SkipReason::Exponent),
        (exponent(&[1, 0, 0, 0, 1]), SkipReason::Exponent),
        (exponent(&[]), SkipReason::Exponent),
        (with(p256(), "x", json!(base64url([1; 32]))), SkipReason::Invalid),
        (with(ed(), "x", json!(base64url([1; 31]))), SkipReason::Invalid),
    ] {
        let text = member.to_string();
        assert_eq!(reason(member), expected, "{text}");
    }
}

#[test]
fn a_point_of_small_order_is_no_key() {
    let reversed = |hex: &str| {
        let digits = hex.as_bytes().rchunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect::<Vec<u8>>()
    };
    for y in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000001",
        "05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826",
        "7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed",
        "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffee",
    ] {
        let mut point = reversed(y);
        assert_eq!(reason(with(ed25519_jwk(), "x", json!(base64url(&point)))), SkipReason::Invalid, "{y}");
        point[31] |= 0x80;
        assert_eq!(reason(with(ed25519_jwk(), "x", json!(base64url(&point)))), SkipReason::Invalid, "-{y}");
    }
}

#[test]
fn a_bundle_holds_what_a_trust_domain_signs_svids_with() {
    let svid = |jwk: Value| with(jwk, "use", json!("jwt-svid"));
    let members = [
        svid(rsa_jwk()),
        svid(p256_jwk()),
        // X.509 authorities have no `kid`, and are of the same key types.
        with(without(p384_jwk(), "kid"), "use", json!("x509-svid")),
        with(with(p384_jwk(), "kid", json!("a")), "use", json!("x509-svid")),
        // A use to come, none, and an OIDC issuer's.
        with(with(p384_jwk(), "kid", json!("b")), "use", json!("wit-svid")),
        without(with(p384_jwk(), "kid", json!("c")), "use"),
        with(p384_jwk(), "kid", json!("d")),
        // A kind to come, and one without the name that a bundle must give it.
        json!({"kty": "AKP", "kid": "e", "use": "jwt-svid"}),
        without(svid(p384_jwk()), "kid"),
    ];
    let text = json!({"spiffe_sequence": 7, "spiffe_refresh_hint": 300, "keys": members}).to_string();
    let (keys, skipped) = KeySet::parse_bundle(text.as_bytes()).unwrap();
    assert_eq!(keys.keys().iter().filter_map(|key| key.kid()).collect::<Vec<_>>(), ["rsa", "p256"]);
    let reasons: Vec<_> = skipped.iter().map(|key| key.reason).collect();
    assert_eq!(reasons, [[SkipReason::Use; 5].as_slice(), &[SkipReason::KeyType, SkipReason::KeyId]].concat());
    // The same document as an OIDC issuer's: the marks of a bundle mean nothing there.
    let (keys, _) = KeySet::parse(text.as_bytes()).unwrap();
    assert_eq!(keys.keys().iter().filter_map(|key| key.kid()).collect::<Vec<_>>(), ["c", "d"]);
    assert_eq!(reason(svid(rsa_jwk())), SkipReason::Use);
    assert_eq!(KeySet::parse_bundle(b"{}").unwrap_err(), JwksError::NotAKeySet);
    assert!(KeySet::parse_bundle(br#"{"keys":[]}"#).unwrap().0.is_empty());
}

#[test]
fn how_deep_a_key_is_nested_concerns_that_key_until_the_document_cannot_be_read() {
    let with_depth = |depth: usize| {
        let odd = format!(r#"{{"kty":"OKP","kid":"odd","x5c":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        KeySet::parse(format!(r#"{{"keys":[{odd},{}]}}"#, ed25519_jwk()).as_bytes())
    };
    assert_eq!(with_depth(100).unwrap().0.len(), 1);
    assert_eq!(with_depth(1000).unwrap_err(), JwksError::NotAKeySet);
    assert_eq!(with_depth(40_000).unwrap_err(), JwksError::NotAKeySet);
    let beside = format!(r#"{{"x":{}{},"keys":[{}]}}"#, "[".repeat(40_000), "]".repeat(40_000), ed25519_jwk());
    assert!(KeySet::parse(beside.as_bytes()).is_ok_and(|(keys, _)| keys.len() == 1));
}

#[test]
fn a_repeated_member_makes_a_key_unreadable() {
    let jwk = ed25519_jwk().to_string();
    let text = format!(
        r#"{{"keys":[{},{{"kid":"other",{}]}}"#,
        jwk.replacen('{', r#"{"kid":"x","#, 1),
        jwk.trim_start_matches('{')
    );
    let (keys, skipped) = KeySet::parse(text.as_bytes()).unwrap();
    assert!(keys.is_empty());
    assert!(skipped.iter().all(|key| key.reason == SkipReason::Unreadable), "{skipped:?}");
}

#[test]
fn two_keys_of_one_name_are_both_refused() {
    let (keys, skipped) = parse(&[rsa_jwk(), with(p256_jwk(), "kid", json!("rsa")), ed25519_jwk()]);
    assert_eq!(keys.len(), 1);
    assert!(matches!(keys.find(Some("rsa")), Find::UnknownKid));
    assert!(skipped.iter().all(|key| key.reason == SkipReason::DuplicateKid && key.kid.as_deref() == Some("rsa")));
    // Also when only one of them would be usable.
    let (keys, _) = parse(&[rsa_jwk(), json!({"kty": "oct", "kid": "rsa", "k": "AA"})]);
    assert!(keys.is_empty());
}

#[test]
fn a_token_without_a_kid_needs_a_set_of_one() {
    assert!(matches!(set(&[rsa_jwk()]).find(None), Find::Key(_)));
    assert!(matches!(set(&[rsa_jwk(), p256_jwk()]).find(None), Find::KidRequired));
    assert!(matches!(set(&[]).find(None), Find::KidRequired));
    assert!(matches!(set(&[rsa_jwk()]).find(Some("other")), Find::UnknownKid));
    // A key without a name is not the key of every name.
    assert!(matches!(set(&[without(rsa_jwk(), "kid")]).find(Some("rsa")), Find::UnknownKid));
}

#[test]
fn a_kid_is_compared_byte_by_byte() {
    let keys = set(&[with(rsa_jwk(), "kid", json!("../../etc/passwd"))]);
    assert!(matches!(keys.find(Some("../../etc/passwd")), Find::Key(_)));
    for other in ["../../etc/passwd ", "../../ETC/passwd", "passwd", ""] {
        assert!(matches!(keys.find(Some(other)), Find::UnknownKid), "{other}");
    }
}

#[test]
fn sets_as_real_providers_publish_them_are_read() {
    // GitHub: certificates beside the numbers. GitLab: nothing else. AWS: RSA without `alg` beside P-384.
    let github = with(with(rsa_jwk(), "alg", json!("RS256")), "x5c", json!(["MIIC…", {"odd": 1}]));
    let aws = [with(without(rsa_jwk(), "use"), "kid", json!("RSA_0")), with(p384_jwk(), "alg", json!("ES384"))];
    assert_eq!(parse(&[github, aws[0].clone(), aws[1].clone()]).0.len(), 3);
    // Entra: a template of the issuer in each key. SPIFFE: members beside `keys`.
    assert_eq!(parse(&[with(rsa_jwk(), "issuer", json!("https://login.example/{tenantid}"))]).0.len(), 1);
    let text = json!({"spiffe_sequence": 7, "keys": [ed25519_jwk()]}).to_string();
    assert_eq!(KeySet::parse(text.as_bytes()).unwrap().0.len(), 1);
    // Jenkins: a leading zero octet, and a name for people.
    let n = URL_SAFE_NO_PAD.decode(rsa_jwk()["n"].as_str().unwrap()).unwrap();
    let jenkins = with(rsa_jwk(), "n", json!(base64url([&[0][..], &n].concat())));
    let Find::Key(key) = set(&[with(jenkins, "kid", json!("Release signing key"))]).find(Some("Release signing key"))
    else {
        panic!("not found")
    };
    assert!(key.verifies(Algorithm::Rs256, &SigningInput::new(b"m"), &signature(Algorithm::Rs256, b"m")));
}

#[test]
fn a_document_that_is_no_key_set_is_an_error() {
    for text in
        ["", "[]", "{}", "<html>", r#"{"keys":"x"}"#, r#"{"keys":null}"#, r#"{"keys":[],"keys":[]}"#, "{\"keys\":[]} x"]
    {
        assert_eq!(KeySet::parse(text.as_bytes()).unwrap_err(), JwksError::NotAKeySet, "{text}");
    }
    assert!(KeySet::parse(br#"{"keys":[]}"#).unwrap().0.is_empty());
    let many = json!({"keys": vec![json!({}); 65]}).to_string();
    assert_eq!(KeySet::parse(many.as_bytes()).unwrap_err(), JwksError::TooManyKeys(65));
    let large = format!(r#"{{"keys":[]{}}}"#, " ".repeat(MAX_DOCUMENT));
    assert_eq!(KeySet::parse(large.as_bytes()).unwrap_err(), JwksError::TooLarge);
    let deep = format!(r#"{{"keys":[{}1{}]}}"#, "[".repeat(40_000), "]".repeat(40_000));
    assert_eq!(KeySet::parse(deep.as_bytes()).unwrap_err(), JwksError::NotAKeySet);
}

#[test]
fn a_skipped_key_is_named() {
    let (_, skipped) = parse(&[json!({"kty": "oct", "kid": "hmac"}), json!(1)]);
    assert_eq!(skipped[0].to_string(), "key `hmac`: its `kty` is not RSA, EC or OKP");
    assert_eq!(skipped[1].to_string(), "a key without a `kid`: cannot be read as a JSON Web Key");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panicking(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = KeySet::parse(&bytes);
    }

    #[test]
    fn any_numbers_are_read_without_panicking(n in ".{0,40}", e in "[A-Za-z0-9_-]{0,8}", x in "[A-Za-z0-9_-]{40,64}") {
        let rsa = json!({"kty": "RSA", "n": n, "e": e});
        let ec = json!({"kty": "EC", "crv": "P-256", "x": x, "y": x});
        let (_, skipped) = parse(&[rsa, ec, json!({"kty": "OKP", "crv": "Ed25519", "x": n})]);
        prop_assert!(skipped.len() >= 2);
    }

    #[test]
    fn no_other_signature_verifies(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for key in set(&[rsa_jwk(), p256_jwk(), p384_jwk(), ed25519_jwk()]).keys() {
            for algorithm in Algorithm::ALL {
                prop_assert!(!key.verifies(algorithm, &SigningInput::new(b"message"), &bytes));
            }
        }
    }
}
