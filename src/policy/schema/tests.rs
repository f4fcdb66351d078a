use super::*;

/// Every map of known keys in the schema, with the path that leads there.
fn properties<'s>(schema: &'s Value, path: &str, found: &mut Vec<(String, &'s Value)>) {
    if let Some(keys) = schema.get("properties").and_then(Value::as_object) {
        found.extend(keys.iter().map(|(key, schema)| (format!("{path}.{key}"), schema)));
    }
    match schema {
        Value::Object(members) => {
            members.iter().for_each(|(name, member)| properties(member, &format!("{path}.{name}"), found));
        }
        Value::Array(items) => items.iter().for_each(|item| properties(item, path, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_key_that_the_parser_knows_is_described() {
    let schema = policy();
    let mut found = Vec::new();
    properties(&schema, "", &mut found);
    assert!(found.len() > 300, "{}", found.len());
    // What an action does is its name.
    let bare = found.iter().filter(|(path, schema)| {
        schema.get("description").is_none() && !path.contains(".actions.") && !path.contains(".packages.")
    });
    let bare: Vec<&String> = bare.map(|(path, _)| path).collect();
    assert!(bare.is_empty(), "say in policy/schema.rs what these are: {bare:?}");
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(schema: &Value, definitions: &Map<String, Value>) {
        match schema {
            Value::Object(members) => {
                if let Some(name) = members.get("$ref").and_then(Value::as_str) {
                    assert!(definitions.contains_key(name.strip_prefix("#/definitions/").unwrap()), "{name}");
                }
                members.values().for_each(|member| check(member, definitions));
            }
            Value::Array(items) => items.iter().for_each(|item| check(item, definitions)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let schema = policy();
    check(&schema, schema["definitions"].as_object().unwrap());
}

#[test]
fn a_claim_has_the_type_that_its_providers_give_it() {
    let schema = policy();
    let when = &schema["definitions"]["when"]["properties"];
    let of = |claim: &str| serde_json::to_string(&when[claim]).unwrap();
    assert!(of("repository_id").contains("text_condition"), "{}", of("repository_id"));
    assert!(of("email_verified").contains("boolean_condition"));
    assert!(
        of("org_id").contains("circleci (short for `oidc.circleci.com/org-id`), azure-devops, "),
        "{}",
        of("org_id")
    );
    assert!(of("repository_owner_id").contains("rules for github, forgejo, depot must pin it"));
    assert!(of("organization").contains("text_condition"), "a family's segment");
    assert!(of("any_of").contains("#/definitions/conditions"));
    assert!(schema["definitions"]["conditions"]["properties"].get("any_of").is_none(), "blocks do not nest");
}
