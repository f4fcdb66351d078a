//! Load shedding: a replica does so much at once, lets the rest try once more after a moment, and then refuses it before
//! it is looked at.
//!
//! More at once would not make it faster. Each request takes its share of the cores and of memory, and a queue without an
//! end only means that clients have given up by the time that they are served.
//!
//! There is no queue for the next place that is free: its first would start at the very moment at which another ends, and
//! the batches in which requests arrive and go to the store would fall apart. In a flood that took a tenth to a fifth more
//! CPU time for each exchange.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::SemaphorePermit;

use crate::code::Code;
use crate::exchange;
use crate::http::error::Refusal;
use crate::telemetry::Metrics;

/// After how long a request that found no place tries once more.
const PATIENCE: Duration = Duration::from_millis(200);
// What an exchange waits for at most, stops left aside, is under the 4 s within which it answers.
const _: () = assert!(PATIENCE.as_millis() + exchange::KEY_WAIT.as_millis() + exchange::STORE_WAIT.as_millis() < 4000);
/// For how long a refusal is held back. It costs a good part of what it refuses, and whoever is refused asks again: a flood
/// would have the replica do nothing but refuse. Like this a connection brings one refusal a second at most.
const PAUSE: Duration = Duration::from_secs(1);

/// Holds a refusal back.
pub async fn hold_back() {
    tokio::time::sleep(PAUSE).await;
}

/// How much of one kind a replica does at once.
#[derive(Debug)]
pub struct Limit {
    /// What metrics call it.
    name: &'static str,
    places: Semaphore,
}

/// A place, until this is dropped or it is given back.
#[derive(Debug)]
pub struct Place<'a>(Mutex<Option<SemaphorePermit<'a>>>);

impl<'a> Place<'a> {
    const fn of(permit: SemaphorePermit<'a>) -> Self {
        Self(Mutex::new(Some(permit)))
    }

    /// Gives it back before the end: what is left to do is to wait, and little after it.
    pub fn give_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Limit {
    /// So many places.
    pub const fn new(name: &'static str, places: usize) -> Self {
        Self { name, places: Semaphore::const_new(places) }
    }

    /// A place, or a refusal. How many wait is bounded by the number of connections.
    pub async fn admit(&self, metrics: &Metrics) -> Result<Place<'_>, Refusal> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(Place::of(place));
        }
        tokio::time::sleep(PATIENCE).await;
        if let Ok(place) = self.places.try_acquire() {
            return Ok(Place::of(place));
        }
        metrics.overloaded(self.name);
        hold_back().await;
        Err(Refusal::new(Code::Overloaded, "this replica has more to do than it can"))
    }
}

/// The open connections of a listener.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    most: usize,
}

/// One of them, for as long as this lives.
#[derive(Debug)]
pub struct Connection {
    all: Arc<Connections>,
    kept: bool,
}

impl Connections {
    /// None yet, of so many at most.
    pub const fn new(most: usize) -> Self {
        Self { open: AtomicUsize::new(0), most }
    }

    /// One more.
    ///
    /// SECURITY: of the last eighth none is kept for what its client may yet ask. Strangers who ask one thing and then
    /// nothing can hold the others; there is always room for who comes with a question.
    pub fn open(self: &Arc<Self>) -> Connection {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        Connection { all: Arc::clone(self), kept: before.saturating_mul(8) < self.most.saturating_mul(7) }
    }
}

impl Connection {
    /// Whether it is kept open for another request.
    pub const fn is_kept(&self) -> bool {
        self.kept
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_last_eighth_no_connection_is_kept() {
        let connections = Arc::new(Connections::new(8));
        let mut open: Vec<_> = (0..8).map(|_| connections.open()).collect();
        let kept: Vec<_> = open.iter().map(Connection::is_kept).collect();
        assert_eq!(kept, [true, true, true, true, true, true, true, false]);
        open.truncate(5);
        assert!(connections.open().is_kept());
    }
}
