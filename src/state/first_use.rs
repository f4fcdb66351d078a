//! First use: a subject token is good for one exchange, which whoever comes second learns.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::Serialize;

use crate::time::Timestamp;

use super::Reserved;
use super::SetOnce;
use super::State;
use super::StoreError;

/// For how many packages a token is good that has a use for each.
///
/// SECURITY: each use is remembered until the token has ended. Without a bound one job, whose rule grants every name with a
/// prefix, could fill the store with uses of a single token, and with that stop the releases of all registries.
pub const MOST_OF_ONE_TOKEN: u32 = 256;
/// What first-use records are sealed as.
const KIND: &str = "first-use";

/// What it takes to claim the first use of a subject token.
#[derive(Debug, Clone)]
pub struct FirstUseClaim {
    /// Which use, from [`first_use_key`].
    pub key: [u8; 32],
    /// The key of the token itself, where it has a use for each package.
    pub one_of: Option<[u8; 32]>,
    /// What the claim is for, kept for whoever comes second.
    pub record: FirstUseRecord,
    /// When the subject token was issued: the store must remember at least since then.
    pub issued_at: Timestamp,
    /// When no verifier accepts the token any more: its `exp`, the verifier's leeway and
    /// [`RETENTION_MARGIN`](super::RETENTION_MARGIN).
    pub until: Timestamp,
}

/// What the first use of a subject token was for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstUseRecord {
    /// The upload token that was minted.
    pub token_id: String,
    /// When.
    pub at: Timestamp,
    /// The digest of what was asked and granted.
    pub digest: [u8; 32],
    /// The key that minted it.
    pub kid: String,
}

/// Proof that a subject token had not been used before. Only [`State::first_use`] gives one.
#[derive(Debug)]
#[must_use = "the token is spent: mint"]
pub struct FirstUse {
    record: FirstUseRecord,
}

impl FirstUse {
    /// What the use is for.
    pub const fn record(&self) -> &FirstUseRecord {
        &self.record
    }
}

/// An earlier use, as this service recorded it. Only [`State::first_use`] gives one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastUse {
    record: FirstUseRecord,
}

impl PastUse {
    /// What that use was for.
    pub const fn record(&self) -> &FirstUseRecord {
        &self.record
    }

    /// Whether a use with this digest repeats it, at most `window` later.
    pub fn repeated(&self, digest: &[u8; 32], window: Duration, now: Timestamp) -> Option<Repetition> {
        let soon = now.since(self.record.at) <= window;
        (soon && self.record.digest == *digest).then_some(Repetition(()))
    }
}

/// Proof that a second use asks for exactly what the first one got, soon after it. Only [`PastUse::repeated`] gives one.
#[derive(Debug)]
pub struct Repetition(());

/// Why a first use was not obtained.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FirstUseError {
    /// The token was used before, for this.
    #[error("the token was used before, at {}", .0.record.at)]
    Replayed(PastUse),
    /// The token was used before, and what the store holds about it was not written by this service, or not for this
    /// token, or under a key that is gone.
    #[error("the token was used before")]
    Taken,
    /// The token was used for [`MOST_OF_ONE_TOKEN`] other packages before.
    #[error("the token was used for {MOST_OF_ONE_TOKEN} packages before")]
    Spent,
    /// The store's memory begins after the token was issued, so an earlier use may be forgotten.
    #[error("the token was issued before the store's memory begins, at {since}")]
    Forgotten {
        /// Since when the store remembers.
        since: Timestamp,
    },
    /// The store gave no answer; the token may be spent.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The record as it is stored, in a seal that has its time. Members that it does not know make it unreadable.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    token_id: String,
    digest: String,
    kid: String,
}

impl State {
    /// Claims the first use. One round trip to the store.
    pub async fn first_use(&self, claim: FirstUseClaim) -> Result<FirstUse, FirstUseError> {
        let FirstUseClaim { key, one_of, record, issued_at, until } = claim;
        let owner = URL_SAFE_NO_PAD.encode(key);
        let sealed = self.sealed(&owner, &record)?;
        let first = match one_of {
            None => match self.store.set_once(format!("first-use:{owner}").as_bytes(), &sealed, until).await? {
                SetOnce::Set => Reserved::Reserved,
                SetOnce::Held(held) => Reserved::Held(held),
            },
            Some(token) => {
                let uses = format!("uses-of-token:{}", URL_SAFE_NO_PAD.encode(token));
                self.store.reserve(uses.as_bytes(), owner.as_bytes(), &sealed, MOST_OF_ONE_TOKEN, until).await?
            }
        };
        // SECURITY: asked after the claim, so that a store which lost its memory in between is found out. And before
        // the claim's answer is believed: a token that was refused for this reason has a record, and was not used.
        let since = self.store.remembers_since().await?;
        if issued_at < since {
            return Err(FirstUseError::Forgotten { since });
        }
        match first {
            Reserved::Reserved => Ok(FirstUse { record }),
            // SECURITY: whatever the value is, the key was taken. What it says is believed only under its seal: a
            // planted record must not name the upload token that a repetition is given.
            Reserved::Held(held) => {
                Err(self.opened(&owner, &held, record.at).map_or(FirstUseError::Taken, FirstUseError::Replayed))
            }
            Reserved::Full => Err(FirstUseError::Spent),
        }
    }

    fn sealed(&self, owner: &str, record: &FirstUseRecord) -> Result<Vec<u8>, StoreError> {
        let FirstUseRecord { token_id, at, digest, kid } = record;
        let stored = Stored { token_id: token_id.clone(), digest: URL_SAFE_NO_PAD.encode(digest), kid: kid.clone() };
        let body = serde_json::to_vec(&stored).ok();
        let sealed = body.and_then(|body| self.seal_keys.load().seal(KIND, owner, *at, "", &body));
        sealed.ok_or(StoreError::Unavailable { reason: "a first-use record cannot be sealed" })
    }

    fn opened(&self, owner: &str, held: &[u8], now: Timestamp) -> Option<PastUse> {
        let copy = self.seal_keys.load().open(KIND, owner, held, now)?;
        let Stored { token_id, digest, kid } = serde_json::from_slice(&copy.body).ok()?;
        let digest = URL_SAFE_NO_PAD.decode(digest).ok()?.try_into().ok()?;
        Some(PastUse { record: FirstUseRecord { token_id, at: copy.at, digest, kid } })
    }
}

/// The key under which the first use of a subject token is claimed: of the token, or with `package` of the token for
/// that package. Tokens without a `jti` are told apart by what was signed.
///
/// SECURITY: every part is preceded by its length and its kind, so no choice of issuer, `jti` and package yields the
/// key of another choice; and the signature is no part, because one signed text has many valid ECDSA signatures.
pub fn first_use_key(iss: &str, jti: Option<&str>, signing_input_digest: &[u8; 32], package: Option<&str>) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = |kind: u8, bytes: &[u8]| {
        context.update(&[kind]);
        context.update(&u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(bytes);
    };
    part(0, b"trustmint/v1/first-use");
    part(1, iss.as_bytes());
    match jti {
        Some(jti) => part(2, jti.as_bytes()),
        None => part(3, signing_input_digest),
    }
    if let Some(package) = package {
        part(4, package.as_bytes());
    }
    let mut key = [0; 32];
    key.copy_from_slice(context.finish().as_ref());
    key
}
