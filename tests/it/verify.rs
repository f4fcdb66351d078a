//! `POST /v1/verify`: a registry asks whether a token may do something.

use std::future::poll_fn;
use std::ops::Range;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Barrier;
use std::task::Poll;
use std::time::Duration;

use actix_web::App as Actix;
use actix_web::body::to_bytes;
use actix_web::dev::Service as _;
use actix_web::rt;
use actix_web::test;
use actix_web::web;
use serde_json::Value;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::timeout;
use trustmint::app::App;
use trustmint::app::Caller;
use trustmint::http;
use trustmint::http::Public;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::secret::Presented;
use trustmint::telemetry::Stopwatch;
use trustmint::verify::MOST_SPENDING;
use trustmint::verify::Question;
use trustmint::yielding::Yielding;

use crate::store_contract::faulty;
use crate::store_contract::faulty::Fault;
use crate::support::Service;
use crate::support::redis::PATIENCE;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;
use crate::support::tenants::TOOLS_KEY;
use crate::support::tenants::narrowed;
use crate::support::tenants::tenants;
use crate::support::tenants::tenants_with;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const OTHER_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A question about an upload of `widgets`, with other members put over it; `null` removes one.
fn question(token: &str, overrides: &Value) -> Value {
    let mut question = json!({"token": token, "package": "widgets", "exists": true});
    let members = question.as_object_mut().unwrap();
    members.extend(overrides.as_object().unwrap().clone());
    members.retain(|_, value| !value.is_null());
    question
}

async fn ask(service: &Service, token: &str, overrides: Value) -> Answer {
    service.verify(&question(token, &overrides)).await
}

async fn ask_with_key(service: &Service, authorization: &str, question: &Value) -> Answer {
    let request = service.client.post(format!("{}/v1/verify", service.base));
    Answer::of(request.header("authorization", authorization).body(question.to_string()).send().await.unwrap()).await
}

async fn single_use(service: &Service) -> String {
    let body = json!({"token": service.id_token(&json!({})), "features": ["single-use-token"]});
    let answer = service.mint(&body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["token"].as_str().unwrap().to_owned()
}

#[track_caller]
fn allowed(answer: &Answer) {
    assert_eq!((answer.status, &answer.body["allowed"]), (200, &json!(true)), "{}", answer.text);
}

/// A refusal is an answer: 200, with the reason in words.
#[track_caller]
fn refused(answer: &Answer, code: &str, words: &str) {
    assert_eq!((answer.status, &answer.body["allowed"], answer.code()), (200, &json!(false), code), "{}", answer.text);
    let reasons = answer.body["reasons"].as_array().unwrap();
    assert!(reasons.iter().any(|reason| reason.as_str().unwrap().contains(words)), "{words}: {}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    assert!(answer.body["mend"].as_str().is_some_and(|mend| !mend.is_empty()));
}

#[track_caller]
fn wrong(answer: &Answer, words: &str) {
    assert_eq!((answer.status, answer.code()), (400, "bad-request"), "{}", answer.text);
    assert!(answer.body["message"].as_str().unwrap().contains(words), "{words}: {}", answer.text);
    assert_ne!(answer.body["allowed"], true);
}

#[actix_web::test]
async fn the_answer_says_which_token_and_where_it_came_from() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let answer = ask(&service, &token, json!({"version": "1.0", "sha256": DIGEST, "size": 3})).await;
    allowed(&answer);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let token_facts = &answer.body["token"];
    assert_eq!(token_facts["id"].as_str().unwrap().len(), 36);
    let now = service.app.now();
    assert_eq!(token_facts["issued_at"], now.to_string());
    assert_eq!(token_facts["expires_at"], now.plus(Duration::from_secs(900)).to_string());
    let publisher = &answer.body["publisher"];
    assert_eq!(publisher["issuer"], service.provider.issuer());
    assert_eq!(publisher["rules"], json!(["widgets-release"]));
    assert_eq!(publisher["policy_revision"], service.app.policy().revision());
    assert_eq!(publisher["claims"]["repository_id"], "701234567");
}

#[actix_web::test]
async fn from_exists_follows_whether_it_is_an_upload_or_a_creation() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    allowed(&ask(&service, &token, json!({})).await);
    allowed(&ask(&service, &token, json!({"package": "widgets-extra", "exists": false})).await);
    refused(&ask(&service, &token, json!({"exists": false})).await, "action-not-covered", "no such package yet");
    let taken = ask(&service, &token, json!({"package": "widgets-extra"})).await;
    refused(&taken, "action-not-covered", "`upload`");
    let other = ask(&service, &token, json!({"package": "gadgets"})).await;
    refused(&other, "package-not-covered", "the token is for `widgets`, `widgets-*`; `gadgets` was uploaded");
}

