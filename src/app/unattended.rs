//! Handlers whose clients have gone: what they have begun shall end before the process does.

use std::time::Duration;

use tokio::sync::watch;

/// How many there are.
#[derive(Debug, Default)]
pub struct Unattended(watch::Sender<usize>);

impl Unattended {
    /// The client of one has gone.
    pub fn left(&self) {
        self.0.send_modify(|handlers| *handlers = handlers.saturating_add(1));
    }

    /// One of them has ended, or was dropped with its thread.
    pub fn ended(&self) {
        self.0.send_modify(|handlers| *handlers = handlers.saturating_sub(1));
    }

    /// Waits until there is none, for so long at most, and says whether there is none.
    pub async fn all_ended(&self, within: Duration) -> bool {
        let mut handlers = self.0.subscribe();
        tokio::time::timeout(within, handlers.wait_for(|handlers| *handlers == 0)).await.is_ok()
    }
}
