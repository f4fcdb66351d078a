//! Stub.
pub mod claims;
pub mod provider;
