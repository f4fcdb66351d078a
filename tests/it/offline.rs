//! Verifying offline: the three verifiers of `examples/offline` and ours give one answer to every token and every fact,
//! the hostile ones first of all; and so do the libraries, as far as they go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libmacaroon::MacaroonKey;
use libmacaroon::Verifier;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::Value;
use serde_json::json;
use trustmint::json::Json;
use trustmint::macaroon::Codec;
use trustmint::macaroon::Facts;
use trustmint::macaroon::Held;
use trustmint::macaroon::Identifier;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::Macaroon;
use trustmint::macaroon::MasterKey;
use trustmint::macaroon::OfflineRefused;
use trustmint::macaroon::Provenance;
use trustmint::macaroon::RegistryKeyId;
use trustmint::macaroon::RegistrySecrets;
use trustmint::macaroon::TokenId;
use trustmint::macaroon::VerifyError;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::time::Timestamp;

use crate::support::mutation::KINDS;
use crate::support::mutation::change;
use crate::support::verifiers::ask_all;
use crate::support::verifiers::folder;
use crate::support::verifiers::narrow_in_go;
use crate::support::verifiers::narrow_in_python;

mod table;

use table::Row;
use table::table;

/// Not a whole second.
const NOW: Timestamp = Timestamp::from_unix_millis(1_795_392_000_500);
const KEY: RegistryKeyId<'_> = RegistryKeyId { key_id: "python", codec: Codec::Text, epoch: 2 };
const PREFIX: &str = "pypi-";
/// Where a registry has a host name that takes a two-byte length, so that the verifiers read one.
const LOCATION: &str = "a-registry-with-a-name.that-is-long-enough-to-need-two-bytes-for-its-length-since-it-is-over-127-characters.registry.acme.example";

fn keyring() -> Keyring {
    let master = |kid, first: u8| {
        let bytes = std::array::from_fn(|i| first.wrapping_add(u8::try_from(i).unwrap()));
        MasterKey::generate(kid, bytes, NOW).unwrap()
    };
    Keyring::new(vec![master("k1", 1), master("k2", 99)]).unwrap()
}

fn secrets_of(key: RegistryKeyId<'_>, registry: &str) -> RegistrySecrets {
    RegistrySecrets::derive(&keyring(), key, registry, LOCATION, PREFIX, Ecosystem::Pypi)
}

fn own() -> RegistrySecrets {
    secrets_of(KEY, "python")
}

fn secret(secrets: &RegistrySecrets) -> &[u8] {
    secrets.get("k1").unwrap().expose()
}

fn provenance() -> Provenance {
    let text = |text: &str| Json::String(text.to_owned());
    Provenance {
        rules: vec!["widgets-release".to_owned()],
        policy_revision: "5f1d2a".to_owned(),
        issuer: "https://token.actions.githubusercontent.com".to_owned(),
        claims: BTreeMap::from([
            ("repository".to_owned(), text("acme/widgets\u{20ac}")),
            ("run_id".to_owned(), text("42")),
        ]),
    }
}

fn identifier(kid: &str, epoch: u32, issued_at: Timestamp) -> String {
    let id = TokenId::new(issued_at, [7; 10]);
    Identifier { kid: kid.to_owned(), epoch, id, provenance: provenance() }.to_string()
}

fn earlier(millis: u64) -> Timestamp {
    NOW.minus(Duration::from_millis(millis))
}

/// The caveats of every token, as this service mints them.
const MINTED: [&str; 3] =
    ["registry python", "time-before 2026-11-23T00:15:00Z", "allow create:widgets,upload:widgets,upload:widgets-*"];

fn bytes<'a>(caveats: &[&'a str]) -> Vec<&'a [u8]> {
    caveats.iter().map(|caveat| caveat.as_bytes()).collect()
}

