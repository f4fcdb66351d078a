//! What a rule grants: pairs of an action and a package pattern, some of which take part of the name from the job.
//!
//! SECURITY: a placeholder is filled after the pattern has been read, never before, so no claim can bring a `*`, a
//! separator of scopes or another placeholder into it; and what comes out is one literal name or nothing.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::package::Action;
use crate::package::Ecosystem;
use crate::package::PackageName;
use crate::package::Pattern;
use crate::package::Permission;
use crate::policy::text::Text;

/// Longest version that a token can be for, in bytes.
const MAX_VERSION: usize = 64;
/// Most placeholders of one template.
const MAX_PLACEHOLDERS: usize = 4;

/// One pair of a rule's grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<'a> {
    #[serde(borrow)]
    pub(super) action: Text<'a>,
    #[serde(borrow)]
    pub(super) packages: Packages<'a>,
}

/// Which packages a pair reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packages<'a> {
    /// Those of a pattern, in its canonical spelling.
    Pattern(#[serde(borrow)] Text<'a>),
    /// The one that the job's claims make of this.
    Template(#[serde(borrow)] Template<'a>),
}

/// A text with placeholders: `acme-{component}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template<'a>(#[serde(borrow)] Text<'a>);

/// Why a text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// A brace without its partner, or one within another.
    #[error("has a `{{` or `}}` without its partner")]
    Braces,
    /// Nothing between two braces.
    #[error("has an empty placeholder")]
    Empty,
    /// More than four.
    #[error("has more than 4 placeholders")]
    TooMany,
}

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'t> {
    /// Text that stands for itself.
    Text(&'t str),
    /// The name of a placeholder.
    Placeholder(&'t str),
}

impl Template<'_> {
    /// Reads a template; a text without placeholders is one too.
    pub fn parse(text: &str) -> Result<Template<'static>, TemplateError> {
        let mut rest = text;
        let mut count = 0;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or(TemplateError::Braces)?;
            if before.contains('}') || name.contains('{') {
                return Err(TemplateError::Braces);
            }
            if name.is_empty() {
                return Err(TemplateError::Empty);
            }
            count += 1;
            rest = after;
        }
        if rest.contains('}') {
            return Err(TemplateError::Braces);
        }
        if count > MAX_PLACEHOLDERS { Err(TemplateError::TooMany) } else { Ok(Template(Text::from(text))) }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its parts in order.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        self.0.split_inclusive('}').flat_map(|piece| {
            let (text, name) = piece.split_once('{').unwrap_or((piece, ""));
            let name = name.strip_suffix('}').filter(|name| !name.is_empty());
            [Some(Part::Text(text)).filter(|_| !text.is_empty()), name.map(Part::Placeholder)].into_iter().flatten()
        })
    }

    /// The names of its placeholders.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.parts().filter_map(|part| match part {
            Part::Placeholder(name) => Some(name),
            Part::Text(_) => None,
        })
    }

    /// The text with each placeholder replaced; `None` if one has no value.
    pub fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Option<String> {
        let mut filled = String::new();
        for part in self.parts() {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Placeholder(name) => filled.push_str(&value(name)?),
            }
        }
        Some(filled)
    }
}

impl Pair<'_> {
    /// What may be done.
    pub fn action(&self) -> &str {
        &self.action
    }

    /// To which packages.
    pub const fn packages(&self) -> &Packages<'_> {
        &self.packages
    }

    /// The pair for one job; `Err` with what its claims make of the name if that is no name of a package.
    pub(super) fn permission(
        &self,
        ecosystem: Ecosystem,
        value: impl Fn(&str) -> Option<String>,
    ) -> Result<Permission, String> {
        let action = Action::parse(&self.action).ok_or_else(String::new)?;
        let pattern = match &self.packages {
            Packages::Pattern(text) => Pattern::parse(ecosystem, text).map_err(|_| text.to_string())?,
            Packages::Template(template) => {
                // SECURITY: `acme-` is a package, and not one of `acme-*`.
                let some = |name: &str| value(name).filter(|value| !value.is_empty());
                let name = template.fill(some).ok_or_else(String::new)?;
                let parsed = PackageName::parse_interpolated(ecosystem, &name);
                Pattern::Literal(parsed.map_err(|_| name)?)
            }
        };
        Ok(Permission { action, pattern })
    }

    /// Whether some job could get this pair, whatever its claims: for tokens whose claims are no longer at hand.
    pub(super) fn could_allow(&self, ecosystem: Ecosystem, action: &Action, package: &PackageName) -> bool {
        let same = *self.action == *action.as_str() || action.as_str() == Action::READ;
        same && match &self.packages {
            Packages::Pattern(text) => Pattern::parse(ecosystem, text).is_ok_and(|pattern| pattern.matches(package)),
            Packages::Template(template) => covers(template, package.as_str()),
        }
    }
}

