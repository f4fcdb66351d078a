//! Revoked upload tokens, one by one or all of a rule: a shared list that each replica follows. What verification reads
//! is the set in memory.
//!
//! SECURITY: an entry restricts, so it is believed as it stands in the store. Whoever can write there can refuse
//! tokens, as they can by stopping the store; they cannot make a token good. Whoever can delete there is too late on
//! every replica that has learnt the entry: nothing is dropped from memory before its time.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::time::Timestamp;

use super::Cursor;
use super::ListBounds;
use super::RETENTION_MARGIN;
use super::State;
use super::Store;
use super::StoreError;
use super::WhenFull;
use super::followed::Followed;
use super::followed::Learnt;
use super::token_name;

const LIST: &str = "revocations";
/// No upload token is accepted for longer, whatever its caveats say, so no revocation matters for longer.
const LONGEST_LIFE: Duration = Duration::from_secs(3600);
/// SECURITY: a revocation is never dropped to make room for another, else a thief could revoke tokens of their own
/// until the one that names theirs is forgotten. A full list makes revoking fail, loudly.
const BOUNDS: ListBounds =
    ListBounds { keep: LONGEST_LIFE.saturating_add(RETENTION_MARGIN), cap: 100_000, when_full: WhenFull::Refuse };
/// How many of its own tokens' revocations a registry may write in an hour. SECURITY: the list is shared and refuses
/// when it is full, so no registry may fill it.
const OWN_SHARE: u64 = 5000;
/// The same for those who hold its tokens, all together. SECURITY: a share of its own, so that a job which mints and
/// revokes without end takes nothing from what the registry may do against it, and nothing from other registries.
const HOLDERS_SHARE: u64 = 20_000;
/// Up to how many entries the list takes those of holders. SECURITY: some clients revoke at the end of every job, so that a
/// few registries' holders together could fill it. The rest is for registries, against what was stolen.
const HOLDERS_CAP: u32 = 60_000;
/// How many entries, of all registries, one look at a registry's list goes through.
const LOOK: usize = 1000;
const NO_TEXT: StoreError = StoreError::Unavailable { reason: "a revocation has no text" };

/// The revocations that still matter.
#[derive(Debug)]
pub struct Revocations(Followed<Revoked>);

/// An upload token, as far as a revocation may be about it.
#[derive(Debug, Clone, Copy)]
pub struct Issued<'a> {
    /// The key of its registry.
    pub key_id: &'a str,
    /// Its id.
    pub token_id: &'a str,
    /// The rules that granted it.
    pub rules: &'a [String],
    /// When it was issued.
    pub issued_at: Timestamp,
}

/// On whose share of the list a revocation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoker {
    /// The registry's own.
    Registry,
    /// That of all who hold tokens of the registry.
    Holders,
}

impl Revoker {
    const fn share(self) -> (&'static str, u64) {
        match self {
            Self::Registry => ("own", OWN_SHARE),
            Self::Holders => ("holders", HOLDERS_SHARE),
        }
    }

    const fn cap(self) -> u32 {
        match self {
            Self::Registry => BOUNDS.cap,
            Self::Holders => HOLDERS_CAP,
        }
    }
}

/// Why nothing was revoked, or perhaps nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevokeError {
    /// The share of this hour is used up.
    #[error("the registry's share of revocations is used up for {} s", .retry_after.as_secs())]
    ShareUsed {
        /// How long until the next hour.
        retry_after: Duration,
    },
    /// The store failed: [`StoreError::changed_nothing`] says whether anything may be revoked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was revoked, as a registry is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// One token and all its copies.
    Token {
        /// Its id.
        id: String,
        /// From when on no copy of it is accepted anyway.
        until: Timestamp,
    },
    /// Every token that a rule had a part in granting, and that was issued before a moment.
    Rule {
        /// The rule.
        rule: String,
        /// The moment.
        issued_before: Timestamp,
        /// From when on no such token is accepted anyway.
        until: Timestamp,
    },
}

/// A part of a registry's revocations.
#[derive(Debug)]
pub struct Page {
    /// Oldest first.
    pub revocations: Vec<(Cursor, Revocation)>,
    /// From where to go on; `None` if there was nothing.
    pub next: Option<Cursor>,
    /// Whether there may be more at once.
    pub more: bool,
}

#[derive(Debug, Default)]
struct Revoked {
    /// When each revoked token expires, by its name.
    tokens: HashMap<Box<str>, Timestamp>,
    /// For each registry's rule, before when its tokens were issued.
    rules: HashMap<Box<str>, Timestamp>,
}

/// A revocation as it is stored. Members that it does not know make it unreadable.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum Stored {
    Token { name: String, expires_at_ms: i64 },
    Rule { name: String, issued_before_ms: i64 },
}

