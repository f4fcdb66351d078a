//! Somebody who can write to Redis gains nothing by it at the front door: what is planted is ignored, or denies.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use trustmint::app;
use trustmint::demo::provider::Answer as Reply;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::policy::Policy;
use trustmint::policy::watch::Directory;
use trustmint::secret::Secret;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::state::SealKey;
use trustmint::state::SealKeys;
use trustmint::state::Store;
use trustmint::time::Timestamp;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::support::Service;
use crate::support::bundles;
use crate::support::redis;
use crate::support::redis::Server;
use crate::support::redis::eventually;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

const PREFIX: &str = "trustmint:";
const REVOCATIONS: &str = "trustmint:{0}:l:revocations";
const STOPS: &str = "trustmint:{0}:l:stops";
const EPOCH: &str = "trustmint:{0}:epoch";

fn server() -> Server {
    let server = Server::start(&[]);
    server.age(PREFIX);
    server
}

fn store(server: &Server) -> Arc<dyn Store> {
    Arc::new(redis::store(&server.url(), PREFIX))
}

fn rules(base: &str, issuer: &str) -> Policy {
    policy(&policy_text(base, issuer, WIDGETS))
}

async fn service(server: &Server) -> Service {
    Service::with_store(rules, |_| store(server)).await
}

async fn replica(service: &Service, server: &Server) -> Service {
    service.replica(rules, store(server), Arc::new(HttpsFetch::new())).await
}

async fn mint(service: &Service, token: &str) -> Answer {
    service.mint(&json!({"token": token})).await
}

async fn verdict(service: &Service, token: &str) -> String {
    let answer = service.verify(&json!({"token": token, "package": "widgets", "exists": true})).await;
    if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
}

/// The one key with this in its name.
fn only(server: &Server, part: &str) -> String {
    eventually(part, || server.keys(part).len() == 1);
    server.keys(part).remove(0)
}

/// What somebody may put in the place of what the service has sealed there, to have this believed.
fn forgeries(held: &[u8], kind: &str, owner: &str, body: &[u8], now: Timestamp) -> Vec<(&'static str, Vec<u8>)> {
    let tagged = |bytes: &[u8]| [b"v", bytes].concat();
    // 1 ‖ len8 kid ‖ kid ‖ i64be at ‖ len16 revision ‖ revision ‖ len32 body ‖ body ‖ MAC, as src/state/sealed.rs has it.
    let sealed = held.strip_prefix(b"v").unwrap();
    let revision = 2 + usize::from(sealed[1]) + 8;
    let end = revision + 2 + usize::from(u16::from_be_bytes([sealed[revision], sealed[revision + 1]]));
    let (before, mac) = (&sealed[..end], &sealed[sealed.len() - 32..]);
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let own = SealKey::new("k1".to_owned(), Timestamp::from_unix_millis(0), Secret::new([7; 32]));
    let own = SealKeys::new(vec![own]).seal(kind, owner, now, "99", body).unwrap();
    let mut flipped = sealed.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    vec![
        ("it alone", tagged(body)),
        ("it without the letter of a value", body.to_vec()),
        ("under the MAC of the genuine one", tagged(&[before, &length, body, mac].concat())),
        ("sealed with a key of the same name", tagged(&own)),
        ("the genuine one with another MAC", tagged(&flipped)),
        ("cut short", held[..held.len() / 2].to_vec()),
        ("nothing", Vec::new()),
    ]
}

