//! pypitoken, the library that knows `PyPI`'s caveats: it reads what this service mints in that codec, says yes to what
//! this service says yes to, and narrows and mints what this service accepts.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use serde_json::json;
use trustmint::json::Json;
use trustmint::macaroon::Codec;
use trustmint::macaroon::Facts;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::macaroon::PrepareRequest;
use trustmint::macaroon::Provenance;
use trustmint::macaroon::RegistryKeyId;
use trustmint::macaroon::TokenId;
use trustmint::macaroon::Unverified;
use trustmint::macaroon::prepare;
use trustmint::macaroon::registry_secret;
use trustmint::macaroon::verify;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::package::Permission;
use trustmint::secret::hex;
use trustmint::time::Timestamp;

use crate::support::python;

const NOW: i64 = 1_795_392_000;
const KEY: RegistryKeyId<'_> = RegistryKeyId { key_id: "python", codec: Codec::Pypi, epoch: 1 };
const TEXT_KEY: RegistryKeyId<'_> = RegistryKeyId { codec: Codec::Text, ..KEY };
const PREFIX: &str = "pypi-";

fn ask(request: &Value) -> Value {
    python::ask("pypitoken_interop.py", request)
}

fn keyring() -> Keyring {
    let bytes = std::array::from_fn(|i| u8::try_from(i).unwrap());
    Keyring::new(vec![MasterKey::generate("m1", bytes, Timestamp::from_unix_seconds(NOW)).unwrap()]).unwrap()
}

fn secret_hex(key: RegistryKeyId<'_>) -> String {
    hex(registry_secret(keyring().get("m1").unwrap(), key).expose())
}

fn minted_under(key: RegistryKeyId<'_>, names: &[&str], ttl: u64) -> String {
    let pair = |name: &&str| Permission::parse(Ecosystem::Pypi, &format!("upload:{name}")).unwrap();
    let claims = BTreeMap::from([("repository".to_owned(), Json::String("acme/widgets\u{20ac}".to_owned()))]);
    let provenance = Provenance {
        rules: vec!["widgets-release".to_owned()],
        policy_revision: "5f1d2a".to_owned(),
        issuer: "https://token.actions.githubusercontent.com".to_owned(),
        claims,
    };
    let request = PrepareRequest {
        registry: "python",
        key,
        location: "pypi.acme.example",
        prefix: PREFIX,
        permissions: &names.iter().map(pair).collect(),
        ttl: Duration::from_secs(ttl),
        versions: None,
        uses: None,
        max_size: None,
        provenance: provenance.borrowed(),
        id: TokenId::new(Timestamp::from_unix_seconds(NOW), [7; 10]),
    };
    prepare(&keyring(), request).unwrap().mint().token.expose().clone()
}

fn minted(names: &[&str]) -> String {
    minted_under(KEY, names, 900)
}

/// Whether this service lets the token upload to the project, so long after it was issued.
fn allowed_under(key: RegistryKeyId<'_>, token: &str, project: &str, seconds: i64) -> bool {
    let now = Timestamp::from_unix_seconds(NOW + seconds);
    let package = PackageName::parse(Ecosystem::Pypi, project).unwrap();
    let facts = Facts {
        registry: "python",
        now,
        action: &Action::upload(),
        package: &package,
        version: None,
        sha256: None,
        size: None,
        client_ip: None,
    };
    verify(token, PREFIX, &keyring(), key, now).is_ok_and(|authentic| authentic.clear(&facts, Ecosystem::Pypi).is_ok())
}

fn allowed(token: &str, project: &str, seconds: i64) -> bool {
    allowed_under(KEY, token, project, seconds)
}

fn check(token: &str, secret: &str, project: &str, seconds: i64) -> Value {
    json!({"token": token, "secret_hex": secret, "project": project, "now": NOW + seconds})
}

/// What pypitoken says to each of several checks.
fn accepted(answer: &Value) -> Vec<bool> {
    answer["check"].as_array().unwrap().iter().map(Value::is_null).collect()
}

