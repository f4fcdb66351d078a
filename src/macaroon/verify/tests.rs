use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use super::*;
use crate::codec::Codec;
use crate::macaroon::fixture::KEY;
use crate::macaroon::fixture::NOW;
use crate::macaroon::fixture::PREFIX;
use crate::macaroon::fixture::PYPI_KEY;
use crate::macaroon::fixture::act;
use crate::macaroon::fixture::after;
use crate::macaroon::fixture::keyring;
use crate::macaroon::fixture::master;
use crate::macaroon::fixture::minted;
use crate::macaroon::fixture::permissions;
use crate::macaroon::fixture::provenance;
use crate::macaroon::fixture::request;
use crate::macaroon::fixture::upload;
use crate::macaroon::identifier::Provenance;
use crate::macaroon::identifier::TokenId;
use crate::macaroon::key::MasterKey;
use crate::macaroon::mint::PrepareRequest;
use crate::macaroon::mint::prepare;

fn check(text: &str) -> Result<Authentic, VerifyError> {
    verify(text, PREFIX, &keyring(), KEY, NOW)
}

fn token() -> String {
    minted().token.expose().clone()
}

fn decoded() -> Macaroon {
    Macaroon::decode_text(token().strip_prefix(PREFIX).unwrap()).unwrap()
}

/// A token with other caveats or another identifier, rightly signed.
fn signed(identifier: &[u8], caveats: &[&[u8]]) -> String {
    let secret = registry_secret(keyring().get("m1").unwrap(), KEY);
    let token = Macaroon::create(secret.expose(), "registry.example", identifier, caveats).unwrap();
    token.encode_text(PREFIX).expose().clone()
}

fn narrowed(caveats: &[&str]) -> Authentic {
    let token = caveats.iter().fold(decoded(), |token, caveat| token.attenuate(caveat.as_bytes()).unwrap());
    check(token.encode_text(PREFIX).expose()).unwrap()
}

fn codes(result: Result<Cleared, Vec<Failed>>) -> Vec<&'static str> {
    result.map_or_else(|failed| failed.iter().map(|failed| failed.code().as_str()).collect(), |_| vec![])
}

