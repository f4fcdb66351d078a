//! Ten thousand reloads while jobs publish: the real binary, so that the memory measured is its own.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tokio::sync::watch;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::macaroon::Unverified;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::serve::Home;
use crate::support::service::API_KEY;
use crate::support::service::example;

const ISSUER: &str = "https://ci.acme.example";
const KEY: &str = "an-operators-key";
/// One in three is broken.
const RELOADS: usize = 10_000;
/// When everything has been used that is used.
const WARM: usize = 1_000;
/// What the allocator may hold on to besides, in bytes.
const SLACK: usize = 4 << 20;
/// Jobs that publish at the same time.
const JOBS: usize = 2;

/// An upload token, and which reloads had ended before it was asked for and begun before it was there.
struct Published {
    ended_before: usize,
    begun_after: usize,
    token: String,
}

/// A rule that each policy has, so that a token outlives the one by which it was minted.
const STEADY: &str = "steady";

/// A policy of that rule and [`STEADY`]. JSON is YAML, and read faster.
fn policy(rule: &str) -> Value {
    let widgets = json!({
        "registry": "acme-pypi", "issuer": "github",
        "when": {
            "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
            "workflow_file": "release.yml", "environment": "release",
        },
        "allow": {"upload": ["widgets"]},
    });
    json!({
        "issuers": {"github": {"provider": "github", "url": ISSUER, "jwks_file": "jwks.json"}},
        "registries": {"acme-pypi": {
            "dialect": "pypi", "urls": ["https://pypi.acme.example/legacy/"], "audiences": ["acme"],
            // First uses are remembered, which is memory too; so they are not looked at.
            "replay": "off",
            "callers": {"frontend": {"key_sha256": hex(&sha256(API_KEY.as_bytes()))}},
            "limits": {"exchanges_per_minute": 1_000_000},
        }},
        "rules": {rule: widgets.clone(), STEADY: widgets},
    })
}

/// One that is refused, as text, in each way in turn in which a policy can be; and words of what is said.
fn broken(number: usize) -> (String, &'static str) {
    let mut policy = policy(&format!("rule-{number}"));
    match number / 3 % 3 {
        0 => ("rules: [".to_owned(), "acme.yaml"),
        1 => {
            policy["rules"][STEADY]["when"].as_object_mut().unwrap().remove("repository_id");
            (policy.to_string(), "\"code\":\"L001\"")
        }
        _ => {
            policy["tests"] =
                json!([{"name": "a branch may", "rule": STEADY, "token": "github/branch-push", "expect": "allow"}]);
            (policy.to_string(), "the test `a branch may` fails: it expects allow")
        }
    }
}

/// A folder with the service's settings and keys, the issuer's key set and the first policy.
fn home(jwks: &Value) -> Home {
    let home = Home::with_key();
    let digest = hex(&sha256(KEY.as_bytes()));
    home.write(
        "trustmint.yaml",
        &format!(
            "listen: {{address: \"127.0.0.1:0\"}}\noperations: {{address: \"127.0.0.1:0\", callers: {{oncall: {{key_sha256: \
             \"{digest}\"}}}}}}\npolicy: {{poll: 1s}}\naudit: {{sink: file, file: /dev/null}}\ntelemetry: {{level: \
             \"off,trustmint::cli::serve=info\"}}\nlimits: {{workers: 1}}\n"
        ),
    );
    home.write("policy/jwks.json", &jwks.to_string());
    home.write("policy/acme.yaml", &policy("rule-0").to_string());
    home
}

/// Asks the service at that address, as the registry, about a token that must be good.
async fn verify(client: &reqwest::Client, public: &str, token: &str) {
    let question = json!({"token": token, "package": "widgets", "exists": true}).to_string();
    let request = client.post(format!("{public}/v1/verify")).bearer_auth(API_KEY);
    let answer = request.header("host", "pypi.acme.example").body(question).send().await.unwrap();
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status.as_u16(), &body["allowed"]), (200, &json!(true)), "a token was refused: {text}");
    assert_eq!(body["publisher"]["policy_revision"], revision_of(token), "{text}");
}

/// The policy by which a token was minted.
fn revision_of(token: &str) -> String {
    Unverified::parse(token).unwrap().identifier().unwrap().provenance.policy_revision
}

