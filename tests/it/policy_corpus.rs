//! Broken policies are refused with messages that name file, line, key and remedy; the shipped ones load.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::lint::catalogue;
use trustmint::policy::watch;
use trustmint::policy::yaml::Faults;
use trustmint::policy::yaml::Ruling;

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The YAML files of a directory, in order.
fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(data(directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{directory}");
    files
}

/// What one file says, standing alone and known by its bare name.
fn load_alone(file: &Path) -> Result<Policy, Faults> {
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    let source = Source { name, text: fs::read_to_string(file).unwrap() };
    let beside = |_: &str, name: &str| fs::read(file.with_file_name(name)).ok();
    Policy::load(&[source], &beside)
}

#[test]
fn each_broken_policy_is_refused_with_the_expected_messages() {
    let mut count = 0;
    let mut wrong = Vec::new();
    for file in yaml_files("tests/data/policy/broken") {
        count += 1;
        let expected = fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
        let got = load_alone(&file).map_or_else(|faults| faults.to_string(), |_| "loads".to_owned());
        if got != expected.trim_end() {
            wrong.push(format!("{}\n--- expected\n{}\n--- got\n{got}\n", file.display(), expected.trim_end()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 60, "{count}");
}

#[test]
fn each_warned_policy_loads_with_the_expected_warnings() {
    let mut wrong = Vec::new();
    for file in yaml_files("tests/data/policy/warned") {
        let expected = fs::read_to_string(file.with_extension("expected")).unwrap_or_default();
        let warnings = load_alone(&file).unwrap_or_else(|faults| panic!("{}:\n{faults}", file.display()));
        let warnings: Vec<String> = warnings.warnings().iter().map(ToString::to_string).collect();
        let got = warnings.join("\n");
        if got != expected.trim_end() || got.is_empty() {
            wrong.push(format!("{}\n--- expected\n{}\n--- got\n{got}\n", file.display(), expected.trim_end()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_found_in_good_policies() {
    for file in yaml_files("tests/data/policy/good") {
        let policy = load_alone(&file).unwrap_or_else(|faults| panic!("{}:\n{faults}", file.display()));
        let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
        assert!(warnings.is_empty(), "{}:\n{}", file.display(), warnings.join("\n"));
        assert_eq!((policy.rule_count(), policy.warnings().waived()), (1, 0), "{}", file.display());
    }
}

#[test]
fn every_preset_has_a_good_policy() {
    let good: Vec<String> = yaml_files("tests/data/policy/good")
        .iter()
        .flat_map(|file| {
            load_alone(file)
                .unwrap()
                .issuers()
                .iter()
                .map(|issuer| issuer.provider().name.to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    for provider in trustmint::identity::provider::ALL {
        assert!(good.iter().any(|name| name == provider.name), "{}", provider.name);
    }
}

#[test]
fn what_is_shipped_has_nothing_but_waived_warnings() {
    let examples = fs::read_dir(data("examples/policies")).unwrap().map(|entry| entry.unwrap().path());
    for directory in examples.filter(|path| path.is_dir()).chain([data("config/policy")]) {
        let policy = watch::load(&directory).unwrap_or_else(|faults| panic!("{faults}"));
        let warnings: Vec<String> = policy.warnings().iter().map(ToString::to_string).collect();
        assert!(warnings.is_empty(), "{}", warnings.join("\n"));
    }
}

#[test]
fn each_code_that_can_be_found_is_found_in_an_example() {
    let found: String = ["broken", "warned"]
        .iter()
        .flat_map(|folder| yaml_files(&format!("tests/data/policy/{folder}")))
        .map(|file| fs::read_to_string(file.with_extension("expected")).unwrap())
        .collect();
    let mut wrong = Vec::new();
    for lint in catalogue::ALL {
        let is_found = |severity: &str| {
            let code = format!(": {}: ", lint.code);
            found.lines().any(|line| line.contains(&code) && line.contains(": warning: ") == (severity == "warning"))
        };
        let (error, warning) = match lint.ruling {
            Ruling::Refused => (true, false),
            Ruling::Warned => (false, true),
            Ruling::RefusedOrWarned => (true, true),
            Ruling::Impossible | Ruling::Unseen => (false, false),
        };
        if (is_found("error"), is_found("warning")) != (error, warning) {
            wrong.push(lint.code);
        }
    }
    assert!(wrong.is_empty(), "without an example, or with one that it should not have: {wrong:?}");
}

/// What shows why a code is never found.
enum Shown {
    /// This policy of the corpus, of which it is said …
    Policy(&'static str, &'static str),
    /// This test, where no policy can be written that would have it.
    Test(&'static str, &'static str),
}

impl Shown {
    fn check(&self, code: &str) {
        match self {
            Self::Policy(name, words) => {
                let file = data(&format!("tests/data/policy/{name}.yaml"));
                let said = match load_alone(&file) {
                    Err(faults) => faults.to_string(),
                    Ok(policy) => policy.warnings().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
                };
                assert!(said.contains(words), "{code}: {said}");
            }
            Self::Test(file, name) => {
                let text = fs::read_to_string(data(file)).unwrap();
                assert!(text.contains(&format!("fn {name}()")), "{code}: {file} has no test `{name}`");
            }
        }
    }
}

/// What shows that nothing that loads can have what a code is about.
const IMPOSSIBLE: &[(&str, Shown)] = &[
    ("L009", Shown::Policy("broken/impossible-sub-alone", ": L001: `repository_owner_id` is not pinned")),
    ("L009", Shown::Policy("broken/impossible-sub-alone", ": L001: `repository_id` is not pinned")),
    ("L011", Shown::Policy("broken/impossible-person-alone", ": L001: `repository_owner_id` is not pinned")),
    ("L011", Shown::Policy("broken/impossible-person-alone", ": L001: `repository_id` is not pinned")),
    ("L018", Shown::Policy("broken/impossible-path-alone", ": L001: `namespace_id` is not pinned")),
    ("L018", Shown::Policy("broken/impossible-path-alone", ": L001: `project_id` is not pinned")),
    ("L019", Shown::Policy("broken/impossible-job-project-alone", ": L001: `project_id` is not pinned")),
    ("L020", Shown::Policy("warned/impossible-file-as-the-only-gate", ": L017: any branch of the project can publish")),
    ("L024", Shown::Policy("broken/impossible-slugs-alone", ": L001: `organization_id` is not pinned")),
    ("L024", Shown::Policy("broken/impossible-slugs-alone", ": L001: `pipeline_id` is not pinned")),
    (
        "L030",
        Shown::Policy(
            "broken/impossible-two-issuers",
            "rules.widgets.issuer: must be text, and this is a list — write one value",
        ),
    ),
    ("L037", Shown::Policy("broken/impossible-case-of-a-name", "rules.widgets.when.repository.ignore_case: ")),
    ("L044", Shown::Test("tests/it/token_attacks.rs", "a_weak_key_verifies_nothing_though_its_issuer_publishes_it")),
    ("L045", Shown::Test("tests/it/key_attacks.rs", "keys_are_fetched_from_no_other_host_and_no_private_address")),
    ("L050", Shown::Policy("broken/impossible-checks-off", "issuers.it.verify_signatures: ")),
    ("L050", Shown::Policy("broken/impossible-checks-off", "skip_audience: ")),
];

/// What shows of a code that no load can look for that it is told elsewhere, or that there is nothing to tell.
const UNSEEN: &[(&str, Shown)] = &[
    // No token says whether an environment is protected, so a rule with one is good.
    ("L016", Shown::Test("tests/it/policy_corpus.rs", "nothing_is_found_in_good_policies")),
    // One load has no history: the replay of an audit file names the rules that it never used.
    (
        "L042",
        Shown::Test(
            "src/policy/diff/tests.rs",
            "what_is_newly_allowed_newly_denied_and_granted_otherwise_is_told_rule_by_rule",
        ),
    ),
    // Loading asks no provider: the refusal says that the identifier has come under another name.
    ("L043", Shown::Test("tests/it/causes.rs", "c07_to_c12_what_differs_at_github_is_named")),
    // Every rule needs such a claim, so the refusal says how a job gets it.
    ("L048", Shown::Test("tests/it/presets_traps.rs", "a_job_that_has_not_asked_for_its_ids_is_told_how")),
];

#[test]
fn each_code_that_is_impossible_or_not_looked_for_is_shown_to_be() {
    for (ruling, table) in [(Ruling::Impossible, IMPOSSIBLE), (Ruling::Unseen, UNSEEN)] {
        let codes = catalogue::ALL.iter().filter(|lint| lint.ruling == ruling).map(|lint| lint.code);
        let shown: BTreeSet<&str> = table.iter().map(|(code, _)| *code).collect();
        assert_eq!(shown, codes.collect::<BTreeSet<_>>());
        for (code, shown) in table {
            shown.check(code);
        }
    }
}

#[test]
fn a_waiver_takes_its_warning_away_and_is_counted() {
    let waived = "issuers:\n  it:\n    provider: github\n    max_lifetime: 2h\n    \
                  waive: {L038: jobs of two hours sign at the end}\n";
    let registries = "registries: {acme: {dialect: pypi, urls: ['https://a.example'], audiences: [a]}}\n";
    let load = |text: &str| {
        let source = Source { name: "policy.yaml".to_owned(), text: format!("{text}{registries}") };
        Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let policy = load(waived);
    let waivers: Vec<(&str, u64)> =
        policy.warnings().waivers().map(|waiver| (waiver.key_path.as_str(), waiver.used)).collect();
    assert_eq!((policy.warnings().len(), policy.warnings().waived()), (0, 1));
    assert_eq!(waivers, [("issuers.it", 1)]);

    let (without, _) = waived.split_once("    waive").unwrap();
    let counts: Vec<(&str, u64)> = load(without).warnings().counts().collect();
    assert_eq!(counts, [("L038", 1)]);
    // A waiver of another entry, whose name begins alike, is not this one's.
    let other = format!("{without}  it2: {{provider: gitlab, waive: {{L038: jobs of two hours sign at the end}}}}\n");
    let counts: Vec<(&str, u64)> = load(&other).warnings().counts().collect();
    assert_eq!(counts, [("L038", 1), ("L053", 1)]);
}

#[test]
fn an_issuer_of_one_audience_that_is_strict_itself_may_serve_a_registry_that_accepts_replays() {
    let file = data("tests/data/policy/broken/issuer-fixed-audience-and-replays.yaml");
    let accepted = "accept_fixed_audience: true";
    let load = |text: String| Policy::load(&[Source { name: "policy.yaml".to_owned(), text }], &|_, _| None);
    let text = fs::read_to_string(file).unwrap();
    assert!(load(text.clone()).unwrap_err().to_string().contains("L039"));
    load(text.replace(accepted, &format!("{accepted}, replay: once"))).unwrap();
    // Whoever else has seen the token could exchange it for the packages that are left.
    let each = load(text.replace(accepted, &format!("{accepted}, replay: once-per-package")));
    assert!(each.unwrap_err().to_string().contains("L039"));
    let npm = text.replace("dialect: generic", "dialect: npm").replace(", audiences: [one], replay: off", "");
    assert!(load(npm.clone()).unwrap_err().to_string().contains("L039"), "the usual mode of npm's dialect");
    load(npm.replace(accepted, &format!("{accepted}, replay: once"))).unwrap();
}

#[test]
fn every_message_names_the_file_and_the_line() {
    for entry in fs::read_dir(data("tests/data/policy/broken")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "expected") {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.with_extension("yaml").file_name().unwrap().to_str().unwrap().to_owned();
            assert!(!text.trim().is_empty(), "{}", path.display());
            for line in text.lines() {
                // What concerns all files together has no line.
                let placed = line.starts_with(&format!("{name}:"));
                assert!(placed && (line.contains(" — ") || line.contains("provider")), "{line}");
            }
        }
    }
}

#[test]
fn the_shipped_policy_loads() {
    let policy = watch::load(&data("config/policy")).unwrap_or_else(|faults| panic!("{faults}"));
    let rules: Vec<String> = policy.rules().map(|rule| rule.id().to_owned()).collect();
    assert_eq!(rules, ["widgets-release", "monorepo-tools", "gadgets", "nightly-data"]);
    let registry = policy.registries().by_audience("acme").unwrap();
    assert_eq!((registry.id.as_str(), registry.location().as_str()), ("acme-pypi", "pypi.acme.example"));
    assert_eq!(policy.revision().len(), 16);
}

#[test]
fn a_directory_is_read_without_hidden_files_and_without_links_out_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let registries = "registries: {acme: {dialect: pypi, urls: ['https://a.example'], audiences: [a]}}\n";
    fs::write(path("policy.yaml"), registries).unwrap();
    fs::write(path(".hidden.yaml"), "nonsense: [").unwrap();
    fs::write(path("notes.txt"), "nonsense: [").unwrap();
    let first = watch::load(directory.path()).unwrap().revision().to_owned();
    assert_eq!(watch::load(directory.path()).unwrap().revision(), first, "the same bytes have the same name");

    fs::write(path("issuers.yml"), "issuers: {it: {provider: github, ca_file: ca.pem}}\n").unwrap();
    let missing = watch::load(directory.path()).unwrap_err().to_string();
    assert!(missing.ends_with("the file `ca.pem` cannot be read — put it beside this one"), "{missing}");
    fs::write(path("ca.pem"), "-----BEGIN CERTIFICATE-----\none\n").unwrap();
    let second = watch::load(directory.path()).unwrap().revision().to_owned();
    fs::write(path("ca.pem"), "-----BEGIN CERTIFICATE-----\ntwo\n").unwrap();
    let third = watch::load(directory.path()).unwrap().revision().to_owned();
    assert!(first != second && second != third, "the files that are referred to count");

    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret.yaml"), "rules: {}\n").unwrap();
    fs::rename(path("ca.pem"), outside.path().join("ca.pem")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("ca.pem"), path("ca.pem")).unwrap();
    let link = watch::load(directory.path()).unwrap_err().to_string();
    assert!(link.contains("cannot be read"), "{link}");
    std::os::unix::fs::symlink(outside.path().join("secret.yaml"), path("secret.yaml")).unwrap();
    let link = watch::load(directory.path()).unwrap_err().to_string();
    assert!(link.contains("is a link to outside the policy directory"), "{link}");

    let nowhere = watch::load(&path("nowhere")).unwrap_err().to_string();
    assert!(nowhere.contains("nowhere: the policy cannot be read"), "{nowhere}");
}
