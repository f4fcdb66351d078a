//! Patterns in conditions, each with what its author can do about a bad one.

use super::Known;
use crate::identity::provider::Kind;
use crate::policy::glob::Glob;
use crate::policy::glob::GlobError;
use crate::policy::lint::catalogue;
use crate::policy::regexp::Regexp;
use crate::policy::regexp::RegexpError;
use crate::policy::regexp::Regexps;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::shown;

fn is_text(field: &Field<'_>, known: Known<'_>, what: &str, faults: &mut Faults) -> bool {
    let text = matches!(known.kind, Kind::String | Kind::Any);
    if !text {
        let message = (&catalogue::L036, format!("`{}` is not text, which a {what} needs", shown(known.name)));
        field.fault(faults, message, "compare it with `is`");
    }
    text
}

/// A regular expression on a claim that is text.
pub(super) fn regex(
    field: &Field<'_>,
    known: Known<'_>,
    regexps: &mut Regexps,
    faults: &mut Faults,
) -> Option<Regexp<'static>> {
    let text = field.text(faults)?;
    if !is_text(field, known, "regular expression", faults) {
        return None;
    }
    match regexps.parse(text, known.case) {
        Ok(regexp) => Some(regexp),
        Err(error) => {
            let remedy = match error {
                RegexpError::TooLong | RegexpError::TooLarge => "write a shorter one",
                RegexpError::Character => "write printable ASCII",
                RegexpError::Syntax(_) => {
                    "it must be complete by itself; there is no look-around and no back-reference"
                }
                RegexpError::TooMany => "use `glob`, or one pattern for several rules",
            };
            field.fault(faults, (&catalogue::L004, format!("`{}` {error}", shown(text))), remedy);
            None
        }
    }
}

/// A glob on a claim that is text.
pub(super) fn glob(field: &Field<'_>, known: Known<'_>, faults: &mut Faults) -> Option<Glob<'static>> {
    let text = field.text(faults)?;
    if !is_text(field, known, "glob", faults) {
        return None;
    }
    match Glob::parse(text) {
        Ok(glob) => Some(glob),
        Err(error) => {
            let remedy = match error {
                GlobError::Literal => "write it as a plain value",
                GlobError::Everything => "write `{present: true}`",
                GlobError::Stars => "`*` stays within a segment, `**` crosses segments",
                GlobError::TooLong => "write a shorter pattern",
                GlobError::Control => "remove it",
            };
            field.fault(faults, format!("the pattern `{}` {error}", shown(text)), remedy);
            None
        }
    }
}
