//! Dialects: how the clients of an ecosystem spell the exchange, and what follows from it for a registry.

use std::time::Duration;

use url::Url;

use crate::identity::replay::Replay;
use crate::package::Ecosystem;

/// How a registry's clients spell the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// PEP 807 and `PyPI`'s own endpoints, beside the endpoint that all registries have: RFC 8693's.
    Pypi,
    /// What crates.io's action for GitHub calls.
    CratesIo,
    /// What npm, pnpm and yarn call, for one package each time.
    Npm,
    /// What RubyGems' action for GitHub calls.
    RubyGems,
    /// What NuGet's action for GitHub calls.
    NuGet,
    /// What rattler calls, and with it pixi and rattler-build.
    Conda,
    /// What ovsx calls, for one extension each time.
    OpenVsx,
    /// RFC 8693 alone.
    Generic,
}

/// What is known of a dialect.
struct Facts {
    name: &'static str,
    ecosystem: Ecosystem,
    owns_host: bool,
    names_package_in_body: bool,
    names_package: NamesPackage,
    audiences: Audiences,
    /// In minutes.
    shortest_ttl: u64,
    token_prefix: &'static str,
}

/// Which audiences the clients of a dialect compute from the registry's URL.
#[derive(Clone, Copy)]
enum Audiences {
    /// None: they are told, by the service or by whoever writes the job.
    Told,
    /// The URL without its scheme and without a slash at its end, as crates.io's action does.
    Address,
    /// The host without its port, as rattler does.
    Hostname,
    /// The URL as it was typed, as ovsx does: with a slash at its end or without.
    Whole,
    /// `npm:` and the host, as npm and pnpm do without its port and yarn with it.
    Npm,
}

const PYPI: Facts = Facts {
    name: "pypi",
    ecosystem: Ecosystem::Pypi,
    owns_host: true,
    names_package_in_body: true,
    names_package: NamesPackage::Never,
    audiences: Audiences::Told,
    // PEP 807 promises as much.
    shortest_ttl: 15,
    token_prefix: "pypi-",
};

const CRATES_IO: Facts = Facts {
    name: "crates-io",
    ecosystem: Ecosystem::Cargo,
    owns_host: false,
    names_package_in_body: true,
    names_package: NamesPackage::Never,
    audiences: Audiences::Address,
    shortest_ttl: 1,
    token_prefix: "cargo-",
};

const NPM: Facts = Facts {
    name: "npm",
    ecosystem: Ecosystem::Npm,
    owns_host: true,
    names_package_in_body: false,
    names_package: NamesPackage::Always,
    audiences: Audiences::Npm,
    shortest_ttl: 1,
    token_prefix: "npm-",
};

const RUBYGEMS: Facts = Facts {
    name: "rubygems",
    ecosystem: Ecosystem::RubyGems,
    owns_host: false,
    names_package_in_body: true,
    names_package: NamesPackage::Never,
    audiences: Audiences::Told,
    shortest_ttl: 1,
    token_prefix: "gem-",
};

const NUGET: Facts = Facts {
    name: "nuget",
    ecosystem: Ecosystem::NuGet,
    owns_host: false,
    names_package_in_body: true,
    names_package: NamesPackage::Never,
    audiences: Audiences::Told,
    shortest_ttl: 1,
    token_prefix: "nuget-",
};

const CONDA: Facts = Facts {
    name: "conda",
    ecosystem: Ecosystem::Conda,
    owns_host: true,
    names_package_in_body: true,
    names_package: NamesPackage::Never,
    audiences: Audiences::Hostname,
    shortest_ttl: 1,
    token_prefix: "conda-",
};

const OPEN_VSX: Facts = Facts {
    name: "open-vsx",
    ecosystem: Ecosystem::OpenVsx,
    owns_host: false,
    names_package_in_body: true,
    names_package: NamesPackage::Always,
    audiences: Audiences::Whole,
    shortest_ttl: 1,
    token_prefix: "vsx-",
};

const GENERIC: Facts = Facts {
    name: "generic",
    ecosystem: Ecosystem::Generic,
    owns_host: false,
    names_package_in_body: false,
    names_package: NamesPackage::OnRequest,
    audiences: Audiences::Told,
    shortest_ttl: 1,
    token_prefix: "tm-",
};

impl Dialect {
    /// Every dialect, in the order that documentation lists them.
    pub const ALL: [Self; 8] =
        [Self::Pypi, Self::CratesIo, Self::Npm, Self::RubyGems, Self::NuGet, Self::Conda, Self::OpenVsx, Self::Generic];

