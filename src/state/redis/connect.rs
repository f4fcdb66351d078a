//! One connection: to a server, to the master that Sentinels name, or to a Cluster.

use std::io;
use std::net::SocketAddr;

use redis::AsyncConnectionConfig;
use redis::Client;
use redis::Cmd;
use redis::ConnectionAddr;
use redis::ConnectionInfo;
use redis::ErrorKind;
use redis::IntoConnectionInfo as _;
use redis::Pipeline;
use redis::RedisConnectionInfo;
use redis::RedisError;
use redis::RedisFuture;
use redis::RedisResult;
use redis::TlsCertificates;
use redis::TlsMode;
use redis::Value;
use redis::aio::ConnectionLike as _;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::MultipleNodeRoutingInfo;
use redis::cluster_routing::ResponsePolicy;
use redis::cluster_routing::Route;
use redis::cluster_routing::RoutingInfo;
use redis::cluster_routing::SingleNodeRoutingInfo;
use redis::cluster_routing::SlotAddr;
use redis::io::AsyncDNSResolver;
use tokio::task::JoinSet;
use zeroize::Zeroizing;

use super::fault::Fault;
use super::options::RedisOptions;
use super::options::Topology;
use super::options::address;

/// How often a Cluster's redirections are followed.
const REDIRECTIONS: u32 = 3;
/// The first major version that has every command of the scripts.
const OLDEST: u32 = 7;

/// A connection that many calls share.
#[derive(Clone)]
pub(super) enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Connects, and makes sure that the server is fit to remember. The files of the options are read anew.
pub(super) async fn connect(options: &RedisOptions) -> Result<Connection, Fault> {
    let access = Access::read(options)?;
    let mut connection = match &options.topology {
        Topology::Single => {
            let endpoint = options.endpoints.first().ok_or(Fault::Unreachable)?;
            Connection::Server(access.server(options, endpoint.address()).await?)
        }
        Topology::Sentinel(name) => {
            let master = access.master(options, name).await?;
            Connection::Server(access.server(options, master).await?)
        }
        Topology::Cluster => Connection::Cluster(access.cluster(options).await.map_err(failed)?),
    };
    connection.examine().await?;
    Ok(connection)
}

/// What the files say at the moment.
struct Access {
    password: Option<Zeroizing<String>>,
    certificates: TlsCertificates,
}

impl Access {
    fn read(options: &RedisOptions) -> Result<Self, Fault> {
        let password = options.password.as_ref().map(|read| read().ok_or(Fault::PasswordFile)).transpose()?;
        let ca = options.ca.as_ref().map(|read| read().ok_or(Fault::CaFile)).transpose()?;
        let root_cert = ca.map(|text| text.as_bytes().to_vec());
        Ok(Self { password, certificates: TlsCertificates { client_tls: None, root_cert } })
    }

    async fn server(&self, options: &RedisOptions, address: ConnectionAddr) -> Result<MultiplexedConnection, Fault> {
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = &options.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password.as_str());
        }
        let client = self.client(address, settings).map_err(failed)?;
        client.get_multiplexed_async_connection_with_config(&limits(options)).await.map_err(failed)
    }

    fn client(&self, address: ConnectionAddr, settings: RedisConnectionInfo) -> RedisResult<Client> {
        let tls = matches!(address, ConnectionAddr::TcpTls { .. });
        let info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(settings);
        if tls { Client::build_with_tls(info, self.certificates.clone()) } else { Client::open(info) }
    }

    /// The address of the master: the first that a Sentinel knows. All are asked at once, since some may be gone.
    ///
    /// SECURITY: the library's own client for Sentinels sends the password to whatever address they name, by
    /// connections that cannot be confined to [`Loopback`].
    async fn master(&self, options: &RedisOptions, name: &str) -> Result<ConnectionAddr, Fault> {
        let mut asked = JoinSet::new();
        for sentinel in &options.endpoints {
            let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
            let client = self.client(sentinel.address(), settings).map_err(failed)?;
            let (limits, name) = (limits(options), name.to_owned());
            asked.spawn(async move {
                let mut sentinel = client.get_multiplexed_async_connection_with_config(&limits).await?;
                let mut command = redis::cmd("SENTINEL");
                command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
                command.query_async::<Option<(String, u16)>>(&mut sentinel).await
            });
        }
        let mut fault = Fault::Unreachable;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(Some((host, port)))) => return Ok(address(host, port, options.tls())),
                Ok(Ok(None)) => fault = Fault::NoMaster,
                Ok(Err(error)) if fault == Fault::Unreachable => fault = failed(error),
                Ok(Err(_)) | Err(_) => {}
            }
        }
        Err(fault)
    }

    async fn cluster(self, options: &RedisOptions) -> RedisResult<ClusterConnection> {
        let nodes = options.endpoints.iter().map(super::options::Endpoint::address);
        let mut builder = ClusterClientBuilder::new(nodes)
            .connection_timeout(options.timeout)
            .response_timeout(options.timeout)
            .retries(REDIRECTIONS)
            .min_retry_wait(5)
            .max_retry_wait(50);
        if options.tls() {
            builder = builder.tls(TlsMode::Secure).certs(self.certificates);
        } else {
            builder = builder.async_dns_resolver(Loopback);
        }
        if let Some(username) = &options.username {
            builder = builder.username(username);
        }
        if let Some(password) = &self.password {
            builder = builder.password(password.as_str());
        }
        builder.build()?.get_async_connection().await
    }
}

