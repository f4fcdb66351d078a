//! `/v1/authorize`: forward-auth, asked as proxies ask, and behind a real nginx.

use std::fs;
use std::io::ErrorKind;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use actix_web::App;
use actix_web::dev::Service as _;
use actix_web::test::TestRequest;
use actix_web::test::init_service;
use actix_web::web;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::http;
use trustmint::http::Public;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::support::Service;
use crate::support::front::Process;
use crate::support::front::free_address;
use crate::support::front::said;
use crate::support::front::tool;
use crate::support::redis::PATIENCE;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy_text;
use crate::support::tenants::TOOLS_KEY;
use crate::support::tenants::narrowed;
use crate::support::tenants::tenants_with;

/// What is uploaded.
const BODY: &str = "data";
/// What a store wants that was there before.
const STORES_OWN: &str = "Basic dXA6c2VjcmV0";

const ALLOW: &str = "allow: [{method: PUT, path: \"/files/{package}/{version}/{*}\", action: upload}, {method: DELETE, \
                     path: \"/files/{package}/{version}/{*}\", action: yank}, {method: GET, path: \
                     \"/files/{package}/{**}\", action: read}]";

/// Two registries with routes, asked by this proxy, and one without.
async fn behind(proxy: &str) -> Service {
    let members = format!(", routes: {{proxy: {proxy}, {ALLOW}}}");
    Service::with_policy(|base, issuer| tenants_with(base, issuer, &members)).await
}

async fn ask(service: &Service, headers: &[(&str, &str)]) -> Answer {
    let mut request = service.client.get(format!("{}/v1/authorize", service.base));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    Answer::of(request.send().await.unwrap()).await
}

/// As nginx asks.
async fn nginx(service: &Service, authorization: &str, method: &str, uri: &str) -> Answer {
    let asked = [
        ("x-trustmint-key", TOOLS_KEY),
        ("authorization", authorization),
        ("x-original-method", method),
        ("x-original-uri", uri),
    ];
    ask(service, &asked).await
}

#[track_caller]
fn refused(answer: &Answer, status: u16, code: &str) {
    let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap());
    assert_eq!((answer.status, header("x-trustmint-code")), (status, Some(code)), "{:?}", answer.headers);
    assert!(!header("x-trustmint-detail").unwrap().is_empty());
    assert_eq!(header("cache-control"), Some("no-store"));
    assert_eq!(answer.text, "");
}

#[actix_web::test]
async fn what_a_route_lists_passes_with_a_token_that_allows_it() {
    let service = behind("nginx").await;
    let token = service.upload_token_for("tools-aud").await;
    let bearer = format!("Bearer {token}");
    for (method, uri) in [
        ("PUT", "/files/widgets/1.0/w.tgz"),
        ("DELETE", "/files/widgets/1.0/w.tgz"),
        ("GET", "/files/widgets/1.0/w.tgz"),
        ("GET", "/files/widgets/a/b/c/d"),
    ] {
        let answer = nginx(&service, &bearer, method, uri).await;
        assert_eq!(answer.status, 200, "{method} {uri}: {:?}", answer.headers);
        assert_eq!(answer.headers["x-trustmint-token-id"].len(), 36);
    }
    for user in ["__token__", "", "a:b"] {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{token}")));
        let expected = if user == "a:b" { 403 } else { 200 };
        assert_eq!(nginx(&service, &basic, "PUT", "/files/widgets/1.0/w").await.status, expected, "{user}");
    }
    refused(&nginx(&service, &bearer, "PUT", "/files/gadgets/1.0/w").await, 403, "package-not-covered");
    // A caveat about the version is met by the path's; one about the file cannot be met here.
    let put = async |caveat: &str, uri: &str| {
        nginx(&service, &format!("Bearer {}", narrowed(&token, caveat)), "PUT", uri).await
    };
    assert_eq!(put("version 1.0", "/files/widgets/1.0/w").await.status, 200);
    refused(&put("version 1.0", "/files/widgets/2.0/w").await, 403, "version-not-covered");
    refused(&put("max-size 10", "/files/widgets/1.0/w").await, 403, "fact-not-stated");
    refused(&put("uses 1", "/files/widgets/1.0/w").await, 403, "consume-required");
    let revoke = service.post("/v1/revoke", "application/x-www-form-urlencoded", format!("token={token}")).await;
    assert_eq!(revoke.status, 200);
    refused(&nginx(&service, &bearer, "PUT", "/files/widgets/1.0/w").await, 403, "upload-token-revoked");
}

