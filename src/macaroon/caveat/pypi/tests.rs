use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::codec::Codec;

fn parse(text: &str) -> Result<Caveat, CaveatError> {
    Caveat::read(Codec::Pypi, Ecosystem::Pypi, text.as_bytes())
}

fn uploads(names: &[&str]) -> Caveat {
    let pair = |name: &&str| Permission::parse(Ecosystem::Pypi, &format!("upload:{name}")).unwrap();
    Caveat::Allow(names.iter().map(pair).collect())
}

fn between(before: i64, from: i64) -> Caveat {
    Caveat::TimeBetween { from: Timestamp::from_unix_seconds(from), before: Timestamp::from_unix_seconds(before) }
}

#[test]
fn both_arrays_are_read_as_they_are_written() {
    for (text, caveat) in [
        ("[0,1790000900,1790000000]", between(1_790_000_900, 1_790_000_000)),
        ("[0,0,0]", between(0, 0)),
        ("[0,-1,-62167219200]", between(-1, -62_167_219_200)),
        ("[1,[\"widgets\"]]", uploads(&["widgets"])),
        ("[1,[\"a\",\"a-b\",\"z9\"]]", uploads(&["a", "a-b", "z9"])),
    ] {
        assert_eq!(parse(text), Ok(caveat.clone()));
        assert_eq!(caveat.write(Codec::Pypi).as_deref(), Some(text));
    }
}

#[test]
fn what_an_array_says_counts_and_not_its_bytes() {
    let (time, widgets) = (between(1_790_000_900, 1_790_000_000), uploads(&["widgets"]));
    for (text, caveat) in [
        ("[0, 1790000900, 1790000000]", &time),
        (" [\t0 ,\r\n1790000900,1790000000 ] ", &time),
        ("[1, [\"widgets\"]]", &widgets),
        ("[1,[\"\\u0077idgets\"]]", &widgets),
        ("[1,[\"widgets\",\"widgets\"]]", &widgets),
        ("[1,[\"z\",\"a\"]]", &uploads(&["a", "z"])),
    ] {
        assert_eq!(parse(text).as_ref(), Ok(caveat), "{text}");
    }
}

#[test]
fn a_window_that_is_never_open_can_be_read_and_holds_never() {
    assert_eq!(parse("[0,1790000000,1790000900]"), Ok(between(1_790_000_000, 1_790_000_900)));
}

#[test]
fn what_is_no_array_with_a_tag_is_refused() {
    for text in [
        "",
        "[",
        "[]",
        "{}",
        "0",
        "null",
        "\"[0,1,0]\"",
        "[[0,1,0]]",
        "[null,1,0]",
        "[true,1,0]",
        "[\"0\",1,0]",
        "[0.0,1,0]",
        "[-0,1,0]",
        "[0e0,1,0]",
        "[00,1,0]",
        "[+0,1,0]",
        "[0x0,1,0]",
        "[0,1,0]]",
        "[0,1,0] [1,[\"widgets\"]]",
        "[0,1,0,]",
        "[0,NaN,0]",
        "[0,Infinity,0]",
        "[0,1,0]//",
        "\u{feff}[0,1,0]",
        // The text codec's, and what PyPI minted before it had tags.
        "registry python",
        "time-before 2026-11-23T00:15:00Z",
        "allow upload:widgets",
        "{\"version\": 1, \"permissions\": \"user\"}",
        "{\"version\": 1, \"permissions\": {\"projects\": [\"widgets\"]}}",
        "{\"nbf\": 0, \"exp\": 1790000900}",
    ] {
        assert_eq!(parse(text), Err(CaveatError::NotTagged), "{text}");
    }
    for bytes in [&b"\xff"[..], b"[1,[\"widg\xe9ts\"]]", b"[0,1,0]\0"] {
        assert_eq!(read(bytes), Err(CaveatError::NotTagged), "{bytes:?}");
    }
}

#[test]
fn a_tag_that_means_nothing_here_is_refused_by_its_number() {
    for (text, tag) in [
        ("[2,[\"00000000-0000-0000-0000-000000000000\"]]", 2),
        ("[3,\"00000000-0000-0000-0000-000000000000\"]", 3),
        ("[4,\"00000000-0000-0000-0000-000000000000\",null]", 4),
        ("[5]", 5),
        ("[-1,[\"widgets\"]]", -1),
        ("[9223372036854775807,[\"widgets\"]]", i64::MAX),
    ] {
        assert_eq!(parse(text), Err(CaveatError::UnknownTag(tag)), "{text}");
    }
}

