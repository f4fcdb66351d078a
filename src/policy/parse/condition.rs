//! `when`: conditions on claims, typed by the issuer's preset. Nothing is coerced.

use crate::identity::provider::Case;
use crate::identity::provider::Claim;
use crate::identity::provider::Form;
use crate::identity::provider::Kind;
use crate::identity::provider::Provider;
use crate::policy::condition::Condition;
use crate::policy::condition::Literal;
use crate::policy::condition::Test;
use crate::policy::lint::Duties;
use crate::policy::lint::catalogue;
use crate::policy::regexp::Regexps;
use crate::policy::text::Text;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Message;
use crate::policy::yaml::Value;
use crate::policy::yaml::is_invisible;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

mod pattern;

use self::pattern::glob;
use self::pattern::regex;

/// What a claim can be compared by.
pub(in crate::policy) const OPERATORS: &[&str] =
    &["is", "in", "glob", "regex", "contains", "exactly", "present", "absent", "same_as", "not"];
/// Those that `not` can negate.
pub(in crate::policy) const NEGATABLE: &[&str] = &["is", "in", "glob", "regex", "contains", "exactly", "same_as"];
/// The key of `when` that is no claim.
pub(in crate::policy) const ANY_OF: &str = "any_of";
/// Most literals of one `in`.
const MAX_LITERALS: usize = 256;
/// Most claims of one `when`, or of one block.
const MAX_CLAIMS: usize = 64;
/// Most blocks of one `any_of`.
const MAX_BLOCKS: usize = 16;

/// The conditions of one `when`, or of one block of its `any_of`.
#[derive(Debug, Default)]
pub(super) struct Block<'a> {
    pub(super) conditions: Vec<Condition<'static>>,
    /// The claims of those that are faulty: they have been reported, and lint does not call them missing.
    pub(super) reported: Vec<&'a str>,
}

/// What the conditions of a rule are read with.
#[derive(Clone, Copy)]
pub(super) struct Reader<'r> {
    pub(super) duties: Duties,
    pub(super) pins: &'r [&'static str],
}

/// Reads the conditions of a `when` or of a block, without its `any_of`.
pub(super) fn block<'a>(
    when: &'a Field<'a>,
    reader: Reader<'_>,
    regexps: &mut Regexps,
    faults: &mut Faults,
) -> Block<'a> {
    let mut block = Block::default();
    for entry in when.entries(faults).into_iter().flatten().filter(|entry| entry.name() != ANY_OF) {
        let before = faults.len();
        let known = match claim(&entry, reader.duties, faults) {
            Ok(claim) => claim,
            Err(meant) => {
                block.reported.push(meant);
                continue;
            }
        };
        let tests = match &entry.node.value {
            Value::Map(_) => operators(&entry, known, OPERATORS, reader.duties, regexps, faults),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Seq(_) => {
                literal(&entry, known, faults).map(Test::Is).into_iter().collect()
            }
        };
        let folded = known.case == Case::AsciiInsensitive;
        for test in tests {
            let mut condition = Condition { claim: known.text(), test, folded, pin: false };
            condition.pin = reader.pins.contains(&known.name) && !condition.literals().is_empty();
            check_form(&entry, &condition, known.form, faults);
            block.conditions.push(condition);
        }
        if faults.len() > before {
            block.reported.push(known.name);
        }
    }
    block
}

/// Whether a `when` or a block has no more claims than one rule needs: lint looks at each beside each.
pub(super) fn is_small(when: &Field<'_>, faults: &mut Faults) -> bool {
    let small = !matches!(&when.node.value, Value::Map(entries) if entries.len() > MAX_CLAIMS);
    if !small {
        when.fault(faults, format!("has conditions on more than {MAX_CLAIMS} claims"), "split the rule");
    }
    small
}

