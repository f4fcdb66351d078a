//! Attacks on the header, the key and the signature of a token (A01 to A13), each at the front door of a service whose
//! issuer's keys are held: refused with the code that names it, without a request to anybody, and the next genuine job
//! is served. The tables of every variant are beside the code, in `src/identity/{token,jwks,verify}/tests.rs`;
//! Wycheproof's are run by `wycheproof.rs`.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use serde_json::json;
use trustmint::demo::provider::Answer as Told;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::secret::sha256;

use crate::support::Hostile;
use crate::support::Presets;
use crate::support::Service;
use crate::support::hostile::base64url;
use crate::support::hostile::from_base64url;
use crate::support::presets::PRESETS;
use crate::support::presets::Preset;

/// A01.
#[actix_web::test]
async fn a_token_without_an_algorithm_or_a_signature_is_refused() {
    let hostile = Hostile::start().await;
    for alg in ["none", "None", "NONE", "NoNe", "nOnE", " none", ""] {
        let signed = hostile.with_header(&json!({"alg": alg}));
        let (signing_input, _) = signed.rsplit_once('.').unwrap();
        hostile.refuses(format!("{signing_input}."), "algorithm-not-allowed").await;
        hostile.refuses(signed, "algorithm-not-allowed").await;
    }
    hostile.refuses(hostile.with_header(&json!({"alg": null})), "algorithm-not-allowed").await;
    let good = hostile.with_header(&json!({}));
    let (signing_input, _) = good.rsplit_once('.').unwrap();
    hostile.refuses(format!("{signing_input}."), "bad-signature").await;
    hostile.refuses(signing_input, "token-malformed").await;
    hostile.unharmed().await;
}

/// A02.
#[actix_web::test]
async fn a_signature_made_with_the_public_key_as_an_hmac_secret_is_refused() {
    let hostile = Hostile::start().await;
    let jwk = hostile.service.provider.keys()[0].jwk();
    let modulus = from_base64url(jwk["n"].as_str().unwrap());
    // RSAPublicKey and SubjectPublicKeyInfo (RFC 8017 appendix A.1) of a modulus of 2,048 bits and the exponent 65537.
    let pkcs1 = [&[0x30, 0x82, 1, 10, 2, 0x82, 1, 1, 0], &modulus[..], &[2, 3, 1, 0, 1]].concat();
    let oid = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let spki = [&[0x30, 0x82, 1, 0x22], &oid[..], &[3, 0x82, 1, 0x0f, 0], &pkcs1].concat();
    let lines: Vec<String> =
        STANDARD.encode(&spki).as_bytes().chunks(64).map(|line| String::from_utf8(line.into()).unwrap()).collect();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"));
    let (_, payload) = hostile.texts();
    for secret in
        [pkcs1, spki, pem.clone().into_bytes(), pem.trim_end().into(), jwk.to_string().into_bytes(), modulus, vec![]]
    {
        for (alg, digest, code) in [
            ("HS256", hmac::HMAC_SHA256, "algorithm-not-allowed"),
            ("HS512", hmac::HMAC_SHA512, "algorithm-not-allowed"),
            ("RS256", hmac::HMAC_SHA256, "bad-signature"),
        ] {
            let header = json!({"alg": alg, "typ": "JWT", "kid": jwk["kid"]}).to_string();
            let signing_input = format!("{}.{}", base64url(header), base64url(&payload));
            let tag = hmac::sign(&hmac::Key::new(digest, &secret), signing_input.as_bytes());
            hostile.refuses(format!("{signing_input}.{}", base64url(tag)), code).await;
        }
    }
    hostile.unharmed().await;
}

/// A03.
#[actix_web::test]
async fn a_signature_in_json_serialisation_is_refused() {
    let hostile = Hostile::start().await;
    let good = hostile.with_header(&json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let flat = json!({"protected": parts[0], "header": {"alg": "none"}, "payload": parts[1], "signature": parts[2]});
    let general = json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]});
    for form in [flat, general] {
        hostile.refuses(form.to_string(), "token-malformed").await;
        let answer = hostile.service.mint(&json!({"token": form})).await;
        assert_eq!((answer.status, answer.code()), (422, "bad-request"), "{}", answer.text);
    }
    hostile.unharmed().await;
}

/// A04.
#[actix_web::test]
async fn a_key_or_its_address_inside_the_token_is_neither_used_nor_asked_for() {
    let hostile = Hostile::start().await;
    let own = SigningKey::generate(KeyKind::P256).unwrap();
    let claims = hostile.service.claims(&json!({}));
    let there = hostile.canary.url("/keys");
    for header in [
        json!({"jwk": own.jwk()}),
        json!({"jku": there}),
        json!({"x5u": there}),
        json!({"x5c": [STANDARD.encode([0x30; 99])]}),
        json!({"jku": there, "kid": hostile.service.provider.keys()[0].kid()}),
    ] {
        hostile.refuses(own.token(&header, &claims), "header-not-allowed").await;
        hostile.refuses(hostile.with_header(&header), "header-not-allowed").await;
    }
    hostile.unharmed().await;
}