#[test]
fn elements_of_another_type_or_number_are_refused() {
    for text in [
        // As many as warehouse and pypitoken agree on, and no more.
        "[0]",
        "[0,1790000900]",
        "[0,1790000900,1790000000,null]",
        "[1]",
        "[1,[\"widgets\"],[]]",
        "[1,[\"widgets\"],null]",
        // Numbers: nothing but integers that fit, written as such.
        "[0,1790000900.0,1790000000]",
        "[0,1790000900,1790000000.0]",
        "[0,179e7,0]",
        "[0,1e3,0]",
        "[0,1,-0]",
        "[0,18446744073709551615,0]",
        "[0,9223372036854775808,0]",
        "[0,99999999999999999999999999,0]",
        "[0,9223372036854775807,0]",
        "[0,1,-9223372036854775808]",
        "[0,\"1790000900\",0]",
        "[0,true,0]",
        "[0,null,0]",
        "[0,[1],0]",
        "[0,1790000900,{}]",
        // Names: a list of some, each canonical.
        "[1,[]]",
        "[1,\"widgets\"]",
        "[1,{\"widgets\":1}]",
        "[1,null]",
        "[1,[[\"widgets\"]]]",
        "[1,[1]]",
        "[1,[null]]",
        "[1,[\"\"]]",
        "[1,[\"Widgets\"]]",
        "[1,[\"wid_gets\"]]",
        "[1,[\"wid.gets\"]]",
        "[1,[\"wid--gets\"]]",
        "[1,[\"-widgets\"]]",
        "[1,[\"widgets-\"]]",
        "[1,[\"widgets-*\"]]",
        "[1,[\"*\"]]",
        "[1,[\" widgets\"]]",
        "[1,[\"widgets\\n\"]]",
        "[1,[\"widgets\\u0000\"]]",
        "[1,[\"w\u{456}dgets\"]]",
        "[1,[\"widgets,gadgets\"]]",
        "[1,[\"@acme/widgets\"]]",
        "[1,[\"widgets\",\"Gadgets\"]]",
        "[1,[\"widgets\",1]]",
    ] {
        let shown = if text.starts_with("[0") { EXPIRATION } else { PROJECTS };
        let error = parse(text).expect_err(text);
        assert_eq!(error, CaveatError::Elements(shown), "{text}");
        assert!(error.to_string().contains(shown));
    }
}

#[test]
fn a_list_has_at_most_64_names() {
    let list = |count: u32| {
        let names: Vec<String> = (0..count).map(|i| format!("\"w{i:03}\"")).collect();
        format!("[1,[{}]]", names.join(","))
    };
    assert!(parse(&list(64)).is_ok());
    assert_eq!(parse(&list(65)), Err(CaveatError::TooManyArguments(PROJECTS)));
    // More than JSON is read of at all.
    assert_eq!(parse(&list(2000)), Err(CaveatError::NotTagged));
    let nested = format!("[1,{}{}]", "[".repeat(1000), "]".repeat(1000));
    assert_eq!(parse(&nested), Err(CaveatError::NotTagged));
    assert_eq!(parse("[1,[[[[[[\"widgets\"]]]]]]]"), Err(CaveatError::Elements(PROJECTS)));
}

#[test]
fn what_the_codec_has_no_word_for_is_not_written() {
    let pairs = |pairs: &[&str]| {
        Caveat::Allow(pairs.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect())
    };
    let other =
        |name: &str| Caveat::Allow([Permission::parse(Ecosystem::Generic, name).unwrap()].into_iter().collect());
    let texts = || BTreeSet::from(["1".to_owned()]);
    for caveat in [
        pairs(&["create:widgets"]),
        pairs(&["upload:widgets", "create:widgets"]),
        pairs(&["upload:widgets", "upload:widgets-*"]),
        pairs(&["yank:widgets"]),
        pairs(&["read:widgets"]),
        pairs(&[]),
        other("upload:@acme/widgets"),
        other("upload:Widgets"),
        Caveat::Registry(texts()),
        Caveat::TimeBefore(Timestamp::from_unix_seconds(0)),
        Caveat::Version(texts()),
        Caveat::Sha256(BTreeSet::from([[0; 32]])),
        Caveat::MaxSize(1),
        Caveat::Uses(1),
        Caveat::Ip(BTreeSet::from(["203.0.113.0/24".parse().unwrap()])),
    ] {
        assert_eq!(caveat.write(Codec::Pypi), None, "{caveat}");
    }
}

