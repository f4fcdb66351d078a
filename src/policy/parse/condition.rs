//! `when`: conditions on claims, typed by the issuer's preset. Nothing is coerced.

use super::Texts;
use crate::identity::provider::Case;
use crate::identity::provider::Claim;
use crate::identity::provider::Form;
use crate::identity::provider::Kind;
use crate::identity::provider::Provider;
use crate::policy::glob::Glob;
use crate::policy::glob::GlobError;
use crate::policy::lint::Duties;
use crate::policy::rule::Condition;
use crate::policy::rule::Literal;
use crate::policy::rule::Test;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Value;
use crate::policy::yaml::is_invisible;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

pub(in crate::policy) const OPERATORS: &[&str] = &["is", "in", "glob", "present", "absent"];
/// Most literals of one `in`.
const MAX_LITERALS: usize = 256;

/// Reads conditions. The claims of those that are faulty are given apart: they have been reported, and lint does not
/// call them missing.
pub(super) fn conditions<'a>(
    when: &'a Field<'a>,
    duties: Duties,
    kept: &mut Texts,
    faults: &mut Faults,
) -> (Vec<Condition>, Vec<&'a str>) {
    let (mut conditions, mut reported) = (Vec::new(), Vec::new());
    let pins = duties.pins();
    for entry in when.entries(faults).into_iter().flatten() {
        let before = faults.len();
        let Known { name, kind, case, form } = match claim(&entry, duties, faults) {
            Ok(claim) => claim,
            Err(meant) => {
                reported.push(meant);
                continue;
            }
        };
        let tests = match &entry.node.value {
            Value::Map(_) => operators(&entry, name, kind, kept, faults),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Seq(_) => {
                literal(&entry, name, kind, kept, faults).map(Test::Is).into_iter().collect()
            }
        };
        for test in tests {
            let mut condition = Condition { claim: kept.keep(name), test, case, pin: false };
            condition.pin = pins.contains(&name) && !condition.literals().is_empty();
            check_form(&entry, &condition, form, faults);
            conditions.push(condition);
        }
        if faults.len() > before {
            reported.push(name);
        }
    }
    (conditions, reported)
}

/// Which implied conditions apply: those whose claim the rule does not name itself.
pub(super) fn implied(provider: &Provider, conditions: &[Condition]) -> u16 {
    let replaced = |claim: &str, prefix: Option<&str>| {
        let names = |condition: &Condition| {
            &*condition.claim == claim || prefix.is_some_and(|prefix| condition.claim.starts_with(prefix))
        };
        conditions.iter().any(names)
    };
    let applies = provider.implied.iter().zip(0..16).filter(|(i, _)| !replaced(i.claim, i.unless_prefix));
    applies.fold(0, |mask, (_, bit)| mask | 1 << bit)
}

/// A claim that the tokens of an issuer can have.
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    case: Case,
    form: Form,
}

/// The claim that a key names; else the name that was probably meant.
pub(super) fn claim<'a>(entry: &Field<'a>, duties: Duties, faults: &mut Faults) -> Result<Known<'a>, &'a str> {
    let provider = duties.provider;
    let name = provider.resolve(entry.name());
    // SECURITY: by a second spelling a claim would escape what lint demands of it by name.
    if let Some(member) = name.strip_prefix('/').filter(|member| !member.contains('/')) {
        let message = format!("L035: `{}` is a JSON pointer to a top-level claim", shown(name));
        entry.fault_at_key(faults, message, format!("write `{}`", shown(member)));
        return Err(member);
    }
    if let Some(Claim { kind, case, form, .. }) = provider.claim(name) {
        return Ok(Known { name, kind, case, form });
    }
    if duties.segment == Some(name) {
        return Ok(Known { name, kind: Kind::String, case: Case::Exact, form: Form::Free });
    }
    // A JSON pointer is known if the member that it begins with is.
    let member = name.strip_prefix('/').and_then(|pointer| pointer.split('/').next());
    let known = provider.claims.is_empty() || member.is_some_and(|member| provider.claim(member).is_some());
    if known && !name.is_empty() {
        return Ok(Known { name, kind: Kind::Any, case: Case::Exact, form: Form::Free });
    }
    let claims = provider.claims.iter().map(|claim| claim.name);
    let derived = provider.derived.iter().map(|derived| derived.claim.name);
    let aliases = provider.aliases.iter().map(|(alias, _)| *alias);
    let mut names: Vec<&str> = claims.chain(derived).chain(aliases).chain(duties.segment).collect();
    names.sort_unstable();
    let meant = nearest(name, names.iter().copied());
    let remedy = match meant {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known claims: {}", names.join(", ")),
    };
    let message = format!("L035: tokens of `{}` have no claim `{}`", provider.name, shown(name));
    entry.fault_at_key(faults, message, remedy);
    Err(meant.unwrap_or(name))
}

