//! The command as people run it: the real binary, its messages, its exit codes.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Child;
use std::process::ChildStderr;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use actix_web::web;
use serde_json::Value;
use serde_json::json;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::provider;
use trustmint::json::Json;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::support::python;
use crate::support::said;
use crate::support::said::Channel;
use crate::support::said::Folder;
use crate::support::said::Heard;
use crate::support::said::Record;
use crate::support::send;
use crate::support::service::API_KEY;
use crate::support::service::WIDGETS;
use crate::support::service::policy_of;
use crate::support::service::policy_text;

mod reloads;

/// No wait in these tests is meant to be longer than a moment; this one ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An identity provider that nobody asks: its keys come from a file, or are not needed.
const ISSUER: &str = "https://ci.acme.example";

/// A folder with settings, policy and keys.
pub struct Home(Folder);

impl Home {
    /// With a policy, and without keys.
    fn new() -> Self {
        let home = Self(Folder::new());
        home.write("trustmint.yaml", "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\n");
        fs::create_dir(home.path().join("policy")).unwrap();
        home.write("policy/acme.yaml", &policy_text("https://pypi.acme.example", ISSUER, WIDGETS));
        home
    }

    pub fn with_key() -> Self {
        let home = Self::new();
        succeeded(&home.run(&["keys", "new", "--kid", "k1"], ""));
        home
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.prepared(Command::new(env!("CARGO_BIN_EXE_trustmint")), arguments)
    }

    fn prepared(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.args(arguments).current_dir(self.path()).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        let mut child = command.spawn().unwrap();
        // A command that does not read its input may have ended already.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        said::tokens_in(input);
        let output = child.wait_with_output().unwrap();
        said::printed(&command, &output);
        output
    }

    /// The verb where the system refuses one thing, by name.
    fn confined(&self, refused: &str, verb: &str) -> Command {
        let mut command = python::command("confined.py");
        command.args([refused, env!("CARGO_BIN_EXE_trustmint")]);
        self.prepared(command, &[verb, "--config", "trustmint.yaml"])
    }

    /// The same, to its end.
    pub fn run_confined(&self, refused: &str, verb: &str) -> Output {
        let mut command = self.confined(refused, verb);
        let output = command.output().unwrap();
        said::printed(&command, &output);
        output
    }

    /// Starts the service and waits until it says where it serves. Its drain is as short as can be.
    pub fn serve(&self) -> Served {
        self.serve_draining("1s")
    }

    /// The same, with a time to drain.
    pub fn serve_draining(&self, drain: &str) -> Served {
        self.serve_by("trustmint.yaml", drain)
    }

    fn serve_by(&self, settings: &str, drain: &str) -> Served {
        Self::started(self.command(&["serve", "--config", settings]), drain)
    }

    fn started(mut command: Command, drain: &str) -> Served {
        let mut child = command.env("TRUSTMINT_LIMITS__DRAIN", drain).spawn().unwrap();
        let mut log = BufReader::new(Heard::new(Channel::Log, child.stderr.take().unwrap()));
        let audit = Record::of(Channel::Audit);
        let line = line_with(&mut log, "serving at ");
        let after = |mark: &str| {
            let rest = &line[line.find(mark).unwrap() + mark.len()..];
            rest.split([',', ' ', '\n']).next().unwrap().to_owned()
        };
        Served { public: after("serving at "), operations: after("operations at "), child, log, audit }
    }
}

/// A running service; it ends with this value.
pub struct Served {
    pub public: String,
    pub operations: String,
    pub child: Child,
    pub log: BufReader<Heard<ChildStderr>>,
    audit: Record,
}

impl Served {
    pub fn terminate(&self) {
        send("-TERM", self.child.id());
    }

    /// The exit code, and what was written to standard output.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let ended = web::block(move || {
            let mut out = String::new();
            self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
            self.audit.keep(out.as_bytes());
            let status = self.child.wait().unwrap();
            let mut rest = String::new();
            if status.signal().is_some() {
                self.log.read_to_string(&mut rest).unwrap();
            }
            assert_eq!(status.signal(), None, "what it said: {rest}");
            (status.code(), out)
        });
        actix_web::rt::time::timeout(PATIENCE, ended).await.expect("the service does not stop").unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            said::metrics_at(&self.operations);
        }
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(mut out) = self.child.stdout.take() {
            drop(std::io::copy(&mut out, &mut self.audit));
        }
    }
}

