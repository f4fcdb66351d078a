use super::*;

use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// A set of Ed25519 keys (RFC 8037 appendix A.2) under these names.
fn set(kids: &[&str]) -> KeySet {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    let member = |kid: &&str| format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}"#);
    let members = kids.iter().map(member).collect::<Vec<_>>().join(",");
    KeySet::parse(format!(r#"{{"keys":[{members}]}}"#).as_bytes()).unwrap().0
}

fn duration(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap());
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => SECOND,
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        other => panic!("unit {other:?}"),
    };
    unit * number.parse::<u32>().unwrap()
}

/// Moments are written as time since noon of some day.
fn moment(text: &str) -> Timestamp {
    let noon = Timestamp::from_unix_seconds(1_800_000_000);
    text.strip_prefix('-').map_or_else(|| noon.plus(duration(text)), |before| noon.minus(duration(before)))
}

fn outcome(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Found(_) => "found".into(),
        Lookup::Refresh => "refresh".into(),
        Lookup::Wait => "wait".into(),
        Lookup::Unknown => "unknown".into(),
        Lookup::Unavailable(Unavailable::Failed(after)) => format!("failed:{}s", after.as_secs()),
        Lookup::Unavailable(Unavailable::Cooling(after)) => format!("cooling:{}s", after.as_secs()),
    }
}

/// Plays steps of the form `TIME VERB ARGUMENTS = EXPECTED`, separated by `|`, without jitter:
/// `ask KID`, `again KID ASKED` (a token that arrived at ASKED looks again), `got KIDS [MAX-AGE]`, `copy KIDS FETCHED-AT`
/// (another replica's), `fail`, `due`, `begin`, `age`.
fn play(script: &str) -> KeyCache {
    let mut cache = KeyCache::default();
    for step in script.split('|') {
        let (action, expected) = step.split_once('=').map_or((step, None), |(a, e)| (a, Some(e.trim())));
        let words = action.split_whitespace().collect::<Vec<_>>();
        let now = moment(words[0]);
        let kid = |at: usize| words.get(at).copied().filter(|kid| *kid != "none");
        let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let got = match words[1] {
            "ask" => outcome(&cache.lookup(kid(2), now, now)),
            "again" => outcome(&cache.lookup(kid(2), moment(words[3]), now)),
            "got" => {
                let kids = words[2].split(',').filter(|kid| *kid != "nothing").collect::<Vec<_>>();
                let max_age = words.get(3).map(|text| duration(text));
                yes_no(cache.fetched(set(&kids), max_age, now, 0).is_some())
            }
            "copy" => {
                let kids = words[2].split(',').filter(|kid| *kid != "nothing").collect::<Vec<_>>();
                yes_no(cache.adopt(set(&kids), moment(words[3]), now).is_some())
            }
            "fail" => {
                cache.failed(now, 0);
                continue;
            }
            "due" => yes_no(cache.due(now)),
            "begin" => yes_no(cache.begin(now)),
            "age" => format!("{:?}", cache.status(now).age).to_lowercase(),
            other => panic!("verb {other:?}"),
        };
        if let Some(expected) = expected {
            assert_eq!(got, expected, "step `{}` of `{script}`", step.trim());
        }
    }
    cache
}

#[test]
fn a_key_is_used_while_its_set_lives() {
    for script in [
        "0s age = empty",
        "0s ask a = refresh | 1s got a | 1s ask a = found | 1s age = fresh",
        "0s ask a = refresh | 1s got a 10m | 599s age = fresh | 600s age = stale | 600s ask a = found",
        "0s ask a = refresh | 1s got a | 23h ask a = found | 86399s ask a = found | 86399s age = stale",
        "0s ask a = refresh | 1s got a | 24h age = dead | 24h ask a = refresh | 24h ask a = wait",
        "0s ask a = refresh | 1s got a,b | 1s ask a = found | 1s ask b = found",
        "0s ask a = refresh | 1s got a | 1s ask none = found",
        "0s ask a = refresh | 1s got a,b | 60s ask none = unknown | 120s ask none = unknown",
    ] {
        play(script);
    }
}

