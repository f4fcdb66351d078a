//! The documentation says what the code does.

use std::fs;
use std::path::Path;

use trustmint::code::Code;

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
