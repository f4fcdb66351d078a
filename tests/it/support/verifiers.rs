//! The verifiers of `examples/offline`, each one process that answers many questions.

use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::thread;

use serde_json::Value;
use tempfile::TempDir;
use trustmint::time::Timestamp;

use super::front::tool;
use super::python;

/// What one verifier says to each question.
pub struct Answers {
    /// The verifier's language.
    pub language: &'static str,
    /// One answer a question.
    pub answers: Vec<Value>,
}

/// Asks each verifier all the questions, with a registry's secrets and at a moment.
pub fn ask_all(secrets: &str, now: Timestamp, questions: &[Value]) -> Vec<Answers> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secrets.json");
    std::fs::write(&file, secrets).unwrap();
    let lines: Vec<String> = questions.iter().map(ToString::to_string).collect();
    let lines = lines.join("\n");
    let ask = |(language, mut program): (&'static str, Command)| {
        let child = program.arg(&file).arg(now.unix_millis().to_string());
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut input, lines) = (child.stdin.take().unwrap(), lines.clone());
        // Beside reading: both pipes are smaller than what goes through them.
        let writer = thread::spawn(move || input.write_all(lines.as_bytes()));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{language}: the verifier failed; its own message is above");
        writer.join().unwrap().unwrap();
        let answers = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(answers.len(), questions.len(), "{language}");
        Answers { language, answers }
    };
    programs().into_iter().map(ask).collect()
}

fn programs() -> [(&'static str, Command); 3] {
    let mut python = Command::new(tool("TRUSTMINT_TEST_PYTHON"));
    python.args(["-B", "ask.py"]).current_dir(folder("python"));
    let mut node = Command::new(tool("TRUSTMINT_TEST_NODE"));
    node.arg("ask.mjs").current_dir(folder("javascript"));
    [("python", python), ("go", Command::new(go())), ("javascript", node)]
}

pub fn folder(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/offline").join(language)
}

/// The verifier in Go.
fn go() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| go_build("offline-ask", Path::new(".")))
}

/// pymacaroons, which appends caveats to tokens of the text codec without their prefix.
pub fn narrow_in_python(request: &Value) -> Value {
    python::ask("pymacaroons_interop.py", request)
}

/// The same by Go's macaroon.v2.
pub fn narrow_in_go(request: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/macaroon_v2_narrow.go");
    let child = Command::new(go_build("offline-narrow", &script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut child| {
            // It answers when it has read everything.
            child.stdin.take().unwrap().write_all(request.to_string().as_bytes())?;
            child.wait_with_output()
        });
    let output = child.unwrap();
    assert!(output.status.success(), "the program failed; its own message is above");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Builds a Go program in the example's module. Go checks the modules that it is made of against `go.sum`.
fn go_build(name: &str, source: &Path) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut go = Command::new(tool("TRUSTMINT_TEST_GO"));
    go.args(["build", "-o"]).arg(&program).arg(source).current_dir(folder("go"));
    go.env("GOFLAGS", "-mod=readonly -modcacherw").env("GOWORK", "off").env("GOTOOLCHAIN", "local");
    let output = go.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}
