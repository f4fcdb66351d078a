//! What a token is and where it comes from: the identifier `tm1.<kid>.<epoch>.<uuidv7>.<provenance>`, the one field
//! that the signature covers and that no holder can extend.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::Serializer;
use uuid::Uuid;
use uuid::Variant;

use crate::json::Json;
use crate::json_text::write_object;
use crate::spelling::is_spelled;
use crate::time::Timestamp;

/// The first part of every identifier: format and version.
const TAG: &str = "tm1";
/// Longest name of a master key, in characters.
const MAX_KID: usize = 32;

/// How long the JSON of a provenance usually is at most, in bytes.
const USUAL_PROVENANCE: usize = 1024;

/// Names one issued token, and every narrowed copy of it: a `UUIDv7` (RFC 9562 section 5.7), so its moment of issue, in
/// milliseconds, can be read from it. Replay, revocation and audit go by this, never by the token's text, of which a
/// holder can make as many as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId(Uuid);

impl TokenId {
    /// A new id from the moment of issue and fresh randomness, of which 74 bits are used. A moment outside of the
    /// years 1970 to 10889 is moved to the nearest end.
    pub const fn new(now: Timestamp, entropy: [u8; 10]) -> Self {
        let millis = now.unix_millis();
        let millis = if millis < 0 { 0 } else { millis.unsigned_abs() };
        let millis = if millis > LAST_MILLISECOND { LAST_MILLISECOND } else { millis };
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &entropy).into_uuid())
    }

    /// The moment that the id was made.
    pub fn issued_at(self) -> Timestamp {
        // The first 48 bits, so it always fits.
        Timestamp::from_unix_millis(i64::try_from(self.0.as_u128() >> 80).unwrap_or(i64::MAX))
    }

    /// The 128 bits that it is.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// Reads the one spelling that [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::try_parse(text).ok()?;
        let legal = uuid.get_version_num() == 7 && uuid.get_variant() == Variant::RFC4122;
        (legal && is_spelled(&uuid, text)).then_some(Self(uuid))
    }
}

const LAST_MILLISECOND: u64 = (1 << 48) - 1;

/// 36 characters, hyphenated, lower case.
impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl Serialize for TokenId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why the token was granted, for the registry to keep with the upload: authenticated, readable online and offline.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// The rules that granted it.
    pub rules: Vec<String>,
    /// The revision of the policy that decided.
    pub policy_revision: String,
    /// The URL of the identity provider that vouched for the job.
    pub issuer: String,
    /// The job's public claims, as the provider's preset lists them.
    pub claims: BTreeMap<String, Json>,
}

/// The same, borrowed: what a token that is minted shall say of where it comes from.
#[derive(Debug, Clone)]
pub struct ProvenanceRef<'a> {
    /// [`Provenance::rules`].
    pub rules: &'a [String],
    /// [`Provenance::policy_revision`].
    pub policy_revision: &'a str,
    /// [`Provenance::issuer`].
    pub issuer: &'a str,
    /// [`Provenance::claims`].
    pub claims: ClaimsRef<'a>,
}

/// Claims, borrowed. INVARIANT: in the order of their names, which are distinct, or a token had two spellings.
#[derive(Debug, Clone, Default)]
pub struct ClaimsRef<'a>(Vec<(&'a str, &'a Json)>);

impl<'a> ClaimsRef<'a> {
    /// Each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Json)> {
        self.0.iter().copied()
    }
}

impl<'a> FromIterator<(&'a str, &'a Json)> for ClaimsRef<'a> {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a Json)>>(claims: I) -> Self {
        let claims = claims.into_iter();
        // Room for all that may come, of whom each exchange finds most.
        let mut sorted = Vec::with_capacity(claims.size_hint().1.unwrap_or_default());
        sorted.extend(claims);
        sorted.sort_by_key(|(name, _)| *name);
        sorted.dedup_by_key(|(name, _)| *name);
        Self(sorted)
    }
}

