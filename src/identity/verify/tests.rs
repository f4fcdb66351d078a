use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::identity::provider::activestate;
use crate::identity::provider::generic;
use crate::identity::provider::github;
use crate::identity::provider::gitlab;
use crate::identity::provider::google;
use crate::identity::testing::ISSUER;
use crate::identity::testing::NOW;
use crate::identity::testing::RSA;
use crate::identity::testing::audiences;
use crate::identity::testing::base64url;
use crate::identity::testing::ed25519_jwk;
use crate::identity::testing::issuer;
use crate::identity::testing::issuer_of;
use crate::identity::testing::jwk_for;
use crate::identity::testing::key;
use crate::identity::testing::key_for;
use crate::identity::testing::now;
use crate::identity::testing::payload;
use crate::identity::testing::rsa_jwk;
use crate::identity::testing::sign;
use crate::identity::testing::sign_raw;
use crate::identity::testing::signature;
use crate::identity::testing::with;
use crate::identity::token::Algorithm;

/// What becomes of these claims, honestly signed, at this moment.
fn verified_at(claims: &Value, now: Timestamp) -> Result<VerifiedToken, TokenError> {
    let token = UnverifiedToken::parse(&sign(Algorithm::EdDsa, claims))?;
    verify(token, &key_for(Algorithm::EdDsa), &issuer(), &audiences(), now)
}

fn verified(claims: &Value) -> Result<VerifiedToken, TokenError> {
    verified_at(claims, now())
}

/// What becomes of a text, for the honest issuer's key of that algorithm.
fn verified_text(text: &str, algorithm: Algorithm) -> Result<VerifiedToken, TokenError> {
    verify(UnverifiedToken::parse(text)?, &key_for(algorithm), &issuer(), &audiences(), now())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(NOW + seconds)
}

fn changed(name: &str, value: Value) -> Value {
    with(payload(), name, value)
}