fn clear(token: &Authentic, facts: &Facts<'_>) -> Vec<&'static str> {
    codes(token.clear(facts, Ecosystem::Pypi))
}

#[test]
fn a_minted_token_is_authentic_and_clears_what_it_allows() {
    let token = check(&token()).unwrap();
    assert_eq!(token.identifier().id, minted().id);
    assert_eq!(token.identifier().provenance, provenance());
    assert_eq!((token.expires_at(), token.retired_at()), (after(900), after(3600)));
    let cleared = token.clear(&upload("widgets-core").facts(), Ecosystem::Pypi).unwrap();
    assert_eq!((cleared.uses(), cleared.expires_at()), (None, after(900)));
    assert_eq!(clear(&token, &upload("gadgets").facts()), ["package-not-covered"]);
}

#[test]
fn every_reason_is_told_in_the_order_of_the_caveats() {
    let token = narrowed(&["version 1.0", "max-size 10", "x-vendor 1", "garbage"]);
    let upload = act("upload", "gadgets");
    let facts = Facts { registry: "npm", now: after(900), size: Some(11), ..upload.facts() };
    let expected = [
        "wrong-registry",
        "upload-token-expired",
        "package-not-covered",
        "fact-not-stated",
        "size-not-covered",
        "caveat-not-understood",
        "caveat-not-understood",
    ];
    assert_eq!(clear(&token, &facts), expected);
}

#[test]
fn the_strictest_of_repeated_caveats_counts() {
    let token = narrowed(&["uses 3", "uses 1", "uses 2", "time-before 2026-11-23T00:05:00Z"]);
    assert_eq!((token.expires_at(), token.retired_at()), (after(300), after(3600)));
    let cleared = token.clear(&upload("widgets").facts(), Ecosystem::Pypi).unwrap();
    assert_eq!((cleared.uses(), cleared.expires_at()), (Some(1), after(300)));
    let later = narrowed(&["time-before 2999-01-01T00:00:00Z"]);
    assert_eq!(later.expires_at(), after(900));
}

#[test]
fn allowances_are_all_needed_and_never_added_up() {
    let token = narrowed(&["allow upload:gadgets"]);
    assert_eq!(clear(&token, &upload("widgets").facts()), ["package-not-covered"]);
    assert_eq!(clear(&token, &upload("gadgets").facts()), ["package-not-covered"]);
}

#[test]
fn a_token_lacks_none_of_the_mandatory_caveats() {
    let identifier = decoded().identifier().to_vec();
    let upload = upload("widgets");
    let bare = check(&signed(&identifier, &[])).unwrap();
    assert_eq!(clear(&bare, &upload.facts()), ["caveat-not-understood"; 3]);
    assert_eq!(bare.expires_at(), after(3600));
    let all: [&[u8]; 3] = [b"registry python", b"time-before 2026-11-23T00:15:00Z", b"allow upload:widgets"];
    assert_eq!(clear(&check(&signed(&identifier, &all)).unwrap(), &upload.facts()), [""; 0]);
    for (at, (_, missing)) in Caveat::mandatory(Codec::Text).iter().enumerate() {
        let mut some = all.to_vec();
        some.remove(at);
        let token = check(&signed(&identifier, &some)).unwrap();
        let failed = token.clear(&upload.facts(), Ecosystem::Pypi).unwrap_err();
        assert_eq!(failed, [Failed::Missing(missing)]);
        assert!(failed[0].to_string().contains(missing));
    }
}

#[test]
fn another_registrys_key_does_not_verify() {
    let token = token();
    let not_authentic = |key| verify(&token, PREFIX, &keyring(), key, NOW).unwrap_err();
    assert_eq!(not_authentic(RegistryKeyId { key_id: "npm", ..KEY }), VerifyError::NotAuthentic);
    assert_eq!(not_authentic(RegistryKeyId { epoch: KEY.epoch + 1, ..KEY }), VerifyError::NotAuthentic);
}

#[test]
fn an_epoch_in_the_identifier_that_is_not_the_keys_is_refused() {
    let text = String::from_utf8(decoded().identifier().to_vec()).unwrap();
    let other = text.replacen("tm1.m1.3.", "tm1.m1.4.", 1);
    assert_ne!(text, other);
    assert_eq!(check(&signed(other.as_bytes(), &[])).unwrap_err(), VerifyError::NotAuthentic);
}

#[test]
fn an_unknown_kid_and_a_bad_signature_get_one_answer() {
    let retired = verify(&token(), PREFIX, &Keyring::new(vec![master("m2", NOW)]).unwrap(), KEY, NOW);
    let other = MasterKey::generate("m1", std::array::from_fn(|i| u8::from(i == 3)), NOW).unwrap();
    let replaced = verify(&token(), PREFIX, &Keyring::new(vec![other]).unwrap(), KEY, NOW);
    assert_eq!(retired.unwrap_err(), VerifyError::NotAuthentic);
    assert_eq!(replaced.unwrap_err(), VerifyError::NotAuthentic);
}

#[test]
fn tokens_live_through_a_rotation_of_keys() {
    let permissions = permissions(&["upload:widgets"]);
    let ring = Keyring::new(vec![master("m1", NOW), master("m2", after(60))]).unwrap();
    let mint = |now| prepare(&ring, PrepareRequest { id: TokenId::new(now, [1; 10]), ..request(&permissions) });
    let (old, new) = (mint(NOW).unwrap(), mint(after(60)).unwrap());
    assert_eq!((old.kid(), new.kid()), ("m1", "m2"));
    for prepared in [old, new] {
        let token = prepared.mint().token;
        assert!(verify(token.expose(), PREFIX, &ring, KEY, after(60)).is_ok());
    }
}

#[test]
fn a_token_from_the_future_or_of_yesterday_is_refused() {
    let token = token();
    let at = |now| verify(&token, PREFIX, &keyring(), KEY, now).map(|_| ());
    let issued_at = NOW;
    assert_eq!(at(NOW.minus(LEEWAY)), Ok(()));
    assert_eq!(at(NOW.minus(LEEWAY + Duration::from_millis(1))), Err(VerifyError::FromFuture { issued_at }));
    assert_eq!(at(after(3600).minus(Duration::from_millis(1))), Ok(()));
    assert_eq!(at(after(3600)), Err(VerifyError::TooOld { issued_at }));
}

#[test]
fn age_is_limited_whatever_the_caveats_say() {
    let identifier = decoded().identifier().to_vec();
    let token = signed(&identifier, &[b"time-before 2999-01-01T00:00:00Z"]);
    assert_eq!(check(&token).unwrap().expires_at(), after(3600));
    let refused = verify(&token, PREFIX, &keyring(), KEY, after(3600));
    assert_eq!(refused.unwrap_err().code().as_str(), "upload-token-expired");
}

#[test]
fn another_prefix_is_refused() {
    let token = token();
    let bare = token.strip_prefix(PREFIX).unwrap();
    for text in [bare, "", "tm", &format!(" {token}"), &token.to_uppercase()] {
        assert_eq!(check(text).unwrap_err(), VerifyError::Prefix, "{text:?}");
    }
    assert_eq!(check(PREFIX).unwrap_err(), VerifyError::Format(FormatError::Empty));
}

#[test]
fn identifiers_of_others_are_refused() {
    let text = String::from_utf8(decoded().identifier().to_vec()).unwrap();
    for identifier in [
        "6f1c6a3e-5d0e-4c8b-9e0f-2f6d1f3b8a10".to_owned(),
        text.replacen("tm1", "tm2", 1),
        text.replacen(".3.", ".03.", 1),
        text.replacen(".3.", ".+3.", 1),
        text.replacen(".m1.", ".M1.", 1),
        text.replacen(".m1.", "..", 1),
        format!("{text}.x"),
        format!("{text}="),
        text.rsplit_once('.').unwrap().0.to_owned(),
    ] {
        assert_eq!(check(&signed(identifier.as_bytes(), &[])).unwrap_err(), VerifyError::NotAuthentic, "{identifier}");
    }
}

/// What a registry that verifies offline, and so can sign for itself, might put into an identifier.
#[test]
fn a_rightly_signed_identifier_is_still_read_strictly() {
    let text = String::from_utf8(decoded().identifier().to_vec()).unwrap();
    let (head, provenance) = text.rsplit_once('.').unwrap();
    let json = String::from_utf8(URL_SAFE_NO_PAD.decode(provenance).unwrap()).unwrap();
    let with = |json: &str| format!("{head}.{}", URL_SAFE_NO_PAD.encode(json));
    assert!(check(&signed(with(&json).as_bytes(), &[])).is_ok());
    for json in [
        json.replacen('{', "{\"more\":1,", 1),
        json.replacen('{', "{\"issuer\":\"x\",", 1),
        json.replacen("\"rules\":[\"widgets-release\"]", "\"rules\":[1]", 1),
        json.replacen("\"rules\":[\"widgets-release\"]", "\"rules\":\"widgets-release\"", 1),
        json.replacen("\"issuer\":", "\"isuer\":", 1),
        "[]".to_owned(),
        String::new(),
    ] {
        assert_eq!(check(&signed(with(&json).as_bytes(), &[])).unwrap_err(), VerifyError::NotAuthentic, "{json}");
    }
    let version_4 = text.replacen(&minted().id.to_string(), "6f1c6a3e-5d0e-4c8b-9e0f-2f6d1f3b8a10", 1);
    assert_eq!(check(&signed(version_4.as_bytes(), &[])).unwrap_err(), VerifyError::NotAuthentic);
}

/// Other libraries leave a caveat that is not met out of the chain, and so accept one that was never signed.
#[test]
fn a_caveat_that_was_inserted_without_signing_is_refused() {
    let token = decoded();
    for at in 0..=3 {
        let mut caveats: Vec<&[u8]> = token.caveats().collect();
        caveats.insert(at, b"source repository=evil/evil");
        let forged = Macaroon::create(b"", token.location(), token.identifier(), &caveats).unwrap();
        let mut bytes = forged.encode().expose().clone();
        bytes.truncate(bytes.len() - 32);
        bytes.extend_from_slice(token.signature().expose());
        let forged = Macaroon::decode(&bytes).unwrap().encode_text(PREFIX);
        assert_eq!(check(forged.expose()).unwrap_err(), VerifyError::NotAuthentic);
    }
}

#[test]
fn a_caveat_that_was_taken_away_is_missed() {
    let token = decoded();
    let all: Vec<&[u8]> = token.caveats().collect();
    for missing in 0..3 {
        let mut caveats = all.clone();
        caveats.remove(missing);
        let mut bytes =
            Macaroon::create(b"", token.location(), token.identifier(), &caveats).unwrap().encode().expose().clone();
        bytes.truncate(bytes.len() - 32);
        bytes.extend_from_slice(token.signature().expose());
        let text = Macaroon::decode(&bytes).unwrap().encode_text(PREFIX);
        assert_eq!(check(text.expose()).unwrap_err(), VerifyError::NotAuthentic);
    }
}

#[test]
fn flipping_any_bit_fails() {
    let token = decoded();
    let bytes = token.encode().expose().clone();
    // Version, field type and length of the location, then the location itself, which no signature covers.
    let location = 3..3 + token.location().len();
    let token_text = minted().token.expose().clone();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&flipped));
        match check(&text) {
            Err(_) => {}
            Ok(other) => {
                assert!(location.contains(&(bit / 8)), "bit {bit}");
                assert_eq!(&other.identifier, check(&token_text).unwrap().identifier());
                assert!(other.caveats.iter().map(Vec::as_slice).eq(token.caveats()));
            }
        }
    }
}

