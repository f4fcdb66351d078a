//! How an event is spelled: a JSON object on one line, version 1. `docs/audit.md` describes it to readers and
//! `docs/audit.schema.json` to programs; a test holds both to this.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::Serialize;
use serde_json::Error;
use serde_json::Value;

use crate::escape::escape_json;
use crate::json::Json;
use crate::json_text::Members;
use crate::json_text::write_object;
use crate::time::Timestamp;

/// The version of the event's members and their meaning. A new member keeps the version; a changed meaning raises it.
pub(super) const SCHEMA: u8 = 1;
/// How long lines usually are at most, in bytes.
const USUAL: usize = 2048;

/// One outcome. Members that do not apply are left out of the line.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent<'a> {
    pub(super) schema: u8,
    /// When the request was decided; RFC 3339, UTC, with milliseconds.
    pub time: Timestamp,
    /// The request that led to it, the same id as in the response.
    pub request_id: &'a str,
    /// What was asked for.
    pub event: AuditKind,
    /// How it ended.
    pub decision: AuditDecision,
    /// The outcome's stable code, the same as in the response and the metric label.
    pub code: &'static str,
    /// Who must act on it: `request`, `refused`, `unavailable` or `fault`; none for what was allowed.
    pub class: Option<&'static str>,
    /// The registry's id in the policy.
    pub registry: Option<&'a str>,
    /// The issuer's id in the policy: a configured one, never a token's text.
    pub issuer: Option<&'a str>,
    /// What the ID token says of itself, once its signature was proven.
    pub subject: Option<AuditSubject<'a>>,
    /// The one package that the exchange's dialect names, if it names one: the grant reaches no other.
    pub package: Option<&'a str>,
    /// What was asked, as `action:package`.
    pub requested: &'a [String],
    /// Whether the client asked for a token that is good for one upload.
    pub single_use: bool,
    /// What was granted, as `action:pattern`.
    pub granted: Vec<String>,
    /// The rules that granted it.
    pub rules: &'a [String],
    /// The rules in shadow mode that would have granted something that was not granted.
    pub shadow: &'a [String],
    /// The policy that decided.
    pub policy_revision: Option<&'a str>,
    /// The upload token's id.
    pub token_id: Option<String>,
    /// What an exchange was if it was no first use of its ID token: `repeated`, the same upload token sent once more, or
    /// `off`, where the policy demands no first use.
    pub replay: Option<&'static str>,
    /// The client's address, behind trusted proxies.
    pub client: Option<IpAddr>,
    /// The job's public claims that the policy reads; names are distinct.
    pub claims: Vec<(&'a str, &'a Json)>,
    /// Those of the public claims that the ID token does not have. A claim in neither list is not known to this record.
    pub absent: Vec<&'static str>,
    /// Why, in full: the explanation of a denial, the cause of a fault.
    pub explanation: Option<Value>,
}

/// The standard claims of an ID token that decide beside a job's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditSubject<'a> {
    /// Its issuer's URL: of a family the member's.
    pub iss: &'a str,
    /// Its audience.
    pub aud: &'a str,
    /// `exp − iat`, in seconds.
    pub lifetime: u64,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl AuditKind {
    /// Its name in events.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Verify => "verify",
            Self::Introspect => "introspect",
            Self::Revoke => "revoke",
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::Lift => "lift",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

impl<'a> AuditEvent<'a> {
    /// An event with the members that every event has.
    pub const fn new(
        time: Timestamp,
        request_id: &'a str,
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
            requested: &[],
            single_use: false,
            granted: Vec::new(),
            rules: &[],
            shadow: &[],
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
        let mut line = String::with_capacity(USUAL);
        write_object(&mut line, |members| self.write(members)).ok()?;
        if let Cow::Owned(escaped) = escape_json(&line) {
            line = escaped;
        }
        line.push('\n');
        Some(Spelled { line: line.into_bytes(), decision: self.decision })
    }

    /// Every member that applies, in the order of the fields. By hand: an event is written for each request.
    fn write(&self, members: &mut Members<'_>) -> Result<(), Error> {
        // All fields are named, so that none is forgotten.
        let Self {
            schema,
            time,
            request_id,
            event,
            decision,
            code,
            class,
            registry,
            issuer,
            subject,
            package,
            requested,
            single_use,
            granted,
            rules,
            shadow,
            policy_revision,
            token_id,
            replay,
            client,
            claims,
            absent,
            explanation,
        } = self;
        members.number("schema", (*schema).into());
        members.spelled("time", &time.with_millis());
        members.string("request_id", request_id);
        members.string("event", event.as_str());
        members.string("decision", decision.as_str());
        members.string("code", code);
        members.optional("class", *class);
        members.optional("registry", *registry);
        members.optional("issuer", *issuer);
        if let Some(AuditSubject { iss, aud, lifetime }) = subject {
            members.object("subject", |subject| {
                subject.string("iss", iss);
                subject.string("aud", aud);
                subject.number("lifetime", *lifetime);
                Ok(())
            })?;
        }
        members.optional("package", *package);
        list(members, "requested", requested);
        if *single_use {
            members.truth("single_use", true);
        }
        list(members, "granted", granted);
        list(members, "rules", rules);
        list(members, "shadow", shadow);
        members.optional("policy_revision", *policy_revision);
        members.optional("token_id", token_id.as_deref());
        members.optional("replay", *replay);
        if let Some(client) = client {
            members.spelled("client", client);
        }
        if !claims.is_empty() {
            members
                .object("claims", |members| claims.iter().try_for_each(|(name, value)| members.json(name, value)))?;
        }
        list(members, "absent", absent);
        explanation.iter().try_for_each(|explanation| members.other("explanation", explanation))
    }
}

/// An event as it is written.
pub(super) struct Spelled {
    /// With its end.
    pub(super) line: Vec<u8>,
    /// What it records.
    pub(super) decision: AuditDecision,
}

/// A list, if anything is in it.
fn list(members: &mut Members<'_>, name: &str, values: &[impl AsRef<str>]) {
    if !values.is_empty() {
        members.strings(name, values);
    }
}
