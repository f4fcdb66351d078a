//! Project Wycheproof's vectors of JSON Web Signatures and Keys against the layers that read and check them here: the
//! key set, the compact form and the signature. Where we decide otherwise than the vectors, the table says why.

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use trustmint::identity::jwks::Find;
use trustmint::identity::jwks::KeySet;
use trustmint::identity::jwks::SigningInput;
use trustmint::identity::token::Algorithm;
use trustmint::identity::token::Jws;
use trustmint::identity::token::TokenError;

const HMAC: &str = "HMAC: whoever can verify can sign, so it does not exist here";
const P521: &str = "ES512: no provider signs with P-521, so it is not verified";
const DECLARED: &str = "the key declares PS256 and the token PS384: a key is used under its own algorithm only";

/// Vectors that Wycheproof calls valid and we refuse, by file and `tcId`. Nothing that it calls invalid is accepted.
const DIVERGENCES: &[(&str, RangeInclusive<u64>, &str)] = &[
    ("json_web_crypto", 1..=1, HMAC),
    ("json_web_crypto", 48..=48, HMAC),
    ("json_web_key", 2..=2, HMAC),
    ("json_web_key", 13..=15, HMAC),
    ("json_web_signature", 1..=1, HMAC),
    ("json_web_signature", 348..=348, HMAC),
    ("json_web_signature", 352..=352, HMAC),
    ("json_web_signature", 357..=359, HMAC),
    // Also text that is not base64url, which the vectors count as valid for decoders that skip what they cannot read.
    ("json_web_signature", 372..=373, HMAC),
    ("json_web_signature", 376..=377, HMAC),
    ("json_web_signature", 346..=346, DECLARED),
    ("json_web_signature", 350..=350, DECLARED),
    ("json_web_signature", 347..=347, P521),
    ("json_web_signature", 351..=351, P521),
];

/// The vectors of one file, each with the group it belongs to.
#[expect(clippy::disallowed_methods, reason = "the test command says in the environment where it put the vectors")]
fn vectors(name: &str) -> Vec<(Value, Value)> {
    let folder = std::env::var_os("TRUSTMINT_TEST_WYCHEPROOF").expect(
        "TRUSTMINT_TEST_WYCHEPROOF is not set: run the tests with `tests/run`, which fetches the vectors, or name the \
         folder `testvectors_v1` of the Go module of tests/wycheproof/go.mod",
    );
    let path = Path::new(&folder).join(format!("{name}_test.json"));
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: Value = serde_json::from_slice(&text).unwrap();
    let mut vectors = Vec::new();
    for group in file["testGroups"].as_array().unwrap() {
        vectors.extend(group["tests"].as_array().unwrap().iter().map(|test| (group.clone(), test.clone())));
    }
    assert_eq!(vectors.len() as u64, file["numberOfTests"].as_u64().unwrap(), "{name}");
    vectors
}

/// The keys of a group: its public half where it has one, else the shared secret.
fn keys(group: &Value) -> KeySet {
    let published = group.get("public").or_else(|| group.get("private")).unwrap();
    let document = if published.get("keys").is_some() { published.clone() } else { json!({ "keys": [published] }) };
    KeySet::parse(document.to_string().as_bytes()).unwrap().0
}

/// What becomes of a text under these keys: `true` if the signature is believed.
fn is_believed(keys: &KeySet, text: &str) -> bool {
    Jws::parse(text).is_ok_and(|jws| match keys.find(jws.kid()) {
        Find::Key(key) => jws.is_signed_by(&key),
        Find::UnknownKid | Find::KidRequired => false,
    })
}

