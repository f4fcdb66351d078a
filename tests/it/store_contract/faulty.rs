//! A store that fails on command.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;

use trustmint::state::Cursor;
use trustmint::state::ListBounds;
use trustmint::state::Reserved;
use trustmint::state::SetOnce;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::time::Timestamp;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Before anything happens.
    Refused,
    /// After it happened: the answer is lost on the way.
    AnswerLost,
    /// For want of room.
    Full,
    /// With no answer, ever.
    Silent,
}

/// Passes calls on to another store, except while it is told to fail.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    fault: Mutex<Option<Fault>>,
}

pub(crate) const LOST: StoreError = StoreError::Unavailable { reason: "the connection was lost" };

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, fault: Mutex::new(None) }
    }

    /// From now on every call fails like this; `None` ends it.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        let fault = *self.fault.lock().unwrap();
        match fault {
            None => call.await,
            Some(Fault::Refused) => Err(LOST),
            Some(Fault::AnswerLost) => call.await.and(Err(LOST)),
            Some(Fault::Full) => Err(StoreError::Full),
            Some(Fault::Silent) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn set_once(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<SetOnce, StoreError> {
        self.call(self.inner.set_once(key, value, until)).await
    }

    async fn reserve(
        &self,
        key: &[u8],
        member: &[u8],
        value: &[u8],
        limit: u32,
        until: Timestamp,
    ) -> Result<Reserved, StoreError> {
        self.call(self.inner.reserve(key, member, value, limit, until)).await
    }

    async fn put(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError> {
        self.call(self.inner.put(key, value, until)).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.call(self.inner.get(key)).await
    }

    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError> {
        self.call(self.inner.add(key, amount, until)).await
    }

    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        self.call(self.inner.append(list, entry, bounds)).await
    }

    async fn since(
        &self,
        list: &str,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError> {
        self.call(self.inner.since(list, cursor, limit)).await
    }

    async fn remembers_since(&self) -> Result<Timestamp, StoreError> {
        self.call(self.inner.remembers_since()).await
    }
}
