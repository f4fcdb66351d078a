//! Semaphore: each organisation's own issuer, with keys that all of them share.
//!
//! The audience is the organisation's own URL, whoever the token is for. `branch` is the *target* branch of a pull
//! request's job, and `sub127` cuts its parts short so that different jobs have the same one: the first is safe only
//! beside the added conditions, and the second is not known here.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::FixedAudience;
use crate::identity::provider::Form;
use crate::identity::provider::HostName;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::Span;
use crate::identity::provider::example::Draft;
use crate::json::Json;
use crate::json::Object;

/// The preset `semaphore`.
pub static PROVIDER: Provider = Provider {
    name: "semaphore",
    site: Site::OneOf(&["https://*.semaphoreci.com"]),
    hosts: &[HostName::Below("semaphoreci.com")],
    pins: &["org_id", "prj_id"],
    spans: &[Span { name: "organization", frees: &["prj_id"], names: &[] }],
    // An organisation's administrators can take claims out of its tokens; without these a token is not used.
    required: &["sub", "org_id", "prj_id", "job_id", "job_type", "ref", "ref_type"],
    claims: &[
        Claim::string("sub"),
        Claim::string("org"),
        Claim::id("org_id", Form::Uuid),
        Claim::string("prj"),
        Claim::id("prj_id", Form::Uuid),
        Claim::string("wf_id"),
        Claim::string("ppl_id"),
        Claim::string("job_id"),
        Claim::string("job_type"),
        Claim::string("repo"),
        Claim::string("repo_slug"),
        Claim::string("ref"),
        Claim::string("ref_type"),
        Claim::string("branch"),
        Claim::string("tag"),
        Claim::string("pr"),
        Claim::string("pr_branch"),
        Claim::string("actor"),
        Claim::string("trg"),
    ],
    implied: &[
        // SECURITY: anyone may open a pull request, of a fork too.
        Implied { claim: "ref_type", unless_prefix: None, test: ImpliedTest::In(&["branch", "tag"]) },
        Implied { claim: "pr", unless_prefix: None, test: ImpliedTest::AbsentOrIs("") },
        // SECURITY: in a debugging job somebody types the commands.
        Implied { claim: "job_type", unless_prefix: None, test: ImpliedTest::In(&["pipeline_job"]) },
    ],
    public: &[
        "sub",
        "org",
        "org_id",
        "prj",
        "prj_id",
        "wf_id",
        "ppl_id",
        "job_id",
        "job_type",
        "repo",
        "repo_slug",
        "ref",
        "ref_type",
        "branch",
        "tag",
        "pr",
        "pr_branch",
        "trg",
    ],
    provenance: &["org_id", "prj_id", "repo_slug", "ref", "ref_type", "wf_id", "ppl_id", "job_id", "job_type"],
    // Semaphore gives 24 h, always.
    max_lifetime: Duration::from_secs(24 * 60 * 60),
    fixed_audience: Some(FixedAudience::IssuerUrl),
    examples: &[
        Example { name: "tag-push", claims: |overrides| job(overrides, Run::Tag) },
        Example { name: "branch-push", claims: |overrides| job(overrides, Run::Branch) },
        Example { name: "pull-request", claims: |overrides| job(overrides, Run::PullRequest) },
        Example { name: "debug", claims: debug },
    ],
    ..Provider::PLAIN
};

/// What a job runs for.
#[derive(Clone, Copy)]
enum Run {
    Tag,
    Branch,
    PullRequest,
}

fn debug(overrides: &Object) -> Object {
    let kind = overrides.get("job_type").cloned().unwrap_or_else(|| Json::String("debug_job".to_owned()));
    job(&overrides.clone().with("job_type", kind), Run::Branch)
}

/// A job's claims; `ref` follows `tag`.
fn job(overrides: &Object, run: Run) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    let organization = draft.text("org", "acme");
    let project = draft.text("prj_id", "936a5312-a3b8-4921-8b3f-2cec8baac574");
    let repository = draft.text("repo", "widgets");
    let (git_ref, kind) = match run {
        Run::Tag => ("refs/tags/v1.4.0", "tag"),
        Run::Branch => ("refs/heads/main", "branch"),
        Run::PullRequest => ("refs/pull/7/merge", "pull-request"),
    };
    let tag = draft.wanted("tag").filter(|tag| !tag.is_empty()).map(|tag| format!("refs/tags/{tag}"));
    let git_ref = draft.text("ref", tag.as_deref().unwrap_or(git_ref));
    let kind = draft.text("ref_type", if tag.is_some() { "tag" } else { kind });
    let (pr, pr_branch) = if kind == "pull-request" { ("7", "fix") } else { ("", "") };
    draft.texts(&[
        ("branch", git_ref.strip_prefix("refs/heads/").unwrap_or(if kind == "tag" { "" } else { "main" })),
        ("tag", git_ref.strip_prefix("refs/tags/").unwrap_or("")),
        ("pr", pr),
        ("pr_branch", pr_branch),
        ("sub", &format!("org:{organization}:project:{project}:repo:{repository}:ref_type:{kind}:ref:{git_ref}")),
        ("repo_slug", &format!("{organization}/{repository}")),
        ("org_id", "4d5e6f70-8192-4a3b-8c4d-5e6f708192a3"),
        ("prj", "widgets"),
        ("wf_id", "1be81412-6ab8-4fc0-9d0d-7af33335a6ec"),
        ("ppl_id", "1e1fcfb5-09c0-487e-b051-2d0b5514c42a"),
        ("job_id", "c117e453-1189-4eaf-b03a-dd6538eb49b2"),
        ("job_type", "pipeline_job"),
        ("actor", "sam"),
        ("trg", "h:f-i:t"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
