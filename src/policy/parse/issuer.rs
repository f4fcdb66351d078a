//! `issuers`: which identity providers are believed, and how their keys are reached.

use std::time::Duration;

use ipnet::IpNet;

use crate::identity::issuer::Issuer;
use crate::identity::issuer::IssuerUrl;
use crate::identity::issuer::KeySource;
use crate::identity::jwks::KeySet;
use crate::identity::provider;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::replay::Replay;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Fields;
use crate::policy::yaml::shown;

const KEYS: &[&str] =
    &["provider", "url", "ca_file", "jwks_file", "allow_networks", "max_lifetime", "enabled", "tenancy", "replay"];
/// Longest `max_lifetime`: an ID token of a day is no longer proof of a running job.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

type ReadFile<'a> = dyn Fn(&str, &str) -> Option<Vec<u8>> + 'a;

/// The preset of an issuer, and whether it is declared to have one tenant; reports every key that is unknown.
pub(super) fn preset(entry: &Field<'_>, faults: &mut Faults) -> Option<(&'static Provider, bool)> {
    let fields = entry.fields(KEYS, faults)?;
    let names: Vec<_> = provider::ALL.iter().map(|provider| (provider.name, *provider)).collect();
    let known = names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let provider = fields.require("provider", &format!("add `provider:` with one of {known}"), faults)?;
    let provider = super::choice(&provider, &names, faults)?;
    Some((provider, tenancy(&fields, provider, faults)))
}

/// An issuer whose preset is known.
pub(super) fn issuer(
    entry: &Field<'_>,
    provider: &'static Provider,
    file: &ReadFile<'_>,
    faults: &mut Faults,
) -> Option<Issuer> {
    // The unknown keys have been reported with the preset.
    let fields = entry.fields(KEYS, &mut Faults::new())?;
    let enabled = fields.get("enabled").map_or(Some(true), |field| field.boolean(faults));
    let lifetime = fields.get("max_lifetime").map(|field| lifetime(&field, faults));
    let keys = keys(&fields, file, faults);
    let replay = fields.get("replay").map(|field| replay(&field, faults));
    let url = url(entry, &fields, provider, faults)?;
    let mut issuer = match Issuer::new(entry.name().to_owned(), provider, url) {
        Ok(issuer) => issuer,
        Err(error) => {
            let field = fields.get("url").unwrap_or(*entry);
            field.fault(faults, error.to_string(), "");
            return None;
        }
    };
    issuer.enabled = enabled?;
    issuer.keys = keys?;
    if let Some(lifetime) = lifetime {
        issuer.max_lifetime = lifetime?;
    }
    if let Some(replay) = replay {
        issuer.replay = Some(replay?);
    }
    Some(issuer)
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

fn url(entry: &Field<'_>, fields: &Fields<'_>, provider: &Provider, faults: &mut Faults) -> Option<IssuerUrl> {
    let given = fields.get("url");
    let (field, text) = match (given, provider.site) {
        (Some(field), _) => (field, field.text(faults)?),
        (None, Site::Fixed(url) | Site::Default(url)) => (*entry, url),
        (None, Site::Configured) => {
            entry.fault_at_key(faults, "`url` is missing", "add the text that its tokens carry in `iss`");
            return None;
        }
    };
    match IssuerUrl::parse(text) {
        Ok(url) => Some(url),
        Err(error) => {
            let remedy = "write the URL exactly as its tokens carry it in `iss`";
            field.fault(faults, format!("L006: `{}` {error}", shown(text)), remedy);
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
    if !provider.claims.is_empty() {
        let message = format!("the provider `{}` has pins of its own, which hold on every instance", provider.name);
        field.fault(faults, message, "remove the line");
        return false;
    }
    single.unwrap_or(false)
}

fn keys(fields: &Fields<'_>, file: &ReadFile<'_>, faults: &mut Faults) -> Option<KeySource> {
    let networks = match fields.get("allow_networks") {
        Some(field) => networks(&field, faults),
        None => Some(Vec::new()),
    };
    let ca_pem = match fields.get("ca_file") {
        Some(field) => certificates(&field, file, faults).map(Some),
        None => Some(None),
    };
    let Some(jwks) = fields.get("jwks_file") else {
        return Some(KeySource::Discovery { ca_pem: ca_pem?, allow_networks: networks? });
    };
    for unused in ["ca_file", "allow_networks"].into_iter().filter_map(|key| fields.get(key)) {
        unused.fault_at_key(faults, "has no meaning beside `jwks_file`: nothing is fetched", "remove one of the two");
    }
    let bytes = bytes(&jwks, file, faults)?;
    match KeySet::parse(&bytes) {
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

fn networks(field: &Field<'_>, faults: &mut Faults) -> Option<Vec<IpNet>> {
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

fn certificates(field: &Field<'_>, file: &ReadFile<'_>, faults: &mut Faults) -> Option<Vec<u8>> {
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
    let bytes = file(&field.node.at.file, name);
    if bytes.is_none() {
        field.fault(faults, format!("the file `{}` cannot be read", shown(name)), "put it beside this one");
    }
    bytes
}
