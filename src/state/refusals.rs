//! Recent refusals, a list for each registry that all replicas append to: a window on events, for people who ask why a
//! job was refused. Nothing is decided by it.

use std::time::Duration;

use crate::time::Timestamp;

use super::Cursor;
use super::ListBounds;
use super::RETENTION_MARGIN;
use super::State;
use super::StoreError;
use super::WhenFull;

/// How many are kept for a registry, and for how long.
const BOUNDS: ListBounds =
    ListBounds { keep: Duration::from_secs(24 * 60 * 60), cap: 1000, when_full: WhenFull::DropOldest };
/// How many refusals of jobs that no rule is about are kept for a registry in an hour. SECURITY: whoever has any project
/// at a provider can make them without end, and must not push out those of the registry's own projects: a day of them
/// leaves room.
const STRANGERS_AN_HOUR: u64 = 30;
/// How many are read at a time.
const LOOK: usize = 50;

/// A part of a registry's refusals.
#[derive(Debug)]
pub struct Refusals {
    /// Oldest first, each as it was kept.
    pub entries: Vec<(Cursor, Vec<u8>)>,
    /// From where to go on; `None` if there was nothing.
    pub next: Option<Cursor>,
    /// Whether there may be more at once.
    pub more: bool,
}

impl State {
    /// Keeps a refusal for the registry of that key, in place of its oldest when there are many.
    pub async fn keep_refusal(&self, key_id: &str, refusal: &[u8]) -> Result<(), StoreError> {
        self.store.append(&list(key_id), refusal, BOUNDS).await.map(|_| ())
    }

    /// The same for the refusal of a job that no rule is about, unless enough of these are kept in this hour.
    pub async fn keep_strangers_refusal(&self, key_id: &str, refusal: &[u8], now: Timestamp) -> Result<(), StoreError> {
        let hour = now.unix_seconds().div_euclid(3600);
        let key = format!("refusals-of-strangers:{key_id}:{hour}");
        let until = Timestamp::from_unix_seconds(hour.saturating_add(1).saturating_mul(3600)).plus(RETENTION_MARGIN);
        if self.store.add(key.as_bytes(), 1, until).await? > STRANGERS_AN_HOUR {
            return Ok(());
        }
        self.keep_refusal(key_id, refusal).await
    }

    /// Refusals at the registry of that key after `cursor`; `None`: from the oldest kept.
    pub async fn refusals(
        &self,
        key_id: &str,
        cursor: Option<&Cursor>,
        now: Timestamp,
    ) -> Result<Refusals, StoreError> {
        let mut entries = self.store.since(&list(key_id), cursor, LOOK).await?;
        let (more, next) = (entries.len() == LOOK, entries.last().map(|(at, _)| *at).or(cursor.copied()));
        // The list may hold entries past their time until the next append.
        entries.retain(|(at, _)| now.since(at.appended_at()) <= BOUNDS.keep);
        Ok(Refusals { entries, next, more })
    }
}

fn list(key_id: &str) -> String {
    format!("refusals:{key_id}")
}
