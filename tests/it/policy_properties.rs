//! What holds for every policy and every job: checked on random ones, with every operator, branches, modes and names
//! that take part from the job.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;
use trustmint::identity::claims::Claims;
use trustmint::identity::issuer::Issuer;
use trustmint::json::Json;
use trustmint::package::Ecosystem;
use trustmint::package::PackageName;
use trustmint::package::Permission;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::evaluate::Decision;
use trustmint::policy::evaluate::Evaluation;
use trustmint::policy::evaluate::Requested;
use trustmint::policy::evaluate::Subject;
use trustmint::policy::evaluate::evaluate;
use trustmint::policy::pair::Packages;
use trustmint::policy::rule::Mode;
use trustmint::policy::yaml::Faults;

use crate::support::service::object;

mod github;
mod total;

/// Claims, and what is demanded of each.
type Conditions = Vec<(&'static str, Value)>;

/// A rule in the making.
#[derive(Debug, Clone)]
struct Draft {
    registry: &'static str,
    mode: &'static str,
    when: Conditions,
    any_of: Vec<Conditions>,
    packages: Vec<&'static str>,
    limits: Limits,
}

/// What rules that match one job must have alike.
#[derive(Debug, Clone, Default)]
struct Limits {
    single_use: bool,
    versions: Vec<&'static str>,
}

impl Draft {
    /// One that grants a package to the jobs that meet one condition.
    fn of(when: Conditions, package: &'static str) -> Self {
        let (any_of, packages, limits) = (Vec::new(), vec![package], Limits::default());
        Self { registry: "acme", mode: "enforce", when, any_of, packages, limits }
    }
}

fn test() -> impl Strategy<Value = Value> {
    // Most jobs have `x`: else few rules match, and what matching rules give together is hardly tried.
    let text = || prop::sample::select(vec!["x", "x", "x", "xy", "x/y", "Y", "7"]);
    prop_oneof![
        6 => text().prop_map(Value::from),
        1 => Just(json!({"in": ["x", "Y"]})),
        1 => Just(json!({"in": [7, "xy"]})),
        1 => prop::sample::select(vec!["x*", "*y", "x**"]).prop_map(|glob| json!({"glob": glob})),
        1 => prop::sample::select(vec!["x|Y", "x.?", "[^x]+"]).prop_map(|regex| json!({"regex": regex})),
        1 => Just(json!({"contains": "x"})),
        1 => Just(json!({"exactly": ["x", "Y"]})),
        1 => Just(json!({"present": true})),
        1 => Just(json!({"absent": true})),
        1 => Just(json!({"same_as": "d"})),
        1 => text().prop_map(|text| json!({"not": text})),
        1 => Just(json!({"not": {"glob": "x*"}})),
        1 => Just(json!({"not": {"in": ["x", 7]}})),
        1 => prop::sample::select(vec![
            json!({"regex": "x.*"}), json!({"contains": "x"}), json!({"exactly": ["x"]}), json!({"same_as": "d"}),
        ]).prop_map(|test| json!({"not": test})),
        1 => Just(json!(7)),
        1 => Just(json!(true)),
    ]
}

fn conditions(least: usize, most: usize) -> impl Strategy<Value = Conditions> {
    prop::sample::subsequence(vec!["a", "b", "c"], least..=most)
        .prop_flat_map(|claims| claims.into_iter().map(|claim| (Just(claim), test())).collect::<Vec<_>>())
}

/// None, or such that rules often differ in them.
fn limits(limited: bool) -> BoxedStrategy<Limits> {
    if !limited {
        return Just(Limits::default()).boxed();
    }
    let versions = prop::sample::select(vec![vec![], vec![], vec!["1.0"], vec!["2.0"], vec!["2.0", "1.0"]]);
    (any::<bool>(), versions).prop_map(|(single_use, versions)| Limits { single_use, versions }).boxed()
}

fn draft(limited: bool) -> impl Strategy<Value = Draft> {
    let packages = prop::sample::subsequence(vec!["p0", "p1", "p-*", "q-{a}"], 1..=3);
    (
        prop::sample::select(vec!["acme", "acme", "acme", "other"]),
        prop::sample::select(vec!["enforce", "enforce", "enforce", "shadow", "off"]),
        conditions(1, 2),
        prop_oneof![1 => Just(Vec::new()), 1 => prop::collection::vec(conditions(1, 2), 1..=3)],
        packages,
        limits(limited),
    )
        .prop_map(|(registry, mode, when, any_of, packages, limits)| {
            // A placeholder needs a condition on its claim in every branch.
            let named = when.iter().any(|(claim, test)| *claim == "a" && *test != json!({"absent": true}));
            let packages = packages.into_iter().filter(|package| named || !package.contains('{')).collect::<Vec<_>>();
            let packages = if packages.is_empty() { vec!["p0"] } else { packages };
            Draft { registry, mode, when, any_of, packages, limits }
        })
}

fn drafts(limited: bool) -> impl Strategy<Value = Vec<Draft>> {
    prop::collection::vec(draft(limited), 0..8)
}

fn job() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        4 => Just(json!("x")),
        4 => prop::sample::select(vec!["x", "xy", "x/y", "Y", "y", "7", "", "x\n"]).prop_map(Value::from),
        1 => prop::sample::select(vec![json!(7), json!(true), json!(null), json!(1.5), json!({"x": "x"})]),
        1 => prop::sample::select(vec![json!(["x"]), json!(["x", "Y"]), json!(["Y", "x", "x"]), json!([["x"]]), json!([])]),
    ];
    prop::collection::hash_map(prop::sample::select(vec!["a", "b", "c", "d"]), value, 1..=4)
        .prop_map(|members| Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
}

