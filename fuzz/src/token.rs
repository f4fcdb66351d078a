//! Tokens: the compact form taken apart, and never believed unless it is one of the signed seeds.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trustmint::identity::jwks::Find;
use trustmint::identity::jwks::KeySet;
use trustmint::identity::token::Algorithm;
use trustmint::identity::token::MAX_TOKEN;
use trustmint::identity::token::UnverifiedToken;
use trustmint::identity::verify::verify;

use super::raw::Parts;
use super::raw::Raw;

/// The public halves of the keys that signed the seeds.
static KEYS: LazyLock<KeySet> =
    LazyLock::new(|| KeySet::parse(include_bytes!("../corpus/jwks/seed-signers.json")).unwrap().0);

/// Every token that those keys have signed, without its signature: ECDSA has several for one text.
static SIGNED: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let seeds = [
        include_str!("../corpus/token/signed-github-rs256.jwt"),
        include_str!("../corpus/token/signed-gitlab-rs512.jwt"),
        include_str!("../corpus/token/signed-google-ps256.jwt"),
        include_str!("../corpus/token/signed-activestate-es256.jwt"),
        include_str!("../corpus/token/signed-generic-es384.jwt"),
        include_str!("../corpus/token/signed-generic-eddsa.jwt"),
    ];
    seeds.into_iter().map(signing_input).collect()
});

/// The input is a token's text.
pub fn token(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let token = match bounded(text) {
        Ok(token) => token,
        Err(error) => return super::short(&error.to_string()),
    };
    assert!(text.len() <= MAX_TOKEN);
    let [header, payload, signature] = text.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token of other than three parts")
    };
    assert!(!signature.is_empty(), "an unsigned token");
    let [header, payload, _] = [header, payload, signature].map(canonical);
    judge_header(&header, &token);
    judge_payload(&payload, &token);

    let again = UnverifiedToken::parse(text).expect("what parses parses again");
    assert_eq!(
        (again.issuer(), again.kid(), again.algorithm(), again.unproven_claims()),
        (token.issuer(), token.kid(), token.algorithm(), token.unproven_claims())
    );
    refuse_variants(text);
    if is_proven(text) {
        assert!(SIGNED.contains(&signing_input(text)), "a token was believed that nobody signed");
    }
}

/// Whether a token is verified by one of the seeds' keys, for its issuer, now.
pub fn is_proven(text: &str) -> bool {
    super::ISSUERS.iter().any(|issuer| {
        let Ok(token) = UnverifiedToken::parse(text) else { return false };
        let Find::Key(key) = KEYS.find(token.kid()) else { return false };
        match verify(token, &key, issuer, &super::audiences(), super::now()) {
            Ok(_) => true,
            Err(error) => {
                super::short(&error.to_string());
                false
            }
        }
    })
}

fn bounded(text: &str) -> Result<UnverifiedToken, trustmint::identity::token::TokenError> {
    super::bounded(text.len(), 64, || UnverifiedToken::parse(text))
}

fn signing_input(text: &str) -> &str {
    text.rsplit_once('.').map_or(text, |(input, _)| input)
}

/// The bytes of a part, by a decoder of its own: sextets, no padding, and no second spelling.
fn canonical(part: &str) -> Vec<u8> {
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in part.bytes() {
        let sextet = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => panic!("the byte {byte} in base64url"),
        };
        held = held << 6 | u32::from(sextet);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).unwrap());
            held &= (1 << bits) - 1;
        }
    }
    assert!(bits < 6 && held == 0, "bits are left over");
    bytes
}

fn judge_header(bytes: &[u8], token: &UnverifiedToken) {
    let header = Raw::read(bytes).expect("the header is JSON");
    assert!(!header.shape().repeated, "a repeated member in the header");
    let Parts::Members(members) = &header.parts else { panic!("the header is no object") };
    for (name, _) in members {
        let chooses_key = ["jwk", "jku", "x5u", "x5c"].contains(&name.as_str());
        let changes_meaning = ["crit", "b64", "zip", "enc", "cty"].contains(&name.as_str());
        assert!(!chooses_key && !changes_meaning, "the header has {name}");
    }
    let string = |name: &str| header.member(name).map(|value| value.string().expect("it is a string"));
    let algorithm = string("alg").expect("an algorithm is named");
    assert!(!algorithm.starts_with("HS") && !algorithm.eq_ignore_ascii_case("none"));
    assert_eq!(algorithm, token.algorithm().name());
    assert_eq!(Algorithm::parse(&algorithm), Some(token.algorithm()));
    assert_eq!(string("kid").as_deref(), token.kid());
    assert!(token.kid().is_none_or(|kid| !kid.is_empty() && kid.bytes().all(|byte| (0x20..0x7f).contains(&byte))));
    // A JWT-SVID without `iss` may be a `JOSE`; nothing else may.
    let is_svid = token.unproven_claims().get("iss").is_none();
    let known = |typ: &String| typ.eq_ignore_ascii_case("JWT") || (is_svid && typ.eq_ignore_ascii_case("JOSE"));
    assert!(string("typ").as_ref().is_none_or(known));
}

fn judge_payload(bytes: &[u8], token: &UnverifiedToken) {
    let payload = Raw::read(bytes).expect("the payload is JSON");
    assert!(!payload.shape().repeated, "a repeated member in the payload");
    let Parts::Members(members) = &payload.parts else { panic!("the payload is no object") };
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    assert!(token.unproven_claims().iter().map(|(name, _)| name).eq(names));
    let mut folded: Vec<String> = members.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    folded.sort_unstable();
    assert!(folded.windows(2).all(|pair| pair[0] != pair[1]), "two names differ in case only");
    if let Some(issuer) = payload.member("iss") {
        assert_eq!(issuer.string().as_deref(), Some(token.issuer()));
        return;
    }
    let workload = payload.member("sub").and_then(Raw::string).expect("a workload's SPIFFE ID");
    let path = workload.strip_prefix(token.issuer()).expect("the issuer is its trust domain");
    assert!(token.issuer().starts_with("spiffe://") && path.starts_with('/'));
}

/// Another text for the same bytes would be a second token to whoever remembers texts.
fn refuse_variants(text: &str) {
    let wrapped = [
        format!("{text}."),
        format!("{text}="),
        format!("{text}\n"),
        format!(" {text}"),
        format!("Bearer {text}"),
        format!("\"{text}\""),
    ];
    let mut at = 0;
    let respelled = text.split('.').filter_map(|part| {
        let end = at + part.len();
        at = end + 1;
        // The last sextet of a part whose length is 2 or 3 more than a multiple of 4 has bits that encode nothing.
        let (last, unused) = (part.bytes().last()?, [0, 0, 4, 2][part.len() % 4]);
        let value = URL_SAFE_NO_PAD.decode([b'A', b'A', b'A', last]).ok()?[2];
        let other = URL_SAFE_NO_PAD.encode([0, 0, value | u8::from(unused > 0)]);
        (unused > 0).then(|| format!("{}{}{}", &text[..end - 1], &other[3..], &text[end..]))
    });
    for variant in respelled.chain(wrapped) {
        assert!(UnverifiedToken::parse(&variant).is_err(), "another spelling was accepted: {variant}");
    }
}
