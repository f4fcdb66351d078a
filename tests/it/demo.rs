//! The first command that anybody runs: `trustmint demo`, as a program.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::Value;
use trustmint::demo::narrative;
use trustmint::demo::narrative::Step;
use trustmint::demo::world::RULES;
use trustmint::demo::world::World;
use trustmint::time::SystemClock;

use crate::support::said;
use crate::support::said::Channel;
use crate::support::said::Heard;
use crate::support::send;

/// What each step should come to.
const STEPS: [(&str, &str); 9] = [
    ("rule", "1 rule"),
    ("claims", "200, for acme"),
    ("exchange", "200"),
    ("macaroon", "registry, time-before, allow"),
    ("verify", "200 allowed"),
    ("upload", "200 stored"),
    ("refusal", "422 workflow-mismatch"),
    ("mend", "200"),
    ("replay", "422 token-replayed"),
];

/// The demonstration, with a directory of its own for its files.
fn demo(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
    command.arg("demo").env("TMPDIR", directory).stdin(Stdio::null());
    command
}

fn once(options: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let output = said::run(demo(directory.path()).arg("--once").args(options)).unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "files are left behind");
    output
}

#[test]
fn every_step_comes_out_as_it_should() {
    let output = once(&["--json"]);
    let steps: Vec<Value> =
        output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).expect("a line of JSON")).collect();
    assert_eq!(steps.len(), STEPS.len());
    for (number, (step, (name, outcome))) in steps.iter().zip(STEPS).enumerate() {
        assert_eq!(step["step"], number + 1);
        assert_eq!([&step["name"], &step["expected"], &step["got"]], [name, outcome, outcome], "{step}");
    }
    let explained = &steps[6]["facts"]["explanation"]["rules"][0];
    let failed: Vec<_> = explained["conditions"].as_array().unwrap().iter().filter(|c| c["holds"] == false).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!([&failed[0]["wants"], &failed[0]["has"]], ["release.yml", "publish.yml"]);
    assert_eq!(steps[5]["facts"]["publisher"]["claims"]["repository"], "acme/widgets");
    assert_no_token(&String::from_utf8(output.stdout).unwrap());
}

#[test]
fn a_person_reads_it_on_any_terminal() {
    let text = String::from_utf8(once(&[]).stdout).unwrap();
    for line in text.lines() {
        // The two lines with a path are as long as the machine's path for temporary files.
        assert!(line.chars().count() <= 100 || line.contains("trustmint-demo-"), "{line}");
        assert_eq!(line.trim_end(), line);
    }
    assert!(!text.contains('\u{1b}'), "no escape codes where nobody watches");
    let headings = text.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_digit()));
    assert_eq!(headings.count(), STEPS.len());
    assert!(text.ends_with("Every step came out as it should.\n"), "{text}");
    assert_no_token(&text);
}

/// Whatever is printed ends up in logs and screenshots, so tokens are shown by their beginnings.
#[track_caller]
fn assert_no_token(text: &str) {
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)) {
        let token = (word.starts_with("eyJ") || word.starts_with("pypi-")) && word.len() > 40;
        assert!(!token, "a token is printed: {word}");
    }
}

#[actix_web::test]
async fn a_step_that_comes_out_differently_is_told_and_ends_the_story() {
    let world = World::start(Arc::new(SystemClock)).await.unwrap();
    world.reload(&RULES.replace("release.yml", "other.yml")).unwrap();
    let mut heard = Vec::new();
    let tell = |step: Step| {
        heard.push((step.name, step.came_out(), step.got));
        Ok(())
    };
    assert!(!narrative::tell(&world, tell).await.unwrap());
    assert_eq!(heard.last(), Some(&("exchange", false, "422 workflow-mismatch".to_owned())));
    assert_eq!(heard.len(), 3);
}

/// A demonstration that stays up, until it is stopped or dropped.
struct Up {
    child: Child,
    output: BufReader<Heard<ChildStdout>>,
}

impl Up {
    fn start(directory: &Path) -> Self {
        let mut child = demo(directory).arg("--json").stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(Heard::new(Channel::Verb, child.stdout.take().unwrap()));
        Self { child, output }
    }

    /// Reads on to the line of that name.
    fn line(&mut self, name: &str) -> Value {
        let mut lines = self.output.by_ref().lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        lines.find(|line| line["name"] == name).unwrap_or_else(|| panic!("no line `{name}`"))
    }

    /// Sends the signal and says whether the demonstration called that a good end.
    fn stop(mut self, signal: &str) -> bool {
        send(signal, self.child.id());
        self.child.wait().unwrap().success()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Ended already where all went well.
        drop(self.child.kill());
    }
}

/// What a person pastes into a shell that knows the clients.
#[expect(clippy::disallowed_methods, reason = "the test command says in the environment where it put the clients")]
fn pasted(command: &str) -> Output {
    let uv = std::env::var("TRUSTMINT_TEST_UV").expect("TRUSTMINT_TEST_UV is set by the test command of README.md");
    let clients = Path::new(&uv).parent().unwrap().display();
    let path = format!("{clients}:{}", std::env::var("PATH").unwrap());
    Command::new("sh").args(["-c", command]).env("PATH", path).output().unwrap()
}

#[test]
fn the_printed_lines_work_verbatim_until_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut up = Up::start(directory.path());
    let curl = up.line("verify")["facts"]["command"].as_str().unwrap().to_owned();
    let ready = up.line("ready");

    let answer = pasted(&curl);
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
    assert_eq!(answer["allowed"], true, "{answer}");

    let published = pasted(ready["command"].as_str().unwrap());
    assert!(published.status.success(), "{}", String::from_utf8_lossy(&published.stderr));
    // The registry has the file now.
    let again = pasted(ready["command"].as_str().unwrap());
    let message = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && message.contains("exists already"), "{message}");

    assert!(up.stop("-TERM"));
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "files are left behind");
}

#[test]
fn it_ends_when_it_is_interrupted_or_its_terminal_is_closed() {
    for signal in ["-INT", "-HUP"] {
        let directory = tempfile::tempdir().unwrap();
        let mut up = Up::start(directory.path());
        up.line("ready");
        assert!(up.stop(signal), "{signal}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "files are left behind by {signal}");
    }
}

#[test]
fn it_ends_when_nobody_reads_it_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut child = demo(directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "files are left behind");
}
