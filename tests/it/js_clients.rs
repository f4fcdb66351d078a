//! npm, pnpm and yarn, unmodified, publish through nginx and TLS into a verdaccio that asks trustmint, or whose nginx does,
//! and ovsx into a registry of extensions; what their users read when they are refused; and that a client which then goes on
//! without a token, or with another, gets nowhere.
//!
//! Each test publishes packages of its own: npm does not publish a version below the latest.

use std::fs;

use serde_json::Value;
use serde_json::json;

use crate::support::front::Front;
use crate::support::front::GUARDED_VERDACCIO;
use crate::support::front::Job;
use crate::support::front::OPEN_VSX;
use crate::support::front::Said;
use crate::support::front::VERDACCIO;
use crate::support::javascript::Project;
use crate::support::javascript::npm;
use crate::support::javascript::npm_at;
use crate::support::javascript::npmrc;
use crate::support::javascript::ovsx;
use crate::support::javascript::packument;
use crate::support::javascript::pnpm;
use crate::support::javascript::pnpm_at;
use crate::support::javascript::put;
use crate::support::javascript::tarball;
use crate::support::javascript::upload_token;
use crate::support::javascript::yarn;
use crate::support::javascript::yarn_at;
use crate::support::page::exchange_by_hand;
use crate::support::page::masked_token;
use crate::support::page::section;

/// Why the rules do not grant `@acme/gadgets`, as the exchange says it.
const NOT_GRANTED: &str = "`@acme/gadgets` is not granted: the rule `widgets-release` grants create:@acme/widgets,";
/// What the registry says to who comes without a token.
const NO_TOKEN: &str = "no upload token was sent, and nothing else is accepted";
const REPLAYED: &str = "this ID token was already exchanged, at 20";

#[test]
fn npm_in_a_github_job_publishes_and_the_file_arrives_byte_for_byte() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/widgets", "1.0.0");
    let file = project.pack();
    npm(&front, &front.github_job(&json!({})), &project, &["publish", "./packed.tgz"]).success();
    assert_eq!(tarball(&front, "@acme/widgets", "1.0.0"), Some(file));
}

#[test]
fn npm_in_a_github_job_publishes_a_workspace() {
    let front = VERDACCIO.front();
    let project = Project::workspace(&[("@acme/widgets-core", "1.0.0"), ("@acme/widgets-cli", "1.0.0")]);
    npm(&front, &front.github_job(&json!({})), &project, &["publish", "--workspaces"]).success();
    for package in ["@acme/widgets-core", "@acme/widgets-cli"] {
        assert!(tarball(&front, package, "1.0.0").is_some(), "{package}");
    }
}

#[test]
fn npm_in_a_gitlab_job_publishes_a_workspace_with_one_id_token() {
    let front = VERDACCIO.front();
    let project = Project::workspace(&[("@acme/sprockets", "1.0.0"), ("@acme/sprockets-cli", "1.0.0")]);
    npm(&front, &front.gitlab_job_with("NPM_ID_TOKEN", "npm:127.0.0.1"), &project, &["publish", "--workspaces"])
        .success();
    for package in ["@acme/sprockets", "@acme/sprockets-cli"] {
        assert!(tarball(&front, package, "1.0.0").is_some(), "{package}");
    }
}

#[test]
fn npm_shows_why_a_package_is_refused_only_when_it_is_asked_to_and_the_registry_can_look_it_up() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/gadgets", "1.0.0");
    let logs = tempfile::tempdir().unwrap();
    let job = front.github_job(&json!({})).with("npm_config_logs_dir", logs.path().to_str().unwrap());
    let said = npm(&front, &job, &project, &["publish"]).withholds(&["is not granted", "grants create:"]);
    said.failure(&["npm error code ENEEDAUTH", "`npm login`"]);
    let mut logged = fs::read_dir(logs.path()).unwrap().map(|log| fs::read_to_string(log.unwrap().path()).unwrap());
    let reason = "oidc Failed token exchange request with body message: `@acme/gadgets`";
    assert!(logged.any(|log| log.contains(reason)), "its debug log has the reason");
    let said = npm(&front, &job, &project, &["publish", "--loglevel", "verbose"]);
    said.failure(&["npm verbose oidc Failed token exchange request with body message: `@acme/gadgets`", NOT_GRANTED]);
    assert_eq!(tarball(&front, "@acme/gadgets", "1.0.0"), None);
    front.assert_looked_up(&job, "package-not-granted", NOT_GRANTED);
}

