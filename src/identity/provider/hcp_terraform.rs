//! HCP Terraform, and Terraform Enterprise on a host of its own.
//!
//! A project is often called `Default Project`, so `sub` may have a space. A token lives as long as its phase.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::HostName;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::Span;
use crate::identity::provider::example::Draft;
use crate::json::Object;

/// The preset `hcp-terraform`.
pub static PROVIDER: Provider = Provider {
    name: "hcp-terraform",
    site: Site::Default("https://app.terraform.io"),
    hosts: &[HostName::Is("app.terraform.io"), HostName::Is("app.eu.terraform.io")],
    pins: &["terraform_organization_id", "terraform_workspace_id"],
    spans: &[Span { name: "organization", frees: &["terraform_workspace_id"], names: &[] }],
    required: &[
        "sub",
        "terraform_organization_id",
        "terraform_workspace_id",
        "terraform_run_id",
        "terraform_run_phase",
    ],
    claims: &[
        Claim::string("sub"),
        Claim::string("terraform_organization_id"),
        Claim::string("terraform_organization_name"),
        Claim::string("terraform_project_id"),
        Claim::string("terraform_project_name"),
        Claim::string("terraform_workspace_id"),
        Claim::string("terraform_workspace_name"),
        Claim::string("terraform_full_workspace"),
        Claim::string("terraform_run_id"),
        Claim::string("terraform_run_phase"),
    ],
    // SECURITY: a plan runs for every pull request, with its code, before anyone approves it.
    implied: &[Implied { claim: "terraform_run_phase", unless_prefix: None, test: ImpliedTest::In(&["apply"]) }],
    public: &[
        "sub",
        "terraform_organization_id",
        "terraform_organization_name",
        "terraform_project_id",
        "terraform_project_name",
        "terraform_workspace_id",
        "terraform_workspace_name",
        "terraform_full_workspace",
        "terraform_run_id",
        "terraform_run_phase",
    ],
    provenance: &[
        "terraform_organization_id",
        "terraform_workspace_id",
        "terraform_full_workspace",
        "terraform_run_id",
        "terraform_run_phase",
    ],
    // An apply may take a day.
    max_lifetime: Duration::from_secs(24 * 60 * 60),
    examples: &[
        Example { name: "apply", claims: |overrides| run(overrides, "apply") },
        Example { name: "speculative-plan", claims: |overrides| run(overrides, "plan") },
    ],
    ..Provider::PLAIN
};

fn run(overrides: &Object, phase: &str) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    let organization = draft.text("terraform_organization_name", "acme");
    let project = draft.text("terraform_project_name", "Default Project");
    let workspace = draft.text("terraform_workspace_name", "widgets-release");
    let phase = draft.text("terraform_run_phase", phase);
    let full = format!("organization:{organization}:project:{project}:workspace:{workspace}");
    draft.texts(&[
        ("sub", &format!("{full}:run_phase:{phase}")),
        ("terraform_full_workspace", &full),
        ("terraform_organization_id", "org-GRNbCjYNpBB6NEBa"),
        ("terraform_project_id", "prj-vegSA59s1XPwMr2t"),
        ("terraform_workspace_id", "ws-mbsd5E3Ktt5Rg2Xm"),
        ("terraform_run_id", "run-X3n1AUXNGWbfECsJ"),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
