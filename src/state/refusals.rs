//! Recent refusals, a list for each registry that all replicas append to: a window on events, for people who ask why a
//! job was refused. Nothing is decided by it.

use std::time::Duration;

use crate::time::Timestamp;

use super::Cursor;
use super::ListBounds;
use super::State;
use super::StoreError;
use super::WhenFull;

/// How many are kept for a registry, and for how long.
const BOUNDS: ListBounds =
    ListBounds { keep: Duration::from_secs(24 * 60 * 60), cap: 1000, when_full: WhenFull::DropOldest };
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
