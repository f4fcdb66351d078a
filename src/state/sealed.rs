//! Sealed values: bytes in the store that are believed when they are read back, because a MAC says who wrote them.
//!
//! ```text
//!   sealed = 1 ‖ len8 kid ‖ kid ‖ i64be at ‖ len16 revision ‖ revision ‖ len32 body ‖ body ‖ MAC
//!   MAC    = HMAC-SHA256(secret of kid, "trustmint/v1/sealed" ‖ len64 kind ‖ kind ‖ len64 owner ‖ owner ‖ all before it)
//! ```
//!
//! SECURITY: whoever can write to the store cannot make one, nor alter one, nor pass one kind or owner's off as
//! another's. What they can do is put an older one back: who keeps copies compares [`StoredCopy::at`] with what was seen.

use std::fmt;
use std::time::Duration;

use crate::secret::HmacSha256;
use crate::secret::Secret;
use crate::secret::constant_time_eq;
use crate::time::Timestamp;

/// How long a sealed value is believed: what was right a day ago may have been withdrawn since.
pub const MAX_COPY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
/// How far in the future a value may have been sealed: what the clocks of two replicas may differ by.
const LEEWAY: Duration = super::RETENTION_MARGIN;
const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"trustmint/v1/sealed";
const MAC_LENGTH: usize = 32;

/// A key that seals, made from a master key.
pub struct SealKey {
    kid: String,
    activate_at: Timestamp,
    secret: Secret<[u8; 32]>,
}

impl SealKey {
    /// The key of that name, which seals from `activate_at` on and opens at once.
    pub const fn new(kid: String, activate_at: Timestamp, secret: Secret<[u8; 32]>) -> Self {
        Self { kid, activate_at, secret }
    }

    fn mac(&self, kind: &str, owner: &str, bytes: &[u8]) -> [u8; MAC_LENGTH] {
        let mut mac = HmacSha256::new(self.secret.expose());
        mac.update(DOMAIN);
        for part in [kind, owner] {
            // Lengths before contents, so that no kind and owner are those of another pair.
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.update(bytes);
        mac.finish()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, activate_at, secret } = self;
        f.debug_struct("SealKey").field("kid", kid).field("activate_at", activate_at).field("secret", secret).finish()
    }
}

/// The keys by which sealed values are known, one for each master key.
#[derive(Debug)]
pub struct SealKeys(Vec<SealKey>);

/// A value that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCopy {
    /// When it was sealed.
    pub at: Timestamp,
    /// Which one it is, in its owner's own counting.
    pub revision: String,
    /// What it says.
    pub body: Vec<u8>,
}

impl SealKeys {
    /// Takes the keys, whose names are distinct.
    pub fn new(mut keys: Vec<SealKey>) -> Self {
        keys.sort_by(|a, b| (a.activate_at, &a.kid).cmp(&(b.activate_at, &b.kid)));
        Self(keys)
    }

    /// Seals a value at a moment, with the key that activated last. `None` if no key has activated, so that every
    /// replica can open what one has sealed; or if a part has no length that can be written.
    pub fn seal(&self, kind: &str, owner: &str, at: Timestamp, revision: &str, body: &[u8]) -> Option<Vec<u8>> {
        let key = self.sealing(at)?;
        let mut bytes = Vec::with_capacity(key.kid.len() + revision.len() + body.len() + MAC_LENGTH + 16);
        bytes.push(VERSION);
        bytes.push(u8::try_from(key.kid.len()).ok()?);
        bytes.extend_from_slice(key.kid.as_bytes());
        bytes.extend_from_slice(&at.unix_millis().to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(revision.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(revision.as_bytes());
        bytes.extend_from_slice(&u32::try_from(body.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(body);
        let mac = key.mac(kind, owner, &bytes);
        bytes.extend_from_slice(&mac);
        Some(bytes)
    }

    /// Whether a value names the key that seals at that moment. To be asked of what opens.
    pub fn is_latest(&self, bytes: &[u8], at: Timestamp) -> bool {
        let mut rest = Reader(bytes);
        let named = rest.array::<2>().and_then(|[_, length]| rest.take(usize::from(length)));
        self.sealing(at).is_some_and(|key| named == Some(key.kid.as_bytes()))
    }

    fn sealing(&self, at: Timestamp) -> Option<&SealKey> {
        self.0.iter().rev().find(|key| key.activate_at <= at)
    }

    /// Opens what was sealed for this kind and owner. `None` for everything else, for what is older than
    /// [`MAX_COPY_AGE`] and for what was sealed in the future: it is as if it were not there.
    pub fn open(&self, kind: &str, owner: &str, bytes: &[u8], now: Timestamp) -> Option<StoredCopy> {
        let (sealed, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_LENGTH)?)?;
        let mut rest = Reader(sealed);
        if rest.array()? != [VERSION] {
            return None;
        }
        let [length] = rest.array()?;
        let named = rest.take(usize::from(length))?;
        let key = self.0.iter().find(|key| key.kid.as_bytes() == named)?;
        // SECURITY: nothing below is looked at before its MAC was found right.
        if !constant_time_eq(&key.mac(kind, owner, sealed), mac) {
            return None;
        }
        let at = Timestamp::from_unix_millis(i64::from_be_bytes(rest.array()?));
        let length = u16::from_be_bytes(rest.array()?);
        let revision = std::str::from_utf8(rest.take(usize::from(length))?).ok()?.to_owned();
        let length = u32::from_be_bytes(rest.array()?);
        let body = rest.take(usize::try_from(length).ok()?)?.to_vec();
        let believed = rest.0.is_empty() && at <= now.plus(LEEWAY) && now.since(at) <= MAX_COPY_AGE;
        believed.then_some(StoredCopy { at, revision, body })
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }
}

#[cfg(test)]
mod tests;
