//! A layer: what one source of settings says, checked, in the form that the `config` crate lays over others.

use std::fs;
use std::io;
use std::path::Path;

use config::ConfigError;
use config::Map;
use config::Source;
use config::Value;
use config::ValueKind;

use super::schema::KEYS;
use super::schema::Key;
use super::schema::Kind;
use super::schema::Under;
use crate::policy::yaml;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Place;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

/// Largest settings file; the shipped one, comments included, has 3 KiB.
const MAX_BYTES: usize = 64 * 1024;

/// The key of every digest in the settings.
const DIGEST: &str = "key_sha256";
/// How many of a digest's digits are shown.
const SHOWN_DIGITS: usize = 8;

/// What is often looked for here.
const POLICY: [&str; 4] = ["issuers", "registries", "rules", "tests"];

/// What one source says: only known keys, each with a value of its kind that remembers its file, line and column.
#[derive(Debug, Clone, Default)]
pub(super) struct Layer(Map<String, Value>);

impl Layer {
    /// Reads a file. A relative path in it starts at its folder.
    pub(super) fn of_file(file: &Path, faults: &mut Faults) -> Option<Self> {
        let name = file.display().to_string();
        match fs::read_to_string(file) {
            Ok(text) => Self::read(&name, &text, file.parent().unwrap_or(Path::new("")), faults),
            Err(error) => {
                let remedy = if error.kind() == io::ErrorKind::InvalidData {
                    "save it as UTF-8 text"
                } else {
                    "name a file that the service's user can read"
                };
                let message = format!("cannot be read: {error}");
                faults.push(Place::whole(name.into()), String::new(), message, remedy);
                None
            }
        }
    }

    /// Reads the built-in defaults, whose values have no origin.
    pub(super) fn of_defaults(text: &str, faults: &mut Faults) -> Option<Self> {
        Self::read("", text, Path::new(""), faults)
    }

    fn read(name: &str, text: &str, folder: &Path, faults: &mut Faults) -> Option<Self> {
        let root = yaml::read(name, text, MAX_BYTES, faults)?;
        // A file of comments sets nothing.
        let empty = matches!(root.value, yaml::Value::Null);
        Some(Self(if empty { Map::new() } else { section(&Field::root(&root), KEYS, folder, faults) }))
    }

    /// All of it, to look things up in.
    pub(super) fn into_value(self) -> Value {
        Value::new(None, self.0)
    }

    /// Adds one value at a path of known keys.
    pub(super) fn set(&mut self, path: &str, value: Value) {
        self.0.insert(path.to_owned(), value);
    }
}

/// The known keys of a map; each other one is reported, with the key that was probably meant.
fn section(of: &Field<'_>, keys: &[Key], folder: &Path, faults: &mut Faults) -> Map<String, Value> {
    let mut values = Map::new();
    for entry in of.entries(faults).into_iter().flatten() {
        let Some(key) = keys.iter().find(|key| key.name == entry.name()) else {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            let remedy = match nearest(entry.name(), names.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if POLICY.contains(&entry.name()) => {
                    "that is policy: put it into a file of `policy.directory`".to_owned()
                }
                None => format!("known keys: {}", names.join(", ")),
            };
            entry.fault_at_key(faults, format!("unknown key `{}`", shown(entry.name())), remedy);
            continue;
        };
        let value = match &key.under {
            Under::Keys(keys) => Some(section(&entry, keys, folder, faults).into()),
            Under::Value(kind) => kind.read(&entry, folder, faults),
        };
        if let Some(value) = value {
            let at = &entry.node.at;
            let origin = (!at.file.is_empty()).then(|| at.to_string());
            values.insert(key.name.to_owned(), Value::new(origin.as_ref(), value));
        }
    }
    values
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The value at a path of keys, such as `listen.tls.key_file`.
pub(super) fn find<'v>(root: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(root, |value, key| {
        let ValueKind::Table(table) = &value.kind else { return None };
        table.get(key)
    })
}

/// The values as they may be shown: of a digest its beginning, by which an operator knows the key.
///
/// SECURITY: an API key that somebody thought up, rather than drew, can be found from its digest.
pub(super) fn redacted(mut root: Value) -> Value {
    if let ValueKind::Table(table) = &mut root.kind {
        for (name, value) in table {
            *value = if name == DIGEST {
                let beginning: String = value.to_string().chars().take(SHOWN_DIGITS).collect();
                Value::new(None, format!("{beginning}…"))
            } else {
                redacted(std::mem::take(value))
            };
        }
    } else if let ValueKind::Array(items) = &mut root.kind {
        for item in items {
            *item = redacted(std::mem::take(item));
        }
    }
    root
}

/// All values as YAML, in the order of the schema, each with its origin as a comment.
pub(super) fn to_yaml(root: &Value) -> String {
    let mut lines = Vec::new();
    push_lines(root, KEYS, "", &mut lines);
    lines.push(String::new());
    lines.join("\n")
}

fn push_lines(of: &Value, keys: &[Key], indent: &str, lines: &mut Vec<String>) {
    for (key, value) in keys.iter().filter_map(|key| Some((key, find(of, key.name)?))) {
        let name = key.name;
        match &key.under {
            Under::Keys(keys) => {
                lines.push(format!("{indent}{name}:"));
                push_lines(value, keys, &format!("{indent}  "), lines);
            }
            Under::Value(kind) => lines.push(format!("{indent}{name}: {}  # {}", scalar(value, kind), origin(value))),
        }
    }
}

/// Where a value was written.
pub(super) fn origin(value: &Value) -> &str {
    value.origin().unwrap_or("default")
}

/// A value as YAML. Text is quoted, in which YAML agrees with Rust.
fn scalar(value: &Value, kind: &Kind) -> String {
    if let (Kind::Callers, ValueKind::Array(callers)) = (kind, &value.kind) {
        let entry = |caller: &Value| {
            let text = |key: &str| find(caller, key).map(ToString::to_string).unwrap_or_default();
            format!("{}: {{{DIGEST}: {:?}}}", text("name"), text(DIGEST))
        };
        return format!("{{{}}}", callers.iter().map(entry).collect::<Vec<_>>().join(", "));
    }
    if let ValueKind::Array(items) = &value.kind {
        let items: Vec<String> = items.iter().map(|item| format!("{:?}", item.to_string())).collect();
        return format!("[{}]", items.join(", "));
    }
    match kind {
        _ if value.kind == ValueKind::Nil => "null".to_owned(),
        Kind::Optional(kind) => scalar(value, kind),
        Kind::Address
        | Kind::Path
        | Kind::Networks
        | Kind::Callers
        | Kind::LogLevel
        | Kind::Text
        | Kind::Prefix
        | Kind::RedisUrl
        | Kind::RedisUrls
        | Kind::Collector
        | Kind::Words(_) => format!("{:?}", value.to_string()),
        Kind::Seconds(_) => format!("{value}s"),
        Kind::Millis(..) => {
            let seconds = value.clone().into_float().unwrap_or_default();
            format!("{:.0}ms", seconds * 1000.0)
        }
        Kind::Choice(_) | Kind::Integer(..) | Kind::Bytes(_) => value.to_string(),
    }
}
