//! Keys that sign ID tokens, honest and hostile.
//!
//! Signing goes straight to the cryptography library and shares no code with verification, so a test that mints here
//! and verifies there checks one against the other. A token is whatever its maker says: nothing is added or refused.

use aws_lc_rs::digest;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaSignatureEncoding};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value, json};

/// The kinds of key that identity providers sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with 2,048 bits: RS256 unless the token's header names another RSA algorithm.
    Rsa2048,
    /// ES256.
    P256,
    /// ES384.
    P384,
    /// `EdDSA`.
    Ed25519,
}

/// A signing key and the `kid` under which it is published.
#[derive(Debug)]
pub struct SigningKey {
    kid: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(rsa::KeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A fresh key. Its `kid` is its thumbprint (RFC 7638). RSA takes a moment, the others none.
    pub fn generate(kind: KeyKind) -> Result<Self, Unspecified> {
        let pair = match kind {
            KeyKind::Rsa2048 => Pair::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048)?),
            KeyKind::P256 => Pair::P256(EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?),
            KeyKind::P384 => Pair::P384(EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING)?),
            KeyKind::Ed25519 => Pair::Ed25519(Ed25519KeyPair::generate()?),
        };
        let required = Value::Object(pair.public_members()).to_string();
        let thumbprint = digest::digest(&digest::SHA256, required.as_bytes());
        Ok(Self { kid: URL_SAFE_NO_PAD.encode(thumbprint), pair })
    }

    /// The same key under another `kid`: with another key's, it is an impostor.
    #[must_use]
    pub fn with_kid(self, kid: &str) -> Self {
        Self { kid: kid.to_owned(), ..self }
    }

    /// The name under which it is published.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithm it signs with unless a header says otherwise.
    pub const fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::P256(_) => "ES256",
            Pair::P384(_) => "ES384",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// Its public half as a JWK (RFC 7517).
    pub fn jwk(&self) -> Value {
        let mut jwk = self.pair.public_members();
        jwk.insert("kid".into(), self.kid.as_str().into());
        jwk.insert("use".into(), "sig".into());
        jwk.insert("alg".into(), self.algorithm().into());
        Value::Object(jwk)
    }

    /// A token with these claims and nothing more. The header has `alg`, `kid` and `typ`; the members of `header`
    /// replace them or join them, and `null` removes one. The signature follows the header's `alg` where this key can
    /// sign so, and is the key's usual one where it cannot (`none`, `HS256`).
    pub fn token(&self, header: &Value, claims: &impl Serialize) -> String {
        let mut members = Map::new();
        members.insert("alg".into(), self.algorithm().into());
        members.insert("kid".into(), self.kid.as_str().into());
        members.insert("typ".into(), "JWT".into());
        for (name, value) in header.as_object().into_iter().flatten() {
            if value.is_null() {
                members.remove(name);
            } else {
                members.insert(name.clone(), value.clone());
            }
        }
        let algorithm = members.get("alg").and_then(Value::as_str).unwrap_or_default().to_owned();
        let header = Value::Object(members).to_string();
        self.seal(&algorithm, header.as_bytes(), &serde_json::to_vec(claims).unwrap_or_default())
    }

    /// A token of exactly these header and payload bytes, whatever they are, truly signed.
    pub fn seal(&self, algorithm: &str, header: &[u8], payload: &[u8]) -> String {
        let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let signature = self.sign(algorithm, input.as_bytes());
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The signature of a message in its JWS form (RFC 7518 section 3): ECDSA as `r ‖ s`.
    pub fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        // A signature that could not be made is empty, which no verifier accepts.
        self.pair.sign(algorithm, message).unwrap_or_default()
    }
}

