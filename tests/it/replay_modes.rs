//! How often one ID token is exchanged, as registries and issuers choose; and the same answer once more, for a client
//! that lost it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use trustmint::app::App;
use trustmint::app::Caller;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::exchange;
use trustmint::exchange::Failure;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::identity::replay::Replay;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::macaroon::TokenId;
use trustmint::package::Permission;
use trustmint::policy::Policy;
use trustmint::policy::dialect::Dialect;
use trustmint::policy::dialect::NamesPackage;
use trustmint::policy::evaluate::Requested;
use trustmint::secret::Presented;
use trustmint::state::MemoryStore;
use trustmint::state::Store;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock;
use trustmint::yielding::Yielding;

use crate::support::Presets;
use crate::support::Service;
use crate::support::said::Channel;
use crate::support::said::Record;
use crate::support::service::AUDIENCE;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::tenants_with;

/// The registry `tools` with these members.
async fn tools(members: &str) -> Service {
    let members = format!(", {members}");
    Service::with_policy(|base, issuer| tenants_with(base, issuer, &members)).await
}

/// An ID token for `tools`.
fn job(service: &Service) -> String {
    service.id_token(&json!({"aud": "tools-aud"}))
}

async fn exchange(service: &Service, token: &str, scope: Option<&str>) -> Answer {
    service.exchange(token, &json!({"audience": "tools-aud", "scope": scope})).await
}

fn told(answer: &Answer) -> (u16, &str) {
    (answer.status, answer.code())
}

const REPLAYED: (u16, &str) = (400, "token-replayed");

#[actix_web::test]
async fn one_token_publishes_each_package_of_a_workspace_once() {
    let service = tools("replay: once-per-package").await;
    let token = job(&service);
    for package in ["widgets", "widgets/core", "widgets/cli"] {
        let scope = format!("upload:{package}");
        let answer = exchange(&service, &token, Some(&scope)).await;
        assert_eq!((answer.status, &answer.body["scope"]), (200, &json!(scope)), "{}", answer.text);
    }
    for scope in ["upload:widgets", "upload:widgets/core", "yank:widgets upload:widgets", "read:widgets/cli"] {
        assert_eq!(told(&exchange(&service, &token, Some(scope)).await), REPLAYED, "{scope}");
    }
    // Another token of the same job is another use; several actions on one package are one.
    let answer = exchange(&service, &job(&service), Some("upload:widgets yank:widgets")).await;
    assert_eq!((answer.status, &answer.body["scope"]), (200, &json!("upload:widgets yank:widgets")));
}

#[actix_web::test]
async fn one_token_fills_no_store_with_uses_however_many_names_its_rule_grants() {
    let service = tools("replay: once-per-package").await;
    let token = job(&service);
    for package in 0..256 {
        let answer = exchange(&service, &token, Some(&format!("upload:widgets/p{package}"))).await;
        assert_eq!(answer.status, 200, "{package}: {}", answer.text);
    }
    for (package, why) in [("p256", "already exchanged for 256 packages"), ("p0", "already exchanged, at")] {
        let answer = exchange(&service, &token, Some(&format!("upload:widgets/{package}"))).await;
        assert_eq!(told(&answer), REPLAYED);
        assert!(answer.body["message"].as_str().unwrap().contains(why), "{}", answer.text);
    }
    // Another of the same job has uses of its own.
    assert_eq!(exchange(&service, &job(&service), Some("upload:widgets/p256")).await.status, 200);
}

#[actix_web::test]
async fn a_ci_system_that_gives_a_job_one_token_for_all_its_packages_publishes_a_workspace() {
    // GitLab and CircleCI put the ID token into a variable, the same for every command of the job; CircleCI's has no id.
    let presets = Presets::publishing_workspaces().await;
    for example in ["gitlab/tag-push", "circleci/tag-push"] {
        let token = presets.token(example, &json!({}));
        let ask = async |package: &str| {
            let more = json!({"audience": AUDIENCE, "scope": format!("upload:{package}")});
            presets.service.exchange(&token, &more).await
        };
        for package in ["widgets", "widgets/core", "widgets/cli"] {
            let answer = ask(package).await;
            assert_eq!(answer.status, 200, "{example} {package}: {}", answer.text);
        }
        for package in ["widgets", "widgets/core", "widgets/cli"] {
            assert_eq!(told(&ask(package).await), REPLAYED, "{example} {package}");
        }
    }
}

