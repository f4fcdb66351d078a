//! Handlers that are counted, because the end of the process waits for them: those whose clients have gone, for what they have begun
//! to end; and all at work, for what a thread of the server drops as it ends to be recorded before the audit log is closed. Once the
//! end has looked for the last time none begins any more: nothing would say what it had used, revoked or stopped.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it is looked whether there is none, which is asked at the end of the process alone: a request tells nobody of
/// its own end.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Beside the number of those at work: whether none begins any more.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// How many there are whose clients have gone.
#[derive(Debug, Default)]
pub struct Unattended(AtomicUsize);

/// How many there are at all that may use, revoke, stop or lift anything, until none begins any more.
#[derive(Debug, Default)]
pub struct AtWork(AtomicUsize);

/// No handler begins any more. Only [`AtWork::close`] makes this, and only with it the audit log is closed.
#[derive(Debug)]
#[must_use]
pub struct Closed {
    all_ended: bool,
}

impl Closed {
    /// Whether all that had begun have ended.
    pub const fn all_ended(&self) -> bool {
        self.all_ended
    }
}

impl Unattended {
    /// The client of one more has gone.
    pub fn left(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them has ended, or was dropped with its thread, and has recorded what is to be.
    pub fn ended(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Waits until there is none, for so long at most, and says whether there is none.
    pub async fn all_ended(&self, within: Duration) -> bool {
        looked(within, || self.0.load(Ordering::Acquire) == 0).await
    }
}

impl AtWork {
    /// There is one more, if it says so: else it must not begin.
    #[must_use]
    pub fn begin(&self) -> bool {
        let more = |count| (count & CLOSED == 0).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// One of them has ended, or was dropped with its thread, and has recorded what is to be.
    pub fn ended(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Waits until there is none, for so long at most. From then on none begins: finding nobody and closing are one step.
    pub async fn close(&self, within: Duration) -> Closed {
        let nobody = |count| (count & !CLOSED == 0).then_some(CLOSED);
        let found_nobody =
            looked(within, || self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, nobody).is_ok()).await;
        // Who began now would be waited for even less.
        let all_ended = found_nobody || self.0.fetch_or(CLOSED, Ordering::Acquire) & !CLOSED == 0;
        Closed { all_ended }
    }
}

/// Looks until it is so, for so long at most, and says whether it is.
async fn looked(within: Duration, is_so: impl Fn() -> bool) -> bool {
    let looks = async {
        while !is_so() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(within, looks).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn none_begins_after_the_look_that_found_nobody() {
        let at_work = AtWork::default();
        assert!(at_work.begin());
        at_work.ended();
        assert!(at_work.close(Duration::ZERO).await.all_ended);
        assert!(!at_work.begin());
        assert!(at_work.close(Duration::ZERO).await.all_ended, "who was refused is not counted");
    }

    #[tokio::test]
    async fn none_begins_once_the_time_is_over_and_who_works_ends_all_the_same() {
        let at_work = AtWork::default();
        assert!(at_work.begin());
        assert!(!at_work.close(Duration::ZERO).await.all_ended);
        assert!(!at_work.begin());
        at_work.ended();
        assert!(!at_work.begin(), "that one ends opens nothing");
        assert!(at_work.close(Duration::ZERO).await.all_ended);
    }

    #[tokio::test]
    async fn one_may_begin_while_another_is_waited_for_and_is_waited_for_too() {
        let at_work = AtWork::default();
        assert!(at_work.begin());
        let meanwhile = async {
            tokio::task::yield_now().await;
            assert!(at_work.begin(), "nobody has found nobody yet");
            at_work.ended();
            tokio::time::sleep(LOOK_EVERY * 3).await;
            at_work.ended();
        };
        let (closed, ()) = tokio::join!(at_work.close(Duration::from_secs(30)), meanwhile);
        assert!(closed.all_ended);
    }

    #[tokio::test]
    async fn of_threads_that_begin_without_end_none_does_once_it_is_closed() {
        /// A thread is within for about as long as it is not, so that many looks find nobody just before one begins.
        const TURNS: usize = 100;
        let linger = || std::hint::black_box((0..TURNS).fold(0, usize::wrapping_add));
        for _ in 0..2_000 {
            let at_work = Arc::new(AtWork::default());
            let recorded = Arc::new(AtomicUsize::new(0));
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (at_work, recorded) = (Arc::clone(&at_work), Arc::clone(&recorded));
                    thread::spawn(move || {
                        while at_work.begin() {
                            linger();
                            recorded.fetch_add(1, Ordering::Relaxed);
                            at_work.ended();
                            linger();
                        }
                    })
                })
                .collect();
            assert!(at_work.close(Duration::from_secs(30)).await.all_ended);
            // Who had begun has recorded before: what is released by `ended` is seen by who finds nobody.
            let before = recorded.load(Ordering::Relaxed);
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(recorded.load(Ordering::Relaxed), before);
        }
    }
}
