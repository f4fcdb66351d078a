//! The store in Redis or Valkey: one server, the master that Sentinels name, or a Cluster; shared by all replicas.
//!
//! INVARIANT: each primitive is one script, so one atomic step and one round trip, whose answer also says which server
//! took it and since when that forgot nothing. `docs/redis.md` has the layout of keys, the user's permissions and what
//! each failure does.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's answers and errors are open enums: what is not known is a fault, and nothing else"
)]

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use redis::Cmd;
use redis::Value;
use tokio::time::Instant;

use crate::time::Timestamp;

use self::connect::Connection;
use self::epoch::HighWater;
use self::epoch::Sight;
use self::keys::Bucket;
use self::keys::Keys;
use self::link::Links;
use self::primitive::Primitive;
use self::script::Step;
use super::Cursor;
use super::ListBounds;
use super::RETENTION_MARGIN;
use super::Reserved;
use super::SetOnce;
use super::Store;
use super::StoreError;
use super::WhenFull;

mod connect;
mod epoch;
mod fault;
mod keys;
mod link;
mod options;
mod primitive;
mod script;

pub use self::fault::Fault as RedisFault;
pub use self::options::Endpoint;
pub use self::options::EndpointError;
pub use self::options::ReadFile;
pub use self::options::RedisOptions;
pub use self::options::Topology;
pub use self::primitive::RedisCall;

use self::fault::Failed;
use self::fault::Fault;

/// What a stored value begins with.
const VALUE: u8 = b'v';

/// A [`Store`] in Redis.
pub struct RedisStore {
    links: Links,
    clustered: bool,
    keys: Keys,
    high_water: HighWater,
    observe: Box<dyn Fn(RedisCall) + Send + Sync>,
    replicas: u32,
    /// How long replicas are waited for, in milliseconds: a third of what the answer may take, as a server that has not
    /// seen the script makes it two.
    replica_millis: u64,
}

/// A script's answer: what came of it, and the value that belongs to that.
struct Answer {
    /// The server's clock.
    now: Timestamp,
    outcome: Vec<u8>,
    value: Option<Value>,
}

/// A call of a script.
struct Call<'a> {
    primitive: Primitive,
    step: &'static Step,
    bucket: Bucket,
    key: Option<Vec<u8>>,
    arguments: Vec<&'a [u8]>,
    /// Whether replicas must have it before it counts.
    confirmed: bool,
}

impl RedisStore {
    /// The store at those servers. Each runtime connects when it first calls.
    pub fn new(options: RedisOptions) -> Self {
        let clustered = options.clustered();
        Self {
            clustered,
            keys: Keys::new(&options.key_prefix, clustered),
            replicas: options.wait_for_replicas,
            replica_millis: u64::try_from(options.timeout.as_millis() / 3).unwrap_or(u64::MAX).max(1),
            links: Links::new(options),
            high_water: HighWater::default(),
            observe: Box::new(|_| {}),
        }
    }

    /// Tells of every call how it ended.
    #[must_use]
    pub fn observed(mut self, observe: impl Fn(RedisCall) + Send + Sync + 'static) -> Self {
        self.observe = Box::new(observe);
        self
    }

    /// Connects, makes sure that the server is fit to remember and that the user may do all that is needed, and looks
    /// since when nothing was forgotten.
    pub async fn check(&self) -> Result<(), RedisFault> {
        let replicas = self.replicas.to_string();
        for bucket in self.keys.buckets() {
            let allowed = self.on_epoch(bucket, &script::ALLOWED, vec![replicas.as_bytes()]).await;
            let allowed = allowed.map_err(Failed::fault)?;
            if allowed.outcome != b"done" {
                return Err(Fault::Permission);
            }
        }
        Ok(())
    }

    async fn on_epoch(&self, bucket: Bucket, step: &'static Step, arguments: Vec<&[u8]>) -> Result<Answer, Failed> {
        self.run(Call { primitive: Primitive::Epoch, step, bucket, key: None, arguments, confirmed: false }).await
    }

    async fn on_key(
        &self,
        primitive: Primitive,
        step: &'static Step,
        key: &[u8],
        arguments: Vec<&[u8]>,
    ) -> Result<Answer, Failed> {
        let bucket = self.keys.bucket(key);
        let confirmed = self.replicas > 0 && matches!(primitive, Primitive::SetOnce | Primitive::Reserve);
        self.run(Call { primitive, step, bucket, key: Some(self.keys.key(key)), arguments, confirmed }).await
    }

