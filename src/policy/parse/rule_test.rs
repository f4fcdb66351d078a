//! `tests`: what the rules must say to made-up jobs.

use std::collections::HashSet;

use super::Scope;
use super::World;
use super::condition;
use super::grant;
use crate::identity::claims::Claims;
use crate::identity::provider::Example;
use crate::identity::provider::Kind;
use crate::identity::provider::Provider;
use crate::json::Json;
use crate::json::Object;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::package::Pattern;
use crate::package::Permission;
use crate::package::Permissions;
use crate::policy::explain::Cause;
use crate::policy::lint::Duties;
use crate::policy::rule::Rule;
use crate::policy::rule_test::Expect;
use crate::policy::rule_test::RuleTest;
use crate::policy::set::RuleSet;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Fields;
use crate::policy::yaml::Place;
use crate::policy::yaml::Value;
use crate::policy::yaml::is_invisible;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

pub(in crate::policy) const KEYS: &[&str] =
    &["name", "rule", "registry", "issuer", "token", "claims", "request", "expect"];
pub(in crate::policy) const EXPECT_KEYS: &[&str] = &["allow", "versions", "deny"];
/// After how many faults it is not looked for the rule that an unknown name probably means.
const MAX_SOUGHT: usize = 20;
/// Longest name of a test, in characters.
const MAX_NAME: usize = 120;

/// Whom a test is about: the rule if it names one, positions of registry and issuer, and what the issuer's rules owe it.
struct Target {
    rule: Option<String>,
    registry: u32,
    issuer: u32,
    duties: Duties,
    ecosystem: Ecosystem,
}

/// What tests may refer to.
#[derive(Clone, Copy)]
struct Known<'a> {
    world: &'a World,
    rules: &'a RuleSet,
    /// What the tests of a bundle are confined to.
    scope: Option<&'a Scope<'a>>,
    /// Whether a name that is not among the rules is none: otherwise it may be that of a rule that is faulty itself.
    sound: bool,
}