#[test]
fn an_issuer_is_asked_ahead_of_expiry_and_its_header_is_clamped() {
    for script in [
        // Three quarters of: what it says, 5 min at least, 1 h at most.
        "0s due = yes | 0s got a 20m | 899s due = no | 900s due = yes",
        "0s due = yes | 0s got a 0s | 224s due = no | 225s due = yes",
        "0s due = yes | 0s got a | 224s due = no | 225s due = yes",
        "0s due = yes | 0s got a 8760h | 2699s due = no | 2700s due = yes | 3599s age = fresh | 3600s age = stale",
        // Once, until it is reported.
        "0s due = yes | 0s due = no | 1s due = no | 1s got a | 2s due = no",
        // A token's refresh serves as the scheduled one.
        "0s ask a = refresh | 0s due = no | 1s got a | 2s due = no | 225s due = yes",
        // The set is as old as the question, not as its answer.
        "0s due = yes | 9s got a 5m | 225s due = yes | 226s got a 5m | 449s due = no | 450s due = yes",
    ] {
        play(script);
    }
}

#[test]
fn a_failing_issuer_is_asked_less_and_less_and_its_last_good_set_serves_for_a_day() {
    for script in [
        // Pauses of 15, 30, 60, 120, 240, 300, 300 s, less a fifth without jitter.
        "0s due = yes | 0s fail | 11s due = no | 12s due = yes | 12s fail | 35s due = no | 36s due = yes | 36s fail \
         | 83s due = no | 84s due = yes | 84s fail | 180s due = yes | 180s fail | 372s due = yes | 372s fail \
         | 611s due = no | 612s due = yes | 612s fail | 851s due = no | 852s due = yes",
        "0s due = yes | 0s got a | 225s due = yes | 226s fail | 400s ask a = found | 400s age = stale | 23h ask a = found",
        "0s due = yes | 0s got a | 225s due = yes | 226s fail | 24h age = dead | 24h ask a = refresh",
        // Success ends the pauses, and a later failure begins with the short one.
        "0s due = yes | 0s fail | 12s due = yes | 12s fail | 36s due = yes | 36s got a | 261s due = yes | 261s fail \
         | 273s due = yes",
        // An empty set is a failure: the last good one stays, until it is too old.
        "0s due = yes | 0s got a | 225s due = yes | 225s got nothing = no | 226s ask a = found | 237s due = yes",
        "0s due = yes | 0s got a | 225s due = yes | 225s got nothing = no | 24h ask a = refresh",
        "0s due = yes | 0s got nothing = no | 0s age = empty",
    ] {
        play(script);
    }
}

#[test]
fn a_withdrawn_key_is_gone_at_the_next_refresh() {
    for script in [
        "0s due = yes | 0s got a,b | 225s due = yes | 225s got b | 226s ask b = found | 226s ask a = refresh",
        "0s due = yes | 0s got a,b | 225s due = yes | 225s got b | 226s ask a = refresh | 227s got b \
         | 227s again a 226s = unknown | 228s ask a = unknown",
    ] {
        play(script);
    }
    let mut cache = KeyCache::default();
    let change = |added: &[&str], withdrawn: &[&str]| Change {
        added: added.iter().map(|kid| (*kid).to_owned()).collect(),
        withdrawn: withdrawn.iter().map(|kid| (*kid).to_owned()).collect(),
    };
    assert_eq!(cache.fetched(set(&["a", "b"]), None, moment("0s"), 0), Some(change(&["a", "b"], &[])));
    assert_eq!(cache.fetched(set(&["b", "c"]), None, moment("1s"), 0), Some(change(&["c"], &["a"])));
    assert_eq!(cache.fetched(set(&["c", "b"]), None, moment("2s"), 0), Some(Change::default()));
    assert_eq!(cache.fetched(set(&[]), None, moment("3s"), 0), None);
}

