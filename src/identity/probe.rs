//! What an identity provider publishes, examined for an operator who wants to configure it.
//!
//! Decides whether the service would accept the provider's documents, in which respects they deviate from OIDC
//! Discovery 1.0, RFC 7517 and RFC 7518, and what to write into the policy. It judges by the very functions that the
//! service reads these documents with, and fetches nothing itself.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use url::Url;

use crate::identity::fetch::FetchError;
use crate::identity::fetch::MAX_BODY;
use crate::identity::fetch::TIMEOUT;
use crate::identity::issuer::Issuer;
use crate::identity::issuer::IssuerUrl;
use crate::identity::issuer::IssuerUrlError;
use crate::identity::provider::Provider;

mod discovery;
mod key_set;

/// A document as it was fetched.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// How much longer it is fresh; `None` if nothing legible was said.
    pub max_age: Option<Duration>,
    /// Its entity tag.
    pub etag: Option<String>,
    /// How long the request took.
    pub took: Duration,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The service does not accept the provider like this.
    Refused,
    /// Accepted, though it deviates from the standards or will surprise.
    Odd,
    /// Nothing is wrong, and operators should know.
    Note,
}

impl Severity {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Odd => "odd",
            Self::Note => "note",
        }
    }
}

/// One observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// A stable name.
    pub code: &'static str,
    /// What was seen. May quote the provider: to be escaped before it is shown.
    pub sentence: String,
    /// What to do; empty when there is nothing to do.
    pub remedy: Cow<'static, str>,
}

impl Finding {
    fn new(
        severity: Severity,
        code: &'static str,
        sentence: impl Into<String>,
        remedy: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { severity, code, sentence: sentence.into(), remedy: remedy.into() }
    }

    fn refused(code: &'static str, sentence: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Refused, code, sentence, remedy)
    }

    fn odd(code: &'static str, sentence: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Odd, code, sentence, remedy)
    }

    fn note(code: &'static str, sentence: impl Into<String>, remedy: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Severity::Note, code, sentence, remedy)
    }

    /// A text that is no issuer URL at all.
    pub fn not_an_issuer(url: &str, error: IssuerUrlError) -> Self {
        let remedy = if url.contains('{') {
            "give the URL of one tenant of the family"
        } else {
            "give the URL exactly as its tokens carry it in `iss`"
        };
        Self::refused("issuer-url", format!("`{url}` {error}"), remedy)
    }
}

/// One published key. The texts are the provider's: to be escaped before they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyFacts {
    /// Its `kid`.
    pub kid: Option<String>,
    /// Type and size, such as `RSA 2048`.
    pub kind: String,
    /// Its `alg`.
    pub alg: Option<String>,
    /// Whether it may verify tokens.
    pub used: bool,
}

/// Everything that was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Observations, the gravest first.
    pub list: Vec<Finding>,
    /// The published keys, in the order of the set; empty if there was none to read.
    pub keys: Vec<KeyFacts>,
}

impl Findings {
    /// Whether the service would accept the provider.
    pub fn is_accepted(&self) -> bool {
        self.keys.iter().any(|key| key.used) && self.list.iter().all(|finding| finding.severity != Severity::Refused)
    }
}

/// Examines what was fetched for an issuer; the key set is `None` when discovery did not lead to one.
pub fn examine(
    issuer: &IssuerUrl,
    provider: &'static Provider,
    document: Result<&Answered, &FetchError>,
    key_set: Option<Result<&Answered, &FetchError>>,
) -> Findings {
    let mut list = Vec::new();
    match Issuer::new("probe".to_owned(), provider, issuer.clone()) {
        Ok(issuer) => list.extend(issuer.fixed_audience().map(|audience| {
            let sentence =
                format!("all tokens have the audience `{audience}`: one for another service is as good here");
            Finding::note("fixed-audience", sentence, "the entry says that this is accepted: see that it is")
        })),
        Err(error) => list.push(Finding::refused("preset", error.to_string(), "choose the preset that fits, or none")),
    }
    if provider.local_hosts.iter().any(|host| host.covers(issuer.host())) {
        let sentence = format!("`{}` is another machine on every network", issuer.host());
        list.push(Finding::refused("local-host", sentence, "bring its keys as a file (`jwks_file`)"));
    }
    if issuer.as_str().starts_with("http:") {
        let sentence = "the URL is http, and whoever holds the port could answer";
        list.push(Finding::refused("http", sentence, "serve it with TLS; `serve` accepts http nowhere"));
    }
    match document {
        Ok(answered) => {
            list.extend(answer("discovery document", answered));
            discovery::examine(&answered.bytes, issuer, provider, &mut list);
        }
        Err(error) => list.push(unreachable("discovery document", error)),
    }
    let keys = match key_set {
        Some(Ok(answered)) => {
            list.extend(answer("key set", answered));
            list.extend(key_set::freshness(answered));
            key_set::examine(&answered.bytes, &mut list)
        }
        Some(Err(error)) => {
            list.push(unreachable("key set", error));
            Vec::new()
        }
        None => Vec::new(),
    };
    list.sort_by_key(|finding| finding.severity);
    Findings { list, keys }
}

