//! What the number of rules costs, measured in one run: `taskset -c 0,1 cargo bench --bench rules`. Each budget is
//! printed with what was measured, and a missed one fails the run.
//!
//! Rounds are interleaved and the best of each kind is taken, because the machine's noise only ever adds. Memory is what
//! the process holds after the first load of a size less what it held before the policy's text was made.
//!
//! Evaluations are of one hot job, asked about again and again; of scattered ones, thousands of projects in turn, whose
//! rules no cache holds; and of the scattered ones in another environment, which are refused. A refusal names the nearest
//! rules among the first hundred, so that column grows to there and no further, and it has no budget.
//!
//! The longest request is that of exchanges, in process, one after the other, while a registry's bundle of a million
//! rules, of which a hundred have changed, is fetched (from memory), read, put in force and kept in the store; the control
//! run is the same without the refresh.
#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement must stop on failure")]
#![expect(unreachable_pub, reason = "set-up")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
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
use trustmint::json::Json;
use trustmint::policy::Policy;
use trustmint::policy::evaluate::Decision;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::secret::Presented;
use trustmint::time::Clock;
use trustmint::time::Timestamp;
use trustmint::yielding::Yielding;
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
/// Jobs that are asked about in turn.
const SCATTERED: u64 = 4_096;
/// Sizes at which JSON and YAML are compared.
const SPELLED: [u64; 2] = [10_000, 100_000];

/// Most that an evaluation may cost more at a million rules than at ten.
const FLAT: f64 = 1.1;
/// Most bytes of a rule.
const BYTES: f64 = 400.0;
/// Most seconds in which a million rules are read.
const LOAD: f64 = 10.0;
/// Most milliseconds that a refresh may add to the longest request.
const REFRESH: f64 = 5.0;

/// Whether every budget was kept.
struct Budgets {
    met: bool,
}

impl Budgets {
    fn hold(&mut self, what: &str, measured: f64, most: f64) {
        let is_met = measured <= most;
        println!("budget  {what:<42}  {measured:>7.2} of {most:>6.2}  {}", if is_met { "met" } else { "missed" });
        self.met &= is_met;
    }
}

fn main() -> ExitCode {
    let mut budgets = Budgets { met: true };
    let issuer = Issuer::new();
    // What is allocated once and for all is not counted.
    drop(support::policy(&issuer, 10));
    let policies = loads(&issuer, &mut budgets);
    evaluation(&policies, &mut budgets);
    // A million rules at a time.
    drop(policies);
    spellings(&issuer);
    refresh(&issuer, &mut budgets);
    if budgets.met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A policy of each size; how long it takes to read, and what it holds.
fn loads(issuer: &Issuer, budgets: &mut Budgets) -> Vec<(u64, Policy)> {
    println!("{:>9}  {:>8}  {:>12}", "rules", "load", "bytes a rule");
    let mut policies = Vec::new();
    let (mut took, mut packed, mut held) = (Duration::MAX, 0.0, 0.0);
    for rules in SIZES {
        let before = resident();
        let (first, policy) = timed(|| support::policy_text(rules, 0), |text| support::load(issuer, text));
        // Later loads find memory that earlier ones have left behind, and would seem to take none.
        held = per_rule(usize::try_from(resident().saturating_sub(before)).unwrap(), rules);
        packed = per_rule(policy.rule_bytes(), rules);
        took = (1..LOADS).fold(first, |took, _| {
            let (again, policy) = timed(|| support::policy_text(rules, 0), |text| support::load(issuer, text));
            drop(black_box(policy));
            took.min(again)
        });
        println!("{rules:>9}  {:>6.2} s  {packed:>6.0} packed, {held:>6.0} resident", took.as_secs_f64());
        policies.push((rules, policy));
    }
    // Those of the largest size.
    budgets.hold("seconds to read a million rules", took.as_secs_f64(), LOAD);
    budgets.hold("bytes of a rule, packed", packed, BYTES);
    budgets.hold("bytes of a rule, resident", held, BYTES);
    policies
}

/// What the same rules take to be read in JSON and in the YAML that people write.
fn spellings(issuer: &Issuer) {
    println!("\n{:>9}  {:>16}  {:>16}  {:>5}", "rules", "JSON, 1,000 in", "YAML, 1,000 in", "ratio");
    for rules in SPELLED {
        let best = |text: &dyn Fn() -> String| {
            let loads = (1..LOADS).map(|_| timed(text, |text| drop(support::load(issuer, text))).0);
            loads.min().unwrap().as_secs_f64() * 1e6 / as_f64(rules)
        };
        let (json, yaml) = (best(&|| support::policy_text(rules, 0)), best(&|| yaml_text(rules)));
        println!("{rules:>9}  {json:>13.2} ms  {yaml:>13.2} ms  {:>5.1}", yaml / json);
    }
}

/// The policy of [`support::policy_text`] with a line for each key of a rule.
fn yaml_text(rules: u64) -> String {
    let world = support::world_text("").replacen("\"issuers\":", "issuers: ", 1);
    let mut text = world.replacen(",\"registries\":", "\nregistries: ", 1) + "\nrules:\n";
    for rule in 0..rules {
        let id = 700_000_000 + rule;
        writeln!(
            text,
            "  widgets-{rule}:\n    registry: acme-pypi\n    issuer: github\n    when:\n      repository_owner_id: \"9123456\"\n      \
             repository_id: \"{id}\"\n      repository: acme/widgets-{rule}\n      workflow_file: release.yml\n      environment: \
             release\n      tag: {{glob: \"v*\"}}\n    allow:\n      upload: [widgets-{rule}]"
        )
        .unwrap();
    }
    text
}

/// How long the second step takes, and what comes of it.
fn timed<I, O>(prepare: impl FnOnce() -> I, work: impl FnOnce(I) -> O) -> (Duration, O) {
    let prepared = prepare();
    let started = now();
    let done = work(prepared);
    (started.elapsed(), done)
}

/// What is asked about at one size.
struct Jobs<'p> {
    policy: &'p Policy,
    hot: Vec<Claims>,
    scattered: Vec<Claims>,
    refused: Vec<Claims>,
}

