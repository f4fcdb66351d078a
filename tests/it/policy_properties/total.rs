//! Every kind of value that a claim can have meets every preset and every operator: the answer is yes or no, and a no can
//! be told in each of its forms.

use serde_json::Value;
use serde_json::json;
use trustmint::identity::claims::Claims;
use trustmint::identity::issuer::Issuer;
use trustmint::identity::provider;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::policy::Policy;
use trustmint::policy::evaluate::Decision;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::policy::rule::Mode;

use super::Draft;
use super::ask;
use super::numbered;
use super::pairs;
use super::policy;
use super::scan;
use crate::support::presets;
use crate::support::service::example;
use crate::support::service::object;

/// Each JSON type, empty and not, and texts that are none of a provider's.
fn values() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(7),
        json!(i64::MIN),
        json!(1.5),
        json!(""),
        json!("x"),
        json!("refs/tags/v1"),
        json!("@/:.github/workflows/"),
        json!("x\n"),
        json!("\u{202e}\u{212a}é"),
        json!("x".repeat(5000)),
        json!([]),
        json!(["x"]),
        json!(["x", 7, null]),
        json!([["x"]]),
        json!({}),
        json!({"x": "x", "y": {"z": []}}),
    ]
}

/// Whether the rules say yes. What they say else is put in every form that somebody reads.
fn is_allowed(policy: &Policy, issuer: &Issuer, claims: &Value, requested: &Requested) -> bool {
    let raw = object(claims);
    let derived = issuer.derive(&raw);
    let claims = Claims::new(raw, derived);
    let registry = policy.registries().iter().next().unwrap();
    match evaluate(policy, registry, &Subject { issuer, claims: &claims }, requested).decision {
        Decision::Allow(grant) => {
            assert!(!grant.permissions().is_empty() && !grant.rules().is_empty());
            true
        }
        Decision::Deny(explanation) => {
            for told in [explanation.public(), explanation.for_audit(), *explanation] {
                let (table, sentence) = (told.to_table(), told.sentence());
                assert!(sentence.len() > 10 && table.contains(&sentence), "{table}");
                assert_eq!(serde_json::to_value(&told).unwrap()["sentence"], sentence);
            }
            false
        }
    }
}

/// The member of a token that a claim's name begins at.
fn member(claim: &str) -> String {
    match claim.strip_prefix('/') {
        Some(pointer) => pointer.split('/').next().unwrap().replace("~1", "/").replace("~0", "~"),
        None => claim.to_owned(),
    }
}

#[test]
fn whatever_a_claim_of_any_preset_is_the_answer_is_yes_or_no_and_can_be_told() {
    let policy = presets::policy_of_all();
    let package = |name: &str| PackageName::parse(Ecosystem::Pypi, name).ok();
    let requests = ["widgets", "gadgets"].map(|name| Requested { package: package(name), narrow: None });
    let (mut asked, mut allowed) = (0, 0);
    for preset in presets::PRESETS {
        let provider = provider::by_name(preset.name).unwrap();
        let issuer = policy.issuers().by_id(preset.name).unwrap();
        // The rule of the generic one is about claims of one's own.
        let own = if preset.name == "generic" { json!({"team": "release", "build": 7}) } else { json!({}) };
        let usual = example(preset.name, preset.example, &own);
        assert!(is_allowed(&policy, issuer, &usual, &Requested::default()), "{}", preset.name);
        let rule = policy.rule_by_id(&format!("{}-rule", preset.name)).unwrap();
        let known = provider.claims.iter().map(|claim| claim.name);
        let derived = provider.derived.iter().map(|derived| derived.claim.name);
        let mut claims: Vec<&str> = known.chain(derived).chain(rule.claims()).collect();
        claims.sort_unstable();
        claims.dedup();
        for claim in claims {
            for value in values() {
                let mut job = usual.clone();
                job[member(claim)] = value;
                for requested in std::iter::once(&Requested::default()).chain(&requests) {
                    asked += 1;
                    allowed += usize::from(is_allowed(&policy, issuer, &job, requested));
                }
            }
        }
    }
    assert!(asked > 10_000 && allowed > 1_000 && allowed < asked, "{allowed} of {asked}");
}

#[test]
fn every_operator_answers_about_every_value_and_every_other_value_beside_it() {
    let plain = [
        json!("x"),
        json!(7),
        json!(true),
        json!({"in": ["x", 7, true]}),
        json!({"glob": "x*"}),
        json!({"regex": "x.*"}),
        json!({"contains": "x"}),
        json!({"exactly": ["x"]}),
        json!({"same_as": "d"}),
    ];
    let negated = plain.iter().map(|test| json!({"not": test}));
    let tests = plain.iter().cloned().chain(negated).chain([json!({"present": true}), json!({"absent": true})]);
    let drafts: Vec<Draft> = tests.map(|test| Draft::of(vec![("a", test)], "p0")).collect();
    let mut matched = vec![0; drafts.len()];
    for (draft, matched) in drafts.iter().zip(&mut matched) {
        let policy = policy(&numbered(std::slice::from_ref(draft)));
        for (a, d) in values().into_iter().flat_map(|a| values().into_iter().map(move |d| (a.clone(), d))) {
            let job = json!({"a": a, "d": d});
            let given = pairs(&ask(&policy, &job));
            assert_eq!(given, scan(&policy, &job, &[Mode::Enforce]), "{:?} {job}", draft.when);
            *matched += given.len();
        }
    }
    assert!(matched.iter().all(|matched| (1..values().len().pow(2)).contains(matched)), "{matched:?}");
}
