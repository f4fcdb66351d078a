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
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
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
use crate::support::service::API_KEY;
use crate::support::service::Answer;

/// What an exchange takes at most, whatever the store does.
const LONGEST: Duration = Duration::from_secs(4);
/// Twice the time-out of the store is what most of those wait that it does not answer; the rest is for a machine that is
/// busy.
const USUAL: Duration = Duration::from_millis(600);
/// Fresh tokens are served within a second of the store's return; the rest is for a machine that is busy.
const SERVED_AGAIN: Duration = Duration::from_secs(5);
/// How long the load runs before the store goes, and how long it is away.
const WHILE: Duration = Duration::from_millis(800);
/// Jobs that have their tokens before the store goes, and use them when it is back: so many are looked at.
const LATECOMERS: usize = 10;
/// So many there are, since a store that did not answer may hold the token all the same.
const SPARE: usize = 6 * LATECOMERS;
/// Each thread of a replica has a connection of its own, which is back in its own time: what one is told at once, another
/// is told a little later.
const A_LITTLE: Duration = Duration::from_millis(20);
/// How many tokens are presented once more at the same time.
const AT_A_TIME: usize = 4;

/// Settings of a service whose output nobody reads once it has said where it serves.
const QUIET: &str = "audit: {sink: file, file: audit.jsonl}\ntelemetry: {level: \"error,trustmint::cli=info\"}\n";

const HOST: &str = "pypi.acme.example";

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
    uploads: Uploads,
}

