//! JSON that is written member by member: the audit's lines and the tokens' provenance, which each exchange writes.
//!
//! The bytes are those that `serde_json` would write. It looks at strings byte by byte; here it is sixteen at a time, since
//! nearly none has anything to escape, and what has is left to it.

use std::fmt;
use std::fmt::Write as _;
use std::iter;

use serde::Serialize;
use serde_json::Error;
use serde_json::Value;

use crate::json::Json;

/// Bytes that are looked at at once.
const CHUNK: usize = 16;

/// Writes an object to the end of a text. After an error what was written of it is no JSON.
pub fn write_object(text: &mut String, write: impl FnOnce(&mut Members<'_>) -> Result<(), Error>) -> Result<(), Error> {
    text.push('{');
    write(&mut Members { text, is_first: true })?;
    text.push('}');
    Ok(())
}

/// The members of an object that is being written, in the order in which they are given. That their names are distinct is
/// for who gives them to see to.
#[derive(Debug)]
pub struct Members<'t> {
    text: &'t mut String,
    is_first: bool,
}

impl Members<'_> {
    /// A string.
    pub fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        push_string(self.text, value);
    }

    /// A string, if there is one; else there is no member.
    pub fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(name, value);
        }
    }

    /// The text of a value as a string.
    pub fn spelled(&mut self, name: &str, value: &impl fmt::Display) {
        self.name(name);
        self.text.push('"');
        let _infallible = write!(Inside(self.text), "{value}");
        self.text.push('"');
    }

    /// A number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        let _infallible = write!(self.text, "{value}");
    }

    /// `true` or `false`.
    pub fn truth(&mut self, name: &str, value: bool) {
        self.name(name);
        self.text.push_str(if value { "true" } else { "false" });
    }

    /// An array of strings.
    pub fn strings(&mut self, name: &str, values: &[impl AsRef<str>]) {
        self.name(name);
        self.text.push('[');
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            push_string(self.text, value.as_ref());
        }
        self.text.push(']');
    }

    /// Any value that was read.
    pub fn json(&mut self, name: &str, value: &Json) -> Result<(), Error> {
        match value.as_str() {
            Some(value) => {
                self.string(name, value);
                Ok(())
            }
            None => self.other(name, value),
        }
    }

    /// What `serde_json` writes of anything else.
    pub fn other(&mut self, name: &str, value: &impl Serialize) -> Result<(), Error> {
        self.name(name);
        self.text.push_str(&serde_json::to_string(value)?);
        Ok(())
    }

    /// An object.
    pub fn object(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Members<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.name(name);
        write_object(self.text, write)
    }

    fn name(&mut self, name: &str) {
        self.text.push_str(if self.is_first { "\"" } else { ",\"" });
        self.is_first = false;
        push_escaped(self.text, name);
        self.text.push_str("\":");
    }
}

/// The inside of a string: what is written is escaped, piece by piece.
struct Inside<'t>(&'t mut String);

impl fmt::Write for Inside<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        push_escaped(self.0, piece);
        Ok(())
    }
}

fn push_string(text: &mut String, value: &str) {
    text.push('"');
    push_escaped(text, value);
    text.push('"');
}

/// SECURITY: the one place that decides whether anything must be escaped. A quote that slipped through would let whoever
/// chose the text add members to the record of their own job.
fn push_escaped(text: &mut String, piece: &str) {
    if is_plain(piece.as_bytes()) {
        text.push_str(piece);
    } else {
        let quoted = Value::from(piece).to_string();
        let inside = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        text.push_str(inside.unwrap_or_default());
    }
}

/// Whether JSON lets each byte stand for itself in a string. The last bytes are looked at together with some before them,
/// and where there are too few, with spaces.
fn is_plain(bytes: &[u8]) -> bool {
    let (chunks, _) = bytes.as_chunks();
    if let Some(last) = bytes.last_chunk() {
        return chunks.iter().all(are_plain) && are_plain(last);
    }
    let mut few = [b' '; CHUNK];
    iter::zip(&mut few, bytes).for_each(|(place, byte)| *place = *byte);
    are_plain(&few)
}

