//! Issuers, and what their tokens' audience says about the registries that they serve.

use std::collections::HashMap;

use super::catalogue;
use super::report;
use crate::identity::replay::Replay;
use crate::policy::issuers::Entry;
use crate::policy::parse::World;
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
                format!("has the URL of the issuer `{other}`"),
                "remove one of the two",
                faults,
            );
        }
    }
}

/// SECURITY: a token whose audience every service of the provider's accepts says nothing about the registry that it is
/// for. At two registries, one of them could present it at the other. `served` has the registry of each such issuer.
pub(in crate::policy) fn fixed_audience(
    entry: &Field<'_>,
    world: &World,
    rule: &Rule<'_>,
    served: &mut HashMap<u32, u32>,
    faults: &mut Faults,
) {
    let issuer = world.issuer(rule.issuer).filter(|issuer| issuer.provider().fixed_audience.is_some());
    let Some(issuer) = issuer else { return };
    if *served.entry(rule.issuer).or_insert(rule.registry) != rule.registry {
        let message = "rules of two registries are for this issuer, whose tokens all have one audience";
        entry.fault_at_key(faults, (&catalogue::L003, message), "keep the rules of one registry");
    }
    // SECURITY: the first use is all that keeps a token that another service has seen from being used here.
    let replay = world.registry(rule.registry).map(|registry| registry.replay_of(issuer.common()));
    if replay.is_some_and(|replay| replay != Replay::Once) {
        let message = "one ID token can be exchanged more than once, and all tokens of this issuer have one audience";
        entry.fault_at_key(faults, (&catalogue::L039, message), "set `replay: once` at the issuer");
    }
}

/// The same for the rules that registries serve themselves, by what they may name: when they come, nobody is there to mend
/// it.
pub(in crate::policy) fn fixed_audiences_of_bundles(
    sections: &[Field<'_>],
    world: &World,
    served: &mut HashMap<u32, u32>,
    faults: &mut Faults,
) {
    for (registry, number) in world.registry_list.iter().zip(0..) {
        let Some(source) = &registry.bundle else { continue };
        for (entry, issuer) in world.issuer_list.iter().zip(0..) {
            if entry.provider().fixed_audience.is_none() || !source.issuers.iter().any(|name| name == entry.id()) {
                continue;
            }
            let name = entry.id();
            if *served.entry(issuer).or_insert(number) != number {
                let message =
                    format!("bundles of two registries may name `{name}`, whose tokens all have one audience");
                let remedy = "let the bundle of one registry name it";
                report(sections, &registry.id, (&catalogue::L003, message), remedy, faults);
            }
            if registry.replay_of(entry.common()) != Replay::Once {
                let message = format!(
                    "an ID token can be exchanged more than once, and its bundle may name `{name}`, whose tokens all have \
                     one audience"
                );
                report(sections, &registry.id, (&catalogue::L039, message), "set `replay: once` at the issuer", faults);
            }
        }
    }
}

/// Providers that neither end the text of `iss` with a slash nor leave that to whoever runs them.
const ANY_END: &[&str] = &["generic", "kubernetes"];
/// Hosts whose `iss` ends with a slash.
const SLASHED: &[&str] = &["oic.prod-aks.azure.com", "login.app.env0.com"];

/// What loads and somebody should look at: an issuer that no token could have, or one whose tokens live long.
pub(in crate::policy) fn issuer(entry: &Field<'_>, issuer: &Entry, faults: &mut Faults) {
    let (common, provider) = (issuer.common(), issuer.provider());
    let mut silent = Faults::new();
    let fields: Vec<Field<'_>> = entry.entries(&mut silent).into_iter().flatten().collect();
    let place = |key: &str| fields.iter().find(|field| field.name() == key).unwrap_or(entry);
    if common.max_lifetime > provider.max_lifetime {
        let usual = provider.max_lifetime.as_secs() / 60;
        let message = format!("ID tokens may live longer than the {usual} minutes of `{}`", provider.name);
        let remedy = "lower it, or say in `waive` why jobs need it";
        place("max_lifetime").warn(faults, (&catalogue::L038, message), remedy);
    }
    let url = common.url();
    let slashed = SLASHED.iter().any(|host| url.host() == *host || url.host().ends_with(&format!(".{host}")));
    if url.as_str().ends_with('/') && !ANY_END.contains(&provider.name) {
        let message = format!("`iss` of `{}` does not end with a slash", provider.name);
        place("url").warn(faults, (&catalogue::L007, message), "remove it, if a token's `iss` has none");
    } else if slashed && !url.as_str().ends_with('/') {
        let message = format!("`iss` at `{}` ends with a slash", url.host());
        place("url").warn(faults, (&catalogue::L007, message), "add it, if a token's `iss` has it");
    }
}
