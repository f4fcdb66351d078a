//! Provider presets: what this service knows about each CI identity provider, as data, one record a file.
//!
//! A preset says which claims exist and how they compare, which of them are immutable and must be pinned, what is
//! safe to demand by default, what may be shown, and what a realistic token looks like. It contains no decisions: the
//! policy reads it. A new provider is one file and one line in [`ALL`].

use std::time::Duration;

use crate::json::Json;
use crate::json::Object;

mod example;
mod part;

pub mod activestate;
pub mod aws;
pub mod azure_devops;
pub mod bitbucket;
pub mod buildkite;
pub mod circleci;
pub mod codefresh;
pub mod depot;
pub mod forgejo;
pub mod generic;
pub mod github;
pub mod gitlab;
pub mod google;
pub mod hcp_terraform;
pub mod jenkins;
pub mod kubernetes;
pub mod semaphore;
pub mod spacelift;
pub mod spiffe;

/// Every preset, in the order that documentation lists them.
pub static ALL: &[&Provider] = &[
    &github::PROVIDER,
    &gitlab::PROVIDER,
    &google::PROVIDER,
    &activestate::PROVIDER,
    &circleci::PROVIDER,
    &buildkite::PROVIDER,
    &bitbucket::PROVIDER,
    &azure_devops::PROVIDER,
    &codefresh::PROVIDER,
    &semaphore::PROVIDER,
    &jenkins::PROVIDER,
    &hcp_terraform::PROVIDER,
    &spacelift::PROVIDER,
    &forgejo::PROVIDER,
    &depot::PROVIDER,
    &kubernetes::PROVIDER,
    &spiffe::PROVIDER,
    &aws::PROVIDER,
    &generic::PROVIDER,
];

/// Hosts of providers without a preset that many tenants share: one tenant is never alone on them.
const SHARED_HOSTS: &[HostName] = &[
    HostName::Is("api.pulumi.com"),
    HostName::Is("federation.namespaceapis.com"),
    HostName::Is("issuer.enforce.dev"),
    HostName::Is("login.app.env0.com"),
    HostName::Is("login.microsoftonline.com"),
    HostName::Is("login.microsoftonline.us"),
    HostName::Is("login.partner.microsoftonline.cn"),
    HostName::Is("oidc.cirrus-ci.com"),
    HostName::Is("oidc.fly.io"),
    HostName::Is("oidc.modal.com"),
    HostName::Is("oidc.vercel.com"),
    HostName::Is("scalr.io"),
    HostName::Is("sts.windows.net"),
    HostName::Below("buddyusercontent.com"),
    HostName::Below("harness.io"),
];

/// Whether a host without a preset serves many tenants.
pub fn is_shared(host: &str) -> bool {
    SHARED_HOSTS.iter().any(|shared| shared.covers(host))
}

/// Whether a host's name means another machine on every network, whichever preset a policy would like to use for it.
pub fn is_local(host: &str) -> bool {
    ALL.iter().any(|provider| provider.local_hosts.iter().any(|local| local.covers(host)))
}

/// The preset of that name.
pub fn by_name(name: &str) -> Option<&'static Provider> {
    ALL.iter().copied().find(|provider| provider.name == name)
}

/// The preset that a host belongs to, whichever preset a policy would like to use for an issuer on it.
pub fn owner(host: &str) -> Option<&'static Provider> {
    ALL.iter().copied().find(|provider| provider.hosts.iter().any(|own| own.covers(host)))
}