fn without(name: &str) -> Value {
    let mut claims = payload();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[test]
fn a_token_of_every_algorithm_is_verified() {
    for algorithm in Algorithm::ALL {
        let token = verified_text(&sign(algorithm, &payload()), algorithm).unwrap();
        assert_eq!(token.issuer().url().as_str(), ISSUER);
        assert_eq!(token.audience(), "acme");
        assert_eq!(token.issued_at(), at(-10));
        assert_eq!(token.expires_at(), at(290));
        assert_eq!(token.jti(), Some("b6e5a7de-7a52-4a2f-a1b8-3f0e7c9b2a11"));
        assert_eq!(token.claims().string("sub"), Some("job:widgets"));
    }
}

#[test]
fn a_token_signed_by_someone_else_is_refused() {
    for algorithm in Algorithm::ALL {
        let text = sign(algorithm, &payload());
        let (signing_input, _) = text.rsplit_once('.').unwrap();
        let other = signature(algorithm, b"another message");
        for forged in [other.clone(), vec![0; other.len()], vec![0xff; other.len()], vec![0], other[1..].to_vec()] {
            let text = format!("{signing_input}.{}", base64url(forged));
            assert_eq!(verified_text(&text, algorithm).unwrap_err(), TokenError::BadSignature, "{algorithm:?}");
        }
    }
    // Right algorithm, another issuer's key of the same kind.
    let text = sign(Algorithm::EdDsa, &payload());
    let stranger = key(with(ed25519_jwk(), "x", json!(base64url([9; 32]))));
    let token = UnverifiedToken::parse(&text).unwrap();
    let refused = verify(token, &stranger, &issuer(), &audiences(), now()).unwrap_err();
    assert_eq!(refused, TokenError::BadSignature);
}

#[test]
fn an_algorithm_does_not_reach_another_kind_of_key() {
    // A08: also RS512 against a key that declares RS256.
    for claimed in Algorithm::ALL {
        for actual in Algorithm::ALL {
            let key = key_for(actual);
            if key.kind().verifies(claimed) {
                continue;
            }
            let token = UnverifiedToken::parse(&sign(claimed, &payload())).unwrap();
            let refused = verify(token, &key, &issuer(), &audiences(), now()).unwrap_err();
            assert_eq!(refused, TokenError::AlgorithmMismatch { algorithm: claimed, key: key.kind() });
        }
    }
    let declared = key(with(rsa_jwk(), "alg", json!("RS256")));
    let token = UnverifiedToken::parse(&sign(Algorithm::Rs512, &payload())).unwrap();
    let refused = verify(token, &declared, &issuer(), &audiences(), now()).unwrap_err();
    assert!(matches!(refused, TokenError::AlgorithmMismatch { algorithm: Algorithm::Rs512, .. }));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    // A02: the classic confusion, with each form in which the public key may be the secret.
    use aws_lc_rs::signature::KeyPair as _;
    let modulus = rsa_jwk()["n"].as_str().unwrap().to_owned();
    let der = RSA.public_key().as_ref().to_vec();
    for secret in [der, rsa_jwk().to_string().into_bytes(), modulus.into_bytes(), Vec::new()] {
        let header = base64url(r#"{"alg":"HS256","typ":"JWT"}"#);
        let signing_input = format!("{header}.{}", base64url(payload().to_string()));
        let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
        let tag = aws_lc_rs::hmac::sign(&secret, signing_input.as_bytes());
        for header in ["HS256", "RS256"] {
            let header = base64url(json!({"alg": header, "typ": "JWT"}).to_string());
            let text = format!("{header}.{}.{}", base64url(payload().to_string()), base64url(tag));
            let refused = verified_text(&text, Algorithm::Rs256).unwrap_err();
            assert!(matches!(refused, TokenError::AlgorithmNotAllowed { .. } | TokenError::BadSignature), "{refused}");
        }
    }
}

#[test]
fn an_ecdsa_signature_is_two_numbers_in_range() {
    // A20: zeroes, the group's order, ASN.1 instead of raw.
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6,
        0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let text = sign(Algorithm::Es256, &payload());
    let (signing_input, good) = text.rsplit_once('.').unwrap();
    let good = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, good).unwrap();
    let asn1 = [&[0x30, 0x44, 0x02, 0x20], &good[..32], &[0x02, 0x20], &good[32..]].concat();
    let (r, s) = good.split_at(32);
    for forged in [
        vec![0; 64],
        [&[0; 32], s].concat(),
        [r, &[0; 32]].concat(),
        [ORDER, ORDER].concat(),
        [r, &ORDER].concat(),
        asn1,
        [&good[..], &[0]].concat(),
    ] {
        let text = format!("{signing_input}.{}", base64url(forged));
        assert_eq!(verified_text(&text, Algorithm::Es256).unwrap_err(), TokenError::BadSignature);
    }
}

#[test]
fn a_changed_signature_does_not_make_another_token() {
    // A21: the signature is no part of what a token is remembered by. Two signatures of one text differ with ECDSA.
    let (one, two) = (sign(Algorithm::Es256, &payload()), sign(Algorithm::Es256, &payload()));
    assert_ne!(one, two);
    let digest = |text: &str| *verified_text(text, Algorithm::Es256).unwrap().signing_input_digest();
    assert_eq!(digest(&one), digest(&two));
    assert_ne!(digest(&one), digest(&sign(Algorithm::Es256, &changed("jti", json!("other")))));
    let (signing_input, _) = one.rsplit_once('.').unwrap();
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, signing_input.as_bytes());
    assert_eq!(digest(&one), sha256.as_ref());
}

#[test]
fn the_signature_is_checked_before_anything_else_is_said() {
    // A token that is wrong in every way gets the answer about its signature alone.
    let claims = json!({"iss": "https://evil.example", "aud": 7, "exp": "soon", "jti": 1});
    let text = sign(Algorithm::EdDsa, &claims);
    let (signing_input, _) = text.rsplit_once('.').unwrap();
    let text = format!("{signing_input}.{}", base64url([7; 64]));
    assert_eq!(verified_text(&text, Algorithm::EdDsa).unwrap_err(), TokenError::BadSignature);
}

#[test]
fn every_other_character_makes_another_token() {
    let text = sign(Algorithm::EdDsa, &payload());
    for (position, old) in text.char_indices() {
        let new = if old == 'A' { 'B' } else { 'A' };
        let mut changed = text.clone();
        changed.replace_range(position..=position, &new.to_string());
        assert!(verified_text(&changed, Algorithm::EdDsa).is_err(), "position {position}");
    }
}

#[test]
fn the_issuer_is_compared_byte_by_byte() {
    for iss in [
        "https://ci.example/",
        "https://CI.example",
        "https://ci.example:443",
        "http://ci.example",
        "https://ci.example.evil.example",
        "https://ci.exampl",
        "https://evil.example",
        "",
    ] {
        let refused = verified(&changed("iss", json!(iss))).unwrap_err();
        assert_eq!(refused, TokenError::IssuerMismatch { expected: ISSUER.to_owned(), got: iss.to_owned() });
    }
}

