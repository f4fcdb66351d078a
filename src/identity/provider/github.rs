//! GitHub Actions: github.com, enterprises with their own slug or data residency, and GitHub Enterprise Server.
//!
//! Every claim but the times is a string. `sub` has three shapes in use at once and repository administrators can
//! change it, so nothing here reads it.

use std::time::Duration;

use crate::escape::is_printable_ascii;
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
use crate::json::Json;
use crate::json::Object;

/// The preset `github`.
pub static PROVIDER: Provider = Provider {
    name: "github",
    site: Site::Default("https://token.actions.githubusercontent.com"),
    hosts: &[HostName::Is("token.actions.githubusercontent.com"), HostName::Below("ghe.com")],
    pins: &["repository_owner_id", "repository_id"],
    spans: &[Span { name: "owner", frees: &["repository_id"], names: &["repository_name"] }],
    // The same key signs runner-internal tokens that live for hours; they have none of these.
    required: &[
        "sub",
        "repository",
        "repository_id",
        "repository_owner_id",
        "event_name",
        "workflow_ref",
        "job_workflow_ref",
    ],
    claims: CLAIMS,
    derived: DERIVED,
    implied: &[
        // SECURITY: `pull_request_target`, `workflow_run`, `issue_comment` and others run with the repository's
        // identity on input that strangers control.
        Implied {
            claim: "event_name",
            unless_prefix: None,
            test: ImpliedTest::In(&["push", "release", "workflow_dispatch"]),
        },
        // SECURITY: in a called reusable workflow the two differ, and the file that runs may be another repository's.
        Implied {
            claim: "job_workflow_ref",
            unless_prefix: Some("job_workflow_"),
            test: ImpliedTest::SameAs("workflow_ref"),
        },
    ],
    public: &[
        "sub",
        "repository",
        "repository_id",
        "repository_owner",
        "repository_owner_id",
        "repository_visibility",
        "enterprise",
        "enterprise_id",
        "ref",
        "ref_type",
        "ref_protected",
        "base_ref",
        "head_ref",
        "sha",
        "event_name",
        "environment",
        "workflow",
        "workflow_ref",
        "workflow_sha",
        "job_workflow_ref",
        "job_workflow_sha",
        "run_id",
        "run_number",
        "run_attempt",
        "runner_environment",
        "actor",
        "actor_id",
        "workflow_file",
        "workflow_repository",
        "workflow_git_ref",
        "job_workflow_file",
        "job_workflow_repository",
        "job_workflow_git_ref",
        "repository_name",
        "tag",
    ],
    provenance: &[
        "repository",
        "repository_id",
        "repository_owner_id",
        "ref",
        "sha",
        "event_name",
        "environment",
        "workflow_file",
        "job_workflow_ref",
        "run_id",
        "run_attempt",
        "runner_environment",
    ],
    // GitHub gives 300 s; three times that leaves room for other editions of the server.
    max_lifetime: Duration::from_secs(15 * 60),
    families: &["https://token.actions.githubusercontent.com/{enterprise_slug}"],
    examples: EXAMPLES,
    ..Provider::PLAIN
};

/// Names of owners, repositories, environments and accounts ignore case at GitHub; identifiers, refs, paths and hashes
/// do not.
const CLAIMS: &[Claim] = &[
    Claim::string("sub"),
    Claim::folded("repository"),
    Claim::id("repository_id", Form::Decimal),
    Claim::folded("repository_owner"),
    Claim::id("repository_owner_id", Form::Decimal),
    Claim::string("repository_visibility"),
    Claim::folded("enterprise"),
    Claim::id("enterprise_id", Form::Decimal),
    Claim::string("ref"),
    Claim::string("ref_type"),
    Claim::string("ref_protected"),
    Claim::string("base_ref"),
    Claim::string("head_ref"),
    Claim::string("sha"),
    Claim::string("event_name"),
    Claim::folded("environment"),
    Claim::string("environment_node_id"),
    Claim::string("workflow"),
    Claim::string("workflow_ref"),
    Claim::string("workflow_sha"),
    Claim::string("job_workflow_ref"),
    Claim::string("job_workflow_sha"),
    Claim::string("run_id"),
    Claim::string("run_number"),
    Claim::string("run_attempt"),
    Claim::string("check_run_id"),
    Claim::string("runner_environment"),
    Claim::folded("actor"),
    Claim::id("actor_id", Form::Decimal),
    Claim::string("issuer_scope"),
];

