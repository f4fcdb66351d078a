//! `waive`: by which a policy says why a warning is acceptable for a rule, an issuer or a registry.

use super::catalogue;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Lint;
use crate::policy::yaml::Waiver;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;

/// Shortest reason, in characters: "ok" is none.
const SHORTEST_REASON: usize = 10;

/// Who may waive warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy) enum Waiving {
    /// The operators, in their directory.
    Allowed,
    /// SECURITY: a registry that serves its own rules must not silence what the operators are warned of.
    Refused,
}

/// Reads the waivers of an entry. They hold for what is found from now on, so this comes before everything else.
pub(in crate::policy) fn waivers(entry: &Field<'_>, waiving: Waiving, faults: &mut Faults) {
    let mut silent = Faults::new();
    let found = entry.entries(&mut silent).and_then(|mut fields| fields.find(|field| field.name() == "waive"));
    let Some(field) = found else { return };
    if waiving == Waiving::Refused {
        field.fault_at_key(faults, "a bundle cannot waive warnings", "remove it: the operators are told, and decide");
        return;
    }
    for waiver in field.entries(faults).into_iter().flatten() {
        let (lint, reason) = (lint(&waiver, faults), reason(&waiver, faults));
        if let (Some(lint), Some(reason)) = (lint, reason) {
            let (place, key_path) = (waiver.key_spot().into(), entry.path.to_string());
            faults.waive(Waiver { place, key_path, lint, reason: reason.to_owned(), used: 0 });
        }
    }
}

fn lint(waiver: &Field<'_>, faults: &mut Faults) -> Option<&'static Lint> {
    let name = waiver.name();
    let Some(lint) = catalogue::by_code(name) else {
        let codes = catalogue::ALL.iter().filter(|lint| lint.ruling.warns()).map(|lint| lint.code);
        let remedy = match nearest(name, codes.clone()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("codes of warnings: {}", codes.collect::<Vec<_>>().join(", ")),
        };
        waiver.fault_at_key(faults, format!("there is no warning `{}`", shown(name)), remedy);
        return None;
    };
    if !lint.ruling.warns() {
        let message = format!("`{}` is no warning, and nothing else can be waived", lint.code);
        waiver.fault_at_key(faults, message, "remove the line, and mend what it is about");
        return None;
    }
    Some(lint)
}

fn reason<'a>(waiver: &Field<'a>, faults: &mut Faults) -> Option<&'a str> {
    let reason = waiver.text(faults)?;
    if reason.trim().chars().count() < SHORTEST_REASON {
        waiver.fault(faults, "is no reason", "say in a few words why the warning is acceptable here");
        return None;
    }
    Some(reason)
}

/// Warns of waivers that no warning needed. Where there are errors, what the waivers are for may not have been judged.
pub(in crate::policy) fn unused(faults: &mut Faults) {
    if !faults.is_empty() {
        return;
    }
    let unused: Vec<Waiver> = faults.warnings().waivers().filter(|waiver| waiver.used == 0).cloned().collect();
    for waiver in unused {
        let key_path = format!("{}.waive.{}", waiver.key_path, waiver.lint.code);
        let message = format!("there is no `{}` here to waive", waiver.lint.code);
        faults.warn(waiver.place, key_path, (&catalogue::L053, message), "remove the line");
    }
}
