//! `registries`: the tenants.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::bundle_source;
use super::codec;
use super::issuer::ReadFile;
use super::routes;
use crate::identity::issuer::IssuerUrl;
use crate::identity::replay::Replay;
use crate::package::Ecosystem;
use crate::policy::caller;
use crate::policy::dialect::Dialect;
use crate::policy::dialect::NamesPackage;
use crate::policy::lint;
use crate::policy::lint::catalogue;
use crate::policy::registry::Limits;
use crate::policy::registry::Registry;
use crate::policy::registry::TokenSettings;
use crate::policy::registry::WhenStoreDown;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Fields;
use crate::policy::yaml::shown;

pub(in crate::policy) const KEYS: &[&str] = &[
    "dialect",
    "ecosystem",
    "urls",
    "audiences",
    "token",
    "codec",
    "callers",
    "key_id",
    "epoch",
    "enabled",
    "replay",
    "retry_window",
    "verify_when_store_down",
    "bundle",
    "routes",
    "limits",
    "waive",
];
pub(in crate::policy) const TOKEN_KEYS: &[&str] = &["prefix", "ttl"];
pub(in crate::policy) const LIMIT_KEYS: &[&str] = &["exchanges_per_minute", "calls_per_minute"];
/// The most that a limit can be.
pub(in crate::policy) const MAX_LIMIT: u32 = 1_000_000;
/// How long upload tokens live unless the policy says otherwise.
const USUAL_TTL: Duration = Duration::from_secs(15 * 60);
/// Longest life of an upload token: what is stolen from a job must be worthless soon.
const LONGEST_TTL: Duration = Duration::from_secs(60 * 60);
/// Longest `retry_window`: clients send again within seconds. SECURITY: for as long, whoever has got hold of a job's ID
/// token gets the job's upload token with it.
const LONGEST_RETRY_WINDOW: Duration = Duration::from_secs(2 * 60);
/// Longest prefix of an upload token.
const MAX_PREFIX: usize = 32;

/// Reads a registry. `issuers` are those of the policy, which its bundle may name.
pub(super) fn registry(
    entry: &Field<'_>,
    issuers: &BTreeMap<String, Option<u32>>,
    file: &ReadFile<'_>,
    faults: &mut Faults,
) -> Option<Registry> {
    let fields = entry.fields(KEYS, faults)?;
    let dialects = Dialect::ALL.map(|dialect| (dialect.name(), dialect));
    let dialect = fields.require(
        "dialect",
        "add `dialect:`, which says whose clients it has: `pypi`, `npm`, …, or `generic`",
        faults,
    );
    let dialect = dialect.and_then(|field| super::choice(&field, &dialects, faults));
    let ecosystem = ecosystem(&fields, dialect, faults);
    let urls = fields.require("urls", "add the public upload URLs: `urls: [https://…]`", faults);
    let urls = urls.and_then(|field| urls_of(&field, faults));
    let audiences = audiences(&fields, dialect, urls.as_deref().unwrap_or_default(), faults);
    let callers = fields.get("callers").map_or(Some(Vec::new()), |field| caller::read(&field, faults));
    let key_id = fields.get("key_id").map_or(Some(entry.name().to_owned()), |field| key_id(&field, faults));
    let most = i64::from(u32::MAX);
    let epoch = fields.get("epoch").map_or(Some(0), |field| field.integer(0, most, faults));
    let enabled = fields.get("enabled").map_or(Some(true), |field| field.boolean(faults));
    let token = token(&fields, dialect, faults);
    let codec = codec::of_registry(&fields, ecosystem, token.as_ref(), faults);
    let replay = replay(&fields, dialect, faults);
    let retry_window = fields.get("retry_window").map(|field| retry_window(&field, replay, faults));
    let when_down = fields.get("verify_when_store_down").map_or(Some(WhenStoreDown::Refuse), |field| {
        super::choice(&field, &WhenStoreDown::ALL.map(|choice| (choice.name(), choice)), faults)
    });
    let names = ecosystem.unwrap_or(Ecosystem::Generic);
    let bundle = fields.get("bundle").map(|field| bundle_source::source(&field, names, issuers, file, faults));
    let limits = limits(&fields, faults);
    let routes = fields.get("routes").map(|field| routes::routes(&field, dialect, names, faults));
    Some(Registry {
        id: entry.name().to_owned(),
        dialect: dialect?,
        ecosystem: ecosystem?,
        urls: urls?,
        audiences: audiences?,
        token: token?,
        codec: codec?,
        callers: callers?,
        key_id: key_id?,
        epoch: u32::try_from(epoch?).ok()?,
        enabled: enabled?,
        replay: replay?,
        retry_window: retry_window.map_or(Some(None), |window| window.map(Some))?,
        verify_when_store_down: when_down?,
        bundle: bundle.map_or(Some(None), |source| source.map(|source| Some(Arc::new(source))))?,
        routes: routes.map_or(Some(None), |routes| routes.map(|routes| Some(Arc::new(routes))))?,
        limits: limits?,
    })
}

