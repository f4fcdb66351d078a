//! The meaning of what is stored: [`State`] over the store in memory.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use crate::time::Clock;

use super::*;

/// A clock that stands still until it is set.
#[derive(Debug)]
struct SetClock(AtomicI64);

impl SetClock {
    fn pass(&self, duration: Duration) {
        self.0.fetch_add(i64::try_from(duration.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::SeqCst))
    }
}

fn setup() -> (Arc<SetClock>, Arc<MemoryStore>, State) {
    let clock = Arc::new(SetClock(AtomicI64::new(1_763_856_900_123)));
    let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 20));
    let state = State::new(store.clone());
    (clock, store, state)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn record(token_id: &str, at: Timestamp) -> FirstUseRecord {
    FirstUseRecord { token_id: token_id.to_owned(), at, digest: [7; 32], kid: "2026-11".to_owned() }
}

#[test]
fn a_key_stands_for_one_choice_of_parts() {
    let digest = [1; 32];
    let keys = [
        first_use_key("https://a.example", Some("x"), &digest, None),
        first_use_key("https://a.examplex", Some(""), &digest, None),
        first_use_key("https://a.example", Some("xy"), &digest, None),
        first_use_key("https://a.example", Some("x"), &digest, Some("")),
        first_use_key("https://a.example", Some("x"), &digest, Some("widgets")),
        first_use_key("https://a.example", Some("xwidgets"), &digest, None),
        first_use_key("https://a.example", None, &digest, None),
        first_use_key("https://a.example", None, &[2; 32], None),
        // A `jti` whose bytes are another token's digest.
        first_use_key("https://a.example", Some(std::str::from_utf8(&digest).unwrap()), &digest, None),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "key {index}");
    }
    // With a `jti` the signed text does not count: an issuer that signs one `jti` twice is one use.
    assert_eq!(keys[0], first_use_key("https://a.example", Some("x"), &[9; 32], None));
}

#[test]
fn the_second_use_learns_what_the_first_was_for() {
    let (clock, _, state) = setup();
    let until = clock.now().plus(Duration::from_secs(900));
    let first = record("token-1", clock.now());
    let claim = FirstUseClaim { key: [3; 32], record: first.clone(), issued_at: clock.now(), until };
    assert_eq!(run(state.first_use(claim)).unwrap().record(), &first);

    clock.pass(Duration::from_secs(899));
    let again = FirstUseClaim { key: [3; 32], record: record("token-2", clock.now()), issued_at: clock.now(), until };
    assert_eq!(run(state.first_use(again.clone())).unwrap_err(), FirstUseError::Replayed(first));
    let other = FirstUseClaim { key: [4; 32], ..again };
    assert!(run(state.first_use(other)).is_ok());
}

#[test]
fn a_use_that_cannot_be_remembered_is_no_first_use() {
    let (clock, _, state) = setup();
    let claim = FirstUseClaim {
        key: [3; 32],
        record: record("token-1", clock.now()),
        issued_at: clock.now(),
        until: clock.now(),
    };
    assert!(matches!(run(state.first_use(claim)), Err(FirstUseError::Store(StoreError::Unavailable { .. }))));
}

#[test]
fn an_unreadable_record_is_no_first_use() {
    let (clock, store, state) = setup();
    let until = clock.now().plus(Duration::from_secs(900));
    for (index, held) in [
        "",
        "{}",
        r#"{"token_id":"t","at_ms":1,"digest":"AAAA","kid":"k"}"#,
        r#"{"token_id":"t","token_id":"u","at_ms":1,"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"k"}"#,
        r#"{"token_id":"t","at_ms":1,"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"k","new":1}"#,
        r#"{"token_id":"t","at_ms":1,"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"k"} "x""#,
    ]
    .into_iter()
    .enumerate()
    {
        let key = [u8::try_from(index).unwrap(); 32];
        let stored = format!("first-use:{}", URL_SAFE_NO_PAD.encode(key));
        run(store.put(stored.as_bytes(), held.as_bytes(), until)).unwrap();
        let claim = FirstUseClaim { key, record: record("token-1", clock.now()), issued_at: clock.now(), until };
        assert!(matches!(run(state.first_use(claim)), Err(FirstUseError::Store(_))), "{held}");
    }
    let whole = r#"{"token_id":"t","at_ms":1,"digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"k"}"#;
    assert!(FirstUseRecord::from_bytes(whole.as_bytes()).is_ok());
}

