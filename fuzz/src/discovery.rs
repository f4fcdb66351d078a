//! Discovery documents: whose keys are accepted follows from them, so a document is believed only for the issuer that
//! was asked, and only if it points to a host of that issuer.

use trustmint::identity::discovery::DiscoveryError;
use trustmint::identity::discovery::document_url;
use trustmint::identity::discovery::jwks_uri;
use trustmint::identity::issuer::IssuerUrl;
use trustmint::identity::provider;
use trustmint::identity::provider::Provider;
use trustmint::identity::provider::generic;
use trustmint::json::MAX_DEPTH;
use trustmint::json::MAX_NODES;
use url::Url;

use super::raw::Raw;

/// The input is a document, read for the issuer that it names, as if an operator had configured that, and for another.
pub fn discovery(data: &[u8]) {
    let raw = Raw::read(data);
    let named = raw.as_ref().and_then(|raw| raw.member("issuer")?.string());
    if let Some(issuer) = named.and_then(|text| configure(&text)) {
        judge(data, raw.as_ref(), &issuer, provider::owner(issuer.host()).unwrap_or(&generic::PROVIDER));
    }
    let issuer = IssuerUrl::parse("https://ci.example").unwrap();
    judge(data, raw.as_ref(), &issuer, &generic::PROVIDER);
}

fn configure(text: &str) -> Option<IssuerUrl> {
    let issuer = match IssuerUrl::parse(text) {
        Ok(issuer) => issuer,
        Err(error) => {
            super::short(&error.to_string());
            return None;
        }
    };
    assert_eq!(issuer.as_str(), text);
    let url = Url::parse(text).expect("an issuer is a URL");
    assert_eq!(url.host_str(), Some(issuer.host()), "{text}");
    assert!(url.scheme() == "https" || url.scheme() == "http" && issuer.is_loopback(), "{text}");
    assert!(url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none());
    assert!(url.as_str() == text || url.as_str() == format!("{text}/"), "{text} is spelt {url}");
    let document = document_url(&issuer).expect("an issuer has a document");
    let base = text.strip_suffix('/').unwrap_or(text);
    assert_eq!(document.as_str(), format!("{base}/.well-known/openid-configuration"));
    assert_eq!((document.host(), document.port(), document.scheme()), (url.host(), url.port(), url.scheme()));
    Some(issuer)
}

fn judge(data: &[u8], raw: Option<&Raw<'_>>, issuer: &IssuerUrl, provider: &Provider) {
    let string = |name: &str| raw.and_then(|raw| raw.member(name)?.string());
    let (name, uri) = (string("issuer"), string("jwks_uri"));
    let is_small = |raw: &Raw<'_>| {
        let shape = raw.shape();
        !shape.repeated && shape.depth <= MAX_DEPTH && shape.nodes + shape.lists <= MAX_NODES
    };
    let is_document = raw.is_some_and(is_small) && name.is_some() && uri.is_some();
    let url = match super::bounded(data.len(), 64, || jwks_uri(data, issuer, provider)) {
        Ok(url) => url,
        Err(error) => {
            super::short(&error.to_string());
            match error {
                DiscoveryError::NotADocument => assert!(!is_document, "a document was taken for none"),
                DiscoveryError::OtherIssuer(_) => assert_ne!(name.as_deref(), Some(issuer.as_str())),
                DiscoveryError::JwksUri(_) | DiscoveryError::OtherHost(_) => {
                    assert_eq!(name.as_deref(), Some(issuer.as_str()));
                }
            }
            return;
        }
    };
    assert!(is_document, "something that is no document was believed");
    assert_eq!(name.as_deref(), Some(issuer.as_str()), "a document of another issuer was believed");
    assert_eq!(Url::parse(&uri.unwrap()).as_ref(), Ok(&url));
    assert_eq!(Url::parse(url.as_str()).as_ref(), Ok(&url));
    assert!(url.scheme() == "https" || url.scheme() == "http" && issuer.is_loopback(), "{url}");
    assert!(url.username().is_empty() && url.password().is_none() && url.fragment().is_none(), "{url}");
    let host = url.host_str().expect("it has a host");
    assert!(host == issuer.host() || provider.jwks_hosts.contains(&host), "{url} is not at {issuer}");
}
