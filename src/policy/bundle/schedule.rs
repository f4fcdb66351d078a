//! When a registry's bundle is asked for: a pure state machine, without clock, network or task.
//!
//! ```text
//!   idle ── due ──► asking ──► succeeded: again within `poll`
//!     ▲               │  └───► failed:    again after a pause that doubles, at most the longer of `poll` and 5 minutes
//!     └─── notice ────┘        (a notice meanwhile: again at once)
//! ```
//!
//! INVARIANT: notices bring polls forward at most [`BURST`] times at once and once per [`REFILL`] after that, and none is
//! lost: one that comes too soon is obeyed when the next is allowed.

use std::time::Duration;

use crate::time::Allowance;
use crate::time::Timestamp;
use crate::time::spread;

/// Polls that notices may cause at once.
const BURST: u32 = 3;
/// How long it takes until they may cause one more.
const REFILL: Duration = Duration::from_secs(10);
/// Longest pause after failures, unless the registry is polled less often.
const MAX_PAUSE: Duration = Duration::from_secs(5 * 60);
/// First pause after a failure, unless the registry is polled more often.
const FIRST_PAUSE: Duration = Duration::from_secs(15);

/// When one registry's bundle is asked for. Begins due.
#[derive(Debug, Clone)]
pub struct Schedule {
    poll: Duration,
    /// When the next poll falls due; `None` for at once.
    next: Option<Timestamp>,
    /// When the latest poll began.
    began: Option<Timestamp>,
    asking: bool,
    /// Whether a notice came while a poll was under way, which may have been answered before.
    again: bool,
    /// Whether the next poll is that of a notice which has not been paid for.
    owed: bool,
    failing: Option<Failing>,
    notices: Allowance,
}

/// Failures since the last success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failing {
    /// When the first of them ended.
    pub since: Timestamp,
    /// How many there were.
    pub times: u32,
}

impl Schedule {
    /// The registry is asked every `poll`, or a little more often.
    pub const fn new(poll: Duration) -> Self {
        let notices = Allowance::new(REFILL, BURST);
        Self { poll, next: None, began: None, asking: false, again: false, owed: false, failing: None, notices }
    }

    /// Whether a poll is due; if so it is recorded as under way, and the caller must begin it and say how it ended.
    pub fn due(&mut self, now: Timestamp) -> bool {
        // A clock that was set back must not postpone the poll.
        let set_back = self.began.is_some_and(|began| began > now);
        let due = !self.asking && (set_back || self.next.is_none_or(|next| next <= now));
        if due {
            if self.owed {
                self.notices.spend(now);
            }
            (self.asking, self.again, self.owed) = (true, false, false);
            (self.began, self.next) = (Some(now), None);
        }
        due
    }

    /// The registry says that it has another bundle. When it will be asked for it.
    pub fn notice(&mut self, now: Timestamp) -> Timestamp {
        self.again = self.asking;
        if let Some(next) = self.next.filter(|next| *next <= now) {
            return next.max(now);
        }
        let paid = self.notices.spend(now);
        let at = if paid { now } else { now.plus(self.notices.next(now)) };
        if let Some(next) = self.next.filter(|next| *next <= at) {
            return next;
        }
        (self.next, self.owed) = (Some(at), !paid);
        at
    }

    /// The poll under way brought a bundle, or found that the held one is still the present one. `jitter` is any number,
    /// best a random one.
    pub fn succeeded(&mut self, now: Timestamp, jitter: u16) {
        self.failing = None;
        self.ended(now, self.poll, jitter);
    }

    /// The poll under way failed, or brought a bundle that was refused.
    pub fn failed(&mut self, now: Timestamp, jitter: u16) {
        let before = self.failing.unwrap_or(Failing { since: now, times: 0 });
        self.failing = Some(Failing { times: before.times.saturating_add(1), ..before });
        let pause = FIRST_PAUSE.min(self.poll).saturating_mul(2_u32.saturating_pow(before.times));
        self.ended(now, pause.min(MAX_PAUSE.max(self.poll)), jitter);
    }

    /// Between four and five fifths of the pause from now on, so that replicas do not ask in step.
    fn ended(&mut self, now: Timestamp, pause: Duration, jitter: u16) {
        let usual = now.plus(pause * 4 / 5).plus(spread(pause / 5, jitter));
        // What a notice has set stands only if it came after the poll began.
        let noticed = self.next.filter(|_| self.again);
        self.owed = self.owed && noticed.is_some_and(|noticed| noticed < usual);
        self.next = Some(noticed.map_or(usual, |noticed| noticed.min(usual)));
        (self.asking, self.again) = (false, false);
    }

    /// Since when, and how often, polls have failed.
    pub const fn failing(&self) -> Option<Failing> {
        self.failing
    }

