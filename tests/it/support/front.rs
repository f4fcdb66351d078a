//! The whole chain as its operator runs it, each part a process of its own: `trustmint serve`, and a registry behind nginx
//! with TLS (`examples/…/start`); and the real clients, unmodified, in a CI job's environment.

use std::ffi::OsStr;
use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::config::keys::read_keyring;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::demo::provider;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::demo::wheel::Wheel;
use trustmint::macaroon;
use trustmint::macaroon::Codec;
use trustmint::macaroon::PrepareRequest;
use trustmint::macaroon::Provenance;
use trustmint::macaroon::RegistryKeyId;
use trustmint::macaroon::TokenId;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::package::Permission;
use trustmint::policy::watch;
use trustmint::secret::hex;
use trustmint::secret::random_bytes;
use trustmint::secret::sha256;
use trustmint::telemetry::Stopwatch;
use trustmint::time::Clock;
use trustmint::time::SystemClock;

use super::redis::PATIENCE;
use super::said;
use super::said::Channel;
use super::said::Folder;
use super::said::Record;
use super::said::SecretKind;
use super::service::API_KEY;
use super::service::AUDIENCE;
use super::service::example;

mod token;

const TRUSTMINT: &str = env!("CARGO_BIN_EXE_trustmint");
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// Drives twine's own code for trusted publishing, which its command line keeps for pypi.org; prints the upload token.
const TWINE_EXCHANGE: &str = "\
import sys
from twine.auth import CredentialInput, Resolver
print(Resolver({'repository': sys.argv[1]}, CredentialInput('__token__', None)).make_trusted_publishing_token())
";

/// A kind of registry: one of the examples, and what the policy says of it.
pub struct Kind {
    /// Its folder below `examples/`.
    example: &'static str,
    dialect: &'static str,
    /// The path of its URL.
    path: &'static str,
    /// What the names of its packages begin with.
    scope: &'static str,
    /// Settings of its `start`, each with the variable that has the program.
    programs: &'static [(&'static str, &'static str)],
    /// `routes` of the policy, in JSON; none if it is empty.
    routes: &'static str,
    running: Mutex<Weak<Front>>,
}

pub static PYPISERVER: Kind = Kind::new("pypiserver", "pypi", "/legacy/");
pub static DEVPI: Kind = Kind::new("devpi", "pypi", "/legacy/");
pub static CARGO: Kind = Kind::new("cargo-registry", "crates-io", "/");
pub static GEMS: Kind = Kind::new("gem-server", "rubygems", "/");
pub static NUGET: Kind = Kind::new("nuget-feed", "nuget", "/");
pub static CONDA: Kind = Kind::new("conda-channel", "conda", "/");
pub static OPEN_VSX: Kind = Kind::new("open-vsx-server", "open-vsx", "/").named("acme.");
pub static VERDACCIO: Kind = Kind::new("verdaccio", "npm", "/").named("@acme/").run_by(NODE);
/// The same without the plug-in, and with a proxy that asks.
pub static GUARDED_VERDACCIO: Kind =
    Kind::new("forward-auth/verdaccio", "npm", "/").named("@acme/").run_by(NODE).behind(NPM_ROUTES);

const PYTHON: &[(&str, &str)] = &[("PYTHON", "TRUSTMINT_TEST_PYTHON")];
const NODE: &[(&str, &str)] = &[("NODE", "TRUSTMINT_TEST_NODE"), ("VERDACCIO", "TRUSTMINT_TEST_VERDACCIO")];

/// The routes that the page of `examples/forward-auth` has.
const NPM_ROUTES: &str = r#"{"proxy": "nginx", "allow": [
    {"method": "PUT", "path": "/{package}", "action": "upload"},
    {"method": "DELETE", "path": "/{package}/-rev/{*}", "action": "delete"},
    {"method": "PUT", "path": "/-/package/{package}/dist-tags/{*}", "action": "tag"},
    {"method": "DELETE", "path": "/-/package/{package}/dist-tags/{*}", "action": "tag"}
]}"#;

impl Kind {
    const fn new(example: &'static str, dialect: &'static str, path: &'static str) -> Self {
        Self { example, dialect, path, scope: "", programs: PYTHON, routes: "", running: Mutex::new(Weak::new()) }
    }

    const fn named(mut self, scope: &'static str) -> Self {
        self.scope = scope;
        self
    }