/// A05.
#[actix_web::test]
async fn a_key_id_is_a_name_and_never_a_path_a_query_or_a_label() {
    let hostile = Hostile::start().await;
    let long = "k".repeat(257);
    for kid in ["", "a\0b", "a\nb", "\u{1b}[31m", "ключ", "\u{202e}", &long, &"k".repeat(9000)] {
        hostile.refuses(hostile.with_header(&json!({"kid": kid})), "header-not-allowed").await;
    }
    for kid in [json!(7), json!(["a"]), json!({"a": 1}), json!(true)] {
        hostile.refuses(hostile.with_header(&json!({"kid": kid})), "claim-type").await;
    }
    let there = hostile.canary.url("/kid");
    for kid in ["../../../../etc/passwd", "/dev/null", "' OR '1'='1", "$(id)", "%2e%2e%2f", there.as_str()] {
        let answer = hostile.service.mint(&json!({"token": hostile.with_header(&json!({"kid": kid}))})).await;
        assert_eq!((answer.status, answer.code()), (422, "unknown-key"), "{kid}: {}", answer.text);
    }
    let metrics = hostile.service.app.metrics().render().unwrap();
    assert!(!metrics.contains("passwd") && !metrics.contains("/kid"), "{metrics}");
    hostile.unharmed().await;
}

/// A06.
#[actix_web::test]
async fn a_token_that_names_no_key_is_believed_only_where_there_is_one() {
    let service = Service::start().await;
    let unnamed = service.provider.mint_with(&json!({"kid": null}), &service.claims(&json!({})));
    let answer = service.mint(&json!({"token": unnamed})).await;
    assert_eq!((answer.status, answer.code()), (422, "unknown-key"), "{}", answer.text);
    // In a set of one the only key is tried, and a stranger's signature is none of it.
    let presets = Presets::start().await;
    let claims = presets.claims("github/release", &json!({}));
    let stranger = presets.key("gitlab").token(&json!({"kid": null}), &claims);
    assert_eq!(presets.service.mint(&json!({"token": stranger})).await.code(), "bad-signature");
    let only = presets.key("github").token(&json!({"kid": null}), &claims);
    assert_eq!(presets.service.mint(&json!({"token": only})).await.status, 200);
}

/// A07.
#[actix_web::test]
async fn two_keys_of_one_name_are_not_used_and_a_name_belongs_to_one_issuer() {
    let service = Service::start().await;
    let keys = service.provider.keys();
    let (rsa, p256) = (&keys[0], &keys[1]);
    let other = SigningKey::generate(KeyKind::Ed25519).unwrap().with_kid(rsa.kid());
    service.provider.answer(Endpoint::Jwks, Told::json(&json!({"keys": [rsa.jwk(), other.jwk(), p256.jwk()]})));
    let claims = service.claims(&json!({}));
    for key in [rsa.as_ref(), &other] {
        let answer = service.mint(&json!({"token": key.token(&Value::Null, &claims)})).await;
        assert_eq!(answer.code(), "unknown-key", "{}", answer.text);
    }
    assert_eq!(service.mint(&json!({"token": p256.token(&Value::Null, &claims)})).await.status, 200);
    // AWS calls its keys `RSA_0` at every account.
    let same_name = |preset: Preset| (preset.name, SigningKey::generate(KeyKind::P256).unwrap().with_kid("RSA_0"));
    let presets = Presets::with_keys(PRESETS.map(same_name)).await;
    let forged = presets.key("generic").token(&Value::Null, &presets.claims("github/release", &json!({})));
    assert_eq!(presets.service.mint(&json!({"token": forged})).await.code(), "bad-signature");
}