/// An identifier in another spelling than its provider's never matches: a rule that can never match is an outage.
fn check_form(entry: &Field<'_>, condition: &Condition, form: Form, faults: &mut Faults) {
    // What lint finds in a pin of any form is said once.
    let is_text = |text: &&str| !condition.pin || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()));
    for text in condition.texts().filter(is_text).filter(|text| !form.fits(text)) {
        let message = format!("L046: `{}` is not how `{}` is spelled in tokens", shown(text), shown(entry.name()));
        // The commonest slip: an identifier copied without its braces, or with them, or in capitals.
        let plain = text.trim_matches(['{', '}']).to_ascii_lowercase();
        let meant = [plain.clone(), format!("{{{plain}}}")].into_iter().find(|meant| form.fits(meant));
        let remedy = match meant {
            Some(meant) => format!("write `\"{}\"`", shown(&meant)),
            None => format!("write it as in `\"{}\"`", form.example()),
        };
        entry.fault(faults, message, remedy);
    }
}

/// The operators of one claim, all of which must hold.
fn operators(entry: &Field<'_>, name: &str, kind: Kind, kept: &mut Texts, faults: &mut Faults) -> Vec<Test> {
    let mut tests = Vec::new();
    let Some(fields) = entry.fields(OPERATORS, faults) else { return tests };
    if let Some(field) = fields.get("is") {
        tests.extend(literal(&field, name, kind, kept, faults).map(Test::Is));
    }
    if let Some(field) = fields.get("in") {
        tests.extend(literals(&field, name, kind, kept, faults).map(Test::In));
    }
    if let Some(field) = fields.get("glob") {
        tests.extend(glob(&field, name, kind, faults).map(Test::Glob));
    }
    for (key, other, test) in [("present", "absent", Test::Present), ("absent", "present", Test::Absent)] {
        let Some(field) = fields.get(key) else { continue };
        match field.boolean(faults) {
            Some(true) => tests.push(test),
            Some(false) => field.fault(faults, format!("`{key}` can only be `true`"), format!("write `{other}: true`")),
            None => {}
        }
    }
    if fields.get("absent").is_some() && tests.len() > 1 {
        entry.fault(faults, "an absent claim can satisfy no other operator", "keep `absent: true` or the others");
    }
    if matches!(&entry.node.value, Value::Map(entries) if entries.is_empty()) {
        entry.fault(faults, "has no operator", format!("known operators: {}", OPERATORS.join(", ")));
    }
    tests
}

fn literals(
    field: &Field<'_>,
    name: &str,
    kind: Kind,
    kept: &mut Texts,
    faults: &mut Faults,
) -> Option<Box<[Literal]>> {
    let before = faults.len();
    let mut literals = Vec::new();
    for item in field.items(faults)? {
        let Some(literal) = literal(&item, name, kind, kept, faults) else { continue };
        if literals.contains(&literal) {
            item.fault(faults, format!("`{literal}` is listed twice"), "remove one");
        }
        literals.push(literal);
    }
    if literals.is_empty() && faults.len() == before {
        field.fault(faults, "is empty, so it matches nothing", "list at least one value");
    }
    if literals.len() > MAX_LITERALS {
        field.fault(faults, format!("has {} values, more than {MAX_LITERALS}", literals.len()), "split the rule");
    }
    (faults.len() == before).then(|| literals.into_boxed_slice())
}

