//! Registries: the tenants, each known by its public URLs, its audiences and its callers' keys.
//!
//! A request belongs to the registry whose URL it was sent to or whose audience it names; nothing here falls back to a
//! default, and two registries never answer to one name (lint holds that).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::codec::Codec;
use crate::identity::issuer::Issuer;
use crate::identity::replay::Replay;
use crate::package::Ecosystem;
use crate::policy::bundle;
use crate::policy::caller;
use crate::policy::caller::Caller;
use crate::policy::dialect::Dialect;
use crate::policy::dialect::NamesPackage;
use crate::policy::route::Routes;

/// What verification answers while the store is down, so that nobody knows what was revoked or stopped meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenStoreDown {
    /// That it cannot say.
    Refuse,
    /// What the lists that were complete last say.
    Accept,
}

impl WhenStoreDown {
    /// Both, the usual one first.
    pub const ALL: [Self; 2] = [Self::Refuse, Self::Accept];

    /// Its name in the policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Accept => "accept",
        }
    }
}

/// How a registry's upload tokens look and live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenSettings {
    /// Their first characters, by which scanners for leaked secrets know them.
    pub prefix: String,
    /// How long they live unless a rule says less.
    pub ttl: Duration,
}

/// How much of this service a registry may have, on each replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Upload tokens a minute.
    pub exchanges: u32,
    /// Calls of its own a minute, its proxy's too.
    pub calls: u32,
}

impl Limits {
    /// Unless the policy says otherwise: far above what the busiest registries see when everybody releases at once, and
    /// below what one replica can do, so that no registry can take all of it.
    pub const USUAL: Self = Self { exchanges: 6_000, calls: 120_000 };
}

/// One package registry.
#[derive(Debug, Clone)]
pub struct Registry {
    /// Its name in the policy.
    pub id: String,
    /// How its clients speak.
    pub dialect: Dialect,
    /// How its packages are named: as the dialect's are, unless that has none of its own.
    pub(super) ecosystem: Ecosystem,
    /// Its public upload URLs, at least one; `https`, without query or fragment.
    pub urls: Vec<Url>,
    /// The audiences that ID tokens for it may have, at least one: first those of the policy, of which clients are told
    /// the first, then those that its dialect's clients compute from its URLs.
    pub audiences: Vec<String>,
    /// How its upload tokens look and live.
    pub token: TokenSettings,
    /// How what restricts them is spelled inside.
    pub codec: Codec,
    /// Who may ask about its tokens.
    pub callers: Vec<Caller>,
    /// The name under which its root secret is derived; unique, and stable when the registry is renamed.
    pub key_id: String,
    /// Raising it withdraws every token of the registry that is alive.
    pub epoch: u32,
    /// Whether it takes part at present.
    pub enabled: bool,
    /// How often one ID token may be exchanged, unless its issuer is stricter.
    pub replay: Replay,
    /// For how long a second exchange of the same ID token is answered with the same upload token; `None` for never.
    pub retry_window: Option<Duration>,
    /// What verification answers while the store is down.
    pub verify_when_store_down: WhenStoreDown,
    /// Where it serves rules of its own, if it does.
    pub bundle: Option<Arc<bundle::Source>>,
    /// Which requests a proxy in front of it may ask about, if one does.
    pub routes: Option<Arc<Routes>>,
    /// How much it may have a minute.
    pub limits: Limits,
}

impl Registry {
    /// How its packages are named.
    pub const fn ecosystem(&self) -> Ecosystem {
        self.ecosystem
    }

