//! Mutation run: valid upload tokens and ID tokens, damaged at random, through the parsers and verifiers.
//!
//! `cargo bench --bench mutants -- --cases 5000000 --seed 7` mutates that many of each kind. It fails when a mutant
//! makes the code panic, when one is accepted, or when handling one allocates more than a small multiple of its size.
//! The seed is printed; the same seed gives the same mutants.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a run that cannot set itself up must stop"
)]

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use trustmint::identity::issuer::Issuer;
use trustmint::identity::issuer::IssuerUrl;
use trustmint::identity::jwks::Find;
use trustmint::identity::jwks::KeySet;
use trustmint::identity::provider;
use trustmint::identity::token::UnverifiedToken;
use trustmint::identity::verify::verify;
use trustmint::json::Json;
use trustmint::macaroon;
use trustmint::macaroon::Codec;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::Macaroon;
use trustmint::macaroon::MasterKey;
use trustmint::macaroon::PrepareRequest;
use trustmint::macaroon::Provenance;
use trustmint::macaroon::RegistryKeyId;
use trustmint::macaroon::TokenId;
use trustmint::package::Ecosystem;
use trustmint::package::Permission;
use trustmint::time::Timestamp;

/// Handling an input may allocate this many bytes for each of its own, in all …
const BYTES_PER_BYTE: u64 = 64;
/// … and this many besides: digests, maps and error messages.
const BYTES_BESIDES: u64 = 16 * 1024;
const PREFIX: &str = "pypi-";
const NOW: i64 = 1_790_000_000;

fn main() -> ExitCode {
    let cases = argument("--cases").unwrap_or(200_000);
    let seed = argument("--seed").unwrap_or_else(|| u64::from_be_bytes(trustmint::secret::random_bytes().unwrap()));
    println!("mutants: {cases} upload tokens and {cases} ID tokens, seed {seed}");
    let macaroons = macaroon_run(cases, seed);
    let id_tokens = id_token_run(cases, seed);
    if macaroons && id_tokens { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn argument(name: &str) -> Option<u64> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.next()?;
    Some(arguments.next()?.parse().expect("a number"))
}

/// `SplitMix64`: fast, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Damages bytes in one to three places: flips, overwrites, inserts, deletes, repeats, truncates, swaps in a word that
/// parsers care about.
fn damage(bytes: &mut Vec<u8>, words: &[&[u8]], random: &mut Random) {
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len());
        match random.below(8) {
            0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            2 if !bytes.is_empty() => bytes[at] = random.byte(),
            3 => bytes.insert(at, random.byte()),
            4 if !bytes.is_empty() => {
                bytes.remove(at);
            }
            5 => bytes.truncate(at),
            6 => {
                let end = (at + random.below(64)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, part);
            }
            _ => {
                let word = words[random.below(words.len())];
                let end = (at + random.below(word.len() + 1)).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
        }
    }
}

/// What came of the mutants of one kind.
struct Tally {
    kind: &'static str,
    cases: u64,
    unchanged: u64,
    accepted: u64,
    panics: u64,
    too_much: u64,
    worst: f64,
}

impl Tally {
    const fn new(kind: &'static str, cases: u64) -> Self {
        Self { kind, cases, unchanged: 0, accepted: 0, panics: 0, too_much: 0, worst: 0.0 }
    }

