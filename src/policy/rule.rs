//! Rules: conditions on claims and what they grant. Types and what a rule means for one job; no reading, no deciding.
//!
//! A rule is kept in disjunctive normal form: each of its branches is a conjunction, and it matches when one of them
//! holds. So what must be true of "every way into the rule" is checked branch by branch.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use crate::identity::claims::Claims;
use crate::identity::provider::Implied;
use crate::identity::provider::ImpliedTest;
use crate::identity::provider::Provider;
use crate::json::Json;
use crate::policy::condition::Condition;
use crate::policy::condition::Test;
use crate::policy::pair::Packages;
use crate::policy::pair::Pair;
use crate::policy::pair::Template;
use crate::policy::regexp::Regexps;
use crate::policy::text::Text;

/// One rule: when the conditions of a branch and its preset's implied ones all hold, the job gets its pairs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rule<'a> {
    #[serde(borrow)]
    pub(super) id: Text<'a>,
    /// The registry's and the issuer's positions in their policy.
    pub(super) registry: u32,
    pub(super) issuer: u32,
    pub(super) mode: Mode,
    pub(super) single_use: bool,
    #[serde(borrow)]
    pub(super) branches: Vec<Branch<'a>>,
    #[serde(borrow)]
    pub(super) pairs: Vec<Pair<'a>>,
    #[serde(borrow)]
    pub(super) versions: Vec<Template<'a>>,
    pub(super) ttl: Option<Duration>,
    pub(super) max_size: Option<u64>,
}

/// What a rule does when it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// It grants.
    Enforce,
    /// It grants nothing; what it would have granted is recorded.
    Shadow,
    /// Nothing.
    Off,
}

impl Mode {
    /// Every mode, in the order that documentation lists them.
    pub const ALL: [Self; 3] = [Self::Enforce, Self::Shadow, Self::Off];

    /// Its name in the policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Shadow => "shadow",
            Self::Off => "off",
        }
    }
}

/// One way into a rule: conditions that must all hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Branch<'a> {
    #[serde(borrow)]
    pub(super) conditions: Vec<Condition<'a>>,
    /// Bit `n` says that the preset's implied condition `n` applies.
    pub(super) implied: u16,
}

impl<'a> Rule<'a> {
    /// Its name in the policy; that of a bundle's rule begins with the registry's name and `/`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The ways into it; at least one.
    pub fn branches(&self) -> &[Branch<'a>] {
        &self.branches
    }

    /// What it grants; never empty.
    pub fn pairs(&self) -> &[Pair<'a>] {
        &self.pairs
    }

    /// The only versions that its tokens may upload; none for all.
    pub fn versions(&self) -> &[Template<'a>] {
        &self.versions
    }

    /// The packages' names that it takes part of from the job.
    pub fn package_templates(&self) -> impl Iterator<Item = &Template<'a>> {
        self.pairs.iter().filter_map(|pair| match &pair.packages {
            Packages::Template(template) => Some(template),
            Packages::Pattern(_) => None,
        })
    }

    /// The names and versions that it takes part of from the job.
    pub fn templates(&self) -> impl Iterator<Item = &Template<'a>> {
        self.package_templates().chain(self.versions.iter().filter(|version| version.placeholders().next().is_some()))
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

    /// What it does at present.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The names of the claims that it reads itself, with repetitions.
    pub fn claims(&self) -> impl Iterator<Item = &str> {
        self.branches.iter().flat_map(|branch| branch.conditions.iter().flat_map(Condition::claims))
    }

    /// Gives the patterns of an unpacked rule what was compiled for them.
    pub(super) fn resolve(&mut self, regexps: &Regexps) -> Option<()> {
        let mut conditions = self.branches.iter_mut().flat_map(|branch| &mut branch.conditions);
        conditions.try_for_each(|condition| condition.test.resolve(regexps))
    }
}

impl<'a> Branch<'a> {
    /// The conditions that the rule states itself.
    pub fn conditions(&self) -> &[Condition<'a>] {
        &self.conditions
    }

    /// The implied conditions of its preset that apply to it.
    pub fn implied(&self, provider: &'static Provider) -> impl Iterator<Item = &'static Implied> + use<> {
        let mask = self.implied;
        provider.implied.iter().enumerate().filter(move |(bit, _)| mask >> bit & 1 == 1).map(|(_, implied)| implied)
    }

    /// What a placeholder stands for in this job: what the regular expression of the branch that has a group of that name
    /// captured, else the claim of that name.
    ///
    /// SECURITY: a group that took no part in the match stands for nothing. A claim of its name is one that no condition
    /// is about, and so would be the package.
    pub(super) fn value(&self, claims: &Claims, name: &str) -> Option<String> {
        let captured = self.conditions.iter().find_map(|condition| match &condition.test {
            Test::Regex(regexp) if regexp.groups().any(|group| group == name) => Some((condition, regexp)),
            Test::Regex(_)
            | Test::Is(_)
            | Test::In(_)
            | Test::Glob(_)
            | Test::Contains(_)
            | Test::Exactly(_)
            | Test::Present
            | Test::Absent
            | Test::SameAs(_)
            | Test::Not(_) => None,
        });
        if let Some((condition, regexp)) = captured {
            return regexp.group(name, claims.string(&condition.claim)?).map(str::to_owned);
        }
        match claims.get(name)? {
            Json::String(text) => Some(text.clone()),
            Json::Int(number) => Some(number.to_string()),
            Json::Null | Json::Bool(_) | Json::Float(_) | Json::Array(_) | Json::Object(_) => None,
        }
    }

    /// Whether every condition holds, stated and implied. A branch without conditions holds for nobody.
    pub fn holds(&self, provider: &'static Provider, claims: &Claims) -> bool {
        !self.conditions.is_empty()
            && self.conditions.iter().all(|condition| condition.holds(claims))
            && self.implied(provider).all(|implied| implied_holds(implied, claims))
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
