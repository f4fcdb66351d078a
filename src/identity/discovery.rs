//! Discovery: where an issuer's keys are, by OIDC Discovery 1.0 section 4.
//!
//! Decides which document is asked for and whether its answer may be believed. It fetches nothing itself.
//!
//! SECURITY: `jwks_uri` decides whose signatures are accepted. A document that speaks for another issuer, or points to
//! a host that is not the issuer's, is refused: it is a mistake, a takeover or a request forgery.

use openidconnect::JsonWebKeySetUrl;
use url::Url;

use crate::identity::issuer::IssuerUrl;
use crate::identity::provider::Provider;
use crate::json::Json;
use crate::json::Object;

/// Why an issuer's discovery document is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// Not JSON, or a member is missing, repeated or of the wrong type.
    #[error("the discovery document is not a JSON object with `issuer` and `jwks_uri`")]
    NotADocument,
    /// `issuer` is not the configured URL, byte for byte.
    #[error("the discovery document is for the issuer `{0}`")]
    OtherIssuer(String),
    /// `jwks_uri` is no `https` URL, or has a user name or a fragment.
    #[error("the `jwks_uri` `{0}` is not a plain https URL")]
    JwksUri(String),
    /// `jwks_uri` is elsewhere.
    #[error("the `jwks_uri` is on the host `{0}`, which is not the issuer's")]
    OtherHost(String),
}

/// The URL of an issuer's discovery document: `/.well-known/openid-configuration` after the issuer's path, without the
/// slash that may end it (section 4.1). `None` if that is no URL, which no parsed [`IssuerUrl`] causes.
pub fn document_url(issuer: &IssuerUrl) -> Option<Url> {
    let text = issuer.as_str();
    let base = text.strip_suffix('/').unwrap_or(text);
    Url::parse(&format!("{base}/.well-known/openid-configuration")).ok()
}

/// The URL of the key set, from the discovery document of `issuer` (sections 4.2 and 4.3).
///
/// Of the document two members count. openidconnect's metadata type demands endpoints that CI providers do not have
/// (GitHub's document has no `authorization_endpoint`).
pub fn jwks_uri(document: &[u8], issuer: &IssuerUrl, provider: &Provider) -> Result<Url, DiscoveryError> {
    let document = Json::parse(document).map_err(|_| DiscoveryError::NotADocument)?;
    let member = |name: &str| document.as_object().and_then(|members: &Object| members.get(name)?.as_str());
    let (Some(name), Some(uri)) = (member("issuer"), member("jwks_uri")) else {
        return Err(DiscoveryError::NotADocument);
    };
    if name != issuer.as_str() {
        return Err(DiscoveryError::OtherIssuer(excerpt(name)));
    }
    let not_plain = || DiscoveryError::JwksUri(excerpt(uri));
    let parsed = JsonWebKeySetUrl::new(uri.to_owned()).map_err(|_| not_plain())?;
    let url = parsed.url();
    let bare = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && issuer.as_str().starts_with("http:"));
    let host = url.host_str().filter(|_| bare && scheme).ok_or_else(not_plain)?;
    if host != issuer.host() && !provider.jwks_hosts.contains(&host) {
        return Err(DiscoveryError::OtherHost(excerpt(host)));
    }
    Ok(url.clone())
}

