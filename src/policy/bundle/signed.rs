//! Whether a bundle is its registry's: its size, and the detached signature where the policy names a key.

use aws_lc_rs::signature::ED25519;
use aws_lc_rs::signature::UnparsedPublicKey;
use url::Url;

use super::BundleFault;
use super::Source;
use crate::secret::sha256;

/// Bytes of an Ed25519 signature (RFC 8032 section 5.1.6).
const SIGNATURE: usize = 64;

/// An Ed25519 public key (RFC 8032 section 5.1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub [u8; 32]);

/// Where the detached signature of a document is: its own URL with `.sig` behind it.
pub fn signature_url(document: &Url) -> Url {
    let mut url = document.clone();
    url.set_path(&format!("{}.sig", document.path()));
    url
}

/// The bytes of a bundle that is its registry's.
///
/// INVARIANT: nothing in them has been read before they came to be one of these: a signed bundle's bytes meet no parser
/// until their signature was found right.
#[derive(Debug, Clone, Copy)]
pub struct Signed<'a> {
    bytes: &'a [u8],
    digest: [u8; 32],
}

impl<'a> Signed<'a> {
    /// What a server answered with; `signature` is what it has at [`signature_url`], raw.
    pub fn fetched(source: &Source, bytes: &'a [u8], signature: Option<&[u8]>) -> Result<Self, BundleFault> {
        if bytes.len() > source.max_bytes {
            return Err(BundleFault::TooLarge { bytes: bytes.len(), most: source.max_bytes });
        }
        if let Some(PublicKey(key)) = &source.public_key {
            let signature = signature.ok_or(BundleFault::Unsigned)?;
            if signature.len() != SIGNATURE {
                return Err(BundleFault::NoSignature { bytes: signature.len() });
            }
            let key = UnparsedPublicKey::new(&ED25519, key);
            key.verify(bytes, signature).map_err(|_| BundleFault::WrongSignature)?;
        }
        Ok(Self::known(bytes))
    }

    /// What was found right before, and kept where nobody else can write: in memory, or sealed in the store.
    pub fn known(bytes: &'a [u8]) -> Self {
        Self { bytes, digest: sha256(bytes) }
    }

    /// The bytes.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Their SHA-256.
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use aws_lc_rs::signature::Ed25519KeyPair;
    use aws_lc_rs::signature::KeyPair;

    use crate::policy::bundle::testing::source;

    fn key_pair(seed: u8) -> (Ed25519KeyPair, PublicKey) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = PublicKey(pair.public_key().as_ref().try_into().unwrap());
        (pair, public)
    }

    #[test]
    fn the_signature_is_beside_the_document() {
        let url = Url::parse("https://npm.acme.example/trust/bundle.yaml").unwrap();
        assert_eq!(signature_url(&url).as_str(), "https://npm.acme.example/trust/bundle.yaml.sig");
    }

    #[test]
    fn a_signed_bundle_is_believed_by_its_own_key_over_exactly_its_bytes() {
        let (pair, public_key) = key_pair(1);
        let (stranger, _) = key_pair(2);
        let source = Source { public_key: Some(public_key), ..source() };
        let bytes = b"registry: acme-npm\n";
        let signature = pair.sign(bytes);
        let signature = signature.as_ref();
        assert!(Signed::fetched(&source, bytes, Some(signature)).is_ok());
        for place in 0..signature.len() {
            let mut altered = signature.to_vec();
            altered[place] ^= 1;
            let refused = Signed::fetched(&source, bytes, Some(&altered)).unwrap_err();
            assert!(matches!(refused, BundleFault::WrongSignature), "byte {place}: {refused}");
        }
        for bytes in [&b"registry: acme-npm"[..], b"registry: acme-npm\r\n", b"", b"registry: acme-npm\n\n"] {
            let refused = Signed::fetched(&source, bytes, Some(signature)).unwrap_err();
            assert!(matches!(refused, BundleFault::WrongSignature), "{refused}");
        }
        let others = stranger.sign(bytes);
        assert!(matches!(
            Signed::fetched(&source, bytes, Some(others.as_ref())).unwrap_err(),
            BundleFault::WrongSignature
        ));
        assert!(matches!(Signed::fetched(&source, bytes, None).unwrap_err(), BundleFault::Unsigned));
        for signature in [&b""[..], b"\n", &signature[1..], &[signature, b"\n"].concat()] {
            let refused = Signed::fetched(&source, bytes, Some(signature)).unwrap_err();
            assert!(matches!(refused, BundleFault::NoSignature { .. }), "{refused}");
        }
    }

    #[test]
    fn without_a_key_a_signature_is_not_looked_at() {
        assert!(Signed::fetched(&source(), b"x", None).is_ok());
        assert!(Signed::fetched(&source(), b"x", Some(b"anything")).is_ok());
    }

    #[test]
    fn no_more_bytes_are_taken_than_the_policy_says() {
        let source = Source { max_bytes: 4, ..source() };
        assert!(Signed::fetched(&source, b"1234", None).is_ok());
        let refused = Signed::fetched(&source, b"12345", None).unwrap_err();
        assert!(matches!(refused, BundleFault::TooLarge { bytes: 5, most: 4 }), "{refused}");
    }
}
