//! Attacks on an issuer's name, and on the clock that its tokens are dated by (B01, B02, B13, B15, B17), at the front
//! door. `iss` is compared, byte by byte, before anything is asked of anybody.
//!
//! Entra's `issuer` member of a key (B13) is not read: no preset serves an issuer whose tenants share one URL.

use std::time::Duration;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::issuer::IssuerUrl;
use trustmint::policy::Policy;
use trustmint::policy::Source;

use crate::support::Hostile;
use crate::support::Service;
use crate::support::service::AUDIENCE;
use crate::support::service::policy_of;

/// B01.
#[actix_web::test]
async fn an_issuer_that_is_not_configured_is_never_contacted() {
    let hostile = Hostile::start().await;
    let there = hostile.canary.url("");
    for iss in [
        there.as_str(),
        &format!("{there}/"),
        &format!("{there}/.well-known/openid-configuration"),
        &there.replace("http:", "https:"),
        "http://169.254.169.254/latest/meta-data",
        "https://evil.example",
        "https://token.actions.githubusercontent.com",
        "file:///etc/passwd",
        "spiffe://evil.example",
        "",
    ] {
        hostile.refuses(hostile.with_claims(&json!({"iss": iss}), &[]), "unknown-issuer").await;
    }
    let svid = json!({"sub": "spiffe://evil.example/ci", "aud": ["acme"], "exp": hostile.service.clock_seconds() + 60});
    hostile.refuses(hostile.service.provider.mint_with(&json!({"typ": "JOSE"}), &svid), "unknown-issuer").await;
    hostile.unharmed().await;
}

/// B02.
#[actix_web::test]
async fn an_issuer_that_contains_resembles_or_extends_ours_is_another() {
    let hostile = Hostile::start().await;
    let known = hostile.service.provider.issuer().to_owned();
    let host = known.strip_prefix("http://").unwrap();
    let (there, address) = (hostile.canary.url(""), hostile.canary.address());
    for iss in [
        format!("{there}?{known}/*"),
        format!("{there}#{known}"),
        format!("{there}/{known}"),
        format!("http://{host}@{address}"),
        format!("http://{host}.{address}"),
        format!("{known}@{address}"),
        format!("{known}/"),
        format!("{known}/."),
        format!("{known}/org/../x"),
        format!("{known}/*"),
        format!("{known}?"),
        format!("{known} "),
        format!(" {known}"),
        format!("{known}\n"),
        known.replace("http:", "https:"),
        known.replace("127.0.0.1", "localhost"),
        known.replace("127.0.0.1", "2130706433"),
        known.replace("127.0.0.1", "[::ffff:127.0.0.1]"),
    ] {
        hostile.refuses(hostile.with_claims(&json!({"iss": iss}), &[]), "unknown-issuer").await;
    }
    hostile.unharmed().await;
    // Nor can an operator configure what could be read as another place.
    for url in [
        "https://gitlab.com@evil.example",
        "https://ci.example/org/../x",
        "https://ci.example/org/%2e%2e/x",
        "https://ci.example\\@evil.example",
        "https://ci.example?x",
        "http://ci.example",
    ] {
        assert!(IssuerUrl::parse(url).is_err(), "{url}");
    }
}

