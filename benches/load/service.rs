//! A process under load: how it is started, driven by wrk, and measured from outside.

use std::fs;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;
use serde_json::json;

use crate::pinned;
use crate::support;
use crate::support::Issuer;

/// Where PyPI's clients exchange.
pub const MINT: &str = "/_/oidc/mint-token";
/// The release binary.
pub const TRUSTMINT: &str = env!("CARGO_BIN_EXE_trustmint");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/post.lua");

/// A running process, which is killed when this is dropped.
pub struct Service {
    child: Child,
    port: u16,
    /// From its start to the first answer that it is ready.
    pub ready_ms: f64,
}

/// What a load came to; of some kinds not everything is known.
#[derive(Default)]
pub struct Load {
    /// Of the process, for each request.
    pub cpu_us: Option<f64>,
    /// Requests that were answered as they should be.
    pub per_second: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
    pub p999_us: Option<f64>,
    pub resident_mib: Option<f64>,
}

impl Load {
    /// Takes over what is better in another one of the same kind.
    pub fn keep_best(&mut self, other: &Self) {
        let least = |a: &mut Option<f64>, b: Option<f64>| *a = a.zip(b).map(|(a, b)| a.min(b));
        least(&mut self.cpu_us, other.cpu_us);
        least(&mut self.p50_us, other.p50_us);
        least(&mut self.p99_us, other.p99_us);
        least(&mut self.p999_us, other.p999_us);
        self.per_second = self.per_second.zip(other.per_second).map(|(a, b)| a.max(b));
        self.resident_mib = self.resident_mib.zip(other.resident_mib).map(|(a, b)| a.max(b));
    }
}

/// How a load was answered.
pub struct Answers {
    pub requests: f64,
    pub refused: f64,
}

/// Stops if one of the commands is not there.
pub fn require(commands: &[&str]) {
    for command in commands {
        let found = Command::new("sh").args(["-c", &format!("command -v {command}")]).output().unwrap();
        assert!(found.status.success(), "`{command}` is missing: apt-get install wrk util-linux");
    }
}

