//! Any other issuer of ID tokens: nothing is known about its claims, so nothing is pinned, implied or derived.
//!
//! SECURITY: it may not be configured for a host that belongs to another preset, and the policy asks its operator to
//! say that the issuer has one tenant before rules may do without pins.

use std::time::Duration;

use crate::identity::provider::Example;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::example::Draft;
use crate::json::Object;

/// The preset `generic`.
pub static PROVIDER: Provider = Provider {
    name: "generic",
    site: Site::Configured,
    public: &["sub"],
    provenance: &["sub"],
    // What Jenkins and Kubernetes give by default.
    max_lifetime: Duration::from_secs(60 * 60),
    examples: &[Example { name: "job", claims: job }],
    ..Provider::PLAIN
};

fn job(overrides: &Object) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    draft.texts(&[("sub", "https://jenkins.acme.example/job/widgets/job/release/")]);
    draft.finish()
}