#[test]
fn changing_any_character_fails() {
    let text = token();
    // The characters of the location's own bytes are left out; see `flipping_any_bit_fails`.
    let location = PREFIX.len() + 4..PREFIX.len() + (3 + decoded().location().len()).div_ceil(3) * 4;
    for at in (0..text.len()).filter(|at| !location.contains(at)) {
        for other in [b'A', b'B', b'_', b'-', b'=', b'+', b' ', b'.', 0, 0xc3] {
            let mut bytes = text.clone().into_bytes();
            if bytes[at] != other {
                bytes[at] = other;
                assert!(String::from_utf8(bytes).map_or(true, |text| check(&text).is_err()), "{at} {other}");
            }
        }
    }
}

#[test]
fn bombs_are_refused_before_they_are_decoded() {
    let v1 = "MDAwNiAK".repeat(10_000);
    let megabyte = "A".repeat(1_000_000);
    for text in [v1, megabyte, "{".repeat(1_000_000), "\u{20ac}".repeat(300_000)] {
        let sent = format!("{PREFIX}{text}");
        let counted = allocation_counter::measure(|| {
            assert_eq!(check(&sent).unwrap_err(), VerifyError::Format(FormatError::TooLarge));
        });
        // The key ring of the fixture is all that is allocated.
        assert!(counted.bytes_total < 4096, "{}", counted.bytes_total);
    }
    let small = "MDAwNiAK".repeat(1000);
    assert_eq!(check(&format!("{PREFIX}{small}")).unwrap_err(), VerifyError::Format(FormatError::V1));
}

