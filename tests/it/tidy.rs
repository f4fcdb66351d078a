//! Holds the shape of the code: who may name whom, what is pure, where a foreign crate may appear, how long a file may
//! be. A text check, so it reads only what it can see: paths are written `crate::…`, one `use` a line, and `super::`
//! stays inside a module's own folder; what would escape it is refused as well.

use std::fs;
use std::path::Path;

/// Each module: its layer, the layers it may name, and single modules that it may name besides. A longer path has the
/// last word: `identity/fetch` is the row of `src/identity/fetch.rs`, `identity` that of the rest of `src/identity*`.
/// Nobody names their own layer or one above, so there are no cycles.
const MAY_NAME: &[(&str, u8, &[u8], &[&str])] = &[
    ("code", 0, &[], &[]),
    ("codec", 0, &[], &[]),
    ("escape", 0, &[], &[]),
    ("json", 0, &[], &[]),
    ("json_text", 0, &[], &["json"]),
    ("package", 0, &[], &[]),
    ("secret", 0, &[], &[]),
    ("spelling", 0, &[], &[]),
    ("time", 0, &[], &["spelling"]),
    ("yielding", 0, &[], &[]),
    ("audit", 1, &[0], &[]),
    ("macaroon", 1, &[0], &[]),
    ("state", 1, &[0], &[]),
    ("telemetry", 1, &[0], &[]),
    // Who is asking. Only the driver of the key cache and the fetcher reach outside.
    ("identity", 2, &[0], &[]),
    ("identity/fetch", 2, &[0], &["state", "telemetry"]),
    ("identity/keys", 2, &[0], &["state", "telemetry"]),
    // What they may do. Only the watch over the policy's directory and the polls for bundles reach outside; what would have
    // changed is read from the audit log's lines.
    ("policy", 3, &[0], &["identity"]),
    ("policy/diff", 3, &[0], &["identity", "audit"]),
    ("policy/watch", 3, &[0], &["identity", "state", "telemetry"]),
    ("policy/bundle/poll", 3, &[0], &["identity", "state", "telemetry"]),
    // The use-cases, each alone.
    ("exchange", 4, &[0, 1, 2, 3], &[]),
    ("explain", 4, &[0, 1, 2, 3], &[]),
    ("revoke", 4, &[0, 1, 2, 3], &[]),
    ("verify", 4, &[0, 1, 2, 3], &[]),
    // The rim: settings make values; `app` wires them; HTTP sees neither settings nor files.
    ("config", 5, &[0, 1, 2, 3], &[]),
    ("app", 6, &[0, 1, 2, 3, 4, 5], &[]),
    ("http", 7, &[0, 1, 2, 3, 4, 6], &[]),
    ("demo", 8, &[0, 1, 2, 3, 4, 5, 6, 7], &[]),
    // SECURITY: `serve` cannot reach the demonstration, whose identity provider signs whatever it is asked to.
    ("cli", 8, &[0, 1, 2, 3, 4, 5, 6, 7], &[]),
    ("cli/demo", 8, &[0, 1, 2, 3, 4, 5, 6, 7], &["demo"]),
    ("lib", 9, &[], &[]),
    ("main", 9, &[], &["cli"]),
];

/// Modules that are functions of values, all their files included …
const PURE: &[&str] = &[
    "code",
    "codec",
    "escape",
    "json",
    "json_text",
    "package",
    "secret",
    "spelling",
    "time",
    "yielding",
    "macaroon",
    "audit/event",
    "audit/lines",
    "audit/record",
    "http/clients/buckets",
    "identity",
    "policy",
];

/// … but these, which are the rim of theirs.
const RIM: &[&str] = &["identity/fetch", "identity/keys", "policy/watch", "policy/bundle/poll"];

/// What a pure file cannot mention: waiting, files, the environment, sockets, threads, logs. (`std::net` also holds
/// plain values, so its sockets are named one by one.)
const IMPURE: &[&str] = &[
    "async fn",
    "async move",
    ".await",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "tokio",
    "actix",
    "reqwest",
    "redis",
    "tracing",
];