    const fn run_by(mut self, programs: &'static [(&'static str, &'static str)]) -> Self {
        self.programs = programs;
        self
    }

    const fn behind(mut self, routes: &'static str) -> Self {
        self.routes = routes;
        self
    }

    /// The one that runs, if any test uses it, or a new one: starting it takes longer than what it is asked.
    pub fn front(&'static self) -> Arc<Front> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let front = Arc::new(Front::start(self));
            *running = Arc::downgrade(&front);
            front
        })
    }
}

/// A registry on the network, with trusted publishing for one GitHub repository and one GitLab project.
pub struct Front {
    /// The URL of the registry; of Python's, the one that files are uploaded to.
    pub url: String,
    /// Where trustmint is, for the registry only.
    service_address: String,
    // These end in this order, and before their files go.
    _registry: Process,
    _service: Process,
    github: LoopbackProvider,
    gitlab: LoopbackProvider,
    directory: Folder,
}

/// A CI job as a client sees it: variables, and what answers behind them.
pub struct Job {
    /// Its number, as its ID tokens say it: no other job has it.
    run: String,
    variables: Vec<(&'static str, String)>,
    provider: Option<LoopbackProvider>,
}

impl Job {
    /// No job at all.
    pub fn none() -> Self {
        Self { run: run(), variables: Vec::new(), provider: None }
    }

    /// The same job with another variable.
    pub fn with(mut self, variable: &'static str, value: &str) -> Self {
        self.variables.push((variable, value.to_owned()));
        self
    }

    /// Gives a client the job's environment.
    pub fn enter(&self, client: &mut Command) {
        client.envs(self.variables.iter().cloned());
    }

    /// A variable of the job's environment.
    pub fn variable(&self, name: &str) -> &str {
        self.variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value).unwrap()
    }
}

/// What a client said on both its outputs.
#[derive(Debug)]
pub struct Said {
    succeeded: bool,
    output: String,
    /// Without colours, each run of white space as one space: clients wrap and pad their lines.
    text: String,
}

impl Said {
    /// Holds that the client succeeded; what it printed for others to read.
    #[track_caller]
    pub fn success(self) -> String {
        assert!(self.succeeded, "{}", self.text);
        self.output
    }

    /// Holds that its user reads this sentence, whatever the client makes of it.
    #[track_caller]
    pub fn says(self, sentence: &str) -> Self {
        assert!(self.text.contains(sentence), "`{sentence}` is not in: {}", self.text);
        self
    }

    /// Holds that its user reads none of these words.
    #[track_caller]
    pub fn withholds(self, words: &[&str]) -> Self {
        for word in words {
            assert!(!self.text.contains(word), "`{word}` is in: {}", self.text);
        }
        self
    }

    /// Holds that the client failed, and that its user reads these sentences.
    #[track_caller]
    pub fn failure(self, sentences: &[&str]) {
        assert!(!self.succeeded, "{}", self.text);
        for sentence in sentences {
            assert!(self.text.contains(sentence), "`{sentence}` is not in: {}", self.text);
        }
    }
}

