//! What is odd about one provider's tokens and keys, trap by trap, at the front door.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use serde_json::json;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::provider;
use trustmint::policy::Policy;
use trustmint::policy::Source;

use crate::providers::failed;
use crate::support::Presets;
use crate::support::Service;
use crate::support::presets::PRESETS;
use crate::support::presets::RULES;
use crate::support::presets::preset;
use crate::support::service::AUDIENCE;
use crate::support::service::example;
use crate::support::service::policy_of;

/// The policy with these issuers and rules, and this one key set as `keys.json`.
fn policy(base: &str, issuers: &str, rules: &str, keys: &[Value]) -> Result<Policy, String> {
    let source = Source { name: "policy.yaml".into(), text: policy_of(base, issuers, rules) };
    let document = |_: &str, name: &str| (name == "keys.json").then(|| json!({"keys": keys}).to_string().into_bytes());
    Policy::load(&[source], &document).map_err(|faults| faults.to_string())
}

async fn service(issuers: &str, rules: &str, keys: &[Value]) -> Service {
    Service::with_policy(|base, _| policy(base, issuers, rules, keys).unwrap()).await
}

/// What is said of one issuer of a policy without rules, which must be refused.
fn faults_of(issuer: &str) -> String {
    let key = SigningKey::generate(KeyKind::P256).unwrap();
    policy("https://pypi.acme.example", &format!("  it: {issuer}"), "  {}", &[key.jwk()]).unwrap_err()
}

/// A rule of the issuer `it`.
fn rule(when: &str) -> String {
    format!("  it-rule: {{registry: acme-pypi, issuer: it, when: {when}, allow: {{upload: [widgets]}}}}\n")
}

/// Claims of an example from that issuer, for this registry, now.
fn claims(service: &Service, issuer: &str, preset: &str, name: &str, overrides: &Value) -> Value {
    let mut claims = example(preset, name, overrides);
    let now = service.clock_seconds();
    for (name, value) in
        [("iss", json!(issuer)), ("aud", json!(AUDIENCE)), ("iat", json!(now)), ("exp", json!(now + 300))]
    {
        claims[name] = value;
    }
    claims
}

async fn outcome(service: &Service, token: &str) -> String {
    let answer = service.mint(&json!({"token": token})).await;
    if answer.status == 200 { "ok".to_owned() } else { answer.code().to_owned() }
}

/// Whether a token of the preset's example is accepted; else the code.
async fn tried(presets: &Presets, example: &str, overrides: Value) -> String {
    outcome(&presets.service, &presets.token(example, &overrides)).await
}

#[actix_web::test]
async fn text_is_never_taken_for_a_boolean_nor_the_other_way_round() {
    let presets = Presets::start().await;
    let rerun = "oidc.circleci.com/ssh-rerun";
    for value in [json!("false"), json!(0), json!([]), json!("")] {
        let outcome = tried(&presets, "circleci/tag-push", json!({rerun: value})).await;
        assert_eq!(outcome, "event-not-allowed", "{value}");
    }
    assert_eq!(tried(&presets, "circleci/tag-push", json!({rerun: null})).await, "missing-claim");
    assert_eq!(tried(&presets, "circleci/tag-push", json!({rerun: false})).await, "ok");
    let rules = RULES.replace("vcs_origin: github.com", "ssh_rerun: \"false\"\n      vcs_origin: github.com");
    let faults = presets.faults(&rules);
    assert!(faults.contains("L036") && faults.contains("remove the quotes"), "{faults}");
}

#[actix_web::test]
async fn a_token_without_an_id_is_good_once() {
    let presets = Presets::start().await;
    for example in ["circleci/tag-push", "codefresh/push", "google/service-account", "jenkins/job", "forgejo/tag-push"]
    {
        assert!(presets.claims(example, &json!({})).get("jti").is_none(), "{example}");
        let token = presets.token(example, &json!({}));
        assert_eq!(outcome(&presets.service, &token).await, "ok", "{example}");
        assert_eq!(outcome(&presets.service, &token).await, "token-replayed", "{example}");
    }
}

#[actix_web::test]
async fn a_list_of_one_audience_is_accepted_and_of_two_is_not() {
    let presets = Presets::start().await;
    for example in ["bitbucket/deployment", "jenkins/job", "kubernetes/pod", "depot/tag-push", "spiffe/workload"] {
        assert_eq!(tried(&presets, example, json!({"aud": [AUDIENCE]})).await, "ok", "{example}");
        for several in [json!([AUDIENCE, "other"]), json!(["other", AUDIENCE]), json!([AUDIENCE, AUDIENCE]), json!([])]
        {
            let outcome = tried(&presets, example, json!({"aud": several})).await;
            assert_eq!(outcome, "audience-list", "{example} {several}");
        }
        assert_eq!(tried(&presets, example, json!({"aud": ["other"]})).await, "wrong-audience", "{example}");
    }
}