/// What is known about one kind of identity provider.
#[derive(Debug)]
pub struct Provider {
    /// The preset's name in the policy, and the first half of its examples' names.
    pub name: &'static str,
    /// Which issuer URLs this preset serves.
    pub site: Site,
    /// Hosts that belong to this preset: no other one may be configured for an issuer on them.
    /// SECURITY: they are shared by many tenants, and only this preset knows what tells the tenants apart.
    pub hosts: &'static [HostName],
    /// Claims that a rule must fix, each by literals, in every branch: immutable identifiers of owner and project.
    /// SECURITY: without them anyone on a shared provider, or whoever re-registers a freed name, passes.
    pub pins: &'static [&'static str],
    /// Claims of which a rule must name at least one by a literal, a glob or a regex, in every branch: what says which
    /// of a project's jobs may publish. Empty where the pins and the added conditions leave no job of a stranger.
    /// SECURITY: the pins say whose project it is; a job of it can still run what a fork, or any of its branches, says.
    pub narrows: &'static [&'static str],
    /// The wider scopes that a rule may declare with its key `span`. Empty where every rule is about one project.
    pub spans: &'static [Span],
    /// Claims without which a token is not one of a CI job: the same key signs other tokens too.
    pub required: &'static [&'static str],
    /// The claims that rules may name, with their types and case rules. Empty means any name with any type.
    pub claims: &'static [Claim],
    /// Claims computed from others.
    pub derived: &'static [Derived],
    /// Short names for unwieldy claims: (alias, claim).
    pub aliases: &'static [(&'static str, &'static str)],
    /// Conditions added to each rule that does not itself name the claim.
    pub implied: &'static [Implied],
    /// Claims that may be shown to the caller and written into the audit log. Never an e-mail address.
    pub public: &'static [&'static str],
    /// Those of the public claims that the macaroon carries to the registry: enough to find the job's run and its
    /// source, few enough that a token fits a header whatever the names in it.
    pub provenance: &'static [&'static str],
    /// Longest accepted `exp − iat`, unless the issuer's configuration says otherwise.
    pub max_lifetime: Duration,
    /// Hosts other than the issuer's own on which its `jwks_uri` may be.
    pub jwks_hosts: &'static [&'static str],
    /// Issuer URLs with one path segment in braces (`https://oidc.circleci.com/org/{organization}`): a policy may
    /// configure all of them as one issuer. The provider signs for all of them with one key set, so the segment is what
    /// tells its tenants apart; it becomes a derived claim, which each rule must pin.
    pub families: &'static [&'static str],
    /// The audience that the provider puts into every token.
    /// SECURITY: other services accept it too, so a token for one can be relayed to another; an operator must say that
    /// this is accepted.
    pub fixed_audience: Option<FixedAudience>,
    /// Hosts whose name means another machine on every network: their keys come from a file only.
    pub local_hosts: &'static [HostName],
    /// Whether an issuer may be a SPIFFE trust domain (`spiffe://…`) with a bundle of keys.
    pub trust_domains: bool,
    /// How a job gets claims that its tokens lack, in the imperative; empty where all tokens have them.
    pub hint: &'static str,
    /// Realistic claim sets: for rule tests, the demonstration and documentation.
    pub examples: &'static [Example],
}

impl Provider {
    /// A preset that knows nothing: what a record leaves out is as here.
    const PLAIN: Self = Self {
        name: "",
        site: Site::Configured,
        hosts: &[],
        pins: &[],
        narrows: &[],
        spans: &[],
        required: &[],
        claims: &[],
        derived: &[],
        aliases: &[],
        implied: &[],
        public: &[],
        provenance: &[],
        max_lifetime: Duration::from_secs(60 * 60),
        jwks_hosts: &[],
        families: &[],
        fixed_audience: None,
        local_hosts: &[],
        trust_domains: false,
        hint: "",
        examples: &[],
    };
}

/// Which issuer URLs a preset serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// Exactly this URL, which belongs to the preset: no other preset may be configured with it.
    Fixed(&'static str),
    /// This URL unless the policy names another, self-managed one.
    Default(&'static str),
    /// One URL of these forms, which the policy must name. `*` stands for one host label or path segment: a tenant.
    OneOf(&'static [&'static str]),
    /// The policy must name the URL, and none that belongs to another preset.
    Configured,
}

impl Site {
    /// The URL that belongs to the preset, if any.
    pub const fn owned_url(self) -> Option<&'static str> {
        match self {
            Self::Fixed(url) | Self::Default(url) => Some(url),
            Self::OneOf(_) | Self::Configured => None,
        }
    }
}

