//! Every key of the settings: its name, what its value is, and the strict reader of that value.

use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use config::Map;
use config::ValueKind;
use ipnet::IpNet;

use super::otlp;
use crate::escape::is_deceptive;
use crate::policy::caller;
use crate::policy::caller::Caller;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Value;
use crate::policy::yaml::nearest;
use crate::policy::yaml::shown;
use crate::secret::hex;
use crate::state::Endpoint;
use crate::telemetry::logs;
use crate::telemetry::logs::LogFormat;

/// The longest name and prefix.
const LONGEST_NAME: usize = 128;

/// A key and what stands under it.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name.
    pub name: &'static str,
    /// What stands under it.
    pub under: Under,
}

/// What stands under a key.
#[derive(Debug)]
pub(super) enum Under {
    /// More keys.
    Keys(&'static [Key]),
    /// A value.
    Value(Kind),
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Kind {
    /// An IP address and a port.
    Address,
    /// The path of a file or directory.
    Path,
    /// A list of IP networks.
    Networks,
    /// Who may ask: names with digests of API keys.
    Callers,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// An integer in these bounds.
    Integer(i64, i64),
    /// A number of bytes, at least so many.
    Bytes(u64),
    /// What `telemetry::logs` takes as its level.
    LogLevel,
    /// A length of time up to so many seconds.
    Seconds(u64),
    /// A length of time between so many milliseconds; as a value, in seconds.
    Millis(u64, u64),
    /// A name: one line.
    Text,
    /// What every key in Redis begins with.
    Prefix,
    /// Where a Redis server is.
    RedisUrl,
    /// Where several are.
    RedisUrls,
    /// Where a collector is.
    Collector,
    /// A list of some of these words.
    Words(&'static [&'static str]),
    /// May be `null` too.
    Optional(&'static Self),
}

const fn section(name: &'static str, keys: &'static [Key]) -> Key {
    Key { name, under: Under::Keys(keys) }
}

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, under: Under::Value(kind) }
}

/// All keys, in the order of `config/trustmint.yaml`.
pub(super) const KEYS: &[Key] = &[
    section(
        "listen",
        &[
            key("address", Kind::Address),
            section(
                "tls",
                &[key("certificate_file", Kind::Optional(&Kind::Path)), key("key_file", Kind::Optional(&Kind::Path))],
            ),
            key("trusted_proxies", Kind::Networks),
        ],
    ),
    section("operations", &[key("address", Kind::Address), key("callers", Kind::Callers)]),
    section("policy", &[key("directory", Kind::Path), key("poll", Kind::Seconds(3600))]),
    section("keys", &[key("directory", Kind::Path), key("poll", Kind::Seconds(3600))]),
    section(
        "state",
        &[
            key("store", Kind::Choice(&["memory", "redis"])),
            key("capacity", Kind::Bytes(1 << 20)),
            section(
                "redis",
                &[
                    key("url", Kind::Optional(&Kind::RedisUrl)),
                    section("sentinel", &[key("name", Kind::Optional(&Kind::Text)), key("urls", Kind::RedisUrls)]),
                    key("cluster", Kind::RedisUrls),
                    key("username", Kind::Optional(&Kind::Text)),
                    key("password_file", Kind::Optional(&Kind::Path)),
                    key("ca_file", Kind::Optional(&Kind::Path)),
                    key("prefix", Kind::Prefix),
                    key("timeout", Kind::Millis(10, 1000)),
                    key("wait_for_replicas", Kind::Integer(0, 8)),
                ],
            ),
        ],
    ),
    section(
        "audit",
        &[
            key("sink", Kind::Choice(&["stdout", "file", "otlp"])),
            key("file", Kind::Optional(&Kind::Path)),
            // Twice the exchanges that may hold a place at once, while the store answers.
            key("capacity", Kind::Integer(2048, 1_000_000)),
        ],
    ),
    section(
        "telemetry",
        &[
            key("log", Kind::Choice(&["text", "json"])),
            key("level", Kind::LogLevel),
            section(
                "otlp",
                &[
                    key("endpoint", Kind::Optional(&Kind::Collector)),
                    key("headers_file", Kind::Optional(&Kind::Path)),
                    key("ca_file", Kind::Optional(&Kind::Path)),
                    key("signals", Kind::Words(&["traces", "metrics", "logs"])),
                    key("sample_one_in", Kind::Integer(1, 1_000_000)),
                    key("interval", Kind::Seconds(3600)),
                    key("service_name", Kind::Text),
                ],
            ),
        ],
    ),
    section(
        "limits",
        &[
            key("workers", Kind::Optional(&Kind::Integer(1, 1_024))),
            key("connections", Kind::Integer(1, 1_000_000)),
            key("refusals_per_client", Kind::Optional(&Kind::Integer(1, 1_000_000))),
            key("read_timeout", Kind::Seconds(60)),
            key("drain", Kind::Seconds(600)),
            key("shutdown_timeout", Kind::Seconds(600)),
        ],
    ),
];

