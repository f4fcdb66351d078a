use super::*;

use crate::policy::Source as File;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DIRECTORY: &str = r#"
issuers:
  github: {provider: github}
  gitlab: {provider: gitlab}
  circleci: {provider: circleci, url: "https://oidc.circleci.com/org/{organization}"}
registries:
  acme-npm:
    dialect: generic
    ecosystem: npm
    urls: ["https://npm.acme.example/"]
    audiences: [acme]
    bundle: {url: "https://npm.acme.example/bundle.yaml", issuers: [github, circleci], packages: ["@acme/*", "acme-core"], max_bytes: 4KiB}
  tools: {dialect: generic, urls: ["https://tools.example/"], audiences: [tools], bundle: {url: "https://tools.example/b", issuers: [github]}}
  plain: {dialect: generic, urls: ["https://plain.example/"], audiences: [plain]}
rules:
  release:
    registry: acme-npm
    issuer: github
    when: {repository_owner_id: "1", repository_id: "2"}
    allow: {upload: [left-pad]}
  theirs:
    registry: tools
    issuer: github
    when: {repository_owner_id: "1", repository_id: "2"}
    allow: {upload: [anvil]}
"#;
const GOOD: &str = r#"registry: acme-npm
serial: 42
not_after: 2027-01-15T20:00:00Z
rules:
  release:
    issuer: github
    when: {repository_owner_id: "1", repository_id: "2", environment: release, tag: {regex: "(?<part>[a-z]+)-v.*"}}
    allow: {upload: ["@acme/widgets"]}
tests:
  - name: a release may
    rule: release
    token: github/tag-push
    claims: {repository_owner_id: "1", repository_id: "2", environment: release, ref: refs/tags/core-v1}
    request: {upload: "@acme/widgets"}
    expect: allow
"#;

fn policy_of(text: &str) -> Policy {
    let source = File { name: "p.yaml".to_owned(), text: text.to_owned() };
    Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
}

fn accepted_after(text: &str, last: Option<Last>) -> Result<Bundle, BundleFault> {
    accept(&policy_of(DIRECTORY), "acme-npm", &Signed::known(text.as_bytes()), last, NOW)
}

fn accepted(text: &str) -> Result<Bundle, BundleFault> {
    accepted_after(text, None)
}

fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

#[track_caller]
fn refused(text: &str, code: &str, words: &str) {
    let fault = accepted(text).map(|bundle| bundle.serial()).unwrap_err();
    assert!(fault.code() == code && fault.to_string().contains(words), "{code} {words}: {} {fault}", fault.code());
}

#[test]
fn a_good_bundle_is_accepted_and_is_what_it_says() {
    let bundle = accepted(GOOD).unwrap();
    assert_eq!((bundle.serial(), bundle.rule_count()), (42, 1));
    assert_eq!(bundle.not_after().to_string(), "2027-01-15T20:00:00Z");
    assert_eq!(bundle.last(), Last { serial: 42, digest: crate::secret::sha256(GOOD.as_bytes()) });
    assert_eq!(bundle.rules.iter().map(|rule| rule.id().to_owned()).collect::<Vec<_>>(), ["acme-npm/release"]);
}

#[test]
fn each_thing_that_a_bundle_may_not_be_is_refused_for_it() {
    refused(&changed("registry: acme-npm", "registry: tools"), "other-registry", "the registry `tools`");
    refused(&format!("{GOOD}#{}\n", "x".repeat(4096)), "too-large", "and `max_bytes` is 4096");
    refused(&changed("serial: 42", "serial: -1"), "unreadable", "out of range");
    refused(&changed("rules:", "waivers: []\nrules:"), "unreadable", "unknown key `waivers`");
    refused(&changed("environment: release, tag", "environment: &a release, tag"), "unreadable", "");
    refused(&changed("2027-01-15T20:00:00Z", "2027-01-15T08:00:00Z"), "expired", "until 2027-01-15T08:00:00Z");
    refused(&changed("2027-01-15T20:00:00Z", "2027-01-16T08:01:01Z"), "valid-too-long", "24 h");
    refused(&changed("expect: allow", "expect: {deny: ref-mismatch}"), "rules-refused", "`a release may` fails");
    refused(&changed("    expect: allow\n", ""), "rules-refused", "`expect` is missing");
}

