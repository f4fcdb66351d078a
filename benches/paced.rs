//! Exchanges over connections that stay open: as fast as they go, or by the clock.

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use crate::support;

const CONNECTIONS: usize = 16;

/// Exchanges a second when each connection asks as soon as it is answered.
pub fn peak(address: SocketAddr, bodies: &[String]) -> f64 {
    let began = Instant::now();
    thread::scope(|scope| {
        for lane in 0..CONNECTIONS {
            scope.spawn(move || {
                let mut stream = connect(address);
                bodies.iter().skip(lane).step_by(CONNECTIONS).for_each(|body| exchange(&mut stream, body));
            });
        }
    });
    bodies.len() as f64 / began.elapsed().as_secs_f64()
}

/// How long each exchange took from when it was due, at so many a second.
pub fn by_the_clock(address: SocketAddr, bodies: &[String], rate: f64) -> Vec<Duration> {
    let began = Instant::now() + Duration::from_millis(50);
    thread::scope(|scope| {
        let lane = |lane: usize| {
            scope.spawn(move || {
                let mut stream = connect(address);
                let mut took = Vec::new();
                for (number, body) in bodies.iter().enumerate().skip(lane).step_by(CONNECTIONS) {
                    let due = began + Duration::from_secs_f64(number as f64 / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    exchange(&mut stream, body);
                    took.push(due.elapsed());
                }
                took
            })
        };
        let lanes: Vec<_> = (0..CONNECTIONS).map(lane).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    })
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn exchange(stream: &mut TcpStream, body: &str) {
    let (host, length) = (support::HOST, body.len());
    let head = format!("POST /_/oidc/mint-token HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "the connection was closed");
        answer.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, rest)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        if rest.len() >= length.parse::<usize>().unwrap() {
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            return;
        }
    }
}
