//! The reference points, each in a process of its own on the service's core.

use std::net::TcpListener;
use std::time::Instant;

use actix_web::App;
use actix_web::HttpServer;
use actix_web::web;

use crate::pinned;
use crate::points::Raw;
use crate::points::hello;
use crate::service::Service;
use crate::service::free_port;

const VERIFICATIONS: u32 = 20_000;

/// Starts the endpoint that parses the same body and answers with JSON, and does nothing else.
pub fn start_empty() -> Service {
    let port = free_port();
    let mut command = pinned(0, &std::env::current_exe().unwrap());
    command.args(["empty", &port.to_string()]);
    Service::of(command, port)
}

/// That endpoint, until it is killed.
pub fn serve_empty(port: &str) {
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    let server = HttpServer::new(|| App::new().route("/", web::post().to(hello))).workers(1).listen(listener).unwrap();
    actix_web::rt::System::new().block_on(server.run()).unwrap();
}

/// Microseconds of one verification of this token by aws-lc, with a key that was parsed in advance.
pub fn raw(token: &str) -> f64 {
    let output = pinned(0, &std::env::current_exe().unwrap()).args(["raw", token]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// What [`raw`] runs: the best of ten batches.
pub fn raw_verification(token: &str) -> f64 {
    let raw = Raw::of(token);
    let batch = || {
        let started = Instant::now();
        for _ in 0..VERIFICATIONS / 10 {
            raw.verify();
        }
        started.elapsed().as_secs_f64() * 1e6 / f64::from(VERIFICATIONS / 10)
    };
    (0..10).map(|_| batch()).fold(f64::MAX, f64::min)
}