#[test]
fn a_registry_without_a_bundle_is_served_none() {
    let policy = policy_of(DIRECTORY);
    for registry in ["plain", "nobody", ""] {
        let text = changed("registry: acme-npm", &format!("registry: \"{registry}\""));
        let fault = accept(&policy, registry, &Signed::known(text.as_bytes()), None, NOW).map(drop).unwrap_err();
        assert_eq!(fault, BundleFault::NotConfigured, "{registry}");
        assert_eq!(reread(&policy, registry, &Signed::known(text.as_bytes())).map(drop).unwrap_err(), fault);
    }
}

#[test]
fn its_end_is_after_now_and_a_day_ahead_at_most_but_for_the_clocks_difference() {
    let until = |seconds: i64| {
        let end = Timestamp::from_unix_seconds(NOW.unix_seconds() + seconds).to_string();
        accepted(&changed("2027-01-15T20:00:00Z", &end)).map(|bundle| bundle.serial()).map_err(|fault| fault.code())
    };
    let day = 24 * 3600;
    for (seconds, outcome) in [
        (-1, Err("expired")),
        (0, Err("expired")),
        (1, Ok(42)),
        (day, Ok(42)),
        (day + 60, Ok(42)),
        (day + 61, Err("valid-too-long")),
        (3650 * day, Err("valid-too-long")),
    ] {
        assert_eq!(until(seconds), outcome, "{seconds}");
    }
}

#[test]
fn a_serial_only_grows_and_one_serial_is_one_document() {
    let digest = crate::secret::sha256(GOOD.as_bytes());
    let after = |serial: i64, digest: [u8; 32]| {
        accepted_after(GOOD, Some(Last { serial, digest })).map(|_| ()).map_err(|fault| fault.code())
    };
    for (serial, of_same_bytes, of_others) in
        [(0, Ok(()), Ok(())), (41, Ok(()), Ok(())), (42, Ok(()), Err("old-serial"))]
    {
        assert_eq!(after(serial, digest), of_same_bytes, "{serial}");
        assert_eq!(after(serial, [0; 32]), of_others, "{serial}");
    }
    // The digest is no way round a lower serial.
    for serial in [43, i64::MAX] {
        assert_eq!(after(serial, digest), Err("old-serial"), "{serial}");
        assert_eq!(after(serial, [0; 32]), Err("old-serial"), "{serial}");
    }
    // The greatest serial is the last one: nothing wraps around.
    let last = changed("serial: 42", "serial: 9223372036854775807");
    let last = accepted(&last).unwrap().last();
    assert_eq!(accepted_after(GOOD, Some(last)).map(drop).unwrap_err().code(), "old-serial");
    assert_eq!(
        accepted_after(&changed("serial: 42", "serial: 0"), Some(last)).map(drop).unwrap_err().code(),
        "old-serial"
    );
}

