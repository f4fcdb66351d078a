//! Revocation (RFC 7009): which upload token its holder may end, and until when that is remembered.
//!
//! Possession suffices. The signature is verified before anything is written, so garbage, expired and foreign tokens
//! cost the store nothing; and a copy that its holder narrowed has the same id, so revoking it revokes the original.

use crate::macaroon::Keyring;
use crate::macaroon::RegistryKeyId;
use crate::macaroon::TokenId;
use crate::policy::registry::Registry;
use crate::state::RETENTION_MARGIN;
use crate::time::Timestamp;

/// A token that its holder may revoke: an authentic, live one.
#[derive(Debug, Clone, Copy)]
pub struct Revocable<'r> {
    /// Its registry.
    pub registry: &'r Registry,
    /// Its id.
    pub id: TokenId,
    /// Until when the revocation is kept.
    pub until: Timestamp,
}

/// The token, if it is an authentic, live one of one of the registries. To revoke anything else changes nothing, which to the
/// holder is the same (RFC 7009 section 2.2).
pub fn revocable<'r>(
    keyring: &Keyring,
    registries: &[&'r Registry],
    token: &str,
    now: Timestamp,
) -> Option<Revocable<'r>> {
    let (registry, authentic) = registries.iter().find_map(|registry| {
        let key = RegistryKeyId { key_id: &registry.key_id, codec: registry.codec, epoch: registry.epoch };
        let authentic = crate::macaroon::verify(token, &registry.token.prefix, keyring, key, now).ok()?;
        Some((*registry, authentic))
    })?;
    if authentic.expires_at() <= now {
        return None;
    }
    // SECURITY: until no copy can live any more; the presented one may have been narrowed to expire sooner.
    let until = authentic.retired_at().plus(RETENTION_MARGIN);
    Some(Revocable { registry, id: authentic.identifier().id, until })
}
