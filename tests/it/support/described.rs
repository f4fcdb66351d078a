//! Holds the description of the API to what the service does: every answer that any test gets is looked up in it.

use trustmint::http::ENDPOINTS;
use trustmint::http::endpoint::Base;
use trustmint::http::endpoint::Endpoint;
use trustmint::http::openapi::document::by_status;

/// Fails unless the description lists this answer at this path. Paths that are not described are not the public side's.
pub fn assert_described(path: &str, status: u16, code: Option<&str>) {
    let at = |endpoint: &&&Endpoint| match (endpoint.path.split_once('{'), endpoint.base) {
        (Some((start, _)), Base::Host) => path.starts_with(start),
        (Some((start, _)), Base::Registry) => path.contains(start),
        (None, Base::Host) => path == endpoint.path,
        (None, Base::Registry) => path.ends_with(endpoint.path),
    };
    // The router asks those at the root of the host first.
    let (root, below): (Vec<_>, Vec<_>) = ENDPOINTS.iter().partition(|endpoint| endpoint.base == Base::Host);
    let Some(endpoint) = root.into_iter().chain(below).find(|endpoint| at(&endpoint)) else { return };
    if status == 405 {
        assert!(endpoint.methods().is_some(), "{path} takes every method");
        return;
    }
    let described = endpoint.operations.iter().any(|operation| {
        let failures = by_status(endpoint, operation);
        match (failures.get(&status), code) {
            // A refusal of `/v1/verify` is an answer with a code in it, which the description's schema lists.
            (Some(codes), Some(code)) => codes.iter().any(|known| known.as_str() == code),
            // An answer to HEAD.
            (Some(_), None) => true,
            (None, _) => operation.answers.iter().any(|answer| answer.status.as_u16() == status),
        }
    });
    assert!(described, "{path} answered {status} {code:?}, which its description does not list");
}