#[test]
fn a_token_waits_for_the_refresh_under_way_and_believes_one_that_began_after_it_came() {
    for script in [
        "0s ask a = refresh | 0s ask a = wait | 1s ask b = wait | 2s got a | 2s again a 0s = found",
        // `b` came before the refresh began: its answer is final. `c` came after: it may cause its own.
        "0s ask b = refresh | 1s ask c = wait | 2s got a | 2s again b 0s = unknown | 2s again c 1s = refresh",
        "0s ask b = refresh | 1s ask c = wait | 2s got a | 2s again c 1s = refresh | 3s got a,c | 3s again c 1s = found",
        "0s ask a = refresh | 1s ask b = wait | 2s fail | 2s again a 0s = failed:1s | 2s again b 1s = refresh",
        // Known keys never wait.
        "0s due = yes | 0s got a | 60s ask b = refresh | 60s ask a = found",
        // A refresh that is never reported blocks the next for 10 s and no longer.
        "0s ask a = refresh | 9s ask a = wait | 10s ask a = refresh | 10s ask a = wait",
        "0s due = yes | 9s due = no | 10s due = yes",
    ] {
        play(script);
    }
}

#[test]
fn unknown_kids_share_two_refreshes_and_one_more_each_15_s_whether_they_succeed_or_not() {
    for script in [
        "0s due = yes | 0s got a | 60s ask x = refresh | 60s got a | 61s ask y = refresh | 61s got a \
         | 62s ask z = cooling:13s | 74s ask z = cooling:1s | 75s ask z = refresh | 75s got a | 76s ask w = cooling:14s",
        "0s ask a = refresh | 0s fail | 1s ask a = refresh | 1s fail | 2s ask a = cooling:13s | 14s ask a = cooling:1s \
         | 15s ask a = refresh | 15s fail | 16s ask a = cooling:14s",
        // A long silence saves up two, not more.
        "0s due = yes | 0s got a | 10h ask x = refresh | 10h got a | 36001s ask y = refresh | 36001s got a \
         | 36002s ask z = cooling:13s",
        // Scheduled refreshes neither cost the allowance nor wait for it.
        "0s ask x = refresh | 0s fail | 0s ask y = failed:1s | 1s ask y = refresh | 1s fail | 2s ask y = cooling:13s \
         | 25s due = yes",
        // An operator's refresh goes at once, but not beside another.
        "0s ask x = refresh | 0s begin = no | 0s fail | 1s ask y = refresh | 1s fail | 2s begin = yes | 2s begin = no",
    ] {
        play(script);
    }
}

#[test]
fn a_kid_found_unknown_causes_no_fetch_for_30_s_but_never_hides_a_key() {
    for script in [
        "0s due = yes | 0s got a | 60s ask x = refresh | 60s got a | 60s again x 60s = unknown | 61s ask x = unknown \
         | 89s ask x = unknown | 90s ask x = refresh",
        // Other names do not share its fate, and any refresh that brings the key ends it.
        "0s due = yes | 0s got a | 60s ask x = refresh | 60s got a | 60s again x 60s = unknown | 61s ask y = refresh \
         | 62s got a,x | 62s ask x = found",
        // Nothing is remembered of a failed refresh.
        "0s due = yes | 0s got a | 60s ask x = refresh | 60s fail | 60s again x 60s = failed:1s | 61s ask x = refresh",
    ] {
        play(script);
    }
}

#[test]
fn the_unknown_kids_kept_are_bounded() {
    let mut kids = UnknownKids::default();
    for number in 0..1000 {
        kids.remember(&format!("kid-{number}"), moment("0s"));
    }
    assert_eq!(kids.0.len(), UNKNOWN_KEPT);
    assert!(kids.knows("kid-999", moment("1s")));
    assert!(!kids.knows("kid-0", moment("1s")));
    kids.remember("kid-999", moment("40s"));
    assert_eq!(kids.0.len(), UNKNOWN_KEPT, "the same name again takes no second place");
}

