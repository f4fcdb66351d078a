//! What every store promises: one suite, run against each of them.
//!
//! A store is tested through a [`Bench`], which says how its time passes. A new store adds a bench and a line to
//! [`suite`]'s callers; the sentences stay the same.

use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use trustmint::state::Cursor;
use trustmint::state::ListBounds;
use trustmint::state::Reserved;
use trustmint::state::SetOnce;
use trustmint::state::Store;
use trustmint::state::StoreError;
use trustmint::state::WhenFull;
use trustmint::time::Timestamp;

use crate::store_contract::bench::Bench;
use crate::store_contract::bench::MemoryBench;
use crate::store_contract::faulty::Fault;
use crate::store_contract::faulty::FaultyStore;

pub(crate) mod bench;
mod faults;
pub(crate) mod faulty;
mod memory_only;
pub(crate) mod redis_bench;
mod redis_only;
mod redis_topologies;

const MINUTE: Duration = Duration::from_secs(60);
const TASKS: usize = 1000;
const WINDOW: ListBounds = ListBounds { keep: MINUTE, cap: 3, when_full: WhenFull::DropOldest };
const LEDGER: ListBounds = ListBounds { keep: MINUTE, cap: 3, when_full: WhenFull::Refuse };

/// Runs each sentence as a test of its own, on a fresh bench.
macro_rules! suite {
    ($name:ident, $bench:expr) => {
        mod $name {
            use super::*;

            suite!(@each $bench;
                the_first_set_wins_and_later_ones_learn_its_value,
                a_value_ends_with_its_time_and_not_before,
                a_later_set_does_not_extend_the_first,
                of_concurrent_sets_exactly_one_wins,
                what_is_over_cannot_be_remembered,
                any_bytes_are_a_key_and_a_value,
                keys_do_not_meet,
                put_replaces_value_and_end,
                put_and_set_once_share_their_keys,
                members_are_reserved_once_and_up_to_the_limit,
                a_limit_of_none_is_full,
                the_limit_is_exact_under_concurrency,
                one_member_reserved_concurrently_is_one_member,
                a_map_lives_as_long_as_its_longest_member,
                a_counter_adds_within_its_window,
                later_additions_do_not_move_the_window,
                no_addition_is_lost,
                a_counter_does_not_wrap,
                kinds_are_not_mixed,
                a_list_is_read_in_order_from_a_cursor,
                a_window_drops_its_oldest_entries,
                a_ledger_refuses_when_full_until_entries_are_over,
                lists_do_not_meet,
                concurrent_appends_are_all_there_in_the_order_of_their_cursors,
                a_follower_misses_nothing,
                a_cursor_survives_its_text,
                it_says_since_when_it_remembers
            );
        }
    };
    (@each $bench:expr; $($sentence:ident),+) => {
        $(#[test] fn $sentence() { bench::run(super::$sentence(&$bench)); })+
    };
}

suite!(memory, MemoryBench::new());
suite!(faulty_without_faults, MemoryBench::behind_faults());
suite!(redis, redis_bench::RedisBench::new());
suite!(redis_as_documented_user, redis_bench::RedisBench::as_documented_user());
suite!(redis_cluster, redis_bench::RedisBench::in_a_cluster());
suite!(redis_sentinel, redis_bench::RedisBench::behind_a_sentinel());
suite!(redis_tls, redis_bench::RedisBench::over_tls());

async fn the_first_set_wins_and_later_ones_learn_its_value(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    assert_eq!(store.set_once(b"k", b"first", until).await, Ok(SetOnce::Set));
    assert_eq!(store.set_once(b"k", b"second", until).await, Ok(SetOnce::Held(b"first".to_vec())));
    assert_eq!(store.set_once(b"k", b"first", until).await, Ok(SetOnce::Held(b"first".to_vec())));
    assert_eq!(store.get(b"k").await, Ok(Some(Arc::from(b"first".to_vec()))));
    assert_eq!(store.get(b"other").await, Ok(None));
}

async fn a_value_ends_with_its_time_and_not_before(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(bench.step() * 2));
    assert_eq!(store.set_once(b"k", b"first", until).await, Ok(SetOnce::Set));
    bench.pass(bench.step()).await;
    assert_eq!(store.set_once(b"k", b"second", until).await, Ok(SetOnce::Held(b"first".to_vec())));
    bench.pass(bench.step()).await;
    assert_eq!(store.get(b"k").await, Ok(None));
    let until = bench.now().plus(MINUTE);
    assert_eq!(store.set_once(b"k", b"second", until).await, Ok(SetOnce::Set));
}

