//! `rules`: who may publish what.

use super::Scope;
use super::World;
use super::codec;
use super::condition;
use super::grant;
use super::grant::Sources;
use crate::identity::provider::Span;
use crate::package::Ecosystem;
use crate::policy::lint;
use crate::policy::lint::Duties;
use crate::policy::lint::Waiving;
use crate::policy::regexp::Regexps;
use crate::policy::registry::Registry;
use crate::policy::rule::Branch;
use crate::policy::rule::Mode;
use crate::policy::rule::Rule;
use crate::policy::text::Text;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Fields;
use crate::policy::yaml::shown;

pub(in crate::policy) const KEYS: &[&str] = &[
    "registry",
    "issuer",
    "span",
    "when",
    "allow",
    "versions",
    "ttl",
    "max_size",
    "single_use",
    "mode",
    "enabled",
    "waive",
];

pub(super) fn rule(
    entry: &Field<'_>,
    world: &World,
    scope: Option<&Scope<'_>>,
    regexps: &mut Regexps,
    faults: &mut Faults,
) -> Option<Rule<'static>> {
    let fields = entry.fields(KEYS, faults)?;
    lint::waivers(entry, if scope.is_some() { Waiving::Refused } else { Waiving::Allowed }, faults);
    let registry = registry(&fields, world, scope, faults);
    let issuer = fields.require("issuer", "add the name of the issuer whose jobs it lets in", faults);
    let issuer = issuer.filter(|field| is_within(field, scope, faults));
    let issuer = issuer.and_then(|field| super::refer(&field, &world.issuers, "issuer", faults));
    let when = fields.require("when", "add the conditions on the token's claims", faults);
    let allow = fields.require("allow", "add what it grants: `allow: {upload: [PACKAGE]}`", faults);
    let single_use = fields.get("single_use").map_or(Some(false), |field| field.boolean(faults));
    let mode = mode(&fields, faults);
    let max_size = fields.get("max_size").map_or(Some(None), |field| field.bytes(faults).map(Some));

    let entry_of_registry: Option<&Registry> = registry.and_then(|number| world.registry(number)).map(|r| &**r);
    let issuer_name = fields.get("issuer").and_then(|field| field.text(&mut Faults::new()));
    let duties = issuer_name.and_then(|name| world.duties.get(name)).copied();
    let duties = match (fields.get("span"), duties) {
        (Some(field), Some(duties)) => span(&field, duties, faults).map(|span| Duties { span: Some(span), ..duties }),
        (Some(_) | None, duties) => duties,
    };
    let dialect = entry_of_registry.map(|registry| registry.dialect);
    let ttl = fields.get("ttl").map_or(Some(None), |field| super::registry::ttl(&field, dialect, faults).map(Some));
    let branches = match (when, duties) {
        (Some(when), Some(duties)) => branches(&when, duties, regexps, faults),
        (Some(_) | None, Some(_) | None) => None,
    };
    // Without the registry, names are read as the laxest ecosystem does, to report what is wrong in any of them.
    let ecosystem = entry_of_registry.map_or(Ecosystem::Generic, Registry::ecosystem);
    let within = scope.and_then(|scope| scope.packages);
    let sources = Sources { duties, branches: branches.as_deref(), within };
    let pairs = allow.and_then(|field| grant::pairs(&field, ecosystem, sources, faults));
    let versions = fields.get("versions").map_or(Some(Vec::new()), |field| grant::versions(&field, sources, faults));
    let sayable = entry_of_registry.is_none_or(|registry| codec::can_say(registry.codec, &fields, faults));
    let rule = Rule {
        id: match scope {
            Some(scope) => Text::from(format!("{}/{}", scope.registry, entry.name())),
            None => Text::from(entry.name()),
        },
        registry: registry?,
        issuer: issuer?,
        mode: mode?,
        single_use: single_use?,
        branches: branches?,
        pairs: pairs?,
        versions: versions?,
        ttl: ttl?,
        max_size: max_size?,
    };
    if let Some(duties) = duties {
        lint::rule(entry, &rule, duties, faults);
    }
    sayable.then_some(rule)
}

