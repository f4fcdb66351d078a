//! Reading request bodies: bounded in bytes and in time, never compressed, parsed strictly.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header;
use actix_web::web;
use percent_encoding::percent_decode_str;

use crate::code::Code;
use crate::http::endpoint::shape::Member;
use crate::http::error::Refusal;
use crate::json::Json;
use crate::json::Object;

/// Largest body read: a subject token of 16 KiB, its envelope and room for escapes.
pub const MAX_BODY: usize = 32 * 1024;
/// Longest time a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The media type of JSON.
pub const JSON: &str = "application/json";
/// The media type of forms.
pub const FORM: &str = "application/x-www-form-urlencoded";
/// Most parameters of a form: the exchange has nine.
const MAX_PARAMETERS: usize = 32;

/// Reads the whole body, at most [`MAX_BODY`] bytes.
///
/// SECURITY: `Content-Encoding` is refused, so that a few bytes cannot unfold into a large body.
pub async fn read(request: &HttpRequest, payload: web::Payload) -> Result<web::Bytes, Refusal> {
    if request.headers().contains_key(header::CONTENT_ENCODING) {
        return Err(Refusal::new(Code::UnsupportedMediaType, "the body must not be compressed (`Content-Encoding`)"));
    }
    let too_large = || Refusal::new(Code::TooLarge, "the body is larger than 32 KiB");
    match tokio::time::timeout(BODY_TIMEOUT, payload.to_bytes_limited(MAX_BODY)).await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(_))) => Err(Refusal::new(Code::BadRequest, "the body could not be read to its end")),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => Err(Refusal::new(Code::TooSlow, "the body did not arrive within 10 s")),
    }
}

/// Reads a JSON object without repeated members, whatever the content type says: clients of PyPI's dialect send none
/// or the wrong one.
pub fn json_object(bytes: &[u8]) -> Result<Object, Refusal> {
    match Json::parse(bytes) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(other) => Err(malformed(format!("the body must be a JSON object; it is {}", other.type_name()))),
        Err(error) => Err(malformed(format!("the body is not the JSON that this endpoint reads: {error}"))),
    }
}

/// Refuses an object with a member that the endpoint does not know: a restriction that is misspelled must not be lost.
pub fn only(object: &Object, known: &[Member]) -> Result<(), Refusal> {
    let Some((unknown, _)) = object.iter().find(|(name, _)| known.iter().all(|member| member.name != *name)) else {
        return Ok(());
    };
    let known: Vec<&str> = known.iter().map(|member| member.name).collect();
    Err(malformed(format!("`{}` is not a member; known are {}", printable(unknown), known.join(", "))))
}

/// Reads `application/x-www-form-urlencoded` without repeated parameters (RFC 6749 section 3.2).
pub fn form(bytes: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("the form is not UTF-8"))?;
    let mut parameters: Vec<(String, String)> = Vec::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (form_decode(name)?, form_decode(value)?);
        if parameters.iter().any(|(known, _)| *known == name) {
            return Err(malformed(format!("the parameter `{}` occurs twice", printable(&name))));
        }
        if parameters.len() == MAX_PARAMETERS {
            return Err(malformed("the form has more than 32 parameters"));
        }
        parameters.push((name, value));
    }
    Ok(parameters)
}

fn form_decode(text: &str) -> Result<String, Refusal> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8().map_err(|_| malformed("the form is not UTF-8"))?;
    Ok(decoded.into_owned())
}

/// The media type of the request, without parameters, in lower case.
pub fn media_type(request: &HttpRequest) -> String {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// A short, printable echo of what a caller sent, for error messages.
pub fn printable(text: &str) -> String {
    text.chars().take(64).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::BadRequest, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded_once() {
        let form = form(b"a=1+2&b=%2525&c=&d").unwrap();
        let pairs: Vec<_> = form.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("a", "1 2"), ("b", "%25"), ("c", ""), ("d", "")]);
    }

    #[test]
    fn a_repeated_parameter_is_refused_in_every_spelling() {
        assert!(form(b"a=1&b=2&a=3").is_err());
        assert!(form(b"a=1&%61=3").is_err());
        assert!(form(b"\xff=1").is_err());
        assert!(form("a=1&".repeat(40).as_bytes()).is_err());
    }

    #[test]
    fn a_body_is_one_json_object() {
        assert!(json_object(br#"{"token":"x"}"#).is_ok());
        for body in [&b"[]"[..], b"", b"\"x\"", br#"{"a":1,"a":2}"#, b"{}{}"] {
            assert!(json_object(body).is_err());
        }
    }
}
