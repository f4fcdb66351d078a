//! Claims: what a verified token says, by name, typed, with the derived claims of its provider's preset.
//!
//! This module decides how a claim is looked up and nothing else. A derived claim (`tag`, `workflow_file`, …) is
//! computed by the preset and hides a raw member of the same name, so a provider, or a committer who can set a display
//! name, cannot supply one.

use crate::json::Json;
use crate::json::Object;

/// Everything a token says about its job. Obtainable from a verified token; bare claims are for dry runs and tests.
#[derive(Debug, Clone)]
pub struct Claims {
    raw: Object,
    derived: Vec<(&'static str, Option<Json>)>,
}

impl Claims {
    /// Joins the token's members with the derived claims, one entry for each that the preset declares: `None` says
    /// that this token has no such claim.
    pub const fn new(raw: Object, derived: Vec<(&'static str, Option<Json>)>) -> Self {
        Self { raw, derived }
    }

    /// The claim of that name: a derived claim, a JSON pointer (RFC 6901) if the name starts with `/`, else one
    /// literal top-level member. `null` is the same as missing.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let found = if let Some((_, value)) = self.derived.iter().find(|(n, _)| *n == name) {
            value.as_ref()
        } else if name.starts_with('/') {
            self.pointer(name)
        } else {
            self.raw.get(name)
        };
        found.filter(|value| !matches!(value, Json::Null))
    }

    /// The claim of that name if it is a string.
    pub fn string(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Json::as_str)
    }

    /// The raw members, in the order of the token.
    pub const fn raw(&self) -> &Object {
        &self.raw
    }

    /// The derived claims that this token has.
    pub fn derived(&self) -> impl Iterator<Item = (&'static str, &Json)> {
        self.derived.iter().filter_map(|(name, value)| value.as_ref().map(|value| (*name, value)))
    }

    fn pointer(&self, pointer: &str) -> Option<&Json> {
        let mut steps = pointer.split('/').skip(1).map(|step| step.replace("~1", "/").replace("~0", "~"));
        let mut value = self.raw.get(&steps.next()?)?;
        for step in steps {
            value = match value {
                Json::Object(object) => object.get(&step)?,
                Json::Array(items) => items.get(index(&step)?)?,
                Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::String(_) => return None,
            };
        }
        Some(value)
    }
}

/// An index as RFC 6901 section 4 spells it: digits without a leading zero.
fn index(step: &str) -> Option<usize> {
    let digits = step.bytes().all(|byte| byte.is_ascii_digit());
    if digits && (step == "0" || !step.starts_with('0')) { step.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(text: &str, derived: Vec<(&'static str, Option<Json>)>) -> Claims {
        Claims::new(Json::parse(text.as_bytes()).unwrap().as_object().unwrap().clone(), derived)
    }

    #[test]
    fn null_is_missing() {
        let claims = claims(r#"{"a":null,"b":""}"#, vec![]);
        assert!(claims.get("a").is_none());
        assert_eq!(claims.string("b"), Some(""));
    }

    #[test]
    fn a_raw_member_cannot_stand_in_for_a_derived_claim() {
        let forged = claims(r#"{"tag":"v1","x":"y"}"#, vec![("tag", None)]);
        assert!(forged.get("tag").is_none());
        let real = claims(r#"{"tag":"v1"}"#, vec![("tag", Some(Json::String("v2".into())))]);
        assert_eq!(real.string("tag"), Some("v2"));
    }

    #[test]
    fn a_name_is_literal_unless_it_is_a_pointer() {
        let claims = claims(r#"{"a/b":"slash","a":{"b":"deep","~":["x"]},"c.d":"dot"}"#, vec![]);
        assert_eq!(claims.string("a/b"), Some("slash"));
        assert_eq!(claims.string("/a/b"), Some("deep"));
        assert_eq!(claims.string("/a/~0/0"), Some("x"));
        assert_eq!(claims.string("c.d"), Some("dot"));
        assert!(claims.get("/a/b/c").is_none());
        assert!(claims.get("/").is_none());
        for odd in ["/a/~0/00", "/a/~0/+0", "/a/~0/-0", "/a/~0/", "/a/~0/1", "/a/~0/-"] {
            assert!(claims.get(odd).is_none(), "{odd}");
        }
    }
}
