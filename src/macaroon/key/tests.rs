use aws_lc_rs::hkdf::HKDF_SHA256;
use aws_lc_rs::hkdf::Salt;

use super::*;
use crate::macaroon::caveat::Hex;
use crate::macaroon::fixture::NOW;
use crate::macaroon::fixture::after;
use crate::macaroon::fixture::master;

fn hex(bytes: &[u8; 32]) -> String {
    Hex(bytes).to_string()
}

fn counting() -> [u8; 32] {
    std::array::from_fn(|i| u8::try_from(i).unwrap())
}

fn secret(kid: &str, key_id: &str, epoch: u32) -> String {
    let master = MasterKey::generate(kid, counting(), NOW).unwrap();
    hex(registry_secret(&master, RegistryKeyId { key_id, codec: Codec::Text, epoch }).expose())
}

#[test]
fn hkdf_is_rfc_5869() {
    // Computed by another implementation; and whatever the input, the library's own HKDF agrees.
    let info = b"tpx/v1/registry-root\x00\x02m1\x00\x10registry.example".to_vec();
    let expected = "4089168522298ec450ff12d58b1faa92f82b9e7672768815e00373ed28d9a998";
    assert_eq!(hex(expand(&extract(&counting()), info).expose()), expected);
    for length in [0_u8, 1, 63, 64, 65, 200] {
        let info: Vec<u8> = (0..length).collect();
        let mut theirs = [0; 32];
        let prk = Salt::new(HKDF_SHA256, &[]).extract(&[length; 32]);
        prk.expand(&[&info], HKDF_SHA256).unwrap().fill(&mut theirs).unwrap();
        assert_eq!(*expand(&extract(&[length; 32]), info).expose(), theirs);
    }
}

#[test]
fn a_registrys_secret_depends_on_kid_registry_and_epoch() {
    // Computed by another implementation from the layout in `registry_secret`'s documentation.
    let cases = [
        ("m1", "registry.example", 0, "3118290bded3edf53d21e2e18d12ae4781d6cc1d56fe7c5c3ad61efa4139ed9f"),
        ("m1", "other.example", 0, "e448b1f6e9e7d9bb1f753fb523d22e44431ea1fa28fae53e8053831f76cfae29"),
        ("m1", "registry.example", 1, "739bdc9b5604e8b700d2d6ccc7aaafb93a80dd1358951cd7f0c4b6fd3a52e573"),
        ("m2", "registry.example", 0, "829933a905016159584ad7f8e5ef5457a813770dfc1f945c4a72012f35bf863d"),
    ];
    for (kid, key_id, epoch, expected) in cases {
        assert_eq!(secret(kid, key_id, epoch), expected, "{kid} {key_id} {epoch}");
    }
}

#[test]
fn the_seals_secret_is_the_librarys_hkdf_and_no_registrys() {
    let seal = |kid: &str, bytes: [u8; 32]| hex(seal_secret(&MasterKey::generate(kid, bytes, NOW).unwrap()).expose());
    for (kid, info) in [("m1", &b"trustmint/v1/seal\0\x02m1"[..]), ("a-b", b"trustmint/v1/seal\0\x03a-b")] {
        let mut expected = [0; 32];
        let extracted = Salt::new(HKDF_SHA256, &[]).extract(&counting());
        extracted.expand(&[info], HKDF_SHA256).unwrap().fill(&mut expected).unwrap();
        assert_eq!(seal(kid, counting()), hex(&expected));
    }
    assert_ne!(seal("m1", counting()), seal("m2", counting()));
    let mut other = counting();
    other[31] ^= 1;
    assert_ne!(seal("m1", counting()), seal("m1", other));
    // Whatever a registry is called, its secret is another.
    for key_id in ["", "seal", "m1", "trustmint/v1/seal", "\0\x02m1"] {
        for epoch in [0, 1, u32::MAX] {
            assert_ne!(secret("m1", key_id, epoch), seal("m1", counting()), "{key_id:?} {epoch}");
        }
    }
}

#[test]
fn names_do_not_run_into_each_other() {
    assert_ne!(secret("ab", "c", 0), secret("a", "bc", 0));
    assert_ne!(secret("a", "", 0), secret("a", "\0", 0));
}

#[test]
fn a_key_file_is_read_as_it_is_written() {
    let key = master("m1", NOW);
    let file = key.to_file();
    assert!(file.expose().starts_with("activate_at: 2026-11-23T00:00:00Z\nkey: "));
    let read = MasterKey::parse("m1", file.expose()).unwrap();
    assert_eq!((read.kid(), read.activate_at()), ("m1", NOW));
    assert_eq!(read.bytes.expose(), key.bytes.expose());
    assert!(MasterKey::parse("m1", file.expose().trim_end()).is_ok());
}