#[actix_web::test]
async fn jenkins_writes_a_zero_before_the_modulus_and_names_keys_for_people() {
    let key = SigningKey::generate(KeyKind::Rsa2048).unwrap().with_kid("acme upload token");
    let mut jwk = key.jwk();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    jwk["n"] = json!(URL_SAFE_NO_PAD.encode([&[0], modulus.as_slice()].concat()));
    let issuer = "https://ci.acme.example/oidc/job/widgets";
    let issuers = format!("  it: {{provider: jenkins, url: \"{issuer}\", jwks_file: keys.json}}");
    let rules = rule("{sub: \"https://jenkins.acme.example/job/widgets/job/release/\"}");
    let service = service(&issuers, &rules, &[jwk]).await;
    let token = |overrides: Value| key.token(&Value::Null, &claims(&service, issuer, "jenkins", "job", &overrides));
    assert_eq!(outcome(&service, &token(json!({}))).await, "ok");
    // A pull request's job, the folder, and the same without the final slash are others.
    for sub in ["job/widgets/job/PR-12/", "job/widgets/", "job/widgets/job/release", "job/widgets/job/release/x/"] {
        let sub = format!("https://jenkins.acme.example/{sub}");
        assert_eq!(outcome(&service, &token(json!({"sub": sub}))).await, "no-matching-rule", "{sub}");
    }
    let faults =
        policy("https://a.example", &issuers, &rule("{sub: {glob: \"https://**\"}}"), &[key.jwk()]).unwrap_err();
    assert!(faults.contains("L008") && faults.contains("L001"), "{faults}");
    let faults = policy("https://a.example", &issuers, &rule("{build_number: 42}"), &[key.jwk()]).unwrap_err();
    assert!(faults.contains("L001: `sub` is not pinned"), "{faults}");
    let faults = faults_of("{provider: jenkins, url: \"https://ci.acme.example/oidc\", tenancy: single}");
    assert!(faults.contains("has pins of its own"), "{faults}");
}

#[actix_web::test]
async fn the_final_slash_of_an_issuer_belongs_to_its_name() {
    let with = "https://westeurope.oic.prod-aks.azure.com/0f1e2d3c-4b5a-4697-8879-6a5b4c3d2e1f/9a8b7c6d-5e4f-4031-a2b3-c4d5e6f70819/";
    let without = with.trim_end_matches('/');
    let key = SigningKey::generate(KeyKind::P256).unwrap();
    let rules = rule(
        "{sub: \"system:serviceaccount:release:publisher\", serviceaccount_uid: 2c3d4e5f-6071-4829-a3b4-c5d6e7f80912}",
    );
    for (configured, other) in [(with, without), (without, with)] {
        let issuers = format!("  it: {{provider: kubernetes, url: \"{configured}\", jwks_file: keys.json}}");
        let service = service(&issuers, &rules, &[key.jwk()]).await;
        for (iss, expected) in [(configured, "ok"), (other, "unknown-issuer")] {
            let token = key.token(&Value::Null, &claims(&service, iss, "kubernetes", "pod", &json!({})));
            assert_eq!(outcome(&service, &token).await, expected, "{iss} at {configured}");
        }
    }
}

#[actix_web::test]
async fn letters_of_an_issuers_path_are_compared_as_they_are() {
    let presets = Presets::start().await;
    let url = preset("kubernetes").url;
    let (host, id) = url.rsplit_once('/').unwrap();
    let lower = format!("{host}/{}", id.to_lowercase());
    assert_eq!(tried(&presets, "kubernetes/pod", json!({"iss": lower})).await, "unknown-issuer");
}

#[actix_web::test]
async fn a_subject_with_a_space_is_a_subject() {
    let presets = Presets::start().await;
    let claims = presets.claims("hcp-terraform/apply", &json!({}));
    assert_eq!(claims["terraform_project_name"], "Default Project");
    assert!(claims["sub"].as_str().unwrap().contains(":Default Project:"));
    // The rule names it whole.
    assert!(RULES.contains(":Default Project:"));
    assert_eq!(tried(&presets, "hcp-terraform/apply", json!({})).await, "ok");
    let other = json!({"terraform_project_name": "DefaultProject"});
    assert_ne!(tried(&presets, "hcp-terraform/apply", other).await, "ok");
}

#[actix_web::test]
async fn a_step_without_a_key_has_null_for_one() {
    let presets = Presets::start().await;
    let unkeyed = |presets: &Presets| {
        let mut claims = presets.claims("buildkite/tag-push", &json!({}));
        claims["step_key"] = Value::Null;
        presets.key("buildkite").token(&Value::Null, &claims)
    };
    assert_eq!(outcome(&presets.service, &unkeyed(&presets)).await, "ok");
    let named = "pipeline_id: 01820b2c-3b1a-4d7f-8c2e-5a6b7c8d9e0f";
    for (condition, expected) in
        [("publish", "missing-claim"), ("{present: true}", "missing-claim"), ("{absent: true}", "ok")]
    {
        presets.activate(&RULES.replace(named, &format!("{named}\n      step_key: {condition}")));
        assert_eq!(outcome(&presets.service, &unkeyed(&presets)).await, expected, "{condition}");
    }
}