fn entries(entries: &[(&'static str, Value)]) -> serde_json::Map<String, Value> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Rules, each by its number.
fn rules_of(drafts: &[(usize, Draft)]) -> Value {
    let rule = |draft: &Draft| {
        let mut when = entries(&draft.when);
        if !draft.any_of.is_empty() {
            when.insert("any_of".to_owned(), draft.any_of.iter().map(|block| Value::Object(entries(block))).collect());
        }
        let mut rule = json!({
            "registry": draft.registry, "issuer": "ci", "mode": draft.mode, "when": when,
            "single_use": draft.limits.single_use, "allow": {"upload": draft.packages},
        });
        if !draft.limits.versions.is_empty() {
            rule["versions"] = json!(draft.limits.versions);
        }
        rule
    };
    drafts.iter().map(|(number, draft)| (format!("r{number}"), rule(draft))).collect::<serde_json::Map<_, _>>().into()
}

/// A policy of one issuer, `ci`, and of two registries.
fn document(issuer: Value, rules: Value) -> Value {
    json!({
        "issuers": {"ci": issuer},
        "registries": {
            "acme": {"dialect": "pypi", "urls": ["https://pypi.acme.example/"], "audiences": ["acme"]},
            "other": {"dialect": "pypi", "urls": ["https://other.acme.example/"], "audiences": ["other"]},
        },
        "rules": rules,
    })
}

/// A policy of these rules for an issuer of one's own, with claims of any name.
fn json_of(drafts: &[(usize, Draft)]) -> Value {
    let issuer = json!({"provider": "generic", "url": "https://ci.acme.example", "tenancy": "single"});
    document(issuer, rules_of(drafts))
}

/// The text of a policy of these rules, written in the order in which they are given: a map of JSON values would sort them.
fn in_order(drafts: &[(usize, Draft)]) -> String {
    let entry = |draft: &(usize, Draft)| {
        let rules = rules_of(std::slice::from_ref(draft)).to_string();
        rules[1..rules.len() - 1].to_owned()
    };
    let entries: Vec<String> = drafts.iter().map(entry).collect();
    let (text, none) = (json_of(&[]).to_string(), "\"rules\":{}");
    assert!(text.contains(none), "{text}");
    text.replacen(none, &format!("\"rules\":{{{}}}", entries.join(",")), 1)
}

fn load(text: String) -> Result<Policy, Faults> {
    Policy::load(&[Source { name: "p.yaml".to_owned(), text }], &|_, _| None)
}

/// A policy of these rules, each by its number.
fn policy(drafts: &[(usize, Draft)]) -> Policy {
    let text = json_of(drafts).to_string();
    load(text.clone()).unwrap_or_else(|faults| panic!("{faults}\n{text}"))
}

/// What a policy's rules say; what is wrong with it, if it does not load.
fn meaning(loaded: &Result<Policy, Faults>) -> Result<Vec<String>, String> {
    let rules = |policy: &Policy| policy.rules().map(|rule| format!("{rule:?}")).collect();
    loaded.as_ref().map(rules).map_err(ToString::to_string)
}

/// A value as people write it: a line for each entry of a map and item of a list, indented.
fn block(value: &Value, indent: usize) -> String {
    let (line, deeper) = (format!("\n{}", " ".repeat(indent)), indent + 2);
    match value {
        Value::Object(entries) if !entries.is_empty() => entries.iter().fold(String::new(), |text, (key, value)| {
            text + &format!("{line}{}: {}", json!(key), block(value, deeper))
        }),
        Value::Array(items) if !items.is_empty() => {
            items.iter().fold(String::new(), |text, item| text + &format!("{line}- {}", block(item, deeper)))
        }
        Value::Object(_) | Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            value.to_string()
        }
    }
}

/// A value that no condition is about, or not in this way.
fn oddity() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(1.5),
        json!([]),
        json!({}),
        json!(" x"),
        json!("x*"),
        json!("\u{202e}"),
        json!({"is": null}),
        json!({"in": []}),
        json!({"in": ["x", "x", {}]}),
        json!({"glob": "x"}),
        json!({"regex": "("}),
        json!({"matches": "x"}),
        json!({"present": false}),
        json!({"not": {"present": true}}),
        json!({"same_as": "a"}),
    ])
}

