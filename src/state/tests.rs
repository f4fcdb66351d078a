//! The meaning of what is stored: [`State`] over the store in memory.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::secret::Secret;
use crate::time::Clock;

use super::revocations::RevokeError;
use super::revocations::Revoker;
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
    let state = State::new(store.clone(), seal_keys());
    (clock, store, state)
}

fn seal_keys() -> SealKeys {
    SealKeys::new(vec![SealKey::new("k1".to_owned(), Timestamp::from_unix_millis(0), Secret::new([1; 32]))])
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
    let claim = FirstUseClaim { key: [3; 32], one_of: None, record: first.clone(), issued_at: clock.now(), until };
    assert_eq!(run(state.first_use(claim)).unwrap().record(), &first);

    clock.pass(Duration::from_secs(899));
    let again = FirstUseClaim {
        key: [3; 32],
        one_of: None,
        record: record("token-2", clock.now()),
        issued_at: clock.now(),
        until,
    };
    let Err(FirstUseError::Replayed(past)) = run(state.first_use(again.clone())) else { panic!("a second first use") };
    assert_eq!(past.record(), &first);
    let other = FirstUseClaim { key: [4; 32], ..again };
    assert!(run(state.first_use(other)).is_ok());
}

#[test]
fn a_use_that_cannot_be_remembered_is_no_first_use() {
    let (clock, _, state) = setup();
    let claim = FirstUseClaim {
        key: [3; 32],
        one_of: None,
        record: record("token-1", clock.now()),
        issued_at: clock.now(),
        until: clock.now(),
    };
    assert!(matches!(run(state.first_use(claim)), Err(FirstUseError::Store(StoreError::Unavailable { .. }))));
}

/// Claims the first use under a key whose place in the store was filled by somebody else.
fn claim_over(held: &[u8], key: [u8; 32]) -> Result<FirstUse, FirstUseError> {
    let (clock, store, state) = setup();
    let until = clock.now().plus(Duration::from_secs(900));
    run(store.put(&place(key), held, until)).unwrap();
    run(state.first_use(FirstUseClaim {
        key,
        one_of: None,
        record: record("token-2", clock.now()),
        issued_at: clock.now(),
        until,
    }))
}

fn place(key: [u8; 32]) -> Vec<u8> {
    format!("first-use:{}", URL_SAFE_NO_PAD.encode(key)).into_bytes()
}

/// What the store holds after an honest first use under a key.
fn honest(key: [u8; 32]) -> Vec<u8> {
    let (clock, store, state) = setup();
    let until = clock.now().plus(Duration::from_secs(900));
    let claim =
        FirstUseClaim { key, one_of: None, record: record("token-1", clock.now()), issued_at: clock.now(), until };
    assert!(run(state.first_use(claim)).is_ok());
    run(store.get(&place(key))).unwrap().unwrap().to_vec()
}