/// B13.
#[actix_web::test]
async fn a_key_that_tenants_share_does_not_make_one_the_other() {
    // Two organisations of one provider, which signs for every customer with one key.
    let key = SigningKey::generate(KeyKind::P256).unwrap();
    let set = json!({"keys": [key.jwk()]}).to_string().into_bytes();
    let organisation = |name: &str| {
        format!(
            "  {name}: {{provider: generic, url: \"https://ci.example/{name}\", jwks_file: keys.json, tenancy: single}}"
        )
    };
    let rule = "
  rule:
    registry: acme-pypi
    issuer: ours
    when: {team: release}
    allow: {upload: [widgets]}
";
    let service = Service::with_policy(|base, _| {
        let text = policy_of(base, &format!("{}\n{}", organisation("ours"), organisation("theirs")), rule);
        Policy::load(&[Source { name: "policy.yaml".into(), text }], &|_, _| Some(set.clone())).unwrap()
    })
    .await;
    let now = service.clock_seconds();
    for (iss, code) in [
        ("https://ci.example/theirs", "no-matching-rule"),
        ("https://ci.example/another", "unknown-issuer"),
        ("https://ci.example", "unknown-issuer"),
        ("https://ci.example/ours", ""),
    ] {
        let claims =
            json!({"iss": iss, "aud": AUDIENCE, "sub": "job", "team": "release", "iat": now, "exp": now + 300});
        let answer = service.mint(&json!({"token": key.token(&Value::Null, &claims)})).await;
        assert_eq!(answer.code(), code, "{iss}: {}", answer.text);
    }
}

/// B15.
#[actix_web::test]
async fn letters_that_look_alike_or_fold_together_are_other_letters() {
    let hostile = Hostile::start().await;
    let known = hostile.service.provider.issuer();
    for iss in [
        known.to_uppercase(),
        known.replace('1', "\u{ff11}"),
        known.replace('.', "\u{3002}"),
        known.replace('h', "\u{ff48}"),
        format!("{known}\u{200b}"),
        "https://to\u{212a}en.actions.githubusercontent.com".to_owned(),
        "https://g\u{130}tlab.com".to_owned(),
    ] {
        hostile.refuses(hostile.with_claims(&json!({"iss": iss}), &[]), "unknown-issuer").await;
    }
    for repository in ["ACME/widgets", "\u{430}cme/widgets", "acme/widget\u{17f}"] {
        let token = hostile.service.id_token(&json!({"repository": repository}));
        let answer = hostile.service.mint(&json!({ "token": token })).await;
        // GitHub's names are one in any case of ASCII letters, and in no other.
        assert_eq!(answer.status == 200, repository.is_ascii(), "{repository}: {}", answer.text);
    }
    hostile.unharmed().await;
    for url in [
        "https://to\u{212a}en.actions.githubusercontent.com",
        "https://g\u{130}tlab.com",
        "https://gitlab.com.",
        "https://GITLAB.com",
    ] {
        assert!(IssuerUrl::parse(url).is_err(), "{url}");
    }
}

/// B17.
#[actix_web::test]
async fn a_clock_that_is_wrong_on_either_side_does_not_stretch_a_tokens_life() {
    let hostile = Hostile::start().await;
    // So that the store's memory goes back further than the tokens below.
    hostile.service.pass(Duration::from_secs(600)).await;
    let now = hostile.service.clock_seconds();
    for (claims, without, code) in [
        (json!({"iat": now + 31}), &[][..], "token-not-yet-valid"),
        (json!({"nbf": now + 31}), &[], "token-not-yet-valid"),
        (json!({"exp": now - 30}), &[], "token-expired"),
        (json!({"iat": now - 330, "exp": now - 31}), &[], "token-expired"),
        (json!({"exp": now + 86_400}), &[], "lifetime-too-long"),
        (json!({"iat": now - 86_400}), &[], "lifetime-too-long"),
        (json!({"iat": now, "exp": now}), &[], "claim-type"),
        (json!({}), &["iat"], "missing-claim"),
        (json!({}), &["exp"], "missing-claim"),
    ] {
        hostile.refuses(hostile.with_claims(&claims, without), code).await;
    }
    // At the edge of what clocks may differ, and without the claim that not every provider sends.
    for (claims, without) in [
        (json!({"iat": now + 30, "exp": now + 300}), &[][..]),
        (json!({"nbf": now + 30}), &[]),
        (json!({"iat": now - 300, "exp": now - 29}), &[]),
        (json!({}), &["nbf"]),
    ] {
        let token = hostile.with_claims(&claims, without);
        let answer = hostile.service.mint(&json!({ "token": token })).await;
        assert_eq!(answer.status, 200, "{claims}: {}", answer.text);
    }
    hostile.unharmed().await;
}
