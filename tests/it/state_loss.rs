//! The store loses its memory: nobody accepts a token that may have been used or revoked before, and what replicas still
//! hold is in the store again, once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use trustmint::app::App;
use trustmint::app::Caller;
use trustmint::app::Own;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::code::Code;
use trustmint::exchange::Request;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::macaroon::TokenId;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::policy::evaluate::Requested;
use trustmint::secret::Presented;
use trustmint::secret::Secret;
use trustmint::state::Cursor;
use trustmint::state::ListBounds;
use trustmint::state::MemoryStore;
use trustmint::state::Reserved;
use trustmint::state::SealKey;
use trustmint::state::SealKeys;
use trustmint::state::SetOnce;
use trustmint::state::State;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::state::WhenFull;
use trustmint::state::revocations::Issued;
use trustmint::state::revocations::Revocation;
use trustmint::state::stops::Scope;
use trustmint::state::stops::Stop;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;
use trustmint::time::Timestamp;
use trustmint::verify::Question;
use trustmint::verify::Refused;
use trustmint::yielding::Yielding;

use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;
use crate::support::Service;
use crate::support::SetClock;
use crate::support::redis::Server;
use crate::support::redis::store;
use crate::support::said::Channel;
use crate::support::said::Record;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// A server that can lose all that it holds, and counts what is appended to its lists since.
#[derive(Debug)]
struct LossyStore {
    inner: Mutex<Arc<dyn Store>>,
    appended: Mutex<Vec<String>>,
    /// It loses everything just before the next use is reserved.
    loses_at_reserve: Mutex<Option<Arc<SetClock>>>,
    /// The same before each of so many readings of a list to come.
    loses_at_readings: Mutex<Vec<Arc<SetClock>>>,
    /// For each reading of a list to come, what its answer waits for.
    gates: Mutex<VecDeque<Option<Arc<Notify>>>>,
}

impl LossyStore {
    fn over(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(inner),
            appended: Mutex::default(),
            loses_at_reserve: Mutex::default(),
            loses_at_readings: Mutex::default(),
            gates: Mutex::default(),
        })
    }

    fn new(clock: &Arc<SetClock>) -> Arc<Self> {
        Self::over(Arc::new(MemoryStore::new(clock.clone(), 1 << 26)))
    }

    fn inner(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner.lock().unwrap())
    }

    /// It is empty from now on, and says so.
    fn lose(&self, clock: &Arc<SetClock>) {
        clock.pass(Duration::from_millis(1));
        *self.inner.lock().unwrap() = Arc::new(MemoryStore::new(clock.clone(), 1 << 26));
        self.appended.lock().unwrap().clear();
    }

    /// How many entries a list was given since the latest loss.
    fn appended(&self, list: &str) -> usize {
        self.appended.lock().unwrap().iter().filter(|name| *name == list).count()
    }
}

#[async_trait]
impl Store for LossyStore {
    async fn set_once(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<SetOnce, StoreError> {
        self.inner().set_once(key, value, until).await
    }

    async fn reserve(
        &self,
        key: &[u8],
        member: &[u8],
        value: &[u8],
        limit: u32,
        until: Timestamp,
    ) -> Result<Reserved, StoreError> {
        let loses = self.loses_at_reserve.lock().unwrap().take();
        if let Some(clock) = loses {
            self.lose(&clock);
        }
        self.inner().reserve(key, member, value, limit, until).await
    }

    async fn put(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError> {
        self.inner().put(key, value, until).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.inner().get(key).await
    }

    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError> {
        self.inner().add(key, amount, until).await
    }

    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        let at = self.inner().append(list, entry, bounds).await?;
        self.appended.lock().unwrap().push(list.to_owned());
        Ok(at)
    }

    async fn since(
        &self,
        list: &str,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError> {
        let loses = self.loses_at_readings.lock().unwrap().pop();
        if let Some(clock) = loses {
            self.lose(&clock);
        }
        let page = self.inner().since(list, cursor, limit).await;
        let gate = self.gates.lock().unwrap().pop_front().flatten();
        if let Some(gate) = gate {
            gate.notified().await;
        }
        page
    }

    async fn remembers_since(&self) -> Result<Timestamp, StoreError> {
        self.inner().remembers_since().await
    }
}

/// Replicas of the state alone, on one server.
struct Replicas {
    clock: Arc<SetClock>,
    store: Arc<LossyStore>,
}

impl Replicas {
    fn new() -> Self {
        let clock = Arc::new(SetClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)));
        Self { store: LossyStore::new(&clock), clock }
    }

