//! One token and its world, for the tests of this module.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use crate::codec::Codec;
use crate::json::Json;
use crate::macaroon::clear::Facts;
use crate::macaroon::identifier::Provenance;
use crate::macaroon::identifier::TokenId;
use crate::macaroon::key::Keyring;
use crate::macaroon::key::MasterKey;
use crate::macaroon::key::RegistryKeyId;
use crate::macaroon::mint::Minted;
use crate::macaroon::mint::PrepareRequest;
use crate::macaroon::mint::prepare;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::package::Permission;
use crate::package::Permissions;
use crate::time::Timestamp;

pub(super) const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_392_000);
pub(super) const PREFIX: &str = "tm_";
pub(super) const KEY: RegistryKeyId<'_> = RegistryKeyId { key_id: "python", codec: Codec::Text, epoch: 3 };

/// The same registry, had it the other codec.
pub(super) const PYPI_KEY: RegistryKeyId<'_> = RegistryKeyId { codec: Codec::Pypi, ..KEY };

pub(super) fn after(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

/// A master key that is different for each name.
pub(super) fn master(kid: &str, activate_at: Timestamp) -> MasterKey {
    let mut bytes: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    bytes.iter_mut().zip(kid.bytes()).for_each(|(byte, c)| *byte ^= c);
    MasterKey::generate(kid, bytes, activate_at).unwrap()
}

pub(super) fn keyring() -> Keyring {
    Keyring::new(vec![master("m1", NOW)]).unwrap()
}

pub(super) fn name(text: &str) -> PackageName {
    PackageName::parse(Ecosystem::Pypi, text).unwrap()
}

pub(super) fn permissions(pairs: &[&str]) -> Permissions {
    pairs.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect()
}

static PROVENANCE: LazyLock<Provenance> = LazyLock::new(|| {
    let claims = [("repository", "acme/widgets"), ("repository_id", "701234567"), ("ref", "refs/tags/v1.2.0")];
    let claim = |(name, value): (&str, &str)| (name.to_owned(), Json::String(value.to_owned()));
    Provenance {
        rules: vec!["widgets-release".to_owned()],
        policy_revision: "5f1d2a".to_owned(),
        issuer: "https://token.actions.githubusercontent.com".to_owned(),
        claims: claims.into_iter().map(claim).collect::<BTreeMap<_, _>>(),
    }
});

pub(super) fn provenance() -> Provenance {
    PROVENANCE.clone()
}

/// A token for `upload:widgets` and `upload:widgets-*` that lives for 15 minutes.
pub(super) fn request(permissions: &Permissions) -> PrepareRequest<'_> {
    PrepareRequest {
        registry: "python",
        key: KEY,
        location: "registry.example",
        prefix: PREFIX,
        permissions,
        ttl: Duration::from_secs(900),
        versions: None,
        uses: None,
        max_size: None,
        provenance: PROVENANCE.borrowed(),
        id: TokenId::new(NOW, [7; 10]),
    }
}

pub(super) fn minted() -> Minted {
    let permissions = permissions(&["upload:widgets", "upload:widgets-*"]);
    prepare(&keyring(), request(&permissions)).unwrap().mint()
}

/// Owns what [`Facts`] borrow.
pub(super) struct Upload {
    action: Action,
    package: PackageName,
}

pub(super) fn upload(package: &str) -> Upload {
    Upload { action: Action::upload(), package: name(package) }
}

pub(super) fn act(action: &str, package: &str) -> Upload {
    Upload { action: Action::parse(action).unwrap(), package: name(package) }
}

impl Upload {
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            registry: "python",
            now: NOW,
            action: &self.action,
            package: &self.package,
            version: None,
            sha256: None,
            size: None,
            client_ip: None,
        }
    }
}
