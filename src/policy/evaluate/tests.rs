use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::json::Json;
use crate::json::Object;
use crate::package::Ecosystem;
use crate::policy::Source;
use crate::policy::issuers::Issuers;
use crate::policy::pair::Pair;

const HEAD: &str = r#"
issuers:
  github: {provider: github}
  jenkins: {provider: generic, url: "https://jenkins.acme.example", tenancy: single}
  off: {provider: generic, url: "https://off.acme.example", tenancy: single, enabled: false}
registries:
  acme: {dialect: pypi, urls: ["https://pypi.acme.example/legacy/"], audiences: [acme], token: {ttl: 20m}}
  other: {dialect: generic, urls: ["https://other.acme.example/"], audiences: [other]}
  closed: {dialect: generic, urls: ["https://closed.acme.example/"], audiences: [closed], enabled: false}
rules:
"#;

fn policy(rules: &str) -> Policy {
    let text = format!("{HEAD}{rules}");
    Policy::load(&[Source { name: "p.yaml".to_owned(), text }], &|_, _| None)
        .unwrap_or_else(|faults| panic!("{faults}"))
}

/// What is wrong with rules that do not load.
#[track_caller]
fn refused(rules: &str) -> String {
    let text = format!("{HEAD}{rules}");
    Policy::load(&[Source { name: "p.yaml".to_owned(), text }], &|_, _| None).map(|_| ()).unwrap_err().to_string()
}

fn claims_of(issuer: &Issuer, claims: &str) -> Claims {
    let raw = Json::parse(claims.as_bytes()).unwrap().as_object().unwrap().clone();
    let derived = issuer.provider().derive(&raw);
    Claims::new(raw, derived)
}

fn ask(policy: &Policy, registry: &str, issuer: &str, claims: &str, requested: &Requested) -> Decision {
    let issuer = policy.issuers().by_id(issuer).unwrap();
    let claims = claims_of(issuer, claims);
    evaluate(policy, policy.registries().by_id(registry).unwrap(), &Subject { issuer, claims: &claims }, requested)
        .decision
}

#[track_caller]
fn granted(decision: Decision) -> Grant {
    match decision {
        Decision::Allow(grant) => grant,
        Decision::Deny(explanation) => panic!("{}", explanation.to_table()),
    }
}

#[track_caller]
fn denied(decision: Decision) -> Explanation {
    match decision {
        Decision::Deny(explanation) => *explanation,
        Decision::Allow(grant) => panic!("{grant:?}"),
    }
}

fn jenkins(when: &str, claims: &str) -> bool {
    let policy = policy(&format!("  r: {{registry: acme, issuer: jenkins, when: {when}, allow: {{upload: [w]}}}}"));
    matches!(ask(&policy, "acme", "jenkins", claims, &Requested::default()), Decision::Allow(_))
}

fn pairs(text: &str) -> Permissions {
    text.split(' ').map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect()
}

fn package(name: &str) -> Option<PackageName> {
    PackageName::parse(Ecosystem::Pypi, name).ok()
}

