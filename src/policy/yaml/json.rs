//! JSON, for files that programs write: YAML too, but read many times as fast, and its large sections entry by entry.
//!
//! Strict RFC 8259: what is not JSON is left to the YAML reader, which says what is wrong with it. The nodes are the same.

use std::borrow::Cow;

use super::Key;
use super::MAX_DEPTH;
use super::Node;
use super::Spot;
use super::Value;

/// A place in a JSON text from which values are read. Copying it is how a reader comes back to a section.
#[derive(Debug, Clone)]
pub(super) struct JsonReader<'t> {
    text: &'t str,
    file: &'t str,
    at: usize,
    line: u32,
    /// Where the line begins, and how many bytes of it so far begin no character.
    line_start: usize,
    continuations: usize,
    depth: usize,
    /// The first key that a map has twice.
    repeated: Option<Key<'t>>,
}

/// Room that a map begins with.
const USUAL_ENTRIES: usize = 8;
/// Most entries of a map that is not a large section: they are compared each with each.
const MAX_ENTRIES: usize = 1024;

/// How many bytes of a string stand for themselves, up to the first quote, backslash, control character or byte of a
/// longer character. Strings are most of a large file, so eight bytes are looked at together.
fn plain(bytes: &[u8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const TOP: u64 = EACH * 0x80;
    // A byte below `than` borrows from its top bit; so may bytes after it, but the first is what is asked for.
    let below = |word: u64, than: u64| word.wrapping_sub(EACH * than) & !word & TOP;
    let is = |word: u64, byte: u8| below(word ^ (EACH * u64::from(byte)), 1);
    let (words, rest) = bytes.as_chunks::<8>();
    for (word, at) in words.iter().zip((0_usize..).step_by(8)) {
        let word = u64::from_le_bytes(*word);
        let found = below(word, 0x20) | is(word, b'"') | is(word, b'\\') | (word & TOP);
        if found != 0 {
            return at + usize::try_from(found.trailing_zeros() / 8).unwrap_or_default();
        }
    }
    let own = |byte: &u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=0x7f);
    bytes.len() - rest.len() + rest.iter().take_while(|byte| own(byte)).count()
}

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

type Read<T> = Result<T, NotJson>;

impl<'t> JsonReader<'t> {
    pub(super) const fn new(file: &'t str, text: &'t str) -> Self {
        Self { text, file, at: 0, line: 1, line_start: 0, continuations: 0, depth: 0, repeated: None }
    }

    /// Whether a text looks like a JSON object: a YAML flow map rarely begins with a quoted key.
    pub(super) fn looks_like(text: &str) -> bool {
        let inner = text.trim_start().strip_prefix('{').map(str::trim_start);
        inner.is_some_and(|inner| inner.starts_with(['"', '}']))
    }

