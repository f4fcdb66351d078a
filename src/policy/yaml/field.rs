//! The typed walk: fields that know their place and key path, read strictly, every fault collected.

use std::fmt;
use std::time::Duration;

use super::Faults;
use super::Key;
use super::Lint;
use super::Message;
use super::Node;
use super::Spot;
use super::Value;
use super::nearest;
use super::shown;

/// Longest key that stands in a path as it is written.
const MAX_WORD: usize = 120;

/// The keys that lead to a node, as a chain on the stack: nothing is allocated until a fault needs the text.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl Path<'_> {
    /// The root of a file.
    pub const ROOT: Self = Self { parent: None, step: Step::Root };
}

impl<'a> Path<'a> {
    /// What the key of a map leads to.
    pub fn below(parent: &'a Self, key: &'a Key<'_>) -> Self {
        Self { parent: Some(parent), step: Step::Key(&key.text) }
    }
}

/// `rules.widgets.allow.upload[0]`; a key that is not a plain word is quoted.
impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            write!(f, "{parent}")?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) => {
                if self.parent.is_some_and(|parent| parent.parent.is_some()) {
                    f.write_str(".")?;
                }
                // SECURITY: a long key is cut, as what it leads to is named by each of its faults.
                let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
                let word = (1..=MAX_WORD).contains(&key.len()) && key.chars().all(plain);
                if word { f.write_str(key) } else { write!(f, "\"{}\"", shown(key)) }
            }
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// A node with the keys that lead to it.
#[derive(Debug, Clone, Copy)]
pub struct Field<'a> {
    /// The node.
    pub node: &'a Node<'a>,
    /// The keys that lead to it.
    pub path: Path<'a>,
    key: Option<&'a Key<'a>>,
}

impl<'a> Field<'a> {
    /// The root of a file.
    pub const fn root(node: &'a Node<'a>) -> Self {
        Self { node, path: Path::ROOT, key: None }
    }

    /// An entry of the map that `parent` leads to.
    pub fn entry(parent: &'a Path<'a>, key: &'a Key<'a>, node: &'a Node<'a>) -> Self {
        Self { node, path: Path::below(parent, key), key: Some(key) }
    }