#[actix_web::test]
async fn names_are_canonical() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    for package in ["Widgets", "WIDGETS"] {
        allowed(&ask(&service, &token, json!({"package": package})).await);
    }
    for package in ["Widgets_Extra", "widgets.extra", "widgets-_.Extra"] {
        allowed(&ask(&service, &token, json!({"package": package, "exists": false})).await);
    }
    for package in ["widgets/", "../widgets", "widgets\n", "wïdgets", "-widgets", "widgets*", &"w".repeat(215)] {
        refused(&ask(&service, &token, json!({"package": package})).await, "package-not-covered", "no package name");
    }
}

#[actix_web::test]
async fn other_actions_are_asked_for_by_name() {
    let service = Service::with_policy(tenants).await;
    let token = service.upload_token_for("tools-aud").await;
    let key = format!("Bearer {TOOLS_KEY}");
    let ask = async |overrides: Value| {
        let mut overrides = overrides;
        overrides["exists"] = Value::Null;
        ask_with_key(&service, &key, &question(&token, &overrides)).await
    };
    allowed(&ask(json!({"action": "yank"})).await);
    allowed(&ask(json!({"action": "read"})).await);
    allowed(&ask(json!({"action": "read", "package": "widgets/sub"})).await);
    refused(&ask(json!({"action": "yank", "package": "widgets/sub"})).await, "action-not-covered", "`yank`");
    refused(&ask(json!({"action": "delete"})).await, "action-not-covered", "`delete` was asked for");
    refused(&ask(json!({"action": "read", "package": "gadgets"})).await, "package-not-covered", "gadgets");
    // Only `exists` tells these two apart, and the registry cannot say the wrong one.
    wrong(&ask(json!({"action": "upload"})).await, "say `exists`");
    wrong(&ask(json!({"action": "create"})).await, "say `exists`");
    wrong(&ask(json!({"action": "Delete!"})).await, "not an action");
    wrong(&ask(json!({})).await, "`exists` is missing");
}

#[actix_web::test]
async fn a_registry_can_only_ask_about_its_own_tokens() {
    let service = Service::with_policy(tenants).await;
    let token = service.upload_token().await;
    let question = question(&token, &json!({}));
    allowed(&ask_with_key(&service, &format!("bearer {API_KEY}"), &question).await);
    let other = ask_with_key(&service, &format!("Bearer {TOOLS_KEY}"), &question).await;
    refused(&other, "upload-token-malformed", "");
    // Not even when the prefix is made to fit: the keys differ.
    let renamed = json!({"token": token.replacen("pypi-", "tm-", 1), "package": "widgets", "exists": true});
    refused(&ask_with_key(&service, &format!("Bearer {TOOLS_KEY}"), &renamed).await, "upload-token-unknown", "");
    for authorization in ["", "Bearer", "Bearer ", "Basic YTpi", "Bearer wrong", API_KEY, &format!("Bearer {API_KEY}x")]
    {
        let answer = ask_with_key(&service, authorization, &question).await;
        assert_eq!((answer.status, answer.code()), (401, "bad-api-key"), "{authorization:?}: {}", answer.text);
        assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer "));
        assert!(answer.body["allowed"].is_null());
    }
    let none = Answer::of(service.client.post(format!("{}/v1/verify", service.base)).send().await.unwrap()).await;
    assert_eq!(none.status, 401);
}