    async fn start(&self, keys: &[(u8, Timestamp)]) -> State {
        let state = State::new(self.store.clone(), seal_keys(keys));
        state.sync(self.clock.now()).await.unwrap();
        state
    }

    /// That many seconds, in each of which every replica syncs.
    async fn seconds(&self, count: u32, replicas: &[&State]) {
        for _ in 0..count {
            self.clock.pass(SECOND);
            for replica in replicas {
                replica.sync(self.clock.now()).await.unwrap();
            }
        }
    }

    fn stop(&self, registry: &str) -> Stop {
        let scope = Scope { registry: Some(registry.to_owned()), ..Scope::default() };
        let (at, by) = (self.clock.now(), "oncall".to_owned());
        Stop { scope, reason: format!("INC-{registry}"), by, at, until: at.plus(12 * HOUR) }
    }
}

fn seal_keys(keys: &[(u8, Timestamp)]) -> SealKeys {
    SealKeys::new(keys.iter().map(|(n, at)| SealKey::new(format!("k{n}"), *at, Secret::new([*n; 32]))).collect())
}

const BEGIN: Timestamp = Timestamp::from_unix_millis(0);

#[actix_web::test]
async fn what_replicas_hold_is_written_back_once_as_it_was() {
    let replicas = Replicas::new();
    let (a, b, c) =
        (replicas.start(&[(1, BEGIN)]).await, replicas.start(&[(1, BEGIN)]).await, replicas.start(&[(1, BEGIN)]).await);
    let until = replicas.clock.now().plus(HOUR);
    for number in 0..1200 {
        a.revocations().revoke(&format!("acme:t{number}"), until).await.unwrap();
    }
    let revoked_at = replicas.clock.now();
    a.revocations().revoke_rule("acme", "release", revoked_at).await.unwrap();
    let kept = a.stop(&replicas.stop("kept")).await.unwrap();
    let lifted = a.stop(&replicas.stop("lifted")).await.unwrap();
    a.lift(lifted, replicas.clock.now()).await.unwrap().unwrap();
    replicas.seconds(1, &[&a, &b, &c]).await;
    let stops = a.stops(replicas.clock.now());

    replicas.store.lose(&replicas.clock);
    let lost_at = Some(replicas.clock.now());
    assert!(a.remembers_since().is_some_and(|since| Some(since) < lost_at));
    replicas.seconds(60, &[&a, &b, &c]).await;
    assert_eq!([&a, &b, &c].map(State::remembers_since), [lost_at; 3]);
    assert_eq!((replicas.store.appended("revocations"), replicas.store.appended("stops")), (1201, 1));
    let late = replicas.start(&[(1, BEGIN)]).await;
    assert!((0..1200).all(|number| late.revocations().is_revoked(&format!("acme:t{number}"))));
    let (mut cursor, mut listed) = (None, Vec::new());
    loop {
        let page = late.revocations().of_registry("acme", cursor.as_ref()).await.unwrap();
        listed.extend(page.revocations.into_iter().map(|(_, revocation)| revocation));
        cursor = page.next;
        if !page.more {
            break;
        }
    }
    assert_eq!(listed.len(), 1201);
    assert!(listed.contains(&Revocation::Token { id: "t7".to_owned(), until }));
    let ends = revoked_at.plus(HOUR);
    assert!(listed.contains(&Revocation::Rule { rule: "release".to_owned(), issued_before: revoked_at, until: ends }));
    assert_eq!(late.stops(replicas.clock.now()), stops, "name, reason, author and times");
    // Under its name it is lifted everywhere.
    late.lift(kept, replicas.clock.now()).await.unwrap().unwrap();
    replicas.seconds(1, &[&a, &b, &c]).await;
    for replica in [&a, &b, &c, &late] {
        assert!(replica.stops(replicas.clock.now()).is_empty());
    }

    // And again after another loss: the lifted one is gone, the rest is there.
    replicas.store.lose(&replicas.clock);
    replicas.seconds(60, &[&c, &late]).await;
    assert_eq!((replicas.store.appended("revocations"), replicas.store.appended("stops")), (1201, 0));
}

