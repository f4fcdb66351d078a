//! Bitbucket Pipelines: each workspace's own issuer.
//!
//! Every identifier is a UUID between braces. `sub` names the step, so it differs each time; nothing says whether a run
//! is for a tag, and `branchName` is missing where it is not for a branch. The deployment environment is what a
//! repository's administrators can restrict. A job may ask for up to ten audiences in one token, which is refused.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::Form;
use crate::identity::provider::HostName;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::Span;
use crate::identity::provider::example::Draft;
use crate::json::Object;

/// The preset `bitbucket`.
pub static PROVIDER: Provider = Provider {
    name: "bitbucket",
    site: Site::OneOf(&["https://api.bitbucket.org/2.0/workspaces/*/pipelines-config/identity/oidc"]),
    hosts: &[HostName::Is("api.bitbucket.org")],
    // SECURITY: without the environment, a step of any branch's own `bitbucket-pipelines.yml` would do.
    pins: &["workspaceUuid", "repositoryUuid", "deploymentEnvironmentUuid"],
    // The environment stays: it is what a repository can restrict.
    spans: &[Span { name: "workspace", frees: &["repositoryUuid"], names: &[] }],
    required: &["sub", "workspaceUuid", "repositoryUuid", "pipelineUuid", "stepUuid"],
    claims: &[
        Claim::string("sub"),
        Claim::id("workspaceUuid", Form::BracedUuid),
        Claim::id("repositoryUuid", Form::BracedUuid),
        Claim::id("deploymentEnvironmentUuid", Form::BracedUuid),
        Claim::id("pipelineUuid", Form::BracedUuid),
        Claim::id("stepUuid", Form::BracedUuid),
        Claim::string("branchName"),
    ],
    public: &[
        "sub",
        "workspaceUuid",
        "repositoryUuid",
        "deploymentEnvironmentUuid",
        "pipelineUuid",
        "stepUuid",
        "branchName",
    ],
    provenance: &[
        "workspaceUuid",
        "repositoryUuid",
        "deploymentEnvironmentUuid",
        "pipelineUuid",
        "stepUuid",
        "branchName",
    ],
    // Not documented; an hour is the longest of the other providers that do not follow the job's own time limit.
    max_lifetime: Duration::from_secs(60 * 60),
    hint: "give the step a `deployment:`",
    examples: &[
        Example { name: "deployment", claims: |overrides| step(overrides, Some("main")) },
        Example { name: "tag-deployment", claims: |overrides| step(overrides, None) },
    ],
    ..Provider::PLAIN
};

fn step(overrides: &Object, branch: Option<&str>) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    draft.text("workspaceUuid", "{5f0c8a7e-2d3b-4c1a-9e8f-7a6b5c4d3e2f}");
    let repository = draft.text("repositoryUuid", "{c7d8e9f0-1a2b-4c3d-8e4f-5a6b7c8d9e0f}");
    let environment = draft.text("deploymentEnvironmentUuid", "{b1a2c3d4-e5f6-4708-91a2-b3c4d5e6f708}");
    let step = draft.text("stepUuid", "{e4f5a6b7-c8d9-4e0f-a1b2-c3d4e5f6a7b8}");
    let middle = if environment.is_empty() { String::new() } else { format!("{environment}:") };
    draft.texts(&[
        ("pipelineUuid", "{d3e4f5a6-b7c8-4d9e-8f0a-1b2c3d4e5f6a}"),
        ("sub", &format!("{repository}:{middle}{step}")),
    ]);
    draft.optional("branchName", branch);
    draft.finish()
}

#[cfg(test)]
mod tests;