async fn a_later_set_does_not_extend_the_first(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(bench.step()));
    assert_eq!(store.set_once(b"k", b"first", until).await, Ok(SetOnce::Set));
    assert!(matches!(store.set_once(b"k", b"second", until.plus(MINUTE)).await, Ok(SetOnce::Held(_))));
    bench.pass(bench.step()).await;
    assert_eq!(store.get(b"k").await, Ok(None));
}

async fn of_concurrent_sets_exactly_one_wins(bench: &dyn Bench) {
    let until = bench.now().plus(MINUTE);
    let answers = concurrently(bench, move |store, task| async move {
        store.set_once(b"k", task.to_string().as_bytes(), until).await
    });
    let winners: Vec<usize> = (0..TASKS).filter(|task| answers[*task] == Ok(SetOnce::Set)).collect();
    assert_eq!(winners.len(), 1);
    let held = SetOnce::Held(winners[0].to_string().into_bytes());
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(held.clone())).count(), TASKS - 1);
}

async fn what_is_over_cannot_be_remembered(bench: &dyn Bench) {
    let store = bench.store();
    for until in [bench.now(), bench.now().minus(MINUTE), Timestamp::from_unix_millis(0)] {
        assert!(is_unavailable(&store.set_once(b"k", b"v", until).await), "{until}");
        assert!(is_unavailable(&store.reserve(b"m", b"a", b"v", 1, until).await), "{until}");
        assert!(is_unavailable(&store.put(b"k", b"v", until).await), "{until}");
        assert!(is_unavailable(&store.add(b"c", 1, until).await), "{until}");
    }
    let until = bench.now().plus(MINUTE);
    assert_eq!(store.get(b"k").await, Ok(None));
    assert_eq!(store.reserve(b"m", b"a", b"v", 1, until).await, Ok(Reserved::Reserved));
    assert_eq!(store.add(b"c", 1, until).await, Ok(1));
}

async fn any_bytes_are_a_key_and_a_value(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    let large = vec![7; 70_000];
    let odd: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"a\r\nb", b"\xff\xfe", &large];
    for (index, bytes) in odd.into_iter().enumerate() {
        let key = [b"set:", &bytes[..bytes.len().min(1000)]].concat();
        assert_eq!(store.set_once(&key, bytes, until).await, Ok(SetOnce::Set), "{index}");
        assert_eq!(store.set_once(&key, b"x", until).await, Ok(SetOnce::Held(bytes.to_vec())), "{index}");
        assert_eq!(store.get(&key).await, Ok(Some(Arc::from(bytes.to_vec()))), "{index}");
        assert_eq!(store.reserve(b"map", &key, bytes, 100, until).await, Ok(Reserved::Reserved), "{index}");
        assert_eq!(store.reserve(b"map", &key, b"x", 100, until).await, Ok(Reserved::Held(bytes.to_vec())), "{index}");
        let at = store.append("list", bytes, ListBounds { cap: 100, ..LEDGER }).await.unwrap();
        assert_eq!(store.since("list", None, 100).await.unwrap().pop(), Some((at, bytes.to_vec())), "{index}");
    }
}

async fn keys_do_not_meet(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    for key in [&b"a"[..], b"A", b"a ", b"a\0", b"ab", b"a*", b"{a}", b"a:b"] {
        assert_eq!(store.set_once(key, key, until).await, Ok(SetOnce::Set), "{key:?}");
    }
    assert_eq!(store.get(b"a").await, Ok(Some(Arc::from(b"a".to_vec()))));
    // A list's name is no key.
    store.append("a", b"entry", WINDOW).await.unwrap();
    assert_eq!(store.get(b"a").await, Ok(Some(Arc::from(b"a".to_vec()))));
}

async fn put_replaces_value_and_end(bench: &dyn Bench) {
    let (store, now) = (bench.store(), bench.now());
    assert_eq!(store.put(b"k", b"one", now.plus(bench.step())).await, Ok(()));
    assert_eq!(store.put(b"k", b"two", now.plus(bench.step() * 3)).await, Ok(()));
    bench.pass(bench.step() * 2).await;
    assert_eq!(store.get(b"k").await, Ok(Some(Arc::from(b"two".to_vec()))));
    assert_eq!(store.put(b"k", b"three", bench.now().plus(bench.step())).await, Ok(()));
    bench.pass(bench.step()).await;
    assert_eq!(store.get(b"k").await, Ok(None));
}

