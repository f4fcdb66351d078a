//! `libmacaroon`, an independent implementation, as an oracle: both agree on every token that both accept, and where
//! only one accepts, it is the other and the difference is by design.

use libmacaroon::Caveat;
use libmacaroon::Format;
use libmacaroon::MacaroonKey;
use libmacaroon::Verifier;
use proptest::prelude::*;
use trustmint::macaroon::FormatError;
use trustmint::macaroon::Macaroon;
use trustmint::macaroon::Signature;

use crate::support::mutation::KINDS;
use crate::support::mutation::change;

type Theirs = libmacaroon::Macaroon;

fn bytes(length: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), length)
}

#[derive(Debug, Clone)]
struct Parts {
    secret: Vec<u8>,
    location: String,
    identifier: Vec<u8>,
    caveats: Vec<Vec<u8>>,
}

fn parts() -> impl Strategy<Value = Parts> {
    let caveats = prop::collection::vec(bytes(1..150), 0..6);
    (bytes(0..80), ".{1,60}", bytes(1..150), caveats).prop_map(|(secret, location, identifier, caveats)| Parts {
        secret,
        location,
        identifier,
        caveats,
    })
}

impl Parts {
    fn ours(&self) -> Macaroon {
        let caveats: Vec<&[u8]> = self.caveats.iter().map(Vec::as_slice).collect();
        Macaroon::create(&self.secret, &self.location, &self.identifier, &caveats).unwrap()
    }

    fn key(&self) -> MacaroonKey {
        MacaroonKey::generate(&self.secret)
    }

    fn theirs(&self) -> Theirs {
        let mut token = Theirs::create(Some(&self.location), &self.key(), &self.identifier).unwrap();
        for caveat in &self.caveats {
            token.add_first_party_caveat(caveat).unwrap();
        }
        token
    }
}

fn accepts_whatever_it_says() -> Verifier {
    let mut verifier = Verifier::default();
    verifier.satisfy_general(|_| true);
    verifier
}

fn same(ours: &Macaroon, theirs: &Theirs) {
    assert_eq!(Some(ours.location()), theirs.location());
    assert_eq!(ours.identifier(), theirs.identifier());
    let predicates = theirs.caveats().iter().map(|caveat| caveat.as_first_party().unwrap().predicate());
    assert!(ours.caveats().eq(predicates));
    let signature: &[u8; Signature::LENGTH] = theirs.signature().as_ref();
    assert_eq!(ours.signature().expose(), signature);
}

/// What both make of the same bytes.
fn compare(bytes: &[u8]) {
    match (Macaroon::decode(bytes), Theirs::deserialize_binary(bytes)) {
        (Ok(ours), Ok(theirs)) => {
            same(&ours, &theirs);
            assert_eq!(ours.encode().expose(), bytes, "what was read has one spelling");
        }
        (Ok(_), Err(error)) => panic!("only ours accepts, theirs says {error}: {bytes:02x?}"),
        (Err(reason), Ok(theirs)) => {
            let third_party = theirs.caveats().iter().any(|caveat| matches!(caveat, Caveat::ThirdParty(_)));
            match reason {
                FormatError::ThirdPartyCaveat => assert!(third_party),
                FormatError::NoLocation => assert_eq!(theirs.location(), None),
                FormatError::EmptyLocation => assert_eq!(theirs.location().unwrap_or_default(), ""),
                FormatError::EmptyField => {
                    let empty = |caveat: &Caveat| caveat.as_first_party().is_some_and(|c| c.predicate().is_empty());
                    assert!(third_party || theirs.caveats().iter().any(empty));
                }
                FormatError::FieldTooLong | FormatError::TooLarge => assert!(bytes.len() > 4096),
                FormatError::TooManyCaveats => assert!(theirs.caveats().len() > 32),
                FormatError::V1 => assert_ne!(bytes.first(), Some(&2)),
                FormatError::Empty
                | FormatError::NotBase64Url
                | FormatError::Json
                | FormatError::UnknownVersion
                | FormatError::Truncated
                | FormatError::NonMinimalLength
                | FormatError::LocationNotText
                | FormatError::NoIdentifier
                | FormatError::UnexpectedField
                | FormatError::CaveatLocation
                | FormatError::SignatureLength
                | FormatError::TrailingBytes => panic!("only theirs accepts, ours says {reason}: {bytes:02x?}"),
            }
        }
        (Err(_), Err(_)) => {}
    }
}