impl Front {
    fn start(kind: &'static Kind) -> Self {
        let directory = Folder::new();
        said::secret(SecretKind::ApiKey, API_KEY);
        let path = |name: &str| directory.path().join(name);
        let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
        let provider = || {
            let key = Arc::new(SigningKey::generate(KeyKind::Rsa2048).unwrap());
            LoopbackProvider::start_https(Arc::new(SystemClock), vec![key], certificate.server_config().unwrap())
        };
        let (github, gitlab) = (provider().unwrap(), provider().unwrap());
        let (front, inner) = (free_address(), free_address());
        let url = format!("https://{front}{}", kind.path);

        for name in ["policy", "dist", "home"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("policy/policy.yaml"), policy(kind, &url, &github, &gitlab)).unwrap();
        fs::write(path("policy/ca.pem"), certificate.authority_pem()).unwrap();
        fs::write(path("certificate.pem"), certificate.certificate_pem()).unwrap();
        certificate.write_key(&path("key.pem")).unwrap();
        let mut private = fs::OpenOptions::new();
        let mut api_key = private.write(true).create_new(true).mode(0o600).open(path("api-key")).unwrap();
        api_key.write_all(API_KEY.as_bytes()).unwrap();
        fs::write(path("settings.yaml"), SETTINGS).unwrap();
        // Active for an hour, so that the harness can mint tokens of the past.
        let active = SystemClock.now().minus(Duration::from_secs(3600)).to_string();
        let mut keys = Command::new(TRUSTMINT);
        said(keys.args(["keys", "new", "--activate-at", &active, "--directory"]).arg(path("keys"))).success();

        let (service, line) = Process::start(
            Command::new(TRUSTMINT).arg("serve").arg("--config").arg(path("settings.yaml")),
            |child| Box::new(child.stderr.take().unwrap()),
            "serving at ",
        );
        let started = SystemClock.now();
        let service_address = line.split_once("http://").unwrap().1.split(',').next().unwrap().to_owned();
        let (registry, _) = Process::start(
            Command::new(Path::new(REPOSITORY).join("examples").join(kind.example).join("start"))
                .env("DIRECTORY", path("run"))
                .env("CERTIFICATE", path("certificate.pem"))
                .env("KEY", path("key.pem"))
                .env("API_KEY_FILE", path("api-key"))
                .env("TRUSTMINT", &service_address)
                .env("LISTEN", front.to_string())
                .env("REGISTRY_PORT", inner.port().to_string())
                .env("NGINX", tool("TRUSTMINT_TEST_NGINX"))
                .envs(kind.programs.iter().map(|(setting, variable)| (setting, tool(variable)))),
            |child| Box::new(child.stdout.take().unwrap()),
            "ready: ",
        );
        // ID tokens are dated in whole seconds, and one of the second in which the service started could be an old one.
        while SystemClock.now().unix_seconds() <= started.unix_seconds() {
            thread::yield_now();
        }
        Self { url, service_address, _registry: registry, _service: service, github, gitlab, directory }
    }

