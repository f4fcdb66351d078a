//! What an audit record says of a job, and what it does not say.
//!
//! A record has the claims that the provider's preset calls public, and the names of those that the token lacked. About
//! any other claim it is silent, and so is this module: it never takes silence for absence.

use crate::identity::claims::Claims;
use crate::identity::family;
use crate::identity::issuer::Issuer;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::json::Json;
use crate::policy::condition::Condition;
use crate::policy::diff::past::Past;

/// The claims of a past exchange, as far as they are recorded.
#[derive(Debug)]
pub(super) struct Record<'a> {
    past: &'a Past,
    issuer: &'a Issuer,
    /// What is recorded; what is not known looks absent, so [`Record::knows`] is to be asked first.
    pub(super) claims: Claims,
}

impl<'a> Record<'a> {
    pub(super) fn new(past: &'a Past, issuer: &'a Issuer) -> Self {
        let text = |text: &str| Json::String(text.to_owned());
        let raw = past.claims.clone().with("iss", text(&past.iss)).with("aud", text(&past.aud));
        // A derived claim is taken as it was recorded, and computed only where it was not.
        let mut derived: Vec<(&'static str, Option<Json>)> = Vec::new();
        for name in issuer.provider().public {
            if is_recorded(past, name) {
                derived.push((name, past.claims.get(name).cloned()));
            }
        }
        derived.extend(issuer.derive(&raw));
        Self { past, issuer, claims: Claims::new(raw, derived) }
    }

    /// Whether the record says what this claim was, or that there was none.
    pub(super) fn knows(&self, claim: &str) -> bool {
        let provider = self.issuer.provider();
        if matches!(claim, "iss" | "aud") || self.is_segment(claim) {
            return true;
        }
        if let Some(pointer) = claim.strip_prefix('/') {
            let outermost = pointer.split('/').next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
            return provider.public.contains(&claim) && is_recorded(self.past, claim)
                || is_recorded(self.past, &outermost);
        }
        let derived = provider.derived.iter().find(|derived| derived.claim.name == claim);
        is_recorded(self.past, claim) || derived.is_some_and(|derived| derived.from.iter().all(|from| self.knows(from)))
    }

    /// The claims that a condition reads and the record does not know.
    pub(super) fn unknown<'c>(&self, condition: &'c Condition<'_>) -> impl Iterator<Item = &'c str> {
        condition.claims().filter(|claim| !self.knows(claim))
    }

    /// The same of a preset's implied condition.
    pub(super) fn unknown_implied(&self, implied: &'static Implied) -> impl Iterator<Item = &'static str> {
        let other = match implied.test {
            ImpliedTest::SameAs(other) | ImpliedTest::AbsentOrSameAs(other) => Some(other),
            ImpliedTest::In(_)
            | ImpliedTest::NotIn(_)
            | ImpliedTest::IsTrue
            | ImpliedTest::IsFalse
            | ImpliedTest::Absent
            | ImpliedTest::AbsentOrIs(_) => None,
        };
        std::iter::once(implied.claim).chain(other).filter(|claim| !self.knows(claim))
    }

    /// Whether the claim is the segment of the issuer's URL that tells the members of its family apart.
    fn is_segment(&self, claim: &str) -> bool {
        let mut families = self.issuer.provider().families.iter();
        let template = families.find(|template| **template == self.issuer.keys_name());
        template.is_some_and(|template| family::claim(template) == Some(claim))
    }
}

fn is_recorded(past: &Past, claim: &str) -> bool {
    past.claims.get(claim).is_some() || past.absent.iter().any(|absent| absent == claim)
}