/// Whether a template can make this name: its fixed parts stand in it, in lower case as in every name that is put
/// together, in order and at the ends, with something between them.
fn covers(template: &Template<'_>, text: &str) -> bool {
    let lower = Template(Text::from(template.as_str().to_ascii_lowercase()));
    let parts: Vec<Part<'_>> = lower.parts().collect();
    covers_parts(&parts, text)
}

fn covers_parts(parts: &[Part<'_>], text: &str) -> bool {
    match parts.split_first() {
        None => text.is_empty(),
        Some((Part::Text(fixed), rest)) => text.strip_prefix(fixed).is_some_and(|text| covers_parts(rest, text)),
        Some((Part::Placeholder(_), [])) => !text.is_empty(),
        Some((Part::Placeholder(_), rest)) => {
            let mut after = text.char_indices().skip(1).map(|(at, _)| text.split_at(at).1);
            after.any(|text| covers_parts(rest, text)) || covers_parts(rest, "") && !text.is_empty()
        }
    }
}

/// Whether a token can be for this version: printable ASCII that needs no escape.
pub(super) fn is_version(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+' | b'~' | b'!');
    (1..=MAX_VERSION).contains(&text.len()) && text.bytes().all(plain)
}

impl fmt::Display for Template<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `upload:widgets-*`, `upload:acme-{component}`.
impl fmt::Display for Pair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.packages {
            Packages::Pattern(text) => write!(f, "{}:{text}", self.action),
            Packages::Template(template) => write!(f, "{}:{template}", self.action),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_template_has_its_placeholders_in_braces() {
        let template = Template::parse("acme-{component}.{b}x").unwrap();
        let parts: Vec<Part<'_>> = template.parts().collect();
        let (text, name) = (Part::Text, Part::Placeholder);
        assert_eq!(parts, [text("acme-"), name("component"), text("."), name("b"), text("x")]);
        for text in ["{", "}", "{a", "a}", "{a{b}}", "{}", "{a}{b}{c}{d}{e}", "a}b{c}"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
        assert_eq!(Template::parse("a").unwrap().parts().collect::<Vec<_>>(), [text("a")]);
    }

    #[test]
    fn a_value_is_never_read_as_a_template_or_a_pattern() {
        let pair =
            Pair { action: Text::from("upload"), packages: Packages::Template(Template::parse("acme-{x}").unwrap()) };
        let filled = |value: &str| pair.permission(Ecosystem::Pypi, |_| Some(value.to_owned())).map(|p| p.to_string());
        assert_eq!(filled("core"), Ok("upload:acme-core".to_owned()));
        assert_eq!(filled("Core"), Ok("upload:acme-core".to_owned()));
        for value in ["", "*", "-*", "c_*", "{x}", "a b", "a_b", "a.b", "-a", "a-", "é", "a\n", "a:b", "a,b"] {
            assert!(filled(value).is_err(), "{value}");
        }
        assert!(pair.permission(Ecosystem::Pypi, |_| None).is_err());
        // `acme-` is a name there, and none of `acme-*`.
        for ecosystem in [Ecosystem::Npm, Ecosystem::Cargo, Ecosystem::Conda] {
            assert!(PackageName::parse(ecosystem, "acme-").is_ok());
            assert!(pair.permission(ecosystem, |_| Some(String::new())).is_err(), "{}", ecosystem.name());
        }
    }

    #[test]
    fn what_a_template_gives_it_could_give() {
        for (ecosystem, text, value) in [
            (Ecosystem::NuGet, "Acme.{x}", "Core"),
            (Ecosystem::Pypi, "Acme-{x}", "core"),
            (Ecosystem::Cargo, "{x}-Sys", "acme"),
            (Ecosystem::Npm, "@acme/{x}", "core"),
            (Ecosystem::RubyGems, "acme_{x}", "core"),
        ] {
            let packages = Packages::Template(Template::parse(text).unwrap());
            let pair = Pair { action: Text::from("upload"), packages };
            let given = pair.permission(ecosystem, |_| Some(value.to_owned())).unwrap();
            let Pattern::Literal(name) = &given.pattern else { panic!("{given}") };
            assert!(pair.could_allow(ecosystem, &Action::upload(), name), "{text}");
            assert!(!pair.could_allow(ecosystem, &Action::create(), name), "{text}");
            let other = PackageName::parse(ecosystem, "other.x").or_else(|_| PackageName::parse(ecosystem, "other"));
            assert!(!pair.could_allow(ecosystem, &Action::upload(), &other.unwrap()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_template_covers_what_it_makes(a in "[a-z]{1,4}", b in "[a-z-]{1,4}") {
            let template = Template::parse("x-{a}-{b}.y").unwrap();
            let made = template.fill(|name| Some(if name == "a" { a.clone() } else { b.clone() })).unwrap();
            prop_assert!(covers(&template, &made), "{}", made);
            let (after, before) = (format!("{made}z"), format!("z{made}"));
            prop_assert!(!covers(&template, &after));
            prop_assert!(!covers(&template, &before));
        }
    }
}
