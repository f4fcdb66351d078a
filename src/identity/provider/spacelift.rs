//! Spacelift: each account's own issuer.
//!
//! The audience is the account's host, whoever the token is for. Spaces, stacks and modules are known by slugs, which
//! are the account's own. The shape of `sub` can be changed, so nothing here reads it.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::FixedAudience;
use crate::identity::provider::HostName;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::example::Draft;
use crate::json::Object;

/// The preset `spacelift`.
pub static PROVIDER: Provider = Provider {
    name: "spacelift",
    site: Site::OneOf(&["https://*.app.spacelift.io", "https://*.app.us.spacelift.io"]),
    hosts: &[HostName::Below("app.spacelift.io"), HostName::Below("app.us.spacelift.io")],
    pins: &["spaceId", "callerId"],
    required: &["sub", "spaceId", "callerType", "callerId", "runType", "runId", "scope"],
    claims: &[
        Claim::string("sub"),
        Claim::string("spaceId"),
        Claim::string("callerType"),
        Claim::string("callerId"),
        Claim::string("runType"),
        Claim::string("runId"),
        Claim::string("scope"),
    ],
    implied: &[
        // SECURITY: a module may have a stack's slug.
        Implied { claim: "callerType", unless_prefix: None, test: ImpliedTest::In(&["stack"]) },
        // SECURITY: a proposed run is a pull request's preview, and a task is a command that somebody typed.
        Implied { claim: "runType", unless_prefix: None, test: ImpliedTest::In(&["TRACKED"]) },
        // SECURITY: a tracked run has the scope `read` until it is confirmed.
        Implied { claim: "scope", unless_prefix: None, test: ImpliedTest::In(&["write"]) },
    ],
    public: &["sub", "spaceId", "callerType", "callerId", "runType", "runId", "scope"],
    provenance: &["spaceId", "callerType", "callerId", "runType", "runId", "scope"],
    max_lifetime: Duration::from_secs(60 * 60),
    fixed_audience: Some(FixedAudience::IssuerHost),
    examples: &[
        Example { name: "tracked-run", claims: |overrides| run(overrides, "TRACKED", "write") },
        Example { name: "proposed-run", claims: |overrides| run(overrides, "PROPOSED", "read") },
        Example { name: "task", claims: |overrides| run(overrides, "TASK", "write") },
    ],
    ..Provider::PLAIN
};

fn run(overrides: &Object, kind: &str, scope: &str) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    let space = draft.text("spaceId", "release-01HZX8K3Q5W7R9T1Y2V4B6N8M0");
    let caller_type = draft.text("callerType", "stack");
    let caller = draft.text("callerId", "widgets-release");
    let kind = draft.text("runType", kind);
    let scope = draft.text("scope", scope);
    draft.texts(&[
        ("sub", &format!("space:{space}:{caller_type}:{caller}:run_type:{kind}:scope:{scope}")),
        ("runId", "01HZXA5J7M9P1R3T5V7X9Z1B3D"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
