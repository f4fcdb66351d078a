//! Replicas share identity providers' keys through the store, at the front door; and whoever can write to the store
//! cannot give them any.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use trustmint::app::App;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::keys::KeyError;
use trustmint::identity::keys::Keys;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::state::Cursor;
use trustmint::state::ListBounds;
use trustmint::state::MemoryStore;
use trustmint::state::Reserved;
use trustmint::state::SetOnce;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock as _;
use trustmint::time::Timestamp;
use trustmint::yielding::Yielding;

use crate::support::Internet;
use crate::support::SetClock;
use crate::support::said::Channel;
use crate::support::said::Record;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

const ISSUER: &str = "https://ci.acme.example";
const JWKS: &str = "https://ci.acme.example/keys";
const PATIENCE: Duration = Duration::from_secs(20);

type Tamper = Box<dyn Fn(Option<Vec<u8>>) -> Option<Vec<u8>> + Send>;

/// A store that an attacker, or a fault, has its hands on: what is read of copies passes through `tamper`.
struct Tampered {
    inner: MemoryStore,
    tamper: Mutex<Tamper>,
    silent: Mutex<bool>,
}

impl std::fmt::Debug for Tampered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tampered")
    }
}

#[async_trait]
impl Store for Tampered {
    async fn set_once(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<SetOnce, StoreError> {
        self.inner.set_once(key, value, until).await
    }

    async fn reserve(
        &self,
        key: &[u8],
        member: &[u8],
        value: &[u8],
        limit: u32,
        until: Timestamp,
    ) -> Result<Reserved, StoreError> {
        self.inner.reserve(key, member, value, limit, until).await
    }

    async fn put(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError> {
        self.inner.put(key, value, until).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        if *self.silent.lock().unwrap() {
            std::future::pending::<()>().await;
        }
        let held = self.inner.get(key).await?;
        Ok(self.tamper.lock().unwrap()(held.map(|held| held.to_vec())).map(Arc::from))
    }

    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError> {
        self.inner.add(key, amount, until).await
    }

    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        self.inner.append(list, entry, bounds).await
    }

    async fn since(
        &self,
        list: &str,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError> {
        self.inner.since(list, cursor, limit).await
    }

    async fn remembers_since(&self) -> Result<Timestamp, StoreError> {
        self.inner.remembers_since().await
    }
}

/// Replicas come and go; the store stays.
struct Fleet {
    clock: Arc<SetClock>,
    store: Arc<Tampered>,
    internet: Arc<Internet>,
    key: SigningKey,
}

impl Fleet {
    fn new() -> Self {
        let clock = Arc::new(SetClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)));
        let inner = MemoryStore::new(clock.clone(), 1 << 24);
        let store = Tampered { inner, tamper: Mutex::new(Box::new(|held| held)), silent: Mutex::default() };
        let (internet, key) = (Arc::new(Internet::default()), SigningKey::generate(KeyKind::P256).unwrap());
        internet.issuer(ISSUER, JWKS, &[key.jwk()]);
        Self { clock, store: Arc::new(store), internet, key }
    }

    /// A replica with this master key.
    fn replica(&self, master: u8) -> App {
        let key =
            MasterKey::generate("k1", std::array::from_fn(|n| master ^ u8::try_from(n).unwrap()), self.clock.now());
        App::build(Parts {
            policy: policy(&policy_text("https://pypi.acme.example", ISSUER, WIDGETS)),
            keyring: Keyring::new(vec![key.unwrap()]).unwrap(),
            fetch: self.internet.clone(),
            store: self.store.clone(),
            audit: AuditLog::start(AuditSink::Writer(Box::new(Record::of(Channel::Audit))), 16).unwrap(),
            metrics: Arc::new(Metrics::new().unwrap()),
            clock: self.clock.clone(),
            runtime: Handle::current(),
        })
    }

    /// What a token under the issuer's key meets at a replica.
    async fn ask(&self, app: &App, patience: Duration) -> Result<(), KeyError> {
        let policy = app.policy();
        let issuer = policy.issuers().by_url(ISSUER).unwrap();
        app.keys().key(issuer, Some(self.key.kid()), self.clock.now(), patience, Yielding::NOTHING).await.map(|_| ())
    }

    /// One replica fetches the keys, and the issuer goes down.
    async fn warm(&self) {
        let first = self.replica(1);
        assert!(refresh(first.keys()).await);
        settle().await;
        self.internet.publish(&format!("{ISSUER}/.well-known/openid-configuration"), Value::Null);
        self.clock.pass(Duration::from_secs(1));
    }
}

