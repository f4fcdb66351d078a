//! The schema of audit events: what it says of each member, and whether an event is one. It reads the few keywords of JSON
//! Schema that the document uses and stops at any other, so that nothing in it goes unchecked.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use regex::Regex;
use serde_json::Map;
use serde_json::Value;

/// The document.
pub struct Schema {
    document: Value,
}

/// Keywords that restrict nothing.
const SAID: [&str; 4] = ["title", "description", "$schema", "$defs"];

impl Schema {
    pub fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.schema.json");
        Self { document: serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap() }
    }

    /// The schema of each kind of event.
    pub fn kinds(&self) -> BTreeMap<&str, &Map<String, Value>> {
        let kinds = self.document["oneOf"].as_array().unwrap().iter().map(|kind| self.resolved(kind));
        kinds.map(|kind| (kind["properties"]["event"]["const"].as_str().unwrap(), kind)).collect()
    }

    /// What is wrong with an event: nothing, or where and what.
    pub fn judge(&self, event: &Value) -> Result<(), String> {
        let kinds = self.kinds();
        let kind =
            event["event"].as_str().and_then(|name| kinds.get(name)).ok_or("it is of no kind that is described")?;
        self.check(kind, event, "")
    }

    /// Every member of a kind, those of members too, as `subject.iss` or `explanation.rules[].rule`, with what is said of it.
    pub fn members(&self, kind: &Map<String, Value>) -> BTreeMap<String, String> {
        let mut members = BTreeMap::new();
        self.collect(kind, "", &mut members);
        members
    }

    fn collect(&self, schema: &Map<String, Value>, at: &str, members: &mut BTreeMap<String, String>) {
        for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let member = self.resolved(member);
            let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            members.insert(path.clone(), member["description"].as_str().unwrap().to_owned());
            self.collect(member, &path, members);
            if let Some(items) = member.get("items") {
                self.collect(self.resolved(items), &format!("{path}[]"), members);
            }
        }
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Map<String, Value> {
        let Some(name) = schema.get("$ref") else { return schema.as_object().unwrap() };
        assert_eq!(schema.as_object().unwrap().len(), 1, "{schema}");
        self.document.pointer(name.as_str().unwrap().strip_prefix('#').unwrap()).unwrap().as_object().unwrap()
    }

    fn check(&self, schema: &Map<String, Value>, value: &Value, at: &str) -> Result<(), String> {
        let wrong = |what: String| Err(format!("{at}: {what}: {value}"));
        for (keyword, says) in schema {
            let holds = match keyword.as_str() {
                "const" => value == says,
                "enum" => says.as_array().unwrap().contains(value),
                "type" => match says.as_array() {
                    Some(types) => types.iter().any(|one| is_of(one, value)),
                    None => is_of(says, value),
                },
                "pattern" => {
                    value.as_str().is_none_or(|text| Regex::new(says.as_str().unwrap()).unwrap().is_match(text))
                }
                "minimum" => value.as_i64().is_none_or(|number| number >= says.as_i64().unwrap()),
                "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= says.as_u64().unwrap()),
                "items" => {
                    for item in value.as_array().into_iter().flatten() {
                        self.check(self.resolved(says), item, &format!("{at}[]"))?;
                    }
                    true
                }
                "properties" => {
                    for (name, member) in value.as_object().into_iter().flatten() {
                        if let Some(schema) = says.get(name) {
                            self.check(self.resolved(schema), member, &format!("{at}.{name}"))?;
                        }
                    }
                    true
                }
                "required" => says.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some()),
                "additionalProperties" => {
                    let known = |name: &str| schema["properties"].get(name).is_some();
                    says.as_bool().unwrap()
                        || value.as_object().is_none_or(|members| members.keys().all(|name| known(name)))
                }
                other => {
                    assert!(SAID.contains(&other), "{at}: the keyword `{other}` is not known here");
                    true
                }
            };
            if !holds {
                return wrong(format!("{keyword} {says}"));
            }
        }
        Ok(())
    }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("the type `{other}` is not known here"),
    }
}

/// Every member that an event has, spelled as [`Schema::members`] does.
pub fn paths(value: &Value, at: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let path = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                paths.push(path.clone());
                self::paths(member, &path, paths);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| self::paths(item, &format!("{at}[]"), paths)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
