//! The issuers of every preset at their real URLs, with keys of our own in place of theirs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

use serde_json::Value;
use serde_json::json;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::provider;
use trustmint::json::Json;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::policy::yaml::Faults;

use super::Service;
use super::service::AUDIENCE;
use super::service::object;
use super::service::policy_of;

/// A preset, one issuer of its kind, and what its tokens look like beside the claims.
pub struct Preset {
    pub name: &'static str,
    pub url: &'static str,
    /// The example that the rules of [`RULES`] are about.
    pub example: &'static str,
    /// Further keys of the issuer in the policy.
    more: &'static str,
    /// How long before `iat` a token's `nbf` is, if it has one.
    before: Option<i64>,
    /// `exp − iat`.
    life: i64,
    has_jti: bool,
    audience: Audience,
}

enum Audience {
    /// What the job asks for.
    Text,
    /// The same in a list of one.
    List,
    /// Always this.
    Fixed(&'static str),
}

const USUAL: Preset = Preset {
    name: "",
    url: "",
    example: "",
    more: "",
    before: None,
    life: 3600,
    has_jti: true,
    audience: Audience::Text,
};

pub const PRESETS: [Preset; 19] = [
    Preset {
        name: "github",
        url: "https://token.actions.githubusercontent.com",
        example: "release",
        before: Some(300),
        life: 300,
        ..USUAL
    },
    Preset { name: "gitlab", url: "https://gitlab.com", example: "tag-push", before: Some(5), ..USUAL },
    Preset { name: "google", url: "https://accounts.google.com", example: "service-account", has_jti: false, ..USUAL },
    Preset {
        name: "activestate",
        url: "https://platform.activestate.com/api/v1/oauth/oidc",
        example: "build",
        ..USUAL
    },
    Preset {
        name: "circleci",
        url: "https://oidc.circleci.com/org/c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2",
        example: "tag-push",
        has_jti: false,
        ..USUAL
    },
    Preset {
        name: "buildkite",
        url: "https://agent.buildkite.com",
        example: "tag-push",
        before: Some(0),
        life: 300,
        ..USUAL
    },
    Preset {
        name: "bitbucket",
        url: "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
        example: "deployment",
        audience: Audience::List,
        ..USUAL
    },
    Preset {
        name: "azure-devops",
        url: "https://vstoken.dev.azure.com/6e5d4c3b-2a19-4f08-97e6-d5c4b3a29180",
        example: "tag",
        more: ", accept_fixed_audience: true",
        before: Some(600),
        life: 299,
        audience: Audience::Fixed("api://AzureADTokenExchange"),
        ..USUAL
    },
    Preset { name: "codefresh", url: "https://oidc.codefresh.io", example: "push", life: 300, has_jti: false, ..USUAL },
    Preset {
        name: "semaphore",
        url: "https://acme.semaphoreci.com",
        example: "branch-push",
        more: ", accept_fixed_audience: true",
        before: Some(0),
        audience: Audience::Fixed("https://acme.semaphoreci.com"),
        ..USUAL
    },
    Preset {
        name: "jenkins",
        url: "https://ci.acme.example/oidc",
        example: "job",
        has_jti: false,
        audience: Audience::List,
        ..USUAL
    },
    Preset {
        name: "hcp-terraform",
        url: "https://app.terraform.io",
        example: "apply",
        before: Some(5),
        life: 7200,
        ..USUAL
    },
    Preset {
        name: "spacelift",
        url: "https://acme.app.spacelift.io",
        example: "tracked-run",
        more: ", accept_fixed_audience: true",
        before: Some(0),
        audience: Audience::Fixed("acme.app.spacelift.io"),
        ..USUAL
    },
    Preset {
        name: "forgejo",
        url: "https://git.acme.example/api/actions",
        example: "tag-push",
        before: Some(0),
        has_jti: false,
        ..USUAL
    },
    Preset {
        name: "depot",
        url: "https://identity.depot.dev",
        example: "tag-push",
        life: 300,
        audience: Audience::List,
        ..USUAL
    },
    Preset {
        name: "kubernetes",
        url: "https://oidc.eks.eu-west-1.amazonaws.com/id/A1B2C3D4E5F60718293A4B5C6D7E8F90",
        example: "pod",
        before: Some(0),
        audience: Audience::List,
        ..USUAL
    },
    Preset {
        name: "spiffe",
        url: "spiffe://acme.example",
        example: "workload",
        life: 300,
        has_jti: false,
        audience: Audience::List,
        ..USUAL
    },
    Preset {
        name: "aws",
        url: "https://3f1e2d4c-5b6a-4978-8c9d-0e1f2a3b4c5d.tokens.sts.global.api.aws",
        example: "role",
        life: 300,
        ..USUAL
    },
    Preset { name: "generic", url: "https://jenkins.acme.example", example: "job", more: ", tenancy: single", ..USUAL },
];

/// That preset.
pub fn preset(name: &str) -> Preset {
    PRESETS.into_iter().find(|preset| preset.name == name).unwrap()
}

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
  circleci-rule:
    registry: acme-pypi
    issuer: circleci
    when:
      org_id: c9035e8a-1f6d-4b0e-9c2a-7d8e9fa0b1c2
      project_id: 3a2f7b1c-4d5e-4f60-8a7b-9c0d1e2f3a4b
      pipeline_definition_id: 0a1b2c3d-4e5f-5061-8273-8495a6b7c8d9
      vcs_origin: github.com/acme/widgets
      tag: {glob: "v*"}
    allow: {upload: [widgets]}
  buildkite-rule:
    registry: acme-pypi
    issuer: buildkite
    when:
      organization_id: f02d6a6f-7a0e-481d-9d6d-89b427aec48d
      pipeline_id: 01820b2c-3b1a-4d7f-8c2e-5a6b7c8d9e0f
      tag: {glob: "v*"}
    allow: {upload: [widgets]}
  bitbucket-rule:
    registry: acme-pypi
    issuer: bitbucket
    when:
      workspaceUuid: "{5f0c8a7e-2d3b-4c1a-9e8f-7a6b5c4d3e2f}"
      repositoryUuid: "{c7d8e9f0-1a2b-4c3d-8e4f-5a6b7c8d9e0f}"
      deploymentEnvironmentUuid: "{b1a2c3d4-e5f6-4708-91a2-b3c4d5e6f708}"
    allow: {upload: [widgets]}
  azure-devops-rule:
    registry: acme-pypi
    issuer: azure-devops
    when:
      org_id: 6e5d4c3b-2a19-4f08-97e6-d5c4b3a29180
      prj_id: 1a2b3c4d-5e6f-4708-8192-a3b4c5d6e7f8
      def_id: "17"
      tag: {glob: "v*"}
    allow: {upload: [widgets]}
  codefresh-rule:
    registry: acme-pypi
    issuer: codefresh
    when:
      account_id: 628a80b693a15c0f9c13ab75
      pipeline_id: 65e6d5551e47e5bc243ca93f
      scm_repo_url: https://github.com/acme/widgets
      scm_ref: main
    allow: {upload: [widgets]}
  semaphore-rule:
    registry: acme-pypi
    issuer: semaphore
    when:
      org_id: 4d5e6f70-8192-4a3b-8c4d-5e6f708192a3
      prj_id: 936a5312-a3b8-4921-8b3f-2cec8baac574
      branch: main
    allow: {upload: [widgets]}
  jenkins-rule:
    registry: acme-pypi
    issuer: jenkins
    when: {sub: "https://jenkins.acme.example/job/widgets/job/release/", build_number: {present: true}}
    allow: {upload: [widgets]}
  hcp-terraform-rule:
    registry: acme-pypi
    issuer: hcp-terraform
    when:
      terraform_organization_id: org-GRNbCjYNpBB6NEBa
      terraform_workspace_id: ws-mbsd5E3Ktt5Rg2Xm
      sub: "organization:acme:project:Default Project:workspace:widgets-release:run_phase:apply"
    allow: {upload: [widgets]}
  spacelift-rule:
    registry: acme-pypi
    issuer: spacelift
    when: {spaceId: release-01HZX8K3Q5W7R9T1Y2V4B6N8M0, callerId: widgets-release}
    allow: {upload: [widgets]}
  forgejo-rule:
    registry: acme-pypi
    issuer: forgejo
    when: {repository_owner_id: "815", repository_id: "4711", workflow_file: release.yml, tag: {glob: "v*"}}
    allow: {upload: [widgets]}
  depot-rule:
    registry: acme-pypi
    issuer: depot
    when:
      org_id: org_7k2m9p4q
      repository_owner_id: "9123456"
      repository_id: "701234567"
      workflow_file: release.yml
      tag: {glob: "v*"}
    allow: {upload: [widgets]}
  kubernetes-rule:
    registry: acme-pypi
    issuer: kubernetes
    when:
      sub: system:serviceaccount:release:publisher
      serviceaccount_uid: 2c3d4e5f-6071-4829-a3b4-c5d6e7f80912
      namespace: release
    allow: {upload: [widgets]}
  spiffe-rule:
    registry: acme-pypi
    issuer: spiffe
    when: {sub: "spiffe://acme.example/ns/release/sa/publisher"}
    allow: {upload: [widgets]}
  aws-rule:
    registry: acme-pypi
    issuer: aws
    when: {sub: "arn:aws:iam::012345678901:role/widgets-release", aws_account: "012345678901", org_id: o-a1b2c3d4e5}
    allow: {upload: [widgets]}
  generic-rule:
    registry: acme-pypi
    issuer: generic
    when: {team: release, build: 7}
    allow: {upload: [widgets]}
"#;

/// Keys of the issuers, made once for all tests: RSA takes a moment.
static KEYS: LazyLock<BTreeMap<&str, Arc<SigningKey>>> = LazyLock::new(|| {
    let fresh = |name: &'static str| (name, Arc::new(SigningKey::generate(KeyKind::Rsa2048).unwrap()));
    PRESETS.map(|preset| fresh(preset.name)).into()
});

/// A service that believes each of these issuers by a key set in its policy directory.
pub struct Presets {
    pub service: Service,
    keys: BTreeMap<&'static str, Arc<SigningKey>>,
}

impl Presets {
    /// With the rules [`RULES`].
    pub async fn start() -> Self {
        Self::with_keys([]).await
    }