impl<'p> Jobs<'p> {
    fn new(rules: u64, policy: &'p Policy) -> Self {
        let job = |serial: u64, environment: &str| {
            let mut job = support::claims(support::NOW, serial, serial % rules);
            job.as_object_mut().unwrap().insert("environment".to_owned(), environment.into());
            claims(policy, &job)
        };
        // A prime far from the size's factors: neighbours in time are none in memory.
        let scattered = |environment| (0..SCATTERED).map(|n| job(n * 7919, environment)).collect();
        Self {
            policy,
            hot: vec![job(rules / 2, "release")],
            scattered: scattered("release"),
            refused: scattered("staging"),
        }
    }

    /// The time of one evaluation of these jobs in turn.
    fn ask(&self, jobs: &[Claims], is_allowed: bool) -> Duration {
        let registry = self.policy.registries().by_id("acme-pypi").unwrap();
        let issuer = self.policy.issuers().by_id("github").unwrap();
        let requested = Requested::default();
        let started = now();
        for claims in jobs.iter().cycle().take(usize::try_from(EVALUATIONS).unwrap()) {
            let said = evaluate(self.policy, registry, black_box(&Subject { issuer, claims }), &requested);
            assert!(matches!(said.decision, Decision::Allow(_)) == is_allowed);
        }
        started.elapsed() / EVALUATIONS
    }
}

/// The cost of one evaluation, at each size, best of interleaved rounds.
fn evaluation(policies: &[(u64, Policy)], budgets: &mut Budgets) {
    let jobs: Vec<Jobs<'_>> = policies.iter().map(|(rules, policy)| Jobs::new(*rules, policy)).collect();
    let mut best = vec![[Duration::MAX; 3]; policies.len()];
    for _ in 0..ROUNDS {
        for (jobs, [hot, scattered, refused]) in jobs.iter().zip(&mut best) {
            *hot = (*hot).min(jobs.ask(&jobs.hot, true));
            *scattered = (*scattered).min(jobs.ask(&jobs.scattered, true));
            *refused = (*refused).min(jobs.ask(&jobs.refused, false));
        }
    }
    println!("\n{:>9}  {:>17}  {:>17}  {:>10}", "rules", "one hot job", "scattered jobs", "refused");
    let nanoseconds = |took: Duration| took.as_secs_f64() * 1e9;
    let ratio = |took: &[Duration; 3], column: usize| {
        let of = |row: &[Duration; 3]| nanoseconds(*row.get(column).unwrap());
        of(took) / of(best.first().unwrap())
    };
    for ((rules, _), took) in policies.iter().zip(&best) {
        let [hot, scattered, refused] = took.map(nanoseconds);
        let (flat, spread) = (ratio(took, 0), ratio(took, 1));
        println!("{rules:>9}  {hot:>7.0} ns ×{flat:>5.2}  {scattered:>7.0} ns ×{spread:>5.2}  {refused:>7.0} ns");
    }
    let largest = best.last().unwrap();
    budgets.hold("evaluation of one hot job, a million to ten", ratio(largest, 0), FLAT);
    budgets.hold("evaluation of scattered jobs, the same", ratio(largest, 1), FLAT);
}

/// The longest of many requests, with and without a bundle of a million rules coming in beside them.
fn refresh(issuer: &Issuer, budgets: &mut Budgets) {
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
    let added = best_refresh.as_secs_f64() - best_control.as_secs_f64();
    budgets.hold("milliseconds that a refresh adds to it", added * 1e3, REFRESH);
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
            yielding: Yielding::NOTHING,
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

fn claims(policy: &Policy, job: &serde_json::Value) -> Claims {
    let raw = Json::parse(job.to_string().as_bytes()).unwrap().as_object().unwrap().clone();
    let derived = policy.issuers().by_id("github").unwrap().provider().derive(&raw);
    Claims::new(raw, derived)
}

#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

fn per_rule(bytes: usize, rules: u64) -> f64 {
    as_f64(u64::try_from(bytes).unwrap()) / as_f64(rules)
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
