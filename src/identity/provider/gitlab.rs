//! GitLab CI/CD: gitlab.com and self-managed instances.
//!
//! Every identifier is a string except `runner_id`, and `ref_protected` is the text `"true"`. Since GitLab 18.2.2 the
//! `project_*` claims of a fork's merge request name the fork and `job_project_*` where the job runs; older instances
//! name the parent throughout, so their operators must keep merge requests out (the implied conditions do).

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
use crate::json::Json;
use crate::json::Object;

/// The preset `gitlab`.
pub static PROVIDER: Provider = Provider {
    name: "gitlab",
    site: Site::Default("https://gitlab.com"),
    hosts: &[HostName::Is("gitlab.com")],
    pins: &["namespace_id", "project_id"],
    spans: &[Span { name: "namespace", frees: &["project_id"], names: &["project_name"] }],
    // The key set also signs users' logins, which have none of these.
    required: &["sub", "namespace_id", "project_id", "project_path", "pipeline_id", "pipeline_source", "job_id", "ref"],
    claims: CLAIMS,
    derived: &[
        Derived { claim: Claim::folded("project_name"), from: &["project_path"], derive: project_name },
        Derived { claim: Claim::string("tag"), from: &["ref", "ref_type", "ref_path"], derive: tag },
        Derived {
            claim: Claim::string("ci_config_file"),
            from: &["ci_config_ref_uri", "project_path", "ref_path"],
            derive: ci_config_file,
        },
    ],
    implied: &[
        // SECURITY: a merge request from a fork runs the fork's code in the parent project.
        Implied {
            claim: "pipeline_source",
            unless_prefix: None,
            test: ImpliedTest::NotIn(&["merge_request_event", "external_pull_request_event"]),
        },
        // SECURITY: the pipeline that started a `parent_pipeline` may itself be a merge request's. A rule that is about
        // one, or about another source, says so.
        Implied {
            claim: "pipeline_source",
            unless_prefix: None,
            test: ImpliedTest::In(&["push", "web", "schedule", "api", "trigger"]),
        },
        // SECURITY: anyone with push access can create an unprotected branch or tag.
        Implied { claim: "ref_protected", unless_prefix: None, test: ImpliedTest::In(&["true"]) },
        // SECURITY: they differ when the code is a fork's.
        Implied { claim: "job_project_id", unless_prefix: None, test: ImpliedTest::AbsentOrSameAs("project_id") },
    ],
    public: &[
        "sub",
        "namespace_id",
        "namespace_path",
        "project_id",
        "project_path",
        "project_visibility",
        "job_project_id",
        "job_project_path",
        "job_namespace_id",
        "job_namespace_path",
        "ref",
        "ref_type",
        "ref_path",
        "ref_protected",
        "sha",
        "pipeline_id",
        "pipeline_source",
        "job_id",
        "job_source",
        "environment",
        "environment_protected",
        "environment_action",
        "deployment_tier",
        "runner_id",
        "runner_environment",
        "ci_config_ref_uri",
        "ci_config_sha",
        "user_id",
        "user_login",
        "user_access_level",
        "project_name",
        "tag",
        "ci_config_file",
    ],
    provenance: &[
        "namespace_id",
        "project_id",
        "project_path",
        "ref",
        "ref_type",
        "sha",
        "pipeline_source",
        "pipeline_id",
        "job_id",
        "environment",
        "ci_config_file",
        "runner_environment",
    ],
    // A token lives as long as its job may run: one hour unless a project says otherwise, and three hours at most on
    // gitlab.com's own runners. Longer ones are an issuer's setting.
    max_lifetime: Duration::from_secs(3 * 60 * 60),
    examples: &[
        Example { name: "tag-push", claims: |overrides| job(overrides, "push", "v1.4.0", "tag") },
        Example { name: "branch-push", claims: |overrides| job(overrides, "push", "main", "branch") },
        Example { name: "manual-run", claims: |overrides| job(overrides, "web", "main", "branch") },
        Example { name: "merge-request", claims: |overrides| job(overrides, "merge_request_event", "fix", "branch") },
    ],
    ..Provider::PLAIN
};

