//! From nodes to a policy: one typed walk that collects every fault.
//!
//! Issuers and registries of all files come first, then the rules that name them. A thing that is faulty is still
//! known by its name, so that one mistake is reported once.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::Arc;

use crate::package::Pattern;
use crate::policy::Source;
use crate::policy::issuers::Entry;
use crate::policy::lint;
use crate::policy::lint::Duties;
use crate::policy::lint::Waiving;
use crate::policy::registry::Registry;
use crate::policy::rule_test::RuleTest;
use crate::policy::set::RuleSet;
use crate::policy::set::RuleSetBuilder;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::File;
use crate::policy::yaml::Path;
use crate::policy::yaml::Place;
use crate::policy::yaml::Section;
use crate::policy::yaml::Spot;
use crate::policy::yaml::Value;
use crate::policy::yaml::Warnings;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

pub(super) mod bundle_source;
mod codec;
pub(super) mod condition;
pub(super) mod grant;
mod issuer;
pub(super) mod keys;
mod registry;
mod routes;
mod rule;
pub(super) mod rule_test;

/// After how many rules it is told how many have been read: about a second's work.
const TELL_EVERY: usize = 100_000;
/// Largest policy file: a million rules.
const MAX_FILE: usize = 1 << 30;
pub(super) const SECTIONS: &[&str] = &["issuers", "registries", "rules", "tests"];
/// The section that can be large: its entries are read one by one, when all others are known.
const LARGE: &[&str] = &["rules"];
/// Longest name of an issuer, a registry or a rule: they stand in macaroons and metric labels.
const MAX_ID: usize = 64;

/// What rules may refer to: the issuers and registries of a policy's directory.
#[derive(Debug, Default)]
pub(super) struct World {
    /// By name; without a value if the entry is faulty.
    issuers: BTreeMap<String, Option<u32>>,
    registries: BTreeMap<String, Option<u32>>,
    pub(super) issuer_list: Vec<Entry>,
    pub(super) registry_list: Vec<Arc<Registry>>,
    /// What the rules of each issuer that names its preset owe it: a faulty issuer's rules are still checked.
    duties: BTreeMap<String, Duties>,
}

impl World {
    /// The entry of an issuer by its position.
    pub(super) fn issuer(&self, number: u32) -> Option<&Entry> {
        self.issuer_list.get(usize::try_from(number).ok()?)
    }

    /// A registry by its position.
    pub(super) fn registry(&self, number: u32) -> Option<&Arc<Registry>> {
        self.registry_list.get(usize::try_from(number).ok()?)
    }
}

/// What a directory's files say.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) world: World,
    pub(super) rules: Arc<RuleSet>,
    pub(super) tests: Vec<RuleTest>,
    pub(super) revision: String,
}

