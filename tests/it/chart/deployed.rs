//! What runs in the pods, run here: the service as the Deployment starts it, and the commands of `helm test` against it.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::identity::provider;
use trustmint::json::Json;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use super::configuration::Mounted;
use super::deployment;
use super::list;
use super::named;
use super::objects;
use super::pods;

use crate::support::said::Channel;

use crate::support::said::Heard;

use crate::support::said;

/// The service as the Deployment starts it, but at ports of loopback.
struct Served {
    child: Child,
    public: String,
    operations: String,
}

impl Served {
    fn start(mounted: &Mounted, objects: &[Value]) -> Self {
        let arguments = list(&deployment(objects)["spec"]["template"]["spec"]["containers"][0]["args"]);
        let mut child = Command::new(env!("CARGO_BIN_EXE_trustmint"))
            .args(arguments.iter().map(|argument| mounted.here(argument.as_str().unwrap())))
            .env_clear()
            .env("TRUSTMINT_LISTEN__ADDRESS", "127.0.0.1:0")
            .env("TRUSTMINT_OPERATIONS__ADDRESS", "127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(Heard::new(Channel::Log, child.stderr.take().unwrap()));
        let mut log = log.lines().map(Result::unwrap);
        let line = log.find(|line| line.contains("serving at ")).expect("the service ended");
        // Nobody reads on: a full pipe would hold the service up.
        thread::spawn(move || log.count());
        let after = |mark: &str| line.split(mark).nth(1).unwrap().split([',', '"', ' ']).next().unwrap().to_owned();
        Self { public: after("serving at "), operations: after("operations at "), child }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        said::metrics_at(&self.operations);
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The containers of a pod of `helm test`, in the order in which they run, as name and arguments.
fn commands(objects: &[Value], pod: &str) -> Vec<(String, Vec<Value>)> {
    let (_, spec) = pods(objects).into_iter().find(|(name, _)| name.ends_with(pod)).unwrap();
    let containers = list(&spec["initContainers"]).iter().chain(list(&spec["containers"]));
    containers.map(|it| (it["name"].as_str().unwrap().to_owned(), list(&it["args"]).to_vec())).collect()
}

/// Runs the probe against a listener, as if it were the Service.
fn probe(mounted: &Mounted, objects: &[Value], service: &str) -> Output {
    let commands = commands(objects, "-test-probe");
    let [(_, arguments)] = commands.as_slice() else { panic!("{commands:?}") };
    let at = arguments.iter().position(|argument| argument == "--url").unwrap() + 1;
    let scheme = service.split_once("://").unwrap().0;
    let port = if scheme == "https" { 443 } else { 80 };
    assert_eq!(arguments[at], format!("{scheme}://trial-trustmint.acme.svc:{port}"));
    let mut arguments = arguments.clone();
    arguments[at] = service.into();
    mounted.run(&arguments)
}

fn out(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[actix_web::test]
async fn the_probes_of_the_pod_are_answered() {
    let objects = objects("trial", &[]);
    let mounted = Mounted::new(&objects);
    let served = Served::start(&mounted, &objects);
    let container = &deployment(&objects)["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        assert_eq!(client.get(format!("{}{path}", served.operations)).send().await.unwrap().status(), 200, "{probe}");
        let public = client.get(format!("{}{path}", served.public)).header("host", "pypi.acme.example");
        assert_eq!(public.send().await.unwrap().status(), 404, "{probe}");
    }
}

#[test]
fn helm_test_lints_and_tests_the_deployed_policy_and_sees_what_is_wrong_with_it() {
    let objects = objects("trial", &[]);
    let mounted = Mounted::new(&objects);
    let run = || {
        let commands = commands(&objects, "-test-policy");
        let done = commands.iter().map(|(name, arguments)| (name.clone(), mounted.run(arguments)));
        done.collect::<Vec<(String, Output)>>()
    };
    let sound = run();
    assert_eq!(sound.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["lint", "test"]);
    assert!(sound.iter().all(|(_, output)| output.status.success()), "{}{}", out(&sound[0].1), out(&sound[1].1));
    assert!(out(&sound[1].1).contains("tests: 2 passed, 0 failed"));

    let file = mounted.path().join("policy/acme.yaml");
    let policy = fs::read_to_string(&file).unwrap();
    fs::write(&file, policy.replace("ref-mismatch", "environment-mismatch")).unwrap();
    assert_eq!(run()[1].1.status.code(), Some(1), "a test of the policy that fails");
    fs::write(&file, policy.replace("repository_owner_id", "owner")).unwrap();
    assert_eq!(run()[0].1.status.code(), Some(1), "a rule that pins nobody");
}

#[test]
fn the_same_is_done_before_an_upgrade_to_the_new_policy() {
    let objects = objects("trial", &["--set", "policy.checkBeforeUpgrade=true"]);
    assert_eq!(commands(&objects, "-policy-check"), commands(&objects, "-test-policy"));
    let hooks: Vec<&Value> =
        objects.iter().filter(|it| it["metadata"]["name"] == "trial-trustmint-policy-check").collect();
    let [files, job] = hooks.as_slice() else { panic!("{hooks:?}") };
    assert_eq!(files["data"], named(&objects, "ConfigMap", "-trustmint-policy")["data"]);
    for hook in &hooks {
        assert_eq!(hook["metadata"]["annotations"]["helm.sh/hook"], "pre-install,pre-upgrade");
    }
    let weight =
        |hook: &Value| hook["metadata"]["annotations"]["helm.sh/hook-weight"].as_str().unwrap().parse::<i32>().unwrap();
    assert!(weight(files) < weight(job), "the files are there before the job");
    let spec = &job["spec"]["template"]["spec"];
    assert_eq!(spec["serviceAccountName"], "default", "there is no other before the first install");
    assert_eq!(spec["volumes"][0]["configMap"]["name"], files["metadata"]["name"]);
}

#[test]
fn the_prober_asks_what_helm_test_asks() {
    let objects = objects("trial", &["--set", "prober.enabled=true"]);
    let spec = |end: &str| pods(&objects).into_iter().find(|(name, _)| name.ends_with(end)).unwrap().1.clone();
    assert_eq!(spec("-prober"), spec("-test-probe"));
}

#[test]
fn a_warning_is_enough_where_the_values_say_so() {
    let arguments = |more: &[&str]| commands(&objects("trial", more), "-test-policy").remove(0).1;
    assert!(!arguments(&[]).contains(&"--deny-warnings".into()));
    assert!(arguments(&["--set", "tests.denyWarnings=true"]).contains(&"--deny-warnings".into()));
}

#[test]
fn helm_test_probes_the_service_and_sees_one_that_is_not_as_it_must_be() {
    let objects = objects("trial", &[]);
    let mounted = Mounted::new(&objects);
    let served = Served::start(&mounted, &objects);
    let output = probe(&mounted, &objects, &served.public);
    assert!(output.status.success(), "{}", out(&output));
    assert_eq!(out(&output).matches("ok    acme-pypi: ").count(), 3, "{}", out(&output));

    // Another registry's service: it does not know the host.
    let file = mounted.path().join("policy/acme.yaml");
    let policy = fs::read_to_string(&file).unwrap();
    fs::write(&file, policy.replace("pypi.acme.example", "pypi.other.example")).unwrap();
    let output = probe(&mounted, &objects, &served.public);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("`unknown-host`"), "{}", out(&output));
    drop(served);

    // Nobody there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = probe(&mounted, &objects, &format!("http://{closed}"));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output).matches("FAIL  ").count(), 3, "{}", out(&output));
}

/// A service that gives everybody a token.
fn generous(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let mut request = [0; 4096];
            let _read = connection.read(&mut request);
            let _sent = write!(
                connection,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                answer.len()
            );
        }
    });
    format!("http://{address}")
}