#[actix_web::test]
async fn a_number_is_an_integer_and_an_id_in_digits_is_text() {
    let presets = Presets::start().await;
    let with = |claim: &str| {
        let named = "pipeline_id: 01820b2c-3b1a-4d7f-8c2e-5a6b7c8d9e0f";
        RULES.replace(named, &format!("{named}\n      {claim}"))
    };
    presets.activate(&with("build_number: 128"));
    assert_eq!(tried(&presets, "buildkite/tag-push", json!({})).await, "ok");
    for number in [json!("128"), json!(128.0), json!([128])] {
        assert_eq!(tried(&presets, "buildkite/tag-push", json!({"build_number": number})).await, "claim-type");
    }
    assert_eq!(tried(&presets, "buildkite/tag-push", json!({"build_number": 1280})).await, "condition-failed");
    let faults = presets.faults(&with("build_number: \"128\""));
    assert!(faults.contains("L036") && faults.contains("remove the quotes"), "{faults}");
    let faults = presets.faults(&RULES.replace("def_id: \"17\"", "def_id: 17"));
    assert!(faults.contains("L036") && faults.contains("quote it: \"17\""), "{faults}");
    assert_eq!(tried(&presets, "azure-devops/tag", json!({"def_id": 17})).await, "claim-type");
}

#[actix_web::test]
async fn a_claim_whose_name_has_dots_and_slashes_is_one_claim() {
    let presets = Presets::start().await;
    // By its whole name in a rule, too.
    presets.activate(&RULES.replace("      project_id: 3a2f", "      oidc.circleci.com/project-id: 3a2f"));
    assert_eq!(tried(&presets, "circleci/tag-push", json!({})).await, "ok");
    // Neither a short name in the token nor a path of objects is that claim.
    let mut claims = presets.claims("circleci/tag-push", &json!({"oidc.circleci.com/project-id": null}));
    claims["project_id"] = json!("3a2f7b1c-4d5e-4f60-8a7b-9c0d1e2f3a4b");
    claims["oidc"] = json!({"circleci": {"com/project-id": "3a2f7b1c-4d5e-4f60-8a7b-9c0d1e2f3a4b"}});
    let token = presets.key("circleci").token(&Value::Null, &claims);
    assert_eq!(outcome(&presets.service, &token).await, "missing-claim");
    // The member that is named by a URL, and a member that only looks like the path to it.
    let mut claims = presets.claims("aws/role", &json!({"aws_account": null}));
    claims["aws_account"] = json!("012345678901");
    claims["https:"] = json!({"": {"sts.amazonaws.com": {"aws_account": "012345678901"}}});
    let token = presets.key("aws").token(&Value::Null, &claims);
    assert_eq!(outcome(&presets.service, &token).await, "missing-claim");
    let mut claims = presets.claims("kubernetes/pod", &json!({"serviceaccount_uid": null}));
    claims["kubernetes"] = json!({"io": {"serviceaccount": {"uid": "2c3d4e5f-6071-4829-a3b4-c5d6e7f80912"}}});
    let token = presets.key("kubernetes").token(&Value::Null, &claims);
    assert_eq!(outcome(&presets.service, &token).await, "missing-claim");
}

#[actix_web::test]
async fn a_service_connections_token_is_no_pipelines() {
    let presets = Presets::start().await;
    // As Azure makes it: the same issuer, key and audience, and nothing about a pipeline.
    let nothing = json!({"sub": "sc://acme/widgets/release", "prj_id": null, "def_id": null, "run_id": null,
        "rpo_id": null, "rpo_uri": null, "rpo_ref": null, "rpo_ver": null, "org_id": null});
    assert_eq!(tried(&presets, "azure-devops/tag", nothing).await, "missing-claim");
    let claimed = json!({"sub": "sc://acme/widgets/release"});
    assert_eq!(tried(&presets, "azure-devops/tag", claimed).await, "event-not-allowed");
}

#[actix_web::test]
async fn the_shape_of_a_subject_decides_nothing_where_projects_choose_it() {
    let presets = Presets::start().await;
    for (example, shapes) in [
        (
            "circleci/tag-push",
            [
                "org/c9035e8a/project/3a2f7b1c/user/5e6f7a8b",
                "org/x/project/y/user/z/vcs-origin/a/vcs-ref/refs/heads/main",
            ],
        ),
        ("buildkite/tag-push", ["01820b2c-3b1a-4d7f-8c2e-5a6b7c8d9e0f", "organization:other:pipeline:other"]),
        (
            "forgejo/tag-push",
            ["repo:acme/widgets:ref:refs/tags/v1.4.0", "repo:acme-815/widgets-4711:ref:refs/tags/v1.4.0"],
        ),
        ("spacelift/tracked-run", ["space:root", "anything"]),
    ] {
        for sub in shapes {
            assert_eq!(tried(&presets, example, json!({"sub": sub})).await, "ok", "{example} {sub}");
        }
    }
}