#[test]
fn npm_publishes_a_package_once_with_one_id_token() {
    let front = VERDACCIO.front();
    let (first, second) =
        (Project::package("@acme/sprockets-npm", "2.0.0"), Project::package("@acme/sprockets-npm", "2.1.0"));
    let job = front.gitlab_job_with("NPM_ID_TOKEN", "npm:127.0.0.1");
    npm(&front, &job, &first, &["publish"]).success();
    let said = npm(&front, &job, &second, &["publish", "--loglevel", "verbose"]);
    said.failure(&["npm error code ENEEDAUTH", REPLAYED, "request a fresh ID token"]);
    assert!(tarball(&front, "@acme/sprockets-npm", "2.0.0").is_some());
    assert_eq!(tarball(&front, "@acme/sprockets-npm", "2.1.0"), None);
}

#[test]
fn npm_that_goes_on_with_a_stored_token_is_stopped_by_the_registry() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/gadgets", "1.1.0").with(".npmrc", &npmrc(&front, "stored-long-ago"));
    let said = npm(&front, &front.github_job(&json!({})), &project, &["publish", "--loglevel", "verbose"]);
    said.failure(&[
        "npm verbose oidc Failed token exchange request",
        NOT_GRANTED,
        "npm error code E403",
        "403 Forbidden - PUT",
        "upload-token-malformed: ",
    ]);
    assert_eq!(tarball(&front, "@acme/gadgets", "1.1.0"), None);
}

#[test]
fn npm_says_which_packages_the_token_is_for() {
    let front = VERDACCIO.front();
    let token = upload_token(&front, "@acme/widgets", &json!({}));
    let project = Project::package("@acme/gadgets", "1.2.0").with(".npmrc", &npmrc(&front, &token));
    let said = npm(&front, &Job::none(), &project, &["publish"]);
    said.failure(&[
        "npm error code E403",
        "package-not-covered: the token is for `@acme/widgets`; `@acme/gadgets` was uploaded",
    ]);
    assert_eq!(tarball(&front, "@acme/gadgets", "1.2.0"), None);
}

#[test]
fn npm_edits_a_packument_only_as_the_token_allows() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/widgets-edited", "1.0.0");
    npm(&front, &front.github_job(&json!({})), &project, &["publish"]).success();
    let token = upload_token(&front, "@acme/widgets-edited", &json!({"environment": "yank"}));
    let project = project.with(".npmrc", &npmrc(&front, &token));
    let npm = |arguments: &[&str]| npm(&front, &Job::none(), &project, arguments);
    npm(&["dist-tag", "add", "@acme/widgets-edited@1.0.0", "stable"]).success();
    assert_eq!(tagged(&front, "@acme/widgets-edited", "stable"), "1.0.0");
    let refused = ["npm error code E403", "action-not-covered: "];
    npm(&["deprecate", "@acme/widgets-edited@1.0.0", "old"]).failure(&refused);
    npm(&["unpublish", "@acme/widgets-edited", "--force"]).failure(&refused);
    assert!(tarball(&front, "@acme/widgets-edited", "1.0.0").is_some());
    assert_eq!(deprecation(&front, "@acme/widgets-edited", "1.0.0"), Value::Null);
}

#[test]
fn the_pages_last_section_gets_a_token_for_one_package_that_npm_adds_a_tag_with() {
    let said = section("Anything else");
    assert!(said.contains("`-d scope=tag:@acme/widgets`") && said.contains("`npm:npm.acme.example`"), "{said}");
    let front = VERDACCIO.front();
    let project = Project::package("@acme/widgets-by-hand", "1.0.0");
    npm(&front, &front.github_job(&json!({})), &project, &["publish"]).success();
    let job = front.github_job(&json!({"environment": "yank"}));
    exchange_by_hand(&front, &job, "npm:127.0.0.1", "").failure(&["`scope` must name exactly one package"]);
    let output = exchange_by_hand(&front, &job, "npm:127.0.0.1", "-d scope=tag:@acme/widgets-by-hand").success();
    let project = project.with(".npmrc", &npmrc(&front, &masked_token(&output)));
    let add = ["dist-tag", "add", "@acme/widgets-by-hand@1.0.0", "stable"];
    npm(&front, &Job::none(), &project, &add).success();
    assert_eq!(tagged(&front, "@acme/widgets-by-hand", "stable"), "1.0.0");
}

