use proptest::prelude::*;

use super::*;

fn name(text: &str) -> PackageName {
    PackageName::parse(Ecosystem::Pypi, text).unwrap()
}

fn pattern(text: &str) -> Result<Pattern, NameError> {
    Pattern::parse(Ecosystem::Pypi, text)
}

#[test]
fn spellings_of_one_package_are_one_name() {
    for (ecosystem, canonical, spellings) in [
        (Ecosystem::Pypi, "acme-widgets", &["acme-widgets", "Acme_Widgets", "ACME.widgets", "acme-_.widgets"][..]),
        (Ecosystem::Cargo, "acme-widgets", &["acme-widgets", "acme_widgets", "Acme_Widgets"]),
        (Ecosystem::Cargo, "acme--widgets", &["acme-_widgets", "acme__widgets"]),
        (Ecosystem::NuGet, "acme.widgets_x", &["Acme.Widgets_X", "ACME.WIDGETS_X"]),
        (Ecosystem::Conda, "_acme-widgets", &["_acme-widgets", "_Acme-Widgets"]),
        (Ecosystem::OpenVsx, "acme.widgets-x", &["acme.widgets-x", "Acme.Widgets-X"]),
    ] {
        for spelling in spellings {
            let name = PackageName::parse(ecosystem, spelling).unwrap();
            assert_eq!(name.as_str(), canonical, "{ecosystem:?} {spelling}");
        }
    }
}

#[test]
fn what_an_ecosystem_tells_apart_is_two_packages() {
    for (ecosystem, one, other) in [
        (Ecosystem::Npm, "acme-core", "acme_core"),
        (Ecosystem::Npm, "@acme/core", "acme-core"),
        (Ecosystem::Cargo, "acme-core", "acme--core"),
        (Ecosystem::RubyGems, "acme-core", "acme_core"),
        (Ecosystem::RubyGems, "RedCloth", "redcloth"),
        (Ecosystem::NuGet, "acme.core", "acme-core"),
        (Ecosystem::Conda, "acme-core", "acme_core"),
        (Ecosystem::OpenVsx, "acme.core-x", "acme.core_x"),
        (Ecosystem::Generic, "Acme/core", "acme/core"),
    ] {
        let parse = |text| PackageName::parse(ecosystem, text).unwrap();
        assert_ne!(parse(one), parse(other), "{ecosystem:?}");
    }
}

#[test]
fn what_is_no_name_is_refused() {
    let long = "a".repeat(MAX_NAME + 1);
    let (long_crate, long_id) = ("a".repeat(65), "a".repeat(101));
    for ecosystem in Ecosystem::ALL {
        for text in ["", "a b", "a,b", "a:b", "a*", "*", "é", "\u{212a}", "a\n", "a%2fb", "a\\b", "..", "../a", &long]
        {
            assert!(PackageName::parse(ecosystem, text).is_err(), "{ecosystem:?} {text:?}");
        }
    }
    for (ecosystem, texts) in [
        (Ecosystem::Pypi, &["-a", "a-", "a/b", "@a/b"][..]),
        (
            Ecosystem::Npm,
            &[
                "Widgets", ".a", "_a", "@acme", "@acme/", "@/a", "@acme/.a", "@acme/_a", "@_acme/a", "@a/b/c", "a/b",
                "a@b", "@Acme/a", "a~b",
            ],
        ),
        (Ecosystem::Cargo, &["1a", "-a", "_a", "a.b", "a/b", &long_crate]),
        (Ecosystem::RubyGems, &["-a", ".a", "_a", "a.", "a/b"]),
        (Ecosystem::NuGet, &["a..b", "a.-b", ".a", "a.", "-a", "a/b", &long_id]),
        (Ecosystem::Conda, &["-a", ".a", "__a", "a--b", "a._b", "a/b", &long_crate]),
        (Ecosystem::OpenVsx, &["acme", "acme.", ".core", "a.b.c", "-.core", "a/b", "a-b"]),
        (Ecosystem::Generic, &["a//b", "a/../b", "/a", "a/", "@"]),
    ] {
        for text in texts {
            assert!(PackageName::parse(ecosystem, text).is_err(), "{ecosystem:?} {text:?}");
        }
    }
    for (ecosystem, text) in [
        (Ecosystem::Npm, "@acme/widgets"),
        (Ecosystem::Npm, "-"),
        (Ecosystem::Npm, "@acme/0"),
        (Ecosystem::Cargo, "a-"),
        (Ecosystem::NuGet, "_acme_"),
        (Ecosystem::OpenVsx, "acme.c++"),
        (Ecosystem::Generic, "@acme/widgets"),
    ] {
        assert!(PackageName::parse(ecosystem, text).is_ok(), "{ecosystem:?} {text}");
    }
}

