//! The service as tests drive it: the same composition as in production, on loopback over TLS, with an identity
//! provider that signs with real keys, a clock that is set and an audit log that can be read.

pub mod clock;
pub mod front;
pub mod presets;
pub mod service;
pub mod tenants;

pub use clock::SetClock;
pub use presets::Presets;
pub use service::Service;
