//! Upload tokens in a job's own hands: exchanged for, narrowed with our own command, and given to uv.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use serde_json::json;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use super::AUDIENCE;
use super::Front;
use super::Job;
use super::Said;
use super::TRUSTMINT;
use super::said;
use super::tool;
use super::widgets;

impl Front {
    /// An upload token, asked for with curl by a job of `acme/widgets` (RFC 8693).
    pub fn exchanged_token(&self) -> String {
        let claims = super::example("github", "tag-push", &widgets(&json!({})));
        let id_token = self.github.mint(&self.github.claims(&claims, AUDIENCE, SystemClock.now()));
        let url = self.url.replace("/legacy/", "/v1/token");
        let mut curl = self.client(Path::new("curl"));
        curl.args(["-sS", "--fail-with-body", "-d", "grant_type=urn:ietf:params:oauth:grant-type:token-exchange"]);
        curl.args(["-d", "subject_token_type=urn:ietf:params:oauth:token-type:id_token", "--data-urlencode"]);
        let answer = said(curl.arg(format!("subject_token={id_token}")).arg(url).arg("--cacert").arg(self.ca()));
        let answer: Value = serde_json::from_str(&answer.success()).unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        said::tokens_in(&token);
        token
    }

    /// The registry's secrets, as its operator exports them for it.
    pub fn secrets(&self) -> String {
        let folder = tempfile::tempdir_in(self.directory.path()).unwrap();
        let file = folder.path().join("secrets.json");
        let mut export = Command::new(TRUSTMINT);
        export.args(["keys", "export", "--registry", "acme", "--directory"]).arg(self.path("keys"));
        said(export.arg("--policy").arg(self.path("policy")).arg("--out").arg(&file)).success();
        fs::read_to_string(file).unwrap()
    }

    /// `trustmint token attenuate` in the job: what it prints is the narrowed token.
    pub fn narrowed(&self, token: &str, options: &[&str]) -> String {
        let file = tempfile::NamedTempFile::new_in(self.directory.path()).unwrap();
        fs::write(file.path(), token).unwrap();
        said(Command::new(TRUSTMINT).args(["token", "attenuate"]).args(options).arg(file.path())).success()
    }

    /// `uv publish` with an upload token that it is given.
    pub fn uv_with(&self, token: &str, wheel: &Path) -> Said {
        let mut uv = self.client(&tool("TRUSTMINT_TEST_UV"));
        uv.args(["publish", "--no-config", "--trusted-publishing", "never", "--publish-url", &self.url]);
        said(uv.arg(wheel).env("UV_PUBLISH_TOKEN", token))
    }

    /// An upload with curl, which says of a file whatever it is told to.
    pub fn curl_with(&self, token: &str, package: &str, version: &str, file: &Path) -> Said {
        let mut curl = self.client(Path::new("curl"));
        curl.args(["-sS", "--fail-with-body", "-u", &format!("__token__:{token}"), "-F", ":action=file_upload", "-F"]);
        curl.arg(format!("name={package}")).arg("-F").arg(format!("version={version}")).arg("-F");
        said(curl.arg(format!("content=@{}", file.display())).arg(&self.url).arg("--cacert").arg(self.ca()))
    }

    /// A file of the same name and length as a wheel, and a wheel like it, with another content.
    pub fn tampered(&self, wheel: &Path) -> PathBuf {
        let mut bytes = fs::read(wheel).unwrap();
        // The mode of the last file in the archive: 644 becomes 755.
        let mode = (0o100_644_u32 << 16).to_le_bytes();
        let at = bytes.windows(4).rposition(|window| window == mode).unwrap();
        bytes[at..at + 4].copy_from_slice(&(0o100_755_u32 << 16).to_le_bytes());
        let folder = tempfile::tempdir_in(self.directory.path()).unwrap().keep();
        let path = folder.join(wheel.file_name().unwrap());
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Front {
    /// Runs a job's script, as its CI system does, in a folder whose `dist` has this one wheel.
    pub fn run_script(&self, job: &Job, shell: &str, script: &str, tag: &str, wheel: &Path) -> Said {
        let folder = tempfile::tempdir_in(self.directory.path()).unwrap();
        let (dist, programs) = (folder.path().join("dist"), folder.path().join("bin"));
        fs::create_dir(&dist).unwrap();
        fs::copy(wheel, dist.join(wheel.file_name().unwrap())).unwrap();
        fs::create_dir(&programs).unwrap();
        symlink(TRUSTMINT, programs.join("trustmint")).unwrap();
        symlink(tool("TRUSTMINT_TEST_UV"), programs.join("uv")).unwrap();
        let mut run = self.client(Path::new(shell));
        run.args(["-c", script]).current_dir(folder.path()).envs(job.variables.iter().cloned());
        run.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display()))
            .env("CURL_CA_BUNDLE", self.ca());
        run.env("REGISTRY", self.url.trim_end_matches("/legacy/")).env("AUDIENCE", AUDIENCE);
        said(run.env("VERSION", tag).env("CI_COMMIT_TAG", tag))
    }
}
