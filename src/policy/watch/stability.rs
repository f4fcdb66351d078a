//! When what is seen in the directory is to be judged: once, and only when it has come to rest. A function of what is
//! seen and when; it reads neither files nor the clock.

use std::time::Duration;

use crate::time::Timestamp;

/// What one look at the directory saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Files, by the revision that they would have as a policy.
    Files(String),
    /// A directory that cannot be read, and why.
    Unreadable(String),
}

/// What to do after a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: what is there has been judged.
    Rest,
    /// Look again: what is there is new, and may be half of something.
    Wait,
    /// Judge it.
    Judge,
}

/// What has been seen so far.
///
/// INVARIANT: the same bytes are judged once, however often they are looked at, until others have been judged.
#[derive(Debug)]
pub struct Stability {
    judged: Option<Seen>,
    candidate: Option<(Seen, Timestamp)>,
    settle: Duration,
}

impl Stability {
    /// Nothing judged yet. What is new is judged when it was seen twice, at least `settle` apart.
    pub const fn new(settle: Duration) -> Self {
        Self { judged: None, candidate: None, settle }
    }

    /// Takes note of a look.
    pub fn observe(&mut self, seen: &Seen, now: Timestamp) -> Next {
        if self.judged.as_ref() == Some(seen) {
            self.candidate = None;
            return Next::Rest;
        }
        match &self.candidate {
            // A clock that was set back must not make it wait for the hour to come round again.
            Some((candidate, first)) if candidate == seen && *first <= now => {
                if now.since(*first) >= self.settle {
                    Next::Judge
                } else {
                    Next::Wait
                }
            }
            Some(_) | None => {
                self.candidate = Some((seen.clone(), now));
                Next::Wait
            }
        }
    }

    /// Takes note that this has been judged, well or badly.
    pub fn judged(&mut self, seen: Seen) {
        self.judged = Some(seen);
        self.candidate = None;
    }

    /// Whether this is what was judged last.
    pub fn is_judged(&self, seen: &Seen) -> bool {
        self.judged.as_ref() == Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(2);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds)
    }

    fn files(name: &str) -> Seen {
        Seen::Files(name.to_owned())
    }

    /// Looks at these moments, and judges when told to.
    fn course(looks: &[(i64, &str)]) -> Vec<Next> {
        let mut stability = Stability::new(SETTLE);
        stability.judged(files("a"));
        let mut look = |(second, name): &(i64, &str)| {
            let next = stability.observe(&files(name), at(*second));
            if next == Next::Judge {
                stability.judged(files(name));
            }
            next
        };
        looks.iter().map(&mut look).collect()
    }

    #[test]
    fn what_is_new_is_judged_once_when_it_was_seen_twice() {
        use Next::Judge;
        use Next::Rest;
        use Next::Wait;
        for (looks, expected) in [
            (&[(0, "a"), (5, "a"), (10, "a")][..], &[Rest, Rest, Rest][..]),
            (&[(0, "b"), (5, "b"), (10, "b"), (15, "b")], &[Wait, Judge, Rest, Rest]),
            // Still being written: each look sees something else.
            (&[(0, "b"), (5, "c"), (10, "d"), (15, "d")], &[Wait, Wait, Wait, Judge]),
            // Seen, gone, and seen again: that is not twice in succession.
            (&[(0, "b"), (5, "a"), (10, "b"), (15, "b")], &[Wait, Rest, Wait, Judge]),
            (&[(0, "b"), (5, "c"), (10, "b"), (15, "b")], &[Wait, Wait, Wait, Judge]),
            // Two looks in one moment are one look.
            (&[(0, "b"), (0, "b"), (1, "b"), (2, "b")], &[Wait, Wait, Wait, Judge]),
            // Back to what was before the judged one: that is new again.
            (&[(0, "b"), (5, "b"), (10, "a"), (15, "a"), (20, "a")], &[Wait, Judge, Wait, Judge, Rest]),
            // The clock is set back by an hour.
            (&[(4000, "b"), (400, "b"), (405, "b")], &[Wait, Wait, Judge]),
        ] {
            assert_eq!(course(looks), expected, "{looks:?}");
        }
    }

    #[test]
    fn what_was_judged_and_refused_is_not_judged_again_until_it_changes() {
        let mut stability = Stability::new(SETTLE);
        let gone = Seen::Unreadable("gone".to_owned());
        assert_eq!(stability.observe(&gone, at(0)), Next::Wait);
        assert_eq!(stability.observe(&gone, at(5)), Next::Judge);
        // Until it has been judged it is still to be judged: a reading may have come too late.
        assert_eq!(stability.observe(&gone, at(10)), Next::Judge);
        stability.judged(gone.clone());
        assert!(stability.is_judged(&gone) && !stability.is_judged(&files("a")));
        assert_eq!(stability.observe(&gone, at(15)), Next::Rest);
        assert_eq!(stability.observe(&Seen::Unreadable("denied".to_owned()), at(20)), Next::Wait);
    }
}
