//! The issuers of every preset at their real URLs, with keys of our own in place of theirs.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::provider;
use trustmint::json::Json;
use trustmint::policy::Policy;
use trustmint::policy::Source;

use super::Service;
use super::service::AUDIENCE;
use super::service::object;
use super::service::policy_of;

/// Preset, its issuer's URL, and the example that the rules of [`RULES`] are about.
pub const PRESETS: [(&str, &str, &str); 5] = [
    ("github", "https://token.actions.githubusercontent.com", "release"),
    ("gitlab", "https://gitlab.com", "tag-push"),
    ("google", "https://accounts.google.com", "service-account"),
    ("activestate", "https://platform.activestate.com/api/v1/oauth/oidc", "build"),
    ("generic", "https://jenkins.acme.example", "job"),
];

/// A rule for the example of each preset, with every mandatory pin. Only the issuer `generic` has one tenant.
pub const RULES: &str = r#"
  github-rule:
    registry: acme-pypi
    issuer: github
    when:
      repository_owner_id: "9123456"
      repository_id: "701234567"
      repository: octo-org/widgets
      workflow_file: release.yml
      environment: release
      tag: {glob: "v*"}
    allow: {upload: [widgets]}
  gitlab-rule:
    registry: acme-pypi
    issuer: gitlab
    when:
      namespace_id: "7211"
      project_id: "53804090"
      project_path: acme/tools/widgets
      ci_config_file: .gitlab-ci.yml
    allow: {upload: [widgets]}
  google-rule:
    registry: acme-pypi
    issuer: google
    when: {sub: "104029292853099978293", email: releaser@acme-prod.iam.gserviceaccount.com}
    allow: {upload: [widgets]}
  activestate-rule:
    registry: acme-pypi
    issuer: activestate
    when:
      organization_id: 0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11
      project_id: 7b2c4d5e-1f60-4a8b-8c9d-2e3f4a5b6c7d
      actor_id: c1d2e3f4-0516-4728-93a4-b5c6d7e8f901
      builder: pypi-publisher
    allow: {upload: [widgets]}
  generic-rule:
    registry: acme-pypi
    issuer: generic
    when: {team: release, build: 7}
    allow: {upload: [widgets]}
"#;

/// A service that believes each of these issuers by a key set in its policy directory.
pub struct Presets {
    pub service: Service,
    keys: BTreeMap<&'static str, SigningKey>,
}

impl Presets {
    /// With the rules [`RULES`].
    pub async fn start() -> Self {
        let fresh = |(preset, ..): (&'static str, _, _)| (preset, SigningKey::generate(KeyKind::Rsa2048).unwrap());
        Self::with_keys(PRESETS.map(fresh)).await
    }

    /// The same where these presets sign with these keys.
    pub async fn with_keys(keys: impl IntoIterator<Item = (&'static str, SigningKey)>) -> Self {
        let keys: BTreeMap<_, _> = keys.into_iter().collect();
        let service = Service::with_policy(|base, _| policy(base, &keys, RULES)).await;
        Self { service, keys }
    }

    /// Puts other rules in force.
    pub fn activate(&self, rules: &str) {
        self.service.app.activate(policy(&self.service.base, &self.keys, rules));
    }

    /// The key that a preset's issuer signs with.
    pub fn key(&self, preset: &str) -> &SigningKey {
        &self.keys[preset]
    }

    /// A token of an example's job, `github/release`, with other claims put over it; `null` removes one.
    pub fn token(&self, example: &str, overrides: &Value) -> String {
        let preset = example.split('/').next().unwrap();
        self.key(preset).token(&Value::Null, &self.claims(example, overrides))
    }

    /// The claims of such a token, with the times that its provider gives.
    pub fn claims(&self, example: &str, overrides: &Value) -> Value {
        let (preset, name) = example.split_once('/').unwrap();
        let (_, issuer, _) = PRESETS.into_iter().find(|(known, ..)| *known == preset).unwrap();
        let example = provider::by_name(preset).unwrap().example(name).unwrap();
        let mut claims = serde_json::to_value(Json::Object((example.claims)(&object(overrides)))).unwrap();
        let now = self.service.clock_seconds();
        let (before, life) = match preset {
            "github" => (Some(300), 300),
            "gitlab" => (Some(5), 3600),
            _ => (None, 3600),
        };
        let jti = (preset != "google")
            .then(|| self.service.provider.claims(&json!({}), AUDIENCE, self.service.app.now())["jti"].take());
        let common = [
            ("iss", json!(issuer)),
            ("aud", json!(AUDIENCE)),
            ("iat", json!(now)),
            ("exp", json!(now + life)),
            ("nbf", before.map_or(Value::Null, |before| json!(now - before))),
            ("jti", jti.unwrap_or_default()),
        ];
        let members = claims.as_object_mut().unwrap();
        for (name, value) in
            common.into_iter().filter(|(name, value)| !value.is_null() && overrides.get(name).is_none())
        {
            members.insert(name.to_owned(), value);
        }
        claims
    }
}

fn policy(base: &str, keys: &BTreeMap<&'static str, SigningKey>, rules: &str) -> Policy {
    let issuers: Vec<String> = PRESETS
        .iter()
        .map(|(preset, url, _)| {
            let tenancy = if *preset == "generic" { ", tenancy: single" } else { "" };
            format!("  {preset}: {{provider: {preset}, url: \"{url}\", jwks_file: {preset}.json{tenancy}}}")
        })
        .collect();
    let text = policy_of(base, &issuers.join("\n"), rules);
    let document = |_: &str, name: &str| {
        let key = keys.get(name.strip_suffix(".json")?)?;
        Some(json!({"keys": [key.jwk()]}).to_string().into_bytes())
    };
    let source = Source { name: "policy.yaml".into(), text };
    Policy::load(&[source], &document).unwrap_or_else(|faults| panic!("{faults}"))
}
