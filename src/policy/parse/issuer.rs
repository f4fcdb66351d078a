//! `issuers`: which identity providers are believed, and how their keys are reached.

use std::time::Duration;

use ipnet::IpNet;
use url::Url;

use crate::identity::family;
use crate::identity::family::Family;
use crate::identity::issuer::Issuer;
use crate::identity::issuer::IssuerUrl;
use crate::identity::issuer::KeySource;
use crate::identity::issuer::Reach;
use crate::identity::issuer::SiteError;
use crate::identity::jwks::KeySet;
use crate::identity::provider;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::replay::Replay;
use crate::policy::issuers::Entry;
use crate::policy::lint::Duties;
use crate::policy::lint::catalogue;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Fields;
use crate::policy::yaml::shown;

pub(in crate::policy) const KEYS: &[&str] = &[
    "provider",
    "url",
    "ca_file",
    "jwks_file",
    "jwks_uri",
    "allow_networks",
    "proxy",
    "max_lifetime",
    "accept_fixed_audience",
    "enabled",
    "tenancy",
    "replay",
    "waive",
];
/// Longest `max_lifetime`: an ID token of a day is no longer proof of a running job.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) type ReadFile<'a> = dyn Fn(&str, &str) -> Option<Vec<u8>> + 'a;

/// What the rules of an issuer owe it; reports every key that is unknown.
pub(super) fn duties(entry: &Field<'_>, faults: &mut Faults) -> Option<Duties> {
    let fields = entry.fields(KEYS, faults)?;
    let names: Vec<_> = provider::ALL.iter().map(|provider| (provider.name, *provider)).collect();
    let known = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let provider = fields.require("provider", &format!("add `provider:` with one of {known}"), faults)?;
    let provider = super::choice(&provider, &names, faults)?;
    let single_tenant = tenancy(&fields, provider, faults);
    let url = fields.get("url").and_then(|field| field.text(&mut Faults::new()));
    let segment = url.and_then(|url| family::template(provider, url)).map(|(_, claim)| claim);
    Some(Duties { provider, single_tenant, segment, span: None })
}

/// An issuer, or a family of issuers, whose preset is known.
pub(super) fn issuer(entry: &Field<'_>, duties: Duties, file: &ReadFile<'_>, faults: &mut Faults) -> Option<Entry> {
    let provider = duties.provider;
    // The unknown keys have been reported with the preset.
    let fields = entry.fields(KEYS, &mut Faults::new())?;
    let enabled = fields.get("enabled").map_or(Some(true), |field| field.boolean(faults));
    let lifetime = fields.get("max_lifetime").map(|field| lifetime(&field, faults));
    let address = address(entry, &fields, provider, faults);
    let bundle = address.as_ref().is_some_and(Address::is_trust_domain);
    let keys = keys(&fields, bundle, file, faults);
    let accepted = accepts_audience(entry, &fields, provider, faults);
    let replay = fields.get("replay").map_or(Some(None), |field| replay(&field, faults).map(Some));
    let address = address?;
    if let (Some(KeySource::Remote { .. }), Some(why)) = (&keys, address.needs_file()) {
        let remedy = "save its key set in the policy directory and name it: `jwks_file: keys.json`";
        entry.fault_at_key(faults, (&catalogue::L029, why), remedy);
        return None;
    }
    let (enabled, keys, lifetime) =
        (enabled?, keys?, lifetime.map_or(Some(provider.max_lifetime), |lifetime| lifetime)?);
    let ((), replay) = (accepted?, replay?);
    let make = |url| {
        let mut issuer = Issuer::new(entry.name().to_owned(), provider, url)?;
        issuer.enabled = enabled;
        issuer.keys = keys;
        issuer.max_lifetime = lifetime;
        issuer.replay = replay;
        Ok(issuer)
    };
    let parsed: Result<Entry, SiteError> = match address {
        Address::One(url) => make(url).map(Entry::One),
        Address::Family(template) => Family::new(template, make)?.map(Entry::Family),
    };
    parsed.map_err(|error| fields.get("url").unwrap_or(*entry).fault(faults, error.to_string(), "")).ok()
}

/// SECURITY: an issuer is shared by registries that may not know of each other, so it can only be stricter than they
/// are: `off` would have no effect.
fn replay(field: &Field<'_>, faults: &mut Faults) -> Option<Replay> {
    let replay = super::choice(field, &Replay::ALL.map(|mode| (mode.name(), mode)), faults)?;
    if replay == Replay::Off {
        let remedy = "write it at the registries that accept replays, and `replay: once` at the other issuers";
        field.fault(faults, "an issuer can only be stricter than the registry, so `off` has no effect", remedy);
        return None;
    }
    Some(replay)
}

/// Where an entry's issuers are.
enum Address {
    One(IssuerUrl),
    /// The template of a family, and the name of its segment.
    Family((&'static str, &'static str)),
}