/// Paths of groups and projects and logins ignore case at GitLab; identifiers, refs and environments do not.
const CLAIMS: &[Claim] = &[
    Claim::string("sub"),
    Claim::id("namespace_id", Form::Decimal),
    Claim::folded("namespace_path"),
    Claim::id("project_id", Form::Decimal),
    Claim::folded("project_path"),
    Claim::string("project_visibility"),
    Claim::id("job_project_id", Form::Decimal),
    Claim::folded("job_project_path"),
    Claim::id("job_namespace_id", Form::Decimal),
    Claim::folded("job_namespace_path"),
    Claim::string("ref"),
    Claim::string("ref_type"),
    Claim::string("ref_path"),
    Claim::string("ref_protected"),
    Claim::string("sha"),
    Claim::string("pipeline_id"),
    Claim::string("pipeline_source"),
    Claim::string("job_id"),
    Claim::string("job_source"),
    Claim::any("job_config"),
    Claim::string("environment"),
    Claim::string("environment_protected"),
    Claim::string("environment_action"),
    Claim::string("deployment_tier"),
    Claim::integer("runner_id"),
    Claim::string("runner_environment"),
    Claim::string("ci_config_ref_uri"),
    Claim::string("ci_config_sha"),
    Claim::id("user_id", Form::Decimal),
    Claim::folded("user_login"),
    Claim::string("user_email"),
    Claim::string("user_access_level"),
    Claim::any("user_identities"),
    Claim::list("groups_direct"),
    Claim::string("target_audience"),
];

fn text<'a>(raw: &'a Object, claim: &str) -> Option<&'a str> {
    raw.get(claim)?.as_str()
}

/// The last segment: groups may be nested.
fn project_name(raw: &Object) -> Option<Json> {
    let (namespace, name) = text(raw, "project_path")?.rsplit_once('/')?;
    (!namespace.is_empty() && !name.is_empty()).then(|| Json::String(name.to_owned()))
}

/// SECURITY: a branch may have a tag's name. `ref_type` says which it is; `ref_path`, where the instance gives it, must
/// agree.
fn tag(raw: &Object) -> Option<Json> {
    let name = text(raw, "ref").filter(|name| !name.is_empty())?;
    let is_tag = text(raw, "ref_type") == Some("tag");
    let agrees = raw.get("ref_path").is_none_or(|path| path.as_str() == Some(format!("refs/tags/{name}").as_str()));
    (is_tag && agrees).then(|| Json::String(name.to_owned()))
}

/// The pipeline's top-level file, from `gitlab.com/acme/tools/widgets//.gitlab-ci.yml@refs/tags/v1.4.0`.
///
/// SECURITY: paths and refs may both contain `@`, so the end is not searched for: it must be `ref_path`, as it is when
/// the file is the pipeline's own. A file of another project is none of this project's.
fn ci_config_file(raw: &Object) -> Option<Json> {
    let (project, rest) = text(raw, "ci_config_ref_uri")?.split_once("//")?;
    let (_, path) = project.split_once('/')?;
    let is_own = path == text(raw, "project_path")?;
    let file = rest.strip_suffix(text(raw, "ref_path")?)?.strip_suffix('@').filter(|file| !file.is_empty())?;
    is_own.then(|| Json::String(file.to_owned()))
}

/// A job's claims. Overrides may also use `tag` for `ref` and `ref_type`.
fn job(overrides: &Object, source: &str, name: &str, kind: &str) -> Object {
    let mut draft = Draft::new(overrides, &["tag"]);
    let project = draft.text("project_path", "acme/tools/widgets");
    let project_id = draft.text("project_id", "53804090");
    let namespace = project.rsplit_once('/').map_or("", |(namespace, _)| namespace);
    let namespace = draft.text("namespace_path", namespace);
    let namespace_id = draft.text("namespace_id", "7211");
    draft.texts(&[
        ("project_visibility", "private"),
        ("job_project_id", &project_id),
        ("job_project_path", &project),
        ("job_namespace_id", &namespace_id),
        ("job_namespace_path", &namespace),
    ]);
    let tag = draft.wanted("tag");
    let name = draft.text("ref", tag.unwrap_or(name));
    let kind = draft.text("ref_type", if tag.is_some() { "tag" } else { kind });
    let folder = if kind == "tag" { "tags" } else { "heads" };
    let path = draft.text("ref_path", &format!("refs/{folder}/{name}"));
    let source = draft.text("pipeline_source", source);
    let sha = draft.text("sha", "0a03b1c2d3e4f5061728394a5b6c7d8e9f001122");
    draft.texts(&[
        ("sub", &format!("project_path:{project}:ref_type:{kind}:ref:{name}")),
        ("ref_protected", if source == "merge_request_event" { "false" } else { "true" }),
        ("pipeline_id", "1136338956"),
        ("job_id", "5919171663"),
        ("job_source", &source),
        ("ci_config_ref_uri", &format!("gitlab.com/{project}//.gitlab-ci.yml@{path}")),
        ("ci_config_sha", &sha),
        ("runner_environment", "gitlab-hosted"),
        ("user_id", "9420787"),
        ("user_login", "sam"),
        ("user_email", "sam@example.com"),
        ("user_access_level", "maintainer"),
    ]);
    draft.value("runner_id", Json::Int(12_270_807));
    draft.finish()
}

#[cfg(test)]
mod tests;
