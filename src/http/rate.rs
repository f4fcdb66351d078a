//! How an allowance stands, in the headers of an answer that was counted: `RateLimit-Policy` and `RateLimit`, as
//! draft-ietf-httpapi-ratelimit-headers-10 has them (sections 3 and 4).

use actix_web::http::header::HeaderMap;
use actix_web::http::header::HeaderName;
use actix_web::http::header::HeaderValue;

use crate::spelling::spelled;
use crate::state::rates::Standing;
use crate::state::rates::WINDOW;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// How long a header's value usually is at most, in bytes.
const USUAL: usize = 48;

/// Both headers, each with what it says, for the description of the API.
pub const HEADERS: [(&str, &str); 2] = [
    ("RateLimit-Policy", "The allowance that this answer counts against: how many (`q`) in how many seconds (`w`)."),
    ("RateLimit", "How many are left of it (`r`), and in how many seconds all will be there again (`t`)."),
];

/// Says in the headers how the allowance stands that the request was counted against.
pub fn tell(headers: &mut HeaderMap, standing: &Standing) {
    let name = standing.allowance.as_str();
    let full_in = standing.full_in.as_micros().div_ceil(1_000_000);
    let policy = spelled(&format_args!("\"{name}\";q={};w={}", standing.quota, WINDOW.as_secs()), USUAL);
    let limit = spelled(&format_args!("\"{name}\";r={};t={full_in}", standing.remaining), USUAL);
    for (header, value) in [(POLICY, policy), (LIMIT, limit)] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(header, value);
        }
    }
}
