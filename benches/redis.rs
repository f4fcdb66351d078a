//! Exchanges with their first uses in a real Redis on loopback: `cargo bench --bench redis`. Needs `redis-server`.
//!
//! The peak is what 16 connections get that ask as fast as they are answered. At half of it requests are sent by the
//! clock, whatever became of those before, and a latency is counted from the moment that a request was due: a service
//! that falls behind cannot hide it. Load, service and Redis share the machine. Rounds are interleaved with the memory
//! store's, and the best of each is taken, because the machine's noise only ever adds.
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

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use actix_web::web;
use serde_json::json;
use tokio::runtime::Handle;
use trustmint::app::App;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::http;
use trustmint::http::Public;
use trustmint::state::RedisOptions;
use trustmint::state::RedisStore;
use trustmint::state::Store;
use trustmint::state::Topology;
use trustmint::time::Clock;
use trustmint::time::SystemClock;

#[path = "paced.rs"]
mod paced;
#[path = "server.rs"]
mod server;
#[path = "support.rs"]
mod support;

use paced::by_the_clock;
use paced::peak;
use server::Redis;
use support::Issuer;

const RULES: u64 = 10;
const ROUNDS: usize = 5;
/// Exchanges of one round at the peak, and of one at half of it.
const EXCHANGES: usize = 3_000;

fn main() -> ExitCode {
    let redis = Redis::start();
    let issuer = Arc::new(Issuer::new());
    let runtime = runtime();
    let store: Arc<dyn Store> = Arc::new(RedisStore::new(options(&redis)));
    let service = |store: Option<Arc<dyn Store>>| {
        let _entered = runtime.enter();
        let outside = support::Outside { clock: Arc::new(SystemClock), store, ..support::Outside::default() };
        serve(&runtime, Arc::new(support::app(support::policy(&issuer, RULES), outside)))
    };
    let (shared, alone) = (service(Some(store)), service(None));

    println!("making {} ID tokens", ROUNDS * 4 * EXCHANGES);
    let mut bodies = bodies(&issuer);
    let mut scripts = 0;
    let mut seen: Vec<Figures> = vec![Figures::default(); 2];
    for round in 1..=ROUNDS {
        for (figures, (serving, in_redis)) in seen.iter_mut().zip([(&shared, true), (&alone, false)]) {
            let mut some = || bodies.split_off(bodies.len() - EXCHANGES);
            let (first, second) = (some(), some());
            let before = redis.scripts();
            figures.peak = figures.peak.max(peak(serving.address(), &first));
            let mut took = by_the_clock(serving.address(), &second, figures.peak / 2.0);
            if in_redis {
                scripts += redis.scripts() - before;
            }
            took.sort_unstable();
            let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000];
            figures.median = figures.median.min(at(500));
            figures.p99.push(at(990));
            println!("round {round} of {ROUNDS}: p50 {:?}, p99 {:?}, longest {:?}", at(500), at(990), at(1000));
        }
    }
    for (name, figures) in ["Redis ", "memory"].iter().zip(&seen) {
        let Figures { peak, median, p99 } = figures;
        let p99s = sorted(p99);
        let (best, usual, worst) = (p99s[0], p99s[p99s.len() / 2], p99s[p99s.len() - 1]);
        println!(
            "{name}  peak {peak:6.0} exchanges/s; at half of it p50 {median:?}, p99 {best:?} in the best round, {usual:?} in \
             the middle one, {worst:?} in the worst"
        );
    }
    let each = scripts as f64 / (ROUNDS * 2 * EXCHANGES) as f64;
    println!(
        "budget: with Redis p99 of 5 ms at half of the peak, one round trip an exchange: {each:.3} scripts an exchange"
    );
    let [redis, memory] = &seen[..] else { panic!("two stores") };
    let p99 = &sorted(&seen[0].p99);
    let met = p99[p99.len() / 2] <= Duration::from_millis(5) && each < 1.001;
    println!("the budget is {} (p99 of the middle round)", if met { "met" } else { "missed" });
    println!(
        "{}",
        json!({"redis_peak": redis.peak, "redis_p99_ms": all(&redis.p99), "redis_p50_ms": millis(redis.median),
               "memory_peak": memory.peak, "memory_p99_ms": all(&memory.p99), "scripts_per_exchange": each})
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Debug, Clone)]
struct Figures {
    peak: f64,
    median: Duration,
    p99: Vec<Duration>,
}

impl Default for Figures {
    fn default() -> Self {
        Self { peak: 0.0, median: Duration::MAX, p99: Vec::new() }
    }
}

fn sorted(times: &[Duration]) -> Vec<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
}

/// Those of every round, the best first.
fn all(times: &[Duration]) -> Vec<f64> {
    sorted(times).into_iter().map(millis).collect()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Bodies of exchanges, each with a token of its own that is good for the next minutes.
fn bodies(issuer: &Arc<Issuer>) -> Vec<String> {
    // What was issued before the stores began is refused, and times in tokens are whole seconds.
    let now = SystemClock.now().unix_millis() / 1000 + 2;
    let lanes = (0..2).map(|lane| {
        let issuer = Arc::clone(issuer);
        thread::spawn(move || {
            let serials = (0..ROUNDS * 4 * EXCHANGES).filter(|serial| serial % 2 == lane);
            let token = |serial: usize| issuer.token(now, u64::try_from(serial).unwrap(), RULES);
            serials.map(|serial| json!({"token": token(serial)}).to_string()).collect::<Vec<_>>()
        })
    });
    let lanes: Vec<_> = lanes.collect();
    lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
}

/// Where connections to Redis live: a thread of its own, as in the service.
fn runtime() -> Handle {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        sender.send(runtime.handle().clone()).unwrap();
        runtime.block_on(std::future::pending::<()>());
    });
    receiver.recv().unwrap()
}

fn serve(runtime: &Handle, app: Arc<App>) -> Serving {
    runtime.block_on(app.sync()).unwrap();
    let public = web::Data::new(Public::new(app, Vec::new()));
    Serving::start(bind().unwrap(), None, http::public_routes(public)).unwrap()
}

fn options(redis: &Redis) -> RedisOptions {
    RedisOptions {
        endpoints: vec![format!("redis://127.0.0.1:{}", redis.port).parse().unwrap()],
        topology: Topology::Single,
        ca: None,
        username: None,
        password: None,
        key_prefix: "trustmint:".to_owned(),
        timeout: Duration::from_millis(500),
        wait_for_replicas: 0,
    }
}
