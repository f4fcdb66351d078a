//! Python libraries as oracles, each behind a script below `tests/data` that answers one JSON request with one JSON answer.

use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

/// The command that runs a script.
#[expect(clippy::disallowed_methods, reason = "the test command names the interpreter that has the libraries")]
pub fn command(script: &str) -> Command {
    let python = std::env::var_os("TRUSTMINT_TEST_PYTHON").expect(
        "TRUSTMINT_TEST_PYTHON names no interpreter with what tests/requirements.txt lists: run the tests with the \
         README's test command, which installs it into a virtual environment and sets the variable",
    );
    let mut command = Command::new(&python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(script));
    command
}

/// Asks a script. Fails, rather than passes unseen, where its library is not installed.
pub fn ask(script: &str, request: &Value) -> Value {
    let mut command = command(script);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("TRUSTMINT_TEST_PYTHON={}: {error}", command.get_program().display()));
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed; its own message is above");
    serde_json::from_slice(&output.stdout).unwrap()
}
