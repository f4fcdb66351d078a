//! Strict JSON for bytes that a stranger sent: RFC 8259 with the doors that parsers disagree on shut.
//!
//! A repeated member is an error at every depth, nesting and member counts are bounded, and integers stay integers. It
//! decides nothing about meaning; tokens, discovery documents and request bodies are all read through it, so that "last
//! duplicate wins" cannot be exploited between two readers (an attacker who sends `repository` twice).

use std::fmt;

use serde::Serialize;
use serde::Serializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;

/// Deepest nesting accepted; real ID tokens use three levels.
pub const MAX_DEPTH: usize = 16;
/// Most members or elements accepted in a whole document; real ID tokens have under 60.
pub const MAX_NODES: usize = 1024;
/// Bytes that a member of a token takes at least, nearly always, and the most members for which room is made at once.
const USUAL_MEMBER: usize = 32;
const MAX_FORESEEN: usize = 40;

/// A JSON value without repeated members.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number written as an integer that fits 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object, its members in the order of the text.
    Object(Object),
}

/// A JSON object: distinct names, in the order of the text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Object(Vec<(String, Json)>);

impl Object {
    /// The member of that name.
    pub fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// This object with the member added at its end, or replaced in its place.
    #[must_use]
    pub fn with(mut self, name: &str, value: Json) -> Self {
        match self.0.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
        self
    }

    /// The members in the order of the text.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v))
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl IntoIterator for Object {
    type Item = (String, Json);
    type IntoIter = std::vec::IntoIter<(String, Json)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Why a text is not strict JSON. The message names the fault and never quotes values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

impl Json {
    /// Reads a whole document; anything after it is an error.
    pub fn parse(bytes: &[u8]) -> Result<Self, JsonError> {
        let foreseen = (bytes.len() / USUAL_MEMBER).min(MAX_FORESEEN);
        // UTF-8 is looked at once, not for each string; where it is not, the reader of bytes says at which byte.
        match str::from_utf8(bytes) {
            Ok(text) => read(serde_json::Deserializer::from_str(text), foreseen),
            Err(_) => read(serde_json::Deserializer::from_slice(bytes), foreseen),
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    /// The name of its type, as users know it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Int(number) => serializer.serialize_i64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(object) => serializer.collect_map(object.iter()),
        }
    }
}

fn read<'de, R: Read<'de>>(mut reader: serde_json::Deserializer<R>, foreseen: usize) -> Result<Json, JsonError> {
    let mut nodes = 0;
    let value =
        Seed { depth: 0, foreseen, nodes: &mut nodes }.deserialize(&mut reader).map_err(|error| fault(&error))?;
    reader.end().map_err(|error| fault(&error))?;
    Ok(value)
}

/// `serde_json`'s message without the position's line (documents are one line) and without quoted values: its syntax
/// errors quote nothing, ours below quote nothing.
fn fault(error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or_default();
    JsonError(format!("{message} (at byte {})", error.column()))
}

struct Seed<'a> {
    depth: usize,
    /// Members for which room is made.
    foreseen: usize,
    nodes: &'a mut usize,
}

impl Seed<'_> {
    fn inner<E: serde::de::Error>(&mut self) -> Result<Seed<'_>, E> {
        *self.nodes += 1;
        if *self.nodes > MAX_NODES {
            return Err(E::custom("too many members"));
        }
        Ok(Seed { depth: self.depth + 1, foreseen: self.foreseen.min(4), nodes: self.nodes })
    }

    fn enter<E: serde::de::Error>(&self) -> Result<(), E> {
        if self.depth >= MAX_DEPTH { Err(E::custom("nested too deeply")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        #[expect(clippy::cast_precision_loss, reason = "beyond 63 bits it is no identifier that a rule can match")]
        Ok(i64::try_from(value).map_or(Json::Float(value as f64), Json::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Json, A::Error> {
        self.enter()?;
        let mut items = Vec::new();
        loop {
            let seed = self.inner()?;
            match seq.next_element_seed(seed)? {
                Some(item) => items.push(item),
                None => return Ok(Json::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Json, A::Error> {
        self.enter()?;
        let mut members: Vec<(String, Json)> = Vec::with_capacity(self.foreseen);
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.inner()?)?;
            members.push((name, value));
        }
        // SECURITY: sorted, not each against all: a stranger's thousand members would cost milliseconds a document. By
        // length first: most names differ in it, and then nothing else is looked at.
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable_by_key(|name| (name.len(), *name));
        if names.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(A::Error::custom("repeated member"));
        }
        Ok(Json::Object(Object(members)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_is_read() {
        let text = br#"{"a":null,"b":true,"c":-7,"d":1.5,"e":"x","f":[1,{"g":18446744073709551615}]}"#;
        let value = Json::parse(text).unwrap();
        let object = value.as_object().unwrap();
        assert_eq!(object.get("a"), Some(&Json::Null));
        assert_eq!(object.get("b"), Some(&Json::Bool(true)));
        assert_eq!(object.get("c"), Some(&Json::Int(-7)));
        assert_eq!(object.get("d"), Some(&Json::Float(1.5)));
        assert_eq!(object.get("e").unwrap().as_str(), Some("x"));
        assert_eq!(object.len(), 6);
        assert!(object.get("z").is_none());
    }

    #[test]
    fn what_was_read_is_written_back() {
        let text = r#"{"z":null,"b":true,"c":-7,"d":1.5,"e":"x\"","f":[1,{"g":[]}],"a":{}}"#;
        let value = Json::parse(text.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&value).unwrap(), text);
    }

    #[test]
    fn what_parsers_disagree_on_is_refused() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":1,"a":2,"c":3,"b":4}"#,
            r#"[{"x":{"a":1,"a":2}}]"#,
            r#"{"a":1} {"b":2}"#,
            "\u{feff}{}",
            "{\"a\":\"\u{1}\"}",
            r#"{"a":"\ud800"}"#,
            "{'a':1}",
            "{\"a\":1,}",
            "[1e999]",
            "[01]",
            "[NaN]",
            "",
        ] {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_utf_8_is_refused_and_its_place_told() {
        for (text, message) in [
            (&b"{\"a\":\"b\xff\"}"[..], "invalid unicode code point (at byte 8)"),
            (b"{\"a\xff\":1}", "invalid unicode code point (at byte 4)"),
            (b"{\"a\":1,\xff}", "key must be a string (at byte 8)"),
            (b"{\"a\":1,\"a\":\"\xff\"}", "invalid unicode code point (at byte 13)"),
        ] {
            assert_eq!(Json::parse(text).unwrap_err().to_string(), message, "{text:?}");
        }
    }

    #[test]
    fn a_member_is_added_once() {
        let object = Object::default().with("a", Json::Int(1)).with("b", Json::Null).with("a", Json::Bool(true));
        assert_eq!(object.iter().collect::<Vec<_>>(), [("a", &Json::Bool(true)), ("b", &Json::Null)]);
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Json::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert!(Json::parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
        assert!(Json::parse(nested(100_000).as_bytes()).is_err());
        assert!(Json::parse(format!("[{}0]", "0,".repeat(MAX_NODES)).as_bytes()).is_err());
    }
}