#[actix_web::test]
async fn who_asks_and_for_whom_is_said_once_and_by_the_policys_proxy() {
    let service = behind("nginx").await;
    let bearer = format!("Bearer {}", service.upload_token_for("tools-aud").await);
    let (key, token) = (("x-trustmint-key", TOOLS_KEY), ("authorization", bearer.as_str()));
    let (method, uri) = (("x-original-method", "PUT"), ("x-original-uri", "/files/widgets/1.0/w"));
    assert_eq!(ask(&service, &[key, token, method, uri]).await.status, 200);
    let other = ("x-original-uri", "/files/widgets/1.0/other");
    for (asked, code) in [
        (vec![token, method, uri], "bad-api-key"),
        (vec![("x-trustmint-key", "another"), token, method, uri], "bad-api-key"),
        (vec![key, key, token, method, uri], "bad-api-key"),
        (vec![("x-trustmint-key", API_KEY), token, method, uri], "route-not-allowed"),
        (vec![key, token, method], "route-not-allowed"),
        (vec![key, token, uri], "route-not-allowed"),
        (vec![key, token, method, uri, other], "route-not-allowed"),
        (vec![key, token, method, method, uri], "route-not-allowed"),
        (vec![key, token, ("x-forwarded-method", "PUT"), ("x-forwarded-uri", uri.1)], "route-not-allowed"),
    ] {
        refused(&ask(&service, &asked).await, 403, code);
    }
    for path in ["/v1/authorize/files/widgets/1.0/w", "/v1/authorize?x=1"] {
        let request = service.client.put(format!("{}{path}", service.base)).header(key.0, key.1);
        let answer = Answer::of(request.header(token.0, token.1).send().await.unwrap()).await;
        refused(&answer, 403, "route-not-allowed");
    }
    for authorization in ["", "Bearer", "Bearer ", "Basic", "Basic !", "Basic YQ==", "Basic YTo=", "Digest x"] {
        let answer = nginx(&service, authorization, "PUT", uri.1).await;
        refused(&answer, 401, "upload-token-missing");
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    }
    refused(&ask(&service, &[key, method, uri]).await, 401, "upload-token-missing");
    refused(&ask(&service, &[key, token, token, method, uri]).await, 401, "upload-token-missing");
    service.clock.pass(Duration::from_secs(31));
    refused(&ask(&service, &[key, token, method, uri]).await, 503, "store-unavailable");
}

