use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Caveat, CaveatError> {
    Caveat::parse(Ecosystem::Pypi, text.as_bytes())
}

#[track_caller]
fn reads(text: &str) -> Caveat {
    let caveat = parse(text).unwrap();
    assert_eq!(caveat.to_string(), text);
    assert_eq!(caveat.name(), text.split(' ').next().unwrap());
    caveat
}

const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn every_caveat_is_read_as_it_is_written() {
    let texts = |items: &[&str]| items.iter().map(|&item| item.to_owned()).collect();
    assert_eq!(reads("registry python"), Caveat::Registry(texts(&["python"])));
    assert_eq!(reads("registry a,b"), Caveat::Registry(texts(&["a", "b"])));
    let moment = Timestamp::from_unix_seconds(1_795_392_900);
    assert_eq!(reads("time-before 2026-11-23T00:15:00Z"), Caveat::TimeBefore(moment));
    let Caveat::Allow(pairs) = reads("allow create:acme-*,upload:widgets,upload:widgets-*") else { panic!() };
    assert_eq!(pairs.len(), 3);
    assert_eq!(reads("version 1.2.0,1.2.0+local"), Caveat::Version(texts(&["1.2.0", "1.2.0+local"])));
    assert_eq!(reads("version 1%2C%25%20%0A%E2%82%AC"), Caveat::Version(texts(&["1,% \n€"])));
    let Caveat::Sha256(digests) = reads(&format!("sha256 {DIGEST}")) else { panic!() };
    assert_eq!(digests.first().unwrap()[..3], [0xe3, 0xb0, 0xc4]);
    assert_eq!(reads("max-size 0"), Caveat::MaxSize(0));
    assert_eq!(reads("max-size 18446744073709551615"), Caveat::MaxSize(u64::MAX));
    assert_eq!(reads("uses 1"), Caveat::Uses(1));
    let Caveat::Ip(networks) = reads("ip 203.0.113.0/24,2001:db8::/32") else { panic!() };
    assert_eq!(networks.len(), 2);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    for name in ["time-after", "action", "package", "x-vendor", "allows", "uses2"] {
        assert_eq!(parse(&format!("{name} 1")), Err(CaveatError::Unknown(name.to_owned())));
    }
}

#[test]
fn what_is_no_caveat_is_refused_without_being_quoted() {
    let long = format!("{} 1", "a".repeat(65));
    for text in ["", " ", "uses", "uses\t1", "Uses 1", "-uses 1", "1uses 1", " uses 1", "us\u{202e}es 1", &long] {
        assert_eq!(parse(text), Err(CaveatError::NotText), "{text:?}");
    }
    assert_eq!(Caveat::parse(Ecosystem::Pypi, b"version \xff"), Err(CaveatError::NotText));
    assert_eq!(parse("[0,1790000900,1790000000]"), Err(CaveatError::NotText));
    assert_eq!(parse("account = 3735928559"), Err(CaveatError::Unknown("account".to_owned())));
}

#[test]
fn another_spelling_of_a_meaning_is_refused() {
    for text in [
        // Order, repetition, empty arguments, separators.
        "registry b,a",
        "registry a,a",
        "registry ",
        "registry a,",
        "registry ,a",
        "registry a, b",
        "registry  a",
        "registry a ",
        // Escapes: lower case, of what needs none, of bytes that are no text, cut off, none where one is needed.
        "version 1%2c2",
        "version %31",
        "version %ff",
        "version 1%2",
        "version 1%",
        "version 1%zz",
        "version €",
        "version 1\n",
        "version \u{7f}",
        // Times.
        "time-before 2026-11-23T00:15:00.0Z",
        "time-before 2026-11-23T00:15:00+00:00",
        "time-before 2026-11-23t00:15:00z",
        "time-before 1795392900",
        "time-before 2026-11-23T00:15:00Z,2027-11-23T00:15:00Z",
        // Pairs: no action, names that are not canonical, patterns that are none, the wrong order.
        "allow widgets",
        "allow upload:",
        "allow :widgets",
        "allow upload:*",
        "allow upload:acme*",
        "allow upload:Widgets",
        "allow upload:wid_gets",
        "allow Upload:widgets",
        "allow upload:b,upload:a",
        "allow upload:a,upload:a",
        "allow upload:a%2Db",
        "allow ",
        // Digests: length, case, not hexadecimal.
        "sha256 ",
        "sha256 e3b0",
        "sha256 E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "sha256 +3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85",
        // Numbers.
        "max-size -1",
        "max-size +1",
        "max-size 01",
        "max-size 1.0",
        "max-size 1,2",
        "max-size 18446744073709551616",
        "max-size ",
        "uses 0",
        "uses 4294967296",
        "uses one",
        // Networks: host bits, no length, out of range, other spellings.
        "ip 203.0.113.7/24",
        "ip 203.0.113.0",
        "ip 203.0.113.0/33",
        "ip 2001:DB8::/32",
        "ip 2001:0db8::/32",
        "ip 2001:db8::/32,203.0.113.0/24",
        "ip localhost/8",
        // IPv4 inside IPv6: another spelling of 203.0.113.0/24, which others write `::ffff:cb00:7100/120`.
        "ip ::ffff:203.0.113.0/120",
        "ip ::ffff:cb00:7100/120",
        "ip ::ffff:203.0.113.7/128",
        "ip ::ffff:0.0.0.0/96",
    ] {
        let error = parse(text).expect_err(text);
        assert!(matches!(error, CaveatError::Arguments(name) if text.starts_with(name)), "{text:?}: {error:?}");
    }
}