/// An audience that tokens have whatever the job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedAudience {
    /// This text.
    Is(&'static str),
    /// The issuer's URL.
    IssuerUrl,
    /// The host of the issuer's URL.
    IssuerHost,
}

/// A host, or all hosts of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostName {
    /// This host.
    Is(&'static str),
    /// Every host whose name ends in `.` and this domain.
    Below(&'static str),
    /// Every host that is the first, one label, and the second: a cloud's region.
    Between(&'static str, &'static str),
}

impl HostName {
    /// Whether the host is (one of) these.
    pub fn covers(self, host: &str) -> bool {
        match self {
            Self::Is(name) => host == name,
            Self::Below(domain) => host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')),
            Self::Between(before, after) => {
                let label = host.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                label.is_some_and(|label| !label.is_empty() && !label.contains('.'))
            }
        }
    }
}

/// One claim as its provider defines it.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    /// The member's name in the token.
    pub name: &'static str,
    /// The JSON type of its value.
    pub kind: Kind,
    /// How text compares.
    pub case: Case,
    /// How its text is spelled, for identifiers with one spelling.
    pub form: Form,
}

impl Claim {
    /// A string compared byte by byte.
    pub const fn string(name: &'static str) -> Self {
        Self { name, kind: Kind::String, case: Case::Exact, form: Form::Free }
    }

    /// A string whose provider ignores the case of ASCII letters.
    pub const fn folded(name: &'static str) -> Self {
        Self { case: Case::AsciiInsensitive, ..Self::string(name) }
    }

    /// A string that is an identifier of this form.
    pub const fn id(name: &'static str, form: Form) -> Self {
        Self { form, ..Self::string(name) }
    }

    /// An integer.
    pub const fn integer(name: &'static str) -> Self {
        Self { kind: Kind::Integer, ..Self::string(name) }
    }

    /// A boolean.
    pub const fn boolean(name: &'static str) -> Self {
        Self { kind: Kind::Bool, ..Self::string(name) }
    }

    /// A list of strings.
    pub const fn list(name: &'static str) -> Self {
        Self { kind: Kind::List, ..Self::string(name) }
    }

    /// A value of any type.
    pub const fn any(name: &'static str) -> Self {
        Self { kind: Kind::Any, ..Self::string(name) }
    }
}

/// The one spelling of an identifier. A rule's literal of another form could never match, or only by accident, so it is
/// refused when it loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Free,
    /// Decimal digits without a leading zero.
    Decimal,
    /// A UUID in lower-case hexadecimal digits and hyphens.
    Uuid,
    /// The same between `{` and `}`.
    BracedUuid,
    /// The address of a Google service account. SECURITY: any other is a person's, or a group's.
    ServiceAccount,
}

impl Form {
    /// Whether a text is spelled so.
    pub fn fits(self, text: &str) -> bool {
        match self {
            Self::Free => true,
            Self::Decimal => text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() && !text.starts_with('0'),
            Self::Uuid => is_uuid(text),
            Self::BracedUuid => text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).is_some_and(is_uuid),
            Self::ServiceAccount => text.split_once('@').is_some_and(|(account, domain)| {
                !account.is_empty() && !domain.contains('@') && domain.ends_with(".gserviceaccount.com")
            }),
        }
    }

    /// How it is spelled, by an example; nothing for [`Form::Free`].
    pub const fn example(self) -> &'static str {
        match self {
            Self::Free => "",
            Self::Decimal => "701234567",
            Self::Uuid => "0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11",
            Self::BracedUuid => "{0d6f8a3e-5b1c-4c57-9a55-3f0e7c9b2a11}",
            Self::ServiceAccount => "releaser@acme-prod.iam.gserviceaccount.com",
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let place = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(place)
}

/// The JSON type of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    String,
    /// An integer.
    Integer,
    /// `true` or `false`.
    Bool,
    /// An array of strings.
    List,
    /// Not known: the rule's own literal decides.
    Any,
}