#[test]
fn what_is_no_key_file_is_refused() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let short = key.strip_suffix('8').unwrap();
    let zeros = "A".repeat(43);
    let cases = [
        (String::new(), MasterKeyError::Shape),
        (format!("key: {key}\n"), MasterKeyError::Shape),
        (format!("key: {key}\nactivate_at: 2026-11-23T00:00:00Z\n"), MasterKeyError::Shape),
        (format!("activate_at: 2026-11-23T00:00:00Z\nkey: {key}\n\n"), MasterKeyError::Shape),
        (format!("activate_at: 2026-11-23T00:00:00Z\nkey: {key}\nkey: {key}\n"), MasterKeyError::Shape),
        (format!("activate_at:2026-11-23T00:00:00Z\nkey: {key}\n"), MasterKeyError::Shape),
        (format!("activate_at: now\nkey: {key}\n"), MasterKeyError::ActivateAt),
        (format!("activate_at: 2026-11-23T01:00:00+01:00\nkey: {key}\n"), MasterKeyError::ActivateAt),
        (format!("activate_at: 2026-11-23T00:00:00Z\nkey: {key}=\n"), MasterKeyError::Bytes),
        (format!("activate_at: 2026-11-23T00:00:00Z\nkey: {key}A\n"), MasterKeyError::Bytes),
        (format!("activate_at: 2026-11-23T00:00:00Z\nkey: {short}9\n"), MasterKeyError::Bytes),
        (format!("activate_at: 2026-11-23T00:00:00Z\nkey: {short}\n"), MasterKeyError::Bytes),
        ("activate_at: 2026-11-23T00:00:00Z\nkey: \n".to_owned(), MasterKeyError::Bytes),
        (format!("activate_at: 2026-11-23T00:00:00Z\nkey: {zeros}\n"), MasterKeyError::NotRandom),
    ];
    for (text, expected) in cases {
        assert_eq!(MasterKey::parse("m1", &text).unwrap_err(), expected, "{text:?}");
    }
    for kid in ["", "M1", "m.1", "m_1", "m/1", "mé", &"m".repeat(33)] {
        assert_eq!(MasterKey::generate(kid, counting(), NOW).unwrap_err(), MasterKeyError::Kid, "{kid:?}");
    }
    assert_eq!(MasterKey::generate("m1", [7; 32], NOW).unwrap_err(), MasterKeyError::NotRandom);
}

#[test]
fn a_key_is_not_printed() {
    let shown = format!("{:?}", master("m1", NOW));
    assert_eq!(shown, "MasterKey { kid: \"m1\", activate_at: 2026-11-23T00:00:00Z+0ms, bytes: [redacted], .. }");
}

#[test]
fn a_key_verifies_at_once_and_mints_once_it_is_active() {
    let ring = Keyring::new(vec![master("b", after(60)), master("c", NOW), master("a", after(120))]).unwrap();
    let minting = |now| ring.minting_key(now).map(MasterKey::kid);
    assert_eq!(minting(NOW.minus(Duration::from_millis(1))), None);
    assert_eq!(minting(NOW), Some("c"));
    assert_eq!(minting(after(59)), Some("c"));
    assert_eq!(minting(after(60)), Some("b"));
    assert_eq!(minting(after(9999)), Some("a"));
    assert_eq!(ring.iter().map(MasterKey::kid).collect::<Vec<_>>(), ["c", "b", "a"]);
    assert!(ring.get("a").is_some());
    assert!(ring.get("d").is_none());
}

#[test]
fn of_keys_that_activate_together_one_mints_whatever_their_order() {
    for keys in [["a", "b"], ["b", "a"]] {
        let ring = Keyring::new(keys.map(|kid| master(kid, NOW)).into()).unwrap();
        assert_eq!(ring.minting_key(NOW).map(MasterKey::kid), Some("b"));
    }
}

#[test]
fn a_ring_has_a_key_and_no_two_of_one_name() {
    assert_eq!(Keyring::new(vec![]).unwrap_err(), KeyringError::Empty);
    let twins = vec![master("a", NOW), master("b", NOW), master("a", after(1))];
    assert_eq!(Keyring::new(twins).unwrap_err(), KeyringError::Repeated("a".to_owned()));
}

#[test]
fn a_key_is_free_once_another_has_minted_for_an_hour_and_the_spread() {
    let minutes = |n: u64| after(60 * n);
    let key = |kid: &str, at: Timestamp| MasterKey::generate(kid, counting(), at).unwrap();
    let ring = Keyring::new(vec![key("a", minutes(0)), key("b", minutes(10)), key("c", minutes(500))]).unwrap();
    let spread = Duration::from_secs(300);
    let free = |kid: &str, now: u64| ring.last_token_expires(kid, spread, minutes(now));
    assert_eq!(free("a", 5), None, "it mints, and nobody has taken over");
    assert_eq!(free("a", 10), Some(minutes(75)));
    assert_eq!(free("a", 1000), Some(minutes(75)));
    assert_eq!(free("b", 20), None);
    assert_eq!(free("b", 500), Some(minutes(565)));
    assert_eq!(free("c", 20), Some(minutes(20)), "it has never minted");
    assert_eq!(free("c", 600), None);
    assert_eq!(free("d", 600), None);
}

#[test]
fn rings_are_the_same_by_name_time_and_bytes() {
    let key = |kid: &str, byte: u8, at: Timestamp| {
        MasterKey::generate(kid, std::array::from_fn(|i| byte ^ u8::try_from(i).unwrap()), at).unwrap()
    };
    let later = after(1);
    let ring = |keys| Keyring::new(keys).unwrap();
    let one = ring(vec![key("a", 1, NOW), key("b", 2, NOW)]);
    assert!(one.is_same(&ring(vec![key("b", 2, NOW), key("a", 1, NOW)])));
    for other in [
        ring(vec![key("a", 1, NOW)]),
        ring(vec![key("a", 1, NOW), key("b", 3, NOW)]),
        ring(vec![key("a", 1, NOW), key("c", 2, NOW)]),
        ring(vec![key("a", 1, NOW), key("b", 2, later)]),
        ring(vec![key("a", 1, NOW), key("b", 2, NOW), key("c", 3, NOW)]),
    ] {
        assert!(!one.is_same(&other) && !other.is_same(&one));
    }
}
