//! How often a client may be refused: a bucket of refusals for each, which fills evenly.
//!
//! SECURITY: only what is refused counts, so the jobs behind one address never hold each other up by what they publish. A
//! client that was not refused has no bucket, and a bucket that is not there is full: whatever others do, such a client is
//! never held up. Refusals are paid afterwards, when it is known that they are refusals, so those that are under way at once
//! can overdraw a bucket, by as much as it holds at most; until that is paid, nothing more of theirs is looked at.
//!
//! Memory is a table of a fixed size, made at the start. A client has its place in one of many small sets, which one is
//! drawn anew in each process, so nobody can choose addresses that meet. In a set that is full, the bucket that is full
//! first is forgotten: those who are refused most stay.

use std::fmt;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use crate::state::rates::WINDOW;
use crate::time::Timestamp;

/// Sets: a power of two.
const SETS: usize = 1024;
/// Buckets of a set.
const WAYS: usize = 8;
/// Most clients that are remembered.
pub const MAX_CLIENTS: usize = SETS * WAYS;

const WINDOW_MICROS: i64 = 60_000_000;
const _: () = assert!(WINDOW.as_micros() == WINDOW_MICROS.unsigned_abs() as u128);
/// The most that can be missing from a bucket: what it holds, and as much again that was overdrawn.
const MOST_MISSING: i64 = 2 * WINDOW_MICROS;

/// Who counts as one: an IPv4 address, or the /64 of an IPv6 address, which is what one subscriber has at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Client {
    V4(u32),
    V6([u16; 4]),
}

impl Client {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

/// A client that was refused, and the moment at which its bucket is full again, in microseconds.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    client: Client,
    full_at: i64,
}

impl Bucket {
    /// How long it takes to fill. A bucket of the table that would take longer than any can is from before the clock was set
    /// back, and how much is missing from it cannot be said.
    const fn missing(&self, now: i64) -> i64 {
        let missing = self.full_at.saturating_sub(now);
        if missing < 0 || missing > MOST_MISSING { 0 } else { missing }
    }
}

type Set = [Option<Bucket>; WAYS];

/// The buckets of the clients that were refused lately.
pub struct Buckets<S = RandomState> {
    quota: u32,
    sets: Box<[Mutex<Set>]>,
    hasher: S,
}

/// Without addresses.
impl<S> fmt::Debug for Buckets<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets").field("quota", &self.quota).finish_non_exhaustive()
    }
}

impl Buckets {
    /// Nobody was refused yet; each client may be so many times a minute, at least once.
    pub fn new(quota: u32) -> Self {
        Self::placed_by(quota, RandomState::new())
    }
}

impl<S: BuildHasher> Buckets<S> {
    fn placed_by(quota: u32, hasher: S) -> Self {
        Self { quota: quota.max(1), sets: (0..SETS).map(|_| Mutex::default()).collect(), hasher }
    }

    /// How many times a minute each may be refused.
    pub const fn quota(&self) -> u32 {
        self.quota
    }

    /// Whether it may ask; the error says when it may again, if it is refused nothing until then.
    pub fn admit(&self, address: IpAddr, now: Timestamp) -> Result<(), Duration> {
        let (client, now) = (Client::of(address), micros(now));
        let missing = self.in_set(client, |set| find(set, client).map_or(0, |bucket| bucket.missing(now)));
        let over = missing.saturating_add(self.price()).saturating_sub(WINDOW_MICROS);
        if over > 0 { Err(Duration::from_micros(over.unsigned_abs())) } else { Ok(()) }
    }

    /// Counts that it was refused.
    pub fn refused(&self, address: IpAddr, now: Timestamp) {
        let (client, now) = (Client::of(address), micros(now));
        self.in_set(client, |set| {
            let known = set.iter_mut().find(|place| place.is_some_and(|bucket| bucket.client == client));
            // Otherwise one that is free or full; if there is none, the one that is full first.
            let fullest = |place: &&mut Option<Bucket>| place.map_or(0, |bucket| bucket.missing(now));
            let Some(place) = (match known {
                Some(place) => Some(place),
                None => set.iter_mut().min_by_key(fullest),
            }) else {
                return;
            };
            let missing = place.filter(|bucket| bucket.client == client).map_or(0, |bucket| bucket.missing(now));
            let missing = missing.saturating_add(self.price()).min(MOST_MISSING);
            *place = Some(Bucket { client, full_at: now.saturating_add(missing) });
        });
    }

    /// How long one refusal takes to be forgotten.
    fn price(&self) -> i64 {
        WINDOW_MICROS / i64::from(self.quota)
    }

    fn in_set<T: Default>(&self, client: Client, look: impl FnOnce(&mut Set) -> T) -> T {
        let index = self.hasher.hash_one(client) % SETS as u64;
        let set = usize::try_from(index).ok().and_then(|index| self.sets.get(index));
        // There is one for every index.
        set.map_or_else(T::default, |set| look(&mut set.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn find(set: &Set, client: Client) -> Option<&Bucket> {
    set.iter().flatten().find(|bucket| bucket.client == client)
}

fn micros(now: Timestamp) -> i64 {
    now.unix_millis().saturating_mul(1000)
}

#[cfg(test)]
mod tests;
