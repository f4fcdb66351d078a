//! Past exchanges, as the audit log has them.

use serde_json::Value;

use crate::audit::Record;
use crate::json::Json;
use crate::json::Object;
use crate::policy::explain::Cause;

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

/// The names of a registry's own rules have its own before them. Where none granted, the cause tells: most leave no rule
/// that gives something of what was asked for.
fn without_bundle(record: &Record) -> bool {
    if !record.rules.is_empty() {
        return !record.rules.iter().any(|rule| rule.contains('/'));
    }
    // The event's own code is what the job was told, which may be less.
    let cause = record.explanation.get("code").and_then(Value::as_str);
    Cause::ALL.into_iter().any(|known| Some(known.code().as_str()) == cause && !leaves_part(known))
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

impl Past {
    /// What replaying an exchange takes; `None` if the event does not have it.
    pub(super) fn of(record: Record) -> Option<Self> {
        let without_bundle = without_bundle(&record);
        let claims = match Json::parse(record.claims.to_string().as_bytes()) {
            Ok(Json::Object(claims)) => claims,
            Ok(Json::Null) => Object::default(),
            Ok(_) | Err(_) => return None,
        };
        let (registry, subject) = (record.registry?, record.subject?);
        Some(Self {
            time: record.time,
            request_id: record.request_id,
            registry,
            iss: subject.iss,
            aud: subject.aud,
            lifetime: subject.lifetime,
            package: record.package,
            requested: record.requested,
            single_use: record.single_use,
            granted: !record.rules.is_empty(),
            without_bundle,
            claims,
            absent: record.absent,
        })
    }
}
