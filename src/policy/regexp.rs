//! Regular expressions over claims: linear time, ASCII, and always about the whole value.
//!
//! The pattern is compiled as it stands and then between `\A(?:` and `)\z`, so neither an alternation nor an unbalanced
//! parenthesis gets outside the anchors. Each distinct pattern of a policy is compiled once.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex::bytes::Regex;
use regex::bytes::RegexBuilder;
use serde::Deserialize;
use serde::Serialize;

use crate::identity::provider::Case;
use crate::policy::glob::MAX_PATTERN;
use crate::policy::glob::MAX_TEXT;
use crate::policy::text::Text;

/// Most memory of one compiled pattern, in bytes.
const MAX_COMPILED: usize = 64 * 1024;
/// Most memory that matching one pattern may use for its cache, in bytes.
const MAX_CACHE: usize = 128 * 1024;
/// Most distinct patterns of a set of rules: each is compiled and kept, for which a million rules
/// would have no room.
const MAX_DISTINCT: usize = 4096;

/// One pattern of a rule.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Regexp<'a> {
    #[serde(borrow)]
    text: Text<'a>,
    folded: bool,
    /// There once [`Regexps`] has been asked for it.
    #[serde(skip)]
    compiled: Option<Arc<Regex>>,
}

/// Why a text is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegexpError {
    /// Longer than [`MAX_PATTERN`].
    #[error("is longer than 256 bytes")]
    TooLong,
    /// A character outside of printable ASCII.
    #[error("has a character that is not printable ASCII")]
    Character,
    /// It does not compile by itself.
    #[error("is not a regular expression: {0}")]
    Syntax(String),
    /// It compiles to more than the limit.
    #[error("is too large when compiled")]
    TooLarge,
    /// There are too many distinct ones already.
    #[error("is one more distinct pattern than the {MAX_DISTINCT} that there may be")]
    TooMany,
}

impl Regexp<'_> {
    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of its groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.compiled.iter().flat_map(|regex| regex.capture_names().flatten())
    }

    /// Whether it covers the whole text; `None` for a text that it is not asked about: one that is too long, or has
    /// anything but printable ASCII in it.
    pub fn matches(&self, text: &str) -> Option<bool> {
        is_plain(text).then(|| self.compiled.as_ref().is_some_and(|regex| regex.is_match(text.as_bytes())))
    }

    /// What the group of that name has of the text.
    pub fn group<'t>(&self, name: &str, text: &'t str) -> Option<&'t str> {
        let captures = self.compiled.as_ref().filter(|_| is_plain(text))?.captures(text.as_bytes())?;
        text.get(captures.name(name)?.range())
    }
}

/// SECURITY: no provider's value has a control character, and one that looks like an ASCII letter is a look-alike.
fn is_plain(text: &str) -> bool {
    text.len() <= MAX_TEXT && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

impl fmt::Display for Regexp<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The compiled patterns of a set of rules.
#[derive(Debug, Default)]
pub struct Regexps(HashMap<(bool, Box<str>), Arc<Regex>>);

impl Regexps {
    /// Reads a pattern for claims that compare so.
    pub fn parse(&mut self, text: &str, case: Case) -> Result<Regexp<'static>, RegexpError> {
        let folded = case == Case::AsciiInsensitive;
        let key = (folded, Box::from(text));
        let compiled = match self.0.get(&key) {
            Some(compiled) => Arc::clone(compiled),
            None if self.0.len() >= MAX_DISTINCT => return Err(RegexpError::TooMany),
            None => Arc::new(compile(text, folded)?),
        };
        self.0.insert(key, Arc::clone(&compiled));
        Ok(Regexp { text: Text::from(text), folded, compiled: Some(compiled) })
    }

    /// Gives an unpacked pattern what was compiled for it.
    pub(super) fn resolve(&self, regexp: &mut Regexp<'_>) -> Option<()> {
        let key = (regexp.folded, Box::from(&*regexp.text));
        regexp.compiled = Some(Arc::clone(self.0.get(&key)?));
        Some(())
    }
}

fn compile(text: &str, folded: bool) -> Result<Regex, RegexpError> {
    if text.len() > MAX_PATTERN {
        return Err(RegexpError::TooLong);
    }
    if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(RegexpError::Character);
    }
    let build = |pattern: &str| {
        let mut builder = RegexBuilder::new(pattern);
        builder.unicode(false).case_insensitive(folded).size_limit(MAX_COMPILED).dfa_size_limit(MAX_CACHE);
        builder.build().map_err(|error| {
            let too_big = matches!(error, regex::Error::CompiledTooBig(_));
            if too_big { RegexpError::TooLarge } else { RegexpError::Syntax(last_line(&error.to_string())) }
        })
    };
    // SECURITY: `a)|(b` compiles only between our parentheses, and would then match whatever contains one of the two.
    build(text)?;
    build(&format!(r"\A(?:{text})\z"))
}

