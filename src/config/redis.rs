//! The store in Redis, as the settings name it.
//!
//! SECURITY: the password is a file, as every secret is, and what crosses a network is encrypted: whoever can write to
//! the store can forget first uses.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::Error;
use zeroize::Zeroizing;

use super::secret_file;
use super::secret_file::Defect;
use super::watched::authorities;
use super::watched::watched;
use crate::policy::yaml::Faults;
use crate::state::Endpoint;
use crate::state::RedisOptions;
use crate::state::Topology;

/// Largest password file.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// How the store in Redis is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// What the servers are.
    pub topology: Topology,
    /// The server, the Sentinels, or some nodes of the Cluster: all of them with TLS, or all on this machine.
    pub endpoints: Vec<Endpoint>,
    /// The user; `None`: the default user.
    pub username: Option<String>,
    /// The file of the password.
    pub password_file: Option<PathBuf>,
    /// The file of the certificate authorities that are trusted; `None`: the machine's.
    pub ca_file: Option<PathBuf>,
    /// What every key begins with.
    pub prefix: String,
    /// How long a connection, and an answer, may take.
    pub timeout: Duration,
    /// How many replicas must have a first use before it counts.
    pub wait_for_replicas: u32,
}

/// What the `config` crate yields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MergedRedis {
    #[serde(deserialize_with = "endpoint")]
    url: Option<Endpoint>,
    sentinel: MergedSentinel,
    #[serde(deserialize_with = "endpoints")]
    cluster: Vec<Endpoint>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    prefix: String,
    /// In seconds.
    timeout: f64,
    wait_for_replicas: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MergedSentinel {
    name: Option<String>,
    #[serde(deserialize_with = "endpoints")]
    urls: Vec<Endpoint>,
}

impl MergedRedis {
    /// What is named, if it is one thing; `fault` takes key, message and remedy of what does not fit.
    pub(super) fn settle(self, fault: &mut impl FnMut(&str, &str, &str)) -> Option<Redis> {
        let Self { url, sentinel, cluster, username, password_file, ca_file, prefix, timeout, wait_for_replicas } =
            self;
        let MergedSentinel { name, urls } = sentinel;
        match (&name, urls.is_empty()) {
            (None, false) => {
                fault("state.redis.sentinel.urls", "name no master", "set `state.redis.sentinel.name` too");
            }
            (Some(_), true) => {
                fault("state.redis.sentinel.name", "has no Sentinels", "set `state.redis.sentinel.urls` too");
            }
            (None, true) | (Some(_), false) => {}
        }
        let mut named = Vec::new();
        named.extend(url.map(|url| ("state.redis.url", Topology::Single, vec![url])));
        if name.is_some() || !urls.is_empty() {
            named.push(("state.redis.sentinel.urls", Topology::Sentinel(name.unwrap_or_default()), urls));
        }
        if !cluster.is_empty() {
            named.push(("state.redis.cluster", Topology::Cluster, cluster));
        }
        for (key, ..) in named.iter().skip(1) {
            fault(key, "is a second way to reach Redis", "keep one of `url`, `sentinel` and `cluster`");
        }
        let Some((key, topology, endpoints)) = named.into_iter().next() else {
            fault(
                "state.store",
                "names no server",
                "set `state.redis.url`, `state.redis.sentinel` or `state.redis.cluster`",
            );
            return None;
        };
        let encrypted = endpoints.iter().filter(|endpoint| endpoint.tls()).count();
        if encrypted != 0 && encrypted != endpoints.len() {
            fault(key, "mixes addresses with and without TLS", "write `rediss://` in all of them");
        }
        if encrypted == 0 && ca_file.is_some() {
            let remedy = "write `rediss://` in the address, or remove this";
            fault("state.redis.ca_file", "is not used: the connection has no TLS", remedy);
        }
        if username.is_some() && password_file.is_none() {
            fault("state.redis.username", "has no password", "set `state.redis.password_file` too");
        }
        let timeout = Duration::try_from_secs_f64(timeout).unwrap_or_default();
        Some(Redis { topology, endpoints, username, password_file, ca_file, prefix, timeout, wait_for_replicas })
    }
}

impl Redis {
    /// The store's options, once its files were found fit. They are read again at every connection.
    pub fn options(&self) -> Result<RedisOptions, Faults> {
        let mut faults = Faults::new();
        let password = watched(self.password_file.as_deref(), "state.redis.password_file", password, &mut faults);
        let ca = watched(self.ca_file.as_deref(), "state.redis.ca_file", authorities, &mut faults);
        faults.into_result(Some(RedisOptions {
            endpoints: self.endpoints.clone(),
            topology: self.topology.clone(),
            ca,
            username: self.username.clone(),
            password,
            key_prefix: self.prefix.clone(),
            timeout: self.timeout,
            wait_for_replicas: self.wait_for_replicas,
        }))
    }
}

fn password(path: &Path) -> Result<Zeroizing<String>, Defect> {
    let (text, _) = secret_file::read(path, MAX_PASSWORD_BYTES)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    if line.is_empty() || line.contains(char::is_control) {
        return Err(Defect::new("holds no password", "write the password into it, as one line"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Endpoint>, D::Error> {
    Option::<String>::deserialize(deserializer)?.map(|text| parsed(&text)).transpose()
}

fn endpoints<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Endpoint>, D::Error> {
    Vec::<String>::deserialize(deserializer)?.iter().map(|text| parsed(text)).collect()
}

fn parsed<E: Error>(text: &str) -> Result<Endpoint, E> {
    text.parse::<Endpoint>().map_err(|fault| E::custom(fault.message))
}

#[cfg(test)]
mod tests;
