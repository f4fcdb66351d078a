//! The store of one process: nothing is shared, and nothing survives it.
//!
//! INVARIANT: no entry is dropped before its time; a full store refuses writes. SECURITY: an attacker who can make
//! entries must not be able to push out the record of a token that was used.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use crate::time::Clock;
use crate::time::Timestamp;

use super::Cursor;
use super::ListBounds;
use super::Reserved;
use super::SetOnce;
use super::Store;
use super::StoreError;
use super::WhenFull;

/// What an entry costs beyond its bytes: slots in the map and the timer, headers of its allocations. An estimate on
/// the high side, so that the capacity bounds what the process really takes.
const OVERHEAD: usize = 192;
/// How many due timers a write looks at. It sets at most one, so that expired entries cannot pile up.
const TIMERS_PER_WRITE: usize = 4;

const WRONG_KIND: StoreError = StoreError::Unavailable { reason: "the key holds another kind of value" };
const PAST: StoreError = StoreError::Unavailable { reason: "what must be remembered is over by its clock" };
const OUT_OF_RANGE: StoreError = StoreError::Unavailable { reason: "a count is out of range" };
const BROKEN: StoreError = StoreError::Unavailable { reason: "an earlier operation was interrupted" };

/// A [`Store`] in memory.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    started: Timestamp,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    entries: HashMap<Arc<[u8]>, Entry>,
    /// One timer for each entry, by the whole second at which it is due: the first after the entry's end, unless a
    /// `put` moved that. Until then an entry that is over takes room, and is as good as gone.
    timers: BTreeMap<i64, Vec<Arc<[u8]>>>,
    lists: HashMap<Box<str>, List>,
    /// Bytes in use, by [`OVERHEAD`]'s reckoning.
    used: usize,
    capacity: usize,
    /// The latest moment seen. SECURITY: time here never goes back, else a clock set back would revive tokens whose
    /// first use is forgotten.
    now: Timestamp,
    /// What the present step has taken out. It is freed after the lock: a copy may have hundreds of megabytes, and
    /// requests wait for the lock.
    taken_out: Vec<Content>,
}

#[derive(Debug)]
struct Entry {
    until: Timestamp,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Value(Arc<[u8]>),
    Members(HashMap<Box<[u8]>, Box<[u8]>>),
    Count(u64),
}

#[derive(Debug)]
struct List {
    entries: VecDeque<(Cursor, Box<[u8]>)>,
    last: Cursor,
    keep: Duration,
}

impl MemoryStore {
    /// An empty store that takes at most about `capacity` bytes.
    pub fn new(clock: Arc<dyn Clock>, capacity: usize) -> Self {
        let started = clock.now();
        let inner = Inner {
            entries: HashMap::new(),
            timers: BTreeMap::new(),
            lists: HashMap::new(),
            used: 0,
            capacity,
            now: started,
            taken_out: Vec::new(),
        };
        Self { clock, started, inner: Mutex::new(inner) }
    }

    /// About how many bytes are in use.
    pub fn used(&self) -> usize {
        self.inner.lock().map_or(0, |inner| inner.used)
    }

    /// Runs one step under the lock, at the present moment.
    fn step<T>(&self, step: impl FnOnce(&mut Inner) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.inner.lock().map_err(|_| BROKEN)?;
        inner.now = inner.now.max(self.clock.now());
        let outcome = step(&mut inner);
        let taken_out = std::mem::take(&mut inner.taken_out);
        drop(inner);
        drop(taken_out);
        outcome
    }

