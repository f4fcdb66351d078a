use serde_json::Value;
use serde_json::json;

use crate::policy::Policy;
use crate::policy::Source;
use crate::policy::diff::Diff;

const WORLD: &str = r#"
issuers:
  github: {provider: github}
  enterprises: {provider: github, url: "https://token.actions.githubusercontent.com/{enterprise_slug}"}
registries:
  acme: {dialect: generic, urls: ["https://acme.example/"], audiences: [acme]}
rules:
"#;
const ISS: &str = "https://token.actions.githubusercontent.com";

fn rule(name: &str, more: &str, allow: &str) -> String {
    format!(
        "  {name}:\n    registry: acme\n    issuer: github\n    when: {{repository_owner_id: \"1\", repository_id: \"2\"{more}}}\n    allow: {{upload: [{allow}]}}\n"
    )
}

fn policy(rules: &[String]) -> Policy {
    let rules = if rules.is_empty() { "  {}\n".to_owned() } else { rules.concat() };
    let source = Source { name: "p.yaml".to_owned(), text: format!("{WORLD}{rules}") };
    Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
}

/// An exchange of a job that the rules are about, with other members put over it.
fn event(overrides: &Value) -> Value {
    let mut event = json!({
        "schema": 1, "time": "2026-11-26T12:00:00.000Z", "request_id": "r1", "event": "exchange", "decision": "allow",
        "code": "ok", "registry": "acme", "issuer": "github",
        "subject": {"iss": ISS, "aud": "acme", "lifetime": 300}, "rules": ["a"],
        "claims": {"repository_owner_id": "1", "repository_id": "2", "event_name": "push", "environment": "release",
            "workflow_ref": "o/w/.github/workflows/r.yml@refs/tags/v1",
            "job_workflow_ref": "o/w/.github/workflows/r.yml@refs/tags/v1", "ref": "refs/tags/v1", "ref_type": "tag"},
        "absent": ["base_ref"],
    });
    event.as_object_mut().unwrap().extend(overrides.as_object().unwrap().clone());
    event
}

fn diff(old: &[String], new: &[String], events: &[Value]) -> Value {
    let (old, new) = (policy(old), policy(new));
    let mut diff = Diff::new(&old, &new);
    for event in events {
        diff.line(event.to_string().as_bytes());
    }
    let report = diff.finish(true);
    assert!(!report.to_table().is_empty());
    let value = serde_json::to_value(&report).unwrap();
    assert_eq!(report.changes(), value["past"]["counts"]["changed"] != 0);
    value["past"].clone()
}

#[track_caller]
fn counts(past: &Value, unchanged: u64, changed: u64, unknown: u64) {
    let counts = &past["counts"];
    assert_eq!(
        (&counts["unchanged"], &counts["changed"], &counts["unknown"]),
        (&json!(unchanged), &json!(changed), &json!(unknown)),
        "{past:#}"
    );
}

#[test]
fn what_is_newly_allowed_newly_denied_and_granted_otherwise_is_told_rule_by_rule() {
    let release = rule("a", ", environment: release", "widgets");
    let past = diff(&[], std::slice::from_ref(&release), &[event(&json!({"rules": []}))]);
    counts(&past, 0, 1, 0);
    let change = &past["changes"][0];
    assert_eq!((&change["change"], &change["rules"]), (&json!("newly-allowed"), &json!(["a"])));
    assert_eq!(change["permissions"], json!(["upload:widgets"]));
    assert_eq!(past["never_matched"], json!([]));

    let staging = rule("a", ", environment: staging", "widgets");
    let past = diff(std::slice::from_ref(&release), &[staging], &[event(&json!({})), event(&json!({"time": "later"}))]);
    counts(&past, 0, 2, 0);
    let change = &past["changes"][0];
    assert_eq!((&change["change"], &change["code"]), (&json!("newly-denied"), &json!("environment-mismatch")));
    assert_eq!((&change["nearest"], &change["count"], &change["last"]), (&json!("a"), &json!(2), &json!("later")));
    assert!(change["sentence"].as_str().unwrap().contains("wants `environment: staging`"), "{change}");
    assert_eq!(past["never_matched"], json!(["a"]));

    let wider = [release.clone(), rule("b", "", "gadgets")];
    let past = diff(std::slice::from_ref(&release), &wider, &[event(&json!({}))]);
    let change = &past["changes"][0];
    assert_eq!(change["change"], "grant-changed");
    assert_eq!((&change["added"], &change["removed"]), (&json!(["upload:gadgets"]), &json!([])));
    let past = diff(&wider, std::slice::from_ref(&release), &[event(&json!({}))]);
    assert_eq!(past["changes"][0]["removed"], json!(["upload:gadgets"]));
    counts(&diff(&wider, &wider, &[event(&json!({}))]), 1, 0, 0);
}

