//! What `docs/clients.md` tells people to write in a CI file, for tests to run as it stands there.

/// The block for GitLab in a client's section: what its `id_tokens` says, and its script as GitLab's runner runs it.
pub fn gitlab_block(section: &str) -> (String, String) {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/clients.md")).unwrap();
    let (_, section) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut blocks = section.split("```yaml\n").skip(1).map(|block| block.split("```").next().unwrap());
    let block = blocks.find(|block| block.contains("id_tokens: ") && block.contains("script:\n")).unwrap();
    let (id_tokens, script) = block.split_once("script:\n").unwrap();
    let (_, id_tokens) = id_tokens.split_once("id_tokens: ").unwrap();
    // YAML's `>` makes one line of an item's lines.
    let items = script.split("  - ").skip(1).map(|item| item.trim_start_matches(">\n"));
    let lines = items.map(|item| item.lines().map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned());
    let script = format!("set -eo pipefail\n{}\n", lines.collect::<Vec<_>>().join("\n"));
    (id_tokens.trim().to_owned(), script)
}
