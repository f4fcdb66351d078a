//! The service as tests drive it: the same composition as in production, on loopback over TLS, with an identity
//! provider that signs with real keys, a clock that is set and an audit log that can be read.

pub mod actions;
pub mod bundles;
pub mod clock;
pub mod codecs;
pub mod described;
pub mod front;
pub mod hostile;
pub mod internet;
pub mod javascript;
pub mod mutation;
pub mod namespace;
pub mod page;
pub mod presets;
pub mod python;
pub mod redis;
pub mod said;
pub mod service;
pub mod tenants;
pub mod verifiers;
pub mod wire;

pub use clock::SetClock;
pub use hostile::Canary;
pub use hostile::Hostile;
pub use internet::Internet;
pub use presets::Presets;
pub use service::Service;

/// Sends a signal to a process, by the shell's own `kill`: a small system has no other.
pub fn signal(signal: &str, process: u32) -> std::io::Result<std::process::ExitStatus> {
    std::process::Command::new("sh").args(["-c", "kill \"$0\" \"$1\"", signal, &process.to_string()]).status()
}

/// The same, which must succeed.
pub fn send(name: &str, process: u32) {
    assert!(signal(name, process).unwrap().success());
}