#[actix_web::test]
async fn what_one_replica_alone_holds_is_written_back_too() {
    let replicas = Replicas::new();
    let (a, b, c) =
        (replicas.start(&[(1, BEGIN)]).await, replicas.start(&[(1, BEGIN)]).await, replicas.start(&[(1, BEGIN)]).await);
    let until = replicas.clock.now().plus(HOUR);
    a.revocations().revoke("acme:everywhere", until).await.unwrap();
    let stop = a.stop(&replicas.stop("acme")).await.unwrap();
    replicas.seconds(1, &[&a, &b, &c]).await;
    // Within the last second before the loss.
    b.revocations().revoke("acme:b-alone", until).await.unwrap();
    c.lift(stop, replicas.clock.now()).await.unwrap().unwrap();
    replicas.store.lose(&replicas.clock);
    // Who has lifted it looks first, when the stop is not there again yet.
    replicas.seconds(20, &[&c, &b, &a]).await;
    assert_eq!((replicas.store.appended("revocations"), replicas.store.appended("stops")), (2, 2));
    let late = replicas.start(&[(1, BEGIN)]).await;
    for replica in [&a, &b, &c, &late] {
        assert!(
            replica.revocations().is_revoked("acme:b-alone") && replica.revocations().is_revoked("acme:everywhere")
        );
        assert!(replica.stops(replicas.clock.now()).is_empty(), "it was lifted before the loss");
    }
}

#[actix_web::test]
async fn who_cannot_write_back_gives_its_turn_away() {
    let replicas = Replicas::new();
    let faulty = Arc::new(FaultyStore::new(replicas.store.clone()));
    let unlucky = State::new(faulty.clone(), seal_keys(&[(1, BEGIN)]));
    unlucky.sync(replicas.clock.now()).await.unwrap();
    let other = replicas.start(&[(1, BEGIN)]).await;
    other.revocations().revoke("acme:t", replicas.clock.now().plus(HOUR)).await.unwrap();
    replicas.seconds(1, &[&unlucky, &other]).await;
    replicas.store.lose(&replicas.clock);
    replicas.clock.pass(SECOND);
    let now = replicas.clock.now();
    unlucky.revocations().sync(now).await.unwrap();
    // It takes the turn, and its answer is lost; then its network goes.
    faulty.fail(Some(Fault::AnswerLost));
    assert!(unlucky.revocations().mend(now).await.is_err());
    other.sync(now).await.unwrap();
    assert_eq!(replicas.store.appended("revocations"), 0, "it is not the other's turn");
    replicas.seconds(5, &[&other]).await;
    assert_eq!(replicas.store.appended("revocations"), 1);
}

#[actix_web::test]
async fn a_server_whose_clock_is_behind_hides_nothing_after_a_loss() {
    let replicas = Replicas::new();
    let (a, b) = (replicas.start(&[(1, BEGIN)]).await, replicas.start(&[(1, BEGIN)]).await);
    let until = replicas.clock.now().plus(HOUR);
    replicas.clock.pass(10 * SECOND);
    a.revocations().revoke("acme:before", until).await.unwrap();
    replicas.seconds(1, &[&a, &b]).await;
    replicas.clock.go_back(5 * SECOND);
    replicas.store.lose(&replicas.clock);
    // Its place in the list is one that both have passed.
    a.revocations().revoke("acme:after", until).await.unwrap();
    b.sync(replicas.clock.now()).await.unwrap();
    assert!(b.revocations().is_revoked("acme:after") && b.revocations().is_revoked("acme:before"));
}