#[test]
fn a_token_can_be_looked_into_without_a_key() {
    let text = token();
    for text in [text.as_str(), text.strip_prefix(PREFIX).unwrap(), &format!("pypi-AgE_{text}")] {
        let token = Unverified::parse(text).unwrap();
        assert_eq!(token.location(), "registry.example");
        assert_eq!(token.identifier().unwrap().id, minted().id);
        assert_eq!(token.caveats().next(), Some(b"registry python".as_slice()));
        let shown = format!("{token:?}");
        assert!(shown.contains("registry python") && shown.contains("signature: [redacted]"), "{shown}");
    }
    for text in ["", "hello", "tm_AgE", &format!("{}{text}", "p".repeat(65)), &"A".repeat(1_000_000)] {
        assert!(Unverified::parse(text).is_err(), "{text:.80}");
    }
}

#[test]
fn reasons_have_codes() {
    let issued_at = NOW;
    let codes = [
        (VerifyError::Prefix, "upload-token-malformed"),
        (VerifyError::Format(FormatError::V1), "upload-token-malformed"),
        (VerifyError::NotAuthentic, "upload-token-unknown"),
        (VerifyError::FromFuture { issued_at }, "upload-token-unknown"),
        (VerifyError::TooOld { issued_at }, "upload-token-expired"),
    ];
    for (error, code) in codes {
        assert_eq!(error.code().as_str(), code);
        assert!(!error.to_string().ends_with('.'));
    }
}

/// Appended caveats: sensible ones, near misses and noise.
fn appended() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof![
        Just("registry python".to_owned()),
        Just("registry npm,python".to_owned()),
        "allow upload:(widgets|gadgets|widgets-\\*|\\*)(,upload:zebra)?",
        "time-before 20(25|26|99)-11-23T00:(05|15):00Z",
        "version [0-9](,[0-9])?",
        "uses [0-3]",
        "max-size [0-9]{1,3}",
        "ip (0\\.0\\.0\\.0/0|::/0|10\\.0\\.0\\.0/8)",
        "[a-z]{1,8} [a-z,]{0,8}",
        ".{1,20}",
    ];
    prop_oneof![4 => text.prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 1..20)]
}

