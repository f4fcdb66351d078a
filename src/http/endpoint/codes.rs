//! Which failures come together: groups of codes that endpoints name, so that none lists fifty.

use crate::code::Code;

/// Any request: before a handler sees it, or when one breaks. At its very end a replica takes none, so each can be one too many.
pub const ANY: &[Code] = &[Code::HeadersTooLarge, Code::Overloaded, Code::Internal];
/// Requests whose host names the registry.
pub const HOST: &[Code] = &[Code::BadRequest, Code::UnknownHost];
/// Requests whose body is awaited, also where nothing in it is read.
pub const BODY: &[Code] = &[Code::BadRequest, Code::TooLarge, Code::UnsupportedMediaType, Code::TooSlow];
/// Requests that need an API key.
pub const KEY: &[Code] = &[Code::BadApiKey];
/// Paths that not every host's registry has.
pub const DIALECT: &[Code] = &[Code::NotFound];
/// What is not looked at when too much from its client's address was refused.
pub const CLIENT: &[Code] = &[Code::TooManyRefusals];
/// What is counted against a registry's allowance.
pub const RATE: &[Code] = &[Code::RateLimited];
/// What reads or writes the store.
pub const STORE: &[Code] = &[Code::StoreUnavailable];
/// What writes a revocation.
pub const REVOKING: &[Code] = &[Code::StoreUnavailable, Code::RevocationsExhausted];

/// What can be wrong with an ID token.
pub const SUBJECT_TOKEN: &[Code] = &[
    Code::TokenMissing,
    Code::TokenMalformed,
    Code::HeaderNotAllowed,
    Code::AlgorithmNotAllowed,
    Code::UnknownIssuer,
    Code::UnknownKey,
    Code::BadSignature,
    Code::TokenExpired,
    Code::TokenNotYetValid,
    Code::WrongAudience,
    Code::AudienceList,
    Code::LifetimeTooLong,
    Code::ClaimType,
    Code::MissingClaim,
    Code::IssuerMismatch,
    Code::TokenReplayed,
];

/// How the rules can refuse a job.
pub const DECISION: &[Code] = &[
    Code::RegistryDisabled,
    Code::IssuerDisabled,
    Code::RuleDisabled,
    Code::Stopped,
    Code::NoMatchingRule,
    Code::OwnerMismatch,
    Code::RepositoryRecreated,
    Code::RepositoryRenamed,
    Code::EnvironmentMismatch,
    Code::WorkflowMismatch,
    Code::ReusableWorkflow,
    Code::EventNotAllowed,
    Code::RefMismatch,
    Code::ConditionFailed,
    Code::PackageNotGranted,
    Code::ScopeNotGranted,
    Code::InvalidScope,
    Code::NameNotValid,
    Code::AmbiguousGrant,
    Code::GrantTooLarge,
    Code::GrantNotExpressible,
];

/// Why an exchange may have to wait.
pub const LATER: &[Code] = &[
    Code::IssuerUnavailable,
    Code::StoreUnavailable,
    Code::AuditUnavailable,
    Code::StateLost,
    Code::BundleMissing,
    Code::BundleExpired,
    Code::RateLimited,
    Code::NoMintingKey,
];

/// Why an upload token may not do something.
pub const UPLOAD_TOKEN: &[Code] = &[
    Code::RegistryDisabled,
    Code::IssuerDisabled,
    Code::Stopped,
    Code::UploadTokenMalformed,
    Code::UploadTokenUnknown,
    Code::UploadTokenNotYetValid,
    Code::UploadTokenExpired,
    Code::UploadTokenRevoked,
    Code::RuleWithdrawn,
    Code::WrongRegistry,
    Code::PackageNotCovered,
    Code::ActionNotCovered,
    Code::VersionNotCovered,
    Code::DigestNotCovered,
    Code::SizeNotCovered,
    Code::AddressNotCovered,
    Code::FactNotStated,
    Code::CaveatNotUnderstood,
    Code::UsesSpent,
    Code::ConsumeRequired,
    Code::ConsumeConflict,
];

/// Why that cannot be said now.
pub const UNSAID: &[Code] = &[Code::StoreUnavailable, Code::StateLost, Code::BundleMissing, Code::BundleExpired];