    /// Runs one mutant; `judge` says whether it was accepted.
    fn run(&mut self, input: &str, judge: impl FnOnce(&str) -> bool) {
        let mut verdict = Ok(false);
        let allocated =
            allocation_counter::measure(|| verdict = catch_unwind(AssertUnwindSafe(|| judge(input)))).bytes_total;
        match verdict {
            Ok(true) => {
                println!("accepted: {input}");
                self.accepted += 1;
            }
            Ok(false) => {}
            Err(_) => {
                println!("panic: {input}");
                self.panics += 1;
            }
        }
        let length = u64::try_from(input.len()).unwrap();
        if allocated > BYTES_BESIDES + BYTES_PER_BYTE * length {
            println!("{allocated} bytes for {length}: {input}");
            self.too_much += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let ratio = allocated as f64 / length.max(64) as f64;
        self.worst = self.worst.max(ratio);
    }

    fn report(&self) -> bool {
        let Self { kind, cases, unchanged, accepted, panics, too_much, worst } = self;
        println!(
            "{kind}: {cases} mutants ({unchanged} not different), {accepted} accepted, {panics} panics, {too_much} over \
             the memory bound; at most {worst:.1} bytes allocated for each byte"
        );
        *accepted == 0 && *panics == 0 && *too_much == 0
    }
}

fn macaroon_run(cases: u64, seed: u64) -> bool {
    let now = Timestamp::from_unix_seconds(NOW);
    let keyring = Keyring::new(vec![
        MasterKey::generate("k1", std::array::from_fn(|i| u8::try_from(i * 7 % 251).unwrap()), now).unwrap(),
    ])
    .unwrap();
    let key = RegistryKeyId { key_id: "acme-pypi", codec: Codec::Text, epoch: 1 };
    let permissions = ["upload:widgets", "create:widgets-*"]
        .iter()
        .map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap())
        .collect();
    let versions = vec!["1.0".to_owned()];
    let texts: Vec<String> = (0..16_u8)
        .map(|salt| {
            let provenance = Provenance {
                rules: vec!["widgets-release".into()],
                policy_revision: "0123456789abcdef".into(),
                issuer: "https://token.actions.githubusercontent.com".into(),
                claims: [("repository".to_owned(), Json::String("acme/widgets".into()))].into(),
            };
            let request = PrepareRequest {
                registry: "acme-pypi",
                key,
                location: "pypi.acme.example",
                prefix: PREFIX,
                permissions: &permissions,
                ttl: Duration::from_secs(900),
                versions: (salt % 2 == 0).then_some(versions.as_slice()),
                uses: (salt % 3 == 0).then_some(1),
                max_size: (salt % 5 == 0).then_some(1000),
                provenance: provenance.borrowed(),
                id: TokenId::new(now, [salt; 10]),
            };
            macaroon::prepare(&keyring, request).unwrap().mint().token.expose().clone()
        })
        .collect();
    for text in &texts {
        macaroon::verify(text, PREFIX, &keyring, key, now).expect("the originals are accepted");
    }
    let words: [&[u8]; 10] = [
        b"\x00",
        b"\x02\x00",
        b"\x04\x48",
        b"\x06\x20",
        b"\xff\xff\x7f",
        b"\x80\x00",
        b"\x02\x81\x00",
        b"{\"v\":2}",
        b"time-before 2999-01-01T00:00:00Z",
        b"0021location ",
    ];
    let mut random = Random(seed);
    let mut tally = Tally::new("upload tokens", cases);
    for _ in 0..cases {
        let original = &texts[random.below(texts.len())];
        let encoded = original.strip_prefix(PREFIX).unwrap();
        let mutant = if random.below(4) == 0 {
            let mut text = original.clone().into_bytes();
            damage(&mut text, &[b"AgE", b"=", b"-", b"_", b"+"], &mut random);
            String::from_utf8_lossy(&text).into_owned()
        } else {
            let mut bytes = URL_SAFE_NO_PAD.decode(encoded).unwrap();
            damage(&mut bytes, &words, &mut random);
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
        };
        if signed_content(&mutant)
            .is_some_and(|content| texts.iter().any(|t| signed_content(t) == Some(content.clone())))
        {
            tally.unchanged += 1;
            continue;
        }
        tally.run(&mutant, |text| macaroon::verify(text, PREFIX, &keyring, key, now).is_ok());
    }
    tally.report()
}

/// Everything of a macaroon but its location, which no macaroon's signature covers.
fn signed_content(text: &str) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let macaroon = Macaroon::decode_text(text.strip_prefix(PREFIX)?).ok()?;
    Some((macaroon.identifier().to_vec(), macaroon.caveats().map(<[u8]>::to_vec).collect()))
}