/// The paths of all values in a section and those below it, such as `listen.tls.key_file`.
pub(super) fn paths_in(section: &str) -> Vec<String> {
    let mut keys = KEYS;
    for name in section.split('.') {
        keys = keys.iter().find(|key| key.name == name).map_or(&[], |key| match &key.under {
            Under::Keys(keys) => keys,
            Under::Value(_) => &[],
        });
    }
    let below = |key: &Key| {
        let path = format!("{section}.{}", key.name);
        match &key.under {
            Under::Keys(_) => paths_in(&path),
            Under::Value(_) => vec![path],
        }
    };
    keys.iter().flat_map(below).collect()
}

impl Kind {
    /// Reads a value strictly; what is wrong with it is reported. A relative path starts at
    /// `folder`.
    pub(super) fn read(&self, field: &Field<'_>, folder: &Path, faults: &mut Faults) -> Option<ValueKind> {
        match self {
            Self::Address => address(field, faults),
            Self::Path => path(field, folder, faults),
            Self::Networks => networks(field, faults),
            Self::Callers => callers(field, faults),
            Self::Choice(words) => choice(words, field, faults),
            Self::Integer(least, most) => field.integer(*least, *most, faults).map(ValueKind::I64),
            Self::Bytes(least) => bytes(*least, field, faults),
            Self::LogLevel => log_level(field, faults),
            Self::Seconds(most) => seconds(*most, field, faults),
            Self::Millis(least, most) => millis(*least, *most, field, faults),
            Self::Text => line(field, faults).map(ValueKind::from),
            Self::Prefix => prefix(field, faults),
            Self::RedisUrl => redis_url(field, faults).map(ValueKind::from),
            Self::RedisUrls => {
                let urls = field.items(faults)?.map(|item| redis_url(&item, faults)).collect::<Vec<_>>();
                Some(ValueKind::from(urls.into_iter().flatten().collect::<Vec<_>>()))
            }
            Self::Collector => collector(field, faults).map(ValueKind::from),
            Self::Words(words) => {
                let items = field.items(faults)?.map(|item| choice(words, &item, faults)).collect::<Vec<_>>();
                Some(ValueKind::from(items.into_iter().flatten().collect::<Vec<_>>()))
            }
            Self::Optional(_) if matches!(field.node.value, Value::Null) => Some(ValueKind::Nil),
            Self::Optional(kind) => kind.read(field, folder, faults),
        }
    }
}

fn address(field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    if let Value::Int(port) = field.node.value {
        field.fault(faults, format!("`{port}` is a port without an address"), format!("write 127.0.0.1:{port}"));
        return None;
    }
    let text = field.text(faults)?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.to_string().into());
    }
    let message = format!("`{}` is not an IP address and a port", shown(text));
    field.fault(faults, message, "write an address such as 127.0.0.1:8080, 0.0.0.0:8080 or \"[::1]:8080\"");
    None
}

fn path(field: &Field<'_>, folder: &Path, faults: &mut Faults) -> Option<ValueKind> {
    let text = field.text(faults)?;
    if text.is_empty() || text.contains('\0') {
        field.fault(faults, "is not a path", "name a file or directory");
        return None;
    }
    // Both parts came from text, so the lossy form loses nothing.
    Some(folder.join(text).to_string_lossy().into_owned().into())
}

fn networks(field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    if let Value::String(text) = &field.node.value {
        let items: Vec<&str> = text.split([',', ' ']).filter(|item| !item.is_empty()).collect();
        field.fault(
            faults,
            "must be a list, and this is text",
            format!("write a list: [{}]", shown(&items.join(", "))),
        );
        return None;
    }
    let mut networks = Vec::new();
    for item in field.items(faults)? {
        let Some(text) = item.text(faults) else { continue };
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            // SECURITY: a whole address family is every client, and each could then claim any address.
            Ok(network) if network.prefix_len() == 0 => {
                item.fault(faults, format!("`{network}` is every address"), "name the networks of your proxies only");
            }
            Ok(network) if network != network.trunc() => {
                let message = format!("`{network}` is an address inside a network");
                item.fault(faults, message, format!("write the network: {}", network.trunc()));
            }
            Ok(network) => networks.push(network.to_string()),
            Err(_) => {
                let message = format!("`{}` is not an IP network", shown(text));
                item.fault(faults, message, "write a network such as 10.0.0.0/8 or an address such as 127.0.0.1");
            }
        }
    }
    Some(ValueKind::from(networks))
}

