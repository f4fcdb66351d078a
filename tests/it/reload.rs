//! The policy changes while the service runs: what is in the directory comes into force once, whole and only if it is
//! good; what was good before goes on deciding, here and on replicas that start.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Handle;
use trustmint::app;
use trustmint::app::App;
use trustmint::app::Outcome;
use trustmint::app::Parts;
use trustmint::app::Reloads;
use trustmint::app::Serving;
use trustmint::app::Trigger;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::demo::provider::Answer as Told;
use trustmint::demo::provider::Endpoint;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::policy::watch::Directory;
use trustmint::policy::yaml::Faults;
use trustmint::state::MAX_COPY_AGE;
use trustmint::state::MemoryStore;
use trustmint::state::Store;
use trustmint::telemetry::Metrics;
use trustmint::time::Timestamp;

use crate::operations::KEY;
use crate::operations::Operations;
use crate::support::Service;
use crate::support::SetClock;
use crate::support::said::Channel;
use crate::support::said::Record;
use crate::support::service::API_KEY;
use crate::support::service::Answer;
use crate::support::service::POLL;
use crate::support::service::WIDGETS;
use crate::support::service::policy_text;

/// A directory of policy files, and a service that watches it.
struct Watched {
    directory: TempDir,
    service: Service,
    /// The registry and the issuer, without a rule.
    head: String,
    operations: Operations,
}

impl Watched {
    /// With the rule `widgets-release` in `rules.yaml`.
    async fn new() -> Self {
        Self::of(|directory, head, rules| {
            fs::write(directory.join("head.yaml"), head).unwrap();
            fs::write(directory.join("rules.yaml"), rules).unwrap();
        })
        .await
    }

