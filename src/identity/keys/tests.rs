use super::*;

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Poll;

use async_trait::async_trait;
use tokio::sync::Semaphore;

use crate::identity::cache::Age;
use crate::identity::fetch;
use crate::identity::fetch::FetchError;
use crate::identity::fetch::Fetched;
use crate::identity::provider;
use crate::secret::Secret;
use crate::state::MemoryStore;
use crate::state::SealKey;
use crate::state::SealKeys;

const PATIENCE: Duration = Duration::from_millis(2500);

#[derive(Debug)]
struct SetClock(AtomicI64);

impl SetClock {
    fn forward(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.0.load(Ordering::Relaxed))
    }
}

type Answer = Result<&'static str, FetchError>;

/// Issuers that answer from a script, when the gate lets them.
#[derive(Debug)]
struct Script {
    answers: Mutex<HashMap<String, Answer>>,
    requests: Mutex<Vec<(String, Reach)>>,
    /// The entity tag of whatever is asked for, and so that what was known is unchanged.
    tag: Mutex<Option<&'static str>>,
    gate: Semaphore,
}

#[async_trait]
impl Fetch for Script {
    async fn get(
        &self,
        url: &Url,
        reach: &Reach,
        known: Option<&str>,
        _: fetch::Limits,
    ) -> Result<fetch::Answer, FetchError> {
        self.requests.lock().unwrap().push((url.to_string(), reach.clone()));
        self.gate.acquire().await.unwrap().forget();
        let tag = *self.tag.lock().unwrap();
        if known.is_some() && known == tag {
            return Ok(fetch::Answer::NotModified { max_age: None });
        }
        let answer = self.answers.lock().unwrap().get(url.as_str()).cloned();
        let text = answer.unwrap_or(Err(FetchError::Status(404)))?;
        assert!(text != "panic", "as scripted");
        Ok(fetch::Answer::Document(Fetched {
            bytes: text.as_bytes().to_vec(),
            max_age: None,
            etag: tag.map(str::to_owned),
        }))
    }
}

struct Bench {
    keys: Arc<Keys>,
    script: Arc<Script>,
    clock: Arc<SetClock>,
    reports: Arc<Mutex<Vec<String>>>,
}

const DOCUMENT: &str = r#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/keys"}"#;
const DOCUMENT_URL: &str = "https://ci.example/.well-known/openid-configuration";
const KEYS_URL: &str = "https://ci.example/keys";
/// RFC 8037 appendix A.2, under the names that the tests use.
const OLD: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"old","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
const NEW: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"new","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"AKP","kid":"odd"}]}"#;
const EMPTY: &str = r#"{"keys":[]}"#;

fn issuer() -> Issuer {
    let provider = provider::by_name("generic").unwrap();
    Issuer::new("ci".into(), provider, IssuerUrl::parse("https://ci.example").unwrap()).unwrap()
}

fn issuer_with(change: impl FnOnce(&mut Issuer)) -> Arc<Issuer> {
    let mut issuer = issuer();
    change(&mut issuer);
    Arc::new(issuer)
}

impl Bench {
    fn new() -> Self {
        let answers = HashMap::from([(DOCUMENT_URL.into(), Ok(DOCUMENT)), (KEYS_URL.into(), Ok(OLD))]);
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        let script =
            Arc::new(Script { answers: Mutex::new(answers), requests: Mutex::default(), tag: Mutex::default(), gate });
        let clock = Arc::new(SetClock(AtomicI64::new(1_800_000_000_000)));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&reports);
        let report: Report = Box::new(move |refresh| {
            let changed = match refresh.outcome {
                Ok((change, skipped)) => {
                    format!(" +{:?} -{:?} skipped {}", change.added, change.withdrawn, skipped.len())
                }
                Err(_) => String::new(),
            };
            heard.lock().unwrap().push(format!("{} {}{changed}", refresh.issuer.id, refresh.code()));
        });
        let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 20));
        let seal = SealKey::new("k1".into(), Timestamp::from_unix_seconds(0), Secret::new([7; 32]));
        let state = Arc::new(State::new(store, SealKeys::new(vec![seal])));
        let keys = Arc::new(Keys::new(script.clone(), state, clock.clone(), Handle::current(), report));
        keys.install([&Arc::new(issuer())]);
        Self { keys, script, clock, reports }
    }

    fn says(&self, url: &str, answer: Answer) {
        self.script.answers.lock().unwrap().insert(url.into(), answer);
    }

    fn close_gate(&self) {
        self.script.gate.forget_permits(usize::MAX);
    }

    fn open_gate(&self) {
        self.script.gate.add_permits(1000);
    }

    async fn key(&self, kid: Option<&str>) -> Result<Arc<Key>, KeyError> {
        self.keys.key(&issuer(), kid, self.clock.now(), PATIENCE, Yielding::NOTHING).await
    }

    async fn refresh(&self) -> Option<bool> {
        self.keys.refresh_now(issuer().url(), PATIENCE).await
    }

    /// Lets every task run until all of them wait.
    async fn settle(&self) {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    fn requested(&self) -> Vec<String> {
        std::mem::take(&mut *self.script.requests.lock().unwrap()).into_iter().map(|(url, _)| url).collect()
    }

    fn reported(&self) -> Vec<String> {
        std::mem::take(&mut *self.reports.lock().unwrap())
    }
}

