//! The secrets of one registry: what `keys export` writes, and all that a registry that verifies offline is given.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::json::Json;
use crate::json::Object;
use crate::macaroon::Codec;
use crate::macaroon::identifier;
use crate::macaroon::key::Keyring;
use crate::macaroon::key::RegistryKeyId;
use crate::macaroon::key::registry_secret;
use crate::package::Ecosystem;
use crate::secret::Secret;
use crate::time::Timestamp;

/// One registry's secrets, one for each master key, with what else a verifier must know of the registry.
///
/// SECURITY: whoever has them can make that registry's tokens, and nobody else's.
#[derive(Debug)]
pub struct RegistrySecrets {
    /// Its id in the policy, as in the caveat `registry`.
    pub registry: String,
    /// Its public host.
    pub location: String,
    /// How its packages are named.
    pub ecosystem: Ecosystem,
    /// Which of the master keys' secrets these are.
    pub key_id: String,
    /// How caveats are spelled in its tokens.
    pub codec: Codec,
    /// Its epoch, as in identifiers.
    pub epoch: u32,
    /// What its tokens' texts start with.
    pub prefix: String,
    keys: Vec<Key>,
}

/// What one master key signs this registry's tokens with.
#[derive(Debug)]
struct Key {
    kid: String,
    activate_at: Timestamp,
    secret: Secret<[u8; 32]>,
}

/// Why a text is not a registry's secrets. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// Not the JSON that [`RegistrySecrets::to_file`] writes.
    #[error("it is not what `trustmint keys export` writes; export it anew")]
    Shape,
    /// A codec of a newer service.
    #[error("its codec is none that this version knows; use the version that exported it")]
    Codec,
    /// An ecosystem of a newer service.
    #[error("its ecosystem is none that this version knows; use the version that exported it")]
    Ecosystem,
}

impl RegistrySecrets {
    /// The secrets of a registry under each key of a ring.
    pub fn derive(
        ring: &Keyring,
        key: RegistryKeyId<'_>,
        registry: &str,
        location: &str,
        prefix: &str,
        ecosystem: Ecosystem,
    ) -> Self {
        let keys = ring.iter().map(|master| Key {
            kid: master.kid().to_owned(),
            activate_at: master.activate_at(),
            secret: registry_secret(master, key),
        });
        Self {
            registry: registry.to_owned(),
            location: location.to_owned(),
            ecosystem,
            key_id: key.key_id.to_owned(),
            codec: key.codec,
            epoch: key.epoch,
            prefix: prefix.to_owned(),
            keys: keys.collect(),
        }
    }

    /// The text of the file, for a file that only the registry may read.
    pub fn to_file(&self) -> Result<Secret<String>, serde_json::Error> {
        let secrets: Vec<_> =
            self.keys.iter().map(|key| Zeroizing::new(URL_SAFE_NO_PAD.encode(key.secret.expose()))).collect();
        let keys = self.keys.iter().zip(&secrets).map(|(key, secret)| FileKey {
            kid: &key.kid,
            activate_at: key.activate_at.to_string(),
            secret,
        });
        let file = File {
            registry: &self.registry,
            location: &self.location,
            ecosystem: self.ecosystem.name(),
            key_id: &self.key_id,
            codec: self.codec.as_str(),
            epoch: self.epoch,
            prefix: &self.prefix,
            keys: keys.collect(),
        };
        Ok(Secret::new(serde_json::to_string_pretty(&file)?))
    }

    /// Reads what [`RegistrySecrets::to_file`] writes, member by member and no other.
    pub fn parse(text: &str) -> Result<Self, SecretsError> {
        let json = Json::parse(text.as_bytes()).map_err(|_| SecretsError::Shape)?;
        let file = json.as_object().filter(|file| file.len() == 8).ok_or(SecretsError::Shape)?;
        let codec = string(file, "codec")?;
        let codec = Codec::ALL.into_iter().find(|known| known.as_str() == codec);
        let ecosystem = string(file, "ecosystem")?;
        let ecosystem = Ecosystem::ALL.into_iter().find(|known| known.name() == ecosystem);
        let epoch = file.get("epoch").and_then(Json::as_int).and_then(|epoch| u32::try_from(epoch).ok());
        let Some(Json::Array(keys)) = file.get("keys") else { return Err(SecretsError::Shape) };
        let keys: Vec<Key> = keys.iter().map(Key::read).collect::<Option<_>>().ok_or(SecretsError::Shape)?;
        let mut kids: Vec<&str> = keys.iter().map(|key| key.kid.as_str()).collect();
        kids.sort_unstable();
        kids.dedup();
        if kids.is_empty() || kids.len() < keys.len() {
            return Err(SecretsError::Shape);
        }
        Ok(Self {
            registry: string(file, "registry")?,
            location: string(file, "location")?,
            ecosystem: ecosystem.ok_or(SecretsError::Ecosystem)?,
            key_id: string(file, "key_id")?,
            codec: codec.ok_or(SecretsError::Codec)?,
            epoch: epoch.ok_or(SecretsError::Shape)?,
            prefix: string(file, "prefix")?,
            keys,
        })
    }