#[test]
fn a_clock_that_is_set_back_or_far_ahead_stops_nothing() {
    for script in [
        // Back by a day: refreshed at once, found meanwhile, and the allowance grows again.
        "24h due = yes | 24h got a | 0s ask a = found | 0s due = yes | 1s got a | 1s due = no",
        "24h ask x = refresh | 24h fail | 24h ask y = failed:1s | 0s ask y = refresh | 0s fail | 1s ask y = cooling:14s \
         | 15s ask y = refresh",
        "24h due = yes | 0s due = yes",
        "24h due = yes | 24h fail | 0s due = yes",
        "10s due = yes | 10s fail | 0s due = yes",
        "10s due = yes | 10s got a | 0s due = yes",
        "23h due = yes | 23h got a | 24h ask x = refresh | 24h got a | 24h again x 24h = unknown | 0s ask x = refresh",
        // Ahead by years: the set is dead, and fetched again.
        "0s due = yes | 0s got a | 90000h ask a = refresh | 90000h got a | 90000h ask a = found",
    ] {
        play(script);
    }
}

#[test]
fn jitter_spreads_refreshes_and_retries() {
    let at = |jitter: u16| {
        let mut cache = KeyCache::default();
        cache.fetched(set(&["a"]), Some(3600 * SECOND), moment("0s"), jitter);
        let refresh_at = cache.status(moment("0s")).refresh_at.unwrap();
        cache.failed(moment("0s"), jitter);
        (refresh_at.since(moment("0s")), cache.status(moment("0s")).refresh_at.unwrap().since(moment("0s")))
    };
    assert_eq!(at(0), (2700 * SECOND, 12 * SECOND));
    assert_eq!(at(u16::MAX), (3240 * SECOND, 15 * SECOND));
    assert!(at(20_000) < at(40_000));
}

#[test]
fn failures_that_tokens_cause_do_not_put_off_the_scheduled_attempt() {
    play(
        "0s due = yes | 0s got a | 225s due = yes | 226s fail | 227s ask x = refresh | 228s fail | 236s ask y = refresh \
         | 237s fail | 238s due = yes | 238s fail | 251s ask x = refresh | 252s fail | 261s due = no | 262s due = yes",
    );
    // A clock that was set back: the next failure does not keep a retry that is now an hour away.
    play("1h due = yes | 1h fail | 0s ask x = refresh | 1s fail | 24s due = no | 25s due = yes");
}

#[test]
fn operators_see_age_failure_and_cooling() {
    let cache = play("0s due = yes | 0s got a,b | 225s due = yes | 226s fail | 240s ask x = refresh | 241s fail");
    let status = cache.status(moment("400s"));
    let expected = Status {
        age: Age::Stale,
        fetched_at: Some(moment("0s")),
        refresh_at: Some(moment("265s")),
        failing_since: Some(moment("226s")),
        cooling: false,
        keys: 2,
    };
    assert_eq!(status, expected);
    let cache = play("0s ask a = refresh | 0s fail | 1s ask a = refresh | 1s fail");
    assert!(cache.status(moment("2s")).cooling);
    assert_eq!(cache.status(moment("2s")).age, Age::Empty);
}

/// An issuer that answers 200 ms after it is asked, with the set that it publishes when asked.
struct Simulation {
    cache: KeyCache,
    published: Vec<&'static str>,
    answer: Option<(Timestamp, Vec<&'static str>)>,
    caused: usize,
    scheduled: usize,
}

impl Simulation {
    fn tick(&mut self, now: Timestamp) {
        if let Some((_, kids)) = self.answer.take_if(|(at, _)| *at <= now) {
            self.cache.fetched(set(&kids), None, now, 0);
        }
        if self.cache.due(now) {
            self.scheduled += 1;
            self.ask_issuer(now);
        }
    }

    fn ask_issuer(&mut self, now: Timestamp) {
        assert!(self.answer.is_none(), "two fetches at once");
        self.answer = Some((now.plus(Duration::from_millis(200)), self.published.clone()));
    }