fn unknown(kid: &str) -> KeyError {
    KeyError::UnknownKey { kid: kid.into() }
}

fn reason(result: &Result<Arc<Key>, KeyError>) -> &'static str {
    match result {
        Err(KeyError::Unavailable { reason, retry_after }) => {
            assert!(*retry_after >= Duration::from_secs(1) && *retry_after <= Duration::from_secs(15));
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_first_token_causes_discovery_and_one_fetch_and_the_second_none() {
    let bench = Bench::new();
    assert_eq!(bench.key(Some("old")).await.unwrap().kid(), Some("old"));
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);
    assert!(bench.key(Some("old")).await.is_ok());
    assert!(bench.key(None).await.is_ok());
    assert_eq!(bench.requested(), [""; 0]);
    assert_eq!(bench.reported(), [r#"ci ok +["old"] -[] skipped 0"#]);
}

#[tokio::test]
async fn tokens_that_come_together_share_one_fetch() {
    let bench = Bench::new();
    bench.close_gate();
    let waiting: Vec<_> = (0..remote::MAX_WAITING)
        .map(|number| {
            let (keys, now) = (Arc::clone(&bench.keys), bench.clock.now());
            let kid = if number % 2 == 0 { "old" } else { "unheard-of" };
            tokio::spawn(async move { keys.key(&issuer(), Some(kid), now, PATIENCE, Yielding::NOTHING).await })
        })
        .collect();
    bench.settle().await;
    assert_eq!(bench.requested(), [DOCUMENT_URL]);
    bench.open_gate();
    for (number, waiting) in waiting.into_iter().enumerate() {
        let result = waiting.await.unwrap();
        if number % 2 == 0 {
            assert_eq!(result.unwrap().kid(), Some("old"));
        } else {
            assert_eq!(result.unwrap_err(), unknown("unheard-of"));
        }
    }
    assert_eq!(bench.requested(), [KEYS_URL]);
}

#[tokio::test]
async fn only_so_many_tokens_wait_for_one_issuer() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.clock.forward(60);
    bench.close_gate();
    let mut waiting = Vec::new();
    for _ in 0..remote::MAX_WAITING {
        let (keys, now) = (Arc::clone(&bench.keys), bench.clock.now());
        waiting.push(tokio::spawn(async move {
            keys.key(&issuer(), Some("invented"), now, PATIENCE, Yielding::NOTHING).await
        }));
    }
    bench.settle().await;
    assert_eq!(reason(&bench.key(Some("new")).await), "too many tokens are waiting for the issuer's keys");
    // Who needs not wait is served, and the places are free again when the fetch has ended.
    assert!(bench.key(Some("old")).await.is_ok());
    bench.says(KEYS_URL, Ok(NEW));
    bench.open_gate();
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_err());
    }
    assert!(bench.key(Some("new")).await.is_ok());
}

