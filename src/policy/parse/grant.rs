//! `allow` and `versions`: what a rule grants, and where a name takes part of it from the job.

use super::condition;
use crate::identity::provider::Derived;
use crate::identity::provider::Provider;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::package::Pattern;
use crate::policy::condition::Test;
use crate::policy::lint::Duties;
use crate::policy::lint::catalogue;
use crate::policy::pair::Packages;
use crate::policy::pair::Pair;
use crate::policy::pair::Part;
use crate::policy::pair::Template;
use crate::policy::pair::is_version;
use crate::policy::regexp::Regexp;
use crate::policy::rule::Branch;
use crate::policy::text::Text;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Value;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

/// The actions that every registry understands; a registry may have more.
pub(in crate::policy) const ACTIONS: &[&str] = &[Action::UPLOAD, Action::CREATE, "yank", "delete", "tag", "deprecate"];
/// Most (action, pattern) pairs of a rule: all of them must fit into a token.
const MAX_PAIRS: usize = 64;
/// A claim that derived ones are computed from, and whose condition leaves their text open.
const KIND_OF_REF: &str = "ref_type";
/// Most versions of a rule.
const MAX_VERSIONS: usize = 64;
/// What stands for a placeholder when the rest of a name is checked.
const SAMPLE: &str = "a";

/// What a grant is read with: the branches of the rule, which placeholders refer to, none if they are faulty.
#[derive(Clone, Copy)]
pub(super) struct Sources<'r> {
    pub(super) duties: Option<Duties>,
    pub(super) branches: Option<&'r [Branch<'static>]>,
    /// What each package must be within, if the rules are confined.
    pub(super) within: Option<&'r [Pattern]>,
}

pub(super) fn pairs(
    field: &Field<'_>,
    ecosystem: Ecosystem,
    sources: Sources<'_>,
    faults: &mut Faults,
) -> Option<Vec<Pair<'static>>> {
    let before = faults.len();
    let listed = |entry: Field<'_>| if let Value::Seq(items) = &entry.node.value { items.len() } else { 1 };
    let many: usize = field.entries(faults)?.map(listed).sum();
    if many > MAX_PAIRS {
        let message = format!("grants {many} pairs, and a token has room for {MAX_PAIRS}");
        field.fault(faults, message, "use a pattern (`widgets-*`), or several rules");
        return None;
    }
    let mut pairs: Vec<Pair<'static>> = Vec::new();
    let mut named = false;
    for entry in field.entries(faults)? {
        let Some(action) = action(&entry, faults) else { continue };
        let mut any = false;
        for item in entry.items(faults).into_iter().flatten() {
            (any, named) = (true, true);
            let Some(packages) = packages(&item, ecosystem, sources, faults) else { continue };
            let usual = ACTIONS.iter().find(|usual| **usual == action.as_str());
            let action = usual.map_or_else(|| Text::from(action.as_str()), |usual| Text::from_static(usual));
            let pair = Pair { action, packages };
            if pairs.contains(&pair) {
                item.fault(faults, format!("`{pair}` is granted twice"), "remove one");
            } else {
                pairs.push(pair);
            }
        }
        if !any && faults.len() == before {
            entry.fault(faults, "names no package", "write the packages: [widgets, widgets-*]");
        }
    }
    if !named && faults.len() == before {
        field.fault(faults, "grants nothing", "write `{upload: [PACKAGE]}`");
    }
    // A name whose placeholders refer to faulty conditions is left out: those have been reported.
    (faults.len() == before && !pairs.is_empty()).then_some(pairs)
}

fn packages(
    item: &Field<'_>,
    ecosystem: Ecosystem,
    sources: Sources<'_>,
    faults: &mut Faults,
) -> Option<Packages<'static>> {
    let text = item.text(faults)?;
    if text.contains(['{', '}']) {
        let template = template(item, text, sources, faults)?;
        let sample = template.fill(|_| Some(SAMPLE.to_owned())).unwrap_or_default();
        return match PackageName::parse_interpolated(ecosystem, &sample) {
            Ok(_) => {
                let fixed = template.parts().next();
                let fixed = if let Some(Part::Text(text)) = fixed { text.to_ascii_lowercase() } else { String::new() };
                is_within(item, &Pattern::Prefix(fixed), sources.within, faults).then_some(Packages::Template(template))
            }
            Err(error) => {
                let remedy = "around the placeholders, write the name as the registry spells it, without `*`";
                item.fault(faults, format!("the package `{}` {error}", shown(text)), remedy);
                None
            }
        };
    }
    match Pattern::parse(ecosystem, text) {
        Ok(pattern) => is_within(item, &pattern, sources.within, faults)
            .then(|| Packages::Pattern(Text::from(pattern.to_string()))),
        Err(error) => {
            let remedy = "write a package name, or a prefix that ends in a separator and `*`: `widgets-*`";
            item.fault(faults, format!("the package `{}` {error}", shown(text)), remedy);
            None
        }
    }
}

/// SECURITY: a registry that serves its own rules cannot grant what the operator keeps for others.
fn is_within(item: &Field<'_>, pattern: &Pattern, within: Option<&[Pattern]>, faults: &mut Faults) -> bool {
    let Some(within) = within else { return true };
    let inside = within.iter().any(|wide| wide.covers(pattern));
    if !inside {
        let known = within.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        item.fault(faults, "is beyond what this registry's bundle may grant", format!("stay within: {known}"));
    }
    inside
}

