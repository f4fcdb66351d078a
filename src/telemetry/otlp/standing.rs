//! How the collector stands to one signal: what it answered last, and until when it is left alone.

use std::time::Duration;

use super::tally::Ended;
use crate::telemetry::Stopwatch;

/// The first and the longest pause after failures.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// Starts as if it had taken everything.
#[derive(Debug)]
pub(super) struct Standing {
    last: Ended,
    /// How long the last pause was that nobody asked for.
    pause: Duration,
    /// No pause is longer, whoever asks for it.
    longest: Duration,
    /// Since when, and for how long, nothing is sent.
    paused: Option<(Stopwatch, Duration)>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { last: Ended::Taken, pause: Duration::ZERO, longest: Duration::MAX, paused: None }
    }
}

impl Standing {
    /// The same, of which no pause is longer than this.
    pub(super) fn impatient(longest: Duration) -> Self {
        Self { longest, ..Self::default() }
    }

    /// Whether nothing is to be sent now.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.as_ref().is_some_and(|(since, pause)| since.elapsed() < *pause)
    }

    /// Tries again, whatever was said.
    pub(super) const fn resume(&mut self) {
        self.paused = None;
    }

    /// It has answered so; if it is to be asked later, after so long, else after twice as long as before. Whether that is another
    /// answer than the last.
    pub(super) fn note(&mut self, ended: Ended, asked: Option<Duration>) -> bool {
        let news = self.last != ended;
        self.last = ended;
        self.paused = None;
        if ended == Ended::Later {
            self.pause = self.pause.saturating_mul(2).clamp(FIRST, LONGEST);
            let pause = asked.map_or(self.pause, |asked| asked.max(FIRST)).min(self.longest);
            self.paused = Some((Stopwatch::start(), pause));
        } else {
            self.pause = Duration::ZERO;
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_it_takes_something_and_one_that_is_asked_for_counts() {
        let mut standing = Standing::default();
        let mut pause = |ended, asked| {
            let news = standing.note(ended, asked);
            (news, standing.paused.map_or(0, |(_, pause)| pause.as_secs()))
        };
        for (ended, asked, expected) in [
            (Ended::Taken, None, (false, 0)),
            (Ended::Later, None, (true, 1)),
            (Ended::Later, None, (false, 2)),
            (Ended::Later, Some(7), (false, 7)),
            (Ended::Later, Some(0), (false, 1)),
            (Ended::Later, None, (false, 16)),
            (Ended::Later, None, (false, 30)),
            (Ended::Later, None, (false, 30)),
            (Ended::Taken, None, (true, 0)),
            (Ended::Later, None, (true, 1)),
            (Ended::Refused, None, (true, 0)),
            (Ended::Refused, None, (false, 0)),
            (Ended::Taken, None, (true, 0)),
        ] {
            assert_eq!(pause(ended, asked.map(Duration::from_secs)), expected);
        }
    }

    #[test]
    fn who_is_impatient_makes_no_longer_pause() {
        let mut standing = Standing::impatient(2 * FIRST);
        for asked in [None, None, None, Some(LONGEST)] {
            standing.note(Ended::Later, asked);
            assert!(standing.paused.as_ref().is_some_and(|(_, pause)| *pause <= 2 * FIRST));
        }
    }

    #[test]
    fn a_pause_can_be_ended() {
        let mut standing = Standing::default();
        standing.note(Ended::Later, Some(Duration::from_secs(3600)));
        assert!(standing.is_paused());
        standing.resume();
        assert!(!standing.is_paused());
    }
}
