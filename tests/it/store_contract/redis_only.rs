//! What only the store in Redis promises: it notices what the server has forgotten, and believes nothing planted.

use super::*;
use trustmint::state::RedisOptions;

use crate::support::redis;
use crate::support::redis::Server;
use crate::support::redis::free_port;
use crate::support::redis::store;
use crate::support::send;

/// Runs on a server of its own, if there is one.
macro_rules! on_a_server {
    ($server:ident, $body:expr) => {{
        let $server = Server::start(&[]);
        bench::run($body);
    }};
}

fn soon() -> Timestamp {
    use trustmint::time::Clock as _;
    trustmint::time::SystemClock.now().plus(MINUTE)
}

#[test]
fn flushing_the_server_is_a_loss_that_all_replicas_see() {
    on_a_server!(server, async {
        let (one, two) = (store(&server.url(), "t:"), store(&server.url(), "t:"));
        assert_eq!(one.set_once(b"k", b"v", soon()).await, Ok(SetOnce::Set));
        let before = one.remembers_since().await.unwrap();
        assert_eq!(two.remembers_since().await, Ok(before));
        server.cli(&["FLUSHALL"]);
        assert_eq!(two.set_once(b"k", b"v", soon()).await, Ok(SetOnce::Set), "it is forgotten");
        let after = two.remembers_since().await.unwrap();
        assert!(after > before, "and the same answer says so");
        one.get(b"k").await.unwrap();
        assert_eq!(one.remembers_since().await, Ok(after), "of one mind");
    });
}

#[test]
fn a_restart_is_a_loss_and_is_recovered_from() {
    let mut server = Server::start(&[]);
    bench::run(async {
        let one = store(&server.url(), "t:");
        assert_eq!(one.set_once(b"k", b"v", soon()).await, Ok(SetOnce::Set));
        let before = one.remembers_since().await.unwrap();
        server.stop();
        server.start_again();
        // The broken connection is found out by at most one call, and the next makes another.
        let again = match one.set_once(b"k", b"v", soon()).await {
            Err(_) => one.set_once(b"k", b"v", soon()).await,
            answer => answer,
        };
        assert_eq!(again, Ok(SetOnce::Set));
        assert!(one.remembers_since().await.unwrap() > before);
    });
}

#[test]
fn a_planted_mark_moves_nothing_back() {
    on_a_server!(server, async {
        let one = store(&server.url(), "t:");
        let since = one.remembers_since().await.unwrap();
        let mark = server.cli(&["GET", "t:{0}:epoch"]);
        let identity = mark.split(' ').next().unwrap().to_owned();
        for planted in [String::new(), "junk".to_owned(), format!("{identity} 1"), format!("{identity} 99999999999999")]
        {
            server.cli(&["SET", "t:{0}:epoch", &planted]);
            one.get(b"k").await.unwrap();
            assert!(one.remembers_since().await.unwrap() >= since, "{planted}");
            assert!(one.remembers_since().await.unwrap() <= soon(), "{planted}");
        }
        server.cli(&["DEL", "t:{0}:epoch"]);
        server.cli(&["HSET", "t:{0}:epoch", "a", "b"]);
        one.get(b"k").await.unwrap();
        assert!(one.remembers_since().await.unwrap() > since, "a mark of another kind is none");
    });
}

#[test]
fn a_server_that_evicts_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    bench::run(async {
        let one = store(&server.url(), "t:");
        let fault = one.check().await.unwrap_err();
        assert!(fault.to_string().contains("maxmemory-policy"), "{fault}");
        assert!(fault.remedy().contains("noeviction"));
        assert!(is_unavailable(&one.set_once(b"k", b"v", soon()).await));
    });
}

#[test]
fn a_full_server_is_full() {
    let server = Server::start(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]);
    bench::run(async {
        assert_eq!(store(&server.url(), "t:").put(b"k", b"v", soon()).await, Err(StoreError::Full));
    });
}

#[test]
fn a_server_that_is_not_there_was_not_asked_and_one_that_stands_still_may_have_been() {
    on_a_server!(server, async {
        let at = |port: u16| {
            let options = redis::options(&format!("redis://127.0.0.1:{port}"), "t:");
            redis::with(RedisOptions { timeout: Duration::from_millis(200), ..options })
        };
        let error = at(free_port()).put(b"k", b"v", soon()).await.unwrap_err();
        assert_eq!(error, StoreError::NotAsked { reason: "Redis cannot be reached" });
        let one = at(server.port);
        assert_eq!(one.put(b"k", b"v", soon()).await, Ok(()));
        let process = server.process();
        send("-STOP", process);
        let error = one.put(b"k", b"v", soon()).await.unwrap_err();
        send("-CONT", process);
        assert_eq!(error, StoreError::Unavailable { reason: "Redis did not answer in time" });
        assert!(!error.changed_nothing() && StoreError::Full.changed_nothing());
    });
}

#[test]
fn too_few_replicas_are_an_error() {
    on_a_server!(server, async {
        let one = redis::with(RedisOptions {
            wait_for_replicas: 1,
            timeout: Duration::from_millis(200),
            ..redis::options(&server.url(), "t:")
        });
        let refusing = ListBounds { keep: Duration::from_secs(60), cap: 9, when_full: WhenFull::Refuse };
        assert!(is_unavailable(&one.set_once(b"k", b"v", soon()).await));
        assert!(is_unavailable(&one.reserve(b"uses", b"u1", b"v", 9, soon()).await));
        assert!(is_unavailable(&one.append("revocations", b"entry", refusing).await));
        // Only what must not be lost waits.
        assert_eq!(one.put(b"copy", b"v", soon()).await, Ok(()));
        assert_eq!(one.add(b"window", 1, soon()).await, Ok(1));
        assert!(
            one.append("refusals", b"entry", ListBounds { when_full: WhenFull::DropOldest, ..refusing }).await.is_ok()
        );
    });
}
