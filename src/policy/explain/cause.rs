//! The causes of a refusal, and how the failed conditions of the nearest rule name one.

use crate::code::Code;

use super::ConditionReport;
use super::RuleReport;
use super::report::NAME;
use crate::policy::rule::Mode;

/// Why a job gets nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The registry is switched off.
    RegistryDisabled,
    /// The issuer is switched off.
    IssuerDisabled,
    /// A rule matches and is switched off.
    RuleDisabled,
    /// No rule comes near, or none that the caller may know of.
    NoMatchingRule,
    /// The project's id matches and its owner's does not: it was transferred, or the account re-created. Never shown
    /// to the caller.
    OwnerMismatch,
    /// The name matches and the id does not: deleted and created again. Never shown to the caller.
    RepositoryRecreated,
    /// The ids match and the name does not.
    RepositoryRenamed,
    /// The job ran in another environment, or in none.
    EnvironmentMismatch,
    /// The job runs in a reusable workflow that the rule does not name.
    ReusableWorkflow,
    /// Another workflow or pipeline file.
    WorkflowMismatch,
    /// The run was started by an event that the rule does not allow.
    EventNotAllowed,
    /// Another branch or tag.
    RefMismatch,
    /// The token lacks a claim.
    MissingClaim,
    /// Any other condition.
    ConditionFailed,
    /// The conditions hold, and the claims make a package's name or version that is none.
    NameNotValid,
    /// The matching rules do not reach the package.
    PackageNotGranted,
    /// The matching rules do not grant all of the requested scope.
    ScopeNotGranted,
    /// The matching rules contradict each other.
    AmbiguousGrant,
}

/// What a claim is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Owner,
    Name,
    Environment,
    Workflow,
    ReusableWorkflow,
    Event,
    Ref,
    Other,
}