/// Where a repository's workflow files are.
const FOLDER: &str = ".github/workflows";

const DERIVED: &[Derived] = &[
    Derived {
        claim: Claim::string("workflow_file"),
        from: &["workflow_ref"],
        derive: |raw| part(raw, "workflow_ref", FOLDER, |workflow| workflow.file),
    },
    Derived {
        claim: Claim::folded("workflow_repository"),
        from: &["workflow_ref"],
        derive: |raw| part(raw, "workflow_ref", FOLDER, |workflow| workflow.repository),
    },
    Derived {
        claim: Claim::string("workflow_git_ref"),
        from: &["workflow_ref"],
        derive: |raw| part(raw, "workflow_ref", FOLDER, |workflow| workflow.git_ref),
    },
    Derived {
        claim: Claim::string("job_workflow_file"),
        from: &["job_workflow_ref"],
        derive: |raw| part(raw, "job_workflow_ref", FOLDER, |workflow| workflow.file),
    },
    Derived {
        claim: Claim::folded("job_workflow_repository"),
        from: &["job_workflow_ref"],
        derive: |raw| part(raw, "job_workflow_ref", FOLDER, |workflow| workflow.repository),
    },
    Derived {
        claim: Claim::string("job_workflow_git_ref"),
        from: &["job_workflow_ref"],
        derive: |raw| part(raw, "job_workflow_ref", FOLDER, |workflow| workflow.git_ref),
    },
    Derived { claim: Claim::folded("repository_name"), from: &["repository"], derive: repository_name },
    Derived { claim: Claim::string("tag"), from: &["ref", "ref_type"], derive: tag },
];

/// The parts of `acme/widgets/.github/workflows/release.yml@refs/tags/v1.4.0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkflowRef<'a> {
    /// `acme/widgets`.
    pub(super) repository: &'a str,
    /// `release.yml`.
    pub(super) file: &'a str,
    /// `refs/tags/v1.4.0`, or a commit.
    pub(super) git_ref: &'a str,
}

/// Takes a reference to a workflow in that folder apart, or says that it is none.
///
/// SECURITY: file names and branches may contain `@`, and branches may look like files, so a split at the first or
/// the last `@` lets the committer of `release.yml@x.yml`, or of a branch `a@release.yml`, choose what is read as the
/// file. A workflow file lies directly in its folder, so it has no `/`, and the first `/` must be that of `@refs/`, the end
/// of the file; without one, what follows the last `@` must be a commit.
fn workflow_ref<'a>(text: &'a str, folder: &str) -> Option<WorkflowRef<'a>> {
    let (owner, after_owner) = text.split_once('/')?;
    let (name, path) = after_owner.split_once('/')?;
    let rest = path.strip_prefix(folder)?.strip_prefix('/')?;
    let has_control = || !is_printable_ascii(text) && text.contains(char::is_control);
    if owner.is_empty() || name.is_empty() || has_control() {
        return None;
    }
    let repository = text.get(..owner.len() + 1 + name.len())?;
    let (file, git_ref) = match rest.split_once('/') {
        Some((head, _)) => {
            let file = head.strip_suffix("@refs")?;
            (file, rest.get(file.len() + 1..)?)
        }
        None => rest.rsplit_once('@').filter(|(_, commit)| is_commit(commit))?,
    };
    (!file.is_empty() && git_ref != "refs/").then_some(WorkflowRef { repository, file, git_ref })
}

