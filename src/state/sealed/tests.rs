use aws_lc_rs::hmac;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_millis(1_795_700_000_123);
const SECOND: Duration = Duration::from_secs(1);

fn key(kid: &str, activate_at: Timestamp) -> SealKey {
    let byte = kid.bytes().last().unwrap();
    SealKey::new(kid.to_owned(), activate_at, Secret::new([byte; 32]))
}

fn keys() -> SealKeys {
    SealKeys::new(vec![key("k1", NOW.minus(SECOND))])
}

fn copy(revision: &str, body: &[u8]) -> StoredCopy {
    StoredCopy { at: NOW, revision: revision.to_owned(), body: body.to_vec() }
}

#[test]
fn what_is_sealed_is_opened_as_it_was() {
    let large = vec![0xff; 70_000];
    for (owner, revision, body) in
        [("", "", &b""[..]), ("https://a.example", "W/\"7\"", b"{\"keys\":[]}"), ("\0:", "é", &large)]
    {
        let sealed = keys().seal("jwks", owner, NOW, revision, body).unwrap();
        assert_eq!(keys().open("jwks", owner, &sealed, NOW), Some(copy(revision, body)));
    }
}

#[test]
fn it_is_written_in_one_way() {
    let sealed = keys().seal("jwks", "a", NOW, "r1", b"body").unwrap();
    let (text, mac) = sealed.split_at(sealed.len() - MAC_LENGTH);
    assert_eq!(text, b"\x01\x02k1\x00\x00\x01\xa2\x18\x0f\x85\x7b\x00\x02r1\x00\x00\x00\x04body");
    // The MAC is HMAC-SHA256 (RFC 2104) over what the head of the module says, put together by hand.
    let whole = [&b"trustmint/v1/sealed\0\0\0\0\0\0\0\x04jwks\0\0\0\0\0\0\0\x01a"[..], text].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[b'1'; 32]), &whole);
    assert_eq!(mac, tag.as_ref());
}

#[test]
fn a_value_with_any_byte_altered_cut_off_or_added_is_none() {
    let sealed = keys().seal("jwks", "a", NOW, "r1", b"body").unwrap();
    for place in 0..sealed.len() {
        for bit in 0..8 {
            let mut altered = sealed.clone();
            altered[place] ^= 1 << bit;
            assert_eq!(keys().open("jwks", "a", &altered, NOW), None, "byte {place} bit {bit}");
        }
        assert_eq!(keys().open("jwks", "a", &sealed[..place], NOW), None, "cut to {place}");
        assert_eq!(keys().open("jwks", "a", &sealed[place + 1..], NOW), None, "cut from {place}");
    }
    assert_eq!(keys().open("jwks", "a", &[&sealed[..], b"\0"].concat(), NOW), None);
    assert_eq!(keys().open("jwks", "a", &[b"\0", &sealed[..]].concat(), NOW), None);
}

#[test]
fn a_value_of_another_kind_or_owner_is_none() {
    let sealed = keys().seal("jwks", "ab", NOW, "r1", b"body").unwrap();
    for (kind, owner) in [("jwks", "a"), ("jwks", "abc"), ("bundle", "ab"), ("jwksa", "b"), ("jwk", "sab"), ("", "")] {
        assert_eq!(keys().open(kind, owner, &sealed, NOW), None, "{kind} {owner}");
    }
}

#[test]
fn a_right_mac_over_a_wrong_shape_is_none() {
    let head = b"\x01\x02k1\x00\x00\x01\xa2\x18\x0f\x85\x7b";
    let shapes: [(&[u8], bool); 6] = [
        (b"\x00\x02r1\x00\x00\x00\x04body", true),
        (b"\x00\x02r1\x00\x00\x00\x04body!", false),
        (b"\x00\x02r1\x00\x00\x00\x05body", false),
        (b"\x00\x02r1\x00\x00\x00\x04bod", false),
        (b"\x00\x02\xff\xff\x00\x00\x00\x04body", false),
        (b"\x00\x02r1\x00\x00", false),
    ];
    for (tail, whole) in shapes {
        let text = [&head[..], tail].concat();
        let sealed = [&text[..], &key("k1", NOW).mac("jwks", "a", &text)].concat();
        assert_eq!(keys().open("jwks", "a", &sealed, NOW).is_some(), whole, "{tail:?}");
    }
}

#[test]
fn it_is_believed_for_a_day_and_not_before_its_time() {
    let sealed = keys().seal("jwks", "a", NOW, "r1", b"body").unwrap();
    let millisecond = Duration::from_millis(1);
    for (now, believed) in [
        (NOW.minus(LEEWAY), true),
        (NOW.minus(LEEWAY + millisecond), false),
        (NOW.plus(MAX_COPY_AGE), true),
        (NOW.plus(MAX_COPY_AGE + millisecond), false),
    ] {
        assert_eq!(keys().open("jwks", "a", &sealed, now).is_some(), believed, "{now:?}");
    }
}

#[test]
fn the_key_that_activated_last_seals_and_all_of_them_open() {
    let both = SealKeys::new(vec![key("k2", NOW.plus(SECOND)), key("k1", NOW.minus(SECOND))]);
    let old = both.seal("jwks", "a", NOW, "", b"body").unwrap();
    let new = both.seal("jwks", "a", NOW.plus(SECOND), "", b"body").unwrap();
    assert!(old.starts_with(b"\x01\x02k1") && new.starts_with(b"\x01\x02k2"));
    for sealed in [&old, &new] {
        assert!(both.open("jwks", "a", sealed, NOW.plus(SECOND)).is_some());
    }
    let retired = SealKeys::new(vec![key("k2", NOW)]);
    assert_eq!(retired.open("jwks", "a", &old, NOW), None, "a key that is gone opens nothing");
    let same_name = SealKeys::new(vec![SealKey::new("k1".to_owned(), NOW, Secret::new([9; 32]))]);
    assert_eq!(same_name.open("jwks", "a", &old, NOW), None, "a name is no key");
    assert_eq!(SealKeys::new(vec![key("k1", NOW.plus(SECOND))]).seal("jwks", "a", NOW, "", b""), None);
}

#[test]
fn what_has_no_length_is_not_sealed() {
    assert_eq!(keys().seal("jwks", "a", NOW, &"r".repeat(65_536), b""), None);
}

#[test]
fn a_key_is_not_printed() {
    assert!(format!("{:?}", keys()).contains("secret: [redacted]"));
}