#[test]
fn its_rules_are_confined_to_the_registry_its_issuers_and_its_packages() {
    let gitlab = "issuer: gitlab\n    when: {namespace_id: \"1\", project_id: \"2\"}";
    let github = GOOD.lines().skip(5).take(2).collect::<Vec<_>>().join("\n").trim().to_owned();
    for (from, to, words) in [
        ("issuer: github", "issuer: github\n    registry: tools", "for the registry that serves it"),
        ("issuer: github", "issuer: github\n    registry: nobody", "for the registry that serves it"),
        (github.as_str(), gitlab, "not one that bundles of `acme-npm` may name"),
        ("issuer: github", "issuer: nobody", "not one that bundles of `acme-npm` may name"),
        ("  release:\n    issuer", "  tools/release:\n    issuer", "is not a name"),
        ("  release:\n    issuer", "  Release:\n    issuer", "is not a name"),
        ("issuer: github", "issuer: github\n    waive: [{code: L020, reason: x}]", "waive"),
        ("repository_id: \"2\", environment", "environment", "L001"),
        ("@acme/widgets", "acme-core-x", "beyond what"),
        ("@acme/widgets", "@acme2/widgets", "beyond what"),
        ("\"@acme/widgets\"", "\"acme-*\"", "beyond what"),
        ("\"@acme/widgets\"", "\"@acme/widgets\", left-pad", "beyond what"),
        ("@acme/widgets", "@{part}/widgets", "beyond what"),
        ("@acme/widgets", "{part}", "beyond what"),
        ("@acme/widgets", "acme-core{part}", "beyond what"),
        ("@acme/widgets", "@acme-{part}/x", "beyond what"),
        ("{upload: [\"@acme/widgets\"]}", "{upload: [\"@acme/widgets\"], create: [left-pad]}", "beyond what"),
    ] {
        refused(&changed(from, to), "rules-refused", words);
    }
    for within in ["\"@acme/*\"", "\"@acme/x-*\"", "acme-core", "\"@acme/{part}\"", "\"@acme/x.{part}\""] {
        let (rule, _) = GOOD.split_once("tests:").unwrap();
        accepted(&rule.replace("\"@acme/widgets\"", within)).unwrap_or_else(|fault| panic!("{within}: {fault}"));
    }
}

/// What the registry's tokens cannot say is found out when the bundle comes, and not when a job asks.
#[test]
fn its_rules_are_held_to_the_registrys_codec() {
    let directory = policy_of(&DIRECTORY.replace(
        "{dialect: generic, urls: [\"https://tools.example/\"]",
        "{dialect: pypi, codec: pypi, urls: [\"https://tools.example/\"]",
    ));
    let when = "{repository_owner_id: \"1\", repository_id: \"2\", environment: release}";
    let bundle = |rest: &str| {
        let text = format!(
            "registry: tools\nserial: 1\nnot_after: 2027-01-15T20:00:00Z\nrules:\n  r: {{issuer: github, when: {when}, {rest}}}\n"
        );
        accept(&directory, "tools", &Signed::known(text.as_bytes()), None, NOW).map(|bundle| bundle.serial())
    };
    assert_eq!(bundle("allow: {upload: [widgets]}").unwrap(), 1);
    for rest in [
        "allow: {upload: [\"widgets-*\"]}",
        "allow: {upload: [widgets], create: [widgets]}",
        "allow: {upload: [widgets]}, versions: [\"1.0\"]",
        "allow: {upload: [widgets]}, max_size: 1MiB",
        "allow: {upload: [widgets]}, single_use: true",
    ] {
        let fault = bundle(rest).unwrap_err().to_string();
        assert!(fault.contains("cannot be said in this registry's tokens"), "{rest}: {fault}");
    }
}

#[test]
fn its_tests_are_confined_as_its_rules_are() {
    for (from, to, words) in [
        ("rule: release", "registry: tools\n    issuer: github", "for the registry that serves it"),
        ("rule: release", "registry: acme-npm\n    issuer: gitlab", "not one that bundles of `acme-npm` may name"),
        // The directory's rules, of this registry and of others, have no name in it.
        ("rule: release", "rule: theirs", "there is no rule `theirs`"),
        ("rule: release", "rule: tools/theirs", "there is no rule `tools/theirs`"),
        ("rule: release", "rule: acme-npm/release", "there is no rule `acme-npm/release`"),
    ] {
        refused(&changed(from, to), "rules-refused", words);
    }
    // One that names no rule asks the registry's, and its own name may be said.
    for named in ["issuer: github", "registry: acme-npm\n    issuer: github"] {
        accepted(&changed("rule: release", named)).unwrap_or_else(|fault| panic!("{named}: {fault}"));
    }
}

