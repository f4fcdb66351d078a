//! A registry of any ecosystem: package names are those that its clients take for one package, from the rule to the
//! question about an upload.

use serde_json::json;

use crate::support::Service;
use crate::support::service::Answer;
use crate::support::service::WIDGETS;
use crate::support::service::policy;
use crate::support::service::policy_text;

/// A service whose one registry has that ecosystem and grants these packages.
async fn service(ecosystem: &str, packages: &str) -> Service {
    let rules = WIDGETS.replace("upload: [widgets]", &format!("upload: [{packages}]"));
    let rules = rules.replace("      create: [\"widgets-*\"]\n", "");
    let dialect = format!("dialect: generic\n    ecosystem: {ecosystem}");
    Service::with_policy(|base, issuer| {
        policy(&policy_text(base, issuer, &rules).replace("dialect: pypi", &dialect).replace("/legacy/", "/files/"))
    })
    .await
}

/// An upload token for that scope, or for all that is granted.
async fn exchange(service: &Service, scope: Option<&str>) -> Answer {
    service.exchange(&service.id_token(&json!({})), &json!({"scope": scope})).await
}

async fn may_upload(service: &Service, token: &str, package: &str) -> bool {
    let answer = service.verify(&json!({"token": token, "package": package, "exists": true})).await;
    answer.status == 200 && answer.body["allowed"] == true
}

#[actix_web::test]
async fn a_token_is_good_for_every_spelling_of_its_packages_and_for_no_neighbour() {
    for (ecosystem, granted, asked, inside, outside) in [
        ("npm", "\"@acme/*\"", "upload:@acme/widgets", &["@acme/widgets"][..], &["@acme/Widgets", "@acme/gadgets"][..]),
        ("cargo", "acme_core", "upload:Acme-Core", &["acme-core", "acme_core", "ACME_core"], &["acme--core", "acme"]),
        ("rubygems", "RedCloth", "upload:RedCloth", &["RedCloth"], &["redcloth", "Red-Cloth"]),
        (
            "nuget",
            "\"Acme.*\"",
            "upload:acme.widgets",
            &["Acme.Widgets", "ACME.WIDGETS"],
            &["AcmeWidgets", "Acme.Core"],
        ),
        ("conda", "\"acme-*\"", "upload:acme-core", &["acme-core", "Acme-Core"], &["acme_core", "acme.core"]),
        ("open-vsx", "\"Acme.*\"", "upload:Acme.tools", &["acme.tools", "ACME.Tools"], &["acmetools.x", "acme.other"]),
        ("pypi", "Acme.Core", "upload:acme_core", &["acme-core", "acme..core"], &["acmecore"]),
        ("generic", "Acme/core", "upload:Acme/core", &["Acme/core"], &["acme/core", "Acme/Core"]),
    ] {
        let service = service(ecosystem, granted).await;
        let answer = exchange(&service, Some(asked)).await;
        assert_eq!(answer.status, 200, "{ecosystem}: {}", answer.text);
        let token = answer.body["access_token"].as_str().unwrap();
        for package in inside {
            assert!(may_upload(&service, token, package).await, "{ecosystem}: {package}");
        }
        for package in outside {
            assert!(!may_upload(&service, token, package).await, "{ecosystem}: {package}");
        }
    }
}

#[actix_web::test]
async fn what_is_not_a_name_there_is_neither_granted_nor_answered() {
    let service = service("npm", "\"@acme/*\"").await;
    for package in ["@acme-evil/x", "acme", "@acme/Widgets", "@acme/", "@acme/../x", "@acme/x/y", "@acme/_x"] {
        let answer = exchange(&service, Some(&format!("upload:{package}"))).await;
        assert_ne!(answer.status, 200, "{package}: {}", answer.text);
    }
    let answer = exchange(&service, None).await;
    let token = answer.body["access_token"].as_str().unwrap();
    assert!(may_upload(&service, token, "@acme/anything").await);
    assert!(!may_upload(&service, token, "@acme-evil/x").await);
    let answer = service.verify(&json!({"token": token, "package": "@acme/Widgets", "exists": true})).await;
    assert_ne!(answer.body["allowed"], true, "{}", answer.text);
}
