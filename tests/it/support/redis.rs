//! Real Redis servers on free ports of loopback. Each is gone with its value, and with this process whatever becomes of
//! it.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use tempfile::TempDir;
use tokio::runtime::Handle;
use trustmint::state::RedisOptions;
use trustmint::state::RedisStore;
use trustmint::state::Topology;

/// No wait for a server is meant to be longer than a moment; this one ends a test that hangs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where the connections of all stores live: a thread of their own.
static RUNTIME: LazyLock<Handle> = LazyLock::new(|| {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        sender.send(runtime.handle().clone()).unwrap();
        runtime.block_on(std::future::pending::<()>());
    });
    receiver.recv().unwrap()
});

/// A `redis-server` process, killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
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
        let directory = tempfile::tempdir().unwrap();
        let arguments = arguments.iter().map(ToString::to_string).collect::<Vec<_>>();
        let server = Self { child: spawn(port, &arguments, &directory), port, arguments, directory };
        server.await_start();
        server
    }

    fn await_start(&self) {
        // Its folder tells it from a stranger on the same port.
        let folder = self.directory.path().canonicalize().unwrap().display().to_string();
        eventually("redis-server starts", || self.cli(&["CONFIG", "GET", "dir"]).contains(&folder));
    }

    /// The server dies, and another one without its data takes its place.
    pub fn restart_empty(&mut self) {
        self.stop();
        self.start_again();
    }

    /// A server that was stopped is there again, without its data.
    pub fn start_again(&mut self) {
        self.directory = tempfile::tempdir().unwrap();
        self.child = spawn(self.port, &self.arguments, &self.directory);
        self.await_start();
    }

    /// The server dies at once.
    pub fn stop(&mut self) {
        drop(self.child.stdin.take());
        let _gone = self.child.wait();
    }

    /// One command, by the server's own client, and its answer.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let given = self.arguments.iter().skip_while(|argument| *argument != "--requirepass").nth(1);
        let mut command = Command::new("redis-cli");
        if let Some(password) = given {
            command.env("REDISCLI_AUTH", password);
        }
        let output = command.args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
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

    /// Makes a server that has just started one that has been up since the beginning of time, for the store under that
    /// prefix: what it says about its memory is a mark, which this writes as it would stand there.
    pub fn age(&self, prefix: &str) {
        let mark = format!("{}:{} 1", self.info("run_id"), self.info("master_replid"));
        assert_eq!(self.cli(&["SET", &format!("{prefix}{{0}}:epoch"), &mark]), "OK\n");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn spawn(port: u16, arguments: &[String], directory: &TempDir) -> Child {
    let program = program("redis-server").expect("redis-server is missing: the test command of README.md installs it");
    // A shell is in between, which ends the server when this process is gone, whatever became of it: a server that
    // all tests share is never dropped.
    Command::new("/bin/sh")
        .args(["-c", r#""$@" & read -r gone; kill -KILL $!; wait"#, "sh"])
        .arg(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Where a program of Redis is.
pub fn program(name: &str) -> Option<PathBuf> {
    let mut folders = ["/usr/bin", "/usr/local/bin"].into_iter().map(|folder| PathBuf::from(folder).join(name));
    folders.find(|it| fs::exists(it).is_ok_and(|it| it))
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
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Where connections live.
pub fn runtime() -> Handle {
    RUNTIME.clone()
}

/// A store at that address, under a prefix.
pub fn store(url: &str, prefix: &str) -> RedisStore {
    RedisStore::new(options(url, prefix), runtime())
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
