//! Text that a stranger chose, made safe to show: control characters could rewrite a terminal or start a forged log
//! line, and bidirectional controls could make a line read as something that it does not say.
//!
//! This module decides which characters those are and how they are spelled instead; every log, audit event, error and
//! terminal line goes through it.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character can disguise the text around it: controls (C0, DEL, C1), line and paragraph separators,
/// bidirectional marks, embeddings, overrides and isolates, and the byte order mark.
pub const fn is_deceptive(character: char) -> bool {
    matches!(
        character,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{61c}'
            | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

/// Whether nothing but printable ASCII is in the text, as in nearly every: many bytes are looked at at a time, so that what
/// must look at characters need not look at those.
pub fn is_printable_ascii(text: &str) -> bool {
    text.bytes().fold(true, |printable, byte| printable & matches!(byte, b' '..=b'~'))
}

/// The text for a terminal or a line of a log: deceptive characters as `\n`, `\t`, `\r` or `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    escape_with(text, |character, out| out.extend(character.escape_default()))
}

/// A text that is JSON already, with the deceptive characters inside its strings as `\u202e`: the same JSON value.
/// It must be on one line, since line feeds are escaped too.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    escape_with(json, |character, out| {
        let mut units = [0; 2];
        for unit in character.encode_utf16(&mut units) {
            let _infallible = write!(out, "\\u{unit:04x}");
        }
    })
}

fn escape_with(text: &str, spell: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if is_printable_ascii(text) || !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_add(16));
    for character in text.chars() {
        if is_deceptive(character) { spell(character, &mut out) } else { out.push(character) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECEPTIVE: &str =
        "a\nb\u{1b}[2Jc\u{7f}d\u{85}e\u{202e}f\u{2066}g\u{2028}h\u{feff}i\u{200f}j\u{61c}k\tl\rm\u{0}";

    #[test]
    fn plain_text_is_left_alone() {
        for text in ["", "widgets", "Zürich 数 🎉", r"C:\dir", "a\u{200d}b"] {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn deceptive_characters_are_spelled_out() {
        assert_eq!(escape("a\nb\u{1b}[2J\u{202e}c"), "a\\nb\\u{1b}[2J\\u{202e}c");
        assert!(!escape(DECEPTIVE).contains(is_deceptive));
    }

    #[test]
    fn escaped_json_is_the_same_value_on_one_line() {
        let value = serde_json::json!({ DECEPTIVE: [DECEPTIVE, "\"\\", "plain"] });
        let written = value.to_string();
        let line = escape_json(&written);
        assert!(!line.contains(is_deceptive), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap(), value);

        let raw = "{\"a\":\"x\u{202e}y\"}";
        assert_eq!(escape_json(raw), r#"{"a":"x\u202ey"}"#);
    }
}