#[test]
fn npm_deprecates_with_a_token_that_may_deprecate_and_that_one_moves_no_tag() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/widgets-old", "1.0.0");
    npm(&front, &front.github_job(&json!({})), &project, &["publish"]).success();
    let token = upload_token(&front, "@acme/widgets-old", &json!({"environment": "retire"}));
    let project = project.with(".npmrc", &npmrc(&front, &token));
    let npm = |arguments: &[&str]| npm(&front, &Job::none(), &project, arguments);
    npm(&["deprecate", "@acme/widgets-old@1.0.0", "use widgets"]).success();
    assert_eq!(deprecation(&front, "@acme/widgets-old", "1.0.0"), "use widgets");
    let refused = ["npm error code E403", "action-not-covered: "];
    npm(&["dist-tag", "add", "@acme/widgets-old@1.0.0", "stable"]).failure(&refused);
    npm(&["unpublish", "@acme/widgets-old", "--force"]).failure(&refused);
    assert!(tarball(&front, "@acme/widgets-old", "1.0.0").is_some());
}

/// The version that the registry has under a tag.
fn tagged(front: &Front, package: &str, tag: &str) -> Value {
    let packument: Value = serde_json::from_str(&packument(front, package)).unwrap();
    packument["dist-tags"][tag].clone()
}

/// What the registry says of a deprecated version.
fn deprecation(front: &Front, package: &str, version: &str) -> Value {
    let packument: Value = serde_json::from_str(&packument(front, package)).unwrap();
    packument["versions"][version]["deprecated"].clone()
}

/// The requests for an upload token for a package, as nginx writes them down.
fn exchanges(front: &Front, package: &str) -> Vec<String> {
    // It has written down what came before it answers what comes next.
    put(front, "/nothing", None, &json!({}));
    let log = fs::read_to_string(front.path("run/nginx-access.log")).unwrap();
    let exchange = format!("/exchange/package/{package} ");
    log.lines().filter(|line| line.contains(&exchange)).map(str::to_owned).collect()
}

#[test]
fn npm_that_publishes_nothing_but_a_try_exchanges_all_the_same() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/widgets-tried", "1.0.0");
    npm(&front, &front.github_job(&json!({})), &project, &["publish", "--dry-run"]).success();
    let asked = exchanges(&front, "@acme/widgets-tried");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(tarball(&front, "@acme/widgets-tried", "1.0.0"), None);
}

/// What clients do with a registry below a path, which this one is not: whatever answers there, nginx writes down what they
/// asked for.
#[test]
fn below_a_path_npm_exchanges_at_the_root_of_the_host_and_pnpm_and_yarn_below_the_path() {
    type Client = fn(&Front, &str, &Job, &Project, &[&str]) -> Said;
    let front = VERDACCIO.front();
    let below = format!("{}registry/npm/", front.url);
    let clients: [(&str, Client, &[&str], &str); 3] = [
        ("npm", npm_at, &["publish"], ""),
        ("pnpm", pnpm_at, &["publish"], "/registry/npm"),
        ("yarn", yarn_at, &["npm", "publish"], "/registry/npm"),
    ];
    for (name, client, arguments, path) in clients {
        let package = format!("@acme/widgets-below-{name}");
        let project = Project::package(&package, "1.0.0");
        client(&front, &below, &front.github_job(&json!({})), &project, arguments).failure(&[]);
        let asked = exchanges(&front, &package);
        assert!(!asked.is_empty(), "{name}");
        let exchange = format!(" POST {path}/-/npm/v1/oidc/token/exchange/package/{package} ");
        assert!(asked.iter().all(|line| line.contains(&exchange)), "{name}: {asked:?}");
    }
}

#[test]
fn pnpm_in_a_github_job_publishes_a_scoped_package() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/widgets-pnpm", "3.0.0");
    pnpm(&front, &front.github_job(&json!({})), &project, &["publish"]).success();
    assert!(tarball(&front, "@acme/widgets-pnpm", "3.0.0").is_some());
}

#[test]
fn pnpm_in_a_gitlab_job_publishes_a_workspace_with_one_id_token() {
    let front = VERDACCIO.front();
    let project = Project::workspace(&[("@acme/sprockets-a", "3.0.0"), ("@acme/sprockets-b", "3.0.0")]);
    pnpm(&front, &front.gitlab_job_with("NPM_ID_TOKEN", "npm:127.0.0.1"), &project, &["--recursive", "publish"])
        .success();
    for package in ["@acme/sprockets-a", "@acme/sprockets-b"] {
        assert!(tarball(&front, package, "3.0.0").is_some(), "{package}");
    }
}