/// A claim's name, the whole member's or a pointer's, and what the member `a` is so that the claim is missing; nothing
/// if there is no such member.
fn missing() -> impl Strategy<Value = (&'static str, Option<Value>)> {
    prop::sample::select(vec![
        ("a", None),
        ("a", Some(json!(null))),
        ("/a/b", None),
        ("/a/b", Some(json!(null))),
        ("/a/b", Some(json!({}))),
        ("/a/b", Some(json!({"b": null}))),
        ("/a/b", Some(json!({"c": "x", "/a/b": "x"}))),
        ("/a/b", Some(json!("x"))),
        ("/a/b", Some(json!(["x"]))),
        ("/a/b/c", Some(json!({"b": "x"}))),
        ("/a/1", Some(json!(["x"]))),
        ("/a/01", Some(json!(["x", "x"]))),
    ])
}

/// The job with that member in place of its own, or without it.
fn with(mut job: Value, name: &str, value: Option<Value>) -> Value {
    match value {
        Some(value) => job[name] = value,
        None => drop(job.as_object_mut().unwrap().remove(name)),
    }
    job
}

fn numbered(drafts: &[Draft]) -> Vec<(usize, Draft)> {
    drafts.iter().cloned().enumerate().collect()
}

fn claims(issuer: &Issuer, job: &Value) -> Claims {
    let raw = object(job);
    let derived = issuer.derive(&raw);
    Claims::new(raw, derived)
}

fn ask(policy: &Policy, job: &Value) -> Evaluation {
    let issuer = policy.issuers().by_id("ci").unwrap();
    let claims = claims(issuer, job);
    let subject = Subject { issuer, claims: &claims };
    evaluate(policy, policy.registries().by_id("acme").unwrap(), &subject, &Requested::default())
}

fn pairs(evaluation: &Evaluation) -> BTreeSet<String> {
    match &evaluation.decision {
        Decision::Allow(grant) => grant.permissions().iter().map(ToString::to_string).collect(),
        Decision::Deny(_) => BTreeSet::new(),
    }
}

fn code(evaluation: &Evaluation) -> &'static str {
    match &evaluation.decision {
        Decision::Allow(_) => "ok",
        Decision::Deny(explanation) => explanation.code().as_str(),
    }
}

