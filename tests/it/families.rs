//! Issuer families at the front door: GitHub enterprises, each with an issuer of its own, which share GitHub's keys.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;

use crate::support::Internet;
use crate::support::Service;
use crate::support::service::AUDIENCE;
use crate::support::service::Answer;
use crate::support::service::example;
use crate::support::service::policy;
use crate::support::service::policy_of;

const HOST: &str = "https://token.actions.githubusercontent.com";
const JWKS: &str = "https://token.actions.githubusercontent.com/.well-known/jwks";

/// Two enterprises have rules; `globex` has none, though its issuer exists.
const RULES: &str = r#"
  acme:
    registry: acme-pypi
    issuer: enterprises
    when:
      enterprise_slug: acme
      repository_owner_id: "9123456"
      repository_id: "701234567"
    allow: {upload: [widgets]}
  initech:
    registry: acme-pypi
    issuer: enterprises
    when:
      enterprise_slug: {in: [initech, initech-eu]}
      repository_owner_id: "9123456"
      repository_id: "701234567"
    allow: {upload: [gadgets]}
"#;

struct Enterprises {
    service: Service,
    internet: Arc<Internet>,
    key: SigningKey,
}

impl Enterprises {
    async fn start() -> Self {
        let (internet, key) = (Arc::new(Internet::default()), SigningKey::generate(KeyKind::P256).unwrap());
        for slug in ["acme", "initech", "globex"] {
            internet.issuer(&format!("{HOST}/{slug}"), JWKS, &[key.jwk()]);
        }
        let issuers = format!("  enterprises: {{provider: github, url: \"{HOST}/{{enterprise_slug}}\"}}");
        let fetch = Arc::clone(&internet);
        let service =
            Service::with_parts(|base, _| policy(&policy_of(base, &issuers, RULES)), |store| store, fetch).await;
        Self { service, internet, key }
    }

    async fn exchange(&self, iss: &str, overrides: &Value) -> Answer {
        let mut claims = example("github", "tag-push", overrides);
        let now = self.service.clock_seconds();
        for (name, value) in [
            ("iss", json!(iss)),
            ("aud", json!(AUDIENCE)),
            ("iat", json!(now)),
            ("exp", json!(now + 300)),
            ("jti", json!(trustmint::secret::hex(&trustmint::secret::random_bytes::<16>().unwrap()))),
        ] {
            claims[name] = value;
        }
        let token = self.key.token(&Value::Null, &claims);
        self.service.mint(&json!({"token": token})).await
    }
}

async fn granted(world: &Enterprises, answer: &Answer) -> Vec<&'static str> {
    let mut packages = Vec::new();
    for package in ["widgets", "gadgets"] {
        let question = json!({"token": answer.body["token"], "package": package, "exists": true});
        if world.service.verify(&question).await.body["allowed"] == true {
            packages.push(package);
        }
    }
    packages
}

#[actix_web::test]
async fn each_enterprise_gets_what_its_own_rule_grants() {
    let world = Enterprises::start().await;
    for (slug, expected) in [("acme", ["widgets"]), ("initech", ["gadgets"])] {
        let answer = world.exchange(&format!("{HOST}/{slug}"), &json!({})).await;
        assert_eq!(answer.status, 200, "{slug}: {}", answer.text);
        assert_eq!(granted(&world, &answer).await, expected, "{slug}");
        let question = json!({"token": answer.body["token"], "package": expected[0], "exists": true});
        let publisher = &world.service.verify(&question).await.body["publisher"];
        assert_eq!(publisher["issuer"], format!("{HOST}/{slug}"), "the registry learns which enterprise it was");
    }
}