#[test]
fn limits_count_as_a_changed_grant() {
    let limited = rule("a", "", "widgets") + "    ttl: 10m\n    single_use: true\n    max_size: 1MiB\n";
    let past = diff(&[rule("a", "", "widgets")], std::slice::from_ref(&limited), &[event(&json!({}))]);
    let limits = json!(["ttl: 900 → 600", "uses: unlimited → 1", "max_size: unlimited → 1048576"]);
    assert_eq!(past["changes"][0]["limits"], limits);
    // Whoever asked for one upload gets one from either.
    let single = rule("a", "", "widgets") + "    single_use: true\n";
    counts(&diff(&[rule("a", "", "widgets")], &[single], &[event(&json!({"single_use": true}))]), 1, 0, 0);
}

#[test]
fn a_claim_that_the_log_does_not_hold_is_never_guessed() {
    let plain = rule("a", "", "widgets");
    let reads = |test: &str| rule("a", &format!(", check_run_id: {test}"), "widgets");
    // Neither its value nor its absence is known, whatever the operator.
    for test in [
        "\"7\"",
        "{present: true}",
        "{absent: true}",
        "{not: {is: \"7\"}}",
        "{glob: \"7*\"}",
        "{same_as: repository_id}",
    ] {
        let past = diff(std::slice::from_ref(&plain), &[reads(test)], &[event(&json!({}))]);
        counts(&past, 0, 0, 1);
        assert_eq!(past["unknown"][0]["claims"], json!(["check_run_id"]), "{test}");
        assert_eq!(past["unknown"][0]["rules"], json!(["a"]));
        assert_eq!(past["perhaps_matched"], json!(["a"]));
        // Unchanged rules decide alike, whatever it was.
        counts(&diff(&[reads(test)], &[reads(test)], &[event(&json!({}))]), 1, 0, 0);
        // A condition that fails for sure decides, and so does a rule that gives the same without the claim.
        let fails = rule("a", &format!(", environment: staging, check_run_id: {test}"), "widgets");
        counts(&diff(std::slice::from_ref(&plain), &[fails], &[event(&json!({}))]), 0, 1, 0);
        let both = [plain.clone(), reads(test).replace("  a:", "  b:")];
        counts(&diff(std::slice::from_ref(&plain), &both, &[event(&json!({}))]), 1, 0, 0);
    }
    // A recorded absence is known.
    let absent = rule("a", ", base_ref: {absent: true}", "widgets");
    counts(&diff(std::slice::from_ref(&plain), &[absent], &[event(&json!({}))]), 1, 0, 0);
    let present = rule("a", ", base_ref: {present: true}", "widgets");
    counts(&diff(std::slice::from_ref(&plain), &[present], &[event(&json!({}))]), 0, 1, 0);
    // A public claim that stands in neither list is not.
    let sha = rule("a", ", sha: {absent: true}", "widgets");
    counts(&diff(std::slice::from_ref(&plain), &[sha], &[event(&json!({}))]), 0, 0, 1);
    // An implied condition reads claims too.
    let mut silent = event(&json!({}));
    silent["claims"].as_object_mut().unwrap().remove("event_name");
    let past = diff(&[], std::slice::from_ref(&plain), &[silent]);
    counts(&past, 0, 0, 1);
    assert_eq!(past["unknown"][0]["claims"], json!(["event_name"]));
}

