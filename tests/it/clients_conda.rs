//! rattler-build's uploader, unmodified, publishes to the example's channel as it does to prefix.dev.

use std::path::Path;
use std::path::PathBuf;

use serde_json::json;

use crate::support::front::CONDA;
use crate::support::front::Front;
use crate::support::front::Job;
use crate::support::front::Said;
use crate::support::front::said;
use crate::support::front::tool;

/// Writes the smallest package that a channel can take.
const PACKAGE: &str = "\
import io, json, sys, tarfile
path, name, version = sys.argv[1:]
index = {'name': name, 'version': version, 'build': '0', 'build_number': 0, 'subdir': 'noarch', 'depends': []}
with tarfile.open(path, 'w:bz2') as archive:
    for member, data in [('info/index.json', json.dumps(index).encode()), ('info/files', b'')]:
        info = tarfile.TarInfo(member)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
";

/// What the uploader says of every exchange that was refused.
const NO_KEY: &str = "no prefix.dev API key provided and none found in keychain";

const UPLOAD: &str = "\
import sys
from rattler_build import upload_package_to_prefix
upload_package_to_prefix([sys.argv[2]], sys.argv[1], 'acme')
";

#[test]
fn rattler_build_publishes_and_the_file_arrives_byte_for_byte() {
    let front = CONDA.front();
    let package = package(&front, "widgets", "1.0");
    upload(&front, &front.github_job(&json!({})), &package).success();
    assert!(front.has(&package));
}

/// The name of the variable is made of the registry's host, as the page says; a shell could not set this one.
#[test]
fn rattler_build_in_a_gitlab_job_publishes_with_the_id_token_of_its_variable_once() {
    let front = CONDA.front();
    let (first, second) = (package(&front, "sprockets", "1.0"), package(&front, "sprockets", "1.1"));
    let job = front.gitlab_job_with("127_0_0_1_ID_TOKEN", "127.0.0.1");
    upload(&front, &job, &first).success();
    let said = upload(&front, &job, &second).withholds(&["already exchanged", "token-replayed"]);
    said.failure(&[NO_KEY]);
    assert!(front.has(&first) && !front.has(&second));
}

#[test]
fn rattler_build_says_which_packages_the_token_is_for() {
    let front = CONDA.front();
    let package = package(&front, "gadgets", "1.0");
    let said = upload(&front, &front.github_job(&json!({})), &package);
    said.failure(&[
        "the server rejected the upload (HTTP 403)",
        "package-not-covered: the token is for `widgets`, `widgets-*`; `gadgets` was uploaded",
    ]);
    assert!(!front.has(&package));
}

#[test]
fn rattler_build_hides_why_its_exchange_was_refused_and_the_registry_can_look_it_up() {
    let front = CONDA.front();
    let (first, second) = (package(&front, "widgets", "2.0"), package(&front, "widgets", "2.1"));
    let job = front.github_job_with_one_token("127.0.0.1");
    upload(&front, &job, &first).success();
    let said = upload(&front, &job, &second).withholds(&["already exchanged", "token-replayed"]);
    said.failure(&[NO_KEY]);
    assert!(front.has(&first) && !front.has(&second));
    front.assert_looked_up(&job, "token-replayed", "this ID token was already exchanged");
    let job = front.github_job(&json!({"environment": "staging"}));
    let said = upload(&front, &job, &second).withholds(&["environment-mismatch", "`environment: release`"]);
    said.failure(&[NO_KEY]);
    front.assert_looked_up(&job, "environment-mismatch", "wants `environment: release`");
}

fn package(front: &Front, name: &str, version: &str) -> PathBuf {
    let path = front.path("dist").join(format!("{name}-{version}-0.tar.bz2"));
    let mut python = front.client(&tool("TRUSTMINT_TEST_PYTHON"));
    said(python.args(["-c", PACKAGE]).arg(&path).args([name, version])).success();
    path
}

fn upload(front: &Front, job: &Job, package: &Path) -> Said {
    let mut python = front.client(&tool("TRUSTMINT_TEST_PYTHON"));
    job.enter(&mut python);
    said(python.args(["-c", UPLOAD, front.url.trim_end_matches('/')]).arg(package))
}