    fn lookup(&mut self, kid: &str, asked: Timestamp, now: Timestamp) -> Lookup {
        let lookup = self.cache.lookup(Some(kid), asked, now);
        if matches!(lookup, Lookup::Refresh) {
            self.caused += 1;
            self.ask_issuer(now);
        }
        lookup
    }
}

#[test]
fn ten_thousand_hostile_kids_cause_at_most_the_allowance_and_a_real_rotation_still_succeeds() {
    let mut sim =
        Simulation { cache: KeyCache::default(), published: vec!["old"], answer: None, caused: 0, scheduled: 0 };
    let start = moment("0s");
    let now = |ms: u64| start.plus(Duration::from_millis(ms));
    sim.tick(now(0));
    let mut refused = 0;
    // One every 6 ms for a minute.
    for number in 0..10_000_u64 {
        let at = now(1000 + number * 6);
        sim.tick(at);
        refused += usize::from(!matches!(sim.lookup(&format!("hostile-{number}"), at, at), Lookup::Found(_)));
        assert!(matches!(sim.lookup("old", at, at), Lookup::Found(_)), "honest jobs go on");
    }
    assert_eq!(refused, 10_000);
    assert!(sim.caused <= 2 + 60 / 15, "{} fetches", sim.caused);
    assert_eq!(sim.scheduled, 1);

    // The issuer rotates abruptly; the attack goes on at full rate, and names the new key's neighbours.
    sim.published = vec!["new"];
    let rotated = 61_001;
    let mut retry_at = rotated;
    let mut found_at = None;
    for ms in rotated..rotated + 60_000 {
        sim.tick(now(ms));
        let _ = sim.lookup(&format!("hostile-{ms}"), now(ms), now(ms));
        if ms == retry_at {
            match sim.lookup("new", now(ms), now(ms)) {
                Lookup::Found(_) => {
                    found_at = Some(ms);
                    break;
                }
                Lookup::Unavailable(Unavailable::Failed(after) | Unavailable::Cooling(after)) => {
                    retry_at = ms + u64::try_from(after.as_millis()).unwrap().max(1);
                }
                Lookup::Refresh | Lookup::Wait => retry_at = ms + 1,
                Lookup::Unknown => panic!("a job with a new key was refused for good"),
            }
        }
    }
    let waited = found_at.expect("the new key is found") - rotated;
    assert!(waited <= 15_000 + 400, "found after {waited} ms");
}

#[derive(Debug, Clone)]
enum Event {
    Pass(u32),
    Ask(u8),
    Tick,
    Answer(Vec<u8>),
    Fail,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (0..20_000_u32).prop_map(Event::Pass),
        1 => (0..90_000_000_u32).prop_map(Event::Pass),
        6 => (0..6_u8).prop_map(Event::Ask),
        1 => Just(Event::Tick),
        2 => proptest::collection::vec(0..6_u8, 0..4).prop_map(Event::Answer),
        2 => Just(Event::Fail),
    ]
}

