//! The same on GitHub's preset: rules pin projects, the preset adds conditions of its own, claims are derived, and a
//! registry serves half of the rules itself.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;
use trustmint::policy::Policy;
use trustmint::policy::bundle::Signed;
use trustmint::policy::bundle::accept;
use trustmint::policy::rule::Mode;
use trustmint::time::Timestamp;

use super::Conditions;
use super::Draft;
use super::Limits;
use super::ask;
use super::code;
use super::document;
use super::limits;
use super::load;
use super::numbered;
use super::pairs;
use super::rules_of;
use super::scan;
use super::with;
use crate::support::service::example;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
const OWNER: &str = "repository_owner_id";
const PROJECT: &str = "repository_id";

/// Conditions that fix owner and project, in each way in which blocks can share the duty: (`when`, `any_of`).
fn pinned() -> impl Strategy<Value = (Conditions, Vec<Conditions>)> {
    let id = || prop::sample::select(vec![json!("1"), json!("1"), json!("2"), json!("2"), json!({"in": ["1", "2"]})]);
    let both = move || (id(), id()).prop_map(|(owner, project)| vec![(OWNER, owner), (PROJECT, project)]);
    let project = move || id().prop_map(|project| vec![(PROJECT, project)]);
    prop_oneof![
        2 => both().prop_map(|pins| (pins, Vec::new())),
        1 => (id(), prop::collection::vec(project(), 2..=3)).prop_map(|(owner, blocks)| (vec![(OWNER, owner)], blocks)),
        1 => prop::collection::vec(both(), 2..=3).prop_map(|blocks| (Vec::new(), blocks)),
    ]
}

/// Conditions on claims beside the pins.
fn further() -> impl Strategy<Value = Conditions> {
    prop::sample::select(vec![
        vec![("repository", json!("Acme/Widgets"))],
        vec![("repository", json!({"in": ["ACME/gadgets", "acme/WIDGETS"]}))],
        vec![("repository", json!({"glob": "acme/w*"}))],
        vec![("repository", json!({"not": "acme/widgets"}))],
        vec![("tag", json!("v1"))],
        vec![("tag", json!({"glob": "v*"}))],
        vec![("tag", json!({"regex": "v[0-9]+"}))],
        vec![("environment", json!("Release"))],
        vec![("environment", json!({"in": ["release", "staging"]}))],
        vec![("environment", json!({"absent": true}))],
        vec![("workflow_file", json!("release.yml"))],
        vec![("ref_protected", json!("true"))],
        vec![("event_name", json!("push"))],
        vec![("event_name", json!({"in": ["push", "pull_request"]}))],
        vec![
            ("job_workflow_repository", json!("octo-org/release-workflows")),
            ("job_workflow_file", json!("publish.yml")),
        ],
    ])
}