    /// When the next poll falls due.
    pub const fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// Whether a poll is under way.
    pub const fn is_asking(&self) -> bool {
        self.asking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
    const SECOND: Duration = Duration::from_secs(1);
    const POLL: Duration = Duration::from_secs(60);

    fn at(seconds: u32) -> Timestamp {
        START.plus(seconds * SECOND)
    }

    /// One that has succeeded once, at the start.
    fn running() -> Schedule {
        let mut schedule = Schedule::new(POLL);
        assert!(schedule.due(START));
        schedule.succeeded(START, u16::MAX);
        schedule
    }

    #[test]
    fn the_first_poll_is_due_at_once_and_one_is_under_way_at_a_time() {
        let mut schedule = Schedule::new(POLL);
        assert!(schedule.due(START));
        assert!(!schedule.due(START) && !schedule.due(at(1000)), "it has not ended");
        schedule.succeeded(at(1000), 0);
        assert!(!schedule.due(at(1047)));
        assert!(schedule.due(at(1048)));
    }

    #[test]
    fn polls_come_a_little_before_their_time_and_never_after_it() {
        for (jitter, due) in [(0, 48), (u16::MAX / 2, 54), (u16::MAX, 60)] {
            let mut schedule = Schedule::new(POLL);
            assert!(schedule.due(START));
            schedule.succeeded(START, jitter);
            assert!(!schedule.due(at(due - 1)), "{jitter}");
            assert!(schedule.due(at(due)), "{jitter}");
        }
    }

    #[test]
    fn failures_are_tried_again_at_a_pause_that_doubles_to_its_cap_and_a_success_ends_that() {
        let mut schedule = Schedule::new(POLL);
        let mut now = START;
        for pause in [15, 30, 60, 120, 240, 300, 300] {
            assert!(schedule.due(now));
            schedule.failed(now, u16::MAX);
            let next = now.plus(pause * SECOND);
            assert!(!schedule.due(next.minus(SECOND)), "{pause}");
            now = next;
        }
        assert_eq!(schedule.failing(), Some(Failing { since: START, times: 7 }));
        assert!(schedule.due(now));
        schedule.succeeded(now, u16::MAX);
        assert_eq!((schedule.failing(), schedule.next()), (None, Some(now.plus(POLL))));
    }

    #[test]
    fn a_registry_that_is_polled_often_is_tried_again_as_often_and_one_polled_rarely_no_more_rarely_than_that() {
        for (poll, pauses) in [(10, [10, 20, 40]), (900, [15, 30, 60])] {
            let mut schedule = Schedule::new(poll * SECOND);
            for pause in pauses {
                let now = schedule.next().unwrap_or(START);
                assert!(schedule.due(now));
                schedule.failed(now, u16::MAX);
                assert_eq!(schedule.next(), Some(now.plus(pause * SECOND)), "{poll}");
            }
        }
        let mut rare = Schedule::new(900 * SECOND);
        for _ in 0..40 {
            let now = rare.next().unwrap_or(START);
            assert!(rare.due(now));
            rare.failed(now, u16::MAX);
            assert!(rare.next() <= Some(now.plus(900 * SECOND)));
        }
    }

    #[test]
    fn a_notice_brings_the_next_poll_forward_and_too_many_are_put_off() {
        let mut schedule = running();
        for second in [1, 2, 3] {
            assert_eq!(schedule.notice(at(second)), at(second));
            assert!(schedule.due(at(second)));
            schedule.succeeded(at(second), u16::MAX);
        }
        // Three were spent and two seconds saved since.
        assert_eq!(schedule.notice(at(3)), at(11));
        assert_eq!(schedule.notice(at(3)), at(11), "it is not put off further");
        assert!(!schedule.due(at(10)));
        assert!(schedule.due(at(11)));
    }

    #[test]
    fn a_notice_during_a_poll_causes_another_one() {
        let mut schedule = running();
        assert!(schedule.due(at(60)));
        assert_eq!(schedule.notice(at(61)), at(60).max(at(61)));
        assert!(!schedule.due(at(61)), "one is under way");
        schedule.succeeded(at(62), u16::MAX);
        assert!(schedule.due(at(62)), "it may have been answered before the notice");
        schedule.succeeded(at(63), u16::MAX);
        assert!(!schedule.due(at(64)), "once is enough");
    }

    #[test]
    fn a_notice_never_puts_a_poll_off() {
        let mut schedule = running();
        for _ in 0..10 {
            schedule.notice(at(55));
        }
        assert!(schedule.due(at(60)));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_postpone_the_poll() {
        let mut schedule = running();
        assert!(schedule.due(START.minus(3600 * SECOND)));
    }

    proptest! {
        /// Whatever polls do and whenever notices come, the server is asked no more often than its pace and the notices'
        /// allowance permit, and never less often than its pace when all goes well.
        #[test]
        fn the_server_is_asked_at_its_pace(events in prop::collection::vec((0u32..30, any::<bool>(), any::<bool>(), any::<u16>()), 1..200)) {
            let mut schedule = Schedule::new(POLL);
            let (mut now, mut asked, mut notices) = (START, 0_u32, false);
            let mut last: Option<Timestamp> = None;
            for (passed, notice, ends_well, jitter) in events {
                now = now.plus(passed * SECOND);
                if notice {
                    notices = true;
                    schedule.notice(now);
                }
                if schedule.due(now) {
                    asked += 1;
                    if ends_well { schedule.succeeded(now, jitter) } else { schedule.failed(now, jitter) }
                    last = Some(now);
                }
                if let Some(last) = last.filter(|_| schedule.failing().is_none()) {
                    prop_assert!(now.since(last) < POLL);
                }
            }
            let seconds = u32::try_from(now.since(START).as_secs()).unwrap();
            // Twelve seconds are the shortest pause: four fifths of fifteen.
            let most = 1 + seconds / 12 + if notices { BURST + seconds / 10 } else { 0 };
            prop_assert!(asked <= most, "{asked} in {seconds} s");
        }
    }
}
