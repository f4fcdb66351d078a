//! Issuer families: issuers of one provider that sign with one key set and differ in one segment of their URL.
//!
//! Decides which of them exist: those whose segment a rule pins, each an [`Issuer`] of its own with its own URL. A
//! token's `iss` is therefore compared byte by byte here as everywhere.
//!
//! SECURITY: a pattern over `iss` would let whoever controls a part of it choose what is fetched and who is believed.

use crate::identity::issuer::Issuer;
use crate::identity::issuer::IssuerUrl;
use crate::identity::provider::Provider;

/// Longest segment, in bytes.
const MAX_SEGMENT: usize = 128;

/// A configured family. Only [`Family::member`] makes issuers of it.
#[derive(Debug, Clone)]
pub struct Family {
    /// What its members have in common. Its own URL is that of no member.
    prototype: Issuer,
    template: &'static str,
    claim: &'static str,
}

/// What makes an issuer a member of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The family's template, under which its keys are held.
    pub(super) template: &'static str,
    /// The derived claim that has the segment.
    pub(super) claim: &'static str,
    /// The segment that tells the member's tenant from others.
    pub(super) segment: String,
}

/// The template of a provider's family that a text is, with the name of its segment.
pub fn template(provider: &Provider, text: &str) -> Option<(&'static str, &'static str)> {
    let template = provider.families.iter().copied().find(|template| *template == text)?;
    Some((template, claim(template)?))
}

/// The name of a template's segment, which is that of the derived claim.
pub fn claim(template: &'static str) -> Option<&'static str> {
    let (_, rest) = template.split_once('{')?;
    Some(rest.split_once('}')?.0)
}

/// Whether a text can be the segment: letters, digits, `-` and `_`, so that it can neither end the segment nor be read
/// as another.
pub fn is_segment(text: &str) -> bool {
    (1..=MAX_SEGMENT).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

impl Family {
    /// The family of a template of the provider's. `make` gives what its members have in common, for a URL.
    pub fn new<E>(
        (template, claim): (&'static str, &'static str),
        make: impl FnOnce(IssuerUrl) -> Result<Issuer, E>,
    ) -> Option<Result<Self, E>> {
        let url = IssuerUrl::parse(&template.replace(['{', '}'], "")).ok()?;
        Some(make(url).map(|prototype| Self { prototype, template, claim }))
    }

    /// The derived claim that has the segment of each member.
    pub const fn claim(&self) -> &'static str {
        self.claim
    }

    /// The URL with the segment's name in braces.
    pub const fn template(&self) -> &'static str {
        self.template
    }

    /// What its members have in common. Its URL is that of no member.
    pub const fn prototype(&self) -> &Issuer {
        &self.prototype
    }

    /// Its name in the policy.
    pub fn id(&self) -> &str {
        &self.prototype.id
    }

    /// What is known about its kind.
    pub const fn provider(&self) -> &'static Provider {
        self.prototype.provider()
    }

    /// Whether a URL is that of a member.
    pub fn covers(&self, url: &str) -> bool {
        let (Some((before, _)), Some((_, after))) = (self.template.split_once('{'), self.template.split_once('}'))
        else {
            return false;
        };
        url.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some_and(is_segment)
    }

    /// The member with this segment; `None` if the text can be none.
    pub fn member(&self, segment: &str) -> Option<Issuer> {
        let text = self.template.replace(&format!("{{{}}}", self.claim), segment);
        let url = IssuerUrl::parse(&text).ok().filter(|_| is_segment(segment))?;
        let member = Member { template: self.template, claim: self.claim, segment: segment.to_owned() };
        Some(self.prototype.clone().into_member(url, member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::identity::provider::github;
    use crate::json::Json;
    use crate::json::Object;

    fn family() -> Family {
        let found = template(&github::PROVIDER, "https://token.actions.githubusercontent.com/{enterprise_slug}");
        let make = |url| Issuer::new("ghe".into(), &github::PROVIDER, url);
        Family::new(found.unwrap(), make).unwrap().unwrap()
    }

    #[test]
    fn a_template_is_the_providers_own_letter_for_letter() {
        for text in [
            "https://token.actions.githubusercontent.com",
            "https://token.actions.githubusercontent.com/{slug}",
            "https://token.actions.githubusercontent.com/acme",
            "https://evil.example/{enterprise_slug}",
            "https://token.actions.githubusercontent.com/{enterprise_slug}/",
        ] {
            assert_eq!(template(&github::PROVIDER, text), None, "{text}");
        }
    }

    #[test]
    fn a_member_is_an_issuer_of_its_own_that_shares_its_keys() {
        let (acme, other) = (family().member("acme").unwrap(), family().member("other_2").unwrap());
        assert_eq!(acme.url().as_str(), "https://token.actions.githubusercontent.com/acme");
        assert_eq!(acme.id, "ghe");
        assert_eq!(acme.keys_name(), other.keys_name());
        let derived = acme.derive(&Object::default());
        assert!(derived.contains(&("enterprise_slug", Some(Json::String("acme".into())))));
        // The provider's own issuer is no member.
        let plain = IssuerUrl::parse("https://token.actions.githubusercontent.com").unwrap();
        let plain = Issuer::new("github".into(), &github::PROVIDER, plain).unwrap();
        assert_ne!(plain.keys_name(), acme.keys_name());
        assert!(plain.derive(&Object::default()).iter().all(|(name, _)| *name != "enterprise_slug"));
    }

    #[test]
    fn what_could_be_read_as_another_segment_is_none() {
        for text in
            ["", "a/b", "..", "a.b", "a%2fb", "acme?x", "acme#", "a b", "é", "{enterprise_slug}", &"x".repeat(129)]
        {
            assert!(family().member(text).is_none(), "{text}");
            let url = format!("https://token.actions.githubusercontent.com/{text}");
            assert!(!family().covers(&url), "{url}");
        }
        assert!(family().covers("https://token.actions.githubusercontent.com/acme"));
        assert!(!family().covers("https://token.actions.githubusercontent.com"));
        assert!(!family().covers("https://evil.example/acme"));
    }
}