#[test]
fn the_audience_is_exactly_one_of_ours() {
    for aud in [json!("acme"), json!(["acme"]), json!("https://pypi.acme.example/legacy/")] {
        assert!(verified(&changed("aud", aud)).is_ok());
    }
    for aud in ["ACME", "acme2", "acm", " acme", "", "https://pypi.acme.example/legacy", "pypi"] {
        for value in [json!(aud), json!([aud])] {
            let refused = verified(&changed("aud", value)).unwrap_err();
            assert_eq!(refused, TokenError::WrongAudience { expected: audiences(), got: aud.to_owned() });
        }
    }
    for (aud, count) in
        [(json!([]), 0), (json!(["acme", "acme"]), 2), (json!(["acme", "evil"]), 2), (json!([1, 2, 3]), 3)]
    {
        assert_eq!(verified(&changed("aud", aud)).unwrap_err(), TokenError::AudienceList { count });
    }
    for aud in [json!(null), json!(7), json!({"acme": 1}), json!(true), json!([7]), json!([null]), json!([["acme"]])] {
        let refused = verified(&changed("aud", aud.clone())).unwrap_err();
        assert!(matches!(refused, TokenError::WrongType { claim: "aud", .. }), "{aud}");
    }
    assert_eq!(verified(&without("aud")).unwrap_err(), TokenError::MissingClaim { claim: "aud" });
    let token = UnverifiedToken::parse(&sign(Algorithm::EdDsa, &payload())).unwrap();
    let refused = verify(token, &key_for(Algorithm::EdDsa), &issuer(), &[], now()).unwrap_err();
    assert!(matches!(refused, TokenError::WrongAudience { .. }));
}

#[test]
fn times_are_integers_in_range() {
    // A19, and A15's huge numbers.
    for claim in ["exp", "iat", "nbf"] {
        for value in [
            json!(null),
            json!("1787000000"),
            json!(1_787_000_000.5),
            json!(1_787_000_000.0),
            json!(1e18),
            json!(u64::MAX),
            json!(true),
            json!([NOW]),
            json!({}),
        ] {
            let refused = verified(&changed(claim, value.clone())).unwrap_err();
            let is_right = matches!(refused, TokenError::WrongType { claim: named, .. } if named == claim);
            assert!(is_right, "{claim} {value}: {refused}");
        }
        for value in [-1, i64::MIN, MAX_TIME + 1, i64::MAX, 1_000_000_000_000_000_000] {
            assert_eq!(verified(&changed(claim, json!(value))).unwrap_err(), TokenError::TimeOutOfRange { claim });
        }
    }
    for claim in ["exp", "iat"] {
        assert_eq!(verified(&without(claim)).unwrap_err(), TokenError::MissingClaim { claim });
    }
    assert!(verified(&without("nbf")).is_ok());
}

#[test]
fn a_token_is_valid_from_iat_to_exp_give_or_take_the_leeway() {
    let leeway = i64::try_from(LEEWAY.as_secs()).unwrap();
    // `exp` is 290 s away, `iat` 10 s ago, `nbf` long past.
    let last = at(290 + leeway - 1);
    assert!(verified_at(&payload(), last).is_ok());
    for late in [at(290 + leeway), at(290 + leeway + 1), at(1 << 30)] {
        let refused = verified_at(&payload(), late).unwrap_err();
        assert_eq!(refused, TokenError::Expired { expired_at: at(290), now: late });
    }
    let first = at(-10 - leeway);
    assert!(verified_at(&payload(), first).is_ok());
    let early = first.minus(Duration::from_millis(1));
    let refused = verified_at(&payload(), early).unwrap_err();
    assert_eq!(refused, TokenError::IssuedInFuture { issued_at: at(-10), now: early });
    let claims = changed("nbf", json!(NOW + leeway));
    assert!(verified(&claims).is_ok());
    let claims = changed("nbf", json!(NOW + leeway + 1));
    assert_eq!(verified(&claims).unwrap_err(), TokenError::NotYetValid { not_before: at(leeway + 1), now: now() });
}

