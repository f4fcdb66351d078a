//! The service's own keys are exchanged while it runs: no token is refused in a rotation, every token of a stolen key is
//! within one reading of the directory, and a faulty directory changes nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;
use trustmint::app::App;
use trustmint::app::Caller;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::code::Code;
use trustmint::config::keys::read_keyring;
use trustmint::config::keys::write_key;
use trustmint::exchange::Request;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::macaroon::MasterKey;
use trustmint::macaroon::Unverified;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::policy::evaluate::Requested;
use trustmint::secret::Presented;
use trustmint::state::MemoryStore;
use trustmint::state::Store;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock;
use trustmint::time::Timestamp;
use trustmint::verify::Question;
use trustmint::yielding::Yielding;

use crate::support::Service;
use crate::support::said::Channel;
use crate::support::said::Record;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

const MINUTE: Duration = Duration::from_secs(60);
/// Tokens that live through the rotation.
const TOKENS: usize = 1000;

/// An identity provider, and replicas that share a store and each have a keys directory.
struct Fleet {
    outside: Service,
    store: Arc<dyn Store>,
}

struct Replica {
    app: App,
    keys: TempDir,
}

impl Fleet {
    async fn new() -> Self {
        let outside = Service::start().await;
        let store = Arc::new(MemoryStore::new(outside.clock.clone(), 1 << 26));
        Self { outside, store }
    }

    fn now(&self) -> Timestamp {
        self.outside.app.now()
    }

    /// A replica with these keys, by name and time; a name stands for the same bytes everywhere.
    async fn replica(&self, keys: &[(&str, Timestamp)], text: impl Fn(String) -> String) -> Replica {
        let directory = TempDir::new().unwrap();
        let keyring = {
            let path = directory.path();
            for (kid, at) in keys {
                put(path, kid, *at);
            }
            read_keyring(path).unwrap()
        };
        let base = &self.outside.base;
        let path = directory.path().to_owned();
        let clock: Arc<dyn Clock> = self.outside.clock.clone();
        let app = App::build(Parts {
            policy: policy(&text(policy_text(base, self.outside.provider.issuer(), WIDGETS))),
            keyring,
            fetch: Arc::new(HttpsFetch::new()),
            store: Arc::clone(&self.store),
            audit: AuditLog::start(AuditSink::Writer(Box::new(Record::of(Channel::Audit))), 4096).unwrap(),
            metrics: Arc::new(Metrics::new().unwrap()),
            clock,
            runtime: Handle::current(),
        });
        let app = app.watching_keys(path, Duration::from_secs(5));
        app.sync().await.unwrap();
        Replica { app, keys: directory }
    }
}

fn key(kid: &str, activate_at: Timestamp) -> MasterKey {
    let bytes = std::array::from_fn(|n| kid.bytes().last().unwrap() ^ u8::try_from(n).unwrap());
    MasterKey::generate(kid, bytes, activate_at).unwrap()
}

fn put(directory: &std::path::Path, kid: &str, activate_at: Timestamp) {
    write_key(directory, &key(kid, activate_at)).unwrap();
}

impl Replica {
    fn put(&self, kid: &str, activate_at: Timestamp) {
        put(self.keys.path(), kid, activate_at);
    }

    fn take(&self, kid: &str) {
        fs::remove_file(self.keys.path().join(kid)).unwrap();
    }

    /// The time of a poll passes, and it comes.
    async fn poll(&self) {
        self.app.key_reloads().unwrap().poll().await;
    }

    async fn reload(&self) {
        self.app.key_reloads().unwrap().reload().await;
    }

    /// A fresh upload token, with the key that has minted it.
    async fn mint(&self, fleet: &Fleet) -> Result<(String, String), Code> {
        let policy = self.app.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        let token = fleet.outside.id_token(&json!({}));
        let request = Request {
            registry,
            subject_token: Presented::new(&token),
            requested: Requested::default(),
            single_use: false,
            yielding: Yielding::NOTHING,
        };
        let issued =
            self.app.exchange(&policy, request, &caller(), fleet.now()).await.map_err(|failure| failure.code())?;
        let token = issued.minted().token.expose().clone();
        let kid = Unverified::parse(token.trim_start_matches("pypi-")).unwrap().identifier().unwrap().kid;
        Ok((token, kid))
    }

