//! How often one client may be refused before what it asks without a key is refused unseen.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::App;
use actix_web::body::BoxBody;
use actix_web::body::to_bytes;
use actix_web::dev::Service as _;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::http::header::HeaderMap;
use actix_web::rt;
use actix_web::test;
use actix_web::test::TestRequest;
use actix_web::web;
use ipnet::IpNet;
use serde_json::Value;
use serde_json::json;
use trustmint::http;
use trustmint::http::Public;
use trustmint::http::operations::Operators;

use crate::store_contract::faulty;
use crate::store_contract::faulty::Fault;
use crate::support::Service;
use crate::support::codecs::host;
use crate::support::codecs::speaking;
use crate::support::described::assert_described;
use crate::support::service::API_KEY;

const MINT: &str = "/_/oidc/mint-token";
const FORM: &str = "application/x-www-form-urlencoded";
const PROXY: &str = "10.0.0.1";
const STRANGER: &str = "203.0.113.9";
const JOB: &str = "198.51.100.7";

type Answering = Pin<Box<dyn Future<Output = ServiceResponse<BoxBody>>>>;

/// The front door of a service, to which any address can come.
struct Front<'s> {
    service: &'s Service,
    door: Box<dyn Fn(TestRequest) -> Answering>,
}

struct Answered {
    status: u16,
    code: String,
    headers: HeaderMap,
    body: Value,
    text: String,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Fails unless it is refused unseen, and told when to come back.
    #[track_caller]
    fn is_held_up(&self, wait: &str) {
        assert_eq!((self.status, self.code.as_str()), (429, "too-many-refusals"), "{}", self.text);
        assert_eq!(self.header("retry-after"), Some(wait));
        assert_eq!(self.header("cache-control"), Some("no-store"));
    }

    #[track_caller]
    fn is(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code.as_str()), (status, code), "{}", self.text);
    }
}

impl<'s> Front<'s> {
    /// With a proxy of this service's own in 10.0.0.0/8, and so many refusals a minute for each client.
    async fn of(service: &'s Service, quota: Option<u32>) -> Self {
        let proxies: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let public = web::Data::new(Public::new(Arc::clone(&service.app), proxies).refusing(quota));
        let app = Rc::new(test::init_service(App::new().configure(http::public_routes(public))).await);
        let door = move |request: TestRequest| -> Answering {
            let app = Rc::clone(&app);
            Box::pin(async move { app.call(request.to_request()).await.unwrap().map_into_boxed_body() })
        };
        Self { service, door: Box::new(door) }
    }

    async fn ask(&self, path: &str, peer: &str, request: TestRequest) -> Answered {
        let peer = SocketAddr::new(peer.parse().unwrap(), 5000);
        let host = host(self.service).to_owned();
        let response = (self.door)(request.uri(path).peer_addr(peer).insert_header(("host", host))).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body()).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let of_proxy = headers.get("x-trustmint-code").map(|value| value.to_str().unwrap().to_owned());
        let code = of_proxy.unwrap_or_else(|| body["code"].as_str().unwrap_or_default().to_owned());
        assert_described(path, status, (!code.is_empty()).then_some(code.as_str()));
        Answered { status, code, headers, body, text }
    }

    /// PyPI's exchange of that ID token.
    async fn mint(&self, peer: &str, token: &str) -> Answered {
        self.ask(MINT, peer, minting(token)).await
    }

    /// Through the proxy, for that client.
    async fn mint_for(&self, client: &str, token: &str) -> Answered {
        self.ask(MINT, PROXY, minting(token).insert_header(("x-forwarded-for", client))).await
    }

    /// A good job's.
    async fn job(&self, peer: &str) -> Answered {
        self.mint(peer, &self.service.id_token(&json!({}))).await
    }

    fn counted(&self) -> String {
        let text = self.service.app.metrics().render().unwrap();
        let line = text.lines().find(|line| line.starts_with("trustmint_client_limited_total"));
        line.and_then(|line| line.split(' ').nth(1)).unwrap_or("0").to_owned()
    }
}

fn posted(body: &Value) -> TestRequest {
    TestRequest::post().set_payload(body.to_string())
}

fn minting(token: &str) -> TestRequest {
    posted(&json!({ "token": token }))
}

fn keyed(method: Method, key: &str) -> TestRequest {
    TestRequest::default().method(method).insert_header(("authorization", format!("Bearer {key}")))
}