proptest! {
    #[test]
    fn attenuation_never_widens(
        caveats in prop::collection::vec(appended(), 1..6),
        action in "(upload|create|read|delete)",
        package in "(widgets|gadgets|widgets-core|zebra)",
        registry in "(python|npm)",
        seconds in 0_u64..1200,
        version in prop::option::of("[0-9]"),
        size in prop::option::of(0_u64..1000),
        client_ip in prop::option::of(any::<std::net::IpAddr>()),
    ) {
        let request = act(&action, &package);
        let version = version.as_deref();
        let facts = Facts { registry: &registry, now: after(seconds), version, size, client_ip, ..request.facts() };
        let before = check(&token()).unwrap();
        let mut token = decoded();
        let mut allowed = before.clear(&facts, Ecosystem::Pypi).is_ok();
        let mut expires_at = before.expires_at();
        let mut uses = u32::MAX;
        for caveat in caveats {
            token = token.attenuate(&caveat).unwrap();
            let narrower = check(token.encode_text(PREFIX).expose()).unwrap();
            prop_assert_eq!(narrower.identifier(), before.identifier());
            let cleared = narrower.clear(&facts, Ecosystem::Pypi);
            prop_assert!(allowed || cleared.is_err());
            allowed = cleared.is_ok();
            prop_assert!(narrower.expires_at() <= expires_at);
            expires_at = narrower.expires_at();
            if let Ok(cleared) = cleared {
                prop_assert!(cleared.uses().unwrap_or(u32::MAX) <= uses);
                uses = cleared.uses().unwrap_or(u32::MAX);
            }
        }
    }

    #[test]
    fn no_text_makes_verifying_stop_or_succeed(text in ".{0,200}", bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let sent = format!("{PREFIX}{text}");
        prop_assert!(check(&sent).is_err());
        let mut v2 = vec![2_u8, 1, 1, b'l', 2];
        v2.extend(bytes);
        let encoded = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(v2));
        prop_assert!(check(&encoded).is_err());
        let _ = Unverified::parse(&encoded);
    }

    #[test]
    fn whatever_is_prepared_is_accepted(
        pairs in prop::collection::btree_set("(upload|create|yank):[a-z][a-z0-9]{0,9}(-\\*)?", 1..9),
        registry in ".{1,20}",
        versions in prop::option::of(prop::collection::vec(".{1,9}", 1..4)),
        max_size in prop::option::of(any::<u64>()),
        uses in prop::option::of(1..u32::MAX),
        ttl in 1_u64..=3600,
        millis in 0_u64..10_000,
        rule in ".{0,20}",
    ) {
        let permissions = permissions(&pairs.iter().map(String::as_str).collect::<Vec<_>>());
        let now = NOW.plus(Duration::from_millis(millis));
        let provenance = Provenance { rules: vec![rule], ..provenance() };
        let request = PrepareRequest {
            registry: &registry,
            versions: versions.as_deref(),
            max_size,
            uses,
            ttl: Duration::from_secs(ttl),
            id: TokenId::new(now, [9; 10]),
            provenance: provenance.borrowed(),
            ..request(&permissions)
        };
        let minted = prepare(&keyring(), request).unwrap().mint();
        let token = verify(minted.token.expose(), PREFIX, &keyring(), KEY, now).unwrap();
        prop_assert_eq!(&token.identifier().provenance, &provenance);
        prop_assert_eq!(token.expires_at(), minted.expires_at);
        for pair in permissions.iter() {
            let crate::package::Pattern::Literal(package) = &pair.pattern else { continue };
            let version = versions.as_ref().map(|versions| versions[0].as_str());
            let facts = Facts {
                registry: &registry,
                now,
                action: &pair.action,
                package,
                version,
                sha256: None,
                size: max_size,
                client_ip: None,
            };
            // Its end is rounded down, and still no lifetime is over before it began.
            let cleared = token.clear(&facts, Ecosystem::Pypi);
            prop_assert_eq!(cleared.map(|cleared| cleared.uses()), Ok(uses));
        }
    }
}

mod attacks {
    use super::*;
    use crate::macaroon::caveat::MAX_ARGUMENTS;
    use crate::macaroon::format::MAX_CAVEATS;
    use crate::macaroon::format::MAX_TOKEN;

    /// The first character of the location's length changes at 64 bytes, the number of its bytes at 128.
    #[test]
    fn a_token_with_a_long_location_can_be_looked_into() {
        let pairs = permissions(&["upload:widgets"]);
        for length in [1, 63, 64, 127, 128, 253] {
            let location = "r".repeat(length);
            let minted = prepare(&keyring(), PrepareRequest { location: &location, ..request(&pairs) }).unwrap().mint();
            assert_eq!(Unverified::parse(minted.token.expose()).unwrap().location(), location, "{length}");
        }
    }

