//! A store that fails is never taken for one that said yes.

use trustmint::secret::Secret;
use trustmint::state::FirstUse;
use trustmint::state::FirstUseClaim;
use trustmint::state::FirstUseError;
use trustmint::state::FirstUseRecord;
use trustmint::state::SealKey;
use trustmint::state::SealKeys;
use trustmint::state::Spent;
use trustmint::state::State;

use super::*;

const FAULTS: [Fault; 4] = [Fault::Refused, Fault::AnswerLost, Fault::Full, Fault::NotAsked];

fn setup() -> (MemoryBench, Arc<FaultyStore>, State) {
    let bench = MemoryBench::new();
    let store = Arc::new(FaultyStore::new(bench.store()));
    let state = State::new(store.clone(), seal_keys());
    (bench, store, state)
}

fn seal_keys() -> SealKeys {
    SealKeys::new(vec![SealKey::new("k".to_owned(), Timestamp::from_unix_millis(0), Secret::new([1; 32]))])
}

fn expected(fault: Fault) -> StoreError {
    match fault {
        Fault::Full => StoreError::Full,
        Fault::NotAsked => faulty::NOT_ASKED,
        Fault::Refused | Fault::AnswerLost | Fault::EntryLost | Fault::Silent | Fault::Panics | Fault::Held => {
            faulty::LOST
        }
    }
}

async fn first_use(state: &State, token_id: &str, until: Timestamp) -> Result<FirstUse, FirstUseError> {
    let record =
        FirstUseRecord { token_id: token_id.to_owned(), at: until.minus(MINUTE), digest: [1; 32], kid: "k".to_owned() };
    state.first_use(FirstUseClaim { key: [7; 32], one_of: None, record, issued_at: until, until }).await
}

#[test]
fn every_failure_of_every_primitive_surfaces() {
    bench::run(async {
        for fault in FAULTS {
            let (bench, store, _) = setup();
            let until = bench.now().plus(MINUTE);
            store.fail(Some(fault));
            let error = expected(fault);
            assert_eq!(store.set_once(b"k", b"v", until).await, Err(error));
            assert_eq!(store.reserve(b"m", b"a", b"v", 1, until).await, Err(error));
            assert_eq!(store.put(b"p", b"v", until).await, Err(error));
            assert_eq!(store.get(b"k").await, Err(error));
            assert_eq!(store.add(b"c", 1, until).await, Err(error));
            assert_eq!(store.append("l", b"e", LEDGER).await, Err(error));
            assert_eq!(store.since("l", None, 1).await, Err(error));
            assert_eq!(store.remembers_since().await, Err(error));
        }
    });
}

#[test]
fn no_first_use_comes_from_a_store_that_fails() {
    bench::run(async {
        for fault in FAULTS {
            let (bench, store, state) = setup();
            let until = bench.now().plus(MINUTE);
            store.fail(Some(fault));
            for _ in 0..3 {
                assert_eq!(first_use(&state, "t1", until).await.unwrap_err(), FirstUseError::Store(expected(fault)));
            }
            store.fail(None);
            let after = first_use(&state, "t2", until).await;
            if fault == Fault::AnswerLost {
                // The claim was made and its answer lost: the token is spent, and stays so.
                let Err(FirstUseError::Replayed(past)) = after else { panic!("{after:?}") };
                assert_eq!(past.record().token_id, "t1");
            } else {
                assert_eq!(after.unwrap().record().token_id, "t2");
            }
        }
    });
}

#[test]
fn no_replay_passes_while_the_store_fails() {
    bench::run(async {
        let (bench, store, state) = setup();
        let until = bench.now().plus(MINUTE);
        assert!(first_use(&state, "t1", until).await.is_ok());
        for fault in FAULTS {
            store.fail(Some(fault));
            assert!(matches!(first_use(&state, "t2", until).await, Err(FirstUseError::Store(_))), "{fault:?}");
        }
        store.fail(None);
        assert!(matches!(first_use(&state, "t2", until).await, Err(FirstUseError::Replayed(_))));
    });
}

#[test]
fn no_use_is_granted_by_a_store_that_fails() {
    bench::run(async {
        for fault in FAULTS {
            let (bench, store, state) = setup();
            let until = bench.now().plus(MINUTE);
            store.fail(Some(fault));
            assert_eq!(
                state.spend(("t", bench.now()), "u1", [1; 32], 1, until, bench.now()).await,
                Err(expected(fault))
            );
            store.fail(None);
            // Whether or not the use was spent, the same upload may try again and another may not have two.
            let again = state.spend(("t", bench.now()), "u1", [1; 32], 1, until, bench.now()).await;
            assert_eq!(again, Ok(if fault == Fault::AnswerLost { Spent::Repeated } else { Spent::Fresh }));
            assert_eq!(
                state.spend(("t", bench.now()), "u2", [1; 32], 1, until, bench.now()).await,
                Ok(Spent::Exhausted)
            );
        }
    });
}

#[test]
fn a_revocation_that_failed_is_not_taken_for_made() {
    bench::run(async {
        for fault in FAULTS {
            let (bench, store, state) = setup();
            let (now, until) = (bench.now(), bench.now().plus(MINUTE));
            store.fail(Some(fault));
            assert_eq!(state.revocations().revoke("t", until).await, Err(expected(fault)));
            store.fail(None);
            assert_eq!(state.revocations().revoke("t", until).await, Ok(()), "it can be tried again");
            let elsewhere = State::new(store, seal_keys());
            elsewhere.revocations().sync(now).await.unwrap();
            assert!(elsewhere.revocations().is_revoked("t"));
        }
    });
}

#[test]
fn a_sync_that_failed_does_not_make_the_set_younger() {
    bench::run(async {
        let (bench, store, state) = setup();
        let (start, until) = (bench.now(), bench.now().plus(MINUTE));
        state.revocations().sync(start).await.unwrap();
        state.revocations().revoke("known", until).await.unwrap();
        for fault in FAULTS {
            store.fail(Some(fault));
            bench.pass(Duration::from_secs(1)).await;
            assert_eq!(state.revocations().sync(bench.now()).await, Err(expected(fault)));
            assert_eq!(state.revocations().synced_at(), Some(start), "{fault:?}");
            assert!(state.revocations().is_revoked("known"));
        }
        store.fail(None);
        state.revocations().sync(bench.now()).await.unwrap();
        assert_eq!(state.revocations().synced_at(), Some(bench.now()));
    });
}

#[test]
fn a_silent_store_gives_no_answer_at_all() {
    bench::run(async {
        let (bench, store, state) = setup();
        let until = bench.now().plus(MINUTE);
        store.fail(Some(Fault::Silent));
        let waited = tokio::time::timeout(Duration::from_millis(20), first_use(&state, "t1", until)).await;
        assert!(waited.is_err());
        store.fail(None);
        assert!(first_use(&state, "t1", until).await.is_ok());
    });
}

#[test]
fn of_a_thousand_claims_of_one_token_one_is_first() {
    let (bench, _, state) = setup();
    let (state, until) = (Arc::new(state), bench.now().plus(MINUTE));
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                bench::run(async {
                    let mut firsts = 0;
                    for task in 0..TASKS / 8 {
                        firsts += usize::from(first_use(&state, &format!("{thread}-{task}"), until).await.is_ok());
                    }
                    firsts
                })
            })
        })
        .collect();
    assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 1);
}
