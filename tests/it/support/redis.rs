//! Real Redis servers on free ports of loopback. Each is gone with its value, and with this process whatever becomes of
//! it.

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use trustmint::demo::certificate::LoopbackCertificate;
use trustmint::secret::hex;
use trustmint::state::ReadFile;
use trustmint::state::RedisOptions;
use trustmint::state::RedisStore;
use trustmint::state::Topology;
use trustmint::telemetry::Stopwatch;
use trustmint::time::Clock as _;
use trustmint::time::SystemClock;
use zeroize::Zeroizing;

use super::namespace::Namespace;
use super::said;
use super::said::SecretKind;

/// No wait for a server is meant to be longer than a moment; this one ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with this value, or with this process, whatever becomes of it: a server that all tests share is
/// never dropped. A shell is in between, which kills it when its input ends.
#[derive(Debug)]
struct Process(Child);

impl Process {
    fn start(within: Option<&Namespace>, arguments: &[String], directory: &Path) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", r#""$@" & read -r gone; kill -KILL $!; wait"#, "sh"])
            .args(within.into_iter().flat_map(Namespace::prefix))
            .arg(program("redis-server"))
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn kill(&mut self) {
        drop(self.0.stdin.take());
        let _gone = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A `redis-server`.
#[derive(Debug)]
pub struct Server {
    process: Process,
    pub port: u16,
    arguments: Vec<String>,
    directory: TempDir,
}

impl Server {
    /// A server on a free port.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_at(free_port(), arguments)
    }

    /// A server on that port.
    pub fn start_at(port: u16, arguments: &[&str]) -> Self {
        if let Some(password) = arguments.iter().skip_while(|argument| **argument != "--requirepass").nth(1) {
            said::secret(SecretKind::Password, password);
        }
        let directory = tempfile::tempdir().unwrap();
        let own = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"];
        let arguments: Vec<String> = own.iter().chain(arguments).map(ToString::to_string).collect();
        let server = Self { process: Process::start(None, &arguments, directory.path()), port, arguments, directory };
        server.await_start();
        server
    }

    /// A server at the far end of a cable, to which its port leads here.
    pub fn start_within(space: &Namespace) -> Self {
        let (port, directory) = (free_port(), tempfile::tempdir().unwrap());
        let own = ["--port", &port.to_string(), "--bind", &space.address, "--protected-mode", "no", "--save", ""];
        let arguments: Vec<String> = own.iter().map(ToString::to_string).collect();
        space.lead_there(port);
        let process = Process::start(Some(space), &arguments, directory.path());
        let server = Self { process, port, arguments, directory };
        server.await_start();
        server
    }

    fn await_start(&self) {
        // Its folder tells it from a stranger on the same port.
        let folder = self.directory.path().canonicalize().unwrap().display().to_string();
        eventually("redis-server starts", || self.cli(&["CONFIG", "GET", "dir"]).contains(&folder));
    }

    /// The server dies at once.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// A server that was stopped is there again, without its data.
    pub fn start_again(&mut self) {
        self.process = Process::start(None, &self.arguments, self.directory.path());
        self.await_start();
    }

    /// One command, by the server's own client, and its answer.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let given = self.arguments.iter().skip_while(|argument| *argument != "--requirepass").nth(1);
        let mut command = Command::new(program("redis-cli"));
        if let Some(password) = given {
            command.env("REDISCLI_AUTH", password);
        }
        let output = command.args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The value of a key, byte for byte.
    pub fn value(&self, key: &str) -> Vec<u8> {
        let mut command = Command::new(program("redis-cli"));
        let output = command.args(["-p", &self.port.to_string(), "GET", key]).output().unwrap();
        output.stdout.strip_suffix(b"\n").unwrap().to_vec()
    }

    /// What a hash holds under that name.
    pub fn member(&self, key: &str, name: &[u8]) -> Vec<u8> {
        let script = "return (redis.call('HGET', KEYS[1], (ARGV[1]:gsub('..', function(h) return string.char(tonumber(h, 16)) \
                      end))):gsub('.', function(c) return ('%02x'):format(c:byte()) end))";
        let text = self.cli(&["EVAL", script, "1", key, &hex(name)]);
        let digits = text.trim_end().as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Writes into a hash past the service.
    pub fn plant_member(&self, key: &str, name: &[u8], value: &[u8]) {
        let script = "local function bytes(text) return (text:gsub('..', function(h) return string.char(tonumber(h, 16)) end)) \
                      end redis.call('HSET', KEYS[1], bytes(ARGV[1]), bytes(ARGV[2])) return 'done'";
        assert_eq!(self.cli(&["EVAL", script, "1", key, &hex(name), &hex(value)]), "done\n");
    }

    /// Writes a value past the service.
    pub fn plant(&self, key: &str, value: &[u8]) {
        // With `-x` the last argument is read from the input.
        let mut child = Command::new(program("redis-cli"))
            .args(["-p", &self.port.to_string(), "-x", "SET", key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(value).unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"OK\n");
    }

    /// The keys whose name has this in it.
    pub fn keys(&self, part: &str) -> Vec<String> {
        self.cli(&["KEYS", &format!("*{part}*")]).lines().map(str::to_owned).filter(|key| !key.is_empty()).collect()
    }

    /// The same, which must be well.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) {
        assert_eq!(self.cli(arguments), "OK\n", "{arguments:?}");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `INFO` says of a field.
    pub fn info(&self, field: &str) -> String {
        let info = self.cli(&["INFO", "everything"]);
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("{field} in {info}")).trim().to_owned()
    }

    /// The process itself, for signals.
    pub fn process(&self) -> u32 {
        self.info("process_id").parse().unwrap()
    }

    /// Makes a server that has just started one that has been up since the beginning of time, for the store under that
    /// prefix: what it says about its memory is a mark, which this writes as it would stand there.
    pub fn age(&self, prefix: &str) {
        let mark = format!("{}:{} 1", self.info("run_id"), self.info("master_replid"));
        self.ok(&["SET", &format!("{prefix}{{0}}:epoch"), &mark]);
    }
}

/// Three masters, each with a third of the slots.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    pub fn start() -> Self {
        let node = |_| {
            let bus = free_port().to_string();
            Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus])
        };
        let nodes: Vec<Server> = (0..3).map(node).collect();
        let addresses = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port));
        let mut create = Command::new(program("redis-cli"));
        let output = create.args(["--cluster", "create"]).args(addresses).arg("--cluster-yes").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let cluster = Self { nodes };
        cluster.await_whole();
        cluster
    }

    /// Waits until every node says that all slots are served.
    pub fn await_whole(&self) {
        let whole = |node: &Server| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
        eventually("the cluster is whole", || self.nodes.iter().all(whole));
    }

    /// The store at one of the nodes, which knows the others.
    pub fn options(&self, prefix: &str) -> RedisOptions {
        RedisOptions { topology: Topology::Cluster, ..options(&self.nodes[1].url(), prefix) }
    }
}

