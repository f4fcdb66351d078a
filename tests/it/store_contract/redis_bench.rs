//! The store in Redis under test: a server of its own on a free port, or the one that a variable names.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use tokio::runtime::Handle;

use trustmint::state::RedisOptions;
use trustmint::state::RedisStore;
use trustmint::state::Store;
use trustmint::state::Topology;
use trustmint::time::Clock;
use trustmint::time::SystemClock;
use trustmint::time::Timestamp;

use crate::store_contract::bench::Bench;

/// Where the connections of all benches live: a thread of their own.
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
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    directory: tempfile::TempDir,
}

impl Server {
    /// A server on a free port.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let program = program().expect("redis-server is missing: the test command of README.md installs it");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_at(&program, port, arguments, tempfile::tempdir().unwrap())
    }

    fn start_at(program: &PathBuf, port: u16, arguments: &[&str], directory: tempfile::TempDir) -> Self {
        // A shell is in between, which ends the server when this process is gone, whatever became of it: a server that
        // all tests share is never dropped.
        let port_text = port.to_string();
        let child = Command::new("/bin/sh")
            .args(["-c", r#""$@" & read -r gone; kill -KILL $!; wait"#, "sh"])
            .arg(program)
            .args(["--port", &port_text, "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
            .args(arguments)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port, directory };
        server.await_start();
        server
    }

    fn await_start(&self) {
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server did not start in {}", self.directory.path().display());
    }

    /// The server dies, and another one without its data takes its place.
    pub(crate) fn restart_empty(&mut self) {
        self.stop();
        let directory = tempfile::tempdir().unwrap();
        *self = Self::start_at(&program().unwrap(), self.port, &[], directory);
    }

    /// The server dies at once.
    fn stop(&mut self) {
        drop(self.child.stdin.take());
        let _gone = self.child.wait();
    }

    /// One command, by the server's own client, and its answer.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program() -> Option<PathBuf> {
    ["/usr/bin", "/usr/local/bin"]
        .iter()
        .map(|folder| PathBuf::from(folder).join("redis-server"))
        .find(|it| fs::exists(it).is_ok_and(|it| it))
}

/// Where connections live.
pub(crate) fn runtime() -> Handle {
    RUNTIME.clone()
}

/// A store at that address, under a prefix.
pub(crate) fn store(url: &str, prefix: &str) -> RedisStore {
    RedisStore::new(options(url, prefix), runtime())
}

/// One server, without a password.
pub(crate) fn options(url: &str, prefix: &str) -> RedisOptions {
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

/// The store under a prefix of its own. Its time is the server's, so passing is waiting.
#[derive(Debug)]
pub(crate) struct RedisBench {
    store: Arc<RedisStore>,
}

impl RedisBench {
    /// On a server that all benches share, or on the one that the environment names.
    #[expect(clippy::disallowed_methods, reason = "another server than Redis is named by whoever runs the tests")]
    pub(crate) fn new() -> Self {
        static SERVER: LazyLock<Server> = LazyLock::new(|| Server::start(&[]));
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let url = match std::env::var("TRUSTMINT_TEST_REDIS_URL") {
            Ok(url) => url,
            Err(_) => SERVER.url(),
        };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("test-{}-{number}:", std::process::id());
        let store = Arc::new(store(&url, &prefix));
        Self { store }
    }
}

#[async_trait]
impl Bench for RedisBench {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn pass(&self, duration: Duration) {
        // A millisecond more: an entry is there until its end is past.
        tokio::time::sleep(duration + Duration::from_millis(2)).await;
    }

    fn step(&self) -> Duration {
        Duration::from_millis(300)
    }
}