#[test]
fn derived_claims_are_computed_from_what_is_recorded_and_names_made_of_the_rest_are_unknown() {
    let tag = rule("a", ", tag: {glob: \"v*\"}", "widgets");
    counts(&diff(&[], std::slice::from_ref(&tag), &[event(&json!({"rules": []}))]), 0, 1, 0);
    let named = rule("a", ", check_run_id: {regex: \"(?<x>.*)\"}", "\"acme-{x}\"");
    let past = diff(&[], &[named], &[event(&json!({"rules": []}))]);
    counts(&past, 0, 0, 1);
    assert_eq!(past["unknown"][0]["claims"], json!(["check_run_id"]));
}

#[test]
fn what_decides_beside_the_rules_is_replayed_too() {
    let rules = [rule("a", "", "widgets, gadgets")];
    let code = |overrides: Value| {
        let (old, new) = (policy(&rules), policy(&rules));
        let mut diff = Diff::new(&old, &new);
        diff.line(event(&overrides).to_string().as_bytes());
        serde_json::to_value(diff.finish(true)).unwrap()["past"]["counts"]["unlike_the_record"].clone()
    };
    // Both would refuse what the record says was granted.
    for overrides in [
        json!({"subject": {"iss": ISS, "aud": "other", "lifetime": 300}}),
        json!({"subject": {"iss": ISS, "aud": "acme", "lifetime": 90_000}}),
        json!({"subject": {"iss": format!("{ISS}/globex"), "aud": "acme", "lifetime": 300}}),
        json!({"registry": "gone"}),
        json!({"requested": ["upload:others"]}),
        json!({"package": "others"}),
    ] {
        assert_eq!(code(overrides.clone()), 1, "{overrides}");
    }
    assert_eq!(code(json!({"requested": ["upload:gadgets"]})), 0);
    assert_eq!(code(json!({"package": "gadgets"})), 0);
    let less = [rule("a", "", "widgets")];
    counts(&diff(&rules, &less, &[event(&json!({"requested": ["upload:widgets"]}))]), 1, 0, 0);
    counts(&diff(&rules, &less, &[event(&json!({"requested": ["upload:gadgets"]}))]), 0, 1, 0);
    counts(&diff(&rules, &less, &[event(&json!({"package": "gadgets"}))]), 0, 1, 0);
}

#[test]
fn rules_in_shadow_mode_disagree_where_they_would_have_granted_more() {
    let shadow = rule("b", "", "gadgets") + "    mode: shadow\n";
    let agreeing = rule("c", "", "widgets") + "    mode: shadow\n";
    let silent = rule("d", ", check_run_id: \"7\"", "tools") + "    mode: shadow\n";
    let rules = [rule("a", "", "widgets"), shadow, agreeing, silent];
    let past = diff(&rules, &rules, &[event(&json!({})), event(&json!({}))]);
    counts(&past, 2, 0, 0);
    assert_eq!(
        past["shadow"],
        json!([{"rule": "b", "disagreed": 2, "unknown": 0}, {"rule": "d", "disagreed": 0, "unknown": 2}])
    );
}

#[test]
fn a_line_that_is_no_exchange_is_counted_and_never_guessed() {
    let rules = [rule("a", "", "widgets")];
    let (old, new) = (policy(&rules), policy(&[]));
    let mut diff = Diff::new(&old, &new);
    let mut incomplete = event(&json!({}));
    incomplete.as_object_mut().unwrap().remove("subject");
    let lines = [
        event(&json!({"event": "verify"})).to_string(),
        event(&json!({"schema": 2})).to_string(),
        incomplete.to_string(),
        "{}".to_owned(),
        "[]".to_owned(),
        "not json".to_owned(),
        String::new(),
        event(&json!({"claims": [1]})).to_string(),
    ];
    for line in &lines {
        diff.line(line.as_bytes());
    }
    let report = serde_json::to_value(diff.finish(true)).unwrap();
    let counts = &report["past"]["counts"];
    let got = ["exchanges", "other_events", "other_schemas", "incomplete", "not_events"].map(|name| &counts[name]);
    assert_eq!(got, [0, 1, 1, 2, 4]);
    assert_eq!(report["rules"]["removed"], json!(["a"]));
}