/// Foreign crates (a trailing `*` stands for the rest of the name) and the only modules that may name them: a vendor's
/// type never appears in the signatures of the others.
const FENCES: &[(&str, &[&str])] = &[
    ("actix*", &["http", "app", "demo", "cli"]),
    ("clap*", &["cli"]),
    ("config", &["config"]),
    ("granit_parser", &["policy/yaml"]),
    ("jsonwebtoken", &["identity"]),
    ("openidconnect", &["identity"]),
    ("opentelemetry*", &["telemetry"]),
    ("prometheus", &["telemetry"]),
    ("postcard", &["policy/set"]),
    ("rcgen", &["demo"]),
    ("redis", &["state/redis"]),
    ("regex", &["policy/regexp"]),
    // The demonstration's registry and client play other programs, which ask the service over the network; so do the
    // verbs that ask a service that runs.
    (
        "reqwest",
        &[
            "identity/fetch",
            "demo/registry",
            "demo/client",
            "cli/stop",
            "cli/probe",
            "cli/health",
            "telemetry/otlp/client",
        ],
    ),
    ("prost", &["telemetry/otlp"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// The verb that runs the demonstration, in the spellings that reach it, and the only file that may write one besides
/// its own: the verbs stay strangers, so that `serve` does not reach through one what it may not name itself.
const SEALED: &[&str] = &["cli::demo", "super::demo"];
const SEALED_TO: &[&str] = &["cli", "cli/demo"];

/// A file that is longer than this, tests and comments aside, has more than one subject.
const CODE_LINES: usize = 400;

#[test]
fn the_source_is_tidy() {
    let mut sources = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), String::new(), &mut sources);
    assert!(sources.len() > 20, "only {} sources were found: the check looks in the wrong place", sources.len());
    let faults: Vec<String> = sources.iter().flat_map(|(module, text)| check(module, text)).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// Every `.rs` file below `folder` as (`identity/fetch`, text). `tests.rs` in a module's folder is its `mod tests`.
fn collect(folder: &Path, prefix: String, sources: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            collect(&path, format!("{prefix}{name}/"), sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && (prefix.is_empty() || name != "tests")
        {
            sources.push((format!("{prefix}{name}"), fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What is wrong with one file.
fn check(module: &str, text: &str) -> Vec<String> {
    let lines = code_lines(text);
    let mut faults = Vec::new();
    let mut fault = |number: usize, message: String| faults.push(format!("src/{module}.rs:{number}: {message}"));

    let top = module.split('/').next().unwrap();
    match row_of(module) {
        None => fault(1, format!("module `{top}` has no row in MAY_NAME")),
        Some((row, _, layers, besides)) => {
            for (number, line) in &lines {
                for named in crate_paths(line) {
                    let layer = row_of(named).map(|(_, layer, ..)| layer);
                    if named.is_empty() {
                        fault(
                            *number,
                            "a group or glob of `crate::` hides what it names; write one `use` a module".into(),
                        );
                    } else if named != top && !besides.contains(&named) && !layer.is_some_and(|it| layers.contains(it))
                    {
                        fault(*number, format!("`{row}` may not name `{named}`"));
                    }
                }
            }
        }
    }

    let pure = longest(PURE.iter().copied(), module).is_some() && longest(RIM.iter().copied(), module).is_none();
    let depth = module.split('/').count();
    for (number, line) in &lines {
        if (1..=8).any(|steps| steps >= depth && line.contains(&"super::".repeat(steps))) {
            fault(*number, "`super::` leaves the module's own folder; write `crate::…`".into());
        }
        if SEALED.iter().any(|path| mentions(line, path)) && top == "cli" && !SEALED_TO.contains(&module) {
            fault(*number, "another verb may not name `demo`".into());
        }
        if line.contains("extern crate") {
            fault(*number, "`extern crate` gives a crate a second name".into());
        }
        if pure {
            for word in IMPURE.iter().filter(|word| mentions(line, word)) {
                fault(*number, format!("a pure file may not mention `{word}`"));
            }
        }
        for (crate_name, homes) in FENCES {
            // `use crate::config;` takes the name: then only `::config` is the crate.
            let taken =
                lines.iter().any(|(_, line)| line.strip_prefix("use crate::") == Some(&format!("{crate_name};")));
            if names_crate(line, crate_name, taken) && longest(homes.iter().copied(), module).is_none() {
                fault(*number, format!("the crate `{crate_name}` is fenced to {}", homes.join(", ")));
            }
        }
    }
    if lines.len() > CODE_LINES {
        fault(lines.last().unwrap().0, format!("{} code lines, over the limit of {CODE_LINES}", lines.len()));
    }
    faults
}

/// The row of `MAY_NAME` that speaks for a module.
fn row_of(module: &str) -> Option<&'static (&'static str, u8, &'static [u8], &'static [&'static str])> {
    let row = longest(MAY_NAME.iter().map(|(name, ..)| *name), module)?;
    MAY_NAME.iter().find(|(name, ..)| *name == row)
}

/// The lines that are code, numbered from 1: no blank line, no comment, no `#[cfg(test)] mod`.
fn code_lines(text: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line)).peekable();
    while let Some((number, line)) = lines.next() {
        if line == "#[cfg(test)]" && lines.peek().is_some_and(|(_, next)| next.starts_with("mod ")) {
            // `mod tests;` ends at once, an inline one at the brace in the first column.
            let (_, opening) = lines.next().unwrap();
            if opening.ends_with('{') {
                lines.by_ref().find(|(_, line)| *line == "}");
            }
        } else if !line.trim().is_empty() && !line.trim_start().starts_with("//") {
            code.push((number, line));
        }
    }
    code
}

/// The module after each `crate::`, also under the crate's own name; empty for `crate::{…}` and `crate::*`.
fn crate_paths(line: &str) -> Vec<&str> {
    let mut paths = Vec::new();
    for root in ["crate::", "trustmint::"] {
        for (at, _) in line.match_indices(root) {
            if !line[..at].ends_with(is_word) {
                paths.push(first_word(&line[at + root.len()..]));
            }
        }
    }
    paths
}

/// Whether the line has `word` as words of their own.
fn mentions(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(is_word) || word.starts_with('.'))
}

/// Whether the line has a path that starts with the crate: `crate_name::…`, not `crate::crate_name::…`; where a module
/// of ours has `taken` the name, only `::crate_name::…`.
fn names_crate(line: &str, crate_name: &str, taken: bool) -> bool {
    let (stem, open) = crate_name.strip_suffix('*').map_or((crate_name, false), |stem| (stem, true));
    line.match_indices(stem).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + stem.len()..]);
        let after = if open { after.trim_start_matches(is_word) } else { after };
        let path = before.strip_suffix("::");
        let ours = path.map_or(taken, |parent| parent.ends_with(is_word));
        let whole =
            after.starts_with("::") || before == "use " && (after.starts_with(';') || after.starts_with(" as "));
        whole && !ours && !before.ends_with(is_word)
    })
}

