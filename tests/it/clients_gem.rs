//! gem, unmodified, pushes to the example's server with the key that configure-rubygems-credentials got for it.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::json;

use crate::support::actions::configure_rubygems_credentials;
use crate::support::front::Front;
use crate::support::front::GEMS;
use crate::support::front::Said;
use crate::support::front::said;
use crate::support::front::tool;
use crate::support::page::gitlab_block;
use crate::support::service::AUDIENCE;

#[test]
fn gem_pushes_and_the_file_arrives_byte_for_byte() {
    let front = GEMS.front();
    let key = configure_rubygems_credentials(&front, &front.github_job(&json!({})), AUDIENCE).unwrap();
    let gem = build(&front, "widgets", "1.0.0");
    let output = push(&front, &key, &gem).success();
    assert!(output.contains("Successfully registered gem: widgets (1.0.0)"), "{output}");
    assert!(front.has(&gem));
}

#[test]
fn gem_says_which_gems_the_key_is_for() {
    let front = GEMS.front();
    let key = configure_rubygems_credentials(&front, &front.github_job(&json!({})), AUDIENCE).unwrap();
    let gem = build(&front, "gadgets", "1.0.0");
    let said = push(&front, &key, &gem);
    said.failure(&["package-not-covered: the token is for `widgets`, `widgets-*`; `gadgets` was uploaded"]);
    assert!(!front.has(&gem));
}

#[test]
fn a_gem_is_the_one_that_its_specification_names_whatever_its_file_is_called() {
    let front = GEMS.front();
    let key = configure_rubygems_credentials(&front, &front.github_job(&json!({})), AUDIENCE).unwrap();
    let gem = build(&front, "gadgets", "1.1.0");
    let disguised = gem.with_file_name("widgets-1.1.0.gem");
    fs::copy(&gem, &disguised).unwrap();
    push(&front, &key, &disguised).failure(&["`gadgets` was uploaded"]);
    assert!(!front.has(&disguised) && !front.has(&gem));
}

#[test]
fn the_action_says_that_the_id_token_was_used_before() {
    let front = GEMS.front();
    let job = front.github_job_with_one_token(AUDIENCE);
    configure_rubygems_credentials(&front, &job, AUDIENCE).unwrap();
    let error = configure_rubygems_credentials(&front, &job, AUDIENCE).unwrap_err();
    assert!(error.starts_with("this ID token was already exchanged, at 20"), "{error}");
}

#[test]
fn the_action_says_which_environment_the_rule_wants() {
    let front = GEMS.front();
    let job = front.github_job(&json!({"environment": "staging"}));
    let error = configure_rubygems_credentials(&front, &job, AUDIENCE).unwrap_err();
    let wants = "the rule `widgets-release` wants `environment: release`, and the token has `environment: staging`";
    assert!(error.contains(wants), "{error}");
}

#[test]
fn the_pages_steps_for_gitlab_push_and_say_that_the_id_token_was_used_before() {
    let front = GEMS.front();
    let (id_tokens, script) = gitlab_block("Ruby: gem");
    assert_eq!(id_tokens, format!("{{GEMS_ID_TOKEN: {{aud: {AUDIENCE}}}}}"));
    let script = script.replace("https://gems.acme.example", front.url.trim_end_matches('/'));
    let job = front.gitlab_job_with("GEMS_ID_TOKEN", AUDIENCE);
    let run = |version: &str| {
        let gem = build(&front, "sprockets", version);
        let mut bash = front.client(Path::new("bash"));
        job.enter(&mut bash);
        let programs = tool("TRUSTMINT_TEST_GEM").parent().unwrap().display().to_string();
        bash.env("PATH", format!("{programs}:/usr/local/bin:/usr/bin:/bin")).env("CURL_CA_BUNDLE", front.ca());
        bash.args(["-c", &script.replace("widgets-*", &format!("sprockets-{version}*"))]);
        (said(bash.current_dir(gem.parent().unwrap())), front.has(&gem))
    };
    let (said, stored) = run("2.0.0");
    assert!(said.success().contains("Successfully registered gem: sprockets (2.0.0)") && stored);
    let (said, stored) = run("2.1.0");
    said.failure(&["this ID token was already exchanged, at 20"]);
    assert!(!stored);
}

#[test]
fn gem_yanks_only_with_a_key_that_may_yank() {
    let front = GEMS.front();
    let publisher = configure_rubygems_credentials(&front, &front.github_job(&json!({})), AUDIENCE).unwrap();
    let gem = build(&front, "widgets-yanked", "1.0.0");
    push(&front, &publisher, &gem).success();
    // gem succeeds even so.
    let said = yank(&front, &publisher, "widgets-yanked");
    said.says("action-not-covered: the token allows `create`, `upload` on").success();
    assert!(front.stored_in("yanked", "widgets-yanked-1.0.0.gem").is_none());
    let job = front.github_job(&json!({"environment": "yank"}));
    let yanker = configure_rubygems_credentials(&front, &job, AUDIENCE).unwrap();
    let output = yank(&front, &yanker, "widgets-yanked").success();
    assert!(output.contains("Successfully deleted gem: widgets-yanked (1.0.0)"), "{output}");
    assert!(front.stored_in("yanked", "widgets-yanked-1.0.0.gem").is_some());
}

fn yank(front: &Front, key: &str, name: &str) -> Said {
    let mut command = gem_command(front);
    command.env("GEM_HOST_API_KEY", key).args(["yank", name, "--version", "1.0.0", "--host"]);
    said(command.arg(front.url.trim_end_matches('/')))
}

fn build(front: &Front, name: &str, version: &str) -> PathBuf {
    let specification = front.path(&format!("{name}-{version}.gemspec"));
    let text = format!(
        "Gem::Specification.new {{ |s| s.name = '{name}'; s.version = '{version}'; s.summary = 's'; s.authors = ['a']; s.files = [] }}"
    );
    fs::write(&specification, text).unwrap();
    let gem = front.path("dist").join(format!("{name}-{version}.gem"));
    said(gem_command(front).arg("build").arg(&specification).arg("--output").arg(&gem)).success();
    gem
}

fn push(front: &Front, key: &str, gem: &Path) -> Said {
    let mut command = gem_command(front);
    said(command.env("GEM_HOST_API_KEY", key).args(["push", "--host", front.url.trim_end_matches('/')]).arg(gem))
}

fn gem_command(front: &Front) -> std::process::Command {
    let mut gem = front.client(&tool("TRUSTMINT_TEST_GEM"));
    gem.current_dir(front.path("home"));
    gem
}