/// Reads the tests of all sections: those of the directory, or of a bundle, which are about its own rules.
pub(in crate::policy) fn tests(
    sections: &[Field<'_>],
    world: &World,
    rules: &RuleSet,
    scope: Option<&Scope<'_>>,
    faults: &mut Faults,
) -> Vec<RuleTest> {
    let known = Known { world, rules, scope, sound: faults.is_empty() };
    let (mut tests, mut names) = (Vec::new(), HashSet::new());
    for section in sections {
        for entry in section.items(faults).into_iter().flatten() {
            tests.extend(test(&entry, known, &mut names, faults));
        }
    }
    tests
}

fn test(entry: &Field<'_>, known: Known<'_>, names: &mut HashSet<String>, faults: &mut Faults) -> Option<RuleTest> {
    let fields = entry.fields(KEYS, faults)?;
    let name = name(&fields, names, faults);
    let target = target(&fields, known, faults);
    let token = fields.require("token", "add the example that it is about: `token: github/tag-push`", faults);
    let expect = fields.require("expect", "add what comes out: `allow`, or `{deny: CODE}`", faults);
    let ecosystem = target.as_ref().map_or(Ecosystem::Generic, |target| target.ecosystem);
    let request = fields.get("request").map_or(Some(Vec::new()), |field| request(&field, ecosystem, faults));
    let expect = expect.and_then(|field| expectation(&field, ecosystem, faults));
    let (target, token) = (target?, token?);
    let example = example(&token, target.duties.provider, faults)?;
    let job = job(entry, fields.get("claims"), target.duties, example, faults)?;
    Some(RuleTest {
        name: name?,
        place: entry.node.at.into(),
        key_path: entry.path.to_string(),
        rule: target.rule,
        registry: target.registry,
        issuer: target.issuer,
        segment: job.segment,
        claims: job.claims,
        request: request?,
        expect: expect?,
        notes: job.notes,
    })
}

fn name(fields: &Fields<'_>, names: &mut HashSet<String>, faults: &mut Faults) -> Option<String> {
    let field = fields.require("name", "add what it shows, in words: `name: a tag may upload widgets`", faults)?;
    let name = field.text(faults)?;
    if name.trim() != name || name.is_empty() || name.chars().count() > MAX_NAME || name.contains(is_invisible) {
        let remedy = format!("use up to {MAX_NAME} visible characters");
        field.fault(faults, format!("`{}` is not the name of a test", shown(name)), remedy);
        return None;
    }
    if !names.insert(name.to_owned()) {
        field.fault(faults, format!("there is another test `{}`", shown(name)), "rename or remove one");
        return None;
    }
    Some(name.to_owned())
}

/// Whom the test is about; nothing if it refers to what is unknown, or faulty itself and reported.
fn target(fields: &Fields<'_>, known: Known<'_>, faults: &mut Faults) -> Option<Target> {
    let Known { world, scope, .. } = known;
    let rule = fields.get("rule");
    let (id, registry, issuer) = if let Some(field) = rule {
        for field in ["registry", "issuer"].into_iter().filter_map(|key| fields.get(key)) {
            field.fault_at_key(faults, "has no meaning beside `rule`, which has its own", "remove the line");
        }
        let rule = rule_of(&field, known, faults)?;
        (Some(rule.id().to_owned()), rule.registry, rule.issuer)
    } else {
        let remedy = "add `rule: NAME`, or both `registry` and `issuer`";
        let named = scope.is_some() || fields.require("registry", remedy, faults).is_some();
        let registry = if named { super::rule::registry(fields, world, scope, faults) } else { None };
        let issuer = fields.require("issuer", remedy, faults);
        let issuer = issuer.filter(|field| super::rule::is_within(field, scope, faults));
        let issuer = issuer.and_then(|field| super::refer(&field, &world.issuers, "issuer", faults));
        (None, registry?, issuer?)
    };
    let duties = *world.duties.get(world.issuer(issuer)?.id())?;
    Some(Target { rule: id, registry, issuer, duties, ecosystem: world.registry(registry)?.ecosystem() })
}

fn rule_of<'a>(field: &Field<'_>, known: Known<'a>, faults: &mut Faults) -> Option<Rule<'a>> {
    let name = field.text(faults)?;
    let prefix = known.scope.map_or_else(String::new, |scope| format!("{}/", scope.registry));
    let rule = known.rules.by_id(&format!("{prefix}{name}"));
    if rule.is_none() && known.sound {
        // SECURITY: every name is compared with, so not for each of very many tests: those after the first are told less.
        let seeks = faults.len() < MAX_SOUGHT;
        let ids: Vec<String> = known.rules.iter().filter(|_| seeks).map(|rule| rule.id().to_owned()).collect();
        let names = ids.iter().filter_map(|id| id.strip_prefix(&prefix));
        let remedy = match nearest(name, names) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => "write the name of a rule below `rules`".to_owned(),
        };
        field.fault(faults, format!("there is no rule `{}`", shown(name)), remedy);
    }
    rule
}

