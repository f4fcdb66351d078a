//! Google Cloud service accounts: Cloud Build, Compute Engine, Cloud Run and whatever else runs as one.
//!
//! The issuer is shared with every Google customer and with people who sign in. A service account is its numeric `sub`;
//! its e-mail address alone can be deleted and created again by someone else. Tokens have no `jti` and no `nbf`.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::Form;
use crate::identity::provider::HostName;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::example::Draft;
use crate::json::Json;
use crate::json::Object;

/// The preset `google`.
pub static PROVIDER: Provider = Provider {
    name: "google",
    site: Site::Fixed("https://accounts.google.com"),
    hosts: &[HostName::Is("accounts.google.com")],
    pins: &["sub", "email"],
    // Absent when the token was requested without `format=full` or `includeEmail`.
    required: &["sub", "email", "email_verified"],
    claims: &[
        Claim::string("sub"),
        Claim::id("email", Form::ServiceAccount),
        Claim::boolean("email_verified"),
        Claim::string("azp"),
        Claim::string("hd"),
        Claim::any("google"),
        Claim::string("/google/compute_engine/project_id"),
        Claim::integer("/google/compute_engine/project_number"),
        Claim::string("/google/compute_engine/zone"),
        Claim::string("/google/compute_engine/instance_id"),
        Claim::string("/google/compute_engine/instance_name"),
    ],
    aliases: &[
        ("compute_engine_project_id", "/google/compute_engine/project_id"),
        ("compute_engine_project_number", "/google/compute_engine/project_number"),
        ("compute_engine_zone", "/google/compute_engine/zone"),
        ("compute_engine_instance_id", "/google/compute_engine/instance_id"),
        ("compute_engine_instance_name", "/google/compute_engine/instance_name"),
    ],
    // SECURITY: an unverified address is only what somebody typed.
    implied: &[Implied { claim: "email_verified", unless_prefix: None, test: ImpliedTest::IsTrue }],
    public: &[
        "sub",
        "azp",
        "email_verified",
        "/google/compute_engine/project_id",
        "/google/compute_engine/project_number",
        "/google/compute_engine/zone",
        "/google/compute_engine/instance_id",
        "/google/compute_engine/instance_name",
    ],
    provenance: &["sub", "/google/compute_engine/project_id", "/google/compute_engine/instance_id"],
    // Google gives 3,600 s, always.
    max_lifetime: Duration::from_secs(60 * 60),
    jwks_hosts: &["www.googleapis.com"],
    examples: &[
        Example { name: "service-account", claims: service_account },
        Example { name: "compute-engine", claims: compute_engine },
    ],
    ..Provider::PLAIN
};

fn service_account(overrides: &Object) -> Object {
    account(overrides).finish()
}

/// A machine's claims. Overrides may also use the short names.
fn compute_engine(overrides: &Object) -> Object {
    let mut draft = account(overrides);
    let number = draft.given("compute_engine_project_number", Json::Int(739_419_398_126));
    let engine = draft
        .object(&[
            ("compute_engine_instance_id", "instance_id", "152986662232938449"),
            ("compute_engine_instance_name", "instance_name", "release-builder"),
            ("compute_engine_project_id", "project_id", "acme-prod"),
            ("compute_engine_zone", "zone", "europe-west1-b"),
        ])
        .with("instance_creation_timestamp", Json::Int(1_786_990_000))
        .with("project_number", number);
    draft.value("google", Json::Object(Object::default().with("compute_engine", Json::Object(engine))));
    draft.finish()
}

fn account(overrides: &Object) -> Draft<'_> {
    let mut draft = Draft::new(overrides, SHORT_NAMES);
    let sub = draft.text("sub", "104029292853099978293");
    draft.texts(&[("azp", &sub), ("email", "releaser@acme-prod.iam.gserviceaccount.com")]);
    draft.value("email_verified", Json::Bool(true));
    draft
}

/// In overrides they stand for their claims.
const SHORT_NAMES: &[&str] = &[
    "compute_engine_project_id",
    "compute_engine_project_number",
    "compute_engine_zone",
    "compute_engine_instance_id",
    "compute_engine_instance_name",
];

#[cfg(test)]
mod tests;
