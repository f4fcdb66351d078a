//! What the stages are measured with.

use std::sync::LazyLock;
use std::time::Duration;

use trustmint::json::Json;
use trustmint::macaroon::Codec;
use trustmint::macaroon::PrepareRequest;
use trustmint::macaroon::Provenance;
use trustmint::macaroon::RegistryKeyId;
use trustmint::macaroon::TokenId;
use trustmint::package::Permissions;
use trustmint::time::Timestamp;

use crate::support::HOST;

/// Of the registry.
pub const KEY: RegistryKeyId<'_> = RegistryKeyId { key_id: "acme-pypi", codec: Codec::Text, epoch: 1 };

static PROVENANCE: LazyLock<Provenance> = LazyLock::new(|| Provenance {
    rules: vec!["widgets-release".into()],
    policy_revision: "0123456789abcdef".into(),
    issuer: "https://token.actions.githubusercontent.com".into(),
    claims: [("repository".to_owned(), Json::String("acme/widgets".into()))].into(),
});

/// An upload token for these permissions.
pub fn upload_token(permissions: &Permissions, now: Timestamp) -> PrepareRequest<'_> {
    PrepareRequest {
        registry: "acme-pypi",
        key: KEY,
        location: HOST,
        prefix: "pypi-",
        permissions,
        ttl: Duration::from_secs(900),
        versions: None,
        uses: None,
        max_size: None,
        provenance: PROVENANCE.borrowed(),
        id: TokenId::new(now, [7; 10]),
    }
}
