//! Drills: the store goes away under load, in each way that it can. No job's token is good for two upload tokens, nobody
//! waits for long, and what comes after is served without a restart.
#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a drill tells how long it took")]

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use actix_web::rt;
use actix_web::web;
use reqwest::Client;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::redis_service::client;
use crate::redis_service::home;
use crate::redis_service::id_token_at;
use crate::redis_service::mint_at;
use crate::redis_service::provider;
use crate::serve::Home;
use crate::support::namespace::Namespace;
use crate::support::redis::PATIENCE;
use crate::support::redis::Server;
use crate::support::redis::Watched;
use crate::support::redis::eventually;
use crate::support::send;

/// What an exchange takes at most, whatever the store does.
const LONGEST: Duration = Duration::from_secs(4);
/// How long the load runs before the store goes, and how long it is away.
const WHILE: Duration = Duration::from_millis(800);
/// Jobs that have their tokens before the store goes, and use them when it is back.
const LATECOMERS: usize = 10;

/// Settings of a service whose output nobody reads once it has said where it serves.
const QUIET: &str = "audit: {sink: file, file: audit.jsonl}\ntelemetry: {level: \"error,trustmint::cli=info\"}\n";

/// One drill at a time: each loads the machine.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// One presentation of a subject token.
struct Seen {
    token: Arc<str>,
    replica: String,
    began: Instant,
    took: Duration,
    status: u16,
    code: String,
    retry_after: bool,
}

/// Replicas under load, and what became of every presentation.
struct Drill {
    client: Client,
    provider: Arc<LoopbackProvider>,
    replicas: Arc<Mutex<Vec<String>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    over: Arc<AtomicBool>,
    latecomers: Vec<Arc<str>>,
}