/// SECURITY: an `any_of` within a block that went unread would let in every job that its blocks keep out.
pub(super) fn refuse_nested(block: &Field<'_>, faults: &mut Faults) {
    let nested = block.entries(faults).and_then(|mut entries| entries.find(|entry| entry.name() == ANY_OF));
    if let Some(nested) = nested {
        let remedy = "write its blocks out, each with the conditions that stand beside it";
        nested.fault_at_key(faults, "a block of `any_of` has no `any_of` of its own", remedy);
    }
}

/// The blocks of a `when`'s `any_of`, if it has one.
pub(super) fn any_of<'a>(when: &'a Field<'a>, faults: &mut Faults) -> Option<Field<'a>> {
    let Value::Map(_) = when.node.value else { return None };
    let any_of = when.entries(faults)?.find(|entry| entry.name() == ANY_OF)?;
    match &any_of.node.value {
        Value::Seq(blocks) if blocks.is_empty() => {
            any_of.fault(faults, "is empty, so the rule would match nothing", "list at least two blocks of conditions");
            None
        }
        Value::Seq(blocks) if blocks.len() > MAX_BLOCKS => {
            any_of.fault(faults, format!("has more than {MAX_BLOCKS} blocks"), "split the rule");
            None
        }
        Value::Seq(blocks) => {
            let wrong = blocks.iter().any(|block| !matches!(&block.value, Value::Map(entries) if !entries.is_empty()));
            if wrong {
                any_of.fault(
                    faults,
                    "each block must be a map of conditions",
                    "write `any_of: [{CLAIM: …}, {CLAIM: …}]`",
                );
            }
            (!wrong).then_some(any_of)
        }
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Map(_) => {
            any_of.fault(faults, "must be a list of blocks", "write `any_of: [{CLAIM: …}, {CLAIM: …}]`");
            None
        }
    }
}

/// Which implied conditions apply: those whose claim the branch does not name itself.
pub(super) fn implied(provider: &Provider, conditions: &[Condition<'_>]) -> u16 {
    let replaced = |claim: &str, prefix: Option<&str>| {
        let names = |condition: &Condition<'_>| {
            &*condition.claim == claim || prefix.is_some_and(|prefix| condition.claim.starts_with(prefix))
        };
        conditions.iter().any(names)
    };
    let applies = provider.implied.iter().zip(0..16).filter(|(i, _)| !replaced(i.claim, i.unless_prefix));
    applies.fold(0, |mask, (_, bit)| mask | 1 << bit)
}

/// A claim that the tokens of an issuer can have.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) name: &'a str,
    /// The name as the preset has it, if it has the claim.
    of_preset: Option<&'static str>,
    pub(super) kind: Kind,
    case: Case,
    form: Form,
}

impl Known<'_> {
    /// Its name in a rule.
    fn text(&self) -> Text<'static> {
        self.of_preset.map_or_else(|| Text::from(self.name), Text::from_static)
    }
}

/// The claim of that name or alias that tokens of the issuer can have.
fn lookup(name: &str, duties: Duties) -> Option<Known<'_>> {
    let provider = duties.provider;
    let name = provider.resolve(name);
    if let Some(Claim { name, kind, case, form, .. }) = provider.claim(name) {
        return Some(Known { name, of_preset: Some(name), kind, case, form });
    }
    let free = |kind| Known { name, of_preset: None, kind, case: Case::Exact, form: Form::Free };
    if duties.segment == Some(name) {
        return Some(free(Kind::String));
    }
    // A JSON pointer is known if the member that it begins with is.
    let pointer = name.strip_prefix('/');
    let member = pointer.and_then(|pointer| pointer.split('/').next());
    let known = provider.claims.is_empty() || member.is_some_and(|member| provider.claim(member).is_some());
    // SECURITY: by a second spelling a claim would escape what lint demands of it by name.
    let second_spelling = pointer.is_some_and(|pointer| !pointer.contains('/'));
    (known && !second_spelling && !name.is_empty()).then(|| free(Kind::Any))
}

