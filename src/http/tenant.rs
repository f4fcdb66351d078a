//! Which registry a request is about: by its host, never by default.

use actix_web::HttpRequest;
use url::Url;

use crate::code::Code;
use crate::http::Public;
use crate::http::body::printable;
use crate::http::error::Refusal;
use crate::http::origin;
use crate::policy::Policy;
use crate::policy::dialect::Dialect;
use crate::policy::registry::Registry;
use crate::policy::registry::base;

/// The registries of the host that the request names: at least one.
pub fn on_host<'p>(request: &HttpRequest, public: &Public, policy: &'p Policy) -> Result<Vec<&'p Registry>, Refusal> {
    let host = origin::host(request, &public.trusted_proxies)?;
    let (name, port) = split(&host)?;
    let registries: Vec<&Registry> = policy.registries().by_host(name, port).map(AsRef::as_ref).collect();
    if registries.is_empty() {
        return Err(Refusal::new(Code::UnknownHost, format!("no registry is served at `{}`", printable(&host))));
    }
    Ok(registries)
}

/// Host and port of an authority (RFC 3986 section 3.2): an IPv6 address keeps its brackets.
pub fn split(authority: &str) -> Result<(&str, Option<u16>), Refusal> {
    let bad = || Refusal::new(Code::BadRequest, "the `Host` header is not a host and a port");
    let after_address = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority.rfind(':').filter(|colon| *colon >= after_address) {
        None => Ok((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at_checked(colon).ok_or_else(bad)?;
            let port = port.strip_prefix(':').and_then(|port| port.parse().ok()).ok_or_else(bad)?;
            Ok((host, Some(port)))
        }
    }
}

/// The host's registry of a dialect whose clients drop the path: there is at most one, which lint sees to.
pub fn of_dialect<'p>(
    request: &HttpRequest,
    public: &Public,
    policy: &'p Policy,
    dialect: Dialect,
) -> Result<&'p Registry, Refusal> {
    on_host(request, public, policy)?
        .into_iter()
        .find(|registry| registry.dialect == dialect)
        .ok_or_else(|| Refusal::new(Code::NotFound, "no registry of this host speaks this protocol"))
}

/// The registry of a dialect whose clients keep the path: the endpoint's path follows that of one of its URLs. No two
/// registries have one URL, which lint sees to.
pub fn at_url<'p>(
    request: &HttpRequest,
    public: &Public,
    policy: &'p Policy,
    dialect: Dialect,
    endpoint: &str,
) -> Result<&'p Registry, Refusal> {
    let mut detail = "no registry of this host speaks this protocol".to_owned();
    for registry in on_host(request, public, policy)?.into_iter().filter(|registry| registry.dialect == dialect) {
        let found = behind(request, public, registry)?;
        if found.contains(&endpoint) {
            return Ok(registry);
        }
        detail = if found.iter().any(|path| path.strip_prefix('/') == Some(endpoint)) {
            "the client was given the registry's URL with a `/` too many at its end: leave that out".to_owned()
        } else {
            format!("this endpoint is at the path of the registry's URL, followed by `{endpoint}`")
        };
    }
    Err(Refusal::new(Code::NotFound, detail))
}

/// The registry's URLs on the host that the request names.
pub fn urls<'r>(request: &HttpRequest, public: &Public, registry: &'r Registry) -> Result<Vec<&'r Url>, Refusal> {
    let host = origin::host(request, &public.trusted_proxies)?;
    let (name, port) = split(&host)?;
    Ok(registry.urls_at(name, port).collect())
}

/// What the request's path has behind those of the registry's URLs on its host.
///
/// SECURITY: the raw path, byte for byte. Decoded, or without doubled slashes and dot segments, it would be another one
/// than a program in front has compared with its own list.
pub fn behind<'q>(request: &'q HttpRequest, public: &Public, registry: &Registry) -> Result<Vec<&'q str>, Refusal> {
    let urls = urls(request, public, registry)?;
    Ok(urls.into_iter().filter_map(|url| request.path().strip_prefix(base(url))).collect())
}

/// The URL of the host under which these registries of it are served, without a path. From the policy's URLs, not from
/// the request: a proxy may speak http to us.
pub fn origin(request: &HttpRequest, public: &Public, registries: &[&Registry]) -> Result<String, Refusal> {
    let unserved = || Refusal::new(Code::UnknownHost, "no registry is served here");
    let first = registries.first().ok_or_else(unserved)?;
    let url = urls(request, public, first)?.into_iter().next().ok_or_else(unserved)?;
    Ok(url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_perhaps_a_port() {
        assert_eq!(split("a.example").unwrap(), ("a.example", None));
        assert_eq!(split("a.example:8443").unwrap(), ("a.example", Some(8443)));
        assert_eq!(split("[::1]").unwrap(), ("[::1]", None));
        assert_eq!(split("[::1]:8443").unwrap(), ("[::1]", Some(8443)));
        for text in ["a.example:", "a.example:x", "a.example:99999", "[::1]:"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
