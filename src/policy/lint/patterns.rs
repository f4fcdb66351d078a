//! Patterns over claims: what must not be compared by pattern, and what a pattern must not leave open.

use super::OWNER_FIRST;
use super::catalogue;
use super::pins;
use crate::identity::provider::Provider;
use crate::policy::condition::Condition;
use crate::policy::condition::Test;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;

pub(super) fn check(entry: &Field<'_>, provider: &Provider, condition: &Condition<'_>, faults: &mut Faults) {
    if condition.claim() == "sub" && has_pattern(condition.test()) {
        // SECURITY: the shape of `sub` is chosen by the project; a pattern over it can be met by another shape.
        let message = "`sub` cannot be compared by pattern: projects choose its shape";
        let remedy = "use the claims that it is made of, or compare it whole";
        entry.fault(faults, (&catalogue::L008, message), remedy);
    } else if is_made_up_sub(provider, condition) {
        let message =
            "`sub` is made of other claims, and its format changes with the provider's and the project's settings";
        entry.warn(faults, (&catalogue::L008, message), "compare the claims that it is made of");
    } else if OWNER_FIRST.contains(&condition.claim())
        && let Some(pattern) = open_owner(condition.test())
    {
        let message = format!("the pattern `{pattern}` leaves the owner open: strangers can register one");
        let remedy = "write the owner out: only what follows the first `/` may vary";
        entry.fault(faults, (&catalogue::L005, message), remedy);
    }
}

/// Whether `sub` is compared whole where the preset has better claims to pin. (Forgejo's is refused: L010.)
fn is_made_up_sub(provider: &Provider, condition: &Condition<'_>) -> bool {
    let whole = condition.claim() == "sub" && !condition.literals().is_empty();
    whole && !pins(provider).contains(&"sub") && provider.name != "forgejo"
}

fn has_pattern(test: &Test<'_>) -> bool {
    match test {
        Test::Glob(_) | Test::Regex(_) => true,
        Test::Not(tests) => tests.iter().any(has_pattern),
        Test::Is(_)
        | Test::In(_)
        | Test::Contains(_)
        | Test::Exactly(_)
        | Test::Present
        | Test::Absent
        | Test::SameAs(_) => false,
    }
}

/// The pattern of a test, if it does not begin with one owner and a `/`.
fn open_owner<'t>(test: &'t Test<'_>) -> Option<&'t str> {
    match test {
        Test::Glob(glob) => {
            let pattern = glob.as_str();
            pattern.split('/').next().unwrap_or(pattern).contains('*').then_some(pattern)
        }
        Test::Regex(regexp) => Some(regexp.as_str()).filter(|pattern| !fixes_owner(pattern)),
        Test::Is(_)
        | Test::In(_)
        | Test::Contains(_)
        | Test::Exactly(_)
        | Test::Present
        | Test::Absent
        | Test::SameAs(_)
        | Test::Not(_) => None,
    }
}

/// Whether a regular expression begins with an owner's name, letter for letter, and a `/`, and has no alternative to that.
fn fixes_owner(pattern: &str) -> bool {
    let Some((owner, rest)) = pattern.split_once('/') else { return false };
    let owner = owner.replace(r"\-", "-").replace(r"\.", "0");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    // SECURITY: a quantifier behind the slash would make it optional, and a `|` outside of parentheses ends it all.
    let literal = !owner.is_empty() && owner.bytes().all(plain) && !rest.starts_with(['?', '*', '{']);
    let (mut depth, mut escaped, mut class) = (0_u32, false, false);
    literal
        && rest.bytes().all(|byte| {
            let plain = std::mem::take(&mut escaped);
            match byte {
                _ if plain => {}
                b'\\' => escaped = true,
                b'[' => class = true,
                b']' => class = false,
                b'(' if !class => depth += 1,
                b')' if !class => depth = depth.saturating_sub(1),
                b'|' if !class && depth == 0 => return false,
                _ => {}
            }
            true
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_fixed_by_its_letters_and_a_slash() {
        for pattern in ["acme/.*", r"ac\-me/(a|b)", "acme/[|]x", r"acme/a\|b", "a_b/x", "acme/(core|cli)/v.*"] {
            assert!(fixes_owner(pattern), "{pattern}");
        }
        for pattern in [
            "acme.*",
            ".*/x",
            "(acme|evil)/x",
            "acme/x|evil/x",
            "acme/?x",
            "acme/*",
            "[a]cme/x",
            "/x",
            "acme/{0}x",
            "ac.me/x",
            "^acme/x",
        ] {
            assert!(!fixes_owner(pattern), "{pattern}");
        }
    }
}