/// Whether a claim has one value that can be part of a name.
pub(super) fn is_scalar(name: &str, duties: Duties) -> bool {
    lookup(name, duties).is_some_and(|known| matches!(known.kind, Kind::String | Kind::Integer | Kind::Any))
}

/// The claim that a key names; else the name that was probably meant.
pub(super) fn claim<'a>(entry: &Field<'a>, duties: Duties, faults: &mut Faults) -> Result<Known<'a>, &'a str> {
    let provider = duties.provider;
    if let Some(known) = lookup(entry.name(), duties) {
        return Ok(known);
    }
    let name = provider.resolve(entry.name());
    if let Some(member) = name.strip_prefix('/').filter(|member| !member.contains('/')) {
        let message = (&catalogue::L035, format!("`{}` is a JSON pointer to a top-level claim", shown(name)));
        entry.fault_at_key(faults, message, format!("write `{}`", shown(member)));
        return Err(member);
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
    let message = (&catalogue::L035, format!("tokens of `{}` have no claim `{}`", provider.name, shown(name)));
    entry.fault_at_key(faults, message, remedy);
    Err(meant.unwrap_or(name))
}

/// An identifier in another spelling than its provider's never matches: a rule that can never match is an outage.
fn check_form(entry: &Field<'_>, condition: &Condition<'_>, form: Form, faults: &mut Faults) {
    // What lint finds in a pin of any form is said once.
    let is_text = |text: &&str| !condition.pin || (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()));
    for text in condition.texts().filter(is_text).filter(|text| !form.fits(text)) {
        let message =
            (&catalogue::L046, format!("`{}` is not how `{}` is spelled in tokens", shown(text), shown(entry.name())));
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
fn operators(
    entry: &Field<'_>,
    known: Known<'_>,
    allowed: &'static [&'static str],
    duties: Duties,
    regexps: &mut Regexps,
    faults: &mut Faults,
) -> Vec<Test<'static>> {
    let mut tests = Vec::new();
    let Some(fields) = entry.fields(allowed, faults) else { return tests };
    if let Some(field) = fields.get("is") {
        tests.extend(literal(&field, known, faults).map(Test::Is));
    }
    if let Some(field) = fields.get("in") {
        tests.extend(literals(&field, known, faults).map(Test::In));
    }
    if let Some(field) = fields.get("glob") {
        tests.extend(glob(&field, known, faults).map(Test::Glob));
    }
    if let Some(field) = fields.get("regex") {
        tests.extend(regex(&field, known, regexps, faults).map(Test::Regex));
    }
    let list = Known { kind: Kind::String, ..known };
    if let Some(field) = fields.get("contains").filter(|field| is_list(field, known, faults)) {
        let wanted = if matches!(field.node.value, Value::Seq(_)) {
            literals(&field, list, faults)
        } else {
            literal(&field, list, faults).map(|literal| vec![literal])
        };
        tests.extend(wanted.map(Test::Contains));
    }
    if let Some(field) = fields.get("exactly").filter(|field| is_list(field, known, faults)) {
        tests.extend(literals(&field, list, faults).map(Test::Exactly));
    }
    for (key, other, test) in [("present", "absent", Test::Present), ("absent", "present", Test::Absent)] {
        let Some(field) = fields.get(key) else { continue };
        match field.boolean(faults) {
            Some(true) => tests.push(test),
            Some(false) => field.fault(faults, format!("`{key}` can only be `true`"), format!("write `{other}: true`")),
            None => {}
        }
    }
    if let Some(field) = fields.get("same_as") {
        tests.extend(same_as(&field, known, duties, faults).map(Test::SameAs));
    }
    if let Some(field) = fields.get("not") {
        let negated = match &field.node.value {
            Value::Map(_) => operators(&field, known, NEGATABLE, duties, regexps, faults),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_) | Value::Seq(_) => {
                literal(&field, known, faults).map(Test::Is).into_iter().collect()
            }
        };
        if !negated.is_empty() {
            tests.push(Test::Not(negated));
        }
    }
    if fields.get("absent").is_some() && tests.len() > 1 {
        entry.fault(faults, "an absent claim can satisfy no other operator", "keep `absent: true` or the others");
    }
    if matches!(&entry.node.value, Value::Map(entries) if entries.is_empty()) {
        entry.fault(faults, "has no operator", format!("known operators: {}", allowed.join(", ")));
    }
    tests
}