#[actix_web::test]
async fn who_is_refused_too_often_is_refused_unseen_until_time_has_passed_and_no_other_is() {
    let service = Service::start().await;
    let front = Front::of(&service, Some(3)).await;
    for garbage in ["", "x", "a.b.c"] {
        assert_eq!(front.mint(STRANGER, garbage).await.status, 422);
    }
    let waiting = service.id_token(&json!({}));
    let refused = front.mint(STRANGER, &waiting).await;
    refused.is_held_up("20");
    // In the words of the dialect, and what to do about it.
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    assert_eq!((&refused.body["status"], &refused.body["class"]), (&json!(429), &json!("unavailable")));
    let message = refused.body["message"].as_str().unwrap();
    assert!(
        message.starts_with("more than 3 calls from this address were refused within a minute — retry"),
        "{message}"
    );
    assert!(!refused.text.contains(STRANGER), "{}", refused.text);
    assert_eq!(front.counted(), "1");
    assert!(service.app.metrics().render().unwrap().lines().all(|line| !line.contains(STRANGER)));

    // Whoever else comes is served in the meantime, through a proxy too.
    assert_eq!(front.job(JOB).await.status, 200);
    assert_eq!(front.mint_for("192.0.2.1", &service.id_token(&json!({}))).await.status, 200);

    service.clock.pass(Duration::from_millis(19_999));
    front.mint(STRANGER, &waiting).await.is_held_up("1");
    service.clock.pass(Duration::from_millis(1));
    // The same ID token is good still; and a success takes nothing, so the next is served as well.
    assert_eq!(front.mint(STRANGER, &waiting).await.status, 200);
    assert_eq!(front.job(STRANGER).await.status, 200);
    front.mint(STRANGER, "x").await.is(422, "token-malformed");
    front.job(STRANGER).await.is_held_up("20");
    assert_eq!(front.counted(), "3");
}

#[actix_web::test]
async fn what_succeeds_and_what_the_service_could_not_do_never_counts() {
    let (service, store) = faulty::service().await;
    let front = Front::of(&service, Some(1)).await;
    for _ in 0..20 {
        assert_eq!(front.job(JOB).await.status, 200);
        store.fail(Some(Fault::Refused));
        front.job(JOB).await.is(503, "store-unavailable");
        store.fail(None);
        // Nor what anyone may know.
        assert_eq!(front.ask("/_/oidc/audience", JOB, TestRequest::get()).await.status, 200);
        front.ask("/.well-known/pytp", JOB, TestRequest::get()).await.is(422, "bad-request");
        front.ask("/nowhere", JOB, TestRequest::post()).await.is(404, "not-found");
        front.ask(MINT, JOB, TestRequest::get()).await.is(405, "method-not-allowed");
    }
    // One that is refused by the rules counts as one that is not proven does.
    front.mint(JOB, &service.id_token(&json!({"environment": "staging"}))).await.is(422, "environment-mismatch");
    front.job(JOB).await.is_held_up("60");
}

#[actix_web::test]
async fn a_head_or_a_body_that_is_not_read_counts_too() {
    let service = Service::start().await;
    let front = Front::of(&service, Some(3)).await;
    let padded = minting("x").insert_header(("x-padding", "x".repeat(17_000)));
    front.ask(MINT, STRANGER, padded).await.is(431, "headers-too-large");
    front.ask(MINT, STRANGER, minting(&"x".repeat(40_000))).await.is(413, "too-large");
    front
        .ask(MINT, STRANGER, minting("x").insert_header(("content-encoding", "gzip")))
        .await
        .is(415, "unsupported-media-type");
    front.job(STRANGER).await.is_held_up("20");
}

#[actix_web::test]
async fn without_a_limit_nobody_is_held_up() {
    let service = Service::start().await;
    let front = Front::of(&service, None).await;
    for _ in 0..50 {
        front.mint(STRANGER, "x").await.is(422, "token-malformed");
    }
    assert_eq!((front.job(STRANGER).await.status, front.counted().as_str()), (200, "0"));
}