/// Adds conditions to `when`, or to the first block if there is one; not if one of their claims has a condition already.
fn add(draft: &mut Draft, more: &[(&'static str, Value)], inside: bool) -> bool {
    let named = || draft.when.iter().chain(draft.any_of.iter().flatten()).map(|(claim, _)| *claim);
    if more.iter().any(|(claim, _)| named().any(|named| named == *claim)) {
        return false;
    }
    let place = if inside { draft.any_of.first_mut() } else { None };
    place.unwrap_or(&mut draft.when).extend(more.iter().cloned());
    true
}

fn draft(limited: bool) -> impl Strategy<Value = Draft> {
    (
        prop::sample::select(vec!["acme", "acme", "acme", "other"]),
        prop::sample::select(vec!["enforce", "enforce", "enforce", "shadow", "off"]),
        pinned(),
        prop::collection::vec((further(), any::<bool>()), 0..=2),
        prop::sample::subsequence(vec!["p0", "p1", "p-*"], 1..=2),
        limits(limited),
    )
        .prop_map(|(registry, mode, (when, any_of), more, packages, limits)| {
            let mut draft = Draft { registry, mode, when, any_of, packages, limits };
            for (more, inside) in more {
                add(&mut draft, &more, inside);
            }
            draft
        })
}

fn drafts(limited: bool) -> impl Strategy<Value = Vec<Draft>> {
    prop::collection::vec(draft(limited), 0..8)
}

fn job() -> impl Strategy<Value = Value> {
    let id = || prop::sample::select(vec!["1", "1", "1", "2", "2", "3"]);
    (
        prop::sample::select(vec!["tag-push", "tag-push", "branch-push", "pull-request", "reusable-workflow"]),
        (id(), id()),
        prop::sample::select(vec!["acme/widgets", "ACME/Widgets", "acme/gadgets"]),
        prop::sample::select(vec![json!(null), json!("release"), json!("RELEASE"), json!("staging")]),
        prop::sample::select(vec![json!(null), json!("v1"), json!("v1/x"), json!("x")]),
        prop::option::weighted(0.1, prop::sample::select(vec![PROJECT, "repository", "ref", "event_name"])),
    )
        .prop_map(|(name, (owner, project), repository, environment, tag, gone)| {
            let mut overrides = json!({OWNER: owner, PROJECT: project, "repository": repository});
            for (claim, value) in [("environment", environment), ("tag", tag)] {
                if !value.is_null() {
                    overrides[claim] = value;
                }
            }
            let job = example("github", name, &overrides);
            match gone {
                Some(claim) => with(job, claim, None),
                None => job,
            }
        })
}

fn policy(drafts: &[Draft]) -> Policy {
    let text = document(json!({"provider": "github"}), rules_of(&numbered(drafts))).to_string();
    load(text.clone()).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

/// The same rules, each second of which is served by its registry.
fn half_served(drafts: &[Draft]) -> Policy {
    let (own, served): (Vec<_>, Vec<_>) = numbered(drafts).into_iter().partition(|(number, _)| number % 2 == 0);
    let mut text = document(json!({"provider": "github"}), rules_of(&own));
    for registry in ["acme", "other"] {
        text["registries"][registry]["bundle"] =
            json!({"url": format!("https://{registry}.acme.example/bundle.json"), "issuers": ["ci"]});
    }
    let directory = load(text.to_string()).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    let bundles = ["acme", "other"].map(|registry| {
        let rules: Vec<_> = served.iter().filter(|(_, draft)| draft.registry == registry).cloned().collect();
        let not_after = NOW.plus(Duration::from_secs(3600)).to_string();
        let text = json!({"registry": registry, "serial": 1, "not_after": not_after, "rules": rules_of(&rules)});
        let text = text.to_string();
        let bundle = accept(&directory, registry, &Signed::known(text.as_bytes()), None, NOW);
        Arc::new(bundle.unwrap_or_else(|fault| panic!("{fault}\n{text}")))
    });
    directory.with_bundles(bundles)
}

/// Whether the preset's own conditions on these claims, which a rule that names one does without, keep this job out.
fn does_without_what_keeps_out(more: &[(&'static str, Value)], job: &Value) -> bool {
    let names = |prefix: &str| more.iter().any(|(claim, _)| claim.starts_with(prefix));
    let usual = ["push", "release", "workflow_dispatch"].into_iter().any(|event| job["event_name"] == event);
    let called = job["job_workflow_ref"] != job["workflow_ref"];
    (names("event_name") && !usual) || (names("job_workflow_") && called)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_finds_what_a_look_at_every_rule_finds_whoever_serves_them(drafts in drafts(false), jobs in prop::collection::vec(job(), 1..6)) {
        let (own, served) = (policy(&drafts), half_served(&drafts));
        prop_assert_eq!((own.rule_count(), served.rule_count()), (drafts.len(), drafts.len()));
        for job in &jobs {
            let whole = scan(&own, job, &[Mode::Enforce]);
            prop_assert_eq!(&pairs(&ask(&own, job)), &whole, "{}", job);
            prop_assert_eq!(&pairs(&ask(&served, job)), &whole, "{}", job);
            prop_assert_eq!(&scan(&served, job, &[Mode::Enforce]), &whole, "{}", job);
        }
    }

    #[test]
    fn adding_a_condition_widens_a_grant_only_past_the_presets_own_on_that_claim_or_by_ending_a_contradiction(
        drafts in drafts(true), at in any::<prop::sample::Index>(), more in further(), inside in any::<bool>(), jobs in prop::collection::vec(job(), 1..6),
    ) {
        prop_assume!(!drafts.is_empty());
        let mut narrower = drafts.clone();
        let place = at.index(narrower.len());
        prop_assume!(add(&mut narrower[place], &more, inside));
        let (before, after) = (policy(&drafts), policy(&narrower));
        for job in &jobs {
            let (was, is) = (ask(&before, job), ask(&after, job));
            if code(&was) != "ambiguous-grant" && !does_without_what_keeps_out(&more, job) {
                prop_assert!(pairs(&is).is_subset(&pairs(&was)), "{} and {:?}", job, more);
            }
        }
    }
}

fn widgets() -> Draft {
    Draft::of(vec![(OWNER, json!("9123456")), (PROJECT, json!("701234567"))], "p0")
}

#[test]
fn a_condition_on_a_claim_that_the_preset_has_one_on_stands_in_its_place() {
    let callee = vec![
        ("job_workflow_repository", json!("octo-org/release-workflows")),
        ("job_workflow_file", json!("publish.yml")),
    ];
    for (more, name) in [(vec![("event_name", json!("pull_request"))], "pull-request"), (callee, "reusable-workflow")] {
        let job = example("github", name, &json!({}));
        let mut narrower = widgets();
        assert!(pairs(&ask(&policy(&[widgets()]), &job)).is_empty(), "{name}: the preset keeps it out");
        assert!(add(&mut narrower, &more, false) && does_without_what_keeps_out(&more, &job), "{name}");
        assert_eq!(pairs(&ask(&policy(&[narrower]), &job)).len(), 1, "{name}: the rule asks for it by name");
    }
}

#[test]
fn a_condition_that_takes_one_of_two_contradicting_rules_out_lets_the_other_grant() {
    let job = example("github", "tag-push", &json!({}));
    for limits in
        [Limits { single_use: true, versions: Vec::new() }, Limits { single_use: false, versions: vec!["1.0"] }]
    {
        let mut limited = Draft { limits, ..widgets() };
        let refused = ask(&policy(&[widgets(), limited.clone()]), &job);
        assert_eq!((code(&refused), pairs(&refused).len()), ("ambiguous-grant", 0));
        assert!(add(&mut limited, &[("environment", json!("nowhere"))], false));
        assert_eq!(pairs(&ask(&policy(&[widgets(), limited]), &job)).len(), 1);
    }
}