/// The next line of the log that has the text.
pub fn line_with(log: &mut BufReader<Heard<ChildStderr>>, text: &str) -> String {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        assert_ne!(log.read_line(&mut seen).unwrap(), 0, "the service ended:\n{seen}");
        if seen[start..].contains(text) {
            return seen[start..].to_owned();
        }
    }
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[track_caller]
fn succeeded(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}{}", out(output), err(output));
}

#[track_caller]
fn failed(output: &Output, code: i32, words: &str) {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), err(output));
    assert!(err(output).contains(words), "{words}: {}", err(output));
    assert!(err(output).starts_with("error: "), "{}", err(output));
}

#[test]
fn without_a_key_it_names_the_line_that_makes_one() {
    let home = Home::new();
    home.write("trustmint.yaml", "listen: {address: \"127.0.0.1:0\"}\nkeys: {directory: secrets/keys}\n");
    for verb in ["serve", "check"] {
        let output = home.run(&[verb, "--config", "trustmint.yaml"], "");
        failed(&output, 1, "trustmint keys new --directory secrets/keys");
        assert_eq!(out(&output), "");
    }
    let line = err(&home.run(&["serve", "--config", "trustmint.yaml"], "")).to_owned();
    let line = line.split("trustmint keys new").nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    succeeded(&home.run(&[&["keys", "new"], line.as_slice()].concat(), ""));
    succeeded(&home.run(&["check", "--config", "trustmint.yaml"], ""));
    let mode = fs::metadata(home.path().join("secrets/keys")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_fault_anywhere_stops_it_before_anything_starts() {
    let home = Home::with_key();
    let serve = || home.run(&["serve", "--config", "trustmint.yaml"], "");
    let policy = fs::read_to_string(home.path().join("policy/acme.yaml")).unwrap();
    let settings = fs::read_to_string(home.path().join("trustmint.yaml")).unwrap();

    home.write("policy/acme.yaml", &policy.replace("dialect: pypi", "dialect: pypy").replace("allow:", "alow:"));
    let output = serve();
    failed(&output, 1, "policy/acme.yaml:");
    assert!(err(&output).contains("`pypy`") && err(&output).contains("alow"), "every fault: {}", err(&output));
    assert_eq!(out(&output), "");

    // Nor do rules that leave a pin open, or that fail one of the policy's own tests.
    let pin = "      repository_id: \"701234567\"\n";
    home.write("policy/acme.yaml", &policy.replace(pin, ""));
    let open = serve();
    failed(&open, 1, "L001: `repository_id` is not pinned");
    home.write("policy/acme.yaml", &policy);
    let test = "tests:\n  - {name: a branch may, rule: widgets-release, token: github/branch-push, expect: allow}\n";
    home.write("policy/tests.yaml", test);
    let failing = serve();
    failed(&failing, 1, "policy/tests.yaml:2:5: tests[0]: the test `a branch may` fails: it expects allow");
    assert_eq!((out(&open), out(&failing)), ("", ""), "nothing was served");
    fs::remove_file(home.path().join("policy/tests.yaml")).unwrap();
    home.write("policy/acme.yaml", &policy.replace("dialect: pypi", "dialect: pypy").replace("allow:", "alow:"));

    // Policy, keys and certificate are all read before anything is said.
    fs::write(home.path().join("keys/k2"), "not a key").unwrap();
    let tls = "listen: {address: \"127.0.0.1:0\", tls: {certificate_file: none.pem, key_file: none.key}}\n";
    home.write("trustmint.yaml", tls);
    let output = serve();
    for part in ["policy/acme.yaml:", "k2", "none.pem", "none.key"] {
        failed(&output, 1, part);
    }
    let check = home.run(&["check", "--config", "trustmint.yaml"], "");
    assert_eq!((err(&check), out(&check)), (err(&output), ""), "check says what serve says");

    home.write("trustmint.yaml", "listen: {adress: \"127.0.0.1:0\"}\n");
    failed(&serve(), 1, "trustmint.yaml:1");
    failed(&home.run(&["serve", "--config", "missing.yaml"], ""), 1, "missing.yaml");
    let mut environment = home.command(&["serve"]);
    let output = environment.env("TRUSTMINT_LISTEN__ADRESS", "127.0.0.1:0").output().unwrap();
    failed(&output, 1, "TRUSTMINT_LISTEN__ADRESS");

    home.write("policy/acme.yaml", &policy);
    fs::remove_file(home.path().join("keys/k2")).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    let _held = std::net::TcpListener::bind(taken);
    home.write("trustmint.yaml", &format!("{settings}audit: {{sink: file, file: /nonexistent/audit.jsonl}}\n"));
    failed(&serve(), 1, "audit.file");
}

#[test]
fn check_and_serve_say_the_same_of_an_audit_log_that_cannot_be_written() {
    let home = Home::with_key();
    let settings = home.read("trustmint.yaml");
    let _socket = UnixListener::bind(home.path().join("socket")).unwrap();
    let there = || {
        let mut names: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = there();
    let put = |file: &str| home.write("trustmint.yaml", &format!("{settings}audit: {{sink: file, file: {file}}}\n"));
    for (file, words, remedy) in [
        ("log/audit.jsonl", "there is no folder log", "make the folder"),
        ("policy", "it is a folder", "name a file"),
        ("socket", "it is a socket", "name a file"),
        ("trustmint.yaml/audit.jsonl", "Not a directory", "let the service's user"),
    ] {
        put(file);
        let [checked, served] = ["check", "serve"].map(|verb| home.run(&[verb, "--config", "trustmint.yaml"], ""));
        failed(&checked, 1, &format!("{file}: audit.file: cannot be opened: {words}"));
        assert!(err(&checked).contains(&format!(" — {remedy}")), "{}", err(&checked));
        assert_eq!((err(&checked), out(&checked)), (err(&served), out(&served)), "{file}");
    }
    put("new.jsonl");
    succeeded(&home.run(&["check", "--config", "trustmint.yaml"], ""));
    assert_eq!(there(), before, "nothing is made");

    // With every other fault, and not before them.
    put("log/audit.jsonl");
    home.write("keys/k2", "not a key");
    let output = home.run(&["check", "--config", "trustmint.yaml"], "");
    failed(&output, 1, "audit.file");
    assert!(err(&output).contains("k2"), "{}", err(&output));
}

#[actix_web::test]
async fn it_serves_where_a_security_profile_forbids_files_without_a_name_alone() {
    let home = Home::with_key();
    let settings = home.read("trustmint.yaml");
    home.write("trustmint.yaml", &format!("{settings}audit: {{sink: file, file: audit.jsonl}}\n"));
    // Who makes nothing cannot know.
    let checked = home.run_confined("nameless-files", "check");
    failed(&checked, 1, "audit.jsonl: audit.file: cannot be opened: a file cannot be made in its folder: Permission");
    failed(&checked, 1, "`serve` starts all the same where a security profile forbids files without a name");
    let served = Home::started(home.confined("nameless-files", "serve"), "1s");
    assert!(home.path().join("audit.jsonl").is_file());
    served.terminate();
    assert_eq!(served.ended().await.0, Some(0));
}

#[test]
fn a_folder_that_forbids_the_audit_log_is_told_with_all_other_faults_and_nothing_is_made() {
    let home = Home::with_key();
    let settings = home.read("trustmint.yaml");
    home.write("trustmint.yaml", &format!("{settings}audit: {{sink: file, file: audit.jsonl}}\n"));
    home.write("keys/k2", "not a key");
    let unmade = "audit.jsonl: audit.file: cannot be opened: a file cannot be made";
    let served = home.run_confined("nameless-files", "serve");
    for words in ["k2", unmade] {
        failed(&served, 1, words);
    }
    assert_eq!(err(&served), err(&home.run_confined("nameless-files", "check")));

    // A policy that is refused may have a copy in the store, which is asked after all that.
    fs::remove_file(home.path().join("keys/k2")).unwrap();
    home.write("policy/acme.yaml", "alow: {}\n");
    let served = home.run_confined("nameless-files", "serve");
    for words in ["policy/acme.yaml:", unmade] {
        failed(&served, 1, words);
    }
    let unconfined = home.run(&["serve", "--config", "trustmint.yaml"], "");
    failed(&unconfined, 1, "policy/acme.yaml:");
    assert!(!err(&unconfined).contains("audit"), "{}", err(&unconfined));
    assert!(!home.path().join("audit.jsonl").exists());
}

#[test]
fn a_thread_that_cannot_be_started_is_no_fault_of_a_setting() {
    let home = Home::with_key();
    let settings = home.read("trustmint.yaml");
    for audit in ["", "audit: {sink: file, file: audit.jsonl}\n"] {
        home.write("trustmint.yaml", &format!("{settings}{audit}"));
        let served = home.run_confined("threads", "serve");
        failed(
            &served,
            1,
            "error: the thread that writes the audit log cannot be started: Resource temporarily unavailable",
        );
        failed(&served, 1, " — let the service have more threads");
        assert!(!err(&served).contains("audit.file"), "{}", err(&served));
    }
}

#[test]
fn check_leaves_the_audit_log_that_is_there_as_it_is() {
    let home = Home::with_key();
    let settings = home.read("trustmint.yaml");
    home.write("audit.jsonl", "half a line");
    assert!(Command::new("mkfifo").arg(home.path().join("pipe")).status().unwrap().success());
    let facts = || {
        let found = fs::metadata(home.path().join("audit.jsonl")).unwrap();
        (found.modified().unwrap(), home.read("audit.jsonl"))
    };
    let before = facts();
    // A pipe that nobody reads does not hold it up.
    for file in ["audit.jsonl", "pipe", "/dev/null"] {
        home.write("trustmint.yaml", &format!("{settings}audit: {{sink: file, file: {file}}}\n"));
        succeeded(&home.run(&["check", "--config", "trustmint.yaml"], ""));
    }
    assert_eq!(facts(), before);
}

#[test]
fn an_identity_provider_over_http_is_refused_even_on_loopback() {
    let home = Home::with_key();
    home.write("policy/acme.yaml", &policy_text("https://pypi.acme.example", "http://127.0.0.1:8888", WIDGETS));
    let output = home.run(&["serve", "--config", "trustmint.yaml"], "");
    failed(&output, 1, "issuers.github.url: `http://127.0.0.1:8888` must start with https:// — serve it with TLS");
}

#[test]
fn keys_over_http_are_refused_even_on_loopback() {
    let home = Home::with_key();
    let issuer = r#"  github: {provider: github, url: "https://token.actions.githubusercontent.com", jwks_uri: "http://127.0.0.1:8888/keys"}"#;
    home.write("policy/acme.yaml", &policy_of("https://pypi.acme.example", issuer, WIDGETS));
    let output = home.run(&["serve", "--config", "trustmint.yaml"], "");
    failed(&output, 1, "issuers.github.jwks_uri: `http://127.0.0.1:8888/keys` must start with https:// — serve it");
}

#[test]
fn an_address_that_is_taken_is_named_with_its_setting() {
    let home = Home::with_key();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    home.write("trustmint.yaml", &format!("listen: {{address: \"{address}\"}}\n"));
    let output = home.run(&["serve", "--config", "trustmint.yaml"], "");
    failed(&output, 1, &format!("listen.address: cannot listen at {address}"));
}

#[actix_web::test]
async fn it_serves_an_exchange_over_tls_and_stops_when_told() {
    let home = Home::with_key();
    let provider = LoopbackProvider::start(Arc::new(SystemClock)).unwrap();
    let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
    home.write("certificate.pem", certificate.certificate_pem());
    certificate.write_key(&home.path().join("certificate.key")).unwrap();
    home.write(
        "trustmint.yaml",
        "listen:\n  address: 127.0.0.1:0\n  tls: {certificate_file: certificate.pem, key_file: \
         certificate.key}\noperations: {address: \"127.0.0.1:0\"}\nlimits: {workers: 1}\n",
    );
    // The registry's public name is not the listener's address: a client says it in `Host`.
    home.write("policy/jwks.json", &provider.jwks().to_string());
    let policy = policy_text("https://pypi.acme.example", ISSUER, WIDGETS);
    home.write("policy/acme.yaml", &policy.replace(ISSUER, &format!("{ISSUER}\", jwks_file: \"jwks.json")));
    let served = home.serve();
    assert!(served.public.starts_with("https://127.0.0.1:"), "{}", served.public);

    let authority = reqwest::Certificate::from_pem(certificate.authority_pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).no_proxy().build().unwrap();
    let post = async |path: &str, body: &Value| {
        let request = client.post(format!("{}{path}", served.public)).header("host", "pypi.acme.example");
        said::tokens_in(&body.to_string());
        let answer = request.bearer_auth(API_KEY).body(body.to_string()).send().await.unwrap();
        let text = answer.text().await.unwrap();
        said::tokens_in(&text);
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let job = json!({"repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "release"});
    let job = Json::parse(job.to_string().as_bytes()).unwrap();
    let example = provider::by_name("github").unwrap().example("tag-push").unwrap();
    let claims = (example.claims)(job.as_object().unwrap());
    let claims: Value = serde_json::to_value(Json::Object(claims)).unwrap();
    // Times in tokens are whole seconds, and one issued before the service began is refused for a while.
    let issued = SystemClock.now().plus(Duration::from_secs(1));
    let mut claims = provider.claims(&claims, "acme", issued);
    claims["iss"] = json!(ISSUER);
    let id_token = provider.mint(&claims);
    let minted = post("/_/oidc/mint-token", &json!({"token": id_token})).await;
    let token = minted["token"].as_str().unwrap_or_else(|| panic!("{minted}"));
    let answer = post("/v1/verify", &json!({"token": token, "package": "widgets", "exists": true})).await;
    assert_eq!(answer["allowed"], true, "{answer}");
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = client.get(format!("{}{path}", served.operations)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }

    let inspected = home.run(&["token", "inspect", "--json"], token);
    succeeded(&inspected);
    let inspected: Value = serde_json::from_str(out(&inspected)).unwrap();
    assert_eq!((&inspected["verified"], &inspected["kid"]), (&json!(false), &json!("k1")));
    assert_eq!(inspected["location"], "pypi.acme.example");
    assert!(inspected["caveats"].as_array().unwrap().contains(&json!("registry acme-pypi")), "{inspected}");
    home.write("token", token);
    let inspected = home.run(&["token", "inspect", "token"], "");
    succeeded(&inspected);
    assert!(out(&inspected).contains("verified     no") && out(&inspected).contains("caveat       registry acme-pypi"));

    // The client's idle connections stay open, to both listeners, and do not keep the service.
    served.terminate();
    let (code, audit) = actix_web::rt::time::timeout(Duration::from_secs(5), served.ended()).await.expect("at once");
    assert_eq!(code, Some(0));
    let events: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["exchange", "verify"], "standard output is the audit log and nothing else");
    drop(client);
}

#[actix_web::test]
async fn an_operator_of_the_settings_refreshes_an_issuer_and_the_log_says_who() {
    let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
    let keys = vec![Arc::new(SigningKey::generate(KeyKind::P256).unwrap())];
    let tls = certificate.server_config().unwrap();
    let provider = LoopbackProvider::start_https(Arc::new(SystemClock), keys, tls).unwrap();
    let home = Home::with_key();
    let issuers = format!(
        "  github: {{provider: github, url: \"{}\", ca_file: ca.pem, allow_networks: [127.0.0.0/8]}}",
        provider.issuer()
    );
    home.write("policy/acme.yaml", &policy_of("https://pypi.acme.example", &issuers, WIDGETS));
    home.write("policy/ca.pem", certificate.authority_pem());
    let digest = hex(&sha256(b"an-operators-key"));
    let callers = format!("{{oncall: {{key_sha256: \"{digest}\"}}}}");
    let settings = "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\", callers: CALLERS}\n";
    home.write("trustmint.yaml", &settings.replace("CALLERS", &callers));
    let mut served = home.serve();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let refresh = async |key: &str| {
        let request = client.post(format!("{}/issuers/github/refresh", served.operations)).bearer_auth(key);
        request.send().await.unwrap()
    };
    assert_eq!(refresh("another-key").await.status(), 401);
    let answer = refresh("an-operators-key").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("\"keys\":1"));
    let line = line_with(&mut served.log, "an operator asks");
    assert!(line.contains("issuer=github") && line.contains("caller=\"oncall\""), "{line}");

    let checked = home.run(&["check", "--config", "trustmint.yaml"], "");
    succeeded(&checked);
    assert!(out(&checked).contains(&format!("oncall: {{key_sha256: \"{}…\"}}", &digest[..8])), "{}", out(&checked));
    assert!(!out(&checked).contains(&digest[..9]));
}

#[test]
fn check_shows_what_would_run() {
    let home = Home::with_key();
    let output = home.run(&["check", "--config", "trustmint.yaml"], "");
    succeeded(&output);
    for part in ["listen:", "issuers 1, registries 1, rules 1", "keys: `k1` mints"] {
        assert!(out(&output).contains(part), "{part}: {}", out(&output));
    }
    let output = home.run(&["check", "--config", "trustmint.yaml", "--json"], "");
    succeeded(&output);
    let facts: Value = serde_json::from_str(out(&output)).unwrap();
    assert_eq!(facts["policy"]["registries"], json!(["acme-pypi"]));
    assert_eq!(facts["keys"], json!({"known": ["k1"], "minting": "k1"}));
    assert_eq!(facts["settings"]["operations"]["address"], "127.0.0.1:0", "settings are facts, not a text: {facts}");
}

#[actix_web::test]
async fn health_is_asked_where_the_settings_say() {
    let home = Home::with_key();
    let served = home.serve();
    let port = served.operations.rsplit(':').next().unwrap().to_owned();
    // What listens at every address is reached by loopback.
    for address in ["127.0.0.1", "0.0.0.0"] {
        home.write("port.yaml", &format!("operations: {{address: \"{address}:{port}\"}}\n"));
        let output = home.run(&["health", "--config", "trustmint.yaml", "--config", "port.yaml"], "");
        succeeded(&output);
        assert_eq!(out(&output), "ready\n");
    }
    served.terminate();
    assert_eq!(served.ended().await.0, Some(0));
    home.write("nobody.yaml", "operations: {address: \"127.0.0.1:1\"}\n");
    failed(&home.run(&["health", "--config", "nobody.yaml"], ""), 1, "nothing answers at 127.0.0.1:1: ");
    failed(&home.run(&["health", "--config", "none.yaml"], ""), 1, "none.yaml");
}

#[test]
fn health_is_not_what_is_not_ready() {
    let home = Home::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.write("port.yaml", &format!("operations: {{address: \"{}\"}}\n", listener.local_addr().unwrap()));
    let answering = thread::spawn(move || {
        let (mut asking, _) = listener.accept().unwrap();
        let request: Vec<String> =
            BufReader::new(&asking).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        assert_eq!(request[0], "GET /readyz HTTP/1.1");
        asking.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 15\r\n\r\nnot \x1b[2J ready\n").unwrap();
    });
    let output = home.run(&["health", "--config", "port.yaml"], "");
    answering.join().unwrap();
    failed(&output, 1, "the service answers 503: not \\u{1b}[2J ready");
}

#[test]
fn keys_are_made_once_and_listed_without_their_secrets() {
    let home = Home::new();
    failed(&home.run(&["keys", "list"], ""), 1, "trustmint keys new");
    let made = home.run(&["keys", "new", "--kid", "k1"], "");
    succeeded(&made);
    assert!(out(&made).contains("created the key `k1` in keys/k1"), "{}", out(&made));
    let secret = fs::read_to_string(home.path().join("keys/k1")).unwrap();
    assert_eq!(fs::metadata(home.path().join("keys/k1")).unwrap().permissions().mode() & 0o777, 0o600);
    failed(&home.run(&["keys", "new", "--kid", "k1"], ""), 1, "keys/k1");
    assert_eq!(fs::read_to_string(home.path().join("keys/k1")).unwrap(), secret, "never over another");
    succeeded(&home.run(&["keys", "new", "--kid", "k2", "--activate-at", "2999-01-01T00:00:00Z", "--json"], ""));
    let named_by_date = home.run(&["keys", "new", "--json"], "");
    succeeded(&named_by_date);
    let facts: Value = serde_json::from_str(out(&named_by_date)).unwrap();
    assert_eq!(facts["kid"].as_str().unwrap().len(), 9, "{facts}");
    failed(&home.run(&["keys", "new", "--kid", "K 3"], ""), 1, "a key's name has");
    failed(&home.run(&["keys", "new", "--kid", "k3", "--activate-at", "tomorrow"], ""), 1, "`tomorrow`");
    assert!(!home.path().join("keys/k3").exists());

    let listed = home.run(&["keys", "list", "--json"], "");
    succeeded(&listed);
    let keys: Value = serde_json::from_str(out(&listed)).unwrap();
    let states: Vec<_> = keys.as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    assert!(states.contains(&"mints") && states.contains(&"verifies; mints later"), "{keys}");
    let table = home.run(&["keys", "list"], "");
    succeeded(&table);
    let digits = secret.split_whitespace().max_by_key(|part| part.len()).unwrap();
    for output in [&made, &named_by_date, &listed, &table] {
        assert!(!out(output).contains(digits) && !err(output).contains(digits));
    }
}

#[test]
fn a_key_is_retired_when_no_token_needs_it_or_in_an_emergency() {
    let home = Home::with_key();
    let retire = |arguments: &[&str]| home.run(&[&["keys", "retire", "--kid"], arguments].concat(), "");
    failed(&retire(&["k0"]), 1, "there is no key `k0`; there are k1");
    failed(&retire(&["k1"]), 1, "no other key mints yet");
    failed(&retire(&["k1", "--emergency"]), 1, "no other key mints yet");
    succeeded(&home.run(&["keys", "new", "--kid", "k2", "--activate-at", "2999-01-01T00:00:00Z"], ""));
    failed(&retire(&["k1", "--emergency"]), 1, "no other key mints yet");
    succeeded(&retire(&["k2"]));
    assert!(!home.path().join("keys/k2").exists(), "a key that has never minted is free");
    succeeded(&home.run(&["keys", "new", "--kid", "k3"], ""));
    failed(&retire(&["k1"]), 1, "tokens that `k1` has minted may live until");
    failed(&retire(&["k3"]), 1, "`k3` mints");
    let done = retire(&["k1", "--emergency", "--json"]);
    succeeded(&done);
    let facts: Value = serde_json::from_str(out(&done)).unwrap();
    assert_eq!((&facts["kid"], &facts["emergency"]), (&json!("k1"), &json!(true)));
    assert!(!home.path().join("keys/k1").exists() && home.path().join("keys/k3").exists());
    // A key that went over an hour and five minutes ago.
    let old = "activate_at: 2020-01-01T00:00:00Z\nkey: ZzZwbmFiYzEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU\n";
    home.write("keys/k-old", old);
    fs::set_permissions(home.path().join("keys/k-old"), fs::Permissions::from_mode(0o600)).unwrap();
    let new = old.replace("2020", "2021").replace("ZzZw", "ZzZx");
    home.write("keys/k-new", &new);
    fs::set_permissions(home.path().join("keys/k-new"), fs::Permissions::from_mode(0o600)).unwrap();
    succeeded(&retire(&["k-old"]));
}

#[test]
fn a_registrys_secrets_go_into_a_file_of_their_own() {
    let home = Home::with_key();
    let export = |registry: &str| home.run(&["keys", "export", "--registry", registry, "--out", "acme.json"], "");
    failed(&export("other"), 1, "--registry must be one of acme-pypi");
    let done = export("acme-pypi");
    succeeded(&done);
    let file = home.path().join("acme.json");
    let facts: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (&facts["registry"], &facts["codec"], &facts["keys"][0]["kid"]),
        (&json!("acme-pypi"), &json!("text"), &json!("k1"))
    );
    let secret = facts["keys"][0]["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 43);
    assert!(!out(&done).contains(secret) && !err(&done).contains(secret));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let master = fs::read_to_string(home.path().join("keys/k1")).unwrap();
    assert!(!master.contains(secret), "it is no master key");
    failed(&export("acme-pypi"), 1, "acme.json");
}

#[test]
fn explain_says_what_the_rules_say() {
    let home = Home::new();
    let claims = json!({
        "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "staging", "ref": "refs/tags/v1", "ref_type": "tag", "event_name": "push",
        "workflow_ref": "acme/widgets/.github/workflows/release.yml@refs/tags/v1",
        "job_workflow_ref": "acme/widgets/.github/workflows/release.yml@refs/tags/v1",
    });
    let explain = |claims: &Value, more: &[&str]| {
        let arguments = [&["policy", "explain", "--issuer", "github", "--claims", "-"], more].concat();
        home.run(&arguments, &claims.to_string())
    };
    let denied = explain(&claims, &["--json"]);
    assert_eq!(denied.status.code(), Some(1), "{}", err(&denied));
    let facts: Value = serde_json::from_str(out(&denied)).unwrap();
    assert_eq!((&facts["decision"], &facts["code"]), (&json!("deny"), &json!("environment-mismatch")));
    let table = explain(&claims, &[]);
    assert_eq!(table.status.code(), Some(1));
    assert!(out(&table).contains("staging") && out(&table).contains("widgets-release"), "{}", out(&table));

    let mut claims = claims;
    claims["environment"] = json!("release");
    let allowed = explain(&claims, &["--json"]);
    succeeded(&allowed);
    let facts: Value = serde_json::from_str(out(&allowed)).unwrap();
    assert_eq!((&facts["decision"], &facts["grant"]["rules"]), (&json!("allow"), &json!(["widgets-release"])));
    assert_eq!(err(&allowed), "");
    // A policy whose own tests fail is explained too: that is how to find out why.
    home.write(
        "policy/tests.yaml",
        "tests:\n  - {name: it fails, rule: widgets-release, token: github/pull-request, expect: allow}\n",
    );
    let allowed = explain(&claims, &["--json"]);
    assert_eq!(allowed.status.code(), Some(0), "{}", err(&allowed));
    assert!(err(&allowed).contains("note: 1 of the policy's own tests fail"), "{}", err(&allowed));
    fs::remove_file(home.path().join("policy/tests.yaml")).unwrap();
    let other = explain(&claims, &["--package", "gadgets"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(out(&other).contains("gadgets"), "{}", out(&other));

    failed(&explain(&claims, &["--registry", "other"]), 1, "--registry must be one of acme-pypi");
    failed(&explain(&json!([]), &[]), 1, "must be a JSON object");
    failed(&home.run(&["policy", "explain", "--claims", "none.json"], ""), 1, "none.json");
    failed(&home.run(&["policy", "explain", "--claims", "-", "--policy", "none"], "{}"), 1, "none");
    failed(
        &home.run(&["policy", "explain", "--claims", "-"], "{}"),
        1,
        "the claims have no `iss`, so `issuer` must name one of the policy's issuers; the policy's issuers are github",
    );
}

#[test]
fn a_token_that_cannot_be_read_says_so() {
    let home = Home::new();
    for input in ["", "garbage", "pypi-", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln"] {
        let output = home.run(&["token", "inspect"], input);
        failed(&output, 1, "");
        assert!(err(&output).trim().len() > 15, "{}", err(&output));
    }
    failed(&home.run(&["token", "inspect", "none"], ""), 1, "`none`");
}

#[test]
fn every_verb_helps_and_a_wrong_call_ends_with_two() {
    let home = Home::new();
    let verbs: [&[&str]; 15] = [
        &[],
        &["serve"],
        &["demo"],
        &["check"],
        &["health"],
        &["policy"],
        &["policy", "explain"],
        &["issuer"],
        &["issuer", "probe"],
        &["keys"],
        &["keys", "new"],
        &["keys", "list"],
        &["token"],
        &["token", "inspect"],
        &["completions"],
    ];
    for verb in verbs {
        let help = home.run(&[verb, &["--help"]].concat(), "");
        succeeded(&help);
        assert!(out(&help).contains("Usage: trustmint"), "{}", out(&help));
        let wrong = home.run(&[verb, &["--no-such-option"]].concat(), "");
        failed(&wrong, 2, "--no-such-option");
    }
    let version = home.run(&["--version"], "");
    succeeded(&version);
    assert!(out(&version).starts_with("trustmint 0."), "{}", out(&version));
    failed(&home.run(&["sevre"], ""), 2, "serve");
    failed(&home.run(&["policy", "explain"], ""), 2, "--claims");
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = home.run(&["completions", shell], "");
        succeeded(&script);
        assert!(out(&script).contains("trustmint") && out(&script).len() > 500, "{shell}");
    }
    failed(&home.run(&["completions", "tcsh"], ""), 2, "tcsh");
}
