//! Each stage of an exchange, and the whole in process: `cargo bench --bench stages`.
#![expect(clippy::unwrap_used, clippy::panic, unreachable_pub, reason = "a benchmark must stop on failure")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use criterion::Criterion;
use trustmint::app::Caller;
use trustmint::exchange;
use trustmint::identity::claims::Claims;
use trustmint::identity::jwks::Find;
use trustmint::identity::jwks::KeySet;
use trustmint::identity::token::UnverifiedToken;
use trustmint::identity::verify::verify;
use trustmint::macaroon;
use trustmint::package::Action;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::package::Permission;
use trustmint::package::Permissions;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::secret::Presented;
use trustmint::time::Clock;
use trustmint::verify::Question;
use trustmint::yielding::Yielding;

#[path = "samples.rs"]
mod samples;
#[path = "support.rs"]
mod support;

use support::Issuer;
use support::StillClock;

/// Tokens made in advance: each is good for one exchange with a store.
const POOL: u64 = 2048;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let issuer = Issuer::new();
    let mut criterion = Criterion::default().configure_from_args();
    token_stages(&mut criterion, &issuer);
    policy_stages(&mut criterion, &issuer);
    macaroon_stages(&mut criterion);
    whole_exchange(&mut criterion, &issuer, &runtime);
    whole_verification(&mut criterion, &issuer, &runtime);
    criterion.final_summary();
}

fn token_stages(criterion: &mut Criterion, issuer: &Issuer) {
    let now = StillClock.now();
    let text = issuer.token(support::NOW, 1, 10);
    let policy = support::policy(issuer, 10);
    let github = policy.issuers().by_id("github").unwrap();
    let (keys, _) = KeySet::parse(&issuer.jwks).unwrap();
    let audiences = ["acme".to_owned()];
    let token = UnverifiedToken::parse(&text).unwrap();
    let Find::Key(key) = keys.find(token.kid()) else { panic!("the key is published") };
    criterion.bench_function("identity: parse an ID token", |b| {
        b.iter(|| UnverifiedToken::parse(black_box(&text)).unwrap());
    });
    criterion.bench_function("identity: parse and verify an RS256 ID token", |b| {
        b.iter(|| verify(UnverifiedToken::parse(black_box(&text)).unwrap(), &key, github, &audiences, now).unwrap());
    });
}

fn policy_stages(criterion: &mut Criterion, issuer: &Issuer) {
    for rules in [10, 10_000] {
        let policy = support::policy(issuer, rules);
        let registry = policy.registries().by_id("acme-pypi").unwrap();
        let github = policy.issuers().by_id("github").unwrap();
        let token = UnverifiedToken::parse(&issuer.token(support::NOW, rules / 2, rules)).unwrap();
        let raw = token.unproven_claims().clone();
        let claims = Claims::new(raw.clone(), github.provider().derive(&raw));
        let subject = Subject { issuer: github, claims: &claims };
        criterion.bench_function(&format!("policy: evaluate with {rules} rules"), |b| {
            b.iter(|| evaluate(&policy, registry, black_box(&subject), &Requested::default()));
        });
    }
}

fn macaroon_stages(criterion: &mut Criterion) {
    let now = StillClock.now();
    let keyring = support::keyring(StillClock.now());
    let permissions: Permissions = Permission::parse(Ecosystem::Pypi, "upload:widgets").into_iter().collect();
    let request = || samples::upload_token(&permissions, now);
    criterion.bench_function("macaroon: prepare and mint", |b| {
        b.iter(|| macaroon::prepare(&keyring, black_box(request())).unwrap().mint());
    });
    let minted = macaroon::prepare(&keyring, request()).unwrap().mint();
    criterion.bench_function("macaroon: verify", |b| {
        b.iter(|| macaroon::verify(black_box(minted.token.expose()), "pypi-", &keyring, samples::KEY, now).unwrap());
    });
}

fn whole_exchange(criterion: &mut Criterion, issuer: &Issuer, runtime: &tokio::runtime::Runtime) {
    let tokens: Vec<String> = (0..POOL).map(|serial| issuer.token(support::NOW, serial, 10)).collect();
    criterion.bench_function("exchange: in process, 10 rules", |b| {
        b.iter_custom(|iterations| {
            let mut spent = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let app = support::app(support::policy(issuer, 10), support::Outside::default());
                let policy = app.policy();
                let registry = policy.registries().by_id("acme-pypi").unwrap();
                let caller = caller();
                let batch = usize::try_from(left.min(POOL)).unwrap();
                let started = now();
                for token in tokens.iter().take(batch) {
                    let request = exchange::Request {
                        registry,
                        subject_token: Presented::new(token),
                        requested: Requested::default(),
                        single_use: false,
                        yielding: Yielding::NOTHING,
                    };
                    runtime.block_on(app.exchange(&policy, request, &caller, StillClock.now())).unwrap();
                }
                spent += started.elapsed();
                left -= u64::try_from(batch).unwrap();
            }
            spent
        });
    });
}

fn whole_verification(criterion: &mut Criterion, issuer: &Issuer, runtime: &tokio::runtime::Runtime) {
    let app = Arc::new(support::app(support::policy(issuer, 10), support::Outside::default()));
    runtime.block_on(app.sync()).unwrap();
    let policy = app.policy();
    let registry = policy.registries().by_id("acme-pypi").unwrap();
    let caller = caller();
    let token = issuer.token(support::NOW, 0, 10);
    let request = exchange::Request {
        registry,
        subject_token: Presented::new(&token),
        requested: Requested::default(),
        single_use: false,
        yielding: Yielding::NOTHING,
    };
    let granted = runtime.block_on(app.exchange(&policy, request, &caller, StillClock.now())).unwrap();
    let question = Question {
        token: Presented::new(granted.minted().token.expose()),
        action: Action::upload(),
        package: PackageName::parse(Ecosystem::Pypi, "widgets-0").unwrap(),
        version: Some("1.4.0"),
        sha256: Some([7; 32]),
        size: Some(1000),
        client_ip: None,
        consume: None,
        yielding: Yielding::NOTHING,
    };
    criterion.bench_function("verify: in process", |b| {
        b.iter(|| {
            let outcome = app.verify(&policy, registry, &question, &caller, StillClock.now());
            runtime.block_on(outcome).result.unwrap();
        });
    });
}

/// A caller like any other.
fn caller() -> Caller {
    Caller { request_id: "0198f3a2-0000-7000-8000-000000000000".into(), client: None }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}
