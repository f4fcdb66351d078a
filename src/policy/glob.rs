//! Globs over claims: `*` stays within one segment, `**` does not, everything else is literal.
//!
//! A pattern always covers the whole value, in time bounded by [`MAX_PATTERN`] and [`MAX_TEXT`]. What must not be
//! matched by pattern at all (pins, `sub`, owners) is decided by lint.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::identity::provider::Case;
use crate::policy::text::Text;

/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 256;
/// Longest text that a pattern can cover, in bytes; refs, paths and names stay far below.
pub const MAX_TEXT: usize = 1024;

/// A pattern that covers a whole text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Glob<'a>(#[serde(borrow)] Text<'a>);

/// Why a text is not a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// No `*` in it.
    #[error("has no `*`, so it matches one text only")]
    Literal,
    /// Nothing but stars.
    #[error("matches everything")]
    Everything,
    /// Three stars in a row.
    #[error("has more than two `*` in a row")]
    Stars,
    /// Longer than [`MAX_PATTERN`].
    #[error("is longer than 256 bytes")]
    TooLong,
    /// A control character.
    #[error("has a control character")]
    Control,
}

impl Glob<'_> {
    /// Reads a pattern.
    pub fn parse(pattern: &str) -> Result<Self, GlobError> {
        if pattern.len() > MAX_PATTERN {
            Err(GlobError::TooLong)
        } else if pattern.contains(char::is_control) {
            Err(GlobError::Control)
        } else if !pattern.contains('*') {
            Err(GlobError::Literal)
        } else if pattern.contains("***") {
            Err(GlobError::Stars)
        } else if pattern.chars().all(|c| c == '*') {
            Err(GlobError::Everything)
        } else {
            Ok(Self(Text::from(pattern)))
        }
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the pattern covers the whole text; `None` for a text that it is not asked about: one that is too long, or
    /// has a control character.
    ///
    /// The latest star is extended first, then the latest double star. Going back no further is enough: a double star
    /// absorbs anything, so the earliest match of what precedes it is as good as any; between two single stars a
    /// literal that holds a separator has one place where it can be, and of one without a separator the earliest place
    /// leaves all others in reach.
    pub fn matches(&self, text: &str, case: Case) -> Option<bool> {
        // SECURITY: a star after a double star is tried from every place, so the work grows with the text's square. And no
        // provider's value has a control character; a line break after a good value must not pass.
        if text.len() > MAX_TEXT || text.contains(|c: char| c.is_ascii_control()) {
            return None;
        }
        Some(self.covers(text, case))
    }

    fn covers(&self, text: &str, case: Case) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut star: Option<(usize, usize)> = None;
        let mut double: Option<(usize, usize)> = None;
        loop {
            match (pattern.get(p), text.get(t)) {
                (None, None) => return true,
                (Some(b'*'), _) => {
                    if pattern.get(p + 1) == Some(&b'*') {
                        p += 2;
                        double = Some((p, t));
                        star = None;
                    } else {
                        p += 1;
                        star = Some((p, t));
                    }
                    continue;
                }
                (Some(want), Some(have)) if same(*want, *have, case) => {
                    p += 1;
                    t += 1;
                    continue;
                }
                (Some(_) | None, Some(_) | None) => {}
            }
            if let Some((after, reached)) = star
                && text.get(reached).is_some_and(|byte| !is_separator(*byte))
            {
                (p, t) = (after, reached + 1);
                star = Some((p, t));
            } else if let Some((after, reached)) = double
                && reached < text.len()
            {
                (p, t) = (after, reached + 1);
                double = Some((p, t));
                star = None;
            } else {
                return false;
            }
        }
    }
}

impl fmt::Display for Glob<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `*` never crosses: the separators of paths, of `sub` and of refs in workflow names.
const fn is_separator(byte: u8) -> bool {
    matches!(byte, b'/' | b':' | b'@')
}

