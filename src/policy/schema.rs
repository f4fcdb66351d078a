//! The JSON Schema of policy files, for editors: keys, claims, operators and codes as one types them.
//!
//! Made from the tables that the parser reads by, so an editor offers what the parser knows. It describes shapes only:
//! whether a rule is safe is for lint, and which claims a rule may name depends on its issuer, which a schema of one file
//! cannot see, so it offers those of every provider. JSON Schema draft 7, which YAML language servers read best.

use std::collections::BTreeSet;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::codec::Codec;
use crate::identity::provider;
use crate::identity::replay::Replay;
use crate::package::Ecosystem;
use crate::policy::caller;
use crate::policy::dialect::Dialect;
use crate::policy::explain::Cause;
use crate::policy::lint::catalogue;
use crate::policy::parse::keys;
use crate::policy::registry::WhenStoreDown;
use crate::policy::route::Proxy;
use crate::policy::rule::Mode;

mod claims;

/// The schema of a policy file.
pub fn policy() -> Value {
    let mut root = object(keys::SECTIONS, &[], section);
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        root.insert("title".to_owned(), json!("trustmint policy"));
        root.insert(
            "definitions".to_owned(),
            json!({
                "issuer": object(keys::ISSUER, &["provider"], issuer),
                "registry": with_audiences(object(keys::REGISTRY, &["dialect", "urls"], registry)),
                "rule": object(keys::RULE, &["registry", "issuer", "when", "allow"], rule),
                "test": object(keys::TEST, &["name", "token", "expect"], test),
                "when": claims::when(),
                "conditions": claims::conditions(),
                "text_condition": claims::condition(&json!({"type": "string"})),
                "integer_condition": claims::condition(&json!({"type": "integer"})),
                "boolean_condition": claims::condition(&json!({"type": "boolean"})),
                "list_condition": claims::list_condition(),
                "any_condition": claims::condition(&json!({"type": ["string", "integer", "boolean"]})),
                "id": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_.-]{0,63}$"},
                "duration": {"type": "string", "pattern": "^[0-9]+[smhd]$"},
                "size": {
                    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^[0-9]+(Ki|Mi|Gi)B$"}],
                },
                "texts": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "text_or_texts": {"anyOf": [{"type": "string"}, {"$ref": "#/definitions/texts"}]},
                "actions": actions(&json!({"$ref": "#/definitions/texts"})),
                "packages": actions(&json!({"$ref": "#/definitions/text_or_texts"})),
            }),
        );
    }
    root
}

/// A map with exactly these keys. `shape` gives the schema of a key's value and what to say of it.
fn object(keys: &[&str], required: &[&str], shape: fn(&str) -> (Value, &'static str)) -> Value {
    let property = |key: &&str| {
        let (schema, description) = shape(key);
        ((*key).to_owned(), described(schema, description))
    };
    let properties: Map<String, Value> = keys.iter().map(property).collect();
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if let (Some(object), false) = (object.as_object_mut(), required.is_empty()) {
        object.insert("required".to_owned(), json!(required));
    }
    object
}

/// A schema with a description. Beside a `$ref` draft 7 reads nothing, so a reference is wrapped.
fn described(schema: Value, description: &str) -> Value {
    let mut schema = if schema.get("$ref").is_some() { json!({"allOf": [schema]}) } else { schema };
    if let (Some(object), false) = (schema.as_object_mut(), description.is_empty()) {
        object.insert("description".to_owned(), json!(description));
    }
    schema
}

/// One schema for what looks so and another for the rest. With `anyOf` an editor would complain of a shape that the writer
/// did not mean.
fn either(looks: &Value, then: &Value, otherwise: &Value) -> Value {
    json!({"if": looks, "then": then, "else": otherwise})
}

/// A registry whose clients do not compute their audience must say which it is.
fn with_audiences(mut registry: Value) -> Value {
    let told = Dialect::ALL.into_iter().filter(|dialect| !dialect.computes_audience()).map(Dialect::name);
    if let Some(registry) = registry.as_object_mut() {
        registry.insert(
            "if".to_owned(),
            json!({"properties": {"dialect": described(choice(told), "Its clients compute no audience")}}),
        );
        registry.insert("then".to_owned(), json!({"required": ["audiences"]}));
    }
    registry
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/definitions/{name}")})
}

fn named(name: &str) -> Value {
    json!({"type": "object", "propertyNames": reference("id"), "additionalProperties": reference(name)})
}

fn choice<'a>(words: impl IntoIterator<Item = &'a str>) -> Value {
    json!({"type": "string", "enum": words.into_iter().collect::<Vec<_>>()})
}

