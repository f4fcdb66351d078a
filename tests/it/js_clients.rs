//! npm, pnpm and yarn, unmodified, publish through nginx and TLS into a verdaccio that asks trustmint; what their users
//! read when they are refused; and that a client which then goes on without a token, or with another, gets nowhere.

use serde_json::json;

use crate::support::javascript::NpmRegistry;
use crate::support::javascript::Project;

/// Why the rules do not grant `@acme/gadgets`, as the exchange says it.
const NOT_GRANTED: &str = "`@acme/gadgets` is not granted: the rule `widgets-release` grants create:@acme/widgets,";
/// What the registry says to who comes without a token.
const NO_TOKEN: &str =
    "no upload token was sent, and nothing else is accepted: CI jobs are given one for their ID token.";
const REPLAYED: &str = "this ID token was already exchanged, at 20";

#[test]
fn npm_in_a_github_job_publishes_and_the_file_arrives_byte_for_byte() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/widgets", "1.0.0");
    let file = project.pack();
    registry.npm(&registry.github_job(&json!({})), &project, &["publish", "./packed.tgz"]).success();
    assert_eq!(registry.file("@acme/widgets", "1.0.0"), Some(file));
}

#[test]
fn npm_in_a_github_job_publishes_a_workspace() {
    let registry = NpmRegistry::running();
    let project = Project::workspace(&[("@acme/widgets-core", "1.0.0"), ("@acme/widgets-cli", "1.0.0")]);
    registry.npm(&registry.github_job(&json!({})), &project, &["publish", "--workspaces"]).success();
    for package in ["@acme/widgets-core", "@acme/widgets-cli"] {
        assert!(registry.file(package, "1.0.0").is_some(), "{package}");
    }
}

#[test]
fn npm_in_a_gitlab_job_publishes_a_workspace_with_one_id_token() {
    let registry = NpmRegistry::running();
    let project = Project::workspace(&[("@acme/sprockets", "1.0.0"), ("@acme/sprockets-cli", "1.0.0")]);
    registry.npm(&registry.gitlab_job(), &project, &["publish", "--workspaces"]).success();
    for package in ["@acme/sprockets", "@acme/sprockets-cli"] {
        assert!(registry.file(package, "1.0.0").is_some(), "{package}");
    }
}

#[test]
fn npm_shows_why_a_package_is_refused_only_when_it_is_asked_to_and_the_registry_can_look_it_up() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/gadgets", "1.0.0");
    let job = registry.github_job(&json!({}));
    registry.npm(&job, &project, &["publish"]).failure(&["npm error code ENEEDAUTH", "`npm login`"]);
    let said = registry.npm(&job, &project, &["publish", "--loglevel", "verbose"]);
    said.failure(&["npm verbose oidc Failed token exchange request with body message: `@acme/gadgets`", NOT_GRANTED]);
    assert_eq!(registry.file("@acme/gadgets", "1.0.0"), None);
    let refusals = registry.refusals();
    assert!(
        refusals.iter().any(|(code, message)| code == "package-not-granted" && message.starts_with(NOT_GRANTED)),
        "{refusals:?}"
    );
}

#[test]
fn npm_publishes_a_package_once_with_one_id_token() {
    let registry = NpmRegistry::running();
    let (first, second) = (Project::package("@acme/sprockets", "2.0.0"), Project::package("@acme/sprockets", "2.1.0"));
    let job = registry.gitlab_job();
    registry.npm(&job, &first, &["publish"]).success();
    let said = registry.npm(&job, &second, &["publish", "--loglevel", "verbose"]);
    said.failure(&["npm error code ENEEDAUTH", REPLAYED, "request a fresh ID token"]);
    assert!(registry.file("@acme/sprockets", "2.0.0").is_some());
    assert_eq!(registry.file("@acme/sprockets", "2.1.0"), None);
}

#[test]
fn npm_that_goes_on_with_a_stored_token_is_stopped_by_the_registry() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/gadgets", "1.1.0").with(".npmrc", &registry.npmrc("stored-long-ago"));
    let said = registry.npm(&registry.github_job(&json!({})), &project, &["publish"]);
    said.failure(&["npm error code E403", "403 Forbidden - PUT", "upload-token-malformed: "]);
    assert_eq!(registry.file("@acme/gadgets", "1.1.0"), None);
}

#[test]
fn npm_says_which_packages_the_token_is_for() {
    let registry = NpmRegistry::running();
    let token = registry.upload_token("@acme/widgets");
    let project = Project::package("@acme/gadgets", "1.2.0").with(".npmrc", &registry.npmrc(&token));
    let said = registry.npm(&registry.laptop(), &project, &["publish"]);
    said.failure(&[
        "npm error code E403",
        "package-not-covered: the token is for `@acme/widgets`; `@acme/gadgets` was uploaded",
    ]);
    assert_eq!(registry.file("@acme/gadgets", "1.2.0"), None);
}