#[tokio::test]
async fn a_token_gives_its_place_back_as_it_begins_to_wait_and_not_before() {
    let bench = Bench::new();
    let given = AtomicUsize::new(0);
    let give_back = || {
        given.fetch_add(1, Ordering::Relaxed);
    };
    bench.close_gate();
    let yielding = Yielding::new(&give_back);
    let (kept, now) = (Arc::clone(&bench.keys), bench.clock.now());
    let issuer = issuer();
    let mut asking = std::pin::pin!(kept.key(&issuer, Some("old"), now, PATIENCE, yielding));
    assert!(poll_fn(|context| Poll::Ready(asking.as_mut().poll(context).is_pending())).await);
    assert_eq!(given.load(Ordering::Relaxed), 1);
    bench.open_gate();
    assert!(asking.await.is_ok());
    assert_eq!(given.load(Ordering::Relaxed), 1);
    assert!(bench.keys.key(&issuer, Some("old"), now, PATIENCE, yielding).await.is_ok());
    assert_eq!(given.load(Ordering::Relaxed), 1, "the key was there");
}

#[tokio::test]
async fn a_fetch_goes_on_when_those_who_waited_have_given_up() {
    let bench = Bench::new();
    bench.close_gate();
    let impatient = bench.keys.key(&issuer(), Some("old"), bench.clock.now(), Duration::ZERO, Yielding::NOTHING).await;
    assert_eq!(reason(&impatient), "the issuer's keys did not arrive in time");
    // Also when the caller is gone altogether, and with it its task.
    let (keys, now) = (Arc::clone(&bench.keys), bench.clock.now());
    let gone = tokio::spawn(async move { keys.key(&issuer(), Some("old"), now, PATIENCE, Yielding::NOTHING).await });
    bench.settle().await;
    gone.abort();
    bench.open_gate();
    bench.settle().await;
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);
    assert!(bench.key(Some("old")).await.is_ok());
    assert_eq!(bench.requested(), [""; 0]);
}

#[tokio::test]
async fn keys_are_refreshed_ahead_of_expiry_and_withdrawn_ones_go() {
    let bench = Bench::new();
    bench.keys.refresh_due();
    bench.keys.refresh_due();
    bench.settle().await;
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);
    bench.says(KEYS_URL, Ok(NEW));
    bench.clock.forward(224);
    bench.keys.refresh_due();
    bench.settle().await;
    assert_eq!(bench.requested(), [""; 0]);
    bench.clock.forward(46);
    bench.keys.refresh_due();
    // A known key does not wait for it.
    assert!(bench.key(Some("old")).await.is_ok());
    bench.settle().await;
    assert_eq!(bench.requested(), [KEYS_URL], "discovery is believed for an hour");
    assert!(bench.key(Some("new")).await.is_ok());
    assert_eq!(bench.key(Some("old")).await.unwrap_err(), unknown("old"));
    assert_eq!(bench.reported()[1], r#"ci ok +["new"] -["old"] skipped 1"#);
}

#[tokio::test]
async fn a_rotation_is_learnt_from_the_first_token_that_names_the_new_key() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.says(KEYS_URL, Ok(NEW));
    bench.clock.forward(60);
    assert!(bench.key(Some("new")).await.is_ok());
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL, KEYS_URL]);
}

#[tokio::test]
async fn discovery_is_asked_again_after_an_hour_and_after_a_failure() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.clock.forward(3600);
    bench.keys.refresh_due();
    bench.settle().await;
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL, DOCUMENT_URL, KEYS_URL]);
    // The keys move.
    bench.says(KEYS_URL, Err(FetchError::Status(404)));
    bench.says(DOCUMENT_URL, Ok(r#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/moved"}"#));
    bench.says("https://ci.example/moved", Ok(NEW));
    bench.clock.forward(60);
    let failed = bench.key(Some("new")).await;
    assert_eq!(reason(&failed), "the issuer's keys could not be fetched");
    bench.clock.forward(1);
    assert!(bench.key(Some("new")).await.is_ok());
    assert_eq!(bench.requested(), [KEYS_URL, DOCUMENT_URL, "https://ci.example/moved"]);
    // An empty set is a failure too.
    bench.says("https://ci.example/moved", Ok(EMPTY));
    assert_eq!(bench.refresh().await, Some(true));
    bench.requested();
    assert_eq!(bench.refresh().await, Some(true));
    assert_eq!(bench.requested(), [DOCUMENT_URL, "https://ci.example/moved"]);
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_make_discovery_last() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.requested();
    bench.clock.forward(-24 * 3600);
    bench.keys.refresh_due();
    bench.settle().await;
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);
}

