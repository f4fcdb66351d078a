//! Issuers, and what their tokens' audience says about the registries that they serve.

use std::collections::HashMap;

use super::report;
use crate::identity::replay::Replay;
use crate::policy::issuers::Entry;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;

/// No URL is that of two issuers.
pub(in crate::policy) fn issuers(sections: &[Field<'_>], entries: &[Entry], faults: &mut Faults) {
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for entry in entries {
        let url = match entry {
            Entry::One(issuer) => issuer.url().as_str(),
            Entry::Family(family) => family.template(),
        };
        let covering = entries.iter().find_map(|other| match other {
            Entry::Family(family) if family.covers(url) => Some(family.id()),
            Entry::Family(_) | Entry::One(_) => None,
        });
        if let Some(other) = seen.insert(url, entry.id()).or(covering) {
            report(
                sections,
                entry.id(),
                &format!("has the URL of the issuer `{other}`"),
                "remove one of the two",
                faults,
            );
        }
    }
}

/// SECURITY: a token whose audience every service of the provider's accepts says nothing about the registry that it is
/// for. At two registries, one of them could present it at the other.
pub(in crate::policy) fn fixed_audiences(
    sections: &[Field<'_>],
    entries: &[Entry],
    registries: &[Registry],
    rules: &[Rule],
    faults: &mut Faults,
) {
    let mut served: HashMap<u32, u32> = HashMap::new();
    let index = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    for rule in rules {
        let entry = entries.get(index(rule.issuer)).filter(|entry| entry.provider().fixed_audience.is_some());
        let Some(entry) = entry else { continue };
        if *served.entry(rule.issuer).or_insert(rule.registry) != rule.registry {
            let message = "L003: rules of two registries are for this issuer, whose tokens all have one audience";
            report(sections, rule.id(), message, "keep the rules of one registry", faults);
        }
        // SECURITY: the first use is all that keeps a token that another service has seen from being used here.
        let replay = |registry: &Registry| registry.replay_of(entry.common());
        if registries.get(index(rule.registry)).is_some_and(|registry| replay(registry) == Replay::Off) {
            let message = "L039: the registry accepts replays, and all tokens of this issuer have one audience";
            report(sections, rule.id(), message, "set `replay: once` at the registry", faults);
        }
    }
}