/// A token under any secret, with any identifier and caveats.
fn signed(secret: &[u8], identifier: &str, caveats: &[&[u8]]) -> Macaroon {
    Macaroon::create(secret, LOCATION, identifier.as_bytes(), caveats).unwrap()
}

fn text(token: &Macaroon) -> String {
    token.encode_text(PREFIX).expose().clone()
}

/// A token of ours with more caveats than it was minted with.
fn narrowed(caveats: &[&str]) -> String {
    let minted = signed(secret(&own()), &identifier("k1", 2, earlier(0)), &bytes(&MINTED));
    text(&caveats.iter().fold(minted, |token, caveat| token.attenuate(caveat.as_bytes()).unwrap()))
}

/// The same token with its binary changed, whatever that makes of its signature.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> String {
    let token = narrowed(&[]);
    let mut bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).unwrap()).unwrap();
    change(&mut bytes);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// What a registry knows of an upload that every token here allows unless it is narrowed.
fn upload() -> Value {
    json!({
        "package": "widgets", "action": "upload", "version": "1.0", "sha256": "ab".repeat(32), "size": 1000,
        "client_ip": "192.0.2.7",
    })
}

fn with(changes: Value) -> Value {
    let mut facts = upload();
    facts.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    facts
}

/// Whether our own verifier allows it.
fn ours(secrets: &RegistrySecrets, token: &str, facts: &Value) -> Result<Value, OfflineRefused> {
    let text = |name: &str| facts[name].as_str();
    let Ok(package) = PackageName::parse(Ecosystem::Pypi, text("package").unwrap()) else {
        return Err(OfflineRefused::Caveats(Vec::new()));
    };
    let digest = |text: &str| -> [u8; 32] {
        let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        std::array::from_fn(|i| digits(2 * i))
    };
    let facts = Facts {
        registry: &secrets.registry,
        now: NOW,
        action: &Action::parse(text("action").unwrap()).unwrap(),
        package: &package,
        version: text("version"),
        sha256: text("sha256").map(digest),
        size: facts["size"].as_u64(),
        client_ip: text("client_ip").map(|ip| ip.parse::<IpAddr>().unwrap()),
    };
    let authentic = secrets.decide(token, &facts)?;
    Ok(serde_json::to_value(&authentic.identifier().provenance).unwrap())
}