/// A primary and its replica, watched by a Sentinel that knows them as `main`.
#[derive(Debug)]
pub struct Watched {
    pub primary: Server,
    pub replica: Server,
    sentinel_port: u16,
    _sentinel: Process,
    _directory: TempDir,
}

impl Watched {
    /// The Sentinel fails over when the primary has been gone for a second.
    pub fn start() -> Self {
        Self::patient(1000)
    }

    /// A Sentinel that fails over when the primary has been gone for so many milliseconds: a busy machine is slow to answer.
    pub fn patient(down_after: u32) -> Self {
        let primary = Server::start(&[]);
        let replica = Server::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
        eventually("the replica follows", || {
            replica.info("role") == "slave" && replica.info("master_link_status") == "up"
        });
        let (directory, sentinel_port) = (tempfile::tempdir().unwrap(), free_port());
        let settings = format!(
            "port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {} 1\nsentinel down-after-milliseconds \
             main {down_after}\nsentinel failover-timeout main 2000\n",
            primary.port
        );
        fs::write(directory.path().join("sentinel.conf"), settings).unwrap();
        let arguments = ["sentinel.conf".to_owned(), "--sentinel".to_owned()];
        let sentinel = Process::start(None, &arguments, directory.path());
        let watched = Self { primary, replica, sentinel_port, _sentinel: sentinel, _directory: directory };
        let replica = watched.replica.port.to_string();
        eventually("the Sentinel knows both", || {
            watched.ask(&["SENTINEL", "REPLICAS", "main"]).contains(&replica)
                && watched.master() == watched.primary.port
        });
        watched
    }