    /// A step that keeps something until then.
    fn write<T>(
        &self,
        until: Timestamp,
        step: impl FnOnce(&mut Inner) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.step(|inner| {
            if until <= inner.now {
                return Err(PAST);
            }
            inner.expire(TIMERS_PER_WRITE);
            step(inner)
        })
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn set_once(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<SetOnce, StoreError> {
        let value = Content::Value(value.into());
        let held = self.write(until, |inner| match inner.live(key).map(|entry| &entry.content) {
            Some(Content::Value(held)) => Ok(Some(Arc::clone(held))),
            Some(Content::Members(_) | Content::Count(_)) => Err(WRONG_KIND),
            None => inner.insert(key, value, until).map(|()| None),
        });
        Ok(held?.map_or(SetOnce::Set, |held| SetOnce::Held(held.to_vec())))
    }

    async fn reserve(
        &self,
        key: &[u8],
        member: &[u8],
        value: &[u8],
        limit: u32,
        until: Timestamp,
    ) -> Result<Reserved, StoreError> {
        self.write(until, |inner| {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            match inner.live(key).map(|entry| &entry.content) {
                Some(Content::Members(members)) => match members.get(member) {
                    Some(held) => return Ok(Reserved::Held(held.to_vec())),
                    None if members.len() >= limit => return Ok(Reserved::Full),
                    None => inner.add_member(key, member, value, until)?,
                },
                Some(Content::Value(_) | Content::Count(_)) => return Err(WRONG_KIND),
                None if limit == 0 => return Ok(Reserved::Full),
                None => {
                    inner.insert(key, Content::Members(HashMap::from([(member.into(), value.into())])), until)?;
                }
            }
            Ok(Reserved::Reserved)
        })
    }

    async fn put(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError> {
        let value = Content::Value(value.into());
        self.write(until, |inner| inner.insert(key, value, until))
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        self.step(|inner| match inner.live(key).map(|entry| &entry.content) {
            Some(Content::Value(value)) => Ok(Some(Arc::clone(value))),
            Some(Content::Members(_) | Content::Count(_)) => Err(WRONG_KIND),
            None => Ok(None),
        })
    }

    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError> {
        self.write(until, |inner| {
            let sum = |count: u64| count.checked_add(amount).filter(|sum| i64::try_from(*sum).is_ok());
            match inner.live(key).map(|entry| &mut entry.content) {
                Some(Content::Count(count)) => {
                    *count = sum(*count).ok_or(OUT_OF_RANGE)?;
                    Ok(*count)
                }
                Some(Content::Value(_) | Content::Members(_)) => Err(WRONG_KIND),
                None => {
                    let count = sum(0).ok_or(OUT_OF_RANGE)?;
                    inner.insert(key, Content::Count(count), until).map(|()| count)
                }
            }
        })
    }

    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        self.step(|inner| {
            inner.expire(TIMERS_PER_WRITE);
            inner.append(list, entry, bounds)
        })
    }

    async fn since(
        &self,
        list: &str,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError> {
        self.step(|inner| {
            let Some(list) = inner.lists.get(list) else { return Ok(Vec::new()) };
            let start = cursor.map_or(0, |cursor| list.entries.partition_point(|(at, _)| at <= cursor));
            Ok(list.entries.iter().skip(start).take(limit).map(|(at, entry)| (*at, entry.to_vec())).collect())
        })
    }

    async fn remembers_since(&self) -> Result<Timestamp, StoreError> {
        Ok(self.started)
    }
}

impl Inner {
    /// The entry of that key, if its time is not over.
    fn live(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let now = self.now;
        self.entries.get_mut(key).filter(|entry| entry.until > now)
    }

    /// Sets the key, in place of whatever it holds, unless there is no room.
    fn insert(&mut self, key: &[u8], content: Content, until: Timestamp) -> Result<(), StoreError> {
        self.take(cost(key, &content))?;
        let entry = Entry { until, content };
        if let Some(place) = self.entries.get_mut(key) {
            // Its timer stays: when due it is set again to the end that holds then.
            let replaced = std::mem::replace(place, entry);
            self.used = self.used.saturating_sub(cost(key, &replaced.content));
            self.taken_out.push(replaced.content);
        } else {
            let key: Arc<[u8]> = key.into();
            self.timers.entry(due(until)).or_default().push(Arc::clone(&key));
            self.entries.insert(key, entry);
        }
        Ok(())
    }

    fn add_member(&mut self, key: &[u8], member: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError> {
        self.take(member_cost(member, value))?;
        if let Some(Entry { until: end, content: Content::Members(members) }) = self.entries.get_mut(key) {
            members.insert(member.into(), value.into());
            *end = until.max(*end);
        }
        Ok(())
    }

    fn append(&mut self, name: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        let cap = usize::try_from(bounds.cap).unwrap_or(usize::MAX);
        self.trim(name, bounds.keep);
        let held = self.lists.get(name).map_or(0, |list| list.entries.len());
        if held >= cap {
            match bounds.when_full {
                WhenFull::Refuse => return Err(StoreError::Full),
                WhenFull::DropOldest => self.drop_oldest(name, held.saturating_sub(cap).saturating_add(1)),
            }
        }
        self.take(entry_cost(entry))?;
        if !self.lists.contains_key(name) {
            let list = List { entries: VecDeque::new(), last: Cursor::new(0, 0), keep: bounds.keep };
            self.lists.insert(name.into(), list);
        }
        let list = self.lists.get_mut(name).ok_or(BROKEN)?;
        list.keep = bounds.keep;
        list.last = list.last.next(self.now);
        list.entries.push_back((list.last, entry.into()));
        Ok(list.last)
    }

    /// Drops the entries of a list that are older than that.
    fn trim(&mut self, name: &str, keep: Duration) {
        let oldest = self.now.minus(keep);
        let over =
            self.lists.get(name).map_or(0, |list| list.entries.partition_point(|(at, _)| at.appended_at() <= oldest));
        self.drop_oldest(name, over);
    }

    fn drop_oldest(&mut self, name: &str, count: usize) {
        if let Some(list) = self.lists.get_mut(name) {
            let count = count.min(list.entries.len());
            let freed: usize = list.entries.drain(..count).map(|(_, entry)| entry_cost(&entry)).sum();
            self.used = self.used.saturating_sub(freed);
        }
    }

    /// Takes that many bytes of the capacity, if there are so many or dropping what is over frees them.
    fn take(&mut self, bytes: usize) -> Result<(), StoreError> {
        if self.used.saturating_add(bytes) > self.capacity {
            self.expire(usize::MAX);
            let lists: Vec<(Box<str>, Duration)> = self.lists.iter().map(|(n, l)| (n.clone(), l.keep)).collect();
            for (name, keep) in lists {
                self.trim(&name, keep);
            }
        }
        let used = self.used.saturating_add(bytes);
        if used > self.capacity {
            return Err(StoreError::Full);
        }
        self.used = used;
        Ok(())
    }

    /// Looks at up to that many due timers and drops the entries whose time is over.
    fn expire(&mut self, timers: usize) {
        for _ in 0..timers {
            let Some(mut second) = self.timers.first_entry().filter(|second| *second.key() <= self.now.unix_seconds())
            else {
                return;
            };
            let Some(key) = second.get_mut().pop() else {
                second.remove();
                continue;
            };
            match self.entries.get(&key) {
                Some(entry) if entry.until > self.now => {
                    self.timers.entry(due(entry.until)).or_default().push(key);
                }
                Some(_) | None => {
                    if let Some(entry) = self.entries.remove(&key) {
                        self.used = self.used.saturating_sub(cost(&key, &entry.content));
                        self.taken_out.push(entry.content);
                    }
                }
            }
        }
    }
}

/// The first whole second at which that moment is past.
fn due(until: Timestamp) -> i64 {
    until.plus(Duration::from_millis(999)).unix_seconds()
}

fn cost(key: &[u8], content: &Content) -> usize {
    let content = match content {
        Content::Value(value) => value.len(),
        Content::Members(members) => members.iter().map(|(member, value)| member_cost(member, value)).sum(),
        Content::Count(_) => 0,
    };
    OVERHEAD.saturating_add(key.len()).saturating_add(content)
}

fn member_cost(member: &[u8], value: &[u8]) -> usize {
    OVERHEAD.saturating_add(member.len()).saturating_add(value.len())
}

fn entry_cost(entry: &[u8]) -> usize {
    OVERHEAD.saturating_add(entry.len())
}