#[test]
fn the_probe_fails_where_a_forged_token_is_taken_and_shows_no_token() {
    let objects = objects("trial", &[]);
    let mounted = Mounted::new(&objects);
    let answer = r#"{"access_token": "pypi-SECRET", "token_endpoint": "https://pypi.acme.example/v1/token"}"#;
    let output = probe(&mounted, &objects, &generous(answer));
    assert_eq!(output.status.code(), Some(1));
    let told = out(&output);
    assert!(told.contains("ok    acme-pypi: a client finds"), "{told}");
    assert!(told.contains("FAIL  acme-pypi: a forged ID token is refused: the answer is 200"), "{told}");
    assert!(told.contains("FAIL  acme-pypi: a host that is no registry's is refused"), "{told}");
    assert!(!told.contains("SECRET"), "{told}");
}

#[test]
fn over_https_the_probe_trusts_the_authority_that_it_is_given() {
    let more = ["--set", "tls.existingSecret=trustmint-tls", "--set", "tests.ca.existingConfigMap=authority"];
    let objects = objects("trial", &more);
    let mounted = Mounted::new(&objects);
    // The certificate of loopback is for `localhost`.
    let file = mounted.path().join("policy/acme.yaml");
    let policy = fs::read_to_string(&file).unwrap().replace("pypi.acme.example", "localhost");
    fs::write(&file, policy).unwrap();
    let served = Served::start(&mounted, &objects);
    assert!(served.public.starts_with("https://"));
    fs::create_dir(mounted.path().join("ca")).unwrap();
    let authority = mounted.path().join("ca/ca.crt");
    fs::copy(mounted.path().join("tls/authority.pem"), &authority).unwrap();
    let output = probe(&mounted, &objects, &served.public);
    assert!(output.status.success(), "{}", out(&output));

    let other = Mounted::new(&objects);
    fs::copy(other.path().join("tls/authority.pem"), &authority).unwrap();
    let output = probe(&mounted, &objects, &served.public);
    assert_eq!(output.status.code(), Some(1), "another authority");
    assert!(out(&output).contains("certificate"), "{}", out(&output));
}