#[test]
fn a_token_that_lives_too_long_is_refused() {
    let claims = |lifetime: i64| {
        let mut claims = changed("iat", json!(NOW));
        claims["exp"] = json!(NOW + lifetime);
        claims
    };
    assert!(verified(&claims(3600)).is_ok());
    let refused = verified(&claims(3601)).unwrap_err();
    let (lifetime, limit) = (Duration::from_secs(3601), Duration::from_secs(3600));
    assert_eq!(refused, TokenError::LifetimeTooLong { lifetime, limit });
    assert!(matches!(verified(&claims(10 * 365 * 86_400)), Err(TokenError::LifetimeTooLong { .. })));
    // The issuer's own limit counts, not the preset's.
    let mut strict = (*issuer()).clone();
    strict.max_lifetime = Duration::from_secs(299);
    let token = UnverifiedToken::parse(&sign(Algorithm::EdDsa, &payload())).unwrap();
    let refused = verify(token, &key_for(Algorithm::EdDsa), &Arc::new(strict), &audiences(), now()).unwrap_err();
    assert!(matches!(refused, TokenError::LifetimeTooLong { .. }));
    // Ends before it begins, within the leeway of both.
    for lifetime in [0, -1, -29] {
        let refused = verified(&claims(lifetime)).unwrap_err();
        assert!(matches!(refused, TokenError::ExpiresBeforeIssued { .. }), "{lifetime}: {refused}");
    }
}

#[test]
fn a_token_is_named_by_its_jti_or_its_digest() {
    assert_eq!(verified(&without("jti")).unwrap().jti(), None);
    assert_eq!(verified(&changed("jti", json!(""))).unwrap().jti(), None);
    assert!(verified(&changed("jti", json!("j".repeat(256)))).unwrap().jti().is_some());
    assert_eq!(verified(&changed("jti", json!("j".repeat(257)))).unwrap_err(), TokenError::IdTooLong);
    for jti in [json!(null), json!(7), json!(["a"]), json!({}), json!(false)] {
        let refused = verified(&changed("jti", jti.clone())).unwrap_err();
        assert!(matches!(refused, TokenError::WrongType { claim: "jti", .. }), "{jti}");
    }
}

#[test]
fn a_subject_is_a_string() {
    assert!(verified(&without("sub")).is_ok());
    for sub in [json!(null), json!(7), json!(["a"])] {
        let refused = verified(&changed("sub", sub.clone())).unwrap_err();
        assert!(matches!(refused, TokenError::WrongType { claim: "sub", .. }), "{sub}");
    }
}

/// The claims of a preset's first example as a token for that preset's issuer.
fn example(provider: &'static Provider, iss: &str) -> Value {
    let claims = (provider.examples[0].claims)(&Object::default());
    let mut claims = serde_json::to_value(Json::Object(claims)).unwrap();
    for (name, value) in [("iss", json!(iss)), ("aud", json!("acme")), ("iat", json!(NOW)), ("exp", json!(NOW + 300))] {
        claims[name] = value;
    }
    claims
}

#[test]
fn a_token_without_the_claims_of_a_job_is_refused() {
    // A12: the same key signs runner-internal tokens, user logins and people's sign-ins.
    for provider in [&github::PROVIDER, &gitlab::PROVIDER, &google::PROVIDER, &activestate::PROVIDER] {
        let url = provider.site.owned_url().unwrap();
        let issuer = issuer_of(provider, url);
        let verified = |claims: &Value| {
            let token = UnverifiedToken::parse(&sign(Algorithm::EdDsa, claims)).unwrap();
            verify(token, &key_for(Algorithm::EdDsa), &issuer, &audiences(), now())
        };
        assert!(verified(&example(provider, url)).is_ok(), "{}", provider.name);
        for claim in provider.required.iter().copied() {
            let mut missing = example(provider, url);
            missing.as_object_mut().unwrap().remove(claim);
            let expected = TokenError::NotOfAJob { claim: provider.shown(claim), hint: provider.hint };
            assert_eq!(verified(&missing).unwrap_err(), expected, "{}", provider.name);
            for value in [json!(7), json!(["a"]), json!({"a": 1})] {
                let mut wrong = example(provider, url);
                wrong[claim] = value;
                let refused = verified(&wrong).unwrap_err();
                assert!(matches!(refused, TokenError::WrongType { claim: named, .. } if named == claim), "{refused}");
            }
        }
        for pin in provider.pins {
            assert!(provider.required.contains(pin), "{} pins {pin} but does not require it", provider.name);
        }
    }
}

#[test]
fn a_runner_internal_token_is_no_job() {
    let url = "https://token.actions.githubusercontent.com";
    let claims =
        json!({"iss": url, "iat": NOW, "exp": NOW + 6 * 3600, "orch_id": "x", "owner_id": "1", "runner_id": "2"});
    let issuer = issuer_of(&github::PROVIDER, url);
    let verified = |claims: &Value| {
        let token = UnverifiedToken::parse(&sign(Algorithm::EdDsa, claims)).unwrap();
        verify(token, &key_for(Algorithm::EdDsa), &issuer, &audiences(), now()).unwrap_err()
    };
    assert_eq!(verified(&claims), TokenError::MissingClaim { claim: "aud" });
    let claims = with(claims, "aud", json!("acme"));
    assert!(matches!(verified(&claims), TokenError::LifetimeTooLong { .. }));
    let claims = with(claims, "exp", json!(NOW + 300));
    assert_eq!(verified(&claims), TokenError::NotOfAJob { claim: "sub", hint: "" });
}