    async fn on_list(
        &self,
        primitive: Primitive,
        step: &'static Step,
        list: &str,
        arguments: Vec<&[u8]>,
        confirmed: bool,
    ) -> Result<Answer, Failed> {
        let (bucket, key) = (self.keys.bucket(list.as_bytes()), Some(self.keys.list(list)));
        self.run(Call { primitive, step, bucket, key, arguments, confirmed: confirmed && self.replicas > 0 }).await
    }

    /// Runs a script and takes note of the server that it ran on, before anything is made of its answer.
    async fn run(&self, call: Call<'_>) -> Result<Answer, Failed> {
        let started = Instant::now();
        let answered = self.links.here().call(|connection| self.send(connection, &call)).await;
        let answer =
            answered.and_then(|value| Ok(self.noted(call.bucket, value)?)).map_err(|failed| self.placed(failed));
        let fault = answer.as_ref().err().map(|failed| failed.fault().label());
        (self.observe)(RedisCall { primitive: call.primitive.label(), fault, took: started.elapsed() });
        answer
    }

    /// A failure as what it is where this store is.
    const fn placed(&self, failed: Failed) -> Failed {
        if self.clustered { failed.in_cluster() } else { failed }
    }

    async fn send(&self, mut connection: Connection, call: &Call<'_>) -> Result<Value, Fault> {
        match self.attempt(&mut connection, call, "EVALSHA", &call.step.digest).await {
            Err(Fault::UnknownScript) => self.attempt(&mut connection, call, "EVAL", &call.step.text).await,
            answer => answer,
        }
    }

    async fn attempt(
        &self,
        connection: &mut Connection,
        call: &Call<'_>,
        verb: &str,
        script: &str,
    ) -> Result<Value, Fault> {
        let command = self.command(call, verb, script);
        if call.confirmed {
            connection.send_and_wait(&command, Keys::slot(call.bucket), self.replicas, self.replica_millis).await
        } else {
            connection.send(&command).await
        }
    }

    fn command(&self, call: &Call<'_>, verb: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(verb);
        command.arg(script).arg(if call.key.is_some() { 2 } else { 1 }).arg(self.keys.epoch(call.bucket));
        if let Some(key) = &call.key {
            command.arg(key);
        }
        for argument in &call.arguments {
            command.arg(*argument);
        }
        command
    }

