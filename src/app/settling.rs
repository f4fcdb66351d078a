//! What files hold comes into force when two looks in a row have found the same, so that nothing half-written does; what is
//! wrong with them is told once.

use std::mem;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::policy::yaml::Faults;

/// What files were found to hold that is not in force.
#[derive(Debug)]
pub(super) struct Settling<T> {
    found: Option<Found<T>>,
    /// Whether faults were told since what is in force was last found.
    told: bool,
}

#[derive(Debug)]
enum Found<T> {
    /// Something else, seen once.
    New(T),
    /// Faults, which have been told if `told`.
    Faulty { faults: String, told: bool },
}

/// What a look comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look<T> {
    /// What is in force is what the files hold.
    Unchanged,
    /// So it is again, after faults that were told.
    Mended,
    /// What they hold is to come into force.
    Settled(T),
    /// What they hold has to be seen once more.
    Unsettled,
    /// They have these faults, which are to be told now.
    Refused(String),
}

impl<T> Look<T> {
    /// What is to come into force, if anything. What else it came to is counted, as refused or not, and told: with `mended` that
    /// the files hold again what is in force, with `refused`, before the faults, that this goes on.
    pub(super) fn told(self, count: impl Fn(bool), mended: &str, refused: &str) -> Option<T> {
        match self {
            Self::Unchanged | Self::Unsettled => {}
            Self::Settled(found) => return Some(found),
            Self::Mended => {
                count(false);
                tracing::info!("{mended}");
            }
            Self::Refused(faults) => {
                count(true);
                tracing::error!("{refused}: {faults}");
            }
        }
        None
    }
}

/// Looks every so often, for as long as it is polled itself. A look that took long is not made up for.
pub(super) async fn at_intervals(every: Duration, look: impl AsyncFn()) {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        look().await;
    }
}

impl<T> Settling<T> {
    pub(super) const fn new() -> Self {
        Self { found: None, told: false }
    }

    /// Takes in what the files were found to hold, while this is in force; `same` compares two of them.
    pub(super) fn look(&mut self, read: Result<T, Faults>, in_force: &T, same: impl Fn(&T, &T) -> bool) -> Look<T> {
        let before = self.found.take();
        match (read, before) {
            (Ok(found), _) if same(&found, in_force) => {
                if mem::take(&mut self.told) {
                    Look::Mended
                } else {
                    Look::Unchanged
                }
            }
            (Ok(found), Some(Found::New(seen))) if same(&found, &seen) => {
                self.told = false;
                Look::Settled(found)
            }
            (Ok(found), _) => {
                self.found = Some(Found::New(found));
                Look::Unsettled
            }
            (Err(faults), before) => {
                let faults = faults.to_string();
                let (again, told) = match before {
                    Some(Found::Faulty { faults: seen, told }) => (seen == faults, told),
                    Some(Found::New(_)) | None => (false, false),
                };
                let tell = again && !told;
                let look = if tell { Look::Refused(faults.clone()) } else { Look::Unsettled };
                self.told |= tell;
                self.found = Some(Found::Faulty { faults, told: again });
                look
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::policy::yaml::Place;

    fn faulty(what: &str) -> Result<u8, Faults> {
        let mut faults = Faults::new();
        faults.push(Place::whole("file".into()), String::new(), what.to_owned(), "mend it");
        Err(faults)
    }

    #[test]
    fn what_two_looks_find_alike_counts_and_faults_are_told_once() {
        use Look::{Mended, Settled, Unchanged, Unsettled};
        let refused = |what: &str| Look::Refused(faulty(what).unwrap_err().to_string());
        let mut settling = Settling::new();
        let mut look = |read, in_force: u8| settling.look(read, &in_force, |one, other| one == other);
        for (read, in_force, expected) in [
            (Ok(1), 1, Unchanged),
            (Ok(2), 1, Unsettled),
            (Ok(3), 1, Unsettled),
            (Ok(3), 1, Settled(3)),
            (Ok(3), 3, Unchanged),
            // A change that was taken back is none.
            (Ok(4), 3, Unsettled),
            (Ok(3), 3, Unchanged),
            (Ok(4), 3, Unsettled),
            // Faults of a file that is just being written are not told.
            (faulty("half"), 3, Unsettled),
            (Ok(4), 3, Unsettled),
            (Ok(4), 3, Settled(4)),
            (faulty("a"), 4, Unsettled),
            (faulty("b"), 4, Unsettled),
            (faulty("b"), 4, refused("b")),
            (faulty("b"), 4, Unsettled),
            (Ok(4), 4, Mended),
            (Ok(4), 4, Unchanged),
            (faulty("b"), 4, Unsettled),
            (faulty("b"), 4, refused("b")),
            // Between the faults that were told and their mend, something else is seen once.
            (Ok(6), 4, Unsettled),
            (Ok(4), 4, Mended),
            (faulty("b"), 4, Unsettled),
            (faulty("b"), 4, refused("b")),
            (faulty("half"), 4, Unsettled),
            (Ok(4), 4, Mended),
            (Ok(4), 4, Unchanged),
            (Ok(5), 4, Unsettled),
            (Ok(5), 4, Settled(5)),
            (Ok(5), 5, Unchanged),
        ] {
            assert_eq!(look(read, in_force), expected);
        }
    }
}