#[test]
fn pypitoken_reads_what_is_minted() {
    let token = minted(&["widgets", "acme-core"]);
    let answer = ask(&json!({"load": [token]}));
    let read = &answer["load"][0];
    let identifier = Unverified::parse(&token).unwrap().identifier().unwrap();
    assert_eq!((&read["prefix"], &read["domain"]), (&json!("pypi"), &json!("pypi.acme.example")));
    assert_eq!(read["identifier"], identifier.to_string());
    assert_eq!(read["restrictions"], json!([[0, NOW + 900, NOW - 60], [1, ["acme-core", "widgets"]]]));
    assert_eq!(read["again"], token, "written back byte for byte");
}

#[test]
fn pypitoken_says_what_this_service_says_of_what_is_minted() {
    let (token, secret, other) = (minted(&["widgets", "acme-core"]), secret_hex(KEY), secret_hex(TEXT_KEY));
    let text_token = minted_under(TEXT_KEY, &["widgets"], 900);
    let cases = [
        (&token, &secret, "widgets", 0, true),
        (&token, &secret, "acme-core", 0, true),
        (&token, &secret, "gadgets", 0, false),
        (&token, &secret, "widgets-core", 0, false),
        (&token, &secret, "widgets", -60, true),
        (&token, &secret, "widgets", -61, false),
        (&token, &secret, "widgets", 899, true),
        (&token, &secret, "widgets", 900, false),
        (&token, &other, "widgets", 0, false),
        // The other codec's token says nothing to it, under its own secret either.
        (&text_token, &secret, "widgets", 0, false),
        (&text_token, &other, "widgets", 0, false),
    ];
    let checks: Vec<Value> = cases.iter().map(|(token, secret, name, at, _)| check(token, secret, name, *at)).collect();
    let theirs = accepted(&ask(&json!({ "check": checks })));
    for ((token, key, name, at, expected), theirs) in cases.into_iter().zip(theirs) {
        let ours = allowed_under(if *key == secret { KEY } else { TEXT_KEY }, token, name, at);
        assert_eq!(theirs, expected, "pypitoken: {name} {at}");
        let own_codec = *token == text_token && *key == other;
        assert_eq!(ours, expected || own_codec, "this service: {name} {at}");
    }
}

const NAMES: [&str; 5] = ["widgets", "widgets-core", "acme-core", "a", "z9"];