#[test]
fn a_list_has_at_most_64_arguments() {
    let list = |count: u32| {
        let items: BTreeSet<String> = (0..count).map(|i| format!("{i:03}")).collect();
        Caveat::Version(items).to_string()
    };
    assert!(parse(&list(64)).is_ok());
    assert_eq!(parse(&list(65)), Err(CaveatError::TooManyArguments("version")));
}

#[test]
fn package_names_are_spelled_as_the_ecosystem_spells_them() {
    assert!(Caveat::parse(Ecosystem::Generic, b"allow upload:@acme/Widgets").is_ok());
    assert!(Caveat::parse(Ecosystem::Pypi, b"allow upload:@acme/Widgets").is_err());
}

#[test]
fn a_list_that_is_empty_cannot_be_read_back() {
    for caveat in
        [Caveat::Registry(BTreeSet::new()), Caveat::Allow(Permissions::default()), Caveat::Ip(BTreeSet::new())]
    {
        assert!(parse(&caveat.to_string()).is_err());
    }
}

fn caveats() -> impl Strategy<Value = Caveat> {
    let texts = || prop::collection::btree_set(".{1,12}", 1..5);
    prop_oneof![
        texts().prop_map(Caveat::Registry),
        texts().prop_map(Caveat::Version),
        // Years 0 to 9998, which 20 characters hold whole.
        (-62_167_219_200_i64..253_370_764_800).prop_map(|s| Caveat::TimeBefore(Timestamp::from_unix_seconds(s))),
        prop::collection::btree_set(any::<[u8; 32]>(), 1..4).prop_map(Caveat::Sha256),
        any::<u64>().prop_map(Caveat::MaxSize),
        (1..u32::MAX).prop_map(Caveat::Uses),
        prop::collection::btree_set((any::<std::net::IpAddr>(), 0_u8..33), 1..5).prop_map(|nets| {
            let net = |(ip, length)| IpNet::new(ip, length).unwrap().trunc();
            Caveat::Ip(nets.into_iter().map(net).collect())
        }),
        prop::collection::vec("(upload|create|x-y):[a-z][a-z0-9]{0,5}(-[a-z0-9]|-\\*)?", 1..6).prop_map(|pairs| {
            Caveat::Allow(pairs.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect())
        }),
    ]
}

proptest! {
    #[test]
    fn writing_and_reading_are_inverse(caveat in caveats()) {
        let text = caveat.to_string();
        prop_assert!(text.bytes().all(|c| (0x20..0x7f).contains(&c)));
        prop_assert_eq!(parse(&text), Ok(caveat));
    }

    #[test]
    fn what_is_read_has_one_spelling(text in "(registry|time-before|allow|version|sha256|max-size|uses|ip) [0-9a-fA-F:/.,%*TZ-]{0,24}") {
        if let Ok(caveat) = parse(&text) {
            prop_assert_eq!(caveat.to_string(), text);
        }
    }

    #[test]
    fn no_bytes_make_reading_stop(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Caveat::parse(Ecosystem::Generic, &bytes);
    }
}
