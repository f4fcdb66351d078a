//! Identity providers: their keys, and their clocks.

use std::time::Duration;

use super::Metrics;
use super::instrument::Asked;
use super::instrument::Count;
use super::instrument::Maker;
use super::instrument::Seconds;
use super::instrument::configured;

/// Upper bounds in seconds. Up to 30 a token is accepted; the last ones tell a wrong time zone from a clock that drifts.
const AHEAD: [f64; 9] = [0.0, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 600.0, 3600.0];

#[derive(Debug)]
pub(super) struct Issuers {
    jwks_refreshes: Count<2>,
    clock_ahead: Seconds<1>,
    keys: Asked<Vec<IssuerReading>>,
}

/// The keys of an issuer that is switched on and whose keys are fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerReading {
    /// Its id.
    pub issuer: String,
    /// As of when the keys that are held were its own, in seconds of Unix time; `None` before the first.
    pub keys_at: Option<i64>,
    /// Whether they are past their time, or there are none.
    pub stale: bool,
}

impl Issuers {
    pub(super) fn new(make: &mut Maker) -> Self {
        let keys: Asked<Vec<IssuerReading>> = Asked::default();
        let shown = keys.clone();
        make.gauge(
            "issuer_keys_timestamp_seconds",
            ["issuer"],
            "The moment, in Unix time, as of which the keys that are held were the issuer's.",
            move || {
                let one = |it: IssuerReading| Some(([configured(&it.issuer)], it.keys_at?));
                shown.read().into_iter().filter_map(one).collect()
            },
        );
        let shown = keys.clone();
        make.gauge(
            "issuer_keys_stale",
            ["issuer"],
            "1 while the issuer's keys are past their time, or were never fetched.",
            move || {
                let one = |it: IssuerReading| ([configured(&it.issuer)], i64::from(it.stale));
                shown.read().into_iter().map(one).collect()
            },
        );
        Self {
            jwks_refreshes: make.counter("jwks_refreshes", ["issuer", "result"], "Fetches of an issuer's keys, by result."),
            clock_ahead: make.seconds(
                "issuer_clock_ahead",
                ["issuer"],
                &AHEAD,
                "How far in this replica's future the time of a proven ID token lies; 0 for one of the past, as it should be.",
            ),
            keys,
        }
    }
}

impl Metrics {
    /// Counts a fetch of an issuer's keys; `result` is `ok` or a reason.
    pub fn jwks_refresh(&self, issuer: &str, result: &'static str) {
        self.issuers.jwks_refreshes.one([configured(issuer), result.into()]);
    }

    /// Takes in how far in the future the time of an issuer's token lies. SECURITY: of one whose signature was proven;
    /// what a stranger writes says nothing of a clock.
    pub fn issuer_clock_ahead(&self, issuer: &str, by: Duration) {
        self.issuers.clock_ahead.record([configured(issuer)], by);
    }

    /// Takes the age of issuers' keys from there, at each rendering.
    pub fn observe_issuers(&self, keys: impl Fn() -> Vec<IssuerReading> + Send + Sync + 'static) {
        self.issuers.keys.of(keys);
    }
}