    async fn accepts(&self, fleet: &Fleet, token: &str) -> Result<(), Code> {
        let policy = self.app.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        let question = Question {
            token: Presented::new(token),
            action: Action::upload(),
            package: PackageName::parse(Ecosystem::Pypi, "widgets").unwrap(),
            version: None,
            sha256: None,
            size: None,
            client_ip: None,
            consume: None,
            yielding: Yielding::NOTHING,
        };
        let outcome = self.app.verify(&policy, registry, &question, &caller(), fleet.now()).await;
        outcome.result.map_err(|refused| refused.code())
    }

    fn counted(&self, series: &str) -> String {
        let text = self.app.metrics().render().unwrap();
        text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_default().trim().to_owned()
    }
}

fn caller() -> Caller {
    Caller { request_id: "test".to_owned(), client: None }
}

fn as_it_is(text: String) -> String {
    text
}

#[actix_web::test]
async fn a_rotation_refuses_no_token_though_replicas_reload_at_different_times() {
    let fleet = Fleet::new().await;
    let (start, takes_over) = (fleet.now(), fleet.now().plus(10 * MINUTE));
    let (one, two) = (fleet.replica(&[("k1", start)], as_it_is).await, fleet.replica(&[("k1", start)], as_it_is).await);
    let mut live = Vec::new();
    for n in 0..TOKENS {
        let (token, kid) = [&one, &two][n % 2].mint(&fleet).await.unwrap();
        assert_eq!(kid, "k1");
        live.push(token);
    }
    // The first replica reads the new key minutes before the second; both before it mints.
    one.put("k2", takes_over);
    one.reload().await;
    fleet.outside.clock.pass(5 * MINUTE);
    let (early, kid) = one.mint(&fleet).await.unwrap();
    assert_eq!(kid, "k1", "it does not mint before its time");
    live.push(early);
    // While one knows a key that the other has not read.
    for n in 0..4 {
        let (token, kid) = [&one, &two][n % 2].mint(&fleet).await.unwrap();
        assert_eq!(kid, "k1");
        live.push(token);
    }
    all_are_accepted(&fleet, &[&one, &two], &live).await;
    two.put("k2", takes_over);
    two.reload().await;
    fleet.outside.clock.pass(6 * MINUTE);
    for replica in [&one, &two, &one, &two] {
        let (token, kid) = replica.mint(&fleet).await.unwrap();
        assert_eq!(kid, "k2");
        live.push(token);
    }
    all_are_accepted(&fleet, &[&one, &two], &live).await;
    // An hour later none of the old key's can be alive, and it goes, again at different times.
    fleet.outside.clock.pass(55 * MINUTE);
    let mut late = Vec::new();
    for first in [&one, &two] {
        for replica in [&one, &two] {
            let (token, kid) = replica.mint(&fleet).await.unwrap();
            assert_eq!(kid, "k2");
            late.push(token);
        }
        first.take("k1");
        first.reload().await;
        all_are_accepted(&fleet, &[&one, &two], &late).await;
    }
}

async fn all_are_accepted(fleet: &Fleet, replicas: &[&Replica], tokens: &[String]) {
    for replica in replicas {
        replica.app.sync().await.unwrap();
        for (n, token) in tokens.iter().enumerate() {
            assert_eq!(replica.accepts(fleet, token).await, Ok(()), "token {n}");
        }
    }
}

#[actix_web::test]
async fn in_an_emergency_every_token_of_a_key_is_refused_after_one_reload() {
    let fleet = Fleet::new().await;
    let replica = fleet.replica(&[("k1", fleet.now())], as_it_is).await;
    let other = fleet.replica(&[("k1", fleet.now())], as_it_is).await;
    let mut stolen = Vec::new();
    for _ in 0..TOKENS / 20 {
        stolen.push(replica.mint(&fleet).await.unwrap().0);
        stolen.push(other.mint(&fleet).await.unwrap().0);
    }
    let used = fleet.outside.id_token(&json!({}));
    let exchange = async || {
        let policy = replica.app.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        let request = Request {
            registry,
            subject_token: Presented::new(&used),
            requested: Requested::default(),
            single_use: false,
            yielding: Yielding::NOTHING,
        };
        let outcome = replica.app.exchange(&policy, request, &caller(), fleet.now()).await;
        outcome.map(|_| ()).map_err(|failure| failure.code())
    };
    assert_eq!(exchange().await, Ok(()));
    for one in [&replica, &other] {
        one.put("k2", fleet.now());
        one.take("k1");
        one.reload().await;
        for token in &stolen {
            assert_eq!(one.accepts(&fleet, token).await, Err(Code::UploadTokenUnknown));
        }
    }
    let (fresh, kid) = replica.mint(&fleet).await.unwrap();
    assert_eq!((kid.as_str(), replica.accepts(&fleet, &fresh).await), ("k2", Ok(())));
    // What the old key has sealed is not believed, and a used ID token stays used all the same.
    assert_eq!(exchange().await, Err(Code::TokenReplayed));
}

