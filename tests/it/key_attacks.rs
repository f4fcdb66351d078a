//! Attacks on discovery, key sets and their fetching (B03 to B12, B14, B16): at the front door where it shows them, else
//! against the driver of the keys or the fetcher. Histories of the cache are in `src/identity/cache/tests.rs`, the
//! addresses that are refused in `src/identity/fetch/address.rs`.
//!
//! Shown in `src/identity/fetch/tests.rs` only, where a test can stand in for the resolver: a name that resolves to
//! another address at the second look-up (B04).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::demo::provider::Answer as Told;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::cache::BURST;
use trustmint::identity::cache::MAX_FRESH;
use trustmint::identity::cache::MAX_STALE;
use trustmint::identity::cache::MIN_FRESH;
use trustmint::identity::cache::REFILL;
use trustmint::identity::fetch::Answer as Document;
use trustmint::identity::fetch::Fetch;
use trustmint::identity::fetch::FetchError;
use trustmint::identity::fetch::Fetched;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::identity::fetch::Limits;
use trustmint::identity::issuer::Issuer;
use trustmint::identity::issuer::IssuerUrl;
use trustmint::identity::issuer::Reach;
use trustmint::identity::keys::KeyError;
use trustmint::identity::keys::Keys;
use trustmint::identity::provider;
use trustmint::secret::Secret;
use trustmint::state::MemoryStore;
use trustmint::state::SealKey;
use trustmint::state::SealKeys;
use trustmint::state::State;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;
use trustmint::time::Timestamp;
use trustmint::yielding::Yielding;
use url::Url;

use crate::support::Canary;
use crate::support::Service;
use crate::support::SetClock;
use crate::support::service::Answer;

const ISSUER: &str = "https://ci.example";

/// A web in which these documents exist, and which remembers what it was asked for.
#[derive(Debug, Default)]
struct Web {
    documents: Mutex<HashMap<String, String>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Fetch for Web {
    async fn get(&self, url: &Url, _: &Reach, _: Option<&str>, _: Limits) -> Result<Document, FetchError> {
        self.asked.lock().unwrap().push(url.to_string());
        let document = self.documents.lock().unwrap().get(url.as_str()).cloned().ok_or(FetchError::Status(404))?;
        Ok(Document::Document(Fetched { bytes: document.into_bytes(), max_age: None, etag: None }))
    }
}

impl Web {
    /// Where the issuer's discovery document says this of itself and its keys.
    fn discovering(issuer: &str, jwks_uri: &str) -> Arc<Self> {
        let web = Self::default();
        let document = json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string();
        web.publish(&format!("{ISSUER}/.well-known/openid-configuration"), document);
        Arc::new(web)
    }

