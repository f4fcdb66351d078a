//! Addresses of collectors, and files of headers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn a_collector_is_reached_over_tls_or_on_this_machine() {
    for good in [
        "https://otel.acme.example:4318",
        "https://otel.acme.example/otlp",
        "http://127.0.0.1:4318",
        "http://[::1]:4318/",
        "http://localhost:4318",
    ] {
        assert!(collector(good).is_ok(), "{good}");
    }
    for bad in [
        "http://otel.acme.example:4318",
        "http://10.0.0.1:4318",
        "http://localhost.acme.example",
        "grpc://127.0.0.1:4317",
        "https://user:hunter2@otel.acme.example",
        "https://hunter2@otel.acme.example",
        "https://otel.acme.example/?token=hunter2",
        "https://otel.acme.example/#x",
        "otel.acme.example:4318",
        "",
    ] {
        let (message, remedy) = collector(bad).unwrap_err();
        assert!(!message.contains("hunter2") && !remedy.contains("hunter2"), "{bad}");
    }
}

#[test]
fn a_file_of_headers_is_read_strictly_and_its_faults_do_not_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("headers");
    let read = |text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        headers(&path)
    };
    let good = read("Authorization: Bearer a:b\n\n x-tenant :acme \n", 0o600).unwrap();
    let good: Vec<(&str, &str)> = good.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(good, [("authorization", "Bearer a:b"), ("x-tenant", "acme")]);
    for (text, mode) in [
        ("authorization: hunter2", 0o644),
        ("", 0o600),
        ("hunter2", 0o600),
        (": hunter2", 0o600),
        ("bad name: hunter2", 0o600),
        ("authorization:", 0o600),
        ("authorization: hunter2\u{e9}", 0o600),
        ("authorization: hunter2\u{7f}", 0o600),
        ("content-type: hunter2", 0o600),
        ("Host: hunter2", 0o600),
    ] {
        let defect = format!("{:?}", read(text, mode).unwrap_err());
        assert!(!defect.contains("hunter2"), "{defect}");
    }
    fs::remove_file(&path).unwrap();
    assert!(headers(&path).is_err());
}
