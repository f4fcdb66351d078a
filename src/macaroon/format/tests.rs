use proptest::prelude::*;

use super::*;

/// The token of libmacaroons' own tests: one identifier, one caveat.
fn sample() -> Vec<u8> {
    let token = Macaroon::create(b"this is the key", "http://example.org/", b"keyid", &[b"account = 3735928559"]);
    token.unwrap().encode().expose().clone()
}

#[track_caller]
fn refused(bytes: &[u8], expected: FormatError) {
    assert_eq!(Macaroon::decode(bytes).unwrap_err(), expected, "{bytes:?}");
    let text = URL_SAFE_NO_PAD.encode(bytes);
    assert_eq!(Macaroon::decode_text(&text).unwrap_err(), expected, "{text}");
}

fn field(kind: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![];
    push_field(&mut bytes, kind, data);
    bytes
}

fn token(header: &[&[u8]], caveats: &[&[u8]], signature: &[u8]) -> Vec<u8> {
    let parts = [&[VERSION][..], &header.concat(), &[EOS], &caveats.concat(), &[EOS], signature];
    parts.concat()
}

fn header() -> Vec<u8> {
    [field(LOCATION, b"l"), field(IDENTIFIER, b"i")].concat()
}

fn caveat(predicate: &[u8]) -> Vec<u8> {
    [field(IDENTIFIER, predicate), vec![EOS]].concat()
}

#[test]
fn every_fault_has_its_reason() {
    let (location, identifier, signature) = (field(1, b"l"), field(2, b"i"), field(6, &[7; 32]));
    let caveat = caveat(b"c");
    assert!(Macaroon::decode(&token(&[&location, &identifier], &[&caveat], &signature)).is_ok());
    refused(b"", FormatError::Empty);
    for first in [1, 3, b'g', b'z', b' ', b'[', 0xff] {
        refused(&[first, 1, 1, b'l'], FormatError::UnknownVersion);
    }
    refused(b"0021location l\n", FormatError::V1);
    refused(b"f", FormatError::V1);
    refused(b"{\"v\":2}", FormatError::Json);
    refused(&token(&[&identifier], &[], &signature), FormatError::NoLocation);
    refused(&token(&[&identifier, &location], &[], &signature), FormatError::NoLocation);
    refused(&token(&[&field(1, b""), &identifier], &[], &signature), FormatError::EmptyLocation);
    refused(&token(&[&field(1, b"\xff"), &identifier], &[], &signature), FormatError::LocationNotText);
    refused(&token(&[&location], &[], &signature), FormatError::NoIdentifier);
    refused(&token(&[&location, &location, &identifier], &[], &signature), FormatError::NoIdentifier);
    refused(&token(&[&location, &field(2, b"")], &[], &signature), FormatError::EmptyField);
    refused(&token(&[&location, &identifier, &identifier], &[], &signature), FormatError::UnexpectedField);
    refused(&token(&[&location, &identifier], &[&field(2, b""), &[0]], &signature), FormatError::EmptyField);
    refused(&token(&[&location, &identifier], &[&field(3, b"c"), &[0]], &signature), FormatError::UnexpectedField);
    refused(
        &token(&[&location, &identifier], &[&identifier, &identifier, &[0]], &signature),
        FormatError::UnexpectedField,
    );
    let third_party = [&location[..], &identifier, &field(4, &[0; 72]), &[0]].concat();
    refused(&token(&[&location, &identifier], &[&third_party], &signature), FormatError::ThirdPartyCaveat);
    refused(&token(&[&location, &identifier], &[&third_party[3..]], &signature), FormatError::ThirdPartyCaveat);
    refused(&token(&[&location, &identifier], &[&location, &caveat], &signature), FormatError::CaveatLocation);
    refused(&token(&[&location, &identifier], &[&location, &location], &signature), FormatError::UnexpectedField);
    for length in [0, 1, 31, 33, 64] {
        let signature = field(6, &vec![7; length]);
        refused(&token(&[&location, &identifier], &[&caveat], &signature), FormatError::SignatureLength);
    }
    refused(&token(&[&location, &identifier], &[&caveat], &field(2, &[7; 32])), FormatError::UnexpectedField);
    let trailing = [signature, vec![0]].concat();
    refused(&token(&[&location, &identifier], &[&caveat], &trailing), FormatError::TrailingBytes);
}

#[test]
fn a_token_that_is_cut_off_anywhere_is_refused() {
    let bytes = sample();
    for length in 1..bytes.len() {
        refused(&bytes[..length], FormatError::Truncated);
    }
}

#[test]
fn a_length_has_one_spelling_and_a_bound() {
    let after = |length: &[u8]| [&[VERSION, LOCATION], length].concat();
    refused(&after(&[0x80, 0]), FormatError::NonMinimalLength);
    refused(&after(&[0x81, 0]), FormatError::NonMinimalLength);
    refused(&after(&[0x81, 0x80, 0]), FormatError::NonMinimalLength);
    refused(&after(&[0x80]), FormatError::Truncated);
    refused(&after(&[0x80, 0x80, 0x80, 0]), FormatError::FieldTooLong);
    refused(&after(&[0xff; 9]), FormatError::FieldTooLong);
    refused(&after(&[0x81, 0x20]), FormatError::FieldTooLong);
    refused(&after(&[0x80, 0x20]), FormatError::Truncated);
}