    fn publish(&self, url: &str, document: String) {
        self.documents.lock().unwrap().insert(url.to_owned(), document);
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn issuer() -> Arc<Issuer> {
    let provider = provider::by_name("generic").unwrap();
    Arc::new(Issuer::new("ci".into(), provider, IssuerUrl::parse(ISSUER).unwrap()).unwrap())
}

fn keys_over(fetch: Arc<dyn Fetch>, clock: Arc<SetClock>) -> Keys {
    let seal = SealKey::new("k1".into(), Timestamp::from_unix_seconds(0), Secret::new([7; 32]));
    let state = State::new(Arc::new(MemoryStore::new(clock.clone(), 1 << 20)), SealKeys::new(vec![seal]));
    let keys = Keys::new(fetch, Arc::new(state), clock, Handle::current(), Box::new(|_| {}));
    keys.install([&issuer()]);
    keys
}

fn start_of_time() -> Arc<SetClock> {
    Arc::new(SetClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)))
}

fn set_of(keys: &[&SigningKey]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}

async fn exchange(service: &Service) -> Answer {
    service.mint(&json!({"token": service.id_token(&json!({}))})).await
}

/// Lets a refresh that is due take place: another fetch ends, and its outcome is what tokens meet from then on.
async fn refreshed(service: &Service, after: Duration) {
    service.pass(after).await;
    let before = service.provider.requests(Endpoint::Jwks);
    service.app.keys().refresh_due();
    service.provider.requested(Endpoint::Jwks, before + 1).await;
    let is_idle = || {
        let health = service.app.keys().health();
        let status = health[0].status.as_ref().unwrap();
        status.fetched_at == Some(service.app.now()) || status.failing_since.is_some()
    };
    while !is_idle() {
        tokio::task::yield_now().await;
    }
}

/// B03.
#[actix_web::test]
async fn a_redirect_is_not_followed_to_anywhere() {
    let service = Service::start().await;
    let canary = Canary::start();
    let own = format!("{}/jwks", service.provider.issuer());
    for endpoint in [Endpoint::Discovery, Endpoint::Jwks] {
        for to in
            [&canary.url("/keys"), &canary.url("/keys").replace("http:", "https:"), "http://169.254.169.254/", &own]
        {
            service.provider.answer(endpoint, Told::redirect(to));
            let answer = exchange(&service).await;
            assert_eq!((answer.status, answer.code()), (503, "issuer-unavailable"), "{to}: {}", answer.text);
            assert!(!answer.text.contains("169.254") && !answer.text.contains("/keys"), "{}", answer.text);
            service.provider.answer(endpoint, Told::Honest);
            service.pass(REFILL).await;
        }
    }
    assert_eq!(exchange(&service).await.status, 200);
    assert!(canary.requests().is_empty());
}

/// B04.
#[actix_web::test]
async fn keys_are_fetched_from_no_other_host_and_no_private_address() {
    let canary = Canary::start();
    for uri in [
        &canary.url("/keys"),
        "https://evil.example/keys",
        "https://ci.example.evil.example/keys",
        "https://ci.example@evil.example/keys",
        "https://evil.example#@ci.example/keys",
        "https://ci.example./keys",
        "http://ci.example/keys",
        "https://127.0.0.1/keys",
        "https://2130706433/keys",
        "https://[::ffff:169.254.169.254]/keys",
        "file:///etc/passwd",
        "//ci.example/keys",
    ] {
        let (web, clock) = (Web::discovering(ISSUER, uri), start_of_time());
        let found = keys_over(web.clone(), clock.clone())
            .key(&issuer(), Some("a"), clock.now(), REFILL, Yielding::NOTHING)
            .await;
        assert!(matches!(found, Err(KeyError::Unavailable { .. })), "{uri}: {found:?}");
        assert_eq!(web.asked(), [format!("{ISSUER}/.well-known/openid-configuration")], "{uri}");
    }
    // Where a URL gets past that, the address decides: by https nothing on this machine or its network.
    let port = canary.address().port();
    for host in
        ["127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "169.254.169.254", "10.0.0.1"]
    {
        for scheme in ["https", "http"] {
            let url = Url::parse(&format!("{scheme}://{host}:{port}/keys")).unwrap();
            if scheme == "http" && url.host_str().is_some_and(|host| host == "127.0.0.1" || host == "[::1]") {
                continue;
            }
            let answer = HttpsFetch::new().get(&url, &Reach::default(), None, Limits::ISSUER).await;
            assert!(matches!(answer, Err(FetchError::Forbidden { .. })), "{url}: {answer:?}");
        }
    }
    assert!(canary.requests().is_empty());
}

/// B05.
#[actix_web::test]
async fn a_discovery_document_that_speaks_for_another_issuer_is_not_believed() {
    for name in [
        "https://ci.example/",
        "https://CI.example",
        "https://ci.example:443",
        "http://ci.example",
        "https://evil.example",
        "",
    ] {
        let (web, clock) = (Web::discovering(name, "https://ci.example/keys"), start_of_time());
        let found = keys_over(web.clone(), clock.clone())
            .key(&issuer(), Some("a"), clock.now(), REFILL, Yielding::NOTHING)
            .await;
        assert!(matches!(found, Err(KeyError::Unavailable { .. })), "{name}: {found:?}");
        assert_eq!(web.asked().len(), 1, "{name}: its keys were asked for");
    }
}

/// B06.
#[actix_web::test]
async fn a_fetch_carries_no_credentials() {
    let canary = Canary::start();
    let url = Url::parse(&canary.url("/keys")).unwrap();
    assert!(HttpsFetch::new().get(&url, &Reach::default(), None, Limits::ISSUER).await.is_ok());
    let requests = canary.requests();
    let head = requests[0].to_ascii_lowercase();
    assert!(head.starts_with("get /keys http/1.1\r\n"), "{head}");
    for header in ["authorization", "cookie", "proxy-", "referer", "x-forwarded", "forwarded"] {
        assert!(!head.contains(&format!("\r\n{header}")), "{head}");
    }
    for credentials in ["user@", "user:secret@", ":secret@"] {
        let url = Url::parse(&canary.url("/keys").replace("http://", &format!("http://{credentials}"))).unwrap();
        assert_eq!(HttpsFetch::new().get(&url, &Reach::default(), None, Limits::ISSUER).await, Err(FetchError::Url));
    }
    assert_eq!(canary.requests().len(), 1);
}

/// B07.
#[actix_web::test]
async fn an_answer_that_is_too_large_too_slow_or_compressed_is_given_up() {
    let service = Service::start().await;
    let key = service.provider.keys()[0].jwk();
    let gzip = vec![("content-encoding".to_owned(), "gzip".to_owned())];
    let deep = format!("{{\"keys\":[{}{}]}}", "[".repeat(40_000), "]".repeat(40_000));
    for told in [
        Told::Endless,
        Told::body("application/json", vec![b' '; 10_000_000]),
        Told::Fixed { status: 200, headers: gzip, body: vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0] },
        Told::json(&json!({"keys": vec![key; 65]})),
        Told::body("application/json", deep),
        Told::Held,
    ] {
        service.provider.answer(Endpoint::Jwks, told);
        let answer = tokio::time::timeout(Duration::from_secs(4), exchange(&service)).await.expect("an answer in time");
        assert_eq!((answer.status, answer.code()), (503, "issuer-unavailable"), "{}", answer.text);
        service.pass(REFILL).await;
    }
    service.provider.answer(Endpoint::Jwks, Told::Honest);
    assert_eq!(exchange(&service).await.status, 200);
}

/// B08.
#[actix_web::test]
async fn invented_key_ids_cannot_use_up_the_refresh_that_a_rotation_needs() {
    let (old, new) = (SigningKey::generate(KeyKind::P256).unwrap(), SigningKey::generate(KeyKind::P256).unwrap());
    let (web, clock) = (Web::discovering(ISSUER, "https://ci.example/keys"), start_of_time());
    web.publish("https://ci.example/keys", set_of(&[&old]).to_string());
    let keys = keys_over(web.clone(), clock.clone());
    let find = async |kid: &str| keys.key(&issuer(), Some(kid), clock.now(), REFILL, Yielding::NOTHING).await;
    assert!(find(old.kid()).await.is_ok());
    let before = web.asked().len();
    for number in 0..6000 {
        clock.pass(Duration::from_millis(10));
        assert!(find(&format!("invented-{number}")).await.is_err());
    }
    let caused = web.asked().len() - before;
    assert!((1..=BURST as usize + 60 / 15).contains(&caused), "{caused} fetches in a minute");
    web.publish("https://ci.example/keys", set_of(&[&new, &old]).to_string());
    clock.pass(REFILL);
    assert!(find(new.kid()).await.is_ok(), "a real rotation is seen within the bucket's interval");
}

/// B09.
#[actix_web::test]
async fn a_key_that_is_no_longer_published_is_no_longer_believed() {
    let service = Service::start().await;
    assert_eq!(exchange(&service).await.status, 200);
    let stolen = service.provider.keys();
    service.provider.rotate().unwrap();
    service.provider.withdraw_old_keys();
    refreshed(&service, MAX_FRESH).await;
    let forged = stolen[0].token(&Value::Null, &service.claims(&json!({})));
    let answer = service.mint(&json!({"token": forged})).await;
    assert_eq!((answer.status, answer.code()), (422, "unknown-key"), "{}", answer.text);
    assert_eq!(exchange(&service).await.status, 200);
}

/// B10.
#[actix_web::test]
async fn an_empty_set_or_an_outage_neither_opens_the_door_nor_lets_the_keys_serve_for_ever() {
    let service = Service::start().await;
    let strangers = SigningKey::generate(KeyKind::P256).unwrap();
    assert_eq!(exchange(&service).await.status, 200);
    for told in [Told::json(&json!({"keys": []})), Told::status(500), Told::body("text/html", "<h1>maintenance</h1>")] {
        service.provider.answer(Endpoint::Jwks, told.clone());
        refreshed(&service, MAX_FRESH).await;
        assert_eq!(exchange(&service).await.status, 200, "the last good set serves on: {told:?}");
        let forged = strangers.token(&Value::Null, &service.claims(&json!({})));
        assert_ne!(service.mint(&json!({"token": forged})).await.status, 200, "{told:?}");
    }
    service.pass(MAX_STALE).await;
    assert_eq!(exchange(&service).await.code(), "issuer-unavailable");
}

/// B11.
#[actix_web::test]
async fn one_odd_key_does_not_take_the_others_with_it() {
    let service = Service::start().await;
    let mut set = service.provider.jwks();
    let odd = [
        json!({"kty": "AKP", "kid": "pq", "alg": "ML-DSA-65", "pub": "AA"}),
        json!({"kty": "EC", "kid": "k", "crv": "secp256k1", "x": "AA", "y": "AA"}),
        json!({"kty": "OKP", "kid": "x", "crv": "X25519", "x": "AA"}),
        json!({"kty": "RSA", "kid": 7, "n": "AA", "e": "AQAB"}),
        json!({"kty": ["RSA"]}),
        json!(null),
        json!("key"),
    ];
    set["keys"].as_array_mut().unwrap().splice(0..0, odd);
    service.provider.answer(Endpoint::Jwks, Told::json(&set));
    assert_eq!(exchange(&service).await.status, 200);
}

/// B12.
#[actix_web::test]
async fn a_refresh_that_goes_wrong_half_way_leaves_the_keys_as_they_were() {
    let service = Service::start().await;
    assert_eq!(exchange(&service).await.status, 200);
    let good = service.provider.jwks()["keys"][1].to_string();
    let bad = json!({"kty": "RSA", "kid": service.provider.keys()[0].kid(), "n": "!", "e": "AQAB"});
    for body in [
        json!({"keys": [bad]}).to_string(),
        format!("{{\"keys\":[{good},"),
        format!("{{\"keys\":[{good}]}}{{\"keys\":[]}}"),
        format!("{{\"keys\":[{good}],\"keys\":[]}}"),
    ] {
        service.provider.answer(Endpoint::Jwks, Told::body("application/json", body.clone()));
        refreshed(&service, MAX_FRESH).await;
        assert_eq!(exchange(&service).await.status, 200, "{body}");
    }
}

/// B14.
#[actix_web::test]
async fn whoever_takes_the_host_over_without_its_certificate_gets_no_further() {
    let now = SystemClock.now();
    let (ours, theirs) = (LoopbackCertificate::generate(now).unwrap(), LoopbackCertificate::generate(now).unwrap());
    let key = Arc::new(SigningKey::generate(KeyKind::P256).unwrap());
    let taken = LoopbackProvider::start_https(start_of_time(), vec![key], theirs.server_config().unwrap()).unwrap();
    let url = Url::parse(&format!("{}/jwks", taken.issuer())).unwrap();
    let trusting = |authority: &LoopbackCertificate| Reach {
        ca_pem: Some(authority.authority_pem().as_bytes().to_vec()),
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        proxy: None,
    };
    let answer = HttpsFetch::new().get(&url, &trusting(&ours), None, Limits::ISSUER).await;
    assert!(matches!(&answer, Err(FetchError::Connect(why)) if why.contains("certificate")), "{answer:?}");
    assert_eq!(taken.requests(Endpoint::Jwks), 0);
    assert!(
        HttpsFetch::new().get(&url, &trusting(&theirs), None, Limits::ISSUER).await.is_ok(),
        "the certificate is all that is missing"
    );
}

/// B16.
#[actix_web::test]
async fn cache_headers_neither_freeze_the_keys_nor_make_every_token_fetch_them() {
    for header in ["no-store", "max-age=0", ""] {
        let service = Service::start().await;
        service.provider.set_cache_control(header);
        for _ in 0..5 {
            assert_eq!(exchange(&service).await.status, 200);
            service.pass(MIN_FRESH / 10).await;
            service.app.keys().refresh_due();
        }
        assert_eq!(service.provider.requests(Endpoint::Jwks), 1, "{header}");
    }
    for header in ["max-age=31536000", "max-age=99999999999999999999"] {
        let service = Service::start().await;
        service.provider.set_cache_control(header);
        assert_eq!(exchange(&service).await.status, 200);
        refreshed(&service, MAX_FRESH).await;
        assert_eq!(service.provider.requests(Endpoint::Jwks), 2, "{header}");
    }
}