impl Address {
    fn is_trust_domain(&self) -> bool {
        matches!(self, Self::One(url) if url.is_trust_domain())
    }

    /// Why its keys can only come from a file.
    fn needs_file(&self) -> Option<String> {
        let Self::One(url) = self else { return None };
        if url.is_trust_domain() {
            return Some("the keys of a trust domain are its bundle, which is not fetched".to_owned());
        }
        // SECURITY: each network has its own machine of this name, and each would be believed.
        let local = provider::is_local(url.host());
        local.then(|| {
            format!("the host `{}` is another machine on every network, so its keys are not fetched", url.host())
        })
    }
}

fn address(entry: &Field<'_>, fields: &Fields<'_>, provider: &Provider, faults: &mut Faults) -> Option<Address> {
    let given = fields.get("url");
    let (field, text) = match (given, provider.site) {
        (Some(field), _) => (field, field.text(faults)?),
        (None, Site::Fixed(url) | Site::Default(url)) => (*entry, url),
        (None, Site::OneOf(_) | Site::Configured) => {
            entry.fault_at_key(faults, "`url` is missing", "add the text that its tokens carry in `iss`");
            return None;
        }
    };
    if let Some(template) = family::template(provider, text) {
        return Some(Address::Family(template));
    }
    if text.contains('{') {
        let remedy = match provider.families {
            [] => "give each of its issuers an entry of its own, with its URL".to_owned(),
            templates => format!("write `{}`", templates.join("` or `")),
        };
        let message = format!("`{}` is no family of issuers of `{}`", shown(text), provider.name);
        field.fault(faults, (&catalogue::L006, message), remedy);
        return None;
    }
    let parsed = if provider.trust_domains && text.starts_with("spiffe:") {
        IssuerUrl::trust_domain(text)
    } else {
        IssuerUrl::parse(text)
    };
    match parsed {
        Ok(url) => Some(Address::One(url)),
        Err(error) => {
            let remedy = "write the URL exactly as its tokens carry it in `iss`";
            field.fault(faults, (&catalogue::L006, format!("`{}` {error}", shown(text))), remedy);
            None
        }
    }
}

/// SECURITY: tokens whose audience every relying party accepts can be relayed here by any of them. Whoever configures
/// such an issuer must know it.
fn accepts_audience(entry: &Field<'_>, fields: &Fields<'_>, provider: &Provider, faults: &mut Faults) -> Option<()> {
    let field = fields.get("accept_fixed_audience");
    let accepted = field.as_ref().map_or(Some(false), |field| field.boolean(faults))?;
    match (provider.fixed_audience, field) {
        (None, None) => Some(()),
        (None, Some(field)) => {
            field.fault_at_key(faults, format!("jobs at `{}` choose the audience", provider.name), "remove the line");
            None
        }
        (Some(_), _) if accepted => Some(()),
        (Some(_), _) => {
            let message = format!(
                "all tokens of `{}` have one audience, so whoever gets one for another service can use it here",
                provider.name
            );
            entry.fault_at_key(
                faults,
                (&catalogue::L003, message),
                "if that is acceptable, add `accept_fixed_audience: true`",
            );
            None
        }
    }
}

fn lifetime(field: &Field<'_>, faults: &mut Faults) -> Option<Duration> {
    let lifetime = field.duration(faults)?;
    if lifetime > LONGEST_LIFETIME {
        field.fault(faults, "is longer than a day", "let the provider issue shorter ID tokens");
        return None;
    }
    Some(lifetime)
}

fn tenancy(fields: &Fields<'_>, provider: &Provider, faults: &mut Faults) -> bool {
    let Some(field) = fields.get("tenancy") else { return false };
    let single = super::choice(&field, &[("single", true)], faults);
    // SECURITY: on a shared provider "single" would let every tenant in.
    if !provider.claims.is_empty() || !provider.pins.is_empty() {
        let message = format!("the provider `{}` has pins of its own, which hold on every instance", provider.name);
        field.fault(faults, message, "remove the line");
        return false;
    }
    let url = fields.get("url").and_then(|field| field.text(&mut Faults::new()));
    if let Some(url) = url.and_then(|text| IssuerUrl::parse(text).ok())
        && provider::is_shared(url.host())
    {
        let message = format!("`{}` serves many tenants, whose jobs would all pass", url.host());
        field.fault(faults, message, "remove the line: rules then pin `sub`");
        return false;
    }
    single.unwrap_or(false)
}