/// The background's reading finds a loss while an exchange's, which asks for the list itself, waits for its answer.
#[actix_web::test]
async fn two_readings_at_once_miss_nothing_of_a_list_that_begins_anew() {
    let replicas = Replicas::new();
    let (a, other) = (Arc::new(replicas.start(&[(1, BEGIN)]).await), replicas.start(&[(1, BEGIN)]).await);
    let until = replicas.clock.now().plus(HOUR);
    replicas.clock.pass(10 * SECOND);
    a.revocations().revoke("acme:before", until).await.unwrap();
    a.sync(replicas.clock.now()).await.unwrap();
    replicas.clock.go_back(5 * SECOND);
    replicas.store.lose(&replicas.clock);
    for number in 0..1500 {
        other.revocations().revoke(&format!("acme:t{number}"), until).await.unwrap();
    }
    replicas.clock.pass(10 * SECOND);
    other.revocations().revoke("acme:last", until).await.unwrap();

    let (waiting, reading) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    *replicas.store.gates.lock().unwrap() = [Some(Arc::clone(&waiting)), None, Some(Arc::clone(&reading))].into();
    let now = replicas.clock.now();
    let sync = || {
        let state = Arc::clone(&a);
        actix_web::rt::spawn(async move { state.revocations().sync(now).await })
    };
    let first = sync();
    settle().await;
    let second = sync();
    settle().await;
    assert!(
        replicas.store.gates.lock().unwrap().is_empty(),
        "the second has found the loss and waits for its first page"
    );
    waiting.notify_one();
    settle().await;
    reading.notify_one();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!((0..1500).all(|number| a.revocations().is_revoked(&format!("acme:t{number}"))));
    assert!(a.revocations().is_revoked("acme:last") && a.revocations().is_revoked("acme:before"));
}

