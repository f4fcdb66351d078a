//! V2 binary: a macaroon's bytes and its text, read with one spelling for each token.
//!
//! ```text
//! token   = 0x02 header EOS caveat* EOS signature
//! header  = field(1, location) field(2, identifier)
//! caveat  = field(2, predicate) EOS
//! signature = field(6, 32 bytes)
//! field(t, d) = byte t, base-128 little-endian length of d, d          EOS = 0x00
//! ```
//!
//! Reading decides nothing about authenticity, and every bound is checked before anything is allocated for it. What
//! other libraries read leniently (bytes after the signature, longer spellings of a length, an empty location) is
//! refused, because a second spelling of one token is a way around whatever remembers tokens.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::macaroon::chain;
use crate::macaroon::chain::Signature;
use crate::secret::Secret;

/// Longest token accepted, in bytes before base64url: over three times what this service mints, so that there is room
/// to narrow a token.
pub const MAX_TOKEN: usize = 8 * 1024;
/// Most caveats in one token; this service mints at most six.
pub const MAX_CAVEATS: usize = 32;
/// Longest single field, in bytes.
pub const MAX_FIELD: usize = 4 * 1024;

const VERSION: u8 = 2;
const EOS: u8 = 0;
const LOCATION: u8 = 1;
const IDENTIFIER: u8 = 2;
const VERIFICATION_ID: u8 = 4;
const SIGNATURE: u8 = 6;

/// Why bytes or a text are not a macaroon that this service reads. Says nothing about the token's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// No bytes at all.
    #[error("the token is empty")]
    Empty,
    /// Longer than [`MAX_TOKEN`].
    #[error("the token is longer than 8 KiB")]
    TooLarge,
    /// Not base64url, or base64url with padding, spaces, the standard alphabet, or stray bits in its last character.
    #[error("the token is not base64url without padding")]
    NotBase64Url,
    /// The V1 format: its first byte is a hexadecimal digit.
    #[error("the token is in the V1 format of macaroons, which is not accepted; send V2 binary")]
    V1,
    /// The JSON format.
    #[error("the token is in the JSON format of macaroons, which is not accepted; send V2 binary")]
    Json,
    /// A first byte that is no known format's.
    #[error("the token is not a macaroon")]
    UnknownVersion,
    /// A field or the whole token ends early.
    #[error("the token is cut off")]
    Truncated,
    /// A length with more bytes than it needs.
    #[error("a length in the token is not in its shortest spelling")]
    NonMinimalLength,
    /// A field longer than [`MAX_FIELD`].
    #[error("a field of the token is longer than 4 KiB")]
    FieldTooLong,
    /// A field without content.
    #[error("a field of the token is empty")]
    EmptyField,
    /// No location field.
    #[error("the token has no location")]
    NoLocation,
    /// A location field without content.
    #[error("the token's location is empty")]
    EmptyLocation,
    /// A location that is not UTF-8.
    #[error("the token's location is not UTF-8")]
    LocationNotText,
    /// No identifier field.
    #[error("the token has no identifier")]
    NoIdentifier,
    /// A field that has no place where it stands: unknown, repeated or out of order.
    #[error("the token has a field where none of its kind may be")]
    UnexpectedField,
    /// A caveat that another service would have to discharge.
    #[error("the token has a third-party caveat, which is not accepted")]
    ThirdPartyCaveat,
    /// A first-party caveat that names a location.
    #[error("a caveat of the token names a location, which only third-party caveats have")]
    CaveatLocation,
    /// More than [`MAX_CAVEATS`].
    #[error("the token has more than 32 caveats")]
    TooManyCaveats,
    /// A signature that is not 32 bytes long.
    #[error("the token's signature is not 32 bytes long")]
    SignatureLength,
    /// Bytes after the signature.
    #[error("the token has bytes after its signature")]
    TrailingBytes,
}

/// What the signature covers (identifier and caveats) and the location, which it does not.
///
/// INVARIANT: no field is empty or longer than [`MAX_FIELD`], there are at most [`MAX_CAVEATS`] caveats and the
/// encoding with its signature is at most [`MAX_TOKEN`] bytes, so that encoding cannot fail and is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Body {
    location: String,
    identifier: Vec<u8>,
    caveats: Vec<Vec<u8>>,
}

impl Body {
    pub(super) fn new(location: String, identifier: Vec<u8>, caveats: Vec<Vec<u8>>) -> Result<Self, FormatError> {
        let body = Self { location, identifier, caveats };
        if body.location.is_empty() {
            return Err(FormatError::EmptyLocation);
        }
        if body.caveats.len() > MAX_CAVEATS {
            return Err(FormatError::TooManyCaveats);
        }
        for field in body.fields() {
            if field.is_empty() {
                return Err(FormatError::EmptyField);
            }
            if field.len() > MAX_FIELD {
                return Err(FormatError::FieldTooLong);
            }
        }
        if body.encoded_length() > MAX_TOKEN {
            return Err(FormatError::TooLarge);
        }
        Ok(body)
    }

