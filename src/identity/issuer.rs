//! Issuers: the identity providers that an operator has configured, each known by its exact URL.
//!
//! Decides what an issuer URL may look like and which preset may speak for it. A token's `iss` is only ever compared,
//! byte by byte, with these URLs; nothing is stripped, folded or matched by pattern.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use ipnet::IpNet;
use url::Host;
use url::Url;

use crate::identity::family::Member;
use crate::identity::provider;
use crate::identity::provider::FixedAudience;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::replay::Replay;
use crate::identity::token::spiffe;
use crate::json::Json;
use crate::json::Object;

/// Longest issuer URL, in bytes.
pub const MAX_URL: usize = 1024;

/// An issuer's URL: the text that its tokens carry in `iss`.
///
/// INVARIANT: `https` (or `http` on a loopback host), lower-case ASCII scheme and host, no user, query, fragment, dot
/// segment or empty segment; or `spiffe` and nothing but a trust domain. A final slash is part of the name: some
/// providers' issuers end in one, most do not.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IssuerUrl(String);

/// Why a text is not an issuer URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssuerUrlError {
    /// No URL with a host, or too long.
    #[error("is not a URL such as https://token.ci.example")]
    NotAUrl,
    /// Not `https`.
    #[error("must start with https:// (http:// is for loopback hosts only)")]
    Scheme,
    /// No `spiffe://` and a trust domain.
    #[error("is not a trust domain such as spiffe://prod.acme.example: lower-case letters, digits, `.`, `-` and `_`")]
    TrustDomain,
    /// A user name or password.
    #[error("must not contain a user name or password")]
    UserInfo,
    /// A query or fragment.
    #[error("must not contain `?` or `#`")]
    QueryOrFragment,
    /// Letters beyond ASCII, white space, control characters, a backslash.
    #[error("may contain printable ASCII characters only, and no backslash")]
    Character,
    /// Another spelling than the canonical one.
    #[error("must have a lower-case scheme and host, no default port and no final dot in the host")]
    Spelling,
    /// `//`, `.`, `..` or percent-encoding in the path.
    #[error("must not have empty, `.` or `..` segments or percent-encoding in its path")]
    Path,
}

impl IssuerUrl {
    /// Reads an issuer URL as it stands in tokens. Nothing is normalised: a text that a URL parser would change is
    /// refused, since it could never equal a token's `iss` and a reader would take it for another.
    pub fn parse(text: &str) -> Result<Self, IssuerUrlError> {
        if text.len() > MAX_URL {
            return Err(IssuerUrlError::NotAUrl);
        }
        // SECURITY: a URL parser drops tabs, reads `\` as `/` and maps look-alike letters to ASCII.
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(IssuerUrlError::Character);
        }
        let url = Url::parse(text).map_err(|_| IssuerUrlError::NotAUrl)?;
        let host = url.host().ok_or(IssuerUrlError::NotAUrl)?;
        if url.scheme() != "https" && !(url.scheme() == "http" && is_loopback(&host)) {
            return Err(IssuerUrlError::Scheme);
        }
        if text.contains(['?', '#']) {
            return Err(IssuerUrlError::QueryOrFragment);
        }
        let (_, rest) = text.split_once("://").ok_or(IssuerUrlError::NotAUrl)?;
        let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
        if authority.contains('@') {
            return Err(IssuerUrlError::UserInfo);
        }
        // SECURITY: `%2e%2e` is `..` to some servers; a dot segment would make the discovery URL another one.
        let odd = |segment: &str| matches!(segment, "" | "." | "..") || segment.contains('%');
        let segments = path.map(|path| path.strip_suffix('/').unwrap_or(path)).filter(|path| !path.is_empty());
        if path == Some("/") || segments.is_some_and(|path| path.split('/').any(odd)) {
            return Err(IssuerUrlError::Path);
        }
        // The parser's own spelling must be the text; it only adds the slash of an empty path.
        let canonical = url.as_str();
        let same = canonical == text || (path.is_none() && canonical.strip_suffix('/') == Some(text));
        if !same || url.host_str().is_some_and(|host| host.ends_with('.')) {
            return Err(IssuerUrlError::Spelling);
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads a SPIFFE trust domain, which stands in for `iss` in SVIDs (SPIFFE ID section 2.1): it has no discovery, and
    /// its keys are a bundle.
    pub fn trust_domain(text: &str) -> Result<Self, IssuerUrlError> {
        let domain = text.strip_prefix(spiffe::SCHEME).filter(|domain| spiffe::is_trust_domain(domain));
        domain.map(|_| Self(text.to_owned())).ok_or(IssuerUrlError::TrustDomain)
    }

    /// Whether it is a SPIFFE trust domain.
    pub fn is_trust_domain(&self) -> bool {
        self.0.starts_with(spiffe::SCHEME)
    }

    /// The text, byte for byte as in `iss`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, without a port.
    pub fn host(&self) -> &str {
        let authority = self.0.split('/').nth(2).unwrap_or_default();
        match authority.split_once(']') {
            Some(_) => authority.split_inclusive(']').next().unwrap_or_default(),
            None => authority.split(':').next().unwrap_or_default(),
        }
    }

    /// Whether it is an address of this machine: the only kind that may use `http`.
    pub fn is_loopback(&self) -> bool {
        Url::parse(&self.0).is_ok_and(|url| url.host().is_some_and(|host| is_loopback(&host)))
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IssuerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A configured identity provider.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// Its name in the policy: what logs, metrics and rules call it.
    pub id: String,
    url: IssuerUrl,
    provider: &'static Provider,
    member: Option<Member>,
    /// Longest accepted `exp − iat`.
    pub max_lifetime: Duration,
    /// Whether its tokens are accepted at all.
    pub enabled: bool,
    /// Where its keys come from.
    pub keys: KeySource,
    /// How often its tokens may be exchanged, where that is stricter than the registry's mode.
    pub replay: Option<Replay>,
}

/// Where an issuer's keys come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// They are fetched.
    Remote {
        /// How it is reached.
        reach: Reach,
        /// Where the key set is, if the operator says so; else the issuer's discovery document does.
        jwks_uri: Option<Url>,
    },
    /// A JWK Set document from the policy directory; nothing is fetched.
    Static(Vec<u8>),
}

/// What an issuer's configuration says about reaching it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Reach {
    /// The certificate authorities to trust, in PEM, instead of the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Networks beyond the public Internet in which its addresses may be.
    pub allow_networks: Vec<IpNet>,
    /// The HTTP proxy to go through.
    pub proxy: Option<Url>,
}