fn keys(fields: &Fields<'_>, bundle: bool, file: &ReadFile<'_>, faults: &mut Faults) -> Option<KeySource> {
    let networks = fields.get("allow_networks").map_or(Some(Vec::new()), |field| networks(&field, faults));
    let ca_pem = fields.get("ca_file").map_or(Some(None), |field| certificates(&field, file, faults).map(Some));
    let jwks_uri = fields
        .get("jwks_uri")
        .map_or(Some(None), |field| plain_url(&field, "write the URL of its key set: `https://…`", faults).map(Some));
    let proxy = fields.get("proxy").map_or(Some(None), |field| proxy(&field, faults).map(Some));
    let Some(jwks) = fields.get("jwks_file") else {
        let reach = Reach { ca_pem: ca_pem?, allow_networks: networks?, proxy: proxy? };
        return Some(KeySource::Remote { reach, jwks_uri: jwks_uri? });
    };
    let unused = ["ca_file", "allow_networks", "jwks_uri", "proxy"].into_iter().filter_map(|key| fields.get(key));
    for unused in unused {
        unused.fault_at_key(faults, "has no meaning beside `jwks_file`: nothing is fetched", "remove one of the two");
    }
    let bytes = bytes(&jwks, file, faults)?;
    let parsed = if bundle { KeySet::parse_bundle(&bytes) } else { KeySet::parse(&bytes) };
    match parsed {
        Ok((keys, _)) if !keys.is_empty() => Some(KeySource::Static(bytes)),
        Ok(_) => {
            jwks.fault(
                faults,
                "the file has no key that can be used",
                "RSA of 2048 bits or more, P-256, P-384, Ed25519",
            );
            None
        }
        Err(error) => {
            jwks.fault(faults, format!("the file is no JWK Set: {error}"), "save the provider's `jwks_uri` document");
            None
        }
    }
}

/// Where something is that is fetched. The operator's own word, so any host will do.
pub(super) fn plain_url(field: &Field<'_>, remedy: &str, faults: &mut Faults) -> Option<Url> {
    let text = field.text(faults)?;
    match IssuerUrl::parse(text) {
        Ok(_) => Url::parse(text).ok(),
        Err(error) => {
            field.fault(faults, (&catalogue::L006, format!("`{}` {error}", shown(text))), remedy);
            None
        }
    }
}

pub(super) fn proxy(field: &Field<'_>, faults: &mut Faults) -> Option<Url> {
    let text = field.text(faults)?;
    let plain = |url: &Url| {
        let bare = url.username().is_empty() && url.password().is_none();
        let nothing_else = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        matches!(url.scheme(), "http" | "https") && url.has_host() && bare && nothing_else
    };
    let url = Url::parse(text).ok().filter(plain);
    if url.is_none() {
        // SECURITY: what is in a policy is shown to operators and kept in repositories: no place for a password. Nor is
        // this message, so it does not repeat the text.
        let remedy = "write it as `http://proxy.acme.example:3128`, without a user name or password";
        field.fault(faults, "is not the plain URL of an HTTP proxy", remedy);
    }
    url
}

pub(super) fn networks(field: &Field<'_>, faults: &mut Faults) -> Option<Vec<IpNet>> {
    let before = faults.len();
    let mut networks = Vec::new();
    for item in field.items(faults)? {
        let Some(text) = item.text(faults) else { continue };
        match text.parse::<IpNet>() {
            Ok(network) if network.trunc() == network => networks.push(network),
            Ok(network) => {
                let message = format!("`{network}` has bits beyond its prefix");
                item.fault(faults, message, format!("write `{}`", network.trunc()));
            }
            Err(_) => item.fault(faults, format!("`{}` is not a network", shown(text)), "write it as `10.20.0.0/16`"),
        }
    }
    (faults.len() == before).then_some(networks)
}

pub(super) fn certificates(field: &Field<'_>, file: &ReadFile<'_>, faults: &mut Faults) -> Option<Vec<u8>> {
    let bytes = bytes(field, file, faults)?;
    let pem = std::str::from_utf8(&bytes).is_ok_and(|text| text.contains("-----BEGIN CERTIFICATE-----"));
    if !pem {
        field.fault(faults, "the file has no certificate in PEM", "it must have a `-----BEGIN CERTIFICATE-----` block");
        return None;
    }
    Some(bytes)
}

/// The bytes of a file beside the policy file.
fn bytes(field: &Field<'_>, file: &ReadFile<'_>, faults: &mut Faults) -> Option<Vec<u8>> {
    let name = field.text(faults)?;
    // SECURITY: whoever may write rules must not be able to have any file of the machine read.
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.contains(['\\', '\0', ':']);
    if !name.split('/').all(plain) {
        let remedy = "put the file beside this one and write its name; names that begin with `.` are not read";
        field.fault(faults, format!("`{}` is not a file inside the policy directory", shown(name)), remedy);
        return None;
    }
    let bytes = file(field.node.at.file, name);
    if bytes.is_none() {
        field.fault(faults, format!("the file `{}` cannot be read", shown(name)), "put it beside this one");
    }
    bytes
}
