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
pub mod evaluate;
pub mod explain;
pub mod glob;
pub mod issuers;
pub mod lint;
pub mod registry;
pub mod rule;
pub mod watch;
pub mod yaml;

mod index;
mod parse;

use crate::package::Action;
use crate::package::PackageName;
use crate::policy::index::Index;
use crate::policy::issuers::Issuers;
use crate::policy::registry::Registries;
use crate::policy::registry::Registry;
use crate::policy::rule::Rule;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Warnings;
use crate::secret::hex;

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
    issuers: Issuers,
    registries: Registries,
    rules: Vec<Rule>,
    /// Positions of the rules in the order of their names.
    by_name: Vec<u32>,
    index: Index,
    warnings: Warnings,
}

impl Policy {
    /// Reads a policy from its files, or reports everything that is wrong with them. `file` gives the bytes of a file
    /// that an issuer refers to, by the name of the referring source and the reference as it is written.
    pub fn load(sources: &[Source], file: &dyn Fn(&str, &str) -> Option<Vec<u8>>) -> Result<Self, Faults> {
        parse::policy(sources, file)
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

    /// The rules, in the order of the files.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The rule of that name.
    pub fn rule_by_id(&self, id: &str) -> Option<&Rule> {
        let found = self.by_name.binary_search_by(|number| self.rule(*number).map_or("", Rule::id).cmp(id));
        found.ok().and_then(|place| self.rule(*self.by_name.get(place)?))
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
        let (registry, issuer) = (self.registries.position(&registry.id), self.issuers.position(issuer));
        let mut rules = rules.iter().filter_map(|id| self.rule_by_id(id));
        rules.any(|rule| {
            let here = registry == Some(rule.registry) && issuer == Some(rule.issuer);
            here && rule.enabled && rule.permissions.iter().any(|pair| pair.allows(action, package))
        })
    }

    fn rule(&self, number: u32) -> Option<&Rule> {
        self.rules.get(usize::try_from(number).ok()?)
    }
}

/// The revision of a policy: the digest of the names and bytes that were read, in that order, each with its length, so
/// that no two sets of files read alike.
fn revision<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for (name, bytes) in files {
        for part in [name.as_bytes(), bytes] {
            digest.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(part);
        }
    }
    let mut name = hex(digest.finish().as_ref());
    name.truncate(16);
    name
}
