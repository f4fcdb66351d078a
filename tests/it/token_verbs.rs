//! `trustmint token verify` and `token attenuate` as people and jobs call them: what they print, what they refuse, and that
//! no copy of a token comes out that allows more than the one that went in.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::config::keys::read_keyring;
use trustmint::json::Json;
use trustmint::macaroon;
use trustmint::macaroon::Codec;
use trustmint::macaroon::MAX_CAVEATS;
use trustmint::macaroon::Macaroon;
use trustmint::macaroon::PrepareRequest;
use trustmint::macaroon::Provenance;
use trustmint::macaroon::RegistryKeyId;
use trustmint::macaroon::TokenId;
use trustmint::package::Ecosystem;
use trustmint::package::Permission;
use trustmint::policy::watch;
use trustmint::secret::hex;
use trustmint::secret::random_bytes;
use trustmint::secret::sha256;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::serve::Home;

const FILE: &[u8] = b"what is to be uploaded";

/// A registry's secrets, and a token of it.
struct World {
    home: Home,
    token: String,
}

impl World {
    fn new() -> Self {
        let home = Home::with_key();
        let exported = home.run(&["keys", "export", "--registry", "acme-pypi", "--out", "secrets.json"], "");
        assert!(exported.status.success(), "{}", err(&exported));
        fs::write(home.path().join("file"), FILE).unwrap();
        let token = minted(&home, &["create:widgets-*", "upload:widgets", "upload:widgets-*"], None);
        Self { home, token }
    }

    fn attenuate(&self, options: &[&str]) -> Output {
        self.home.run(&[&["token", "attenuate"], options].concat(), &self.token)
    }

    /// The caveats that were appended.
    #[track_caller]
    fn appended(&self, options: &[&str]) -> Vec<String> {
        let output = self.attenuate(options);
        assert_eq!((output.status.code(), err(&output)), (Some(0), ""));
        let text = out(&output).strip_suffix('\n').unwrap();
        let caveats = |text: &str| -> Vec<String> {
            let token = Macaroon::decode_text(text.strip_prefix("pypi-").unwrap()).unwrap();
            token.caveats().map(|caveat| String::from_utf8(caveat.to_vec()).unwrap()).collect()
        };
        let (before, after) = (caveats(&self.token), caveats(text));
        assert_eq!(before, after[..before.len()], "nothing is taken away");
        after[before.len()..].to_vec()
    }

    fn verify(&self, token: &str, options: &[&str]) -> Output {
        self.home.run(&[&["token", "verify", "--secrets", "secrets.json"], options].concat(), token)
    }
}