#[test]
fn each_operator_means_what_it_says_and_nothing_is_coerced() {
    for (when, claims, expected) in [
        ("{a: x}", r#"{"a":"x"}"#, true),
        ("{a: x}", r#"{"a":"X"}"#, false),
        ("{a: x}", r#"{"a":"x "}"#, false),
        ("{a: x}", r#"{"a":null}"#, false),
        ("{a: x}", r#"{"A":"x"}"#, false),
        ("{a: x}", r#"{"a":["x"]}"#, false),
        ("{a: x}", r#"{"a":{"x":"x"}}"#, false),
        ("{a: x}", "{}", false),
        (r#"{a: ""}"#, r#"{"a":""}"#, true),
        (r#"{a: ""}"#, r#"{"a":null}"#, false),
        (r#"{a: ""}"#, "{}", false),
        (r#"{a: "7"}"#, r#"{"a":"7"}"#, true),
        (r#"{a: "7"}"#, r#"{"a":7}"#, false),
        ("{a: 7}", r#"{"a":7}"#, true),
        ("{a: 7}", r#"{"a":"7"}"#, false),
        ("{a: 7}", r#"{"a":7.0}"#, false),
        ("{a: 1}", r#"{"a":true}"#, false),
        ("{a: true}", r#"{"a":true}"#, true),
        ("{a: true}", r#"{"a":"true"}"#, false),
        ("{a: true}", r#"{"a":false}"#, false),
        (r#"{a: "true"}"#, r#"{"a":true}"#, false),
        ("{a: {is: x}}", r#"{"a":"x"}"#, true),
        ("{a: {in: [x, y]}}", r#"{"a":"y"}"#, true),
        ("{a: {in: [x, 7]}}", r#"{"a":7}"#, true),
        ("{a: {in: [x, y]}}", r#"{"a":"z"}"#, false),
        ("{a: {in: [x, y]}}", r#"{"a":["x"]}"#, false),
        ("{a: {in: [x, y]}}", "{}", false),
        (r#"{a: {glob: "v*"}}"#, r#"{"a":"v1"}"#, true),
        (r#"{a: {glob: "v*"}}"#, r#"{"a":"v1/x"}"#, false),
        (r#"{a: {glob: "7*"}}"#, r#"{"a":7}"#, false),
        (r#"{a: {glob: "v*"}}"#, "{}", false),
        (r#"{a: {glob: "v*", in: [v1, v2]}}"#, r#"{"a":"v2"}"#, true),
        (r#"{a: {glob: "v*", in: [v1, x]}}"#, r#"{"a":"x"}"#, false),
        ("{a: {present: true}}", r#"{"a":""}"#, true),
        ("{a: {present: true}}", r#"{"a":[]}"#, true),
        ("{a: {present: true}}", r#"{"a":null}"#, false),
        ("{a: {present: true}}", "{}", false),
        ("{a: {absent: true}}", "{}", true),
        ("{a: {absent: true}}", r#"{"a":null}"#, true),
        ("{a: {absent: true}}", r#"{"a":""}"#, false),
        ("{a: {regex: x+}}", r#"{"a":"xx"}"#, true),
        ("{a: {regex: x+}}", r#"{"a":"xxy"}"#, false),
        ("{a: {contains: x}}", r#"{"a":["y","x"]}"#, true),
        ("{a: {contains: x}}", r#"{"a":["y"]}"#, false),
        ("{a: {contains: x}}", r#"{"a":"x"}"#, false),
        ("{a: {contains: x}}", "{}", false),
        ("{a: {contains: [x, y]}}", r#"{"a":["x"]}"#, false),
        ("{a: {exactly: [x, y]}}", r#"{"a":["y","x","y"]}"#, true),
        ("{a: {exactly: [x, y]}}", r#"{"a":["x","y","z"]}"#, false),
        ("{a: {exactly: [x, y]}}", r#"{"a":["x"]}"#, false),
        ("{a: {exactly: [x]}}", r#"{"a":[["x"]]}"#, false),
        ("{a: {exactly: [x]}}", r#"{"a":[]}"#, false),
        ("{a: {same_as: b}}", r#"{"a":"x","b":"x"}"#, true),
        ("{a: {same_as: b}}", r#"{"a":"7","b":7}"#, false),
        ("{a: {same_as: b}}", r#"{"a":"x"}"#, false),
        ("{a: {same_as: b}}", "{}", false),
        ("{a: {not: x}}", r#"{"a":"y"}"#, true),
        ("{a: {not: x}}", r#"{"a":"x"}"#, false),
        ("{a: {not: x}}", r#"{"a":7}"#, false),
        ("{a: {not: x}}", r#"{"a":["y"]}"#, false),
        ("{a: {not: x}}", r#"{"a":null}"#, false),
        ("{a: {not: x}}", "{}", false),
        ("{a: {not: {contains: x}}}", r#"{"a":["y"]}"#, true),
        ("{a: {not: {contains: x}}}", r#"{"a":"y"}"#, false),
        ("{a: {not: {same_as: b}}}", r#"{"a":"y"}"#, false),
        ("{any_of: [{a: x}, {b: y}]}", r#"{"a":"x"}"#, true),
        ("{any_of: [{a: x}, {b: y}]}", r#"{"b":"y"}"#, true),
        ("{any_of: [{a: x}, {b: y}]}", r#"{"a":"y","b":"x"}"#, false),
        ("{c: z, any_of: [{a: x}, {b: y}]}", r#"{"b":"y","c":"z"}"#, true),
        ("{c: z, any_of: [{a: x}, {b: y}]}", r#"{"b":"y"}"#, false),
        ("{c: z, any_of: [{a: x}, {b: y}]}", r#"{"c":"z"}"#, false),
        ("{a: x, b: y}", r#"{"a":"x","b":"y"}"#, true),
        ("{a: x, b: y}", r#"{"a":"x"}"#, false),
        ("{/a/b: x}", r#"{"a":{"b":"x"}}"#, true),
        ("{/a/b: x}", r#"{"/a/b":"x"}"#, false),
        ("{a/b: x}", r#"{"a":{"b":"x"}}"#, false),
        ("{a/b: x}", r#"{"a/b":"x"}"#, true),
        ("{a.b: x}", r#"{"a.b":"x"}"#, true),
    ] {
        assert_eq!(jenkins(when, claims), expected, "{when} {claims}");
    }
}

const WIDGETS: &str = r#"
  widgets:
    registry: acme
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567", repository: Octo-Org/widgets}
    allow: {upload: [widgets, "widgets-*"], create: ["widgets-*"]}
"#;

fn example(name: &str, overrides: &str) -> String {
    let overrides = Json::parse(overrides.as_bytes()).unwrap().as_object().unwrap().clone();
    let claims = (crate::identity::provider::github::PROVIDER.example(name).unwrap().claims)(&overrides);
    text_of(&claims)
}

/// A claim set of strings as JSON text.
fn text_of(claims: &Object) -> String {
    let members = claims.iter().map(|(name, value)| format!("{name:?}:{:?}", value.as_str().unwrap()));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

#[test]
fn a_block_of_any_of_has_no_any_of_of_its_own() {
    for when in [
        "{any_of: [{a: x, any_of: [{b: y}]}, {a: z}]}",
        "{any_of: [{a: z}, {a: x, any_of: [{b: y}]}]}",
        "{a: x, any_of: [{any_of: [{b: y}]}]}",
    ] {
        let text = refused(&format!("  r: {{registry: acme, issuer: jenkins, when: {when}, allow: {{upload: [w]}}}}"));
        assert!(text.contains(".any_of: a block of `any_of` has no `any_of` of its own"), "{when}: {text}");
    }
}

#[test]
fn a_group_that_took_no_part_stands_for_nothing() {
    let tag = r#"{regex: "(?:(?<environment>core|cli)/)?v.*"}"#;
    let rule = |tag: &str| {
        format!(
            r#"  r: {{registry: acme, issuer: github, when: {{repository_owner_id: "9123456", repository_id: "701234567", tag: {tag}}}, allow: {{upload: ["acme-{{environment}}"]}}, versions: ["1.{{environment}}"]}}"#
        )
    };
    let policy = policy(&rule(tag));
    let ask = |overrides: &str| ask(&policy, "acme", "github", &example("tag-push", overrides), &Requested::default());
    let grant = granted(ask(r#"{"tag":"core/v1","environment":"billing"}"#));
    assert_eq!(grant.permissions().to_string(), "upload:acme-core");
    assert_eq!(grant.versions().unwrap(), ["1.core"]);
    let refusal = denied(ask(r#"{"tag":"v1","environment":"billing"}"#));
    assert_eq!(refusal.cause(), Cause::NameNotValid);
    assert!(!refusal.to_table().contains("acme-billing"), "{}", refusal.to_table());
}

#[test]
fn a_group_of_two_regular_expressions_has_no_one_meaning() {
    let when = r#"{a: {regex: "(?<c>x)?.*"}, b: {regex: "(?<c>.*)"}}"#;
    let rule = |name| format!("  r: {{registry: acme, issuer: jenkins, when: {when}, allow: {{upload: ['{name}']}}}}");
    assert!(refused(&rule("acme-{c}")).contains("`{c}` is a group of two regular expressions"));
    policy(&rule("acme"));
}

#[test]
fn what_is_too_much_for_one_rule_is_refused() {
    let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let item = |n| format!("v{n}");
    let condition = |n| format!("c{n}: x");
    let rule = |when: &str, upload: &str, more: &str| {
        format!("  r: {{registry: acme, issuer: jenkins, when: {{{when}}}, allow: {{upload: [{upload}]}}{more}}}")
    };
    let versions = |count| rule("a: x", "w", &format!(", versions: [{}]", many(count, &item)));
    let literals = |count| rule(&format!("a: {{in: [{}]}}", many(count, &item)), "w", "");
    let claims = |count| rule(&many(count, &condition), "w", "");
    let block = |count| rule(&format!("a: x, any_of: [{{b: y}}, {{{}}}]", many(count, &condition)), "w", "");
    let pairs = |count| rule("a: x", &many(count, &item), "");
    for (most, rule, expected) in [
        (64, &versions as &dyn Fn(usize) -> String, "r.versions: has more than 64 versions"),
        (256, &literals, "r.when.a.in: has 257 values, more than 256"),
        (64, &claims, "r.when: has conditions on more than 64 claims"),
        (64, &block, "r.when.any_of[1]: has conditions on more than 64 claims"),
        (64, &pairs, "r.allow: grants 65 pairs, and a token has room for 64"),
    ] {
        policy(&rule(most));
        let text = refused(&rule(most + 1));
        assert!(text.contains(expected) && text.lines().count() == 1, "{text}");
    }
}

#[test]
fn a_matching_rule_grants_its_pairs() {
    let policy = policy(WIDGETS);
    let grant = granted(ask(&policy, "acme", "github", &example("tag-push", "{}"), &Requested::default()));
    assert_eq!(grant.rules(), ["widgets"]);
    assert_eq!(grant.permissions().to_string(), "create:widgets-*,upload:widgets,upload:widgets-*");
    assert_eq!(grant.ttl(), Duration::from_secs(1200));
    assert_eq!((grant.uses(), grant.max_size()), (None, None));
}

#[test]
fn nothing_is_granted_without_a_rule_for_this_registry_and_issuer() {
    let claims = example("tag-push", "{}");
    let none = policy("  x: {registry: other, issuer: jenkins, when: {a: b}, allow: {upload: [x]}}");
    assert_eq!(denied(ask(&none, "acme", "github", &claims, &Requested::default())).cause(), Cause::NoMatchingRule);
    let widgets = policy(WIDGETS);
    assert_eq!(denied(ask(&widgets, "other", "github", &claims, &Requested::default())).cause(), Cause::NoMatchingRule);
    assert_eq!(denied(ask(&widgets, "acme", "jenkins", &claims, &Requested::default())).cause(), Cause::NoMatchingRule);
    // A registry and an issuer of another policy.
    let registry =
        Registry { id: "foreign".to_owned(), ..Registry::clone(widgets.registries().by_id("acme").unwrap()) };
    let issuer = widgets.issuers().by_id("github").unwrap();
    let claims = claims_of(issuer, &claims);
    let subject = Subject { issuer, claims: &claims };
    assert_eq!(
        denied(evaluate(&widgets, &registry, &subject, &Requested::default()).decision).cause(),
        Cause::NoMatchingRule
    );
}

#[test]
fn what_is_switched_off_grants_nothing() {
    let rule = |id: &str, registry: &str, issuer: &str, more: &str| {
        format!("  {id}: {{registry: {registry}, issuer: {issuer}, when: {{sub: j}}, allow: {{upload: [w]}}{more}}}\n")
    };
    let policy = policy(
        &[
            rule("a", "closed", "jenkins", ""),
            rule("b", "acme", "off", ""),
            rule("c", "acme", "jenkins", ", enabled: false"),
        ]
        .concat(),
    );
    let ask = |registry, issuer| denied(ask(&policy, registry, issuer, r#"{"sub":"j"}"#, &Requested::default()));
    assert_eq!(ask("closed", "jenkins").public().code().as_str(), "registry-disabled");
    assert_eq!(ask("acme", "off").public().code().as_str(), "issuer-disabled");
    assert_eq!(ask("acme", "jenkins").code().as_str(), "rule-disabled");
    assert_eq!(
        ask("acme", "jenkins").sentence(),
        "the rule `c` matches this job and is switched off — ask the registry's operator"
    );
}

#[test]
fn a_request_for_one_package_gets_that_one() {
    let policy = policy(WIDGETS);
    let claims = example("tag-push", "{}");
    let want = |name: &str| Requested { package: package(name), narrow: None };
    let grant = granted(ask(&policy, "acme", "github", &claims, &want("Widgets_Core")));
    assert_eq!(grant.permissions().to_string(), "create:widgets-core,upload:widgets-core");
    let grant = granted(ask(&policy, "acme", "github", &claims, &want("widgets")));
    assert_eq!(grant.permissions().to_string(), "upload:widgets");
    let refusal = denied(ask(&policy, "acme", "github", &claims, &want("gadgets")));
    assert_eq!(refusal.cause(), Cause::PackageNotGranted);
    assert_eq!(
        refusal.public().sentence(),
        "`gadgets` is not granted: the rule `widgets` grants create:widgets-*,upload:widgets,upload:widgets-* — ask for \
         one of these, or add the package to the rule's `allow`"
    );
}

#[test]
fn a_scope_is_granted_whole_or_not_at_all() {
    let policy = policy(WIDGETS);
    let claims = example("tag-push", "{}");
    let narrowed = |scope: &str, name: Option<&str>| {
        let requested = Requested { package: name.and_then(package), narrow: Some(pairs(scope)) };
        ask(&policy, "acme", "github", &claims, &requested)
    };
    for scope in
        ["upload:widgets", "upload:widgets create:widgets-x", "upload:widgets-*", "upload:widgets-a-*", "read:widgets"]
    {
        assert_eq!(granted(narrowed(scope, None)).permissions(), &pairs(scope), "{scope}");
    }
    for scope in [
        "create:widgets",
        "upload:gadgets",
        "upload:widgets upload:gadgets",
        "yank:widgets",
        "read:gadgets",
        "upload:w-*",
    ] {
        assert_eq!(denied(narrowed(scope, None)).cause(), Cause::ScopeNotGranted, "{scope}");
    }
    assert_eq!(granted(narrowed("upload:widgets", Some("widgets"))).permissions(), &pairs("upload:widgets"));
    assert_eq!(denied(narrowed("upload:widgets", Some("widgets-x"))).cause(), Cause::ScopeNotGranted);
    assert_eq!(denied(narrowed("upload:widgets-*", Some("widgets-x"))).cause(), Cause::ScopeNotGranted);
    let empty = Requested { package: None, narrow: Some(Permissions::default()) };
    let refusal = denied(ask(&policy, "acme", "github", &claims, &empty));
    assert_eq!(refusal.cause(), Cause::ScopeNotGranted);
}

fn several(first: &str, second: &str) -> Policy {
    let rule =
        |id: &str, more: &str| format!("  {id}: {{registry: acme, issuer: jenkins, when: {{sub: j}}, {more}}}\n");
    policy(&(rule("a", first) + &rule("b", second)))
}

#[test]
fn matching_rules_add_their_pairs_and_the_smaller_limits_hold() {
    let policy =
        several("allow: {upload: [a]}, ttl: 30m, max_size: 5MiB", "allow: {create: [b]}, ttl: 16m, max_size: 9MiB");
    let job = r#"{"sub":"j"}"#;
    let grant = granted(ask(&policy, "acme", "jenkins", job, &Requested::default()));
    assert_eq!(grant.rules(), ["a", "b"]);
    assert_eq!(grant.permissions().to_string(), "create:b,upload:a");
    assert_eq!((grant.ttl(), grant.max_size()), (Duration::from_secs(960), Some(5 << 20)));
    let only_b = Requested { package: package("b"), narrow: None };
    let grant = granted(ask(&policy, "acme", "jenkins", job, &only_b));
    assert_eq!((grant.rules(), grant.max_size()), (&["b".to_owned()][..], Some(9 << 20)));
    // The registry's own limit counts for rules that have none.
    let policy = several("allow: {upload: [a]}, ttl: 30m", "allow: {upload: [b]}");
    let grant = granted(ask(&policy, "acme", "jenkins", job, &Requested::default()));
    assert_eq!(grant.ttl(), Duration::from_secs(1200));
}

#[test]
fn a_single_use_grant_is_not_merged_with_one_for_many_uses() {
    let policy = several("allow: {upload: [a]}, single_use: true", "allow: {upload: [b]}");
    let job = r#"{"sub":"j"}"#;
    let refusal = denied(ask(&policy, "acme", "jenkins", job, &Requested::default()));
    assert_eq!(refusal.cause(), Cause::AmbiguousGrant);
    let sentence = "the rules `a`, `b` match this job and differ in `single_use` or `versions` — narrow the request to one of them";
    assert_eq!(refusal.sentence(), sentence);
    for (name, uses) in [("a", Some(1)), ("b", None)] {
        let requested = Requested { package: package(name), narrow: None };
        assert_eq!(granted(ask(&policy, "acme", "jenkins", job, &requested)).uses(), uses);
    }
    let both = several("allow: {upload: [a]}, single_use: true", "allow: {upload: [b]}, single_use: true");
    assert_eq!(granted(ask(&both, "acme", "jenkins", job, &Requested::default())).uses(), Some(1));
}

#[test]
fn a_grant_for_some_versions_is_not_merged_with_one_for_others_or_for_all() {
    let job = r#"{"sub":"j"}"#;
    let some = |grant: &Grant| grant.versions().map(<[String]>::to_vec);
    for (limit, of_b) in [
        (", versions: ['2.0']", Some(vec!["2.0".to_owned()])),
        // More is other too, and all is most.
        (", versions: ['2.0', '1.0']", Some(vec!["1.0".to_owned(), "2.0".to_owned()])),
        ("", None),
    ] {
        let policy = several("allow: {upload: [a]}, versions: ['1.0']", &format!("allow: {{upload: [b]}}{limit}"));
        let both = Requested { package: None, narrow: Some(pairs("upload:a upload:b")) };
        for requested in [Requested::default(), both] {
            let refusal = denied(ask(&policy, "acme", "jenkins", job, &requested));
            assert_eq!(refusal.cause(), Cause::AmbiguousGrant, "{limit}");
            assert!(refusal.sentence().contains("`a`, `b`"), "{}", refusal.sentence());
        }
        for (name, versions) in [("a", Some(vec!["1.0".to_owned()])), ("b", of_b)] {
            let narrow = Requested { package: None, narrow: Some(pairs(&format!("upload:{name}"))) };
            for requested in [narrow, Requested { package: package(name), narrow: None }] {
                let grant = granted(ask(&policy, "acme", "jenkins", job, &requested));
                assert_eq!((grant.rules(), some(&grant)), (&[name.to_owned()][..], versions.clone()), "{limit}");
            }
        }
    }
    // The same ones are the same in any order.
    let alike =
        several("allow: {upload: [a]}, versions: ['1.0', '2.0']", "allow: {upload: [b]}, versions: ['2.0', '1.0']");
    let grant = granted(ask(&alike, "acme", "jenkins", job, &Requested::default()));
    assert_eq!(grant.permissions(), &pairs("upload:a upload:b"));
    assert_eq!(grant.versions().unwrap(), ["1.0", "2.0"]);
}

#[test]
fn names_ignore_case_only_where_the_provider_does_and_ids_never() {
    let policy = policy(WIDGETS);
    let allowed = |overrides: &str| {
        let decision = ask(&policy, "acme", "github", &example("tag-push", overrides), &Requested::default());
        matches!(decision, Decision::Allow(_))
    };
    assert!(allowed(r#"{"repository":"octo-ORG/Widgets"}"#));
    assert!(!allowed("{\"repository\":\"octo-org/\u{212a}idgets\"}"));
    assert!(!allowed(r#"{"repository_id":"0701234567"}"#));
    assert!(!allowed(r#"{"repository_id":" 701234567"}"#));
    assert!(!allowed(r#"{"repository_id":""}"#));
    assert!(!allowed(r#"{"repository_id":null}"#));
}

#[test]
fn implied_conditions_hold_unless_the_rule_names_the_claim() {
    let rule = |more: &str| {
        policy(&format!(
            "  r: {{registry: acme, issuer: github, when: {{repository_owner_id: '9123456', repository_id: '701234567'{more}}}, allow: {{upload: [w]}}}}"
        ))
    };
    let allowed = |policy: &Policy, name: &str| {
        matches!(ask(policy, "acme", "github", &example(name, "{}"), &Requested::default()), Decision::Allow(_))
    };
    let plain = rule("");
    for (name, expected) in [
        ("tag-push", true),
        ("branch-push", true),
        ("release", true),
        ("manual-run", true),
        ("pull-request", false),
        ("pull-request-target", false),
        ("reusable-workflow", false),
    ] {
        assert_eq!(allowed(&plain, name), expected, "{name}");
    }
    let pull_request = rule(", event_name: pull_request");
    assert!(allowed(&pull_request, "pull-request"));
    assert!(!allowed(&pull_request, "tag-push"));
    let callee = rule(", job_workflow_repository: octo-org/release-workflows, job_workflow_file: publish.yml");
    assert!(allowed(&callee, "reusable-workflow"));
    assert!(!allowed(&callee, "tag-push"));
    assert!(!allowed(&callee, "pull-request-target"));
}

#[test]
fn every_implied_condition_of_every_preset_has_its_bit() {
    for provider in crate::identity::provider::ALL {
        assert!(provider.implied.len() <= 16, "{}", provider.name);
    }
}

#[test]
fn issuers_are_found_by_their_exact_url() {
    let policy = policy("  x: {registry: other, issuer: jenkins, when: {a: b}, allow: {upload: [x]}}");
    let issuers: &Issuers = policy.issuers();
    let id = |iss: &str| issuers.by_url(iss).map(|issuer| issuer.id.as_str());
    assert_eq!(id("https://token.actions.githubusercontent.com"), Some("github"));
    for iss in [
        "https://token.actions.githubusercontent.com/",
        "https://token.actions.githubusercontent.com/acme",
        "https://TOKEN.actions.githubusercontent.com",
        "",
    ] {
        assert_eq!(id(iss), None, "{iss}");
    }
    let nearest = |iss: &str| issuers.nearest(iss).map(|issuer| issuer.id.as_str());
    assert_eq!(nearest("https://token.actions.githubusercontent.com/acme"), Some("github"));
    assert_eq!(nearest("https://JENKINS.acme.example/"), Some("jenkins"));
    assert_eq!(nearest("https://evil.example"), None);
    assert_eq!(nearest(""), None);
}

/// The registry's number, whether it is switched on, and conditions.
type RandomRule = (usize, bool, Vec<(&'static str, &'static str)>);

/// Random rules on two repositories, two registries and a few claims, all by the generic preset.
fn random_rules() -> impl Strategy<Value = Vec<RandomRule>> {
    let condition = (
        prop::sample::select(vec!["sub", "a", "b"]),
        prop::sample::select(vec![
            "x",
            "y",
            "{in: [x, y]}",
            "{glob: \"x*\"}",
            "{present: true}",
            "{absent: true}",
            "7",
            "true",
        ]),
    );
    let when = prop::collection::vec(condition, 1..4);
    prop::collection::vec((0..2_usize, any::<bool>(), when), 0..12)
}

fn text_of_rules(rules: &[RandomRule]) -> String {
    let mut text = String::new();
    for (number, (registry, enabled, when)) in rules.iter().enumerate() {
        let registry = ["acme", "other"][*registry];
        let mut seen = Vec::new();
        let conditions: Vec<String> = when
            .iter()
            .filter(|(claim, _)| {
                !seen.contains(claim) && {
                    seen.push(claim);
                    true
                }
            })
            .filter(|(claim, test)| !(*claim == "sub" && test.contains("glob")))
            .map(|(claim, test)| format!("{claim}: {test}"))
            .collect();
        let conditions = if conditions.is_empty() { "c: x".to_owned() } else { conditions.join(", ") };
        let head = format!("registry: {registry}, issuer: jenkins, enabled: {enabled}");
        let _ = writeln!(text, "  r{number}: {{{head}, when: {{{conditions}}}, allow: {{upload: [p{number}]}}}}");
    }
    if text.is_empty() { "  {}".to_owned() } else { text }
}

fn random_claims() -> impl Strategy<Value = String> {
    let value = prop::sample::select(vec!["\"x\"", "\"xx\"", "\"y\"", "\"\"", "7", "true", "null", "[\"x\"]", "1.5"]);
    prop::collection::hash_map(prop::sample::select(vec!["sub", "a", "b", "c"]), value, 0..4).prop_map(|claims| {
        let members: Vec<String> = claims.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn pairs_of(decision: &Decision) -> String {
    match decision {
        Decision::Allow(grant) => grant.permissions().to_string(),
        Decision::Deny(_) => String::new(),
    }
}

proptest! {
    #[test]
    fn the_index_finds_what_a_full_scan_finds(rules in random_rules(), claims in random_claims()) {
        let policy = policy(&text_of_rules(&rules));
        let issuer = policy.issuers().by_id("jenkins").unwrap();
        let number = policy.registries().position("acme").unwrap();
        let facts = claims_of(issuer, &claims);
        let scan: Permissions = policy
            .rules()
            .filter(|rule| rule.registry == number && rule.mode == Mode::Enforce)
            .filter(|rule| rule.branches().iter().any(|branch| branch.holds(issuer.provider(), &facts)))
            .flat_map(|rule| {
                let pair = |pair: &Pair<'_>| pair.permission(Ecosystem::Pypi, |_| None).unwrap();
                rule.pairs().iter().map(pair).collect::<Vec<_>>()
            })
            .collect();
        prop_assert_eq!(pairs_of(&ask(&policy, "acme", "jenkins", &claims, &Requested::default())), scan.to_string());
    }

    #[test]
    fn without_a_rule_the_answer_is_no(claims in random_claims()) {
        let policy = policy("  {}");
        let refusal = denied(ask(&policy, "acme", "jenkins", &claims, &Requested::default()));
        prop_assert_eq!(refusal.code().as_str(), "no-matching-rule");
        prop_assert!(refusal.rules().is_empty());
    }

    #[test]
    fn a_rule_for_another_project_changes_nothing_here(rules in random_rules(), claims in random_claims()) {
        let before = policy(&text_of_rules(&rules));
        let mut more = rules.clone();
        more.push((0, true, vec![("sub", "other-project"), ("a", "{present: true}")]));
        more.push((1, true, vec![("sub", "x")]));
        let after = policy(&text_of_rules(&more));
        let answer = |policy: &Policy| pairs_of(&ask(policy, "acme", "jenkins", &claims, &Requested::default()));
        prop_assert_eq!(answer(&before), answer(&after));
        let public = |policy: &Policy| match ask(policy, "acme", "jenkins", &claims, &Requested::default()) {
            Decision::Allow(_) => String::new(),
            Decision::Deny(explanation) => explanation.public().sentence(),
        };
        prop_assert_eq!(public(&before), public(&after));
    }

    #[test]
    fn the_order_of_rules_does_not_matter(rules in random_rules(), claims in random_claims()) {
        let lines = text_of_rules(&rules);
        let reversed: Vec<&str> = lines.lines().rev().collect();
        let (forward, backward) = (policy(&lines), policy(&format!("{}\n", reversed.join("\n"))));
        let answer = |policy: &Policy| match ask(policy, "acme", "jenkins", &claims, &Requested::default()) {
            Decision::Allow(grant) => grant.permissions().to_string(),
            Decision::Deny(explanation) => explanation.to_table(),
        };
        prop_assert_eq!(answer(&forward), answer(&backward));
    }

    #[test]
    fn a_narrowed_grant_is_within_the_whole_one(scope in prop::sample::subsequence(vec!["upload:widgets", "create:widgets", "upload:widgets-x", "upload:gadgets", "create:widgets-*"], 1..4)) {
        let policy = policy(WIDGETS);
        let claims = example("tag-push", "{}");
        let narrow: Permissions = scope.iter().map(|pair| Permission::parse(Ecosystem::Pypi, pair).unwrap()).collect();
        let requested = Requested { package: None, narrow: Some(narrow.clone()) };
        let whole = granted(ask(&policy, "acme", "github", &claims, &Requested::default()));
        let within = |pair: &Permission| whole.permissions().iter().any(|granted| covers(granted, pair));
        match ask(&policy, "acme", "github", &claims, &requested) {
            Decision::Allow(grant) => prop_assert!(grant.permissions() == &narrow && narrow.iter().all(within)),
            Decision::Deny(_) => prop_assert!(!narrow.iter().all(within)),
        }
    }
}

#[test]
fn a_policy_is_shared_between_threads() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    is_shared(&Arc::new(policy("  {}")));
}
