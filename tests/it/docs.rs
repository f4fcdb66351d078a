//! The documentation says what the code does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use trustmint::code::Code;
use trustmint::identity::provider;
use trustmint::identity::provider::ImpliedTest;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::bundle::Signed;
use trustmint::policy::bundle::accept;
use trustmint::policy::explain::Cause;
use trustmint::policy::lint::catalogue;
use trustmint::time::Timestamp;

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

#[test]
fn every_failure_code_has_its_row_and_every_row_its_code() {
    let page = page("docs/errors.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| <a id=")).collect();
    for code in Code::ALL {
        let start = format!("| <a id=\"{code}\"></a>`{code}` | {} | ", code.class().as_str());
        let row = rows.iter().find(|row| row.starts_with(&start));
        let row = row.unwrap_or_else(|| panic!("docs/errors.md has no row that starts with {start}"));
        assert!(row.ends_with(&format!("| {} |", code.mend())), "the mend of `{code}` differs in docs/errors.md");
    }
    assert_eq!(rows.len(), Code::ALL.len(), "docs/errors.md has a row without a code");
}

#[test]
fn every_lint_code_has_its_section_as_the_catalogue_has_it() {
    let page = page("docs/policy-lint.md");
    let (_, sections) = page.split_once("\n## Codes\n").unwrap();
    let mut expected = String::new();
    for (number, lint) in (1..).zip(catalogue::ALL) {
        assert_eq!(lint.code, format!("L{number:03}"), "the codes are in order and none is left out");
        let mend = if lint.ruling.has_mend() { "Mend" } else { "Here" };
        let section = format!(
            "\n### {}\n\n**{}**: {}. {}\n\n{mend}: {}\n",
            lint.code,
            lint.ruling.as_str(),
            lint.title,
            lint.why,
            lint.mend
        );
        expected.push_str(&section);
    }
    assert_eq!(sections, expected, "docs/policy-lint.md differs from src/policy/lint/catalogue.rs");
}

#[test]
fn every_preset_has_its_section_that_names_what_rules_must_pin() {
    let page = page("docs/providers.md");
    for provider in provider::ALL {
        let heading = format!("\n## {}\n", provider.name);
        let (_, section) = page.split_once(&heading).unwrap_or_else(|| panic!("no section for {}", provider.name));
        let section = section.split("\n## ").next().unwrap();
        let names = provider.pins.iter().copied().chain(provider.derived.iter().map(|derived| derived.claim.name));
        for name in names.filter(|name| !name.starts_with("job_workflow_")) {
            assert!(section.contains(&format!("`{name}`")), "{}: the page does not name `{name}`", provider.name);
        }
        let freed = provider.spans.iter().flat_map(|span| span.frees);
        let spans = provider.spans.iter().map(|span| &span.name).chain(freed).map(|name| provider.shown(name));
        let row = section.lines().find(|line| line.starts_with("| span |")).unwrap_or_default();
        assert!(spans.into_iter().all(|name| row.contains(&format!("`{name}`"))), "{}: spans: {row}", provider.name);
        let row = section.lines().find(|line| line.starts_with("| must narrow |")).unwrap_or_default();
        for name in provider.narrows {
            assert!(row.contains(&format!("`{name}`")), "{}: {row} does not name `{name}`", provider.name);
        }
        if let Some(url) = provider.site.owned_url() {
            assert!(section.contains(url), "{}: the page does not name its issuer", provider.name);
        }
    }
}

/// The arguments of a command can be read by every process of the machine.
#[test]
fn no_command_of_the_pages_has_a_token_among_curls_arguments() {
    let mut commands = 0;
    for path in ["README.md", "docs/clients.md", "docs/offline.md"] {
        let page = page(path).replace("\\\n", " ");
        for command in page.split(['\n', '|']) {
            let Some((_, arguments)) = command.split_once("curl ") else { continue };
            commands += 1;
            for after in arguments.split('$').skip(1) {
                let name: String = after.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                assert!(!name.to_lowercase().ends_with("token"), "{path}: {command}");
            }
        }
    }
    assert!(commands >= 8, "{commands}");
}

/// The blocks of YAML in a page, each with the number of the line before its first.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks: Vec<(usize, String)> = Vec::new();
    let mut inside = false;
    for (line, number) in page.lines().zip(1..) {
        if inside && line == "```" {
            inside = false;
        } else if inside {
            blocks.last_mut().unwrap().1.extend([line, "\n"]);
        } else if line == "```yaml" {
            inside = true;
            blocks.push((number, String::new()));
        }
    }
    assert!(!inside);
    blocks
}