/// A token as the service mints it now for the home's registry.
fn minted(home: &Home, pairs: &[&str], uses: Option<u32>) -> String {
    let policy = watch::load(&home.path().join("policy")).unwrap();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let claims = [("repository".to_owned(), Json::String("acme/widgets\u{202e}".to_owned()))];
    let provenance = Provenance {
        rules: vec!["widgets-release".to_owned()],
        policy_revision: "r1".to_owned(),
        issuer: "https://ci.acme.example".to_owned(),
        claims: claims.into(),
    };
    let request = PrepareRequest {
        registry: &registry.id,
        key: RegistryKeyId { key_id: &registry.key_id, codec: Codec::Text, epoch: registry.epoch },
        location: &registry.location(),
        prefix: &registry.token.prefix,
        permissions: &pairs.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect(),
        ttl: Duration::from_secs(900),
        versions: None,
        uses,
        max_size: None,
        provenance: provenance.borrowed(),
        id: TokenId::new(SystemClock.now(), random_bytes().unwrap()),
    };
    let keyring = read_keyring(&home.path().join("keys")).unwrap();
    macaroon::prepare(&keyring, request).unwrap().mint().token.expose().clone()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Holds that nothing came out, and why.
#[track_caller]
fn failed(output: &Output, code: i32, words: &str) {
    assert_eq!((output.status.code(), out(output)), (Some(code), ""), "{}", err(output));
    assert!(err(output).contains(words), "{words}: {}", err(output));
}

#[track_caller]
fn answer(output: &Output, allowed: bool) -> Value {
    assert_eq!(output.status.code(), Some(i32::from(!allowed)), "{}{}", out(output), err(output));
    let answer: Value = serde_json::from_str(out(output)).unwrap();
    assert_eq!((&answer["allowed"], &answer["offline"]), (&json!(allowed), &json!(true)), "{answer}");
    answer
}

#[test]
fn a_registry_is_told_offline_what_a_token_allows_and_what_that_leaves_out() {
    let world = World::new();
    let said = world.verify(&world.token, &["--package", "Widgets", "--exists", "yes"]);
    assert_eq!((said.status.code(), err(&said)), (Some(0), ""));
    let lines = out(&said);
    for words in ["allowed      yes, as far as can be said offline", "rules        widgets-release", "expires at   20"]
    {
        assert!(lines.contains(words), "{words}: {lines}");
    }
    assert!(lines.contains("claim        repository = \"acme/widgets\\u{202e}\""), "{lines}");
    assert_eq!(lines.matches("not known    ").count(), 4, "{lines}");
    assert!(lines.contains("revoked") && lines.contains("stopped") && lines.contains("withdrawn"), "{lines}");
    assert!(!lines.contains(&world.token[5..]), "{lines}");

    let said = world.verify(&world.token, &["--package", "widgets", "--exists", "yes", "--json"]);
    assert!(out(&said).contains("\"acme/widgets\\u202e\"") && !out(&said).contains('\u{202e}'), "{}", out(&said));
    let allowed = answer(&said, true);
    assert_eq!(allowed["publisher"]["rules"], json!(["widgets-release"]));
    assert_eq!(allowed["not_known"].as_array().unwrap().len(), 4);
    assert!(allowed["token"]["id"].as_str().unwrap().len() == 36);

    let said = world.verify(&world.token, &["--package", "gadgets", "--exists", "yes"]);
    assert_eq!(said.status.code(), Some(1));
    assert!(
        out(&said).starts_with("allowed      no\ncode         package-not-covered\nreason       the token is for "),
        "{}",
        out(&said)
    );
    let code = |token: &str, options: &[&str]| {
        let refused = answer(&world.verify(token, &[options, &["--json"]].concat()), false);
        refused["code"].as_str().unwrap().to_owned()
    };
    let (yes, no) = (["--package", "widgets", "--exists", "yes"], ["--package", "widgets", "--exists", "no"]);
    assert_eq!(code(&world.token, &no), "action-not-covered", "`create` is not `upload`");
    assert_eq!(code(&world.token, &["--package", "widgets", "--action", "yank"]), "action-not-covered");
    assert_eq!(code(&world.token, &[&yes[..], &["--registry", "other"]].concat()), "wrong-registry");
    assert_eq!(code("", &yes), "upload-token-malformed");
    assert_eq!(code(&world.token[..100], &yes), "upload-token-malformed");
    answer(&world.verify(&world.token, &["--package", "widgets", "--action", "read", "--json"]), true);
    answer(&world.verify(&world.token, &["--package", "widgets-new", "--exists", "no", "--json"]), true);

    let single = minted(&world.home, &["upload:widgets"], Some(1));
    let refused = answer(&world.verify(&single, &[&yes[..], &["--json"]].concat()), false);
    assert_eq!(refused["code"], "consume-required");
    assert!(refused["reasons"][0].as_str().unwrap().contains("only the service can count"), "{refused}");
}

#[test]
fn tokens_that_do_not_say_for_which_registry_they_are_are_judged_for_their_own_alone() {
    let home = Home::with_key();
    let policy = fs::read_to_string(home.path().join("policy/acme.yaml")).unwrap();
    let policy = policy.replace("    dialect: pypi\n", "    dialect: pypi\n    codec: pypi\n");
    home.write("policy/acme.yaml", &policy.replace("      create: [\"widgets-*\"]\n", ""));
    let exported = home.run(&["keys", "export", "--registry", "acme-pypi", "--out", "secrets.json"], "");
    assert!(exported.status.success(), "{}", err(&exported));
    let verify = ["token", "verify", "--secrets", "secrets.json", "--package", "widgets", "--exists", "yes"];
    let other = home.run(&[&verify[..], &["--registry", "other"]].concat(), "pypi-x");
    assert_eq!((other.status.code(), out(&other)), (Some(1), ""));
    assert!(err(&other).contains("--registry: these secrets are for tokens of `acme-pypi` alone"), "{}", err(&other));
    let own = home.run(&[&verify[..], &["--registry", "acme-pypi"]].concat(), "pypi-x");
    assert!(out(&own).contains("upload-token-malformed"), "{}", err(&own));
}

#[test]
fn what_a_token_was_narrowed_to_is_held_offline() {
    let world = World::new();
    let narrowed =
        world.attenuate(&["--package", "widgets", "--version", "1.0", "--file", "file", "--ip", "192.0.2.7"]);
    let narrowed = out(&narrowed).trim_end();
    let upload = |options: &[&str]| {
        let upload = ["--package", "widgets", "--exists", "yes", "--json"];
        world.verify(narrowed, &[&upload[..], options].concat())
    };
    let digest = hex(&sha256(FILE));
    let size = FILE.len().to_string();
    answer(&upload(&["--version", "1.0", "--file", "file", "--client-ip", "::ffff:192.0.2.7"]), true);
    answer(&upload(&["--version", "1.0", "--sha256", &digest, "--size", &size, "--client-ip", "192.0.2.7"]), true);
    let refused = answer(&upload(&["--version", "1.1", "--file", "secrets.json", "--client-ip", "192.0.2.8"]), false);
    assert_eq!(refused["reasons"].as_array().unwrap().len(), 4, "each reason is told: {refused}");
    let refused = answer(&upload(&[]), false);
    assert_eq!((&refused["code"], refused["reasons"].as_array().unwrap().len()), (&json!("fact-not-stated"), 4));
}

#[test]
fn verify_reads_only_a_registrys_own_secrets_that_nobody_else_can_read() {
    let world = World::new();
    let yes = ["--package", "widgets", "--exists", "yes"];
    let file = world.home.path().join("secrets.json");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    failed(&world.verify(&world.token, &yes), 1, "others can read or change it: its mode is 644");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let with =
        |secrets: &str| world.home.run(&[&["token", "verify", "--secrets", secrets], &yes[..]].concat(), &world.token);
    failed(&with("none.json"), 1, "none.json");
    failed(&with("keys"), 1, "is not a file");
    failed(&with("keys/k1"), 1, "it is not what `trustmint keys export` writes");
    let text = world.home.read("secrets.json");
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replacen(from, to, 1)).unwrap();
        world.verify(&world.token, &yes)
    };
    failed(&changed("\"text\"", "\"cbor\""), 1, "its codec is none that this version knows");
    assert!(out(&changed("\"text\"", "\"pypi\"")).contains("caveat-not-understood"));
    assert_eq!(changed("\"epoch\": ", "\"epoch\": 9").status.code(), Some(1));
    let refused = changed("\"kid\": \"k1\"", "\"kid\": \"k2\"");
    assert!(out(&refused).contains("upload-token-unknown"), "{}", out(&refused));
    fs::write(&file, &text).unwrap();
    failed(&world.verify(&world.token, &["--package", "widgets"]), 2, "--exists");
    failed(
        &world.verify(&world.token, &["--package", "widgets", "--exists", "yes", "--action", "yank"]),
        2,
        "cannot be used with",
    );
    failed(&world.verify(&world.token, &["--package", "widgets", "--action", "create"]), 1, "--exists");
    failed(&world.verify(&world.token, &["--package", "widgets", "--action", "Yank"]), 1, "--action");
    failed(&world.verify(&world.token, &["--package", "no name", "--exists", "yes"]), 1, "--package has a character");
    failed(&world.verify(&world.token, &[&yes[..], &["--sha256", "abc"]].concat()), 2, "64 hexadecimal digits");
    failed(
        &world.verify(&world.token, &[&yes[..], &["--file", "file", "--size", "1"]].concat()),
        2,
        "cannot be used with",
    );
    failed(&world.verify(&world.token, &[&yes[..], &["--file", "."]].concat()), 1, "is not a file");
}

