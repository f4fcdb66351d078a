//! One member of a JWK Set (RFC 7517) as openidconnect's [`JsonWebKeySet`] reads it: fields, not yet a key.
//!
//! The set parses member by member, and a member that cannot be read is kept as [`Member::Unreadable`] so that it can
//! be reported. The methods that openidconnect would verify with are closed: signatures are checked by
//! [`Key`](super::Key) alone, after its own rules.
//!
//! [`JsonWebKeySet`]: openidconnect::JsonWebKeySet

use openidconnect::JsonWebKey;
use openidconnect::JsonWebKeyAlgorithm;
use openidconnect::JsonWebKeyId;
use openidconnect::SignatureVerificationError;
use openidconnect::core::CoreJsonWebKeyType;
use openidconnect::core::CoreJsonWebKeyUse;
use openidconnect::core::CoreJwsSigningAlgorithm;
use serde::Deserialize;
use serde::Serialize;
use serde::de::IgnoredAny;

/// A member of the `keys` array.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Member {
    /// An object with the members of a JWK, each at most once.
    Fields(Box<Fields>),
    /// Anything else: no object, a number as `kid`, a repeated member.
    #[serde(skip_serializing)]
    Unreadable(IgnoredAny),
}

/// The members of a JWK that decide whether and how it verifies. Certificates (`x5c`, `x5t`) are not read: the set
/// itself is what the issuer vouches for, and they may be expired while the key is in use.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Fields {
    pub(super) kty: String,
    pub(super) kid: Option<JsonWebKeyId>,
    #[serde(rename = "use")]
    pub(super) key_use: Option<CoreJsonWebKeyUse>,
    pub(super) key_ops: Option<Vec<String>>,
    pub(super) alg: Option<String>,
    pub(super) crv: Option<String>,
    pub(super) n: Option<String>,
    pub(super) e: Option<String>,
    pub(super) x: Option<String>,
    pub(super) y: Option<String>,
    /// Only whether a private part is there (RFC 7518 sections 6.2.2 and 6.3.2); its value is not kept.
    #[serde(skip_serializing)]
    d: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    p: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    q: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    dp: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    dq: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    qi: Option<IgnoredAny>,
    /// Everything else. That it is there makes the reader take objects only, and no array of the fields' values.
    #[serde(flatten, skip_serializing)]
    _others: IgnoredAny,
}

impl Fields {
    /// Whether a part is published that must not be: one prime is as good as the private exponent.
    pub(super) fn is_private(&self) -> bool {
        [&self.d, &self.p, &self.q, &self.dp, &self.dq, &self.qi].into_iter().any(Option::is_some)
    }
}

impl JsonWebKey for Member {
    type KeyUse = CoreJsonWebKeyUse;
    type SigningAlgorithm = CoreJwsSigningAlgorithm;

    fn key_id(&self) -> Option<&JsonWebKeyId> {
        match self {
            Self::Fields(fields) => fields.kid.as_ref(),
            Self::Unreadable(_) => None,
        }
    }

    fn key_type(&self) -> &CoreJsonWebKeyType {
        match self {
            Self::Fields(fields) if fields.kty == "RSA" => &CoreJsonWebKeyType::RSA,
            Self::Fields(fields) if fields.kty == "EC" => &CoreJsonWebKeyType::EllipticCurve,
            Self::Fields(fields) if fields.kty == "OKP" => &CoreJsonWebKeyType::OctetKeyPair,
            Self::Fields(_) | Self::Unreadable(_) => &CoreJsonWebKeyType::Symmetric,
        }
    }

    fn key_use(&self) -> Option<&CoreJsonWebKeyUse> {
        match self {
            Self::Fields(fields) => fields.key_use.as_ref(),
            Self::Unreadable(_) => None,
        }
    }

    fn signing_alg(&self) -> JsonWebKeyAlgorithm<&CoreJwsSigningAlgorithm> {
        JsonWebKeyAlgorithm::Unsupported
    }

    fn new_symmetric(_: Vec<u8>) -> Self {
        Self::Unreadable(IgnoredAny)
    }

    fn verify_signature(
        &self,
        _: &CoreJwsSigningAlgorithm,
        _: &[u8],
        _: &[u8],
    ) -> Result<(), SignatureVerificationError> {
        Err(SignatureVerificationError::UnsupportedAlg("not verified through this type".to_owned()))
    }

    fn hash_bytes(&self, _: &[u8], _: &CoreJwsSigningAlgorithm) -> Result<Vec<u8>, String> {
        Err("not hashed through this type".to_owned())
    }
}
