//! Reading ahead: entries become nodes on a thread of their own while what was read before them is being judged. Their
//! order, and what is said of them, is that of reading them one by one.

use std::sync::mpsc::Receiver;
use std::sync::mpsc::sync_channel;
use std::thread;

/// How many entries change hands at a time.
const AT_ONCE: usize = 256;
/// How many such hands-full wait at most: what is in memory stays small.
const WAITING: usize = 4;

/// Within which readers run; none is left when it ends.
pub type Scope<'scope, 'env> = thread::Scope<'scope, 'env>;

/// Runs `within`, which may start readers, and waits for them. A reader that panicked is no end of its entries: this
/// panics too.
pub fn scope<'env, T>(within: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T) -> T {
    thread::scope(within)
}

/// What a reader has read so far, in order.
#[derive(Debug)]
pub(super) struct Ahead<T> {
    batch: std::vec::IntoIter<T>,
    batches: Receiver<Vec<T>>,
}

impl<T> Iterator for Ahead<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        loop {
            if let Some(item) = self.batch.next() {
                return Some(item);
            }
            self.batch = self.batches.recv().ok()?.into_iter();
        }
    }
}

/// Starts a reader of these items. They come back if this machine has no thread for it.
pub(super) fn start<'scope, T: Send + 'scope, I: Iterator<Item = T> + Send + 'scope>(
    items: I,
    scope: &'scope Scope<'scope, '_>,
) -> Result<Ahead<T>, I> {
    let (give, given) = sync_channel::<I>(1);
    let (send, batches) = sync_channel(WAITING);
    let reader = move || {
        let Ok(mut items) = given.recv() else { return };
        loop {
            let batch: Vec<T> = items.by_ref().take(AT_ONCE).collect();
            // Nobody waits for more when the set is full.
            if batch.is_empty() || send.send(batch).is_err() {
                return;
            }
        }
    };
    if thread::Builder::new().name("policy-reader".to_owned()).spawn_scoped(scope, reader).is_err() {
        return Err(items);
    }
    give.send(items).map_err(|unsent| unsent.0)?;
    Ok(Ahead { batch: Vec::new().into_iter(), batches })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_arrives_in_order_and_a_reader_stops_when_nobody_takes_more() {
        for count in [0, 1, AT_ONCE, AT_ONCE + 1, 20 * AT_ONCE + 7] {
            let read: Vec<usize> = scope(|scope| start(0..count, scope).unwrap().collect());
            assert!(read.into_iter().eq(0..count), "{count}");
        }
        let few: Vec<usize> = scope(|scope| start(0.., scope).unwrap().take(3).collect());
        assert_eq!(few, [0, 1, 2]);
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_reader_that_panicked_is_not_taken_for_the_end() {
        scope(|scope| start((0..9).inspect(|item| assert!(*item < 5)), scope).unwrap().count());
    }
}
