//! Policies and bundles: whatever the bytes are, they are refused in words or decide something, and a text means the
//! same to the two readers of it.

use std::sync::LazyLock;

use trustmint::identity::claims::Claims;
use trustmint::identity::provider;
use trustmint::identity::provider::Example;
use trustmint::json::Object;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::bundle::Signed;
use trustmint::policy::bundle::accept;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::policy::yaml::Faults;

/// What the fuzzed file stands beside: an issuer of each preset that needs no address, and two registries.
const WORLD: &str = "issuers:
  github: {provider: github}
  gitlab: {provider: gitlab}
  google: {provider: google}
  buildkite: {provider: buildkite}
registries:
  acme: {dialect: pypi, urls: ['https://pypi.acme.example/legacy/'], audiences: [acme]}
  tools:
    dialect: generic
    urls: ['https://tools.acme.example/']
    audiences: [tools]
    bundle: {url: 'https://tools.acme.example/bundle', issuers: [github, gitlab], packages: ['acme-*']}
";

static BESIDE: LazyLock<Policy> = LazyLock::new(|| load(None).unwrap());

fn load(fuzzed: Option<&str>) -> Result<Policy, Faults> {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), text: text.to_owned() };
    let mut sources = vec![source("world.yaml", WORLD)];
    sources.extend(fuzzed.map(|text| source("fuzzed.yaml", text)));
    Policy::load(&sources, &|_, _| None)
}

/// The input is a policy file.
pub fn policy(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let loaded = load(Some(text));
    if text.trim_start().starts_with('{') {
        // A comment makes the same text one that only the YAML reader takes.
        let as_yaml = load(Some(&format!("# no JSON\n{text}")));
        match (&loaded, &as_yaml) {
            (Ok(json), Ok(yaml)) => assert_eq!(rules(json), rules(yaml), "two meanings"),
            (Err(json), Err(yaml)) => assert!(!json.to_string().is_empty() && !yaml.to_string().is_empty()),
            // A tab, or half of a surrogate pair: YAML is the stricter of the two.
            (Ok(_), Err(_)) => {}
            (Err(faults), Ok(_)) => panic!("only the JSON reader refuses it: {faults}"),
        }
    }
    match loaded {
        Ok(policy) => decide(&policy),
        Err(faults) => faults.iter().for_each(|fault| super::short(&fault.message)),
    }
}

/// The input is a registry's bundle.
pub fn bundle(data: &[u8]) {
    match accept(&BESIDE, "tools", &Signed::known(data), None, super::now()) {
        Ok(bundle) => {
            let policy = BESIDE.with_bundles([std::sync::Arc::new(bundle)]);
            for rule in policy.rules() {
                // SECURITY: whatever it says, it is about this registry, these issuers and these packages.
                assert!(rule.id().starts_with("tools/"), "{}", rule.id());
                for pair in rule.pairs() {
                    assert!(pair.to_string().split(':').nth(1).unwrap().starts_with("acme-"), "{pair}");
                }
            }
            let elsewhere = policy.registries().by_id("acme").unwrap();
            for (issuer, example) in jobs(&policy) {
                let subject = Subject { issuer: policy.issuers().by_id(issuer).unwrap(), claims: &example };
                let said = evaluate(&policy, elsewhere, &subject, &Requested::default());
                assert!(matches!(said.decision, trustmint::policy::evaluate::Decision::Deny(_)), "another registry's");
            }
            decide(&policy);
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

/// What each rule says, but for where it stands.
fn rules(policy: &Policy) -> Vec<String> {
    policy.rules().map(|rule| format!("{rule:?}")).collect()
}

/// A job of each example that an issuer of the policy can have.
fn jobs(policy: &Policy) -> Vec<(&'static str, Claims)> {
    let of = |preset: &'static provider::Provider| {
        let claims = move |example: &Example| {
            let raw = (example.claims)(&Object::default());
            let derived = preset.derive(&raw);
            (preset.name, Claims::new(raw, derived))
        };
        preset.examples.iter().map(claims)
    };
    let known = provider::ALL.iter().filter(|preset| policy.issuers().by_id(preset.name).is_some());
    known.flat_map(|preset| of(preset)).collect()
}

/// Asks for every job at every registry.
fn decide(policy: &Policy) {
    for (issuer, claims) in jobs(policy) {
        for registry in policy.registries().iter() {
            let subject = Subject { issuer: policy.issuers().by_id(issuer).unwrap(), claims: &claims };
            let ask = || format!("{:?}", evaluate(policy, registry, &subject, &Requested::default()).decision);
            assert_eq!(ask(), ask());
        }
    }
}
