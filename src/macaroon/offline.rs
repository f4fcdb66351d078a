//! Verifying offline: what a registry can tell of a token with its own secrets alone, and what it cannot.

use std::fmt;

use crate::code::Code;
use crate::macaroon::clear::Facts;
use crate::macaroon::clear::Failed;
use crate::macaroon::secrets::RegistrySecrets;
use crate::macaroon::verify::Authentic;
use crate::macaroon::verify::VerifyError;
use crate::macaroon::verify::verify_with;
use crate::time::Timestamp;

/// What no offline answer takes into account, whatever the token: only the service knows.
pub const NOT_KNOWN: [&str; 4] = [
    "whether the token, or what a rule granted, was revoked (`GET /v1/revocations` lists it)",
    "whether the operators have stopped its identity provider, registry, rule or project",
    "whether its rules were withdrawn, or its registry or identity provider switched off, since it was issued",
    "whether the master key that signed it was retired after these secrets were exported",
];

/// Why a token does not allow it, as far as can be told offline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OfflineRefused {
    /// The token is not an authentic one of this registry.
    Token(VerifyError),
    /// Caveats that do not hold: at least one.
    Caveats(Vec<Failed>),
    /// The token works this many times, and who is offline cannot count.
    Counted(u32),
}

impl RegistrySecrets {
    /// Whether a token is this registry's; as [`verify()`](crate::macaroon::verify()), in the same order.
    pub fn verify(&self, text: &str, now: Timestamp) -> Result<Authentic, VerifyError> {
        verify_with(text, &self.prefix, self.key(), now, |kid, token| {
            self.get(kid).is_some_and(|secret| token.is_signed_with(secret.expose()))
        })
    }

    /// Whether a token allows what the facts say. The answer is yes only as far as [`NOT_KNOWN`] is left aside.
    pub fn decide(&self, text: &str, facts: &Facts<'_>) -> Result<Authentic, OfflineRefused> {
        let authentic = self.verify(text, facts.now).map_err(OfflineRefused::Token)?;
        let cleared = authentic.clear(facts, self.ecosystem).map_err(OfflineRefused::Caveats)?;
        // SECURITY: each registry that counted for itself would let the token work as often again.
        cleared.uses().map_or(Ok(authentic), |uses| Err(OfflineRefused::Counted(uses)))
    }
}

impl OfflineRefused {
    /// Its row of the failure table; of several failing caveats the first one's.
    pub fn code(&self) -> Code {
        match self {
            Self::Token(error) => error.code(),
            Self::Caveats(failed) => failed.first().map_or(Code::Internal, Failed::code),
            Self::Counted(_) => Code::ConsumeRequired,
        }
    }

    /// One sentence for each reason, for people.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Token(error) => vec![error.to_string()],
            Self::Caveats(failed) => failed.iter().map(ToString::to_string).collect(),
            Self::Counted(uses) => vec![format!(
                "the token works {uses} {}, and only the service can count: ask it, at `POST /v1/verify`",
                if *uses == 1 { "time" } else { "times" }
            )],
        }
    }
}

impl fmt::Display for OfflineRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macaroon::PrepareRequest;
    use crate::macaroon::fixture::KEY;
    use crate::macaroon::fixture::PREFIX;
    use crate::macaroon::fixture::after;
    use crate::macaroon::fixture::keyring;
    use crate::macaroon::fixture::minted;
    use crate::macaroon::fixture::permissions;
    use crate::macaroon::fixture::request;
    use crate::macaroon::fixture::upload;
    use crate::macaroon::key::RegistryKeyId;
    use crate::macaroon::mint::prepare;
    use crate::package::Ecosystem;

    fn secrets(key: RegistryKeyId<'_>) -> RegistrySecrets {
        RegistrySecrets::derive(&keyring(), key, "python", "registry.example", PREFIX, Ecosystem::Pypi)
    }

    fn refused(secrets: &RegistrySecrets, token: &str, facts: &Facts<'_>) -> &'static str {
        secrets.decide(token, facts).map_or_else(|refused| refused.code().as_str(), |_| "")
    }

    #[test]
    fn a_registry_decides_with_its_own_secrets_alone() {
        let (own, token) = (secrets(KEY), minted().token);
        let (widgets, gadgets) = (upload("widgets"), upload("gadgets"));
        let authentic = own.decide(token.expose(), &widgets.facts()).unwrap();
        assert_eq!(authentic.identifier().id, minted().id);
        assert_eq!(refused(&own, token.expose(), &gadgets.facts()), "package-not-covered");
        assert_eq!(
            refused(&own, token.expose(), &Facts { now: after(900), ..widgets.facts() }),
            "upload-token-expired"
        );
        assert_eq!(refused(&own, "tm_", &widgets.facts()), "upload-token-malformed");
        for key in [RegistryKeyId { key_id: "npm", ..KEY }, RegistryKeyId { epoch: 4, ..KEY }] {
            assert_eq!(refused(&secrets(key), token.expose(), &widgets.facts()), "upload-token-unknown");
        }
    }

    #[test]
    fn uses_are_not_counted_offline() {
        let (permissions, widgets) = (permissions(&["upload:widgets"]), upload("widgets"));
        let token = |uses| {
            let request = PrepareRequest { uses: Some(uses), ..request(&permissions) };
            prepare(&keyring(), request).unwrap().mint().token
        };
        let refused = secrets(KEY).decide(token(1).expose(), &widgets.facts()).unwrap_err();
        assert_eq!(refused, OfflineRefused::Counted(1));
        assert_eq!(refused.code(), Code::ConsumeRequired);
        assert!(refused.to_string().starts_with("the token works 1 time, and only the service can count"), "{refused}");
        let refused = secrets(KEY).decide(token(3).expose(), &widgets.facts()).unwrap_err();
        assert!(refused.to_string().starts_with("the token works 3 times"), "{refused}");
    }
}