/// Whether a claim can be a list.
fn is_list(field: &Field<'_>, known: Known<'_>, faults: &mut Faults) -> bool {
    let list = matches!(known.kind, Kind::List | Kind::Any);
    if !list {
        let message = (&catalogue::L036, format!("`{}` is no list", shown(known.name)));
        field.fault(faults, message, "compare it with `is` or `in`");
    }
    list
}

/// Another claim, of the same type.
fn same_as(field: &Field<'_>, known: Known<'_>, duties: Duties, faults: &mut Faults) -> Option<Text<'static>> {
    let name = field.text(faults)?;
    let other = lookup(name, duties);
    let like = |a: Kind, b: Kind| a == b || a == Kind::Any || b == Kind::Any;
    let fault = match other {
        None => {
            let message = format!("tokens of `{}` have no claim `{}`", duties.provider.name, shown(name));
            Message::from((&catalogue::L035, message))
        }
        Some(other) if other.name == known.name => Message::from("compares a claim with itself"),
        Some(other) if !like(other.kind, known.kind) || matches!(known.kind, Kind::List) => {
            let message = format!("`{}` and `{}` are never equal: their types differ", shown(known.name), shown(name));
            Message::from((&catalogue::L036, message))
        }
        Some(other) => return Some(other.text()),
    };
    field.fault(faults, fault, "name another claim of the same type");
    None
}

fn literals(field: &Field<'_>, known: Known<'_>, faults: &mut Faults) -> Option<Vec<Literal<'static>>> {
    let before = faults.len();
    if let Value::Seq(items) = &field.node.value
        && items.len() > MAX_LITERALS
    {
        field.fault(faults, format!("has {} values, more than {MAX_LITERALS}", items.len()), "split the rule");
        return None;
    }
    let mut literals = Vec::new();
    for item in field.items(faults)? {
        let Some(literal) = literal(&item, known, faults) else { continue };
        if literals.contains(&literal) {
            item.fault(faults, format!("`{literal}` is listed twice"), "remove one");
        }
        literals.push(literal);
    }
    if literals.is_empty() && faults.len() == before {
        field.fault(faults, "is empty, so it matches nothing", "list at least one value");
    }
    (faults.len() == before).then_some(literals)
}

/// A literal of the claim's type.
fn literal(field: &Field<'_>, known: Known<'_>, faults: &mut Faults) -> Option<Literal<'static>> {
    let Known { name, kind, .. } = known;
    let node = field.node;
    let wrong = |faults: &mut Faults, wanted: &str, remedy: String| {
        let message =
            (&catalogue::L036, format!("`{}` is {wanted}, and this is {}", shown(name), node.value.type_name()));
        field.fault(faults, message, remedy);
        None
    };
    match (kind, &node.value) {
        (Kind::List, _) => {
            let message =
                (&catalogue::L036, format!("`{}` is a list, which cannot be compared with one value", shown(name)));
            field.fault(faults, message, "use `contains` or `exactly`");
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
            check_text(field, text, faults).then(|| Literal::Text(Text::from(&**text)))
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
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*') {
        return true;
    }
    if text.trim() != text {
        field.fault(faults, "begins or ends with white space", "remove it");
    } else if text.contains(is_invisible) {
        field.fault(faults, (&catalogue::L047, format!("`{}` has an invisible character", shown(text))), "remove it");
    } else if text.contains('*') {
        let remedy = format!("write `{{glob: {:?}}}` for a pattern", shown(text));
        field.fault(faults, format!("`{}` is compared as it stands, and its `*` with a `*`", shown(text)), remedy);
    } else {
        return true;
    }
    false
}
