//! What operators read is there: a row for each metric, a runbook for each alert, and no command, metric or place that
//! does not exist.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use trustmint::telemetry::Metrics;
use trustmint::telemetry::metrics::Kind;

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Every page of the folder, by its path.
fn pages() -> Vec<(String, String)> {
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let path = |name: String| Some(format!("docs/{}.md", name.strip_suffix(".md")?));
    let mut paths: Vec<String> = names.filter_map(path).collect();
    paths.extend(["README.md".to_owned(), "charts/trustmint/README.md".to_owned()]);
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), page(&path))).collect()
}

#[test]
fn every_metric_has_its_row_and_every_row_its_metric() {
    let page = page("docs/metrics.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `trustmint_")).collect();
    let metrics = Metrics::new().unwrap();
    let mut missing = Vec::new();
    for metric in metrics.described() {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let cells = [metric.kind.as_str(), metric.unit().unwrap_or(""), &labels.join(", "), metric.help];
        let start = format!("| `{}` | {} | ", metric.name, cells.join(" | "));
        if !rows.iter().any(|row| row.strip_prefix(&start).is_some_and(|watch| watch.len() > " |".len())) {
            missing.push(format!("{start}what to watch |"));
        }
    }
    assert!(missing.is_empty(), "docs/metrics.md lacks these rows:\n{}", missing.join("\n"));
    assert_eq!(rows.len(), metrics.described().len(), "docs/metrics.md has a row without a metric");
}

#[test]
fn no_page_names_a_metric_that_does_not_exist() {
    let metrics = Metrics::new().unwrap();
    let mut known = BTreeSet::new();
    for metric in metrics.described() {
        let ends: &[&str] = if metric.kind == Kind::Histogram { &["", "_bucket", "_sum", "_count"] } else { &[""] };
        known.extend(ends.iter().map(|end| format!("{}{end}", metric.name)));
    }
    let mut found = 0;
    for (path, page) in pages() {
        for (at, _) in page.match_indices("trustmint_") {
            let name: String = page[at..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            assert!(known.contains(&name), "{path}: there is no metric {name}");
            found += 1;
        }
    }
    assert!(found >= 60, "{found}");
}

/// The sections of a chapter, by their headings.
fn sections<'p>(page: &'p str, chapter: &str) -> BTreeMap<&'p str, &'p str> {
    let (_, chapter) = page.split_once(&format!("\n## {chapter}\n")).unwrap();
    let chapter = chapter.split("\n## ").next().unwrap();
    let mut sections = BTreeMap::new();
    for section in chapter.split("\n### ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap();
        assert!(sections.insert(heading, text).is_none(), "twice: {heading}");
    }
    sections
}

/// The chart makes the links, to this page's headings in small letters.
#[test]
fn every_alert_has_its_runbook_and_every_runbook_its_alert() {
    let page = page("docs/operations.md");
    let sections = sections(&page, "Alerts");
    let alerts = self::page("charts/trustmint/files/alerts.yaml");
    let alerts: BTreeSet<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(sections.keys().copied().collect::<BTreeSet<_>>(), alerts);
    for (heading, text) in sections {
        let mut lines = text.trim().lines();
        for part in ["Means", "Affects", "Look", "Do"] {
            let line = lines.next().unwrap_or_default();
            let said = line.strip_prefix(&format!("- **{part}:** ")).unwrap_or_default();
            assert!(said.len() > 5, "{heading} does not say `{part}`: {line}");
        }
        assert_eq!(lines.next(), None, "{heading}");
    }
}