    /// Location, identifier, caveats.
    pub(super) fn fields(&self) -> impl Iterator<Item = &[u8]> {
        let header = [self.location.as_bytes(), self.identifier.as_slice()];
        header.into_iter().chain(self.caveats.iter().map(Vec::as_slice))
    }

    /// Bytes of the encoding, signature included.
    pub(super) fn encoded_length(&self) -> usize {
        let field = |length: usize| 1 + if length < 0x80 { 1 } else { 2 } + length;
        let fields: usize = self.fields().map(|data| field(data.len())).sum();
        // The version, an end of section after the header and each caveat, the end of the list, the signature.
        1 + fields + 1 + self.caveats.len() + 1 + field(Signature::LENGTH)
    }

    /// Signs with the secret that libraries call the root key.
    pub(super) fn sign(self, secret: &[u8]) -> Macaroon {
        let signature = self.signature(secret);
        Macaroon { body: self, signature }
    }

    fn signature(&self, secret: &[u8]) -> Signature {
        chain::sign(&chain::derive(secret), &self.identifier, self.caveats.iter().map(Vec::as_slice))
    }
}

/// A macaroon as it stands on the wire. Holding one says nothing about who made it: that is
/// [`verify()`](crate::macaroon::verify())'s to say.
#[derive(Clone)]
pub struct Macaroon {
    body: Body,
    signature: Signature,
}

impl Macaroon {
    /// Makes a macaroon under a secret. Errors when a bound of this module is exceeded.
    pub fn create(secret: &[u8], location: &str, identifier: &[u8], caveats: &[&[u8]]) -> Result<Self, FormatError> {
        let caveats = caveats.iter().map(|caveat| caveat.to_vec()).collect();
        Ok(Body::new(location.to_owned(), identifier.to_vec(), caveats)?.sign(secret))
    }

    /// Where the token is for, as its maker wrote it. Not covered by the signature: never decide by it.
    pub fn location(&self) -> &str {
        &self.body.location
    }

    /// The identifier's bytes.
    pub fn identifier(&self) -> &[u8] {
        &self.body.identifier
    }

    /// The caveats' bytes, in order.
    pub fn caveats(&self) -> impl Iterator<Item = &[u8]> {
        self.body.caveats.iter().map(Vec::as_slice)
    }

    pub(super) fn into_caveats(self) -> Vec<Vec<u8>> {
        self.body.caveats
    }

    /// The last link of the chain, as the token states it.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether the signature is right under the secret, compared in constant time.
    pub fn is_signed_with(&self, secret: &[u8]) -> bool {
        self.body.signature(secret).matches(&self.signature)
    }

    /// The same token with one caveat more: narrower, never wider. Needs no secret, which is the point of macaroons.
    pub fn attenuate(&self, caveat: &[u8]) -> Result<Self, FormatError> {
        let Body { location, identifier, mut caveats } = self.body.clone();
        caveats.push(caveat.to_vec());
        let body = Body::new(location, identifier, caveats)?;
        Ok(Self { body, signature: chain::extend(&self.signature, caveat) })
    }