/// As a list, which a later layer replaces whole: who is no longer named may no longer ask.
fn callers(field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    let entry = |caller: Caller| {
        let digest = hex(&caller.key_sha256);
        Map::from_iter([("name".to_owned(), caller.name), ("key_sha256".to_owned(), digest)])
    };
    Some(ValueKind::from(caller::read(field, faults)?.into_iter().map(entry).collect::<Vec<_>>()))
}

fn choice(words: &[&'static str], field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    let text = field.text(faults)?;
    if words.contains(&text) {
        return Some(text.into());
    }
    let remedy = match nearest(text, words.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known: {}", words.join(", ")),
    };
    field.fault(faults, format!("`{}` is not known", shown(text)), remedy);
    None
}

fn seconds(most: u64, field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    let seconds = field.duration(faults)?.as_secs();
    if seconds > most {
        field.fault(faults, format!("must be at most {most}s, and this is {seconds}s"), "");
        return None;
    }
    Some(seconds.into())
}

fn millis(least: u64, most: u64, field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    let text = match field.node.value {
        Value::Int(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Float(_) | Value::String(_) | Value::Seq(_) | Value::Map(_) => {
            field.text(faults)?.to_owned()
        }
    };
    let digits = text.strip_suffix("ms").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let millis = digits.and_then(|digits| digits.parse::<u64>().ok()).filter(|millis| (least..=most).contains(millis));
    if millis.is_none() {
        let message = format!("`{}` is not a length of time from {least}ms to {most}ms", shown(&text));
        field.fault(faults, message, "write digits and the unit: `500ms`");
    }
    Some(Duration::from_millis(millis?).as_secs_f64().into())
}

fn line(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(faults)?;
    if text.is_empty() || text.len() > LONGEST_NAME || text.contains(is_deceptive) {
        field.fault(faults, "is not a name", format!("write 1 to {LONGEST_NAME} characters of one line"));
        return None;
    }
    Some(text.to_owned())
}

/// SECURITY: without braces, which would choose the slot of a Cluster for all keys at once, and without `*` and `?`, which
/// an ACL's pattern would read as more than this prefix.
fn prefix(field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    let text = field.text(faults)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":._-/".contains(&byte);
    if text.is_empty() || text.len() > LONGEST_NAME || !text.bytes().all(plain) {
        let remedy = "write 1 to 128 letters, digits and `:._-/`, such as `trustmint:`";
        field.fault(faults, format!("`{}` is no prefix of keys", shown(text)), remedy);
        return None;
    }
    Some(text.into())
}

/// SECURITY: what is wrong with an address is told without it: it may hold a password.
fn redis_url(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(faults)?;
    match text.parse::<Endpoint>() {
        Ok(endpoint) if endpoint.private() => Some(text.to_owned()),
        Ok(_) => {
            let message = "is another machine, and the password would cross the network unencrypted";
            field.fault(faults, message, "write `rediss://`, and give the server a certificate");
            None
        }
        Err(fault) => {
            field.fault(faults, fault.message, fault.remedy);
            None
        }
    }
}

/// SECURITY: what is wrong with an address is told without it: it may hold a password.
fn collector(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(faults)?;
    match otlp::collector(text) {
        Ok(_) => Some(text.to_owned()),
        Err((message, remedy)) => {
            field.fault(faults, message, remedy);
            None
        }
    }
}

fn bytes(least: u64, field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    let bytes = field.bytes(faults)?;
    if bytes < least {
        field.fault(faults, format!("must be at least {least} bytes, and this is {bytes}"), "");
        return None;
    }
    Some(bytes.into())
}

fn log_level(field: &Field<'_>, faults: &mut Faults) -> Option<ValueKind> {
    let text = field.text(faults)?;
    // A log that goes nowhere, made for its judgement of the level.
    if logs::subscriber(LogFormat::Text, text, std::io::sink).is_ok() {
        return Some(text.into());
    }
    let remedy = "write error, warn, info, debug or trace, or a list such as \"info,trustmint=debug\"";
    field.fault(faults, format!("`{}` is no log level", shown(text)), remedy);
    None
}