#[test]
fn a_prefix_stops_at_its_separator() {
    let acme = pattern("Acme_*").unwrap();
    assert_eq!(acme.to_string(), "acme-*");
    assert!(acme.matches(&name("acme-core")));
    assert!(acme.matches(&name("acme.core")));
    assert!(!acme.matches(&name("acme")));
    assert!(!acme.matches(&name("acmeevil")));
    for text in ["*", "acme*", "a*b", "acme-**", "-*", "a-*-b"] {
        assert!(pattern(text).is_err(), "{text}");
    }
}

#[test]
fn a_pattern_reaches_what_an_owner_has_and_nothing_of_a_neighbours() {
    for (ecosystem, pattern, shown, inside, outside) in [
        (Ecosystem::Npm, "@acme/*", "@acme/*", "@acme/x", "@acme-evil/x"),
        (Ecosystem::Npm, "@acme/core-*", "@acme/core-*", "@acme/core-x", "@acme/corex"),
        (Ecosystem::Npm, "acme-*", "acme-*", "acme-x", "acme_x"),
        (Ecosystem::Cargo, "Acme_*", "acme-*", "acme-x", "acmeevil"),
        (Ecosystem::RubyGems, "Acme-*", "Acme-*", "Acme-x", "acme-x"),
        (Ecosystem::NuGet, "Acme.*", "acme.*", "ACME.X", "AcmeEvil.X"),
        (Ecosystem::Conda, "Acme-*", "acme-*", "acme-x", "acmeevil"),
        (Ecosystem::OpenVsx, "Acme.*", "acme.*", "acme.X", "acmeevil.x"),
        (Ecosystem::Generic, "acme/*", "acme/*", "acme/x/y", "acmeevil/x"),
    ] {
        let pattern = Pattern::parse(ecosystem, pattern).unwrap();
        let matches = |text| pattern.matches(&PackageName::parse(ecosystem, text).unwrap());
        assert_eq!(pattern.to_string(), shown);
        assert!(matches(inside) && !matches(outside), "{ecosystem:?} {shown}");
    }
    // None that leaves the scope or the namespace open.
    for (ecosystem, text) in [
        (Ecosystem::Npm, "@*"),
        (Ecosystem::Npm, "@acme-*"),
        (Ecosystem::Npm, "@acme*"),
        (Ecosystem::Npm, "acme/*"),
        (Ecosystem::OpenVsx, "acme-*"),
        (Ecosystem::OpenVsx, "*.core"),
        (Ecosystem::Cargo, "acme.*"),
        (Ecosystem::Cargo, "-*"),
    ] {
        assert!(Pattern::parse(ecosystem, text).is_err(), "{ecosystem:?} {text}");
    }
}

#[test]
fn a_name_made_of_claims_has_one_spelling() {
    for (ecosystem, text, expected) in [
        (Ecosystem::Pypi, "acme-core", Some("acme-core")),
        (Ecosystem::Pypi, "acme-Core", Some("acme-core")),
        (Ecosystem::Pypi, "acme-co.re", None),
        (Ecosystem::Pypi, "acme-co_re", None),
        (Ecosystem::Pypi, "acme--core", None),
        (Ecosystem::Cargo, "acme-Core", Some("acme-core")),
        (Ecosystem::Cargo, "acme_core", None),
        (Ecosystem::Npm, "@acme/co.re", Some("@acme/co.re")),
        (Ecosystem::Npm, "@acme/Core", None),
        (Ecosystem::RubyGems, "acme_core", Some("acme_core")),
        (Ecosystem::RubyGems, "Acme_core", None),
        (Ecosystem::NuGet, "Acme.Core", Some("acme.core")),
        (Ecosystem::OpenVsx, "Acme.Core", Some("acme.core")),
        (Ecosystem::Generic, "acme/core", Some("acme/core")),
        (Ecosystem::Generic, "acme/Core", None),
        // One literal: no pattern, no second package.
        (Ecosystem::Generic, "acme-*", None),
        (Ecosystem::Generic, "acme,other", None),
        (Ecosystem::Pypi, "", None),
    ] {
        let name = PackageName::parse_interpolated(ecosystem, text).ok();
        assert_eq!(name.as_ref().map(PackageName::as_str), expected, "{ecosystem:?} {text}");
    }
    assert_eq!(PackageName::parse_interpolated(Ecosystem::Pypi, "a_b"), Err(NameError::Spelling));
    assert_eq!(PackageName::parse_interpolated(Ecosystem::Pypi, "a b"), Err(NameError::Character));
}