#[test]
fn pnpm_says_why_a_package_is_refused_goes_on_without_a_token_and_is_stopped_by_the_registry() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/gadgets", "3.0.0");
    let said = pnpm(&front, &front.github_job(&json!({})), &project, &["publish"]);
    said.failure(&[NOT_GRANTED, "ERR_PNPM_FAILED_TO_PUBLISH", "status 403 Forbidden", NO_TOKEN]);
    assert_eq!(tarball(&front, "@acme/gadgets", "3.0.0"), None);
}

#[test]
fn pnpm_publishes_a_package_once_with_one_id_token() {
    let front = VERDACCIO.front();
    let (first, second) =
        (Project::package("@acme/sprockets-pnpm", "3.0.0"), Project::package("@acme/sprockets-pnpm", "3.1.0"));
    let job = front.gitlab_job_with("NPM_ID_TOKEN", "npm:127.0.0.1");
    pnpm(&front, &job, &first, &["publish"]).success();
    pnpm(&front, &job, &second, &["publish"]).failure(&[REPLAYED, "status 403 Forbidden", NO_TOKEN]);
    assert!(tarball(&front, "@acme/sprockets-pnpm", "3.0.0").is_some());
    assert_eq!(tarball(&front, "@acme/sprockets-pnpm", "3.1.0"), None);
}

#[test]
fn yarn_in_a_github_job_publishes_a_scoped_package() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/widgets-yarn", "4.0.0");
    yarn(&front, &front.github_job(&json!({})), &project, &["npm", "publish"]).success();
    assert!(tarball(&front, "@acme/widgets-yarn", "4.0.0").is_some());
}

#[test]
fn yarn_in_a_gitlab_job_publishes_a_workspace_with_one_id_token() {
    let front = VERDACCIO.front();
    let project = Project::workspace(&[("@acme/sprockets-c", "4.0.0"), ("@acme/sprockets-d", "4.0.0")]);
    let all = ["workspaces", "foreach", "--all", "--no-private", "npm", "publish"];
    yarn(&front, &front.gitlab_job_with("NPM_ID_TOKEN", "npm:127.0.0.1"), &project, &all).success();
    for package in ["@acme/sprockets-c", "@acme/sprockets-d"] {
        assert!(tarball(&front, package, "4.0.0").is_some(), "{package}");
    }
}

#[test]
fn yarn_does_not_say_why_a_package_is_refused_and_the_registry_can_look_it_up() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/gadgets", "4.0.0");
    let job = front.github_job(&json!({}));
    let said = yarn(&front, &job, &project, &["npm", "publish"]).withholds(&["is not granted", "grants create:"]);
    said.failure(&["YN0033: No authentication configured for request"]);
    assert_eq!(tarball(&front, "@acme/gadgets", "4.0.0"), None);
    front.assert_looked_up(&job, "package-not-granted", NOT_GRANTED);
}

#[test]
fn yarn_publishes_a_package_once_with_one_id_token() {
    let front = VERDACCIO.front();
    let (first, second) =
        (Project::package("@acme/sprockets-yarn", "4.0.0"), Project::package("@acme/sprockets-yarn", "4.1.0"));
    let job = front.gitlab_job_with("NPM_ID_TOKEN", "npm:127.0.0.1");
    yarn(&front, &job, &first, &["npm", "publish"]).success();
    let said = yarn(&front, &job, &second, &["npm", "publish"]).withholds(&["already exchanged", "token-replayed"]);
    said.failure(&["YN0033: No authentication configured for request"]);
    assert!(tarball(&front, "@acme/sprockets-yarn", "4.0.0").is_some());
    assert_eq!(tarball(&front, "@acme/sprockets-yarn", "4.1.0"), None);
    front.assert_looked_up(&job, "token-replayed", REPLAYED);
}

#[test]
fn yarn_with_a_stored_token_exchanges_nothing_and_is_stopped_by_the_registry() {
    let front = VERDACCIO.front();
    let project = Project::package("@acme/gadgets-stored", "4.1.0").with(".npmrc", "");
    let job = front.github_job(&json!({})).with("YARN_NPM_AUTH_TOKEN", "stored-long-ago");
    yarn(&front, &job, &project, &["npm", "publish"]).failure(&["upload-token-malformed: "]);
    assert_eq!(tarball(&front, "@acme/gadgets-stored", "4.1.0"), None);
    assert_eq!(exchanges(&front, "@acme/gadgets-stored"), Vec::<String>::new());
    // Without that token it would have asked.
    yarn(&front, &front.github_job(&json!({})), &project, &["npm", "publish"]).failure(&[]);
    assert!(!exchanges(&front, "@acme/gadgets-stored").is_empty());
}