#[actix_web::test]
async fn a_request_without_exactly_one_package_is_told_so_and_spends_nothing() {
    let service = tools("replay: once-per-package").await;
    let token = job(&service);
    for scope in [None, Some("upload:widgets upload:widgets/core"), Some("upload:widgets/core read:widgets")] {
        let answer = exchange(&service, &token, scope).await;
        assert_eq!(told(&answer), (400, "invalid-scope"), "{scope:?} {}", answer.text);
        assert_eq!(answer.body["error"], "invalid_scope");
        assert!(answer.body["message"].as_str().unwrap().contains("must name exactly one package"), "{}", answer.text);
    }
    assert_eq!(exchange(&service, &token, Some("upload:widgets")).await.status, 200);
    assert_eq!(exchange(&service, &token, Some("upload:widgets/core")).await.status, 200);
}

#[actix_web::test]
async fn a_pattern_is_no_package() {
    // The endpoints refuse patterns themselves; the use-case does not rely on it.
    let replicas = Replicas::start("replay: once-per-package").await;
    let replica = replicas.replica(&["k1"], "");
    let ask = |pairs: &[&str]| {
        let ecosystem = Dialect::Generic.ecosystem();
        let narrow = pairs.iter().map(|pair| Permission::parse(ecosystem, pair).unwrap()).collect();
        Requested { package: None, narrow: Some(narrow) }
    };
    let token = replicas.job(&json!({}));
    for pairs in [&["upload:widgets/*"][..], &["upload:widgets/*", "upload:widgets"], &[]] {
        let answer = replicas.exchange(&replica, &token, ask(pairs), false).await;
        assert!(matches!(answer, Err(Failure::OnePackage)), "{pairs:?}");
    }
    assert!(replicas.exchange(&replica, &token, ask(&["upload:widgets"]), false).await.is_ok());
}

#[actix_web::test]
async fn where_replays_are_accepted_a_token_is_exchanged_until_it_expires_and_that_is_recorded() {
    let service = tools("replay: off").await;
    let token = job(&service);
    for _ in 0..3 {
        assert_eq!(exchange(&service, &token, None).await.status, 200);
        assert_eq!(service.last_event()["replay"], "off");
        service.pass(Duration::from_secs(1)).await;
    }
    service.pass(Duration::from_secs(330)).await;
    assert_eq!(exchange(&service, &token, None).await.code(), "token-expired");
}

#[actix_web::test]
async fn an_issuer_can_be_stricter_than_the_registry_and_never_looser() {
    for (registry, issuer, second) in [
        ("off", None, 200),
        ("off", Some("once"), 400),
        ("once-per-package", Some("once"), 400),
        ("once", Some("once-per-package"), 400),
        ("off", Some("once-per-package"), 200),
    ] {
        let service = Service::with_policy(|base, url| {
            let text = policy_text(base, url, RULE).replace("dialect: pypi", "dialect: generic");
            let text = text.replace("audiences: [acme]", &format!("audiences: [tools-aud]\n    replay: {registry}"));
            let issuer = issuer.map_or(String::new(), |mode| format!(", replay: {mode}"));
            policy(&text.replace("provider: github,", &format!("provider: github{issuer},").replace(",,", ",")))
        })
        .await;
        let token = job(&service);
        assert_eq!(exchange(&service, &token, Some("upload:widgets")).await.status, 200, "{registry} {issuer:?}");
        let other = exchange(&service, &token, Some("upload:widgets/core")).await;
        assert_eq!(other.status, second, "{registry} {issuer:?} {}", other.text);
    }
}

/// The rule of the registry `acme-pypi` where that is generic.
const RULE: &str = r#"
  release:
    registry: acme-pypi
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567"}
    allow: {upload: [widgets, "widgets/*"], yank: [widgets]}
"#;

#[test]
fn dialects_that_name_a_package_give_one_token_for_each_and_the_others_one() {
    for dialect in Dialect::ALL {
        let each = dialect.names_package() == NamesPackage::Always;
        let expected = if each { Replay::OncePerPackage } else { Replay::Once };
        assert_eq!(dialect.usual_replay(), expected, "{dialect:?}");
    }
}

/// Several replicas of one service: one store, one provider, one clock; keys and policy as each has them.
struct Replicas {
    service: Service,
    store: Arc<dyn Store>,
    members: String,
}

impl Replicas {
    async fn start(members: &str) -> Self {
        let service = Service::start().await;
        let store = Arc::new(MemoryStore::new(service.clock.clone(), 1 << 20));
        Self { service, store, members: members.to_owned() }
    }

