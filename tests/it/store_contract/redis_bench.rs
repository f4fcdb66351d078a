//! The store in Redis under test: under a prefix of its own, on a server that all benches share.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use trustmint::state::RedisOptions;
use trustmint::state::RedisStore;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::time::Clock;
use trustmint::time::SystemClock;
use trustmint::time::Timestamp;

use crate::store_contract::bench::Bench;
use crate::support::redis;
use crate::support::redis::Cluster;
use crate::support::redis::Server;
use crate::support::redis::TlsServer;
use crate::support::redis::Watched;

/// The store under a prefix of its own. Its time is the server's, so passing is waiting.
#[derive(Debug)]
pub(crate) struct RedisBench {
    store: Arc<RedisStore>,
    full: StoreError,
}

/// A prefix of no other bench, which the user of docs/redis.md may use.
fn prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("trustmint:test-{}-{}:", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

impl RedisBench {
    fn with(options: RedisOptions) -> Self {
        Self { store: Arc::new(redis::with(options)), full: StoreError::Full }
    }

    /// On one server, or on the one that the environment names.
    #[expect(clippy::disallowed_methods, reason = "another server than Redis is named by whoever runs the tests")]
    pub(crate) fn new() -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));
        let url = std::env::var("TRUSTMINT_TEST_REDIS_URL").unwrap_or_else(|_| SERVER.url());
        Self::with(redis::options(&url, &prefix()))
    }

    /// On one server, as the user of docs/redis.md.
    pub(crate) fn as_documented_user() -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(|| {
            let server = Server::start(&[]);
            redis::make_documented_user(&server, false);
            server
        });
        Self::with(redis::as_documented_user(redis::options(&SERVER.url(), &prefix())))
    }

    /// In a Cluster of three nodes, as the user of docs/redis.md.
    pub(crate) fn in_a_cluster() -> Self {
        static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| {
            let cluster = Cluster::start();
            cluster.nodes.iter().for_each(|node| redis::make_documented_user(node, true));
            cluster
        });
        // Nobody knows whether the library had sent it before.
        let full = StoreError::Unavailable { reason: "Redis is full" };
        Self { full, ..Self::with(redis::as_documented_user(CLUSTER.options(&prefix()))) }
    }

    /// On a primary that a Sentinel names, as the user of docs/redis.md, with its replica confirming first uses.
    pub(crate) fn behind_a_sentinel() -> Self {
        static WATCHED: LazyLock<Watched> = LazyLock::new(|| {
            let watched = Watched::patient(600_000);
            redis::make_documented_user(&watched.primary, false);
            watched
        });
        let options = redis::as_documented_user(WATCHED.options(&prefix()));
        Self::with(RedisOptions { wait_for_replicas: 1, ..options })
    }

    /// On one server over TLS.
    pub(crate) fn over_tls() -> Self {
        static SERVER: LazyLock<TlsServer> = LazyLock::new(TlsServer::start);
        Self::with(SERVER.options("127.0.0.1", Some(&SERVER.authority_pem), &prefix()))
    }
}

#[async_trait]
impl Bench for RedisBench {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn pass(&self, duration: Duration) {
        // A millisecond more: an entry is there until its end is past.
        tokio::time::sleep(duration + Duration::from_millis(2)).await;
    }

    fn step(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn full(&self) -> StoreError {
        self.full
    }
}