#[test]
fn a_record_that_is_not_ours_is_a_use_and_not_believed() {
    let (key, at) = ([3; 32], 1_763_856_900_123);
    let body = r#"{"token_id":"t","digest":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","kid":"k"}"#;
    let seal = |keys: &SealKeys, kind: &str, owner: &str, at: i64, body: &str| {
        keys.seal(kind, owner, Timestamp::from_unix_millis(at), "", body.as_bytes()).unwrap()
    };
    let (ours, owner) = (seal_keys(), URL_SAFE_NO_PAD.encode(key));
    let theirs =
        SealKeys::new(vec![SealKey::new("k1".to_owned(), Timestamp::from_unix_millis(0), Secret::new([2; 32]))]);
    let mut altered = honest(key);
    altered[60] ^= 1;
    for (held, what) in [
        (Vec::new(), "nothing"),
        (body.as_bytes().to_vec(), "no seal"),
        (altered, "altered"),
        (honest([4; 32]), "that of another token"),
        (seal(&theirs, "first-use", &owner, at, body), "sealed by a stranger"),
        (seal(&ours, "jwks", &owner, at, body), "another kind"),
        (seal(&ours, "first-use", &owner, at + 60_001, body), "from the future"),
        (seal(&ours, "first-use", &owner, at - 86_400_001, body), "of long ago"),
        (seal(&ours, "first-use", &owner, at, ""), "no record"),
        (seal(&ours, "first-use", &owner, at, &body.replace("AAAA", "")), "a short digest"),
        (seal(&ours, "first-use", &owner, at, &body.replace('}', r#","new":1}"#)), "a member too many"),
        (seal(&ours, "first-use", &owner, at, &body.replace('{', r#"{"kid":"l","#)), "a member twice"),
    ] {
        assert_eq!(claim_over(&held, key).unwrap_err(), FirstUseError::Taken, "{what}");
    }
    // And what all of them vary is believed.
    assert!(matches!(claim_over(&honest(key), key), Err(FirstUseError::Replayed(_))));
    let whole = seal(&ours, "first-use", &owner, at, body);
    assert!(matches!(claim_over(&whole, key), Err(FirstUseError::Replayed(_))));
}

#[test]
fn a_copy_is_given_back_to_its_owner_until_it_ends() {
    let (clock, store, state) = setup();
    let (at, until) = (clock.now(), clock.now().plus(Duration::from_secs(900)));
    run(state.put_copy(CopyKind::Jwks, "https://a.example", at, "r1", b"keys", until)).unwrap();
    clock.pass(Duration::from_secs(60));
    let elsewhere = State::new(store, seal_keys());
    let copy = |owner: &str| run(elsewhere.copy(CopyKind::Jwks, owner, clock.now())).unwrap();
    let kept = StoredCopy { at, revision: "r1".to_owned(), body: b"keys".to_vec() };
    assert_eq!(copy("https://a.example"), Some(kept));
    assert_eq!(copy("https://a.exampl"), None);
    run(state.put_copy(CopyKind::Jwks, "https://a.example", clock.now(), "r2", b"", until)).unwrap();
    assert_eq!(copy("https://a.example").unwrap().revision, "r2");
    clock.pass(Duration::from_secs(840));
    assert_eq!(copy("https://a.example"), None);
}

#[test]
fn a_copy_that_somebody_else_wrote_or_moved_is_none() {
    let (clock, store, state) = setup();
    let until = clock.now().plus(Duration::from_secs(90_000));
    run(state.put_copy(CopyKind::Jwks, "a", clock.now(), "r1", b"keys", until)).unwrap();
    let of = |owner: &str| run(state.copy(CopyKind::Jwks, owner, clock.now())).unwrap();
    let held = run(store.get(b"copy:jwks:a")).unwrap().unwrap();
    // Another's copy, a first use's record, plain keys.
    let owner = "first-use:AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM";
    let record = honest([3; 32]);
    for (owner, planted) in [("b", &held[..]), (owner, &record), ("c", &record), ("c", b"keys"), ("c", b"")] {
        run(store.put(format!("copy:jwks:{owner}").as_bytes(), planted, until)).unwrap();
        assert_eq!(of(owner), None, "{owner}");
    }
    run(store.put(b"copy:jwks:a", &held, until)).unwrap();
    assert!(of("a").is_some());
    clock.pass(MAX_COPY_AGE + Duration::from_millis(1));
    assert_eq!(of("a"), None, "kept for too long");
}

#[test]
fn without_an_active_key_nothing_is_sealed_and_nothing_claimed() {
    let (clock, store, _) = setup();
    let later = clock.now().plus(Duration::from_secs(1));
    let state =
        State::new(store.clone(), SealKeys::new(vec![SealKey::new("k1".to_owned(), later, Secret::new([1; 32]))]));
    let until = clock.now().plus(Duration::from_secs(900));
    assert!(run(state.put_copy(CopyKind::Jwks, "a", clock.now(), "", b"", until)).is_err());
    let claim = FirstUseClaim {
        key: [3; 32],
        one_of: None,
        record: record("token-1", clock.now()),
        issued_at: clock.now(),
        until,
    };
    assert!(matches!(run(state.first_use(claim)), Err(FirstUseError::Store(_))));
    assert_eq!(store.used(), 0);
}

#[test]
fn an_upload_spends_one_use_once() {
    let (clock, _, state) = setup();
    let until = clock.now().plus(Duration::from_secs(900));
    let spend = |token: &str, upload: &str, facts: u8, limit: u32| {
        run(state.spend((token, clock.now()), upload, [facts; 32], limit, until, clock.now())).unwrap()
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
    let elsewhere = State::new(store, seal_keys());
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
fn holders_of_many_registries_leave_registries_room_to_revoke() {
    let (clock, _, _) = setup();
    let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 26));
    let state = State::new(store.clone(), seal_keys());
    let bounds = ListBounds { keep: Duration::from_secs(3600), cap: u32::MAX, when_full: WhenFull::Refuse };
    let fill = |count| {
        for _ in 0..count {
            run(store.append("revocations", b"x", bounds)).unwrap();
        }
    };
    let revoke = |id: &str, by| run(state.revoke_token("r", &id, clock.now(), (by, clock.now())));
    fill(59_999);
    revoke("a", Revoker::Holders).unwrap();
    assert_eq!(revoke("b", Revoker::Holders), Err(RevokeError::Store(StoreError::Full)));
    revoke("b", Revoker::Registry).unwrap();
    run(state.revoke_rule("r", "rule", clock.now(), clock.now())).unwrap();
    fill(100_000 - 60_002);
    assert_eq!(revoke("c", Revoker::Registry), Err(RevokeError::Store(StoreError::Full)));
}

#[test]
fn a_replica_catches_up_over_many_pages() {
    let (clock, store, here) = setup();
    let expires_at = clock.now().plus(Duration::from_secs(900));
    for number in 0..2500 {
        run(here.revocations().revoke(&format!("token-{number}"), expires_at)).unwrap();
    }
    let elsewhere = State::new(store, seal_keys());
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

fn stop(clock: &SetClock, scope: stops::Scope) -> stops::Stop {
    let at = clock.now();
    stops::Stop { scope, reason: "r".to_owned(), by: "oncall".to_owned(), at, until: at.plus(Duration::from_secs(600)) }
}

#[test]
fn a_stop_covers_what_fits_all_that_it_names() {
    let claims = [("repository_id".to_owned(), crate::json::Json::String("7".to_owned()))].into();
    let rules = ["a".to_owned(), "b".to_owned()];
    let origin = stops::Origin {
        issuer_id: Some("github"),
        issuer: "https://i.example",
        registry: "acme",
        rules: &rules,
        claims: &claims,
    };
    let scope = |issuer: &str, registry: &str, rule: &str, repository: &str| {
        let member = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (issuer, registry) = (member(issuer), member(registry));
        stops::Scope { issuer, registry, rule: member(rule), repository_id: member(repository) }.covers(&origin)
    };
    assert!(scope("github", "", "", "") && scope("https://i.example", "", "", "") && scope("", "acme", "", ""));
    assert!(scope("", "", "b", "") && scope("", "", "", "7") && scope("github", "acme", "a", "7"));
    assert!(!scope("gitlab", "", "", "") && !scope("", "other", "", "") && !scope("", "", "c", ""));
    assert!(!scope("", "", "", "8") && !scope("github", "acme", "a", "8") && !scope("gitlab", "acme", "a", "7"));
    assert!(!scope("", "", "", ""), "nothing named is nothing stopped");
}

#[test]
fn a_stop_holds_elsewhere_at_the_next_sync_until_it_ends_or_is_lifted() {
    let (clock, store, here) = setup();
    let elsewhere = State::new(store, seal_keys());
    let scope = stops::Scope { registry: Some("acme".to_owned()), ..stops::Scope::default() };
    let first = run(here.stop(&stop(&clock, scope.clone()))).unwrap();
    let second = run(here.stop(&stop(&clock, scope))).unwrap();
    assert_eq!((here.stops(clock.now()).len(), elsewhere.stops(clock.now()).len()), (2, 0));
    run(elsewhere.sync(clock.now())).unwrap();
    assert_eq!(elsewhere.stops(clock.now()), here.stops(clock.now()));
    assert!(run(elsewhere.lift(first, clock.now())).unwrap().is_some());
    assert!(run(elsewhere.lift(first, clock.now())).unwrap().is_none(), "once");
    run(here.sync(clock.now())).unwrap();
    assert_eq!(here.stops(clock.now()).iter().map(|(name, _)| *name).collect::<Vec<_>>(), [second]);
    clock.pass(Duration::from_secs(600));
    assert!(here.stops(clock.now()).is_empty(), "it is over");
}

#[test]
fn a_lift_without_this_services_seal_lifts_nothing() {
    let (clock, store, state) = setup();
    let scope = stops::Scope { registry: Some("acme".to_owned()), ..stops::Scope::default() };
    let (name, other) =
        (run(state.stop(&stop(&clock, scope.clone()))).unwrap(), run(state.stop(&stop(&clock, scope))).unwrap());
    let theirs =
        SealKeys::new(vec![SealKey::new("k1".to_owned(), Timestamp::from_unix_millis(0), Secret::new([2; 32]))]);
    let bounds = ListBounds { keep: Duration::from_secs(86_460), cap: 10_000, when_full: WhenFull::Refuse };
    for seal in [
        Vec::new(),
        theirs.seal("lift", &name.to_string(), clock.now(), "", b"").unwrap(),
        seal_keys().seal("jwks", &name.to_string(), clock.now(), "", b"").unwrap(),
        seal_keys().seal("lift", &other.to_string(), clock.now(), "", b"").unwrap(),
    ] {
        let planted = serde_json::json!({"lift": {"stop": name.to_string(), "seal": seal}}).to_string();
        run(store.append("stops", planted.as_bytes(), bounds)).unwrap();
        run(state.sync(clock.now())).unwrap();
        assert_eq!(state.stops(clock.now()).len(), 2);
    }
    // And what all of them vary is believed.
    run(state.lift(name, clock.now())).unwrap().unwrap();
    assert_eq!(state.stops(clock.now()).len(), 1);
}

#[test]
fn a_rules_revocation_is_about_its_registrys_older_tokens() {
    let (clock, store, here) = setup();
    let elsewhere = State::new(store, seal_keys());
    let at = clock.now();
    run(here.revocations().revoke_rule("acme", "release", at)).unwrap();
    run(here.revocations().revoke_rule("acme", "release", at.minus(Duration::from_secs(5)))).unwrap();
    run(elsewhere.sync(at)).unwrap();
    let rules = ["other".to_owned(), "release".to_owned()];
    let before = at.minus(Duration::from_millis(1));
    for state in [&here, &elsewhere] {
        let covers = |key_id: &str, rules: &[String], issued_at: Timestamp| {
            state.revocations().cover(revocations::Issued { key_id, token_id: "t", rules, issued_at })
        };
        assert!(covers("acme", &rules, before));
        assert!(!covers("acme", &rules, at), "it was issued later");
        assert!(!covers("other", &rules, before) && !covers("acme", &rules[..1], before));
    }
    let page = run(here.revocations().of_registry("acme", None)).unwrap();
    assert_eq!((page.revocations.len(), page.more), (1, false), "the second said nothing new");
    assert!(run(here.revocations().of_registry("acm", None)).unwrap().revocations.is_empty());
    clock.pass(Duration::from_secs(3600) + RETENTION_MARGIN);
    run(here.sync(clock.now())).unwrap();
    let old = revocations::Issued { key_id: "acme", token_id: "t", rules: &rules, issued_at: before };
    assert!(!here.revocations().cover(old), "no such token lives any more");
}
