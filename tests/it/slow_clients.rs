//! Clients that take their time, of a listener with few connections: what they hold, and that others are served.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;

use trustmint::telemetry::Stopwatch;

use crate::serve::Home;
use crate::serve::PATIENCE;
use crate::serve::Served;

/// Of these the last eighth is never kept.
const CONNECTIONS: usize = 96;
const ASK: &str = "GET /_/oidc/audience HTTP/1.1\r\nHost: pypi.acme.example\r\n\r\n";

fn serve(home: &Home) -> Served {
    let settings = "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\n";
    let limits = format!("limits: {{workers: 1, connections: {CONNECTIONS}, read_timeout: 1s}}\n");
    home.write("trustmint.yaml", &format!("{settings}{limits}"));
    home.serve()
}

fn connect(served: &Served) -> TcpStream {
    let connection = TcpStream::connect(served.public.strip_prefix("http://").unwrap()).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// What comes before the connection is closed.
fn rest(mut connection: &TcpStream) -> String {
    let mut text = String::new();
    drop(connection.read_to_string(&mut text));
    text
}

/// Asks on a connection of its own, and answers with the status line and whether that is kept.
fn ask(mut connection: &TcpStream) -> (String, bool) {
    connection.write_all(ASK.as_bytes()).unwrap();
    let (mut kept, mut lines) = (true, BufReader::new(connection).lines().map_while(Result::ok));
    let status = lines.next().unwrap_or_default();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        kept &= !line.eq_ignore_ascii_case("connection: close");
    }
    (status, kept)
}

const SERVED: &str = "HTTP/1.1 200 OK";

#[test]
fn who_sends_no_head_or_half_of_one_is_shut_out_in_the_read_time_out() {
    let home = Home::with_key();
    let served = serve(&home);
    let started = Stopwatch::start();
    let halves = ["", "P", "POST /_/oidc/mint-token HTTP/1.1\r\nHost: pypi.acme.example\r\n", "GET / HTTP/1.1\r\nX: "];
    let slow: Vec<TcpStream> = (0..CONNECTIONS - 1)
        .map(|number| {
            let mut connection = connect(&served);
            connection.write_all(halves[number % halves.len()].as_bytes()).unwrap();
            connection
        })
        .collect();
    assert_eq!(ask(&connect(&served)).0, SERVED, "of the one place that is left");
    for connection in &slow {
        let answer = rest(connection);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    assert!(started.elapsed() < PATIENCE / 2, "{:?}", started.elapsed());
}

#[test]
fn who_sends_a_body_byte_by_byte_holds_a_connection_and_no_place() {
    let home = Home::with_key();
    let served = serve(&home);
    let head = "POST /_/oidc/mint-token HTTP/1.1\r\nHost: pypi.acme.example\r\nContent-Length: 13\r\n\r\n{";
    let slow: Vec<TcpStream> = (0..CONNECTIONS - 1)
        .map(|_| {
            let mut connection = connect(&served);
            connection.write_all(head.as_bytes()).unwrap();
            connection
        })
        .collect();
    for _ in 0..20 {
        let mut connection = connect(&served);
        connection.write_all(head.as_bytes()).unwrap();
        connection.write_all(b"\"token\":\"x\"}").unwrap();
        let answer = rest(&connection);
        assert!(answer.contains("token-malformed"), "{answer}");
    }
    drop(slow);
}

#[test]
fn connections_that_idle_leave_room_for_who_comes_with_a_question() {
    let home = Home::with_key();
    let served = serve(&home);
    let mut idle = Vec::new();
    loop {
        let connection = connect(&served);
        let (status, kept) = ask(&connection);
        assert_eq!(status, SERVED);
        if !kept {
            break;
        }
        idle.push(connection);
    }
    assert_eq!(idle.len(), CONNECTIONS * 7 / 8);
    for _ in 0..CONNECTIONS {
        let connection = connect(&served);
        assert_eq!(ask(&connection), (SERVED.to_owned(), false));
    }
    for connection in &idle {
        assert_eq!(ask(connection), (SERVED.to_owned(), true), "and those who idle may ask again");
    }
}

#[test]
fn who_does_not_read_the_answers_keeps_nobody_else_from_theirs() {
    let home = Home::with_key();
    let served = serve(&home);
    let many = "GET /openapi.json HTTP/1.1\r\nHost: pypi.acme.example\r\n\r\n".repeat(500);
    let deaf: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut connection = connect(&served);
            connection.set_nonblocking(true).unwrap();
            drop(connection.write(many.as_bytes()));
            connection
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(ask(&connect(&served)).0, SERVED);
    }
    drop(deaf);
}
