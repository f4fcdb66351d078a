//! Depot CI: one issuer, whose claims are about repositories at GitHub.
//!
//! It is Depot that says so: a rule about GitHub's issuer never sees these tokens. Workflows are in `.depot/workflows`,
//! there is no `environment`, and `aud` is an array of one.

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

/// The preset `depot`.
pub static PROVIDER: Provider = Provider {
    name: "depot",
    site: Site::Fixed("https://identity.depot.dev"),
    hosts: &[HostName::Is("identity.depot.dev")],
    pins: &["org_id", "repository_owner_id", "repository_id"],
    // SECURITY: without one, any file that a branch adds to the workflows' folder publishes.
    narrows: &["workflow_file", "workflow_ref"],
    spans: &[Span { name: "owner", frees: &["repository_id"], names: &["repository_name"] }],
    required: &[
        "sub",
        "org_id",
        "job_id",
        "repository",
        "repository_id",
        "repository_owner_id",
        "event_name",
        "workflow_ref",
    ],
    claims: &[
        Claim::string("sub"),
        Claim::string("org_id"),
        Claim::folded("repository"),
        Claim::id("repository_id", Form::Decimal),
        Claim::folded("repository_owner"),
        Claim::id("repository_owner_id", Form::Decimal),
        Claim::string("repository_visibility"),
        Claim::string("ref"),
        Claim::string("ref_type"),
        Claim::string("base_ref"),
        Claim::string("head_ref"),
        Claim::string("sha"),
        Claim::string("event_name"),
        Claim::string("workflow"),
        Claim::string("workflow_ref"),
        Claim::string("workflow_sha"),
        Claim::string("run_id"),
        Claim::string("run_number"),
        Claim::string("run_attempt"),
        Claim::string("job_id"),
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
    // SECURITY: `pull_request_target`, `issue_comment` and others run with the repository's identity on input that
    // strangers control.
    implied: &[Implied {
        claim: "event_name",
        unless_prefix: None,
        test: ImpliedTest::In(&["push", "release", "workflow_dispatch"]),
    }],
    public: &[
        "sub",
        "org_id",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "repository_visibility",
        "ref",
        "ref_type",
        "base_ref",
        "head_ref",
        "sha",
        "event_name",
        "workflow",
        "workflow_ref",
        "workflow_sha",
        "run_id",
        "run_number",
        "run_attempt",
        "job_id",
        "actor",
        "actor_id",
    ],
    provenance: &[
        "org_id",
        "repository",
        "repository_id",
        "repository_owner_id",
        "ref",
        "sha",
        "event_name",
        "workflow_ref",
        "run_id",
        "run_attempt",
        "job_id",
    ],
    // Depot gives 300 s.
    max_lifetime: Duration::from_secs(10 * 60),
    examples: &[
        Example { name: "tag-push", claims: |overrides| job(overrides, "push", "refs/tags/v1.4.0") },
        Example { name: "branch-push", claims: |overrides| job(overrides, "push", "refs/heads/main") },
        Example { name: "pull-request", claims: |overrides| job(overrides, "pull_request", "refs/pull/7/merge") },
    ],
    ..Provider::PLAIN
};

/// Where a repository's Depot workflows are.
const FOLDER: &str = ".depot/workflows";

/// A job's claims. Overrides may also use `tag` for `ref` and `workflow_file` for `workflow_ref`.
fn job(overrides: &Object, event: &str, git_ref: &str) -> Object {
    let mut draft = Draft::new(overrides, &["tag", "workflow_file"]);
    let organization = draft.text("org_id", "org_7k2m9p4q");
    let repository = draft.text("repository", "octo-org/widgets");
    let owner = repository.split('/').next().unwrap_or_default();
    let tag = draft.wanted("tag").map(|tag| format!("refs/tags/{tag}"));
    let git_ref = draft.text("ref", tag.as_deref().unwrap_or(git_ref));
    let event = draft.text("event_name", event);
    let sha = draft.text("sha", "8c1356fc7b2f4f9d1d6b4a4c5a0e1f2d3c4b5a69");
    let file = draft.wanted("workflow_file").unwrap_or("release.yml");
    let (head, base) = if event.starts_with("pull_request") { ("fix", "main") } else { ("", "") };
    let place = format!("org/{organization}/ci/github/{repository}/ref/{git_ref}/sandbox/snd_3x5z7b9d");
    draft.texts(&[
        ("sub", &format!("spiffe://identity.depot.dev/{place}")),
        ("repository_id", "701234567"),
        ("repository_owner", owner),
        ("repository_owner_id", "9123456"),
        ("repository_visibility", "private"),
        ("ref_type", if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" }),
        ("head_ref", head),
        ("base_ref", base),
        ("workflow", &format!("{FOLDER}/{file}")),
        ("workflow_ref", &format!("{repository}/{FOLDER}/{file}@{git_ref}")),
        ("workflow_sha", &sha),
        ("run_id", "run_5c7v9b1n"),
        ("run_number", "42"),
        ("run_attempt", "1"),
        ("job_id", "job_2w4r6y8i"),
        ("actor", "mona"),
        ("actor_id", "583231"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
