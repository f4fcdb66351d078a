//! An npm registry as its operator runs it, each part a process of its own: `trustmint serve`, and verdaccio behind nginx
//! with TLS (`examples/verdaccio`, `examples/forward-auth/verdaccio`); and the real clients, unmodified, in a CI job's environment.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::secret::hex;
use trustmint::secret::sha256;
use trustmint::time::Clock;
use trustmint::time::SystemClock;

use super::front::Job;
use super::front::Process;
use super::front::REPOSITORY;
use super::front::SETTINGS;
use super::front::Said;
use super::front::TRUSTMINT;
use super::front::free_address;
use super::front::said;
use super::front::tool;
use super::front::widgets;
use super::service::API_KEY;
use super::service::example;

/// A registry on the network, with trusted publishing for one GitHub repository and one GitLab project.
pub struct NpmRegistry {
    /// Its URL.
    pub url: String,
    service: String,
    // These end in this order, and before their files go.
    _registry: Process,
    _service: Process,
    github: LoopbackProvider,
    gitlab: LoopbackProvider,
    directory: TempDir,
}

/// A package's folder, or that of a workspace, which a test publishes.
pub struct Project {
    folder: TempDir,
}

impl Project {
    /// A package of that name and version, in a folder of its own.
    pub fn package(name: &str, version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        manifest(folder.path(), &json!({"name": name, "version": version}));
        Self { folder }
    }

    /// A workspace whose members are these packages.
    pub fn workspace(members: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        manifest(folder.path(), &json!({"name": "root", "private": true, "workspaces": ["packages/*"]}));
        fs::write(folder.path().join("pnpm-workspace.yaml"), "packages: ['packages/*']\n").unwrap();
        for (number, (name, version)) in members.iter().enumerate() {
            let member = folder.path().join("packages").join(number.to_string());
            fs::create_dir_all(&member).unwrap();
            manifest(&member, &json!({"name": name, "version": version}));
        }
        Self { folder }
    }

    /// Packs the package by hand, as `packed.tgz`.
    pub fn pack(&self) -> Vec<u8> {
        let folder = self.folder.path();
        let mut tar = Command::new("tar");
        tar.args(["-czf", "packed.tgz", "--transform", "s,^,package/,", "package.json", "index.js"]);
        said(tar.current_dir(folder)).success();
        fs::read(folder.join("packed.tgz")).unwrap()
    }

    /// Writes a client's configuration.
    pub fn with(self, file: &str, text: &str) -> Self {
        fs::write(self.folder.path().join(file), text).unwrap();
        self
    }
}

fn manifest(folder: &Path, package: &Value) {
    fs::write(folder.join("package.json"), package.to_string()).unwrap();
    fs::write(folder.join("index.js"), "module.exports = 1;\n").unwrap();
}

impl NpmRegistry {
    /// The one with the plug-in that runs, if any test uses it, or a new one: starting it takes longer than what it is
    /// asked.
    pub fn running() -> Arc<Self> {
        static RUNNING: Mutex<Weak<NpmRegistry>> = Mutex::new(Weak::new());
        Self::shared(&RUNNING, "examples/verdaccio/start", "")
    }

    /// The one whose nginx asks and whose verdaccio knows nothing of it.
    pub fn behind_forward_auth() -> Arc<Self> {
        static RUNNING: Mutex<Weak<NpmRegistry>> = Mutex::new(Weak::new());
        Self::shared(&RUNNING, "examples/forward-auth/verdaccio/start", ROUTES)
    }