async fn put_and_set_once_share_their_keys(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    assert_eq!(store.put(b"k", b"put", until).await, Ok(()));
    assert_eq!(store.set_once(b"k", b"set", until).await, Ok(SetOnce::Held(b"put".to_vec())));
}

async fn members_are_reserved_once_and_up_to_the_limit(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    assert_eq!(store.reserve(b"m", b"a", b"1", 2, until).await, Ok(Reserved::Reserved));
    assert_eq!(store.reserve(b"m", b"a", b"2", 2, until).await, Ok(Reserved::Held(b"1".to_vec())));
    assert_eq!(store.reserve(b"m", b"b", b"3", 2, until).await, Ok(Reserved::Reserved));
    assert_eq!(store.reserve(b"m", b"c", b"4", 2, until).await, Ok(Reserved::Full));
    assert_eq!(store.reserve(b"m", b"a", b"5", 2, until).await, Ok(Reserved::Held(b"1".to_vec())));
    assert_eq!(store.reserve(b"m", b"c", b"4", 1, until).await, Ok(Reserved::Full));
    assert_eq!(store.reserve(b"m", b"c", b"4", 3, until).await, Ok(Reserved::Reserved));
    assert_eq!(store.reserve(b"other", b"c", b"6", 1, until).await, Ok(Reserved::Reserved));
}

async fn a_limit_of_none_is_full(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    assert_eq!(store.reserve(b"m", b"a", b"1", 0, until).await, Ok(Reserved::Full));
    assert_eq!(store.reserve(b"m", b"a", b"1", 1, until).await, Ok(Reserved::Reserved));
    assert_eq!(store.reserve(b"m", b"a", b"1", 0, until).await, Ok(Reserved::Held(b"1".to_vec())));
}

async fn the_limit_is_exact_under_concurrency(bench: &dyn Bench) {
    let until = bench.now().plus(MINUTE);
    let answers = concurrently(bench, move |store, task| async move {
        store.reserve(b"m", task.to_string().as_bytes(), b"v", 7, until).await
    });
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Reserved::Reserved)).count(), 7);
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Reserved::Full)).count(), TASKS - 7);
}

async fn one_member_reserved_concurrently_is_one_member(bench: &dyn Bench) {
    let until = bench.now().plus(MINUTE);
    let answers = concurrently(bench, move |store, _| async move { store.reserve(b"m", b"a", b"v", 7, until).await });
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Reserved::Reserved)).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Reserved::Held(b"v".to_vec()))).count(), TASKS - 1);
}

async fn a_map_lives_as_long_as_its_longest_member(bench: &dyn Bench) {
    let (store, now) = (bench.store(), bench.now());
    let reserve = |member: &'static [u8], steps: u32| {
        let (store, until) = (Arc::clone(&store), now.plus(bench.step() * steps));
        async move { store.reserve(b"m", member, b"v", 2, until).await }
    };
    assert_eq!(reserve(b"a", 3).await, Ok(Reserved::Reserved));
    assert_eq!(reserve(b"b", 1).await, Ok(Reserved::Reserved));
    bench.pass(bench.step() * 2).await;
    assert_eq!(reserve(b"c", 9).await, Ok(Reserved::Full), "a shorter member must not bring the end forward");
    assert_eq!(reserve(b"a", 9).await, Ok(Reserved::Held(b"v".to_vec())));
    bench.pass(bench.step()).await;
    assert_eq!(reserve(b"c", 9).await, Ok(Reserved::Reserved), "what was not reserved does not extend");
}

async fn a_counter_adds_within_its_window(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(bench.step()));
    assert_eq!(store.add(b"c", 2, until).await, Ok(2));
    assert_eq!(store.add(b"c", 0, until).await, Ok(2));
    assert_eq!(store.add(b"c", 40, until).await, Ok(42));
    assert_eq!(store.add(b"other", 1, until).await, Ok(1));
    bench.pass(bench.step()).await;
    assert_eq!(store.add(b"c", 1, bench.now().plus(MINUTE)).await, Ok(1));
}

async fn later_additions_do_not_move_the_window(bench: &dyn Bench) {
    let (store, now) = (bench.store(), bench.now());
    assert_eq!(store.add(b"long", 1, now.plus(bench.step() * 2)).await, Ok(1));
    assert_eq!(store.add(b"long", 1, now.plus(bench.step())).await, Ok(2));
    assert_eq!(store.add(b"short", 1, now.plus(bench.step())).await, Ok(1));
    assert_eq!(store.add(b"short", 1, now.plus(MINUTE)).await, Ok(2));
    bench.pass(bench.step()).await;
    assert_eq!(store.add(b"long", 1, now.plus(MINUTE)).await, Ok(3));
    assert_eq!(store.add(b"short", 1, now.plus(MINUTE)).await, Ok(1));
}

