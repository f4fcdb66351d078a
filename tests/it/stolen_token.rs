//! The drill of the stolen token: a job narrows its token to the very file that it is about to upload, and whoever
//! steals that publishes nothing else. With uv, unmodified, through nginx and TLS into a pypiserver that asks trustmint.

use trustmint::secret::hex;
use trustmint::secret::sha256;

use crate::support::front::PYPISERVER;

#[test]
fn a_token_narrowed_to_one_file_publishes_that_file_and_nothing_else() {
    let front = PYPISERVER.front();
    let (wheel, other_version) = (front.wheel("widgets", "6.0.0"), front.wheel("widgets", "6.0.1"));
    let (other_package, other_file) = (front.wheel("widgets-extra", "6.0.0"), front.tampered(&wheel));
    let path = wheel.to_str().unwrap();
    let token = front.exchanged_token();
    let narrowed = front.narrowed(&token, &["--package", "widgets", "--version", "6.0.0", "--file", path]);
    assert!(narrowed.starts_with("pypi-") && narrowed != token);

    // The thief was faster than the job.
    let said = front.uv_with(&narrowed, &other_version);
    said.failure(&[
        "403 Forbidden",
        "version-not-covered: the token is for version `6.0.0`; the upload is version `6.0.1`",
    ]);
    let said = front.uv_with(&narrowed, &other_package);
    said.failure(&["403 Forbidden", "package-not-covered: the token is for `widgets`; `widgets-extra` was uploaded"]);
    let said = front.uv_with(&narrowed, &other_file);
    said.failure(&["403 Forbidden", "digest-not-covered: the token is for the file with SHA-256 `"]);
    assert!(!front.has(&wheel) && !front.has(&other_version) && !front.has(&other_package) && !front.has(&other_file));

    // Nor does appending to it give anything back.
    let again = front.narrowed(&narrowed, &["--version", "6.0.1"]);
    front.uv_with(&again, &other_version).failure(&["version-not-covered"]);

    front.uv_with(&narrowed, &wheel).success();
    assert!(front.has(&wheel));
    // The token as it was exchanged, which never left the job, could have done all of it: that is what narrowing is for.
    front.uv_with(&token, &other_version).success();
    assert!(front.has(&other_version));
}

#[test]
fn a_token_narrowed_to_a_version_a_digest_and_a_size_publishes_no_other_file_of_any_package() {
    let front = PYPISERVER.front();
    let (wheel, other_version) = (front.wheel("widgets", "6.2.0"), front.wheel("widgets", "6.2.1"));
    let (other_package, other_file) = (front.wheel("widgets-extra", "6.2.0"), front.tampered(&wheel));
    let bytes = std::fs::read(&wheel).unwrap();
    let (digest, size) = (hex(&sha256(&bytes)), bytes.len().to_string());
    let token = front.exchanged_token();
    let narrowed = front.narrowed(&token, &["--version", "6.2.0", "--sha256", &digest, "--max-size", &size]);

    let not_this = format!("digest-not-covered: the token is for the file with SHA-256 `{digest}`");
    front.uv_with(&narrowed, &other_version).failure(&["403 Forbidden", "version-not-covered"]);
    front.uv_with(&narrowed, &other_package).failure(&["403 Forbidden", &not_this]);
    front.uv_with(&narrowed, &other_file).failure(&["403 Forbidden", &not_this]);
    // For a byte less than the file has, the size alone stops it.
    let smaller = front.narrowed(&token, &["--max-size", &(bytes.len() - 1).to_string()]);
    front.uv_with(&smaller, &wheel).failure(&["403 Forbidden", "size-not-covered"]);
    assert!(!front.has(&wheel) && !front.has(&other_version) && !front.has(&other_package) && !front.has(&other_file));

    front.uv_with(&narrowed, &wheel).success();
    assert!(front.has(&wheel));
    // The token that was never stolen publishes the others: what refused them is what was appended.
    for file in [&other_version, &other_package] {
        front.uv_with(&token, file).success();
        assert!(front.has(file));
    }
}

