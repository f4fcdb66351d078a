//! The table of budgets, measured on the release binary under load: `cargo bench --bench load`, or with `-- --json`.
//!
//! The service and the reference points run on core 0, wrk on core 1, over loopback with connections that stay open. CPU
//! time is the service's alone, user and system, read from the scheduler's accounting of its threads. Rounds are
//! interleaved and the best of each kind is taken, because the machine's noise only ever adds. Latencies are those of
//! 16 connections that ask again as soon as they are answered, so they are mostly waiting for the one core.
//!
//! Needs `wrk` and `taskset`. `-- --rules 10000` takes another number than a million for the large policy; 0 leaves it out.
//! Redis at half of its peak has a run of its own, `cargo bench --bench redis`: wrk cannot ask by the clock.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a measurement must stop on failure, and figures are for people"
)]
#![expect(unreachable_pub, dead_code, reason = "set-up that is shared")]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use serde_json::json;
use trustmint::time::Clock;
use trustmint::time::SystemClock;

#[path = "../points.rs"]
mod points;
#[path = "../support.rs"]
mod support;

mod reference;
mod service;

use service::Load;
use service::Service;
use support::Issuer;

const ROUNDS: usize = 5;
/// ID tokens of one round, and seconds in which they are to be used up.
const TOKENS: u64 = 12_000;
const SECONDS: u32 = 2;
const CONNECTIONS: u32 = 16;
/// More than the service admits at once.
const FLOOD: u32 = 1_280;
const FEW: u64 = 10;

/// The least of each kind seen so far.
#[derive(Default)]
struct Best(Vec<(&'static str, f64)>);

impl Best {
    fn see(&mut self, name: &'static str, value: f64) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, best)) => *best = best.min(value),
            None => self.0.push((name, value)),
        }
    }

    fn load(&mut self, names: [&'static str; 4], load: &Load) {
        for (name, value) in names.into_iter().zip([load.cpu_us, load.p50_us, load.p99_us, load.p999_us]) {
            self.see(name, value);
        }
    }

    fn of(&self, name: &str) -> f64 {
        self.0.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
    }
}

/// A row of the table.
struct Row {
    what: &'static str,
    measured: f64,
    unit: &'static str,
    budget: f64,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("empty") => return reference::serve_empty(&arguments[1]),
        Some("raw") => return println!("{}", reference::raw_verification(&arguments[1])),
        _ => {}
    }
    let rules = arguments
        .iter()
        .position(|argument| argument == "--rules")
        .map_or(1_000_000, |at| arguments[at + 1].parse().unwrap_or_else(|_| panic!("--rules takes a number")));
    let json = arguments.iter().any(|argument| argument == "--json");
    service::require(&["wrk", "taskset"]);
    let folder = tempfile::tempdir().unwrap();
    let (best, rows) = measure(folder.path(), rules, !json);
    if json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| json!({"what": row.what, "measured": row.measured, "unit": row.unit, "budget": row.budget}))
            .collect();
        let figures: Value = best.0.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        println!("{}", json!({"rows": rows, "figures": figures}));
        return;
    }
    println!("\n{:64} {:>12} {:>10}", "figure", "best", "");
    for (name, value) in &best.0 {
        println!("{name:64} {value:12.1}");
    }
    println!("\n{:64} {:>12} {:>10}", "what", "measured", "budget");
    for Row { what, measured, unit, budget } in &rows {
        let missed = if measured <= budget { "" } else { "  missed" };
        println!("{what:64} {measured:10.2} {unit:3} {budget:8} {unit}{missed}");
    }
}

fn measure(folder: &Path, rules: u64, talk: bool) -> (Best, Vec<Row>) {
    let issuer = Issuer::new();
    let few = Service::start(folder, "few", &issuer, FEW);
    // The second start is a warm one.
    let ready_ms = Service::start(folder, "few", &issuer, FEW).ready_ms;
    let idle_mib = few.resident_mib();
    let many = (rules > 0).then(|| Service::start(folder, "many", &issuer, rules));
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

    let mut best = Best::default();
    let (mut serial, mut rate) = (0, 0.0_f64);
    let mut tokens = |rules: u64| {
        let now = SystemClock.now().unix_seconds();
        let line = |serial| json!({"token": issuer.token(now, serial, rules)}).to_string() + "\n";
        let text: String = (serial..serial + TOKENS).map(line).collect();
        serial += TOKENS;
        let file = folder.join("tokens");
        fs::write(&file, text).unwrap();
        file
    };
    for round in 1..=ROUNDS {
        best.see("raw RS256 verification, µs", reference::raw(&sample));
        let seen = empty.load(CONNECTIONS, SECONDS, "/", &sample_file, false, &[]);
        best.load(["empty actix JSON POST, µs", "  p50, µs", "  p99, µs", "  p99.9, µs"], &seen);
        let seen = few.load(CONNECTIONS, SECONDS, service::MINT, &tokens(FEW), true, &[]);
        rate = rate.max(seen.per_second);
        best.load(["exchange, µs", "  its p50, µs", "  its p99, µs", "  its p99.9, µs"], &seen);
        if let Some(many) = &many {
            let seen = many.load(CONNECTIONS, SECONDS, service::MINT, &tokens(rules), true, &[]);
            best.see("exchange with the large policy, µs", seen.cpu_us);
        }
        let seen = few.load(CONNECTIONS, SECONDS, "/v1/verify", &question_file, false, &[&key]);
        best.load(["POST /v1/verify, µs", " its p50, µs", " its p99, µs", " its p99.9, µs"], &seen);
        if talk {
            println!("round {round} of {ROUNDS}");
        }
    }
    let calm = few.load(CONNECTIONS, SECONDS, "/v1/verify", &question_file, false, &[&key]);
    let flood = few.load(FLOOD, SECONDS, "/v1/verify", &question_file, false, &[&key]);
    let (raw, hello) = (best.of("raw RS256 verification, µs"), best.of("empty actix JSON POST, µs"));
    let (exchange, verify) = (best.of("exchange, µs"), best.of("POST /v1/verify, µs"));
    let row = |what, measured, unit, budget| Row { what, measured, unit, budget };
    let mut rows = vec![
        row("CPU per exchange, in (raw RS256 + empty POST)", exchange / (raw + hello), "×", 1.6),
        row("CPU per POST /v1/verify, in empty POSTs", verify / hello, "×", 2.0),
        row("resident memory, idle", idle_mib, "MiB", 25.0),
        row("resident memory, under load", few.peak_mib(), "MiB", 60.0),
        row("ready after start, warm", ready_ms, "ms", 150.0),
        row("throughput lost when flooded", 1.0 - flood.per_second / calm.per_second, "", 0.2),
    ];
    if let Some(many) = &many {
        let per_rule = (many.resident_mib() - idle_mib) * 1_048_576.0 / rules as f64;
        rows.push(row(
            "CPU per exchange with the large policy, in that with 10 rules",
            best.of("exchange with the large policy, µs") / exchange,
            "×",
            1.1,
        ));
        rows.push(row("resident memory a rule", per_rule, "B", 400.0));
        rows.push(row("load of the large policy", many.ready_ms / 1000.0, "s", 10.0));
    }
    best.see("exchanges a second on one core", rate);
    (best, rows)
}

/// A command on that core.
fn pinned(core: u32, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}
