//! What the number of rules costs, measured in one run: `taskset -c 0,1 cargo bench --bench rules`.
//!
//! Rounds are interleaved and the best of each kind is taken, because the machine's noise only ever adds. Memory is what
//! the process holds with the policy less what it holds without it. The longest request is that of exchanges, in
//! process, one after the other, while another thread reads a million rules anew, of which a hundred have changed, and
//! puts them in force; the control run is the same without the refresh.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement must stop on failure")]
#![expect(unreachable_pub, reason = "set-up")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use trustmint::app::App;
use trustmint::app::Caller;
use trustmint::code::Code;
use trustmint::exchange::Request;
use trustmint::identity::claims::Claims;
use trustmint::identity::token::UnverifiedToken;
use trustmint::policy::Policy;
use trustmint::policy::evaluate::Decision;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::time::Clock;

#[path = "support.rs"]
mod support;

use support::Issuer;
use support::StillClock;

const SIZES: [u64; 3] = [10, 10_000, 1_000_000];
const ROUNDS: u32 = 15;
const EVALUATIONS: u32 = 20_000;
const REFRESHES: u32 = 5;

fn main() {
    let issuer = Issuer::new();
    // What is allocated once and for all is not counted.
    drop(support::policy(&issuer, 10));
    let mut policies = Vec::new();
    println!("{:>9}  {:>8}  {:>12}", "rules", "load", "bytes a rule");
    for rules in SIZES {
        let text = support::policy_text(rules, 0);
        let before = resident();
        let started = now();
        let policy = support::load(&issuer, text);
        let took = started.elapsed();
        // What the reading took and gave back must not be counted.
        let held = resident().saturating_sub(before);
        let exact = policy.rule_bytes();
        println!(
            "{rules:>9}  {:>6.2} s  {:>6.0} packed, {:>6.0} resident",
            took.as_secs_f64(),
            per_rule(exact, rules),
            per_rule(usize::try_from(held).unwrap(), rules)
        );
        policies.push((rules, policy));
    }
    evaluation(&issuer, &policies);
    refresh(&issuer, policies.pop().unwrap().1);
}

/// The cost of one evaluation, at each size, best of interleaved rounds.
fn evaluation(issuer: &Issuer, policies: &[(u64, Policy)]) {
    let mut best = vec![Duration::MAX; policies.len()];
    let jobs: Vec<(&Policy, Claims)> =
        policies.iter().map(|(rules, policy)| (policy, claims(issuer, policy, rules / 2, *rules))).collect();
    for _ in 0..ROUNDS {
        for ((policy, claims), best) in jobs.iter().zip(&mut best) {
            let registry = policy.registries().by_id("acme-pypi").unwrap();
            let subject = Subject { issuer: policy.issuers().by_id("github").unwrap(), claims };
            let started = now();
            for _ in 0..EVALUATIONS {
                let said = evaluate(policy, registry, black_box(&subject), &Requested::default());
                assert!(matches!(said.decision, Decision::Allow(_)));
            }
            *best = (*best).min(started.elapsed() / EVALUATIONS);
        }
    }
    println!("\n{:>9}  {:>10}  {:>5}", "rules", "evaluation", "ratio");
    let base = best.first().unwrap().as_secs_f64();
    for ((rules, _), best) in policies.iter().zip(&best) {
        println!("{rules:>9}  {:>7.0} ns  {:>5.2}", best.as_secs_f64() * 1e9, best.as_secs_f64() / base);
    }
}

/// The longest of many requests, with and without a refresh of all rules beside them.
fn refresh(issuer: &Issuer, policy: Policy) {
    let rules = *SIZES.last().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = {
        let _entered = runtime.enter();
        Arc::new(support::app(policy))
    };
    runtime.block_on(app.sync()).unwrap();
    let tokens: Vec<String> = (0..64).map(|n| issuer.token(n * 7919, rules)).collect();
    let run = Run { app: &app, runtime: &runtime, tokens: &tokens };
    println!("\n{:>16}  {:>9}  {:>9}", "longest request", "control", "refresh");
    let (mut best_control, mut best_refresh) = (Duration::MAX, Duration::MAX);
    for round in 1..=REFRESHES {
        let stop = Arc::new(AtomicBool::new(false));
        let text = support::policy_text(rules, u64::from(round) * 100);
        let mut refreshed = None;
        let control = longest(&run, Duration::from_secs(5), &AtomicBool::new(false));
        let longest = thread::scope(|scope| {
            let refreshing = scope.spawn(|| {
                let policy = support::load(issuer, text);
                app.activate(policy);
                stop.store(true, Ordering::SeqCst);
            });
            let longest = longest(&run, Duration::from_secs(60), &stop);
            refreshed = refreshing.join().ok();
            longest
        });
        assert!(refreshed.is_some());
        println!(
            "{:>16}  {:>6.2} ms  {:>6.2} ms",
            format!("round {round}"),
            control.as_secs_f64() * 1e3,
            longest.as_secs_f64() * 1e3
        );
        best_control = best_control.min(control);
        best_refresh = best_refresh.min(longest);
    }
    println!(
        "{:>16}  {:>6.2} ms  {:>6.2} ms",
        "best",
        best_control.as_secs_f64() * 1e3,
        best_refresh.as_secs_f64() * 1e3
    );
}

/// The longest of exchanges in process, one after the other, until the time is up or `stop` is set. The ID tokens are used
/// again and again, so all but the first use of each end with `token-replayed`, after everything but the minting.
fn longest(run: &Run<'_>, most: Duration, stop: &AtomicBool) -> Duration {
    let caller = Caller { request_id: "bench".into(), client: None };
    let (started, mut longest, mut serial) = (now(), Duration::ZERO, 0);
    while started.elapsed() < most && !stop.load(Ordering::SeqCst) {
        let request = now();
        let policy = run.app.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        let subject_token = run.tokens.get(serial % run.tokens.len()).unwrap();
        let exchange = Request { registry, subject_token, requested: Requested::default(), single_use: false };
        let outcome = run.runtime.block_on(run.app.exchange(&policy, exchange, &caller, StillClock.now()));
        drop(policy);
        longest = longest.max(request.elapsed());
        assert!(outcome.err().is_none_or(|failure| failure.code() == Code::TokenReplayed), "the job was refused");
        serial += 1;
    }
    longest
}

/// What the requests are made with.
struct Run<'r> {
    app: &'r App,
    runtime: &'r tokio::runtime::Runtime,
    tokens: &'r [String],
}

fn claims(issuer: &Issuer, policy: &Policy, serial: u64, rules: u64) -> Claims {
    let token = UnverifiedToken::parse(&issuer.token(serial, rules)).unwrap();
    let raw = token.unproven_claims().clone();
    let derived = policy.issuers().by_id("github").unwrap().provider().derive(&raw);
    Claims::new(raw, derived)
}

#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn per_rule(bytes: usize, rules: u64) -> f64 {
    bytes as f64 / rules as f64
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures")]
fn now() -> Instant {
    Instant::now()
}

/// Resident memory in bytes.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}