/// One change of the kinds that parsers stumble over: a byte set, removed, inserted, doubled; a stretch cut or repeated.
fn mutated(mut bytes: Vec<u8>, changes: &[(u8, prop::sample::Index, u8)]) -> Vec<u8> {
    for (kind, at, value) in changes {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        if *kind < KINDS {
            change(&mut bytes, *kind, at, *value);
        } else {
            bytes[at] = [0, 1, 2, 4, 6, 0x20, 0x7f, 0x80][usize::from(*value % 8)];
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn what_ours_makes_theirs_reads_and_verifies(parts in parts()) {
        let ours = parts.ours();
        let theirs = Theirs::deserialize(ours.encode_text("").expose()).unwrap();
        same(&ours, &theirs);
        prop_assert!(accepts_whatever_it_says().verify(&theirs, &parts.key(), &[]).is_ok());
        let other = MacaroonKey::generate(b"another");
        prop_assert!(parts.secret == b"another" || accepts_whatever_it_says().verify(&theirs, &other, &[]).is_err());
    }

    #[test]
    fn what_theirs_makes_ours_reads_and_verifies(parts in parts()) {
        let theirs = parts.theirs();
        let text = theirs.serialize(Format::V2).unwrap();
        let ours = Macaroon::decode_text(text.trim_end_matches('=')).unwrap();
        same(&ours, &theirs);
        prop_assert!(ours.is_signed_with(&parts.secret));
        let (text, made) = (ours.encode_text(""), parts.ours().encode_text(""));
        prop_assert_eq!(text.expose(), made.expose());
        // Padding is a second spelling.
        let padded = theirs.serialize(Format::V2).unwrap();
        prop_assert_eq!(Macaroon::decode_text(&padded).is_ok(), !padded.ends_with('='));
        let v1 = theirs.serialize(Format::V1).map(|text| Macaroon::decode_text(text.trim_end_matches('=')).unwrap_err());
        prop_assert!(v1.is_err() || v1.unwrap() == FormatError::V1);
        let json = theirs.serialize(Format::V2JSON).map(|text| Macaroon::decode_text(&text).unwrap_err());
        prop_assert!(json.is_err() || matches!(json.unwrap(), FormatError::Json | FormatError::TooLarge));
    }

    #[test]
    fn a_narrowed_token_is_the_same_token_in_both(parts in parts(), caveat in bytes(1..100)) {
        let mut theirs = parts.theirs();
        theirs.add_first_party_caveat(&caveat).unwrap();
        same(&parts.ours().attenuate(&caveat).unwrap(), &theirs);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn they_agree_on_tokens_that_were_tampered_with(
        parts in parts(),
        changes in prop::collection::vec((0..=KINDS, any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        compare(&mutated(parts.ours().encode().expose().clone(), &changes));
    }

    #[test]
    fn they_agree_on_bytes_that_look_like_a_token(
        tail in prop::collection::vec(prop::sample::select(vec![0_u8, 0, 0, 1, 1, 2, 2, 2, 3, 4, 6, 32, 0x80, 0xff, b'a']), 0..60),
    ) {
        compare(&[&[2], tail.as_slice()].concat());
    }

    #[test]
    fn they_agree_on_third_party_caveats(parts in parts(), at in any::<prop::sample::Index>(), value: u8) {
        let mut theirs = parts.theirs();
        theirs.add_third_party_caveat("https://third.example/", &MacaroonKey::generate(b"third"), b"who").unwrap();
        let text = theirs.serialize(Format::V2).unwrap();
        let refused = Macaroon::decode_text(text.trim_end_matches('='));
        prop_assert_eq!(refused.unwrap_err(), FormatError::ThirdPartyCaveat);
        let mut bytes = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE, &text).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        compare(&bytes);
    }
}
