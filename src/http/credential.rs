//! The credential in a request's `Authorization`.
//!
//! SECURITY: in one header. Of two, this service and a program in front of it might read different ones.

use actix_web::HttpRequest;
use actix_web::http::header;

/// What follows `Bearer` (RFC 6750 section 2.1), if anything does.
pub fn bearer(request: &HttpRequest) -> Option<&str> {
    let (scheme, credential) = header(request)?.split_once(' ')?;
    Some(credential.trim()).filter(|credential| scheme.eq_ignore_ascii_case("bearer") && !credential.is_empty())
}

/// That, or the whole header where it has no scheme: cargo and gem present their tokens so.
pub fn bearer_or_bare(request: &HttpRequest) -> Option<&str> {
    let is_bare = |text: &&str| !text.is_empty() && !text.contains(' ') && !text.eq_ignore_ascii_case("bearer");
    bearer(request).or_else(|| header(request).map(str::trim).filter(is_bare))
}

/// The header, of which there must be one.
fn header(request: &HttpRequest) -> Option<&str> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    headers.next().filter(|_| headers.next().is_none())?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn one_header_has_one_credential() {
        let request = |headers: &[&str]| {
            let with = |request: TestRequest, header: &&str| request.append_header((header::AUTHORIZATION, *header));
            headers.iter().fold(TestRequest::default(), with).to_http_request()
        };
        let read = |headers: &[&str]| bearer(&request(headers)).map(ToOwned::to_owned);
        let bare = |headers: &[&str]| bearer_or_bare(&request(headers)).map(ToOwned::to_owned);
        for header in ["Bearer a.b.c", "bearer  a.b.c ", "BEARER a.b.c"] {
            assert_eq!(read(&[header]).as_deref(), Some("a.b.c"), "{header}");
            assert_eq!(bare(&[header]).as_deref(), Some("a.b.c"), "{header}");
        }
        let refused: [&[&str]; 8] = [
            &[],
            &[""],
            &["Bearer"],
            &["Bearer "],
            &["Basic a.b.c"],
            &["a.b.c"],
            &["Bearer a.b.c", "Bearer a.b.c"],
            &["Bearer a.b.c", "Basic eA=="],
        ];
        for headers in refused {
            assert_eq!(read(headers), None, "{headers:?}");
            let expected = if matches!(headers, ["a.b.c"]) { Some("a.b.c") } else { None };
            assert_eq!(bare(headers).as_deref(), expected, "{headers:?}");
        }
    }
}
