//! The environment as the last layer: `TRUSTMINT_LISTEN__ADDRESS` is `listen.address`.
//!
//! The `config` crate's own reader of the environment skips in silence what it does not understand; a variable that
//! looks like a setting and is none is a fault here.

use std::path::Path;

use config::Value;

use super::layer::Layer;
use super::schema::KEYS;
use super::schema::Key;
use super::schema::Kind;
use super::schema::Under;
use crate::policy::yaml;
use crate::policy::yaml::Fault;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Place;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

/// With what the name of every variable begins that is a setting.
pub(super) const PREFIX: &str = "TRUSTMINT_";

/// Largest value; networks of proxies are the longest there are.
const MAX_BYTES: usize = 4096;

/// A key as a variable.
struct Variable {
    /// `TRUSTMINT_LISTEN__ADDRESS`
    name: String,
    /// `listen.address`
    path: String,
    kind: &'static Kind,
}

/// The variables that are settings, as a layer.
pub(super) fn layer(environment: impl Iterator<Item = (String, String)>, faults: &mut Faults) -> Layer {
    let mut known = Vec::new();
    variables(KEYS, "", &mut known);
    let mut layer = Layer::default();
    let mut given: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    given.sort();
    for (name, text) in given {
        let Some(variable) = known.iter().find(|variable| variable.name == name) else {
            unknown(&name, &known, faults);
            continue;
        };
        let origin = format!("environment variable {name}");
        let mut found = Faults::new();
        // The value reads as on the right of its key in a file.
        let value = yaml::read(&origin, &text, MAX_BYTES, &mut found)
            .and_then(|node| variable.kind.read(&Field::root(&node), Path::new(""), &mut found));
        let place = Place::whole(origin.as_str().into());
        for fault in found.iter() {
            faults.add(Fault { place: place.clone(), key_path: variable.path.clone(), ..fault.clone() });
        }
        if let Some(value) = value {
            layer.set(&variable.path, Value::new(Some(&origin), value));
        }
    }
    layer
}

fn variables(keys: &'static [Key], prefix: &str, known: &mut Vec<Variable>) {
    for key in keys {
        let path = if prefix.is_empty() { key.name.to_owned() } else { format!("{prefix}.{}", key.name) };
        match &key.under {
            Under::Keys(keys) => variables(keys, &path, known),
            Under::Value(kind) => {
                let name = format!("{PREFIX}{}", path.replace('.', "__").to_uppercase());
                known.push(Variable { name, path, kind });
            }
        }
    }
}

/// Reports a variable that was meant as a setting. Others with our prefix are not ours to judge: Kubernetes puts
/// `TRUSTMINT_SERVICE_HOST` and `TRUSTMINT_PORT` into the pods beside a service of that name.
fn unknown(name: &str, known: &[Variable], faults: &mut Faults) {
    let names = || known.iter().map(|variable| variable.name.as_str());
    let remedy = if let Some(meant) = names().find(|known| known.replace("__", "_") == name) {
        format!("did you mean `{meant}`? sections are separated by two underscores")
    } else if !name.contains("__") {
        return;
    } else if let Some(meant) = nearest(name, names()) {
        format!("did you mean `{meant}`?")
    } else {
        let in_section =
            |known: &&str| known.split_inclusive("__").next().is_some_and(|section| name.starts_with(section));
        let names: Vec<&str> = names().filter(in_section).collect();
        if names.is_empty() {
            "unset it: there is no such section".to_owned()
        } else {
            format!("known: {}", names.join(", "))
        }
    };
    let place = Place::whole(format!("environment variable {}", shown(name)).into());
    faults.push(place, String::new(), "is no setting", remedy);
}
