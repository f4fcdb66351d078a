use super::*;
use crate::policy::Source;

const POLICY: &str = r#"
issuers:
  github: {provider: github}
  circleci: {provider: circleci, url: "https://oidc.circleci.com/org/{organization}"}
  cluster: {provider: kubernetes, url: "https://oidc.eks.eu-west-1.amazonaws.com/id/A1"}
registries:
  acme: {dialect: generic, urls: ['https://acme.example'], audiences: [acme]}
rules:
  widgets:
    registry: acme
    issuer: github
    when: {repository_owner_id: "9123456", repository_id: "701234567", repository: acme/widgets, environment: release}
    allow: {upload: [widgets, "widgets-*"], create: [widgets]}
  circle:
    registry: acme
    issuer: circleci
    when:
      organization: c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2
      org_id: c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2
      project_id: 3a2f7b1c-4d5e-4f60-8a7b-9c0d1e2f3a4b
      pipeline_definition_id: 0a1b2c3d-4e5f-5061-8273-8495a6b7c8d9
      vcs_origin: github.com/acme/widgets
    allow: {upload: [circle]}
  pod:
    registry: acme
    issuer: cluster
    when:
      sub: "system:serviceaccount:release:publisher"
      serviceaccount_uid: 2c3d4e5f-6071-4829-a3b4-c5d6e7f80912
    allow: {upload: [pod]}
"#;
const RELEASE: &str = "token: github/release, claims: {repository: acme/widgets}";

fn read(tests: &str) -> Result<Policy, Faults> {
    let text = format!("{POLICY}tests:\n{tests}");
    Policy::read(&[Source { name: "p.yaml".to_owned(), text }], &|_, _| None, &|_| ())
}

fn policy(tests: &str) -> Policy {
    read(tests).unwrap_or_else(|faults| panic!("{faults}"))
}

/// What becomes of one test, written as the rest of its flow map.
fn verdict(test: &str) -> String {
    let policy = policy(&format!("  - {{name: it, {test}}}\n"));
    match &run(&policy)[0].verdict {
        Verdict::Passed => "passed".to_owned(),
        Verdict::Skipped => "skipped".to_owned(),
        Verdict::Failed(failure) => format!("expected {}, got {}", failure.expected, failure.got),
    }
}

fn fault(test: &str) -> String {
    let faults = read(&format!("  - {{name: it, {test}}}\n")).map(|_| ()).unwrap_err().to_string();
    faults.strip_prefix("p.yaml:").unwrap().split_once(": ").unwrap().1.to_owned()
}

#[test]
fn a_test_passes_when_the_rules_do_what_it_says() {
    for test in [
        "expect: allow",
        "request: {upload: widgets}, expect: allow",
        "request: {upload: [widgets, widgets-core], create: widgets}, expect: allow",
        "expect: {allow: {upload: [widgets, \"widgets-*\"], create: widgets}}",
        "request: {upload: widgets-core}, expect: {allow: {upload: widgets-core}}",
        "request: {upload: gadgets}, expect: {deny: package-not-granted}",
        "request: {create: widgets-core}, expect: {deny: scope-not-granted}",
        "request: {upload: [widgets, gadgets]}, expect: {deny: package-not-granted}",
    ] {
        assert_eq!(verdict(&format!("rule: widgets, {RELEASE}, {test}")), "passed", "{test}");
        assert_eq!(verdict(&format!("registry: acme, issuer: github, {RELEASE}, {test}")), "passed", "{test}");
    }
}

