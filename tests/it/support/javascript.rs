//! npm, pnpm, yarn and ovsx, unmodified, in a CI job's environment, and what they publish.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::front::Front;
use super::front::Job;
use super::front::Said;
use super::front::said;
use super::front::tool;

/// The folder of a package, a workspace or an extension.
pub struct Project(TempDir);

impl Project {
    /// A package of that name and version.
    pub fn package(name: &str, version: &str) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        manifest(project.0.path(), &json!({"name": name, "version": version}));
        project
    }

    /// A workspace whose members are these packages.
    pub fn workspace(members: &[(&str, &str)]) -> Self {
        let project = Self(tempfile::tempdir().unwrap());
        manifest(project.0.path(), &json!({"name": "root", "private": true, "workspaces": ["packages/*"]}));
        for (number, (name, version)) in members.iter().enumerate() {
            let member = project.0.path().join("packages").join(number.to_string());
            fs::create_dir_all(&member).unwrap();
            manifest(&member, &json!({"name": name, "version": version}));
        }
        project.with("pnpm-workspace.yaml", "packages: ['packages/*']\n")
    }

    /// An extension of the namespace `acme`, packed as `packed.vsix`; the file.
    pub fn extension(name: &str, version: &str) -> (Self, Vec<u8>) {
        let project = Self(tempfile::tempdir().unwrap());
        let folder = project.0.path().join("extension");
        fs::create_dir(&folder).unwrap();
        manifest(&folder, &json!({"publisher": "acme", "name": name, "version": version, "engines": {"vscode": "*"}}));
        let mut zip = Command::new(tool("TRUSTMINT_TEST_PYTHON"));
        zip.args(["-m", "zipfile", "-c", "packed.vsix", "extension"]).current_dir(project.0.path());
        said(&mut zip).success();
        let file = fs::read(project.0.path().join("packed.vsix")).unwrap();
        (project, file)
    }

    /// With a client's configuration.
    pub fn with(self, file: &str, text: &str) -> Self {
        fs::write(self.0.path().join(file), text).unwrap();
        self
    }

    /// Packs the package by hand, as `packed.tgz`; the file.
    pub fn pack(&self) -> Vec<u8> {
        let mut tar = Command::new("tar");
        tar.args(["-czf", "packed.tgz", "--transform", "s,^,package/,", "package.json", "index.js"]);
        said(tar.current_dir(self.0.path())).success();
        fs::read(self.0.path().join("packed.tgz")).unwrap()
    }
}

fn manifest(folder: &Path, package: &Value) {
    fs::write(folder.join("package.json"), package.to_string()).unwrap();
    fs::write(folder.join("index.js"), "module.exports = 1;\n").unwrap();
}

/// `npm` with these arguments.
pub fn npm(front: &Front, job: &Job, project: &Project, arguments: &[&str]) -> Said {
    npm_at(front, &front.url, job, project, arguments)
}

/// The same, at a registry of that URL.
pub fn npm_at(front: &Front, registry: &str, job: &Job, project: &Project, arguments: &[&str]) -> Said {
    let mut npm = node(front, "TRUSTMINT_TEST_NPM", job, project);
    npm.args(arguments).args(["--registry", registry]);
    // No other npmrc, which could have a `cafile`; no waiting before a second try.
    npm.env("npm_config_globalconfig", "/dev/null").env("npm_config_fetch_retries", "0");
    said(npm.env("npm_config_update_notifier", "false"))
}

/// `pnpm` with these arguments.
pub fn pnpm(front: &Front, job: &Job, project: &Project, arguments: &[&str]) -> Said {
    pnpm_at(front, &front.url, job, project, arguments)
}

/// The same, at a registry of that URL.
pub fn pnpm_at(front: &Front, registry: &str, job: &Job, project: &Project, arguments: &[&str]) -> Said {
    let mut pnpm = client(front, &tool("TRUSTMINT_TEST_PNPM"), job, project);
    said(pnpm.args(arguments).args(["--no-git-checks", "--registry", registry]))
}