/// How package names are spelled. A dialect is that of one ecosystem; only the generic one serves them all.
fn ecosystem(fields: &Fields<'_>, dialect: Option<Dialect>, faults: &mut Faults) -> Option<Ecosystem> {
    let Some(field) = fields.get("ecosystem") else {
        return Some(dialect.map_or(Ecosystem::Generic, Dialect::ecosystem));
    };
    if let Some(dialect) = dialect.filter(|dialect| *dialect != Dialect::Generic) {
        let message = format!("packages of dialect `{}` have the names of its own ecosystem", dialect.name());
        field.fault(faults, message, "remove the line: only `dialect: generic` has a choice");
        return None;
    }
    super::choice(&field, &Ecosystem::ALL.map(|ecosystem| (ecosystem.name(), ecosystem)), faults)
}

fn replay(fields: &Fields<'_>, dialect: Option<Dialect>, faults: &mut Faults) -> Option<Replay> {
    let Some(field) = fields.get("replay") else {
        return Some(dialect.map_or(Replay::Once, Dialect::usual_replay));
    };
    let replay = super::choice(&field, &Replay::ALL.map(|mode| (mode.name(), mode)), faults)?;
    if let Some(dialect) = dialect.filter(|dialect| dialect.names_package() == NamesPackage::Never)
        && replay == Replay::OncePerPackage
    {
        let message =
            format!("clients of dialect `{}` cannot name a package, so no exchange would pass", dialect.name());
        field.fault(faults, message, "remove the line: `once` is the default");
        return None;
    }
    Some(replay)
}

/// How much the registry may have a minute. Nothing at all is `enabled: false`, which says so to everybody.
fn limits(fields: &Fields<'_>, faults: &mut Faults) -> Option<Limits> {
    let Some(field) = fields.get("limits") else { return Some(Limits::USUAL) };
    let fields = field.fields(LIMIT_KEYS, faults)?;
    let mut read = |key, usual| match fields.get(key) {
        Some(field) => u32::try_from(field.integer(1, i64::from(MAX_LIMIT), faults)?).ok(),
        None => Some(usual),
    };
    let exchanges = read("exchanges_per_minute", Limits::USUAL.exchanges);
    let calls = read("calls_per_minute", Limits::USUAL.calls);
    Some(Limits { exchanges: exchanges?, calls: calls? })
}

fn retry_window(field: &Field<'_>, replay: Option<Replay>, faults: &mut Faults) -> Option<Duration> {
    let window = field.duration(faults)?;
    if window > LONGEST_RETRY_WINDOW {
        field.fault(faults, "is longer than two minutes", "clients send again within seconds: write `30s`");
        return None;
    }
    if replay == Some(Replay::Off) {
        field.fault(faults, "has no meaning beside `replay: off`: nothing is remembered", "remove one of the two");
        return None;
    }
    Some(window)
}

/// A length of time that an upload token may live.
pub(super) fn ttl(field: &Field<'_>, dialect: Option<Dialect>, faults: &mut Faults) -> Option<Duration> {
    let ttl = field.duration(faults)?;
    let shortest = dialect.map_or(Duration::ZERO, Dialect::shortest_ttl);
    if ttl > LONGEST_TTL {
        field.fault(faults, "is longer than an hour", "upload tokens live at most `1h`");
        None
    } else if ttl < shortest {
        let minutes = shortest.as_secs() / 60;
        let name = dialect.map_or("", Dialect::name);
        field.fault(
            faults,
            format!("is shorter than tokens of dialect `{name}` may live"),
            format!("write `{minutes}m` or more"),
        );
        None
    } else {
        Some(ttl)
    }
}

