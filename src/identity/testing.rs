//! Keys and tokens for this layer's tests: real signatures, every algorithm, and headers and payloads as wrong as a
//! test likes.

use std::sync::Arc;
use std::sync::LazyLock;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature as aws;
use aws_lc_rs::signature::EcdsaKeyPair;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use aws_lc_rs::signature::RsaKeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;

use crate::identity::issuer::Issuer;
use crate::identity::issuer::IssuerUrl;
use crate::identity::jwks::Find;
use crate::identity::jwks::Key;
use crate::identity::jwks::KeySet;
use crate::identity::provider::Provider;
use crate::identity::provider::generic;
use crate::identity::token::Algorithm;
use crate::time::Timestamp;

/// The present of all tests.
pub(super) const NOW: i64 = 1_787_000_100;

pub(super) fn now() -> Timestamp {
    Timestamp::from_unix_seconds(NOW)
}

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// RSA-2048, made once: it takes a second.
pub(super) static RSA: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
pub(super) static P256: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&aws::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
pub(super) static P384: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&aws::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
pub(super) static ED25519: LazyLock<Ed25519KeyPair> = LazyLock::new(|| Ed25519KeyPair::generate().unwrap());

pub(super) fn rsa_jwk() -> Value {
    let components = aws::RsaPublicKeyComponents::<Vec<u8>>::from(RSA.public_key());
    json!({"kty": "RSA", "kid": "rsa", "use": "sig", "n": base64url(components.n), "e": base64url(components.e)})
}

fn ec_jwk(kid: &str, crv: &str, pair: &EcdsaKeyPair) -> Value {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    json!({"kty": "EC", "kid": kid, "use": "sig", "crv": crv, "x": base64url(x), "y": base64url(y)})
}

pub(super) fn p256_jwk() -> Value {
    ec_jwk("p256", "P-256", &P256)
}

pub(super) fn p384_jwk() -> Value {
    ec_jwk("p384", "P-384", &P384)
}

pub(super) fn ed25519_jwk() -> Value {
    json!({"kty": "OKP", "kid": "ed", "use": "sig", "crv": "Ed25519", "x": base64url(ED25519.public_key())})
}

/// A member of a key set with one of its members changed.
pub(super) fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk.as_object_mut().unwrap().insert(name.to_owned(), value);
    jwk
}

pub(super) fn set(members: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": members }).to_string().as_bytes()).unwrap().0
}

/// The key that a member of a key set becomes.
pub(super) fn key(member: Value) -> Arc<Key> {
    match set(&[member]).find(None) {
        Find::Key(key) => key,
        other @ (Find::UnknownKid | Find::KidRequired) => panic!("{other:?}"),
    }
}

/// The published form of the key that [`signature`] signs with.
pub(super) fn jwk_for(algorithm: Algorithm) -> Value {
    use Algorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
    match algorithm {
        Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512 => rsa_jwk(),
        Es256 => p256_jwk(),
        Es384 => p384_jwk(),
        EdDsa => ed25519_jwk(),
    }
}

/// The key that verifies what [`signature`] makes with that algorithm.
pub(super) fn key_for(algorithm: Algorithm) -> Arc<Key> {
    key(jwk_for(algorithm))
}

/// The bytes of a signature.
#[expect(clippy::disallowed_types, reason = "signing needs randomness; only tests sign")]
pub(super) fn signature(algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
    let random = aws_lc_rs::rand::SystemRandom::new();
    let padding: &'static dyn aws::RsaEncoding = match algorithm {
        Algorithm::Rs256 => &aws::RSA_PKCS1_SHA256,
        Algorithm::Rs384 => &aws::RSA_PKCS1_SHA384,
        Algorithm::Rs512 => &aws::RSA_PKCS1_SHA512,
        Algorithm::Ps256 => &aws::RSA_PSS_SHA256,
        Algorithm::Ps384 => &aws::RSA_PSS_SHA384,
        Algorithm::Ps512 => &aws::RSA_PSS_SHA512,
        Algorithm::Es256 => return P256.sign(&random, message).unwrap().as_ref().to_vec(),
        Algorithm::Es384 => return P384.sign(&random, message).unwrap().as_ref().to_vec(),
        Algorithm::EdDsa => return ED25519.sign(message).as_ref().to_vec(),
    };
    let mut bytes = vec![0; RSA.public_modulus_len()];
    RSA.sign(padding, &random, message, &mut bytes).unwrap();
    bytes
}

/// A token of this header and payload, both as they are, signed.
pub(super) fn sign_raw(algorithm: Algorithm, header: &[u8], payload: &[u8]) -> String {
    let signing_input = format!("{}.{}", base64url(header), base64url(payload));
    let signature = signature(algorithm, signing_input.as_bytes());
    format!("{signing_input}.{}", base64url(signature))
}

/// A token with an honest header.
pub(super) fn sign(algorithm: Algorithm, payload: &Value) -> String {
    let header = json!({"alg": algorithm.name(), "typ": "JWT"}).to_string();
    sign_raw(algorithm, header.as_bytes(), payload.to_string().as_bytes())
}

pub(super) const ISSUER: &str = "https://ci.example";

/// Claims that the generic issuer of the tests is right to make.
pub(super) fn payload() -> Value {
    json!({"iss": ISSUER, "aud": "acme", "sub": "job:widgets", "iat": NOW - 10, "nbf": NOW - 310, "exp": NOW + 290,
           "jti": "b6e5a7de-7a52-4a2f-a1b8-3f0e7c9b2a11"})
}

pub(super) fn issuer_of(provider: &'static Provider, url: &str) -> Arc<Issuer> {
    Arc::new(Issuer::new("tests".to_owned(), provider, IssuerUrl::parse(url).unwrap()).unwrap())
}

pub(super) fn issuer() -> Arc<Issuer> {
    issuer_of(&generic::PROVIDER, ISSUER)
}

pub(super) fn audiences() -> Vec<String> {
    vec!["acme".to_owned(), "https://pypi.acme.example/legacy/".to_owned()]
}