    /// With the files that are written for this head and the rule `widgets-release`.
    async fn of(write: impl FnOnce(&Path, &str, &str)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut head = String::new();
        let service = Service::watching(|base, issuer| {
            policy_text(base, issuer, "").trim_end().trim_end_matches("rules:").clone_into(&mut head);
            write(directory.path(), &head, &rule("widgets-release"));
            directory.path().to_owned()
        })
        .await;
        let operations = Operations::of(Arc::clone(&service.app));
        Self { directory, service, head, operations }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn reloads(&self) -> &Arc<Reloads> {
        self.service.app.reloads().unwrap()
    }

    /// The time of one poll passes, and it comes.
    async fn poll(&self) {
        self.service.clock.pass(POLL);
        self.reloads().poll().await;
    }

    /// Two polls pass: what is at rest is in force.
    async fn settle(&self) {
        self.poll().await;
        self.poll().await;
    }

    /// The names of the rules in force.
    fn rules(&self) -> Vec<String> {
        self.service.app.policy().rules().map(|rule| rule.id().to_owned()).collect()
    }

    /// The rule that grants a fresh token of the job of `acme/widgets`.
    async fn granting_rule(&self) -> String {
        self.service.upload_token().await;
        let event = self.service.last_event();
        assert_eq!(event["policy_revision"], self.service.app.policy().revision());
        event["rules"][0].as_str().unwrap().to_owned()
    }

    async fn status(&self) -> Value {
        let url = format!("{}/policy", self.operations.base);
        let answer = Answer::of(self.operations.client.get(url).bearer_auth(KEY).send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    async fn demand(&self) -> Answer {
        let url = format!("{}/policy/reload", self.operations.base);
        Answer::of(self.operations.client.post(url).bearer_auth(KEY).send().await.unwrap()).await
    }

    /// How many readings came to this, and whether a refused directory shows.
    fn metrics(&self, outcome: &str) -> (u64, bool) {
        let text = self.service.app.metrics().render().unwrap();
        let value = |series: &str| text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
        let count = value(&format!("trustmint_policy_reloads_total{{outcome=\"{outcome}\"}}"));
        (count.unwrap_or(0), value("trustmint_policy_refused") == Some(1))
    }
}

/// The rule [`WIDGETS`] under another name, as a file of its own.
fn rule(name: &str) -> String {
    format!("rules:{}", WIDGETS.replace("widgets-release", name))
}

#[actix_web::test]
async fn a_change_is_in_force_after_two_polls_that_see_the_same() {
    let watched = Watched::new().await;
    assert_eq!(watched.granting_rule().await, "widgets-release");
    let before = watched.service.app.policy().revision().to_owned();
    watched.write("rules.yaml", &rule("second"));
    watched.poll().await;
    assert_eq!(watched.granting_rule().await, "widgets-release", "it may be half of something");
    watched.poll().await;
    assert_eq!(watched.granting_rule().await, "second");
    assert_ne!(watched.service.app.policy().revision(), before);
    for _ in 0..5 {
        watched.poll().await;
    }
    assert_eq!(watched.metrics("activated"), (1, false), "once");
    let text = watched.service.app.metrics().render().unwrap();
    let revision = watched.service.app.policy().revision().to_owned();
    assert!(text.contains(&format!("trustmint_policy_info{{revision=\"{revision}\"}} 1")) && !text.contains(&before));
}

#[actix_web::test]
async fn a_file_that_is_being_written_is_not_picked_up() {
    let watched = Watched::new().await;
    // Each part is a good policy by itself, so only rest tells.
    let mut text = rule("first");
    for number in 0..6 {
        watched.write("rules.yaml", &text);
        watched.poll().await;
        assert_eq!(watched.rules(), ["widgets-release"], "part {number}");
        text = format!("{text}{}", WIDGETS.replace("widgets-release", &format!("more-{number}")));
    }
    watched.write("rules.yaml", &text);
    watched.settle().await;
    assert_eq!(watched.rules().len(), 7);
    assert_eq!(watched.metrics("activated"), (1, false));
}

#[actix_web::test]
async fn the_swap_of_a_config_map_is_seen_once_and_whole() {
    // As the kubelet lays it out: a folder for each version, a link that names the current one, a link for each file.
    let version = |directory: &Path, version: &str, head: &str, rules: &str| {
        fs::create_dir(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("head.yaml"), head).unwrap();
        fs::write(directory.join(version).join("rules.yaml"), rules).unwrap();
        symlink(version, directory.join("..data_tmp")).unwrap();
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    };
    let watched = Watched::of(|directory, head, rules| {
        version(directory, "..2026_11_26_01", head, rules);
        for name in ["head.yaml", "rules.yaml"] {
            symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
        }
    })
    .await;
    assert_eq!(watched.granting_rule().await, "widgets-release");
    for number in 2..6 {
        let name = format!("version-{number}");
        version(watched.directory.path(), &format!("..2026_11_26_0{number}"), &watched.head, &rule(&name));
        fs::remove_dir_all(watched.path(&format!("..2026_11_26_0{}", number - 1))).unwrap();
        watched.settle().await;
        assert_eq!(watched.granting_rule().await, name);
        watched.settle().await;
        assert_eq!(watched.metrics("activated"), (number - 1, false));
    }
    assert_eq!(watched.status().await["sources"].as_array().unwrap().len(), 2, "one version's files");

    // A poll that falls between two files of a swap sees a mixture, which is good too, and never again.
    watched.write("..data/head.yaml", &format!("{}\n# another\n", watched.head));
    watched.poll().await;
    watched.write("..data/rules.yaml", &rule("version-6"));
    watched.poll().await;
    assert_eq!(watched.rules(), ["version-5"]);
    watched.poll().await;
    assert_eq!(watched.rules(), ["version-6"]);
    assert_eq!(watched.metrics("activated"), (5, false));
}

#[actix_web::test]
async fn a_file_that_the_policy_refers_to_is_part_of_it() {
    let watched = Watched::new().await;
    let keys = watched.service.provider.jwks().to_string();
    watched.write("keys.json", &keys);
    watched.settle().await;
    assert_eq!(watched.metrics("activated"), (0, false), "nobody refers to it");
    let (from, to) = ("{provider: github,", "{provider: github, jwks_file: keys.json,");
    watched.write("head.yaml", &watched.head.replace(from, to));
    // Which file it is, is known when it has been parsed; that file must be at rest as well.
    watched.settle().await;
    assert_eq!(watched.metrics("activated"), (0, false));
    watched.settle().await;
    assert_eq!(watched.metrics("activated"), (1, false));
    assert_eq!(watched.granting_rule().await, "widgets-release");
    let before = watched.service.app.policy().revision().to_owned();
    watched.write("keys.json", "{\"keys\": [");
    watched.settle().await;
    assert_eq!(watched.metrics("refused"), (1, true));
    watched.write("keys.json", &format!("{keys}\n"));
    watched.settle().await;
    assert_eq!(watched.metrics("activated"), (2, false));
    assert_ne!(watched.service.app.policy().revision(), before);
}

#[actix_web::test]
async fn a_broken_policy_leaves_the_one_before_in_force() {
    let watched = Watched::new().await;
    let good = watched.service.app.policy().revision().to_owned();
    let since = watched.status().await["active_since"].clone();
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("rules.yaml"), rule("from-outside")).unwrap();
    let mut refused = 0;
    // Every rule is good, and one of the policy's own tests says otherwise.
    let failing = "tests:\n  - {name: a branch may, rule: widgets-release, token: github/branch-push, expect: allow}\n";
    let without_pin = rule("no").replace("      repository_id: \"701234567\"\n", "");
    let breaks: [(&dyn Fn(), &str); 7] = [
        (&|| watched.write("rules.yaml", "rules: ["), "rules.yaml"),
        (&|| watched.write("rules.yaml", &rule("no").replace("repository_id:", "repositry_id:")), "did you mean"),
        (&|| watched.write("rules.yaml", &without_pin), "\"code\":\"L001\""),
        (&|| watched.write("tests.yaml", failing), "the test `a branch may` fails: it expects allow"),
        (&|| fs::remove_file(watched.path("head.yaml")).unwrap(), "no file of the policy has a registry"),
        (&|| symlink(outside.path().join("rules.yaml"), watched.path("more.yaml")).unwrap(), "a link to outside"),
        (&|| fs::rename(watched.directory.path(), outside.path().join("gone")).unwrap(), "cannot be read"),
    ];
    for (spoil, words) in breaks {
        spoil();
        watched.settle().await;
        refused += 1;
        assert_eq!(watched.metrics("refused"), (refused, true), "{words}");
        assert_eq!(watched.granting_rule().await, "widgets-release", "{words}");
        let status = watched.status().await;
        assert_eq!((&status["revision"], &status["active_since"]), (&json!(good), &since));
        assert_eq!((&status["serving"], &status["last_good"]), (&json!("last-good"), &json!(true)));
        let last = &status["last_reload"];
        assert_eq!((&last["outcome"], &last["at"]), (&json!("refused"), &json!(watched.service.app.now().to_string())));
        assert!(last["faults"].to_string().contains(words), "{words}: {last}");
        // What was refused is not judged again until it changes.
        watched.settle().await;
        assert_eq!(watched.metrics("refused"), (refused, true), "{words}");

        if !watched.directory.path().exists() {
            fs::rename(outside.path().join("gone"), watched.directory.path()).unwrap();
        }
        for name in ["more.yaml", "tests.yaml"] {
            drop(fs::remove_file(watched.path(name)));
        }
        watched.write("head.yaml", &watched.head);
        watched.write("rules.yaml", &rule("widgets-release"));
        watched.settle().await;
        assert_eq!(watched.metrics("unchanged"), (refused, false), "{words}");
        let status = watched.status().await;
        assert_eq!((&status["revision"], &status["active_since"]), (&json!(good), &since), "it never was out of force");
        assert_eq!((&status["serving"], &status["last_reload"]["faults"]), (&json!("directory"), &json!([])));
    }
    assert_eq!(watched.metrics("activated"), (0, false));
}

#[actix_web::test]
async fn an_operator_reloads_at_once_and_is_told_every_fault() {
    let watched = Watched::new().await;
    let unchanged = watched.demand().await;
    assert_eq!((unchanged.status, &unchanged.body["changed"]), (200, &json!(false)), "{}", unchanged.text);
    watched.write("rules.yaml", &rule("second"));
    let changed = watched.demand().await;
    assert_eq!((changed.status, &changed.body["changed"]), (200, &json!(true)), "{}", changed.text);
    assert_eq!(changed.body["revision"], watched.service.app.policy().revision());
    assert_eq!(&changed.headers["cache-control"], "no-store");
    assert_eq!(watched.granting_rule().await, "second");
    watched.settle().await;
    assert_eq!(watched.metrics("activated"), (1, false), "the polls have nothing to add");

    watched.write("rules.yaml", &rule("third").replace("repository_id:", "repositry_id:").replace("allow:", "alow:"));
    for answer in [watched.demand().await, watched.demand().await] {
        assert_eq!((answer.status, answer.code()), (422, "policy-refused"), "{}", answer.text);
        let policy = &answer.body["policy"];
        assert_eq!(policy["revision"], changed.body["revision"]);
        let faults = policy["last_reload"]["faults"].as_array().unwrap();
        let keys: Vec<&str> = faults.iter().map(|fault| fault["key"].as_str().unwrap()).collect();
        assert!(keys.contains(&"rules.third.when.repositry_id") && keys.contains(&"rules.third.alow"), "{keys:?}");
        let place = (faults[0]["file"].as_str().unwrap(), faults[0]["line"].as_u64().unwrap());
        assert!(place.0.ends_with("rules.yaml") && place.1 > 1, "{place:?}");
        assert!(faults.iter().all(|fault| fault["message"].is_string() && fault["remedy"].is_string()));
    }
    assert_eq!(watched.granting_rule().await, "second");

    let events = watched.service.audit();
    let events: Vec<&Value> = events.iter().filter(|event| event["event"] == "reload").collect();
    assert_eq!(events.len(), 2, "one for each change: {events:?}");
    assert_eq!((&events[0]["decision"], &events[0]["code"]), (&json!("allow"), &json!("ok")));
    assert_eq!((&events[1]["decision"], &events[1]["code"]), (&json!("deny"), &json!("policy-refused")));
    for event in events {
        assert_eq!(event["policy_revision"], changed.body["revision"]);
        assert_eq!(
            (&event["explanation"]["by"], &event["explanation"]["caller"]),
            (&json!("operator"), &json!("oncall"))
        );
    }
}

#[actix_web::test]
async fn only_operators_see_and_reload_the_policy() {
    let watched = Watched::new().await;
    watched.write("rules.yaml", &rule("second"));
    let Operations { base, client, .. } = &watched.operations;
    for request in [client.get(format!("{base}/policy")), client.post(format!("{base}/policy/reload"))] {
        for key in ["", "another-key", API_KEY] {
            let answer = Answer::of(request.try_clone().unwrap().bearer_auth(key).send().await.unwrap()).await;
            assert_eq!((answer.status, answer.code()), (401, "bad-api-key"), "{}", answer.text);
        }
    }
    let got = client.get(format!("{base}/policy/reload")).bearer_auth(KEY).send().await.unwrap();
    assert_eq!(got.status(), 405);
    assert_eq!(watched.rules(), ["widgets-release"]);
    let status = watched.status().await;
    assert_eq!((&status["issuers"], &status["registries"], &status["rules"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(status["last_reload"]["outcome"], "activated");

    let fixed = Service::start().await;
    let operations = Operations::of(Arc::clone(&fixed.app));
    let answer = client.get(format!("{}/policy", operations.base)).bearer_auth(KEY).send().await.unwrap();
    assert_eq!(answer.status(), 404, "a policy that is not from a directory");
}

#[actix_web::test]
async fn what_is_recorded_of_a_token_names_the_policy_by_which_it_was_judged() {
    let watched = Watched::new().await;
    let service = &watched.service;
    // Of a pattern it cannot be told whether later rules still grant it.
    let literal = |name: &str| rule(name).replace("      create: [\"widgets-*\"]\n", "");
    watched.write("rules.yaml", &literal("widgets-release"));
    watched.settle().await;
    let token = service.upload_token().await;
    let minted_by = service.app.policy().revision().to_owned();
    let ask = async |path: &str, body: String, form: bool| {
        let request = service.client.post(format!("{}{path}", service.base)).bearer_auth(API_KEY).body(body);
        let kind = if form { "application/x-www-form-urlencoded" } else { "application/json" };
        Answer::of(request.header("content-type", kind).send().await.unwrap()).await
    };
    // The rule; the same under a second name beside it; under that alone, so that the token has none.
    let both = format!("{}{}", literal("widgets-release"), literal("second").trim_start_matches("rules:\n"));
    for (rules, same, good) in
        [(literal("widgets-release"), true, true), (both, false, true), (literal("second"), false, false)]
    {
        watched.write("rules.yaml", &rules);
        watched.settle().await;
        service.pass(Duration::from_secs(1)).await;
        let revision = service.app.policy().revision().to_owned();
        assert_eq!(revision == minted_by, same, "{rules}");
        let question = json!({"token": token, "package": "widgets", "exists": true}).to_string();
        let verified = ask("/v1/verify", question, false).await;
        assert_eq!(verified.body["allowed"], good, "{}", verified.text);
        let event = service.last_event();
        assert_eq!((&event["event"], &event["policy_revision"]), (&json!("verify"), &json!(revision)), "{event}");
        // The registry is told by which policy the token was minted.
        let told = verified.body["publisher"]["policy_revision"].as_str();
        assert_eq!(told, good.then_some(minted_by.as_str()), "{}", verified.text);
        let introspected = ask("/v1/introspect", format!("token={token}"), true).await;
        assert_eq!(introspected.body["active"], good, "{}", introspected.text);
        let event = service.last_event();
        // Of what is not active nothing is recorded.
        let kind = if good { "introspect" } else { "verify" };
        assert_eq!((&event["event"], &event["policy_revision"]), (&json!(kind), &json!(revision)), "{event}");
    }
}

#[actix_web::test]
async fn a_request_that_waits_is_decided_by_the_policy_that_it_began_under() {
    let service = Service::start().await;
    let before = service.app.policy().revision().to_owned();
    let body = json!({"token": service.id_token(&json!({}))});
    service.provider.answer(Endpoint::Jwks, Told::Held);
    let meanwhile = async {
        service.provider.requested(Endpoint::Jwks, 1).await;
        service.activate(&WIDGETS.replace("widgets-release", "second"));
        service.provider.answer(Endpoint::Jwks, Told::Honest);
    };
    let (answer, ()) = tokio::join!(service.mint(&body), meanwhile);
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_ne!(service.app.policy().revision(), before);
    let event = service.last_event();
    let (rules, revision) = (json!(["widgets-release"]), json!(before));
    assert_eq!((&event["rules"], &event["policy_revision"]), (&rules, &revision), "{event}");
    // What the token itself says of its policy is told where that is in force again.
    service.activate(WIDGETS);
    let question = json!({"token": answer.body["token"], "package": "widgets", "exists": true});
    let verified = service.verify(&question).await;
    let publisher = &verified.body["publisher"];
    assert_eq!((&publisher["rules"], &publisher["policy_revision"]), (&rules, &revision), "{}", verified.text);
}

#[actix_web::test]
async fn reloads_that_come_together_come_one_after_the_other() {
    let watched = Watched::new().await;
    watched.write("rules.yaml", &rule("second"));
    let signal = || watched.reloads().reload(Trigger::Signal);
    let (one, two, three, ()) = tokio::join!(signal(), signal(), signal(), watched.reloads().poll());
    let mut outcomes: Vec<&str> = [&one, &two, &three].map(|status| status.last.outcome.as_str()).into();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["activated", "unchanged", "unchanged"]);
    assert_eq!(watched.rules(), ["second"]);
}

#[actix_web::test]
async fn a_policy_that_requests_still_use_is_freed_by_none_of_them() {
    let watched = Watched::new().await;
    let request = watched.service.app.policy();
    let old = Arc::downgrade(&request);
    watched.write("rules.yaml", &rule("second"));
    assert_eq!(watched.demand().await.status, 200);
    drop(watched.demand().await);
    drop(request);
    assert!(old.upgrade().is_some(), "the request was not the last who held it");
    watched.poll().await;
    assert!(old.upgrade().is_none(), "the poll was");

    // Requests that never end do not keep more than so many of them from being let go.
    let held: Vec<_> = (0..40)
        .map(|number| {
            let held = watched.service.app.policy();
            watched.service.activate(&WIDGETS.replace("widgets-release", &format!("rule-{number}")));
            held
        })
        .collect();
    let kept = held.iter().filter(|policy| Arc::strong_count(policy) > 1).count();
    assert!((1..=18).contains(&kept), "{kept}");
}

/// When the fleet begins.
const STARTED: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

/// Replicas come and go, each with its own directory; the store stays.
struct Fleet {
    clock: Arc<SetClock>,
    store: Arc<dyn Store>,
    directory: TempDir,
}

impl Fleet {
    fn new() -> Self {
        let clock = Arc::new(SetClock::starting_at(STARTED));
        let store = Arc::new(MemoryStore::new(clock.clone(), 1 << 24));
        let fleet = Self { clock, store, directory: TempDir::new().unwrap() };
        fleet.write(&Self::policy("good"));
        fleet
    }

    fn policy(rule: &str) -> String {
        policy_text("https://pypi.acme.example", "https://ci.acme.example", &WIDGETS.replace("widgets-release", rule))
    }

    fn write(&self, text: &str) {
        fs::write(self.directory.path().join("policy.yaml"), text).unwrap();
    }

    /// A replica with this master key.
    async fn start(&self, master: u8) -> Result<App, Faults> {
        let bytes = std::array::from_fn(|n| master ^ u8::try_from(n).unwrap());
        let keyring = Keyring::new(vec![MasterKey::generate("k1", bytes, STARTED).unwrap()]).unwrap();
        let directory = Directory::new(self.directory.path().to_owned());
        let now = trustmint::time::Clock::now(&*self.clock);
        let (policy, begun) = app::begin(directory.clone(), directory.read(), &self.store, &keyring, now).await?;
        let app = App::build(Parts {
            policy,
            keyring,
            fetch: Arc::new(HttpsFetch::new()),
            store: Arc::clone(&self.store),
            audit: AuditLog::start(AuditSink::Writer(Box::new(Record::of(Channel::Audit))), 16).unwrap(),
            metrics: Arc::new(Metrics::new().unwrap()),
            clock: self.clock.clone(),
            runtime: Handle::current(),
        });
        Ok(app.watching(begun, POLL))
    }
}

/// The rule in force, where it is from, and whether the metric alarms.
fn serving(app: &App) -> (String, Serving, bool) {
    let alarm = app.metrics().render().unwrap().lines().any(|line| line == "trustmint_policy_refused 1");
    let rule = app.policy().rules().map(|rule| rule.id().to_owned()).collect::<Vec<_>>().join(" ");
    (rule, app.reloads().unwrap().status().serving, alarm)
}

async fn poll(app: &App) {
    app.reloads().unwrap().poll().await;
}

#[actix_web::test]
async fn a_replica_that_finds_a_bad_policy_starts_with_the_last_good_one() {
    let fleet = Fleet::new();
    fleet.write("rules: [");
    let faults = fleet.start(1).await.unwrap_err().to_string();
    assert!(faults.contains("policy.yaml:"), "nobody has had a good one: {faults}");

    fleet.write(&Fleet::policy("good"));
    let first = fleet.start(1).await.unwrap();
    poll(&first).await;
    assert_eq!(serving(&first), ("good".into(), Serving::Directory, false));
    fleet.write("rules: [");
    let second = fleet.start(1).await.unwrap();
    assert_eq!(serving(&second), ("good".into(), Serving::Copy, true));
    assert_eq!(second.policy().revision(), first.policy().revision());
    let status = second.reloads().unwrap().status();
    assert_eq!(status.last.outcome, Outcome::Refused);
    assert!(status.last.faults.to_string().contains("policy.yaml:"), "{}", status.last.faults);

    // It watches like any other.
    fleet.write("rules: [[");
    assert_eq!(second.reloads().unwrap().reload(Trigger::Signal).await.last.outcome, Outcome::Refused);
    assert_eq!(serving(&second), ("good".into(), Serving::Copy, true));
    fleet.write(&Fleet::policy("mended"));
    assert_eq!(second.reloads().unwrap().reload(Trigger::Signal).await.last.outcome, Outcome::Activated);
    assert_eq!(serving(&second), ("mended".into(), Serving::Directory, false));
    // And what it has activated is the copy from then on.
    fleet.write("rules: [");
    assert_eq!(serving(&fleet.start(1).await.unwrap()), ("mended".into(), Serving::Copy, true));
}

#[actix_web::test]
async fn a_copy_that_another_key_has_sealed_is_not_believed() {
    let fleet = Fleet::new();
    poll(&fleet.start(1).await.unwrap()).await;
    fleet.write("rules: [");
    assert!(fleet.start(2).await.is_err());
    assert!(fleet.start(1).await.is_ok());
}

#[actix_web::test]
async fn a_copy_is_believed_for_a_day_after_the_last_replica_that_ran_on_it() {
    let fleet = Fleet::new();
    let running = fleet.start(1).await.unwrap();
    poll(&running).await;
    fleet.write("rules: [");
    // A weekend with a bad policy, and a replica that runs on the last good one.
    for _ in 0..72 {
        fleet.clock.pass(Duration::from_secs(60 * 60));
        poll(&running).await;
        assert!(fleet.start(1).await.is_ok());
    }
    // One that has started from the copy keeps it young as well.
    let running = fleet.start(1).await.unwrap();
    for _ in 0..30 {
        fleet.clock.pass(Duration::from_secs(60 * 60));
        poll(&running).await;
    }
    fleet.clock.pass(MAX_COPY_AGE.saturating_sub(Duration::from_secs(1)));
    assert!(fleet.start(1).await.is_ok());
    fleet.clock.pass(Duration::from_secs(1));
    assert!(fleet.start(1).await.is_err());
}