    /// Reads V2 binary.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_TOKEN {
            return Err(FormatError::TooLarge);
        }
        let mut reader = Reader(bytes);
        match reader.byte().map_err(|_| FormatError::Empty)? {
            VERSION => {}
            b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => return Err(FormatError::V1),
            b'{' => return Err(FormatError::Json),
            _ => return Err(FormatError::UnknownVersion),
        }
        let location = reader.field(LOCATION, FormatError::NoLocation, FormatError::EmptyLocation)?;
        let location = str::from_utf8(location).map_err(|_| FormatError::LocationNotText)?.to_owned();
        let identifier = reader.field(IDENTIFIER, FormatError::NoIdentifier, FormatError::EmptyField)?.to_vec();
        reader.end_of_section()?;
        let mut caveats = Vec::new();
        while let Some(caveat) = reader.caveat()? {
            if caveats.len() == MAX_CAVEATS {
                return Err(FormatError::TooManyCaveats);
            }
            caveats.push(caveat.to_vec());
        }
        let signature = reader.field(SIGNATURE, FormatError::UnexpectedField, FormatError::SignatureLength)?;
        let signature = signature.try_into().map_err(|_| FormatError::SignatureLength)?;
        if !reader.0.is_empty() {
            return Err(FormatError::TrailingBytes);
        }
        Ok(Self { body: Body { location, identifier, caveats }, signature: Signature::from_bytes(signature) })
    }

    /// Reads base64url without padding, in its one spelling, over V2 binary. The length is looked at first: whatever
    /// is sent, no more than [`MAX_TOKEN`] bytes are ever decoded.
    pub fn decode_text(text: &str) -> Result<Self, FormatError> {
        if text.len() > text_length(MAX_TOKEN) {
            return Err(FormatError::TooLarge);
        }
        if text.starts_with('{') {
            return Err(FormatError::Json);
        }
        // This engine refuses padding, other alphabets and non-zero trailing bits.
        let bytes = URL_SAFE_NO_PAD.decode(text).map(Secret::new).map_err(|_| FormatError::NotBase64Url)?;
        Self::decode(bytes.expose())
    }

    /// Writes V2 binary. The bytes are the bearer's power.
    pub fn encode(&self) -> Secret<Vec<u8>> {
        // Sized once: growing would leave copies of the signature behind that are never wiped.
        let mut bytes = Vec::with_capacity(self.body.encoded_length());
        bytes.push(VERSION);
        push_field(&mut bytes, LOCATION, self.body.location.as_bytes());
        push_field(&mut bytes, IDENTIFIER, &self.body.identifier);
        bytes.push(EOS);
        for caveat in &self.body.caveats {
            push_field(&mut bytes, IDENTIFIER, caveat);
            bytes.push(EOS);
        }
        bytes.push(EOS);
        push_field(&mut bytes, SIGNATURE, self.signature.expose());
        Secret::new(bytes)
    }

    /// Writes a prefix and base64url without padding over V2 binary: the form in which a token travels.
    pub fn encode_text(&self, prefix: &str) -> Secret<String> {
        let bytes = self.encode();
        let mut text = String::with_capacity(prefix.len() + text_length(bytes.expose().len()));
        text.push_str(prefix);
        URL_SAFE_NO_PAD.encode_string(bytes.expose(), &mut text);
        Secret::new(text)
    }
}

impl fmt::Debug for Macaroon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identifier = self.identifier().escape_ascii().to_string();
        let caveats: Vec<_> = self.caveats().map(|caveat| caveat.escape_ascii().to_string()).collect();
        f.debug_struct("Macaroon")
            .field("location", &self.body.location)
            .field("identifier", &identifier)
            .field("caveats", &caveats)
            .field("signature", &self.signature)
            .finish()
    }
}

/// Characters of base64url without padding for so many bytes.
pub(super) const fn text_length(bytes: usize) -> usize {
    bytes.saturating_mul(4).div_ceil(3)
}

fn push_field(bytes: &mut Vec<u8>, kind: u8, data: &[u8]) {
    bytes.push(kind);
    let mut length = data.len();
    while length >= 0x80 {
        bytes.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend_from_slice(data);
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, FormatError> {
        let (byte, rest) = self.0.split_first().ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(*byte)
    }

    /// A length of at most three bytes, more than any field here may need, in its shortest spelling.
    fn length(&mut self) -> Result<usize, FormatError> {
        let mut length = 0;
        for shift in [0, 7, 14] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 { Err(FormatError::NonMinimalLength) } else { Ok(length) };
            }
        }
        Err(FormatError::FieldTooLong)
    }

    fn data(&mut self, empty: FormatError) -> Result<&'a [u8], FormatError> {
        let length = self.length()?;
        if length == 0 {
            return Err(empty);
        }
        if length > MAX_FIELD {
            return Err(FormatError::FieldTooLong);
        }
        let (data, rest) = self.0.split_at_checked(length).ok_or(FormatError::Truncated)?;
        self.0 = rest;
        Ok(data)
    }

    fn field(&mut self, kind: u8, missing: FormatError, empty: FormatError) -> Result<&'a [u8], FormatError> {
        if self.byte()? == kind { self.data(empty) } else { Err(missing) }
    }

    fn end_of_section(&mut self) -> Result<(), FormatError> {
        if self.byte()? == EOS { Ok(()) } else { Err(FormatError::UnexpectedField) }
    }

    /// The next caveat's predicate, or `None` at the end of the list.
    fn caveat(&mut self) -> Result<Option<&'a [u8]>, FormatError> {
        let located = match self.byte()? {
            EOS => return Ok(None),
            LOCATION => {
                self.data(FormatError::EmptyField)?;
                if self.byte()? != IDENTIFIER {
                    return Err(FormatError::UnexpectedField);
                }
                true
            }
            IDENTIFIER => false,
            _ => return Err(FormatError::UnexpectedField),
        };
        let predicate = self.data(FormatError::EmptyField)?;
        match self.byte()? {
            VERIFICATION_ID => Err(FormatError::ThirdPartyCaveat),
            _ if located => Err(FormatError::CaveatLocation),
            EOS => Ok(Some(predicate)),
            _ => Err(FormatError::UnexpectedField),
        }
    }
}

#[cfg(test)]
mod tests;
