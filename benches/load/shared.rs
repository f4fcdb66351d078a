//! Exchanges with their first uses in a real Redis, which has the load generator's core.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::TOKENS;
use crate::Tokens;
use crate::paced;
use crate::pinned;
use crate::server::Redis;
use crate::service;
use crate::service::Load;
use crate::service::Service;
use crate::support::Issuer;
use crate::table::Report;

const ROUNDS: usize = 3;
/// Exchanges by the clock in a round.
const PACED: u64 = 6_000;
/// How long the scripts are counted that no exchange is the cause of.
const IDLE: Duration = Duration::from_secs(2);

/// The rows about Redis.
pub fn measure(folder: &Path, issuer: &Issuer, tokens: &mut Tokens<'_>, report: &mut Report) {
    let redis = Redis::by(pinned(1, Path::new("redis-server")));
    let log = folder.join("audit.jsonl");
    let url = format!("redis://127.0.0.1:{}", redis.port);
    let log_name = log.display().to_string();
    let settings = [
        ("TRUSTMINT_STATE__STORE", "redis"),
        ("TRUSTMINT_STATE__REDIS__URL", &url),
        ("TRUSTMINT_AUDIT__SINK", "file"),
        ("TRUSTMINT_AUDIT__FILE", &log_name),
    ];
    let service = Service::start_with(folder, "few", issuer, &crate::support::policy_text(crate::FEW, 0), &settings);
    let before = redis.scripts();
    thread::sleep(IDLE);
    #[expect(clippy::cast_precision_loss, reason = "a figure")]
    let count = |number: u64| number as f64;
    let idle = count(redis.scripts() - before) / IDLE.as_secs_f64();
    let empty = redis.used_bytes();

    let (mut peak, mut p50, mut script) = (0.0_f64, f64::MAX, f64::MAX);
    let (mut p99, mut scripts, mut seconds) = (Vec::new(), 0, 0.0);
    for _ in 0..ROUNDS {
        let output =
            pinned(0, &std::env::current_exe().unwrap()).args(["ping", &redis.port.to_string()]).output().unwrap();
        let round_trip: Value = serde_json::from_slice(&output.stdout).unwrap();
        let of = |name: &str| round_trip[name].as_f64();
        report.see("Redis round trip", Load { p50_us: of("p50"), p99_us: of("p99"), ..Load::default() });
        let (cpu_before, scripts_before) = (redis.cpu_us(), redis.scripts());
        let seen = service.load(crate::CONNECTIONS, crate::SECONDS, service::MINT, &tokens.file(crate::FEW), true, &[]);
        script = script.min((redis.cpu_us() - cpu_before) / count(redis.scripts() - scripts_before));
        peak = peak.max(seen.per_second.unwrap());
        report.see("exchange, first use in Redis", seen);
        let file = tokens.file_of(PACED, crate::FEW);
        let (before, began) = (redis.scripts(), Instant::now());
        let output = pinned(1, &std::env::current_exe().unwrap())
            .args(["clock", &service.port().to_string(), &(peak / 2.0).to_string()])
            .arg(&file)
            .output()
            .unwrap();
        let paced: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
        scripts += redis.scripts() - before;
        seconds += began.elapsed().as_secs_f64();
        p50 = p50.min(paced["p50"].as_f64().unwrap());
        p99.push(paced["p99"].as_f64().unwrap());
    }
    p99.sort_by(f64::total_cmp);
    let held = redis.used_bytes() - empty;
    let (keys, of_one) = redis.keys("*first-use*");
    let keys = f64::from(u32::try_from(keys).unwrap());
    let lines = fs::read_to_string(&log).unwrap();
    let line = |bytes: usize| f64::from(u32::try_from(bytes).unwrap());
    let exchanges = line(lines.lines().count());
    report.figure("with Redis: exchanges a second on one core", peak);
    report.figure("with Redis, at half of that: p50, µs", p50 * 1000.0);
    report.figure("with Redis, at half of that: p99 of the best round, µs", p99[0] * 1000.0);
    report.figure("bytes that Redis holds a first use, by MEMORY USAGE", of_one);
    report.figure("bytes that Redis holds a first use, by used_memory", held / keys);
    report.figure("CPU of Redis an exchange, µs", script);
    report.figure("scripts a second of a replica that idles", idle);
    report.figure("bytes of the audit log an exchange", line(lines.len()) / exchanges);
    report.row("with Redis: p99 at half of the peak, middle round", p99[p99.len() / 2], "ms", 5.0);
    // Every replica asks for revocations and stops each second, whatever the load.
    let each = idle.mul_add(-seconds, count(scripts)) / (count(PACED) * 3.0);
    report.row("with Redis: scripts an exchange", each, "", 1.001);
    assert!(keys >= count(TOKENS), "each exchange left a first use");
}

/// What a child on the load generator's core does: exchanges by the clock; latencies in milliseconds.
pub fn by_the_clock(arguments: &[String]) {
    let [port, rate, file] = arguments else { panic!("PORT RATE FILE") };
    let text = fs::read_to_string(file).unwrap();
    let bodies: Vec<String> = text.lines().map(str::to_owned).collect();
    let address = ([127, 0, 0, 1], port.parse().unwrap()).into();
    let mut took = paced::by_the_clock(address, &bodies, rate.parse().unwrap());
    took.sort_unstable();
    let at = |per_mille: usize| took[(took.len() - 1) * per_mille / 1000].as_secs_f64() * 1000.0;
    println!("{}", json!({"p50": at(500), "p99": at(990)}));
}

/// The reference point, from the service's core.
pub fn ping(port: &str) {
    let (p50, p99) = Redis::round_trip_us(port.parse().unwrap());
    println!("{}", json!({"p50": p50, "p99": p99}));
}