/// Upload tokens from before the store goes.
#[derive(Default)]
struct Uploads {
    single_use: String,
    revoked: String,
    other: String,
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
            uploads: Uploads::default(),
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
                    rt::time::sleep(A_LITTLE).await;
                }
            });
        }
        // A store that has just begun refuses what was issued before it.
        drill.recovered().await;
        rt::time::sleep(WHILE).await;
        let latecomers = (0..SPARE).map(|_| id_token_at(&drill.provider, SystemClock.now()).into()).collect();
        let uploads = drill.uploads().await;
        Self { latecomers, uploads, ..drill }
    }

    /// An upload token for one use, one that is revoked everywhere, and another.
    async fn uploads(&self) -> Uploads {
        let replicas = self.replicas.lock().unwrap().clone();
        let mint = async |body: Value| {
            let request = self.client.post(format!("{}/_/oidc/mint-token", replicas[0])).header("host", HOST);
            let answer = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
            answer.body["token"].as_str().unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
        };
        let id_token = || id_token_at(&self.provider, SystemClock.now());
        let uploads = Uploads {
            single_use: mint(json!({"token": id_token(), "features": ["single-use-token"]})).await,
            revoked: mint(json!({"token": id_token()})).await,
            other: mint(json!({"token": id_token()})).await,
        };
        let revoke = self.client.post(format!("{}/v1/revoke", replicas[0])).header("host", HOST);
        let revoke = revoke.header("content-type", "application/x-www-form-urlencoded");
        let revoked = revoke.body(format!("token={}", uploads.revoked)).send().await.unwrap();
        assert_eq!(revoked.status(), 200);
        let started = Instant::now();
        for replica in &replicas {
            while self.verdict(replica, &uploads.revoked).await != "upload-token-revoked" {
                assert!(started.elapsed() < PATIENCE);
                rt::time::sleep(Duration::from_millis(20)).await;
            }
        }
        uploads
    }

    /// What a registry is told of one upload, once the store answers; to ask again about the same upload changes nothing.
    async fn verdict(&self, replica: &str, token: &str) -> String {
        let question = json!({"token": token, "package": "widgets", "exists": true, "consume": "late"});
        let started = Instant::now();
        loop {
            let request = self.client.post(format!("{replica}/v1/verify")).header("host", HOST).bearer_auth(API_KEY);
            let answer = Answer::of(request.body(question.to_string()).send().await.unwrap()).await;
            if answer.body["allowed"] == true {
                return "allowed".to_owned();
            }
            if answer.code() != "store-unavailable" || started.elapsed() > PATIENCE {
                return answer.code().to_owned();
            }
            rt::time::sleep(A_LITTLE).await;
        }
    }

    /// Presents tokens that were accepted before once more, each at every replica, a few at a time.
    async fn once_more(&self, tokens: Vec<Arc<str>>) -> Vec<(u16, String)> {
        let (tokens, replicas) = (Arc::new(tokens), self.replicas.lock().unwrap().clone());
        let mut some = JoinSet::new();
        for first in 0..AT_A_TIME {
            let (client, seen) = (self.client.clone(), Arc::clone(&self.seen));
            let (tokens, replicas) = (Arc::clone(&tokens), replicas.clone());
            some.spawn(async move {
                let mut told = Vec::new();
                for token in tokens.iter().skip(first).step_by(AT_A_TIME) {
                    for replica in &replicas {
                        told.push(again(&client, replica, token, &seen).await);
                    }
                }
                told
            });
        }
        some.join_all().await.concat()
    }

    /// What the registry is told at each replica: of the token for one use, the revoked one, and the other.
    async fn late_uploads(&self) -> Vec<[String; 3]> {
        let replicas = self.replicas.lock().unwrap().clone();
        let Uploads { single_use, revoked, other } = &self.uploads;
        let mut told = Vec::new();
        for replica in &replicas {
            told.push([
                self.verdict(replica, single_use).await,
                self.verdict(replica, revoked).await,
                self.verdict(replica, other).await,
            ]);
        }
        told
    }

    /// Replicas that were there before the loss know what was revoked, and refuse what may have been used, which is also
    /// everything that was accepted before it.
    async fn has_lost(&self, at: Instant) {
        assert_eq!(self.late().await, ["503 state-lost"; LATECOMERS]);
        let before = |one: &&Seen| one.status == 200 && one.began + one.took < at;
        let used: Vec<Arc<str>> =
            self.seen.lock().unwrap().iter().filter(before).map(|one| Arc::clone(&one.token)).collect();
        assert!(used.len() > 10, "hardly a load: {:?}", self.outcomes());
        for told in self.once_more(used).await {
            assert_eq!(told, (503, "state-lost".to_owned()));
        }
        let told = ["state-lost", "upload-token-revoked", "allowed"].map(str::to_owned);
        assert!(self.late_uploads().await.into_iter().all(|one| one == told), "{:?}", self.late_uploads().await);
    }

    async fn has_lost_nothing(&self, before: usize) {
        assert_eq!(self.late().await, ["200 "; LATECOMERS]);
        assert_eq!(self.count("state-lost"), before);
        let told = ["allowed", "upload-token-revoked", "allowed"].map(str::to_owned);
        assert!(self.late_uploads().await.into_iter().all(|one| one == told), "{:?}", self.late_uploads().await);
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

    /// What the first of those who come late are told whom the store answers, at each replica by turns.
    async fn late(&self) -> Vec<String> {
        let replicas = self.replicas.lock().unwrap().clone();
        let mut told = Vec::new();
        for (token, turn) in self.latecomers.iter().zip(0..) {
            let one = present(&self.client, &replicas[turn % replicas.len()], token).await.unwrap();
            if one.code == "store-unavailable" {
                rt::time::sleep(A_LITTLE).await;
            } else {
                told.push(format!("{} {}", one.status, one.code));
            }
            self.seen.lock().unwrap().push(one);
            if told.len() == LATECOMERS {
                break;
            }
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
        let accepted_tokens = accepted.len();
        self.once_more(accepted).await;
        let outcomes = self.outcomes();
        let seen = self.seen.lock().unwrap();
        let longest = seen.iter().map(|one| one.took).max().unwrap();
        let unanswered = seen.iter().filter(|one| one.code == "store-unavailable").map(|one| one.took);
        let mut unanswered: Vec<Duration> = unanswered.collect();
        unanswered.sort_unstable();
        let of_hundred = |n: usize| unanswered.get(unanswered.len() * n / 100).copied().unwrap_or_default();
        let (median, most) = (of_hundred(50), of_hundred(95));
        println!(
            "{what}: fresh tokens served after {recovered:?}; longest answer {longest:?}; unanswered by the store waited {median:?}, 95 of 100 at most {most:?}; {outcomes:?}"
        );
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
        assert!(accepted_tokens > 20, "hardly a load: {outcomes:?}");
        assert!(longest < LONGEST, "{longest:?}");
        assert!(recovered < SERVED_AGAIN, "fresh tokens are served after {recovered:?}");
        assert!(median < USUAL, "half of those that the store did not answer waited for {median:?}");
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

/// What becomes of a token that was accepted before, once the store answers.
async fn again(client: &Client, replica: &str, token: &Arc<str>, seen: &Mutex<Vec<Seen>>) -> (u16, String) {
    let started = Instant::now();
    loop {
        let one = present(client, replica, token).await.unwrap();
        let told = (one.status, one.code.clone());
        seen.lock().unwrap().push(one);
        if told.1 != "store-unavailable" || started.elapsed() > PATIENCE {
            return told;
        }
        rt::time::sleep(A_LITTLE).await;
    }
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
        let lost = Instant::now();
        let server = beside(server, Server::stop).await;
        rt::time::sleep(WHILE).await;
        assert!(drill.count("store-unavailable") > 0, "{:?}", drill.outcomes());
        let server = beside(server, Server::start_again).await;
        let recovered = drill.recovered().await;
        drill.has_lost(lost).await;
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
        drill.has_lost_nothing(lost).await;
        (recovered, server)
    })
    .await;
}

#[actix_web::test]
async fn redis_is_flushed() {
    redis("flushed", async |drill, server| {
        let lost = Instant::now();
        let server = beside(server, |server| assert_eq!(server.cli(&["FLUSHALL"]), "OK\n")).await;
        let recovered = drill.recovered().await;
        drill.has_lost(lost).await;
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
        let lost = Instant::now();
        let watched = web::block(move || {
            let mut watched = watched;
            watched.primary.stop();
            eventually("the Sentinel fails over", || watched.master() == watched.replica.port);
            watched
        });
        let watched = watched.await.unwrap();
        let recovered = drill.recovered().await;
        drill.has_lost(lost).await;
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
        drill.has_lost_nothing(lost).await;
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
    // It holds nothing of what was revoked or used before it.
    assert_eq!(drill.late_uploads().await, [["state-lost"; 3].map(str::to_owned)]);
    drill.end("memory store restarted", recovered).await;
}
