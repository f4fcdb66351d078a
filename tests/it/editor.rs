//! An editor that knows the schema: a real YAML language server completes what one types into a policy and marks what is
//! wrong with it.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::policy::schema;

/// How long the server may think before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stands where the cursor is.
const CURSOR: &str = "▮";

fn path(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name).display().to_string()
}

/// A language server with one policy file open in it, which lies in `config/policy` and names the schema as the shipped
/// files do.
struct Editor {
    server: Child,
    messages: Receiver<Value>,
    last: u64,
    uri: String,
}

impl Drop for Editor {
    fn drop(&mut self) {
        let _ended = self.server.kill();
        let _gone = self.server.wait();
    }
}

impl Editor {
    #[expect(clippy::disallowed_methods, reason = "the test command names the language server that it has installed")]
    fn start() -> Self {
        let (node, script) = ("TRUSTMINT_TEST_NODE", "TRUSTMINT_TEST_YAML_LANGUAGE_SERVER");
        let tool = |name: &str| {
            std::env::var_os(name).unwrap_or_else(|| {
                panic!("{name} is not set: run the tests with `tests/run`, which installs the language server")
            })
        };
        let mut server = Command::new(tool(node))
            .arg(tool(script))
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(server.stdout.take().unwrap());
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            while let Some(message) = read(&mut output) {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let uri = format!("file://{}", path("config/policy/edited.yaml"));
        let mut editor = Self { server, messages, last: 0, uri };
        let root = format!("file://{}", path(""));
        editor.ask("initialize", json!({"processId": null, "rootUri": root, "capabilities": {}}));
        editor.tell("initialized", json!({}));
        // No store of schemas elsewhere: only what the file names.
        let settings = json!({"yaml": {"validate": true, "completion": true, "schemaStore": {"enable": false}}});
        editor.tell("workspace/didChangeConfiguration", json!({"settings": settings}));
        editor
    }

    fn send(&mut self, message: &Value) {
        let body = message.to_string();
        let input = self.server.stdin.as_mut().unwrap();
        write!(input, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        input.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.last += 1;
        let id = self.last;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        self.wait(|message| message["id"] == id && message.get("method").is_none())["result"].take()
    }

    /// The next message of this kind. What the server itself asks, it is told nothing.
    fn wait(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.messages.recv_timeout(PATIENCE).expect("the language server answers");
            if wanted(&message) {
                return message;
            }
            if message.get("method").is_some() && message.get("id").is_some() {
                self.send(&json!({"jsonrpc": "2.0", "id": message["id"], "result": null}));
            }
        }
    }

    fn open(&mut self, text: &str) {
        self.last += 1;
        let text = format!("# yaml-language-server: $schema=../policy.schema.json\n{text}");
        let document = json!({"uri": self.uri, "languageId": "yaml", "version": self.last, "text": text});
        self.tell("textDocument/didOpen", json!({"textDocument": document}));
    }

    /// What is offered at the cursor of this text.
    fn offers(&mut self, text: &str) -> Vec<String> {
        let (before, _) = text.split_once(CURSOR).unwrap();
        // One more line for the one that names the schema.
        let line = before.matches('\n').count() + 1;
        let character = before.lines().next_back().filter(|_| !before.ends_with('\n')).unwrap_or("").chars().count();
        self.open(&text.replace(CURSOR, ""));
        let at = json!({"textDocument": {"uri": self.uri}, "position": {"line": line, "character": character}});
        let answer = self.ask("textDocument/completion", at);
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    /// The complaints about this text: (line of the text, message).
    fn complaints(&mut self, text: &str) -> Vec<(u64, String)> {
        self.open(text);
        let version = self.last;
        let about = |message: &Value| {
            message["method"] == "textDocument/publishDiagnostics"
                && message["params"]["version"].as_u64().is_none_or(|of| of == version)
        };
        let found = self.wait(about);
        let found = found["params"]["diagnostics"].as_array().unwrap().iter();
        found
            .map(|fault| {
                (fault["range"]["start"]["line"].as_u64().unwrap(), fault["message"].as_str().unwrap().to_owned())
            })
            .collect()
    }
}

/// One message of the base protocol.
fn read(output: &mut impl BufRead) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if output.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    output.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

#[test]
fn the_committed_schema_is_the_one_that_the_parsers_tables_give() {
    let committed = fs::read_to_string(path("config/policy.schema.json")).unwrap();
    let current = serde_json::to_string_pretty(&schema::policy()).unwrap() + "\n";
    assert!(committed == current, "write it anew: trustmint policy schema > config/policy.schema.json");
}

#[test]
fn an_editor_offers_what_the_parser_knows() {
    let mut editor = Editor::start();
    for (text, offered) in [
        ("▮\n", &["issuers", "registries", "rules", "tests"][..]),
        ("issuers:\n  github:\n    ▮\n", &["provider", "url", "max_lifetime"]),
        ("issuers:\n  github:\n    provider: ▮\n", &["github", "gitlab", "circleci", "generic"]),
        ("registries:\n  acme:\n    dialect: ▮\n", &["pypi", "generic"]),
        ("rules:\n  widgets:\n    ▮\n", &["registry", "issuer", "when", "allow", "single_use"]),
        (
            "rules:\n  widgets:\n    when:\n      ▮\n",
            &["repository_id", "environment", "workflow_file", "tag", "org_id", "organization"],
        ),
        ("rules:\n  widgets:\n    when:\n      tag:\n        ▮\n", &["glob", "regex", "not", "same_as", "present"]),
        ("rules:\n  widgets:\n    when:\n      context_ids:\n        ▮\n", &["contains", "exactly"]),
        ("rules:\n  widgets:\n    when:\n      any_of:\n        - ▮\n", &["repository_id", "tag"]),
        ("rules:\n  widgets:\n    mode: ▮\n", &["enforce", "shadow"]),
        ("rules:\n  widgets:\n    allow:\n      ▮\n", &["upload", "create"]),
        ("tests:\n  - ▮\n", &["name", "rule", "token", "expect"]),
        ("tests:\n  - token: ▮\n", &["github/tag-push", "gitlab/merge-request"]),
        ("tests:\n  - claims:\n      ▮\n", &["repository_id", "environment"]),
        ("tests:\n  - expect:\n      deny: ▮\n", &["package-not-granted", "environment-mismatch"]),
    ] {
        let offers = editor.offers(text);
        for word in offered {
            assert!(offers.iter().any(|offer| offer == word), "{text}\nshould offer `{word}` and offers {offers:?}");
        }
    }
}

#[test]
fn an_editor_marks_what_is_wrong_and_nothing_that_is_right() {
    let mut editor = Editor::start();
    for (text, complaint) in [
        ("issuers:\n  github: {provider: github, uri: x}\n", Some((2, "uri"))),
        ("issuers:\n  github: {provider: githup}\n", Some((2, "github"))),
        ("rules:\n  widgets:\n    registy: acme\n", Some((3, "registy"))),
        ("rules:\n  widgets:\n    when: {repository_id: 701234567}\n", Some((3, "string"))),
        ("rules:\n  widgets:\n    when: {tag: {golb: \"v*\"}}\n", Some((3, "golb"))),
        ("rules:\n  widgets:\n    when: {tag: {in: v1}}\n", Some((3, "array"))),
        ("tests:\n  - {name: it, token: github/tag-push, expect: {deny: nothing}}\n", Some((2, "no-matching-rule"))),
        ("issuers:\n  github: {provider: github}\n", None),
        (
            "rules:\n  w: {registry: a, issuer: g, mode: off, when: {tag: {not: {in: [v1]}}}, allow: {upload: [w]}}\n",
            None,
        ),
    ] {
        let complaints = editor.complaints(text);
        match complaint {
            Some((line, word)) => {
                let said = complaints.iter().any(|(at, message)| *at == line && message.contains(word));
                assert!(said, "{text}\nshould be marked for `{word}` on line {line}; marked are {complaints:?}");
            }
            None => assert_eq!(complaints, [], "{text}"),
        }
    }
    let yaml = |folder: &str| {
        let entries = fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect::<Vec<_>>()
    };
    let folders = fs::read_dir(path("examples/policies")).unwrap().map(|entry| entry.unwrap().path());
    let examples = folders.filter(|path| path.is_dir()).map(|path| path.join("policy.yaml"));
    let good: Vec<_> =
        yaml("config/policy").into_iter().chain(examples).chain(yaml("tests/data/policy/good")).collect();
    for file in &good {
        let text = fs::read_to_string(file).unwrap();
        assert_eq!(editor.complaints(&text), [], "{}", file.display());
    }
    assert!(good.len() >= 29, "{good:?}");
}
