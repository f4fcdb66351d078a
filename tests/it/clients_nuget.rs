//! NuGet: the exchange of NuGet/login and the upload of `dotnet nuget push`, by their recorded requests, as .NET is in no
//! package registry that the tests use.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::json;

use crate::support::actions::nuget_login;
use crate::support::front::Front;
use crate::support::front::NUGET;
use crate::support::front::Said;
use crate::support::front::said;
use crate::support::front::tool;
use crate::support::page::gitlab_block;
use crate::support::service::AUDIENCE;

/// Writes the smallest package that a feed can take.
const PACKAGE: &str = "\
import sys, zipfile
path, name, version = sys.argv[1:]
with zipfile.ZipFile(path, 'w') as package:
    package.writestr(f'{name}.nuspec', f'<package><metadata><id>{name}</id><version>{version}</version></metadata></package>')
";

#[test]
fn a_push_with_the_actions_key_is_stored() {
    let front = NUGET.front();
    let key = nuget_login(&front, &front.github_job(&json!({})), "sam", AUDIENCE).unwrap();
    let package = package(&front, "Widgets", "1.0.0");
    push(&front, &key, &package).success();
    assert!(front.has(&package));
}

#[test]
fn a_push_is_told_which_packages_the_key_is_for() {
    let front = NUGET.front();
    let key = nuget_login(&front, &front.github_job(&json!({})), "sam", AUDIENCE).unwrap();
    let package = package(&front, "Gadgets", "2.0.0");
    // The status line, which is what NuGet shows.
    push(&front, &key, &package).failure(&["HTTP/1.1 403 package-not-covered: the token is for `widgets`"]);
    assert!(!front.has(&package));
}

#[test]
fn the_action_says_that_the_id_token_was_used_before() {
    let front = NUGET.front();
    let job = front.github_job_with_one_token(AUDIENCE);
    nuget_login(&front, &job, "sam", AUDIENCE).unwrap();
    let error = nuget_login(&front, &job, "sam", AUDIENCE).unwrap_err();
    assert!(error.contains("/api/v2/token: this ID token was already exchanged, at 20"), "{error}");
}

#[test]
fn the_action_says_which_environment_the_rule_wants() {
    let front = NUGET.front();
    let job = front.github_job(&json!({"environment": "staging"}));
    let error = nuget_login(&front, &job, "sam", AUDIENCE).unwrap_err();
    let wants = "the rule `widgets-release` wants `environment: release`, and the token has `environment: staging`";
    assert!(error.contains(wants), "{error}");
}

/// All of the page's steps but `dotnet` itself.
#[test]
fn the_pages_exchange_for_gitlab_gets_a_key_that_pushes_and_says_that_the_id_token_was_used_before() {
    let front = NUGET.front();
    let (id_tokens, script) = gitlab_block(".NET: NuGet");
    assert_eq!(id_tokens, format!("{{NUGET_ID_TOKEN: {{aud: {AUDIENCE}}}}}"));
    let (exchange, push_line) = script.split_once("\ndotnet nuget push ").unwrap();
    assert!(push_line.contains("--api-key \"$KEY\""));
    let exchange = exchange.replace("https://nuget.acme.example", front.url.trim_end_matches('/'));
    let job = front.gitlab_job_with("NUGET_ID_TOKEN", AUDIENCE);
    let run = || {
        let mut bash = front.client(Path::new("bash"));
        job.enter(&mut bash);
        bash.env("CURL_CA_BUNDLE", front.ca());
        said(bash.args(["-c", &format!("{exchange}\nprintf %s \"$KEY\"")]))
    };
    let package = package(&front, "Sprockets", "5.0.0");
    push(&front, &run().success(), &package).success();
    assert!(front.has(&package));
    run().failure(&["this ID token was already exchanged, at 20"]);
}

/// Named as the feed stores it.
fn package(front: &Front, name: &str, version: &str) -> PathBuf {
    let path = front.path("dist").join(format!("{version}.nupkg"));
    let mut python = front.client(&tool("TRUSTMINT_TEST_PYTHON"));
    said(python.args(["-c", PACKAGE]).arg(&path).args([name, version])).success();
    path
}

fn push(front: &Front, key: &str, package: &Path) -> Said {
    let mut body = b"--b\r\nContent-Type: application/octet-stream\r\nContent-Disposition: form-data; name=package; \
        filename=package.nupkg; filename*=utf-8''package.nupkg\r\n\r\n"
        .to_vec();
    body.extend(fs::read(package).unwrap());
    body.extend(b"\r\n--b--\r\n");
    let form = package.with_extension("form");
    fs::write(&form, body).unwrap();
    let mut curl = front.client(Path::new("curl"));
    curl.args(["-sSi", "--fail-with-body", "-X", "PUT", "-A", "NuGet Command Line/6.11", "--cacert"]).arg(front.ca());
    curl.args(["-H", "Content-Type: multipart/form-data; boundary=\"b\"", "-H", &format!("X-NuGet-ApiKey: {key}")]);
    curl.arg("--data-binary").arg(format!("@{}", form.display()));
    said(curl.arg(format!("{}api/v2/package", front.url)))
}