/// Holds that the verifiers say what ours says to each (what, token, facts), and gives how many were allowed.
fn all_agree(secrets: &RegistrySecrets, cases: &[(String, String, Value)]) -> usize {
    let questions: Vec<Value> = cases
        .iter()
        .map(|(_, token, facts)| {
            let mut question = facts.clone();
            question["token"] = json!(token);
            question
        })
        .collect();
    let ours: Vec<Result<Value, OfflineRefused>> =
        cases.iter().map(|(_, token, facts)| ours(secrets, token, facts)).collect();
    let mut wrong = Vec::new();
    for asked in ask_all(secrets.to_file().unwrap().expose(), NOW, &questions) {
        for ((ours, theirs), case) in ours.iter().zip(&asked.answers).zip(cases) {
            // What is allowed comes with where it comes from, and nothing else does.
            let same = match ours {
                Ok(publisher) => theirs["allowed"] == true && theirs["publisher"] == *publisher,
                Err(_) => theirs["allowed"] == false && theirs.get("publisher").is_none(),
            };
            if !same {
                wrong.push(format!("{}: {}: ours {ours:?}, theirs {theirs}; {}", asked.language, case.0, case.2));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
    ours.iter().filter(|answer| answer.is_ok()).count()
}

#[test]
fn four_verifiers_give_one_answer_to_every_row_of_the_table() {
    let rows = table();
    let own = own();
    let unexpected = |Row { what, token, facts, allowed }: &Row| {
        let answer = ours(&own, token, facts);
        (answer.is_ok() != *allowed).then(|| format!("{what}: {answer:?}"))
    };
    let unexpected: Vec<String> = rows.iter().filter_map(unexpected).collect();
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    let cases: Vec<_> = rows.into_iter().map(|row| (row.what, row.token, row.facts)).collect();
    let allowed = all_agree(&own, &cases);
    assert!(cases.len() > 300 && allowed > 25, "{} rows, of which {allowed} allowed", cases.len());
}

/// Files of an example's folder that nobody copies: the loop around the verifier, and lists of packages.
fn surrounds(file: &str) -> bool {
    file.starts_with("ask.") || ["go.mod", "go.sum", "requirements.txt", "README.md"].contains(&file)
}

#[test]
fn each_verifier_is_one_small_file_whose_lines_the_page_counts() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/offline.md")).unwrap();
    for (language, file, comment) in
        [("python", "verify.py", "#"), ("go", "verify.go", "//"), ("javascript", "verify.mjs", "//")]
    {
        let files = std::fs::read_dir(folder(language)).unwrap().map(|entry| entry.unwrap());
        let files = files.filter(|entry| entry.file_type().unwrap().is_file());
        let files: Vec<String> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        let copied: Vec<&String> = files.iter().filter(|file| !surrounds(file)).collect();
        assert_eq!(copied, [file], "{language}");

        let text = std::fs::read_to_string(folder(language).join(file)).unwrap();
        let blank_or_comment = |line: &str| line.is_empty() || line.starts_with(comment);
        let lines = text.lines().filter(|line| !blank_or_comment(line.trim())).count();
        // Where gofmt gives each import and each closing brace a line, it takes more.
        let most = if language == "go" { 94 } else { 59 };
        assert!(lines <= most, "{language} has {lines} lines of code");
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{language} has a longer line than fits");
        let row = page.lines().find(|line| line.contains(&format!("(../examples/offline/{language}/")));
        assert!(
            row.unwrap().contains(&format!("| {lines} |")),
            "{language} has {lines} lines, and the page says: {row:?}"
        );
    }
}

/// An argument of a caveat in its one spelling, or nearly.
fn caveat() -> impl Strategy<Value = String> {
    let version = prop::sample::subsequence(vec!["!", "%20", "0.9", "1.0", "1.1", "%C3%A9"], 1..4);
    let pairs = vec![
        "create:widgets",
        "upload:gadgets",
        "upload:widgets",
        "upload:widgets-*",
        "upload:widgets-a-*",
        "yank:widgets",
    ];
    let pairs = prop::sample::subsequence(pairs, 1..5);
    let networks = vec!["0.0.0.0/0", "192.0.2.0/24", "192.0.2.0/31", "::/0", "2001:db8::/32", "2001:db8::1/128"];
    let networks = prop::sample::subsequence(networks, 1..4);
    let digests = prop::sample::subsequence(vec!["a", "ab", "b", "f"], 1..3);
    prop_oneof![
        3 => version.prop_map(|versions| format!("version {}", versions.join(","))),
        4 => pairs.prop_map(|pairs| format!("allow {}", pairs.join(","))),
        2 => networks.prop_map(|networks| format!("ip {}", networks.join(","))),
        2 => digests.prop_map(|digests| digests.iter().map(|d| d.repeat(64)[..64].to_owned()).collect::<Vec<_>>()).prop_map(|digests| format!("sha256 {}", digests.join(","))),
        2 => (990_u32..1010).prop_map(|size| format!("max-size {size}")),
        2 => (0_u32..60).prop_map(|second| format!("time-before 2026-11-23T00:00:{second:02}Z")),
        1 => prop::sample::subsequence(vec!["npm", "python"], 1..3).prop_map(|ids| format!("registry {}", ids.join(","))),
        1 => (1_u32..3).prop_map(|uses| format!("uses {uses}")),
    ]
}

/// What a holder may append: mostly sense, and sometimes with a character changed, added or taken away.
fn appended() -> impl Strategy<Value = String> {
    let change = (
        any::<prop::sample::Index>(),
        0_u8..4,
        prop::sample::select(" ,%:/*-.0129AafgzZ\n\u{e9}".chars().collect::<Vec<_>>()),
    );
    (caveat(), prop::option::weighted(0.3, change))
        .prop_map(|(caveat, change)| {
            let Some((at, kind, character)) = change else { return caveat };
            let mut characters: Vec<char> = caveat.chars().collect();
            let at = at.index(characters.len());
            match kind {
                0 => characters[at] = character,
                1 => characters.insert(at, character),
                2 => drop(characters.remove(at)),
                _ => {
                    let middle = characters.len() / 2;
                    characters.swap(at, middle);
                }
            }
            characters.into_iter().collect::<String>()
        })
        .prop_filter("an empty caveat is no caveat", |caveat| !caveat.is_empty())
}

fn facts() -> impl Strategy<Value = Value> {
    let packages = vec![
        "widgets",
        "widgets",
        "widgets",
        "Widgets",
        "widgets-a",
        "widgets-a-b",
        "gadgets",
        "widgetsx",
        "widgets-",
        "",
    ];
    (
        prop::sample::select(packages),
        prop::sample::select(vec!["upload", "upload", "upload", "create", "yank", "read"]),
        prop::option::weighted(0.8, prop::sample::select(vec!["1.0", "1.1", "!", " ", "\u{e9}"])),
        prop::option::weighted(0.8, prop::sample::select(vec!["a", "b", "f"])),
        prop::option::weighted(0.8, 990_u32..1010),
        prop::option::weighted(0.8, prop::sample::select(vec!["192.0.2.1", "192.0.2.9", "203.0.113.1", "::ffff:192.0.2.1", "2001:db8::1", "::1"])),
    )
        .prop_map(|(package, action, version, digest, size, client)| {
            let sha256 = digest.map(|digest| digest.repeat(64));
            json!({"package": package, "action": action, "version": version, "sha256": sha256, "size": size, "client_ip": client})
        })
}

/// So many values of a strategy.
fn values<T: std::fmt::Debug>(count: usize, strategy: &impl Strategy<Value = T>) -> Vec<T> {
    let mut runner = TestRunner::default();
    (0..count).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect()
}

/// A token without the registry's prefix.
fn bare(token: &str) -> &str {
    token.strip_prefix(PREFIX).unwrap()
}

#[test]
fn narrowing_never_widens_and_the_four_agree_on_thousands_of_narrowed_tokens() {
    let own = own();
    let key = MacaroonKey::generate(secret(&own));
    let strategy = (prop::collection::vec(appended(), 0..4), facts());
    let (mut cases, mut narrowings, mut whole, mut taken) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for (caveats, facts) in values(2500, &strategy) {
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let allows = |token: &str| ours(&own, token, &facts).is_ok();
        let tokens: Vec<String> = (0..=caveats.len()).map(|count| narrowed(&caveats[..count])).collect();
        let allowed: Vec<bool> = tokens.iter().map(|token| allows(token)).collect();
        // At each step: what a token does not allow it never will, whatever is appended. The verifiers are asked about each
        // step too, so that what holds for ours holds for theirs.
        assert!(allowed.is_sorted_by(|before, after| before >= after), "{caveats:?} widens, {allowed:?}: {facts}");
        taken += usize::from(allowed[0] && !allowed[caveats.len()]);

        // libmacaroon appends the same bytes, and says of all caveats together what ours says of each by itself.
        let held = caveats.iter().filter(|caveat| allows(&narrowed(&[caveat])));
        let mut verifier = Verifier::default();
        for caveat in held.chain(MINTED.iter().filter(|_| allowed[0])) {
            verifier.satisfy_exact(caveat);
        }
        let mut theirs = libmacaroon::Macaroon::deserialize(bare(&tokens[0])).unwrap();
        for (step, (token, allowed)) in tokens.iter().zip(&allowed).enumerate() {
            if step > 0 {
                theirs.add_first_party_caveat(caveats[step - 1]).unwrap();
            }
            let text = theirs.serialize(libmacaroon::Format::V2).unwrap();
            assert_eq!(text.trim_end_matches('='), bare(token), "{caveats:?}");
            assert_eq!(verifier.verify(&theirs, &key, &[]).is_ok(), *allowed, "{caveats:?}: {facts}");
        }

        narrowings.push(json!({"token": bare(&tokens[0]), "caveats": caveats}));
        whole.push(json!(bare(tokens.last().unwrap())));
        assert_eq!(Held::parse(tokens.last().unwrap()).unwrap().to_text().unwrap().expose(), tokens.last().unwrap());
        cases.extend(tokens.into_iter().map(|token| (format!("{caveats:?}"), token, facts.clone())));
    }
    let request = json!({"narrow": narrowings});
    for answer in [narrow_in_python(&request), narrow_in_go(&request)] {
        assert!(answer["narrow"] == json!(whole), "a library narrows a token into other bytes");
    }
    let allowed = all_agree(&own, &cases);
    assert!(allowed > 200 && taken > 200, "{allowed} allowed and {taken} narrowed away are too few to tell");
}

/// Where a caveat can stand in a token's binary: after the identifier, and after each caveat.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut found) = (1, Vec::new());
    while bytes[at] != 6 {
        if bytes[at] == 0 {
            at += 1;
            found.push(at);
        } else {
            let (low, high) = (usize::from(bytes[at + 1]), usize::from(bytes[at + 2]));
            at += if low < 0x80 { 2 + low } else { 3 + low + high * 128 - 128 };
        }
    }
    // The last ends the caveats.
    found.pop();
    found
}

/// A caveat as it stands in a token's binary.
fn section(caveat: &str) -> Vec<u8> {
    let length = caveat.len();
    let (low, high) = (u8::try_from(length % 128).unwrap(), u8::try_from(length / 128).unwrap());
    let length = if high == 0 { vec![low] } else { vec![low | 0x80, high] };
    [&[2], &length[..], caveat.as_bytes(), &[0]].concat()
}

/// Tokens that were tampered with: a caveat put in between two others; a byte changed, taken out, put in; a stretch doubled;
/// the text touched.
#[test]
fn the_four_and_libmacaroon_agree_on_thousands_of_tampered_tokens() {
    let own = own();
    let changes = (0..=KINDS, any::<prop::sample::Index>(), any::<u8>());
    let strategy = (prop::collection::vec(caveat(), 0..3), prop::collection::vec(changes, 0..3));
    let mut cases = Vec::new();
    let mut anything = Verifier::default();
    anything.satisfy_general(|_| true);
    let key = MacaroonKey::generate(secret(&own));
    let insertion = prop::option::of((any::<prop::sample::Index>(), caveat()));
    let (insertions, mut only_inserted) = (values(4000, &insertion), 0);
    for ((caveats, changes), insertion) in values(4000, &strategy).into_iter().zip(insertions) {
        let caveats: Vec<&str> = caveats.iter().map(String::as_str).collect();
        let token = narrowed(&caveats);
        let mut bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX).unwrap()).unwrap();
        let forged = insertion.is_some() && changes.is_empty();
        if let Some((at, caveat)) = insertion {
            let at = *at.get(&boundaries(&bytes));
            bytes.splice(at..at, section(&caveat));
        }
        for (kind, at, value) in &changes {
            if bytes.len() < 110 {
                break;
            }
            let at = at.index(bytes.len());
            if *kind < KINDS {
                change(&mut bytes, *kind, at, *value);
            } else {
                // Within the location, which is not signed.
                bytes[4 + usize::from(*value) % 100] ^= 1;
            }
        }
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        let authentic = match own.verify(&text, NOW) {
            Ok(_) => true,
            Err(VerifyError::NotAuthentic) => false,
            Err(_) => {
                cases.push((format!("{changes:?}"), text, upload()));
                continue;
            }
        };
        assert!(!(forged && authentic), "{caveats:?} with another put in");
        only_inserted += usize::from(forged);
        let theirs = libmacaroon::Macaroon::deserialize_binary(&bytes).unwrap();
        // Another key's name in the identifier is no question to a library.
        let same_key = theirs.identifier().starts_with(b"tm1.k1.2.");
        let verified = anything.verify(&theirs, &key, &[]).is_ok();
        assert_eq!(verified && same_key, authentic, "{changes:?}");
        cases.push((format!("{changes:?}"), text, upload()));
    }
    let allowed = all_agree(&own, &cases);
    assert!(allowed > 200 && cases.len() - allowed > 2000, "{allowed} is too few to tell");
    assert!(only_inserted > 300, "{only_inserted} is too few to tell");
}

