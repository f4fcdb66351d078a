//! `registries.….bundle`: where a registry serves its own rules, and what they may be about at most.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::issuer;
use super::issuer::ReadFile;
use crate::identity::issuer::Reach;
use crate::identity::jwks::small_order::has_small_order;
use crate::package::Ecosystem;
use crate::package::Pattern;
use crate::policy::bundle::PublicKey;
use crate::policy::bundle::Source;
use crate::policy::bundle::USUAL_BYTES;
use crate::policy::bundle::USUAL_POLL;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::shown;

pub(in crate::policy) const KEYS: &[&str] =
    &["url", "issuers", "packages", "poll", "max_bytes", "public_key", "ca_file", "allow_networks", "proxy"];
/// How often a registry may be asked: a server must not mind it, and a withdrawn rule must go.
const POLL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60 * 60));
/// Most bytes that a bundle may be let have: a million rules and more.
const MOST_BYTES: usize = 1 << 30;

/// Reads where the bundle of a registry is. `known` are the policy's issuers; `ecosystem` is how the registry's packages
/// are named.
pub(super) fn source(
    field: &Field<'_>,
    ecosystem: Ecosystem,
    known: &BTreeMap<String, Option<u32>>,
    file: &ReadFile<'_>,
    faults: &mut Faults,
) -> Option<Source> {
    let fields = field.fields(KEYS, faults)?;
    let url = fields.require("url", "add where the registry serves its rules: `url: https://…`", faults);
    let url = url.and_then(|field| issuer::plain_url(&field, "write the URL of the bundle: `https://…`", faults));
    let issuers = fields.require("issuers", "add the names of the issuers that its rules may name: [github]", faults);
    let issuers = issuers.and_then(|field| issuers_of(&field, known, faults));
    let packages = fields.get("packages").map_or(Some(None), |field| packages(&field, ecosystem, faults).map(Some));
    let poll = fields.get("poll").map_or(Some(USUAL_POLL), |field| poll(&field, faults));
    let max_bytes = fields.get("max_bytes").map_or(Some(USUAL_BYTES), |field| max_bytes(&field, faults));
    let public_key = fields.get("public_key").map_or(Some(None), |field| public_key(&field, faults).map(Some));
    let allow_networks =
        fields.get("allow_networks").map_or(Some(Vec::new()), |field| issuer::networks(&field, faults));
    let ca_pem = fields.get("ca_file").map_or(Some(None), |field| issuer::certificates(&field, file, faults).map(Some));
    let proxy = fields.get("proxy").map_or(Some(None), |field| issuer::proxy(&field, faults).map(Some));
    Some(Source {
        url: url?,
        reach: Reach { ca_pem: ca_pem?, allow_networks: allow_networks?, proxy: proxy? },
        issuers: issuers?,
        packages: packages?,
        poll: poll?,
        max_bytes: max_bytes?,
        public_key: public_key?,
    })
}

fn issuers_of(field: &Field<'_>, known: &BTreeMap<String, Option<u32>>, faults: &mut Faults) -> Option<Vec<String>> {
    let before = faults.len();
    let mut issuers: Vec<String> = Vec::new();
    for item in field.items(faults)? {
        let named = item.text(&mut Faults::new());
        if let Some(twice) = named.filter(|name| issuers.iter().any(|other| other == name)) {
            item.fault(faults, format!("`{}` is listed twice", shown(twice)), "remove one");
        } else {
            super::refer(&item, known, "issuer", faults);
            issuers.extend(named.map(str::to_owned));
        }
    }
    if issuers.is_empty() && faults.len() == before {
        field.fault(faults, "is empty, so its rules could name no issuer", "write the issuers' names: [github]");
    }
    (faults.len() == before).then_some(issuers)
}

fn packages(field: &Field<'_>, ecosystem: Ecosystem, faults: &mut Faults) -> Option<Vec<Pattern>> {
    let before = faults.len();
    let mut patterns = Vec::new();
    for item in field.items(faults)? {
        let Some(text) = item.text(faults) else { continue };
        match Pattern::parse(ecosystem, text) {
            Ok(pattern) if patterns.contains(&pattern) => {
                item.fault(faults, format!("`{pattern}` is listed twice"), "remove one");
            }
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                let remedy = "write a package name, or a prefix that ends in a separator and `*`: `widgets-*`";
                item.fault(faults, format!("the package `{}` {error}", shown(text)), remedy);
            }
        }
    }
    if patterns.is_empty() && faults.len() == before {
        field.fault(faults, "is empty, so its rules could grant nothing", "remove the line for any package");
    }
    (faults.len() == before).then_some(patterns)
}

fn poll(field: &Field<'_>, faults: &mut Faults) -> Option<Duration> {
    let poll = field.duration(faults)?;
    let (least, most) = POLL;
    if !(least..=most).contains(&poll) {
        field.fault(faults, "is out of range", "write 10s to 1h; a notice brings the next poll forward");
        return None;
    }
    Some(poll)
}

fn max_bytes(field: &Field<'_>, faults: &mut Faults) -> Option<usize> {
    let size = field.bytes(faults)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= MOST_BYTES);
    if size.is_none() {
        field.fault(faults, "is more than a bundle may have", "write at most `1GiB`");
    }
    size
}

fn public_key(field: &Field<'_>, faults: &mut Faults) -> Option<PublicKey> {
    let text = field.text(faults)?;
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    // SECURITY: a place-holder of zeros is such a key, and anyone can sign for it.
    let key = bytes.filter(|bytes| !has_small_order(bytes));
    if key.is_none() {
        let remedy = "write its 32 bytes in base64, 44 characters";
        field.fault(faults, format!("`{}` is not an Ed25519 public key", shown(text)), remedy);
    }
    key.map(PublicKey)
}
