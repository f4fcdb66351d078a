//! Time as an argument.
//!
//! Every decision takes `now: Timestamp`; the rim reads a [`Clock`] once per request and passes the value on, so two
//! checks of one request can never disagree and tests set the time instead of waiting for it. [`SystemClock`] is the
//! only place that reads the machine's clock (a lint bans it elsewhere).

use std::fmt;
use std::time::Duration;

use crate::spelling::is_spelled;

mod allowance;

pub use allowance::Allowance;

/// A moment in Unix time, in milliseconds: the resolution of a `UUIDv7`. Arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `seconds` after the Unix epoch: a `NumericDate` of RFC 7519 section 2.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// The moment `millis` milliseconds after the Unix epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// The moment `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The moment `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads the one spelling that [`fmt::Display`] writes: `2026-11-23T00:15:00Z`, 20 characters, UTC.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let parsed = text.parse::<jiff::Timestamp>().ok()?;
        let moment = Self::from_unix_seconds(parsed.as_second());
        // One spelling per moment: a verifier may compare the text itself.
        is_spelled(&moment, text).then_some(moment)
    }

    /// Its text with milliseconds: `2026-11-23T00:15:00.042Z`, 24 characters, whose order is the moments'.
    pub const fn with_millis(self) -> WithMillis {
        WithMillis(self)
    }

    /// Reads the one spelling that [`Timestamp::with_millis`] writes.
    pub fn parse_with_millis(text: &str) -> Option<Self> {
        let moment = Self(text.parse::<jiff::Timestamp>().ok()?.as_millisecond());
        is_spelled(&moment.with_millis(), text).then_some(moment)
    }
}

/// A moment's text with milliseconds.
#[derive(Debug, Clone, Copy)]
pub struct WithMillis(Timestamp);

impl fmt::Display for WithMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0.unix_millis()) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => write!(f, "{}.{:03}Z", self.0, self.0.unix_millis().rem_euclid(1000)),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC with whole seconds (rounded down), always 20 characters for years 0 to 9999.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.unix_seconds()) {
            Ok(moment) => write!(f, "{moment}"),
            Err(_) => write!(f, "{}s", self.unix_seconds()),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}+{}ms", self.0.rem_euclid(1000))
    }
}

/// The part of `whole` that `jitter` stands for: none of it at 0, all of it at the top.
pub fn spread(whole: Duration, jitter: u16) -> Duration {
    whole.saturating_mul(u32::from(jitter)) / u32::from(u16::MAX)
}

/// Where the rim reads the time. The core never sees it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the machine's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(millis(since_epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_one_spelling() {
        let moment = Timestamp::from_unix_seconds(1_763_856_900);
        assert_eq!(moment.to_string(), "2025-11-23T00:15:00Z");
        assert_eq!(Timestamp::parse_rfc3339("2025-11-23T00:15:00Z"), Some(moment));
        for other in [
            "2025-11-23T00:15:00.0Z",
            "2025-11-23T00:15:00+00:00",
            "2025-11-23t00:15:00Z",
            "2025-11-23 00:15:00Z",
            " 2025-11-23T00:15:00Z",
            "",
        ] {
            assert_eq!(Timestamp::parse_rfc3339(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_moment_has_one_spelling_with_milliseconds() {
        for (millis, text) in [(1_763_856_900_042, "2025-11-23T00:15:00.042Z"), (-1, "1969-12-31T23:59:59.999Z")] {
            let moment = Timestamp::from_unix_millis(millis);
            assert_eq!(moment.with_millis().to_string(), text);
            assert_eq!(Timestamp::parse_with_millis(text), Some(moment));
        }
        // Beyond what a date can say; the text is for people.
        let beyond = Timestamp::from_unix_millis(i64::MAX).with_millis();
        assert_eq!(beyond.to_string(), "9223372036854775s.807Z");
        for other in ["2025-11-23T00:15:00Z", "2025-11-23T00:15:00.04Z", "2025-11-23T00:15:00.0420Z", "later"] {
            assert_eq!(Timestamp::parse_with_millis(other), None, "{other:?}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let last = Timestamp::from_unix_millis(i64::MAX);
        assert_eq!(last.plus(Duration::from_secs(1)), last);
        let first = Timestamp::from_unix_millis(i64::MIN);
        assert_eq!(first.minus(Duration::MAX), first);
        assert_eq!(first.since(last), Duration::ZERO);
    }
}
