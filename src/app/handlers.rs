//! Handlers that are counted, because the end of the process waits for them: those whose clients have gone, for what they have begun
//! to end; and all at work, for what a thread of the server drops as it ends to be recorded before the audit log is closed.

use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often it is looked whether there is none, which is asked at the end of the process alone: a request tells nobody of
/// its own end.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How many there are.
#[derive(Debug, Default)]
pub struct Handlers(AtomicUsize);

impl Handlers {
    /// There is one more.
    pub fn begun(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them has ended, or was dropped with its thread, and has recorded what is to be.
    pub fn ended(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// Waits until there is none, for so long at most, and says whether there is none.
    pub async fn all_ended(&self, within: Duration) -> bool {
        let none = async {
            while self.0.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::time::timeout(within, none).await.is_ok()
    }
}
