//! A shared list that each replica follows, and what it has learnt from it, held in memory: a request reads only that.
//! This module keeps both in step and says how old they are; what an old one means is the caller's choice.
//!
//! A store that has lost its memory gets back what replicas still hold ([`Followed::mend`]): each compares what it holds
//! with the list as it is now, and they write in turns, so that what all of them hold is written once.

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
use super::RESTRICTIONS_MAX_AGE;
use super::RETENTION_MARGIN;
use super::SetOnce;
use super::Store;
use super::StoreError;

/// How many entries are read at a time.
const PAGE: usize = 1000;
/// How many entries are written back at a time: a second's worth.
const MENDED_AT_ONCE: usize = 500;
/// How long one replica has to write back what the store lacks before another may.
const TURN: Duration = Duration::from_secs(5);
/// How long a replica goes on looking after a loss: an append that the store answered before the loss may reach memory
/// after it.
const LOOK_AFTER_LOSS: Duration = RESTRICTIONS_MAX_AGE;
/// How often what is over is dropped.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What entries come to. Learning one twice is learning it once.
pub(super) trait Learnt: fmt::Debug + Default + Send + Sync {
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
    /// Since when the store had forgotten nothing, by the latest look.
    remembers_since: Option<Timestamp>,
    /// The same when the list was first complete here.
    complete_since: Option<Timestamp>,
    /// How often this replica has begun to read the list anew.
    readings: u64,
    /// What the store has since the latest of them, while that is being compared with what is held here.
    image: Option<Image<L>>,
    /// The latest turn that was this replica's.
    turn: Option<i64>,
}

#[derive(Debug)]
struct Image<L> {
    learnt: L,
    until: Timestamp,
}

impl<L: Learnt> Followed<L> {
    pub(super) fn new(store: Arc<dyn Store>, list: &'static str, bounds: ListBounds) -> Self {
        let known = Known {
            learnt: L::default(),
            cursor: None,
            synced_at: None,
            swept_at: Timestamp::from_unix_millis(0),
            remembers_since: None,
            complete_since: None,
            readings: 0,
            image: None,
            turn: None,
        };
        Self { store, list, bounds, known: RwLock::new(known) }
    }

    /// Appends an entry: known here when this returns, on other replicas at their next [`Followed::sync`].
    pub(super) async fn append(&self, entry: &[u8]) -> Result<Cursor, StoreError> {
        self.append_within(entry, self.bounds.cap).await
    }

    /// The same if the list has room for it below that cap.
    pub(super) async fn append_within(&self, entry: &[u8], cap: u32) -> Result<Cursor, StoreError> {
        let cap = cap.min(self.bounds.cap);
        let at = self.store.append(self.list, entry, ListBounds { cap, ..self.bounds }).await?;
        self.write().learnt.learn(at, entry)?;
        Ok(at)
    }

    /// Learns what was appended elsewhere, and drops what is over.
    pub(super) async fn sync(&self, now: Timestamp) -> Result<(), StoreError> {
        self.doubt_sweeps_after(now);
        let known = self.read().remembers_since;
        let before = match known {
            Some(before) => before,
            None => self.store.remembers_since().await?,
        };
        self.follow().await?;
        // Asked after the list was read, so that a store which lost it in between is found out.
        let mut since = self.store.remembers_since().await?;
        if since > before {
            self.lost(since, now);
            self.follow().await?;
            since = self.store.remembers_since().await?;
        }
        let mut known = self.write();
        // A loss during the second reading is found by the next sync, which compares with this.
        known.remembers_since.get_or_insert(before);
        known.complete_since.get_or_insert(since);
        known.synced_at = Some(now);
        if now.since(known.swept_at) >= SWEEP_EVERY {
            known.swept_at = now;
            known.learnt.sweep(now);
        }
        drop(known);
        Ok(())
    }

    /// What was swept at a moment that is still to come may matter yet: the clock ran ahead and was set back. So the list
    /// is read again.
    fn doubt_sweeps_after(&self, now: Timestamp) {
        let mut known = self.write();
        if known.swept_at > now {
            known.swept_at = now;
            known.readings += 1;
            known.cursor = None;
        }
    }

    /// Reads the list to its end.
    async fn follow(&self) -> Result<(), StoreError> {
        loop {
            let (cursor, readings) = {
                let known = self.read();
                (known.cursor, known.readings)
            };
            let page = self.store.since(self.list, cursor.as_ref(), PAGE).await?;
            let last = page.len() < PAGE;
            let mut known = self.write();
            if known.readings != readings {
                // Another reading has begun anew meanwhile, and this page is from a place that means nothing now.
                continue;
            }
            for (at, entry) in page {
                known.learnt.learn(at, &entry)?;
                if let Some(image) = &mut known.image {
                    image.learnt.learn(at, &entry)?;
                }
                known.cursor = known.cursor.max(Some(at));
            }
            if last {
                return Ok(());
            }
        }
    }

    /// The store has lost its memory. The list is read from its beginning: a server whose clock is behind the lost one's
    /// gives places that this replica has passed. SECURITY: what is held stays held.
    fn lost(&self, since: Timestamp, now: Timestamp) {
        let mut known = self.write();
        if known.remembers_since.is_some_and(|known| since <= known) {
            return;
        }
        known.remembers_since = Some(since);
        known.readings += 1;
        known.cursor = None;
        known.image = Some(Image { learnt: L::default(), until: now.plus(LOOK_AFTER_LOSS) });
    }

    /// Writes what the list lacks, if it is this replica's turn. `lacking` names it, given what is held here and, after
    /// a loss, what the list has since then. To be called after [`Followed::sync`].
    pub(super) async fn mend(
        &self,
        now: Timestamp,
        lacking: impl FnOnce(&L, Option<&L>) -> Result<Vec<Vec<u8>>, StoreError>,
    ) -> Result<(), StoreError> {
        let lacking = {
            let known = self.read();
            lacking(&known.learnt, known.image.as_ref().map(|image| &image.learnt))?
        };
        if lacking.is_empty() {
            let mut known = self.write();
            known.image = known.image.take().filter(|image| now < image.until);
            return Ok(());
        }
        if self.has_turn(now).await? {
            for entry in lacking.iter().take(MENDED_AT_ONCE) {
                self.store.append(self.list, entry, self.bounds).await?;
            }
        }
        // What was written is read back like everybody's.
        Ok(())
    }

    /// Whether this replica is the one that may write back now. Replicas whose clocks differ may both be: they write some
    /// entries twice, which means the same.
    async fn has_turn(&self, now: Timestamp) -> Result<bool, StoreError> {
        let length = i64::try_from(TURN.as_secs()).unwrap_or(i64::MAX);
        let turn = now.unix_seconds().div_euclid(length);
        if self.read().turn == Some(turn) {
            return Ok(true);
        }
        let key = format!("turn:{}:{turn}", self.list);
        let mine = self.store.set_once(key.as_bytes(), b"", now.plus(TURN).plus(RETENTION_MARGIN)).await?;
        if mine == SetOnce::Set {
            self.write().turn = Some(turn);
        }
        Ok(mine == SetOnce::Set)
    }

    /// Since when no entry can be missing from what is held here, although the store may have lost some: `None` before
    /// the first [`Followed::sync`].
    pub(super) fn complete_since(&self) -> Option<Timestamp> {
        self.read().complete_since
    }

    /// Since when the store has forgotten nothing, by the latest look; `None` before the first [`Followed::sync`].
    pub(super) fn remembers_since(&self) -> Option<Timestamp> {
        self.read().remembers_since
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