/// The example that `github/tag-push` names.
fn example(field: &Field<'_>, provider: &Provider, faults: &mut Faults) -> Option<&'static Example> {
    let text = field.text(faults)?;
    let own = text.split_once('/').filter(|(preset, _)| *preset == provider.name);
    if let Some(example) = own.and_then(|(_, name)| provider.example(name)) {
        return Some(example);
    }
    let known: Vec<String> = provider.examples.iter().map(|it| format!("{}/{}", provider.name, it.name)).collect();
    let remedy = match nearest(text, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known: {}", known.join(", ")),
    };
    let message = format!("`{}` is not an example of the provider `{}`", shown(text), provider.name);
    field.fault(faults, message, remedy);
    None
}

/// What the token of a test says.
struct Job {
    segment: Option<String>,
    claims: Object,
    notes: Vec<String>,
}

/// The example's claims with the test's own in their places.
fn job(
    entry: &Field<'_>,
    field: Option<Field<'_>>,
    duties: Duties,
    example: &Example,
    faults: &mut Faults,
) -> Option<Job> {
    let provider = duties.provider;
    let before = faults.len();
    let (mut overrides, mut deep, mut segment) = (Object::default(), Vec::new(), None);
    let (mut given, mut notes) = (Vec::new(), Vec::new());
    let entries: Vec<Field<'_>> = field.iter().filter_map(|field| field.entries(faults)).flatten().collect();
    for claim in entries {
        let Ok(known) = condition::claim(&claim, duties, faults) else { continue };
        if duties.segment == Some(known.name) {
            segment = claim.text(faults).map(str::to_owned);
            continue;
        }
        let value = json(&claim.node.value);
        if given.iter().any(|(_, name, _)| *name == known.name) {
            claim.fault_at_key(faults, format!("`{}` is given twice", known.name), "keep one of its names");
        }
        notes.extend(oddity(claim.name(), known.kind, &value, provider));
        // Examples know a claim by its short name where it has one; a pointer without one is set when the rest is there.
        let name = provider.shown(known.name);
        if name.starts_with('/') {
            deep.push((name, value.clone()));
        } else {
            overrides = overrides.with(name, value.clone());
        }
        given.push((claim, known.name, value));
    }
    if let (None, Some(claim)) = (&segment, duties.segment) {
        let remedy = format!("add `{claim}` to its `claims`");
        entry.fault_at_key(faults, format!("does not say by `{claim}` which issuer of the family it is about"), remedy);
    }
    let claims = deep.into_iter().fold((example.claims)(&overrides), |claims, (pointer, value)| {
        let steps: Vec<String> = pointer.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
        put(claims, &steps, value)
    });
    // What the test says of the job must be so: a claim that follows from others cannot be set.
    let seen = Claims::new(claims.clone(), provider.derive(&claims));
    for (claim, name, value) in &given {
        if seen.get(name) == Some(value).filter(|value| **value != Json::Null) {
            continue;
        }
        let from = provider.derived.iter().find(|derived| derived.claim.name == *name).map(|derived| derived.from);
        let (why, remedy) = match from {
            Some(from) => ("it follows from other claims", format!("set {}", from.join(", "))),
            None => ("the example has no place for it", "set the claim that it is in".to_owned()),
        };
        claim.fault_at_key(faults, format!("`{}` cannot be set like this: {why}", shown(claim.name())), remedy);
    }
    (faults.len() == before).then_some(Job { segment, claims, notes })
}

/// The object with the value at the end of the steps, members in between added.
fn put(object: Object, steps: &[String], value: Json) -> Object {
    match steps {
        [] => object,
        [last] => object.with(last, value),
        [first, rest @ ..] => {
            let inner = object.get(first).and_then(Json::as_object).cloned().unwrap_or_default();
            object.with(first, Json::Object(put(inner, rest, value)))
        }
    }
}

/// What to say of a value that tokens of the provider do not have, should the test fail: it may be meant.
fn oddity(name: &str, kind: Kind, value: &Json, provider: &Provider) -> Option<String> {
    let usual = match (kind, value) {
        (Kind::Any, _) | (_, Json::Null) => return None,
        (Kind::String, Json::String(_)) | (Kind::Integer, Json::Int(_)) => return None,
        (Kind::Bool, Json::Bool(_)) | (Kind::List, Json::Array(_)) => return None,
        (Kind::String, _) => "text: quote it",
        (Kind::Integer, _) => "an integer",
        (Kind::Bool, _) => "a boolean",
        (Kind::List, _) => "a list",
    };
    Some(format!("`{}` is {} here; in tokens of `{}` it is {usual}", shown(name), value.type_name(), provider.name))
}

fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => Json::Int(*number),
        Value::Float(number) => Json::Float(*number),
        Value::String(text) => Json::String(text.to_string()),
        Value::Seq(items) => Json::Array(items.iter().map(|item| json(&item.value)).collect()),
        Value::Map(entries) => Json::Object(
            entries.iter().fold(Object::default(), |object, (key, node)| object.with(&key.text, json(&node.value))),
        ),
    }
}

