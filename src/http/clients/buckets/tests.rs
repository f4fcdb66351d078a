//! The table of clients against what it promises.

use std::collections::HashMap;
use std::hash::Hasher;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::*;

/// Places every client in one set, as an attacker would who knew how places are drawn.
#[derive(Clone, Copy)]
struct Meeting;

struct Nowhere;

impl Hasher for Nowhere {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _: &[u8]) {}
}

impl BuildHasher for Meeting {
    type Hasher = Nowhere;

    fn build_hasher(&self) -> Nowhere {
        Nowhere
    }
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn v4(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(number).into()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// How many calls pass that are refused one after the other.
fn passing<S: BuildHasher>(clients: &Buckets<S>, client: IpAddr, now: i64) -> usize {
    let asks = || clients.admit(client, at(now)).is_ok().then(|| clients.refused(client, at(now)));
    std::iter::from_fn(asks).take(100_000).count()
}

#[test]
fn a_client_may_be_refused_a_minutes_worth_at_once_and_then_evenly() {
    let clients = Buckets::new(3);
    let one = v4(1);
    assert_eq!(passing(&clients, one, 0), 3);
    assert_eq!(clients.admit(one, at(0)), Err(Duration::from_secs(20)));
    assert_eq!(clients.admit(one, at(19_999)), Err(Duration::from_millis(1)));
    assert_eq!(passing(&clients, one, 20_000), 1);
    assert_eq!(passing(&clients, one, 60_000), 2);
    // It holds no more, however long the client was away.
    assert_eq!(passing(&clients, one, 10_000_000), 3);
    assert_eq!(passing(&clients, v4(2), 0), 3);
}

#[test]
fn asking_costs_nothing() {
    let clients = Buckets::new(1);
    assert!((0..1000).all(|_| clients.admit(v4(1), at(0)).is_ok()));
    assert!(clients.sets.iter().all(|set| set.lock().unwrap().iter().all(Option::is_none)), "nor a place");
}

#[test]
fn ipv6_counts_by_its_64_and_a_mapped_address_as_its_ipv4_address() {
    let clients = Buckets::new(1);
    clients.refused(address("2001:db8:1:2:3:4:5:6"), at(0));
    assert!(clients.admit(address("2001:db8:1:2::ffff"), at(0)).is_err());
    assert!(clients.admit(address("2001:db8:1:3:3:4:5:6"), at(0)).is_ok());
    clients.refused(address("192.0.2.1"), at(0));
    assert!(clients.admit(address("::ffff:192.0.2.1"), at(0)).is_err());
    assert!(clients.admit(address("192.0.2.2"), at(0)).is_ok());
    // The bits of an IPv4 address say nothing about an IPv6 network of the same number.
    assert!(clients.admit(Ipv6Addr::from_bits(0xC000_0201 << 64).into(), at(0)).is_ok());
}

#[test]
fn what_is_under_way_at_once_overdraws_by_a_buckets_worth_at_most() {
    let clients = Buckets::new(60);
    (0..1000).for_each(|_| clients.refused(v4(1), at(0)));
    assert_eq!(clients.admit(v4(1), at(0)), Err(Duration::from_secs(61)));
    assert!(clients.admit(v4(1), at(60_999)).is_err());
    assert_eq!(passing(&clients, v4(1), 61_000), 1);
}

#[test]
fn a_clock_that_was_set_back_locks_nobody_out_for_longer_than_an_empty_bucket_does() {
    for back in [1, 60_000, 119_000, 120_000, 121_000, 3_600_000] {
        let clients = Buckets::new(3);
        (0..100).for_each(|_| clients.refused(v4(1), at(3_600_000)));
        let waited = (0..=120).find(|second| clients.admit(v4(1), at(3_600_000 - back + second * 1000)).is_ok());
        assert!(waited.is_some(), "{back} ms");
    }
}

#[test]
fn of_a_full_set_the_bucket_that_is_full_first_is_forgotten() {
    let clients = Buckets::placed_by(100, Meeting);
    // The third was refused least, the others more than a passer-by.
    for number in 0..8 {
        let times = if number == 3 { 2 } else { 50 };
        (0..times).for_each(|_| clients.refused(v4(number), at(0)));
    }
    clients.refused(v4(100), at(0));
    assert_eq!(passing(&clients, v4(3), 0), 100, "forgotten");
    for number in [0, 1, 2, 4, 5, 6, 7] {
        assert_eq!(passing(&clients, v4(number), 0), 50, "{number}");
    }
}

#[test]
fn who_passes_by_drives_nobody_out_whose_bucket_is_empty() {
    let clients = Buckets::placed_by(10, Meeting);
    (0..10).for_each(|_| clients.refused(v4(1), at(0)));
    for number in 100..50_000 {
        clients.refused(v4(number), at(0));
    }
    assert!(clients.admit(v4(1), at(0)).is_err());
}

#[test]
fn the_table_has_one_size_whoever_comes() {
    let clients = Buckets::new(600);
    let places = |clients: &Buckets| clients.sets.iter().map(|set| set.lock().unwrap().len()).sum::<usize>();
    assert_eq!(places(&clients), MAX_CLIENTS);
    for number in 0..100_000 {
        clients.refused(v4(number), at(0));
    }
    assert_eq!(places(&clients), MAX_CLIENTS);
    assert!(size_of::<Mutex<Set>>() * SETS <= 272 * 1024);
}

#[test]
fn places_are_drawn_anew_in_each_process() {
    let place = |clients: &Buckets| (0..64).map(|n| clients.hasher.hash_one(Client::V4(n))).collect::<Vec<_>>();
    assert_ne!(place(&Buckets::new(1)), place(&Buckets::new(1)));
}

/// What a client of a history is: few, so that they meet again, and more than a set has places for.
fn history() -> impl Strategy<Value = Vec<(u32, i64)>> {
    proptest::collection::vec((0_u32..20, 0_i64..4_000), 1..400)
}

proptest! {
    /// Of calls that are refused one after the other, in any span no more pass than a full bucket and what has come since.
    #[test]
    fn no_more_refused_calls_pass_than_a_full_bucket_and_what_comes(
        quota in 1_u32..200,
        steps in proptest::collection::vec(0_i64..2_000, 1..400),
    ) {
        let clients = Buckets::new(quota);
        let (mut now, mut passed) = (0_i64, Vec::new());
        for step in steps {
            now += step;
            match clients.admit(v4(1), at(now)) {
                Ok(()) => {
                    clients.refused(v4(1), at(now));
                    passed.push(now);
                }
                Err(wait) => {
                    // Whoever waits as long as is said may ask.
                    let wait = i64::try_from(wait.as_micros().div_ceil(1000)).unwrap();
                    prop_assert!(wait > 0 && wait <= 60_000);
                    prop_assert!(clients.admit(v4(1), at(now + wait)).is_ok());
                    prop_assert!(clients.admit(v4(1), at(now + wait - 1)).is_err());
                }
            }
        }
        for (first, from) in passed.iter().enumerate() {
            for (last, to) in passed.iter().enumerate().skip(first) {
                let since = (to - from) * 1000 / clients.price();
                prop_assert!(i64::try_from(last - first).unwrap() <= i64::from(quota) + since);
            }
        }
    }

    /// A client that was refused nothing is never held up, whatever the others do, and also if all meet in one set.
    #[test]
    fn who_was_refused_nothing_is_never_held_up(quota in 1_u32..10, history in history()) {
        let clients = (Buckets::new(quota), Buckets::placed_by(quota, Meeting));
        let mut now = 0;
        for (number, step) in history {
            now += step;
            clients.0.refused(v4(number), at(now));
            clients.1.refused(v4(number), at(now));
            prop_assert_eq!(clients.0.admit(v4(1000), at(now)), Ok(()));
            prop_assert_eq!(clients.1.admit(v4(1000), at(now)), Ok(()));
        }
    }

    /// Nor is anyone held up who would not be if each had a bucket of its own: forgetting only lets more pass.
    #[test]
    fn nobody_is_held_up_for_anothers_refusals(quota in 1_u32..10, history in history()) {
        let clients = Buckets::placed_by(quota, Meeting);
        let mut apart: HashMap<u32, Buckets> = HashMap::new();
        let mut now = 0;
        for (number, step) in history {
            now += step;
            let own = apart.entry(number).or_insert_with(|| Buckets::new(quota));
            if own.admit(v4(number), at(now)).is_ok() {
                prop_assert_eq!(clients.admit(v4(number), at(now)), Ok(()));
            }
            own.refused(v4(number), at(now));
            clients.refused(v4(number), at(now));
        }
    }
}
