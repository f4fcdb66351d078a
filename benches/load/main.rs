//! The table of budgets, measured on the release binary under load: `cargo bench --bench load`, or with `-- --json`.
//!
//! The service and the reference points run on core 0, wrk and Redis on core 1, over loopback with connections that stay open.
//! CPU time is the service's alone, user and system, read from the scheduler's accounting of its threads. Rounds are
//! interleaved and the best of each kind is taken, because the machine's noise only ever adds. Latencies are those of
//! 16 connections that ask again as soon as they are answered, so they are mostly waiting for the one core; only those at half of
//! the peak with Redis are of requests sent by the clock, counted from the moment that each was due, as wrk cannot.
//!
//! Needs `wrk`, `taskset` and `redis-server`; the rows about overload are of `tests/stress/overload.py`. `-- --rules 10000` takes
//! another number than a million for the large policy; 0 leaves it out. `-- --sweep` measures what an exchange costs against
//! rules, connections, packages in a grant and the token's size; `-- --only-sweep` nothing else. A missed budget fails the run.
//! `benches/load/page.py` fills docs/capacity.md with all of it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a measurement must stop on failure, and figures are for people"
)]
#![expect(unreachable_pub, dead_code, reason = "set-up that is shared")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::ExitCode;
use std::thread;

use serde_json::json;
use trustmint::time::Clock;
use trustmint::time::SystemClock;

#[path = "../paced.rs"]
mod paced;
#[path = "../points.rs"]
mod points;
#[path = "../server.rs"]
mod server;
#[path = "../support.rs"]
mod support;

mod hostile;
mod overload;
mod reference;
mod service;
mod shared;
mod sweep;
mod table;

use service::Load;
use service::Service;
use support::Issuer;
use table::Report;

const ROUNDS: usize = 5;
/// ID tokens of one round, and seconds in which they are to be used up.
const TOKENS: u64 = 12_000;
const SECONDS: u32 = 2;
const CONNECTIONS: u32 = 16;
const FEW: u64 = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("empty") => reference::serve_empty(&arguments[1]),
        Some("raw") => println!("{}", reference::raw_verification(&arguments[1])),
        Some("ping") => shared::ping(&arguments[1]),
        Some("clock") => shared::by_the_clock(&arguments[1..]),
        _ => return report(&arguments),
    }
    ExitCode::SUCCESS
}

fn report(arguments: &[String]) -> ExitCode {
    let rules = arguments
        .iter()
        .position(|argument| argument == "--rules")
        .map_or(1_000_000, |at| arguments[at + 1].parse().unwrap_or_else(|_| panic!("--rules takes a number")));
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    service::require(&["wrk", "taskset", "redis-server"]);
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::new();
    let mut tokens = Tokens { issuer: &issuer, file: folder.path().join("tokens"), serial: 0 };
    let mut report = Report::default();
    if !has("--only-sweep") {
        measure(folder.path(), &issuer, &mut tokens, rules, &mut report);
        shared::measure(folder.path(), &issuer, &mut tokens, &mut report);
        hostile::measure(folder.path(), &issuer, &mut report);
        overload::measure(&mut report);
    }
    if has("--sweep") || has("--only-sweep") {
        sweep::measure(folder.path(), &issuer, &mut tokens, &mut report);
    }
    if has("--json") {
        println!("{}", report.json());
    } else {
        report.print();
    }
    if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// ID tokens that were never used, made now.
struct Tokens<'a> {
    issuer: &'a Issuer,
    file: PathBuf,
    serial: u64,
}