#[actix_web::test]
async fn a_fork_at_circleci_has_the_projects_ids_and_its_own_origin() {
    let presets = Presets::start().await;
    let fork = json!({"vcs_ref": "refs/tags/v1.4.0"});
    assert_eq!(tried(&presets, "circleci/fork-pull-request", fork).await, "no-matching-rule");
    assert_eq!(failed(&presets.service.last_event()), ["oidc.circleci.com/vcs-origin"]);
    // A pipeline that a webhook starts has no origin at all.
    let webhook = json!({"vcs_origin": null});
    assert_eq!(tried(&presets, "circleci/tag-push", webhook).await, "no-matching-rule");
    let rules = RULES.replace("      vcs_origin: github.com/acme/widgets\n", "");
    assert!(presets.faults(&rules).contains("L001: `vcs_origin` is not pinned"), "{}", presets.faults(&rules));
}

#[actix_web::test]
async fn tenants_that_share_keys_are_told_apart_by_their_issuer() {
    let key = SigningKey::generate(KeyKind::P256).unwrap();
    let ours = preset("circleci").url;
    let theirs = "https://oidc.circleci.com/org/11111111-2222-4333-8444-555566667777";
    let line =
        |name: &str, url: &str| format!("  {name}: {{provider: circleci, url: \"{url}\", jwks_file: keys.json}}");
    let when = "{org_id: c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2, project_id: 3a2f7b1c-4d5e-4f60-8a7b-9c0d1e2f3a4b, \
                pipeline_definition_id: 0a1b2c3d-4e5f-5061-8273-8495a6b7c8d9, vcs_origin: github.com/acme/widgets}";
    for (issuers, expected) in [
        (line("it", ours), "unknown-issuer"),
        (format!("{}\n{}", line("it", ours), line("they", theirs)), "no-matching-rule"),
    ] {
        let service = service(&issuers, &rule(when), &[key.jwk()]).await;
        let token = |iss: &str| key.token(&Value::Null, &claims(&service, iss, "circleci", "tag-push", &json!({})));
        assert_eq!(outcome(&service, &token(ours)).await, "ok");
        // Every claim is ours but the issuer.
        assert_eq!(outcome(&service, &token(theirs)).await, expected);
    }
}

#[actix_web::test]
async fn depot_speaks_about_github_and_never_for_it() {
    let presets = Presets::start().await;
    // GitHub's claims, GitHub's ids, Depot's signature, in both ways to say so.
    let claims = presets.claims("github/release", &json!({}));
    let forged = presets.key("depot").token(&Value::Null, &claims);
    assert_eq!(outcome(&presets.service, &forged).await, "unknown-key");
    let mut own = claims;
    own["iss"] = json!(preset("depot").url);
    for (name, value) in [("org_id", "org_evil"), ("job_id", "job_1")] {
        own[name] = json!(value);
    }
    let own = presets.key("depot").token(&Value::Null, &own);
    assert_eq!(outcome(&presets.service, &own).await, "no-matching-rule");
    // And a Depot workflow in GitHub's folder is not the one that the rule names.
    let elsewhere = json!({"workflow_ref": "octo-org/widgets/.github/workflows/release.yml@refs/tags/v1.4.0"});
    assert_eq!(tried(&presets, "depot/tag-push", elsewhere).await, "workflow-mismatch");
}

#[actix_web::test]
async fn a_branch_that_is_named_like_a_tag_is_a_branch() {
    let presets = Presets::start().await;
    for (example, overrides) in [
        ("circleci/tag-push", json!({"vcs_ref": "refs/heads/v1.4.0"})),
        ("buildkite/branch-push", json!({"build_branch": "v1.4.0"})),
        ("azure-devops/tag", json!({"rpo_ref": "refs/heads/v1.4.0"})),
        ("forgejo/tag-push", json!({"ref": "refs/heads/v1.4.0", "ref_type": "branch"})),
        ("depot/tag-push", json!({"ref": "refs/heads/refs/tags/v1.4.0", "ref_type": "branch"})),
    ] {
        assert_eq!(tried(&presets, example, overrides).await, "ref-mismatch", "{example}");
        assert_eq!(failed(&presets.service.last_event()), ["tag"], "{example}");
    }
    // Where the provider does not say which it is, a rule cannot ask.
    let faults = presets.faults(&RULES.replace("scm_ref: main", "tag: v1.4.0"));
    assert!(faults.contains("L035: tokens of `codefresh` have no claim `tag`"), "{faults}");
}

