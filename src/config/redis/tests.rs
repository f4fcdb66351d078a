use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

fn redis(files: &TempDir, password: Option<&str>, ca: Option<&str>) -> Redis {
    Redis {
        topology: Topology::Single,
        endpoints: vec!["rediss://redis.acme.example:6379".parse().unwrap()],
        username: Some("trustmint".to_owned()),
        password_file: password.map(|name| files.path().join(name)),
        ca_file: ca.map(|name| files.path().join(name)),
        prefix: "trustmint:".to_owned(),
        timeout: Duration::from_millis(500),
        wait_for_replicas: 0,
    }
}

fn write(files: &TempDir, name: &str, text: &str, mode: u32) {
    let path = files.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn faults(files: &TempDir, password: Option<&str>, ca: Option<&str>) -> String {
    let faults = redis(files, password, ca).options().unwrap_err().to_string();
    faults.replace(&files.path().display().to_string(), "files")
}

#[test]
fn the_password_is_read_whenever_it_is_asked_for() {
    let files = tempfile::tempdir().unwrap();
    write(&files, "password", "first\n", 0o600);
    let options = redis(&files, Some("password"), None).options().unwrap();
    let read = options.password.clone().unwrap();
    assert_eq!(read().unwrap().as_str(), "first");
    write(&files, "password", "second", 0o400);
    assert_eq!(read().unwrap().as_str(), "second", "with or without a line's end");
    write(&files, "password", "second", 0o644);
    assert!(read().is_none(), "what others can read is not used");
    assert!(!format!("{options:?}").contains("second"));
}

#[test]
fn a_file_that_is_not_fit_is_named_with_its_setting_and_never_shown() {
    let files = tempfile::tempdir().unwrap();
    write(&files, "open", "hunter2\n", 0o644);
    assert_eq!(
        faults(&files, Some("open"), None),
        "files/open: state.redis.password_file: others can read or change it: its mode is 644 — make a new one, and keep it at mode 600, 400 or 440 (Kubernetes: defaultMode)"
    );
    for text in ["", "\n", "hunter2\nhunter3\n", "hunter2\r\n"] {
        write(&files, "password", text, 0o600);
        assert_eq!(
            faults(&files, Some("password"), None),
            "files/password: state.redis.password_file: holds no password — write the password into it, as one line",
            "{text:?}"
        );
    }
    write(&files, "ca.pem", "hunter2", 0o644);
    assert_eq!(
        faults(&files, Some("missing"), Some("ca.pem")),
        "files/ca.pem: state.redis.ca_file: holds no PEM certificate — name a PEM file of certificate authorities\n\
         files/missing: state.redis.password_file: cannot be read: No such file or directory (os error 2) — let the service's user read it"
    );
}
