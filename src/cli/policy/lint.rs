//! `trustmint policy lint`: what is wrong or dangerous in a policy, why, and how to mend it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::Value;
use serde_json::json;

use crate::cli::Ended;
use crate::cli::Failed;
use crate::cli::say;
use crate::cli::say_json;
use crate::cli::tell_progress;
use crate::policy::Policy;
use crate::policy::lint::catalogue;
use crate::policy::watch;
use crate::policy::yaml::Fault;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Warnings;

#[derive(Debug, Args)]
pub(crate) struct Lint {
    /// The policy directory
    #[arg(long, value_name = "DIR", default_value = "policy")]
    policy: PathBuf,
    /// Fail if there are warnings, too
    #[arg(long)]
    deny_warnings: bool,
    /// Print what the catalogue says about a code, and look at no policy
    #[arg(long, value_name = "CODE", conflicts_with_all = ["policy", "deny_warnings"])]
    explain: Option<String>,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

impl Lint {
    pub(super) fn run(self) -> Ended {
        if let Some(code) = &self.explain {
            return explain(code, self.json);
        }
        let (errors, warnings) = match watch::read(&self.policy, tell_progress).and_then(Policy::tested) {
            Ok(policy) => (Faults::new(), policy.warnings().clone()),
            Err(faults) => {
                let warnings = faults.warnings().clone();
                (faults, warnings)
            }
        };
        if self.json {
            say_json(&facts(&errors, &warnings))?;
        } else {
            say(&report(&errors, &warnings));
        }
        Ok(errors.is_empty() && (warnings.is_empty() || !self.deny_warnings))
    }
}

fn explain(code: &str, json: bool) -> Ended {
    let lint = catalogue::by_code(&code.to_ascii_uppercase());
    let lint = lint.ok_or_else(|| Failed::new("there is no such code; they are in docs/policy-lint.md"))?;
    let what = lint.ruling.as_str();
    if json {
        let facts = json!({"code": lint.code, "ruling": what, "title": lint.title, "why": lint.why, "mend": lint.mend});
        say_json(&facts)?;
    } else {
        let mend = if lint.ruling.has_mend() { "mend:" } else { "here:" };
        say(&format!("{} ({what}): {}\n\n  why:  {}\n  {mend} {}", lint.code, lint.title, lint.why, lint.mend));
    }
    Ok(true)
}

/// Everything found, in the order of the files.
fn findings<'a>(errors: &'a Faults, warnings: &'a Warnings) -> Vec<&'a Fault> {
    let mut findings: Vec<&Fault> = errors.iter().chain(warnings.iter()).collect();
    findings.sort_by(|a, b| a.place.cmp(&b.place));
    findings
}

/// The findings file by file, and a line that sums them up.
fn report(errors: &Faults, warnings: &Warnings) -> String {
    let mut text = String::new();
    let mut files: BTreeMap<&str, Vec<&Fault>> = BTreeMap::new();
    for finding in findings(errors, warnings) {
        files.entry(&finding.place.file).or_default().push(finding);
    }
    for (file, findings) in files {
        let _infallible = writeln!(text, "{file}");
        for finding in findings {
            describe(finding, &mut text);
        }
    }
    let count = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (refused, waived) = (u64::try_from(errors.len()).unwrap_or(u64::MAX), warnings.waived());
    let _infallible = write!(text, "{}, {}", count(refused, "error"), count(warnings.len(), "warning"));
    if waived > 0 {
        let _infallible = write!(text, ", {waived} waived");
    }
    text
}

/// `  12:7 error L013 rules.widgets.when.event_name`, and below it what is wrong, why that is dangerous, how to mend it.
fn describe(finding: &Fault, text: &mut String) {
    let Fault { severity, lint, place, key_path, message, remedy } = finding;
    let place = if place.line == 0 { "-".to_owned() } else { format!("{}:{}", place.line, place.column) };
    let code = lint.map_or(String::new(), |lint| format!(" {}", lint.code));
    let _infallible = writeln!(text, "  {place} {severity}{code} {key_path}");
    let _infallible = writeln!(text, "    {message}");
    if let Some(lint) = lint {
        let _infallible = writeln!(text, "    why:  {}", lint.why);
    }
    if !remedy.is_empty() {
        let _infallible = writeln!(text, "    mend: {remedy}");
    }
    text.push('\n');
}

/// The same for programs. `findings` has the first 500 of each severity, `errors` and `warnings` say how many there are.
fn facts(errors: &Faults, warnings: &Warnings) -> Value {
    let finding = |finding: &&Fault| {
        json!({
            "severity": finding.severity.to_string(),
            "code": finding.lint.map(|lint| lint.code),
            "file": &*finding.place.file,
            "line": (finding.place.line > 0).then_some(finding.place.line),
            "column": (finding.place.line > 0).then_some(finding.place.column),
            "key": &finding.key_path,
            "message": &finding.message,
            "why": finding.lint.map(|lint| lint.why),
            "mend": &finding.remedy,
        })
    };
    let waivers = warnings.waivers().map(|waiver| {
        json!({
            "code": waiver.lint.code,
            "file": &*waiver.place.file,
            "line": waiver.place.line,
            "key": &waiver.key_path,
            "reason": &waiver.reason,
            "used": waiver.used,
        })
    });
    json!({
        "errors": errors.len(),
        "warnings": warnings.len(),
        "waived": warnings.waived(),
        "findings": findings(errors, warnings).iter().map(finding).collect::<Vec<_>>(),
        "waivers": waivers.collect::<Vec<_>>(),
    })
}
