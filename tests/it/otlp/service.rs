//! The real binary, with keys from a file and a collector.

use std::borrow::Cow;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::secret::hex;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use super::PATIENCE;
use super::PAUSE;
use crate::serve::Home;
use crate::support::said;
use crate::support::said::Channel;
use crate::support::said::Heard;
use crate::support::send;
use crate::support::service::API_KEY;
use crate::support::service::WIDGETS;
use crate::support::service::example;
use crate::support::service::policy_text;

const ISSUER: &str = "https://ci.acme.example";

/// A folder with policy and keys, and the identity provider that the policy is about.
pub struct World {
    pub home: Home,
    provider: LoopbackProvider,
}

impl World {
    pub fn new() -> Self {
        let home = Home::with_key();
        let provider = LoopbackProvider::start(Arc::new(SystemClock)).unwrap();
        home.write("policy/jwks.json", &provider.jwks().to_string());
        let policy = policy_text("https://pypi.acme.example", ISSUER, WIDGETS);
        home.write("policy/acme.yaml", &policy.replace(ISSUER, &format!("{ISSUER}\", jwks_file: \"jwks.json")));
        Self { home, provider }
    }

    pub fn write(&self, name: &str, text: &str) {
        self.home.write(name, text);
    }

    /// Puts a file that only its owner can read in the place of what is there, at once.
    pub fn secret(&self, name: &str, text: &str) {
        let next = self.home.path().join("next");
        fs::write(&next, text).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(next, self.home.path().join(name)).unwrap();
    }

    pub fn settings(&self, telemetry: &str, audit: &str) {
        let listen =
            "listen: {address: \"127.0.0.1:0\"}\noperations: {address: \"127.0.0.1:0\"}\nlimits: {workers: 1}\n";
        self.write("trustmint.yaml", &format!("{listen}telemetry: {telemetry}\naudit: {audit}\n"));
    }

    /// An ID token that the rule is about, with other claims put over it.
    pub fn id_token(&self, overrides: &Value) -> String {
        let mut job = json!({"repository_owner_id": "9123456", "repository_id": "701234567",
            "repository": "acme/widgets", "environment": "release"});
        job.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
        // Times in tokens are whole seconds, and one issued before the service began is refused for a while.
        let issued = SystemClock.now().plus(Duration::from_secs(1));
        let mut claims = self.provider.claims(&example("github", "tag-push", &job), "acme", issued);
        claims["iss"] = json!(ISSUER);
        let token = self.provider.mint(&claims);
        said::tokens_in(&token);
        token
    }

    /// The master key as its file spells it.
    pub fn master_key(&self) -> String {
        let text = self.home.read("keys/k1");
        let longest = text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"-_+/=".contains(letter));
        longest.max_by_key(|word| word.len()).unwrap().to_owned()
    }

    /// What may be nowhere: tokens with each of their parts, and what else is secret, in every spelling; the master key.
    pub fn secrets<const N: usize, const M: usize>(&self, tokens: [&str; N], words: [&str; M]) -> Vec<Vec<u8>> {
        let mut secrets = Vec::new();
        for token in tokens {
            secrets.push(token.as_bytes().to_vec());
            let parts: Vec<&str> = token.split('.').collect();
            // The header of a JWT is no secret; a macaroon's text ends in its signature.
            secrets.extend(parts.iter().skip(1).map(|part| part.as_bytes().to_vec()));
            secrets.push(token.as_bytes()[token.len() - 24..].to_vec());
        }
        let master = self.master_key();
        let raw = [&STANDARD.decode(&master).ok(), &URL_SAFE_NO_PAD.decode(&master).ok()];
        let mut raw: Vec<Vec<u8>> = raw.into_iter().flatten().cloned().collect();
        raw.extend(words.iter().map(|word| word.as_bytes().to_vec()));
        secrets.push(master.into_bytes());
        for bytes in raw {
            secrets.push(hex(&bytes).into_bytes());
            secrets.push(STANDARD.encode(&bytes).trim_end_matches('=').as_bytes().to_vec());
            secrets.push(URL_SAFE_NO_PAD.encode(&bytes).into_bytes());
            secrets.push(bytes);
        }
        assert!(secrets.iter().all(|secret| secret.len() >= 12), "too short to be looked for");
        secrets
    }
}

