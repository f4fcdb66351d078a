//! The walkthrough of the documentation, done again: each command with the real binary, each answer letter for letter.

use std::fs;
use std::path::Path;
use std::process::Command;

const PAGE: &str = "docs/policy-walkthrough.md";
/// Says that the block below it is a file of the directory in which the commands are given.
const WRITE: &str = "<!-- write ";

/// The page with what its commands print in place of what it says that they print.
fn perform(page: &str, directory: &Path) -> String {
    let (mut performed, mut file, mut lines) = (Vec::new(), None, page.lines());
    while let Some(line) = lines.next() {
        performed.push(line.to_owned());
        if let Some(path) = line.strip_prefix(WRITE) {
            file = Some(directory.join(path.strip_suffix(" -->").unwrap()));
        }
        if !line.starts_with("```") {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        if let Some(path) = file.take() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, block.join("\n") + "\n").unwrap();
        }
        if line == "```console" {
            for command in block.iter().filter(|line| line.starts_with("$ ")) {
                performed.push((*command).to_owned());
                performed.extend(printed(&command[2..], directory).trim_end().lines().map(str::to_owned));
            }
        } else {
            performed.extend(block.into_iter().map(str::to_owned));
        }
        performed.push("```".to_owned());
    }
    performed.join("\n") + "\n"
}

/// What a command prints on a terminal, with nothing in its environment that the page does not mention.
fn printed(command: &str, directory: &Path) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_trustmint")).parent().unwrap();
    let output = Command::new("sh")
        .args(["-c", &format!("exec 2>&1; {command}")])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", binary.display()))
        .current_dir(directory)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_command_of_the_walkthrough_prints_what_the_page_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    assert!(page.matches("\n$ ").count() >= 6);
    let performed = perform(&page, tempfile::tempdir().unwrap().path());
    if performed != page {
        let differs = performed.lines().zip(page.lines()).zip(1..).find(|((now, then), _)| now != then);
        let new = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy-walkthrough.md");
        fs::write(&new, &performed).unwrap();
        panic!("{PAGE} differs, first in {differs:?}; if it should now read like {}, copy that", new.display());
    }
}
