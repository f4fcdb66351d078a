//! The documentation says what the code does.

use std::fs;
use std::path::Path;

use trustmint::code::Code;
use trustmint::identity::provider;
use trustmint::policy::lint::catalogue;

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
        let mend = if lint.ruling.is_found() { "Mend" } else { "Here" };
        expected += &format!(
            "\n### {}\n\n**{}**: {}. {}\n\n{mend}: {}\n",
            lint.code,
            lint.ruling.as_str(),
            lint.title,
            lint.why,
            lint.mend
        );
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
        if let Some(url) = provider.site.owned_url() {
            assert!(section.contains(url), "{}: the page does not name its issuer", provider.name);
        }
    }
}