#[test]
fn behind_forward_auth_npm_publishes_into_a_verdaccio_that_knows_nothing_of_tokens() {
    let front = GUARDED_VERDACCIO.front();
    let project = Project::package("@acme/widgets", "5.0.0");
    let file = project.pack();
    npm(&front, &front.github_job(&json!({})), &project, &["publish", "./packed.tgz"]).success();
    assert_eq!(tarball(&front, "@acme/widgets", "5.0.0"), Some(file));
}

#[test]
fn behind_forward_auth_npm_says_which_packages_the_token_is_for_and_nobody_goes_on_without_one() {
    let front = GUARDED_VERDACCIO.front();
    let token = upload_token(&front, "@acme/widgets", &json!({}));
    let project = Project::package("@acme/gadgets", "5.0.0").with(".npmrc", &npmrc(&front, &token));
    npm(&front, &Job::none(), &project, &["publish"]).failure(&[
        "npm error code E403",
        "package-not-covered: the token is for `@acme/widgets`; `@acme/gadgets` was uploaded",
    ]);
    let project = Project::package("@acme/gadgets", "5.1.0");
    let said = pnpm(&front, &front.github_job(&json!({})), &project, &["publish"]);
    said.failure(&[NOT_GRANTED, "status 403 Forbidden", "upload-token-missing: "]);
    assert!(tarball(&front, "@acme/gadgets", "5.0.0").is_none() && tarball(&front, "@acme/gadgets", "5.1.0").is_none());
}

#[test]
fn behind_forward_auth_a_publication_edits_nothing_and_its_body_names_no_other_package() {
    let front = GUARDED_VERDACCIO.front();
    let project = Project::package("@acme/widgets-edited", "5.0.0");
    npm(&front, &front.github_job(&json!({})), &project, &["publish"]).success();
    let token = upload_token(&front, "@acme/widgets-edited", &json!({}));
    let before = packument(&front, "@acme/widgets-edited");
    // What verdaccio takes for a deprecation, and would remove every version by.
    let edit = json!({"name": "@acme/widgets-edited", "versions": {"9.0.0": {"deprecated": "x"}}, "dist-tags": {}});
    let (status, said) = put(&front, "/@acme%2fwidgets-edited", Some(&token), &edit);
    assert_eq!((status, said.contains("uploader is not allowed to unpublish")), (403, true), "{said}");
    let mut other = edit.clone();
    other["name"] = json!("@acme/gadgets");
    for path in ["/@acme%2fwidgets-edited", "/%40acme%2Fwidgets-edited"] {
        let (status, said) = put(&front, path, Some(&token), &other);
        assert_eq!((status, said.contains("bad incoming package data")), (422, true), "{path}: {said}");
    }
    for (path, token, code) in [
        ("/@acme%2fgadgets", Some(token.as_str()), "package-not-covered"),
        ("/@acme/widgets-edited", Some(token.as_str()), "route-not-allowed"),
        ("/@acme%252fwidgets-edited", Some(token.as_str()), "route-not-allowed"),
        ("/-/user/org.couchdb.user:eve", Some(token.as_str()), "route-not-allowed"),
        ("/@acme%2fwidgets-edited?x=1", Some(token.as_str()), "route-not-allowed"),
        ("/x/../@acme%2fwidgets-edited", Some(token.as_str()), "route-not-allowed"),
        ("/@acme%2fwidgets-edited/-rev/1", Some(token.as_str()), "route-not-allowed"),
        ("/@acme%2fwidgets-edited", None, "upload-token-missing"),
        ("/@acme%2fwidgets-edited", Some("stored-long-ago"), "upload-token-malformed"),
    ] {
        let (status, said) = put(&front, path, token, &edit);
        assert_eq!((status, said.contains(code)), (403, true), "{path}: {said}");
    }
    assert_eq!(packument(&front, "@acme/widgets-edited"), before);
}

