//! How a replica ends: the real binary and its signals.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use actix_web::rt::time::sleep;
use reqwest::Client;
use serde_json::Value;
use serde_json::json;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::operations::KEY;
use crate::redis_service;
use crate::serve::Home;
use crate::serve::PATIENCE;
use crate::serve::Served;
use crate::serve::line_with;
use crate::support::redis::Server;
use crate::support::said;
use crate::support::said::SecretKind;
use crate::support::send;
use crate::support::service::API_KEY;
use crate::support::service::Answer;

/// A drain that no test waits for.
const LONG: &str = "10m";

fn connect(served: &Served) -> TcpStream {
    let connection = TcpStream::connect(served.public.strip_prefix("http://").unwrap()).unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection
}

/// The head of a request whose client waits until its body is asked for.
fn head(length: usize) -> String {
    format!(
        "POST /_/oidc/mint-token HTTP/1.1\r\nHost: pypi.acme.example\r\nContent-Length: {length}\r\nExpect: \
         100-continue\r\n\r\n"
    )
}

/// A request whose head the service has, and whose body it waits for.
fn half_sent(served: &Served) -> (TcpStream, BufReader<TcpStream>) {
    let mut connection = connect(served);
    connection.write_all(head(13).as_bytes()).unwrap();
    let mut answer = BufReader::new(connection.try_clone().unwrap());
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    (connection, answer)
}

#[actix_web::test]
async fn at_the_signal_it_is_not_ready_and_serves_on() {
    let home = Home::with_key();
    let mut served = home.serve_draining(LONG);
    let client = Client::builder().no_proxy().build().unwrap();
    let ready = async || {
        let answer = client.get(format!("{}/readyz", served.operations)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let ask = async |client: &Client| {
        let request = client.get(format!("{}/_/oidc/audience", served.public)).header("host", "pypi.acme.example");
        let answer = request.send().await.unwrap();
        let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        (closes, body["audience"].clone())
    };
    assert_eq!(ready().await, (200, "ready\n".to_owned()));
    assert_eq!(ask(&client).await, (false, "acme".into()));
    served.terminate();
    line_with(&mut served.log, "draining");
    assert_eq!(ready().await, (503, "not ready: about to end\n".to_owned()));
    assert_eq!(ask(&client).await, (true, "acme".into()), "on a connection from before");
    let newcomer = Client::builder().no_proxy().build().unwrap();
    assert_eq!(ask(&newcomer).await, (true, "acme".into()), "on a new one");
    let live = client.get(format!("{}/livez", served.operations)).send().await.unwrap();
    assert_eq!(live.status(), 200, "nobody shall end it sooner");

    served.terminate();
    line_with(&mut served.log, "stopped at once");
    assert_eq!(served.ended().await.0, Some(1), "whoever hurries it is told that something may be lost");
}

#[actix_web::test]
async fn requests_under_way_finish_after_the_drain() {
    let home = Home::with_key();
    let mut served = home.serve();
    let (mut connection, mut answer) = half_sent(&served);
    let mut idle = connect(&served);
    served.terminate();
    line_with(&mut served.log, "stopping");
    connection.write_all(b"{\"token\":\"x\"}").unwrap();
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP/1.1 422") && rest.contains("token-malformed"), "{rest}");
    drop(connection);
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0, "who has asked nothing is not waited for");
    line_with(&mut served.log, "stopped");
    assert_eq!(served.ended().await.0, Some(0));
}

#[actix_web::test]
async fn what_a_client_that_leaves_at_the_very_end_may_have_used_is_recorded() {
    let redis = Server::start(&[]);
    let home = redis_service::home(redis.port, "");
    let settings = home.read("trustmint.yaml").replace("200ms", "1000ms");
    home.write("trustmint.yaml", &settings);
    let provider = redis_service::provider(&home);
    let mut served = home.serve();
    // The connection to the store is there from the start.
    let token = redis_service::id_token_at(&provider, SystemClock.now().plus(Duration::from_secs(1)));
    let body = format!("{{\"token\":\"{token}\"}}");
    let mut connection = connect(&served);
    connection.write_all(head(body.len()).as_bytes()).unwrap();
    let mut asked_for = [0; 12];
    assert_eq!((connection.peek(&mut asked_for).unwrap(), &asked_for), (12, b"HTTP/1.1 100"));
    let process = redis.process();
    served.terminate();
    line_with(&mut served.log, "stopping");
    send("-STOP", process);
    // A thread of the server looks every second whether it has connections left: so it does during the claim.
    sleep(Duration::from_millis(300)).await;
    connection.write_all(body.as_bytes()).unwrap();
    sleep(Duration::from_millis(600)).await;
    // With something unread this resets the connection. One that is only shut down may still be waiting for its answer.
    drop(connection);
    let (code, out) = served.ended().await;
    send("-CONT", process);
    assert_eq!(code, Some(0));
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let exchanges: Vec<_> = events.iter().filter(|event| event["event"] == "exchange").collect();
    assert_eq!(exchanges.len(), 1, "{out}");
    assert_eq!([&exchanges[0]["decision"], &exchanges[0]["code"]], ["fault", "store-unavailable"]);
    assert!(exchanges[0]["token_id"].is_string(), "{out}");
}

/// A request of whose body the service has asked for, and not got, any part.
struct Begun {
    connection: TcpStream,
    body: String,
}

impl Begun {
    fn new(address: &str, path: &str, headers: &str, body: &Value) -> Self {
        let body = body.to_string();
        said::tokens_in(&body);
        let mut connection = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
        connection.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: pypi.acme.example\r\nContent-Length: {}\r\nExpect: 100-continue\r\n{headers}\r\n",
            body.len(),
        );
        connection.write_all(head.as_bytes()).unwrap();
        let mut asked_for = [0; 12];
        assert_eq!((connection.peek(&mut asked_for).unwrap(), &asked_for), (12, b"HTTP/1.1 100"));
        Self { connection, body }
    }

    fn send(&mut self) {
        self.connection.write_all(self.body.as_bytes()).unwrap();
    }
}

