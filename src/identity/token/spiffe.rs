//! SPIFFE IDs (SPIFFE-ID sections 2.1 to 2.3): `spiffe://trust-domain/path`, exactly as the standard spells them.
//!
//! SECURITY: a trust domain is an issuer, so nothing is folded, decoded or stripped: another spelling of a domain is not
//! the domain.

/// What every SPIFFE ID begins with.
pub const SCHEME: &str = "spiffe://";
/// Longest SPIFFE ID, in bytes (section 2.3).
const MAX_ID: usize = 2048;
/// Longest trust domain, in bytes (section 2.1).
const MAX_DOMAIN: usize = 255;

/// The trust domain of a workload's SPIFFE ID, with the scheme: `spiffe://domain`. `None` for any other text, the ID of
/// the trust domain itself (without a path) among them.
pub fn trust_domain_of(id: &str) -> Option<&str> {
    let (domain, path) = id.strip_prefix(SCHEME)?.split_once('/')?;
    let is_id = id.len() <= MAX_ID && is_trust_domain(domain) && path.split('/').all(is_segment);
    id.get(..SCHEME.len() + domain.len()).filter(|_| is_id)
}

/// Whether a text may name a trust domain: 1 to 255 lower-case letters, digits, dots, dashes and underscores.
pub fn is_trust_domain(name: &str) -> bool {
    let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
    (1..=MAX_DOMAIN).contains(&name.len()) && name.bytes().all(allowed)
}

fn is_segment(segment: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_workloads_id_has_a_trust_domain() {
        for (id, domain) in [
            ("spiffe://acme.example/ci/release", "spiffe://acme.example"),
            ("spiffe://a/b", "spiffe://a"),
            ("spiffe://prod-1_x.acme.example/ns/CI/sa/Publish_er-1.2", "spiffe://prod-1_x.acme.example"),
            ("spiffe://10.0.0.1/...", "spiffe://10.0.0.1"),
        ] {
            assert_eq!(trust_domain_of(id), Some(domain), "{id}");
        }
        let longest = format!("spiffe://{}/{}", "d".repeat(255), "p".repeat(2048 - 265));
        assert_eq!(longest.len(), 2048);
        assert!(trust_domain_of(&longest).is_some());
        assert!(trust_domain_of(&format!("{longest}p")).is_none());
    }

    #[test]
    fn what_is_spelled_otherwise_has_none() {
        for id in [
            "",
            "spiffe://",
            "spiffe:///path",
            "spiffe://acme.example",
            "spiffe://acme.example/",
            "spiffe://acme.example//ci",
            "spiffe://acme.example/ci/",
            "spiffe://acme.example/./ci",
            "spiffe://acme.example/ci/..",
            "spiffe://acme.example/ci?x=1",
            "spiffe://acme.example/ci#x",
            "spiffe://acme.example/c%69",
            "spiffe://acme.example/ci:release",
            "spiffe://acme.example/c i",
            "spiffe://acme.example/cı",
            "spiffe://acme.example:443/ci",
            "spiffe://user@acme.example/ci",
            "spiffe://ACME.example/ci",
            "spiffe://acmé.example/ci",
            "spiffe://acme.example\\ci",
            "spiffe://acme.example\0/ci",
            "SPIFFE://acme.example/ci",
            " spiffe://acme.example/ci",
            "spiffe:/acme.example/ci",
            "https://acme.example/ci",
            "system:serviceaccount:ci:publisher",
        ] {
            assert_eq!(trust_domain_of(id), None, "{id:?}");
        }
        assert!(trust_domain_of(&format!("spiffe://{}/p", "d".repeat(256))).is_none());
    }
    proptest! {
        #[test]
        fn a_trust_domain_is_what_stands_before_the_path(text in "(spiffe://)?[a-zA-Z0-9./:@%_-]{0,40}") {
            if let Some(domain) = trust_domain_of(&text) {
                prop_assert!(is_trust_domain(domain.strip_prefix(SCHEME).unwrap()));
                let path = text.strip_prefix(domain).unwrap();
                prop_assert!(path.starts_with('/') && path.len() > 1);
            }
        }
    }
}
