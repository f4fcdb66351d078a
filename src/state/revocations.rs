//! Revoked upload tokens, one by one or all of a rule: a shared list that each replica follows. What verification reads
//! is the set in memory.
//!
//! SECURITY: an entry restricts, so it is believed as it stands in the store. Whoever can write there can refuse
//! tokens, as they can by stopping the store; they cannot make a token good. Whoever can delete there is too late on
//! every replica that has learnt the entry: nothing is dropped from memory before its time.

use std::collections::HashMap;
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
const SHARE: u64 = 5000;
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
        Self(Followed::new(store, LIST, BOUNDS, Revoked::default()))
    }

    /// Revokes a token, named by [`token_name`]: here when this returns, on other replicas at their next
    /// [`Revocations::sync`]. Revoking again changes nothing.
    pub async fn revoke(&self, token_name: &str, expires_at: Timestamp) -> Result<(), StoreError> {
        if self.is_revoked(token_name) {
            return Ok(());
        }
        self.append(&Stored::Token { name: token_name.to_owned(), expires_at_ms: expires_at.unix_millis() }).await
    }

    /// Revokes every token of the registry that the rule had a part in granting and that was issued before a moment,
    /// which must not be in the future: a revocation says nothing about tokens that do not exist yet.
    pub async fn revoke_rule(&self, key_id: &str, rule: &str, issued_before: Timestamp) -> Result<(), StoreError> {
        let name = token_name(key_id, &rule);
        if self.0.read().learnt.rules.get(name.as_str()).is_some_and(|known| *known >= issued_before) {
            return Ok(());
        }
        self.append(&Stored::Rule { name, issued_before_ms: issued_before.unix_millis() }).await
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

    /// When the set was last known to be complete; `None` before the first [`Revocations::sync`].
    pub fn synced_at(&self) -> Option<Timestamp> {
        self.0.synced_at()
    }

    async fn append(&self, stored: &Stored) -> Result<(), StoreError> {
        let entry = serde_json::to_vec(stored).map_err(|_| NO_TEXT)?;
        self.0.append(&entry).await.map(|_| ())
    }
}

impl State {
    /// Takes one from a registry's share of the list; [`StoreError::Full`] when it has used it up.
    pub async fn take_revocation_share(&self, key_id: &str, now: Timestamp) -> Result<(), StoreError> {
        let hour = now.unix_seconds().div_euclid(3600);
        let key = format!("revocations-by:{key_id}:{hour}");
        let until = Timestamp::from_unix_seconds(hour.saturating_add(1).saturating_mul(3600)).plus(RETENTION_MARGIN);
        let used = self.store.add(key.as_bytes(), 1, until).await?;
        if used > SHARE { Err(StoreError::Full) } else { Ok(()) }
    }
}

impl Learnt for Revoked {
    fn learn(&mut self, _: Cursor, entry: &[u8]) -> Result<(), StoreError> {
        match Stored::read(entry)? {
            Stored::Token { name, expires_at_ms } => {
                self.tokens.insert(name.into(), Timestamp::from_unix_millis(expires_at_ms));
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
