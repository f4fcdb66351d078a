//! The chain of MACs that makes a macaroon: each link is the HMAC-SHA256 of the next field under the link before it, so
//! whoever holds the last link can add a field and nobody can take one away.

use std::fmt;

use zeroize::Zeroize;
use zeroize::ZeroizeOnDrop;

use crate::secret::HmacSha256;
use crate::secret::constant_time_eq;

/// The constant under which every macaroon library derives the chain's first key from the shared secret.
/// Its zeros change nothing: HMAC fills every key with them.
const KEY_GENERATOR: &[u8; 32] = b"macaroons-key-generator\0\0\0\0\0\0\0\0\0";

/// One link of the chain. The last is the token's signature, and with it the power to use and to narrow the token:
/// wiped when dropped, never printed, compared only in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Signature([u8; Signature::LENGTH]);

impl Signature {
    /// Length in bytes.
    pub const LENGTH: usize = 32;

    /// A link that was computed elsewhere.
    pub const fn from_bytes(bytes: [u8; Self::LENGTH]) -> Self {
        Self(bytes)
    }

    /// The link itself. Every call is a place where it could leak.
    pub const fn expose(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Whether two links are equal, in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The chain's first key: what libraries call the root key is `secret`, and this derivation is part of their format.
pub fn derive(secret: &[u8]) -> Signature {
    mac(KEY_GENERATOR, secret)
}

/// The next link: the identifier under the derived key, then each caveat in order.
pub fn extend(link: &Signature, field: &[u8]) -> Signature {
    mac(&link.0, field)
}

/// The last link over an identifier and its caveats.
pub(super) fn sign<'a>(root: &Signature, identifier: &[u8], caveats: impl Iterator<Item = &'a [u8]>) -> Signature {
    caveats.fold(extend(root, identifier), |link, caveat| extend(&link, caveat))
}

/// HMAC-SHA256.
pub(super) fn mac(key: &[u8; 32], data: &[u8]) -> Signature {
    let mut mac = HmacSha256::new(key);
    mac.update(data);
    Signature(mac.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_not_printed() {
        assert_eq!(format!("{:?}", derive(b"key")), "[redacted]");
    }

    #[test]
    fn links_are_equal_only_to_themselves() {
        let link = derive(b"this is the key");
        assert!(link.matches(&derive(b"this is the key")));
        for bit in 0..256 {
            let mut other = *link.expose();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!link.matches(&Signature::from_bytes(other)), "bit {bit}");
        }
    }
}