/// The same of as many as fit a register, all at once: compared so, and not one by one, they take a dozen instructions.
fn are_plain(bytes: &[u8; CHUNK]) -> bool {
    bytes.map(|byte| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\')) == [0; CHUNK]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(write: impl FnOnce(&mut Members<'_>)) -> String {
        let mut text = String::new();
        write_object(&mut text, |members| {
            write(members);
            Ok(())
        })
        .unwrap();
        text
    }

    /// Holds that a text is written as `serde_json` writes it: as a name, a string, an element, and a value's text.
    #[track_caller]
    fn assert_written_alike(text: &str) {
        let expected = serde_json::to_string(text).unwrap();
        assert_eq!(object(|it| it.string("a", text)), format!(r#"{{"a":{expected}}}"#), "{text:?}");
        assert_eq!(object(|it| it.string(text, "a")), format!(r#"{{{expected}:"a"}}"#), "{text:?}");
        assert_eq!(object(|it| it.strings("a", &["b", text])), format!(r#"{{"a":["b",{expected}]}}"#), "{text:?}");
        assert_eq!(object(|it| it.spelled("a", &text)), format!(r#"{{"a":{expected}}}"#), "{text:?}");
        let json = Json::parse(expected.as_bytes()).unwrap();
        assert_eq!(object(|it| it.json("a", &json).unwrap()), format!(r#"{{"a":{expected}}}"#), "{text:?}");
    }

    #[test]
    fn every_character_is_escaped_as_it_must_be_wherever_in_a_chunk_it_stands() {
        let beyond =
            ['\u{80}', '\u{a0}', '\u{a2}', '\u{dc}', '\u{7ff}', '\u{2028}', '\u{feff}', '\u{ffff}', '\u{10ffff}'];
        for character in ('\0'..='\u{7f}').chain(beyond) {
            for length in 0..34 {
                for position in 0..=length {
                    for filler in ["x", " ", "!"] {
                        let text =
                            format!("{}{character}{}", filler.repeat(position), filler.repeat(length - position));
                        let plain = !matches!(character, '\0'..='\u{1f}' | '"' | '\\');
                        assert_eq!(is_plain(text.as_bytes()), plain, "{text:?}");
                    }
                }
            }
            assert_written_alike(&character.to_string());
            assert_written_alike(&format!("acme/widgets{character}acme"));
        }
        assert_written_alike("");
    }

    #[test]
    fn members_of_every_kind_are_written_in_order() {
        let written = object(|it| {
            it.number("n", u64::MAX);
            it.optional("absent", None);
            it.optional("o", Some("x"));
            it.truth("t", true);
            it.truth("f", false);
            it.spelled("s", &format_args!("{}\"{}", 1, '\n'));
            it.strings("e", &[""; 0]);
            it.json("j", &Json::parse(br#"{"a":[1,"\"",null,1.5]}"#).unwrap()).unwrap();
            it.other("x", &Value::Null).unwrap();
            it.object("i", |_| Ok(())).unwrap();
            it.object("m", |inner| inner.object("a", |deeper| deeper.json("b", &Json::Int(-1)))).unwrap();
            it.string("z", "");
        });
        let expected = r#"{"n":18446744073709551615,"o":"x","t":true,"f":false,"s":"1\"\n","e":[],"j":{"a":[1,"\"",null,1.5]},"x":null,"i":{},"m":{"a":{"b":-1}},"z":""}"#;
        assert_eq!(written, expected);
        assert_eq!(object(|_| ()), "{}");
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_writes_it(text in any::<String>(), odd in "[ -~\\x00-\\x1f\"\\\\é\u{2028}]{0,40}") {
            assert_written_alike(&text);
            assert_written_alike(&odd);
        }
    }
}
