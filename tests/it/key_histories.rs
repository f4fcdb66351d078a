//! Histories of an issuer's keys: what happened, which requests that caused, and what became of the tokens.
//!
//! `tests/data/key_histories/*.txt` are the table. A history begins with `== ` and its sentence; each line after it is a
//! moment, an event and, after `=`, what comes of it. Requests stand in brackets, exactly those that the event caused, in
//! order: `D` asks for the discovery document, `K` for the key set, `K*6` six times; no bracket is no request. Time and
//! answers are scripted, so nothing is slept and nothing is left to chance but jitter, which the moments stay clear of.
//!
//! ```text
//! publish a b [max-age 10m]   the issuer's keys from now on     hold, release     answers are kept back
//! fail STATUS | down | hangs | says TEXT | moved | elsewhere    what it answers instead of keys or discovery
//! token KID = accepted | unknown | kid-required | failed | cooling | late | full
//! tick                        the schedule is looked at         refresh           an operator demands one
//! hostile COUNT DURATION      invented key ids, evenly spread: none is accepted
//! step DURATION               the clock is set forward or back  age = fresh | stale | dead | empty
//! replica KIDS                another replica fetches this set  restart           this replica begins anew
//! error = none | CODE         the last refresh's error
//! ```

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::task::yield_now;
use trustmint::identity::cache::Age;
use trustmint::identity::fetch::Answer;
use trustmint::identity::fetch::Fetch;
use trustmint::identity::fetch::FetchError;
use trustmint::identity::fetch::Fetched;
use trustmint::identity::fetch::Limits;
use trustmint::identity::issuer::Issuer;
use trustmint::identity::issuer::IssuerUrl;
use trustmint::identity::issuer::Reach;
use trustmint::identity::keys::KeyError;
use trustmint::identity::keys::Keys;
use trustmint::identity::provider;
use trustmint::secret::Secret;
use trustmint::state::MemoryStore;
use trustmint::state::SealKey;
use trustmint::state::SealKeys;
use trustmint::state::State;
use trustmint::time::Clock;
use trustmint::time::Timestamp;
use trustmint::yielding::Yielding;
use url::Url;

use crate::support::SetClock;

/// Longer than any answer takes here, and short enough for a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the issuer answers.
#[derive(Clone)]
enum Says {
    Keys(Vec<String>, Option<Duration>),
    Text(String),
    Error(FetchError),
    /// No answer within the fetcher's limit: two seconds pass.
    Hangs,
}

#[derive(Debug)]
struct Script {
    clock: Arc<SetClock>,
    discovery: Mutex<Option<Result<String, FetchError>>>,
    keys: Mutex<Says>,
    requests: Mutex<String>,
    gate: Semaphore,
}

impl std::fmt::Debug for Says {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Says")
    }
}

#[async_trait]
impl Fetch for Script {
    async fn get(&self, url: &Url, _: &Reach, _: Option<&str>, _: Limits) -> Result<Answer, FetchError> {
        let discovery = url.path().ends_with("/openid-configuration");
        self.requests.lock().unwrap().push(if discovery { 'D' } else { 'K' });
        self.gate.acquire().await.unwrap().forget();
        let document =
            |text: String, max_age| Answer::Document(Fetched { bytes: text.into_bytes(), max_age, etag: None });
        let says = self.keys.lock().unwrap().clone();
        if discovery {
            let usual = r#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/keys"}"#.to_owned();
            let answer = self.discovery.lock().unwrap().clone().unwrap_or(Ok(usual));
            // An issuer that is down is down altogether.
            return match says {
                Says::Error(error @ FetchError::Connect(_)) => Err(error),
                Says::Hangs => self.hang(),
                Says::Keys(..) | Says::Text(_) | Says::Error(_) => answer.map(|text| document(text, None)),
            };
        }
        match says {
            Says::Keys(kids, max_age) => Ok(document(key_set(&kids), max_age)),
            Says::Text(text) => Ok(document(text, None)),
            Says::Error(error) => Err(error),
            Says::Hangs => self.hang(),
        }
    }
}