#[actix_web::test]
async fn a_question_is_read_strictly() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    for (overrides, words) in [
        (json!({"pakage": "widgets"}), "`pakage` is not a member"),
        (json!({"token": null}), "`token` is missing"),
        (json!({"token": 1}), "`token` must be a string"),
        (json!({"package": null}), "`package` is missing"),
        (json!({"package": ["widgets"]}), "`package` must be a string"),
        (json!({"exists": null}), "`exists` is missing"),
        (json!({"exists": "true"}), "`exists` must be true or false"),
        (json!({"exists": 1}), "`exists` must be true or false"),
        (json!({"version": ""}), "`version`"),
        (json!({"version": 1}), "`version`"),
        (json!({"version": "1".repeat(257)}), "`version`"),
        (json!({"sha256": "ABC"}), "64 hexadecimal digits"),
        (json!({"sha256": DIGEST.to_uppercase()}), "lower case"),
        (json!({"size": -1}), "`size`"),
        (json!({"size": 1.5}), "`size`"),
        (json!({"size": 1e300}), "`size`"),
        (json!({"exists": "yes", "action": "yank"}), "`exists`"),
        (json!({"size": -3, "package": ""}), "`size`"),
        (json!({"size": "3"}), "`size`"),
        (json!({"client_ip": "localhost"}), "`client_ip`"),
        (json!({"client_ip": "127.0.0.1:80"}), "`client_ip`"),
        (json!({"consume": ""}), "`consume`"),
        (json!({"consume": 7}), "`consume`"),
        (json!({"action": ""}), "`action`"),
    ] {
        wrong(&ask(&service, &token, overrides).await, words);
    }
    for body in ["", "[]", "null", "{", r#"{"token":"a","token":"b"}"#] {
        let request = service.client.post(format!("{}/v1/verify", service.base)).bearer_auth(API_KEY);
        wrong(&Answer::of(request.body(body).send().await.unwrap()).await, "the body");
    }
    allowed(&ask(&service, &token, json!({"exists": true})).await);
}

#[actix_web::test]
async fn a_narrowed_token_is_held_to_each_caveat() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let with = |caveat: &str| narrowed(&token, caveat);

    let version = with("version 1.0,1.1");
    allowed(&ask(&service, &version, json!({"version": "1.1"})).await);
    refused(&ask(&service, &version, json!({"version": "2.0"})).await, "version-not-covered", "`2.0`");
    refused(&ask(&service, &version, json!({})).await, "fact-not-stated", "did not state the version");

    let digest = with(&format!("sha256 {DIGEST}"));
    allowed(&ask(&service, &digest, json!({"sha256": DIGEST})).await);
    refused(&ask(&service, &digest, json!({"sha256": OTHER_DIGEST})).await, "digest-not-covered", OTHER_DIGEST);
    refused(&ask(&service, &digest, json!({})).await, "fact-not-stated", "SHA-256");

    let size = with("max-size 1000");
    allowed(&ask(&service, &size, json!({"size": 1000})).await);
    allowed(&ask(&service, &size, json!({"size": 1000.0})).await);
    refused(&ask(&service, &size, json!({"size": 1001})).await, "size-not-covered", "at most 1000 bytes");
    refused(&ask(&service, &size, json!({})).await, "fact-not-stated", "size");

    let network = with("ip 192.0.2.0/24");
    for address in ["192.0.2.7", "::ffff:192.0.2.7"] {
        allowed(&ask(&service, &network, json!({"client_ip": address})).await);
    }
    refused(&ask(&service, &network, json!({"client_ip": "192.0.3.7"})).await, "address-not-covered", "`192.0.3.7`");
    // The address of the registry that asks is nobody's business here.
    refused(&ask(&service, &network, json!({})).await, "fact-not-stated", "address");

    let pairs = with("allow upload:widgets");
    allowed(&ask(&service, &pairs, json!({})).await);
    let created = ask(&service, &pairs, json!({"package": "widgets-extra", "exists": false})).await;
    refused(&created, "package-not-covered", "the token is for `widgets`");

    // Caveats only restrict: one that says more than the token allows nothing more.
    let wider = with("allow upload:gadgets,upload:widgets");
    allowed(&ask(&service, &wider, json!({})).await);
    refused(&ask(&service, &wider, json!({"package": "gadgets"})).await, "package-not-covered", "gadgets");
    let elsewhere = with("registry other");
    refused(&ask(&service, &elsewhere, json!({})).await, "wrong-registry", "`other`");
    for caveat in ["color red", "version", "version ", "VERSION 1.0", "max-size -1", "uses 0"] {
        refused(&ask(&service, &with(caveat), json!({"version": "1.0"})).await, "caveat-not-understood", "caveat");
    }

    let all = narrowed(&narrowed(&version, &format!("sha256 {DIGEST}")), "max-size 10");
    let answer = ask(&service, &all, json!({"version": "9", "sha256": OTHER_DIGEST, "size": 11})).await;
    refused(&answer, "version-not-covered", "`9`");
    assert_eq!(answer.body["reasons"].as_array().unwrap().len(), 3, "every reason at once: {}", answer.text);
}

