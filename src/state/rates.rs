//! How often a registry is served, by this replica: one allowance for what its jobs are given, one for what it asks.
//!
//! Each is a bucket that holds a minute's worth and fills evenly, so that a rush at the beginning of a minute passes and
//! whoever finds it empty waits for one drop and not for the minute. Kept in memory: a window that replicas share would
//! put a second round trip to the store on every exchange. With several replicas a registry has as many times its
//! allowance, which bounds what each of them does.
//!
//! SECURITY: what counts is decided by who asks. Anybody can send tokens to a registry's host, and anybody can have a
//! proven one from a public CI system; so of exchanges only those count that give an upload token, and of calls only
//! those with the registry's API key. Strangers cannot use up what a registry's jobs may have. What it may ask they can,
//! where it asks about every request that they send to it: that is for the registry to bound, and costs no other.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::time::Timestamp;

/// How long an empty bucket takes to fill: what a quota is said of.
pub const WINDOW: Duration = Duration::from_secs(60);
/// The most that a quota can be.
pub const MAX_QUOTA: u32 = 1_000_000;

const WINDOW_MICROS: i64 = 60_000_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allowance {
    /// Upload tokens that the registry's jobs are given.
    Exchanges,
    /// What the registry itself asks with its API key, by its proxy too.
    Calls,
}

impl Allowance {
    /// Its name in headers, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exchanges => "exchanges",
            Self::Calls => "calls",
        }
    }
}

/// How an allowance stands after it was asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Which one it is.
    pub allowance: Allowance,
    /// How many it is a minute: at least one.
    pub quota: u32,
    /// How many there are left.
    pub remaining: u32,
    /// When there will be all of them again, if nobody takes any.
    pub full_in: Duration,
    /// When there will be one: zero if there is.
    pub next_in: Duration,
}

/// The buckets of every registry.
#[derive(Debug, Default)]
pub struct Rates {
    // For each registry the moment at which its bucket is full, in microseconds; one that is past means now.
    full_at: Mutex<HashMap<Allowance, HashMap<String, i64>>>,
}

impl Rates {
    /// Takes one of the `quota` a minute that the registry has; the error says how the allowance stands.
    pub fn take(&self, registry: &str, allowance: Allowance, quota: u32, now: Timestamp) -> Result<Standing, Standing> {
        let (now, one) = (micros(now), price(quota));
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let buckets = all.entry(allowance).or_default();
        if !buckets.contains_key(registry) {
            buckets.insert(registry.to_owned(), now);
        }
        let Some(full_at) = buckets.get_mut(registry) else { return Err(standing(allowance, quota, 0, 0)) };
        // No bucket takes longer than a window to fill: the clock was set back, and how much is missing cannot be said. Of a
        // step that is no longer than a window it is taken for missing.
        let missing = full_at.saturating_sub(now).max(0);
        let missing = if missing > WINDOW_MICROS { 0 } else { missing };
        let taken = missing.saturating_add(one);
        if taken > WINDOW_MICROS {
            return Err(standing(allowance, quota, missing, taken.saturating_sub(WINDOW_MICROS)));
        }
        *full_at = now.saturating_add(taken);
        Ok(standing(allowance, quota, taken, 0))
    }

    /// Gives back one that was taken for nothing.
    pub fn give_back(&self, registry: &str, taken: Standing) {
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(full_at) = all.get_mut(&taken.allowance).and_then(|buckets| buckets.get_mut(registry)) {
            *full_at = full_at.saturating_sub(price(taken.quota));
        }
    }
}

fn micros(now: Timestamp) -> i64 {
    now.unix_millis().saturating_mul(1000)
}

/// How long one of the quota takes to come back.
fn price(quota: u32) -> i64 {
    WINDOW_MICROS / i64::from(quota.max(1))
}