#[actix_web::test]
async fn what_ends_while_a_place_is_waited_for_is_not_let_through() {
    let service = behind("nginx").await;
    let token = format!("Bearer {}", service.upload_token_for("tools-aud").await);
    let public = web::Data::new(Public::new(Arc::clone(&service.app), Vec::new()));
    let server = init_service(App::new().configure(http::public_routes(public.clone()))).await;
    let mut places = Vec::new();
    while let Ok(place) = public.admit_registry_call().await {
        places.push(place);
    }
    let host = service.base.trim_start_matches("https://").to_owned();
    let asked_while = async |places: &mut Vec<_>, ends: &dyn Fn()| {
        let request = TestRequest::get().uri("/v1/authorize").insert_header(("host", host.as_str()));
        let request = request.insert_header(("x-trustmint-key", TOOLS_KEY)).insert_header(("authorization", &*token));
        let request = request.insert_header(("x-original-method", "PUT"));
        let request = request.insert_header(("x-original-uri", "/files/widgets/1.0/w"));
        let meanwhile = async {
            // Tasks of one thread take turns: by then it waits for a place.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            ends();
            places.pop();
        };
        let (answer, ()) = tokio::join!(server.call(request.to_request()), meanwhile);
        let answer = answer.unwrap();
        let code = answer.headers().get("x-trustmint-code").map(|code| code.to_str().unwrap().to_owned());
        (answer.status().as_u16(), code)
    };
    assert_eq!(asked_while(&mut places, &|| ()).await, (200, None));
    places.push(public.admit_registry_call().await.unwrap());
    let disabled = || {
        let members = format!(", enabled: false, routes: {{proxy: nginx, {ALLOW}}}");
        service.app.activate(tenants_with(&service.base, service.provider.issuer(), &members));
    };
    assert_eq!(asked_while(&mut places, &disabled).await, (403, Some("registry-disabled".to_owned())));
    places.push(public.admit_registry_call().await.unwrap());
    let members = format!(", routes: {{proxy: nginx, {ALLOW}}}");
    service.app.activate(tenants_with(&service.base, service.provider.issuer(), &members));
    let expired = || service.clock.pass(Duration::from_secs(3600));
    assert_eq!(asked_while(&mut places, &expired).await, (403, Some("upload-token-expired".to_owned())));
}

#[actix_web::test]
async fn traefik_and_envoy_say_it_in_their_own_ways_and_in_no_other() {
    let traefik = behind("traefik").await;
    let bearer = format!("Bearer {}", traefik.upload_token_for("tools-aud").await);
    let (key, token) = (("x-trustmint-key", TOOLS_KEY), ("authorization", bearer.as_str()));
    let said = [("x-forwarded-method", "PUT"), ("x-forwarded-uri", "/files/widgets/1.0/w")];
    assert_eq!(ask(&traefik, &[key, token, said[0], said[1]]).await.status, 200);
    refused(&nginx(&traefik, &bearer, "PUT", "/files/widgets/1.0/w").await, 403, "route-not-allowed");

    let envoy = behind("envoy").await;
    let bearer = format!("Bearer {}", envoy.upload_token_for("tools-aud").await);
    let ask = async |method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = envoy.client.request(method, format!("{}/v1/authorize{path}", envoy.base));
        let request = request.header("x-trustmint-key", TOOLS_KEY).header("authorization", &bearer);
        Answer::of(request.send().await.unwrap()).await
    };
    assert_eq!(ask("PUT", "/files/widgets/1.0/w").await.status, 200);
    for (method, path) in [
        ("POST", "/files/widgets/1.0/w"),
        ("PUT", ""),
        ("PUT", "/"),
        ("PUT", "//files/widgets/1.0/w"),
        ("PUT", "/files/widgets/1.0/w?x"),
        ("PUT", "/files/widgets%2f1.0/w/x"),
        ("PUT", "/files/%252e/1.0/w"),
        ("PUT", "/files/wid%67ets/1.0/w"),
        ("PUT", "x/files/widgets/1.0/w"),
    ] {
        let answer = ask(method, path).await;
        assert!(matches!(answer.status, 403 | 404), "{method} {path}: {}", answer.status);
    }
    refused(&nginx(&envoy, &bearer, "PUT", "/files/widgets/1.0/w").await, 403, "route-not-allowed");
}

