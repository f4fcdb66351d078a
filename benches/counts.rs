//! How many instructions each stage takes, held to `benches/counts.txt`: `cargo test --bench counts`, in a debug build, so
//! that it needs no dependencies of its own. Needs `valgrind`.
//!
//! A count does not depend on what else the machine does, so unlike a time it can fail a run. It says when a stage does
//! more than it did; what that costs is for `cargo bench --bench stages` to say. Valgrind's processor is much the same on
//! every x86-64 machine with AVX2, and a new compiler changes every count: `cargo test --bench counts -- --write` then
//! writes them anew, and the change of the file says by how much.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement must stop on failure, and figures are for people"
)]
#![expect(unreachable_pub, reason = "set-up that is shared")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::ExitCode;

use serde_json::json;
use tokio::runtime::Runtime;
use trustmint::app::Caller;
use trustmint::exchange;
use trustmint::identity::claims::Claims;
use trustmint::identity::token::UnverifiedToken;
use trustmint::json::Json;
use trustmint::macaroon;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::package::Permission;
use trustmint::package::Permissions;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::secret::Presented;
use trustmint::time::Clock;
use trustmint::verify::Question;
use trustmint::yielding::Yielding;

#[path = "samples.rs"]
mod samples;
#[path = "support.rs"]
mod support;

use support::Issuer;
use support::StillClock;

const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/counts.txt");
/// By how much a count may differ from the baseline's, in parts of a hundred: hash maps are seeded at random.
const TOLERANCE: u64 = 3;
const RULES: u64 = 10;
/// How often a stage runs while it is counted.
const REPEATS: u64 = 4;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("stages") => {
            stages();
            ExitCode::SUCCESS
        }
        Some("--write") => {
            let lines: Vec<_> = count().iter().map(|(name, count)| format!("{count:9} {name}")).collect();
            let lines = lines.join("\n");
            fs::write(BASELINE, format!("{lines}\n")).unwrap();
            println!("{lines}");
            ExitCode::SUCCESS
        }
        _ => compare(),
    }
}

fn compare() -> ExitCode {
    let text = fs::read_to_string(BASELINE).unwrap();
    let baseline = |name: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_suffix(name)?.trim().parse::<u64>().ok());
        line.unwrap_or_else(|| panic!("`{name}` is not in {BASELINE}"))
    };
    let mut held = true;
    println!("{:9} {:9}", "now", "baseline");
    for (name, now) in count() {
        let before = baseline(&name);
        let differs = now.abs_diff(before) * 100 > before * TOLERANCE;
        held &= !differs;
        println!("{now:9} {before:9} {name}{}", if differs { "  DIFFERS" } else { "" });
    }
    if held {
        return ExitCode::SUCCESS;
    }
    eprintln!(
        "a stage takes more or less than its baseline by over {TOLERANCE} %: mend it, or say why and run with `--write`"
    );
    ExitCode::FAILURE
}

/// Instructions of each stage, of one run of it.
fn count() -> Vec<(String, u64)> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    let output = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind", "--collect-atstart=no"])
        .args(["--toggle-collect=counts::measured", "--dump-after=counts::measured"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().unwrap())
        .arg("stages")
        .output();
    let output = output.unwrap_or_else(|error| panic!("valgrind cannot be run: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let total = |part: usize| total(&folder.path().join(format!("out.{part}")));
    names.lines().enumerate().map(|(index, name)| (name.to_owned(), total(index + 1) / REPEATS)).collect()
}

fn total(file: &Path) -> u64 {
    let text = fs::read_to_string(file).unwrap();
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    let total = total.and_then(|total| total.trim().parse().ok()).filter(|total| *total > 0);
    total.unwrap_or_else(|| panic!("nothing was counted: valgrind did not find `counts::measured`"))
}

/// Runs each stage, once to warm up and then counted, and prints its name.
fn stages() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let issuer = Issuer::new();
    identity_and_policy(&issuer);
    macaroons();
    whole(&issuer, &runtime);
}

fn stage(name: &str, mut run: impl FnMut(u64)) {
    run(0);
    measured(&mut run);
    println!("{name}");
}

/// What valgrind counts: the name says so to it.
#[inline(never)]
fn measured(run: &mut dyn FnMut(u64)) {
    for turn in 1..=REPEATS {
        run(turn);
    }
}

fn identity_and_policy(issuer: &Issuer) {
    let text = issuer.token(support::NOW, 1, RULES);
    stage("identity: parse an ID token", |_| {
        UnverifiedToken::parse(&text).unwrap();
    });
    let policy = support::policy(issuer, RULES);
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let github = policy.issuers().by_id("github").unwrap();
    let raw = UnverifiedToken::parse(&text).unwrap().unproven_claims().clone();
    stage("identity: derive claims", |_| {
        github.provider().derive(&raw);
    });
    let claims = Claims::new(raw.clone(), github.provider().derive(&raw));
    let subject = Subject { issuer: github, claims: &claims };
    stage("policy: evaluate with 10 rules", |_| {
        evaluate(&policy, registry, &subject, &Requested::default());
    });
}

fn macaroons() {
    let now = StillClock.now();
    let keyring = support::keyring(now);
    let permissions: Permissions = Permission::parse(Ecosystem::Pypi, "upload:widgets").into_iter().collect();
    let prepared = || macaroon::prepare(&keyring, samples::upload_token(&permissions, now)).unwrap();
    stage("macaroon: prepare and mint", |_| {
        prepared().mint();
    });
    let minted = prepared().mint();
    stage("macaroon: verify", |_| {
        macaroon::verify(minted.token.expose(), "pypi-", &keyring, samples::KEY, now).unwrap();
    });
}

fn whole(issuer: &Issuer, runtime: &Runtime) {
    let app = support::app(support::policy(issuer, RULES), support::Outside::default());
    runtime.block_on(app.sync()).unwrap();
    let policy = app.policy();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let caller = Caller { request_id: "0198f3a2-0000-7000-8000-000000000000".into(), client: None };
    let tokens: Vec<String> = (0..=REPEATS).map(|turn| issuer.token(support::NOW, turn * RULES, RULES)).collect();
    let mut minted = String::new();
    stage("exchange, with a signature's check", |turn| {
        let request = exchange::Request {
            registry,
            subject_token: Presented::new(tokens.get(usize::try_from(turn).unwrap()).unwrap()),
            requested: Requested::default(),
            single_use: false,
            yielding: Yielding::NOTHING,
        };
        let granted = runtime.block_on(app.exchange(&policy, request, &caller, StillClock.now())).unwrap();
        minted.clear();
        minted.push_str(granted.minted().token.expose());
    });
    let question = Question {
        token: Presented::new(&minted),
        action: Action::upload(),
        package: PackageName::parse(Ecosystem::Pypi, "widgets-0").unwrap(),
        version: Some("1.4.0"),
        sha256: Some([7; 32]),
        size: Some(1000),
        client_ip: None,
        consume: None,
        yielding: Yielding::NOTHING,
    };
    stage("verification", |_| {
        runtime.block_on(app.verify(&policy, registry, &question, &caller, StillClock.now())).result.unwrap();
    });
    let body = json!({"token": minted, "package": "widgets-0", "exists": true, "size": 1000}).to_string();
    stage("json: parse a question", |_| {
        Json::parse(body.as_bytes()).unwrap();
    });
}