/// `{upload: widgets}`, `{upload: [widgets, gadgets]}`: literal names.
fn request(field: &Field<'_>, ecosystem: Ecosystem, faults: &mut Faults) -> Option<Vec<(Action, PackageName)>> {
    let before = faults.len();
    let mut pairs = Vec::new();
    for (action, item) in words(field, faults)? {
        match PackageName::parse(ecosystem, item.text) {
            Ok(name) => pairs.push((action, name)),
            Err(error) => {
                let message = format!("the package `{}` {error}", shown(item.text));
                faults.push(item.place, item.path, message, "write the name of one package");
            }
        }
    }
    if pairs.is_empty() && faults.len() == before {
        field.fault(faults, "asks for nothing", "write `{upload: PACKAGE}`, or remove the line to ask for everything");
    }
    (faults.len() == before).then_some(pairs)
}

/// A text in a list, or alone in its place.
struct Word<'a> {
    text: &'a str,
    place: Place,
    path: String,
}

/// The pairs of a map from actions to texts, each a text or a list of them.
fn words<'a>(field: &'a Field<'a>, faults: &mut Faults) -> Option<Vec<(Action, Word<'a>)>> {
    let mut words = Vec::new();
    let word = |item: &Field<'a>, text: &'a str| Word { text, place: item.node.at.into(), path: item.path.to_string() };
    for entry in field.entries(faults)? {
        let Some(action) = grant::action(&entry, faults) else { continue };
        if let Value::String(text) = &entry.node.value {
            words.push((action, word(&entry, text)));
        } else {
            for text in entry.texts(faults) {
                words.push((action.clone(), word(&entry, text)));
            }
        }
    }
    Some(words)
}

/// `allow`, `{allow: {upload: [widgets, "widgets-*"]}, versions: ["1.4.0"]}` or `{deny: CODE}`.
fn expectation(field: &Field<'_>, ecosystem: Ecosystem, faults: &mut Faults) -> Option<Expect> {
    if let Value::String(text) = &field.node.value {
        if text == "allow" {
            return Some(Expect::Allow);
        }
        let remedy = "write `allow`, or which refusal: `{deny: no-matching-rule}`";
        field.fault(faults, format!("`{}` is nothing that can come out", shown(text)), remedy);
        return None;
    }
    let fields = field.fields(EXPECT_KEYS, faults)?;
    match (fields.get("allow"), fields.get("deny")) {
        (Some(allow), None) => {
            let pairs = exactly(&allow, ecosystem, faults);
            let versions = fields.get("versions").map(|field| field.texts(faults).into_iter().map(str::to_owned));
            pairs.map(|pairs| Expect::Exactly { pairs, versions: versions.map(Iterator::collect) })
        }
        (None, Some(deny)) => {
            if let Some(versions) = fields.get("versions") {
                versions.fault_at_key(faults, "has no meaning beside `deny`", "remove the line");
            }
            let codes = Cause::ALL.map(|cause| (cause.code().as_str(), cause.code()));
            super::choice(&deny, &codes, faults).map(Expect::Deny)
        }
        (Some(_), Some(_)) | (None, None) => {
            field.fault(faults, "must say one of `allow` and `deny`", "write `allow`, or `{deny: CODE}`");
            None
        }
    }
}

fn exactly(field: &Field<'_>, ecosystem: Ecosystem, faults: &mut Faults) -> Option<Permissions> {
    let before = faults.len();
    let mut pairs = Vec::new();
    for (action, item) in words(field, faults)? {
        match Pattern::parse(ecosystem, item.text) {
            Ok(pattern) => pairs.push(Permission { action, pattern }),
            Err(error) => {
                let message = format!("the package `{}` {error}", shown(item.text));
                faults.push(item.place, item.path, message, "write a package name or a pattern: `widgets-*`");
            }
        }
    }
    (faults.len() == before).then(|| pairs.into_iter().collect())
}