#[actix_web::test]
async fn the_members_share_one_key_set_and_one_allowance() {
    let world = Enterprises::start().await;
    assert_eq!(world.exchange(&format!("{HOST}/acme"), &json!({})).await.status, 200);
    assert_eq!(world.internet.requests(), [format!("{HOST}/acme/.well-known/openid-configuration"), JWKS.to_owned()]);
    assert_eq!(world.exchange(&format!("{HOST}/initech"), &json!({})).await.status, 200);
    assert_eq!(world.internet.requests(), Vec::<String>::new());
    // Strangers' key ids cost the same fetches whichever member they name.
    world.service.pass(Duration::from_secs(60)).await;
    let stranger = SigningKey::generate(KeyKind::P256).unwrap();
    for number in 0..100 {
        let slug = ["acme", "initech", "initech-eu"][number % 3];
        let claims = json!({"iss": format!("{HOST}/{slug}"), "sub": "x"});
        let token = stranger.token(&json!({"kid": format!("invented-{number}")}), &claims);
        assert_ne!(world.service.mint(&json!({"token": token})).await.status, 200);
    }
    assert!(world.internet.requests().len() <= 2, "the burst of one bucket");
}

#[actix_web::test]
async fn an_enterprise_that_no_rule_pins_is_unknown_and_nothing_is_fetched_for_it() {
    let world = Enterprises::start().await;
    for iss in [
        format!("{HOST}/globex"),
        format!("{HOST}/acme2"),
        format!("{HOST}/Acme"),
        format!("{HOST}/acme/"),
        format!("{HOST}/acme/x"),
        format!("{HOST}/acme%2f"),
        format!("{HOST}//acme"),
        format!("{HOST}/{{enterprise_slug}}"),
        format!("{HOST}/enterprise_slug"),
        HOST.to_owned(),
        format!("https://evil.example/?{HOST}/acme"),
        format!("{HOST}@evil.example/acme"),
    ] {
        let answer = world.exchange(&iss, &json!({})).await;
        assert_eq!((answer.status, answer.code()), (422, "unknown-issuer"), "{iss}: {}", answer.text);
        assert_eq!(world.internet.requests(), Vec::<String>::new(), "{iss}");
    }
}

#[actix_web::test]
async fn one_enterprise_cannot_speak_for_another() {
    let world = Enterprises::start().await;
    // The keys are shared, so the signature is good; `iss` alone tells the tenants apart.
    let as_acme = json!({"enterprise_slug": "acme", "enterprise": "acme"});
    let answer = world.exchange(&format!("{HOST}/initech-eu"), &as_acme).await;
    // initech-eu publishes no discovery document of its own here.
    assert_eq!(answer.code(), "issuer-unavailable", "{}", answer.text);
    assert_eq!(world.exchange(&format!("{HOST}/initech"), &json!({})).await.code(), "issuer-unavailable");
    world.service.pass(Duration::from_secs(20)).await;
    let answer = world.exchange(&format!("{HOST}/initech"), &as_acme).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(granted(&world, &answer).await, ["gadgets"], "a claim of the derived claim's name is not it");
    // And now that the keys are held, the member that publishes nothing is served with them.
    assert_eq!(world.exchange(&format!("{HOST}/initech-eu"), &json!({})).await.status, 200);
}

#[actix_web::test]
async fn a_member_whose_document_speaks_for_another_brings_no_keys() {
    let world = Enterprises::start().await;
    world.internet.publish(
        &format!("{HOST}/acme/.well-known/openid-configuration"),
        json!({"issuer": format!("{HOST}/initech"), "jwks_uri": JWKS}),
    );
    assert_eq!(world.exchange(&format!("{HOST}/acme"), &json!({})).await.code(), "issuer-unavailable");
    assert_eq!(world.internet.requests(), [format!("{HOST}/acme/.well-known/openid-configuration")]);
}

#[actix_web::test]
async fn the_schedule_asks_the_members_in_turn_so_one_that_is_gone_holds_nobody_up() {
    let world = Enterprises::start().await;
    let mut asked = Vec::new();
    for _ in 0..4 {
        world.service.app.keys().refresh_due();
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        asked.extend(world.internet.requests());
        world.service.pass(Duration::from_secs(3601)).await;
    }
    assert!(asked.iter().any(|url| url.contains("/acme/")) && asked.iter().any(|url| url.contains("/initech/")));
    assert!(asked.iter().all(|url| !url.contains("globex")), "{asked:?}");
}
