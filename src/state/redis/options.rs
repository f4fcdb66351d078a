//! Where Redis is, and how it is spoken to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use redis::ConnectionAddr;
use url::Host;
use url::Url;
use zeroize::Zeroizing;

/// Reads a file when a connection is made: what it holds may have changed. `None`: it cannot be used.
pub type ReadFile = Arc<dyn Fn() -> Option<Zeroizing<String>> + Send + Sync>;

/// How Redis is reached.
#[derive(Clone)]
pub struct RedisOptions {
    /// The servers: one; or the Sentinels; or some nodes of a Cluster.
    pub endpoints: Vec<Endpoint>,
    /// What those servers are.
    pub topology: Topology,
    /// The certificate authorities that are trusted, as PEM; `None`: the machine's.
    pub ca: Option<ReadFile>,
    /// The user; `None`: the default user.
    pub username: Option<String>,
    /// The password; `None`: none.
    pub password: Option<ReadFile>,
    /// What every key begins with.
    pub key_prefix: String,
    /// How long a connection, and an answer, may take.
    pub timeout: Duration,
    /// How many replicas must have a first use before it counts.
    pub wait_for_replicas: u32,
}

/// What the servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server.
    Single,
    /// Sentinels, which know the master of that name.
    Sentinel(String),
    /// Nodes of a Cluster.
    Cluster,
}

impl RedisOptions {
    pub(super) fn clustered(&self) -> bool {
        self.topology == Topology::Cluster
    }

    pub(super) fn tls(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.tls)
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, topology, ca, username, password, key_prefix, timeout, wait_for_replicas } = self;
        f.debug_struct("RedisOptions")
            .field("endpoints", endpoints)
            .field("topology", topology)
            .field("ca", &ca.is_some())
            .field("username", username)
            .field("password", &password.is_some())
            .field("key_prefix", key_prefix)
            .field("timeout", timeout)
            .field("wait_for_replicas", wait_for_replicas)
            .finish()
    }
}

/// A server's address: `redis://host:port`, or with TLS `rediss://host:port`; `valkey://` and `valkeys://` are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    tls: bool,
    loopback: bool,
}

impl Endpoint {
    /// Whether it is spoken to with TLS.
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Whether what it says stays on the machine or is encrypted.
    pub const fn private(&self) -> bool {
        self.tls || self.loopback
    }

    pub(super) fn address(&self) -> ConnectionAddr {
        address(self.host.clone(), self.port, self.tls)
    }
}

/// An address as the library has it.
pub(super) fn address(host: String, port: u16, tls: bool) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    }
}

/// Why a text is no [`Endpoint`]: what is wrong, and the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointError {
    /// What is wrong.
    pub message: &'static str,
    /// How to mend it.
    pub remedy: &'static str,
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let fault = |message, remedy| EndpointError { message, remedy };
        let shape = "write `rediss://HOST:PORT`, or `redis://127.0.0.1:6379`";
        let url = Url::parse(text).map_err(|_| fault("is no URL", shape))?;
        let tls = match url.scheme() {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            _ => return Err(fault("has another scheme", shape)),
        };
        // SECURITY: settings are shown and logged.
        if !url.username().is_empty() || url.password().is_some() {
            let remedy = "write them as `state.redis.username` and `state.redis.password_file`";
            return Err(fault("holds a user or password", remedy));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(fault("says more than host and port", shape));
        }
        let (host, loopback) = match url.host() {
            // The scheme is none that the standard knows, so an IP address may still look like a name.
            Some(Host::Domain(name)) => {
                let address = name.parse::<std::net::IpAddr>().ok();
                (name.to_owned(), name == "localhost" || address.is_some_and(|it| it.is_loopback()))
            }
            Some(Host::Ipv4(address)) => (address.to_string(), address.is_loopback()),
            Some(Host::Ipv6(address)) => (address.to_string(), address.is_loopback()),
            None => return Err(fault("names no host", shape)),
        };
        Ok(Self { host, port: url.port().unwrap_or(6379), tls, loopback })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_tls_are_private() {
        for (text, private) in [
            ("redis://127.0.0.1:7000", true),
            ("redis://[::1]", true),
            ("redis://localhost", true),
            ("valkey://127.0.0.1", true),
            ("redis://10.0.0.1", false),
            ("redis://127.0.0.1.example.com", false),
            ("redis://localhost.example.com", false),
            ("rediss://redis.example.com", true),
            ("valkeys://redis.example.com", true),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().private(), private, "{text}");
        }
    }

    #[test]
    fn an_address_says_nothing_but_host_and_port() {
        for text in [
            "",
            "127.0.0.1:6379",
            "http://127.0.0.1",
            "redis://user@127.0.0.1",
            "redis://:secret@127.0.0.1",
            "redis://127.0.0.1/1",
            "redis://127.0.0.1?protocol=resp3",
            "redis:///x",
        ] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }
}
