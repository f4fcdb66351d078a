//! What a rule as a whole leaves open: whose source may publish, and whose name a placeholder makes.

use super::Duties;
use super::catalogue;
use super::refs;
use crate::identity::provider::Span;
use crate::package::Action;
use crate::policy::condition::Literal;
use crate::policy::condition::Test;
use crate::policy::pair::Packages;
use crate::policy::pair::Pair;
use crate::policy::pair::Template;
use crate::policy::rule::Branch;
use crate::policy::rule::Rule;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;

/// More pairs than one workflow publishes by itself.
const MANY: usize = 24;

/// Findings about a rule that is otherwise sound.
pub(in crate::policy) fn rule(entry: &Field<'_>, rule: &Rule<'_>, duties: Duties, faults: &mut Faults) {
    narrowed(entry, rule, duties, faults);
    refs::check(entry, rule, duties, faults);
    much(entry, rule, faults);
    match (duties.span, duties.provider.spans) {
        (Some(span), _) => interpolated(entry, rule, duties, span, faults),
        (None, [span, ..]) => of_several_owners(entry, rule, duties, span, faults),
        (None, []) => {}
    }
}

/// What one compromised job could publish.
fn much(entry: &Field<'_>, rule: &Rule<'_>, faults: &mut Faults) {
    let opens = |pair: &&Pair<'_>| pair.action() == Action::CREATE && is_pattern(pair);
    let message = if let Some(pair) = rule.pairs().iter().find(opens) {
        format!("`{pair}` lets one job make any number of new packages")
    } else if rule.pairs().len() > MANY {
        format!("grants {} pairs: one compromised job could publish all of them", rule.pairs().len())
    } else {
        return;
    };
    entry.warn_at_key(faults, (&catalogue::L040, message), "grant each workflow its own packages, by name");
}

fn is_pattern(pair: &Pair<'_>) -> bool {
    matches!(pair.packages(), Packages::Pattern(text) if text.ends_with('*'))
}

/// SECURITY: where the pins say nothing of the source that is built, a fork's pull request has all of them.
fn narrowed(entry: &Field<'_>, rule: &Rule<'_>, duties: Duties, faults: &mut Faults) {
    let narrows = duties.provider.narrows;
    let names_source = |branch: &Branch<'_>| {
        branch.conditions().iter().any(|condition| {
            let closed = matches!(condition.test(), Test::Is(_) | Test::In(_) | Test::Glob(_) | Test::Regex(_));
            closed && narrows.contains(&condition.claim())
        })
    };
    if !narrows.is_empty() && !rule.branches().iter().all(names_source) {
        let names = narrows.iter().map(|claim| format!("`{}`", duties.provider.shown(claim))).collect::<Vec<_>>();
        let message = "any source of the project can publish, a fork's or an unreviewed branch among them";
        let remedy = format!("add a condition on one of {}", names.join(", "));
        entry.fault_at_key(faults, (&catalogue::L017, message), remedy);
    }
}

/// SECURITY: a rule for all projects of an owner whose grant takes part of the name from the job: two jobs must never
/// make one name of different parts.
fn interpolated(entry: &Field<'_>, rule: &Rule<'_>, duties: Duties, span: &Span, faults: &mut Faults) {
    let several = |template: &Template<'_>| template.placeholders().count() > 1;
    // Any project can have a tag, or an environment, of any name; and a group of a regular expression hides a claim of
    // its name.
    let captured = |name: &str| {
        let conditions = rule.branches().iter().flat_map(Branch::conditions);
        conditions.into_iter().any(|condition| match condition.test() {
            Test::Regex(regexp) => regexp.groups().any(|group| group == name),
            Test::Is(_) | Test::In(_) | Test::Glob(_) | Test::Contains(_) | Test::Exactly(_) => false,
            Test::Present | Test::Absent | Test::SameAs(_) | Test::Not(_) => false,
        })
    };
    let foreign = |name: &&str| !span.names.contains(name) || captured(name);
    if let Some(name) = rule.package_templates().flat_map(Template::placeholders).find(foreign) {
        let message = format!(
            "`{{{name}}}` does not tell the projects of this rule apart, so two can meet in one package's name"
        );
        let remedy = match span.names {
            [] => {
                format!("write a rule for each project: no claim of `{}` names a project alone", duties.provider.name)
            }
            names => format!("take the name from `{{{}}}`, or write a rule for each project", names.join("}`, `{")),
        };
        entry.fault_at_key(faults, (&catalogue::L051, message), remedy);
        return;
    }
    let mut packages = rule.package_templates().peekable();
    if packages.peek().is_none() {
        return;
    }
    if packages.any(several) || !has_one_owner(rule, &duties.pins()) {
        let message = "projects of this rule can meet in one package's name";
        let remedy = "use one placeholder in each name, and pin one owner";
        entry.fault_at_key(faults, (&catalogue::L051, message), remedy);
    } else {
        let message = "whoever can create a project there can take the package's name that follows from it";
        let remedy = "write a rule for each project, or say in `waive` who may create projects";
        entry.warn_at_key(faults, (&catalogue::L052, message), remedy);
    }
}

/// SECURITY: a rule that lists projects of several owners knows them, but not that two of them have one name.
fn of_several_owners(entry: &Field<'_>, rule: &Rule<'_>, duties: Duties, span: &Span, faults: &mut Faults) {
    let owners: Vec<&'static str> = duties.pins().into_iter().filter(|pin| !span.frees.contains(pin)).collect();
    if rule.package_templates().next().is_some() && !has_one_owner(rule, &owners) {
        let message = "projects of several owners can meet in one package's name";
        entry.fault_at_key(faults, (&catalogue::L051, message), "write a rule for each owner");
    }
}

/// Whether every branch pins the same owner, by one literal for each of its identifiers.
fn has_one_owner(rule: &Rule<'_>, owners: &[&'static str]) -> bool {
    let one_owner = |branch: &Branch<'_>| {
        let pins = branch.conditions().iter().filter(|condition| owners.contains(&condition.claim()));
        pins.filter(|pin| pin.is_pin()).all(|pin| matches!(pin.literals(), [Literal::Text(_) | Literal::Int(_)]))
    };
    let first = rule.branches().first().map(owner_of(owners));
    let same = rule.branches().iter().map(owner_of(owners)).all(|owner| Some(owner) == first);
    same && rule.branches().iter().all(one_owner)
}

/// What a branch says of the owner.
fn owner_of<'r>(owners: &'r [&'static str]) -> impl Fn(&Branch<'_>) -> Vec<String> + 'r {
    |branch| {
        let pins = branch.conditions().iter().filter(|c| c.is_pin() && owners.contains(&c.claim()));
        pins.map(|pin| format!("{} {}", pin.claim(), pin.test())).collect()
    }
}