#[test]
fn with_a_token_of_the_cluster_the_probe_does_what_a_job_does() {
    let more = ["--set", "tests.exchange.registry=acme-pypi", "--set", "tests.exchange.audience=acme"];
    let objects = objects("trial", &more);
    let (_, spec) = pods(&objects).into_iter().find(|(name, _)| name.ends_with("-test-probe")).unwrap();
    let projected = list(&spec["volumes"]).iter().find(|volume| volume["name"] == "id-token").unwrap();
    assert_eq!(projected["projected"]["sources"][0]["serviceAccountToken"]["audience"], "acme");

    let mounted = Mounted::new(&objects);
    let cluster = LoopbackProvider::start(Arc::new(SystemClock)).unwrap();
    fs::write(mounted.path().join("policy/keys.json"), cluster.jwks().to_string()).unwrap();
    let file = mounted.path().join("policy/acme.yaml");
    let policy = fs::read_to_string(&file).unwrap();
    let issuer = "https://ci.acme.example";
    let own = format!("github: {{provider: github, url: \"{issuer}\", jwks_file: keys.json}}");
    fs::write(&file, policy.replace("github: {provider: github}", &own)).unwrap();
    let served = Served::start(&mounted, &objects);

    let job = json!({"repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets", "environment": "release"});
    let job = Json::parse(job.to_string().as_bytes()).unwrap();
    let example = provider::by_name("github").unwrap().example("tag-push").unwrap();
    let claims = serde_json::to_value(Json::Object((example.claims)(job.as_object().unwrap()))).unwrap();
    // One issued before the service began is refused for a while.
    let mut claims = cluster.claims(&claims, "acme", SystemClock.now().plus(Duration::from_secs(1)));
    claims["iss"] = issuer.into();
    fs::create_dir(mounted.path().join("id-token")).unwrap();
    let token = mounted.path().join("id-token/token");
    fs::write(&token, cluster.mint(&claims)).unwrap();
    let output = probe(&mounted, &objects, &served.public);
    assert!(output.status.success(), "{}", out(&output));
    assert!(out(&output).contains("ok    acme-pypi: a job's ID token is exchanged"), "{}", out(&output));

    // A token is good for one exchange.
    let output = probe(&mounted, &objects, &served.public);
    assert_eq!(output.status.code(), Some(1));
    assert!(out(&output).contains("`token-replayed`"), "{}", out(&output));
}
