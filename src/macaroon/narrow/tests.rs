use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::macaroon::MAX_CAVEATS;
use crate::macaroon::clear::Facts;
use crate::macaroon::fixture::KEY;
use crate::macaroon::fixture::NOW;
use crate::macaroon::fixture::PREFIX;
use crate::macaroon::fixture::act;
use crate::macaroon::fixture::after;
use crate::macaroon::fixture::keyring;
use crate::macaroon::fixture::minted;
use crate::macaroon::fixture::name;
use crate::macaroon::fixture::permissions;
use crate::macaroon::verify;
use crate::time::Timestamp;

const PYPI: Ecosystem = Ecosystem::Pypi;

fn held() -> Held {
    Held::parse(minted().token.expose()).unwrap()
}

fn restriction(caveat: &Caveat) -> Restriction {
    Restriction::new(PYPI, caveat).unwrap()
}

fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Whether a token's text clears an upload.
fn clears(text: &str, facts: &Facts<'_>) -> bool {
    verify(text, PREFIX, &keyring(), KEY, facts.now).is_ok_and(|token| token.clear(facts, PYPI).is_ok())
}

#[test]
fn a_narrowed_token_is_the_same_token_for_less() {
    let (held, upload) = (held(), act("upload", "widgets"));
    assert_eq!(held.to_text().unwrap().expose(), minted().token.expose());
    let narrowed = held.narrow(&restriction(&Caveat::Version(texts(&["1.0", "1.1"])))).unwrap();
    let narrowed =
        narrowed.narrow(&restriction(&Caveat::Sha256(BTreeSet::from([[7; 32]])))).unwrap().to_text().unwrap();
    assert!(narrowed.expose().starts_with(PREFIX));
    let authentic = verify(narrowed.expose(), PREFIX, &keyring(), KEY, NOW).unwrap();
    assert_eq!(authentic.identifier().id, minted().id);
    let facts = Facts { version: Some("1.0"), sha256: Some([7; 32]), ..upload.facts() };
    assert!(clears(narrowed.expose(), &facts));
    assert!(!clears(narrowed.expose(), &Facts { version: Some("1.2"), ..facts }));
    assert!(!clears(narrowed.expose(), &Facts { sha256: Some([8; 32]), ..facts }));
    assert!(!clears(narrowed.expose(), &upload.facts()), "what is not stated is not cleared");
}

#[test]
fn a_restriction_that_no_verifier_reads_is_none() {
    let many: BTreeSet<String> = (0..65).map(|i| i.to_string()).collect();
    for caveat in [
        Caveat::Version(BTreeSet::new()),
        Caveat::Version(many),
        Caveat::Version(texts(&[""])),
        Caveat::Sha256(BTreeSet::new()),
        Caveat::Allow(Permissions::default()),
        Caveat::Ip(BTreeSet::new()),
        Caveat::Ip(BTreeSet::from(["192.0.2.1/24".parse().unwrap()])),
        Caveat::Ip(BTreeSet::from(["::ffff:192.0.2.1/128".parse().unwrap()])),
        Caveat::Uses(0),
        Caveat::TimeBefore(Timestamp::from_unix_millis(1)),
        Caveat::TimeBefore(Timestamp::from_unix_seconds(i64::MAX / 1000)),
    ] {
        let refused = Restriction::new(PYPI, &caveat);
        assert_eq!(refused, Err(NarrowError::Restriction { name: caveat.name() }), "{caveat:?}");
    }
    let foreign = Permission::parse(Ecosystem::Npm, "upload:@acme/widgets").unwrap();
    assert!(Restriction::new(PYPI, &Caveat::Allow([foreign].into_iter().collect())).is_err());
}

#[test]
fn what_is_not_a_token_alone_is_not_narrowed() {
    let token = minted().token;
    let refused = |text: &str| Held::parse(text).unwrap_err();
    assert_eq!(refused(&format!("Bearer {}", token.expose())), NarrowError::Prefix);
    assert_eq!(refused(&format!("{}{}", "a".repeat(33), token.expose())), NarrowError::Prefix);
    assert!(matches!(refused(&format!("{} ", token.expose())), NarrowError::Format(_)));
    for text in ["", "pypi-", "garbage", "Ag", "{}"] {
        assert!(matches!(refused(text), NarrowError::Format(_)), "{text}");
    }
    let uuid = Macaroon::create(b"secret", "pypi.org", b"6f1c6a3e-5d0e-4c8b-9e0f-2f6d1f3b8a10", &[b"[0,2,1]"]).unwrap();
    assert_eq!(refused(uuid.encode_text("pypi-").expose()), NarrowError::NotOurs);
    let (id, pypi) = (held().macaroon.identifier().to_vec(), b"[0,2,1]");
    let other_codec = Macaroon::create(b"secret", "pypi.org", &id, &[pypi]).unwrap();
    assert_eq!(refused(other_codec.encode_text("pypi-").expose()), NarrowError::NotOurs);
}

