//! The main job with real clients: uv, twine, pdm and maturin, unmodified, publish through nginx and TLS into a pypiserver that asks
//! trustmint; and whoever is refused reads why in the client's own output.

use std::time::Duration;

use serde_json::json;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;

use crate::support::front::DEVPI;
use crate::support::front::PYPISERVER;
use crate::support::page::exchange_by_hand;
use crate::support::page::masked_token;
use crate::support::page::revoke_by_hand;
use crate::support::service::AUDIENCE;
use crate::support::verifiers::ask_all;

const ENVIRONMENT_MISMATCH: &str =
    "the rule `widgets-release` wants `environment: release`, and the token has `environment: staging`";

#[test]
fn uv_in_a_github_job_publishes_and_the_file_arrives_byte_for_byte() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "1.0.0");
    front.uv(&front.github_job(&json!({})), &wheel).success();
    assert!(front.has(&wheel));
}

#[test]
fn the_offline_verifiers_read_the_running_services_tokens() {
    let front = PYPISERVER.front();
    let token = front.exchanged_token();
    let questions =
        ["widgets", "gadgets"].map(|package| json!({"token": token, "package": package, "action": "upload"}));
    for asked in ask_all(&front.secrets(), SystemClock.now(), &questions) {
        let [widgets, gadgets] = &asked.answers[..] else { panic!("{}: {:?}", asked.language, asked.answers) };
        assert_eq!(widgets["allowed"], true, "{}: {widgets}", asked.language);
        assert_eq!(widgets["publisher"]["claims"]["repository"], "acme/widgets", "{}: {widgets}", asked.language);
        assert_eq!(gadgets["allowed"], false, "{}: {gadgets}", asked.language);
    }
}

#[test]
fn uv_in_a_gitlab_job_publishes_and_the_file_arrives_byte_for_byte() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("sprockets", "1.0.0");
    front.uv(&front.gitlab_job(), &wheel).success();
    assert!(front.has(&wheel));
}

#[test]
fn uv_says_which_packages_the_token_is_for() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("gadgets", "1.0.0");
    let said = front.uv(&front.github_job(&json!({})), &wheel);
    said.failure(&[
        "403 Forbidden",
        "package-not-covered: the token is for `widgets`, `widgets-*`; `gadgets` was uploaded",
    ]);
    assert!(!front.has(&wheel));
}

#[test]
fn uv_says_which_environment_the_rule_wants() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "1.1.0");
    let said = front.uv(&front.github_job(&json!({"environment": "staging"})), &wheel);
    // uv shows the body as it came, so its first member is the first thing that is read.
    said.failure(&[ENVIRONMENT_MISMATCH, "Response: {\"message\":\"the rule `widgets-release` wants"]);
    assert!(!front.has(&wheel));
}

#[test]
fn uv_learns_nothing_of_another_projects_rule() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "1.1.1");
    let stranger = json!({"repository_owner_id": "8123456", "repository_id": "702345678", "repository": "mallory/gadgets",
        "environment": "staging", "workflow_file": "other.yml", "tag": "x1"});
    for (claims, withheld) in [
        // A job of the same owner that has everything of the rule's but the repository's id.
        (json!({"repository_id": "702345678"}), &["widgets-release", "widgets-yank", "701234567", "v*"][..]),
        (stranger, &["widgets-release", "widgets-yank", "9123456", "701234567", "acme/widgets", "release.yml", "v*"]),
    ] {
        let said = front.uv(&front.github_job(&claims), &wheel).withholds(withheld);
        said.failure(&["no rule of this registry matches this job", "`repository_id: 702345678`"]);
        assert!(!front.has(&wheel));
    }
}

#[test]
fn uv_says_that_the_id_token_was_used_before() {
    let front = PYPISERVER.front();
    let (first, second) = (front.wheel("sprockets", "1.1.0"), front.wheel("sprockets", "1.2.0"));
    let job = front.gitlab_job();
    front.uv(&job, &first).success();
    front.uv(&job, &second).failure(&["\"this ID token was already exchanged, at 20", "request a fresh ID token"]);
    assert!(front.has(&first) && !front.has(&second));
}