    const fn facts(self) -> &'static Facts {
        match self {
            Self::Pypi => &PYPI,
            Self::CratesIo => &CRATES_IO,
            Self::Npm => &NPM,
            Self::RubyGems => &RUBYGEMS,
            Self::NuGet => &NUGET,
            Self::Conda => &CONDA,
            Self::OpenVsx => &OPEN_VSX,
            Self::Generic => &GENERIC,
        }
    }

    /// Its name in the policy.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// How its packages are named, unless it is the generic one and the policy says otherwise.
    pub const fn ecosystem(self) -> Ecosystem {
        self.facts().ecosystem
    }

    /// Whether its clients drop the path of the registry's URL, so that a host has room for one registry.
    pub const fn owns_host(self) -> bool {
        self.facts().owns_host
    }

    /// Whether an upload names its package in the body alone, which a proxy in front does not read.
    pub const fn names_package_in_body(self) -> bool {
        self.facts().names_package_in_body
    }

    /// How its exchanges name their package.
    pub const fn names_package(self) -> NamesPackage {
        self.facts().names_package
    }

    /// How often one ID token may be exchanged unless the policy says otherwise. Clients that name a package exchange
    /// anew for each, and some CI systems give a job one token for all of them.
    pub const fn usual_replay(self) -> Replay {
        match self.names_package() {
            NamesPackage::Always => Replay::OncePerPackage,
            NamesPackage::OnRequest | NamesPackage::Never => Replay::Once,
        }
    }

    /// The shortest life of its tokens.
    pub const fn shortest_ttl(self) -> Duration {
        Duration::from_secs(self.facts().shortest_ttl * 60)
    }

    /// What its tokens begin with unless the policy says otherwise.
    pub const fn token_prefix(self) -> &'static str {
        self.facts().token_prefix
    }

    /// Whether its clients compute the audience by themselves, so that a registry needs none of its own choosing.
    pub const fn computes_audience(self) -> bool {
        !matches!(self.facts().audiences, Audiences::Told)
    }

    /// The audiences that its clients compute for a registry with that URL, the usual one first.
    pub fn audiences(self, url: &Url) -> Vec<String> {
        // As `hostname` and `host` of JavaScript's URL, which these clients go by: an IPv6 address has its brackets.
        let hostname = url.host_str().unwrap_or_default();
        let host = url.port().map_or_else(|| hostname.to_owned(), |port| format!("{hostname}:{port}"));
        let path = url.path().trim_end_matches('/');
        let mut audiences = match self.facts().audiences {
            Audiences::Told => Vec::new(),
            Audiences::Address => vec![format!("{host}{path}")],
            Audiences::Hostname => vec![hostname.to_owned()],
            Audiences::Whole => {
                let bare = format!("{}://{host}{path}", url.scheme());
                vec![bare.clone(), format!("{bare}/")]
            }
            Audiences::Npm => vec![format!("npm:{hostname}"), format!("npm:{host}")],
        };
        audiences.dedup();
        audiences
    }
}

/// How the exchanges of a dialect name the package that they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamesPackage {
    /// Each names one.
    Always,
    /// By `scope`, if the client wishes.
    OnRequest,
    /// Its own endpoints cannot.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_what_clients_compute_from_the_url() {
        let of = |dialect: Dialect, url: &str| dialect.audiences(&Url::parse(url).unwrap());
        for (dialect, url, expected) in [
            (Dialect::Npm, "https://npm.acme.example/", &["npm:npm.acme.example"][..]),
            (Dialect::Npm, "https://npm.acme.example:443/x/", &["npm:npm.acme.example"]),
            (Dialect::Npm, "https://Acme.example:8443/npm/", &["npm:acme.example", "npm:acme.example:8443"]),
            (Dialect::Npm, "https://[2001:db8::1]:8443", &["npm:[2001:db8::1]", "npm:[2001:db8::1]:8443"]),
            (Dialect::CratesIo, "https://crates.acme.example", &["crates.acme.example"]),
            (Dialect::CratesIo, "https://acme.example:8443/cargo/", &["acme.example:8443/cargo"]),
            (Dialect::Conda, "https://acme.example:8443/conda/", &["acme.example"]),
            (Dialect::OpenVsx, "https://vsx.acme.example", &["https://vsx.acme.example", "https://vsx.acme.example/"]),
            (
                Dialect::OpenVsx,
                "http://127.0.0.1:8080/vsx/",
                &["http://127.0.0.1:8080/vsx", "http://127.0.0.1:8080/vsx/"],
            ),
        ] {
            assert_eq!(of(dialect, url), expected, "{dialect:?} {url}");
            assert!(dialect.computes_audience());
        }
        for dialect in [Dialect::Pypi, Dialect::RubyGems, Dialect::NuGet, Dialect::Generic] {
            assert!(of(dialect, "https://acme.example/x/").is_empty() && !dialect.computes_audience(), "{dialect:?}");
        }
    }

    #[test]
    fn dialects_are_told_apart_by_name_and_by_their_tokens() {
        for (number, dialect) in Dialect::ALL.into_iter().enumerate() {
            for other in &Dialect::ALL[number + 1..] {
                assert_ne!(dialect.name(), other.name());
                assert!(!dialect.token_prefix().starts_with(other.token_prefix()));
                assert!(!other.token_prefix().starts_with(dialect.token_prefix()));
            }
            let always = dialect.names_package() == NamesPackage::Always;
            assert_eq!(always, dialect.usual_replay() == Replay::OncePerPackage, "{dialect:?}");
        }
    }
}