#[test]
fn a_set_allows_what_a_pair_allows_and_reading_it() {
    let set: Permissions =
        ["upload:widgets", "create:acme-*"].iter().filter_map(|t| Permission::parse(Ecosystem::Pypi, t)).collect();
    let may = |action: &str, package: &str| set.allow(&Action::parse(action).unwrap(), &name(package));
    assert!(may("upload", "widgets"));
    assert!(!may("create", "widgets"));
    assert!(!may("upload", "acme-x"));
    assert!(may("create", "acme-x"));
    assert!(may("read", "widgets"));
    assert!(!may("read", "gadgets"));
    assert_eq!(set.to_string(), "create:acme-*,upload:widgets");
    assert!(!Permissions::default().allow(&Action::upload(), &name("widgets")));
}

/// Canonical names of an ecosystem.
const fn canonical(ecosystem: Ecosystem) -> &'static str {
    match ecosystem {
        Ecosystem::Pypi => "[a-z0-9]{1,3}(-[a-z0-9]{1,3}){0,3}",
        Ecosystem::Npm => "(@[a-z0-9]{1,3}/)?[a-z0-9]{1,3}([._-]{1,2}[a-z0-9]{1,3}){0,2}",
        Ecosystem::Cargo => "[a-z][a-z0-9]{0,2}(-{1,2}[a-z0-9]{1,3}){0,2}-?",
        Ecosystem::RubyGems => "[A-Za-z0-9]{1,3}([._-]{1,2}[A-Za-z0-9]{1,3}){0,2}",
        Ecosystem::NuGet => "[a-z0-9_]{1,3}([.-][a-z0-9_]{1,3}){0,2}",
        Ecosystem::Conda => "_?[a-z0-9]{1,3}([._-][a-z0-9]{1,3}){0,2}[._-]?",
        Ecosystem::OpenVsx => "[a-z0-9_+~$-]{2,4}\\.[a-z0-9_+~$-]{1,6}",
        Ecosystem::Generic => "@?[A-Za-z0-9]{1,3}([/._+~-][A-Za-z0-9]{1,3}){0,3}",
    }
}

fn ecosystems() -> impl Strategy<Value = Ecosystem> {
    proptest::sample::select(Ecosystem::ALL.to_vec())
}

fn names() -> impl Strategy<Value = (Ecosystem, String)> {
    ecosystems().prop_flat_map(|ecosystem| (Just(ecosystem), canonical(ecosystem)))
}

/// Another way to write the same name, or the beginning of one, as the coins fall.
fn spelled(ecosystem: Ecosystem, text: &str, coins: &[u8]) -> String {
    let coins = coins.iter().chain(&[0; 64]);
    let write = |(c, coin): (char, &u8)| match (ecosystem, c) {
        (Ecosystem::Npm | Ecosystem::RubyGems | Ecosystem::Generic, c) => c.to_string(),
        (Ecosystem::Pypi, '-') => ["-", "_", ".", "--", "._-"][usize::from(coin % 5)].to_owned(),
        (Ecosystem::Cargo, '-') => ["-", "_"][usize::from(coin % 2)].to_owned(),
        (_, c) if coin % 2 == 1 => c.to_ascii_uppercase().to_string(),
        (_, c) => c.to_string(),
    };
    text.chars().zip(coins).map(write).collect()
}

/// The patterns that a name begins like: one for each of its separators.
fn prefixes(text: &str) -> Vec<String> {
    text.match_indices(['-', '_', '.', '/']).map(|(at, _)| text.chars().take(at + 1).collect()).collect()
}