#[test]
fn a_test_fails_when_they_do_anything_else() {
    for (test, outcome) in [
        (
            "expect: {deny: ref-mismatch}",
            "expected deny ref-mismatch, got allow create:widgets,upload:widgets,upload:widgets-* by the rule `widgets`",
        ),
        (
            "expect: {allow: {upload: widgets}}",
            "expected allow upload:widgets by the rule `widgets`, got allow create:widgets,upload:widgets,upload:widgets-* by the rule `widgets`",
        ),
        (
            "request: {upload: gadgets}, expect: allow",
            "expected allow by the rule `widgets`, got deny package-not-granted: `gadgets` is not granted: the rule \
             `widgets` grants create:widgets,upload:widgets,upload:widgets-* — ask for one of these, or add the \
             package to the rule's `allow`",
        ),
    ] {
        assert_eq!(verdict(&format!("rule: widgets, {RELEASE}, {test}")), outcome, "{test}");
    }
    // The whole cause, which a stranger is not told.
    for (claim, code) in
        [("repository_id: \"6\"", "repository-recreated"), ("environment: null", "environment-mismatch")]
    {
        let test = format!("rule: widgets, token: github/release, claims: {{repository: acme/widgets, {claim}}}");
        assert_eq!(verdict(&format!("{test}, expect: {{deny: {code}}}")), "passed");
        let outcome = verdict(&format!("{test}, expect: {{deny: no-matching-rule}}"));
        assert!(outcome.starts_with(&format!("expected deny no-matching-rule, got deny {code}: ")), "{outcome}");
    }
}

#[test]
fn a_refusal_is_the_whole_policys_and_its_cause_is_the_named_rules() {
    let twin = "environment: release}\n    allow: {upload: [widgets]}\n  twin:\n    registry: acme\n    issuer: github\n    when: {repository_owner_id: \"9123456\", repository_id: \"701234567\", workflow_file: other.yml}";
    let load = |named: &str, code: &str| {
        let job = "token: github/release, claims: {repository: acme/widgets, environment: staging}";
        changed("environment: release}", twin, &format!("  - {{name: it, {named}, {job}, expect: {{deny: {code}}}}}\n"))
    };
    load("rule: widgets", "environment-mismatch").unwrap();
    load("rule: twin", "workflow-mismatch").unwrap();
    load("rule: twin", "environment-mismatch").unwrap_err();
    load("registry: acme, issuer: github", "workflow-mismatch").unwrap();
    // Which package was asked for does not matter to a rule that does not match.
    let asked = "token: github/release, claims: {repository: acme/widgets}, request: {upload: other}";
    let deny = |named: &str, code: &str| {
        changed(
            "environment: release}",
            twin,
            &format!("  - {{name: it, {named}, {asked}, expect: {{deny: {code}}}}}\n"),
        )
    };
    deny("rule: widgets", "package-not-granted").unwrap();
    deny("rule: twin", "workflow-mismatch").unwrap();
}

#[test]
fn what_another_rule_grants_is_not_the_named_rules_doing() {
    let other = "token: github/release, claims: {repository: acme/widgets}, expect: allow";
    assert_eq!(verdict("rule: pod, token: kubernetes/pod, request: {upload: pod}, expect: allow"), "passed");
    let text = format!(
        "{POLICY}  twin:\n    registry: acme\n    issuer: github\n    when: {{repository_owner_id: \"9123456\", repository_id: \"701234567\", environment: other}}\n    allow: {{upload: [widgets]}}\ntests:\n  - {{name: it, rule: twin, {other}}}\n"
    );
    let policy = Policy::read(&[Source { name: "p.yaml".to_owned(), text }], &|_, _| None, &|_| ()).unwrap();
    let Verdict::Failed(failure) = &run(&policy)[0].verdict else { panic!() };
    assert!(failure.got.ends_with("by the rule `widgets`"), "{}", failure.got);
}

/// The policy with one text in place of another, and these tests.
fn changed(from: &str, to: &str, tests: &str) -> Result<Policy, Faults> {
    assert!(POLICY.contains(from), "{from}");
    let text = format!("{}tests:\n{tests}", POLICY.replacen(from, to, 1));
    Policy::load(&[Source { name: "p.yaml".to_owned(), text }], &|_, _| None)
}