#[test]
fn rules_are_compared_line_by_line() {
    let (old, new) = (
        policy(&[rule("a", ", environment: release", "widgets"), rule("gone", "", "x")]),
        policy(&[rule("a", ", environment: staging", "widgets, gadgets"), rule("fresh", "", "x")]),
    );
    let report = Diff::new(&old, &new).finish(false);
    assert!(report.changes());
    let rules = serde_json::to_value(&report).unwrap();
    assert_eq!(
        rules,
        json!({"rules": {"added": ["fresh"], "removed": ["gone"], "changed": [{"rule": "a",
            "removed": ["when environment: release"], "added": ["when environment: staging", "allow upload:gadgets"]}]}})
    );
    assert!(!Diff::new(&old, &old).finish(false).changes());
}

#[test]
fn groups_are_bounded() {
    let (old, new) = (
        policy(&[rule("a", ", tag: {regex: \"v(?<x>[0-9]+)\"}", "\"w{x}\"")]),
        policy(&[rule("a", ", tag: {regex: \"v(?<x>[0-9]+)\"}", "\"x{x}\"")]),
    );
    let mut diff = Diff::new(&old, &new);
    for n in 0..super::MAX_GROUPS + 5 {
        let mut event = event(&json!({}));
        event["claims"]["ref"] = json!(format!("refs/tags/v{n}"));
        diff.line(event.to_string().as_bytes());
    }
    let report = serde_json::to_value(diff.finish(true)).unwrap();
    assert_eq!(report["past"]["counts"]["further"], 5, "{}", report["past"]["counts"]);
    assert_eq!(report["past"]["changes"].as_array().unwrap().len(), super::MAX_GROUPS);
}

