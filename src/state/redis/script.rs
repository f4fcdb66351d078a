//! The scripts: each is one atomic step of the store, and says in the same step which server took it.
//!
//! A script answers `{server, since, now, outcome, value…}`. Keys are `KEYS[1]` (the bucket's epoch) and `KEYS[2]`.
//! A value is stored behind the letter `v`, so that it is never taken for a counter.

use std::sync::LazyLock;

use redis::Script;

/// What every script does first: reads the clock, and looks at the epoch as [`epoch`](super::epoch) says.
const PRELUDE: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local server = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') .. ':' ..
  string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
local mark = redis.pcall('GET', KEYS[1])
local marked, since
if type(mark) == 'string' then marked, since = string.match(mark, '^(%w+:%w+) (%d+)$') end
if marked == server and tonumber(since) <= now then
  since = tonumber(since)
else
  since = now
  redis.call('SET', KEYS[1], server .. ' ' .. string.format('%.0f', now))
end
local function answer(outcome, value) return {server, since, now, outcome, value} end
";

/// `ARGV[1]` is until when; nothing is written that is over.
const UNTIL: &str = r"
if tonumber(ARGV[1]) <= now then return answer('past') end
";

/// A script and its digest, by which a server that has seen it knows it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) text: String,
    pub(super) digest: String,
}

impl Step {
    fn new(parts: &[&str]) -> Self {
        let text = parts.concat();
        let digest = Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }
}

/// Looks at the epoch.
pub(super) static TOUCH: LazyLock<Step> = LazyLock::new(|| Step::new(&[PRELUDE, "return answer('done')"]));

/// Looks at the epoch, and whether the user may run every command of the other scripts: what is missing should be told
/// at start, not by the first revocation. `ARGV`: how many replicas are waited for.
pub(super) static ALLOWED: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[
        PRELUDE,
        r"
local needed = {'SET', 'GET', 'EXISTS', 'INCRBY', 'HGET', 'HLEN', 'HSET', 'PEXPIREAT', 'PEXPIRETIME',
  'XADD', 'XLEN', 'XRANGE', 'XTRIM'}
for _, command in ipairs(needed) do
  if not redis.acl_check_cmd(command, KEYS[1]) then return answer('denied', command) end
end
if not redis.acl_check_cmd('EVAL', '', '0') then return answer('denied', 'EVAL') end
if ARGV[1] ~= '0' and not redis.acl_check_cmd('WAIT', '1', '1') then return answer('denied', 'WAIT') end
return answer('done')",
    ])
});

/// `ARGV`: until, value.
pub(super) static SET_ONCE: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[
        PRELUDE,
        UNTIL,
        r"
local held = redis.call('GET', KEYS[2])
if held then return answer('held', held) end
redis.call('SET', KEYS[2], ARGV[2], 'PXAT', ARGV[1])
return answer('done')",
    ])
});

/// `ARGV`: until, member, value, limit.
pub(super) static RESERVE: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[
        PRELUDE,
        UNTIL,
        r"
local held = redis.call('HGET', KEYS[2], ARGV[2])
if held then return answer('held', held) end
if redis.call('HLEN', KEYS[2]) >= tonumber(ARGV[4]) then return answer('full') end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
if redis.call('PEXPIRETIME', KEYS[2]) < tonumber(ARGV[1]) then redis.call('PEXPIREAT', KEYS[2], ARGV[1]) end
return answer('done')",
    ])
});

/// `ARGV`: until, value.
pub(super) static PUT: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[PRELUDE, UNTIL, "redis.call('SET', KEYS[2], ARGV[2], 'PXAT', ARGV[1]) return answer('done')"])
});

/// No `ARGV`.
pub(super) static GET: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[
        PRELUDE,
        r"
local held = redis.call('GET', KEYS[2])
if held then return answer('held', held) end
return answer('none')",
    ])
});

/// `ARGV`: until, amount. The sum is read back as text: a number of Lua's is not exact above 2^53.
pub(super) static ADD: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[
        PRELUDE,
        UNTIL,
        r"
local new = redis.call('EXISTS', KEYS[2]) == 0
redis.call('INCRBY', KEYS[2], ARGV[2])
if new then redis.call('PEXPIREAT', KEYS[2], ARGV[1]) end
return answer('held', redis.call('GET', KEYS[2]))",
    ])
});

/// `ARGV`: entry, milliseconds to keep it, cap, `refuse` or `drop`.
pub(super) static APPEND: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[
        PRELUDE,
        r"
local keep = tonumber(ARGV[2])
redis.call('XTRIM', KEYS[2], 'MINID', '=', string.format('%.0f', math.max(now - keep + 1, 0)))
local cap = tonumber(ARGV[3])
if redis.call('XLEN', KEYS[2]) >= cap then
  if ARGV[4] == 'refuse' then return answer('full') end
  redis.call('XTRIM', KEYS[2], 'MAXLEN', '=', math.max(cap - 1, 0))
end
local at = redis.call('XADD', KEYS[2], '*', 'e', ARGV[1])
redis.call('PEXPIREAT', KEYS[2], string.format('%.0f', now + keep))
return answer('held', at)",
    ])
});

/// `ARGV`: the first place, how many.
pub(super) static SINCE: LazyLock<Step> = LazyLock::new(|| {
    Step::new(&[PRELUDE, "return answer('list', redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2]))"])
});