    /// A job of `acme/widgets` at GitHub, with other claims put over its own.
    pub fn github_job(&self, overrides: &Value) -> Job {
        let mut claims = example("github", "tag-push", &widgets(overrides));
        claims["iss"] = json!(self.github.issuer());
        let run = run();
        claims["run_id"] = json!(run);
        // Each job has its own place to ask for ID tokens; the issuer's key signs them.
        let provider = LoopbackProvider::start_with(Arc::new(SystemClock), self.github.keys().to_vec()).unwrap();
        provider.run_job(&claims);
        let variables = vec![
            ("CI", "true".into()),
            ("GITHUB_ACTIONS", "true".into()),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", provider.token_request_url()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", provider.token_request_token()),
        ];
        Job { run, variables, provider: Some(provider) }
    }

    /// The same, at a provider that gives it one and the same ID token whenever it asks.
    pub fn github_job_with_one_token(&self, audience: &str) -> Job {
        let job = self.github_job(&json!({}));
        let token = self.id_token(audience, &json!({"run_id": job.run}));
        let provider = job.provider.as_ref().unwrap();
        provider.answer(Endpoint::Token, provider::Answer::json(&json!({"value": token})));
        job
    }

    /// A job of `acme/tools/sprockets` at GitLab, which finds its one ID token in a variable.
    pub fn gitlab_job(&self) -> Job {
        self.gitlab_job_with("ACME_ID_TOKEN", AUDIENCE)
    }

    /// The same, with the variable and the audience that a client wants.
    pub fn gitlab_job_with(&self, variable: &'static str, audience: &str) -> Job {
        let run = run();
        let project = json!({"project_path": "acme/tools/sprockets", "project_id": "53804090", "namespace_id": "7211",
            "pipeline_id": run});
        let claims = example("gitlab", "tag-push", &project);
        let claims = self.gitlab.claims(&claims, audience, SystemClock.now());
        let variables =
            vec![("CI", "true".into()), ("GITLAB_CI", "true".into()), (variable, self.gitlab.mint(&claims))];
        Job { run, variables, provider: None }
    }

    /// A wheel of that package, on disk.
    pub fn wheel(&self, package: &str, version: &str) -> PathBuf {
        let wheel = Wheel::new(&PackageName::parse(Ecosystem::Pypi, package).unwrap(), version);
        let path = self.path("dist").join(wheel.file_name);
        fs::write(&path, wheel.bytes).unwrap();
        path
    }

    /// Whether the registry has this very file, in whichever folder it keeps files.
    pub fn has(&self, file: &Path) -> bool {
        let stored = self.stored(file.file_name().unwrap().to_str().unwrap());
        stored.is_some_and(|stored| fs::read(stored).unwrap() == fs::read(file).unwrap())
    }

    /// The registry's file of that name.
    pub fn stored(&self, name: &str) -> Option<PathBuf> {
        self.stored_in("", name)
    }

    /// The same, in one of the registry's folders.
    pub fn stored_in(&self, folder: &str, name: &str) -> Option<PathBuf> {
        find(&self.path("run/packages").join(folder), OsStr::new(name))
    }

    /// `uv publish` in a job.
    pub fn uv(&self, job: &Job, wheel: &Path) -> Said {
        let mut uv = self.client(&tool("TRUSTMINT_TEST_UV"));
        uv.args(["publish", "--no-config", "--trusted-publishing", "always", "--publish-url", &self.url]);
        said(uv.arg(wheel).envs(job.variables.iter().cloned()))
    }

    /// `twine upload` with an upload token.
    pub fn twine(&self, token: &str, wheels: &[&Path]) -> Said {
        let mut twine = self.client(&tool("TRUSTMINT_TEST_TWINE"));
        twine.args(["upload", "--non-interactive", "--disable-progress-bar", "--repository-url", &self.url]);
        said(twine.args(wheels).env("TWINE_USERNAME", "__token__").env("TWINE_PASSWORD", token))
    }

    /// `pdm publish` in a job, of a project whose built files are this one wheel.
    pub fn pdm(&self, job: &Job, wheel: &Path) -> Said {
        let project = tempfile::tempdir_in(self.directory.path()).unwrap();
        let name = wheel.file_name().unwrap();
        fs::create_dir(project.path().join("dist")).unwrap();
        fs::copy(wheel, project.path().join("dist").join(name)).unwrap();
        fs::write(
            project.path().join("pyproject.toml"),
            "[project]\nname = 'any'\nversion = '1'\nrequires-python = '>=3'\n",
        )
        .unwrap();
        let mut pdm = self.client(&tool("TRUSTMINT_TEST_PYTHON"));
        pdm.args(["-m", "pdm", "publish", "--no-build", "--repository", &self.url, "--project"]).arg(project.path());
        said(pdm.envs(job.variables.iter().cloned()).env("PDM_CHECK_UPDATE", "0").env("PDM_USE_VENV", "0"))
    }

    /// `maturin upload` in a job.
    pub fn maturin(&self, job: &Job, wheel: &Path) -> Said {
        let mut maturin = self.client(&tool("TRUSTMINT_TEST_MATURIN"));
        maturin.args(["upload", "--non-interactive", "--repository-url", &self.url]);
        said(maturin.arg(wheel).envs(job.variables.iter().cloned()))
    }

    /// Holds that a refusal of this very job is in the registry's list, in words that a client did not show. It is written
    /// beside the answer, so it may come after it.
    #[track_caller]
    pub fn assert_looked_up(&self, job: &Job, code: &str, sentence: &str) {
        let says = |refusal: &Value| refusal["code"] == code && refusal["message"].as_str().unwrap().contains(sentence);
        let started = Stopwatch::start();
        loop {
            let refusals = self.refusals(job);
            if refusals.iter().any(says) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "no `{code}` of this job, which says `{sentence}`: {refusals:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the registry is told of this job's refusals.
    fn refusals(&self, job: &Job) -> Vec<Value> {
        let (mut refusals, mut since) = (Vec::new(), String::new());
        let host = self.url.split('/').nth(2).unwrap();
        loop {
            let url = format!("http://{}/v1/refusals{since}", self.service_address);
            let mut curl = self.client(Path::new("curl"));
            curl.args(["-sS", "--fail-with-body", "-H", &format!("Authorization: Bearer {API_KEY}"), &url]);
            let page = said(curl.args(["-H", &format!("Host: {host}")])).success();
            let page: Value = serde_json::from_str(&page).unwrap();
            let own =
                |refusal: &&Value| ["run_id", "pipeline_id"].iter().any(|claim| refusal["claims"][claim] == job.run);
            refusals.extend(page["refusals"].as_array().unwrap().iter().filter(own).cloned());
            if page["more"] == false {
                return refusals;
            }
            since = format!("?since={}", page["next"].as_str().unwrap());
        }
    }

    /// Twine's exchange in a job.
    pub fn twine_exchange(&self, job: &Job) -> Said {
        let mut python = self.client(&tool("TRUSTMINT_TEST_PYTHON"));
        said(python.args(["-c", TWINE_EXCHANGE, &self.url]).envs(job.variables.iter().cloned()))
    }

    /// An ID token of a job of `acme/widgets` at GitHub, with other claims put over its own.
    pub fn id_token(&self, audience: &str, overrides: &Value) -> String {
        let claims = example("github", "tag-push", &widgets(overrides));
        let token = self.github.mint(&self.github.claims(&claims, audience, SystemClock.now()));
        said::tokens_in(&token);
        token
    }

    /// An upload token for one use, asked for with curl by a job of `acme/widgets`.
    pub fn single_use_token(&self) -> String {
        let id_token = self.id_token(AUDIENCE, &json!({}));
        let body = json!({"token": id_token, "features": ["single-use-token"]}).to_string();
        let url = self.url.replace("/legacy/", "/_/oidc/mint-token");
        let mut curl = self.client(Path::new("curl"));
        let answer = said(curl.args(["-sS", "--fail-with-body", "--data", &body, &url]).arg("--cacert").arg(self.ca()));
        let answer: Value = serde_json::from_str(&answer.success()).unwrap();
        let token = answer["token"].as_str().unwrap().to_owned();
        said::tokens_in(&token);
        token
    }

    /// An upload token for `widgets` that the service would have minted some time ago, made of its keys and its policy.
    pub fn upload_token_of(&self, age: Duration) -> String {
        let policy = watch::load(&self.path("policy")).unwrap();
        let registry = policy.registries().by_id("acme").unwrap();
        let provenance = Provenance {
            rules: vec!["widgets-release".into()],
            policy_revision: policy.revision().into(),
            issuer: self.github.issuer().into(),
            claims: [].into(),
        };
        let request = PrepareRequest {
            registry: &registry.id,
            key: RegistryKeyId { key_id: &registry.key_id, codec: Codec::Text, epoch: registry.epoch },
            location: &registry.location(),
            prefix: &registry.token.prefix,
            permissions: &["create:widgets", "upload:widgets"]
                .map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap())
                .into_iter()
                .collect(),
            ttl: registry.token.ttl,
            versions: None,
            uses: None,
            max_size: None,
            provenance: provenance.borrowed(),
            id: TokenId::new(SystemClock.now().minus(age), random_bytes().unwrap()),
        };
        let keyring = read_keyring(&self.path("keys")).unwrap();
        let token = macaroon::prepare(&keyring, request).unwrap().mint().token.expose().clone();
        said::tokens_in(&token);
        token
    }

    /// A client with nothing in its environment but our certificate authority, under each name that clients know.
    pub fn client(&self, program: &Path) -> Command {
        let mut client = Command::new(program);
        client.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.path("home"));
        client.env("COLUMNS", "400").env("SSL_CERT_FILE", self.ca()).env("REQUESTS_CA_BUNDLE", self.ca());
        client
    }

    /// The certificate authority to trust.
    pub fn ca(&self) -> PathBuf {
        self.path("policy/ca.pem")
    }

    /// A place in the test's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// Ports of the system's choice; nginx is the proxy.