fn id_token_run(cases: u64, seed: u64) -> bool {
    let now = Timestamp::from_unix_seconds(NOW);
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let components = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
    let jwks = format!(
        r#"{{"keys":[{{"kty":"RSA","kid":"k1","alg":"RS256","use":"sig","n":"{}","e":"{}"}}]}}"#,
        URL_SAFE_NO_PAD.encode(&components.n),
        URL_SAFE_NO_PAD.encode(&components.e)
    );
    let (keys, _) = KeySet::parse(jwks.as_bytes()).unwrap();
    let url = IssuerUrl::parse("https://token.actions.githubusercontent.com").unwrap();
    let issuer = Arc::new(Issuer::new("github".into(), provider::by_name("github").unwrap(), url).unwrap());
    let audiences = ["acme".to_owned()];
    let originals: Vec<String> = (0..16).map(|serial| id_token(&pair, serial)).collect();
    let judge = |text: &str| {
        let Ok(token) = UnverifiedToken::parse(text) else { return false };
        if token.issuer() != issuer.url().as_str() {
            return false;
        }
        let Find::Key(key) = keys.find(token.kid()) else { return false };
        verify(token, &key, &issuer, &audiences, now).is_ok()
    };
    for text in &originals {
        assert!(judge(text), "the originals are accepted");
    }
    let words: [&[u8]; 12] = [
        b"\"none\"",
        b"\"HS256\"",
        b"\"aud\":\"acme\",",
        b"\"iss\":null,",
        b"\\u0000",
        b"[[[[[[[[[[[[[[[[[[[[",
        b"1e999",
        b"{\"",
        b"\",\"",
        b"\xff",
        b"\"crit\":[\"x\"],",
        b"18446744073709551616",
    ];
    let mut random = Random(seed ^ 0x5eed);
    let mut tally = Tally::new("ID tokens", cases);
    for _ in 0..cases {
        let original = &originals[random.below(originals.len())];
        let mut parts: Vec<Vec<u8>> = original.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let mutant = match random.below(5) {
            0 => {
                let mut text = original.clone().into_bytes();
                damage(&mut text, &[b".", b"=", b"eyJ", b"..", b"-"], &mut random);
                String::from_utf8_lossy(&text).into_owned()
            }
            1 => {
                let other = &originals[random.below(originals.len())];
                let signature = other.rsplit('.').next().unwrap();
                parts[2] = URL_SAFE_NO_PAD.decode(signature).unwrap();
                joined(&parts)
            }
            which => {
                damage(&mut parts[which - 2], &words, &mut random);
                joined(&parts)
            }
        };
        if originals.contains(&mutant) {
            tally.unchanged += 1;
            continue;
        }
        tally.run(&mutant, judge);
    }
    tally.report()
}

fn id_token(pair: &RsaKeyPair, serial: u64) -> String {
    let claims = format!(
        r#"{{"iss":"https://token.actions.githubusercontent.com","aud":"acme","iat":{NOW},"nbf":{NOW},"exp":{},"jti":"{serial}","sub":"repo:acme/widgets:environment:release","repository":"acme/widgets","repository_id":"701234567","repository_owner":"acme","repository_owner_id":"9123456","repository_visibility":"public","ref":"refs/tags/v1.4.0","ref_type":"tag","ref_protected":"true","sha":"8c138c138c138c138c138c138c138c138c138c13","workflow":"Release","workflow_ref":"acme/widgets/.github/workflows/release.yml@refs/tags/v1.4.0","job_workflow_ref":"acme/widgets/.github/workflows/release.yml@refs/tags/v1.4.0","event_name":"push","environment":"release","runner_environment":"github-hosted","actor":"mona","actor_id":"583231","run_id":"21561244697","run_number":"12","run_attempt":"1"}}"#,
        NOW + 300
    );
    let input = [br#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#.as_slice(), claims.as_bytes()]
        .map(|part| URL_SAFE_NO_PAD.encode(part))
        .join(".");
    let mut signature = vec![0; pair.public_modulus_len()];
    #[expect(clippy::disallowed_types, reason = "set-up")]
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA256, &random, input.as_bytes(), &mut signature).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn joined(parts: &[Vec<u8>]) -> String {
    parts.iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect::<Vec<_>>().join(".")
}