async fn refresh(keys: &Keys) -> bool {
    let url = keys.health().first().map(|health| health.issuer.url().clone()).unwrap();
    keys.refresh_now(&url, PATIENCE).await == Some(true)
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[actix_web::test]
async fn a_replica_that_starts_while_the_provider_is_down_has_its_keys() {
    let fleet = Fleet::new();
    let cold = fleet.replica(1);
    fleet.internet.publish(&format!("{ISSUER}/.well-known/openid-configuration"), Value::Null);
    assert!(fleet.ask(&cold, PATIENCE).await.is_err(), "nobody has fetched them yet");
    fleet.internet.issuer(ISSUER, JWKS, &[fleet.key.jwk()]);
    fleet.warm().await;
    let second = fleet.replica(1);
    assert_eq!(fleet.ask(&second, PATIENCE).await, Ok(()));
}

#[actix_web::test]
async fn a_demanded_refresh_ends_with_the_fetch_and_not_with_another_replicas_copy() {
    let fleet = Fleet::new();
    fleet.warm().await;
    let newer = SigningKey::generate(KeyKind::P256).unwrap();
    fleet.internet.issuer(ISSUER, JWKS, &[newer.jwk()]);
    let second = fleet.replica(1);
    fleet.internet.hold();
    let url = second.policy().issuers().by_url(ISSUER).unwrap().url().clone();
    assert_eq!(second.keys().refresh_now(&url, Duration::from_millis(50)).await, Some(false), "it goes on");
    assert_eq!(second.keys().health()[0].kids, [fleet.key.kid()], "the copy serves meanwhile");
    fleet.internet.release();
    assert!(refresh(second.keys()).await);
    assert_eq!(second.keys().health()[0].kids, [newer.kid()]);
}

#[actix_web::test]
async fn what_somebody_else_wrote_into_the_store_gives_no_keys() {
    let attacker = SigningKey::generate(KeyKind::P256).unwrap();
    let forged = json!({"keys": [attacker.jwk()]}).to_string().into_bytes();
    let flip = |at: usize| {
        move |held: Option<Vec<u8>>| {
            let mut bytes = held.unwrap();
            let at = at % bytes.len();
            bytes[at] ^= 1;
            Some(bytes)
        }
    };
    let in_place = forged.clone();
    let tampering: Vec<(&str, Tamper)> = vec![
        ("nothing", Box::new(|_| None)),
        ("an empty value", Box::new(|_| Some(Vec::new()))),
        ("a bare key set", Box::new(move |_| Some(forged.clone()))),
        ("the version", Box::new(flip(0))),
        ("the time", Box::new(flip(8))),
        ("a byte of the keys", Box::new(flip(100))),
        ("the last byte of the MAC", Box::new(flip(usize::MAX))),
        ("a longer value", Box::new(|held| held.map(|bytes| [bytes, vec![0]].concat()))),
        (
            "other keys under the same MAC",
            Box::new(move |held| {
                let bytes = held.unwrap();
                let (body, mac) = bytes.split_at(bytes.len() - 32);
                let head = body.iter().position(|byte| *byte == b'{').unwrap();
                Some([&body[..head], &in_place, mac].concat())
            }),
        ),
    ];
    for (what, tamper) in tampering {
        let fleet = Fleet::new();
        fleet.warm().await;
        *fleet.store.tamper.lock().unwrap() = tamper;
        let second = fleet.replica(1);
        let answer = fleet.ask(&second, PATIENCE).await;
        assert!(matches!(answer, Err(KeyError::Unavailable { .. })), "{what}: {answer:?}");
        assert!(second.keys().health()[0].kids.is_empty(), "{what}");
        // Untouched it would have been believed.
        *fleet.store.tamper.lock().unwrap() = Box::new(|held| held);
        fleet.clock.pass(Duration::from_secs(15));
        assert_eq!(fleet.ask(&second, PATIENCE).await, Ok(()), "{what}");
    }
}

#[actix_web::test]
async fn replicas_with_other_master_keys_do_not_believe_each_other() {
    let fleet = Fleet::new();
    fleet.warm().await;
    let stranger = fleet.replica(2);
    assert!(fleet.ask(&stranger, PATIENCE).await.is_err());
    assert_eq!(fleet.ask(&fleet.replica(1), PATIENCE).await, Ok(()));
}

#[actix_web::test]
async fn an_older_copy_put_back_does_not_bring_a_withdrawn_key_back() {
    let fleet = Fleet::new();
    let leaked = SigningKey::generate(KeyKind::P256).unwrap();
    fleet.internet.issuer(ISSUER, JWKS, &[fleet.key.jwk(), leaked.jwk()]);
    let app = fleet.replica(1);
    assert!(refresh(app.keys()).await);
    settle().await;
    let old: Arc<Mutex<Option<Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&old);
    *fleet.store.tamper.lock().unwrap() = Box::new(move |held| {
        seen.lock().unwrap().get_or_insert_with(|| held.clone().unwrap());
        held
    });
    // Another replica reads the copy, as the provider does not answer it, and the attacker with it.
    fleet.internet.publish(&format!("{ISSUER}/.well-known/openid-configuration"), Value::Null);
    assert!(refresh(fleet.replica(1).keys()).await);
    settle().await;
    fleet.clock.pass(Duration::from_secs(10));
    fleet.internet.issuer(ISSUER, JWKS, &[fleet.key.jwk()]);
    assert!(refresh(app.keys()).await);
    settle().await;
    let before = old.lock().unwrap().clone().expect("the copy was read");
    *fleet.store.tamper.lock().unwrap() = Box::new(move |_| Some(before.clone()));
    fleet.internet.publish(&format!("{ISSUER}/.well-known/openid-configuration"), Value::Null);
    fleet.clock.pass(Duration::from_secs(3600));
    assert!(refresh(app.keys()).await);
    assert_eq!(app.keys().health()[0].kids, [fleet.key.kid()]);
}

#[actix_web::test]
async fn a_store_that_never_answers_holds_no_fetch_up() {
    let fleet = Fleet::new();
    *fleet.store.silent.lock().unwrap() = true;
    let app = fleet.replica(1);
    assert_eq!(fleet.ask(&app, Duration::from_millis(2500)).await, Ok(()));
    assert_eq!(fleet.internet.requests().len(), 2);
}
