use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::chown;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::time::Timestamp;

fn key(kid: &str, byte: u8) -> MasterKey {
    let mut bytes = [byte; 32];
    bytes[0] = byte.wrapping_add(1);
    MasterKey::generate(kid, bytes, Timestamp::from_unix_seconds(1_763_856_900)).unwrap()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory with the sound keys `k1` and `k2`.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (kid, byte) in [("k2", 2), ("k1", 1)] {
        write_key(directory.path(), &key(kid, byte)).unwrap();
    }
    directory
}

fn kids(ring: &Keyring) -> Vec<&str> {
    let mut kids: Vec<_> = ring.iter().map(MasterKey::kid).collect();
    kids.sort_unstable();
    kids
}

#[track_caller]
fn check(directory: &TempDir, expected: &[&str]) {
    let faults = read_keyring(directory.path()).unwrap_err();
    let prefix = directory.path().display().to_string();
    let told: Vec<String> = faults.iter().map(|fault| fault.to_string().replace(&prefix, "keys")).collect();
    assert_eq!(told, expected);
}

#[test]
fn what_is_written_is_read() {
    let directory = directory();
    assert_eq!(kids(&read_keyring(directory.path()).unwrap()), ["k1", "k2"]);
    assert_eq!(fs::metadata(directory.path().join("k1")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_key_is_never_overwritten() {
    let directory = directory();
    let before = fs::read(directory.path().join("k1")).unwrap();
    let error = write_key(directory.path(), &key("k1", 9)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(directory.path().join("k1")).unwrap(), before);
}

#[test]
fn a_new_directory_is_its_owners_alone() {
    let parent = tempfile::tempdir().unwrap();
    let path = write_key(&parent.path().join("new/keys"), &key("k1", 1)).unwrap();
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn every_key_that_others_can_read_or_change_is_refused() {
    let remedy = "make a new one, and keep it at mode 600, 400 or 440 (Kubernetes: defaultMode)";
    for mode in [0o604, 0o644, 0o602, 0o601, 0o620] {
        let directory = directory();
        set_mode(&directory.path().join("k1"), mode);
        check(&directory, &[&format!("keys/k1: others can read or change it: its mode is {mode:o} — {remedy}")]);
    }
    for mode in [0o600, 0o400, 0o440, 0o640] {
        let directory = directory();
        set_mode(&directory.path().join("k1"), mode);
        assert!(read_keyring(directory.path()).is_ok(), "{mode:o}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);
    set_mode(&at("k1"), 0o644);
    fs::write(at("k2"), "hunter2").unwrap();
    fs::write(at("K3"), key("k3", 3).to_file().expose()).unwrap();
    set_mode(&at("K3"), 0o600);
    fs::create_dir(at("k4")).unwrap();
    symlink("/etc/hostname", at("k5")).unwrap();
    symlink("nowhere", at("k6")).unwrap();
    fs::write(at("k7"), "x".repeat(2000)).unwrap();
    set_mode(&at("k7"), 0o600);
    fs::write(at("k8"), "").unwrap();
    set_mode(&at("k8"), 0o600);
    check(
        &directory,
        &[
            "keys/K3: a key's name has 1 to 32 characters, each `a` to `z`, `0` to `9` or `-` — restore the file, or remove it",
            "keys/k1: others can read or change it: its mode is 644 — make a new one, and keep it at mode 600, 400 or 440 (Kubernetes: defaultMode)",
            "keys/k2: a key file has two lines, `activate_at: ` with a time and `key: ` with 32 bytes; make one with `keys new` — restore the file, or remove it",
            "keys/k4: is not a file — keep only files here",
            "keys/k5: is a link out of the directory — put the key file itself here",
            "keys/k6: cannot be read: No such file or directory (os error 2) — let the service's user read it",
            "keys/k7: is larger than 1024 bytes — put the right file here",
            "keys/k8: a key file has two lines, `activate_at: ` with a time and `key: ` with 32 bytes; make one with `keys new` — restore the file, or remove it",
        ],
    );
}

#[test]
fn a_mounted_kubernetes_secret_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    write_key(&at("..2026_11_23"), &key("k1", 1)).unwrap();
    symlink("..2026_11_23", at("..data")).unwrap();
    symlink("..data/k1", at("k1")).unwrap();
    set_mode(directory.path(), 0o1777);
    assert_eq!(kids(&read_keyring(directory.path()).unwrap()), ["k1"]);
}

#[test]
fn a_directory_that_others_can_write_is_refused() {
    for mode in [0o777, 0o770, 0o702] {
        let directory = directory();
        set_mode(directory.path(), mode);
        check(&directory, &[&format!("keys: others can add keys to it: its mode is {mode:o} — chmod go-w keys")]);
    }
}

#[test]
fn a_key_that_a_stranger_added_is_refused() {
    let directory = directory();
    set_mode(directory.path(), 0o1777);
    // Only root can give a file away; for others there is nothing to plant.
    if chown(directory.path().join("k2"), Some(12_345), None).is_ok() {
        check(
            &directory,
            &[
                "keys/k2: belongs to user 12345, who is neither root nor the directory's owner — remove it, unless you know where it came from",
            ],
        );
    }
}

#[test]
fn no_key_is_no_ring() {
    let directory = tempfile::tempdir().unwrap();
    check(&directory, &["keys: there is no master key — make a key: trustmint keys new --directory keys"]);
    let missing = directory.path().join("missing");
    let faults = read_keyring(&missing).unwrap_err().to_string();
    let made = format!("make a key: trustmint keys new --directory {}", missing.display());
    assert!(faults.ends_with(&format!("missing: cannot be read: No such file or directory (os error 2) — {made}")));
}

#[test]
fn a_fault_never_shows_what_a_file_holds() {
    let directory = directory();
    fs::write(directory.path().join("k1"), "activate_at: hunter2\nkey: hunter2\n").unwrap();
    assert!(!read_keyring(directory.path()).unwrap_err().to_string().contains("hunter2"));
}