const SETTINGS: &str = "\
listen: {address: '127.0.0.1:0', trusted_proxies: [127.0.0.1]}
operations: {address: '127.0.0.1:0'}
policy: {directory: policy}
keys: {directory: keys}
audit: {sink: file, file: audit.jsonl}
";

fn policy(kind: &Kind, url: &str, github: &LoopbackProvider, gitlab: &LoopbackProvider) -> String {
    let issuer = |provider: &str, issuer: &LoopbackProvider| json!({"provider": provider, "url": issuer.issuer(), "ca_file": "ca.pem", "allow_networks": ["127.0.0.0/8"]});
    let [widgets, sprockets] = ["widgets", "sprockets"].map(|name| {
        let name = format!("{}{name}", kind.scope);
        [format!("{name}-*"), name]
    });
    // JSON is YAML.
    let mut policy = json!({
        "issuers": {"github": issuer("github", github), "gitlab": issuer("gitlab", gitlab)},
        "registries": {"acme": {
            "dialect": kind.dialect, "urls": [url], "audiences": [AUDIENCE],
            "callers": {"registry": {"key_sha256": hex(&sha256(API_KEY.as_bytes()))}},
        }},
        "rules": {
            "widgets-release": {
                "registry": "acme", "issuer": "github",
                "when": {
                    "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
                    "workflow_file": "release.yml", "environment": "release", "tag": {"glob": "v*"},
                },
                "allow": {"upload": widgets, "create": widgets},
            },
            "widgets-yank": {
                "registry": "acme", "issuer": "github",
                "when": {
                    "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
                    "workflow_file": "release.yml", "environment": "yank", "tag": {"glob": "v*"},
                },
                "allow": {"yank": widgets, "tag": widgets},
            },
            "widgets-retire": {
                "registry": "acme", "issuer": "github",
                "when": {
                    "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
                    "workflow_file": "release.yml", "environment": "retire", "tag": {"glob": "v*"},
                },
                "allow": {"deprecate": widgets},
            },
            "sprockets-release": {
                "registry": "acme", "issuer": "gitlab",
                "when": {"namespace_id": "7211", "project_id": "53804090", "project_path": "acme/tools/sprockets"},
                "allow": {"upload": sprockets, "create": sprockets},
            },
        },
    });
    if !kind.routes.is_empty() {
        policy["registries"]["acme"]["routes"] = serde_json::from_str(kind.routes).unwrap();
        policy["rules"]["widgets-yank"]["allow"]["delete"] = json!(widgets);
    }
    policy.to_string()
}

