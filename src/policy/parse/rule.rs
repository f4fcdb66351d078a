//! `rules`: who may publish what.

use super::Texts;
use super::World;
use super::condition;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::Pattern;
use crate::package::Permission;
use crate::policy::lint;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

pub(in crate::policy) const KEYS: &[&str] =
    &["registry", "issuer", "when", "allow", "ttl", "max_size", "single_use", "enabled"];
/// The actions that every registry understands; a registry may have more.
pub(in crate::policy) const ACTIONS: &[&str] = &[Action::UPLOAD, Action::CREATE, "yank", "delete", "tag", "deprecate"];
/// Most (action, pattern) pairs of a rule: all of them must fit into a token.
const MAX_PAIRS: usize = 64;

pub(super) fn rule(entry: &Field<'_>, world: &World<'_>, texts: &mut Texts, faults: &mut Faults) -> Option<Rule> {
    let fields = entry.fields(KEYS, faults)?;
    let registry = fields.require("registry", "add the name of the registry that it is for", faults);
    let registry = registry.and_then(|field| super::refer(&field, &world.registries, "registry", faults));
    let issuer = fields.require("issuer", "add the name of the issuer whose jobs it lets in", faults);
    let issuer = issuer.and_then(|field| super::refer(&field, &world.issuers, "issuer", faults));
    let when = fields.require("when", "add the conditions on the token's claims", faults);
    let allow = fields.require("allow", "add what it grants: `allow: {upload: [PACKAGE]}`", faults);
    let single_use = fields.get("single_use").map_or(Some(false), |field| field.boolean(faults));
    let enabled = fields.get("enabled").map_or(Some(true), |field| field.boolean(faults));
    let max_size = fields.get("max_size").map_or(Some(None), |field| field.bytes(faults).map(Some));

    let entry_of_registry: Option<&Registry> = registry.and_then(|n| world.registry_list.get(usize::try_from(n).ok()?));
    let issuer_name = fields.get("issuer").and_then(|field| field.text(&mut Faults::new()));
    let duties = issuer_name.and_then(|name| world.duties.get(name));
    let dialect = entry_of_registry.map(|registry| registry.dialect);
    let ttl = fields.get("ttl").map_or(Some(None), |field| super::registry::ttl(&field, dialect, faults).map(Some));
    // Without the registry, names are read as the laxest ecosystem does, to report what is wrong in any of them.
    let ecosystem = entry_of_registry.map_or(Ecosystem::Generic, Registry::ecosystem);
    let permissions = allow.and_then(|field| permissions(&field, ecosystem, faults));
    let conditions = match (when, duties) {
        (Some(when), Some(duties)) => {
            let (conditions, reported) = condition::conditions(&when, *duties, texts, faults);
            let safe = lint::conditions(&when, *duties, &conditions, &reported, faults);
            (safe && reported.is_empty()).then(|| (condition::implied(duties.provider, &conditions), conditions))
        }
        (Some(_) | None, Some(_) | None) => None,
    };
    let (implied, conditions) = conditions?;
    Some(Rule {
        id: Box::from(entry.name()),
        registry: registry?,
        issuer: issuer?,
        conditions: conditions.into_boxed_slice(),
        implied,
        permissions: permissions?.into_boxed_slice(),
        ttl: ttl?,
        max_size: max_size?,
        single_use: single_use?,
        enabled: enabled?,
    })
}

fn permissions(field: &Field<'_>, ecosystem: Ecosystem, faults: &mut Faults) -> Option<Vec<Permission>> {
    let before = faults.len();
    let mut pairs: Vec<Permission> = Vec::new();
    for entry in field.entries(faults)? {
        let Some(action) = action(&entry, faults) else { continue };
        let mut any = false;
        for item in entry.items(faults).into_iter().flatten() {
            any = true;
            let Some(text) = item.text(faults) else { continue };
            match Pattern::parse(ecosystem, text) {
                Ok(pattern) => {
                    let pair = Permission { action: action.clone(), pattern };
                    if pairs.contains(&pair) {
                        item.fault(faults, format!("`{pair}` is granted twice"), "remove one");
                    } else {
                        pairs.push(pair);
                    }
                }
                Err(error) => {
                    let remedy = "write a package name, or a prefix that ends in a separator and `*`: `widgets-*`";
                    item.fault(faults, format!("the package `{}` {error}", shown(text)), remedy);
                }
            }
        }
        if !any && faults.len() == before {
            entry.fault(faults, "names no package", "write the packages: [widgets, widgets-*]");
        }
    }
    if pairs.is_empty() && faults.len() == before {
        field.fault(faults, "grants nothing", "write `{upload: [PACKAGE]}`");
    }
    if pairs.len() > MAX_PAIRS {
        let message = format!("grants {} pairs, and a token has room for {MAX_PAIRS}", pairs.len());
        field.fault(faults, message, "use a pattern (`widgets-*`), or several rules");
    }
    (faults.len() == before).then_some(pairs)
}

fn action(entry: &Field<'_>, faults: &mut Faults) -> Option<Action> {
    let name = entry.name();
    if name == Action::READ {
        entry.fault_at_key(faults, "every token may read its own packages", "remove the line");
        return None;
    }
    let action = Action::parse(name);
    let meant = nearest(name, ACTIONS.iter().copied()).filter(|meant| *meant != name);
    match (action, meant) {
        (Some(action), None) => Some(action),
        (_, Some(meant)) => {
            let remedy = format!("did you mean `{meant}`?");
            entry.fault_at_key(faults, format!("unknown action `{}`", shown(name)), remedy);
            None
        }
        (None, None) => {
            let remedy = "use lower-case letters and hyphens, such as `upload` or `create`";
            entry.fault_at_key(faults, format!("`{}` is not an action", shown(name)), remedy);
            None
        }
    }
}
