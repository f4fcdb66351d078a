use super::*;
use crate::json;
use crate::json::Json;
use crate::macaroon::fixture::KEY;
use crate::macaroon::fixture::NOW;
use crate::macaroon::fixture::PREFIX;
use crate::macaroon::fixture::PYPI_KEY;
use crate::macaroon::fixture::after;
use crate::macaroon::fixture::keyring;
use crate::macaroon::fixture::master;
use crate::macaroon::fixture::minted;
use crate::macaroon::fixture::permissions;
use crate::macaroon::fixture::provenance;
use crate::macaroon::fixture::request;
use crate::macaroon::format::Macaroon;
use crate::macaroon::identifier::Provenance;
use crate::macaroon::key::RegistryKeyId;
use crate::macaroon::verify::verify;

fn decoded(token: &str) -> Macaroon {
    Macaroon::decode_text(token.strip_prefix(PREFIX).unwrap()).unwrap()
}

fn caveats(prepared: Prepared) -> Vec<String> {
    let token = decoded(prepared.mint().token.expose());
    token.caveats().map(|caveat| String::from_utf8(caveat.to_vec()).unwrap()).collect()
}

#[test]
fn two_tokens_have_one_fingerprint_exactly_if_they_are_the_same_bytes() {
    let (allowed, other) = (permissions(&["upload:widgets"]), permissions(&["upload:gadgets"]));
    let ok = || request(&allowed);
    let versions = ["1.0".to_owned()];
    let elsewhere = Provenance { policy_revision: "other".to_owned(), ..provenance() };
    let requests = [
        ok(),
        PrepareRequest { registry: "other", ..ok() },
        PrepareRequest { key: RegistryKeyId { key_id: "other", ..KEY }, ..ok() },
        PrepareRequest { key: PYPI_KEY, ..ok() },
        PrepareRequest { key: RegistryKeyId { epoch: KEY.epoch + 1, ..KEY }, ..ok() },
        PrepareRequest { location: "other.example", ..ok() },
        PrepareRequest { prefix: "", ..ok() },
        PrepareRequest { permissions: &other, ..ok() },
        PrepareRequest { ttl: Duration::from_secs(899), ..ok() },
        PrepareRequest { versions: Some(&versions), ..ok() },
        PrepareRequest { uses: Some(1), ..ok() },
        PrepareRequest { max_size: Some(1), ..ok() },
        PrepareRequest { provenance: elsewhere.borrowed(), ..ok() },
        PrepareRequest { id: TokenId::new(NOW, [9; 10]), ..ok() },
    ];
    let masters = [
        master("m1", NOW),
        master("m2", NOW),
        MasterKey::generate("m1", [b'x'; 31].iter().chain(&[0]).copied().collect::<Vec<_>>().try_into().unwrap(), NOW)
            .unwrap(),
    ];
    let made = || {
        masters.iter().flat_map(|master| requests.iter().map(|wanted| prepare_under(master, wanted.clone()).unwrap()))
    };
    let prints: Vec<_> = made().map(|prepared| prepared.fingerprint()).collect();
    let tokens: Vec<_> = made().map(|prepared| prepared.mint().token.expose().clone()).collect();
    for (a, (print, token)) in prints.iter().zip(&tokens).enumerate() {
        for (b, (other_print, other_token)) in prints.iter().zip(&tokens).enumerate() {
            assert_eq!((print == other_print, token == other_token), (a == b, a == b), "{a} {b}");
        }
    }
    assert!(made().map(|prepared| prepared.fingerprint()).eq(prints));
}

#[test]
fn a_token_is_made_again_under_the_key_that_is_named() {
    let allowed = permissions(&["upload:widgets"]);
    let first = prepare(&keyring(), request(&allowed)).unwrap().mint();
    let rotated = Keyring::new(vec![master("m1", NOW), master("m2", NOW)]).unwrap();
    assert_eq!(prepare(&rotated, request(&allowed)).unwrap().kid(), "m2");
    let again = prepare_under(rotated.get("m1").unwrap(), request(&allowed)).unwrap().mint();
    assert_eq!(again.token.expose(), first.token.expose());
    assert_eq!((again.id, again.expires_at), (first.id, first.expires_at));
}

#[test]
fn a_token_says_what_was_asked_and_nothing_else() {
    let minted = minted();
    let token = decoded(minted.token.expose());
    assert_eq!(token.location(), "registry.example");
    let identifier = Identifier::parse(token.identifier()).unwrap();
    assert_eq!((identifier.kid.as_str(), identifier.epoch, identifier.id), ("m1", KEY.epoch, minted.id));
    assert_eq!(identifier.provenance, provenance());
    let texts: Vec<_> = token.caveats().map(|caveat| str::from_utf8(caveat).unwrap()).collect();
    let expected = ["registry python", "time-before 2026-11-23T00:15:00Z", "allow upload:widgets,upload:widgets-*"];
    assert_eq!(texts, expected);
    assert_eq!(minted.expires_at, after(900));
    assert_eq!(minted.permissions, permissions(&["upload:widgets", "upload:widgets-*"]));
}

