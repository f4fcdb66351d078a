//! Values that let more in than they seem to, by provider: what a rule may not name, and what somebody should look at.

use super::catalogue;
use crate::identity::provider::Provider;
use crate::policy::condition::Condition;
use crate::policy::condition::Test;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Lint;
use crate::policy::yaml::Severity;

/// One thing that is found: at which preset (empty for any), on which claims, and in which text; nothing for any
/// condition on the claim but that it is absent.
struct Finding {
    lint: &'static Lint,
    severity: Severity,
    provider: &'static str,
    claims: &'static [&'static str],
    text: Option<fn(&str) -> bool>,
    message: &'static str,
}

const FINDINGS: &[Finding] = &[
    Finding {
        lint: &catalogue::L010,
        severity: Severity::Error,
        provider: "forgejo",
        claims: &["sub"],
        text: None,
        message: "two projects can have one `sub`",
    },
    Finding {
        lint: &catalogue::L025,
        severity: Severity::Error,
        provider: "azure-devops",
        claims: &["sub"],
        text: Some(|text| text.starts_with("sc://")),
        message: "this is a service connection, which any pipeline may use",
    },
    Finding {
        lint: &catalogue::L026,
        severity: Severity::Error,
        provider: "semaphore",
        claims: &["ref_type"],
        text: Some(|text| text.contains("pull-request")),
        message: "in a pull request's job, `branch` is the one that the request wants to change",
    },
    Finding {
        lint: &catalogue::L027,
        severity: Severity::Error,
        provider: "hcp-terraform",
        claims: &["terraform_run_phase"],
        text: Some(|text| text != "apply"),
        message: "a plan runs the code of a pull request",
    },
    Finding {
        lint: &catalogue::L012,
        severity: Severity::Warning,
        provider: "",
        claims: &[
            "actor",
            "actor_id",
            "user_login",
            "user_email",
            "user_id",
            "initiator",
            "scm_user_name",
            "deployerEmail",
        ],
        text: None,
        message: "who started a job is not who wrote what it runs",
    },
    Finding {
        lint: &catalogue::L014,
        severity: Severity::Warning,
        provider: "",
        claims: &["event_name"],
        text: Some(|text| text == "pull_request"),
        message: "such runs execute code that nobody has merged",
    },
    Finding {
        lint: &catalogue::L023,
        severity: Severity::Warning,
        provider: "google",
        claims: &["email"],
        text: Some(|text| {
            text.ends_with("-compute@developer.gserviceaccount.com")
                || text.ends_with("@cloudbuild.gserviceaccount.com")
        }),
        message: "all workloads of the project share this account",
    },
    Finding {
        lint: &catalogue::L028,
        severity: Severity::Warning,
        provider: "spacelift",
        claims: &["runType"],
        text: Some(|text| text != "TRACKED"),
        message: "such runs are not those of a stack's tracked branch",
    },
    Finding {
        lint: &catalogue::L032,
        severity: Severity::Warning,
        provider: "",
        claims: &["job_workflow_ref", "job_workflow_git_ref"],
        text: Some(|text| text.contains("refs/heads/")),
        message: "whoever may push to that branch changes what every caller publishes",
    },
    Finding {
        lint: &catalogue::L034,
        severity: Severity::Warning,
        provider: "",
        claims: &["runner_environment"],
        text: Some(|text| text == "self-hosted"),
        message: "other jobs on such runners can read this one's token",
    },
    Finding {
        lint: &catalogue::L049,
        severity: Severity::Warning,
        provider: "",
        claims: &["environment"],
        text: Some(|text| text.contains("%3A") || text.contains("%2F") || text.contains("%3a") || text.contains("%2f")),
        message: "the claim has the name as it is, without percent-encoding, so this would never match",
    },
];

pub(super) fn check(entry: &Field<'_>, provider: &Provider, condition: &Condition<'_>, faults: &mut Faults) {
    // What lets somebody in by being absent names nobody.
    if matches!(condition.test(), Test::Absent) {
        return;
    }
    for finding in FINDINGS.iter().filter(|finding| finding.claims.contains(&condition.claim())) {
        let here = finding.provider.is_empty() || finding.provider == provider.name;
        // At ActiveState the actor is one of the pins.
        let pinned = provider.pins.contains(&condition.claim());
        let found = match finding.text {
            Some(text) => condition.texts().any(text),
            None => true,
        };
        if !here || (pinned && finding.text.is_none()) || !found {
            continue;
        }
        match finding.severity {
            Severity::Error => entry.fault(faults, (finding.lint, finding.message), remedy(finding.lint)),
            Severity::Warning => entry.warn(faults, (finding.lint, finding.message), remedy(finding.lint)),
        }
    }
}

/// What the catalogue says of mending, as the end of a line.
fn remedy(lint: &Lint) -> String {
    let mut letters = lint.mend.trim_end_matches('.').chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}
