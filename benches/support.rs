//! What the benchmarks share: ID tokens signed with a real key, a policy of any number of rules, and the service.

use std::sync::Arc;

use serde_json::Value;
use serde_json::json;
use tokio::runtime::Handle;
use trustmint::app::App;
use trustmint::app::Parts;
use trustmint::audit::AuditLog;
use trustmint::audit::AuditSink;
use trustmint::demo::signing::KeyKind;
use trustmint::demo::signing::SigningKey;
use trustmint::identity::fetch::Fetch;
use trustmint::identity::fetch::HttpsFetch;
use trustmint::macaroon::Keyring;
use trustmint::macaroon::MasterKey;
use trustmint::policy::Policy;
use trustmint::policy::Source;
use trustmint::secret::hex;
use trustmint::secret::random_bytes;
use trustmint::secret::sha256;
use trustmint::state::MemoryStore;
use trustmint::state::Store;
use trustmint::telemetry::Metrics;
use trustmint::time::Clock;
use trustmint::time::Timestamp;

/// The registry's API key.
pub const API_KEY: &str = "0123456789abcdef0123456789abcdef";
/// The host that the policy's registry is served at.
pub const HOST: &str = "pypi.acme.example";
/// When everything happens.
pub const NOW: i64 = 1_790_000_000;

/// Time stands still, so that tokens made in advance stay valid.
#[derive(Debug, Clone, Copy)]
pub struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_seconds(NOW)
    }
}

/// An issuer's key and the policy directory's file that publishes it.
pub struct Issuer {
    key: SigningKey,
    /// The key set document.
    pub jwks: Vec<u8>,
}

impl Issuer {
    pub fn new() -> Self {
        let key = SigningKey::generate(KeyKind::Rsa2048).unwrap();
        let jwks = json!({ "keys": [key.jwk()] }).to_string().into_bytes();
        Self { key, jwks }
    }

    /// An RS256 token of GitHub's shape, about 1.7 KB, issued at that time, of the project of rule `serial % rules`.
    pub fn token(&self, now: i64, serial: u64, rules: u64) -> String {
        self.sign(&claims(now, serial, serial % rules))
    }

    /// A token that says this.
    pub fn sign(&self, claims: &Value) -> String {
        self.key.token(&Value::Null, claims)
    }
}

/// What such a token says of a project's job.
pub fn claims(now: i64, serial: u64, project: u64) -> Value {
    let workflow = format!("acme/widgets-{project}/.github/workflows/release.yml@refs/tags/v1.4.0");
    json!({
        "iss": "https://token.actions.githubusercontent.com", "aud": "acme", "jti": format!("0b6f4a3c-{serial:012}"),
        "iat": now, "nbf": now - 300, "exp": now + 300, "sub": format!("repo:acme/widgets-{project}:environment:release"),
        "repository": format!("acme/widgets-{project}"), "repository_id": format!("{}", 700_000_000 + project),
        "repository_owner": "acme", "repository_owner_id": "9123456", "repository_visibility": "public",
        "ref": "refs/tags/v1.4.0", "ref_type": "tag", "ref_protected": "true",
        "sha": "8c138c138c138c138c138c138c138c138c138c13", "workflow": "Release", "workflow_ref": workflow,
        "workflow_sha": "8c138c138c138c138c138c138c138c138c138c13", "job_workflow_ref": workflow,
        "job_workflow_sha": "8c138c138c138c138c138c138c138c138c138c13", "event_name": "push", "environment": "release",
        "environment_node_id": "EN_kwDOAbCdEf4AAAABcDeF", "runner_environment": "github-hosted", "actor": "mona",
        "actor_id": "583231", "head_ref": "", "base_ref": "", "run_id": "21561244697", "run_number": "12",
        "run_attempt": "1", "check_run_id": "62125561706",
    })
}

/// A policy of that many rules, one for each project.
pub fn policy(issuer: &Issuer, rules: u64) -> Policy {
    load(issuer, policy_text(rules, 0))
}

/// The text of such a policy; the first `changed` rules grant another package too.
pub fn policy_text(rules: u64, changed: u64) -> String {
    format!("{{{},\"rules\":{}}}", world_text(""), rules_text(rules, changed))
}

/// Issuer and registry, the latter with more keys.
pub fn world_text(more: &str) -> String {
    let digest = hex(&sha256(API_KEY.as_bytes()));
    format!(
        r#""issuers":{{"github":{{"provider":"github","jwks_file":"jwks.json"}}}},"registries":{{"acme-pypi":{{"dialect":"pypi","urls":["https://{HOST}/legacy/"],"audiences":["acme"],"limits":{{"exchanges_per_minute":1000000,"calls_per_minute":1000000}},"callers":{{"frontend":{{"key_sha256":"{digest}"}}}}{more}}}}}"#
    )
}

/// Its rules, as a map.
pub fn rules_text(rules: u64, changed: u64) -> String {
    let mut text = String::from("{");
    text.extend((0..rules).map(|rule| {
        let (comma, more) = (if rule == 0 { "" } else { "," }, if rule < changed { r#","gadgets""# } else { "" });
        let id = 700_000_000 + rule;
        format!(
            r#"{comma}
"widgets-{rule}":{{"registry":"acme-pypi","issuer":"github","when":{{"repository_owner_id":"9123456","repository_id":"{id}","repository":"acme/widgets-{rule}","workflow_file":"release.yml","environment":"release","tag":{{"glob":"v*"}}}},"allow":{{"upload":["widgets-{rule}"{more}]}}}}"#
        )
    }));
    text.push('}');
    text
}

/// Reads a policy.
pub fn load(issuer: &Issuer, text: String) -> Policy {
    let source = Source { name: "policy.yaml".into(), text };
    Policy::load(&[source], &|_, _| Some(issuer.jwks.clone())).unwrap_or_else(|faults| panic!("{faults}"))
}

/// A key ring of one key.
pub fn keyring(now: Timestamp) -> Keyring {
    Keyring::new(vec![MasterKey::generate("k1", random_bytes().unwrap(), now).unwrap()]).unwrap()
}

/// Where documents and time come from.
pub struct Outside {
    pub fetch: Arc<dyn Fetch>,
    pub clock: Arc<dyn Clock>,
    /// The store; in memory unless it is given.
    pub store: Option<Arc<dyn Store>>,
}

impl Default for Outside {
    fn default() -> Self {
        Self { fetch: Arc::new(HttpsFetch::new()), clock: Arc::new(StillClock), store: None }
    }
}

/// The service with audit and metrics on. Must be called on a runtime.
pub fn app(policy: Policy, Outside { fetch, clock, store }: Outside) -> App {
    App::build(Parts {
        policy,
        keyring: keyring(clock.now()),
        fetch,
        store: store.unwrap_or_else(|| Arc::new(MemoryStore::new(Arc::clone(&clock), 1 << 30))),
        audit: AuditLog::start(AuditSink::Writer(Box::new(std::io::sink())), 8192).unwrap(),
        metrics: Arc::new(Metrics::new().unwrap()),
        clock,
        runtime: Handle::current(),
    })
}
