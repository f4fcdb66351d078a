//! Explanation: what the rules would decide, and why, with nothing verified, minted or spent.
//!
//! The same evaluation as an exchange's, fed with bare claims: for the command line and for whoever writes rules.

use crate::identity::claims::Claims;
use crate::identity::issuer::Issuer;
use crate::json::Object;
use crate::policy::Policy;
use crate::policy::evaluate::Decision;
use crate::policy::evaluate::Requested;
use crate::policy::evaluate::Subject;
use crate::policy::evaluate::evaluate;
use crate::policy::registry::Registry;

/// What the rules would say to a job of this issuer with these claims, as a token has them.
pub fn explain(
    policy: &Policy,
    registry: &Registry,
    issuer: &Issuer,
    claims: Object,
    requested: &Requested,
) -> Decision {
    let derived = issuer.derive(&claims);
    let claims = Claims::new(claims, derived);
    evaluate(policy, registry, &Subject { issuer, claims: &claims }, requested).decision
}
