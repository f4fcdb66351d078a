//! YAML with places: text becomes nodes that know their file, line and column, and every fault is collected.
//!
//! Settings and policy are read through this one reader. It decides what YAML means here: the core schema of YAML
//! 1.2.2 section 10.3, one document a file, no repeated keys, no anchors, aliases, merge keys or tags. Nothing is
//! coerced: a plain `701234567` is an integer and never becomes text, and the node keeps how it was written so that a
//! fault can say how to quote it. What keys mean is decided by its callers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::Arc;

use granit_parser::Event;
use granit_parser::Parser;
use granit_parser::ScalarStyle;
use granit_parser::ScanError;
use granit_parser::Span;
use granit_parser::StrInput;

mod fault;
mod field;
mod finding;
mod json;
mod large;
mod warnings;

pub use fault::Fault;
pub use fault::Faults;
pub use fault::is_invisible;
pub use fault::nearest;
pub use fault::shown;
pub use field::Field;
pub use field::Fields;
pub use field::Path;
pub use finding::Lint;
pub use finding::Message;
pub use finding::Ruling;
pub use finding::Severity;
pub use large::File;
pub use large::Section;
pub use warnings::Waiver;
pub use warnings::Warnings;

/// Deepest nesting accepted; the deepest policy needs 7 levels.
const MAX_DEPTH: usize = 32;

/// Where something stands in a file. Lines and columns count from 1, columns in characters; line 0 means the whole
/// file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file's name as people know it.
    pub file: Arc<str>,
    /// Line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    pub const fn whole(file: Arc<str>) -> Self {
        Self { file, line: 0, column: 0 }
    }
}

/// `rules.yaml:12:7`, or `rules.yaml` for the whole file.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line == 0 { Ok(()) } else { write!(f, ":{}:{}", self.line, self.column) }
    }
}

/// Where something stands in a file that is being read: a place that costs nothing to copy, as every node has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot<'t> {
    /// The file's name as people know it.
    pub file: &'t str,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl From<Spot<'_>> for Place {
    fn from(spot: Spot<'_>) -> Self {
        Self { file: Arc::from(spot.file), line: spot.line, column: spot.column }
    }
}

/// As its [`Place`].
impl fmt::Display for Spot<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value and its place. What the text has as it stands is borrowed from it.
#[derive(Debug, Clone)]
pub struct Node<'t> {
    /// Where the value begins.
    pub at: Spot<'t>,
    /// What it is.
    pub value: Value<'t>,
    /// Whether it is a scalar written without quotes.
    pub plain: bool,
    /// How a plain scalar that is not text was written (`0012`, `1.20`, `True`). Boxed: it is rare, and nodes are many.
    written: Option<Box<str>>,
}

impl Node<'_> {
    /// Whether the reader has refused it already: an alias, in whose place nothing stands.
    pub const fn is_refused(&self) -> bool {
        matches!(self.value, Value::Null) && !self.plain
    }

    /// The text in quotes that the writer may have meant: `"0012"` for a plain `0012`.
    pub fn quoted(&self) -> String {
        let text =
            if let Value::String(text) = &self.value { text } else { self.written.as_deref().unwrap_or_default() };
        format!("{:?}", shown(text))
    }
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum Value<'t> {
    /// Nothing, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    String(Cow<'t, str>),
    /// A list.
    Seq(Vec<Node<'t>>),
    /// A map with distinct keys, in the order of the text.
    Map(Vec<(Key<'t>, Node<'t>)>),
}

impl Value<'_> {
    /// The name of its type, as users know it.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "a boolean",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a number",
            Self::String(_) => "text",
            Self::Seq(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// The key of a map's entry.
#[derive(Debug, Clone)]
pub struct Key<'t> {
    /// Its text.
    pub text: Cow<'t, str>,
    /// Where it begins.
    pub at: Spot<'t>,
}

/// Reads one file's text into its root node. `None` when the text is not YAML at all; the reason is among the faults.
/// A fault that leaves the structure intact (a repeated key, an anchor) is reported and reading goes on.
pub fn read<'t>(file: &'t str, text: &'t str, max_bytes: usize, faults: &mut Faults) -> Option<Node<'t>> {
    if text.len() > max_bytes {
        let remedy = "split it into several files";
        faults.push(Place::whole(file.into()), String::new(), format!("is larger than {max_bytes} bytes"), remedy);
        return None;
    }
    let options = granit_parser::options! {
        disallow_directives: true,
        emit_unresolved_aliases: true,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
    };
    let mut reader = Reader { parser: Parser::new_from_str_with_options(text, options), file, faults };
    match reader.document() {
        Ok(root) => Some(root),
        Err(error) => {
            reader.syntax(&error);
            None
        }
    }
}

struct Reader<'t, 'f> {
    parser: Parser<'t, StrInput<'t>>,
    file: &'t str,
    faults: &'f mut Faults,
}

