//! What holds of users, passwords, TLS, Sentinels and Clusters beyond the suite, on real servers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use trustmint::config::redis::Redis;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::state::RedisFault;
use trustmint::state::RedisOptions;
use trustmint::state::Topology;
use trustmint::telemetry::Stopwatch;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use super::*;
use crate::support::redis;
use crate::support::redis::Cluster;
use crate::support::redis::PASSWORD;
use crate::support::redis::PATIENCE;
use crate::support::redis::Server;
use crate::support::redis::TlsServer;
use crate::support::redis::Watched;

fn soon() -> Timestamp {
    SystemClock.now().plus(MINUTE)
}

/// Asks until the store gives this answer, which must be soon.
async fn becomes<T: PartialEq + std::fmt::Debug, F: Future<Output = T>>(expected: T, ask: impl Fn() -> F) {
    let started = Stopwatch::start();
    loop {
        let found = ask().await;
        if found == expected {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{found:?} instead of {expected:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn the_documented_user_may_do_what_is_needed_and_nothing_else() {
    let server = Server::start(&[]);
    redis::make_documented_user(&server, false);
    bench::run(async {
        let options = redis::as_documented_user(redis::options(&server.url(), "trustmint:"));
        assert_eq!(redis::with(options.clone()).check().await, Ok(()));
        let waits = RedisOptions { wait_for_replicas: 1, ..options.clone() };
        assert_eq!(redis::with(waits).check().await, Ok(()));
        let other = RedisOptions { key_prefix: "other:".to_owned(), ..options };
        assert_eq!(redis::with(other).check().await, Err(RedisFault::Permission));
    });
    let as_user = |command: &[&str]| {
        let login = ["--no-auth-warning", "--user", "trustmint", "--pass", PASSWORD];
        server.cli(&[&login[..], command].concat())
    };
    assert!(as_user(&["GET", "trustmint:{0}:epoch"]).contains(' '), "it is logged in");
    for command in [
        &["GET", "other"][..],
        &["SET", "other", "x"],
        &["DEL", "trustmint:{0}:epoch"],
        &["KEYS", "*"],
        &["SCAN", "0"],
        &["FLUSHALL"],
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
        &["ACL", "LIST"],
        &["SHUTDOWN"],
        &["EVAL", "return redis.call('GET', KEYS[1])", "1", "other"],
        &["EVAL", "return redis.call('FLUSHALL')", "0"],
    ] {
        let answer = as_user(command);
        let refused = ["NOPERM", "ACL failure", "user executing the script can't"];
        assert!(refused.iter().any(|words| answer.contains(words)), "{command:?}: {answer}");
    }
}

#[test]
fn a_password_is_rotated_without_a_restart() {
    let server = Server::start(&[]);
    let user = |change: &[&str]| server.ok(&[&["ACL", "SETUSER", "trustmint"], change].concat());
    user(&["on", ">old", "~trustmint:*", "+@all"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let write = |password: &str| {
        fs::write(&file, password).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("old\n");
    let settings = Redis {
        topology: Topology::Single,
        endpoints: vec![server.url().parse().unwrap()],
        username: Some("trustmint".to_owned()),
        password_file: Some(file.clone()),
        ca_file: None,
        prefix: "trustmint:".to_owned(),
        timeout: Duration::from_secs(1),
        wait_for_replicas: 0,
    };
    bench::run(async {
        let store = redis::with(settings.options().unwrap());
        let get = || async { store.get(b"k").await };
        store.put(b"k", b"v", soon()).await.unwrap();
        let held = Ok(Some(Arc::from(b"v".to_vec())));
        // As docs/redis.md has it: the new one beside the old one, the file, the old one gone.
        user(&[">new"]);
        assert_eq!(get().await, held);
        write("new\n");
        assert_eq!(get().await, held);
        user(&["<old"]);
        assert_eq!(get().await, held, "the live connection goes on");
        // What logged in with the old one is thrown out; the next connection has the new one.
        server.cli(&["CLIENT", "KILL", "USER", "trustmint"]);
        becomes(held.clone(), get).await;
        assert_eq!(server.cli(&["ACL", "LOG"]).trim(), "", "and nobody was refused");

        // A file that was forgotten is an outage until it is right, and no longer.
        user(&[">newer", "<new"]);
        server.cli(&["CLIENT", "KILL", "USER", "trustmint"]);
        let refused = Err(StoreError::NotAsked { reason: "Redis refused the user or password" });
        becomes(refused, get).await;
        write("newer");
        becomes(held, get).await;
    });
}

#[test]
fn tls_trusts_the_named_authority_and_the_named_host_alone() {
    let server = TlsServer::start();
    let stranger = LoopbackCertificate::generate(SystemClock.now()).unwrap();
    bench::run(async {
        let check = async |host: &str, authorities: Option<&str>| {
            redis::with(server.options(host, authorities, "t:")).check().await
        };
        let own = Some(server.authority_pem.as_str());
        assert_eq!(check("127.0.0.1", own).await, Ok(()));
        assert_eq!(check("127.0.0.1", Some(stranger.authority_pem())).await, Err(RedisFault::Unreachable));
        assert_eq!(check("127.0.0.1", None).await, Err(RedisFault::Unreachable), "the machine's do not know it");
        assert_eq!(check("127.0.0.2", own).await, Err(RedisFault::Unreachable), "not in its certificate");
        let plain = redis::options(&format!("redis://127.0.0.1:{}", server.port), "t:");
        assert!(redis::with(plain).check().await.is_err(), "and without TLS there is no answer");
    });
}

#[test]
fn without_tls_no_server_is_spoken_to_that_is_not_on_this_machine() {
    let watched = Watched::start();
    // A multicast address: no connection to one can be begun, the Sentinel's neither.
    watched.announce_master("224.0.0.1");
    bench::run(async {
        let fault = redis::with(watched.options("t:")).check().await;
        assert_eq!(fault, Err(RedisFault::Exposed));
        assert!(RedisFault::Exposed.remedy().contains("rediss://"));
    });
}

#[test]
fn a_cluster_that_loses_a_node_refuses_and_recovers_by_itself() {
    let mut cluster = Cluster::start();
    bench::run(async {
        let store = redis::with(cluster.options("t:"));
        let keys: Vec<Vec<u8>> = (0..50_u8).map(|number| vec![number]).collect();
        for key in &keys {
            assert_eq!(store.set_once(key, b"v", soon()).await, Ok(SetOnce::Set));
        }
        let spread = |cluster: &Cluster| cluster.nodes.iter().all(|node| node.info("db0").starts_with("keys="));
        assert!(spread(&cluster), "each node has some of them");
        let before = store.remembers_since().await.unwrap();
        cluster.nodes[2].stop();
        let refused = async |store: &trustmint::state::RedisStore| {
            let mut refused = 0;
            for key in &keys {
                refused += usize::from(is_unavailable(&store.set_once(key, b"v", soon()).await));
            }
            refused
        };
        assert!(refused(&store).await > 0, "those of the node at least");
        cluster.nodes[2].start_again();
        cluster.await_whole();
        let started = Stopwatch::start();
        while refused(&store).await > 0 {
            assert!(started.elapsed() < PATIENCE, "no recovery");
        }
        assert!(store.remembers_since().await.unwrap() > before, "the node has forgotten, and it is known");
    });
}

#[test]
fn a_cluster_confirms_no_first_use_without_replicas() {
    let cluster = Cluster::start();
    bench::run(async {
        let options = RedisOptions { wait_for_replicas: 1, timeout: Duration::from_secs(1), ..cluster.options("t:") };
        let store = redis::with(options);
        for key in [&b"a"[..], b"b", b"c", b"d", b"e", b"f"] {
            let reason = "too few Redis replicas have confirmed the write";
            assert_eq!(store.set_once(key, b"v", soon()).await, Err(StoreError::Unavailable { reason }));
            assert_eq!(store.put(b"copy", b"v", soon()).await, Ok(()));
        }
    });
}