fn token(fields: &Fields<'_>, dialect: Option<Dialect>, faults: &mut Faults) -> Option<TokenSettings> {
    let usual = dialect.map_or("", Dialect::token_prefix);
    let Some(field) = fields.get("token") else {
        return Some(TokenSettings { prefix: usual.to_owned(), ttl: USUAL_TTL });
    };
    let fields = field.fields(TOKEN_KEYS, faults)?;
    let prefix = fields.get("prefix").map_or(Some(usual), |field| prefix(&field, faults));
    let ttl = fields.get("ttl").map_or(Some(USUAL_TTL), |field| ttl(&field, dialect, faults));
    Some(TokenSettings { prefix: prefix?.to_owned(), ttl: ttl? })
}

fn prefix<'a>(field: &Field<'a>, faults: &mut Faults) -> Option<&'a str> {
    let text = field.text(faults)?;
    // The token stands in headers, and its prefix must be told from base64url text that follows by a scanner's pattern.
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !plain || text.is_empty() || text.len() > MAX_PREFIX {
        let remedy = "use 1 to 32 letters, digits, `-` and `_`, such as `acme-`";
        field.fault(faults, format!("`{}` is not a token prefix", shown(text)), remedy);
        return None;
    }
    Some(text)
}

fn urls_of(field: &Field<'_>, faults: &mut Faults) -> Option<Vec<Url>> {
    let before = faults.len();
    let mut urls = Vec::new();
    for item in field.items(faults)? {
        let Some(text) = item.text(faults) else { continue };
        // The same discipline as for issuers.
        let parsed = IssuerUrl::parse(text);
        match (parsed, Url::parse(text)) {
            (Ok(_), Ok(url)) if !urls.contains(&url) => urls.push(url),
            (Ok(_), Ok(_)) => item.fault(faults, format!("`{text}` is listed twice"), "remove one"),
            (Err(error), _) => item.fault(faults, format!("`{}` {error}", shown(text)), "write the public upload URL"),
            (Ok(_), Err(_)) => {
                item.fault(faults, format!("`{}` is not a URL", shown(text)), "write the public upload URL");
            }
        }
    }
    if urls.is_empty() && faults.len() == before {
        field.fault(faults, "is empty", "write the public upload URLs: [https://…]");
    }
    (faults.len() == before).then_some(urls)
}

/// The audiences that the policy lists, then those that clients of the dialect compute from the URLs.
fn audiences(fields: &Fields<'_>, dialect: Option<Dialect>, urls: &[Url], faults: &mut Faults) -> Option<Vec<String>> {
    let mut audiences = match fields.get("audiences") {
        None if dialect.is_some_and(Dialect::computes_audience) => Vec::new(),
        _ => {
            let remedy = "add the audiences that CI jobs ask for: `audiences: [acme]`";
            audiences_of(&fields.require("audiences", remedy, faults)?, urls, faults)?
        }
    };
    for audience in dialect.iter().flat_map(|dialect| urls.iter().flat_map(|url| dialect.audiences(url))) {
        if let (Some((message, remedy)), Some(field)) = (lint::computed_audience(&audience), fields.get("urls")) {
            field.fault(faults, message, remedy);
            return None;
        }
        if !audiences.contains(&audience) {
            audiences.push(audience);
        }
    }
    Some(audiences)
}

fn audiences_of(field: &Field<'_>, urls: &[Url], faults: &mut Faults) -> Option<Vec<String>> {
    let before = faults.len();
    let mut audiences: Vec<String> = Vec::new();
    for item in field.items(faults)? {
        let Some(text) = item.text(faults) else { continue };
        if let Some((message, remedy)) = lint::audience(text, urls) {
            item.fault(faults, message, remedy);
        } else if audiences.iter().any(|audience| audience == text) {
            item.fault(faults, format!("`{text}` is listed twice"), "remove one");
        } else {
            audiences.push(text.to_owned());
        }
    }
    if audiences.is_empty() && faults.len() == before {
        field.fault(faults, (&catalogue::L003, "is empty"), "write the audiences that CI jobs ask for: [acme]");
    }
    (faults.len() == before).then_some(audiences)
}

fn key_id(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(faults)?;
    if !super::is_id(text) {
        let remedy = "use up to 64 lower-case letters, digits, `-`, `_` and `.`, a letter or digit first";
        field.fault(faults, format!("`{}` is not a name", shown(text)), remedy);
        return None;
    }
    Some(text.to_owned())
}