fn standing(allowance: Allowance, quota: u32, missing: i64, next_in: i64) -> Standing {
    let span = |micros: i64| Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    let remaining = WINDOW_MICROS.saturating_sub(missing) / price(quota);
    Standing {
        allowance,
        quota,
        // The price is rounded down, so the last window's drop could be one more than there are.
        remaining: u32::try_from(remaining).unwrap_or(0).min(quota.saturating_sub(1)),
        full_in: span(missing),
        next_in: span(next_in),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(millis)
    }

    #[test]
    fn a_full_bucket_holds_a_minutes_worth_and_fills_evenly() {
        let rates = Rates::default();
        let take = |millis| rates.take("a", Allowance::Calls, 3, at(millis));
        let left: Vec<u32> = (0..3).map(|_| take(0).unwrap().remaining).collect();
        assert_eq!(left, [2, 1, 0]);
        let empty = take(0).unwrap_err();
        assert_eq!((empty.remaining, empty.next_in, empty.full_in), (0, Duration::from_secs(20), WINDOW));
        assert_eq!(take(19_999).unwrap_err().next_in, Duration::from_millis(1));
        assert_eq!(take(20_000).unwrap().remaining, 0);
        assert!(take(20_000).is_err());
        // It holds no more, however long nobody asked.
        assert_eq!((0..5).filter(|_| take(10_000_000).is_ok()).count(), 3);
    }

    #[test]
    fn buckets_do_not_touch_each_other_and_what_is_given_back_is_there_again() {
        let rates = Rates::default();
        let taken = rates.take("a", Allowance::Exchanges, 1, at(0)).unwrap();
        assert!(rates.take("a", Allowance::Exchanges, 1, at(0)).is_err());
        assert!(rates.take("a", Allowance::Calls, 1, at(0)).is_ok());
        assert!(rates.take("b", Allowance::Exchanges, 1, at(0)).is_ok());
        rates.give_back("a", taken);
        assert!(rates.take("a", Allowance::Exchanges, 1, at(0)).is_ok());
        assert!(rates.take("a", Allowance::Exchanges, 1, at(0)).is_err());
    }

    fn emptied(quota: u32, now: i64) -> Rates {
        let rates = Rates::default();
        for _ in 0..quota {
            rates.take("a", Allowance::Calls, quota, at(now)).unwrap();
        }
        rates
    }

    #[test]
    fn a_lowered_quota_locks_nobody_out_for_longer_than_a_window() {
        let rates = emptied(1000, 1_000_000);
        assert!(rates.take("a", Allowance::Calls, 1, at(1_000_000)).unwrap_err().next_in <= WINDOW);
        assert!(rates.take("a", Allowance::Calls, 1, at(1_060_000)).is_ok());
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out_for_longer_than_a_window() {
        const HOUR: i64 = 3_600_000;
        for back in [1, 30_000, 60_000, 60_001, HOUR] {
            let rates = emptied(3, HOUR);
            let waited = (0..=60).find(|second| {
                let now = HOUR - back + second * 1000;
                rates.take("a", Allowance::Calls, 3, at(now)).is_ok()
            });
            assert!(waited.is_some_and(|seconds| seconds <= 60), "{back} ms: {waited:?}");
        }
        // And it holds no more than a minute's worth afterwards.
        let rates = emptied(3, HOUR);
        assert_eq!((0..10).filter(|_| rates.take("a", Allowance::Calls, 3, at(0)).is_ok()).count(), 3);
    }

    proptest! {
        /// In any span of time no more is given than a full bucket and what has come since.
        #[test]
        fn no_more_is_given_than_a_full_bucket_and_what_comes(
            quota in 1_u32..200,
            steps in proptest::collection::vec(0_i64..2_000, 1..400),
        ) {
            let rates = Rates::default();
            let (mut now, mut given) = (0_i64, 0_i64);
            for step in steps {
                now += step;
                match rates.take("a", Allowance::Exchanges, quota, at(now)) {
                    Ok(standing) => {
                        given += 1;
                        prop_assert!(standing.remaining < quota);
                    }
                    Err(standing) => {
                        // And whoever waits as long as is said gets one.
                        let wait = i64::try_from(standing.next_in.as_micros().div_ceil(1000)).unwrap();
                        prop_assert!(wait > 0 && standing.remaining == 0);
                        let again = Rates { full_at: Mutex::new(rates.full_at.lock().unwrap().clone()) };
                        prop_assert!(again.take("a", Allowance::Exchanges, quota, at(now + wait)).is_ok());
                    }
                }
                prop_assert!(given <= i64::from(quota) + now * 1000 / price(quota) + 1);
            }
        }
    }
}