/// What a look at every rule gives, without the index and without the code that decides.
fn scan(policy: &Policy, job: &Value, modes: &[Mode]) -> BTreeSet<String> {
    let issuer = policy.issuers().by_id("ci").unwrap();
    let claims = claims(issuer, job);
    let mut found = BTreeSet::new();
    for rule in policy.rules() {
        let here = policy.registry_of(&rule).unwrap().id == "acme";
        if !here || !modes.contains(&rule.mode()) {
            continue;
        }
        for branch in rule.branches().iter().filter(|branch| branch.holds(issuer.provider(), &claims)) {
            assert!(!branch.conditions().is_empty());
            let pair = |packages: &Packages<'_>| match packages {
                Packages::Pattern(text) => Some(format!("upload:{}", &**text)),
                Packages::Template(template) => {
                    let value = |name: &str| match claims.get(name)? {
                        Json::String(text) => Some(text.clone()),
                        Json::Int(number) => Some(number.to_string()),
                        Json::Null | Json::Bool(_) | Json::Float(_) | Json::Array(_) | Json::Object(_) => None,
                    };
                    let name = PackageName::parse_interpolated(Ecosystem::Pypi, &template.fill(value)?).ok()?;
                    Some(format!("upload:{name}"))
                }
            };
            let all: Option<Vec<String>> = rule.pairs().iter().map(|granted| pair(granted.packages())).collect();
            found.extend(all.into_iter().flatten());
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_index_finds_what_a_look_at_every_rule_finds(drafts in drafts(false), jobs in prop::collection::vec(job(), 1..6)) {
        let policy = policy(&numbered(&drafts));
        for job in &jobs {
            prop_assert_eq!(pairs(&ask(&policy, job)), scan(&policy, job, &[Mode::Enforce]), "{}", job);
        }
    }

    #[test]
    fn a_policy_means_the_same_in_json_and_in_yaml(drafts in drafts(true)) {
        let json = json_of(&numbered(&drafts));
        let said = meaning(&load(json.to_string()));
        prop_assert!(said.is_ok());
        prop_assert_eq!(&said, &meaning(&load(format!("{json} # YAML"))));
        prop_assert_eq!(&said, &meaning(&load(block(&json, 0))));
    }

    #[test]
    fn what_is_wrong_with_a_policy_is_the_same_in_json_and_in_yaml(drafts in drafts(true), at in any::<prop::sample::Index>(), oddity in oddity()) {
        prop_assume!(!drafts.is_empty());
        let mut drafts = drafts;
        let place = at.index(drafts.len());
        drafts[place].when.push(("e", oddity));
        let json = json_of(&numbered(&drafts));
        let said = meaning(&load(json.to_string()));
        prop_assert_eq!(&said, &meaning(&load(format!("{json} # YAML"))));
        // There the places are others.
        prop_assert_eq!(said.is_ok(), load(block(&json, 0)).is_ok(), "{}", json);
    }

    #[test]
    fn adding_a_condition_never_widens_a_grant(drafts in drafts(false), at in any::<prop::sample::Index>(), more in test(), claim in prop::sample::select(vec!["b", "c", "d"]), jobs in prop::collection::vec(job(), 1..6)) {
        prop_assume!(!drafts.is_empty());
        let mut narrower = drafts.clone();
        let place = at.index(narrower.len());
        prop_assume!(narrower[place].when.iter().all(|(named, _)| *named != claim));
        prop_assume!(claim != "d" || !more.to_string().contains("same_as"));
        narrower[place].when.push((claim, more));
        let (before, after) = (policy(&numbered(&drafts)), policy(&numbered(&narrower)));
        for job in &jobs {
            prop_assert!(pairs(&ask(&after, job)).is_subset(&pairs(&ask(&before, job))), "{}", job);
        }
    }

    #[test]
    fn removing_a_rule_never_adds_a_pair_but_for_rules_that_contradict_each_other(drafts in drafts(true), at in any::<prop::sample::Index>(), jobs in prop::collection::vec(job(), 1..6)) {
        prop_assume!(!drafts.is_empty());
        let all = numbered(&drafts);
        let mut fewer = all.clone();
        fewer.remove(at.index(all.len()));
        let (before, after) = (policy(&all), policy(&fewer));
        for job in &jobs {
            let (before, after) = (ask(&before, job), ask(&after, job));
            // Two rules that differ in `single_use` or `versions` give nothing until one of them goes: the refusal names
            // both.
            if code(&before) != "ambiguous-grant" {
                prop_assert!(pairs(&after).is_subset(&pairs(&before)), "{}", job);
            }
        }
    }

    #[test]
    fn a_rule_in_shadow_mode_grants_nothing_and_is_told_when_it_would(drafts in drafts(false), at in any::<prop::sample::Index>(), jobs in prop::collection::vec(job(), 1..6)) {
        prop_assume!(!drafts.is_empty());
        let mut all = numbered(&drafts);
        let place = at.index(all.len());
        all[place].1.mode = "shadow";
        let shadowed = policy(&all);
        let without = policy(&all.iter().filter(|(number, _)| *number != all[place].0).cloned().collect::<Vec<_>>());
        for job in &jobs {
            let (with, without) = (ask(&shadowed, job), ask(&without, job));
            prop_assert_eq!(pairs(&with), pairs(&without), "{}", job);
            let would: BTreeSet<String> = scan(&shadowed, job, &[Mode::Shadow]);
            let given = pairs(&with);
            let given: Vec<Permission> = given.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect();
            let missing = would.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap());
            let missing = missing.into_iter().any(|pair| !given.iter().any(|granted| granted.pattern.covers(&pair.pattern)));
            prop_assert_eq!(!with.shadow.is_empty(), missing, "{}", job);
        }
    }

    #[test]
    fn the_order_of_the_rules_does_not_matter(drafts in drafts(true), jobs in prop::collection::vec(job(), 1..6), seed in any::<u64>()) {
        let all = numbered(&drafts);
        let mut shuffled = all.clone();
        shuffled.sort_by_key(|(number, _)| (seed.rotate_left(u32::try_from(*number).unwrap() * 7)) % 97);
        let numbers = |drafts: &[(usize, Draft)]| drafts.iter().map(|(number, _)| *number).collect::<Vec<_>>();
        let (one, other) = (in_order(&all), in_order(&shuffled));
        prop_assert_eq!(one == other, numbers(&all) == numbers(&shuffled), "{}\n{}", one, other);
        let (one, other) = (load(one).unwrap(), load(other).unwrap());
        for job in &jobs {
            let (one, other) = (ask(&one, job), ask(&other, job));
            prop_assert_eq!(pairs(&one), pairs(&other));
            prop_assert_eq!(code(&one), code(&other));
            prop_assert_eq!(one.shadow.iter().collect::<BTreeSet<_>>(), other.shadow.iter().collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn a_missing_claim_never_passes(condition in test(), job in job(), (claim, value) in missing()) {
        prop_assume!(condition != json!({"absent": true}));
        let policy = policy(&numbered(&[Draft::of(vec![(claim, condition)], "p0")]));
        prop_assert_eq!(pairs(&ask(&policy, &with(job, "a", value))), BTreeSet::new());
    }

    #[test]
    fn nor_does_one_that_is_compared_with_a_missing_one(negated in any::<bool>(), job in job(), (other, value) in missing()) {
        // What is missing is told of `a`, and here it is the other side.
        let test = json!({"same_as": other});
        let test = if negated { json!({"not": test}) } else { test };
        let policy = policy(&numbered(&[Draft::of(vec![("d", test)], "p0")]));
        prop_assert_eq!(pairs(&ask(&policy, &with(job, "a", value))), BTreeSet::new());
    }

    #[test]
    fn a_test_and_its_negation_never_both_pass(condition in test(), job in job()) {
        let negatable = condition.as_object().is_none_or(|tests| tests.keys().all(|key| !["present", "absent", "not"].contains(&key.as_str())));
        prop_assume!(negatable);
        let negation = Draft::of(vec![("a", json!({"not": condition}))], "p1");
        let policy = policy(&numbered(&[Draft::of(vec![("a", condition.clone())], "p0"), negation]));
        let pairs = pairs(&ask(&policy, &job));
        prop_assert!(pairs.len() <= 1, "{:?} {}", pairs, job);
        let value = &job["a"];
        // A comparable text is always judged one way or the other.
        let plain = value.as_str().is_some_and(|text| !text.contains('\n'));
        let textual = condition.is_string() || condition.get("glob").is_some();
        if plain && textual {
            prop_assert_eq!(pairs.len(), 1, "{} {}", condition, job);
        }
    }
}