/// The same with the policy files in full, and one event.
fn diff_of(old: &str, new: &str, event: &Value) -> Value {
    let load = |text: &str| {
        let source = Source { name: "p.yaml".to_owned(), text: text.to_owned() };
        Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let (old, new) = (load(old), load(new));
    let mut diff = Diff::new(&old, &new);
    diff.line(event.to_string().as_bytes());
    serde_json::to_value(diff.finish(true)).unwrap()["past"].clone()
}

/// A policy whose registry serves rules of its own, with these settings, beside these of the directory.
fn with_bundle(bundle: &str, rules: &[String]) -> String {
    let rules = if rules.is_empty() { "  {}\n".to_owned() } else { rules.concat() };
    format!("{WORLD}{rules}").replace("audiences: [acme]", &format!("audiences: [acme]{bundle}"))
}

const BUNDLE: &str = ", bundle: {url: \"https://acme.example/b\", issuers: [github, enterprises]}";

#[test]
fn what_a_registrys_own_rules_granted_is_unknown_wherever_they_may_differ() {
    let same = with_bundle(BUNDLE, &[]);
    let own = event(&json!({"rules": ["acme/a"]}));
    counts(&diff_of(&same, &same, &own), 1, 0, 0);
    let polled = with_bundle(&BUNDLE.replace('}', ", poll: 10s}"), &[]);
    counts(&diff_of(&same, &polled, &own), 1, 0, 0);
    // The bundle is gone, is from elsewhere, may be about less, or stands beside other rules.
    for new in [
        with_bundle("", &[]),
        with_bundle(&BUNDLE.replace("/b", "/c"), &[]),
        with_bundle(&BUNDLE.replace('}', ", packages: [widgets]}"), &[]),
        with_bundle(&BUNDLE.replace("github, ", ""), &[]),
        with_bundle(BUNDLE, &[rule("a", "", "widgets")]),
    ] {
        for (old, new) in [(&same, &new), (&new, &same)] {
            let past = diff_of(old, new, &own);
            counts(&past, 0, 0, 1);
            assert_eq!(past["unknown"][0]["claims"], json!(["the rules of the registry's bundle"]), "{past:#}");
        }
    }
    // So it is for a member of a family, which no rule of the directory need pin.
    let member =
        json!({"rules": ["acme/a"], "subject": {"iss": format!("{ISS}/globex"), "aud": "acme", "lifetime": 300}});
    counts(&diff_of(&same, &with_bundle("", &[]), &event(&member)), 0, 0, 1);
    counts(&diff_of(&same, &same, &event(&member)), 1, 0, 0);
    // What is switched off refuses whatever they say.
    let off = same.replace("audiences: [acme]", "audiences: [acme], enabled: false");
    counts(&diff_of(&off, &off, &own), 1, 0, 0);
}

#[test]
fn where_a_registrys_own_rules_had_no_part_the_directorys_decide() {
    let (less, more) = (with_bundle(BUNDLE, &[]), with_bundle(BUNDLE, &[rule("a", "", "widgets")]));
    // Granted by the directory alone, or refused for a cause that leaves no part of a grant.
    counts(&diff_of(&more, &less, &event(&json!({}))), 0, 1, 0);
    let refused = |explanation: Value| event(&json!({"rules": [], "explanation": explanation}));
    for (cause, changed) in [
        ("no-matching-rule", 1),
        ("environment-mismatch", 1),
        ("package-not-granted", 1),
        ("scope-not-granted", 0),
        ("ambiguous-grant", 0),
        ("registry-disabled", 0),
        ("bundle-missing", 0),
    ] {
        let past = diff_of(&less, &more, &refused(json!({"code": cause})));
        counts(&past, 0, changed, 1 - changed);
    }
    for nothing in [json!(null), json!("a sentence"), json!({}), json!({"code": 1})] {
        counts(&diff_of(&less, &more, &refused(nothing)), 0, 0, 1);
    }
    // Rules that may not name the issuer have no part in its jobs.
    let others = |rules: &[String]| with_bundle(&BUNDLE.replace("github, ", ""), rules);
    counts(&diff_of(&others(&[]), &others(&[rule("a", "", "widgets")]), &refused(json!(null))), 0, 1, 0);
}

#[test]
fn alike_rules_of_unlike_worlds_are_not_alike() {
    // The same words, of which the log does not tell whether they hold, under another preset or for other names.
    let rule = rule("a", ", check_run_id: \"7\"", "\"acme-{check_run_id}\"");
    let world = |issuer: &str, registry: &str| {
        format!("{WORLD}{rule}").replace("audiences: [acme]", registry).replace("  github: {provider: github}", issuer)
    };
    let usual = world("  github: {provider: github}", "audiences: [acme]");
    counts(&diff_of(&usual, &usual, &event(&json!({}))), 1, 0, 0);
    let npm = world("  github: {provider: github}", "audiences: [acme], ecosystem: npm");
    counts(&diff_of(&usual, &npm, &event(&json!({}))), 0, 0, 1);
    let short = world("  github: {provider: github}", "audiences: [acme], token: {ttl: 5m}");
    counts(&diff_of(&usual, &short, &event(&json!({}))), 0, 0, 1);
}

#[test]
fn what_a_rule_takes_from_its_issuer_and_registry_is_compared_too() {
    let text = format!("{WORLD}{}", rule("a", "", "widgets"));
    let load = |text: &str| {
        let source = Source { name: "p.yaml".to_owned(), text: text.to_owned() };
        Policy::load(&[source], &|_, _| None).unwrap_or_else(|faults| panic!("{faults}"))
    };
    let github = "github: {provider: github}";
    for (from, to, removed, added) in [
        (
            github,
            "github: {provider: github, url: \"https://ghes.example/_services/token\"}",
            json!([format!("issuer's URL: {ISS}, provider: github")]),
            json!(["issuer's URL: https://ghes.example/_services/token, provider: github"]),
        ),
        (github, "github: {provider: github, enabled: false}", json!([]), json!(["the issuer is switched off"])),
        (
            "[acme]}",
            "[acme, other]}",
            json!(["registry's audiences: acme"]),
            json!(["registry's audiences: acme, other"]),
        ),
        (
            "[acme]}",
            "[acme], ecosystem: npm}",
            json!(["registry's package names: generic"]),
            json!(["registry's package names: npm"]),
        ),
        ("[acme]}", "[acme], enabled: false}", json!([]), json!(["the registry is switched off"])),
        ("[acme]}", "[acme], token: {ttl: 5m}}", json!(["ttl: 900 s"]), json!(["ttl: 300 s"])),
    ] {
        let (old, new) = (load(&text), load(&text.replacen(from, to, 1)));
        let report = Diff::new(&old, &new).finish(false);
        assert!(report.changes(), "{to}");
        let rules = serde_json::to_value(&report).unwrap()["rules"].clone();
        assert_eq!(rules["changed"], json!([{"rule": "a", "removed": removed, "added": added}]), "{to}");
    }
}

#[test]
fn what_is_silent_in_several_places_is_as_unknown_as_in_one() {
    let plain = rule("a", "", "widgets");
    let unknown = |old: &[String], new: &[String], claim: &str| {
        let past = diff(old, new, &[event(&json!({"rules": []}))]);
        counts(&past, 0, 0, 1);
        assert_eq!(past["unknown"][0]["claims"], json!([claim]), "{past:#}");
    };
    // The claim that another is compared with.
    let compared = rule("a", ", environment: {same_as: check_run_id}", "widgets");
    unknown(std::slice::from_ref(&plain), &[compared], "check_run_id");
    // Either alone would grant, both together would be ambiguous, and neither would refuse.
    let (one, other) = (rule("b", ", check_run_id: \"7\"", "widgets"), rule("c", ", check_run_id: \"8\"", "widgets"));
    unknown(&[], &[one, other + "    single_use: true\n"], "check_run_id");
    // A certain grant, and beside it a name that nobody knows.
    let named = rule("d", ", check_run_id: {regex: \"(?<x>.*)\"}", "\"acme-{x}\"");
    unknown(std::slice::from_ref(&plain), &[plain.clone(), named], "check_run_id");
    // Rules are found also if the claim is silent that they are filed under.
    let mut silent = event(&json!({"rules": []}));
    silent["claims"].as_object_mut().unwrap().remove("repository_id");
    let past = diff(&[], &[plain], &[silent]);
    counts(&past, 0, 0, 1);
    assert_eq!(past["unknown"][0]["claims"], json!(["repository_id"]));
}

#[test]
fn a_token_that_lives_as_long_as_it_may_is_not_too_long() {
    let text = format!("{WORLD}{}", rule("a", "", "widgets"));
    let within = |most: &str| {
        text.replace("github: {provider: github}", &format!("github: {{provider: github, max_lifetime: {most}}}"))
    };
    counts(&diff_of(&text, &within("5m"), &event(&json!({}))), 1, 0, 0);
    let past = diff_of(&text, &within("4m"), &event(&json!({})));
    counts(&past, 0, 1, 0);
    assert_eq!(past["changes"][0]["code"], "lifetime-too-long");
}

#[test]
fn a_claim_that_the_preset_compares_another_with_is_needed_too() {
    let mut silent = event(&json!({"rules": []}));
    silent["claims"].as_object_mut().unwrap().remove("workflow_ref");
    let past = diff(&[], &[rule("a", "", "widgets")], &[silent]);
    counts(&past, 0, 0, 1);
    assert_eq!(past["unknown"][0]["claims"], json!(["workflow_ref"]));
}
