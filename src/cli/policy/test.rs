//! `trustmint policy test`: the policy's own tests, with readable failures.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::say_json;
use crate::cli::tell_progress;
use crate::policy::rule_test;
use crate::policy::rule_test::Failure;
use crate::policy::rule_test::Outcome;
use crate::policy::rule_test::Verdict;
use crate::policy::watch;
use crate::policy::yaml::shown;

/// Most untested rules that are named.
const MAX_UNTESTED: usize = 10;

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The policy directory
    #[arg(long, value_name = "DIR", default_value = "policy")]
    policy: PathBuf,
    /// Only the tests with this text in their name or in their rule's
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Print the outcomes as JSON
    #[arg(long)]
    json: bool,
}

impl Test {
    pub(super) fn run(self) -> Ended {
        let policy = watch::read(&self.policy, tell_progress).map_err(|faults| Failed::new(faults.to_string()))?;
        let outcomes = rule_test::run(&policy);
        let untested = rule_test::untested(&policy, &outcomes);
        let wanted = |outcome: &&Outcome<'_>| self.filter.as_ref().is_none_or(|text| names(outcome, text));
        let shown_ones: Vec<&Outcome<'_>> = outcomes.iter().filter(wanted).collect();
        let count = |is: fn(&Verdict) -> bool| shown_ones.iter().filter(|outcome| is(&outcome.verdict)).count();
        let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
        let skipped = count(|verdict| matches!(verdict, Verdict::Skipped));
        let passed = shown_ones.len() - failed - skipped;
        if self.json {
            say_json(&json!({
                "passed": passed,
                "failed": failed,
                "skipped": skipped,
                "tests": shown_ones.iter().map(|outcome| to_json(outcome)).collect::<Vec<_>>(),
                "untested_rules": untested,
            }))?;
        } else {
            for outcome in &shown_ones {
                show(outcome);
            }
            if self.filter.is_none() && !untested.is_empty() {
                say(&format!("note: no test covers {}", listed(&untested)));
            }
            let skips = if skipped > 0 { format!(", {skipped} skipped (switched off)") } else { String::new() };
            say(&format!("tests: {passed} passed, {failed} failed{skips}"));
        }
        match &self.filter {
            Some(text) if shown_ones.is_empty() => {
                Err(Failed::new(format!("no test has `{}` in its name", shown(text))))
            }
            Some(_) | None => Ok(failed == 0),
        }
    }
}

/// Whether a test's name, or that of its rule, has the text.
fn names(outcome: &Outcome<'_>, text: &str) -> bool {
    outcome.test.name().contains(text) || outcome.test.rule().is_some_and(|rule| rule.contains(text))
}

fn listed(rules: &[String]) -> String {
    let named: Vec<String> = rules.iter().take(MAX_UNTESTED).map(|rule| format!("`{rule}`")).collect();
    let more = rules.len() - named.len();
    let more = if more > 0 { format!(" and {more} more rules") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

fn show(outcome: &Outcome<'_>) {
    let name = shown(outcome.test.name());
    match &outcome.verdict {
        Verdict::Passed => say(&format!("ok    {name}")),
        Verdict::Skipped => say(&format!("skip  {name}")),
        Verdict::Failed(failure) => {
            say(&format!("FAIL  {name}  ({})", outcome.test.place()));
            for line in details(failure) {
                say(format!("      {line}").trim_end());
            }
            say("");
        }
    }
}

fn details(failure: &Failure) -> Vec<String> {
    let mut lines = vec![format!("expected: {}", failure.expected), format!("got:      {}", failure.got)];
    lines.extend(failure.notes.iter().map(|note| format!("note:     {note}")));
    if let Some(rule) = &failure.rule {
        lines.extend(rule.to_table().lines().map(str::to_owned));
    }
    lines
}

fn to_json(outcome: &Outcome<'_>) -> Value {
    let (result, failure) = match &outcome.verdict {
        Verdict::Passed => ("passed", None),
        Verdict::Skipped => ("skipped", None),
        Verdict::Failed(failure) => ("failed", Some(failure)),
    };
    let mut value = json!({
        "name": outcome.test.name(),
        "rule": outcome.test.rule(),
        "place": outcome.test.place().to_string(),
        "result": result,
    });
    if let (Some(failure), Some(object)) = (failure, value.as_object_mut()) {
        object.insert("expected".to_owned(), json!(failure.expected));
        object.insert("got".to_owned(), json!(failure.got));
        object.insert("notes".to_owned(), json!(failure.notes));
        object.insert("rule_report".to_owned(), json!(failure.rule));
        object.insert("explanation".to_owned(), json!(failure.explanation));
    }
    value
}