/// A number for a run of a job.
fn run() -> String {
    u64::from_ne_bytes(random_bytes().unwrap()).to_string()
}

/// The claims that make a job the one of the rule `widgets-release`, unless they are overridden.
fn widgets(overrides: &Value) -> Value {
    let mut claims = json!({
        "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
        "environment": "release",
    });
    claims.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
    claims
}

/// An address for a program that takes no port 0: free, and below the ports that the system gives out, so that nobody is
/// given it meanwhile.
pub fn free_address() -> SocketAddr {
    loop {
        let port = 20_000 + u16::from_ne_bytes(random_bytes().unwrap()) % 12_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test command says in the environment where it put the programs")]
pub fn tool(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => path.into(),
        None => panic!("{variable} is not set: run the test command of README.md, which sets it up"),
    }
}

/// The file of that name, in the folder or below.
fn find(folder: &Path, name: &OsStr) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).find_map(|path| {
        if path.is_dir() { find(&path, name) } else { Some(path).filter(|path| path.file_name() == Some(name)) }
    })
}

/// Runs a client to its end.
pub fn said(command: &mut Command) -> Said {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if command.get_program() == TRUSTMINT {
        said::printed(command, &output);
    }
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let plain: String = format!("{stdout}\n{stderr}")
        .split('\x1b')
        .enumerate()
        // An escape sequence ends with its first letter.
        .map(|(number, part)| match part.find(|c: char| c.is_ascii_alphabetic()) {
            Some(end) if number > 0 => &part[end + 1..],
            _ => part,
        })
        .collect();
    // Before each line that pnpm breaks is a bar.
    let words: Vec<_> = plain.split_whitespace().filter(|word| *word != "│").collect();
    Said { succeeded: output.status.success(), output: stdout.trim().to_owned(), text: words.join(" ") }
}

/// A process that is asked to end, and waited for, when this is dropped.
pub struct Process(Child);

impl Process {
    /// Starts it and waits for the line with these words on one of its outputs; the rest is read and dropped.
    #[track_caller]
    pub fn start(command: &mut Command, output: fn(&mut Child) -> Box<dyn Read + Send>, words: &str) -> (Self, String) {
        let ours = command.get_program() == TRUSTMINT;
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        let mut output = BufReader::new(output(&mut process.0));
        let mut lines = String::new();
        let line = loop {
            let start = lines.len();
            let read = output.read_line(&mut lines).unwrap();
            assert!(read > 0, "{command:?} ended: {lines} {:?}", process.0.stderr.take().map(std::io::read_to_string));
            if lines[start..].contains(words) {
                break lines[start..].to_owned();
            }
        };
        let mut record = ours.then(|| Record::of(Channel::Log));
        if let Some(record) = &record {
            record.keep(lines.as_bytes());
        }
        thread::spawn(move || match &mut record {
            Some(record) => std::io::copy(&mut output, record),
            None => std::io::copy(&mut output, &mut std::io::sink()),
        });
        (process, line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGTERM: killed outright, `start` would leave its children behind.
        let asked = super::signal("-TERM", self.0.id());
        if !asked.is_ok_and(|status| status.success()) {
            drop(self.0.kill());
        }
        drop(self.0.wait());
    }
}
