//! Which events are meant.

use std::time::Duration;

use clap::Args;

use crate::audit::Record;
use crate::time::Clock as _;
use crate::time::SystemClock;
use crate::time::Timestamp;

/// What events must have: of each option that is given, one of its values.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which events")]
pub(super) struct Filter {
    /// Of this registry, by its id in the policy
    #[arg(long, value_name = "ID")]
    registry: Vec<String>,
    /// Of jobs of this issuer, by its id in the policy
    #[arg(long, value_name = "ID")]
    issuer: Vec<String>,
    /// What was asked for
    #[arg(long, value_name = "EVENT", value_parser = ["exchange", "verify", "introspect", "revoke", "reload", "stop", "lift"])]
    event: Vec<String>,
    /// How it ended
    #[arg(long, value_name = "DECISION", value_parser = ["allow", "deny", "fault"])]
    decision: Vec<String>,
    /// With this code, such as `ok` or `environment-mismatch`
    #[arg(long, value_name = "CODE")]
    code: Vec<String>,
    /// Granted by this rule, or about it
    #[arg(long, value_name = "RULE")]
    rule: Vec<String>,
    /// About this package: named, asked for, or covered by what was granted
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// About this upload token
    #[arg(long, value_name = "ID")]
    token_id: Vec<String>,
    /// Of this request, by the id in its answer
    #[arg(long, value_name = "ID")]
    request_id: Vec<String>,
    /// Not before this moment, as `2026-11-26T14:00:00Z` or `2026-11-26`, or a while ago, as `30m`, `8h` or `7d`
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Before this moment, written the same way
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

impl Filter {
    /// Whether an event of that moment is meant.
    pub(super) fn takes(&self, event: &Record, at: Timestamp) -> bool {
        let one = |wanted: &[String], has: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == has);
        let of =
            |wanted: &[String], has: Option<&String>| wanted.is_empty() || has.is_some_and(|has| wanted.contains(has));
        one(&self.event, &event.event)
            && one(&self.decision, &event.decision)
            && one(&self.code, &event.code)
            && one(&self.request_id, &event.request_id)
            && of(&self.registry, event.registry.as_ref())
            && of(&self.issuer, event.issuer.as_ref())
            && of(&self.token_id, event.token_id.as_ref())
            && (self.rule.is_empty() || event.rules.iter().any(|rule| self.rule.contains(rule)))
            && (self.package.is_empty() || self.package.iter().any(|package| event.is_about(package)))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }
}

/// A moment, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    let written = Timestamp::parse_rfc3339(text)
        .or_else(|| Timestamp::parse_with_millis(text))
        .or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")));
    let past = || ago(text).map(|ago| SystemClock.now().minus(ago));
    let unknown =
        || "write a moment as `2026-11-26T14:00:00Z` or `2026-11-26`, or how long ago it was, as `30m`".to_owned();
    written.or_else(past).ok_or_else(unknown)
}

fn ago(text: &str) -> Option<Duration> {
    let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(u64::from(count.parse::<u32>().ok()?).saturating_mul(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_written_out_or_a_while_ago() {
        let written = Timestamp::from_unix_seconds(1_764_115_200);
        for text in ["2025-11-26T00:00:00Z", "2025-11-26T00:00:00.000Z", "2025-11-26"] {
            assert_eq!(moment(text), Ok(written), "{text}");
        }
        for (text, seconds) in [("30s", 30), ("30m", 1800), ("8h", 28_800), ("7d", 604_800)] {
            assert_eq!(ago(text), Some(Duration::from_secs(seconds)), "{text}");
            assert!(moment(text).is_ok());
        }
        for text in ["", "m", "h8", "-1h", "1.5h", "8 h", "99999999999d", "yesterday", "2025-11-26T00:00", "é"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
