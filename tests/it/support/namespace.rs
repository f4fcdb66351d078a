//! A network of its own for a server, behind a cable that can be pulled. Needs root.

use std::io;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::thread;

use super::front::tool;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Two ends of a cable: one here, one in a network namespace, with addresses that are kept for documentation, so that
/// they are nobody's. What is in it ends with this value.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    link: String,
    network: String,
    /// The address at the far end.
    pub address: String,
}

impl Namespace {
    pub fn new() -> Self {
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        // Sixty networks of four addresses, so that runs beside each other rarely meet.
        let first = (process + count) % 60 * 4;
        let (near, far) = (format!("198.51.100.{}", first + 1), format!("198.51.100.{}", first + 2));
        let (name, link) = (format!("tm-{process}-{count}"), format!("tm{process}x{count}"));
        let space = Self { name, link, network: format!("198.51.100.{first}/30"), address: far };
        ip(&["netns", "add", &space.name]);
        ip(&["link", "add", &space.link, "type", "veth", "peer", "name", "far", "netns", &space.name]);
        ip(&["address", "add", &format!("{near}/30"), "dev", &space.link]);
        ip(&["link", "set", &space.link, "up"]);
        // What is meant for the far end goes nowhere else while the cable is pulled.
        ip(&["route", "add", "blackhole", &space.network, "metric", "4096"]);
        ip(&["-n", &space.name, "address", "add", &format!("{}/30", space.address), "dev", "far"]);
        ip(&["-n", &space.name, "link", "set", "far", "up"]);
        space
    }

    /// What runs a command within it.
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Pulls the cable: what is sent is lost, and nobody is told.
    pub fn cut(&self) {
        ip(&["-n", &self.name, "link", "set", "far", "down"]);
    }

    /// Puts the cable back.
    pub fn mend(&self) {
        ip(&["-n", &self.name, "link", "set", "far", "up"]);
    }

    /// Makes that port of loopback lead to the same port of the far end.
    pub fn lead_there(&self, port: u16) {
        let (listener, address) = (TcpListener::bind(("127.0.0.1", port)).unwrap(), self.address.clone());
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let address = address.clone();
                thread::spawn(move || {
                    let Ok(far) = TcpStream::connect((address, port)) else { return };
                    let (back, there) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                    thread::spawn(move || carry(near, there));
                    carry(far, back);
                });
            }
        });
    }
}

/// Carries bytes one way, until there are no more.
fn carry(mut from: TcpStream, mut to: TcpStream) {
    drop(io::copy(&mut from, &mut to));
    drop(to.shutdown(Shutdown::Write));
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let words = [
            &["netns", "delete", &self.name][..],
            &["link", "delete", &self.link],
            &["route", "delete", "blackhole", &self.network],
        ];
        for words in words {
            drop(Command::new(program()).args(words).output());
        }
    }
}

fn program() -> PathBuf {
    tool("TRUSTMINT_TEST_IP")
}

#[track_caller]
fn ip(words: &[&str]) {
    let output = Command::new(program()).args(words).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}