/// What each claim of the presets is about, for naming causes only.
pub(super) fn topic(claim: &str) -> Topic {
    match claim {
        "repository_owner_id" | "namespace_id" | "organization_id" | "enterprise_id" => Topic::Owner,
        "org_id" | "account_id" | "workspaceUuid" | "spaceId" | "terraform_organization_id" => Topic::Owner,
        "oidc.circleci.com/org-id" | "/https:~1~1sts.amazonaws.com~1/aws_account" => Topic::Owner,
        "repository" | "repository_owner" | "repository_name" | "workflow_repository" => Topic::Name,
        "project_path" | "project_name" | "namespace_path" | "project" | "organization" => Topic::Name,
        "organization_slug" | "pipeline_slug" | "account_name" | "pipeline_name" => Topic::Name,
        "oidc.circleci.com/vcs-origin" | "rpo_uri" | "scm_repo_url" | "org" | "prj" | "repo" | "repo_slug" => {
            Topic::Name
        }
        "terraform_organization_name" | "terraform_project_name" => Topic::Name,
        "terraform_workspace_name" | "terraform_full_workspace" => Topic::Name,
        "environment" | "deploymentEnvironmentUuid" => Topic::Environment,
        "workflow" | "workflow_ref" | "workflow_file" | "workflow_sha" => Topic::Workflow,
        "ci_config_ref_uri" | "ci_config_file" | "ci_config_sha" => Topic::Workflow,
        "event_name" | "pipeline_source" | "build_source" | "pr" | "scm_pull_request_target_branch" => Topic::Event,
        "oidc.circleci.com/ssh-rerun" | "job_type" | "runType" | "scope" | "callerType" => Topic::Event,
        "subject_kind" | "terraform_run_phase" => Topic::Event,
        "ref" | "ref_type" | "ref_path" | "ref_protected" | "tag" | "branch" | "workflow_git_ref" | "sha" => Topic::Ref,
        "build_branch" | "build_tag" | "build_commit" | "branchName" | "pr_branch" | "scm_ref" => Topic::Ref,
        "oidc.circleci.com/vcs-ref" | "rpo_ref" | "rpo_ver" => Topic::Ref,
        _ if claim.starts_with("job_workflow_") => Topic::ReusableWorkflow,
        _ => Topic::Other,
    }
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 18] = [
        Self::RegistryDisabled,
        Self::IssuerDisabled,
        Self::RuleDisabled,
        Self::NoMatchingRule,
        Self::OwnerMismatch,
        Self::RepositoryRecreated,
        Self::RepositoryRenamed,
        Self::EnvironmentMismatch,
        Self::ReusableWorkflow,
        Self::WorkflowMismatch,
        Self::EventNotAllowed,
        Self::RefMismatch,
        Self::MissingClaim,
        Self::ConditionFailed,
        Self::NameNotValid,
        Self::PackageNotGranted,
        Self::ScopeNotGranted,
        Self::AmbiguousGrant,
    ];

    /// Its row of the failure table.
    pub const fn code(self) -> Code {
        match self {
            Self::RegistryDisabled => Code::RegistryDisabled,
            Self::IssuerDisabled => Code::IssuerDisabled,
            Self::RuleDisabled => Code::RuleDisabled,
            Self::NoMatchingRule => Code::NoMatchingRule,
            Self::OwnerMismatch => Code::OwnerMismatch,
            Self::RepositoryRecreated => Code::RepositoryRecreated,
            Self::RepositoryRenamed => Code::RepositoryRenamed,
            Self::EnvironmentMismatch => Code::EnvironmentMismatch,
            Self::ReusableWorkflow => Code::ReusableWorkflow,
            Self::WorkflowMismatch => Code::WorkflowMismatch,
            Self::EventNotAllowed => Code::EventNotAllowed,
            Self::RefMismatch => Code::RefMismatch,
            Self::MissingClaim => Code::MissingClaim,
            Self::ConditionFailed => Code::ConditionFailed,
            Self::NameNotValid => Code::NameNotValid,
            Self::PackageNotGranted => Code::PackageNotGranted,
            Self::ScopeNotGranted => Code::ScopeNotGranted,
            Self::AmbiguousGrant => Code::AmbiguousGrant,
        }
    }

    /// The cause that the nearest rule's conditions name.
    pub(super) fn of(nearest: &RuleReport) -> Self {
        let failed = || nearest.conditions.iter().filter(|condition| !condition.holds);
        if failed().next().is_none() {
            return match nearest.mode {
                Mode::Enforce => Self::NoMatchingRule,
                Mode::Shadow | Mode::Off => Self::RuleDisabled,
            };
        }
        let pins = || nearest.conditions.iter().filter(|condition| condition.pin);
        if pins().all(|pin| pin.holds) && pins().next().is_some() {
            return failed()
                .map(Self::of_condition)
                .min_by_key(|cause| cause.urgency())
                .unwrap_or(Self::ConditionFailed);
        }
        let owner_only = pins().filter(|pin| !pin.holds).all(|pin| topic(&pin.claim) == Topic::Owner);
        if owner_only && pins().any(|pin| pin.holds) {
            return Self::OwnerMismatch;
        }
        // Of several names the last segment alone is no evidence: `widgets` is a common one.
        let same_name = |c: &ConditionReport| c.holds && matches!(&*c.claim, "repository" | "project_path");
        if pins().next().is_some() && nearest.conditions.iter().any(same_name) {
            return Self::RepositoryRecreated;
        }
        Self::NoMatchingRule
    }

    /// The cause that one failed condition names.
    pub(super) fn of_condition(condition: &ConditionReport) -> Self {
        if condition.claim == NAME {
            return Self::NameNotValid;
        }
        let missing = condition.has.is_none() && !condition.derived;
        match topic(&condition.claim) {
            Topic::Environment => Self::EnvironmentMismatch,
            Topic::Owner | Topic::Name | Topic::Workflow | Topic::ReusableWorkflow | Topic::Event | Topic::Ref
                if missing =>
            {
                Self::MissingClaim
            }
            Topic::Name => Self::RepositoryRenamed,
            Topic::Workflow => Self::WorkflowMismatch,
            Topic::ReusableWorkflow if condition.preset => Self::ReusableWorkflow,
            Topic::ReusableWorkflow => Self::WorkflowMismatch,
            Topic::Event => Self::EventNotAllowed,
            Topic::Ref => Self::RefMismatch,
            Topic::Owner | Topic::Other if missing => Self::MissingClaim,
            Topic::Owner | Topic::Other => Self::ConditionFailed,
        }
    }

    /// Of several failed conditions the one to name first: what makes the others fail too, or what must not be mended
    /// by changing the rule.
    const fn urgency(self) -> u8 {
        match self {
            Self::EventNotAllowed => 0,
            Self::RepositoryRenamed => 1,
            Self::ReusableWorkflow => 2,
            Self::WorkflowMismatch => 3,
            Self::EnvironmentMismatch => 4,
            Self::RefMismatch => 5,
            Self::MissingClaim => 6,
            Self::RegistryDisabled
            | Self::IssuerDisabled
            | Self::RuleDisabled
            | Self::NoMatchingRule
            | Self::OwnerMismatch
            | Self::RepositoryRecreated
            | Self::ConditionFailed
            | Self::NameNotValid
            | Self::PackageNotGranted
            | Self::ScopeNotGranted
            | Self::AmbiguousGrant => 7,
        }
    }
}
