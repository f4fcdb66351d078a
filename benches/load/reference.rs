//! The reference points, each in a process of its own on the service's core.

use std::net::TcpListener;
use std::time::Instant;

use actix_web::App;
use actix_web::HttpResponse;
use actix_web::HttpServer;
use actix_web::web;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RsaKeyPair;
use serde::Deserialize;
use serde_json::json;

use crate::pinned;
use crate::service::Service;
use crate::service::free_port;

const VERIFICATIONS: u32 = 20_000;

#[derive(Deserialize)]
struct Body<'a> {
    token: &'a str,
}

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

async fn hello(bytes: web::Bytes) -> HttpResponse {
    let body: Body<'_> = serde_json::from_slice(&bytes).unwrap();
    HttpResponse::Ok().json(json!({"success": true, "token": body.token.get(..16), "expires": 1_790_000_900}))
}

/// Microseconds of one verification of this token by aws-lc, with a key that was parsed in advance.
pub fn raw(token: &str) -> f64 {
    let output = pinned(0, &std::env::current_exe().unwrap()).args(["raw", token]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

/// What [`raw`] runs: the best of ten batches.
pub fn raw_verification(token: &str) -> f64 {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()).unwrap();
    let message = token.rsplit_once('.').unwrap().0.as_bytes();
    let mut signature = vec![0; pair.public_modulus_len()];
    #[expect(clippy::disallowed_types, reason = "set-up")]
    let random = aws_lc_rs::rand::SystemRandom::new();
    pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
    let batch = || {
        let started = Instant::now();
        for _ in 0..VERIFICATIONS / 10 {
            key.verify_sig(std::hint::black_box(message), &signature).unwrap();
        }
        started.elapsed().as_secs_f64() * 1e6 / f64::from(VERIFICATIONS / 10)
    };
    (0..10).map(|_| batch()).fold(f64::MAX, f64::min)
}
