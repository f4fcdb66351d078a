//! The store in Redis under test: under a prefix of its own, on a server that all benches share.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use trustmint::state::RedisStore;
use trustmint::state::Store;
use trustmint::time::Clock;
use trustmint::time::SystemClock;
use trustmint::time::Timestamp;

use crate::store_contract::bench::Bench;
use crate::support::redis::Server;
use crate::support::redis::store;

/// The store under a prefix of its own. Its time is the server's, so passing is waiting.
#[derive(Debug)]
pub(crate) struct RedisBench {
    store: Arc<RedisStore>,
}

impl RedisBench {
    /// On a server that all benches share, or on the one that the environment names.
    #[expect(clippy::disallowed_methods, reason = "another server than Redis is named by whoever runs the tests")]
    pub(crate) fn new() -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let url = match std::env::var("TRUSTMINT_TEST_REDIS_URL") {
            Ok(url) => url,
            Err(_) => SERVER.url(),
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("test-{}-{number}:", std::process::id());
        let store = Arc::new(store(&url, &prefix));
        Self { store }
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
        Duration::from_millis(300)
    }
}