#[tokio::test]
async fn while_an_issuer_fails_its_keys_serve_for_a_day_and_the_pace_is_kept() {
    for (url, answer, code) in [
        (DOCUMENT_URL, Err(FetchError::TimedOut(Duration::from_secs(2))), "discovery-not-fetched"),
        (DOCUMENT_URL, Ok("<html>"), "discovery-refused"),
        (
            DOCUMENT_URL,
            Ok(r#"{"issuer":"https://ci.example/","jwks_uri":"https://ci.example/keys"}"#),
            "discovery-refused",
        ),
        (
            DOCUMENT_URL,
            Ok(r#"{"issuer":"https://ci.example","jwks_uri":"https://evil.example/keys"}"#),
            "discovery-refused",
        ),
        (KEYS_URL, Err(FetchError::Status(500)), "keys-not-fetched"),
        (KEYS_URL, Ok("<html>"), "keys-unreadable"),
        (KEYS_URL, Ok(EMPTY), "no-usable-key"),
    ] {
        let bench = Bench::new();
        // Cold: unavailable, with at most two attempts at once.
        bench.says(url, answer.clone());
        for _ in 0..100 {
            let failed = bench.key(Some("old")).await;
            let _ = reason(&failed);
            bench.clock.0.fetch_add(10, Ordering::Relaxed);
        }
        assert_eq!(bench.reported(), [format!("ci {code}"), format!("ci {code}")]);
        assert!(bench.requested().iter().all(|requested| requested == DOCUMENT_URL || requested == KEYS_URL));
        // Warm: the key is used for a day.
        bench.says(DOCUMENT_URL, Ok(DOCUMENT));
        bench.says(KEYS_URL, Ok(OLD));
        bench.clock.forward(30);
        assert!(bench.key(Some("old")).await.is_ok());
        bench.says(url, answer);
        for _ in 0..23 {
            bench.clock.forward(3600);
            bench.keys.refresh_due();
            bench.settle().await;
            assert!(bench.key(Some("old")).await.is_ok());
        }
        assert_eq!(bench.keys.health()[0].status.as_ref().unwrap().age, Age::Stale);
        bench.clock.forward(3600);
        let dead = bench.key(Some("old")).await;
        assert_eq!(reason(&dead), "the issuer's keys could not be fetched");
    }
}

#[tokio::test]
async fn ten_thousand_hostile_tokens_cause_no_more_fetches_than_the_allowance() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.requested();
    let mut refused = 0;
    for number in 0..10_000 {
        bench.clock.0.fetch_add(6, Ordering::Relaxed);
        refused += usize::from(bench.key(Some(&format!("hostile-{number}"))).await.is_err());
    }
    assert_eq!(refused, 10_000);
    assert!(bench.requested().len() <= 2 + 60 / 15);
    // A real rotation right after is learnt as soon as the answer said to come back.
    bench.says(KEYS_URL, Ok(NEW));
    if let Err(KeyError::Unavailable { retry_after, .. }) = bench.key(Some("new")).await {
        bench.clock.0.fetch_add(i64::try_from(retry_after.as_millis()).unwrap(), Ordering::Relaxed);
        assert!(bench.key(Some("new")).await.is_ok());
    }
}

#[tokio::test]
async fn hostile_tokens_that_come_together_cause_two_fetches() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.requested();
    bench.clock.forward(60);
    bench.close_gate();
    let mut waiting = Vec::new();
    for number in 0..1000 {
        bench.clock.0.fetch_add(1, Ordering::Relaxed);
        let (keys, now) = (Arc::clone(&bench.keys), bench.clock.now());
        waiting.push(tokio::spawn(async move {
            keys.key(&issuer(), Some(&format!("x{number}")), now, PATIENCE, Yielding::NOTHING).await
        }));
        tokio::task::yield_now().await;
    }
    bench.open_gate();
    for waiting in waiting {
        assert!(waiting.await.unwrap().is_err());
    }
    assert_eq!(bench.requested(), [KEYS_URL, KEYS_URL]);
}

