//! `trustmint policy explain`: what the rules say to a job, and why.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::read_input;
use crate::cli::say;
use crate::cli::say_json;
use crate::explain::explain;
use crate::identity::token::UnverifiedToken;
use crate::json::Json;
use crate::json::Object;
use crate::package::PackageName;
use crate::policy::evaluate::Decision;
use crate::policy::evaluate::Requested;

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The policy directory
    #[arg(long, value_name = "DIR", default_value = "policy")]
    policy: PathBuf,
    /// The registry to publish to [default: the only one]
    #[arg(long, value_name = "ID")]
    registry: Option<String>,
    /// The issuer that the claims come from [default: the one that `iss` names]
    #[arg(long, value_name = "ID")]
    issuer: Option<String>,
    /// A file with the job's claims as JSON; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token", required_unless_present = "token")]
    claims: Option<PathBuf>,
    /// A file with the job's ID token; `-` is standard input. Its signature is not checked
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// The package to publish
    #[arg(long, value_name = "NAME")]
    package: Option<String>,
    /// Print the explanation as JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Ended {
        let policy = crate::policy::watch::load(&self.policy).map_err(|faults| Failed::new(faults.to_string()))?;
        let claims = self.read_claims()?;
        let known = |ids: Vec<&str>| ids.join(", ");

        let registries = policy.registries();
        let ids = || known(registries.iter().map(|registry| registry.id.as_str()).collect());
        let registry = match &self.registry {
            Some(id) => registries.by_id(id),
            None => registries.iter().next().filter(|_| registries.len() == 1),
        };
        let registry = registry.ok_or_else(|| Failed::new(format!("--registry must be one of {}", ids())))?;

        let issuers = policy.issuers();
        let issuer = match &self.issuer {
            Some(id) => issuers.by_id(id),
            None => claims.get("iss").and_then(Json::as_str).and_then(|iss| issuers.by_url(iss)),
        };
        let ids = || known(issuers.ids().collect());
        let issuer = issuer
            .ok_or_else(|| Failed::new(format!("`iss` is no configured issuer; --issuer can be one of {}", ids())))?;

        let package = self.package.as_deref().map(|name| {
            PackageName::parse(registry.ecosystem(), name).map_err(|error| Failed::new(format!("`{name}` {error}")))
        });
        let package = package.transpose()?;
        let requested = Requested { package, narrow: None };
        match explain(&policy, registry, issuer, claims, &requested) {
            Decision::Allow(grant) => {
                if self.json {
                    say_json(
                        &json!({"decision": "allow", "rules": grant.rules(), "permissions": grant.permissions().to_string()}),
                    )?;
                } else {
                    say(&format!("allowed by {}: {}", grant.rules().join(", "), grant.permissions()));
                }
                Ok(true)
            }
            Decision::Deny(explanation) => {
                if self.json {
                    say_json(&json!({"decision": "deny", "explanation": explanation}))?;
                } else {
                    say(&explanation.to_table());
                }
                Ok(false)
            }
        }
    }

    fn read_claims(&self) -> Result<Object, Failed> {
        if let Some(path) = &self.token {
            let text = read_input(Some(path))?;
            return Ok(UnverifiedToken::parse(text.trim())?.unproven_claims().clone());
        }
        let text = read_input(self.claims.as_ref())?;
        match Json::parse(text.as_bytes()) {
            Ok(Json::Object(claims)) => Ok(claims),
            Ok(other) => Err(Failed::new(format!("the claims must be a JSON object; they are {}", other.type_name()))),
            Err(error) => Err(Failed::new(format!("the claims are not JSON: {error}"))),
        }
    }
}