#[actix_web::test]
async fn a_client_is_what_a_trusted_proxy_says_and_nobody_else_is_believed() {
    let service = Service::start().await;
    let front = Front::of(&service, Some(1)).await;
    front.mint_for(&format!("192.0.2.77, {STRANGER}"), "x").await.is(422, "token-malformed");
    // By whichever way it comes, and whoever it says that it is.
    let (one, another) = (service.id_token(&json!({})), service.id_token(&json!({})));
    let hidden = minting(&one).insert_header(("x-forwarded-for", JOB));
    let hops = format!("{JOB}, {STRANGER}, 10.0.0.2");
    let (through, itself) = tokio::join!(front.mint_for(&hops, &one), front.ask(MINT, STRANGER, hidden));
    through.is_held_up("60");
    itself.is_held_up("60");
    assert_eq!(front.mint_for(JOB, &one).await.status, 200);
    assert_eq!(front.mint_for("192.0.2.77", &another).await.status, 200);
    // A stranger cannot use up what another has by naming it.
    for _ in 0..3 {
        front.ask(MINT, "192.0.2.9", minting("x").insert_header(("x-forwarded-for", JOB))).await;
        service.clock.pass(Duration::from_secs(60));
    }
    assert_eq!(front.job(JOB).await.status, 200);
    // A proxy that does not say for whom it asks stands for many.
    for _ in 0..5 {
        front.mint(PROXY, "x").await.is(422, "token-malformed");
        front.mint_for("nonsense", "x").await.is(422, "token-malformed");
    }
    assert_eq!(front.job(PROXY).await.status, 200);
}

#[actix_web::test]
async fn an_ipv6_client_is_its_64_and_a_mapped_one_its_ipv4_address() {
    let service = Service::start().await;
    let front = Front::of(&service, Some(1)).await;
    front.mint("2001:db8:1:2::1", "x").await.is(422, "token-malformed");
    front.mint("::ffff:192.0.2.1", "x").await.is(422, "token-malformed");
    let (neighbour, mapped, forwarded) = tokio::join!(
        front.job("2001:db8:1:2:ffff:ffff:ffff:ffff"),
        front.job("192.0.2.1"),
        front.mint_for("2001:db8:1:2::9", "x"),
    );
    for answer in [neighbour, mapped, forwarded] {
        answer.is_held_up("60");
    }
    assert_eq!(front.job("2001:db8:1:3::1").await.status, 200);
    assert_eq!(front.job("192.0.2.2").await.status, 200);
}

