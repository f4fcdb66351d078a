//! A store that fails on command.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;

use trustmint::state::Cursor;
use trustmint::state::ListBounds;
use trustmint::state::Reserved;
use trustmint::state::SetOnce;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::time::Timestamp;

use crate::support::Service;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

/// How a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Before anything happens.
    Refused,
    /// After it happened: the answer is lost on the way.
    AnswerLost,
    /// The same, of an entry to a list alone; all else goes well.
    EntryLost,
    /// For want of room.
    Full,
    /// For want of a connection.
    NotAsked,
    /// With no answer, ever.
    Silent,
    /// By a defect of its own.
    Panics,
    /// Not at all, but only once it is told to fail otherwise, or no more.
    Held,
}

/// Passes calls on to another store, except while it is told to fail.
#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn Store>,
    fault: watch::Sender<Option<Fault>>,
    held: watch::Sender<usize>,
    released: watch::Sender<usize>,
}

pub(crate) const LOST: StoreError = StoreError::Unavailable { reason: "the connection was lost" };
pub(crate) const NOT_ASKED: StoreError = StoreError::NotAsked { reason: "there is no connection" };

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, fault: watch::Sender::new(None), held: watch::Sender::new(0), released: watch::Sender::new(0) }
    }

    /// From now on every call fails like this; `None` ends it.
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        self.fault.send_replace(fault);
    }

    /// Waits until that many calls have been held, those about copies aside.
    pub(crate) async fn held(&self, calls: usize) {
        self.held.subscribe().wait_for(|held| *held >= calls).await.unwrap();
    }

    /// Waits until that many calls that were held have ended.
    pub(crate) async fn released(&self, calls: usize) {
        self.released.subscribe().wait_for(|released| *released >= calls).await.unwrap();
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.count_and_call(true, call).await
    }

    async fn count_and_call<T>(
        &self,
        counts: bool,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut orders = self.fault.subscribe();
        let held = counts && *orders.borrow() == Some(Fault::Held);
        if held {
            self.held.send_modify(|held| *held += 1);
        }
        let fault = *orders.wait_for(|fault| *fault != Some(Fault::Held)).await.unwrap();
        let answer = match fault {
            None | Some(Fault::Held | Fault::EntryLost) => call.await,
            Some(Fault::Refused) => Err(LOST),
            Some(Fault::AnswerLost) => call.await.and(Err(LOST)),
            Some(Fault::Full) => Err(StoreError::Full),
            Some(Fault::NotAsked) => Err(NOT_ASKED),
            Some(Fault::Panics) => panic!("a defect of the store"),
            Some(Fault::Silent) => std::future::pending().await,
        };
        if held {
            self.released.send_modify(|released| *released += 1);
        }
        answer
    }
}

/// Copies of issuers' keys are read and written beside a request, at moments that a test does not choose: they fail as
/// all calls do and are not counted.
fn is_copy(key: &[u8]) -> bool {
    key.starts_with(b"copy:")
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
        self.count_and_call(!is_copy(key), self.inner.put(key, value, until)).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.count_and_call(!is_copy(key), self.inner.get(key)).await
    }

    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError> {
        self.call(self.inner.add(key, amount, until)).await
    }

    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        let is_to_be_lost = *self.fault.borrow() == Some(Fault::EntryLost);
        let appended = self.call(self.inner.append(list, entry, bounds)).await;
        if is_to_be_lost { appended.and(Err(LOST)) } else { appended }
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

/// A service with the rule [`WIDGETS`] whose store fails on command.
pub(crate) async fn service() -> (Service, Arc<FaultyStore>) {
    let mut faulty = None;
    let service = Service::with_store(
        |base, issuer| policy(&policy_text(base, issuer, WIDGETS)),
        |store| {
            let store = Arc::new(FaultyStore::new(store));
            faulty = Some(Arc::clone(&store));
            store
        },
    )
    .await;
    (service, faulty.unwrap())
}
