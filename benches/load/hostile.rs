//! Tokens that nobody should believe, and what they make the service ask of an identity provider.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::demo::provider::Endpoint;
use trustmint::demo::provider::LoopbackProvider;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::cache::BURST;
use trustmint::identity::cache::REFILL;
use trustmint::time::Clock;
use trustmint::time::SystemClock;

use crate::service::MINT;
use crate::service::Service;
use crate::support;
use crate::support::Issuer;
use crate::table::Report;

const TOKENS: usize = 10_000;
/// More than they take.
const SECONDS: u32 = 60;

/// The row about fetches.
pub fn measure(folder: &Path, issuer: &Issuer, report: &mut Report) {
    let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
    let key = Arc::new(SigningKey::generate(KeyKind::Rsa2048).unwrap());
    let tls = certificate.server_config().unwrap();
    let provider = LoopbackProvider::start_https(Arc::new(SystemClock), vec![Arc::clone(&key)], tls).unwrap();
    let url = provider.issuer();
    let issuers =
        format!(r#"{{"provider":"github","url":"{url}","ca_file":"ca.pem","allow_networks":["127.0.0.0/8"]}}"#);
    let policy =
        support::policy_text(crate::FEW, 0).replace(r#"{"provider":"github","jwks_file":"jwks.json"}"#, &issuers);
    fs::create_dir_all(folder.join("hostile/policy")).unwrap();
    fs::write(folder.join("hostile/policy/ca.pem"), certificate.authority_pem()).unwrap();
    let service = Service::start_with(folder, "hostile", issuer, &policy, &[]);

    let now = SystemClock.now().unix_seconds();
    let mut claims = support::claims(now, 0, 0);
    claims["iss"] = json!(url);
    // The keys are there: what is counted from now on is not the first fetch.
    service.exchange(&key.token(&Value::Null, &claims));
    let stranger = SigningKey::generate(KeyKind::Ed25519).unwrap();
    let lines: String = (0..TOKENS).map(|number| body(&stranger, key.kid(), number, &claims)).collect();
    let file = folder.join("hostile-tokens");
    fs::write(&file, lines).unwrap();

    let requests = || provider.requests(Endpoint::Discovery) + provider.requests(Endpoint::Jwks);
    let (before, began) = (requests(), Instant::now());
    let (seen, answers) = service.drive(crate::CONNECTIONS, SECONDS, MINT, &file, true, &[]);
    let allowed = f64::from(BURST) + began.elapsed().as_secs_f64() / REFILL.as_secs_f64();
    assert!(answers.requests >= 9_900.0 && answers.refused >= answers.requests, "all are answered, and with a refusal");
    report.see("a hostile token", seen);
    let caused = f64::from(u32::try_from(requests() - before).unwrap());
    report.row("outbound fetches caused by 10,000 hostile tokens", caused, "", allowed.floor());
}

/// Another kind for each number.
fn body(stranger: &SigningKey, kid: &str, number: usize, claims: &Value) -> String {
    let invented = format!("invented-{number}");
    let mut claims = claims.clone();
    let header = match number % 5 {
        // A key id that the issuer does not publish: the one kind that may cause a fetch.
        0 | 1 => json!({"kid": invented}),
        // The issuer's key id over a stranger's signature.
        2 => json!({"kid": kid}),
        // An issuer that nobody configured.
        3 => {
            claims["iss"] = json!(format!("https://evil-{number}.example"));
            json!({"kid": invented})
        }
        // A key of the sender's choice.
        _ => json!({"kid": invented, "jku": "http://127.0.0.1:9/keys"}),
    };
    json!({"token": stranger.token(&header, &claims)}).to_string() + "\n"
}
