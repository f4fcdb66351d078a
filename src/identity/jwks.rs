//! Key sets: a JWK Set document (RFC 7517) becomes the keys that may verify this issuer's tokens.
//!
//! Decides which published keys are usable, key by key, so that one odd member never breaks a set, and which of them a
//! token's `kid` names. It does not fetch or age them.
//! INVARIANT: every [`Key`] is an asymmetric public key of adequate strength; there is no HMAC code path.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::Digest;
use aws_lc_rs::digest::SHA256;
use aws_lc_rs::digest::digest;
use aws_lc_rs::signature as aws;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use openidconnect::JsonWebKeySet;
use openidconnect::core::CoreJsonWebKeyUse;

use crate::identity::token::Algorithm;

mod member;
mod roca;
pub mod small_order;

use member::Fields;
use member::Member;

/// Largest document read, in bytes: the largest public set (four keys with certificates) takes 5 KiB.
pub const MAX_DOCUMENT: usize = 100 * 1024;
/// Most members in a set; public issuers have one to seven.
pub const MAX_KEYS: usize = 64;
/// Longest `kid`, in bytes, in a set or a token.
pub const MAX_KID: usize = 256;

/// Why a document is no key set at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// Over [`MAX_DOCUMENT`] bytes.
    #[error("the key set is larger than 100 KiB")]
    TooLarge,
    /// Not a JSON object with one `keys` array.
    #[error("the document is not a JWK Set (a JSON object with an array `keys`)")]
    NotAKeySet,
    /// Over [`MAX_KEYS`] members.
    #[error("the key set has {0} keys, at most 64 are read")]
    TooManyKeys(usize),
}

/// A member of the set that will verify nothing, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its `kid`, if it could be read.
    pub kid: Option<String>,
    /// What is wrong with it.
    pub reason: SkipReason,
}

impl fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "key `{kid}`: {}", self.reason),
            None => write!(f, "a key without a `kid`: {}", self.reason),
        }
    }
}

/// Whose keys a set holds, which decides the `use` that marks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// An OIDC issuer: `sig` or nothing.
    Issuer,
    /// A SPIFFE trust domain.
    TrustDomain,
}

/// Why a published key is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// No object, or members of the wrong type, or twice.
    #[error("cannot be read as a JSON Web Key")]
    Unreadable,
    /// `kid` is empty, too long or not printable ASCII.
    #[error("its `kid` is not 1 to 256 printable ASCII characters")]
    KeyId,
    /// Two members have this `kid`.
    #[error("another key has the same `kid`, so neither is used")]
    DuplicateKid,
    /// `kty: oct` and types that this service does not verify with.
    #[error("its `kty` is not RSA, EC or OKP")]
    KeyType,
    /// A curve that this service does not verify with.
    #[error("its `crv` is not P-256, P-384 or Ed25519")]
    Curve,
    /// `use` is not `sig`, or `key_ops` lacks `verify`.
    #[error("it is not meant for verifying signatures")]
    Use,
    /// `alg` is unknown or belongs to another key type.
    #[error("its `alg` is not one that its key type verifies")]
    Algorithm,
    /// The private part is published, so anyone can sign.
    #[error("its private part is published")]
    Private,
    /// A coordinate or RSA number is missing or is no canonical base64url.
    #[error("a number of the key is missing or not base64url")]
    Encoding,
    /// RSA modulus not of 2048 to 8192 bits, or even.
    #[error("its RSA modulus is not an odd number of 2048 to 8192 bits")]
    Modulus,
    /// RSA modulus of the kind that flawed smart cards made (ROCA, CVE-2017-15361): it can be factored.
    #[error("its RSA modulus was made by a flawed generator (ROCA) and can be factored")]
    Factorable,
    /// RSA exponent even, below 65537 or above 32 bits.
    #[error("its RSA exponent is not an odd number from 65537 to 2^32")]
    Exponent,
    /// The point is not on the curve, or of small order.
    #[error("it is not a valid public key")]
    Invalid,
}

/// The usable keys of one issuer at one time.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// What a look-up in a key set found.
#[derive(Debug, Clone)]
pub enum Find {
    /// The one key that may verify the token.
    Key(Arc<Key>),
    /// No usable key has this `kid`: the issuer may have rotated.
    UnknownKid,
    /// The token has no `kid`, and the set has not exactly one key.
    KidRequired,
}