#[test]
fn sizes_are_bounded_when_reading_and_when_writing() {
    let predicate = |length: usize| vec![b'c'; length];
    let signature = field(6, &[7; 32]);
    let create = |caveats: &[&[u8]]| Macaroon::create(b"k", "l", b"i", caveats);
    let longest = predicate(MAX_FIELD);
    assert!(create(&[&longest]).is_ok());
    assert!(Macaroon::decode(&token(&[&header()], &[&caveat(&longest)], &signature)).is_ok());
    let too_long = predicate(MAX_FIELD + 1);
    assert_eq!(create(&[&too_long]).unwrap_err(), FormatError::FieldTooLong);
    refused(&token(&[&header()], &[&caveat(&too_long)], &signature), FormatError::FieldTooLong);
    let one = caveat(b"c");
    let (most, too_many) = ([one.as_slice(); MAX_CAVEATS], [one.as_slice(); MAX_CAVEATS + 1]);
    assert!(Macaroon::decode(&token(&[&header()], &most, &signature)).is_ok());
    refused(&token(&[&header()], &too_many, &signature), FormatError::TooManyCaveats);
    let full = create(&[b"c".as_slice(); MAX_CAVEATS]).unwrap();
    assert_eq!(full.attenuate(b"c").unwrap_err(), FormatError::TooManyCaveats);
    assert_eq!(create(&[b"c"]).unwrap().attenuate(b"").unwrap_err(), FormatError::EmptyField);
    assert_eq!(Macaroon::create(b"k", "", b"i", &[]).unwrap_err(), FormatError::EmptyLocation);
    assert_eq!(Macaroon::create(b"k", "l", b"", &[]).unwrap_err(), FormatError::EmptyField);
    // 43 bytes of everything else; a caveat takes four and its own.
    let rest = predicate(MAX_TOKEN - 43 - (4 + MAX_FIELD) - 4);
    let exact = create(&[&longest, &rest]).unwrap();
    assert_eq!(exact.encode().expose().len(), MAX_TOKEN);
    assert_eq!(Macaroon::decode_text(exact.encode_text("").expose()).unwrap().caveats().count(), 2);
    let over = predicate(rest.len() + 1);
    assert_eq!(create(&[&longest, &over]).unwrap_err(), FormatError::TooLarge);
    refused(&token(&[&header()], &[&caveat(&longest), &caveat(&over)], &signature), FormatError::TooLarge);
    refused(&vec![VERSION; 1_000_000], FormatError::TooLarge);
}

#[test]
fn a_text_has_one_spelling() {
    let text = URL_SAFE_NO_PAD.encode(sample());
    assert!(Macaroon::decode_text(&text).is_ok());
    for other in [
        format!("{text}="),
        format!(" {text}"),
        format!("{text}\n"),
        text.replacen('A', "+", 1),
        text.replacen('A', "/", 1),
        text.replacen('A', "A!", 1),
        text.replacen('A', "\u{20ac}", 1),
    ] {
        assert_eq!(Macaroon::decode_text(&other).unwrap_err(), FormatError::NotBase64Url, "{other}");
    }
    assert_eq!(Macaroon::decode_text(" ").unwrap_err(), FormatError::NotBase64Url);
    assert_eq!(Macaroon::decode_text("{\"v\":2}").unwrap_err(), FormatError::Json);
    let trailing = format!("{text}A");
    assert_eq!(Macaroon::decode_text(&trailing).unwrap_err(), FormatError::TrailingBytes);
    // The last character's low bits stand for nothing: four of them with one byte over, two with two.
    for (location, stray) in [("l", 0), ("ll", 4), ("lll", 2)] {
        let bytes = Macaroon::create(b"k", location, b"i", &[b"cc"]).unwrap().encode();
        let mut text = URL_SAFE_NO_PAD.encode(bytes.expose());
        assert_eq!([0, 4, 2][bytes.expose().len() % 3], stray);
        let last = text.pop().unwrap();
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let same_bytes = alphabet.chars().skip_while(|c| *c != last).take(1 << stray);
        for other in same_bytes.skip(1) {
            let refused = Macaroon::decode_text(&format!("{text}{other}"));
            assert_eq!(refused.unwrap_err(), FormatError::NotBase64Url, "{location} {last} {other}");
        }
    }
}

#[test]
fn a_token_is_not_printed() {
    let shown = format!("{:?}", Macaroon::decode(&sample()).unwrap());
    assert!(shown.contains("account = 3735928559") && shown.ends_with("signature: [redacted] }"), "{shown}");
}

proptest! {
    #[test]
    fn writing_and_reading_are_inverse(
        secret in prop::collection::vec(any::<u8>(), 0..80),
        location in ".{1,200}",
        identifier in prop::collection::vec(any::<u8>(), 1..300),
        caveats in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..8),
    ) {
        let caveats: Vec<&[u8]> = caveats.iter().map(Vec::as_slice).collect();
        let token = Macaroon::create(&secret, &location, &identifier, &caveats).unwrap();
        let bytes = token.encode();
        prop_assert_eq!(bytes.expose().len(), token.body.encoded_length());
        let read = Macaroon::decode(bytes.expose()).unwrap();
        prop_assert_eq!(&read.body, &token.body);
        prop_assert!(read.is_signed_with(&secret));
        let text = token.encode_text("p-");
        prop_assert_eq!(text.expose().len(), 2 + text_length(bytes.expose().len()));
        prop_assert!(Macaroon::decode_text(text.expose().strip_prefix("p-").unwrap()).is_ok());
        // One caveat at a time and all at once are the same token.
        let root = Macaroon::create(&secret, &location, &identifier, &[]).unwrap();
        let grown = caveats.iter().fold(root, |token, caveat| token.attenuate(caveat).unwrap());
        let grown = grown.encode();
        prop_assert_eq!(grown.expose(), bytes.expose());
    }

    #[test]
    fn what_is_read_is_written_back(mut bytes in Just(sample()), at in any::<prop::sample::Index>(), byte: u8) {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(token) = Macaroon::decode(&bytes) {
            let written = token.encode();
            prop_assert_eq!(written.expose(), &bytes);
        }
    }
}