/// The reason, without the drawing that points into the pattern.
fn last_line(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn regexp(pattern: &str) -> Regexp<'static> {
        Regexps::default().parse(pattern, Case::Exact).unwrap()
    }

    #[test]
    fn a_pattern_is_about_the_whole_text() {
        for (pattern, text, expected) in [
            ("v[0-9]+", "v12", Some(true)),
            ("v[0-9]+", "xv12", Some(false)),
            ("v[0-9]+", "v12x", Some(false)),
            ("a|b", "ax", Some(false)),
            ("a|b", "xb", Some(false)),
            ("a|b", "b", Some(true)),
            ("^a$", "a", Some(true)),
            ("(?m)^a$", "a", Some(true)),
            ("a", "a\n", None),
            ("(?s).*", "a\nb", None),
            (".*", "é", None),
            (r"\d", "1", Some(true)),
            ("(?i)k", "K", Some(true)),
            ("", "", Some(true)),
        ] {
            assert_eq!(regexp(pattern).matches(text), expected, "{pattern} {text:?}");
        }
        assert_eq!(regexp(".*").matches(&"a".repeat(MAX_TEXT + 1)), None);
    }

    #[test]
    fn a_pattern_that_needs_our_parentheses_is_refused() {
        for pattern in
            [r"token\.x)|(", "a)(b", "(", "[", "a**{", r"\p{Greek}", "(?x)a #", "é", "a\n", r"(?<n>a)(?<n>b)", "a(?=b)"]
        {
            assert!(Regexps::default().parse(pattern, Case::Exact).is_err(), "{pattern}");
        }
        assert_eq!(Regexps::default().parse(&"a".repeat(257), Case::Exact).unwrap_err(), RegexpError::TooLong);
        let bomb = "((((a{40}){40}){40}){40})";
        assert_eq!(Regexps::default().parse(bomb, Case::Exact).unwrap_err(), RegexpError::TooLarge);
    }

    #[test]
    fn case_is_ignored_where_the_provider_ignores_it_and_for_ascii_only() {
        let folded = Regexps::default().parse("acme/[a-k]+", Case::AsciiInsensitive).unwrap();
        assert_eq!(folded.matches("Acme/K"), Some(true));
        assert_eq!(folded.matches("Acme/\u{212a}"), None);
        assert_eq!(regexp("acme").matches("Acme"), Some(false));
    }

    #[test]
    fn groups_are_found_by_name() {
        let tag = regexp("(?<component>core|cli)/v(?<version>[0-9][^/]*)(?<rest>x)?");
        assert_eq!(tag.groups().collect::<Vec<_>>(), ["component", "version", "rest"]);
        assert_eq!(tag.group("component", "cli/v1.2"), Some("cli"));
        assert_eq!(tag.group("version", "cli/v1.2"), Some("1.2"));
        assert_eq!(tag.group("rest", "cli/v1.2"), None);
        assert_eq!(tag.group("component", "web/v1.2"), None);
    }

    /// A pattern, and a text that it covers: one alternative with what its parts may stand for.
    fn filled() -> impl Strategy<Value = (String, String)> {
        let part = || {
            prop_oneof![
                "[ab]".prop_map(|text| (text.clone(), text)),
                "[ab]{0,3}".prop_map(|text| ("[ab]*".to_owned(), text)),
                "[ab]{1,3}".prop_map(|text| ("[ab]+".to_owned(), text)),
                "a?".prop_map(|text| ("a?".to_owned(), text)),
                "[ab]".prop_map(|text| ("(a|b)".to_owned(), text)),
            ]
        };
        let parts = move || prop::collection::vec(part(), 1..=4);
        (parts(), prop::option::of(parts()), any::<bool>()).prop_map(|(parts, other, first)| {
            let (pattern, text): (Vec<String>, Vec<String>) = parts.into_iter().unzip();
            let (pattern, text) = (pattern.concat(), text.concat());
            let other = other.map(|parts| parts.into_iter().map(|(pattern, _)| pattern).collect::<String>());
            let whole = match other {
                None => pattern,
                Some(other) if first => format!("{pattern}|{other}"),
                Some(other) => format!("{other}|{pattern}"),
            };
            (whole, text)
        })
    }

    proptest! {
        #[test]
        fn nothing_sticks_to_either_end((pattern, text) in filled(), stuck in "[/:@\n c]{1,3}") {
            let regexp = Regexps::default().parse(&pattern, Case::Exact).unwrap();
            prop_assert_eq!(regexp.matches(&text), Some(true), "{} {}", &pattern, &text);
            for stuck in [format!("{stuck}{text}"), format!("{text}{stuck}")] {
                let expected = if stuck.contains('\n') { None } else { Some(false) };
                prop_assert_eq!(regexp.matches(&stuck), expected, "{} {:?}", &pattern, &stuck);
            }
        }
    }
}
