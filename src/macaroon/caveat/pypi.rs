//! The codec `pypi`: JSON arrays that begin with a tag, as `PyPI` mints them and pypitoken narrows them.
//!
//! ```text
//!   [0, expires at, not before]     Unix time in whole seconds: not before <= now < expires at
//!   [1, ["name", …]]                the project is one of these, by their PEP 503 names
//! ```
//!
//! Written without white space. Read as JSON, since holders narrow tokens with libraries that write it otherwise: an
//! array counts by what it says, not by its bytes. What verifiers of such tokens read differently is refused: numbers that
//! are not written as integers, further elements, names that are not canonical. `PyPI`'s other tags name rows of its own
//! database.

use crate::json::Json;
use crate::macaroon::caveat::Caveat;
use crate::macaroon::caveat::CaveatError;
use crate::macaroon::caveat::MAX_ARGUMENTS;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::package::Pattern;
use crate::package::Permission;
use crate::package::Permissions;
use crate::time::Timestamp;

/// The caveats as people see them.
pub(super) const EXPIRATION: &str = "[0,…]";
pub(super) const PROJECTS: &str = "[1,…]";

/// Reads a caveat.
pub(super) fn read(bytes: &[u8]) -> Result<Caveat, CaveatError> {
    let Ok(Json::Array(elements)) = Json::parse(bytes) else { return Err(CaveatError::NotTagged) };
    let Some((Json::Int(tag), elements)) = elements.split_first() else { return Err(CaveatError::NotTagged) };
    match (tag, elements) {
        (0, [Json::Int(before), Json::Int(from)]) => {
            let between = moment(*from).zip(moment(*before));
            let (from, before) = between.ok_or(CaveatError::Elements(EXPIRATION))?;
            Ok(Caveat::TimeBetween { from, before })
        }
        (0, _) => Err(CaveatError::Elements(EXPIRATION)),
        (1, [Json::Array(names)]) if names.len() > MAX_ARGUMENTS => Err(CaveatError::TooManyArguments(PROJECTS)),
        (1, [Json::Array(names)]) if !names.is_empty() => {
            let uploads = names.iter().map(upload).collect::<Option<Permissions>>();
            uploads.map(Caveat::Allow).ok_or(CaveatError::Elements(PROJECTS))
        }
        (1, _) => Err(CaveatError::Elements(PROJECTS)),
        (tag, _) => Err(CaveatError::UnknownTag(*tag)),
    }
}

/// Writes a caveat; `None` if there is no array that says it.
pub(super) fn write(caveat: &Caveat) -> Option<String> {
    match caveat {
        Caveat::TimeBetween { from, before } => Some(format!("[0,{},{}]", before.unix_seconds(), from.unix_seconds())),
        Caveat::Allow(permissions) if !permissions.is_empty() => {
            // Canonical names have no character that JSON escapes.
            let names = permissions.iter().map(|pair| uploaded(pair).map(|name| format!("\"{name}\"")));
            names.collect::<Option<Vec<_>>>().map(|names| format!("[1,[{}]]", names.join(",")))
        }
        Caveat::Registry(_)
        | Caveat::TimeBefore(_)
        | Caveat::Allow(_)
        | Caveat::Version(_)
        | Caveat::Sha256(_)
        | Caveat::MaxSize(_)
        | Caveat::Uses(_)
        | Caveat::Ip(_) => None,
    }
}

/// A moment that a timestamp holds exactly.
fn moment(seconds: i64) -> Option<Timestamp> {
    let moment = Timestamp::from_unix_seconds(seconds);
    (moment.unix_seconds() == seconds).then_some(moment)
}

/// What one name of a list allows.
///
/// SECURITY: uploads to a project that exists, and no more. `PyPI`'s caveats have no actions, and `PyPI` itself lets no
/// token with this one make a project.
fn upload(name: &Json) -> Option<Permission> {
    let name = project(name.as_str()?)?;
    Some(Permission { action: Action::upload(), pattern: Pattern::Literal(name) })
}

/// The project of a pair that lets it be uploaded, and nothing else.
fn uploaded(pair: &Permission) -> Option<PackageName> {
    match &pair.pattern {
        Pattern::Literal(name) if pair.action.as_str() == Action::UPLOAD => project(name.as_str()),
        Pattern::Literal(_) | Pattern::Prefix(_) => None,
    }
}

/// A project by the one spelling of its name.
fn project(text: &str) -> Option<PackageName> {
    PackageName::parse(Ecosystem::Pypi, text).ok().filter(|name| name.as_str() == text)
}

#[cfg(test)]
mod tests;
