//! One condition on one claim, and what it means. Nothing is coerced, and a claim that is missing satisfies nothing but
//! `absent`.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::identity::claims::Claims;
use crate::identity::provider::Case;
use crate::json::Json;
use crate::policy::glob::Glob;
use crate::policy::regexp::Regexp;
use crate::policy::regexp::Regexps;
use crate::policy::text::Text;

/// One condition on one claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Condition<'a> {
    /// The claim, its alias resolved.
    #[serde(borrow)]
    pub(super) claim: Text<'a>,
    #[serde(borrow)]
    pub(super) test: Test<'a>,
    /// Whether the case of ASCII letters is ignored.
    pub(super) folded: bool,
    /// Whether it fixes an immutable identifier by literals.
    pub(super) pin: bool,
}

/// What is demanded of a claim.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Test<'a> {
    /// Equal to the literal.
    Is(#[serde(borrow)] Literal<'a>),
    /// Equal to one of the literals.
    In(#[serde(borrow)] Vec<Literal<'a>>),
    /// Text that the pattern covers.
    Glob(#[serde(borrow)] Glob<'a>),
    /// Text that the regular expression covers.
    Regex(#[serde(borrow)] Regexp<'a>),
    /// A list that has all of the literals.
    Contains(#[serde(borrow)] Vec<Literal<'a>>),
    /// A list that has all of the literals and nothing else, in any order.
    Exactly(#[serde(borrow)] Vec<Literal<'a>>),
    /// There, whatever it is.
    Present,
    /// Not there.
    Absent,
    /// Equal to another claim.
    SameAs(#[serde(borrow)] Text<'a>),
    /// There, and not such that all of these hold.
    Not(#[serde(borrow)] Vec<Test<'a>>),
}

/// A value that a rule compares with. Equal only to a value of its own type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Literal<'a> {
    /// Text.
    Text(#[serde(borrow)] Text<'a>),
    /// An integer.
    Int(i64),
    /// A boolean.
    Bool(bool),
}

/// A comparable value, borrowed from a rule or a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Int(i64),
    Bool(bool),
}

impl Literal<'_> {
    pub(super) fn scalar(&self) -> Scalar<'_> {
        match self {
            Self::Text(text) => Scalar::Text(text),
            Self::Int(number) => Scalar::Int(*number),
            Self::Bool(value) => Scalar::Bool(*value),
        }
    }
}

impl<'a> Scalar<'a> {
    pub(super) fn of(value: &'a Json) -> Option<Self> {
        match value {
            Json::String(text) => Some(Self::Text(text)),
            Json::Int(number) => Some(Self::Int(*number)),
            Json::Bool(value) => Some(Self::Bool(*value)),
            Json::Null | Json::Float(_) | Json::Array(_) | Json::Object(_) => None,
        }
    }

    fn equals(self, other: Scalar<'_>, case: Case) -> bool {
        match (self, other, case) {
            (Self::Text(a), Scalar::Text(b), Case::AsciiInsensitive) => a.eq_ignore_ascii_case(b),
            (a, b, _) => a == b,
        }
    }

    fn is_like(self, other: Scalar<'_>) -> bool {
        matches!(
            (self, other),
            (Self::Text(_), Scalar::Text(_)) | (Self::Int(_), Scalar::Int(_)) | (Self::Bool(_), Scalar::Bool(_))
        )
    }
}

impl<'a> Condition<'a> {
    /// The claim that it is about.
    pub fn claim(&self) -> &str {
        &self.claim
    }

    /// What it demands.
    pub const fn test(&self) -> &Test<'a> {
        &self.test
    }

    /// How it compares text.
    pub const fn case(&self) -> Case {
        if self.folded { Case::AsciiInsensitive } else { Case::Exact }
    }

    /// Whether it fixes an immutable identifier of owner or project by literals.
    pub const fn is_pin(&self) -> bool {
        self.pin
    }

    /// The claims that it reads: its own, and the one that it compares with.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.claim).chain(self.test.other())
    }

    /// The literals that the claim must be one of; none for tests that are not exact.
    pub fn literals(&self) -> &[Literal<'a>] {
        self.test.literals()
    }

    /// The texts among the literals.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.literals().iter().filter_map(|literal| match literal {
            Literal::Text(text) => Some(&**text),
            Literal::Int(_) | Literal::Bool(_) => None,
        })
    }

    /// Whether it holds. A missing claim, `null` included, satisfies nothing but `absent`.
    pub fn holds(&self, claims: &Claims) -> bool {
        self.test.judge(claims.get(&self.claim), claims, self.case()) == Some(true)
    }
}