    /// The key of this entry; empty for the root and for items of a list.
    pub fn name(&self) -> &'a str {
        self.key.map_or("", |key| &key.text)
    }

    /// Where its key stands; where it stands itself, if it has none.
    pub fn key_spot(&self) -> Spot<'a> {
        self.key.map_or(self.node.at, |key| key.at)
    }

    /// Reports a fault of the value.
    pub fn fault(&self, faults: &mut Faults, message: impl Into<Message>, remedy: impl Into<String>) {
        faults.push(self.node.at, self.path.to_string(), message, remedy);
    }

    /// Reports a fault of the key, or of the whole entry.
    pub fn fault_at_key(&self, faults: &mut Faults, message: impl Into<Message>, remedy: impl Into<String>) {
        faults.push(self.key_spot(), self.path.to_string(), message, remedy);
    }

    /// Warns about the value.
    pub fn warn(&self, faults: &mut Faults, message: (&'static Lint, impl Into<String>), remedy: impl Into<String>) {
        faults.warn(self.node.at, self.path.to_string(), message, remedy);
    }

    /// Warns about the key, or about the whole entry.
    pub fn warn_at_key(
        &self,
        faults: &mut Faults,
        message: (&'static Lint, impl Into<String>),
        remedy: impl Into<String>,
    ) {
        faults.warn(self.key_spot(), self.path.to_string(), message, remedy);
    }

    fn wrong_type(&self, faults: &mut Faults, wanted: &str, remedy: impl Into<String>) {
        if self.node.is_refused() {
            return;
        }
        let message = format!("must be {wanted}, and this is {}", self.node.value.type_name());
        let remedy = match self.node.value {
            Value::Null => "give it a value, or remove the line".to_owned(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
                remedy.into()
            }
        };
        self.fault(faults, message, remedy);
    }

    /// Text.
    pub fn text(&self, faults: &mut Faults) -> Option<&'a str> {
        match &self.node.value {
            Value::String(text) => Some(text),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.wrong_type(faults, "text", format!("quote it: {}", self.node.quoted()));
                None
            }
            Value::Null | Value::Seq(_) | Value::Map(_) => {
                self.wrong_type(faults, "text", "write one value");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self, faults: &mut Faults) -> Option<bool> {
        if let Value::Bool(value) = self.node.value {
            return Some(value);
        }
        self.wrong_type(faults, "`true` or `false`", "write `true` or `false` without quotes");
        None
    }

    /// An integer from `least` to `most`.
    pub fn integer(&self, least: i64, most: i64, faults: &mut Faults) -> Option<i64> {
        let Value::Int(value) = self.node.value else {
            self.wrong_type(faults, "an integer", "write digits without quotes");
            return None;
        };
        if (least..=most).contains(&value) {
            return Some(value);
        }
        self.fault(faults, format!("`{value}` is out of range"), format!("write {least} to {most}"));
        None
    }

    /// A length of time: digits and a unit (`30s`, `15m`, `1h`, `7d`), whole seconds, more than none.
    pub fn duration(&self, faults: &mut Faults) -> Option<Duration> {
        let remedy = "write a number and a unit: `30s`, `15m`, `1h`";
        let Value::String(text) = &self.node.value else {
            self.wrong_type(faults, "a length of time", remedy);
            return None;
        };
        let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
        let seconds =
            units.iter().find_map(|(unit, seconds)| scaled(text, unit, *seconds)).filter(|seconds| *seconds > 0);
        if seconds.is_none() {
            self.fault(faults, format!("`{}` is not a length of time", shown(text)), remedy);
        }
        seconds.map(Duration::from_secs)
    }

    /// A number of bytes: digits and a unit (`512KiB`, `100MiB`, `1GiB`), or digits alone.
    pub fn bytes(&self, faults: &mut Faults) -> Option<u64> {
        let remedy = "write a number and a unit: `512KiB`, `100MiB`, `1GiB`";
        let size = match &self.node.value {
            Value::Int(value) => u64::try_from(*value).ok(),
            Value::String(text) => {
                let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
                units.iter().find_map(|(unit, bytes)| scaled(text, unit, *bytes))
            }
            Value::Null | Value::Bool(_) | Value::Float(_) | Value::Seq(_) | Value::Map(_) => {
                self.wrong_type(faults, "a size", remedy);
                return None;
            }
        };
        let size = size.filter(|size| *size > 0);
        if size.is_none() {
            let text = if let Value::String(text) = &self.node.value { shown(text) } else { "0".to_owned() };
            self.fault(faults, format!("`{text}` is not a size"), remedy);
        }
        size
    }

    /// The items of a list.
    pub fn items(&'a self, faults: &mut Faults) -> Option<impl Iterator<Item = Field<'a>> + use<'a>> {
        Some(self.list(faults)?.iter().enumerate().map(|(index, node)| self.item(index, node)))
    }

    /// The texts of a list; what is no text is reported and left out.
    pub fn texts(&self, faults: &mut Faults) -> Vec<&'a str> {
        let mut texts = Vec::new();
        for (index, node) in self.list(faults).unwrap_or_default().iter().enumerate() {
            if let Value::String(text) = &node.value {
                texts.push(&**text);
            } else {
                self.item(index, node).text(faults);
            }
        }
        texts
    }

    fn list(&self, faults: &mut Faults) -> Option<&'a [Node<'a>]> {
        if let Value::Seq(items) = &self.node.value {
            return Some(items);
        }
        let one = matches!(self.node.value, Value::String(_) | Value::Bool(_) | Value::Int(_) | Value::Float(_));
        let remedy = if one { format!("write a list: [{}]", self.node.quoted()) } else { String::new() };
        self.wrong_type(faults, "a list", remedy);
        None
    }

    fn item<'s>(&'s self, index: usize, node: &'s Node<'s>) -> Field<'s> {
        Field { node, path: Path { parent: Some(&self.path), step: Step::Index(index) }, key: None }
    }

    /// The entries of a map with free keys.
    pub fn entries(&'a self, faults: &mut Faults) -> Option<impl Iterator<Item = Field<'a>> + use<'a>> {
        let Value::Map(entries) = &self.node.value else {
            self.wrong_type(faults, "a map", "write `key: value` lines below it, indented");
            return None;
        };
        let field = |(key, node): &'a (Key<'a>, Node<'a>)| Field {
            node,
            path: Path { parent: Some(&self.path), step: Step::Key(&key.text) },
            key: Some(key),
        };
        Some(entries.iter().map(field))
    }

    /// A map with these keys and no others: each other one is reported, with the key that was probably meant.
    pub fn fields(&'a self, known: &'static [&'static str], faults: &mut Faults) -> Option<Fields<'a>> {
        let entries: Vec<Field<'a>> = self.entries(faults)?.collect();
        for entry in entries.iter().filter(|entry| !known.contains(&entry.name())) {
            let remedy = match nearest(entry.name(), known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known keys: {}", known.join(", ")),
            };
            entry.fault_at_key(faults, format!("unknown key `{}`", shown(entry.name())), remedy);
        }
        Some(Fields { of: self, entries })
    }
}

/// A map whose keys are known.
#[derive(Debug)]
pub struct Fields<'a> {
    of: &'a Field<'a>,
    entries: Vec<Field<'a>>,
}

impl<'a> Fields<'a> {
    /// The entry of that key, if the map has it.
    pub fn get(&self, key: &str) -> Option<Field<'a>> {
        self.entries.iter().find(|entry| entry.name() == key).copied()
    }

    /// The entry of that key; its absence is reported with the remedy.
    pub fn require(&self, key: &str, remedy: &str, faults: &mut Faults) -> Option<Field<'a>> {
        let found = self.get(key);
        if found.is_none() {
            self.of.fault_at_key(faults, format!("`{key}` is missing"), remedy);
        }
        found
    }
}

/// `15m` with unit `m` of 60 is 900. Digits only before the unit, one spelling: no sign, fraction or blank.
fn scaled(text: &str, unit: &str, factor: u64) -> Option<u64> {
    let digits = text.strip_suffix(unit)?;
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse::<u64>().ok()?.checked_mul(factor) } else { None }
}
