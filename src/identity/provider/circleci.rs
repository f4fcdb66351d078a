//! `CircleCI`: each organisation's own issuer, or the root issuer that all of them share.
//!
//! The provider's own claims have names with dots and a slash, `oidc.circleci.com/project-id`; rules use their short
//! names. One key set signs for every organisation, so nothing but `iss` and the ids tells them apart. Tokens have no
//! `jti` and no `nbf`. `sub` has two shapes, and nothing here reads it.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Derived;
use crate::identity::provider::Example;
use crate::identity::provider::Form;
use crate::identity::provider::HostName;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::Span;
use crate::identity::provider::example::Draft;
use crate::identity::provider::part;
use crate::json::Json;
use crate::json::Object;

const ORG_ID: &str = "oidc.circleci.com/org-id";
const PROJECT_ID: &str = "oidc.circleci.com/project-id";
const DEFINITION_ID: &str = "oidc.circleci.com/pipeline-definition-id";
const PIPELINE_ID: &str = "oidc.circleci.com/pipeline-id";
const WORKFLOW_ID: &str = "oidc.circleci.com/workflow-id";
const JOB_ID: &str = "oidc.circleci.com/job-id";
const CONTEXT_IDS: &str = "oidc.circleci.com/context-ids";
const SSH_RERUN: &str = "oidc.circleci.com/ssh-rerun";
const VCS_ORIGIN: &str = "oidc.circleci.com/vcs-origin";
const VCS_REF: &str = "oidc.circleci.com/vcs-ref";

/// The preset `circleci`.
pub static PROVIDER: Provider = Provider {
    name: "circleci",
    site: Site::OneOf(&["https://oidc.circleci.com/org/*", "https://oidc.circleci.com"]),
    hosts: &[HostName::Is("oidc.circleci.com")],
    // SECURITY: a fork's pull request runs in the project, with its ids, where the project passes secrets to forks; only
    // `vcs-origin` then names the fork. The pipeline definition says which configuration file runs.
    pins: &[ORG_ID, PROJECT_ID, DEFINITION_ID, VCS_ORIGIN],
    // SECURITY: the origin stays: without it, a fork of any project that passes secrets to forks publishes.
    spans: &[Span { name: "organization", frees: &[PROJECT_ID, DEFINITION_ID], names: &[] }],
    required: &["sub", ORG_ID, PROJECT_ID, DEFINITION_ID, JOB_ID],
    claims: &[
        Claim::string("sub"),
        Claim::id(ORG_ID, Form::Uuid),
        Claim::id(PROJECT_ID, Form::Uuid),
        Claim::id(DEFINITION_ID, Form::Uuid),
        Claim::string(PIPELINE_ID),
        Claim::string(WORKFLOW_ID),
        Claim::string(JOB_ID),
        Claim::list(CONTEXT_IDS),
        Claim::boolean(SSH_RERUN),
        Claim::string(VCS_ORIGIN),
        Claim::string(VCS_REF),
    ],
    derived: &[
        Derived {
            claim: Claim::folded("repository_name"),
            from: &[VCS_ORIGIN],
            derive: |raw| part::last_segment(raw, VCS_ORIGIN),
        },
        Derived { claim: Claim::string("tag"), from: &[VCS_REF], derive: |raw| part::tag(raw, VCS_REF) },
    ],
    aliases: &[
        ("org_id", ORG_ID),
        ("project_id", PROJECT_ID),
        ("pipeline_definition_id", DEFINITION_ID),
        ("pipeline_id", PIPELINE_ID),
        ("workflow_id", WORKFLOW_ID),
        ("job_id", JOB_ID),
        ("context_ids", CONTEXT_IDS),
        ("ssh_rerun", SSH_RERUN),
        ("vcs_origin", VCS_ORIGIN),
        ("vcs_ref", VCS_REF),
    ],
    // SECURITY: in a job that was run again with SSH, somebody types the commands. It is a boolean: the text `"false"`
    // is not one.
    implied: &[Implied { claim: SSH_RERUN, unless_prefix: None, test: ImpliedTest::IsFalse }],
    public: &[
        "sub",
        ORG_ID,
        PROJECT_ID,
        DEFINITION_ID,
        PIPELINE_ID,
        WORKFLOW_ID,
        JOB_ID,
        CONTEXT_IDS,
        SSH_RERUN,
        VCS_ORIGIN,
        VCS_REF,
    ],
    provenance: &[ORG_ID, PROJECT_ID, DEFINITION_ID, PIPELINE_ID, WORKFLOW_ID, JOB_ID, VCS_ORIGIN, VCS_REF],
    max_lifetime: Duration::from_secs(60 * 60),
    families: &["https://oidc.circleci.com/org/{organization}"],
    examples: &[
        Example { name: "tag-push", claims: |overrides| job(overrides, "refs/tags/v1.4.0", &[]) },
        Example { name: "branch-push", claims: |overrides| job(overrides, "refs/heads/main", &[]) },
        Example { name: "ssh-rerun", claims: |o| job(o, "refs/tags/v1.4.0", &[("ssh_rerun", Json::Bool(true))]) },
        Example { name: "fork-pull-request", claims: fork },
    ],
    ..Provider::PLAIN
};