fn same(want: u8, have: u8, case: Case) -> bool {
    match case {
        Case::Exact => want == have,
        Case::AsciiInsensitive => want.eq_ignore_ascii_case(&have),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(text, Case::Exact) == Some(true)
    }

    #[test]
    fn a_star_stays_within_its_segment() {
        for (pattern, text, expected) in [
            ("v*", "v1.2", true),
            ("v*", "v", true),
            ("v*", "xv1", false),
            ("v*", "v1/x", false),
            ("v*", "v1:x", false),
            ("v*", "v1@x", false),
            ("v*", "v1\n", false),
            ("v**", "v1/x:y@z", true),
            ("v**", "v1/x\n", false),
            ("*.yml", "release.yml", true),
            ("*.yml", "release.yml.exe", false),
            ("*.yml", "dir/release.yml", false),
            ("**.yml", "dir/release.yml", true),
            ("refs/tags/*", "refs/tags/v1", true),
            ("refs/tags/*", "refs/tags/v1/evil", false),
            ("refs/*/v*", "refs/tags/v1", true),
            ("refs/*/v*", "refs/tags/x/v1", false),
            ("**/v*", "refs/tags/x/v1", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("**a*b", "xa/ab", true),
            ("*/x*y", "a/x/x/y", false),
            ("é*", "é1", true),
            ("a?*", "ab", false),
            ("[ab]*", "ax", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn case_is_ignored_only_where_the_provider_ignores_it() {
        let glob = Glob::parse("Acme/w*").unwrap();
        assert_eq!(glob.matches("acme/Widgets", Case::AsciiInsensitive), Some(true));
        assert_eq!(glob.matches("acme/Widgets", Case::Exact), Some(false));
        assert_eq!(Glob::parse("k*").unwrap().matches("\u{212a}x", Case::AsciiInsensitive), Some(false));
    }

    #[test]
    fn no_pattern_covers_a_text_of_excessive_length() {
        assert!(matches("**a*b", &format!("{}b", "a".repeat(MAX_TEXT - 1))));
        assert!(!matches("**a*b", &format!("{}b", "a".repeat(MAX_TEXT))));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let long = format!("{}*", "a".repeat(MAX_PATTERN));
        for (text, error) in [
            ("v1", GlobError::Literal),
            ("", GlobError::Literal),
            ("*", GlobError::Everything),
            ("**", GlobError::Everything),
            ("a***", GlobError::Stars),
            ("a\n*", GlobError::Control),
            (long.as_str(), GlobError::TooLong),
        ] {
            assert_eq!(Glob::parse(text), Err(error), "{text}");
        }
    }

    /// The definition, in exponential time.
    fn covers(pattern: &[u8], text: &[u8]) -> bool {
        match pattern {
            [] => text.is_empty(),
            [b'*', b'*', rest @ ..] => (0..=text.len()).any(|n| covers(rest, &text[n..])),
            [b'*', rest @ ..] => {
                let reach = text.iter().position(|b| is_separator(*b)).unwrap_or(text.len());
                (0..=reach).any(|n| covers(rest, &text[n..]))
            }
            [literal, rest @ ..] => text.first() == Some(literal) && covers(rest, &text[1..]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn matching_is_as_defined(pattern in "[ab/*]{1,8}", text in "[ab/]{0,10}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                prop_assert_eq!(glob.matches(&text, Case::Exact), Some(covers(pattern.as_bytes(), text.as_bytes())));
            }
        }

        #[test]
        fn nothing_sticks_to_either_end((pattern, text) in filled(), stuck in "[ab./:@]{0,3}", separator in "[/:@]", control in "[\n\r\t\0]") {
            let glob = Glob::parse(&pattern).unwrap();
            let (before, after) = (|c: &str| format!("{stuck}{c}{text}"), |c: &str| format!("{text}{c}{stuck}"));
            let matches = |text: &str| glob.matches(text, Case::Exact);
            prop_assert_eq!(matches(&text), Some(true), "{} {}", &pattern, &text);
            for stuck in [before(&control), after(&control)] {
                prop_assert_eq!(matches(&stuck), None, "{} {:?}", &pattern, &stuck);
            }
            // Where the pattern begins or ends with a letter of its own, nothing else is there.
            let foreign = [
                (!pattern.starts_with('*')).then(|| format!("z{}", before(&separator))),
                (!pattern.ends_with('*')).then(|| format!("{}z", after(&separator))),
            ];
            for stuck in foreign.into_iter().flatten() {
                prop_assert_eq!(matches(&stuck), Some(false), "{} {}", &pattern, &stuck);
            }
            // And single stars take no further segment in.
            if !pattern.contains("**") {
                for stuck in [before(&separator), after(&separator)] {
                    prop_assert_eq!(matches(&stuck), Some(false), "{} {}", &pattern, &stuck);
                }
            }
        }
    }

    /// A pattern, and a text that it covers: each star has been filled with what it may stand for.
    fn filled() -> impl Strategy<Value = (String, String)> {
        let star = || {
            prop_oneof![
                2 => "[ab.]{0,3}".prop_map(|fill| ("*", fill)),
                1 => "[ab./:@]{0,3}".prop_map(|fill| ("**", fill)),
            ]
        };
        // A star, and a literal between it and the next; at the ends there may be none, as in `v*` and `**/v`.
        let inner = prop::collection::vec((star(), "[abv./:@]{1,2}"), 0..=2);
        let last = (star(), "[abv./:@]{0,2}");
        ("[abv./:@]{0,2}", inner, last).prop_filter_map("nothing but stars", |(first, inner, last)| {
            let (mut pattern, mut text) = (first.clone(), first);
            for ((star, fill), literal) in inner.into_iter().chain([last]) {
                pattern.push_str(star);
                pattern.push_str(&literal);
                text.extend([fill, literal]);
            }
            pattern.contains(|c| c != '*').then_some((pattern, text))
        })
    }
}