#[test]
fn an_upload_spends_one_use_once() {
    let (clock, _, state) = setup();
    let until = clock.now().plus(Duration::from_secs(900));
    let spend = |token: &str, upload: &str, facts: u8, limit: u32| {
        run(state.spend(token, upload, [facts; 32], limit, until)).unwrap()
    };
    assert_eq!(spend("t", "upload-1", 1, 2), Spent::Fresh);
    assert_eq!(spend("t", "upload-1", 1, 2), Spent::Repeated);
    assert_eq!(spend("t", "upload-1", 2, 2), Spent::Conflict);
    assert_eq!(spend("t", &"x".repeat(10_000), 1, 2), Spent::Fresh);
    assert_eq!(spend("t", "upload-3", 1, 2), Spent::Exhausted);
    assert_eq!(spend("t", "upload-1", 1, 2), Spent::Repeated, "its answer outlives the last use");
    assert_eq!(spend("other", "upload-1", 1, 1), Spent::Fresh);
    assert_eq!(spend("none", "upload-1", 1, 0), Spent::Exhausted);
}

#[test]
fn a_revocation_holds_here_at_once_and_elsewhere_at_the_next_sync() {
    let (clock, store, here) = setup();
    let elsewhere = State::new(store);
    let expires_at = clock.now().plus(Duration::from_secs(900));
    assert_eq!(elsewhere.revocations().synced_at(), None);
    run(elsewhere.revocations().sync(clock.now())).unwrap();

    run(here.revocations().revoke("token-1", expires_at)).unwrap();
    assert!(here.revocations().is_revoked("token-1"));
    assert!(!elsewhere.revocations().is_revoked("token-1"));
    clock.pass(Duration::from_secs(1));
    run(elsewhere.revocations().sync(clock.now())).unwrap();
    assert!(elsewhere.revocations().is_revoked("token-1"));
    assert!(!elsewhere.revocations().is_revoked("token-2"));
    assert_eq!(elsewhere.revocations().synced_at(), Some(clock.now()));
}

#[test]
fn revoking_again_writes_nothing() {
    let (clock, store, state) = setup();
    let expires_at = clock.now().plus(Duration::from_secs(900));
    run(state.revocations().revoke("token-1", expires_at)).unwrap();
    let used = store.used();
    run(state.revocations().revoke("token-1", expires_at)).unwrap();
    assert_eq!(store.used(), used);
}

#[test]
fn a_replica_catches_up_over_many_pages() {
    let (clock, store, here) = setup();
    let expires_at = clock.now().plus(Duration::from_secs(900));
    for number in 0..2500 {
        run(here.revocations().revoke(&format!("token-{number}"), expires_at)).unwrap();
    }
    let elsewhere = State::new(store);
    run(elsewhere.revocations().sync(clock.now())).unwrap();
    assert!((0..2500).all(|number| elsewhere.revocations().is_revoked(&format!("token-{number}"))));
}

#[test]
fn expired_revocations_are_dropped() {
    let (clock, _, state) = setup();
    let expires_at = clock.now().plus(Duration::from_secs(900));
    run(state.revocations().revoke("token-1", expires_at)).unwrap();
    clock.pass(Duration::from_millis(899_999) + RETENTION_MARGIN);
    run(state.revocations().sync(clock.now())).unwrap();
    assert!(state.revocations().is_revoked("token-1"), "clocks differ: some replica may still accept it");
    clock.pass(Duration::from_secs(61));
    run(state.revocations().sync(clock.now())).unwrap();
    assert!(!state.revocations().is_revoked("token-1"));
}

#[test]
fn an_unreadable_revocation_fails_the_sync() {
    let (clock, store, state) = setup();
    let bounds = ListBounds { keep: Duration::from_secs(60), cap: 10, when_full: WhenFull::Refuse };
    run(store.append("revocations", br#"{"token_id":"t"}"#, bounds)).unwrap();
    assert!(matches!(run(state.revocations().sync(clock.now())), Err(StoreError::Unavailable { .. })));
    assert_eq!(state.revocations().synced_at(), None);
}

#[test]
fn a_cursor_has_one_spelling() {
    let cursor = Cursor::new(1_763_856_900_123, 7);
    assert_eq!(cursor.to_string(), "1763856900123-7");
    assert_eq!("1763856900123-7".parse(), Ok(cursor));
    for other in ["", "-", "1", "1-", "-1", "01-1", "1-01", "+1-1", "1-1-1", "1--1", "18446744073709551616-0", "$", "+"]
    {
        assert_eq!(other.parse::<Cursor>(), Err(CursorError), "{other:?}");
    }
}

#[test]
fn cursors_only_grow() {
    let start = Cursor::new(1000, 5);
    assert_eq!(start.next(Timestamp::from_unix_millis(1001)), Cursor::new(1001, 0));
    assert_eq!(start.next(Timestamp::from_unix_millis(1000)), Cursor::new(1000, 6));
    assert_eq!(start.next(Timestamp::from_unix_millis(-5)), Cursor::new(1000, 6), "the clock went back");
}
