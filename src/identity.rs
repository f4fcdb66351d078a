//! Who is asking: issuers, ID tokens, the keys that prove them, and what a proven token says.
//!
//! ```text
//!  text ─► UnverifiedToken ──(configured Issuer, Key from its key set)──► verify ─► VerifiedToken ─► Claims
//! ```
//!
//! The types carry the order: nothing in a token is believed, and nothing in it causes network traffic, before its
//! issuer was found by exact comparison among the configured ones, and [`verify::verify`] is the only way to a
//! [`VerifiedToken`](verify::VerifiedToken). This layer decides who a job is and never what it may do: that is policy.
//! Everything here is a function of values; only `keys`, `fetch` and `discovery` do I/O.

pub mod issuer;
pub mod jwks;
pub mod token;
pub mod verify;

pub mod cache;
pub mod claims;
pub mod discovery;
pub mod family;
pub mod fetch;
pub mod keys;
pub mod probe;
pub mod provider;
pub mod replay;

#[cfg(test)]
mod testing;
