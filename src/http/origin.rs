//! Where a request came from and which host it names.
//!
//! Forwarded headers count only when the peer is a trusted proxy, and then only one of each: otherwise anyone could
//! name another registry's host, or another client's address. The host decides the tenant, so it must be there exactly
//! once; an unknown one is never a default.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::http::header::HeaderMap;
use ipnet::IpNet;

use crate::code::Code;
use crate::http::error::Refusal;

/// The host and port that the request names, in lower case: `pypi.acme.example` or `127.0.0.1:8443`.
pub fn host(request: &HttpRequest, trusted: &[IpNet]) -> Result<String, Refusal> {
    let headers = request.headers();
    let own = exactly_one(headers, header::HOST.as_str())
        .ok_or_else(|| Refusal::new(Code::BadRequest, "the request must have one `Host` header"))?;
    if let Some(authority) = request.uri().authority()
        && !authority.as_str().eq_ignore_ascii_case(own)
    {
        return Err(Refusal::new(Code::BadRequest, "the request line and the `Host` header name different hosts"));
    }
    let forwarded = headers.contains_key("x-forwarded-host") && is_trusted(request, trusted);
    let named = if forwarded { exactly_one(headers, "x-forwarded-host") } else { Some(own) };
    let legal = |text: &&str| {
        !text.is_empty()
            && text.len() <= 260
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':' | b'[' | b']'))
    };
    named
        .filter(legal)
        .map(str::to_ascii_lowercase)
        .ok_or_else(|| Refusal::new(Code::BadRequest, "the request must name one host"))
}

/// The client's address: the peer's, or behind trusted proxies the last one that none of them vouches for.
pub fn client(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip().to_canonical();
    if !contains(trusted, peer) {
        return Some(peer);
    }
    let hops: Vec<&str> = request
        .headers()
        .get_all("x-forwarded-for")
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let mut client = peer;
    for hop in hops.iter().rev() {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        client = address.to_canonical();
        if !contains(trusted, client) {
            break;
        }
    }
    Some(client)
}

/// The address that refusals are counted for. `None` if a trusted proxy asks and does not say for whom, and for a private
/// address.
///
/// A load balancer or a node that puts its own address in the place of its clients' stands for all of them: a stranger's
/// refusals would be every job's. Such an address is of the network that the service is in.
pub fn accountable(request: &HttpRequest, trusted: &[IpNet]) -> Option<IpAddr> {
    client(request, trusted).filter(|address| !contains(trusted, *address) && !is_private(*address))
}

/// Whether an address is of the machine's own network: loopback, link-local, RFC 1918, RFC 4193, or shared by the customers
/// of one carrier (RFC 6598).
const fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let [a, b, ..] = address.octets();
            let shared = a == 100 && b & 0b1100_0000 == 64;
            address.is_private() || address.is_loopback() || address.is_link_local() || shared
        }
        IpAddr::V6(address) => address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local(),
    }
}

fn is_trusted(request: &HttpRequest, trusted: &[IpNet]) -> bool {
    request.peer_addr().is_some_and(|peer| contains(trusted, peer.ip().to_canonical()))
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

fn exactly_one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name);
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const PROXY: &str = "10.0.0.1:5000";

    fn trusted() -> Vec<IpNet> {
        vec!["10.0.0.0/8".parse().unwrap()]
    }

    fn from(peer: &str) -> TestRequest {
        TestRequest::default().peer_addr(peer.parse().unwrap())
    }

    #[test]
    fn the_host_must_be_named_once() {
        let once = from(PROXY).insert_header(("host", "PyPI.acme.example:8443")).to_http_request();
        assert_eq!(host(&once, &[]).unwrap(), "pypi.acme.example:8443");
        let never = from(PROXY).to_http_request();
        assert!(host(&never, &[]).is_err());
        let twice =
            from(PROXY).append_header(("host", "a.example")).append_header(("host", "b.example")).to_http_request();
        assert!(host(&twice, &[]).is_err());
        let odd = from(PROXY).insert_header(("host", "a.example/x")).to_http_request();
        assert!(host(&odd, &[]).is_err());
        let absolute = from(PROXY).uri("http://b.example/x").insert_header(("host", "a.example")).to_http_request();
        assert!(host(&absolute, &[]).is_err());
    }

    #[test]
    fn forwarded_headers_count_only_from_trusted_proxies() {
        let request = |peer: &str| {
            from(peer)
                .insert_header(("host", "inner.example"))
                .insert_header(("x-forwarded-host", "outer.example"))
                .insert_header(("x-forwarded-for", "203.0.113.9, 198.51.100.7, 10.0.0.2"))
                .to_http_request()
        };
        assert_eq!(host(&request(PROXY), &trusted()).unwrap(), "outer.example");
        assert_eq!(client(&request(PROXY), &trusted()).unwrap().to_string(), "198.51.100.7");
        let stranger = "192.0.2.1:9";
        assert_eq!(host(&request(stranger), &trusted()).unwrap(), "inner.example");
        assert_eq!(client(&request(stranger), &trusted()).unwrap().to_string(), "192.0.2.1");
    }

    #[test]
    fn nobody_accounts_for_an_address_that_may_stand_for_all() {
        let direct = |peer: &str| accountable(&from(peer).to_http_request(), &trusted()).map(|at| at.to_string());
        for peer in [
            "127.0.0.1:1",
            "192.168.3.4:1",
            "172.16.0.1:1",
            "172.31.255.255:1",
            "169.254.1.1:1",
            "100.64.0.1:1",
            "100.127.255.255:1",
            "[::1]:1",
            "[fd00::1]:1",
            "[fe80::1]:1",
            "[::ffff:192.168.3.4]:1",
            PROXY,
        ] {
            assert_eq!(direct(peer), None, "{peer}");
        }
        for (peer, shown) in [
            ("203.0.113.9:1", "203.0.113.9"),
            ("172.32.0.1:1", "172.32.0.1"),
            ("100.63.255.255:1", "100.63.255.255"),
            ("100.128.0.0:1", "100.128.0.0"),
            ("[2001:db8::1]:1", "2001:db8::1"),
            ("[::ffff:203.0.113.9]:1", "203.0.113.9"),
        ] {
            assert_eq!(direct(peer).as_deref(), Some(shown), "{peer}");
        }
        let forwarded = |client: &str| {
            let request = from(PROXY).insert_header(("x-forwarded-for", client)).to_http_request();
            accountable(&request, &trusted()).map(|at| at.to_string())
        };
        assert_eq!(forwarded("203.0.113.9").as_deref(), Some("203.0.113.9"));
        assert_eq!(forwarded("192.168.3.4"), None);
        assert_eq!(forwarded("10.0.0.7"), None);
    }

    #[test]
    fn a_garbled_hop_ends_the_chain() {
        let request = from(PROXY).insert_header(("x-forwarded-for", "203.0.113.9, nonsense")).to_http_request();
        assert_eq!(client(&request, &trusted()).unwrap().to_string(), "10.0.0.1");
    }
}