#[actix_web::test]
async fn a_token_ends_on_time_and_a_narrowed_one_sooner() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let soon = narrowed(&token, &format!("time-before {}", service.app.now().plus(Duration::from_secs(60))));
    service.pass(Duration::from_secs(59)).await;
    allowed(&ask(&service, &soon, json!({})).await);
    service.pass(Duration::from_secs(1)).await;
    refused(&ask(&service, &soon, json!({})).await, "upload-token-expired", "expired at");
    service.pass(Duration::from_secs(839)).await;
    allowed(&ask(&service, &token, json!({})).await);
    service.pass(Duration::from_secs(1)).await;
    refused(&ask(&service, &token, json!({})).await, "upload-token-expired", "0 s ago");
    service.pass(Duration::from_secs(243)).await;
    refused(&ask(&service, &token, json!({})).await, "upload-token-expired", "4 min 3 s ago");
    let later = narrowed(&token, &format!("time-before {}", service.app.now().plus(Duration::from_secs(60))));
    refused(&ask(&service, &later, json!({})).await, "upload-token-expired", "expired at");
    service.pass(Duration::from_secs(3600)).await;
    refused(&ask(&service, &token, json!({})).await, "upload-token-expired", "");
}

#[actix_web::test]
async fn what_is_no_token_of_the_registry_is_refused() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let mut forged = token.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    for garbage in [
        "",
        "x",
        "pypi-",
        "pypi-AgEI",
        token.strip_prefix("pypi-").unwrap(),
        &format!(" {token}"),
        &format!("{token}="),
        &format!("{token}\n"),
        &format!("Bearer {token}"),
        &token[..token.len() - 1],
        &forged,
        &service.id_token(&json!({})),
    ] {
        let answer = ask(&service, garbage, json!({})).await;
        assert_eq!((answer.status, &answer.body["allowed"]), (200, &json!(false)), "{garbage}: {}", answer.text);
        assert!(["upload-token-malformed", "upload-token-unknown"].contains(&answer.code()), "{}", answer.text);
    }
    allowed(&ask(&service, &token, json!({})).await);
}

#[actix_web::test]
async fn a_policy_that_switches_something_off_ends_live_tokens() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let text = policy_text(&service.base, service.provider.issuer(), WIDGETS);
    service.app.activate(policy(&text.replace("{provider: github,", "{provider: github, enabled: false,")));
    refused(&ask(&service, &token, json!({})).await, "issuer-disabled", "identity provider");
    service.app.activate(policy(&text.replace("dialect: pypi", "dialect: pypi\n    enabled: false")));
    refused(&ask(&service, &token, json!({})).await, "registry-disabled", "switched off");
    service.app.activate(policy(&text.replace("dialect: pypi", "dialect: pypi\n    epoch: 1")));
    refused(&ask(&service, &token, json!({})).await, "upload-token-unknown", "");
    service.app.activate(policy(&text));
    allowed(&ask(&service, &token, json!({})).await);
}

#[actix_web::test]
async fn a_raised_epoch_ends_the_live_tokens_of_its_registry_and_of_no_other() {
    let service = Service::with_policy(tenants).await;
    let (acme, tools) = (service.upload_token().await, service.upload_token_for("tools-aud").await);
    let key = format!("Bearer {TOOLS_KEY}");
    allowed(&ask_with_key(&service, &key, &question(&tools, &json!({}))).await);
    service.app.activate(tenants_with(&service.base, service.provider.issuer(), ", epoch: 1"));
    let ended = ask_with_key(&service, &key, &question(&tools, &json!({}))).await;
    refused(&ended, "upload-token-unknown", "");
    allowed(&ask(&service, &acme, json!({})).await);
}