#[actix_web::test]
async fn a_planted_key_set_gives_no_keys() {
    let server = server();
    let service = service(&server).await;
    service.upload_token().await;
    let place = only(&server, "copy:jwks:");
    let owner = place.split_once("copy:jwks:").unwrap().1;
    let genuine = server.value(&place);
    service.provider.answer(Endpoint::Discovery, Reply::status(500));
    let attacker = SigningKey::generate(KeyKind::Rsa2048).unwrap().with_kid("attacker");
    let forged = json!({"keys": [attacker.jwk()]}).to_string();
    let stolen =
        || attacker.token(&json!({"alg": "RS256", "kid": "attacker", "typ": "JWT"}), &service.claims(&json!({})));
    for (what, planted) in forgeries(&genuine, "jwks", owner, forged.as_bytes(), service.app.now()) {
        server.plant(&place, &planted);
        let cold = replica(&service, &server).await;
        let refused = mint(&cold, &stolen()).await;
        assert_eq!((refused.status, refused.code()), (503, "issuer-unavailable"), "{what}: {}", refused.text);
        assert_ne!(mint(&service, &stolen()).await.status, 200, "{what}, at a replica that has the keys");
    }
    // What the service wrote is believed: the copy was looked for there.
    server.plant(&place, &genuine);
    let cold = replica(&service, &server).await;
    assert_eq!(mint(&cold, &service.id_token(&json!({}))).await.status, 200);
    assert_ne!(mint(&cold, &stolen()).await.status, 200);
}

#[actix_web::test]
async fn a_planted_bundle_gives_no_rules() {
    let server = server();
    let registry = Arc::new(bundles::Servers::default());
    let rules = |base: &str, issuer: &str| bundles::directory(base, issuer, &bundles::usual(), "  {}");
    let service = Service::with_parts(rules, |_| store(&server), registry.clone()).await;
    let bundle = |serial: u32, rules: &str| {
        let not_after = service.app.now().plus(Duration::from_secs(12 * 3600));
        format!("registry: acme-pypi\nserial: {serial}\nnot_after: {not_after}\nrules:\n{rules}\n")
    };
    let polled = async |service: &Service| {
        for poll in service.app.poll_bundles() {
            poll.await.unwrap();
        }
    };
    registry.publish(bundles::BUNDLE, bundle(7, bundles::GADGETS));
    polled(&service).await;
    let place = only(&server, "copy:bundle:");
    let owner = place.split_once("copy:bundle:").unwrap().1;
    let genuine = server.value(&place);
    registry.goes_down();
    let thief = json!({"repository_owner_id": "666", "repository_id": "667", "repository": "thief/gadgets"});
    let forged = bundle(99, &bundles::GADGETS.replace("9123456", "666").replace("701234567", "667"));
    for (what, planted) in forgeries(&genuine, "bundle", owner, forged.as_bytes(), service.app.now()) {
        server.plant(&place, &planted);
        let cold = service.replica(rules, store(&server), registry.clone()).await;
        polled(&cold).await;
        for job in [&thief, &json!({})] {
            let refused = mint(&cold, &service.id_token(job)).await;
            assert_eq!((refused.status, refused.code()), (503, "bundle-missing"), "{what}: {}", refused.text);
        }
        service.clock.pass(Duration::from_secs(60));
        polled(&service).await;
        assert_eq!(mint(&service, &service.id_token(&thief)).await.code(), "no-matching-rule", "{what}");
        assert_eq!(
            mint(&service, &service.id_token(&json!({}))).await.status,
            200,
            "{what}: the bundle in force stays"
        );
    }
    server.plant(&place, &genuine);
    let cold = service.replica(rules, store(&server), registry.clone()).await;
    polled(&cold).await;
    assert_eq!(mint(&cold, &service.id_token(&json!({}))).await.status, 200);
    assert_eq!(mint(&cold, &service.id_token(&thief)).await.code(), "no-matching-rule");
}

