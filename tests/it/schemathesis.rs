//! The description of the API against the service, by Schemathesis, which knows neither: it makes requests from the one and
//! looks whether the other answers as is described. No failure of the service, no status, media type, header or body that
//! is not described, nothing accepted that is described as wrong, no method that is not listed, no answer without a key.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use actix_web::web;
use serde_json::Value;
use serde_json::json;

use crate::support::Service;
use crate::support::service::API_KEY;
use crate::support::tenants::TOOLS_KEY;
use crate::support::tenants::tenants_beside;

const ROUTES: &str =
    ", routes: {proxy: nginx, allow: [{method: PUT, path: \"/files/{package}/{version}/{*}\", action: upload}]}";

/// Registries whose clients ask at the root of the host.
fn others(base: &str) -> String {
    format!(
        "  cargo: {{dialect: crates-io, urls: [\"{base}\"]}}\n  conda: {{dialect: conda, urls: [\"{base}/conda/\"], audiences: \
         [conda-own]}}\n  npm: {{dialect: npm, urls: [\"{base}/npm/\"], replay: off}}\n"
    )
}

/// The examples of the description, with tokens that are real: each ID token is good once.
async fn with_real_tokens(service: &Service, mut document: String) -> String {
    let ellipsis = |start: &str| format!("\"{start}…\"");
    for (placeholder, is_upload) in [(ellipsis("eyJhbGciOiJSUzI1NiIs"), false), (ellipsis("pypi-AgEM"), true)] {
        let count = document.matches(&placeholder).count();
        assert!(count >= 4, "{placeholder}: {count}");
        for _ in 0..count {
            let token = if is_upload { service.upload_token().await } else { service.id_token(&json!({})) };
            document = document.replacen(&placeholder, &format!("\"{token}\""), 1);
        }
    }
    document
}

#[expect(clippy::disallowed_methods, reason = "the test command names the tool that it has installed")]
fn schemathesis() -> Command {
    Command::new(std::env::var_os("TRUSTMINT_TEST_SCHEMATHESIS").expect(
        "TRUSTMINT_TEST_SCHEMATHESIS is not set: run the tests with `tests/run`, which installs it, or name a \
         schemathesis 4.32",
    ))
}

#[actix_web::test]
async fn schemathesis_finds_no_answer_that_is_not_described() {
    let service = Service::with_policy(|base, issuer| tenants_beside(base, issuer, ROUTES, &others(base))).await;
    let folder = tempfile::tempdir().unwrap();
    // Of a host with three registries an exchange must say which.
    let document = service.get("/openapi.json").await.text;
    let document =
        document.replace("\"scope\":\"upload:widgets\"", "\"audience\":\"acme\",\"scope\":\"upload:widgets\"");
    let (file, authority) = (folder.path().join("openapi.json"), folder.path().join("ca.pem"));
    fs::write(&file, with_real_tokens(&service, document).await).unwrap();
    fs::write(&authority, &service.authority_pem).unwrap();
    let token = service.upload_token_for("tools-aud").await;

    let id_token = service.id_token(&json!({"aud": "npm:127.0.0.1"}));

    let mut command = schemathesis();
    command
        .arg("--config-file")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/schemathesis.toml"))
        .arg("run")
        .arg(&file)
        .args(["--url", &service.base, "--tls-verify"])
        .arg(&authority)
        // The same requests each time.
        .args(["--generation-deterministic", "--max-examples", "8", "--phases", "examples,coverage,fuzzing"])
        // Forward-auth takes every method alike.
        .args(["--exclude-operation-id-regex", "^authorize.*-(put|delete|options|head|patch|trace)$"])
        .args(["--workers", "1", "--no-color"])
        .envs([
            ("API_KEY", API_KEY),
            ("PROXY_KEY", TOOLS_KEY),
            ("UPLOAD_TOKEN", &token),
            ("ID_TOKEN", &id_token),
            ("NO_PROXY", "127.0.0.1"),
        ])
        .current_dir(folder.path())
        .stdin(Stdio::null());
    let output = web::block(move || command.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("Tested: 29"), "every operation was asked:\n{said}");

    // It got past the front door: there is an answer of each kind.
    let events = service.audit();
    let allowed = |kind: &str| {
        let of_kind = |event: &&Value| event["event"] == kind && event["decision"] == "allow";
        events.iter().filter(of_kind).count()
    };
    for (kind, least) in [("exchange", 10), ("verify", 3), ("introspect", 1), ("revoke", 2)] {
        assert!(allowed(kind) >= least, "{kind}: {} of {least}", allowed(kind));
    }
    let metrics = service.app.metrics().render().unwrap();
    let responses = || metrics.lines().filter(|line| line.starts_with("trustmint_http_responses_total{"));
    assert!(responses().any(|line| line.contains("status=\"4")), "{metrics}");
    assert_eq!(responses().find(|line| line.contains("status=\"5")), None);
}
