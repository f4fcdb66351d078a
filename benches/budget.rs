//! The budget's ratios, measured in one run: `taskset -c 0 cargo bench --bench budget`.
//!
//! CPU time, user and system, of everything but the load generator's threads, per request, read from the scheduler's
//! accounting of each thread. Rounds are interleaved and the best of each kind is taken, because the machine's noise
//! only ever adds. Reference points: one raw RS256 verification by aws-lc with a key parsed in advance, and one actix
//! endpoint that parses the same JSON body and answers with JSON.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement must stop on failure"
)]
#![expect(unreachable_pub, reason = "set-up")]

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;

use actix_web::web;
use serde_json::json;
use trustmint::demo::Serving;
use trustmint::demo::bind;
use trustmint::http;
use trustmint::http::Public;

#[path = "points.rs"]
mod points;
#[path = "support.rs"]
mod support;

use points::Raw;
use points::hello;
use support::Issuer;

const ROUNDS: u64 = 9;
const REQUESTS: u64 = 2_000;
const RULES: u64 = 10;
/// Connections of the load generator, each on a thread of its own.
const CONNECTIONS: u64 = 8;

fn main() {
    let issuer = Arc::new(Issuer::new());
    println!("making {} ID tokens", ROUNDS * REQUESTS);
    let mut tokens: Vec<String> =
        (0..ROUNDS * REQUESTS).map(|serial| issuer.token(support::NOW, serial, RULES)).collect();
    let first = issuer.token(support::NOW, u64::MAX - 1, RULES);
    println!("an ID token has {} bytes; {ROUNDS} rounds of {REQUESTS} requests of each kind", first.len());

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let app = {
        let _entered = runtime.enter();
        Arc::new(support::app(support::policy(&issuer, RULES), support::Outside::default()))
    };
    runtime.block_on(app.sync()).unwrap();
    let public = web::Data::new(Public::new(Arc::clone(&app), Vec::new()));
    let service = Serving::start(bind().unwrap(), None, http::public_routes(public)).unwrap();
    let empty = Serving::start(bind().unwrap(), None, |config| {
        config.route("/", web::post().to(hello));
    })
    .unwrap();

    let sample = json!({"token": first}).to_string();
    let upload_token = first_token(service.address(), &issuer.token(support::NOW, u64::MAX, RULES));
    let question = json!({"token": upload_token, "package": format!("widgets-{}", u64::MAX % RULES), "exists": true, "size": 1000});

    let [mut raw, mut hello, mut exchange, mut verify] = [f64::MAX; 4];
    for round in 1..=ROUNDS {
        raw = raw.min(raw_verification(&first));
        hello = hello.min(load(empty.address(), "/", "", &vec![sample.clone(); usize::try_from(REQUESTS).unwrap()]));
        let batch = tokens.split_off(tokens.len() - usize::try_from(REQUESTS).unwrap());
        let bodies: Vec<String> = batch.iter().map(|token| json!({ "token": token }).to_string()).collect();
        exchange = exchange.min(load(service.address(), "/_/oidc/mint-token", "", &bodies));
        let bodies = vec![question.to_string(); usize::try_from(REQUESTS).unwrap()];
        let key = format!("authorization: Bearer {}\r\n", support::API_KEY);
        verify = verify.min(load(service.address(), "/v1/verify", &key, &bodies));
        println!("round {round} of {ROUNDS}");
    }
    let reference = raw + hello;
    println!("raw RS256 verification          {raw:7.1} µs CPU");
    println!("empty actix JSON POST           {hello:7.1} µs CPU");
    println!(
        "exchange over HTTP              {exchange:7.1} µs CPU   {:.2} × (raw + empty); budget 1.6, aim 1.4",
        exchange / reference
    );
    println!("POST /v1/verify                 {verify:7.1} µs CPU   {:.2} × empty; budget 2, aim 1.6", verify / hello);
    println!(
        "{}",
        json!({"raw_us": raw, "empty_us": hello, "exchange_us": exchange, "verify_us": verify,
               "exchange_ratio": exchange / reference, "verify_ratio": verify / hello})
    );
}

/// Microseconds of one raw verification of a token of this size.
fn raw_verification(token: &str) -> f64 {
    let raw = Raw::of(token);
    let before = cpu(|_| true);
    for _ in 0..REQUESTS {
        raw.verify();
    }
    (cpu(|_| true) - before) / 1000.0 / as_f64(REQUESTS)
}

/// Posts every body once and answers with the microseconds of CPU time per request of all threads but the senders.
fn load(address: SocketAddr, path: &'static str, header: &str, bodies: &[String]) -> f64 {
    let others = |name: &str| name != "load";
    let before = cpu(others);
    thread::scope(|scope| {
        for lane in 0..CONNECTIONS {
            let bodies =
                bodies.iter().skip(usize::try_from(lane).unwrap()).step_by(usize::try_from(CONNECTIONS).unwrap());
            thread::Builder::new()
                .name("load".into())
                .spawn_scoped(scope, move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_nodelay(true).unwrap();
                    for body in bodies {
                        let answer = post(&mut stream, path, header, body);
                        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    }
                })
                .unwrap();
        }
    });
    // The audit log's writer is part of the cost: let it catch up.
    thread::sleep(std::time::Duration::from_millis(50));
    (cpu(others) - before) / 1000.0 / as_f64(u64::try_from(bodies.len()).unwrap())
}

fn post(stream: &mut TcpStream, path: &str, header: &str, body: &str) -> String {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{header}content-length: {length}\r\n\r\n",
        support::HOST
    );
    stream.write_all((head + body).as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection was closed");
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if rest.len() >= length.parse::<usize>().unwrap() {
            return text.into_owned();
        }
    }
}

fn first_token(address: SocketAddr, id_token: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let answer = post(&mut stream, "/_/oidc/mint-token", "", &json!({ "token": id_token }).to_string());
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    body["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

/// Nanoseconds of CPU time that this process's threads of these names have had, by the scheduler's account.
fn cpu(counts: impl Fn(&str) -> bool) -> f64 {
    let mut total = 0;
    for task in fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let (Ok(name), Ok(stat)) = (fs::read_to_string(task.join("comm")), fs::read_to_string(task.join("schedstat")))
        else {
            continue;
        };
        if counts(name.trim()) {
            total += stat.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    as_f64(total)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
const fn as_f64(number: u64) -> f64 {
    number as f64
}
