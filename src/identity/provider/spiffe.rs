//! SPIFFE: JWT-SVIDs of one trust domain.
//!
//! A SPIFFE ID is a name, and whoever registers workloads in the trust domain gives it out; it is matched whole. Many
//! implementations leave `iss` out: such a token's issuer is the trust domain of its `sub`, and its keys are the trust
//! domain's bundle, in a file.

use std::time::Duration;

use crate::identity::provider::Example;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::example::Draft;
use crate::json::Object;

/// The preset `spiffe`.
pub static PROVIDER: Provider = Provider {
    name: "spiffe",
    site: Site::Configured,
    trust_domains: true,
    pins: &["sub"],
    required: &["sub"],
    public: &["sub"],
    provenance: &["sub"],
    max_lifetime: Duration::from_secs(60 * 60),
    examples: &[Example { name: "workload", claims: workload }],
    ..Provider::PLAIN
};

fn workload(overrides: &Object) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    draft.text("sub", "spiffe://acme.example/ns/release/sa/publisher");
    draft.finish()
}
