//! What a value of a body or a parameter may be: enough of JSON Schema for this service's own bodies, as constants.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::code::Code;

/// What a value may be.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Any text, the empty one included.
    AnyText,
    /// Any text but the empty one.
    SomeText,
    /// Text of one to so many bytes.
    Text(usize),
    /// Text in a format that JSON Schema names: `date-time`, `uuid`.
    Format(&'static str),
    /// Text in one of these formats. What does not check formats finds that any of them fits.
    Formats(&'static [&'static str]),
    /// Text that this regular expression describes.
    Pattern(&'static str),
    /// One of these texts.
    Words(&'static [&'static str]),
    /// One of these codes.
    Codes(&'static [&'static [Code]]),
    /// A whole number that is not negative.
    Count,
    /// True or false.
    Flag,
    /// This very truth value.
    Always(bool),
    /// A list.
    List(&'static Self),
    /// An object with these members and no others.
    Object(&'static [Member]),
    /// An object with these members; others are not looked at by whoever reads it.
    Open(&'static [Member]),
    /// An object with any members.
    AnyObject,
    /// `null`, which says as much as leaving it out.
    Null,
    /// That, or `null`, which says as much as leaving it out.
    OrNull(&'static Self),
    /// One of several that exclude each other.
    Either(&'static [Self]),
}

/// A member of an object.
#[derive(Debug, Clone, Copy)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it may be.
    pub shape: Shape,
    /// What it says. Text in backticks is code.
    pub about: &'static str,
}

impl Member {
    /// A member that must be there.
    pub const fn must(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, required: true, shape, about }
    }

    /// A member that may be left out.
    pub const fn may(name: &'static str, shape: Shape, about: &'static str) -> Self {
        Self { name, required: false, shape, about }
    }
}

impl Shape {
    /// As a JSON Schema (2020-12, which OpenAPI 3.1 uses).
    pub fn schema(&self) -> Value {
        match self {
            Self::AnyText => json!({"type": "string"}),
            Self::SomeText => json!({"type": "string", "minLength": 1}),
            Self::Text(most) => json!({"type": "string", "minLength": 1, "maxLength": most}),
            Self::Format(name) => json!({"type": "string", "format": name}),
            Self::Formats(names) => {
                json!({"anyOf": names.iter().map(|name| Self::Format(name).schema()).collect::<Vec<_>>()})
            }
            Self::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
            Self::Words(words) => json!({"type": "string", "enum": words}),
            Self::Codes(groups) => json!({"type": "string", "enum": groups.concat()}),
            Self::Count => json!({"type": "integer", "minimum": 0, "maximum": i64::MAX}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Always(value) => json!({"const": value}),
            Self::List(of) => json!({"type": "array", "items": of.schema()}),
            Self::Object(members) => object(members, Some(false)),
            Self::Open(members) => object(members, None),
            Self::AnyObject => json!({"type": "object"}),
            Self::Null => json!({"type": "null"}),
            Self::OrNull(of) => json!({"anyOf": [of.schema(), {"type": "null"}]}),
            Self::Either(shapes) => json!({"oneOf": shapes.iter().map(Self::schema).collect::<Vec<_>>()}),
        }
    }

    /// The objects with known members that a value may be.
    pub fn objects(&self) -> Vec<&'static [Member]> {
        if let Self::Object(members) | Self::Open(members) = self {
            vec![*members]
        } else if let Self::Either(shapes) = self {
            shapes.iter().flat_map(Self::objects).collect()
        } else {
            Vec::new()
        }
    }

    /// In words, for a table.
    pub fn words(&self) -> String {
        match self {
            Self::AnyText => "text".to_owned(),
            Self::SomeText => "text, not empty".to_owned(),
            Self::Text(most) => format!("text, at most {most} bytes"),
            Self::Format(name) => format!("text: {name}"),
            Self::Formats(names) => format!("text: {}", names.join(" or ")),
            Self::Pattern(pattern) => format!("text like `{pattern}`"),
            Self::Words(words) => format!("`{}`", words.join("` or `")),
            Self::Codes(groups) => {
                let codes: Vec<&str> = groups.iter().flat_map(|group| *group).map(|code| code.as_str()).collect();
                format!("a code: `{}`", codes.join("`, `"))
            }
            Self::Count => "whole number".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Always(value) => format!("`{value}`"),
            Self::List(of) => format!("list of: {}", of.words()),
            Self::Object(_) | Self::Open(_) | Self::AnyObject => "object".to_owned(),
            Self::Null => "null".to_owned(),
            Self::OrNull(of) => format!("{}, or null", of.words()),
            Self::Either(shapes) => shapes.iter().map(Self::words).collect::<Vec<_>>().join("; or "),
        }
    }
}

fn object(members: &[Member], additional: Option<bool>) -> Value {
    let properties: Map<String, Value> = members
        .iter()
        .map(|member| {
            let mut schema = member.shape.schema();
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".to_owned(), json!(member.about));
            }
            (member.name.to_owned(), schema)
        })
        .collect();
    let required: Vec<&str> = members.iter().filter(|member| member.required).map(|member| member.name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if let Some(schema) = schema.as_object_mut() {
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        if let Some(additional) = additional {
            schema.insert("additionalProperties".to_owned(), json!(additional));
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::net::Ipv6Addr;

    use crate::http::ENDPOINTS;

    use super::*;

    /// Whether a value is what a shape says. Patterns and other formats than addresses are left to whoever reads the schema.
    fn fits(shape: &Shape, value: &Value) -> bool {
        let members = |members: &[Member], closed: bool| {
            let Some(object) = value.as_object() else { return false };
            let known = |name: &String| members.iter().any(|member| member.name == name);
            members.iter().all(|member| match object.get(member.name) {
                Some(value) => fits(&member.shape, value),
                None => !member.required,
            }) && (!closed || object.keys().all(known))
        };
        match shape {
            Shape::Format("ipv4") => value.as_str().is_some_and(|text| text.parse::<Ipv4Addr>().is_ok()),
            Shape::Format("ipv6") => value.as_str().is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()),
            Shape::Formats(names) => names.iter().any(|name| fits(&Shape::Format(name), value)),
            Shape::AnyText | Shape::Format(_) | Shape::Pattern(_) => value.is_string(),
            Shape::SomeText => value.as_str().is_some_and(|text| !text.is_empty()),
            Shape::Text(most) => value.as_str().is_some_and(|text| (1..=*most).contains(&text.len())),
            Shape::Words(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Shape::Codes(groups) => {
                groups.iter().flat_map(|group| *group).any(|code| value.as_str() == Some(code.as_str()))
            }
            Shape::Count => value.is_u64(),
            Shape::Flag => value.is_boolean(),
            Shape::Always(truth) => value.as_bool() == Some(*truth),
            Shape::List(of) => value.as_array().is_some_and(|items| items.iter().all(|item| fits(of, item))),
            Shape::Object(known) => members(known, true),
            Shape::Open(known) => members(known, false),
            Shape::AnyObject => value.is_object(),
            Shape::Null => value.is_null(),
            Shape::OrNull(of) => value.is_null() || fits(of, value),
            Shape::Either(shapes) => shapes.iter().filter(|shape| fits(shape, value)).count() == 1,
        }
    }

    #[test]
    fn every_example_is_what_its_shape_says() {
        for endpoint in ENDPOINTS {
            for operation in endpoint.operations {
                let bodies = operation.body.iter().map(|body| (&body.shape, body.example));
                let contents = operation.answers.iter().filter_map(|answer| answer.content.as_ref());
                let answers = contents.map(|content| (&content.shape, content.example));
                for (shape, example) in bodies.chain(answers) {
                    let value: Value = serde_json::from_str(example).unwrap();
                    assert!(fits(shape, &value), "{}: {example}", operation.id);
                }
            }
        }
        assert!(!fits(&Shape::Object(&[]), &json!({"a": 1})) && !fits(&Shape::Text(1), &json!("ab")));
    }

    #[test]
    fn a_schema_says_what_the_shape_does() {
        const MEMBERS: &[Member] =
            &[Member::must("a", Shape::Text(3), "A."), Member::may("b", Shape::OrNull(&Shape::Flag), "B.")];
        assert_eq!(
            Shape::Object(MEMBERS).schema(),
            json!({
                "type": "object",
                "properties": {
                    "a": {"type": "string", "minLength": 1, "maxLength": 3, "description": "A."},
                    "b": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "description": "B."},
                },
                "required": ["a"],
                "additionalProperties": false,
            })
        );
        assert_eq!(Shape::Open(&[]).schema(), json!({"type": "object", "properties": {}}));
    }
}
