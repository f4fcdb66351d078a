//! Which of a project's refs can publish: any branch, any tag, or those that somebody else has looked at.

use super::Duties;
use super::catalogue;
use crate::identity::provider::Case;
use crate::identity::provider::ImpliedTest;
use crate::policy::condition::Condition;
use crate::policy::condition::Test;
use crate::policy::rule::Branch;
use crate::policy::rule::Rule;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;

/// The claims that say that a provider has protected the ref or the environment.
const PROTECTIONS: &[&str] = &["ref_protected", "environment_protected"];
/// The claims that name the environment.
const ENVIRONMENT: &str = "environment";
/// The claims that fix a commit, which no branch can change.
const COMMITS: &[&str] = &["sha", "workflow_sha", "job_workflow_sha"];
/// Tags that nobody has a pattern for: a condition that all of them meet is met by every tag.
const TAGS: &[&str] = &["0", "zz", "nightly-9", "zz/0"];

/// SECURITY: who may push and who may publish are the same people wherever a rule lets any ref in. Providers that say
/// whether a ref is protected are asked about; at others the preset demands a claim that narrows the project down.
pub(super) fn check(entry: &Field<'_>, rule: &Rule<'_>, duties: Duties, faults: &mut Faults) {
    if duties.provider.claim("ref_protected").is_none() {
        return;
    }
    let open = |branch: &&Branch<'_>| !is_gated(branch, duties);
    let mut branches = rule.branches().iter().filter(open).peekable();
    if branches.peek().is_none() {
        return;
    }
    let reaches: Vec<Reach> = branches.map(reach).collect();
    if reaches.contains(&Reach::AnyBranch) {
        let message = "any branch of the project can publish, with whatever its workflow says there";
        let remedy =
            "add `tag: {glob: \"v*\"}`, `ref_protected: \"true\"`, or an environment that is protected at the provider";
        entry.warn_at_key(faults, (&catalogue::L017, message), remedy);
    } else if reaches.contains(&Reach::AnyTag) {
        let message = "every tag meets this rule, so whoever may push one can publish";
        let remedy = "say what a release's tag looks like: `tag: {glob: \"v*\"}`; or add an environment";
        entry.warn_at_key(faults, (&catalogue::L033, message), remedy);
    } else if duties.provider.claim(ENVIRONMENT).is_some() {
        let message = "whoever may push such a ref can publish: no second person is asked";
        let remedy = "add `environment: NAME` and protect it at the provider, or `ref_protected: \"true\"`";
        entry.warn_at_key(faults, (&catalogue::L015, message), remedy);
    }
}

/// Whether a branch of a rule asks for what a provider can guard: an environment, or that the ref is protected.
fn is_gated(branch: &Branch<'_>, duties: Duties) -> bool {
    let protected = |condition: &Condition<'_>| {
        PROTECTIONS.contains(&condition.claim())
            && !condition.literals().is_empty()
            && condition.texts().all(|text| text == "true")
    };
    let gate = |condition: &Condition<'_>| {
        (condition.claim() == ENVIRONMENT && is_closed(condition.test())) || protected(condition)
    };
    let implied = branch.implied(duties.provider).any(|implied| {
        PROTECTIONS.contains(&implied.claim) && matches!(implied.test, ImpliedTest::In(texts) if texts == ["true"])
    });
    implied || branch.conditions().iter().any(gate)
}

/// Which refs a branch of a rule lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    AnyBranch,
    AnyTag,
    Some,
}

fn reach(branch: &Branch<'_>) -> Reach {
    let about = |claims: &'static [&'static str]| {
        branch.conditions().iter().filter(move |condition| claims.contains(&condition.claim()))
    };
    let fixes_commit = about(COMMITS).any(|condition| !condition.literals().is_empty());
    let only_tags = about(&["ref_type"])
        .any(|condition| !condition.literals().is_empty() && condition.texts().all(|text| text == "tag"));
    let named = about(&["workflow_ref", "workflow_git_ref"]).any(|condition| !condition.literals().is_empty());
    // `tag` is there for tags alone.
    let says_tag = about(&["tag"]).any(|condition| !matches!(condition.test(), Test::Absent));
    let any_tag = about(&["tag"]).all(|condition| admits_all(condition, ""))
        && about(&["ref", "ref_path"]).all(|condition| admits_all(condition, "refs/tags/"));
    let any_branch = about(&["ref", "ref_path"]).all(|condition| admits_all(condition, "refs/heads/"));
    if fixes_commit || named {
        Reach::Some
    } else if any_branch && !says_tag && !only_tags {
        Reach::AnyBranch
    } else if any_tag {
        Reach::AnyTag
    } else {
        Reach::Some
    }
}

/// Whether a test lets all texts of this kind in that nobody has thought of.
fn admits_all(condition: &Condition<'_>, before: &str) -> bool {
    TAGS.iter().all(|tag| admits(condition.test(), condition.case(), &format!("{before}{tag}")) == Some(true))
}

fn admits(test: &Test<'_>, case: Case, sample: &str) -> Option<bool> {
    match test {
        Test::Glob(glob) => glob.matches(sample, case),
        Test::Regex(regexp) => regexp.matches(sample),
        Test::Present => Some(true),
        Test::Not(tests) => tests
            .iter()
            .map(|test| admits(test, case, sample))
            .try_fold(true, |all, one| Some(all & one?))
            .map(|all| !all),
        // None of these texts is what somebody has written out.
        Test::Is(_) | Test::In(_) | Test::Contains(_) | Test::Exactly(_) | Test::Absent | Test::SameAs(_) => {
            Some(false)
        }
    }
}

/// Whether a test names what it lets in.
fn is_closed(test: &Test<'_>) -> bool {
    matches!(test, Test::Is(_) | Test::In(_) | Test::Glob(_) | Test::Regex(_))
}