/// A literal of the claim's type.
fn literal(field: &Field<'_>, name: &str, kind: Kind, kept: &mut Texts, faults: &mut Faults) -> Option<Literal> {
    let node = field.node;
    let wrong = |faults: &mut Faults, wanted: &str, remedy: String| {
        let message = format!("L036: `{}` is {wanted}, and this is {}", shown(name), node.value.type_name());
        field.fault(faults, message, remedy);
        None
    };
    match (kind, &node.value) {
        (Kind::List, _) => {
            let message = format!("L036: `{}` is a list, which cannot be compared with one value", shown(name));
            field.fault(faults, message, "use `{present: true}` or `{absent: true}`");
            None
        }
        (_, Value::Null) if node.is_refused() => None,
        (_, Value::Null) => {
            field.fault(faults, "has no value", "give it a value; `{present: true}` matches any, `\"\"` is empty text");
            None
        }
        (_, Value::Seq(_)) => {
            field.fault(faults, "a list is no value to compare with", "write `{in: […]}` for one of several");
            None
        }
        (_, Value::Map(_)) => {
            field.fault(faults, "a map is no value to compare with", "write a plain value");
            None
        }
        (Kind::String | Kind::Any, Value::String(text)) => {
            check_text(field, text, faults).then(|| Literal::Text(kept.keep(text)))
        }
        (Kind::Integer | Kind::Any, Value::Int(number)) => Some(Literal::Int(*number)),
        (Kind::Bool | Kind::Any, Value::Bool(value)) => Some(Literal::Bool(*value)),
        (Kind::Any, Value::Float(_)) => {
            field.fault(faults, "a number with a fraction is no identifier", format!("quote it: {}", node.quoted()));
            None
        }
        (Kind::String, Value::Bool(_) | Value::Int(_) | Value::Float(_)) => {
            wrong(faults, "text", format!("quote it: {}", node.quoted()))
        }
        (Kind::Integer, Value::String(_)) => wrong(faults, "an integer", "remove the quotes".to_owned()),
        (Kind::Integer, Value::Bool(_) | Value::Float(_)) => wrong(faults, "an integer", "write digits".to_owned()),
        (Kind::Bool, Value::String(text)) if text == "true" || text == "false" => {
            wrong(faults, "a boolean", "remove the quotes".to_owned())
        }
        (Kind::Bool, Value::String(_) | Value::Int(_) | Value::Float(_)) => {
            wrong(faults, "a boolean", "write `true` or `false`".to_owned())
        }
    }
}

/// Refuses text that does not say what it seems to say.
fn check_text(field: &Field<'_>, text: &str, faults: &mut Faults) -> bool {
    if text.trim() != text {
        field.fault(faults, "begins or ends with white space", "remove it");
    } else if text.contains(is_invisible) {
        field.fault(faults, format!("L047: `{}` has an invisible character", shown(text)), "remove it");
    } else if text.contains('*') {
        let remedy = format!("write `{{glob: {:?}}}` for a pattern", shown(text));
        field.fault(faults, format!("`{}` is compared as it stands, and its `*` with a `*`", shown(text)), remedy);
    } else {
        return true;
    }
    false
}

fn glob(field: &Field<'_>, name: &str, kind: Kind, faults: &mut Faults) -> Option<Glob> {
    let text = field.text(faults)?;
    match kind {
        Kind::String | Kind::Any => {}
        Kind::Integer | Kind::Bool | Kind::List => {
            field.fault(
                faults,
                format!("L036: `{}` is not text, which a glob needs", shown(name)),
                "compare it with `is`",
            );
            return None;
        }
    }
    match Glob::parse(text) {
        Ok(glob) => Some(glob),
        Err(error) => {
            let remedy = match error {
                GlobError::Literal => "write it as a plain value",
                GlobError::Everything => "write `{present: true}`",
                GlobError::Stars => "`*` stays within a segment, `**` crosses segments",
                GlobError::TooLong => "write a shorter pattern",
                GlobError::Control => "remove it",
            };
            field.fault(faults, format!("the pattern `{}` {error}", shown(text)), remedy);
            None
        }
    }
}
