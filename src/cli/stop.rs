//! `trustmint stop`: the switch for an emergency, at the operations listener of any replica.

use std::path::PathBuf;
use std::time::Duration;

use actix_web::rt::System;
use clap::ArgGroup;
use clap::Args;
use serde_json::Value;
use serde_json::json;
use url::Url;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::read_input;
use crate::cli::say;
use crate::cli::say_json;
use crate::escape::escape;
use crate::state::Cursor;
use crate::time::Clock as _;
use crate::time::SystemClock;

/// How long the service has to answer.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true)
    .args(["issuer", "registry", "rule", "repository_id", "list", "lift"]))]
pub(crate) struct Stop {
    /// An identity provider: its id in the policy, or its URL if it is not there any more
    #[arg(long, value_name = "ID")]
    issuer: Option<String>,
    /// A registry
    #[arg(long, value_name = "ID")]
    registry: Option<String>,
    /// A rule
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// A repository or project, by the id that its provider gave it
    #[arg(long, value_name = "ID")]
    repository_id: Option<String>,
    /// Why; it stands in the audit log and in the list
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["list", "lift"])]
    reason: Option<String>,
    /// For how long, as `30m` or `8h`; at most a day
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = duration)]
    lasting: Duration,
    /// List the stops that last
    #[arg(long, conflicts_with_all = ["issuer", "registry", "rule", "repository_id", "reason", "lift"])]
    list: bool,
    /// End a stop before its time
    #[arg(long, value_name = "STOP", conflicts_with_all = ["issuer", "registry", "rule", "repository_id", "reason"])]
    lift: Option<Cursor>,
    /// The operations listener
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    url: Url,
    /// The file with the operator's API key [default: standard input]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

impl Stop {
    pub(crate) fn run(self) -> Ended {
        let key = read_input(self.key_file.as_ref())?;
        let (status, answer) = System::new().block_on(self.ask(key.trim()))?;
        let done = (200..300).contains(&status);
        if self.json {
            say_json(&answer)?;
            return Ok(done);
        }
        if !done {
            let message = answer.get("message").and_then(Value::as_str).unwrap_or("without a reason");
            return Err(Failed::new(format!("the service answers {status}: {}", escape(message))));
        }
        match answer.get("stops").and_then(Value::as_array) {
            Some(stops) if stops.is_empty() => say("Nothing is stopped."),
            Some(stops) => stops.iter().for_each(|stop| say(&line(stop))),
            None if self.lift.is_some() => say(&format!("Lifted: {}", line(&answer))),
            None => say(&format!("Stopped: {}", line(&answer))),
        }
        Ok(true)
    }

    async fn ask(&self, key: &str) -> Result<(u16, Value), Failed> {
        // SECURITY: the key goes to the address given and nowhere else: no proxy, no redirect.
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.timeout(PATIENCE).build()?;
        let at = |path: &str| self.url.join(path);
        let request = match &self.lift {
            Some(stop) => client.delete(at(&format!("stops/{stop}"))?),
            None if self.list => client.get(at("stops")?),
            None => client.post(at("stops")?).body(self.body().to_string()),
        };
        let response = request.bearer_auth(key).send().await?;
        let status = response.status().as_u16();
        Ok((status, serde_json::from_slice(&response.bytes().await?).unwrap_or(Value::Null)))
    }

    fn body(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "registry": self.registry,
            "rule": self.rule,
            "repository_id": self.repository_id,
            "reason": self.reason,
            "until": SystemClock.now().plus(self.lasting).to_string(),
        })
    }
}

/// A stop in one line. What stands in the store may not disguise a terminal's line.
fn line(stop: &Value) -> String {
    let text = |name: &str| stop.get(name).and_then(Value::as_str);
    let scope = ["issuer", "registry", "rule", "repository_id"];
    let scope: Vec<String> = scope.iter().filter_map(|name| Some(format!("{name} {}", text(name)?))).collect();
    let [id, until, by, reason] = ["id", "until", "by", "reason"].map(|name| text(name).unwrap_or_default());
    escape(&format!("{id}  {}  until {until}  by {by}: {reason}", scope.join(", "))).into_owned()
}

fn duration(text: &str) -> Result<Duration, String> {
    let seconds = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((count, "m")) => count.parse::<u32>().ok().map(|minutes| u64::from(minutes).saturating_mul(60)),
        Some((count, "h")) => count.parse::<u32>().ok().map(|hours| u64::from(hours).saturating_mul(3600)),
        _ => None,
    };
    seconds.map(Duration::from_secs).ok_or_else(|| "write minutes or hours, as `30m` or `8h`".to_owned())
}
