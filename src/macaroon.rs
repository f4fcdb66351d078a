//! Upload tokens: macaroons (Birgisson et al., NDSS 2014) that anybody can narrow and nobody can widen.
//!
//! This module decides what a token says and whether it is ours; it does not know who may have one (policy) nor
//! whether one was revoked or spent (state). It reads and writes one format, V2 binary in base64url without padding,
//! with first-party caveats only; everything else that bears the name (V1, JSON, third-party caveats) is refused.
//!
//! ```text
//!   prepare ─► Prepared ─► mint ─► Minted              text = prefix ‖ base64url(V2)
//!                                                      key  = HKDF(master key, registry's key id, codec, epoch)
//!   verify  ─► Authentic ─► clear ─► Cleared
//!   the MAC     the caveats
//! ```
//!
//! What is *known* about a token's origin stands in its [`Identifier`], which the MAC covers and no holder can extend;
//! [`Caveat`]s only ever restrict, and all must hold. A verifier that read facts from caveats would believe the holder.
//!
//! INVARIANT: no caveat is looked at, and no provenance is parsed, before the MAC over all of them has been found
//! right: the only way to an [`Authentic`] is [`verify()`], and only it has caveats that can be cleared. [`Unverified`]
//! shows both to people, and decides nothing.

mod caveat;
mod chain;
mod clear;
#[cfg(test)]
mod fixture;
mod format;
mod identifier;
mod key;
mod mint;
mod narrow;
mod offline;
mod secrets;
mod verify;

pub use crate::codec::Codec;
pub use crate::macaroon::caveat::Caveat;
pub use crate::macaroon::caveat::CaveatError;
pub use crate::macaroon::caveat::MAX_ARGUMENTS;
pub use crate::macaroon::chain::Signature;
pub use crate::macaroon::chain::derive;
pub use crate::macaroon::chain::extend;
pub use crate::macaroon::clear::Fact;
pub use crate::macaroon::clear::Facts;
pub use crate::macaroon::clear::Failed;
pub use crate::macaroon::format::FormatError;
pub use crate::macaroon::format::MAX_CAVEATS;
pub use crate::macaroon::format::MAX_FIELD;
pub use crate::macaroon::format::MAX_TOKEN;
pub use crate::macaroon::format::Macaroon;
pub use crate::macaroon::identifier::ClaimsRef;
pub use crate::macaroon::identifier::Identifier;
pub use crate::macaroon::identifier::IdentifierError;
pub use crate::macaroon::identifier::Provenance;
pub use crate::macaroon::identifier::ProvenanceRef;
pub use crate::macaroon::identifier::TokenId;
pub use crate::macaroon::key::Keyring;
pub use crate::macaroon::key::KeyringError;
pub use crate::macaroon::key::MasterKey;
pub use crate::macaroon::key::MasterKeyError;
pub use crate::macaroon::key::RegistryKeyId;
pub use crate::macaroon::key::registry_secret;
pub use crate::macaroon::key::seal_secret;
pub use crate::macaroon::mint::MAX_TEXT;
pub use crate::macaroon::mint::Minted;
pub use crate::macaroon::mint::PrepareError;
pub use crate::macaroon::mint::PrepareRequest;
pub use crate::macaroon::mint::Prepared;
pub use crate::macaroon::mint::prepare;
pub use crate::macaroon::mint::prepare_under;
pub use crate::macaroon::narrow::Held;
pub use crate::macaroon::narrow::NarrowError;
pub use crate::macaroon::narrow::Restriction;
pub use crate::macaroon::offline::NOT_KNOWN;
pub use crate::macaroon::offline::OfflineRefused;
pub use crate::macaroon::secrets::RegistrySecrets;
pub use crate::macaroon::secrets::SecretsError;
pub use crate::macaroon::verify::Authentic;
pub use crate::macaroon::verify::Cleared;
pub use crate::macaroon::verify::LEEWAY;
pub use crate::macaroon::verify::MAX_AGE;
pub use crate::macaroon::verify::Unverified;
pub use crate::macaroon::verify::VerifyError;
pub use crate::macaroon::verify::verify;
