//! What must be shared and must not be forgotten: first use, uses, revocations, copies of what has authority.
//!
//! [`Store`] moves bytes under keys and decides nothing; [`State`] alone gives those bytes a meaning (which key stands
//! for one use of a token, what a held value says). A store that cannot answer is an error, never a pass: callers turn
//! [`StoreError`] into 503. What is believed because of who wrote it (first uses, copies) is sealed by a key that the
//! store does not have.
//!
//! INVARIANT: whoever obtains a [`FirstUse`] is the only one who ever did for its key, for as long as the store
//! remembers it ([`Store::remembers_since`]).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;

use crate::secret::hex;
use crate::secret::sha256;
use crate::time::Timestamp;

mod first_use;
mod followed;
mod memory;
pub mod rates;
mod redis;
pub mod refusals;
pub mod revocations;
mod sealed;
pub mod stops;

pub use self::first_use::FirstUse;
pub use self::first_use::FirstUseClaim;
pub use self::first_use::FirstUseError;
pub use self::first_use::FirstUseRecord;
pub use self::first_use::MOST_OF_ONE_TOKEN;
pub use self::first_use::PastUse;
pub use self::first_use::Repetition;
pub use self::first_use::first_use_key;
pub use self::memory::MemoryStore;
use self::rates::Rates;
pub use self::redis::Endpoint;
pub use self::redis::EndpointError;
pub use self::redis::ReadFile;
pub use self::redis::RedisCall;
pub use self::redis::RedisFault;
pub use self::redis::RedisOptions;
pub use self::redis::RedisStore;
pub use self::redis::Topology;
pub use self::revocations::Revocations;
pub use self::sealed::MAX_COPY_AGE;
pub use self::sealed::SealKey;
pub use self::sealed::SealKeys;
pub use self::sealed::StoredCopy;
use self::stops::Stops;

/// How much longer than a token can be accepted its traces are kept, beyond the verifier's own leeway.
///
/// SECURITY: a first use forgotten while some replica still accepts the token is a replay. This covers what the clocks
/// of the replicas and of the store may differ by.
pub const RETENTION_MARGIN: Duration = Duration::from_secs(60);

/// How old the lists of what is revoked and stopped may be: older, and something that is might pass, so the answer is
/// 503.
pub const RESTRICTIONS_MAX_AGE: Duration = Duration::from_secs(30);

/// Bytes under keys, shared by all replicas: the seam under which state lives in memory or in Redis.
///
/// Each primitive is one atomic step: of two concurrent calls one comes first, and an error says whether the step may
/// have been taken ([`StoreError::changed_nothing`]). The store's own clock ends what it keeps, at the `until` of each write, to the
/// millisecond; a write whose `until` is not in that clock's future fails, because the store could not remember it.
/// A key is used with one kind of primitive (`set_once`, `put` and `get` are one kind); mixing kinds fails.
///
/// Each primitive names the Redis commands that it stands for; a Redis store runs them as one script, which first
/// compares `until` with `TIME`. `tests/it/store_contract.rs` states the behaviour of every store.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Sets `key` to `value` unless it has a value already, in which case that value is the answer and nothing
    /// changes, its end included. Of any number of concurrent calls for a key exactly one is answered
    /// [`SetOnce::Set`]. (`SET key value NX GET PXAT until`)
    async fn set_once(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<SetOnce, StoreError>;

    /// Adds `member` with `value` to the map at `key` unless it is there already, or the map holds `limit` members.
    /// A member that is there answers with its first value also when the map is full. The map lives until the latest
    /// `until` of a member. (`HGET`, `HLEN`, `HSET`, `PEXPIREAT`)
    async fn reserve(
        &self,
        key: &[u8],
        member: &[u8],
        value: &[u8],
        limit: u32,
        until: Timestamp,
    ) -> Result<Reserved, StoreError>;

    /// Sets `key` to `value`, whatever it was. (`SET key value PXAT until`)
    async fn put(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError>;

    /// The value of `key`; shared, since a copy of a large one would hold up who waits beside it. (`GET key`)
    async fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError>;

    /// Adds `amount` to the counter at `key` and answers with the sum, at most `i64::MAX`. The first addition opens
    /// the window; its `until` closes it. (`INCRBY`, and `PEXPIREAT` if the key is new)
    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError>;

    /// Appends `entry` to `list` and answers with its place. Places only grow, and an entry that becomes readable
    /// never comes before one that a reader has passed. (`XTRIM MINID`, `XLEN`, `XADD`, `PEXPIRE`)
    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError>;

    /// At most `limit` entries of `list` after `cursor` (`None`: from the oldest kept), oldest first. Entries past
    /// their time may still be among them; those dropped for want of room are not, and nothing says so. (`XRANGE list (cursor + COUNT limit`)
    async fn since(
        &self,
        list: &str,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError>;

    /// The moment from which on nothing was forgotten before its time: the start of a store in memory, or the last
    /// restart or failover of a server that may have lost writes. The answer covers every call answered before this
    /// one was made, so a caller who claims first and asks second cannot miss a loss. (`INFO`, in the pipeline of the
    /// command before it)
    async fn remembers_since(&self) -> Result<Timestamp, StoreError>;
}

/// What came of [`Store::set_once`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetOnce {
    /// The key had no value; now it has this one.
    Set,
    /// The key has this value.
    Held(Vec<u8>),
}

/// What came of [`Store::reserve`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserved {
    /// The member is new.
    Reserved,
    /// The member was there, with this value.
    Held(Vec<u8>),
    /// The map holds as many other members as it may.
    Full,
}