#[test]
fn each_option_appends_what_it_says_in_its_one_spelling() {
    let world = World::new();
    let digest = hex(&sha256(FILE));
    assert_eq!(
        world.appended(&["--version", "1.1", "--version", "1.0", "--version", "1.0,%\u{e9}"]),
        ["version 1.0,1.0%2C%25%C3%A9,1.1"]
    );
    assert_eq!(world.appended(&["--sha256", &digest.to_uppercase()]), [format!("sha256 {digest}")]);
    assert_eq!(world.appended(&["--max-size", "0"]), ["max-size 0"]);
    assert_eq!(
        world.appended(&["--file", "file", "--file", "file"]),
        [format!("sha256 {digest}"), format!("max-size {}", FILE.len())]
    );
    assert_eq!(world.appended(&["--ip", "2001:DB8::/32", "--ip", "192.0.2.7"]), ["ip 192.0.2.7/32,2001:db8::/32"]);
    assert_eq!(world.appended(&["--time-before", "2999-01-01T00:00:00Z"]), ["time-before 2999-01-01T00:00:00Z"]);
    assert_eq!(world.appended(&["--package", "widgets"]), ["allow upload:widgets"]);
    assert_eq!(
        world.appended(&["--package", "widgets-x", "--package", "widgets"]),
        ["allow create:widgets-x,upload:widgets,upload:widgets-x"]
    );
    assert_eq!(world.appended(&["--package", "Widgets_X"]), ["allow create:widgets-x,upload:widgets-x"]);
    let named = world.appended(&["--package", "Widgets_X", "--ecosystem", "pypi"]);
    assert_eq!(named, ["allow create:widgets-x,upload:widgets-x"]);
    assert_eq!(
        world.appended(&["--allow", "upload:widgets-x-*", "--allow", "read:widgets"]),
        ["allow read:widgets,upload:widgets-x-*"]
    );
    let soon = world.appended(&["--expires-in", "60s"]);
    assert!(soon[0].starts_with("time-before 20") && soon.len() == 1, "{soon:?}");
    let all = ["--package", "widgets", "--version", "1.0", "--file", "file", "--expires-in", "5m", "--ip", "::1"];
    assert_eq!(world.appended(&all).len(), 6);
    // A file's token, and one with a line break after it.
    world.home.write("token", &format!("{}\n", world.token));
    let output = world.home.run(&["token", "attenuate", "--max-size", "1", "token"], "");
    assert_eq!(out(&output), out(&world.attenuate(&["--max-size", "1"])));
}