    /// A caller may keep what it verified, and clear it when it is asked again.
    #[test]
    fn a_token_that_was_verified_is_not_cleared_once_it_is_retired() {
        let identifier = decoded().identifier().to_vec();
        let all: [&[u8]; 3] = [b"registry python", b"time-before 2999-01-01T00:00:00Z", b"allow upload:widgets"];
        let token = check(&signed(&identifier, &all)).unwrap();
        let upload = upload("widgets");
        let at = |now| clear(&token, &Facts { now, ..upload.facts() });
        assert_eq!(at(token.retired_at().minus(Duration::from_millis(1))), [""; 0]);
        assert_eq!(at(token.retired_at()), ["upload-token-expired"]);
        assert_eq!(at(after(86_400)), ["upload-token-expired"]);
    }

    /// What a stranger makes the service do: a known key's name and a wrong signature over as much as is read.
    #[test]
    fn a_stranger_has_little_allocated() {
        let long = vec![b'c'; (MAX_TOKEN - 1000) / MAX_CAVEATS];
        let forged = Macaroon::create(b"guess", "l", decoded().identifier(), &[long.as_slice(); MAX_CAVEATS]).unwrap();
        let text = forged.encode_text(PREFIX);
        let ring = keyring();
        let counted = allocation_counter::measure(|| {
            assert_eq!(verify(text.expose(), PREFIX, &ring, KEY, NOW).unwrap_err(), VerifyError::NotAuthentic);
        });
        assert!(counted.bytes_total < 3 * 8192, "{}", counted.bytes_total);
    }

    /// What a holder makes the service do and say: as many caveats and arguments as are read, none of them met.
    #[test]
    fn a_holder_cannot_make_refusals_grow() {
        let list: Vec<String> = (0..MAX_ARGUMENTS).map(|i| format!("upload:{i:02}")).collect();
        let caveat = format!("allow {}", list.join(","));
        let mut token = decoded();
        while let Ok(longer) = token.attenuate(caveat.as_bytes()) {
            token = longer;
        }
        let token = check(token.encode_text(PREFIX).expose()).unwrap();
        let failed = token.clear(&upload("widgets").facts(), Ecosystem::Pypi).unwrap_err();
        assert!(failed.len() > 8);
        let sentences: usize = failed.iter().map(|failed| failed.to_string().len()).sum();
        assert!(sentences < MAX_TOKEN, "{sentences}");
    }

    /// A registry that verifies offline signs what it likes: no moment in an id makes a token that lives longer.
    #[test]
    fn no_moment_in_an_id_stops_or_outlives() {
        let text = String::from_utf8(decoded().identifier().to_vec()).unwrap();
        for (id, code) in [
            ("00000000-0000-7000-8000-000000000000", "upload-token-expired"),
            ("ffffffff-ffff-7fff-bfff-ffffffffffff", "upload-token-unknown"),
        ] {
            let token = signed(text.replacen(&minted().id.to_string(), id, 1).as_bytes(), &[]);
            let error = check(&token).unwrap_err();
            assert_eq!(error.code().as_str(), code);
            assert!(!error.to_string().is_empty());
            for now in [i64::MIN, 0, i64::MAX] {
                let _ = verify(&token, PREFIX, &keyring(), KEY, Timestamp::from_unix_millis(now));
            }
        }
    }

    /// Names and versions that a person or another program takes for the same are other ones here.
    #[test]
    fn what_looks_alike_is_not_alike() {
        let token = narrowed(&["version 1.0,%C3%A9"]);
        let upload = upload("widgets");
        let is = |version| clear(&token, &Facts { version: Some(version), ..upload.facts() });
        assert_eq!((is("1.0"), is("\u{e9}")), (vec![], vec![]));
        for version in ["", "1.0\0", " 1.0", "1.0 ", "1%2E0", "%C3%A9", "e\u{301}", "1.0,\u{e9}", "\u{ff11}.0"] {
            assert_eq!(is(version), ["version-not-covered"], "{version:?}");
        }
    }
}

/// The codec that speaks PyPI's JSON.
mod pypi {
    use super::*;

    fn check(text: &str) -> Result<Authentic, VerifyError> {
        at(text, NOW)
    }

    fn at(text: &str, now: Timestamp) -> Result<Authentic, VerifyError> {
        verify(text, PREFIX, &keyring(), PYPI_KEY, now)
    }

    /// For `widgets` and `gadgets`.
    fn token() -> String {
        let allowed = permissions(&["upload:widgets", "upload:gadgets"]);
        let wanted = PrepareRequest { key: PYPI_KEY, ..request(&allowed) };
        prepare(&keyring(), wanted).unwrap().mint().token.expose().clone()
    }