#[test]
fn routes_are_read_strictly_and_not_for_dialects_that_name_packages_in_bodies() {
    let text = policy_text("https://a.example", "http://127.0.0.1:1", WIDGETS);
    let load = |dialect: &str, routes: &str| {
        let text = text.replace("dialect: pypi", &format!("dialect: {dialect}\n    routes: {routes}"));
        let source = Source { name: "policy.yaml".into(), text };
        Policy::load(&[source], &|_, _| None).map_or_else(|faults| faults.to_string(), |_| "good".to_owned())
    };
    let good = format!("{{proxy: nginx, {ALLOW}}}");
    assert_eq!(load("generic", &good), "good");
    assert!(load("pypi", &good).contains("name their package in the body"));
    for (routes, words) in [
        ("{allow: []}", "`proxy: nginx`"),
        ("{proxy: apache, allow: []}", "apache"),
        ("{proxy: nginx}", "list what is let through"),
        ("{proxy: nginx, allow: []}", "is empty"),
        ("{proxy: nginx, allow: [{method: put, path: \"/{package}\", action: upload}]}", "in capitals"),
        ("{proxy: nginx, allow: [{method: PUT, path: \"/files\", action: upload}]}", "{package} exactly once"),
        ("{proxy: nginx, allow: [{method: PUT, path: \"/{package}\", action: \"UP LOAD\"}]}", "is not an action"),
        ("{proxy: nginx, allow: [{method: PUT, path: \"/{package}\"}]}", "what such a request does"),
        (
            "{proxy: nginx, allow: [{method: PUT, path: \"/{package}\", action: upload}, {method: PUT, path: \
             \"/{package}\", action: yank}]}",
            "listed twice",
        ),
    ] {
        let faults = load("generic", routes);
        assert!(faults.contains(words), "{routes}: {faults}");
    }
}

/// What the store wants of its clients.
const CREDENTIAL: &str = "Basic c3RvcmU6c3RhdGljK3NlY3JldA==";

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start_nginx(configuration: &Path, port: u16) -> Running {
    let mut command = Command::new("nginx");
    command.arg("-c").arg(configuration).args(["-e", "stderr", "-g", "daemon off; master_process off;"]);
    let running = Running(command.spawn().expect("nginx is installed: apt-get install nginx"));
    for _ in 0..500 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return running;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("nginx does not listen: see its error log beside {}", configuration.display());
}

/// One request, byte for byte.
fn raw(port: u16, method: &str, target: &str, token: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // nginx's store takes no DELETE with a body.
    let body = if method == "DELETE" { "" } else { "evil" };
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: tools\r\nAuthorization: Bearer {token}\r\nX-Original-URI: \
         /files/widgets/1.0/w\r\nX-Original-Method: GET\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _closed = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path.display().to_string()) }
    }
    files
}