#[test]
fn the_token_that_uv_had_is_revoked_when_uv_has_ended() {
    let front = PYPISERVER.front();
    let output = front.uv(&front.github_job(&json!({})), &front.wheel("widgets", "1.2.0")).success();
    // GitHub hides from its log what follows these words.
    let token = output.strip_prefix("::add-mask::").unwrap();
    let wheel = front.wheel("widgets", "1.2.1");
    front.twine(token, &[&wheel]).failure(&["upload-token-revoked: the upload token has been revoked"]);
    assert!(!front.has(&wheel));
}

#[test]
fn twine_says_which_packages_the_token_is_for() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("gadgets", "2.0.0");
    let said = front.twine(&front.upload_token_of(Duration::ZERO), &[&wheel]);
    said.failure(&["403 Forbidden", "package-not-covered: the token is for `widgets`; `gadgets` was uploaded"]);
    assert!(!front.has(&wheel));
}

#[test]
fn twine_says_that_a_single_use_token_is_spent_with_its_first_file() {
    let front = PYPISERVER.front();
    let (first, second) = (front.wheel("widgets", "2.0.0"), front.wheel("widgets", "2.1.0"));
    let said = front.twine(&front.single_use_token(), &[&first, &second]);
    said.failure(&["uses-spent: the upload token was good for one upload, and that one is done"]);
    assert!(front.has(&first) && !front.has(&second));
}

#[test]
fn twine_says_when_the_upload_token_expired() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "2.2.0");
    let said = front.twine(&front.upload_token_of(Duration::from_secs(20 * 60)), &[&wheel]);
    said.failure(&["upload-token-expired: the token expired at 20", ", 5 min "]);
    assert!(!front.has(&wheel));
    front.twine(&front.upload_token_of(Duration::ZERO), &[&wheel]).success();
    assert!(front.has(&wheel), "the age of the token made the difference");
}

#[test]
fn twines_own_exchange_gets_a_token_that_twine_uploads_with() {
    let front = PYPISERVER.front();
    let token = front.twine_exchange(&front.github_job(&json!({}))).success();
    let wheel = front.wheel("widgets-extra", "1.0.0");
    front.twine(&token, &[&wheel]).success();
    assert!(front.has(&wheel));
}

#[test]
fn twines_own_exchange_says_which_environment_the_rule_wants() {
    let front = PYPISERVER.front();
    let said = front.twine_exchange(&front.github_job(&json!({"environment": "staging"})));
    said.failure(&["* `environment-mismatch`:", ENVIRONMENT_MISMATCH]);
}

#[test]
fn twines_own_exchange_says_that_the_id_token_was_used_before() {
    let front = PYPISERVER.front();
    let job = front.github_job_with_one_token(AUDIENCE);
    front.twine_exchange(&job).success();
    front.twine_exchange(&job).failure(&["* `token-replayed`:", "this ID token was already exchanged, at 20"]);
}

#[test]
fn the_pages_last_section_gets_a_token_that_twine_uploads_with_and_revokes_it() {
    let front = PYPISERVER.front();
    let output = exchange_by_hand(&front, &front.github_job(&json!({})), AUDIENCE, "").success();
    let token = masked_token(&output);
    let (first, second) = (front.wheel("widgets", "2.3.0"), front.wheel("widgets", "2.4.0"));
    front.twine(&token, &[&first]).success();
    revoke_by_hand(&front, &token).success();
    front.twine(&token, &[&second]).failure(&["upload-token-revoked: the upload token has been revoked"]);
    assert!(front.has(&first) && !front.has(&second));

    let said = exchange_by_hand(&front, &front.github_job(&json!({"environment": "staging"})), AUDIENCE, "");
    said.failure(&[ENVIRONMENT_MISMATCH]);
}

#[test]
fn pdm_in_a_github_job_publishes_and_the_file_arrives_byte_for_byte() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "3.0.0");
    front.pdm(&front.github_job(&json!({})), &wheel).success();
    assert!(front.has(&wheel));
}

#[test]
fn pdm_says_which_packages_the_token_is_for() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("gadgets", "3.0.0");
    let said = front.pdm(&front.github_job(&json!({})), &wheel);
    said.failure(&["package-not-covered: the token is for `widgets`, `widgets-*`; `gadgets` was uploaded"]);
    assert!(!front.has(&wheel));
}