/// For which projects of an owner a rule says that it is.
///
/// SECURITY: the one way to leave a project's id out, and so that it is one, it is said in words and still pins the owner.
fn span(field: &Field<'_>, duties: Duties, faults: &mut Faults) -> Option<&'static Span> {
    let name = field.text(faults)?;
    let found = duties.provider.span(name);
    if found.is_none() {
        let known = duties.provider.spans.iter().map(|span| format!("`{}`", span.name)).collect::<Vec<_>>();
        let remedy = if known.is_empty() {
            format!("remove the line: a rule for `{}` is for one project", duties.provider.name)
        } else {
            format!("known for `{}`: {}", duties.provider.name, known.join(", "))
        };
        field.fault(faults, format!("there is no span `{}`", shown(name)), remedy);
    }
    found
}

/// The registry that a rule is for. A bundle's rules are for the registry that serves it.
pub(super) fn registry(
    fields: &Fields<'_>,
    world: &World,
    scope: Option<&Scope<'_>>,
    faults: &mut Faults,
) -> Option<u32> {
    let Some(scope) = scope else {
        let field = fields.require("registry", "add the name of the registry that it is for", faults)?;
        return super::refer(&field, &world.registries, "registry", faults);
    };
    if let Some(field) = fields.get("registry")
        && field.text(faults)? != scope.registry
    {
        let message = format!("a bundle's rules are for the registry that serves it, `{}`", scope.registry);
        field.fault(faults, message, "remove the line");
        return None;
    }
    world.registries.get(scope.registry).copied().flatten()
}

/// SECURITY: a registry that serves its own rules cannot choose whom the operator trusts to vouch for jobs.
pub(super) fn is_within(issuer: &Field<'_>, scope: Option<&Scope<'_>>, faults: &mut Faults) -> bool {
    let (Some(scope), Some(name)) = (scope, issuer.text(&mut Faults::new())) else { return true };
    let within = scope.issuers.iter().any(|known| known == name);
    if !within {
        let message = format!("the issuer `{}` is not one that bundles of `{}` may name", shown(name), scope.registry);
        issuer.fault(faults, message, format!("name one of: {}", scope.issuers.join(", ")));
    }
    within
}

fn mode(fields: &Fields<'_>, faults: &mut Faults) -> Option<Mode> {
    let enabled = fields.get("enabled").map_or(Some(true), |field| field.boolean(faults));
    let Some(field) = fields.get("mode") else {
        return enabled.map(|enabled| if enabled { Mode::Enforce } else { Mode::Off });
    };
    if let Some(enabled) = fields.get("enabled") {
        enabled.fault_at_key(faults, "says the same as `mode`", "keep `mode` alone: `enforce`, `shadow` or `off`");
    }
    super::choice(&field, &Mode::ALL.map(|mode| (mode.name(), mode)), faults)
}

/// The ways into a rule, each checked by lint as if it were the only one: a rule is as safe as its laxest branch.
fn branches(
    when: &Field<'_>,
    duties: Duties,
    regexps: &mut Regexps,
    faults: &mut Faults,
) -> Option<Vec<Branch<'static>>> {
    let before = faults.len();
    let pins = duties.pins();
    let reader = condition::Reader { duties, pins: &pins };
    if !condition::is_small(when, faults) {
        return None;
    }
    let common = condition::block(when, reader, regexps, faults);
    let branch = |conditions: Vec<_>| Branch { implied: condition::implied(duties.provider, &conditions), conditions };
    let Some(any_of) = condition::any_of(when, faults) else {
        lint::conditions(when, None, duties, &common.conditions, &common.reported, faults);
        return (faults.len() == before).then(|| vec![branch(common.conditions)]);
    };
    let mut branches = Vec::new();
    for block in any_of.items(faults).into_iter().flatten() {
        condition::refuse_nested(&block, faults);
        if !condition::is_small(&block, faults) {
            continue;
        }
        let own = condition::block(&block, reader, regexps, faults);
        let conditions: Vec<_> = common.conditions.iter().cloned().chain(own.conditions).collect();
        let reported: Vec<&str> = common.reported.iter().chain(&own.reported).copied().collect();
        // What is wrong with the common conditions is found in each branch, and told once.
        lint::conditions(when, Some(&block), duties, &conditions, &reported, faults);
        branches.push(branch(conditions));
    }
    (faults.len() == before).then_some(branches)
}
