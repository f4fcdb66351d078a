use proptest::prelude::*;

use super::*;
use crate::identity::provider::generic;
use crate::identity::provider::github;
use crate::identity::provider::gitlab;
use crate::identity::provider::google;

#[test]
fn issuers_of_real_providers_are_kept_byte_for_byte() {
    for text in [
        "https://token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com/octo-enterprise",
        "https://gitlab.com",
        "https://gitlab.acme.example:8443/ci/gitlab",
        "https://accounts.google.com",
        "https://platform.activestate.com/api/v1/oauth/oidc",
        "https://oidc.circleci.com/org/c9035eb8-6eb2-4c78-8a81-d9ee6a1d0ecd",
        "https://oidc.eks.eu-west-1.amazonaws.com/id/1A2B3C4D5E6F",
        "https://login.app.env0.com/",
        "https://westeurope.oic.prod-aks.azure.com/tenant/guid/",
        "https://10.20.0.7:8443",
        "http://127.0.0.1:8080",
        "http://localhost:8080/issuer",
        "http://[::1]:8080",
    ] {
        assert_eq!(IssuerUrl::parse(text).map(|url| url.to_string()).as_deref(), Ok(text));
    }
}

#[test]
fn what_could_be_read_as_another_place_is_refused() {
    use IssuerUrlError::{Character, NotAUrl, Path, QueryOrFragment, Scheme, Spelling, UserInfo};
    for (text, expected) in [
        ("", NotAUrl),
        ("accounts.google.com", NotAUrl),
        ("https://", NotAUrl),
        ("https://[::1", NotAUrl),
        ("https://gitlab.com:99999", NotAUrl),
        ("mailto:ci@acme.example", NotAUrl),
        ("http://gitlab.com", Scheme),
        ("http://127.0.0.1.acme.example", Scheme),
        ("http://localhost.acme.example", Scheme),
        ("ftp://gitlab.com", Scheme),
        ("https://gitlab.com@acme.example", UserInfo),
        ("https://user:secret@gitlab.com", UserInfo),
        ("https://@gitlab.com", UserInfo),
        ("https://gitlab.com?x=https://evil.example", QueryOrFragment),
        ("https://gitlab.com/#x", QueryOrFragment),
        ("https://gitlab.com/?", QueryOrFragment),
        ("https://g\u{131}tlab.com", Character),
        ("https://to\u{212a}en.actions.githubusercontent.com", Character),
        ("https://gitlab.com\\@evil.example", Character),
        (" https://gitlab.com", Character),
        ("https://gitlab.com\n", Character),
        ("https://git\tlab.com", Character),
        ("https://gitlab.com/a b", Character),
        ("HTTPS://gitlab.com", Spelling),
        ("https://GitLab.com", Spelling),
        ("https://gitlab.com:443", Spelling),
        ("https://gitlab.com.", Spelling),
        ("https://2130706433", Spelling),
        ("https://0x7f.1", Spelling),
        ("https:gitlab.com", NotAUrl),
        ("https:///gitlab.com", Spelling),
        ("https://gitlab.com//", Path),
        ("https://gitlab.com//a", Path),
        ("https://gitlab.com/a//b", Path),
        ("https://gitlab.com/a/../b", Path),
        ("https://gitlab.com/..", Path),
        ("https://gitlab.com/./a", Path),
        ("https://gitlab.com/a/%2e%2e/b", Path),
        ("https://gitlab.com/a%2Fb", Path),
        ("https://gitlab.com/a/%", Path),
    ] {
        assert_eq!(IssuerUrl::parse(text), Err(expected), "{text:?}");
    }
    assert_eq!(IssuerUrl::parse(&format!("https://gitlab.com/{}", "a".repeat(MAX_URL))), Err(NotAUrl));
}

#[test]
fn the_host_is_read_without_the_port() {
    for (text, host, is_loopback) in [
        ("https://gitlab.com", "gitlab.com", false),
        ("https://gitlab.acme.example:8443/x", "gitlab.acme.example", false),
        ("http://[::1]:8080/x", "[::1]", true),
        ("http://127.0.0.1:8080", "127.0.0.1", true),
        ("https://localhost/x/", "localhost", true),
    ] {
        let url = IssuerUrl::parse(text).unwrap();
        assert_eq!((url.host(), url.is_loopback()), (host, is_loopback), "{text}");
    }
}

#[track_caller]
fn issuer(provider: &'static Provider, url: &str) -> Result<Issuer, SiteError> {
    Issuer::new("ci".to_owned(), provider, IssuerUrl::parse(url).unwrap())
}

#[test]
fn a_host_belongs_to_one_preset_whatever_the_policy_says() {
    for url in [
        "https://token.actions.githubusercontent.com",
        "https://token.actions.githubusercontent.com/",
        "https://token.actions.githubusercontent.com/octo-enterprise",
        "https://token.actions.githubusercontent.com:8443",
        "https://token.actions.acme.ghe.com",
        "https://token.actions.acme.ghe.com/acme",
    ] {
        for provider in [&generic::PROVIDER, &gitlab::PROVIDER] {
            assert_eq!(issuer(provider, url).unwrap_err(), SiteError::OwnedBy { owner: "github" }, "{url}");
        }
        assert!(issuer(&github::PROVIDER, url).is_ok());
    }
    for (url, owner) in [
        ("https://gitlab.com", "gitlab"),
        ("https://accounts.google.com/", "google"),
        ("https://platform.activestate.com/api/v1/oauth/oidc", "activestate"),
    ] {
        assert_eq!(issuer(&generic::PROVIDER, url).unwrap_err(), SiteError::OwnedBy { owner });
    }
    for url in ["https://gitlab.acme.example", "https://notghe.com", "https://gitlab.com.acme.example"] {
        assert!(issuer(&generic::PROVIDER, url).is_ok(), "{url}");
        assert!(issuer(&gitlab::PROVIDER, url).is_ok(), "{url}");
    }
}

#[test]
fn a_preset_of_one_issuer_serves_no_other() {
    assert!(issuer(&google::PROVIDER, "https://accounts.google.com").is_ok());
    for url in ["https://accounts.google.com/", "https://accounts.acme.example"] {
        let refused = issuer(&google::PROVIDER, url).unwrap_err();
        assert_eq!(refused, SiteError::OneUrl { provider: "google", url: "https://accounts.google.com" });
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panicking(text in "\\PC{0,60}") {
        let _ = IssuerUrl::parse(&text);
    }

    #[test]
    fn what_is_accepted_is_kept_and_is_what_a_url_parser_sees(
        text in "(https|http|HTTPS)://[a-z0-9.@:%\\[\\]\\\\-]{0,12}(/[a-z0-9.%/?#-]{0,10})?",
    ) {
        if let Ok(issuer) = IssuerUrl::parse(&text) {
            prop_assert_eq!(issuer.as_str(), &text);
            let url = Url::parse(&text).unwrap();
            prop_assert_eq!(url.host_str(), Some(issuer.host()));
            prop_assert_eq!(url.as_str().trim_end_matches('/'), text.trim_end_matches('/'));
        }
    }
}
