use super::*;

use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::ServerConnection;
use rustls::StreamOwned;
use rustls::pki_types::PrivateKeyDer;

/// A server on a loopback port: answers each connection with `answer(request head)`, then holds it open if told to.
struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&mut dyn Write, &str) + Send + 'static, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for socket in listener.incoming() {
                let Ok(mut socket) = socket else { return };
                match &tls {
                    None => serve(&mut socket, &seen, &answer),
                    Some(config) => {
                        let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                        let mut stream = StreamOwned::new(connection, socket.try_clone().unwrap());
                        serve(&mut stream, &seen, &answer);
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    }
                }
                held.push(socket);
            }
        });
        Self { port, requests }
    }

    fn plain(answer: &'static [u8]) -> Self {
        Self::start(move |to, _| drop(to.write_all(answer)), None)
    }

    fn url(&self, host: &str) -> Url {
        Url::parse(&format!("http://{host}:{}/keys", self.port)).unwrap()
    }

    fn secure_url(&self, host: &str) -> Url {
        Url::parse(&format!("https://{host}:{}/keys", self.port)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(stream: &mut (impl Read + Write), seen: &Mutex<Vec<String>>, answer: &impl Fn(&mut dyn Write, &str)) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    if !head.is_empty() {
        let head = String::from_utf8(head).unwrap();
        seen.lock().unwrap().push(head.clone());
        answer(stream, &head);
        let _ = stream.flush();
    }
}

async fn get(server: &Server) -> Result<Answer, FetchError> {
    HttpsFetch::new().get(&server.url("127.0.0.1"), &Reach::default(), None, Limits::ISSUER).await
}

fn document(max_age: Option<Duration>) -> Answer {
    Answer::Document(Fetched { bytes: b"{}".to_vec(), max_age, etag: None })
}

fn loopback() -> Reach {
    Reach { allow_networks: vec!["127.0.0.0/8".parse().unwrap()], ..Reach::default() }
}

fn fetch_with(lookup: Lookup) -> HttpsFetch {
    HttpsFetch { lookup, ..HttpsFetch::new() }
}

#[tokio::test]
async fn a_document_is_fetched_whatever_its_type_with_nothing_but_the_request() {
    for head in [
        "Content-Type: application/json\r\n",
        "Content-Type: text/plain\r\n",
        "Content-Type: binary/octet-stream\r\n",
        "Content-Type: application/json ;charset=utf-8\r\n",
        "",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\n{{}}");
        let server = Server::start(move |to, _| drop(to.write_all(answer.as_bytes())), None);
        assert_eq!(get(&server).await, Ok(document(None)), "{head}");
        let requests = server.requests();
        let lines = requests[0].trim_end().lines().collect::<Vec<_>>();
        let names = lines[1..].iter().map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>();
        assert_eq!(lines[0], "GET /keys HTTP/1.1");
        assert_eq!(names, ["accept", "user-agent", "host"], "no credentials, cookies or compression");
    }
}

#[tokio::test]
async fn where_fetches_are_traced_the_server_is_told_a_trace_of_its_own_each_time() {
    let server = Server::plain(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let outboxes = crate::telemetry::otlp::Outboxes::new();
    let fetch = HttpsFetch::new().tracing(outboxes.tracer(1, Arc::new(crate::time::SystemClock)));
    for _ in 0..2 {
        fetch.get(&server.url("127.0.0.1"), &Reach::default(), None, Limits::ISSUER).await.unwrap();
    }
    let requests = server.requests();
    let told =
        requests.iter().map(|request| request.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap());
    let told: std::collections::BTreeSet<&str> = told.collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.iter().all(|header| crate::telemetry::trace::Link::parse(header).is_some()), "{told:?}");
}

#[tokio::test]
async fn cookies_are_not_kept_between_requests() {
    let server = Server::plain(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let fetch = HttpsFetch::new();
    for _ in 0..2 {
        fetch.get(&server.url("127.0.0.1"), &Reach::default(), None, Limits::ISSUER).await.unwrap();
    }
    assert!(server.requests().iter().all(|request| !request.to_lowercase().contains("cookie")));
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn only_status_200_is_an_answer_and_redirects_are_not_followed() {
    let target = Server::plain(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    for status in [201, 203, 204, 206, 301, 302, 303, 307, 308, 400, 404, 500, 503] {
        let to = target.url("127.0.0.1");
        let answer = format!("HTTP/1.1 {status} X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        let server = Server::start(move |to, _| drop(to.write_all(answer.as_bytes())), None);
        assert_eq!(get(&server).await, Err(FetchError::Status(status)));
    }
    assert!(target.requests().is_empty());
}

#[tokio::test]
async fn no_more_than_100_kib_are_read() {
    let sized = |length: usize| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + length, b' ');
        Server::start(move |to, _| drop(to.write_all(&answer)), None)
    };
    let Ok(Answer::Document(largest)) = get(&sized(MAX_BODY)).await else { panic!("it fits") };
    assert_eq!(largest.bytes.len(), MAX_BODY);
    assert_eq!(get(&sized(MAX_BODY + 1)).await, Err(FetchError::TooLarge(MAX_BODY)));
    assert_eq!(get(&sized(10 * 1024 * 1024)).await, Err(FetchError::TooLarge(MAX_BODY)));
    // The limit is the caller's.
    for (most, length, fits) in [(1 << 20, 1 << 20, true), (1 << 20, (1 << 20) + 1, false), (1, 2, false)] {
        let limits = Limits { body: most, ..Limits::ISSUER };
        let answer = HttpsFetch::new().get(&sized(length).url("127.0.0.1"), &Reach::default(), None, limits).await;
        assert_eq!(answer.is_ok(), fits, "{most} {length}");
    }
    // Without a length, for as long as we read.
    let endless = Server::start(
        |to, _| {
            let _ = to.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while to.write_all(b"3e8\r\n").is_ok()
                && to.write_all(&[b' '; 1000]).is_ok()
                && to.write_all(b"\r\n").is_ok()
            {}
        },
        None,
    );
    assert_eq!(get(&endless).await, Err(FetchError::TooLarge(MAX_BODY)));
}

#[tokio::test]
async fn a_compressed_answer_is_refused() {
    let server = Server::plain(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\x1f\x8b");
    assert_eq!(get(&server).await, Err(FetchError::Encoded));
}

#[tokio::test]
async fn a_slow_answer_is_given_up() {
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    ] {
        // The server holds the connection open and says no more.
        let server = Server::plain(begun.as_bytes());
        let limits = Limits { time: Duration::from_millis(50), ..Limits::ISSUER };
        let answer = HttpsFetch::new().get(&server.url("127.0.0.1"), &Reach::default(), None, limits).await;
        assert_eq!(answer, Err(FetchError::TimedOut(limits.time)), "{begun:?}");
    }
}

#[tokio::test]
async fn a_broken_answer_is_an_error() {
    let garbage = Server::plain(b"SSH-2.0-OpenSSH\r\n\r\n");
    assert!(matches!(get(&garbage).await, Err(FetchError::Broken(_))));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    drop(listener);
    let closed = HttpsFetch::new().get(&url, &Reach::default(), None, Limits::ISSUER).await;
    assert!(matches!(closed, Err(FetchError::Connect(_))), "{closed:?}");
    let cut = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", cut.local_addr().unwrap())).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = cut.accept().unwrap();
        let _ = socket.read(&mut [0; 4096]);
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{");
    });
    assert!(matches!(
        HttpsFetch::new().get(&url, &Reach::default(), None, Limits::ISSUER).await,
        Err(FetchError::Broken(_))
    ));
}

#[tokio::test]
async fn http_goes_to_this_machine_only() {
    let server = Server::plain(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let fetch = HttpsFetch::new();
    assert!(fetch.get(&server.url("127.0.0.1"), &Reach::default(), None, Limits::ISSUER).await.is_ok());
    assert!(fetch.get(&server.url("localhost"), &Reach::default(), None, Limits::ISSUER).await.is_ok());
    // Not to the outside, whether public or allowed.
    let reach = Reach { allow_networks: vec!["10.0.0.0/8".parse().unwrap()], ..Reach::default() };
    for host in ["8.8.8.8", "10.0.0.1", "[2606:4700::1]", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let answer = fetch.get(&server.url(host), &reach, None, Limits::ISSUER).await;
        assert!(matches!(answer, Err(FetchError::Forbidden { .. })), "{host}: {answer:?}");
    }
    let outside = fetch_with(|_| Ok(vec!["8.8.8.8".parse().unwrap(), "10.0.0.1".parse().unwrap()]));
    let answer = outside.get(&server.url("issuer.test"), &reach, None, Limits::ISSUER).await;
    let expected = FetchError::Forbidden { host: "issuer.test".into(), address: "8.8.8.8".parse().unwrap() };
    assert_eq!(answer, Err(expected));
}

#[tokio::test]
async fn https_goes_to_no_private_address_by_number_or_by_name() {
    let fetch = HttpsFetch::new();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "169.254.169.254",
        "10.0.0.1",
        "[::1]",
        "[::ffff:7f00:1]",
        "[fd00:ec2::254]",
    ] {
        let url = Url::parse(&format!("https://{host}/keys")).unwrap();
        let answer = fetch.get(&url, &Reach::default(), None, Limits::ISSUER).await;
        assert!(matches!(answer, Err(FetchError::Forbidden { .. })), "{host}: {answer:?}");
    }
    // Its own authorities, so that the machine's play no part.
    let (server, pem) = secure_server();
    let reach = Reach { ca_pem: Some(pem), ..Reach::default() };
    let answer = fetch.get(&server.secure_url("localhost"), &reach, None, Limits::ISSUER).await;
    assert!(matches!(answer, Err(FetchError::Forbidden { .. })), "{answer:?}");
    for inside in [
        |_: &str| Ok(vec!["127.0.0.1".parse().unwrap()]),
        |_: &str| Ok(vec!["::1".parse().unwrap(), "127.0.0.1".parse().unwrap()]),
        |_: &str| Ok(vec!["::ffff:127.0.0.1".parse().unwrap()]),
        |_: &str| Ok(vec!["169.254.169.254".parse().unwrap()]),
    ] as [Lookup; 4]
    {
        let answer = fetch_with(inside).get(&server.secure_url("issuer.test"), &reach, None, Limits::ISSUER).await;
        assert!(matches!(answer, Err(FetchError::Forbidden { .. })), "{answer:?}");
    }
    assert!(server.requests().is_empty());
    let unknown = fetch_with(|_| Ok(vec![])).get(&server.secure_url("issuer.test"), &reach, None, Limits::ISSUER).await;
    assert_eq!(unknown, Err(FetchError::NoAddress("issuer.test".into())));
}

#[tokio::test]
async fn only_plain_https_urls_are_fetched() {
    let server = Server::plain(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let port = server.port;
    for url in [
        format!("http://user@127.0.0.1:{port}/"),
        format!("http://user:password@127.0.0.1:{port}/"),
        format!("http://:password@127.0.0.1:{port}/"),
        format!("ftp://127.0.0.1:{port}/"),
        "file:///etc/hosts".into(),
        "data:application/json,{}".into(),
    ] {
        let answer = HttpsFetch::new().get(&Url::parse(&url).unwrap(), &loopback(), None, Limits::ISSUER).await;
        assert_eq!(answer, Err(FetchError::Url), "{url}");
    }
    assert!(server.requests().is_empty());
}

/// A certificate authority, and a server with a certificate of it for `issuer.test`.
fn secure_server() -> (Server, Vec<u8>) {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_pem = params.clone().self_signed(&authority_key).unwrap().pem();
    let authority = Issuer::new(params, authority_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["issuer.test".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let answer = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=600\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let server = Server::start(move |to, _| drop(to.write_all(answer)), Some(Arc::new(config)));
    (server, authority_pem.into_bytes())
}

#[tokio::test]
async fn an_issuers_own_authorities_are_the_only_ones_for_it() {
    let (server, pem) = secure_server();
    let (_, other) = secure_server();
    let fetch = fetch_with(|_| Ok(vec!["169.254.169.254".parse().unwrap(), "127.0.0.1".parse().unwrap()]));
    let with = |ca_pem: Option<Vec<u8>>| Reach { ca_pem, ..loopback() };
    let url = server.secure_url("issuer.test");
    let expected = document(Some(Duration::from_secs(600)));
    // The forbidden address beside the allowed one is not tried.
    assert_eq!(fetch.get(&url, &with(Some(pem.clone())), None, Limits::ISSUER).await, Ok(expected.clone()));
    assert_eq!(
        fetch.get(&url, &with(Some([other.clone(), pem.clone()].concat())), None, Limits::ISSUER).await,
        Ok(expected)
    );
    let answer = fetch.get(&url, &with(Some(other)), None, Limits::ISSUER).await;
    assert!(matches!(&answer, Err(FetchError::Connect(why)) if why.contains("certificate")), "{answer:?}");
    // Another name than the certificate's.
    let answer = fetch.get(&server.secure_url("other.test"), &with(Some(pem)), None, Limits::ISSUER).await;
    assert!(matches!(&answer, Err(FetchError::Connect(why)) if why.contains("certificate")), "{answer:?}");
    for bundle in [&b""[..], b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let answer = fetch.get(&url, &with(Some(bundle.to_vec())), None, Limits::ISSUER).await;
        assert!(matches!(answer, Err(FetchError::Authorities(_))), "{answer:?}");
    }
    assert_eq!(server.requests().len(), 2);
}

/// The system's authorities are found through the environment, which only another process can have different: the
/// test starts itself, from this binary, with each of these, and told so by a variable does its second half.
#[test]
#[expect(clippy::disallowed_methods, reason = "how the first half tells the second what to expect")]
fn the_systems_authorities_count_only_for_issuers_without_their_own() {
    if let Ok(told) = std::env::var("SECOND_HALF") {
        let (port, expected) = told.split_once(' ').unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(with_the_systems_authorities(port, expected == "trusted"));
    }
    let (server, pem) = secure_server();
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("system.pem");
    std::fs::write(&bundle, pem).unwrap();
    for (bundle, expected) in [(bundle.as_path(), "trusted"), (std::path::Path::new("/dev/null"), "none")] {
        let this = "identity::fetch::tests::the_systems_authorities_count_only_for_issuers_without_their_own";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", this])
            .env("SSL_CERT_FILE", bundle)
            .env_remove("SSL_CERT_DIR")
            .env("SECOND_HALF", format!("{} {expected}", server.port))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{expected}: {text}");
    }
}

async fn with_the_systems_authorities(port: &str, trusted: bool) {
    let url = Url::parse(&format!("https://issuer.test:{port}/keys")).unwrap();
    let fetch = fetch_with(|_| Ok(vec!["127.0.0.1".parse().unwrap()]));
    let answer = fetch.get(&url, &loopback(), None, Limits::ISSUER).await;
    if trusted {
        assert_eq!(answer, Ok(document(Some(Duration::from_secs(600)))));
    } else {
        assert!(matches!(answer, Err(FetchError::Authorities(_))), "{answer:?}");
    }
    // A bundle of its own stands alone, with or without the system's.
    let (own_server, own) = secure_server();
    let reach = Reach { ca_pem: Some(own), ..loopback() };
    assert!(fetch.get(&own_server.secure_url("issuer.test"), &reach, None, Limits::ISSUER).await.is_ok());
    let answer = fetch.get(&url, &reach, None, Limits::ISSUER).await;
    assert!(matches!(&answer, Err(FetchError::Connect(why)) if why.contains("certificate")), "{answer:?}");
    // The demonstration needs none.
    let plain = Server::plain(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    assert!(fetch.get(&plain.url("127.0.0.1"), &Reach::default(), None, Limits::ISSUER).await.is_ok());
}

#[tokio::test]
async fn clients_are_kept_for_each_reach_and_bounded() {
    let server = Server::plain(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
    let fetch = HttpsFetch::new();
    for round in 0..MAX_CLIENTS + 2 {
        let network = format!("10.0.{round}.0/24").parse().unwrap();
        let reach = Reach { allow_networks: vec![network], ..Reach::default() };
        fetch.get(&server.url("127.0.0.1"), &reach, None, Limits::ISSUER).await.unwrap();
        fetch.get(&server.url("127.0.0.1"), &reach, None, Limits::ISSUER).await.unwrap();
        assert!(fetch.clients.lock().unwrap().len() <= MAX_CLIENTS);
    }
    assert_eq!(fetch.clients.lock().unwrap().len(), 2);
}

#[test]
fn freshness_is_read_from_the_headers() {
    let read = |lines: &[(&'static str, &str)]| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        max_age(&headers).map(|age| age.as_secs())
    };
    for (lines, expected) in [
        (&[][..], None),
        (&[("cache-control", "max-age=600")], Some(600)),
        (&[("cache-control", "public, max-age=600, must-revalidate")], Some(600)),
        (&[("cache-control", "public"), ("cache-control", "Max-Age=600")], Some(600)),
        (&[("cache-control", "max-age=\"600\"")], Some(600)),
        (&[("cache-control", "max-age=600"), ("age", "100")], Some(500)),
        (&[("cache-control", "max-age=600"), ("age", "1000")], Some(0)),
        (&[("cache-control", "max-age=600"), ("age", "-5")], Some(600)),
        (&[("cache-control", "no-store")], Some(0)),
        (&[("cache-control", "max-age=600, no-cache")], Some(0)),
        (&[("cache-control", "s-maxage=600")], None),
        (&[("cache-control", "max-age=")], None),
        (&[("cache-control", "max-age=-1")], None),
        (&[("cache-control", "max-age=99999999999999999999999")], None),
        (&[("cache-control", "max-age=18446744073709551615")], Some(u64::MAX)),
        (&[("age", "100")], None),
    ] {
        assert_eq!(read(lines), expected, "{lines:?}");
    }
}

#[tokio::test]
async fn a_known_document_is_asked_for_by_its_tag_and_only_then_may_be_unchanged() {
    let answer = |to: &mut dyn Write, head: &str| {
        let known = head.to_lowercase().contains("if-none-match: \"v1\"\r\n");
        let changed = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
        let same = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nCache-Control: max-age=90\r\n\r\n";
        drop(to.write_all(if known { same } else { changed }.as_bytes()));
    };
    let server = Server::start(answer, None);
    let (fetch, url) = (HttpsFetch::new(), server.url("127.0.0.1"));
    let Ok(Answer::Document(first)) = fetch.get(&url, &Reach::default(), None, Limits::ISSUER).await else {
        panic!("a document")
    };
    assert_eq!(first.etag.as_deref(), Some("\"v1\""));
    let again = fetch.get(&url, &Reach::default(), first.etag.as_deref(), Limits::ISSUER).await;
    assert_eq!(again, Ok(Answer::NotModified { max_age: Some(Duration::from_secs(90)) }));
    let other = fetch.get(&url, &Reach::default(), Some("\"v0\""), Limits::ISSUER).await;
    assert!(matches!(other, Ok(Answer::Document(_))), "{other:?}");

    let unasked = Server::plain(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(get(&unasked).await, Err(FetchError::Status(304)));
    let long = format!("HTTP/1.1 200 OK\r\nETag: \"{}\"\r\nContent-Length: 2\r\n\r\n{{}}", "x".repeat(300));
    let server = Server::start(move |to, _| drop(to.write_all(long.as_bytes())), None);
    assert_eq!(get(&server).await, Ok(document(None)), "a tag that is too long is not kept");
}

#[tokio::test]
async fn a_proxy_is_used_for_the_issuer_that_names_one_and_for_no_other() {
    let proxy = Server::plain(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
    let through = |host: &str| Reach {
        proxy: Some(Url::parse(&format!("http://{host}:{}", proxy.port)).unwrap()),
        ..Reach::default()
    };
    // The proxy is where the operator says, inside or not; the issuer's name is looked up by the proxy.
    let fetch = fetch_with(|host| match host {
        "proxy.test" => Ok(vec!["127.0.0.1".parse().unwrap()]),
        other => panic!("{other} is looked up"),
    });
    let url = Url::parse("https://issuer.test/keys").unwrap();
    for host in ["proxy.test", "127.0.0.1"] {
        let answer = fetch.get(&url, &through(host), None, Limits::ISSUER).await;
        assert!(matches!(answer, Err(FetchError::Connect(_))), "{answer:?}");
    }
    let requests = proxy.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.starts_with("CONNECT issuer.test:443 HTTP/1.1\r\n")), "{requests:?}");
    // An address in the URL is judged as ever, and what is on this machine is not asked for through another.
    let inside = Url::parse("https://169.254.169.254/keys").unwrap();
    assert!(matches!(
        fetch.get(&inside, &through("proxy.test"), None, Limits::ISSUER).await,
        Err(FetchError::Forbidden { .. })
    ));
    let local = Server::plain(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    assert!(fetch.get(&local.url("127.0.0.1"), &through("proxy.test"), None, Limits::ISSUER).await.is_ok());
    assert_eq!(proxy.requests().len(), 2);
}