impl ProvenanceRef<'_> {
    /// The same JSON as that of [`Provenance`].
    fn write(&self, json: &mut String) -> Result<(), serde_json::Error> {
        write_object(json, |provenance| {
            provenance.strings("rules", self.rules);
            provenance.string("policy_revision", self.policy_revision);
            provenance.string("issuer", self.issuer);
            provenance
                .object("claims", |claims| self.claims.iter().try_for_each(|(name, value)| claims.json(name, value)))
        })
    }
}

impl Provenance {
    /// The same, borrowed.
    pub fn borrowed(&self) -> ProvenanceRef<'_> {
        let Self { rules, policy_revision, issuer, claims } = self;
        let claims = claims.iter().map(|(name, value)| (name.as_str(), value)).collect();
        ProvenanceRef { rules, policy_revision, issuer, claims }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let Ok(Json::Object(object)) = Json::parse(bytes) else { return None };
        let (mut rules, mut policy_revision, mut issuer, mut claims) = (None, None, None, None);
        for (name, value) in object {
            match (name.as_str(), value) {
                ("rules", Json::Array(items)) => rules = Some(items.into_iter().map(text).collect::<Option<_>>()?),
                ("policy_revision", Json::String(text)) => policy_revision = Some(text),
                ("issuer", Json::String(text)) => issuer = Some(text),
                ("claims", Json::Object(members)) => claims = Some(members.into_iter().collect()),
                // Exactly these members: a newer service's extra fact is not silently dropped.
                _ => return None,
            }
        }
        Some(Self { rules: rules?, policy_revision: policy_revision?, issuer: issuer?, claims: claims? })
    }
}

fn text(value: Json) -> Option<String> {
    if let Json::String(text) = value { Some(text) } else { None }
}

/// Everything that the service states about a token.
#[derive(Debug, Clone, PartialEq)]
pub struct Identifier {
    /// The master key that signed, `[a-z0-9-]{1,32}`.
    pub kid: String,
    /// The registry's epoch at issue; raising it in the policy re-keys one registry.
    pub epoch: u32,
    /// The token's name.
    pub id: TokenId,
    /// Where it comes from.
    pub provenance: Provenance,
}

/// Bytes that are not an identifier of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the token's identifier is not one of this service")]
pub struct IdentifierError;

impl Identifier {
    /// Reads `tm1.<kid>.<epoch>.<uuidv7>.<base64url of JSON>`.
    pub fn parse(bytes: &[u8]) -> Result<Self, IdentifierError> {
        Parts::split(bytes).and_then(Parts::identifier).ok_or(IdentifierError)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kid, epoch, id, provenance } = self;
        write(f, kid, *epoch, *id, &provenance.borrowed())
    }
}

/// Writes the identifier that says this.
pub(super) fn write(
    f: &mut impl fmt::Write,
    kid: &str,
    epoch: u32,
    id: TokenId,
    provenance: &ProvenanceRef<'_>,
) -> fmt::Result {
    let mut json = String::with_capacity(USUAL_PROVENANCE);
    provenance.write(&mut json).map_err(|_| fmt::Error)?;
    write!(f, "{TAG}.{kid}.{epoch}.{id}.{}", Base64Display::new(json.as_bytes(), &URL_SAFE_NO_PAD))
}

/// An identifier cut at its dots: as much as finding the key takes, and no more, because nothing here is proven yet.
pub(super) struct Parts<'a> {
    pub(super) kid: &'a str,
    pub(super) epoch: u32,
    id: &'a str,
    provenance: &'a str,
}

impl<'a> Parts<'a> {
    pub(super) fn split(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = str::from_utf8(bytes).ok()?.split('.');
        let tag = parts.next()?;
        let kid = parts.next()?;
        let epoch = parts.next()?;
        let id = parts.next()?;
        let provenance = parts.next()?;
        let number = epoch.parse::<u32>().ok()?;
        let legal = tag == TAG && is_kid(kid) && is_spelled(&number, epoch) && parts.next().is_none();
        legal.then_some(Self { kid, epoch: number, id, provenance })
    }

    /// All that they say.
    pub(super) fn identifier(self) -> Option<Identifier> {
        let id = TokenId::parse(self.id)?;
        let provenance = Provenance::parse(&URL_SAFE_NO_PAD.decode(self.provenance).ok()?)?;
        Some(Identifier { kid: self.kid.to_owned(), epoch: self.epoch, id, provenance })
    }
}