#[actix_web::test]
async fn behind_nginx_no_hostile_path_reaches_the_store() {
    let service = behind("nginx").await;
    let token = service.upload_token_for("tools-aud").await;
    let directory = tempfile::tempdir().unwrap();
    let store_root = directory.path().join("store");
    fs::create_dir_all(&store_root).unwrap();
    fs::write(directory.path().join("ca.pem"), &service.authority_pem).unwrap();
    let (front, store) = (free_port(), free_port());
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/forward-auth/nginx.conf.template");
    let own = directory.path().display().to_string();
    let mut text = fs::read_to_string(&template).unwrap();
    for (name, value) in [
        ("@DIRECTORY@", own.as_str()),
        ("@LISTEN@", &format!("127.0.0.1:{front}")),
        ("@STORE@", &format!("127.0.0.1:{store}")),
        ("@TRUSTMINT@", service.base.as_str()),
        ("@TRUSTMINT_NAME@", "localhost"),
        ("@CA@", &format!("{own}/ca.pem")),
        ("@API_KEY@", TOOLS_KEY),
        ("@CREDENTIAL@", CREDENTIAL),
    ] {
        text = text.replace(name, value);
    }
    // The store is nginx too: it takes every PUT and DELETE with its credential, and decodes and merges as such stores do.
    let mut store_text = fs::read_to_string(template.with_file_name("store.conf.template")).unwrap();
    for (name, value) in [
        ("@STORE@", format!("127.0.0.1:{store}")),
        ("@FILES@", store_root.display().to_string()),
        ("@CREDENTIAL@", CREDENTIAL.to_owned()),
    ] {
        store_text = store_text.replace(name, &value);
    }
    // Every request here comes with these two: none may reach the store.
    let known = "if ($stranger) { return 401; }";
    assert!(store_text.contains(known));
    let seen = format!("{known} if ($http_x_original_uri$http_x_original_method) {{ return 418; }}");
    store_text = store_text.replace(known, &seen);
    fs::write(directory.path().join("store.conf"), store_text).unwrap();
    // Requests are written byte for byte here, so without TLS.
    fs::write(directory.path().join("tls.conf"), "").unwrap();
    let configuration = directory.path().join("nginx.conf");
    fs::write(&configuration, text).unwrap();
    let _nginx = start_nginx(&configuration, front);

    let put = async |method: &'static str, target: String, token: String| {
        tokio::task::spawn_blocking(move || raw(front, method, &target, &token)).await.unwrap()
    };
    let good = put("PUT", "/files/widgets/1.0/w.tgz".to_owned(), token.clone()).await;
    assert!(good.starts_with("HTTP/1.1 201"), "{good}");
    let kept = files_below(&store_root);
    assert!(kept.len() == 1 && kept[0].ends_with("/files/widgets/1.0/w.tgz"), "{kept:?}");

    // What is published is not replaced, neither by a file nor by a folder's name.
    for target in ["/files/widgets/1.0/w.tgz", "/files/widgets/1.0/w.tgz/x"] {
        let again = put("PUT", target.to_owned(), token.clone()).await;
        assert!(!again.starts_with("HTTP/1.1 2"), "{target}: {again}");
    }
    let again = put("PUT", "/files/widgets/1.0/w.tgz".to_owned(), token.clone()).await;
    assert!(again.starts_with("HTTP/1.1 409") && again.contains("stays as it is"), "{again}");
    assert_eq!(files_below(&store_root), kept);

    // The store knows its own credential and nothing of tokens.
    for around in [token.clone(), String::new()] {
        let around = tokio::task::spawn_blocking(move || raw(store, "PUT", "/files/widgets/1.0/around", &around));
        assert!(around.await.unwrap().starts_with("HTTP/1.1 401"));
    }

    let others = store_root.join("files/gadgets/1.0/w");
    fs::create_dir_all(others.parent().unwrap()).unwrap();
    fs::write(&others, "of another").unwrap();
    let kept = files_below(&store_root);
    for target in [
        "/files/gadgets/1.0/w",
        "/files/widgets%252f..%252fgadgets/1.0/w",
        "/files/widgets/1.0/%252e%252e%252f%252e%252e%252fgadgets%252f1.0%252fw",
        "/files/widgets/../gadgets/1.0/w",
        "/files/widgets/%2e%2e/gadgets/1.0/w",
        "/files/widgets/../gadgets/w",
        "/files/widgets/1.0/../../gadgets/w",
        "/files/widgets/%2e%2e/gadgets/w",
        "/files/widgets/1.0/%2e%2e%2f%2e%2e%2fgadgets",
        "/files/widgets/..%2fgadgets/w",
        "/files/widgets%2f..%2fgadgets/1.0/w",
        "/files/%252e%252e/1.0/w",
        "/files//widgets/1.0/w",
        "//files/widgets/1.0/w",
        "/files/widgets/1.0//w",
        "/files/widgets/1.0/w/",
        "/files/./widgets/1.0/w",
        "/files/widgets/1.0/w?x=1",
        "/files/widgets/1.0/w;x",
        "/files/widgets/1.0/w%00",
        "/files/widgets/1.0/w%5c..%5cx",
        "/files/widgets\\..\\gadgets/1.0/w",
        "/files/wid%67ets/1.0/w",
        "/files/w\u{ef}dgets/1.0/w",
        "/other/widgets/1.0/w",
        "/files/widgets/w",
        "/_trustmint",
        "http://127.0.0.1/files/../gadgets/1.0/w",
        "*",
    ] {
        for method in ["PUT", "GET"] {
            let answer = put(method, target.to_owned(), token.clone()).await;
            let status = answer.split(' ').nth(1).unwrap_or_default();
            assert!(["400", "403", "404", "405"].contains(&status), "{method} {target}: {answer}");
            assert!(!answer.contains("of another"), "{method} {target}: {answer}");
        }
    }
    for (method, target, token, expected) in [
        ("MKCOL", "/files/widgets/1.0/new", token.clone(), " 403"),
        ("COPY", "/files/widgets/1.0/w.tgz", token.clone(), " 403"),
        ("POST", "/files/widgets/1.0/w.tgz", token.clone(), " 403"),
        ("PATCH", "/files/widgets/1.0/w.tgz", token.clone(), " 403"),
        ("PROPPATCH", "/files/widgets/1.0/w.tgz", token.clone(), " 403"),
        ("MOVE", "/files/widgets/1.0/w.tgz", token.clone(), " 403"),
        ("DELETE", "/files/gadgets/1.0/w", token.clone(), " 403"),
        ("PUT", "/files/widgets/1.0/x", "garbage".to_owned(), " 403"),
        ("PUT", "/files/widgets/1.0/x", String::new(), " 401"),
    ] {
        let answer = put(method, target.to_owned(), token).await;
        assert!(answer.contains(expected), "{method} {target}: {answer}");
    }
    let said = put("PUT", "/files/gadgets/1.0/w".to_owned(), token.clone()).await;
    assert!(said.contains("package-not-covered: the token is for"), "the reason reaches the client: {said}");
    assert_eq!(files_below(&store_root), kept, "nothing else was stored, and nothing changed");
    let gone = put("DELETE", "/files/widgets/1.0/w.tgz".to_owned(), token).await;
    assert!(gone.starts_with("HTTP/1.1 204"), "{gone}");
}

