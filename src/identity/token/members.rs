//! The members of a token's header and payload: strict JSON, and stricter where readers of strict JSON still disagree.

use crate::identity::token::TokenError;
use crate::json::Json;
use crate::json::Object;

/// Longest name or string among the claims, in bytes. The longest that providers send, GitHub's custom properties and
/// subjects made of several claims, stay far below.
pub const MAX_STRING: usize = 4 * 1024;

/// The object that a part of a token is.
pub(super) fn object(part: &'static str, bytes: &[u8]) -> Result<Object, TokenError> {
    let object = match Json::parse(bytes) {
        Ok(Json::Object(object)) => object,
        Ok(other) => return Err(TokenError::NotAnObject { part, found: other.type_name() }),
        Err(fault) => return Err(TokenError::NotJson { part, fault }),
    };
    if differ_in_case_only(&object) { Err(TokenError::NamesDifferInCase { part }) } else { Ok(object) }
}

/// The claims that a payload makes. (Each parameter of a header has a rule of its own.)
pub(super) fn claims(payload: &[u8]) -> Result<Object, TokenError> {
    let claims = object("payload", payload)?;
    let plain = || claims.iter().all(|(name, value)| is_plain(name) && holds_plain_strings(value));
    if cannot_but_be_plain(payload) || plain() { Ok(claims) } else { Err(TokenError::NotPlainText) }
}

/// The string member of that name, if there is one; another type, `null` included, is an error.
pub(in crate::identity) fn string<'a>(object: &'a Object, claim: &'static str) -> Result<Option<&'a str>, TokenError> {
    match object.get(claim) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(other) => Err(TokenError::WrongType { claim, expected: "a string", found: other.type_name() }),
    }
}

/// Whether two names are the same but for the case of ASCII letters.
///
/// SECURITY: readers that fold case (Go's among them) take `Iss` for `iss`, so the same token would say two things.
/// Only for the members themselves: further inside, names may be a user's own, such as the tags of a cloud account.
fn differ_in_case_only<'a>(object: &'a Object) -> bool {
    // No two names are the same, so none differ in case only if all are in lower case, as nearly always.
    let is_capital = |byte: u8| byte.is_ascii_uppercase();
    if !object.iter().any(|(name, _)| name.bytes().any(is_capital)) {
        return false;
    }
    let mut names: Vec<&'a str> = object.iter().map(|(name, _)| name).collect();
    let folded = |name: &'a str| name.bytes().map(|byte| byte.to_ascii_lowercase());
    names.sort_unstable_by(|a, b| folded(a).cmp(folded(b)));
    names.windows(2).any(|pair| matches!(pair, [a, b] if a.eq_ignore_ascii_case(b)))
}

/// Whether no string of a JSON text can be but plain, as in nearly every token: two searches, where else each string is
/// looked at byte by byte.
///
/// SECURITY: but for DEL, a control character stands in a string of JSON only as an escape, which begins with a backslash,
/// and no string is longer than the text.
fn cannot_but_be_plain(json: &[u8]) -> bool {
    json.len() <= MAX_STRING && !json.contains(&b'\\') && !json.contains(&b'\x7f')
}

fn holds_plain_strings(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) => true,
        Json::String(text) => is_plain(text),
        Json::Array(items) => items.iter().all(holds_plain_strings),
        Json::Object(object) => object.iter().all(|(name, value)| is_plain(name) && holds_plain_strings(value)),
    }
}

/// SECURITY: a NUL ends the text for some readers, an escape character speaks to the terminal of whoever reads it.
/// Tabs and line breaks occur in names that users give, such as GitHub's `workflow`.
fn is_plain(text: &str) -> bool {
    let control = |byte: u8| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r');
    text.len() <= MAX_STRING && !text.bytes().any(control)
}