/// `yarn` with these arguments, after it has looked at the project.
pub fn yarn(front: &Front, job: &Job, project: &Project, arguments: &[&str]) -> Said {
    yarn_at(front, &front.url, job, project, arguments)
}

/// The same, at a registry of that URL.
pub fn yarn_at(front: &Front, registry: &str, job: &Job, project: &Project, arguments: &[&str]) -> Said {
    // The loopback provider has no TLS, as GitHub's has.
    let settings =
        format!("npmPublishRegistry: '{registry}'\nunsafeHttpWhitelist: ['127.0.0.1']\nenableTelemetry: false\n");
    fs::write(project.0.path().join(".yarnrc.yml"), settings).unwrap();
    // In CI it writes no lock file unless it is told to.
    said(node(front, "TRUSTMINT_TEST_YARN", job, project).args(["install", "--no-immutable"])).success();
    said(node(front, "TRUSTMINT_TEST_YARN", job, project).args(arguments))
}

/// `ovsx publish` of `packed.vsix`.
pub fn ovsx(front: &Front, job: &Job, project: &Project) -> Said {
    let mut ovsx = node(front, "TRUSTMINT_TEST_OVSX", job, project);
    said(ovsx.args(["publish", "packed.vsix", "--registryUrl", &front.url]))
}

/// An upload token for one package of npm, asked for with curl by a job of `acme/widgets` with other claims put over its own.
pub fn upload_token(front: &Front, package: &str, overrides: &Value) -> String {
    let bearer = format!("Authorization: Bearer {}", front.id_token("npm:127.0.0.1", overrides));
    let exchange = format!("{}-/npm/v1/oidc/token/exchange/package/{}", front.url, package.replace('/', "%2f"));
    let mut curl = front.client(Path::new("curl"));
    curl.args(["-sS", "--fail-with-body", "-X", "POST", "-H", &bearer, &exchange]).arg("--cacert").arg(front.ca());
    let answer: Value = serde_json::from_str(&said(&mut curl).success()).unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

/// An `.npmrc` that has this token for the registry.
pub fn npmrc(front: &Front, token: &str) -> String {
    format!("{}:_authToken={token}\n", front.url.trim_start_matches("https:"))
}

/// The tarball that the registry has of a package's version.
pub fn tarball(front: &Front, package: &str, version: &str) -> Option<Vec<u8>> {
    let name = package.rsplit('/').next().unwrap();
    fs::read(front.path("run/packages").join(package).join(format!("{name}-{version}.tgz"))).ok()
}

/// What the registry has about a package.
pub fn packument(front: &Front, package: &str) -> String {
    fs::read_to_string(front.path("run/packages").join(package).join("package.json")).unwrap()
}

/// A PUT of JSON with curl, with an upload token if there is one: status and body.
pub fn put(front: &Front, path: &str, token: Option<&str>, body: &Value) -> (u16, String) {
    let mut curl = front.client(Path::new("curl"));
    curl.args(["-sS", "--path-as-is", "-X", "PUT", "-H", "Content-Type: application/json", "-w", "\\n%{http_code}"]);
    if let Some(token) = token {
        curl.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let url = format!("{}{}", front.url, path.trim_start_matches('/'));
    curl.args(["--data-binary", &body.to_string(), &url]).arg("--cacert").arg(front.ca());
    let answer = said(&mut curl).success();
    let (body, status) = answer.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// A client that Node.js runs.
fn node(front: &Front, script: &str, job: &Job, project: &Project) -> Command {
    let mut node = client(front, &tool("TRUSTMINT_TEST_NODE"), job, project);
    node.arg(tool(script));
    node
}

fn client(front: &Front, program: &Path, job: &Job, project: &Project) -> Command {
    let mut client = front.client(program);
    let node = tool("TRUSTMINT_TEST_NODE");
    client.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", node.parent().unwrap().display()));
    client.env("NODE_EXTRA_CA_CERTS", front.ca()).current_dir(project.0.path());
    job.enter(&mut client);
    client
}