#[actix_web::test]
async fn a_registry_that_is_renamed_keeps_its_key_by_its_key_id_and_not_its_live_tokens() {
    let service = Service::start().await;
    let token = service.upload_token().await;
    let text = policy_text(&service.base, service.provider.issuer(), WIDGETS).replace("acme-pypi", "python");
    service.app.activate(policy(&text.replace("dialect: pypi", "dialect: pypi\n    key_id: acme-pypi")));
    // Known, and its caveat names the registry as it was called.
    refused(&ask(&service, &token, json!({})).await, "wrong-registry", "the registry `acme-pypi`; `python` asked");
    allowed(&ask(&service, &service.upload_token().await, json!({})).await);
    service.app.activate(policy(&text));
    refused(&ask(&service, &token, json!({})).await, "upload-token-unknown", "");
}

#[actix_web::test]
async fn a_single_use_is_spent_once_for_each_upload() {
    let service = Service::start().await;
    let token = single_use(&service).await;
    let upload = json!({"version": "1.0", "sha256": DIGEST, "size": 3, "consume": "upload-1"});
    let put = |name: &str, value: Value| {
        let mut upload = upload.clone();
        upload[name] = value;
        upload
    };

    refused(&ask(&service, &token, put("consume", Value::Null)).await, "consume-required", "`consume`");
    let not_covered = ask(&service, &token, put("package", json!("gadgets"))).await;
    refused(&not_covered, "package-not-covered", "gadgets");
    let first = ask(&service, &token, upload.clone()).await;
    allowed(&first);
    service.clock.pass(Duration::from_secs(5));
    let again = ask(&service, &token, upload.clone()).await;
    assert_eq!(again.body, first.body, "a repeat with equal facts gets the first answer");
    for (name, value) in
        [("version", json!("1.1")), ("sha256", json!(OTHER_DIGEST)), ("size", json!(4)), ("size", Value::Null)]
    {
        refused(&ask(&service, &token, put(name, value)).await, "consume-conflict", "with other facts");
    }
    refused(&ask(&service, &token, put("consume", json!("upload-2"))).await, "uses-spent", "good for one upload");
    allowed(&ask(&service, &token, upload).await);
    let read = json!({"exists": null, "action": "read"});
    allowed(&ask(&service, &token, read).await);
}

#[actix_web::test]
async fn a_narrowed_copy_does_not_get_the_use_back() {
    let service = Service::start().await;
    let token = single_use(&service).await;
    let copy = narrowed(&token, "uses 5");
    allowed(&ask(&service, &copy, json!({"consume": "u1"})).await);
    for token in [&token, &copy, &narrowed(&token, "version 1.0"), &narrowed(&token, "uses 9")] {
        let answer = ask(&service, token, json!({"consume": "u2", "version": "1.0"})).await;
        refused(&answer, "uses-spent", "good for one upload");
    }
    // A multi-use token can be narrowed to fewer uses.
    let multi = service.upload_token().await;
    let twice = narrowed(&multi, "uses 2");
    for (upload, may) in [("u1", true), ("u2", true), ("u3", false)] {
        let answer = ask(&service, &twice, json!({"consume": upload})).await;
        assert_eq!(answer.body["allowed"], may, "{upload}: {}", answer.text);
    }
    allowed(&ask(&service, &multi, json!({})).await);
}

#[actix_web::test]
async fn of_a_thousand_uploads_a_hundred_at_once_one_gets_the_use() {
    let service = Service::start().await;
    let token = single_use(&service).await;
    let mut granted = 0;
    // A connection each; more at once would measure how fast this machine opens them.
    for wave in 0..10 {
        let asked = (0..100).map(|upload| {
            let question = question(&token, &json!({"consume": format!("upload-{wave}-{upload}")}));
            let request = service.client.post(format!("{}/v1/verify", service.base)).bearer_auth(API_KEY);
            rt::spawn(request.body(question.to_string()).send())
        });
        let asked: Vec<_> = asked.collect();
        for answer in asked {
            let answer = Answer::of(answer.await.unwrap().unwrap()).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            granted += usize::from(answer.body["allowed"] == true);
        }
    }
    assert_eq!(granted, 1);
}

#[actix_web::test]
async fn of_a_thousand_presentations_at_one_moment_one_gets_the_use() {
    let service = Service::start().await;
    let token = single_use(&service).await;
    assert_eq!(presented_at_once(&[&service], &token, 1000).await, 1);
}

