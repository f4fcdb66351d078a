//! A clock that tests set.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use trustmint::time::Clock;
use trustmint::time::Timestamp;

/// Stands still until told to pass time. It starts at a real moment, so that certificates made for it are valid to
/// clients that read the machine's clock.
#[derive(Debug)]
pub struct SetClock(AtomicI64);

impl SetClock {
    pub fn starting_at(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.unix_millis()))
    }

    pub fn pass(&self, time: Duration) {
        self.0.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Sets it back.
    pub fn go_back(&self, time: Duration) {
        self.0.fetch_sub(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}
