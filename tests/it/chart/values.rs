//! Values, their schema and their documentation say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::CHART;
use super::run;
use super::text;
use super::tool;

fn in_chart(name: &str) -> String {
    fs::read_to_string(Path::new(CHART).join(name)).unwrap()
}

#[test]
fn the_readme_is_what_its_script_makes_of_the_values() {
    let script = format!("{CHART}/readme.py");
    let made = text(run(Command::new(tool("TRUSTMINT_TEST_PYTHON")).arg(&script)));
    assert!(made == in_chart("README.md"), "run: python {script} > {CHART}/README.md");
    assert!(made.contains("| `replicaCount` | integer | `2` |"));
}

/// The paths of the leaves of a closed schema, or of those of a map.
fn leaves(of_schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    match of_schema["properties"].as_object().filter(|_| of_schema["additionalProperties"] == false) {
        Some(below) => {
            for (name, value) in below {
                leaves(value, &if at.is_empty() { name.clone() } else { format!("{at}.{name}") }, found);
            }
        }
        None => {
            found.insert(at.to_owned());
        }
    }
}

#[test]
fn every_key_of_the_schema_is_a_documented_value() {
    let schema: Value = serde_json::from_str(&in_chart("values.schema.json")).unwrap();
    let mut keys = BTreeSet::new();
    leaves(&schema, "", &mut keys);
    let readme = in_chart("README.md");
    let rows: BTreeSet<String> =
        readme.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned())).collect();
    // A row may be about a map as a whole.
    let told = |key: &String| rows.iter().any(|row| key == row || key.starts_with(&format!("{row}.")));
    let untold: Vec<&String> = keys.iter().filter(|key| key.as_str() != "global" && !told(key)).collect();
    assert!(untold.is_empty(), "values.yaml says nothing about {untold:?}");
    assert!(keys.len() > 100, "{}", keys.len());
}

#[test]
fn every_value_is_used_by_a_template() {
    let mut templates = String::new();
    let mut folders = vec![Path::new(CHART).join("templates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { templates += &fs::read_to_string(path).unwrap() }
        }
    }
    let schema: Value = serde_json::from_str(&in_chart("values.schema.json")).unwrap();
    let mut keys = BTreeSet::new();
    leaves(&schema, "", &mut keys);
    // Maps that are passed on whole.
    let whole = [
        "rollingUpdate",
        "resources",
        "security.seLinuxOptions",
        "security.appArmorProfile",
        "probes.startup",
        "probes.liveness",
        "probes.readiness",
        "tests.resources",
        "settings",
    ];
    for key in keys.iter().filter(|key| *key != "global") {
        let read = whole.iter().find(|map| key.starts_with(&format!("{map}.")));
        let name = read.copied().unwrap_or(key).rsplit('.').next().unwrap();
        assert!(templates.contains(&format!(".{name}")), "no template reads {key}");
    }
}

#[test]
fn the_chart_is_of_the_version_of_the_service() {
    let chart = in_chart("Chart.yaml");
    assert!(chart.contains(&format!("\nappVersion: {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_package_holds_what_is_needed_and_nothing_else() {
    let [helm, _] = super::helms();
    let folder = tempfile::tempdir().unwrap();
    text(run(Command::new(helm).args(["package", CHART, "--destination"]).arg(folder.path())));
    let package = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let listed = text(run(Command::new("tar").arg("-tzf").arg(package)));
    for file in
        ["values.schema.json", "files/alerts.yaml", "files/dashboard.json", "templates/tests/probe.yaml", "README.md"]
    {
        assert!(listed.contains(&format!("trustmint/{file}\n")), "{file}: {listed}");
    }
    assert!(!listed.contains("/ci/") && !listed.contains(".py"), "{listed}");
}

#[test]
fn the_values_that_the_readme_begins_with_are_enough() {
    let readme = in_chart("README.md");
    let (_, block) = readme.split_once("```yaml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let digits = "ab".repeat(32);
    let block = block.replace("sha256:…", &format!("sha256:{digits}")).replace('…', &digits);
    let block: Vec<&str> = block.lines().map(|line| line.strip_prefix("   ").unwrap()).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), block.join("\n")).unwrap();
    for helm in super::helms() {
        let mut command = Command::new(helm);
        command
            .args(["template", "trustmint", CHART, "--kube-version", super::KUBERNETES, "--values"])
            .arg(file.path());
        let policy = "policy.files.acme\\.yaml=config/policy/registries.yaml";
        let objects = super::read(&text(run(command.args(["--set-file", policy]))), &["1.30"]);
        assert!(
            super::named(&objects, "ConfigMap", "-policy")["data"]["acme.yaml"]
                .as_str()
                .unwrap()
                .contains("acme-pypi:")
        );
    }
}
