use std::os::unix::fs::PermissionsExt as _;

use rcgen::CertifiedKey;
use rcgen::generate_simple_self_signed;
use tempfile::TempDir;

use super::*;

/// A directory with a certificate and its key, and the key of another certificate.
fn files() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    for (name, text) in [
        ("certificate.pem", cert.pem()),
        ("key.pem", signing_key.serialize_pem()),
        ("other.pem", other.signing_key.serialize_pem()),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
        fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
    directory
}

#[track_caller]
fn check(directory: &TempDir, certificate: &str, key: &str, expected: &[&str]) {
    let at = |name: &str| directory.path().join(name);
    let tls = Tls { certificate_file: at(certificate), key_file: at(key) };
    let faults = Certificate::read(&tls).map(drop).unwrap_err();
    let prefix = directory.path().display().to_string();
    let told: Vec<String> = faults.iter().map(|fault| fault.to_string().replace(&prefix, "tls")).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_certificate_and_its_key_make_a_server() {
    let directory = files();
    let at = |name: &str| directory.path().join(name);
    let files = Tls { certificate_file: at("certificate.pem"), key_file: at("key.pem") };
    let certificate = Certificate::read(&files).unwrap();
    assert!(certificate.is_same(&Certificate::read(&files).unwrap()));
    // rcgen's usual end.
    assert_eq!(certificate.not_after().to_string(), "4096-01-01T00:00:00Z");
    let config = server_config(Arc::new(ArcSwap::from_pointee(certificate))).unwrap();
    assert_eq!(config.alpn_protocols, [b"http/1.1"]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let directory = files();
    let at = |name: &str| directory.path().join(name);
    check(
        &directory,
        "certificate.pem",
        "other.pem",
        &[
            "tls/certificate.pem: listen.tls.certificate_file: does not fit `listen.tls.key_file`: keys may not be consistent: KeyMismatch — name a certificate and its own key",
        ],
    );
    check(
        &directory,
        "key.pem",
        "certificate.pem",
        &[
            "tls/certificate.pem: listen.tls.key_file: holds no PEM private key — name a PEM file with an unencrypted private key",
            "tls/key.pem: listen.tls.certificate_file: holds no PEM certificate — name a PEM file: the leaf, then its issuers",
        ],
    );
    check(
        &directory,
        "none.pem",
        "key.pem",
        &[
            "tls/none.pem: listen.tls.certificate_file: cannot be read: No such file or directory (os error 2) — let the service's user read it",
        ],
    );
    fs::set_permissions(at("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    check(
        &directory,
        "certificate.pem",
        "key.pem",
        &[
            "tls/key.pem: listen.tls.key_file: others can read or change it: its mode is 644 — make a new one, and keep it at mode 600, 400 or 440 (Kubernetes: defaultMode)",
        ],
    );
}
