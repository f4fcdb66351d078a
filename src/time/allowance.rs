//! How often something may be done that others cause: a token bucket, kept as time.

use std::time::Duration;

use super::Timestamp;

/// Something costs `refill` of saved-up time, and `burst` times that can be saved. It begins full.
///
/// INVARIANT: in any stretch of time it is spent at most `burst` times and once more for each whole `refill`.
#[derive(Debug, Clone)]
pub struct Allowance {
    refill: Duration,
    burst: u32,
    saved: Duration,
    as_of: Option<Timestamp>,
}

impl Allowance {
    /// A full one.
    pub const fn new(refill: Duration, burst: u32) -> Self {
        Self { refill, burst, saved: refill.saturating_mul(burst), as_of: None }
    }

    /// What is saved up by now. A clock that was set back adds nothing.
    fn saved(&self, now: Timestamp) -> Duration {
        let passed = self.as_of.map_or(Duration::ZERO, |as_of| now.since(as_of));
        self.saved.saturating_add(passed).min(self.refill.saturating_mul(self.burst))
    }

    /// Spends one unit, if there is one.
    pub fn spend(&mut self, now: Timestamp) -> bool {
        let saved = self.saved(now);
        let rest = saved.checked_sub(self.refill);
        // Also when nothing is spent: after a clock that was set back, time counts from here.
        self.saved = rest.unwrap_or(saved);
        self.as_of = Some(now);
        rest.is_some()
    }

    /// Whether there is not one unit.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        self.saved(now) < self.refill
    }

    /// How long until there is one; at least a second, as advice to a client.
    pub fn next(&self, now: Timestamp) -> Duration {
        self.refill.saturating_sub(self.saved(now)).max(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_spent_in_a_burst_and_then_at_its_pace() {
        let start = Timestamp::from_unix_seconds(1_800_000_000);
        let second = Duration::from_secs(1);
        let mut allowance = Allowance::new(10 * second, 2);
        let mut at = |seconds: u32| allowance.spend(start.plus(seconds * second));
        assert_eq!(
            [0, 0, 0, 9, 10, 10, 19, 20, 1000, 1000, 1000].map(&mut at),
            [true, true, false, false, true, false, false, true, true, true, false]
        );
        assert!(allowance.is_spent(start.plus(1000 * second)));
        assert_eq!(allowance.next(start.plus(1004 * second)), 6 * second);
        // Set back, it gives nothing, and grows from there.
        assert!(!allowance.spend(start));
        assert!(allowance.spend(start.plus(10 * second)));
    }
}