impl KeySet {
    /// Reads a JWK Set, member by member; the second part lists the members that are not used.
    pub fn parse(bytes: &[u8]) -> Result<(Self, Vec<SkippedKey>), JwksError> {
        Self::read(bytes, Holder::Issuer)
    }

    /// Reads a trust domain's bundle (SPIFFE Trust Domain and Bundle section 4.2, JWT-SVID section 6): its JWT
    /// authorities, each with `use: jwt-svid` and a `kid`. X.509 authorities and entries of kinds to come are skipped.
    pub fn parse_bundle(bytes: &[u8]) -> Result<(Self, Vec<SkippedKey>), JwksError> {
        Self::read(bytes, Holder::TrustDomain)
    }

    fn read(bytes: &[u8], holder: Holder) -> Result<(Self, Vec<SkippedKey>), JwksError> {
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for member in judge(bytes, holder)? {
            match member {
                Ok(key) => keys.push(Arc::new(key)),
                Err(unused) => skipped.push(unused),
            }
        }
        Ok((Self { keys }, skipped))
    }

    /// The key that may verify a token with this `kid`, or with none.
    pub fn find(&self, kid: Option<&str>) -> Find {
        let found = match (kid, self.keys.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => return Find::KidRequired,
            (Some(kid), keys) => keys.iter().find(|key| key.kid() == Some(kid)),
        };
        found.map_or(Find::UnknownKid, |key| Find::Key(Arc::clone(key)))
    }

    /// The keys, in the order of the document.
    pub fn keys(&self) -> &[Arc<Key>] {
        &self.keys
    }

    /// The names of the keys, in the order of the document.
    pub fn kids(&self) -> Vec<String> {
        self.keys.iter().filter_map(|key| key.kid.clone()).collect()
    }

    /// How many usable keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// What each member of a JWK Set is, in the order of the document: a key, or why not.
pub fn members(bytes: &[u8]) -> Result<Vec<Result<Key, SkippedKey>>, JwksError> {
    judge(bytes, Holder::Issuer)
}

fn judge(bytes: &[u8], holder: Holder) -> Result<Vec<Result<Key, SkippedKey>>, JwksError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(JwksError::TooLarge);
    }
    // The derived reader also takes an array, as a struct's fields one after the other.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(JwksError::NotAKeySet);
    }
    let document: JsonWebKeySet<Member> = serde_json::from_slice(bytes).map_err(|_| JwksError::NotAKeySet)?;
    let members = document.keys();
    if members.len() > MAX_KEYS {
        return Err(JwksError::TooManyKeys(members.len()));
    }
    // SECURITY: a set with two keys of one name would let a token be verified by whichever comes first. Members
    // that are skipped for another reason count too: which of the two is meant is not ours to guess.
    let mut uses: HashMap<&str, usize> = HashMap::new();
    for kid in members.iter().filter_map(kid_of) {
        *uses.entry(kid).or_default() += 1;
    }
    let judged = |member: &Member| {
        let kid = kid_of(member);
        let twice = kid.is_some_and(|kid| uses.get(kid).is_some_and(|uses| *uses > 1));
        let key = if twice { Err(SkipReason::DuplicateKid) } else { Key::read(member, holder) };
        key.map_err(|reason| SkippedKey { kid: kid.filter(|kid| is_key_id(kid)).map(str::to_owned), reason })
    };
    Ok(members.iter().map(judged).collect())
}

fn kid_of(member: &Member) -> Option<&str> {
    match member {
        Member::Fields(fields) => fields.kid.as_ref().map(|kid| kid.as_str()),
        Member::Unreadable(_) => None,
    }
}

/// What a JWS signs (`header.payload`, RFC 7515 section 5.2), with its SHA-256: what most issuers sign is what a first use
/// goes by as well, so it is computed once.
pub struct SigningInput<'a> {
    bytes: &'a [u8],
    digest: Digest,
}

impl<'a> SigningInput<'a> {
    /// That of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, digest: digest(&SHA256, bytes) }
    }

    /// Its SHA-256.
    pub fn sha256(&self) -> [u8; 32] {
        // Always 32 bytes. Were it not, equal digests would make every token a replay: refused, not accepted.
        self.digest.as_ref().first_chunk().copied().unwrap_or_default()
    }
}