    /// A replica with master keys of these names, the later ones activating a second after each other; and a comment
    /// in its policy, which makes another revision of it.
    fn replica(&self, kids: &[&str], comment: &str) -> App {
        let started = self.service.clock.now();
        let key = |(kid, place): (&&str, u64)| {
            let activate_at = started.plus(Duration::from_secs(place));
            MasterKey::generate(kid, std::array::from_fn(|i| kid.as_bytes()[1] ^ u8::try_from(i).unwrap()), activate_at)
        };
        let keys = kids.iter().zip(0..).map(|key_at| key(key_at).unwrap()).collect();
        App::build(Parts {
            policy: self.policy(comment),
            keyring: Keyring::new(keys).unwrap(),
            fetch: Arc::new(HttpsFetch::new()),
            store: Arc::clone(&self.store),
            audit: AuditLog::start(AuditSink::Writer(Box::new(Record::of(Channel::Audit))), 1024).unwrap(),
            metrics: Arc::new(Metrics::new().unwrap()),
            clock: self.service.clock.clone(),
            runtime: Handle::current(),
        })
    }

    fn policy(&self, comment: &str) -> Policy {
        let text = policy_text(&self.service.base, self.service.provider.issuer(), RULE);
        let members = format!("dialect: generic\n    {}", self.members);
        policy(&(text.replace("dialect: pypi", &members) + comment))
    }

    fn job(&self, claims: &Value) -> String {
        self.service.id_token(claims)
    }

    async fn exchange(&self, app: &App, token: &str, requested: Requested, once: bool) -> Result<String, Failure> {
        let policy = app.policy();
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        let (subject_token, yielding) = (Presented::new(token), Yielding::NOTHING);
        let request = exchange::Request { registry, subject_token, requested, single_use: once, yielding };
        let caller = Caller { request_id: "r".to_owned(), client: None };
        let issued = app.exchange(&policy, request, &caller, app.now()).await?;
        Ok(issued.minted().token.expose().clone())
    }

    async fn ask(&self, app: &App, token: &str) -> Result<String, Failure> {
        self.exchange(app, token, Requested::default(), false).await
    }

    /// Whether an answer says that the token was exchanged before.
    fn replayed(answer: &Result<String, Failure>) -> bool {
        matches!(answer, Err(Failure::Replayed(_)))
    }
}

#[actix_web::test]
async fn a_client_that_lost_its_answer_gets_the_very_same_token_again() {
    let service = tools("retry_window: 30s").await;
    let token = job(&service);
    let first = exchange(&service, &token, None).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let event = service.last_event();
    assert!(event.get("replay").is_none());
    service.pass(Duration::from_secs(30)).await;
    for _ in 0..2 {
        let again = exchange(&service, &token, None).await;
        assert_eq!((again.status, &again.body["access_token"]), (200, &first.body["access_token"]), "{}", again.text);
        assert_eq!(again.body["expires_in"].as_u64(), first.body["expires_in"].as_u64().map(|left| left - 30));
        let repeated = service.last_event();
        assert_eq!((&repeated["replay"], &repeated["token_id"]), (&json!("repeated"), &event["token_id"]));
    }
    service.pass(Duration::from_millis(1)).await;
    assert_eq!(told(&exchange(&service, &token, None).await), REPLAYED);
}

#[actix_web::test]
async fn by_default_there_is_no_second_answer() {
    let service = tools("enabled: true").await;
    let token = job(&service);
    assert_eq!(exchange(&service, &token, None).await.status, 200);
    assert_eq!(told(&exchange(&service, &token, None).await), REPLAYED);
}

#[actix_web::test]
async fn whoever_asks_for_anything_else_gets_nothing() {
    let service = tools("retry_window: 2m").await;
    let token = job(&service);
    let first = exchange(&service, &token, Some("upload:widgets")).await;
    assert_eq!(first.status, 200, "{}", first.text);
    for scope in [None, Some("upload:widgets/core"), Some("read:widgets"), Some("upload:widgets yank:widgets")] {
        assert_eq!(told(&exchange(&service, &token, scope).await), REPLAYED, "{scope:?}");
    }
    // Another ID token with the same id: what it says may differ.
    let claims = service.claims(&json!({"aud": "tools-aud"}));
    let first = exchange(&service, &service.provider.mint(&claims), None).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let mut other = claims.clone();
    other["unread"] = json!("x");
    assert_eq!(told(&exchange(&service, &service.provider.mint(&other), None).await), REPLAYED);
    assert_eq!(exchange(&service, &service.provider.mint(&claims), None).await.status, 200);
}