/// A08: keys of the right numbers that are published for something else.
#[actix_web::test]
async fn a_key_is_used_for_nothing_but_what_it_is_published_for() {
    let service = Service::start().await;
    let keys = service.provider.keys();
    let bent = |kid: &str, key: &SigningKey, changes: &Value| {
        let mut jwk = key.jwk();
        let members = jwk.as_object_mut().unwrap();
        members.extend(changes.as_object().unwrap().clone());
        members.insert("kid".into(), kid.into());
        jwk
    };
    let (rsa, p256) = (&keys[0], &keys[1]);
    let rows = [
        ("plain", rsa, json!({}), "RS256", ""),
        ("enc", rsa, json!({"use": "enc"}), "RS256", "unknown-key"),
        ("svid", rsa, json!({"use": "jwt-svid"}), "RS256", "unknown-key"),
        ("ops", rsa, json!({"key_ops": ["encrypt", "wrapKey"]}), "RS256", "unknown-key"),
        ("rs512", rsa, json!({"alg": "RS512"}), "RS256", "algorithm-not-allowed"),
        ("ps256", rsa, json!({"alg": "PS256"}), "RS256", "algorithm-not-allowed"),
        ("plain", rsa, json!({}), "RS384", "algorithm-not-allowed"),
        ("plain", rsa, json!({}), "ES256", "algorithm-not-allowed"),
        ("oaep", rsa, json!({"alg": "RSA-OAEP"}), "RS256", "unknown-key"),
        ("curve", p256, json!({"crv": "P-384"}), "ES256", "unknown-key"),
        ("koblitz", p256, json!({"crv": "secp256k1"}), "ES256", "unknown-key"),
        ("kind", p256, json!({"kty": "RSA"}), "ES256", "unknown-key"),
        ("p256", p256, json!({}), "ES384", "algorithm-not-allowed"),
    ];
    let mut set: Vec<Value> = Vec::new();
    for (kid, key, changes, ..) in &rows {
        if !set.iter().any(|jwk| jwk["kid"] == *kid) {
            set.push(bent(kid, key, changes));
        }
    }
    service.provider.answer(Endpoint::Jwks, Told::json(&json!({"keys": set})));
    for (kid, key, _, alg, code) in rows {
        let token = key.token(&json!({"kid": kid, "alg": alg}), &service.claims(&json!({})));
        let answer = service.mint(&json!({"token": token})).await;
        assert_eq!(answer.code(), code, "{kid} {alg}: {}", answer.text);
    }
}

/// A09.
#[actix_web::test]
async fn a_weak_key_verifies_nothing_though_its_issuer_publishes_it() {
    let service = Service::start().await;
    let (honest, kid) = (service.provider.keys()[0].jwk(), "weak");
    let modulus = from_base64url(honest["n"].as_str().unwrap());
    // A power of 65537 has ROCA's fingerprint; this one takes 2,049 bits.
    let roca: Vec<u8> = (0..128).fold(vec![1], |number, _| times_65537(&number)).into_iter().rev().collect();
    let weak = |name: &str, n: &[u8], e: &[u8]| {
        let (n, e) = (base64url(n), base64url(e));
        json!({"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": n, "e": e})
    };
    let three = [1, 0, 1];
    let rows = [
        weak("512 bits", &modulus[192..], &three),
        weak("1024 bits", &modulus[128..], &three),
        weak("16384 bits", &[0xff; 2048], &three),
        weak("roca", &roca, &three),
        weak("exponent 3", &modulus, &[3]),
        weak(kid, &modulus, &[1]),
    ];
    // The neutral element of Ed25519's group: with it as `R`, and 0 as `S`, it has signed every message.
    let neutral = [&[1], &[0; 31][..]].concat();
    let point = json!({"kty": "OKP", "crv": "Ed25519", "kid": "neutral", "x": base64url(&neutral)});
    let mut set = rows.to_vec();
    set.push(point);
    set.push(honest);
    service.provider.answer(Endpoint::Jwks, Told::json(&json!({"keys": set})));
    for row in rows {
        let token = service.provider.mint_with(&json!({"kid": row["kid"]}), &service.claims(&json!({})));
        let answer = service.mint(&json!({"token": token})).await;
        assert_eq!(answer.code(), "unknown-key", "{}: {}", row["kid"], answer.text);
    }
    // With the exponent 1 the padded digest is its own signature (RFC 8017 section 9.2): no private key is needed.
    let header = base64url(json!({"alg": "RS256", "kid": kid}).to_string());
    let signing_input = format!("{header}.{}", base64url(service.claims(&json!({})).to_string()));
    let info = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];
    let padded = [&[0, 1], &[0xff; 202][..], &[0], &info, &sha256(signing_input.as_bytes())].concat();
    assert_eq!(padded.len(), 256);
    let token = format!("{signing_input}.{}", base64url(padded));
    assert_eq!(service.mint(&json!({"token": token})).await.code(), "unknown-key");
    let header = base64url(json!({"alg": "EdDSA", "kid": "neutral"}).to_string());
    let signature = base64url([neutral, vec![0; 32]].concat());
    let token = format!("{header}.{}.{signature}", base64url(service.claims(&json!({})).to_string()));
    assert_eq!(service.mint(&json!({"token": token})).await.code(), "unknown-key");
    assert_eq!(service.mint(&json!({"token": service.id_token(&json!({}))})).await.status, 200);
}