impl Pair {
    /// The members that RFC 7638 section 3.2 hashes.
    fn public_members(&self) -> Map<String, Value> {
        let encode = |bytes: Option<&[u8]>| URL_SAFE_NO_PAD.encode(bytes.unwrap_or_default());
        let point = |curve: &str, bytes: &[u8], size: usize| {
            // Uncompressed: 0x04, x, y (SEC 1 section 2.3.3).
            let (x, y) = (encode(bytes.get(1..=size)), encode(bytes.get(size + 1..)));
            json!({"kty": "EC", "crv": curve, "x": x, "y": y})
        };
        let members = match self {
            // RSAPublicKey (RFC 8017 appendix A.1.1) of a 2,048-bit key: nine octets of DER, the modulus, and the
            // exponent, which is always 65537.
            Self::Rsa(pair) => json!({"kty": "RSA", "n": encode(pair.public_key().as_ref().get(9..265)), "e": "AQAB"}),
            Self::P256(pair) => point("P-256", pair.public_key().as_ref(), 32),
            Self::P384(pair) => point("P-384", pair.public_key().as_ref(), 48),
            Self::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encode(Some(pair.public_key().as_ref()))})
            }
        };
        if let Value::Object(members) = members { members } else { Map::new() }
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        #[expect(clippy::disallowed_types, reason = "a parameter of the signing calls, which ignore it")]
        let rng = aws_lc_rs::rand::SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(rsa_encoding(algorithm), &rng, message, &mut signature)?;
                Ok(signature)
            }
            Self::P256(pair) | Self::P384(pair) => Ok(pair.sign(&rng, message)?.as_ref().to_vec()),
            Self::Ed25519(pair) => Ok(pair.try_sign(message)?.as_ref().to_vec()),
        }
    }
}

fn rsa_encoding(algorithm: &str) -> &'static RsaSignatureEncoding {
    match algorithm {
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
    use jsonwebtoken::{Algorithm, DecodingKey, Validation};

    use super::*;

    /// What an independent implementation makes of a token, given the published key.
    fn decode(token: &str, key: &SigningKey, algorithm: Algorithm) -> Option<Value> {
        let jwk: Jwk = serde_json::from_value(key.jwk()).unwrap();
        let mut validation = Validation::new(algorithm);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        let decoded = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(&jwk).unwrap(), &validation);
        decoded.ok().map(|data| data.claims)
    }

    #[test]
    fn every_algorithm_is_verified_by_another_implementation() {
        let claims = json!({"sub": "job"});
        let algorithms = [
            (KeyKind::Rsa2048, Algorithm::RS256),
            (KeyKind::Rsa2048, Algorithm::RS384),
            (KeyKind::Rsa2048, Algorithm::RS512),
            (KeyKind::Rsa2048, Algorithm::PS256),
            (KeyKind::Rsa2048, Algorithm::PS384),
            (KeyKind::Rsa2048, Algorithm::PS512),
            (KeyKind::P256, Algorithm::ES256),
            (KeyKind::P384, Algorithm::ES384),
            (KeyKind::Ed25519, Algorithm::EdDSA),
        ];
        for (kind, algorithm) in algorithms {
            let key = SigningKey::generate(kind).unwrap();
            let token = key.token(&json!({"alg": format!("{algorithm:?}")}), &claims);
            assert_eq!(decode(&token, &key, algorithm), Some(claims.clone()), "{algorithm:?}");
            let impostor = SigningKey::generate(kind).unwrap().with_kid(key.kid());
            assert_eq!(decode(&token, &impostor, algorithm), None, "{algorithm:?}");
        }
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        let key = SigningKey::generate(KeyKind::Rsa2048).unwrap();
        let jwk: Jwk = serde_json::from_value(key.jwk()).unwrap();
        assert_eq!(key.kid(), jwk.thumbprint(ThumbprintHash::SHA256).unwrap());
    }

    #[test]
    fn a_header_says_what_its_maker_says() {
        let key = SigningKey::generate(KeyKind::P256).unwrap();
        let header = |overrides: Value| {
            let token = key.token(&overrides, &json!({}));
            let bytes = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
            serde_json::from_slice::<Value>(&bytes).unwrap()
        };
        assert_eq!(header(Value::Null), json!({"alg": "ES256", "kid": key.kid(), "typ": "JWT"}));
        assert_eq!(
            header(json!({"alg": "none", "kid": null, "crit": ["b64"]})),
            json!({"alg": "none", "typ": "JWT", "crit": ["b64"]})
        );
    }
}
