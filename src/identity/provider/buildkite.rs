//! Buildkite: one issuer for every organisation.
//!
//! A token has names unless its job asks for ids too, and names are freed when they change; without the ids it is
//! refused. The job also chooses the shape of `sub` and the token's lifetime. `build_number` is an integer, and
//! `step_key` is `null` for a step without a key.

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

/// The preset `buildkite`.
pub static PROVIDER: Provider = Provider {
    name: "buildkite",
    site: Site::Fixed("https://agent.buildkite.com"),
    hosts: &[HostName::Is("agent.buildkite.com")],
    pins: &["organization_id", "pipeline_id"],
    // SECURITY: without one, a build of any branch publishes, and of a fork's pull request where the pipeline builds them.
    narrows: &["tag", "build_tag", "branch", "build_branch"],
    spans: &[Span { name: "organization", frees: &["pipeline_id"], names: &["pipeline_slug"] }],
    required: &[
        "sub",
        "organization_id",
        "pipeline_id",
        "organization_slug",
        "pipeline_slug",
        "build_number",
        "build_source",
        "job_id",
    ],
    claims: &[
        Claim::string("sub"),
        Claim::id("organization_id", Form::Uuid),
        Claim::string("organization_slug"),
        Claim::id("pipeline_id", Form::Uuid),
        Claim::string("pipeline_slug"),
        Claim::string("build_id"),
        Claim::integer("build_number"),
        Claim::string("build_branch"),
        Claim::string("build_tag"),
        Claim::string("build_commit"),
        Claim::string("build_source"),
        Claim::string("step_key"),
        Claim::string("job_id"),
        Claim::string("agent_id"),
        Claim::string("cluster_id"),
        Claim::string("cluster_name"),
        Claim::string("queue_id"),
        Claim::string("queue_key"),
        Claim::string("runner_environment"),
    ],
    derived: &[
        Derived { claim: Claim::string("tag"), from: &["build_tag"], derive: tag },
        Derived { claim: Claim::string("branch"), from: &["build_branch", "build_tag"], derive: branch },
    ],
    // SECURITY: whoever may start builds by hand or through the API names the commit and the environment variables.
    implied: &[Implied {
        claim: "build_source",
        unless_prefix: None,
        test: ImpliedTest::In(&["webhook", "trigger_job"]),
    }],
    public: &[
        "sub",
        "organization_id",
        "organization_slug",
        "pipeline_id",
        "pipeline_slug",
        "build_id",
        "build_number",
        "build_branch",
        "build_tag",
        "build_commit",
        "build_source",
        "step_key",
        "job_id",
        "agent_id",
        "cluster_id",
        "cluster_name",
        "queue_id",
        "queue_key",
        "runner_environment",
    ],
    provenance: &[
        "organization_id",
        "organization_slug",
        "pipeline_id",
        "pipeline_slug",
        "build_number",
        "build_branch",
        "build_tag",
        "build_commit",
        "build_source",
        "job_id",
        "runner_environment",
    ],
    // SECURITY: the default; the job may ask for more, and a token that lies on an agent for hours is a password.
    max_lifetime: Duration::from_secs(5 * 60),
    hint: "request it with `--claim organization_id,pipeline_id`",
    examples: &[
        Example { name: "tag-push", claims: |overrides| job(overrides, "webhook", Some("v1.4.0")) },
        Example { name: "branch-push", claims: |overrides| job(overrides, "webhook", None) },
        Example { name: "triggered", claims: |overrides| job(overrides, "trigger_job", None) },
        Example { name: "manual-run", claims: |overrides| job(overrides, "ui", None) },
    ],
    ..Provider::PLAIN
};

fn tag(raw: &Object) -> Option<Json> {
    let tag = part::text(raw, "build_tag").filter(|tag| !tag.is_empty())?;
    Some(Json::String(tag.to_owned()))
}

/// SECURITY: a build of a tag has the tag's name for its branch too.
fn branch(raw: &Object) -> Option<Json> {
    let branch = part::text(raw, "build_branch").filter(|branch| !branch.is_empty())?;
    let untagged = raw.get("build_tag").is_none_or(|tag| *tag == Json::Null || tag.as_str() == Some(""));
    untagged.then(|| Json::String(branch.to_owned()))
}

/// A job's claims. Overrides may also use `tag` for `build_tag` and `branch` for `build_branch`.
fn job(overrides: &Object, source: &str, tag: Option<&str>) -> Object {
    let mut draft = Draft::new(overrides, &["tag", "branch"]);
    let organization = draft.text("organization_slug", "acme");
    let pipeline = draft.text("pipeline_slug", "widgets-release");
    let tag = draft.wanted("tag").or(tag);
    let tag = draft.optional("build_tag", tag);
    let branch = draft.wanted("branch").or(tag.as_deref()).unwrap_or("main").to_owned();
    let branch = draft.text("build_branch", &branch);
    let commit = draft.text("build_commit", "9f3182061f1e2cca4702c368cbc039b7dc9d4485");
    let step = draft.text("step_key", "publish");
    let git_ref = tag.map_or_else(|| format!("refs/heads/{branch}"), |tag| format!("refs/tags/{tag}"));
    draft.texts(&[
        ("sub", &format!("organization:{organization}:pipeline:{pipeline}:ref:{git_ref}:commit:{commit}:step:{step}")),
        ("organization_id", "f02d6a6f-7a0e-481d-9d6d-89b427aec48d"),
        ("pipeline_id", "01820b2c-3b1a-4d7f-8c2e-5a6b7c8d9e0f"),
        ("build_source", source),
        ("job_id", "0184990a-477b-4fa8-9968-496074483cee"),
        ("agent_id", "0184990a-4782-42b5-afc1-16715b10b8ff"),
        ("runner_environment", "buildkite-hosted"),
    ]);
    draft.value("build_number", Json::Int(128));
    draft.finish()
}

#[cfg(test)]
mod tests;