async fn no_addition_is_lost(bench: &dyn Bench) {
    let until = bench.now().plus(MINUTE);
    let mut sums: Vec<u64> =
        concurrently(bench, move |store, _| async move { store.add(b"c", 1, until).await.unwrap() });
    sums.sort_unstable();
    assert_eq!(sums, (1..=TASKS as u64).collect::<Vec<_>>());
}

async fn a_counter_does_not_wrap(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    let most = i64::MAX.unsigned_abs();
    assert!(is_unavailable(&store.add(b"new", most + 1, until).await));
    assert_eq!(store.add(b"c", most - 1, until).await, Ok(most - 1));
    assert_eq!(store.add(b"c", 1, until).await, Ok(most));
    assert!(is_unavailable(&store.add(b"c", 1, until).await));
    assert!(is_unavailable(&store.add(b"c", u64::MAX, until).await));
    assert_eq!(store.add(b"c", 0, until).await, Ok(most));
}

async fn kinds_are_not_mixed(bench: &dyn Bench) {
    let (store, until) = (bench.store(), bench.now().plus(MINUTE));
    store.set_once(b"value", b"text", until).await.unwrap();
    store.reserve(b"map", b"a", b"1", 9, until).await.unwrap();
    assert!(is_unavailable(&store.reserve(b"value", b"a", b"1", 9, until).await));
    assert!(is_unavailable(&store.add(b"value", 1, until).await));
    assert!(is_unavailable(&store.set_once(b"map", b"text", until).await));
    assert!(is_unavailable(&store.get(b"map").await));
    assert!(is_unavailable(&store.add(b"map", 1, until).await));
    assert_eq!(store.get(b"value").await, Ok(Some(Arc::from(b"text".to_vec()))));
    assert_eq!(store.reserve(b"map", b"a", b"2", 9, until).await, Ok(Reserved::Held(b"1".to_vec())));
}

async fn a_list_is_read_in_order_from_a_cursor(bench: &dyn Bench) {
    let store = bench.store();
    let bounds = ListBounds { cap: 100, ..LEDGER };
    assert_eq!(store.since("l", None, 10).await, Ok(vec![]));
    let mut at = Vec::new();
    for number in 0..5_u8 {
        at.push((store.append("l", &[number], bounds).await.unwrap(), vec![number]));
        if number == 2 {
            bench.pass(bench.step()).await;
        }
    }
    assert!(at.is_sorted_by(|one, next| one.0 < next.0));
    assert_eq!(store.since("l", None, 10).await.unwrap(), at);
    assert_eq!(store.since("l", None, 2).await.unwrap(), at[..2]);
    assert_eq!(store.since("l", Some(&at[1].0), 2).await.unwrap(), at[2..4]);
    assert_eq!(store.since("l", Some(&at[4].0), 2).await, Ok(vec![]));
    assert_eq!(store.since("l", None, 0).await, Ok(vec![]));
    assert_eq!(store.since("l", Some(&Cursor::new(0, 0)), 10).await.unwrap(), at);
    assert_eq!(store.since("l", Some(&Cursor::new(u64::MAX, u64::MAX)), 10).await, Ok(vec![]));
}

async fn a_window_drops_its_oldest_entries(bench: &dyn Bench) {
    let store = bench.store();
    for number in 0..10_u8 {
        store.append("l", &[number], WINDOW).await.unwrap();
    }
    let kept: Vec<Vec<u8>> = store.since("l", None, 100).await.unwrap().into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(kept, [[7], [8], [9]]);
}

async fn a_ledger_refuses_when_full_until_entries_are_over(bench: &dyn Bench) {
    let store = bench.store();
    let bounds = ListBounds { keep: bench.step() * 2, ..LEDGER };
    let first = store.append("l", b"a", bounds).await.unwrap();
    bench.pass(bench.step()).await;
    store.append("l", b"b", bounds).await.unwrap();
    store.append("l", b"c", bounds).await.unwrap();
    assert_eq!(store.append("l", b"d", bounds).await, Err(bench.full()));
    assert_eq!(store.since("l", None, 10).await.unwrap().len(), 3, "nothing was dropped");
    bench.pass(bench.step()).await;
    store.append("l", b"e", bounds).await.unwrap();
    assert_eq!(store.append("l", b"f", bounds).await, Err(bench.full()), "one was over, not two");
    let after: Vec<Vec<u8>> =
        store.since("l", Some(&first), 10).await.unwrap().into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(after, [b"b", b"c", b"e"]);
}