/// How two strings compare. Folding is ASCII only: Unicode folding equates the Kelvin sign with `k`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    /// Byte by byte.
    Exact,
    /// Ignoring the case of ASCII letters.
    AsciiInsensitive,
}

/// A claim computed from others, under a name that no raw claim has.
#[derive(Debug, Clone, Copy)]
pub struct Derived {
    /// Name, type and case rule.
    pub claim: Claim,
    /// The raw claims it is computed from.
    pub from: &'static [&'static str],
    /// Computes it; `None` when the token has none.
    pub derive: fn(&Object) -> Option<Json>,
}

/// A scope wider than one project that a rule may declare, `span: owner`: the one way to leave a pin out.
///
/// INVARIANT: what stays pinned has an immutable identifier of the owner among it, so a freed name lets nobody in.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Its name in the policy.
    pub name: &'static str,
    /// The pins that a rule of this scope need not fix.
    pub frees: &'static [&'static str],
    /// The claims whose text no two projects of one owner have. SECURITY: nothing else of a job may become a package's
    /// name in such a rule, or two projects could make one name.
    pub names: &'static [&'static str],
}

/// A condition that a preset adds.
#[derive(Debug, Clone, Copy)]
pub struct Implied {
    /// The claim it is about; a rule that names this claim itself goes without the implied condition.
    pub claim: &'static str,
    /// Prefix of further claims that, named in a rule, also replace this condition (`job_workflow_`).
    pub unless_prefix: Option<&'static str>,
    /// What must hold.
    pub test: ImpliedTest,
}

/// What an implied condition demands of its claim.
#[derive(Debug, Clone, Copy)]
pub enum ImpliedTest {
    /// Present and one of these strings.
    In(&'static [&'static str]),
    /// Present and none of these strings.
    NotIn(&'static [&'static str]),
    /// Present and the boolean `true`.
    IsTrue,
    /// Present and the boolean `false`.
    IsFalse,
    /// Absent.
    Absent,
    /// Absent, or this string.
    AbsentOrIs(&'static str),
    /// Present and equal to the other claim.
    SameAs(&'static str),
    /// Absent, or equal to the other claim.
    AbsentOrSameAs(&'static str),
}

/// A realistic claim set without `iss`, `aud`, times and `jti`, which whoever makes a token of it adds.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The second half of its name: `tag-push` in `github/tag-push`.
    pub name: &'static str,
    /// The claims, given overrides. Dependent claims (`workflow_ref`, `sub`, …) follow the overridden ones unless they
    /// are overridden themselves; `null` takes a claim away.
    pub claims: fn(&Object) -> Object,
}

impl Provider {
    /// The type and case rule of a claim or derived claim; `None` if the preset knows its claims and this is none.
    pub fn claim(&self, name: &str) -> Option<Claim> {
        let derived = || self.derived.iter().map(|derived| &derived.claim).find(|claim| claim.name == name);
        self.claims.iter().find(|claim| claim.name == name).or_else(derived).copied()
    }

    /// Computes every derived claim of a token's raw members.
    pub fn derive(&self, raw: &Object) -> Vec<(&'static str, Option<Json>)> {
        self.derived.iter().map(|derived| (derived.claim.name, (derived.derive)(raw))).collect()
    }

    /// The claim that a name in a rule stands for: the alias resolved.
    pub fn resolve<'a>(&self, name: &'a str) -> &'a str {
        self.aliases.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, claim)| claim)
    }

    /// What people call a claim: its alias, if it has one.
    pub fn shown<'a>(&self, claim: &'a str) -> &'a str {
        self.aliases.iter().find(|(_, name)| *name == claim).map_or(claim, |(alias, _)| alias)
    }

    /// The scope of that name.
    pub fn span(&self, name: &str) -> Option<&'static Span> {
        self.spans.iter().find(|span| span.name == name)
    }

    /// The example of that name (without the preset's).
    pub fn example(&self, name: &str) -> Option<&'static Example> {
        self.examples.iter().find(|example| example.name == name)
    }
}

#[cfg(test)]
mod tests;