#[test]
fn a_rule_is_tested_as_if_it_were_in_force() {
    for mode in ["mode: shadow", "mode: off", "enabled: false"] {
        let to = format!("environment: release}}\n    {mode}");
        let load = |expect: &str, named: &str| {
            changed("environment: release}", &to, &format!("  - {{name: it, {named}, {RELEASE}, expect: {expect}}}\n"))
        };
        let policy = load("allow", "rule: widgets").unwrap_or_else(|faults| panic!("{faults}"));
        assert!(matches!(run(&policy)[0].verdict, Verdict::Passed), "{mode}");
        assert!(load("{deny: ref-mismatch}", "rule: widgets").is_err(), "{mode}");
        // A test of the registry is about what is in force.
        let policy = load("{deny: rule-disabled}", "registry: acme, issuer: github").unwrap();
        assert!(matches!(run(&policy)[0].verdict, Verdict::Passed), "{mode}");
    }
}

#[test]
fn what_is_switched_off_is_skipped_and_not_failed() {
    for (from, to, named, code) in [
        (
            "environment: release}",
            "environment: release}\n    mode: off",
            "registry: acme, issuer: github",
            "rule-disabled",
        ),
        ("audiences: [acme]}", "audiences: [acme], enabled: false}", "rule: widgets", "registry-disabled"),
        ("{provider: github}", "{provider: github, enabled: false}", "rule: widgets", "issuer-disabled"),
    ] {
        let load =
            |expect: &str| changed(from, to, &format!("  - {{name: it, {named}, {RELEASE}, expect: {expect}}}\n"));
        let policy = load("allow").unwrap_or_else(|faults| panic!("{faults}"));
        assert!(matches!(run(&policy)[0].verdict, Verdict::Skipped), "{to}");
        let said = load(&format!("{{deny: {code}}}")).unwrap();
        assert!(matches!(run(&said)[0].verdict, Verdict::Passed), "{to}");
    }
}

#[test]
fn versions_that_a_rule_grants_can_be_demanded() {
    let to = "environment: release, tag: {regex: 'v(?<version>[0-9.]+)'}}\n    versions: [\"{version}\"]";
    let load = |expect: &str| {
        let test =
            format!("  - {{name: it, rule: widgets, {RELEASE}, request: {{upload: widgets}}, expect: {expect}}}\n");
        changed("environment: release}", to, &test)
    };
    load("{allow: {upload: widgets}, versions: [1.4.0]}").unwrap();
    load("{allow: {upload: widgets}}").unwrap();
    let wrong = load("{allow: {upload: widgets}, versions: [1.4.1]}").unwrap_err().to_string();
    assert!(
        wrong.contains(
            "it expects allow upload:widgets in version 1.4.1 by the rule `widgets`, and the answer is allow \
             upload:widgets in version 1.4.0 by the rule `widgets`"
        ),
        "{wrong}"
    );
    let wrong = load("{deny: ref-mismatch, versions: [1.4.1]}").unwrap_err().to_string();
    assert!(wrong.contains("has no meaning beside `deny`"), "{wrong}");
}

#[test]
fn a_test_of_a_family_says_whose_token_it_is() {
    let own = "rule: circle, token: circleci/tag-push";
    assert_eq!(
        verdict(&format!("{own}, claims: {{organization: c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2}}, expect: allow")),
        "passed"
    );
    // An issuer that no rule pins does not exist.
    let stranger = "claims: {organization: 00000000-0000-4000-8000-000000000000}, expect: {deny: no-matching-rule}";
    assert_eq!(verdict(&format!("{own}, {stranger}")), "passed");
    assert!(fault(&format!("{own}, expect: allow")).contains("which issuer of the family it is about"));
}

#[test]
fn claims_are_known_by_every_name_that_rules_may_use() {
    for claims in [
        "serviceaccount_uid: other",
        "\"/kubernetes.io/serviceaccount/uid\": other",
        "serviceaccount_uid: null",
        "sub: [a, list]",
    ] {
        let test = format!("rule: pod, token: kubernetes/pod, claims: {{{claims}}}");
        assert_eq!(verdict(&format!("{test}, expect: {{deny: no-matching-rule}}")), "passed", "{claims}");
    }
    for claims in ["org_id: 6", "\"oidc.circleci.com/org-id\": 6"] {
        let test =
            "rule: circle, token: circleci/tag-push, claims: {organization: c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2";
        assert_eq!(verdict(&format!("{test}, {claims}}}, expect: {{deny: owner-mismatch}}")), "passed", "{claims}");
    }
}