/// The beginning of a text that an issuer sent, for a message.
fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::identity::provider::github;
    use crate::identity::provider::google;

    fn issuer(text: &str) -> IssuerUrl {
        IssuerUrl::parse(text).unwrap()
    }

    #[test]
    fn the_document_is_below_the_issuers_path() {
        for (text, expected) in [
            ("https://ci.example", "https://ci.example/.well-known/openid-configuration"),
            ("https://ci.example/org/7", "https://ci.example/org/7/.well-known/openid-configuration"),
            ("https://ci.example/org/7/", "https://ci.example/org/7/.well-known/openid-configuration"),
            ("https://ci.example:8443", "https://ci.example:8443/.well-known/openid-configuration"),
            ("http://[::1]:8080", "http://[::1]:8080/.well-known/openid-configuration"),
        ] {
            assert_eq!(document_url(&issuer(text)).unwrap().as_str(), expected);
        }
    }

    #[test]
    fn a_document_says_where_the_keys_are() {
        for (at, document, expected) in [
            (
                "https://ci.example",
                r#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/keys"}"#,
                "https://ci.example/keys",
            ),
            // GitHub's shape: no endpoints, other members, any order.
            (
                "https://ci.example/a",
                r#"{"subject_types_supported":["public"],"jwks_uri":"https://ci.example/a/.well-known/jwks","issuer":"https://ci.example/a","claims_supported":["sub"]}"#,
                "https://ci.example/a/.well-known/jwks",
            ),
            (
                "https://ci.example",
                r#"{"issuer":"https://ci.example","jwks_uri":"https://CI.example:444/k?p=1"}"#,
                "https://ci.example:444/k?p=1",
            ),
            (
                "http://127.0.0.1:9",
                r#"{"issuer":"http://127.0.0.1:9","jwks_uri":"http://127.0.0.1:9/k"}"#,
                "http://127.0.0.1:9/k",
            ),
            ("http://[::1]:9", r#"{"issuer":"http://[::1]:9","jwks_uri":"http://[::1]:9/k"}"#, "http://[::1]:9/k"),
        ] {
            let url = jwks_uri(document.as_bytes(), &issuer(at), &github::PROVIDER).unwrap();
            assert_eq!(url.as_str(), expected);
        }
        let document =
            br#"{"issuer":"https://accounts.google.com","jwks_uri":"https://www.googleapis.com/oauth2/v3/certs"}"#;
        assert!(jwks_uri(document, &issuer("https://accounts.google.com"), &google::PROVIDER).is_ok());
        assert!(jwks_uri(document, &issuer("https://accounts.google.com"), &github::PROVIDER).is_err());
    }

    #[test]
    fn a_document_for_another_issuer_or_place_is_refused() {
        let refused = |document: &str| {
            jwks_uri(document.as_bytes(), &issuer("https://ci.example"), &github::PROVIDER).unwrap_err().to_string()
        };
        for (name, part) in [
            ("https://ci.example/", "issuer `https://ci.example/`"),
            ("https://CI.example", "issuer `https://CI.example`"),
            ("https://ci.example:443", "issuer `https://ci.example:443`"),
            ("http://ci.example", "issuer `http://ci.example`"),
            ("https://ci.example.evil.example", "issuer `https://ci.example.evil.example`"),
        ] {
            let message = refused(&format!(r#"{{"issuer":"{name}","jwks_uri":"https://ci.example/k"}}"#));
            assert!(message.contains(part), "{message}");
        }
        for (uri, part) in [
            ("https://evil.example/k", "host `evil.example`"),
            ("https://ci.example.evil.example/k", "host `ci.example.evil.example`"),
            ("https://ci.example./k", "host `ci.example.`"),
            ("https://169.254.169.254/k", "host `169.254.169.254`"),
            ("https://2852039166/k", "host `169.254.169.254`"),
            ("https://[::ffff:169.254.169.254]/k", "host `[::ffff:a9fe:a9fe]`"),
            ("https://www.googleapis.com/k", "host `www.googleapis.com`"),
            ("http://ci.example/k", "not a plain https URL"),
            ("http://127.0.0.1/k", "not a plain https URL"),
            ("file:///etc/passwd", "not a plain https URL"),
            ("https://ci.example@evil.example/k", "not a plain https URL"),
            ("https://user:secret@ci.example/k", "not a plain https URL"),
            ("https://ci.example/k#f", "not a plain https URL"),
            ("/k", "not a plain https URL"),
            ("", "not a plain https URL"),
        ] {
            let message = refused(&format!(r#"{{"issuer":"https://ci.example","jwks_uri":"{uri}"}}"#));
            assert!(message.contains(part), "{uri}: {message}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for document in [
            "",
            "[]",
            r#"["https://ci.example","https://ci.example/k"]"#,
            "null",
            "<html>",
            r#"{"issuer":"https://ci.example"}"#,
            r#"{"jwks_uri":"https://ci.example/k"}"#,
            r#"{"issuer":["https://ci.example"],"jwks_uri":"https://ci.example/k"}"#,
            r#"{"issuer":"https://ci.example","jwks_uri":null}"#,
            r#"{"issuer":"https://evil.example","issuer":"https://ci.example","jwks_uri":"https://ci.example/k"}"#,
            r#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/k","jwks_uri":"https://ci.example/l"}"#,
            r#"{"issuer":"https://ci.example","jwks_uri":"https://ci.example/k"} x"#,
        ] {
            let refused = jwks_uri(document.as_bytes(), &issuer("https://ci.example"), &github::PROVIDER);
            assert_eq!(refused, Err(DiscoveryError::NotADocument), "{document}");
        }
    }
}
