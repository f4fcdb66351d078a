//! trustmint: trusted publishing for any package registry.
//!
//! A CI job hands over the OIDC ID token that its CI system signed; [`identity`] proves it, [`policy`] decides what the
//! job may publish, [`macaroon`] mints an upload token that expires in minutes, and the registry asks [`verify`]
//! whether an upload is allowed.
//!
//! ```text
//!  client ─► http ─► exchange ─┬─ identity   UnverifiedToken ─► VerifiedToken
//!                              ├─ policy     Allow(Grant) | Deny(Explanation)
//!                              ├─ macaroon   Prepared
//!                              ├─ state      FirstUse
//!                              └─ macaroon   IssuedToken          audit, telemetry ◄─ one event per outcome
//! ```
//!
//! The core (`macaroon`, `identity`, `policy`) is made of functions of values; the network, the store, the clock and
//! the file system are at the rim. The modules below are listed in reading order, each naming only those above it.

pub mod code;
pub mod codec;
pub mod escape;
pub mod json;
pub mod json_text;
pub mod package;
pub mod secret;
pub mod spelling;
pub mod time;
pub mod yielding;

pub mod audit;
pub mod macaroon;
pub mod state;
pub mod telemetry;

pub mod identity;

pub mod policy;

pub mod exchange;
pub mod explain;
pub mod revoke;
pub mod verify;

pub mod config;

pub mod app;

pub mod http;

pub mod cli;
pub mod demo;