#[test]
fn a_called_workflow_is_named_by_its_parts() {
    let test =
        "rule: widgets, token: github/reusable-workflow, claims: {repository: acme/widgets, environment: release";
    assert_eq!(verdict(&format!("{test}}}, expect: {{deny: reusable-workflow}}")), "passed");
    let policy = policy(&format!(
        "  - {{name: it, {test}, job_workflow_repository: a/b, job_workflow_file: c.yml, job_workflow_git_ref: refs/tags/v1}}, expect: allow}}\n"
    ));
    let claims = &policy.tests()[0].claims;
    assert_eq!(claims.get("job_workflow_ref").unwrap().as_str(), Some("a/b/.github/workflows/c.yml@refs/tags/v1"));
    assert!(claims.get("job_workflow_file").is_none(), "a token has no such claim");
}

#[test]
fn a_value_of_a_type_that_tokens_do_not_have_is_mentioned_when_the_test_fails() {
    let test = "rule: widgets, token: github/release, claims: {repository: acme/widgets, repository_id: 701234567}";
    let policy = policy(&format!("  - {{name: it, {test}, expect: allow}}\n"));
    let Verdict::Failed(failure) = &run(&policy)[0].verdict else { panic!() };
    assert_eq!(failure.notes, ["`repository_id` is an integer here; in tokens of `github` it is text: quote it"]);
}

#[test]
fn what_no_test_can_mean_is_refused_with_its_place() {
    for (test, message) in [
        ("rule: widgets, token: github/release", "`expect` is missing — add what comes out"),
        ("rule: widgets, expect: allow", "`token` is missing — add the example"),
        ("token: github/release, expect: allow", "`registry` is missing — add `rule: NAME`, or both"),
        ("rule: widget, token: github/release, expect: allow", "there is no rule `widget` — did you mean `widgets`?"),
        (
            "rule: widgets, issuer: github, token: github/release, expect: allow",
            "has no meaning beside `rule`, which has its own — remove the line",
        ),
        (
            "rule: widgets, token: github/realease, expect: allow",
            "`github/realease` is not an example of the provider `github` — did you mean `github/release`?",
        ),
        (
            "rule: widgets, token: gitlab/tag-push, expect: allow",
            "`gitlab/tag-push` is not an example of the provider `github` — did you mean `github/tag-push`?",
        ),
        ("rule: widgets, token: github/release, expect: deny", "`deny` is nothing that can come out"),
        ("rule: widgets, token: github/release, expect: {}", "must say one of `allow` and `deny`"),
        (
            "rule: widgets, token: github/release, expect: {deny: ref-missmatch}",
            "`ref-missmatch` is not known here — did you mean `ref-mismatch`?",
        ),
        ("rule: widgets, token: github/release, expect: {deny: expired}", "`expired` is not known here — known: "),
        ("rule: widgets, token: github/release, request: {}, expect: allow", "asks for nothing"),
        (
            "rule: widgets, token: github/release, request: {upload: \"w-*\"}, expect: allow",
            "the package `w-*` has a character",
        ),
        (
            "rule: widgets, token: github/release, request: {Upload: w}, expect: allow",
            "unknown action `Upload` — did you mean `upload`?",
        ),
        (
            "rule: widgets, token: github/release, claims: {enviroment: x}, expect: allow",
            "tokens of `github` have no claim `enviroment` — did you mean `environment`?",
        ),
        (
            "rule: widgets, token: github/release, claims: {workflow_repository: x}, expect: allow",
            "`workflow_repository` cannot be set like this: it follows from other claims — set workflow_ref",
        ),
        (
            "rule: widgets, token: github/release, claims: {tag: null}, expect: allow",
            "`tag` cannot be set like this: it follows from other claims — set ref, ref_type",
        ),
        (
            "rule: widgets, token: github/release, expect: allow, exepct: allow",
            "unknown key `exepct` — did you mean `expect`?",
        ),
    ] {
        let faults = fault(test);
        assert!(faults.contains(message), "{test}\n{faults}");
    }
    let twice = format!("  - {{name: it, rule: widgets, {RELEASE}, expect: allow}}\n").repeat(2);
    assert!(read(&twice).unwrap_err().to_string().contains("there is another test `it`"));
}