#[actix_web::test]
async fn ten_thousand_reloads_a_third_of_them_broken_fail_no_request_mix_no_revisions_and_keep_no_memory() {
    let keys = vec![Arc::new(SigningKey::generate(KeyKind::P256).unwrap())];
    let provider = LoopbackProvider::start_with(Arc::new(SystemClock), keys).unwrap();
    let home = home(&provider.jwks());
    let served = home.serve();
    // What is dated in whole seconds could be older than the service if it were of the second in which that started.
    let started = SystemClock.now();
    while SystemClock.now().unix_seconds() <= started.unix_seconds() {
        tokio::task::yield_now().await;
    }

    let job = json!({"repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "release"});
    let id_token = || {
        let now = SystemClock.now();
        let mut claims = provider.claims(&example("github", "tag-push", &job), "acme", now);
        claims["iss"] = json!(ISSUER);
        json!({"token": provider.mint(&claims)}).to_string()
    };
    // The jobs take turns, so that at each reload one asks, and there is time for both on a small machine.
    let (begun, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (ended, _) = watch::channel(0);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let publish = async |verifies: bool| {
        let mut published = Vec::new();
        let mut reloaded = ended.subscribe();
        while !over.load(Ordering::SeqCst) {
            let ended_before = *reloaded.borrow_and_update();
            let request = client.post(format!("{}/_/oidc/mint-token", served.public));
            let answer = request.header("host", "pypi.acme.example").body(id_token()).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, 200, "a request failed: {text}");
            let body: Value = serde_json::from_str(&text).unwrap();
            let token = body["token"].as_str().unwrap().to_owned();
            if verifies {
                verify(&client, &served.public, &token).await;
            }
            published.push(Published { ended_before, begun_after: begun.load(Ordering::SeqCst), token });
            let turn = RELOADS.min(ended_before + JOBS);
            reloaded.wait_for(|ended| *ended >= turn).await.unwrap();
        }
        published
    };
    let resident = || {
        let pages = fs::read_to_string(format!("/proc/{}/statm", served.child.id())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
    };
    let reload = async || {
        // By revision: the reload that put it in force.
        let mut activated = HashMap::new();
        let mut warm = 0;
        for number in 1..=RELOADS {
            begun.store(number, Ordering::SeqCst);
            let is_broken = number % 3 == 0;
            let (text, words) =
                if is_broken { broken(number) } else { (policy(&format!("rule-{number}")).to_string(), "") };
            home.write("next", &text);
            fs::rename(home.path().join("next"), home.path().join("policy/acme.yaml")).unwrap();
            let request = client.post(format!("{}/policy/reload", served.operations)).bearer_auth(KEY);
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(status, if is_broken { 422 } else { 200 }, "{body}");
            assert!(body.to_string().contains(words), "{words}: {body}");
            if !is_broken {
                activated.insert(body["revision"].as_str().unwrap().to_owned(), number);
            }
            if number == WARM {
                warm = resident();
            }
            over.store(number == RELOADS, Ordering::SeqCst);
            ended.send_replace(number);
        }
        let end = resident();
        (activated, warm, end)
    };
    let jobs = async { tokio::join!(publish(false), publish(true)) };
    let both = async { tokio::join!(reload(), jobs) };
    let ((activated, warm, end), jobs) =
        tokio::time::timeout(Duration::from_secs(900), both).await.expect("it does not come to its end");

    assert_eq!(activated.len(), RELOADS - RELOADS / 3, "each good one has a revision of its own");
    let published: Vec<Published> = [jobs.0, jobs.1].into_iter().flatten().collect();
    assert!(published.len() > RELOADS / 10, "{} requests are no load", published.len());
    let mut seen = std::collections::HashSet::new();
    for Published { ended_before, begun_after, token } in &published {
        let provenance = Unverified::parse(token).unwrap().identifier().unwrap().provenance;
        // What is in force before the first reload has no number here.
        let number = activated.get(&provenance.policy_revision).copied().unwrap_or(0);
        assert_eq!(
            provenance.rules,
            [format!("rule-{number}"), STEADY.to_owned()],
            "one revision decides a request throughout"
        );
        let earliest = if ended_before % 3 == 0 { ended_before.saturating_sub(1) } else { *ended_before };
        assert!((earliest..=*begun_after).contains(&number), "{number} was not in force in {earliest}..={begun_after}");
        seen.insert(number);
    }
    assert!(seen.len() > 1_000, "only {} revisions were met", seen.len());
    assert!(end <= warm + SLACK, "{warm} bytes were resident after {WARM} reloads, {end} after {RELOADS}");
}