async fn lists_do_not_meet(bench: &dyn Bench) {
    let store = bench.store();
    store.append("a", b"1", LEDGER).await.unwrap();
    store.append("ab", b"2", LEDGER).await.unwrap();
    let read: Vec<_> = store.since("a", None, 9).await.unwrap().into_iter().map(|(_, entry)| entry).collect();
    assert_eq!(read, [b"1"]);
}

async fn concurrent_appends_are_all_there_in_the_order_of_their_cursors(bench: &dyn Bench) {
    let bounds = ListBounds { cap: 2000, ..LEDGER };
    let mut answers = concurrently(bench, move |store, task| async move {
        let entry = task.to_string().into_bytes();
        (store.append("l", &entry, bounds).await.unwrap(), entry)
    });
    answers.sort();
    assert_eq!(bench.store().since("l", None, 2000).await.unwrap(), answers);
}

async fn a_follower_misses_nothing(bench: &dyn Bench) {
    const ENTRIES: usize = 2000;
    let (store, bounds) = (bench.store(), ListBounds { cap: 3000, ..LEDGER });
    let writers: Vec<_> = (0..2)
        .map(|writer| {
            let store = bench.store();
            thread::spawn(move || {
                bench::run(async {
                    for number in 0..ENTRIES / 2 {
                        store.append("l", format!("{writer}-{number}").as_bytes(), bounds).await.unwrap();
                    }
                });
            })
        })
        .collect();
    let mut seen: Vec<(Cursor, Vec<u8>)> = Vec::new();
    while seen.len() < ENTRIES {
        let cursor = seen.last().map(|(at, _)| *at);
        let page = store.since("l", cursor.as_ref(), 50).await.unwrap();
        assert!(page.len() <= 50);
        if page.is_empty() && writers.iter().all(thread::JoinHandle::is_finished) {
            let rest = store.since("l", cursor.as_ref(), 1).await.unwrap();
            assert!(!rest.is_empty(), "{} entries were never seen", ENTRIES - seen.len());
        }
        seen.extend(page);
    }
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(store.since("l", None, 3000).await.unwrap(), seen);
}

async fn a_cursor_survives_its_text(bench: &dyn Bench) {
    let store = bench.store();
    let first = store.append("l", b"1", LEDGER).await.unwrap();
    let second = store.append("l", b"2", LEDGER).await.unwrap();
    let read: Cursor = first.to_string().parse().unwrap();
    assert_eq!(store.since("l", Some(&read), 9).await.unwrap(), [(second, b"2".to_vec())]);
}

async fn it_says_since_when_it_remembers(bench: &dyn Bench) {
    let store = bench.store();
    let since = store.remembers_since().await.unwrap();
    assert!(since <= bench.now());
    bench.pass(bench.step()).await;
    store.set_once(b"k", b"v", bench.now().plus(MINUTE)).await.unwrap();
    assert_eq!(store.remembers_since().await, Ok(since));
}

fn is_unavailable<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::Unavailable { .. } | StoreError::NotAsked { .. }))
}

/// The answers of 1,000 calls that really run at the same time: on several threads, released together.
fn concurrently<T, F>(bench: &dyn Bench, call: impl Fn(Arc<dyn Store>, usize) -> F + Copy + Send + 'static) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    const THREADS: usize = 8;
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let (store, barrier) = (bench.store(), Arc::clone(&barrier));
            thread::spawn(move || {
                bench::run(async {
                    let local: Vec<_> = (0..TASKS)
                        .filter(|task| task % THREADS == thread)
                        .map(|task| (task, call(Arc::clone(&store), task)))
                        .collect();
                    barrier.wait();
                    let running: Vec<_> = local.into_iter().map(|(task, call)| (task, tokio::spawn(call))).collect();
                    let mut answers = Vec::new();
                    for (task, call) in running {
                        answers.push((task, call.await.unwrap()));
                    }
                    answers
                })
            })
        })
        .collect();
    let mut answers: Vec<(usize, T)> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    answers.sort_by_key(|(task, _)| *task);
    answers.into_iter().map(|(_, answer)| answer).collect()
}
