//! Keys: the ring of master keys, and the secret of one registry under one of them.
//!
//! INVARIANT: there is no default key. A key exists because an operator made a file of 32 random bytes; a service that
//! invented one, or took an unset one for zeros, would sign tokens that anybody can make (CVE-2019-5885).

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::codec::Codec;
use crate::macaroon::chain;
use crate::macaroon::chain::Signature;
use crate::macaroon::identifier;
use crate::macaroon::verify::MAX_AGE;
use crate::secret::Secret;
use crate::secret::constant_time_eq;
use crate::time::Timestamp;

/// A key that signs for every registry, through [`registry_secret`]. Verifies as soon as it is read, and mints from its
/// `activate_at`, so that every replica can verify a token before any replica mints it.
pub struct MasterKey {
    kid: String,
    activate_at: Timestamp,
    bytes: Secret<[u8; 32]>,
    /// What HKDF extracts from the bytes; every secret is expanded from it.
    extracted: Signature,
}

/// Why a text is not a master key. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// The name, which is the file's, has other characters or is too long.
    #[error("a key's name has 1 to 32 characters, each `a` to `z`, `0` to `9` or `-`")]
    Kid,
    /// Not the two lines of a key file.
    #[error(
        "a key file has two lines, `activate_at: ` with a time and `key: ` with 32 bytes; make one with `keys new`"
    )]
    Shape,
    /// The time is not spelled as in the message.
    #[error("`activate_at` is a time in UTC such as `2026-11-23T00:15:00Z`")]
    ActivateAt,
    /// Not 32 bytes in base64url.
    #[error("`key` is 32 bytes in base64url without padding: 43 characters")]
    Bytes,
    /// All bytes are equal, which no generator yields.
    #[error("`key` is not random; make one with `keys new`")]
    NotRandom,
}

impl MasterKey {
    /// A new key from fresh randomness.
    pub fn generate(kid: &str, entropy: [u8; 32], activate_at: Timestamp) -> Result<Self, MasterKeyError> {
        Self::new(kid, Secret::new(entropy), activate_at)
    }

    /// Reads the text of a key file: what [`MasterKey::to_file`] writes, the last line's end being optional.
    pub fn parse(kid: &str, text: &str) -> Result<Self, MasterKeyError> {
        let mut lines = text.lines();
        let activate_at = lines.next().and_then(|line| line.strip_prefix("activate_at: "));
        let key = lines.next().and_then(|line| line.strip_prefix("key: "));
        let (Some(activate_at), Some(key), None) = (activate_at, key, lines.next()) else {
            return Err(MasterKeyError::Shape);
        };
        let activate_at = Timestamp::parse_rfc3339(activate_at).ok_or(MasterKeyError::ActivateAt)?;
        let decoded = URL_SAFE_NO_PAD.decode(key).map(Zeroizing::new).map_err(|_| MasterKeyError::Bytes)?;
        let bytes = decoded.as_slice().try_into().map(Secret::new).map_err(|_| MasterKeyError::Bytes)?;
        Self::new(kid, bytes, activate_at)
    }

    fn new(kid: &str, bytes: Secret<[u8; 32]>, activate_at: Timestamp) -> Result<Self, MasterKeyError> {
        if !identifier::is_kid(kid) {
            return Err(MasterKeyError::Kid);
        }
        // SECURITY: a file of zeros (an empty volume, a failed generator) would be a key that everybody knows.
        let [first, rest @ ..] = bytes.expose();
        if rest.iter().all(|byte| byte == first) {
            return Err(MasterKeyError::NotRandom);
        }
        let extracted = extract(bytes.expose());
        Ok(Self { kid: kid.to_owned(), activate_at, bytes, extracted })
    }

    /// The text of the key's file, for a file that only the service may read.
    pub fn to_file(&self) -> Secret<String> {
        let key = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.bytes.expose()));
        let activate_at = self.activate_at.to_string();
        // Sized once, so that no copy is left behind unwiped.
        let mut text = String::with_capacity(activate_at.len() + key.len() + 32);
        for part in ["activate_at: ", &activate_at, "\nkey: ", &key, "\n"] {
            text.push_str(part);
        }
        Secret::new(text)
    }

    /// The key's name, as in identifiers.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The moment from which the key mints.
    pub const fn activate_at(&self) -> Timestamp {
        self.activate_at
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, activate_at, bytes, extracted: _ } = self;
        let mut shown = f.debug_struct("MasterKey");
        shown.field("kid", kid).field("activate_at", activate_at).field("bytes", bytes).finish_non_exhaustive()
    }
}

/// The master keys that this service accepts, in the order in which they activate; at least one, names distinct.
#[derive(Debug)]
pub struct Keyring(Vec<MasterKey>);

/// Why keys do not make a ring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// No key at all.
    #[error("there is no master key")]
    Empty,
    /// Two keys of one name: which of them signed would be a guess.
    #[error("two master keys are named `{0}`")]
    Repeated(String),
}