    fn ask(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(program("redis-cli"));
        let output = command.args(["-p", &self.sentinel_port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The port of the master, as the Sentinel knows it; 0 if it does not answer.
    pub fn master(&self) -> u16 {
        let answer = self.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
        answer.lines().nth(1).and_then(|port| port.parse().ok()).unwrap_or(0)
    }

    /// Has the Sentinel name another address as the master's.
    pub fn announce_master(&self, address: &str) {
        self.ask(&["SENTINEL", "REMOVE", "main"]);
        assert_eq!(self.ask(&["SENTINEL", "MONITOR", "main", address, "6379", "1"]), "OK\n");
    }

    /// The store at whichever is the master.
    pub fn options(&self, prefix: &str) -> RedisOptions {
        RedisOptions { topology: Topology::Sentinel("main".to_owned()), ..options(&self.sentinel_url(), prefix) }
    }

    pub fn sentinel_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.sentinel_port)
    }
}

/// A server with TLS, whose certificate a private authority has signed, beside the plain port of its client.
#[derive(Debug)]
pub struct TlsServer {
    _server: Server,
    pub port: u16,
    pub authority_pem: String,
    _files: TempDir,
}

impl TlsServer {
    pub fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let at = |name: &str| files.path().join(name).display().to_string();
        let certificate = LoopbackCertificate::generate(SystemClock.now()).unwrap();
        let authority_pem = certificate.authority_pem().to_owned();
        fs::write(at("certificate.pem"), certificate.certificate_pem()).unwrap();
        fs::write(at("ca.pem"), &authority_pem).unwrap();
        certificate.write_key(&files.path().join("key.pem")).unwrap();
        let port = free_port();
        let server = Server::start(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &at("certificate.pem"),
            "--tls-key-file",
            &at("key.pem"),
            "--tls-ca-cert-file",
            &at("ca.pem"),
            "--tls-auth-clients",
            "no",
        ]);
        Self { _server: server, port, authority_pem, _files: files }
    }

    /// The store over TLS, for a client that trusts these authorities.
    pub fn options(&self, host: &str, authorities: Option<&str>, prefix: &str) -> RedisOptions {
        let authorities = authorities.map(str::to_owned);
        let read = |pem: String| -> ReadFile { Arc::new(move || Some(Zeroizing::new(pem.clone()))) };
        RedisOptions { ca: authorities.map(read), ..options(&format!("rediss://{host}:{}", self.port), prefix) }
    }
}

/// The password of [`documented_user`].
pub const PASSWORD: &str = "hunter2";

/// The command of docs/redis.md that makes the service's user, with [`PASSWORD`], and what a Cluster needs besides.
pub fn documented_user(clustered: bool) -> Vec<String> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/redis.md")).unwrap();
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER trustmint ")).unwrap().to_owned();
    let more = page.lines().find_map(|line| line.strip_prefix("For a Cluster add `")).unwrap();
    let more = more.split('`').next().unwrap();
    let words = if clustered { format!("{line} {more}") } else { line };
    assert!(words.contains(" >PASSWORD "), "{words}");
    said::secret(SecretKind::Password, PASSWORD);
    words.replace("PASSWORD", PASSWORD).split(' ').map(str::to_owned).collect()
}

/// The same store, for that user.
pub fn as_documented_user(options: RedisOptions) -> RedisOptions {
    let password: ReadFile = Arc::new(|| Some(Zeroizing::new(PASSWORD.to_owned())));
    RedisOptions { username: Some("trustmint".to_owned()), password: Some(password), ..options }
}

/// Makes the user on a server.
pub fn make_documented_user(server: &Server, clustered: bool) {
    let words = documented_user(clustered);
    server.ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Where a program of Redis is. `TRUSTMINT_TEST_REDIS_SERVER` names another server, such as Valkey's.
#[expect(clippy::disallowed_methods, reason = "another server than Redis is named by whoever runs the tests")]
fn program(name: &str) -> PathBuf {
    if name == "redis-server"
        && let Some(other) = std::env::var_os("TRUSTMINT_TEST_REDIS_SERVER")
    {
        return other.into();
    }
    let mut folders = ["/usr/bin", "/usr/local/bin"].into_iter().map(|folder| PathBuf::from(folder).join(name));
    let found = folders.find(|it| fs::exists(it).is_ok_and(|it| it));
    found.unwrap_or_else(|| panic!("{name} is missing: the test command of README.md installs it"))
}

/// A port that nobody uses, none twice, and none that the system gives to connections.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU16> =
        LazyLock::new(|| AtomicU16::new(u16::try_from(std::process::id() * 61 % 10_000).unwrap()));
    loop {
        let port = 12_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until it is so.
#[track_caller]
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Stopwatch::start();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A store at that address, under a prefix.
pub fn store(url: &str, prefix: &str) -> RedisStore {
    with(options(url, prefix))
}

/// The store of these options.
pub fn with(options: RedisOptions) -> RedisStore {
    RedisStore::new(options)
}

/// One server, without a password.
pub fn options(url: &str, prefix: &str) -> RedisOptions {
    RedisOptions {
        endpoints: vec![url.parse().unwrap()],
        topology: Topology::Single,
        ca: None,
        username: None,
        password: None,
        key_prefix: prefix.to_owned(),
        timeout: Duration::from_secs(2),
        wait_for_replicas: 0,
    }
}
