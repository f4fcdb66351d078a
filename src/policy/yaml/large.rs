//! Files with a section that may be very large: its entries are handed out one by one, so that a million of them need
//! the memory of one at a time.

use super::Faults;
use super::Key;
use super::Node;
use super::Value;
use super::json::JsonReader;
use super::shown;

/// One file: the map at its root, without the entries of its large sections.
#[derive(Debug)]
pub struct File<'t> {
    /// The root; without a value if the file is empty. A large section that is no map is left in it, to be refused
    /// there.
    pub root: Node<'t>,
    sections: Vec<Section<'t>>,
}

/// A large section: a map whose entries come one by one.
#[derive(Debug)]
pub struct Section<'t> {
    key: Key<'t>,
    entries: Entries<'t>,
}

#[derive(Debug)]
enum Entries<'t> {
    Read(std::vec::IntoIter<(Key<'t>, Node<'t>)>),
    Json(JsonReader<'t>),
}

impl<'t> File<'t> {
    /// Reads a file, as YAML or, what is much faster, as JSON. `None` if it is neither; the reason is among the faults.
    pub fn read(file: &'t str, text: &'t str, max_bytes: usize, large: &[&str], faults: &mut Faults) -> Option<Self> {
        if text.len() <= max_bytes
            && JsonReader::looks_like(text)
            && let Ok((root, sections)) = JsonReader::new(file, text).document(large)
            && let Value::Map(entries) = &root.value
            && !repeats(entries.iter().map(|(key, _)| key).chain(sections.iter().map(|(key, _)| key)))
        {
            let sections = sections.into_iter().filter_map(|(key, mut reader)| {
                reader.enter_map().ok()?;
                Some(Section { key, entries: Entries::Json(reader) })
            });
            return Some(Self { root, sections: sections.collect() });
        }
        let mut root = super::read(file, text, max_bytes, faults)?;
        let mut sections = Vec::new();
        if let Value::Map(entries) = &mut root.value {
            let is_large = |(key, node): &mut (Key<'_>, Node<'_>)| {
                large.contains(&&*key.text) && matches!(node.value, Value::Map(_))
            };
            for (key, node) in entries.extract_if(.., is_large) {
                if let Value::Map(entries) = node.value {
                    sections.push(Section { key, entries: Entries::Read(entries.into_iter()) });
                }
            }
        }
        Some(Self { root, sections })
    }

    /// The large section of that name, if the file has it. It can be taken once.
    pub fn take(&mut self, name: &str) -> Option<Section<'t>> {
        let place = self.sections.iter().position(|section| *section.key.text == *name)?;
        Some(self.sections.remove(place))
    }
}

impl<'t> Section<'t> {
    /// Its key.
    pub const fn key(&self) -> &Key<'t> {
        &self.key
    }

    /// The next entry.
    pub fn next(&mut self, faults: &mut Faults) -> Option<(Key<'t>, Node<'t>)> {
        match &mut self.entries {
            Entries::Read(entries) => entries.next(),
            // The section has been found sound but for keys that an entry repeats.
            Entries::Json(reader) => {
                let entry = reader.entry().unwrap_or_default();
                if let Some(key) = reader.repeated() {
                    let message = format!("the key `{}` is repeated", shown(&key.text));
                    faults.push(key.at, String::new(), message, "keep one of the two");
                }
                entry
            }
        }
    }
}

fn repeats<'k>(mut keys: impl Iterator<Item = &'k Key<'k>> + Clone) -> bool {
    while let Some(key) = keys.next() {
        if keys.clone().any(|other| other.text == key.text) {
            return true;
        }
    }
    false
}
