//! The Helm chart: what it renders, what it refuses, and what the service says of it. Helm renders with the values of
//! `charts/trustmint/ci`; a cluster is not needed.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::LazyLock;

use serde_json::Value;
use serde_json::json;

mod configuration;
mod deployed;
mod objects;
mod refusals;
mod values;
mod watching;

const CHART: &str = "charts/trustmint";
/// Which Kubernetes `helm template` is to think of.
const KUBERNETES: &str = "1.34.0";
/// With whose schemas every object is compared: the oldest that the chart takes, and the newest that there is.
const VERSIONS: [&str; 4] = ["1.30", "1.33", "1.35", "1.37"];

#[expect(clippy::disallowed_methods, reason = "the test command names the tools that it has installed")]
fn tool(name: &str) -> PathBuf {
    let path = std::env::var_os(name)
        .unwrap_or_else(|| panic!("{name} is not set: run the tests with `tests/run`, which installs the tools"));
    path.into()
}

/// Both majors of Helm.
fn helms() -> [PathBuf; 2] {
    ["TRUSTMINT_TEST_HELM3", "TRUSTMINT_TEST_HELM4"].map(tool)
}

/// A file with a set of values, by the name of the set.
fn values(set: &str) -> String {
    format!("{CHART}/ci/{set}-values.yaml")
}

/// The names of all sets.
fn sets() -> Vec<String> {
    let files = fs::read_dir(Path::new(CHART).join("ci")).unwrap();
    let name = |path: PathBuf| Some(path.file_name()?.to_str()?.strip_suffix("-values.yaml")?.to_owned());
    let mut sets: Vec<String> = files.map(|file| name(file.unwrap().path()).unwrap()).collect();
    sets.sort();
    assert!(sets.len() >= 12, "{sets:?}");
    sets
}

fn run(command: &mut Command) -> Output {
    command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

/// `helm template` with a set of values, and more arguments.
fn template(helm: &Path, set: &str, more: &[&str]) -> Output {
    template_as("trial", helm, set, more)
}

/// The same for a release of that name.
fn template_as(release: &str, helm: &Path, set: &str, more: &[&str]) -> Output {
    let mut command = Command::new(helm);
    command.args(["template", release, CHART, "--namespace", "acme", "--kube-version", KUBERNETES]);
    run(command.args(["--values", &values(set)]).args(more))
}

#[track_caller]
fn text(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The rendered objects, read as strictly as Kubernetes reads them and compared with the schemas of these versions.
#[track_caller]
fn read(rendered: &str, versions: &[&str]) -> Vec<Value> {
    let mut child = Command::new(tool("TRUSTMINT_TEST_PYTHON"))
        .arg("tests/chart/objects.py")
        .args(versions)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rendered.as_bytes()).unwrap();
    let read: Value = serde_json::from_str(&text(child.wait_with_output().unwrap())).unwrap();
    let objects = read["objects"].as_array().unwrap().clone();
    let foreign = ["HTTPRoute", "ServiceMonitor", "PodMonitor", "PrometheusRule"];
    let own = objects.iter().filter(|object| !foreign.contains(&object["kind"].as_str().unwrap())).count();
    assert_eq!(read["checked"], own * versions.len(), "each object is compared with each schema");
    objects
}

/// What a set of values renders, with more arguments.
#[track_caller]
fn objects(set: &str, more: &[&str]) -> Vec<Value> {
    let [helm, _] = helms();
    read(&text(template(&helm, set, more)), &[])
}

/// Every set with its objects.
fn all() -> &'static [(String, Vec<Value>)] {
    static ALL: LazyLock<Vec<(String, Vec<Value>)>> = LazyLock::new(|| {
        let rendered = |set: String| {
            let objects = objects(&set, &[]);
            (set, objects)
        };
        sets().into_iter().map(rendered).collect()
    });
    &ALL
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[track_caller]
fn named<'a>(objects: &'a [Value], kind: &str, end: &str) -> &'a Value {
    let found = of_kind(objects, kind);
    let fits = |object: &&&Value| object["metadata"]["name"].as_str().unwrap().ends_with(end);
    found.iter().find(fits).unwrap_or_else(|| panic!("no {kind} …{end}"))
}

fn deployment(objects: &[Value]) -> &Value {
    of_kind(objects, "Deployment")[0]
}

/// Every pod that the chart makes, as (name, spec).
fn pods(objects: &[Value]) -> Vec<(String, &Value)> {
    let named = |object: &Value| object["metadata"]["name"].as_str().unwrap().to_owned();
    objects.iter().filter_map(|object| Some((named(object), &pod(object)?["spec"]))).collect()
}

/// The pod, or the template of pods, that an object is about.
fn pod(object: &Value) -> Option<&Value> {
    match object["kind"].as_str().unwrap() {
        "Pod" => Some(object),
        "Deployment" | "Job" => Some(&object["spec"]["template"]),
        "CronJob" => Some(&object["spec"]["jobTemplate"]["spec"]["template"]),
        _ => None,
    }
}

/// The settings file that the pods read.
fn settings(objects: &[Value]) -> &str {
    named(objects, "ConfigMap", "-settings")["data"]["trustmint.yaml"].as_str().unwrap()
}

/// An object without the empty members of a JSON list or map: a list that is not there.
fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[test]
fn both_majors_of_helm_lint_it_with_every_set_of_values() {
    for helm in helms() {
        let version = text(run(Command::new(&helm).args(["version", "--short"])));
        let sets = sets();
        let sets = sets.iter().map(|set| values(set));
        for file in sets {
            let output =
                run(Command::new(&helm).args(["lint", "--strict", CHART, "--kube-version", KUBERNETES, "-f", &file]));
            assert!(output.status.success(), "{version} {file}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

#[test]
fn every_set_of_values_renders_its_snapshot_with_both_majors_of_helm() {
    let (snapshots, now) = (Path::new("tests/data/chart"), Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart"));
    fs::create_dir_all(&now).unwrap();
    let mut wrong = Vec::new();
    for set in sets() {
        let [three, four] = helms().map(|helm| text(template(&helm, &set, &[])));
        let name = format!("{set}.yaml");
        if fs::read_to_string(snapshots.join(&name)).unwrap_or_default() != three {
            fs::write(now.join(&name), &three).unwrap();
            wrong.push(format!("cp {}/{name} {}", now.display(), snapshots.display()));
        }
        // Helm 4 writes the same objects; in which order those of one kind come is its own affair.
        let by_name = |rendered: &str| {
            let mut objects = read(rendered, &[]);
            objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
            objects
        };
        assert_eq!(by_name(&three), by_name(&four), "{set}");
    }
    let kept = fs::read_dir(snapshots).unwrap().count();
    assert!(wrong.is_empty(), "read the differences, and if they are meant:\n{}", wrong.join("\n"));
    assert_eq!(kept, sets().len(), "a snapshot is of no set of values");
}

#[test]
fn every_object_is_valid_at_four_versions_of_kubernetes() {
    let [helm, _] = helms();
    for set in sets() {
        read(&text(template(&helm, &set, &[])), &VERSIONS);
    }
    // The check finds what is wrong.
    let broken = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": []}});
    let broken = std::panic::catch_unwind(|| read(&broken.to_string(), &VERSIONS));
    assert!(broken.is_err());
}

#[test]
fn an_older_kubernetes_is_refused() {
    for helm in helms() {
        let output = template(&helm, "redis", &["--kube-version", "1.29.9"]);
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("incompatible with Kubernetes"));
    }
}
