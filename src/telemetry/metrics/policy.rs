//! The policy: which one decides, how it is read again, and what its rules do.

use super::Metrics;
use super::instrument::Count;
use super::instrument::Maker;
use super::instrument::Told;
use super::instrument::configured;
use super::instrument::plain;

#[derive(Debug)]
pub(super) struct Policies {
    revision: Told<Option<String>>,
    refused: Told<bool>,
    reloads: Count<1>,
    warnings: Told<Vec<(&'static str, u64)>>,
    bundle_refreshes: Count<2>,
    bundles: Told<Vec<BundleReading>>,
}

/// A registry's bundle in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleReading {
    /// The registry.
    pub registry: String,
    /// Which one it is.
    pub serial: i64,
    /// Until when it is good, in seconds of Unix time.
    pub not_after: i64,
}

impl Policies {
    pub(super) fn new(make: &mut Maker) -> Self {
        let revision: Told<Option<String>> = Told::default();
        let shown = revision.clone();
        make.gauge(
            "policy_info",
            ["revision"],
            "The directory of the policy that decides, by its revision.",
            move || shown.with(|revision| revision.iter().map(|revision| ([configured(revision)], 1)).collect()),
        );
        let refused: Told<bool> = Told::default();
        let shown = refused.clone();
        make.gauge(
            "policy_refused",
            [],
            "1 while what the policy directory holds is refused, and an earlier policy decides.",
            move || plain(Some(shown.with(|refused| i64::from(*refused)))),
        );
        let warnings: Told<Vec<(&'static str, u64)>> = Told::default();
        let shown = warnings.clone();
        make.gauge("policy_warnings", ["code"], "Lint warnings of the policy that decides, by code.", move || {
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            shown.with(|warnings| warnings.iter().map(|(code, number)| ([(*code).into()], count(*number))).collect())
        });
        let bundles: Told<Vec<BundleReading>> = Told::default();
        let mut bundle = |name, help, reading: fn(&BundleReading) -> i64| {
            let shown = bundles.clone();
            let one = move |it: &BundleReading| ([configured(&it.registry)], reading(it));
            make.gauge(name, ["registry"], help, move || shown.with(|bundles| bundles.iter().map(one).collect()));
        };
        bundle("bundle_serial", "The serial of the registry's bundle in force.", |it| it.serial);
        bundle(
            "bundle_expiry_timestamp_seconds",
            "The moment, in Unix time, from which on the registry's own rules grant nothing.",
            |it| it.not_after,
        );
        Self {
            revision,
            refused,
            reloads: make.counter("policy_reloads", ["outcome"], "Readings of the policy directory, by outcome."),
            warnings,
            bundle_refreshes: make.counter(
                "bundle_refreshes",
                ["registry", "result"],
                "Polls for a registry's bundle, by result.",
            ),
            bundles,
        }
    }
}

impl Metrics {
    /// Counts a reading of the policy directory that has changed, or that somebody asked for, by what came of it.
    pub fn policy_reload(&self, outcome: &'static str) {
        self.policy.reloads.one([outcome.into()]);
    }

    /// Says whether what the policy directory holds is refused, so that an earlier policy goes on deciding.
    pub fn policy_refused(&self, refused: bool) {
        self.policy.refused.set(refused);
    }

    /// Counts a poll for a registry's bundle; `result` is `new`, `same` or a reason.
    pub fn bundle_refresh(&self, registry: &str, result: &'static str) {
        self.policy.bundle_refreshes.one([configured(registry), result.into()]);
    }

    /// Says which bundles are in force from now on.
    pub fn bundles_in_force(&self, bundles: Vec<BundleReading>) {
        self.policy.bundles.set(bundles);
    }

    /// Says which directory's policy decides from now on, by the directory's revision. Registries' bundles are not in it: they
    /// come to each replica at a moment of its own, and when they change is the registries' affair.
    pub fn policy_activated(&self, revision: &str) {
        self.policy.revision.set(Some(revision.to_owned()));
    }

    /// Says how many lint warnings of each code that policy has.
    pub fn policy_warned(&self, counts: impl Iterator<Item = (&'static str, u64)>) {
        self.policy.warnings.set(counts.collect());
    }
}
