//! A registry of any dialect.

use serde_json::Value;
use serde_json::json;

use super::Service;
use super::service::Answer;
use super::service::WIDGETS;
use super::service::policy;
use super::service::policy_text;

/// A service whose registry speaks that dialect at that path of this host. The job of [`Service::id_token`] may upload these
/// packages. `members` are further lines of the registry.
pub async fn speaking(dialect: &str, path: &str, packages: &str, members: &[&str]) -> Service {
    Service::with_policy(|base, issuer| policy(&text(base, issuer, dialect, path, packages, members))).await
}

/// The policy of that service.
pub fn text(base: &str, issuer: &str, dialect: &str, path: &str, packages: &str, members: &[&str]) -> String {
    let rules = WIDGETS.replace("upload: [widgets]", &format!("upload: [{packages}]"));
    let rules = rules.replace("      create: [\"widgets-*\"]\n", "");
    let members: String = members.iter().flat_map(|member| ["\n    ", *member]).collect();
    policy_text(base, issuer, &rules)
        .replace("dialect: pypi", &format!("dialect: {dialect}{members}"))
        .replace("\n    audiences: [acme]", "")
        .replace("/legacy/", path)
}

/// The host of the service, with its port.
pub fn host(service: &Service) -> &str {
    service.base.strip_prefix("https://").unwrap()
}

/// What verification says of an upload of that package.
pub async fn verdict(service: &Service, token: &Value, package: &str) -> String {
    let answer = service.verify(&json!({"token": token, "package": package, "exists": true})).await;
    if answer.body["allowed"] == true { "allowed".to_owned() } else { answer.code().to_owned() }
}

/// Fails unless the answer is a refusal with that status and code, whose message stands wherever a client reads it.
#[track_caller]
pub fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.code()), (status, code), "{}", answer.text);
    let message = &answer.body["message"];
    assert!(message.as_str().is_some_and(|message| !message.is_empty()), "{}", answer.text);
    assert_eq!(&answer.body["error"], message);
    assert_eq!(&answer.body["body"]["message"], message);
    assert_eq!(&answer.body["errors"][0]["detail"], message);
    assert_eq!(&answer.body["errors"][0]["description"], message);
    assert_eq!(answer.body["errors"][0]["code"], code);
    assert_eq!(answer.body["errors"].as_array().unwrap().len(), 1);
}
