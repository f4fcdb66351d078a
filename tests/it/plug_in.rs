//! The example plug-ins: their launchers and their front have tests in their own language, run here.

use std::path::Path;
use std::process::Command;

use crate::support::front::tool;

/// Runs one of the plug-in's Python tests with the interpreter that has its packages.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the test command says in the environment where it put the interpreter")]
fn run(folder: &str, test: &str) {
    let Some(python) = std::env::var_os("TRUSTMINT_TEST_PYTHON") else {
        panic!(
            "TRUSTMINT_TEST_PYTHON is not set: run the test command of README.md, which sets it up, or name a Python \
             that has the packages of tests/requirements.txt"
        );
    };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(folder);
    let done = Command::new(python)
        .args(["-B", "-W", "ignore::DeprecationWarning", test])
        .current_dir(directory)
        .output()
        .expect("TRUSTMINT_TEST_PYTHON names a Python");
    assert!(done.status.success(), "{test}:\n{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn the_launcher_asks_about_what_is_stored_and_refuses_every_hostile_upload() {
    run("pypiserver", "test_launch.py");
}

#[test]
fn nginx_and_pypiserver_start_together_and_change_nothing_on_the_way() {
    run("pypiserver", "test_start.py");
}

#[test]
fn the_other_registries_ask_about_what_they_store_and_refuse_every_hostile_upload() {
    run(".", "test_registries.py");
}

#[test]
fn verdaccios_plug_in_asks_about_what_is_stored_and_refuses_every_hostile_request() {
    let done = Command::new(tool("TRUSTMINT_TEST_NODE"))
        .args(["--test", "plugin.test.js"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/verdaccio"))
        .env("VERDACCIO", tool("TRUSTMINT_TEST_VERDACCIO").ancestors().nth(2).unwrap())
        .output()
        .expect("TRUSTMINT_TEST_NODE names a Node.js");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}