#[actix_web::test]
async fn single_use_is_part_of_what_is_asked() {
    let text = |base: &str, issuer: &str| {
        policy_text(base, issuer, WIDGETS).replace("dialect: pypi", "dialect: pypi\n    retry_window: 30s")
    };
    let service = Service::with_policy(|base, issuer| policy(&text(base, issuer))).await;
    let token = service.id_token(&json!({}));
    let first = service.mint(&json!({"token": token})).await;
    let single = json!({"token": token, "features": ["single-use-token"]});
    assert_eq!(service.mint(&single).await.code(), "token-replayed");
    assert_eq!(service.mint(&json!({"token": token})).await.body["token"], first.body["token"]);
}

#[actix_web::test]
async fn a_revoked_token_is_not_given_again() {
    let service = tools("retry_window: 30s").await;
    let token = job(&service);
    let first = exchange(&service, &token, None).await;
    let form = format!("token={}", first.body["access_token"].as_str().unwrap());
    let revoked = service.post("/v1/revoke", "application/x-www-form-urlencoded", form).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert_eq!(told(&exchange(&service, &token, None).await), REPLAYED);
}

#[actix_web::test]
async fn another_replica_gives_the_same_token_also_after_a_rotation() {
    let replicas = Replicas::start("retry_window: 30s").await;
    let (here, there) = (replicas.replica(&["k1", "k2"], ""), replicas.replica(&["k1", "k2"], ""));
    let token = replicas.job(&json!({}));
    let first = replicas.ask(&here, &token).await.unwrap();
    assert_eq!(replicas.ask(&there, &token).await.unwrap(), first);
    replicas.service.pass(Duration::from_secs(2)).await;
    for replica in [&here, &there] {
        assert_eq!(replicas.ask(replica, &token).await.unwrap(), first, "though a newer key mints");
    }
    assert_ne!(replicas.ask(&here, &replicas.job(&json!({}))).await.unwrap(), first);
    // Once the key that minted it is gone, so is the second answer.
    assert!(Replicas::replayed(&replicas.ask(&replicas.replica(&["k2"], ""), &token).await));
}

#[actix_web::test]
async fn another_policy_gives_no_second_answer() {
    let replicas = Replicas::start("retry_window: 30s").await;
    let (old, new) = (replicas.replica(&["k1"], ""), replicas.replica(&["k1"], "# changed\n"));
    let token = replicas.job(&json!({}));
    let first = replicas.ask(&old, &token).await.unwrap();
    assert!(Replicas::replayed(&replicas.ask(&new, &token).await));
    assert_eq!(replicas.ask(&old, &token).await.unwrap(), first);
}

#[actix_web::test]
async fn a_planted_record_names_no_token() {
    let replicas = Replicas::start("retry_window: 2m").await;
    let replica = replicas.replica(&["k1"], "");
    let (victim, thief) = (replicas.job(&json!({"jti": "victim"})), replicas.job(&json!({"jti": "thief"})));
    let first = replicas.ask(&replica, &victim).await.unwrap();
    let place = |jti: &str| {
        use base64::Engine as _;
        let key = trustmint::state::first_use_key(replicas.service.provider.issuer(), Some(jti), &[0; 32], None);
        format!("first-use:{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(key)).into_bytes()
    };
    let until = replica.now().plus(Duration::from_secs(600));
    // One who can write to the store puts the record of one use in the place of another, or one of their own making.
    let record = replicas.store.get(&place("victim")).await.unwrap().expect("the record is where it is looked for");
    let id = TokenId::new(replica.now(), [7; 10]);
    let made = json!({"token_id": id.to_string(), "digest": "A".repeat(43), "kid": "k1"}).to_string();
    for planted in [&record[..], made.as_bytes(), b""] {
        replicas.store.put(&place("thief"), planted, until).await.unwrap();
        assert!(matches!(replicas.ask(&replica, &thief).await, Err(Failure::Replayed(None))));
    }
    assert_eq!(replicas.ask(&replica, &victim).await.unwrap(), first);
    // Altered in place it gives nothing any more, and is no first use.
    let mut altered = record.to_vec();
    *altered.last_mut().unwrap() ^= 1;
    replicas.store.put(&place("victim"), &altered, until).await.unwrap();
    assert!(matches!(replicas.ask(&replica, &victim).await, Err(Failure::Replayed(None))));
}
