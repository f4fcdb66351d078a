//! The connection in use: made when it is first needed, and again when it has broken.
//!
//! One caller makes it while others wait for what comes of it; after a failure the next attempt waits, longer each time
//! and by a random part, and calls in between fail at once. So an outage costs each exchange little, and a server that
//! comes back is not met by everybody in the same moment. A server that answers and does not take writes may have been
//! replaced by another: it is looked for anew, once in a while, and what can be read is read from it meanwhile.
//!
//! Each runtime that calls has a connection of its own, which runs there: each thread that serves requests or operators, and
//! the main one. What a thread sends then leaves together, and no thread is woken by another for each call and for each answer,
//! which was a third of an exchange.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::Mutex as Lock;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::Weak;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::runtime::Handle;
use tokio::runtime::Id;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::secret::random_bytes;
use crate::time::spread;

use super::connect::Connection;
use super::connect::connect;
use super::fault::Failed;
use super::fault::Fault;
use super::options::RedisOptions;

/// The first pause after a failed attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause: what a store that is back may at most be away longer.
const LONGEST_PAUSE: Duration = Duration::from_millis(400);
/// How often a connection is looked at, whether or not it is used.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How much longer than the time-out an answer is waited for: one that has come while the whole thread stood still is
/// read by a task of the same thread, which must have its turn.
const TURN: Duration = Duration::from_millis(20);

/// The links of all runtimes that have called.
pub(super) struct Links {
    options: Arc<RedisOptions>,
    /// As many as there are threads. One of a runtime that has ended stays, and finds its connection broken if another is
    /// given the same id.
    all: RwLock<HashMap<Id, Arc<Link>>>,
}

impl Links {
    /// None yet.
    pub(super) fn new(options: RedisOptions) -> Self {
        Self { options: Arc::new(options), all: RwLock::default() }
    }

    /// That of the runtime that this is called on.
    pub(super) fn here(&self) -> Arc<Link> {
        let runtime = Handle::current().id();
        if let Some(link) = self.all.read().unwrap_or_else(PoisonError::into_inner).get(&runtime) {
            return Arc::clone(link);
        }
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(runtime).or_insert_with(|| {
            let link = Arc::new(Link::new(Arc::clone(&self.options)));
            tokio::spawn(keep(Arc::downgrade(&link)));
            link
        }))
    }
}

/// One runtime's connection in use, if there is one.
pub(super) struct Link {
    options: Arc<RedisOptions>,
    live: ArcSwapOption<Connection>,
    attempts: Mutex<Attempts>,
    /// When a server that takes no writes was last let go of.
    looked: Lock<Option<Instant>>,
}

/// What came of the last attempts; the lock is held by who makes one.
#[derive(Debug, Default)]
struct Attempts {
    failed: u32,
    last: Option<(Instant, Fault)>,
}

/// Looks after a link, on the runtime that it is of, so that what has broken is made anew before anybody needs it: a
/// thread may have nothing to ask for hours. What is amiss is told by the call that it fails.
async fn keep(link: Weak<Link>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(link) = link.upgrade() else { return };
        let _told_by_calls = link.call(async |mut connection| connection.examine().await).await;
    }
}

impl Link {
    /// No connection yet.
    fn new(options: Arc<RedisOptions>) -> Self {
        Self { options, live: ArcSwapOption::empty(), attempts: Mutex::default(), looked: Lock::default() }
    }

    /// Makes one call on the connection, within the time-out.
    pub(super) async fn call<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        call: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failed> {
        let live = self.connection().await.map_err(Failed::Unsent)?;
        let mut call = pin!(call(Connection::clone(&live)));
        let answer = match tokio::time::timeout(self.options.timeout, &mut call).await {
            Ok(answer) => answer,
            Err(_) => tokio::time::timeout(TURN, call).await.unwrap_or(Err(Fault::Timeout)),
        };
        if let Err(fault) = &answer
            && (fault.breaks(self.options.clustered())
                || fault.may_be_elsewhere(self.options.clustered()) && self.may_look(Instant::now()))
        {
            self.drop_if(&live);
        }
        answer.map_err(Failed::Sent)
    }

    async fn connection(&self) -> Result<Arc<Connection>, Fault> {
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        let mut attempts = self.attempts.lock().await;
        if let Some(live) = self.live.load_full() {
            return Ok(live);
        }
        if let Some((next, fault)) = attempts.last
            && Instant::now() < next
        {
            return Err(fault);
        }
        let connecting = tokio::time::timeout(self.options.timeout, connect(&self.options));
        match connecting.await.unwrap_or(Err(Fault::Timeout)) {
            Ok(connection) => {
                *attempts = Attempts::default();
                let live = Arc::new(connection);
                self.live.store(Some(Arc::clone(&live)));
                Ok(live)
            }
            Err(fault) => {
                let pause = pause(attempts.failed, random_bytes().map_or(u16::MAX, u16::from_le_bytes));
                attempts.failed = attempts.failed.saturating_add(1);
                attempts.last = Some((Instant::now() + pause, fault));
                Err(fault)
            }
        }
    }

    /// Whether to look for another server than the one that takes no writes. At once, and then at the longest pause:
    /// every call fails on it, and must not make a connection each.
    fn may_look(&self, now: Instant) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let may = looked.is_none_or(|at| now.duration_since(at) >= LONGEST_PAUSE);
        if may {
            *looked = Some(now);
        }
        may
    }

    /// Lets go of that connection; of a newer one not.
    fn drop_if(&self, broken: &Arc<Connection>) {
        self.live.compare_and_swap(broken, None);
    }
}

/// How long to wait after that many failures: at least half of the step, and a random part of the rest.
fn pause(failed: u32, jitter: u16) -> Duration {
    let step = FIRST_PAUSE.saturating_mul(1 << failed.min(10)).min(LONGEST_PAUSE);
    step / 2 + spread(step / 2, jitter)
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("options", &self.options).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_are_spread() {
        let top: Vec<_> = (0..7).map(|failed| pause(failed, u16::MAX).as_millis()).collect();
        assert_eq!(top, [50, 100, 200, 400, 400, 400, 400]);
        for failed in 0..40 {
            assert_eq!(pause(failed, 0) * 2, pause(failed, u16::MAX));
        }
    }
}