#[test]
fn npm_edits_a_packument_only_as_the_token_allows() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/widgets-edited", "1.0.0");
    registry.npm(&registry.github_job(&json!({})), &project, &["publish"]).success();
    let project = project.with(".npmrc", &registry.npmrc(&registry.upload_token("@acme/widgets-edited")));
    let npm = |arguments: &[&str]| registry.npm(&registry.laptop(), &project, arguments);
    npm(&["dist-tag", "add", "@acme/widgets-edited@1.0.0", "stable"]).success();
    npm(&["deprecate", "@acme/widgets-edited@1.0.0", "old"]).failure(&["npm error code E403", "action-not-covered: "]);
    npm(&["unpublish", "@acme/widgets-edited", "--force"]).failure(&["npm error code E403", "action-not-covered: "]);
    assert!(registry.file("@acme/widgets-edited", "1.0.0").is_some());
}

#[test]
fn pnpm_in_a_github_job_publishes_a_scoped_package() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/widgets", "3.0.0");
    registry.pnpm(&registry.github_job(&json!({})), &project, &["publish"]).success();
    assert!(registry.file("@acme/widgets", "3.0.0").is_some());
}

#[test]
fn pnpm_in_a_gitlab_job_publishes_a_workspace_with_one_id_token() {
    let registry = NpmRegistry::running();
    let project = Project::workspace(&[("@acme/sprockets-a", "3.0.0"), ("@acme/sprockets-b", "3.0.0")]);
    registry.pnpm(&registry.gitlab_job(), &project, &["--recursive", "publish"]).success();
    for package in ["@acme/sprockets-a", "@acme/sprockets-b"] {
        assert!(registry.file(package, "3.0.0").is_some(), "{package}");
    }
}

#[test]
fn pnpm_says_why_a_package_is_refused_goes_on_without_a_token_and_is_stopped_by_the_registry() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/gadgets", "3.0.0");
    let said = registry.pnpm(&registry.github_job(&json!({})), &project, &["publish"]);
    said.failure(&[NOT_GRANTED, "ERR_PNPM_FAILED_TO_PUBLISH", "status 403 Forbidden", NO_TOKEN]);
    assert_eq!(registry.file("@acme/gadgets", "3.0.0"), None);
}

#[test]
fn pnpm_publishes_a_package_once_with_one_id_token() {
    let registry = NpmRegistry::running();
    let (first, second) = (Project::package("@acme/sprockets", "3.0.0"), Project::package("@acme/sprockets", "3.1.0"));
    let job = registry.gitlab_job();
    registry.pnpm(&job, &first, &["publish"]).success();
    registry.pnpm(&job, &second, &["publish"]).failure(&[REPLAYED, "status 403 Forbidden", NO_TOKEN]);
    assert!(registry.file("@acme/sprockets", "3.0.0").is_some());
    assert_eq!(registry.file("@acme/sprockets", "3.1.0"), None);
}

#[test]
fn yarn_in_a_github_job_publishes_a_scoped_package() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/widgets", "4.0.0");
    registry.yarn(&registry.github_job(&json!({})), &project, &["npm", "publish"]).success();
    assert!(registry.file("@acme/widgets", "4.0.0").is_some());
}

#[test]
fn yarn_in_a_gitlab_job_publishes_a_workspace_with_one_id_token() {
    let registry = NpmRegistry::running();
    let project = Project::workspace(&[("@acme/sprockets-c", "4.0.0"), ("@acme/sprockets-d", "4.0.0")]);
    let all = ["workspaces", "foreach", "--all", "--no-private", "npm", "publish"];
    registry.yarn(&registry.gitlab_job(), &project, &all).success();
    for package in ["@acme/sprockets-c", "@acme/sprockets-d"] {
        assert!(registry.file(package, "4.0.0").is_some(), "{package}");
    }
}

#[test]
fn yarn_does_not_say_why_a_package_is_refused_and_the_registry_can_look_it_up() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/gadgets", "4.0.0");
    let said = registry.yarn(&registry.github_job(&json!({})), &project, &["npm", "publish"]);
    said.failure(&["YN0033: No authentication configured for request"]);
    assert_eq!(registry.file("@acme/gadgets", "4.0.0"), None);
    assert!(registry.refusals().iter().any(|(_, message)| message.starts_with(NOT_GRANTED)));
}

