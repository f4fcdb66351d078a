//! What `docs/clients.md` tells people to write in a CI file, for tests to run as it stands there.

use std::path::Path;
use std::process::Command;

use super::front::Front;
use super::front::Job;
use super::front::Said;
use super::front::said;

/// The block for GitLab in a client's section: what its `id_tokens` says, and its script as GitLab's runner runs it.
pub fn gitlab_block(section: &str) -> (String, String) {
    let block = blocks(section, "yaml")
        .into_iter()
        .find(|block| block.contains("id_tokens: ") && block.contains("script:\n"))
        .unwrap();
    let (id_tokens, script) = block.split_once("script:\n").unwrap();
    let (_, id_tokens) = id_tokens.split_once("id_tokens: ").unwrap();
    // YAML's `>` makes one line of an item's lines.
    let items = script.split("  - ").skip(1).map(|item| item.trim_start_matches(">\n"));
    let lines = items.map(|item| item.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned());
    let script = format!("set -eo pipefail\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    (id_tokens.trim().to_owned(), script)
}

/// The steps for what exchanges nothing by itself: for an upload token, for an ID token at GitHub, and to revoke.
fn steps_by_hand() -> [String; 3] {
    blocks("Anything else", "sh").try_into().unwrap()
}

/// Runs the page's steps for an upload token in a GitHub job. `options` are added to the request; what is printed are the
/// two tokens, for GitHub to mask.
pub fn exchange_by_hand(front: &Front, job: &Job, audience: &str, options: &str) -> Said {
    let [exchange, id_token, _] = steps_by_hand();
    let mark = "&audience=acme\"";
    assert!(id_token.contains(mark), "{id_token}");
    let id_token = id_token.replace(mark, &format!("&audience={audience}\""));
    let exchange = exchange.replace("/v1/token ", &format!("/v1/token {options} "));
    let mut bash = bash(front, &format!("{id_token}{exchange}"));
    job.enter(&mut bash);
    said(&mut bash)
}

/// The upload token that these steps print.
pub fn masked_token(output: &str) -> String {
    let masked: Vec<&str> = output.lines().map(|line| line.strip_prefix("::add-mask::").unwrap()).collect();
    assert_eq!(masked.len(), 2, "{masked:?}");
    masked[1].to_owned()
}

/// Runs the page's step that revokes an upload token.
pub fn revoke_by_hand(front: &Front, token: &str) -> Said {
    let [.., revoke] = steps_by_hand();
    said(bash(front, &revoke).env("TOKEN", token))
}

/// A shell that runs the page's lines, for this registry.
fn bash(front: &Front, script: &str) -> Command {
    let url = front.url.trim_end_matches('/').trim_end_matches("/legacy");
    assert!(script.contains("https://pypi.acme.example/"), "{script}");
    let mut bash = front.client(Path::new("bash"));
    bash.env("CURL_CA_BUNDLE", front.ca()).args(["-c", &script.replace("https://pypi.acme.example", url)]);
    bash
}

/// A section of the page.
pub fn section(name: &str) -> String {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/clients.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {name}\n")).unwrap();
    section.split("\n## ").next().unwrap().to_owned()
}

/// The blocks of a section in that language, in the page's order.
fn blocks(name: &str, language: &str) -> Vec<String> {
    let (section, fence) = (section(name), format!("```{language}\n"));
    section.split(&fence).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}