/// The first block of the page has the issuers and registries that the others are about. A block whose first line is
/// `# refused: …` does not load, for that reason.
#[test]
fn every_policy_in_the_page_about_the_language_loads_and_passes_its_tests() {
    let page = page("docs/policy.md");
    let blocks = blocks(&page);
    let base = Source { name: "base.yaml".to_owned(), text: blocks[0].1.clone() };
    let mut wrong = Vec::new();
    for (line, text) in &blocks {
        let own = Source { name: format!("docs/policy.md+{line}"), text: text.clone() };
        let sources = if text == &base.text { vec![base.clone()] } else { vec![base.clone(), own] };
        let loaded = Policy::load(&sources, &|_, _| None);
        match (text.lines().next().and_then(|first| first.strip_prefix("# refused: ")), loaded) {
            (None, Ok(policy)) => {
                assert!(policy.tests().len() >= text.matches("expect:").count(), "line {line}");
                // What a page recommends is what lint does.
                wrong.extend(policy.warnings().iter().map(ToString::to_string));
            }
            (None, Err(faults)) => wrong.push(faults.to_string()),
            (Some(reason), Err(faults)) if faults.to_string().contains(reason) => {}
            (Some(reason), Err(faults)) => wrong.push(format!("line {line}: not refused for {reason}, but: {faults}")),
            (Some(_), Ok(_)) => wrong.push(format!("line {line}: it loads")),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(blocks.len() >= 25, "{}", blocks.len());
}

#[test]
fn the_page_about_the_language_has_a_tested_rule_for_each_preset() {
    let page = page("docs/policy.md");
    for provider in provider::ALL {
        let (_, section) =
            page.split_once(&format!("\n### {}\n", provider.name)).unwrap_or_else(|| panic!("{}", provider.name));
        let section = section.split("\n##").next().unwrap();
        assert!(
            section.contains(&format!("token: {}/", provider.name)) && section.contains("expect: {deny:"),
            "{section}"
        );
    }
}

/// What an implied condition demands, in the words of explanations.
fn wants(implied: ImpliedTest) -> String {
    match implied {
        ImpliedTest::In(texts) => format!("one of {}", texts.join(", ")),
        ImpliedTest::NotIn(texts) => format!("none of {}", texts.join(", ")),
        ImpliedTest::IsTrue => "true".to_owned(),
        ImpliedTest::IsFalse => "false".to_owned(),
        ImpliedTest::Absent => "absent".to_owned(),
        ImpliedTest::AbsentOrIs("") => "absent or empty".to_owned(),
        ImpliedTest::AbsentOrIs(text) => format!("absent, or {text}"),
        ImpliedTest::SameAs(other) => format!("the same as `{other}`"),
        ImpliedTest::AbsentOrSameAs(other) => format!("absent, or the same as `{other}`"),
    }
}

#[test]
fn the_page_about_the_language_has_what_the_code_has() {
    let page = page("docs/policy.md");
    let mut expected = Vec::new();
    for provider in provider::ALL {
        for implied in provider.implied {
            let claim = provider.shown(implied.claim);
            expected.push(format!("| {} | `{claim}` | {} |\n", provider.name, wants(implied.test)));
        }
        for span in provider.spans {
            let freed = span.frees.iter().map(|claim| format!("`{}`", provider.shown(claim))).collect::<Vec<_>>();
            let names =
                if span.names.is_empty() { "nothing".to_owned() } else { format!("`{}`", span.names.join("`, `")) };
            expected.push(format!("| {} | `{}` | {} | {names} |\n", provider.name, span.name, freed.join(", ")));
        }
        let examples = provider.examples.iter().map(|example| format!("`{}/{}`", provider.name, example.name));
        expected.push(format!("| {} | {} |\n", provider.name, examples.collect::<Vec<_>>().join(", ")));
    }
    let codes = Cause::ALL.map(|cause| format!("`{}`", cause.code())).join(", ");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&page).contains(&words(&codes)), "docs/policy.md lacks the codes {codes}");
    let missing: String = expected.iter().filter(|row| !page.contains(*row)).map(String::as_str).collect();
    assert!(missing.is_empty(), "docs/policy.md lacks these rows:\n{missing}");
}

#[test]
fn the_page_about_bundles_has_what_the_code_has() {
    let code = page("src/policy/bundle/fault.rs") + &page("src/policy/bundle/poll.rs");
    let page = page("docs/bundles.md");
    // The operator's part, and a document that it lets the registry serve.
    let blocks = blocks(&page);
    let [(_, directory), (_, document)] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    assert_eq!(directory.matches('…').count(), 1, "what the reader has to fill in");
    let directory = directory.replace('…', &"0".repeat(64));
    let text = format!("issuers: {{github: {{provider: github}}}}\n{directory}");
    let source = Source { name: "docs/bundles.md".to_owned(), text };
    let policy = Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"));
    let not_after = document.lines().find_map(|line| line.strip_prefix("not_after: ")).unwrap();
    let not_after = Timestamp::parse_rfc3339(not_after.split(' ').next().unwrap()).unwrap();
    let before = not_after.minus(Duration::from_secs(1));
    let bundle = accept(&policy, "acme-pypi", &Signed::known(document.as_bytes()), None, before);
    let bundle = bundle.unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!((bundle.rule_count(), bundle.not_after()), (1, not_after));

    // What a poll can come to: a bundle, or one of the reasons.
    let reasons = code.lines().filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\","));
    let expected: BTreeSet<&str> = reasons.chain(["new", "same"]).collect();
    let (_, table) = page.split_once("| `result` | what happened | what to do |\n|---|---|---|\n").unwrap();
    let cells = table.lines().take_while(|line| line.starts_with("| `")).map(|line| line.split(" | ").next().unwrap());
    let written: BTreeSet<&str> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(written, expected);
}
