//! A store under test, with a time that the test passes.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use trustmint::state::MemoryStore;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::time::Clock;
use trustmint::time::Timestamp;

use crate::store_contract::faulty::FaultyStore;

/// A store and its time. Each bench has a store of its own, empty.
#[async_trait]
pub(crate) trait Bench: fmt::Debug {
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// The present, by the store's clock.
    fn now(&self) -> Timestamp;
    /// Lets that time pass.
    async fn pass(&self, duration: Duration);
    /// The shortest time that can be told from none: long enough for a real store's answers to come within it.
    fn step(&self) -> Duration;
    /// What it says of a list that is full.
    fn full(&self) -> StoreError {
        StoreError::Full
    }
}

/// A clock that stands still until it is set.
#[derive(Debug)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The store in memory, on a clock that is set.
#[derive(Debug)]
pub(crate) struct MemoryBench {
    clock: Arc<SetClock>,
    memory: Arc<MemoryStore>,
    store: Arc<dyn Store>,
}

impl MemoryBench {
    pub(crate) fn new() -> Self {
        Self::with_capacity(64 << 20)
    }

    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let clock = Arc::new(SetClock(AtomicI64::new(1_763_856_900_123)));
        let memory = Arc::new(MemoryStore::new(clock.clone(), bytes));
        Self { clock, store: memory.clone(), memory }
    }

    /// The wrapper that makes faults, told to make none, changes nothing.
    pub(crate) fn behind_faults() -> Self {
        let bench = Self::new();
        Self { store: Arc::new(FaultyStore::new(bench.memory.clone())), ..bench }
    }

    pub(crate) fn used(&self) -> usize {
        self.memory.used()
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.clock.0.store(now.unix_millis(), Ordering::SeqCst);
    }
}

#[async_trait]
impl Bench for MemoryBench {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn pass(&self, duration: Duration) {
        self.set(self.now().plus(duration));
    }

    fn step(&self) -> Duration {
        Duration::from_millis(1)
    }
}

/// Runs to the end on this thread.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