#[test]
fn a_token_is_text_that_a_header_takes_and_starts_alike() {
    let minted = minted();
    let token = minted.token.expose();
    assert!(token.starts_with("tm_AgEQcmVnaXN0cnkuZXhhbXBsZ"));
    assert!(token.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-'));
    assert!(token.len() < 800, "{}", token.len());
    assert_eq!(format!("{:?}", minted.token), "[redacted]");
}

#[test]
fn minting_is_a_function_of_its_arguments() {
    assert_eq!(minted().token.expose(), minted().token.expose());
}

#[test]
fn limits_are_caveats() {
    let permissions = permissions(&["upload:widgets"]);
    let versions = ["2.0".to_owned(), "1.0".to_owned(), "2.0".to_owned()];
    let limited =
        PrepareRequest { versions: Some(&versions), uses: Some(1), max_size: Some(1000), ..request(&permissions) };
    let prepared = prepare(&keyring(), limited).unwrap();
    assert_eq!((prepared.kid(), prepared.id(), prepared.expires_at()), ("m1", TokenId::new(NOW, [7; 10]), after(900)));
    assert_eq!(caveats(prepared)[3..], ["version 1.0,2.0", "max-size 1000", "uses 1"]);
}

#[test]
fn in_the_codec_of_pypi_a_token_says_when_and_which_projects() {
    let allowed = permissions(&["upload:Widgets", "upload:acme_core"]);
    let late = NOW.plus(Duration::from_millis(999));
    let wanted = PrepareRequest { key: PYPI_KEY, id: TokenId::new(late, [7; 10]), ..request(&allowed) };
    let minted = prepare(&keyring(), wanted).unwrap().mint();
    let token = decoded(minted.token.expose());
    let texts: Vec<_> = token.caveats().map(|caveat| str::from_utf8(caveat).unwrap()).collect();
    let (from, before) = (NOW.unix_seconds() - 60, after(900).unix_seconds());
    assert_eq!(texts, [format!("[0,{before},{from}]"), "[1,[\"acme-core\",\"widgets\"]]".to_owned()]);
    assert_eq!((minted.expires_at, &minted.permissions), (after(900), &allowed));
    assert_eq!(token.location(), "registry.example");
    assert_eq!(Identifier::parse(token.identifier()).unwrap().provenance, provenance());
}

#[test]
fn what_the_codec_of_pypi_has_no_word_for_makes_no_token() {
    let some = permissions(&["upload:widgets"]);
    let ok = || PrepareRequest { key: PYPI_KEY, ..request(&some) };
    let versions = ["1.0".to_owned()];
    assert!(prepare(&keyring(), ok()).is_ok());
    refused(PrepareError::NotExpressible, PrepareRequest { versions: Some(&versions), ..ok() });
    refused(PrepareError::NotExpressible, PrepareRequest { uses: Some(1), ..ok() });
    refused(PrepareError::NotExpressible, PrepareRequest { max_size: Some(u64::MAX), ..ok() });
    for pair in ["upload:widgets-*", "create:widgets", "yank:widgets", "read:widgets"] {
        let more = permissions(&["upload:widgets", pair]);
        refused(PrepareError::NotExpressible, PrepareRequest { permissions: &more, ..ok() });
    }
    assert_eq!(PrepareError::NotExpressible.code().as_str(), "grant-not-expressible");
}

#[test]
fn the_end_is_rounded_down_to_a_second() {
    let permissions = permissions(&["upload:widgets"]);
    let late = NOW.plus(Duration::from_millis(999));
    let prepared = prepare(&keyring(), PrepareRequest { id: TokenId::new(late, [0; 10]), ..request(&permissions) });
    assert_eq!(prepared.unwrap().expires_at(), after(900));
}

#[test]
fn a_key_that_is_not_active_does_not_sign() {
    let permissions = permissions(&["upload:widgets"]);
    let early = Keyring::new(vec![master("m1", after(1))]).unwrap();
    assert_eq!(prepare(&early, request(&permissions)).unwrap_err(), PrepareError::NoActiveKey);
}

#[track_caller]
fn refused(expected: PrepareError, request: PrepareRequest<'_>) {
    assert_eq!(prepare(&keyring(), request).unwrap_err(), expected);
}

#[test]
fn a_token_that_would_allow_nothing_or_everything_is_not_made() {
    let (some, none) = (permissions(&["upload:widgets"]), Permissions::default());
    let ok = || request(&some);
    refused(PrepareError::NothingGranted, request(&none));
    refused(PrepareError::NothingGranted, PrepareRequest { versions: Some(&[]), ..ok() });
    refused(PrepareError::NothingGranted, PrepareRequest { versions: Some(&[String::new()]), ..ok() });
    refused(PrepareError::NothingGranted, PrepareRequest { uses: Some(0), ..ok() });
    refused(PrepareError::Registry, PrepareRequest { registry: "", ..ok() });
    refused(PrepareError::Registry, PrepareRequest { location: "", ..ok() });
    refused(PrepareError::Lifetime, PrepareRequest { ttl: Duration::from_millis(999), ..ok() });
    refused(PrepareError::Lifetime, PrepareRequest { ttl: MAX_AGE + Duration::from_millis(1), ..ok() });
}

#[test]
fn a_prefix_that_no_header_takes_is_refused() {
    let permissions = permissions(&["upload:widgets"]);
    for prefix in ["tm ", "tm\n", "tm:", "tm.", "é", "a23456789012345678901234567890123"] {
        refused(PrepareError::Prefix, PrepareRequest { prefix, ..request(&permissions) });
    }
}

#[test]
fn a_token_has_at_most_3072_characters() {
    let pairs = permissions(&["upload:widgets"]);
    let mut longest = 0;
    for length in 0..2000 {
        let revision = "r".repeat(length);
        let mut request = request(&pairs);
        request.provenance.policy_revision = &revision;
        match prepare(&keyring(), request) {
            Ok(prepared) => longest = prepared.mint().token.expose().len(),
            Err(error) => {
                assert_eq!(error, PrepareError::TooLarge);
                break;
            }
        }
    }
    assert!((MAX_TEXT - 3..=MAX_TEXT).contains(&longest), "{longest}");
}

#[test]
fn what_does_not_fit_into_caveats_is_refused() {
    let pairs = |count: u32| {
        let texts: Vec<_> = (0..count).map(|i| format!("upload:w{i}")).collect();
        permissions(&texts.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (fits, too_many) = (pairs(64), pairs(65));
    assert!(prepare(&keyring(), request(&fits)).is_ok());
    refused(PrepareError::TooLarge, request(&too_many));
    let versions: Vec<_> = (0..65).map(|i| i.to_string()).collect();
    refused(PrepareError::TooLarge, PrepareRequest { versions: Some(&versions), ..request(&fits) });
    let long = "l".repeat(5000);
    refused(PrepareError::TooLarge, PrepareRequest { location: &long, ..request(&fits) });
    refused(PrepareError::TooLarge, PrepareRequest { registry: &long, ..request(&fits) });
    let provenance = Provenance { issuer: "i".repeat(100_000), ..provenance() };
    refused(PrepareError::TooLarge, PrepareRequest { provenance: provenance.borrowed(), ..request(&fits) });
}

#[test]
fn the_kid_and_the_registry_choose_the_key() {
    let permissions = permissions(&["upload:widgets"]);
    let ring = Keyring::new(vec![master("m1", NOW), master("m2", after(60))]).unwrap();
    let mint = |id, key| {
        let prepared = prepare(&ring, PrepareRequest { key, id, ..request(&permissions) }).unwrap();
        decoded(prepared.mint().token.expose())
    };
    let token = mint(TokenId::new(after(60), [1; 10]), KEY);
    assert!(token.is_signed_with(registry_secret(ring.get("m2").unwrap(), KEY).expose()));
    assert!(!token.is_signed_with(registry_secret(ring.get("m1").unwrap(), KEY).expose()));
    let other = RegistryKeyId { key_id: "npm", ..KEY };
    assert!(!token.is_signed_with(registry_secret(ring.get("m2").unwrap(), other).expose()));
}

/// What the verifier would not read back must not be minted: the subject token would be spent on nothing.
#[test]
fn claims_that_cannot_be_read_back_are_refused() {
    let pairs = permissions(&["upload:widgets"]);
    let nested = |depth: usize| {
        let mut provenance = provenance();
        let claim = (0..depth).fold(Json::Null, |inner, _| Json::Array(vec![inner]));
        provenance.claims.insert("groups".to_owned(), claim);
        prepare(&keyring(), PrepareRequest { provenance: provenance.borrowed(), ..request(&pairs) })
    };
    let minted = nested(json::MAX_DEPTH - 2).unwrap().mint();
    assert!(verify(minted.token.expose(), PREFIX, &keyring(), KEY, NOW).is_ok());
    assert_eq!(nested(json::MAX_DEPTH - 1).unwrap_err(), PrepareError::Provenance);
}
