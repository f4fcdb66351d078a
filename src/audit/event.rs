//! How an event is spelled: a JSON object on one line, version 1. `docs/audit.md` describes it to readers and
//! `docs/audit.schema.json` to programs; a test holds both to this.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;
use serde::Serializer;
use serde_json::Value;

use crate::escape::escape_json;
use crate::json::Json;
use crate::time::Timestamp;

/// The version of the event's members and their meaning. A new member keeps the version; a changed meaning raises it.
pub(super) const SCHEMA: u8 = 1;
/// How long lines usually are at most, in bytes.
const USUAL: usize = 2048;

/// One outcome. Members that do not apply are left out of the line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditEvent<'a> {
    pub(super) schema: u8,
    /// When the request was decided; RFC 3339, UTC, with milliseconds.
    #[serde(serialize_with = "moment")]
    pub time: Timestamp,
    /// The request that led to it, the same id as in the response.
    pub request_id: String,
    /// What was asked for.
    pub event: AuditKind,
    /// How it ended.
    pub decision: AuditDecision,
    /// The outcome's stable code, the same as in the response and the metric label.
    pub code: &'static str,
    /// Who must act on it: `request`, `refused`, `unavailable` or `fault`; none for what was allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    /// The registry's id in the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registry: Option<String>,
    /// The issuer's id in the policy: a configured one, never a token's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// What the ID token says of itself, once its signature was proven.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<AuditSubject>,
    /// The one package that the exchange's dialect names, if it names one: the grant reaches no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// What was asked, as `action:package`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<String>,
    /// Whether the client asked for a token that is good for one upload.
    #[serde(skip_serializing_if = "is_false")]
    pub single_use: bool,
    /// What was granted, as `action:pattern`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub granted: Vec<String>,
    /// The rules that granted it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// The rules in shadow mode that would have granted something that was not granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shadow: Vec<String>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_revision: Option<String>,
    /// The upload token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// What an exchange was if it was no first use of its ID token: `repeated`, the same upload token sent once more, or
    /// `off`, where the policy demands no first use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay: Option<&'static str>,
    /// The client's address, behind trusted proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The job's public claims that the policy reads; names are distinct.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "members")]
    pub claims: Vec<(&'a str, &'a Json)>,
    /// Those of the public claims that the ID token does not have. A claim in neither list is not known to this record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub absent: Vec<&'static str>,
    /// Why, in full: the explanation of a denial, the cause of a fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Value>,
}

/// The standard claims of an ID token that decide beside a job's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditSubject {
    /// Its issuer's URL: of a family the member's.
    pub iss: String,
    /// Its audience.
    pub aud: String,
    /// `exp − iat`, in seconds.
    pub lifetime: u64,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditKind {
    /// A CI token for an upload token.
    Exchange,
    /// Whether an upload token allows something.
    Verify,
    /// What an upload token is good for.
    Introspect,
    /// The end of an upload token, or of a rule's.
    Revoke,
    /// Another policy, in place of the one in force.
    Reload,
    /// A stop by the operators.
    Stop,
    /// The end of a stop before its time.
    Lift,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuditDecision {
    /// As asked.
    Allow,
    /// Refused: the service worked, the answer is no.
    Deny,
    /// Not decided: the service, or something it needs, failed.
    Fault,
}

impl AuditDecision {
    /// Every one.
    pub(super) const ALL: [Self; 3] = [Self::Allow, Self::Deny, Self::Fault];

    /// Its name in events and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Fault => "fault",
        }
    }
}

impl AuditEvent<'_> {
    /// An event with the members that every event has.
    pub const fn new(
        time: Timestamp,
        request_id: String,
        event: AuditKind,
        decision: AuditDecision,
        code: &'static str,
    ) -> Self {
        Self {
            schema: SCHEMA,
            time,
            request_id,
            event,
            decision,
            code,
            class: None,
            registry: None,
            issuer: None,
            subject: None,
            package: None,
            requested: Vec::new(),
            single_use: false,
            granted: Vec::new(),
            rules: Vec::new(),
            shadow: Vec::new(),
            policy_revision: None,
            token_id: None,
            replay: None,
            client: None,
            claims: Vec::new(),
            absent: Vec::new(),
            explanation: None,
        }
    }

    /// The event as its line; `None` if it cannot be spelled, which would be a defect.
    pub(super) fn spell(&self) -> Option<Spelled> {
        let mut line = Vec::with_capacity(USUAL);
        serde_json::to_writer(&mut line, self).ok()?;
        if let Cow::Owned(escaped) = escape_json(str::from_utf8(&line).ok()?) {
            line = escaped.into_bytes();
        }
        line.push(b'\n');
        Some(Spelled { line, decision: self.decision })
    }
}

/// An event as it is written.
pub(super) struct Spelled {
    /// With its end.
    pub(super) line: Vec<u8>,
    /// What it records.
    pub(super) decision: AuditDecision,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn moment<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.with_millis())
}

fn members<S: Serializer>(claims: &[(&str, &Json)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(claims.iter().copied())
}
