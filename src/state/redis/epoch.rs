//! Since when a server has forgotten nothing.
//!
//! The server keeps a mark in each bucket: which server it was (the id of its run and of its replication history) and
//! when that began. Every script compares the mark with the server that it runs on, in the same atomic step as its own
//! work, and writes a new one with the present time when it is missing or another's: after a restart (another run), a
//! failover (another server), `FLUSHALL` (no mark), a full resynchronisation (another history). So whoever first speaks
//! to a server that may have lost writes makes it say so to all replicas, and a claim's answer carries the mark that
//! held when the claim was made.
//!
//! SECURITY: whoever can write to Redis can write a mark. One from the future is replaced. An older one, put back after
//! a loss, hides that loss from a process that has just started, which is what deleting single first uses does as well,
//! unseen: a store that its attacker writes to cannot prove what it has forgotten. A process that has seen a later mark
//! keeps to that, and one that saw another server takes its own sight as the beginning. Nothing planted makes a process
//! believe that a token is unused, nor moves its mark back.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::time::Timestamp;

use super::keys::Bucket;

/// What a server said about itself, in the step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sight {
    /// Which server: the ids of its run and of its replication history.
    pub(super) server: Vec<u8>,
    /// What the mark says.
    pub(super) since: Timestamp,
    /// The server's clock.
    pub(super) now: Timestamp,
}

/// The latest of what this process has seen: it never goes back.
#[derive(Debug, Default)]
pub(super) struct HighWater {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    buckets: BTreeMap<Bucket, (Vec<u8>, Timestamp)>,
    highest: Option<Timestamp>,
}

impl HighWater {
    /// Takes note of a sight. It must be called before the answer that came with it is passed on.
    pub(super) fn note(&self, bucket: Bucket, sight: Sight) {
        let Sight { server, mut since, now } = sight;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.buckets.get_mut(&bucket) {
            Some((known, at)) if *known == server => {
                *at = since.max(*at);
            }
            Some((known, at)) => {
                // SECURITY: another server under a mark that is no later: an old state was put back.
                if since <= *at {
                    since = now;
                }
                *known = server;
                *at = since.max(*at);
            }
            None => {
                seen.buckets.insert(bucket, (server, since));
            }
        }
        seen.highest = seen.highest.max(Some(since));
    }

    /// The moment from which on no bucket has forgotten anything; `None` before the first sight.
    pub(super) fn highest(&self) -> Option<Timestamp> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).highest
    }
}

#[cfg(test)]
mod tests;
