use super::*;
use crate::state::redis::keys::Keys;

fn bucket(number: usize) -> Bucket {
    Keys::new("t:", true).buckets().nth(number).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(millis)
}

fn sight(server: &str, since: i64, now: i64) -> Sight {
    Sight { server: server.as_bytes().to_vec(), since: at(since), now: at(now) }
}

#[test]
fn nothing_seen_is_nothing_known() {
    assert_eq!(HighWater::default().highest(), None);
}

#[test]
fn the_latest_mark_of_any_bucket_counts() {
    let water = HighWater::default();
    water.note(bucket(0), sight("a", 10, 100));
    water.note(bucket(1), sight("b", 30, 100));
    water.note(bucket(0), sight("a", 20, 100));
    assert_eq!(water.highest(), Some(at(30)));
}

#[test]
fn a_mark_put_back_changes_nothing() {
    let water = HighWater::default();
    water.note(bucket(0), sight("a", 50, 100));
    water.note(bucket(0), sight("a", 10, 101));
    assert_eq!(water.highest(), Some(at(50)));
}

#[test]
fn another_server_under_an_old_mark_begins_when_it_is_seen() {
    let water = HighWater::default();
    water.note(bucket(0), sight("a", 50, 100));
    water.note(bucket(0), sight("b", 50, 200));
    assert_eq!(water.highest(), Some(at(200)));
    water.note(bucket(0), sight("b", 50, 300));
    assert_eq!(water.highest(), Some(at(200)), "once");
    water.note(bucket(0), sight("a", 50, 400));
    assert_eq!(water.highest(), Some(at(400)), "the first server is back, without what the second was told");
}

#[test]
fn another_server_under_its_own_later_mark_is_believed() {
    let water = HighWater::default();
    water.note(bucket(0), sight("a", 50, 100));
    water.note(bucket(0), sight("b", 150, 200));
    assert_eq!(water.highest(), Some(at(150)));
}