/// The command that starts the example, with what it needs in that folder.
fn example(service: &Service, folder: &Path, front: SocketAddr, store: SocketAddr) -> Command {
    let path = |name: &str| folder.join(name);
    let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
    fs::write(path("certificate.pem"), certificate.certificate_pem()).unwrap();
    certificate.write_key(&path("key.pem")).unwrap();
    fs::write(path("front.pem"), certificate.authority_pem()).unwrap();
    fs::write(path("service.pem"), &service.authority_pem).unwrap();
    fs::write(path("api-key"), TOOLS_KEY).unwrap();
    fs::set_permissions(path("api-key"), fs::Permissions::from_mode(0o600)).unwrap();
    // Whatever becomes of it, it ends.
    let mut start = Command::new("timeout");
    start.arg("120").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/forward-auth/start"));
    start.env("DIRECTORY", path("run")).env("CERTIFICATE", path("certificate.pem")).env("KEY", path("key.pem"));
    start.env("API_KEY_FILE", path("api-key")).env("TRUSTMINT", &service.base).env("CA", path("service.pem"));
    start.env("LISTEN", front.to_string()).env("STORE", store.to_string()).env("NGINX", tool("TRUSTMINT_TEST_NGINX"));
    start
}

/// Starts it, and gives what it takes to send files through it: the body and the status of the answer.
fn started(start: &mut Command, folder: &Path) -> (Process, impl Fn(String, &str) -> String) {
    let (process, _) = Process::start(start, |child| Box::new(child.stdout.take().unwrap()), "ready: ");
    let ca = folder.join("front.pem");
    let put = move |url: String, authorization: &str| {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-m", "60", "-X", "PUT", "-d", BODY, "-w", " %{http_code}", &url]).arg("--cacert").arg(&ca);
        said(curl.args(["-H", &format!("Authorization: {authorization}")])).success()
    };
    (process, put)
}