#[test]
fn a_registrys_secrets_verify_nothing_of_anothers() {
    let keys = [
        RegistryKeyId { key_id: "python", codec: Codec::Text, epoch: 2 },
        RegistryKeyId { key_id: "python", codec: Codec::Text, epoch: 3 },
        RegistryKeyId { key_id: "pytho", codec: Codec::Text, epoch: 2 },
        RegistryKeyId { key_id: "npm", codec: Codec::Text, epoch: 2 },
        RegistryKeyId { key_id: "python", codec: Codec::Pypi, epoch: 2 },
    ];
    let tokens = |key: RegistryKeyId<'_>| {
        let secrets = secrets_of(key, "python");
        // All that a registry could have got wrong in its favour: the names and epochs of the others.
        let of = |kid: &str, epoch| {
            text(&signed(secrets.get(kid).unwrap().expose(), &identifier(kid, epoch, NOW), &bytes(&MINTED)))
        };
        ["k1", "k2"].into_iter().flat_map(|kid| [2, 3].map(|epoch| of(kid, epoch))).collect::<Vec<_>>()
    };
    for verifier in keys {
        let secrets = secrets_of(verifier, "python");
        let mut cases = Vec::new();
        for signer in keys {
            for token in tokens(signer) {
                cases.push((format!("{signer:?} at {verifier:?}"), token, upload()));
            }
        }
        let authentic = cases.iter().filter(|(_, token, _)| secrets.verify(token, NOW).is_ok()).count();
        assert_eq!(authentic, 2, "its own, under each key and in its own epoch");
        // These caveats say nothing in PyPI's codec.
        assert_eq!(all_agree(&secrets, &cases), if verifier.codec == Codec::Text { 2 } else { 0 });
    }
}

