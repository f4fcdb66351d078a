//! How the ecosystems spell package names: what is a name at all, and which spellings are one package.
//!
//! Only what an ecosystem's own clients take for one name is folded here. SECURITY: where they tell two spellings apart,
//! folding would let a token for one package change the other.

use super::MAX_NAME;
use super::NameError;

/// A family of registries that agree on how package names are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ecosystem {
    /// Python: names are canonical as in PEP 503 (lower case, runs of `-`, `_`, `.` are one `-`).
    Pypi,
    /// npm: lower case, with or without a scope (`@acme/widgets`). The old names in capitals are none here.
    Npm,
    /// Rust: lower case, and `_` is `-`, as crates.io compares them.
    Cargo,
    /// Ruby: names are compared as they are written; a gem's name may differ from another's in case alone.
    RubyGems,
    /// .NET: identifiers ignore the case of letters.
    NuGet,
    /// conda: names are lower case (CEP 26), and clients lower them.
    Conda,
    /// Editor extensions: `namespace.extension`, ignoring the case of letters.
    OpenVsx,
    /// Any other store: names are compared as they are written.
    Generic,
}

impl Ecosystem {
    /// Every ecosystem, in the order that documentation lists them.
    pub const ALL: [Self; 8] =
        [Self::Pypi, Self::Npm, Self::Cargo, Self::RubyGems, Self::NuGet, Self::Conda, Self::OpenVsx, Self::Generic];

    /// Its name in the policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pypi => "pypi",
            Self::Npm => "npm",
            Self::Cargo => "cargo",
            Self::RubyGems => "rubygems",
            Self::NuGet => "nuget",
            Self::Conda => "conda",
            Self::OpenVsx => "open-vsx",
            Self::Generic => "generic",
        }
    }

    /// Longest name, in bytes.
    pub(super) const fn longest(self) -> usize {
        match self {
            Self::Cargo | Self::Conda => 64,
            Self::NuGet => 100,
            Self::Pypi | Self::Npm | Self::RubyGems | Self::OpenVsx | Self::Generic => MAX_NAME,
        }
    }

    /// Whether a text that is neither empty nor too long is some spelling of a name.
    pub(super) fn check(self, text: &str) -> Result<(), NameError> {
        match self {
            Self::Pypi | Self::RubyGems => {
                all(text, is_word_or_separator)?;
                edges(text)
            }
            Self::Npm => npm(text),
            Self::Cargo => {
                all(text, |c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))?;
                must(text.starts_with(|c: char| c.is_ascii_alphabetic()), "must start with a letter")
            }
            Self::NuGet => {
                all(text, is_word_or_separator)?;
                must(text.split(['-', '.']).all(|word| !word.is_empty()), "must have single `.` and `-`, between words")
            }
            Self::Conda => {
                all(text, is_word_or_separator)?;
                must(!text.starts_with(['-', '.']), "must start with a letter, a digit or `_`")?;
                let mut pairs = text.as_bytes().windows(2);
                let doubled = pairs.any(|pair| pair.iter().all(|byte| is_separator(char::from(*byte))));
                must(!doubled, "must not have two separators in a row")
            }
            Self::OpenVsx => {
                all(text, |c| is_word_or_separator(c) || matches!(c, '+' | '$' | '~'))?;
                let both = text.split_once('.').is_some_and(|(namespace, extension)| {
                    !matches!(namespace, "" | "-") && !extension.is_empty() && !extension.contains('.')
                });
                must(both, "must be like `namespace.extension`")
            }
            Self::Generic => {
                all(text, |c| is_word_or_separator(c) || matches!(c, '/' | '@' | '+' | '~'))?;
                let segments = text.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
                must(segments, "must not have an empty, `.` or `..` segment")?;
                edges(text.strip_prefix('@').unwrap_or(text))
            }
        }
    }

    /// The one spelling of a name that stands for all of them.
    ///
    /// INVARIANT: it is its own canonical spelling, and legal as every spelling is.
    pub(super) fn canonical(self, text: &str) -> String {
        match self {
            Self::Pypi => pep503(text),
            Self::Cargo => text.to_ascii_lowercase().replace('_', "-"),
            Self::NuGet | Self::Conda | Self::OpenVsx => text.to_ascii_lowercase(),
            Self::Npm | Self::RubyGems | Self::Generic => text.to_owned(),
        }
    }
}

/// npm's rules for new names; a scope has the same as what follows it.
fn npm(text: &str) -> Result<(), NameError> {
    const LIKE: &str = "must be like `widgets` or `@acme/widgets`, in lower case";
    must(!text.contains(|c: char| c.is_ascii_uppercase()), LIKE)?;
    let (scope, name) = match text.strip_prefix('@') {
        Some(scoped) => scoped.split_once('/').ok_or(NameError::Shape(LIKE))?,
        None => (text, text),
    };
    for part in [scope, name] {
        all(part, is_word_or_separator)?;
        must(!part.is_empty(), LIKE)?;
        must(!part.starts_with(['.', '_']), "must not start with `.` or `_`, nor must its scope")?;
    }
    Ok(())
}

const fn is_separator(c: char) -> bool {
    matches!(c, '-' | '_' | '.')
}

const fn is_word_or_separator(c: char) -> bool {
    c.is_ascii_alphanumeric() || is_separator(c)
}

fn all(text: &str, legal: impl Fn(char) -> bool) -> Result<(), NameError> {
    if text.chars().all(legal) { Ok(()) } else { Err(NameError::Character) }
}

fn must(holds: bool, how: &'static str) -> Result<(), NameError> {
    if holds { Ok(()) } else { Err(NameError::Shape(how)) }
}

fn edges(text: &str) -> Result<(), NameError> {
    let word = |c: char| c.is_ascii_alphanumeric();
    must(text.starts_with(word) && text.ends_with(word), "must start and end with a letter or a digit")
}

/// PEP 503: lower case, and every run of `-`, `_`, `.` is one `-`.
fn pep503(text: &str) -> String {
    let mut canonical = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_separator(c) {
            canonical.push(c.to_ascii_lowercase());
        } else if !canonical.ends_with('-') {
            canonical.push('-');
        }
    }
    canonical
}
