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
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::macaroon::Unverified;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::serve::Home;
use crate::support::service::WIDGETS;
use crate::support::service::example;
use crate::support::service::policy_of;

const ISSUER: &str = "https://ci.acme.example";
const KEY: &str = "an-operators-key";
/// One in three is broken.
const RELOADS: usize = 10_000;
/// When everything has been used that is used.
const WARM: usize = 1_000;
/// What the allocator may hold on to besides, in bytes.
const SLACK: usize = 4 << 20;
/// Jobs that publish at the same time.
const JOBS: usize = 4;

/// An upload token, and which reloads had ended before it was asked for and begun before it was there.
struct Published {
    ended_before: usize,
    begun_after: usize,
    token: String,
}

#[actix_web::test]
async fn ten_thousand_reloads_a_third_of_them_broken_fail_no_request_mix_no_revisions_and_keep_no_memory() {
    let keys = vec![Arc::new(SigningKey::generate(KeyKind::P256).unwrap())];
    let provider = LoopbackProvider::start_with(Arc::new(SystemClock), keys).unwrap();
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
    home.write("policy/jwks.json", &provider.jwks().to_string());
    // First uses are remembered, which is memory too; here each job repeats itself.
    let issuer = format!("  github: {{provider: github, url: \"{ISSUER}\", jwks_file: jwks.json}}");
    let policy = |rule: &str| {
        let rules = WIDGETS.replace("widgets-release", rule);
        policy_of("https://pypi.acme.example", &issuer, &rules)
            .replace("dialect: pypi", "dialect: pypi\n    replay: off")
    };
    home.write("policy/acme.yaml", &policy("rule-0"));
    let served = home.serve();

    let job = json!({"repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "release"});
    let id_token = || {
        let now = SystemClock.now();
        let mut claims = provider.claims(&example("github", "tag-push", &job), "acme", now);
        claims["iss"] = json!(ISSUER);
        json!({"token": provider.mint(&claims)}).to_string()
    };
    let (begun, ended, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let publish = async || {
        let mut published = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let ended_before = ended.load(Ordering::SeqCst);
            let request = client.post(format!("{}/_/oidc/mint-token", served.public));
            let answer = request.header("host", "pypi.acme.example").body(id_token()).send().await.unwrap();
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert_eq!(status, 200, "a request failed: {text}");
            let body: Value = serde_json::from_str(&text).unwrap();
            let token = body["token"].as_str().unwrap().to_owned();
            published.push(Published { ended_before, begun_after: begun.load(Ordering::SeqCst), token });
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
            let broken = number % 3 == 0;
            let text = if broken { "rules: [".to_owned() } else { policy(&format!("rule-{number}")) };
            home.write("next", &text);
            fs::rename(home.path().join("next"), home.path().join("policy/acme.yaml")).unwrap();
            let request = client.post(format!("{}/policy/reload", served.operations)).bearer_auth(KEY);
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            assert_eq!(status, if broken { 422 } else { 200 }, "{body}");
            if !broken {
                activated.insert(body["revision"].as_str().unwrap().to_owned(), number);
            }
            ended.store(number, Ordering::SeqCst);
            if number == WARM {
                warm = resident();
            }
        }
        let end = resident();
        over.store(true, Ordering::SeqCst);
        (activated, warm, end)
    };
    let jobs = async { tokio::join!(publish(), publish(), publish(), publish()) };
    let both = async { tokio::join!(reload(), jobs) };
    let ((activated, warm, end), jobs) =
        tokio::time::timeout(Duration::from_secs(300), both).await.expect("it does not come to its end");

    assert_eq!(activated.len(), RELOADS - RELOADS / 3, "each good one has a revision of its own");
    let published: Vec<Published> = [jobs.0, jobs.1, jobs.2, jobs.3].into_iter().flatten().collect();
    assert!(published.len() > JOBS * 10, "{} requests are no load", published.len());
    let mut seen = std::collections::HashSet::new();
    for Published { ended_before, begun_after, token } in &published {
        let provenance = Unverified::parse(token).unwrap().identifier().unwrap().provenance;
        // What is in force before the first reload has no number here.
        let number = activated.get(&provenance.policy_revision).copied().unwrap_or(0);
        assert_eq!(provenance.rules, [format!("rule-{number}")], "one revision decides a request throughout");
        let earliest = if ended_before % 3 == 0 { ended_before.saturating_sub(1) } else { *ended_before };
        assert!((earliest..=*begun_after).contains(&number), "{number} was not in force in {earliest}..={begun_after}");
        seen.insert(number);
    }
    assert!(seen.len() > 100, "only {} revisions were met", seen.len());
    println!("{} requests met {} revisions; resident {warm} bytes, then {end}", published.len(), seen.len());
    assert!(end <= warm + SLACK, "{warm} bytes were resident after {WARM} reloads, {end} after {RELOADS}");
}