#[actix_web::test]
async fn a_planted_policy_starts_no_replica() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.yaml");
    let path = folder.path().to_owned();
    let write = |base: &str, issuer: &str| {
        fs::write(&file, policy_text(base, issuer, WIDGETS)).unwrap();
        path.clone()
    };
    let service = Service::watching_on(write, store(&server)).await;
    service.app.reloads().unwrap().poll().await;
    let place = only(&server, "copy:policy:");
    let owner = place.split_once("copy:policy:").unwrap().1;
    let genuine = server.value(&place);
    fs::write(&file, "rules: [").unwrap();
    let directory = Directory::new(path.clone()).with_http();
    let store = store(&server);
    let start = async || {
        let (keyring, now) = (service.keyring(), service.app.now());
        app::begin(directory.clone(), directory.read(), &store, &keyring, now).await.map(|(policy, _)| policy)
    };
    let text = |bytes: &[u8]| {
        let at = bytes.windows(7).position(|window| window == b"9123456").unwrap();
        let mut forged = bytes.to_vec();
        forged[at..at + 7].copy_from_slice(b"6666666");
        forged
    };
    // The body of what is there, with the thief in the place of the owner.
    let sealed = &genuine[1..genuine.len() - 32];
    let revision = 2 + usize::from(sealed[1]) + 8;
    let body = revision + 2 + usize::from(u16::from_be_bytes([sealed[revision], sealed[revision + 1]])) + 4;
    for (what, planted) in forgeries(&genuine, "policy", owner, &text(&sealed[body..]), service.app.now()) {
        server.plant(&place, &planted);
        assert!(start().await.is_err(), "{what}");
        let refused = mint(&service, &service.id_token(&json!({"repository_owner_id": "6666666"}))).await;
        assert_eq!(refused.code(), "no-matching-rule", "{what}");
    }
    server.plant(&place, &genuine);
    assert_eq!(start().await.unwrap().revision(), service.app.policy().revision());
}

#[actix_web::test]
async fn a_planted_first_use_only_denies() {
    let server = server();
    let with_retries = |base: &str, issuer: &str| {
        policy(&policy_text(base, issuer, WIDGETS).replace("dialect: pypi", "dialect: pypi\n    retry_window: 30s"))
    };
    let service = Service::with_store(with_retries, |_| store(&server)).await;
    // The places of two first uses, and what they hold.
    let victim = service.id_token(&json!({}));
    let upload = mint(&service, &victim).await.body["token"].clone();
    let place = only(&server, "first-use:");
    let genuine = server.value(&place);
    let thief = service.id_token(&json!({}));
    assert_eq!(mint(&service, &thief).await.status, 200);
    let other = server.keys("first-use:").into_iter().find(|key| *key != place).unwrap();
    let owner = place.split_once("first-use:").unwrap().1;

    // Within the window the victim's job is told its own upload token again. Nothing planted tells the thief.
    assert_eq!(mint(&service, &victim).await.body["token"], upload);
    server.plant(&other, &genuine);
    assert_eq!(mint(&service, &thief).await.code(), "token-replayed");
    let made = json!({"token_id": "019ac1b2-0000-7000-8000-000000000000", "digest": "A".repeat(43), "kid": "k1"});
    for (what, planted) in forgeries(&genuine, "first-use", owner, made.to_string().as_bytes(), service.app.now()) {
        server.plant(&place, &planted);
        let refused = mint(&service, &victim).await;
        assert_ne!(refused.status, 200, "{what}: {}", refused.text);
        assert!(["token-replayed", "store-unavailable"].contains(&refused.code()), "{what}: {}", refused.text);
    }
    server.plant(&place, &genuine);
    assert_eq!(mint(&service, &victim).await.body["token"], upload, "and the genuine one is believed");

    // Before the first use it blocks the token, and that is all.
    let unused = service.id_token(&json!({}));
    let claims = claims_of(&unused);
    let key = trustmint::state::first_use_key(service.provider.issuer(), claims["jti"].as_str(), &[0; 32], None);
    let key = URL_SAFE_NO_PAD.encode(key);
    server.plant(&format!("{}first-use:{key}", place.split_once("first-use:").unwrap().0), &genuine);
    assert_eq!(mint(&service, &unused).await.code(), "token-replayed");
}