impl<'a> Test<'a> {
    /// The literals that a claim must be one of.
    fn literals(&self) -> &[Literal<'a>] {
        match self {
            Self::Is(literal) => std::slice::from_ref(literal),
            Self::In(literals) => literals,
            Self::Glob(_)
            | Self::Regex(_)
            | Self::Contains(_)
            | Self::Exactly(_)
            | Self::Present
            | Self::Absent
            | Self::SameAs(_)
            | Self::Not(_) => &[],
        }
    }

    /// The claim that it compares with.
    fn other(&self) -> Option<&str> {
        match self {
            Self::SameAs(other) => Some(other),
            Self::Not(tests) => tests.iter().find_map(Self::other),
            Self::Is(_)
            | Self::In(_)
            | Self::Glob(_)
            | Self::Regex(_)
            | Self::Contains(_)
            | Self::Exactly(_)
            | Self::Present
            | Self::Absent => None,
        }
    }

    /// Whether a value passes; `None` if the test is not about values of its type, so that a test and its negation both
    /// fail.
    ///
    /// SECURITY: with two answers only, `not` would let in whatever the operator below it cannot judge: a list where
    /// text was expected, a text with a line break.
    fn judge(&self, value: Option<&Json>, claims: &Claims, case: Case) -> Option<bool> {
        match self {
            Self::Is(_) | Self::In(_) => {
                let have = Scalar::of(value?)?;
                let mut like =
                    self.literals().iter().map(Literal::scalar).filter(|want| have.is_like(*want)).peekable();
                like.peek()?;
                Some(like.any(|want| have.equals(want, case)))
            }
            Self::Glob(glob) => glob.matches(value?.as_str()?, case),
            Self::Regex(regexp) => regexp.matches(value?.as_str()?),
            Self::Contains(wanted) => {
                let have = elements(value?)?;
                Some(wanted.iter().all(|want| have.iter().any(|have| have.equals(want.scalar(), case))))
            }
            Self::Exactly(wanted) => {
                let have = elements(value?)?;
                let all = wanted.iter().all(|want| have.iter().any(|have| have.equals(want.scalar(), case)));
                Some(all && have.iter().all(|have| wanted.iter().any(|want| have.equals(want.scalar(), case))))
            }
            Self::Present => Some(value.is_some()),
            Self::Absent => Some(value.is_none()),
            Self::SameAs(other) => {
                let (have, want) = (Scalar::of(value?)?, Scalar::of(claims.get(other)?)?);
                have.is_like(want).then(|| have.equals(want, case))
            }
            Self::Not(tests) => {
                let plain = |text: &str| !text.contains(|c: char| c.is_ascii_control());
                if !value?.as_str().is_none_or(plain) {
                    return None;
                }
                let judged: Option<Vec<bool>> = tests.iter().map(|test| test.judge(value, claims, case)).collect();
                Some(!judged?.into_iter().all(|holds| holds))
            }
        }
    }

    pub(super) fn resolve(&mut self, regexps: &Regexps) -> Option<()> {
        match self {
            Self::Regex(regexp) => regexps.resolve(regexp),
            Self::Not(tests) => tests.iter_mut().try_for_each(|test| test.resolve(regexps)),
            Self::Is(_)
            | Self::In(_)
            | Self::Glob(_)
            | Self::Contains(_)
            | Self::Exactly(_)
            | Self::Present
            | Self::Absent
            | Self::SameAs(_) => Some(()),
        }
    }
}

/// The elements of a list of comparable values.
fn elements(value: &Json) -> Option<Vec<Scalar<'_>>> {
    match value {
        Json::Array(items) => items.iter().map(Scalar::of).collect(),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Float(_) | Json::String(_) | Json::Object(_) => None,
    }
}

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// `release`, `one of push, release`, `like v*`, `matching v[0-9]+`, `present`, `absent`, `not like v0*`.
impl fmt::Display for Test<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, word: &str, items: &[Literal<'_>]| {
            f.write_str(word)?;
            items.iter().enumerate().try_for_each(|(i, item)| write!(f, "{}{item}", if i == 0 { " " } else { ", " }))
        };
        match self {
            Self::Is(literal) => write!(f, "{literal}"),
            Self::In(literals) => list(f, "one of", literals),
            Self::Glob(glob) => write!(f, "like {glob}"),
            Self::Regex(regexp) => write!(f, "matching {regexp}"),
            Self::Contains(literals) => list(f, "a list with", literals),
            Self::Exactly(literals) => list(f, "exactly the list", literals),
            Self::Present => f.write_str("present"),
            Self::Absent => f.write_str("absent"),
            Self::SameAs(other) => write!(f, "the same as {other}"),
            Self::Not(tests) => {
                f.write_str("not ")?;
                let join = |i| if i == 0 { "" } else { " and " };
                tests.iter().enumerate().try_for_each(|(i, test)| write!(f, "{}{test}", join(i)))
            }
        }
    }
}