#[test]
fn without_a_package_the_same_file_is_published_under_any_name_that_the_token_covers() {
    let front = PYPISERVER.front();
    let wheel = front.wheel("widgets", "6.3.0");
    let name = wheel.file_name().unwrap().to_str().unwrap().replace("widgets", "widgets_extra");
    let renamed = wheel.with_file_name(name);
    std::fs::copy(&wheel, &renamed).unwrap();
    let options = ["--version", "6.3.0", "--file", wheel.to_str().unwrap()];
    let without = front.narrowed(&front.exchanged_token(), &options);
    let with = front.narrowed(&without, &["--package", "widgets"]);
    let said = front.curl_with(&with, "widgets-extra", "6.3.0", &renamed);
    said.failure(&["package-not-covered: the token is for `widgets`; `widgets-extra` was uploaded"]);
    assert!(!front.has(&renamed));
    // uv would read the name in the file; a thief need not, and this registry does not.
    front.curl_with(&without, "widgets-extra", "6.3.0", &renamed).success();
    assert!(front.has(&renamed));
}

#[test]
fn a_token_narrowed_to_several_files_publishes_each_of_them() {
    let front = PYPISERVER.front();
    let (first, second) = (front.wheel("widgets", "6.1.0"), front.wheel("widgets-extra", "6.1.0"));
    let [one, two] = [&first, &second].map(|wheel| wheel.to_str().unwrap());
    let options = ["--file", one, "--file", two, "--expires-in", "5m", "--ip", "127.0.0.0/8"];
    let narrowed = front.narrowed(&front.exchanged_token(), &options);
    front.uv_with(&narrowed, &first).success();
    front.uv_with(&narrowed, &second).success();
    assert!(front.has(&first) && front.has(&second));
    let elsewhere = front.narrowed(&narrowed, &["--ip", "192.0.2.0/24"]);
    let third = front.wheel("widgets", "6.1.1");
    front.uv_with(&elsewhere, &third).failure(&["digest-not-covered"]);
    let elsewhere = front.narrowed(&front.exchanged_token(), &["--ip", "192.0.2.0/24"]);
    let said = front.uv_with(&elsewhere, &third);
    said.failure(&[
        "address-not-covered: the token is for clients in `192.0.2.0/24`; the request came from `127.0.0.1`",
    ]);
    assert!(!front.has(&third));
}

/// The block of YAML below a heading of `docs/offline.md`.
fn block(heading: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/offline.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n### {heading}\n")).unwrap();
    let (_, block) = section.split_once("```yaml\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_pages_steps_for_github_publish_with_a_narrowed_token() {
    let front = PYPISERVER.front();
    let block = block("GitHub");
    let (_, script) = block.split_once("run: |\n").unwrap();
    let wheel = front.wheel("widgets", "5.0.0");
    let job = front.github_job(&serde_json::json!({}));
    front.run_script(&job, "bash", script, "v5.0.0", &wheel).success();
    assert!(front.has(&wheel));
    // With a tag that says another version than the file, the token is for neither.
    let wheel = front.wheel("widgets", "5.0.1");
    let said = front.run_script(&front.github_job(&serde_json::json!({})), "bash", script, "v5.0.2", &wheel);
    said.failure(&["version-not-covered: the token is for version `5.0.2`; the upload is version `5.0.1`"]);
    assert!(!front.has(&wheel));
}

#[test]
fn the_pages_steps_for_gitlab_publish_with_a_narrowed_token() {
    let front = PYPISERVER.front();
    let block = block("GitLab");
    let (_, lines) = block.split_once("script:\n").unwrap();
    // A line that starts no item goes on with the one before.
    let script = lines.replace("\n        -d", " -d").replace("    - ", "");
    let wheel = front.wheel("sprockets", "5.0.0");
    front.run_script(&front.gitlab_job(), "sh", &script, "v5.0.0", &wheel).success();
    assert!(front.has(&wheel));
    let wheel = front.wheel("sprockets", "5.0.1");
    front.run_script(&front.gitlab_job(), "sh", &script, "v5.0.2", &wheel).failure(&["version-not-covered"]);
    assert!(!front.has(&wheel));
}