/// Claims are not printed: some are personal.
impl fmt::Debug for SigningInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningInput").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// A public key of an issuer, built once per refresh.
#[derive(Debug)]
pub struct Key {
    kid: Option<String>,
    kind: KeyKind,
    algorithm: Option<Algorithm>,
    verifier: Verifier,
}

/// What verifies a key's signatures.
#[derive(Debug)]
struct Verifier {
    /// The one of the key's algorithms that CI systems sign with.
    usual: Algorithm,
    /// The key, ready for that: to make it so takes a quarter of a verification by RSA, and jsonwebtoken does it each time.
    ready: aws::ParsedPublicKey,
    /// The key for the other algorithms of RSA.
    others: Option<DecodingKey>,
}

impl Verifier {
    fn verifies(&self, algorithm: Algorithm, input: &SigningInput<'_>, signature: &[u8]) -> bool {
        if algorithm == self.usual {
            // aws-lc refuses a digest of another kind than the algorithm's.
            let verified = match algorithm {
                Algorithm::Rs256 | Algorithm::Es256 => self.ready.verify_digest_sig(&input.digest, signature),
                Algorithm::Rs384
                | Algorithm::Rs512
                | Algorithm::Ps256
                | Algorithm::Ps384
                | Algorithm::Ps512
                | Algorithm::Es384
                | Algorithm::EdDsa => self.ready.verify_sig(input.bytes, signature),
            };
            return verified.is_ok();
        }
        self.others.as_ref().is_some_and(|key| {
            let signature = URL_SAFE_NO_PAD.encode(signature);
            jsonwebtoken::crypto::verify(&signature, input.bytes, key, algorithm.into()).unwrap_or(false)
        })
    }
}

/// What kind of key it is, which bounds the algorithms that it verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA, 2048 to 8192 bits.
    Rsa,
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// `EdDSA` on Ed25519.
    Ed25519,
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rsa => "RSA",
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Ed25519 => "Ed25519",
        })
    }
}

impl KeyKind {
    /// Whether keys of this kind verify signatures of this algorithm (RFC 7518 section 3.1, RFC 8037).
    pub const fn verifies(self, algorithm: Algorithm) -> bool {
        use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match algorithm {
            Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => matches!(self, Self::Rsa),
            Es256 => matches!(self, Self::P256),
            Es384 => matches!(self, Self::P384),
            EdDsa => matches!(self, Self::Ed25519),
        }
    }
}

impl Holder {
    /// Whether the holder means this key for the signatures of tokens.
    fn marks(self, fields: &Fields) -> bool {
        let by_use = match (self, &fields.key_use) {
            (Self::Issuer, None | Some(CoreJsonWebKeyUse::Signature)) => true,
            (Self::TrustDomain, Some(CoreJsonWebKeyUse::Other(key_use))) => key_use == "jwt-svid",
            (Self::Issuer | Self::TrustDomain, _) => false,
        };
        by_use && fields.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|o| o == "verify"))
    }
}