#[test]
fn a_verifier_with_pythons_names_refuses_the_secrets_of_any_other_ecosystem_or_codec() {
    for (codec, ecosystem, allowed) in Codec::ALL
        .into_iter()
        .flat_map(|codec| Ecosystem::ALL.map(|ecosystem| (codec, ecosystem)))
        .map(|(codec, ecosystem)| (codec, ecosystem, codec == Codec::Text && ecosystem == Ecosystem::Pypi))
    {
        let key = RegistryKeyId { codec, ..KEY };
        let secrets = RegistrySecrets::derive(&keyring(), key, "python", LOCATION, PREFIX, ecosystem);
        let token = text(&signed(secret(&secrets), &identifier("k1", 2, NOW), &bytes(&MINTED)));
        let question = with(json!({"token": token}));
        for asked in ask_all(secrets.to_file().unwrap().expose(), NOW, &[question]) {
            let (language, answer) = (asked.language, &asked.answers[0]);
            assert_eq!(answer["allowed"], allowed, "{language}: {codec:?} {ecosystem:?}: {answer}");
            let said =
                answer["reason"].as_str().is_some_and(|reason| reason.contains("names of a Python registry only"));
            assert_eq!(said, !allowed, "{language}: {codec:?} {ecosystem:?}: {answer}");
        }
    }
}