    /// The map of the whole text without the entries of the maps that `large` names, each of which is checked and
    /// remembered: (its key, a reader at its first entry).
    pub(super) fn document(mut self, large: &[&str]) -> Read<(Node<'t>, Vec<(Key<'t>, Self)>)> {
        let mut sections = Vec::new();
        self.space();
        let at = self.spot();
        let mut entries = Vec::new();
        self.enter(b'{')?;
        while let Some(key) = self.key()? {
            if large.contains(&&*key.text) && self.peek() == Some(b'{') {
                sections.push((key, self.clone()));
                self.skip()?;
            } else {
                let value = self.value()?;
                entries.push((key, value));
            }
        }
        self.space();
        let whole = self.at == self.text.len() && self.repeated.is_none();
        if whole { Ok((node(at, Value::Map(entries)), sections)) } else { Err(NotJson) }
    }

    /// Steps into the map that the reader stands before.
    pub(super) fn enter_map(&mut self) -> Read<()> {
        self.enter(b'{')
    }

    /// The next entry of the map that the reader is in.
    pub(super) fn entry(&mut self) -> Read<Option<(Key<'t>, Node<'t>)>> {
        let Some(key) = self.key()? else { return Ok(None) };
        Ok(Some((key, self.value()?)))
    }

    /// The first key that was found twice in one map.
    pub(super) fn repeated(&mut self) -> Option<Key<'t>> {
        self.repeated.take()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    (self.line_start, self.continuations) = (self.at + 1, 0);
                }
                b' ' | b'\t' | b'\r' => {}
                _ => break,
            }
            self.at += 1;
        }
    }

    fn spot(&self) -> Spot<'t> {
        let passed = self.at.saturating_sub(self.line_start).saturating_sub(self.continuations);
        Spot { file: self.file, line: self.line, column: u32::try_from(passed + 1).unwrap_or(u32::MAX) }
    }

    fn take(&mut self, byte: u8) -> Read<()> {
        self.space();
        if self.peek() != Some(byte) {
            return Err(NotJson);
        }
        self.at += 1;
        Ok(())
    }

    fn enter(&mut self, bracket: u8) -> Read<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(NotJson);
        }
        self.take(bracket)
    }

    /// Whether another item follows in the map or list that `close` ends; steps over the comma, or out of it.
    fn more(&mut self, close: u8) -> Read<bool> {
        let first = matches!(self.text.as_bytes().get(self.at.wrapping_sub(1)), Some(b'{' | b'['));
        self.space();
        match self.peek() {
            Some(byte) if byte == close => {
                self.at += 1;
                self.depth = self.depth.saturating_sub(1);
                Ok(false)
            }
            Some(b',') if !first => {
                self.at += 1;
                Ok(true)
            }
            Some(_) if first => Ok(true),
            Some(_) | None => Err(NotJson),
        }
    }

    fn key(&mut self) -> Read<Option<Key<'t>>> {
        if !self.more(b'}')? {
            return Ok(None);
        }
        self.space();
        let at = self.spot();
        let text = self.string()?;
        self.take(b':')?;
        self.space();
        Ok(Some(Key { text, at }))
    }

    fn value(&mut self) -> Read<Node<'t>> {
        self.space();
        let at = self.spot();
        match self.peek() {
            Some(b'"') => self.string().map(|text| node(at, Value::String(text))),
            Some(b'{') => {
                self.enter(b'{')?;
                let mut entries: Vec<(Key<'t>, Node<'t>)> = Vec::with_capacity(USUAL_ENTRIES);
                while let Some((key, value)) = self.entry()? {
                    if entries.len() == MAX_ENTRIES {
                        return Err(NotJson);
                    } else if entries.iter().any(|(other, _)| other.text == key.text) {
                        self.repeated.get_or_insert(key);
                    } else {
                        entries.push((key, value));
                    }
                }
                Ok(node(at, Value::Map(entries)))
            }
            Some(b'[') => {
                self.enter(b'[')?;
                let mut items = Vec::new();
                while self.more(b']')? {
                    items.push(self.value()?);
                }
                Ok(node(at, Value::Seq(items)))
            }
            Some(_) => self.word(at),
            None => Err(NotJson),
        }
    }

    /// Reads a value and forgets it.
    fn skip(&mut self) -> Read<()> {
        self.space();
        match self.peek() {
            Some(b'"') => self.check_string(),
            Some(b'{') => {
                let own = self.depth;
                self.enter(b'{')?;
                let mut count = 0;
                while self.more(b'}')? {
                    count += 1;
                    if count > MAX_ENTRIES && own > 1 {
                        return Err(NotJson);
                    }
                    self.space();
                    self.check_string()?;
                    self.take(b':')?;
                    self.skip()?;
                }
                Ok(())
            }
            Some(b'[') => {
                self.enter(b'[')?;
                while self.more(b']')? {
                    self.skip()?;
                }
                Ok(())
            }
            Some(_) => literal(self.bare()).map(|_| ()).ok_or(NotJson),
            None => Err(NotJson),
        }
    }

    /// A number or a word.
    fn word(&mut self, at: Spot<'t>) -> Read<Node<'t>> {
        let text = self.bare();
        let value = literal(text).ok_or(NotJson)?;
        Ok(Node { at, value, plain: true, written: Some(text.into()) })
    }

    fn bare(&mut self) -> &'t str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'));
        let text = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
        self.at += text.len();
        text
    }

    /// The text between two quotes, its escapes as they are written.
    fn raw_string(&mut self) -> Read<(&'t str, bool)> {
        self.take(b'"')?;
        let (start, mut escaped) = (self.at, false);
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let plain = plain(rest);
            self.at += plain + 1;
            match rest.get(plain) {
                Some(b'"') => break,
                Some(b'\\') => {
                    // What follows is no end of the text, unless it is more than a byte long, which is no escape.
                    escaped = true;
                    self.at += 1;
                }
                Some(0x80..=0xbf) => self.continuations += 1,
                Some(0xc0..) => {}
                Some(_) | None => return Err(NotJson),
            }
        }
        Ok((self.text.get(start..self.at - 1).ok_or(NotJson)?, escaped))
    }

    fn check_string(&mut self) -> Read<()> {
        let before = self.at;
        let (_, escaped) = self.raw_string()?;
        if escaped {
            self.at = before;
            self.string()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Read<Cow<'t, str>> {
        let (raw, escaped) = self.raw_string()?;
        if !escaped {
            return Ok(Cow::Borrowed(raw));
        }
        // Escapes are the library's business: surrogates, and which letters may follow the backslash.
        serde_json::from_str(&format!("\"{raw}\"")).map(Cow::Owned).map_err(|_| NotJson)
    }
}

fn node<'t>(at: Spot<'t>, value: Value<'t>) -> Node<'t> {
    Node { at, value, plain: false, written: None }
}

/// The value of a word or number. RFC 8259: no leading zero or plus, digits on both sides of the point.
fn literal(text: &str) -> Option<Value<'static>> {
    match text {
        "null" => return Some(Value::Null),
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    let number: serde_json::Number = serde_json::from_str(text).ok()?;
    // As in YAML: the library takes `-0` for a fraction.
    text.parse().map(Value::Int).ok().or_else(|| number.as_f64().map(Value::Float))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn eight_bytes_at_once_are_seen_as_one_by_one(
            bytes in prop::collection::vec(prop_oneof![8 => 0x20_u8..0x7f, 1 => any::<u8>()], 0..40),
        ) {
            let own = |byte: &&u8| **byte >= 0x20 && **byte < 0x80 && **byte != b'"' && **byte != b'\\';
            prop_assert_eq!(plain(&bytes), bytes.iter().take_while(own).count());
        }
    }
}