impl<'t> Reader<'t, '_> {
    fn next(&mut self) -> Result<Option<(Event<'t>, Span)>, ScanError> {
        self.parser.next_event().transpose()
    }

    fn spot(&self, span: &Span) -> Spot<'t> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Spot { file: self.file, line: count(span.start.line()), column: count(span.start.col().saturating_add(1)) }
    }

    fn document(&mut self) -> Result<Node<'t>, ScanError> {
        let mut root = None;
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::DocumentStart(..)) && root.is_some() {
                let at = self.spot(&span);
                self.faults.push(at, String::new(), "starts a second document", "write one document a file");
                break;
            }
            if event.is_node() {
                root = Some(self.node(event, span)?);
            }
        }
        let nothing = Spot { file: self.file, line: 1, column: 1 };
        Ok(root.unwrap_or(Node { at: nothing, value: Value::Null, plain: true, written: None }))
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node<'t>, ScanError> {
        let at = self.spot(&span);
        self.refuse_properties(&event, at);
        let value = if let Event::Scalar(text, style, ..) = event {
            return Ok(scalar(at, text, style == ScalarStyle::Plain));
        } else if let Event::SequenceStart(..) = event {
            self.sequence()?
        } else if let Event::MappingStart(..) = event {
            self.map()?
        } else {
            // An alias stands for nothing here: it has been refused above.
            Value::Null
        };
        Ok(Node { at, value, plain: false, written: None })
    }

    fn sequence(&mut self) -> Result<Value<'t>, ScanError> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                break;
            }
            items.push(self.node(event, span)?);
        }
        Ok(Value::Seq(items))
    }

    fn map(&mut self) -> Result<Value<'t>, ScanError> {
        let mut entries: Vec<(Key<'t>, Node<'t>)> = Vec::new();
        // Maps of many rules would make a scan of the earlier keys quadratic.
        let mut seen = HashMap::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                break;
            }
            let key = self.node(event, span)?;
            let value = match self.next()? {
                Some((event, span)) => self.node(event, span)?,
                None => break,
            };
            let text = match &key.value {
                Value::String(text) if text == "<<" && key.plain => {
                    self.faults.push(key.at, String::new(), "merges another map", "write its entries out");
                    continue;
                }
                Value::String(text) => text.clone(),
                Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                    Cow::Owned(key.written.unwrap_or_default().into_string())
                }
                Value::Null | Value::Seq(_) | Value::Map(_) => {
                    let message = format!("a key must be text, and this is {}", key.value.type_name());
                    self.faults.push(
                        key.at,
                        String::new(),
                        message,
                        "quote text that starts with `[`, `{`, `*` or `~`",
                    );
                    continue;
                }
            };
            match seen.entry(text.clone()) {
                Entry::Vacant(place) => {
                    place.insert(key.at.line);
                    entries.push((Key { text, at: key.at }, value));
                }
                // SECURITY: with "the last one wins" the rule that a reviewer read first would not be the one in force.
                Entry::Occupied(first) => {
                    let (name, first) = (shown(&text), first.get());
                    let message = format!("the key `{name}` is repeated: it first stands on line {first}");
                    self.faults.push(key.at, String::new(), message, "keep one of the two");
                }
            }
        }
        Ok(Value::Map(entries))
    }

    /// Refuses what lets one place of the text change another, or overrides the type that a reader sees.
    fn refuse_properties(&mut self, event: &Event<'t>, at: Spot<'t>) {
        let anchor = event.anchor_id().is_some_and(|id| id != 0);
        let (message, remedy) = if event.is_alias() || matches!(event, Event::UnresolvedAlias(_)) {
            ("is an alias, which is not supported", "write the value out, or quote text that starts with `*`")
        } else if event.tag().is_some() {
            ("has a tag, which is not supported", "quote text; write other values without a tag")
        } else if anchor {
            ("has an anchor, which is not supported", "remove it, or quote text that starts with `&`")
        } else {
            return;
        };
        self.faults.push(at, String::new(), message, remedy);
    }

    fn syntax(&mut self, error: &ScanError) {
        let at = self.spot(&Span::empty(*error.marker()));
        let reason = error.info();
        let remedy = if reason.contains("tab") {
            "indent with spaces"
        } else if reason.contains("recursion") {
            "nest less deeply"
        } else if reason.contains("bracket") || reason.contains("flow") || reason.contains("quote") {
            "close each `[`, `{` and quote"
        } else if reason.contains("directive") {
            "quote text that starts with `%`"
        } else if reason.contains("mapping values") || reason.contains("unexpected character") {
            "quote text that has `: ` or starts with a character such as `@` or a back-quote"
        } else {
            "check the indentation, and that each key ends with `:`"
        };
        self.faults.push(at, String::new(), format!("is not YAML: {reason}"), remedy);
    }
}

/// A scalar under the core schema, YAML 1.2.2 section 10.3.2: `yes`, `on` and `12:30` are text.
fn scalar<'t>(at: Spot<'t>, text: Cow<'t, str>, plain: bool) -> Node<'t> {
    let value = if plain { resolve(&text) } else { None };
    match value {
        Some(value) => Node { at, value, plain, written: Some(text.into()) },
        None => Node { at, value: Value::String(text), plain, written: None },
    }
}

/// The value of a plain scalar that is not text.
fn resolve(text: &str) -> Option<Value<'static>> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Some(Value::Null),
        "true" | "True" | "TRUE" => return Some(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Some(Value::Bool(false)),
        ".nan" | ".NaN" | ".NAN" => return Some(Value::Float(f64::NAN)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(Value::Float(f64::INFINITY));
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) =
            text.strip_prefix(prefix).filter(|d| !d.is_empty() && d.chars().all(|c| c.is_digit(radix)))
        {
            return Some(i64::from_str_radix(digits, radix).map_or(Value::Float(f64::INFINITY), Value::Int));
        }
    }
    let number = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.contains(|c: char| c.is_ascii_digit())
        && unsigned.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    if !number {
        return None;
    }
    text.parse().map(Value::Int).or_else(|_| text.parse().map(Value::Float)).ok()
}

#[cfg(test)]
mod tests;