pub(super) fn directory<'s>(
    sources: &'s [Source],
    file: &dyn Fn(&str, &str) -> Option<Vec<u8>>,
    told: &dyn Fn(usize),
) -> Result<(Directory, Warnings), Faults> {
    let mut faults = Faults::new();
    let read = |s: &'s Source| File::read(&s.name, &s.text, MAX_FILE, LARGE, &mut faults);
    let mut files: Vec<File<'s>> = sources.iter().filter_map(read).collect();
    let large: Vec<Section<'s>> = files.iter_mut().filter_map(|file| file.take("rules")).collect();
    let roots: Vec<Field<'_>> =
        files.iter().map(|file| &file.root).filter(|n| !matches!(n.value, Value::Null)).map(Field::root).collect();
    let files: Vec<_> = roots.iter().filter_map(|root| root.fields(SECTIONS, &mut faults)).collect();
    let all_read = faults.is_empty();
    let section = |name: &str| -> Vec<Field<'_>> { files.iter().filter_map(|fields| fields.get(name)).collect() };

    let referred: RefCell<Vec<(String, Vec<u8>)>> = RefCell::default();
    let read = |source: &str, name: &str| {
        let bytes = file(source, name)?;
        let label = format!("{source}:{name}");
        let mut referred = referred.borrow_mut();
        if !referred.iter().any(|(known, _)| *known == label) {
            referred.push((label, bytes.clone()));
        }
        Some(bytes)
    };
    let (issuers, registries) = (section("issuers"), section("registries"));
    let world = world(&issuers, &registries, &read, &mut faults);
    // What is left of `rules` is no map, and is reported as such.
    for rules in section("rules") {
        rules.entries(&mut faults).into_iter().for_each(drop);
    }
    let mut served = HashMap::new();
    lint::fixed_audiences_of_bundles(&registries, &world, &mut served, &mut faults);
    let rules = rules(large, &world, None, &mut served, told, &mut faults);
    let tests = rule_test::tests(&section("tests"), &world, &rules, None, &mut faults);
    if registries.is_empty() && all_read {
        let name = sources.first().map_or("the policy", |source| source.name.as_str());
        let remedy = "add one below `registries`";
        faults.push(Place::whole(Arc::from(name)), String::new(), "no file of the policy has a registry", remedy);
    }
    let referred = referred.into_inner();
    let bytes = sources.iter().map(|source| (source.name.as_str(), source.text.as_bytes()));
    let bytes = bytes.chain(referred.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    lint::unused_waivers(&mut faults);
    let directory = faults.is_empty().then(|| Directory { revision: super::revision(bytes), world, rules, tests });
    faults.into_result_with_warnings(directory)
}

fn world(
    issuers: &[Field<'_>],
    registries: &[Field<'_>],
    read: &dyn Fn(&str, &str) -> Option<Vec<u8>>,
    faults: &mut Faults,
) -> World {
    let mut world = World::default();
    for entry in named(issuers, "issuer", faults) {
        lint::waivers(&entry, Waiving::Allowed, faults);
        let name = entry.name().to_owned();
        let Some(duties) = issuer::duties(&entry, faults) else {
            world.issuers.insert(name, None);
            continue;
        };
        world.duties.insert(name.clone(), duties);
        let parsed = issuer::issuer(&entry, duties, read, faults);
        if let Some(issuer) = &parsed {
            lint::issuer(&entry, issuer, faults);
        }
        let number = parsed.is_some().then(|| count(&world.issuer_list));
        world.issuer_list.extend(parsed);
        world.issuers.insert(name, number);
    }
    for entry in named(registries, "registry", faults) {
        lint::waivers(&entry, Waiving::Allowed, faults);
        let parsed = registry::registry(&entry, &world.issuers, read, faults);
        let number = parsed.is_some().then(|| count(&world.registry_list));
        world.registry_list.extend(parsed.map(Arc::new));
        world.registries.insert(entry.name().to_owned(), number);
    }
    lint::issuers(issuers, &world.issuer_list, faults);
    lint::registries(registries, &world.registry_list, faults);
    world
}

/// What the rules of a bundle are confined to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// The name of the registry that serves them: they are for it, and their names begin with its name and `/`.
    pub(super) registry: &'a str,
    /// The names of the issuers that they may be about.
    pub(super) issuers: &'a [String],
    /// What each package that they grant must be within; `None` for any.
    pub(super) packages: Option<&'a [Pattern]>,
}

/// Reads the rules of all sections one by one, each name legal and used once. `served` has the registry that each issuer
/// of one audience is for. `told` hears now and then how many there are so far.
pub(super) fn rules(
    sections: Vec<Section<'_>>,
    world: &World,
    scope: Option<&Scope<'_>>,
    served: &mut HashMap<u32, u32>,
    told: &dyn Fn(usize),
    faults: &mut Faults,
) -> Arc<RuleSet> {
    let mut set = RuleSetBuilder::default();
    let mut limited = Vec::new();
    let mut first: HashMap<Cow<'_, str>, Spot<'_>> = HashMap::new();
    for mut section in sections {
        let key = section.key().clone();
        let path = Path::below(&Path::ROOT, &key);
        while let Some((key, node)) = section.next(faults) {
            let entry = Field::entry(&path, &key, &node);
            if !is_new(&entry, "rule", (key.text.clone(), key.at), &mut first, faults) {
                continue;
            }
            if first.len().is_multiple_of(TELL_EVERY) {
                told(first.len());
            }
            let Some(rule) = rule::rule(&entry, world, scope, &mut set.regexps, faults) else { continue };
            lint::fixed_audience(&entry, world, &rule, served, faults);
            let segment = world.issuer(rule.issuer).and_then(Entry::segment);
            if set.push(&rule, segment).is_none() {
                entry.fault_at_key(faults, "is one rule too many", "let the registry serve its rules as a bundle");
                return set.finish();
            }
            if lint::is_limited(&rule) {
                limited.push(set.last());
            }
        }
    }
    let set = set.finish();
    lint::meeting(&set, &limited, |name| first.get(name).copied(), faults);
    set
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// The entries of one section in all files, each name legal and used once.
fn named<'a>(sections: &'a [Field<'a>], what: &str, faults: &mut Faults) -> Vec<Field<'a>> {
    let mut first = HashMap::new();
    let mut entries = Vec::new();
    for section in sections {
        for entry in section.entries(faults).into_iter().flatten() {
            if is_new(&entry, what, (Cow::Borrowed(entry.name()), entry.key_spot()), &mut first, faults) {
                entries.push(entry);
            }
        }
    }
    entries
}

/// Whether an entry has a legal name that none before it has; `first` remembers where each name stood first.
fn is_new<'k>(
    entry: &Field<'_>,
    what: &str,
    (name, at): (Cow<'k, str>, Spot<'k>),
    first: &mut HashMap<Cow<'k, str>, Spot<'k>>,
    faults: &mut Faults,
) -> bool {
    if !is_id(&name) {
        let remedy = "use up to 64 lower-case letters, digits, `-`, `_` and `.`, a letter or digit first";
        entry.fault_at_key(faults, format!("`{}` is not a name", shown(&name)), remedy);
        return false;
    }
    match first.entry(name) {
        hash_map::Entry::Vacant(place) => {
            place.insert(at);
            true
        }
        hash_map::Entry::Occupied(other) => {
            let message = format!("there is another {what} `{}` at {}", other.key(), other.get());
            entry.fault_at_key(faults, message, "rename or remove one");
            false
        }
    }
}

/// Whether a text may name an issuer, a registry, a rule or a caller: it fits macaroons, labels and URLs as it is.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_ID).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'))
}

/// What a reference names; an unknown name is reported.
fn refer(field: &Field<'_>, known: &BTreeMap<String, Option<u32>>, what: &str, faults: &mut Faults) -> Option<u32> {
    let name = field.text(faults)?;
    if let Some(number) = known.get(name) {
        return *number;
    }
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let remedy = match nearest(name, names.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None if names.is_empty() => {
            format!("add one below `{}`", if what == "issuer" { "issuers" } else { "registries" })
        }
        None => format!("known: {}", names.join(", ")),
    };
    field.fault(faults, format!("there is no {what} `{}`", shown(name)), remedy);
    None
}

/// One of a few words.
fn choice<T: Copy>(field: &Field<'_>, words: &[(&'static str, T)], faults: &mut Faults) -> Option<T> {
    let text = field.text(faults)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    if found.is_none() {
        let known = words.iter().map(|(word, _)| *word);
        let remedy = match nearest(text, known.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("known: {}", known.collect::<Vec<_>>().join(", ")),
        };
        field.fault(faults, format!("`{}` is not known here", shown(text)), remedy);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_how_many_of_very_many_rules_have_been_read() {
        let entries: Vec<String> = (0..=2 * TELL_EVERY).map(|rule| format!("\"r{rule}\":{{}}")).collect();
        let text = format!("{{\"rules\":{{{}}}}}", entries.join(","));
        let heard = RefCell::new(Vec::new());
        let source = Source { name: "p.json".to_owned(), text };
        directory(&[source], &|_, _| None, &|rules| heard.borrow_mut().push(rules)).unwrap_err();
        assert_eq!(heard.into_inner(), [TELL_EVERY, 2 * TELL_EVERY]);
    }
}