#[test]
fn what_would_make_a_token_worthless_is_refused_with_a_reason() {
    let world = World::new();
    let cases: &[(&[&str], i32, &str)] = &[
        (&[], 2, "required"),
        (
            &["--package", "gadgets"],
            1,
            "the token does not allow anything on `gadgets`, but create:widgets-*,upload:widgets,upload:widgets-*",
        ),
        (&["--package", "Widgets", "--ecosystem", "generic"], 1, "or name its --ecosystem"),
        (&["--package", "no name"], 1, "--package has a character"),
        (&["--allow", "upload:gadgets"], 1, "the token does not allow `upload:gadgets`"),
        (&["--allow", "yank:widgets"], 1, "the token does not allow `yank:widgets`"),
        (&["--allow", "upload:wid-*"], 1, "the token does not allow"),
        (&["--allow", "widgets"], 1, "--allow takes an action"),
        (&["--allow", "upload:*"], 1, "--allow takes an action"),
        (&["--allow", "upload:widgets", "--package", "widgets"], 2, "cannot be used with"),
        (&["--version", ""], 2, "a version is not empty"),
        (&["--version", "1.0\n"], 2, "control characters"),
        (&["--version", "1.0\u{1b}[2J"], 2, "control characters"),
        (&["--sha256", "abc"], 2, "64 hexadecimal digits"),
        (&["--max-size", "-1"], 2, "--max-size"),
        (&["--max-size", "1e3"], 2, "--max-size"),
        (&["--max-size", "18446744073709551616"], 2, "--max-size"),
        (&["--file", "none"], 1, "`none`"),
        (&["--file", "policy"], 1, "is not a file"),
        (&["--file", "/dev/zero"], 1, "is not a file"),
        (&["--file", "file", "--sha256", "ab"], 2, "64 hexadecimal digits"),
        (&["--file", "file", "--max-size", "1"], 2, "cannot be used with"),
        (&["--time-before", "2020-01-01T00:00:00Z"], 1, "is past"),
        (&["--time-before", "tomorrow"], 2, "write a moment in UTC"),
        (&["--expires-in", "1h"], 2, "write seconds or minutes"),
        (&["--expires-in", "0s"], 2, "write seconds or minutes"),
        (&["--expires-in", "5m", "--time-before", "2999-01-01T00:00:00Z"], 2, "cannot be used with"),
        (&["--ip", "192.0.2.7/24"], 2, "the network is `192.0.2.0/24`"),
        (&["--ip", "::ffff:192.0.2.7"], 2, "write `192.0.2.7`"),
        (&["--ecosystem", "pypi"], 2, "required"),
        (&["--ecosystem", "maven", "--package", "widgets"], 2, "it is one of pypi, npm"),
    ];
    for (options, code, words) in cases {
        let output = world.attenuate(options);
        failed(&output, *code, words);
        assert!(!err(&output).contains('\u{1b}'), "{options:?}");
    }
    let versions: Vec<String> = (0..65).map(|i| i.to_string()).collect();
    let options: Vec<&str> = versions.iter().flat_map(|version| ["--version", version]).collect();
    failed(
        &world.attenuate(&options),
        1,
        "no verifier would read the caveat `version`: it takes between 1 and 64 values",
    );
}