/// Whether a text may name a master key: it stands in identifiers and in file names.
pub(super) fn is_kid(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=MAX_KID).contains(&text.len()) && text.chars().all(legal)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::macaroon::fixture::NOW;
    use crate::macaroon::fixture::provenance;

    #[test]
    fn an_id_holds_its_moment_and_74_random_bits() {
        let late = NOW.plus(Duration::from_millis(123));
        let id = TokenId::new(late, [0xff; 10]);
        assert_eq!(id.to_string(), "01a205b3-d07b-7fff-bfff-ffffffffffff");
        assert_eq!(id.issued_at(), late);
        assert_eq!(TokenId::new(late, [0; 10]).to_string(), "01a205b3-d07b-7000-8000-000000000000");
        assert_eq!(TokenId::parse(&id.to_string()), Some(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }

    #[test]
    fn a_moment_that_no_id_can_hold_is_moved_to_the_nearest() {
        let of = |millis| TokenId::new(Timestamp::from_unix_millis(millis), [0; 10]).issued_at().unix_millis();
        assert_eq!((of(-1), of(i64::MIN), of(0)), (0, 0, 0));
        assert_eq!((of(i64::MAX), of((1 << 48) - 1), of(1 << 48)), ((1 << 48) - 1, (1 << 48) - 1, (1 << 48) - 1));
    }

    #[test]
    fn an_id_has_one_spelling() {
        for text in [
            "01A205B3-D07B-7FFF-BFFF-FFFFFFFFFFFF",
            "01a205b3d07b7fffbfffffffffffffff",
            "{01a205b3-d07b-7fff-bfff-ffffffffffff}",
            "urn:uuid:01a205b3-d07b-7fff-bfff-ffffffffffff",
            // Version 4; another variant; the nil id.
            "01a205b3-d07b-4fff-bfff-ffffffffffff",
            "01a205b3-d07b-7fff-ffff-ffffffffffff",
            "00000000-0000-0000-0000-000000000000",
            "",
        ] {
            assert_eq!(TokenId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_provenance_is_written_alike_owned_and_borrowed_and_its_claims_by_name() {
        let claims = [
            ("run_id", Json::Int(-42)),
            ("environment", Json::String("\"release\\\u{2028}\n".into())),
            ("Zürich", Json::Array(vec![Json::Bool(true), Json::Null, Json::String("\"".into())])),
            ("b", Json::Float(1.5)),
            ("a\"", Json::String(String::new())),
        ];
        let claim = |(name, value): &(&str, Json)| ((*name).to_owned(), value.clone());
        let owned = Provenance { claims: claims.iter().map(claim).collect(), ..provenance() };
        let backwards = claims.iter().rev().chain(&claims).map(|(name, value)| (*name, value)).collect();
        for borrowed in [owned.borrowed(), ProvenanceRef { claims: backwards, ..owned.borrowed() }] {
            let mut json = String::new();
            borrowed.write(&mut json).unwrap();
            assert_eq!(json, serde_json::to_string(&owned).unwrap());
            assert_eq!(Provenance::parse(json.as_bytes()), Some(owned.clone()));
        }
    }

    #[test]
    fn an_identifier_is_read_as_it_is_written() {
        let id = TokenId::new(NOW, [7; 10]);
        let identifier = Identifier { kid: "m1".to_owned(), epoch: u32::MAX, id, provenance: provenance() };
        let text = identifier.to_string();
        assert!(text.starts_with(&format!("tm1.m1.4294967295.{id}.eyJydWxlcyI6WyJ3aWRnZXRzLXJlbGVhc2UiXS")), "{text}");
        assert_eq!(Identifier::parse(text.as_bytes()), Ok(identifier));
        for kid in ["", "M1", "m_1", "m\u{e9}", &"m".repeat(33)] {
            let other = text.replacen(".m1.", &format!(".{kid}."), 1);
            assert_eq!(Identifier::parse(other.as_bytes()), Err(IdentifierError), "{kid:?}");
        }
        assert_eq!(Identifier::parse(b"tm1.\xff"), Err(IdentifierError));
    }
}