#[tokio::test]
async fn a_fetch_that_dies_blocks_its_issuer_for_seconds_only() {
    let bench = Bench::new();
    bench.says(KEYS_URL, Ok("panic"));
    let dead =
        bench.keys.key(&issuer(), Some("old"), bench.clock.now(), Duration::from_millis(20), Yielding::NOTHING).await;
    assert_eq!(reason(&dead), "the issuer's keys did not arrive in time");
    bench.says(KEYS_URL, Ok(OLD));
    bench.clock.forward(10);
    assert!(bench.key(Some("old")).await.is_ok());
}

#[tokio::test]
async fn a_new_policy_keeps_what_is_held_unless_the_way_to_the_issuer_changed() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.requested();
    let unchanged = issuer_with(|issuer| issuer.id = "renamed".into());
    bench.keys.install([&unchanged]);
    assert!(bench.key(Some("old")).await.is_ok());
    assert_eq!(bench.requested(), [""; 0]);
    assert_eq!(bench.keys.health()[0].issuer.id, "renamed");

    let reach =
        Reach { ca_pem: Some(b"pem".to_vec()), allow_networks: vec!["10.0.0.0/8".parse().unwrap()], proxy: None };
    let keys = KeySource::Remote { reach: reach.clone(), jwks_uri: None };
    bench.keys.install([&issuer_with(|issuer| issuer.keys = keys)]);
    assert!(bench.key(Some("old")).await.is_ok());
    let expected = [DOCUMENT_URL, KEYS_URL].map(|url| (url.to_owned(), reach.clone()));
    assert_eq!(*bench.script.requests.lock().unwrap(), expected);

    let other_preset = provider::by_name("gitlab").unwrap();
    let other_preset = Issuer::new("ci".into(), other_preset, issuer().url().clone()).unwrap();
    bench.keys.install([&Arc::new(issuer())]);
    assert!(bench.key(Some("old")).await.is_ok());
    bench.requested();
    bench.keys.install([&Arc::new(other_preset)]);
    assert!(bench.key(Some("old")).await.is_ok());
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);

    bench.keys.install([]);
    assert_eq!(reason(&bench.key(Some("old")).await), "the issuer is no longer configured");
    assert!(bench.keys.health().is_empty());
}

#[tokio::test]
async fn static_keys_are_never_fetched() {
    let bench = Bench::new();
    bench.keys.install([&issuer_with(|issuer| issuer.keys = KeySource::Static(OLD.into()))]);
    bench.keys.refresh_due();
    assert!(bench.key(Some("old")).await.is_ok());
    assert!(bench.key(None).await.is_ok());
    assert_eq!(bench.key(Some("new")).await.unwrap_err(), unknown("new"));
    assert_eq!(bench.refresh().await, None);
    assert!(bench.keys.health()[0].status.is_none());
    bench.keys.install([&issuer_with(|issuer| issuer.keys = KeySource::Static(b"garbage".to_vec()))]);
    assert_eq!(bench.key(Some("old")).await.unwrap_err(), unknown("old"));
    assert_eq!(bench.key(None).await.unwrap_err(), KeyError::KidRequired);
    bench.settle().await;
    assert_eq!(bench.requested(), [""; 0]);
}

#[tokio::test]
async fn a_disabled_issuer_is_not_asked() {
    let bench = Bench::new();
    bench.keys.install([&issuer_with(|issuer| issuer.enabled = false)]);
    bench.keys.refresh_due();
    bench.settle().await;
    assert_eq!(bench.requested(), [""; 0]);
}

#[tokio::test]
async fn an_operator_can_refresh_at_once() {
    let bench = Bench::new();
    assert!(bench.key(Some("old")).await.is_ok());
    bench.says(KEYS_URL, Ok(NEW));
    let both = tokio::join!(bench.refresh(), bench.refresh());
    assert_eq!(both, (Some(true), Some(true)), "beside one under way it is the same one");
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL, KEYS_URL]);
    assert!(bench.key(Some("new")).await.is_ok());
    assert_eq!(bench.keys.refresh_now(&IssuerUrl::parse("https://other.example").unwrap(), PATIENCE).await, None);
    bench.close_gate();
    assert_eq!(bench.keys.refresh_now(issuer().url(), Duration::ZERO).await, Some(false), "it goes on");
}

