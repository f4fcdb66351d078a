//! The part of the schema that is about claims: conditions on them, and overrides of them in tests.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::described;
use super::either;
use super::reference;
use crate::identity::family;
use crate::identity::provider;
use crate::identity::provider::Kind;
use crate::identity::provider::Provider;
use crate::policy::parse::keys;

/// What all providers say of one name.
#[derive(Default)]
struct Known {
    kinds: BTreeSet<&'static str>,
    /// The providers, each with the claim that the name is short for.
    providers: Vec<String>,
    pinned_by: Vec<&'static str>,
}

/// Every name that a rule can use, by what it is called there.
fn known() -> BTreeMap<&'static str, Known> {
    let mut known: BTreeMap<&str, Known> = BTreeMap::new();
    for provider in provider::ALL {
        for (name, kind, claim) in names(provider) {
            let entry = known.entry(name).or_default();
            entry.kinds.insert(of_kind(kind));
            let short = if claim == name { String::new() } else { format!(" (short for `{claim}`)") };
            entry.providers.push(format!("{}{short}", provider.name));
            if provider.pins.contains(&claim) {
                entry.pinned_by.push(provider.name);
            }
        }
    }
    known
}

/// The names of a provider's claims that rules use: short ones, where there are, with the claims behind them.
fn names(provider: &'static Provider) -> Vec<(&'static str, Kind, &'static str)> {
    let claims = provider.claims.iter().chain(provider.derived.iter().map(|derived| &derived.claim));
    let mut names: Vec<_> = claims.map(|claim| (provider.shown(claim.name), claim.kind, claim.name)).collect();
    let segments = provider.families.iter().filter_map(|template| family::claim(template));
    names.extend(segments.map(|segment| (segment, Kind::String, segment)));
    names
}

const fn of_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "text",
        Kind::Integer => "integer",
        Kind::Bool => "boolean",
        Kind::List => "list",
        Kind::Any => "any",
    }
}

fn describe(known: &Known) -> String {
    let mut text =
        format!("{}: {}", known.providers.join(", "), known.kinds.iter().copied().collect::<Vec<_>>().join(" or "));
    if !known.pinned_by.is_empty() {
        let _infallible = write!(text, "; rules for {} must pin it", known.pinned_by.join(", "));
    }
    text
}

/// A rule's `when`: conditions, and alternatives of them.
pub(super) fn when() -> Value {
    let blocks = json!({"type": "array", "items": reference("conditions"), "minItems": 1});
    let blocks = described(blocks, "Alternatives: one block must hold, beside the other conditions");
    with_claims(Some(blocks))
}

/// Conditions on claims, all of which must hold.
pub(super) fn conditions() -> Value {
    with_claims(None)
}

fn with_claims(any_of: Option<Value>) -> Value {
    let property = |(name, known): (&str, Known)| {
        let mut kinds = known.kinds.iter().map(|kind| reference(&format!("{kind}_condition")));
        let schema = match (kinds.next(), kinds.len()) {
            (Some(one), 0) => one,
            (first, _) => json!({"anyOf": first.into_iter().chain(kinds).collect::<Vec<_>>()}),
        };
        (name.to_owned(), described(schema, &describe(&known)))
    };
    let mut properties: Map<String, Value> = known().into_iter().map(property).collect();
    properties.extend(any_of.map(|blocks| (keys::ANY_OF.to_owned(), blocks)));
    // Tokens of `generic` may have any claim, and a JSON pointer names what is deep in one.
    json!({"type": "object", "properties": properties, "additionalProperties": reference("any_condition")})
}

/// What may be demanded of a claim whose values are literals of this schema.
pub(super) fn condition(literal: &Value) -> Value {
    either(&json!({"type": "object"}), &operators(keys::OPERATORS, literal), literal)
}

/// What may be demanded of a list of texts, which is equal to no literal.
pub(super) fn list_condition() -> Value {
    described(operators(keys::OPERATORS, &json!({"type": "string"})), "A list: use `contains` or `exactly`")
}

fn operators(operators: &[&str], literal: &Value) -> Value {
    let property = |operator: &&str| {
        let (schema, description) = operator_of(operator, literal);
        ((*operator).to_owned(), described(schema, description))
    };
    let properties: Map<String, Value> = operators.iter().map(property).collect();
    json!({"type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1})
}

fn operator_of(operator: &str, literal: &Value) -> (Value, &'static str) {
    let literals = || json!({"type": "array", "items": literal, "minItems": 1});
    match operator {
        "is" => (literal.clone(), "Equal to the literal"),
        "in" => (literals(), "Equal to one of the literals"),
        "glob" => (json!({"type": "string"}), "Text of this pattern: `*` stops at `/`, `:` and `@`, and `**` does not"),
        "regex" => (json!({"type": "string"}), "Text that the expression covers from end to end"),
        "contains" => {
            (either(&json!({"type": "array"}), &literals(), literal), "A list that has the value, or all of them")
        }
        "exactly" => (literals(), "A list of these values and no others, in any order"),
        "same_as" => (json!({"type": "string"}), "Equal to this other claim"),
        "present" => (json!({"enum": [true]}), "There, whatever it is"),
        "absent" => (json!({"enum": [true]}), "Not there"),
        "not" => {
            let negated = either(&json!({"type": "object"}), &operators(keys::NEGATABLE, literal), literal);
            (negated, "There, and not such that all of these hold")
        }
        _ => (Value::Bool(true), ""),
    }
}

/// A test's `claims`: values of any type, by the names that rules use.
pub(super) fn overrides() -> Value {
    let property = |(name, known): (&str, Known)| (name.to_owned(), json!({"description": describe(&known)}));
    let properties: Map<String, Value> = known().into_iter().map(property).collect();
    json!({"type": "object", "properties": properties})
}