#[actix_web::test]
async fn what_is_lost_while_a_replica_starts_is_not_taken_for_known() {
    let replicas = Replicas::new();
    for losses in 1..=2 {
        *replicas.store.loses_at_readings.lock().unwrap() = vec![replicas.clock.clone(); losses];
        let state = State::new(replicas.store.clone(), seal_keys(&[(1, BEGIN)]));
        state.revocations().sync(replicas.clock.now()).await.unwrap();
        let since = replicas.store.remembers_since().await.unwrap();
        assert_eq!(state.revocations().complete_since(), Some(since), "{losses} losses");
    }
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[actix_web::test]
async fn a_clock_that_ran_ahead_and_was_set_back_forgets_nothing_for_good() {
    let replicas = Replicas::new();
    // The store has a clock of its own.
    let store = LossyStore::new(&Arc::new(SetClock::starting_at(replicas.clock.now())));
    let a = State::new(store, seal_keys(&[(1, BEGIN)]));
    a.sync(replicas.clock.now()).await.unwrap();
    a.revocations().revoke("acme:t", replicas.clock.now().plus(HOUR)).await.unwrap();
    a.stop(&replicas.stop("acme")).await.unwrap();
    replicas.clock.pass(48 * HOUR);
    a.sync(replicas.clock.now()).await.unwrap();
    assert!(!a.revocations().is_revoked("acme:t"), "by that clock it is over");
    replicas.clock.go_back(48 * HOUR);
    a.sync(replicas.clock.now()).await.unwrap();
    assert!(a.revocations().is_revoked("acme:t"));
    assert_eq!(a.stops(replicas.clock.now()).len(), 1);
    assert_eq!(a.restrictions_synced_at(), Some(replicas.clock.now()));
}

#[actix_web::test]
async fn while_nothing_is_lost_nothing_is_written() {
    let replicas = Replicas::new();
    let (a, b) = (replicas.start(&[(1, BEGIN)]).await, replicas.start(&[(1, BEGIN)]).await);
    a.revocations().revoke("acme:t", replicas.clock.now().plus(HOUR)).await.unwrap();
    let stop = a.stop(&replicas.stop("acme")).await.unwrap();
    b.sync(replicas.clock.now()).await.unwrap();
    b.lift(stop, replicas.clock.now()).await.unwrap().unwrap();
    replicas.seconds(120, &[&a, &b]).await;
    assert_eq!((replicas.store.appended("revocations"), replicas.store.appended("stops")), (1, 2));
}

#[actix_web::test]
async fn a_lift_outlives_the_key_that_sealed_it_in_a_rotation() {
    let replicas = Replicas::new();
    let takes_over = replicas.clock.now().plus(HOUR);
    let (a, b) = (replicas.start(&[(1, BEGIN)]).await, replicas.start(&[(1, BEGIN)]).await);
    let stop = a.stop(&replicas.stop("acme")).await.unwrap();
    a.lift(stop, replicas.clock.now()).await.unwrap().unwrap();
    replicas.seconds(1, &[&a, &b]).await;
    // One replica reads the new key late, and never before it seals.
    a.rekey(seal_keys(&[(1, BEGIN), (2, takes_over)]));
    replicas.seconds(2, &[&a, &b]).await;
    assert_eq!(replicas.store.appended("stops"), 2, "the old key seals until then");
    replicas.clock.pass(HOUR);
    replicas.seconds(20, &[&a, &b]).await;
    b.rekey(seal_keys(&[(1, BEGIN), (2, takes_over)]));
    replicas.seconds(20, &[&a, &b]).await;
    assert_eq!(replicas.store.appended("stops"), 3, "once, whatever the number of replicas");
    for replica in [&a, &b] {
        replica.rekey(seal_keys(&[(2, takes_over)]));
    }
    replicas.seconds(20, &[&a, &b]).await;
    let late = replicas.start(&[(2, takes_over)]).await;
    for replica in [&a, &b, &late] {
        assert!(replica.stops(replicas.clock.now()).is_empty(), "it stays lifted");
    }
    assert_eq!(replicas.store.appended("stops"), 3);
}

#[actix_web::test]
async fn a_key_that_is_taken_away_before_another_seals_takes_its_lifts_with_it() {
    let replicas = Replicas::new();
    let a = replicas.start(&[(1, BEGIN)]).await;
    let stop = a.stop(&replicas.stop("acme")).await.unwrap();
    a.lift(stop, replicas.clock.now()).await.unwrap().unwrap();
    a.rekey(seal_keys(&[(2, BEGIN)]));
    replicas.seconds(10, &[&a]).await;
    assert_eq!(a.stops(replicas.clock.now()).len(), 1, "whoever stole the key could have lifted it");
    assert_eq!(replicas.store.appended("stops"), 2, "and nothing makes it good again");
}

#[actix_web::test]
async fn what_is_planted_in_the_store_takes_nothing_from_memory() {
    let replicas = Replicas::new();
    let a = replicas.start(&[(1, BEGIN)]).await;
    let now = replicas.clock.now();
    a.revocations().revoke("acme:t", now.plus(HOUR)).await.unwrap();
    a.revocations().revoke_rule("acme", "release", now).await.unwrap();
    let stop = a.stop(&replicas.stop("acme")).await.unwrap();
    let before = a.stops(now);
    let bounds = ListBounds { keep: HOUR, cap: 100_000, when_full: WhenFull::Refuse };
    for (list, planted) in [
        ("revocations", json!({"token": {"name": "acme:t", "expires_at_ms": 0}})),
        ("revocations", json!({"rule": {"name": "acme:release", "issued_before_ms": 0}})),
        (
            "stops",
            json!({"stop": {"name": stop.to_string(), "scope": {"rule": "x"}, "reason": "", "by": "", "at_ms": 0, "until_ms": 0}}),
        ),
    ] {
        replicas.store.append(list, planted.to_string().as_bytes(), bounds).await.unwrap();
    }
    replicas.seconds(61, &[&a]).await;
    let now = replicas.clock.now();
    assert!(a.revocations().is_revoked("acme:t"), "it does not end sooner");
    let rules = ["release".to_owned()];
    let issued_at = now.minus(62 * SECOND);
    let issued = Issued { key_id: "acme", token_id: "u", rules: &rules, issued_at };
    assert!(a.revocations().cover(issued));
    assert_eq!(a.stops(now), before);
    // Nor does it pass for what is held when that is written back.
    replicas.store.lose(&replicas.clock);
    let until_ms = replicas.clock.now().plus(HOUR).unix_millis();
    let other = json!({"name": stop.to_string(), "scope": {"rule": "x"}, "reason": "", "by": "", "at_ms": 0, "until_ms": until_ms});
    for (list, planted) in [
        ("revocations", json!({"token": {"name": "acme:t", "expires_at_ms": 0}})),
        ("revocations", json!({"rule": {"name": "acme:release", "issued_before_ms": 0}})),
        ("stops", json!({"stop": other})),
    ] {
        replicas.store.append(list, planted.to_string().as_bytes(), bounds).await.unwrap();
    }
    replicas.seconds(20, &[&a]).await;
    let late = replicas.start(&[(1, BEGIN)]).await;
    assert!(late.stops(replicas.clock.now()).contains(&before[0]));
    replicas.seconds(61, &[&late]).await;
    assert!(late.revocations().is_revoked("acme:t"));
    assert!(late.revocations().cover(issued));
}

#[actix_web::test]
async fn a_redis_that_was_flushed_or_restarted_empty_is_given_back_what_replicas_hold() {
    let mut server = Server::start(&[]);
    let state = |server: &Server| State::new(Arc::new(store(&server.url(), "loss:")), seal_keys(&[(1, BEGIN)]));
    let (a, b) = (state(&server), state(&server));
    let sync = async |states: &[&State]| {
        for state in states {
            // The first call on a connection that died may fail; the next one is on a new connection.
            if state.sync(SystemClock.now()).await.is_err() {
                state.sync(SystemClock.now()).await.unwrap();
            }
        }
    };
    sync(&[&a, &b]).await;
    let at = SystemClock.now();
    for number in 0..20 {
        a.revocations().revoke(&format!("acme:t{number}"), at.plus(HOUR)).await.unwrap();
    }
    let scope = Scope { registry: Some("acme".to_owned()), ..Scope::default() };
    let stop = Stop { scope, reason: "INC".to_owned(), by: "oncall".to_owned(), at, until: at.plus(HOUR) };
    let (kept, lifted) = (a.stop(&stop).await.unwrap(), a.stop(&stop).await.unwrap());
    a.lift(lifted, at).await.unwrap().unwrap();
    sync(&[&b]).await;
    for loss in ["flushed", "restarted"] {
        if loss == "flushed" {
            assert_eq!(server.cli(&["FLUSHALL"]).trim(), "OK");
        } else {
            server.stop();
            server.start_again();
        }
        sync(&[&a, &b, &a, &b]).await;
        let late = state(&server);
        sync(&[&late]).await;
        assert!((0..20).all(|number| late.revocations().is_revoked(&format!("acme:t{number}"))), "{loss}");
        assert_eq!(late.stops(SystemClock.now()), [(kept, b.stops(SystemClock.now())[0].1.clone())], "{loss}");
        assert!(late.revocations().complete_since() > b.revocations().complete_since(), "{loss}");
        let entries = server.cli(&["XLEN", "loss:{0}:l:revocations"]);
        assert_eq!(entries.trim(), "20", "{loss}: each once");
    }
}

/// Replicas of the whole service.
struct Fleet {
    outside: Service,
    store: Arc<LossyStore>,
}

impl Fleet {
    async fn new() -> Self {
        let outside = Service::start().await;
        let store = LossyStore::new(&outside.clock);
        Self { outside, store }
    }

    async fn start(&self) -> App {
        let app = self.replica(self.store.clone());
        app.sync().await.unwrap();
        app
    }

    fn replica(&self, store: Arc<dyn Store>) -> App {
        let key = MasterKey::generate("k1", std::array::from_fn(|n| u8::try_from(n).unwrap()), BEGIN).unwrap();
        let text = policy_text(&self.outside.base, self.outside.provider.issuer(), WIDGETS);
        let accept = "dialect: pypi\n    verify_when_store_down: accept";
        App::build(Parts {
            policy: policy(&text.replace("dialect: pypi", accept)),
            keyring: Keyring::new(vec![key]).unwrap(),
            fetch: Arc::new(HttpsFetch::new()),
            store,
            audit: AuditLog::start(AuditSink::Writer(Box::new(Record::of(Channel::Audit))), 64).unwrap(),
            metrics: Arc::new(Metrics::new().unwrap()),
            clock: self.outside.clock.clone(),
            runtime: Handle::current(),
        })
    }

    async fn mint(&self, app: &App, id_token: &str, single_use: bool) -> Result<String, Code> {
        let policy = app.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        let subject_token = Presented::new(id_token);
        let request = Request {
            registry,
            subject_token,
            requested: Requested::default(),
            single_use,
            yielding: Yielding::NOTHING,
        };
        let issued = app.exchange(&policy, request, &caller(), app.now()).await.map_err(|failure| failure.code())?;
        Ok(issued.minted().token.expose().clone())
    }

    async fn fresh(&self, app: &App, single_use: bool) -> String {
        self.mint(app, &self.outside.id_token(&json!({})), single_use).await.unwrap()
    }
}

fn caller() -> Caller {
    Caller { request_id: "test".to_owned(), client: None }
}

async fn asked(app: &App, token: &str, consume: Option<&str>) -> (Result<(), Refused>, Option<TokenId>) {
    let policy = app.policy();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let package = PackageName::parse(Ecosystem::Pypi, "widgets").unwrap();
    let question = Question {
        token: Presented::new(token),
        action: Action::upload(),
        package,
        version: None,
        sha256: None,
        size: None,
        client_ip: None,
        consume,
        yielding: Yielding::NOTHING,
    };
    let outcome = app.verify(&policy, registry, &question, &caller(), app.now()).await;
    (outcome.result, outcome.authentic.map(|authentic| authentic.identifier().id))
}

async fn verdict(app: &App, token: &str, consume: Option<&str>) -> Result<(), Code> {
    asked(app, token, consume).await.0.map_err(|refused| refused.code())
}

#[actix_web::test]
async fn a_use_that_the_store_may_have_forgotten_is_not_granted_again() {
    let fleet = Fleet::new().await;
    let (app, other) = (fleet.start().await, fleet.start().await);
    let (used, unused) = (fleet.fresh(&app, true).await, fleet.fresh(&app, true).await);
    assert_eq!(verdict(&app, &used, Some("u1")).await, Ok(()));
    assert_eq!(verdict(&other, &used, Some("u2")).await, Err(Code::UsesSpent));
    fleet.store.lose(&fleet.outside.clock);
    // Neither replica has had a look since.
    for app in [&app, &other] {
        for (token, upload) in [(&used, "u2"), (&used, "u1"), (&unused, "u3"), (&unused, "u3")] {
            assert_eq!(verdict(app, token, Some(upload)).await, Err(Code::StateLost));
        }
    }
    fleet.outside.clock.pass(SECOND);
    let token = fleet.fresh(&app, true).await;
    assert_eq!(verdict(&other, &token, Some("u1")).await, Ok(()), "fresh ones are good within a second");
    assert_eq!(verdict(&app, &token, Some("u2")).await, Err(Code::UsesSpent));
    // Also when it is lost between the question and the use.
    let last = fleet.fresh(&app, true).await;
    *fleet.store.loses_at_reserve.lock().unwrap() = Some(fleet.outside.clock.clone());
    assert_eq!(verdict(&app, &last, Some("u1")).await, Err(Code::StateLost));
    let (refused, _) = asked(&app, &used, Some("u2")).await;
    let retry_after = refused.unwrap_err().retry_after().unwrap();
    assert!(retry_after < 15 * 60 * SECOND && retry_after > 14 * 60 * SECOND, "until it is over: {retry_after:?}");
}

#[actix_web::test]
async fn a_token_that_may_have_been_revoked_before_a_replica_began_is_not_accepted_by_it() {
    let fleet = Fleet::new().await;
    let old = fleet.start().await;
    let (revoked, good) = (fleet.fresh(&old, false).await, fleet.fresh(&old, false).await);
    let policy = old.policy();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let id = asked(&old, &revoked, None).await.1.unwrap();
    old.revoke_own(registry, &Own::Token(id), &caller(), old.now()).await.unwrap();
    fleet.store.lose(&fleet.outside.clock);
    fleet.outside.clock.pass(SECOND);
    old.sync().await.unwrap();
    // Who was there before the loss knows.
    assert_eq!(verdict(&old, &revoked, None).await, Err(Code::UploadTokenRevoked));
    assert_eq!(verdict(&old, &good, None).await, Ok(()));
    // Who begins after it does not, whatever was written back meanwhile by those who are left.
    let new = fleet.start().await;
    assert_eq!(verdict(&new, &good, None).await, Err(Code::StateLost));
    assert_ne!(verdict(&new, &revoked, None).await, Ok(()));
    let introspected = new.introspect(&new.policy(), registry, &good, &caller(), new.now());
    assert_eq!(introspected.unwrap_err().code(), Code::StateLost);
    let fresh = fleet.fresh(&new, false).await;
    for app in [&old, &new] {
        assert_eq!(verdict(app, &fresh, None).await, Ok(()));
    }
    // Another loss takes nothing from what both know.
    fleet.store.lose(&fleet.outside.clock);
    for app in [&old, &new] {
        fleet.outside.clock.pass(SECOND);
        app.sync().await.unwrap();
        assert_eq!(verdict(app, &fresh, None).await, Ok(()));
    }
}

#[actix_web::test]
async fn a_replica_that_never_had_the_lists_says_nothing_also_where_the_store_may_be_down() {
    let fleet = Fleet::new().await;
    let (old, faulty) = (fleet.start().await, Arc::new(FaultyStore::new(fleet.store.clone())));
    let token = fleet.fresh(&old, false).await;
    faulty.fail(Some(Fault::Refused));
    let new = fleet.replica(faulty.clone());
    assert!(new.sync().await.is_err());
    assert_eq!(verdict(&new, &token, None).await, Err(Code::StoreUnavailable));
    fleet.outside.clock.pass(31 * SECOND);
    assert_eq!(verdict(&new, &token, None).await, Err(Code::StoreUnavailable));
    assert_eq!(verdict(&old, &token, None).await, Ok(()), "it goes by what it knew");
    faulty.fail(None);
    new.sync().await.unwrap();
    assert_eq!(verdict(&new, &token, None).await, Ok(()));
}

#[actix_web::test]
async fn after_a_restart_with_the_store_every_older_token_is_refused_as_lost() {
    let fleet = Fleet::new().await;
    let before = fleet.start().await;
    let id_token = fleet.outside.id_token(&json!({}));
    let (multi, single) = (fleet.mint(&before, &id_token, false).await.unwrap(), fleet.fresh(&before, true).await);
    drop(before);
    fleet.outside.clock.pass(Duration::from_millis(999));
    fleet.store.lose(&fleet.outside.clock);
    let after = fleet.start().await;
    assert_eq!(fleet.mint(&after, &id_token, false).await, Err(Code::StateLost));
    assert_eq!(verdict(&after, &multi, None).await, Err(Code::StateLost));
    assert_eq!(verdict(&after, &single, Some("u")).await, Err(Code::StateLost));
    let fresh = fleet.fresh(&after, false).await;
    assert_eq!(verdict(&after, &fresh, None).await, Ok(()), "at once");
    fleet.outside.clock.pass(15 * 60 * SECOND);
    after.sync().await.unwrap();
    assert_eq!(
        verdict(&after, &multi, None).await,
        Err(Code::UploadTokenExpired),
        "it is over, and that is what is said"
    );
}

#[actix_web::test]
async fn a_registry_is_told_that_the_state_was_lost_and_until_when_that_matters() {
    let mut kept = None;
    let service = Service::with_store(
        |base, issuer| policy(&policy_text(base, issuer, WIDGETS)),
        |inner| {
            let store = LossyStore::over(inner);
            kept = Some(Arc::clone(&store));
            store
        },
    )
    .await;
    let body = json!({"token": service.id_token(&json!({})), "features": ["single-use-token"]});
    let token = service.mint(&body).await.body["token"].as_str().unwrap().to_owned();
    kept.unwrap().lose(&service.clock);
    service.pass(59 * SECOND).await;
    let answer = service.verify(&json!({"token": token, "package": "widgets", "exists": true, "consume": "u"})).await;
    assert_eq!((answer.status, answer.code()), (503, "state-lost"), "{}", answer.text);
    assert_eq!(answer.headers["retry-after"], "841", "fifteen minutes, rounded up");
    assert!(answer.body["allowed"].is_null());
    assert!(answer.body["mend"].as_str().unwrap().contains("fresh ID token"), "{}", answer.text);
    // Reading spends nothing.
    let read = service.verify(&json!({"token": token, "package": "widgets", "action": "read"})).await;
    assert_eq!(read.body["allowed"], true, "{}", read.text);
}
