//! JSON as it is written: a second, naive reader that keeps what strict readers refuse and lax ones drop.

use serde_json::Value;

/// A value of a text that `serde_json` reads, with repeated members and the text of each value.
pub struct Raw<'a> {
    /// The value's own text.
    pub text: &'a str,
    /// What it is made of.
    pub parts: Parts<'a>,
}

/// What a value is made of.
pub enum Parts<'a> {
    /// Nothing: a string, number, boolean or `null`.
    Scalar,
    /// Elements.
    List(Vec<Raw<'a>>),
    /// Members in the order of the text, repeated ones too.
    Members(Vec<(String, Raw<'a>)>),
}

/// The size of a document.
#[derive(Default)]
pub struct Shape {
    /// Whether some object has two members of one name.
    pub repeated: bool,
    /// How many arrays and objects lie in each other.
    pub depth: usize,
    /// How many members and elements there are.
    pub nodes: usize,
    /// How many arrays there are.
    pub lists: usize,
}

impl<'a> Raw<'a> {
    /// Reads a document; `None` if `serde_json` does not read it.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice::<Value>(bytes).ok()?;
        let text = str::from_utf8(bytes).expect("serde_json reads UTF-8 only");
        Some(Self::value(text, &mut 0))
    }

    /// The member of that name; `None` if this is no object, or has it not at all or twice.
    pub fn member(&self, name: &str) -> Option<&Self> {
        let Parts::Members(members) = &self.parts else { return None };
        let mut found = members.iter().filter(|(other, _)| other == name).map(|(_, value)| value);
        found.next().filter(|_| found.next().is_none())
    }

    /// The string, if it is one.
    pub fn string(&self) -> Option<String> {
        serde_json::from_str(self.text).ok()
    }

    pub fn shape(&self) -> Shape {
        let mut shape = Shape::default();
        let mut inner: Vec<Shape> = Vec::new();
        match &self.parts {
            Parts::Scalar => return shape,
            Parts::List(items) => {
                shape.lists = 1;
                inner.extend(items.iter().map(Self::shape));
            }
            Parts::Members(members) => {
                let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
                names.sort_unstable();
                names.dedup();
                shape.repeated = names.len() < members.len();
                inner.extend(members.iter().map(|(_, value)| value.shape()));
            }
        }
        shape.nodes = inner.len() + inner.iter().map(|shape| shape.nodes).sum::<usize>();
        shape.lists += inner.iter().map(|shape| shape.lists).sum::<usize>();
        shape.depth = 1 + inner.iter().map(|shape| shape.depth).max().unwrap_or_default();
        shape.repeated |= inner.iter().any(|shape| shape.repeated);
        shape
    }

    fn value(text: &'a str, at: &mut usize) -> Self {
        skip_space(text, at);
        let start = *at;
        let parts = match text.as_bytes()[start] {
            b'[' => {
                let mut items = Vec::new();
                while next(text, at) != b']' {
                    items.push(Self::value(text, at));
                }
                Parts::List(items)
            }
            b'{' => {
                let mut members = Vec::new();
                while next(text, at) != b'}' {
                    let name = Self::value(text, at).string().expect("a name is a string");
                    skip_space(text, at);
                    assert_eq!(text.as_bytes()[*at], b':');
                    *at += 1;
                    members.push((name, Self::value(text, at)));
                }
                Parts::Members(members)
            }
            b'"' => {
                *at += 1;
                while text.as_bytes()[*at] != b'"' {
                    *at += if text.as_bytes()[*at] == b'\\' { 2 } else { 1 };
                }
                *at += 1;
                Parts::Scalar
            }
            _ => {
                while text.as_bytes().get(*at).is_some_and(|byte| !b",]} \t\r\n".contains(byte)) {
                    *at += 1;
                }
                Parts::Scalar
            }
        };
        Self { text: &text[start..*at], parts }
    }
}

/// Steps over the bracket or comma before an item, and says which byte follows; steps over that too if it closes.
fn next(text: &str, at: &mut usize) -> u8 {
    skip_space(text, at);
    if b"[{,".contains(&text.as_bytes()[*at]) {
        *at += 1;
        skip_space(text, at);
    }
    let byte = text.as_bytes()[*at];
    if b"]}".contains(&byte) {
        *at += 1;
    }
    byte
}

fn skip_space(text: &str, at: &mut usize) {
    while text.as_bytes().get(*at).is_some_and(|byte| b" \t\r\n".contains(byte)) {
        *at += 1;
    }
}
