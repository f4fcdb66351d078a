use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;

use super::*;
use crate::code::Code;
use crate::identity::testing::base64url;
use crate::identity::testing::payload;
use crate::identity::testing::with;

/// A token whose parts are these texts; its signature is two bytes.
fn compact(header: &str, payload: &str) -> String {
    format!("{}.{}.{}", base64url(header), base64url(payload), base64url([1, 2]))
}

fn with_header(header: &str) -> Result<UnverifiedToken, TokenError> {
    UnverifiedToken::parse(&compact(header, &payload().to_string()))
}

fn with_payload(payload: &str) -> Result<UnverifiedToken, TokenError> {
    UnverifiedToken::parse(&compact(r#"{"alg":"RS256"}"#, payload))
}

#[test]
fn a_token_is_taken_apart() {
    let header = r#"{"alg":"ES256","kid":"key 1","typ":"jwt","x5t":"a","x5t#S256":"b"}"#;
    let token = with_header(header).unwrap();
    assert_eq!(token.issuer(), "https://ci.example");
    assert_eq!(token.kid(), Some("key 1"));
    assert_eq!(token.algorithm(), Algorithm::Es256);
    assert_eq!(token.unproven_claims().get("sub").unwrap().as_str(), Some("job:widgets"));
    let text = compact(header, &payload().to_string());
    let (signing_input, signature) = text.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert_eq!(token.signed_parts(), (signing_input, signature.as_slice()));
    assert_eq!(with_header(r#"{"alg":"RS256"}"#).unwrap().kid(), None);
}

#[test]
fn only_the_listed_algorithms_exist() {
    for algorithm in Algorithm::ALL {
        let token = with_header(&json!({"alg": algorithm.name()}).to_string()).unwrap();
        assert_eq!(token.algorithm(), algorithm);
    }
    // A01, A02: `none` in every spelling, and everything with a shared secret.
    for name in [
        "none", "None", "NONE", "NoNe", "nOnE", "", " ", "HS256", "HS384", "HS512", "rs256", "RS256 ", "RS1", "ES512",
        "ES256K", "EdDSA\0", "Ed448", "RSA-OAEP", "dir", "A128KW",
    ] {
        let error = with_header(&json!({"alg": name}).to_string()).unwrap_err();
        assert_eq!(error, TokenError::AlgorithmNotAllowed { name: name.to_owned() }, "{name:?}");
    }
    assert_eq!(with_header("{}").unwrap_err(), TokenError::NoAlgorithm);
    for alg in [json!(null), json!(1), json!(["RS256"]), json!({"RS256": 1}), json!(true)] {
        let error = with_header(&json!({"alg": alg}).to_string()).unwrap_err();
        assert!(matches!(error, TokenError::WrongType { claim: "alg", .. }), "{alg}");
    }
}

#[test]
fn header_parameters_outside_the_list_are_refused_by_name() {
    // A04, A11, A13: a key of the sender's, extensions that change the meaning, other kinds of object.
    for (name, value) in [
        ("jwk", json!({"kty": "oct"})),
        ("jku", json!("https://evil.example/keys")),
        ("x5u", json!("https://evil.example/cert")),
        ("x5c", json!(["MIIC"])),
        ("crit", json!([])),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("cty", json!("JWT")),
        ("Zip", json!("DEF")),
        ("nonce", json!(null)),
    ] {
        let header = json!({"alg": "RS256", name: value}).to_string();
        assert_eq!(with_header(&header).unwrap_err(), TokenError::HeaderNotAllowed { name: name.to_owned() });
    }
    let long = "n".repeat(1000);
    let TokenError::HeaderNotAllowed { name } = with_header(&json!({"alg": "RS256", long: 1}).to_string()).unwrap_err()
    else {
        panic!("accepted")
    };
    assert_eq!(name.chars().count(), 201);
}

#[test]
fn tokens_made_for_another_purpose_are_refused() {
    for typ in ["JWT", "jwt", "Jwt"] {
        assert!(with_header(&json!({"alg": "RS256", "typ": typ}).to_string()).is_ok());
    }
    for typ in ["at+jwt", "logout+jwt", "dpop+jwt", "JOSE", "JWS", "application/jwt", "secevent+jwt", "", "JWT "] {
        let error = with_header(&json!({"alg": "RS256", "typ": typ}).to_string()).unwrap_err();
        assert_eq!(error, TokenError::TypeNotAllowed { typ: typ.to_owned() });
    }
    for typ in [json!(null), json!(1), json!(["JWT"])] {
        let error = with_header(&json!({"alg": "RS256", "typ": typ}).to_string()).unwrap_err();
        assert!(matches!(error, TokenError::WrongType { claim: "typ", .. }), "{typ}");
    }
}

#[test]
fn a_kid_is_a_short_printable_text() {
    // A05: it stays a name to compare, whatever it looks like.
    for kid in ["../../../etc/passwd", "' OR 1=1 --", "https://evil.example/keys", "a", &"k".repeat(256)] {
        let token = with_header(&json!({"alg": "RS256", "kid": kid}).to_string()).unwrap();
        assert_eq!(token.kid(), Some(kid));
    }
    for kid in ["", "a\0b", "a\nb", "\u{7f}", "ключ", "\u{202e}", &"k".repeat(257), &"k".repeat(9000)] {
        let error = with_header(&json!({"alg": "RS256", "kid": kid}).to_string()).unwrap_err();
        assert_eq!(error, TokenError::KeyIdNotAllowed, "{kid:?}");
    }
    for kid in [json!(null), json!(7), json!(["a"]), json!({})] {
        let error = with_header(&json!({"alg": "RS256", "kid": kid}).to_string()).unwrap_err();
        assert!(matches!(error, TokenError::WrongType { claim: "kid", .. }), "{kid}");
    }
}

#[test]
fn only_the_compact_form_of_a_signed_token_is_read() {
    let good = compact(r#"{"alg":"RS256"}"#, &payload().to_string());
    // A01, A13: no signature, an encrypted token, a fourth part.
    let (signing_input, _) = good.rsplit_once('.').unwrap();
    let parts = |text: &str| {
        let error = UnverifiedToken::parse(text).unwrap_err();
        let TokenError::NotThreeParts { parts, .. } = error else { panic!("{error}") };
        parts
    };
    assert_eq!(parts(signing_input), 2);
    assert_eq!(parts(&format!("{good}.AAAA")), 4);
    assert_eq!(parts(&format!("{good}.AAAA.AAAA")), 5);
    assert_eq!(parts("abc"), 1);
    assert_eq!(UnverifiedToken::parse(&format!("{signing_input}.")).unwrap_err(), TokenError::Unsigned);
    assert_eq!(UnverifiedToken::parse("").unwrap_err(), TokenError::Empty);
    assert!(matches!(UnverifiedToken::parse(".."), Err(TokenError::NotJson { part: "header", .. })));
    // A03: JSON serialisations.
    for value in [json!({"payload": "e30", "signatures": []}), json!({"protected": "e30", "payload": "e30"})] {
        assert!(matches!(UnverifiedToken::parse(&value.to_string()), Err(TokenError::NotThreeParts { parts: 1, .. })));
    }
}

#[test]
fn separators_and_size_cost_nothing() {
    // A14.
    let dots = ".".repeat(MAX_TOKEN);
    let parts = MAX_TOKEN + 1;
    assert_eq!(UnverifiedToken::parse(&dots).unwrap_err(), TokenError::NotThreeParts { parts, wrapped: false });
    let bytes = 10_000_000;
    assert_eq!(UnverifiedToken::parse(&".".repeat(bytes)).unwrap_err(), TokenError::TooLarge { bytes });
    let long = vec!["x".repeat(4000); 3];
    let fitting = compact(r#"{"alg":"RS256"}"#, &json!({"iss": "i", "x": long}).to_string());
    assert!(fitting.len() <= MAX_TOKEN && UnverifiedToken::parse(&fitting).is_ok());
    let bytes = MAX_TOKEN + 1;
    let over = format!("{fitting}{}", "A".repeat(bytes - fitting.len()));
    assert_eq!(UnverifiedToken::parse(&over).unwrap_err(), TokenError::TooLarge { bytes });
}

#[test]
fn base64_has_one_spelling() {
    // A18. "AQI" carries two bytes and two spare bits that must be zero.
    let good = compact(r#"{"alg":"RS256"}"#, &payload().to_string());
    let (signing_input, signature) = good.rsplit_once('.').unwrap();
    assert_eq!(signature, "AQI");
    for signature in ["AQJ", "AQK", "AQL", "AQI=", "AQ==", "AQ+/", "A QI", "AQI\n", "AQI\u{e9}", "A"] {
        let error = UnverifiedToken::parse(&format!("{signing_input}.{signature}")).unwrap_err();
        assert!(matches!(error, TokenError::NotBase64Url { part: "signature", .. }), "{signature:?}");
    }
    let (header, rest) = good.split_once('.').unwrap();
    for text in [format!("{header}=.{rest}"), format!(" {good}"), format!("Bearer {good}"), format!("\"{good}\"")] {
        let error = UnverifiedToken::parse(&text).unwrap_err();
        assert!(matches!(error, TokenError::NotBase64Url { part: "header", .. }), "{text}");
    }
    let message = UnverifiedToken::parse(&format!("\"{good}\"")).unwrap_err().to_string();
    assert!(message.ends_with("send the bare token, without quotes, white space or `Bearer`"), "{message}");
}

#[test]
fn both_objects_are_strict_json() {
    // A15, A16, A17.
    let iss = r#""iss":"https://ci.example""#;
    for (payload, part) in [
        (format!("{{{iss},{iss}}}"), "payload"),
        (format!(r#"{{{iss},"\u0069ss":"https://ci.example"}}"#), "payload"),
        (format!(r#"{{{iss},"repository":"a","repository":"b"}}"#), "payload"),
        (format!(r#"{{{iss},"x":[{{"a":1,"a":1}}]}}"#), "payload"),
        (format!("{{{iss}}} "), ""),
        (format!("{{{iss}}}x"), "payload"),
        (format!("{{{iss}}}{{}}"), "payload"),
        (format!("\u{feff}{{{iss}}}"), "payload"),
        (format!("{{{iss},\"x\":\"\u{1}\"}}"), "payload"),
        (format!(r#"{{{iss},"x":"\ud800"}}"#), "payload"),
        (format!(r#"{{{iss},"x":1e999}}"#), "payload"),
        (format!("{{{iss},\"x\":{}{}}}", "[".repeat(17), "]".repeat(17)), "payload"),
        (format!("{{{iss},\"x\":{}{}}}", "[".repeat(5000), "]".repeat(5000)), "payload"),
        (format!("{{{iss},\"x\":[{}0]}}", "0,".repeat(2000)), "payload"),
        (format!("{{{iss},}}"), "payload"),
        (String::new(), "payload"),
    ] {
        let shown: String = payload.chars().take(60).collect();
        match with_payload(&payload) {
            Ok(_) => assert_eq!(part, "", "accepted {shown}"),
            Err(TokenError::NotJson { part: found, .. }) => assert_eq!(found, part, "{shown}"),
            Err(other) => panic!("{other}: {shown}"),
        }
    }
    assert!(matches!(with_header(r#"{"alg":"none","alg":"RS256"}"#), Err(TokenError::NotJson { part: "header", .. })));
    for text in ["[]", "null", "\"x\"", "7", "true", "1.5"] {
        assert!(matches!(with_payload(text), Err(TokenError::NotAnObject { part: "payload", .. })), "{text}");
        assert!(matches!(with_header(text), Err(TokenError::NotAnObject { part: "header", .. })), "{text}");
    }
    let not_utf8 = format!("{}.{}.AQI", base64url(r#"{"alg":"RS256"}"#), base64url(b"{\"iss\":\"\xff\"}"));
    assert!(matches!(UnverifiedToken::parse(&not_utf8), Err(TokenError::NotJson { part: "payload", .. })));
}

#[test]
fn names_that_differ_only_in_case_are_refused() {
    // A16: readers that fold case would see two issuers, two repositories, two algorithms.
    let iss = r#""iss":"https://ci.example""#;
    for payload in [
        format!(r#"{{{iss},"Iss":"https://evil.example"}}"#),
        format!(r#"{{"ISS":1,{iss}}}"#),
        format!(r#"{{"a":1,"repository":"x",{iss},"b":1,"REPOSITORY":"y","c":1}}"#),
        format!(r#"{{{iss},"repository":"x","reposi\u0054ory":"y"}}"#),
    ] {
        let error = with_payload(&payload).unwrap_err();
        assert_eq!(error, TokenError::NamesDifferInCase { part: "payload" }, "{payload}");
        assert_eq!(error.code(), Code::TokenMalformed);
    }
    for header in
        [r#"{"alg":"RS256","Alg":"none"}"#, r#"{"ALG":"none","alg":"RS256"}"#, r#"{"alg":"RS256","kid":"a","KID":"b"}"#]
    {
        assert_eq!(with_header(header).unwrap_err(), TokenError::NamesDifferInCase { part: "header" }, "{header}");
    }
    // Not the same name: a letter beyond ASCII, another order, a user's own names further inside.
    for payload in [
        format!("{{{iss},\"kid\":1,\"\u{212a}id\":2}}"),
        format!(r#"{{{iss},"ab":1,"ba":2,"a_b":3}}"#),
        format!(r#"{{{iss},"tags":{{"Team":"a","team":"b"}}}}"#),
    ] {
        assert!(with_payload(&payload).is_ok(), "{payload}");
    }
}

#[test]
fn texts_are_short_and_plain() {
    // A15, A17.
    let at_most = "x".repeat(MAX_STRING);
    let refused = |claims: Value| {
        let error = with_payload(&with(payload(), "x", claims).to_string()).unwrap_err();
        assert_eq!(error, TokenError::NotPlainText);
        assert_eq!(error.code(), Code::TokenMalformed);
    };
    for text in ["a\0b", "\0", "\u{1b}[31m", "a\u{8}", "\u{7f}", &format!("{at_most}x")] {
        refused(json!(text));
        refused(json!([1, text]));
        refused(json!({"a": [{"b": text}]}));
        refused(json!({text: 1}));
        let error = with_payload(&json!({"iss": "https://ci.example", text: 1}).to_string()).unwrap_err();
        assert_eq!(error, TokenError::NotPlainText, "{text:?}");
    }
    // What users name things: a display name of two lines, letters of any script, a long list.
    for text in ["Release\n\tnightly\r\n", "ключ 鍵 é \u{202e}", &at_most] {
        assert!(with_payload(&with(payload(), "x", json!([text])).to_string()).is_ok());
    }
}

#[test]
fn a_jwt_svid_has_its_trust_domain_as_its_issuer() {
    let svid = |header: &str, claims: Value| UnverifiedToken::parse(&compact(header, &claims.to_string()));
    let workload = json!({"sub": "spiffe://acme.example/ci/release", "aud": ["acme"], "exp": 1});
    for header in [
        r#"{"alg":"ES256","kid":"a"}"#,
        r#"{"alg":"ES256","kid":"a","typ":"JWT"}"#,
        r#"{"alg":"ES256","kid":"a","typ":"JOSE"}"#,
    ] {
        assert_eq!(svid(header, workload.clone()).unwrap().issuer(), "spiffe://acme.example", "{header}");
    }
    let error = svid(r#"{"alg":"EdDSA"}"#, workload.clone()).unwrap_err();
    assert_eq!(error, TokenError::AlgorithmNotAllowed { name: "EdDSA".to_owned() });
    // With an `iss`, that is its issuer, whatever its subject; and `JOSE` is another purpose.
    let with_issuer = with(workload.clone(), "iss", json!("https://spire.acme.example"));
    let token = svid(r#"{"alg":"ES256"}"#, with_issuer.clone()).unwrap();
    assert_eq!(token.issuer(), "https://spire.acme.example");
    let error = svid(r#"{"alg":"ES256","typ":"JOSE"}"#, with_issuer).unwrap_err();
    assert_eq!(error, TokenError::TypeNotAllowed { typ: "JOSE".to_owned() });
    // Nothing else stands in for an issuer, nor does a subject cover for one of the wrong type.
    for sub in [json!("spiffe://acme.example"), json!("spiffe://ACME.example/ci"), json!("job"), json!(7), json!(null)]
    {
        for header in [r#"{"alg":"ES256"}"#, r#"{"alg":"ES256","typ":"JOSE"}"#] {
            let error = svid(header, json!({"sub": sub})).unwrap_err();
            assert_eq!(error, TokenError::MissingClaim { claim: "iss" }, "{sub}");
        }
    }
    for iss in [json!(null), json!(["spiffe://acme.example"])] {
        let error = svid(r#"{"alg":"ES256"}"#, with(workload.clone(), "iss", iss)).unwrap_err();
        assert!(matches!(error, TokenError::WrongType { claim: "iss", .. }), "{error}");
    }
    assert_eq!(svid(r#"{"alg":"ES256"}"#, with(workload, "iss", json!(""))).unwrap().issuer(), "");
}

#[test]
fn the_issuer_is_a_string() {
    // A19: libraries accept a list that contains the right issuer.
    assert_eq!(with_payload("{}").unwrap_err(), TokenError::MissingClaim { claim: "iss" });
    for iss in [json!(null), json!(5), json!({}), json!(true), json!(["https://ci.example", "https://evil.example"])] {
        let error = with_payload(&json!({"iss": iss}).to_string()).unwrap_err();
        assert!(matches!(error, TokenError::WrongType { claim: "iss", .. }), "{iss}");
    }
}

#[test]
fn a_token_is_not_printed() {
    let text = compact(r#"{"alg":"RS256"}"#, &payload().to_string());
    let printed = format!("{:?}", UnverifiedToken::parse(&text).unwrap());
    assert_eq!(printed, r#"UnverifiedToken { issuer: "https://ci.example", kid: None, .. }"#);
}

proptest! {
    #[test]
    fn any_text_is_read_without_panicking(text in "\\PC{0,200}") {
        let _ = UnverifiedToken::parse(&text);
    }

    #[test]
    fn any_three_parts_are_read_without_panicking(
        header in prop::collection::vec(any::<u8>(), 0..60),
        payload in prop::collection::vec(any::<u8>(), 0..60),
        signature in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let text = format!("{}.{}.{}", base64url(header), base64url(payload), base64url(signature));
        prop_assert!(UnverifiedToken::parse(&text).is_err());
    }

    #[test]
    fn any_claims_are_read_without_panicking(name in "\\PC{0,20}", text in "\\PC{0,40}", number in any::<i64>()) {
        let claims: Value = json!({"iss": text, name.clone(): number, "aud": [text], "exp": number});
        let token = with_payload(&claims.to_string());
        prop_assert_eq!(token.is_ok_and(|token| token.issuer() == text), name != "iss");
    }

    #[test]
    fn an_excerpt_is_short(text in "\\PC{0,400}") {
        prop_assert!(excerpt(&text).chars().count() <= 201);
        prop_assert!(text.chars().count() > 200 || excerpt(&text) == text);
    }
}