/// Each call of the program on a page: what follows its name, up to the end of the command.
fn calls(page: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    let mut inside = false;
    let joined = page.replace("\\\n", " ");
    for line in joined.lines().map(str::trim_start) {
        if line.starts_with("```") {
            inside = !inside;
        }
        let spans: Vec<&str> = if inside { vec![line] } else { line.split('`').skip(1).step_by(2).collect() };
        for span in spans {
            // In a container it is called by its path.
            let span = span.split_once(" /usr/local/bin/").map_or(span, |(_, call)| call);
            let Some(command) = span.split("  #").next().and_then(|span| span.strip_prefix("trustmint ")) else {
                continue;
            };
            let command = command.split(['|', '>', ';', '<']).next().unwrap();
            calls.push(command.split_whitespace().map(ToOwned::to_owned).collect());
        }
    }
    calls
}

fn help(verbs: &[&str]) -> Option<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustmint"));
    let output = command.env_clear().args(verbs).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What is wrong with a call.
fn fault(call: &[String], helps: &mut BTreeMap<Vec<String>, Option<String>>) -> Option<String> {
    let is_verb = |word: &&String| word.chars().all(|c| c.is_ascii_lowercase());
    let verbs: Vec<String> = call.iter().take_while(is_verb).take(2).cloned().collect();
    // `trustmint token FILE` and `trustmint policy test` begin alike: the longer one, if it is a command.
    let known = (1..=verbs.len()).rev().find_map(|count| {
        let verbs = verbs[..count].to_vec();
        let names: Vec<&str> = verbs.iter().map(String::as_str).collect();
        helps.entry(verbs.clone()).or_insert_with(|| help(&names)).clone()
    });
    let Some(known) = known else { return Some("there is no such command".to_owned()) };
    let options = call.iter().filter(|word| word.starts_with("--") && word.len() > 2);
    let unknown = options.map(|word| word.split('=').next().unwrap()).find(|option| {
        !known
            .split_whitespace()
            .any(|word| word.trim_matches(['[', ']', '<', '>', ',']).split('|').any(|it| it == *option))
    });
    unknown.map(|option| format!("it has no option {option}"))
}

#[test]
fn every_command_on_the_operators_pages_exists() {
    let mut helps = BTreeMap::new();
    let mut found = 0;
    let guides = ["operations", "keys", "redis", "metrics", "issuers", "image"].map(|name| format!("docs/{name}.md"));
    for path in guides.iter().map(String::as_str).chain(["charts/trustmint/README.md"]) {
        for call in calls(&page(path)) {
            found += 1;
            assert_eq!(fault(&call, &mut helps), None, "{path}: trustmint {}", call.join(" "));
        }
    }
    assert!(found >= 40, "{found}");
    for (wrong, words) in [
        ("trustmint kyes list", "no such command"),
        ("trustmint keys list --dir keys", "no option --dir"),
        ("trustmint stop --issuer github --because x", "no option --because"),
        ("kubectl exec deployment/trustmint -- /usr/local/bin/trustmint chekc", "no such command"),
    ] {
        let [call] = calls(&format!("`{wrong}`")).try_into().unwrap();
        assert!(fault(&call, &mut helps).is_some_and(|fault| fault.contains(words)), "{wrong}");
    }
}

/// How a heading is linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let mut found = 0;
    for (path, text) in pages() {
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            found += 1;
            let (file, place) = target.split_once('#').map_or((target, None), |(file, place)| (file, Some(place)));
            let there = Path::new(&path).parent().unwrap().join(file);
            let there = if file.is_empty() { path.clone() } else { there.to_str().unwrap().to_owned() };
            let full = Path::new(env!("CARGO_MANIFEST_DIR")).join(&there);
            assert!(full.exists(), "{path}: {target}");
            let Some(place) = place else { continue };
            let linked = page(&there);
            let headings = linked
                .lines()
                .filter(|line| line.starts_with('#'))
                .map(|line| anchor(line.trim_start_matches('#').trim()));
            let named = linked.contains(&format!("<a id=\"{place}\"></a>"));
            assert!(named || headings.into_iter().any(|heading| heading == place), "{path}: {target}");
        }
    }
    assert!(found >= 150, "{found}");
}
