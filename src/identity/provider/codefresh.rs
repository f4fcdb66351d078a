//! Codefresh: the hosted issuer, or an installation's own.
//!
//! `sub` changes its shape with what started the run, so nothing here reads it. `scm_ref` is a branch or a tag and does
//! not say which. Tokens have no `jti`.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Derived;
use crate::identity::provider::Example;
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

/// The preset `codefresh`.
pub static PROVIDER: Provider = Provider {
    name: "codefresh",
    site: Site::Default("https://oidc.codefresh.io"),
    hosts: &[HostName::Is("oidc.codefresh.io")],
    pins: &["account_id", "pipeline_id"],
    spans: &[Span { name: "account", frees: &["pipeline_id"], names: &[] }],
    required: &["sub", "account_id", "pipeline_id", "workflow_id"],
    claims: &[
        Claim::string("sub"),
        Claim::string("account_id"),
        Claim::string("account_name"),
        Claim::string("pipeline_id"),
        Claim::string("pipeline_name"),
        Claim::string("workflow_id"),
        Claim::string("initiator"),
        Claim::string("scm_user_name"),
        Claim::string("scm_repo_url"),
        Claim::string("scm_ref"),
        Claim::string("scm_pull_request_target_branch"),
        Claim::string("runner_environment"),
        Claim::string("platform_url"),
    ],
    derived: &[Derived { claim: Claim::folded("repository_name"), from: &["scm_repo_url"], derive: repository_name }],
    // SECURITY: the code of a pull request is not reviewed, and may be a fork's.
    implied: &[Implied { claim: "scm_pull_request_target_branch", unless_prefix: None, test: ImpliedTest::Absent }],
    public: &[
        "account_id",
        "account_name",
        "pipeline_id",
        "pipeline_name",
        "workflow_id",
        "scm_repo_url",
        "scm_ref",
        "scm_pull_request_target_branch",
        "runner_environment",
        "platform_url",
    ],
    provenance: &["account_id", "pipeline_id", "pipeline_name", "workflow_id", "scm_repo_url", "scm_ref"],
    // Codefresh gives 300 s.
    max_lifetime: Duration::from_secs(10 * 60),
    examples: &[
        Example { name: "push", claims: |overrides| run(overrides, "main", None, None) },
        Example { name: "manual-run", claims: |overrides| run(overrides, "main", Some("sam"), None) },
        Example { name: "pull-request", claims: |overrides| run(overrides, "fix", None, Some("main")) },
    ],
    ..Provider::PLAIN
};

fn repository_name(raw: &Object) -> Option<Json> {
    let url = part::text(raw, "scm_repo_url")?;
    let (before, name) = url.strip_suffix(".git").unwrap_or(url).rsplit_once('/')?;
    (!before.is_empty() && !name.is_empty()).then(|| Json::String(name.to_owned()))
}

fn run(overrides: &Object, name: &str, initiator: Option<&str>, target: Option<&str>) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    let account = draft.text("account_id", "628a80b693a15c0f9c13ab75");
    let pipeline = draft.text("pipeline_id", "65e6d5551e47e5bc243ca93f");
    let url = draft.text("scm_repo_url", "https://github.com/acme/widgets");
    let user = draft.text("scm_user_name", "sam");
    let name = draft.text("scm_ref", name);
    let initiator = draft.optional("initiator", initiator).map_or(String::new(), |who| format!(":initiator:{who}"));
    let target = draft.optional("scm_pull_request_target_branch", target);
    let target = target.map_or(String::new(), |branch| format!(":scm_pull_request_target_branch:{branch}"));
    let code = format!(":scm_repo_url:{url}:scm_user_name:{user}:scm_ref:{name}");
    draft.texts(&[
        ("sub", &format!("account:{account}:pipeline:{pipeline}{initiator}{code}{target}")),
        ("account_name", "acme"),
        ("pipeline_name", "widgets/release"),
        ("workflow_id", "65e6ebe0bfbfa1782876165e"),
        ("runner_environment", "hybrid"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