impl Key {
    /// Its `kid`.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// Its kind.
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Whether this key may verify a token that claims this algorithm.
    ///
    /// SECURITY: the algorithm is the attacker's choice until the signature is proven. It is bound to the key's own
    /// type, and to its `alg` when it declares one, so no key is ever used under rules it was not made for.
    pub fn accepts(&self, algorithm: Algorithm) -> bool {
        self.kind.verifies(algorithm) && self.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether `signature` is this key's signature of `input`.
    pub fn verifies(&self, algorithm: Algorithm, input: &SigningInput<'_>, signature: &[u8]) -> bool {
        self.accepts(algorithm) && self.verifier.verifies(algorithm, input, signature)
    }

    fn read(member: &Member, holder: Holder) -> Result<Self, SkipReason> {
        let Member::Fields(fields) = member else { return Err(SkipReason::Unreadable) };
        // SECURITY: first in a bundle, whose X.509 authorities are keys of the same types for another purpose.
        if !holder.marks(fields) {
            return Err(SkipReason::Use);
        }
        let kid = fields.kid.as_ref().map(|kid| kid.as_str());
        if !kid.map_or(holder == Holder::Issuer, is_key_id) {
            return Err(SkipReason::KeyId);
        }
        // SECURITY: `oct` would be an HMAC key: everyone who can read the set could sign.
        let (family, verifier) = match fields.kty.as_str() {
            "RSA" => (KeyKind::Rsa, rsa(fields)?),
            "EC" => elliptic(fields)?,
            "OKP" => (KeyKind::Ed25519, ed25519(fields)?),
            _ => return Err(SkipReason::KeyType),
        };
        if fields.is_private() {
            return Err(SkipReason::Private);
        }
        let algorithm = match &fields.alg {
            None => None,
            Some(name) => {
                let algorithm = Algorithm::parse(name).filter(|algorithm| family.verifies(*algorithm));
                Some(algorithm.ok_or(SkipReason::Algorithm)?)
            }
        };
        Ok(Self { kid: kid.map(str::to_owned), kind: family, algorithm, verifier })
    }
}

/// Whether a text may be a `kid`: 1 to [`MAX_KID`] printable ASCII characters. It is only ever compared.
pub fn is_key_id(text: &str) -> bool {
    (1..=MAX_KID).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn number(text: Option<&String>) -> Result<Vec<u8>, SkipReason> {
    text.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).ok_or(SkipReason::Encoding)
}

/// Jenkins writes Java's two's complement, with a leading zero octet that RFC 7518 section 6.3.1.1 forbids.
fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

fn rsa(fields: &Fields) -> Result<Verifier, SkipReason> {
    let (modulus, exponent) = (number(fields.n.as_ref())?, number(fields.e.as_ref())?);
    let (n, e) = (without_leading_zeros(&modulus), without_leading_zeros(&exponent));
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    // SECURITY: shorter moduli can be factored; longer ones, and long exponents, make each check slow.
    if !(2048..=8192).contains(&bits) || !is_odd(n) {
        return Err(SkipReason::Modulus);
    }
    if roca::is_factorable(n) {
        return Err(SkipReason::Factorable);
    }
    let value = (e.len() <= 4).then(|| e.iter().fold(0_u32, |value, byte| (value << 8) | u32::from(*byte)));
    // SECURITY: with e = 1 every message is its own signature; with e = 3 padding flaws are forgeries.
    if !value.is_some_and(|e| e >= 65_537 && e % 2 == 1) {
        return Err(SkipReason::Exponent);
    }
    let components = aws::RsaPublicKeyComponents { n, e };
    let ready = components.to_parsed_public_key(&aws::RSA_PKCS1_2048_8192_SHA256).map_err(|_| SkipReason::Invalid)?;
    Ok(Verifier { usual: Algorithm::Rs256, ready, others: Some(DecodingKey::from_rsa_raw_components(n, e)) })
}

fn elliptic(fields: &Fields) -> Result<(KeyKind, Verifier), SkipReason> {
    let (kind, usual, algorithm, length) = match fields.crv.as_deref() {
        Some("P-256") => (KeyKind::P256, Algorithm::Es256, &aws::ECDSA_P256_SHA256_FIXED, 32),
        Some("P-384") => (KeyKind::P384, Algorithm::Es384, &aws::ECDSA_P384_SHA384_FIXED, 48),
        _ => return Err(SkipReason::Curve),
    };
    let (x, y) = (number(fields.x.as_ref())?, number(fields.y.as_ref())?);
    if x.len() != length || y.len() != length {
        return Err(SkipReason::Encoding);
    }
    // The uncompressed point of SEC 1 section 2.3.3; aws-lc checks that it is on the curve.
    let point = [&[4][..], &x, &y].concat();
    let ready = aws::ParsedPublicKey::new(algorithm, &point).map_err(|_| SkipReason::Invalid)?;
    Ok((kind, Verifier { usual, ready, others: None }))
}

fn ed25519(fields: &Fields) -> Result<Verifier, SkipReason> {
    if fields.crv.as_deref() != Some("Ed25519") {
        return Err(SkipReason::Curve);
    }
    let x = number(fields.x.as_ref())?;
    if small_order::has_small_order(&x) {
        return Err(SkipReason::Invalid);
    }
    let ready = aws::ParsedPublicKey::new(&aws::ED25519, &x).map_err(|_| SkipReason::Invalid)?;
    Ok(Verifier { usual: Algorithm::EdDsa, ready, others: None })
}

#[cfg(test)]
mod tests;