#[test]
fn pdm_hides_that_the_id_token_was_used_before_and_the_registry_can_look_it_up() {
    let front = PYPISERVER.front();
    let (first, second) = (front.wheel("sprockets", "3.1.0"), front.wheel("sprockets", "3.2.0"));
    let job = front.gitlab_job();
    front.pdm(&job, &first).success();
    let said = front.pdm(&job, &second).withholds(&["already exchanged", "token-replayed"]);
    said.failure(&["Failed to get PyPI token via OIDC", "Username and password are required"]);
    assert!(front.has(&first) && !front.has(&second));
    front.assert_looked_up(&job, "token-replayed", "this ID token was already exchanged");
}

#[test]
fn maturin_in_a_github_job_publishes_and_the_file_arrives_byte_for_byte() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "4.0.0");
    front.maturin(&front.github_job(&json!({})), &wheel).success();
    assert!(front.has(&wheel));
}

#[test]
fn maturin_hides_which_packages_the_token_is_for() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("gadgets", "4.0.0");
    let said = front.maturin(&front.github_job(&json!({})), &wheel);
    // Whatever a 403 says.
    said.withholds(&["package-not-covered", "the token is for"]).failure(&["Username and/or password are wrong"]);
    assert!(!front.has(&wheel));
}

#[test]
fn maturin_hides_why_its_exchange_was_refused_and_the_registry_can_look_it_up() {
    let front = PYPISERVER.front();
    let (first, second) = (front.wheel("widgets", "4.1.0"), front.wheel("widgets", "4.2.0"));
    let job = front.github_job_with_one_token(AUDIENCE);
    front.maturin(&job, &first).success();
    let said = front.maturin(&job, &second).withholds(&["already exchanged", "token-replayed"]);
    said.failure(&["missing field `token`"]);
    assert!(front.has(&first) && !front.has(&second));
    front.assert_looked_up(&job, "token-replayed", "this ID token was already exchanged");

    let job = front.github_job(&json!({"environment": "staging"}));
    let said = front.maturin(&job, &second).withholds(&["environment-mismatch", "`environment: release`"]);
    said.failure(&["missing field `token`"]);
    assert!(!front.has(&second));
    front.assert_looked_up(&job, "environment-mismatch", ENVIRONMENT_MISMATCH);
}

#[test]
fn twine_says_why_trustmint_cannot_say_anything_of_a_token() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "4.3.0");
    // Older than the service, which remembers in memory what was revoked.
    let said = front.twine(&front.upload_token_of(Duration::from_secs(5 * 60)), &[&wheel]);
    said.failure(&["503: state-lost: the upload token was issued before the service's memory begins"]);
    assert!(!front.has(&wheel));
}

#[test]
fn uv_publishes_to_devpi_and_the_file_arrives_byte_for_byte() {
    let front = DEVPI.front();
    let wheel = front.wheel("widgets", "1.0.0");
    front.uv(&front.github_job(&json!({})), &wheel).success();
    assert!(front.has(&wheel));
}

#[test]
fn uv_says_which_packages_the_token_for_devpi_is_for() {
    let front = DEVPI.front();
    let wheel = front.wheel("gadgets", "1.0.0");
    let said = front.uv(&front.github_job(&json!({})), &wheel);
    said.failure(&["package-not-covered: the token is for `widgets`, `widgets-*`; `gadgets` was uploaded"]);
    assert!(!front.has(&wheel));
}

#[test]
fn uv_says_that_an_id_token_was_used_before_at_devpi() {
    let front = DEVPI.front();
    let (first, second) = (front.wheel("sprockets", "1.0.0"), front.wheel("sprockets", "1.1.0"));
    let job = front.gitlab_job();
    front.uv(&job, &first).success();
    front.uv(&job, &second).failure(&["\"this ID token was already exchanged, at 20"]);
    assert!(front.has(&first) && !front.has(&second));
}

#[test]
fn a_single_use_token_uploads_one_file_to_devpi() {
    let front = DEVPI.front();
    let (first, second) = (front.wheel("widgets", "2.0.0"), front.wheel("widgets", "2.1.0"));
    let said = front.twine(&front.single_use_token(), &[&first, &second]);
    said.failure(&["uses-spent: the upload token was good for one upload, and that one is done"]);
    assert!(front.has(&first) && !front.has(&second));
}