impl Stored {
    fn read(entry: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(entry)
            .map_err(|_| StoreError::Unavailable { reason: "a stored revocation is unreadable" })
    }

    fn written(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(|_| NO_TEXT)
    }

    /// What it says to the registry of that key; nothing if it is another's.
    fn of_registry(self, key_id: &str) -> Option<Revocation> {
        let own = |name: &str| name.strip_prefix(key_id)?.strip_prefix(':').map(str::to_owned);
        match self {
            Self::Token { name, expires_at_ms } => {
                Some(Revocation::Token { id: own(&name)?, until: Timestamp::from_unix_millis(expires_at_ms) })
            }
            Self::Rule { name, issued_before_ms } => {
                let issued_before = Timestamp::from_unix_millis(issued_before_ms);
                Some(Revocation::Rule { rule: own(&name)?, issued_before, until: over_at(issued_before) })
            }
        }
    }
}

impl Revocations {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self(Followed::new(store, LIST, BOUNDS))
    }

    /// Revokes a token, named by [`token_name`]: here when this returns, on other replicas at their next
    /// [`Revocations::sync`]. Revoking again changes nothing.
    pub async fn revoke(&self, token_name: &str, expires_at: Timestamp) -> Result<(), StoreError> {
        self.revoke_by(Revoker::Registry, token_name, expires_at).await.map(|_| ())
    }

    async fn revoke_by(&self, by: Revoker, token_name: &str, expires_at: Timestamp) -> Result<bool, StoreError> {
        if self.is_revoked(token_name) {
            return Ok(false);
        }
        let stored = Stored::Token { name: token_name.to_owned(), expires_at_ms: expires_at.unix_millis() };
        self.append(by, &stored).await.map(|()| true)
    }

    /// Revokes every token of the registry that the rule had a part in granting and that was issued before a moment,
    /// which must not be in the future: a revocation says nothing about tokens that do not exist yet. The answer is
    /// whether anything changed.
    pub async fn revoke_rule(&self, key_id: &str, rule: &str, issued_before: Timestamp) -> Result<bool, StoreError> {
        let name = token_name(key_id, &rule);
        if self.0.read().learnt.rules.get(name.as_str()).is_some_and(|known| *known >= issued_before) {
            return Ok(false);
        }
        let stored = Stored::Rule { name, issued_before_ms: issued_before.unix_millis() };
        self.append(Revoker::Registry, &stored).await.map(|()| true)
    }

    /// Whether that token itself was revoked, as far as is known since [`Revocations::synced_at`].
    pub fn is_revoked(&self, token_name: &str) -> bool {
        self.0.read().learnt.tokens.contains_key(token_name)
    }

    /// Whether the token was revoked, itself or with one of its rules, as far as is known since
    /// [`Revocations::synced_at`].
    pub fn cover(&self, issued: Issued<'_>) -> bool {
        let Issued { key_id, token_id, rules, issued_at } = issued;
        let known = self.0.read();
        known.learnt.tokens.contains_key(token_name(key_id, &token_id).as_str())
            || !known.learnt.rules.is_empty()
                && rules.iter().any(|rule| {
                    let before = known.learnt.rules.get(token_name(key_id, rule).as_str());
                    before.is_some_and(|before| issued_at < *before)
                })
    }

    /// The revocations of the registry of that key after `cursor`: none is missing that still matters, also when the
    /// cursor is long past. Bounded; [`Page::more`] says whether to ask again at once.
    pub async fn of_registry(&self, key_id: &str, cursor: Option<&Cursor>) -> Result<Page, StoreError> {
        let entries = self.0.since(cursor, LOOK).await?;
        let (more, next) = (entries.len() == LOOK, entries.last().map(|(at, _)| *at).or(cursor.copied()));
        let mut revocations = Vec::new();
        for (at, entry) in entries {
            revocations.extend(Stored::read(&entry)?.of_registry(key_id).map(|revocation| (at, revocation)));
        }
        Ok(Page { revocations, next, more })
    }

    /// Learns what was revoked elsewhere, and drops what has expired.
    pub async fn sync(&self, now: Timestamp) -> Result<(), StoreError> {
        self.0.sync(now).await
    }

    /// Gives a store that has lost its memory back what is held here, word for word. To be called after
    /// [`Revocations::sync`].
    pub async fn mend(&self, now: Timestamp) -> Result<(), StoreError> {
        self.0.mend(now, |held, image| image.map_or_else(|| Ok(Vec::new()), |image| held.lacking(image, now))).await
    }

    /// The moment from which on no revocation can be missing here, whatever the store has lost; `None` before the first
    /// [`Revocations::sync`]. What was issued earlier may have been revoked.
    pub fn complete_since(&self) -> Option<Timestamp> {
        self.0.complete_since()
    }

    /// Since when the store has forgotten nothing, by the latest look; `None` before the first.
    pub(super) fn remembers_since(&self) -> Option<Timestamp> {
        self.0.remembers_since()
    }

    /// When the set was last known to be complete; `None` before the first [`Revocations::sync`].
    pub fn synced_at(&self) -> Option<Timestamp> {
        self.0.synced_at()
    }

    async fn append(&self, by: Revoker, stored: &Stored) -> Result<(), StoreError> {
        self.0.append_within(&stored.written()?, by.cap()).await.map(|_| ())
    }
}