pub(super) fn versions(field: &Field<'_>, sources: Sources<'_>, faults: &mut Faults) -> Option<Vec<Template<'static>>> {
    let before = faults.len();
    if let Value::Seq(items) = &field.node.value
        && items.len() > MAX_VERSIONS
    {
        field.fault(faults, format!("has more than {MAX_VERSIONS} versions"), "split the rule");
        return None;
    }
    let mut versions: Vec<Template<'static>> = Vec::new();
    for item in field.items(faults)? {
        let Some(text) = item.text(faults) else { continue };
        let Some(version) = template(&item, text, sources, faults) else { continue };
        if !is_version(&version.fill(|_| Some(SAMPLE.to_owned())).unwrap_or_default()) {
            let remedy = "use up to 64 letters, digits, `.`, `-`, `_`, `+`, `~` and `!`";
            item.fault(faults, format!("`{}` is not a version", shown(text)), remedy);
        } else if versions.contains(&version) {
            item.fault(faults, format!("`{version}` is listed twice"), "remove one");
        } else {
            versions.push(version);
        }
    }
    if versions.is_empty() && faults.len() == before {
        field.fault(faults, "is empty", "list the versions, or remove the line");
    }
    (faults.len() == before).then_some(versions)
}

/// A text whose placeholders each have a value in every job that the rule lets in.
fn template(field: &Field<'_>, text: &str, sources: Sources<'_>, faults: &mut Faults) -> Option<Template<'static>> {
    let written = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            field.fault(faults, format!("`{}` {error}", shown(text)), "write placeholders as in `acme-{component}`");
            return None;
        }
    };
    let (Some(duties), Some(branches)) = (sources.duties, sources.branches) else {
        // The conditions are faulty, and have been reported.
        let fixed = written.placeholders().next().is_none();
        return fixed.then_some(written);
    };
    let mut resolved = String::new();
    for part in written.parts() {
        match part {
            Part::Text(text) => resolved.push_str(text),
            Part::Placeholder(name) => {
                let source = placeholder(field, name, duties, branches, faults)?;
                resolved.extend(["{", source, "}"]);
            }
        }
    }
    Template::parse(&resolved).ok()
}

/// What a placeholder stands for: a group that each branch's regular expressions have, or a claim that each branch has
/// a condition on, directly or through what it is derived from.
///
/// SECURITY: a claim that no condition is about is the job's own choice, and so would be the package.
fn placeholder<'n>(
    field: &Field<'_>,
    name: &'n str,
    duties: Duties,
    branches: &[Branch<'_>],
    faults: &mut Faults,
) -> Option<&'n str> {
    let count = |branch: &Branch<'_>| {
        branch.conditions.iter().flat_map(|condition| captures(&condition.test)).filter(|group| *group == name).count()
    };
    let groups = |branch: &Branch<'_>| count(branch) > 0;
    let claim = duties.provider.resolve(name);
    let read = |branch: &Branch<'_>| {
        let conditions =
            branch.conditions.iter().filter(|condition| is_about(duties.provider, &condition.claim, claim));
        conditions.into_iter().any(|condition| !matches!(condition.test, Test::Absent))
    };
    let (captured, known) = (branches.iter().all(groups), branches.iter().all(read));
    let fault = match (captured, known) {
        _ if branches.iter().any(|branch| count(branch) > 1) => {
            format!("`{{{}}}` is a group of two regular expressions", shown(name))
        }
        (true, true) => format!("`{{{}}}` is both a claim and a group of a regular expression", shown(name)),
        (true, false) => return Some(name),
        (false, true) if condition::is_scalar(claim, duties) => return Some(claim),
        (false, true) => {
            let message = format!("`{}` is no text, so it cannot be part of a name", shown(name));
            field.fault(faults, (&catalogue::L036, message), "name a claim that is text");
            return None;
        }
        (false, false) if branches.iter().any(|branch| groups(branch) || read(branch)) => {
            format!("`{{{}}}` has no value in one of the blocks of `any_of`", shown(name))
        }
        (false, false) => format!("`{{{}}}` is neither a claim with a condition nor a group", shown(name)),
    };
    let remedy = "name a claim that `when` has a condition on, or a group of its `regex`: `(?<component>…)`";
    field.fault(faults, fault, remedy);
    None
}

/// Whether a condition on `condition` says something about `claim`.
///
/// SECURITY: what kind of ref it is says nothing of the tag's text, which is then the job's own choice.
fn is_about(provider: &Provider, condition: &str, claim: &str) -> bool {
    let derived = provider.derived.iter().find(|derived| derived.claim.name == claim);
    let source = |derived: &Derived| condition != KIND_OF_REF && derived.from.contains(&condition);
    condition == claim || derived.is_some_and(source)
}

fn captures<'t>(test: &'t Test<'_>) -> impl Iterator<Item = &'t str> {
    let regexp = match test {
        Test::Regex(regexp) => Some(regexp),
        Test::Is(_)
        | Test::In(_)
        | Test::Glob(_)
        | Test::Contains(_)
        | Test::Exactly(_)
        | Test::Present
        | Test::Absent
        | Test::SameAs(_)
        | Test::Not(_) => None,
    };
    regexp.into_iter().flat_map(Regexp::groups)
}

/// The action that a key names.
pub(super) fn action(entry: &Field<'_>, faults: &mut Faults) -> Option<Action> {
    let name = entry.name();
    if name == Action::READ {
        entry.fault_at_key(faults, "every token may read its own packages", "remove the line");
        return None;
    }
    let action = Action::parse(name);
    if let Some(action) = action.as_ref().filter(|_| ACTIONS.contains(&name)) {
        return Some(action.clone());
    }
    let meant = nearest(name, ACTIONS.iter().copied());
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