impl Keyring {
    /// Makes a ring of keys.
    pub fn new(mut keys: Vec<MasterKey>) -> Result<Self, KeyringError> {
        if keys.is_empty() {
            return Err(KeyringError::Empty);
        }
        keys.sort_by(|a, b| a.kid.cmp(&b.kid));
        if let Some(twin) = keys.iter().zip(keys.iter().skip(1)).find(|(a, b)| a.kid == b.kid) {
            return Err(KeyringError::Repeated(twin.0.kid.clone()));
        }
        keys.sort_by_key(|key| key.activate_at);
        Ok(Self(keys))
    }

    /// The key that mints at a moment: of those that have activated, the one that did so last.
    pub fn minting_key(&self, now: Timestamp) -> Option<&MasterKey> {
        self.0.iter().rev().find(|key| key.activate_at <= now)
    }

    /// The key of that name.
    pub fn get(&self, kid: &str) -> Option<&MasterKey> {
        self.0.iter().find(|key| key.kid == kid)
    }

    /// The moment at which the last token that a key may have minted has expired, if another key has taken over from it:
    /// from then on nothing is refused for want of it. `spread` is by how much later than its time a replica may have
    /// gone over to the other key. `None` while the key mints, or is to; a key that never did is free at once.
    pub fn last_token_expires(&self, kid: &str, spread: Duration, now: Timestamp) -> Option<Timestamp> {
        let key = self.get(kid)?;
        if key.activate_at > now {
            return Some(now);
        }
        let mut later = self.0.iter().skip_while(|other| other.kid != kid).skip(1);
        let successor = later.find(|other| other.activate_at <= now)?;
        Some(successor.activate_at.plus(spread).plus(MAX_AGE))
    }

    /// Whether both have the same keys, by name, time and bytes.
    pub fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&MasterKey, &MasterKey)| {
            let named = a.kid == b.kid && a.activate_at == b.activate_at;
            constant_time_eq(a.bytes.expose(), b.bytes.expose()) && named
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }

    /// The keys, in the order in which they activate.
    pub fn iter(&self) -> impl Iterator<Item = &MasterKey> {
        self.0.iter()
    }
}

/// Which of a master key's derived secrets is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegistryKeyId<'a> {
    /// The registry's `key_id`.
    pub key_id: &'a str,
    /// The registry's codec, so that bytes of one codec are never read as another's.
    pub codec: Codec,
    /// The registry's epoch.
    pub epoch: u32,
}

/// What macaroon libraries call a registry's root key: whoever has it can verify that registry's tokens, and make them.
///
/// HKDF-SHA256 (RFC 5869) without salt, info = `trustmint/v1/registry-root` ‖ len16 kid ‖ kid ‖ len16 `key_id` ‖ `key_id`
/// ‖ len16 codec ‖ codec ‖ u32be epoch, 32 bytes.
///
/// SECURITY: a registry that verifies offline gets this and nothing more, so it can forge for itself alone.
pub fn registry_secret(master: &MasterKey, registry: RegistryKeyId<'_>) -> Secret<[u8; 32]> {
    let mut info = Vec::with_capacity(128);
    info.extend_from_slice(b"trustmint/v1/registry-root");
    for part in [&master.kid, registry.key_id, registry.codec.as_str()] {
        // Lengths before contents, so that no two triples are one text. Longer texts keep this too: what stands around
        // `key_id` has a known length.
        info.extend_from_slice(&u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        info.extend_from_slice(part.as_bytes());
    }
    info.extend_from_slice(&registry.epoch.to_be_bytes());
    Secret::new(*expand(&master.extracted, info).expose())
}

/// The secret that seals what this service reads back from its store with authority.
///
/// HKDF-SHA256 without salt, info = `trustmint/v1/seal` ‖ len16 kid ‖ kid, 32 bytes.
///
/// SECURITY: no registry ever has it, and its info is no registry's: they differ in their first words.
pub fn seal_secret(master: &MasterKey) -> Secret<[u8; 32]> {
    let mut info = Vec::with_capacity(64);
    info.extend_from_slice(b"trustmint/v1/seal");
    info.extend_from_slice(&u16::try_from(master.kid.len()).unwrap_or(u16::MAX).to_be_bytes());
    info.extend_from_slice(master.kid.as_bytes());
    Secret::new(*expand(&master.extracted, info).expose())
}

/// HKDF-Extract with SHA-256 and no salt (RFC 5869 section 2.2).
fn extract(input: &[u8]) -> Signature {
    chain::mac(&[0; 32], input)
}

/// HKDF-Expand for one block of output, whose counter is 1 (RFC 5869 section 2.3).
fn expand(extracted: &Signature, mut info: Vec<u8>) -> Signature {
    info.push(1);
    chain::mac(extracted.expose(), &info)
}

#[cfg(test)]
mod tests;