    fn noted(&self, bucket: Bucket, answer: Value) -> Result<Answer, Fault> {
        let Value::Array(parts) = answer else { return Err(Fault::Answer) };
        let mut parts = parts.into_iter();
        let mut next = || parts.next().ok_or(Fault::Answer);
        let (server, since, now, outcome) = (bytes(next()?)?, moment(next()?)?, moment(next()?)?, bytes(next()?)?);
        self.high_water.note(bucket, Sight { server, since, now });
        match outcome.as_slice() {
            b"past" => Err(Fault::Past),
            _ => Ok(Answer { now, outcome, value: parts.next() }),
        }
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn set_once(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<SetOnce, StoreError> {
        let (until, value) = (millis(until), tagged(value));
        let arguments = vec![until.as_bytes(), &value];
        let answer = self.on_key(Primitive::SetOnce, &script::SET_ONCE, key, arguments).await?;
        Ok(match answer.outcome.as_slice() {
            b"done" => SetOnce::Set,
            b"held" => SetOnce::Held(untagged(answer.held()?)?),
            _ => return Err(Fault::Answer.into()),
        })
    }

    async fn reserve(
        &self,
        key: &[u8],
        member: &[u8],
        value: &[u8],
        limit: u32,
        until: Timestamp,
    ) -> Result<Reserved, StoreError> {
        let (until, limit) = (millis(until), limit.to_string());
        let arguments = vec![until.as_bytes(), member, value, limit.as_bytes()];
        let answer = self.on_key(Primitive::Reserve, &script::RESERVE, key, arguments).await?;
        Ok(match answer.outcome.as_slice() {
            b"done" => Reserved::Reserved,
            b"held" => Reserved::Held(answer.held()?),
            b"full" => Reserved::Full,
            _ => return Err(Fault::Answer.into()),
        })
    }

    async fn put(&self, key: &[u8], value: &[u8], until: Timestamp) -> Result<(), StoreError> {
        let (until, value) = (millis(until), tagged(value));
        self.on_key(Primitive::Put, &script::PUT, key, vec![until.as_bytes(), &value]).await?;
        Ok(())
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        let answer = self.on_key(Primitive::Get, &script::GET, key, Vec::new()).await?;
        Ok(match answer.outcome.as_slice() {
            b"none" => None,
            _ => Some(untagged(answer.held()?)?.into()),
        })
    }

    async fn add(&self, key: &[u8], amount: u64, until: Timestamp) -> Result<u64, StoreError> {
        let amount = i64::try_from(amount).map_err(|_| Fault::Range)?.to_string();
        let until = millis(until);
        let answer = self.on_key(Primitive::Add, &script::ADD, key, vec![until.as_bytes(), amount.as_bytes()]).await?;
        number(&answer.held()?).ok_or_else(|| Fault::Answer.into())
    }

    async fn append(&self, list: &str, entry: &[u8], bounds: ListBounds) -> Result<Cursor, StoreError> {
        let (keep, cap) = (bounds.keep.as_millis().to_string(), bounds.cap.to_string());
        let (when_full, confirmed): (&[u8], bool) = match bounds.when_full {
            WhenFull::Refuse => (b"refuse", true),
            WhenFull::DropOldest => (b"drop", false),
        };
        let arguments = vec![entry, keep.as_bytes(), cap.as_bytes(), when_full];
        let answer = self.on_list(Primitive::Append, &script::APPEND, list, arguments, confirmed).await?;
        match answer.outcome.as_slice() {
            b"full" => Err(self.placed(Failed::Sent(Fault::Full)).into()),
            _ => Ok(cursor(&answer.held()?)?),
        }
    }

    async fn since(
        &self,
        list: &str,
        cursor: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Vec<u8>)>, StoreError> {
        // Redis takes neither a count of nothing nor a place after the last.
        if limit == 0 || cursor.is_some_and(|cursor| *cursor == Cursor::new(u64::MAX, u64::MAX)) {
            return Ok(Vec::new());
        }
        let (from, limit) = (cursor.map_or_else(|| "-".to_owned(), |cursor| format!("({cursor}")), limit.to_string());
        let arguments = vec![from.as_bytes(), limit.as_bytes()];
        let answer = self.on_list(Primitive::Since, &script::SINCE, list, arguments, false).await?;
        let (now, entries) = (answer.now, entries(answer.value.ok_or(Fault::Answer)?)?);
        // SECURITY: whoever has read an entry from the future would pass over all that are appended before it, for as
        // long as that lasts.
        if entries.last().is_some_and(|(at, _)| at.appended_at() > now.plus(RETENTION_MARGIN)) {
            return Err(Fault::Answer.into());
        }
        Ok(entries)
    }

    async fn remembers_since(&self) -> Result<Timestamp, StoreError> {
        if self.high_water.highest().is_none() {
            for bucket in self.keys.buckets() {
                self.on_epoch(bucket, &script::TOUCH, Vec::new()).await?;
            }
        }
        Ok(self.high_water.highest().ok_or(Fault::Answer)?)
    }
}

impl Answer {
    fn held(self) -> Result<Vec<u8>, Fault> {
        bytes(self.value.ok_or(Fault::Answer)?)
    }
}

fn millis(moment: Timestamp) -> String {
    moment.unix_millis().to_string()
}

fn tagged(value: &[u8]) -> Vec<u8> {
    [&[VALUE], value].concat()
}

fn untagged(held: Vec<u8>) -> Result<Vec<u8>, Fault> {
    held.strip_prefix(&[VALUE]).map(<[u8]>::to_vec).ok_or(Fault::Kind)
}

fn bytes(value: Value) -> Result<Vec<u8>, Fault> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(Fault::Answer),
    }
}

fn moment(value: Value) -> Result<Timestamp, Fault> {
    match value {
        Value::Int(millis) => Ok(Timestamp::from_unix_millis(millis)),
        _ => Err(Fault::Answer),
    }
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn cursor(text: &[u8]) -> Result<Cursor, Fault> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Fault::Answer)
}

/// The entries of a stream: `[[place, [field, entry]], …]`.
fn entries(value: Value) -> Result<Vec<(Cursor, Vec<u8>)>, Fault> {
    let list = |value| match value {
        Value::Array(items) => Ok(items.into_iter()),
        _ => Err(Fault::Answer),
    };
    let entry = |value| {
        let mut parts = list(value)?;
        let at = cursor(&bytes(parts.next().ok_or(Fault::Answer)?)?)?;
        let mut fields = list(parts.next().ok_or(Fault::Answer)?)?;
        let entry = bytes(fields.nth(1).ok_or(Fault::Answer)?)?;
        Ok((at, entry))
    };
    list(value)?.map(entry).collect()
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("links", &self.links).finish_non_exhaustive()
    }
}
