//! Load shedding: a worker that has fallen behind refuses what it has not begun.
//!
//! A worker serves its connections in turn on one thread. When more arrives than it can do, what grows is not the number
//! of requests in progress but the time that each waits between its head's arrival and its handler's beginning. That is
//! measured for each request. One long wait is a burst, which the worker takes. Only when every wait has been long for a
//! while is there a queue that does not end by itself (as in `CoDel`, RFC 8289), and then what has waited too long is
//! refused, until one has not.

use std::cell::Cell;
use std::time::Duration;

use crate::telemetry::Stopwatch;

/// How long waits must have been long without a break. A container that is out of its share of a core stands still for less.
const INTERVAL: Duration = Duration::from_millis(150);

/// For how long a refusal is held back. It costs a tenth of an exchange, and whoever is refused asks again: a flood would
/// have the worker do nothing but refuse. Like this a connection brings four refusals a second at most.
pub const PAUSE: Duration = Duration::from_millis(250);

/// How far one worker has fallen behind with one kind of requests.
#[derive(Debug)]
pub struct Backlog {
    /// The longest wait that is none.
    target: Duration,
    began: Stopwatch,
    long: Cell<Option<Long>>,
}

/// Waits have been too long, in time since the backlog was made.
#[derive(Debug, Clone, Copy)]
struct Long {
    since: Duration,
    seen: Duration,
}

impl Backlog {
    /// Without any, and with the longest wait that is no backlog.
    pub fn new(target: Duration) -> Self {
        Self { target, began: Stopwatch::start(), long: Cell::new(None) }
    }

    /// Whether a request that has waited so long is to be begun.
    pub fn admits(&self, waited: Duration) -> bool {
        self.admits_at(waited, self.began.elapsed())
    }

    fn admits_at(&self, waited: Duration, now: Duration) -> bool {
        if waited <= self.target {
            self.long.set(None);
            return true;
        }
        // Of what was too long ago nobody knows whether it has gone on.
        let going_on = self.long.get().filter(|long| now.saturating_sub(long.seen) <= INTERVAL.max(waited));
        let since = going_on.map_or(now, |long| long.since);
        self.long.set(Some(Long { since, seen: now }));
        now.saturating_sub(since) < INTERVAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: u64 = 10;

    fn backlog() -> Backlog {
        Backlog::new(ms(TARGET))
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_taken_however_long_it_has_one_wait() {
        let backlog = backlog();
        for now in (0..140).step_by(20) {
            assert!(backlog.admits_at(ms(500), ms(now)), "{now}");
        }
        assert!(backlog.admits_at(ms(TARGET), ms(149)));
        for now in (151..300).step_by(20) {
            assert!(backlog.admits_at(ms(500), ms(now)), "{now}: the queue had ended");
        }
    }

    #[test]
    fn a_queue_that_does_not_end_is_refused_until_one_has_not_waited_long() {
        let backlog = backlog();
        assert!((0..150).all(|now| backlog.admits_at(ms(30), ms(now))));
        assert!((150..400).all(|now| !backlog.admits_at(ms(30), ms(now))));
        assert!(backlog.admits_at(ms(TARGET), ms(400)));
        assert!((401..551).all(|now| backlog.admits_at(ms(30), ms(now))), "and all begins anew");
        assert!(!backlog.admits_at(ms(30), ms(551)));
    }

    #[test]
    fn long_waits_far_apart_are_no_queue() {
        let backlog = backlog();
        for second in 0..100 {
            assert!(backlog.admits_at(ms(30), Duration::from_secs(second)));
        }
    }

    #[test]
    fn a_worker_whose_every_turn_is_slower_than_the_interval_sheds_too() {
        let backlog = backlog();
        assert!(backlog.admits_at(ms(1000), ms(0)));
        assert!(!backlog.admits_at(ms(1000), ms(900)));
    }
}