#[actix_web::test]
async fn a_subject_that_is_cut_short_cannot_be_named() {
    let presets = Presets::start().await;
    // Tokens have it all the same.
    let sub127 = json!({"sub127": "org:acme:project:936a5312-a3b8-4921-8b3f-2cec8baac574:repo:wid"});
    assert_eq!(tried(&presets, "semaphore/branch-push", sub127).await, "ok");
    let faults = presets.faults(&RULES.replace("      branch: main", "      sub127: org:acme"));
    assert!(faults.contains("L035: tokens of `semaphore` have no claim `sub127`"), "{faults}");
}

#[actix_web::test]
async fn a_token_that_its_job_made_to_last_is_refused() {
    let presets = Presets::start().await;
    let iat = presets.service.clock_seconds();
    for (life, expected) in [(300, "ok"), (301, "lifetime-too-long"), (86_400, "lifetime-too-long")] {
        let outcome = tried(&presets, "buildkite/tag-push", json!({"exp": iat + life})).await;
        assert_eq!(outcome, expected, "{life}");
    }
}

#[actix_web::test]
async fn a_token_lives_as_long_as_its_provider_gives_it() {
    let presets = Presets::start().await;
    let iat = presets.service.clock_seconds();
    // A day, always; and an apply that takes one.
    for example in ["semaphore/branch-push", "hcp-terraform/apply"] {
        for (life, expected) in [(86_400, "ok"), (86_401, "lifetime-too-long")] {
            assert_eq!(tried(&presets, example, json!({"exp": iat + life})).await, expected, "{example} {life}");
        }
    }
}

#[test]
fn an_account_in_another_region_is_the_same_providers() {
    let key = SigningKey::generate(KeyKind::P256).unwrap();
    for (provider, url, when) in [
        ("spacelift", "https://acme.app.us.spacelift.io", "{spaceId: root, callerId: widgets}"),
        (
            "hcp-terraform",
            "https://app.eu.terraform.io",
            "{terraform_organization_id: org-1, terraform_workspace_id: ws-1}",
        ),
    ] {
        let accepting = if provider == "spacelift" { ", accept_fixed_audience: true" } else { "" };
        let issuer =
            |name: &str| format!("  it: {{provider: {name}, url: \"{url}\", jwks_file: keys.json{accepting}}}");
        policy("https://a.example", &issuer(provider), &rule(when), &[key.jwk()]).unwrap();
        let faults = faults_of(&format!("{{provider: generic, url: \"{url}\", jwks_file: keys.json}}"));
        assert!(faults.contains(&format!("use `provider: {provider}`")), "{url}: {faults}");
    }
}

#[test]
fn the_address_that_a_rule_names_is_a_service_accounts() {
    for address in ["sam@example.com", "release@googlegroups.com", "releaser@gserviceaccount.com"] {
        let key = SigningKey::generate(KeyKind::P256).unwrap();
        let issuer = "  it: {provider: google, jwks_file: keys.json}";
        let load = |address: &str| {
            let rule = rule(&format!("{{sub: \"104029292853099978293\", email: {address}}}"));
            policy("https://a.example", issuer, &rule, &[key.jwk()])
        };
        let faults = load(address).unwrap_err();
        assert!(faults.contains("L046") && faults.contains("gserviceaccount.com"), "{address}: {faults}");
        load("releaser@acme-prod.iam.gserviceaccount.com").unwrap();
    }
}

#[actix_web::test]
async fn an_account_at_aws_signs_with_rsa_or_p384_under_names_that_all_accounts_use() {
    let rsa = SigningKey::generate(KeyKind::Rsa2048).unwrap().with_kid("RSA_0");
    let p384 = SigningKey::generate(KeyKind::P384).unwrap().with_kid("EC384_0");
    let mut unnamed = rsa.jwk();
    unnamed.as_object_mut().unwrap().remove("alg");
    let issuer = preset("aws").url;
    let issuers = format!("  it: {{provider: aws, url: \"{issuer}\", jwks_file: keys.json}}");
    let when = "{sub: \"arn:aws:iam::012345678901:role/widgets-release\", aws_account: \"012345678901\"}";
    let service = service(&issuers, &rule(when), &[unnamed, p384.jwk()]).await;
    let job = |overrides: Value| claims(&service, issuer, "aws", "role", &overrides);
    for (key, jti) in [(&rsa, "one"), (&p384, "two")] {
        let token = key.token(&Value::Null, &job(json!({"jti": jti})));
        assert_eq!(outcome(&service, &token).await, "ok", "{jti}");
    }
    // Another account's role of the same name; and the name of one key with the signature of the other.
    let other = rsa.token(&Value::Null, &job(json!({"aws_account": "112345678901"})));
    assert_eq!(outcome(&service, &other).await, "no-matching-rule");
    let crossed = p384.token(&json!({"kid": "RSA_0"}), &job(json!({})));
    assert_ne!(outcome(&service, &crossed).await, "ok");
    // Tags are the caller's own.
    let tag = "{sub: \"arn:aws:iam::012345678901:role/widgets-release\", \"/https:~1~1sts.amazonaws.com~1/principal_tags/team\": release}";
    let faults = policy("https://a.example", &issuers, &rule(tag), &[rsa.jwk()]).unwrap_err();
    assert!(faults.contains("L001: `aws_account` is not pinned") || faults.contains("L035"), "{faults}");
}

