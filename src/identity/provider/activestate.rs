//! The `ActiveState` Platform: its builders publish on behalf of an organisation's project.
//!
//! The one provider where the acting user is part of the identity: a build is started by an account, and the issuer
//! serves other products than publishing, which `builder` tells apart.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::HostName;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::Span;
use crate::identity::provider::example::Draft;
use crate::json::Object;

/// The preset `activestate`.
pub static PROVIDER: Provider = Provider {
    name: "activestate",
    site: Site::Fixed("https://platform.activestate.com/api/v1/oauth/oidc"),
    hosts: &[HostName::Is("platform.activestate.com")],
    pins: &["organization_id", "project_id", "actor_id", "builder"],
    spans: &[Span { name: "organization", frees: &["project_id"], names: &["project"] }],
    required: &["sub", "organization_id", "project_id", "actor_id", "builder"],
    claims: &[
        Claim::string("sub"),
        Claim::string("organization"),
        Claim::string("organization_id"),
        Claim::string("project"),
        Claim::string("project_id"),
        Claim::string("project_path"),
        Claim::string("project_visibility"),
        Claim::string("actor"),
        Claim::string("actor_id"),
        Claim::string("builder"),
        Claim::string("artifact_id"),
        Claim::string("ingredient"),
    ],
    public: &[
        "sub",
        "organization",
        "organization_id",
        "project",
        "project_id",
        "project_path",
        "project_visibility",
        "actor",
        "actor_id",
        "builder",
        "artifact_id",
        "ingredient",
    ],
    provenance: &["organization_id", "project_id", "project_path", "actor_id", "builder", "artifact_id", "ingredient"],
    // Not documented; an hour is the longest of the other providers that do not follow the job's own time limit.
    max_lifetime: Duration::from_secs(60 * 60),
    examples: &[Example { name: "build", claims: build }],
    ..Provider::PLAIN
};

fn build(overrides: &Object) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    let organization = draft.text("organization", "acme");
    let project = draft.text("project", "widgets");
    draft.texts(&[
        ("sub", &format!("org:{organization}:project:{project}")),
        ("organization_id", "0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11"),
        ("project_id", "7b2c4d5e-1f60-4a8b-8c9d-2e3f4a5b6c7d"),
        ("project_path", &format!("{organization}/{project}")),
        ("project_visibility", "public"),
        ("actor", "sam"),
        ("actor_id", "c1d2e3f4-0516-4728-93a4-b5c6d7e8f901"),
        ("builder", "pypi-publisher"),
        ("artifact_id", "5e4d3c2b-1a09-4f8e-9d7c-6b5a49382716"),
        ("ingredient", &project),
    ]);
    draft.finish()
}

#[cfg(test)]
mod tests;