#[derive(Debug, Clone)]
enum Restriction {
    Names(Vec<&'static str>),
    Between(i64, i64),
}

impl Restriction {
    /// What pypitoken's `restrict` is given.
    fn parameters(&self) -> Value {
        match self {
            Self::Names(names) => json!({ "project_names": names }),
            Self::Between(from, until) => json!({"not_before": NOW + from, "not_after": NOW + until}),
        }
    }
}

/// The token's projects and life, how it is narrowed, and what is asked how long after it was issued.
type Case = (BTreeSet<&'static str>, u64, Vec<Restriction>, &'static str, i64);

fn cases() -> impl Strategy<Value = Case> {
    let name = || prop::sample::select(NAMES.to_vec());
    let restriction = prop_oneof![
        4 => prop::collection::vec(name(), 4..9).prop_map(Restriction::Names),
        1 => prop::sample::select(vec!["Widgets", "acme_core", "acme.core", "-a", ""])
            .prop_map(|odd| Restriction::Names(vec!["widgets", odd])),
        1 => Just(Restriction::Names(Vec::new())),
        6 => (-200..100_i64, 300..2000_i64).prop_map(|(from, until)| Restriction::Between(from, until)),
        1 => (0..1000_i64, 0..1000_i64).prop_map(|(from, until)| Restriction::Between(from, until)),
    ];
    (
        prop::collection::btree_set(name(), 3..5),
        900..=3600_u64,
        prop::collection::vec(restriction, 0..4),
        name(),
        prop_oneof![4 => -70..500_i64, 1 => 500..3700_i64],
    )
}

#[test]
fn what_pypitoken_narrows_is_verified_as_it_verifies_it() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> = (0..250).map(|_| cases().new_tree(&mut runner).unwrap().current()).collect();
    let restrict = |(names, ttl, restrictions, ..): &Case| {
        let token = minted_under(KEY, &names.iter().copied().collect::<Vec<_>>(), *ttl);
        json!({"token": token, "by": restrictions.iter().map(Restriction::parameters).collect::<Vec<_>>()})
    };
    let narrowed = ask(&json!({"restrict": cases.iter().map(restrict).collect::<Vec<_>>()}));
    let tokens: Vec<&str> = narrowed["restrict"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let secret = secret_hex(KEY);
    let each = || tokens.iter().zip(&cases);
    let checks: Vec<Value> = each().map(|(token, (.., project, at))| check(token, &secret, project, *at)).collect();
    let theirs = accepted(&ask(&json!({ "check": checks })));
    for ((token, case), theirs) in each().zip(&theirs) {
        let (.., project, at) = case;
        assert_eq!(allowed(token, project, *at), *theirs, "{case:?}");
    }
    let yes = theirs.iter().filter(|yes| **yes).count();
    assert!((50..=200).contains(&yes), "of {} cases {yes} are accepted: too much of one kind", theirs.len());
}

#[test]
fn whatever_pypitoken_appends_never_widens() {
    let mut runner = TestRunner::deterministic();
    let cases: Vec<Case> = (0..100).map(|_| cases().new_tree(&mut runner).unwrap().current()).collect();
    // Each case as it was minted, and after each of its restrictions.
    let steps = |(names, ttl, restrictions, ..): &Case| -> Vec<Value> {
        let token = minted_under(KEY, &names.iter().copied().collect::<Vec<_>>(), *ttl);
        let by: Vec<Value> = restrictions.iter().map(Restriction::parameters).collect();
        (0..=by.len()).map(|count| json!({"token": token, "by": by[..count]})).collect()
    };
    let narrowed = ask(&json!({"restrict": cases.iter().flat_map(steps).collect::<Vec<_>>()}));
    let mut tokens = narrowed["restrict"].as_array().unwrap().iter().map(|token| token.as_str().unwrap());
    let mut taken = 0;
    for case in &cases {
        let (.., restrictions, project, at) = case;
        let tokens = tokens.by_ref().take(restrictions.len() + 1);
        let allowed: Vec<bool> = tokens.map(|token| allowed(token, project, *at)).collect();
        assert!(allowed.is_sorted_by(|before, after| before >= after), "widened, {allowed:?}: {case:?}");
        taken += usize::from(allowed[0] && !allowed[restrictions.len()]);
    }
    assert_eq!(tokens.next(), None);
    assert!(taken > 10, "{taken} narrowed away are too few to tell");
}

#[test]
fn what_pypitoken_mints_with_the_registrys_secret_is_accepted() {
    let token = minted(&["widgets"]);
    let identifier = Unverified::parse(&token).unwrap().identifier().unwrap().to_string();
    let names = Restriction::Names(vec!["widgets"]).parameters();
    let time = Restriction::Between(-60, 900).parameters();
    let create = |key, by: &[&Value]| {
        let domain = "pypi.acme.example";
        json!({"secret_hex": secret_hex(key), "domain": domain, "identifier": identifier, "by": by})
    };
    let answer = ask(&json!({"create": [
        create(KEY, &[&time, &names]),
        create(KEY, &[&names]),
        create(KEY, &[&time]),
        create(KEY, &[]),
        create(TEXT_KEY, &[&time, &names]),
    ]}));
    let made: Vec<bool> =
        answer["create"].as_array().unwrap().iter().map(|t| allowed(t.as_str().unwrap(), "widgets", 0)).collect();
    assert_eq!(made, [true, false, false, false, false]);
}

/// What a holder may append by hand: whether pypitoken takes it, and whether this service does.
#[test]
fn nothing_that_pypitoken_refuses_is_accepted() {
    let (end, start) = (NOW + 900, NOW - 60);
    let many: Vec<String> = (0..64).map(|i| format!("w{i}")).chain(["widgets".to_owned()]).collect();
    let cases = [
        (format!("[0,{end},{start}]"), true, true),
        (format!("[0, {end}, {start}]"), true, true),
        (format!("\n [ 0 ,\t{end},\r{start} ] "), true, true),
        ("[1,[\"widgets\"]]".to_owned(), true, true),
        ("[1, [\"gadgets\", \"widgets\"]]".to_owned(), true, true),
        ("[1,[\"widgets\",\"widgets\"]]".to_owned(), true, true),
        ("[1,[\"\\u0077idgets\"]]".to_owned(), true, true),
        (format!("[0,{end},-{end}]"), true, true),
        // Numbers that Python takes for integers and others do not, and more than 64 bits hold.
        (format!("[0,{end}.0,{start}]"), true, false),
        (format!("[0,{end},{start}.0]"), true, false),
        (format!("[0.0,{end},{start}]"), true, false),
        ("[0,1e10,0]".to_owned(), true, false),
        (format!("[-0,{end},{start}]"), true, false),
        (format!("[0,{end},-0]"), true, false),
        (format!("[0,18446744073709551616,{start}]"), true, false),
        (format!("[0,{end}{},{start}]", "0".repeat(30)), true, false),
        // More names than this service reads.
        (json!([1, many]).to_string(), true, false),
        // What PyPI minted before it had tags.
        (format!("{{\"nbf\": {start}, \"exp\": {end}}}"), true, false),
        ("{\"version\": 1, \"permissions\": \"user\"}".to_owned(), true, false),
        ("{\"version\": 1, \"permissions\": {\"projects\": [\"widgets\"]}}".to_owned(), true, false),
        // Neither.
        (format!("[0,{end}]"), false, false),
        (format!("[0,{end},{start},null]"), false, false),
        (format!("[0,\"{end}\",{start}]"), false, false),
        (format!("[0,{end}.5,{start}]"), false, false),
        (format!("[false,{end},{start}]"), false, false),
        (format!("[0,{start},{end}]"), false, false),
        ("[1,[\"widgets\"],[]]".to_owned(), false, false),
        ("[1,[]]".to_owned(), false, false),
        ("[1,[\"widgets\",1]]".to_owned(), false, false),
        ("[1,[\"widgets\",\"Gadgets\"]]".to_owned(), false, false),
        ("[1,[\"widgets\\n\"]]".to_owned(), false, false),
        ("[1,[[\"widgets\"]]]".to_owned(), false, false),
        ("[1,\"widgets\"]".to_owned(), false, false),
        ("[1,[\"gadgets\"]]".to_owned(), false, false),
        ("[2,[\"00000000-0000-0000-0000-000000000000\"]]".to_owned(), false, false),
        ("[3,\"00000000-0000-0000-0000-000000000000\"]".to_owned(), false, false),
        ("[4,\"00000000-0000-0000-0000-000000000000\",null]".to_owned(), false, false),
        ("[5]".to_owned(), false, false),
        ("[]".to_owned(), false, false),
        (String::new(), false, false),
        ("[1,[\"widgets\"]".to_owned(), false, false),
        (format!("{}\"widgets\"{}", "[1,[".repeat(200), "]]".repeat(200)), false, false),
        ("allow upload:widgets".to_owned(), false, false),
        ("time-before 2999-01-01T00:00:00Z".to_owned(), false, false),
        ("registry python".to_owned(), false, false),
    ];
    let token = minted(&["widgets"]);
    let raw = |(caveat, ..): &(String, bool, bool)| json!({"token": token, "raw": [caveat]});
    let narrowed = ask(&json!({"restrict": cases.iter().map(raw).collect::<Vec<_>>()}));
    let tokens: Vec<&str> = narrowed["restrict"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let secret = secret_hex(KEY);
    let checks: Vec<Value> = tokens.iter().map(|token| check(token, &secret, "widgets", 0)).collect();
    let theirs = accepted(&ask(&json!({ "check": checks })));
    for ((token, (caveat, expected_theirs, expected_ours)), theirs) in tokens.iter().zip(&cases).zip(theirs) {
        assert_eq!(theirs, *expected_theirs, "pypitoken: {caveat}");
        assert_eq!(allowed(token, "widgets", 0), *expected_ours, "this service: {caveat}");
        assert!(theirs || !expected_ours, "{caveat}");
    }
}

/// Arrays near the two that are read: spaces, escapes, kinds of numbers, elements too few and too many.
fn near_misses() -> impl Strategy<Value = String> {
    let space = || "[ \t\n]{0,1}";
    let number = || {
        let moment = prop::sample::select(vec![NOW - 60, NOW, NOW + 1, NOW + 900, 0, -1]);
        let suffix =
            prop_oneof![12 => Just(""), 1 => Just(".0"), 1 => Just("e0"), 1 => Just("0000000000000"), 1 => Just(".5")];
        (moment, suffix).prop_map(|(moment, suffix)| format!("{moment}{suffix}"))
    };
    let name = || {
        let odd =
            vec!["\"Widgets\"", "\"wid_gets\"", "\"-\"", "\"\"", "1", "null", "[\"widgets\"]", "\"widgets\\u0000\""];
        prop_oneof![
            8 => Just("\"widgets\""),
            2 => Just("\"\\u0077idgets\""),
            2 => Just("\"gadgets\""),
            1 => prop::sample::select(odd),
        ]
    };
    let names = prop::collection::vec(name(), 0..4).prop_map(|names| format!("[{}]", names.join(",")));
    let tag = |tag: &'static str| prop_oneof![10 => Just(tag), 1 => prop::sample::select(vec!["0", "1", "2", "-0", "0.0", "true", "\"0\""])];
    let more = || prop_oneof![10 => Just(""), 1 => Just(",null"), 1 => Just(",0"), 1 => Just(",[]"), 1 => Just("]")];
    prop_oneof![
        (tag("0"), space(), number(), number(), more())
            .prop_map(|(tag, space, before, from, more)| format!("[{tag},{space}{before}{space},{from}{more}]{space}")),
        (tag("1"), space(), names, more())
            .prop_map(|(tag, space, names, more)| format!("{space}[{tag},{space}{names}{more}]")),
    ]
}

#[test]
fn of_random_arrays_too_none_is_accepted_that_pypitoken_refuses() {
    let mut runner = TestRunner::deterministic();
    let arrays: Vec<String> = (0..400).map(|_| near_misses().new_tree(&mut runner).unwrap().current()).collect();
    let token = minted(&["widgets"]);
    let raw = |caveat: &String| json!({"token": token, "raw": [caveat]});
    let narrowed = ask(&json!({"restrict": arrays.iter().map(raw).collect::<Vec<_>>()}));
    let tokens: Vec<&str> = narrowed["restrict"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
    let secret = secret_hex(KEY);
    let checks: Vec<Value> = tokens.iter().map(|token| check(token, &secret, "widgets", 0)).collect();
    let theirs = accepted(&ask(&json!({ "check": checks })));
    let (mut both, mut theirs_alone) = (0, 0);
    for ((token, caveat), theirs) in tokens.iter().zip(&arrays).zip(theirs) {
        match (allowed(token, "widgets", 0), theirs) {
            (true, true) => both += 1,
            (false, true) => theirs_alone += 1,
            (false, false) => {}
            (true, false) => panic!("accepted here alone: {caveat}"),
        }
    }
    assert!(both > 40, "{both}: too few are accepted to tell");
    assert!(theirs_alone < both, "{theirs_alone} of {both}: what holders write is refused here");
}