#[test]
fn a_rule_of_a_name_that_the_directory_uses_takes_nothing_of_that_rules_place() {
    let policy = policy_of(DIRECTORY);
    let bundle = Arc::new(accept(&policy, "acme-npm", &Signed::known(GOOD.as_bytes()), None, NOW).unwrap());
    let policy = policy.with_bundles([bundle]);
    let grants = |id: &str| policy.rule_by_id(id).unwrap().pairs().iter().map(ToString::to_string).collect::<String>();
    assert_eq!(
        (grants("release"), grants("acme-npm/release")),
        ("upload:left-pad".into(), "upload:@acme/widgets".into())
    );
    for id in ["tools/release", "plain/release", "nobody/release", "acme-npm/acme-npm/release", "/release"] {
        assert!(policy.rule_by_id(id).is_none(), "{id}");
    }
}

#[test]
fn what_was_read_for_another_directory_is_left_out() {
    let (policy, twin) = (policy_of(DIRECTORY), policy_of(DIRECTORY));
    let bundle = Arc::new(accept(&policy, "acme-npm", &Signed::known(GOOD.as_bytes()), None, NOW).unwrap());
    assert_eq!(policy.with_bundles([Arc::clone(&bundle)]).rule_count(), 3);
    let other = twin.with_bundles([bundle]);
    assert_eq!((other.rule_count(), other.revision()), (2, twin.revision()));
    assert!(other.bundle("acme-npm").is_none());
}

#[test]
fn it_is_reread_whatever_its_serial_and_its_end_and_under_the_new_confinement() {
    let bundle = |text: &str| reread(&policy_of(text), "acme-npm", &Signed::known(GOOD.as_bytes()));
    assert_eq!(bundle(DIRECTORY).unwrap().serial(), 42);
    let narrower = DIRECTORY.replace("\"@acme/*\", \"acme-core\"", "\"acme-core\"");
    assert_eq!(bundle(&narrower).map(drop).unwrap_err().code(), "rules-refused");
    assert_eq!(
        bundle(&DIRECTORY.replace("[github, circleci]", "[circleci]")).map(drop).unwrap_err().code(),
        "rules-refused"
    );
    assert_eq!(
        bundle(&DIRECTORY.replace("max_bytes: 4KiB", "max_bytes: 100")).map(drop).unwrap_err().code(),
        "too-large"
    );
}

#[test]
fn a_lapse_is_missing_until_there_is_one_and_expired_from_its_very_end_on() {
    use crate::policy::bundle::Lapse;
    let policy = policy_of(DIRECTORY);
    let lapse = |policy: &Policy, registry: &str, now| policy.lapse(policy.registries().by_id(registry).unwrap(), now);
    assert_eq!(lapse(&policy, "acme-npm", NOW), Some(Lapse::Missing));
    assert_eq!(lapse(&policy, "plain", NOW), None, "it serves none");
    let bundle = accept(&policy, "acme-npm", &Signed::known(GOOD.as_bytes()), None, NOW).unwrap();
    let end = bundle.not_after();
    let policy = policy.with_bundles([Arc::new(bundle)]);
    assert_eq!(lapse(&policy, "acme-npm", end.minus(Duration::from_millis(1))), None);
    for later in [end, end.plus(HOUR)] {
        assert_eq!(lapse(&policy, "acme-npm", later), Some(Lapse::Expired(end)));
    }
    assert_eq!(lapse(&policy, "tools", NOW), Some(Lapse::Missing), "another registry's is its own matter");
}

