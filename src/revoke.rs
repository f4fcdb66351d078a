//! Revocation (RFC 7009): the holder ends an upload token's life.
//!
//! Possession suffices. The signature is verified before anything is written, so garbage, expired and foreign tokens
//! cost the store nothing; and a copy that its holder narrowed has the same id, so revoking it revokes the original.

use crate::macaroon::Keyring;
use crate::macaroon::RegistryKeyId;
use crate::macaroon::TokenId;
use crate::policy::registry::Registry;
use crate::state::RETENTION_MARGIN;
use crate::state::State;
use crate::state::revocations::RevokeError;
use crate::state::revocations::Revoker;
use crate::time::Timestamp;

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The token's id and registry, if it is an authentic, live one.
    pub authentic: Option<(TokenId, String)>,
    /// Whether anything changed: nothing did if there was nothing to revoke, or it was revoked before, which to the holder is
    /// the same (RFC 7009 section 2.2).
    pub changed: Result<bool, RevokeError>,
}

/// Revokes the token if it is an authentic, live one of one of the registries.
pub async fn revoke(
    keyring: &Keyring,
    state: &State,
    registries: &[&Registry],
    token: &str,
    now: Timestamp,
) -> Outcome {
    for registry in registries {
        let key = RegistryKeyId { key_id: &registry.key_id, codec: registry.codec, epoch: registry.epoch };
        let Ok(authentic) = crate::macaroon::verify(token, &registry.token.prefix, keyring, key, now) else { continue };
        if authentic.expires_at() <= now {
            break;
        }
        let id = authentic.identifier().id;
        // SECURITY: until no copy can live any more; the presented one may have been narrowed to expire sooner.
        let until = authentic.retired_at().plus(RETENTION_MARGIN);
        let changed = state.revoke_token(&registry.key_id, &id, until, (Revoker::Holders, now)).await;
        return Outcome { authentic: Some((id, registry.id.clone())), changed };
    }
    Outcome { authentic: None, changed: Ok(false) }
}