#[test]
fn a_token_that_is_none_is_not_narrowed_and_never_shown() {
    let world = World::new();
    let huge = "A".repeat(3_000_000);
    let bearer = format!("Bearer {}", world.token);
    let twice = format!("{0}\n{0}", world.token);
    let pypi = Macaroon::create(b"secret", "pypi.org", b"6f1c6a3e-5d0e-4c8b-9e0f-2f6d1f3b8a10", &[b"[0,2,1]"]).unwrap();
    let pypi = pypi.encode_text("pypi-").expose().clone();
    let garbage = "\u{1b}[2J\u{202e}\0garbage";
    for (token, words) in [
        ("", "error: "),
        (garbage, "error: "),
        (huge.as_str(), "longer than 8 KiB"),
        (bearer.as_str(), "give the token alone"),
        (twice.as_str(), "error: "),
        (&world.token[..world.token.len() - 1], "error: "),
        (pypi.as_str(), "not one of trustmint with caveats of the codec `text`"),
        ("eyJhbGciOiJSUzI1NiJ9.e30.c2ln", "error: "),
    ] {
        let output = world.home.run(&["token", "attenuate", "--max-size", "1"], token);
        failed(&output, 1, words);
        assert!(err(&output).len() < 300 && !err(&output).contains(['\u{1b}', '\u{202e}', '\0']), "{}", err(&output));
        assert!(!err(&output).contains(&world.token[30..60]), "{}", err(&output));
    }
    // Where others could read it, it is not repeated; nor is one that was cut off.
    for argument in [world.token.as_str(), &world.token[..300], &format!("./{}", world.token)] {
        for verb in [
            &["inspect"][..],
            &["attenuate", "--max-size", "1"],
            &["verify", "--secrets", "secrets.json", "--package", "widgets", "--exists", "yes"],
        ] {
            let output = world.home.run(&[&["token"], verb, &[argument]].concat(), "");
            failed(&output, 1, "a token is given on standard input or in a file");
            assert!(!err(&output).contains(&world.token[30..60]), "{}", err(&output));
        }
    }
    let id_token = format!("eyJhbGciOiJSUzI1NiJ9.{}.{}", "e30", "c2ln".repeat(85));
    for argument in [id_token.as_str(), "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJodHRwczovL2EuZXhhbXBsZSJ9.c2ln"] {
        let probe = ["probe", "--url", "https://127.0.0.1:1", "--registry", "acme-pypi", "--token-file"];
        for verb in [&["policy", "explain", "--token"][..], &probe] {
            let output = world.home.run(&[verb, &[argument]].concat(), "");
            failed(&output, 1, "a token is given on standard input or in a file");
            assert!(!err(&output).contains(&argument[..40]), "{}", err(&output));
        }
    }
    fs::write(world.home.path().join("binary"), [0xff; 40]).unwrap();
    failed(&world.home.run(&["token", "attenuate", "--max-size", "1", "binary"], ""), 1, "UTF-8");
}