fn text() -> Value {
    json!({"type": "string"})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

/// A map from actions to packages.
fn actions(packages: &Value) -> Value {
    let known: Map<String, Value> =
        keys::ACTIONS.iter().map(|action| ((*action).to_owned(), packages.clone())).collect();
    json!({
        "type": "object",
        "properties": known,
        "propertyNames": {"pattern": "^[a-z]([a-z-]{0,30}[a-z])?$"},
        "additionalProperties": packages,
        "minProperties": 1,
    })
}

fn section(key: &str) -> (Value, &'static str) {
    match key {
        "issuers" => (named("issuer"), "Identity providers that are believed, each under the name that rules use"),
        "registries" => (named("registry"), "Package registries that are served"),
        "rules" => (named("rule"), "Who may publish what; several matching rules add up"),
        "tests" => {
            let tests = json!({"type": "array", "items": reference("test")});
            (tests, "What the rules must answer to made-up jobs; a policy whose tests fail is not activated")
        }
        _ => unknown(),
    }
}

/// The codes of warnings, each with a reason.
fn waivers() -> (Value, &'static str) {
    let codes = catalogue::ALL.iter().filter(|lint| lint.ruling.warns()).map(|lint| lint.code);
    let reason = json!({"type": "string", "minLength": 10});
    let names = choice(codes);
    (
        json!({"type": "object", "propertyNames": names, "additionalProperties": reason}),
        "Why a warning is acceptable here",
    )
}

fn issuer(key: &str) -> (Value, &'static str) {
    match key {
        "waive" => waivers(),
        "provider" => {
            let names = provider::ALL.iter().map(|provider| provider.name);
            (choice(names), "The preset that knows the provider's claims; `generic` for any other")
        }
        "url" => (text(), "The issuer's URL, letter for letter as in the tokens' `iss`"),
        "ca_file" => (text(), "Certificate authorities to trust for it, in PEM, in place of the public ones"),
        "jwks_file" => (text(), "Its key set, a file beside this one; nothing is fetched"),
        "jwks_uri" => (text(), "Where its key set is; no discovery then"),
        "allow_networks" => (reference("texts"), "Private networks in which its addresses may be"),
        "proxy" => (text(), "An HTTP proxy to go through"),
        "max_lifetime" => (reference("duration"), "Longest accepted `exp` − `iat`; at most 24h"),
        "accept_fixed_audience" => (flag(), "Its tokens all have one audience, and that is accepted"),
        "enabled" => (flag(), "`false`: its tokens are refused, and its live upload tokens with them"),
        "tenancy" => (choice(["single"]), "Of `generic` only: everyone on it is trusted alike, so rules need no pins"),
        "replay" => {
            let stricter = Replay::ALL.iter().filter(|mode| **mode != Replay::Off).map(|mode| mode.name());
            (choice(stricter), "How often one of its ID tokens may be exchanged")
        }
        _ => unknown(),
    }
}

fn registry(key: &str) -> (Value, &'static str) {
    match key {
        "waive" => waivers(),
        "dialect" => (choice(Dialect::ALL.map(Dialect::name)), "How its clients spell the exchange"),
        "ecosystem" => (
            choice(Ecosystem::ALL.map(Ecosystem::name)),
            "Of dialect `generic` only: how its package names are spelled",
        ),
        "urls" => (reference("texts"), "Its public upload URLs"),
        "audiences" => (
            reference("texts"),
            "What CI jobs ask for, besides what their clients compute; the first is what clients are told",
        ),
        "token" => (object(keys::TOKEN, &[], token), "How its upload tokens look and live"),
        "codec" => (
            choice(Codec::ALL.map(Codec::as_str)),
            "`pypi` if it verifies PyPI's macaroons already: its rules then grant `upload` of packages by name, and no more",
        ),
        "callers" => {
            let caller = object(caller::KEYS, &["key_sha256"], caller);
            let callers = json!({"type": "object", "propertyNames": reference("id"), "additionalProperties": caller});
            (callers, "Who may ask about its tokens, by the digest of their API keys")
        }
        "key_id" => (reference("id"), "The name under which its root secret is derived"),
        "epoch" => (json!({"type": "integer", "minimum": 0}), "Raising it withdraws all of its live tokens"),
        "enabled" => (flag(), "`false`: it mints nothing, and its live tokens are refused"),
        "replay" => (choice(Replay::ALL.iter().map(|mode| mode.name())), "How often one ID token may be exchanged"),
        "retry_window" => {
            (reference("duration"), "How long a client that lost the answer gets the same upload token again")
        }
        "verify_when_store_down" => {
            (choice(WhenStoreDown::ALL.map(WhenStoreDown::name)), "What verification answers while the store is down")
        }
        "routes" => {
            let routes = object(keys::ROUTES, &["proxy", "allow"], routes);
            (routes, "Which requests a proxy in front may ask about at `/v1/authorize`")
        }
        "limits" => (object(keys::LIMITS, &[], limit), "How much it may have a minute, on each replica"),
        "bundle" => (object(keys::BUNDLE, &["url", "issuers"], bundle), "Where it serves rules of its own"),
        _ => unknown(),
    }
}

fn limit(key: &str) -> (Value, &'static str) {
    let count = json!({"type": "integer", "minimum": 1, "maximum": keys::MAX_LIMIT});
    match key {
        "exchanges_per_minute" => (count, "Upload tokens for its jobs"),
        "calls_per_minute" => (count, "Calls of its own, with its API keys"),
        _ => unknown(),
    }
}

fn routes(key: &str) -> (Value, &'static str) {
    match key {
        "proxy" => (choice(Proxy::ALL.map(Proxy::name)), "Who asks, and so which headers say what the request is"),
        "allow" => {
            let route = object(keys::ROUTE, &["method", "path", "action"], route);
            (json!({"type": "array", "items": route, "minItems": 1}), "What is let through, if a token allows it")
        }
        _ => unknown(),
    }
}

fn route(key: &str) -> (Value, &'static str) {
    match key {
        "method" => (json!({"type": "string", "pattern": "^[A-Z]{1,16}$"}), "The method"),
        "path" => (text(), "The whole path, with the places {package}, {version}, {*} and, last, {**}"),
        "action" => (text(), "What such a request does: `upload`, `create`, `read`, `delete`, …"),
        _ => unknown(),
    }
}

fn bundle(key: &str) -> (Value, &'static str) {
    match key {
        "url" => (text(), "The document; `https`"),
        "issuers" => (reference("texts"), "The issuers that its rules may name"),
        "packages" => (reference("texts"), "What every package that its rules grant must be within"),
        "poll" => (reference("duration"), "How often it is asked for, 10s to 1h; `1m` if not given"),
        "max_bytes" => (reference("size"), "Most bytes of it; `8MiB` if not given"),
        "public_key" => (text(), "The Ed25519 key, in base64, whose signature it has at its URL with `.sig` behind it"),
        "ca_file" => (text(), "The certificate authorities to trust instead of the system's: a file beside this one"),
        "allow_networks" => (reference("texts"), "Private networks in which the server may be"),
        "proxy" => (text(), "The HTTP proxy to go through"),
        _ => unknown(),
    }
}

fn token(key: &str) -> (Value, &'static str) {
    match key {
        "prefix" => (json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,32}$"}), "Its first characters"),
        "ttl" => (reference("duration"), "How long it lives; at most 1h"),
        _ => unknown(),
    }
}

fn caller(key: &str) -> (Value, &'static str) {
    match key {
        "key_sha256" => (text(), "The SHA-256 of its API key, in hexadecimal"),
        _ => unknown(),
    }
}

fn rule(key: &str) -> (Value, &'static str) {
    match key {
        "waive" => waivers(),
        "registry" => (text(), "The registry that it is for"),
        "issuer" => (text(), "The issuer whose jobs it lets in"),
        "when" => (reference("when"), "Conditions on the token's claims, all of which must hold"),
        "allow" => (reference("actions"), "What it grants: packages, or prefixes such as `widgets-*`, for each action"),
        "ttl" => (reference("duration"), "How long its tokens live, if not as long as the registry says"),
        "max_size" => (reference("size"), "The largest file that its tokens may upload"),
        "single_use" => (flag(), "Its tokens work once"),
        "versions" => {
            (reference("texts"), "The only versions that its tokens may upload; `{version}` is a claim's or a group's")
        }
        "span" => {
            let names: BTreeSet<&str> =
                provider::ALL.iter().flat_map(|provider| provider.spans.iter().map(|span| span.name)).collect();
            (choice(names), "`owner` and the like: it is for all projects of its owner, and pins no project")
        }
        "mode" => (choice(Mode::ALL.map(Mode::name)), "`shadow`: evaluated and reported, never granted"),
        "enabled" => (flag(), "`false` is the same as `mode: off`"),
        _ => unknown(),
    }
}

fn test(key: &str) -> (Value, &'static str) {
    match key {
        "name" => (json!({"type": "string", "minLength": 1, "maxLength": 120}), "What it shows, in words; unique"),
        "rule" => (text(), "The rule that it is about"),
        "registry" => (text(), "In place of `rule`: the registry"),
        "issuer" => (text(), "In place of `rule`: the issuer of the token"),
        "token" => {
            let of = |provider: &&'static provider::Provider| {
                let name = provider.name;
                provider.examples.iter().map(move |example| format!("{name}/{}", example.name))
            };
            let names: Vec<String> = provider::ALL.iter().flat_map(of).collect();
            (choice(names.iter().map(String::as_str)), "The example whose claims the token has")
        }
        "claims" => (claims::overrides(), "Claims in place of the example's; `null` takes one away"),
        "request" => (reference("packages"), "What the job asks for; without it, whatever the rules grant"),
        "expect" => {
            let exact = object(keys::EXPECT, &[], expect);
            (
                either(&json!({"type": "object"}), &exact, &choice(["allow"])),
                "`allow`, or `{deny: CODE}`, or the exact grant",
            )
        }
        _ => unknown(),
    }
}

fn expect(key: &str) -> (Value, &'static str) {
    match key {
        "allow" => (reference("packages"), "Exactly these pairs and no others"),
        "versions" => (reference("texts"), "Beside `allow`: exactly these versions"),
        "deny" => {
            (choice(Cause::ALL.map(|cause| cause.code().as_str())), "The cause, whole: not what a stranger is told")
        }
        _ => unknown(),
    }
}

/// A key that this page does not describe: anything, with nothing to say. The tests find it.
const fn unknown() -> (Value, &'static str) {
    (Value::Bool(true), "")
}

#[cfg(test)]
mod tests;
