//! `trustmint policy explain`: what the rules say to a job, and why.

use std::path::PathBuf;

use clap::Args;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::note;
use crate::cli::read_input;
use crate::cli::say;
use crate::cli::say_json;
use crate::cli::tell_progress;
use crate::explain;
use crate::explain::Answer;
use crate::explain::NoIssuer;
use crate::explain::Question;
use crate::json::Json;
use crate::json::Object;
use crate::package::PackageName;
use crate::policy::Policy;
use crate::policy::evaluate::Requested;
use crate::policy::registry::Registry;
use crate::policy::rule_test;
use crate::policy::rule_test::Verdict;
use crate::policy::scope;
use crate::policy::yaml::Faults;
use crate::time::Clock;
use crate::time::SystemClock;

#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The policy directory
    #[arg(long, value_name = "DIR", default_value = "policy")]
    policy: PathBuf,
    /// The registry to publish to [default: the only one]
    #[arg(long, value_name = "ID")]
    registry: Option<String>,
    /// The issuer that the claims come from [default: the one that `iss` names]
    #[arg(long, value_name = "ID", conflicts_with = "token")]
    issuer: Option<String>,
    /// A file with the job's claims as JSON; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "token", required_unless_present = "token")]
    claims: Option<PathBuf>,
    /// A file with the job's ID token; `-` is standard input. Its signature is not checked
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// The package to publish, as a client that names one would
    #[arg(long, value_name = "NAME")]
    package: Option<String>,
    /// The pairs to which the request narrows, such as "upload:widgets create:gadgets"
    #[arg(long, value_name = "PAIRS")]
    scope: Option<String>,
    /// Print the explanation as JSON, as `POST /v1/explain` answers
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> Ended {
        let refused = |faults: Faults| Failed::new(faults.to_string());
        let policy = crate::policy::watch::read(&self.policy, tell_progress).map_err(refused)?;
        // Why a test fails is what an explanation is for.
        let failing =
            rule_test::run(&policy).iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed(_))).count();
        if failing > 0 {
            note(&format!(
                "{failing} of the policy's own tests fail, so no service would use it; `policy test` shows them"
            ));
        }
        let registry = self.registry(&policy)?;
        let package = self.package.as_deref().map(|name| {
            PackageName::parse(registry.ecosystem(), name).map_err(|error| Failed::new(format!("`{name}` {error}")))
        });
        let narrow = self.scope.as_deref().map(|pairs| scope::parse(registry.ecosystem(), pairs));
        let requested = Requested { package: package.transpose()?, narrow: narrow.transpose()? };
        let answer = self.answer(Question { policy: &policy, registry, requested: &requested })?;
        if self.json {
            say_json(&answer)?;
        } else {
            say(answer.to_table().trim_end());
        }
        Ok(answer.allowed())
    }

    fn answer(&self, question: Question<'_>) -> Result<Answer, Failed> {
        if let Some(path) = &self.token {
            let text = read_input(Some(path))?;
            return Ok(explain::unproven_token(question, text.trim(), SystemClock.now()));
        }
        let claims = self.read_claims()?;
        match explain::issuer_of(question.policy, self.issuer.as_deref(), &claims) {
            Ok(issuer) => Ok(explain::claims(question, issuer, claims, SystemClock.now())),
            Err(NoIssuer::Unknown(issuer)) => Ok(explain::unknown(question, &issuer, SystemClock.now())),
            Err(error) => {
                let known: Vec<&str> = question.policy.issuers().ids().collect();
                Err(Failed::new(format!("{error}; the policy's issuers are {}", known.join(", "))))
            }
        }
    }

    fn registry<'p>(&self, policy: &'p Policy) -> Result<&'p Registry, Failed> {
        let registries = policy.registries();
        let found = match &self.registry {
            Some(id) => registries.by_id(id),
            None => registries.iter().next().filter(|_| registries.len() == 1),
        };
        found.map(AsRef::as_ref).ok_or_else(|| {
            let ids: Vec<&str> = registries.iter().map(|registry| registry.id.as_str()).collect();
            Failed::new(format!("--registry must be one of {}", ids.join(", ")))
        })
    }

    fn read_claims(&self) -> Result<Object, Failed> {
        let text = read_input(self.claims.as_ref())?;
        match Json::parse(text.as_bytes()) {
            Ok(Json::Object(claims)) => Ok(claims),
            Ok(other) => Err(Failed::new(format!("the claims must be a JSON object; they are {}", other.type_name()))),
            Err(error) => Err(Failed::new(format!("the claims are not JSON: {error}"))),
        }
    }
}
