//! What the number of rules costs, measured in one run: `taskset -c 0,1 cargo bench --bench rules`.
//!
//! Rounds are interleaved and the best of each kind is taken, because the machine's noise only ever adds. Memory is what
//! the process holds with the policy less what it holds without it. The longest request is that of exchanges, in
//! process, one after the other, while a registry's bundle of a million rules, of which a hundred have changed, is fetched
//! (from memory), read, put in force and kept in the store; the control run is the same without the refresh.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement must stop on failure")]
#![expect(unreachable_pub, reason = "set-up")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use async_trait::async_trait;
use trustmint::app::App;
use trustmint::app::Caller;
use trustmint::code::Code;
use trustmint::exchange::Request;
use trustmint::identity::claims::Claims;
use trustmint::identity::fetch::Answer;
use trustmint::identity::fetch::Fetch;
use trustmint::identity::fetch::FetchError;
use trustmint::identity::fetch::Fetched;
use trustmint::identity::fetch::Limits;
use trustmint::identity::issuer::Reach;
use trustmint::identity::token::UnverifiedToken;
use trustmint::policy::Policy;
use trustmint::policy::evaluate::Decision;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::secret::Presented;
use trustmint::time::Clock;
use trustmint::time::Timestamp;
use url::Url;

#[path = "support.rs"]
mod support;

use support::Issuer;
use support::Outside;
use support::StillClock;

const SIZES: [u64; 3] = [10, 10_000, 1_000_000];
const ROUNDS: u32 = 15;
const LOADS: u32 = 3;
const EVALUATIONS: u32 = 20_000;
const REFRESHES: u32 = 5;

fn main() {
    let issuer = Issuer::new();
    // What is allocated once and for all is not counted.
    drop(support::policy(&issuer, 10));
    let mut policies = Vec::new();
    println!("{:>9}  {:>8}  {:>12}", "rules", "load", "bytes a rule");
    for rules in SIZES {
        let mut took = Duration::MAX;
        for _ in 1..LOADS {
            let text = support::policy_text(rules, 0);
            let started = now();
            drop(black_box(support::load(&issuer, text)));
            took = took.min(started.elapsed());
        }
        let text = support::policy_text(rules, 0);
        let before = resident();
        let started = now();
        let policy = support::load(&issuer, text);
        took = took.min(started.elapsed());
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
    // A million rules at a time.
    drop(policies);
    refresh(&issuer);
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

/// The longest of many requests, with and without a bundle of a million rules coming in beside them.
fn refresh(issuer: &Issuer) {
    let rules = *SIZES.last().unwrap();
    let registry = Arc::new(RegistryServer::default());
    // As in the service, what goes on beside requests has a runtime of its own.
    let beside = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let clock = Arc::new(StepClock::default());
    let app = {
        let _entered = beside.enter();
        let policy = support::load(issuer, policy_text_of_a_bundle());
        let fetch = Arc::clone(&registry) as Arc<dyn Fetch>;
        Arc::new(support::app(policy, Outside { fetch, clock: Arc::clone(&clock) as Arc<dyn Clock>, store: None }))
    };
    runtime.block_on(app.sync()).unwrap();
    let poll = |changed: u64, serial: u64| {
        registry.serve(bundle_text(rules, changed, serial, StillClock.now().plus(Duration::from_secs(43_200))));
        clock.0.fetch_add(20, Ordering::SeqCst);
        let beside = &beside;
        move |app: &App| {
            for polled in app.poll_bundles() {
                beside.block_on(polled).unwrap();
            }
            let policy = app.policy();
            assert_eq!(policy.bundle("acme-pypi").unwrap().serial(), i64::try_from(serial).unwrap());
        }
    };
    poll(0, 1)(&app);
    let tokens: Vec<String> = (0..64).map(|n| issuer.token(support::NOW, n * 7919, rules)).collect();
    let run = Run { app: &app, runtime: &runtime, tokens: &tokens };
    println!("\n{:>16}  {:>9}  {:>9}", "longest request", "control", "refresh");
    let (mut best_control, mut best_refresh) = (Duration::MAX, Duration::MAX);
    for round in 1..=REFRESHES {
        let refreshing = poll(u64::from(round) * 100, u64::from(round) + 1);
        let control = longest(&run, Duration::from_secs(5), &AtomicBool::new(false));
        let stop = AtomicBool::new(false);
        let longest = thread::scope(|scope| {
            let refreshed = scope.spawn(|| {
                refreshing(&app);
                stop.store(true, Ordering::SeqCst);
            });
            let longest = longest(&run, Duration::from_secs(60), &stop);
            refreshed.join().unwrap();
            longest
        });
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

/// The text of a policy without rules, whose registry serves its own.
fn policy_text_of_a_bundle() -> String {
    let bundle =
        r#","bundle":{"url":"https://bundles.acme.example/","issuers":["github"],"max_bytes":"1GiB","poll":"10s"}"#;
    format!("{{{}}}", support::world_text(bundle))
}

/// A registry's bundle with the rules of [`support::policy_text`].
fn bundle_text(rules: u64, changed: u64, serial: u64, not_after: Timestamp) -> String {
    format!(
        r#"{{"registry":"acme-pypi","serial":{serial},"not_after":"{not_after}","rules":{}}}"#,
        support::rules_text(rules, changed)
    )
}

/// A registry that serves its bundle.
#[derive(Debug, Default)]
struct RegistryServer(Mutex<Vec<u8>>);

impl RegistryServer {
    fn serve(&self, bundle: String) {
        *self.0.lock().unwrap() = bundle.into_bytes();
    }
}

#[async_trait]
impl Fetch for RegistryServer {
    async fn get(&self, _: &Url, _: &Reach, _: Option<&str>, _: Limits) -> Result<Answer, FetchError> {
        let bytes = self.0.lock().unwrap().clone();
        Ok(Answer::Document(Fetched { bytes, max_age: None, etag: None }))
    }
}

/// Time that passes when it is told to.
#[derive(Debug, Default)]
struct StepClock(AtomicI64);

impl Clock for StepClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(StillClock.now().unix_seconds() + self.0.load(Ordering::SeqCst))
    }
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
        let exchange = Request {
            registry,
            subject_token: Presented::new(subject_token),
            requested: Requested::default(),
            single_use: false,
        };
        let outcome = run.runtime.block_on(run.app.exchange(&policy, exchange, &caller, run.app.now()));
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
    let token = UnverifiedToken::parse(&issuer.token(support::NOW, serial, rules)).unwrap();
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