#[test]
fn neither_codec_reads_what_the_other_writes() {
    let texts = || BTreeSet::from(["1".to_owned()]);
    let allow = uploads(&["widgets"]);
    for caveat in [
        Caveat::Registry(texts()),
        Caveat::TimeBefore(Timestamp::from_unix_seconds(0)),
        allow.clone(),
        Caveat::Version(texts()),
        Caveat::Uses(1),
    ] {
        assert!(parse(&caveat.write(Codec::Text).unwrap()).is_err(), "{caveat}");
    }
    for caveat in [between(1, 0), allow] {
        let text = caveat.write(Codec::Pypi).unwrap();
        assert!(Caveat::read(Codec::Text, Ecosystem::Pypi, text.as_bytes()).is_err(), "{text}");
    }
    let window = between(1, 0);
    assert_eq!(window.write(Codec::Text), None);
    assert_eq!(
        Caveat::read(Codec::Text, Ecosystem::Pypi, window.to_string().as_bytes()),
        Err(CaveatError::Unknown("time-between".to_owned()))
    );
}

#[test]
fn a_token_ends_when_the_array_says() {
    let end = |codec, text: &str| Caveat::end(codec, text.as_bytes()).map(Timestamp::unix_seconds);
    assert_eq!(end(Codec::Pypi, "[0, 900, 0]"), Some(900));
    assert_eq!(end(Codec::Text, "time-before 1970-01-01T00:15:00Z"), Some(900));
    for text in ["[1,[\"widgets\"]]", "[0,900]", "time-before 1970-01-01T00:15:00Z", ""] {
        assert_eq!(end(Codec::Pypi, text), None, "{text}");
    }
    for text in ["[0,900,0]", "allow upload:widgets", "time-before 1970", ""] {
        assert_eq!(end(Codec::Text, text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn writing_and_reading_are_inverse(
        from in -62_167_219_200_i64..253_370_764_800,
        before in -62_167_219_200_i64..253_370_764_800,
        names in prop::collection::vec("[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", 1..8),
    ) {
        let names = names.iter().map(|name| PackageName::parse(Ecosystem::Pypi, name).unwrap());
        let names: BTreeSet<String> = names.map(|name| name.as_str().to_owned()).collect();
        let allow = uploads(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for caveat in [between(before, from), allow] {
            let text = caveat.write(Codec::Pypi).unwrap();
            prop_assert!(text.bytes().all(|c| (0x21..0x7f).contains(&c)));
            prop_assert_eq!(parse(&text), Ok(caveat));
        }
    }

    #[test]
    fn names_are_what_pypitoken_takes_for_one(name in "[A-Za-z0-9]([A-Za-z0-9._-]{0,30}[A-Za-z0-9])?") {
        // Its pattern: ^([a-z0-9]|[a-z0-9][a-z0-9-]*[a-z0-9])$
        let name = PackageName::parse(Ecosystem::Pypi, &name).unwrap();
        let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        prop_assert!(name.as_str().starts_with(word) && name.as_str().ends_with(word));
        prop_assert!(name.as_str().chars().all(|c| word(c) || c == '-'));
        prop_assert!(uploads(&[name.as_str()]).write(Codec::Pypi).is_some());
    }

    #[test]
    fn what_is_read_is_what_serde_reads(text in "\\[ ?[01-2](\\.0|e0)? ?, ?(\\[(\"[a-zA-Z.*-]{0,3}\"|,|1){0,4}\\]|-?[0-9]{1,20}(\\.0|e1)?)(, ?-?[0-9]{1,3})?\\]") {
        if let Ok(caveat) = parse(&text) {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let again: serde_json::Value = serde_json::from_str(&caveat.write(Codec::Pypi).unwrap()).unwrap();
            prop_assert_eq!(&value[0], &again[0]);
            if value[0] == 0 {
                prop_assert_eq!(value, again);
            } else {
                let set = |value: &serde_json::Value| -> BTreeSet<String> {
                    value[1].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
                };
                prop_assert_eq!(set(&value), set(&again));
            }
        }
    }

    #[test]
    fn no_bytes_make_reading_stop(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read(&bytes);
    }
}
