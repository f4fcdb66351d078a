//! What an exchange costs against one thing at a time: rules, connections, packages in a grant, size of the ID token.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use serde_json::Value;
use serde_json::json;
use trustmint::time::Clock;
use trustmint::time::SystemClock;

use crate::CONNECTIONS;
use crate::FEW;
use crate::SECONDS;
use crate::Tokens;
use crate::service::MINT;
use crate::service::Service;
use crate::support;
use crate::support::Issuer;
use crate::table::Report;

const ROUNDS: usize = 2;
/// Exchanges of a point in a round.
const EXCHANGES: u64 = 3_000;
/// A grant has room for no more than the last.
const PACKAGES: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
/// Bytes of claims that no rule is about.
const PADDING: [usize; 6] = [0, 1_000, 2_500, 4_000, 6_000, 7_500];

pub fn measure(folder: &Path, issuer: &Issuer, tokens: &mut Tokens<'_>, report: &mut Report) {
    let mut points = Vec::new();
    for rules in [10, 1_000, 100_000, 1_000_000] {
        let service = Service::start(folder, &format!("rules-{rules}"), issuer, rules);
        points.push((as_f64(rules), least(|| cost(&service, CONNECTIONS, &tokens.file_of(EXCHANGES, rules)))));
    }
    report.sweeps.push(("rules", points));

    let service = Service::start(folder, "few", issuer, FEW);
    let points = (0..=8).map(|power| {
        let connections = 1_u32 << power;
        (f64::from(connections), least(|| cost(&service, connections, &tokens.file_of(EXCHANGES, FEW))))
    });
    report.sweeps.push(("connections", points.collect()));

    let points = PACKAGES.map(|packages| {
        let more = (1..packages).fold(String::new(), |more, number| more + &format!("\"package-{number}\","));
        let policy = support::policy_text(FEW, 0).replace("\"upload\":[", &format!("\"upload\":[{more}"));
        let service = Service::start_with(folder, &format!("packages-{packages}"), issuer, &policy, &[]);
        (as_f64(packages), least(|| cost(&service, CONNECTIONS, &tokens.file_of(EXCHANGES, FEW))))
    });
    report.sweeps.push(("packages in a grant", points.to_vec()));

    let mut points = Vec::new();
    for padding in PADDING {
        let mut bytes = 0;
        let mut padded = || -> PathBuf {
            let now = SystemClock.now().unix_seconds();
            tokens.file_by(EXCHANGES, &|serial| {
                let mut claims = support::claims(now, serial, serial % FEW);
                // Claims of an ordinary length, as many as it takes.
                for part in 0..padding.div_ceil(500) {
                    claims[format!("padding_{part}")] = json!("x".repeat(500.min(padding - part * 500)));
                }
                issuer.sign(&claims)
            })
        };
        let cpu_us = least(|| {
            let file = padded();
            let text = fs::read_to_string(&file).unwrap();
            let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
            bytes = first["token"].as_str().unwrap().len();
            cost(&service, CONNECTIONS, &file)
        });
        points.push((f64::from(u32::try_from(bytes).unwrap()), cpu_us));
    }
    report.sweeps.push(("bytes of the ID token", points));
}

fn cost(service: &Service, connections: u32, file: &Path) -> f64 {
    service.load(connections, SECONDS, MINT, file, true, &[]).cpu_us.unwrap()
}

fn least(mut measure: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| measure()).fold(f64::MAX, f64::min)
}

fn as_f64(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}
