//! Rules: conditions on claims and what they grant. Types and the meaning of one condition; no reading, no deciding.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::claims::Claims;
use crate::identity::provider::Case;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::json::Json;
use crate::package::Permission;
use crate::policy::glob::Glob;

/// One rule: when its conditions and its preset's implied ones all hold, the job gets its permissions.
#[derive(Debug, Clone)]
pub struct Rule {
    pub(super) id: Box<str>,
    /// The registry's and the issuer's positions in their policy.
    pub(super) registry: u32,
    pub(super) issuer: u32,
    pub(super) conditions: Box<[Condition]>,
    /// Bit `n` says that the preset's implied condition `n` applies.
    pub(super) implied: u16,
    pub(super) permissions: Box<[Permission]>,
    pub(super) ttl: Option<Duration>,
    pub(super) max_size: Option<u64>,
    pub(super) single_use: bool,
    pub(super) enabled: bool,
}

impl Rule {
    /// Its name in the policy.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The conditions that the rule states itself.
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// What it grants; never empty.
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }

    /// How long its tokens live, if not as long as the registry says.
    pub const fn ttl(&self) -> Option<Duration> {
        self.ttl
    }

    /// The largest file that its tokens may upload, in bytes.
    pub const fn max_size(&self) -> Option<u64> {
        self.max_size
    }

    /// Whether its tokens work once.
    pub const fn single_use(&self) -> bool {
        self.single_use
    }

    /// Whether it grants anything at present.
    pub const fn enabled(&self) -> bool {
        self.enabled
    }

    /// The implied conditions of its preset that apply to it.
    pub fn implied(&self, provider: &'static Provider) -> impl Iterator<Item = &'static Implied> {
        let mask = self.implied;
        provider.implied.iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, implied)| implied)
    }

    /// Whether every condition holds, stated and implied. A rule without conditions matches nothing.
    pub(super) fn matches(&self, provider: &'static Provider, claims: &Claims) -> bool {
        !self.conditions.is_empty()
            && self.conditions.iter().all(|condition| condition.holds(claims))
            && self.implied(provider).all(|implied| implied_holds(implied, claims))
    }
}

/// One condition on one claim.
#[derive(Debug, Clone)]
pub struct Condition {
    /// The claim, its alias resolved.
    pub(super) claim: Arc<str>,
    pub(super) test: Test,
    pub(super) case: Case,
    /// Whether it fixes an immutable identifier by literals.
    pub(super) pin: bool,
}

/// What is demanded of a claim.
#[derive(Debug, Clone)]
pub enum Test {
    /// Equal to the literal.
    Is(Literal),
    /// Equal to one of the literals.
    In(Box<[Literal]>),
    /// Text that the pattern covers.
    Glob(Glob),
    /// There, whatever it is.
    Present,
    /// Not there.
    Absent,
}

/// A value that a rule compares with. Equal only to a value of its own type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// Text.
    Text(Arc<str>),
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

impl Literal {
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
}

impl Condition {
    /// The claim that it is about.
    pub fn claim(&self) -> &str {
        &self.claim
    }

    /// What it demands.
    pub const fn test(&self) -> &Test {
        &self.test
    }

    /// Whether it fixes an immutable identifier of owner or project by literals.
    pub const fn is_pin(&self) -> bool {
        self.pin
    }

    /// The literals that the claim must be one of; none for tests that are not exact.
    pub(super) fn literals(&self) -> &[Literal] {
        match &self.test {
            Test::Is(literal) => std::slice::from_ref(literal),
            Test::In(literals) => literals,
            Test::Glob(_) | Test::Present | Test::Absent => &[],
        }
    }

    /// The texts among the literals.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.literals().iter().filter_map(|literal| match literal {
            Literal::Text(text) => Some(&**text),
            Literal::Int(_) | Literal::Bool(_) => None,
        })
    }

    /// Whether it holds. A missing claim, `null` included, satisfies nothing but `absent`.
    pub fn holds(&self, claims: &Claims) -> bool {
        let value = claims.get(&self.claim);
        let scalar = value.and_then(Scalar::of);
        match &self.test {
            Test::Is(_) | Test::In(_) => scalar
                .is_some_and(|have| self.literals().iter().any(|literal| have.equals(literal.scalar(), self.case))),
            Test::Glob(glob) => value.and_then(Json::as_str).is_some_and(|text| glob.matches(text, self.case)),
            Test::Present => value.is_some(),
            Test::Absent => value.is_none(),
        }
    }
}

/// Whether a preset's implied condition holds.
pub(super) fn implied_holds(implied: &Implied, claims: &Claims) -> bool {
    let value = claims.get(implied.claim);
    match implied.test {
        ImpliedTest::In(texts) => value.and_then(Json::as_str).is_some_and(|text| texts.contains(&text)),
        ImpliedTest::NotIn(texts) => value.and_then(Json::as_str).is_some_and(|text| !texts.contains(&text)),
        ImpliedTest::IsTrue => value == Some(&Json::Bool(true)),
        ImpliedTest::IsFalse => value == Some(&Json::Bool(false)),
        ImpliedTest::Absent => value.is_none(),
        ImpliedTest::AbsentOrIs(text) => value.is_none_or(|value| value.as_str() == Some(text)),
        ImpliedTest::SameAs(other) => value.is_some() && value == claims.get(other),
        ImpliedTest::AbsentOrSameAs(other) => value.is_none() || value == claims.get(other),
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Int(number) => write!(f, "{number}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

/// `release`, `one of push, release`, `like v*`, `present`, `absent`.
impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(literal) => write!(f, "{literal}"),
            Self::In(literals) => {
                f.write_str("one of ")?;
                for (i, literal) in literals.iter().enumerate() {
                    write!(f, "{}{literal}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Self::Glob(glob) => write!(f, "like {glob}"),
            Self::Present => f.write_str("present"),
            Self::Absent => f.write_str("absent"),
        }
    }
}