    /// The same where these presets sign with these keys.
    pub async fn with_keys(others: impl IntoIterator<Item = (&'static str, SigningKey)>) -> Self {
        let mut keys = KEYS.clone();
        keys.extend(others.into_iter().map(|(name, key)| (name, Arc::new(key))));
        let service = Service::with_policy(|base, _| policy(base, &keys, RULES)).await;
        Self { service, keys }
    }

    /// With a registry of any ecosystem that gives a job's one token a use for each package, three of which each rule
    /// grants.
    pub async fn publishing_workspaces() -> Self {
        let keys = KEYS.clone();
        let rules = RULES.replace("{upload: [widgets]}", "{upload: [widgets, widgets/core, widgets/cli]}");
        let service = Service::with_policy(|base, _| {
            let text = policy_text(base, &rules).replace("dialect: pypi", "dialect: generic");
            let text = text.replace("    callers:", "    replay: once-per-package\n    callers:");
            let text = text.replace("accept_fixed_audience: true", "accept_fixed_audience: true, replay: once");
            loaded(text, &keys).unwrap_or_else(|faults| panic!("{faults}"))
        })
        .await;
        Self { service, keys }
    }

    /// Puts other rules in force.
    pub fn activate(&self, rules: &str) {
        self.service.app.activate(policy(&self.service.base, &self.keys, rules));
    }

    /// What is said about other rules, which must be refused.
    pub fn faults(&self, rules: &str) -> String {
        load(&self.service.base, &self.keys, rules).unwrap_err().to_string()
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
        let (name, example) = example.split_once('/').unwrap();
        let preset = preset(name);
        let example = provider::by_name(name).unwrap().example(example).unwrap();
        let mut claims = serde_json::to_value(Json::Object((example.claims)(&object(overrides)))).unwrap();
        let now = self.service.clock_seconds();
        let jti = self.service.provider.claims(&json!({}), AUDIENCE, self.service.app.now())["jti"].take();
        let audience = match preset.audience {
            Audience::Text => json!(AUDIENCE),
            Audience::List => json!([AUDIENCE]),
            Audience::Fixed(audience) => json!(audience),
        };
        let common = [
            ("iss", json!(preset.url)),
            ("aud", audience),
            ("iat", json!(now)),
            ("exp", json!(now + preset.life)),
            ("nbf", preset.before.map_or(Value::Null, |before| json!(now - before))),
            ("jti", if preset.has_jti { jti } else { Value::Null }),
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

/// The policy of all issuers, with the rules [`RULES`].
pub fn policy_of_all() -> Policy {
    policy("https://pypi.acme.example", &KEYS, RULES)
}

fn policy(base: &str, keys: &BTreeMap<&'static str, Arc<SigningKey>>, rules: &str) -> Policy {
    load(base, keys, rules).unwrap_or_else(|faults| panic!("{faults}"))
}

fn load(base: &str, keys: &BTreeMap<&'static str, Arc<SigningKey>>, rules: &str) -> Result<Policy, Faults> {
    loaded(policy_text(base, rules), keys)
}

/// The policy file of all presets' issuers, with these rules.
fn policy_text(base: &str, rules: &str) -> String {
    let issuers = PRESETS.map(|Preset { name, url, more, .. }| {
        format!("  {name}: {{provider: {name}, url: \"{url}\", jwks_file: {name}.json{more}}}")
    });
    policy_of(base, &issuers.join("\n"), rules)
}

fn loaded(text: String, keys: &BTreeMap<&'static str, Arc<SigningKey>>) -> Result<Policy, Faults> {
    let document = |_: &str, name: &str| {
        let key = keys.get(name.strip_suffix(".json")?)?;
        let mut jwk = key.jwk();
        if name == "spiffe.json" {
            jwk["use"] = json!("jwt-svid");
        }
        Some(json!({"keys": [jwk]}).to_string().into_bytes())
    };
    let source = Source { name: "policy.yaml".into(), text };
    Policy::load(&[source], &document)
}