#[test]
fn yarn_publishes_a_package_once_with_one_id_token() {
    let registry = NpmRegistry::running();
    let (first, second) = (Project::package("@acme/sprockets", "4.0.0"), Project::package("@acme/sprockets", "4.1.0"));
    let job = registry.gitlab_job();
    registry.yarn(&job, &first, &["npm", "publish"]).success();
    registry.yarn(&job, &second, &["npm", "publish"]).failure(&["YN0033: No authentication configured for request"]);
    assert!(registry.file("@acme/sprockets", "4.0.0").is_some());
    assert_eq!(registry.file("@acme/sprockets", "4.1.0"), None);
    assert!(registry.refusals().iter().any(|(code, _)| code == "token-replayed"));
}

#[test]
fn yarn_with_a_stored_token_is_stopped_by_the_registry() {
    let registry = NpmRegistry::running();
    let project = Project::package("@acme/gadgets", "4.1.0").with(".npmrc", "");
    let job = registry.github_job(&json!({})).with("YARN_NPM_AUTH_TOKEN", "stored-long-ago");
    registry.yarn(&job, &project, &["npm", "publish"]).failure(&["upload-token-malformed: "]);
    assert_eq!(registry.file("@acme/gadgets", "4.1.0"), None);
}

#[test]
fn behind_forward_auth_npm_publishes_into_a_verdaccio_that_knows_nothing_of_tokens() {
    let registry = NpmRegistry::behind_forward_auth();
    let project = Project::package("@acme/widgets", "5.0.0");
    let file = project.pack();
    registry.npm(&registry.github_job(&json!({})), &project, &["publish", "./packed.tgz"]).success();
    assert_eq!(registry.file("@acme/widgets", "5.0.0"), Some(file));
}

#[test]
fn behind_forward_auth_npm_says_which_packages_the_token_is_for_and_nobody_goes_on_without_one() {
    let registry = NpmRegistry::behind_forward_auth();
    let token = registry.upload_token("@acme/widgets");
    let project = Project::package("@acme/gadgets", "5.0.0").with(".npmrc", &registry.npmrc(&token));
    registry.npm(&registry.laptop(), &project, &["publish"]).failure(&[
        "npm error code E403",
        "package-not-covered: the token is for `@acme/widgets`; `@acme/gadgets` was uploaded",
    ]);
    let project = Project::package("@acme/gadgets", "5.1.0");
    let said = registry.pnpm(&registry.github_job(&json!({})), &project, &["publish"]);
    said.failure(&[NOT_GRANTED, "status 403 Forbidden", "upload-token-missing: "]);
    assert!(registry.file("@acme/gadgets", "5.0.0").is_none() && registry.file("@acme/gadgets", "5.1.0").is_none());
}

#[test]
fn behind_forward_auth_a_publication_edits_nothing_and_its_body_names_no_other_package() {
    let registry = NpmRegistry::behind_forward_auth();
    let project = Project::package("@acme/widgets-edited", "5.0.0");
    registry.npm(&registry.github_job(&json!({})), &project, &["publish"]).success();
    let token = registry.upload_token("@acme/widgets-edited");
    let before = registry.packument("@acme/widgets-edited");
    // What verdaccio takes for a deprecation, and would remove every version by.
    let edit = json!({"name": "@acme/widgets-edited", "versions": {"9.0.0": {"deprecated": "x"}}, "dist-tags": {}});
    let (status, said) = registry.put("/@acme%2fwidgets-edited", Some(&token), &edit);
    assert_eq!((status, said.contains("uploader is not allowed to unpublish")), (403, true), "{said}");
    let mut other = edit.clone();
    other["name"] = json!("@acme/gadgets");
    for path in ["/@acme%2fwidgets-edited", "/%40acme%2Fwidgets-edited"] {
        let (status, said) = registry.put(path, Some(&token), &other);
        assert_eq!((status, said.contains("bad incoming package data")), (422, true), "{path}: {said}");
    }
    for (path, token, code) in [
        ("/@acme%2fgadgets", Some(token.as_str()), "package-not-covered"),
        ("/@acme/widgets-edited", Some(token.as_str()), "route-not-allowed"),
        ("/@acme%252fwidgets-edited", Some(token.as_str()), "route-not-allowed"),
        ("/-/user/org.couchdb.user:eve", Some(token.as_str()), "route-not-allowed"),
        ("/@acme%2fwidgets-edited?x=1", Some(token.as_str()), "route-not-allowed"),
        ("/x/../@acme%2fwidgets-edited", Some(token.as_str()), "route-not-allowed"),
        ("/@acme%2fwidgets-edited/-rev/1", Some(token.as_str()), "action-not-covered"),
        ("/@acme%2fwidgets-edited", None, "upload-token-missing"),
        ("/@acme%2fwidgets-edited", Some("stored-long-ago"), "upload-token-malformed"),
    ] {
        let (status, said) = registry.put(path, token, &edit);
        assert_eq!((status, said.contains(code)), (403, true), "{path}: {said}");
    }
    assert_eq!(registry.packument("@acme/widgets-edited"), before);
}