    fn shared(running: &Mutex<Weak<Self>>, example: &str, routes: &str) -> Arc<Self> {
        let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let registry = Arc::new(Self::start(example, routes));
            *running = Arc::downgrade(&registry);
            registry
        })
    }

    fn start(example: &str, routes: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
        let provider = || {
            let key = Arc::new(SigningKey::generate(KeyKind::Rsa2048).unwrap());
            LoopbackProvider::start_https(Arc::new(SystemClock), vec![key], certificate.server_config().unwrap())
        };
        let (github, gitlab) = (provider().unwrap(), provider().unwrap());
        let (front, inner) = (free_address(), free_address());
        let url = format!("https://{front}/");

        for name in ["policy", "home"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("policy/policy.yaml"), policy(&url, routes, &github, &gitlab)).unwrap();
        fs::write(path("policy/ca.pem"), certificate.authority_pem()).unwrap();
        fs::write(path("certificate.pem"), certificate.certificate_pem()).unwrap();
        certificate.write_key(&path("key.pem")).unwrap();
        let mut private = fs::OpenOptions::new();
        let mut api_key = private.write(true).create_new(true).mode(0o600).open(path("api-key")).unwrap();
        api_key.write_all(API_KEY.as_bytes()).unwrap();
        fs::write(path("settings.yaml"), SETTINGS).unwrap();
        let active = SystemClock.now().minus(Duration::from_secs(60)).to_string();
        let mut keys = Command::new(TRUSTMINT);
        said(keys.args(["keys", "new", "--activate-at", &active, "--directory"]).arg(path("keys"))).success();

        let started = SystemClock.now();
        let (service, line) = Process::start(
            Command::new(TRUSTMINT).arg("serve").arg("--config").arg(path("settings.yaml")),
            |child| Box::new(child.stderr.take().unwrap()),
            "serving at ",
        );
        let service_address = line.split_once("http://").unwrap().1.split(',').next().unwrap();
        let (registry, _) = Process::start(
            Command::new(Path::new(REPOSITORY).join(example))
                .env("DIRECTORY", path("run"))
                .env("CERTIFICATE", path("certificate.pem"))
                .env("KEY", path("key.pem"))
                .env("API_KEY_FILE", path("api-key"))
                .env("TRUSTMINT", service_address)
                .env("LISTEN", front.to_string())
                .env("VERDACCIO_PORT", inner.port().to_string())
                .env("VERDACCIO", tool("TRUSTMINT_TEST_VERDACCIO"))
                .env("NODE", tool("TRUSTMINT_TEST_NODE"))
                .env("NGINX", tool("TRUSTMINT_TEST_NGINX")),
            |child| Box::new(child.stdout.take().unwrap()),
            "ready: ",
        );
        // ID tokens are dated in whole seconds, and one of the second in which the service started could be an old one.
        while SystemClock.now().unix_seconds() <= started.unix_seconds() {
            thread::yield_now();
        }
        let service_address = service_address.to_owned();
        Self { url, service: service_address, _registry: registry, _service: service, github, gitlab, directory }
    }

    /// A job of `acme/widgets` at GitHub, with other claims put over its own.
    pub fn github_job(&self, overrides: &Value) -> Job {
        let mut claims = example("github", "tag-push", &widgets(overrides));
        claims["iss"] = json!(self.github.issuer());
        // Each job has its own place to ask for ID tokens; the issuer's key signs them.
        let provider = LoopbackProvider::start_with(Arc::new(SystemClock), self.github.keys().to_vec()).unwrap();
        provider.run_job(&claims);
        let variables = vec![
            ("CI", "true".into()),
            ("GITHUB_ACTIONS", "true".into()),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", provider.token_request_url()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", provider.token_request_token()),
        ];
        Job { variables, _provider: Some(provider) }
    }

    /// A job of `acme/tools/sprockets` at GitLab, which finds its one ID token in a variable.
    pub fn gitlab_job(&self) -> Job {
        let project = json!({"project_path": "acme/tools/sprockets", "project_id": "53804090", "namespace_id": "7211"});
        let claims = example("gitlab", "tag-push", &project);
        // As the job's YAML says it: without a port.
        let claims = self.gitlab.claims(&claims, "npm:127.0.0.1", SystemClock.now());
        let token = self.gitlab.mint(&claims);
        let variables = vec![("CI", "true".into()), ("GITLAB_CI", "true".into()), ("NPM_ID_TOKEN", token)];
        Job { variables, _provider: None }
    }

    /// No job at all.
    pub fn laptop(&self) -> Job {
        Job { variables: Vec::new(), _provider: None }
    }

    /// An upload token for a package of `acme/widgets`, asked for with curl.
    pub fn upload_token(&self, package: &str) -> String {
        let claims = self.github.claims(
            &example("github", "tag-push", &widgets(&json!({}))),
            "npm:127.0.0.1",
            SystemClock.now(),
        );
        let bearer = format!("Authorization: Bearer {}", self.github.mint(&claims));
        let exchange = format!("{}-/npm/v1/oidc/token/exchange/package/{}", self.url, package.replace('/', "%2f"));
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "-X", "POST", "-H", &bearer, &exchange]).arg("--cacert").arg(self.ca());
        let answer: Value = serde_json::from_str(&said(&mut curl).success()).unwrap();
        answer["token"].as_str().unwrap().to_owned()
    }

    /// An `.npmrc` that has this token for the registry.
    pub fn npmrc(&self, token: &str) -> String {
        format!("{}:_authToken={token}\n", self.url.trim_start_matches("https:"))
    }

    /// The file that the registry has of a package's version.
    pub fn file(&self, package: &str, version: &str) -> Option<Vec<u8>> {
        let name = package.rsplit('/').next().unwrap();
        fs::read(self.path("run/storage").join(package).join(format!("{name}-{version}.tgz"))).ok()
    }

    /// What is stored about a package.
    pub fn packument(&self, package: &str) -> String {
        fs::read_to_string(self.path("run/storage").join(package).join("package.json")).unwrap()
    }

    /// `npm` with these arguments.
    pub fn npm(&self, job: &Job, project: &Project, arguments: &[&str]) -> Said {
        let mut npm = self.node("TRUSTMINT_TEST_NPM", job, project);
        npm.args(arguments).args(["--registry", &self.url]);
        // The one way to have a CA of one's own that no npmrc takes away; no waiting before a second try.
        npm.env("NODE_EXTRA_CA_CERTS", self.ca()).env("npm_config_globalconfig", "/dev/null");
        npm.env("npm_config_fetch_retries", "0").env("npm_config_update_notifier", "false");
        said(&mut npm)
    }

    /// `pnpm` with these arguments.
    pub fn pnpm(&self, job: &Job, project: &Project, arguments: &[&str]) -> Said {
        let mut pnpm = self.client(&tool("TRUSTMINT_TEST_PNPM"), job, project);
        pnpm.args(arguments).args(["--no-git-checks", "--registry", &self.url]).env("SSL_CERT_FILE", self.ca());
        said(&mut pnpm)
    }

    /// `yarn` with these arguments.
    pub fn yarn(&self, job: &Job, project: &Project, arguments: &[&str]) -> Said {
        let settings = format!("npmPublishRegistry: '{}'\nenableTelemetry: false\n", self.url);
        fs::write(project.folder.path().join(".yarnrc.yml"), settings).unwrap();
        let yarn = |arguments: &[&str]| {
            let mut yarn = self.node("TRUSTMINT_TEST_YARN", job, project);
            said(yarn.args(arguments).env("NODE_EXTRA_CA_CERTS", self.ca()))
        };
        // In CI it writes no lock file unless it is told to.
        yarn(&["install", "--no-immutable"]).success();
        yarn(arguments)
    }

    /// Refusals of today as the registry reads them: code and message.
    pub fn refusals(&self) -> Vec<(String, String)> {
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--fail-with-body", "-H", &format!("Authorization: Bearer {API_KEY}")]);
        let host = self.url.trim_start_matches("https://").trim_end_matches('/');
        curl.args(["-H", &format!("Host: {host}"), &format!("http://{}/v1/refusals", self.service)]);
        let answer: Value = serde_json::from_str(&said(&mut curl).success()).unwrap();
        let text = |entry: &Value, member: &str| entry[member].as_str().unwrap().to_owned();
        let entries = answer["refusals"].as_array().unwrap().iter();
        entries.map(|entry| (text(entry, "code"), text(entry, "message"))).collect()
    }

    /// A PUT of this JSON with curl, with an upload token if there is one: status and body.
    pub fn put(&self, path: &str, token: Option<&str>, body: &Value) -> (u16, String) {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--path-as-is",
            "-X",
            "PUT",
            "-H",
            "Content-Type: application/json",
            "-w",
            "\\n%{http_code}",
        ]);
        if let Some(token) = token {
            curl.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        let url = format!("{}{}", self.url, path.trim_start_matches('/'));
        curl.args(["--data-binary", &body.to_string(), &url]).arg("--cacert").arg(self.ca());
        let answer = said(&mut curl).success();
        let (body, status) = answer.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    /// A client that Node.js runs.
    fn node(&self, script: &str, job: &Job, project: &Project) -> Command {
        let mut node = self.client(&tool("TRUSTMINT_TEST_NODE"), job, project);
        node.arg(tool(script));
        node
    }

    /// A client in a job, with nothing else in its environment.
    fn client(&self, program: &Path, job: &Job, project: &Project) -> Command {
        let mut client = Command::new(program);
        let node = tool("TRUSTMINT_TEST_NODE");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", node.parent().unwrap().display());
        client.env_clear().env("PATH", path).env("HOME", self.path("home")).envs(job.variables.iter().cloned());
        client.current_dir(project.folder.path());
        client
    }

    fn ca(&self) -> PathBuf {
        self.path("policy/ca.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// The routes of the README of `examples/forward-auth`, in JSON, which is YAML.
const ROUTES: &str = r#"{"proxy": "nginx", "allow": [
    {"method": "PUT", "path": "/{package}", "action": "upload"},
    {"method": "PUT", "path": "/{package}/-rev/{*}", "action": "delete"},
    {"method": "DELETE", "path": "/{package}/-rev/{*}", "action": "delete"},
    {"method": "DELETE", "path": "/{package}/-/{*}/-rev/{*}", "action": "delete"},
    {"method": "PUT", "path": "/-/package/{package}/dist-tags/{*}", "action": "tag"},
    {"method": "DELETE", "path": "/-/package/{package}/dist-tags/{*}", "action": "tag"}
]}"#;

fn policy(url: &str, routes: &str, github: &LoopbackProvider, gitlab: &LoopbackProvider) -> String {
    let issuer = |provider: &str, issuer: &LoopbackProvider| json!({"provider": provider, "url": issuer.issuer(), "ca_file": "ca.pem", "allow_networks": ["127.0.0.0/8"]});
    let (widgets, sprockets) = (["@acme/widgets", "@acme/widgets-*"], ["@acme/sprockets", "@acme/sprockets-*"]);
    // JSON is YAML.
    let mut policy = json!({
        "issuers": {"github": issuer("github", github), "gitlab": issuer("gitlab", gitlab)},
        "registries": {"acme-npm": {
            "dialect": "npm", "urls": [url],
            "callers": {"verdaccio": {"key_sha256": hex(&sha256(API_KEY.as_bytes()))}},
        }},
        "rules": {
            "widgets-release": {
                "registry": "acme-npm", "issuer": "github",
                "when": {
                    "repository_owner_id": "9123456", "repository_id": "701234567", "repository": "acme/widgets",
                    "workflow_file": "release.yml", "environment": "release", "tag": {"glob": "v*"},
                },
                "allow": {"upload": widgets, "create": widgets, "tag": widgets},
            },
            "sprockets-release": {
                "registry": "acme-npm", "issuer": "gitlab",
                "when": {"namespace_id": "7211", "project_id": "53804090", "project_path": "acme/tools/sprockets"},
                "allow": {"upload": sprockets, "create": sprockets},
            },
        },
    });
    if !routes.is_empty() {
        policy["registries"]["acme-npm"]["routes"] = serde_json::from_str(routes).unwrap();
    }
    policy.to_string()
}
