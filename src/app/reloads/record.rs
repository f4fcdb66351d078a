//! The record of reloads: what the log and the audit log say of them.

use std::net::IpAddr;

use serde_json::json;

use crate::audit::AuditDecision;
use crate::audit::AuditEvent;
use crate::audit::AuditKind;
use crate::audit::AuditLog;
use crate::code::Code;
use crate::macaroon::TokenId;
use crate::secret::random_bytes;

use super::Outcome;
use super::Serving;
use super::Status;

/// Most faults that the log and the audit log repeat; `GET /policy` has all.
const MAX_SHOWN: usize = 20;

/// Who or what asked for a reload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// A poll has seen other bytes.
    Poll,
    /// SIGHUP.
    Signal,
    /// An operator.
    Operator {
        /// The name under which the settings know them.
        caller: String,
        /// The request's id.
        request_id: String,
        /// The operator's address.
        client: Option<IpAddr>,
    },
}

impl Trigger {
    const fn as_str(&self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Signal => "signal",
            Self::Operator { .. } => "operator",
        }
    }
}

/// Says what the service begins with, if that is not what the directory holds.
pub(super) fn begun(status: &Status) {
    if status.serving == Serving::Copy {
        refused(status, "the policy is refused; the store's copy of the last good one decides");
    }
}

/// Says what came of a reload.
pub(super) fn concluded(status: &Status, trigger: &Trigger, audit: &AuditLog) {
    let (policy, by) = (&status.policy, trigger.as_str());
    match status.last.outcome {
        Outcome::Activated => tracing::info!(
            policy.revision = policy.revision(),
            issuers = policy.issuers().len(),
            registries = policy.registries().len(),
            rules = policy.rule_count(),
            by,
            "another policy is in force"
        ),
        Outcome::Unchanged => {
            tracing::info!(policy.revision = policy.revision(), by, "the policy directory holds what is in force");
        }
        Outcome::Refused => refused(status, "the changed policy is refused; the one before goes on deciding"),
        Outcome::Unsettled => refused(status, "the policy directory changes while it is read"),
    }
    audited(status, trigger, audit);
}

fn refused(status: &Status, message: &str) {
    let faults = &status.last.faults;
    tracing::error!(policy.revision = status.policy.revision(), faults = faults.len(), "{message}");
    for fault in faults.iter().take(MAX_SHOWN) {
        tracing::error!("{fault}");
    }
}

fn audited(status: &Status, trigger: &Trigger, audit: &AuditLog) {
    let decision = match status.last.outcome {
        Outcome::Activated => AuditDecision::Allow,
        Outcome::Refused => AuditDecision::Deny,
        Outcome::Unchanged | Outcome::Unsettled => return,
    };
    let at = status.last.at;
    let (request_id, caller, client) = match trigger {
        Trigger::Operator { caller, request_id, client } => (request_id.clone(), Some(caller), *client),
        Trigger::Poll | Trigger::Signal => {
            (TokenId::new(at, random_bytes().unwrap_or_default()).to_string(), None, None)
        }
    };
    let code = if decision == AuditDecision::Allow { "ok" } else { Code::PolicyRefused.as_str() };
    let mut event = AuditEvent::new(at, &request_id, AuditKind::Reload, decision, code);
    event.class = (decision == AuditDecision::Deny).then(|| Code::PolicyRefused.class().as_str());
    event.client = client;
    event.policy_revision = Some(status.policy.revision());
    let faults: Vec<String> = status.last.faults.iter().take(MAX_SHOWN).map(ToString::to_string).collect();
    event.explanation = Some(json!({ "by": trigger.as_str(), "caller": caller, "faults": faults }));
    audit.record(event);
}
