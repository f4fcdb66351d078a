//! What only the store in memory promises: a bound on its size, and a time that never goes back.

use trustmint::state::MemoryStore;
use trustmint::time::Clock;

use super::*;

#[test]
fn a_full_store_refuses_and_forgets_nothing() {
    bench::run(async {
        let bench = MemoryBench::with_capacity(100_000);
        let (store, until) = (bench.store(), bench.now().plus(MINUTE));
        let mut kept = 0_u32;
        while store.set_once(&kept.to_be_bytes(), b"v", until).await == Ok(SetOnce::Set) {
            kept += 1;
        }
        assert!(kept > 100, "{kept}");
        for attempt in 0..10_000_u32 {
            let key = (1_000_000 + attempt).to_be_bytes();
            assert_eq!(store.set_once(&key, b"v", until).await, Err(StoreError::Full));
            assert_eq!(store.reserve(&key, b"m", b"v", 9, until).await, Err(StoreError::Full));
            assert_eq!(store.put(&key, b"v", until).await, Err(StoreError::Full));
            assert_eq!(store.add(&key, 1, until).await, Err(StoreError::Full));
            assert_eq!(store.append("l", &[0; 300], LEDGER).await, Err(StoreError::Full));
        }
        assert!(bench.used() <= 100_000);
        for number in 0..kept {
            let held = Ok(SetOnce::Held(b"v".to_vec()));
            assert_eq!(store.set_once(&number.to_be_bytes(), b"w", until).await, held);
        }
        bench.pass(MINUTE + Duration::from_secs(1)).await;
        let until = bench.now().plus(MINUTE);
        assert_eq!(store.set_once(b"new", b"v", until).await, Ok(SetOnce::Set), "what is over makes room");
    });
}

#[test]
fn one_large_value_does_not_get_past_the_bound() {
    bench::run(async {
        let bench = MemoryBench::with_capacity(100_000);
        let (store, until, large) = (bench.store(), bench.now().plus(MINUTE), vec![0; 200_000]);
        assert_eq!(store.put(b"k", &large, until).await, Err(StoreError::Full));
        assert_eq!(store.reserve(b"m", b"a", b"v", 9, until).await, Ok(Reserved::Reserved));
        assert_eq!(store.reserve(b"m", b"b", &large, 9, until).await, Err(StoreError::Full));
        assert_eq!(store.reserve(b"m", b"b", b"v", 9, until).await, Ok(Reserved::Reserved));
    });
}

#[test]
fn what_is_over_is_given_back_as_time_passes() {
    bench::run(async {
        let bench = MemoryBench::with_capacity(10_000_000);
        let store = bench.store();
        let mut most = 0;
        for number in 0..50_000_u32 {
            let until = bench.now().plus(Duration::from_secs(10));
            let key = number.to_be_bytes();
            match number % 4 {
                0 => assert_eq!(store.set_once(&key, b"value", until).await, Ok(SetOnce::Set)),
                1 => assert_eq!(store.reserve(&key, b"m", b"v", 1, until).await, Ok(Reserved::Reserved)),
                2 => assert_eq!(store.add(&key, 1, until).await, Ok(1)),
                _ => assert_eq!(store.put(b"again", b"value", until).await, Ok(())),
            }
            bench.pass(Duration::from_millis(10)).await;
            most = most.max(bench.used());
        }
        // A thousand live entries at any time, of at most 300 bytes, and those of one more second.
        assert!(most < 400_000, "{most}");
        bench.pass(MINUTE).await;
        for number in 0..2_000_u32 {
            let until = bench.now().plus(Duration::from_millis(1));
            store.put(&number.to_le_bytes(), b"", until).await.unwrap();
            bench.pass(Duration::from_millis(2)).await;
        }
        assert!(bench.used() < 200_000, "{}", bench.used());
    });
}

#[test]
fn a_clock_set_back_revives_no_token() {
    bench::run(async {
        let bench = MemoryBench::new();
        let (store, start) = (bench.store(), bench.now());
        let until = start.plus(MINUTE);
        assert_eq!(store.set_once(b"k", b"v", until).await, Ok(SetOnce::Set));
        bench.pass(MINUTE).await;
        assert_eq!(store.get(b"k").await, Ok(None));
        bench.set(start);
        assert!(is_unavailable(&store.set_once(b"k", b"v", until).await));
    });
}

#[test]
fn it_remembers_since_it_was_made() {
    bench::run(async {
        let bench = MemoryBench::new();
        let made = bench.now();
        bench.pass(MINUTE).await;
        assert_eq!(bench.store().remembers_since().await, Ok(made));
    });
}

#[test]
fn the_machines_clock_will_do() {
    bench::run(async {
        let clock = trustmint::time::SystemClock;
        let store = MemoryStore::new(Arc::new(clock), 1 << 20);
        assert_eq!(store.set_once(b"k", b"v", clock.now().plus(MINUTE)).await, Ok(SetOnce::Set));
    });
}