    /// What a macaroon says about where it is meant for: the first URL's host, and its port unless it is the usual one.
    pub fn location(&self) -> String {
        let Some(url) = self.urls.first() else { return String::new() };
        let host = url.host_str().unwrap_or_default();
        url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// How often one ID token of this issuer may be exchanged here: as the stricter of the two says.
    ///
    /// SECURITY: neither can loosen the other. An issuer is shared by registries, and what one of them accepts must
    /// not be imposed on the rest; a registry's mode holds for issuers whose tokens are worth more. Where clients cannot
    /// name a package, an issuer's `once-per-package` means once: one upload token is for all packages.
    pub fn replay_of(&self, issuer: &Issuer) -> Replay {
        match issuer.replay.map_or(self.replay, |own| own.max(self.replay)) {
            Replay::OncePerPackage if self.dialect.names_package() == NamesPackage::Never => Replay::Once,
            replay @ (Replay::Off | Replay::OncePerPackage | Replay::Once) => replay,
        }
    }

    /// The audience that clients are told to ask for.
    pub fn audience(&self) -> &str {
        self.audiences.first().map_or("", String::as_str)
    }

    /// Its URLs on a host, given as in `Host`; no port means the usual one.
    pub fn urls_at(&self, host: &str, port: Option<u16>) -> impl Iterator<Item = &Url> {
        self.urls.iter().filter(move |url| is_at(url, host, port))
    }

    /// The caller whose API key has this digest.
    pub fn caller(&self, key_sha256: &[u8; 32]) -> Option<&Caller> {
        caller::find(&self.callers, key_sha256)
    }

    fn is_at(&self, host: &str, port: Option<u16>) -> bool {
        self.urls.iter().any(|url| is_at(url, host, port))
    }
}

/// The path of a registry's URL, to which those of its endpoints are added.
pub fn base(url: &Url) -> &str {
    url.path().trim_end_matches('/')
}

/// Whether a URL has this host and port; no port means the scheme's own.
fn is_at(url: &Url, host: &str, port: Option<u16>) -> bool {
    let usual = if url.scheme() == "http" { 80 } else { 443 };
    let same_host = url.host_str().is_some_and(|have| have.eq_ignore_ascii_case(host));
    same_host && url.port().unwrap_or(usual) == port.unwrap_or(usual)
}

/// Every registry of a policy.
#[derive(Debug, Default)]
pub struct Registries {
    all: Vec<Arc<Registry>>,
    by_id: HashMap<String, u32>,
    by_audience: HashMap<String, u32>,
    by_key: HashMap<[u8; 32], u32>,
}

impl Registries {
    /// Files registries that lint has found disjoint.
    pub(super) fn new(all: &[Arc<Registry>]) -> Self {
        let mut registries = Self::default();
        for (registry, number) in all.iter().zip(0..) {
            registries.by_id.insert(registry.id.clone(), number);
            registries.by_audience.extend(registry.audiences.iter().map(|audience| (audience.clone(), number)));
            registries.by_key.extend(registry.callers.iter().map(|caller| (caller.key_sha256, number)));
            registries.all.push(Arc::clone(registry));
        }
        registries
    }

    /// The registry of that name.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Registry>> {
        self.nth(*self.by_id.get(id)?)
    }

    /// The registry that an audience names.
    pub fn by_audience(&self, audience: &str) -> Option<&Arc<Registry>> {
        self.nth(*self.by_audience.get(audience)?)
    }

    /// The registry, and its caller, whose API key has this digest.
    ///
    /// SECURITY: found by the digest and then compared in constant time. What the look-up's time could tell is about
    /// digests of 256-bit keys, from which no key follows.
    pub fn by_caller(&self, key_sha256: &[u8; 32]) -> Option<(&Arc<Registry>, &Caller)> {
        let registry = self.nth(*self.by_key.get(key_sha256)?)?;
        Some((registry, registry.caller(key_sha256)?))
    }

    /// The registry that has exactly this URL: a `resource` of RFC 8707.
    pub fn by_url(&self, url: &str) -> Option<&Arc<Registry>> {
        let url = Url::parse(url).ok()?;
        self.all.iter().find(|registry| registry.urls.contains(&url))
    }

    /// The registries on a host, given as in `Host`; no port means the usual one.
    pub fn by_host(&self, host: &str, port: Option<u16>) -> impl Iterator<Item = &Arc<Registry>> {
        self.all.iter().filter(move |registry| registry.is_at(host, port))
    }

    /// All of them, in the order of the policy.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registry>> {
        self.all.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn position(&self, id: &str) -> Option<u32> {
        self.by_id.get(id).copied()
    }

