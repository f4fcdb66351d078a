//! Past exchanges, as the audit log has them.

use serde::Deserialize;
use serde_json::Value;

use crate::json::Json;
use crate::json::Object;
use crate::policy::explain::Cause;

/// The version of the events that are understood.
const SCHEMA: u64 = 1;

/// One line of an audit file.
#[derive(Debug)]
pub(super) enum Line {
    /// An exchange whose ID token was proven.
    Exchange(Box<Past>),
    /// An event of another kind.
    OtherEvent,
    /// An event of a version that is not understood.
    OtherSchema,
    /// An exchange without what replaying it takes.
    Incomplete,
    /// No event at all.
    NotAnEvent,
}

/// What an exchange was decided by, and how it ended.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) time: String,
    pub(super) request_id: String,
    pub(super) registry: String,
    pub(super) iss: String,
    pub(super) aud: String,
    /// `exp − iat`, in seconds.
    pub(super) lifetime: u64,
    pub(super) package: Option<String>,
    /// The pairs to which the client narrowed; none for no narrowing.
    pub(super) requested: Vec<String>,
    pub(super) single_use: bool,
    /// Whether the rules then granted something, whatever came after.
    pub(super) granted: bool,
    /// Whether the rules that the registry served itself then gave nothing of what was asked for.
    pub(super) without_bundle: bool,
    /// The public claims.
    pub(super) claims: Object,
    /// Those of them that the token did not have.
    pub(super) absent: Vec<String>,
}

#[derive(Deserialize)]
struct Exchange {
    time: String,
    request_id: String,
    registry: String,
    subject: Subject,
    #[serde(default)]
    package: Option<String>,
    #[serde(default)]
    requested: Vec<String>,
    #[serde(default)]
    single_use: bool,
    #[serde(default)]
    rules: Vec<String>,
    #[serde(default)]
    explanation: Value,
    #[serde(default)]
    claims: Value,
    #[serde(default)]
    absent: Vec<String>,
}

#[derive(Deserialize)]
struct Subject {
    iss: String,
    aud: String,
    lifetime: u64,
}

impl Exchange {
    /// The names of a registry's own rules have its own before them. Where none granted, the cause tells: most leave no
    /// rule that gives something of what was asked for.
    fn without_bundle(&self) -> bool {
        if !self.rules.is_empty() {
            return !self.rules.iter().any(|rule| rule.contains('/'));
        }
        // The event's own code is what the job was told, which may be less.
        let cause = self.explanation.get("code").and_then(Value::as_str);
        Cause::ALL.into_iter().any(|known| Some(known.code().as_str()) == cause && !leaves_part(known))
    }
}

/// Whether a refusal for this cause leaves open that some rule gives a part of what was asked for, or was not asked.
const fn leaves_part(cause: Cause) -> bool {
    match cause {
        Cause::RegistryDisabled | Cause::IssuerDisabled | Cause::ScopeNotGranted | Cause::AmbiguousGrant => true,
        Cause::RuleDisabled
        | Cause::NoMatchingRule
        | Cause::OwnerMismatch
        | Cause::RepositoryRecreated
        | Cause::RepositoryRenamed
        | Cause::EnvironmentMismatch
        | Cause::ReusableWorkflow
        | Cause::WorkflowMismatch
        | Cause::EventNotAllowed
        | Cause::RefMismatch
        | Cause::MissingClaim
        | Cause::ConditionFailed
        | Cause::NameNotValid
        | Cause::PackageNotGranted => false,
    }
}

impl Line {
    /// Reads a line. What is not understood is said to be that, and nothing is guessed.
    pub(super) fn parse(line: &[u8]) -> Self {
        let Ok(event) = serde_json::from_slice::<Value>(line) else { return Self::NotAnEvent };
        let member = |name| event.get(name);
        match (member("schema").and_then(Value::as_u64), member("event").and_then(Value::as_str)) {
            (Some(SCHEMA), Some("exchange")) => match Past::of(event) {
                Some(past) => Self::Exchange(Box::new(past)),
                None => Self::Incomplete,
            },
            (Some(SCHEMA), Some(_)) => Self::OtherEvent,
            (Some(SCHEMA) | None, _) => Self::NotAnEvent,
            (Some(_), _) => Self::OtherSchema,
        }
    }
}

impl Past {
    fn of(event: Value) -> Option<Self> {
        let event: Exchange = serde_json::from_value(event).ok()?;
        let without_bundle = event.without_bundle();
        let claims = match Json::parse(event.claims.to_string().as_bytes()) {
            Ok(Json::Object(claims)) => claims,
            Ok(Json::Null) => Object::default(),
            Ok(_) | Err(_) => return None,
        };
        Some(Self {
            time: event.time,
            request_id: event.request_id,
            registry: event.registry,
            iss: event.subject.iss,
            aud: event.subject.aud,
            lifetime: event.subject.lifetime,
            package: event.package,
            requested: event.requested,
            single_use: event.single_use,
            granted: !event.rules.is_empty(),
            without_bundle,
            claims,
            absent: event.absent,
        })
    }
}