/// How many exchanges are under way at once: so many that a process which does not wait for their records loses some.
const CROWD: usize = 64;

#[actix_web::test]
async fn what_a_second_signal_cuts_off_while_its_client_waits_is_recorded_before_the_process_ends() {
    cut_off_and_recorded(true).await;
}

#[actix_web::test]
async fn what_does_not_end_in_its_time_while_its_client_waits_is_recorded_before_the_process_ends() {
    cut_off_and_recorded(false).await;
}

async fn cut_off_and_recorded(by_signal: bool) {
    let redis = Server::start(&[]);
    // The one thread's connection to the store is there before the store stands still.
    let home = redis_service::home(redis.port, "limits: {workers: 1, shutdown_timeout: 1s}\n");
    said::secret(SecretKind::ApiKey, KEY);
    let operators = format!("callers: {{oncall: {{key_sha256: \"{}\"}}}}}}\nstate:", hex(&sha256(KEY.as_bytes())));
    let settings = home.read("trustmint.yaml").replace("200ms", "1000ms");
    home.write("trustmint.yaml", &settings.replace("}\nstate:", &format!(", {operators}")));
    let provider = redis_service::provider(&home);
    let id_token = || redis_service::id_token_at(&provider, SystemClock.now().plus(Duration::from_secs(1)));
    let mut served = home.serve();
    let once = json!({"token": id_token(), "features": ["single-use-token"]}).to_string();
    let client = redis_service::client();
    let minted = client.post(format!("{}/_/oidc/mint-token", served.public)).header("host", "pypi.acme.example");
    let minted = Answer::of(minted.body(once).send().await.unwrap()).await;
    let token = minted.body["token"].as_str().unwrap();

    let key = format!("Authorization: Bearer {API_KEY}\r\n");
    let used = json!({"token": token, "package": "widgets", "exists": true, "consume": "u"});
    let mut begun = vec![
        Begun::new(&served.public, "/v1/verify", &key, &used),
        Begun::new(&served.public, "/v1/revocations", &key, &json!({"rule": "another"})),
    ];
    // Operators are given their time after all others.
    if by_signal {
        let until = SystemClock.now().plus(Duration::from_secs(3600)).to_string();
        let stop = json!({"rule": "another", "reason": "INC-9", "until": until});
        let url = format!("{}/stops", served.operations);
        // Their thread is connected by this one.
        let stopped = client.post(url).bearer_auth(KEY).body(stop.to_string()).send().await.unwrap();
        assert_eq!(stopped.status(), 201);
        begun.push(Begun::new(&served.operations, "/stops", &format!("Authorization: Bearer {KEY}\r\n"), &stop));
    }
    let body = json!({"token": id_token()});
    begun.extend((0..CROWD).map(|_| Begun::new(&served.public, "/_/oidc/mint-token", "", &body)));
    served.terminate();
    line_with(&mut served.log, "stopping");
    let process = redis.process();
    send("-STOP", process);
    if !by_signal {
        // A thread of the server looks every second whether its time is over: so it is during the claims.
        sleep(Duration::from_millis(300)).await;
    }
    begun.iter_mut().for_each(Begun::send);
    if by_signal {
        sleep(Duration::from_millis(600)).await;
        served.terminate();
    }
    let (code, out) = served.ended().await;
    send("-CONT", process);
    assert_eq!(code, Some(i32::from(by_signal)));
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (kind, expected) in [("exchange", CROWD), ("verify", 1), ("revoke", 1), ("stop", usize::from(by_signal))] {
        let cut_off: Vec<_> =
            events.iter().filter(|event| event["event"] == kind && event["decision"] == "fault").collect();
        assert_eq!(cut_off.len(), expected, "{kind}, by a signal: {by_signal}: {out}");
        for event in cut_off {
            let names_token = matches!(kind, "exchange" | "verify");
            assert_eq!((&event["code"], event["token_id"].is_string()), (&json!("store-unavailable"), names_token));
        }
    }
}

#[actix_web::test]
async fn what_does_not_finish_in_its_time_is_cut_off() {
    let home = Home::with_key();
    let settings = "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\n";
    home.write("trustmint.yaml", &format!("{settings}limits: {{shutdown_timeout: 1s}}\n"));
    let served = home.serve();
    let (_connection, mut answer) = half_sent(&served);
    served.terminate();
    assert_eq!(served.ended().await.0, Some(0));
    let mut rest = String::new();
    drop(answer.read_to_string(&mut rest));
    assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
}

#[actix_web::test]
async fn a_second_signal_ends_it_at_once_whatever_is_under_way() {
    for drain in [LONG, "1s"] {
        let home = Home::with_key();
        let mut served = home.serve_draining(drain);
        let _under_way = half_sent(&served);
        served.terminate();
        line_with(&mut served.log, if drain == LONG { "draining" } else { "stopping" });
        served.terminate();
        line_with(&mut served.log, "stopped at once");
        assert_eq!(served.ended().await.0, Some(1), "{drain}");
    }
}
