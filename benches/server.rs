//! A real Redis on loopback, and what it says of itself.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::thread;
use std::time::Duration;
use std::time::Instant;

/// Round trips of which the median is taken.
const ROUND_TRIPS: usize = 5_000;

/// A `redis-server` of its own, gone with this value.
pub struct Redis {
    child: Child,
    pub port: u16,
}

impl Redis {
    pub fn start() -> Self {
        Self::by(Command::new("redis-server"))
    }

    /// The same, by a command that may begin with what pins it to a core.
    pub fn by(mut command: Command) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("redis-server: {error}"));
        let redis = Self { child, port };
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        redis
    }

    /// How many scripts it has run.
    pub fn scripts(&self) -> u64 {
        let said = self.ask("INFO commandstats");
        let calls = said.lines().filter_map(|line| line.strip_prefix("cmdstat_eval"));
        calls.filter_map(|line| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok()).sum()
    }

    /// The bytes that it has allocated.
    pub fn used_bytes(&self) -> f64 {
        let said = self.ask("INFO memory");
        said.lines().find_map(|line| line.strip_prefix("used_memory:")?.trim().parse().ok()).unwrap()
    }

    /// The microseconds of CPU time that it has had.
    pub fn cpu_us(&self) -> f64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let times = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
        times.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok()).sum::<f64>() / 1000.0
    }

    /// How many keys it has of a kind, and the bytes that one of them takes by its own account, its name included.
    pub fn keys(&self, pattern: &str) -> (usize, f64) {
        let said = self.ask(&format!("KEYS {pattern}"));
        let names: Vec<&str> =
            said.lines().filter(|line| line.contains(':') && !line.starts_with(['*', '$'])).collect();
        let bytes = names.first().map_or(0.0, |name| {
            let said = self.ask(&format!("MEMORY USAGE {name}"));
            said.lines().find_map(|line| line.strip_prefix(':')?.trim().parse().ok()).unwrap()
        });
        (names.len(), bytes)
    }

    /// The microseconds of a `SET` on a connection that stays open, asked for one after the other: the median and the
    /// slowest of a hundred.
    pub fn round_trip_us(port: u16) -> (f64, f64) {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut reader, mut writer) = (BufReader::new(stream.try_clone().unwrap()), stream);
        let mut line = String::new();
        let mut took: Vec<Duration> = (0..ROUND_TRIPS)
            .map(|number| {
                let began = Instant::now();
                writer.write_all(format!("SET reference:{number} 1 NX PX 1000\r\n").as_bytes()).unwrap();
                line.clear();
                reader.read_line(&mut line).unwrap();
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        let at = |per_cent: usize| took[took.len() * per_cent / 100].as_secs_f64() * 1e6;
        (at(50), at(99))
    }

    fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        said
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