/// A port that is free now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Service {
    /// Starts the release binary on core 0 with a policy of that many rules, a memory store, and audit and metrics on.
    pub fn start(folder: &Path, name: &str, issuer: &Issuer, rules: u64) -> Self {
        Self::start_with(folder, name, issuer, &support::policy_text(rules, 0), &[])
    }

    /// The same with another policy, and with more settings. What a folder of that name has already is used again.
    pub fn start_with(folder: &Path, name: &str, issuer: &Issuer, text: &str, settings: &[(&str, &str)]) -> Self {
        let home = folder.join(name);
        let policy = home.join("policy");
        if !home.join("keys").exists() {
            fs::create_dir_all(&policy).unwrap();
            fs::write(policy.join("jwks.json"), &issuer.jwks).unwrap();
            fs::write(policy.join("policy.yaml"), text).unwrap();
            let made = Command::new(TRUSTMINT).args(["keys", "new", "--directory"]).arg(home.join("keys")).output();
            assert!(made.unwrap().status.success(), "a key is made");
        }
        let (port, operations) = (free_port(), free_port());
        let mut command = pinned(0, Path::new(TRUSTMINT));
        command
            .arg("serve")
            .env("TRUSTMINT_LISTEN__ADDRESS", format!("127.0.0.1:{port}"))
            .env("TRUSTMINT_OPERATIONS__ADDRESS", format!("127.0.0.1:{operations}"))
            .env("TRUSTMINT_POLICY__DIRECTORY", &policy)
            .env("TRUSTMINT_KEYS__DIRECTORY", home.join("keys"))
            .env("TRUSTMINT_LIMITS__WORKERS", "1")
            .envs(settings.iter().copied());
        let mut service = Self::of(command, operations);
        service.port = port;
        // What was issued before the store's memory begins is refused: the ID tokens are to be younger.
        thread::sleep(Duration::from_millis(1_100));
        service
    }

    /// Starts a process that listens at that port, and waits until it is ready there.
    pub fn of(mut command: Command, port: u16) -> Self {
        let started = Instant::now();
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut service = Self { child, port, ready_ms: 0.0 };
        let is_up = |status: &str| status.starts_with("HTTP/1.1 200") || status.starts_with("HTTP/1.1 404");
        while !ask(port, "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .is_ok_and(|text| is_up(&text))
        {
            assert!(started.elapsed() < Duration::from_secs(120), "the service did not start");
            assert!(service.child.try_wait().unwrap().is_none(), "the service ended");
            thread::sleep(Duration::from_millis(2));
        }
        service.ready_ms = started.elapsed().as_secs_f64() * 1e3;
        service
    }

    /// One exchange: the upload token.
    pub fn exchange(&self, id_token: &str) -> String {
        let body = json!({ "token": id_token }).to_string();
        let (host, length) = (support::HOST, body.len());
        let head =
            format!("POST {MINT} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        let answer = ask(self.port, &(head + &body)).unwrap();
        let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// Where it is asked.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Has wrk post the lines of a file from core 1; stops if they are refused.
    pub fn load(&self, connections: u32, seconds: u32, path: &str, file: &Path, once: bool, headers: &[&str]) -> Load {
        let (load, Answers { requests, refused }) = self.drive(connections, seconds, path, file, once, headers);
        assert!(refused * 100.0 <= requests, "{refused} of {requests} requests were refused");
        load
    }

    /// The same, whatever the answers.
    pub fn drive(
        &self,
        connections: u32,
        seconds: u32,
        path: &str,
        file: &Path,
        once: bool,
        headers: &[&str],
    ) -> (Load, Answers) {
        let before = self.cpu_ns();
        let mut wrk = pinned(1, Path::new("wrk"))
            .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "-s", SCRIPT])
            .args(["-H", &format!("Host: {}", support::HOST), &format!("http://127.0.0.1:{}{path}", self.port), "--"])
            .arg(file)
            .arg(if once { "once" } else { "again" })
            .args(headers)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let busy = self.busy_until(&mut wrk);
        let output = wrk.wait_with_output().unwrap();
        // The audit log's writer is part of the cost: let it catch up.
        thread::sleep(Duration::from_millis(50));
        let spent = self.cpu_ns() - before;
        let text = String::from_utf8_lossy(&output.stdout);
        let seen: Value = text
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .unwrap_or_else(|| panic!("wrk said {text}"));
        let number = |name: &str| seen[name].as_f64().unwrap();
        let (requests, refused) = (number("requests"), number("refused"));
        let load = Load {
            cpu_us: Some(spent / 1000.0 / requests),
            per_second: Some((requests - refused) / busy),
            p50_us: Some(number("p50")),
            p99_us: Some(number("p99")),
            p999_us: Some(number("p999")),
            resident_mib: Some(self.resident_mib()),
        };
        (load, Answers { requests, refused })
    }

    /// The seconds in which it had work until the load generator ended. That goes on to the end of its time when its
    /// requests are used up, and counts it.
    fn busy_until(&self, generator: &mut Child) -> f64 {
        let (mut busy, mut looked, mut had) = (0.0, Instant::now(), self.cpu_ns());
        while generator.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(5));
            let (now, has) = (Instant::now(), self.cpu_ns());
            let seconds = now.duration_since(looked).as_secs_f64();
            // What it does by itself is less than a tenth.
            if (has - had) / 1e9 > seconds / 10.0 {
                busy += seconds;
            }
            (looked, had) = (now, has);
        }
        busy
    }

    /// Nanoseconds of CPU time of all its threads.
    fn cpu_ns(&self) -> f64 {
        let tasks = fs::read_dir(self.proc("task")).unwrap();
        let times = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
        times.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Resident memory now.
    pub fn resident_mib(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// The most that it ever was.
    pub fn peak_mib(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> f64 {
        let text = fs::read_to_string(self.proc("status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// taskset becomes the program, so the child's id is the service's.
    fn proc(&self, file: &str) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string()).join(file)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn ask(port: u16, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