#[test]
fn signatures_and_keys_are_judged_as_wycheproof_judges_them_but_for_what_the_table_says() {
    let (mut agreed, mut under_a_key, mut diverged, mut wrong) = (0, 0, BTreeMap::new(), Vec::new());
    for name in ["json_web_signature", "json_web_key", "json_web_crypto"] {
        for (group, test) in vectors(name).iter().filter(|(_, test)| test.get("jws").is_some()) {
            let id = test["tcId"].as_u64().unwrap();
            let expected = test["result"] == "valid";
            let text = test["jws"].as_str().map_or_else(|| test["jws"].to_string(), str::to_owned);
            let listed = DIVERGENCES.iter().find(|(file, ids, _)| *file == name && ids.contains(&id));
            let keys = keys(group);
            match (is_believed(&keys, &text), expected, listed) {
                (ours, theirs, None) if ours == theirs => {
                    agreed += 1;
                    under_a_key += usize::from(!keys.is_empty());
                }
                (false, true, Some((.., reason))) => *diverged.entry(*reason).or_insert(0) += 1,
                (ours, ..) => wrong.push(format!("{name} {id} ({}): believed: {ours}", test["comment"])),
            }
        }
    }
    assert!(wrong.is_empty(), "neither as Wycheproof expects nor as the table says:\n{}", wrong.join("\n"));
    // The figures of the pinned version, so that vectors which went missing are noticed. Under no usable key a vector
    // only shows that the key is refused.
    assert_eq!((agreed, under_a_key), (456, 384));
    assert_eq!(diverged, BTreeMap::from([(HMAC, 16), (P521, 2), (DECLARED, 2)]));
}

#[test]
fn encrypted_tokens_are_refused_by_their_form() {
    let mut refused = 0;
    for name in ["json_web_encryption", "json_web_crypto"] {
        for (_, test) in vectors(name).iter().filter(|(_, test)| test.get("jwe").is_some()) {
            let text = test["jwe"].as_str().map_or_else(|| test["jwe"].to_string(), str::to_owned);
            let error = Jws::parse(&text).expect_err("an encrypted token");
            assert!(!matches!(error, TokenError::BadSignature), "{error}");
            refused += 1;
        }
    }
    assert_eq!(refused, 173);
}

/// The signature schemes below the token's form: edge cases that need a key or a message of their own.
#[test]
fn bare_signatures_are_judged_as_wycheproof_judges_them() {
    let mut judged = 0;
    for (name, algorithm) in [
        ("ecdsa_secp256r1_sha256_p1363", Algorithm::Es256),
        ("ecdsa_secp384r1_sha384_p1363", Algorithm::Es384),
        ("ed25519", Algorithm::EdDsa),
        ("rsa_signature_2048_sha384", Algorithm::Rs384),
        ("rsa_pss_2048_sha256_mgf1_32", Algorithm::Ps256),
    ] {
        for (group, test) in vectors(name) {
            let document = json!({"keys": [bare_key(&group)]}).to_string();
            let keys = KeySet::parse(document.as_bytes()).unwrap().0;
            let Find::Key(key) = keys.find(None) else { panic!("{name} {}: no key", test["tcId"]) };
            let message = from_hex(&test["msg"]);
            let valid = key.verifies(algorithm, &SigningInput::new(&message), &from_hex(&test["sig"]));
            // What is merely `acceptable` (a signature whose DER lacks its NULL) is refused.
            assert_eq!(valid, test["result"] == "valid", "{name} {}: {}", test["tcId"], test["comment"]);
            judged += 1;
        }
    }
    assert_eq!(judged, 262 + 280 + 151 + 258 + 108);
}

/// A group's public key as a JWK; some have only the point.
fn bare_key(group: &Value) -> Value {
    let given = group.get("publicKeyJwk").or_else(|| group.get("keyJwk"));
    given.cloned().unwrap_or_else(|| {
        let point = from_hex(&group["publicKey"]["uncompressed"]);
        let (x, y) = point[1..].split_at(point.len() / 2);
        let crv = if x.len() == 32 { "P-256" } else { "P-384" };
        json!({"kty": "EC", "crv": crv, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)})
    })
}

fn from_hex(text: &Value) -> Vec<u8> {
    let digits = text.as_str().unwrap().as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