#[test]
fn an_unknown_issuer_may_be_a_member_that_only_rules_which_are_not_known_pin() {
    use crate::policy::bundle::Lapse;
    let policy = policy_of(DIRECTORY);
    let asked = |policy: &Policy, registry: &str, iss: &str, now| {
        policy.may_be_bundled(policy.registries().by_id(registry).unwrap(), iss, now)
    };
    let member = "https://oidc.circleci.com/org/c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2";
    assert_eq!(asked(&policy, "acme-npm", member, NOW), Some(Lapse::Missing));
    // Nobody's, or that of a family that its rules may not name, or of a registry without rules of its own.
    for iss in [
        "",
        "https://oidc.circleci.com/org/",
        "https://oidc.circleci.com/org/a/b",
        "https://oidc.circleci.com/org/a/",
        "https://OIDC.circleci.com/org/a",
        "http://oidc.circleci.com/org/a",
        "https://oidc.circleci.com.evil.example/org/a",
        "https://token.actions.githubusercontent.com",
        "https://gitlab.com",
    ] {
        assert_eq!(asked(&policy, "acme-npm", iss, NOW), None, "{iss}");
    }
    for registry in ["tools", "plain"] {
        assert_eq!(asked(&policy, registry, member, NOW), None, "{registry}");
    }
    // While they are known they pin no such member; from their end on that is unknown again.
    let bundle = accept(&policy, "acme-npm", &Signed::known(GOOD.as_bytes()), None, NOW).unwrap();
    let end = bundle.not_after();
    let policy = policy.with_bundles([Arc::new(bundle)]);
    assert_eq!(asked(&policy, "acme-npm", member, NOW), None);
    assert_eq!(asked(&policy, "acme-npm", member, end), Some(Lapse::Expired(end)));
}

#[test]
fn what_is_switched_off_is_so_whether_or_not_a_bundle_is_there() {
    use crate::identity::claims::Claims;
    use crate::policy::evaluate::Decision;
    use crate::policy::evaluate::Requested;
    use crate::policy::evaluate::Subject;
    use crate::policy::evaluate::evaluate_at;
    let code_of = |from: &str, to: &str, issuer: &str| {
        let policy = policy_of(&DIRECTORY.replacen(from, to, 1));
        let issuer = policy.issuers().by_id(issuer).unwrap();
        let claims = Claims::new(crate::json::Object::default(), Vec::new());
        let subject = Subject { issuer, claims: &claims };
        let registry = policy.registries().by_id("acme-npm").unwrap();
        match evaluate_at(&policy, registry, &subject, &Requested::default(), NOW).map(|it| it.decision) {
            Ok(Decision::Deny(explanation)) => explanation.code(),
            Ok(Decision::Allow(grant)) => panic!("{grant:?}"),
            Err(lapse) => lapse.code(),
        }
        .to_string()
    };
    let code = |from: &str, to: &str| code_of(from, to, "github");
    assert_eq!(code("github", "github"), "bundle-missing");
    assert_eq!(code_of("github", "github", "gitlab"), "no-matching-rule", "its rules may not name that one");
    assert_eq!(code("{provider: github}", "{provider: github, enabled: false}"), "issuer-disabled");
    assert_eq!(code("ecosystem: npm", "enabled: false\n    ecosystem: npm"), "registry-disabled");
}

#[test]
fn what_a_bundle_makes_messages_say_is_bounded() {
    // JSON, since YAML has no keys of this length.
    let (long, lists) = ("a".repeat(1 << 20), vec!["[]"; 250].join(", "));
    let rule = format!(
        r#"{{"issuer": "own", "when": {{"sub": "x", "{long}": {{"in": [{lists}]}}}}, "allow": {{"upload": ["acme-core"]}}}}"#
    );
    let head = r#""registry": "acme-npm", "serial": 1, "not_after": "2027-01-15T20:00:00Z""#;
    let text = format!(r#"{{{head}, "rules": {{"r": {rule}}}}}"#);
    let directory = DIRECTORY
        .replace("issuers:\n", "issuers:\n  own: {provider: generic, url: \"https://ci.example\"}\n")
        .replacen("[github, circleci]", "[own]", 1)
        .replace("max_bytes: 4KiB", "max_bytes: 8MiB");
    let fault =
        accept(&policy_of(&directory), "acme-npm", &Signed::known(text.as_bytes()), None, NOW).map(drop).unwrap_err();
    let message = fault.to_string();
    assert!(message.lines().count() > 200, "{}", message.chars().take(1000).collect::<String>());
    assert!(message.len() < 1 << 20, "{}", message.len());
}