/// Why a preset may not speak for a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// The preset serves one URL.
    #[error("the provider `{provider}` has one issuer, {url}")]
    OneUrl {
        /// The preset.
        provider: &'static str,
        /// Its URL.
        url: &'static str,
    },
    /// The URL has none of the forms of the preset's issuers.
    #[error("the issuers of the provider `{provider}` are {}", forms.join(", "))]
    OtherForm {
        /// The preset.
        provider: &'static str,
        /// The forms; `*` is one label or segment.
        forms: &'static [&'static str],
    },
    /// The host belongs to another preset.
    #[error(
        "this host belongs to the provider `{owner}`: use `provider: {owner}`, which knows what its rules must pin"
    )]
    OwnedBy {
        /// The preset that it belongs to.
        owner: &'static str,
    },
}

impl Issuer {
    /// An enabled issuer with its preset's longest lifetime and keys by discovery.
    ///
    /// SECURITY: a preset brings the claims that rules must pin. Under another preset's looser duties a shared issuer
    /// would let every tenant in, so each host has the one preset that owns it.
    pub fn new(id: String, provider: &'static Provider, url: IssuerUrl) -> Result<Self, SiteError> {
        if let Site::Fixed(only) = provider.site
            && url.as_str() != only
        {
            return Err(SiteError::OneUrl { provider: provider.name, url: only });
        }
        if let Site::OneOf(forms) = provider.site
            && !forms.iter().any(|form| has_form(url.as_str(), form))
        {
            return Err(SiteError::OtherForm { provider: provider.name, forms });
        }
        if let Some(owner) = provider::owner(url.host())
            && owner.name != provider.name
        {
            return Err(SiteError::OwnedBy { owner: owner.name });
        }
        let keys = KeySource::Remote { reach: Reach::default(), jwks_uri: None };
        Ok(Self {
            id,
            url,
            provider,
            member: None,
            max_lifetime: provider.max_lifetime,
            enabled: true,
            keys,
            replay: None,
        })
    }

    /// The URL that its tokens carry in `iss`.
    pub const fn url(&self) -> &IssuerUrl {
        &self.url
    }

    /// Under which name its keys are held: issuers of the same name have one key set.
    pub fn keys_name(&self) -> &str {
        self.member.as_ref().map_or(self.url.as_str(), |member| member.template)
    }

    /// The audiences that its tokens may have at a registry with these: the registry's own, or the one that the provider
    /// puts into all of them.
    pub fn audiences<'a>(&self, registry: &'a [String]) -> Cow<'a, [String]> {
        self.fixed_audience().map_or(Cow::Borrowed(registry), |fixed| Cow::Owned(vec![fixed]))
    }

    /// The audience that its tokens have whatever the job asks for.
    pub fn fixed_audience(&self) -> Option<String> {
        self.provider.fixed_audience.map(|fixed| match fixed {
            FixedAudience::Is(text) => text.to_owned(),
            FixedAudience::IssuerUrl => self.url.to_string(),
            FixedAudience::IssuerHost => self.url.host().to_owned(),
        })
    }

    /// What tells it from the other members of its family, if it is of one.
    pub fn segment(&self) -> Option<&str> {
        self.member.as_ref().map(|member| member.segment.as_str())
    }

    /// Computes every derived claim of a token's raw members: the preset's, and of a family's member its segment.
    pub fn derive(&self, raw: &Object) -> Vec<(&'static str, Option<Json>)> {
        let mut derived = self.provider.derive(raw);
        derived.extend(self.member.as_ref().map(|member| (member.claim, Some(Json::String(member.segment.clone())))));
        derived
    }

    pub(super) fn into_member(self, url: IssuerUrl, member: Member) -> Self {
        Self { url, member: Some(member), ..self }
    }

    /// What is known about its kind.
    pub const fn provider(&self) -> &'static Provider {
        self.provider
    }
}

/// Whether a URL has a form, in which `*` stands for one host label or path segment.
fn has_form(url: &str, form: &str) -> bool {
    let Some((before, after)) = form.split_once('*') else { return url == form };
    let plain = |text: &str| !text.is_empty() && !text.contains(['/', '.', ':', '@']);
    url.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some_and(plain)
}

#[cfg(test)]
mod tests;
