//! Stable failure codes: one row per failure, read by every layer.
//!
//! A row gives the code that appears, letter for letter, in the response, the audit event, the metric label and
//! `docs/errors.md`; the class, which says who must act; and the mend. Errors and explanations map to a row with an
//! exhaustive `match` of their own, so a new failure does not compile until its row is chosen.

use std::fmt;

/// Who must act on a failure. The HTTP status, the OAuth `error`, the log level and `Retry-After` follow from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The caller: fix what was sent.
    Request,
    /// The project's owner, or whoever keeps the rules.
    Refused,
    /// Nobody: retry later.
    Unavailable,
    /// The operators of this service.
    Fault,
}

impl Class {
    /// The class's name in audit events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Fault => "fault",
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $code:literal, $class:ident, $mend:literal;)+) => {
        /// A failure's row.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every row, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            const fn row(self) -> (&'static str, Class, &'static str) {
                match self { $(Self::$variant => ($code, Class::$class, $mend),)+ }
            }
        }
    };
}

codes! {
    // The request.
    /// The path is not an endpoint of this registry.
    NotFound = "not-found", Request, "check the URL: the registry's documentation lists the endpoints it serves";
    /// The endpoint does not know the method.
    MethodNotAllowed = "method-not-allowed", Request, "use the method that the endpoint documents";
    /// No registry is configured for the host that the request names.
    UnknownHost = "unknown-host", Request, "ask the registry's operator to list this host among the registry's `urls`";
    /// The `Accept` header asks for a format that the endpoint does not have.
    NotAcceptable = "not-acceptable", Request, "accept `application/vnd.pypi.pytp.v1+json`";
    /// The body, or the token in it, is larger than the endpoint reads.
    TooLarge = "too-large", Request, "send less: bodies have at most 32 KiB, ID tokens 16 KiB";
    /// The headers and the request line together are larger than the service reads.
    HeadersTooLarge = "headers-too-large", Request, "send less: headers and request line have at most 16 KiB together";
    /// The body has a media type or a `Content-Encoding` that the endpoint does not read.
    UnsupportedMediaType = "unsupported-media-type", Request, "send the media type that the endpoint documents, not compressed";
    /// The body arrived too slowly.
    TooSlow = "too-slow", Request, "send the request at once";
    /// The body or the query is not what the endpoint reads.
    BadRequest = "bad-request", Request, "send what the endpoint documents";
    /// The caller's API key is missing or is none of the registry's.
    BadApiKey = "bad-api-key", Request, "send `Authorization: Bearer <api key>` with a key whose SHA-256 is listed: a registry's under its `callers` in the policy, an operator's under `operations.callers` in the settings";
    /// The requested target is not a registry of this host.
    InvalidTarget = "invalid-target", Request, "name the registry by one of its audiences or URLs, on one of its own hosts";
    /// The requested scope is not a list of `action:package` pairs.
    InvalidScope = "invalid-scope", Request, "ask for pairs like `upload:widgets`, separated by spaces";
    /// The OAuth grant type is not token exchange.
    UnsupportedGrantType = "unsupported-grant-type", Request, "use `urn:ietf:params:oauth:grant-type:token-exchange`";

    // The subject token, before anything in it is believed.
    /// The request carries no token.
    TokenMissing = "token-missing", Request, "let the CI job request an ID token and pass it on: at GitHub the job needs `permissions: id-token: write`, which pull requests from forks never get; at GitLab it needs `id_tokens:`";
    /// The token is not a compact JWS with a JSON object inside.
    TokenMalformed = "token-malformed", Request, "send the ID token exactly as the CI system issued it, without quotes or line breaks";
    /// The token's header has a member that ID tokens of CI systems do not have.
    HeaderNotAllowed = "header-not-allowed", Request, "send the ID token that the CI system issued";
    /// The token is signed with an algorithm that is not accepted.
    AlgorithmNotAllowed = "algorithm-not-allowed", Request, "send the ID token that the CI system issued; it must be signed with a public-key algorithm";
    /// No configured identity provider has this issuer URL.
    UnknownIssuer = "unknown-issuer", Request, "ask the registry's operator to configure this issuer, letter for letter";
    /// The issuer's keys contain none with the token's key id.
    UnknownKey = "unknown-key", Request, "request a fresh ID token; if it persists, the identity provider does not publish the key that it signs with";
    /// The signature does not verify.
    BadSignature = "bad-signature", Request, "send the ID token unchanged";
    /// The token is past its expiry.
    TokenExpired = "token-expired", Request, "request a fresh ID token right before the upload";
    /// The token is not valid yet, or was issued in the future.
    TokenNotYetValid = "token-not-yet-valid", Request, "check the clocks of the CI system and of this service";
    /// The token was issued for another audience.
    WrongAudience = "wrong-audience", Request, "request the ID token for this registry's audience";
    /// The token names several audiences.
    AudienceList = "audience-list", Request, "request an ID token for one audience only";
    /// The token is valid for longer than this issuer's tokens may be.
    LifetimeTooLong = "lifetime-too-long", Request, "request an ID token with a shorter lifetime, or ask the operator to raise `max_lifetime`";
    /// A standard claim has the wrong JSON type.
    ClaimType = "claim-type", Request, "send the ID token that the CI system issued";
    /// A claim that every job's token has, or that the rule reads, is missing.
    MissingClaim = "missing-claim", Request, "update the CI system or its runner, or request the token in its full format (at Google `format=full`)";
    /// The issuer in the token is not the one whose key signed it.
    IssuerMismatch = "issuer-mismatch", Request, "send the ID token that the CI system issued";
    /// The token has been exchanged before.
    TokenReplayed = "token-replayed", Request, "request a fresh ID token: each is good for one exchange";

    // The decision.
    /// The operator has switched the registry off.
    RegistryDisabled = "registry-disabled", Refused, "ask the registry's operator";
    /// The operator has switched the identity provider off.
    IssuerDisabled = "issuer-disabled", Refused, "ask the registry's operator";
    /// The rule that matches is switched off.
    RuleDisabled = "rule-disabled", Refused, "ask the registry's operator";
    /// The operators have stopped the identity provider, registry, rule or project, for a time.
    Stopped = "stopped", Refused, "ask the registry's operator, who knows why and until when";
    /// No rule is for this project, or none may be shown.
    NoMatchingRule = "no-matching-rule", Refused, "ask the registry's operator for a rule that pins this project's ids";
    /// The rule pins another owner's id: the account or namespace was created anew.
    OwnerMismatch = "owner-mismatch", Refused, "if the change of owner is legitimate, update the pinned id";
    /// The name matches and the id does not: deleted and created again.
    RepositoryRecreated = "repository-recreated", Refused, "if it is the same project, update the pinned id";
    /// The ids match and the name does not: renamed or transferred, or another case.
    RepositoryRenamed = "repository-renamed", Refused, "update the name in the rule";
    /// The job's environment is not the rule's.
    EnvironmentMismatch = "environment-mismatch", Refused, "declare the environment on the job that publishes, or change the rule";
    /// The publishing workflow or pipeline file is not the rule's.
    WorkflowMismatch = "workflow-mismatch", Refused, "publish from the workflow file that the rule names (the top-level one), or change the rule";
    /// The job runs a reusable workflow and the rule is about the calling file.
    ReusableWorkflow = "reusable-workflow", Refused, "name the called workflow by `job_workflow_repository` and `job_workflow_file` in the rule";
    /// The event that started the job is not accepted.
    EventNotAllowed = "event-not-allowed", Refused, "publish on an event that the rule accepts, such as a push of a tag or a release";
    /// The branch or tag is not the rule's, or is not protected.
    RefMismatch = "ref-mismatch", Refused, "publish from the branch or tag that the rule names";
    /// Another condition of the rule does not hold.
    ConditionFailed = "condition-failed", Refused, "compare what the rule wants with what the token has";
    /// The rules that match do not grant the package.
    PackageNotGranted = "package-not-granted", Refused, "ask for a package that the rule grants, or change the rule";
    /// The rules that match do not grant all of the requested scope.
    ScopeNotGranted = "scope-not-granted", Refused, "ask for pairs that the rule grants, or change the rule";
    /// A name made from a claim is not a legal, canonical package name.
    NameNotValid = "name-not-valid", Refused, "rename what the name is made from, or grant the package literally";
    /// Rules that cannot be merged match the same job.
    AmbiguousGrant = "ambiguous-grant", Refused, "narrow the request with `scope` at `/v1/token`, or give the rules distinct conditions";
    /// The token would be longer than clients can carry.
    GrantTooLarge = "grant-too-large", Refused, "let the rules grant this job less, or a pattern; or narrow the request with `scope` at `/v1/token`";
    /// The registry's codec has no word for something that the token would have to say.
    GrantNotExpressible = "grant-not-expressible", Refused, "ask for uploads of packages by their names alone: this registry reads PyPI's caveats, which say no more";

    // The upload token, at verification.
    /// What was presented is not an upload token of this registry.
    UploadTokenMalformed = "upload-token-malformed", Refused, "mint a token at this registry and send it unchanged";
    /// The upload token is not authentic, or its key has been retired.
    UploadTokenUnknown = "upload-token-unknown", Refused, "mint a fresh token at this registry";
    /// The upload token is not good yet.
    UploadTokenNotYetValid = "upload-token-not-yet-valid", Refused, "use the token from the moment on that it was narrowed to, or check the registry's clock";
    /// The upload token is past its expiry.
    UploadTokenExpired = "upload-token-expired", Refused, "mint a fresh token right before the upload";
    /// The upload token has been revoked.
    UploadTokenRevoked = "upload-token-revoked", Refused, "mint a fresh token";
    /// No rule that granted the upload token grants this any more.
    RuleWithdrawn = "rule-withdrawn", Refused, "ask the project's owner which rule holds now, and mint a fresh token";
    /// The upload token is for another registry.
    WrongRegistry = "wrong-registry", Refused, "upload to the registry that minted the token";
    /// The upload token does not allow this action on this package.
    PackageNotCovered = "package-not-covered", Refused, "upload a package that the token names, or mint a token for this one";
    /// The upload token names the package, but not this action on it.
    ActionNotCovered = "action-not-covered", Refused, "mint a token by a rule that grants the action; the first upload of a name needs `create`";
    /// The upload token is limited to other versions.
    VersionNotCovered = "version-not-covered", Refused, "upload the version that the token names";
    /// The upload token is limited to other files.
    DigestNotCovered = "digest-not-covered", Refused, "upload exactly the file that the token was narrowed to";
    /// The file is larger than the upload token allows.
    SizeNotCovered = "size-not-covered", Refused, "upload a smaller file";
    /// The upload token is limited to other addresses.
    AddressNotCovered = "address-not-covered", Refused, "upload from the network that the token names";
    /// The upload token is limited by something that the registry did not state.
    FactNotStated = "fact-not-stated", Refused, "the registry must send the version, digest, size or address that the token is limited by";
    /// The upload token has a caveat that this service does not know or cannot read, or lacks one that every token has.
    CaveatNotUnderstood = "caveat-not-understood", Refused, "attenuate with documented caveats only";
    /// Every use of the upload token is spent.
    UsesSpent = "uses-spent", Refused, "mint a token for each upload, or ask for one without `single-use-token`";
    /// The upload token is limited in uses and the registry did not say which upload to spend one on.
    ConsumeRequired = "consume-required", Refused, "send `consume` with an identifier of the upload";
    /// The same upload was verified before with other facts.
    ConsumeConflict = "consume-conflict", Refused, "send a new `consume` identifier for each upload";

    /// A request that must carry an upload token has none, or more than one.
    UploadTokenMissing = "upload-token-missing", Request, "send the upload token as `Authorization: Bearer`, or, through a proxy, as the password of `Basic`";
    /// A proxy asks about a request that no route of the registry lists, or that is not plain.
    RouteNotAllowed = "route-not-allowed", Refused, "use a method and path that the registry's operator has listed under `routes`, spelled plainly and without a query";

    // Operations.
    /// The settings name nobody who may use the operations endpoint.
    OperationsClosed = "operations-closed", Refused, "list the SHA-256 of an operator's API key under `operations.callers` in the settings";
    /// The policy has no issuer of that id.
    NoSuchIssuer = "no-such-issuer", Request, "name an issuer by an `id` that `GET /issuers` lists";
    /// There is no stop of that name, or it is over.
    NoSuchStop = "no-such-stop", Request, "name a stop by an `id` that `GET /stops` lists";
    /// The issuer's keys are a file of the policy, so nothing is fetched.
    StaticKeys = "static-keys", Request, "replace the issuer's `jwks_file` in the policy";

    /// What the policy directory holds is faulty.
    PolicyRefused = "policy-refused", Refused, "mend the faults that the answer lists and reload; until then the policy before goes on deciding";

    // Later.
    /// The identity provider's keys cannot be had.
    IssuerUnavailable = "issuer-unavailable", Unavailable, "retry with the same token; the identity provider does not answer";
    /// The store cannot be reached, or has no room.
    StoreUnavailable = "store-unavailable", Unavailable, "retry with the same token";
    /// The audit log is full, so that what is granted could not be recorded.
    AuditUnavailable = "audit-unavailable", Unavailable, "retry with the same token; the operators must see why the audit log is not written";
    /// The store may have forgotten whether the token was used or revoked.
    StateLost = "state-lost", Unavailable, "let the job request a fresh ID token and exchange that: this token was issued before the service's memory begins";
    /// The rules that the registry serves itself were never had, or none that the operator's policy allows.
    BundleMissing = "bundle-missing", Unavailable, "retry with the same token; the registry's server does not answer, or what it serves is refused";
    /// The rules that the registry serves itself are past the time until which it vouched for them.
    BundleExpired = "bundle-expired", Unavailable, "retry with a fresh ID token; the registry's server must serve its rules anew";
    /// The registry, or the holders of its tokens, have revoked as many as they may in this hour.
    RevocationsExhausted = "revocations-exhausted", Unavailable, "retry after the time that `Retry-After` names; sooner, a registry revokes by `rule` as long as its own share lasts, and its operators raise its `epoch` in the policy or stop it";
    /// More requests than this replica takes at once; at its very end it takes none.
    Overloaded = "overloaded", Unavailable, "retry after the time that `Retry-After` names";
    /// The registry's allowance for this minute is used up.
    RateLimited = "rate-limited", Unavailable, "retry with the same token after the time that `Retry-After` names; the operator sets what a registry may have a minute under its `limits`";
    /// Too many calls from the client's address were refused.
    TooManyRefusals = "too-many-refusals", Unavailable, "retry with the same token after the time that `Retry-After` names, and mend the calls from this address that are refused, as their answers say; the operator sets how many may be a minute by `limits.refusals_per_client`";

    // Page us.
    /// No key of the ring may mint at this moment.
    NoMintingKey = "no-minting-key", Fault, "create a key with `trustmint keys new`, or correct its `activate_at`";
    /// A defect of this service.
    Internal = "internal", Fault, "report the request id to the operators";
}

impl Code {
    /// The stable text.
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Who must act.
    pub const fn class(self) -> Class {
        self.row().1
    }

    /// What to do about it, in the imperative.
    pub const fn mend(self) -> &'static str {
        self.row().2
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_header_safe() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert!(code.as_str().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{code}");
            assert!(!code.mend().is_empty());
        }
    }
}