    pub(super) fn nth(&self, number: u32) -> Option<&Arc<Registry>> {
        self.all.get(usize::try_from(number).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::identity::issuer::IssuerUrl;
    use crate::identity::provider::github;

    fn registry(id: &str, urls: &[&str]) -> Registry {
        Registry {
            id: id.to_owned(),
            dialect: Dialect::Generic,
            ecosystem: Ecosystem::Generic,
            urls: urls.iter().map(|url| Url::parse(url).unwrap()).collect(),
            audiences: vec![format!("{id}-audience"), format!("{id}-old")],
            token: TokenSettings { prefix: "tm-".to_owned(), ttl: Duration::from_secs(900) },
            codec: Codec::Text,
            callers: vec![Caller { name: "web".to_owned(), key_sha256: [7; 32] }],
            key_id: id.to_owned(),
            epoch: 0,
            enabled: true,
            replay: Replay::Once,
            retry_window: None,
            verify_when_store_down: WhenStoreDown::Refuse,
            bundle: None,
            routes: None,
            limits: Limits::USUAL,
        }
    }

    fn registries() -> Registries {
        Registries::new(
            &[
                registry("root", &["https://a.example"]),
                registry("deep", &["https://a.example/team/x/", "https://b.example:8443/y"]),
                registry("team", &["https://a.example/team"]),
                registry("local", &["http://127.0.0.1:8080/legacy/"]),
            ]
            .map(Arc::new),
        )
    }

    #[test]
    fn once_per_package_means_once_where_clients_cannot_name_a_package() {
        let url = IssuerUrl::parse("https://token.actions.githubusercontent.com").unwrap();
        let mut issuer = Issuer::new("github".to_owned(), &github::PROVIDER, url).unwrap();
        issuer.replay = Some(Replay::OncePerPackage);
        for (dialect, expected) in [(Dialect::Pypi, Replay::Once), (Dialect::Generic, Replay::OncePerPackage)] {
            let registry = Registry { dialect, replay: Replay::Off, ..registry("a", &["https://a.example"]) };
            assert_eq!(registry.replay_of(&issuer), expected, "{dialect:?}");
        }
    }

    #[test]
    fn a_host_is_one_with_its_port_and_nobody_elses() {
        let registries = registries();
        let on = |host, port| registries.by_host(host, port).map(|registry| registry.id.as_str()).collect::<Vec<_>>();
        assert_eq!(on("a.example", None), ["root", "deep", "team"]);
        assert_eq!(on("b.example", Some(8443)), ["deep"]);
        assert_eq!(on("A.Example", Some(443)), ["root", "deep", "team"]);
        assert_eq!(on("127.0.0.1", Some(8080)), ["local"]);
        for (host, port) in [
            ("b.example", None),
            ("a.example", Some(8443)),
            ("127.0.0.1", None),
            ("evil.a.example", None),
            ("c.example", None),
            ("", None),
        ] {
            assert!(on(host, port).is_empty(), "{host} {port:?}");
        }
    }

    #[test]
    fn names_are_exact() {
        let registries = registries();
        let id = |registry: Option<&Arc<Registry>>| registry.map(|registry| registry.id.clone());
        assert_eq!(id(registries.by_audience("deep-old")), Some("deep".to_owned()));
        assert_eq!(id(registries.by_audience("Deep-old")), None);
        assert_eq!(id(registries.by_url("https://a.example/team")), Some("team".to_owned()));
        assert_eq!(id(registries.by_url("https://a.example:443/team")), Some("team".to_owned()));
        for url in ["https://a.example/team/", "http://a.example/team", "https://a.example/team?x", "a.example", ""] {
            assert_eq!(id(registries.by_url(url)), None, "{url}");
        }
        let team = registries.by_id("team").unwrap();
        assert_eq!((team.audience(), team.location().as_str()), ("team-audience", "a.example"));
        assert_eq!(registries.by_id("local").unwrap().location(), "127.0.0.1:8080");
        assert!(team.caller(&[7; 32]).is_some());
        assert!(team.caller(&[8; 32]).is_none());
    }
}
