//! `codec`: how a registry's tokens spell what restricts them, and what its rules must then do without.

use super::choice;
use super::grant;
use crate::codec::Codec;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::Pattern;
use crate::policy::registry::TokenSettings;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Fields;

/// What a rule of such a registry shall do about it.
const REMEDY: &str = "remove it, or the registry's `codec: pypi`";

/// The codec of a registry, which must fit its package names and its tokens.
pub(super) fn of_registry(
    fields: &Fields<'_>,
    ecosystem: Option<Ecosystem>,
    token: Option<&TokenSettings>,
    faults: &mut Faults,
) -> Option<Codec> {
    let Some(field) = fields.get("codec") else { return Some(Codec::Text) };
    let codec = choice(&field, &Codec::ALL.map(|codec| (codec.as_str(), codec)), faults)?;
    if codec == Codec::Text {
        return Some(codec);
    }
    let before = faults.len();
    if ecosystem.is_some_and(|ecosystem| ecosystem != Ecosystem::Pypi) {
        let remedy = "remove the line, or say that the packages are Python's: `ecosystem: pypi`";
        field.fault(faults, "names projects as PyPI does, and this registry's packages are named otherwise", remedy);
    }
    // Readers of such tokens take what stands before the first `-` for the prefix.
    if let Some(prefix) = token.map(|token| token.prefix.as_str())
        && prefix.find('-') != Some(prefix.len().saturating_sub(1))
    {
        let message = format!("needs a token prefix with one `-`, at its end, and this registry's is `{prefix}`");
        field.fault(faults, message, "write `token: {prefix: pypi-}`, which readers of PyPI's tokens expect");
    }
    (faults.len() == before).then_some(codec)
}

/// Whether the tokens of a registry can say all that a rule wants; what they cannot is reported where it stands.
///
/// SECURITY: here, not when a job asks. A rule that is limited to a version must not be found out to be none on the day of
/// a release, and its limit must never be left out of a token.
pub(super) fn can_say(codec: Codec, fields: &Fields<'_>, faults: &mut Faults) -> bool {
    let before = faults.len();
    match codec {
        Codec::Text => {}
        Codec::Pypi => {
            if let Some(allow) = fields.get("allow") {
                let entries = allow.entries(&mut Faults::new());
                entries.into_iter().flatten().for_each(|entry| grants(&entry, faults));
            }
            let limits = ["versions", "max_size"].map(|key| fields.get(key)).into_iter().flatten();
            let once = fields.get("single_use").filter(|field| field.boolean(&mut Faults::new()) == Some(true));
            for field in limits.chain(once) {
                let message = "cannot be said in this registry's tokens: PyPI's caveats have no word for it";
                field.fault_at_key(faults, message, REMEDY);
            }
        }
    }
    faults.len() == before
}

/// One action of a grant and its packages. What is no action or no package is reported elsewhere.
fn grants(entry: &Field<'_>, faults: &mut Faults) {
    let action = grant::action(entry, &mut Faults::new());
    if action.is_some_and(|action| action.as_str() != Action::UPLOAD) {
        let message = "cannot be said in this registry's tokens: PyPI's caveats have no actions, and mean `upload`";
        entry.fault_at_key(faults, message, REMEDY);
    }
    for item in entry.items(&mut Faults::new()).into_iter().flatten() {
        let pattern = item.text(&mut Faults::new()).map(|text| Pattern::parse(Ecosystem::Pypi, text));
        if let Some(Ok(Pattern::Prefix(_))) = pattern {
            let message = "cannot be said in this registry's tokens: PyPI's caveats list projects by their whole names";
            item.fault(
                faults,
                message,
                "list the packages one by one, or take their names from the job: `acme-{component}`",
            );
        }
    }
}