/// What each dialect's client sends, with a token that does not do: where, the head and the body.
const EXCHANGES: &[(&str, &str, &str, &str)] = &[
    ("pypi", MINT, "", r#"{"token": "x"}"#),
    ("pypi", "/_/oidc/github/mint-token", "", r#"{"token": "x"}"#),
    ("pypi", "/_/oidc/burn-token", "", "{}"),
    ("pypi", "/v1/token", "", "grant_type=x"),
    ("pypi", "/v1/revoke", "", "token="),
    ("crates-io", "/base/api/v1/trusted_publishing/tokens", "", r#"{"jwt": "x"}"#),
    ("rubygems", "/base/api/v1/oidc/trusted_publisher/exchange_token", "", r#"{"jwt": "x"}"#),
    ("nuget", "/base/api/v2/token", "Bearer x", r#"{"username": "acme", "tokenType": "ApiKey"}"#),
    ("conda", "/api/oidc/mint_token", "", r#"{"token": "x"}"#),
    (
        "open-vsx",
        "/base/api/-/trusted-publishing/token",
        "",
        r#"{"namespace": "Acme", "extension": "tools", "token": "x"}"#,
    ),
    ("npm", "/-/npm/v1/oidc/token/exchange/package/widgets", "Bearer x", ""),
    ("npm", "/base/-/npm/v1/oidc/token/exchange/package/widgets", "Bearer x", ""),
];

#[actix_web::test]
async fn every_dialects_endpoint_is_limited_in_its_own_words() {
    let all = EXCHANGES.iter().map(|(dialect, path, authorization, body)| {
        rt::spawn(async move {
            let package = if *dialect == "open-vsx" { "acme.tools" } else { "widgets" };
            let computed = matches!(*dialect, "crates-io" | "npm" | "conda" | "open-vsx");
            let members: &[&str] = if computed { &[] } else { &["audiences: [acme-own]"] };
            let service = speaking(dialect, "/base/", package, members).await;
            let front = Front::of(&service, Some(2)).await;
            let oauth = path.starts_with("/v1/");
            let request = || {
                let request = TestRequest::post().set_payload(*body);
                let request = request.insert_header(("content-type", if oauth { FORM } else { "application/json" }));
                if authorization.is_empty() {
                    request
                } else {
                    request.insert_header(("authorization", *authorization))
                }
            };
            for _ in 0..2 {
                let refused = front.ask(path, STRANGER, request()).await;
                assert!((400..422).contains(&refused.status) || refused.status == 422, "{path}: {}", refused.text);
            }
            let held_up = front.ask(path, STRANGER, request()).await;
            held_up.is_held_up("30");
            let error = if oauth { &json!("temporarily_unavailable") } else { &held_up.body["message"] };
            assert_eq!(&held_up.body["error"], error, "{path}: {}", held_up.text);
            let seen = front.ask(path, JOB, request()).await;
            assert!((400..=422).contains(&seen.status), "{path}: {}", seen.text);
        })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap();
    }
}

#[actix_web::test]
async fn revoking_as_crates_io_does_is_limited_and_what_is_revoked_never_counts() {
    const TOKENS: &str = "/base/api/v1/trusted_publishing/tokens";
    let service = speaking("crates-io", "/base/", "widgets", &[]).await;
    let front = Front::of(&service, Some(1)).await;
    for _ in 0..5 {
        assert_eq!(front.ask(TOKENS, JOB, keyed(Method::DELETE, "cargo-x")).await.status, 204);
    }
    front.ask(TOKENS, JOB, TestRequest::delete()).await.is(401, "upload-token-missing");
    front.ask(TOKENS, JOB, keyed(Method::DELETE, "cargo-x")).await.is_held_up("60");
}

#[actix_web::test]
async fn keys_that_are_not_known_count_and_whoever_has_a_known_one_is_never_held_up() {
    let service = Service::start().await;
    let front = Front::of(&service, Some(2)).await;
    let question = json!({"token": service.upload_token().await, "package": "widgets", "exists": true});
    let asking = |key: &str| keyed(Method::POST, key).set_payload(question.to_string());
    for _ in 0..5 {
        // A registry's own mistakes, and what its uploaders may not, are no stranger's.
        front.ask("/v1/verify", JOB, keyed(Method::POST, API_KEY)).await.is(400, "bad-request");
        let proxied = TestRequest::get().insert_header(("x-trustmint-key", API_KEY));
        front.ask("/v1/authorize", JOB, proxied).await.is(403, "route-not-allowed");
    }
    front.ask("/v1/verify", JOB, asking("guessed")).await.is(401, "bad-api-key");
    front.ask("/v1/authorize", JOB, TestRequest::get()).await.is(403, "bad-api-key");
    let (guessed, proxied, anonymous) = tokio::join!(
        front.ask("/v1/revocations", JOB, keyed(Method::POST, "guessed")),
        front.ask("/v1/authorize", JOB, TestRequest::get()),
        front.mint(JOB, "x"),
    );
    guessed.is_held_up("30");
    assert!(
        guessed.body["message"].as_str().unwrap().contains("the API key of this one is not known"),
        "{}",
        guessed.text
    );
    // A proxy knows no 429, and lets nothing through.
    proxied.is(503, "too-many-refusals");
    anonymous.is_held_up("30");
    for _ in 0..5 {
        let answer = front.ask("/v1/verify", JOB, asking(API_KEY)).await;
        assert_eq!((answer.status, &answer.body["allowed"]), (200, &json!(true)), "{}", answer.text);
    }
}

#[actix_web::test]
async fn the_operators_listener_is_for_whoever_asks_it() {
    let service = Service::start().await;
    let front = Front::of(&service, Some(1)).await;
    let operators = web::Data::new(Operators::new(Arc::clone(&service.app), Vec::new()));
    let listener = test::init_service(App::new().configure(http::operations_routes(operators))).await;
    let status = async |path: &str| {
        let peer = SocketAddr::new(STRANGER.parse().unwrap(), 5000);
        let request = keyed(Method::GET, "guessed").uri(path).peer_addr(peer).to_request();
        listener.call(request).await.unwrap().status().as_u16()
    };
    front.mint(STRANGER, "x").await.is(422, "token-malformed");
    for _ in 0..5 {
        assert_eq!((status("/livez").await, status("/readyz").await, status("/policy").await), (200, 200, 403));
    }
    front.job(STRANGER).await.is_held_up("60");
}

#[actix_web::test]
async fn a_client_that_leaves_before_it_is_refused_is_refused_all_the_same() {
    let service = Service::start().await;
    let front = Front::of(&service, Some(1)).await;
    {
        // What the server does when a connection is reset.
        let request = minting("x").uri(MINT).peer_addr(SocketAddr::new(STRANGER.parse().unwrap(), 5000));
        let mut call = (front.door)(request.insert_header(("host", host(&service).to_owned())));
        let begun = std::future::poll_fn(|context| std::task::Poll::Ready(call.as_mut().poll(context).is_pending()));
        assert!(begun.await, "a task of its own answers");
    }
    // Tasks of one thread take turns.
    let mut held_up = front.job(STRANGER).await;
    for _ in 0..100 {
        if held_up.status == 429 {
            break;
        }
        held_up = front.job(STRANGER).await;
    }
    held_up.is_held_up("60");
}