impl Tokens<'_> {
    /// A file with the bodies of a round's exchanges, a line each, of the projects of that many rules.
    fn file(&mut self, rules: u64) -> PathBuf {
        self.file_of(TOKENS, rules)
    }

    fn file_of(&mut self, count: u64, rules: u64) -> PathBuf {
        let (issuer, now) = (self.issuer, SystemClock.now().unix_seconds());
        self.file_by(count, &|serial| issuer.token(now, serial, rules))
    }

    fn file_by(&mut self, count: u64, token: &(impl Fn(u64) -> String + Sync)) -> PathBuf {
        let (first, end) = (self.serial, self.serial + count);
        let half = first + count / 2;
        let lines = |serials: std::ops::Range<u64>| -> String {
            serials.map(|serial| json!({"token": token(serial)}).to_string() + "\n").collect()
        };
        let text = thread::scope(|scope| {
            let other = scope.spawn(|| lines(half..end));
            lines(first..half) + &other.join().unwrap()
        });
        self.serial = end;
        fs::write(&self.file, text).unwrap();
        self.file.clone()
    }
}

/// The rows with the store in memory.
fn measure(folder: &Path, issuer: &Issuer, tokens: &mut Tokens<'_>, rules: u64, report: &mut Report) {
    let few = Service::start(folder, "few", issuer, FEW);
    // The second start is a warm one.
    let ready_ms = Service::start(folder, "few", issuer, FEW).ready_ms;
    let idle_mib = few.resident_mib();
    let many = (rules > 0).then(|| Service::start(folder, "many", issuer, rules));
    let empty = reference::start_empty();

    let sample = issuer.token(SystemClock.now().unix_seconds(), u64::MAX, FEW);
    let sample_file = folder.join("sample");
    fs::write(&sample_file, json!({"token": sample}).to_string()).unwrap();
    let upload_token = few.exchange(&sample);
    let package = format!("widgets-{}", u64::MAX % FEW);
    let question = json!({"token": upload_token, "package": package, "exists": true, "size": 1000}).to_string();
    let question_file = folder.join("question");
    fs::write(&question_file, question).unwrap();
    let key = format!("authorization: Bearer {}", support::API_KEY);

    for _ in 1..=ROUNDS {
        let raw = Some(reference::raw(&sample));
        report.see("raw RS256 verification", Load { cpu_us: raw, ..Load::default() });
        let seen = empty.load(CONNECTIONS, SECONDS, "/", &sample_file, false, &[]);
        report.see("empty actix JSON POST", seen);
        let seen = few.load(CONNECTIONS, SECONDS, service::MINT, &tokens.file(FEW), true, &[]);
        report.see("exchange", seen);
        if let Some(many) = &many {
            let seen = many.load(CONNECTIONS, SECONDS, service::MINT, &tokens.file(rules), true, &[]);
            report.see("exchange, large policy", seen);
        }
        let seen = few.load(CONNECTIONS, SECONDS, "/v1/verify", &question_file, false, &[&key]);
        report.see("POST /v1/verify", seen);
    }
    let cpu = |what: &str| report.of(what).cpu_us.unwrap();
    let (raw, hello) = (cpu("raw RS256 verification"), cpu("empty actix JSON POST"));
    let (exchange, verify) = (cpu("exchange"), cpu("POST /v1/verify"));
    let large = many.as_ref().map(|_| cpu("exchange, large policy"));
    report.row("CPU per exchange, in (raw RS256 + empty POST)", exchange / (raw + hello), "×", 1.6);
    report.row("CPU per POST /v1/verify, in empty POSTs", verify / hello, "×", 2.0);
    report.row("resident memory, idle", idle_mib, "MiB", 25.0);
    report.row("resident memory, under load", few.peak_mib(), "MiB", 60.0);
    report.row("ready after start, warm", ready_ms, "ms", 150.0);
    if let Some((many, large)) = many.as_ref().zip(large) {
        let per_rule = (many.resident_mib() - idle_mib) * 1_048_576.0 / rules as f64;
        report.row("CPU per exchange with the large policy, in that with 10 rules", large / exchange, "×", 1.1);
        report.row("resident memory a rule", per_rule, "B", 400.0);
        report.row("load of the large policy", many.ready_ms / 1000.0, "s", 10.0);
    }
}

/// A command on that core.
fn pinned(core: u32, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}