fn fork(overrides: &Object) -> Object {
    let origin = Json::String("github.com/mallory/widgets".to_owned());
    job(overrides, "refs/heads/main", &[("vcs_origin", origin)])
}

/// A job's claims; `special` are other defaults. Overrides may also use the short names.
fn job(overrides: &Object, git_ref: &str, special: &[(&str, Json)]) -> Object {
    let given = |name: &str| overrides.get(name).is_some() || overrides.get(PROVIDER.resolve(name)).is_some();
    let unset = special.iter().filter(|(name, _)| !given(name));
    let overrides = unset.fold(overrides.clone(), |all, (name, value)| all.with(name, value.clone()));
    let mut draft = Draft::new(&overrides, SHORT_NAMES);
    let text = |text: &str| Json::String(text.to_owned());
    let organization = draft.aliased("org_id", ORG_ID, text("c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2"));
    let project = draft.aliased("project_id", PROJECT_ID, text("3a2f7b1c-4d5e-4f60-8a7b-9c0d1e2f3a4b"));
    let origin = draft.aliased("vcs_origin", VCS_ORIGIN, text("github.com/acme/widgets"));
    let git_ref = draft.aliased("vcs_ref", VCS_REF, text(git_ref));
    let user = format!("org/{organization}/project/{project}/user/5e6f7a8b-9c0d-4e1f-a2b3-c4d5e6f7a8b9");
    // A pipeline without a repository has the shorter shape.
    let vcs = if git_ref.is_empty() { String::new() } else { format!("/vcs-origin/{origin}/vcs-ref/{git_ref}") };
    draft.text("sub", &format!("{user}{vcs}"));
    for (alias, name, value) in [
        ("pipeline_definition_id", DEFINITION_ID, "0a1b2c3d-4e5f-5061-8273-8495a6b7c8d9"),
        ("pipeline_id", PIPELINE_ID, "7c8d9e0f-1a2b-4c3d-8e4f-5a6b7c8d9e0f"),
        ("workflow_id", WORKFLOW_ID, "2b3c4d5e-6f70-4182-93a4-b5c6d7e8f901"),
        ("job_id", JOB_ID, "9e0f1a2b-3c4d-4e5f-8a6b-7c8d9e0f1a2b"),
    ] {
        draft.aliased(alias, name, text(value));
    }
    let context = text("7b6a5c4d-3e2f-4a1b-8c9d-0e1f2a3b4c5d");
    draft.aliased("context_ids", CONTEXT_IDS, Json::Array(vec![context]));
    draft.aliased("ssh_rerun", SSH_RERUN, Json::Bool(false));
    draft.finish()
}

/// In overrides they stand for their claims.
const SHORT_NAMES: &[&str] = &[
    "org_id",
    "project_id",
    "pipeline_definition_id",
    "pipeline_id",
    "workflow_id",
    "job_id",
    "context_ids",
    "ssh_rerun",
    "vcs_origin",
    "vcs_ref",
];

#[cfg(test)]
mod tests;
