use super::*;
use crate::identity::claims::Claims;

#[test]
fn the_machine_is_reached_by_short_names() {
    let raw = compute_engine(&Object::default());
    let claims = Claims::new(raw, Vec::new());
    let text = |name: &str| claims.string(PROVIDER.resolve(name));
    assert_eq!(text("compute_engine_project_id"), Some("acme-prod"));
    assert_eq!(text("compute_engine_zone"), Some("europe-west1-b"));
    assert_eq!(claims.get(PROVIDER.resolve("compute_engine_project_number")), Some(&Json::Int(739_419_398_126)));
    assert_eq!(Claims::new(service_account(&Object::default()), Vec::new()).get("google"), None);
}

#[test]
fn the_authorised_party_follows_the_account() {
    let overrides = Object::default().with("sub", Json::String("7".to_owned()));
    assert_eq!(service_account(&overrides).get("azp"), Some(&Json::String("7".to_owned())));
}
