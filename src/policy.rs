//! What a job may publish: issuers, registries and rules, one immutable value with a revision.
//!
//! ```text
//!  YAML ─► yaml (nodes with places) ─► parse + lint (every fault at once) ─► Policy
//!  (Policy, Registry, Subject, Requested) ─► evaluate ─► Allow(Grant) | Deny(Explanation)
//! ```
//!
//! Evaluation is a total function of values and answers no unless a rule says yes; a rule fixes the immutable
//! identifiers of its project or does not load. One [`evaluate`](evaluate::evaluate) serves exchanges, dry runs and the
//! command line. Only [`watch`] touches files.

pub mod caller;
pub mod condition;
pub mod diff;
pub mod evaluate;
pub mod explain;
pub mod glob;
pub mod issuers;
pub mod pair;
pub mod regexp;
pub mod registry;
pub mod rule;
pub mod rule_test;
pub mod schema;
pub mod scope;
pub mod set;
pub mod watch;
pub mod yaml;

mod index;
mod lint;
mod parse;
mod revision;
mod text;

use std::sync::Arc;

use crate::package::Action;
use crate::package::PackageName;
use crate::policy::issuers::Issuers;
use crate::policy::parse::World;
use crate::policy::registry::Registries;
use crate::policy::registry::Registry;
use crate::policy::revision::revision;
use crate::policy::rule::Mode;
use crate::policy::rule::Rule;
use crate::policy::rule_test::RuleTest;
use crate::policy::set::RuleSet;
use crate::policy::yaml::Faults;

/// One policy file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name as people know it, used in messages; files that it refers to are relative to it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// Everything that decides who may publish what. Never changes: a reload makes another one.
#[derive(Debug)]
pub struct Policy {
    revision: String,
    /// The revision of the directory alone.
    directory: String,
    world: Arc<World>,
    issuers: Issuers,
    registries: Registries,
    /// The directory's rules, then those of each bundle.
    sets: Vec<Arc<RuleSet>>,
    /// The directory's tests.
    tests: Arc<[RuleTest]>,
}

impl Policy {
    /// Reads a policy from its files and runs its tests, or reports everything that is wrong. `file` gives the bytes of a file
    /// that an issuer refers to, by the name of the referring source and the reference as it is written.
    pub fn load(sources: &[Source], file: &dyn Fn(&str, &str) -> Option<Vec<u8>>) -> Result<Self, Faults> {
        let policy = Self::read(sources, file)?;
        rule_test::demand(&policy, policy.tests())?;
        Ok(policy)
    }

    /// The same without running the tests: for whoever shows what they say. Nothing is served from it.
    pub fn read(sources: &[Source], file: &dyn Fn(&str, &str) -> Option<Vec<u8>>) -> Result<Self, Faults> {
        let parse::Directory { world, rules, tests, revision } = parse::directory(sources, file)?;
        Ok(Self::compose(&Arc::new(world), vec![rules], Arc::from(tests), revision))
    }

    /// The same directory with these bundles in place of those that it has; `digests` tells the sets apart, in their
    /// order. Each set must have been read for the issuers and registries of this very directory.
    #[must_use]
    pub fn with_bundles(&self, bundles: &[Arc<RuleSet>], digests: &[[u8; 32]]) -> Self {
        let sets = self.sets.iter().take(1).chain(bundles).map(Arc::clone).collect();
        let mut composed = Self::compose(&self.world, sets, Arc::clone(&self.tests), self.directory.clone());
        if !bundles.is_empty() {
            let parts = std::iter::once(("directory", self.directory.as_bytes()));
            composed.revision = revision(parts.chain(digests.iter().map(|digest| ("bundle", digest.as_slice()))));
        }
        composed
    }

    /// The issuers and registries of a directory with these rules.
    fn compose(world: &Arc<World>, sets: Vec<Arc<RuleSet>>, tests: Arc<[RuleTest]>, revision: String) -> Self {
        let pinned: Vec<(u32, &str)> = sets.iter().flat_map(|set| set.segments()).collect();
        let issuers = Issuers::new(&world.issuer_list, &pinned);
        let registries = Registries::new(&world.registry_list);
        Self { directory: revision.clone(), revision, world: Arc::clone(world), issuers, registries, sets, tests }
    }

    /// The name of exactly these bytes: the first 16 hexadecimal digits of their SHA-256.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The identity providers.
    pub const fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// The registries.
    pub const fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The rules, in the order of the files.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        self.sets.iter().flat_map(|set| set.iter())
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.sets.iter().map(|set| set.len()).sum()
    }

    /// How many bytes the rules take, with their index.
    pub fn rule_bytes(&self) -> usize {
        self.sets.iter().map(|set| set.bytes()).sum()
    }

    /// The directory's tests, in the order of the files.
    pub fn tests(&self) -> &[RuleTest] {
        &self.tests
    }

    /// The rule of that name.
    pub fn rule_by_id(&self, id: &str) -> Option<Rule<'_>> {
        self.sets.iter().find_map(|set| set.by_id(id))
    }

    /// The registry that a rule of this policy is for.
    pub fn registry_of(&self, rule: &Rule<'_>) -> Option<&Arc<Registry>> {
        self.registries.nth(rule.registry)
    }

    /// Whether one of these rules, by name, still lets jobs of this issuer do this at the registry.
    pub fn still_grants(
        &self,
        rules: &[String],
        registry: &Registry,
        issuer: &str,
        action: &Action,
        package: &PackageName,
    ) -> bool {
        let (position, issuer) = (self.registries.position(&registry.id), self.issuers.position(issuer));
        let mut rules = rules.iter().filter_map(|id| self.rule_by_id(id));
        rules.any(|rule| {
            let here = position == Some(rule.registry) && issuer == Some(rule.issuer);
            let pair = || rule.pairs.iter().any(|pair| pair.could_allow(registry.ecosystem(), action, package));
            here && rule.mode == Mode::Enforce && pair()
        })
    }
}
