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

pub mod bundle;
pub mod caller;
pub mod condition;
pub mod dialect;
pub mod diff;
pub mod evaluate;
pub mod explain;
pub mod glob;
pub mod issuers;
pub mod lint;
pub mod pair;
pub mod regexp;
pub mod registry;
pub mod route;
pub mod rule;
pub mod rule_test;
pub mod schema;
pub mod scope;
pub mod set;
pub mod watch;
pub mod yaml;

mod index;
mod parse;
mod revision;
mod text;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::package::Action;
use crate::package::PackageName;
use crate::policy::bundle::Bundle;
use crate::policy::bundle::Lapse;
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
use crate::policy::yaml::Warnings;
use crate::time::Timestamp;

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
    /// The directory's rules.
    rules: Arc<RuleSet>,
    /// The registries' own rules, by the registry's position.
    bundles: BTreeMap<u32, Arc<Bundle>>,
    /// The directory's tests.
    tests: Arc<[RuleTest]>,
    warnings: Warnings,
}

impl Policy {
    /// Reads a policy from its files and runs its tests, or reports everything that is wrong. `file` gives the bytes of a file
    /// that an issuer refers to, by the name of the referring source and the reference as it is written.
    pub fn load(sources: &[Source], file: &dyn Fn(&str, &str) -> Option<Vec<u8>>) -> Result<Self, Faults> {
        Self::read(sources, file, &|_| ())?.tested()
    }

    /// The policy, if its own tests pass.
    pub fn tested(self) -> Result<Self, Faults> {
        rule_test::demand(&self, self.tests())?;
        Ok(self)
    }

    /// The same without running the tests: for whoever shows what they say. Nothing is served from it. `told` hears, now
    /// and then, how many rules have been read, if there are very many.
    pub fn read(
        sources: &[Source],
        file: &dyn Fn(&str, &str) -> Option<Vec<u8>>,
        told: &dyn Fn(usize),
    ) -> Result<Self, Faults> {
        let (parse::Directory { world, rules, tests, revision }, warnings) = parse::directory(sources, file, told)?;
        let policy = Self::compose(&Arc::new(world), &rules, BTreeMap::new(), Arc::from(tests), revision);
        Ok(Self { warnings, ..policy })
    }

    /// The same directory with these bundles in place of those that it has, at most one of a registry. One that was not
    /// read for the issuers and registries of this very directory is left out.
    #[must_use]
    pub fn with_bundles(&self, bundles: impl IntoIterator<Item = Arc<Bundle>>) -> Self {
        let own = bundles.into_iter().filter(|bundle| Arc::ptr_eq(&bundle.world, &self.world));
        let bundles = own.map(|bundle| (bundle.registry, bundle)).collect();
        let composed =
            Self::compose(&self.world, &self.rules, bundles, Arc::clone(&self.tests), self.directory.clone());
        Self { warnings: self.warnings.clone(), ..composed }
    }

    /// The issuers and registries of a directory with these rules.
    fn compose(
        world: &Arc<World>,
        rules: &Arc<RuleSet>,
        bundles: BTreeMap<u32, Arc<Bundle>>,
        tests: Arc<[RuleTest]>,
        directory: String,
    ) -> Self {
        let sets = std::iter::once(rules).chain(bundles.values().map(|bundle| &bundle.rules));
        let pinned: Vec<(u32, &str)> = sets.flat_map(|set| set.segments()).collect();
        let issuers = Issuers::new(&world.issuer_list, &pinned);
        let registries = Registries::new(&world.registry_list);
        let revision = if bundles.is_empty() {
            directory.clone()
        } else {
            let own = std::iter::once(("directory", directory.as_bytes()));
            let entry = |number: &u32| world.registry(*number).map_or("", |registry| registry.id.as_str());
            let others = bundles.iter().map(|(number, bundle)| (entry(number), bundle.digest().as_slice()));
            revision(own.chain(others))
        };
        let (world, rules) = (Arc::clone(world), Arc::clone(rules));
        let warnings = Warnings::default();
        Self { revision, directory, world, issuers, registries, rules, bundles, tests, warnings }
    }

    /// The revision of the directory alone.
    pub fn directory_revision(&self) -> &str {
        &self.directory
    }

    /// The bundle of a registry, if it has one.
    pub fn bundle(&self, registry: &str) -> Option<&Arc<Bundle>> {
        self.bundles.get(&self.registries.position(registry)?)
    }

    /// Why the registry's own rules are not known at this moment, if it serves any.
    pub fn lapse(&self, registry: &Registry, now: Timestamp) -> Option<Lapse> {
        // The policy's own entry decides, should the caller's be of another revision.
        self.registries.by_id(&registry.id)?.bundle.as_ref()?;
        match self.bundle(&registry.id) {
            None => Some(Lapse::Missing),
            Some(bundle) => Some(Lapse::Expired(bundle.not_after())).filter(|_| bundle.not_after() <= now),
        }
    }

    /// Why it cannot be said that a text which is no issuer's URL is none at this moment: it is that of a member of a
    /// family that the registry's own rules may name, and those are not known.
    pub fn may_be_bundled(&self, registry: &Registry, iss: &str, now: Timestamp) -> Option<Lapse> {
        let lapse = self.lapse(registry, now)?;
        let source = self.registries.by_id(&registry.id)?.bundle.as_deref()?;
        self.is_member_for(source, iss).then_some(lapse)
    }

    /// Whether a text is the URL that a member of a family has or may have, one that such rules may name.
    fn is_member_for(&self, source: &bundle::Source, iss: &str) -> bool {
        let mut named = self.world.issuer_list.iter().filter(|entry| source.issuers.iter().any(|id| id == entry.id()));
        named.any(|entry| entry.covers(iss))
    }

    /// All rules that a registry may have: the directory's, and its own.
    fn sets_of(&self, registry: u32) -> impl Iterator<Item = &RuleSet> {
        let own = self.bundles.get(&registry).map(|bundle| &*bundle.rules);
        std::iter::once(&*self.rules).chain(own)
    }

    fn sets(&self) -> impl Iterator<Item = &RuleSet> {
        std::iter::once(&*self.rules).chain(self.bundles.values().map(|bundle| &*bundle.rules))
    }

    /// The name of exactly these bytes: the first 16 hexadecimal digits of their SHA-256.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// What loads and somebody should look at.
    pub const fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// The identity providers.
    pub const fn issuers(&self) -> &Issuers {
        &self.issuers
    }

    /// The registries.
    pub const fn registries(&self) -> &Registries {
        &self.registries
    }

    /// The rules, in the order of the files; then those of each bundle.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        self.sets().flat_map(RuleSet::iter)
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.sets().map(RuleSet::len).sum()
    }

    /// How many bytes the rules take, with their index.
    pub fn rule_bytes(&self) -> usize {
        self.sets().map(RuleSet::bytes).sum()
    }

    /// The directory's tests, in the order of the files.
    pub fn tests(&self) -> &[RuleTest] {
        &self.tests
    }

    /// The rule of that name.
    pub fn rule_by_id(&self, id: &str) -> Option<Rule<'_>> {
        // The names of a registry's own rules begin with its name and `/`, which no other name has.
        match id.split_once('/') {
            None => self.rules.by_id(id),
            Some((registry, _)) => self.bundle(registry)?.rules.by_id(id),
        }
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