/// What a list keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListBounds {
    /// How long an entry is kept; the same for every entry of a list.
    pub keep: Duration,
    /// The most entries kept.
    pub cap: u32,
    /// What an append does when there are that many.
    pub when_full: WhenFull,
}

/// What an append to a full list does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It fails with [`StoreError::Full`]: every entry matters until its time is over.
    Refuse,
    /// It drops the oldest entry: the list is a window on recent events.
    DropOldest,
}

/// A place in a list. Its text, `<milliseconds>-<number>`, may be handed out and read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    millis: u64,
    sequence: u64,
}

impl Cursor {
    /// The place of the `sequence`th entry of that millisecond.
    pub const fn new(millis: u64, sequence: u64) -> Self {
        Self { millis, sequence }
    }

    /// The place that follows in a list appended to at `now`: later also when the clock went back.
    #[must_use]
    pub fn next(self, now: Timestamp) -> Self {
        let millis = u64::try_from(now.unix_millis()).unwrap_or(0);
        if millis > self.millis {
            Self { millis, sequence: 0 }
        } else {
            Self { millis: self.millis, sequence: self.sequence.saturating_add(1) }
        }
    }

    /// When the entry was appended, by the store's clock.
    pub fn appended_at(self) -> Timestamp {
        Timestamp::from_unix_millis(i64::try_from(self.millis).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.millis, self.sequence)
    }
}

/// The text is not a place in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is the text that an earlier answer gave")]
pub struct CursorError;

impl FromStr for Cursor {
    type Err = CursorError;

    /// Reads the one spelling that [`fmt::Display`] writes.
    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (millis, sequence) = text.split_once('-').ok_or(CursorError)?;
        let parse = |number: &str| number.parse::<u64>().map_err(|_| CursorError);
        let cursor = Self { millis: parse(millis)?, sequence: parse(sequence)? };
        if cursor.to_string() == text { Ok(cursor) } else { Err(CursorError) }
    }
}

/// Why the store did not do what was asked, or did not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It gave no answer, or could not do what was asked: whether the step was taken is unknown. `reason` is for operators.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// What happened, in words that hold no key or value.
        reason: &'static str,
    },
    /// It could not be reached, and was not asked.
    #[error("the store is unavailable: {reason}")]
    NotAsked {
        /// As above.
        reason: &'static str,
    },
    /// It has no room for more, and drops nothing that is still needed.
    #[error("the store is full")]
    Full,
}

impl StoreError {
    /// Whether the step was surely not taken. Of several steps it says so of the last one alone.
    pub const fn changed_nothing(self) -> bool {
        match self {
            Self::Unavailable { .. } => false,
            Self::NotAsked { .. } | Self::Full => true,
        }
    }
}

/// The shared state, in the words of the service.
#[derive(Debug)]
pub struct State {
    store: Arc<dyn Store>,
    seal_keys: ArcSwap<SealKeys>,
    revocations: Revocations,
    stops: Stops,
    rates: Rates,
}

/// What a copy is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyKind {
    /// The key set of an identity provider.
    Jwks,
    /// The files of the policy's directory.
    Policy,
    /// The rules that a registry serves itself.
    Bundle,
}

/// The kind of a spent use's seal.
const USE: &str = "use";

impl CopyKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Jwks => "jwks",
            Self::Policy => "policy",
            Self::Bundle => "bundle",
        }
    }
}

/// A copy that can be kept. Only [`State::seal_copy`] gives one.
#[derive(Debug)]
pub struct SealedCopy {
    key: Vec<u8>,
    bytes: Vec<u8>,
}

/// What came of [`State::spend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// One more use is spent.
    Fresh,
    /// This upload had spent its use before, with the same facts: the answer is the one it got.
    Repeated,
    /// This upload had spent its use before, with other facts, or what says so was not written by this service.
    Conflict,
    /// All uses are spent by other uploads.
    Exhausted,
    /// The store's memory begins after the token was issued, so a use of it may be forgotten.
    Forgotten,
}

impl State {
    /// The state kept in `store`, of which only what these keys have sealed has authority.
    pub fn new(store: Arc<dyn Store>, seal_keys: SealKeys) -> Self {
        let (revocations, stops) = (Revocations::new(Arc::clone(&store)), Stops::new(Arc::clone(&store)));
        Self { store, seal_keys: ArcSwap::from_pointee(seal_keys), revocations, stops, rates: Rates::default() }
    }

    /// From now on only what these keys have sealed has authority, and they seal.
    pub fn rekey(&self, seal_keys: SealKeys) {
        self.seal_keys.store(Arc::new(seal_keys));
    }