/// Little-endian.
fn times_65537(number: &[u8]) -> Vec<u8> {
    let digit = |at: Option<usize>| at.and_then(|at| number.get(at)).copied().map_or(0, u32::from);
    let mut carry = 0;
    let digits = (0..number.len() + 3).map(|at| {
        carry += digit(Some(at)) + digit(at.checked_sub(2));
        let low = u8::try_from(carry & 0xff).unwrap();
        carry >>= 8;
        low
    });
    let mut product: Vec<u8> = digits.collect();
    product.truncate(product.iter().rposition(|digit| *digit != 0).unwrap() + 1);
    product
}

/// A10.
#[actix_web::test]
async fn a_secret_that_is_published_among_the_keys_signs_nothing() {
    let service = Service::start().await;
    let keys = service.provider.keys();
    let mut private = keys[0].jwk();
    private.as_object_mut().unwrap().insert("d".into(), "AQAB".into());
    let mut half = keys[3].jwk();
    half.as_object_mut().unwrap().insert("d".into(), "".into());
    let shared = json!({"kty": "oct", "kid": "oct", "k": base64url("published secret"), "alg": "HS256", "use": "sig"});
    let set = json!({"keys": [shared, private, half, keys[1].jwk()]});
    service.provider.answer(Endpoint::Jwks, Told::json(&set));
    let claims = service.claims(&json!({}));
    for (key, code) in [(&keys[0], "unknown-key"), (&keys[3], "unknown-key"), (&keys[1], "")] {
        let answer = service.mint(&json!({"token": key.token(&Value::Null, &claims)})).await;
        assert_eq!(answer.code(), code, "{}: {}", key.algorithm(), answer.text);
    }
    for (alg, code) in [("HS256", "algorithm-not-allowed"), ("RS256", "unknown-key"), ("ES256", "unknown-key")] {
        let header = base64url(json!({"alg": alg, "kid": "oct"}).to_string());
        let signing_input = format!("{header}.{}", base64url(claims.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"published secret"), signing_input.as_bytes());
        let token = format!("{signing_input}.{}", base64url(tag));
        assert_eq!(service.mint(&json!({ "token": token })).await.code(), code, "{alg}");
    }
}

/// A11.
#[actix_web::test]
async fn an_extension_that_changes_what_is_signed_is_refused() {
    let hostile = Hostile::start().await;
    for header in [
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"b64": false}),
        json!({"crit": "b64"}),
        json!({"http://example.com/UNDEFINED": true, "crit": ["http://example.com/UNDEFINED"]}),
    ] {
        hostile.refuses(hostile.with_header(&header), "header-not-allowed").await;
    }
    hostile.unharmed().await;
}

/// A12.
#[actix_web::test]
async fn a_token_made_for_another_purpose_by_the_same_key_is_refused() {
    let hostile = Hostile::start().await;
    for typ in ["at+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "application/jwt", "JOSE", "JWS", ""] {
        hostile.refuses(hostile.with_header(&json!({"typ": typ})), "header-not-allowed").await;
    }
    for typ in [json!(1), json!(["JWT"])] {
        hostile.refuses(hostile.with_header(&json!({"typ": typ})), "claim-type").await;
    }
    // A GitHub runner's own token, a user's login: no audience, no subject of a job.
    let now = hostile.service.clock_seconds();
    let runner = json!({"iss": hostile.service.provider.issuer(), "iat": now, "exp": now + 21_600, "orch_id": "x",
                        "owner_id": "9123456", "runner_id": 7, "labels": "ubuntu-latest"});
    hostile.refuses(hostile.service.provider.mint(&runner), "missing-claim").await;
    for claim in ["aud", "repository_id", "job_workflow_ref"] {
        hostile.refuses(hostile.with_claims(&json!({}), &[claim]), "missing-claim").await;
    }
    hostile.unharmed().await;
}

/// A13.
#[actix_web::test]
async fn an_encrypted_nested_or_compressed_token_is_refused() {
    let hostile = Hostile::start().await;
    let good = hostile.with_header(&json!({}));
    for more in [".", ".AAAA", ".AAAA.AAAA", "....", ".AAAA.AAAA.AAAA"] {
        hostile.refuses(format!("{good}{more}"), "token-malformed").await;
    }
    let encrypted = base64url(r#"{"alg":"dir","enc":"A128GCM"}"#);
    hostile.refuses(format!("{encrypted}..AAAA.AAAA.AAAA"), "token-malformed").await;
    for header in [json!({"cty": "JWT"}), json!({"zip": "DEF"}), json!({"enc": "A128GCM"}), json!({"Zip": "DEF"})] {
        hostile.refuses(hostile.with_header(&header), "header-not-allowed").await;
    }
    for alg in ["dir", "RSA-OAEP", "A128KW", "ECDH-ES"] {
        hostile.refuses(hostile.with_header(&json!({"alg": alg})), "algorithm-not-allowed").await;
    }
    // A token in place of the claims.
    let (header, _) = hostile.texts();
    hostile.refuses(hostile.sealed(header, &good), "token-malformed").await;
    hostile.unharmed().await;
}