proptest! {
    #[test]
    fn a_canonical_name_is_canonical(ecosystem in ecosystems(), text in "[A-Za-z0-9._@/+$~-]{1,12}") {
        if let Ok(name) = PackageName::parse(ecosystem, &text) {
            prop_assert_eq!(PackageName::parse(ecosystem, name.as_str()), Ok(name));
        }
    }

    #[test]
    fn every_spelling_of_a_name_is_the_name((ecosystem, text) in names(), coins in prop::collection::vec(any::<u8>(), 24)) {
        let name = PackageName::parse(ecosystem, &text).unwrap();
        prop_assert_eq!(name.as_str(), &text);
        prop_assert_eq!(PackageName::parse(ecosystem, &spelled(ecosystem, &text, &coins)), Ok(name));
    }

    #[test]
    fn a_pattern_however_it_is_spelled_reaches_every_spelling_of_what_begins_like_it(
        (ecosystem, text) in names(),
        other in "[a-z0-9]{1,4}([._/-][a-z0-9]{1,4}){0,2}",
        coins in prop::collection::vec(any::<u8>(), 24),
    ) {
        let name = PackageName::parse(ecosystem, &spelled(ecosystem, &text, &coins)).unwrap();
        for prefix in prefixes(&text).into_iter().chain(prefixes(&other)) {
            let Ok(pattern) = Pattern::parse(ecosystem, &format!("{prefix}*")) else { continue };
            let Pattern::Prefix(canonical) = &pattern else { panic!("{pattern:?}") };
            let longer = text.len() > canonical.len() && text.starts_with(canonical.as_str());
            prop_assert_eq!(pattern.matches(&name), longer, "{} {}", pattern, name);
            let respelled = format!("{}*", spelled(ecosystem, canonical, &coins));
            prop_assert_eq!(Pattern::parse(ecosystem, &respelled), Ok(pattern), "{}", respelled);
        }
    }

    #[test]
    fn a_pattern_never_reaches_a_name_that_goes_on_without_its_separator(
        ecosystem in ecosystems(),
        stem in "[a-z@][a-z0-9/]{0,5}",
        separator in "[._/-]",
        tail in "[a-z0-9]{1,4}([._/-][a-z0-9]{1,3})?",
    ) {
        let pattern = Pattern::parse(ecosystem, &format!("{stem}{separator}*"));
        let name = PackageName::parse(ecosystem, &format!("{stem}{tail}"));
        if let (Ok(pattern), Ok(name)) = (pattern, name) {
            prop_assert!(!pattern.matches(&name), "{} {}", pattern, name);
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same((ecosystem, text) in names(), coins in prop::collection::vec(any::<u8>(), 24)) {
        let text = spelled(ecosystem, &text, &coins);
        let patterns = prefixes(&text).into_iter().map(|prefix| format!("{prefix}*")).chain([text]);
        for pattern in patterns.filter_map(|text| Pattern::parse(ecosystem, &text).ok()) {
            prop_assert_eq!(Pattern::parse(ecosystem, &pattern.to_string()), Ok(pattern.clone()));
            let pair = Permission { action: Action::upload(), pattern };
            let written = pair.to_string();
            // Nothing in it ends the pair, or the list of them.
            prop_assert!(!written.contains([',', ' ', '%']) && written.matches(':').count() == 1, "{}", written);
            prop_assert_eq!(Permission::parse(ecosystem, &written), Some(pair));
        }
    }

    #[test]
    fn two_texts_make_one_name_of_claims_only_if_they_differ_in_case(
        (ecosystem, text) in names(),
        one in prop::collection::vec(any::<u8>(), 24),
        other in prop::collection::vec(any::<u8>(), 24),
    ) {
        let (one, other) = (spelled(ecosystem, &text, &one), spelled(ecosystem, &text, &other));
        let made = |text| PackageName::parse_interpolated(ecosystem, text);
        if let (Ok(first), Ok(second)) = (made(&one), made(&other)) {
            prop_assert_eq!(first, second);
            prop_assert!(one.eq_ignore_ascii_case(&other), "{} {}", one, other);
        }
        // What is canonical and in lower case always makes its name.
        let lower = text.to_ascii_lowercase();
        if PackageName::parse(ecosystem, &lower).is_ok() {
            prop_assert_eq!(made(&lower).map(|name| name.to_string()), Ok(lower));
        }
    }
}