#[test]
fn narrowing_ends_where_clients_could_not_send_the_token() {
    let mut world = World::new();
    let mut count = 3;
    while count < MAX_CAVEATS {
        let output = world.attenuate(&["--max-size", "1"]);
        assert_eq!(output.status.code(), Some(0), "{count}: {}", err(&output));
        out(&output).trim_end().clone_into(&mut world.token);
        count += 1;
    }
    failed(&world.attenuate(&["--max-size", "1"]), 1, "the token has more than 32 caveats");
    let world = World::new();
    let digests: Vec<String> = (0..40).map(|i: u8| hex(&sha256(&[i]))).collect();
    let options: Vec<&str> = digests.iter().flat_map(|digest| ["--sha256", digest.as_str()]).collect();
    failed(&world.attenuate(&options), 1, "characters, and clients can send 3072; narrow it by less");
    let output = world.attenuate(&options[..40]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn a_file_larger_than_memory_should_hold_is_read_piece_by_piece() {
    let world = World::new();
    // Sparse: it takes no room on the disk.
    let size = 300 * 1024 * 1024;
    fs::File::create(world.home.path().join("large")).unwrap().set_len(size).unwrap();
    let appended = world.appended(&["--file", "large"]);
    assert_eq!(appended[1], format!("max-size {size}"));
}

#[test]
fn both_verbs_help_and_say_that_they_are_offline() {
    let world = World::new();
    for (verb, words) in [("verify", "nobody can count offline"), ("attenuate", "nothing is verified")] {
        let help = world.home.run(&["token", verb, "--help"], "");
        assert_eq!(help.status.code(), Some(0));
        let text: String = out(&help).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(words) && text.contains("Usage: trustmint token"), "{text}");
    }
}

/// Every line of the page that calls one of the verbs uses options that it has.
#[test]
fn the_page_about_offline_verification_calls_the_verbs_as_they_are() {
    let world = World::new();
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/offline.md")).unwrap();
    let mut called = 0;
    for line in page.replace("\\\n", " ").lines() {
        for verb in [["token", "verify"], ["token", "attenuate"], ["token", "inspect"], ["keys", "export"]] {
            let Some((_, arguments)) = line.split_once(&format!("trustmint {} {} ", verb[0], verb[1])) else {
                continue;
            };
            let help = world.home.run(&[&verb[..], &["--help"]].concat(), "");
            for option in arguments.split_whitespace().filter(|word| word.starts_with("--")) {
                let option = option.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
                assert!(out(&help).contains(&format!("{option} ")), "{verb:?} has no {option}: {line}");
                called += 1;
            }
        }
    }
    assert!(called >= 10, "{called}");
}
