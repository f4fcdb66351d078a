//! Azure Pipelines of Azure `DevOps`: an issuer for each organisation, one key set for all of them.
//!
//! The audience is the same in every token whoever it is for. A token for a service connection (`sc://…`) has the same
//! issuer and says nothing about the pipeline; only `p://…` names one.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Derived;
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
use crate::identity::provider::part;
use crate::json::Json;
use crate::json::Object;

/// The preset `azure-devops`.
pub static PROVIDER: Provider = Provider {
    name: "azure-devops",
    site: Site::OneOf(&["https://vstoken.dev.azure.com/*"]),
    hosts: &[HostName::Is("vstoken.dev.azure.com")],
    pins: &["org_id", "prj_id", "def_id"],
    spans: &[
        Span { name: "organization", frees: &["prj_id", "def_id"], names: &[] },
        Span { name: "project", frees: &["def_id"], names: &[] },
    ],
    // A service connection's token has none but `sub`.
    required: &["sub", "org_id", "prj_id", "def_id", "run_id", "rpo_ref"],
    claims: &[
        Claim::string("sub"),
        Claim::id("org_id", Form::Uuid),
        Claim::id("prj_id", Form::Uuid),
        Claim::id("def_id", Form::Decimal),
        Claim::string("run_id"),
        // A UUID in Azure Repos, `owner/name` at GitHub.
        Claim::string("rpo_id"),
        Claim::string("rpo_uri"),
        Claim::string("rpo_ref"),
        Claim::string("rpo_ver"),
    ],
    derived: &[
        Derived { claim: Claim::string("subject_kind"), from: &["sub"], derive: subject_kind },
        Derived { claim: Claim::string("ref_type"), from: &["rpo_ref"], derive: ref_type },
        Derived { claim: Claim::string("tag"), from: &["rpo_ref"], derive: |raw| part::tag(raw, "rpo_ref") },
    ],
    implied: &[
        // SECURITY: every pipeline that may use a service connection can have the connection's token.
        Implied { claim: "subject_kind", unless_prefix: None, test: ImpliedTest::In(&["pipeline"]) },
        // SECURITY: a pull request, of a fork too, runs the pipeline's file as the request changes it.
        Implied { claim: "ref_type", unless_prefix: None, test: ImpliedTest::In(&["branch", "tag"]) },
    ],
    public: &["sub", "org_id", "prj_id", "def_id", "run_id", "rpo_id", "rpo_uri", "rpo_ref", "rpo_ver"],
    provenance: &["org_id", "prj_id", "def_id", "run_id", "rpo_uri", "rpo_ref", "rpo_ver"],
    // Azure gives 299 s.
    max_lifetime: Duration::from_secs(10 * 60),
    families: &["https://vstoken.dev.azure.com/{organization}"],
    fixed_audience: Some(FixedAudience::Is("api://AzureADTokenExchange")),
    examples: &[
        Example { name: "tag", claims: |overrides| pipeline(overrides, "refs/tags/v1.4.0") },
        Example { name: "branch", claims: |overrides| pipeline(overrides, "refs/heads/main") },
        Example { name: "pull-request", claims: |overrides| pipeline(overrides, "refs/pull/9/merge") },
    ],
    ..Provider::PLAIN
};

fn subject_kind(raw: &Object) -> Option<Json> {
    let kind = match part::text(raw, "sub")?.split_once("://")? {
        ("p", _) => "pipeline",
        ("sc", _) => "service-connection",
        _ => return None,
    };
    Some(Json::String(kind.to_owned()))
}

fn ref_type(raw: &Object) -> Option<Json> {
    let (kind, name) = part::text(raw, "rpo_ref")?.strip_prefix("refs/")?.split_once('/')?;
    let kind = match kind {
        "heads" => "branch",
        "tags" => "tag",
        "pull" => "pull-request",
        _ => return None,
    };
    (!name.is_empty()).then(|| Json::String(kind.to_owned()))
}

/// A run's claims. Overrides may also use `tag` for `rpo_ref`.
fn pipeline(overrides: &Object, git_ref: &str) -> Object {
    let mut draft = Draft::new(overrides, &["tag"]);
    let tag = draft.wanted("tag").map(|tag| format!("refs/tags/{tag}"));
    draft.texts(&[
        ("sub", "p://acme/widgets/release"),
        ("org_id", "6e5d4c3b-2a19-4f08-97e6-d5c4b3a29180"),
        ("prj_id", "1a2b3c4d-5e6f-4708-8192-a3b4c5d6e7f8"),
        ("def_id", "17"),
        ("run_id", "4711"),
        ("rpo_id", "8f7e6d5c-4b3a-4291-8071-6f5e4d3c2b1a"),
        ("rpo_uri", "https://dev.azure.com/acme/widgets/_git/widgets"),
        ("rpo_ref", tag.as_deref().unwrap_or(git_ref)),
        ("rpo_ver", "5c6d7e8f9a0b1c2d3e4f5061728394a5b6c7d8e9"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