#[actix_web::test]
async fn a_planted_use_gives_no_second_upload() {
    let server = server();
    let service = service(&server).await;
    let body = json!({"token": service.id_token(&json!({})), "features": ["single-use-token"]});
    let token = service.mint(&body).await.body["token"].as_str().unwrap().to_owned();
    let spend = async |upload: &str| {
        let question = json!({"token": token, "package": "widgets", "exists": true, "consume": upload});
        let answer = service.verify(&question).await;
        if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
    };
    assert_eq!((spend("one").await.as_str(), spend("two").await.as_str()), ("allowed", "uses-spent"));
    let place = only(&server, "k:uses:");
    let name = place.split_once("k:uses:").unwrap().1;
    let (first, second) = (sha256(b"one"), sha256(b"two"));
    let genuine = server.member(&place, &first);
    let facts = genuine[genuine.len() - 64..genuine.len() - 32].to_vec();
    let own = SealKey::new("k1".to_owned(), Timestamp::from_unix_millis(0), Secret::new([7; 32]));
    let owner = format!("{name}:{}", hex(&second));
    let sealed = SealKeys::new(vec![own]).seal("use", &owner, service.app.now(), "", &facts).unwrap();
    for (what, planted) in [
        ("the digest of the facts", facts),
        ("the genuine use of another upload", genuine.clone()),
        ("sealed with a key of the same name", sealed),
        ("nothing", Vec::new()),
    ] {
        server.plant_member(&place, &second, &planted);
        assert_eq!(spend("two").await, "consume-conflict", "{what}");
        server.plant_member(&place, &first, &planted);
        let (found, genuinely) = (spend("one").await, planted == genuine);
        assert_eq!(found, if genuinely { "allowed" } else { "consume-conflict" }, "{what}");
    }
    server.plant_member(&place, &first, &genuine);
    assert_eq!(spend("one").await, "allowed", "and the genuine one is believed");
}

#[actix_web::test]
async fn planted_revocations_only_deny() {
    let server = server();
    let one = service(&server).await;
    let two = replica(&one, &server).await;
    let (token, other) = (one.upload_token().await, one.upload_token().await);
    one.post("/v1/revoke", "application/x-www-form-urlencoded", format!("token={other}")).await;
    let entry = server.cli(&["XRANGE", REVOCATIONS, "-", "+"]);
    let entry = entry.lines().last().unwrap().to_owned();
    two.app.sync().await.unwrap();
    assert_eq!(
        (verdict(&two, &token).await.as_str(), verdict(&two, &other).await.as_str()),
        ("allowed", "upload-token-revoked")
    );

    // Taken away it is still known to who has learnt it, and not brought back by anything else.
    server.cli(&["DEL", REVOCATIONS]);
    let earlier = entry.replace("expires_at_ms\":1", "expires_at_ms\":0");
    for planted in [earlier.as_str(), r#"{"rule":{"name":"acme-pypi:widgets-release","issued_before_ms":0}}"#] {
        server.cli(&["XADD", REVOCATIONS, "*", "e", planted]);
        let _synced = two.app.sync().await;
        assert_eq!(verdict(&two, &other).await, "upload-token-revoked", "{planted}");
    }

    // What cannot be read is not passed over: the list is not believed any more, until it can be read.
    for garbage in [&["e", "junk"][..], &["e", "{}"], &["e", ""], &["other", "x", "e", "y"]] {
        server.cli(&["DEL", REVOCATIONS]);
        server.cli(&[&["XADD", REVOCATIONS, "*"], garbage].concat());
        one.clock.pass(Duration::from_secs(31));
        assert!(two.app.sync().await.is_err(), "{garbage:?}");
        for token in [&token, &other] {
            assert_ne!(verdict(&two, token).await, "allowed", "{garbage:?}");
        }
    }
    server.cli(&["DEL", REVOCATIONS]);
    server.cli(&["SET", REVOCATIONS, "a list no more"]);
    assert!(two.app.sync().await.is_err());
    server.cli(&["DEL", REVOCATIONS]);
    two.app.sync().await.unwrap();
    assert_eq!(verdict(&two, &other).await, "upload-token-revoked");
    assert_eq!(verdict(&two, &token).await, "allowed");
}