/// Which of the secrets are in there.
pub fn found<'s>(secrets: &'s [Vec<u8>], hay: &[u8]) -> Vec<Cow<'s, str>> {
    let is_there = |secret: &&Vec<u8>| hay.windows(secret.len()).any(|window| window == secret.as_slice());
    secrets.iter().filter(is_there).map(|secret| String::from_utf8_lossy(secret)).collect()
}

/// A running service.
pub struct Running {
    child: Child,
    public: String,
    operations: String,
    client: reqwest::Client,
    log: Option<JoinHandle<String>>,
    out: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts it with these settings.
    pub fn start(world: &World, telemetry: &str, audit: &str) -> Self {
        world.settings(telemetry, audit);
        let mut child = world.home.command(&["serve", "--config", "trustmint.yaml"]).spawn().unwrap();
        let (said, line) = mpsc::channel();
        let mut log = BufReader::new(Heard::new(Channel::Log, child.stderr.take().unwrap()));
        let log = thread::spawn(move || {
            let mut text = String::new();
            loop {
                let start = text.len();
                if log.read_line(&mut text).unwrap() == 0 {
                    return text;
                }
                if text[start..].contains("serving at ") {
                    drop(said.send(text[start..].to_owned()));
                }
            }
        });
        let mut out = Heard::new(Channel::Audit, child.stdout.take().unwrap());
        let out = thread::spawn(move || {
            let mut text = String::new();
            out.read_to_string(&mut text).unwrap();
            text
        });
        let line = line.recv_timeout(PATIENCE).expect("it serves");
        let after = |mark: &str| {
            let rest = &line[line.find(mark).unwrap() + mark.len()..];
            rest.split([',', ' ', '\n', '"']).next().unwrap().to_owned()
        };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let (public, operations) = (after("serving at "), after("operations at "));
        Self { child, public, operations, client, log: Some(log), out: Some(out) }
    }

    /// Status, body and request id.
    pub async fn post(&self, path: &str, body: &str, traceparent: Option<&str>) -> (u16, Value, String) {
        let request = self.client.post(format!("{}{path}", self.public)).header("host", "pypi.acme.example");
        let mut request = request.bearer_auth(API_KEY).header("content-type", "application/json");
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let response = request.body(body.to_owned()).send().await.unwrap();
        let id = response.headers()["x-request-id"].to_str().unwrap().to_owned();
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await.unwrap();
        said::answered(status, &headers, &text);
        (status, serde_json::from_str(&text).unwrap(), id)
    }

    pub async fn mint(&self, token: &str, traceparent: Option<&str>) -> (u16, Value, String) {
        self.post("/_/oidc/mint-token", &json!({"token": token}).to_string(), traceparent).await
    }

    pub async fn form(&self, path: &str, body: &str) -> u16 {
        let request = self.client.post(format!("{}{path}", self.public)).header("host", "pypi.acme.example");
        let request = request.bearer_auth(API_KEY).header("content-type", "application/x-www-form-urlencoded");
        let request = request.body(body.to_owned());
        request.send().await.unwrap().status().as_u16()
    }

    pub async fn get(&self, path: &str) -> u16 {
        let request = self.client.get(format!("{}{path}", self.public)).header("host", "pypi.acme.example");
        request.send().await.unwrap().status().as_u16()
    }

    /// The sum of those series of a metric that have these labels.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.client.get(format!("{}/metrics", self.operations)).send().await.unwrap().text().await.unwrap();
        said::keep(Channel::Metrics, &text);
        let of = |line: &&str| {
            line.split(['{', ' ']).next() == Some(name) && labels.iter().all(|label| line.contains(label))
        };
        text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// Waits until a metric is at least so much.
    pub async fn counts(&self, name: &str, labels: &[&str], least: u64) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.metric(name, labels).await < least {
                tokio::time::sleep(PAUSE).await;
            }
        });
        assert!(waited.await.is_ok(), "{name}{labels:?} never is {least}");
    }

    /// Ends it; the log, and what was written to standard output.
    pub async fn stop(mut self) -> (String, String) {
        send("-TERM", self.child.id());
        let (log, out) = (self.log.take().unwrap(), self.out.take().unwrap());
        let ended = tokio::task::spawn_blocking(move || (log.join().unwrap(), out.join().unwrap()));
        let ended = tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap();
        assert!(self.child.wait().unwrap().success());
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