impl Drill {
    /// Jobs that publish at these replicas by turns, and present each token at the next one again.
    async fn begin(provider: LoopbackProvider, replicas: &[&str]) -> Self {
        let drill = Self {
            client: client(),
            provider: Arc::new(provider),
            replicas: Arc::new(Mutex::new(replicas.iter().map(ToString::to_string).collect())),
            seen: Arc::default(),
            over: Arc::default(),
            latecomers: Vec::new(),
        };
        for job in 0..6 {
            let (provider, replicas) = (Arc::clone(&drill.provider), Arc::clone(&drill.replicas));
            let client = drill.client.clone();
            let (seen, over) = (Arc::clone(&drill.seen), Arc::clone(&drill.over));
            rt::spawn(async move {
                for turn in job.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let token: Arc<str> = id_token_at(&provider, SystemClock.now()).into();
                    for replica in [turn, turn + 1] {
                        let address = {
                            let replicas = replicas.lock().unwrap();
                            replicas[replica % replicas.len()].clone()
                        };
                        if let Some(one) = present(&client, &address, &token).await {
                            seen.lock().unwrap().push(one);
                        }
                    }
                    rt::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        // A store that has just begun refuses what was issued before it.
        drill.recovered().await;
        rt::time::sleep(WHILE).await;
        let latecomers = (0..LATECOMERS).map(|_| id_token_at(&drill.provider, SystemClock.now()).into()).collect();
        Self { latecomers, ..drill }
    }

    /// Waits until every replica has accepted a token since, and says how long that took.
    async fn recovered(&self) -> Duration {
        let since = Instant::now();
        loop {
            let replicas = self.replicas.lock().unwrap().clone();
            let accepted = |replica: &String| {
                let seen = self.seen.lock().unwrap();
                let one = seen.iter().find(|one| one.began > since && one.status == 200 && one.replica == *replica)?;
                Some(one.began + one.took - since)
            };
            let times: Option<Vec<Duration>> = replicas.iter().map(accepted).collect();
            if let Some(last) = times.and_then(|times| times.into_iter().max()) {
                return last;
            }
            assert!(since.elapsed() < PATIENCE, "no job is served: {:?}", self.outcomes());
            rt::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// How often each outcome was.
    fn outcomes(&self) -> BTreeMap<(u16, String), usize> {
        let mut outcomes = BTreeMap::new();
        for one in self.seen.lock().unwrap().iter() {
            *outcomes.entry((one.status, one.code.clone())).or_default() += 1;
        }
        outcomes
    }

    fn accepted(&self) -> usize {
        self.seen.lock().unwrap().iter().filter(|one| one.status == 200).count()
    }

    fn count(&self, code: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|one| one.code == code).count()
    }

    /// What those who come late are told, each at each replica.
    async fn late(&self) -> Vec<String> {
        let replicas = self.replicas.lock().unwrap().clone();
        let mut told = Vec::new();
        for (token, turn) in self.latecomers.iter().zip(0..) {
            let one = present(&self.client, &replicas[turn % replicas.len()], token).await.unwrap();
            told.push(format!("{} {}", one.status, one.code));
            self.seen.lock().unwrap().push(one);
        }
        told
    }

    /// Ends the load, presents every token that was accepted once more everywhere, and judges what was seen.
    async fn end(self, what: &str, recovered: Duration) {
        self.over.store(true, Ordering::SeqCst);
        let accepted: Vec<Arc<str>> = self
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|one| one.status == 200)
            .map(|one| Arc::clone(&one.token))
            .collect();
        let replicas = self.replicas.lock().unwrap().clone();
        for token in &accepted {
            for replica in &replicas {
                let again = present(&self.client, replica, token).await.unwrap();
                self.seen.lock().unwrap().push(again);
            }
        }
        let outcomes = self.outcomes();
        let seen = self.seen.lock().unwrap();
        let longest = seen.iter().map(|one| one.took).max().unwrap();
        println!("{what}: fresh tokens served after {recovered:?}; longest answer {longest:?}; {outcomes:?}");
        let mut grants: HashMap<&str, usize> = HashMap::new();
        for one in seen.iter() {
            match (one.status, one.code.as_str()) {
                (200, _) => *grants.entry(&one.token).or_default() += 1,
                (422, "token-replayed") => {}
                (503, "store-unavailable" | "state-lost") => assert!(one.retry_after, "{}", one.code),
                (status, code) => panic!("{status} {code} in {outcomes:?}"),
            }
        }
        assert!(grants.values().all(|times| *times == 1), "a token was accepted twice: {outcomes:?}");
        assert!(accepted.len() > 20, "hardly a load: {outcomes:?}");
        assert!(longest < LONGEST, "{longest:?}");
    }
}

/// Presents a token; nothing if nobody listens there.
async fn present(client: &Client, address: &str, token: &Arc<str>) -> Option<Seen> {
    let began = Instant::now();
    let answer = mint_at(client, address, token).await?;
    let retry_after = answer.headers.contains_key("retry-after");
    let (token, code) = (Arc::clone(token), answer.code().to_owned());
    Some(Seen {
        token,
        replica: address.to_owned(),
        began,
        took: began.elapsed(),
        status: answer.status,
        code,
        retry_after,
    })
}

/// Two replicas of the real command and a real Redis.
async fn redis(what: &str, drill: impl AsyncFnOnce(&Drill, Server) -> (Duration, Server)) {
    let _alone = ALONE.lock().await;
    let server = Server::start(&[]);
    let home = home(server.port, QUIET);
    replicas(what, &home, async |under_load| drill(under_load, server).await).await;
}

/// Two replicas of the real command. What the drill returns with the time is kept until the end.
async fn replicas<T>(what: &str, home: &Home, drill: impl AsyncFnOnce(&Drill) -> (Duration, T)) {
    let provider = provider(home);
    let (one, two) = (home.serve(), home.serve());
    let under_load = Drill::begin(provider, &[&one.public, &two.public]).await;
    let (recovered, _kept) = drill(&under_load).await;
    under_load.end(what, recovered).await;
}

/// Does what blocks beside the load.
async fn beside(mut server: Server, what: impl FnOnce(&mut Server) + Send + 'static) -> Server {
    web::block(move || {
        what(&mut server);
        server
    })
    .await
    .unwrap()
}

#[actix_web::test]
async fn redis_is_killed_and_comes_back_empty() {
    redis("killed", async |drill, server| {
        let server = beside(server, Server::stop).await;
        rt::time::sleep(WHILE).await;
        assert!(drill.count("store-unavailable") > 0, "{:?}", drill.outcomes());
        let server = beside(server, Server::start_again).await;
        let recovered = drill.recovered().await;
        assert_eq!(drill.late().await, ["503 state-lost"; LATECOMERS]);
        (recovered, server)
    })
    .await;
}

#[actix_web::test]
async fn redis_does_not_answer_for_a_while_and_has_lost_nothing() {
    redis("paused", async |drill, server| {
        let lost = drill.count("state-lost");
        let process = server.process();
        send("-STOP", process);
        rt::time::sleep(WHILE).await;
        assert!(drill.count("store-unavailable") > 0, "{:?}", drill.outcomes());
        send("-CONT", process);
        let recovered = drill.recovered().await;
        assert_eq!(drill.late().await, ["200 "; LATECOMERS]);
        assert_eq!(drill.count("state-lost"), lost);
        (recovered, server)
    })
    .await;
}

#[actix_web::test]
async fn redis_is_flushed() {
    redis("flushed", async |drill, server| {
        let server = beside(server, |server| assert_eq!(server.cli(&["FLUSHALL"]), "OK\n")).await;
        let recovered = drill.recovered().await;
        assert_eq!(drill.late().await, ["503 state-lost"; LATECOMERS]);
        (recovered, server)
    })
    .await;
}

#[actix_web::test]
async fn redis_fails_over_and_its_last_writes_are_lost() {
    let _alone = ALONE.lock().await;
    let watched = Watched::start();
    let home = home(0, "");
    let sentinel = format!("sentinel: {{name: main, urls: [\"{}\"]}}", watched.sentinel_url());
    home.write("trustmint.yaml", &home.read("trustmint.yaml").replace("url: redis://127.0.0.1:0", &sentinel));
    home.write("trustmint.yaml", &format!("{}{QUIET}", home.read("trustmint.yaml")));
    replicas("failed over", &home, async |drill| {
        // The replica is cut off, and may not come back: what is written from now on is lost with the primary.
        watched.primary.ok(&["ACL", "SETUSER", "default", "-psync", "-sync"]);
        watched.primary.cli(&["CLIENT", "KILL", "TYPE", "replica"]);
        let before = drill.accepted();
        rt::time::sleep(WHILE).await;
        assert!(drill.accepted() > before, "nothing is written that could be lost: {:?}", drill.outcomes());
        let watched = web::block(move || {
            let mut watched = watched;
            watched.primary.stop();
            eventually("the Sentinel fails over", || watched.master() == watched.replica.port);
            watched
        });
        let watched = watched.await.unwrap();
        let recovered = drill.recovered().await;
        assert_eq!(drill.late().await, ["503 state-lost"; LATECOMERS]);
        (recovered, watched)
    })
    .await;
}

#[actix_web::test]
async fn redis_is_behind_a_network_that_is_cut_and_has_lost_nothing() {
    let _alone = ALONE.lock().await;
    let space = Namespace::new();
    let server = Server::start_within(&space);
    let home = home(server.port, QUIET);
    replicas("cut off", &home, async |drill| {
        let lost = drill.count("state-lost");
        space.cut();
        rt::time::sleep(WHILE).await;
        assert!(drill.count("store-unavailable") > 0, "{:?}", drill.outcomes());
        space.mend();
        let recovered = drill.recovered().await;
        assert_eq!(drill.late().await, ["200 "; LATECOMERS]);
        assert_eq!(drill.count("state-lost"), lost);
        (recovered, server)
    })
    .await;
}

#[actix_web::test]
async fn the_memory_store_restarts() {
    let _alone = ALONE.lock().await;
    let home = Home::with_key();
    let settings = "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\n";
    home.write("trustmint.yaml", &format!("{settings}{QUIET}"));
    let provider = provider(&home);
    let first = home.serve();
    let drill = Drill::begin(provider, &[&first.public]).await;
    drop(first);
    let second = home.serve();
    drill.replicas.lock().unwrap().splice(.., [second.public.clone()]);
    let recovered = drill.recovered().await;
    assert_eq!(drill.late().await, ["503 state-lost"; LATECOMERS]);
    drill.end("memory store restarted", recovered).await;
}
