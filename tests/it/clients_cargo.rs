//! cargo, unmodified, publishes to the example's registry with the token that crates-io-auth-action got for it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::support::actions::crates_io_auth_action;
use crate::support::actions::crates_io_auth_action_post;
use crate::support::front::CARGO;
use crate::support::front::Front;
use crate::support::front::Said;
use crate::support::front::said;
use crate::support::page::gitlab_block;

#[test]
fn cargo_publishes_a_crate_and_the_index_has_it() {
    let front = CARGO.front();
    let token = crates_io_auth_action(&front, &front.github_job(&json!({}))).unwrap();
    let package = package(&front, "widgets", "1.0.0");
    publish(&front, &token, &package).success();
    // cargo packed the file again; the index has the digest of what is there, and cargo reads it.
    assert!(front.stored("1.0.0.crate").is_some());
    let info = cargo(&front, &["info", "--registry", "acme", "widgets@1.0.0"], "").success();
    assert!(info.contains("version: 1.0.0"), "{info}");
    // And again: a token is for a whole workspace.
    publish(&front, &token, &self::package(&front, "widgets-extra", "1.0.0")).success();
}

#[test]
fn cargo_says_which_crates_the_token_is_for() {
    let front = CARGO.front();
    let token = crates_io_auth_action(&front, &front.github_job(&json!({}))).unwrap();
    let said = publish(&front, &token, &package(&front, "gadgets", "2.0.0"));
    said.failure(&[
        "the remote server responded with an error (status 403 Forbidden)",
        "package-not-covered: the token is for `widgets`, `widgets-*`; `gadgets` was uploaded",
    ]);
    assert!(front.stored("2.0.0.crate").is_none());
}

#[test]
fn the_action_says_that_the_id_token_was_used_before() {
    let front = CARGO.front();
    let audience = front.url.trim_start_matches("https://").trim_end_matches('/');
    let job = front.github_job_with_one_token(audience);
    crates_io_auth_action(&front, &job).unwrap();
    let error = crates_io_auth_action(&front, &job).unwrap_err();
    assert!(error.contains("Status: 400. this ID token was already exchanged, at 20"), "{error}");
}

#[test]
fn the_action_says_which_environment_the_rule_wants() {
    let front = CARGO.front();
    let error = crates_io_auth_action(&front, &front.github_job(&json!({"environment": "staging"}))).unwrap_err();
    let wants = "the rule `widgets-release` wants `environment: release`, and the token has `environment: staging`";
    assert!(error.contains(wants), "{error}");
}

#[test]
fn the_token_is_of_no_use_after_the_actions_last_step_which_succeeds_twice() {
    let front = CARGO.front();
    let token = crates_io_auth_action(&front, &front.github_job(&json!({}))).unwrap();
    crates_io_auth_action_post(&front, &token).unwrap();
    crates_io_auth_action_post(&front, &token).unwrap();
    let said = publish(&front, &token, &package(&front, "widgets", "3.0.0"));
    said.failure(&["upload-token-revoked: the upload token has been revoked"]);
    assert!(front.stored("3.0.0.crate").is_none());
}

#[test]
fn cargo_yanks_only_with_a_token_that_may_yank() {
    let front = CARGO.front();
    let publisher = crates_io_auth_action(&front, &front.github_job(&json!({}))).unwrap();
    publish(&front, &publisher, &package(&front, "widgets-yanked", "4.0.0")).success();
    let yank = ["yank", "--registry", "acme", "widgets-yanked@4.0.0"];
    cargo(&front, &yank, &publisher).failure(&["action-not-covered"]);
    let yanker = crates_io_auth_action(&front, &front.github_job(&json!({"environment": "yank"}))).unwrap();
    cargo(&front, &yank, &yanker).success();
    let index = fs::read_to_string(front.stored("widgets-yanked").unwrap()).unwrap();
    assert!(index.contains("\"yanked\": true"), "{index}");
    let said = publish(&front, &yanker, &package(&front, "widgets-yanked", "4.1.0"));
    said.failure(&["not-covered"]);
}

#[test]
fn the_pages_steps_for_gitlab_publish_and_say_that_the_id_token_was_used_before() {
    let front = CARGO.front();
    let (id_tokens, script) = gitlab_block("Rust: cargo");
    assert_eq!(id_tokens, "{CRATES_ID_TOKEN: {aud: crates.acme.example}}");
    let host = front.url.trim_start_matches("https://").trim_end_matches('/');
    let job = front.gitlab_job_with("CRATES_ID_TOKEN", host);
    let run = |name: &str, version: &str| {
        let mut bash = environment(&front, Path::new("bash"));
        job.enter(&mut bash);
        bash.env("CURL_CA_BUNDLE", front.ca()).args(["-c", &script.replace("crates.acme.example", host)]);
        said(bash.current_dir(package(&front, name, version)))
    };
    run("sprockets", "5.0.0").success();
    assert!(front.stored("5.0.0.crate").is_some());
    run("sprockets", "5.1.0").failure(&["this ID token was already exchanged, at 20"]);
    assert!(front.stored("5.1.0.crate").is_none());
}

/// A package of that name on disk.
fn package(front: &Front, name: &str, version: &str) -> PathBuf {
    let folder = front.path(&format!("{name}-{version}"));
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = format!(
        "[package]\nname = '{name}'\nversion = '{version}'\nedition = '2021'\ndescription = 'd'\nlicense = 'MIT'\n[workspace]\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::write(folder.join("src/lib.rs"), "").unwrap();
    folder
}

fn publish(front: &Front, token: &str, package: &Path) -> Said {
    let manifest = package.join("Cargo.toml");
    let manifest = manifest.to_str().unwrap();
    cargo(front, &["publish", "--registry", "acme", "--allow-dirty", "--no-verify", "--manifest-path", manifest], token)
}

/// cargo with nothing of this machine's settings.
fn cargo(front: &Front, arguments: &[&str], token: &str) -> Said {
    let mut cargo = environment(front, Path::new(env!("CARGO")));
    if !token.is_empty() {
        cargo.env("CARGO_REGISTRIES_ACME_TOKEN", token);
    }
    said(cargo.args(arguments).current_dir(front.path("home")))
}

/// A program that finds cargo, and cargo the registry.
fn environment(front: &Front, program: &Path) -> Command {
    let mut command = front.client(program);
    let cargo = Path::new(env!("CARGO")).parent().unwrap();
    command.env("PATH", format!("{}:/usr/bin:/bin", cargo.display()));
    command.env("CARGO_HOME", front.path("home/.cargo")).env("CARGO_HTTP_CAINFO", front.ca());
    command.env("CARGO_REGISTRIES_ACME_INDEX", format!("sparse+{}index/", front.url));
    command
}