    /// Which of the master keys' secrets these are.
    pub fn key(&self) -> RegistryKeyId<'_> {
        RegistryKeyId { key_id: &self.key_id, codec: self.codec, epoch: self.epoch }
    }

    /// The secret under the master key of that name.
    pub fn get(&self, kid: &str) -> Option<&Secret<[u8; 32]>> {
        self.keys.iter().find(|key| key.kid == kid).map(|key| &key.secret)
    }

    /// The master keys' names, in the order in which they activate.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(|key| key.kid.as_str())
    }
}

/// The file, its secrets borrowed so that no copy of them is left behind unwiped.
#[derive(Serialize)]
struct File<'a> {
    registry: &'a str,
    location: &'a str,
    ecosystem: &'a str,
    key_id: &'a str,
    codec: &'a str,
    epoch: u32,
    prefix: &'a str,
    keys: Vec<FileKey<'a>>,
}

#[derive(Serialize)]
struct FileKey<'a> {
    kid: &'a str,
    activate_at: String,
    secret: &'a str,
}

impl Key {
    fn read(json: &Json) -> Option<Self> {
        let key = json.as_object().filter(|key| key.len() == 3)?;
        let text = |name| string(key, name).ok();
        let secret = URL_SAFE_NO_PAD.decode(text("secret")?).map(Zeroizing::new).ok()?;
        let kid = text("kid").filter(|kid| identifier::is_kid(kid))?;
        let activate_at = Timestamp::parse_rfc3339(&text("activate_at")?)?;
        Some(Self { kid, activate_at, secret: Secret::new(secret.as_slice().try_into().ok()?) })
    }
}

fn string(object: &Object, name: &str) -> Result<String, SecretsError> {
    object.get(name).and_then(Json::as_str).map(str::to_owned).ok_or(SecretsError::Shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::macaroon::fixture::KEY;
    use crate::macaroon::fixture::keyring;

    fn secrets() -> RegistrySecrets {
        RegistrySecrets::derive(&keyring(), KEY, "python", "registry.example", "tm_", Ecosystem::Pypi)
    }

    #[test]
    fn a_registrys_secrets_are_read_as_they_are_written() {
        let (secrets, ring) = (secrets(), keyring());
        let text = secrets.to_file().unwrap();
        let read = RegistrySecrets::parse(text.expose()).unwrap();
        assert_eq!(read.to_file().unwrap().expose(), text.expose());
        let master = ring.get("m1").unwrap();
        assert_eq!(read.get("m1").unwrap().expose(), registry_secret(master, KEY).expose());
        assert!(read.get("m2").is_none() && read.kids().eq(["m1"]));
        assert!(!format!("{read:?}").contains(text.expose().split("secret\": \"").nth(1).unwrap().get(..43).unwrap()));
    }

    #[test]
    fn other_texts_are_refused() {
        let text = secrets().to_file().unwrap();
        let with = |from: &str, to: &str| {
            let other = text.expose().replacen(from, to, 1);
            assert_ne!(&other, text.expose(), "{from}");
            RegistrySecrets::parse(&other).unwrap_err()
        };
        assert_eq!(with("\"text\"", "\"cbor\""), SecretsError::Codec);
        assert_eq!(with("\"pypi\"", "\"maven\""), SecretsError::Ecosystem);
        for (from, to) in [
            ("{", "{\"more\": 1,"),
            ("\"registry\"", "\"registrar\""),
            ("\"epoch\": 3", "\"epoch\": -3"),
            ("\"epoch\": 3", "\"epoch\": 3.0"),
            ("\"m1\"", "\"M1\""),
            ("\"kid\"", "\"name\""),
            ("\"secret\": \"", "\"secret\": \"AA"),
            ("2026-", "26-"),
        ] {
            assert_eq!(with(from, to), SecretsError::Shape, "{from}");
        }
        assert_eq!(RegistrySecrets::parse("").unwrap_err(), SecretsError::Shape);
        let (head, tail) = text.expose().split_once("\"keys\": [").unwrap();
        let key = tail.trim_end().trim_end_matches('}').trim_end().trim_end_matches(']');
        for keys in [String::new(), format!("{key},{key}")] {
            let other = format!("{head}\"keys\": [{keys}]}}");
            assert_eq!(RegistrySecrets::parse(&other).unwrap_err(), SecretsError::Shape, "{keys:?}");
        }
    }
}