/// Presents a token so many times at once, each for an upload of its own, at all replicas alike; how often it was accepted.
/// In process, from threads that all begin together: a connection each would measure how fast a machine opens them.
pub async fn presented_at_once(replicas: &[&Service], token: &str, times: usize) -> usize {
    const THREADS: usize = 8;
    let together = Arc::new(Barrier::new(THREADS));
    let threads = (0..THREADS).map(|thread| {
        let apps: Vec<Arc<App>> = replicas.iter().map(|replica| Arc::clone(&replica.app)).collect();
        let (token, together) = (token.to_owned(), Arc::clone(&together));
        rt::task::spawn_blocking(move || {
            let presented = (thread..times).step_by(THREADS).zip(apps.iter().cycle());
            let presented: Vec<_> = presented.map(|(upload, app)| present(Arc::clone(app), &token, upload)).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            together.wait();
            let accepted = async { presented.into_iter().collect::<JoinSet<bool>>().join_all().await };
            runtime.block_on(accepted).into_iter().filter(|accepted| *accepted).count()
        })
    });
    let mut accepted = 0;
    for thread in threads.collect::<Vec<_>>() {
        accepted += thread.await.unwrap();
    }
    accepted
}

fn present(app: Arc<App>, token: &str, upload: usize) -> impl Future<Output = bool> + Send + 'static {
    let (token, consume) = (token.to_owned(), format!("upload-{upload}"));
    async move {
        let policy = app.policy();
        let question = Question {
            token: Presented::new(&token),
            action: Action::upload(),
            package: PackageName::parse(Ecosystem::Pypi, "widgets").unwrap(),
            version: None,
            sha256: None,
            size: None,
            client_ip: None,
            consume: Some(&consume),
            yielding: Yielding::NOTHING,
        };
        let caller = Caller { request_id: consume.as_str().into(), client: None };
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        match app.verify(&policy, registry, &question, &caller, app.now()).await.result {
            Ok(()) => true,
            Err(refused) => {
                assert_eq!(refused.code().as_str(), "uses-spent");
                false
            }
        }
    }
}

/// More requests of a registry than a replica works on at once, those that wait for a place included.
const CROWD: usize = 200;
const _: () = assert!(CROWD <= MOST_SPENDING);

#[actix_web::test]
async fn uses_that_wait_for_a_silent_store_keep_no_place_from_questions_that_need_none() {
    let (service, store) = faulty::service().await;
    let (plain, limited) = (service.upload_token().await, single_use(&service).await);
    let public = web::Data::new(Public::new(Arc::clone(&service.app), Vec::new()));
    let server = Rc::new(test::init_service(Actix::new().configure(http::public_routes(public))).await);
    let asked = |token: &str, overrides: Value| {
        let request = test::TestRequest::post().uri("/v1/verify");
        let request = request.insert_header(("authorization", format!("Bearer {API_KEY}")));
        let request = request.set_payload(question(token, &overrides).to_string()).to_request();
        let server = Rc::clone(&server);
        async move {
            let response = server.call(request).await.unwrap();
            let body = to_bytes(response.into_body()).await.unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            body["code"].as_str().unwrap_or(if body["allowed"] == true { "allowed" } else { "" }).to_owned()
        }
    };
    let uses = |uses: Range<usize>| -> Vec<_> {
        uses.map(|upload| rt::spawn(asked(&limited, json!({"consume": format!("upload-{upload}")})))).collect()
    };
    let waiting_at_store = async |uses: usize| {
        timeout(PATIENCE, store.held(uses)).await.expect("those that wait for the store take no places");
    };

    store.fail(Some(Fault::Held));
    let mut waiting = uses(0..CROWD);
    waiting_at_store(CROWD).await;
    assert_eq!(asked(&plain, json!({})).await, "allowed");
    assert_eq!(asked(&limited, json!({"package": "gadgets", "consume": "upload"})).await, "package-not-covered");

    // They are bounded all the same, and who is one too many is told late, as at every limit.
    waiting.extend(uses(CROWD..MOST_SPENDING));
    waiting_at_store(MOST_SPENDING).await;
    let refused = uses(MOST_SPENDING..MOST_SPENDING + CROWD);
    let began = Stopwatch::start();
    assert_eq!(asked(&plain, json!({})).await, "allowed", "nor do those that are refused");
    for refused in refused {
        assert_eq!(refused.await.unwrap(), "overloaded");
    }
    assert!(began.elapsed() >= Duration::from_secs(1));
    let counted = service.app.metrics().render().unwrap();
    assert!(counted.contains(&format!("trustmint_overloaded_total{{limit=\"uses\"}} {CROWD}")), "{counted}");

    store.fail(None);
    let mut answers = Vec::new();
    for waiting in waiting {
        answers.push(waiting.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| *answer == "allowed").count(), 1);
    assert_eq!(answers.iter().filter(|answer| *answer == "uses-spent").count(), MOST_SPENDING - 1);
    // There is room again.
    assert_eq!(asked(&limited, json!({"consume": "upload-x"})).await, "uses-spent");
}

