//! Events as a log has them: what readers take from a line. What is not understood is said to be that, and nothing is
//! guessed.

use serde::Deserialize;
use serde_json::Value;

use super::event::SCHEMA;
use crate::time::Timestamp;

/// One line of a log.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// An event.
    Event(Box<Record>),
    /// An event of a version that is not understood.
    OtherSchema,
    /// An event of this version without what every event has, or with a member of another type.
    Faulty,
    /// No event at all.
    NotAnEvent,
}

/// An event. Members that do not apply are empty; members that this version of the program does not know are left aside.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Record {
    /// When, as it is written.
    pub time: String,
    /// The request that led to it.
    pub request_id: String,
    /// What was asked for.
    pub event: String,
    /// How it ended: `allow`, `deny` or `fault`.
    pub decision: String,
    /// `ok`, or the failure's code.
    pub code: String,
    /// The registry's id in the policy.
    #[serde(default)]
    pub registry: Option<String>,
    /// The issuer's id in the policy.
    #[serde(default)]
    pub issuer: Option<String>,
    /// What the ID token said of itself.
    #[serde(default)]
    pub subject: Option<Subject>,
    /// The one package that the dialect named.
    #[serde(default)]
    pub package: Option<String>,
    /// What was asked, as `action:package`.
    #[serde(default)]
    pub requested: Vec<String>,
    /// Whether a token for one upload was asked for.
    #[serde(default)]
    pub single_use: bool,
    /// What was granted, as `action:pattern`.
    #[serde(default)]
    pub granted: Vec<String>,
    /// The rules that it was about.
    #[serde(default)]
    pub rules: Vec<String>,
    /// The upload token's id.
    #[serde(default)]
    pub token_id: Option<String>,
    /// The job's public claims.
    #[serde(default)]
    pub claims: Value,
    /// Those of them that the ID token did not have.
    #[serde(default)]
    pub absent: Vec<String>,
    /// Why, in full.
    #[serde(default)]
    pub explanation: Value,
}

/// The standard claims of an ID token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subject {
    /// Its issuer's URL.
    pub iss: String,
    /// Its audience.
    pub aud: String,
    /// `exp − iat`, in seconds.
    pub lifetime: u64,
}

impl Line {
    /// Reads a line.
    pub fn parse(line: &[u8]) -> Self {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return Self::NotAnEvent };
        let schema = event.get("schema").and_then(Value::as_u64);
        match (schema, event.get("event")) {
            (Some(schema), Some(_)) if schema == u64::from(SCHEMA) => match Record::deserialize(event) {
                Ok(record) => Self::Event(Box::new(record)),
                Err(_) => Self::Faulty,
            },
            (Some(schema), _) if schema != u64::from(SCHEMA) => Self::OtherSchema,
            (Some(_) | None, _) => Self::NotAnEvent,
        }
    }
}

impl Record {
    /// When; `None` if that is not spelled as events spell it.
    pub fn at(&self) -> Option<Timestamp> {
        Timestamp::parse_with_millis(&self.time)
    }

    /// Whether the event is about a package of that name: the dialect named it, or it was asked for or granted.
    pub fn is_about(&self, package: &str) -> bool {
        let covers = |pair: &String| {
            let pattern = pair.split_once(':').map_or(pair.as_str(), |(_, pattern)| pattern);
            pattern.strip_suffix('*').map_or(pattern == package, |prefix| package.starts_with(prefix))
        };
        self.package.as_deref() == Some(package) || self.requested.iter().chain(&self.granted).any(covers)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EVENT: &str = r#"{"schema":1,"time":"2026-11-26T14:00:00.042Z","request_id":"r","event":"exchange","decision":"allow","code":"ok""#;

    #[test]
    fn a_line_is_an_event_or_is_said_not_to_be_one() {
        let event = |rest: &str| Line::parse(format!("{EVENT}{rest}").as_bytes());
        assert!(matches!(event("}"), Line::Event(record) if record.at().is_some() && record.claims == Value::Null));
        assert!(matches!(event(r#","not":"known","rules":["a"]}"#), Line::Event(record) if record.rules == ["a"]));
        for rest in [r#","rules":"a"}"#, r#","rules":[1]}"#, r#","single_use":1}"#, r#","subject":{"iss":"x"}}"#] {
            assert_eq!(event(rest), Line::Faulty, "{rest}");
        }
        for (line, expected) in [
            (r#"{"schema":1,"event":"exchange"}"#, Line::Faulty),
            (r#"{"schema":1,"event":1}"#, Line::Faulty),
            (r#"{"schema":2,"event":"exchange"}"#, Line::OtherSchema),
            (r#"{"schema":2}"#, Line::OtherSchema),
            (r#"{"schema":1}"#, Line::NotAnEvent),
            (r#"{"schema":"1","event":"exchange"}"#, Line::NotAnEvent),
            (r#"{"schema":-1,"event":"exchange"}"#, Line::NotAnEvent),
            ("{}", Line::NotAnEvent),
            ("[1]", Line::NotAnEvent),
            ("", Line::NotAnEvent),
            (EVENT, Line::NotAnEvent),
        ] {
            assert_eq!(Line::parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn an_event_is_about_the_packages_that_were_named_asked_for_or_granted() {
        let about = |members: Value, package: &str| {
            let mut event: Value = serde_json::from_str(&format!("{EVENT}}}")).unwrap();
            event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            let Line::Event(record) = Line::parse(event.to_string().as_bytes()) else { panic!("{event}") };
            record.is_about(package)
        };
        for (members, widgets, tools) in [
            (json!({}), false, false),
            (json!({"package": "widgets"}), true, false),
            (json!({"requested": ["upload:widgets"]}), true, false),
            (json!({"granted": ["upload:tools", "create:widgets-*"]}), false, true),
            (json!({"granted": ["create:wid*"]}), true, false),
            (json!({"granted": ["upload:*"]}), true, true),
            (json!({"granted": ["upload:org:widgets"], "rules": ["widgets"]}), false, false),
        ] {
            assert_eq!(
                [about(members.clone(), "widgets"), about(members.clone(), "tools")],
                [widgets, tools],
                "{members}"
            );
        }
    }
}
