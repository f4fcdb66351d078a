//! A shared list that each replica follows, and what it has learnt from it, held in memory: a request reads only that.
//! This module keeps both in step and says how old they are; what an old one means is the caller's choice.

use std::fmt;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::RwLockReadGuard;
use std::sync::RwLockWriteGuard;
use std::time::Duration;

use crate::time::Timestamp;

use super::Cursor;
use super::ListBounds;
use super::Store;
use super::StoreError;

/// How many entries are read at a time.
const PAGE: usize = 1000;
/// How often what is over is dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What entries come to. Learning one twice is learning it once.
pub(super) trait Learnt: fmt::Debug + Send + Sync {
    /// Takes an entry in. SECURITY: an entry that cannot be read is an error and never passed over: it could be the
    /// restriction that matters.
    fn learn(&mut self, at: Cursor, entry: &[u8]) -> Result<(), StoreError>;

    /// Drops what is over everywhere.
    fn sweep(&mut self, now: Timestamp);
}

/// The list and what was learnt from it.
#[derive(Debug)]
pub(super) struct Followed<L> {
    store: Arc<dyn Store>,
    list: &'static str,
    bounds: ListBounds,
    known: RwLock<Known<L>>,
}

#[derive(Debug)]
pub(super) struct Known<L> {
    pub(super) learnt: L,
    cursor: Option<Cursor>,
    synced_at: Option<Timestamp>,
    swept_at: Timestamp,
}

impl<L: Learnt> Followed<L> {
    pub(super) const fn new(store: Arc<dyn Store>, list: &'static str, bounds: ListBounds, learnt: L) -> Self {
        let known = Known { learnt, cursor: None, synced_at: None, swept_at: Timestamp::from_unix_millis(0) };
        Self { store, list, bounds, known: RwLock::new(known) }
    }

    /// Appends an entry: known here when this returns, on other replicas at their next [`Followed::sync`].
    pub(super) async fn append(&self, entry: &[u8]) -> Result<Cursor, StoreError> {
        let at = self.store.append(self.list, entry, self.bounds).await?;
        self.write().learnt.learn(at, entry)?;
        Ok(at)
    }

    /// Learns what was appended elsewhere, and drops what is over.
    pub(super) async fn sync(&self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let cursor = self.read().cursor;
            let page = self.store.since(self.list, cursor.as_ref(), PAGE).await?;
            let last = page.len() < PAGE;
            let mut known = self.write();
            for (at, entry) in page {
                known.learnt.learn(at, &entry)?;
                known.cursor = known.cursor.max(Some(at));
            }
            if last {
                known.synced_at = known.synced_at.max(Some(now));
                if now.since(known.swept_at) >= SWEEP_EVERY {
                    known.swept_at = now;
                    known.learnt.sweep(now);
                }
                return Ok(());
            }
        }
    }

    /// When it was last known to be complete; `None` before the first [`Followed::sync`].
    pub(super) fn synced_at(&self) -> Option<Timestamp> {
        self.read().synced_at
    }

    /// Entries as they are in the store, from after `cursor` on.
    pub(super) async fn since(
        &self,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError> {
        self.store.since(self.list, cursor, limit).await
    }

    // What is behind a poisoned lock is whole: no step above can panic between two changes that belong together.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Known<L>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known<L>> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}