impl State {
    /// Revokes a token of the registry of that key, on its own share or its holders'. The answer is whether anything
    /// changed: revoking again does not.
    pub async fn revoke_token(
        &self,
        key_id: &str,
        token_id: &impl fmt::Display,
        expires_at: Timestamp,
        (by, now): (Revoker, Timestamp),
    ) -> Result<bool, RevokeError> {
        let name = token_name(key_id, token_id);
        if self.revocations.is_revoked(&name) {
            return Ok(false);
        }
        self.take_share(key_id, by, now).await?;
        Ok(self.revocations.revoke_by(by, &name, expires_at).await?)
    }

    /// Revokes what a rule of the registry of that key has granted, as [`Revocations::revoke_rule`] does, on its own share.
    pub async fn revoke_rule(
        &self,
        key_id: &str,
        rule: &str,
        issued_before: Timestamp,
        now: Timestamp,
    ) -> Result<bool, RevokeError> {
        self.take_share(key_id, Revoker::Registry, now).await?;
        Ok(self.revocations.revoke_rule(key_id, rule, issued_before).await?)
    }

    async fn take_share(&self, key_id: &str, by: Revoker, now: Timestamp) -> Result<(), RevokeError> {
        let (kind, most) = by.share();
        let hour = now.unix_seconds().div_euclid(3600);
        let key = format!("revocations-by:{kind}:{key_id}:{hour}");
        let end = Timestamp::from_unix_seconds(hour.saturating_add(1).saturating_mul(3600));
        let used = self.store.add(key.as_bytes(), 1, end.plus(RETENTION_MARGIN)).await?;
        if used > most { Err(RevokeError::ShareUsed { retry_after: end.since(now) }) } else { Ok(()) }
    }
}

impl Revoked {
    /// What still matters and is not, or with an earlier end, in another.
    fn lacking(&self, other: &Self, now: Timestamp) -> Result<Vec<Vec<u8>>, StoreError> {
        let tokens = self.tokens.iter().filter(|(name, expires_at)| {
            **expires_at > now && other.tokens.get(*name).is_none_or(|there| there < *expires_at)
        });
        let rules = self.rules.iter().filter(|(name, issued_before)| {
            over_at(**issued_before) > now && other.rules.get(*name).is_none_or(|there| there < *issued_before)
        });
        let tokens = tokens.map(|(name, expires_at)| Stored::Token {
            name: name.clone().into_string(),
            expires_at_ms: expires_at.unix_millis(),
        });
        let rules = rules.map(|(name, issued_before)| Stored::Rule {
            name: name.clone().into_string(),
            issued_before_ms: issued_before.unix_millis(),
        });
        tokens.chain(rules).map(|stored| stored.written()).collect()
    }
}

impl Learnt for Revoked {
    fn learn(&mut self, _: Cursor, entry: &[u8]) -> Result<(), StoreError> {
        match Stored::read(entry)? {
            Stored::Token { name, expires_at_ms } => {
                // SECURITY: never sooner than is known: whoever can write to the store must not end a revocation.
                let expires_at = Timestamp::from_unix_millis(expires_at_ms);
                let known = self.tokens.entry(name.into()).or_insert(expires_at);
                *known = expires_at.max(*known);
            }
            Stored::Rule { name, issued_before_ms } => {
                let issued_before = Timestamp::from_unix_millis(issued_before_ms);
                let known = self.rules.entry(name.into()).or_insert(issued_before);
                *known = issued_before.max(*known);
            }
        }
        Ok(())
    }

    fn sweep(&mut self, now: Timestamp) {
        self.tokens.retain(|_, expires_at| expires_at.plus(RETENTION_MARGIN) > now);
        self.rules.retain(|_, issued_before| over_at(*issued_before).plus(RETENTION_MARGIN) > now);
    }
}

/// From when on no token that was issued before then is accepted.
fn over_at(issued_before: Timestamp) -> Timestamp {
    issued_before.plus(LONGEST_LIFE)
}