#[test]
fn a_policy_whose_tests_fail_does_not_load_and_says_where() {
    let text = format!(
        "{POLICY}tests:\n  - {{name: right, rule: widgets, {RELEASE}, expect: allow}}\n  - {{name: wrong, rule: widgets, {RELEASE}, expect: {{deny: ref-mismatch}}}}\n"
    );
    let faults = Policy::load(&[Source { name: "p.yaml".to_owned(), text }], &|_, _| None).unwrap_err();
    assert_eq!(faults.len(), 1);
    let message = faults.to_string();
    assert!(
        message.starts_with(
            "p.yaml:33:5: tests[1]: the test `wrong` fails: it expects deny ref-mismatch, and the answer is allow "
        ),
        "{message}"
    );
}

#[test]
fn rules_that_no_test_covers_are_named() {
    let policy = policy(&format!(
        "  - {{name: a, registry: acme, issuer: github, {RELEASE}, expect: allow}}\n  - {{name: b, rule: pod, token: kubernetes/pod, expect: allow}}\n"
    ));
    assert_eq!(untested(&policy, &run(&policy)), ["circle"]);
}

#[test]
fn that_another_rule_is_off_is_no_reason_to_skip_the_test_of_one_that_does_not_match() {
    let load = |mode: &str, test: &str| {
        let twin = format!(
            "environment: release}}\n    allow: {{upload: [widgets]}}\n  twin:\n    registry: acme\n    issuer: github\n    mode: {mode}\n    when: {{repository_owner_id: \"9123456\", repository_id: \"701234567\"}}"
        );
        let job = "token: github/release, claims: {repository: acme/widgets, environment: staging}";
        changed("environment: release}", &twin, &format!("  - {{name: it, {test}, {job}}}\n"))
    };
    for mode in ["off", "shadow"] {
        let refused = load(mode, "rule: widgets, expect: allow").map(drop).unwrap_err().to_string();
        assert!(refused.contains("the answer is deny environment-mismatch"), "{mode}: {refused}");
        load(mode, "rule: widgets, expect: {deny: environment-mismatch}").unwrap();
        load(mode, "rule: widgets, expect: {deny: workflow-mismatch}").map(drop).unwrap_err();
        // Of one that names no rule it is the answer.
        let policy = load(mode, "registry: acme, issuer: github, expect: allow").unwrap();
        assert!(matches!(run(&policy)[0].verdict, Verdict::Skipped), "{mode}");
    }
}

#[test]
fn tests_that_look_at_too_many_rules_are_refused_before_they_are_run() {
    let both = format!(
        "  - {{name: one, rule: widgets, {RELEASE}, expect: allow}}\n  - {{name: two, rule: widgets, {RELEASE}, expect: {{deny: ref-mismatch}}}}\n"
    );
    let policy = policy(&both);
    let within = |most: usize| demand_within(&policy, policy.tests(), most).unwrap_err().to_string();
    // Each looks at the one rule of its project, and counts itself.
    assert!(within(3).contains("tests[1]: the tests up to this one look at more than 3 rules"), "{}", within(3));
    assert!(within(4).contains("the test `two` fails"), "{}", within(4));
}

#[test]
fn what_an_unknown_name_means_is_said_for_the_first_ones() {
    let tests: Vec<String> =
        (0..30).map(|n| format!("  - {{name: t{n}, rule: wigets, {RELEASE}, expect: allow}}\n")).collect();
    let text = read(&tests.concat()).map(drop).unwrap_err().to_string();
    let count = |words: &str| text.matches(words).count();
    assert_eq!((count("there is no rule `wigets`"), count("did you mean `widgets`?")), (30, 20));
}