#[test]
fn a_token_is_narrowed_within_the_bounds_of_what_travels() {
    let caveat = restriction(&Caveat::MaxSize(1));
    let mut full = held();
    for _ in held().macaroon.caveats().count()..MAX_CAVEATS {
        full = full.narrow(&caveat).unwrap();
    }
    assert!(full.to_text().is_ok());
    assert_eq!(full.narrow(&caveat).unwrap_err(), NarrowError::Format(FormatError::TooManyCaveats));
    let long = restriction(&Caveat::Version(texts(&[&"1".repeat(2200)])));
    let long = held().narrow(&long).unwrap();
    assert!(matches!(long.to_text(), Err(NarrowError::TooLong(length)) if length > MAX_TEXT));
    let field = restriction(&Caveat::Version(texts(&[&"1".repeat(5000)])));
    assert_eq!(held().narrow(&field).unwrap_err(), NarrowError::Format(FormatError::FieldTooLong));
}

#[test]
fn a_package_is_all_that_the_token_allows_on_it() {
    let text = |permissions: Permissions| permissions.to_string();
    let on = |held: &Held, package| text(held.allowed_on(PYPI, &name(package)).unwrap());
    assert_eq!(on(&held(), "widgets"), "upload:widgets");
    assert_eq!(on(&held(), "Widgets.Core"), "upload:widgets-core");
    assert_eq!(on(&held(), "gadgets"), "");
    let twice =
        held().narrow(&restriction(&Caveat::Allow(permissions(&["create:widgets-*", "upload:widgets-a"])))).unwrap();
    assert_eq!(on(&twice, "widgets-a"), "upload:widgets-a");
    assert_eq!(on(&twice, "widgets-b"), "", "nothing that both allow");
    let all = |pair| held().allows_all_of(PYPI, &Permission::parse(PYPI, pair).unwrap()).unwrap();
    assert!(all("upload:widgets-core-*") && all("upload:widgets") && all("read:widgets"));
    assert!(!all("create:widgets") && !all("upload:gadgets") && !all("upload:w-*") && !all("read:gadgets"));
    let unreadable = held().allows(Ecosystem::Npm).map(|allows| allows.len());
    assert_eq!(unreadable, Ok(1), "these names are npm's too");
    let dotted = held()
        .narrow(
            &Restriction::new(
                Ecosystem::Npm,
                &Caveat::Allow([Permission::parse(Ecosystem::Npm, "upload:a.b").unwrap()].into_iter().collect()),
            )
            .unwrap(),
        )
        .unwrap();
    assert!(matches!(dotted.allows(PYPI), Err(NarrowError::Allow(_))));
}

fn caveat() -> impl Strategy<Value = Caveat> {
    let version = prop::sample::subsequence(vec!["1.0", "1.1", "2 ,%\u{e9}"], 1..=2);
    let pairs = ["upload:widgets", "upload:widgets-*", "upload:gadgets", "create:widgets", "yank:widgets-core"];
    let pairs = prop::sample::subsequence(pairs.to_vec(), 1..=3);
    let networks = prop::sample::subsequence(vec!["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32"], 1..=2);
    prop_oneof![
        version.prop_map(|versions| Caveat::Version(texts(&versions))),
        prop::collection::btree_set(prop::array::uniform32(0_u8..2), 1..3).prop_map(Caveat::Sha256),
        (0_u64..4).prop_map(Caveat::MaxSize),
        pairs.prop_map(|pairs| Caveat::Allow(permissions(&pairs))),
        (0_u64..1200).prop_map(|seconds| Caveat::TimeBefore(after(seconds))),
        networks.prop_map(|networks| Caveat::Ip(networks.iter().map(|network| network.parse().unwrap()).collect())),
        prop::sample::subsequence(vec!["python", "npm"], 1..=2).prop_map(|ids| Caveat::Registry(texts(&ids))),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_restriction_does_what_it_says_and_never_more(
        caveats in prop::collection::vec(caveat(), 0..6),
        action in prop::sample::select(vec!["upload", "create", "yank", "read"]),
        package in prop::sample::select(vec!["widgets", "widgets-core", "gadgets"]),
        version in prop::option::of(prop::sample::select(vec!["1.0", "1.1", "2 ,%\u{e9}"])),
        size in prop::option::of(0_u64..4),
        digest in prop::option::of(prop::array::uniform32(0_u8..2)),
        client in prop::option::of(prop::sample::select(vec!["192.0.2.9", "203.0.113.1", "::ffff:192.0.2.9", "2001:db8::1"])),
        seconds in 0_u64..1000,
    ) {
        let request = act(action, package);
        let client_ip = client.map(|client| client.parse().unwrap());
        let facts = Facts { now: after(seconds), version, size, sha256: digest, client_ip, ..request.facts() };
        let original = held();
        let mut before = clears(original.to_text().unwrap().expose(), &facts);
        let mut token = original;
        for caveat in &caveats {
            token = token.narrow(&restriction(caveat)).unwrap();
            let now = clears(token.to_text().unwrap().expose(), &facts);
            // What is allowed is what was, less what the caveat does not let pass.
            prop_assert_eq!(now, before && caveat.check(&facts).is_ok(), "{}", caveat);
            before = now;
        }
    }
}