/// The longest of `rows` that is the module itself or a folder above it.
fn longest<'a>(rows: impl Iterator<Item = &'a str>, module: &str) -> Option<&'a str> {
    rows.filter(|row| module.strip_prefix(row).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        .max_by_key(|row| row.len())
}

fn first_word(text: &str) -> &str {
    &text[..text.find(|letter| !is_word(letter)).unwrap_or(text.len())]
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The check itself: each row plants one violation and says what must be reported of it.
#[test]
fn a_planted_violation_is_reported() {
    for (module, text, expected) in [
        ("macaroon", "use crate::policy::Rule;", "src/macaroon.rs:1: `macaroon` may not name `policy`"),
        ("time", "fn f() {\n    crate::json::parse();\n}", "src/time.rs:2: `time` may not name `json`"),
        ("state", "use crate::telemetry::Metrics;", "`state` may not name `telemetry`"),
        ("identity/cache", "use crate::telemetry::Metrics;", "`identity` may not name `telemetry`"),
        ("identity/provider/github", "use crate::policy::Rule;", "`identity` may not name `policy`"),
        ("identity/keys", "use crate::policy::Rule;", "`identity/keys` may not name `policy`"),
        ("exchange", "use crate::verify;", "`exchange` may not name `verify`"),
        ("config/keys", "use crate::app::App;", "`config` may not name `app`"),
        ("http/token", "use crate::config::Settings;", "`http` may not name `config`"),
        ("demo", "use crate::cli::Cli;", "`demo` may not name `cli`"),
        ("cli/serve", "use crate::demo::provider::LoopbackProvider;", "`cli` may not name `demo`"),
        ("cli", "fn f() { crate::demo::bind(); }", "`cli` may not name `demo`"),
        ("app", "use crate::demo::world::World;", "`app` may not name `demo`"),
        ("http/token", "use crate::demo::world::World;", "`http` may not name `demo`"),
        ("cli/serve", "use crate::cli::demo::Demo;", "src/cli/serve.rs:1: another verb may not name `demo`"),
        ("cli/serve", "use super::demo::Demo;", "another verb may not name `demo`"),
        ("main", "use trustmint::demo::world::World;", "`main` may not name `demo`"),
        ("main", "use trustmint::app::App;", "`main` may not name `app`"),
        ("policy", "pub(in crate::http) fn f() {}", "`policy` may not name `http`"),
        ("util", "", "module `util` has no row in MAY_NAME"),
        ("macaroon", "use crate::{policy, time};", "a group or glob of `crate::`"),
        ("macaroon", "use crate::*;", "a group or glob of `crate::`"),
        ("macaroon", "use super::policy;", "`super::` leaves the module's own folder"),
        ("macaroon/key", "use super::super::policy;", "`super::` leaves the module's own folder"),
        ("macaroon", "extern crate trustmint as other;", "`extern crate`"),
        ("policy/glob", "pub async fn f() {}", "a pure file may not mention `async fn`"),
        ("policy", "    let rules = fetch().await;", "a pure file may not mention `.await`"),
        ("macaroon/format", "use std::fs;", "a pure file may not mention `std::fs`"),
        ("macaroon", "use std::net::TcpStream;", "a pure file may not mention `TcpStream`"),
        ("identity/verify", "tracing::info!(\"verified\");", "a pure file may not mention `tracing`"),
        ("secret", "let home = std::env::var(\"HOME\");", "a pure file may not mention `std::env`"),
        ("exchange", "use actix_web::HttpResponse;", "the crate `actix*` is fenced to http, app, demo, cli"),
        (
            "http/token",
            "use reqwest::Url;",
            "the crate `reqwest` is fenced to identity/fetch, demo/registry, demo/client, cli/stop",
        ),
        (
            "identity/keys",
            "    client: reqwest::Client,",
            "the crate `reqwest` is fenced to identity/fetch, demo/registry, demo/client, cli/stop",
        ),
        ("exchange", "fn f(key: &jsonwebtoken::DecodingKey) {}", "the crate `jsonwebtoken` is fenced to identity"),
        ("policy", "use openidconnect as oidc;", "the crate `openidconnect` is fenced to identity"),
        ("app", "let c = config::Config::builder();", "the crate `config` is fenced to config"),
        ("app", "use ::config::Config;", "the crate `config` is fenced to config"),
        ("app", "use crate::config;\nuse ::config::Config;", "src/app.rs:2: the crate `config` is fenced to config"),
        ("policy/rule", "use granit_parser::Parser;", "the crate `granit_parser` is fenced to policy/yaml"),
        ("http", "use opentelemetry_sdk::metrics;", "the crate `opentelemetry*` is fenced to telemetry"),
        ("app", "prometheus::Registry::new();", "the crate `prometheus` is fenced to telemetry"),
        ("config", &"let x = 1;\n".repeat(401), "src/config.rs:401: 401 code lines, over the limit of 400"),
        // Code after the tests, and a lone `#[cfg(test)]` item, do not hide what follows them.
        (
            "time",
            "#[cfg(test)]\nmod tests {\n    use crate::http;\n}\nuse crate::policy;",
            "src/time.rs:5: `time` may not name `policy`",
        ),
        ("time", "#[cfg(test)]\nconst X: u8 = 1;\nuse crate::http;", "src/time.rs:3: `time` may not name `http`"),
    ] {
        let faults = check(module, text);
        assert!(
            faults.len() == 1 && faults[0].contains(expected),
            "planted in {module}:\n{}\nexpected: {expected}\nreported: {faults:#?}",
            text.lines().next().unwrap_or_default()
        );
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (module, text) in [
        ("macaroon/verify", "use crate::macaroon::key::Keyring;\nuse crate::time::Timestamp;\nuse super::format;"),
        ("identity/provider/github", "use super::super::claims;\nuse crate::json::Json;"),
        ("identity/keys", "use crate::telemetry::Metrics;\npub async fn key() { tokio::task::yield_now().await }"),
        ("identity/fetch", "use reqwest::Client;"),
        ("macaroon", "use std::net::IpAddr;\n// tokio and crate::policy are only mentioned here\n"),
        ("cli/demo", "use crate::demo;\nuse crate::config::Settings;\nuse clap::Parser;"),
        ("cli", "mod demo;\nuse crate::cli::demo::Demo;"),
        ("app", "use crate::config::Settings;\nlet config = crate::config::keys::read_keyring(&path);"),
        ("cli/serve", "use crate::config;\nlet ring = config::keys::read_keyring(&path);"),
        ("config/source", "use config::Source;\nuse crate::policy::yaml::Node;"),
        ("telemetry/metrics", "use opentelemetry::KeyValue;\nuse prometheus::Registry;"),
        ("http/token", "use actix_web::web;\nuse crate::app::App;"),
        ("time", "#[cfg(test)]\nmod tests;\n"),
        ("time", "#[cfg(test)]\nmod tests {\n    use crate::policy;\n}\n"),
        ("config", &"let x = 1;\n\n// a comment\n".repeat(400)),
        ("main", "fn main() { trustmint::cli::run() }"),
    ] {
        assert_eq!(check(module, text), Vec::<String>::new(), "in {module}");
    }
}
