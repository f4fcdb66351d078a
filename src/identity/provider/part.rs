//! Parts of claims, as several presets compute them.

use crate::json::Json;
use crate::json::Object;

/// The text of a claim.
pub(super) fn text<'a>(raw: &'a Object, claim: &str) -> Option<&'a str> {
    raw.get(claim)?.as_str()
}

/// The tag that a claim with a full git ref names.
///
/// SECURITY: only behind `refs/tags/`: `refs/heads/refs/tags/v1` is a branch, and so is `v1` itself on some providers.
pub(super) fn tag(raw: &Object, claim: &str) -> Option<Json> {
    let tag = text(raw, claim)?.strip_prefix("refs/tags/").filter(|tag| !tag.is_empty())?;
    Some(Json::String(tag.to_owned()))
}

/// What follows the last `/` of a claim.
pub(super) fn last_segment(raw: &Object, claim: &str) -> Option<Json> {
    let (before, last) = text(raw, claim)?.rsplit_once('/')?;
    (!before.is_empty() && !last.is_empty()).then(|| Json::String(last.to_owned()))
}