    /// How often registries are served, by this replica.
    pub const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The tokens that were revoked.
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// When the lists of what is revoked and stopped were last known to be complete; `None` before the first
    /// [`State::sync`].
    pub fn restrictions_synced_at(&self) -> Option<Timestamp> {
        Some(self.revocations.synced_at()?.min(self.stops_synced_at()?))
    }

    /// Since when the store has forgotten nothing, as of the latest [`State::sync`]; `None` before the first.
    pub fn remembers_since(&self) -> Option<Timestamp> {
        self.revocations.remembers_since()
    }

    /// Keeps a copy of something that has authority, for other replicas and for later, in place of an older one.
    /// `owner` names whose it is, `revision` which one it is; [`State::copy`] gives it back for at most
    /// [`MAX_COPY_AGE`] after `at`.
    pub async fn put_copy(
        &self,
        kind: CopyKind,
        owner: &str,
        at: Timestamp,
        revision: &str,
        body: &[u8],
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.keep_copy(&self.seal_copy(kind, owner, at, revision, body)?, until).await
    }

    /// The first half of [`State::put_copy`], which takes long for a large body.
    pub fn seal_copy(
        &self,
        kind: CopyKind,
        owner: &str,
        at: Timestamp,
        revision: &str,
        body: &[u8],
    ) -> Result<SealedCopy, StoreError> {
        let unsealed = StoreError::Unavailable { reason: "a copy cannot be sealed" };
        let bytes = self.seal_keys.load().seal(kind.as_str(), owner, at, revision, body).ok_or(unsealed)?;
        Ok(SealedCopy { key: copy_key(kind, owner), bytes })
    }

    /// The second half of [`State::put_copy`].
    pub async fn keep_copy(&self, copy: &SealedCopy, until: Timestamp) -> Result<(), StoreError> {
        self.store.put(&copy.key, &copy.bytes, until).await
    }

    /// The copy that is kept; `None` also if what is there was not written by this service for this owner, or too long
    /// ago. It may be older than one seen before: the caller compares [`StoredCopy::at`].
    pub async fn copy(&self, kind: CopyKind, owner: &str, now: Timestamp) -> Result<Option<StoredCopy>, StoreError> {
        let held = self.held_copy(kind, owner).await?;
        Ok(held.and_then(|held| self.open_copy(kind, owner, &held, now)))
    }

    /// The first half of [`State::copy`]: what is kept, not to be believed yet.
    pub async fn held_copy(&self, kind: CopyKind, owner: &str) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.store.get(&copy_key(kind, owner)).await
    }

    /// The second half of [`State::copy`], which takes long for a large one.
    pub fn open_copy(&self, kind: CopyKind, owner: &str, held: &[u8], now: Timestamp) -> Option<StoredCopy> {
        self.seal_keys.load().open(kind.as_str(), owner, held, now)
    }

    /// Spends one of the `limit` uses of an upload token on an upload, once per upload: a repeat is answered from what
    /// the first call stored. `facts_digest` is the digest of everything the registry said about the upload; `until`
    /// is when the token, issued at `issued_at`, has expired everywhere.
    ///
    /// SECURITY: a use that was spent allows its repetition, so it is believed only under the seal of this service: whoever
    /// writes to the store cannot plant one for another upload.
    pub async fn spend(
        &self,
        (token_id, issued_at): (&str, Timestamp),
        upload_id: &str,
        facts_digest: [u8; 32],
        limit: u32,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Spent, StoreError> {
        let key = format!("uses:{token_id}");
        // The upload's name is the registry's, of any length; its digest takes 32 bytes.
        let upload = sha256(upload_id.as_bytes());
        let owner = format!("{token_id}:{}", hex(&upload));
        let unsealed = StoreError::Unavailable { reason: "a use cannot be sealed" };
        let sealed = self.seal_keys.load().seal(USE, &owner, now, "", &facts_digest).ok_or(unsealed)?;
        let reserved = self.store.reserve(key.as_bytes(), &upload, &sealed, limit, until).await?;
        // SECURITY: asked after the use was reserved and before that is believed, as for a first use.
        if issued_at < self.store.remembers_since().await? {
            return Ok(Spent::Forgotten);
        }
        Ok(match reserved {
            Reserved::Reserved => Spent::Fresh,
            Reserved::Held(held) => match self.seal_keys.load().open(USE, &owner, &held, now) {
                Some(first) if first.body == facts_digest => Spent::Repeated,
                _ => Spent::Conflict,
            },
            Reserved::Full => Spent::Exhausted,
        })
    }
}

/// How revocations and spent uses name an upload token: by the key of its registry and its id.
///
/// SECURITY: with the key in front. A registry that verifies offline can sign any identifier with its own key; under
/// the id alone it could revoke, or use up, another registry's token whose id it has seen.
pub fn token_name(key_id: &str, token_id: &impl fmt::Display) -> String {
    format!("{key_id}:{token_id}")
}

fn copy_key(kind: CopyKind, owner: &str) -> Vec<u8> {
    format!("copy:{}:{owner}", kind.as_str()).into_bytes()
}

#[cfg(test)]
mod tests;
