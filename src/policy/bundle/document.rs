//! A bundle's document: the same YAML as a policy file, with a head and two of its sections.
//!
//! ```yaml
//! registry: acme-npm
//! serial: 42
//! not_after: 2026-11-27T06:00:00Z
//! rules: {…}     # as in a policy file; `registry` may be left out
//! tests: […]     # as in a policy file
//! ```

use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::File;
use crate::policy::yaml::Node;
use crate::policy::yaml::Place;
use crate::policy::yaml::Section;
use crate::policy::yaml::shown;
use crate::time::Timestamp;

/// All that a bundle may hold. SECURITY: no issuers, registries or waivers of lint: those are the operator's.
pub(super) const KEYS: &[&str] = &["registry", "serial", "not_after", "rules", "tests"];
/// The section that can be large.
const LARGE: &[&str] = &["rules"];

/// A bundle that was read, but for its rules and tests.
#[derive(Debug)]
pub(super) struct Document<'t> {
    /// The whole, without the rules.
    pub(super) root: Node<'t>,
    /// The rules, which are read one by one.
    pub(super) rules: Option<Section<'t>>,
    /// Whose it says it is.
    pub(super) registry: String,
    /// Which one it is, in the registry's own counting.
    pub(super) serial: i64,
    /// Until when it is good.
    pub(super) not_after: Timestamp,
}

impl<'t> Document<'t> {
    /// Reads the document. `name` is what messages call it.
    pub(super) fn read(name: &'t str, bytes: &'t [u8]) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let Ok(text) = std::str::from_utf8(bytes) else {
            faults.push(Place::whole(name.into()), String::new(), "is not UTF-8", "save it as UTF-8");
            return Err(faults);
        };
        let document = File::read(name, text, usize::MAX, LARGE, &mut faults).and_then(|mut file| {
            let rules = file.take("rules");
            let (registry, serial, not_after) = head(&file.root, rules.is_some(), &mut faults)?;
            Some(Self { root: file.root, rules, registry, serial, not_after })
        });
        faults.into_result(document)
    }
}

fn head(root: &Node<'_>, has_rules: bool, faults: &mut Faults) -> Option<(String, i64, Timestamp)> {
    let root = Field::root(root);
    let fields = root.fields(KEYS, faults)?;
    let registry = fields.require("registry", "add the registry's name in the policy", faults);
    let registry = registry.and_then(|field| field.text(faults));
    let serial = fields.require("serial", "add a number that grows with each bundle: `serial: 1`", faults);
    let serial = serial.and_then(|field| field.integer(0, i64::MAX, faults));
    let remedy = "add until when it is good, at most 24 h ahead: `not_after: 2026-11-27T06:00:00Z`";
    let not_after = fields.require("not_after", remedy, faults).and_then(|field| moment(&field, faults));
    // What is left of the rules is no map, and is reported as such.
    if !has_rules && let Some(rules) = fields.require("rules", "add the rules, or `rules: {}` for none", faults) {
        rules.entries(faults).into_iter().for_each(drop);
    }
    Some((registry?.to_owned(), serial?, not_after?))
}

fn moment(field: &Field<'_>, faults: &mut Faults) -> Option<Timestamp> {
    let text = field.text(faults)?;
    let moment = Timestamp::parse_rfc3339(text);
    if moment.is_none() {
        let remedy = "write it in UTC with whole seconds: `2026-11-27T06:00:00Z`";
        field.fault(faults, format!("`{}` is not a moment", shown(text)), remedy);
    }
    moment
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "registry: acme-npm\nserial: 42\nnot_after: 2026-11-27T06:00:00Z\nrules: {}\n";

    fn refused(text: &str) -> String {
        Document::read("bundle", text.as_bytes()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn the_head_is_read_from_yaml_and_from_json() {
        let json =
            r#"{"registry": "acme-npm", "serial": 42, "not_after": "2026-11-27T06:00:00Z", "rules": {}, "tests": []}"#;
        for text in [GOOD, json] {
            let document = Document::read("bundle", text.as_bytes()).unwrap();
            assert_eq!((document.registry.as_str(), document.serial), ("acme-npm", 42));
            assert_eq!(document.not_after.to_string(), "2026-11-27T06:00:00Z");
        }
    }

    #[test]
    fn each_line_of_the_head_is_needed_and_typed() {
        for (line, instead, expected) in [
            ("registry: acme-npm", "", "`registry` is missing"),
            ("registry: acme-npm", "registry: 1", "bundle:1:11: registry: must be text"),
            ("serial: 42", "", "`serial` is missing"),
            ("serial: 42", "serial: \"42\"", "serial: must be an integer"),
            ("serial: 42", "serial: 4.2", "serial: must be an integer"),
            ("serial: 42", "serial: -1", "serial: `-1` is out of range"),
            ("serial: 42", "serial: 9223372036854775808", "serial: must be an integer"),
            ("serial: 42", "serial: 42\nserial: 43", "the key `serial` is repeated"),
            ("not_after: 2026-11-27T06:00:00Z", "", "`not_after` is missing"),
            ("2026-11-27T06:00:00Z", "2026-11-27T06:00:00+01:00", "is not a moment"),
            ("2026-11-27T06:00:00Z", "2026-11-27", "is not a moment"),
            ("2026-11-27T06:00:00Z", "1795759200", "not_after: must be text"),
            ("rules: {}", "", "`rules` is missing"),
        ] {
            let text = refused(&GOOD.replacen(line, instead, 1));
            assert!(text.contains(expected), "{instead}: {text}");
        }
    }

    #[test]
    fn a_bundle_has_no_other_sections() {
        for section in ["issuers", "registries", "waivers", "lint", "include"] {
            let text = refused(&format!("{GOOD}{section}: {{}}\n"));
            assert!(text.contains(&format!("unknown key `{section}`")), "{text}");
        }
    }

    #[test]
    fn what_is_no_yaml_map_is_refused() {
        for text in ["", "[]", "acme-npm", "a: [", "a: *b", "--- {}\n--- {}\n"] {
            assert!(!refused(text).is_empty(), "{text}");
        }
        let latin = Document::read("bundle", b"registry: \xe9").map(|_| ()).unwrap_err();
        assert_eq!(latin.to_string(), "bundle: is not UTF-8 — save it as UTF-8");
    }
}