#[test]
fn no_looser_preset_may_be_configured_for_a_providers_issuer() {
    let mut owners = BTreeSet::new();
    // Forgejo's preset is for one's own server there, and has a host all the same.
    let urls = PRESETS.iter().map(|preset| preset.url).chain(["https://codeberg.org/api/actions"]);
    for url in urls.filter(|url| url.starts_with("https://")) {
        let Some(owner) = provider::owner(url.split('/').nth(2).unwrap()) else { continue };
        owners.insert(owner.name);
        for looser in ["generic", "jenkins", "forgejo", "kubernetes", "gitlab"].into_iter().filter(|n| *n != owner.name)
        {
            let faults = faults_of(&format!("{{provider: {looser}, url: \"{url}\", jwks_file: keys.json}}"));
            assert!(faults.contains(&format!("use `provider: {}`", owner.name)), "{looser}: {faults}");
        }
    }
    // Whoever has hosts of its own is among them.
    let all: BTreeSet<&str> = provider::ALL.iter().filter(|p| !p.hosts.is_empty()).map(|p| p.name).collect();
    assert_eq!(owners, all);
}

#[test]
fn no_other_spelling_of_a_providers_issuer_makes_a_looser_preset_pass() {
    let github = "this host belongs to the provider `github`";
    for (url, words) in [
        // The issuer of one enterprise, and what is none.
        ("https://token.actions.githubusercontent.com/octo-enterprise", github),
        ("https://token.actions.githubusercontent.com/octo-enterprise/", github),
        ("https://token.actions.githubusercontent.com/a/b", github),
        ("https://token.actions.githubusercontent.com:8443", github),
        ("https://token.actions.acme.ghe.com", github),
        ("https://token.actions.acme.ghe.com/octo-enterprise", github),
        ("https://acme.ghe.com", github),
        ("https://token.actions.githubusercontent.com:443", "L006"),
        ("https://token.actions.acme.ghe.com:443", "L006"),
        ("https://TOKEN.actions.githubusercontent.com", "L006"),
        ("https://token.actions.githubusercontent.com.", "L006"),
        ("https://token.actions.githubusercontent.com/", github),
        ("https://gitlab.com/acme", "this host belongs to the provider `gitlab`"),
        ("https://accounts.google.com:8443", "this host belongs to the provider `google`"),
    ] {
        for tenancy in ["", ", tenancy: single"] {
            let faults = faults_of(&format!("{{provider: generic, url: \"{url}\", jwks_file: keys.json{tenancy}}}"));
            assert!(faults.contains(words), "{url}: {faults}");
        }
    }
}

#[test]
fn a_host_that_many_share_never_has_one_tenant() {
    for url in [
        "https://federation.namespaceapis.com",
        "https://oidc.vercel.com/acme",
        "https://login.microsoftonline.com/0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11/v2.0",
        "https://login.microsoftonline.us/0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11/v2.0",
        "https://login.partner.microsoftonline.cn/0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11/v2.0",
        "https://issuer.enforce.dev",
        "https://scalr.io",
        "https://oidc.modal.com",
        "https://api.pulumi.com/oidc",
        "https://login.app.env0.com/",
        "https://oidc.fly.io/acme",
        "https://oidc.cirrus-ci.com",
        "https://eu-oidc.buddyusercontent.com",
        "https://app.harness.io/ng/api/oidc/account/abc",
    ] {
        let faults = faults_of(&format!("{{provider: generic, url: \"{url}\", tenancy: single}}"));
        assert!(faults.contains("serves many tenants") && faults.contains("remove the line"), "{url}: {faults}");
        // Without that it is an issuer like others, whose rules pin `sub`.
        let key = SigningKey::generate(KeyKind::P256).unwrap();
        let issuer = format!("  it: {{provider: generic, url: \"{url}\", jwks_file: keys.json}}");
        let load = |when: &str| policy("https://a.example", &issuer, &rule(when), &[key.jwk()]);
        assert!(load("{tenant_id: t1}").unwrap_err().contains("L001: `sub` is not pinned"), "{url}");
        load("{sub: tenant-1, tenant_id: t1}").unwrap();
    }
}