/// How close an answer came to the limits beyond which it would not have been read.
fn answer(what: &str, answered: &Answered) -> Vec<Finding> {
    let mut list = Vec::new();
    if answered.took >= TIMEOUT * 3 / 4 {
        let sentence = format!("the {what} took {:.1} s, and 2 s are waited", answered.took.as_secs_f64());
        list.push(Finding::odd("slow", sentence, "see what is slow on the way before tokens have to wait for it"));
    }
    if answered.bytes.len() >= MAX_BODY * 4 / 5 {
        let sentence = format!("the {what} has {} bytes, and at most {MAX_BODY} are read", answered.bytes.len());
        list.push(Finding::odd("large", sentence, "ask the provider what it is growing by"));
    }
    list
}

fn unreachable(what: &str, error: &FetchError) -> Finding {
    let remedy: &'static str = match error {
        FetchError::Url => "only https URLs without a user name are fetched",
        FetchError::Forbidden { .. } => {
            "if that network is yours, allow it: `--allow-network` here, `allow_networks` in the policy"
        }
        FetchError::NoAddress(_) => "check the spelling, and that names are resolved on this machine",
        FetchError::Authorities(_) => "give the authority's certificate with `--ca-file`, or install the system's",
        FetchError::Connect(_) => {
            "check that the port can be reached from here; a private authority's certificate is given with `--ca-file`"
        }
        FetchError::TimedOut(_) => "check for a firewall on the way; keys can also come from a file (`jwks_file`)",
        FetchError::Status(300..=399) => "redirects are not followed: the provider must answer at this very URL",
        FetchError::Status(401 | 403) => {
            "the provider must answer without credentials, or bring its keys as `jwks_file`"
        }
        FetchError::Status(404) => {
            "check that the URL is what its tokens carry in `iss`; without discovery, keys can come from a file \
             (`jwks_file`)"
        }
        FetchError::Status(_) | FetchError::Broken(_) => "try again; if it stays so, ask the provider",
        FetchError::Encoded => "the provider must not compress what was not asked for",
        FetchError::TooLarge(_) => "ask the provider for a shorter document, or bring the keys as `jwks_file`",
    };
    Finding::refused("unreachable", format!("{what}: {error}"), remedy)
}

/// How an issuer was reached, as far as its entry has to say so.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reached<'a> {
    /// The path of a bundle, which the policy knows by its last part.
    pub ca_file: Option<&'a Path>,
    /// Networks that were allowed.
    pub allow_networks: &'a [IpNet],
    /// The proxy.
    pub proxy: Option<&'a Url>,
}

/// The entry for the policy's `issuers`, as YAML that `Policy::load` accepts.
pub fn entry(issuer: &IssuerUrl, provider: &Provider, reached: Reached<'_>) -> String {
    let own = provider.site.owned_url() == Some(issuer.as_str());
    let id = if own { provider.name.to_owned() } else { id_of(issuer) };
    let mut lines = vec!["issuers:".to_owned(), format!("  {id}:"), format!("    provider: {}", provider.name)];
    if !own {
        lines.push(format!("    url: \"{issuer}\""));
    }
    if let Some(path) = reached.ca_file {
        lines.push(format!("    ca_file: \"{}\"  # to be put beside this file", ca_name(path)));
    }
    if !reached.allow_networks.is_empty() {
        let networks: Vec<String> = reached.allow_networks.iter().map(|network| format!("\"{network}\"")).collect();
        lines.push(format!("    allow_networks: [{}]", networks.join(", ")));
    }
    if let Some(proxy) = reached.proxy {
        lines.push(format!("    proxy: \"{proxy}\""));
    }
    if provider.fixed_audience.is_some() {
        lines.push("    accept_fixed_audience: true".to_owned());
    }
    if provider.claims.is_empty() {
        lines.push(
            "    # tenancy: single  # only if nobody else's jobs get tokens there; else rules pin `sub`".to_owned(),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

/// A name for the issuer: its host, and the last part of its path, in the characters that names may have.
fn id_of(issuer: &IssuerUrl) -> String {
    let path = issuer.as_str().split('/').skip(3).filter(|part| !part.is_empty()).last();
    let text = match path {
        Some(part) => format!("{}-{part}", issuer.host()),
        None => issuer.host().to_owned(),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let id: String = text.to_ascii_lowercase().chars().map(|c| if plain(c) { c } else { '-' }).collect();
    id.trim_start_matches(['-', '.']).chars().take(64).collect()
}

/// The bundle's file name, if a policy may refer to it.
fn ca_name(path: &Path) -> &str {
    let plain = |name: &&str| {
        !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    path.file_name().and_then(|name| name.to_str()).filter(plain).unwrap_or("ca.pem")
}

#[cfg(test)]
mod tests;