/// Who calls bounds the wait for an answer, and connecting as a whole: the library would give an answer up that is there and
/// was not read yet.
fn limits(options: &RedisOptions) -> AsyncConnectionConfig {
    let limits = AsyncConnectionConfig::new().set_connection_timeout(Some(options.timeout)).set_response_timeout(None);
    if options.tls() { limits } else { limits.set_dns_resolver(Loopback) }
}

/// What [`Loopback`] says of an address that is not of this machine.
pub(super) const NEEDS_TLS: &str = "a server elsewhere needs TLS";

/// Finds only addresses of this machine.
///
/// SECURITY: Sentinels and nodes of a Cluster name other servers. Without TLS, the password and first uses would go to
/// whatever address they say.
struct Loopback;

impl AsyncDNSResolver for Loopback {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let found: io::Result<Vec<SocketAddr>> = tokio::net::lookup_host((host, port)).await.map(Iterator::collect);
            let found = found?;
            if found.iter().all(|address| address.ip().is_loopback()) {
                let found: Box<dyn Iterator<Item = SocketAddr> + Send> = Box::new(found.into_iter());
                return Ok(found);
            }
            Err(RedisError::from((ErrorKind::InvalidClientConfig, NEEDS_TLS)))
        })
    }
}

fn failed(error: RedisError) -> Fault {
    Fault::of(&error)
}

impl Connection {
    /// Sends a command and waits for its answer.
    pub(super) async fn send(&mut self, command: &Cmd) -> Result<Value, Fault> {
        let answer = match self {
            Self::Server(connection) => connection.req_packed_command(command).await,
            Self::Cluster(connection) => connection.req_packed_command(command).await,
        };
        sound(answer.map_err(|error| Fault::of(&error))?)
    }

    /// Sends a command and, in the same round trip, waits until that many replicas of the slot's node have all that was written before.
    pub(super) async fn send_and_wait(
        &mut self,
        command: &Cmd,
        slot: u16,
        replicas: u32,
        millis: u64,
    ) -> Result<Value, Fault> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(replicas).arg(millis);
        let mut both = Pipeline::with_capacity(2);
        both.add_command(command.clone()).add_command(wait);
        let answers = match self {
            Self::Server(connection) => connection.req_packed_commands(&both, 0, 2).await,
            Self::Cluster(connection) => {
                let node = SingleNodeRoutingInfo::SpecificNode(Route::new(slot, SlotAddr::Master));
                connection.route_pipeline(both, 0, 2, node).await
            }
        };
        let mut answers = answers.map_err(|error| Fault::of(&error))?.into_iter();
        let answer = sound(answers.next().ok_or(Fault::Answer)?)?;
        match sound(answers.next().ok_or(Fault::Answer)?)? {
            Value::Int(have) if have >= i64::from(replicas) => Ok(answer),
            Value::Int(_) => Err(Fault::Replicas),
            _ => Err(Fault::Answer),
        }
    }

    /// Whether the server, or each node, is new enough and evicts nothing.
    pub(super) async fn examine(&mut self) -> Result<(), Fault> {
        let field = |text: &str, name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        for text in self.info("server").await? {
            let version = field(&text, "redis_version:");
            let major =
                version.and_then(|version| version.split('.').next().and_then(|major| major.parse::<u32>().ok()));
            if major.is_none_or(|major| major < OLDEST) {
                return Err(Fault::Version);
            }
        }
        // SECURITY: an evicted first use lets its token be used again. One that does not say evicts for all we know.
        for text in self.info("memory").await? {
            if field(&text, "maxmemory_policy:").is_none_or(|policy| policy.trim() != "noeviction") {
                return Err(Fault::Evicts);
            }
        }
        Ok(())
    }

    async fn info(&mut self, section: &str) -> Result<Vec<String>, Fault> {
        let mut command = redis::cmd("INFO");
        command.arg(section);
        let answer = match self {
            Self::Server(connection) => connection.req_packed_command(&command).await,
            Self::Cluster(connection) => {
                let all = MultipleNodeRoutingInfo::AllMasters;
                let all = RoutingInfo::MultiNode((all, Some(ResponsePolicy::Special)));
                connection.route_command(command, all).await
            }
        };
        let mut texts = Vec::new();
        collect_texts(sound(answer.map_err(|error| Fault::of(&error))?)?, &mut texts);
        if texts.is_empty() { Err(Fault::Answer) } else { Ok(texts) }
    }
}

/// The texts of an answer: of one server, or of many by their names.
fn collect_texts(value: Value, texts: &mut Vec<String>) {
    match value {
        Value::BulkString(bytes) => texts.extend(String::from_utf8(bytes)),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => texts.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| collect_texts(value, texts)),
        Value::Map(entries) => entries.into_iter().for_each(|(_, value)| collect_texts(value, texts)),
        _ => {}
    }
}

/// The answer, unless it is the server's error.
fn sound(answer: Value) -> Result<Value, Fault> {
    match answer {
        Value::ServerError(error) => Err(Fault::of(&error.into())),
        answer => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_tls_only_this_machine_is_found() {
        let found = async |host: &str| Loopback.resolve(host, 6379).await.map(Iterator::collect::<Vec<_>>);
        for host in ["127.0.0.1", "127.8.9.10", "::1", "localhost"] {
            assert!(!found(host).await.unwrap().is_empty(), "{host}");
        }
        for host in ["192.0.2.1", "10.0.0.1", "0.0.0.0", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert_eq!(failed(found(host).await.unwrap_err()), Fault::Exposed, "{host}");
        }
    }
}
