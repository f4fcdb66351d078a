//! Callers: programs and people who present an API key, each known by the key's digest.
//!
//! Decides how they are written, for registries here and for operators in the settings, and whose key is presented.

use crate::policy::parse;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::shown;
use crate::secret::constant_time_eq;

pub(super) const KEYS: &[&str] = &["key_sha256"];

/// Someone who may ask, known by the digest of an API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Its name, for the record.
    pub name: String,
    /// SHA-256 of its API key, which is 256 random bits and therefore needs no slow hash.
    pub key_sha256: [u8; 32],
}

/// The caller whose API key has this digest. SECURITY: compared in constant time.
pub fn find<'c>(callers: &'c [Caller], key_sha256: &[u8; 32]) -> Option<&'c Caller> {
    callers.iter().find(|caller| constant_time_eq(&caller.key_sha256, key_sha256))
}

/// Reads `NAME: {key_sha256: "64 digits"}` entries; with any fault there are no callers.
pub fn read(field: &Field<'_>, faults: &mut Faults) -> Option<Vec<Caller>> {
    let before = faults.len();
    let mut callers = Vec::new();
    for entry in field.entries(faults)? {
        if !parse::is_id(entry.name()) {
            let remedy = "use up to 64 lower-case letters, digits, `-`, `_` and `.`, a letter or digit first";
            entry.fault_at_key(faults, format!("`{}` is not a name", shown(entry.name())), remedy);
        }
        let Some(fields) = entry.fields(KEYS, faults) else { continue };
        let Some(digest) = fields.require("key_sha256", "add the SHA-256 of its API key", faults) else { continue };
        let Some(text) = digest.text(faults) else { continue };
        match digest_of(text) {
            Some(key_sha256) => callers.push(Caller { name: entry.name().to_owned(), key_sha256 }),
            None => digest.fault(faults, "is not a SHA-256", "write 64 lower-case hexadecimal digits, in quotes"),
        }
    }
    (faults.len() == before).then_some(callers)
}

/// 64 lower-case hexadecimal digits.
pub fn digest_of(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f')) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}