#[test]
fn derived_claims_cannot_be_supplied() {
    let url = "https://token.actions.githubusercontent.com";
    let mut claims = example(&github::PROVIDER, url);
    claims["workflow_file"] = json!("release.yml");
    claims["tag"] = json!("v9");
    claims["workflow_ref"] = json!("octo-org/widgets/.github/workflows/evil.yml@refs/heads/main");
    claims["ref"] = json!("refs/heads/main");
    let token = UnverifiedToken::parse(&sign(Algorithm::EdDsa, &claims)).unwrap();
    let issuer = issuer_of(&github::PROVIDER, url);
    let token = verify(token, &key_for(Algorithm::EdDsa), &issuer, &audiences(), now()).unwrap();
    assert_eq!(token.claims().string("workflow_file"), Some("evil.yml"));
    assert_eq!(token.claims().get("tag"), None);
}

#[test]
fn messages_say_what_is_wrong_and_what_to_do() {
    let message = |claims: Value, seconds: i64| verified_at(&claims, at(seconds)).unwrap_err().to_string();
    assert_eq!(message(payload(), 290 + 243), "the token expired at 2026-08-17T20:59:50Z, 4 min 3 s ago");
    assert_eq!(
        message(changed("aud", json!("pypi")), 0),
        "the token was made for the audience `pypi`, this registry's is `acme` or `https://pypi.acme.example/legacy/`"
    );
    assert_eq!(
        message(changed("aud", json!(["a", "b"])), 0),
        "the token names 2 audiences, it must name one: a token for several services can be replayed by each"
    );
    assert_eq!(message(changed("exp", json!("x")), 0), "the token's `exp` is a string, not an integer");
    assert_eq!(
        message(without("nbf"), -3600),
        "the token was issued at 2026-08-17T20:54:50Z, 59 min 50 s in the future: a clock is wrong"
    );
}

#[test]
fn a_verified_token_is_not_printed() {
    let printed = format!("{:?}", verified(&payload()).unwrap());
    assert!(!printed.contains("widgets") && printed.starts_with("VerifiedToken { issuer: \"tests\""), "{printed}");
}

#[test]
fn another_library_agrees_on_what_is_signed() {
    // jsonwebtoken decodes and verifies by itself, with the same public key from its own JWK reader.
    for algorithm in Algorithm::ALL {
        let text = sign(algorithm, &payload());
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(jwk_for(algorithm)).unwrap();
        let mut validation = jsonwebtoken::Validation::new(algorithm.into());
        validation.validate_exp = false;
        validation.set_audience(&["acme"]);
        let key = jsonwebtoken::DecodingKey::from_jwk(&jwk).unwrap();
        let decoded = jsonwebtoken::decode::<Value>(&text, &key, &validation).unwrap();
        assert_eq!(decoded.claims, payload());
    }
}

proptest! {
    #[test]
    fn no_claims_make_verification_panic(name in "[a-z_]{1,8}", text in "\\PC{0,30}", number in any::<i64>(), fraction in any::<f64>(), which in 0..6) {
        let value = match which {
            0 => json!(text),
            1 => json!(number),
            2 => json!([text]),
            3 => json!({name.clone(): number}),
            4 => json!(fraction),
            _ => json!(null),
        };
        for claim in ["aud", "exp", "iat", "nbf", "jti", "sub", &name] {
            let _ = verified_at(&changed(claim, value.clone()), Timestamp::from_unix_seconds(number));
        }
    }

    #[test]
    fn an_honest_token_is_accepted_only_between_its_times(moment in -1000_i64..1000) {
        let is_valid = (-40..320).contains(&moment);
        prop_assert_eq!(verified_at(&payload(), at(moment)).is_ok(), is_valid);
    }
}

#[test]
fn the_generic_preset_demands_nothing_of_a_job() {
    assert!(generic::PROVIDER.required.is_empty());
    assert!(verified(&payload()).is_ok());
    let header = br#"{"alg":"EdDSA","kid":"ed"}"#;
    assert!(
        verified_text(&sign_raw(Algorithm::EdDsa, header, payload().to_string().as_bytes()), Algorithm::EdDsa).is_ok()
    );
}