#[actix_web::test]
async fn the_example_starts_with_one_command_and_its_store_never_sees_a_token() {
    let service = behind("nginx").await;
    let token = service.upload_token_for("tools-aud").await;
    let directory = tempfile::tempdir().unwrap();
    let (front, store) = (free_address(), free_address());
    let mut start = example(&service, directory.path(), front, store);
    let folder = directory.path().to_owned();
    let answers = tokio::task::spawn_blocking(move || {
        let (_process, put) = started(&mut start, &folder);
        let bearer = format!("Bearer {token}");
        [
            put(format!("https://{front}/files/widgets/1.0/w"), &bearer),
            put(format!("https://{front}/files/gadgets/1.0/w"), &bearer),
            put(format!("https://{front}/files/widgets/1.0/x"), ""),
            put(format!("http://{store}/files/widgets/1.0/y"), &bearer),
        ]
    });
    let answers = answers.await.unwrap();
    for (answer, expected) in answers.iter().zip(["201", "package-not-covered: ", " 401", " 401"]) {
        assert!(answer.contains(expected), "{answers:?}");
    }
    let kept = files_below(&directory.path().join("run/files"));
    assert!(kept.len() == 1 && kept[0].ends_with("/files/widgets/1.0/w"), "{kept:?}");
}

/// A store that takes one request, answers that the file is there, and tells what came, byte for byte.
fn take_one(store: &TcpListener) -> String {
    let (mut stream, _) = store.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut request, end) = (Vec::new(), format!("\r\n\r\n{BODY}"));
    while !request.ends_with(end.as_bytes()) {
        let mut part = [0; 1024];
        let read = stream.read(&mut part).unwrap();
        assert!(read > 0, "it ends early: {}", String::from_utf8_lossy(&request));
        request.extend_from_slice(&part[..read]);
    }
    stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    String::from_utf8(request).unwrap()
}

#[actix_web::test]
async fn a_store_of_ones_own_gets_its_own_credential_once_and_never_a_token() {
    let service = behind("nginx").await;
    let token = service.upload_token_for("tools-aud").await;
    let directory = tempfile::tempdir().unwrap();
    let store = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = free_address();
    let mut start = example(&service, directory.path(), front, store.local_addr().unwrap());
    let folder = directory.path().to_owned();
    let credential = folder.join("credential");
    fs::write(&credential, STORES_OWN).unwrap();
    start.env("CREDENTIAL_FILE", &credential);
    let proof = tokio::task::spawn_blocking(move || {
        let mode = |mode| fs::set_permissions(&credential, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        let refused = start.output().unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert_eq!(said, format!("start: {} is open to everybody: chmod 600 it\n", credential.display()));

        mode(0o600);
        let (_process, put) = started(&mut start, &folder);
        let bearer = format!("Bearer {token}");
        let (sender, stored) = mpsc::channel();
        thread::spawn(move || {
            let request = take_one(&store);
            sender.send((store, request))
        });
        let answer = put(format!("https://{front}/files/widgets/1.0/w"), &bearer);
        assert!(answer.ends_with("201"), "{answer}");
        let (store, request) = stored.recv_timeout(PATIENCE).unwrap();
        assert!(request.starts_with("PUT /files/widgets/1.0/w HTTP/1."), "{request}");
        let credentials: Vec<&str> =
            request.lines().filter(|line| line.to_ascii_lowercase().starts_with("authorization:")).collect();
        assert_eq!(credentials, [format!("Authorization: {STORES_OWN}")], "{request}");
        assert!(!request.contains(&token), "{request}");

        let answer = put(format!("https://{front}/files/gadgets/1.0/w"), &bearer);
        assert!(answer.contains("package-not-covered: ") && answer.ends_with(" 403"), "{answer}");
        // Whoever connects waits here to be let in, whatever becomes of it.
        store.set_nonblocking(true).unwrap();
        assert_eq!(store.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody came to the store");
    });
    proof.await.unwrap();
}
