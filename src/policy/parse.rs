//! From nodes to a policy: one typed walk that collects every fault.
//!
//! Issuers and registries of all files come first, then the rules that name them. A thing that is faulty is still
//! known by its name, so that one mistake is reported once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use crate::policy::Policy;
use crate::policy::Source;
use crate::policy::index::Index;
use crate::policy::issuers::Entry;
use crate::policy::issuers::Issuers;
use crate::policy::lint;
use crate::policy::lint::Duties;
use crate::policy::lint::Waiving;
use crate::policy::registry::Registries;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;
use crate::policy::yaml;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Node;
use crate::policy::yaml::Place;
use crate::policy::yaml::Value;
use crate::policy::yaml::Warnings;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

mod condition;
mod issuer;
mod registry;
mod rule;

/// Largest policy file: a million rules.
const MAX_FILE: usize = 1 << 30;
const SECTIONS: &[&str] = &["issuers", "registries", "rules"];
/// Longest name of an issuer, a registry or a rule: they stand in macaroons and metric labels.
const MAX_ID: usize = 64;

/// What rules may refer to.
struct World<'a> {
    /// By name; without a value if the entry is faulty.
    issuers: HashMap<&'a str, Option<u32>>,
    registries: HashMap<&'a str, Option<u32>>,
    issuer_list: Vec<Entry>,
    registry_list: Vec<Registry>,
    /// What the rules of each issuer that names its preset owe it: a faulty issuer's rules are still checked.
    duties: HashMap<&'a str, Duties>,
}

pub(super) fn policy(sources: &[Source], file: &dyn Fn(&str, &str) -> Option<Vec<u8>>) -> Result<Policy, Faults> {
    let mut faults = Faults::new();
    let roots: Vec<Node> = sources.iter().filter_map(|s| yaml::read(&s.name, &s.text, MAX_FILE, &mut faults)).collect();
    let roots: Vec<Field<'_>> = roots.iter().filter(|n| !matches!(n.value, Value::Null)).map(Field::root).collect();
    let files: Vec<_> = roots.iter().filter_map(|root| root.fields(SECTIONS, &mut faults)).collect();
    let all_read = faults.is_empty();
    let section = |name: &str| -> Vec<Field<'_>> { files.iter().filter_map(|fields| fields.get(name)).collect() };

    let referred = RefCell::new(Vec::new());
    let read = |source: &str, name: &str| {
        let bytes = file(source, name)?;
        referred.borrow_mut().push((format!("{source}:{name}"), bytes.clone()));
        Some(bytes)
    };
    let (issuers, registries, rules) = (section("issuers"), section("registries"), section("rules"));
    let mut world = World {
        issuers: HashMap::new(),
        registries: HashMap::new(),
        issuer_list: Vec::new(),
        registry_list: Vec::new(),
        duties: HashMap::new(),
    };
    for entry in named(&issuers, "issuer", &mut faults) {
        lint::waivers(&entry, Waiving::Allowed, &mut faults);
        let Some(duties) = issuer::duties(&entry, &mut faults) else {
            world.issuers.insert(entry.name(), None);
            continue;
        };
        world.duties.insert(entry.name(), duties);
        let parsed = issuer::issuer(&entry, duties, &read, &mut faults);
        if let Some(issuer) = &parsed {
            lint::issuer(&entry, issuer, &mut faults);
        }
        let number = parsed.is_some().then(|| count(&world.issuer_list));
        world.issuer_list.extend(parsed);
        world.issuers.insert(entry.name(), number);
    }
    for entry in named(&registries, "registry", &mut faults) {
        lint::waivers(&entry, Waiving::Allowed, &mut faults);
        let parsed = registry::registry(&entry, &mut faults);
        let number = parsed.is_some().then(|| count(&world.registry_list));
        world.registry_list.extend(parsed);
        world.registries.insert(entry.name(), number);
    }
    let mut texts = Texts::default();
    let mut parsed: Vec<Rule> = Vec::new();
    for entry in named(&rules, "rule", &mut faults) {
        parsed.extend(rule::rule(&entry, &world, &mut texts, &mut faults));
    }
    lint::issuers(&issuers, &world.issuer_list, &mut faults);
    lint::fixed_audiences(&rules, &world.issuer_list, &world.registry_list, &parsed, &mut faults);
    lint::registries(&registries, &world.registry_list, &mut faults);
    if registries.is_empty() && all_read {
        let name = sources.first().map_or("the policy", |source| source.name.as_str());
        let remedy = "add one below `registries`";
        faults.push(Place::whole(Arc::from(name)), String::new(), "no file of the policy has a registry", remedy);
    }
    let referred = referred.into_inner();
    let bytes = sources.iter().map(|source| (source.name.as_str(), source.text.as_bytes()));
    let bytes = bytes.chain(referred.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    lint::unused_waivers(&mut faults);
    let policy = faults.is_empty().then(|| Policy {
        warnings: Warnings::default(),
        revision: super::revision(bytes),
        index: Index::new(&parsed),
        by_name: by_name(&parsed),
        issuers: Issuers::new(world.issuer_list, &parsed),
        registries: Registries::new(world.registry_list),
        rules: parsed,
    });
    let (policy, warnings) = faults.into_result_with_warnings(policy)?;
    Ok(Policy { warnings, ..policy })
}

fn by_name(rules: &[Rule]) -> Vec<u32> {
    let mut numbered: Vec<(&str, u32)> = rules.iter().map(Rule::id).zip(0..).collect();
    numbered.sort_unstable();
    numbered.into_iter().map(|(_, number)| number).collect()
}

fn count<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// The entries of one section in all files, each name legal and used once.
fn named<'a>(sections: &'a [Field<'a>], what: &str, faults: &mut Faults) -> Vec<Field<'a>> {
    let mut first: HashMap<&str, &Place> = HashMap::new();
    let mut entries = Vec::new();
    for section in sections {
        for entry in section.entries(faults).into_iter().flatten() {
            if !is_id(entry.name()) {
                let remedy = "use up to 64 lower-case letters, digits, `-`, `_` and `.`, a letter or digit first";
                entry.fault_at_key(faults, format!("`{}` is not a name", shown(entry.name())), remedy);
            } else if let Some(place) = first.get(entry.name()) {
                let message = format!("there is another {what} `{}` at {place}", entry.name());
                entry.fault_at_key(faults, message, "rename or remove one");
            } else {
                first.insert(entry.name(), entry.key_place());
                entries.push(entry);
            }
        }
    }
    entries
}

/// Whether a text may name an issuer, a registry, a rule or a caller: it fits macaroons, labels and URLs as it is.
pub(super) fn is_id(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    (1..=MAX_ID).contains(&text.len())
        && text.bytes().next().is_some_and(plain)
        && text.bytes().all(|b| plain(b) || matches!(b, b'-' | b'_' | b'.'))
}

/// What a reference names; an unknown name is reported.
fn refer(field: &Field<'_>, known: &HashMap<&str, Option<u32>>, what: &str, faults: &mut Faults) -> Option<u32> {
    let name = field.text(faults)?;
    if let Some(number) = known.get(name) {
        return *number;
    }
    let mut names: Vec<&str> = known.keys().copied().collect();
    names.sort_unstable();
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

/// Texts that many rules share, kept once.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn keep(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.0.get(text) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = Arc::from(text);
        self.0.insert(Arc::clone(&kept));
        kept
    }
}