#[actix_web::test]
async fn a_verification_that_is_dropped_when_its_use_may_be_spent_is_recorded_and_no_other() {
    let (service, store) = faulty::service().await;
    let token = single_use(&service).await;
    let events = service.audit().len();
    drop(present(Arc::clone(&service.app), &token, 0));
    store.fail(Some(Fault::Held));
    {
        let mut presented = pin!(present(Arc::clone(&service.app), &token, 1));
        assert!(poll_fn(|context| Poll::Ready(presented.as_mut().poll(context).is_pending())).await);
        assert_eq!(service.audit().len(), events, "it may still be answered");
    }
    assert_eq!(service.audit().len(), events + 1);
    let event = service.last_event();
    assert_eq!([&event["event"], &event["decision"], &event["code"]], ["verify", "fault", "store-unavailable"]);
    assert_eq!((&event["requested"], event["token_id"].is_string()), (&json!(["upload:widgets"]), true), "{event}");
    store.fail(None);
    assert!(present(Arc::clone(&service.app), &token, 1).await, "a repetition of the same");
    assert_eq!(service.audit().len(), events + 2, "what is answered is recorded once");
}

#[actix_web::test]
async fn a_verification_that_breaks_is_recorded_as_a_defect_and_not_as_an_outage_of_the_store() {
    let (service, store) = faulty::service().await;
    let token = single_use(&service).await;
    let events = service.audit().len();
    store.fail(Some(Fault::Panics));
    let answer = ask(&service, &token, json!({"consume": "u"})).await;
    assert_eq!((answer.status, answer.code()), (500, "internal"), "{}", answer.text);
    assert_eq!(service.audit().len(), events + 1);
    let event = service.last_event();
    assert_eq!([&event["event"], &event["decision"], &event["code"]], ["verify", "fault", "internal"]);
    assert_eq!((&event["class"], event["token_id"].is_string()), (&json!("fault"), true), "{event}");
    let counted = service.app.metrics().render().unwrap();
    assert!(counted.contains("trustmint_verifications_total{code=\"internal\""), "{counted}");
}

#[actix_web::test]
async fn a_rule_may_demand_single_use() {
    let service = Service::with_rules(&format!("{WIDGETS}    single_use: true\n    max_size: 1KiB\n")).await;
    let token = service.upload_token().await;
    refused(&ask(&service, &token, json!({"size": 3})).await, "consume-required", "`consume`");
    refused(&ask(&service, &token, json!({"size": 1025, "consume": "u"})).await, "size-not-covered", "1024 bytes");
    allowed(&ask(&service, &token, json!({"size": 1024, "consume": "u"})).await);
}

#[actix_web::test]
async fn a_rules_versions_and_lifetime_are_its_tokens() {
    let rules = WIDGETS.replace("tag: {glob: \"v*\"}", "tag: {regex: 'v(?<version>[0-9.]+)'}");
    assert_ne!(rules, WIDGETS);
    let service = Service::with_rules(&format!("{rules}    ttl: 20m\n    versions: [\"{{version}}\"]\n")).await;
    let token = service.upload_token().await;
    let version = json!({"version": "1.4.0"});
    allowed(&ask(&service, &token, version.clone()).await);
    refused(&ask(&service, &token, json!({"version": "1.4.1"})).await, "version-not-covered", "`1.4.1`");
    // By the registry's own lifetime of tokens, 15 minutes, it would be over.
    service.pass(Duration::from_secs(16 * 60)).await;
    allowed(&ask(&service, &token, version.clone()).await);
    service.pass(Duration::from_secs(4 * 60)).await;
    refused(&ask(&service, &token, version).await, "upload-token-expired", "0 s ago");
}