proptest! {
    #[test]
    fn whatever_happens(events in proptest::collection::vec(event(), 0..200), jitter: u16) {
        let mut cache = KeyCache::default();
        let mut now = moment("0s");
        let mut running: Option<Timestamp> = None;
        let mut good: Option<(Timestamp, Vec<String>)> = None;
        let mut caused: Vec<Timestamp> = Vec::new();
        for event in events {
            match event {
                Event::Pass(ms) => now = now.plus(Duration::from_millis(ms.into())),
                Event::Tick => {
                    if cache.due(now) {
                        prop_assert!(running.is_none_or(|began| now.since(began) >= LOST_AFTER), "single flight");
                        running = Some(now);
                    }
                }
                Event::Ask(kid) => {
                    let kid = format!("kid-{kid}");
                    let lives = good.as_ref().filter(|(began, _)| now.since(*began) < MAX_STALE);
                    let has = lives.is_some_and(|(_, kids)| kids.contains(&kid));
                    match cache.lookup(Some(&kid), now, now) {
                        Lookup::Found(key) => prop_assert!(has && key.kid() == Some(&*kid), "only keys of a living set"),
                        Lookup::Refresh => {
                            prop_assert!(!has);
                            prop_assert!(running.is_none_or(|began| now.since(began) >= LOST_AFTER), "single flight");
                            running = Some(now);
                            caused.push(now);
                        }
                        Lookup::Wait => prop_assert!(!has && running.is_some()),
                        Lookup::Unknown => prop_assert!(!has && lives.is_some(), "unknown needs a living set"),
                        Lookup::Unavailable(Unavailable::Failed(after) | Unavailable::Cooling(after)) => {
                            prop_assert!(!has);
                            prop_assert!(after >= SECOND && after <= REFILL);
                        }
                    }
                }
                Event::Answer(kids) => if let Some(began) = running.take() {
                    let mut kids = kids.iter().map(|kid| format!("kid-{kid}")).collect::<Vec<_>>();
                    kids.sort();
                    kids.dedup();
                    let names = kids.iter().map(String::as_str).collect::<Vec<_>>();
                    let change = cache.fetched(set(&names), None, now, jitter);
                    prop_assert_eq!(change.is_some(), !kids.is_empty());
                    if change.is_some() {
                        good = Some((began, kids));
                    }
                },
                Event::Fail => if running.take().is_some() {
                    cache.failed(now, jitter);
                },
            }
        }
        // In any stretch of time, no more fetches than the allowance.
        for (first, start) in caused.iter().enumerate() {
            for (last, end) in caused.iter().enumerate().skip(first) {
                let allowed = u128::from(BURST) + end.since(*start).as_millis() / REFILL.as_millis();
                prop_assert!((last - first + 1) as u128 <= allowed);
            }
        }
    }
}

#[test]
fn another_replicas_set_serves_and_is_as_old_as_it_is() {
    for script in [
        // Cold: while the fetch goes on, and after it has failed.
        "0s ask a = refresh | 0s copy a -1h = yes | 0s again a 0s = found | 1s fail | 1s ask a = found | 1s age = stale",
        // For what is left of its day.
        "0s copy a -23h = yes | 3599s ask a = found | 1h age = dead | 1h ask a = refresh",
        "0s copy a -24h = no | 0s age = empty",
        "0s copy nothing -1s = no",
        // Only what is newer than what is held.
        "0s ask a = refresh | 0s got a | 10s copy b -1s = no | 10s ask a = found",
        "0s ask a = refresh | 0s got a | 10s copy b 0s = no | 10s copy b 5s = yes | 10s ask b = found",
        "0s copy a -10s = yes | 0s copy b -20s = no | 0s copy b -9s = yes | 0s ask b = found",
        // A clock that is ahead makes it no newer than now.
        "0s copy a 20s = yes | 0s age = fresh | 300s age = stale",
        "0s copy a 20s = yes | 0s copy b 30s = no | 1s copy b 30s = yes",
        // It does not say that a key does not exist: its clock is not ours.
        "0s copy a 0s = yes | 0s ask b = refresh | 0s got a | 0s again b 0s = unknown",
        // Nor is it a success: the schedule goes on as it was.
        "0s due = yes | 0s fail | 1s copy a 0s = yes | 11s due = no | 12s due = yes",
        "0s copy a 0s = yes | 224s due = no | 225s due = yes",
        "0s due = yes | 0s copy a -60s = yes | 0s due = no",
    ] {
        play(script);
    }
    let mut cache = KeyCache::default();
    cache.adopt(set(&["a", "b"]), moment("0s"), moment("0s"));
    let change = cache.adopt(set(&["b", "c"]), moment("1s"), moment("1s")).unwrap();
    assert_eq!((change.added, change.withdrawn), (vec!["c".to_owned()], vec!["a".to_owned()]));
}
