//! Revoked upload tokens: a shared list that each replica follows, and the set it holds in memory, which is all that
//! verification reads. This module keeps the set and says how old it is; what an old set means is the caller's choice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::time::Timestamp;

use super::Cursor;
use super::ListBounds;
use super::RETENTION_MARGIN;
use super::Store;
use super::StoreError;
use super::WhenFull;

const LIST: &str = "revocations";
/// No upload token is accepted for longer, whatever its caveats say, so no revocation matters for longer.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// SECURITY: a revocation is never dropped to make room for another, else a thief could revoke tokens of their own
/// until the one that names theirs is forgotten. A full list makes revoking fail, loudly.
const BOUNDS: ListBounds =
    ListBounds { keep: LONGEST_LIFE.saturating_add(RETENTION_MARGIN), cap: 100_000, when_full: WhenFull::Refuse };
/// How many entries are read at a time.
const PAGE: usize = 1000;
/// How often expired entries are dropped from the set.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// The revoked tokens that have not expired.
#[derive(Debug)]
pub struct Revocations {
    store: Arc<dyn Store>,
    known: RwLock<Known>,
}

#[derive(Debug)]
struct Known {
    /// When each revoked token expires, by its id.
    tokens: HashMap<Box<str>, Timestamp>,
    cursor: Option<Cursor>,
    synced_at: Option<Timestamp>,
    swept_at: Timestamp,
}

/// A revocation as it is stored. Members that it does not know make it unreadable.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRevocation {
    token_id: String,
    expires_at_ms: i64,
}

impl Revocations {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        let known =
            Known { tokens: HashMap::new(), cursor: None, synced_at: None, swept_at: Timestamp::from_unix_millis(0) };
        Self { store, known: RwLock::new(known) }
    }

    /// Revokes a token: here when this returns, on other replicas at their next [`Revocations::sync`]. Revoking again
    /// changes nothing.
    pub async fn revoke(&self, token_id: &str, expires_at: Timestamp) -> Result<(), StoreError> {
        if self.is_revoked(token_id) {
            return Ok(());
        }
        let stored = StoredRevocation { token_id: token_id.to_owned(), expires_at_ms: expires_at.unix_millis() };
        let entry =
            serde_json::to_vec(&stored).map_err(|_| StoreError::Unavailable { reason: "a revocation has no text" })?;
        self.store.append(LIST, &entry, BOUNDS).await?;
        self.write().tokens.insert(token_id.into(), expires_at);
        Ok(())
    }

    /// Whether that token was revoked, as far as is known since [`Revocations::synced_at`].
    pub fn is_revoked(&self, token_id: &str) -> bool {
        self.read().tokens.contains_key(token_id)
    }

    /// Learns what was revoked elsewhere, and drops what has expired.
    pub async fn sync(&self, now: Timestamp) -> Result<(), StoreError> {
        loop {
            let cursor = self.read().cursor;
            let page = self.store.since(LIST, cursor.as_ref(), PAGE).await?;
            let last = page.len() < PAGE;
            // SECURITY: one unreadable entry fails the whole step: passing over it could pass over a revocation.
            let learnt = page.into_iter().map(|(at, entry)| Ok((at, read(&entry)?)));
            let learnt = learnt.collect::<Result<Vec<_>, StoreError>>()?;
            let mut known = self.write();
            for (at, (token_id, expires_at)) in learnt {
                known.tokens.insert(token_id, expires_at);
                known.cursor = known.cursor.max(Some(at));
            }
            if last {
                known.synced_at = known.synced_at.max(Some(now));
                known.sweep(now);
                return Ok(());
            }
        }
    }

    /// When the set was last known to be complete; `None` before the first [`Revocations::sync`].
    pub fn synced_at(&self) -> Option<Timestamp> {
        self.read().synced_at
    }

    // A set behind a poisoned lock is whole: no step above can panic between two changes that belong together.
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn sweep(&mut self, now: Timestamp) {
        if now.since(self.swept_at) >= SWEEP_EVERY {
            self.swept_at = now;
            self.tokens.retain(|_, expires_at| expires_at.plus(RETENTION_MARGIN) > now);
        }
    }
}

fn read(entry: &[u8]) -> Result<(Box<str>, Timestamp), StoreError> {
    let stored: StoredRevocation = serde_json::from_slice(entry)
        .map_err(|_| StoreError::Unavailable { reason: "a stored revocation is unreadable" })?;
    Ok((stored.token_id.into(), Timestamp::from_unix_millis(stored.expires_at_ms)))
}