#[test]
fn an_issuer_has_the_form_that_its_provider_gives_it() {
    for (provider, url) in [
        ("circleci", "https://oidc.circleci.com/org/a/b"),
        ("circleci", "https://oidc.circleci.com/other/c9035e8a"),
        ("bitbucket", "https://api.bitbucket.org/2.0/workspaces/acme/other"),
        ("azure-devops", "https://vstoken.dev.azure.com"),
        ("semaphore", "https://semaphoreci.com"),
        ("semaphore", "https://a.b.semaphoreci.com"),
        ("spacelift", "https://acme.spacelift.io"),
        ("spacelift", "https://us.app.spacelift.io.evil.example"),
        ("spacelift", "https://a.b.app.us.spacelift.io"),
        ("aws", "https://sts.amazonaws.com"),
        ("depot", "https://depot.dev"),
        ("buildkite", "https://agent.buildkite.com/acme"),
    ] {
        let faults = faults_of(&format!("{{provider: {provider}, url: \"{url}\", jwks_file: keys.json}}"));
        assert!(faults.contains(provider), "{url}: {faults}");
    }
}

#[actix_web::test]
async fn a_braced_uuid_is_written_with_its_braces() {
    let presets = Presets::start().await;
    let bare = RULES.replace("\"{c7d8e9f0-1a2b-4c3d-8e4f-5a6b7c8d9e0f}\"", "c7d8e9f0-1a2b-4c3d-8e4f-5a6b7c8d9e0f");
    assert_ne!(bare, RULES);
    let faults = presets.faults(&bare);
    assert!(faults.contains("`repositoryUuid`") && faults.contains('{'), "{faults}");
    let upper = RULES.replace("{c7d8e9f0-1a2b", "{C7D8E9F0-1A2B");
    assert!(presets.faults(&upper).contains("`repositoryUuid`"));
    // Nor is a token's id without them the one with them.
    let token = json!({"repositoryUuid": "c7d8e9f0-1a2b-4c3d-8e4f-5a6b7c8d9e0f"});
    assert_eq!(tried(&presets, "bitbucket/deployment", token).await, "no-matching-rule");
}

#[actix_web::test]
async fn one_entry_for_all_organisations_believes_those_that_rules_pin() {
    let key = SigningKey::generate(KeyKind::P256).unwrap();
    let at = |template: &str, segment: &str| template.replace("{organization}", segment);
    for (name, example, ours, theirs, pins) in [
        (
            "circleci",
            "tag-push",
            "c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2",
            "11111111-2222-4333-8444-555566667777",
            "org_id: c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2, project_id: 3a2f7b1c-4d5e-4f60-8a7b-9c0d1e2f3a4b, \
             pipeline_definition_id: 0a1b2c3d-4e5f-5061-8273-8495a6b7c8d9, vcs_origin: github.com/acme/widgets",
        ),
        (
            "azure-devops",
            "tag",
            "6e5d4c3b-2a19-4f08-97e6-d5c4b3a29180",
            "11111111-2222-4333-8444-555566667777",
            "org_id: 6e5d4c3b-2a19-4f08-97e6-d5c4b3a29180, prj_id: 1a2b3c4d-5e6f-4708-8192-a3b4c5d6e7f8, def_id: \"17\"",
        ),
    ] {
        let provider = provider::by_name(name).unwrap();
        let [template] = provider.families else { panic!("{name} has one family") };
        let accepting = if provider.fixed_audience.is_some() { ", accept_fixed_audience: true" } else { "" };
        let issuers = format!("  it: {{provider: {name}, url: \"{template}\", jwks_file: keys.json{accepting}}}");
        let pinned = rule(&format!("{{organization: {ours}, {pins}}}"));
        let service = service(&issuers, &pinned, &[key.jwk()]).await;
        for (iss, expected) in [
            (at(template, ours), "ok"),
            // The same key, and every claim but the issuer as the rule wants it.
            (at(template, theirs), "unknown-issuer"),
            (at(template, &ours.to_uppercase()), "unknown-issuer"),
            (at(template, &format!("{ours}/")), "unknown-issuer"),
            (at(template, &format!("{theirs}/../{ours}")), "unknown-issuer"),
            ((*template).to_owned(), "unknown-issuer"),
        ] {
            let mut claims = claims(&service, &iss, name, example, &json!({}));
            if provider.fixed_audience.is_some() {
                claims["aud"] = json!("api://AzureADTokenExchange");
            }
            assert_eq!(outcome(&service, &key.token(&Value::Null, &claims)).await, expected, "{iss}");
        }
        let open = rule(&format!("{{{pins}}}"));
        let faults = policy("https://a.example", &issuers, &open, &[key.jwk()]).unwrap_err();
        assert!(faults.contains("L001: `organization` is not pinned"), "{faults}");
    }
}