    fn decoded(text: &str) -> Macaroon {
        Macaroon::decode_text(text.strip_prefix(PREFIX).unwrap()).unwrap()
    }

    fn signed(caveats: &[&[u8]]) -> Authentic {
        let secret = registry_secret(keyring().get("m1").unwrap(), PYPI_KEY);
        let identifier = decoded(&token()).identifier().to_vec();
        let token = Macaroon::create(secret.expose(), "registry.example", &identifier, caveats).unwrap();
        check(token.encode_text(PREFIX).expose()).unwrap()
    }

    fn narrowed(caveats: &[&str]) -> Authentic {
        let narrow = |token: Macaroon, caveat: &&str| token.attenuate(caveat.as_bytes()).unwrap();
        let token = caveats.iter().fold(decoded(&token()), narrow);
        check(token.encode_text(PREFIX).expose()).unwrap()
    }

    fn times(before: i64, from: i64) -> String {
        format!("[0, {}, {}]", NOW.unix_seconds() + before, NOW.unix_seconds() + from)
    }

    #[test]
    fn a_minted_token_clears_uploads_of_its_projects_until_it_ends() {
        let token = check(&token()).unwrap();
        assert_eq!((token.expires_at(), token.retired_at()), (after(900), after(3600)));
        for package in ["widgets", "Gadgets"] {
            let cleared = token.clear(&upload(package).facts(), Ecosystem::Pypi).unwrap();
            assert_eq!((cleared.uses(), cleared.expires_at()), (None, after(900)));
        }
        assert_eq!(clear(&token, &upload("sprockets").facts()), ["package-not-covered"]);
        assert_eq!(clear(&token, &act("create", "widgets").facts()), ["action-not-covered"]);
        let widgets = upload("widgets");
        let when = |now| clear(&token, &Facts { now, ..widgets.facts() });
        assert_eq!(when(NOW.minus(LEEWAY)), [""; 0], "as early as clocks may differ");
        assert_eq!(when(NOW.minus(LEEWAY + Duration::from_millis(1))), ["upload-token-not-yet-valid"]);
        assert_eq!(when(after(900).minus(Duration::from_millis(1))), [""; 0]);
        assert_eq!(when(after(900)), ["upload-token-expired"]);
    }

    /// The key says for which registry a token is: there is no caveat for it.
    #[test]
    fn a_token_of_one_codec_is_nobodys_in_the_other() {
        assert_eq!(check(&super::token()).unwrap_err(), VerifyError::NotAuthentic);
        assert_eq!(super::check(&token()).unwrap_err(), VerifyError::NotAuthentic);
        for key in [RegistryKeyId { key_id: "npm", ..PYPI_KEY }, RegistryKeyId { epoch: 4, ..PYPI_KEY }] {
            assert_eq!(verify(&token(), PREFIX, &keyring(), key, NOW).unwrap_err(), VerifyError::NotAuthentic);
        }
    }

    /// Rightly signed, as a registry that verifies offline could: bytes of one codec say nothing in the other.
    #[test]
    fn caveats_of_the_other_codec_are_not_understood() {
        let upload = upload("widgets");
        let text: [&[u8]; 3] = [b"registry python", b"time-before 2026-11-23T00:15:00Z", b"allow upload:widgets"];
        assert_eq!(clear(&signed(&text), &upload.facts()), ["caveat-not-understood"; 5]);
        assert_eq!(signed(&text).expires_at(), after(3600));
        let json = [times(900, 0), "[1,[\"widgets\"]]".to_owned()];
        let identifier = super::decoded().identifier().to_vec();
        let token = super::signed(&identifier, &[json[0].as_bytes(), json[1].as_bytes()]);
        let token = super::check(&token).unwrap();
        assert_eq!(clear(&token, &upload.facts()), ["caveat-not-understood"; 5]);
        assert_eq!(token.expires_at(), after(3600));
        for caveat in ["allow upload:widgets", "version 1.0", "uses 1", "x-vendor 1"] {
            assert_eq!(clear(&narrowed(&[caveat]), &upload.facts()), ["caveat-not-understood"], "{caveat}");
        }
        let token = super::narrowed(&["[1,[\"widgets\"]]"]);
        assert_eq!(clear(&token, &upload.facts()), ["caveat-not-understood"]);
    }