#[tokio::test]
async fn many_issuers_are_not_asked_all_at_once() {
    let bench = Bench::new();
    bench.close_gate();
    let provider = provider::by_name("generic").unwrap();
    let issuers: Vec<_> = (0..100)
        .map(|number| {
            let url = IssuerUrl::parse(&format!("https://ci-{number}.example")).unwrap();
            Arc::new(Issuer::new(format!("ci-{number}"), provider, url).unwrap())
        })
        .collect();
    bench.keys.install(&issuers);
    for expected in [32, 64, 96, 100, 100] {
        bench.keys.refresh_due();
        bench.settle().await;
        assert_eq!(bench.script.requests.lock().unwrap().len(), expected);
    }
}

#[tokio::test]
async fn the_background_task_begins_with_a_tick() {
    let bench = Bench::new();
    let keys = Arc::clone(&bench.keys);
    let ticking = tokio::spawn(async move { keys.run().await });
    while bench.reports.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    ticking.abort();
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);
}

#[tokio::test]
async fn an_unchanged_set_is_confirmed_by_its_tag() {
    let bench = Bench::new();
    *bench.script.tag.lock().unwrap() = Some("\"v1\"");
    assert!(bench.key(Some("old")).await.is_ok());
    // What is served now is not read: the tag says that nothing changed.
    bench.says(KEYS_URL, Ok("<html>"));
    for _ in 0..11 {
        bench.clock.forward(300);
        bench.keys.refresh_due();
        bench.settle().await;
        assert!(bench.key(Some("old")).await.is_ok());
        assert_eq!(bench.keys.health()[0].status.as_ref().unwrap().age, Age::Fresh);
    }
    // Once an hour it is, tag or no tag.
    bench.says(KEYS_URL, Ok(OLD));
    bench.clock.forward(300);
    bench.says(DOCUMENT_URL, Ok(DOCUMENT));
    bench.requested();
    bench.refresh().await;
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);
    assert_eq!(bench.reported().pop().unwrap(), "ci ok +[] -[] skipped 0");
    // Another tag is another set; and after a failure nothing is known any more.
    *bench.script.tag.lock().unwrap() = Some("\"v2\"");
    bench.says(KEYS_URL, Ok(NEW));
    bench.refresh().await;
    assert!(bench.key(Some("new")).await.is_ok());
    bench.says(DOCUMENT_URL, Err(FetchError::TimedOut(Duration::from_secs(2))));
    bench.clock.forward(3600);
    bench.refresh().await;
    bench.says(DOCUMENT_URL, Ok(DOCUMENT));
    bench.says(KEYS_URL, Ok(OLD));
    bench.refresh().await;
    assert!(bench.key(Some("old")).await.is_ok());
}

#[tokio::test]
async fn the_operators_own_key_url_needs_no_discovery() {
    let bench = Bench::new();
    let elsewhere = Url::parse("https://keys.example/set").unwrap();
    let source = KeySource::Remote { reach: Reach::default(), jwks_uri: Some(elsewhere.clone()) };
    bench.keys.install([&issuer_with(|issuer| issuer.keys = source)]);
    bench.says(elsewhere.as_str(), Ok(NEW));
    assert!(bench.key(Some("new")).await.is_ok());
    bench.clock.forward(7200);
    bench.refresh().await;
    assert_eq!(bench.requested(), [elsewhere.as_str(), elsewhere.as_str()]);
    // Without it the keys are asked for anew, where discovery says.
    bench.keys.install([&Arc::new(issuer())]);
    assert!(bench.key(Some("old")).await.is_ok());
    assert_eq!(bench.requested(), [DOCUMENT_URL, KEYS_URL]);
}

#[tokio::test]
async fn operators_see_why_an_issuers_keys_cannot_be_had() {
    let bench = Bench::new();
    assert_eq!(bench.keys.health()[0].last_error, None);
    bench.says(KEYS_URL, Err(FetchError::Status(500)));
    bench.refresh().await;
    let at = bench.clock.now();
    bench.clock.forward(60);
    let health = bench.keys.health();
    let message = "key set: the answer's status is 500, not 200".to_owned();
    assert_eq!(health[0].last_error, Some(LastError { at, code: "keys-not-fetched", message }));
    assert_eq!(health[0].status.as_ref().unwrap().age, Age::Empty);
    bench.says(KEYS_URL, Ok(OLD));
    bench.refresh().await;
    let health = bench.keys.health();
    assert_eq!((&health[0].last_error, &health[0].kids), (&None, &vec!["old".to_owned()]));
}