#[test]
fn behind_forward_auth_who_may_only_delete_publishes_nothing() {
    let front = GUARDED_VERDACCIO.front();
    let project = Project::package("@acme/widgets-deleted", "5.0.0");
    npm(&front, &front.github_job(&json!({})), &project, &["publish"]).success();
    let token = upload_token(&front, "@acme/widgets-deleted", &json!({"environment": "yank"}));
    let before = packument(&front, "@acme/widgets-deleted");
    // To verdaccio a file makes it a publication, whichever of its two paths for edits it comes by.
    let mut publication: Value = serde_json::from_str(&before).unwrap();
    publication["versions"]["6.6.6"] = publication["versions"]["5.0.0"].take();
    publication["_attachments"] = json!({"widgets-deleted-6.6.6.tgz": {"data": "ZXZpbA==", "length": 4}});
    for (path, code) in [
        ("/@acme%2fwidgets-deleted/-rev/1", "route-not-allowed"),
        ("/@acme%2fwidgets-deleted/-rev/1/x", "route-not-allowed"),
        ("/@acme%2fwidgets-deleted", "action-not-covered"),
    ] {
        let (status, said) = put(&front, path, Some(&token), &publication);
        assert_eq!((status, said.contains(code)), (403, true), "{path}: {said}");
    }
    assert_eq!(packument(&front, "@acme/widgets-deleted"), before);
    let project = project.with(".npmrc", &npmrc(&front, &token));
    npm(&front, &Job::none(), &project, &["unpublish", "@acme/widgets-deleted", "--force"]).success();
    assert_eq!(tarball(&front, "@acme/widgets-deleted", "5.0.0"), None);
}

#[test]
fn ovsx_in_a_github_job_publishes_and_the_file_arrives_byte_for_byte() {
    let front = OPEN_VSX.front();
    let (project, file) = Project::extension("widgets", "1.0.0");
    let output = ovsx(&front, &front.github_job(&json!({})), &project).success();
    assert!(output.contains("Published acme.widgets v1.0.0"), "{output}");
    assert_eq!(extension(&front, "widgets", "1.0.0"), Some(file));
}

#[test]
fn ovsx_in_a_gitlab_job_publishes_with_the_id_token_of_its_variable() {
    let front = OPEN_VSX.front();
    let (project, file) = Project::extension("sprockets", "1.0.0");
    ovsx(&front, &front.gitlab_job_with("OVSX_ID_TOKEN", front.url.trim_end_matches('/')), &project).success();
    assert_eq!(extension(&front, "sprockets", "1.0.0"), Some(file));
}

#[test]
fn ovsx_says_which_extensions_the_rules_grant() {
    let front = OPEN_VSX.front();
    let (project, _) = Project::extension("gadgets", "1.0.0");
    let said = ovsx(&front, &front.github_job(&json!({})), &project);
    said.failure(&["`acme.gadgets` is not granted: the rule `widgets-release` grants create:acme.widgets,"]);
    assert_eq!(extension(&front, "gadgets", "1.0.0"), None);
}

#[test]
fn ovsx_says_that_the_id_token_was_used_before() {
    let front = OPEN_VSX.front();
    let job = front.gitlab_job_with("OVSX_ID_TOKEN", front.url.trim_end_matches('/'));
    ovsx(&front, &job, &Project::extension("sprockets", "2.0.0").0).success();
    let said = ovsx(&front, &job, &Project::extension("sprockets", "2.1.0").0);
    said.failure(&[REPLAYED, "request a fresh ID token"]);
    assert_eq!(extension(&front, "sprockets", "2.1.0"), None);
}

#[test]
fn ovsx_with_a_stored_token_is_stopped_by_the_registry() {
    let front = OPEN_VSX.front();
    let job = front.github_job(&json!({})).with("OVSX_PAT", "stored-long-ago");
    ovsx(&front, &job, &Project::extension("widgets", "3.0.0").0).failure(&["upload-token-malformed: "]);
    assert_eq!(extension(&front, "widgets", "3.0.0"), None);
}

#[test]
fn a_method_that_a_path_does_not_take_is_refused_without_html() {
    let front = OPEN_VSX.front();
    for path in ["/api/-/publish", "/api/acme/widgets"] {
        let (status, said) = put(&front, path, None, &json!({}));
        assert_eq!((status, said.as_str()), (403, "nothing of that kind is served here\n"), "{path}");
    }
}

fn extension(front: &Front, name: &str, version: &str) -> Option<Vec<u8>> {
    fs::read(front.path("run/packages").join(format!("acme.{name}/{version}.vsix"))).ok()
}