#[actix_web::test]
async fn an_audience_that_all_tokens_have_is_accepted_by_name_only() {
    let presets = Presets::start().await;
    for (name, example) in [("azure-devops", "tag"), ("semaphore", "branch-push"), ("spacelift", "tracked-run")] {
        let url = preset(name).url;
        let faults = faults_of(&format!("{{provider: {name}, url: \"{url}\", jwks_file: keys.json}}"));
        assert!(faults.contains("L003") && faults.contains("`accept_fixed_audience: true`"), "{faults}");
        let example = format!("{name}/{example}");
        // Not the registry's own, nor that of another account.
        for audience in [AUDIENCE, "https://evil.semaphoreci.com", "evil.app.spacelift.io", ""] {
            let outcome = tried(&presets, &example, json!({"aud": audience})).await;
            assert_eq!(outcome, "wrong-audience", "{example} {audience}");
        }
        assert_eq!(tried(&presets, &example, json!({})).await, "ok");
    }
    let faults = faults_of("{provider: buildkite, jwks_file: keys.json, accept_fixed_audience: true}");
    assert!(faults.contains("jobs at `buildkite` choose the audience"), "{faults}");
}

#[test]
fn keys_of_a_cluster_whose_name_many_have_come_from_a_file() {
    for url in [
        "https://kubernetes",
        "https://kubernetes.default",
        "https://kubernetes.default.svc",
        "https://kubernetes.default.svc.cluster.local",
        "https://oidc.auth.svc",
    ] {
        let faults = faults_of(&format!("{{provider: kubernetes, url: \"{url}\"}}"));
        assert!(faults.contains("L029") && faults.contains("`jwks_file: keys.json`"), "{url}: {faults}");
        let key = SigningKey::generate(KeyKind::P256).unwrap();
        let issuer = format!("  it: {{provider: kubernetes, url: \"{url}\", jwks_file: keys.json}}");
        let account =
            rule("{sub: \"system:serviceaccount:a:b\", serviceaccount_uid: 2c3d4e5f-6071-4829-a3b4-c5d6e7f80912}");
        policy("https://a.example", &issuer, &account, &[key.jwk()]).unwrap();
    }
}

#[test]
fn keys_of_a_trust_domain_come_from_a_file() {
    let faults = faults_of("{provider: spiffe, url: \"spiffe://acme.example\"}");
    assert!(faults.contains("bundle") && faults.contains("`jwks_file: keys.json`"), "{faults}");
    for url in ["spiffe://acme.example/ns/release", "spiffe://ACME.example", "spiffe://", "spiffe://acme.example:8443"]
    {
        assert!(
            faults_of(&format!("{{provider: spiffe, url: \"{url}\", jwks_file: keys.json}}")).contains("L006"),
            "{url}"
        );
    }
    // Only this preset knows trust domains.
    let faults = faults_of("{provider: jenkins, url: \"spiffe://acme.example\", jwks_file: keys.json}");
    assert!(faults.contains("L006"), "{faults}");
}

#[actix_web::test]
async fn a_job_that_has_not_asked_for_its_ids_is_told_how() {
    let presets = Presets::start().await;
    let plain = json!({"organization_id": null, "pipeline_id": null});
    let answer = presets.exchange("buildkite/tag-push", &plain).await;
    assert_eq!((answer.status, answer.code()), (422, "missing-claim"), "{}", answer.text);
    let message = answer.body["message"].as_str().unwrap();
    assert!(
        message.contains("`organization_id`") && message.contains("--claim organization_id,pipeline_id"),
        "{message}"
    );
}

#[actix_web::test]
async fn a_token_of_a_workload_that_names_no_issuer_is_its_trust_domains() {
    let presets = Presets::start().await;
    let unnamed = |sub: &str| json!({"iss": null, "sub": sub});
    let ours = "spiffe://acme.example/ns/release/sa/publisher";
    assert_eq!(tried(&presets, "spiffe/workload", unnamed(ours)).await, "ok");
    for (sub, expected) in [
        // Another workload, or a path below this one, is not the one that the rule names.
        ("spiffe://acme.example/ns/release/sa/other", "no-matching-rule"),
        ("spiffe://acme.example/ns/release/sa/publisher/x", "no-matching-rule"),
        // Another trust domain has other keys, whoever signed.
        ("spiffe://evil.example/ns/release/sa/publisher", "unknown-issuer"),
        ("spiffe://acme.example.evil.example/ns/release/sa/publisher", "unknown-issuer"),
        ("spiffe://identity.depot.dev/org/org_7k2m9p4q", "unknown-issuer"),
        ("system:serviceaccount:release:publisher", "missing-claim"),
    ] {
        assert_eq!(tried(&presets, "spiffe/workload", unnamed(sub)).await, expected, "{sub}");
    }
    // Nor may another issuer's key sign for the trust domain.
    let claims = presets.claims("spiffe/workload", &unnamed(ours));
    let forged = presets.key("jenkins").token(&Value::Null, &claims);
    assert_eq!(outcome(&presets.service, &forged).await, "unknown-key");
    // A token of another provider that leaves its issuer out has none.
    assert_eq!(tried(&presets, "github/release", json!({"iss": null})).await, "missing-claim");
}