#[actix_web::test]
async fn a_faulty_directory_changes_nothing_and_is_told_once() {
    let fleet = Fleet::new().await;
    let replica = fleet.replica(&[("k1", fleet.now())], as_it_is).await;
    let (token, _) = replica.mint(&fleet).await.unwrap();
    let file = replica.keys.path().join("k2");
    let put_text = |text: &str| {
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    put_text("not a key\n");
    // Seen once it may be half of something.
    replica.poll().await;
    assert_eq!(replica.counted("trustmint_keyring_refused"), "0");
    for _ in 0..3 {
        replica.poll().await;
    }
    assert_eq!(replica.counted("trustmint_keyring_refused"), "1");
    assert_eq!(replica.counted("trustmint_keyring_reloads_total{outcome=\"refused\"}"), "1");
    assert_eq!((replica.accepts(&fleet, &token).await, replica.mint(&fleet).await.unwrap().1.as_str()), (Ok(()), "k1"));
    // No key at all is a fault, and no way to stop a service.
    fs::remove_file(&file).unwrap();
    replica.take("k1");
    replica.reload().await;
    assert_eq!(replica.accepts(&fleet, &token).await, Ok(()));
    assert_eq!(replica.counted("trustmint_keyring_refused"), "1");
    replica.put("k1", fleet.now());
    replica.reload().await;
    assert_eq!(replica.counted("trustmint_keyring_refused"), "0");
    // A key that others can read is as good as published.
    replica.put("k3", fleet.now());
    fs::set_permissions(replica.keys.path().join("k3"), fs::Permissions::from_mode(0o644)).unwrap();
    replica.reload().await;
    assert_eq!(
        (replica.counted("trustmint_keyring_refused").as_str(), replica.mint(&fleet).await.unwrap().1.as_str()),
        ("1", "k1")
    );
}

#[actix_web::test]
async fn what_changes_between_two_looks_is_not_used_before_it_rests() {
    let fleet = Fleet::new().await;
    let replica = fleet.replica(&[("k1", fleet.now())], as_it_is).await;
    replica.put("k2", fleet.now());
    replica.poll().await;
    replica.put("k3", fleet.now());
    replica.poll().await;
    assert_eq!(replica.mint(&fleet).await.unwrap().1, "k1");
    replica.poll().await;
    assert_eq!(replica.mint(&fleet).await.unwrap().1, "k3");
}

#[actix_web::test]
async fn raising_one_registrys_epoch_re_keys_that_registry_alone() {
    let fleet = Fleet::new().await;
    let raised = |text: String| text.replacen("    audiences: [acme]\n", "    audiences: [acme]\n    epoch: 1\n", 1);
    let other = |text: String| {
        text.replacen(
            "registries:\n",
            "registries:\n  other: {dialect: generic, urls: ['https://other.example/'], audiences: [other], epoch: 7}\n",
            1,
        )
    };
    let keys = [("k1", fleet.now())];
    let before = fleet.replica(&keys, as_it_is).await;
    let (after, unrelated) = (fleet.replica(&keys, raised).await, fleet.replica(&keys, other).await);
    let (token, _) = before.mint(&fleet).await.unwrap();
    assert_eq!(after.accepts(&fleet, &token).await, Err(Code::UploadTokenUnknown));
    assert_eq!(unrelated.accepts(&fleet, &token).await, Ok(()));
    let (token, _) = after.mint(&fleet).await.unwrap();
    assert_eq!(
        (after.accepts(&fleet, &token).await, before.accepts(&fleet, &token).await),
        (Ok(()), Err(Code::UploadTokenUnknown))
    );
}
