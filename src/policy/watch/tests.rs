//! What a directory is found to hold.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use tempfile::TempDir;

use super::*;

const REGISTRIES: &str = "registries: {acme: {dialect: pypi, urls: ['https://a.example'], audiences: [a]}}\n";
const ISSUERS: &str = "issuers:\n  one: {provider: generic, url: 'https://one.example', ca_file: ca.pem}\n  two: {provider: \
                       generic, url: 'https://two.example', ca_file: ca.pem}\n";
const CA: &str = "-----BEGIN CERTIFICATE-----\none\n";

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("registries.yaml", REGISTRIES);
        folder
    }

    fn with_issuers() -> Self {
        let folder = Self::new();
        folder.write("issuers.yaml", ISSUERS);
        folder.write("ca.pem", CA);
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn directory(&self) -> Directory {
        Directory::new(self.0.path().to_owned())
    }

    /// The policy of what is there now.
    #[track_caller]
    fn good(&self) -> (Reading, String) {
        let reading = self.directory().read();
        let revision = match &reading.judged {
            Ok(loaded) => loaded.policy.revision().to_owned(),
            Err(faults) => panic!("{faults}"),
        };
        (reading, revision)
    }

    /// What is wrong with it.
    #[track_caller]
    fn faults(&self) -> String {
        self.directory().read().judged.map(|loaded| loaded.policy).unwrap_err().to_string()
    }
}

#[test]
fn a_look_sees_what_a_reading_reads_by_the_revision_of_its_policy() {
    for folder in [Folder::new(), Folder::with_issuers()] {
        let (reading, revision) = folder.good();
        assert_eq!(reading.seen, Seen::Files(revision));
        assert_eq!(folder.directory().look(&reading.references), reading.seen);
    }
    let folder = Folder::with_issuers();
    let (reading, before) = folder.good();
    assert_eq!(reading.references.len(), 1, "a file that is referred to twice is read once");
    for (name, text) in [("ca.pem", format!("{CA}two\n")), ("issuers.yaml", format!("{ISSUERS}\n"))] {
        folder.write(name, text);
        let seen = folder.directory().look(&reading.references);
        let (again, revision) = folder.good();
        assert!(seen == again.seen && seen == Seen::Files(revision) && seen != Seen::Files(before.clone()), "{name}");
    }
}

#[test]
fn a_look_sees_what_a_refused_reading_has_read() {
    let folder = Folder::with_issuers();
    fs::remove_file(folder.path("ca.pem")).unwrap();
    let missing = folder.directory().read();
    assert!(missing.judged.is_err());
    assert_eq!(folder.directory().look(&missing.references), missing.seen);
    // The file that was missed is there: that is to be seen.
    folder.write("ca.pem", CA);
    let seen = folder.directory().look(&missing.references);
    assert_ne!(seen, missing.seen);
    assert_eq!(seen, folder.good().0.seen);
    // So is an empty file in place of none.
    fs::remove_file(folder.path("ca.pem")).unwrap();
    folder.write("ca.pem", "");
    assert_ne!(folder.directory().look(&missing.references), missing.seen);

    folder.write("registries.yaml", "registries: [");
    let broken = folder.directory().read();
    assert!(broken.judged.is_err());
    assert_eq!(folder.directory().look(&broken.references), broken.seen);
    fs::remove_dir_all(folder.0.path()).unwrap();
    let gone = folder.directory().read();
    assert!(matches!(&gone.seen, Seen::Unreadable(_)));
    assert_eq!(folder.directory().look(&gone.references), gone.seen);
}

#[test]
fn files_that_nobody_reads_do_not_count() {
    let folder = Folder::with_issuers();
    let (reading, revision) = folder.good();
    folder.write("README.md", "for people");
    folder.write(".hidden.yaml", "nonsense: [");
    folder.write("other.pem", CA);
    fs::create_dir(folder.path("..2026_11_26")).unwrap();
    folder.write("..2026_11_26/rules.yaml", "nonsense: [");
    assert_eq!(folder.directory().look(&reading.references), Seen::Files(revision.clone()));
    assert_eq!(folder.good().1, revision);
}

#[test]
fn what_is_no_file_or_none_of_this_directory_is_refused_and_not_waited_for() {
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("rules.yaml"), "rules: {}\n").unwrap();
    let link = |folder: &Folder| symlink(outside.path().join("rules.yaml"), folder.path("rules.yaml")).unwrap();
    let dangling = |folder: &Folder| symlink("nowhere.yaml", folder.path("rules.yaml")).unwrap();
    let subfolder = |folder: &Folder| fs::create_dir(folder.path("rules.yaml")).unwrap();
    let pipe = |folder: &Folder| {
        assert!(Command::new("mkfifo").arg(folder.path("rules.yaml")).status().unwrap().success());
    };
    let latin = |folder: &Folder| folder.write("rules.yaml", b"# caf\xe9\n");
    for (make, words) in [
        (&link as &dyn Fn(&Folder), "rules.yaml: it is a link to outside the policy directory"),
        (&dangling, "rules.yaml: No such file"),
        (&subfolder, "rules.yaml: it is not a file"),
        (&pipe, "rules.yaml: it is not a file"),
        (&latin, "rules.yaml: the file is not UTF-8 — save it as UTF-8"),
    ] {
        let folder = Folder::new();
        make(&folder);
        assert!(folder.faults().contains(words), "{words}: {}", folder.faults());
        let reading = folder.directory().read();
        assert_eq!(folder.directory().look(&reading.references), reading.seen, "{words}");
    }
}

#[test]
fn a_file_that_is_referred_to_has_a_bound() {
    let folder = Folder::with_issuers();
    folder.write("ca.pem", format!("{CA}{}", "x".repeat(1 << 20)));
    assert!(folder.faults().contains("the file `ca.pem` cannot be read"), "{}", folder.faults());
}

#[test]
fn a_policy_comes_out_of_its_document_as_it_was() {
    let folder = Folder::with_issuers();
    let (reading, revision) = folder.good();
    let loaded = reading.judged.unwrap();
    let document = loaded.document.unwrap();
    // What the directory holds by then does not matter.
    folder.write("registries.yaml", "registries: [");
    fs::remove_file(folder.path("ca.pem")).unwrap();
    let restored = folder.directory().restore(document.clone()).unwrap().unwrap();
    assert_eq!(restored.policy.revision(), revision);
    assert_eq!((restored.sources, restored.document), (loaded.sources, Some(document.clone())));
    for wrong in [&b""[..], b"{}", b"[]", &document[1..], &[&document[..], b"x"].concat()] {
        assert!(folder.directory().restore(wrong.to_vec()).is_none(), "{}", String::from_utf8_lossy(wrong));
    }
}

#[test]
fn issuers_over_http_are_refused_wherever_the_policy_is_from() {
    let folder = Folder::new();
    folder.write("issuers.yaml", "issuers: {one: {provider: generic, url: 'http://127.0.0.1:8888'}}\n");
    let words = "issuers.one.url: `http://127.0.0.1:8888` must start with https://";
    assert!(folder.faults().contains(words), "{}", folder.faults());
    let document = folder.directory().with_http().read().judged.unwrap().document.unwrap();
    let faults = folder.directory().restore(document.clone()).unwrap().map(|loaded| loaded.sources).unwrap_err();
    assert!(faults.to_string().contains(words), "{faults}");
    assert!(folder.directory().with_http().restore(document).unwrap().is_ok());
}