impl Script {
    fn new(clock: &Arc<SetClock>) -> Arc<Self> {
        Arc::new(Self {
            clock: Arc::clone(clock),
            discovery: Mutex::default(),
            keys: Mutex::new(Says::Error(FetchError::Connect("refused".into()))),
            requests: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    fn hang(&self) -> Result<Answer, FetchError> {
        self.clock.pass(Duration::from_secs(2));
        Err(FetchError::TimedOut(Duration::from_secs(2)))
    }
}

/// Ed25519 keys under these names; `odd` is of a type that nobody verifies with, `numeric` has a number for a name.
fn key_set(kids: &[String]) -> String {
    let member = |kid: &String| match kid.as_str() {
        "odd" => r#"{"kty":"AKP","alg":"ML-DSA-65","kid":"odd","pub":"AAAA"}"#.to_owned(),
        "secret" => r#"{"kty":"oct","kid":"secret","k":"c2VjcmV0"}"#.to_owned(),
        "numeric" => r#"{"kty":"OKP","crv":"Ed25519","kid":7,"x":"AAAA"}"#.to_owned(),
        "short" => r#"{"kty":"RSA","kid":"short","n":"AQAB","e":"AQAB"}"#.to_owned(),
        kid => {
            let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
            format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#)
        }
    };
    format!(r#"{{"keys":[{}]}}"#, kids.iter().map(member).collect::<Vec<_>>().join(","))
}

struct World {
    keys: Arc<Keys>,
    script: Arc<Script>,
    state: Arc<State>,
    clock: Arc<SetClock>,
    /// Time that has passed, clock steps not counted.
    elapsed: Duration,
    waiting: Vec<JoinHandle<String>>,
    invented: usize,
}

fn issuer() -> Issuer {
    let url = IssuerUrl::parse("https://ci.example").unwrap();
    Issuer::new("ci".into(), provider::by_name("generic").unwrap(), url).unwrap()
}

fn replica(script: &Arc<Script>, state: &Arc<State>, clock: &Arc<SetClock>) -> Arc<Keys> {
    let keys = Keys::new(script.clone(), Arc::clone(state), clock.clone(), Handle::current(), Box::new(|_| {}));
    keys.install([&Arc::new(issuer())]);
    Arc::new(keys)
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(SetClock::starting_at(Timestamp::from_unix_seconds(1_800_000_000)));
        let script = Script::new(&clock);
        let seal = SealKey::new("k1".into(), Timestamp::from_unix_seconds(0), Secret::new([7; 32]));
        let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 20));
        let state = Arc::new(State::new(store, SealKeys::new(vec![seal])));
        let keys = replica(&script, &state, &clock);
        Self { keys, script, state, clock, elapsed: Duration::ZERO, waiting: Vec::new(), invented: 0 }
    }

    async fn at(&mut self, moment: Duration, event: &[&str]) -> String {
        self.clock.pass(moment.checked_sub(self.elapsed).expect("moments go forward"));
        self.elapsed = moment;
        let before = self.clock.now();
        let says = match event {
            ["publish", kids @ .., "max-age", age] => {
                self.says(Says::Keys(owned(kids), Some(duration(age))));
                String::new()
            }
            ["publish", kids @ ..] => self.says(Says::Keys(owned(kids), None)),
            ["fail", status] => self.says(Says::Error(FetchError::Status(status.parse().unwrap()))),
            ["down"] => self.says(Says::Error(FetchError::Connect("refused".into()))),
            ["too-large"] => self.says(Says::Error(FetchError::TooLarge(100 * 1024))),
            ["hangs"] => self.says(Says::Hangs),
            ["says", words @ ..] => self.says(Says::Text(words.join(" "))),
            ["discovery", "fails"] => self.discovers(Some(Err(FetchError::Status(404)))),
            ["discovery", "usual"] => self.discovers(None),
            ["discovery", words @ ..] => self.discovers(Some(Ok(words.join(" ")))),
            ["hold"] => {
                self.script.gate.forget_permits(usize::MAX);
                String::new()
            }
            ["release"] => {
                self.script.gate.add_permits(1000);
                let mut verdicts = Vec::new();
                for waiting in std::mem::take(&mut self.waiting) {
                    verdicts.push(waiting.await.unwrap());
                }
                settle().await;
                verdicts.join(" ")
            }
            ["token", kid] => token(&self.keys, Some(*kid).filter(|kid| *kid != "none"), self.clock.now()).await,
            ["waits", kids @ ..] => {
                for kid in kids {
                    let (keys, kid, now) = (Arc::clone(&self.keys), (*kid).to_owned(), self.clock.now());
                    self.waiting.push(tokio::spawn(async move { token(&keys, Some(&kid), now).await }));
                }
                settle().await;
                String::new()
            }
            ["tick"] => {
                self.keys.refresh_due();
                settle().await;
                String::new()
            }
            ["refresh"] => {
                assert_eq!(self.keys.refresh_now(issuer().url(), PATIENCE).await, Some(true));
                String::new()
            }
            ["hostile", count, time] => self.hostile(count.parse().unwrap(), duration(time)).await,
            ["replica", kids @ ..] => {
                let theirs = Script::new(&self.clock);
                *theirs.keys.lock().unwrap() = Says::Keys(owned(kids), None);
                let other = replica(&theirs, &self.state, &self.clock);
                assert_eq!(other.refresh_now(issuer().url(), PATIENCE).await, Some(true));
                settle().await;
                String::new()
            }
            ["restart"] => {
                self.keys = replica(&self.script, &self.state, &self.clock);
                String::new()
            }
            ["step", time] => {
                match time.strip_prefix('-') {
                    Some(back) => self.clock.go_back(duration(back)),
                    None => self.clock.pass(duration(time.trim_start_matches('+'))),
                }
                return String::new();
            }
            ["age"] => match self.keys.health()[0].status.as_ref().unwrap().age {
                Age::Empty => "empty",
                Age::Fresh => "fresh",
                Age::Stale => "stale",
                Age::Dead => "dead",
            }
            .to_owned(),
            ["error"] => self.keys.health()[0].last_error.as_ref().map_or("none", |error| error.code).to_owned(),
            other => panic!("no event {other:?}"),
        };
        // What hung took its time, and hostile streams take theirs.
        self.elapsed += self.clock.now().since(before);
        says
    }

    fn says(&self, says: Says) -> String {
        *self.script.keys.lock().unwrap() = says;
        String::new()
    }

    fn discovers(&self, answer: Option<Result<String, FetchError>>) -> String {
        *self.script.discovery.lock().unwrap() = answer;
        String::new()
    }

    async fn hostile(&mut self, count: u32, time: Duration) -> String {
        for _ in 0..count {
            self.invented += 1;
            let verdict = token(&self.keys, Some(&format!("invented-{}", self.invented)), self.clock.now()).await;
            assert_ne!(verdict, "accepted");
            self.clock.pass(time / count);
        }
        String::new()
    }

    /// The requests since the last call: `[D K*2]`, or nothing.
    fn requests(&self) -> String {
        let made = std::mem::take(&mut *self.script.requests.lock().unwrap());
        let mut runs: Vec<(char, usize)> = Vec::new();
        for kind in made.chars() {
            match runs.last_mut() {
                Some((last, count)) if *last == kind => *count += 1,
                _ => runs.push((kind, 1)),
            }
        }
        let run =
            |(kind, count): &(char, usize)| if *count == 1 { kind.to_string() } else { format!("{kind}*{count}") };
        if runs.is_empty() {
            String::new()
        } else {
            format!("[{}]", runs.iter().map(run).collect::<Vec<_>>().join(" "))
        }
    }
}

async fn token(keys: &Keys, kid: Option<&str>, now: Timestamp) -> String {
    let verdict = match keys.key(&issuer(), kid, now, PATIENCE, Yielding::NOTHING).await {
        Ok(key) => {
            assert!(kid.is_none() || key.kid() == kid, "the key has the token's name");
            "accepted"
        }
        Err(KeyError::UnknownKey { .. }) => "unknown",
        Err(KeyError::KidRequired) => "kid-required",
        Err(KeyError::Unavailable { reason, retry_after }) => {
            assert!((1..=15).contains(&retry_after.as_secs()), "{retry_after:?}");
            match reason {
                "the issuer's keys could not be fetched" => "failed",
                "the issuer's keys did not arrive in time" => "late",
                "too many tokens are waiting for the issuer's keys" => "full",
                _ => "cooling",
            }
        }
    };
    verdict.to_owned()
}

/// Lets every task run until all of them wait.
async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        "d" => Duration::from_secs(86_400),
        other => panic!("unit {other:?}"),
    };
    unit * number.parse::<u32>().unwrap()
}

async fn play(title: &str, lines: &[&str], faults: &mut Vec<String>) {
    let mut world = World::new();
    for line in lines {
        let (event, expected) = line.split_once(" = ").unwrap_or((line, ""));
        let words: Vec<&str> = event.split_whitespace().collect();
        let said = world.at(duration(words[0]), &words[1..]).await;
        let came = [said, world.requests()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        if came != expected.trim() {
            faults.push(format!("{title}\n    {}\n    came: {came}", line.trim()));
            return;
        }
    }
}

#[actix_web::test]
async fn every_history_of_the_table_takes_its_course() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/key_histories");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut played, mut faults) = (0, Vec::new());
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for history in text.split("\n== ").skip(1) {
            let mut lines = history.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
            let title = lines.next().unwrap();
            play(title, &lines.collect::<Vec<_>>(), &mut faults).await;
            played += 1;
        }
    }
    assert!(faults.is_empty(), "{} of {played} histories went otherwise:\n{}", faults.len(), faults.join("\n"));
    assert!(played >= 80, "the table has {played} histories");
}