    #[test]
    fn a_token_lacks_none_of_the_mandatory_caveats() {
        let upload = upload("widgets");
        let all = [times(900, 0), "[1,[\"widgets\"]]".to_owned()];
        let [time, projects] = [all[0].as_bytes(), all[1].as_bytes()];
        assert_eq!(clear(&signed(&[time, projects]), &upload.facts()), [""; 0]);
        assert_eq!(clear(&signed(&[projects, time]), &upload.facts()), [""; 0], "in any order");
        for (some, missing) in [(vec![projects], "[0,…]"), (vec![time], "[1,…]")] {
            let failed = signed(&some).clear(&upload.facts(), Ecosystem::Pypi).unwrap_err();
            assert_eq!(failed, [Failed::Missing(missing)]);
            assert!(failed[0].to_string().contains(missing));
        }
        assert_eq!(clear(&signed(&[]), &upload.facts()), ["caveat-not-understood"; 2]);
    }

    #[test]
    fn caveats_are_all_needed_and_never_added_up() {
        let facts = |token: &Authentic, package: &str| clear(token, &upload(package).facts());
        let token = narrowed(&["[1, [\"widgets\", \"sprockets\"]]", &times(300, 0), &times(600, -10)]);
        assert_eq!(facts(&token, "widgets"), [""; 0]);
        assert_eq!(facts(&token, "gadgets"), ["package-not-covered"]);
        assert_eq!(facts(&token, "sprockets"), ["package-not-covered"]);
        assert_eq!((token.expires_at(), token.retired_at()), (after(300), after(3600)));
        let wider = narrowed(&[&times(86_400, -86_400)]);
        assert_eq!((facts(&wider, "widgets"), wider.expires_at()), (vec![], after(900)));
        let later = narrowed(&[&times(600, 300)]);
        assert_eq!(facts(&later, "widgets"), ["upload-token-not-yet-valid"]);
        let widgets = upload("widgets");
        assert_eq!(clear(&later, &Facts { now: after(300), ..widgets.facts() }), [""; 0]);
        let never = narrowed(&[&times(300, 600)]);
        for now in [0, 299, 300, 600, 899] {
            assert!(never.clear(&Facts { now: after(now), ..widgets.facts() }, Ecosystem::Pypi).is_err(), "{now}");
        }
    }

    #[test]
    fn age_is_limited_whatever_the_caveats_say() {
        let old = signed(&[times(1_000_000, -1000).as_bytes(), b"[1,[\"widgets\"]]"]);
        assert_eq!(old.expires_at(), after(3600));
        let widgets = upload("widgets");
        assert_eq!(clear(&old, &Facts { now: after(3600), ..widgets.facts() }), ["upload-token-expired"]);
        let issued_at = NOW;
        assert_eq!(at(&token(), after(3600)).unwrap_err(), VerifyError::TooOld { issued_at });
        let early = NOW.minus(LEEWAY + Duration::from_millis(1));
        assert_eq!(at(&token(), early).unwrap_err(), VerifyError::FromFuture { issued_at });
    }

    /// Appended caveats: sensible ones, near misses and noise.
    fn appended() -> impl Strategy<Value = String> {
        let now = NOW.unix_seconds();
        prop_oneof![
            4 => (-100..1200_i64, -100..1200_i64).prop_map(move |(a, b)| format!("[0, {}, {}]", now + a, now + b)),
            4 => "\\[1, ?\\[\"(widgets|gadgets|zebra)\"(,\"(widgets|zebra|w\\*)\")?\\]\\]",
            1 => "\\[[0-5],[0-9\\[\\],\"a-z]{0,8}\\]",
            1 => "(allow upload:widgets|registry python|\\{\\})",
            1 => ".{1,20}",
        ]
    }

    proptest! {
        #[test]
        fn attenuation_never_widens(
            caveats in prop::collection::vec(appended(), 1..6),
            action in "(upload|upload|create|read)",
            package in "(widgets|gadgets|zebra)",
            seconds in 0_u64..1200,
        ) {
            let request = act(&action, &package);
            let facts = Facts { now: after(seconds), ..request.facts() };
            let before = check(&token()).unwrap();
            let mut token = decoded(&token());
            let mut allowed = before.clear(&facts, Ecosystem::Pypi).is_ok();
            let mut expires_at = before.expires_at();
            for caveat in caveats {
                token = token.attenuate(caveat.as_bytes()).unwrap();
                let narrower = check(token.encode_text(PREFIX).expose()).unwrap();
                prop_assert_eq!(narrower.identifier(), before.identifier());
                let cleared = narrower.clear(&facts, Ecosystem::Pypi);
                prop_assert!(allowed || cleared.is_err());
                allowed = cleared.is_ok();
                prop_assert!(narrower.expires_at() <= expires_at);
                expires_at = narrower.expires_at();
            }
        }
    }
}