#[actix_web::test]
async fn an_entry_from_the_future_hides_no_revocation_that_comes_after_it() {
    let server = server();
    let one = service(&server).await;
    let two = replica(&one, &server).await;
    let token = one.upload_token().await;
    let far = r#"{"token":{"name":"acme-pypi:x","expires_at_ms":99999999999999}}"#;
    for at in ["99999999999999-0", "18446744073709551615-0"] {
        server.cli(&["XADD", REVOCATIONS, at, "e", far]);
        assert!(two.app.sync().await.is_err(), "{at}");
        server.cli(&["DEL", REVOCATIONS]);
        two.app.sync().await.unwrap();
    }
    assert_eq!(one.post("/v1/revoke", "application/x-www-form-urlencoded", format!("token={token}")).await.status, 200);
    two.app.sync().await.unwrap();
    assert_eq!(verdict(&two, &token).await, "upload-token-revoked");
}

#[actix_web::test]
async fn a_planted_lift_lifts_nothing() {
    let server = server();
    let one = service(&server).await;
    let two = replica(&one, &server).await;
    let token = one.upload_token().await;
    let operations = Operations::of(Arc::clone(&one.app));
    let until = one.app.now().plus(Duration::from_secs(3600)).to_string();
    let body = json!({"rule": "widgets-release", "reason": "stolen", "until": until});
    let request = operations.client.post(format!("{}/stops", operations.base)).bearer_auth(KEY);
    let stopped = Answer::of(request.body(body.to_string()).send().await.unwrap()).await;
    let name = stopped.body["id"].as_str().unwrap().to_owned();
    let own = SealKey::new("k1".to_owned(), Timestamp::from_unix_millis(0), Secret::new([7; 32]));
    let seal = SealKeys::new(vec![own]).seal("lift", &name, one.app.now(), "", b"").unwrap();
    for seal in [Vec::new(), vec![1; 60], seal] {
        let lift = json!({"lift": {"stop": name, "seal": seal}}).to_string();
        server.cli(&["XADD", STOPS, "*", "e", &lift]);
        two.app.sync().await.unwrap();
        assert_eq!(verdict(&two, &token).await, "stopped");
        assert_eq!(mint(&two, &one.id_token(&json!({}))).await.code(), "stopped");
    }
    // Nor does taking the stop away, where it is known.
    server.cli(&["DEL", STOPS]);
    two.app.sync().await.unwrap();
    assert_eq!(verdict(&two, &token).await, "stopped");
}

#[actix_web::test]
async fn an_altered_epoch_brings_no_used_token_back() {
    let server = server();
    let service = service(&server).await;
    let used = service.id_token(&json!({}));
    assert_eq!(mint(&service, &used).await.status, 200);
    let mark = String::from_utf8(server.value(EPOCH)).unwrap();
    let server_now = mark.split(' ').next().unwrap();
    let marks = [
        String::new(),
        "junk".to_owned(),
        "a:b 1".to_owned(),
        format!("{server_now} 0"),
        format!("{server_now} 1"),
        format!("{server_now} -1"),
        format!("{server_now} 99999999999999"),
        format!("{server_now} 1 1"),
    ];
    for planted in &marks {
        server.plant(EPOCH, planted.as_bytes());
        let refused = mint(&service, &used).await;
        assert_ne!(refused.status, 200, "{planted:?}: {}", refused.text);
        let cold = replica(&service, &server).await;
        assert_ne!(mint(&cold, &used).await.status, 200, "{planted:?}, at a replica that has just started");
    }

    // A loss that was seen is not undone by putting the mark from before it back.
    server.cli(&["FLUSHALL"]);
    let refused = mint(&service, &service.id_token(&json!({}))).await;
    assert_eq!(refused.code(), "state-lost", "{}", refused.text);
    server.cli(&["FLUSHALL"]);
    for planted in [&mark, &format!("{server_now} 1")] {
        server.plant(EPOCH, planted.as_bytes());
        let refused = mint(&service, &used).await;
        assert_eq!((refused.status, refused.code()), (503, "state-lost"), "{planted}: {}", refused.text);
    }
}

fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