fn is_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A part of a claim that is a workflow reference.
pub(super) fn part(raw: &Object, claim: &str, folder: &str, which: fn(WorkflowRef<'_>) -> &str) -> Option<Json> {
    let parts = raw.get(claim)?.as_str().and_then(|text| workflow_ref(text, folder))?;
    Some(Json::String(which(parts).to_owned()))
}

/// What follows the owner in `repository`.
pub(super) fn repository_name(raw: &Object) -> Option<Json> {
    let (owner, name) = raw.get("repository")?.as_str()?.split_once('/')?;
    let is_name = !owner.is_empty() && !name.is_empty() && !name.contains('/');
    is_name.then(|| Json::String(name.to_owned()))
}

/// The tag that `ref` and `ref_type` name.
///
/// SECURITY: both claims must say that it is a tag: a branch may be called `tags/v1`, or have a tag's name.
pub(super) fn tag(raw: &Object) -> Option<Json> {
    let tag = raw.get("ref")?.as_str()?.strip_prefix("refs/tags/").filter(|tag| !tag.is_empty())?;
    (raw.get("ref_type")?.as_str()? == "tag").then(|| Json::String(tag.to_owned()))
}

const EXAMPLES: &[Example] = &[
    Example { name: "tag-push", claims: |overrides| job(overrides, "push", "refs/tags/v1.4.0", None) },
    Example { name: "branch-push", claims: |overrides| job(overrides, "push", "refs/heads/main", None) },
    Example { name: "release", claims: |overrides| job(overrides, "release", "refs/tags/v1.4.0", Some("release")) },
    Example { name: "manual-run", claims: |overrides| job(overrides, "workflow_dispatch", "refs/heads/main", None) },
    Example { name: "pull-request", claims: |overrides| job(overrides, "pull_request", "refs/pull/7/merge", None) },
    Example { name: "pull-request-target", claims: |o| job(o, "pull_request_target", "refs/heads/main", None) },
    Example { name: "reusable-workflow", claims: reusable_workflow },
];

/// A job of a workflow that calls another repository's. Overrides may also use the parts of `job_workflow_ref`.
fn reusable_workflow(overrides: &Object) -> Object {
    let part = |name: &str, usual| overrides.get(name).and_then(Json::as_str).unwrap_or(usual).to_owned();
    let repository = part("job_workflow_repository", "octo-org/release-workflows");
    let file = part("job_workflow_file", "publish.yml");
    let git_ref = part("job_workflow_git_ref", "refs/heads/main");
    let usual = || Json::String(format!("{repository}/{FOLDER}/{file}@{git_ref}"));
    let callee = overrides.get("job_workflow_ref").cloned().unwrap_or_else(usual);
    job(&overrides.clone().with("job_workflow_ref", callee), "push", "refs/tags/v1.4.0", None)
}

/// Overrides that stand for the claims that they are parts of.
const PARTS: &[&str] =
    &["tag", "workflow_file", "job_workflow_repository", "job_workflow_file", "job_workflow_git_ref"];

/// A job's claims. Overrides may also use `tag` for `ref` and `workflow_file` for `workflow_ref`.
fn job(overrides: &Object, event: &str, git_ref: &str, environment: Option<&str>) -> Object {
    let mut draft = Draft::new(overrides, PARTS);
    let repository = draft.text("repository", "octo-org/widgets");
    let owner = repository.split('/').next().unwrap_or_default();
    draft.texts(&[
        ("repository_id", "701234567"),
        ("repository_owner", owner),
        ("repository_owner_id", "9123456"),
        ("repository_visibility", "public"),
    ]);
    let tag = draft.wanted("tag").map(|tag| format!("refs/tags/{tag}"));
    let git_ref = draft.text("ref", tag.as_deref().unwrap_or(git_ref));
    draft.texts(&[
        ("ref_type", if git_ref.starts_with("refs/tags/") { "tag" } else { "branch" }),
        ("ref_protected", if git_ref.starts_with("refs/pull/") { "false" } else { "true" }),
    ]);
    let event = draft.text("event_name", event);
    let (head, base) = if event.starts_with("pull_request") { ("feature", "main") } else { ("", "") };
    draft.texts(&[("head_ref", head), ("base_ref", base)]);
    let sha = draft.text("sha", "8c1356fc7b2f4f9d1d6b4a4c5a0e1f2d3c4b5a69");
    let file = draft.wanted("workflow_file").unwrap_or("release.yml");
    let workflow = draft.text("workflow_ref", &format!("{repository}/.github/workflows/{file}@{git_ref}"));
    draft.texts(&[
        ("workflow", "Release"),
        ("workflow_sha", &sha),
        ("job_workflow_ref", &workflow),
        ("job_workflow_sha", &sha),
    ]);
    let environment = draft.optional("environment", environment);
    // GitHub escapes colons inside the values of `sub`.
    let context = if let Some(name) = environment {
        format!("environment:{}", name.replace(':', "%3A"))
    } else if event == "pull_request" {
        event
    } else {
        format!("ref:{git_ref}")
    };
    draft.texts(&[
        ("sub", &format!("repo:{repository}:{context}")),
        ("run_id", "21561244697"),
        ("run_number", "12"),
        ("run_attempt", "1"),
        ("check_run_id", "62125561706"),
        ("runner_environment", "github-hosted"),
        ("actor", "mona"),
        ("actor_id", "583231"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
