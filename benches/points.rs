//! What budgets are ratios of: a verification by aws-lc alone, and an endpoint that does nothing else than to parse the same
//! body and answer.

use actix_web::HttpResponse;
use actix_web::web;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair;
use aws_lc_rs::signature::ParsedPublicKey;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use aws_lc_rs::signature::RsaKeyPair;
use serde::Deserialize;
use serde_json::json;

/// What an ID token's signing input is, its signature, and the key, parsed in advance.
pub struct Raw<'a> {
    key: ParsedPublicKey,
    message: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Raw<'a> {
    /// Signs what the token says anew.
    pub fn of(token: &'a str) -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let key = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref()).unwrap();
        let message = token.rsplit_once('.').unwrap().0.as_bytes();
        let mut signature = vec![0; pair.public_modulus_len()];
        #[expect(clippy::disallowed_types, reason = "set-up")]
        let random = aws_lc_rs::rand::SystemRandom::new();
        pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
        Self { key, message, signature }
    }

    pub fn verify(&self) {
        self.key.verify_sig(std::hint::black_box(self.message), &self.signature).unwrap();
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    token: &'a str,
}

/// The endpoint.
pub async fn hello(bytes: web::Bytes) -> HttpResponse {
    let body: Body<'_> = serde_json::from_slice(&bytes).unwrap();
    HttpResponse::Ok().json(json!({"success": true, "token": body.token.get(..16), "expires": 1_790_000_900}))
}
