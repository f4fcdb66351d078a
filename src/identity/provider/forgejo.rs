//! Forgejo Actions: each instance's own issuer, `https://HOST/api/actions`.
//!
//! The claims are GitHub's by name, and mean what this instance says. `sub` joins a name and an id with `-`, which
//! names may contain, so it can be read in two ways and nothing here reads it. Older instances give no ids, and their
//! tokens are refused. Tokens have no `jti`.

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
use crate::identity::provider::github;
use crate::json::Object;

/// The preset `forgejo`.
pub static PROVIDER: Provider = Provider {
    name: "forgejo",
    site: Site::Configured,
    hosts: &[HostName::Is("codeberg.org")],
    pins: &["repository_owner_id", "repository_id"],
    // SECURITY: without one, any file that a branch adds to the workflows' folder publishes.
    narrows: &["workflow_file", "workflow_ref"],
    spans: &[Span { name: "owner", frees: &["repository_id"], names: &["repository_name"] }],
    required: &["sub", "repository", "repository_id", "repository_owner_id", "event_name", "workflow_ref", "ref"],
    claims: &[
        Claim::string("sub"),
        Claim::folded("repository"),
        Claim::id("repository_id", Form::Decimal),
        Claim::folded("repository_owner"),
        Claim::id("repository_owner_id", Form::Decimal),
        Claim::string("ref"),
        Claim::string("ref_type"),
        Claim::string("ref_protected"),
        Claim::string("base_ref"),
        Claim::string("head_ref"),
        Claim::string("sha"),
        Claim::string("event_name"),
        Claim::string("workflow"),
        Claim::string("workflow_ref"),
        Claim::string("run_id"),
        Claim::string("run_number"),
        Claim::string("run_attempt"),
        Claim::folded("actor"),
        Claim::string("actor_id"),
    ],
    derived: &[
        Derived {
            claim: Claim::string("workflow_file"),
            from: &["workflow_ref"],
            derive: |raw| github::part(raw, "workflow_ref", FOLDER, |workflow| workflow.file),
        },
        Derived {
            claim: Claim::folded("workflow_repository"),
            from: &["workflow_ref"],
            derive: |raw| github::part(raw, "workflow_ref", FOLDER, |workflow| workflow.repository),
        },
        Derived {
            claim: Claim::string("workflow_git_ref"),
            from: &["workflow_ref"],
            derive: |raw| github::part(raw, "workflow_ref", FOLDER, |workflow| workflow.git_ref),
        },
        Derived { claim: Claim::folded("repository_name"), from: &["repository"], derive: github::repository_name },
        Derived { claim: Claim::string("tag"), from: &["ref", "ref_type"], derive: github::tag },
    ],
    // SECURITY: `pull_request_target` and others run with the repository's identity on input that strangers control.
    implied: &[Implied {
        claim: "event_name",
        unless_prefix: None,
        test: ImpliedTest::In(&["push", "release", "workflow_dispatch"]),
    }],
    public: &[
        "sub",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "ref",
        "ref_type",
        "ref_protected",
        "base_ref",
        "head_ref",
        "sha",
        "event_name",
        "workflow",
        "workflow_ref",
        "run_id",
        "run_number",
        "run_attempt",
        "actor",
        "actor_id",
    ],
    provenance: &[
        "repository",
        "repository_id",
        "repository_owner_id",
        "ref",
        "sha",
        "event_name",
        "workflow_ref",
        "run_id",
        "run_attempt",
    ],
    // Not documented; an hour is the longest of the other providers that do not follow the job's own time limit.
    max_lifetime: Duration::from_secs(60 * 60),
    hint: "update the instance to a version whose tokens have ids",
    examples: &[
        Example { name: "tag-push", claims: |overrides| job(overrides, "push", "refs/tags/v1.4.0") },
        Example { name: "branch-push", claims: |overrides| job(overrides, "push", "refs/heads/main") },
        Example { name: "pull-request", claims: |overrides| job(overrides, "pull_request", "refs/pull/7/head") },
        Example { name: "pull-request-target", claims: |o| job(o, "pull_request_target", "refs/heads/main") },
    ],
    ..Provider::PLAIN
};

/// The first of the folders in which an instance looks for workflows, and the one that is its own. A workflow in
/// another one has no `workflow_file`: files in two folders may have one name.
const FOLDER: &str = ".forgejo/workflows";

/// A job's claims. Overrides may also use `tag` for `ref` and `workflow_file` for `workflow_ref`.
fn job(overrides: &Object, event: &str, git_ref: &str) -> Object {
    let mut draft = Draft::new(overrides, &["tag", "workflow_file"]);
    let repository = draft.text("repository", "acme/widgets");
    let owner = repository.split('/').next().unwrap_or_default();
    let tag = draft.wanted("tag").map(|tag| format!("refs/tags/{tag}"));
    let git_ref = draft.text("ref", tag.as_deref().unwrap_or(git_ref));
    let event = draft.text("event_name", event);
    let file = draft.wanted("workflow_file").unwrap_or("release.yml");
    let (head, base) = if event.starts_with("pull_request") { ("fix", "main") } else { ("", "") };
    draft.texts(&[
        ("repository_id", "4711"),
        ("repository_owner", owner),
        ("repository_owner_id", "815"),
        ("ref_type", if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" }),
        ("ref_protected", if git_ref.starts_with("refs/pull/") { "false" } else { "true" }),
        ("head_ref", head),
        ("base_ref", base),
        ("sha", "2b1a0f9e8d7c6b5a4938271605f4e3d2c1b0a998"),
        ("workflow", file),
        ("workflow_ref", &format!("{repository}/{FOLDER}/{file}@{git_ref}")),
        ("sub", &format!("repo:{repository}:ref:{git_ref}")),
        ("run_id", "90210"),
        ("run_number", "12"),
        ("run_attempt", "1"),
        ("actor", "sam"),
        ("actor_id", "42"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
